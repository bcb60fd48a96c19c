"""Every parameter of every task, declared once, by composition of smaller Options; read without loading torch.

`engine.options` has the mechanism. The order is that of use: parts that several tasks share, then each task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option, seed_option, suboptions
from napari_orient.engine.symmetry import direction, symmetry_option

if TYPE_CHECKING:
    import torch

    from napari_orient.engine.templates import Template

_EPOCHS = 40
"""Passes over many training particles."""
_LEAST_STEPS = 3000
"""Steps of the optimiser on fewer, at least; chosen: 280 simulated ribosomes learn little more after 1,000."""
_MOST_EPOCHS = 400
"""Passes over very few, at most; chosen: 70 simulated ribosomes learn no more after 200."""
_TILT_AXES = ("found", "x", "y", "none")
"""Values of ``tilt_axis`` beside angles."""


@dataclass(frozen=True, kw_only=True)
class WedgeOptions(Options):
    """How the tomogram was tilted, as far as it is given rather than estimated from the data."""

    tilts: str = option(
        "",
        help="tilt metadata: RELION's tomograms.star, Warp's .xml or .tomostar, IMOD's .tlt, AreTomo's .aln, or their "
        "folder; empty takes what lies beside the tomogram, if it is clear which",
    )
    tilt_axis: str = option(
        "found",
        help="axis that the tomogram was tilted about: y, x, none, or degrees from y (counter-clockwise seen from +z); "
        "found estimates it from the data",
        expert=True,
    )
    lowest_tilt: float | None = option(
        None, help="lowest tilt; empty to estimate it", unit="°", low=-90, high=90, expert=True
    )
    highest_tilt: float | None = option(
        None, help="highest tilt; empty to estimate it", unit="°", low=-90, high=90, expert=True
    )

    def __post_init__(self) -> None:
        """Check each option, that the tilt axis is a letter or an angle, and that the tilts are a range."""
        super().__post_init__()
        if self.tilt_axis not in _TILT_AXES and not _is_angle(self.tilt_axis):
            raise InputError(
                f"tilt_axis is {self.tilt_axis!r}; expected found, x, y, none, or an angle from -180 to 180 degrees."
            )
        low, high = self.lowest_tilt, self.highest_tilt
        if low is not None and high is not None and low >= high:
            raise InputError(f"tilts run from {low:g}° to {high:g}°; expected lowest_tilt below highest_tilt.")


def _is_angle(text: str) -> bool:
    try:
        return abs(float(text)) <= 180
    except ValueError:
        return False


CTF_CORRECTIONS = ("auto", "none", "flipped", "premultiplied", "wiener")


@dataclass(frozen=True, kw_only=True)
class CTFOptions(Options):
    """The contrast transfer function that a tomogram has, and how it was corrected for it."""

    defocus: float | None = option(
        None, help="underfocus of all images; empty for that of the tilt metadata", unit="µm", low=0, high=20
    )
    ctf_correction: str = option(
        "auto",
        help="how the tomogram was corrected for its CTF: none; phases flipped; premultiplied by it (and divided by "
        "nothing); wiener, or deconvolved; auto chooses by likelihood",
        choices=CTF_CORRECTIONS,
    )
    voltage: float | None = option(
        None, help="of the microscope; empty for the metadata's, or 300", unit="kV", low=50, high=1500, expert=True
    )
    spherical_aberration: float | None = option(
        None,
        help="of the objective; empty for the metadata's, or 2.7",
        unit="mm",
        low=0,
        high=20,
        expert=True,
        aliases=("cs",),
    )
    amplitude_contrast: float | None = option(
        None, help="share of the contrast; empty for the metadata's, or 0.07", low=0, high=1, expert=True
    )


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """How many rotations a matched-filter search compares, in how many dimensions, and how far from the pick."""

    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    rotations: int = option(4608, help="rotations over the asymmetric unit", low=60, high=200_000, expert=True)
    dimensions: int = option(
        160, help="dimensions that patches and rotated references are compressed to", low=8, high=4096, expert=True
    )
    search_resolution: float = option(
        40.0, help="finest detail that the search matches", unit="Å", low=1, high=200, expert=True
    )
    coarse_rotations: int = option(
        576, help="rotations of the search that finds the centre", low=60, high=20_000, expert=True
    )
    coarse_dimensions: int = option(
        96, help="dimensions of the search that finds the centre", low=8, high=1024, expert=True
    )


PRECISIONS = ("auto", "fast", "precise")
PRECISE_UP_TO = 2000
"""Particles of a tomogram up to which ``auto`` is precise on a CPU: about a minute of one core."""


@dataclass(frozen=True, kw_only=True)
class EffortOptions(Options):
    """How much work goes into each pose."""

    precision: str = option(
        "auto",
        help="fast: the best match, polished; precise: several, finer; auto: precise unless a CPU has many to do",
        choices=PRECISIONS,
    )
    shared_model: bool = option(
        False,
        help="of several tomograms, begin the model of each from that of the first, where it was acquired alike: "
        "three times as quick; poses then depend a little on which is the first",
        expert=True,
    )

    def precision_for(self, count: int, device: torch.device) -> str:
        """Fast or precise: the one given, or for ``auto`` what the device does with so many particles in a minute."""
        if self.precision != "auto":
            return self.precision
        return "precise" if device.type != "cpu" or count <= PRECISE_UP_TO else "fast"


@dataclass(frozen=True, kw_only=True)
class DuplicateOptions(Options):
    """When two particles are one that was picked twice."""

    min_distance: float | None = option(
        None,
        help="particles nearer than this are one, picked twice; empty for half the radius of the template or mask",
        unit="Å",
        low=0,
        high=5000,
        expert=True,
    )

    def distance(self, default: float) -> float:
        """Å as given, or a default."""
        return default if self.min_distance is None else self.min_distance


PRIOR_AXES = ("x", "y", "z", "main")
"""Names of the axes of a reference that a prior may be of, beside directions of three numbers."""


@dataclass(frozen=True, kw_only=True)
class PriorOptions(Options):
    """What is known of rotations beforehand: a direction that an axis lies along, or rotations to search near."""

    prior_cone: float | None = option(
        None,
        help="standard deviation of the particle's axis about the direction of the list's tilt and psi, or of its "
        "rlnAngleTiltPrior and rlnAnglePsiPrior; empty for no prior",
        unit="°",
        low=0.5,
        high=90,
        expert=True,
    )
    in_plane: bool = option(False, help="keep the particle's axis along that direction; rotate about it", expert=True)
    search_range: float | None = option(
        None, help="search no farther than this from the list's rotations", unit="°", low=1, high=180, expert=True
    )
    prior_axis: str = option(
        "z",
        help="axis of the reference that lies along the direction: x, y, z, main (the main symmetry axis), or three "
        "numbers such as 0,0.6,0.8",
        expert=True,
    )
    prior_sense: str = option(
        "known",
        help="either: the direction may point either way, as of a filament whose polarity is unknown",
        choices=("known", "either"),
        expert=True,
    )

    def __post_init__(self) -> None:
        """Check each option, and that the axis is one."""
        super().__post_init__()
        if self.prior_axis not in PRIOR_AXES:
            direction(self.prior_axis)

    @property
    def given(self) -> bool:
        """Whether rotations are restricted at all."""
        return self.in_plane or self.prior_cone is not None or self.search_range is not None


@dataclass(frozen=True, kw_only=True)
class AdaptationOptions(Options):
    """How a reference is corrected by the particles that are refined against it."""

    rounds: int = option(
        0,
        help="times that the template is corrected by the particles' own average, over all tomograms, and all are "
        "refined anew, each half against what the other half shows",
        low=0,
        high=20,
    )
    seed: int = seed_option("of the random halves")


@dataclass(frozen=True, kw_only=True)
class RefinementOptions(Options):
    """How poses are found and refined against a reference."""

    effort: EffortOptions = suboptions(EffortOptions)
    search: SearchOptions = suboptions(SearchOptions)
    resolution: float | None = option(
        None, help="finest detail used; empty for all that patches and reference hold", unit="Å", low=1, high=200
    )
    wedge: WedgeOptions = suboptions(WedgeOptions)
    ctf: CTFOptions = suboptions(CTFOptions)
    prior: PriorOptions = suboptions(PriorOptions)
    duplicates: DuplicateOptions = suboptions(DuplicateOptions)
    adaptation: AdaptationOptions = suboptions(AdaptationOptions)
    starts: int = option(3, help="matches refined by the precise way", low=1, high=32, expert=True)
    calibration: int = option(
        256, help="particles that noise and gain are estimated from", low=1, high=100_000, expert=True
    )
    compute: ComputeOptions = suboptions(ComputeOptions)


_REPRESENTATIONS = ("6d", "quaternion", "euler", "9d")
"""The names in `engine.representations`, which needs torch."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """Architecture of the network. The defaults are the shipped one; `PAPER_NETWORK` is the printed one."""

    representation: str = option(
        "6d", help="how a rotation is written in the last layer", choices=_REPRESENTATIONS, expert=True
    )
    symmetry: str = symmetry_option()
    front_end: str = option(
        "masked",
        help="raw: the patch as it is; masked: binned, then a soft sphere",
        choices=("raw", "masked"),
        expert=True,
    )
    width: int = option(512, help="nodes of each hidden layer", low=1, high=8192, expert=True)
    depth: int = option(4, help="hidden layers", low=1, high=16, expert=True)
    dropout: float = option(
        0.1, help="share of hidden nodes left out at random while training", low=0, high=0.9, expert=True
    )
    initialisation: str = option(
        "scaled",
        help="paper: normal with deviation 0.05; scaled: by each layer's inputs",
        choices=("paper", "scaled"),
        expert=True,
    )
    patch_side: int = option(40, help="side of the patch", unit="voxels", low=8, high=128, even=True, expert=True)
    patch_voxel_size: float = option(10.0, help="voxel size of the patch", unit="Å", low=0.5, high=100)
    binning: int = option(2, help="masked front end: Fourier-bin the patch by this", low=1, high=8, expert=True)
    mask_radius: float = option(
        170.0, help="masked front end: radius of the sphere, to half height", unit="Å", low=5, high=5000
    )

    def __post_init__(self) -> None:
        """Check the options one by one, and that they fit together."""
        super().__post_init__()
        if self.patch_side % 2 or (self.patch_side // self.binning) % 2 or self.patch_side % self.binning:
            raise InputError(
                f"a patch of {self.patch_side} voxels binned by {self.binning} has no whole, even side; try 40 and 2."
            )


PAPER_NETWORK = NetworkOptions(front_end="raw", width=32, depth=4, dropout=0.0, initialisation="paper")
"""The network as printed: a raw 40³ patch, four hidden layers of 32 nodes, six outputs, 2,051,398 parameters."""


@dataclass(frozen=True, kw_only=True)
class MixtureOptions(Options):
    """Architecture of the network that learns from simulated patches: a mixture of poses over rotated views."""

    symmetry: str = symmetry_option()
    patch_side: int = option(40, help="side of the patch", unit="voxels", low=8, high=128, even=True, expert=True)
    patch_voxel_size: float = option(10.0, help="voxel size of the patch", unit="Å", low=0.5, high=100)
    mask_radius: float = option(
        130.0, help="radius of the sphere about the particle, to half height", unit="Å", low=5, high=5000
    )
    network_resolution: float = option(30.0, help="finest detail that the network uses", unit="Å", low=1, high=200)
    components: int = option(
        320, help="principal components of simulated views that the proposer takes", low=8, high=4096, expert=True
    )
    width: int = option(768, help="nodes of each hidden layer", low=1, high=8192, expert=True)
    depth: int = option(3, help="hidden layers", low=1, high=16, expert=True)
    refiner_components: int = option(256, help="principal components for the refiner", low=8, high=4096, expert=True)
    refiner_width: int = option(512, help="nodes of the refiner's hidden layers", low=1, high=8192, expert=True)

    def __post_init__(self) -> None:
        """Check the options one by one, and that they fit together."""
        super().__post_init__()
        if self.patch_side % 2 or self.view_side > self.patch_side:
            raise InputError(
                f"patches of {self.patch_side} voxels of {self.patch_voxel_size:g} Å do not hold detail of "
                f"{self.network_resolution:g} Å; expected an even side, and voxels of less than half the detail."
            )

    @property
    def box(self) -> float:
        """Side of the patch in Å."""
        return self.patch_side * self.patch_voxel_size

    @property
    def scale(self) -> float:
        """Radius of the mask over 130 Å, the ribosome's: lengths of the network and of its training go with it."""
        return self.mask_radius / 130

    @property
    def view_side(self) -> int:
        """Even number of voxels that just hold the resolution, along the side of the patch."""
        return 2 * int(self.box / self.network_resolution) + 2


MASKS = ("ball", "map")
"""Masks that an average makes itself; any other word for one is a file."""


@dataclass(frozen=True, kw_only=True)
class AveragingOptions(Options):
    """How to average."""

    side: int = option(40, help="voxels along the map", low=8, high=512, even=True)
    radius: float | None = option(
        None, help="of the particle, for the mask of the FSC; empty for 0.4 boxes", unit="Å", low=1, high=5000
    )
    mask: str = option(
        "ball",
        help="what the FSC is measured in: a soft ball, or a soft mask about the map itself; a mask's own share in the "
        "correlation is measured and taken off",
        choices=MASKS,
    )
    contrast: str = option("dark", help="how particles stand out in the tomogram", choices=("dark", "bright"))
    weights: str = option(
        "equal",
        help="of the particles; confidence: each by the probability that its pose is right",
        choices=("equal", "confidence"),
    )
    wedge: WedgeOptions = suboptions(WedgeOptions)
    duplicates: DuplicateOptions = suboptions(DuplicateOptions)
    seed: int = seed_option("of the random halves")


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(Options):
    """How to predict; precision, shift, tilts and priors concern templates."""

    effort: EffortOptions = suboptions(EffortOptions)
    max_shift: float | None = option(
        None,
        help="how far along each axis a pick may be off; empty for what the template says",
        unit="Å",
        low=0,
        high=200,
    )
    wedge: WedgeOptions = suboptions(WedgeOptions)
    ctf: CTFOptions = suboptions(CTFOptions)
    prior: PriorOptions = suboptions(PriorOptions)
    duplicates: DuplicateOptions = suboptions(DuplicateOptions)
    adaptation: AdaptationOptions = suboptions(AdaptationOptions)
    batch: int = option(64, help="patches predicted at once by a network", low=1, high=4096, expert=True)
    centring: str = option(
        "rounded",
        help="a network's patches; subvoxel: interpolate so that the pick is centred; rounded: to the nearest voxel",
        choices=("subvoxel", "rounded"),
        expert=True,
    )
    compute: ComputeOptions = suboptions(ComputeOptions)

    def refinement(self, template: Template) -> RefinementOptions:
        """The refinement that these options ask for, with the template's own search where they ask for none."""
        search = template.search if self.max_shift is None else template.search.replace(max_shift=self.max_shift)
        return RefinementOptions(
            effort=self.effort,
            search=search,
            wedge=self.wedge,
            ctf=self.ctf,
            prior=self.prior,
            duplicates=self.duplicates,
            adaptation=self.adaptation,
            compute=self.compute,
        )


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """How labelled tomograms are split into training and validation."""

    validation: float = option(0.15, help="share of the tomograms kept apart for validation", low=0.01, high=0.9)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How to train a network on labelled particles. `PAPER_TRAINING` is the printed recipe."""

    epochs: int | None = option(
        None,
        help="passes over the training particles; empty for 40, or as many up to 400 as make 3,000 steps",
        low=1,
        high=10_000,
    )
    batch: int = option(64, help="patches in one step of the optimiser", low=1, high=4096, expert=True)
    rate: float = option(
        2e-3,
        help="learning rate, the highest where it cycles, but lower in fewer than 400 steps",
        low=1e-7,
        high=1,
        expert=True,
    )
    schedule: str = option(
        "cycle",
        help="learning rate: up and down once (cycle), or constant",
        choices=("cycle", "constant"),
        expert=True,
    )
    loss: str = option(
        "huber",
        help="of the raw outputs: huber with delta 0.5, or squared",
        choices=("huber", "squared"),
        expert=True,
    )
    weight_decay: float = option(1e-4, help="L2 penalty on the weights", low=0, high=1, expert=True)
    clip: float = option(0.1, help="gradient norm is cut to this", low=1e-3, high=1e6, expert=True)
    half_turns: bool = option(
        True, help="also train on half-turned patches: the turns that keep the missing wedge", expert=True
    )
    shift: float = option(
        5.0,
        help="also train on patches shifted along each axis by up to this",
        unit="Å",
        low=0,
        high=200,
        expert=True,
    )
    split: SplitOptions = suboptions(SplitOptions)
    seed: int = seed_option("of weights, order, half-turns, shifts and split")
    compute: ComputeOptions = suboptions(ComputeOptions)

    def epochs_for(self, particles: int) -> int:
        """Passes over so many training particles: as many as were asked for, else enough for the optimiser."""
        if self.epochs is not None:
            return self.epochs
        return max(_EPOCHS, min(_MOST_EPOCHS, math.ceil(_LEAST_STEPS * self.batch / particles)))


@dataclass(frozen=True, kw_only=True)
class SimulatedTrainingOptions(Options):
    """How to train a network on patches that are simulated from a map."""

    epochs: int = option(28, help="passes over the training particles", low=1, high=10_000)
    conditions: int = option(
        48, help="conditions of the microscope simulated anew for each epoch", low=1, high=10_000, expert=True
    )
    patches: int = option(48, help="patches of each condition", low=8, high=10_000, expert=True)
    passes: int = option(4, help="times that each patch is used in its epoch", low=1, high=100, expert=True)
    refiner_epochs: int = option(
        10,
        help="epochs in which the refiner then learns from the poses that prediction reaches",
        low=0,
        high=10_000,
        expert=True,
    )
    batch: int = option(64, help="patches in one step of the optimiser", low=1, high=4096, expert=True)
    rate: float = option(1e-3, help="learning rate, the highest where it cycles", low=1e-7, high=1, expert=True)
    clip: float = option(10.0, help="gradient norm is cut to this", low=1e-3, high=1e6, expert=True)
    split: SplitOptions = suboptions(SplitOptions)
    seed: int = seed_option("of weights, simulations and split")
    compute: ComputeOptions = suboptions(ComputeOptions)


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(Options):
    """What a template is to be: its symmetry, and how it will be searched for."""

    symmetry: str = symmetry_option()
    search: SearchOptions = suboptions(SearchOptions)


@dataclass(frozen=True, kw_only=True)
class TemplateTrainingOptions(Options):
    """How a template is made: the average of labelled particles, made anew from refined poses."""

    averaging: AveragingOptions = suboptions(AveragingOptions)
    rounds: int = option(
        0, help="times that poses are refined, each half by its own average, and averaged anew", low=0, high=20
    )
    split: SplitOptions = suboptions(SplitOptions)
    compute: ComputeOptions = suboptions(ComputeOptions)


PAPER_TRAINING = TrainingOptions(
    epochs=50, batch=32, rate=1e-4, schedule="constant", clip=10.0, half_turns=False, shift=0.0
)
"""The printed recipe: Huber loss, Adam at 1e-4, batches of 32, 50 epochs, no augmentation."""

PRESETS = {"default": (NetworkOptions(), TrainingOptions()), "paper": (PAPER_NETWORK, PAPER_TRAINING)}
"""Network and training options by name; the command line and the dock begin from one of them."""

ModelOptions = NetworkOptions | MixtureOptions | TemplateOptions
"""What a model is to be."""
ModelTrainingOptions = TrainingOptions | SimulatedTrainingOptions | TemplateTrainingOptions
"""How it is made."""

TRAINABLE: dict[str, tuple[ModelOptions, ModelTrainingOptions]]
TRAINABLE = {
    **PRESETS,
    "simulated": (MixtureOptions(), SimulatedTrainingOptions()),
    "template": (TemplateOptions(), TemplateTrainingOptions()),
}
"""The presets, a network that learns from simulations, and a template: pairs of options for `train`."""


AUTO = "auto"
MOST_CLASSES = 8
"""Most classes that can be asked for, and that are tried: more have not been measured."""
_PATCH_SIDE = 20
"""Voxels along the binned patches that are searched: they resolve a seventh of the diameter."""


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions(Options):
    """How structure and poses are found from picks alone."""

    diameter: float = option(300.0, help="of the particle, or a little more", unit="Å", low=20, high=5000)
    classes: str = option(
        "1",
        help="kinds of particle among the picks; auto estimates how many",
        choices=(AUTO, *map(str, range(1, MOST_CLASSES + 1))),
    )
    symmetry: str = option(AUTO, help="auto searches the map for axes; C1 takes none", choices=(AUTO, "C1"))
    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    contrast: str = option("found", help="how particles stand out in the tomogram", choices=("found", "dark", "bright"))
    starts: int = option(3, help="most random starts; it ends early once two agree", low=2, high=20, expert=True)
    rounds: int = option(18, help="rounds of each start", low=6, high=200, expert=True)
    search: int = option(2304, help="rotations searched in each round", low=200, high=50_000, expert=True)
    sample: int = option(
        1500, help="most particles that the map is found from; all get poses", low=20, high=100_000, expert=True
    )
    passes: int = option(2, help="times that poses and map are refined against each other", low=0, high=10, expert=True)
    seed: int = seed_option("of the random starts")
    wedge: WedgeOptions = suboptions(WedgeOptions)
    compute: ComputeOptions = suboptions(ComputeOptions)

    @property
    def class_count(self) -> int:
        """Classes searched for; of ``auto``, those tried first."""
        return 1 if self.classes == AUTO else int(self.classes)

    def with_class_count(self, count: int) -> Self:
        """The same options with this number of classes."""
        return replace(self, classes=str(count))

    @property
    def patch_voxel_size(self) -> float:
        """Å of the voxels of binned patches, which are 4/3 of the diameter wide."""
        return self.diameter * 4 / 3 / _PATCH_SIDE

    @property
    def patch_side(self) -> int:
        """Voxels along binned patches."""
        return _PATCH_SIDE

    @property
    def radius(self) -> float:
        """Å of the ball that holds the particle."""
        return self.diameter / 2

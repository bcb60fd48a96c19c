"""Training setups: the printed settings in every representation, and the steps from them to the shipped network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from napari_orient.engine.parameters import PAPER_NETWORK, PAPER_TRAINING, NetworkOptions, TrainingOptions
from napari_orient.engine.representations import REPRESENTATIONS

VALIDATION = 0.06
"""Share of the 130 training tomograms that select and calibrate a network; the paper prints none of its own."""

SIZES = (100, 1000, 10_000)
"""Numbers of training particles besides all of them."""

NOISE_LEVELS = (2.0, 1.0, 0.5, 0.25, 0.1)
"""Signal-to-noise ratios of micrographs that networks trained at 1 to 2 are tested at."""

_MANY = 1_000_000
"""Training particles of a setup that takes all."""

CODE_NETWORK = replace(PAPER_NETWORK, width=128)
CODE_TRAINING = replace(PAPER_TRAINING, epochs=15)
"""The released code's width and epochs, where the abstract prints 32 and 50."""


@dataclass(frozen=True)
class TrainingSetup:
    """Network and training of one run.

    Parameters
    ----------
    name : of its files.
    title : in tables.
    symmetric : whether it is trained on the dataset's second, symmetric macromolecule.
    particles : most particles to train on; None = all.
    answer : ``once`` takes a patch as it is, ``turned`` averages over its four copies by half-turns.
    weights : ``last`` are those of the last epoch, ``best`` those of least validation error.
    against : name of the setup that it is compared with.
    """

    name: str
    title: str
    network: NetworkOptions
    training: TrainingOptions
    symmetric: bool = False
    particles: int | None = None
    answer: str = "turned"
    weights: str = "best"
    against: str = ""

    def at(self, *, epochs: int | None, seed: int, device: str) -> TrainingSetup:
        """Same setup with the experiment's limit of epochs, seed and device."""
        most = self.epochs if epochs is None else min(epochs, self.epochs)
        return replace(self, training=self.training.replace(epochs=most, seed=seed, device=device))

    @property
    def epochs(self) -> int:
        """Passes over its training particles."""
        return self.training.epochs_for(self.particles or _MANY)

    @property
    def cube_side(self) -> int:
        """Voxels along the cubes after the front end's binning."""
        binned = self.network.front_end == "masked"
        return self.network.patch_side // (self.network.binning if binned else 1)

    @property
    def inputs(self) -> int:
        """Approximate number of voxels that enter the first layer."""
        whole: int = self.cube_side**3
        voxel_size = self.network.patch_side * self.network.patch_voxel_size / self.cube_side
        ball = 4.2 * (self.network.mask_radius / voxel_size + 0.5) ** 3
        return whole if self.network.front_end == "raw" else min(whole, round(ball))

    def seconds(self, particles: int) -> float:
        """Expected seconds of training on so many particles on one core; a fit to measured times."""
        count = min(particles, self.particles or particles)
        weights = self.network.width * (self.inputs + self.network.width * (self.network.depth - 1))
        per_patch = 3e-5 + 2.3e-10 * weights
        per_patch += 2.1e-8 * self.inputs if self.network.front_end == "masked" else 0.0
        per_patch += 1.6e-8 * self.cube_side**3 if self.training.shift else 0.0
        # A quarter more for the validation of each epoch.
        return self.epochs * (0.02 + 1.25 * count * per_patch)


def printed() -> Iterator[TrainingSetup]:
    """Setups of the paper's network in each representation; in 6D also with the released code's width and epochs."""
    for title, network, training, names in (
        ("printed", PAPER_NETWORK, PAPER_TRAINING, tuple(REPRESENTATIONS)),
        ("code", CODE_NETWORK, CODE_TRAINING, ("6d",)),
    ):
        for name in names:
            yield TrainingSetup(
                f"{title}-{name}",
                f"{'as printed' if title == 'printed' else 'as in the code'}, {name}",
                replace(network, representation=name),
                training.replace(validation=VALIDATION),
                answer="once",
                weights="last",
                against=_compared(title, name),
            )


def _compared(title: str, representation: str) -> str:
    """Name of the setup that one of another width or representation is compared with."""
    if title == "code":
        return f"printed-{representation}"
    return "" if representation == "6d" else "printed-6d"


def symmetric(group: str) -> Iterator[TrainingSetup]:
    """Setups for the symmetric macromolecule as printed: with a loss modulo its symmetry, and with one without it."""
    for loss, name in (("aware", group), ("naive", "C1")):
        yield TrainingSetup(
            f"symmetric-printed-{loss}",
            f"as printed, loss {'knows' if loss == 'aware' else 'ignores'} the symmetry",
            replace(PAPER_NETWORK, symmetry=name),
            _validated(PAPER_TRAINING),
            symmetric=True,
            answer="once",
            weights="last",
            against="" if loss == "aware" else "symmetric-printed-aware",
        )


_WIDE_TRAINING = TrainingOptions(clip=10.0)
"""Of the network with 512 nodes; trainings today cut gradients to a hundredth of it, of which few particles gain."""
SHIPPED = "wide-6d"
"""Name of the shipped network's setup."""


def shipped() -> TrainingSetup:
    """Setup of the network that comes with the program."""
    return TrainingSetup(SHIPPED, "shipped (512 nodes)", NetworkOptions(), _validated(_WIDE_TRAINING), against="shift")


def other_representations() -> Iterator[TrainingSetup]:
    """Shipped setup in the representations that did worse in the paper, trained as well as the shipped network."""
    base = shipped()
    for name in ("quaternion", "euler"):
        network = replace(base.network, representation=name)
        yield replace(base, name=f"wide-{name}", title=f"shipped, {name}", network=network, against=SHIPPED)


def fewer(particles: int) -> Iterator[TrainingSetup]:
    """Shipped setup on fewer training particles, with more epochs, as these would be few optimiser steps."""
    for size in (size for size in SIZES if size < particles):
        training, title = _validated(_WIDE_TRAINING), f"shipped, {size} particles"
        yield TrainingSetup(f"wide-{size}", title, NetworkOptions(), training, particles=size, against=SHIPPED)


def steps_up() -> Iterator[TrainingSetup]:
    """Setups from the printed network towards the shipped one: front end, learning rate, half-turns, shifts."""
    whole_cube = replace(PAPER_NETWORK, front_end="masked", mask_radius=5000.0)
    mask = replace(PAPER_NETWORK, front_end="masked", binning=1)
    both = replace(PAPER_NETWORK, front_end="masked")
    plain = _validated(PAPER_TRAINING)
    cycle = replace(plain, rate=2e-3, schedule="cycle")
    start = TrainingSetup("mask", "printed, mask", mask, plain, answer="once", weights="last", against="printed-6d")
    yield start
    yield replace(start, name="low-pass", title="printed, low-pass to 40 Å by binning", network=whole_cube)
    yield replace(start, name="front-end", title="printed, mask and low-pass", network=both)
    scaled = replace(both, initialisation="scaled")
    yield replace(
        start, name="cycle", title="and rate up and down to 2e-3", network=scaled, training=cycle, against="front-end"
    )
    half_turned = replace(cycle, half_turns=True)
    yield TrainingSetup("half-turns", "and half-turns, learning and answering", scaled, half_turned, against="cycle")
    shifted = replace(half_turned, shift=5.0)
    yield TrainingSetup("shift", "and shifts of ±5 Å", scaled, shifted, against="half-turns")


def _validated(training: TrainingOptions) -> TrainingOptions:
    return training.replace(validation=VALIDATION)

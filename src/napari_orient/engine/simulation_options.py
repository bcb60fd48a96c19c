"""Options of a simulated tomogram: PolNet's recipe, and beyond it the microscope, the surroundings, postprocessing."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option, suboptions

CORRECTIONS = ("none", "flipped", "premultiplied", "wiener", "deconvolved")
"""Corrections of the contrast transfer function; the last acts on the tomogram, the others on images."""


@dataclass(frozen=True, kw_only=True)
class MicroscopeOptions(Options):
    """Contrast transfer, dose and geometry of the tilt series."""

    defocus: float | None = option(
        None, help="underfocus; empty leaves out the contrast transfer function", unit="µm", low=0.05, high=20
    )
    ctf_correction: str = option(
        "none",
        help="correction of the contrast transfer function: of each image, or of the tomogram (deconvolved, as Warp)",
        choices=CORRECTIONS,
    )
    dose: float | None = option(
        None, help="dose of each image, which damps those that follow; empty damps none", unit="e/Å²", low=0, high=50
    )
    b_factor: float = option(
        0.0, help="B of an envelope exp(-B s²/4) of the signal", unit="Å²", low=0, high=1e5, expert=True
    )
    defocus_jitter: float = option(
        0.1, help="rms difference of an image's defocus from the series'", unit="µm", low=0, high=2, expert=True
    )
    defocus_error: float = option(
        0.0,
        help="rms error of the defocus that correction and written tilts assume",
        unit="µm",
        low=0,
        high=2,
        expert=True,
    )
    height_defocus: bool = option(False, help="let defocus change with the height in the specimen", expert=True)
    astigmatism: float = option(
        0.0, help="difference of the defocus along the two axes of astigmatism", unit="µm", low=0, high=5, expert=True
    )
    astigmatism_angle: float = option(
        45.0, help="from an image's x to the axis of larger defocus", unit="°", low=-180, high=180, expert=True
    )
    amplitude_contrast: float = option(0.07, help="share of amplitude contrast", low=0, high=1, expert=True)
    voltage: float = option(300.0, help="acceleration voltage", unit="kV", low=50, high=1000, expert=True)
    spherical_aberration: float = option(2.7, help="spherical aberration", unit="mm", low=0, high=10, expert=True)
    phase_shift: float = option(0.0, help="phase plate's shift", unit="°", low=-180, high=180, expert=True)
    wiener_constant: float = option(
        0.1, help="added to CTF² where images are Wiener-corrected", low=1e-4, high=10, expert=True
    )
    mean_free_path: float | None = option(
        None,
        help="between inelastic scatterings in ice: higher tilts lose contrast (310 nm at 300 kV); empty loses none",
        unit="nm",
        low=10,
        high=10_000,
        expert=True,
    )
    lowest_tilt: float | None = option(
        None, help="lowest tilt; empty is the opposite of the highest", unit="°", low=-90, high=90, expert=True
    )
    missing_tilts: int = option(0, help="images that are left out, chosen at random", low=0, high=1000, expert=True)
    tilt_order: str = option(
        "symmetric",
        help="order in which the dose is spent: outwards from no tilt, or from the lowest tilt on",
        choices=("symmetric", "sequential"),
        expert=True,
    )
    axis_angle: float = option(
        0.0,
        help="from the axis named by tilt_axis to the tilt axis, counter-clockwise seen from +z",
        unit="°",
        low=-180,
        high=180,
        expert=True,
    )
    level_angle: float = option(
        0.0, help="by which the specimen leans along the tilt axis", unit="°", low=-45, high=45, expert=True
    )

    def __post_init__(self) -> None:
        """Check every field, and that there is a CTF where it is said what it is like, or that it is corrected."""
        super().__post_init__()
        record = self.to_record()
        idle = [name for name in _OF_THE_CTF if record[name] not in ("none", 0)] if self.defocus is None else []
        if idle:
            raise InputError(f"{idle[0]} is {record[idle[0]]}, but there is no defocus; give it too.")


_OF_THE_CTF = ("ctf_correction", "defocus_error", "height_defocus", "astigmatism", "phase_shift")
"""Options that change nothing without a defocus."""


@dataclass(frozen=True, kw_only=True)
class SurroundingsOptions(Options):
    """What lies in the specimen beside the particles, and how far these bend."""

    gold: int = option(0, help="gold beads", low=0, high=10_000, expert=True)
    gold_diameter: float = option(100.0, help="diameter of gold beads", unit="Å", low=10, high=1000, expert=True)
    gold_second_diameter: float | None = option(
        None, help="diameter of every other gold bead; empty is that of all", unit="Å", low=10, high=1000, expert=True
    )
    gold_touching: int = option(
        1, help="gold beads of a cluster, each of which touches another", low=1, high=100, expert=True
    )
    gold_at_border: int = option(
        0, help="of the gold beads, those whose upper or lower half is outside", low=0, high=10_000, expert=True
    )
    membranes: int = option(0, help="membranes across the tomogram", low=0, high=100, expert=True)
    vesicles: int = option(0, help="vesicles", low=0, high=1000, expert=True)
    filaments: int = option(0, help="filaments, as wide as F-actin", low=0, high=1000, expert=True)
    other_particles: int = option(
        100, help="particles of each other macromolecule, as far as they fit", low=0, high=100_000, expert=True
    )
    flexibility: float = option(
        0.0,
        help="angle by which a third of the map is bent in half of the particles; truth is of the rest",
        unit="°",
        low=0,
        high=180,
        expert=True,
    )


@dataclass(frozen=True, kw_only=True)
class PostprocessingOptions(Options):
    """What is done to the reconstructed tomogram, in this order."""

    added_ramp: float = option(
        0.0,
        help="density added from the lowest to the highest x, in standard deviations",
        low=-1000,
        high=1000,
        expert=True,
    )
    multiplied_ramp: float = option(
        1.0,
        help="factor of the density at the highest x; it is 1 at the lowest",
        low=0.001,
        high=1000,
        expert=True,
    )
    denoising: str = option(
        "none",
        help="filter: Gaussian, median, or total variation",
        choices=("none", "gaussian", "median", "tv"),
        expert=True,
    )
    denoising_strength: float = option(
        1.0,
        help="Gaussian: standard deviation in voxels; median: voxels to each side; tv: weight in standard deviations",
        low=0.01,
        high=20,
        expert=True,
    )
    local_normalisation: int | None = option(
        None,
        help="width of the cube whose mean and deviation become 0 and 1; empty leaves it out",
        unit="voxels",
        low=3,
        high=1000,
        expert=True,
    )
    contrast: str = option("dark", help="contrast of particles", choices=("dark", "bright"), expert=True)
    mirror: bool = option(False, help="mirror the tomogram along z; truth is then of the mirrored map", expert=True)
    clip: float | None = option(
        None,
        help="standard deviations where density is cut off; empty cuts none",
        low=0.1,
        high=100,
        expert=True,
    )
    eight_bit: bool = option(False, help="whole numbers from -127 to 127", expert=True)


@dataclass(frozen=True, kw_only=True)
class SimulationOptions(Options):
    """How the sample, the tilt series and the tomogram are made."""

    size_x: int = option(256, help="width of the tomogram", unit="voxels", low=16, high=4096)
    size_y: int = option(256, help="height of the tomogram", unit="voxels", low=16, high=4096)
    size_z: int = option(128, help="thickness of the tomogram", unit="voxels", low=16, high=2048)
    voxel_size: float = option(10.0, help="size of a voxel", unit="Å", low=0.5, high=100)
    particles: int = option(150, help="particles of each template", low=0, high=100_000)
    border: int = option(4, help="free of particles at every face", unit="voxels", low=0, high=1000, expert=True)
    overlap: float = option(0.01, help="part of a particle that may overlap others", low=0, high=0.5, expert=True)
    level: float = option(
        0.1, help="template density below this part of its peak is empty", low=0.001, high=0.9, expert=True
    )
    link: float = option(
        1.3,
        help="shortest link of a chain; the longest is twice",
        unit="diameters",
        low=0.1,
        high=100,
        expert=True,
    )
    chain_length: float = option(
        3000.0, help="longest chain; 0 scatters particles singly", unit="Å", low=0, high=1e6, expert=True
    )
    tilt_range: float = option(60.0, help="highest tilt; the lowest is its opposite", unit="°", low=0, high=90)
    tilt_step: float = option(3.0, help="step between tilts", unit="°", low=0.1, high=90, expert=True)
    tilt_axis: str = option("y", help="axis that the sample is tilted about", choices=("y", "x"), expert=True)
    misalignment_low: float = option(
        1.0, help="rms shift of micrographs at no tilt", unit="pixels", low=0, high=20, expert=True
    )
    misalignment_high: float = option(
        2.0, help="rms shift at the highest tilt", unit="pixels", low=0, high=20, expert=True
    )
    ramp_cutoff: float = option(
        0.5,
        help="where the back-projection's ramp ends; IMOD's own is 0.35",
        unit="cycles/pixel",
        low=0.05,
        high=0.5,
        expert=True,
    )
    snr_low: float = option(1.0, help="lowest mean foreground over noise of a micrograph", low=0.001, high=1e6)
    snr_high: float = option(2.0, help="highest mean foreground over noise of a micrograph", low=0.001, high=1e6)
    noise: float = option(1.0, help="factor of the micrographs' noise (standard deviation)", low=0, high=1e6)
    imaging: str = option(
        "auto",
        help="polnet: PolNet's micrographs; physical: exact projections with the noise of a constant exposure; auto: "
        "physical where the microscope or the surroundings are described",
        choices=("auto", "polnet", "physical"),
        expert=True,
    )
    microscope: MicroscopeOptions = suboptions(MicroscopeOptions)
    surroundings: SurroundingsOptions = suboptions(SurroundingsOptions)
    postprocessing: PostprocessingOptions = suboptions(PostprocessingOptions)

    def __post_init__(self) -> None:
        """Check every field, that lows are not above highs, and that the imaging has what is asked of it."""
        super().__post_init__()
        for name in ("snr", "misalignment"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low > high:
                raise InputError(f"{name}_low is {low:g} and {name}_high is {high:g}; expected low not above high.")
        lowest = self.microscope.lowest_tilt
        if lowest is not None and lowest > self.tilt_range:
            raise InputError(
                f"lowest_tilt is {lowest:g} and tilt_range {self.tilt_range:g}; expected low not above high."
            )
        if self.imaging == "polnet" and self._beyond_polnet:
            raise InputError("imaging is polnet, which has no microscope and no surroundings; take auto or physical.")

    @property
    def is_physical(self) -> bool:
        """Whether the tilt series is that of a microscope rather than of PolNet's recipe."""
        return self.imaging == "physical" or self._beyond_polnet

    @property
    def _beyond_polnet(self) -> bool:
        return self.microscope != MicroscopeOptions() or self.surroundings != SurroundingsOptions()

"""How to simulate: every option once; read without loading what simulates."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option


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

    def __post_init__(self) -> None:
        """Check every field, and that lows are not above highs."""
        super().__post_init__()
        for name in ("snr", "misalignment"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low > high:
                raise InputError(f"{name}_low is {low:g} and {name}_high is {high:g}; expected low not above high.")

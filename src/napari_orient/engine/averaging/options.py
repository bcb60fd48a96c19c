"""How to average: every option once; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.options import Options, option


@dataclass(frozen=True, kw_only=True)
class AveragingOptions(Options):
    """How to average."""

    side: int = option(40, help="voxels along the map", low=8, high=512)
    radius: float | None = option(
        None, help="of the particle, for the mask of the FSC; empty for 0.4 boxes", unit="Å", low=1
    )
    contrast: str = option("dark", help="how particles stand out in the tomogram", choices=("dark", "bright"))
    tilt_axis: str = option(
        "found",
        help="axis that the tomogram was tilted about; found looks at the data",
        choices=("found", "x", "y", "none"),
    )
    seed: int = option(0, help="of the random halves", low=0, high=2**31)

"""How to average: every option once; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.model.options import WedgeOptions
from napari_orient.engine.options import Options, option, seed_option, suboptions


@dataclass(frozen=True, kw_only=True)
class AveragingOptions(Options):
    """How to average."""

    side: int = option(40, help="voxels along the map", low=8, high=512)
    radius: float | None = option(
        None, help="of the particle, for the mask of the FSC; empty for 0.4 boxes", unit="Å", low=1
    )
    contrast: str = option("dark", help="how particles stand out in the tomogram", choices=("dark", "bright"))
    wedge: WedgeOptions = suboptions(WedgeOptions)
    seed: int = seed_option("of the random halves")

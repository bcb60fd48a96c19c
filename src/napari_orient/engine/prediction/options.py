"""How to predict: every option once; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.options import option
from napari_orient.engine.patches import CENTRINGS
from napari_orient.engine.refinement.options import PoseOptions, RefinementOptions

if TYPE_CHECKING:
    from napari_orient.engine.networks.reference_map import ReferenceMap


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(PoseOptions):
    """How to predict; precision, shift and tilts concern checkpoints that hold a reference."""

    max_shift: float | None = option(
        None,
        help="how far along each axis a pick may be off; empty for what the checkpoint says",
        unit="Å",
        low=0,
        high=200,
    )
    batch: int = option(64, help="patches predicted at once by an mlp", low=1, high=4096)
    centring: str = option(
        "rounded",
        help="an mlp's patches; subvoxel: interpolate so that the pick is centred; rounded: to the nearest voxel",
        choices=CENTRINGS,
    )

    def refinement(self, reference: ReferenceMap) -> RefinementOptions:
        """The refinement that these options ask for, with the reference's own bank."""
        shared = {item.name: getattr(self, item.name) for item in PoseOptions.parameters()}
        bank = {item.name: getattr(reference.options, item.name) for item in SearchOptions.parameters()}
        if self.max_shift is not None:
            bank["max_shift"] = self.max_shift
        return RefinementOptions(**shared, **bank)

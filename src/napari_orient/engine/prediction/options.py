"""How to predict: every option once; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.model.options import WedgeOptions
from napari_orient.engine.options import Options, option, suboptions
from napari_orient.engine.patches import CENTRINGS
from napari_orient.engine.refinement.options import EffortOptions, RefinementOptions

if TYPE_CHECKING:
    from napari_orient.engine.templates import Template


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(Options):
    """How to predict; precision, shift and tilts concern templates."""

    effort: EffortOptions = suboptions(EffortOptions)
    max_shift: float | None = option(
        None,
        help="how far along each axis a pick may be off; empty for what the template says",
        unit="Å",
        low=0,
        high=200,
    )
    wedge: WedgeOptions = suboptions(WedgeOptions)
    batch: int = option(64, help="patches predicted at once by a network", low=1, high=4096, expert=True)
    centring: str = option(
        "rounded",
        help="a network's patches; subvoxel: interpolate so that the pick is centred; rounded: to the nearest voxel",
        choices=CENTRINGS,
        expert=True,
    )
    compute: ComputeOptions = suboptions(ComputeOptions)

    def refinement(self, template: Template) -> RefinementOptions:
        """The refinement that these options ask for, with the template's own search where they ask for none."""
        search = template.search if self.max_shift is None else template.search.replace(max_shift=self.max_shift)
        return RefinementOptions(effort=self.effort, search=search, wedge=self.wedge, compute=self.compute)

"""The options of a refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.model.options import WedgeOptions
from napari_orient.engine.options import Options, option, suboptions

if TYPE_CHECKING:
    import torch


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

    def precision_for(self, count: int, device: torch.device) -> str:
        """Fast or precise: the one given, or for ``auto`` what the device does with so many particles in a minute."""
        if self.precision != "auto":
            return self.precision
        return "precise" if device.type != "cpu" or count <= PRECISE_UP_TO else "fast"


@dataclass(frozen=True, kw_only=True)
class RefinementOptions(Options):
    """How poses are found and refined against a reference."""

    effort: EffortOptions = suboptions(EffortOptions)
    search: SearchOptions = suboptions(SearchOptions)
    resolution: float | None = option(
        None, help="finest detail used; empty for all that patches and reference hold", unit="Å", low=1, high=200
    )
    wedge: WedgeOptions = suboptions(WedgeOptions)
    starts: int = option(3, help="matches refined by the precise way", low=1, high=32, expert=True)
    calibration: int = option(
        256, help="particles that noise and gain are estimated from", low=1, high=100_000, expert=True
    )
    compute: ComputeOptions = suboptions(ComputeOptions)

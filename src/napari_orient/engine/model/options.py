"""What a person may say of the missing wedge; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_orient.engine.options import Options, option

if TYPE_CHECKING:
    from napari_orient.engine.model.wedge import Wedge

_ASSUMED_TILT_DEG = 60.0
"""Highest tilt, degrees, where an axis is given that the data do not show: most tilt series end there."""


@dataclass(frozen=True, kw_only=True)
class WedgeOptions(Options):
    """The missing wedge, as far as it is given rather than estimated from the data."""

    tilt_axis: str = option(
        "found",
        help="axis that the tomogram was tilted about; found estimates it from the data",
        choices=("found", "x", "y", "none"),
        expert=True,
    )
    lowest_tilt: float | None = option(
        None, help="lowest tilt; empty to estimate it", unit="°", low=-90, high=90, expert=True
    )
    highest_tilt: float | None = option(
        None, help="highest tilt; empty to estimate it", unit="°", low=-90, high=90, expert=True
    )

    def chosen(self, found: Wedge) -> Wedge:
        """The wedge in force: what is given here, else what was found in the data.

        Raises
        ------
        InputError
            If the range of tilts is empty.
        """
        from napari_orient.engine.model.wedge import Wedge

        axis = found.axis if self.tilt_axis == "found" else self.tilt_axis
        same = axis == found.axis
        low = self.lowest_tilt if self.lowest_tilt is not None else (found.low_deg if same else -_ASSUMED_TILT_DEG)
        high = self.highest_tilt if self.highest_tilt is not None else (found.high_deg if same else _ASSUMED_TILT_DEG)
        return Wedge(axis, low, high)

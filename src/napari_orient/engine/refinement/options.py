"""What a refinement can be told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from napari_orient.engine.devices import DEVICES
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.options import Options, option

if TYPE_CHECKING:
    import torch

    from napari_orient.engine.model.wedge import Wedge

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
class PoseOptions(Options):
    """What every search for poses against a reference can be told."""

    precision: str = option(
        "auto",
        help="fast: the best match, polished; precise: several, finer; auto: precise unless a CPU has many to do",
        choices=PRECISIONS,
    )
    tilt_axis: str = option(
        "found",
        help="axis that the tomogram was tilted about; found looks at the data",
        choices=("found", "x", "y", "none"),
    )
    lowest_tilt: float | None = option(None, help="lowest tilt; empty to find it", unit="°", low=-90, high=90)
    highest_tilt: float | None = option(None, help="highest tilt; empty to find it", unit="°", low=-90, high=90)
    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)

    def precision_for(self, count: int, device: torch.device) -> str:
        """Fast or precise: what was told, or for ``auto`` what the device does with so many particles in a minute."""
        if self.precision != "auto":
            return self.precision
        return "precise" if device.type != "cpu" or count <= PRECISE_UP_TO else "fast"

    def wedge(self, found: Wedge) -> Wedge:
        """The wedge in force: what was told, else what was found.

        Raises
        ------
        InputError
            If the range of tilts is empty.
        """
        from napari_orient.engine.model.wedge import Wedge

        axis = found.axis if self.tilt_axis == "found" else self.tilt_axis
        trusted = axis == found.axis
        low = self.lowest_tilt if self.lowest_tilt is not None else (found.low_deg if trusted else -60.0)
        high = self.highest_tilt if self.highest_tilt is not None else (found.high_deg if trusted else 60.0)
        return Wedge(axis, low, high)


@dataclass(frozen=True, kw_only=True)
class RefinementOptions(SearchOptions, PoseOptions):
    """How poses are found and polished against a reference."""

    resolution: float | None = option(
        None, help="finest detail used; empty for all that patches and reference hold", unit="Å", low=1, high=200
    )
    starts: int = option(3, help="matches polished by the precise way", low=1, high=32)
    calibration: int = option(256, help="particles that noise and gain are learnt from", low=1, high=100_000)

    def bank(self) -> SearchOptions:
        """The bank that starts the refinement."""
        return SearchOptions(**{item.name: getattr(self, item.name) for item in fields(SearchOptions)})

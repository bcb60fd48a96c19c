"""What a refinement can be told."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.matching.wedge import Wedge
from napari_orient.engine.networks.bank import BankOptions
from napari_orient.engine.networks.contract import DEVICES
from napari_orient.engine.tasks import Options, option

PRECISIONS = ("fast", "precise")


@dataclass(frozen=True, kw_only=True)
class RefinementOptions(Options):
    """How poses are found and polished against a reference."""

    precision: str = option(
        "precise", help="fast: the bank's best match, polished; precise: several, finer", choices=PRECISIONS
    )
    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    resolution: float | None = option(
        None, help="finest detail used; empty for all that patches and reference hold", unit="Å", low=1, high=200
    )
    search_resolution: float = option(40.0, help="finest detail of the search", unit="Å", low=1, high=200)
    rotations: int = option(4608, help="rotations searched over the asymmetric unit", low=60, high=200_000)
    starts: int = option(3, help="matches polished by the precise way", low=1, high=32)
    tilt_axis: str = option(
        "found",
        help="axis that the tomogram was tilted about; found looks at the data",
        choices=("found", "x", "y", "none"),
    )
    lowest_tilt: float | None = option(None, help="lowest tilt; empty to find it", unit="°", low=-90, high=90)
    highest_tilt: float | None = option(None, help="highest tilt; empty to find it", unit="°", low=-90, high=90)
    calibration: int = option(256, help="particles that noise and gain are learnt from", low=1, high=100_000)
    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)

    def bank(self) -> BankOptions:
        """The bank that starts the refinement."""
        return BankOptions(rotations=self.rotations, resolution=self.search_resolution, max_shift=self.max_shift)

    def wedge(self, found: Wedge) -> Wedge:
        """The wedge in force: what was told, else what was found.

        Raises
        ------
        InputError
            If the range of tilts is empty.
        """
        axis = found.axis if self.tilt_axis == "found" else self.tilt_axis
        trusted = axis == found.axis
        low = self.lowest_tilt if self.lowest_tilt is not None else (found.low_deg if trusted else -60.0)
        high = self.highest_tilt if self.highest_tilt is not None else (found.high_deg if trusted else 60.0)
        return Wedge(axis, low, high)

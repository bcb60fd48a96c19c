"""What a bank checkpoint holds: a reference map, its symmetry, and how the bank is built from it for a tomogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.options import Value, option
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry, symmetry

if TYPE_CHECKING:
    from torch import Tensor

_UNCALIBRATED = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class BankNetworkOptions(SearchOptions):
    """What a bank is to look like: the network options of `train` that ask for one."""

    symmetry: str = option(
        "C1",
        help="symmetry of the reference, with its axes where they are not z and x: D7@z@x; a bank's may be auto",
    )


@dataclass(frozen=True, kw_only=True)
class ReferenceMapOptions(BankNetworkOptions):
    """What a bank checkpoint records beside its map."""

    voxel_size: float = option(10.0, help="voxel size of the reference", unit="Å", low=0.05, high=200)


@dataclass(frozen=True, eq=False)
class ReferenceMap:
    """A map to match with, nothing of it particular to a tomogram.

    Parameters
    ----------
    density : (n, n, n) float32 [z, y, x], particle positive; the frame's origin is the box's centre ``(n - 1) / 2``.
    options : voxel size, symmetry and the bank's size.
    calibration : what the expected error is corrected by: a variance in deg² to add, and a factor of the variance that
        the noise leaves; measured on tomograms kept apart, ``(0, 1)`` where it never was.

    Raises
    ------
    InputError
        If the map is no cube, is flat or not finite, or the symmetry is none.
    """

    density: NDArray[np.float32]
    options: ReferenceMapOptions
    calibration: tuple[float, float] = _UNCALIBRATED

    def __post_init__(self) -> None:
        """Check the map and the symmetry."""
        density = np.array(self.density, np.float32)
        if density.ndim != 3 or len(set(density.shape)) != 1 or len(density) < 8:
            raise InputError(
                f"the reference map has shape {density.shape}; expected a cube of at least 8 voxels along each side."
            )
        if not np.isfinite(density).all() or density.std() == 0:
            raise InputError("the reference map is flat or holds values that are not numbers. Take a whole map.")
        floor, factor = self.calibration
        if not (0 <= floor < np.inf and 0 <= factor < np.inf and floor + factor > 0):
            raise InputError(f"the reference's calibration is {self.calibration}; expected a variance and a factor.")
        symmetry(self.options.symmetry)
        object.__setattr__(self, "density", density)

    @property
    def voxel_size(self) -> float:
        """Å."""
        return self.options.voxel_size

    @property
    def group(self) -> Symmetry:
        """The map's symmetry, about the axes that the map has."""
        return symmetry(self.options.symmetry)

    @property
    def calibrated(self) -> bool:
        """Whether the expected error was measured on tomograms kept apart."""
        return self.calibration != _UNCALIBRATED

    def calibrated_deg(self, expected_deg: FloatArray) -> FloatArray:
        """Expected errors in degrees, corrected by the calibration."""
        floor, factor = self.calibration
        calibrated: FloatArray = np.sqrt(floor + factor * np.asarray(expected_deg) ** 2)
        return calibrated

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it beside the options."""
        import torch

        return {"density": torch.from_numpy(self.density.copy()), "calibration": torch.tensor(self.calibration)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Value]) -> Self:
        """The map that `tensors` and the options' record describe.

        Raises
        ------
        InputError
            If something is missing or does not fit.
        """
        if not {"density", "calibration"} <= set(tensors) or tensors["calibration"].shape != (2,):
            raise InputError("its reference map or calibration is missing; the file is damaged. Take a fresh copy.")
        floor, factor = (float(value) for value in tensors["calibration"])
        return cls(tensors["density"].float().numpy(), ReferenceMapOptions.from_record(options), (floor, factor))

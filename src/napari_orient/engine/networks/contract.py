"""What every network is to the rest of the engine: patches of one size in, an Answer out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """What a network says of N patches.

    ``rotations`` (N, 3, 3); ``expected_error_deg`` (N,) expected root-mean-square error, or None where the network was
    never calibrated; ``shifts`` (N, 3) xyz in Å from the patch's centre to the particle's, or None if it does not tell.
    """

    rotations: Tensor
    expected_error_deg: Tensor | None = None
    shifts: Tensor | None = None


class Network(Protocol):
    """A trained network, ready to answer."""

    @property
    def patch_side(self) -> int:
        """Voxels along each side of the patches that it takes."""

    @property
    def patch_voxel_size(self) -> float:
        """Å of these voxels."""

    def answer(self, patches: Tensor) -> Answer:
        """The answer for patches (N, side, side, side), indexed [n, z, y, x], mean 0 and deviation 1."""

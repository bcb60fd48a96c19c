"""What refinement says of a particle: its pose, and how far off it may be, in all and about each axis."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from napari_orient.engine.rotations import Symmetry


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N particles and their errors.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    turn_covariance : (N, 3, 3) of what the turn may be off, radians about the axes of the reference frame.
    shift_covariance : (N, 3, 3) of what the shift may be off, Å².
    coupling : (N, 3, 3) covariance of the turn with the shift, radians by Å.
    score : (N,) match in standard deviations of the noise.
    amplitude : (N,) of the reference, 1 for the usual particle.
    rivals : (N, K, 3, 3) rotations of other poses that match; the turn's covariance counts them.
    odds : (N, K) nats by which each is likelier than the pose itself; -inf where there is none.
    """

    rotations: Tensor
    shifts: Tensor
    turn_covariance: Tensor
    shift_covariance: Tensor
    coupling: Tensor
    score: Tensor
    amplitude: Tensor
    rivals: Tensor
    odds: Tensor

    @property
    def expected_error_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation, (N,) degrees."""
        return _rms_deg(self.turn_covariance.diagonal(dim1=-2, dim2=-1).sum(-1))

    @property
    def shift_error(self) -> Tensor:
        """Expected root-mean-square error of the centre, (N,) Å."""
        error: Tensor = self.shift_covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
        return error

    def expected_axis_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the group's main axis, (N,) degrees."""
        return _rms_deg(self.turn_covariance.diagonal(dim1=-2, dim2=-1).sum(-1) - self._along(group))

    def expected_spin_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the turn about the group's main axis, (N,) degrees."""
        return _rms_deg(self._along(group))

    def _along(self, group: Symmetry) -> Tensor:
        axis = torch.as_tensor(group.main_axis, dtype=self.turn_covariance.dtype, device=self.turn_covariance.device)
        return axis @ self.turn_covariance @ axis

    def blurred(self, covariance: Tensor, share: Tensor) -> Poses:
        """The same poses, whose turns have another covariance (3, 3) in a share (N,) of cases."""
        part = share[:, None, None]
        return replace(self, turn_covariance=(1 - part) * self.turn_covariance + part * covariance)

    def loosened(self, further_deg: Tensor) -> Poses:
        """The same poses, whose turns are off by so much more, (N,) degrees root mean square, whatever the axis."""
        each = (torch.deg2rad(further_deg).square() / 3).to(self.turn_covariance)
        return replace(self, turn_covariance=self.turn_covariance + each[:, None, None] * torch.eye(3).to(each))

    def about(self, point: Tensor) -> Poses:
        """The same poses, shifts being of this point of the reference frame, (3,) xyz in Å from where they were of."""
        # What a turn about the origin moves the point by, (N, 3, 3) Å by radians.
        lever = self.rotations @ torch.linalg.cross(torch.eye(3), point.expand(3, 3)).T
        by_turn = self.turn_covariance @ lever.mT
        mixed = lever @ self.coupling
        return replace(
            self,
            shifts=self.shifts + self.rotations @ point,
            shift_covariance=self.shift_covariance + mixed + mixed.mT + lever @ by_turn,
            coupling=self.coupling + by_turn,
        )

    def with_rival(self, rotations: Tensor, odds: Tensor) -> Poses:
        """The same poses, with others (N, 3, 3) so much likelier (N,) for the last, least likely, of their rivals."""
        order = self.odds.argsort(dim=1, descending=True)[:, :-1]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return replace(
            self,
            rivals=torch.cat([self.rivals[rows, order], rotations[:, None]], dim=1),
            odds=torch.cat([self.odds[rows, order], odds[:, None]], dim=1),
        )

    def shifted(self, by: Tensor) -> Poses:
        """The same poses, told from where each pick stands instead: shifts grow by (N, 3) xyz in Å."""
        return replace(self, shifts=self.shifts + by)

    def to(self, device: torch.device) -> Poses:
        """The same poses on a device."""
        return Poses(*(getattr(self, item.name).to(device) for item in fields(Poses)))

    def take(self, rows: Tensor) -> Poses:
        """The poses of these rows."""
        return Poses(*(getattr(self, item.name)[rows] for item in fields(Poses)))

    def with_rows(self, rows: Tensor, others: Poses) -> Poses:
        """The same poses with some rows replaced."""
        names = [item.name for item in fields(Poses)]
        return Poses(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))

    @classmethod
    def concatenated(cls, parts: list[Poses]) -> Poses:
        """All the poses of the parts, in order, on the CPU."""
        return cls(*(torch.cat([getattr(part, item.name).cpu() for part in parts]) for item in fields(cls)))


def _rms_deg(variance: Tensor) -> Tensor:
    return torch.rad2deg(variance.clamp_min(0).sqrt()).clamp_max(127.0)

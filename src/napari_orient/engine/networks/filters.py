"""Turned references compressed to a few dimensions, which score a patch by two matrix products."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference

_APART = 2.2
"""Rotations are well apart when they lie so many times further than neighbours do."""
_NUMBERS = ("voxel_size", "box")


class Filters(nn.Module):
    """A reference turned to J rotations, compressed: a patch's 2M numbers against all of them by two products.

    Parameters
    ----------
    rotations : (J, 3, 3).
    basis : (2M, D) leading singular vectors of all the turned references: what it drops, none of them contains.
    turned : (J, D) the turned references, of length 1, in that basis.
    """

    rotations: Tensor

    def __init__(self, rotations: Tensor, *, basis: Tensor, turned: Tensor) -> None:
        super().__init__()
        self.register_buffer("rotations", rotations)
        self.basis = nn.Parameter(basis)
        self.turned = nn.Parameter(turned)
        trace = (rotations[:200].flatten(1) @ rotations.flatten(1).T).topk(2, dim=1).values[:, 1]
        self._apart = _APART * float(torch.acos(((trace - 1) / 2).clamp(-1, 1)).median())

    def forward(self, observed: Tensor) -> Tensor:
        """Match with every rotation, (..., J), in standard deviations of the noise, of coefficients (..., 2, M)."""
        scores: Tensor = observed.flatten(-2) @ self.basis @ self.turned.T
        return scores

    @property
    def coefficients(self) -> int:
        """How many complex coefficients of a patch are matched, M."""
        return self.basis.shape[0] // 2

    def best_apart(self, scores: Tensor, count: int) -> Tensor:
        """Which rotations match best and lie well apart, (N, count), best first."""
        left = scores.clone()
        chosen = [left.argmax(-1)]
        while len(chosen) < count:
            trace = self.rotations[chosen[-1]].flatten(1) @ self.rotations.flatten(1).T
            left.masked_fill_(trace > 1 + 2 * math.cos(self._apart), -torch.inf)
            chosen.append(left.argmax(-1))
        return torch.stack(chosen, dim=1)


class Sight(nn.Module):
    """A reference and an imaging as buffers of a module, so that they move to a device with it."""

    table: Tensor

    def __init__(self, reference: Reference, imaging: Imaging) -> None:
        super().__init__()
        reference = reference.within(1 / float(imaging.frequency.norm(dim=-1).max()))
        self._reference, self._imaging = reference, imaging
        self.register_buffer("table", reference.table, persistent=False)
        for item in fields(Imaging):
            if item.name not in _NUMBERS:
                self.register_buffer(item.name, getattr(imaging, item.name))

    @property
    def reference(self) -> Reference:
        """The reference, on the module's device."""
        return replace(self._reference, table=self.table)

    @property
    def imaging(self) -> Imaging:
        """The imaging, on the module's device."""
        names = [item.name for item in fields(Imaging) if item.name not in _NUMBERS]
        return replace(self._imaging, **{name: getattr(self, name) for name in names})


def shown_reference(reference: Reference, imaging: Imaging, rotations: Tensor) -> Tensor:
    """Turned references as they show, (J, 2, M), each of length 1."""
    shown = reference.sample(imaging.frequency @ rotations)[..., 0].movedim(-1, 1) * imaging.weight
    length = shown.flatten(1).norm(dim=1).clamp_min(1e-12)
    unit: Tensor = shown / length[:, None, None]
    return unit


def leading_vectors(full: Tensor, dimensions: int) -> Tensor:
    """Leading right singular vectors of (J, 2M), (2M, D), by a randomised range finder: Halko et al., 2011."""
    dimensions = min(dimensions, *full.shape)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(full.shape[0], min(dimensions + 32, *full.shape), generator=generator).to(full)
    span = torch.linalg.qr(full.T @ (full @ (full.T @ draw)))[0]
    within = full @ span
    _, vectors = torch.linalg.eigh(within.T @ within)
    leading: Tensor = span @ vectors.flip(1)[:, :dimensions]
    return leading.contiguous()

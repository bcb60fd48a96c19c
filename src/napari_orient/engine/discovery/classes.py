"""How many kinds of particle the picks hold: more kinds must explain particles that their maps have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.discovery.annealing import average_maps
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.search import Assignment, bank_of, references
from napari_orient.engine.discovery.spectra import PatchSpectra
from napari_orient.engine.rotations import even_rotations

_REACH, _BATCH = 2, 128
_LEAST, _CLEARLY = 1.0, 3.0
"""Log-likelihood that another kind must bring, each particle's mean, and over the mean's standard error."""
_ALIKE = 0.25
"""Below this share of the particles, two starts have nothing in common, as in a verdict."""


@dataclass(frozen=True)
class ClassComparison:
    """What one kind more brings.

    Parameters
    ----------
    kinds : so many, over one less.
    mean, error : mean gain in log-likelihood of a particle, and its standard error.
    agreement : share of the particles that two independent starts put together and turn alike, the mean of the kinds.
    """

    class_count: int
    mean: float
    error: float
    agreement: float = 0.0

    @classmethod
    def of(cls, class_count: int, more: Tensor, fewer: Tensor) -> ClassComparison:
        """The gain of so many kinds over one less, from the log-likelihoods (N,) of both."""
        gain = (more - fewer).double()
        return cls(class_count, float(gain.mean()), float(gain.std() / len(gain) ** 0.5))

    @property
    def clear(self) -> bool:
        """Whether the particles are explained better."""
        return self.mean > max(_LEAST, _CLEARLY * self.error)

    @property
    def holds(self) -> bool:
        """Whether there are so many kinds: independent starts must find the same ones, too."""
        return self.clear and self.agreement >= _ALIKE

    @property
    def words(self) -> str:
        """The gain in words."""
        told = f"{'better' if self.clear else 'no better'} by {self.class_count} than by {self.class_count - 1}"
        told = f"{told} ({self.mean:+.1f} ± {self.error:.1f})"
        return f"{told}, but independent starts find other ones" if self.clear and not self.holds else told


def class_count_words(gains: Sequence[ClassComparison]) -> str:
    """How many kinds there are and why, in a line."""
    count = sum(gain.holds for gain in gains) + 1
    told = "; ".join(gain.words for gain in gains) or "not compared: there are too few for more"
    return f"Kinds of particle: {count}. Log-likelihood of particles that the maps have not seen: {told}."


def held_out(spectra: PatchSpectra, assignment: Assignment, options: DiscoveryOptions) -> Tensor:
    """Log-likelihood of each particle, (N,), by maps that it had no part in.

    Maps are made of each half of the particles as they are believed to lie; those of the other half are matched with
    them in every rotation, near the places where they are believed to stand. A kind weighs as much as it is numerous.
    """
    half = torch.as_tensor(np.random.default_rng(0).permutation(len(spectra)) % 2, device=spectra.values.device)
    weight = torch.bincount(assignment.label, minlength=options.class_count).double().clamp_min(1e-9) / len(spectra)
    answer = torch.zeros(len(spectra), dtype=torch.double, device=spectra.values.device)
    for seen in (0, 1):
        own, others = (half == seen).nonzero()[:, 0], (half != seen).nonzero()[:, 0]
        maps = references(
            average_maps(spectra.take(own), assignment.take(own), options), options, spectra.values.device
        )
        banks = [bank_of(spectra, part, _rotations(spectra, options)) for part in maps]
        for rows in others.split(_BATCH):
            moved = spectra.take(rows).moved(assignment.shifts[rows])
            scores = [_best(moved, spectra.group[rows], bank, spectra.frequency, options) for bank in banks]
            gains = torch.stack(scores, dim=1).clamp_min(0).double().square() / 2
            answer[rows] = torch.logsumexp(gains + weight.log(), dim=1)
    return answer


def _rotations(spectra: PatchSpectra, options: DiscoveryOptions) -> Tensor:
    return torch.as_tensor(even_rotations(options.search), dtype=torch.float32, device=spectra.values.device)


def _best(
    moved: Tensor, group: Tensor, bank: tuple[Tensor, Tensor], frequency: Tensor, options: DiscoveryOptions
) -> Tensor:
    """Score of each patch (N,) with a bank at its best rotation and the best place nearby.

    Each map's origin is its own: a place that is right for one is not for another.
    """
    turned, length = bank
    flat = torch.view_as_real(moved.contiguous()).flatten(1)
    best = (flat @ torch.view_as_real(turned).flatten(1).T / length[group]).argmax(1)
    cross = moved * (turned[best] / length[group, best][:, None]).conj()
    reach = _REACH if options.max_shift else 0
    line = torch.arange(-reach, reach + 1, device=moved.device) * (options.patch_voxel_size / 2)
    wave = 2 * torch.pi * (torch.cartesian_prod(line, line, line) @ frequency.T)
    return (cross.real @ wave.cos().T - cross.imag @ wave.sin().T).amax(1)

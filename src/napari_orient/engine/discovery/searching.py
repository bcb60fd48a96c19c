"""Every place and every rotation looked at once a map is known: what a start has missed is found here."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_orient.engine.devices import at_once
from napari_orient.engine.discovery.annealing import Guess, bank_of
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.views import Views
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.rotations import even_rotations

_COARSE, _ROTATIONS = 1.6, 700
_PLACES, _KEPT = 1.0, 2
_BATCH = 32


def search(views: Views, maps: list[Reference], options: DiscoveryOptions) -> Guess:
    """The best rotation, class and shift of every particle against known maps, no earlier guess being used.

    All places that a pick may be off are looked at with few rotations and little detail; the best two places, which
    lie apart, with all rotations and all detail.
    """
    device = views.values.device
    coarse = views.within(_COARSE * 2.1 * options.view_voxel_size)
    few = torch.as_tensor(even_rotations(_ROTATIONS), dtype=torch.float32, device=device)
    every = torch.as_tensor(even_rotations(options.search), dtype=torch.float32, device=device)
    rough = _joined([bank_of(coarse, part, few) for part in maps])
    fine = _joined([bank_of(views, part, every) for part in maps])
    places = _grid(options, device)
    found = []
    for rows in torch.arange(len(views), device=device).split(at_once(device, _BATCH)):
        part = views.take(rows)
        scores = _place_scores(coarse.take(rows), rough, places)
        found.append(_best(part, fine, places, scores))
    row, shift, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
    share = torch.ones_like(score)
    return Guess(every[row % len(every)], shift, row // len(every), share, score, peak)


def _joined(banks: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([turned for turned, _ in banks]), torch.cat([length for _, length in banks], dim=1)


def _grid(options: DiscoveryOptions, device: torch.device) -> Tensor:
    """Places (S, 3) in Å, a voxel of the views apart."""
    count = int(-(-options.max_shift // (_PLACES * options.view_voxel_size)))
    line = torch.arange(-count, count + 1, device=device) * _PLACES * options.view_voxel_size
    return torch.cartesian_prod(line, line, line)


def _place_scores(views: Views, bank: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    """Best match over the bank's rotations in each place, (N, S)."""
    turned, length = bank
    model = torch.view_as_real(turned).flatten(1).T
    answer = []
    for place in places:
        moved = torch.view_as_real(views.moved(place[None])).flatten(1)
        answer.append((moved @ model / length[views.group]).amax(1))
    return torch.stack(answer, dim=1)


def _best(
    views: Views, bank: tuple[Tensor, Tensor], places: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    turned, length = bank
    model = torch.view_as_real(turned).flatten(1).T
    left, found = scores.clone(), []
    beside = torch.cdist(places, places) < 1.5 * (places[1] - places[0]).norm() if len(places) > 1 else None
    for _ in range(_KEPT if len(places) > 1 else 1):
        chosen = left.argmax(1)
        if beside is not None:
            left = left.masked_fill(beside[chosen], -torch.inf)
        moved = torch.view_as_real(views.moved(places[chosen])).flatten(1)
        match = moved @ model / length[views.group]
        top, row = match.max(1)
        found.append((top, row, places[chosen], (top - match.mean(1)) / match.std(1)))
    best = torch.stack([item[0] for item in found]).argmax(0)
    take = torch.arange(len(best), device=best.device)
    top, row, shift, peak = (torch.stack([item[at] for item in found])[best, take] for at in range(4))
    return row, shift, top, peak

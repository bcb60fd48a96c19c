"""Rivals of a fit: poses that a reference is mistaken for, polished beside the best."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import (
    Fit,
    best_fits,
    concatenate_fits,
    fit_at,
    fit_poses,
    gauss_newton,
    rank_fits,
)
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.map_symmetry import rotations_about
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.symmetry import Symmetry

_STEPS = 4
_WORTH_NATS = 15.0
"""How much worse a rival may match before it is polished."""


def fit_modes(reference: Reference, model: ForwardModel, observed: Tensor, fits: list[Fit]) -> list[Fit]:
    """Fits of the same patches, best first, polished where they are not far worse than the best."""
    log_likelihood_gain = torch.stack([fit.log_likelihood_gain for fit in fits], dim=1)
    row, rival = (log_likelihood_gain >= log_likelihood_gain[:, :1] - _WORTH_NATS).nonzero(as_tuple=True)
    stacked = concatenate_fits(fits).take(rival * len(observed) + row)
    fit = fit_poses(reference, model, observed[row], rotations=stacked.rotations, shifts=stacked.shifts, steps=_STEPS)
    rows = rank_fits(fit.log_likelihood_gain, row, len(fits))
    return [fit.take(column) for column in rows.unbind(1)]


def with_half_step(
    reference: Reference, model: ForwardModel, observed: Tensor, fits: list[Fit], *, group: Symmetry, steps: int
) -> list[Fit]:
    """Fits of the same patches, best first, and among them the best turned by half a step about the main axis.

    Rings of subunits that are nearly alike match nearly as well there: the search may have taken one for the other, and
    the noise may leave both. Without symmetry the fits stay as they are.

    Parameters
    ----------
    steps : of polishing, where half a step is not far worse before it.
    """
    if len(group) == 1:
        return fits
    best = fits[0]
    rival = fit_at(reference, model, observed, best.rotations @ _half_step(group).to(best.rotations), best.shifts)
    rows = (rival.log_likelihood_gain >= best.log_likelihood_gain - _WORTH_NATS).nonzero().squeeze(1)
    if len(rows):
        rival = rival.with_rows(rows, gauss_newton(reference, model, observed[rows], rival.take(rows), steps=steps))
    return best_fits([*fits, rival], len(fits) + 1)


def _half_step(group: Symmetry) -> Tensor:
    """Half of the least turn about the group's main axis that leaves the reference as it is, (3, 3)."""
    axis = group.main_axis
    folds = np.isclose(group.matrices @ axis, axis, atol=1e-6).all(axis=1).sum()
    return torch.from_numpy(rotations_about(axis, 180 / folds)[0])

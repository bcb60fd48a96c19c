"""How far the log-likelihood of a tomogram's fits is to be trusted, told by what the fits leave of each other.

Particles that stick out of the tomogram: how much of each is unseen, and what that costs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, design_matrix
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import Extent, FloatArray, evenly_spaced_rows
from napari_orient.engine.streams import Note

TYPICAL_LIKELIHOOD_SCALE = 1.3
"""Of simulated ribosomes and proteasomes in PolNet's crowds, 1.2 to 1.5."""
_SAMPLE, _BATCH = 64, 16
_USUAL_COUNTS = 12
"""Particles that what is usual counts for, beside a tomogram's own."""
_LEAST, _MOST = 0.5, 3.0


@torch.no_grad()
def estimate_likelihood_scale(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> float:
    """What log-likelihoods are to be multiplied by, 1 where noise is stationary, normal, and as strong as believed.

    Noise is measured all over a patch. It holds neighbours, which keep out of where the particle itself is: there it is
    weaker, and turns and shifts are surer than the Cramér-Rao bound says. What the fits leave of the *other* particles,
    seen along a particle's own derivatives, is what noise there is where a particle stands, whatever its colour and
    place. From its second moment J and the information H the covariance of turn and shift is H⁻¹ J H⁻¹ (White 1982,
    Econometrica 50:1). The trust is the trace of the turn's variance by the bound over this one's, the median over some
    of the particles; that fits take a little of the noise with them is allowed for. A few particles tell little, and
    are drawn to what is usual.

    Parameters
    ----------
    observed : (N, 2, M) as the model observes them, of particles of one tomogram.
    fit : the poses fitted to them.
    """
    some = torch.as_tensor(evenly_spaced_rows(len(observed), _SAMPLE), device=observed.device)
    count = len(some)
    if count < 2:
        return TYPICAL_LIKELIHOOD_SCALE
    rows = [
        design_matrix(reference, model, observed[part], fit.rotations[part], fit.shifts[part])
        for part in some.split(_BATCH)
    ]
    taken, left = (torch.cat(column) for column in zip(*map(_parted, rows), strict=True))
    places = torch.arange(count, device=observed.device).split(_BATCH)
    own = torch.cat([_own(part, taken, left, place) for part, place in zip(rows, places, strict=True)])
    own = own[own.isfinite()].clamp(_LEAST, _MOST)
    seen = float(own.median()) if len(own) else TYPICAL_LIKELIHOOD_SCALE
    return (count * seen + _USUAL_COUNTS * TYPICAL_LIKELIHOOD_SCALE) / (count + _USUAL_COUNTS)


def _parted(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of each patch: orthogonal directions that its fit takes, (B, 7, 2 M), and what it leaves, (B, 2 M)."""
    taken = torch.linalg.qr(rows[:, :7].mT).Q.mT
    patch = rows[:, 7]
    return taken, patch - ((taken @ patch[:, :, None]).mT @ taken)[:, 0]


def _own(rows: Tensor, taken: Tensor, left: Tensor, place: Tensor) -> Tensor:
    """Variance of the turn by the bound, over that by what is left of the other particles, (B,)."""
    predicted, slopes = rows[:, :1], rows[:, 1:7]
    slopes = slopes - (slopes @ predicted.mT) / predicted.square().sum(2, keepdim=True).clamp_min(1e-12) * predicted
    others = torch.ones(len(rows), len(left), device=left.device).scatter_(1, place[:, None], 0.0) / (len(left) - 1)
    chance = slopes @ left.T
    moment = (chance * others[:, None]) @ chance.mT
    lost = slopes @ taken.flatten(0, 1).T
    information = slopes @ slopes.mT
    shown = information - (lost * others.repeat_interleave(taken.shape[1], dim=1)[:, None]) @ lost.mT
    floor = 1e-6 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))
    bound = torch.linalg.inv(information + floor)
    turn = [(bound @ part @ bound)[:, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1) for part in (shown, moment)]
    ratio: Tensor = turn[0] / turn[1]
    return ratio


MAX_TRUNCATED_SHARE = 0.25
"""Of a particle of which more is unseen, the pose tells nothing."""
_COST_DEG = 24.0
"""Error per share unseen: the fit takes what lies outside for empty. Measured on particles cut off at their sides."""


def truncated_share(positions: FloatArray, extent: Extent, radius: float) -> FloatArray:
    """Share of the volume of balls about positions (N, 3), xyz in Å, that lies beyond the tomogram's faces, (N,)."""
    far = (np.asarray(extent.size) - 1) * extent.voxel_size
    rim = extent.voxel_size / 2
    inside = np.concatenate([positions + rim, far + rim - positions], axis=1) / radius
    inside = inside.clip(-1, 1)
    caps = (1 - inside) ** 2 * (2 + inside) / 4
    share: FloatArray = caps.sum(axis=1).clip(max=1)
    return share


def truncation_error_deg(unseen: FloatArray) -> FloatArray:
    """Root-mean-square error of the rotation, degrees, that shares unseen (N,) add to what the noise leaves."""
    return _COST_DEG * unseen


def truncation_warnings(unseen: FloatArray) -> tuple[Note, ...]:
    """A warning where poses mean nothing for what is unseen."""
    count = int((unseen > MAX_TRUNCATED_SHARE).sum())
    if count == 0:
        return ()
    which = "1 particle lies" if count == 1 else f"{count} particles lie"
    text = f"{which} more than a quarter outside the tomogram: no pose can be told, and the expected error says so."
    return (Note(text, "warning"),)

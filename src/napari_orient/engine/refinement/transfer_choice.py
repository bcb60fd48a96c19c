"""Choice of the transfer: how the tomogram was corrected for its CTF, by profile likelihood.

Every hypothesis is a shape of the gain, c(k) exp(-B k²). Some patches, centred, are compared with the reference in many
rotations, shell by shell of frequency: the score of any hypothesis is then a sum over shells, so that hundreds of them
cost hardly more than one. Its likelihood is that of each patch's best rotation; the noise is the same for all. What the
best of many rotations reaches in noise alone depends on the shape as well, and is subtracted: it is measured on the
same patches with their phases randomised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.search import asymmetric_rotations
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.parameters import CTFOptions
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

MOST_PATCHES = 24
"""Patches that the hypotheses are compared on, at most."""
_ROTATIONS = 1000
"""Rotations that each patch is compared with: 18° apart."""
_RESOLUTION = 36.0
"""Å, finest detail that is compared: finer detail of the reference does not fit in the nearest of these rotations."""
_DEFOCUS_UM = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
"""Values of defocus that are tried where it is unknown."""
_DECAYS = (0.0, 500.0, 1000.0, 2000.0, 3500.0, 6000.0)
"""Å², values of B."""
_LEAST_NATS = 8.0
"""Log-likelihood of these patches by which another hypothesis must be better than the smooth gain."""
_LEAST_ERRORS = 1.5
"""Standard errors of the mean over patches by which it must be better."""
_PHASE_SEED = 0
"""Seed of the random phases, so that the same patches always give the same choice."""
_BATCH = 100
"""Rotations compared together; bounds memory only."""


def series_with_ctf(geometry: TiltGeometry, options: CTFOptions) -> TiltSeries | None:
    """The tilt series with the defocus and the optics that the options give; None where there are no tilts."""
    if geometry.wedge.complete:
        return None
    series = geometry.series or geometry.wedge.as_series()
    given = {
        "voltage_kv": options.voltage,
        "spherical_aberration_mm": options.spherical_aberration,
        "amplitude_contrast": options.amplitude_contrast,
    }
    optics = replace(series.optics, **{name: value for name, value in given.items() if value is not None})
    series = replace(series, optics=optics)
    return series if options.defocus is None else series.with_defocus(options.defocus)


def candidate_transfers(geometry: TiltGeometry, options: CTFOptions) -> tuple[Transfer, ...]:
    """The hypotheses that the options leave, first of all the smooth gain where it is among them.

    Where the defocus is unknown, each kind of correction that it matters to is tried with several, of which only the
    rise to the first maximum is used: in a simulated tomogram of 2 µm the signs beyond a wrong guess cost 2.3 for 1.4°.
    """
    series, chosen = series_with_ctf(geometry, options), options.ctf_correction
    if series is None:
        return (Transfer(),)
    known = series.defocus_um is not None
    series_of_kind = [series] if known else [series.with_defocus(value) for value in _DEFOCUS_UM]
    found = [Transfer("wiener", series)] if chosen in ("auto", "wiener") else []
    for kind in ("none", "flipped", "premultiplied"):
        # Up to its first maximum, a CTF is that of flipped phases.
        if chosen == kind or (chosen == "auto" and (known or kind != "flipped")):
            found += [Transfer(kind, item, rise_only=not known) for item in series_of_kind]
    return tuple(found)


@dataclass(frozen=True, eq=False)
class CentredPatches:
    """Some patches, observed about their particles through a model whose gain is 1.

    Parameters
    ----------
    model : its whitening is of the noise, with the sign of the particles' contrast.
    observed : (N, 2, M).
    noise : (M,) power of the noise.
    """

    model: ForwardModel
    observed: Tensor
    noise: Tensor

    def and_random_phases(self) -> CentredPatches:
        """The patches, and then the same with the phase of every coefficient drawn anew; always the same phases."""
        generator = torch.Generator().manual_seed(_PHASE_SEED)
        drawn = torch.rand(self.observed[:, 0].shape, generator=generator).to(self.observed.device)
        size = torch.hypot(self.observed[:, 0], self.observed[:, 1])
        values = torch.view_as_real(torch.polar(size, 2 * torch.pi * drawn)).movedim(-1, 1)
        return replace(self, observed=torch.cat([self.observed, values]))


def choose_transfer(
    patches: CentredPatches, reference: Reference, group: Symmetry, candidates: Sequence[Transfer]
) -> Transfer:
    """The hypothesis of greatest likelihood; the first where none is clearly better."""
    gains = _gains_by_decay(patches.and_random_phases(), reference, group, candidates)
    gains, of_random_phases = (_at_best_decay(part) for part in gains.chunk(2, dim=1))
    gains = gains - of_random_phases
    best = int(gains.sum(1).argmax())
    better = gains[best] - gains[0]
    error = float(better.std()) / len(better) ** 0.5 if len(better) > 1 else 0.0
    clear = float(better.sum()) > _LEAST_NATS and float(better.mean()) > _LEAST_ERRORS * error
    return candidates[best if clear else 0]


def _at_best_decay(gains: Tensor) -> Tensor:
    """Gains (K, N) of each hypothesis at the decay (K, N, D) at which all patches together gain most."""
    chosen = gains.sum(1).argmax(1)
    return gains[torch.arange(len(gains)), :, chosen]


def _gains_by_decay(
    patches: CentredPatches, reference: Reference, group: Symmetry, candidates: Sequence[Transfer]
) -> Tensor:
    """Gain in log-likelihood over no particle of each hypothesis, in each patch, at each decay, (K, N, D)."""
    count = int((patches.model.frequency.norm(dim=1) <= 1 / _RESOLUTION).sum())
    model, observed = patches.model.lowest(count), patches.observed[..., :count]
    spacing = 1 / (model.box * model.voxel_size)
    rotations = torch.as_tensor(asymmetric_rotations(_ROTATIONS, group), dtype=torch.float32, device=observed.device)
    shell = (model.frequency.norm(dim=1) / spacing).round().long()
    shell = torch.unique(shell, return_inverse=True)[1]
    members = torch.nn.functional.one_hot(shell).float()
    share = members / members.sum(0)
    decay = torch.exp(-torch.tensor(_DECAYS, device=shell.device)[:, None] * (model.frequency.norm(dim=1) @ share) ** 2)
    shapes = [item.shape(model.frequency, patches.noise[:count], spacing) for item in candidates]
    best = observed.new_zeros(len(candidates), len(observed), len(_DECAYS))
    shells = [(shell == number).nonzero().squeeze(1) for number in range(len(members.T))]
    shaped = [None if item.radial else observed * shape for item, shape in zip(candidates, shapes, strict=True)]
    for part in rotations.split(_BATCH):
        rotated = reference.sample(model.frequency @ part).movedim(-1, 1) * model.whitened_gain
        power = rotated.square().sum(1)
        in_shells = _products(observed, rotated, shells), power @ members
        for row, (own, shape) in enumerate(zip(shaped, shapes, strict=True)):
            # A shape that is alike all over a shell needs no sum over its coefficients of its own.
            weight = decay * (shape @ share) if own is None else decay
            match, norm = in_shells
            if own is not None:
                match, norm = _products(own, rotated, shells), power * shape.square() @ members
            score = (match @ weight.T) / (norm @ weight.square().T).clamp_min(1e-12).sqrt()
            best[row] = torch.maximum(best[row], score.clamp_min(0).amax(1))
    return best.square() / 2


def _products(observed: Tensor, rotated: Tensor, shells: Sequence[Tensor]) -> Tensor:
    """Inner products of patches (N, 2, M) with rotations (J, 2, M) over the coefficients of each shell, (N, J, S)."""
    parts = [observed[..., own].flatten(1) @ rotated[..., own].flatten(1).T for own in shells]
    return torch.stack(parts, dim=-1)

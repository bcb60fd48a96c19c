"""Training of the mixture network on patches that are simulated anew for each epoch, in conditions drawn at random.

The proposer's loss is the negative log-likelihood of the true pose under its mixture; that of the refiner is the
negative log-likelihood of the residual pose, and the cross-entropy of its verdict. When both are trained, the refiner
goes on alone, with the poses that prediction reaches: those are the wrong ones that it must distinguish from the right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_orient.engine.errors import InputError
from napari_orient.engine.networks.mixture import PoseMixture, Poses6D
from napari_orient.engine.networks.network import Network
from napari_orient.engine.networks.tomogram_input import estimate_whitening, patches_of
from napari_orient.engine.parameters import MixtureOptions, SimulatedTrainingOptions
from napari_orient.engine.particles import Labelled
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.simulation.patches import Condition, PatchSimulator, centred, random_condition
from napari_orient.engine.statistics.error_calibration import ErrorCalibration, fit_by_spread
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import Template, bead_models, load_template
from napari_orient.engine.training.network import Epoch, TrainingState, cycle_rate, kept, kept_moments, load_moments

_COMPONENT_VIEWS = 3000
"""Simulated views that the principal components are found from; the last of them hold 0.01 % of the power."""
_VALIDATION = 6
"""Conditions of the patches that each epoch is validated with."""
_VALIDATION_SEED = 987_654
"""Keeps the validation's conditions apart from those of every epoch."""
_CALIBRATION = 40
"""Conditions of the patches that probabilities and errors are calibrated with, when training is over."""
_CALIBRATION_SEED = 876_543
"""Keeps the calibration's conditions apart from all others."""
_RIGHT_DEG = 30.0
"""Degrees from the truth within which a pose counts as right in the calibration; the rest are at other maxima."""
_SURE = 0.9
"""Probability from which a pose counts as sure in the figures."""
_ENOUGH = 50
"""Right poses from which the expected error is calibrated; chosen."""
_RIDGE = 0.1
"""Weight of the prior on the logistic regression, in patches; chosen, far below the hundreds that there are."""
_NEWTON_STEPS = 30
"""Steps of the logistic regression; chosen, more than convergence needs."""
_LEAST_FILL = 0.5
"""Least reach of a map over the radius of the mask; chosen: a small particle in a large mask is lost in noise."""
_MOST_FILL = 1.2
"""Largest reach of a map over the radius of the mask; chosen."""
_RISE = 0.1
"""Share of the steps in which the learning rate of one cycle (Smith 2017) rises; chosen."""
_LEAST_RATE = 1e-3
"""Share of the highest learning rate that is left at either end of the cycle; chosen."""
_REACH_DEG = 75.0
"""Degrees: frames further from the particle's rotation answer nothing; the cube's rotations reach 62.8°."""
_LOG_UNIFORM = -math.log(8 * math.pi**2)
"""Logarithm of the uniform density on rotations, by the volume of rotation vectors in radians."""
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
"""Of the normal density's logarithm, for each axis."""
_NEAR_DEG = 30.0
"""Degrees: a hypothesis so near is right, and one beyond 45° is wrong; of those between nothing is learnt."""
_FAR_DEG = 45.0
"""Degrees; see above."""
_NEAR_SHIFT = 30.0
"""Å, for a mask of 130 Å: a hypothesis whose shift is so near is right."""
_FAR_SHIFT = 60.0
"""Å, for a mask of 130 Å: beyond it is wrong."""
_PERTURBED = 2
"""Hypotheses near the truth, of each patch, that the refiner learns from."""
_PROPOSED = 2
"""Hypotheses of the proposer, of each patch, that the refiner learns from."""
_REACHED = 6
"""Hypotheses of each patch, after one round of refinement, that the refiner learns from in the end."""
_EXCLUDED = 1e4
"""Log-odds that leave a hypothesis out of a sum of exponentials."""
_LATER_RATE = 0.5
"""Highest learning rate of the refiner alone over that of both; chosen."""
_REFINED = 0.5
"""Share of each batch that the refiner learns from: it needs fewer patches than the proposer."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Whitened half-spectra of simulated patches, and the truth."""

    spectra: Tensor
    rotations: Tensor
    shifts: Tensor
    right: Tensor

    def __len__(self) -> int:
        return len(self.spectra)

    def take(self, rows: Tensor) -> Pool:
        """The patches of these rows."""
        return Pool(self.spectra[rows], self.rotations[rows], self.shifts[rows], self.right[rows])

    def to(self, device: torch.device) -> Pool:
        """The same on another device."""
        names = ("spectra", "rotations", "shifts", "right")
        return Pool(*(getattr(self, name).to(device) for name in names))


def simulate_pool(
    simulator: PatchSimulator, conditions: list[Condition], count: int, rng: np.random.Generator
) -> Iterator[Pool]:
    """Patches of each condition, whitened by what a random number of them have in common."""
    for condition in conditions:
        found = simulator.simulate(condition, count, rng)
        some = int(rng.integers(1, count + 1)) if rng.random() < 0.5 else count
        whitening = estimate_whitening(found.cubes[:some], simulator.options)
        yield Pool(whitening.apply(found.cubes), found.rotations, found.shifts, found.right)


def joined_pools(pools: list[Pool]) -> Pool:
    """All patches of several pools."""
    names = ("spectra", "rotations", "shifts", "right")
    return Pool(*(torch.cat([getattr(pool, name) for pool in pools]) for name in names))


def fit_components(network: PoseMixture, simulator: PatchSimulator, rng: np.random.Generator, *, views: int) -> None:
    """Set the bases of both view networks to the principal components of simulated views without noise."""
    proposed, refined = [], []
    per = 32
    for _ in range(math.ceil(views / per)):
        condition = random_condition(rng)
        found = simulator.simulate(condition, per, rng, clean=True)
        whitening = estimate_whitening(found.cubes, simulator.options)
        assert found.clean is not None
        # Windowed with its noise, a patch keeps its scale: the particle is what the noise alone lacks.
        spectra = whitening.apply(found.cubes) - whitening.apply(found.cubes - found.clean)
        spectra = spectra / spectra.abs().square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
        spectra, shifts, rotations = spectra[found.right], found.shifts[found.right], found.rotations[found.right]
        centres = shifts + 12 * network.options.scale * _normal(rng, *shifts.shape)
        centres = torch.where(torch.from_numpy(rng.random((len(shifts), 1)) < 0.5), centres, 0 * centres)
        near = (network.frames[None] * rotations[:, None]).sum((2, 3)).argmax(1)
        proposed.append(network.rotated_views(spectra, centres)[torch.arange(len(spectra)), near])
        poses = perturbed(rotations, shifts, 1, rng, scale=network.options.scale)
        refined.append(network.posed_views(network.fine_cubes(spectra), *poses)[:, 0])
    for part, views_of_it in ((network.proposer, proposed), (network.refiner, refined)):
        part.basis.copy_(principal_components(torch.cat(views_of_it), part.basis.shape[1]))


def principal_components(rows: Tensor, count: int) -> Tensor:
    """Orthonormal columns (F, count) that hold most of the power of rows (N, F)."""
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    basis = rows.T @ vectors[:, -count:].flip(1)
    columns: Tensor = torch.linalg.qr(basis)[0]
    return columns


def perturbed(
    rotations: Tensor, shifts: Tensor, count: int, rng: np.random.Generator, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Poses (N, count) near true ones: off by 2° to 20°, and by 3 Å to 15 Å times the scale, along each axis."""
    shape = (len(rotations), count, 1)
    degrees, angstrom = (np.exp(rng.uniform(np.log(low), np.log(high), shape)) for low, high in ((2, 20), (3, 15)))
    rotvecs = (_normal(rng, *shape[:2], 3) * torch.from_numpy(np.radians(degrees)).float()).to(rotations)
    moves = (_normal(rng, *shape[:2], 3) * torch.from_numpy(scale * angstrom).float()).to(shifts)
    return rotations[:, None] @ rotvec_to_matrix(rotvecs), shifts[:, None] + moves


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Normal numbers of deviation 1."""
    return torch.from_numpy(rng.normal(size=shape)).float()


def residual(group: Tensor, frames: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (N, H, 3, 3) from each frame (N or 1, H, 3, 3) to the nearest copy of its truth (N, 3, 3), and angle."""
    between = frames.transpose(-1, -2) @ rotations[:, None]
    copies = between[..., None, :, :] @ group
    trace = copies.diagonal(dim1=-2, dim2=-1).sum(-1)
    best = trace.argmax(-1)
    nearest = copies.gather(2, best[..., None, None, None].expand(*best.shape, 1, 3, 3))[:, :, 0]
    angle = torch.acos(((trace.amax(-1) - 1) / 2).clamp(-1, 1))
    return nearest, angle


def proposer_loss(network: PoseMixture, batch: Pool, rng: np.random.Generator) -> tuple[Tensor, Poses6D]:
    """Negative log-likelihood of the true poses under the proposed mixture, and the proposals."""
    count = len(batch)
    scale = network.options.scale
    near = batch.shifts + 10 * scale * _normal(rng, count, 3).to(batch.shifts)
    known = torch.from_numpy(rng.random((count, 1)) < 0.5).to(near.device)
    centres = torch.where(known, near, torch.zeros_like(near))
    with torch.autocast(near.device.type, dtype=torch.bfloat16):
        features = network.proposer.features(network.rotated_views(batch.spectra, centres))
        rotation, shift, logit, sigma = network.proposer(features)
    truth, angle = residual(network.group, network.frames[None], batch.rotations)
    error = (rotation - truth).square().sum((-1, -2)) / 2
    log_density = -error / (2 * sigma.square()) - 3 * torch.log(sigma) - 3 * _HALF_LOG_2PI
    log_weight = nn.functional.pad(logit, (0, 1)).log_softmax(1)
    likelihood = torch.cat([log_weight[:, :-1] + log_density, log_weight[:, -1:] + _LOG_UNIFORM], dim=1).logsumexp(1)
    loss = -torch.where(batch.right, likelihood, log_weight[:, -1] + _LOG_UNIFORM).mean()
    share = (torch.cos(angle) - math.cos(math.radians(_REACH_DEG))).clamp_min(0) * batch.right[:, None]
    share = share / share.sum().clamp_min(1e-6)
    moved = torch.einsum("kji,nkj->nki", network.frames, (batch.shifts - centres)[:, None].expand(-1, 24, -1))
    off = nn.functional.huber_loss((shift - moved) / (15 * scale), torch.zeros_like(shift), reduction="none").sum(-1)
    loss = loss + (share * (2 * error + off)).sum()
    with torch.no_grad():
        shifts = torch.einsum("kij,nkj->nki", network.frames, shift) + centres[:, None]
        found = Poses6D(network.frames @ rotation, shifts, logit, sigma)
    return loss, found


def refiner_loss(network: PoseMixture, batch: Pool, rotations: Tensor, shifts: Tensor, *, rank: bool = False) -> Tensor:
    """Loss of the refiner on hypotheses (N, H, 3, 3) and (N, H, 3) of each patch.

    Those near the truth teach the residual pose, with its deviation; all but those between near and far teach the
    verdict. ``rank`` adds the cross-entropy of choosing a right one among the hypotheses of its patch.
    """
    scale = network.options.scale
    views = network.posed_views(network.fine_cubes(batch.spectra), rotations, shifts)
    with torch.autocast(views.device.type, dtype=torch.bfloat16):
        rotation, shift, logit, sigma = network.refiner(network.refiner.features(views))
    truth, angle = residual(network.group, rotations, batch.rotations)
    moved = torch.einsum("nhji,nhj->nhi", rotations, batch.shifts[:, None] - shifts)
    angle, distance = torch.rad2deg(angle), moved.norm(dim=-1)
    right = batch.right[:, None] & (angle < _NEAR_DEG) & (distance < _NEAR_SHIFT * scale)
    wrong = ~batch.right[:, None] | (angle > _FAR_DEG) | (distance > _FAR_SHIFT * scale)
    error = (rotation - truth).square().sum((-1, -2)) / 2
    off = nn.functional.huber_loss((shift - moved) / (10 * scale), torch.zeros_like(shift), reduction="none").sum(-1)
    each = error / (2 * sigma.square()) + 3 * torch.log(sigma) + off
    of_pose: Tensor = (each * right).sum() / right.sum().clamp_min(1)
    verdict = nn.functional.binary_cross_entropy_with_logits(logit, right.float(), reduction="none")
    decided = right | wrong
    loss: Tensor = of_pose + 2 * (verdict * decided).sum() / decided.sum().clamp_min(1)
    return loss + _ranking_loss(logit, right, wrong) if rank else loss


def _ranking_loss(logit: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Cross-entropy of choosing a right hypothesis, over the patches (N, H) that have both."""
    both = right.any(1) & wrong.any(1)
    of_right = torch.where(right, logit, -_EXCLUDED)[both].logsumexp(1)
    of_all = torch.where(right | wrong, logit, -_EXCLUDED)[both].logsumexp(1)
    loss: Tensor = (of_all - of_right).sum() / both.sum().clamp_min(1)
    return loss


def first_hypotheses(
    batch: Pool, proposals: Poses6D, rng: np.random.Generator, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Poses that the refiner learns from at first: near the truth, and the best of the proposer."""
    rotations, shifts = perturbed(batch.rotations, batch.shifts, _PERTURBED, rng, scale=scale)
    best = proposals.take(proposals.logit.topk(_PROPOSED, dim=1).indices)
    return torch.cat([rotations, best.rotations], dim=1), torch.cat([shifts, best.shifts], dim=1)


@torch.no_grad()
def later_hypotheses(network: PoseMixture, batch: Pool, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Poses that the refiner learns from later: those that prediction reaches after one round, and near the truth."""
    rotations, shifts = perturbed(batch.rotations, batch.shifts, 1, rng, scale=network.options.scale)
    with torch.autocast(batch.spectra.device.type, dtype=torch.bfloat16):
        proposals = network.proposals(batch.spectra)
        reached = network.hypotheses(batch.spectra, rounds=(_REACHED,), proposals=proposals)
    some = proposals.take(
        torch.from_numpy(rng.integers(proposals.logit.shape[1], size=(len(batch), 1))).to(shifts.device)
    )
    parts = (some, reached)
    rotations = torch.cat([rotations, *(part.rotations.float() for part in parts)], dim=1)
    return rotations, torch.cat([shifts, *(part.shifts.float() for part in parts)], dim=1)


class SimulatedRun:
    """The training of one mixture network, from its first epoch or from a state on.

    Parameters
    ----------
    network : trained in place, on its device; its components are fitted before the first epoch.
    validation : labelled patches to validate with; None simulates some.
    name, card : of the network that comes of it.
    """

    def __init__(
        self,
        network: PoseMixture,
        simulator: PatchSimulator,
        options: SimulatedTrainingOptions,
        *,
        validation: Pool | None = None,
        name: str,
        card: Mapping[str, Any],
    ) -> None:
        self.network, self.simulator, self.options = network, simulator, options
        self.validation = validation
        self.device = network.frames.device
        self.name, self.card = name, dict(card)
        self.optimiser = self._optimiser(network)

    @property
    def total(self) -> int:
        """Epochs of both networks, and then of the refiner alone."""
        return self.options.epochs + self.options.refiner_epochs

    def epochs(self, state: TrainingState | None) -> Stream[Step, Network]:
        """The network after all epochs, from the first or from a state on; yields Steps and Epochs."""
        yield Step(0, self.total, "Finding the principal components of simulated views")
        if state is None:
            rng = np.random.default_rng([self.options.seed, 0])
            self.network.cpu()
            fit_components(self.network, self.simulator, rng, views=_COMPONENT_VIEWS)
            self.network.to(self.device)
        else:
            self._restore(state)
        validation = self.validation or joined_pools(list(self._simulated(_VALIDATION_SEED, _VALIDATION)))
        for epoch in range(0 if state is None else state.epoch, self.total):
            words = f"Training on simulated patches: epoch {epoch + 1}"
            if epoch == self.options.epochs:
                self.optimiser = self._optimiser(self.network.refiner)
            pools = []
            for pool in self._simulated(epoch + 1, self.options.conditions):
                pools.append(pool)
                yield Step(epoch, self.total, words)
            losses = []
            for loss in self._steps(epoch, joined_pools(pools)):
                losses.append(loss)
                yield Step(epoch, self.total, words)
            yield (found := self._epoch(epoch + 1, validation, losses))
            state = found.state
        if state is None:
            raise InputError("training had no epoch to run; expected at least one.")
        yield Step(self.total, self.total, "Calibrating probabilities and expected errors")
        drawn = joined_pools(list(self._simulated(_CALIBRATION_SEED, _CALIBRATION)))
        figures = {**state.best.card["figures"], **calibrate(self.network, drawn)}
        return Network.of(self.network, name=self.name, card={**self.card, "figures": figures})

    def _optimiser(self, part: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(part.parameters(), lr=self.options.rate, fused=True)

    def _simulated(self, seed: int, conditions: int) -> Iterator[Pool]:
        rng = np.random.default_rng([self.options.seed, seed])
        drawn = [random_condition(rng) for _ in range(conditions)]
        return simulate_pool(self.simulator, drawn, self.options.patches, rng)

    def _steps(self, epoch: int, pool: Pool) -> Iterator[float]:
        """The losses of an epoch's steps. All that is random comes from the seed and the epoch's number."""
        rng = np.random.default_rng([self.options.seed, epoch + 1, 1])
        self.network.train()
        later = epoch >= self.options.epochs
        passes, batch = (1, self.options.batch // 2) if later else (self.options.passes, self.options.batch)
        first, total = (self.options.epochs, self.options.refiner_epochs) if later else (0, self.options.epochs)
        count = passes * math.ceil(len(pool) / batch)
        number = 0
        for _ in range(passes):
            for rows in torch.from_numpy(rng.permutation(len(pool))).split(batch):
                done = (epoch - first + number / count) / total
                for group in self.optimiser.param_groups:
                    group["lr"] = self.options.rate * cycle_rate(done) * (_LATER_RATE if later else 1)
                yield self._step(pool.take(rows).to(self.device), rng, later=later)
                number += 1

    def _step(self, batch: Pool, rng: np.random.Generator, *, later: bool) -> float:
        if later:
            loss = refiner_loss(self.network, batch, *later_hypotheses(self.network, batch, rng), rank=True)
        else:
            loss, proposals = proposer_loss(self.network, batch, rng)
            rows = torch.arange(math.ceil(len(batch) * _REFINED))
            scale = self.network.options.scale
            some = batch.take(rows)
            loss = loss + refiner_loss(
                self.network, some, *first_hypotheses(some, proposals.of(rows), rng, scale=scale)
            )
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        trained = [weights for group in self.optimiser.param_groups for weights in group["params"]]
        nn.utils.clip_grad_norm_(trained, self.options.clip)
        self.optimiser.step()
        return float(loss.detach())

    def _epoch(self, epoch: int, validation: Pool, losses: list[float]) -> Epoch:
        angles = errors_deg(self.network, validation)
        median, mean = float(angles.median()), float(angles.mean())
        within = float((angles <= 20).float().mean())
        figures = {
            "epoch": epoch,
            "validation_median_deg": median,
            "validation_mean_deg": mean,
            "validation_within_20": within,
        }
        found = Network.of(self.network, name=self.name, card={**self.card, "figures": figures})
        return Epoch(
            epoch,
            self.total,
            f"Training on simulated patches: epoch {epoch}, loss {np.mean(losses):.3f}, validation median "
            f"{median:.2f}°, {within:.1%} within 20°",
            median,
            mean,
            found,
            training_loss=float(np.mean(losses)),
            validation_loss=mean,
            state=TrainingState(epoch, kept(self.network.state_dict()), kept_moments(self.optimiser), found, mean),
        )

    def _restore(self, state: TrainingState) -> None:
        self.network.load_state_dict(state.last)
        if state.epoch == self.options.epochs:
            return
        if state.epoch > self.options.epochs:
            self.optimiser = self._optimiser(self.network.refiner)
        load_moments(self.optimiser, state.moments)


@torch.inference_mode()
def errors_deg(network: PoseMixture, pool: Pool, *, batch: int = 64) -> Tensor:
    """Errors (K,) in degrees, modulo the symmetry, of the patches that hold the particle."""
    network.eval()
    angles = []
    for rows in torch.arange(len(pool)).split(batch):
        part = pool.take(rows).to(network.frames.device)
        rotations = network.best(part.spectra).rotations
        angles.append(residual(network.group, rotations[:, None], part.rotations)[1][:, 0].cpu())
    return torch.rad2deg(torch.cat(angles))[pool.right]


@torch.inference_mode()
def calibrate(network: PoseMixture, pool: Pool, *, batch: int = 64) -> dict[str, float]:
    """Set the network's calibration from simulated patches that it did not learn from; figures of them.

    The probability of a right pose is a logistic function of the log-odds (Platt 1999); the expected squared error of a
    right pose is a line in its predicted variance.
    """
    network.eval()
    device = network.frames.device
    found = [network.best(pool.spectra[rows].to(device)) for rows in torch.arange(len(pool)).split(batch)]
    rotations, log_odds, predicted = (
        torch.cat([getattr(item, name) for item in found]).cpu() for name in ("rotations", "log_odds", "error_deg")
    )
    errors = torch.rad2deg(residual(network.group.cpu(), rotations[:, None], pool.rotations)[1][:, 0])
    right = pool.right & (errors <= _RIGHT_DEG)
    slope, offset = logistic_regression(log_odds.double(), right.double())
    line = ErrorCalibration(0.0, 1.0)
    if int(right.sum()) >= _ENOUGH:
        line = fit_by_spread(errors[right].double().numpy(), predicted[right].double().numpy())
    network.calibration.copy_(torch.tensor([slope, offset, line.floor, line.factor]))
    probability = torch.sigmoid(slope * log_odds + offset)
    sure = probability > _SURE
    return {
        "simulated": float(pool.right.sum()),
        "simulated_within_20": float((errors[pool.right] <= 20).float().mean()),
        "simulated_median_deg": float(errors[pool.right].median()),
        "simulated_sure": float(sure.float().mean()),
        "simulated_wrong_of_sure": float((~right[sure]).float().mean()),
    }


def logistic_regression(values: Tensor, right: Tensor) -> tuple[float, float]:
    """Slope and offset of the log-odds that N values are right (0 or 1), by Newton's method.

    A weak prior, of slope 1 and offset 0, holds them where all are right, or none.
    """
    design = torch.stack([values, torch.ones_like(values)], dim=1)
    prior = values.new_tensor([1.0, 0.0])
    weight = prior
    for _ in range(_NEWTON_STEPS):
        probability = torch.sigmoid(design @ weight)
        gradient = design.T @ (right - probability) - _RIDGE * (weight - prior)
        hessian = (design * (probability * (1 - probability))[:, None]).T @ design
        weight = weight + torch.linalg.solve(hessian + _RIDGE * torch.eye(2, dtype=values.dtype), gradient)
    return float(weight[0]), float(weight[1])


# --- from a map or labelled particles -----------------------------------------------------------------------------


def train_on_simulations(
    template: Template,
    validation: Labelled,
    mixture_options: MixtureOptions,
    options: SimulatedTrainingOptions,
    *,
    resume: TrainingState | None,
    name: str,
    card: Mapping[str, Any],
) -> Stream[Step, Network]:
    """The mixture network of a map; labelled particles validate it where there are some, else simulated ones.

    Raises
    ------
    InputError
        If the map does not fit the network's mask.
    """
    if mixture_options.symmetry == "C1" and template.symmetry is not None:
        mixture_options = mixture_options.replace(symmetry=template.symmetry)
    check_size(template, mixture_options)
    rng = np.random.default_rng(options.seed)
    yield Step(0, options.epochs, "Drawing surroundings")
    others = [load_template(code) for code in bead_models() if not template.name.endswith(code)]
    simulator = PatchSimulator(template, others, mixture_options, rng)
    network = PoseMixture(mixture_options, generator=torch.Generator().manual_seed(options.seed))
    pools = list(labelled_pools(validation, network))
    run = SimulatedRun(
        network.to(options.compute.chosen()),
        simulator,
        options,
        validation=joined_pools(pools) if pools else None,
        name=name,
        card=card,
    )
    return (yield from run.epochs(resume))


def check_size(template: Template, options: MixtureOptions) -> None:
    """Check that a map fits the mask of a network.

    Raises
    ------
    InputError
        If it reaches much further, or less far: with the options that fit.
    """
    density, _ = centred(template)
    reach = len(density) / 2 * template.voxel_size - 3 * template.voxel_size
    if _LEAST_FILL * options.mask_radius <= reach <= _MOST_FILL * options.mask_radius:
        return
    raise InputError(
        f"{template.name} reaches {reach:.0f} Å from its centre of mass, the network's mask {options.mask_radius:g} Å. "
        f"Give --mask-radius {reach:.0f} --patch-voxel-size {reach / 13:.2g} --network-resolution {reach / 4.3:.2g}."
    )


def labelled_pools(labelled: Labelled, network: PoseMixture) -> Iterator[Pool]:
    """Whitened patches of each tomogram's labelled particles, which are taken to be darker than their surroundings."""
    for tomogram, particles in labelled:
        patches = -patches_of(tomogram, particles.positions, network, centring="rounded")
        whitening = estimate_whitening(patches, network.options, tomogram_voxel_size=tomogram.voxel_size)
        rotations = torch.from_numpy(particles.required_rotations()).float()
        count = len(particles)
        yield Pool(whitening.apply(patches), rotations, torch.zeros(count, 3), torch.ones(count, dtype=torch.bool))

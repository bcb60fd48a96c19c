"""Training of a network: steps of the optimiser, validation, the best so far, and how to resume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_orient.engine.devices import device_batch_size
from napari_orient.engine.errors import InputError
from napari_orient.engine.model_files import NETWORK, ModelFile, read_tensors, write_tensors
from napari_orient.engine.networks.mlp import HALF_TURN_MATRICES, MLP, shift_cubes
from napari_orient.engine.networks.network import Network
from napari_orient.engine.parameters import TrainingOptions
from napari_orient.engine.statistics.error_calibration import fit_by_spread
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.training.examples import Examples, ExampleSet
from napari_orient.engine.training.ranks import ALONE, Ranks
from napari_orient.engine.training.validation import Milestone, ValidationErrors

_VALIDATION_BATCH = 64
"""Cubes that pass through the network together in validation on a CPU: memory and speed alone. 1,445 cubes of 40³ take
0.5 s, 1.0 in batches of 512."""
_STEPS_A_REPORT = 16
"""Steps of the optimiser between two reports of progress: some tenths of a second on a CPU."""
_SEED_STRIDE = 100_003
"""Keeps the seeds of epochs apart: below so many epochs, no seed's epoch has the generator of another seed's."""
_RISE = 0.2
"""Share of the steps in which the learning rate of one cycle (Smith 2017) rises; chosen."""
_LEAST_RATE = 1e-3
"""Share of the highest learning rate that is left at either end of the cycle; chosen."""
_STEPS_TO_HIGHEST = 400
"""Steps of a cycle from which its rate reaches the highest; of fewer it rises so fast that training diverges."""
_HUBER_DELTA = 0.5
"""Raw outputs, which lie in (-1, 1), weigh linearly where they are further off than this."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Where training stands after an epoch, enough to go on to the same end, to the bit on one device.

    Parameters
    ----------
    epoch : how many are done.
    last : weights by name.
    moments : the optimiser's, by parameter and name.
    best, best_error : the best network so far, and its mean validation error in degrees.
    """

    epoch: int
    last: dict[str, Tensor]
    moments: dict[str, Tensor]
    best: Network
    best_error: float

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, to be resumed from."""
        best = self.best.to_file()
        groups = {"last": self.last, "moments": self.moments, "best": dict(best.tensors)}
        tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
        record = {"name": best.name, "kind": best.kind, "options": dict(best.options), "card": dict(best.card)}
        write_tensors(path, tensors, {"training": self.epoch, "best": record, "best_error": self.best_error})

    @classmethod
    def load(cls, path: Path | str) -> TrainingState:
        """The state that `save` wrote.

        Raises
        ------
        InputError
            If the file is no such state.
        """
        tensors, record = read_tensors(Path(path))
        if "training" not in record:
            raise InputError(
                f"{path} holds no state of training; expected the .resume file that train leaves when stopped."
            )

        def group(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

        try:
            entries = {name: record["best"][name] for name in ("name", "options", "card")}
            best = Network.from_file(ModelFile(**entries, kind=NETWORK, tensors=group("best")))
            _ = best.card["figures"]
            return cls(int(record["training"]), group("last"), group("moments"), best, float(record["best_error"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged_state(path) from error


def _damaged_state(path: Path | str) -> InputError:
    return InputError(f"{path} is a damaged state of training. Remove it, and train anew without --resume.")


@dataclass(frozen=True)
class Epoch(Milestone):
    """An epoch of a network's training, done: its losses too, and the state to resume from."""

    training_loss: float
    validation_loss: float
    state: TrainingState


class TrainingRun:
    """The training of one network, from its first epoch or from a state on.

    Parameters
    ----------
    mlp : trained in place.
    examples, validation : on the network's device.
    name, card : of the network that comes of it.
    ranks : this process among those that train the network together.
    """

    def __init__(
        self,
        mlp: MLP,
        options: TrainingOptions,
        examples: ExampleSet,
        validation: ExampleSet,
        *,
        name: str,
        card: dict[str, Any],
        ranks: Ranks = ALONE,
    ) -> None:
        self.mlp, self.options, self.examples, self.validation = mlp, options, examples, validation
        self.name, self.card = name, card
        self.device, self.ranks = examples.device, ranks
        self.parallel = ranks.parallel(mlp)
        self.group = symmetry(mlp.options.symmetry)
        # One pass over the weights a step: fourteen times as quick on a CPU, where the first layer's weights are most.
        self.optimiser = torch.optim.Adam(
            mlp.parameters(),
            lr=options.rate,
            weight_decay=options.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.per_epoch = math.ceil(len(examples) / options.batch)
        self.total = options.epochs_for(len(examples))

    def epochs(self, state: TrainingState | None, *, words: str) -> Stream[Step, Network]:
        """The best network after all epochs, from the first or from a state on; yields Steps and Epochs."""
        if state is not None:
            state = self._restored(state)
        total = self.total
        for epoch in range(0 if state is None else state.epoch, total):
            yield Step(epoch, total, f"{words}: epoch {epoch + 1}")
            losses = []
            for loss in self._steps(epoch):
                losses.append(loss)
                if len(losses) % _STEPS_A_REPORT == 0:
                    yield Step(epoch, total, f"{words}: epoch {epoch + 1}")
            errors, validation_loss = self._validate()
            state = self._state(epoch + 1, state, errors)
            yield Epoch(
                epoch + 1,
                total,
                f"{words}: epoch {epoch + 1}, validation median {errors.median_deg:.2f}°",
                errors.median_deg,
                errors.mean_deg,
                state.best,
                training_loss=float(torch.stack(losses).mean()),
                validation_loss=validation_loss,
                state=state,
            )
        if state is None:
            raise InputError("training had no epoch to run; expected at least one.")
        return state.best

    def _steps(self, epoch: int) -> Iterator[Tensor]:
        """The losses of an epoch's steps. All that is random comes from the seed and the epoch's number."""
        generator = torch.Generator(self.device).manual_seed(self.options.seed * _SEED_STRIDE + epoch)
        order = torch.randperm(len(self.examples), generator=generator, device=self.device)
        self.mlp.train()
        parts = torch.split(order, self.options.batch)
        shares = [self.ranks.share(len(rows), self.device) for rows in parts]
        batches = self.examples.batches([rows[own] for rows, (own, _) in zip(parts, shares, strict=True)])
        for index, (rows, (own, weight), batch) in enumerate(zip(parts, shares, batches, strict=True)):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate(epoch * self.per_epoch + index)
            features, rotations = self._augmented(batch, own, len(rows), generator)
            raw = self.parallel(features, generator=generator, own=own, total=len(rows))
            loss = self._loss(raw, rotations) * weight
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.mlp.parameters(), self.options.clip)
            self.optimiser.step()
            yield self.ranks.mean(loss.detach())

    def _rate(self, step: int) -> float:
        """Learning rate of a step: constant, or of one cycle, the lower the fewer steps it has."""
        if self.options.schedule == "constant":
            return self.options.rate
        steps = self.total * self.per_epoch
        return self.options.rate * min(1.0, steps / _STEPS_TO_HIGHEST) * cycle_rate(step / steps)

    def _augmented(self, batch: Examples, own: Tensor, total: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features and rotations of examples, shifted and half-turned: the rows ``own`` of a batch of ``total``."""
        cubes, rotations = batch.cubes, batch.rotations
        if self.options.shift > 0:
            reach = self.options.shift / self._cube_voxel_size()
            uniform = torch.rand((total, 3), generator=generator, device=self.device)[own]
            cubes = shift_cubes(cubes, (2 * uniform - 1) * reach)
        if not self.options.half_turns:
            return self.mlp.features(cubes), rotations
        turns = torch.randint(4, (total,), generator=generator, device=self.device)[own]
        return self.mlp.features(cubes, turns), HALF_TURN_MATRICES.to(self.device)[turns] @ rotations

    def _cube_voxel_size(self) -> float:
        return self.mlp.patch_voxel_size * self.mlp.patch_side / self.examples.side

    def _loss(self, raw: Tensor, rotations: Tensor) -> Tensor:
        """Mean over the batch of the least loss over the symmetric copies of each true rotation."""
        copies = rotations[:, None] @ self.mlp.group
        target = self.mlp.representation.from_matrix(copies)
        output = raw[:, None].expand_as(target)
        if self.options.loss == "squared":
            each = (output - target).square()
        else:
            each = nn.functional.huber_loss(output, target, reduction="none", delta=_HUBER_DELTA)
        return each.mean(-1).amin(1).mean()

    def _validate(self) -> tuple[ValidationErrors, float]:
        """Errors and half-turn spreads of the validation particles, and their mean loss."""
        self.mlp.eval()
        averaged, batch = self.mlp.averaged(), device_batch_size(self.device, _VALIDATION_BATCH)
        means, spreads, losses, trues = [], [], [], []
        with torch.inference_mode():
            for rows in torch.split(torch.arange(len(self.validation), device=self.device), batch):
                part = self.validation.take(rows)
                true = part.rotations
                trues.append(true)
                raw = averaged.raw(part.cubes)
                mean, spread = averaged.mean_of(raw)
                means.append(mean)
                spreads.append(spread)
                losses.append(self._loss(raw[0], true) * len(rows))
        predicted = torch.cat(means).double().cpu().numpy()
        errors = symmetric_angle_deg(predicted, torch.cat(trues).double().cpu().numpy(), self.group)
        loss = float(torch.stack(losses).sum()) / len(self.validation)
        return ValidationErrors(errors, torch.cat(spreads).double().cpu().numpy()), loss

    def _state(self, epoch: int, state: TrainingState | None, errors: ValidationErrors) -> TrainingState:
        best, best_error = (state.best, state.best_error) if state else (None, math.inf)
        if best is None or errors.mean_deg < best_error:
            line = fit_by_spread(errors.errors_deg, errors.predicted_deg)
            self.mlp.calibration.copy_(torch.tensor([line.floor, line.factor]))
            figures = {"epoch": epoch, **errors.figures()}
            best = Network.of(self.mlp, name=self.name, card={**self.card, "figures": figures})
            best_error = errors.mean_deg
        return TrainingState(epoch, kept(self.mlp.state_dict()), kept_moments(self.optimiser), best, best_error)

    def _restored(self, state: TrainingState) -> TrainingState:
        """The state, its weights and moments loaded, its best network with this run's card."""
        try:
            self.mlp.load_state_dict(state.last)
        except RuntimeError as error:
            raise InputError(
                "the state to resume from is of another network; give the options that it was started with."
            ) from error
        if not all(bool(parameter.isfinite().all()) for parameter in self.mlp.parameters()):
            raise _damaged_state("the state to resume from")
        try:
            load_moments(self.optimiser, state.moments)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged_state("the state to resume from") from error
        card = {**self.card, "figures": state.best.card["figures"]}
        return replace(state, best=replace(state.best, card=card))


def cycle_rate(done: float) -> float:
    """Learning rate over the highest after a share of the steps: up, then down along cosines (Smith 2017)."""
    rise = done / _RISE if done < _RISE else (1 - done) / (1 - _RISE)
    return max(0.5 * (1 - math.cos(math.pi * rise)), _LEAST_RATE)


def kept(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of weights, which further steps leave as they are."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def kept_moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of an optimiser's moments, by the number of the parameter and by name."""
    state = optimiser.state_dict()["state"]
    return kept({f"{index}/{name}": value for index, own in state.items() for name, value in own.items()})


def load_moments(optimiser: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Give an optimiser the moments that `kept_moments` copied.

    Raises
    ------
    KeyError, TypeError, ValueError
        If they are of other parameters.
    """
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        index, name = key.split("/")
        entries.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    _check_moments(entries, [weights for group in optimiser.param_groups for weights in group["params"]])
    optimiser.load_state_dict({"state": entries, "param_groups": groups})


def _check_moments(entries: dict[int, dict[str, Tensor]], parameters: list[Tensor]) -> None:
    """Check that there are moments of each parameter's shape.

    Raises
    ------
    ValueError
        If one is missing, or of another shape.
    """
    for index, parameter in enumerate(parameters):
        own = entries[index]
        if own["step"].dim() or any(own[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError(f"moments of parameter {index} have another shape")

"""One network's way through its epochs: steps of the optimiser, validation, the best so far, and how to go on later."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_orient.engine.errors import InputError
from napari_orient.engine.networks.checkpoint import Checkpoint, load_tensors, save_tensors
from napari_orient.engine.networks.mlp import HALF_TURN_MATRICES, MLPNetwork, shift_cubes
from napari_orient.engine.outputs import replacing
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.training.examples import Examples
from napari_orient.engine.training.options import TrainingOptions


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Where training stands after an epoch, enough to go on to the same end, to the bit on one device.

    ``last`` holds the weights and ``moments`` the optimiser's; ``best`` the checkpoint and ``best_error`` its error.
    """

    epoch: int
    last: dict[str, Tensor]
    moments: dict[str, Tensor]
    best: Checkpoint
    best_error: float

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, to be resumed from."""
        groups = {"last": self.last, "moments": self.moments, "best": dict(self.best.tensors)}
        tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
        best = {
            "name": self.best.name,
            "kind": self.best.kind,
            "options": dict(self.best.options),
            "card": dict(self.best.card),
        }
        with replacing(path) as beside:
            save_tensors(beside, tensors, {"training": self.epoch, "best": best, "best_error": self.best_error})

    @classmethod
    def load(cls, path: Path | str) -> TrainingState:
        """The state that `save` wrote.

        Raises
        ------
        InputError
            If the file is no such state.
        """
        tensors, record = load_tensors(Path(path))
        if "training" not in record:
            raise InputError(
                f"{path} holds no state of training; expected the .resume file that train leaves when stopped."
            )

        def group(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

        best = Checkpoint(**record["best"], tensors=group("best"))
        return cls(record["training"], group("last"), group("moments"), best, record["best_error"])


@dataclass(frozen=True)
class Milestone(Step):
    """A stretch of training that was judged: median and mean validation error in degrees, the best checkpoint so far.

    Whatever kind of network is trained, its stream yields these, so that Stop loses nothing.
    """

    validation_median_deg: float
    validation_mean_deg: float
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Epoch(Milestone):
    """A finished epoch of a network's training: its losses too, and the state to go on from."""

    training_loss: float
    validation_loss: float
    state: TrainingState


class Course:
    """One network's way through its epochs."""

    def __init__(
        self,
        network: MLPNetwork,
        options: TrainingOptions,
        learnt: Examples,
        judged: Examples,
        *,
        name: str,
        card: dict[str, Any],
    ) -> None:
        self.network, self.options, self.learnt, self.judged = network, options, learnt, judged
        self.name, self.card = name, card
        self.device = learnt.cubes.device
        self.group = symmetry(network.options.symmetry)
        # One pass over the weights a step: fourteen times as quick on a CPU, where the first layer's weights are most.
        self.optimiser = torch.optim.Adam(
            network.parameters(),
            lr=options.rate,
            weight_decay=options.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.per_epoch = math.ceil(len(learnt) / options.batch)
        _keep_freed_memory()

    def epochs(self, state: TrainingState | None, *, words: str) -> Stream[Step, Checkpoint]:
        """The best checkpoint after all epochs, from the first or from a state on; yields Steps and Epochs."""
        if state is not None:
            state = self._restored(state)
        total = self.options.epochs
        for epoch in range(0 if state is None else state.epoch, total):
            yield Step(epoch, total, f"{words}: epoch {epoch + 1}")
            losses = []
            for loss in self._steps(epoch):
                losses.append(loss)
                if len(losses) % 16 == 0:
                    yield Step(epoch, total, f"{words}: epoch {epoch + 1}")
            judged = self._judge()
            state = self._state(epoch + 1, state, judged)
            message = f"{words}: epoch {epoch + 1}, validation median {judged.median:.2f}°"
            training_loss = float(torch.stack(losses).mean())
            yield Epoch(
                epoch + 1, total, message, judged.median, judged.mean, state.best, training_loss, judged.loss, state
            )
        if state is None:
            raise InputError("training had no epoch to run; expected at least one.")
        return state.best

    def _steps(self, epoch: int) -> Iterator[Tensor]:
        """The losses of an epoch's steps. All that is random comes from the seed and the epoch's number."""
        generator = torch.Generator(self.device).manual_seed(self.options.seed * 100_003 + epoch)
        order = torch.randperm(len(self.learnt), generator=generator, device=self.device)
        self.network.train()
        for index, rows in enumerate(torch.split(order, self.options.batch)):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate(epoch * self.per_epoch + index)
            features, rotations = self._augmented(rows, generator)
            loss = self._loss(self.network(features, generator=generator), rotations)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
            self.optimiser.step()
            yield loss.detach()

    def _rate(self, step: int) -> float:
        """Learning rate: constant, or up over a fifth of the steps and down to nothing along cosines (Smith 2017)."""
        if self.options.schedule == "constant":
            return self.options.rate
        done = step / (self.options.epochs * self.per_epoch)
        rise = done / 0.2 if done < 0.2 else (1 - done) / 0.8
        return self.options.rate * max(0.5 * (1 - math.cos(math.pi * rise)), 1e-3)

    def _augmented(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = self.learnt.take(rows)
        cubes, rotations = drawn.cubes, drawn.rotations
        if self.options.shift > 0:
            reach = self.options.shift / self._cube_voxel_size()
            uniform = torch.rand((len(rows), 3), generator=generator, device=self.device)
            cubes = shift_cubes(cubes, (2 * uniform - 1) * reach)
        if not self.options.half_turns:
            return self.network.features(cubes), rotations
        turns = torch.randint(4, (len(rows),), generator=generator, device=self.device)
        return self.network.features(cubes, turns), HALF_TURN_MATRICES.to(self.device)[turns] @ rotations

    def _cube_voxel_size(self) -> float:
        return self.network.patch_voxel_size * self.network.patch_side / self.learnt.cubes.shape[-1]

    def _loss(self, raw: Tensor, rotations: Tensor) -> Tensor:
        """Mean over the batch of the least loss over the symmetric copies of each true rotation."""
        copies = rotations[:, None] @ self.network.group
        target = self.network.representation.from_matrix(copies)
        told = raw[:, None].expand_as(target)
        if self.options.loss == "squared":
            each = (told - target).square()
        else:
            each = nn.functional.huber_loss(told, target, reduction="none", delta=0.5)
        return each.mean(-1).amin(1).mean()

    def _judge(self) -> _Judged:
        self.network.eval()
        means, spreads, losses = [], [], []
        with torch.inference_mode():
            for rows in torch.split(torch.arange(len(self.judged), device=self.device), 512):
                cubes, true = self.judged.cubes[rows], self.judged.rotations[rows]
                mean, spread = self.network.mean_and_spread(cubes)
                means.append(mean)
                spreads.append(spread)
                losses.append(self._loss(self.network(self.network.features(cubes)), true) * len(rows))
        mine = torch.cat(means).double().cpu().numpy()
        errors = symmetric_angle_deg(mine, self.judged.rotations.double().cpu().numpy(), self.group)
        loss = float(torch.stack(losses).sum()) / len(self.judged)
        return _Judged(loss, errors, torch.cat(spreads).double().cpu().numpy())

    def _state(self, epoch: int, state: TrainingState | None, judged: _Judged) -> TrainingState:
        best, best_error = (state.best, state.best_error) if state else (None, math.inf)
        if best is None or judged.mean < best_error:
            self.network.calibration.copy_(torch.tensor(calibration(judged.errors, judged.spreads)))
            figures = {"epoch": epoch, "validation_median_deg": judged.median, "validation_mean_deg": judged.mean}
            best = Checkpoint.of(self.network, name=self.name, card={**self.card, "figures": figures})
            best_error = judged.mean
        last = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        return TrainingState(epoch, last, self._moments(), best, best_error)

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{index}/{name}": value.detach().cpu().clone()
            for index, entries in self.optimiser.state_dict()["state"].items()
            for name, value in entries.items()
        }

    def _restored(self, state: TrainingState) -> TrainingState:
        """Go on from a state: its weights and moments taken up; its best so far told of as made by this course."""
        try:
            self.network.load_state_dict(state.last)
        except RuntimeError as error:
            raise InputError(
                "the state to resume from is of another network; give the options that it was started with."
            ) from error
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in state.moments.items():
            index, name = key.split("/")
            entries.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": entries, "param_groups": groups})
        card = {**self.card, "figures": state.best.card["figures"]}
        return replace(state, best=replace(state.best, card=card))


def _keep_freed_memory() -> None:
    """Nothing; but glibc learns from one freed block of nearly 32 MiB to keep smaller ones for the next step.

    Else it gives each step's batch and gradients back to the kernel, and a quarter of the time goes into getting their
    pages anew.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Validation: the loss, and every particle's error and half-turn spread in degrees."""

    loss: float
    errors: np.ndarray
    spreads: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.errors.mean())

    @property
    def median(self) -> float:
        return float(np.median(self.errors))


def calibration(errors_deg: np.ndarray, spreads_deg: np.ndarray) -> tuple[float, float]:
    """(floor in deg², factor) with ``expected error² = floor + factor · spread²``, neither below 0.

    Particles are taken in twelve groups of like spread, and the line goes through the groups' mean squares by least
    relative error, so that a few lost particles do not set it for all.
    """
    from scipy.optimize import nnls

    order = np.argsort(spreads_deg)
    groups = [rows for rows in np.array_split(order, 12) if len(rows)]
    squares = np.array([[np.mean(spreads_deg[rows] ** 2), np.mean(errors_deg[rows] ** 2)] for rows in groups])
    squares = np.maximum(squares, 1e-6)
    design = np.stack([np.ones(len(squares)), squares[:, 0]], axis=1) / squares[:, 1:]
    solution = nnls(design, np.ones(len(squares)))[0]
    return float(solution[0]), float(solution[1])

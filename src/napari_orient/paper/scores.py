"""Scores of networks: shares within both thresholds called 20°, R² of raw outputs, neighbours, resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from napari_orient.engine.evaluation import chance
from napari_orient.engine.networks.mlp import MLP, HalfTurnAverage
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import PAPER_20_DEG
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import Symmetry, axis_angle_deg, nearest_copy, symmetric_angle_deg
from napari_orient.engine.training.examples import Examples
from napari_orient.paper.stages import Record

THRESHOLDS = {"20": 20.0, "24.56": PAPER_20_DEG, "10": 10.0, "5": 5.0}
"""Degrees by their names in records; 24.56° is what the paper's released code counts as 20°."""

RESOLUTIONS = (60.0, 40.0, 30.0, 20.0, 15.0, 10.0)
"""Å that angular steps are compared with."""

_BATCH = 256
"""Patches that pass through a network together: 65 MB of raw patches."""

_DRAWS = 300
"""Bootstrap samples of tomograms: the standard error itself to about 4 %."""


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Output of a network for N patches.

    ``raw`` (N, size) are its last layer's numbers; ``single`` (N, 3, 3) the rotations of these; ``averaged`` (N, 3, 3)
    the mean over the four copies of each patch by half-turns.
    """

    raw: Tensor
    single: FloatArray
    averaged: FloatArray


def predict_examples(network: MLP, examples: Examples, *, words: str) -> Stream[Step, NetworkOutput]:
    """Raw outputs and rotations of a network for every example; a step for each batch."""
    network.eval()
    device, averaged = next(network.parameters()).device, network.averaged()
    parts = []
    for rows in torch.arange(len(examples)).split(_BATCH):
        yield Step(int(rows[0]), len(examples), words)
        parts.append(_network_output(averaged, examples.cubes.index_select(0, rows).to(device)))
    raw, single, mean = (torch.cat(column) for column in zip(*parts, strict=True))
    return NetworkOutput(raw, single.double().numpy(), mean.double().numpy())


@torch.inference_mode()
def _network_output(averaged: HalfTurnAverage, cubes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    raw = averaged.raw(cubes)
    single = averaged.mlp.representation.to_matrix(raw[0])
    mean, _ = averaged.mean_of(raw)
    return raw[0].cpu(), single.cpu(), mean.cpu()


def raw_outputs(network: MLP, examples: Examples, *, words: str) -> Stream[Step, Tensor]:
    """Numbers of the last layer, (N, size), not yet rotations; a step for each batch."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for rows in torch.arange(len(examples)).split(_BATCH):
        yield Step(int(rows[0]), len(examples), words)
        with torch.inference_mode():
            parts.append(network(network.features(examples.cubes.index_select(0, rows).to(device))).cpu())
    return torch.cat(parts)


def raw_r_squared(network: MLP, raw: Tensor, rotations: Tensor) -> float:
    """R² of raw outputs (N, size) against the representation of the true rotations (N, 3, 3), components pooled.

    Of the symmetric copies of a true rotation, the one with the nearest raw numbers counts. This is the paper's R²: of
    the numbers before they become rotations, about one mean of all components.
    """
    copies = network.representation.from_matrix(rotations.double()[:, None] @ network.group.double().cpu())
    distance = (raw.double()[:, None] - copies).square().sum(-1)
    nearest = distance.argmin(1)
    target = copies[torch.arange(len(copies)), nearest]
    spread = float((target - target.mean()).square().sum())
    return 1 - float(distance.amin(1).sum()) / spread if spread > 0 else math.nan


# --- shares and errors ----------------------------------------------------------------------------------------------


def scored(rotations: FloatArray, truth: Particles, group: Symmetry) -> Record:
    """Median, mean and shares within each threshold, with standard errors by bootstrap over tomograms."""
    errors = symmetric_angle_deg(rotations, truth.required_rotations(), group)
    draws = _drawn_tomograms(errors, np.asarray(truth.tomogram))
    record: Record = {
        "count": len(errors),
        "median_deg": float(np.median(errors)),
        "mean_deg": float(errors.mean()),
        "median_error": float(np.std([np.median(draw) for draw in draws])),
        "within": {name: float(np.mean(errors <= angle)) for name, angle in THRESHOLDS.items()},
        "within_error": {name: _share_error(errors, draws, angle) for name, angle in THRESHOLDS.items()},
    }
    if len(group) > 1:
        axis, azimuth = axis_and_azimuth_deg(rotations, truth.required_rotations(), group)
        record |= {"axis_median_deg": float(np.median(axis)), "spin_median_deg": float(np.median(azimuth))}
    return record


def _share_error(errors: FloatArray, draws: list[FloatArray], angle: float) -> float:
    """Standard error of the share within an angle: that between tomograms, and at least the binomial one."""
    count = len(errors)
    share = (np.count_nonzero(errors <= angle) + 1) / (count + 2)
    between = float(np.std([np.mean(draw <= angle) for draw in draws]))
    return max(between, math.sqrt(share * (1 - share) / count))


def _drawn_tomograms(errors: FloatArray, names: np.ndarray) -> list[FloatArray]:
    """Errors of as many tomograms drawn with replacement, many times: a bootstrap by tomogram."""
    rng = np.random.default_rng(0)
    groups = [errors[names == name] for name in dict.fromkeys(names.tolist())]
    return [np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]) for _ in range(_DRAWS)]


def axis_and_azimuth_deg(first: FloatArray, second: FloatArray, group: Symmetry) -> tuple[FloatArray, FloatArray]:
    """Angle between the main axes, and remaining rotation about the axis between nearest copies, (N,) degrees each."""
    between = np.swapaxes(nearest_copy(first, second, group), -1, -2) @ second
    quaternion = Rotation.from_matrix(between).as_quat()
    along = np.abs(quaternion[:, :3] @ group.main_axis)
    azimuth: FloatArray = np.degrees(2 * np.arctan2(along, np.abs(quaternion[:, 3])))
    return axis_angle_deg(first, second, group), azimuth


def chance_by_threshold(group: Symmetry) -> dict[str, float]:
    """Probability that a random rotation is within each threshold."""
    return {name: chance(angle, group) for name, angle in THRESHOLDS.items()}


def by_neighbour(errors: FloatArray, distance: FloatArray, *, groups: int = 6) -> list[Record]:
    """Median error and share within 20° of particles in groups by the distance (Å) to their nearest neighbour."""
    finite = np.flatnonzero(np.isfinite(distance))
    rows = []
    for part in np.array_split(finite[np.argsort(distance[finite])], groups):
        if len(part):
            share = float(np.mean(errors[part] <= 20))
            rows.append(
                {
                    "from_angst": float(distance[part].min()),
                    "to_angst": float(distance[part].max()),
                    "count": len(part),
                    "median_deg": float(np.median(errors[part])),
                    "within_20": share,
                    "within_20_error": math.sqrt(share * (1 - share) / len(part)),
                }
            )
    return rows


def crowther(errors: FloatArray, diameter: float) -> list[dict[str, Any]]:
    """Angular step that each resolution needs for a particle of this diameter (Å), and the share of errors within it.

    Crowther et al., "The reconstruction of a three-dimensional structure from projections", Proc. R. Soc. 1970:
    features at radius D / 2 are resolved to d when directions are d / D apart.
    """
    steps = [(resolution, math.degrees(resolution / diameter)) for resolution in RESOLUTIONS]
    return [
        {"resolution_angst": resolution, "step_deg": step, "within": float(np.mean(errors <= step))}
        for resolution, step in steps
    ]


def resolution_allowed(median_deg: float, diameter: float) -> float:
    """Resolution in Å to which the median error blurs a particle of this diameter (Å), by the same rule."""
    return math.radians(median_deg) * diameter

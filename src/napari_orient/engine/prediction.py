"""Prediction: the rotation of every particle of a tomogram, as a stream of batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_orient.engine.networks import Answer, Checkpoint, Network, choose_device, device_words
from napari_orient.engine.networks.contract import DEVICES
from napari_orient.engine.particles import Particles, Tomogram, check_inside
from napari_orient.engine.patches import CENTRINGS, cut_patches
from napari_orient.engine.rotations import within_from_rms
from napari_orient.engine.tasks import InputError, Options, Step, Stream, option


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(Options):
    """How to predict."""

    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)
    batch: int = option(64, help="patches predicted at once", low=1, high=4096)
    centring: str = option(
        "rounded",
        help="subvoxel: interpolate so that the pick is centred; rounded: to the nearest voxel",
        choices=CENTRINGS,
    )


def predict(
    tomogram: Tomogram,
    particles: Particles,
    checkpoint: Checkpoint,
    options: PredictionOptions = PredictionOptions(),
) -> Stream[Step, Particles]:
    """The same particles with rotations, confidence and expected error; a step for each batch.

    Memory stays flat: patches are cut and dropped batch by batch. Where the network was never calibrated,
    confidence and expected error stay unknown.

    Raises
    ------
    InputError
        If there are no particles, some lie outside the tomogram, patches are larger than it, or the device is missing.
    """
    if len(particles) == 0:
        raise InputError(
            "there are no particles to predict; expected at least one pick. Pick some, or check the class."
        )
    check_inside(particles, tomogram.extent, name=tomogram.name)
    device = choose_device(options.device)
    network = checkpoint.network(device)
    words = f"Predicting on {device_words(device)}"
    yield Step(0, len(particles), words)
    answers = []
    for start in range(0, len(particles), options.batch):
        positions = particles.positions[start : start + options.batch]
        answers.append(_answer(network, tomogram, positions, options=options, device=device))
        yield Step(min(start + options.batch, len(particles)), len(particles), words)
    return _filled(particles, answers)


def provenance(checkpoint: Checkpoint, options: PredictionOptions = PredictionOptions()) -> str:
    """Where predicted poses come from, in one line for the head of a file: program, network, what it learnt, options.

    Both doors write this line; it holds no date and no device, so that the same poses give the same bytes.
    """
    from napari_orient import __version__

    learnt = f", data {checkpoint.card['fingerprint']}" if "fingerprint" in checkpoint.card else ""
    return f"napari-orient {__version__}: predicted by {checkpoint.name}{learnt}; picks {options.centring}"


def _answer(
    network: Network, tomogram: Tomogram, positions: np.ndarray, *, options: PredictionOptions, device: torch.device
) -> Answer:
    patches = cut_patches(
        tomogram, positions, side=network.patch_side, voxel_size=network.patch_voxel_size, centring=options.centring
    )
    return network.answer(torch.from_numpy(patches).to(device))


def _filled(particles: Particles, answers: list[Answer]) -> Particles:
    rotations = torch.cat([answer.rotations for answer in answers]).double().cpu().numpy()
    errors = [answer.expected_error_deg for answer in answers if answer.expected_error_deg is not None]
    shifts = [answer.shifts for answer in answers if answer.shifts is not None]
    moved = torch.cat(shifts).double().cpu().numpy() if shifts else 0.0
    expected = torch.cat(errors).double().cpu().numpy() if errors else None
    return particles.replace(
        positions=particles.positions + moved,
        rotations=rotations,
        expected_error_deg=expected,
        confidence=None if expected is None else within_from_rms(expected, 20),
    )

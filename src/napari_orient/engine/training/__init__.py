"""Training: tomograms with known particles in, a checkpoint out, the best so far in every epoch."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from napari_orient.engine.networks import Checkpoint, MLPNetwork, NetworkOptions, choose_device, device_words
from napari_orient.engine.particles import check_inside
from napari_orient.engine.tasks import InputError, Step, Stream
from napari_orient.engine.training.course import Course, Epoch, TrainingState
from napari_orient.engine.training.examples import Labelled, cut_examples, fingerprint, split
from napari_orient.engine.training.keeping import checkpoint_places, kept
from napari_orient.engine.training.options import PAPER_TRAINING, PRESETS, TrainingOptions

__all__ = [
    "PAPER_TRAINING",
    "PRESETS",
    "Epoch",
    "Labelled",
    "TrainingOptions",
    "TrainingState",
    "checkpoint_places",
    "fingerprint",
    "kept",
    "split",
    "train",
]


def train(
    labelled: Labelled,
    network_options: NetworkOptions,
    options: TrainingOptions,
    *,
    name: str = "trained",
    resume: TrainingState | None = None,
) -> Stream[Step, Checkpoint]:
    """The checkpoint with the least mean validation error.

    Yields Steps within an epoch and an Epoch, which carries the best checkpoint so far, at the end of each. Tomograms
    are split, never patches; a lone tomogram is split at a plane across x. The validation part also calibrates the
    expected error.

    Raises
    ------
    InputError
        If there are too few particles, they are of several classes, rotations are unknown, particles lie outside
        their tomograms, the device is not there, or the resumed state belongs to another network.
    """
    labelled = [(tomogram, particles) for tomogram, particles in labelled if len(particles)]
    _check(labelled)
    device = choose_device(options.device)
    training, validation = split(labelled, share=options.validation, seed=options.seed)
    network = MLPNetwork(network_options, generator=torch.Generator().manual_seed(options.seed)).to(device)
    learnt = yield from cut_examples(network, training, words="Cutting training patches")
    judged = yield from cut_examples(network, validation, words="Cutting validation patches")
    card = _card(labelled, options, training=len(learnt), validation=len(judged))
    course = Course(network, options, learnt.to(device), judged.to(device), name=name, card=card)
    return (yield from course.epochs(resume, words=f"Training on {device_words(device)}"))


def _check(labelled: Labelled) -> None:
    count = sum(len(particles) for _, particles in labelled)
    if count < 20:
        raise InputError(
            f"{count} particles with orientations were given; expected at least 20 to learn from. Give more data."
        )
    kinds = _kinds(labelled)
    if len(kinds) > 1:
        raise InputError(f"the data hold the classes {', '.join(kinds)}; a network learns one. Choose it (--class).")
    for tomogram, particles in labelled:
        particles.known_rotations()
        check_inside(particles, tomogram.extent, name=tomogram.name)


def _card(labelled: Labelled, options: TrainingOptions, *, training: int, validation: int) -> dict[str, Any]:
    return {
        "version": version("napari-orient"),
        "training": options.to_record(),
        "tomograms": len(labelled),
        "particles": {"training": training, "validation": validation},
        "classes": _kinds(labelled),
        "fingerprint": fingerprint(labelled),
    }


def _kinds(labelled: Labelled) -> list[str]:
    return sorted({str(kind) for _, part in labelled if part.kind is not None for kind in part.kind})

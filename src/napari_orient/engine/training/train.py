"""Training: tomograms with known particles in, a checkpoint out, the best so far in every epoch."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch

from napari_orient.engine.devices import choose_device, device_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.networks.checkpoint import Checkpoint
from napari_orient.engine.networks.mlp import MLPNetwork
from napari_orient.engine.networks.options import NetworkOptions
from napari_orient.engine.networks.reference_map import BankNetworkOptions, ReferenceMap
from napari_orient.engine.options import Options
from napari_orient.engine.particles import Labelled, check_inside
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.training.bank import judge_template, learn_bank
from napari_orient.engine.training.course import Course, TrainingState
from napari_orient.engine.training.examples import cut_examples, fingerprint, split
from napari_orient.engine.training.options import (
    BankTrainingOptions,
    TrainingOptions,
)


def train(
    labelled: Labelled,
    network_options: NetworkOptions | BankNetworkOptions,
    options: TrainingOptions | BankTrainingOptions,
    *,
    name: str = "trained",
    resume: TrainingState | None = None,
    template: ReferenceMap | None = None,
) -> Stream[Step, Checkpoint]:
    """The checkpoint with the least mean validation error, of the kind that the options ask for.

    The one call for any network: a pair of options from `NETWORKS` says which (``NetworkOptions`` with
    ``TrainingOptions``, or ``BankNetworkOptions`` with ``BankTrainingOptions``). Yields Steps, and a Milestone, which
    carries the best checkpoint so far, whenever a network was judged: for an mlp at the end of each epoch (an Epoch,
    with the state to resume from), for a bank after each reference. Tomograms are split, never patches; a lone
    tomogram is split at a plane across x. The validation part also calibrates the expected error.

    Parameters
    ----------
    template : a map for a bank to match with as it is; then no labels are needed, and those given are all used to judge
        and calibrate by.

    Raises
    ------
    InputError
        If there are too few particles, they are of several classes, rotations are unknown, particles lie outside
        their tomograms, the device is not there, the two options do not belong together, or the state to resume from
        belongs to another network.
    """
    labelled = [(tomogram, particles) for tomogram, particles in labelled if len(particles)]
    if labelled or template is None:
        _check(labelled)
    device = choose_device(options.device)
    if template is not None:
        card = _card(labelled, options, training=0, validation=_count(labelled))
        card["fingerprint"] = sha256(template.density.tobytes()).hexdigest()[:16]
        return (yield from judge_template(template, labelled, name=name, card=card, device=options.device))
    training, validation = split(labelled, share=options.validation, seed=options.seed)
    if isinstance(network_options, BankNetworkOptions) and isinstance(options, BankTrainingOptions):
        if resume is not None:
            raise InputError("a bank's training starts anew each time; leave --resume out.")
        card = _card(labelled, options, training=_count(training), validation=_count(validation))
        return (yield from learn_bank(training, validation, network_options, options, name=name, card=card))
    if not (isinstance(network_options, NetworkOptions) and isinstance(options, TrainingOptions)):
        raise InputError("the options of network and training are of two kinds; expected a pair as in NETWORKS.")
    network = MLPNetwork(network_options, generator=torch.Generator().manual_seed(options.seed)).to(device)
    learnt = yield from cut_examples(network, training, words="Cutting training patches")
    judged = yield from cut_examples(network, validation, words="Cutting validation patches")
    card = _card(labelled, options, training=len(learnt), validation=len(judged))
    course = Course(network, options, learnt.to(device), judged.to(device), name=name, card=card)
    return (yield from course.epochs(resume, words=f"Training on {device_words(device)}"))


def _count(labelled: Labelled) -> int:
    return sum(len(particles) for _, particles in labelled)


def _check(labelled: Labelled) -> None:
    count = _count(labelled)
    if count < 20:
        raise InputError(
            f"{count} particles with orientations were given; expected at least 20 to learn from. Give more data."
        )
    kinds = _kinds(labelled)
    if len(kinds) > 1:
        raise InputError(f"the data hold the classes {', '.join(kinds)}; a network learns one. Choose it (--class).")
    for tomogram, particles in labelled:
        particles.required_rotations()
        check_inside(particles, tomogram.extent, name=tomogram.name)


def _card(labelled: Labelled, options: Options, *, training: int, validation: int) -> dict[str, Any]:
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

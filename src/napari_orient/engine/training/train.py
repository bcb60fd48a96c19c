"""train(): tomograms with labelled particles in, a network or a template out, the best so far at every milestone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_orient.engine.averaging import average
from napari_orient.engine.devices import device_words, single_threaded_steps
from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.model_files import SUFFIX
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.networks.network import Network
from napari_orient.engine.options import Options
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.parameters import (
    AveragingOptions,
    MixtureOptions,
    ModelOptions,
    ModelTrainingOptions,
    NetworkOptions,
    SimulatedTrainingOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.particles import Labelled, classes_in
from napari_orient.engine.streams import Note, Step, Stream, map_steps
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.tomogram.outside import inside_only
from napari_orient.engine.training.examples import examples_of
from napari_orient.engine.training.network import Epoch, TrainingRun, TrainingState
from napari_orient.engine.training.ranks import ALONE, Ranks
from napari_orient.engine.training.simulated import train_on_simulations
from napari_orient.engine.training.template import average_template, calibrate_template
from napari_orient.engine.training.validation import Milestone, fingerprint, split

MIN_PARTICLES = 20
"""Labelled particles that anything is trained on at the least; chosen: validation takes every seventh of them."""


@single_threaded_steps
def train(
    labelled: Labelled,
    model_options: ModelOptions,
    options: ModelTrainingOptions,
    *,
    name: str = "trained",
    resume: TrainingState | None = None,
    template: Template | None = None,
    ranks: Ranks = ALONE,
    streamed: bool | None = None,
) -> Stream[Step, Network | Template]:
    """The network or template, as the options ask, with the least mean validation error.

    A pair of options from `TRAINABLE` says which: ``NetworkOptions`` with ``TrainingOptions``, ``MixtureOptions`` with
    ``SimulatedTrainingOptions``, or ``TemplateOptions`` with ``TemplateTrainingOptions``. Yields Steps, and a Milestone
    with the best model so far whenever one was validated: of a network at the end of each epoch (an Epoch, with the
    state to resume from), of a template after each average. Tomograms are split, never patches; a lone tomogram is
    split at a plane across x. The validation part also calibrates the expected error, unless simulations do.

    Parameters
    ----------
    template : a map to take as it is, or to simulate from; then no labels are needed, and those given are all used to
        validate. Without one, a network that learns from simulations learns from the particles' average.
    ranks : this process among those that train one network on labelled particles together.
    streamed : whether a network's patches are cut from the tomograms batch by batch, or held; None streams them where
        they would take more than half of the memory that is free.

    Raises
    ------
    InputError
        If there are too few particles, they are of several classes, rotations are unknown, half of a tomogram's
        particles lie outside it, the device is not there, the two options do not belong together, or the state to
        resume from belongs to another network.
    """
    labelled, notes = inside_only([(tomogram, particles) for tomogram, particles in labelled if len(particles)])
    if notes:
        yield Step(0, 1, "Setting particles aside", notes=notes)
    if labelled or template is None:
        _check(labelled)
    device = options.compute.chosen()
    if ranks.count > 1 and not isinstance(model_options, NetworkOptions):
        raise InputError(
            f"{ranks.count} processes were started; a network that learns from labelled particles alone (--network "
            "default, paper) is trained by several. Start one."
        )
    if isinstance(model_options, MixtureOptions) and isinstance(options, SimulatedTrainingOptions):
        return (yield from _train_mixture(labelled, model_options, options, template, name=name, resume=resume))
    if template is not None:
        card = _card_of_map(template, labelled, options)
        return (yield from calibrate_template(template, labelled, name=name, card=card, device=options.compute.device))
    training, validation = _parts(labelled, options)
    if isinstance(model_options, TemplateOptions) and isinstance(options, TemplateTrainingOptions):
        if resume is not None:
            raise InputError("a template's training starts anew each time; leave --resume out.")
        card = _card(labelled, options, training=_count(training), validation=_count(validation))
        return (yield from average_template(training, validation, model_options, options, name=name, card=card))
    if not (isinstance(model_options, NetworkOptions) and isinstance(options, TrainingOptions)):
        raise InputError("the options of model and training are of two kinds; expected a pair as in TRAINABLE.")
    mlp = MLP(model_options, generator=torch.Generator().manual_seed(options.seed)).to(device)
    examples = yield from examples_of(mlp, training, device, words="Cutting training patches", streamed=streamed)
    held_out = yield from examples_of(mlp, validation, device, words="Cutting validation patches", streamed=streamed)
    options = options.replace(epochs=options.epochs_for(len(examples)))
    card = _card(labelled, options, training=len(examples), validation=len(held_out))
    training_run = TrainingRun(mlp, options, examples, held_out, name=name, card=card, ranks=ranks)
    return (yield from training_run.epochs(resume, words=f"Training on {device_words(device)}"))


def _train_mixture(
    labelled: Labelled,
    model_options: MixtureOptions,
    options: SimulatedTrainingOptions,
    template: Template | None,
    *,
    name: str,
    resume: TrainingState | None,
) -> Stream[Step, Network]:
    """A network that learns from patches simulated of a map, or of the average of labelled particles."""
    if template is not None:
        card, validation = _card_of_map(template, labelled, options), labelled
    else:
        training, validation = _parts(labelled, options)
        card = _card(labelled, options, training=_count(training), validation=_count(validation))
        found = yield from average(training, group=symmetry(model_options.symmetry), options=AveragingOptions())
        template = Template(found.as_reference(), found.voxel_size, name, found.group.name)
    return (
        yield from train_on_simulations(
            template, validation, model_options, options, resume=resume, name=name, card=card
        )
    )


def _parts(labelled: Labelled, options: ModelTrainingOptions) -> tuple[Labelled, Labelled]:
    """Training and validation parts."""
    seed = options.averaging.seed if isinstance(options, TemplateTrainingOptions) else options.seed
    return split(labelled, share=options.split.validation, seed=seed)


def _card_of_map(template: Template, labelled: Labelled, options: Options) -> dict[str, Any]:
    """What the card of a model says that is made of a map."""
    card = _card(labelled, options, training=0, validation=_count(labelled))
    return {**card, "fingerprint": sha256(template.density.tobytes()).hexdigest()[:16]}


def _count(labelled: Labelled) -> int:
    return sum(len(particles) for _, particles in labelled)


def _check(labelled: Labelled) -> None:
    count = _count(labelled)
    if count < MIN_PARTICLES:
        raise InputError(
            f"{count} particles with orientations were given; expected at least {MIN_PARTICLES} to learn from. "
            "Give more data."
        )
    classes = classes_in(part for _, part in labelled)
    if len(classes) > 1:
        raise InputError(f"the data hold the classes {', '.join(classes)}; a model learns one. Choose it (--class).")
    for _, particles in labelled:
        particles.required_rotations()


def _card(labelled: Labelled, options: Options, *, training: int, validation: int) -> dict[str, Any]:
    return {
        "version": version("napari-orient"),
        "training": options.to_record(),
        "tomograms": len(labelled),
        "particles": {"training": training, "validation": validation},
        "classes": list(classes_in(part for _, part in labelled)),
        "fingerprint": fingerprint(labelled),
    }


# --- files ------------------------------------------------------------------------------------------------------


def training_files(output: Path) -> tuple[Path, Path]:
    """The model's file and that of the state beside it; the first is writable.

    Raises
    ------
    InputError
        If the name does not end in .safetensors, or the place cannot be written.
    """
    if output.suffix != SUFFIX:
        raise InputError(f"{output} given as model to write; expected a name that ends in {SUFFIX}.")
    check_writable(output)
    return output, output.with_suffix(".resume")


def unfinished_file(output: Path) -> Path:
    """File of the best model so far of a training that is to replace a finished one."""
    return output.with_name(f"{output.stem}_unfinished{output.suffix}")


def progress_file(output: Path, *, resumed: bool) -> Path:
    """File that the best model so far is written to: the model's own, unless another training's result is there."""
    unfinished = unfinished_file(output)
    own = not output.exists() or (resumed and not unfinished.exists())
    return output if own else unfinished


def save_progress(
    stream: Generator[Step, None, Network | Template],
    output: Path,
    state: Path,
    *,
    resumed: bool = False,
    ranks: Ranks = ALONE,
) -> Stream[Step, Network | Template]:
    """The same stream; after every milestone the model is saved, where it became better, after every epoch the state.

    Where the disk is full the training goes on, and a note says so. When training has come to its end, the model is in
    ``output``, and the state's file and that of the unfinished model are removed, unless it cannot be written: then a
    note says so, and the caller has the model.

    Parameters
    ----------
    resumed : whether the training goes on from the state.
    ranks : of several processes the first one writes.
    """
    if not ranks.first:
        return (yield from stream)
    progress = progress_file(output, resumed=resumed)
    best: Network | Template | None = None
    failed: str | None = None

    def saved(step: Step) -> Step:
        nonlocal best, failed
        try:
            if isinstance(step, Milestone) and step.model is not best:
                step.model.save(progress)
                best = step.model
            if isinstance(step, Epoch):
                # The model first: whoever is stopped between the two finds a model, and no state that promises one.
                step.state.save(state)
        except OutputError as error:
            first, failed = failed is None, str(error)
            return replace(step, notes=(*step.notes, _unsaved_note(failed))) if first else step
        return step

    model = yield from map_steps(stream, saved)
    try:
        model.save(output)
    except OutputError as error:
        yield Step(1, 1, "The model is not written", notes=(Note(str(error), "warning"),))
        return model
    for path in (state, unfinished_file(output)):
        path.unlink(missing_ok=True)
    return model


def _unsaved_note(words: str) -> Note:
    return Note(
        f"{words} Training goes on; the model is written when it has come to its end, or is stopped.", "warning"
    )

"""Train a network, or average a template, on tomograms with labelled particles.

DATA is a folder that PolNet wrote, or a list of particles with angles; its tomograms stand before it, or are found by
its own columns, beside it, or in the folder that --tomograms names. Tomograms, never patches, are split into training
and validation. The best network so far is written after every epoch: Ctrl-C loses nothing, and --resume goes on where
it stopped.

With --network simulated the network learns from patches that are simulated from a map, in conditions of the microscope
drawn at random: --template names the map; without it DATA is averaged.

With --network template the particles are averaged to a template, which predict then matches; --rounds averages anew in
refined poses. With --template a map takes the average's place, and DATA, if given, serves to calibrate it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.answers import add_report, model_words, report_outputs, run_words, warnings_heard, write_answer
from napari_orient.cli.arguments import LENGTH, Parser, add_options, options_from
from napari_orient.cli.lists import add_selection
from napari_orient.cli.next_command import say_next
from napari_orient.cli.projects import add_volumes, read_named_project, with_group
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.parameters import (
    TRAINABLE,
    MixtureOptions,
    ModelOptions,
    NetworkOptions,
    SimulatedTrainingOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.particles import Labelled
from napari_orient.engine.streams import Step, Stream, map_steps, run
from napari_orient.progress import Stopped, follow, say

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import Model
    from napari_orient.engine.reports.training_report import ValidationPoint
    from napari_orient.engine.templates import Template
    from napari_orient.engine.training.ranks import Ranks
    from napari_orient.engine.training.validation import Milestone

EXAMPLE = """\
  napari-orient train simulated --class 4v4r --output mine.safetensors
  napari-orient train particles.star --tomograms reconstructions --epochs 60 --output mine.safetensors
  napari-orient train polnet --class 4v4r --network paper --output printed.safetensors
  napari-orient train polnet --class 3j9i --network template --symmetry D7 --rounds 1 --output proteasome.safetensors
  napari-orient train --network template --template map.mrc --output mine.safetensors
  napari-orient train --network simulated --template map.mrc --output mine.safetensors"""

SHARED = {item.name for kind in (NetworkOptions, TrainingOptions) for item in kind.parameters()}
"""Options that several kinds of model have are declared as flags once."""
_SIMULATED = {item.name for kind in (MixtureOptions, SimulatedTrainingOptions) for item in kind.parameters()}
_OLD_NETWORKS = {"bank": "template"}
_HARDLY_LEARNT = 0.5
"""Median validation error over that of random rotations beyond which a person is warned; chosen: half of the particles
of a model that errs by that much are wrong."""
"""Values of --network as version 0.1.0 called them; they still work."""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="DATA",
        help="PolNet folder, list that names its tomograms, or tomograms and their list; also several, and patterns",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL", help="file to write: .safetensors")
    add_report(parser)
    add_selection(parser)
    add_volumes(parser)
    parser.add_argument("--resume", action="store_true", help="go on with a stopped run; give the same options again")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="cut patches from the tomograms batch by batch [default: where memory is too small to hold them]",
    )
    parser.add_argument(
        "--network",
        choices=TRAINABLE,
        type=lambda text: _OLD_NETWORKS.get(text, text),
        default="default",
        help="what to train, and the options to begin from; those below override",
    )
    parser.add_argument("--template", metavar="MAP|NAME", help="template, simulated: this map, or bead model")
    parser.add_argument("--template-voxel-size", **LENGTH, help="that map's, where its header is wrong")
    add_options(parser, NetworkOptions, title="the network (defaults of --network default)")
    add_options(parser, TrainingOptions, title="its training (defaults of --network default)")
    title = "a network that learns from simulations; and --symmetry, --patch-voxel-size, --mask-radius"
    add_options(parser, MixtureOptions, title=title, leave_out=SHARED)
    title = "its training; and --epochs, --validation, --seed and --device"
    add_options(parser, SimulatedTrainingOptions, title=title, leave_out=SHARED)
    add_options(parser, TemplateOptions, title="a template; and --symmetry", leave_out=SHARED | _SIMULATED)
    title = "a template's averaging; and --validation, --seed and --device"
    add_options(parser, TemplateTrainingOptions, title=title, leave_out=SHARED | _SIMULATED)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The model, the state to resume from (which a resumed training reads), the unfinished model; a report."""
    from napari_orient.engine.training.train import progress_file, training_files

    output, state = training_files(arguments.output)
    report = report_outputs(arguments)
    if arguments.resume:
        return [output, *report]
    progress = progress_file(output, resumed=False)
    return [output, state, *([] if progress == output else [progress]), *report]


def perform(arguments: Namespace) -> None:
    """Train, writing the best model and the state to resume from after every epoch."""
    from napari_orient.engine.training.ranks import joined_ranks

    with joined_ranks() as ranks:
        _train(arguments, ranks)


def _train(arguments: Namespace, ranks: Ranks) -> None:
    from napari_orient.engine.training.network import TrainingState
    from napari_orient.engine.training.train import progress_file, save_progress, train, training_files

    output, state = training_files(arguments.output)
    network_base, training_base = TRAINABLE[arguments.network]
    _check_given(arguments, network_base, training_base)
    network, training = options_from(arguments, network_base), options_from(arguments, training_base)
    template = None if arguments.template is None else _template(arguments, network)
    if not arguments.paths and template is None:
        raise InputError("no DATA given; expected a PolNet folder or a list with angles, or a --template.")
    if arguments.resume and not state.exists():
        raise InputError(f"{state}: no such file; the training never began, or is finished. Leave --resume out.")
    resumed = TrainingState.load(existing_file(state)) if arguments.resume else None
    labelled = _labelled(arguments)
    where = "1 tomogram" if len(labelled) == 1 else f"{len(labelled)} tomograms"
    say(f"{sum(len(part) for _, part in labelled)} particles in {where}")
    progress, found = progress_file(output, resumed=arguments.resume), Latest()
    stream = train(
        labelled,
        network,
        training,
        name=output.stem,
        resume=resumed,
        template=template,
        ranks=ranks,
        streamed=True if arguments.stream else None,
    )
    if not ranks.first:
        run(stream)
        return
    try:
        best = follow(save_progress(found.of(stream), output, state, resumed=arguments.resume, ranks=ranks))
    except KeyboardInterrupt:
        raise Stopped(_farewell(found, progress, state)) from None
    print(f"{write_answer(lambda place: _written(best, place(output)))}: {_validation_words(best)}")
    _write_report(arguments, best, found, labelled)
    say_next("predict", "TOMOGRAM", "PICKS", "--model", output, "--output", "oriented.star")


class Latest:
    """The best model of a training so far, and what each stretch of it was validated to."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self.points: list[ValidationPoint] = []

    def of(self, stream: Generator[Step, None, Model]) -> Stream[Step, Model]:
        """The same stream, whose best model is remembered."""
        return map_steps(stream, self._remembered)

    def _remembered(self, step: Step) -> Step:
        from napari_orient.engine.training.validation import Milestone

        if isinstance(step, Milestone):
            self.model = step.model
            self.points.append(_point(step))
        return step


def _point(step: Milestone) -> ValidationPoint:
    from napari_orient.engine.reports.training_report import ValidationPoint
    from napari_orient.engine.training.network import Epoch

    losses = (step.training_loss, step.validation_loss) if isinstance(step, Epoch) else None
    return ValidationPoint(step.done, step.validation_median_deg, step.validation_mean_deg, losses)


def _written(model: Model, path: Path) -> Path:
    model.save(path)
    return path


def _write_report(arguments: Namespace, best: Model, found: Latest, labelled: Labelled) -> None:
    """Write the report on the training, if one was asked for."""
    if arguments.report is None:
        return
    from napari_orient.engine.reports.training_report import TrainingSubject, training_report

    subject = TrainingSubject(
        title=f"Training of {best.name}",
        points=found.points,
        figures=best.card.get("figures", {}),
        particles=sum(len(part) for _, part in labelled),
        group=best.group,
        run=run_words(labelled),
        warnings=warnings_heard(),
        model={**model_words(best.card), **_option_words(best)},
    )
    write_answer(lambda place: training_report(subject).save(place(arguments.report)))


def _option_words(model: Model) -> dict[str, str]:
    """The model's options and those of its training that have a value, a line each."""
    records = {"options": model.options_record(), "training": model.card.get("training", {})}
    return {
        title: ", ".join(f"{name} {value}" for name, value in record.items() if value not in ("", None))
        for title, record in records.items()
    }


def _check_given(arguments: Namespace, *bases: Options) -> None:
    """Check that every option that was given belongs to what is to be trained.

    Raises
    ------
    InputError
        If one does not.
    """
    every = {item.name for pair in TRAINABLE.values() for kind in pair for item in kind.parameters()}
    own = {item.name for kind in bases for item in kind.parameters()}
    foreign = sorted((every - own) & set(vars(arguments)))
    if foreign:
        flag = "--" + foreign[0].replace("_", "-")
        raise InputError(f"{flag} was given, which --network {arguments.network} does not have. Leave it out.")


def _template(arguments: Namespace, options: ModelOptions) -> Template:
    """The map to take as it is or to simulate from, with the symmetry that was given or that of the bead model."""
    from napari_orient.engine.templates import load_template

    if isinstance(options, NetworkOptions):
        raise InputError(
            "--template was given, but this network learns from labelled particles. Add --network simulated, or "
            "--network template."
        )
    loaded = load_template(arguments.template, voxel_size=arguments.template_voxel_size, flag="--template-voxel-size")
    template = with_group(loaded, None if options.symmetry == "C1" else options.symmetry)
    return replace(template, search=options.search) if isinstance(options, TemplateOptions) else template


def _validation_words(best: Model) -> str:
    """The model's error on validation particles, beside that of random rotations; where it is no better, what helps."""
    from napari_orient.engine.evaluation import chance_median_deg

    figures = best.card.get("figures")
    if not figures:
        return "the map as it is"
    median, by_chance = figures["validation_median_deg"], chance_median_deg(best.group)
    if median > _HARDLY_LEARNT * by_chance:
        say(
            "Warning: it has hardly learnt the particle: its errors are not far from those of random rotations. More "
            "particles or --epochs help a network; 40 particles with good poses make a template (--network template)."
        )
    return f"validation median {median:.2f}° (random rotations {by_chance:.1f}°)"


def _labelled(arguments: Namespace) -> Labelled:
    """Tomograms with their particles, all of them: what is learnt must not depend on a file that is missing today.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    if not arguments.paths:
        return []
    project = read_named_project(arguments)
    if project.failed:
        name, words = next(iter(project.failed.items()))
        raise InputError(f"{name} cannot be used: {words} Mend it, or take it out of DATA.")
    return project.pairs


def _farewell(found: Latest, progress: Path, state: Path) -> str:
    """Where the best model is, which is written once more where it could not be before; and what to do."""
    model = found.model
    if model is None and state.exists():
        return "Stopped before another epoch was done. The same command with --resume goes on."
    if model is None:
        return "Stopped before the first epoch was done; nothing was written."
    path = write_answer(lambda place: _written(model, place(progress)))
    if not state.exists():
        return f"Stopped; the best model so far is in {path}."
    return f"Stopped; the best network so far is in {path}. The same command with --resume goes on."

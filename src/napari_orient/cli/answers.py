"""Answers of the command line, written where they were asked for or where there is room; the page of ``--report``."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.arguments import LENGTH, Parser, angle
from napari_orient.cli.lists import say_notes, summary, write_beside
from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.io import write_particles
from napari_orient.engine.outputs import AnswerT, Place, write_elsewhere
from napari_orient.engine.particles import Labelled, Particles
from napari_orient.progress import WARNING, heard, say


def write_answer(write: Callable[[Place], AnswerT]) -> AnswerT:
    """What ``write`` returns; it writes outputs to the paths that it is given for those asked for.

    Where they cannot be written, a person at a terminal is asked for another folder; without one they are kept in a
    folder that has room.

    Raises
    ------
    OutputError
        If they are not where they were asked for: where they are.
    """
    try:
        return write(lambda path: path)
    except OutputError as error:
        failed = error
    while (folder := _other_folder(failed)) is not None:
        try:
            return _written_to(folder, write)
        except InputError as error:
            failed = OutputError(str(error))
    return write_elsewhere(write, failed)


def write_poses(
    arguments: Namespace,
    particles: Particles,
    *,
    provenance: str,
    pairs: Labelled,
    group: Symmetry,
    template: Template | None,
    model: Mapping[str, str],
) -> None:
    """Write the list of posed particles and what stands beside it, print its summary, and leave the report.

    Parameters
    ----------
    provenance : the list's first line.
    pairs : the tomograms, with the particles as they were read.
    group : symmetry that errors are taken modulo.
    template : that the poses are of; None where a network alone gave them.
    model : what gave the poses, as the report says it.
    """

    def write(place: Place) -> Path:
        path = place(arguments.output)
        say_notes(write_particles(path, particles, provenance=provenance))
        write_beside(path, particles, arguments)
        return path

    path = write_answer(write)
    say_notes(particles.notes, arguments)
    print(f"{path}: {summary(particles)}")
    write_report(
        arguments,
        particles,
        title=f"Poses of {arguments.output.name}",
        labelled=pairs,
        template=template,
        model=model,
        group=group,
    )


def _written_to(folder: Path, write: Callable[[Place], AnswerT]) -> AnswerT:
    return write(lambda path: folder / path.name)


def _other_folder(error: OutputError) -> Path | None:
    """A folder that a person names; None where there is no terminal to ask at, or none is named."""
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    say(str(error), always=True)
    say("Another folder to write to (empty: it is kept where there is room):", always=True)
    named = sys.stdin.readline().strip()
    with suppress(RuntimeError):  # Of a person whom this machine does not know.
        return Path(named).expanduser() if named else None
    return Path(named)


if TYPE_CHECKING:
    from napari_orient.engine.averaging import Average
    from napari_orient.engine.symmetry import Symmetry
    from napari_orient.engine.templates import Template


# --- the report -------------------------------------------------------------------------------------------------------


def add_report(parser: Parser) -> None:
    """Declare ``--report``."""
    parser.add_argument("--report", type=Path, metavar="PAGE", help="also write a report: one page of HTML, .html")


def add_failures(parser: Parser, *, diameter: str) -> None:
    """Declare ``--diameter``, with this help, and ``--threshold``: what fails, and what lies together."""
    parser.add_argument("--diameter", **LENGTH, help=diameter)
    parser.add_argument("--threshold", type=angle, default=20.0, metavar="°", help="right up to here [default 20]")


def report_outputs(arguments: Namespace) -> list[Path]:
    """The report, if it is asked for.

    Raises
    ------
    InputError
        If its name does not end in .html.
    """
    if arguments.report is None:
        return []
    if arguments.report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{arguments.report} given as report; expected a name that ends in .html.")
    return [arguments.report]


def write_report(
    arguments: Namespace,
    particles: Particles,
    *,
    title: str,
    labelled: Labelled = (),
    truth: Particles | None = None,
    template: Template | None = None,
    average: Average | None = None,
    model: Mapping[str, str] | None = None,
    **settings: object,
) -> None:
    """Write the report on these particles, if one was asked for; `settings` are others of `ReportSubject`."""
    if arguments.report is None:
        return
    from napari_orient.engine.reports.pose_report import ReportSubject, pose_report

    subject = ReportSubject(
        title=title,
        particles=particles,
        run=run_words(labelled),
        warnings=warnings_heard(),
        labelled=labelled,
        truth=truth,
        template=template,
        average=average,
        model=model or {},
        **settings,  # type: ignore[arg-type]
    )
    page = pose_report(subject)
    write_answer(lambda place: page.save(place(arguments.report)))


def model_words(card: Mapping[str, object]) -> dict[str, str]:
    """A model's card in a few words a line; tables are left out."""
    return {name: str(value) for name, value in card.items() if isinstance(value, (str, int, float))}


def warnings_heard() -> list[str]:
    """Warnings that were said so far, a line each."""
    return [line.removeprefix(WARNING) for line in heard() if line.startswith(WARNING)]


def run_words(labelled: Labelled) -> dict[str, str]:
    """What was run, as a report has it: command, program, date, tomograms, notes."""
    # File names without their folders: a page is passed on.
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    rows = {
        "command": f"napari-orient {shlex.join(words)}",
        "program": f"napari-orient {__version__}",
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    for tomogram, particles in labelled:
        size = " × ".join(str(count) for count in tomogram.extent.size)
        source = f" ({tomogram.voxel_size_source})" if tomogram.voxel_size_source else ""
        rows[f"tomogram {tomogram.name}"] = (
            f"{size} voxels of {tomogram.voxel_size:g} Å{source}; {len(particles)} particles"
        )
    names = tuple(f"{tomogram.name}: " for tomogram, _ in labelled)
    notes = [line for line in heard() if not line.startswith((WARNING, *names))]
    return {**rows, **{f"note {place}": line.removeprefix("Note: ") for place, line in enumerate(notes, 1)}}

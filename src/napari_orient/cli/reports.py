"""The page that a verb leaves with ``--report``: what was run, on what, what was said, and how good the answer is."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.answers import write_answer
from napari_orient.cli.arguments import Parser
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Labelled, Particles
from napari_orient.progress import heard

if TYPE_CHECKING:
    from napari_orient.engine.averaging import Average
    from napari_orient.engine.templates import Template

_WARNING = "Warning: "


def add_report(parser: Parser) -> None:
    """Declare ``--report``."""
    parser.add_argument("--report", type=Path, metavar="PAGE", help="also write a report: one page of HTML, .html")


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
    from napari_orient.engine.pose_report import ReportSubject, pose_report

    subject = ReportSubject(
        title=title,
        particles=particles,
        run=_run_of(labelled),
        warnings=[line.removeprefix(_WARNING) for line in heard() if line.startswith(_WARNING)],
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


def _run_of(labelled: Labelled) -> dict[str, str]:
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
    notes = [line for line in heard() if not line.startswith((_WARNING, *names))]
    return {**rows, **{f"note {place}": line.removeprefix("Note: ") for place, line in enumerate(notes, 1)}}

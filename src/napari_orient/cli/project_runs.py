"""Runs over many tomograms on the command line: where they are worked on, what is done already, and what would be."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.engine.projects.distribution import slurm_script
from napari_orient.engine.projects.each_tomogram import Plan, ProjectResult, byte_count, for_each_tomogram, plan
from napari_orient.engine.projects.inputs import Project
from napari_orient.engine.projects.stored_results import StoredResults
from napari_orient.engine.projects.task import TomogramTask
from napari_orient.engine.scheduler_options import SLURM, SchedulerOptions
from napari_orient.progress import Stopped, follow, say, time_words

_HERE = SchedulerOptions()


def add_run(parser: Parser) -> None:
    """Give the parser the flags of a run over many tomograms."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take what an earlier run of the same tomograms, picks, model and options did, whatever files are called",
    )
    add_dry_run(parser)
    add_options(parser, SchedulerOptions, title="many tomograms")


def add_dry_run(parser: Parser) -> None:
    """Give the parser the flag that does nothing."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, with the tomograms' sizes, and do nothing"
    )


@dataclass(frozen=True)
class ProjectRun:
    """How the tomograms of a project are worked on.

    Parameters
    ----------
    stored : where the particles of each are kept; None keeps them nowhere.
    """

    scheduler: SchedulerOptions = _HERE
    stored: StoredResults | None = None
    resume: bool = False


def project_run(arguments: Namespace, project: Project) -> ProjectRun:
    """How the tomograms are worked on, as the flags of `add_run` say.

    What is done is kept beside the output where there are several tomograms, or something to resume.

    Raises
    ------
    InputError
        If an option does not fit, or what is done cannot be kept.
    """
    scheduler = options_from(arguments, SchedulerOptions())
    if len(project.pairs) < 2 and not arguments.resume:
        return ProjectRun(scheduler)
    stored = StoredResults.beside(arguments.output)
    if not arguments.dry_run:
        stored.check()
    return ProjectRun(scheduler, stored, arguments.resume)


def run_outputs(output: Path) -> list[Path]:
    """The table of states beside a list of particles."""
    table = StoredResults.beside(output).table
    return [] if table is None else [table]


def do_project(
    project: Project, task: TomogramTask, write: Callable[[ProjectResult], None], run: ProjectRun | None = None
) -> ProjectResult:
    """The result of a task done for each tomogram, written; what is done when Ctrl-C comes is written too.

    Raises
    ------
    Stopped
        By Ctrl-C, if some of several tomograms were done.
    """
    run = run or ProjectRun()
    result = ProjectResult(failed=dict(project.failed))
    stream = for_each_tomogram(
        project.pairs, task, result, scheduler=run.scheduler, stored=run.stored, resume=run.resume
    )
    try:
        follow(stream)
    except KeyboardInterrupt as stop:
        if not result.done:
            raise
        write(result)
        done = f"the {len(result.done)} of {len(project.pairs)} tomograms that are done were written"
        on = "" if run.stored is None else "; --resume goes on with the others"
        raise Stopped(f"Stopped: {done}{on}.") from stop
    write(result)
    if result.failed:
        say(f"Warning: {result.failed_words}")
    return result


def show_plan(project: Project, task: TomogramTask, run: ProjectRun) -> int:
    """Exit status; what would be done for each tomogram is printed, and the script of the jobs of SLURM."""
    workers = run.scheduler.count
    found = follow(plan(project.pairs, task, workers=workers, stored=run.stored, resume=run.resume))
    _print_table(list(found.rows()))
    print(_words(found, run.scheduler))
    if run.scheduler.kind == SLURM:
        print(f"\n{slurm_script(run.scheduler)}")
    return 1 if project.failed else 0


def show_inputs(project: Project) -> int:
    """Exit status; the tomograms that would be worked on together are printed."""
    heading = ("tomogram", "voxels", "Å", "MB", "particles")
    rows = [
        (
            tomogram.name,
            " × ".join(map(str, tomogram.extent.size)),
            f"{tomogram.voxel_size:g}",
            f"{byte_count(tomogram) / 1e6:.0f}",
            str(len(particles)),
        )
        for tomogram, particles in project.pairs
    ]
    _print_table([heading, *rows])
    print(f"{sum(len(particles) for _, particles in project.pairs)} particles. Nothing was done.")
    return 1 if project.failed else 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def _words(found: Plan, scheduler: SchedulerOptions) -> str:
    to_do = found.to_do
    picks, megabytes = sum(item.picks for item in to_do), sum(item.megabytes for item in to_do)
    source = "as measured in this project" if found.measured else "a rough figure for one core each"
    return (
        f"{len(to_do)} of {len(found.tomograms)} tomograms to do, {picks} picks, {megabytes:.0f} MB to read; about "
        f"{time_words(found.seconds)} in {scheduler.words} ({source}). Nothing was done."
    )

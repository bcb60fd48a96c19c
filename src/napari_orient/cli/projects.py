"""Projects on the command line: tomograms with their picks, the reference that is matched, and the run over all."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_orient.cli.arguments import LENGTH, Parser, add_options, options_from
from napari_orient.cli.lists import (
    VOXEL_SIZE_HELP,
    add_reading,
    add_selection,
    list_metadata,
    say_notes,
    say_tomograms,
    selected_pairs,
    volume_text,
)
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.particle_lists import check_particles_fit
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate
from napari_orient.engine.projects.distribution import SLURM, SchedulerOptions, slurm_script
from napari_orient.engine.projects.each_tomogram import Plan, ProjectResult, ProjectRun, byte_count, plan
from napari_orient.engine.projects.inputs import Project, read_project
from napari_orient.engine.projects.stored_results import StoredResults
from napari_orient.engine.projects.task import TomogramTask
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import AUTO
from napari_orient.engine.tomogram.outside import rows_inside
from napari_orient.progress import Stopped, follow, say, time_words

if TYPE_CHECKING:
    from napari_orient.engine.parameters import AdaptationOptions, RefinementOptions
    from napari_orient.engine.templates import Template

AnswerT = TypeVar("AnswerT")

_HERE = SchedulerOptions()
MIRROR = ("no", "yes", "auto")


def add_project(parser: Parser) -> None:
    """Give the parser tomograms and the list of their picks, and the flags that say how to read them."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="[TOMOGRAM...] PICKS",
        help=f"volumes ({volume_text()}), then the list of their particles; or the list alone; or folders, patterns, "
        "and projects of RELION, Warp, copick or PolNet",
    )
    add_selection(parser, what="picks")
    add_volumes(parser)


def add_volumes(parser: Parser) -> None:
    """Give the parser the flags that say where a list's tomograms are, and how both are read."""
    parser.add_argument("--voxel-size", **LENGTH, help=VOXEL_SIZE_HELP)
    parser.add_argument(
        "--tomograms", type=Path, metavar="DIR|STAR", help="where the tomograms are that a list alone names"
    )
    parser.add_argument("--tomogram-name", metavar="NAME", help="its name in the list, where the file's is another")
    add_reading(parser)


def read_named_project(arguments: Namespace) -> Project:
    """Tomograms, each with its own particles, of the paths that were given; sizes, notes and failures are printed.

    Raises
    ------
    InputError
        If there is no list, or no tomogram with particles is left.
    """
    tilts = getattr(arguments, "tilts", "")
    if tilts and not Path(tilts).exists():
        raise InputError(f"--tilts {tilts}: no such file or folder.")
    found = read_project(
        arguments.paths,
        metadata=list_metadata(arguments),
        tomograms=getattr(arguments, "tomograms", None),
        voxel_size=arguments.voxel_size,
        tomogram_name=arguments.tomogram_name,
    )
    say_tomograms([tomogram for tomogram, _ in found.pairs])
    say_notes(found.notes)
    say_notes([note for _, particles in found.pairs for note in particles.notes], arguments)
    for name, words in found.failed.items():
        say(f"Warning: {name} is left out: {words}")
    return replace(found, pairs=selected_pairs(found.pairs, arguments))


def read_tomograms(arguments: Namespace) -> Project:
    """The project of ``[TOMOGRAM...] LIST``, without tomograms whose particles do not belong to them.

    Raises
    ------
    InputError
        If there is no list, or no tomogram with particles in it is left.
    """
    project = read_named_project(arguments)
    kept: list[tuple[Tomogram, Particles]] = []
    failed: dict[str, str] = {}
    for tomogram, particles in project.pairs:
        try:
            rows_inside(particles, tomogram.extent, name=tomogram.name)
        except InputError as error:
            if len(failed) == len(project.pairs) - 1:
                raise
            failed[tomogram.name] = str(error)
            say(f"Warning: {tomogram.name} is left out: {error}")
        else:
            kept.append((tomogram, particles))
    return replace(project, pairs=kept, failed={**project.failed, **failed})


def check_result(path: Path, pairs: Labelled) -> None:
    """Check, before the work, that the particles of these tomograms can be written at the path.

    Raises
    ------
    InputError
        If they cannot.
    """
    located = [particles.located_in(tomogram) for tomogram, particles in pairs]
    if located:
        check_particles_fit(path, concatenate(located))


# --- the reference: its symmetry and its hand -------------------------------------------------------------------------


def add_reference_facts(parser: Parser) -> None:
    """Give the parser the flags that describe the map of ``--reference``."""
    parser.add_argument("--reference-voxel-size", **LENGTH, help="that map's, where its header is wrong")
    parser.add_argument(
        "--reference-mask", type=Path, metavar="MASK", help="soft mask, 0 to 1, in that map's box: RELION's mask.mrc"
    )


def given_reference(arguments: Namespace, *names: str) -> Template | None:
    """The template of ``--reference``, masked as asked; None without one. What was changed of its map is printed.

    Parameters
    ----------
    names : further arguments that describe a reference.

    Raises
    ------
    InputError
        If it cannot be read, or is described without being given.
    """
    if arguments.reference is None:
        _check_undescribed(arguments, "reference_voxel_size", "reference_mask", *names)
        return None
    return read_reference(arguments)


def read_reference(arguments: Namespace) -> Template:
    """The template of ``--reference``, masked as asked; what was changed of its map is printed.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from napari_orient.engine.templates import load_template

    template = load_template(
        arguments.reference, voxel_size=arguments.reference_voxel_size, mask=arguments.reference_mask
    )
    say_notes(template.notes)
    return template


def with_group(template: Template, text: str | None) -> Template:
    """The template with the group that was named; for ``auto``, with the one that its map shows, which is printed."""
    if text != AUTO:
        return replace(template, symmetry=text) if text else template
    # SciPy and torch, which most commands do not need.
    from napari_orient.engine.model.map_symmetry import propose_symmetry

    proposed = propose_symmetry(template.density, template.voxel_size)
    for line in proposed.words():
        say(line)
    return replace(template, symmetry=proposed.group.name)


def _check_undescribed(arguments: Namespace, *names: str) -> None:
    """Check that what describes a reference is not given without one.

    Raises
    ------
    InputError
        If one of these flags is.
    """
    for name in names:
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} is of a --reference, and none is given. Add it, or leave {flag} out.")


def add_mirror(parser: Parser) -> None:
    """Give the parser the flag for the reference's hand."""
    parser.add_argument(
        "--mirror",
        choices=MIRROR,
        nargs="?",
        const="yes",
        default="no",
        help="match the map's mirror image (x -> -x); auto compares both hands over all tomograms first [default no]",
    )


def hand_to_match(arguments: Namespace) -> str:
    """The hand asked for; as given where it would have to be found in the tomograms, and nothing is to be done."""
    return "no" if arguments.dry_run and arguments.mirror == "auto" else str(arguments.mirror)


def with_hand(template: Template, pairs: Labelled, options: RefinementOptions, mirror: str) -> Template:
    """The template, or its mirror image where that is asked for or matches better."""
    if mirror == "auto":
        from napari_orient.engine.refinement.hand import choose_hand

        return follow(choose_hand(pairs, template, options))
    return template.mirrored() if mirror == "yes" else template


# --- duplicates -----------------------------------------------------------------------------------------------------


def add_duplicates(parser: Parser) -> None:
    """Give the parser the flag that removes duplicates."""
    parser.add_argument(
        "--remove-duplicates",
        action="store_true",
        help="of particles that lie nearer than --min-distance keep the one of best score",
    )


def checked_duplicates(particles: Particles, distance: float, *, remove: bool) -> Particles:
    """The particles, without duplicates where they are to be removed; how many there are is printed."""
    from napari_orient.engine.duplicates import duplicate_rows

    duplicates = duplicate_rows(particles, distance)
    count = int(duplicates.sum())
    if count == 0:
        return particles
    words = "1 duplicate" if count == 1 else f"{count} duplicates"
    if not remove:
        say(f"{words} within {distance:.0f} Å; --remove-duplicates keeps the particle of best score.")
        return particles
    say(f"{words} within {distance:.0f} Å removed: {len(particles) - count} of {len(particles)} particles remain.")
    return particles.take(~duplicates)


# --- the run over many tomograms --------------------------------------------------------------------------------------


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


def given_scheduler(arguments: Namespace) -> SchedulerOptions:
    """Where the tomograms are worked on; flags of SLURM's jobs without SLURM are named in a note.

    Raises
    ------
    InputError
        If an option does not fit.
    """
    scheduler = options_from(arguments, SchedulerOptions())
    idle = [name for name in vars(arguments) if name.startswith("slurm_") and scheduler.kind != SLURM]
    if idle:
        flags = ", ".join("--" + name.replace("_", "-") for name in idle)
        say_notes([f"{flags}: of SLURM's jobs, not heeded without --scheduler slurm:N."])
    return scheduler


def project_run(arguments: Namespace, project: Project) -> ProjectRun:
    """How the tomograms are worked on, as the flags of `add_run` say.

    What is done is kept beside the output where there are several tomograms, or something to resume.

    Raises
    ------
    InputError
        If an option does not fit, or what is done cannot be kept.
    """
    scheduler = given_scheduler(arguments)
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
    project: Project,
    work: Callable[[ProjectResult], Stream[Step, AnswerT]],
    write: Callable[[ProjectResult, AnswerT | None], None],
    run: ProjectRun,
) -> ProjectResult:
    """The result that the work on a project fills, written with the work's answer; without it when Ctrl-C comes.

    Raises
    ------
    Stopped
        By Ctrl-C, if some of several tomograms were done.
    """
    result = ProjectResult(failed=dict(project.failed))
    try:
        answer = follow(work(result))
    except KeyboardInterrupt as stop:
        if not result.done:
            raise
        write(result, None)
        done = f"the {len(result.done)} of {len(project.pairs)} tomograms that are done were written"
        on = "" if run.stored is None else "; --resume goes on with the others"
        raise Stopped(f"Stopped: {done}{on}.") from stop
    write(result, answer)
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
    return 1 if [*project.failed, *_say_outside(project)] else 0


def _say_outside(project: Project) -> list[str]:
    """Names of the tomograms whose particles do not lie in them, which is printed: they would fail."""
    names = []
    for tomogram, particles in project.pairs:
        try:
            rows_inside(particles, tomogram.extent, name=tomogram.name)
        except InputError as error:
            names.append(tomogram.name)
            say(f"Warning: {tomogram.name} would fail: {error}")
    return names


def say_rounds(adaptation: AdaptationOptions) -> None:
    """Print that a plan is of the first refinement, where rounds follow it."""
    if adaptation.rounds:
        say(f"This is the first refinement; each of the {adaptation.rounds} rounds after it takes twice as long.")


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

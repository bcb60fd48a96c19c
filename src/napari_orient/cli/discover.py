"""Find the structure that picks have in common, and each particle's pose, from picks alone.

No labels, no template. TOMOGRAM... are volumes, PICKS a list of positions in them; angles in it are ignored. A PolNet
result folder alone serves too. OUT gets the particles recentred, with angles, confidence, expected error, and a column
orientOutlier that is 1 for picks that are set aside: no particle, or more likely wrong than right.

Several random starts of simulated annealing are compared: where they do not agree, that is said, nothing is written,
and the exit status is 1. Ctrl-C writes the poses and the map as they are by then.
"""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.answers import add_report, report_outputs, write_answer, write_report
from napari_orient.cli.arguments import LENGTH, Parser, add_options, options_from
from napari_orient.cli.lists import add_selection, list_outputs
from napari_orient.cli.next_command import say_next, say_next_of_poses, unused, with_tomograms
from napari_orient.cli.projects import add_dry_run, add_volumes, check_result, read_tomograms, show_inputs
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.outputs import Place
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Extent, Labelled, Tomogram
from napari_orient.engine.streams import Stream, map_steps
from napari_orient.progress import Stopped, follow, say

if TYPE_CHECKING:
    from napari_orient.engine.discovery.output import Discovery, DiscoveryPaths, DiscoveryStep, Structure

EXAMPLE = """\
  napari-orient discover Tomo001_rec.mrc picks.star --output oriented.star --map structure.mrc
  napari-orient discover polnet_results --class 4v4r --diameter 300 --output oriented.star --map structure.mrc \\
      --template-output structure.safetensors"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="[TOMOGRAM...] PICKS", help="tomograms, then their list")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv"
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="MAP",
        help="map to write, with half maps and FSC; MAP_class2.mrc for a second class",
    )
    parser.add_argument(
        "--template-output", type=Path, metavar="FILE", help="template to write, for predict on other tomograms"
    )
    # As version 0.1.0 called it.
    parser.add_argument("--checkpoint-output", dest="template_output", type=Path, default=SUPPRESS, help=SUPPRESS)
    parser.add_argument("--align-to", type=Path, metavar="MAP", help="map into whose frame the poses are rotated")
    parser.add_argument("--align-to-voxel-size", **LENGTH, help="that map's, where its header is wrong")
    add_selection(parser, what="picks")
    add_report(parser)
    add_dry_run(parser)
    add_volumes(parser)
    add_options(parser, DiscoveryOptions, title="discovery")


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, and the maps and templates of as many classes as there may be; the report."""
    from napari_orient.engine.discovery.output import DiscoveryPaths

    paths = DiscoveryPaths(arguments.output, arguments.map, arguments.template_output)
    return [*list_outputs(arguments.output, arguments), *paths.of_classes, *report_outputs(arguments)]


def perform(arguments: Namespace) -> int | None:
    """Read, discover, write if there is something."""
    import numpy as np

    from napari_orient.engine.discovery.discover import discover
    from napari_orient.engine.discovery.output import DiscoveryPaths

    paths = DiscoveryPaths(arguments.output, arguments.map, arguments.template_output)
    replaces = arguments.output.exists()
    options = options_from(arguments, DiscoveryOptions())
    align_to = None if arguments.align_to is None else _aligned_map(arguments)
    target = None if align_to is None else (np.asarray(align_to.density, np.float32), align_to.voxel_size)
    project = read_tomograms(arguments)
    pairs = project.pairs
    if arguments.dry_run:
        return show_inputs(project)
    check_result(arguments.output, pairs)
    counted = f"{sum(len(picks) for _, picks in pairs)} picks in {len(pairs)} tomogram{'s' if len(pairs) != 1 else ''}"
    say(f"{counted}; diameter {options.diameter:g} Å")
    last: list[DiscoveryStep] = []
    try:
        found = follow(_remembered(discover(pairs, options, align_to=target), last))
    except KeyboardInterrupt:
        raise Stopped(_write_stopped(last, pairs, paths.stopped if replaces else paths)) from None
    status = _write(found, pairs, paths)
    if status is None:
        first = found.structures[0]
        write_report(
            arguments,
            found.particles,
            title=f"Discovery {arguments.output.name}",
            labelled=pairs,
            average=first.average,
            model={
                "verdict": first.verdict.words,
                "symmetry": first.group.name,
                "symmetry and hand": " ".join(first.symmetry_notes),
            },
            group=first.group,
            diameter=options.diameter,
        )
        _say_next(arguments, pairs)
    return status or (1 if project.failed else None)


def _say_next(arguments: Namespace, pairs: Labelled) -> None:
    """Say how the map that was found is refined against; without one, how it is averaged."""
    poses: Path = arguments.output
    words = with_tomograms(arguments, pairs, poses)
    if arguments.map is None or words is None:
        say_next_of_poses(arguments, pairs, then="average")
    else:
        refined = unused(poses.with_name(f"{poses.stem}_refined.star"))
        say_next("refine", *words, "--reference", arguments.map, "--output", refined)


def _aligned_map(arguments: Namespace) -> Tomogram:
    """The map to align to, with its own voxel size where that is given."""
    flag = "--align-to-voxel-size"
    return read_tomogram(arguments.align_to, voxel_size=arguments.align_to_voxel_size, flag=flag)


def _remembered(
    stream: Stream[DiscoveryStep, Discovery], last: list[DiscoveryStep]
) -> Stream[DiscoveryStep, Discovery]:
    """The same stream; the last step that had poses stays in the list."""

    def remembered(step: DiscoveryStep) -> DiscoveryStep:
        if step.particles is not None:
            last[:] = [step]
        return step

    return map_steps(stream, remembered)


def _write_stopped(last: list[DiscoveryStep], pairs: Labelled, paths: DiscoveryPaths) -> str:
    """Write what a stopped discovery had by then; the line that says so."""
    from napari_orient.engine.discovery.output import write_step

    if not last:
        return "Stopped before the first round was done; nothing was written."

    def write(place: Place) -> Path:
        placed = paths.at(place)
        write_step(last[0], placed, extents=_extents(pairs))
        return placed.particles

    return f"Stopped; the poses of the last round, without a verdict, are in {write_answer(write)}."


def _write(found: Discovery, pairs: Labelled, paths: DiscoveryPaths) -> int | None:
    """Write what was found and print the verdicts; 1 where there is no structure."""
    from napari_orient.engine.discovery.output import write_discovery
    from napari_orient.engine.discovery.verdict import NOTHING

    if found.class_count_words:
        say(found.class_count_words)
    for number, item in enumerate(found.structures):
        say(_words(item, number, len(found.structures)))
    if found.hint:
        say(found.hint)
    if found.grade == NOTHING:
        print("No common structure was found; nothing was written.")
        return 1

    def write(place: Place) -> Path:
        placed = paths.at(place)
        write_discovery(found, placed, extents=_extents(pairs))
        return placed.particles

    print(f"{write_answer(write)}: {_summary(found)}")
    return None


def _words(item: Structure, number: int, many: int) -> str:
    from napari_orient.engine.discovery.output import class_name

    title = f"{class_name(number)}: " if many > 1 else ""
    return f"{title}{' '.join((item.verdict.words, *item.symmetry_notes))} {item.outliers} picks are set aside."


def _summary(found: Discovery) -> str:
    """The particles in a line, and each class in a line of its own where there are several."""
    from napari_orient.engine.discovery.output import class_name
    from napari_orient.engine.discovery.verdict import NOTHING

    count, many = len(found.particles), len(found.structures) > 1
    lines = [
        f"{f'  {class_name(label)}: {item.count}' if many else count} particles, {_figures(found, label)}"
        for label, item in enumerate(found.structures)
        if item.verdict.grade != NOTHING
    ]
    return "\n".join([f"{count} particles", *lines] if many else lines)


def _figures(found: Discovery, label: int) -> str:
    import numpy as np

    item, expected = found.structures[label], np.median(np.asarray(found.of_class(label).expected_error_deg))
    return (
        f"expected error {expected:.1f}° (median), {item.group.name}, resolution "
        f"{item.average.fsc.resolution(0.5):.1f} Å at FSC 0.5; verdict: {item.verdict.grade}"
    )


def _extents(pairs: Labelled) -> dict[str, Extent]:
    return {tomogram.name: tomogram.extent for tomogram, _ in pairs}

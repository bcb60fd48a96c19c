"""Average particles in their poses (subtomogram average): a map that can be evaluated without true poses.

The last argument is a list of particles with angles; before it may stand their tomograms, which are
otherwise found by the list's own columns or beside it. A PolNet result folder alone serves too. MAP gets the average,
particle bright; beside it stand the maps of two halves and the Fourier shell correlation between them, as it is, in a
mask, with random phases, and corrected for the mask. The halves are those of rlnRandomSubset where the list has them,
else random; duplicates are never in both.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.answers import add_report, report_outputs, write_answer, write_report
from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.cli.lists import (
    FRAMES,
    add_selection,
    add_symmetry_frame,
    list_outputs,
    say_notes,
)
from napari_orient.cli.next_command import same_inputs, say_next, unused
from napari_orient.cli.projects import (
    add_dry_run,
    add_duplicates,
    add_volumes,
    check_result,
    checked_duplicates,
    given_scheduler,
    read_tomograms,
    show_inputs,
)
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_particles
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.outputs import Place
from napari_orient.engine.parameters import MASKS, AveragingOptions
from napari_orient.engine.particles import Labelled, classes_notes, concatenate, in_list_order
from napari_orient.engine.projects.distribution import SchedulerOptions
from napari_orient.engine.symmetry import AUTO, symmetry
from napari_orient.progress import follow

if TYPE_CHECKING:
    from napari_orient.engine.averaging import Average

EXAMPLE = """\
  napari-orient average Tomo001_rec.mrc oriented.star --output average.mrc
  napari-orient average polnet_results --class 3j9i --symmetry D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926 \\
      --output proteasome.mrc"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="[TOMOGRAM...] POSES", help="tomograms, then their list")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MAP", help="map to write: .mrc")
    add_selection(parser)
    parser.add_argument(
        "--symmetry",
        default="C1",
        metavar="GROUP",
        help="imposed, with its axes: D7@z@x; auto proposes what the map has [default C1]",
    )
    add_symmetry_frame(parser)
    parser.add_argument(
        "--local-resolution", action="store_true", help="also write the resolution at every voxel, in Å, as a map"
    )
    parser.add_argument(
        "--list-output",
        type=Path,
        metavar="OUT",
        help="also write the particles with their half-sets (rlnRandomSubset)",
    )
    add_duplicates(parser)
    add_report(parser)
    add_dry_run(parser)
    add_volumes(parser)
    parser.add_argument(
        "--mask",
        default=MASKS[0],
        metavar="ball|map|FILE",
        help="what the FSC is measured in: a soft ball, a soft mask about the map itself, or that of a file, 0 to 1 "
        f"about the map's origin, such as RELION's mask.mrc [default {MASKS[0]}]",
    )
    add_options(parser, AveragingOptions, title="averaging", leave_out={"mask"})
    add_options(parser, SchedulerOptions, title="many tomograms")


def outputs(arguments: Namespace) -> Sequence[Path]:
    """Map, halves and curve; local resolution, list and report where they are asked for."""
    from napari_orient.engine.averaging import average_paths, local_resolution_path

    local = [local_resolution_path(arguments.output)] if arguments.local_resolution else []
    wanted = arguments.list_output
    listed = [] if wanted is None else list_outputs(wanted, arguments)
    return [*average_paths(arguments.output), *local, *listed, *report_outputs(arguments)]


def perform(arguments: Namespace) -> int | None:
    """Read, average, write the maps and the curve."""
    from napari_orient.engine.averaging import average, average_in_relion_frame, duplicate_distance

    options, mask = _options(arguments)
    scheduler = given_scheduler(arguments)
    group = None if arguments.symmetry == AUTO else symmetry(arguments.symmetry)
    project = read_tomograms(arguments)
    pairs = project.pairs
    say_notes(classes_notes(particles for _, particles in pairs))
    if arguments.dry_run:
        return show_inputs(project)
    if arguments.list_output:
        check_result(arguments.list_output, pairs)
    if arguments.remove_duplicates:
        near = duplicate_distance(options, pairs[0][0].voxel_size)
        pairs = [(tomogram, checked_duplicates(particles, near, remove=True)) for tomogram, particles in pairs]
    if arguments.symmetry_frame == FRAMES[0]:
        found = follow(average(pairs, group=group, options=options, scheduler=scheduler, mask=mask))
    else:
        stream = average_in_relion_frame(pairs, group=group, options=options, scheduler=scheduler, mask=mask)
        found, pairs = follow(stream)

    print(
        f"{_written(found, pairs, arguments)}: {found.count} particles, {found.group.name}, "
        f"resolution {found.fsc.resolution(0.5):.1f} Å at FSC 0.5, "
        f"{found.fsc.resolution(0.143):.1f} Å at 0.143, "
        f"{found.resolution.corrected.resolution(0.143):.1f} Å without what the mask adds"
    )
    write_report(
        arguments,
        concatenate([particles for _, particles in pairs]),
        title=f"Average {arguments.output.name}",
        labelled=pairs,
        average=found,
        group=found.group,
    )
    _say_next(arguments)
    return 1 if project.failed else None


def _options(arguments: Namespace) -> tuple[AveragingOptions, Path | None]:
    """How to average, and the file of the mask, if one is given."""
    base = AveragingOptions()
    if arguments.mask in MASKS:
        return options_from(arguments, base), None
    path = Path(arguments.mask)
    if not path.is_file():
        raise InputError(f"--mask {path}: no such file; expected {', '.join(MASKS)}, or the file of a mask.")
    return options_from(Namespace(**{**vars(arguments), "mask": MASKS[0]}), base), path


def _say_next(arguments: Namespace) -> None:
    """Say how the particles are refined against their map; of a list that was refined already, how it is handed on."""
    poses: Path = arguments.paths[-1]
    # A STAR file states the sizes that RELION's coordinates need.
    if poses.suffix == ".star" and poses.is_file() and "refined against" in read_provenance(poses):
        say_next("export", poses, unused(poses.with_name(f"{poses.stem}_for_relion5.star")), "--for", "relion5")
    else:
        map_: Path = arguments.output
        refined = unused(map_.with_name(f"{map_.stem}_refined.star"))
        say_next("refine", *same_inputs(arguments), "--reference", map_, "--output", refined)


def _written(found: Average, pairs: Labelled, arguments: Namespace) -> Path:
    """Path of the map, written with its halves and curve, and with the local resolution and list asked for."""
    from napari_orient.engine.averaging import (
        average_paths,
        local_resolution_path,
        write_average,
        write_local_resolution,
    )
    from napari_orient.engine.duplicates import with_half_sets

    def write(place: Place) -> Path:
        path = place(arguments.output)
        write_average(found, average_paths(path))
        if arguments.local_resolution:
            write_local_resolution(found, place(local_resolution_path(arguments.output)))
        if arguments.list_output:
            every = concatenate([particles for _, particles in pairs])
            particles = in_list_order(with_half_sets(every, found.half_sets))
            provenance = f"napari-orient {__version__}: half-sets"
            say_notes(write_particles(place(arguments.list_output), particles, provenance=provenance))
        return path

    return write_answer(write)

"""Average particles in their poses: the map that the poses imply, which needs no truth to be judged by.

The last argument is a list of particles with angles; before it may stand their tomograms (MRC files), which are
otherwise found by the list's own columns or beside it. A PolNet result folder alone serves too. MAP gets the average,
particle bright; beside it stand the maps of two random halves and the Fourier shell correlation between them.
"""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_orient.cli.arguments import add_options, options_from
from napari_orient.cli.progress import follow
from napari_orient.engine.averaging import FSC, Average, AveragingOptions, average
from napari_orient.engine.files import read_labelled, read_particles, read_tomogram, write_tomogram
from napari_orient.engine.matching.selfsymmetry import AUTO
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import symmetry
from napari_orient.engine.tasks import InputError, check_writable, replacing

EXAMPLE = """\
  napari-orient average Tomo001_rec.mrc oriented.star --output average.mrc
  napari-orient average polnet_results --class 3j9i --symmetry D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917 \\
      --output proteasome.mrc"""


def declare(parser: ArgumentParser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="[TOMOGRAM...] POSES", help="tomograms, then their list")
    parser.add_argument("--output", type=Path, required=True, metavar="MAP", help="map to write: .mrc")
    parser.add_argument("--class", dest="kind", metavar="CODE", help="only the particles of this class, such as 4v4r")
    parser.add_argument(
        "--symmetry",
        default="C1",
        metavar="GROUP",
        help="imposed, with its axes: D7@z@x; auto proposes what the map shows [default C1]",
    )
    parser.add_argument("--voxel-size", type=float, metavar="Å", help="the tomograms', where their headers are wrong")
    add_options(parser, AveragingOptions, title="averaging")


def perform(arguments: Namespace) -> None:
    """Read, average, write the maps and the curve."""
    places = _places(arguments.output)
    options = options_from(arguments, AveragingOptions())
    group = None if arguments.symmetry == AUTO else symmetry(arguments.symmetry)
    pairs = _pairs(arguments)
    if arguments.kind is not None:
        pairs = [(tomogram, particles.of_kind(arguments.kind)) for tomogram, particles in pairs]
    found = follow(average(pairs, group=group, options=options))
    _write(found, places)
    print(
        f"{arguments.output}: {found.count} particles, {found.group.name}, "
        f"resolution {found.fsc.resolution(0.5):.1f} Å at FSC 0.5, "
        f"{found.fsc.resolution(0.143):.1f} Å at 0.143"
    )


def _places(output: Path) -> tuple[Path, Path, Path, Path]:
    """The files of the map, its halves and the curve, all writable."""
    if output.suffix.lower() != ".mrc":
        raise InputError(f"{output} given as map; expected a name that ends in .mrc.")
    first, second = (output.with_name(f"{output.stem}_half{half}.mrc") for half in (1, 2))
    places = output, first, second, output.with_name(f"{output.stem}_fsc.csv")
    for place in places:
        check_writable(place)
    return places


def _pairs(arguments: Namespace) -> list[tuple[Tomogram, Particles]]:
    *tomograms, poses = arguments.paths
    if not tomograms:
        return read_labelled(poses, voxel_size=arguments.voxel_size)
    opened = [read_tomogram(path, voxel_size=arguments.voxel_size) for path in tomograms]
    extents = {tomogram.name: tomogram.extent for tomogram in opened}
    return [(tomogram, read_particles(poses, extents=extents, tomogram=tomogram.name)) for tomogram in opened]


def _write(found: Average, places: tuple[Path, Path, Path, Path]) -> None:
    *maps, curve = places
    for place, density in zip(maps, (found.density, found.first_half, found.second_half), strict=True):
        write_tomogram(place, density, voxel_size=found.voxel_size)
    _write_curve(curve, found.fsc)


def _write_curve(path: Path, fsc: FSC) -> None:
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["resolution_angstrom", "frequency_per_angstrom", "fsc"])
        rows.writerows(
            (f"{1 / frequency:.3f}", f"{frequency:.6f}", f"{value:.4f}")
            for frequency, value in zip(fsc.frequency, fsc.correlation, strict=True)
        )

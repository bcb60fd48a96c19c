"""Particle lists on the command line: how they are read, which particles are used, and how they are written."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_orient.cli.arguments import LENGTH, Parser
from napari_orient.engine.errors import InputError
from napari_orient.engine.frames import MIRRORS, ROTATIONS_ABOUT_X, mirrored, rotated_about_x
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.io.columns import pose_summary
from napari_orient.engine.io.dialects import (
    Dialect,
    holds_true_poses,
    writing_dialect,
    written_dialects,
    written_suffixes,
)
from napari_orient.engine.io.dialects.polnet import membrane_points
from napari_orient.engine.io.dialects.relion_coordinates import CENTRES
from napari_orient.engine.io.dialects.relion_project import (
    import_list_path,
    optimisation_set_paths,
    write_import_list,
    write_optimisation_set,
)
from napari_orient.engine.io.particle_lists import pixel_size_to_write
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.particles import Extent, Labelled, Particles, Tomogram, labelled_of_kind, shortened
from napari_orient.engine.projects.inputs import read_lists
from napari_orient.engine.symmetry import symmetry
from napari_orient.progress import say

VOXEL_SIZE_HELP = "the tomogram's, where its header is wrong; chooses the level of an OME-Zarr store"

FRAMES = ("own", "relion")
"""Frames that poses of a symmetric particle are written in: the map's own, and that which RELION expects."""

_SAME_VOXELS = 0.01
"""Share by which voxel sizes may differ and be one size; chosen: headers round, magnifications differ by more."""
_TOMOGRAMS_SAID = 4
"""Tomograms whose sizes are printed one by one. Chosen: a screen has room for more."""


def written_text() -> str:
    """Suffixes of the lists that are written, with commas between them."""
    return ", ".join(written_suffixes())


def volume_text() -> str:
    """Formats of tomograms, in words."""
    return "MRC (also .gz, .bz2), OME-Zarr, EM, HDF5 of EMAN2, TIFF"


def add_reading(parser: Parser) -> None:
    """Give the parser the flags for facts that a list may lack."""
    group = parser.add_argument_group("facts that the list may lack")
    group.add_argument("--pixel-size", **LENGTH, help="of coordinates in pixels or voxels")
    group.add_argument(
        "--tomograms-star", type=Path, metavar="FILE", help="RELION's tomograms.star, for sizes and pixel sizes"
    )
    group.add_argument(
        "--centre",
        choices=CENTRES,
        default="size/2",
        help="voxel that RELION 5's coordinates count from when read [default size/2; some tools: size/2 - 1]",
    )
    group.add_argument(
        "--first-voxel",
        type=int,
        choices=(0, 1),
        help="number of the first voxel in coordinates in voxels [default 1 for EM motive lists, else 0]",
    )


def list_metadata(arguments: Namespace) -> ListMetadata:
    """How lists are read, as the flags of `add_reading` say.

    Raises
    ------
    InputError
        If there is no such table of tomograms, whether or not a list will need it.
    """
    table = arguments.tomograms_star
    if table is not None and not table.exists():
        raise InputError(f"--tomograms-star {table}: no such file.")
    return ListMetadata(
        pixel_size=arguments.pixel_size,
        tomograms=arguments.tomograms_star,
        centre=arguments.centre,
        first_voxel=arguments.first_voxel,
    )


def read_list(
    path: Path,
    arguments: Namespace,
    *,
    tomogram: Tomogram | None = None,
    extents: Mapping[str, Extent] | None = None,
) -> Particles:
    """Particles of a list, or of all lists of a folder or pattern, read as the flags of `add_reading` say.

    Parameters
    ----------
    tomogram : of its particles alone.
    extents : sizes of tomograms that no file says.
    """
    particles = read_lists(path, replace(list_metadata(arguments), extents=extents or {}), tomogram=tomogram)
    if path.is_file():
        _report_membranes(path)
    say_notes(particles.notes, arguments)
    return particles


def open_tomogram(path: Path, *, voxel_size: float | None) -> Tomogram:
    """Tomogram of a file; its size, the source of its voxel size and notes on it are printed."""
    tomogram = read_tomogram(path, voxel_size=voxel_size)
    say_tomograms([tomogram])
    return tomogram


def say_tomograms(tomograms: Sequence[Tomogram]) -> None:
    """Print the size of each tomogram, its voxel size and where it is from, a line each, and notes; of many, a few."""
    for tomogram in tomograms[:_TOMOGRAMS_SAID]:
        size = " × ".join(str(count) for count in tomogram.extent.size)
        source = f" ({tomogram.voxel_size_source})" if tomogram.voxel_size_source else ""
        say(f"{tomogram.name}: {size} voxels of {tomogram.voxel_size:g} Å{source}")
        say_notes(tomogram.notes)
    sizes = sorted({tomogram.voxel_size for tomogram in tomograms[_TOMOGRAMS_SAID:]})
    if sizes:
        shown = f"{sizes[0]:g}" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g}"
        say(f"{len(tomograms) - _TOMOGRAMS_SAID} more tomograms, voxels of {shown} Å")
    say_notes(_unusual_voxels(tomograms))


def _unusual_voxels(tomograms: Sequence[Tomogram]) -> list[str]:
    """A sentence that names the tomograms whose voxels are not those of most; none where all are alike."""
    sizes = [tomogram.voxel_size for tomogram in tomograms]
    usual = max(sizes, key=sizes.count, default=0.0)
    others = {one.name: one.voxel_size for one in tomograms if abs(one.voxel_size / usual - 1) > _SAME_VOXELS}
    if not others:
        return []
    named = shortened([f"{name} ({size:g} Å)" for name, size in others.items()])
    return [f"Voxels are of {usual:g} Å in {len(sizes) - len(others)} of {len(sizes)} tomograms, but not in {named}."]


def say_notes(notes: Sequence[str], arguments: Namespace | None = None) -> None:
    """Print sentences on how a list was read or written to standard error, one a line.

    Parameters
    ----------
    arguments : of the command, where a sentence is to be said but once in it, however many tomograms it is true of.
    """
    said: dict[str, None] = {} if arguments is None else vars(arguments).setdefault("_said", {})
    for note in notes:
        if note not in said:
            say(f"Note: {note}")
        said[note] = None


def _report_membranes(path: Path) -> None:
    """Print a note about rows of a PolNet list that were left out."""
    points = membrane_points(path) if holds_true_poses(path) else 0
    if points:
        say(f"Note: {points} rows of {path} are points of membranes; they have no orientation and were left out.")


# --- which particles are used -----------------------------------------------------------------------------------------


def add_selection(parser: Parser, *, what: str = "particles") -> None:
    """Give the parser the flags that choose particles, or what they are called here."""
    parser.add_argument(
        "--class", dest="kind", metavar="CODE", help=f"only the {what} of this class, such as 4v4r, or a class number"
    )
    parser.add_argument(
        "--where",
        metavar="EXPRESSION",
        help=f'only the {what} for which this is true, by any column: "rlnLCCmax > 0.2 and rlnClassNumber in (1, 3)"; '
        "neighbour is the distance to the nearest other one, of any class, in Å",
    )


def selected(particles: Particles, arguments: Namespace) -> Particles:
    """The particles that `add_selection` asks for.

    Raises
    ------
    InputError
        If there is none, no class is stated, or the expression does not fit the columns.
    """
    chosen = particles if arguments.kind is None else particles.of_kind(arguments.kind)
    if arguments.where is None:
        return chosen
    from napari_orient.engine.inspection.filters import rows_of_particles

    mask = rows_of_particles(arguments.where, chosen, everyone=particles)
    _say_count(int(mask.sum()), len(mask), arguments.where)
    return chosen.take(mask)


def selected_pairs(pairs: Labelled, arguments: Namespace) -> Labelled:
    """Tomograms that hold particles that `add_selection` asks for, each with these alone.

    Raises
    ------
    InputError
        As `selected`, if no tomogram holds any.
    """
    everyone = {tomogram.name: particles for tomogram, particles in pairs}
    if arguments.kind is not None:
        pairs = labelled_of_kind(pairs, arguments.kind)
    if arguments.where is None:
        return pairs
    from napari_orient.engine.inspection.filters import rows_of_particles

    masks = [rows_of_particles(arguments.where, own, everyone=everyone[tomogram.name]) for tomogram, own in pairs]
    total, kept = sum(len(mask) for mask in masks), sum(int(mask.sum()) for mask in masks)
    _say_count(kept, total, arguments.where)
    return [(tomogram, part.take(mask)) for (tomogram, part), mask in zip(pairs, masks, strict=True) if mask.any()]


def _say_count(kept: int, total: int, expression: str) -> None:
    """Print how many particles are kept.

    Raises
    ------
    InputError
        If none is.
    """
    if kept == 0:
        raise InputError(f"--where {expression!r} is true for none of {total} particles. Change it.")
    say(f"{kept} of {total} particles: {expression}")


# --- writing ----------------------------------------------------------------------------------------------------------


def add_import_list(parser: Parser) -> None:
    """Give the parser the flag for RELION's import list."""
    parser.add_argument(
        "--import-list", action="store_true", help="also write the list that RELION's import job wants: OUT_import.star"
    )


def add_writing(parser: Parser) -> None:
    """Give the parser the flags that say how a list is written, where its format leaves a choice."""
    group = parser.add_argument_group("how OUT is written")
    group.add_argument(
        "--dialect", choices=tuple(written_dialects()), help="of OUT [default: by its suffix; relion5 for .star]"
    )
    group.add_argument(
        "--out-pixel-size",
        **LENGTH,
        help="of OUT's pixels or voxels [default: the tomogram's voxels; --pixel-size for RELION 4 and Warp]",
    )
    group.add_argument(
        "--out-centre",
        choices=CENTRES,
        default="size/2",
        help="voxel that OUT's RELION 5 coordinates count from [default size/2, as RELION's C++]",
    )
    group.add_argument(
        "--out-first-voxel", type=int, choices=(0, 1), help="number of OUT's first voxel [default 1 for .em, else 0]"
    )
    group.add_argument(
        "--optimisation-set",
        action="store_true",
        help="also write RELION 5's set, OUT_optimisation_set.star, and OUT_tomograms.star if none is given",
    )
    add_import_list(parser)


def list_outputs(path: Path, arguments: Namespace, *, dialect: str | None = None) -> list[Path]:
    """The particle list at a path, and the files that are written beside it.

    Raises
    ------
    InputError
        If no dialect, or not the one named, has the path's suffix.
    """
    beside = writing_dialect(path, dialect).companions(path)
    if getattr(arguments, "import_list", False):
        beside = (*beside, import_list_path(path))
    if getattr(arguments, "optimisation_set", False):
        beside = (*beside, *optimisation_set_paths(path, tomograms=arguments.tomograms_star))
    return [path, *beside]


def written_pixel_size(
    dialect: Dialect, arguments: Namespace, tomogram: Tomogram | None, particles: Particles
) -> float | None:
    """Size in Å of the pixels or voxels to write in, as the flags and the tomogram say; None where they do not."""
    return pixel_size_to_write(
        dialect, particles, given=arguments.out_pixel_size, read=arguments.pixel_size, tomogram=tomogram
    )


def check_optimisation_set(dialect: Dialect, arguments: Namespace) -> None:
    """Check that an optimisation set is asked for with a list of RELION 5 alone.

    Raises
    ------
    InputError
        If it was asked for, and the list is of another dialect.
    """
    if arguments.optimisation_set and dialect.name != "relion5":
        raise InputError(
            f"--optimisation-set was given for a list of dialect {dialect.name}; RELION 5 alone has such sets."
        )


def check_import_list(path: Path, particles: Particles, arguments: Namespace) -> None:
    """Check that an import list can be written for these particles, if one was asked for.

    Raises
    ------
    InputError
        If the particles are not written to a STAR file, or lie in several tomograms.
    """
    if arguments.import_list and (path.suffix.lower() != ".star" or len(particles.tomogram_names) != 1):
        raise InputError(
            f"--import-list was given for {path} with particles of {len(particles.tomogram_names)} tomograms; RELION "
            "wants a STAR file for each tomogram. Write them apart."
        )


def summary(particles: Particles) -> str:
    """Number of particles, their expected errors and shifts, in a line."""
    return ", ".join([counted(particles), *pose_summary(particles)])


def counted(particles: Particles) -> str:
    """``12 particles``, or that of one."""
    return "1 particle" if len(particles) == 1 else f"{len(particles)} particles"


def write_beside(path: Path, particles: Particles, arguments: Namespace, *, pixel_size: float | None = None) -> None:
    """Write RELION's import list, and its optimisation set, beside a STAR file, if they were asked for.

    Parameters
    ----------
    pixel_size : Å, of the tilt series, where it is given.
    """
    if getattr(arguments, "import_list", False):
        write_import_list(import_list_path(path), path, particles.tomogram_names)
    if getattr(arguments, "optimisation_set", False):
        say_notes(write_optimisation_set(path, particles, tomograms=arguments.tomograms_star, pixel_size=pixel_size))


# --- frame and hand that a list is written in -------------------------------------------------------------------------


def add_symmetry_frame(parser: Parser) -> None:
    """Declare ``--symmetry-frame``."""
    parser.add_argument(
        "--symmetry-frame",
        choices=FRAMES,
        default=FRAMES[0],
        help="frame to write in: the map's own, or RELION's, whose symmetry axes are fixed (n-fold on z) [default own]",
    )


def add_expansion(parser: Parser) -> None:
    """Declare ``--symmetry``, ``--symmetry-frame`` and ``--expand-symmetry`` of a list that is converted."""
    parser.add_argument("--symmetry", metavar="GROUP", help="of the particle, with its axes: D7@z@x")
    add_symmetry_frame(parser)
    parser.add_argument(
        "--expand-symmetry", action="store_true", help="write every particle once for each rotation of its --symmetry"
    )


def in_symmetry_frame(particles: Particles, arguments: Namespace) -> Particles:
    """The particles in the frame asked for, and expanded where that is asked for.

    Raises
    ------
    InputError
        If a group is needed and not given, or the other way round.
    """
    moved, copied = arguments.symmetry_frame != FRAMES[0], arguments.expand_symmetry
    if not (moved or copied):
        if arguments.symmetry is not None:
            raise InputError(
                "--symmetry changes nothing by itself; add --symmetry-frame relion or --expand-symmetry, or drop it."
            )
        return particles
    if arguments.symmetry is None:
        flag = "--expand-symmetry" if copied else "--symmetry-frame"
        raise InputError(f"{flag} needs the particle's group; give --symmetry, such as D7@-0.64,0.76,0.10.")
    from napari_orient.engine.frames import expanded, in_frame, relion_frame, relion_symmetry

    group = symmetry(arguments.symmetry)
    if moved:
        particles = in_frame(particles, relion_frame(group), group.frame[:, 0] * 0)
        group = relion_symmetry(group)
    return expanded(particles, group) if copied else particles


def add_hand(parser: Parser) -> None:
    """Give the parser the flags for a tomogram that was mirrored or turned."""
    group = parser.add_argument_group("a tomogram that was mirrored or turned, with its particles")
    group.add_argument(
        "--mirror",
        choices=tuple(MIRRORS),
        help="as the volume was: along an axis, through its centre, or y and z exchanged",
    )
    group.add_argument(
        "--rotate-x",
        choices=tuple(ROTATIONS_ABOUT_X),
        metavar="DEG",
        help="-90 (IMOD's trimvol -rx) or 90 (back again)",
    )


def moved_as_asked(particles: Particles, arguments: Namespace) -> Particles:
    """Particles of the tomogram as `add_hand` says that it was mirrored or rotated, which a note says."""
    moved = particles.replace(notes=())
    if arguments.mirror is not None:
        moved = mirrored(moved, arguments.mirror)
    if arguments.rotate_x is not None:
        moved = rotated_about_x(moved, arguments.rotate_x)
    say_notes(moved.notes)
    return moved

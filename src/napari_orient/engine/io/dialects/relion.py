"""Particles in STAR files of RELION 3.0, 3.1, 4 and 5, Warp and M: the meaning of the columns, read and written.

Angles are the inverse of intrinsic ZYZ. Where ``rlnTomoSubtomogram*`` angles are given too, the pose is their rotation
times that of ``rlnAngle*``. Written files hold the whole pose in ``rlnAngle*`` and the whole position in the
coordinates, but for lists that name images (`relion_coordinates`). All other columns and tables are carried through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import (
    ANGLE_PRIORS,
    BOX_COLUMNS,
    box_centres,
    box_rotations,
    carried_columns,
    with_mark,
    without_images,
    written_column,
)
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile, Writer
from napari_orient.engine.io.dialects.relion_coordinates import (
    ANY_SIZE,
    CENTRED,
    ORIGIN,
    PIXELS,
    SUBTOMOGRAM_ANGLES,
    box_columns,
    centred_extents,
    centres,
    coordinate_columns,
    covers,
    in_boxes,
    rotated,
    size_notes,
    with_boxes,
    with_extents,
    written_optics,
    written_sizes,
)
from napari_orient.engine.io.dialects.voxels import counted_note
from napari_orient.engine.io.star import (
    Table,
    column_texts,
    decimals,
    number_columns,
    numbers,
    read_star,
    single,
    write_star,
)
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    PIXEL,
    SIZE,
    TOMOGRAM,
    ListMetadata,
    binned_extents,
    column_note,
    column_of_tomogram,
    extents_beside,
    extents_table,
    find_extents,
    fit_only_in_angstrom,
    found_file,
    given_source,
    left_out_note,
    optimisation_set,
    pixel_sizes,
    plain_name,
    read_tomograms,
    rows_of_tomogram,
    table_extents,
    tomogram_files,
    tomogram_names,
    tomograms_of_set_beside,
)
from napari_orient.engine.particles import Extent, FloatArray, Particles, names_column, shortened
from napari_orient.engine.rotations import matrix_to_zyz, zyz_to_matrix

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
CONFIDENCE = "orientConfidence"
EXPECTED_ERROR = "orientExpectedErrorDeg"
CLASS = "orientClass"

Scale = Callable[["RelionTable", ListMetadata], tuple[FloatArray, str]]
"""Å of one unit of the coordinates of a table, (N, 1) or (N, 3), and a sentence on it."""

_POSES = (*CENTRED, *PIXELS, *ANGLES, *SUBTOMOGRAM_ANGLES, *ORIGIN, *ORIGIN_PIXELS)
OWN = (*_POSES, CONFIDENCE, EXPECTED_ERROR, CLASS, TOMOGRAM)
"""Columns that `Particles` holds in fields of their own; all others go to ``extra``."""


def read_relion(path: Path | str, metadata: ListMetadata | None = None, *, scale: Scale | None = None) -> Particles:
    """Particles of a STAR file; an optimisation set is followed to its particles and tomograms.

    Sizes of tomograms are taken from a ``data_global`` table in the file, else from ``metadata.tomograms``, else from
    ``metadata.extents``, else from ``*tomograms.star`` beside the file. The optimisation set of a data file is found
    where it lies beside it.

    Parameters
    ----------
    scale : unit of the coordinates that are not centred; None for pixels or voxels.

    Raises
    ------
    InputError
        If there are no particles or no coordinates, angles are incomplete, a value is no number, or the size of a
        tomogram or a pixel is needed and not given.
    """
    metadata = metadata or ListMetadata()
    source, beside = _open(Path(path))
    return particles_of_table(source, replace(metadata, tomograms=metadata.tomograms or beside), scale=scale)


def particles_of_table(source: RelionTable, metadata: ListMetadata, *, scale: Scale | None = None) -> Particles:
    """Particles of a table in RELION's columns; see `read_relion`."""
    source = source.of_tomogram(metadata.tomogram)
    stated = _extents_in_tables(source, metadata)
    found = stated
    notes: tuple[str, ...] = ()
    subtomogram = source.rotations(SUBTOMOGRAM_ANGLES)
    if source.has(CENTRED):
        found = centred_extents(source.path, source.names, source.blocks, metadata)
        positions = source.columns(CENTRED) + centres(source.names, found, metadata.centre)
        notes = size_notes(source.path, metadata, found)
    else:
        unit, note = _unit(source, metadata) if scale is None else scale(source, metadata)
        first = 0 if scale is not None else metadata.first_voxel or 0
        positions, notes = (source.columns(PIXELS) - first) * unit, (note,)
    boxes, positions = positions, positions - rotated(subtomogram, source.origins(metadata))
    particles = source.particles(positions, _composed(subtomogram, source.rotations(ANGLES)), found)
    notes = (*source.notes, *notes, *_priors_note(source))
    particles = particles.replace(notes=notes, extents=stated)
    frames = None if subtomogram is None else source.columns(SUBTOMOGRAM_ANGLES)
    particles = with_boxes(particles, boxes, frames)
    return particles if any(source.names) else particles.replace(tomogram=metadata.tomogram or "")


def _extents_in_tables(source: RelionTable, metadata: ListMetadata) -> dict[str, Extent]:
    """Unbinned sizes of the tomograms as RELION's tables have them, as far as they do and agree."""
    given = metadata.tomograms
    tables = [] if given is None else [table_extents(read_tomograms(given), where=str(given))]
    found = find_extents(source.names, tables)
    try:
        return {**extents_beside(source.path, [name for name in source.names if name not in found]), **found}
    except InputError:
        return found


def _unit(source: RelionTable, metadata: ListMetadata) -> tuple[FloatArray, str]:
    """Å of one pixel or voxel of each particle, (N, 1), and a sentence on it."""
    sizes, origin = source.pixel_sizes_and_source(metadata)
    return sizes[:, None], counted_note("pixels", sizes, origin, first=metadata.first_voxel or 0)


def _priors_note(source: RelionTable) -> tuple[str, ...]:
    """A sentence on priors that refer to the frame of a subtomogram, which the pose that is read does not."""
    dropped = [name for name in ANGLE_PRIORS if name in source.table and source.has(SUBTOMOGRAM_ANGLES)]
    if not dropped:
        return ()
    return (f"Priors in the frame of a subtomogram are left out, for whole poses are read: {', '.join(dropped)}.",)


def named_tomograms(path: Path | str) -> dict[str, Path | None]:
    """Tomograms that a STAR file's particles lie in, in order of appearance, with the file of each.

    The file is that of ``rlnMicrographName`` or of an optimisation set's table of tomograms; None if it is not there.
    """
    source, beside = _open(Path(path))
    files = tomogram_files(read_tomograms(beside), beside=beside) if beside is not None else {}
    texts = source.table.get("rlnMicrographName", ("",) * source.count)
    return {
        name: files.get(name) or found_file(text, beside=source.path)
        for name, text in dict(zip(source.names, texts, strict=True)).items()
    }


# --- the table and its columns --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RelionTable:
    """Table of particles in RELION's columns, with its file, its block's name and the file's other tables.

    Parameters
    ----------
    rows : of the file's table, where they are chosen from it.
    notes : how the table was chosen in its file.
    """

    path: Path
    table: Table
    blocks: Mapping[str, Table]
    block: str = "particles"
    rows: NDArray[np.intp] | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Tomogram of each row: ``rlnTomoName``, or the name in ``rlnMicrographName`` without folder and suffix."""
        return list(self.table[TOMOGRAM]) if TOMOGRAM in self.table else tomogram_names(self.table)

    @property
    def count(self) -> int:
        """Number of particles."""
        return len(next(iter(self.table.values())))

    def has(self, columns: Sequence[str]) -> bool:
        """Whether all these columns are there."""
        return set(columns) <= set(self.table)

    def columns(self, names: Sequence[str]) -> FloatArray:
        """Columns as finite numbers, (N, number of columns)."""
        return numbers(self.table, names, where=str(self.path))

    def column(self, name: str) -> FloatArray | None:
        """Column as numbers, perhaps NaN, (N,); None where there is none."""
        return single(self.table, name, where=str(self.path), finite=False) if name in self.table else None

    def of_tomogram(self, tomogram: str | None) -> RelionTable:
        """Rows of one tomogram; all rows, if the list names no tomogram."""
        names, notes = self.names, self.notes
        if tomogram is not None and not any(names) and (column := column_of_tomogram(self.table, tomogram)):
            names = [plain_name(text) for text in self.table[column]]
            notes = (*notes, column_note(column, tomogram))
        if tomogram is None or not any(names):
            return self
        rows = rows_of_tomogram(names, tomogram, where=str(self.path))
        if len(rows) == self.count:
            return replace(self, rows=rows, notes=notes)
        table: Table = {name: tuple(values[row] for row in rows) for name, values in self.table.items()}
        notes = (*notes, *left_out_note(names, rows, where=str(self.path)))
        return replace(self, table=table, rows=rows, notes=notes)

    def rotations(self, columns: Sequence[str]) -> FloatArray | None:
        """Rotations of three columns of angles, (N, 3, 3); None where the file has none of the three."""
        present = [name for name in columns if name in self.table]
        if not present:
            return None
        if len(present) < 3:
            absent = next(name for name in columns if name not in present)
            raise InputError(f"{self.path} has {present[0]} but no {absent}; expected all three or none. Add it.")
        return zyz_to_matrix(self.columns(columns))

    def origins(self, metadata: ListMetadata) -> FloatArray:
        """RELION's shifts in Å, (N, 3)."""
        origins = np.zeros((self.count, 3))
        in_pixels = not any(name in self.table for name in ORIGIN)
        for axis, name in enumerate(ORIGIN_PIXELS if in_pixels else ORIGIN):
            if name in self.table:
                origins[:, axis] = single(self.table, name, where=str(self.path))
        if in_pixels and origins.any():
            origins *= self.pixel_sizes(metadata)[:, None]
        return origins

    def pixel_sizes(self, metadata: ListMetadata) -> FloatArray:
        """Size in Å of the pixels or voxels that each particle's coordinates count in, (N,)."""
        return self.pixel_sizes_and_source(metadata)[0]

    def _own_sizes(self) -> FloatArray | None:
        """Size in Å of the pixels as the list itself has it, (N,); None where it does not, or has none that can be."""
        try:
            return pixel_sizes(self.table, self.blocks, {}, names=self.names, where=str(self.path))
        except InputError:
            return None

    def pixel_sizes_and_source(self, metadata: ListMetadata) -> tuple[FloatArray, str]:
        """Size in Å of the pixels or voxels that each particle's coordinates count in, (N,), and where it is from.

        Raises
        ------
        InputError
            If neither the caller nor a file has it.
        """
        if metadata.pixel_size is not None:
            return np.full(self.count, float(metadata.pixel_size)), given_source(metadata.pixel_size, self._own_sizes())
        own = pixel_sizes(self.table, self.blocks, {}, names=self.names, where=str(self.path))
        if own is not None:
            return own, "the list's own"
        found, opened = self._sizes_in_tables(metadata), False
        if set(self.names) - set(found):
            found, opened = find_extents(self.names, [metadata.extents]), True
        if set(self.names) - set(found):
            raise InputError(
                f"{self.path} has coordinates in pixels or voxels, and states no size of them. If they are voxels of "
                "the tomogram, open it too (--tomogram); else give the pixel size in Å (--pixel-size): that of the "
                "tilt series for RELION 3 and 4, 1 for coordinates in Å."
            )
        extents = [found[name] for name in self.names]
        # M's lists for RELION are in Å and call tomograms so; those of pickers are in voxels, however few fit.
        warp = all(name.endswith(".tomostar") for name in self.table.get("rlnMicrographName", self.names))
        if opened and warp and fit_only_in_angstrom(self.columns(PIXELS), extents):
            return np.ones(self.count), "they lie beyond the opened tomogram's voxels"
        sizes = np.array([extent.voxel_size for extent in extents])
        return sizes, "the opened tomogram's" if opened else "of the table of tomograms"

    def _sizes_in_tables(self, metadata: ListMetadata) -> dict[str, Extent]:
        """Extent of each tomogram in the tables in the file, that is given, and beside it."""
        extents = table_extents if self.counts_unbinned else binned_extents
        tables = [
            *([self.blocks[GLOBAL]] if GLOBAL in self.blocks else []),
            *([read_tomograms(metadata.tomograms)] if metadata.tomograms is not None else []),
        ]
        found = find_extents(self.names, [extents(table, where=str(self.path)) for table in tables])
        missing = [name for name in self.names if name not in found]
        return {**found, **(extents_beside(self.path, missing, extents=extents) if missing else {})}

    @property
    def counts_unbinned(self) -> bool:
        """Whether pixels without a size are those of the tilt series, as in RELION's own particle sets.

        Lists of pickers (RELION 5's, PySeg's, pyTME's) count in voxels of the tomogram that was searched.
        """
        return self.block != "" and "pytmeScore" not in self.table

    def particles(self, positions: FloatArray, rotations: FloatArray | None, found: Mapping[str, Extent]) -> Particles:
        """Particles at these positions with these rotations, and all columns that are not their pose."""
        dropped = {*OWN, *(ANGLE_PRIORS if self.has(SUBTOMOGRAM_ANGLES) else ())}
        known = {name: extent for name, extent in found.items() if extent != ANY_SIZE}
        sizes = {GLOBAL: extents_table(known)} if known and GLOBAL not in self.blocks else {}
        return Particles(positions=positions).adopting(
            rotations=rotations,
            confidence=self.column(CONFIDENCE),
            expected_error_deg=self.column(EXPECTED_ERROR),
            tomogram=names_column(self.names),
            kind=np.array(self.table[CLASS], str) if CLASS in self.table else None,
            list_row=self.rows,
            extra=carried_columns(self.table, own=OWN, dropped=dropped, where=str(self.path)),
            blocks={**self.blocks, **sizes},
        )


def _open(path: Path) -> tuple[RelionTable, Path | None]:
    """Table of particles, and the tomograms' file if an optimisation set names it."""
    blocks = read_star(path)
    followed = optimisation_set(blocks, path)
    if followed is not None:
        path, beside = followed
        blocks = read_star(path)
    else:
        beside = tomograms_of_set_beside(path)
    blocks = {name: _relion_names(table) for name, table in blocks.items()}
    blocks = _joined_by_tomogram(blocks)
    block = _particle_block(blocks, path)
    others = {name: table for name, table in blocks.items() if name != block}
    return RelionTable(path, blocks[block], others, block, notes=_other_tables_note(others, block)), beside


def _placed(blocks: Mapping[str, Table]) -> list[str]:
    """Names of the tables that have coordinates."""
    return [name for name, table in blocks.items() if any(column in table for column in (*CENTRED, *PIXELS))]


def _joined_by_tomogram(blocks: dict[str, Table]) -> dict[str, Table]:
    """The tables, with those of one tomogram each, which are called as it, joined to one of particles."""
    placed = _placed(blocks)
    tables = [blocks[name] for name in placed]
    alike = len(placed) > 1 and all(set(table) == set(tables[0]) for table in tables)
    if not alike or {"particles", "", "images"} & set(placed) or any(tomogram_names(tables[0])):
        return blocks
    joined = {name: tuple(value for table in tables for value in table[name]) for name in tables[0]}
    counts = [len(next(iter(table.values()))) for table in tables]
    names = tuple(name for name, count in zip(placed, counts, strict=True) for _ in range(count))
    others = {name: table for name, table in blocks.items() if name not in placed}
    return {**others, "particles": {TOMOGRAM: names, **joined}}


def _other_tables_note(others: Mapping[str, Table], block: str) -> tuple[str, ...]:
    """A sentence on tables that have coordinates too, and are not read."""
    names = [f"data_{name}" for name in _placed(others)]
    if not names:
        return ()
    return (f"Particles are those of data_{block}; {shortened(names)} has coordinates too, and is carried unread.",)


def _relion_names(table: Table) -> Table:
    """The table with RELION's names for columns that early versions of pytom-match-pick begin with ``ptm``."""
    if "ptmCoordinateX" not in table:
        return table
    return {f"rln{name[3:]}" if name.startswith("ptm") else name: values for name, values in table.items()}


def _particle_block(blocks: Mapping[str, Table], path: Path) -> str:
    """Name of the table that holds particles: the one with coordinates; of several, by its name."""
    placed = _placed(blocks)
    named = [name for name in ("particles", "", "images") if name in blocks]
    block = next((name for name in named if name in placed), placed[0] if placed else None)
    if len(placed) > 1 and block not in named:
        shown = ", ".join(f"data_{name}" for name in placed)
        raise InputError(f"{path} has {len(placed)} tables of particles ({shown}); expected one. Make a file of each.")
    if block is None:
        raise InputError(_no_coordinates(blocks, named, path))
    table = blocks[block]
    if len(next(iter(table.values()))) == 0:
        raise InputError(f"{path} has no particles: its table data_{block} is empty. Choose another file.")
    columns = CENTRED if any(column in table for column in CENTRED) else PIXELS
    absent = [column for column in columns if column not in table]
    # Incomplete centred coordinates do not matter where those in pixels are complete.
    if absent and not set(PIXELS) <= set(table):
        flat = "Is it a list of particles in micrographs?" if absent == [PIXELS[2]] else "Add it."
        raise InputError(f"{path} has no column {absent[0]}; expected {columns[0]}, Y and Z. {flat}")
    return block


def _no_coordinates(blocks: Mapping[str, Table], named: Sequence[str], path: Path) -> str:
    columns = {column for table in blocks.values() for column in table}
    if "rlnTomoImportParticleFile" in columns:
        return f"{path} is a list of particle files, not of particles; open one of the files that it names."
    if {"rlnTomoTiltSeriesStarFile", *SIZE} & columns:
        return f"{path} is a table of tomograms, not of particles; open the particles' file."
    if named:
        return f"{path} has no coordinates; expected columns {PIXELS[0]}, Y, Z or {CENTRED[0]}, Y, Z. Add them."
    shown = ", ".join(f"data_{name}" for name in blocks)
    return f"{path} has no table of particles (it has {shown}); expected data_particles. Choose another file."


def _composed(subtomogram: FloatArray | None, angles: FloatArray | None) -> FloatArray | None:
    if subtomogram is None or angles is None:
        return angles if subtomogram is None else subtomogram
    return subtomogram @ angles


# --- writing --------------------------------------------------------------------------------------------------------

_VERSIONS = {"relion5": "50001", "relion4": "30001"}
"""Version number that RELION writes in a file of each dialect."""


def write_relion(
    path: Path | str,
    particles: Particles,
    metadata: ListMetadata | None = None,
    *,
    dialect: str = "relion5",
    provenance: str = "",
) -> tuple[str, ...]:
    """Write particles as ``data_particles``: RELION 5 (Å from the centre) or RELION 4 (unbinned pixels).

    Tables that were read (optics) are written unchanged, before the particles, but for a pixel size of the tilt series,
    without which RELION 5 stops; the sizes that the coordinates refer to follow in ``data_global``, so that the file
    can be read alone. The coordinates of particles with images are those of the images' boxes, and RELION's origins
    lead to the particles. The sentences that are returned say what a person should know.

    Parameters
    ----------
    metadata : sizes of tomograms, where the particles' own ``data_global`` has none; and the size of pixels, which
        comes before that of columns, optics and ``data_global``.

    Raises
    ------
    InputError
        If there are no particles, the dialect is unknown, the size of a tomogram or pixel is needed and not given, or
        the file cannot be written.
    """
    metadata = metadata or ListMetadata()
    if dialect not in _VERSIONS:
        raise InputError(f"dialect {dialect!r} is unknown; expected one of {', '.join(_VERSIONS)}.")
    if len(particles) == 0:
        raise InputError(f"there are no particles to write to {path}; expected one at least.")
    sizes = written_sizes(path, particles, metadata, dialect=dialect)
    names, pixels = sizes.names, sizes.pixels
    columns: dict[str, Sequence[str]] = {TOMOGRAM: names} if any(names) else {}
    boxes, frames, notes = box_centres(particles), box_rotations(particles), particles.notes
    if frames is not None and particles.rotations is None:
        # RELION takes the frame of a box alone for the particle's pose.
        particles = without_images(particles, "their boxes are turned, and the particles' orientations are unknown")
        boxes, frames = None, None
    said = tuple(note for note in particles.notes if note not in notes)
    places = particles.positions if boxes is None else boxes
    columns |= coordinate_columns(path, places, names, sizes.extents, pixels, dialect=dialect, centre=metadata.centre)
    columns |= pose_columns(in_boxes(particles, frames)) | box_columns(particles, boxes, frames)
    if dialect == "relion4" and pixels.sizes is not None and not pixels.stated:
        columns[PIXEL] = [f"{size:.9g}" for size in pixels.sizes.tolist()]
    foreign = foreign_columns(particles, without=tuple(columns))
    blocks = _blocks(particles, {**columns, **foreign}, _global_table(particles, names, sizes.extents))
    if "optics" in blocks:
        blocks["optics"] = written_optics(blocks["optics"], particles, pixels, names, dialect=dialect)
    write_star(path, blocks, provenance=provenance, version=_VERSIONS[dialect])
    return (*said, *(pixels.notes if dialect == "relion4" else ()), *sizes.notes)


def foreign_columns(particles: Particles, *, without: Sequence[str] = ()) -> dict[str, Sequence[str]]:
    """Columns of other programs as text, but for those of these names; those called as a pose's columns are marked."""
    return {
        with_mark(name, name in OWN): written_column(name, column)
        for name, column in particles.extra.items()
        if name in OWN or name not in (*BOX_COLUMNS, *without)
    }


def pose_columns(particles: Particles) -> dict[str, Sequence[str]]:
    """RELION's angles, this program's confidence and expected error, and the class, as far as they are known."""
    columns: dict[str, Sequence[str]] = {}
    if particles.rotations is not None:
        columns |= number_columns(ANGLES, matrix_to_zyz(particles.rotations))
    if particles.confidence is not None:
        columns[CONFIDENCE] = decimals(particles.confidence)
    if particles.expected_error_deg is not None:
        columns[EXPECTED_ERROR] = decimals(particles.expected_error_deg)
    if particles.kind is not None:
        columns[CLASS] = column_texts(particles.kind)
    return columns


def _blocks(
    particles: Particles, columns: Mapping[str, Sequence[str]], sizes: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, Mapping[str, Sequence[str]]]:
    """All tables in order: RELION's import reads the first table of a file whatever its name, so sizes come last."""
    blocks: dict[str, Mapping[str, Sequence[str]]] = {}
    carried = {name: table for name, table in particles.blocks.items() if name not in (GLOBAL, "particles")}
    blocks |= {name: carried.pop(name) for name in ("general", "optics") if name in carried}
    blocks["particles"] = columns
    return {**blocks, **carried, **sizes}


def _global_table(
    particles: Particles, names: Sequence[str], extents: Mapping[str, Extent]
) -> dict[str, Mapping[str, Sequence[str]]]:
    """``data_global`` of these sizes: the list's own table, where it has all of them, else one of them alone."""
    known = {name: extent for name, extent in extents.items() if extent != ANY_SIZE}
    own = particles.blocks.get(GLOBAL)
    if own is not None and covers(own, names):
        return {GLOBAL: with_extents(own, known)}
    return {GLOBAL: extents_table(known)} if known else {}


# --- the dialects ---------------------------------------------------------------------------------------------------


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_relion(file.path, metadata)


def _writer(dialect: str) -> Writer:
    def write(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
        return write_relion(path, particles, metadata, dialect=dialect, provenance=provenance)

    return write


def _volumes(file: ListFile) -> dict[str, Path | None]:
    return named_tomograms(file.path)


def _is_centred(file: ListFile) -> bool:
    return bool({*CENTRED, "rlnTomoParticlesFile"} & file.tags)


RELION5 = Dialect(
    name="relion5",
    title="RELION 5",
    programs="RELION 5 and 5.1, WarpTools, pytom-match-pick with its RELION 5 option, cryoCAT, ArtiaX",
    suffixes=(".star",),
    layout="Å from the tomogram's centre (size / 2, unbinned); rot, tilt, psi (ZYZ), perhaps after rlnTomoSubtomogram*",
    trap="Sizes are in tomograms.star; some tools count from size / 2 - 1.",
    recognises=_is_centred,
    read=_read,
    write=_writer("relion5"),
    carries_tables=True,
    volumes=_volumes,
)

RELION4 = Dialect(
    name="relion4",
    title="RELION 3 and 4",
    programs="RELION 3.0, 3.1 and 4, Warp 1, TOMOMAN",
    suffixes=(".star",),
    layout="unbinned pixels of the tilt series, minus rlnOrigin*; rot, tilt, psi (ZYZ)",
    trap="The pixel size is that of the tilt series, not of the binned tomogram.",
    recognises=lambda file: file.is_star,
    read=_read,
    write=_writer("relion4"),
    carries_tables=True,
    volumes=_volumes,
)

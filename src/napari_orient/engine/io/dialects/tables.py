"""Lists in tables of text: our own with named columns, and those of napari, pyTME and crYOLO.

The header of ours is ``tomogram, x, y, z, rot, tilt, psi, confidence, expected_error_deg, class``: positions in Å from
the centre of voxel [0, 0, 0], angles in degrees as in RELION. Unknown values have no column. Files may also have
``x_voxel, y_voxel, z_voxel`` (voxels, counted from 0) and a quaternion ``qw, qx, qy, qz`` in place of the angles; only
coordinates are required, which other programs' names are understood of too (`text_tables`). All other columns are
carried through unchanged.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import (
    PICKERS_SCORE,
    carried_columns,
    with_mark,
    written_column,
)
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile, block_of
from napari_orient.engine.io.dialects.text_tables import (
    POSITION,
    VOXEL,
    angle_names,
    coordinate_columns,
    first_cells,
    read_rows,
)
from napari_orient.engine.io.dialects.voxels import (
    VoxelRows,
    counted_note,
    particles_in_voxels,
    voxel_sizes,
    without_defaults,
)
from napari_orient.engine.io.star import Table, decimals, numbers, plain_texts, provenance_line, single
from napari_orient.engine.io.tomograms import (
    TOMOGRAM,
    ListMetadata,
    column_note,
    column_of_tomogram,
    left_out_note,
    plain_name,
    rows_of_tomogram,
    tomogram_names,
)
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import FloatArray, Particles, names_column
from napari_orient.engine.rotations import matrix_to_zyz, wxyz_to_matrix, zyz_to_matrix

_ANGLES = ("rot", "tilt", "psi")
_QUATERNION = ("qw", "qx", "qy", "qz")
_OWN = ("tomogram", *POSITION, *VOXEL, *_ANGLES, *_QUATERNION, "confidence", "expected_error_deg", "class")
_DEGREES = re.compile(r"^(rot|tilt|psi)(?:[\s_]+|[\s_]*[\[(]\s*)(?:deg|degrees?|°)\s*[\])]?$")
"""An angle that states its unit: ``rot_deg``, as `Particles.to_dataframe` calls it, ``tilt (°)``."""


def read_table(path: Path | str, metadata: ListMetadata | None = None) -> Particles:
    """Particles of a CSV or TSV file with named columns; see `particles_of_columns`."""
    return particles_of_columns(read_rows(path), metadata or ListMetadata(), where=str(path))


def particles_of_columns(columns: Table, metadata: ListMetadata, *, where: str) -> Particles:
    """Particles of a table with named columns.

    Coordinates in voxels take ``metadata.pixel_size``, else the voxel sizes of ``metadata.extents``.

    Parameters
    ----------
    where : what the table is, for errors: its file.

    Raises
    ------
    InputError
        If coordinates are missing, angles are incomplete, a value is no number, or a voxel size is needed and not
        given.
    """
    tomogram = metadata.tomogram
    read, notes = _with_coordinates(columns, where)
    read, said = _with_classes(read)
    read, oriented = _with_angles(read, where)
    said = (*said, *oriented)
    table = {_own(name): values for name, values in read.items()}
    if len(table) < len(read):
        raise InputError(f"{where} has two columns of one name; rename or remove one.")
    del columns, read
    names, rows = tomogram_names(table), None
    if tomogram is not None and not any(names):
        column = column_of_tomogram({name: table[name] for name in table if name not in _OWN}, tomogram)
        if column is not None:
            names = [plain_name(text) for text in table[column]]
            notes = (*notes, column_note(column, tomogram))
    if any(names) and tomogram is not None:
        rows = rows_of_tomogram(names, tomogram, where=where)
        notes = (*notes, *left_out_note(names, rows, where=where))
        table = {name: tuple(values[row] for row in rows) for name, values in table.items()}
        names = [names[row] for row in rows]
    names = [name or tomogram or "" for name in names]
    angles = _angles(table, where=where)
    if "confidence" in table and not _is_own_confidence(table, posed=angles is not None, where=where):
        table = {PICKERS_SCORE if name == "confidence" else name: values for name, values in table.items()}
    positions, counted = _positions(table, names, metadata, where=where)
    found = Particles(positions=positions).adopting(
        confidence=_optional(table, "confidence", where=where),
        expected_error_deg=_optional(table, "expected_error_deg", where=where),
        tomogram=names_column(names),
        kind=np.array(table["class"], str) if "class" in table else None,
        list_row=rows,
        notes=(*notes, *counted, *said, *_angles_note(table)),
        extra=carried_columns(table, own=_OWN, dropped=(*_OWN, TOMOGRAM), where=where),
    )
    # The text of a long list goes before matrices, which take as much memory, are made.
    del table
    return found if angles is None else found.adopting(rotations=angles.matrices(where))


def _is_own_confidence(table: Table, *, posed: bool, where: str) -> bool:
    """Whether a column called confidence is this program's: a probability, beside the rotation that it is of."""
    try:
        values = single(table, "confidence", where=where, finite=False)
    except InputError:
        return posed
    return posed and bool(((values >= 0) & (values <= 1) | np.isnan(values)).all())


def write_table(path: Path | str, particles: Particles, *, provenance: str = "") -> None:
    """Write particles under the header above, separated by tabs if the name ends in ``.tsv``, else by commas.

    Raises
    ------
    InputError
        If there are no particles, or the file cannot be written.
    """
    if len(particles) == 0:
        raise InputError(f"there are no particles to write to {path}; expected one at least.")
    columns = _columns(particles)
    delimiter = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
        stream.write(provenance_line(provenance))
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _own(name: str) -> str:
    """Name of a column in lower case if it is one of ours, of angles without ``deg``; else as it is."""
    plain = _DEGREES.sub(r"\1", name.lower())
    return plain if plain in _OWN else name


_CLASSES = ("particle_type", "object_name", "class_name", "molecule")
"""Names under which other programs have a particle's class, such as copick's tables of picks."""


def _with_classes(table: Table) -> tuple[Table, tuple[str, ...]]:
    """The table with its classes as class, where another name has them; and a sentence that says so."""
    name = next((name for name in table if name.lower() in _CLASSES), None)
    if name is None or any(_own(other) == "class" for other in table):
        return table, ()
    return {"class" if key == name else key: values for key, values in table.items()}, (
        f"Classes are those of {name}.",
    )


_OTHER_NAMES = (
    (_ANGLES, re.compile(r"^(?:rln)?ang(?:le)?[\s_]*(rot|tilt|psi)$"), 1.0),
    (_ANGLES, re.compile(r"^(rot|tilt|psi)[\s_]*[\s_\[(]\s*rad(?:ians?)?\s*[\])]?$"), 180 / np.pi),
    (_QUATERNION, re.compile(r"^(q)(?:uat(?:ernion)?)?[\s_.-]*([wxyz])$"), 1.0),
)
"""Names, in lower case, under which others write the same angles and quaternions, and what makes degrees of them."""


def _with_angles(table: Table, where: str) -> tuple[Table, tuple[str, ...]]:
    """The table with its angles or quaternion under the names of ours, where it has others; and how they were found."""
    have = {_own(name) for name in table} & {*_ANGLES, *_QUATERNION}
    for own, pattern, degrees in _OTHER_NAMES if not have else ():
        matches = {name: pattern.match(name.lower()) for name in table}
        found = {"".join(match.groups()): name for name, match in matches.items() if match is not None}
        if set(found) == set(own):
            return _renamed(table, {name: part for part, name in found.items()}, degrees, where), (
                f"Orientations are the columns {', '.join(found[part] for part in own)}.",
            )
    return table, ()


def _renamed(table: Table, names: Mapping[str, str], scale: float, where: str) -> Table:
    """The table with columns under other names, these as numbers times a scale."""
    return {
        names.get(name, name): values
        if name not in names or scale == 1
        else tuple(repr(value) for value in (single(table, name, where=where) * scale).tolist())
        for name, values in table.items()
    }


def _with_coordinates(table: Table, where: str) -> tuple[Table, tuple[str, ...]]:
    """The table with its coordinates as x, y, z in Å or x_voxel, y_voxel, z_voxel, and how they were found.

    Raises
    ------
    InputError
        If it has none.
    """
    columns = coordinate_columns(list(table))
    if columns is None:
        absent = next((name for name in POSITION if name not in {key.lower() for key in table}), POSITION[0])
        raise InputError(
            f"{where} has no column {absent}; expected x, y, z (Å) or x_voxel, y_voxel, z_voxel. "
            f"It has {', '.join(list(table)[:8])}."
        )
    axes = dict(zip(columns.names, VOXEL if columns.angstrom is None else POSITION, strict=True))
    return _renamed(table, axes, columns.angstrom or 1.0, where), (columns.note,) if columns.note else ()


def _positions(
    table: Table, names: Sequence[str], metadata: ListMetadata, *, where: str
) -> tuple[FloatArray, tuple[str, ...]]:
    """Positions in Å, (N, 3), and a sentence on the size of voxels, whether it scales them or not."""
    column = next((name for name in table if re.sub(r"[^a-z]", "", name.lower()) in _VOXEL_SIZES), None)
    if set(POSITION) <= set(table):
        given = None if metadata.pixel_size is None else f"The size of {metadata.pixel_size:g} Å that is given"
        size = given or (column and f"The size in column {column}")
        note = f"{size} does not scale x, y, z, which are Å; voxels are to be called x_voxel, y_voxel, z_voxel."
        return numbers(table, POSITION, where=where), (note,) if size else ()
    own = None if column is None else single(table, column, where=where)
    sizes, origin = voxel_sizes(names, metadata, own=own, where=where)
    first = metadata.first_voxel or 0
    positions = (numbers(table, VOXEL, where=where) - first) * sizes[:, None]
    return positions, (counted_note("voxels", sizes, origin, first=first),)


_VOXEL_SIZES = ("pixelsize", "voxelsize", "voxelspacing", "apix", "angpix")
"""Names of a column of sizes of voxels in Å, in small letters alone."""


@dataclass(frozen=True, eq=False)
class _Angles:
    """Rotations as the numbers of a table: RELION's angles (N, 3) in degrees, or quaternions (N, 4), qw first."""

    values: FloatArray

    def matrices(self, where: str) -> FloatArray:
        """The rotations as matrices, (N, 3, 3)."""
        return zyz_to_matrix(self.values) if self.values.shape[1] == 3 else wxyz_to_matrix(self.values, where=where)


def _angles(table: Table, *, where: str) -> _Angles | None:
    for columns in (_QUATERNION, _ANGLES):
        present = [name for name in columns if name in table]
        if present and len(present) < len(columns):
            absent = next(name for name in columns if name not in present)
            raise InputError(
                f"{where} has {present[0]} but no {absent}; expected all of {', '.join(columns)} (RELION's, ZYZ), or "
                "none. Rename or add columns."
            )
    own = next((columns for columns in (_QUATERNION, _ANGLES) if columns[0] in table), None)
    return None if own is None else _Angles(numbers(table, own, where=where))


def _angles_note(table: Table) -> tuple[str, ...]:
    """A sentence on columns that most likely are angles, and are not read."""
    named = angle_names(list(table))
    if not named or set(_ANGLES) <= set(table) or set(_QUATERNION) <= set(table):
        return ()
    return (
        f"Columns {', '.join(named)} may be angles, and are not read: their convention is not stated, as that of rot, "
        "tilt, psi (RELION's, ZYZ) and of qw, qx, qy, qz is.",
    )


def _optional(table: Table, name: str, *, where: str) -> FloatArray | None:
    return single(table, name, where=where, finite=False) if name in table else None


def _columns(particles: Particles) -> dict[str, Iterable[object]]:
    columns: dict[str, Iterable[object]] = {}
    if any(particles.tomogram_names):
        columns["tomogram"] = plain_texts(np.asarray(particles.tomogram))
    columns |= dict(zip(POSITION, map(decimals, particles.positions.T), strict=True))
    if particles.rotations is not None:
        columns |= dict(zip(_ANGLES, map(decimals, matrix_to_zyz(particles.rotations).T), strict=True))
    for name, column in (("confidence", particles.confidence), ("expected_error_deg", particles.expected_error_deg)):
        if column is not None:
            columns[name] = decimals(column)
    if particles.kind is not None:
        columns["class"] = plain_texts(particles.kind)
    foreign = {with_mark(name, _own(name) in _OWN): column for name, column in particles.extra.items()}
    return columns | {name: map(_cell, written_column(name, column)) for name, column in foreign.items()}


def _cell(text: str) -> str:
    """A text as a cell of one line holds it: without breaks of lines and tabs, and without blanks at its ends."""
    return " ".join(re.split(r"[\t\n\r\f\v]", text)).strip()


# --- the dialects of ours ---------------------------------------------------------------------------------------------


def _has_coordinates(file: ListFile) -> bool:
    """Whether the first line names columns of coordinates."""
    return coordinate_columns(first_cells(file)) is not None


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_table(file.path, metadata)


def _volumes(file: ListFile) -> dict[str, Path | None]:
    return dict.fromkeys(tomogram_names(read_rows(file.path)))


def _write(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    write_table(path, particles, provenance=provenance)
    return ()


CSV = Dialect(
    name="csv",
    title="CSV table",
    programs="this program, spreadsheets, scripts",
    suffixes=(".csv", ".txt"),
    layout="Å from voxel 0, or x_voxel, y_voxel, z_voxel; rot, tilt, psi (ZYZ), or a quaternion qw, qx, qy, qz",
    trap="The unit of x, y, z is not in the file: voxels must be named x_voxel, y_voxel, z_voxel.",
    recognises=lambda file: file.suffix != ".tsv" and _has_coordinates(file),
    read=_read,
    write=_write,
    volumes=_volumes,
)

TSV = Dialect(
    name="tsv",
    title="TSV table",
    programs=CSV.programs,
    suffixes=(".tsv",),
    layout=CSV.layout,
    trap=CSV.trap,
    recognises=lambda file: file.suffix == ".tsv" and _has_coordinates(file),
    read=_read,
    write=_write,
    volumes=_volumes,
)


# --- other programs ---------------------------------------------------------------------------------------------------


def _head(file: ListFile) -> list[str]:
    """Cells of the line that names the columns, or of the first, in lower case."""
    return [cell.lower() for cell in first_cells(file)]


def _lower(table: Table, names: Sequence[str]) -> Table:
    """The table with these names of columns in lower case, as `_head` compares them."""
    return {name.lower() if name.lower() in names else name: values for name, values in table.items()}


def _nameless(file: ListFile) -> Mapping[str, Path | None]:
    """The one tomogram of a list that names none."""
    return {"": None}


# --- napari ---------------------------------------------------------------------------------------------------------

_AXES = (("axis-0", "axis-1", "axis-2"), ("centroid-0", "centroid-1", "centroid-2"))
"""Names of z, y and x: napari's, and those of scikit-image's properties of regions."""


def _axes_of(names: Iterable[str]) -> tuple[str, ...]:
    """The names, in lower case, of z, y and x among some of columns; none where they are not there."""
    found = {_axis(name) for name in names}
    return next((axes for axes in _AXES if set(axes) <= found and "vertex-index" not in found), ())


def _axis(name: str) -> str:
    """Name of an axis as napari and scikit-image write it, in lower case: ``centroid_weighted_0`` -> ``centroid-0``."""
    return re.sub(r"[\s_.]+(?=\d$)", "-", name.lower().replace("centroid_weighted", "centroid"))


def _read_napari(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = read_rows(file.path), str(file.path)
    axes = _axes_of(table)
    table = {
        _axis(name) if _axis(name) in (*axes, "axis-3", "index") else name: values for name, values in table.items()
    }
    if "axis-3" in table:
        if "axis-4" in table or len(set(table[axes[0]])) > 1:
            raise InputError(
                f"{where} has points of more than three axes; expected z, y, x. Save those of one time point."
            )
        axes = (*axes[1:], "axis-3")
    passed = ("index", "axis-0") if "axis-3" in axes else ("index",)
    extra = {name: np.array(values, str) for name, values in table.items() if name not in (*axes, *passed)}
    voxels = numbers(table, axes, where=where)[:, ::-1]
    rows = VoxelRows(voxels=voxels, names=[""] * len(voxels), extra=extra)
    return particles_in_voxels(rows, metadata, where=where)


NAPARI_POINTS = Dialect(
    name="napari",
    title="napari points (CSV)",
    programs="napari (File ▸ Save, a points layer as .csv), scikit-image (regionprops_table)",
    suffixes=(".csv",),
    layout="axis-0, axis-1, axis-2, or centroid-0 and so on, = z, y, x in voxels",
    trap="The layer's scale is not in the file: its voxel size is needed.",
    recognises=lambda file: bool(_axes_of(_head(file))),
    read=_read_napari,
    volumes=_nameless,
)


# --- pyTME ----------------------------------------------------------------------------------------------------------

_PYTME = ("x", "y", "z", "euler_x", "euler_y", "euler_z")


def _read_pytme(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _lower(read_rows(file.path), (*_PYTME, "score")), str(file.path)
    others = {name: values for name, values in table.items() if name not in (*_PYTME, "score")}
    scores = {PICKERS_SCORE: table["score"]} if "score" in table else {}
    rows = VoxelRows(
        voxels=numbers(table, _PYTME[:3], where=where),
        names=[""] * len(table["x"]),
        rotations=zyz_to_matrix(numbers(table, _PYTME[3:], where=where)),
        extra={**without_defaults(scores, {}), **{name: np.array(values, str) for name, values in others.items()}},
    )
    return particles_in_voxels(rows, metadata, where=where)


PYTME = Dialect(
    name="pytme",
    title="pyTME orientations",
    programs="pyTME (orientations.tsv)",
    suffixes=(".tsv",),
    layout="voxels of the tomogram, from 0; euler_x, euler_y, euler_z = rot, tilt, psi (ZYZ)",
    trap="Its x, y, z are voxels, those of other tables Å.",
    recognises=lambda file: set(_PYTME) <= set(_head(file)),
    read=_read_pytme,
    volumes=_nameless,
)


# --- crYOLO ---------------------------------------------------------------------------------------------------------

_BOX = ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height")


def _read_cbox(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = block_of(file, _BOX[0]), str(file.path)
    absent = [name for name in _BOX if name not in table]
    if absent:
        raise InputError(f"{where} has no column {absent[0]}; expected boxes in three dimensions. Pick in tomograms.")
    if not table[_BOX[0]]:
        raise InputError(f"{where} has no particles: it holds no box. Choose another file.")
    boxes = numbers(table, _BOX, where=where)
    corners, size = boxes[:, :3], boxes[:, 3:]
    voxels = corners + np.column_stack([size / 2, np.zeros(len(size))])
    named = {**({PICKERS_SCORE: table["Confidence"]} if "Confidence" in table else {}), **_box_columns(table)}
    rows = VoxelRows(voxels=voxels, names=[""] * len(voxels), extra=without_defaults(named, {}))
    return particles_in_voxels(rows, metadata, where=where)


def _box_columns(table: Table) -> Table:
    """Other columns, but for those that hold nothing."""
    others = {name: values for name, values in table.items() if name not in (*_BOX, "Depth", "Confidence")}
    return {f"cryolo_{name}": values for name, values in others.items() if set(values) - {"<NA>", "nan", ""}}


CBOX = Dialect(
    name="cbox",
    title="crYOLO and TomoTwin boxes",
    programs="crYOLO, TomoTwin, napari-boxmanager",
    suffixes=(".cbox",),
    layout="voxels of the tomogram: x and y of the box's corner, to which half its size is added, z of its centre",
    trap="_CoordinateX and Y are a corner, not the centre.",
    recognises=lambda file: "cryolo" in file.blocks,
    read=_read_cbox,
    volumes=_nameless,
)

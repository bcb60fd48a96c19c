"""Lists of Warp, WarpTools and M: exports, matching and species read; the input of ts_export_particles written.

WarpTools writes RELION's columns, M its own: ``wrpCoordinateX1`` … ``wrpAnglePsi1`` … in Å and RELION's angles, with
numbers for the samples of a trajectory, of which the first is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import BOX_COLUMNS, IMAGES
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile, block_of
from napari_orient.engine.io.dialects.relion import (
    ANGLES,
    RELION4,
    RelionTable,
    foreign_columns,
    pose_columns,
    read_relion,
)
from napari_orient.engine.io.dialects.relion_coordinates import CENTRED, PIXELS
from napari_orient.engine.io.dialects.voxels import as_numbers
from napari_orient.engine.io.dialects.warp_project import list_of_project
from napari_orient.engine.io.star import Table, number_columns, numbers, write_star
from napari_orient.engine.io.tomograms import (
    ListMetadata,
    extents_beside,
    find_extents,
    left_out_note,
    plain_name,
    read_tomograms,
    rows_of_tomogram,
    table_extents,
)
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import zyz_to_matrix

PIXEL_SIZES = frozenset(
    {
        "rlnTomoTiltSeriesPixelSize",
        "rlnMicrographPixelSize",
        "rlnMicrographOriginalPixelSize",
        "rlnImagePixelSize",
        "rlnDetectorPixelSize",
        "rlnPixelSize",
    }
)
"""Columns by which RELION's lists, or their optics, state the size of a pixel."""

_M_EXPORT = frozenset({*PIXELS, *ANGLES, "rlnRandomSubset", "rlnMicrographName"})
"""The columns of M's list for RELION, no more and no fewer; its coordinates are in Å."""

_BEYOND = 0.1
"""Share of a tomogram's side by which a fraction may lie beyond it: less than any coordinate in pixels. Chosen."""

_SPECIES_POSITION = ("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1")
_SPECIES_NAMES = frozenset({_SPECIES_POSITION[0], _SPECIES_POSITION[0][:-1]})
"""Names of the first coordinate: with the number of its sample, or without where there is one alone."""

_SPECIES_ANGLES = ("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1")
_SPECIES_COLUMNS = re.compile(r"wrp(Coordinate[XYZ]|Angle(Rot|Tilt|Psi))\d+")
_APIX = re.compile(r"_[\d.]+Apx$")


# --- export ---------------------------------------------------------------------------------------------------------


def _is_export(file: ListFile) -> bool:
    exported = {"rlnTomoName", "rlnImagePixelSize", PIXELS[0]} <= file.tags and not set(CENTRED) & file.tags
    return exported and file.holds(".tomostar")


def _write(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write the list that ``ts_export_particles --input_star`` reads."""
    size = coordinate_size(particles, metadata)
    columns: dict[str, Sequence[str]] = {
        **number_columns(PIXELS, particles.positions / size),
        **pose_columns(particles),
        "rlnMicrographName": [_series(str(name)) for name in particles.tomogram],
        "rlnPixelSize": [f"{size:.9g}"] * len(particles),
    }
    foreign = foreign_columns(particles, without=(*columns, "rlnOpticsGroup", *IMAGES, *BOX_COLUMNS))
    write_star(path, {"": {**columns, **foreign}}, provenance=provenance)
    notes = [f"WarpTools reads it by ts_export_particles --input_star {path.name} --coords_angpix {size:.9g}."]
    if particles.blocks:
        notes.append("Tables beside the particles, such as optics, are not written: WarpTools has them itself.")
    return tuple(notes)


def coordinate_size(particles: Particles, metadata: ListMetadata) -> float:
    """Å of the pixels to write in: as given, as it was read, the voxel size that all tomograms share, or else 1."""
    if metadata.pixel_size is not None:
        return float(metadata.pixel_size)
    kept = as_numbers(particles, "rlnPixelSize")
    if kept is not None and len(set(kept.tolist())) == 1 and kept[0] > 0:
        return float(kept[0])
    names = particles.tomogram_names
    found = find_extents(names, [metadata.extents])
    sizes = {extent.voxel_size for extent in found.values()}
    return sizes.pop() if len(sizes) == 1 and len(found) == len(names) else 1.0


def _series(name: str) -> str:
    """Name of the tilt series' file: ``rec_TS_01_10.00Apx.mrc`` is reconstructed from ``rec_TS_01.tomostar``."""
    return name if not name or name.endswith(".tomostar") else f"{_APIX.sub('', plain_name(name))}.tomostar"


WARPTOOLS = Dialect(
    name="warp",
    title="Warp and WarpTools",
    programs="WarpTools (ts_export_particles), and RELION after it; written for ts_export_particles",
    suffixes=(".star",),
    layout="multiples of rlnImagePixelSize; rot, tilt, psi (ZYZ)",
    trap="Versions to 2.0.0dev39 state another rlnTomoTiltSeriesPixelSize, which puts all too near the corner.",
    recognises=_is_export,
    read=RELION4.read,
    write=_write,
    volumes=RELION4.volumes,
)


# --- template matching ----------------------------------------------------------------------------------------------


def _is_matching(file: ListFile) -> bool:
    if not set(PIXELS) <= file.tags or PIXEL_SIZES & file.tags or not _are_fractions(_first_row(file)):
        return False
    table = next((table for table in file.star.values() if set(PIXELS) <= set(table)), {})
    return _are_fractions([table.get(name, ()) for name in PIXELS])


def _first_row(file: ListFile) -> list[list[str]]:
    """First values of the coordinates, (3, 1), so that not all of a long list in pixels is read; none where none is."""
    names: list[str] = []
    for line in map(str.strip, file.head_text.splitlines()):
        if line.startswith("_"):
            names.append((line[1:].split() or [""])[0])
        elif line.lower().startswith(("data_", "loop_")):
            names = []
        elif line and not line.startswith("#") and set(PIXELS) <= set(names):
            cells = dict(zip(names, line.split(), strict=False))
            return [[cells.get(name, "")] for name in PIXELS]
    return []


def _are_fractions(columns: Sequence[Sequence[str]]) -> bool:
    """Whether coordinates, (3, N), are of no more than one pixel, and not of whole ones."""
    try:
        values = np.array([[float(text) for text in column] for column in columns])
    except ValueError:
        return False
    inside = (values >= -_BEYOND).all() and (values <= 1 + _BEYOND).all()
    return bool(values.size and inside and (values != np.round(values)).any())


def _fractions(source: RelionTable, metadata: ListMetadata) -> tuple[FloatArray, str]:
    """Size in Å of the tomogram of each particle, (N, 3).

    Raises
    ------
    InputError
        If the size of a tomogram is unknown.
    """
    given = [] if metadata.tomograms is None else [read_tomograms(metadata.tomograms)]
    tables = [table_extents(table, where=str(source.path)) for table in given]
    found = find_extents(source.names, [metadata.extents, *tables])
    missing = [name for name in source.names if name not in found]
    found |= extents_beside(source.path, missing) if missing else {}
    unknown = [name for name in source.names if name not in found]
    if unknown:
        raise InputError(
            f"{source.path}: coordinates are fractions of the tomogram's size, and that of {unknown[0] or '(no name)'} "
            "is unknown. Open the tomogram too (--tomogram), or give RELION's tomograms.star (--tomograms-star)."
        )
    sizes = [np.asarray(found[name].size, float) * found[name].voxel_size for name in source.names]
    return np.array(sizes), "Coordinates are fractions of the tomogram's size, as WarpTools' template matching writes."


def _read_matching(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_relion(file.path, replace(metadata, pixel_size=None), scale=_fractions)


WARP_MATCHING = Dialect(
    name="warp-matching",
    title="WarpTools template matching",
    programs="WarpTools (ts_template_match)",
    suffixes=(".star",),
    layout="fractions, 0 to 1, of the tomogram's size, whatever names it has; rot, tilt, psi (ZYZ)",
    trap="Read as pixels all lie within one pixel of the corner. The tomogram's size is needed.",
    recognises=_is_matching,
    read=_read_matching,
    volumes=RELION4.volumes,
)


# --- M --------------------------------------------------------------------------------------------------------------


def _angstrom(source: RelionTable, metadata: ListMetadata) -> tuple[FloatArray, str]:
    if metadata.pixel_size is not None:
        return np.full(
            (source.count, 1), metadata.pixel_size
        ), f"Coordinates count {metadata.pixel_size:g} Å (as given)."
    return np.ones((source.count, 1)), "Coordinates are in Å, as M writes them for RELION."


def _read_export_of_m(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_relion(file.path, metadata, scale=_angstrom)


M_EXPORT = Dialect(
    name="m-export",
    title="M, list for RELION",
    programs="M, as it exports a species",
    suffixes=(".star",),
    layout="Å from voxel 0; rot, tilt, psi (ZYZ)",
    trap="No column says that the unit is Å: it is known by its eight columns, with rlnRandomSubset and no pixel size.",
    recognises=lambda file: file.tags == _M_EXPORT,
    read=_read_export_of_m,
    volumes=RELION4.volumes,
)


def _numbered(table: Table) -> Table:
    """The table with the number of the only sample in the names of its columns, where M leaves it out."""
    plain = {name[:-1]: name for name in (*_SPECIES_POSITION, *_SPECIES_ANGLES)}
    return {plain.get(name, name): values for name, values in table.items()}


def _species_table(file: ListFile) -> tuple[Table, list[str]]:
    """Table of a species, and the name of each particle's tomogram."""
    table = _numbered(
        block_of(file, next((name for name in _SPECIES_NAMES if name in file.tags), _SPECIES_POSITION[0]))
    )
    absent = [name for name in (*_SPECIES_POSITION, *_SPECIES_ANGLES) if name not in table]
    if absent:
        raise InputError(f"{file.path} has no column {absent[0]}; expected M's list of a species. Add it.")
    count = len(table[_SPECIES_POSITION[0]])
    if count == 0:
        raise InputError(f"{file.path} has no particles: its table is empty. Choose another file.")
    return table, [plain_name(name) for name in table.get("wrpSourceName", ("",) * count)]


def _read_species(file: ListFile, metadata: ListMetadata) -> Particles:
    table, names = _species_table(file)
    where = str(file.path)
    rows = np.arange(len(names))
    if metadata.tomogram is not None and any(names):
        rows = rows_of_tomogram(names, metadata.tomogram, where=where)
    others = left_out_note(names, rows, where=where)
    table = {name: tuple(values[int(row)] for row in rows) for name, values in table.items()}
    names = [names[row] or metadata.tomogram or "" for row in rows]
    samples = sum(name.startswith("wrpCoordinateX") for name in table)
    notes = (f"Of {samples} samples of each trajectory the first is taken.",) if samples > 1 else ()
    kept = {name: values for name, values in table.items() if not _SPECIES_COLUMNS.fullmatch(name)}
    # M counts its halves from 0 in memory, and from 1 in files: as RELION does.
    halves = {"rlnRandomSubset": kept.pop("wrpRandomSubset")} if "wrpRandomSubset" in kept else {}
    return Particles(
        positions=numbers(table, _SPECIES_POSITION, where=where),
        rotations=zyz_to_matrix(numbers(table, _SPECIES_ANGLES, where=where)),
        tomogram=np.array(names, str),
        list_row=rows,
        extra={name: np.array(values, str) for name, values in {**halves, **kept}.items()},
        notes=(*notes, *others),
    )


def _species_volumes(file: ListFile) -> dict[str, Path | None]:
    return dict.fromkeys(_species_table(file)[1])


M_SPECIES = Dialect(
    name="m",
    title="M species",
    programs="M (SPECIES_particles.star)",
    suffixes=(".star",),
    layout="Å from voxel 0; wrpAngleRot1, Tilt1, Psi1 are RELION's",
    trap="Each particle has several samples of its trajectory: the first is its pose.",
    recognises=lambda file: bool(_SPECIES_NAMES & file.tags),
    read=_read_species,
    volumes=_species_volumes,
)

M_PROJECT = Dialect(
    name="m-project",
    title="M population or species",
    programs="M (NAME.population, SPECIES.species)",
    suffixes=(".population", ".species"),
    layout="as the list of the species, which is followed",
    trap="A population of several species is none of them: open one.",
    recognises=lambda file: (
        any(f"<{tag}" in file.head_text for tag in ("Population", "Species GUID", "Species>"))
        or file.suffix in (".population", ".species")
    ),
    read=lambda file, metadata: _read_species(ListFile(list_of_project(file)), metadata),
    volumes=lambda file: _species_volumes(ListFile(list_of_project(file))),
)

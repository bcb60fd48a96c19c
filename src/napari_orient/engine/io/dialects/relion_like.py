"""Lists of other programs in RELION's columns: tables of text, and STAR lists of pickers, which count in voxels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.relion import (
    RELION4,
    RelionTable,
    particles_of_table,
)
from napari_orient.engine.io.dialects.relion_coordinates import CENTRED, PIXELS
from napari_orient.engine.io.dialects.text_tables import TABLE_SUFFIXES, first_cells, read_rows
from napari_orient.engine.io.dialects.warp import PIXEL_SIZES
from napari_orient.engine.io.star import Table
from napari_orient.engine.io.tomograms import ListMetadata, tomogram_names
from napari_orient.engine.particles import Particles


def _is_table(file: ListFile) -> bool:
    if file.blocks or not file.is_text:
        return False
    names = {name.removeprefix("_") for name in first_cells(file)}
    return set(CENTRED) <= names or set(PIXELS) <= names


def _table(file: ListFile) -> Table:
    return {name.removeprefix("_"): values for name, values in read_rows(file.path).items()}


def _read_table(file: ListFile, metadata: ListMetadata) -> Particles:
    return particles_of_table(RelionTable(file.path, _table(file), {}), metadata)


def _volumes_of_table(file: ListFile) -> Mapping[str, Path | None]:
    return dict.fromkeys(tomogram_names(_table(file)))


RELION_TABLE = Dialect(
    name="relion-table",
    title="CSV table in RELION's columns",
    programs="scripts with pandas (starfile's tables, to_csv)",
    suffixes=TABLE_SUFFIXES,
    layout="as RELION's STAR files: rlnCenteredCoordinate*Angst, or rlnCoordinate*; rlnAngle*",
    trap="The pixel size must be a column (rlnTomoTiltSeriesPixelSize), or be given: optics are not in the file.",
    recognises=_is_table,
    read=_read_table,
    volumes=_volumes_of_table,
)


def _is_pytom(file: ListFile) -> bool:
    if "ptmCoordinateX" in file.tags:
        return True
    return {PIXELS[0], "rlnDetectorPixelSize"} <= file.tags and not {"rlnMagnification", *CENTRED} & file.tags


def _is_list_in_voxels(file: ListFile) -> bool:
    unnamed = file.blocks == ("",) or "pytmeScore" in file.tags
    return unnamed and PIXELS[0] in file.tags and not {*PIXEL_SIZES, *CENTRED} & file.tags


PYTOM_MATCH_PICK = Dialect(
    name="pytom-match-pick",
    title="pytom-match-pick",
    programs="pytom-match-pick (pytom_extract_candidates.py)",
    suffixes=(".star",),
    layout="voxels of rlnDetectorPixelSize, from 0; rot, tilt, psi (ZYZ)",
    trap="rlnDetectorPixelSize is the voxel size here. With --relion5-compat the list is RELION 5's.",
    recognises=_is_pytom,
    read=RELION4.read,
    volumes=RELION4.volumes,
)

PICKS_IN_VOXELS = Dialect(
    name="picks",
    title="STAR list of picks in voxels",
    programs="RELION 5's picker (Picks/*/annotations), PySeg, pyTME",
    suffixes=(".star",),
    layout="voxels of the tomogram, from 0, minus rlnOrigin*; rot, tilt, psi (ZYZ)",
    trap="No pixel size is in the file: it is the voxel size of the tomogram, not the tilt series' pixel size.",
    recognises=_is_list_in_voxels,
    read=RELION4.read,
    volumes=RELION4.volumes,
)

"""Tables of text (CSV, TSV) whose columns have RELION's names, as scripts write them with pandas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.relion import PIXELS, RelionTable, particles_of_table
from napari_orient.engine.io.dialects.relion_coordinates import CENTRED
from napari_orient.engine.io.dialects.text_tables import TABLE_SUFFIXES, first_cells, read_rows
from napari_orient.engine.io.star import Table
from napari_orient.engine.io.tomograms import ListMetadata, tomogram_names
from napari_orient.engine.particles import Particles


def _recognises(file: ListFile) -> bool:
    if file.blocks or not file.is_text:
        return False
    names = {name.removeprefix("_") for name in first_cells(file)}
    return set(CENTRED) <= names or set(PIXELS) <= names


def _table(file: ListFile) -> Table:
    return {name.removeprefix("_"): values for name, values in read_rows(file.path).items()}


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return particles_of_table(RelionTable(file.path, _table(file), {}), metadata)


def _volumes(file: ListFile) -> Mapping[str, Path | None]:
    return dict.fromkeys(tomogram_names(_table(file)))


RELION_TABLE = Dialect(
    name="relion-table",
    title="CSV table in RELION's columns",
    programs="scripts with pandas (starfile's tables, to_csv)",
    suffixes=TABLE_SUFFIXES,
    layout="as RELION's STAR files: rlnCenteredCoordinate*Angst, or rlnCoordinate*; rlnAngle*",
    trap="The pixel size must be a column (rlnTomoTiltSeriesPixelSize), or be given: optics are not in the file.",
    recognises=_recognises,
    read=_read,
    volumes=_volumes,
)

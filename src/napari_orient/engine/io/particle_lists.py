"""Lists of particles, whatever their dialect: which module reads or writes a file is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.polnet import is_motif_list, read_motif_list
from napari_orient.engine.io.relion import read_relion, write_relion
from napari_orient.engine.io.table import read_table, write_table
from napari_orient.engine.particles import Extent, Particles

_STAR = (".star",)
_TABLES = (".csv", ".tsv", ".txt")
PARTICLE_SUFFIXES = (*_STAR, *_TABLES)
"""Suffixes of the files that `read_particles` takes."""


def read_particles(
    path: Path | str,
    *,
    extents: Mapping[str, Extent] | None = None,
    pixel_size: float | None = None,
    tomogram: str | None = None,
    tomograms: Path | str | None = None,
    centre: str = "size/2",
) -> Particles:
    """The particles of a list: STAR (RELION 3 to 5, Warp, M, optimisation sets), PolNet motif list, CSV or TSV.

    Parameters
    ----------
    extents : sizes of opened tomograms by name; RELION 5's coordinates count from their centres.
    pixel_size : Å, of coordinates in pixels or voxels; overrides what the file says.
    tomogram : keep the particles of this tomogram alone; its name may differ by a known prefix or suffix.
    tomograms : RELION's ``tomograms.star``, where it does not lie beside the list.
    centre : ``"size/2"`` or ``"size/2 - 1"``: the voxel that RELION 5's coordinates count from.

    Raises
    ------
    InputError
        If the file is missing, empty or of no known kind, or its content does not fit; one line says what to do.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _STAR:
        return read_relion(
            path, extents=extents, pixel_size=pixel_size, tomogram=tomogram, tomograms=tomograms, centre=centre
        )
    if suffix not in _TABLES:
        raise InputError(f"{path} is no known list of particles; expected {', '.join(PARTICLE_SUFFIXES)}.")
    if is_motif_list(path):
        return read_motif_list(path, tomogram=tomogram)
    return read_table(path, extents=extents, voxel_size=pixel_size, tomogram=tomogram)


def read_provenance(path: Path | str) -> str:
    """What the first line of a list that this program wrote says of where its poses come from; else empty."""
    with Path(path).open(encoding="utf-8", errors="replace") as stream:
        line = stream.readline().strip()
    return line.removeprefix("# ") if line.startswith("# napari-orient ") else ""


def write_particles(
    path: Path | str,
    particles: Particles,
    *,
    extents: Mapping[str, Extent] | None = None,
    dialect: str = "relion5",
    pixel_size: float | None = None,
    centre: str = "size/2",
    provenance: str = "",
) -> None:
    """Write particles as ``.star`` in dialect ``"relion5"`` or ``"relion4"``, or as ``.csv`` or ``.tsv`` with columns.

    Parameters
    ----------
    extents : sizes of the tomograms by name, where the particles did not bring them.
    pixel_size : Å, of RELION 4's pixels, where nothing else tells it.
    provenance : where the poses come from; stands in the file's first line after ``#``.

    Raises
    ------
    InputError
        If there are no particles, the suffix or dialect is unknown, a size is needed and unknown, or the place cannot
        be written. Nothing is left half written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _STAR:
        write_relion(
            path,
            particles,
            extents=extents,
            dialect=dialect,
            pixel_size=pixel_size,
            centre=centre,
            provenance=provenance,
        )
    elif suffix in (".csv", ".tsv"):
        write_table(path, particles, provenance=provenance)
    else:
        raise InputError(f"{path} has no known suffix for particles; expected .star, .csv or .tsv.")

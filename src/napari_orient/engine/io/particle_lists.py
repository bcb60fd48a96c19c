"""Lists of particles in any dialect: the table of which module reads or writes a file, by its suffix and content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.polnet import is_motif_list, read_motif_list
from napari_orient.engine.io.relion import read_relion, write_relion
from napari_orient.engine.io.sizes import GLOBAL, ListMetadata, table_extents
from napari_orient.engine.io.table import read_table, write_table
from napari_orient.engine.particles import Extent, Particles, Tomogram

_STAR = (".star",)
_TABLES = (".csv", ".tsv", ".txt")
PARTICLE_SUFFIXES = (*_STAR, *_TABLES)
"""Suffixes of the files that `read_particles` reads."""


def read_particles(
    path: Path | str,
    *,
    tomogram: Tomogram | str | None = None,
    extents: Mapping[str, Extent] | None = None,
    pixel_size: float | None = None,
    tomograms: Path | str | None = None,
    centre: str = "size/2",
) -> Particles:
    """Particles of a list: STAR (RELION 3 to 5, Warp, M, optimisation sets), PolNet motif list, CSV or TSV.

    Parameters
    ----------
    tomogram : keep the particles of this tomogram alone, by its name or as it was opened; the list's name for it may
        differ by prefixes and suffixes that programs add.
    extents : sizes of further tomograms by name; RELION 5's coordinates count from a tomogram's centre.
    pixel_size : Å, of coordinates in pixels or voxels; overrides the file's.
    tomograms : RELION's ``tomograms.star``, where it is not beside the list.
    centre : ``"size/2"`` or ``"size/2 - 1"``: the voxel that RELION 5's coordinates count from.

    Raises
    ------
    InputError
        If the file is missing, empty or of an unknown kind, or its content does not fit.
    """
    sizes = dict(extents or {})
    if isinstance(tomogram, Tomogram):
        sizes[tomogram.name] = tomogram.extent
        tomogram = tomogram.name
    particles = _read(
        path,
        ListMetadata(extents=sizes, pixel_size=pixel_size, tomogram=tomogram, tomograms=tomograms, centre=centre),
    )
    own = table_extents(particles.blocks.get(GLOBAL, {}), where=f"{path}, data_{GLOBAL}")
    return particles.replace(extents={**sizes, **own})


def _read(path: Path | str, metadata: ListMetadata) -> Particles:
    suffix = Path(path).suffix.lower()
    if suffix in _STAR:
        return read_relion(path, metadata)
    if suffix not in _TABLES:
        raise InputError(f"{path} is no known list of particles; expected {', '.join(PARTICLE_SUFFIXES)}.")
    if is_motif_list(path):
        return read_motif_list(path, tomogram=metadata.tomogram)
    return read_table(path, metadata)


def read_provenance(path: Path | str) -> str:
    """Origin of the poses as the first line of a list says it, if this program wrote the list; else empty."""
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
    extents : sizes of the tomograms by name; None for those in ``particles.extents``.
    pixel_size : Å, of RELION 4's pixels, where neither the particles' columns nor their tomograms' sizes have it.
    provenance : where the poses come from; the file's first line after ``#``.

    Raises
    ------
    InputError
        If there are no particles, the suffix or dialect is unknown, a size is needed and not given, or the file cannot
        be written. No file is left half written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _STAR:
        metadata = ListMetadata(extents=extents or particles.extents, pixel_size=pixel_size, centre=centre)
        write_relion(path, particles, metadata, dialect=dialect, provenance=provenance)
    elif suffix in (".csv", ".tsv"):
        write_table(path, particles, provenance=provenance)
    else:
        raise InputError(f"{path} has no known suffix for particles; expected .star, .csv or .tsv.")

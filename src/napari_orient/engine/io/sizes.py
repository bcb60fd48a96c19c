"""Sizes of tomograms and pixels: given by the caller, or found in RELION's tables of tomograms, sets and optics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.names import match_tomogram
from napari_orient.engine.io.star import Table, numbers, read_star, single
from napari_orient.engine.particles import Extent, FloatArray

GLOBAL = "global"
TOMOGRAM = "rlnTomoName"
PIXEL = "rlnTomoTiltSeriesPixelSize"
SIZE = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
RECONSTRUCTIONS = (
    "rlnTomoReconstructedTomogram",
    "rlnTomoReconstructedTomogramDenoised",
    "rlnTomoReconstructedTomogramHalf1",
)


@dataclass(frozen=True, kw_only=True)
class ListMetadata:
    """Facts about a list of particles that its file may lack.

    Parameters
    ----------
    extents : sizes of tomograms by name, for coordinates that count from a tomogram's centre or in its voxels.
    pixel_size : Å, of coordinates in pixels or voxels; when reading, it overrides the file's.
    tomogram : when reading, keep the particles of this tomogram alone; its name may differ by the prefixes and suffixes
        of `same_tomogram`. A list without names is taken to be of it.
    tomograms : RELION's ``tomograms.star``.
    centre : ``"size/2"`` (RELION's C++) or ``"size/2 - 1"`` (some of RELION's Python tools): the voxel that centred
        coordinates count from.
    """

    extents: Mapping[str, Extent] = field(default_factory=dict)
    pixel_size: float | None = None
    tomogram: str | None = None
    tomograms: Path | str | None = None
    centre: str = "size/2"


def read_tomograms(path: Path | str) -> Table:
    """Table of tomograms (``data_global``) of a ``tomograms.star``.

    Raises
    ------
    InputError
        If the file has no such table.
    """
    blocks = read_star(path)
    table = blocks.get(GLOBAL, next(iter(blocks.values())))
    if TOMOGRAM not in table:
        raise InputError(f"{path} has no column {TOMOGRAM}; expected RELION's tomograms.star.")
    return table


def tables_beside(path: Path) -> list[Table]:
    """Tables of tomograms (``*tomograms.star``) in the folder of a file, in order of their names."""
    found = sorted(path.parent.glob("*tomograms.star"))
    return [read_tomograms(item) for item in found if item.resolve() != path.resolve()]


def table_extents(table: Mapping[str, Sequence[str]], *, where: str) -> dict[str, Extent]:
    """Sizes in unbinned voxels and unbinned voxel size by tomogram; empty where the table lacks a column."""
    if not {TOMOGRAM, PIXEL, *SIZE} <= set(table):
        return {}
    rows = numbers(table, (*SIZE, PIXEL), where=where)
    return {
        name: Extent((int(x), int(y), int(z)), float(pixel))
        for name, (x, y, z, pixel) in zip(table[TOMOGRAM], rows, strict=True)
    }


def extents_table(extents: Mapping[str, Extent]) -> Table:
    """Table (``data_global``) of these sizes, under RELION's names."""
    rows = [
        (name, f"{extent.voxel_size:.9g}", *(str(count) for count in extent.size)) for name, extent in extents.items()
    ]
    return dict(zip((TOMOGRAM, PIXEL, *SIZE), zip(*rows, strict=True), strict=True))


def find_extents(names: Iterable[str], sources: Iterable[Mapping[str, Extent]]) -> dict[str, Extent]:
    """Extent of each name, from the first source that has it; names that none has are left out.

    An empty name stands for the only tomogram of a source.
    """
    sources = list(sources)
    found: dict[str, Extent] = {}
    for name in dict.fromkeys(names):
        for source in sources:
            key = next(iter(source)) if not name and len(source) == 1 else match_tomogram(name, source)
            if key is not None:
                found[name] = source[key]
                break
    return found


def pixel_sizes(
    table: Mapping[str, Sequence[str]],
    blocks: Mapping[str, Mapping[str, Sequence[str]]],
    extents: Mapping[str, Extent],
    *,
    names: Sequence[str],
    where: str,
) -> FloatArray | None:
    """Unbinned pixel size in Å of each particle, (N,); None where the file has none.

    Taken from, in this order: RELION 4 and 5 (the particle's column, its optics group), RELION 3.1 (its optics group),
    RELION 3.0 (detector pixel and magnification), Warp (``rlnPixelSize``), the sizes of the tomograms.
    """
    if PIXEL in table:
        return single(table, PIXEL, where=where)
    from_optics = _optics_pixel_sizes(table, blocks.get("optics", {}), count=len(names), where=where)
    if from_optics is not None:
        return from_optics
    if {"rlnDetectorPixelSize", "rlnMagnification"} <= set(table):
        detector = single(table, "rlnDetectorPixelSize", where=where)
        return detector * 1e4 / single(table, "rlnMagnification", where=where)
    if "rlnPixelSize" in table:
        return single(table, "rlnPixelSize", where=where)
    found = find_extents(names, [extents])
    if set(names) <= set(found):
        return np.array([found[name].voxel_size for name in names])
    return None


def _optics_pixel_sizes(
    table: Mapping[str, Sequence[str]], optics: Mapping[str, Sequence[str]], *, count: int, where: str
) -> FloatArray | None:
    sizes = _group_pixel_sizes(optics, where=where)
    if sizes is None:
        return None
    if len(sizes) == 1:
        return np.full(count, sizes[0])
    if "rlnOpticsGroup" not in table or "rlnOpticsGroup" not in optics:
        return None
    groups = dict(zip(optics["rlnOpticsGroup"], sizes, strict=True))
    missing = sorted(set(table["rlnOpticsGroup"]) - set(groups))
    if missing:
        raise InputError(f"{where}: rlnOpticsGroup {missing[0]} is not in the optics table; mend one or the other.")
    return np.array([groups[group] for group in table["rlnOpticsGroup"]])


def _group_pixel_sizes(optics: Mapping[str, Sequence[str]], *, where: str) -> FloatArray | None:
    where = f"{where} (optics)"
    for column in (PIXEL, "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"):
        if column in optics:
            return single(optics, column, where=where)
    if {"rlnImagePixelSize", "rlnTomoSubtomogramBinning"} <= set(optics):
        size = single(optics, "rlnImagePixelSize", where=where)
        return size / single(optics, "rlnTomoSubtomogramBinning", where=where)
    return None


# --- files named in files -------------------------------------------------------------------------------------------


def found_file(text: str, *, beside: Path) -> Path | None:
    """File that a path in the text of the file ``beside`` refers to, or None.

    RELION writes paths relative to the project's folder: they are resolved from the file's folder, from those above it,
    and then by name alone in the file's folder.
    """
    if not text or text in ("None", '""'):
        return None
    written = Path(text)
    folder = beside.resolve().parent
    paths = [folder / written, *(parent / written for parent in folder.parents), folder / written.name]
    return next((path for path in paths if path.is_file()), None)


def optimisation_set(blocks: Mapping[str, Table], path: Path) -> tuple[Path, Path | None] | None:
    """Particles' file and (if it exists) tomograms' file of an optimisation set; None for any other file.

    Raises
    ------
    InputError
        If the particles' file does not exist.
    """
    table = next((item for item in blocks.values() if "rlnTomoParticlesFile" in item), None)
    if table is None:
        return None
    text = table["rlnTomoParticlesFile"][0]
    particles = found_file(text, beside=path)
    if particles is None:
        raise InputError(f"{path} names the particles {text}, which is not there; open that file itself.")
    return particles, found_file(table.get("rlnTomoTomogramsFile", ("",))[0], beside=path)


def tomogram_files(table: Mapping[str, Sequence[str]], *, beside: Path) -> dict[str, Path]:
    """Files of the reconstructed tomograms in a table of tomograms, as far as they exist, by tomogram."""
    found: dict[str, Path] = {}
    for column in RECONSTRUCTIONS:
        for name, text in zip(table[TOMOGRAM], table.get(column, ()), strict=False):
            path = found_file(text, beside=beside)
            if path is not None:
                found.setdefault(name, path)
    return found

"""Particles out to STAR files of RELION 5 and RELION 4; `relion` reads them and says what the columns mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.files.poses import DECIMALS, matrix_to_zyz
from napari_orient.engine.files.relion import (
    ANGLES,
    CENTRED,
    CLASS,
    CONFIDENCE,
    EXPECTED_ERROR,
    KNOWN,
    PIXELS,
    centres,
    check_sizes,
)
from napari_orient.engine.files.sizes import (
    GLOBAL,
    PIXEL,
    TOMOGRAM,
    extents_table,
    find_extents,
    pixel_sizes,
    table_extents,
)
from napari_orient.engine.files.star import write_star
from napari_orient.engine.particles import Extent, FloatArray, Particles

DIALECTS = {"relion5": "50001", "relion4": "30001"}
"""STAR dialects that can be written, and the version mark that RELION gives each."""


def write_relion(
    path: Path | str,
    particles: Particles,
    *,
    extents: Mapping[str, Extent] | None = None,
    dialect: str = "relion5",
    pixel_size: float | None = None,
    centre: str = "size/2",
    provenance: str = "",
) -> None:
    """Write particles as ``data_particles``: RELION 5 (Å from the centre) or RELION 4 (unbinned pixels).

    Tables that came in (optics) go out unchanged, before the particles; the sizes that the coordinates refer to stand
    behind them in ``data_global``, so that the file can be read back alone.

    Parameters
    ----------
    extents : sizes of the tomograms by name; what the particles' own ``data_global`` says comes first.
    pixel_size : Å, of RELION 4's pixels, where neither optics nor sizes tell it.

    Raises
    ------
    InputError
        If there are no particles, the dialect is unknown, the size of a tomogram or pixel is needed and unknown, or
        the place cannot be written.
    """
    if dialect not in DIALECTS:
        raise InputError(f"dialect {dialect!r} is unknown; expected one of {', '.join(DIALECTS)}.")
    if len(particles) == 0:
        raise InputError(f"there are no particles to write to {path}; expected one at least.")
    names, found = _named_extents(particles, extents or {})
    columns: dict[str, Sequence[str]] = {TOMOGRAM: names} if any(names) else {}
    told = True
    if dialect == "relion5":
        check_sizes(path, names, found)
        columns |= _number_columns(CENTRED, particles.positions - centres(names, found, centre))
    else:
        sizes, told = _pixel_sizes(path, particles, names, found, pixel_size)
        columns |= _number_columns(PIXELS, particles.positions / sizes[:, None])
    columns |= _pose_columns(particles)
    if not told:
        columns[PIXEL] = [f"{size:.9g}" for size in sizes.tolist()]
    foreign = {name: _texts(column) for name, column in particles.extra.items() if name not in (*KNOWN, *columns)}
    blocks = _blocks(particles, {**columns, **foreign}, _global_table(particles, names, found))
    write_star(path, blocks, provenance=provenance, version=DIALECTS[dialect])


def write_import_list(path: Path | str, particles_path: Path | str, names: Sequence[str]) -> None:
    """Write the list that RELION's import job reads: the tomogram's name and the file of its particles.

    RELION gives every particle of a listed file the name beside it, so a file of several tomograms cannot be listed.

    Raises
    ------
    InputError
        If there is not exactly one name, or the place cannot be written.
    """
    if len(set(names)) != 1:
        raise InputError(
            f"{particles_path} holds particles of {len(set(names))} tomograms; RELION's import list needs one file "
            "for each tomogram. Write them apart, or import the file itself."
        )
    table = {TOMOGRAM: (str(names[0]),), "rlnTomoImportParticleFile": (str(particles_path),)}
    write_star(path, {"particles": table})


def _named_extents(particles: Particles, extents: Mapping[str, Extent]) -> tuple[list[str], dict[str, Extent]]:
    """The name to write for each particle, and what is known of sizes by those names."""
    own = table_extents(particles.blocks.get(GLOBAL, {}), where="data_global")
    known = {**extents, **own}
    only = next(iter(known)) if len(known) == 1 else ""
    names = [str(name) or only for name in particles.tomogram]
    return names, find_extents(names, [own, extents])


def _pixel_sizes(
    path: Path | str,
    particles: Particles,
    names: Sequence[str],
    found: Mapping[str, Extent],
    pixel_size: float | None,
) -> tuple[FloatArray, bool]:
    """The size of each particle's pixel in Å, and whether the particles themselves tell it."""
    table = {name: _texts(column) for name, column in particles.extra.items()}
    sizes = pixel_sizes(table, particles.blocks, found, names=names, where=str(path))
    if sizes is not None:
        return sizes, True
    if pixel_size is None:
        raise InputError(
            f"{path}: RELION 4's coordinates are in pixels, and the size of a pixel is unknown. "
            "Give it in Å (--pixel-size), or open the tomogram too."
        )
    return np.full(len(names), float(pixel_size)), False


def _number_columns(columns: Sequence[str], values: FloatArray) -> dict[str, Sequence[str]]:
    return dict(zip(columns, (_decimals(column) for column in values.T), strict=True))


def _pose_columns(particles: Particles) -> dict[str, Sequence[str]]:
    columns: dict[str, Sequence[str]] = {}
    if particles.rotations is not None:
        columns |= _number_columns(ANGLES, matrix_to_zyz(particles.rotations))
    if particles.confidence is not None:
        columns[CONFIDENCE] = _decimals(particles.confidence)
    if particles.expected_error_deg is not None:
        columns[EXPECTED_ERROR] = _decimals(particles.expected_error_deg)
    if particles.kind is not None:
        columns[CLASS] = _texts(particles.kind)
    return columns


def _blocks(
    particles: Particles, columns: Mapping[str, Sequence[str]], sizes: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, Mapping[str, Sequence[str]]]:
    """All tables in order: RELION's import reads the first table of a file whatever its name, so sizes stand last."""
    blocks: dict[str, Mapping[str, Sequence[str]]] = {}
    carried = {name: table for name, table in particles.blocks.items() if name not in (GLOBAL, "particles")}
    blocks |= {name: carried.pop(name) for name in ("general", "optics") if name in carried}
    blocks["particles"] = columns
    return {**blocks, **carried, **sizes}


def _global_table(
    particles: Particles, names: Sequence[str], found: Mapping[str, Extent]
) -> dict[str, Mapping[str, Sequence[str]]]:
    own = particles.blocks.get(GLOBAL)
    if own is not None and set(names) <= set(own.get(TOMOGRAM, ())):
        return {GLOBAL: own}
    return {GLOBAL: extents_table(found)} if found else {}


def _decimals(column: FloatArray) -> list[str]:
    rounded = np.round(column, DECIMALS) + 0.0
    return [f"{value:.{DECIMALS}f}" for value in rounded.tolist()]


def _texts(column: NDArray[Any]) -> list[str]:
    if np.issubdtype(column.dtype, np.floating):
        return _decimals(column)
    return [str(value) for value in column.tolist()]

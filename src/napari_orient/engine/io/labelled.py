"""Labelled tomograms: tomograms with their own particles, for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.mrc import read_mrc
from napari_orient.engine.io.names import match_tomogram
from napari_orient.engine.io.particle_lists import read_particles
from napari_orient.engine.io.polnet import is_polnet_folder, read_polnet_folder
from napari_orient.engine.io.relion import named_tomograms
from napari_orient.engine.io.sizes import read_tomograms, tomogram_files
from napari_orient.engine.io.table import read_rows
from napari_orient.engine.particles import Particles, Tomogram, shortened

VOLUME_SUFFIXES = (".mrc", ".rec", ".map")


def read_labelled(
    path: Path | str,
    *,
    tomograms: Path | str | None = None,
    voxel_size: float | None = None,
    pixel_size: float | None = None,
    centre: str = "size/2",
) -> list[tuple[Tomogram, Particles]]:
    """Tomograms, memory-mapped, each with its own particles under the same name, in the list's order.

    Parameters
    ----------
    path : a PolNet result folder, or a list of particles. The tomograms of a list are looked for in ``tomograms``, then
        where its own columns or the optimisation set say, then in a tomograms.star beside it, then beside it by name.
    tomograms : a folder of .mrc, .rec or .map files, or RELION's tomograms.star.
    voxel_size : Å; overrides the tomograms' headers.
    pixel_size, centre : as `read_particles`.

    Raises
    ------
    InputError
        If there are no particles, or files of the list's tomograms are not found: which.
    """
    path = Path(path)
    if path.is_dir():
        if not is_polnet_folder(path):
            raise InputError(
                f"{path} is no PolNet result folder; expected one with motif lists, or a list of particles."
            )
        return read_polnet_folder(path, voxel_size=voxel_size)
    given = None if tomograms is None else Path(tomograms)
    opened = {name: _opened(name, place, voxel_size) for name, place in _found(path, given).items()}
    particles = read_particles(
        path,
        extents={name: tomogram.extent for name, tomogram in opened.items()},
        pixel_size=pixel_size,
        tomograms=given if given is not None and given.is_file() else None,
        centre=centre,
    )
    return [(tomogram, _own(particles, name, tomogram)) for name, tomogram in opened.items()]


def _found(path: Path, given: Path | None) -> dict[str, Path]:
    """File of each tomogram of a list, by the name in the list."""
    named = _named(path)
    own = {name: place for name, place in named.items() if place is not None}
    sources = [*([_given(given)] if given is not None else []), own, *_tables_beside(path), _in_folder(path.parent)]
    found = {name: place for name in named if (place := _first(name, sources)) is not None}
    missing = [name or "(no name)" for name in named if name not in found]
    if missing:
        raise InputError(
            f"{path}: no file is found for tomogram {shortened(missing)}. Give the folder of the tomograms "
            "(--tomograms); their files must be named as in the list."
        )
    return found


def _named(path: Path) -> dict[str, Path | None]:
    if path.suffix.lower() == ".star":
        return named_tomograms(path)
    rows = {name.lower(): values for name, values in read_rows(path).items()}
    if "tomogram" in rows:
        return dict.fromkeys(rows["tomogram"])
    return dict.fromkeys(read_particles(path).tomogram_names)


def _first(name: str, sources: Iterable[Mapping[str, Path]]) -> Path | None:
    for source in sources:
        if not name and len(source) == 1:
            return next(iter(source.values()))
        key = match_tomogram(name, source)
        if key is not None:
            return source[key]
    return None


def _given(place: Path) -> dict[str, Path]:
    if place.is_dir():
        return _in_folder(place)
    return tomogram_files(read_tomograms(place), beside=place)


def _tables_beside(path: Path) -> list[dict[str, Path]]:
    tables = sorted(path.parent.glob("*tomograms.star"))
    return [tomogram_files(read_tomograms(table), beside=table) for table in tables if table != path]


def _in_folder(folder: Path) -> dict[str, Path]:
    return {item.stem: item for item in sorted(folder.iterdir()) if item.suffix.lower() in VOLUME_SUFFIXES}


def _opened(name: str, place: Path, voxel_size: float | None) -> Tomogram:
    tomogram = read_mrc(place, voxel_size=voxel_size)
    return replace(tomogram, name=name or tomogram.name)


def _own(particles: Particles, name: str, tomogram: Tomogram) -> Particles:
    own = particles.of_tomogram(name).located_in(tomogram)
    return own if name else own.replace(tomogram=tomogram.name)

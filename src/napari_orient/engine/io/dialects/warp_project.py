"""Populations and species of M (.population, .species), and where a project of Warp has its reconstructions.

A population names its species and its sources: a ``.source`` lies in the folder that WarpTools processes in, whose
folder ``reconstruction`` has the tomograms. A species has its list beside it, ``NAME_particles.star``.
"""

from __future__ import annotations

import re
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import ListFile
from napari_orient.engine.io.tomograms import found_file
from napari_orient.engine.io.volumes.formats import volumes_in
from napari_orient.engine.particles import shortened

_LEVELS = 4
"""Folders above a list in which its project is looked for: M's lists lie in m/species/NAME_12345678."""

_PROCESSING, _RECONSTRUCTIONS = "warp_tiltseries", "reconstruction"
_ENTRY = r"<{}\b[^>]*\bPath\s*=\s*\"([^\"]+)\""


def list_of_project(file: ListFile) -> Path:
    """The particles' list of a species, or of the only species of a population.

    Raises
    ------
    InputError
        If a population has several species, or the list is not there.
    """
    if "<Population" not in file.head_text:
        return _list_of_species(file.path)
    named = _paths(file, "Species")
    if len(named) != 1:
        what = shortened([path.name for path in named]) or "none"
        raise InputError(f"{file.path} is a population of M with {len(named)} species ({what}). Open one of these.")
    return _list_of_species(named[0])


def reconstructions(path: Path) -> dict[str, Path]:
    """Reconstructions of the project of Warp or M that a list lies in, by name; none where it lies in none."""
    for folder in path.resolve().parents[:_LEVELS]:
        sources = [source.parent for item in sorted(folder.glob("*.population")) for source in _sources(item)]
        places = [place / _RECONSTRUCTIONS for place in (*sources, folder / _PROCESSING)]
        found = [volumes_in(place) for place in dict.fromkeys(places) if place.is_dir()]
        if found:
            return {name: volume for volumes in found for name, volume in volumes.items()}
    return {}


def _sources(population: Path) -> list[Path]:
    return _paths(ListFile(population), "Source")


def _paths(file: ListFile, tag: str) -> list[Path]:
    """Files that a population's entries of one kind name, as far as they are there."""
    texts = re.findall(_ENTRY.format(tag), file.text)
    found = (found_file(text.replace("\\", "/"), beside=file.path) for text in texts)
    return [path for path in found if path is not None]


def _list_of_species(path: Path) -> Path:
    found = path.with_name(f"{path.stem}_particles.star")
    if not found.is_file():
        raise InputError(f"{path} is a species of M; expected its list beside it, {found.name}.")
    return found

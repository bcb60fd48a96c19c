"""Readers of tomograms and particle lists and a STAR writer, which napari calls when files are opened or saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import (
    ListFile,
    holds_true_poses,
    match_tomogram,
    read_particles,
    read_provenance,
    read_tomogram,
    recognise_content,
    write_particles,
)
from napari_orient.engine.io.volumes.formats import names_volume
from napari_orient.engine.particles import Extent, Particles
from napari_orient.gui import layers
from napari_orient.gui.axes import ViewOptions, axes_parts
from napari_orient.gui.commands import open_page
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH, LayerParts
from napari_orient.gui.pages.data_page import dock_text
from napari_orient.gui.session import session_of
from napari_orient.gui.state_in_file import with_model_found, with_state

Reader = Callable[[str | Sequence[str]], list[LayerParts]]


def tomogram_reader(path: str | Sequence[str] | None = None) -> Reader | None:
    """The reader of volumes of every format, or None for lists; with no file, the palette opens the page Data."""
    if path is None:
        open_page("Data")
        return read_tomogram_layers
    lists = [item for item in _paths(path) if item.suffix.lower() == ".em" and not names_volume(item)]
    return None if lists else read_tomogram_layers


def particles_reader(path: str | Sequence[str] | None = None) -> Reader | None:
    """The reader of particle lists, or None for files that are none; with no file, the palette opens the page Data."""
    if path is None:
        open_page("Data")
        return read_particle_layers
    try:
        found = [recognise_content(ListFile(item)) for item in _paths(path)]
    except InputError:
        return read_particle_layers
    return read_particle_layers if all(dialect and dialect.read for dialect in found) else None


def read_tomogram_layers(path: str | Sequence[str]) -> list[LayerParts]:
    """Image layers, in Å, memory-mapped or read by chunks; notes on how they were read are shown."""
    tomograms = [read_tomogram(item) for item in _paths(path)]
    for tomogram in tomograms:
        for note in tomogram.notes:
            show_info(f"{tomogram.name}: {note}")
    return [layers.tomogram_parts(tomogram) for tomogram in tomograms]


def read_particle_layers(path: str | Sequence[str]) -> list[LayerParts]:
    """Points layers, in Å, with arrows where the list has orientations; one for each tomogram in it.

    Where tomograms are open, particles of others are left out.
    """
    found: list[LayerParts] = []
    for item in _paths(path):
        extents = _extents_on_view()
        particles = with_model_found(_read(item, extents), item)
        if particles.notes:
            show_info(f"{item.name}: {' '.join(dock_text(note) for note in particles.notes)}")
        for name, part in _parts(particles, extents):
            found += _with_axes(part, extents.get(name), item)
    return found


def _read(path: Path, extents: dict[str, Extent]) -> Particles:
    """The particles of a list; those of the one tomogram that is open alone, where it is one.

    Raises
    ------
    InputError
        If the list has none of it, or cannot be read: without the names of the command line's options.
    """
    try:
        return read_particles(path, tomogram=next(iter(extents)) if len(extents) == 1 else None, extents=extents)
    except InputError as error:
        raise InputError(dock_text(str(error))) from error


def _parts(particles: Particles, extents: dict[str, Extent]) -> list[tuple[str, Particles]]:
    """The particles of each tomogram and the name it is open under."""
    names = particles.tomogram_names
    if not extents:
        return [(name, particles.of_tomogram(name)) for name in names]
    if len(extents) == 1:
        return [(next(iter(extents)), particles)]
    pairs = [(match_tomogram(name, extents), particles.of_tomogram(name)) for name in names]
    own = [(name, part) for name, part in pairs if name is not None]
    if not own:
        raise InputError(f"the list is of {', '.join(names[:3])}; open are {', '.join(extents)}. Rename one of them.")
    return own


def _with_axes(particles: Particles, extent: Extent | None, path: Path) -> list[LayerParts]:
    role = _role(particles, path)
    several = len(particles.tomogram_names) > 0 and particles.tomogram_names[0] not in ("", path.stem)
    name = f"{path.stem} {particles.tomogram_names[0]}" if several else path.stem
    points = layers.particles_parts(particles, extent, role=role, name=name, provenance=read_provenance(path))
    axes = axes_parts(particles, points, _view())
    return [points] if axes is None else [axes, points]


def _role(particles: Particles, path: Path) -> str:
    """Poses with an expected error were predicted; those of a simulation's list are the truth; others are picks."""
    if particles.rotations is None:
        return PICKS
    if particles.expected_error_deg is not None:
        return PREDICTED
    return TRUTH if holds_true_poses(path) else PICKS


def _extents_on_view() -> dict[str, Extent]:
    viewer = napari.current_viewer()
    return {} if viewer is None else session_of(viewer).index.extents()


def _view() -> ViewOptions:
    """How poses are drawn in the viewer in front."""
    viewer = napari.current_viewer()
    return ViewOptions() if viewer is None else session_of(viewer).drawing.view


def _paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(path)] if isinstance(path, str) else [Path(item) for item in path]


# --- saving ---------------------------------------------------------------------------------------------------------


def write_points(path: str | None = None, array: Any = None, keywords: dict[str, Any] | None = None) -> list[str]:
    """Write a points layer as RELION 5 STAR, or in another dialect by the suffix; napari's own Save calls this.

    Called by the palette, with nothing to write, it opens the page Result.
    """
    if path is None or keywords is None:
        open_page("Export")
        return []
    layer = Layer.create(array, {key: value for key, value in keywords.items() if key in _KEPT}, "points")
    viewer = napari.current_viewer()
    extent = layers.extent_of(layer) if viewer is None else session_of(viewer).index.extent_of(layer)
    particles = layers.particles_of(layer)
    if Path(path).suffix.lower() == ".star":
        rows = np.arange(len(particles))
        session = None if viewer is None else session_of(viewer)
        particles = with_state(particles, layer, rows, session, path=Path(path))
    extents = {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
    line = str(layers.about(layer).get("provenance", ""))
    write_particles(path, particles, extents=extents, provenance=line)
    return [path]


_KEPT = {"name", "features", "metadata", "scale", "units", "axis_labels"}
"""What of a layer's state is needed to know its particles."""

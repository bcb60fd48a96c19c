"""Readers of tomograms and particle lists, and a writer of lists, all of which napari calls."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_particles
from napari_orient.engine.io.dialects import ListFile, recognise_content
from napari_orient.engine.io.volumes.formats import names_volume
from napari_orient.gui.commands import dock_of, open_page, page_of
from napari_orient.gui.docks.orient_dock import POSES, OrientDock
from napari_orient.gui.event_loop import import_ahead
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import LayerParts
from napari_orient.gui.layers.napari_csv import is_napari_csv
from napari_orient.gui.session.opening import (
    asks_for_size,
    dock_text,
    parts_of_file,
    refuse,
)
from napari_orient.gui.session.state_in_file import with_state
from napari_orient.gui.session.viewer_session import Session, session_of

Reader = Callable[[str | Sequence[str]], list[LayerParts]]

NO_LAYER: list[Any] = [(None,)]
"""What npe2 takes for a file that was read and gives no layer."""

_KEPT = {"name", "features", "metadata", "scale", "units", "axis_labels"}
"""What of a layer's state is needed to know its particles."""


def tomogram_reader(path: str | Sequence[str] | None = None) -> Reader | None:
    """The reader of volumes of every format, or None for lists; with no file, the palette opens the page Data."""
    if path is None:
        open_page("Data")
        return read_tomogram_layers
    lists = [item for item in _paths(path) if item.suffix.lower() == ".em" and not names_volume(item)]
    return None if lists else read_tomogram_layers


def particles_reader(path: str | Sequence[str] | None = None) -> Reader | None:
    """The reader of particle lists, or None for files that are none; with no file, the palette opens the page Data.

    Text that is known to be no list is read too: the reader's error says what it is, and what opens it.
    """
    if path is None:
        open_page("Data")
        return read_particle_layers
    try:
        files = [ListFile(item) for item in _paths(path) if not is_napari_csv(item)]
        found = [(file, recognise_content(file)) for file in files]
    except InputError:
        return read_particle_layers
    known = all(dialect and (dialect.read or file.is_text) for file, dialect in found)
    return read_particle_layers if known else None


def read_tomogram_layers(path: str | Sequence[str]) -> list[LayerParts]:
    """Image layers, in Å, read by parts; notes on how they were read are shown.

    A file that does not say its voxel size is handed to the page Data, which asks for it; one that is open is shown.
    """
    return _read(path, volume=True)


def read_particle_layers(path: str | Sequence[str]) -> list[LayerParts]:
    """Points layers, in Å, with arrows where the list has orientations, and the tomogram where it is found.

    Of several tomograms one gets layers. A list that is open is selected, and read again if it changed.
    """
    found = _read(path, volume=False)
    _offer_dock()
    return found


def _read(path: str | Sequence[str], *, volume: bool) -> list[LayerParts]:
    return [part for item in _paths(path) for part in _parts(item, volume=volume)] or NO_LAYER


def _parts(path: Path, *, volume: bool) -> list[LayerParts]:
    """What a file is read as; in a window `refuse` shows an error: napari's own account of it fills the screen."""
    import_ahead()
    viewer = napari.current_viewer()
    try:
        return parts_of_file(None if viewer is None else session_of(viewer), path, volume=volume)
    except InputError as error:
        if viewer is None or not hasattr(viewer, "window"):
            raise InputError(dock_text(str(error))) from error
        if asks_for_size(error):
            page_of(viewer, "Data")
        refuse(session_of(viewer), path, error)
        return []


def _offer_dock() -> None:
    """Open the Orient dock with the first particles, once napari has shown them; never again after it was closed."""
    viewer = napari.current_viewer()
    if viewer is not None and hasattr(viewer, "window") and not session_of(viewer).docks:
        known = weakref.ref(getattr(viewer, "__wrapped__", viewer))
        QTimer.singleShot(0, partial(_open_dock, known))


def _open_dock(known: weakref.ref[Any]) -> None:
    viewer = known()
    # The window may be closed meanwhile.
    if viewer is not None and napari.current_viewer() is viewer and not session_of(viewer).docks:
        dock_of(viewer, OrientDock).show_page(POSES)


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
    if viewer is not None:
        _check_output(session_of(viewer), Path(path), layer)
    extent = layer_data.extent_of(layer) if viewer is None else session_of(viewer).index.extent_of(layer)
    particles = layer_data.particles_of(layer)
    if Path(path).suffix.lower() == ".star":
        rows = np.arange(len(particles))
        session = None if viewer is None else session_of(viewer)
        particles = with_state(particles, layer, rows, session, path=Path(path))
    extents = {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
    line = layer_data.own_provenance(layer)
    write_particles(path, particles, extents=extents, provenance=line)
    return [path]


def _check_output(session: Session, path: Path, layer: Layer) -> None:
    """Check that no open file is written over but the layer's own list: of that, napari has asked.

    Raises
    ------
    InputError
        If one is; shown, for napari says no more than that nothing was written.
    """
    try:
        session.check_outputs(path, own=Path(str(layer_data.about(layer).get("path", ""))))
    except InputError as error:
        show_error(str(error))
        raise

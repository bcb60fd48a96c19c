"""Readers of tomograms, particle lists and napari's own CSV, and a writer of lists, all of which napari calls."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer

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
from napari_orient.engine.outputs import recorded_reads
from napari_orient.engine.particles import Extent, Particles
from napari_orient.gui import layers
from napari_orient.gui.axes import ViewOptions, axes_parts
from napari_orient.gui.commands import dock_of, open_page, page_of
from napari_orient.gui.layers import (
    CLASS,
    CONFIDENCE,
    EXPECTED_ERROR,
    FEATURE_NAMES,
    OWN_COLUMNS,
    PICKS,
    PREDICTED,
    ROTATION_COLUMNS,
    TRUTH,
    LayerParts,
)
from napari_orient.gui.opening import dock_text
from napari_orient.gui.orient_dock import POSES, OrientDock
from napari_orient.gui.session import Session, session_of
from napari_orient.gui.state_in_file import with_model_found, with_state
from napari_orient.gui.tomogram_switch import ListedParticles

Reader = Callable[[str | Sequence[str]], list[LayerParts]]

NO_LAYER: list[Any] = [(None,)]
"""What npe2 takes for a file that was read and gives no layer."""

_KEPT = {"name", "features", "metadata", "scale", "units", "axis_labels"}
"""What of a layer's state is needed to know its particles."""

_AXES = ("axis-0", "axis-1", "axis-2")


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
    viewer, found = napari.current_viewer(), []
    for item in _paths(path):
        if viewer is not None and _shown_already(session_of(viewer), item):
            continue
        try:
            tomogram = read_tomogram(item)
        except InputError as error:
            if viewer is None or not hasattr(viewer, "window") or "voxel size" not in str(error):
                raise InputError(dock_text(str(error))) from error
            page_of(viewer, "Data").ask_voxel_size(item)
            continue
        for note in tomogram.notes:
            show_info(f"{tomogram.name}: {note}")
        found.append(layers.tomogram_parts(tomogram))
    return found or NO_LAYER


def _shown_already(session: Session, path: Path) -> bool:
    """Whether the tomogram of this file is open; it is shown then."""
    opened = [image for image in session.index.volumes() if layers.about(image).get("path") == str(path.resolve())]
    if opened:
        session.tomograms.choose(layers.tomogram_name(opened[0]))
    return bool(opened)


def read_particle_layers(path: str | Sequence[str]) -> list[LayerParts]:
    """Points layers, in Å, with arrows where the list has orientations, of the tomograms that are open.

    Where none is open, of the list's first tomogram. The others are listed: they get their layers when they are chosen.
    """
    found: list[LayerParts] = []
    for item in _paths(path):
        extents = _extents_on_view()
        with recorded_reads() as files:
            read = _read(item, extents)
        particles = with_model_found(read, item)
        if particles.notes:
            show_info(f"{item.name}: {' '.join(dock_text(note) for note in particles.notes)}")
        shown, listed = _parts(particles, extents)
        for name, part in shown:
            found += _with_axes(part, extents.get(name), item, files)
        for name, part in listed:
            _list(name, part, item, files)
    _offer_dock()
    return found or NO_LAYER


def _read(path: Path, extents: dict[str, Extent]) -> Particles:
    """The particles of a list, of every tomogram that can be placed.

    Raises
    ------
    InputError
        If the list has none of the one tomogram that is open, or cannot be read: without the names of options.
    """
    if is_napari_csv(path):
        return _read_napari_csv(path)
    try:
        if len(extents) != 1:
            return read_particles(path, extents=extents)
        own = read_particles(path, tomogram=next(iter(extents)), extents=extents)
    except InputError as error:
        raise InputError(dock_text(str(error))) from error
    with suppress(InputError):
        every = read_particles(path, extents=extents)
        if len(every.tomogram_names) > len(own.tomogram_names):
            return every
    return own


def _read_napari_csv(path: Path) -> Particles:
    viewer = napari.current_viewer()
    image = None if viewer is None else session_of(viewer).tomograms.current
    size = None if image is None else layers.voxel_size(image)
    particles = read_napari_csv(path, voxel_size=size)
    return particles.replace(tomogram="" if image is None else layers.tomogram_name(image))


Parts = list[tuple[str, Particles]]


def _parts(particles: Particles, extents: dict[str, Extent]) -> tuple[Parts, Parts]:
    """The particles of each tomogram and the name it is open under: those to show, and those to list.

    Raises
    ------
    InputError
        If none of the list's tomograms is open, but others are.
    """
    names = particles.tomogram_names
    every = [(name, particles.of_tomogram(name)) for name in names]
    if not extents:
        return (every[:1], every[1:]) if napari.current_viewer() is not None else (every, [])
    if len(extents) == 1 and len(names) < 2:
        return [(next(iter(extents)), particles)], []
    pairs = [(match_tomogram(name, extents), name, part) for name, part in every]
    own = [(match, part) for match, _, part in pairs if match is not None]
    if not own:
        raise InputError(f"the list is of {', '.join(names[:3])}; open are {', '.join(extents)}. Rename one of them.")
    return own, [(name, part) for match, name, part in pairs if match is None]


def _list(name: str, particles: Particles, path: Path, files: Sequence[Path]) -> None:
    """List the particles of a tomogram that is not open, in the viewer in front."""
    viewer = napari.current_viewer()
    if viewer is not None:
        said = (_role(particles, path), f"{path.stem} {name}", read_provenance(path), path, files)
        session_of(viewer).tomograms.list_particles(name, ListedParticles(particles, *said))


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


def _with_axes(particles: Particles, extent: Extent | None, path: Path, files: Sequence[Path]) -> list[LayerParts]:
    role = _role(particles, path)
    several = len(particles.tomogram_names) > 0 and particles.tomogram_names[0] not in ("", path.stem)
    name = f"{path.stem} {particles.tomogram_names[0]}" if several else path.stem
    line = read_provenance(path)
    said: dict[str, Any] = {"provenance": line, "path": path, "files": files}
    points = layers.particles_parts(particles, extent, role=role, name=name, **said)
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
    if viewer is not None:
        _check_output(session_of(viewer), Path(path), layer)
    extent = layers.extent_of(layer) if viewer is None else session_of(viewer).index.extent_of(layer)
    particles = layers.particles_of(layer)
    if Path(path).suffix.lower() == ".star":
        rows = np.arange(len(particles))
        session = None if viewer is None else session_of(viewer)
        particles = with_state(particles, layer, rows, session, path=Path(path))
    extents = {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
    line = layers.own_provenance(layer)
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
        session.check_outputs(path, own=Path(str(layers.about(layer).get("path", ""))))
    except InputError as error:
        show_error(str(error))
        raise


def is_napari_csv(path: Path) -> bool:
    """Whether a file is a table of points in a volume as napari saves them."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().startswith("index,axis-0,axis-1,axis-2")


def read_napari_csv(path: Path, *, voxel_size: float | None) -> Particles:
    """The particles of such a file, with poses, scores and classes where its columns hold them.

    Parameters
    ----------
    voxel_size : Å, of the tomogram that the points lie in: the file counts in voxels and does not say of what size.

    Raises
    ------
    InputError
        If the voxel size is unknown, or a column is not numeric.
    """
    if voxel_size is None:
        raise InputError(f"{path.name} counts in voxels of a size that it does not say; open its tomogram first.")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return _particles(rows, voxel_size)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path.name} is no whole table of points as napari saves it: {error}.") from None


def _particles(rows: list[dict[str, str]], voxel_size: float) -> Particles:
    names = list(rows[0]) if rows else []
    numbers = {name: _numbers(rows, name) for name in (*_AXES, *ROTATION_COLUMNS, CONFIDENCE, EXPECTED_ERROR)}
    places = np.stack([numbers[name] for name in _AXES], axis=1)
    posed = set(ROTATION_COLUMNS) <= set(names)
    rotations = np.stack([numbers[name] for name in ROTATION_COLUMNS], axis=1).reshape(-1, 3, 3)
    plain = {feature: column for column, feature in FEATURE_NAMES.items()}
    foreign = [name for name in names if name not in (*OWN_COLUMNS, *_AXES, "index")]
    return Particles(
        positions=layers.flip(places) * voxel_size,
        rotations=rotations if posed and np.isfinite(rotations).all() else None,
        confidence=numbers[CONFIDENCE] if CONFIDENCE in names else None,
        expected_error_deg=numbers[EXPECTED_ERROR] if EXPECTED_ERROR in names else None,
        kind=np.array([row[CLASS] for row in rows]) if CLASS in names else None,
        extra={plain.get(name, name): np.array([row[name] for row in rows]) for name in foreign},
    )


def _numbers(rows: list[dict[str, str]], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([float(row.get(name) or "nan") for row in rows])

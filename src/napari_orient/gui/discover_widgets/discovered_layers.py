"""Discovered poses as layers of predicted particles, one for each open tomogram."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from napari.layers import Points, Vectors
from numpy.typing import NDArray

from napari_orient.engine.discovery.output import Discovery, class_name
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.discovery.verdict import NOTHING
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.gui import layers
from napari_orient.gui.axes import axes_layer, take_arrows
from napari_orient.gui.canvas import holding_still
from napari_orient.gui.discover_widgets.preview import DiscoveryPreview
from napari_orient.gui.layers import PICKS, PREDICTED
from napari_orient.gui.session import Session

DISCOVERED = "discovered"
"""Key of a layer's metadata that marks its poses as discovered."""


WELL_DETERMINED = 20.0
"""Degrees of expected error below which a pose is fit for training: the paper's threshold of a right pose."""


def supported_particles(found: Discovery) -> Particles:
    """The particles of structures whose verdict is not `NOTHING`."""
    every = found.particles
    bad = [class_name(label) for label, item in enumerate(found.structures) if item.verdict.grade == NOTHING]
    if len(found.structures) < 2 or every.kind is None or not bad:
        return every
    return every.take(~np.isin(every.kind, bad))


def show_poses(
    session: Session,
    particles: Particles,
    tomograms: Sequence[Tomogram],
    *,
    preview: DiscoveryPreview,
    provenance: str,
    words: str,
    own_frame: bool = True,
) -> Generator[None, None, tuple[list[Points], list[str]]]:
    """Show the particles of each tomogram in a layer; yield after each.

    Poses discovered earlier are replaced, as one step of their layer's history. A new layer takes over the arrows of
    the preview: napari is slow to make a layer, and slower to remove one.

    Returns
    -------
    The layers, and the names of tomograms that are no longer open.
    """
    shown, missing = [], []
    for tomogram in tomograms:
        own = particles.of_tomogram(tomogram.name)
        images = {layers.tomogram_name(image): image for image in session.index.tomograms()}
        if tomogram.name not in images:
            missing.append(tomogram.name)
        elif len(own):
            layer = _existing_layer(session, tomogram)
            arrows = preview.release_arrows(tomogram.name) if layer is None else None
            if arrows is not None:
                session.viewer.layers.move(session.viewer.layers.index(arrows), -1)
                yield
            with holding_still(session.viewer):
                if layer is None:
                    layer = _new_layer(session, own, tomogram, arrows=arrows, provenance=provenance)
                else:
                    session.replace_particles(layer, own, provenance=provenance, words=words)
                _set_frame(layer, own=own_frame)
                _style_layer(session, layer, visible=images[tomogram.name].visible)
            shown.append(layer)
            yield
    return shown, missing


def _existing_layer(session: Session, tomogram: Tomogram) -> Points | None:
    for layer in session.index.particles(PREDICTED):
        about = layers.about(layer)
        if about.get(DISCOVERED) and about.get("tomogram") == tomogram.name:
            return layer
    return None


def _new_layer(
    session: Session, own: Particles, tomogram: Tomogram, *, arrows: Vectors | None, provenance: str
) -> Points:
    name = f"{tomogram.name} discovered"
    layer = session.show_particles(
        own, tomogram.extent, role=PREDICTED, name=name, provenance=provenance, immediately=False
    )
    layers.about(layer)[DISCOVERED] = True
    if arrows is not None:
        take_arrows(arrows, layer)
    return layer


def _set_frame(layer: Points, *, own: bool) -> None:
    """Note in a layer whether its poses are in an arbitrary frame: errors are then taken up to one rotation."""
    layers.about(layer).pop(layers.FRAME, None)
    if own:
        layers.about(layer)[layers.FRAME] = "its own"


def _style_layer(session: Session, layer: Points, *, visible: bool) -> None:
    """Paint false picks pale; show the layer and its arrows if its tomogram is shown."""
    layers.paint(layer, session.drawing.view.ink(PREDICTED))
    for item in (layer, axes_layer(session.viewer, layer)):
        # Setting `visible` to its own value makes napari slice the layer again.
        if item is not None and item.visible != visible:
            item.visible = visible


def hide_own_poses(session: Session, picks: Sequence[Points]) -> None:
    """Hide the arrows of poses that came with the picks, which would cover the new ones."""
    for layer in picks:
        arrows = axes_layer(session.viewer, layer) if layers.role(layer) == PICKS else None
        if arrows is not None:
            arrows.visible = False


def true_errors(session: Session, shown: Sequence[Points], group: Symmetry, *, kind: str = "") -> FloatArray | None:
    """Angles in degrees to the true rotations, up to one common rotation, (N,); None without true poses on view.

    Parameters
    ----------
    group : symmetry of the discovered map, in its own frame.
    kind : class of the particles; empty for all.
    """
    found, true = [], []
    for layer in shown:
        if session.index.truth_of(str(layers.about(layer).get("tomogram", ""))) is None:
            continue
        values = session.inspection.particle_values(layer)
        if values.truth is None or values.truth.rotations is None or values.particles.rotations is None:
            continue
        partner = values.inspection.partner
        own = (partner >= 0) & ~layers.false_picks(values.particles) & _of_class(values.particles, kind)
        found.append(values.particles.rotations[own])
        true.append(values.truth.rotations[partner[own]])
    if not sum(map(len, found)):
        return None
    rotations, truth = np.concatenate(found), np.concatenate(true)
    # The group's axes are given in the discovered frame, so the true rotations are rotated into it.
    return np.asarray(symmetric_angle_deg(truth @ global_rotation(rotations, truth, group), rotations, group))


def well_determined_rows(layer: Points, *, kind: str = "") -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Rows of the particles of a class (empty: all) with an expected error below `WELL_DETERMINED`, no false picks."""
    expected, picks = layer.features.get(layers.EXPECTED_ERROR), layers.picks_of(layer)
    good = layers.has_pose(layer) & ~layers.false_picks(picks) & _of_class(picks, kind)
    if expected is not None:
        good &= expected.to_numpy(float) < WELL_DETERMINED
    return np.flatnonzero(good)


def _of_class(particles: Particles, kind: str) -> NDArray[np.bool_]:
    every = np.full(len(particles), "") if particles.kind is None else np.asarray(particles.kind)
    return np.asarray(every == kind) if kind else np.ones(len(particles), bool)

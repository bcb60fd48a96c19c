"""Every quantity of the particles in a layer, row by row, under the names that table, colours and filters share."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.events import EmitterGroup
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import Inspection, InspectionOptions, inspect, symmetries_by_class
from napari_orient.engine.io.columns import OUTLIER
from napari_orient.engine.model_files import shipped_models, shipped_symmetry
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.symmetry import Symmetry, symmetry
from napari_orient.engine.templates import bead_models, bead_symmetry
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_index import LayerIndex


@dataclass(frozen=True)
class Quantity:
    """A quantity of every particle: its name in expressions, its title, unit, decimals, and what it is.

    ``property`` is what it is called where it may go with the error.
    """

    name: str
    title: str
    unit: str
    digits: int
    tip: str
    property: str = ""


QUANTITIES = (
    Quantity("number", "#", "", 0, "number of the particle in its list"),
    Quantity("class", "class", "", 0, "code of the macromolecule", "class"),
    Quantity("score", "score", "", 2, "probability that the rotation is within 20° of the truth", "score"),
    Quantity("expected_error", "expected", "°", 1, "expected error of this rotation, degrees", "expected error"),
    Quantity("true_error", "true", "°", 1, "angle to the true rotation, modulo the symmetry, degrees"),
    Quantity(
        "neighbour", "nearest", "Å", 0, "distance to the nearest other particle of any class, Å", "nearest particle"
    ),
    Quantity("neighbour_class", "its class", "", 0, "class of the nearest other particle", "class of the nearest"),
    Quantity("face", "to face", "Å", 0, "distance to the nearest face of the tomogram, Å", "distance to a face"),
    Quantity(
        "beam_angle",
        "to beam",
        "°",
        0,
        "angle between the particle's z axis and the beam, 0 to 90°",
        "tilt to the beam",
    ),
    Quantity(
        "contrast",
        "contrast",
        "σ",
        2,
        "difference of density from its surroundings, in their deviations",
        "local contrast",
    ),
    Quantity("cluster", "cluster", "", 0, "number of its cluster, 1 the largest; 0 stands alone"),
    Quantity("status", "status", "", 0, "accepted, rejected, or neither"),
)


@dataclass(frozen=True, eq=False)
class ParticleValues:
    """The quantities of a layer's particles.

    Parameters
    ----------
    rows : (N,) their points in the layer: those with poses; all of them where none has one.
    particles : the N particles.
    truth : the true particles beside them, or None.
    inspection : true errors, neighbours and clusters.
    columns : (N,) values by name, those of `QUANTITIES` that are there first, then the layer's foreign columns.
    """

    rows: NDArray[np.int_]
    particles: Particles
    truth: Particles | None
    inspection: Inspection
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rows)


def particle_values(
    layer: Points,
    options: InspectionOptions,
    *,
    truth: Points | None = None,
    groups: Mapping[str, str] | None = None,
    extent: Extent | None = None,
) -> ParticleValues:
    """Every quantity of the particles in a layer; ``groups`` are symmetries of classes that the options do not name.

    ``extent`` is the tomogram's, for distances to its faces.

    Raises
    ------
    InputError
        If the symmetry is none.
    """
    particles, rows = posed_particles(layer)
    true = None if truth is None or truth is layer else posed_particles(truth)[0]
    if true is not None and layer_data.FRAME in layer_data.about(layer):
        name = symmetries_by_class(options.symmetry or "").get("") or (groups or {}).get("", "C1")
        true = in_frame_of(particles, true, symmetry(name))
    extents = {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
    inspection = inspect(particles, options, truth=true, groups=groups, extents=extents)
    return ParticleValues(rows, particles, true, inspection, _columns(layer, particles, rows, inspection))


def in_frame_of(particles: Particles, truth: Particles, group: Symmetry) -> Particles:
    """True particles with their rotations turned into the frame that these poses are in, by the one common rotation.

    A discovered map has a frame of its own: poses that differ from the true ones by one rotation are as right.
    """
    from scipy.spatial import KDTree

    from napari_orient.engine.discovery.search import global_rotation

    if particles.rotations is None or truth.rotations is None or not len(particles) or not len(truth):
        return truth
    _, partner = KDTree(truth.positions).query(particles.positions)
    own, true = particles.rotations, truth.rotations[partner]
    return truth.replace(rotations=truth.rotations @ global_rotation(own, true, group))


def posed_particles(layer: Points) -> tuple[Particles, NDArray[np.int_]]:
    """The particles of a layer that have poses, and their rows; where none has one, all of them, without poses."""
    drawn, rows = drawn_particles(layer)
    picks = layer_data.picks_of(layer)
    part = picks if len(rows) == len(picks) else picks.take(rows)
    scores = {layer_data.CONFIDENCE: drawn.confidence, layer_data.EXPECTED_ERROR: drawn.expected_error_deg}
    return part if drawn.rotations is None else part.replace(rotations=drawn.rotations, **scores), rows


def drawn_particles(layer: Points) -> tuple[Particles, NDArray[np.int_]]:
    """What `posed_particles` gives, as far as it is drawn: positions, poses, scores and false-pick flags."""
    table, rows = (
        layer.features,
        np.flatnonzero(layer_data.has_pose(layer)) if layer_data.about(layer) else np.zeros(0, int),
    )
    posed = len(rows) > 0
    rows = rows if posed else np.arange(len(layer.data))
    names = [name for name in (layer_data.CONFIDENCE, layer_data.EXPECTED_ERROR) if posed and name in table.columns]
    flags = {OUTLIER: table[OUTLIER].to_numpy()[rows]} if OUTLIER in table.columns else {}
    particles = Particles(
        positions=layer_data.positions_of(layer, rows),
        rotations=layer_data.rotations_in(layer)[rows] if posed else None,
        tomogram=layer_data.own_tomogram(layer),
        extra=flags,
        **{name: table[name].to_numpy(float)[rows] for name in names},
    )
    return particles, rows


def fingerprint(layer: Points) -> tuple[Any, ...]:
    """A value that changes whenever a quantity of the layer's particles does, quick to compare."""
    from pandas.util import hash_pandas_object

    table = layer.features
    numbers = table.select_dtypes("number", exclude="timedelta")
    others = table.drop(columns=numbers.columns)
    try:
        words = hash_pandas_object(others, index=False) if len(others.columns) else None
    except TypeError:  # A person's own column of lists or the like.
        words = hash_pandas_object(others.astype(str), index=False)
    hashed = b"" if words is None else words.to_numpy().tobytes()
    values = numbers.to_numpy(float, na_value=np.nan)
    return np.asarray(layer.data).tobytes(), values.tobytes(), tuple(table.columns), hashed


def _columns(
    layer: Points, particles: Particles, rows: NDArray[np.int_], inspection: Inspection
) -> Mapping[str, NDArray[Any]]:
    table = layer.features
    numbers = table[layer_data.NUMBER] if layer_data.NUMBER in table.columns else np.arange(1, len(table) + 1)
    status = (
        layer_data.texts(table[layer_data.STATUS]) if layer_data.STATUS in table.columns else np.full(len(table), "")
    )
    own = {
        "number": np.asarray(numbers)[rows],
        "class": particles.kind,
        "score": particles.confidence,
        "expected_error": particles.expected_error_deg,
        "true_error": inspection.true_error_deg,
        "neighbour": inspection.neighbour,
        "neighbour_class": _informative(inspection.neighbour_class != "", inspection.neighbour_class),
        "face": _informative(np.isfinite(inspection.face), inspection.face),
        "beam_angle": _informative(np.isfinite(inspection.beam_angle_deg), inspection.beam_angle_deg),
        "cluster": inspection.cluster,
        "status": np.asarray(status, str)[rows],
    }
    taken = {*own, *layer_data.FEATURE_NAMES}
    foreign = {name: values for name, values in particles.extra.items() if name not in taken}
    return {name: np.asarray(values) for name, values in {**own, **foreign}.items() if values is not None}


def _informative(given: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any] | None:
    """The values, or None where none is given."""
    return values if given.any() else None


class InspectionModel:
    """Errors of the particles of one viewer, and the options by which they are measured.

    ``events.inspection`` is emitted when the options change; the events are the session's.
    """

    def __init__(self, index: LayerIndex, events: EmitterGroup) -> None:
        self.index, self.events = index, events
        self.options = InspectionOptions()
        self.network_symmetry = "C1"
        self.network_classes: frozenset[str] = frozenset()
        self._known: weakref.WeakKeyDictionary[Points, tuple[object, ParticleValues]] = weakref.WeakKeyDictionary()

    def use_symmetry_of(self, model: str) -> None:
        """Use this network's symmetry for the classes that it was trained on."""
        self.network_symmetry, self.network_classes = _taught(model)

    def set_options(self, options: InspectionOptions) -> None:
        """Measure true errors and clusters by these options from now on."""
        self.options = options
        self.events.inspection()

    def particle_values(self, points: Points) -> ParticleValues:
        """Every quantity of the particles in a layer; cached until something of it changes.

        Raises
        ------
        InputError
            If the symmetry is none.
        """
        truth = self.index.truth_of(layer_data.own_tomogram(points))
        options, groups = self.options, self._groups(points)
        how = (options.symmetry, tuple(groups.items()), options.cluster_distance, options.tolerance)
        extent = self.index.extent_of(points)
        key = (how, extent, fingerprint(points), None if truth is None else fingerprint(truth))
        kept = self._known.get(points)
        if kept is None or kept[0] != key:
            kept = key, particle_values(points, options, truth=truth, groups=groups, extent=extent)
            self._known[points] = kept
        return kept[1]

    def _groups(self, points: Points) -> dict[str, str]:
        """Symmetries by class: the network's, but of bead models that it never learnt their own."""
        others = [kind for kind in layer_data.classes(points) if kind not in self.network_classes]
        codes = {kind: kind.removeprefix("pdb_") for kind in others}
        own = {kind: bead_symmetry(code) for kind, code in codes.items() if code in bead_models()}
        return {"": self.network_symmetry} | own


def _taught(model: str) -> tuple[str, frozenset[str]]:
    """The symmetry that a network was trained with, C1 where unknown, and the classes that it was trained on."""
    if not model:
        return "C1", frozenset()
    if model in shipped_models():
        name, classes = shipped_symmetry(model)
        return symmetry(name).name, frozenset(classes)
    from napari_orient.engine.prediction.predict import load_model

    try:
        found = load_model(model)
    except InputError:
        return "C1", frozenset()
    return found.group.name, frozenset(found.classes)

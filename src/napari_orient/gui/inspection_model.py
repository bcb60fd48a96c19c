"""Errors, neighbours and clusters of the particles on view, each class by its own symmetry."""

from __future__ import annotations

import weakref

from napari.layers import Points
from napari.utils.events import EmitterGroup

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.templates import bead_models, bead_symmetry
from napari_orient.gui import layers
from napari_orient.gui.layer_index import LayerIndex
from napari_orient.gui.particle_values import ParticleValues, fingerprint, particle_values


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
        truth = self.index.truth_of(str(layers.about(points).get("tomogram", "")))
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
        others = [kind for kind in layers.classes(points) if kind not in self.network_classes]
        codes = {kind: kind.removeprefix("pdb_") for kind in others}
        own = {kind: bead_symmetry(code) for kind, code in codes.items() if code in bead_models()}
        return {"": self.network_symmetry} | own


def _taught(model: str) -> tuple[str, frozenset[str]]:
    """The symmetry that a network was trained with, C1 where unknown, and the classes that it was trained on."""
    from napari_orient.engine.prediction import load_model

    try:
        found = load_model(model) if model else None
    except InputError:
        found = None
    if found is None:
        return "C1", frozenset()
    return found.group.name, frozenset(found.classes)

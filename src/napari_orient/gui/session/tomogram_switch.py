"""The tomograms of a viewer: one is shown, the layers of the others are hidden, and some have no layers yet.

What works on several tomograms asks for their particles as `ParticleSet`, whether they are in layers or not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from napari.layers import Image, Layer, Points
from napari.utils.events import EmitterGroup
from numpy.typing import NDArray

from napari_orient.engine.io.tomograms import same_tomogram
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.gui.event_loop import Deferred
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.canvas import show_scale_bar
from napari_orient.gui.layers.layer_data import AXES, PREDICTED, SURFACE, TOMOGRAM, TRUTH
from napari_orient.gui.layers.layer_index import LayerIndex
from napari_orient.gui.layers.layer_rows import rows_of


@dataclass(frozen=True, eq=False)
class ListedParticles:
    """Particles that have no layer yet, and what it will have: role, name, provenance, path of its list, files read."""

    particles: Particles
    role: str
    name: str
    provenance: str = ""
    path: Path | None = None
    files: Sequence[Path] = ()


@dataclass(eq=False)
class ListedTomogram:
    """A tomogram that has no layers until it is chosen: its volume, where it is known, and its particles."""

    name: str
    tomogram: Tomogram | None = None
    parts: list[ListedParticles] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ParticleSet:
    """Particles of one role in one tomogram: those of a layer, or listed ones, which have no layer yet."""

    tomogram: str
    source: Points | ListedParticles

    @property
    def layer(self) -> Points | None:
        """The layer that holds them, or None."""
        return self.source if isinstance(self.source, Points) else None

    @property
    def listed(self) -> ListedParticles | None:
        """The particles that have no layer yet, or None."""
        return None if isinstance(self.source, Points) else self.source

    @property
    def name(self) -> str:
        """The layer's name, or that which it will have."""
        return self.source.name

    @property
    def role(self) -> str:
        """What they are: picks, predicted or true."""
        return layer_data.role(self.source) if isinstance(self.source, Points) else self.source.role

    def __len__(self) -> int:
        return len(self.source.data if isinstance(self.source, Points) else self.source.particles)

    def picks(self) -> Particles:
        """The particles without their poses, under their tomogram's name where they have none."""
        own = self.source
        return self.named(
            layer_data.picks_of(own) if isinstance(own, Points) else own.particles.replace(rotations=None)
        )

    @property
    def has_poses(self) -> bool:
        """Whether there are orientations among what is known of them."""
        if isinstance(self.source, Points):
            posed = set(layer_data.ROTATION_COLUMNS) <= set(self.source.features.columns)
            return bool(layer_data.about(self.source)) and posed
        return self.source.particles.rotations is not None

    def posed(self, wanted: NDArray[np.bool_]) -> Particles:
        """The particles of the mask (N,) that have a pose, with it."""
        if isinstance(self.source, Points):
            return self.named(rows_of(self.source, np.flatnonzero(wanted & layer_data.has_pose(self.source))))
        return self.named(self.source.particles.take(wanted))

    def named(self, particles: Particles) -> Particles:
        """Particles of the set under their tomogram's name where they have none."""
        return particles if any(particles.tomogram_names) else particles.replace(tomogram=self.tomogram)


class TomogramSwitch:
    """The current tomogram of one viewer; ``events.tomogram`` is emitted when it, or what there is to choose, changes.

    Layers of other tomograms are hidden, and come back as they were when their tomogram is chosen again; a layer that
    belongs to none is left alone. Of tomograms that are opened together the first is shown.
    """

    def __init__(self, index: LayerIndex, events: EmitterGroup, show: Callable[[ListedTomogram], None]) -> None:
        """``show`` makes the layers of a listed tomogram."""
        self.index, self.events, self._show_listed = index, events, show
        self.name = ""
        self.listed: dict[str, ListedTomogram] = {}
        index.listed = self.listed
        self._hidden: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._opening = False
        self._arranging = Deferred(self.arrange)

    @property
    def current(self) -> Image | None:
        """The layer of the tomogram that is shown, or None where none is open."""
        return self.index.current

    def names(self) -> list[str]:
        """The tomograms there are: open ones, those of particles alone, and listed ones, each in order."""
        found = [layer_data.tomogram_name(image) for image in reversed(self.index.volumes())]
        found += [self.owner(points) for points in reversed(self.index.particles())]
        return list(dict.fromkeys([*filter(None, found), *self.listed]))

    def image(self, name: str) -> Image | None:
        """The layer of the tomogram of this name, or None where its volume is not open."""
        return next((image for image in self.index.volumes() if layer_data.tomogram_name(image) == name), None)

    def choose(self, name: str) -> None:
        """Show the layers of the tomogram of this name, made now if it has none, and hide those of the others."""
        self._show(name)
        self._make_layers(name)

    def step(self, step: int) -> None:
        """Show the tomogram so many places further."""
        names = self.names()
        if names:
            place = names.index(self.name) if self.name in names else -step
            self.choose(names[(place + step) % len(names)])

    def list_particles(self, name: str, part: ListedParticles | None = None, *, volume: Tomogram | None = None) -> None:
        """List particles, and the volume where it is known, of a tomogram that gets its layers when it is chosen."""
        entry = self.listed.setdefault(self._listed_name(name) or name, ListedTomogram(name))
        entry.tomogram = volume or entry.tomogram
        if part is not None:
            entry.parts.append(part)
        self.events.tomogram()

    def sets(self, *roles: str) -> list[ParticleSet]:
        """Particles of every tomogram, the newest layers first, then listed ones; of these roles, if any are given."""
        found = [ParticleSet(self.owner(layer), layer) for layer in self.index.particles(*roles)]
        parts = [(entry.name, part) for entry in self.listed.values() for part in entry.parts]
        return found + [ParticleSet(name, part) for name, part in parts if not roles or part.role in roles]

    def tomogram(self, name: str) -> Tomogram | None:
        """The tomogram of this name as it is on view, or as it is listed; None where its volume is not known.

        Raises
        ------
        InputError
            If its layer cannot serve as a tomogram.
        """
        image, entry = self.image(name), self.listed.get(name)
        return layer_data.tomogram_of(image) if image is not None else None if entry is None else entry.tomogram

    def has_volume(self, name: str) -> bool:
        """Whether the volume of the tomogram of this name is known."""
        return self.image(name) is not None or (name in self.listed and self.listed[name].tomogram is not None)

    def truth(self, name: str) -> Particles | None:
        """The true particles of this tomogram, or None where there are none."""
        layer = self.index.truth_of(name) if self.image(name) is not None or name not in self.listed else None
        if layer is not None:
            return layer_data.particles_of(layer)
        parts = self.listed[name].parts if name in self.listed else []
        return next((part.particles for part in parts if part.role == TRUTH), None)

    def listed_files(self) -> list[Path]:
        """The files of tomograms that have no layers yet, and of their particles."""
        found = [entry.tomogram.path for entry in self.listed.values() if entry.tomogram is not None]
        found += [path for entry in self.listed.values() for part in entry.parts for path in (part.path, *part.files)]
        return [Path(path) for path in found if path is not None]

    def owner(self, layer: Layer) -> str:
        """The name of the tomogram that a layer belongs to; empty for one that belongs to none."""
        if isinstance(layer, Points):
            image = self.index.tomogram_of(layer) if layer_data.holds_particles(layer) else None
            return layer_data.own_tomogram(layer) if image is None else layer_data.tomogram_name(image)
        if layer_data.role(layer) in (AXES, SURFACE):
            points = self.index.points_of(layer)
            return "" if points is None else self.owner(points)
        return layer_data.tomogram_name(layer) if layer in self.index.volumes() else ""

    def particles(self, *roles: str) -> list[Points]:
        """The particles of the tomogram that is shown, the newest first; of these roles only, if any are given."""
        return [layer for layer in self.index.particles(*roles) if self.owner(layer) in (self.name, "")]

    def hide(self, layer: Layer) -> None:
        """Hide a layer until its tomogram is chosen; one that a person has hidden stays hidden then."""
        if layer.visible:
            self._hidden.add(layer)
            layer.visible = False

    def _show(self, name: str) -> None:
        self.name, self.index.current = name, self.image(name)
        for layer in list(self.index.viewer.layers):
            owner = self.owner(layer)
            if owner == name and layer in self._hidden:
                self._hidden.discard(layer)
                layer.visible = True
            elif owner not in (name, ""):
                self.hide(layer)
        self._activate_own()
        self.events.tomogram()

    def _activate_own(self) -> None:
        """Let no layer of a hidden tomogram be the active one, which keys and controls of napari's act on."""
        chosen = self.index.viewer.layers.selection
        if chosen.active is not None and self.owner(chosen.active) not in (self.name, ""):
            own = sorted(self.particles(), key=lambda layer: layer_data.role(layer) != PREDICTED)
            chosen.active = next((layer for layer in (*own, self.current) if layer is not None and layer.visible), None)

    def _make_layers(self, name: str) -> None:
        listed = self._listed_name(name)
        if listed:
            entry = self.listed.pop(listed)
            self._show_listed(entry)
            self.events.tomogram()

    def _listed_name(self, name: str) -> str:
        """The name under which a tomogram is listed; empty where it is not."""
        return next((listed for listed in self.listed if same_tomogram(name, listed)), "")

    # --- layers that come and go ------------------------------------------------------------------------------------

    def inserted(self, layer: Layer) -> None:
        """Show a tomogram that is opened, and hide what belongs to another one than the current."""
        if isinstance(layer, Image) and layer in self.index.volumes():
            name = layer_data.tomogram_name(layer)
            if self._opening and self.name and name != self.name:
                self.hide(layer)
                self.events.tomogram()
            elif layer_data.role(layer) == TOMOGRAM or not self.name:
                self._opening = True
                self._show(name)
        elif isinstance(layer, Points) and layer_data.holds_particles(layer):
            self._inserted_points(layer)
        elif layer_data.role(layer) == AXES and self.index.points_of(layer) in self._hidden:
            # Arrows drawn while their points are hidden come back with them.
            layer.visible = False
            self._hidden.add(layer)
        self._arranging.ask()

    def _inserted_points(self, points: Points) -> None:
        if not layer_data.about(points) and self.current is not None:
            self.index.drawn_in[points] = self.current
        owner = self.owner(points)
        if owner in (self.name, ""):
            self.events.tomogram()
        elif self.name and (self._opening or layer_data.role(points) == PREDICTED):
            for layer in (points, *self.index.drawings_of(points)):
                self.hide(layer)
            self.events.tomogram()
        else:
            self._show(owner)

    def removed(self, layer: Layer) -> None:
        """Show another tomogram where the current one was closed."""
        names = self.names()
        if self.name not in names:
            self._show(names[-1] if names else "")
        elif layer is self.current or self.current is None:
            self.index.current = self.image(self.name)
        self.events.tomogram()

    def arrange(self) -> None:
        """Put tomograms beneath all else and switch on the scale bar; what is listed of the current one is shown."""
        self._opening = False
        viewer = self.index.viewer_or_none()
        if viewer is None:
            return
        for layer, place in _misplaced(list(viewer.layers)):
            viewer.layers.move(viewer.layers.index(layer), place)
        if self.index.volumes():
            show_scale_bar(viewer)
        if self.name:
            self._make_layers(self.name)
        self._activate_own()
        self.events.arranged()


def _misplaced(every: list[Layer]) -> Iterator[tuple[Layer, int]]:
    """Tomograms that lie above other layers, and where they belong."""
    volumes = [layer for layer in every if layer_data.role(layer) == TOMOGRAM]
    for place, layer in enumerate(volumes):
        if every[place] is not layer:
            every.remove(layer)
            every.insert(place, layer)
            yield layer, place

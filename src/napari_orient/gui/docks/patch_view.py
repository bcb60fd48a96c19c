"""Slices of one particle's patch, beside the reference in the predicted and in the true pose."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Points
from napari.qt.threading import create_worker
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_orient.engine.environment import machine_error
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import FloatArray, Tomogram
from napari_orient.gui.event_loop import Deferred
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.particle_values import ParticleValues
from napari_orient.gui.pages.map_choice import ReferenceChoice, read_reference
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import MUTED, NoteLabel, labelled

if TYPE_CHECKING:
    # Where they are used they are imported, in a thread: they need torch, which takes a second and a half.
    from napari_orient.engine.inspection.similarity import ReferenceComparison
    from napari_orient.engine.model.reference import Reference
    from napari_orient.engine.model.wedge import Wedge

SIDE = 400.0
"""Side of a patch in Å: a ribosome and its neighbours."""

SLICES = ("xy", "xz", "yz")
_HEAD = 16
"""Pixels of a title's height."""

_LABEL = 18
"""Pixels left of the slices, for the planes' names."""

_GAP = 3
"""Pixels between two slices."""

_THICK = 3
"""Voxels that a slice averages, to show particles above the noise."""

_RESOLUTION = 2.5
"""Resolution of the reference in voxels of the tomogram: a little below Nyquist's 2, as sharp as a patch."""

MIN_HEIGHT = 90
"""Height in pixels of the slices, at least: a row of them with its titles."""

_LEAST_SIDE = 48.0
"""Side in pixels below which slices of all three planes show nothing, and one plane is shown instead."""

_TIP = "Slices through the particle's centre. A click enlarges one, another shows all; in a low dock, the next plane"

_SHORT = {"predicted − true": "difference", "patch − predicted": "rest"}
"""Titles where the long ones do not fit."""

_CENTRE = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter


ReferenceKey = tuple[str, float | None, float]
"""A reference's name, the voxel size given for it, and that of the tomogram beside which it is shown; Å."""


@dataclass(frozen=True)
class _Prepared:
    """What patches of a layer are compared with, made in a thread: some tenths of a second, once."""

    layer: weakref.ref[Points]
    key: ReferenceKey
    reference: Reference | None
    wedge: Wedge | None
    problem: str = ""


class PatchView(QWidget):
    """One particle: patch, reference in predicted and true pose, and their difference, each as xy, xz and yz slice."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._particle: tuple[Points, ParticleValues, int] | None = None
        self._wedges: weakref.WeakKeyDictionary[Points, Wedge | None] = weakref.WeakKeyDictionary()
        self._references: dict[ReferenceKey, Reference | None] = {}
        self._problems: dict[ReferenceKey, str] = {}
        self._preparing = False
        self.reference = ReferenceChoice(session, kinds=self._classes)
        self.pictures, self.note = SliceGrid(), NoteLabel()
        self._showing = Deferred(self._show, parent=self)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 0, 6, 0)
        column.addWidget(labelled({"Reference": self.reference}))
        column.addWidget(self.note)
        column.addWidget(self.pictures, 1)
        self.reference.chosen.connect(self._reference_chosen)

    def show_particle(self, layer: Points | None, values: ParticleValues | None, rows: NDArray[np.int_]) -> None:
        """Show the first of these particles, as soon as this widget is visible."""
        before = self._classes()
        self._particle = None if layer is None or values is None or not len(rows) else (layer, values, int(rows[0]))
        if self._classes() and self._classes() != before:
            self.reference.choose_by_class()
        self._showing.ask()

    def showEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Show the particle chosen while this was hidden."""
        self._showing.ask()

    def _classes(self) -> list[str]:
        if self._particle is None or self._particle[1].particles.kind is None:
            return []
        return [str(self._particle[1].particles.kind[self._particle[2]])]

    def _reference_chosen(self, *_: object) -> None:
        self._problems.clear()
        self._show()

    def _show(self, *_: object) -> None:
        if not self.isVisible():
            return
        self.pictures.show_comparison(None)
        if self._particle is None:
            self.note.say("Select a particle in the table, in a plot or in the viewer.", MUTED)
            return
        try:
            if not self._is_prepared(*self._particle[:2]):
                self.note.say("Preparing the reference…", MUTED)
                return
            self.pictures.show_comparison(self._comparison(*self._particle))
            self.note.say("")
            self.pictures.setToolTip(f"{_TIP}. {self._caption(*self._particle)}")
        except InputError as error:
            self.note.refuse(error)

    def _is_prepared(self, layer: Points, values: ParticleValues) -> bool:
        """Whether the reference and the missing wedge are there; they are made in a thread where they are not.

        Raises
        ------
        InputError
            If they cannot be made.
        """
        tomogram = self._tomogram(layer)
        key = (self.reference.name, self.reference.voxel_size, tomogram.voxel_size)
        if key in self._problems:
            raise InputError(self._problems[key])
        if key in self._references and layer in self._wedges:
            return True
        if not self._preparing:
            self._preparing = True
            given = (weakref.ref(layer), tomogram, values.particles.positions, key)
            create_worker(_prepared, *given, _connect={"returned": self._keep})
        return False

    def _keep(self, found: _Prepared) -> None:
        layer = found.layer()
        if found.problem:
            self._problems[found.key] = found.problem
        elif layer is not None:
            self._references[found.key], self._wedges[layer] = found.reference, found.wedge
        self._preparing = False
        self._show()

    def _caption(self, layer: Points, values: ParticleValues, row: int) -> str:
        """A text of the slices' size and the reference's missing wedge."""
        size = self._tomogram(layer).voxel_size
        wide, wedge = self.pictures.voxels * size, self._wedges[layer]
        text = f"{wide:.0f} Å wide, {_THICK * size:.0f} Å thick"
        if wedge is None or wedge.complete or not self.reference.name:
            return text
        return f"{text}; reference: {wedge.words}"

    def _comparison(self, layer: Points, values: ParticleValues, row: int) -> ReferenceComparison:
        from napari_orient.engine.inspection.similarity import compare_with_reference

        tomogram = self._tomogram(layer)
        particles, partner = values.particles, int(values.inspection.partner[row])
        truth = None if values.truth is None or partner < 0 else values.truth.rotations
        return compare_with_reference(
            tomogram,
            particles.positions[row],
            side=_side(tomogram),
            rotation=None if particles.rotations is None else particles.rotations[row],
            true_rotation=None if truth is None else truth[partner],
            reference=self._references[self.reference.name, self.reference.voxel_size, tomogram.voxel_size],
            wedge=self._wedges[layer],
        )

    def _tomogram(self, layer: Points) -> Tomogram:
        image = self.session.index.tomogram_of(layer)
        if image is None:
            raise InputError("the particles' tomogram is not open, so there is no patch to show. Open it.")
        return layer_data.tomogram_of(image)


def _side(tomogram: Tomogram) -> int:
    """Voxels along a patch, even, at most the tomogram's shortest side."""
    wanted = min(round(SIDE / tomogram.voxel_size), *(int(side) for side in tomogram.density.shape))
    return max(2, wanted - wanted % 2)


def _prepared(layer: weakref.ref[Points], tomogram: Tomogram, positions: FloatArray, key: ReferenceKey) -> _Prepared:
    """The reference, none without a name, and the missing wedge estimated from the patches about some positions."""
    from napari_orient.engine.inspection.similarity import estimate_patch_wedge
    from napari_orient.engine.model.reference import build_reference

    name, own_size, voxel_size = key
    try:
        reference = None
        if name:
            found = read_reference(name, voxel_size=own_size)
            reference = build_reference(found.density, found.voxel_size, resolution=_RESOLUTION * voxel_size)
        wedge = estimate_patch_wedge(tomogram, positions, side=_side(tomogram))
    except Exception as error:
        problem = machine_error(error)
        if problem is None:
            raise
        return _Prepared(layer, key, None, None, problem=str(problem))
    return _Prepared(layer, key, reference, wedge)


class SliceGrid(QWidget):
    """Slices of cubes: a column for each cube, a row for each plane (xy, xz, yz), one grey scale for a column.

    A click on a slice enlarges its plane; another click shows all three again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.columns: list[tuple[str, list[QImage]]] = []
        self.plane: int | None = None
        self.setMinimumHeight(MIN_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(_TIP)

    @property
    def voxels(self) -> int:
        """Voxels along a slice."""
        return self.columns[0][1][0].width() if self.columns else 0

    def show_comparison(self, comparison: ReferenceComparison | None) -> None:
        """Show this comparison, or clear the slices if None."""
        self.columns = []
        if comparison is not None:
            other = "predicted − true" if comparison.true is not None else "patch − predicted"
            named = {
                "patch": comparison.patch,
                "predicted": comparison.predicted,
                "true": comparison.true,
                other: comparison.difference,
            }
            # References and their difference share one grey scale: where poses agree, the difference is flat.
            span = None if comparison.predicted is None else float(np.abs(comparison.predicted).max())
            for name, cube in named.items():
                if cube is not None:
                    self.columns.append((name, slice_images(cube, span=span if _of_reference(name) else None)))
        self.update()

    @property
    def shown_plane(self) -> int | None:
        """The plane that is shown alone: the enlarged one, or xy where there is no room for all; None for all."""
        return 0 if self.plane is None and self._side(len(self.columns), len(SLICES)) < _LEAST_SIDE else self.plane

    def places(self) -> list[tuple[int, int, QRectF]]:
        """Column, plane and square in pixels of each slice."""
        columns, shown = range(len(self.columns)), self.shown_plane
        if shown is None:
            return self._grid([[(column, plane) for column in columns] for plane in range(len(SLICES))])
        large = [(column, shown) for column in columns]
        half = len(large) if len(large) < 3 else 2
        if self._side(len(large), 1, heads=1) >= self._side(half, 2, heads=2):
            return self._grid([large], heads=1)
        return self._grid([large[:half], large[half:]], heads=2)

    def _side(self, across: int, down: int, *, heads: int = 1) -> float:
        """Side in pixels of the squares of a grid, of which so many lines have titles above them."""
        width = (self.width() - _LABEL) / max(across, 1)
        return max(1.0, min(width, (self.height() - heads * _HEAD) / down) - _GAP)

    def _grid(self, lines: list[list[tuple[int, int]]], *, heads: int = 1) -> list[tuple[int, int, QRectF]]:
        """Squares of lines of slices, as large as fit beside the labels; the first ``heads`` lines have titles."""
        across = max(map(len, lines))
        width, side = (self.width() - _LABEL) / across, self._side(across, len(lines), heads=heads)
        found = []
        for number, line in enumerate(lines):
            top = number * (side + _GAP) + min(number + 1, heads) * _HEAD
            for place, (column, plane) in enumerate(line):
                left = _LABEL + place * width + (width - side) / 2
                found.append((column, plane, QRectF(left, top, side, side)))
        return found

    def heads(self) -> list[tuple[str, QRectF]]:
        """Title and place in pixels of the squares that have one: as wide as squares beside leave, else shortened."""
        places, metrics, found = self.places(), self.fontMetrics(), []
        beside = Counter(square.top() for *_, square in places)
        for column, plane, square in places:
            if self.shown_plane is None and plane:
                continue
            text, room = self.columns[column][0], (self.width() - _LABEL) / beside[square.top()]
            if metrics.horizontalAdvance(text) > room:
                text = metrics.elidedText(_SHORT.get(text, text), Qt.TextElideMode.ElideRight, int(room))
            found.append((text, QRectF(square.center().x() - room / 2, square.top() - _HEAD, room, _HEAD)))
        return found

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Enlarge the plane of the slice under the mouse, or show all again, or the next where all have no room."""
        if event is None:
            return
        hit = [plane for _, plane, square in self.places() if square.contains(event.position())]
        if self._side(len(self.columns), len(SLICES)) < _LEAST_SIDE:
            self.plane = ((self.plane or 0) + 1) % len(SLICES)
        else:
            self.plane = hit[0] if hit and self.plane is None else None
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the slices as large as fit."""
        if not self.columns:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        ink = QColor(self.palette().color(self.foregroundRole()))
        ink.setAlpha(210)
        painter.setPen(ink)
        for column, plane, square in self.places():
            painter.drawImage(square, self.columns[column][1][plane])
            if column == 0:
                painter.drawText(QRectF(0, square.top(), _LABEL, square.height()), _CENTRE, SLICES[plane])
        for text, above in self.heads():
            painter.drawText(above, _CENTRE, text)
        painter.end()


def _of_reference(title: str) -> bool:
    return title.startswith(("predicted", "true"))


def slice_images(cube: NDArray[np.float32], *, span: float | None = None) -> list[QImage]:
    """The central xy, xz and yz slice of a cube [z, y, x], averaged over `_THICK` voxels; grey from -span to span."""
    middle = slice(len(cube) // 2 - _THICK // 2, len(cube) // 2 + _THICK // 2 + 1)
    flat = [cube[middle].mean(axis=0), cube[:, middle].mean(axis=1), cube[:, :, middle].mean(axis=2)]
    low, high = (-span, span) if span else (float(np.percentile(flat, 1)), float(np.percentile(flat, 99)))
    return [_picture(part, low, high) for part in flat]


def _picture(values: NDArray[np.float32], low: float, high: float) -> QImage:
    grey = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    side = grey.shape[1]
    # The copy owns its bytes, which are freed here.
    return QImage(grey.tobytes(), side, grey.shape[0], side, QImage.Format.Format_Grayscale8).copy()

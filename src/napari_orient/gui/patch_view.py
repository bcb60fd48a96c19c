"""The patch of one particle in three slices, beside the reference in the predicted and in the true pose."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from napari.layers import Points
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_orient.engine.files import match_tomogram
from napari_orient.engine.likeness import Likeness, likeness
from napari_orient.engine.matching.reference import Reference, build_reference
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.tasks import InputError
from napari_orient.gui import layers
from napari_orient.gui.known import Known
from napari_orient.gui.pieces import BAD, MUTED, Note, labelled
from napari_orient.gui.references import ReferenceChoice, read_reference
from napari_orient.gui.session import Session

SIDE = 400.0
"""Å along a patch: a ribosome and what touches it."""

SLICES = ("xy", "xz", "yz")
_HEAD, _LABEL, _GAP = 16, 18, 3
_THICK = 3
_CENTRE = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter


class PatchView(QWidget):
    """One particle: patch, reference as predicted, as in truth, and their difference; each as xy, xz and yz slice."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._asked: tuple[Points, Known, int] | None = None
        self.reference = ReferenceChoice(session, kinds=self._classes)
        self.pictures, self.note = SliceGrid(), Note()
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 4)
        column.addWidget(labelled({"Reference": self.reference}))
        column.addWidget(self.note)
        column.addWidget(self.pictures, 1)
        self.reference.chosen.connect(self._show)

    def show_particle(self, layer: Points | None, known: Known | None, rows: NDArray[np.int_]) -> None:
        """Nothing; the first of these particles is shown, once one can see it."""
        before = self._classes()
        self._asked = None if layer is None or known is None or not len(rows) else (layer, known, int(rows[0]))
        if self._classes() and self._classes() != before:
            self.reference.choose_by_class()
        self._show()

    def showEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Work out what was asked for while this was hidden."""
        self._show()

    def _classes(self) -> list[str]:
        if self._asked is None or self._asked[1].particles.kind is None:
            return []
        return [str(self._asked[1].particles.kind[self._asked[2]])]

    def _show(self, *_: object) -> None:
        if not self.isVisible():
            return
        self.pictures.show_likeness(None)
        if self._asked is None:
            self.note.say("Choose a particle: in the table, in a plot, or in the viewer.", MUTED)
            return
        try:
            self.pictures.show_likeness(self._likeness(*self._asked))
            self.note.say("")
        except InputError as error:
            self.note.say(f"{str(error)[:1].upper()}{str(error)[1:]}", BAD)

    def _likeness(self, layer: Points, known: Known, row: int) -> Likeness:
        tomogram = self._tomogram(layer)
        particles, partner = known.particles, int(known.inspection.partner[row])
        truth = None if known.truth is None or partner < 0 else known.truth.rotations
        return likeness(
            tomogram,
            particles.positions[row],
            side=_side(tomogram),
            rotation=None if particles.rotations is None else particles.rotations[row],
            true_rotation=None if truth is None else truth[partner],
            reference=_reference(self.reference.name, tomogram.voxel_size) if self.reference.name else None,
        )

    def _tomogram(self, layer: Points) -> Tomogram:
        found = {layers.tomogram_of(image).name: image for image in self.session.tomograms()}
        name = str(layers.about(layer).get("tomogram", ""))
        wanted = match_tomogram(name, found) if name else None
        if wanted is None and len(found) != 1:
            raise InputError("the particles' tomogram is not open, so there is no patch to show. Open it.")
        return layers.tomogram_of(found[wanted or next(iter(found))])


def _side(tomogram: Tomogram) -> int:
    """Voxels along a patch, even, no more than the tomogram has."""
    wanted = min(round(SIDE / tomogram.voxel_size), *(int(side) for side in tomogram.density.shape))
    return max(2, wanted - wanted % 2)


@lru_cache(maxsize=4)
def _reference(name: str, voxel_size: float) -> Reference:
    found = read_reference(name).bank()
    return build_reference(found.density, found.voxel_size, resolution=2.5 * voxel_size)


class SliceGrid(QWidget):
    """Slices of cubes in rows (xy, xz, yz) and columns, all of a column in one grey scale."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: list[tuple[str, list[QImage]]] = []
        self.setMinimumHeight(190)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_likeness(self, seen: Likeness | None) -> None:
        """Nothing; this is shown, or nothing."""
        self.columns = []
        if seen is not None:
            other = "predicted − true" if seen.true is not None else "patch − predicted"
            named = {"patch": seen.patch, "predicted": seen.predicted, "true": seen.true, other: seen.difference}
            # References and their difference share one scale: where poses agree, their difference is flat.
            span = None if seen.predicted is None else float(np.abs(seen.predicted).max())
            for name, cube in named.items():
                if cube is not None:
                    self.columns.append((name, pictures_of(cube, span=span if _of_reference(name) else None)))
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the slices as large as they fit."""
        if not self.columns:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        ink = QColor(self.palette().color(self.foregroundRole()))
        ink.setAlpha(190)
        painter.setPen(ink)
        wide = (self.width() - _LABEL) / len(self.columns) - _GAP
        side = max(1.0, min(wide, (self.height() - _HEAD) / 3 - _GAP))
        for row, name in enumerate(SLICES):
            painter.drawText(QRectF(0, _HEAD + row * (side + _GAP), _LABEL, side), _CENTRE, name)
        for number, (title, pictures) in enumerate(self.columns):
            left = _LABEL + number * (wide + _GAP) + (wide - side) / 2
            painter.drawText(QRectF(left - 20, 0, side + 40, _HEAD), _CENTRE, title)
            for row, picture in enumerate(pictures):
                painter.drawImage(QRectF(left, _HEAD + row * (side + _GAP), side, side), picture)
        painter.end()


def _of_reference(title: str) -> bool:
    return title.startswith(("predicted", "true"))


def pictures_of(cube: NDArray[np.float32], *, span: float | None = None) -> list[QImage]:
    """The middle xy, xz and yz slice of a cube [z, y, x], each the mean of three; grey from -span to span."""
    middle = slice(len(cube) // 2 - _THICK // 2, len(cube) // 2 + _THICK // 2 + 1)
    flat = [cube[middle].mean(axis=0), cube[:, middle].mean(axis=1), cube[:, :, middle].mean(axis=2)]
    low, high = (-span, span) if span else (float(np.percentile(flat, 1)), float(np.percentile(flat, 99)))
    return [_picture(part, low, high) for part in flat]


def _picture(values: NDArray[np.float32], low: float, high: float) -> QImage:
    grey = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    side = grey.shape[1]
    # The bytes belong to the picture from here on.
    return QImage(grey.tobytes(), side, grey.shape[0], side, QImage.Format.Format_Grayscale8).copy()

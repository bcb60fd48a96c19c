"""The strip below the pages: what colours show, what is on view, and how thick the slice is."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_orient.gui.colours import COLOURINGS
from napari_orient.gui.layers import PICKS, TRUTH
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import Deferred, listen, row, shrinkable

SLAB_WIDTH = 128
"""Width in pixels of the field of the slab, at least: fits ``slab 10000 Å`` and its two buttons."""

THICKEST = 10_000.0
"""Å, the thickest slice that is offered: thicker than any tomogram."""


SLAB_WIDTH = 122
"""Least width in pixels of the slab's field: fits its words and a number of four digits."""


class ViewStrip(QWidget):
    """Colour, slab, truth, rings and failures of the tomogram that is shown.

    ``details`` is emitted when all options are wanted; `add_toggle` puts one more check box among them.
    """

    details = Signal(bool)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._showing = Deferred(self.show_state, parent=self)
        self.colour = QComboBox()
        self.colour.addItems(COLOURINGS)
        self.colour.setToolTip("What the colours of arrows and surfaces show: predicted and true, or a quantity")
        self.colour.setAccessibleName("Colour by")
        shrinkable(self.colour)
        self.slab = QDoubleSpinBox()
        self.slab.setRange(0, THICKEST)
        self.slab.setDecimals(0)
        self.slab.setSingleStep(50)
        self.slab.setPrefix("slab ")
        self.slab.setSuffix(" Å")
        self.slab.setKeyboardTracking(False)
        self.slab.setToolTip("Thickness of the slice shown in 2D, in Å; 0 is one voxel")
        self.slab.setAccessibleName("Slab")
        # napari's style sheet has a width of its own for such fields.
        self.slab.setStyleSheet(f"QDoubleSpinBox {{min-width: {SLAB_WIDTH}px;}}")
        # napari's style sheet has a width of its own for such fields.
        self.slab.setStyleSheet(f"QDoubleSpinBox {{min-width: {SLAB_WIDTH}px;}}")
        self.more = QToolButton()
        self.more.setText("⚙")
        self.more.setCheckable(True)
        self.more.setToolTip("All options of arrows and surfaces")
        self.more.setAccessibleName("All view options")
        self.toggles = QHBoxLayout()
        self.toggles.setSpacing(10)
        self.truth = self.add_toggle("Truth", "Show the true poses")
        self.rings = self.add_toggle("Picks", "Show the picks as rings")
        self.failures = self.add_toggle(
            "Only failures", "Show only particles whose error exceeds the threshold of Inspect"
        )
        self.toggles.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(row(QLabel("Colour by"), self.colour, self.slab, self.more, stretch=1))
        column.addLayout(self.toggles)
        self._connect()
        self.show_state()

    def add_toggle(self, text: str, tip: str) -> QCheckBox:
        """A further check box, after those that are there."""
        box = QCheckBox(text)
        box.setToolTip(tip)
        self.toggles.insertWidget(len([i for i in range(self.toggles.count()) if self._is_box(i)]), box)
        return box

    def _is_box(self, place: int) -> bool:
        item = self.toggles.itemAt(place)
        return item is not None and isinstance(item.widget(), QCheckBox)

    def _connect(self) -> None:
        self.colour.activated.connect(self._colour_chosen)
        self.slab.valueChanged.connect(self._slab_changed)
        self.more.toggled.connect(self.details)
        for role, box in {TRUTH: self.truth, PICKS: self.rings}.items():
            box.clicked.connect(lambda on, role=role: self._show_role(role, on))
        self.failures.clicked.connect(self._show_failures)
        for emitter in (self.session.events.view, self.session.events.tomogram):
            listen(self, emitter, self._showing.ask)

    def _colour_chosen(self, *_: object) -> None:
        view = self.session.drawing.view
        self.session.drawing.show_as(view.replace(colour=self.colour.currentText()))

    def _slab_changed(self, thickness: float) -> None:
        self.session.drawing.show_as(self.session.drawing.view.replace(slab=thickness))

    def _show_role(self, role: str, on: bool) -> None:
        """Show or hide the particles of this role in the tomogram that is shown, with their arrows."""
        for points in self.session.tomograms.particles(role):
            for layer in (points, *self.session.index.drawings_of(points)):
                layer.visible = on

    def _show_failures(self, on: bool) -> None:
        self.session.failure_view.show_only(on)
        self._showing.ask()

    def show_state(self, event: Any = None) -> None:
        """Show how poses are drawn now."""
        display = self.session.drawing.view.display
        view = vars(self.session).get("failure_view")  # Made when failures are first shown.
        self.failures.setChecked(view is not None and view.only)
        self.colour.setCurrentText(display.colour)
        self.slab.blockSignals(True)
        self.slab.setValue(display.slab)
        self.slab.blockSignals(False)
        for role, box in {TRUTH: self.truth, PICKS: self.rings}.items():
            found = self.session.tomograms.particles(role)
            box.setEnabled(bool(found))
            box.setChecked(any(layer.visible for layer in found))

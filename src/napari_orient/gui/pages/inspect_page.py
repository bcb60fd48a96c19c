"""The Inspect page: how many poses are right, where the failures lie, and what goes with the error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QShortcut,
    QSizePolicy,
)

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.failures import LEAST_FOR_ASSOCIATION, FailureRegion
from napari_orient.engine.inspection.quantities import InspectionOptions, symmetries_by_class
from napari_orient.gui.event_loop import Deferred, listen
from napari_orient.gui.layers.canvas import center_on
from napari_orient.gui.layers.layer_data import TRUTH, role
from napari_orient.gui.pages.base import DockPage
from napari_orient.gui.session.inspected import headline
from napari_orient.gui.widgets.basic import (
    LABEL_WIDTH,
    MUTED,
    FoldingRow,
    NoteLabel,
    labelled,
    primary_button,
    push_button,
    silent,
)
from napari_orient.gui.widgets.error_plots import AssociationBars, ErrorScatter
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import LayerChoice

NEXT, PREVIOUS = "N", "Shift+N"
"""Keys that go to the particle with the next largest error, and back."""

MOST_REGIONS = 50
"""Regions that the list shows, the largest; further ones are counted."""

CALIBRATION_HEIGHT = 220
"""Height in pixels of the plot of expected against true errors."""

_LINES = 4
"""Regions that the list is high enough for; it scrolls beyond."""

_SETTINGS = {"threshold": "Right within (°)", "symmetry": "Symmetry", "diameter": "Particle diameter (Å)"}


class InspectPage(DockPage):
    """What is right and what is not of one layer of particles, and the way to each failure."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.inspected, self.view = self.session.inspected, self.session.failure_view
        self._later = Deferred(self._show_settings_as_they_are, parent=self)
        self.form = OptionsForm(
            InspectionOptions,
            labels=_SETTINGS,
            hidden=("cluster_distance", "tolerance"),
            first=("threshold",),
            label_width=LABEL_WIDTH,
        )
        self.settings = self.form.widgets
        self.settings["symmetry"].native.setPlaceholderText("by class")
        self.particles = LayerChoice(
            self.session.viewer, self.inspected.offered, empty="none open", chosen_when_new=role
        )
        self.headline, self.note = NoteLabel(), NoteLabel()
        self.headline.setObjectName("headline")
        self.setStyleSheet("#headline {font-weight: 600;}")
        self.compare = push_button("Compare", "Take these poses for the true ones from now on", self._take_for_truth)
        self.show_failures = primary_button(
            "Show the failures in 3D", "Frame the failures: right particles grey, the plane behind"
        )
        tip = "Show all particles again as before, from where the camera was"
        self.back = push_button("Back to all", tip, self._go_back)
        self.regions, self.gathering = RegionList(), NoteLabel()
        self.bars, self.bars_note = AssociationBars(), NoteLabel()
        self.calibration = ErrorScatter()
        self.calibration.setMinimumHeight(CALIBRATION_HEIGHT)
        self.next = push_button(f"Next worst ({NEXT})", f"Go to the particle with the next largest error ({NEXT})")
        self.previous = push_button("Previous (⇧N)", f"Go to the previous particle ({PREVIOUS})")
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        self.add(labelled({"Particles": self.particles}, width=LABEL_WIDTH), self.headline, self.note, self.compare)
        self.add(FoldingRow(self.show_failures, self.back), FoldingRow(self.next, self.previous))
        self.regions_heading = self.add_heading("Failure regions")
        self.add(self.regions, self.gathering, self.form)
        self.bars_heading = self.add_heading("What goes with the error")
        self.add(self.bars, self.bars_note)
        self.calibration_heading = self.add_heading("Expected against true error")
        self.add(self.calibration)

    def _connect(self) -> None:
        inspected = self.inspected
        self.particles.chosen.connect(inspected.inspect)
        self.show_failures.clicked.connect(lambda: self._frame(np.zeros(0, int)))
        self.regions.picked.connect(self._region_picked)
        self.next.clicked.connect(lambda: self.go_to_worst(1))
        self.previous.clicked.connect(lambda: self.go_to_worst(-1))
        for key, step in ((NEXT, 1), (PREVIOUS, -1)):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(self.next.click if step > 0 else self.previous.click)
        self.bars.picked.connect(lambda name: self.session.events.property(name=name))
        self.calibration.chosen.connect(self._dot_clicked)
        self.calibration.threshold_moved.connect(self._set_threshold)
        self.form.changed.connect(self._apply_settings)
        inspected.renewed.connect(self.show_state)
        inspected.counted.connect(self._show_counts)
        inspected.filtered.connect(self._show_calibration)
        inspected.selected.connect(self._show_calibration)
        listen(self, self.session.events.inspection, self._later.ask)
        listen(self, self.session.events.view, self._show_buttons)

    # --- settings -----------------------------------------------------------------------------------------------

    def _apply_settings(self) -> None:
        try:
            values = self.form.values()
            symmetries_by_class(str(values["symmetry"] or ""))
        except InputError as error:
            self.note.refuse(error)
            return
        now = self.inspected.options.to_record()
        if all(values[name] == now[name] for name in values if name != "threshold"):
            self.inspected.set_threshold(float(str(values["threshold"])))
        else:
            self.inspected.set_options(**values)

    def _show_settings_as_they_are(self) -> None:
        with suppress(InputError):
            if self.inspected.options.to_record().items() >= self.form.values().items():
                return
        with silent(self.form):
            self.form.show_options(self.inspected.options)

    def _set_threshold(self, threshold: float) -> None:
        self.settings["threshold"].value = threshold

    # --- showing ------------------------------------------------------------------------------------------------

    def show_state(self, *_: object) -> None:
        """Show the layer inspected, the settings, and what was counted."""
        if self.inspected.layer is not self.particles.layer:
            with silent(self.particles):
                self.particles.refresh()
                if self.inspected.layer is not None:
                    self.particles.choose(self.inspected.layer)
        self._show_settings_as_they_are()
        self._show_counts()

    def _show_counts(self) -> None:
        inspected = self.inspected
        self._show_settings_as_they_are()
        self._show_headline()
        failures = int(inspected.failed.sum())
        words = {0: "No failures to show", 1: "Show the failure in 3D"}
        self.show_failures.setText(words.get(failures, f"Show the {failures} failures in 3D"))
        self.show_failures.setEnabled(failures > 0)
        for button in (self.next, self.previous):
            button.setEnabled(bool(np.isfinite(inspected.errors).any()))
        self._show_buttons()
        self.regions.show_regions(inspected.regions)
        self.regions_heading.setVisible(bool(inspected.regions))
        found = inspected.gathering
        self.gathering.say("" if found is None or failures < 2 else found.words(failures), MUTED)
        self.bars.show_associations(inspected.associations)
        self.bars_note.say(self._bars_text(), MUTED)
        self.bars_heading.setVisible(bool(self.bars_note.text()))
        self._show_calibration()

    def _show_headline(self) -> None:
        inspected = self.inspected
        if inspected.problem:
            self.headline.say("")
            self.note.refuse(inspected.problem)
            return
        if inspected.values is None:
            self.headline.say("")
            self.note.say("No particles open yet: open some on the Data page.", MUTED)
            return
        self.headline.say(*headline(inspected))
        self.note.say("\n".join(details(inspected)), MUTED)
        other = inspected.other_poses()
        self.compare.setVisible(other is not None)
        if other is not None:
            self.compare.setText(f"Compare with the poses of {other.name}")

    def _bars_text(self) -> str:
        inspected = self.inspected
        known = int(np.isfinite(inspected.errors).sum())
        if not known:
            return ""
        if known < LEAST_FOR_ASSOCIATION:
            return f"{known} particles are too few to say what goes with the error: {LEAST_FOR_ASSOCIATION} are needed."
        if not any(one.significant for one in inspected.associations):
            return "Nothing here goes with the error more than chance would have it."
        return "Rank correlation with the error; hollow bars are no more than chance. Click one to plot it."

    def _show_calibration(self) -> None:
        inspected = self.inspected
        both = {"true_error", "expected_error"} <= set(inspected.columns)
        self.calibration.setVisible(both)
        self.calibration_heading.setVisible(both)
        if both:
            self.calibration.show_points(
                inspected.dots("expected_error"),
                x_label="expected error (°)",
                y_label="true error (°)",
                threshold=inspected.threshold,
                chosen=inspected.chosen,
            )

    def _show_buttons(self, event: Any = None) -> None:
        self.back.setEnabled(self.view.active)

    # --- acts ---------------------------------------------------------------------------------------------------

    def _take_for_truth(self) -> None:
        other = self.inspected.other_poses()
        if other is not None:
            self.session.take_for_truth(other)

    def _frame(self, rows: Any) -> None:
        self.view.show(rows)
        self._show_buttons()

    def _region_picked(self, region: FailureRegion) -> None:
        self.inspected.choose(region.rows)
        self._frame(region.rows)

    def _go_back(self) -> None:
        self.view.restore()
        self.regions.clearSelection()
        self._show_buttons()

    def _dot_clicked(self, rows: Any, joins: bool) -> None:
        self.inspected.choose(np.union1d(self.inspected.chosen, rows) if joins else rows)

    def go_to_worst(self, step: int) -> None:
        """Select the shown particle with the next largest error, or with -1 the previous one, and centre the camera."""
        particle = self.inspected.worst(step)
        if particle is None:
            show_error("no particle shown has an error. Predict them first, or change the filter.")
            return
        self.inspected.choose(np.array([particle]))
        center_on(self.session, self.inspected.position(particle))


def details(inspected: Any) -> list[str]:
    """Lines below the headline: medians, and what was left out."""
    columns, lines = inspected.columns, []
    medians = [
        f"{name.replace('_', ' ')} {np.nanmedian(columns[name]):.1f}°"
        for name in ("true_error", "expected_error")
        if name in columns and np.isfinite(columns[name]).any()
    ]
    if medians:
        lines.append(f"Medians: {', '.join(medians)}")
    if inspected.error_column == "expected_error":
        lines.append("Estimated by the model itself: no true poses are open.")
    layer = inspected.layer
    left_out = len(layer.data) - len(inspected) if layer is not None else 0
    if left_out:
        lines.append(f"{left_out} without a pose left out: predict them first.")
    if layer is not None and role(layer) == TRUTH:
        lines.append("These are the true poses themselves.")
    return lines


class RegionList(QListWidget):
    """The failure regions, the largest first; ``picked`` is emitted with the one that is clicked or activated."""

    picked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._regions: tuple[FailureRegion, ...] = ()
        self.setVisible(False)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Failure regions")
        self.setToolTip("Failures that lie within 1.5 particle diameters of each other. Click a region to see it in 3D")
        self.itemClicked.connect(self._emit_picked)
        self.itemActivated.connect(self._emit_picked)

    def show_regions(self, regions: tuple[FailureRegion, ...]) -> None:
        """List these."""
        if regions is self._regions:
            return
        self._regions = regions
        self.clear()
        for region in regions[:MOST_REGIONS]:
            self._add(f"<b>{region.name}</b> &nbsp; {region.size}<br/><small>{region.place}</small>", region.words)
        if len(regions) > MOST_REGIONS:
            self._add(f"<small>and {len(regions) - MOST_REGIONS} more</small>", "")
        self.setVisible(bool(regions))
        self._fit()

    def texts(self) -> list[str]:
        """The regions in words, from the top."""
        items = [self.item(place) for place in range(self.count())]
        return [str(item.data(Qt.ItemDataRole.AccessibleTextRole)) for item in items if item is not None]

    def _add(self, text: str, words: str) -> None:
        item, label = QListWidgetItem(), QLabel(text)
        item.setData(Qt.ItemDataRole.AccessibleTextRole, words)
        label.setWordWrap(True)
        label.setContentsMargins(6, 4, 6, 4)
        label.setStyleSheet("background: transparent;")
        label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.addItem(item)
        self.setItemWidget(item, label)

    def _fit(self) -> None:
        """Give each item the height of its text at this width, and the list that of the first few."""
        view = self.viewport()
        width = max(0 if view is None else view.width(), 120)
        heights = []
        for place in range(self.count()):
            item = self.item(place)
            label = self.itemWidget(item)
            if item is not None and label is not None:
                heights.append(label.heightForWidth(width))
                item.setSizeHint(QSize(width, heights[-1]))
        self.setFixedHeight(sum(heights[:_LINES]) + 6)

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Wrap the texts anew."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def _emit_picked(self, item: QListWidgetItem) -> None:
        place = self.row(item)
        if place < min(len(self._regions), MOST_REGIONS):
            self.picked.emit(self._regions[place])

"""The Arrows card: length, colours and filters of the arrows that show the poses."""

from __future__ import annotations

from typing import Any

import napari.viewer
from qtpy.QtWidgets import QComboBox

from napari_orient.engine.errors import InputError
from napari_orient.gui.axes import ViewOptions
from napari_orient.gui.colours import GRADED, PALETTES
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import Panel, labelled, listen

LABELS = {
    "length": "Arrow length (Å)",
    "slab": "Slab in 2D (Å)",
    "colour": "Colour by",
    "low": "Colours from",
    "high": "Colours to",
    "least_score": "Hide scores below",
    "most_expected": "Hide errors above (°)",
}
OWN = "others, as set below"
"""What the choice of colours shows where they are no pair of `PALETTES`."""

LABEL_WIDTH = 132
"""Width in pixels of the column of labels; fits the longest label at the default font."""


class ArrowsCard(Panel):
    """View options of all arrows in the viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.form = OptionsForm(ViewOptions, labels=LABELS, label_width=LABEL_WIDTH)
        for name in ("low", "high"):
            self.form.widgets[name].native.setPlaceholderText("automatic")
        self.pair = QComboBox()
        self.pair.addItems([*PALETTES, OWN])
        self.pair.setToolTip("Colours of predicted and of true poses; blue and orange differ for everybody's eyes")
        self.add_heading("Arrows")
        self.add(labelled({"Predicted and true": self.pair}, width=LABEL_WIDTH), self.form)
        self.close_column()
        self.form.changed.connect(self._options_changed)
        self.pair.activated.connect(self._palette_chosen)
        listen(self, self.session.events.view, self._show_view)
        self._show_view()

    def _palette_chosen(self, *_: object) -> None:
        found = PALETTES.get(self.pair.currentText())
        if found is not None:
            predicted, truth = found
            self.session.drawing.show_as(self.session.drawing.view.replace(predicted=predicted, truth=truth))

    def _options_changed(self) -> None:
        self.attempt(lambda: self.session.drawing.show_as(self.form.options()))

    def _show_view(self, event: Any = None) -> None:
        """Show the session's view options; enable the colormap's settings only for graded colours."""
        view = self.session.drawing.view
        if self._options() != view:
            self.form.blockSignals(True)
            self.form.show_options(view)
            self.form.blockSignals(False)
        for name in ("colormap", "low", "high"):
            self.form.widgets[name].enabled = view.display.colour in GRADED
        inks = view.display.predicted, view.display.truth
        self.pair.setCurrentText(next((name for name, pair in PALETTES.items() if pair == inks), OWN))

    def _options(self) -> ViewOptions | None:
        try:
            return self.form.options()
        except InputError:
            return None

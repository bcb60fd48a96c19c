"""The Arrows dock: length, colours and filters of the arrows that show the poses."""

from __future__ import annotations

from typing import Any

import napari.viewer

from napari_orient.engine.errors import InputError
from napari_orient.gui.axes import ViewOptions
from napari_orient.gui.colours import GRADED
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.legend import LegendView
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import Panel, listen

LABELS = {
    "length": "Arrow length (Å)",
    "slab": "Slab in 2D (Å)",
    "colour": "Colour by",
    "low": "Colours from",
    "high": "Colours to",
    "least_score": "Hide scores below",
    "most_expected": "Hide errors above (°)",
}
LABEL_WIDTH = 132
"""Width in pixels of the column of labels; fits the longest label at the default font."""


class ArrowsCard(Panel):
    """View options and legend of all arrows in the viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.form = OptionsForm(ViewOptions, labels=LABELS, label_width=LABEL_WIDTH)
        for name in ("low", "high"):
            self.form.widgets[name].native.setPlaceholderText("automatic")
        self.legend = LegendView()
        self.add_heading("Arrows")
        self.add(self.form)
        self.add_heading("Legend")
        self.add(self.legend)
        self.close_column()
        self.form.changed.connect(self._options_changed)
        listen(self, self.session.events.view, self._show_view)
        for name in ("inserted", "removed"):
            listen(self, getattr(self.session.viewer.layers.events, name), self._show_legend)
        self._show_view()

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
        self._show_legend()

    def _options(self) -> ViewOptions | None:
        try:
            return self.form.options()
        except InputError:
            return None

    def _show_legend(self, event: Any = None) -> None:
        self.legend.show_legend(self.session.drawing.legend())

"""The Figure card: saves the view, the failure regions and the errors of each model as a figure for print."""

from __future__ import annotations

from pathlib import Path

import napari.viewer
from qtpy.QtWidgets import QLabel

from napari_orient.gui.figure import SUFFIXES, default_name, save_figure
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import GOOD, FileRow, NoteLabel, Panel, primary_button


class FigureCard(Panel):
    """A file's name, and the button that writes the figure to it."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        about = QLabel(
            "The view as it is now, the failure regions from above, and the errors of each model: 180 mm wide, 300 dpi."
        )
        about.setWordWrap(True)
        kinds = f"Figures ({' '.join(f'*{suffix}' for suffix in SUFFIXES)})"
        self.file = FileRow(caption="Save the figure as", kinds=kinds, hint="figure.png", saving=True)
        self.button = primary_button("Save figure", "Write the figure: PNG, PDF, SVG or TIFF by the file's suffix")
        self.done = NoteLabel()
        self.add_heading("Figure")
        self.add(about, self.file, self.button, self.done)
        self.close_column()
        self.button.clicked.connect(self.save)

    def save(self) -> None:
        """Write the figure, whole or not at all; beside the program's own folder where no file is named."""
        path = self.file.path or Path.cwd() / default_name(self.session.inspected)
        path = path if path.suffix else path.with_suffix(SUFFIXES[0])
        self.file.show_path(path)
        self.done.say("")
        if self.attempt(lambda: save_figure(self.session, path)):
            self.done.say(f"Wrote {path}", GOOD)

"""Rows for files and folders."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class FileRow(QWidget):
    """A path: typed, chosen in a dialog, or dropped. ``picked`` tells it once whole, or None when it was cleared."""

    picked = Signal(object)

    def __init__(self, *, caption: str, kinds: str, hint: str, saving: bool = False) -> None:
        super().__init__()
        self._caption, self._kinds, self._saving = caption, kinds, saving
        self._told: Path | None = None
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        self.line.setClearButtonEnabled(True)
        self.line.editingFinished.connect(self._typed)
        self.line.textChanged.connect(lambda text: None if text else self._typed())
        self.browse = QPushButton("Browse…")
        self.browse.setToolTip(caption)
        self.browse.clicked.connect(self._browse)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.line, 1)
        line.addWidget(self.browse)
        self.setAcceptDrops(True)
        self.line.setAcceptDrops(False)

    @property
    def path(self) -> Path | None:
        """The path, or None where there is none."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def show_path(self, path: Path | None) -> None:
        """Show this path and tell it."""
        self.line.setText("" if path is None else str(path))
        self.line.setToolTip(self.line.text())
        self._typed()

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take one file."""
        drop = event.mimeData() if event is not None else None
        if event is not None and drop is not None and len(drop.urls()) == 1 and drop.urls()[0].isLocalFile():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Show the file dropped."""
        drop = event.mimeData() if event is not None else None
        if drop is not None and drop.urls():
            self.show_path(Path(drop.urls()[0].toLocalFile()))

    def _browse(self) -> None:
        beside = str(self.path or "")
        ask = QFileDialog.getSaveFileName if self._saving else QFileDialog.getOpenFileName
        name, _ = ask(self, self._caption, beside, self._kinds)
        if name:
            self.show_path(Path(name))

    def _typed(self) -> None:
        if self.path != self._told:
            self._told = self.path
            self.line.setToolTip(self.line.text())
            self.picked.emit(self.path)

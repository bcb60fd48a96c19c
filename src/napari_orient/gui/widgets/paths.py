"""Rows for files and folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QListWidget, QPushButton, QVBoxLayout, QWidget

from napari_orient.engine.io import read_suffixes


def list_filter(*more: str, title: str = "Particle lists") -> str:
    """Filter of a file dialog for particle lists of every dialect that is read, and for files of further suffixes."""
    patterns = " ".join(f"*{suffix}" for suffix in (*more, *read_suffixes()))
    return f"{title} ({patterns});;All files (*)"


class FileRow(QWidget):
    """A path: typed, chosen in a dialog, or dropped. ``picked`` is emitted with it, or with None."""

    picked = Signal(object)

    def __init__(self, *, caption: str, hint: str, kinds: str = "", saving: bool = False) -> None:
        """``kinds`` as Qt's file dialogs want them; without any, a folder is asked for."""
        super().__init__()
        self._caption, self._kinds, self._saving = caption, kinds, saving
        self._emitted: Path | None = None
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        self.line.setClearButtonEnabled(True)
        self.line.setToolTip(caption)
        self.line.setAccessibleName(caption)
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
        """Show this path and emit it."""
        self.line.setText("" if path is None else str(path))
        self.line.setToolTip(self.line.text() or self._caption)
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
        if not self._kinds:
            name = QFileDialog.getExistingDirectory(self, self._caption, beside)
        else:
            ask = QFileDialog.getSaveFileName if self._saving else QFileDialog.getOpenFileName
            name, _ = ask(self, self._caption, beside, self._kinds)
        if name:
            self.show_path(Path(name))

    def _typed(self) -> None:
        if self.path != self._emitted:
            self._emitted = self.path
            self.line.setToolTip(self.line.text() or self._caption)
            self.picked.emit(self.path)


class DropTarget(QWidget):
    """Files and folders may be dropped on it, many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)

    def drop(self, *paths: Path) -> None:
        """What is done with what was dropped."""

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take files and folders."""
        dragged = event.mimeData() if event is not None else None
        if event is not None and dragged is not None and any(url.isLocalFile() for url in dragged.urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Hand on what was dropped."""
        dropped = event.mimeData() if event is not None else None
        if dropped is not None:
            self.drop(*(Path(url.toLocalFile()) for url in dropped.urls() if url.isLocalFile()))


class PathList(DropTarget):
    """Files and folders, chosen one after the other or dropped together; ``changed`` is emitted when they change."""

    changed = Signal()

    def __init__(self, *, kinds: str, tip: str) -> None:
        super().__init__()
        self._kinds = kinds
        self.list = QListWidget()
        self.list.setFixedHeight(76)
        self.list.setAccessibleName("Files and folders")
        self.list.setTextElideMode(Qt.TextElideMode.ElideLeft)
        self.list.setToolTip(tip)
        self.list.currentRowChanged.connect(lambda row: self.remove.setEnabled(row >= 0))
        self.add_file, self.add_folder, self.remove = (
            _button("Add list…", "Add a list of particles with orientations", self._ask_file),
            _button("Add folder…", "Add a result folder of PolNet", self._ask_folder),
            _button("Remove", "Take the chosen line away", self._remove),
        )
        self.remove.setEnabled(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.list)
        line = QHBoxLayout()
        for button in (self.add_file, self.add_folder, self.remove):
            line.addWidget(button)
        column.addLayout(line)

    @property
    def paths(self) -> list[Path]:
        """The paths, in order."""
        items = (self.list.item(row) for row in range(self.list.count()))
        return [Path(item.text()) for item in items if item is not None]

    def add_paths(self, *paths: Path) -> None:
        """Add these paths to the list."""
        new = [path for path in paths if path not in self.paths]
        self.list.addItems([str(path) for path in new])
        if new:
            self.changed.emit()

    def drop(self, *paths: Path) -> None:
        """Add what was dropped."""
        self.add_paths(*paths)

    def _ask_file(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Add lists of particles", "", self._kinds)
        self.add_paths(*map(Path, names))

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Add a folder")
        if name:
            self.add_paths(Path(name))

    def _remove(self) -> None:
        self.list.takeItem(self.list.currentRow())
        self.changed.emit()


def _button(text: str, tip: str, do: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(do)
    return button

"""Inputs of a page: choices of layers and classes, rows for files and folders, and the button that starts a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from napari_orient.engine.io.dialects import read_suffixes
from napari_orient.gui.event_loop import listen
from napari_orient.gui.jobs import Job
from napari_orient.gui.widgets.basic import (
    WARNING,
    Choice,
    Fold,
    FoldingRow,
    NoteLabel,
    Panel,
    emphasise,
    primary_button,
    push_button,
    silent,
)

LIST_HEIGHT = 60
"""Height in pixels of a list of files or layers: about three lines."""


def list_filter(*more: str, title: str = "Particle lists") -> str:
    """Filter of a file dialog for particle lists of every dialect that is read, and for files of further suffixes."""
    patterns = " ".join(f"*{suffix}" for suffix in (*more, *read_suffixes()))
    return f"{title} ({patterns});;All files (*)"


def paths_in(event: QDropEvent | None) -> list[Path]:
    """The local files and folders that a drag or drop carries; none of anything else."""
    carried = None if event is None else event.mimeData()
    return [] if carried is None else [Path(url.toLocalFile()) for url in carried.urls() if url.isLocalFile()]


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
        self.browse = push_button("Browse…", caption, self._browse)
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
        with suppress(RuntimeError):  # Of a person whom this machine does not know.
            return Path(text).expanduser() if text else None
        return Path(text)

    def show_path(self, path: Path | None) -> None:
        """Show this path and emit it."""
        self.line.setText("" if path is None else str(path))
        self.line.setToolTip(self._caption if self.path is None else str(self.path.absolute()))
        self._typed()

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take one file."""
        if event is not None and len(paths_in(event)) == 1:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Show the file dropped."""
        for path in paths_in(event)[:1]:
            self.show_path(path)

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
            self.line.setToolTip(self._caption if self.path is None else str(self.path.absolute()))
            self.picked.emit(self.path)


def show_classes(choice: QComboBox, counts: Mapping[str, int], total: int) -> None:
    """Offer the classes with their numbers, the largest first, after all of them (None); the choice stays if it can.

    Where there is one class only, it is all there is to choose.
    """
    kept = choice.currentData()
    with silent(choice):
        choice.clear()
        alone = next(iter(counts)) if len(counts) == 1 else "all classes"
        choice.addItem(f"{alone} ({total})", None)
        if len(counts) > 1:
            for code, number in sorted(counts.items(), key=lambda entry: -entry[1]):
                choice.addItem(f"{code} ({number})", code)
        choice.setCurrentIndex(max(0, choice.findData(kept)))
        choice.setEnabled(len(counts) > 1)


class LayerChoice(Choice):
    """A choice among the viewer's layers that pass a test, newest first; ``chosen`` is emitted with it, or None."""

    chosen = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        wanted: Callable[[], Sequence[Layer]],
        *,
        empty: str,
        chosen_when_new: Callable[[Layer], object] = lambda _: True,
    ) -> None:
        """``wanted`` are the layers on offer; one that has come is chosen by itself if ``chosen_when_new`` says so."""
        super().__init__()
        self.setToolTip("Which of the viewer's layers to take; one that is opened is chosen by itself")
        self._wanted, self._empty, self._chosen_when_new = wanted, empty, chosen_when_new
        self._layers: list[Layer] = []
        for event in ("inserted", "removed", "reordered"):
            listen(self, getattr(viewer.layers.events, event), self.refresh)
        self.currentIndexChanged.connect(self._emit_chosen)
        self.refresh()

    @property
    def layers(self) -> list[Layer]:
        """The layers on offer."""
        return list(self._layers)

    @property
    def layer(self) -> Layer | None:
        """The layer chosen, or None where there is none to choose."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Layer) -> None:
        """Choose this layer, if it is among those on offer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: Any = None) -> None:
        """Offer what is there now; a layer that has come is chosen, else the choice stays while its layer does."""
        kept, before = self.layer, set(map(id, self._layers))
        found = list(self._wanted())
        for layer in found:
            listen(self, layer.events.name, self._rename)
        new = [layer for layer in found if id(layer) not in before and self._chosen_when_new(layer)]
        self._layers = found
        with silent(self):
            self.clear()
            self.addItems([layer.name for layer in found] or [self._empty])
            best = new[0] if new else kept
            self.setCurrentIndex(found.index(best) if best in found else 0)
            self.setEnabled(bool(found))
        if self.layer is not kept or not found:
            self._emit_chosen()

    def _rename(self, event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)

    def _emit_chosen(self, *_: object) -> None:
        self.chosen.emit(self.layer)


class JobRow(Panel):
    """The button that starts a job (``asked``), the one that leads on from its result, and what its steps noted.

    Warnings stand below the buttons, as the command line prints them; what is only to be known waits in a fold.
    ``ended`` is emitted with the outcome of the job that it follows.
    """

    asked = Signal()
    ended = Signal(str)

    def __init__(self, text: str, tip: str, *, stopped: str = "Stopped; nothing was changed.") -> None:
        """``stopped`` is what is said when the job was stopped."""
        super().__init__()
        self.job: Job | None = None
        self._stopped, self._possible = stopped, True
        self.start, self.onward = primary_button(text, tip), primary_button("Go on", "Go on to the next step")
        self.start.clicked.connect(self.asked)
        self.buttons = FoldingRow(self.start, self.onward)
        self.words, self.warnings, self.remarks = NoteLabel(), NoteLabel(), NoteLabel()
        self.details = Fold("Details", self.remarks)
        self.add(self.buttons, self.words, self.warnings, self.details)
        self.lead_on("")
        self.add_details()

    def follow(self, job: Job) -> None:
        """Wait for this job to end."""
        self.job = job
        job.reached.connect(self._reached)
        job.stepped.connect(self._stepped)
        job.ended.connect(self._ended)
        self.start.setEnabled(False)
        self.lead_on("")
        self.words.say("Starting…" if job.begun else "Waiting for the job before it…")
        self.warnings.say("")
        self.remarks.say("")
        self.add_details()

    def allow(self, possible: bool) -> None:
        """Whether a job can be started, once none is running."""
        self._possible = possible
        self.start.setEnabled(possible and self.job is None)

    def lead_on(self, text: str, tip: str = "") -> None:
        """Show the button that leads on, as the one to press next; none where the text is empty."""
        if text:
            self.onward.setText(text)
            self.onward.setToolTip(tip)
        self.onward.setVisible(bool(text))
        emphasise(self.start, not text)

    def add_details(self, *lines: str) -> None:
        """Add lines to the fold, which is there where it holds any."""
        self.remarks.say("\n".join([*filter(None, [self.remarks.text()]), *lines]))
        self.details.setVisible(bool(self.remarks.text()))
        self.remarks.setVisible(self.details.button.isChecked())

    def _reached(self, step: Any) -> None:
        self.words.say("")

    def _stepped(self, step: Any) -> None:
        warnings = [str(note) for note in step.notes if note.severity == "warning"]
        if warnings:
            self.warnings.say("\n".join([*filter(None, [self.warnings.text()]), *warnings]), WARNING)
        self.add_details(*(str(note) for note in step.notes if note.severity != "warning"))

    def _ended(self, outcome: str) -> None:
        self.job = None
        self.start.setEnabled(self._possible)
        self.words.say(self._stopped if outcome == "stopped" else "")
        self.ended.emit(outcome)

"""The row of a running job: start, Stop, progress, time left."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_orient.gui.jobs import Job, time_words
from napari_orient.gui.widgets.basic import WARNING, NoteLabel, primary_button, row


class JobRow(QWidget):
    """The button that starts a job (``asked``), Stop, and, while one runs, its progress and the time left."""

    asked = Signal()
    ended = Signal(str)

    def __init__(
        self, text: str, tip: str, *, stopped: str = "Stopped; nothing was changed.", with_notes: bool = False
    ) -> None:
        """``stopped`` is what is said when the job was stopped; notes of its steps are shown where asked for."""
        super().__init__()
        self.job: Job | None = None
        self._stopped, self._with_notes = stopped, with_notes
        self._possible = True
        self.start = primary_button(text, tip)
        self.start.clicked.connect(self.asked)
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop after the piece that is being worked on")
        self.stop.clicked.connect(self._stop)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.words, self.notes = NoteLabel(), NoteLabel()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row(self.start, self.stop))
        column.addWidget(self.bar)
        column.addWidget(self.words)
        column.addWidget(self.notes)
        self._show_idle()

    def follow(self, job: Job) -> None:
        """Show this job until it ends."""
        self.job = job
        job.reached.connect(self._reached)
        job.stepped.connect(self._stepped)
        job.ended.connect(self._ended)
        self.start.setEnabled(False)
        self.stop.setEnabled(True)
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.words.say("Starting…")
        self.notes.say("")

    def allow(self, possible: bool) -> None:
        """Whether a job can be started, once none is running."""
        self._possible = possible
        self.start.setEnabled(possible and self.job is None)

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()
            self.stop.setEnabled(False)
            self.words.say("Stopping…")

    def _reached(self, step: Any) -> None:
        if self.job is None or self.job.stopping:
            return
        self.bar.setRange(0, step.total)
        self.bar.setValue(step.done)
        left = time_words(self.job.seconds_left)
        self.words.say(f"{step.message} · {left}" if left else step.message)

    def _stepped(self, step: Any) -> None:
        if self._with_notes and step.notes:
            self.notes.say("\n".join([*filter(None, [self.notes.text()]), *map(str, step.notes)]), WARNING)

    def _ended(self, outcome: str) -> None:
        self.job = None
        self._show_idle()
        if outcome == "stopped":
            self.words.say(self._stopped)
        self.ended.emit(outcome)

    def _show_idle(self) -> None:
        self.start.setEnabled(self._possible)
        self.stop.setEnabled(False)
        self.bar.setVisible(False)
        self.words.say("")

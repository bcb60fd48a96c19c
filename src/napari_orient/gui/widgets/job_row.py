"""The button that starts a job, and what it says until the job has ended; progress and Stop are in the job line."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.gui.jobs import Job
from napari_orient.gui.widgets.basic import WARNING, NoteLabel, primary_button


class JobRow(QWidget):
    """The button that starts a job (``asked``); ``ended`` is emitted with the outcome of the job that it follows."""

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
        self.words, self.notes = NoteLabel(), NoteLabel()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.start)
        column.addWidget(self.words)
        column.addWidget(self.notes)

    def follow(self, job: Job) -> None:
        """Wait for this job to end."""
        self.job = job
        job.reached.connect(self._reached)
        job.stepped.connect(self._stepped)
        job.ended.connect(self._ended)
        self.start.setEnabled(False)
        self.words.say("Starting…" if job.begun else "Waiting for the job before it…")
        self.notes.say("")

    def allow(self, possible: bool) -> None:
        """Whether a job can be started, once none is running."""
        self._possible = possible
        self.start.setEnabled(possible and self.job is None)

    def _reached(self, step: Any) -> None:
        self.words.say("")

    def _stepped(self, step: Any) -> None:
        if self._with_notes and step.notes:
            self.notes.say("\n".join([*filter(None, [self.notes.text()]), *map(str, step.notes)]), WARNING)

    def _ended(self, outcome: str) -> None:
        self.job = None
        self.start.setEnabled(self._possible)
        self.words.say(self._stopped if outcome == "stopped" else "")
        self.ended.emit(outcome)

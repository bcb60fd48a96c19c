"""Live: a pick that is added or dragged gets its pose, arrow and expected error at once, part of the same step.

Only the patch round the pick is read, whatever the tomogram's size. What can be told within a twentieth of a second is
told on the spot; more than that goes to a worker, and an answer to a question that has been overtaken is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Points
from qtpy.QtCore import QObject, Signal

from napari_orient.engine.errors import InputError
from napari_orient.engine.networks.checkpoint import Checkpoint, load_checkpoint
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.prediction import PredictionOptions, Teller, prepare
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui import editing, layers
from napari_orient.gui.history import History, count_words
from napari_orient.gui.jobs import Job
from napari_orient.gui.layer_rows import Rows
from napari_orient.gui.layers import NUMBER
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import BAD, GOOD, MUTED

IMMEDIATE_LIMIT = 0.05
"""Seconds that an answer may take on the spot."""

_TRIALS = 3


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """What tells poses of one tomogram, and the seconds that it takes for one pick."""

    tell: Teller
    seconds: float


def prepare_model(
    tomogram: Tomogram, picks: Particles, checkpoint: Checkpoint, *, device: str = "auto"
) -> Stream[Step, PreparedModel]:
    """A checkpoint ready for single picks of this tomogram, and timed on one in its middle."""
    tell = yield from prepare(
        tomogram, picks, checkpoint, PredictionOptions(precision=_precision(checkpoint), device=device)
    )
    middle = Particles(positions=tomogram.extent.centre[None], tomogram=tomogram.name)
    tell(middle)  # The first answer makes rooms and tables.
    taken = []
    for _ in range(_TRIALS):
        began = time.monotonic()
        tell(middle)
        taken.append(time.monotonic() - began)
    return PreparedModel(tell, min(taken))


def _precision(checkpoint: Checkpoint) -> str:
    return "fast" if checkpoint.kind == "bank" else "auto"


class LivePrediction(QObject):
    """Tells poses of picks as they come, for one layer; ``said`` tells in words, and their colour, how that goes."""

    status_changed = Signal(str, str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self.session = session
        self.prepared: PreparedModel | None = None
        self._history: History | None = None
        self._tomogram = ""
        self._job: Job | None = None
        self._deliver_to: Callable[[Any], None] = self._begin
        self._waiting: set[int] = set()
        self._asked: dict[int, FloatArray] = {}
        self._to_learn: tuple[Tomogram, Checkpoint] | None = None

    @property
    def layer(self) -> Points | None:
        """The layer whose picks are told, or None while Live is off."""
        return None if self._history is None else self._history.layer

    def start(self, points: Points, image: Image, name: str) -> None:
        """Nothing; Live begins for this layer with the network of this name, which is made ready first.

        Raises
        ------
        InputError
            If the network or the tomogram cannot be used.
        """
        self.stop()
        checkpoint, tomogram = load_checkpoint(name), layers.tomogram_of(image)
        self.session.adopt(points, image)
        self.follow_edits(points, tomogram.name)
        if checkpoint.kind == "bank" and len(points.data) == 0:
            self._to_learn = tomogram, checkpoint
            self.status_changed.emit("Live: place a first pick; the tomogram is learnt from it.", MUTED)
        else:
            self._make_ready(tomogram, layers.picks_of(points), checkpoint)

    def _make_ready(self, tomogram: Tomogram, picks: Particles, checkpoint: Checkpoint) -> None:
        self._to_learn = None
        self.status_changed.emit(f"Making {checkpoint.name} ready…", MUTED)
        stream = prepare_model(tomogram, picks, checkpoint, device=self.session.preferences.compute.device)
        self._run(stream, "Making Live ready", self._begin)

    def follow_edits(self, points: Points, tomogram: str) -> None:
        """Nothing; edits of this layer of particles of a tomogram are heard, and told once something is ready."""
        self._history, self._tomogram = self.session.history(points), tomogram
        self._history.events.edited.connect(self._edited)

    def stop(self) -> None:
        """Nothing; picks are no longer told, and what was being told is dropped."""
        if self._history is not None:
            self._history.events.edited.disconnect(self._edited)
        if self._job is not None:
            self._job.answered.disconnect(self._answered)
            self._job.ended.disconnect(self._ended)
            self._job.stop()
        self._history = self.prepared = self._job = self._to_learn = None
        self._waiting.clear()
        self.status_changed.emit("", MUTED)

    def _begin(self, prepared: PreparedModel) -> None:
        self.prepared = prepared
        self.status_changed.emit(f"Live: about {1000 * prepared.seconds:.0f} ms for a pick. Add or drag points.", GOOD)
        self._ask_waiting()

    # --- questions --------------------------------------------------------------------------------------------------

    def _edited(self, event: Any) -> None:
        rows: Rows = event.rows
        if self.prepared is None or self._job is not None or self.prepared.seconds * len(rows) > IMMEDIATE_LIMIT:
            self._waiting |= set(self._numbers()[rows].tolist())
            if self._to_learn is not None:
                tomogram, checkpoint = self._to_learn
                self._make_ready(tomogram, self._picks(rows), checkpoint)
            self._ask_waiting()
            return
        history, began = self._history, time.monotonic()
        assert history is not None
        try:
            told = self.prepared.tell(self._picks(rows))
        except InputError as error:
            self.status_changed.emit(str(error), BAD)
            return
        layer = history.layer
        # Napari's own event, of which this is a part, tells of both when all is done.
        with layer.events.data.blocker(), layer.events.features.blocker():
            editing.write_poses(history, rows, told)
        self.session.draw_ahead(layer, rows, told)
        self._say(told, time.monotonic() - began)

    def _ask_waiting(self) -> None:
        if self.prepared is None or self._job is not None or not self._waiting or self._history is None:
            return
        rows = self._rows(self._waiting)
        self._waiting.clear()
        picks = self._picks(rows)
        self._asked = dict(zip(self._numbers()[rows].tolist(), self._history.layer.data[rows].copy(), strict=True))
        self._run(_told(self.prepared.tell, picks), f"Live: {count_words(len(rows))}", self._deliver)

    def _deliver(self, told: Particles) -> None:
        history = self._history
        if history is None or history.layer not in self.session.viewer.layers:
            return
        rows = self._rows(set(self._asked))
        numbers = self._numbers()[rows]
        still = [np.array_equal(history.layer.data[row], self._asked[n]) for row, n in zip(rows, numbers, strict=True)]
        places = {number: place for place, number in enumerate(self._asked)}
        rows, part = rows[still], told.take([places[number] for number in numbers[still]])
        if len(rows):
            editing.assign_poses(history, rows, part, words="tell")
            self._say(part, 0.0)

    def _run(self, stream: Stream[Step, Any], title: str, deliver: Callable[[Any], None]) -> None:
        self._job, self._deliver_to = Job(stream, title=title, parent=self), deliver
        self._job.answered.connect(self._answered)
        self._job.ended.connect(self._ended)

    def _answered(self, answer: Any) -> None:
        self._deliver_to(answer)

    def _ended(self, outcome: str) -> None:
        self._job = None
        if outcome != "done" and self.prepared is None:
            self.stop()
            self.status_changed.emit("Live is off: the network could not be made ready.", BAD)
        self._ask_waiting()

    # --- what the layer holds ---------------------------------------------------------------------------------------

    def _numbers(self) -> Rows:
        assert self._history is not None
        numbers: Rows = self._history.layer.features[NUMBER].to_numpy(int)
        return numbers

    def _rows(self, numbers: set[int]) -> Rows:
        return np.flatnonzero(np.isin(self._numbers(), list(numbers)))

    def _picks(self, rows: Rows) -> Particles:
        """Positions alone: nothing else is asked for."""
        assert self._history is not None
        layer = self._history.layer
        return Particles(
            positions=layers.flip(np.asarray(layer.data[rows], float) * layers.voxel_size(layer)),
            tomogram=self._tomogram,
        )

    def _say(self, told: Particles, seconds: float) -> None:
        words = f"Told {count_words(len(told))}"
        if told.expected_error_deg is not None:
            words += f": expected error {np.median(told.expected_error_deg):.1f}°"
        self.status_changed.emit(words + (f", {1000 * seconds:.0f} ms" if seconds else ""), GOOD)


def _told(tell: Teller, picks: Particles) -> Stream[Step, Particles]:
    yield Step(0, 1, f"Telling {count_words(len(picks))}")
    return tell(picks)

"""Live prediction: a pick that is added or dragged gets pose, arrow and expected error, within the same history step.

Only the patch around the pick is read, whatever the tomogram's size. Predictions of up to `IMMEDIATE_LIMIT` seconds run
in the window's thread; longer ones run in a worker, and a result is discarded if its pick has moved meanwhile.
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
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.prediction.predict import Model, PoseEstimator, load_model, prepare
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui.jobs import Job
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import NUMBER
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.session import edits
from napari_orient.gui.session.edits import History
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import BAD, GOOD, MUTED, counted

IMMEDIATE_LIMIT = 0.05
"""Seconds that a prediction may take in the window's thread: one frame at 20 a second."""

_TRIALS = 3
"""Timed predictions of one pick; the shortest counts, as other work on the machine only lengthens them."""


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A model prepared for one tomogram: its prediction function, and the seconds per pick."""

    predict: PoseEstimator
    seconds: float


def prepare_model(
    tomogram: Tomogram, picks: Particles, model: Model, *, device: str = "auto"
) -> Stream[Step, PreparedModel]:
    """A model prepared for single picks of this tomogram, timed at the tomogram's centre."""
    predict = yield from prepare(tomogram, picks, model, PredictionOptions.of(precision="fast", device=device))
    return (yield from _timed(tomogram, predict))


def _timed(tomogram: Tomogram, predict: PoseEstimator) -> Stream[Step, PreparedModel]:
    """What predicts single picks of a tomogram, with the seconds that it takes for one."""
    yield Step(0, 1, "Timing a prediction")
    middle = Particles(positions=tomogram.extent.centre[None], tomogram=tomogram.name)
    predict(middle)  # The first call allocates buffers and tables.
    taken = []
    for _ in range(_TRIALS):
        began = time.monotonic()
        predict(middle)
        taken.append(time.monotonic() - began)
    return PreparedModel(predict, min(taken))


class LivePrediction(QObject):
    """Predicts the picks of one layer as they are added or moved; ``status_changed`` emits a text and its colour."""

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
        self._requested: dict[int, FloatArray] = {}
        self._waiting_for_pick: tuple[Tomogram, Model] | None = None

    @property
    def layer(self) -> Points | None:
        """The layer whose picks are predicted, or None while Live is off."""
        return None if self._history is None else self._history.layer

    def start(self, points: Points, image: Image, name: str) -> None:
        """Start Live for this layer with the model of this name, after preparing it.

        Raises
        ------
        InputError
            If the model or the tomogram cannot be used.
        """
        self.stop()
        model, tomogram = load_model(name), layer_data.tomogram_of(image)
        self.session.adopt(points, image)
        self.follow_edits(points, tomogram.name)
        if model.needs_picks and len(points.data) == 0:
            self._waiting_for_pick = tomogram, model
            self.status_changed.emit("Live: place a first pick; the noise is estimated around it.", MUTED)
        else:
            known, estimator = self.session.prepared.get(image, ("", None))
            if estimator is not None and known == name:
                self._time(tomogram, estimator)
            else:
                self._prepare(tomogram, layer_data.picks_of(points), model)

    def _time(self, tomogram: Tomogram, estimator: PoseEstimator) -> None:
        """Begin with what a prediction has learnt of the tomogram already."""
        self._waiting_for_pick = None
        self._run(_timed(tomogram, estimator), "Live", self._begin)

    def _prepare(self, tomogram: Tomogram, picks: Particles, model: Model) -> None:
        self._waiting_for_pick = None
        self.status_changed.emit(f"Preparing {model.name}…", MUTED)
        stream = prepare_model(tomogram, picks, model, device=self.session.preferences.compute.device)
        self._run(stream, "Preparing Live", self._begin)

    def follow_edits(self, points: Points, tomogram: str) -> None:
        """Listen to edits of this layer of the tomogram's particles; predict them once a model is prepared."""
        self._history, self._tomogram = self.session.history(points), tomogram
        self._history.events.edited.connect(self._edited)

    def stop(self) -> None:
        """Stop predicting; discard a prediction that is running."""
        if self._history is not None:
            self._history.events.edited.disconnect(self._edited)
        if self._job is not None:
            self._job.answered.disconnect(self._answered)
            self._job.ended.disconnect(self._ended)
            self._job.stop()
        self._history = self.prepared = self._job = self._waiting_for_pick = None
        self._waiting.clear()
        self.status_changed.emit("", MUTED)

    def _begin(self, prepared: PreparedModel) -> None:
        self.prepared = prepared
        self.status_changed.emit(f"Live: about {1000 * prepared.seconds:.0f} ms per pick. Add or drag points.", GOOD)
        self._predict_waiting()

    # --- predictions ------------------------------------------------------------------------------------------------

    def _edited(self, event: Any) -> None:
        rows: Rows = event.rows
        if self.prepared is None or self._job is not None or self.prepared.seconds * len(rows) > IMMEDIATE_LIMIT:
            self._waiting |= set(self._numbers()[rows].tolist())
            if self._waiting_for_pick is not None:
                tomogram, model = self._waiting_for_pick
                self._prepare(tomogram, self._picks(rows), model)
            self._predict_waiting()
            return
        history, began = self._history, time.monotonic()
        assert history is not None
        try:
            predicted = self.prepared.predict(self._picks(rows))
        except InputError as error:
            self.status_changed.emit(str(error), BAD)
            return
        layer = history.layer
        # This runs within napari's own event of the edit, which reports both changes when it ends.
        with layer.events.data.blocker(), layer.events.features.blocker():
            edits.write_poses(history, rows, predicted)
        self.session.drawing.draw_ahead(layer, rows, predicted)
        self._show_status(predicted, time.monotonic() - began)

    def _predict_waiting(self) -> None:
        if self.prepared is None or self._job is not None or not self._waiting or self._history is None:
            return
        rows = self._rows(self._waiting)
        self._waiting.clear()
        picks = self._picks(rows)
        self._requested = dict(zip(self._numbers()[rows].tolist(), self._history.layer.data[rows].copy(), strict=True))
        self._run(
            _predict_stream(self.prepared.predict, picks), f"Live: {counted(len(rows), 'particle')}", self._deliver
        )

    def _deliver(self, predicted: Particles) -> None:
        history = self._history
        if history is None or history.layer not in self.session.viewer.layers:
            return
        rows = self._rows(set(self._requested))
        numbers = self._numbers()[rows]
        unmoved = [
            np.array_equal(history.layer.data[row], self._requested[n]) for row, n in zip(rows, numbers, strict=True)
        ]
        places = {number: place for place, number in enumerate(self._requested)}
        rows, part = rows[unmoved], predicted.take([places[number] for number in numbers[unmoved]])
        if len(rows):
            edits.assign_poses(history, rows, part, words="predict")
            self._show_status(part, 0.0)

    def _run(self, stream: Stream[Step, Any], title: str, deliver: Callable[[Any], None]) -> None:
        self._job, self._deliver_to = self.session.jobs.start(stream, title=title, immediately=True), deliver
        self._job.answered.connect(self._answered)
        self._job.ended.connect(self._ended)

    def _answered(self, result: Any) -> None:
        self._deliver_to(result)

    def _ended(self, outcome: str) -> None:
        self._job = None
        if outcome != "done" and self.prepared is None:
            self.stop()
            self.status_changed.emit("Live is off: the model could not be prepared.", BAD)
        self._predict_waiting()

    # --- what the layer holds ---------------------------------------------------------------------------------------

    def _numbers(self) -> Rows:
        assert self._history is not None
        numbers: Rows = self._history.layer.features[NUMBER].to_numpy(int)
        return numbers

    def _rows(self, numbers: set[int]) -> Rows:
        return np.flatnonzero(np.isin(self._numbers(), list(numbers)))

    def _picks(self, rows: Rows) -> Particles:
        """Positions of the picks, without poses."""
        assert self._history is not None
        layer = self._history.layer
        return Particles(
            positions=layer_data.positions_of(layer, rows),
            tomogram=self._tomogram,
        )

    def _show_status(self, predicted: Particles, seconds: float) -> None:
        text = f"Predicted {counted(len(predicted), 'particle')}"
        if predicted.expected_error_deg is not None:
            text += f": expected error {np.median(predicted.expected_error_deg):.1f}°"
        self.status_changed.emit(text + (f", {1000 * seconds:.0f} ms" if seconds else ""), GOOD)


def _predict_stream(predict: PoseEstimator, picks: Particles) -> Stream[Step, Particles]:
    yield Step(0, 1, f"Predicting {counted(len(picks), 'particle')}")
    return predict(picks)

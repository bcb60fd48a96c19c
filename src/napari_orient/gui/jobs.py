"""A Stream run in a worker thread: progress in the activity bar, Stop, and its answer delivered on the main thread.

Snapshot, work, deliver: what is handed in are frozen values; the worker sees these alone; the answer comes back by a
signal.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker
from napari.utils import cancelable_progress
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal

from napari_orient.engine.environment import machine_error
from napari_orient.engine.streams import Step, seconds_left
from napari_orient.gui.event_loop import when_destroyed

PERIOD = 0.2
"""Seconds between two reports of progress: software rendering bears no more."""


@dataclass(frozen=True)
class _Refusal:
    """What a stream gave back that could not do what was asked: a line for the user."""

    line: str


_NOTHING = object()
"""In the place of an answer that has not come."""


class _Voice(QObject):
    """Speaks from the worker's thread. It is the work's, not the job's: a job may be destroyed while this speaks."""

    reported = Signal()


class _Work:
    """The stream as a function for a worker: drained in its thread, and closed there, where its ``finally`` belongs."""

    def __init__(self, stream: Generator[Any, None, Any], title: str) -> None:
        self.stream, self.title = stream, title
        self.steps: deque[Step] = deque()
        self.stopping = False
        self.unheard = False
        self.voice = _Voice()
        self.abandoned: Callable[[], bool] = lambda: False

    def __str__(self) -> str:
        return self.title

    def __call__(self) -> object:
        """The answer, a `_Refusal`, or None if stopped. Anything else that goes wrong flies, RuntimeError too."""
        spoken = 0.0
        try:
            while not (self.stopping or self.abandoned()):
                self.steps.append(next(self.stream))
                # Not before the last report is dealt with: napari works off events meanwhile, and would begin anew.
                if not self.unheard and time.monotonic() - spoken > PERIOD:
                    spoken, self.unheard = time.monotonic(), True
                    self.voice.reported.emit()
        except StopIteration as end:
            return end.value
        except Exception as error:
            line = machine_error(error)
            if line is None:
                raise
            return _Refusal(str(line))
        finally:
            self.stream.close()
        return None


class Job(QObject):
    """A stream that runs, or waits for its turn if it is ``waiting`` until `begin`.

    It dies with its parent: then the stream is stopped and its answer dropped. ``stepped`` carries each Step, none left
    out; ``reached`` the last of them, now and then, to be shown; ``answered`` the answer; ``ended`` comes last in every
    case, with ``done``, ``stopped`` or ``failed``.

    ``show``, if given, gets the answer too, or None where the job was stopped, and shows it piece by piece: each has a
    turn of the event loop of its own, so that the window does not stand still for long. The job ends after the last.
    """

    stepped = Signal(object)
    reached = Signal(object)
    answered = Signal(object)
    ended = Signal(str)

    def __init__(
        self,
        stream: Generator[Any, None, Any],
        *,
        title: str,
        parent: QObject,
        show: Callable[[Any], Iterator[None]] | None = None,
        waiting: bool = False,
    ) -> None:
        super().__init__(parent)
        self.title = title
        self.begun = False
        self._show_answer = show
        self._delivery: Iterator[None] = iter(())
        self._outcome = ""
        self._turn = QTimer(self)
        self._turn.setInterval(0)
        self._turn.timeout.connect(self._show_piece)
        self.last: Step | None = None
        self._work = _Work(stream, title)
        self._answer: object = _NOTHING
        self._over = False
        self._pace = _Pace(title)
        self._bar: cancelable_progress | None = None
        self._work.voice.reported.connect(self._drain)
        self._worker: FunctionWorker[Any] = create_worker(self._work, _start_thread=False)
        self._work.abandoned = _quit_asked(weakref.ref(self._worker))
        self._worker.returned.connect(self._deliver)
        self._worker.finished.connect(self._end)
        if not waiting:
            self.begin()

    def begin(self) -> None:
        """Start the stream in its thread."""
        self.begun = True
        self._bar = cancelable_progress(total=0, desc=self.title, gui=True)
        when_destroyed(self, _stopper(self._work, self._bar))
        self._worker.start()

    def stop(self) -> None:
        """Ask the stream to stop at its next step; what it has yielded is not lost. One that waits does not begin."""
        self._work.stopping = True
        if self.begun:
            self._worker.quit()
        elif not self._over:
            self._end()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, by Stop or by napari closing the window."""
        return bool(self._work.stopping or self._worker.abort_requested)

    @property
    def abandoned(self) -> bool:
        """Whether it stops because napari closes its window: then there is nothing left to show anything in."""
        return bool(self._worker.abort_requested and not self._work.stopping)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that it will still take at the pace so far, or None while that is unknown."""
        return self._pace.seconds_left(time.monotonic())

    @property
    def time_left(self) -> str:
        """Time left as one says it, of the whole job where that can be known; empty while unknown."""
        words = time_words(self.seconds_left)
        return words if self._pace.whole or not words else f"{words} in this step"

    def _report_progress(self) -> None:
        while self._work.steps:
            self.last = self._work.steps.popleft()
            self._pace.note(self.last, time.monotonic())
            self.stepped.emit(self.last)

    def _drain(self) -> None:
        try:
            self._report_progress()
            if self._bar is not None and self._bar.is_canceled and not self.stopping:
                self.stop()
            if self.last is not None:
                self.reached.emit(self.last)
                self._show(self.last)
        finally:
            self._work.unheard = False

    def _show(self, step: Step) -> None:
        bar = self._bar
        if bar is None:
            return
        # Each of these lets napari work off its events, so the end of the job may come in between.
        for show in (
            lambda: setattr(bar, "total", step.total),
            lambda: bar.set_description(step.message),
            lambda: bar.update(step.done - bar.n),
        ):
            if not self._over:
                show()

    def _deliver(self, answer: object) -> None:
        self._answer = answer

    def _end(self) -> None:
        self._over = True
        self._report_progress()
        if self._bar is not None:
            self._bar.close()
        self._outcome = self._finish()
        if self._outcome == "done":
            _STAGES[self.title] = self._pace.durations(time.monotonic())
        if self._show_answer is None or self._outcome == "failed" or self.abandoned:
            self._close()
        else:
            self._delivery = self._show_answer(self._answer if self._outcome == "done" else None)
            self._turn.start()

    def _show_piece(self) -> None:
        try:
            next(self._delivery)
        except StopIteration:
            self._close()
        except BaseException:
            self._outcome = "failed"
            self._close()
            raise

    def _close(self) -> None:
        self._turn.stop()
        self.ended.emit(self._outcome)
        self.deleteLater()

    def _finish(self) -> str:
        if self.stopping:
            return "stopped"
        if self._answer is _NOTHING:
            return "failed"
        if isinstance(self._answer, _Refusal):
            show_error(self._answer.line)
            return "failed"
        self.answered.emit(self._answer)
        return "done"


class JobQueue(QObject):
    """The jobs of one viewer: one runs, the others wait for it; ``changed`` is emitted when that or progress changes.

    A job ends with its viewer, not with the dock that asked for it.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._jobs: list[Job] = []

    def start(
        self,
        stream: Generator[Any, None, Any],
        *,
        title: str,
        show: Callable[[Any], Iterator[None]] | None = None,
        immediately: bool = False,
    ) -> Job:
        """A job for the stream; it waits for those before it unless it is to begin ``immediately``, as brief ones may.

        ``show`` delivers the answer piece by piece, as `Job` has it.
        """
        job = Job(stream, title=title, parent=self, show=show, waiting=True)
        job.reached.connect(self._progressed)
        job.ended.connect(self._ended)
        self._jobs.append(job)
        if immediately or self.running is None:
            job.begin()
        self.changed.emit()
        return job

    @property
    def running(self) -> Job | None:
        """The job that has run longest, or None."""
        return next((job for job in self._jobs if job.begun), None)

    @property
    def waiting(self) -> list[Job]:
        """The jobs that have not begun, in order."""
        return [job for job in self._jobs if not job.begun]

    def stop(self) -> bool:
        """Whether there was a job to stop: that which runs is, those that wait do not begin."""
        for job in self._jobs[::-1]:
            job.stop()
        return bool(self._jobs)

    def _progressed(self, step: Step) -> None:
        self.changed.emit()

    def _ended(self, outcome: str) -> None:
        ended = self.sender()
        self._jobs = [job for job in self._jobs if job is not ended]
        if isinstance(ended, Job) and ended.abandoned:
            self.stop()  # The window is being closed.
        elif self.waiting and self.running is None:
            self.waiting[0].begin()
        self.changed.emit()


class _Pace:
    """How quick the work is: seconds to its end, from its own pace and from how long its stages took the last time."""

    def __init__(self, title: str) -> None:
        self._before = _STAGES.get(title, ())
        self._stages: list[list[tuple[Step, float]]] = []

    def note(self, step: Step, now: float) -> None:
        """Record that this step has been reached now."""
        if not self._stages or _another_stage(self._stages[-1][-1][0], step):
            self._stages.append([(step, now)])
        elif step.done > self._stages[-1][-1][0].done:
            self._stages[-1].append((step, now))

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end of the work where it is known, else of its present stage; None before that has moved."""
        if not self._stages:
            return None
        stage, later = self._stages[-1], sum(self._before[len(self._stages) :])
        last, reached = stage[-1]
        # The pace of the second half: a task may grow slower, as one that begins coarsely does.
        first, began = next((step, at) for step, at in stage if 2 * step.done >= last.done or step is last)
        if first is last:
            first, began = stage[0]
        left = seconds_left(Step(last.done - first.done, last.total - first.done, ""), reached - began)
        if left is None and len(self._before) < len(self._stages):
            return None
        if left is None:
            left = max(0.0, self._before[len(self._stages) - 1] - (now - stage[0][1]))
        return max(0.0, left - (now - reached)) + later

    @property
    def whole(self) -> bool:
        """Whether the seconds left are those of the whole work."""
        return bool(self._stages) and (self._stages[-1][-1][0].whole or len(self._before) >= len(self._stages))

    def durations(self, now: float) -> tuple[float, ...]:
        """Seconds that each stage took, (S,), the last until now."""
        starts = [stage[0][1] for stage in self._stages]
        return tuple(after - begun for begun, after in zip(starts, [*starts, now][1:], strict=True))


_STAGES: dict[str, tuple[float, ...]] = {}
"""Seconds that the stages of a job of a title took when it was last done."""


def _another_stage(before: Step, step: Step) -> bool:
    return step.done < before.done or (step.total != before.total and step.done == 0)


def _quit_asked(worker: weakref.ref[FunctionWorker[Any]]) -> Callable[[], bool]:
    """Tells whether napari has asked the worker to quit, without keeping the worker alive."""

    def asked() -> bool:
        alive = worker()
        return alive is not None and alive.abort_requested

    return asked


def _stopper(work: _Work, bar: cancelable_progress) -> Callable[[], None]:
    """What stops the work when its job is gone; it must not know the job."""

    def stop() -> None:
        work.stopping = True
        if not bar.disable:
            bar.close()

    return stop


def time_words(seconds: float | None) -> str:
    """Time left as one says it: ``12 s left``, ``3 min left``; empty while unknown."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(1, round(seconds))} s left"
    return f"{round(seconds / 60)} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"

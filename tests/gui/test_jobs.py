import gc
import threading
import time

import pytest
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.streams import Step
from napari_orient.gui import jobs
from napari_orient.gui.jobs import Job, time_words


class Course:
    """A stream that counts and remembers what became of it."""

    def __init__(self):
        self.closed_in = None
        self.thread = None

    def count(self, number, *, pause=0.005, fail=None, fail_at=3):
        self.thread = threading.current_thread()
        try:
            for done in range(number):
                yield Step(done + 1, number, "counting")
                time.sleep(pause)
                if fail is not None and done == fail_at:
                    raise fail
            return number
        finally:
            self.closed_in = threading.current_thread()


class Heard:
    def __init__(self, job):
        self.job = job
        self.steps, self.answers, self.ends = [], [], []
        job.stepped.connect(self.steps.append)
        job.answered.connect(self.answers.append)
        job.ended.connect(self.ends.append)


@pytest.fixture
def owner(qapp):
    return QObject()


@pytest.fixture
def shown():
    from napari.utils.notifications import notification_manager

    lines = []

    def note(notification):
        lines.append((str(notification.severity).lower(), notification.message))

    notification_manager.notification_ready.connect(note)
    yield lines
    notification_manager.notification_ready.disconnect(note)


def start(stream, owner, show=None):
    job = Job(stream, title="Counting", parent=owner, show=show)
    return job, Heard(job)


def test_a_job_tells_every_step_and_then_its_answer(owner, qtbot):
    course = Course()
    _, heard = start(course.count(30), owner)
    qtbot.waitUntil(lambda: heard.ends == ["done"])
    assert heard.answers == [30]
    assert [step.done for step in heard.steps] == list(range(1, 31))
    assert course.thread is not threading.main_thread()


def in_pieces(seen, *, fail_at=None):
    def show(answer):
        for piece in range(3):
            if piece == fail_at:
                raise RuntimeError("no such layer")
            seen.append((answer, piece))
            QTimer.singleShot(0, lambda: seen.append("a turn"))
            yield

    return show


def test_an_answer_is_shown_piece_by_piece_with_turns_between_before_the_job_ends(owner, qtbot):
    seen = []
    _, heard = start(Course().count(3), owner, in_pieces(seen))
    heard.job.ended.connect(seen.append)
    qtbot.waitUntil(lambda: heard.ends == ["done"])
    assert [item for item in seen if item != "a turn"] == [(3, 0), (3, 1), (3, 2), "done"]
    assert "a turn" in seen[: seen.index((3, 1))]


def test_a_stopped_job_shows_what_there_is_and_is_told_that_nothing_came(owner, qtbot):
    seen = []
    job, heard = start(Course().count(100_000), owner, in_pieces(seen))
    qtbot.waitUntil(lambda: len(heard.steps) > 3)
    job.stop()
    qtbot.waitUntil(lambda: heard.ends == ["stopped"])
    assert [item for item in seen if item != "a turn"] == [(None, 0), (None, 1), (None, 2)]


def test_a_piece_that_cannot_be_shown_ends_the_job_as_failed(owner, qtbot):
    seen = []
    with qtbot.captureExceptions() as raised:
        _, heard = start(Course().count(3), owner, in_pieces(seen, fail_at=1))
        qtbot.waitUntil(lambda: heard.ends == ["failed"])
    assert "no such layer" in str(raised[0][1])


def test_pieces_are_not_shown_once_the_dock_is_gone(owner, qtbot):
    seen = []
    _, heard = start(Course().count(3), owner, in_pieces(seen))
    qtbot.waitUntil(lambda: bool(seen))
    deleted = []
    owner.destroyed.connect(lambda: deleted.append(True))
    owner.deleteLater()
    qtbot.waitUntil(lambda: bool(deleted))
    count = len(seen)
    qtbot.wait(50)
    assert len(seen) == count
    assert heard.ends == [] or count == 6


def test_stop_closes_the_stream_in_its_own_thread_and_drops_the_answer(owner, qtbot):
    course = Course()
    job, heard = start(course.count(100_000), owner)
    qtbot.waitUntil(lambda: len(heard.steps) > 3)
    job.stop()
    qtbot.waitUntil(lambda: heard.ends == ["stopped"])
    assert heard.answers == []
    assert course.closed_in is course.thread
    assert len(heard.steps) < 100_000


def test_a_runtime_error_flies_and_is_not_swallowed(owner, qtbot):
    with qtbot.captureExceptions() as flown:
        _, heard = start(Course().count(10, fail=RuntimeError("size mismatch")), owner)
        qtbot.waitUntil(lambda: heard.ends == ["failed"])
    assert [str(error) for _, error, _ in flown] == ["size mismatch"]
    assert heard.answers == []


def test_a_mistake_of_the_user_s_is_shown_in_one_line(owner, qtbot, shown):
    _, heard = start(Course().count(10, fail=InputError("voxels of 0 Å; give the size.")), owner)
    qtbot.waitUntil(lambda: heard.ends == ["failed"])
    assert shown == [("error", "voxels of 0 Å; give the size.")]


def test_a_job_stops_when_its_dock_is_gone(owner, qtbot):
    course = Course()
    job, _ = start(course.count(100_000), owner)
    qtbot.waitUntil(lambda: job.last is not None)
    owner.deleteLater()
    qtbot.waitUntil(lambda: course.closed_in is not None)


def left_at_work(course, qtbot):
    """A dock that is destroyed later, while its job runs, and that nothing but itself and its job know of."""
    owner = QWidget()
    owner.job, _ = start(course.count(100_000), owner)
    owner.job.owner = owner
    qtbot.waitUntil(lambda: owner.job.last is not None)
    owner.deleteLater()


def test_a_job_stops_when_its_dock_is_garbage_before_qt_destroys_it(qapp, qtbot):
    course = Course()
    left_at_work(course, qtbot)
    gc.collect()
    qtbot.waitUntil(lambda: course.closed_in is not None)


def test_a_job_stops_when_its_window_is_closed(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    owner, course = QObject(), Course()
    job, heard = start(course.count(100_000), owner)
    qtbot.waitUntil(lambda: job.last is not None)
    viewer.close()
    qtbot.waitUntil(lambda: course.closed_in is not None)
    qtbot.waitUntil(lambda: heard.ends == ["stopped"])


def test_the_activity_bar_shows_the_job_while_it_runs(make_napari_viewer, owner, qtbot):
    make_napari_viewer()
    from napari.utils import cancelable_progress, progress

    before = set(progress._all_instances)
    _, heard = start(Course().count(200), owner)
    (bar,) = set(progress._all_instances) - before
    assert isinstance(bar, cancelable_progress)
    qtbot.waitUntil(lambda: bar.n > 0)
    assert bar.total == 200
    bar.cancel()
    qtbot.waitUntil(lambda: heard.ends == ["stopped"])
    assert set(progress._all_instances) == before


def test_time_left_is_said_as_people_say_it():
    said = [time_words(seconds) for seconds in (None, 0.2, 12.4, 150, 7200)]
    assert said == ["", "1 s left", "12 s left", "2 min left", "2.0 h left"]


def test_a_stream_without_a_step_ends_as_any_other(qtbot):
    def nothing():
        yield from ()
        return 3

    owner = QObject()
    job, answers = Job(nothing(), title="nothing", parent=owner), []
    job.answered.connect(answers.append)
    with qtbot.waitSignal(job.ended, timeout=10_000):
        pass
    assert answers == [3]


def test_the_time_left_is_that_of_the_stage_and_once_a_job_was_done_that_of_the_whole():
    def learn(pace):
        pace.note(Step(0, 10, "learn"), 0)
        pace.note(Step(5, 10, "learn"), 5)

    first = jobs._Pace("a title of its own")
    learn(first)
    assert (first.seconds_left(5), first.whole) == (5.0, False)
    first.note(Step(0, 4, "predict"), 10)
    jobs._STAGES["a title of its own"] = first.durations(30)
    try:
        again = jobs._Pace("a title of its own")
        learn(again)
        assert (again.seconds_left(5), again.whole) == (25.0, True)
    finally:
        del jobs._STAGES["a title of its own"]
    counted = jobs._Pace("another")
    counted.note(Step(0, 10, "discover", whole=True), 0)
    assert counted.whole


def test_jobs_of_a_viewer_wait_for_one_another_and_one_stop_ends_them_all(qtbot):
    queue, began = jobs.JobQueue(), []

    def long(name):
        began.append(name)
        for number in range(1000):
            time.sleep(0.01)
            yield Step(number, 1000, name)

    first, second = (queue.start(long(name), title=name) for name in ("first", "second"))
    qtbot.waitUntil(lambda: first.last is not None, timeout=10_000)
    assert (queue.running, queue.waiting, began) == (first, [second], ["first"])
    outcomes = []
    second.ended.connect(outcomes.append)
    queue.stop()
    qtbot.waitUntil(lambda: queue.running is None, timeout=10_000)
    assert (began, outcomes, queue.waiting) == (["first"], ["stopped"], [])

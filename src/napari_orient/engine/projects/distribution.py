"""Tomograms worked on side by side by Dask: one at a time on each worker, tried again where a worker dies.

A worker reads the tomogram's file itself. A worker that is killed loses the tomogram that it works on and no other:
answers are fetched as soon as they are there. Closing the stream tells the workers to stop at their next step.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from napari_orient.engine.environment import machine_error
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.projects.clusters import connected
from napari_orient.engine.projects.content import file_digest, file_stamp
from napari_orient.engine.projects.task import Outcome, TomogramSource, TomogramTask, outcome_of
from napari_orient.engine.scheduler_options import SchedulerOptions
from napari_orient.engine.streams import Step

_POLL = 0.1
"""Seconds between two searches for answers; chosen: an answer waits no longer, and Stop acts at once for a person."""
_HANDED_OVER = 10.0
"""Most seconds that a worker waits until its last answer is fetched, before it begins the next tomogram; chosen."""
_REPORT = 1.0
"""Least seconds between two reports of progress, and two questions for Stop, of a worker."""


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happened: news of a tomogram, by its place in the project, or a message alone."""

    index: int = -1
    news: Outcome | Step | None = None
    message: str = ""


def distributed(
    tasks: Mapping[int, tuple[Tomogram, Particles]],
    task: TomogramTask,
    options: SchedulerOptions,
    *,
    digests: bool = False,
) -> Iterator[Event]:
    """What happens while the task is done for these tomograms: their progress and outcomes, an event a second at least.

    Parameters
    ----------
    digests : whether workers compute the digests of the tomograms' files too, which they have just read.

    Raises
    ------
    InputError
        If Dask is not installed, or the scheduler cannot be reached or goes away.
    """
    name = f"napari-orient-{uuid.uuid4().hex[:12]}"
    yield Event(message=f"Starting {options.words}")
    with connected(options, tomograms=len(tasks)) as client, _reports(client, name) as reports:
        held = client.submit(_same, task, key=f"{name}-task", pure=False)
        waiting = iter(tasks.items())
        futures: dict[Any, int] = {}
        workers, counted = 0, 0.0
        try:
            while True:
                # As many tomograms as there are workers: Dask would give several to the first one that is there.
                if time.monotonic() - counted > _REPORT:
                    workers, counted = len(client.scheduler_info(n_workers=-1)["workers"]), time.monotonic()
                for index, (tomogram, particles) in _some(waiting, max(workers, 1) - len(futures)):
                    source = TomogramSource.of(tomogram)
                    key = f"{name}-{index}"
                    future = client.submit(
                        work,
                        held,
                        source,
                        particles,
                        (index, name),
                        digests,
                        key=key,
                        pure=False,
                        retries=options.retries,
                    )
                    futures[future] = index
                if not futures:
                    return
                yield from _fetched(futures)
                yield from _drained(reports)
                yield Event(message="" if workers else "Waiting for workers")
                time.sleep(_POLL)
        finally:
            _stop(client, name, futures)


def _some(items: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in range(count):
        try:
            yield next(items)
        except StopIteration:
            return


def _fetched(futures: dict[Any, int]) -> Iterator[Event]:
    """The outcomes that are there; their futures are taken out."""
    for future in [item for item in futures if item.done()]:
        index = futures.pop(future)
        if future.status == "finished":
            yield Event(index, future.result())
        elif future.status == "error":
            yield Event(index, Outcome(error=_words(future.exception())))
        else:
            raise InputError("the Dask scheduler went away; what is done is kept. Start it, and run with --resume.")


def _words(error: BaseException) -> str:
    """What was wrong with a task that Dask gave up."""
    if type(error).__name__ == "KilledWorker":
        return "every worker that tried it died; was there too little memory?"
    return str(machine_error(error) or f"{type(error).__name__}: {error}")


@contextmanager
def _reports(client: Any, topic: str) -> Iterator[queue.SimpleQueue[Event]]:
    """Context with the queue of the workers' reports of progress."""
    found: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def report(event: tuple[float, tuple[int, int, int, str]]) -> None:
        index, done, total, message = event[1]
        found.put(Event(index, Step(done, total, message)))

    client.subscribe_topic(topic, report)
    yield found


def _drained(reports: queue.SimpleQueue[Event]) -> Iterator[Event]:
    while not reports.empty():
        yield reports.get()


def _stop(client: Any, name: str, futures: Mapping[Any, int]) -> None:
    """Tell the workers to stop, if some are still at work."""
    if not futures or client.status != "running":
        return
    _dask().Event(name, client=client).set()
    client.cancel(list(futures), force=True)


def _dask() -> Any:
    """The package distributed, whose functions carry no types."""
    return import_module("distributed")


# --- on a worker ----------------------------------------------------------------------------------------------------


def _same(task: TomogramTask) -> TomogramTask:
    """The task, as a future that workers fetch once, and the scheduler can make again."""
    return task


def _hand_over(worker: Any, name: str) -> None:
    """Wait until the worker's last answer is fetched: a worker that is killed then loses one tomogram alone."""
    end = time.monotonic() + _HANDED_OVER
    while time.monotonic() < end:
        held = [str(key) for key in list(worker.data)]
        if not any(key.startswith(name) and not key.endswith("-task") for key in held):
            return
        time.sleep(_POLL / 2)


def work(
    task: TomogramTask, source: TomogramSource, particles: Particles, place: tuple[int, str], digest: bool
) -> Outcome:
    """The outcome of the task for one tomogram, on a worker of Dask.

    Parameters
    ----------
    place : of the tomogram in the project, and the topic that its progress goes to.
    digest : whether the digest of its file is computed too.
    """
    index, name = place
    dask = _dask()
    worker, flag, reported = dask.get_worker(), dask.Event(name), 0.0
    _hand_over(worker, name)
    try:
        stream = outcome_of(task, source.open(), particles)
    except InputError as error:
        return Outcome(error=str(error))
    try:
        while True:
            step = next(stream)
            if time.monotonic() - reported > _REPORT:
                worker.log_event(name, (index, step.done, step.total, step.message))
                if flag.is_set():
                    return Outcome(error="stopped.")
                reported = time.monotonic()
    except StopIteration as end:
        outcome: Outcome = end.value
        if digest and source.path is not None and outcome.particles is not None:
            return replace(outcome, file_digest=(file_stamp(source.path), file_digest(source.path)))
        return outcome
    finally:
        stream.close()

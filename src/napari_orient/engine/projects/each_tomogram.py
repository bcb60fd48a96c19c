"""A task done for each tomogram of a project, and its answers as one list; and the plan of what such a run would do.

The tomograms are worked on one after another in this process, or side by side by Dask. The list is the same to the byte
either way, and where it is made of an earlier run's results: it has the order of the list that was read. What fails is
reported, and the rest is done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from napari_orient.engine.environment import machine_error
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import with_columns_of_all
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, in_list_order
from napari_orient.engine.projects.distribution import SchedulerOptions, distribute
from napari_orient.engine.projects.stored_results import (
    DONE,
    FAILED,
    STORED,
    TO_DO,
    StoredResults,
    TomogramState,
    files_of,
)
from napari_orient.engine.projects.task import Outcome, SharingTask, TomogramTask, lead_of, outcome_of
from napari_orient.engine.streams import Note, Step, Stream, map_steps

PARTS = 100
"""Parts that the progress of one tomogram is counted in."""
_HERE = SchedulerOptions()


@dataclass
class ProjectResult:
    """What was done so far of the tomograms of a project: it grows while the task runs, and holds when it is stopped.

    Parameters
    ----------
    done : outcome of each tomogram that is done, by its place in the project.
    failed : what was wrong, by the name of the tomogram.
    """

    done: dict[int, Outcome] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> list[Particles]:
        """Particles of each tomogram that is done, in the order of the project."""
        found = (self.done[index].particles for index in sorted(self.done))
        return [particles for particles in found if particles is not None]

    @property
    def particles(self) -> Particles:
        """The particles of all tomograms that are done, in the order of their list."""
        return in_list_order(concatenate(with_columns_of_all(self.parts)))

    @property
    def methods(self) -> tuple[str, ...]:
        """How the tomograms were worked on, such as ``precise``; each way once, sorted."""
        return tuple(sorted({outcome.method for outcome in self.done.values()} - {""}))

    @property
    def failed_words(self) -> str:
        """Which tomograms failed, in a line; empty where none did."""
        total = len(self.done) + len(self.failed)
        return f"{len(self.failed)} of {total} tomograms failed: {', '.join(self.failed)}." if self.failed else ""


def for_each_tomogram(
    pairs: Labelled,
    task: TomogramTask,
    result: ProjectResult,
    *,
    scheduler: SchedulerOptions = _HERE,
    stored: StoredResults | None = None,
    resume: bool = False,
    last: bool = True,
) -> Stream[Step, ProjectResult]:
    """The result, with the task done for every tomogram; a note begins with its tomogram where there are several.

    Parameters
    ----------
    result : filled on the way, so that what is done survives a stop.
    scheduler : where the tomograms are worked on: in this process, in several, or on a cluster.
    stored : where the particles of each tomogram are kept as soon as it is done.
    resume : take from there what is done, by the content of tomogram, particles, model and options.
    last : whether what is stored of other runs is removed at the end.

    Raises
    ------
    InputError
        If all fail: what was wrong with the first; or the scheduler cannot be reached.
    """
    run = _Run(pairs, task, result, stored)
    if resume:
        yield from run.take_stored()
    run.write_table()
    yield from run.take_lead()
    here = scheduler.kind is None or not run.to_do
    try:
        yield from run.here() if here else run.elsewhere(scheduler)
    finally:
        with suppress(InputError, OSError):
            run.write_table()
    if not result.done and result.failed:
        name, words = next(iter(result.failed.items()))
        raise run.unexpected or InputError(f"all {len(result.failed)} tomograms failed; {name}: {words}")
    if run.stored is not None and last:
        run.stored.remove_others()
    return result


@dataclass(frozen=True)
class ProjectRun:
    """Where the tomograms of a project are worked on, and where what is done is kept.

    Parameters
    ----------
    stored : where the particles of each are kept; None keeps them nowhere.
    resume : take from there what is done.
    """

    scheduler: SchedulerOptions = _HERE
    stored: StoredResults | None = None
    resume: bool = False

    def over(
        self, pairs: Labelled, task: TomogramTask, result: ProjectResult, *, last: bool = True
    ) -> Stream[Step, ProjectResult]:
        """The result, with the task done for every tomogram; see `for_each_tomogram`."""
        return for_each_tomogram(
            pairs, task, result, scheduler=self.scheduler, stored=self.stored, resume=self.resume, last=last
        )


class _Run:
    """One run over a project's tomograms.

    Attributes
    ----------
    unexpected : the first exception that was no `InputError`.
    """

    def __init__(
        self, pairs: Labelled, task: TomogramTask, result: ProjectResult, stored: StoredResults | None
    ) -> None:
        self.pairs, self.task, self.result, self.stored = pairs, task, result, stored
        self.unexpected: BaseException | None = None
        self._unstored = False
        self.alone = len(pairs) == 1
        self.lead = lead_of(pairs, task)
        self._keys: dict[int, str] = {}
        self._failed: dict[int, tuple[str, float]] = {}
        self._left_out = dict(result.failed)

    @property
    def to_do(self) -> list[int]:
        """Places of the tomograms that are neither done nor failed."""
        return [index for index in range(len(self.pairs)) if index not in self.result.done | self._failed]

    def take_stored(self) -> Stream[Step, None]:
        """Take what an earlier run did of the same content."""
        if self.stored is None or not self.stored.any:
            return
        total = PARTS * len(self.pairs)
        for index, (tomogram, particles) in enumerate(self.pairs):
            yield Step(PARTS * index, total, f"Comparing {tomogram.name} with what is done")
            with suppress(InputError):
                key = self._keys[index] = self.stored.key(self.task, tomogram, particles, lead=self.lead)
                found = self.stored.find(key, particles)
                if found is not None:
                    self.result.done[index] = found
        count = len(self.result.done)
        note = Note(f"{count} of {len(self.pairs)} tomograms were done before with the same content.")
        yield Step(PARTS * count, total, "Compared", notes=() if self.alone else (note,))

    def take_lead(self) -> Stream[Step, None]:
        """Take from the first tomogram what the work on all begins from; where it fails, each begins anew."""
        if self.lead is None or not self.to_do or not isinstance(self.task, SharingTask):
            return
        name, before, total = self.lead[0].name, self._count, PARTS * len(self.pairs)

        def of_lead(step: Step) -> Step:
            # Its other notes are said again when its own turn comes.
            notes = tuple(Note(f"{name}: {note.text}", note.severity) for note in step.notes if step.total == 1)
            return Step(before, total, f"{name}, the first: {step.message}", notes=notes)

        with suppress(InputError):
            self.task = yield from map_steps(self.task.led_by(*self.lead), of_lead)

    def here(self) -> Stream[Step, None]:
        """Work on the tomograms one after another in this process."""
        for index in self.to_do:
            tomogram, particles = self.pairs[index]
            notes: list[Note] = []
            stream = outcome_of(self.task, tomogram, particles, notes=notes)
            try:
                outcome = yield from self._among_all(stream, index)
            except Exception as error:
                if self.alone:
                    raise
                self.unexpected = self.unexpected or error
                words = str(machine_error(error) or f"{type(error).__name__}: {error}")
                outcome = Outcome(error=words, notes=tuple(notes))
            yield from self.add(index, outcome)

    def elsewhere(self, scheduler: SchedulerOptions) -> Stream[Step, None]:
        """Work on the tomograms side by side in other processes."""
        running: dict[int, Step] = {}
        tasks = {index: self.pairs[index] for index in self.to_do}
        for event in distribute(tasks, self.task, scheduler, digests=self.stored is not None):
            if isinstance(event.news, Outcome):
                running.pop(event.index, None)
                name = self._prefix(event.index)
                notes = tuple(Note(f"{name}{note.text}", note.severity) for note in event.news.notes)
                yield self._step(running, notes=notes)
                yield from self.add(event.index, event.news)
            elif isinstance(event.news, Step) and event.index not in self.result.done | self._failed:
                running[event.index] = event.news
            yield self._step(running, event.message)

    def add(self, index: int, outcome: Outcome) -> Stream[Step, None]:
        """Take in the outcome of a tomogram, and keep it."""
        name, total = self.pairs[index][0].name, PARTS * len(self.pairs)
        if outcome.particles is None:
            if self.alone:
                raise InputError(outcome.error)
            self.result.failed[name] = outcome.error
            self._failed[index] = (outcome.error, outcome.seconds)
            failed = Note(f"{name} failed: {outcome.error}", "warning")
            yield Step(self._count, total, f"{name}: failed", notes=(failed,))
        else:
            self.result.done[index] = outcome
            if self.stored is not None:
                yield from self._store(partial(self._save, self.stored, index, outcome))
        yield from self._store(self.write_table)

    def _save(self, stored: StoredResults, index: int, outcome: Outcome) -> None:
        tomogram, particles = self.pairs[index]
        if outcome.file_digest is not None and tomogram.path is not None:
            stored.digests.add(tomogram.path, *outcome.file_digest)
        key = self._keys.get(index) or stored.key(self.task, tomogram, particles, lead=self.lead)
        stored.save(key, outcome, particles)

    def _store(self, write: Callable[[], None]) -> Stream[Step, None]:
        """Write what is kept on the way; where it cannot be written the work goes on, which is said once."""
        try:
            write()
        except (InputError, OSError) as error:
            if not self._unstored:
                self._unstored = True
                note = Note(f"{error} The work goes on, and the list of all is written at its end.", "warning")
                yield Step(self._count, PARTS * len(self.pairs), "What is done is not stored", notes=(note,))

    def write_table(self) -> None:
        """Write how each tomogram stands."""
        if self.stored is None:
            return
        rows = [self._state(index) for index in range(len(self.pairs))]
        left = [TomogramState(name, FAILED, notes=(words,)) for name, words in self._left_out.items()]
        self.stored.write_table([*rows, *left])

    def _state(self, index: int) -> TomogramState:
        tomogram, particles = self.pairs[index]
        done = self.result.done.get(index)
        if done is not None and done.particles is not None:
            notes = tuple(str(note) for note in done.notes if note.severity == "warning")
            state = STORED if done.stored else DONE
            return TomogramState(tomogram.name, state, len(done.particles), done.seconds, done.method, notes)
        if index in self._failed:
            words, seconds = self._failed[index]
            return TomogramState(tomogram.name, FAILED, len(particles), seconds, notes=(words,))
        return TomogramState(tomogram.name, TO_DO, len(particles))

    @property
    def _count(self) -> int:
        """Parts that are done of all tomograms'."""
        return PARTS * (len(self.result.done) + len(self._failed))

    def _prefix(self, index: int) -> str:
        return "" if self.alone else f"{self.pairs[index][0].name}: "

    def _step(self, running: Mapping[int, Step], message: str = "", *, notes: tuple[Note, ...] = ()) -> Step:
        """The progress of all tomograms while some are worked on side by side."""
        completed = len(self.result.done) + len(self._failed)
        parts = sum(PARTS * step.done // max(step.total, 1) for step in running.values())
        names = ", ".join(self.pairs[index][0].name for index in sorted(running)[:3])
        words = message or f"{completed} of {len(self.pairs)} tomograms done" + (f"; {names}" if names else "")
        total = PARTS * len(self.pairs)
        return Step(min(self._count + parts, total), total, words, notes=notes)

    def _among_all(self, stream: Generator[Step, None, Outcome], index: int) -> Stream[Step, Outcome]:
        """The stream of one tomogram; among several, in parts of a tomogram and with its name.

        Each stage of the work on a tomogram counts its own steps; among several what is done never becomes less.
        """
        if self.alone:
            return (yield from stream)
        name, count, before = self.pairs[index][0].name, len(self.pairs), self._count
        done = before

        def among_all(step: Step) -> Step:
            nonlocal done
            done = max(done, before + PARTS * step.done // max(step.total, 1))
            notes = tuple(Note(f"{name}: {note.text}", note.severity) for note in step.notes)
            return Step(done, PARTS * count, f"{name} ({index + 1} of {count}): {step.message}", notes=notes)

        return (yield from map_steps(stream, among_all))


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedTomogram:
    """One tomogram of a plan.

    Parameters
    ----------
    size : voxels along x, y, z.
    megabytes : of its file; of its voxels where it has none.
    seconds : about how long it takes on one core; 0 where it is done.
    """

    name: str
    size: tuple[int, int, int]
    voxel_size: float
    megabytes: float
    picks: int
    state: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Parameters
    ----------
    measured : whether the times are those of an earlier run of the same project, not the usual ones.
    workers : tomograms that are worked on side by side.
    """

    tomograms: tuple[PlannedTomogram, ...]
    measured: bool
    workers: int

    @property
    def to_do(self) -> tuple[PlannedTomogram, ...]:
        """The tomograms that are not done."""
        return tuple(item for item in self.tomograms if item.state == TO_DO)

    @property
    def seconds(self) -> float:
        """About how long the run takes."""
        if not self.to_do:
            return 0.0
        seconds = [item.seconds for item in self.to_do]
        return max(*seconds, sum(seconds) / self.workers)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The plan as a table of texts, its heading first."""
        yield ("tomogram", "voxels", "Å", "MB", "picks", "state", "seconds")
        for item in self.tomograms:
            size = " × ".join(map(str, item.size))
            seconds = f"{item.seconds:.0f}" if item.state == TO_DO else ""
            yield (
                item.name,
                size,
                f"{item.voxel_size:g}",
                f"{item.megabytes:.0f}",
                str(item.picks),
                item.state,
                seconds,
            )


def plan(
    pairs: Labelled,
    task: TomogramTask,
    *,
    workers: int = 1,
    stored: StoredResults | None = None,
    resume: bool = False,
) -> Stream[Step, Plan]:
    """What `for_each_tomogram` would do with the same arguments; nothing is changed.

    Parameters
    ----------
    workers : tomograms that are worked on side by side.
    """
    timings = [] if stored is None else stored.timings()
    planned = []
    for index, (tomogram, particles) in enumerate(pairs):
        yield Step(index, len(pairs), f"Comparing {tomogram.name} with what is done")
        state = TO_DO
        if resume and stored is not None and stored.any:
            with suppress(InputError):
                found = stored.find(stored.key(task, tomogram, particles, lead=lead_of(pairs, task)), particles)
                state = TO_DO if found is None else STORED
        seconds = 0.0 if state == STORED else _seconds(len(particles), task, timings)
        planned.append(
            PlannedTomogram(
                tomogram.name,
                tomogram.extent.size,
                tomogram.voxel_size,
                byte_count(tomogram) / 1e6,
                len(particles),
                state,
                seconds,
            )
        )
    return Plan(tuple(planned), bool(timings), workers)


def _seconds(count: int, task: TomogramTask, timings: Sequence[tuple[int, float]]) -> float:
    """About how long so many particles take: as the task says, scaled to what earlier tomograms of the project took."""
    if not timings:
        return task.seconds(count)
    usual = np.array([task.seconds(done) for done, _ in timings])
    return float(task.seconds(count) * np.median([taken for _, taken in timings] / usual))


def byte_count(tomogram: Tomogram) -> int:
    """Bytes of a tomogram's file, or of its voxels where it has none."""
    if tomogram.path is None:
        return int(np.prod(tomogram.density.shape)) * tomogram.density.dtype.itemsize
    return sum(item.stat().st_size for item in files_of(tomogram.path))

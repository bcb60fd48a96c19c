"""What a run over a project would do: each tomogram with its size and picks, what is done, and the time left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Labelled, Tomogram
from napari_orient.engine.projects.stored_results import STORED, TO_DO, StoredResults
from napari_orient.engine.projects.task import TomogramTask, lead_of
from napari_orient.engine.streams import Step, Stream


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
    return sum(item.stat().st_size for item in _files(tomogram.path))


def _files(path: Path) -> list[Path]:
    return [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]

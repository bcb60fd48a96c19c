"""A task: what is done for one tomogram of a project, in this process or in another one; and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.particles import Labelled, Particles, Tomogram
from napari_orient.engine.streams import Note, Step, Stream

if TYPE_CHECKING:
    from napari_orient.engine.model.gridding import Gridding

HalfSums: TypeAlias = "tuple[Gridding, Gridding]"
"""Sums of a tomogram's particles in either half of an average."""


class TomogramTask(Protocol):
    """What is done for one tomogram. Dask sends it to other processes, so it holds values alone."""

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, Particles | HalfSums]:
        """The particles with what was found of them, or their sums, after steps of progress."""

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        """All that the answer depends on beside the tomogram's voxels and the particles: models, options, metadata.

        Raises
        ------
        InputError
            If something that the options name cannot be read.
        """

    def method(self, count: int) -> str:
        """How so many particles are worked on here, for the provenance of the list, such as ``precise``."""

    def seconds(self, count: int) -> float:
        """About how long so many particles of one tomogram take on one core, in seconds."""


@runtime_checkable
class SharingTask(TomogramTask, Protocol):
    """A task that may begin the work on every tomogram from what was found of one of them, its lead."""

    @property
    def shares(self) -> bool:
        """Whether it does."""

    def led_by(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, TomogramTask]:
        """The same task with what it takes from the lead: values alone, for it is sent to other processes."""


def lead_of(pairs: Labelled, task: TomogramTask) -> tuple[Tomogram, Particles] | None:
    """The tomogram that the others' work begins from, the first one; None where each is on its own."""
    return pairs[0] if len(pairs) > 1 and isinstance(task, SharingTask) and task.shares else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What came of the task for one tomogram.

    Parameters
    ----------
    particles : with what was found; None where the task failed.
    sums : of the particles, where the task is to add them up.
    error : why it failed; empty where it did not.
    method : as `TomogramTask.method` says it where the work was done.
    notes : what a person should know.
    seconds : of work; of an outcome of an earlier run, as long as it took then.
    stored : whether it is of an earlier run.
    file_digest : stamp and digest of the tomogram's file, where they were computed beside the work.
    """

    particles: Particles | None = None
    sums: HalfSums | None = None
    error: str = ""
    method: str = ""
    notes: tuple[Note, ...] = field(default=())
    seconds: float = 0.0
    stored: bool = False
    file_digest: tuple[str, str] | None = None


def outcome_of(
    task: TomogramTask, tomogram: Tomogram, particles: Particles, *, notes: list[Note] | None = None
) -> Stream[Step, Outcome]:
    """What comes of a task for one tomogram, after its steps; an `InputError` is an outcome.

    Parameters
    ----------
    notes : where the notes of the steps are collected while it runs.
    """
    began = time.monotonic()
    collected = [] if notes is None else notes
    try:
        stream = task(tomogram, particles)
        try:
            while True:
                step = next(stream)
                collected.extend(step.notes)
                yield step
        except StopIteration as end:
            found: Particles | HalfSums = end.value
        finally:
            stream.close()
    except InputError as error:
        return Outcome(error=str(error), notes=tuple(collected), seconds=time.monotonic() - began)
    return Outcome(
        particles=found if isinstance(found, Particles) else particles,
        sums=None if isinstance(found, Particles) else found,
        method=task.method(len(particles)),
        notes=tuple(collected),
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True, eq=False)
class TomogramSource:
    """Where another process finds a tomogram: the file, or the tomogram itself where it is in memory alone."""

    path: Path | None
    voxel_size: float
    name: str
    shape: tuple[int, ...]
    held: Tomogram | None = None

    @classmethod
    def of(cls, tomogram: Tomogram) -> TomogramSource:
        """The source of an open tomogram."""
        path, shape = tomogram.path, tuple(tomogram.density.shape)
        # Voxels that are read from a file part by part cannot be sent as they are.
        held = replace(tomogram, density=np.asarray(tomogram.density)) if path is None else None
        return cls(None if path is None else path.resolve(), tomogram.voxel_size, tomogram.name, shape, held)

    def open(self) -> Tomogram:
        """The tomogram.

        Raises
        ------
        InputError
            If the file cannot be read here, or is not what it was.
        """
        if self.path is None:
            if self.held is None:
                raise InputError(f"{self.name} has neither a file nor voxels.")
            return self.held
        opened = replace(read_tomogram(self.path, voxel_size=self.voxel_size), name=self.name)
        if tuple(opened.density.shape) != self.shape:
            raise InputError(f"{self.path} has another size than it had when the run began. Start it again.")
        return opened

"""Tasks of projects for tests, which other processes import: they turn particles over, fail, or wait to be killed."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.streams import Note, Step


@dataclass(frozen=True)
class MeanTask:
    """The particles with the mean of their tomogram, and rotations; what is named fails, stops, or kills its process.

    Parameters
    ----------
    seen : folder where each run leaves a file; kills happen once.
    """

    scale: float = 1.0
    failing: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    killing: tuple[str, ...] = ()
    slow: float = 0.0
    seen: Path | None = None

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Generator[Step, None, Particles]:
        yield Step(0, 2, "Working", notes=(Note("a note"),))
        self._act(tomogram.name)
        end = time.monotonic() + self.slow
        while time.monotonic() < end:
            time.sleep(0.05)
            yield Step(1, 2, "Working")
        mean = np.full(len(particles), self.scale * float(np.mean(np.asarray(tomogram.density))))
        yield Step(2, 2, "Working")
        return particles.replace(
            rotations=np.tile(np.eye(3), (len(particles), 1, 1)), extra={**particles.extra, "mean": mean}
        ).located_in(tomogram)

    def _act(self, name: str) -> None:
        first = self.seen is None or not list(self.seen.glob(f"{name}.*"))
        if self.seen is not None:
            (self.seen / f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()
        if name in self.stopped:
            raise KeyboardInterrupt
        if name in self.failing:
            raise InputError("it is flat.")
        if name in self.broken:
            raise ZeroDivisionError("a fault of the program")
        if name in self.killing and first:
            os.kill(os.getpid(), 9)

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        return (self.scale,)

    def method(self, count: int) -> str:
        return "fast" if count > 3 else "precise"

    def seconds(self, count: int) -> float:
        return 1.0 + count

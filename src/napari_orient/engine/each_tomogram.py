"""A task done for each tomogram of a project, and its answers as one list; what fails is reported, the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, in_list_order
from napari_orient.engine.streams import Note, Step, Stream, map_steps

Task = Callable[[Tomogram, Particles], Generator[Step, None, Particles]]
"""What is done for one tomogram: its particles in, a stream that ends in them with poses."""
_PARTS = 100
"""Parts that the progress of one tomogram is counted in."""


@dataclass
class ProjectResult:
    """What was done so far of the tomograms of a project: it grows while the task runs, and holds when it is stopped.

    Parameters
    ----------
    parts : particles of each tomogram that is done, in order.
    failed : what was wrong, by the name of the tomogram.
    """

    parts: list[Particles] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def particles(self) -> Particles:
        """The particles of all tomograms that are done, in the order of their list."""
        return in_list_order(concatenate(self.parts))

    @property
    def failed_words(self) -> str:
        """Which tomograms failed, in a line; empty where none did."""
        total = len(self.parts) + len(self.failed)
        return f"{len(self.failed)} of {total} tomograms failed: {', '.join(self.failed)}." if self.failed else ""


def for_each_tomogram(pairs: Labelled, task: Task, result: ProjectResult) -> Stream[Step, ProjectResult]:
    """The result, with the task done for every tomogram; a note begins with its tomogram where there are several.

    Parameters
    ----------
    result : filled on the way, so that what is done survives a stop.

    Raises
    ------
    InputError
        If all fail: what was wrong with the first.
    """
    for index, (tomogram, particles) in enumerate(pairs):
        try:
            part = yield from _one_of(task(tomogram, particles), tomogram.name, index, len(pairs))
        except InputError as error:
            if len(pairs) == 1:
                raise
            result.failed[tomogram.name] = str(error)
            note = Note(f"{tomogram.name} failed: {error}", "warning")
            yield Step(_PARTS * (index + 1), _PARTS * len(pairs), f"{tomogram.name}: failed", notes=(note,))
        else:
            result.parts.append(part)
    if not result.parts and result.failed:
        name, words = next(iter(result.failed.items()))
        raise InputError(f"all {len(result.failed)} tomograms failed; {name}: {words}")
    return result


def _one_of(stream: Generator[Step, None, Particles], name: str, index: int, count: int) -> Stream[Step, Particles]:
    """The stream of one tomogram; among several, in parts of a tomogram and with its name."""
    if count == 1:
        return (yield from stream)

    def among_all(step: Step) -> Step:
        done = _PARTS * index + _PARTS * step.done // max(step.total, 1)
        notes = tuple(Note(f"{name}: {note.text}", note.severity) for note in step.notes)
        return Step(done, _PARTS * count, f"{name} ({index + 1} of {count}): {step.message}", notes=notes)

    return (yield from map_steps(stream, among_all))

"""Stages of a long experiment: each writes a record of its options and results, and is not run again when finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_orient.engine.errors import InputError
from napari_orient.engine.folders import first_difference
from napari_orient.engine.outputs import write_text
from napari_orient.engine.streams import Step, Stream

Record = dict[str, Any]
"""Plain values fit for JSON."""

_STEPS = 1000
"""Steps that progress is counted in."""


@dataclass(frozen=True)
class Stage:
    """One part of the experiment: its title, its expected seconds, and its work."""

    title: str
    seconds: float
    work: Callable[[], Stream[Step, object]]


def run_stages(stages: Sequence[Stage], *, times: Path | None = None) -> Stream[Step, None]:
    """Run the stages one after the other, as one stream whose steps count thousandths of the expected time of all.

    A stage that is resumed counts from where it was stopped. The seconds that each took, over all resumptions, are
    added up in the file ``times``.
    """
    whole = sum(stage.seconds for stage in stages) or 1.0
    before = 0.0
    for number, stage in enumerate(stages, start=1):
        first: float | None = None
        share = 0.0
        with _timed(times, stage.title), closing(stage.work()) as stream:
            for step in stream:
                first = step.done if first is None else first
                share = max(share, (step.done - first) / max(step.total - first, 1))
                done = round(_STEPS * (before + min(share, 1.0) * stage.seconds) / whole)
                yield Step(done, _STEPS, f"{number} of {len(stages)}, {stage.title}: {step.message}")
        before += stage.seconds
    yield Step(_STEPS, _STEPS, "all stages finished")


@contextmanager
def _timed(times: Path | None, title: str) -> Iterator[None]:
    """Context that adds the seconds of its block to those under the title, whether the block ends or is stopped."""
    began = time.monotonic()
    try:
        yield
    finally:
        if times is not None:
            seconds = read_record(times) if times.exists() else {}
            write_record(times, {**seconds, title: round(seconds.get(title, 0.0) + time.monotonic() - began, 1)})


# --- records --------------------------------------------------------------------------------------------------------


def open_record(path: Path, made_with: Mapping[str, Any]) -> Record | None:
    """Results of a finished stage; None for one that is to be run, whose record is then written.

    Raises
    ------
    InputError
        If the stage was begun with other options: which, and what to do.
    """
    wanted = _plain(made_with)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, {"made_with": wanted})
        return None
    record = read_record(path)
    difference = first_difference(record.get("made_with"), wanted)
    if difference:
        raise InputError(
            f"{path} was made with {difference}. Give the options it was made with, or another folder (--output), "
            f"or remove {path.name} and what belongs to it."
        )
    found: Record | None = record.get("found")
    return found


def close_record(path: Path, found: Mapping[str, Any]) -> None:
    """Add its results to a stage's record."""
    write_record(path, {**read_record(path), "found": _plain(found)})


def read_record(path: Path) -> Record:
    """Record in a file.

    Raises
    ------
    InputError
        If it is no JSON.
    """
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        # What a damaged record has in place of the options or the results would be read much later.
        return {name: dict(value) for name, value in record.items()} if {"made_with", "found"} & set(record) else record
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise InputError(
            f"{path} is damaged: it holds no record of a stage. Remove it to do the stage again."
        ) from error


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record to a file, which appears whole or not at all."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _plain(record: Mapping[str, Any]) -> Record:
    return dict(json.loads(json.dumps(record)))

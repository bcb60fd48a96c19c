"""Edits of particles in a layer: each, napari's own too, is one step of its history, and is undone exactly.

A step keeps the layer's values before and after. Values that it did not change are shared, so that a rotation of one
particle among ten thousand keeps nine columns and not the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from napari.utils.events import EmitterGroup
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.engine.io.columns import POSE_UNKNOWN, RESULT_COLUMNS
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.layers import layer_data, layer_rows
from napari_orient.gui.layers.layer_rows import Rows, forget, put_rows, recall, remember, renew_pose_columns, rows_of
from napari_orient.gui.widgets.basic import counted

if TYPE_CHECKING:
    import pandas as pd


LIMIT = 128 * 2**20
"""Bytes that the steps of one layer may keep; the oldest are forgotten first."""

STATUS_ACTIONS = {ACCEPTED: "accept", REJECTED: "reject", "": "clear the status of"}


@dataclass(frozen=True, eq=False)
class State:
    """All that a layer of particles holds at one time: values alone, never written to.

    ``own_bytes`` are those that the state before it does not hold already.
    """

    data: NDArray[Any]
    columns: Mapping[str, pd.Series]
    said: Mapping[str, Any]
    selected: frozenset[int]
    own_bytes: int

    @classmethod
    def of(cls, layer: Points, *, like: State | None = None) -> State:
        """The state of a layer now; what it has in common with another is shared with that."""
        data, own = np.array(layer.data), 0
        if like is not None and _same(data, like.data):
            data = like.data
        else:
            own += data.nbytes
        columns = {}
        for name, column in layer.features.reset_index(drop=True).items():
            old = None if like is None else like.columns.get(str(name))
            if old is None or not _same_column(column, old):
                old = column.copy()
                own += old.memory_usage(index=False, deep=True)
            columns[str(name)] = old
        return cls(data, columns, dict(layer_data.about(layer)), frozenset(map(int, layer.selected_data)), own)

    def same_as(self, other: State) -> bool:
        """Whether the two differ in nothing but what is selected, given that one was taken ``like`` the other."""
        shared = self.data is other.data and list(self.columns) == list(other.columns)
        return shared and self.said == other.said and all(self.columns[n] is other.columns[n] for n in self.columns)

    def show(self, layer: Points) -> None:
        """Restore this state in the layer, and emit one event."""
        import pandas as pd

        with layer.events.data.blocker(), layer.events.features.blocker():
            layer.selected_data = set()
            if not _same(np.asarray(layer.data), self.data):
                layer.data = self.data.copy()
            layer.features = pd.DataFrame({name: column.copy() for name, column in self.columns.items()})
        said = layer.metadata.setdefault(layer_data.KEY, {})
        said.clear()
        said.update(self.said)
        layer.selected_data = set(self.selected)
        announce(layer, self.selected)


def announce(layer: Points, at: Any) -> None:
    """Emit one data event for the layer, after all of it has changed."""
    layer.events.features()
    layer.events.data(value=layer.data, action="changed", data_indices=tuple(at), vertex_indices=((),))


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _same_column(first: pd.Series, second: pd.Series) -> bool:
    if first.dtype != second.dtype or len(first) != len(second):
        return False
    if isinstance(first.dtype, np.dtype) and first.dtype != object:
        return _same(first.to_numpy(), second.to_numpy())
    return first.equals(second)


@dataclass(frozen=True, eq=False)
class EditStep:
    """One change: what it did in words, and the layer's states before and after."""

    words: str
    before: State
    after: State


class History:
    """The changes of one layer, oldest first, and how many of them are in force.

    ``events.changed`` is emitted when it changes, ``events.edited`` on an edit by napari's own tools, with
    the rows that were added or moved; a change made within that event belongs to the same step.
    """

    def __init__(self, layer: Points, *, limit: int = LIMIT) -> None:
        self.layer, self.limit = layer, limit
        self.steps: list[EditStep] = []
        self.done = 0
        self.events = EmitterGroup(source=self, changed=None, edited=None)
        self._before: State | None = None
        self._depth = 0
        layer.events.data.connect(self._heard, position="first")

    @property
    def undoable(self) -> str:
        """What undo would take back, in words; empty where there is nothing."""
        return self.steps[self.done - 1].words if self.done else ""

    @property
    def redoable(self) -> str:
        """What redo would do again, in words; empty where there is nothing."""
        return self.steps[self.done].words if self.done < len(self.steps) else ""

    @contextmanager
    def changing(self, words: str) -> Iterator[None]:
        """All that happens to the layer meanwhile is one step; if it fails, the layer is as it was before."""
        if self._depth:
            yield  # Part of a larger step.
            return
        before = State.of(self.layer, like=self._last())
        self._depth += 1
        try:
            yield
        except BaseException:
            before.show(self.layer)
            raise
        finally:
            self._depth -= 1
        self._push(words, before)

    def undo(self) -> None:
        """Undo the last change, exactly."""
        self.go_to(self.done - 1)

    def redo(self) -> None:
        """Redo the change undone last, exactly."""
        self.go_to(self.done + 1)

    def go_to(self, count: int) -> None:
        """Undo or redo until the first ``count`` changes are in force, exactly."""
        if count == self.done or not 0 <= count <= len(self.steps):
            return
        state = self.steps[count].before if count < self.done else self.steps[count - 1].after
        self.done = count
        self._depth += 1
        try:
            state.show(self.layer)
        finally:
            self._depth -= 1
        self.events.changed()

    def _last(self) -> State | None:
        if self.done:
            return self.steps[self.done - 1].after
        return self.steps[0].before if self.steps else None

    def _push(self, words: str, before: State) -> None:
        after = State.of(self.layer, like=before)
        if after.same_as(before):
            return
        self.steps = [*self.steps[: self.done], EditStep(words, before, after)]
        while len(self.steps) > 1 and self.bytes_kept > self.limit:
            self.steps.pop(0)
        self.done = len(self.steps)
        self.events.changed()

    @property
    def bytes_kept(self) -> int:
        """Bytes that the steps keep, what they share counted once."""
        return sum(step.before.own_bytes + step.after.own_bytes for step in self.steps)

    # --- what napari's own tools do ---------------------------------------------------------------------------------

    def _heard(self, event: Any) -> None:
        if self._depth:
            return
        action = str(getattr(event, "action", "")).rsplit(".", maxsplit=1)[-1].lower()
        if action in ("adding", "removing", "changing"):
            self._before = State.of(self.layer, like=self._last())
        elif action in ("added", "removed", "changed") and self._before is not None:
            self._edited(action, np.array(event.data_indices, int))

    def _edited(self, action: str, at: NDArray[np.int_]) -> None:
        before, self._before = self._before, None
        assert before is not None
        at = at % max(1, len(self.layer.data))
        self._depth += 1
        try:
            if action == "added":
                layer_rows.clear_added(self.layer, at)
            elif action == "changed" and len(before.data) == len(self.layer.data):
                layer_rows.remember(self.layer, at, data=before.data, table=before.columns)
                layer_rows.renew_pose_columns(self.layer, at)
            if action != "removed":
                self.events.edited(rows=at)
        finally:
            self._depth -= 1
        verb = {"added": "add", "removed": "delete", "changed": "drag"}[action]
        self._push(f"{verb} {counted(len(at), 'particle')}", before)


def rotate(history: History, rows: Rows, matrix: FloatArray, *, words: str) -> None:
    """Rotate particles in their own frames by a matrix (3, 3), ``R @ matrix``, and mark them as corrected.

    Raises
    ------
    InputError
        If no row is given, or a particle has no orientation.
    """
    with _history_step(history, rows, f"rotate {counted(len(rows), 'particle')} {words}"):
        particles = rows_of(history.layer, rows)
        remember(history.layer, rows)
        every = np.arange(len(particles))
        put_rows(
            history.layer,
            rows,
            corrections.marked_corrected(corrections.rotated(particles, every, matrix), every, True),
        )
        renew_pose_columns(history.layer, rows)


def move(history: History, rows: Rows, shift: FloatArray, *, frame: str) -> None:
    """Move particles by a shift (3,) xyz in Å along the axes of the tomogram or of each particle.

    Raises
    ------
    InputError
        If no row is given, or ``frame`` is ``own`` and a particle has no orientation.
    """
    along = " ".join(f"{name} {step:+g}" for name, step in zip("xyz", shift, strict=True) if step)
    with _history_step(history, rows, f"move {counted(len(rows), 'particle')} by {along} Å, {frame} axes"):
        posed = frame == "own" or layer_data.has_pose(history.layer)[rows].all()
        particles = rows_of(history.layer, rows) if posed else layer_data.picks_of(history.layer).take(rows)
        remember(history.layer, rows)
        put_rows(history.layer, rows, corrections.shifted(particles, np.arange(len(rows)), shift, frame=frame))
        renew_pose_columns(history.layer, rows)


def delete(history: History, rows: Rows) -> None:
    """Delete particles.

    Raises
    ------
    InputError
        If no row is given.
    """
    with _history_step(history, rows, f"delete {counted(len(rows), 'particle')}"):
        history.layer.selected_data = set(rows.tolist())
        history.layer.remove_selected()


def set_status(history: History, rows: Rows, status: str) -> None:
    """Mark particles as accepted, rejected, or (empty) neither.

    Raises
    ------
    InputError
        If no row is given.
    """
    with _history_step(history, rows, f"{STATUS_ACTIONS[status]} {counted(len(rows), 'particle')}"):
        particles = layer_data.picks_of(history.layer).take(rows)
        put_rows(history.layer, rows, corrections.with_status(particles, np.arange(len(rows)), status))


def reset(history: History, rows: Rows) -> None:
    """Restore the predicted poses of particles that were changed.

    Raises
    ------
    InputError
        If no row is given.
    """
    with _history_step(history, rows, f"reset {counted(len(rows), 'particle')}"):
        recall(history.layer, rows)


def assign_poses(history: History, rows: Rows, particles: Particles, *, words: str) -> None:
    """Replace the poses of particles by predicted or refined ones, to which Reset then returns."""
    with _history_step(history, rows, f"{words} {counted(len(rows), 'particle')}"):
        write_poses(history, rows, particles)


def write_poses(history: History, rows: Rows, particles: Particles) -> None:
    """Do the same as `assign_poses` within a history step that has begun already."""
    every, missing = np.arange(len(particles)), np.full(len(particles), np.nan)
    # The figures of an earlier match no longer hold.
    stale = {name: missing for name in RESULT_COLUMNS if name in history.layer.features.columns}
    if POSE_UNKNOWN in history.layer.features.columns:
        stale[POSE_UNKNOWN] = np.full(len(particles), "")
    updated = particles.replace(extra=stale | dict(particles.extra))
    put_rows(history.layer, rows, corrections.marked_corrected(updated, every, False))
    renew_pose_columns(history.layer, rows)
    forget(history.layer, rows)


@contextmanager
def _history_step(history: History, rows: Rows, words: str) -> Iterator[None]:
    if not len(rows):
        raise InputError("no particle is selected; select some points of the layer first.")
    layer = history.layer
    with history.changing(words), layer.events.data.blocker(), layer.events.features.blocker():
        yield
    announce(layer, rows)

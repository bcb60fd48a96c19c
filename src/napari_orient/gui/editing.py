"""Edits of particles in a layer: each is one step of the layer's history and redraws once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.engine.io.columns import POSE_UNKNOWN, RESULT_COLUMNS
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui import layers
from napari_orient.gui.history import History, announce, count_words
from napari_orient.gui.layer_rows import Rows, forget, put_rows, recall, remember, renew_pose_columns, rows_of

STATUS_ACTIONS = {ACCEPTED: "accept", REJECTED: "reject", "": "clear the status of"}


def rotate(history: History, rows: Rows, matrix: FloatArray, *, words: str) -> None:
    """Rotate particles in their own frames by a matrix (3, 3), ``R @ matrix``, and mark them as corrected.

    Raises
    ------
    InputError
        If no row is given, or a particle has no orientation.
    """
    with _history_step(history, rows, f"rotate {count_words(len(rows))} {words}"):
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
    with _history_step(history, rows, f"move {count_words(len(rows))} by {along} Å, {frame} axes"):
        posed = frame == "own" or layers.has_pose(history.layer)[rows].all()
        particles = rows_of(history.layer, rows) if posed else layers.picks_of(history.layer).take(rows)
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
    with _history_step(history, rows, f"delete {count_words(len(rows))}"):
        history.layer.selected_data = set(rows.tolist())
        history.layer.remove_selected()


def set_status(history: History, rows: Rows, status: str) -> None:
    """Mark particles as accepted, rejected, or (empty) neither.

    Raises
    ------
    InputError
        If no row is given.
    """
    with _history_step(history, rows, f"{STATUS_ACTIONS[status]} {count_words(len(rows))}"):
        particles = layers.picks_of(history.layer).take(rows)
        put_rows(history.layer, rows, corrections.with_status(particles, np.arange(len(rows)), status))


def reset(history: History, rows: Rows) -> None:
    """Restore the predicted poses of particles that were changed.

    Raises
    ------
    InputError
        If no row is given.
    """
    with _history_step(history, rows, f"reset {count_words(len(rows))}"):
        recall(history.layer, rows)


def assign_poses(history: History, rows: Rows, particles: Particles, *, words: str) -> None:
    """Replace the poses of particles by predicted or refined ones, to which Reset then returns."""
    with _history_step(history, rows, f"{words} {count_words(len(rows))}"):
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

"""Tasks done for many tomograms: what is done survives a stop, failures are named, and progress counts them all."""

import numpy as np
import pytest

from napari_orient.cli.projects import Project, do_project
from napari_orient.engine.each_tomogram import ProjectResult, for_each_tomogram
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.streams import Note, Step
from napari_orient.progress import Stopped


def pairs(count):
    volume = np.zeros((8, 8, 8), np.float32)
    names = [f"ts_{number}" for number in range(count)]
    return [(Tomogram(volume, 10.0, name), Particles(positions=np.zeros((2, 3)), tomogram=name)) for name in names]


def task(failing=(), stopped=()):
    """A task that gives the particles back, but for some tomograms."""

    def run(tomogram, particles):
        yield Step(0, 2, "Working", notes=(Note("a note"),))
        if tomogram.name in stopped:
            raise KeyboardInterrupt
        if tomogram.name in failing:
            raise InputError("it is flat.")
        yield Step(2, 2, "Working")
        return particles

    return run


def test_one_list_holds_all_tomograms_that_are_done_and_the_others_are_named():
    result = ProjectResult()
    steps = list(for_each_tomogram(pairs(3), task(failing=("ts_1",)), result))
    assert result.particles.tomogram_names == ["ts_0", "ts_2"]
    assert result.failed_words == "1 of 3 tomograms failed: ts_1."
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.total for step in steps} == {300}
    notes = [str(note) for step in steps for note in step.notes]
    assert notes == ["ts_0: a note", "ts_1: a note", "Warning: ts_1 failed: it is flat.", "ts_2: a note"]


def test_a_lone_tomogram_fails_as_it_is_and_its_notes_have_no_name():
    steps = list(for_each_tomogram(pairs(1), task(), ProjectResult()))
    assert [str(note) for step in steps for note in step.notes] == ["a note"]
    with pytest.raises(InputError, match=r"^it is flat\.$"):
        list(for_each_tomogram(pairs(1), task(failing=("ts_0",)), ProjectResult()))


def test_where_all_fail_the_first_is_said():
    with pytest.raises(InputError, match="all 2 tomograms failed; ts_0: it is flat"):
        list(for_each_tomogram(pairs(2), task(failing=("ts_0", "ts_1")), ProjectResult()))


def test_what_is_done_when_ctrl_c_comes_is_written():
    written = []
    with pytest.raises(Stopped, match="2 of 3 tomograms that are done were written"):
        do_project(Project(pairs(3)), task(stopped=("ts_2",)), written.append)
    assert written[0].tomogram_names == ["ts_0", "ts_1"]
    with pytest.raises(KeyboardInterrupt):
        do_project(Project(pairs(3)), task(stopped=("ts_0",)), written.append)
    assert len(written) == 1

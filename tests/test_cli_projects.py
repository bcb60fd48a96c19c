"""Many tomograms on the command line: what is done survives a stop, and is not done again."""

import numpy as np
import pytest

from napari_orient.cli.projects import do_project
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.projects.inputs import Project
from napari_orient.progress import Stopped
from projects_tasks import MeanTask


def pairs(count):
    volume = np.zeros((8, 8, 8), np.float32)
    names = [f"ts_{number}" for number in range(count)]
    return [(Tomogram(volume, 10.0, name), Particles(positions=np.zeros((2, 3)), tomogram=name)) for name in names]


def test_what_is_done_when_ctrl_c_comes_is_written():
    written = []
    with pytest.raises(Stopped, match="2 of 3 tomograms that are done were written"):
        do_project(Project(pairs(3)), MeanTask(stopped=("ts_2",)), written.append)
    assert written[0].tomogram_names == ["ts_0", "ts_1"]
    with pytest.raises(KeyboardInterrupt):
        do_project(Project(pairs(3)), MeanTask(stopped=("ts_0",)), written.append)
    assert len(written) == 1

"""Sample data: small simulated tomograms, their picks and their true poses, simulated when they are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream, run
from napari_orient.gui.jobs import Job
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_parts
from napari_orient.gui.layers.layer_data import PICKS, TRUTH, LayerParts
from napari_orient.gui.session.viewer_session import session_of

SEED = 7
"""Random seed of the simulations; any other gives other samples of the same kind."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What a sample is simulated with.

    Parameters
    ----------
    name : of its tomogram.
    counts : particles of each template.
    options : of the simulation; small enough that it takes no more than three seconds.
    """

    name: str
    counts: Mapping[str, int]
    options: SimulationOptions

    def stream(self) -> Stream[Step, tuple[Tomogram, Particles]]:
        """Its simulation, which ends in the tomogram and its particles with true poses."""
        yield Step(0, 1, "Loading the simulator")
        # Imported where the stream runs, in its thread: it takes a second.
        from napari_orient.engine.simulation.simulate import simulate
        from napari_orient.engine.templates import load_template

        templates = [load_template(name) for name in self.counts]
        counts = list(self.counts.values())
        return (yield from simulate(templates, self.options, seed=SEED, name=self.name, counts=counts))


PLAIN = Sample("sample_001", {"ribosome": 40, "proteasome": 20}, SimulationOptions(size_x=160, size_y=160, size_z=80))
"""As PolNet makes tomograms: misaligned noisy micrographs, no contrast transfer."""
WITH_CTF = Sample(
    "sample_ctf",
    {"ribosome": 30, "proteasome": 20},
    SimulationOptions.of(size_x=144, size_y=144, size_z=72, defocus=3.5),
)
"""With a contrast transfer function at 3.5 µm underfocus that nothing corrects."""
CROWDED = Sample(
    "sample_crowded",
    {"ribosome": 24, "proteasome": 26},
    SimulationOptions.of(
        size_x=120, size_y=120, size_z=64, defocus=3.5, gold=3, gold_diameter=50.0, membranes=1, filaments=2
    ),
)
"""As many particles as fit, with gold of 5 nm, a membrane, filaments and the same contrast transfer."""


def sample_layers(sample: Sample = PLAIN) -> list[LayerParts]:
    """A sample as layers: tomogram, picks without poses, and true poses with arrows as the current viewer draws them.

    Raises
    ------
    InputError
        If the simulation was stopped.
    """
    tomogram, truth = simulated_sample(sample)
    name = sample.name
    true = layer_data.particles_parts(truth, tomogram.extent, role=TRUTH, name=f"{name} truth")
    viewer = napari.current_viewer()
    view = ViewOptions() if viewer is None else session_of(viewer).drawing.view
    axes = axes_parts(truth, true, view)
    picks = truth.replace(rotations=None)
    picked = layer_data.particles_parts(picks, tomogram.extent, role=PICKS, name=f"{name} picks")
    return [layer_data.tomogram_parts(tomogram), *([axes] if axes else []), true, picked]


def sample_with_ctf_layers() -> list[LayerParts]:
    """The layers of the sample with contrast transfer."""
    return sample_layers(WITH_CTF)


def crowded_sample_layers() -> list[LayerParts]:
    """The layers of the crowded sample."""
    return sample_layers(CROWDED)


@cache
def simulated_sample(sample: Sample = PLAIN) -> tuple[Tomogram, Particles]:
    """The sample's tomogram and its particles with true poses, simulated once.

    napari wants the layers when this returns. The simulation runs in a thread meanwhile, and the window is painted and
    shows progress; clicks wait.

    Raises
    ------
    InputError
        If the simulation was stopped.
    """
    if QApplication.instance() is None:
        return run(sample.stream())
    answers: list[tuple[Tomogram, Particles]] = []
    loop = QEventLoop()
    job = Job(sample.stream(), title=f"Simulating {sample.name}", parent=loop)
    job.answered.connect(answers.append)
    job.ended.connect(loop.quit)
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    if not answers:
        raise InputError(f"The simulation of {sample.name} was stopped; open the sample again.")
    return answers[0]

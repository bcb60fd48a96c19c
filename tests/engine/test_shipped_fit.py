"""The shipped templates: each finds its own particles, and says so where another one would fit better."""

import numpy as np
import pytest
from streams import followed

from napari_orient.engine.model_files import ModelFile, shipped_templates
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

OPTIONS = PredictionOptions.of(device="cpu", precision="fast", max_shift=10.0)
SMALL = SimulationOptions(size_x=160, size_y=160, size_z=72, misalignment_low=0.0, misalignment_high=0.0)


@pytest.fixture(scope="module")
def ribosomes():
    """A tomogram of 80S ribosomes, and their true poses."""
    template = Template.from_file(ModelFile.read("ribosome-80S"))
    return run(simulate([template], SMALL, seed=5, counts=[12]))


def notes(steps):
    return [note.text for step in steps for note in step.notes]


def test_templates_are_named_without_loading_networks():
    assert shipped_templates() == ("ribosome", "proteasome", "ribosome-80S")


def test_80s_ribosomes_are_found_by_their_own_template_without_a_hint(ribosomes):
    tomogram, truth = ribosomes
    steps, found = followed(predict(tomogram, truth.replace(rotations=None), load_model("ribosome-80S"), OPTIONS))
    assert np.median(angle_deg(found.required_rotations(), truth.required_rotations())) < 3
    assert not [text for text in notes(steps) if "fits these particles better" in text]


def test_the_70s_template_says_that_the_80s_fits_80s_ribosomes_better(ribosomes):
    tomogram, truth = ribosomes
    steps, _ = followed(predict(tomogram, truth.replace(rotations=None), load_model("ribosome"), OPTIONS))
    hints = [text for text in notes(steps) if "fits these particles better" in text]
    assert len(hints) == 1
    assert "Try ribosome-80S" in hints[0]

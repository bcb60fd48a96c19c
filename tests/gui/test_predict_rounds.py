"""Predict with a template that the particles correct: every tomogram has its result, and a network is refused."""

import dataclasses

import numpy as np
import pytest

from engine.phantom import VOXEL_SIZE, molecule, tomogram
from napari_orient.engine.errors import InputError
from napari_orient.engine.parameters import PredictionOptions, SearchOptions
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.gui.layers.layer_data import PICKS
from napari_orient.gui.pages.predict_card import KeptPrediction, PredictionRequest
from napari_orient.gui.session.tomogram_switch import ListedParticles, ParticleSet

SEARCH = SearchOptions(
    rotations=250, dimensions=120, search_resolution=40.0, max_shift=0.0, coarse_rotations=60, coarse_dimensions=30
)


def request_of(model):
    options = PredictionOptions.of(rounds=1, precision="fast", device="cpu")
    pairs, truths = [], []
    for seed in (1, 2):
        volume, truth, places = tomogram(molecule(), noise=1.0, seed=seed, count=(1, 2, 4))
        volume = dataclasses.replace(volume, name=f"phantom{seed}")
        truths.append(truth.replace(positions=places, tomogram=volume.name))
        pairs.append((volume, truths[-1].replace(rotations=None)))
    sources = [
        ParticleSet(volume.name, ListedParticles(picks, PICKS, f"{volume.name} picks", "")) for volume, picks in pairs
    ]
    return PredictionRequest(pairs, sources, truths, KeptPrediction(model, options))


def test_every_tomogram_has_its_answer():
    density = molecule().density(24).astype(np.float32)
    request = request_of(Template(density, VOXEL_SIZE, "blob", "C1", search=SEARCH))
    notes = [note.text for step in request.stream() for note in step.notes]
    answers = [request.answer(place) for place in (0, 1)]
    assert [answer.predicted.tomogram_names for answer in answers] == [["phantom1"], ["phantom2"]]
    assert [np.median(answer.report.errors_deg) < 10 for answer in answers] == [True, True]
    assert sum(note.startswith("Round 1") for note in notes) == 1


def test_a_network_has_no_map_to_correct():
    with pytest.raises(InputError, match="rounds correct a template, and ribosome-4x32 is a network"):
        run(request_of(load_model("ribosome-4x32")).stream())

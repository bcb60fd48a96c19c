"""Layers switched off one by one (`benchmarks/ablation.py`): each names what the engine has, and puts it back."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("ablation")
    sys.path.remove(str(BENCHMARKS))


def attribute(place: str) -> object:
    module, _, path = place.partition(":")
    found = importlib.import_module(f"napari_orient.engine.{module}")
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_every_layer_is_off_while_it_is_switched_off_and_on_again_after(ablation):
    for layer in ablation.LAYERS:
        before = {place: attribute(place) for place in layer.off}
        with layer.switched_off():
            assert all(attribute(place) is value for place, value in layer.off.items()), layer.name
        assert {place: attribute(place) for place in layer.off} == before, layer.name


def test_every_layer_is_measured_in_conditions_that_there_are(ablation):
    named = {condition.name for condition in ablation.chosen(None)} | set(ablation.REAL)
    for layer in ablation.LAYERS:
        assert layer.cells, layer.name
        assert {cell.partition(":")[0] for cell in layer.cells} <= named, layer.name


def test_a_layer_gains_where_what_comes_out_was_likelier_with_it(ablation):
    blank = np.zeros(0)

    def columns(error, expected, confidence):
        return ablation.Columns(*map(np.array, (error, expected, confidence)), blank, 0.0)

    good = columns([1.0, 90.0], [1.2, 60.0], [0.99, 0.3])
    sure_and_wrong = columns([1.0, 90.0], [1.2, 2.0], [0.99, 0.99])
    too_small = columns([1.0, 90.0], [0.3, 60.0], [0.99, 0.3])
    assert ablation.gain(sure_and_wrong, good)[0] > 100
    assert ablation.gain(too_small, good)[0] > 100
    assert ablation.gain(good, good) == (0.0, 0.0)

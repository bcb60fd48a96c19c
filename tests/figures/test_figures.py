"""The figures that the project publishes, each inside its window: `pytest -m figures`, or `benchmarks/figures.py`."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy_figures", BENCHMARKS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures = loaded()


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.figures
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", figures.CASES, ids=lambda case: case.name)
def test_figures_lie_inside_their_windows(case):
    data = figures.data_folder()
    if missing := case.missing(data):
        pytest.skip(f"{', '.join(missing)} is not in {data}")
    assert figures.outside(case.name, case.measure(data)) == []


def test_every_window_is_narrow_and_holds_the_measured_value():
    for window in figures.WINDOWS:
        assert window.low <= window.measured <= window.high, window
        widths = {"median_deg": 2.0, "position_median": 2.0, "expected_over_true": 0.4}
        assert window.high - window.low <= widths.get(window.figure, 40.0) + 1e-9, window


def test_every_case_has_its_windows_and_every_window_its_case():
    assert {window.case for window in figures.WINDOWS} == {case.name for case in figures.CASES}
    for case in figures.CASES:
        own = {window.figure for window in figures.WINDOWS if window.case == case.name}
        assert own >= {"within_20", "median_deg"}, case.name


BETTER = {
    "predict ribosome, simulated": {"position_median"},
    "predict ribosome-mlp, PolNet": {"within_5", "median_deg"},
    "discover ribosomes, PolNet, picks off by 15 Å": {"median_deg"},
}
"""Figures that are better than the first version's beyond their windows."""


def test_the_first_versions_figures_lie_inside_the_windows_where_none_is_better_now():
    record = json.loads((BENCHMARKS / "figures_0.1.0.json").read_text())
    assert set(record) <= {case.name for case in figures.CASES}
    for name, values in record.items():
        named = {line.split(": ")[1].split(" is ")[0] for line in figures.outside(name, values)}
        assert named == BETTER.get(name, set()), name


def test_a_worse_or_missing_figure_is_outside():
    name = "predict ribosome, PolNet"
    right = json.loads((BENCHMARKS / "figures_0.1.0.json").read_text())[name]
    (line,) = figures.outside(name, {**right, "median_deg": right["median_deg"] + 0.3})
    assert "median_deg is 1.28; expected 0.8 to 1.2" in line
    del right["expected_over_true"]
    assert len(figures.outside(name, right)) == 1


def test_missing_data_is_named(tmp_path):
    always = [case.name for case in figures.CASES if not case.missing(tmp_path)]
    assert always == [
        "predict ribosome, simulated",
        "predict proteasome, simulated",
        "predict ribosome, microscope",
    ]

"""Tomograms acquired alike: each begins from the first one's model, and one that differs begins anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram
from scipy.ndimage import gaussian_filter

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Tomogram, concatenate
from napari_orient.engine.projects.each_tomogram import ProjectResult, for_each_tomogram
from napari_orient.engine.projects.stored_results import StoredResults
from napari_orient.engine.refinement.acquisition import Acquisition
from napari_orient.engine.refinement.refine import RefinementTask, cut_for, prepare_finder, refine_all
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

OPTIONS = RefinementOptions.of(
    max_shift=10.0, rotations=900, search_resolution=36.0, device="cpu", precision="fast", shared_model=True
)
TEMPLATE = Template(molecule().density(24), VOXEL_SIZE)


def series(seed: int, **how: object):
    volume, picks, _ = tomogram(molecule(), noise=0.7, off=8.0, seed=seed, count=(1, 4, 4), **how)
    volume = replace(volume, name=f"ts_{seed}")
    return volume, picks.replace(tomogram=volume.name)


@pytest.fixture(scope="module")
def first() -> Acquisition:
    volume, picks = series(0)
    found = run(prepare_finder(volume, picks.replace(rotations=None), TEMPLATE, OPTIONS)).acquisition
    assert found is not None
    return found


def test_picks_given_twice_leave_the_model_of_their_tomogram_as_it_is(first: Acquisition) -> None:
    volume, picks = series(0)
    blank = picks.replace(rotations=None)
    twice = concatenate([blank, blank.replace(positions=blank.positions + 4.0)])
    found = run(prepare_finder(volume, twice, TEMPLATE, OPTIONS)).acquisition
    assert found is not None
    assert torch.equal(found.model.whitened_gain, first.model.whitened_gain)
    assert torch.equal(found.noise_scores, first.noise_scores)


def test_a_tomogram_acquired_alike_has_the_poses_that_it_has_by_itself(first: Acquisition) -> None:
    volume, picks = series(1)
    blank = picks.replace(rotations=None)
    finders = [run(prepare_finder(volume, blank, TEMPLATE, OPTIONS, like=like)) for like in (None, first)]
    assert [finder.alike for finder in finders] == [False, True]
    assert finders[1].search.filters is first.search.filters
    alone, alike = (run(refine_all(finder, volume, blank, TEMPLATE)).particles for finder in finders)
    error = angle_deg(alike.required_rotations(), picks.required_rotations())
    between = angle_deg(alike.required_rotations(), alone.required_rotations())
    assert np.median(between) < 0.3 * np.median(error)
    assert 0.8 < np.median(alike.expected_error_deg / alone.expected_error_deg) < 1.25


def smoothed(seed: int):
    volume, picks = series(seed)
    return replace(volume, density=gaussian_filter(volume.density, 2.0)), picks


def test_smoothed_tomograms_have_the_poses_of_those_before_and_share_a_model_among_themselves(
    first: Acquisition,
) -> None:
    volume, picks = smoothed(0)
    # A part that is flat, as where a tomogram was masked.
    volume.density[:, -24:, -24:] = volume.density.mean()
    assert first.prewhitening is None
    blank = picks.replace(rotations=None)
    finder = run(prepare_finder(volume, blank, TEMPLATE, OPTIONS))
    assert finder.particles_dark == first.particles_dark
    found = run(refine_all(finder, volume, blank, TEMPLATE)).particles
    error = angle_deg(found.required_rotations(), picks.required_rotations())[:-1]
    # 1.2 where nothing is smoothed; 5 where what leaks from coarse to fine detail is taken for signal.
    assert np.median(error) < 1.8
    assert found.confidence[-1] < 0.01
    middle = (np.array(volume.extent.size) - 12) * VOXEL_SIZE
    pair = blank.take(slice(2)).replace(positions=np.stack([blank.positions[0], middle]))
    assert not cut_for(finder, volume, pair)[1].any(), "what a filter spreads there is no signal"
    assert finder.acquisition is not None
    for (other, at), alike in ((smoothed(1), True), (series(1), False)):
        stream = prepare_finder(other, at.replace(rotations=None), TEMPLATE, OPTIONS, like=finder.acquisition)
        messages = [next(stream).message for _ in range(3)]
        stream.close()
        assert ("Estimating noise and transfer" in messages) is not alike


@pytest.mark.parametrize("changed", ["axis", "noise", "voxels"])
def test_a_tomogram_acquired_otherwise_begins_anew(first: Acquisition, changed: str) -> None:
    volume, picks = series(2, axis="x") if changed == "axis" else series(2)
    if changed == "noise":
        white = np.random.default_rng(0).normal(size=volume.density.shape)
        volume = replace(volume, density=(volume.density + 3 * volume.density.std() * white).astype(np.float32))
    if changed == "voxels":
        volume = replace(volume, voxel_size=1.05 * VOXEL_SIZE)
        picks = picks.replace(positions=1.05 * picks.positions)
    stream = prepare_finder(volume, picks.replace(rotations=None), TEMPLATE, OPTIONS, like=first)
    messages = [next(stream).message for _ in range(3)]
    stream.close()
    assert "Estimating noise and transfer" in messages


def test_all_tomograms_of_a_project_begin_from_the_first_whichever_are_left_to_do(tmp_path, monkeypatch) -> None:
    begun: list[Acquisition | None] = []

    def counted(task: RefinementTask, volume: Tomogram, particles):
        begun.append(task.like)
        return particles.replace(rotations=np.broadcast_to(np.eye(3), (len(particles), 3, 3)))
        yield

    monkeypatch.setattr(RefinementTask, "__call__", counted)
    pairs = [(volume, picks.replace(rotations=None)) for volume, picks in map(series, range(2))]
    task, stored = RefinementTask(TEMPLATE, OPTIONS), StoredResults(tmp_path / "parts")
    run(for_each_tomogram(pairs, task, ProjectResult(), stored=stored))
    assert len(begun) == 2
    assert begun[0] is begun[1] is not None
    run(for_each_tomogram(pairs, task, ProjectResult(), stored=stored, resume=True))
    assert len(begun) == 2
    run(for_each_tomogram(pairs[::-1], task, ProjectResult(), stored=stored, resume=True))
    assert len(begun) == 4, "begun from another one, they are done again"
    assert torch.is_tensor(begun[2].noise_scores)

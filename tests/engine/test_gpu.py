"""What a GPU must not change: the same poses as on the CPU, from every task that has a choice of device.

Where there is no GPU one is pretended, which shows every tensor left on the wrong side but no figure of its own.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import QUICK_TRAINING, SMALL_NETWORK, small_world
from phantom import VOXEL_SIZE, molecule, tomogram
from pretend import pretended_gpu

from napari_orient.engine.averaging import average
from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.parameters import (
    AveragingOptions,
    DiscoveryOptions,
    PredictionOptions,
    RefinementOptions,
    TemplateOptions,
    TemplateTrainingOptions,
)
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import predict
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.training.train import train

REAL = torch.cuda.is_available()


@pytest.fixture
def gpu() -> Iterator[str]:
    """The name of a device that is there or pretended."""
    if REAL:
        yield "cuda"
        return
    with pretended_gpu():
        yield "cuda"


@pytest.fixture(scope="module")
def seen() -> tuple[Tomogram, Particles]:
    """A tomogram of 24 molecules, picks off by up to 8 Å with their true rotations."""
    volume, picks, _ = tomogram(molecule(), noise=0.5, off=8.0, count=(1, 4, 6))
    return volume, picks


def test_a_pretended_tensor_is_neither_read_nor_mixed_with_the_cpus() -> None:
    with pretended_gpu():
        there = torch.arange(3.0, device="cuda")
        assert there.device.type == "cuda"
        for wrong in (there.numpy, lambda: np.asarray(there), lambda: there + torch.ones(3)):
            with pytest.raises((TypeError, RuntimeError)):
                wrong()
        assert (there.cpu() + torch.ones(3)).numpy().tolist() == [1, 2, 3]
        assert (there * 2)[torch.tensor([1])].to("cpu").item() == 2


@pytest.mark.parametrize(("precision", "noise"), [("fast", 0.5), ("precise", 4.0)])
def test_refinement_gives_the_poses_and_errors_of_the_cpu(gpu: str, precision: str, noise: float) -> None:
    group = symmetry("C2") if precision == "fast" else symmetry("C1")
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, noise=noise, off=8.0, count=(1, 2, 4))
    options = RefinementOptions.of(max_shift=10.0, rotations=500, search_resolution=40.0, precision=precision)
    one, two = (
        run(
            refine(
                volume,
                picks.replace(rotations=None),
                Template(shape.density(24), VOXEL_SIZE, symmetry=group.name),
                options.replace(device=device),
            )
        ).particles
        for device in ("cpu", gpu)
    )
    angle = angle_deg(one.required_rotations(), two.required_rotations())
    # Picks that are searched again go in other batches there, which round otherwise.
    assert np.quantile(angle, 0.9) < (2 if REAL else 1e-4)
    assert np.allclose(np.median(one.expected_error_deg), np.median(two.expected_error_deg), rtol=0.02)


def test_discovery_comes_to_its_end_on_the_gpu(seen: tuple, gpu: str) -> None:
    work = {"rounds": 14, "search": 900} if REAL else {"rounds": 6, "search": 300}
    options = DiscoveryOptions.of(diameter=150.0, starts=2, passes=1, max_shift=10.0, **work)
    labelled = [(seen[0], seen[1].replace(rotations=None))]
    one = run(discover(labelled, options.replace(device=gpu))).particles
    assert np.allclose(np.linalg.det(one.required_rotations()), 1, atol=1e-4)
    assert np.isfinite(np.asarray(one.expected_error_deg)).all()
    if REAL:  # another chip's roundings may send the annealing another way: the answers agree up to a common turn
        two = run(discover(labelled, options.replace(device="cpu"))).particles.required_rotations()
        assert np.median(angle_deg(one.required_rotations() @ global_rotation(two, one.required_rotations()), two)) < 6


def test_an_average_is_added_up_on_the_gpu(seen: tuple, gpu: str) -> None:
    on_cpu, on_gpu = (
        run(average([seen], options=AveragingOptions(side=24), device=torch.device(device))) for device in ("cpu", gpu)
    )
    np.testing.assert_allclose(on_gpu.density, on_cpu.density, atol=1e-3 * np.abs(on_cpu.density).max())


def test_a_network_learns_on_the_gpu_and_predicts_the_same_on_both(gpu: str) -> None:
    world = small_world(3)
    checkpoint = run(train(world, SMALL_NETWORK, QUICK_TRAINING.replace(epochs=3, device=gpu)))
    volume, picks = world[0]
    one, two = (run(predict(volume, picks, checkpoint, PredictionOptions.of(device=device))) for device in ("cpu", gpu))
    assert np.quantile(angle_deg(one.required_rotations(), two.required_rotations()), 0.95) < 0.5


def test_a_template_is_averaged_on_the_gpu(gpu: str) -> None:
    pairs = [tomogram(molecule(), noise=0.7, seed=seed, count=(1, 3, 4)) for seed in range(2)]
    labelled = [
        (replace(volume, name=f"{seed}"), picks.replace(positions=places, tomogram=f"{seed}"))
        for seed, (volume, picks, places) in enumerate(pairs)
    ]
    small = TemplateOptions.of(
        rotations=250, dimensions=120, search_resolution=40.0, max_shift=0.0, coarse_rotations=60, coarse_dimensions=30
    )
    options = TemplateTrainingOptions.of(rounds=1, side=24, validation=0.4, device=gpu)
    assert run(train(labelled, small, options)).card["figures"]["validation_median_deg"] < 5

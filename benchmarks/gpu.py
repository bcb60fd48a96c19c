"""What a GPU gives: every task with a choice of device on both, times and poses side by side, in one run.

    python benchmarks/gpu.py POLNET_RESULTS [--device cuda] [--class 4v4r] [--patches 3575] [--discover] [--train]

The particles of the class are predicted by shipped models, with --discover posed from the picks alone; --train is one
epoch of the fifty of training as printed; the last rows predict --patches patches, the particles of the first tomogram
again and again. On the GPU each is done twice: the second time libraries are loaded and kernels chosen. Seconds are of
the clock, from tomograms in memory to poses; the angles (median and 95 %) are between both devices' poses, which in a
discovery differ by one turn at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from template import Labelled, load

from napari_orient.engine.devices import choose_device, device_words
from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.parameters import PRESETS, DiscoveryOptions, PredictionOptions
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.training.network import Examples, TrainingRun

MODELS = (("ribosome", "precise"), ("ribosome", "fast"), ("ribosome-mlp", "auto"), ("ribosome-4x32", "auto"))
"""Shipped models, and the precision of each; of the last, an MLP, patches are gathered on the GPU."""
PRINTED = 23_128
"""Particles that the paper trains on."""


@dataclass(frozen=True)
class Task:
    """Something to be done on either device, which answers with rotations."""

    words: str
    patches: int
    work: Callable[[str], np.ndarray]
    free_turn: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("polnet", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--patches", type=int, default=3575)
    parser.add_argument("--discover", action="store_true")
    parser.add_argument("--train", type=int, nargs="?", const=PRINTED, default=0, metavar="PATCHES")
    given = parser.parse_args()
    whole = [(tomogram, particles.replace(rotations=None)) for tomogram, particles in load(given.polnet, given.code)]
    print(f"{device_words(choose_device('cpu'))} and {device_words(choose_device(given.device))}")
    print(f"{'task':<28}{'patches':>8}{'CPU':>10}{'GPU, first':>12}{'then':>10}{'CPU ÷ GPU':>11}{'memory':>9}   angle")
    for task in tasks(whole, given):
        compare(task, given.device)


def tasks(whole: Labelled, given: argparse.Namespace) -> Iterator[Task]:
    tomogram, particles = whole[0]
    many = [(tomogram, particles.take(np.arange(given.patches) % len(particles)))]
    if given.train:
        yield Task("an epoch as printed", given.train, partial(trained, given.train))
    if given.discover:
        yield Task("discover", sum(len(part) for _, part in whole), partial(discovered, whole), free_turn=True)
    for labelled in (whole, many):
        count = sum(len(part) for _, part in labelled)
        for name, precision in MODELS:
            yield Task(f"predict {name} {precision}", count, partial(predicted, labelled, name, precision))


def trained(count: int, device: str) -> np.ndarray:
    """One epoch of training as printed, on noise; its network is not looked at."""
    network, options = PRESETS["paper"]
    place, generator = choose_device(device), torch.Generator().manual_seed(0)
    cubes = torch.randn(count, *(network.patch_side,) * 3, generator=generator).half()
    rotations = torch.as_tensor(random_rotations(count, np.random.default_rng(0)), dtype=torch.float32)
    examples = Examples(cubes, rotations).to(place)
    mlp = MLP(network, generator=generator).to(place)
    held_out = examples.take(torch.arange(64, device=place))
    done = TrainingRun(mlp, options.replace(epochs=1), examples, held_out, name="", card={})
    run(done.epochs(None, words=""))
    return np.eye(3)[None]


def predicted(labelled: Labelled, name: str, precision: str, device: str) -> np.ndarray:
    checkpoint, options = load_model(name), PredictionOptions.of(precision=precision, device=device)
    parts = [run(predict(tomogram, picks, checkpoint, options)) for tomogram, picks in labelled]
    return np.concatenate([part.required_rotations() for part in parts])


def discovered(labelled: Labelled, device: str) -> np.ndarray:
    return run(discover(labelled, DiscoveryOptions.of(device=device))).particles.required_rotations()


def compare(task: Task, device: str) -> None:
    """Print a task's line."""
    slow, own = timed(task.work, "cpu")
    first, _ = timed(task.work, device)
    torch.cuda.reset_peak_memory_stats()
    then, other = timed(task.work, device)
    memory = torch.cuda.max_memory_allocated() / 1e9
    angle = angle_deg(other @ global_rotation(own, other) if task.free_turn else other, own)
    told = f"{np.median(angle):.3f}° {np.quantile(angle, 0.95):.3f}°"
    times = f"{slow:>8.1f} s{first:>10.1f} s{then:>8.1f} s{slow / then:>11.1f}"
    print(f"{task.words:<28}{task.patches:>8}{times}{memory:>6.2f} GB   {told}", flush=True)


def timed(work: Callable[[str], np.ndarray], device: str) -> tuple[float, np.ndarray]:
    """Seconds of the clock, and the rotations."""
    started = time.perf_counter()
    rotations = work(device)
    return time.perf_counter() - started, rotations


if __name__ == "__main__":
    main()

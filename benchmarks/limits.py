"""What the machine can do, and which share of it each stage takes: bandwidth, matrix throughput, and stage by stage.

    python benchmarks/limits.py [--tomogram T.mrc --picks LIST --class 4v4r] [--patches 3575] [--examples 3200]
        [--rounds 5]

Seconds are the process's own, of one thread, the least of some rounds, so that other work on the machine counts little;
what it does to caches and memory stays. Bytes and operations of a stage are what it cannot do without; over the
machine's own they give its share of the limit. Without a tomogram one of noise is made.

1. An MLP of 4 x 512 nodes: 3,575 patches of 40³ voxels about random places, cut, binned, answered in four copies.
2. Training as printed, --examples of 23,128 patches, scaled: one epoch, and all fifty.
3. A template (--tomogram): its tomogram's model, anew and begun from another one's, and a particle, precise and fast.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.parameters import PRESETS, NetworkOptions, PredictionOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.refine import cut_for, prepare_finder
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.engine.training.network import Examples, TrainingRun

PRINTED = 23_128
"""Particles that the paper trains on."""
BATCH = 64
"""Patches predicted together, as the program does."""


@dataclass(frozen=True)
class Machine:
    """What one thread can do: bytes copied (read and written) and floating-point operations, a second."""

    bandwidth: float
    throughput: float

    @classmethod
    def measured(cls, rounds: int) -> Machine:
        """The machine as it is now."""
        block, matrix = torch.ones(1 << 24), torch.randn(2048, 2048)
        other = torch.empty_like(block)
        copying = least(lambda: other.copy_(block), rounds)
        product = least(lambda: matrix @ matrix, rounds)
        return cls(2 * 4 * len(block) / copying, 2 * 2048**3 / product)


def least(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the quickest of some rounds."""
    found = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def row(words: str, seconds: float, machine: Machine, *, bytes_moved: float = 0.0, operations: float = 0.0) -> None:
    """Print a stage: its time, and the time that the machine needs for its bytes or its operations at the least."""
    bound = max(bytes_moved / machine.bandwidth, operations / machine.throughput)
    print(f"| {words} | {seconds:.3f} s | {bound:.3f} s | {bound / seconds:.0%} |", flush=True)


def each(stage: Callable[[np.ndarray], object], batches: list[np.ndarray]) -> None:
    for part in batches:
        stage(part)


def mlp_stages(tomogram: Tomogram, count: int, machine: Machine, rounds: int) -> None:
    options = NetworkOptions()
    mlp = MLP(options, generator=torch.Generator().manual_seed(0)).eval()
    averaged, side = mlp.averaged(), options.patch_side
    extent = (np.array(tomogram.extent.size) - 1) * tomogram.voxel_size
    places = np.random.default_rng(0).uniform(0, 1, (count, 3)) * extent
    batches = [places[start : start + BATCH] for start in range(0, count, BATCH)]
    cut = cut_patches(tomogram, batches[0], side=side, voxel_size=options.patch_voxel_size, centring="rounded")
    patches, small = torch.from_numpy(cut), side // options.binning
    with torch.inference_mode():
        cubes = mlp.condense(patches)
        raw = averaged.raw(cubes)
        # No batch outlives its turn, as in a prediction.
        stages = (
            lambda part: cut_patches(tomogram, part, side=side, centring="rounded"),
            lambda part: mlp.condense(patches[: len(part)]),
            lambda part: averaged.raw(cubes[: len(part)]),
            lambda part: averaged.mean_of(raw[:, : len(part)]),
        )
        seconds = [least(partial(each, stage, batches), rounds) for stage in stages]
    voxels, wide = side**3, options.width
    binning = 2 * small * (side**3 + small * side**2 + small**2 * side)
    weights = averaged.first[:, :, 0].numel() * wide + 4 * (options.depth - 1) * wide * wide
    # Read, the mean, centred and written, its square, divided and written.
    row(f"cutting {count:,} patches", seconds[0], machine, bytes_moved=count * voxels * 4 * 8)
    row("binning", seconds[1], machine, operations=count * binning)
    row("four half-turned copies through 4 × 512 nodes", seconds[2], machine, operations=2 * count * weights)
    row("their mean", seconds[3], machine)
    print(f"| **together** | **{sum(seconds):.2f} s** | | |", flush=True)


def training(examples: int, machine: Machine, rounds: int) -> None:
    network, options = PRESETS["paper"]
    generator = torch.Generator().manual_seed(0)
    cubes = torch.randn(examples, *(network.patch_side,) * 3, generator=generator).half()
    rotations = torch.as_tensor(random_rotations(examples, np.random.default_rng(0)), dtype=torch.float32)
    data, mlp = Examples(cubes, rotations), MLP(network, generator=generator)
    done = TrainingRun(mlp, options, data, data.take(torch.arange(max(1, examples // 16))), name="", card={})
    steps = least(lambda: list(done._steps(0)), rounds) * PRINTED / examples
    validation = least(done._validate, rounds) * PRINTED / examples
    weights = sum(parameter.numel() for parameter in mlp.parameters())
    # Forwards and the gradient of the weights; the optimiser reads four numbers a weight and writes three.
    per_epoch = 2 * 2 * PRINTED * weights
    moved = PRINTED / options.batch * weights * 4 * 7 + PRINTED * network.patch_side**3 * (2 + 4 + 4 + 4)
    row("an epoch of training as printed, 23,128 patches", steps, machine, bytes_moved=moved, operations=per_epoch)
    row("its validation, a sixteenth", validation, machine)
    total = options.epochs * (steps + validation)
    print(f"| **fifty epochs** | **{total:.0f} s** | | |", flush=True)


def template(tomogram: Tomogram, picks: Particles, rounds: int) -> None:
    model = load_model("ribosome")
    assert isinstance(model, Template)
    for precision in ("precise", "fast"):
        options = PredictionOptions.of(device="cpu", precision=precision).refinement(model)
        before = time.process_time()
        finder = run(prepare_finder(tomogram, picks, model, options))
        anew = time.process_time() - before
        before = time.process_time()
        run(prepare_finder(tomogram, picks, model, options, like=finder.acquisition))
        alike = time.process_time() - before
        patches = cut_for(finder, tomogram, picks)
        cutting = 1e3 * least(partial(cut_for, finder, tomogram, picks), rounds) / len(picks)
        solving = 1e3 * least(partial(finder.find, patches), rounds) / len(picks)
        print(f"| the tomogram's model, {precision}: anew | {anew:.2f} s | | |")
        print(f"| begun from one acquired alike | {alike:.2f} s | | {anew / alike:.1f} × |")
        print(f"| a particle, {precision}: cut, posed | {cutting:.2f} + {solving:.2f} ms | | |", flush=True)


def noise() -> Tomogram:
    density = np.random.default_rng(0).normal(size=(90, 220, 220)).astype(np.float32)
    return Tomogram(density, 10.0, "noise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomogram", type=Path)
    parser.add_argument("--picks", type=Path)
    parser.add_argument("--class", dest="kind", default="")
    parser.add_argument("--patches", type=int, default=3575)
    parser.add_argument("--examples", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    machine = Machine.measured(given.rounds)
    print(f"one thread: {machine.bandwidth / 1e9:.1f} GB/s copied, {machine.throughput / 1e9:.0f} GFLOP/s\n")
    print("| stage | takes | bound | share of the limit |\n|---|---|---|---|")
    tomogram = read_tomogram(given.tomogram) if given.tomogram else noise()
    mlp_stages(tomogram, given.patches, machine, given.rounds)
    training(given.examples, machine, min(given.rounds, 3))
    if given.tomogram and given.picks:
        picks = read_particles(given.picks).replace(rotations=None, tomogram=tomogram.name)
        template(tomogram, picks.of_kind(given.kind) if given.kind else picks, given.rounds)


if __name__ == "__main__":
    main()

"""How near training the printed network comes to what the machine can do, in one run.

    python benchmarks/training.py [--cubes 2000] [--threads 2] [--epochs 2] [--width 32]

Random 40³ cubes, half precision, as training holds them. Two bounds are measured in the same run: the time that the
network's products take at the pace of a large product of matrices, and the time that the bytes take at the pace of a
large copy. An epoch cannot be quicker than the longer of both; without any overlap it takes their sum.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from napari_orient.engine.devices import device_words
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.parameters import PAPER_NETWORK, PAPER_TRAINING
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.training.examples import Examples
from napari_orient.engine.training.network import Epoch, TrainingRun

PAPER_PARTICLES, PAPER_EPOCHS = 23_000, 50
HALF, SINGLE = 2, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--width", type=int, default=PAPER_NETWORK.width)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    network = MLP(replace(PAPER_NETWORK, width=given.width), generator=torch.Generator().manual_seed(0))
    weights = sum(weight.numel() for weight in network.parameters())
    examples = cubes(given.cubes).to(device)
    print(f"{given.cubes} cubes of 40³ at half precision, {weights:,} weights, batches of 32; {device_words(device)}")
    flop_rate, byte_rate = rates(device)
    print(f"measured here: products {flop_rate / 1e9:.0f} GFLOP/s, copies {byte_rate / 1e9:.1f} GB/s read and written")
    wall, used = epoch_seconds(network.to(device), examples, given.epochs)
    report(wall, used, work(given.cubes, weights), (flop_rate, byte_rate), cubes=given.cubes)
    if device.type == "cuda":
        print(f"memory: {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB on the GPU at most")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    held = PAPER_PARTICLES * 40**3 * HALF / 1e9
    mine = examples.cubes.nbytes / 1e9
    print(f"memory: {peak:.2f} GB at most, of which cubes {mine:.2f} GB; 23,000 cubes are {held:.2f} GB")


def cubes(count: int) -> Examples:
    rng = np.random.default_rng(0)
    patches = torch.empty((count, 40, 40, 40), dtype=torch.float16)
    for start in range(0, count, 100):
        size = min(100, count - start)
        patches[start : start + size] = torch.from_numpy(rng.standard_normal((size, 40, 40, 40), dtype=np.float32))
    return Examples(patches, torch.from_numpy(random_rotations(count, rng)).float())


def rates(device: torch.device) -> tuple[float, float]:
    """FLOP a second of a large product, and bytes a second that a large copy reads and writes."""
    left, right = torch.randn(2048, 2048, device=device), torch.randn(2048, 2048, device=device)
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    product = best_of(lambda: left @ right, device)
    copy = best_of(lambda: target.copy_(source), device)
    return 2 * 2048**3 / product, 2 * source.nbytes / copy


def best_of(action: Callable[[], object], device: torch.device, *, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        settle(device)
        start = time.perf_counter()
        action()
        settle(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def work(count: int, weights: int) -> tuple[float, float]:
    """FLOP and bytes of an epoch: forward and weight gradient; cubes, weights and two moments in and out, gradient."""
    steps = -(-count // 32)
    flop = 2 * 2 * count * weights
    cubes_read = count * 40**3 * (HALF + 3 * SINGLE)
    update = steps * weights * SINGLE * (2 + 3 * 2 + 1)
    return flop, cubes_read + update


def epoch_seconds(network: MLP, examples: Examples, epochs: int) -> tuple[float, float]:
    """Wall and processor seconds of the quickest epoch after the first, of the steps alone (16 cubes are judged by)."""
    few = examples.take(torch.arange(16, device=examples.cubes.device))
    options = replace(PAPER_TRAINING, epochs=epochs + 1)
    training_run = TrainingRun(network, options, examples, few, name="benchmark", card={})
    stream, marks = training_run.epochs(None, words="benchmark"), []
    try:
        while True:
            if isinstance(next(stream), Epoch):
                settle(examples.cubes.device)
                marks.append((time.perf_counter(), time.process_time()))
    except StopIteration:
        pass
    pairs = pairwise(marks)
    return min((after[0] - before[0], after[1] - before[1]) for before, after in pairs)


def report(wall: float, used: float, done: tuple[float, float], rate: tuple[float, float], *, cubes: int) -> None:
    by_flop, by_bytes = done[0] / rate[0], done[1] / rate[1]
    own = used / torch.get_num_threads()
    print(f"an epoch: {wall:.2f} s, {wall / cubes * 1e3:.3f} ms a patch; each processor worked for {own:.2f} s of it")
    print(f"bounds: products {by_flop:.2f} s, bytes {by_bytes:.2f} s")
    for name, bound in (("the longer", max(by_flop, by_bytes)), ("their sum", by_flop + by_bytes)):
        print(f"against {name}: {wall / bound:.2f} × by the clock, {own / bound:.2f} × by the processors")
    whole = wall / cubes * PAPER_PARTICLES * PAPER_EPOCHS / 60
    print(f"at this pace {PAPER_PARTICLES:,} patches × {PAPER_EPOCHS} epochs take {whole:.1f} min of training steps")


if __name__ == "__main__":
    main()

"""Processor time of a prediction on a quiet machine, and beside processes that keep its cores busy.

    python benchmarks/threads_loaded.py TOMOGRAM PICKS [--class 4v4r] [--models ribosome ribosome-mlp] [--busy 1 2 4]
        [--copies 50] [--rounds 3]

Threads are torch's default. Threads that wait for each other in a busy loop cost nothing to see on a quiet machine, and
many times the work beside others: the ratio of processor times shows them. The goal is 1.3. A network's picks are
repeated ``--copies`` times: it is quick. The least of some rounds; the model is loaded before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import Model, load_model, predict
from napari_orient.engine.streams import run


def spin() -> None:
    while True:
        pass


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that each keep a core busy."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    time.sleep(2 if count else 0)
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def timed(tomogram: Tomogram, picks: Particles, model: Model) -> tuple[float, float]:
    """Processor and clock seconds of a prediction on the CPU."""
    options = PredictionOptions.of(device="cpu")
    processor, clock = time.process_time(), time.perf_counter()
    run(predict(tomogram, picks, model, options))
    return time.process_time() - processor, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("picks", type=Path)
    parser.add_argument("--class", dest="kind", default="")
    parser.add_argument("--models", nargs="+", default=["ribosome", "ribosome-mlp"])
    parser.add_argument("--busy", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tomogram = read_tomogram(given.tomogram)
    picks = read_particles(given.picks).replace(rotations=None, tomogram=tomogram.name)
    picks = picks.of_kind(given.kind) if given.kind else picks
    for name in given.models:
        model = load_model(name)
        some = picks if model.needs_picks else picks.take(np.tile(np.arange(len(picks)), given.copies))
        quiet = 0.0
        for count in (0, *given.busy):
            with busy(count):
                processor, clock = min(timed(tomogram, some, model) for _ in range(given.rounds))
            quiet = quiet or processor
            print(
                f"{name}, {len(some)} particles, {count} busy processes: {processor:.2f} s of processor "
                f"({processor / quiet:.2f} of quiet), {clock:.2f} s of clock",
                flush=True,
            )


if __name__ == "__main__":
    main()

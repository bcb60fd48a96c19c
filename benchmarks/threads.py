"""What a particle costs once its tomogram is learnt, with one thread of the processor and with two.

    python benchmarks/threads.py TOMOGRAM PICKS [--class 4v4r] [--model ribosome] [--precision fast] [--rounds 10]

Patches are cut beforehand; one thread and two take turns. On a machine with other work the clock says little: then the
processor's time with one thread is the figure. The poses must be the same to the bit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.refine import patch_side, prepare_finder
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template


def learnt(given: argparse.Namespace) -> tuple[PoseFinder, torch.Tensor]:
    tomogram = read_tomogram(given.tomogram)
    picks = read_particles(given.picks).replace(rotations=None, tomogram=tomogram.name)
    picks = picks.of_kind(given.kind) if given.kind else picks
    template = load_model(given.model)
    assert isinstance(template, Template)
    options = PredictionOptions.of(precision=given.precision, device="cpu").refinement(template)
    finder = run(prepare_finder(tomogram, picks, template, options))
    side = patch_side(finder.reference, tomogram, max_shift=options.max_shift)
    return finder, torch.from_numpy(cut_patches(tomogram, picks.positions, side=side))


def timed(finder: PoseFinder, patches: torch.Tensor, threads: int) -> tuple[float, float, torch.Tensor]:
    """Milliseconds a particle of clock and of processors, and the rotations."""
    torch.set_num_threads(threads)
    clock, processor = time.perf_counter(), time.process_time()
    rotations = finder.find(patches).rotations
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return 1e3 * clock / len(patches), 1e3 * processor / len(patches), rotations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("picks", type=Path)
    parser.add_argument("--class", dest="kind", default="")
    parser.add_argument("--model", default="ribosome")
    parser.add_argument("--precision", default="fast")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    finder, patches = learnt(given)
    rounds = [[timed(finder, patches, threads) for threads in (1, 2)] for _ in range(given.rounds)]
    best = []
    for threads, column in zip((1, 2), zip(*rounds, strict=True), strict=True):
        clock, processor = (min(answer[row] for answer in column) for row in (0, 1))
        best.append(clock)
        print(f"threads {threads}: {clock:.2f} ms of clock, {processor:.2f} ms of processors, best of {len(rounds)}")
    same = all(torch.equal(first[2], second[2]) for first, second in rounds)
    print(
        f"{len(patches)} particles, {given.precision}; two threads over one {best[1] / best[0]:.2f}; same poses: {same}"
    )


if __name__ == "__main__":
    main()

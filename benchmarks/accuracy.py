"""How well every shipped checkpoint turns the ribosomes of tomograms that it was never trained on.

    python benchmarks/accuracy.py POLNET_RESULTS

Prints a line for each checkpoint, chance beside them, and the seconds of predicting one tomogram.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.files import read_labelled
from napari_orient.engine.networks import load_checkpoint, shipped_checkpoints
from napari_orient.engine.particles import concatenate
from napari_orient.engine.prediction import predict
from napari_orient.engine.tasks import run


def main(folder: Path) -> None:
    labelled = [(tomogram, particles.of_kind("4v4r")) for tomogram, particles in read_labelled(folder)]
    truth = concatenate([particles for _, particles in labelled])
    print(f"{len(truth)} ribosomes of {len(labelled)} tomograms")
    heads = f"{'≤ 5°':>8}{'≤ 10°':>8}{'≤ 20°':>8}{'≤ 24.56°':>10}{'median':>9}{'R²':>8}{'expected/true':>15}"
    print(f"{'checkpoint':<16}{heads}")
    for name in shipped_checkpoints():
        checkpoint = load_checkpoint(name)
        started = time.perf_counter()
        predicted = [run(predict(tomogram, particles, checkpoint)) for tomogram, particles in labelled]
        seconds = (time.perf_counter() - started) / len(labelled)
        report = evaluate(concatenate(predicted), truth)
        print(f"{name:<16}{_shares(report.all.within)}{_rest(report)}   {seconds:.2f} s a tomogram")
    print(f"{'chance':<16}{_shares(report.all.chance_within, 2)}{report.all.chance_median_deg:>8.1f}°")


def _shares(shares: dict[str, float], digits: int = 1) -> str:
    five, ten, twenty, paper = (f"{share:.{digits}%}" for share in shares.values())
    return f"{five:>8}{ten:>8}{twenty:>8}{paper:>10}"


def _rest(report: Report) -> str:
    return f"{report.all.median_deg:>8.2f}°{report.all.r_squared:>8.3f}{report.all.expected_over_true:>15.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

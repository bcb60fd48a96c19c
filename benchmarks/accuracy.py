"""How well every shipped model turns the particles of tomograms that it was never trained on.

    python benchmarks/accuracy.py POLNET_RESULTS [CHECKPOINT ...] [--off 30] [--precision fast] [--few 3 [--draws 2]]
        [--false 0.3]

Each is asked for the class that it learnt, modulo its symmetry; picks are the true positions, or moved by up to --off Å
along each axis (seed 0). With --few only so many random picks of a tomogram are given at once, --draws times. With
--false that share of the picks is added, farther than 250 Å from every particle, and a line says how they are told
apart. Prints a line for each model, chance beneath, and the processor seconds of predicting one tomogram.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from template import by_quartile

from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io import read_labelled
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Extent, Labelled, Particles, concatenate
from napari_orient.engine.prediction.predict import Model, load_model, predict
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.engine.templates import Template

_AWAY, _MARGIN = 250.0, 150.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("polnet", type=Path)
    parser.add_argument("models", nargs="*", default=shipped_models())
    parser.add_argument("--off", type=float, default=0.0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--few", type=int, default=10**6)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--false", type=float, default=0.0, help="share of the picks that are on nothing")
    given = parser.parse_args()
    everything = read_labelled(given.polnet)
    heads = f"{'≤ 5°':>8}{'≤ 10°':>8}{'≤ 20°':>8}{'≤ 24.56°':>10}{'median':>9}{'R²':>8}{'expected/true':>15}"
    print(f"{'model':<16}{heads}")
    for name in given.models:
        judge(load_model(name), everything, given)


def judge(model: Model, everything: Labelled, given: argparse.Namespace) -> None:
    code, rng = model.card["classes"][0], np.random.default_rng(0)
    group = model.group
    options = PredictionOptions.of(precision=given.precision if isinstance(model, Template) else "auto")
    whole = [(tomogram, particles.of_kind(code)) for tomogram, particles in everything]
    labelled = [
        (tomogram, some(particles, given.few, rng)) for _ in range(given.draws) for tomogram, particles in whole
    ]
    everyone = {tomogram.name: particles.positions for tomogram, particles in everything}
    started, predicted, strangers = time.process_time(), [], []
    for tomogram, particles in labelled:
        moved = particles.positions + rng.uniform(-given.off, given.off, particles.positions.shape)
        top = (np.array(tomogram.extent.size) - 1) * tomogram.voxel_size
        count = round(len(particles) * given.false / (1 - given.false))
        false = on_nothing(everyone[tomogram.name], tomogram.extent, count, rng)
        places = np.concatenate([np.clip(moved, 0, top), false])
        picks = particles.take(np.arange(len(places)) % len(particles)).replace(positions=places, rotations=None)
        found = run(predict(tomogram, picks, model, options))
        predicted.append(found.take(slice(0, len(particles))))
        strangers.append(found.take(slice(len(particles), None)))
    seconds = (time.process_time() - started) / len(labelled)
    report = report_of(predicted, [particles for _, particles in labelled], group)
    axis = "" if report.all.axis_median_deg is None else f"   main axis {report.all.axis_median_deg:.2f}°"
    told = f"{report.all.count} of {code}, {seconds:.1f} s a tomogram{axis}"
    print(f"{model.name:<16}{_shares(report.all.within)}{_rest(report)}   {told}", flush=True)
    print(f"  expected ÷ true by quartile of expected error: {_quartiles(predicted, labelled, group)}")
    if given.false:
        print(f"  {apart(concatenate(predicted), concatenate(strangers))}")
    print(f"{'  chance':<16}{_shares(report.all.chance_within, 2)}{report.all.chance_median_deg:>8.1f}°")


def on_nothing(taken: np.ndarray, extent: Extent, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places (count, 3), xyz in Å, far from every particle, and as far within the faces as one fits."""
    far = (np.array(extent.size) - 1) * extent.voxel_size
    margin = np.minimum(_MARGIN, far / 3)
    tree, found = cKDTree(taken), np.empty((0, 3))
    while len(found) < count:
        drawn = rng.uniform(margin, far - margin, size=(1000, 3))
        found = np.concatenate([found, drawn[tree.query(drawn)[0] > _AWAY]])
    return found[:count]


def apart(true: Particles, false: Particles) -> str:
    """How picks on particles and on nothing are told apart, by the probability of being within 20°."""

    def told(name: str, picks: Particles) -> str:
        sure, expected = np.asarray(picks.confidence), np.median(np.asarray(picks.expected_error_deg))
        return (
            f"{len(picks)} {name}: p(≤ 20°) {np.median(sure):.3f} (median), "
            f"{100 * (sure > 0.5).mean():.1f} % above 0.5, {expected:.1f}° expected (median)"
        )

    return f"{told('true picks', true)}; {told('false', false)}"


def some(particles: Particles, count: int, rng: np.random.Generator) -> Particles:
    return particles.take(np.sort(rng.permutation(len(particles))[:count]))


def report_of(predicted: list[Particles], true: list[Particles], group: Symmetry) -> Report:
    """Of every draw as if it were a tomogram of its own."""
    pairs = [[part.replace(tomogram=f"{row}") for row, part in enumerate(parts)] for parts in (predicted, true)]
    return evaluate(*map(concatenate, pairs), group=group)


def _quartiles(predicted: list[Particles], labelled: Labelled, group: Symmetry) -> str:
    pairs = [
        (found.required_rotations(), true.required_rotations())
        for found, (_, true) in zip(predicted, labelled, strict=True)
    ]
    error = np.concatenate([symmetric_angle_deg(*pair, group) for pair in pairs])
    return by_quartile(error, np.concatenate([np.asarray(found.expected_error_deg) for found in predicted]))


def _shares(shares: dict[str, float], digits: int = 1) -> str:
    five, ten, twenty, paper = (f"{share:.{digits}%}" for share in shares.values())
    return f"{five:>8}{ten:>8}{twenty:>8}{paper:>10}"


def _rest(report: Report) -> str:
    return f"{report.all.median_deg:>8.2f}°{report.all.r_squared:>8.3f}{report.all.expected_over_true:>15.2f}"


if __name__ == "__main__":
    main()

"""What a network learns from the labelled particles of few tomograms: its error in others of the same simulation.

    napari-orient simulate ribosome --output FOLDER --tomograms 16 --particles 150 --seed N
    python benchmarks/few_particles.py FOLDER [--tomograms 1 2 4 14] [--symmetry GROUP] [--set NAME=VALUE ...]

It is trained as `train` does, with the defaults but for what --set says (clip=10 epochs=40, say), on the first
tomograms, and predicts the last two. Errors are those of the true positions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from napari_orient.engine.io.dialects.polnet import read_polnet_folder
from napari_orient.engine.parameters import NetworkOptions, PredictionOptions, TrainingOptions
from napari_orient.engine.particles import Labelled
from napari_orient.engine.prediction.predict import predict
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.training.train import train

TESTED = 2
"""Tomograms that no network is trained on."""


def errors_deg(training: Labelled, tested: Labelled, group: str, changes: dict[str, str]) -> np.ndarray:
    """Errors in the tomograms that are tested, degrees, of a network trained on others."""
    options = TrainingOptions.of(device="cpu", **{name: number(text) for name, text in changes.items()})
    network = run(train(training, NetworkOptions(symmetry=group), options))
    found = [
        symmetric_angle_deg(
            run(
                predict(tomogram, particles.replace(rotations=None), network, PredictionOptions.of(device="cpu"))
            ).required_rotations(),
            particles.required_rotations(),
            symmetry(group),
        )
        for tomogram, particles in tested
    ]
    return np.concatenate(found)


def number(text: str) -> int | float:
    """A whole number or a number."""
    return int(text) if text.isdigit() else float(text)


def main() -> None:
    """Print a row for each number of tomograms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tomograms", type=int, nargs="+", default=[1, 2, 4, 14])
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    labelled = sorted(read_polnet_folder(given.folder, failed={}), key=lambda pair: pair[0].name)
    changes = dict(text.split("=", 1) for text in given.set)
    print("| tomograms | particles | median | ≤ 20° | processor time |\n|---|---|---|---|---|")
    for count in given.tomograms:
        began, training = time.process_time(), labelled[: min(count, len(labelled) - TESTED)]
        error = errors_deg(training, labelled[-TESTED:], given.symmetry, changes)
        particles = sum(len(own) for _, own in training)
        print(
            f"| {count} | {particles} | {np.median(error):.1f}° | {100 * (error <= 20).mean():.0f} % "
            f"| {time.process_time() - began:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()

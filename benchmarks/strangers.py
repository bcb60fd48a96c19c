"""Whether another molecule's map is given away: what is warned of, for every map with every class of particles.

    python benchmarks/strangers.py --polnet TOMOGRAM_DIR --references 4v4r.mrc 5mrc.mrc 3j9i.mrc:D7@... 6utj.mrc:C7
        [--classes 4v4r 3j9i] [--particles 32]

Each map is matched with the first so many particles of each class, picks at their true positions. A map's symmetry may
follow its name; a reference may also be a template file. Score: median, in standard deviations of the noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.io import read_labelled
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template, load_template


def reference(text: str) -> Template:
    """A map with its symmetry after a colon, or a template."""
    name, _, group = text.partition(":")
    template = load_template(name) if name.endswith(".mrc") else load_model(name)
    assert isinstance(template, Template)
    return replace(template, symmetry=group) if group else template


def tell(tomogram: Tomogram, particles: Particles, text: str) -> None:
    answer = run(
        refine(
            tomogram,
            particles.replace(rotations=None),
            reference(text),
            RefinementOptions.of(device="cpu", precision="precise"),
        )
    )
    expected = np.median(np.asarray(answer.particles.expected_error_deg))
    print(
        f"{Path(text.partition(':')[0]).stem:>12} on {len(particles)} of {np.asarray(particles.kind)[0]}: score "
        f"{np.median(answer.score):5.1f}, expected error {expected:4.1f}°",
        flush=True,
    )
    for line in answer.warnings:
        print(f"{'':>14}{line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--references", nargs="+", required=True)
    parser.add_argument("--classes", nargs="+", default=["4v4r", "3j9i"])
    parser.add_argument("--particles", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for tomogram, particles in read_labelled(given.polnet):
        for code in given.classes:
            some = particles.of_kind(code)
            for text in given.references:
                tell(tomogram, some.take(slice(0, given.particles)), text)


if __name__ == "__main__":
    main()

"""Whether predicted poses average as sharply as the true ones: the half-map FSC of both.

    python benchmarks/halves.py --polnet DIR --template 4v4r.mrc [--class 4v4r] [--first N] [--picture fsc.png]

Picks are the true positions moved by up to 30 Å along each axis (seed 0) and refined against the template. The true
positions are the list's, which for PolNet are off by up to half a voxel from where the particle stands.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from template import load, moved, template

from napari_orient.engine.averaging import average
from napari_orient.engine.map_resolution import FSC
from napari_orient.engine.parameters import AveragingOptions, RefinementOptions
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template


def draw(path: Path, curves: dict[str, FSC]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="frequency (1/Å)", ylabel="Fourier shell correlation of the halves", ylim=(-0.1, 1.05)
    )
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(curve.frequency, curve.correlation, style, label=f"{name}: {curve.resolution(0.5):.1f} Å at 0.5")
    axes.axhline(0.5, color="0.7", linewidth=0.8)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--first", type=int, default=None, help="tomograms to average")
    parser.add_argument("--picture", type=Path, default=None)
    given = parser.parse_args()
    group, rng = symmetry(given.symmetry), np.random.default_rng(0)
    density, voxel_size = template(given.template)
    true = load(given.polnet, given.code)[: given.first]
    found = []
    for tomogram, truth in true:
        options = RefinementOptions.of(precision="precise", device="cpu")
        stream = refine(tomogram, moved(truth, 30.0, rng), Template(density, voxel_size, symmetry=group.name), options)
        found.append((tomogram, run(stream).particles))
    options = AveragingOptions(side=40)
    maps = {
        name: run(average(rows, group=group, options=options))
        for name, rows in (("true poses", true), ("predicted poses", found))
    }
    curves = {name: item.fsc for name, item in maps.items()}
    for name, item in maps.items():
        print(
            f"{name}: {item.count} particles, halves agree to {item.fsc.resolution(0.5):.2f} Å at 0.5, "
            f"{item.fsc.resolution(0.143):.2f} Å at 0.143"
        )
    one, two = (curve.resolution(0.5) for curve in curves.values())
    print(f"predicted ÷ true at 0.5: {two / one:.3f}")
    if given.picture:
        draw(given.picture, curves)


if __name__ == "__main__":
    main()

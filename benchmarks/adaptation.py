"""What particles gain by correcting the reference that they are refined against, round by round.

    python benchmarks/adaptation.py --templates DIR [--condition NAME] [--seeds 0 1 ...] [--cache FOLDER] [--rounds N]
    python benchmarks/adaptation.py --real [FOLDER] [--kind ctfcorrected] [--rounds N]

The first takes the tomograms of a condition of `conditions.py`, one a seed, as one project; the second all series of a
folder of real particles (see `real.py`). The template is the shipped one of --model, of another species where the
condition or the folder says so; --model own takes the particles' own map, which nothing has to be corrected in.

n: particles. ≤ 5°, ≤ 10°, ≤ 20°: share of them, up to the rotation between the two maps' frames. wrong: poses off by
more than 20°, and how many the confidences leave open. sure: expected below 10°, and of these off by more than 20°. s:
processor seconds since the start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from conditions import chosen, scene, template_of
from real import METADATA, Series, own_map
from scipy.spatial.transform import Rotation

from figures import data_folder
from napari_orient.engine.discovery.search import align_map
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Labelled
from napari_orient.engine.prediction.adaptation import refine_and_adapt
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.projects.each_tomogram import ProjectResult
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.templates import Template

SURE_DEG, WRONG_DEG = 10.0, 20.0
RADIUS = 130.0
"""Å of the ball in which two ribosomes' maps are laid over each other."""
RESOLUTION = 30.0
"""Å to which maps are compared."""
COLUMNS = ("poses", "n", "≤ 5°", "≤ 10°", "≤ 20°", "median", "wrong", "sure", "s")


@dataclass(frozen=True)
class Subject:
    """Particles of several tomograms with true poses, and their own map.

    Parameters
    ----------
    pairs : tomograms with picks that have no rotations.
    truth : (N, 3, 3).
    """

    pairs: Labelled
    truth: np.ndarray
    own: Template


def simulated(condition: str, templates: Path, seeds: Sequence[int], cache: Path | None) -> Subject:
    """The tomograms of a condition as one project; false picks are left out."""
    scenes = [scene(chosen([condition], exact=True)[0], templates, seed=seed, cache=cache) for seed in seeds]
    pairs = []
    for found in scenes:
        name = f"{condition}_{found.seed}"
        picks = found.picks.take(np.flatnonzero(found.is_true)).replace(rotations=None, tomogram=name, extents={})
        pairs.append((replace(found.tomogram, name=name), picks))
    truth = np.concatenate([found.truth.required_rotations() for found in scenes])
    return Subject(pairs, truth, template_of(templates, scenes[0].condition.picked[0]))


def real(folder: Path, kind: str) -> Subject:
    """All series of a folder that have a truth."""
    names = sorted(path.name.removesuffix("_truth.star") for path in folder.glob("*_truth.star"))
    series = [Series(folder, name, kind) for name in names]
    truth = np.concatenate([item.truth.required_rotations() for item in series])
    return Subject([(item.tomogram, item.picks(0.0, 0)) for item in series], truth, own_map(folder))


def between(template: Template, own: Template) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (3, 3) from the template's frame to that of the particles' own map, and its origin there, Å."""
    sizes = {"voxel_size": template.voxel_size, "target_voxel_size": own.voxel_size}
    return align_map(template.density, own.density, radius=RADIUS, **sizes)


def similarity(template: Template, own: Template, rotation: np.ndarray, origin: np.ndarray) -> float:
    """Correlation of a map with the particles' own, the one laid over the other: the mean over shells to 30 Å."""
    side, voxel_size = 32, RESOLUTION / 3
    grid = frequencies(side, voxel_size).reshape(-1, 3)
    turned = grid @ torch.as_tensor(rotation.T, dtype=torch.float32)
    first, second = (
        build_reference(item.density, item.voxel_size, resolution=2 * voxel_size, radius=RADIUS).transform(place)
        for item, place in ((template, turned), (own, grid))
    )
    angle = 2 * torch.pi * turned @ torch.as_tensor(origin, dtype=torch.float32)
    first = first * torch.polar(torch.ones_like(angle), angle)
    shell = (grid.norm(dim=1) * side * voxel_size).round().long()
    cross, one, other = (
        torch.bincount(shell, values)[1 : side // 3 + 1]
        for values in ((first * second.conj()).real, first.abs().square(), second.abs().square())
    )
    return float((cross / (one * other).sqrt()).mean())


def row(name: str, result: ProjectResult, subject: Subject, rotation: np.ndarray, seconds: float) -> str:
    """One line of the table."""
    parts = result.parts
    error = angle_deg(np.concatenate([part.required_rotations() for part in parts]) @ rotation, subject.truth)
    expected, confidence = (
        np.concatenate([np.asarray(getattr(part, column)) for part in parts])
        for column in ("expected_error_deg", "confidence")
    )
    sure, near = expected < SURE_DEG, error <= WRONG_DEG
    cells = [
        name,
        str(len(error)),
        *(f"{100 * (error <= limit).mean():.0f} %" for limit in (5, 10, 20)),
        f"{np.median(error):.1f}°",
        f"{(~near).sum()} of {(1 - confidence).sum():.1f}",
        f"{sure.sum()}, {(sure & ~near).sum()} wrong",
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--condition", default="reallike_mid")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--real", nargs="?", type=Path, const=Path())
    parser.add_argument("--kind", default="ctfcorrected")
    parser.add_argument("--metadata", action="store_true", help="give the real series' tilts")
    parser.add_argument("--model", default="ribosome")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tilts = {}
    if given.real is None:
        if given.templates is None:
            parser.error("give --templates, or --real")
        subject = simulated(given.condition, given.templates, given.seeds, given.cache)
    else:
        folder = given.real if given.real.parts else data_folder() / "real" / "mpneumoniae_70S"
        subject = real(folder, given.kind)
        tilts = {"tilts": str(folder / METADATA)} if given.metadata else {}
    template = subject.own if given.model == "own" else load_model(given.model)
    rotation, origin = between(template, subject.own)
    turned = np.degrees(Rotation.from_matrix(rotation).magnitude())
    print(f"{given.model}, rotated by {turned:.1f}° from the particles' own map")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    began, result, shown = time.process_time(), ProjectResult(), None
    options = RefinementOptions.of(device="cpu", precision="precise", rounds=given.rounds, seed=given.seed, **tilts)
    stream = refine_and_adapt(subject.pairs, template, options, result)
    number, notes = 0, []
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            corrected = end.value
            break
        notes += [note.text for note in step.notes if note.text.startswith("Round")]
        if result.done is not shown and len(result.done) == len(subject.pairs):
            name = f"after round {number}" if number else "first template"
            print(row(name, result, subject, rotation, time.process_time() - began), flush=True)
            number, shown = number + 1, result.done
    before, after = (similarity(item, subject.own, rotation, origin) for item in (template, corrected or template))
    words = f"the mean of shells to {RESOLUTION:.0f} Å: {before:.3f}, {after:.3f} at the end"
    print(f"\nCorrelation with the particles' own map, {words}.")
    print("\n".join(notes))


if __name__ == "__main__":
    main()

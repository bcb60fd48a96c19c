"""The matched-filter bank and refinement on labelled tomograms: accuracy, honesty and time, in one table.

    python benchmarks/template.py --polnet DIR --template 3j9i.mrc [--class 3j9i] [--symmetry D7@...] [--off 30]
        [--precision fast] [--learnt [DIR] --labelled 400] [--only Tomo141 Tomo142]

Picks are the true positions, or moved by up to --off Å along each axis (seed 0). With --learnt the reference is not the
template but the average of the other tomograms' labelled particles, or of another folder's, the first --labelled of
them. Errors are geodesic and symmetry-aware. Expected over true error, by quartile of the expected one, comes with the
standard error that so few particles leave it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.averaging import average
from napari_orient.engine.io import read_labelled, read_tomogram
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.parameters import AveragingOptions, RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.refinement.refine import RefinementResult, patch_side, refine
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import Symmetry, axis_angle_deg, symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template

Labelled = list[tuple[Tomogram, Particles]]


def load(folder: Path, code: str, *, only: list[str] | None = None) -> Labelled:
    found: Labelled = []
    for path in sorted(item for item in folder.iterdir() if item.is_dir() and (not only or item.name in only)):
        found += [(tomogram, particles.of_kind(code)) for tomogram, particles in read_labelled(path)]
    return found


def template(path: Path) -> tuple[np.ndarray, float]:
    volume = read_tomogram(path)
    return np.asarray(volume.density, np.float32), volume.voxel_size


def centre_error(answer: RefinementResult, truth: Particles, group: Symmetry, centre: np.ndarray) -> np.ndarray:
    """Å between the centres of symmetry: a symmetric copy of a pose has its origin elsewhere, its axes' meeting not."""
    found = answer.particles.positions + answer.particles.required_rotations() @ centre
    true = truth.positions + truth.required_rotations() @ centre
    if len(group) > 1 and group.name.startswith("C"):
        raise SystemExit("the centre of a lone axis is not fixed along it")
    return found - true


def from_stamp(off: np.ndarray, truth: Particles, voxel_size: float) -> np.ndarray:
    """Å from the voxel that PolNet rounded the position to, less what misalignment shifts the whole tomogram by."""
    rounded = np.round(truth.positions / voxel_size) * voxel_size
    left = off - (rounded - truth.positions)
    return left - np.median(left, axis=0)


def moved(particles: Particles, off: float, rng: np.random.Generator) -> Particles:
    offsets = rng.uniform(-off, off, size=particles.positions.shape)
    return particles.replace(positions=particles.positions + offsets, rotations=None)


def reference(
    given: argparse.Namespace, labelled: Labelled, held_out: int, group: Symmetry
) -> tuple[np.ndarray, float]:
    if not given.learnt:
        return template(given.template)
    rest = [item for row, item in enumerate(labelled) if row != held_out]
    if isinstance(given.learnt, Path):
        rest = load(given.learnt, given.code)
    rest = first(rest, given.labelled)
    answer = run(average(rest, group=group, options=AveragingOptions(side=given.side)))
    return answer.as_reference(), answer.voxel_size


def first(labelled: Labelled, count: int) -> Labelled:
    kept: Labelled = []
    for tomogram, particles in labelled:
        if count > 0:
            kept.append((tomogram, particles.take(slice(0, count))))
            count -= len(particles)
    return kept


def figures(error: np.ndarray, expected: np.ndarray) -> str:
    shares = " / ".join(f"{100 * (error <= limit).mean():.1f} %" for limit in (20, 10, 5))
    return (
        f"N {len(error)}: within 20° / 10° / 5° {shares}; median {np.median(error):.2f}°, rms "
        f"{np.sqrt((error**2).mean()):.2f}°; expected ÷ true {expected_over_true(error, expected):.2f}, "
        f"by quartile {by_quartile(error, expected)}"
    )


def by_quartile(error: np.ndarray, expected: np.ndarray) -> str:
    """Expected over true error in each quartile of the expected one, with its standard error."""
    parts = [(error[part], expected[part]) for part in quartiles(expected)]
    return ", ".join(f"{expected_over_true(*part):.2f} ± {standard_error(*part):.2f}" for part in parts)


def expected_over_true(error: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt((expected**2).mean() / (error**2).mean()))


def standard_error(error: np.ndarray, expected: np.ndarray, *, draws: int = 1000) -> float:
    """What chance alone does to expected over true error: its scatter over particles drawn again (seed 0)."""
    rows = np.random.default_rng(0).integers(len(error), size=(draws, len(error)))
    return float(np.std([expected_over_true(error[row], expected[row]) for row in rows]))


def quartiles(expected: np.ndarray) -> list[np.ndarray]:
    return np.array_split(np.argsort(expected), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--only", nargs="+", help="folders of it to look at, as Tomo141")
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--off", type=float, default=0.0)
    parser.add_argument("--precision", default="precise")
    parser.add_argument("--learnt", nargs="?", type=Path, const=True)
    parser.add_argument("--labelled", type=int, default=10**6)
    parser.add_argument("--side", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    group, rng = symmetry(given.symmetry), np.random.default_rng(0)
    labelled = load(given.polnet, given.code, only=given.only)
    centre = symmetry_centre(*template(given.template), group)
    rows: list[tuple[np.ndarray, ...]] = []
    seconds = []
    for row, (tomogram, truth) in enumerate(labelled):
        density, voxel_size = reference(given, labelled, row, group)
        options = RefinementOptions.of(precision=given.precision, device="cpu")
        start = time.process_time()
        stream = refine(
            tomogram, moved(truth, given.off, rng), Template(density, voxel_size, symmetry=group.name), options
        )
        answer = run(stream)
        learnt = time.process_time()
        patches = torch.from_numpy(_patches(tomogram, answer.particles, answer))
        middle = time.process_time()
        answer.finder.find(patches)
        seconds.append((learnt - start, (time.process_time() - middle) / len(truth)))
        poses, true = answer.particles.required_rotations(), truth.required_rotations()
        rows.append(
            (
                symmetric_angle_deg(poses, true, group),
                np.asarray(answer.particles.expected_error_deg),
                axis_angle_deg(poses, true, group),
                off := centre_error(answer, truth, group, centre),
                from_stamp(off, truth, tomogram.voxel_size),
            )
        )
        for line in answer.warnings:
            print(f"{tomogram.name}: {line}")
    error, expected, axis, offs, stamped = (np.concatenate(column) for column in zip(*rows, strict=True))
    print(f"{given.code}, {given.precision}, picks off by {given.off:g} Å, learnt reference: {bool(given.learnt)}")
    print(figures(error, expected))
    distance = np.linalg.norm(offs, axis=1)
    stamp = np.linalg.norm(stamped, axis=1)
    print(
        f"centre: median {np.median(distance):.1f} Å; {np.median(stamp):.1f} Å from where PolNet stamped the particle"
    )
    if len(group) > 1:
        print(f"main axis: median {np.median(axis):.2f}°, rms {np.sqrt((axis**2).mean()):.2f}°")
    whole, each = np.mean(seconds, axis=0)
    print(f"processor time: {whole:.1f} s a tomogram with learning, {1e3 * each:.1f} ms a particle once learnt")


def _patches(tomogram: Tomogram, particles: Particles, answer: RefinementResult) -> np.ndarray:
    finder = answer.finder
    side = patch_side(finder.reference, tomogram, max_shift=finder.options.search.max_shift)
    return cut_patches(tomogram, particles.positions, side=side)


if __name__ == "__main__":
    main()

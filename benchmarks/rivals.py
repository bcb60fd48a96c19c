"""Rivals on the same patches: accuracy, seconds a particle and memory of each, in one run.

    python benchmarks/rivals.py --polnet DIR --template 4v4r.mrc [--class 4v4r] [--model ribosome-mlp]
        [--particles 50]

Every rival gets the same 40³ patches about the true positions, rounded to a voxel. This program's network, its
matched-filter bank with refinement (fast and precise; what it learns of wedge and noise beforehand counts as
preparing) and a plain matched filter always run; acryo and pyTME run where they are installed (they are no
dependencies). All plain searches go over the same even grids of rotations; the degrees between neighbours are stated.
Memory is what each adds to the peak, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from napari_orient.engine.evaluation import chance
from napari_orient.engine.io.dialects.polnet import read_polnet_folder
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.networks.mlp import fourier_bin
from napari_orient.engine.networks.network import Network
from napari_orient.engine.networks.tomogram_input import estimate_whitening
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.tomogram_model import ParticleSample, estimate_tomogram_model
from napari_orient.engine.rotations import PAPER_20_DEG, even_rotations
from napari_orient.engine.simulation.placement import rotatable_template
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.templates import load_template
from napari_orient.engine.tomogram.tilt_geometry import geometry_of_patches

SIDE, VOXEL_SIZE = 40, 10.0
TILT_DEG = 60.0


@dataclass(frozen=True)
class Contest:
    """What every rival gets: patches (N, 40, 40, 40), particles dark; the template's place; how finely to search."""

    patches: np.ndarray
    template: str
    symmetry: str
    model: str
    rotations: int
    others: int
    threads: int


@dataclass(frozen=True)
class Told:
    """Rotations (N, 3, 3), seconds of preparing, of clock and of processors, and GB added to the peak."""

    rotations: np.ndarray
    preparing: float
    clock: float
    processors: float
    memory: float
    words: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--template", default="ribosome")
    parser.add_argument("--class", dest="kind", default="4v4r")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--model", default="ribosome-mlp", help="a network")
    parser.add_argument("--particles", type=int, default=50)
    parser.add_argument("--rotations", type=int, default=4608, help="of our matched filter")
    parser.add_argument("--others", type=int, default=1000, help="rotations of the other programs' searches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    given = parser.parse_args()
    patches, truth = patches_of(given.polnet, given.kind, given.particles)
    contest = Contest(
        patches,
        template=given.template,
        symmetry=given.symmetry,
        model=given.model,
        rotations=given.rotations,
        others=given.others,
        threads=given.threads,
    )
    group = symmetry(given.symmetry)
    print(f"{len(patches)} particles of {given.kind} from {given.polnet.name}, {given.threads} threads")
    heads = ("median", "≤ 20°", "≤ 24.56°", "CPU s/particle", "s/particle", "prepared", "memory")
    print(f"{'rival':<44}" + "".join(f"{head:>15}" for head in heads))
    for name in given.only:
        missing = MODULES.get(name)
        if missing and find_spec(missing[0]) is None:
            print(f"{name:<44}not installed: pip install {missing[1]}")
            continue
        print(row(name, alone(name, contest), truth, group))
    shares = "".join(f"{chance(angle, group):>15.2%}" for angle in (20.0, PAPER_20_DEG))
    print(f"{'a random guess':<44}{'':>15}{shares}")


def row(name: str, told: Told, truth: np.ndarray, group: Any) -> str:
    errors = symmetric_angle_deg(told.rotations, truth, group)
    shares = "".join(f"{np.mean(errors <= angle):>15.1%}" for angle in (20.0, PAPER_20_DEG))
    each = len(errors)
    return (
        f"{name + ': ' + told.words:<44}{np.median(errors):>14.2f}°{shares}{told.processors / each:>15.4f}"
        f"{told.clock / each:>15.4f}{told.preparing:>13.1f} s{told.memory:>12.2f} GB"
    )


def patches_of(folder: Path, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first whole patches of a class, over all tomograms, and their true rotations."""
    patches, rotations = [], []
    for tomogram, particles in read_polnet_folder(folder):
        own = particles.of_kind(kind)
        room = np.asarray(tomogram.extent.size) * tomogram.voxel_size - SIDE / 2 * VOXEL_SIZE
        inside = ((own.positions >= SIDE / 2 * VOXEL_SIZE) & (own.positions <= room)).all(axis=1)
        own = own.take(inside)
        patches.append(cut_patches(tomogram, own.positions, side=SIDE, voxel_size=VOXEL_SIZE, centring="rounded"))
        rotations.append(own.required_rotations())
    return np.concatenate(patches)[:count], np.concatenate(rotations)[:count]


def alone(name: str, contest: Contest) -> Told:
    """A rival's answer from a process of its own, so that each one's memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(timed, name, contest).result()


def timed(name: str, contest: Contest) -> Told:
    torch.set_num_threads(contest.threads)
    before, start = peak(), time.perf_counter()
    solve, words = RIVALS[name](contest)
    prepared, clock, processors = time.perf_counter() - start, time.perf_counter(), processor_seconds()
    rotations = solve(contest.patches)
    clock, processors = time.perf_counter() - clock, processor_seconds() - processors
    return Told(rotations, prepared, clock, processors, peak() - before, words)


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def peak() -> float:
    """GB, of this process or the largest that it started."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6


Solver = tuple[Callable[[np.ndarray], np.ndarray], str]

# --- this program -----------------------------------------------------------------------------------------------------


def network(contest: Contest) -> Solver:
    loaded = load_model(contest.model)
    assert isinstance(loaded, Network)
    if loaded.is_mixture:
        mixture = loaded.mixture()

        def solve_whitened(patches: np.ndarray) -> np.ndarray:
            dark = -torch.from_numpy(patches)
            spectra = estimate_whitening(dark, mixture.options, tomogram_voxel_size=VOXEL_SIZE).apply(dark)
            return torch.cat([mixture.predict(part)[0] for part in spectra.split(64)]).double().numpy()

        return solve_whitened, contest.model
    mlp = loaded.mlp()

    def solve(patches: np.ndarray) -> np.ndarray:
        parts = [mlp.predict(part)[0] for part in torch.from_numpy(patches).split(64)]
        return torch.cat(parts).double().numpy()

    return solve, contest.model


def matched(contest: Contest, precision: str) -> Solver:
    """The template and refinement, with wedge and noise learnt from all the patches and no pose of them."""
    template, group = load_template(contest.template), symmetry(contest.symmetry)
    reference = build_reference(template.density, template.voxel_size, resolution=2.4 * VOXEL_SIZE)
    options = RefinementOptions.of(precision=precision, max_shift=VOXEL_SIZE, device="cpu")
    patches = torch.from_numpy(contest.patches)
    geometry = geometry_of_patches(patches, options.wedge, voxel_size=VOXEL_SIZE)
    finder = run(estimate_tomogram_model(ParticleSample(patches, reference, group, geometry, VOXEL_SIZE, options)))

    def solve(given: np.ndarray) -> np.ndarray:
        return finder.find(torch.from_numpy(given)).rotations.double().numpy()

    return solve, f"{options.search.rotations} rotations, refined"


def matched_filter(contest: Contest) -> Solver:
    """Patches of 20³, whitened by their own mean power, against the turned template behind the same wedge."""
    rotations = even_rotations(contest.rotations)
    shown = torch.stack([small_spectra(turned(contest.template, rotation))[0] for rotation in rotations])
    wedge = wedge_of(20)

    def solve(patches: np.ndarray) -> np.ndarray:
        seen = torch.cat([small_spectra(part) for part in torch.from_numpy(patches).split(64)])
        power = seen.abs().square().mean(0)
        weight = torch.sqrt(wedge / torch.where(power > 0, power, torch.inf))
        references = shown * weight
        references = references / references.abs().square().sum((1, 2, 3), keepdim=True).sqrt()
        observed = torch.view_as_real(seen * weight).flatten(1)
        # Particles are dark, templates bright: the best match is the most negative.
        scores = -observed @ torch.view_as_real(references).flatten(1).T
        return rotations[scores.argmax(1).numpy()]

    return solve, f"{contest.rotations} rotations ({spacing_deg(contest.rotations):.0f}°)"


def spacing_deg(count: int) -> float:
    """Degrees between neighbours of an even grid: the cube root of each rotation's part of SO(3)'s volume, 8 π²."""
    return float(np.degrees((8 * np.pi**2 / count) ** (1 / 3)))


def turned(name: str, rotation: np.ndarray) -> torch.Tensor:
    """The template turned, in the middle of a patch of 40³."""
    density, corner = shape_of(name).rotated(rotation, np.full(3, SIDE // 2, float), voxel_size=VOXEL_SIZE)
    cube = np.zeros((SIDE,) * 3, np.float32)
    low, high = np.maximum(corner, 0), np.minimum(corner + density.shape, SIDE)
    inner = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
    cube[tuple(map(slice, low, high))] = density[inner]
    return torch.from_numpy(cube)[None]


_SHAPES: dict[str, Any] = {}


def shape_of(name: str) -> Any:
    if name not in _SHAPES:
        _SHAPES[name] = rotatable_template(load_template(name), voxel_size=VOXEL_SIZE, level=0.1)
    return _SHAPES[name]


def small_spectra(patches: torch.Tensor) -> torch.Tensor:
    """Half spectra (N, 20, 20, 11) of patches (N, 40, 40, 40), binned and masked."""
    small = fourier_bin(patches, 2)
    axis = torch.arange(20) - 10.0
    radius = torch.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    mask = (0.5 * (1 + torch.cos(torch.pi * ((radius - 8) / 1.5).clamp(0, 1))))[None]
    mean = (small * mask).sum((1, 2, 3), keepdim=True) / mask.sum()
    return torch.fft.rfftn((small - mean) * mask, dim=(1, 2, 3))


def wedge_of(side: int) -> torch.Tensor:
    """Which of a half spectrum's coefficients (side, side, side // 2 + 1) tilts about y measure, 0 or 1."""
    kz, kx = torch.fft.fftfreq(side)[:, None, None], torch.fft.rfftfreq(side)
    seen = kz.abs() <= kx * np.tan(np.radians(TILT_DEG)) + 0.5 / side
    return seen.expand(side, side, side // 2 + 1).float()


# --- others ---------------------------------------------------------------------------------------------------------


def acryo(contest: Contest) -> Solver:
    """Zero-mean normalised cross-correlation over given rotations, and shifts of up to a voxel."""
    from acryo.alignment import ZNCCAlignment
    from acryo.tilt import single_axis

    template = turned(contest.template, np.eye(3))[0].numpy()
    rotations = Rotation.from_matrix(along_zyx(even_rotations(contest.others)))
    wedge = single_axis((-TILT_DEG, TILT_DEG), axis="y")
    model = ZNCCAlignment(template, rotations=rotations, tilt=wedge)

    def solve(patches: np.ndarray) -> np.ndarray:
        found = [model.align(-patch, max_shifts=(1, 1, 1)).quat for patch in patches]
        return along_zyx(Rotation.from_quat(np.array(found)).as_matrix())

    return settled(solve, contest), f"ZNCC, {contest.others} rotations ({spacing_deg(contest.others):.0f}°)"


def pytme(contest: Contest) -> Solver:
    """Template matching in each patch by a locally normalised correlation; the best within a voxel of the middle."""
    from tme.analyzer import MaxScoreOverRotations
    from tme.filters import Compose, WedgeReconstructed
    from tme.matching_data import MatchingData
    from tme.matching_exhaustive import MATCHING_EXHAUSTIVE_REGISTER, match_exhaustive

    template = turned(contest.template, np.eye(3))[0].numpy()
    # It turns by the inverse of what it is given.
    rotations = along_zyx(turn(even_rotations(contest.others), inverse=True)).astype(np.float32)
    setup, score = MATCHING_EXHAUSTIVE_REGISTER["FLCSphericalMask"]
    axis = np.arange(SIDE) - SIDE // 2
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= 17**2).astype(np.float32)
    # Array axes are z, y, x: the beam runs along 0, and what it calls the tilt axis is the one across, 2.
    wedge = WedgeReconstructed(
        angles=(TILT_DEG, TILT_DEG), create_continuous_wedge=True, tilt_axis=2, opening_axis=0, weight_wedge=False
    )
    middle = tuple(slice(SIDE // 2 - 1, SIDE // 2 + 2) for _ in range(3))

    def best(patch: np.ndarray) -> np.ndarray:
        pair = MatchingData(target=-patch, template=template.copy(), template_mask=ball.copy(), rotations=rotations)
        pair.template_filter = Compose([wedge])
        threads = contest.threads
        schedule = {"job_schedule": (1, threads), "interpolation_order": 1}
        found = match_exhaustive(pair, score, setup, MaxScoreOverRotations, **schedule)
        scores, indices, mapping = found[0], found[2], found[3]
        where = np.argmax(scores[middle])
        return np.asarray(mapping[int(indices[middle].ravel()[where])])

    def solve(patches: np.ndarray) -> np.ndarray:
        return along_zyx(np.array([best(patch) for patch in patches]).astype(float).reshape(-1, 3, 3))

    return settled(solve, contest), f"FLC, {contest.others} rotations ({spacing_deg(contest.others):.0f}°)"


def along_zyx(matrices: np.ndarray) -> np.ndarray:
    """Rotations of xyz columns as those of zyx columns, and back."""
    return np.ascontiguousarray(matrices[..., ::-1, ::-1])


def settled(solve: Callable[[np.ndarray], np.ndarray], contest: Contest) -> Callable[[np.ndarray], np.ndarray]:
    """The same, telling R and not its inverse: which of both a rival tells shows on noise-free patches."""
    truth = even_rotations(contest.others)[[7, contest.others // 2]]
    clean = np.concatenate([-turned(contest.template, rotation).numpy() for rotation in truth])
    told = solve(clean)
    errors = {
        inverse: symmetric_angle_deg(turn(told, inverse=inverse), truth, symmetry("C1")) for inverse in (False, True)
    }
    inverse = errors[True].mean() < errors[False].mean()
    if errors[inverse].max() > spacing_deg(contest.others) / 2:
        raise SystemExit(f"a rival's own rotations are not understood: {errors} degrees off on noise-free patches")
    return lambda patches: turn(solve(patches), inverse=inverse)


def turn(matrices: np.ndarray, *, inverse: bool) -> np.ndarray:
    return matrices.swapaxes(-1, -2) if inverse else matrices


RIVALS: dict[str, Callable[[Contest], Solver]] = {
    "network": network,
    "template, fast": partial(matched, precision="fast"),
    "template, precise": partial(matched, precision="precise"),
    "matched filter": matched_filter,
    "acryo": acryo,
    "pyTME": pytme,
}
MODULES = {"acryo": ("acryo", "acryo"), "pyTME": ("tme", "pytme")}


if __name__ == "__main__":
    main()

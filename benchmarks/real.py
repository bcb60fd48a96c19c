"""Real ribosomes, tilt series by tilt series: how near poses come to those that their authors refined.

    python benchmarks/real.py [FOLDER] [--series NAME ...] [--kinds NAME ...] [--methods own ribosome ... discover]
        [--metadata none given] [--off Å ...] [--seeds N] [--json FILE] [--pictures FOLDER]

FOLDER has ctfcorrected/NAME.mrc and premultiplied/NAME.mrc (boxes side by side), NAME_picks.star, NAME_truth.star,
reference_in_truth_frame.mrc, and perhaps stacks2d/tomograms.star, the tilt metadata. Without FOLDER it is
real/mpneumoniae_70S of the data folder (see figures.py). Every series that has a truth is measured.

Methods: `own` is `refine` with the map in the folder; a model's name is `predict` with it; `discover` takes the picks
of all series together. Picks are exact, or off by up to --off Å along each axis. Poses in another map's frame are
brought into that of the truth by laying the one map over the other (no pose of a particle is used for it); those of
`discover`, which has no map before, by the rotation that most particles agree on.

Figures: share within 5, 10 and 20°, median, how many are sure (expected error below 10°) and how many of these are
wrong by more than 20°, rms of the expected over the true error of those within 20°. Truth is what a list says: see
real_tilts.py for what the tilt images say of it. --pictures draws, for `own`, each particle beside its reference in the
pose found and in the true one, through the forward model.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from figures import data_folder
from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.search import align_map, global_rotation
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.networks.network import Network
from napari_orient.engine.parameters import DiscoveryOptions, PredictionOptions, RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template, load_template

SURE_DEG = 10.0
"""Degrees of expected error below which a pose counts as sure."""
WRONG_DEG = 20.0
"""Degrees of true error above which a pose is wrong."""
DIAMETER = 280.0
"""Å, of a ribosome, for `discover`: patches are 4/3 of it, and must fit boxes of 384 Å."""
RADIUS = 130.0
"""Å of the ball in which maps are laid over each other."""
PICTURE_RESOLUTION = 40.0
"""Å of the low-pass of the pictures."""
METADATA = "stacks2d/tomograms.star"


@dataclass(frozen=True)
class Series:
    """The boxes of one tilt series, of one kind, with their true poses."""

    folder: Path
    name: str
    kind: str

    @property
    def tomogram(self) -> Tomogram:
        """The boxes, side by side."""
        return read_tomogram(self.folder / self.kind / f"{self.name}.mrc")

    @property
    def truth(self) -> Particles:
        """The particles with the poses of the list."""
        return read_particles(self.folder / f"{self.name}_truth.star", extents={self.name: self.tomogram.extent})

    def picks(self, off: float, seed: int) -> Particles:
        """Exact picks, or picks off by up to ``off`` Å along each axis, without rotations."""
        true = self.truth
        moved = np.random.default_rng(seed).uniform(-off, off, size=true.positions.shape)
        return true.replace(positions=true.positions + moved, rotations=None)

    def metadata(self, given: bool) -> dict[str, str]:
        """The option that gives the tilt metadata."""
        return {"tilts": str(self.folder / METADATA)} if given else {}


def figures(error: np.ndarray, expected: np.ndarray | None) -> dict[str, float]:
    """Shares, median, the number sure and of these wrong, and expected over true error."""
    found = {"count": float(len(error)), "median_deg": float(np.median(error))}
    found |= {f"within_{limit}": 100 * float((error <= limit).mean()) for limit in (5, 10, 20)}
    if expected is not None:
        sure, near = expected < SURE_DEG, error <= WRONG_DEG
        found["sure"], found["sure_and_wrong"] = float(sure.sum()), float((sure & (error > WRONG_DEG)).sum())
        if near.any():
            found["expected_over_true"] = float(np.sqrt((expected[near] ** 2).mean() / (error[near] ** 2).mean()))
    return {name: round(value, 3) for name, value in found.items()}


def own_map(folder: Path) -> Template:
    """The map in the frame of the truth."""
    return load_template(folder / "reference_in_truth_frame.mrc")


def to_truth_frame(found: Particles, template: Template, target: Template) -> np.ndarray:
    """The found rotations in the frame of another map, the two laid over each other, (N, 3, 3)."""
    rotation, _ = align_map(
        template.density,
        target.density,
        voxel_size=template.voxel_size,
        target_voxel_size=target.voxel_size,
        radius=RADIUS,
    )
    return found.required_rotations() @ rotation


def refined(series: Series, picks: Particles, *, given: bool) -> RefinementResult:
    """The answer of `refine` with the data's own map."""
    options = RefinementOptions.of(device="cpu", **series.metadata(given))
    return run(refine(series.tomogram, picks, own_map(series.folder), options))


def measured(
    series: Series, method: str, *, given: bool, off: float, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """True errors in degrees, and the expected ones, of one method on one series."""
    picks, truth = series.picks(off, seed), series.truth.required_rotations()
    if method == "own":
        found = refined(series, picks, given=given).particles
        return angle_deg(found.required_rotations(), truth), found.expected_error_deg
    model = load_model(method)
    options = PredictionOptions.of(device="cpu", **series.metadata(given))
    found = run(predict(series.tomogram, picks, model, options))
    # A network's frame is that of the map it was trained on: the bead model of its class.
    template = load_template(str(model.classes[0])) if isinstance(model, Network) else model
    return angle_deg(to_truth_frame(found, template, own_map(series.folder)), truth), found.expected_error_deg


def discovered(several: list[Series], *, given: bool, off: float, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The same of `discover` on all series together, up to the one rotation that most particles agree on."""
    options = DiscoveryOptions.of(device="cpu", diameter=DIAMETER, seed=seed, **several[0].metadata(given))
    found = run(discover([(series.tomogram, series.picks(off, seed)) for series in several], options)).particles
    truth = np.concatenate([series.truth.required_rotations() for series in several])
    between = global_rotation(truth, found.required_rotations(), near_deg=25.0)
    return angle_deg(found.required_rotations() @ between, truth), found.expected_error_deg


# --- pictures -------------------------------------------------------------------------------------------------------


def pictures(series: Series, path: Path, *, given: bool) -> None:
    """Write a picture of every particle beside its reference in the pose found and in the true one, worst last."""
    from matplotlib.figure import Figure

    result, truth = refined(series, series.picks(0.0, 0), given=given), series.truth
    finder = result.finder
    error = angle_deg(result.particles.required_rotations(), truth.required_rotations())
    expected = np.asarray(result.particles.expected_error_deg)
    kinds = np.where(error <= WRONG_DEG, "right", np.where(expected < SURE_DEG, "wrong, sure", "wrong, unsure"))
    kinds = np.where((kinds == "right") & (expected >= SURE_DEG), "right, unsure", kinds)
    order = np.lexsort((error, kinds))
    patches = observed_cubes(series.tomogram, result, finder.full_model)
    figure = Figure(figsize=(1.9 * len(order), 7.2))
    axes = figure.subplots(4, len(order), squeeze=False)
    titles = ("particle", "reference, pose found", "reference, true pose", "average of both axes")
    for column, row in enumerate(order):
        shift = result.moved[row]
        found = through_model(finder.full_model, finder.reference, result.particles.rotations[row], shift)
        true = through_model(finder.full_model, finder.reference, truth.rotations[row], shift)
        for panel, cube in zip(axes[:, column], (patches[row], found, true), strict=False):
            show(panel, cube)
        text = f"{kinds[row]}\n{error[row]:.0f}° off\n{expected[row]:.0f}° expected\nscore {result.score[row]:.1f}"
        axes[3, column].text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
        axes[3, column].axis("off")
        axes[0, column].set_title(f"{series.name}/{row + 1}", fontsize=8)
    for panel, title in zip(axes[:3, 0], titles, strict=False):
        panel.set_ylabel(title, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def show(panel: object, cube: np.ndarray) -> None:
    """Draw the central slices of a cube, xy above xz, three voxels thick each."""
    middle = len(cube) // 2
    thick = slice(middle - 1, middle + 2)
    panel.imshow(np.concatenate([cube[thick].mean(0), cube[:, thick].mean(1)]), cmap="gray")
    panel.set_xticks([])
    panel.set_yticks([])


def through_model(model: ForwardModel, reference: Reference, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The reference in a pose, behind the wedge and the gain, low-passed, (n, n, n)."""
    at = torch.as_tensor(rotation, dtype=torch.float32)
    values = reference.transform(model.frequency @ at) * model.whitened_gain / model.whitening.abs()
    angle = -2 * torch.pi * (model.frequency @ torch.as_tensor(shift, dtype=torch.float32))
    return cube_of(model, values * torch.polar(torch.ones_like(angle), angle))


def observed_cubes(tomogram: Tomogram, result: RefinementResult, model: ForwardModel) -> list[np.ndarray]:
    """The patches that were matched, particle bright, low-passed as the reference is, about the picks."""
    from napari_orient.engine.patches import cut_patches

    side = model.window.shape[-1]
    places = result.particles.positions - result.moved
    patches = torch.from_numpy(cut_patches(tomogram, places, side=side, centring="rounded"))
    values = torch.view_as_complex(model.observe(patches).movedim(1, -1).contiguous()) / model.whitening.abs()
    return [cube_of(model, row) for row in values]


def cube_of(model: ForwardModel, values: torch.Tensor) -> np.ndarray:
    """Coefficients (M,) as a volume (n, n, n), low-passed."""
    cube = torch.zeros((model.box,) * 3, dtype=torch.complex64)
    kept = model.frequency.norm(dim=1) <= 1 / PICTURE_RESOLUTION
    x, y, z = model.indices[kept].T
    cube[z, y, x], cube[-z, -y, -x] = values[kept], values[kept].conj()
    return torch.fft.fftshift(torch.fft.ifftn(cube).real).numpy()


# --- the run --------------------------------------------------------------------------------------------------------


def cells(given: argparse.Namespace) -> list[dict[str, object]]:
    """Every combination that was asked for: kind, method, metadata, offset of the picks."""
    return [
        {"kind": kind, "method": method, "metadata": metadata, "off": off}
        for kind in given.kinds
        for method in given.methods
        for metadata in given.metadata
        for off in given.off
    ]


def run_cell(folder: Path, cell: dict[str, object], names: list[str], seeds: int) -> list[dict[str, object]]:
    """Rows of figures: one for each series, and one of all together."""
    given, off, rows = cell["metadata"] == "given", float(str(cell["off"])), []
    several = [Series(folder, name, str(cell["kind"])) for name in names]
    errors: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    for group in [several] if cell["method"] == "discover" else [[item] for item in several]:
        for seed in range(seeds if off else 1):
            started = time.process_time()
            try:
                if cell["method"] == "discover":
                    error, expect = discovered(group, given=given, off=off, seed=seed)
                else:
                    error, expect = measured(group[0], str(cell["method"]), given=given, off=off, seed=seed)
            except InputError as refusal:
                rows.append({**cell, "series": group[0].name, "refused": str(refusal)})
                continue
            errors.append(error)
            expected.append(np.full(len(error), np.nan) if expect is None else np.asarray(expect))
            seconds = round(time.process_time() - started, 1)
            row = {**cell, "series": "+".join(item.name for item in group), "seed": seed, "seconds": seconds}
            rows.append({**row, **figures(error, expect), "errors": np.round(error, 1).tolist()})
    if len(errors) > 1:
        rows.append({**cell, "series": "all", **figures(np.concatenate(errors), np.concatenate(expected))})
    return rows


def line(row: dict[str, object]) -> str:
    """A row of the table that is printed."""
    head = f"{row['kind']:<14}{row['method']:<14}{row['metadata']:<7}±{row['off']:<4g}{row['series']:<17}"
    if "refused" in row:
        return f"{head} {row['refused']}"
    names = ("within_5", "within_10", "within_20", "median_deg", "sure", "sure_and_wrong", "expected_over_true")
    return head + "".join(f"{row.get(name, float('nan')):>8.4g}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of the series; see above")
    parser.add_argument("--series", nargs="+", metavar="NAME", help="default: all that have a truth")
    parser.add_argument("--kinds", nargs="+", default=["ctfcorrected", "premultiplied"])
    parser.add_argument("--methods", nargs="+", default=["own", "ribosome", "ribosome-mlp", "discover"])
    parser.add_argument("--metadata", nargs="+", choices=("none", "given"), default=["none", "given"])
    parser.add_argument("--off", nargs="+", type=float, default=[0.0], help="Å along each axis that picks are off by")
    parser.add_argument("--seeds", type=int, default=3, help="draws of picks that are off")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures; nothing else is done then")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or data_folder() / "real" / "mpneumoniae_70S"
    names = given.series or sorted(item.name.removesuffix("_truth.star") for item in folder.glob("*_truth.star"))
    if not names:
        parser.error(f"{folder} has no NAME_truth.star")
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
        for name in names:
            for kind in given.kinds:
                path = given.pictures / f"{name}_{kind}.png"
                pictures(Series(folder, name, kind), path, given=given.metadata[0] == "given")
        return
    rows: list[dict[str, object]] = []
    heads = ("≤ 5°", "≤ 10°", "≤ 20°", "median", "sure", "wrong", "exp/true")
    head = f"{'kind':<14}{'method':<14}{'tilts':<7}{'off':<5}{'series':<17}"
    print(head + "".join(f"{item:>8}" for item in heads))
    for cell in cells(given):
        for row in run_cell(folder, cell, names, given.seeds):
            rows.append(row)
            print(line(row), flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

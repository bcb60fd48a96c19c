"""What the tilt images say of poses: the score of listed and of found poses in the images that the boxes are made of.

    python benchmarks/real_tilts.py [FOLDER] [--series NAME ...] [--kind ctfcorrected]

FOLDER as for real.py, with stacks2d/ beside: NAME/*.mrcs, the images of each particle (premultiplied by the CTF), and
tomograms.star. Every image is compared with the projection of the map, with its own CTF and dose; no volume, no missing
wedge and no interpolation between images is involved, and the noise is that of each image in rings of frequency. The
score is in deviations of the noise: half its square is the log-likelihood over no particle. Printed for each particle:
the score of the listed pose (fitted from there), of the pose that `refine` finds in the boxes (fitted from there), and
of the best of 4,608 rotations about the box's centre, with what the last two are off the listed pose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mrcfile
import numpy as np
import torch
from real import METADATA, Series, own_map, refined

from figures import data_folder
from napari_orient.engine.io.tilt_metadata import read_tilt_series
from napari_orient.engine.matching.fit import Fit, fit_poses
from napari_orient.engine.matching.search import asymmetric_rotations
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.symmetry import symmetry

FINEST = 28.0
"""Å, finest detail compared."""
LEAST_CTF = 0.1
"""Least CTF of a coefficient that is compared: premultiplied images hold nothing else."""
SEARCH_RESOLUTION = 40.0
"""Å of the search over all rotations."""
STARTS = 25
"""Best rotations that are fitted."""


def observed_images(series: Series) -> tuple[ForwardModel, torch.Tensor]:
    """The model of all coefficients of all images, in 3D, and these of the particles, whitened, (N, 2, M)."""
    tilts, voxel_size = read_tilt_series(series.folder / METADATA, tomogram=series.name), series.tomogram.voxel_size
    stacks = sorted((series.folder / "stacks2d" / series.name).glob("*.mrcs"))
    images = np.stack([mrcfile.read(path) for path in stacks]).astype(np.float64)
    side = images.shape[-1]
    line = np.fft.fftfreq(side, voxel_size)
    ky, kx = np.meshgrid(line, line, indexing="ij")
    radius = np.hypot(kx, ky)
    half = (kx > 0) | ((kx == 0) & (ky > 0))
    chosen = (
        half
        & (radius <= 1 / FINEST)
        & (radius > 1.5 / (side * voxel_size))
        & (np.maximum(abs(kx), abs(ky)) < 0.999 / (2 * voxel_size))
    )
    plane = np.stack([kx[chosen], ky[chosen]], axis=-1)
    every = np.broadcast_to(plane, (len(tilts), *plane.shape))
    contrast, damping = tilts.contrast_transfer(every), tilts.dose_damping(np.linalg.norm(every, axis=-1))
    place = (np.arange(side) - side // 2) * voxel_size
    soft = np.clip((side / 2 * voxel_size - 12 - np.hypot(place[:, None], place)) / (3 * voxel_size), 0, 1)
    centred = (images - images.mean((2, 3), keepdims=True)) * soft
    # The list is that of the mirror image: boxes and poses are those of the point-inverted specimen.
    values = np.fft.fft2(np.fft.ifftshift(centred, axes=(2, 3)))[:, :, chosen].conj()
    ring = np.rint(radius[chosen] * side * voxel_size).astype(int)
    noise = np.ones_like(contrast)
    for number in np.unique(ring):
        members = ring == number
        power = (np.abs(values[:, :, members]) ** 2).mean((0, 2)) / (contrast[:, members] ** 2).mean(1)
        noise[:, members] = power[:, None] / 2
    used = np.abs(contrast) > LEAST_CTF
    frequency = np.einsum("md,tdc->tmc", plane, tilts.axes[:, :2])[used]
    order = np.argsort(np.linalg.norm(frequency, axis=1))
    whitened = (values / np.where(used, contrast, 1) / np.sqrt(noise))[:, used][:, order]
    model = ForwardModel(
        torch.as_tensor(np.rint(frequency[order] * side * voxel_size)).long(),
        torch.as_tensor(frequency[order], dtype=torch.float32),
        torch.as_tensor((contrast * damping / np.sqrt(noise))[used][order], dtype=torch.float32),
        torch.ones(len(order), dtype=torch.complex64),
        torch.ones((side,) * 3),
        voxel_size,
        side,
    )
    return model, torch.as_tensor(np.stack([whitened.real, whitened.imag], axis=1), dtype=torch.float32)


def best_of_all(reference: Reference, model: ForwardModel, observed: torch.Tensor) -> Fit:
    """The best fits from the best of all rotations about the centre."""
    low = model.within(SEARCH_RESOLUTION)
    rotations = torch.as_tensor(asymmetric_rotations(4608, symmetry("C1")), dtype=torch.float32)
    flat, scores = observed[:, :, : len(low.indices)].flatten(1), []
    for part in rotations.split(64):
        values = reference.transform(low.frequency @ part) * low.whitened_gain
        filters = torch.stack([values.real, values.imag], dim=1).flatten(1)
        scores.append(flat @ (filters / filters.norm(dim=1, keepdim=True)).T)
    top = torch.cat(scores, dim=1).topk(STARTS, dim=1).indices
    none = torch.zeros(len(observed), 3)
    fits = [
        fit_poses(reference, model, observed, rotations=rotations[column], shifts=none, steps=6) for column in top.T
    ]
    best = torch.stack([fit.score for fit in fits]).argmax(0)
    rows = [fits[int(number)].take(torch.tensor([row])) for row, number in enumerate(best)]
    return Fit(*(torch.cat([getattr(item, name) for item in rows]) for name in ("rotations", "shifts", "gram")))


def report(series: Series) -> None:
    """Print the table of one series."""
    template, truth = own_map(series.folder), series.truth.required_rotations()
    reference = build_reference(template.density, template.voxel_size, resolution=26.0)
    model, observed = observed_images(series)
    listed = torch.as_tensor(truth, dtype=torch.float32)
    none = torch.zeros(len(observed), 3)
    result = refined(series, series.picks(0.0, 0), given=False)
    found = torch.as_tensor(result.particles.required_rotations(), dtype=torch.float32)
    moved = torch.as_tensor(result.moved, dtype=torch.float32)
    of_list = fit_poses(reference, model, observed, rotations=listed, shifts=none, steps=8)
    of_boxes = fit_poses(reference, model, observed, rotations=found, shifts=moved, steps=8)
    best = best_of_all(reference, model, observed)
    print(
        f"{series.name}: score in the tilt images of the pose listed; found in the boxes (° off); best of all (° off)"
    )
    for row in range(len(observed)):
        off = [float(angle_deg(item.rotations[row].double().numpy(), truth[row])) for item in (of_boxes, best)]
        print(
            f"{row + 1:4}  listed {of_list.score[row]:5.1f}   found {of_boxes.score[row]:5.1f} ({off[0]:5.1f}°, "
            f"{np.linalg.norm(result.moved[row]):3.0f} Å, expected {result.particles.expected_error_deg[row]:5.1f}°)   "
            f"best {best.score[row]:5.1f} ({off[1]:5.1f}°)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of the series")
    parser.add_argument("--series", nargs="+", metavar="NAME", help="default: all that have a truth")
    parser.add_argument("--kind", default="ctfcorrected", help="boxes that poses are found in")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or data_folder() / "real" / "mpneumoniae_70S"
    for name in given.series or sorted(item.name.removesuffix("_truth.star") for item in folder.glob("*_truth.star")):
        report(Series(folder, name, given.kind))


if __name__ == "__main__":
    main()

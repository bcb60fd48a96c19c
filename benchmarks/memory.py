"""How much memory predicting a tomogram takes, at its peak, in a process of its own.

    python benchmarks/memory.py TOMOGRAM PICKS [--class 4v4r] [--model ribosome] [--times 4] [--resampled 5]

The picks are given --times over. With --resampled the tomogram is first interpolated to voxels of so many Å and written
to a file, to see what finer voxels cost. Printed: MB of the program once its libraries are loaded, and at its peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom

from napari_orient.engine.io import read_particles, read_tomogram, write_tomogram
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import concatenate
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.streams import run


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(path: Path, given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    checkpoint, tomogram = load_model(given.model), read_tomogram(path)
    picks = read_particles(given.picks).replace(rotations=None, tomogram=tomogram.name)
    picks = concatenate([picks.of_kind(given.kind) if given.kind else picks] * given.times)
    before = peak()
    run(predict(tomogram, picks, checkpoint, PredictionOptions.of(device="cpu")))
    size = tomogram.density.nbytes / 2**20
    print(
        f"{checkpoint.name}, {len(picks)} picks, {tomogram.voxel_size:g} Å, tomogram of {size:.0f} MB: "
        f"{before:.0f} MB before, {peak():.0f} MB at the peak",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("picks", type=Path)
    parser.add_argument("--class", dest="kind")
    parser.add_argument("--model", default="ribosome")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--resampled", type=float)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.tomogram
        if given.resampled:
            whole = read_tomogram(path)
            path = Path(folder) / path.name
            finer = zoom(np.asarray(whole.density, np.float32), whole.voxel_size / given.resampled, order=1)
            write_tomogram(path, finer, voxel_size=given.resampled)
            del whole, finer
        # A fresh process: what this one took to resample does not count.
        task = multiprocessing.get_context("spawn").Process(target=measured, args=(path, given))
        task.start()
        task.join()


if __name__ == "__main__":
    main()

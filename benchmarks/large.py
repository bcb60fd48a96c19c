"""Memory of large data, each case in a process of its own: a tomogram of 4 GB, the same in OME-Zarr, a million picks.

    python benchmarks/large.py [--gigabytes 4] [--picks 1000000] [--cases mrc zarr template picks list csv star]

The case ``list`` is that of the picks with one batch's answer for all: what a list costs beside the network. ``csv``
and ``star`` read a list of as many poses.

The tomogram is a sparse file of zeros in the benchmark's temporary folder, with noise written where the picks are; in
OME-Zarr absent chunks are zeros. Printed: MB of the whole process (maximum resident set) once libraries are loaded and
the model is there, at the peak of opening and predicting, and of these how much is anonymous, not pages of the file
that the system drops when it needs them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np

VOXEL_SIZE = 10.0
PLANES = 256
CHUNK = 128
"""Voxels along a chunk of the OME-Zarr."""
LISTS = ("csv", "star")
CASES = ("mrc", "zarr", "template", "picks", "list", *LISTS)
NAME = "tomogram_of_20_chars"


class Peak:
    """Most anonymous memory of this process, MB, read every few milliseconds from /proc while it is watched."""

    def __init__(self) -> None:
        self.most, self._done = 0.0, Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, anonymous())


def anonymous() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def resident() -> float:
    """Most memory that this process has held, MB; unlike getrusage's, without what its parent held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def places(side: int, count: int) -> np.ndarray:
    """Positions (N, 3) in Å of picks, inside by a patch."""
    low, high = 40 * VOXEL_SIZE, np.array([side - 40, side - 40, PLANES - 40]) * VOXEL_SIZE
    return np.random.default_rng(0).uniform(low, high, (count, 3))


def write_mrc(path: Path, side: int, positions: np.ndarray) -> None:
    import mrcfile

    rng = np.random.default_rng(1)
    with mrcfile.new_mmap(path, shape=(PLANES, side, side), mrc_mode=2, fill=None) as volume:
        volume.voxel_size = VOXEL_SIZE
        for x, y, z in np.rint(positions / VOXEL_SIZE).astype(int):
            volume.data[z - 32 : z + 32, y - 32 : y + 32, x - 32 : x + 32] = rng.normal(size=(64, 64, 64))


def write_zarr(path: Path, side: int, positions: np.ndarray) -> None:
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array("0", shape=(PLANES, side, side), chunks=(CHUNK,) * 3, dtype="float32", fill_value=0)
    scale = {"type": "scale", "scale": [VOXEL_SIZE] * 3}
    axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    rng = np.random.default_rng(1)
    for x, y, z in np.rint(positions / VOXEL_SIZE).astype(int):
        array[z - 32 : z + 32, y - 32 : y + 32, x - 32 : x + 32] = rng.normal(size=(64, 64, 64)).astype(np.float32)


def answer_once() -> None:
    """Have every batch of an MLP answered as the first one is."""
    from napari_orient.engine.prediction.predict import MLPAnswer, NetworkAnswer

    answers: list[NetworkAnswer] = []
    work = MLPAnswer.__call__

    def repeated(self: MLPAnswer, positions: np.ndarray) -> NetworkAnswer:
        if not answers:
            answers.append(work(self, positions))
        once, rows = answers[0], np.arange(len(positions)) % len(answers[0].rotations)
        columns = (once.expected_deg, once.confidence, once.if_right_deg)
        return NetworkAnswer(once.rotations[rows], *(None if item is None else item[rows] for item in columns))

    MLPAnswer.__call__ = repeated  # type: ignore[method-assign]


def measured(case: str, path: Path, positions: np.ndarray, picks: Path) -> None:
    import torch

    from napari_orient.engine.io import read_particles, read_tomogram, write_particles
    from napari_orient.engine.parameters import PredictionOptions
    from napari_orient.engine.particles import Particles
    from napari_orient.engine.prediction.predict import load_model, predict
    from napari_orient.engine.streams import run

    torch.set_num_threads(1)
    model = load_model("ribosome" if case == "template" else "ribosome-4x32")
    # What is imported at first use belongs to the libraries, not to the data.
    warm = Particles(positions=np.full((30, 3), 400.0) + np.arange(90).reshape(30, 3), tomogram="warm")
    density = np.random.default_rng(0).normal(size=(80, 80, 80)).astype(np.float32)
    from napari_orient.engine.particles import Tomogram

    run(predict(Tomogram(density, VOXEL_SIZE, "warm"), warm, model, PredictionOptions.of(device="cpu")))
    if case == "zarr":
        import zarr  # noqa: F401
    before, held, began = resident(), anonymous(), time.process_time()
    with Peak() as peak:
        tomogram = read_tomogram(path)
        if case in ("picks", "list"):
            if case == "list":
                answer_once()
            given = read_particles(picks).replace(tomogram=tomogram.name)
            found = run(predict(tomogram, given, model, PredictionOptions.of(device="cpu")))
            write_particles(picks.with_name("poses.csv"), found)
        else:
            given = Particles(positions=positions, tomogram=tomogram.name)
            found = run(predict(tomogram, given, model, PredictionOptions.of(device="cpu")))
    size = tomogram.density.nbytes / 2**20
    print(
        f"{case}: {len(found):,} picks in a tomogram of {size:,.0f} MB with {model.name}: {before:.0f} MB before, "
        f"{resident() - before:+.0f} MB at the peak, of which anonymous {peak.most - held:+.0f} MB; "
        f"{time.process_time() - began:.0f} s of processor",
        flush=True,
    )


def write_poses(path: Path, count: int) -> None:
    """A list of random poses with confidences and expected errors."""
    from napari_orient.engine.io import write_particles
    from napari_orient.engine.particles import Extent, Particles
    from napari_orient.engine.rotations import random_rotations

    rng = np.random.default_rng(0)
    poses = Particles(
        positions=rng.uniform(0, 10_000, (count, 3)),
        rotations=random_rotations(count, rng),
        confidence=rng.uniform(0, 1, count),
        expected_error_deg=rng.uniform(0, 20, count),
        tomogram=NAME,
        extents={NAME: Extent((1000, 1000, 1000), VOXEL_SIZE)},
    )
    write_particles(path, poses)


def read_poses(path: Path) -> None:
    import scipy.spatial.transform  # noqa: F401
    import starfile  # noqa: F401

    from napari_orient.engine.io import read_particles

    held, began = anonymous(), time.process_time()
    with Peak() as peak:
        found = read_particles(path)
    print(
        f"{path.suffix[1:]}: {len(found):,} poses read; {peak.most - held:+.0f} MB at the peak, "
        f"{anonymous() - held:+.0f} MB afterwards; {time.process_time() - began:.0f} s of processor",
        flush=True,
    )


def apart(task: Callable[..., None], *given: object) -> None:
    """Do something in a fresh process: what this one took does not count."""
    process = multiprocessing.get_context("spawn").Process(target=task, args=given)
    process.start()
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--picks", type=int, default=1_000_000)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side = int((given.gigabytes * 2**30 / 4 / PLANES) ** 0.5)
        positions, list_path = places(side, 200), folder / "picks.csv"
        small = folder / "small.mrc"
        paths = {"mrc": folder / "large.mrc", "zarr": folder / "large.zarr", "picks": small, "list": small}
        for case in given.cases:
            if case in LISTS:
                apart(write_poses, folder / f"poses.{case}", given.picks)
                apart(read_poses, folder / f"poses.{case}")
                continue
            path = paths["mrc" if case == "template" else case]
            if case in ("mrc", "template") and not path.exists():
                write_mrc(path, side, positions)
            elif case == "zarr":
                write_zarr(path, side, positions)
            elif case in ("picks", "list") and not list_path.exists():
                write_mrc(path, 256, places(256, 20))
                many = places(256, given.picks)
                lines = "\n".join(f"{x:.1f},{y:.1f},{z:.1f}" for x, y, z in many)
                list_path.write_text(f"x,y,z\n{lines}\n", encoding="ascii")
                del many, lines
            apart(measured, case, path, positions, list_path)


if __name__ == "__main__":
    main()

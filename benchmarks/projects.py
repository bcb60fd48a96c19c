"""Many tomograms: one process, two workers, a worker killed half-way, and a run killed half-way and resumed.

    python benchmarks/projects.py [--tomograms 50] [--particles 100] [--model ribosome-mlp] [--data DIR] [--only ...]

Simulates the tomograms into --data, where they are not there yet (a temporary folder by default), and predicts their
particles by the command line:

- ``one``: in one process;
- ``plain``: in two processes started by hand, each with half of the tomograms, which is what two cores can do at best;
- ``two``: ``--scheduler local:2``;
- ``killed``: the same, one worker killed (SIGKILL) when half of the tomograms are done;
- ``resumed``: the same, the whole run killed (SIGKILL) then, and run again with ``--resume``.

Prints for each case the seconds, the processor seconds of all its processes and of the busiest one, how many tomograms
were begun, and whether the merged list is that of ``one`` to the byte. On a busy machine seconds say little: the
speed-up is that in processor seconds, one process over the busiest of two workers or half of all, whichever is more.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.particles import concatenate
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template

SIZE = (224, 224, 88)
"""Voxels of 10 Å along x, y, z, in which 100 ribosomes fit."""
OFFSET = 6.0
"""Å by which picks are off along each axis (standard deviation)."""
CASES = ("one", "plain", "two", "killed", "resumed")


def simulated(folder: Path, *, tomograms: int, particles: int) -> Path:
    """The folder of tomograms and their list of picks, simulated where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    picks, template = folder / "picks.star", load_template("ribosome")
    size = dict(zip(("size_x", "size_y", "size_z"), SIZE, strict=True))
    if picks.exists():
        return folder
    parts = []
    for number in range(tomograms):
        name, seed = f"TS_{number:03d}", 1000 + number
        options = SimulationOptions.of(**size)
        tomogram, truth = run(simulate([template], options, seed=seed, name=name, counts=[particles]))
        write_tomogram(folder / f"{name}.mrc", tomogram.density, voxel_size=tomogram.voxel_size)
        moved = truth.positions + np.random.default_rng(seed).normal(scale=OFFSET, size=truth.positions.shape)
        parts.append(truth.replace(positions=moved, rotations=None).located_in(tomogram))
        print(f"\rsimulated {number + 1} of {tomograms}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    write_particles(picks, concatenate(parts))
    return folder


@dataclass
class Run:
    """Seconds and processor seconds of the processes of a case, by their numbers."""

    seconds: float = 0.0
    processor: dict[int, float] = field(default_factory=dict)

    def sample(self, process: psutil.Process) -> list[psutil.Process]:
        """Note the processor seconds of a process and all that it started; these, but for itself."""
        try:
            children = process.children(recursive=True)
            for item in (process, *children):
                times = item.cpu_times()
                self.processor[item.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            return []
        return children

    @property
    def total(self) -> float:
        """Processor seconds of all."""
        return sum(self.processor.values())

    @property
    def busiest(self) -> float:
        """Processor seconds of the busiest."""
        return max(self.processor.values())


def command(data: list[Path], output: Path, model: str, *flags: str) -> list[str]:
    words = [sys.executable, "-m", "napari_orient.cli", "predict", *map(str, data)]
    return [*words, "--model", model, "--output", str(output), "--device", "cpu", *flags]


def followed(
    commands: list[list[str]], found: Run, *, half: Path | None = None, tomograms: int = 0, kill: str = ""
) -> int:
    """Processes run to their end, or to a kill when half of the tomograms are done; how many were done by then."""
    began, before = time.monotonic(), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        psutil.Process(subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL).pid) for words in commands
    ]
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        children = [child for process in processes for child in found.sample(process)]
        if kill and half is not None and len(done(half)) >= tomograms // 2:
            before = len(done(half))
            workers = [child for child in children if found.processor[child.pid] > 1.0]
            victim = processes[0] if kill == "run" else max(workers, key=lambda child: found.processor[child.pid])
            os.kill(victim.pid, signal.SIGKILL)
            kill = ""
        time.sleep(0.2)
    for process in processes:
        process.wait()
    found.seconds += time.monotonic() - began
    return before


def done(output: Path) -> list[str]:
    """Tomograms that the table of states beside an output says are done."""
    table = output.with_name(f"{output.stem}_status.csv")
    if not table.exists():
        return []
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return [row["tomogram"] for row in rows if row["state"].startswith("done")]


def measured(case: str, data: Path, folder: Path, model: str, tomograms: int) -> tuple[Run, Path | None, str]:
    """The run of a case, its list, and a remark."""
    output, two = folder / f"{case}.star", ("--scheduler", "local:2")
    words, found = command([data], output, model), Run()
    if case == "one":
        followed([words], found)
    elif case == "plain":
        volumes = sorted(data.glob("*.mrc"))
        halves = [volumes[: len(volumes) // 2], volumes[len(volumes) // 2 :]]
        picks = data / "picks.star"
        followed([command([*half, picks], folder / f"half{k}.star", model) for k, half in enumerate(halves)], found)
        return found, None, ""
    elif case == "two":
        followed([[*words, *two]], found)
    elif case == "killed":
        before = followed([[*words, *two]], found, half=output, tomograms=tomograms, kill="worker")
        return found, output, f"a worker killed when {before} were done"
    else:
        before = followed([[*words, *two]], found, half=output, tomograms=tomograms, kill="run")
        left = output.exists()
        followed([[*words, *two, "--resume"]], found)
        kept = sum("done before" in line for line in output.with_name("resumed_status.csv").read_text().splitlines())
        return found, output, f"killed when {before} were done (a list was {'' if left else 'not '}there), {kept} kept"
    return found, output, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomograms", type=int, default=50)
    parser.add_argument("--particles", type=int, default=100)
    parser.add_argument("--model", default="ribosome-mlp")
    parser.add_argument("--data", type=Path, help="folder of the simulated tomograms, kept")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = simulated(chosen.data or folder / "data", tomograms=chosen.tomograms, particles=chosen.particles)
        print(f"{'case':>8} {'seconds':>8} {'processor':>10} {'busiest':>8} {'speed-up':>9}  list")
        one: Run | None = None
        digest = ""
        for case in chosen.only:
            found, output, remark = measured(case, data, folder, chosen.model, chosen.tomograms)
            one = one or found
            own = "" if output is None else hashlib.sha256(output.read_bytes()).hexdigest()
            digest = digest or own
            same = "" if output is None else "the same" if own == digest else "ANOTHER"
            quiet = one.total / max(found.busiest, found.total / 2) if case != "one" else 1.0
            print(
                f"{case:>8} {found.seconds:>8.0f} {found.total:>10.0f} {found.busiest:>8.0f} {quiet:>8.2f}×  "
                f"{same}{'; ' if same and remark else ''}{remark}",
                flush=True,
            )


if __name__ == "__main__":
    main()

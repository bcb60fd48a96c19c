"""Processor time that the program takes to start: every verb's help, a small prediction, and the first dock.

    python benchmarks/startup.py [--tomogram T.mrc --picks LIST] [--docks] [--rounds 5]

The least of some rounds, each in a fresh process, user and system time together; with Python's own start included. With
a tomogram and a list of picks, ``predict`` on the first ten of them with ``ribosome-mlp``. With ``--docks`` (and a
screen: ``xvfb-run -a``), how long the window stands still for the Orient dock of a fresh napari, opened at each page or
card: by the clock, and the processor time in it. The goals: 0.4 s for a help, 3 s for the prediction, 2 s for a dock.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from napari_orient.cli import VERBS

DOCKS = ("Data", "Predict", "Discover", "Train", "Inspect", "Correct", "Average", "Export")

OPEN = """
import sys, time
import napari
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer()
for _ in range(5):
    QApplication.processEvents()
clock, processor = time.perf_counter(), time.process_time()
from napari_orient.gui.commands import page_of
page_of(viewer, sys.argv[1])
QApplication.processEvents()
print(time.perf_counter() - clock, time.process_time() - processor)
viewer.close()
"""


def processor_seconds(*words: str) -> float:
    """User and system time of one process that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def least(rounds: int, *words: str) -> float:
    return min(processor_seconds(*words) for _ in range(rounds))


def prediction(tomogram: Path, picks: Path, rounds: int) -> float:
    """Processor time of a prediction on the first ten rows of a table."""
    with tempfile.TemporaryDirectory() as folder:
        ten, output = Path(folder) / f"ten{picks.suffix}", Path(folder) / "oriented.csv"
        ten.write_text("".join(picks.read_text(encoding="utf-8").splitlines(keepends=True)[:11]), encoding="utf-8")
        words = ["-m", "napari_orient.cli", "predict", str(tomogram), str(ten), "--device", "cpu"]
        return least(rounds, *words, "--model", "ribosome-mlp", "--output", str(output))


def opening(dock: str, rounds: int) -> tuple[float, float]:
    """Clock and processor seconds in which the window stands still for a dock, the least of each."""
    answers = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", OPEN, dock], check=True, capture_output=True, text=True)
        answers.append([float(number) for number in done.stdout.split()[-2:]])
    clock, processor = (min(column) for column in zip(*answers, strict=True))
    return clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomogram", type=Path)
    parser.add_argument("--picks", type=Path, help="CSV or TSV; a PolNet list")
    parser.add_argument("--docks", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'python alone':28} {least(given.rounds, '-c', 'pass'):.2f} s")
    print(f"{'import napari_orient':28} {least(given.rounds, '-c', 'import napari_orient'):.2f} s")
    for verb in VERBS:
        print(f"{verb + ' --help':28} {least(given.rounds, '-m', 'napari_orient.cli', verb, '--help'):.2f} s")
    if given.tomogram and given.picks:
        seconds = prediction(given.tomogram, given.picks, given.rounds)
        print(f"{'predict ten, ribosome-mlp':28} {seconds:.2f} s")
    for dock in DOCKS if given.docks else ():
        clock, processor = opening(dock, given.rounds)
        print(f"{dock + ' page':28} {processor:.2f} s of processor, {clock:.2f} s of clock")


if __name__ == "__main__":
    main()

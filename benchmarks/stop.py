"""How long Stop can take: the longest processor time between two yields of each long task.

    python benchmarks/stop.py FOLDER [--class 4v4r] [--diameter 300] [--template ribosome]

FOLDER holds one tomogram of PolNet and its list. A stream is closed at its next yield, so the longest time between two
is what a person waits for at most after Stop, on a quiet core. Prints, for each task, its whole processor time, the
longest gaps and what was being done.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_orient.engine.averaging import average
from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.io import read_labelled
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.prediction.predict import load_model, predict


def gaps(stream: Generator[Any, None, Any]) -> list[tuple[float, str]]:
    """Processor seconds before each yield and the end, with the step that came before, the longest first."""
    found, message, before = [], "start", time.process_time()
    for step in stream:
        now = time.process_time()
        found.append((now - before, message))
        message, before = step.message, now
    found.append((time.process_time() - before, message))
    return sorted(found, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the longest time to Stop")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--class", dest="kind", default="4v4r")
    parser.add_argument("--diameter", type=float, default=300.0)
    parser.add_argument("--template", default="ribosome")
    given = parser.parse_args()
    ((tomogram, particles),) = read_labelled(given.folder)
    true = particles.of_kind(given.kind)
    picks = true.replace(rotations=None)
    tasks = {
        f"predict, {given.template}": predict(tomogram, picks, load_model(given.template)),
        "predict, ribosome-mlp": predict(tomogram, picks, load_model("ribosome-mlp")),
        "discover": discover([(tomogram, picks)], DiscoveryOptions.of(diameter=given.diameter)),
        "average": average([(tomogram, true)]),
    }
    for name, stream in tasks.items():
        found = gaps(stream)
        longest = "; ".join(f"{seconds:.2f} s in {message}" for seconds, message in found[:3])
        print(f"{name}: {sum(seconds for seconds, _ in found):.1f} s in all; {longest}")


if __name__ == "__main__":
    main()

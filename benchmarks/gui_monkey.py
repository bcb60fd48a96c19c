"""Random but legal acts of a person in the real window; after each, what must hold is checked.

``xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_monkey.py [--seed N] [--seeds K] [--acts M]``

Drops files, clicks whatever button, box, table, chart and menu is on screen, types, presses keys on the canvas, edits
napari's own layer list, closes and opens docks, rotates and resizes the view, and starts and stops jobs. Each seed has
a viewer of its own, which is closed at its end whether a job runs or not. A fault is printed with its seed, and with
the acts before it; ``--seed N --until A`` does the same acts again, up to that one, and ``--profile`` prints where it
spent its time. Exit status 1 where there was any fault.
"""

from __future__ import annotations

import argparse
import cProfile
import faulthandler
import gc
import os
import pstats
import random
import tempfile
import time
import weakref
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

from gui_invariants import Witness, wait
from gui_random_acts import Monkey
from gui_world import Answers, World
from napari.settings import get_settings
from qtpy.QtCore import QThreadPool

LONGEST_ACT = 2.0
"""Seconds of the window's own thread that an act may take, less Python's collection of garbage, which napari asks for
whenever it removes layers; what napari does besides is in them."""

A_LAYER = 0.5
"""Seconds more for each layer that an act makes: napari's own."""

STYLED_ANEW = ("change_font", "change_theme")
"""Acts in which napari styles every widget anew, which is its own time."""

SHOWN_BEFORE = 25
"""Acts that are printed before a fault."""


class OwnTime:
    """Seconds that this thread has worked since, less those of Python's collection of garbage."""

    def __init__(self) -> None:
        self._began, self._garbage, self._since = time.thread_time(), 0.0, 0.0
        gc.callbacks.append(self._collected)

    def _collected(self, phase: str, _: Any) -> None:
        if phase == "start":
            self._since = time.thread_time()
        else:
            self._garbage += time.thread_time() - self._since

    def end(self) -> float:
        """The seconds until now."""
        gc.callbacks.remove(self._collected)
        return time.thread_time() - self._began - self._garbage


def run(seed: int, acts: int, world: World, *, quiet: bool = False, profiled: bool = False) -> list[str]:
    """Faults that this seed's acts made, each with the acts before it; the first ends the run."""
    witness, faults = Witness(), list[str]()
    with witness.listening():
        monkey = Monkey(seed, world)
        answers = Answers(random.Random(seed), world)
        for number in range(acts):
            before, own, profile = set(map(id, monkey.viewer.layers)), OwnTime(), cProfile.Profile()
            try:
                with profile if profiled and number == acts - 1 else nullcontext():
                    monkey.step()
                spent = own.end()
                monkey.rest()
            except Exception as error:
                witness._error("exception in the act", error)
                spent = 0.0
            if not quiet:
                print(f"  {number + 1:4} {spent:5.2f} s {monkey.done[-1] if monkey.done else ''}", flush=True)
            faults = witness.errors or monkey.faults()
            made = len(set(map(id, monkey.viewer.layers)) - before)
            if spent > LONGEST_ACT + made * A_LAYER and not monkey.done[-1].startswith(STYLED_ANEW):
                faults = [*faults, f"the window stood still for {spent:.1f} s"]
            if faults:
                break
        count, done = len(monkey.done), monkey.done
        session = _close(monkey, answers, witness)
        del monkey
        faults = faults or witness.errors or _left(session)
    if profiled:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
    where = f"seed {seed}, act {count}: "
    before = "\n    ".join(done[-SHOWN_BEFORE:])
    return [f"{where}{fault}\n    {before}" for fault in faults]


def _close(monkey: Monkey, answers: Answers, witness: Witness) -> weakref.ref[Any]:
    """Close the viewer, whatever runs in it."""
    session = weakref.ref(monkey.session)
    try:
        monkey.viewer.close()
        wait(0.2)
        if not QThreadPool.globalInstance().waitForDone(60_000):
            witness.errors.append("a job went on for a minute after its viewer was closed")
        wait(0.3)
    except Exception as error:
        witness._error("exception in closing", error)
    answers.end()
    get_settings().appearance.font_size = 9
    return session


def _left(session: weakref.ref[Any]) -> list[str]:
    for _ in range(3):
        wait(0.05)
        gc.collect()
    return [] if session() is None else ["the session outlives its viewer"]


def main() -> int:
    parser = argparse.ArgumentParser(description="random acts of a person in the real window")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--acts", type=int, default=100, help="acts of each seed")
    parser.add_argument("--until", type=int, help="stop after so many acts, to do again what led to a fault")
    parser.add_argument("--profile", action="store_true", help="print where the last act spent its time")
    parser.add_argument("--quiet", action="store_true", help="print faults alone")
    given = parser.parse_args()
    faulthandler.enable()
    patterns = ("*.csv", "*.star", "*.mrc", "*.txt")
    get_settings().plugins.extension2reader = dict.fromkeys(patterns, "napari-orient") | {"*.png": "napari"}
    every = 0
    for seed in range(given.seed, given.seed + given.seeds):
        # What a person names without a folder is written beside the world's files, and goes with them.
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            found = run(seed, given.until or given.acts, World(Path(folder)), quiet=given.quiet, profiled=given.profile)
        for fault in found:
            print(f"FAULT {fault}", flush=True)
        print(f"seed {seed}: {'a fault' if found else 'no fault'}", flush=True)
        every += bool(found)
    print(f"{every} of {given.seeds} seeds found a fault")
    return 1 if every else 0


if __name__ == "__main__":
    os.environ.setdefault("NAPARI_CONFIG", "")
    raise SystemExit(main())

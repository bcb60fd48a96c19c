"""What Ctrl-C leaves behind, at moments spread over every verb: one line, no traceback, and nothing half written.

    python benchmarks/interrupt.py FOLDER [--moments 5] [--only predict train ...]

FOLDER, new, gets three small simulated tomograms and a folder for each run. Each command runs once to its end, which
gives its duration and its answer, and then, in a folder of its own, is sent SIGINT at that many moments, from the
loading of the program on. What counts as a fault: an exit status that is not 130 where the command did not end
before; a traceback; an input that has changed; an output that cannot be read, or anything else that is left
half-written; and, of verbs that go on (--resume), another answer than that of the uninterrupted run.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SIZE = "--size-x 96 --size-y 96 --size-z 64 --particles 10"
"""Of the simulated tomograms: small, for dozens of runs."""
TELL_TALES = ("part", "tmp", "lock")
"""Words in the names of files that a run works on and that none may leave."""


@dataclass(frozen=True)
class Case:
    """A command in a folder beside ``sim`` (tomograms) and ``poses.star``.

    Parameters
    ----------
    words : of the command line.
    answers : files that it writes.
    resumes : whether the same command with --resume goes on to the same answer.
    """

    words: str
    answers: tuple[str, ...] = ()
    resumes: bool = False

    @property
    def verb(self) -> str:
        """The first word."""
        return self.words.split()[0]


ONE = "../sim/Tomo001/tomo_001_rec.mrc ../sim/Tomo001/tomo_001_motif_list.csv"
CASES = (
    Case(f"simulate ribosome --output new --tomograms 2 {SIZE}", ("new/Tomo002/tomo_002_rec.mrc",)),
    Case("predict ../sim --model ribosome-4x32 --output o.star", ("o.star",), resumes=True),
    Case(f"predict {ONE} --output o.star --report r.html", ("o.star", "r.html")),
    Case("refine ../sim --reference ribosome --precision fast --output o.star", ("o.star",), resumes=True),
    Case("discover ../sim --diameter 280 --output o.star --map m.mrc", ("o.star", "m.mrc")),
    Case("average ../sim --output m.mrc --local-resolution", ("m.mrc", "m_half1.mrc")),
    Case("train ../sim --output n.safetensors --epochs 6", ("n.safetensors",)),
    Case("train ../sim --network template --output t.safetensors", ("t.safetensors",)),
    Case("evaluate ../poses.star ../sim/Tomo001/tomo_001_motif_list.csv --diameter 250 --report r.html", ("r.html",)),
    Case("report ../sim ../poses.star --reference ribosome --output r.html", ("r.html",)),
    Case("convert ../poses.star o.csv", ("o.csv",)),
    Case("export ../poses.star o.star --for relion5", ("o.star",)),
    Case("about ../poses.star ../sim"),
    Case("models ribosome-mlp"),
)


def command(words: str) -> list[str]:
    return [sys.executable, "-m", "napari_orient.cli", *words.split()]


def digests(folder: Path, names: Sequence[str] | None = None) -> dict[str, str]:
    """Digest of each file below a folder, or of these."""
    files = [folder / name for name in names] if names is not None else [*folder.rglob("*")]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()
    }


def run_interrupted(case: Case, folder: Path, after: float) -> tuple[int, str]:
    """Exit status and all that is said, of a command that gets SIGINT after so many seconds."""
    with subprocess.Popen(
        command(case.words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        time.sleep(after)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=120)
    return running.returncode, said


def faults(case: Case, folder: Path, status: int, said: str) -> list[str]:
    """What is wrong with how an interrupted run ended, and with what it left."""
    found = []
    # Death by the signal itself (-2) comes after the work, as the interpreter ends; a shell says 130 of both.
    if status not in (0, 130, -signal.SIGINT):
        found.append(f"exit status {status}")
    if "Traceback" in said:
        found.append(f"a traceback: {said.strip().splitlines()[-1][:120]}")
    left = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
    left += [path.name for path in folder.rglob("*") if path.suffix.strip(".") in TELL_TALES]
    if left:
        found.append(f"left {left}")
    there = [name for name in case.answers if (folder / name).exists()]
    if there:
        read = subprocess.run(
            [*command("about"), *there], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        if read.returncode:
            found.append(f"unreadable: {read.stderr.strip()[:160]}")
    return found


def tried(case: Case, base: Path, moments: int) -> int:
    """Number of faults, each printed, of one command."""
    whole = base / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    started = time.monotonic()
    done = subprocess.run(command(case.words), cwd=whole, capture_output=True, text=True, check=False, timeout=1200)
    seconds = time.monotonic() - started
    count = 0
    if done.returncode or not all((whole / name).exists() for name in case.answers):
        print(f"{case.words}: does not end well by itself: {done.stderr[-300:]}", flush=True)
        return 1
    inputs = digests(base / "sim")
    for moment in range(moments):
        folder = base / f"{case.verb}_{moment}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        after = seconds * (moment + 0.5) / moments
        status, said = run_interrupted(case, folder, after)
        found = faults(case, folder, status, said)
        if digests(base / "sim") != inputs:
            found.append("an input has changed")
        if case.resumes:
            again = subprocess.run(
                command(f"{case.words} --resume"), cwd=folder, capture_output=True, text=True, check=False, timeout=1200
            )
            if again.returncode or digests(folder, case.answers) != digests(whole, case.answers):
                found.append(f"--resume ends otherwise: {again.stderr.strip()[-160:]}")
        last = said.strip().splitlines()[-1:] or [""]
        print(
            f"{case.verb}, {after:.1f} of {seconds:.1f} s: {'; '.join(found) or 'well'} | {last[0][:100]}", flush=True
        )
        count += len(found)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="Ctrl-C at moments of every verb")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="VERB")
    given = parser.parse_args()
    # In the background the signal is ignored, and what is started there inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    base = given.folder.resolve()
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "poses.star").exists():
        subprocess.run(command(f"simulate ribosome --output sim --tomograms 3 {SIZE}"), cwd=base, check=True)
        subprocess.run(command("predict sim --model ribosome-4x32 --output poses.star"), cwd=base, check=True)
    chosen = [case for case in CASES if not given.only or case.verb in given.only]
    count = sum(tried(case, base, given.moments) for case in chosen)
    print(f"{len(chosen)} commands, {given.moments} moments each: {count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

"""Random verbs, killed, stopped, out of disk and disturbed, for a given time: nothing may be lost, and nothing left.

    python benchmarks/soak.py --minutes 20 [--folder FOLDER] [--seed 0] [--slow]

Each trial runs one verb of the command line on a small simulated tomogram, in a forked process, over an output that is
there from before in half the trials, and disturbs it: SIGKILL at a random time or at the flush of a file, SIGTERM and
Ctrl-C, a limit on the size of files, a disk that is full from some file on, standard output that nobody reads, a
tomogram that another program shortens, a second run of the same command at once. Then it checks that

- the output is as it was before, or to the byte that of an undisturbed run; a folder holds whole tomograms alone;
- the exit status is 0, or 2 with one line and no traceback, or 130 of a stop, or 1 where one of two tomograms failed,
  which is said; what a full disk refused is kept where
  that line says;
- the same command, undisturbed, then ends well with the bytes of an undisturbed run, and leaves nothing temporary.

Prints a table of trials by verb and disturbance; what is not so is printed at once, and makes the exit status 1.
Wants one thread (OMP_NUM_THREADS=1): what is averaged in another order has other bytes.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_orient.cli import main
from napari_orient.engine.scratch import PREFIX

SMALL = "--size-x 48 --size-y 48 --size-z 40 --tilt-step 10 --snr-low 3 --snr-high 4"
NETWORK = "--width 16 --depth 2 --patch-side 20 --mask-radius 90 --validation 0.3 --batch 16 --device cpu"
LONGEST = 240
"""Seconds after which a trial hangs."""


@dataclass(frozen=True)
class Job:
    """A command, ``{out}`` and ``{in}`` for its folders; the names of its outputs; how often it is drawn."""

    command: str
    outputs: tuple[str, ...]
    weight: int = 4
    slow: bool = False
    resumed: str = ""


JOBS = {
    "convert": Job("convert {in}/list.star {out}/o.csv", ("o.csv",), 6),
    "convert to Dynamo": Job(
        "convert {in}/list.star {out}/o.tbl --tomogram {in}/Tomo001/tomo_001_rec.mrc", ("o.tbl", "o.doc"), 3
    ),
    "simulate": Job(f"simulate proteasome --output {{out}}/s --tomograms 3 --particles 4 {SMALL}", ("s",), 6),
    "train": Job(
        f"train {{in}} --output {{out}}/m.safetensors --epochs 3 {NETWORK}", ("m.safetensors",), 6, resumed="--resume"
    ),
    "average": Job(
        "average {in} --output {out}/a.mrc --list-output {out}/a.csv",
        ("a.mrc", "a_half1.mrc", "a_half2.mrc", "a_fsc.csv", "a.csv"),
    ),
    "predict": Job(
        "predict {in}/Tomo001/tomo_001_rec.mrc {in}/list.star --model {in}/model.safetensors --output {out}/p.csv "
        "--device cpu",
        ("p.csv",),
    ),
    "predict all": Job("predict {in} --model {in}/model.safetensors --output {out}/q.csv --device cpu", ("q.csv",)),
    "refine": Job(
        "refine {in} --reference proteasome --precision fast --output {out}/r.csv --device cpu",
        ("r.csv",),
        1,
        slow=True,
    ),
    "discover": Job(
        "discover {in} --diameter 200 --starts 2 --rounds 6 --passes 0 --symmetry C1 --output {out}/d.csv "
        "--map {out}/d.mrc --device cpu",
        ("d.csv", "d.mrc", "d_half1.mrc", "d_half2.mrc", "d_fsc.csv"),
        1,
        slow=True,
    ),
    "evaluate": Job("evaluate {in}/list.star {in}/list.star --json", (), 1),
}
DISTURBANCES = ("none", "kill", "kill at flush", "terminate", "interrupt", "file size", "full disk", "no reader")
FURTHER = ("shortened input", "two at once")


@dataclass
class Ended:
    """How a run ended: its exit status, negative for a signal, and what it printed."""

    status: int
    out: str
    err: str


class Run:
    """A command in a forked process."""

    def __init__(self, words: list[str], place: Path, *, before: Callable[[], object] = list) -> None:
        self.files = place.with_suffix(".stdout"), place.with_suffix(".stderr")
        ready, say = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                status = self._child(words, place, before, say)
            finally:
                os._exit(status)
        os.close(say)
        # A signal that comes before the command has begun would be one to this program.
        os.read(ready, 1)
        os.close(ready)
        self.began = time.monotonic()

    def _child(self, words: list[str], place: Path, before: Callable[[], object], say: int) -> int:
        # A process of the command line: the signals of one, files for its output, and the folder above its own.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in enumerate(self.files, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(place)
        before()
        sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
        status = 1
        try:
            os.close(say)
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        return status

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.process, number)

    def end(self) -> Ended:
        """How it ended; it is killed where it hangs."""
        while True:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                break
            if time.monotonic() - self.began > LONGEST:
                self.send(signal.SIGKILL)
                _, status = os.waitpid(self.process, 0)
                return Ended(-999, "", "hangs")
            time.sleep(0.005)
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self.files)
        return Ended(os.waitstatus_to_exitcode(status), out, err)


def failing_flush(number: int, act: Callable[[Path], object]) -> Callable[[], None]:
    """What has the flush of a file, after so many that end well, and all that follow, do something with it first."""

    def install() -> None:
        flush, left = os.fsync, number

        def counted(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                act(Path(f"/proc/self/fd/{descriptor}").readlink())
            flush(descriptor)

        os.fsync = counted  # type: ignore[assignment]

    return install


def no_space(place: Path, path: Path) -> None:
    """Have a file find no space, if it lies in a place."""
    if path.is_relative_to(place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for those that hold seconds: the state of each tomogram, and what resumes them."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes() for name, path in found.items() if not re.search(r"_parts/[^.]|_status\.csv$", name)
    }


class Soak:
    """Trials in a folder, from a seed."""

    def __init__(self, folder: Path, seed: int, *, slow: bool) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.jobs = {name: job for name, job in JOBS.items() if slow or not job.slow}
        self.given = folder / "in"
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.reference: dict[str, tuple[Ended, dict[str, bytes], float]] = {}

    def prepare(self) -> None:
        """Make the input, and run every job undisturbed."""
        self.given.mkdir()
        self.folder.joinpath("home").mkdir()
        size = "--size-x 64 --size-y 64 --size-z 48 --snr-low 3 --snr-high 4"
        simulated = f"simulate proteasome --output {self.given} --tomograms 2 --seed 5 --particles 12 {size}"
        first = self.given / "Tomo001"
        for words in (
            simulated,
            f"train {self.given} --output {self.given}/model.safetensors --epochs 2 {NETWORK}",
            f"convert {first}/tomo_001_motif_list.csv {self.given}/list.star --tomogram {first}/tomo_001_rec.mrc",
        ):
            ended = self.run(words.split(), "prepare")
            assert ended.status == 0, ended.err
        for name in self.jobs:
            place = self.place()
            began = time.monotonic()
            ended = Run(self.words(name, place), place).end()
            self.reference[name] = ended, content(place), time.monotonic() - began
            assert ended.status in (0, 1), (name, ended.err)
            shutil.rmtree(place)

    def run(self, words: list[str], name: str) -> Ended:
        """How a command of the preparation ended."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return Run(words, place).end()

    def place(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(prefix="trial-", dir=self.folder))

    def words(self, name: str, place: Path) -> list[str]:
        """The words of a job's command for outputs in a folder."""
        return [
            word.replace("{in}", str(self.given)).replace("{out}", str(place)) for word in JOBS[name].command.split()
        ]

    def trial(self) -> None:
        """One verb, disturbed, checked, and run again."""
        name = self.random.choices(list(self.jobs), [job.weight for job in self.jobs.values()])[0]
        how = self.random.choice((*DISTURBANCES, *DISTURBANCES, *FURTHER))
        job, (undisturbed, expected, seconds) = JOBS[name], self.reference[name]
        place, old = self.place(), {}
        if job.outputs and self.random.random() < 0.5:
            old = {item: f"old {item}".encode() for item in job.outputs if "." in item}
            for item, raw in old.items():
                (place / item).write_bytes(raw)
        self.counts[name, how] += 1
        label = f"{name}, {how}, {'old output' if old else 'no output'}, trial {sum(self.counts.values())}"
        ended = self.disturbed(self.words(name, place), place, how, seconds)
        self.ends[{0: "well", 1: "status 1", 2: "one line", 130: "stopped"}.get(ended.status, f"{ended.status}")] += 1
        self.check_end(label, how, ended, undisturbed)
        self.check_kept(label, ended, expected)
        self.check_content(label, place, old, expected, partial=ended.status in (1, 130))
        again = self.words(name, place)
        if job.resumed and (place / "m.resume").exists():
            again.append(job.resumed)
        last = Run(again, place).end()
        if (last.status, last.out) != (
            undisturbed.status,
            undisturbed.out.replace(*self.moved(undisturbed.out, place)),
        ):
            self.fault(label, f"run again: status {last.status}, {last.out[-300:]!r} {last.err[-300:]!r}")
        self.check_after(label, place, old if undisturbed.status else {}, expected)
        shutil.rmtree(place)
        for path in (*place.parent.glob(f"{place.name}.std*"), *(self.folder / "home").iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def moved(self, text: str, place: Path) -> tuple[str, str]:
        """The folder that a text of the undisturbed run names, and this trial's."""
        found = re.search(rf"{re.escape(str(self.folder))}/trial-\w+", text)
        return (found[0], str(place)) if found else ("", "")

    def disturbed(self, words: list[str], place: Path, how: str, seconds: float) -> Ended:
        """How the command ended that was disturbed in one way."""
        after = self.random.uniform(0, 1.1 * seconds)
        before: Callable[[], object] = list
        if how == "kill at flush":
            before = failing_flush(self.random.randrange(4), lambda _: os.kill(os.getpid(), signal.SIGKILL))
        if how == "full disk":
            before = failing_flush(self.random.randrange(4), partial(no_space, place))
        if how == "file size":
            count = int(10 ** self.random.uniform(2, 6.3))
            before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (count, resource.RLIM_INFINITY))
        if how == "no reader":
            ends = os.pipe()
            os.close(ends[0])
            before = partial(os.dup2, ends[1], 1)
        if how == "two at once":
            other = Run(words, self.place())
        run = Run(words, place, before=before)
        numbers = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
        if how in numbers:
            time.sleep(after)
            run.send(numbers[how])
        if how == "shortened input":
            self.shortened(after)
        ended = run.end()
        if how == "no reader":
            os.close(ends[1])
        if how == "two at once":
            self.check_end("the second of two", how, other.end(), None)
        return ended

    def shortened(self, after: float) -> None:
        """Have a tomogram shortened for a moment, and whole again, as another program that writes it anew does."""
        tomogram = self.given / "Tomo002" / "tomo_002_rec.mrc"
        whole, state = tomogram.read_bytes(), tomogram.stat()
        time.sleep(after)
        os.truncate(tomogram, len(whole) // 3)
        time.sleep(0.2)
        tomogram.write_bytes(whole)
        os.utime(tomogram, ns=(state.st_atime_ns, state.st_mtime_ns))

    # --- checks -----------------------------------------------------------------------------------------------------

    def fault(self, label: str, words: str) -> None:
        """Note what is not as it should be."""
        self.faults.append(f"{label}: {words}")
        print(f"FAULT {self.faults[-1]}", flush=True)

    def check_end(self, label: str, how: str, ended: Ended, undisturbed: Ended | None) -> None:
        """The status is one that the disturbance may have, and what is said is one line."""
        usual = 0 if undisturbed is None else undisturbed.status
        allowed = {usual, 2} if how in ("file size", "full disk", "shortened input", "two at once") else {usual}
        if how == "shortened input" and "of 2 tomograms failed" in ended.err:
            allowed.add(1)
        if how in ("kill", "kill at flush"):
            allowed.add(-signal.SIGKILL)
        if how in ("terminate", "interrupt"):
            # A signal before the command line has begun to listen ends a process as it ends any.
            allowed |= {130, -signal.SIGTERM}
        if how == "no reader":
            allowed.add(1)
        early = how == "interrupt" and "KeyboardInterrupt" in ended.err and "cli/__init__" not in ended.err
        if (ended.status not in allowed or "Traceback" in ended.err or "Error:" in ended.err) and not early:
            self.fault(label, f"status {ended.status}, {ended.err[-1500:]!r}")
        if ended.status == 2 and not ended.err.splitlines()[-1].startswith("napari-orient: "):
            self.fault(label, f"no line: {ended.err[-500:]!r}")

    def check_kept(self, label: str, ended: Ended, expected: dict[str, bytes]) -> None:
        """What is said to be kept elsewhere is there, whole."""
        found = re.search(r"is kept in (\S+) \((.*)\)\.", ended.err)
        if found is None:
            return
        kept = content(Path(found[1]))
        self.ends["kept elsewhere"] += 1
        if not kept or any(expected.get(name) != raw for name, raw in kept.items() if "_unfinished" not in name):
            self.fault(label, f"kept, but not whole: {sorted(kept)}")
        shutil.rmtree(found[1])

    def check_content(
        self, label: str, place: Path, old: dict[str, bytes], expected: dict[str, bytes], *, partial: bool
    ) -> None:
        """Every file is as before, or that of an undisturbed run; one that ended early has what was done by then."""
        for name, raw in content(place).items():
            if name.startswith(PREFIX) or f"/{PREFIX}" in name or name.endswith((".resume", "labels_table.csv")):
                continue
            so_far = partial or "_unfinished" in name or name == "m.safetensors"
            if raw not in (old.get(name), expected.get(name)) and not (so_far and len(raw) > 100):
                self.fault(label, f"{name} is torn ({len(raw)} bytes)")

    def check_after(self, label: str, place: Path, old: dict[str, bytes], expected: dict[str, bytes]) -> None:
        """After the undisturbed run all is as it should be, and nothing else is there."""
        found = content(place)
        wanted = {**old, **expected}
        surplus = [name for name in found if name not in wanted and "_stopped" not in name]
        wrong = [name for name, raw in wanted.items() if found.get(name) != raw]
        if surplus or wrong:
            self.fault(label, f"after the next run: left {surplus}, wrong or missing {wrong}")

    def report(self, minutes: float) -> str:
        """The table of trials."""
        hows = (*DISTURBANCES, *FURTHER)
        lines = [f"{sum(self.counts.values())} trials in {minutes:.1f} minutes; {len(self.faults)} faults", ""]
        lines += ["| verb | " + " | ".join(hows) + " |", "|---" * (len(hows) + 1) + "|"]
        for name in self.jobs:
            lines.append(f"| {name} | " + " | ".join(str(self.counts[name, how]) for how in hows) + " |")
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.ends.items(), key=lambda item: -item[1]))
        return "\n".join([*lines, "", f"Ended: {ends}"])


def soak() -> int:
    parser = argparse.ArgumentParser(description="random verbs, disturbed")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, help="to work in, an empty one [default: a temporary one]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", action="store_true", help="refine and discover too")
    given = parser.parse_args()
    # Loaded once, before processes are forked; no operation is run here, for threads do not survive a fork.
    import napari_orient.engine.averaging
    import napari_orient.engine.discovery.discover
    import napari_orient.engine.evaluation
    import napari_orient.engine.prediction.predict
    import napari_orient.engine.simulation.simulate
    import napari_orient.engine.training.train  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="soak-", dir=given.folder) as folder:
        os.environ["HOME"] = f"{folder}/home"
        run = Soak(Path(folder), given.seed, slow=given.slow)
        run.prepare()
        seconds = ", ".join(f"{name} {item[2]:.1f} s" for name, item in run.reference.items())
        print(f"undisturbed: {seconds}", flush=True)
        began = time.monotonic()
        while time.monotonic() - began < 60 * given.minutes:
            run.trial()
        print(run.report((time.monotonic() - began) / 60))
        return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(soak())

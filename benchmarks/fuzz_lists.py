"""Damage a list of every dialect in many ways and read each: whole, or refused in one line; no traceback, no hang.

Run: python benchmarks/fuzz_lists.py [--count 20000] [--seed 0] [DIALECT ...]
Prints, for each dialect, how many damaged files were read and how many refused; exit status 1 where one did neither.
"""

import argparse
import random
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engine"))

from foreign_lists import SAMPLES, SIZE, TOMOGRAM, VOXEL, mutated

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles
from napari_orient.engine.particles import Tomogram

LIMIT_S = 10
"""Seconds after which reading a small file counts as a hang."""


def fuzz(name: str, *, count: int, seed: int) -> list[str]:
    """Faults found in a dialect's reader."""
    rng, faults, read = random.Random(f"{name} {seed}"), [], 0
    tomogram = Tomogram(np.zeros(SIZE[::-1], np.float32), VOXEL, TOMOGRAM)
    with tempfile.TemporaryDirectory() as folder:
        path = SAMPLES[name](Path(folder))
        whole = path.read_bytes()
        for _ in range(count):
            data = mutated(whole, rng) or b" "
            path.write_bytes(data)
            signal.alarm(LIMIT_S)
            try:
                found = read_particles(path, tomogram=tomogram)
                read += 1
                if not np.isfinite(found.positions).all() or _is_identity(found.rotations):
                    faults.append(f"{name}: read as nonsense: {data!r}")
            except InputError as error:
                if "\n" in str(error):
                    faults.append(f"{name}: refused in several lines: {error}")
            except BaseException:
                faults.append(f"{name}: {traceback.format_exc()} of {data!r}")
            finally:
                signal.alarm(0)
    print(f"{name:18} {count} damaged files: {read} read, {count - read - len(faults)} refused, {len(faults)} faults")
    return faults


def _is_identity(rotations: np.ndarray | None) -> bool:
    return rotations is not None and np.allclose(rotations, np.eye(3))


def _hang(*_: object) -> None:
    raise TimeoutError(f"not read within {LIMIT_S} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialects", nargs="*", default=list(SAMPLES), metavar="DIALECT")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _hang)
    faults = [line for name in arguments.dialects for line in fuzz(name, count=arguments.count, seed=arguments.seed)]
    print("\n".join(faults[:20]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

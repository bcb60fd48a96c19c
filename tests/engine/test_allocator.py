"""The allocator of the command line's own process: freed memory serves the next tensor."""

import os
import platform
import subprocess
import sys

from napari_orient.engine.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from napari_orient.engine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    return [np.ones(1 << 22) for _ in range(3)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_was_freed_is_not_cleared_anew_for_what_comes_next() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not keep_freed_memory(), "no other C library is asked"
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], env=environment))
        for how in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 20

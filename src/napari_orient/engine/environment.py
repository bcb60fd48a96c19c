"""What the machine may lack (space, memory, rights, open files, a GPU's code), each as one line with its remedy."""

from __future__ import annotations

import errno
from pathlib import Path

from napari_orient.engine.errors import InputError

_REASONS = {
    errno.ENOSPC: "no space is left there; free some, or name another place",
    errno.EDQUOT: "your quota is used up there; free some, or name another place",
    errno.EFBIG: "the file would be larger than the limit for files (ulimit -f), or than the file system takes",
    errno.EROFS: "the file system is read-only; name another place",
    errno.EACCES: "you have no right to; change the permissions, or name another place",
    errno.EPERM: "you have no right to; change the permissions, or name another place",
    errno.ENOENT: "it is not there, or no longer; check the name, and whether another program removed it",
    errno.ENOTDIR: "a part of its path is a file, not a folder; check the name",
    errno.EISDIR: "it is a folder; expected a file",
    errno.ELOOP: "its links lead in a circle; remove them",
    errno.ENAMETOOLONG: "its name is too long for the file system; choose a shorter one",
    errno.EMFILE: "too many files are open in this process; allow more (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; close other programs",
    errno.EIO: "the disk, or the server that it is on, reports an error; check it",
    errno.ESTALE: "the server has another file by now; run the command again",
    errno.ETIMEDOUT: "the server that it is on does not answer; check it",
    errno.ENODEV: "the device is gone; check it",
    errno.ENXIO: "the device is gone; check it",
    errno.EBUSY: "another program uses it; close that, or name another place",
    errno.ENOTEMPTY: "another program writes to it; close that, or name another place",
    errno.EEXIST: "another program writes to it; close that, or name another place",
    errno.ENOMEM: "memory ran out; close other programs, or allow more (ulimit -v)",
    errno.EINVAL: "the file system does not take such a name or file; choose another",
}
"""What is wrong, and what to do, by the number of an error of the operating system."""

_NAMELESS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM)
"""Numbers that are the machine's fault even where the error names no file."""

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_cpu", "bad allocation")
"""Parts of the text by which torch and its libraries say that memory ran out, in lower case."""

_RUNTIME_LINES = (
    (
        ("no kernel image", "not compatible with the current pytorch", "unsupported gpu architecture"),
        "The installed torch has no code for this GPU. Install the build of torch for it (pytorch.org), or compute on "
        "the processor (device cpu).",
    ),
    (
        ("driver version is insufficient", "found no nvidia driver", "cuda driver initialization failed"),
        "The GPU's driver is missing, or too old for the installed torch. Update it, or compute on the processor "
        "(device cpu).",
    ),
    (
        ("cuda error", "cudnn error", "cublas error", "cufft error", "hip error", "mps backend"),
        "The GPU failed ({}). Compute on the processor (device cpu).",
    ),
    (
        ("can't start new thread",),
        "No further thread may be started. Allow more (ulimit -u), or use fewer (OMP_NUM_THREADS).",
    ),
)
"""Parts of the text, in lower case, of errors of torch and Python, and the line that is said in their place."""


def os_error_words(error: OSError) -> str:
    """What is wrong and what to do, without the file's name, in words that need no full stop."""
    return _REASONS.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__).lower())


def machine_error(error: BaseException) -> InputError | None:
    """The line for an error of the machine; None for any other, which is the program's and has its traceback.

    The machine's are: errors of the operating system about a file, memory that ran out on the processor or the GPU,
    threads that may not be started, and a GPU that torch has no code or no driver for.
    """
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError):
        return _os_error(error)
    if isinstance(error, MemoryError):
        asked = str(error).partition(" for an array")[0]
        return _no_memory(asked[:1].lower() + asked[1:])
    words = str(error).lower()
    if isinstance(error, RuntimeError):
        return _runtime_error(error, words)
    if type(error).__name__ == "SafetensorError" and "os error" in words:
        return InputError(f"a model cannot be read or written ({_first_line(error)}). Check the place's free space.")
    return None


def is_gpu_memory_error(error: BaseException) -> bool:
    """Whether a GPU's memory ran out."""
    words = str(error).lower()
    return isinstance(error, RuntimeError) and "out of memory" in words and any(gpu in words for gpu in ("cuda", "mps"))


def _os_error(error: OSError) -> InputError | None:
    """The line for an error of the operating system, if it is about a file or about space."""
    number = error.errno or 0
    if isinstance(error, BrokenPipeError) or number not in _REASONS:
        return None
    if error.filename is None:
        return InputError(f"A file cannot be read or written: {_REASONS[number]}.") if number in _NAMELESS else None
    name = str(error.filename) if len(str(error.filename)) <= _LONGEST_NAME else f"{error.filename[:_LONGEST_NAME]}…"
    return InputError(f"{name} cannot be read or written: {_REASONS[number]}.")


def _runtime_error(error: RuntimeError, words: str) -> InputError | None:
    if is_gpu_memory_error(error):
        return InputError(
            "The GPU's memory ran out. Close other programs that use it, take smaller batches, or compute on the "
            "processor (device cpu)."
        )
    if any(part in words for part in _NO_MEMORY):
        return _no_memory(_first_line(error))
    line = next((line for parts, line in _RUNTIME_LINES if any(part in words for part in parts)), None)
    return None if line is None else InputError(line.format(_first_line(error)))


def _no_memory(words: str) -> InputError:
    reason = f" ({words})" if words else ""
    return InputError(
        f"Memory ran out{reason}. Close other programs, allow more (ulimit -v), or take coarser voxels or fewer data."
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0][:_LONGEST_NAME]


_LONGEST_NAME = 200
"""Characters of a name or of another library's text that are shown; chosen: a few lines of a terminal."""


def printable(text: str) -> str:
    """The text with all that is no character, or that would steer a terminal, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        item if item.isprintable() or item in "\n\t" else item.encode("unicode_escape").decode("ascii") for item in text
    )


# --- free memory and space ------------------------------------------------------------------------------------------


def free_memory() -> int | None:
    """Bytes that may still be taken: the least of the machine's, the process's and its group's; None if unknown."""
    known = [item for item in (_available(), _below_limit(), _below_group()) if item is not None]
    return min(known, default=None)


def check_memory(needed: float, what: str, *, remedy: str) -> None:
    """Check that so many bytes of memory are free, before they are taken.

    Parameters
    ----------
    what : what takes them, the subject of a sentence.
    remedy : what to do, a sentence.

    Raises
    ------
    InputError
        If fewer are.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(f"{what} takes about {size_words(needed)} of memory; {size_words(free)} are free. {remedy}")


def size_words(count: float) -> str:
    """A number of bytes in words: ``3.1 GB``, ``12 MB``, ``40 kB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{max(count, 0) / 1e3:.3g} kB"


def _available() -> int | None:
    """Bytes that the machine can still give, as Linux says it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None


def _below_limit() -> int | None:
    """Bytes of address space that the process may still take (``ulimit -v``)."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        return max(limit - taken, 0)
    except (ImportError, OSError, ValueError):
        return None


def _below_group() -> int | None:
    """Bytes that the process's control group, such as a container or a job of SLURM, may still take."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        taken = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        cached = next(
            int(line.split()[1])
            for line in Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
            if line.startswith("inactive_file")
        )
        return None if limit == "max" else max(int(limit) - int(taken) + cached, 0)
    except (OSError, ValueError, StopIteration):
        return None

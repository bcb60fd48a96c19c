"""Files that are read and written: written whole or not at all, never over what is read; checks before work starts."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn, TypeVar

from napari_orient.engine.environment import machine_error, os_error_words, size_words
from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.scratch import ClaimedError, claimed, scratch_folder

AnswerT = TypeVar("AnswerT")

Place = Callable[[Path], Path]
"""Where an output goes: the path that was asked for, or one of the same name elsewhere."""

_ANYONE_WRITES = 0o222
"""Bits of a file's mode that let its owner, its group or others write."""

LEAST_BYTES = 2**16
"""Bytes that must be free for any output: a list of some hundred particles. Chosen."""

_RESERVED_BYTES = 2**26
"""Most bytes that are reserved for a trial: quotas and limits show only so. For more the free space alone is asked;
chosen, for some file systems write zeros to reserve."""

_PLANNED: ContextVar[tuple[Path, ...]] = ContextVar("planned", default=())
"""The outputs of the work that is being done."""

_READS: ContextVar[list[Path] | None] = ContextVar("reads", default=None)
"""The files that were read since `recorded_reads`; None outside it."""


# --- writing --------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Context with a path of the same name in a folder beside; renamed to ``path`` if the block succeeds, else removed.

    A link stays one: the file that it leads to is replaced. Other names of a file (hard links) keep the old content.

    Raises
    ------
    InputError
        If the folder is missing, is not a folder, or cannot be written; or the file is protected.
    OutputError
        If it cannot be written after all, such as for want of space.
    """
    path = Path(path)
    _check_target(path)
    target = path.resolve() if path.is_symlink() else path
    with _output_errors(path, target.parent), scratch_folder(target.parent) as folder:
        beside = folder / target.name
        yield beside
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o777)
        _flush(beside)
        beside.replace(target)


def write_text(path: Path | str, text: str) -> None:
    """Write a file of text in UTF-8, its lines ended alike on every system; see `replacing`."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Context with an empty folder beside ``path``, which becomes it if the block succeeds, and is removed else.

    Raises
    ------
    InputError
        If there is something at ``path``, or the folder cannot be written.
    OutputError
        If it cannot be written after all, such as for want of space.
    """
    if path.exists():
        raise InputError(f"{path} is there already; name another folder.")
    with _output_errors(path, path.parent), scratch_folder(path.parent) as folder:
        beside = folder / path.name
        beside.mkdir()
        yield beside
        beside.replace(path)


def write_elsewhere(write: Callable[[Place], AnswerT], error: OutputError) -> NoReturn:
    """Write outputs to a new folder where there is room, since they cannot be where they were asked for.

    The folder is made in the current one, in the user's own, or in that for temporary files.

    Raises
    ------
    OutputError
        Always: where the outputs are, or that they are nowhere.
    """
    for base in (Path.cwd, Path.home, lambda: Path(tempfile.gettempdir())):
        try:
            folder = _written_in(base(), write)
        except (OSError, InputError, RuntimeError):
            continue  # It is full too, or there is none: a folder that was removed, no HOME.
        names = ", ".join(sorted(item.name for item in folder.iterdir()))
        raise OutputError(f"{error} What was to be written is kept in {folder} ({names}).") from error
    raise OutputError(f"{error} There is no room for it in any other folder either.") from error


def _written_in(base: Path, write: Callable[[Place], object]) -> Path:
    """A new folder in ``base`` with the outputs; it is removed where they cannot be written."""
    folder = Path(tempfile.mkdtemp(prefix="napari-orient-kept-", dir=base))
    try:
        write(lambda path: folder / path.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


@contextmanager
def _output_errors(path: Path, folder: Path) -> Iterator[None]:
    """Context in which errors of the machine about the folder of an output, or about no file, are said of it."""
    try:
        yield
    except OSError as error:
        named = error.filename
        own = named is None or Path(os.fsdecode(named)).absolute().is_relative_to(folder.absolute())
        if not own or machine_error(error) is None:
            raise
        raise OutputError(f"{path} cannot be written: {_output_words(error)}.") from error
    except Exception as error:
        # Of safetensors, whose errors are its own even where the operating system's is meant.
        if type(error).__name__ == "SafetensorError" and "os error" in str(error).lower():
            raise OutputError(f"{path} cannot be written ({error}). Free some space, or name another place.") from error
        raise


def _flush(path: Path) -> None:
    """Have a file on the disk before it takes another's place; quotas of servers show only now."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


# --- checks before work ---------------------------------------------------------------------------------------------


def check_writable(path: Path | str, *, need: int = LEAST_BYTES) -> None:
    """Check that a file of so many bytes can be written at ``path``, before long work starts.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written, there is no room in it, the path is a folder, a pipe or a device,
        its name is too long, or the file is protected against writing.
    """
    path = Path(path)
    _check_target(path)
    folder = (path.resolve() if path.is_symlink() else path).parent
    try:
        with scratch_folder(folder) as scratch:
            trial = scratch / path.name
            with trial.open("wb") as stream:
                _reserve(stream.fileno(), min(need, _RESERVED_BYTES))
    except OSError as error:
        raise InputError(f"{_shortened(path)} cannot be written: {_output_words(error)}.") from error
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < need:
            raise InputError(
                f"{path} takes about {size_words(need)}; {folder} has {size_words(free)} left. Free some space, or "
                "name another place."
            )


def _check_target(path: Path) -> None:
    """Check what is at a path, and that its folder is there."""
    try:
        path = path.resolve() if path.is_symlink() else path
        mode = path.stat().st_mode if path.exists() else None
    except (OSError, RuntimeError) as error:
        words = os_error_words(error) if isinstance(error, OSError) else "its links lead in a circle; remove them"
        raise InputError(f"{_shortened(path)} cannot be written: {words}.") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write.")
    if mode is not None and not path.is_file():
        raise InputError(f"{path} is a pipe or a device; expected the name of a file to write.")
    if mode is not None and not mode & _ANYONE_WRITES:
        raise InputError(f"{path} is protected against writing; name another file, or lift the protection.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder, so {path.name} cannot be written there. Make it first.")


def _output_words(error: OSError) -> str:
    """What is wrong with an output whose folder was there."""
    if error.errno == errno.ENOENT:
        return "nothing can be made in its folder, or that is gone; choose another folder"
    return os_error_words(error)


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _reserve(descriptor: int, count: int) -> None:
    """Have the file system set so many bytes aside for a file."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, count)
    else:
        os.write(descriptor, bytes(min(count, LEAST_BYTES)))


@contextmanager
def planned_outputs(outputs: Sequence[Path]) -> Iterator[None]:
    """Context of work that ends in these files: they can be written, they are apart, and none of them is read in it.

    No other run can plan one of them meanwhile.

    Raises
    ------
    InputError
        At once if one cannot be written, two are one file, or another run is to write one; later if one is to be read.
    """
    check_outputs(outputs)
    before = _PLANNED.get()
    token = _PLANNED.set((*before, *outputs))
    try:
        with ExitStack() as claims:
            # Of the processes that torchrun starts the first alone writes.
            for path in outputs if os.environ.get("RANK", "0") == "0" else ():
                if not any(_is_one(path, other) for other in before):
                    claims.enter_context(_claim(path))
            yield
    finally:
        _PLANNED.reset(token)


@contextmanager
def _claim(path: Path) -> Iterator[None]:
    """Context in which an output is this run's alone.

    Raises
    ------
    InputError
        If another run is to write it.
    """
    try:
        with claimed(path.resolve() if path.is_symlink() else path):
            yield
    except ClaimedError as error:
        raise InputError(f"{path} is being written by another run ({error}). Wait, or name another file.") from error


def check_outputs(outputs: Sequence[Path]) -> None:
    """Check that files can be written and are apart, before the work that ends in them.

    Raises
    ------
    InputError
        If one cannot be written, or two are one file.
    """
    for index, path in enumerate(outputs):
        check_writable(path)
        if any(_is_one(path, other) for other in outputs[:index]):
            raise InputError(f"{path} is to be written twice, the second time over the first. Name another file.")


def overwritten(outputs: Sequence[Path], path: Path) -> Path | None:
    """The output that would be written over a file that is read, or into a folder that is a volume; None if none is."""
    for output in outputs:
        places = (output, *output.absolute().parents) if path.is_dir() else (output,)
        if any(_is_one(path, place) for place in places):
            return output
    return None


@contextmanager
def recorded_reads() -> Iterator[list[Path]]:
    """Context with the files, and folders that are volumes, which are read in it: each once, in order."""
    reads: list[Path] = []
    token = _READS.set(reads)
    try:
        yield reads
    finally:
        _READS.reset(token)


def register_read(path: Path) -> None:
    """Record that a file is read, and check that it is no output, and that a folder that is a volume holds none.

    Raises
    ------
    InputError
        If it is.
    """
    reads = _READS.get()
    if reads is not None and path not in reads:
        reads.append(path)
    planned = _PLANNED.get()
    output = overwritten(planned, path) if planned else None
    if output is not None:
        raise InputError(f"{output} is to be written, and is read too. Name another file.")


def _is_one(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, that is there or not."""
    try:
        if path.exists() and other.exists():
            return path.samefile(other)
    except OSError:
        return False
    return path.absolute() == other.absolute()


def given_path(given: object) -> Path:
    """The path that a person gave.

    Raises
    ------
    InputError
        If it is none, such as an array.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"a file is given as {type(given).__name__}; expected its path.")
    return Path(given)


def existing_file(path: Path | str) -> Path:
    """The path, checked: a file that exists, may be read, is not empty, and is not to be written by this work.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, it may not be read, it is empty, or it is to be written.
    """
    path = given_path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected a file.")
        if not path.exists():
            raise InputError(f"{path}: no such file.")
        if not path.is_file():
            raise InputError(f"{path} is a pipe or a device; expected a file. Write what comes out of it to one first.")
        empty = path.stat().st_size == 0
        path.open("rb").close()
    except PermissionError as error:
        raise InputError(f"{path} may not be read by you; change its permissions.") from error
    except OSError as error:
        raise InputError(f"{_shortened(path)} cannot be read: {os_error_words(error)}.") from error
    if empty:
        raise InputError(f"{path} is empty (0 bytes); was it copied or downloaded completely?")
    register_read(path)
    return path

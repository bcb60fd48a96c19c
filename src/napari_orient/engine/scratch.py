"""Folders beside an output in which it is written; what a killed run left of them, the next run removes.

Each holds a lock, which the operating system takes back when its process ends, however it ends: a folder whose lock can
be had belongs to nobody any more.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".napari-orient-"
"""Beginning of the names of all that is temporary beside an output."""

_LOCK = "napari-orient.lock"
"""Name of the lock's file in such a folder."""

_OWNER = "owner"
"""Name of the file in the folder of a claim that says which process it is of."""

_TRIES = 20
"""Folders that are made in vain before an error: each is lost only if another run removes what was left just then."""

_ABANDONED = 24 * 3600.0
"""Seconds after which a folder is taken for left where the file system has no locks; chosen: no file takes a day."""


class LockUnsupported(Exception):  # noqa: N818 - not the user's error: the caller does without a lock.
    """The file system has no locks."""


class Lock:
    """A lock on a file of its own, held until it is released or the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def acquire(cls, path: Path) -> Lock | None:
        """The lock; None if another process, or another part of this one, holds it.

        Raises
        ------
        LockUnsupported
            If the file system has no locks.
        OSError
            If the file cannot be made.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _lock(descriptor) and _is_at(path, descriptor):
                return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back, and remove its file if that is asked for."""
        if remove and os.name != "nt":
            # While it is still held, so that nobody waits for a file that is gone.
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        if remove and os.name == "nt":
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Context with an empty folder in ``parent``, removed afterwards; those that killed runs left go first.

    Raises
    ------
    OSError
        If ``parent`` cannot be written.
    """
    remove_left_over(parent)
    folder, lock = _made(parent)
    inside = folder / "out"
    try:
        inside.mkdir()
        yield inside
    finally:
        if lock is not None:
            lock.release()
        shutil.rmtree(folder, ignore_errors=True)


class ClaimedError(Exception):
    """Another run is to write the file; its words say which."""


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Context in which no other run can claim the file, on this machine or another that shares its folder.

    Where the file system has no locks nothing is claimed. What a killed run left is no claim.

    Raises
    ------
    ClaimedError
        If another run has claimed it.
    OSError
        If its folder cannot be written.
    """
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    folder = target.parent / f"{PREFIX}claim-{name}"
    lock = _claim(folder)
    try:
        if lock is not None:
            (folder / _OWNER).write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        if lock is not None:
            _remove_with_lock(folder, lock)


def _claim(folder: Path) -> Lock | None:
    """The lock of a folder that is made where it is not there; None where there are no locks."""
    for _ in range(_TRIES):
        folder.mkdir(exist_ok=True)
        try:
            lock = Lock.acquire(folder / _LOCK)
        except LockUnsupported:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        except FileNotFoundError:
            continue  # Its owner ended just now.
        if lock is not None:
            return lock
        if folder.exists():
            break
    with suppress(OSError):
        raise ClaimedError((folder / _OWNER).read_text(encoding="utf-8"))
    raise ClaimedError("process unknown")


def _remove_with_lock(folder: Path, lock: Lock) -> None:
    """Remove a folder whose lock is held, and give the lock back."""
    if os.name == "nt":
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        return
    # While it is still held, so that nobody has the lock of a folder that goes.
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def remove_left_over(parent: Path) -> None:
    """Remove the folders of `scratch_folder` whose processes ended without doing so."""
    try:
        with os.scandir(parent) as found:
            names = [item.name for item in found if item.name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            _remove_if_left(parent / name)


def _made(parent: Path) -> tuple[Path, Lock | None]:
    """A new folder and its lock, None where there are no locks."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = Lock.acquire(folder / _LOCK)
        except LockUnsupported:
            return folder, None
        except FileNotFoundError:
            continue  # Another run took it for left, before it had its lock.
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if lock is not None:
            return folder, lock
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(parent))


def _remove_if_left(folder: Path) -> None:
    """Remove a folder, if its lock can be had; whoever is making it just now then makes another."""
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        lock = Lock.acquire(folder / _LOCK)
    except LockUnsupported:
        if time.time() - folder.stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
        return
    if lock is not None:
        _remove_with_lock(folder, lock)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file that is open is still the one at the path."""
    try:
        there, held = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _lock(descriptor: int) -> bool:
    """Whether the lock was had."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise LockUnsupported from error
    return True

"""Folders that a verb fills: one run at a time, with the same options each time, and never over what is not its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import LEAST_BYTES, check_writable, write_text
from napari_orient.engine.scratch import PREFIX, Lock, LockUnsupported, remove_left_over

RECORD = "napari-orient.json"
"""Name of the file in which a folder says who made it, and with what."""

_LOCK = f"{PREFIX}lock"
"""Name of the lock's file in a folder that is being filled."""


@dataclass(frozen=True, kw_only=True)
class FolderClaim:
    """What is to fill a folder.

    Parameters
    ----------
    maker : the verb, such as ``simulate``.
    made_with : plain values fit for JSON that must be the same for a run to go on where another one stopped.
    owns : patterns of the names that it writes in the folder.
    recognised : whether a folder without a record was made by this verb all the same, in an earlier version.
    """

    folder: Path
    maker: str
    made_with: Mapping[str, Any]
    owns: tuple[str, ...]
    recognised: Callable[[Path], bool] = lambda _: False

    def check(self, *, need: int = LEAST_BYTES) -> None:
        """Check that the folder can be filled; nothing is made.

        Parameters
        ----------
        need : bytes of all that is to be written, about.

        Raises
        ------
        InputError
            If it is a file, cannot be written, has no room, or holds what is not of this verb or of other options.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; expected a folder to write into.")
        existing = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        check_writable(existing / RECORD, need=need)
        if self.folder.exists():
            self._check_content()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context that makes the folder, has it for itself, and leaves the record in it.

        Raises
        ------
        InputError
            As `check`, or if another run fills the folder.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            self._check_content()
            remove_left_over(self.folder)
            self._write_record()
            yield
        finally:
            if lock is not None:
                lock.release(remove=True)

    def _lock(self) -> Lock | None:
        try:
            lock = Lock.acquire(self.folder / _LOCK)
        except LockUnsupported:
            return None
        if lock is None:
            raise InputError(f"another run writes to {self.folder}. Wait for its end, or name another folder.")
        return lock

    def _check_content(self) -> None:
        path = self.folder / RECORD
        if path.is_file():
            self._check_record(read_folder_record(self.folder) or {})
        elif not self.recognised(self.folder):
            foreign = next((item for pattern in self.owns for item in sorted(self.folder.glob(pattern))), None)
            if foreign is not None:
                raise InputError(
                    f"{self.folder} holds {foreign.name}, which is of another making and would be written over. Name "
                    "a new folder."
                )

    def _check_record(self, record: Mapping[str, Any]) -> None:
        maker = record.get("made_by")
        if maker != self.maker:
            raise InputError(f"{self.folder} was made by {maker or 'another program'}; name another folder.")
        difference = first_difference(record.get("made_with"), json.loads(json.dumps(self.made_with)))
        if difference:
            raise InputError(
                f"{self.folder} was made with {difference}. Name another folder, or give the options it was made with."
            )

    def _write_record(self) -> None:
        record = {"made_by": self.maker, "made_with": self.made_with}
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        path = self.folder / RECORD
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def read_folder_record(folder: Path) -> dict[str, Any] | None:
    """Who made a folder, and with what: ``made_by`` and ``made_with``; None where it does not say.

    Raises
    ------
    InputError
        If its record cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it does not say what made the folder. Name another folder.") from error


def first_difference(old: Any, new: Any, name: str = "") -> str:
    """Description of the first value that differs between two records; empty where they agree."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys([*old, *new])
        differences = (first_difference(old.get(key), new.get(key), f"{name} {key}".strip()) for key in names)
        return next((words for words in differences if words), "")
    return "" if old == new else f"{name or 'options'} {json.dumps(old)}, and now {json.dumps(new)} is asked for"

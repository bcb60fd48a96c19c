"""Whether two names mean one tomogram: programs add prefixes and suffixes of their own to the name of a tilt series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError

_SUFFIXES = re.compile(r"\.(mrcs?|rec|map|st|ali|tomostar|star|csv|tsv|txt|zarr|mdoc|gz)$", re.IGNORECASE)
_TAGS = re.compile(
    r"[_-](rec|snr[\d.]+|motif[_-]list|den|lbls?|mics|[\d.]+apx|bin[\d.]+|vol|half[12]|evn|odd|even|"
    r"denoised|corrected|deconv|filtered|filt|full|aligned|ali|particles|picks|predicted)$",
    re.IGNORECASE,
)
_FRONT = re.compile(r"^(rec|tomo|tomogram|den)_(?=.)")


def plain_name(name: str) -> str:
    """The name without folders and file suffixes: ``recon/TS_01.mrc.tomostar`` -> ``TS_01``."""
    return _without(_SUFFIXES, PurePosixPath(name.replace("\\", "/")).name)


def same_tomogram(name: str, other: str) -> bool:
    """Whether two names differ by known prefixes and suffixes at most.

    Folders, file suffixes, zeros in front of numbers, and what programs add are looked past: ``tomo_001``,
    ``Tomo001``, ``tomo_001_rec_snr1.94`` and ``tomo_001_motif_list`` are one, so are ``TS_01`` and
    ``rec_TS_01_10.00Apx.mrc``. ``TS_01`` and ``TS_10`` are not, nor ``TS_01`` and ``TS_01_2``.
    """
    return _core(name) == _core(other)


def match_tomogram(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that means the same tomogram as ``name``: the very name if it is there; None if there is none.

    Raises
    ------
    InputError
        If several candidates fit and none is the very name.
    """
    candidates = list(candidates)
    if name in candidates:
        return name
    exact = [item for item in candidates if plain_name(item) == plain_name(name)]
    fitting = exact or [item for item in candidates if same_tomogram(name, item)]
    if len(fitting) > 1:
        raise InputError(f"tomogram {name} fits both {fitting[0]} and {fitting[1]}; keep one, or name it exactly.")
    return fitting[0] if fitting else None


def rows_of_tomogram(names: Sequence[str], tomogram: str, *, where: str) -> NDArray[np.intp]:
    """The rows of a list that belong to a tomogram: those of its very name, or of names that mean the same.

    Raises
    ------
    InputError
        If there is none.
    """
    known = list(dict.fromkeys(names))
    wanted = {tomogram} if tomogram in known else {name for name in known if same_tomogram(name, tomogram)}
    if not wanted:
        shown = ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
        raise InputError(f"{where} has no particle of {tomogram}; it has {shown}. Rename one so that the names agree.")
    return np.flatnonzero([name in wanted for name in names])


def _core(name: str) -> str:
    before, after = "", plain_name(name)
    while after != before:
        before, after = after, _without(_SUFFIXES, _without(_TAGS, after))
    core = re.sub(r"[\s_-]+", "_", after.lower())
    core = re.sub(r"(?<=[a-z])(?=\d)", "_", core)
    return _without(_FRONT, re.sub(r"(?<!\d)0+(?=\d)", "", core))


def _without(pattern: re.Pattern[str], name: str) -> str:
    """The name without what the pattern finds, as often as it finds it; never nothing."""
    shorter = pattern.sub("", name)
    return name if shorter in ("", name) else _without(pattern, shorter)

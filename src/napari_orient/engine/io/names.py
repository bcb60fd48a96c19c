"""Whether two names mean one tomogram: programs add prefixes and suffixes of their own to the name of a tilt series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import shortened

_SUFFIXES = re.compile(r"\.(mrcs?|rec|map|st|ali|tomostar|star|csv|tsv|txt|zarr|mdoc|gz)$", re.IGNORECASE)
_TAGS = re.compile(
    r"[_-](rec|snr[\d.]+|motif[_-]list|den|lbls?|mics|[\d.]+apx|bin[\d.]+|vol|half[12]|evn|odd|even|"
    r"denoised|corrected|deconv|filtered|filt|full|aligned|ali|particles|picks|predicted)$",
    re.IGNORECASE,
)
_FRONT = re.compile(r"^(rec|tomo|tomogram|den)_(?=.)")


def plain_name(name: str) -> str:
    """Name without folders and file suffixes: ``recon/TS_01.mrc.tomostar`` -> ``TS_01``."""
    return _without(_SUFFIXES, PurePosixPath(name.replace("\\", "/")).name)


def same_tomogram(name: str, other: str) -> bool:
    """Whether two names differ at most by prefixes and suffixes that programs add.

    Folders, file suffixes, leading zeros and such additions are ignored: ``tomo_001``, ``Tomo001``,
    ``tomo_001_rec_snr1.94`` and ``tomo_001_motif_list`` are the same, so are ``TS_01`` and ``rec_TS_01_10.00Apx.mrc``.
    ``TS_01`` and ``TS_10`` are not, nor ``TS_01`` and ``TS_01_2``.
    """
    return _core(name) == _core(other)


def match_tomogram(name: str, candidates: Iterable[str]) -> str | None:
    """Candidate that means the same tomogram as ``name``, first of all the exact name; None if there is none.

    Raises
    ------
    InputError
        If several candidates fit and none is the exact name.
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
    """Rows of a list that belong to a tomogram: those of its exact name, or else of names that mean the same.

    Raises
    ------
    InputError
        If there is none.
    """
    present = list(dict.fromkeys(names))
    wanted = {tomogram} if tomogram in present else {name for name in present if same_tomogram(name, tomogram)}
    if not wanted:
        shown = shortened(present, most=3)
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
    """Name with every match of the pattern removed, as often as it matches; never empty."""
    shorter = pattern.sub("", name)
    return name if shorter in ("", name) else _without(pattern, shorter)

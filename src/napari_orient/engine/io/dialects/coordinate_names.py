"""Names under which people and programs write coordinates in tables, with the unit that they may state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

POSITION = ("x", "y", "z")
"""Names of coordinates in Å."""

VOXEL = ("x_voxel", "y_voxel", "z_voxel")
"""Names of coordinates in voxels, counted from 0."""

_WORD = r"pos|position|coords?|coordinates?|cent(?:er|re)|centroid|loc|location"
_UNIT = r"a|å|ang|angst|angstroms?|nm|nanometers?|nanometres?|px|pix|pixels?|vox|voxels?|vx"
_NAME = re.compile(
    rf"^(?:(?P<before>{_WORD})[\s_.-]*)?(?P<axis>[xyz])(?:[\s_.-]*(?P<after>{_WORD}))?"
    rf"(?:(?:[\s_.-]+|[\s_.-]*[\[(]\s*)(?P<unit>{_UNIT})\s*[\])]?)?$",
    re.IGNORECASE,
)
"""``X [A]`` (TARDIS), ``x_nm``, ``pos_x``, ``centroid_x (px)``, ``CoordinateX``."""

_ANGSTROM = {"a": 1.0, "å": 1.0, "ang": 1.0, "angst": 1.0, "angstrom": 1.0, "nm": 10.0}
"""Å in a unit of length; other units are voxels."""

_ANGLE_NAMES = frozenset(
    {
        *("alpha", "beta", "gamma", "phi", "theta", "the", "tdrot", "narot", "yaw", "pitch", "roll"),
        *(f"euler_{name}" for name in ("x", "y", "z", "1", "2", "3", "phi", "theta", "psi")),
        *("euler1", "euler2", "euler3", "ang_rot", "ang_tilt", "ang_psi", "anglerot", "angletilt", "anglepsi"),
    }
)
"""Names of columns that most likely are angles, of a convention that they do not state; in lower case."""


@dataclass(frozen=True)
class CoordinateColumns:
    """Columns of x, y and z, and Å of one unit; None where they count in voxels.

    Parameters
    ----------
    note : what a person should know of how they were chosen; empty where they have the names that are documented.
    """

    names: tuple[str, str, str]
    angstrom: float | None
    note: str = ""


def coordinate_columns(names: Sequence[str]) -> CoordinateColumns | None:
    """The columns that hold coordinates; None where none do, or several may.

    The documented names come first, then those that state a unit of length, then other units, then those of none, which
    are taken in Å.
    """
    plain = {name.lower(): name for name in reversed(names)}
    for own, angstrom in ((POSITION, 1.0), (VOXEL, None)):
        if set(own) <= set(plain):
            return CoordinateColumns((plain[own[0]], plain[own[1]], plain[own[2]]), angstrom)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in names:
        match = _NAME.match(name)
        if match is not None:
            key = tuple((match[part] or "").lower() for part in ("before", "after", "unit"))
            found.setdefault((key[0], key[1], key[2]), {}).setdefault(match["axis"].lower(), name)
    whole = {key: axes for key, axes in found.items() if set(axes) == set(POSITION)}
    lengths = [key for key in whole if _length(key[2]) is not None]
    stated = lengths or [key for key in whole if key[2]] or list(whole)
    if len(stated) != 1:
        return None
    axes, unit = whole[stated[0]], stated[0][2]
    chosen = (axes["x"], axes["y"], axes["z"])
    angstrom = _length(unit) if unit else 1.0
    words = "in voxels" if angstrom is None else "in nm" if angstrom == 10 else "in Å" if unit else "taken in Å"
    return CoordinateColumns(chosen, angstrom, f"Coordinates are the columns {', '.join(chosen)}, {words}.")


def _length(unit: str) -> float | None:
    """Å in a unit of length; None for any other."""
    return _ANGSTROM.get("nm" if unit.startswith("nano") else unit.removesuffix("s"))


def angle_names(names: Sequence[str]) -> list[str]:
    """Those names that most likely are of angles, and not of those that are read."""
    return [name for name in names if name.lower() in _ANGLE_NAMES]

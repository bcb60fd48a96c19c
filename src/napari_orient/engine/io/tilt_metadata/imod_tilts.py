"""Tilt metadata of IMOD (``.tlt``, ``.rawtlt``, ``.xtilt``, ``.xf``, ``.defocus``) and of AreTomo (``.aln``).

Both reconstruct with the tilt axis along y, whatever its direction in the images. Which sign of z a tilt has depends on
how the volume was turned afterwards; see `tilt_geometry`, which compares both with the power of the tomogram.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.particles import FloatArray

_ASTIGMATISM = 1
"""Flag of a .defocus file of version 3: two defocus values and the angle of the first (ctfphaseflip's manual page)."""
_ASTIGMATISM_RADIANS = 2
"""Flag: that angle is in radians."""
_PHASE_SHIFT = 4
"""Flag: phase shifts follow."""
_PHASE_RADIANS = 8
"""Flag: those are in radians."""
_NM_PER_UM = 1000.0
"""Nanometres, in which IMOD has defocus, in a micrometre."""
_ALN_COLUMNS = 10
"""Columns of the global alignment in an .aln file: the first is the section, the second the axis, the last the tilt."""
_TRANSFORM_COLUMNS = 6
"""Columns of an .xf file: a 2 × 2 matrix by rows, and a shift."""


def read_imod(path: Path, tomogram: str) -> TiltSeries:
    """The tilt series of IMOD's files of one stem; the tomogram's name is not needed.

    Raises
    ------
    InputError
        If there is no file of angles, or the files do not fit together.
    """
    angles_file = next((item for item in _beside(path, ".tlt", ".rawtlt") if item.is_file()), None)
    if angles_file is None:
        raise InputError(f"{path} has no file of angles beside it; expected {path.with_suffix('.tlt').name}.")
    table = _numbers(angles_file)
    tilts, count = table[:, 0], len(table)
    leaning = next((item for item in _beside(path, ".xtilt") if item.is_file()), None)
    level = 0.0 if leaning is None else float(np.mean(_numbers(leaning)[:, 0]))
    defocus_file = next((item for item in _beside(path, ".defocus") if item.is_file()), None)
    defocus, astigmatism, phase = (None, None, 0.0) if defocus_file is None else _defocus(defocus_file, count)
    turned = next((item for item in _beside(path, ".xf") if item.is_file()), None)
    if astigmatism is not None and turned is not None:
        astigmatism = astigmatism + _rotation_deg(turned, count)
    dose = _dose(table) if table.shape[1] >= 3 else None
    return TiltSeries(
        TiltSeries.of_angles(tilts, level_deg=level).axes,
        dose=dose,
        defocus_um=defocus,
        astigmatism_deg=astigmatism,
        optics=Optics(phase_shift_deg=phase),
    )


def read_aretomo(path: Path, tomogram: str) -> TiltSeries:
    """The tilt series of an AreTomo ``.aln``, without its dark images; the tomogram's name is not needed.

    Raises
    ------
    InputError
        If it has no global alignment.
    """
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip().lower().startswith("# local alignment"):
            break
        values = [] if line.lstrip().startswith("#") else line.split()
        if len(values) == _ALN_COLUMNS:
            rows.append(values)
    try:
        tilts = np.array([float(row[-1]) for row in rows])
    except ValueError as error:
        raise InputError(f"{path} holds what is no number ({error}); expected AreTomo's .aln.") from error
    if len(tilts) == 0:
        raise InputError(f"{path} has no global alignment; expected AreTomo's .aln, of ten columns.")
    return TiltSeries.of_angles(tilts)


def _beside(path: Path, *suffixes: str) -> list[Path]:
    """The file itself, if it has one of the suffixes, and the files of its stem that have them."""
    own = [path] if path.suffix.lower() in suffixes else []
    return own + [path.with_suffix(suffix) for suffix in suffixes]


def _numbers(path: Path) -> FloatArray:
    """Table of numbers, (rows, columns); as many columns as the shortest row has."""
    lines = [line.replace(",", " ").split() for line in path.read_text(errors="replace").splitlines() if line.split()]
    try:
        width = min(len(line) for line in lines)
        return np.array([[float(value) for value in line[:width]] for line in lines])
    except ValueError as error:
        raise InputError(f"{path} is no table of numbers ({error}). Write it again.") from error


def _dose(table: FloatArray) -> FloatArray:
    """Dose by the middle of each exposure, of rows (tilt, order of acquisition, dose) as AreTomo writes them."""
    order = np.argsort(table[:, 1], kind="stable")
    own = table[order, 2]
    dose = np.empty(len(table))
    dose[order] = np.cumsum(own) - own / 2
    return dose


def _defocus(path: Path, count: int) -> tuple[FloatArray, FloatArray | None, float]:
    """Defocus (T, 2) in µm, angle of astigmatism (T,), mean phase shift in degrees; linear between views listed.

    Version 2 has lines ``first last angle angle defocus``, the first with the version behind; version 3 begins with a
    line of flags. Views count from 1, and of a range of views the middle counts.
    """
    lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.split()]
    try:
        headed = len(lines) > 1 and lines[0][-1] == "3" and float(lines[0][1]) == 0
        flags = int(lines[0][0]) if headed else 0
        rows = [[float(value) for value in line] for line in lines[1 if headed else 0 :]]
        views = np.array([(row[0] + row[1]) / 2 for row in rows])
        first = np.array([row[4] for row in rows])
        astigmatic = bool(flags & _ASTIGMATISM)
        second = np.array([row[5] for row in rows]) if astigmatic else first
        angle = np.array([row[6] for row in rows]) if astigmatic else None
        phase = float(np.mean([row[7 if astigmatic else 5] for row in rows])) if flags & _PHASE_SHIFT else 0.0
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is no .defocus file of ctfplotter, version 2 or 3 ({error}).") from error
    if angle is not None and flags & _ASTIGMATISM_RADIANS:
        angle = np.degrees(angle)
    phase = float(np.degrees(phase)) if flags & _PHASE_RADIANS else phase
    order = np.argsort(views)
    every = np.arange(1, count + 1)
    pair = np.stack([np.interp(every, views[order], column[order]) for column in (first, second)], axis=1)
    # An angle is not interpolated: 179° and 1° are near each other.
    nearest = np.abs(every[:, None] - views).argmin(axis=1)
    return pair / _NM_PER_UM, None if angle is None else angle[nearest], phase


def _rotation_deg(path: Path, count: int) -> FloatArray:
    """Rotation of each image by its alignment, (T,) degrees, counter-clockwise."""
    table = _numbers(path)
    if table.shape != (count, _TRANSFORM_COLUMNS):
        raise InputError(
            f"{path} has {len(table)} rows of {table.shape[1]} numbers; expected six for each of {count} images."
        )
    rotation: FloatArray = np.degrees(np.arctan2(table[:, 2], table[:, 0]))
    return rotation

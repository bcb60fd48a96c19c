"""Tilt metadata of RELION: ``tomograms.star`` of versions 4 and 5, with the star files of its tilt series.

RELION 5 has a star file for each series, with angles: an image's axes are Rz(rlnTomoZRot) Ry(rlnTomoYTilt)
Rx(rlnTomoXTilt). RELION 4 and WarpTools have a block for each, with the rows of a projection matrix
(rlnTomoProjX, Y and Z). Both turn the tomogram's xyz into the image's x, y and beam.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import Table, numbers, read_star, single
from napari_orient.engine.io.tomograms import TOMOGRAM, found_file, match_tomogram
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.particles import FloatArray, shortened

_SERIES_FILE = "rlnTomoTiltSeriesStarFile"
_PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
_NOMINAL = "rlnTomoNominalStageTiltAngle"
_DOSE = "rlnMicrographPreExposure"
_OPTICS = {
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}


def read_relion_tilts(path: Path, tomogram: str) -> TiltSeries:
    """The tilt series of a tomogram in RELION's ``tomograms.star``, or that of a tilt series' own star file.

    Raises
    ------
    InputError
        If the tomogram is not listed, its tilt series' file is not there, or it has no angles.
    """
    blocks = read_star(path)
    table = next((block for block in blocks.values() if TOMOGRAM in block), None)
    if table is None or _NOMINAL in table or _PROJECTION[0] in table or _ANGLES[1] in table:
        return _series(next(iter(blocks.values())), Optics(), where=str(path))
    row = _row(table, tomogram, path)
    images, where = _images(table, row, blocks, path)
    return _series(images, _optics(table, row, where=str(path)), where=where)


def names_tomograms(blocks: Mapping[str, Table]) -> tuple[str, ...]:
    """Names of the tomograms that a star file lists together with their tilts; empty where there are none."""
    table = next((block for block in blocks.values() if TOMOGRAM in block), None)
    if table is None or not (_SERIES_FILE in table or any(name in blocks for name in table[TOMOGRAM])):
        return ()
    return table[TOMOGRAM]


def _row(table: Table, tomogram: str, path: Path) -> int:
    names = table[TOMOGRAM]
    name = match_tomogram(tomogram, names) if tomogram or len(names) > 1 else names[0]
    if name is None:
        raise InputError(f"{path} does not list {tomogram}; it has {shortened(names, most=3)}. Name it as there.")
    return names.index(name)


def _images(table: Table, row: int, blocks: Mapping[str, Table], path: Path) -> tuple[Table, str]:
    """Table of the images of a tomogram, a row each, and where it was read from."""
    name = table[TOMOGRAM][row]
    if name in blocks:
        return blocks[name], f"{path}, data_{name}"
    if _SERIES_FILE not in table:
        raise InputError(f"{path} has neither a block data_{name} nor a column {_SERIES_FILE}: no tilts of {name}.")
    text = table[_SERIES_FILE][row]
    found = found_file(text, beside=path)
    if found is None:
        raise InputError(f"{path} names the tilt series {text}, which is not there; put it beside, or name it itself.")
    return next(iter(read_star(found).values())), str(found)


def _optics(table: Table, row: int, *, where: str) -> Optics:
    given = {field: single(table, name, where=where)[row] for field, name in _OPTICS.items() if name in table}
    return Optics(**{field: float(value) for field, value in given.items()})


def _series(images: Table, optics: Optics, *, where: str) -> TiltSeries:
    defocus, angle = None, None
    if {"rlnDefocusU", "rlnDefocusV"} <= set(images):
        defocus = numbers(images, ("rlnDefocusU", "rlnDefocusV"), where=where) / 1e4
        angle = single(images, "rlnDefocusAngle", where=where) if "rlnDefocusAngle" in images else None
    dose = single(images, _DOSE, where=where) if _DOSE in images else None
    return TiltSeries(
        _axes(images, where=where),
        dose=None if dose is None else to_mid_exposure(dose),
        defocus_um=defocus,
        astigmatism_deg=angle,
        optics=optics,
    )


def _axes(images: Table, *, where: str) -> FloatArray:
    if set(_PROJECTION) <= set(images):
        return _orthonormal(np.stack([_vectors(images[name], where=where) for name in _PROJECTION], axis=1), where)
    if _ANGLES[1] in images:
        zero = np.zeros(len(images[_ANGLES[1]]))
        x, y, z = (single(images, name, where=where) if name in images else zero for name in _ANGLES)
        return np.asarray(Rotation.from_euler("xyz", np.stack([x, y, z], axis=1), degrees=True).as_matrix())
    if _NOMINAL in images:
        return TiltSeries.of_angles(single(images, _NOMINAL, where=where)).axes
    raise InputError(f"{where} has no tilts; expected {_ANGLES[1]}, {_PROJECTION[0]} or {_NOMINAL}. Align it first.")


def _vectors(texts: tuple[str, ...], *, where: str) -> FloatArray:
    """Vectors written as ``[x,y,z,w]``, their first three numbers, (T, 3)."""
    try:
        return np.array([[float(value) for value in text.strip("[]").split(",")[:3]] for text in texts]).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"{where}: {texts[0]!r} given as row of a projection matrix; expected [x,y,z,w].") from error


def _orthonormal(axes: FloatArray, where: str) -> FloatArray:
    """The rotations nearest to the matrices (T, 3, 3): magnification taken out; a mirrored one is refused."""
    left, _, right = np.linalg.svd(axes)
    rotations: FloatArray = left @ right
    if (np.linalg.det(rotations) < 0).any():
        raise InputError(f"{where} has projection matrices that mirror; expected rotations. Export them again.")
    return rotations


def to_mid_exposure(before: FloatArray) -> FloatArray:
    """Dose by the middle of each exposure, of the dose before each, (T,) e/Å²: half the usual step is added."""
    steps = np.diff(np.sort(before))
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    middle: FloatArray = before + usual / 2
    return middle

"""Tilt metadata of Warp, WarpTools and M: a tilt series' ``.xml``, and the ``.tomostar`` that it begins from.

An image's axes are Euler(0, tilt + LevelAngleY, -AxisAngle) Rx(LevelAngleX) in Warp's sense of Euler: a tilt by θ has
its beam along (sin θ, 0, cos θ). Defocus is a grid over the images, in µm, which may also vary over each image.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import read_star, single
from napari_orient.engine.io.tilt_metadata.relion_tilts import to_mid_exposure
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.particles import FloatArray

_OPTICS = {"voltage_kv": "Voltage", "spherical_aberration_mm": "Cs", "amplitude_contrast": "Amplitude"}


def read_warp_xml(path: Path, tomogram: str) -> TiltSeries:
    """The tilt series of Warp's XML file; the tomogram's name is not needed.

    Raises
    ------
    InputError
        If it is no XML file of a tilt series, or has no angles.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no XML file that can be read ({error}). Write it again.") from error
    angles = _lines(root, "Angles", path)
    if root.tag != "TiltSeries" or angles is None:
        raise InputError(f"{path} is no tilt series of Warp; expected <TiltSeries> with <Angles>.")
    used = np.array([text.strip().lower() != "false" for text in (root.findtext("UseTilt") or "").split()], bool)
    used = used if len(used) == len(angles) else np.ones(len(angles), bool)
    zero = np.zeros(len(angles))
    axis = _lines(root, "AxisAngle", path)
    level_x, level_y = (float(root.get(name, "0")) for name in ("LevelAngleX", "LevelAngleY"))
    defocus, phase = _grid(root, "GridCTF", len(angles)), _parameter(root, "PhaseShift")
    pair, astigmatism = None, None
    if defocus is not None:
        delta, direction = (_grid(root, name, len(angles)) for name in ("GridCTFDefocusDelta", "GridCTFDefocusAngle"))
        half = zero if delta is None else delta / 2
        pair = np.stack([defocus + half, defocus - half], axis=1)[used]
        astigmatism = None if direction is None else direction[used]
    dose = _lines(root, "Dose", path)
    given = {field: _parameter(root, name) for field, name in _OPTICS.items()}
    optics = {field: value for field, value in given.items() if value is not None}
    return TiltSeries(
        warp_axes(angles + level_y, zero if axis is None else axis, level_x)[used],
        dose=None if dose is None else to_mid_exposure(dose)[used],
        defocus_um=pair,
        astigmatism_deg=astigmatism,
        optics=Optics(**optics, phase_shift_deg=180 * phase if phase else 0.0),
    )


def read_tomostar(path: Path, tomogram: str) -> TiltSeries:
    """The tilt series of a ``.tomostar``: nominal angles and dose, no defocus; the tomogram's name is not needed.

    Raises
    ------
    InputError
        If it has no angles.
    """
    table = next(iter(read_star(path).values()))
    if "wrpAngleTilt" not in table:
        raise InputError(f"{path} has no column wrpAngleTilt; expected a .tomostar of Warp.")
    where = str(path)
    angles = single(table, "wrpAngleTilt", where=where)
    axis = single(table, "wrpAxisAngle", where=where) if "wrpAxisAngle" in table else np.zeros(len(angles))
    dose = to_mid_exposure(single(table, "wrpDose", where=where)) if "wrpDose" in table else None
    return TiltSeries(warp_axes(angles, axis, 0.0), dose=dose)


def warp_axes(tilt_deg: FloatArray, axis_deg: FloatArray, level_deg: float) -> FloatArray:
    """The axes of images tilted by angles (T,), with the tilt axis at angles (T,) in them, (T, 3, 3)."""
    tilt, psi, level = np.radians(tilt_deg), np.radians(-axis_deg), np.radians(level_deg)
    zero = np.zeros(len(tilt))
    rows = [
        [np.cos(psi) * np.cos(tilt), np.sin(psi), -np.cos(psi) * np.sin(tilt)],
        [-np.sin(psi) * np.cos(tilt), np.cos(psi), np.sin(psi) * np.sin(tilt)],
        [np.sin(tilt), zero, np.cos(tilt)],
    ]
    sine, cosine = np.sin(level), np.cos(level)
    leaning = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.asarray(np.array(rows).transpose(2, 0, 1) @ leaning)


def _lines(root: ElementTree.Element, name: str, path: Path) -> FloatArray | None:
    text = root.findtext(name)
    if text is None or not text.split():
        return None
    try:
        return np.array([float(value) for value in text.split()])
    except ValueError as error:
        raise InputError(f"{path}: <{name}> holds what is no number ({error}). Write it again.") from error


def _parameter(root: ElementTree.Element, name: str) -> float | None:
    """A parameter of ``<CTF>``, an attribute of it or a ``<Param>`` in it."""
    found = root.find("CTF")
    if found is None:
        return None
    inner = next((item for item in found.iter("Param") if item.get("Name") == name), None)
    text = found.get(name) if inner is None else inner.get("Value")
    return None if text is None else float(text)


def _grid(root: ElementTree.Element, name: str, count: int) -> FloatArray | None:
    """A grid's mean over each image, (T,); linear between the images where it has fewer."""
    grid = root.find(name)
    nodes = [] if grid is None else list(grid.iter("Node"))
    if not nodes:
        return None
    places = np.array([float(node.get("Z", "0")) for node in nodes])
    values = np.array([float(node.get("Value", "nan")) for node in nodes])
    depths = np.unique(places)
    means = np.array([values[places == depth].mean() for depth in depths])
    images = np.linspace(0, 1, count)
    return means if len(means) == count else np.interp(images, np.linspace(0, 1, len(means)), means)

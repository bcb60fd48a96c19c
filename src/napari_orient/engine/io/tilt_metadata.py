"""Tilt metadata in files of RELION, Warp, IMOD and AreTomo: angles, defocus and dose of each image of a tilt series.

`read_tilt_series` reads any of them, by its suffix; `tilt_files_beside` finds those that belong to a tomogram by their
names. RELION 5's are written too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import Table, decimals, numbers, read_star, single, write_star
from napari_orient.engine.io.tomograms import TOMOGRAM, found_file, match_tomogram, plain_name, same_tomogram
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import FloatArray, Tomogram, shortened

_BESIDE = (".xml", ".tlt", ".aln", ".tomostar", ".rawtlt")
"""Suffixes of files that belong to one tomogram, those that say most first."""


def read_tilt_series(path: Path | str, *, tomogram: str = "") -> TiltSeries:
    """The tilt series of a tomogram, from a file or from the folder that holds the file of its name.

    Parameters
    ----------
    path : RELION's ``tomograms.star`` or a tilt series' own star file, Warp's ``.xml`` or ``.tomostar``, AreTomo's
        ``.aln``, IMOD's ``.tlt``, ``.rawtlt``, ``.xf`` or ``.defocus`` (the others are taken from beside it).
    tomogram : its name, to choose among several; it may differ by the prefixes and suffixes of `same_tomogram`.

    Raises
    ------
    InputError
        If there is no such file, its kind is unknown, it holds no series of the tomogram, or something is missing.
    """
    path = Path(path)
    if path.is_dir():
        found = _files_in(path, tomogram)
        if len(found) != 1:
            known = ", ".join(item.name for item in found) if found else "none"
            raise InputError(f"{path} has no single file of tilts for {tomogram} ({known}); name the file itself.")
        path = found[0]
    path = existing_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} has no known suffix of tilt metadata; expected {', '.join(_READERS)}, or a folder.")
    return reader(path, tomogram)


def tilt_files_beside(tomogram: Path, name: str) -> list[Path]:
    """Files of tilt metadata in a tomogram's folder that belong to it; of several programs' the one that says most.

    Two lists of tomograms, or a list and a file, are two: which one holds is not known then.
    """
    return _files_in(tomogram.parent, name)


def _files_in(folder: Path, name: str) -> list[Path]:
    own = [
        item
        for suffix in _BESIDE
        for item in sorted(folder.glob(f"*{suffix}"))
        if same_tomogram(plain_name(item.stem), name)
    ]
    lists = [item for item in sorted(folder.glob("*tomograms.star")) if _lists(item, name)]
    # A .rawtlt holds what its .tlt says better, an .xml what its .tomostar does.
    first = own[:1] if len({item.stem for item in own}) == 1 else own
    return first + lists


def _lists(path: Path, name: str) -> bool:
    """Whether a star file lists tomograms with their tilts, this one among them."""
    try:
        return any(same_tomogram(item, name) for item in names_tomograms(read_star(path)))
    except InputError:
        return False


# --- RELION's tomograms.star, of versions 4 and 5, with the star files of its tilt series -----------------------------
#
# RELION 5 has a star file for each series, with angles: an image's axes are Rz(rlnTomoZRot) Ry(rlnTomoYTilt)
# Rx(rlnTomoXTilt). RELION 4 and WarpTools have a block for each, with the rows of a projection matrix (rlnTomoProjX, Y
# and Z). Both turn the tomogram's xyz into the image's x, y and beam.

_SERIES_FILE = "rlnTomoTiltSeriesStarFile"
_PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
_NOMINAL = "rlnTomoNominalStageTiltAngle"
_DOSE = "rlnMicrographPreExposure"
_RELION_OPTICS = {
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}
_STAR_VERSION = "50001"
"""Version of RELION's STAR files, as RELION 5 writes it."""
_HAND = 1
"""Sign by which defocus grows with the height along the beam."""


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
        return _relion_series(next(iter(blocks.values())), Optics(), where=str(path))
    row = _relion_row(table, tomogram, path)
    images, where = _relion_images(table, row, blocks, path)
    return _relion_series(images, _relion_optics(table, row, where=str(path)), where=where)


def names_tomograms(blocks: Mapping[str, Table]) -> tuple[str, ...]:
    """Names of the tomograms that a star file lists together with their tilts; empty where there are none."""
    table = next((block for block in blocks.values() if TOMOGRAM in block), None)
    if table is None or not (_SERIES_FILE in table or any(name in blocks for name in table[TOMOGRAM])):
        return ()
    return tuple(table[TOMOGRAM])


def _relion_row(table: Table, tomogram: str, path: Path) -> int:
    names = table[TOMOGRAM]
    name = match_tomogram(tomogram, names) if tomogram or len(names) > 1 else names[0]
    if name is None:
        raise InputError(f"{path} does not list {tomogram}; it has {shortened(names, most=3)}. Name it as there.")
    return names.index(name)


def _relion_images(table: Table, row: int, blocks: Mapping[str, Table], path: Path) -> tuple[Table, str]:
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


def _relion_optics(table: Table, row: int, *, where: str) -> Optics:
    given = {field: single(table, name, where=where)[row] for field, name in _RELION_OPTICS.items() if name in table}
    return Optics(**{field: float(value) for field, value in given.items()})


def _relion_series(images: Table, optics: Optics, *, where: str) -> TiltSeries:
    defocus, angle = None, None
    if {"rlnDefocusU", "rlnDefocusV"} <= set(images):
        defocus = numbers(images, ("rlnDefocusU", "rlnDefocusV"), where=where) / 1e4
        angle = single(images, "rlnDefocusAngle", where=where) if "rlnDefocusAngle" in images else None
    dose = single(images, _DOSE, where=where) if _DOSE in images else None
    return TiltSeries(
        _relion_axes(images, where=where),
        dose=None if dose is None else to_mid_exposure(dose),
        defocus_um=defocus,
        astigmatism_deg=angle,
        optics=optics,
    )


def _relion_axes(images: Table, *, where: str) -> FloatArray:
    if set(_PROJECTION) <= set(images):
        return _orthonormal(np.stack([_vectors(images[name], where=where) for name in _PROJECTION], axis=1), where)
    if _ANGLES[1] in images:
        zero = np.zeros(len(images[_ANGLES[1]]))
        x, y, z = (single(images, name, where=where) if name in images else zero for name in _ANGLES)
        return np.asarray(Rotation.from_euler("xyz", np.stack([x, y, z], axis=1), degrees=True).as_matrix())
    if _NOMINAL in images:
        return TiltSeries.of_angles(single(images, _NOMINAL, where=where)).axes
    raise InputError(f"{where} has no tilts; expected {_ANGLES[1]}, {_PROJECTION[0]} or {_NOMINAL}. Align it first.")


def _vectors(texts: Sequence[str], *, where: str) -> FloatArray:
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


def write_tilt_series(folder: Path, tomogram: Tomogram, series: TiltSeries) -> Path:
    """Write a tomogram's series as ``tomograms.star`` and ``NAME_tilts.star``; returns the first.

    The angles are those of RELION 5: the specimen is rotated about x, then y, then z of the image. The dose before
    each exposure is that of its middle less half the dose of an image.

    Raises
    ------
    InputError
        If the files cannot be written.
    """
    images = folder / f"{tomogram.name}_tilts.star"
    write_star(images, {tomogram.name: _image_columns(series)}, version=_STAR_VERSION)
    path = folder / "tomograms.star"
    size = tomogram.extent.size
    optics = series.optics
    row = {
        "rlnTomoName": tomogram.name,
        "rlnTomoTiltSeriesStarFile": images.name,
        "rlnVoltage": f"{optics.voltage_kv:.6f}",
        "rlnSphericalAberration": f"{optics.spherical_aberration_mm:.6f}",
        "rlnAmplitudeContrast": f"{optics.amplitude_contrast:.6f}",
        "rlnTomoTiltSeriesPixelSize": f"{tomogram.voxel_size:.6f}",
        "rlnTomoHand": f"{_HAND:.6f}",
        "rlnOpticsGroupName": "optics1",
        "rlnTomoTomogramBinning": f"{1:.6f}",
        "rlnTomoSizeX": str(size[0]),
        "rlnTomoSizeY": str(size[1]),
        "rlnTomoSizeZ": str(size[2]),
    }
    write_star(path, {"global": {name: (value,) for name, value in row.items()}}, version=_STAR_VERSION)
    return path


def _image_columns(series: TiltSeries) -> dict[str, tuple[str, ...]]:
    count = len(series)
    about_x, about_y, about_z = Rotation.from_matrix(series.axes).as_euler("xyz", degrees=True).T
    columns = {
        "rlnTomoNominalStageTiltAngle": series.tilt_deg,
        "rlnTomoXTilt": about_x,
        "rlnTomoYTilt": about_y,
        "rlnTomoZRot": about_z,
        "rlnTomoXShiftAngst": np.zeros(count),
        "rlnTomoYShiftAngst": np.zeros(count),
    }
    if series.defocus_um is not None:
        columns["rlnDefocusU"], columns["rlnDefocusV"] = 1e4 * series.defocus_um.T
        columns["rlnDefocusAngle"] = np.zeros(count) if series.astigmatism_deg is None else series.astigmatism_deg
        columns["rlnPhaseShift"] = np.full(count, series.optics.phase_shift_deg)
    if series.dose is not None:
        columns["rlnMicrographPreExposure"] = series.dose - series.dose.min()
    return {name: tuple(decimals(column)) for name, column in columns.items()}


# --- Warp, WarpTools and M: a tilt series' .xml, and the .tomostar that it begins from --------------------------------
#
# An image's axes are Euler(0, tilt + LevelAngleY, -AxisAngle) Rx(LevelAngleX) in Warp's sense of Euler: a tilt by θ has
# its beam along (sin θ, 0, cos θ). Defocus is a grid over the images, in µm, which may also vary over each image.

_WARP_OPTICS = {"voltage_kv": "Voltage", "spherical_aberration_mm": "Cs", "amplitude_contrast": "Amplitude"}


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
    angles = _warp_numbers(root, "Angles", path)
    if root.tag != "TiltSeries" or angles is None:
        raise InputError(f"{path} is no tilt series of Warp; expected <TiltSeries> with <Angles>.")
    used = np.array([text.strip().lower() != "false" for text in (root.findtext("UseTilt") or "").split()], bool)
    used = used if len(used) == len(angles) else np.ones(len(angles), bool)
    zero = np.zeros(len(angles))
    axis = _warp_numbers(root, "AxisAngle", path)
    level_x, level_y = (float(root.get(name, "0")) for name in ("LevelAngleX", "LevelAngleY"))
    defocus, phase = _warp_grid(root, "GridCTF", len(angles)), _warp_parameter(root, "PhaseShift")
    pair, astigmatism = None, None
    if defocus is not None:
        delta, direction = (
            _warp_grid(root, name, len(angles)) for name in ("GridCTFDefocusDelta", "GridCTFDefocusAngle")
        )
        half = zero if delta is None else delta / 2
        pair = np.stack([defocus + half, defocus - half], axis=1)[used]
        astigmatism = None if direction is None else direction[used]
    dose = _warp_numbers(root, "Dose", path)
    given = {field: _warp_parameter(root, name) for field, name in _WARP_OPTICS.items()}
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


def _warp_numbers(root: ElementTree.Element, name: str, path: Path) -> FloatArray | None:
    text = root.findtext(name)
    if text is None or not text.split():
        return None
    try:
        return np.array([float(value) for value in text.split()])
    except ValueError as error:
        raise InputError(f"{path}: <{name}> holds what is no number ({error}). Write it again.") from error


def _warp_parameter(root: ElementTree.Element, name: str) -> float | None:
    """A parameter of ``<CTF>``, an attribute of it or a ``<Param>`` in it."""
    found = root.find("CTF")
    if found is None:
        return None
    inner = next((item for item in found.iter("Param") if item.get("Name") == name), None)
    text = found.get(name) if inner is None else inner.get("Value")
    return None if text is None else float(text)


def _warp_grid(root: ElementTree.Element, name: str, count: int) -> FloatArray | None:
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


# --- IMOD (.tlt, .rawtlt, .xtilt, .xf, .defocus) and AreTomo (.aln) ---------------------------------------------------
#
# Both reconstruct with the tilt axis along y, whatever its direction in the images. Which sign of z a tilt has depends
# on how the volume was turned afterwards; `tilt_geometry` compares both with the power of the tomogram.

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
    table = _number_table(angles_file)
    tilts, count = table[:, 0], len(table)
    leaning = next((item for item in _beside(path, ".xtilt") if item.is_file()), None)
    level = 0.0 if leaning is None else float(np.mean(_number_table(leaning)[:, 0]))
    defocus_file = next((item for item in _beside(path, ".defocus") if item.is_file()), None)
    defocus, astigmatism, phase = (None, None, 0.0) if defocus_file is None else _imod_defocus(defocus_file, count)
    turned = next((item for item in _beside(path, ".xf") if item.is_file()), None)
    if astigmatism is not None and turned is not None:
        astigmatism = astigmatism + _imod_rotation_deg(turned, count)
    dose = _aretomo_dose(table) if table.shape[1] >= 3 else None
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


def _number_table(path: Path) -> FloatArray:
    """Table of numbers, (rows, columns); as many columns as the shortest row has."""
    lines = [line.replace(",", " ").split() for line in path.read_text(errors="replace").splitlines() if line.split()]
    try:
        width = min(len(line) for line in lines)
        return np.array([[float(value) for value in line[:width]] for line in lines])
    except ValueError as error:
        raise InputError(f"{path} is no table of numbers ({error}). Write it again.") from error


def _aretomo_dose(table: FloatArray) -> FloatArray:
    """Dose by the middle of each exposure, of rows (tilt, order of acquisition, dose) as AreTomo writes them."""
    order = np.argsort(table[:, 1], kind="stable")
    own = table[order, 2]
    dose = np.empty(len(table))
    dose[order] = np.cumsum(own) - own / 2
    return dose


def _imod_defocus(path: Path, count: int) -> tuple[FloatArray, FloatArray | None, float]:
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


def _imod_rotation_deg(path: Path, count: int) -> FloatArray:
    """Rotation of each image by its alignment, (T,) degrees, counter-clockwise."""
    table = _number_table(path)
    if table.shape != (count, _TRANSFORM_COLUMNS):
        raise InputError(
            f"{path} has {len(table)} rows of {table.shape[1]} numbers; expected six for each of {count} images."
        )
    rotation: FloatArray = np.degrees(np.arctan2(table[:, 2], table[:, 0]))
    return rotation


# --- readers ----------------------------------------------------------------------------------------------------------

_READERS: dict[str, Callable[[Path, str], TiltSeries]] = {
    ".star": read_relion_tilts,
    ".xml": read_warp_xml,
    ".tomostar": read_tomostar,
    ".aln": read_aretomo,
    ".tlt": read_imod,
    ".rawtlt": read_imod,
    ".xtilt": read_imod,
    ".xf": read_imod,
    ".defocus": read_imod,
}
"""Readers by suffix; each is given the path and the tomogram's name."""

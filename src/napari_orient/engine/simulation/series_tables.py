"""Tilt series of simulated tomograms as RELION 5 writes them: ``tomograms.star`` and a table of images for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.io.star import decimals, write_star
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.particles import Tomogram

_VERSION = "50001"
"""Of RELION's STAR files, as RELION 5 writes it."""
_HAND = 1
"""Sign by which defocus grows with the height along the beam."""


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
    write_star(images, {tomogram.name: _images(series)}, version=_VERSION)
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
    write_star(path, {"global": {name: (value,) for name, value in row.items()}}, version=_VERSION)
    return path


def _images(series: TiltSeries) -> dict[str, tuple[str, ...]]:
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

"""Tilt series: where each image was taken from, its defocus and its dose; the contrast transfer function, dose damping.

The transform of a tilt image is a plane of the tomogram's Fourier space (projection-slice theorem), multiplied by the
contrast transfer function of the microscope at that defocus and by the damping of the dose received so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.rotations import FloatArray

_DOSE_A = 0.245
"""e/Å²: the critical dose at 300 kV is a·s^b + c, s in 1/Å (rotavirus; Grant & Grigorieff 2015, eLife 4:e06980)."""
_DOSE_B = -1.665
"""Exponent b of the critical dose; see a."""
_DOSE_C = 2.81
"""e/Å², c of the critical dose; see a."""
_LEAST_FREQUENCY = 1e-3
"""Cycles/Å (1000 Å), below which the critical dose no longer grows."""
_PLANCK_A = 12.2643
"""Wavelength in Å of an electron of 1 V, without relativity: h / sqrt(2 m e)."""
_RELATIVITY_V = 0.97845e-6
"""1/V: e / (2 m c²), by which relativity shortens the wavelength."""


@dataclass(frozen=True)
class Optics:
    """A microscope: acceleration voltage, spherical aberration, amplitude contrast (0 to 1), phase plate's shift."""

    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    phase_shift_deg: float = 0.0

    @property
    def wavelength(self) -> float:
        """Wavelength of the electrons, Å."""
        volt = 1000 * self.voltage_kv
        return float(_PLANCK_A / np.sqrt(volt * (1 + _RELATIVITY_V * volt)))


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """The T images of a tilt series; the order is that of the file they were read from.

    Parameters
    ----------
    axes : (T, 3, 3) rotations tomogram -> image: rows are the image's x and y and the beam, in the tomogram's xyz.
    dose : (T,) e/Å² that the sample had received by the middle of each exposure; None where unknown.
    defocus_um : (T, 2) underfocus in µm along the long and the short axis of astigmatism; None where unknown.
    astigmatism_deg : (T,) angle of the first of these axes from the image's x; None is 0.
    optics : the microscope.

    Raises
    ------
    InputError
        If the lengths differ.
    """

    axes: FloatArray
    dose: FloatArray | None = None
    defocus_um: FloatArray | None = None
    astigmatism_deg: FloatArray | None = None
    optics: Optics = field(default_factory=Optics)

    def __post_init__(self) -> None:
        """Check that all columns are as long as the axes."""
        for name in ("dose", "defocus_um", "astigmatism_deg"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.axes):
                raise InputError(f"the tilt series has {len(self.axes)} images, but {len(column)} values of {name}.")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.axes)

    def take(self, index: int) -> Self:
        """The series of one of its images."""
        rows = slice(index, index + 1)
        dose, defocus, angle = self.dose, self.defocus_um, self.astigmatism_deg
        return replace(
            self,
            axes=self.axes[rows],
            dose=None if dose is None else dose[rows],
            defocus_um=None if defocus is None else defocus[rows],
            astigmatism_deg=None if angle is None else angle[rows],
        )

    @property
    def mean_defocus_um(self) -> float:
        """Mean defocus of all images, µm; 0 where it is unknown."""
        return 0.0 if self.defocus_um is None else float(np.mean(self.defocus_um))

    @property
    def has_transfer(self) -> bool:
        """Whether defocus or dose is known."""
        return self.defocus_um is not None or self.dose is not None

    @property
    def tilt_deg(self) -> FloatArray:
        """Tilt of each image about the axis that all are tilted about, (T,) degrees; see `axis`."""
        across = np.cross(self.axis, (0.0, 0.0, 1.0))
        return np.asarray(np.degrees(np.arctan2(-self.axes[:, 2] @ across, self.axes[:, 2, 2])))

    @property
    def axis(self) -> FloatArray:
        """Direction of the tilt axis in the tomogram's plane, (3,), y >= 0: the beams are perpendicular to it."""
        _, _, across = np.linalg.svd(self.axes[:, 2, :2])
        axis = np.array([-across[0, 1], across[0, 0], 0.0])
        return axis * (1 if axis[1] > 0 or (axis[1] == 0 and axis[0] > 0) else -1)

    @property
    def stage_frame(self) -> FloatArray:
        """The frame of the stage, (3, 3): rows are across the tilt axis, along it (y >= 0) and the beam at no tilt.

        The tilt axis is the direction that all beams are most nearly perpendicular to; it may leave the tomogram's
        plane, by the level angle.
        """
        beams = self.axes[:, 2]
        along = np.linalg.eigh(beams.T @ beams)[1][:, 0]
        along = along * (1 if along[1] > 0 or (along[1] == 0 and along[0] > 0) else -1)
        beam = np.array([0.0, 0.0, 1.0]) - along[2] * along
        beam = beam / np.linalg.norm(beam)
        return np.stack([np.cross(along, beam), along, beam])

    @classmethod
    def of_angles(
        cls, tilt_deg: FloatArray, *, axis_deg: float = 0.0, level_deg: float = 0.0, **columns: object
    ) -> Self:
        """The series of a specimen tilted by these angles, (T,) degrees.

        Parameters
        ----------
        axis_deg : from the tomogram's y to the tilt axis, counter-clockwise seen from +z.
        level_deg : by which the specimen leans along the tilt axis: the axis is that far out of the tomogram's plane.
        columns : the other fields.
        """
        tilt, zero, one = np.radians(np.asarray(tilt_deg, float)), np.zeros(len(tilt_deg)), np.ones(len(tilt_deg))
        sine, cosine = np.sin(tilt), np.cos(tilt)
        tilted = np.array([[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]).transpose(2, 0, 1)
        return cls(tilted @ _about("x", -level_deg) @ _about("z", -axis_deg), **columns)  # type: ignore[arg-type]

    def with_defocus(self, defocus_um: float) -> Self:
        """The same series with one defocus for all images, without astigmatism."""
        return replace(self, defocus_um=np.full((len(self), 2), defocus_um), astigmatism_deg=None)

    def with_negated_tilts(self) -> Self:
        """The same series with every tilt of the other sign: the tomogram mirrored along the beam."""
        flip = np.diag([1.0, 1.0, -1.0])
        return replace(self, axes=flip @ self.axes @ flip)

    def contrast_transfer(self, frequency: FloatArray) -> FloatArray:
        """Contrast transfer (T, M) of each image at its own frequencies (T, M, 2), cycles/Å; 1 without defocus."""
        if self.defocus_um is None:
            return np.ones(frequency.shape[:-1])
        angle = np.zeros(len(self)) if self.astigmatism_deg is None else self.astigmatism_deg
        return contrast_transfer(frequency, self.defocus_um[:, None], angle[:, None], optics=self.optics)

    def dose_damping(self, frequency: FloatArray) -> FloatArray:
        """Amplitude left by radiation damage in each image at frequencies (T, M), cycles/Å; 1 without dose."""
        return np.ones(frequency.shape) if self.dose is None else dose_damping(frequency, self.dose[:, None])


def contrast_transfer(
    frequency: FloatArray, defocus_um: FloatArray, astigmatism_deg: FloatArray | float = 0.0, *, optics: Optics
) -> FloatArray:
    """Contrast transfer at frequencies (..., 2) xy of an image, cycles/Å: sin(χ + φ + asin A), (...).

    χ = π λ Δz s² - π/2 Cs λ³ s⁴ with Δz > 0 for underfocus, so that it is positive at the lowest frequencies, whatever
    contrast the tomogram is kept in.

    Parameters
    ----------
    defocus_um : (..., 2) underfocus in µm along the long and the short axis of astigmatism.
    astigmatism_deg : (...) angle of the first of them from the image's x.
    """
    square = (frequency**2).sum(-1)
    along = np.arctan2(frequency[..., 1], frequency[..., 0]) - np.radians(astigmatism_deg)
    first, second = 1e4 * defocus_um[..., 0], 1e4 * defocus_um[..., 1]
    defocus = (first + second + (first - second) * np.cos(2 * along)) / 2
    wavelength, aberration = optics.wavelength, 1e7 * optics.spherical_aberration_mm
    chi = np.pi * wavelength * square * (defocus - aberration * wavelength**2 * square / 2)
    return np.asarray(np.sin(chi + np.radians(optics.phase_shift_deg) + np.arcsin(optics.amplitude_contrast)))


def dose_damping(frequency: FloatArray, dose: FloatArray) -> FloatArray:
    """Amplitude left after a dose in e/Å² at frequencies in cycles/Å: exp(-dose / 2 critical dose), at 300 kV."""
    critical = _DOSE_A * np.maximum(frequency, _LEAST_FREQUENCY) ** _DOSE_B + _DOSE_C
    return np.asarray(np.exp(-dose / (2 * critical)))


def _about(axis: str, angle_deg: float) -> FloatArray:
    """The rotation by an angle about an axis, 3×3."""
    return np.asarray(Rotation.from_euler(axis, angle_deg, degrees=True).as_matrix())

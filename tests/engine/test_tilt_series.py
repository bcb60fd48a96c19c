"""The tilt series: its geometry, the contrast transfer function against values worked out by hand, dose damping."""

import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.tilt_series import Optics, TiltSeries, contrast_transfer, dose_damping

TILTS = np.arange(-60.0, 61.0, 3.0)


def test_the_wavelength_at_300_and_200_kv_is_the_tabulated_one():
    assert Optics(300).wavelength == pytest.approx(0.019687, abs=1e-6)
    assert Optics(200).wavelength == pytest.approx(0.025079, abs=1e-6)


def test_the_first_zero_at_3_5_um_lies_near_26_angstrom_and_the_lowest_frequencies_are_positive():
    frequency = np.linspace(1e-4, 0.045, 4000)
    transfer = contrast_transfer(
        np.stack([frequency, 0 * frequency], -1), np.array([3.5, 3.5]), optics=Optics(amplitude_contrast=0.0)
    )
    first = frequency[np.flatnonzero(transfer < 0)[0]]
    assert 1 / first == pytest.approx(26.2, abs=0.2)
    assert (transfer[frequency < first] > 0).all()


def test_astigmatism_is_defocus_along_its_first_axis_and_across():
    along, across = np.array([[0.02, 0.02], [0.02, -0.02]])
    both = np.array([3.0, 2.0])
    found = [contrast_transfer(at, both, 45.0, optics=Optics()) for at in (along, across)]
    alone = [contrast_transfer(along, np.array([one, one]), optics=Optics()) for one in both]
    assert np.allclose(found, alone)


def test_the_dose_that_halves_the_amplitude_is_the_critical_one_times_two_log_two():
    critical = 0.245 * 0.1**-1.665 + 2.81
    assert dose_damping(np.array(0.1), np.array(2 * critical * np.log(2))) == pytest.approx(0.5)


@pytest.mark.parametrize(("axis_deg", "level_deg"), [(0, 0), (11, 0), (-30, 4), (85, -3)])
def test_tilts_and_axis_are_found_again_in_the_matrices(axis_deg, level_deg):
    series = TiltSeries.of_angles(TILTS, axis_deg=axis_deg, level_deg=level_deg)
    assert np.allclose(np.linalg.det(series.axes), 1)
    assert np.degrees(np.arctan2(-series.axis[0], series.axis[1])) == pytest.approx(axis_deg, abs=0.5 + abs(level_deg))
    assert np.abs(series.tilt_deg - TILTS).max() < 0.5 + abs(level_deg)


def test_a_tilt_about_y_measures_the_plane_kz_is_tan_times_kx():
    series = TiltSeries.of_angles(np.array([40.0]))
    inside = np.array([1.0, 0.3, np.tan(np.radians(40.0))])
    assert series.axes[0, 2] @ inside == pytest.approx(0)


def test_columns_of_another_length_are_refused():
    with pytest.raises(InputError, match="3 images, but 2 values of dose"):
        TiltSeries.of_angles(np.array([-3.0, 0, 3]), dose=np.zeros(2))

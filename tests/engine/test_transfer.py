"""The transfer: its zeros, its signs, and which correction the particles show."""

import numpy as np
import pytest
import torch

from napari_orient.engine.model.forward import build_forward_model
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.model.wedge import NO_WEDGE, Wedge
from napari_orient.engine.parameters import CTFOptions
from napari_orient.engine.refinement.transfer_choice import (
    CentredPatches,
    candidate_transfers,
    choose_transfer,
    series_with_ctf,
)
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import load_template
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

SERIES = Wedge().as_series()
SPACING = 1 / 300
FREQUENCY = torch.linspace(0.002, 0.045, 400)[:, None] * torch.tensor([0.6, 0.8, 0.0])
FLAT = torch.ones(400)


def shape(correction, series=SERIES, noise=FLAT, **fields):
    return Transfer(correction, series, **fields).shape(FREQUENCY, noise, SPACING)


def test_an_uncorrected_ctf_changes_sign_where_its_zero_is():
    found = shape("none", SERIES.with_defocus(3.5))
    first = float(FREQUENCY[int((found < 0).nonzero()[0, 0])].norm())
    assert 1 / first == pytest.approx(26.5, abs=0.3)
    assert (found[FREQUENCY.norm(dim=1) < first] > 0).all()


def test_flipped_is_its_magnitude_and_premultiplied_its_square():
    series = SERIES.with_defocus(4.0)
    signed = shape("none", series)
    torch.testing.assert_close(shape("flipped", series), signed.abs(), atol=2e-2, rtol=0)
    torch.testing.assert_close(shape("premultiplied", series), signed.square(), atol=2e-2, rtol=0)


def test_without_defocus_and_dose_the_gain_has_no_shape():
    assert torch.equal(shape("none"), FLAT)
    assert torch.equal(shape("wiener", SERIES.with_defocus(3.0)), torch.ones(400))


def test_late_images_are_damped_where_their_planes_lie():
    dose = np.linspace(0, 120, len(SERIES))
    series = TiltSeries(SERIES.axes, dose=dose)
    early, late = (0.04 * torch.as_tensor(series.axes[number, :1], dtype=torch.float32) for number in (0, -1))
    damped = [float(Transfer("wiener", series).shape(at, torch.ones(1), SPACING)[0]) for at in (early, late)]
    assert damped[0] > 0.95
    assert damped[1] < 0.5


def test_a_gain_like_the_noise_power_is_read_off_it():
    noise = torch.linspace(1, 4, 400)
    torch.testing.assert_close(shape("premultiplied", noise=noise, noise_exponent=1.0), noise / 4)


# --- the choice -----------------------------------------------------------------------------------------------------


def patches_through(transfer, *, count, strength=0.3):
    """Particles in white noise, transferred, and the reference they are of; centred, whitened."""
    template = load_template("ribosome")
    reference = build_reference(template.density, template.voxel_size, resolution=24.0)
    model = build_forward_model(torch.ones(28, 28, 28), Wedge(), voxel_size=10.0, resolution=24.0, radius=120.0)
    frequency = model.frequency
    rotations = torch.as_tensor(random_rotations(count, np.random.default_rng(3)), dtype=torch.float32)
    shape = (
        torch.ones(len(frequency))
        if transfer is None
        else transfer.shape(frequency, torch.ones(len(frequency)), 1 / 280)
    )
    shape = shape * torch.exp(-1500 * frequency.square().sum(1))
    signal = reference.sample(frequency @ rotations) * shape[:, None]
    signal = signal / signal.square().mean().sqrt() * strength
    generator = torch.Generator().manual_seed(5)
    observed = (signal + torch.randn(signal.shape, generator=generator)).movedim(-1, 1)
    unit = model.with_unit_gain(Wedge())
    return CentredPatches(unit, observed, torch.ones(len(frequency))), reference


GEOMETRY = TiltGeometry(Wedge(), Wedge(), "test")


@pytest.mark.parametrize(
    ("true", "expected"),
    [
        (None, "wiener"),
        (Transfer("none", SERIES.with_defocus(3.0)), "none"),
        (Transfer("premultiplied", SERIES.with_defocus(3.0)), "premultiplied"),
    ],
)
def test_the_particles_show_how_the_tomogram_was_corrected(true, expected):
    patches, reference = patches_through(true, count=16, strength=0.6)
    found = choose_transfer(patches, reference, symmetry("C1"), candidate_transfers(GEOMETRY, CTFOptions()))
    assert found.correction == expected


def test_noise_alone_shows_nothing():
    patches, reference = patches_through(None, count=16, strength=0.0)
    candidates = candidate_transfers(GEOMETRY, CTFOptions())
    assert choose_transfer(patches, reference, symmetry("C1"), candidates) is candidates[0]


def test_options_leave_the_hypotheses_that_they_name():
    (smooth,) = candidate_transfers(GEOMETRY, CTFOptions.of(ctf_correction="wiener"))
    assert smooth.correction == "wiener"
    (only,) = candidate_transfers(GEOMETRY, CTFOptions.of(ctf_correction="flipped", defocus=2.5))
    assert only.words == "phases flipped, defocus 2.5 µm"
    known = candidate_transfers(GEOMETRY, CTFOptions.of(defocus=2.5))
    assert [item.correction for item in known] == ["wiener", "none", "flipped", "premultiplied"]
    # Without tilts there are no planes.
    assert [item.series for item in candidate_transfers(TiltGeometry(NO_WEDGE, None, ""), CTFOptions())] == [None]


def test_optics_given_replace_those_of_the_metadata():
    series = series_with_ctf(GEOMETRY, CTFOptions.of(voltage=200.0, spherical_aberration=2.0, amplitude_contrast=0.1))
    assert series.optics == Optics(200.0, 2.0, 0.1)


def test_a_guessed_defocus_gives_the_rise_to_the_first_maximum_and_no_sign():
    series = SERIES.with_defocus(3.0)
    found, whole = shape("premultiplied", series, rise_only=True), shape("premultiplied", series)
    length = FREQUENCY.norm(dim=1)
    low, high = length < 1 / 45, length > 1 / 33
    torch.testing.assert_close(found[low], whole[low], atol=0.05, rtol=0)
    assert torch.equal(found[high], torch.ones(int(high.sum())))
    assert (found.diff() >= 0).all()

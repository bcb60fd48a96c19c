"""Shifts of the tilt images, told by how the particles show."""

import pytest
import torch

from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.tilts import shifted_gain, tilt_images, without_translation
from napari_orient.engine.model.wedge import Wedge

Told = tuple[ForwardModel, torch.Tensor, torch.Tensor, torch.Tensor]


def told(wedge: Wedge, *, worth: float) -> Told:
    """A tomogram whose images are shifted by about 8 Å, and what particles worth so much tell: gain, match, power."""
    generator = torch.Generator().manual_seed(0)
    model = build_forward_model(torch.ones(28, 28, 28), wedge, voxel_size=10.0, resolution=40.0, radius=90.0)
    images = tilt_images(model, wedge.as_series())
    shifts = without_translation(8 * torch.randn(2, images.share.shape[1], generator=generator), wedge.as_series())
    gain = images.contributions(shifts).sum(1)
    power = worth * torch.exp(-2000 * model.frequency.square().sum(1))
    noise = torch.view_as_complex(torch.randn(len(power), 2, generator=generator))
    return model, gain, power * gain + power.sqrt() * noise, power


def distance(one: torch.Tensor, two: torch.Tensor, power: torch.Tensor) -> float:
    return float((power * (one - two).abs().square()).sum() / power.sum()) ** 0.5


@pytest.mark.parametrize("axis", [0.0, 90.0, 11.0])
def test_shifts_of_the_tilt_images_are_told_by_the_particles(axis: float) -> None:
    wedge = Wedge(axis)
    model, gain, match, power = told(wedge, worth=30.0)
    found = shifted_gain(model, wedge.as_series(), match, power)
    assert distance(torch.ones_like(gain), gain, power) > 0.3
    assert distance(found, gain, power) < 0.13
    # Coefficient by coefficient the noise would leave more.
    assert distance(match / power, gain, power) > 2 * distance(found, gain, power)


def test_what_moves_the_whole_tomogram_is_no_shift_of_its_images() -> None:
    series = Wedge(11, -50, 60, 4).as_series()
    axes = torch.as_tensor(series.axes, dtype=torch.float32)
    moved = (axes[:, :2] @ torch.tensor([5.0, -3.0, 8.0])).T
    assert float(without_translation(moved, series).abs().max()) < 1e-4
    shifts = torch.randn(2, len(series), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(without_translation(shifts + moved, series), without_translation(shifts, series))


def test_what_moves_the_whole_tomogram_is_taken_out_to_the_bit_wherever_memory_lies() -> None:
    series = Wedge(11, -50, 60, 4).as_series()
    shifts = torch.randn(2, len(series), generator=torch.Generator().manual_seed(2))
    first = without_translation(shifts, series)
    for size in range(1, 3000, 50):
        held = [bytearray(size * (k + 1)) for k in range(20)]
        assert torch.equal(without_translation(shifts, series), first), len(held)


def test_a_series_tilted_otherwise_than_taken_serves_nearly_as_well() -> None:
    model, gain, match, power = told(Wedge(), worth=30.0)
    found = shifted_gain(model, Wedge(0, -64, 61).as_series(), match, power)
    assert distance(found, gain, power) < 0.5 * distance(torch.ones_like(gain), gain, power)


def test_particles_that_tell_nothing_leave_the_model_as_it_was() -> None:
    wedge = Wedge()
    model, _, match, power = told(wedge, worth=1e-5)
    found = shifted_gain(model, wedge.as_series(), match, power)
    assert float((found - 1).abs().max()) < 0.1

"""The search by matched filters: the rotated reference it is made of, and the positions and rotations that it finds."""

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.search import MatchedFilterSearch, asymmetric_rotations, build_search
from napari_orient.engine.model.forward import build_forward_model, cropped
from napari_orient.engine.model.gain import initial_forward_model
from napari_orient.engine.model.grid import half_sphere
from napari_orient.engine.model.noise import mean_power, smooth_spectrum, window
from napari_orient.engine.model.reference import Reference, build_reference, inverted
from napari_orient.engine.model.wedge import NO_WEDGE, Wedge
from napari_orient.engine.parameters import SearchOptions
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import angle_deg, even_rotations, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

OPTIONS = SearchOptions(rotations=1500, dimensions=200, search_resolution=40.0, max_shift=20.0, coarse_rotations=400)


@pytest.fixture(scope="module")
def world() -> tuple[MatchedFilterSearch, torch.Tensor, np.ndarray, np.ndarray]:
    """A search for a molecule, patches whose picks are off by up to two voxels, true rotations, true offsets."""
    shape = molecule()
    seen, picks, places = tomogram(shape, noise=0.7, off=20.0)
    reference = build_reference(shape.density(24), VOXEL_SIZE, resolution=25.0)
    patches = torch.from_numpy(cut_patches(seen, picks.positions, side=28))
    model = initial_forward_model(patches, reference, Wedge(), voxel_size=VOXEL_SIZE, resolution=30.0)
    search = run(build_search(reference, model, symmetry("C1"), OPTIONS))
    return search, patches, picks.required_rotations(), places - picks.positions


def unrotated(reference: Reference, frequency: torch.Tensor) -> torch.Tensor:
    """Transform and derivative by rotation as they lie, (4, 2, M)."""
    return reference.rotated(frequency, torch.eye(3)[None], weight=torch.ones(len(frequency)))[0]


def test_the_reference_is_the_fourier_transform_of_its_map_at_any_frequency() -> None:
    density = molecule().density(24)
    reference = build_reference(density, VOXEL_SIZE, resolution=25.0, radius=110.0)
    frequency = np.random.default_rng(0).uniform(-0.02, 0.02, size=(50, 3))
    line = (np.arange(24) - 11.5) * VOXEL_SIZE
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    wave = np.exp(-2j * np.pi * np.tensordot(frequency, np.stack([x, y, z]), axes=1))
    direct = (wave * density).sum(axis=(1, 2, 3))
    found = reference.sample(torch.as_tensor(frequency, dtype=torch.float32)).numpy()
    assert np.abs(found[:, 0] + 1j * found[:, 1] - direct).max() < 0.01 * np.abs(direct).max()


def test_the_reference_s_derivative_is_the_slope_of_its_transform_as_it_rotates() -> None:
    reference = build_reference(molecule().density(24), VOXEL_SIZE, resolution=25.0)
    frequency = torch.as_tensor(np.random.default_rng(0).uniform(-0.018, 0.018, size=(200, 3)), dtype=torch.float32)
    derivative = unrotated(reference, frequency)[1:]
    # Wide enough for more than a node of the table, narrower than the transform's own detail.
    step = 0.15
    for axis in range(3):
        rotation = rotvec_to_matrix(step * torch.eye(3)[axis])
        forth, back = (reference.sample(frequency @ matrix).T for matrix in (rotation, rotation.T))
        slope = (forth - back) / (2 * step)
        assert float((slope - derivative[axis]).square().mean().sqrt()) < 0.08 * float(derivative.std())


def test_a_rotated_reference_is_what_is_sampled_in_its_frame() -> None:
    reference = build_reference(molecule().density(24), VOXEL_SIZE, resolution=25.0)
    frequency = 0.02 * (torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5)
    turns, weight = torch.as_tensor(even_rotations(3), dtype=torch.float32), torch.linspace(1, 2, 50)
    found = reference.rotated(frequency, turns, weight=weight)
    expected = torch.stack([unrotated(reference, frequency @ turn) for turn in turns]) * weight
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found[:, 0], reference.sample(frequency @ turns).mT * weight, rtol=1e-4, atol=1e-3)


def test_an_inverted_reference_is_the_reference_of_the_map_s_mirror_image() -> None:
    density = molecule().density(24)
    frequency = torch.as_tensor(np.random.default_rng(0).uniform(-0.02, 0.02, size=(50, 3)), dtype=torch.float32)
    one = unrotated(inverted(build_reference(density, VOXEL_SIZE, resolution=25.0)), frequency)
    two = unrotated(build_reference(density[::-1, ::-1, ::-1].copy(), VOXEL_SIZE, resolution=25.0), frequency)
    assert float((one - two).abs().max()) < 1e-3 * float(two.abs().max())


@pytest.mark.parametrize("name", ["C1", "C4", "D7", "O"])
def test_every_rotation_has_a_near_one_in_the_asymmetric_unit(name: str) -> None:
    group = symmetry(name)
    cells = asymmetric_rotations(1500, group)
    assert abs(len(cells) - 1500) < 60
    for rotation in random_rotations(60, np.random.default_rng(1)):
        nearest = symmetric_angle_deg(cells, np.broadcast_to(rotation, cells.shape), group).min()
        assert nearest < 24 / len(group) ** (1 / 3) + 1


def test_no_two_cells_are_copies_of_each_other() -> None:
    group = symmetry("D3")
    cells = asymmetric_rotations(400, group)
    for row in range(0, len(cells), 40):
        apart = symmetric_angle_deg(cells, np.broadcast_to(cells[row], cells.shape), group)
        apart[row] = 180
        assert apart.min() > 4


def test_a_half_sphere_holds_one_of_each_pair_of_friedel_mates() -> None:
    _, frequency = half_sphere(12, VOXEL_SIZE, 25.0)
    steps = {tuple(row) for row in np.rint(frequency.numpy() * 120).astype(int)}
    mates = {tuple(-np.array(row)) for row in steps}
    assert not steps & mates
    assert len(steps | mates) == sum(
        0 < x * x + y * y + z * z <= 4.8**2 for x in range(-5, 6) for y in range(-5, 6) for z in range(-5, 6)
    )


def test_the_position_search_finds_picks_that_are_off_by_two_voxels(world: tuple) -> None:
    search, patches, _, offsets = world
    centres = search.positions.find(patches, count=2).numpy() * VOXEL_SIZE
    error = np.linalg.norm(centres - offsets[:, None], axis=2).min(axis=1)
    assert np.median(error) < 10
    assert error.max() < 22


def test_positions_preselected_hold_the_best_of_all(world: tuple) -> None:
    search, patches, _, _ = world
    quick, thorough = (search.positions.find(patches, count=count)[:, 0] for count in (1, 8))
    assert torch.equal(quick, thorough)


def test_the_search_finds_the_cell_of_every_particle(world: tuple) -> None:
    search, patches, rotations, offsets = world
    voxels = torch.as_tensor(np.rint(offsets / VOXEL_SIZE), dtype=torch.float32)
    found, gain = search.best_rotations(search.model.observe(patches, voxels), count=3)
    error = angle_deg(found.double().numpy(), rotations[:, None])
    assert error[:, 0].max() < 30
    assert np.median(error[:, 0]) < 14
    assert (gain[:, :-1] >= gain[:, 1:]).all()


def test_the_best_rotations_lie_well_apart(world: tuple) -> None:
    search, patches, _, _ = world
    rotations = search.best_rotations(search.model.observe(patches), count=3)[0].double().numpy()
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert angle_deg(rotations[:, first], rotations[:, second]).min() > 20


def test_compressed_scores_are_those_of_the_whole_filters(world: tuple) -> None:
    search, patches, _, _ = world
    observed, some = search.model.observe(patches[:4]), search.filters.rotations[::97]
    values = search.reference.sample(search.model.frequency @ some).movedim(-1, 1) * search.model.whitened_gain
    whole = observed.flatten(1) @ (values.flatten(1) / values.flatten(1).norm(dim=1, keepdim=True)).T
    found = search.filters.scores(observed)[:, ::97]
    assert float((found - whole).abs().max()) < 0.1 * float(whole.abs().max())


def test_the_search_says_when_the_patches_hold_too_little(world: tuple) -> None:
    search, _, _, _ = world
    with pytest.raises(InputError, match=r"coefficients of the patch serve a search at 150 Å"):
        run(build_search(search.reference, search.model, symmetry("C1"), SearchOptions(search_resolution=150.0)))


def test_an_inverted_search_is_one_built_for_the_mirror_image(world: tuple) -> None:
    search, patches, _, _ = world
    built = run(build_search(inverted(search.reference), search.model, symmetry("C1"), OPTIONS))
    quick = search.inverted()
    for one, two in zip(
        built.positions.candidates(patches, count=1), quick.positions.candidates(patches, count=1), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0.02, atol=0.02)
    observed = search.model.observe(patches)
    one, two = (each.best_rotations(observed, count=1)[1] for each in (built, quick))
    torch.testing.assert_close(one, two, rtol=0.01, atol=0.05)


def test_the_noise_spectrum_of_coloured_noise_is_its_colour() -> None:
    generator = torch.Generator().manual_seed(0)
    k = torch.fft.fftfreq(28)
    radius = (k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2).sqrt()
    colour = 0.2 + radius
    white = torch.randn(40, 28, 28, 28, generator=generator)
    noise = torch.fft.ifftn(torch.fft.fftn(white, dim=(1, 2, 3)) * colour, dim=(1, 2, 3)).real
    power = mean_power(noise, window(28, VOXEL_SIZE, 90.0))
    found = smooth_spectrum(power, NO_WEDGE, VOXEL_SIZE)
    inside = (radius > 0.1) & (radius < 0.45)
    assert float((found / colour**2)[inside].sub(1).abs().max()) < 0.2


def test_cropping_brings_the_voxel_asked_for_to_the_centre() -> None:
    patch = torch.arange(512.0).reshape(1, 8, 8, 8)
    near, far = (cropped(patch, 4, voxels=torch.tensor([move])) for move in ([2.0, 1.0, -1.0], [3.0, 0.0, 0.0]))
    assert float(near[0, 2, 2, 2]) == float(patch[0, 3, 5, 6])
    assert torch.equal(near, patch[:, 1:5, 3:7, 4:8])
    assert torch.equal(far[..., :3], patch[:, 2:6, 2:6, 5:8])
    assert float(far[..., 3].abs().max()) == 0


def test_observed_coefficients_are_those_of_the_whole_transform() -> None:
    model = build_forward_model(torch.ones(12, 12, 12), Wedge(), voxel_size=VOXEL_SIZE, resolution=25.0, radius=30.0)
    patch = torch.randn(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    whole = torch.fft.fftn(torch.fft.ifftshift(patch * model.window, dim=(1, 2, 3)), dim=(1, 2, 3))
    x, y, z = model.indices.unbind(1)
    found = torch.view_as_complex(model.observe(patch).movedim(1, -1).contiguous())
    torch.testing.assert_close(found, whole[:, z, y, x] * model.whitening, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [(200.0, -60.0, 60.0), (0.0, 60.0, -60.0), (0.0, -100.0, 60.0), (0, -60, 60, 50.0)])
def test_an_impossible_wedge_is_refused(given: tuple[str, float, float]) -> None:
    with pytest.raises(InputError):
        Wedge(*given)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 4)), np.ones((4, 5, 4)), np.full((4, 4, 4), np.nan)])
def test_a_map_that_is_flat_or_no_cube_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        build_reference(bad, VOXEL_SIZE, resolution=25.0)


def test_a_phantom_of_one_blob_is_where_it_was_put() -> None:
    density = Molecule(np.array([[20.0, -10.0, 30.0]]), np.ones(1)).density(21)
    z, y, x = np.unravel_index(density.argmax(), density.shape)
    assert ((np.array([x, y, z]) - 10) * VOXEL_SIZE == [20, -10, 30]).all()

"""Discovery: structure and poses from picks alone, and an honest verdict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, Molecule, molecule, ring_halves, tomogram
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from streams import followed

from napari_orient.engine.discovery.annealing import (
    average_maps,
    centred_on_mean,
    inlier_probabilities,
    occupied_probabilities,
)
from napari_orient.engine.discovery.class_symmetry import ROUND, PosedClass, SymmetrySearch, candidate_groups
from napari_orient.engine.discovery.discover import DiscoveryRun, discover
from napari_orient.engine.discovery.filled_density import FilledDensity, as_measured, fill_outliers
from napari_orient.engine.discovery.half_maps import average_in_halves, with_map_errors
from napari_orient.engine.discovery.held_out import (
    ClassComparison,
    LikelihoodGain,
    class_count_words,
    search_log_likelihoods,
)
from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, discovery_provenance
from napari_orient.engine.discovery.search import Assignment, align_map, global_rotation
from napari_orient.engine.discovery.spectra import diameter_warning, estimate_diameter, observe_patches
from napari_orient.engine.discovery.structures import hand_note, with_azimuth_errors
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE, PoseEquivalence, Verdict
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import ERROR_IF_RIGHT, OUTLIER
from napari_orient.engine.model.map_symmetry import search_symmetry
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg, symmetry

QUICK = DiscoveryOptions.of(diameter=150.0, rounds=14, search=900, starts=2, passes=1, max_shift=10.0, device="cpu")


@pytest.fixture(scope="module")
def seen() -> tuple[Tomogram, Particles]:
    """A tomogram of 50 molecules, picks off by up to 8 Å with their true rotations."""
    volume, picks, _ = tomogram(molecule(), noise=0.5, off=8.0, count=(2, 5, 5))
    return volume, picks


@pytest.fixture(scope="module")
def rounds_and_answer(seen: tuple[Tomogram, Particles]) -> tuple[list[DiscoveryStep], Discovery]:
    return followed(discover([seen], QUICK))


def test_most_particles_are_turned_right_up_to_one_common_rotation(seen: tuple, rounds_and_answer: tuple) -> None:
    found, truth = rounds_and_answer[1].particles.required_rotations(), seen[1].required_rotations()
    error = angle_deg(found @ global_rotation(truth, found), truth)
    assert (error < 20).mean() > 0.9
    assert np.median(error) < 5


def observed(volume: Tomogram, picks: Particles) -> tuple[torch.Tensor, list[DiscoveryStep]]:
    """Whitened coefficients of detail between 60 and 27 Å that a search works on, and the steps that led to them."""
    steps, level = followed(DiscoveryRun.of([(volume, picks)], QUICK).levelled())
    spectra = run(
        observe_patches([(item, at.positions) for item, at in level.picks], QUICK, device=torch.device("cpu"))
    )
    length = spectra.frequency.norm(dim=1)
    used = (spectra.power[0] > 0.01 * spectra.power.max()) & (length > 1 / 60) & (length < 1 / 27)
    return torch.where(used, spectra.values / spectra.power.sqrt(), 0), steps


def test_a_smoothed_tomogram_is_searched_as_it_was_before_and_others_are_left_as_they_are(seen: tuple) -> None:
    volume, picks = seen
    assert run(DiscoveryRun.of([seen], QUICK).levelled()).picks[0][0] is volume
    smooth = replace(volume, density=gaussian_filter(volume.density, 1.0))
    (before, _), (after, steps) = observed(volume, picks), observed(smooth, picks)
    agreement = float((before * after.conj()).sum().real / (before.norm() * after.norm()))
    assert agreement > 0.95
    assert "phantom: smooth" in steps[-1].notes[0].text


def test_a_tomogram_that_is_flat_round_the_picks_is_refused(seen: tuple) -> None:
    flat = Tomogram(np.full_like(seen[0].density, 3.0), VOXEL_SIZE, "masked")
    with pytest.raises(InputError, match="masked is flat"):
        run(discover([(flat, seen[1])], QUICK))


def test_maps_are_laid_over_each_other_between_the_rotations_that_are_tried() -> None:
    rotations = random_rotations(3, np.random.default_rng(4))
    for rotation in rotations:
        rotated = molecule().turned(rotation).density(28)
        found, origin = align_map(
            rotated, molecule().density(28), voxel_size=VOXEL_SIZE, target_voxel_size=VOXEL_SIZE, radius=75.0
        )
        assert float(angle_deg(found, rotation)) < 0.3
        assert np.abs(origin).max() < 0.3


def with_beads(seen: tuple[Tomogram, Particles], places: np.ndarray) -> Tomogram:
    """The tomogram with a bead, dark as gold is, about each place (M, 3) in Å."""
    volume = seen[0]
    grid = np.stack(np.meshgrid(*map(np.arange, volume.density.shape), indexing="ij"), axis=-1)
    near = np.min([np.linalg.norm(grid * VOXEL_SIZE - place[::-1], axis=-1) for place in places], axis=0) < 35
    density = np.asarray(volume.density, np.float32)
    return replace(volume, density=np.where(near, density.mean() - 40 * density.std(), density).astype(np.float32))


def test_gold_beside_picks_is_filled_and_counts_no_more_than_other_surroundings(seen: tuple) -> None:
    rows = np.arange(0, len(seen[1]), 5)
    golden = with_beads(seen, seen[1].positions[rows] + [60.0, 60.0, 0.0])
    ((filled, picks),) = run(fill_outliers([(golden, seen[1])], QUICK))
    assert isinstance(filled.density, FilledDensity)
    assert as_measured(filled) is not filled
    assert np.asarray(as_measured(filled).density).min() < -30 * np.std(seen[0].density)
    whole = np.asarray(filled.density)
    far, usual = np.abs(whole - whole.mean()), np.abs(seen[0].density - np.mean(seen[0].density)).max()
    assert far.max() < 2.5 * usual
    assert (far > 1.5 * usual).sum() < 20
    np.testing.assert_array_equal(filled.density[3:17, -5, ::2], whole[3:17, -5, ::2])
    spectra = run(observe_patches([(filled, picks.positions)], QUICK, device=torch.device("cpu")))
    measured = spectra.power[0] > 1e-3 * spectra.power.max()
    power = (spectra.values.abs().square() / spectra.power.clamp_min(1e-9))[:, measured].mean(1)
    assert float(power.max() / power.min()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("agreement", "kept", "chance", "determined", "grade"),
    [
        (0.94, 1.0, 0.01, 1.0, STRUCTURE),
        (0.94, 0.25, 0.01, 1.0, STRUCTURE),
        (0.94, 1.0, 0.01, 0.4, DOUBTFUL),
        (0.45, 1.0, 0.01, 1.0, DOUBTFUL),
        (0.31, 1.0, 0.01, 0.3, NOTHING),
        (0.38, 0.37, 0.09, 0.9, NOTHING),
        (0.55, 1.0, 0.2, 0.9, NOTHING),
    ],
)
def test_a_verdict_asks_starts_to_agree_on_particles_on_picks_and_beyond_chance(
    agreement: float, kept: float, chance: float, determined: float, grade: str
) -> None:
    shares = {"agreement": agreement, "kept": kept, "chance_agreement": chance, "determined": determined}
    verdict = Verdict(**shares, resolution=40.0, resolution_strict=50.0, peak=4.0)
    assert verdict.grade == grade
    assert ("only" in verdict.words) == (kept < 0.5)


def test_the_verdict_is_structure_and_independent_starts_agree(rounds_and_answer: tuple) -> None:
    verdict = rounds_and_answer[1].structures[0].verdict
    assert verdict.grade == STRUCTURE
    assert verdict.agreement > 0.7 > verdict.chance_agreement
    assert "A structure was found" in verdict.words


def test_it_is_said_that_the_hand_is_that_of_the_tomogram(rounds_and_answer: tuple) -> None:
    answer = rounds_and_answer[1]
    assert "picks alone cannot check" in answer.structures[0].symmetry_notes[-1]
    assert "hand is that of the tomogram" in discovery_provenance(answer)
    assert "its own mirror image" in hand_note(0.9)


def test_the_map_lies_over_the_molecule_once_aligned(rounds_and_answer: tuple) -> None:
    found = rounds_and_answer[1].structures[0].average
    target = molecule().density(24)
    turn, origin = align_map(found.density, target, voxel_size=VOXEL_SIZE, target_voxel_size=VOXEL_SIZE, radius=75.0)
    assert np.isclose(np.linalg.det(turn), 1, atol=1e-4)
    assert likeness(found.density, target, turn, origin) > 0.8


def likeness(density: np.ndarray, target: np.ndarray, turn: np.ndarray, origin: np.ndarray) -> float:
    """Correlation of a map and a target that was turned over it."""
    found = density
    one, two = (build_reference(part, VOXEL_SIZE, resolution=40.0, radius=75.0) for part in (found, target))
    points = torch.as_tensor(np.random.default_rng(0).normal(size=(500, 3)) * 0.012, dtype=torch.float32)
    still = one.transform(points)
    turned = two.transform(points @ torch.as_tensor(turn, dtype=torch.float32))
    wave = -2 * torch.pi * (points @ torch.as_tensor(origin, dtype=torch.float32))
    turned = turned * torch.polar(torch.ones(500), wave)
    return float((still.conj() * turned).real.sum() / (still.norm() * turned.norm()))


def test_every_round_carries_maps_and_poses_and_the_peak_rises(rounds_and_answer: tuple) -> None:
    rounds = [item for item in rounds_and_answer[0] if item.start == 1]
    assert all(len(item.particles) == 50 and np.isfinite(item.maps[0]).all() for item in rounds)
    assert rounds[-1].peak > rounds[0].peak + 0.5
    assert [item.done for item in rounds_and_answer[0]] == sorted(item.done for item in rounds_and_answer[0])


def test_noise_alone_is_said_to_hold_nothing(seen: tuple) -> None:
    volume, picks = seen
    noise = np.random.default_rng(5).normal(size=volume.density.shape).astype(np.float32)
    few = DiscoveryOptions.of(**{**QUICK.to_record(), "rounds": 6, "search": 400})
    answer = run(discover([(Tomogram(noise, VOXEL_SIZE, "noise"), picks.take(slice(0, 20)))], few))
    assert answer.grade == NOTHING
    (found,) = answer.structures
    assert "no common structure" in found.verdict.words
    assert found.symmetry_notes == (), "noise has no symmetry, whatever its map looks like"
    assert len(found.group) == 1
    assert (np.asarray(answer.particles.expected_error_deg) > 90).all()


def test_auto_finds_one_kind_where_there_is_one_and_says_why(seen: tuple) -> None:
    volume, picks = seen
    quick = {**QUICK.to_record(), "classes": "auto", "rounds": 6, "search": 200, "max_shift": 0.0, "passes": 0}
    steps, answer = followed(discover([(volume, picks.take(slice(0, 20)))], DiscoveryOptions.of(**quick)))
    assert len(answer.structures) == 1
    assert answer.class_count_words.startswith("Kinds of particle: 1.")
    assert {item.class_count for item in steps} == {1, 2}
    assert [item.done for item in steps] == sorted(item.done for item in steps)
    assert all(item.done <= item.total for item in steps)


def true_assignment(picks: Particles, label: np.ndarray) -> Assignment:
    """The assignment of particles to their true poses and given classes."""
    rotations, nothing = torch.as_tensor(picks.required_rotations(), dtype=torch.float32), torch.zeros(len(picks))
    return Assignment(rotations, torch.zeros(len(picks), 3), torch.as_tensor(label), nothing + 1, nothing, nothing)


def compared_with_two(pairs: list[tuple[Tomogram, Particles]], label: np.ndarray) -> ClassComparison:
    options = DiscoveryOptions.of(**{**QUICK.to_record(), "search": 700})
    positions = [(volume, picks.positions) for volume, picks in pairs]
    spectra = run(observe_patches(positions, options, device=torch.device("cpu")))
    every = concatenate([picks for _, picks in pairs])
    one = run(search_log_likelihoods(spectra, true_assignment(every, np.zeros_like(label)), options))
    two = run(search_log_likelihoods(spectra, true_assignment(every, label), options.with_class_count(2)))
    return ClassComparison(2, LikelihoodGain.between(two, one))


def test_two_classes_explain_held_out_particles_only_where_there_are_two(seen: tuple) -> None:
    volume, picks = seen
    other, others, _ = tomogram(molecule(seed=5, radius=40.0), noise=0.5, count=(2, 3, 4), seed=3)
    pairs = [(volume, picks.take(slice(0, 24))), (Tomogram(other.density, VOXEL_SIZE, "other"), others)]
    apart = compared_with_two(pairs, np.repeat([0, 1], 24))
    assert apart.significant
    assert not compared_with_two([(volume, picks)], np.arange(50) % 2).significant
    assert not apart.accepted, "nothing is known yet of what two starts agree on"


def test_the_reasons_for_a_number_of_kinds_stand_in_a_line() -> None:
    gains = [
        ClassComparison(2, LikelihoodGain(20.0, 2.0), 0.9),
        ClassComparison(3, LikelihoodGain(9.0, 1.0), 0.1),
    ]
    assert class_count_words(gains) == (
        "Kinds of particle: 2. Log-likelihood of particles that the maps were not made of: better by 2 than by 1 "
        "(+20.0 ± 2.0); better by 3 than by 2 (+9.0 ± 1.0), but independent starts find other ones."
    )


def test_a_diameter_that_does_not_fit_is_warned_of(seen: tuple) -> None:
    volume, picks = seen
    places = [(volume, picks.positions)]
    assert 150 <= estimate_diameter(places, QUICK, dark=True) <= 210
    assert diameter_warning(places, QUICK, dark=True) == ""
    wide = DiscoveryOptions.of(**{**QUICK.to_record(), "diameter": 320.0})
    assert "look smaller than the diameter of 320 Å" in diameter_warning(places, wide, dark=True)
    noise = np.random.default_rng(1).normal(size=volume.density.shape).astype(np.float32)
    assert estimate_diameter([(Tomogram(noise, VOXEL_SIZE, "noise"), picks.positions)], QUICK, dark=True) is None


def test_symmetry_is_found_and_its_axis_turned_along_into_the_frame_of_a_map_that_is_given() -> None:
    rng = np.random.default_rng(2)
    group, turn = symmetry("C2"), random_rotations(1, rng)[0]
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, noise=0.4, off=8.0, count=(2, 4, 5))
    quicker = DiscoveryOptions.of(**{**QUICK.to_record(), "rounds": 10, "search": 500})
    stream = discover([(volume, picks)], quicker, align_to=(shape.turned(turn).density(24), VOXEL_SIZE))
    found = run(stream)
    assert found.structures[0].group.name.startswith("C2@")
    assert abs(found.structures[0].group.main_axis @ turn[:, 2]) > 0.99
    # The map given is the molecule turned: poses are in its frame, with no turn left to remove.
    error = symmetric_angle_deg(found.particles.required_rotations() @ turn, picks.required_rotations(), group)
    assert (error < 20).mean() > 0.85


def test_scores_of_two_distributions_separate_false_picks_and_those_of_one_none() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.normal(20, 3, 100), rng.normal(6, 1.2, 40)
    odds = inlier_probabilities(torch.as_tensor(np.concatenate([good, bad])))
    assert (odds[:100] > 0.5).float().mean() > 0.95
    assert (odds[100:] < 0.5).float().mean() > 0.95
    assert bool((inlier_probabilities(torch.as_tensor(good)) == 1).all())


def test_picks_where_nothing_is_are_separated_before_any_map_and_smaller_particles_are_not(seen: tuple) -> None:
    volume, picks = seen
    between = picks.positions[:25] + np.array([0.0, 80.0, 80.0])
    places = np.concatenate([picks.positions, between])
    spectra = run(observe_patches([(volume, places)], QUICK, device=torch.device("cpu")))
    found = occupied_probabilities(centred_on_mean(spectra, replace(QUICK, max_shift=0.0))[1]) > 0.5
    assert found[: len(picks)].float().mean() > 0.95
    assert found[len(picks) :].float().mean() < 0.2
    large_and_small = torch.cat([torch.linspace(9, 11, 40), torch.linspace(4, 5, 20)])
    assert (inlier_probabilities(large_and_small)[40:] < 1e-6).all()
    assert (occupied_probabilities(large_and_small) == 1).all()


def test_what_the_halves_of_a_map_do_not_share_is_taken_out_of_it(seen: tuple) -> None:
    volume, picks = seen
    spectra = run(observe_patches([(volume, picks.positions)], QUICK, device=torch.device("cpu")))
    nothing, rng = torch.zeros(len(picks)), np.random.default_rng(9)

    def fine(rotations: np.ndarray) -> float:
        """Power of a map's fine detail."""
        posed = torch.as_tensor(rotations, dtype=torch.float32)
        assigned = Assignment(
            posed, torch.zeros(len(picks), 3), nothing.long(), torch.ones(len(picks)), nothing, nothing
        )
        (density,) = average_maps(spectra, assigned, QUICK, rng=rng)
        return float(np.square(density - gaussian_filter(density, 2.0)).sum())

    assert fine(picks.required_rotations()) > 20 * fine(random_rotations(len(picks), rng))


@pytest.mark.parametrize("seed", range(5))
def test_forty_scores_of_one_kind_stay_one_and_a_few_high_ones_are_no_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert bool((inlier_probabilities(torch.as_tensor(rng.normal(20, 3, 40))) == 1).all())
    few_high = np.concatenate([rng.normal(7, 1, 55), rng.normal(14, 1, 5)])
    assert bool((inlier_probabilities(torch.as_tensor(few_high)) == 1).all())


def equivalence_of(density: np.ndarray) -> PoseEquivalence:
    reference = build_reference(density.astype(np.float32), VOXEL_SIZE, resolution=25.0, radius=75.0)
    return PoseEquivalence(reference, np.random.default_rng(0))


def test_copies_of_a_symmetric_pose_are_equivalent_and_poses_far_apart_are_not() -> None:
    rng, group = np.random.default_rng(0), symmetry("D3")
    equivalence, poses = (
        equivalence_of(molecule(group=group).density(24)),
        random_rotations(60, np.random.default_rng(0)),
    )
    turn, copies = random_rotations(1, rng)[0], group.matrices[rng.integers(len(group), size=60)]
    assert equivalence.agreement(poses, poses @ copies @ turn).all()
    assert equivalence.agreement(poses, random_rotations(60, rng)).mean() < 0.4
    assert equivalence.chance(60, np.random.default_rng(0)) < 0.4


def test_the_azimuth_of_what_is_round_about_an_axis_is_no_disagreement() -> None:
    rod = np.zeros((24, 24, 24))
    rod[7:17, 11:13, 11:13] = 1
    rng, poses = np.random.default_rng(0), random_rotations(60, np.random.default_rng(0))
    rotated = poses @ Rotation.from_rotvec(np.outer(rng.uniform(0, 6, 60), [0, 0, 1])).as_matrix()
    assert equivalence_of(rod).agreement(poses, rotated).all()
    assert equivalence_of(molecule().density(24)).agreement(poses, rotated).mean() < 0.5


def candidates(folds: int, *, right: int) -> list[Symmetry]:
    """Groups that the noisy average of rings of blobs may have: some turned right, a hundred turned at random."""
    halves = ring_halves(folds, right=right)
    return candidate_groups(run(search_symmetry((halves[0] + halves[1]) / 2, VOXEL_SIZE, halves=halves, radius=75.0)))


def test_what_is_nearly_round_may_be_round_unless_a_cyclic_order_rises_above_the_noise() -> None:
    (group,) = candidates(7, right=40)
    assert group.point_group == "C7"
    (group,) = candidates(7, right=0)
    assert group.point_group == f"C{ROUND}"
    assert abs(group.main_axis[2]) > 0.995


def in_true_poses(shape: Molecule) -> tuple[PosedClass, SymmetrySearch]:
    """Forty molecules in their true poses."""
    volume, picks, _ = tomogram(shape, noise=0.5, count=(2, 4, 5))
    spectra = run(observe_patches([(volume, picks.positions)], QUICK, device=torch.device("cpu")))
    average = run(average_in_halves([(volume, picks)], symmetry("C1"), QUICK, spectra.geometries, dark=True))
    search = SymmetrySearch(QUICK, spectra.geometries, dark=True, device=torch.device("cpu"))
    return PosedClass([(volume, picks)], average), search


def with_one_copy_heavier(shape: Molecule, factor: float) -> Molecule:
    """The molecule, of whose first half every blob weighs more."""
    weights = shape.weights.copy()
    weights[: len(weights) // 2] *= factor
    return Molecule(shape.places, weights, shape.width)


def test_a_symmetry_is_imposed_that_explains_held_out_particles_better() -> None:
    found, search = in_true_poses(molecule(group=symmetry("C2")))
    chosen = run(search.imposed(found))
    assert chosen.average.group.name == "C2"
    assert "Imposing C2 raises the log-likelihood of particles that were not averaged" in " ".join(chosen.notes)


def test_a_pseudo_symmetry_explains_held_out_particles_worse_and_is_not_imposed() -> None:
    found, search = in_true_poses(with_one_copy_heavier(molecule(group=symmetry("C2")), 1.15))
    halves = found.average.first_half, found.average.second_half
    proposed = run(search_symmetry(found.average.density, VOXEL_SIZE, halves=halves, radius=QUICK.radius))
    assert proposed.group.point_group == "C2", "the map alone looks symmetric"
    chosen = run(search.imposed(found))
    assert chosen.average.group.name == "C1"
    assert "Imposing C2 does not raise" in " ".join(chosen.notes)
    assert chosen.notes[-1] == "It is averaged as C1."


def test_an_unknown_azimuth_is_in_the_expected_error() -> None:
    found, _ = in_true_poses(molecule())
    errors = np.full(40, 3.0)
    assert np.array_equal(with_azimuth_errors(found, errors), errors)
    unknown = with_azimuth_errors(replace(found, round=True), errors)
    assert (unknown > 100).all()


def test_poses_that_differ_by_a_rotation_of_the_frame_are_the_same() -> None:
    rng = np.random.default_rng(0)
    first, turn = random_rotations(40, rng), random_rotations(1, rng)[0]
    second = first @ turn.T
    second[:10] = random_rotations(10, rng)
    assert angle_deg(global_rotation(first, second), turn) < 1e-6


def test_outliers_have_a_column_and_a_template_can_be_made(rounds_and_answer: tuple) -> None:
    answer = rounds_and_answer[1]
    assert set(np.unique(answer.particles.extra[OUTLIER])) <= {0, 1}
    template = answer.template(name="mine")
    assert (template.name, template.voxel_size) == ("mine", VOXEL_SIZE)


def test_many_picks_set_aside_make_one_think_of_another_kind(rounds_and_answer: tuple) -> None:
    answer = rounds_and_answer[1]
    (found,) = answer.structures
    assert answer.hint == ""
    many = replace(answer, structures=(replace(found, outliers=15),))
    assert "another kind of particle" in many.hint
    assert replace(many, class_count_words="Kinds of particle: 1.").hint == ""


def test_a_few_picks_outside_are_left_out_and_counted(seen: tuple) -> None:
    volume, picks = seen
    positions = picks.positions.copy()
    positions[[1, 5]] -= 1e4
    first = next(discover([(volume, picks.replace(positions=positions))], QUICK))
    assert [note.text for note in first.notes] == [f"Of {len(picks)} particles 2 lie outside {volume.name}, left out."]


def test_too_few_picks_and_too_small_particles_are_refused(seen: tuple) -> None:
    volume, picks = seen
    with pytest.raises(InputError, match="expected at least 20"):
        run(discover([(volume, picks.take(slice(0, 5)))], QUICK))
    with pytest.raises(InputError, match="larger diameter"):
        run(discover([(volume, picks)], DiscoveryOptions(diameter=60.0)))


@pytest.mark.parametrize("spread", [(2.0, 2.0, 2.0), (0.5, 0.5, 5.0)])
def test_the_noise_of_a_half_map_adds_to_errors_and_a_pose_on_which_maps_disagree_is_doubted(
    spread: tuple[float, float, float],
) -> None:
    count, rng = 400, np.random.default_rng(3)
    found = random_rotations(count, rng)
    rotvecs = np.radians(rng.normal(scale=spread, size=(count, 3)))
    rotvecs[0], rotvecs[1] = (np.radians(90), 0, 0), (np.radians(15), 0, 0)
    before = found @ Rotation.from_rotvec(rotvecs).as_matrix()
    chances = np.tile([0.96, 1.0, 100.0], (count, 1))
    particles = Particles(positions=np.zeros((count, 3)), rotations=found, extra={ERROR_IF_RIGHT: chances[:, 1]})
    answer = with_map_errors(particles, chances, before, np.ones(count, bool), group=symmetry("C1"))
    if_right = np.asarray(answer.extra[ERROR_IF_RIGHT])
    assert if_right == pytest.approx(np.full(count, np.hypot(1, np.linalg.norm(spread) / np.sqrt(2))), rel=0.08)
    assert answer.confidence[1:] == pytest.approx(np.full(count - 1, 0.96), abs=0.01)
    assert answer.confidence[0] == pytest.approx(0.8, abs=0.01)
    assert answer.expected_error_deg[0] > 2 * answer.expected_error_deg[1]

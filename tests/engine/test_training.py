"""Training as a stream: it learns, it can be stopped and gone on with to the bit, and it keeps tomograms apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.learning import QUICK_TRAINING, SMALL_NETWORK, small_tomogram, small_world
from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.model_files import read_tensors, write_tensors
from napari_orient.engine.options import Options
from napari_orient.engine.parameters import NetworkOptions, PredictionOptions, TrainingOptions
from napari_orient.engine.particles import Particles, concatenate
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.statistics.error_calibration import fit_by_spread
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.training.network import Epoch, TrainingState
from napari_orient.engine.training.train import save_progress, train
from napari_orient.engine.training.validation import fingerprint, split


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def trained(world):
    return run(train(world, SMALL_NETWORK, QUICK_TRAINING, name="ball"))


def changed(options, **changes) -> Options:
    return type(options).from_record({**options.to_record(), **changes})


def same_tensors(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_trained_network_finds_particles_of_a_tomogram_it_never_saw(trained):
    tomogram, truth = small_tomogram(77)
    predicted = run(predict(tomogram, truth.replace(rotations=None), trained, PredictionOptions.of(device="cpu")))
    report = evaluate(predicted, truth)
    assert report.all.within["20"] > 0.8
    assert report.all.median_deg < 15


def test_the_expected_error_is_near_the_true_one(trained):
    tomogram, truth = small_tomogram(78)
    predicted = run(predict(tomogram, truth.replace(rotations=None), trained, PredictionOptions.of(device="cpu")))
    assert 0.5 < evaluate(predicted, truth).all.expected_over_true < 2
    assert ((predicted.confidence >= 0) & (predicted.confidence <= 1)).all()


def test_every_epoch_carries_the_best_checkpoint_so_far(world):
    epochs = [
        step for step in train(world, SMALL_NETWORK, changed(QUICK_TRAINING, epochs=4)) if isinstance(step, Epoch)
    ]
    assert [epoch.done for epoch in epochs] == [1, 2, 3, 4]
    best = np.minimum.accumulate([epoch.validation_mean_deg for epoch in epochs])
    told = [epoch.model.card["figures"]["validation_mean_deg"] for epoch in epochs]
    np.testing.assert_allclose(told, best)


def test_the_same_seed_gives_the_same_network_to_the_bit(world):
    options = changed(QUICK_TRAINING, epochs=2, shift=4.0)
    network = changed(SMALL_NETWORK, dropout=0.2)
    first, again = (run(train(world, network, options)).weights for _ in range(2))
    other = run(train(world, network, changed(options, seed=4))).weights
    assert same_tensors(first, again)
    assert not same_tensors(first, other)


def test_stopped_and_resumed_training_ends_at_the_same_bits(world, tmp_path):
    options = changed(QUICK_TRAINING, epochs=4, shift=4.0)
    whole = run(train(world, SMALL_NETWORK, options))
    stream = train(world, SMALL_NETWORK, options)
    for step in stream:
        if isinstance(step, Epoch) and step.done == 2:
            step.state.save(tmp_path / "ball.resume")
            break
    stream.close()
    resumed = run(train(world, SMALL_NETWORK, options, resume=TrainingState.load(tmp_path / "ball.resume")))
    assert same_tensors(whole.weights, resumed.weights)
    assert whole.card["figures"] == resumed.card["figures"]


def test_a_best_network_found_before_the_stop_is_told_of_as_the_whole_training_is(world):
    hopeless = changed(QUICK_TRAINING, epochs=100, schedule="constant")
    stopped = next(step.state for step in train(world, SMALL_NETWORK, hopeless) if isinstance(step, Epoch))
    unbeaten = replace(stopped, best_error=0.0)
    resumed = run(train(world, SMALL_NETWORK, changed(hopeless, epochs=2), resume=unbeaten))
    assert resumed.card["training"]["epochs"] == 2
    assert resumed.card["figures"]["epoch"] == 1
    assert same_tensors(resumed.weights, stopped.best.weights)


def test_the_network_is_on_disk_before_a_state_says_so(world, tmp_path):
    """Whoever is stopped between the two writings must find the network that the state speaks of."""
    output, nowhere = tmp_path / "ball.safetensors", tmp_path / "no folder" / "ball.resume"
    with pytest.raises(InputError, match="is not a folder"):
        run(save_progress(train(world, SMALL_NETWORK, changed(QUICK_TRAINING, epochs=1)), output, nowhere))
    assert load_model(output).card["figures"]["epoch"] == 1


def test_a_state_to_resume_from_must_be_one_and_of_this_network(world, trained, tmp_path):
    trained.save(tmp_path / "ball.safetensors")
    with pytest.raises(InputError, match="no state of training"):
        TrainingState.load(tmp_path / "ball.safetensors")
    epoch = next(step for step in train(world, SMALL_NETWORK, QUICK_TRAINING) if isinstance(step, Epoch))
    with pytest.raises(InputError, match="another network"):
        run(train(world, changed(SMALL_NETWORK, width=16), QUICK_TRAINING, resume=epoch.state))


@pytest.mark.parametrize("entry", ["training", "best", "best_error", "moments/0/step", "moments/1/exp_avg", "best/"])
def test_a_damaged_state_of_training_is_one_line(entry, world, tmp_path):
    path, options = tmp_path / "ball.resume", changed(QUICK_TRAINING, epochs=2)
    next(step.state for step in train(world, SMALL_NETWORK, options) if isinstance(step, Epoch)).save(path)
    tensors, record = read_tensors(path)
    write_tensors(
        path,
        {name: value for name, value in tensors.items() if not name.startswith(entry)},
        {name: value if name != entry else [value] for name, value in record.items()},
    )
    with pytest.raises(InputError, match=r"damaged|fresh copy|another network"):
        run(train(world, SMALL_NETWORK, options, resume=TrainingState.load(path)))


def test_the_split_keeps_tomograms_whole(world):
    training, validation = split(world, share=0.25, seed=0)
    names = [{tomogram.name for tomogram, _ in part} for part in (training, validation)]
    assert len(names[0]) == 4
    assert len(names[1]) == 1
    assert not names[0] & names[1]


def test_a_lone_tomogram_is_split_at_a_plane(world):
    training, validation = split(world[:1], share=0.2, seed=0)
    (_, near), (_, far) = training[0], validation[0]
    assert near.positions[:, 0].max() <= far.positions[:, 0].min()
    assert len(near) + len(far) == len(world[0][1])
    assert len(far) > 0


def test_a_symmetric_particle_is_learnt_only_by_a_loss_that_knows_its_symmetry():
    group = symmetry("C2")
    rng = np.random.default_rng(0)

    def ambiguous(seed):
        # The C2 copy that the truth names is chosen at random: the density cannot tell.
        tomogram, truth = small_tomogram(seed)
        flips = group.matrices[rng.integers(2, size=len(truth))]
        return tomogram, truth.replace(rotations=truth.required_rotations() @ flips)

    world = [ambiguous(seed) for seed in range(5)]
    aware = run(train(world, changed(SMALL_NETWORK, symmetry="C2"), QUICK_TRAINING)).card["figures"]
    naive = run(train(world, SMALL_NETWORK, QUICK_TRAINING)).card["figures"]
    assert aware["validation_median_deg"] < 25
    assert naive["validation_median_deg"] > 50


@pytest.mark.parametrize("representation", ["quaternion", "euler", "9d"])
def test_every_representation_can_be_trained(world, representation):
    network = changed(SMALL_NETWORK, representation=representation)
    figures = run(train(world, network, changed(QUICK_TRAINING, epochs=6))).card["figures"]
    assert figures["validation_mean_deg"] < 110  # chance: 126.5


def test_the_card_says_what_it_was_made_of(trained, world):
    assert trained.card["tomograms"] == 5
    assert sum(trained.card["particles"].values()) == sum(len(particles) for _, particles in world)
    assert trained.card["classes"] == ["pdb_ball"]
    assert trained.card["training"]["seed"] == 3
    assert trained.card["fingerprint"] == fingerprint(world)


def test_the_fingerprint_changes_with_one_rotation(world):
    tomogram, particles = world[0]
    other = particles.required_rotations().copy()
    other[0] = other[0].T
    assert fingerprint(world) != fingerprint([(tomogram, particles.replace(rotations=other)), *world[1:]])


def test_calibration_recovers_floor_and_factor():
    rng = np.random.default_rng(0)
    spreads = rng.uniform(1, 30, 4000)
    errors = np.sqrt(9 + 0.5 * spreads**2) * np.sqrt(rng.chisquare(3, 4000) / 3)
    line = fit_by_spread(errors, spreads)
    assert line.floor == pytest.approx(9, rel=0.3)
    assert line.factor == pytest.approx(0.5, rel=0.15)


def few(world):
    tomogram, particles = world[0]
    return [(tomogram, particles.take(slice(0, 5)))]


def unlabelled(world):
    return [(tomogram, particles.replace(rotations=None)) for tomogram, particles in world]


def outside(world):
    tomogram, particles = world[0]
    return [(tomogram, particles.replace(positions=particles.positions * 4))]


def mixed(world):
    (tomogram, particles), *rest = world
    return [(tomogram, particles.replace(kind=np.full(len(particles), "pdb_other"))), *rest]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(few, "at least 20"), (mixed, "a model learns one"), (unlabelled, "no orientations"), (outside, "binned by 4")],
)
def test_what_cannot_be_learnt_from_is_refused_before_work_starts(world, spoil, words):
    with pytest.raises(InputError, match=words):
        next(train(spoil(world), SMALL_NETWORK, QUICK_TRAINING))


def test_a_few_particles_outside_are_left_out_of_a_training_and_counted(world):
    tomogram, particles = world[0]
    positions = particles.positions.copy()
    positions[3] -= 1e4
    first = next(train([(tomogram, particles.replace(positions=positions))], SMALL_NETWORK, QUICK_TRAINING))
    words = f"Of {len(positions)} particles 1 lies outside {tomogram.name}, left out."
    assert [note.text for note in first.notes] == [words]


def test_prediction_keeps_order_and_foreign_columns_and_any_batch_gives_the_same(trained):
    tomogram, truth = small_tomogram(79)
    picks = truth.replace(rotations=None, extra={"pick": np.arange(len(truth))})
    whole = run(predict(tomogram, picks, trained, PredictionOptions.of(device="cpu")))
    small = run(predict(tomogram, picks, trained, PredictionOptions.of(device="cpu", batch=7)))
    np.testing.assert_allclose(whole.rotations, small.rotations, atol=1e-4)
    np.testing.assert_array_equal(whole.extra["pick"], np.arange(len(truth)))
    np.testing.assert_array_equal(whole.positions, truth.positions)


def test_prediction_says_the_device_aloud_and_counts_particles(trained):
    tomogram, truth = small_tomogram(79)
    steps = list(predict(tomogram, truth, trained, PredictionOptions.of(device="cpu", batch=81)))
    assert "CPU" in steps[0].message
    assert [step.done for step in steps if "beads" not in step.message][1:] == [0, 81, 162, 243]


def test_prediction_refuses_zero_picks_and_picks_outside(trained):
    tomogram, truth = small_tomogram(79)
    with pytest.raises(InputError, match="at least one pick"):
        next(predict(tomogram, truth.take(slice(0, 0)), trained))
    with pytest.raises(InputError, match="of 243 particles lie outside"):
        next(predict(tomogram, truth.replace(positions=truth.positions * 10), trained))


def test_evaluation_matches_by_place_whatever_the_order(trained):
    _, truth = small_tomogram(79)
    shuffled = truth.take(np.random.default_rng(0).permutation(len(truth)))
    moved = shuffled.replace(positions=shuffled.positions + 12.0)
    report = evaluate(moved, truth)
    assert report.all.count == len(truth)
    assert report.all.median_deg == pytest.approx(0, abs=1e-4)
    assert report.all.position_median == pytest.approx(12 * np.sqrt(3))


def test_evaluation_of_a_random_guess_is_chance():
    rng = np.random.default_rng(0)
    from napari_orient.engine.rotations import random_rotations

    positions = rng.uniform(0, 1e6, (20_000, 3))
    guess, truth = (Particles(positions=positions, rotations=random_rotations(20_000, rng)) for _ in range(2))
    figures = evaluate(guess, truth).all
    assert figures.median_deg == pytest.approx(figures.chance_median_deg, abs=1.5)
    assert figures.within["20"] == pytest.approx(0.0022, abs=0.001)
    assert figures.r_squared == pytest.approx(-1, abs=0.03)


def test_evaluation_is_by_class_and_by_tomogram():
    first, second = (small_tomogram(seed, kind=kind)[1] for seed, kind in ((1, "a"), (2, "b")))
    truth = concatenate([first, second])
    wrong = second.required_rotations() @ np.diag([1.0, -1, -1])
    predicted = concatenate([first, second.replace(rotations=wrong)])
    report = evaluate(predicted, truth)
    assert report.by_class["a"].median_deg == pytest.approx(0, abs=1e-4)
    assert report.by_class["b"].median_deg == pytest.approx(180, abs=1e-4)
    assert report.all.within["20"] == pytest.approx(0.5)
    assert evaluate(predicted, truth, group=symmetry("D2")).all.median_deg == pytest.approx(0, abs=1e-4)


def test_evaluation_of_lists_that_do_not_meet_is_refused():
    _, truth = small_tomogram(1)
    with pytest.raises(InputError, match="lies within"):
        evaluate(truth.replace(positions=truth.positions + 1e5), truth)
    with pytest.raises(InputError, match="no orientations"):
        evaluate(truth.replace(rotations=None), truth)


def test_the_report_prints_the_share_as_the_papers_code_counts_and_chance_beside_it():
    _, truth = small_tomogram(1)
    text = str(evaluate(truth, truth))
    assert "24.56°" in text
    assert "chance" in text
    assert "0.22%" in text


def test_defaults_of_the_paper_are_the_printed_ones():
    from napari_orient.engine.parameters import PRESETS

    network, training = PRESETS["paper"]
    assert (network.width, network.depth, network.representation, network.front_end) == (32, 4, "6d", "raw")
    assert (training.epochs, training.batch, training.rate, training.loss) == (50, 32, 1e-4, "huber")
    assert isinstance(training, TrainingOptions)


def test_a_saved_checkpoint_predicts_as_the_trained_one(trained, tmp_path):
    trained.save(tmp_path / "ball.safetensors")
    tomogram, truth = small_tomogram(80)
    first, second = (
        run(predict(tomogram, truth, checkpoint, PredictionOptions.of(device="cpu")))
        for checkpoint in (trained, load_model(tmp_path / "ball.safetensors"))
    )
    np.testing.assert_array_equal(first.rotations, second.rotations)


def test_the_default_training_does_not_diverge_in_few_steps(world):
    """Where the rate rises too fast the outputs saturate, and the loss ends above where it began."""
    steps = train(world[:1], NetworkOptions(), TrainingOptions.of(epochs=6, device="cpu"))
    first, *_, last = [step.training_loss for step in steps if isinstance(step, Epoch)]
    assert last < 0.9 * first


def test_few_particles_are_passed_over_more_often():
    assert [TrainingOptions().epochs_for(count) for count in (70, 2_000, 23_000)] == [400, 96, 40]
    assert TrainingOptions(epochs=3).epochs_for(70) == 3

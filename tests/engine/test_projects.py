"""Tasks done for many tomograms: one list whatever runs them, failures named, and nothing done twice by its content."""

import csv
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram, write_particles, write_tomogram
from napari_orient.engine.io.columns import POSE_UNKNOWN, VARIABILITY
from napari_orient.engine.particles import Particles
from napari_orient.engine.prediction.predict import PredictionTask, load_model
from napari_orient.engine.projects import distribution
from napari_orient.engine.projects.distribution import SchedulerOptions
from napari_orient.engine.projects.each_tomogram import ProjectResult, for_each_tomogram, plan
from napari_orient.engine.projects.stored_results import StoredResults, content_digest, particles_digest
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from projects_tasks import MeanTask


def pairs_in(folder, count, *, prefix="ts"):
    """Tomograms in files, each with two picks that carry a column of texts."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{prefix}_{number}.mrc"
        if not path.exists():
            density = np.random.default_rng(number).normal(size=(8, 8, 8)).astype(np.float32)
            write_tomogram(path, density, voxel_size=10.0)
        picks = Particles(positions=[[10.0, 20, 30], [40, 30, 20]], tomogram=f"ts_{number}")
        found.append((read_tomogram(path), picks.replace(extra={"rlnGroup": np.array(["a", "bcd"])})))
    return found


def done(pairs, task, **how):
    result = ProjectResult()
    steps = list(for_each_tomogram(pairs, task, result, **how))
    return result, steps


def states(stored):
    rows = csv.DictReader(stored.table.read_text().splitlines())
    return {row["tomogram"]: row["state"] for row in rows}


def list_of(result, path):
    write_particles(path, result.particles, provenance="test")
    return path.read_bytes()


# --- one process ----------------------------------------------------------------------------------------------------


def test_one_list_holds_all_tomograms_that_are_done_and_the_others_are_named(tmp_path):
    result, steps = done(pairs_in(tmp_path, 3), MeanTask(failing=("ts_1",)))
    assert result.particles.tomogram_names == ["ts_0", "ts_2"]
    assert result.failed_words == "1 of 3 tomograms failed: ts_1."
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.total for step in steps} == {300}
    notes = [str(note) for step in steps for note in step.notes]
    assert notes == ["ts_0: a note", "ts_1: a note", "Warning: ts_1 failed: it is flat.", "ts_2: a note"]


def test_a_result_that_only_some_tomograms_have_is_kept_and_unknown_in_the_others(tmp_path):
    result, _ = done(pairs_in(tmp_path, 2), MeanTask())
    some, other = result.parts
    result.done[0] = replace(result.done[0], particles=some.replace(extra={**some.extra, VARIABILITY: np.ones(2)}))
    result.done[1] = replace(
        result.done[1], particles=other.replace(extra={**other.extra, POSE_UNKNOWN: np.array(["", "x"])})
    )
    np.testing.assert_equal(result.particles.extra[VARIABILITY], [1, 1, np.nan, np.nan])
    assert result.particles.extra[POSE_UNKNOWN].tolist() == ["", "", "", "x"]


def test_a_lone_tomogram_fails_as_it_is_and_its_notes_have_no_name(tmp_path):
    _, steps = done(pairs_in(tmp_path, 1), MeanTask())
    assert [str(note) for step in steps for note in step.notes] == ["a note"]
    with pytest.raises(InputError, match=r"^it is flat\.$"):
        done(pairs_in(tmp_path, 1), MeanTask(failing=("ts_0",)))


def test_where_all_fail_the_first_is_said_and_a_fault_of_the_program_is_not_hidden(tmp_path):
    with pytest.raises(InputError, match="all 2 tomograms failed; ts_0: it is flat"):
        done(pairs_in(tmp_path, 2), MeanTask(failing=("ts_0", "ts_1")))
    with pytest.raises(ZeroDivisionError):
        done(pairs_in(tmp_path, 2), MeanTask(broken=("ts_0", "ts_1")))
    result, _ = done(pairs_in(tmp_path, 2), MeanTask(broken=("ts_0",)))
    assert result.failed == {"ts_0": "ZeroDivisionError: a fault of the program"}


# --- what is done is not done again -----------------------------------------------------------------------------------


def test_what_is_done_is_taken_by_its_content_whatever_files_are_called(tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    stored = StoredResults.beside(tmp_path / "out.star")
    first, _ = done(pairs_in(tmp_path / "a", 3), MeanTask(failing=("ts_1",)), stored=stored)
    assert states(stored) == {"ts_0": "done", "ts_1": "failed", "ts_2": "done"}
    # Files of other names, copied at another time, with another list beside them.
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy)
    for number in range(3):
        (tmp_path / "b" / f"ts_{number}.mrc").rename(tmp_path / "b" / f"rec_{number}.mrc")
    pairs = pairs_in(tmp_path / "b", 3, prefix="rec")
    pairs = [(tomogram, own.replace(blocks={"optics": {"rlnOpticsGroup": ("1",)}})) for tomogram, own in pairs]
    again, steps = done(pairs, MeanTask(seen=seen), stored=StoredResults.beside(tmp_path / "out.star"), resume=True)
    assert states(stored) == {"rec_0": "done before", "rec_1": "done", "rec_2": "done before"}
    assert [path.name.split(".")[0] for path in seen.iterdir()] == ["rec_1"]
    assert "2 of 3 tomograms were done before" in " ".join(str(note) for step in steps for note in step.notes)
    assert again.particles.blocks == {"optics": {"rlnOpticsGroup": ("1",)}}
    np.testing.assert_array_equal(again.parts[0].extra["mean"], first.parts[0].extra["mean"])


@pytest.mark.parametrize("changed", ["voxel", "pick", "column", "option"])
def test_what_was_changed_is_done_again(tmp_path, changed):
    stored, seen = StoredResults.beside(tmp_path / "out.star"), tmp_path / "seen"
    seen.mkdir()
    pairs, task = pairs_in(tmp_path / "a", 2), MeanTask(seen=seen)
    done(pairs, replace(task, seen=None), stored=stored)
    tomogram, picks = pairs[1]
    if changed == "voxel":
        # Of the same size, and with its time set back, but not to the nanosecond.
        time = tomogram.path.stat().st_mtime_ns
        density = np.array(tomogram.density)
        density[0, 0, 0] += 1
        write_tomogram(tomogram.path, density, voxel_size=10.0)
        os.utime(tomogram.path, ns=(time + 1, time + 1))
        pairs[1] = (read_tomogram(tomogram.path), picks)
    elif changed == "pick":
        pairs[1] = (tomogram, picks.replace(positions=picks.positions + np.array([0, 0, 1e-9])))
    elif changed == "column":
        pairs[1] = (tomogram, picks.replace(extra={"rlnGroup": np.array(["a", "bce"])}))
    else:
        task = replace(task, scale=2.0)
    done(pairs, task, stored=stored, resume=True)
    again = ["ts_0", "ts_1"] if changed == "option" else ["ts_1"]
    assert sorted(path.name.split(".")[0] for path in seen.iterdir()) == again


def test_a_damaged_part_is_done_again_and_parts_of_other_runs_are_removed(tmp_path):
    stored = StoredResults.beside(tmp_path / "out.star")
    pairs = pairs_in(tmp_path / "a", 3)
    whole, _ = done(pairs, MeanTask(), stored=stored)
    part = sorted(stored.folder.glob("*.npz"))[0]
    part.write_bytes(part.read_bytes()[:100])
    again, _ = done(pairs, MeanTask(), stored=stored, resume=True)
    assert sorted(states(stored).values()) == ["done", "done before", "done before"]
    assert list_of(again, tmp_path / "again.star") == list_of(whole, tmp_path / "whole.star")
    done(pairs[:1], MeanTask(), stored=StoredResults.beside(tmp_path / "out.star"), resume=True)
    assert len(list(stored.folder.glob("*.npz"))) == 1


def test_where_what_is_done_cannot_be_kept_the_work_goes_on(tmp_path):
    stored = StoredResults(tmp_path / "parts", tmp_path / "status.csv")
    stored.folder.write_text("a file where the folder should be")
    result, steps = done(pairs_in(tmp_path / "a", 3), MeanTask(), stored=stored)
    assert result.particles.tomogram_names == ["ts_0", "ts_1", "ts_2"]
    warned = [note.text for step in steps for note in step.notes if note.severity == "warning"]
    assert len(warned) == 1
    assert "The work goes on" in warned[0]


def test_every_kind_of_column_comes_back_from_a_part_as_it_was(tmp_path):
    stored = StoredResults.beside(tmp_path / "out.star")
    ((tomogram, picks),) = pairs_in(tmp_path / "a", 1)
    columns = {"odd name/": np.array([1, 2]), "float": np.array([0.1, np.nan]), "object": np.array(["a", 1.5], object)}
    picks = picks.replace(
        extra=columns, kind=np.array(["x", "yz"]), confidence=np.array([0.1, 1 / 3]), notes=("read so.",)
    )
    first, _ = done([(tomogram, picks)], MeanTask(), stored=stored)
    again, _ = done([(tomogram, picks)], MeanTask(), stored=stored, resume=True)
    assert again.done[0].stored
    one, two = first.particles, again.particles
    assert one.notes == two.notes == ("read so.",)
    assert one.extents == two.extents
    assert list(one.extra) == list(two.extra)
    assert particles_digest(one) == particles_digest(two)


def test_a_digest_tells_values_from_one_another_and_not_names():
    values = [1, 1.0, True, "1", "1 ", [1], {"a": 1}, np.ones(1), np.ones((1, 1)), None]
    assert len({content_digest(value) for value in values}) == len(values)
    assert content_digest(np.array(["a"], "U1")) == content_digest(np.array(["a"], "U9"))
    template = load_template("proteasome")
    renamed = replace(template, name="other", card={"a": 1})
    assert content_digest(template) == content_digest(renamed)
    assert content_digest(template) != content_digest(template.mirrored())
    assert content_digest(template) != content_digest(replace(template, symmetry="C1"))


def test_the_plan_says_what_is_done_and_how_long_the_rest_takes_as_it_was_measured(tmp_path):
    stored = StoredResults.beside(tmp_path / "out.star")
    pairs = pairs_in(tmp_path / "a", 4)
    before = run(plan(pairs, MeanTask(), stored=stored, resume=True))
    assert (before.measured, before.seconds, [item.state for item in before.tomograms]) == (False, 12.0, ["to do"] * 4)
    assert run(plan(pairs, MeanTask(), workers=2)).seconds == 6.0
    done(pairs[:3], MeanTask(slow=0.06), stored=stored)
    after = run(plan(pairs, MeanTask(), stored=stored, resume=True))
    assert [item.state for item in after.tomograms] == ["done before"] * 3 + ["to do"]
    assert after.measured
    assert 0.01 < after.seconds < 1.0
    rows = list(after.rows())
    assert rows[1][:6] == ("ts_0", "8 × 8 × 8", "10", "0", "2", "done before")


def test_a_models_task_has_the_same_content_as_long_as_model_options_and_tilts_are_the_same(tmp_path):
    (tomogram, _), *_ = pairs_in(tmp_path, 1)
    task = PredictionTask(load_model("proteasome"))
    before = content_digest(task.content(tomogram))
    assert content_digest(PredictionTask(replace(task.model, name="x")).content(tomogram)) == before
    assert content_digest(PredictionTask(task.model, task.options.replace(max_shift=5)).content(tomogram)) != before
    (tmp_path / "ts_0.tlt").write_text("-60\n0\n60\n")
    assert content_digest(task.content(tomogram)) != before


# --- side by side -----------------------------------------------------------------------------------------------------


def test_the_list_is_the_same_to_the_byte_where_processes_share_the_work_and_one_is_killed(tmp_path, monkeypatch):
    # Workers import the task from the folder of this test.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    )
    seen = tmp_path / "seen"
    seen.mkdir()
    pairs = pairs_in(tmp_path / "a", 5)
    pairs[4] = (replace(pairs[4][0], path=None), pairs[4][1])
    alone, _ = done(pairs, MeanTask(failing=("ts_2",)))
    stored = StoredResults.beside(tmp_path / "out.star")
    task = MeanTask(failing=("ts_2",), killing=("ts_1",), seen=seen, slow=0.3)
    result, steps = done(pairs, task, scheduler=SchedulerOptions(scheduler="local:2"), stored=stored)
    assert result.failed == {"ts_2": "it is flat."}
    assert list_of(result, tmp_path / "two.star") == list_of(alone, tmp_path / "one.star")
    assert states(stored) == {"ts_0": "done", "ts_1": "done", "ts_2": "failed", "ts_3": "done", "ts_4": "done"}
    notes = sorted(str(note) for step in steps for note in step.notes)
    assert notes == ["Warning: ts_2 failed: it is flat.", *(f"ts_{number}: a note" for number in range(5))]
    # The tomogram of the worker that was killed was begun twice, and no other.
    begun = [path.name.split(".")[0] for path in seen.iterdir()]
    assert sorted(begun) == ["ts_0", "ts_1", "ts_1", "ts_2", "ts_3", "ts_4"]


def test_the_workers_of_a_running_dask_scheduler_do_the_work_and_stop_when_they_are_told(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    pairs = pairs_in(tmp_path / "a", 4)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        options = SchedulerOptions(scheduler=cluster.scheduler_address, retries=0)
        result, _ = done(pairs, MeanTask(broken=("ts_3",)), scheduler=options)
        assert result.failed == {"ts_3": "ZeroDivisionError: a fault of the program"}
        assert result.particles.tomogram_names == ["ts_0", "ts_1", "ts_2"]
        stream = for_each_tomogram(pairs, MeanTask(slow=60), stopped := ProjectResult(), scheduler=options)
        next(step for step in stream if "ts_" in step.message)
        stream.close()
        assert stopped.done == {}
    monkeypatch.setattr(distribution, "_CONNECT", "1s")
    with pytest.raises(InputError, match="does not answer"):
        done(pairs, MeanTask(), scheduler=SchedulerOptions(scheduler="127.0.0.1:9"))


def test_the_script_of_a_job_of_slurm_asks_for_what_the_options_say():
    pytest.importorskip("dask_jobqueue")
    options = SchedulerOptions(
        scheduler="slurm:8",
        slurm_partition="gpu",
        slurm_time="04:00:00",
        slurm_memory="32GB",
        slurm_cores=6,
        slurm_options="--gres=gpu:1 --exclude=node7",
        slurm_setup="module load cuda; source env.sh",
    )
    lines = distribution.slurm_script(options).splitlines()
    assert lines[0].startswith("#!")
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert {"-p gpu", "-t 04:00:00", "--cpus-per-task=6", "--mem=30G", "--gres=gpu:1", "--exclude=node7"} <= asked
    assert lines[-6:-3] == ["module load cuda", "source env.sh", "export OMP_NUM_THREADS=6"]
    assert lines[-1].startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 1" in lines[-1]
    assert "--no-nanny" in lines[-1]
    assert lines[-1].index("--memory-limit 0") > lines[-1].index("--memory-limit")


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        ("", None, 1),
        ("local:4", "local", 4),
        ("local", "local", 1),
        ("slurm:12", "slurm", 12),
        ("tcp://node1:8786", "address", 1),
        ("node1:8786", "address", 1),
        ("/shared/scheduler.json", "address", 1),
    ],
)
def test_a_scheduler_is_understood_by_its_form(text, kind, count):
    options = SchedulerOptions(scheduler=text)
    assert (options.kind, options.count) == (kind, count)


@pytest.mark.parametrize("text", ["four", "local:", "local:0", "slurm:-1", "node1"])
def test_what_is_no_scheduler_is_refused(text):
    with pytest.raises(InputError, match="scheduler is"):
        SchedulerOptions(scheduler=text)


def test_workers_take_gpus_in_turn():
    assert [distribution.gpu_environment(index, ["2", "5"])["CUDA_VISIBLE_DEVICES"] for index in range(3)] == [
        "2",
        "5",
        "2",
    ]
    assert distribution.gpu_environment(0, []) == {}

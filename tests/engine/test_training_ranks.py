"""A training shared by several processes, or whose patches are cut batch by batch, ends where one in memory does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learning import QUICK_TRAINING, SMALL_NETWORK, small_world

from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.networks.network import Network
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.streams import run
from napari_orient.engine.training.examples import StreamedExamples, cut_examples, examples_of
from napari_orient.engine.training.ranks import ALONE, Ranks
from napari_orient.engine.training.train import train

NETWORK = SMALL_NETWORK.replace(dropout=0.2)
TRAINING = QUICK_TRAINING.replace(epochs=3, shift=5.0, batch=23)

SCRIPT = """
import sys
from learning import small_world
from test_training_ranks import NETWORK, TRAINING
from napari_orient.engine.streams import run
from napari_orient.engine.training.ranks import joined_ranks
from napari_orient.engine.training.train import save_progress, train
from pathlib import Path

with joined_ranks() as ranks:
    assert ranks.count == 2
    output = Path(sys.argv[1])
    stream = train(small_world(3), NETWORK, TRAINING, ranks=ranks)
    model = run(save_progress(stream, output, output.with_suffix(".resume"), ranks=ranks))
    if ranks.first:
        model.save(output)
"""


@pytest.fixture(scope="module")
def alone() -> Network:
    return run(train(small_world(3), NETWORK, TRAINING))


def check_same(one, other, *, within):
    assert set(one.weights) == set(other.weights)
    for name, value in one.weights.items():
        np.testing.assert_allclose(other.weights[name], value, atol=within, rtol=1e-3, err_msg=name)
    assert other.card["figures"]["validation_mean_deg"] == pytest.approx(
        one.card["figures"]["validation_mean_deg"], rel=1e-3
    )


def test_two_processes_end_where_one_does(alone, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    places = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            script,
            "two.safetensors",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py", "two.safetensors"]
    check_same(alone, load_model(tmp_path / "two.safetensors"), within=2e-4)


def test_patches_cut_batch_by_batch_teach_what_those_in_memory_do(alone):
    check_same(alone, run(train(small_world(3), NETWORK, TRAINING, streamed=True)), within=2e-4)


def test_patches_that_are_streamed_are_those_in_memory_in_any_order():
    mlp, world = MLP(NETWORK, generator=torch.Generator().manual_seed(0)), small_world(2)
    held, streamed = run(cut_examples(mlp, world, words="")), StreamedExamples(mlp, world, torch.device("cpu"))
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(1))
    assert (len(streamed), streamed.side) == (len(held), held.side)
    parts = rows.split(50)
    for one, other in zip(held.batches(parts), streamed.batches(parts), strict=True):
        np.testing.assert_allclose(one.cubes, other.cubes, atol=2e-3)
        np.testing.assert_array_equal(one.rotations, other.rotations)
    assert isinstance(run(examples_of(mlp, world, torch.device("cpu"), words="", streamed=True)), StreamedExamples)


@pytest.mark.parametrize("total", [1, 2, 7, 64])
def test_each_row_of_a_batch_is_one_processs_and_all_weigh_the_same(total):
    shares = [Ranks(rank, 3).share(total, torch.device("cpu")) for rank in range(3)]
    rows = [row for own, weight in shares if weight for row in own.tolist()]
    assert sorted(rows) == list(range(total))
    # Gradients are averaged over the processes: each row counts 1 / total in the end.
    assert all(weight == pytest.approx(len(own) * 3 / total) or weight == 0 for own, weight in shares)
    assert sum(weight for _, weight in shares) == pytest.approx(3)
    own, weight = ALONE.share(total, torch.device("cpu"))
    assert (own.tolist(), weight) == (list(range(total)), 1.0)

"""Start-up is part of the interface: what is heavy is imported when it is used, not before."""

import json
import subprocess
import sys

import numpy as np

from napari_orient.cli import VERBS
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.particles import Particles

HELP = """
import contextlib, io, json, sys
from napari_orient.cli import main

imported = {}
for verb in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([verb, "--help"])
    assert printed.getvalue().startswith("usage:"), verb
    imported[verb] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(imported))
"""
PREDICT = """
import json, sys
from napari_orient.cli import main

status = main(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]))
"""


def answer_of(script: str, *words: str) -> object:
    command = [sys.executable, "-W", "error", "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_help_of_every_verb_imports_nothing_heavy():
    heavy = {"matplotlib", "mrcfile", "napari", "pandas", "qtpy", "safetensors", "scipy", "starfile", "torch"}
    for verb, imported in answer_of(HELP, *VERBS).items():
        assert not heavy & set(imported), verb


def test_the_package_itself_imports_nothing_but_the_standard_library():
    imported = answer_of("import json, sys, napari_orient; print(json.dumps(sorted(sys.modules)))")
    assert not {"argparse", "numpy", "torch"} & set(imported)
    assert [name for name in imported if name.startswith("napari_orient")] == ["napari_orient"]


def test_prediction_by_a_network_imports_only_what_it_uses(tmp_path):
    rng = np.random.default_rng(0)
    write_tomogram(tmp_path / "noise.mrc", rng.normal(size=(64, 64, 64)).astype(np.float32), voxel_size=10.0)
    write_particles(tmp_path / "picks.csv", Particles(positions=np.full((10, 3), 315.0), tomogram="noise"))
    places = [str(tmp_path / name) for name in ("noise.mrc", "picks.csv", "oriented.star")]
    words = ["predict", *places[:2], "--checkpoint", "ribosome-mlp", "--device", "cpu", "--output", places[2]]
    status, imported = answer_of(PREDICT, *words)
    assert status == 0
    # pandas comes with starfile, where picks are read from a STAR file.
    unused = {"matplotlib", "napari", "pandas", "qtpy", "roma", "scipy.optimize", "scipy.stats", "torch._dynamo"}
    assert not unused & set(imported)

"""Train the network that comes with the program, ribosome-mlp, on patches simulated from a map.

    python scripts/train_network.py --templates DIR --output FILE [--map 4v4r] [--others 5mrc ...] [--epochs N]
        [--refiner-epochs N] [--seed N] [--resume]

DIR holds the maps (.mrc): the particle's own, and those of what stands around it and is picked in its place. After each
epoch the network is written, and beside it the state to resume from; both come out the same whether it was stopped or
not. One thread of a processor takes about 25 s an epoch.
"""

from __future__ import annotations

import argparse
import time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.networks.mixture import PoseMixture
from napari_orient.engine.parameters import MixtureOptions, SimulatedTrainingOptions
from napari_orient.engine.simulation.patches import PatchSimulator
from napari_orient.engine.templates import load_template
from napari_orient.engine.training.network import Epoch, TrainingState
from napari_orient.engine.training.simulated import SimulatedRun

OTHERS = ("5mrc", "3j9i", "4cr2", "2uv8", "1bxn", "3cf3", "1f4a", "6pxm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--map", default="4v4r")
    parser.add_argument("--others", nargs="*", default=OTHERS)
    parser.add_argument("--epochs", type=int, default=SimulatedTrainingOptions().epochs)
    parser.add_argument("--refiner-epochs", type=int, default=SimulatedTrainingOptions().refiner_epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = SimulatedTrainingOptions.of(epochs=given.epochs, refiner_epochs=given.refiner_epochs, seed=given.seed)
    network = MixtureOptions()
    maps = [load_template(given.templates / f"{name}.mrc") for name in (given.map, *given.others)]
    simulator = PatchSimulator(maps[0], maps[1:], network, np.random.default_rng(given.seed))
    mixture = PoseMixture(network, generator=torch.Generator().manual_seed(given.seed))
    card = {
        "version": version("napari-orient"),
        "summary": "a mixture of 6D poses over rotated views, learnt from simulated patches",
        "command": f"scripts/train_network.py --map {given.map} --epochs {given.epochs} --refiner-epochs "
        f"{given.refiner_epochs} --seed {given.seed}",
        "data": f"patches simulated from {given.map}.mrc among {', '.join(given.others)}",
        "training": options.to_record(),
        "tomograms": 0,
        "particles": {"training": (given.epochs + given.refiner_epochs) * options.conditions * options.patches},
        "classes": [f"pdb_{given.map}"],
        "fingerprint": sha256(maps[0].density.tobytes()).hexdigest()[:16],
    }
    run = SimulatedRun(mixture, simulator, options, name="ribosome-mlp", card=card)
    resumed = given.output.with_suffix(".resume")
    stream = run.epochs(TrainingState.load(resumed) if given.resume else None)
    began = time.process_time()
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            end.value.save(given.output)
            print(end.value.card["figures"])
            return
        if isinstance(step, Epoch):
            step.model.save(given.output)
            step.state.save(resumed)
            print(f"{time.process_time() - began:.0f} s: {step.message}", flush=True)


if __name__ == "__main__":
    main()

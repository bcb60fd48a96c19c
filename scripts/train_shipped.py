"""Train the models that come with the program, from templates to files; scripts/train_network.py has ribosome-mlp.

    python scripts/train_shipped.py --templates DIR --work DIR [--polnet DIR] [--only NAME] [--tomograms N] [--banks N]

DIR with templates holds 4v4r.mrc, 3j9i.mrc and 6qzp.mrc; --work takes the simulated tomograms (32 MB each), those with
80S ribosomes in a folder of their own, and may be used again; --polnet names a folder of PolNet results, never trained
on, whose figures go into the cards of what they hold.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.io import read_labelled
from napari_orient.engine.io.dialects.polnet import write_polnet_tomogram
from napari_orient.engine.parameters import (
    NetworkOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.particles import Labelled, concatenate
from napari_orient.engine.prediction.predict import Model, predict
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream, run
from napari_orient.engine.templates import load_template
from napari_orient.engine.training.train import train
from napari_orient.engine.training.validation import Milestone

CHECKPOINTS = Path(__file__).parents[1] / "src" / "napari_orient" / "checkpoints"
SCENES = {"": {"pdb_4v4r": 150, "pdb_3j9i": 90}, "80S": {"pdb_6qzp": 100, "pdb_3j9i": 90}}
"""Particles of each class in a tomogram, by the folder in --work."""
FIRST_SEEDS = {"": 1000, "80S": 3000}

RECIPES = {
    "ribosome-4x32": (
        NetworkOptions(width=32, dropout=0.0),
        TrainingOptions(epochs=50, shift=0.0),
        "the paper's 4 × 32 nodes and 6D output behind the masked front end",
    ),
}

TEMPLATES = {
    "ribosome": ("", "4v4r", "C1", 40, "average of simulated bacterial 70S ribosomes (PDB 4V4R); the default"),
    "ribosome-80S": ("80S", "6qzp", "C1", 48, "average of simulated human 80S ribosomes (PDB 6QZP)"),
    "proteasome": (
        "",
        "3j9i",
        "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926",
        40,
        "average of simulated 20S proteasomes (PDB 3J9I), D7 about the axes of 3j9i.mrc",
    ),
}
"""Folder in --work, class, symmetry, voxels along the map, and summary; labels of simulated particles are exact, so
that no round of refinement follows."""
TEMPLATE_SEED = 17
VALIDATION_TOMOGRAMS = 4
"""Tomograms kept apart for validation and calibration: what one says of expected errors is chance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--polnet", type=Path)
    parser.add_argument("--tomograms", type=int, default=110)
    parser.add_argument("--averaged", type=int, default=16, help="tomograms of a template, four of them for validation")
    parser.add_argument("--only", choices=[*RECIPES, *TEMPLATES], help="train this one alone")
    options = parser.parse_args()
    for name in [options.only] if options.only else [*RECIPES, *TEMPLATES]:
        scene, code = TEMPLATES[name][:2] if name in TEMPLATES else ("", "4v4r")
        count, folder = options.averaged if name in TEMPLATES else options.tomograms, options.work / scene
        simulate_all(options.templates, folder, count, scene=scene)
        model = learnt(name, particles_of(folder, code)[:count])
        maps = " and ".join(f"{kind.removeprefix('pdb_')}.mrc" for kind in SCENES[scene])
        model = with_card(model, data=f"{count} tomograms simulated from {maps}")
        if options.polnet and not scene:
            polnet = figures(model, particles_of(options.polnet, code))
            model = with_card(model, figures={**model.card["figures"], "polnet": polnet})
        model.save(CHECKPOINTS / f"{name}.safetensors")
        print(name, model.card["figures"], flush=True)


def simulate_all(templates: Path, work: Path, count: int, *, scene: str) -> None:
    counts = SCENES[scene]
    maps = [load_template(templates / f"{code.removeprefix('pdb_')}.mrc") for code in counts]
    work.mkdir(parents=True, exist_ok=True)
    for index in range(1, count + 1):
        if list(work.glob(f"Tomo{index:03d}/*_motif_list.csv")):
            continue
        pair = run(simulate(maps, SimulationOptions(), seed=FIRST_SEEDS[scene] + index, counts=list(counts.values())))
        write_polnet_tomogram(work, *pair, index=index)
        print(f"simulated {index} of {count}", flush=True)


def particles_of(folder: Path, code: str) -> Labelled:
    return [(tomogram, particles.of_kind(code)) for tomogram, particles in read_labelled(folder)]


def learnt(name: str, labelled: Labelled) -> Model:
    if name in RECIPES:
        network, training, summary = RECIPES[name]
        return with_card(trained(train(labelled, network, training, name=name)), summary=summary)
    _, _, group, side, summary = TEMPLATES[name]
    options = TemplateTrainingOptions.of(
        validation=VALIDATION_TOMOGRAMS / len(labelled), seed=TEMPLATE_SEED, side=side, device="cpu"
    )
    stream = train(labelled, TemplateOptions(symmetry=group), options, name=name)
    return with_card(trained(stream), summary=summary)


def with_card(model: Model, **entries: object) -> Model:
    return replace(model, card={**model.card, **entries})


def trained(stream: Stream[Step, Model]) -> Model:
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            return end.value
        if isinstance(step, Milestone):
            print(step.message, flush=True)


def figures(model: Model, labelled: Labelled) -> dict[str, object]:
    """What the command line's evaluate says of tomograms that were never trained on."""
    predicted = [run(predict(tomogram, particles, model)) for tomogram, particles in labelled]
    truth = concatenate([particles for _, particles in labelled])
    report = evaluate(concatenate(predicted), truth, group=model.group)
    shares = {f"within_{angle}": round(share, 4) for angle, share in report.all.within.items()}
    return {"count": report.all.count, "median_deg": round(report.all.median_deg, 2), **shares}


if __name__ == "__main__":
    main()

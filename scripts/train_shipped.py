"""Train the models that come with the program, from templates to files.

    python scripts/train_shipped.py --templates DIR --work DIR [--polnet DIR] [--only NAME] [--tomograms N] [--banks N]

DIR with templates holds 4v4r.mrc and 3j9i.mrc; --work takes the simulated tomograms (32 MB each) and may be used again;
--polnet names a folder of PolNet results, never trained on, whose figures go into the cards.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.io import read_labelled, write_polnet_tomogram
from napari_orient.engine.parameters import (
    NetworkOptions,
    SimulationOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.particles import Labelled, concatenate
from napari_orient.engine.prediction import Model, predict
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.streams import Step, Stream, run
from napari_orient.engine.templates import load_template
from napari_orient.engine.training.train import train
from napari_orient.engine.training.validation import Milestone

CHECKPOINTS = Path(__file__).parents[1] / "src" / "napari_orient" / "checkpoints"
COUNTS = {"pdb_4v4r": 150, "pdb_3j9i": 90}
FIRST_SEED = 1000

RECIPES = {
    "ribosome-mlp": (NetworkOptions(), TrainingOptions(), "512 nodes, masked front end"),
    "ribosome-4x32": (
        NetworkOptions(width=32, dropout=0.0),
        TrainingOptions(epochs=50, shift=0.0),
        "the paper's 4 × 32 nodes and 6D output behind the masked front end",
    ),
}

BANKS = {
    "ribosome": ("4v4r", "C1", "matches with the average of simulated ribosomes; the default"),
    "proteasome": (
        "3j9i",
        "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926",
        "matches with the average of simulated proteasomes, D7 about the axes of 3j9i.mrc",
    ),
}
"""Class, symmetry and summary; labels of simulated particles are exact, so that no round of refinement follows."""
BANK_SEED, BANK_JUDGES = 17, 4
"""Tomograms kept apart to judge and to calibrate by: what one says of expected errors is chance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--polnet", type=Path)
    parser.add_argument("--tomograms", type=int, default=110)
    parser.add_argument("--banks", type=int, default=16, help="tomograms of a bank, four of them to judge it by")
    parser.add_argument("--only", choices=[*RECIPES, *BANKS], help="train this one alone")
    options = parser.parse_args()
    simulate_all(options.templates, options.work, options.tomograms)
    for name in [options.only] if options.only else [*RECIPES, *BANKS]:
        code, count = (BANKS[name][0], options.banks) if name in BANKS else ("4v4r", options.tomograms)
        model = learnt(name, particles_of(options.work, code)[:count])
        model = with_card(model, data=f"{count} tomograms simulated from 4v4r.mrc and 3j9i.mrc")
        if options.polnet:
            polnet = figures(model, particles_of(options.polnet, code))
            model = with_card(model, figures={**model.card["figures"], "polnet": polnet})
        model.save(CHECKPOINTS / f"{name}.safetensors")
        print(name, model.card["figures"], flush=True)


def simulate_all(templates: Path, work: Path, count: int) -> None:
    maps = [load_template(templates / f"{code.removeprefix('pdb_')}.mrc") for code in COUNTS]
    work.mkdir(parents=True, exist_ok=True)
    for index in range(1, count + 1):
        if list(work.glob(f"Tomo{index:03d}/*_motif_list.csv")):
            continue
        pair = run(simulate(maps, SimulationOptions(), seed=FIRST_SEED + index, counts=list(COUNTS.values())))
        write_polnet_tomogram(work, *pair, index=index)
        print(f"simulated {index} of {count}", flush=True)


def particles_of(folder: Path, code: str) -> Labelled:
    return [(tomogram, particles.of_kind(code)) for tomogram, particles in read_labelled(folder)]


def learnt(name: str, labelled: Labelled) -> Model:
    if name in RECIPES:
        network, training, summary = RECIPES[name]
        return with_card(trained(train(labelled, network, training, name=name)), summary=summary)
    _, group, summary = BANKS[name]
    options = TemplateTrainingOptions.of(validation=BANK_JUDGES / len(labelled), seed=BANK_SEED)
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

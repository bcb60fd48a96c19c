"""Train the checkpoints that come with the program, from templates to files.

    python scripts/train_shipped.py --templates DIR --work DIR [--polnet DIR]

DIR with templates holds 4v4r.mrc and 3j9i.mrc; --work takes the simulated tomograms (32 MB each) and may be used again;
--polnet names a folder of PolNet results, never trained on, whose figures go into the cards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.files import read_labelled, write_polnet_tomogram
from napari_orient.engine.networks import Checkpoint, NetworkOptions
from napari_orient.engine.particles import concatenate
from napari_orient.engine.prediction import predict
from napari_orient.engine.simulation import SimulationOptions, load_template, simulate
from napari_orient.engine.tasks import run
from napari_orient.engine.training import Epoch, Labelled, TrainingOptions, train

CHECKPOINTS = Path(__file__).parents[1] / "src" / "napari_orient" / "checkpoints"
COUNTS = {"pdb_4v4r": 150, "pdb_3j9i": 90}
FIRST_SEED = 1000

RECIPES = {
    "ribosome": (NetworkOptions(), TrainingOptions(), "512 nodes, masked front end; the default"),
    "ribosome-4x32": (
        NetworkOptions(width=32, dropout=0.0),
        TrainingOptions(epochs=50, shift=0.0),
        "the paper's 4 × 32 nodes and 6D output behind the masked front end",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--polnet", type=Path)
    parser.add_argument("--tomograms", type=int, default=110)
    parser.add_argument("--only", choices=RECIPES, help="train this one alone")
    options = parser.parse_args()
    simulate_all(options.templates, options.work, options.tomograms)
    labelled = ribosomes(options.work)[: options.tomograms]
    for name in [options.only] if options.only else RECIPES:
        network, training, summary = RECIPES[name]
        checkpoint = trained(name, labelled, network, training)
        source = f"{options.tomograms} tomograms simulated from 4v4r.mrc and 3j9i.mrc"
        checkpoint = checkpoint.with_card(summary=summary, data=source)
        if options.polnet:
            polnet = figures(checkpoint, ribosomes(options.polnet))
            checkpoint = checkpoint.with_card(figures={**checkpoint.card["figures"], "polnet": polnet})
        checkpoint.save(CHECKPOINTS / f"{name}.safetensors")
        print(name, checkpoint.card["figures"], flush=True)


def simulate_all(templates: Path, work: Path, count: int) -> None:
    maps = [load_template(templates / f"{code.removeprefix('pdb_')}.mrc") for code in COUNTS]
    work.mkdir(parents=True, exist_ok=True)
    for index in range(1, count + 1):
        if list(work.glob(f"Tomo{index:03d}/*_motif_list.csv")):
            continue
        pair = run(simulate(maps, SimulationOptions(), seed=FIRST_SEED + index, counts=list(COUNTS.values())))
        write_polnet_tomogram(work, *pair, index=index)
        print(f"simulated {index} of {count}", flush=True)


def ribosomes(folder: Path) -> Labelled:
    return [(tomogram, particles.of_kind("4v4r")) for tomogram, particles in read_labelled(folder)]


def trained(name: str, labelled: Labelled, network: NetworkOptions, training: TrainingOptions) -> Checkpoint:
    stream = train(labelled, network, training, name=name)
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            return end.value
        if isinstance(step, Epoch):
            print(f"{step.message}, loss {step.training_loss:.5f} / {step.validation_loss:.5f}", flush=True)


def figures(checkpoint: Checkpoint, labelled: Labelled) -> dict[str, object]:
    """What the command line's evaluate says of tomograms that were never trained on."""
    predicted = [run(predict(tomogram, particles, checkpoint)) for tomogram, particles in labelled]
    report = evaluate(concatenate(predicted), concatenate([particles for _, particles in labelled]))
    shares = {f"within_{angle}": round(share, 4) for angle, share in report.all.within.items()}
    return {"count": report.all.count, "median_deg": round(report.all.median_deg, 2), **shares}


if __name__ == "__main__":
    main()

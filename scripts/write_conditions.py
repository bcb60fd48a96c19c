"""Write figures under realistic conditions into the cards of shipped models, as `napari-orient models` prints them.

    python benchmarks/realism.py --templates DIR --json results.json --models ribosome ribosome-mlp proteasome
    python scripts/write_conditions.py results.json

A short table is written: the conditions below that were measured, all seeds of each together. Nothing else of a model's
file changes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_orient.engine.model_files import CONDITIONS, ModelFile, shipped_models

CHECKPOINTS = Path(__file__).parents[1] / "src" / "napari_orient" / "checkpoints"

SHOWN = {
    "plain": "no CTF",
    "proteasome": "no CTF",
    "ribosome80S": "no CTF",
    "ctf5": "CTF 5 µm",
    "ctf3.5": "CTF 3.5 µm",
    "proteasome_ctf3.5": "CTF 3.5 µm",
    "ribosome80S_ctf3.5": "CTF 3.5 µm",
    "ctf2": "CTF 2 µm",
    "ctf3.5_deconvolved": "CTF 3.5 µm, deconvolved",
    "noise3": "noise × 3",
    "ribosome80S_noise3": "noise × 3",
    "noise5": "noise × 5",
    "noise9": "noise × 9",
    "ctf3.5_noise1.7": "CTF 3.5 µm, noise × 1.7",
    "vox7.84": "voxels of 7.84 Å",
    "vox13.6": "voxels of 13.6 Å",
    "pm50by2": "tilts ±50° by 2°",
    "gold": "gold beads",
    "cell": "cell, 30 % false picks",
    "bright": "particles bright",
    "com": "picks at the centre of mass",
    "gauss2": "Gaussian of 2 voxels",
    "reallike_mid": "boxes as of real cells, another species",
}
"""Conditions of the table, in order, and their names in it."""


def main() -> None:
    """Write the tables of all shipped models that were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="file that benchmarks/realism.py wrote by --json")
    results = json.loads(parser.parse_args().results.read_text())
    for name in shipped_models():
        table = table_of(name, results)
        if table:
            found = ModelFile.read(name)
            changed = replace(found, card={**found.card, CONDITIONS: table})
            changed.write(CHECKPOINTS / f"{name}.safetensors")
            print(f"{name}: {len(table)} conditions")


def table_of(model: str, results: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Figures by the name of the condition."""
    table = {}
    for condition, words in SHOWN.items():
        outcomes = [row for key, row in results.items() if key.split("/")[::2] == [condition, model]]
        error = np.concatenate([np.zeros(0), *(row["error_deg"] for row in outcomes)])
        expected = np.concatenate([np.zeros(0), *(row["expected_deg"] for row in outcomes)])
        if len(error):
            ratio = np.sqrt(np.square(expected).mean() / np.square(error).mean())
            table[words] = {
                "particles": len(error),
                "within_20": round(float((error <= 20).mean()), 4),
                "median_deg": round(float(np.median(error)), 2),
                "expected_over_true": round(float(ratio), 2),
            }
    return table


if __name__ == "__main__":
    main()

"""Tomograms drawn at random, two to five changes of the conditions at once: where is the program wrong and sure?

    python benchmarks/combinations.py --templates DIR --cache FOLDER --seeds 2000-2029 [--json FILE]
        [--models refine ...] [--without CHANGE ...] [--list] [--discover]

A seed draws a particle, two to five of `CHANGES`, and the tomogram; DIR and FOLDER are those of `conditions.py`,
columns and models those of `realism.py`. --without leaves changes out, to find the one that matters: the specimen stays
the same. With --json results are kept, and what is there is not measured again.

A line for each tomogram and model: its particle and changes; n, ≤ 5°, ≤ 20°, median, bound, expected over true error
(rms); wrong poses and how many the confidences leave open; sure ones, of these wrong; false picks, of these passed;
warnings. At the end: how many are wrong beside what is left open, in standard deviations of so many independent poses,
and the ten worst by that.

--discover makes of each tomogram's picks what they show by themselves, and nothing else: `few` is no change then, 30
particles more are put in, and lines and columns are those of `discovery_conditions.py`.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import (
    CROWD,
    EUKARYOTIC,
    LARGE_SUBUNIT,
    MITOCHONDRIAL,
    MYCOPLASMA,
    PROTEASOME,
    RIBOSOME,
    Condition,
    scene,
)
from discovery_conditions import figures, summary, words
from realism import SURE_DEG, WRONG_DEG, Outcome, bound, measured

from napari_orient.engine.parameters import DiscoveryOptions

Changes = dict[str, Any]
"""What a change sets of a `Condition`; options of the simulation under their own names in ``options``."""


@dataclass(frozen=True)
class Kind:
    """A particle that is drawn.

    Parameters
    ----------
    templates : one of them, drawn at random, is measured; ``refine`` has the particle's own map.
    diameter : Å.
    noise : the largest factor of the noise that leaves it some information.
    weight : how often it is drawn.
    networks : that are measured too.
    """

    templates: tuple[str, ...]
    diameter: float
    noise: float
    weight: float
    networks: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    RIBOSOME: Kind(("refine", "ribosome"), 300, 5, 3, ("ribosome-mlp",)),
    EUKARYOTIC: Kind(("refine", "ribosome-80S"), 330, 5, 2),
    PROTEASOME: Kind(("refine", "proteasome"), 190, 1.7, 2),
    LARGE_SUBUNIT: Kind(("refine",), 300, 4, 1),
    MITOCHONDRIAL: Kind(("refine",), 340, 5, 1),
    MYCOPLASMA: Kind(("refine", "ribosome"), 320, 4, 1),
    "4cr2": Kind(("refine",), 300, 2, 1),
    "6utj": Kind(("refine",), 250, 2, 1),
    "2uv8": Kind(("refine",), 290, 4, 1),
    "7n4y": Kind(("refine",), 260, 1.5, 1),
    "1f4a": Kind(("refine",), 190, 1, 0.5),
    "6pxm": Kind(("refine",), 140, 1, 0.5),
}
_THICKNESS = 800.0
"""Å of the plain tomogram's thickness."""
_SHARE_FILLED = 0.4
"""Of the volume by the cubes that hold a particle each, at the most: as many as chains of them reach."""
_NARROWEST = 1200.0
"""Å along x and y, at the least."""
_BOUND_OF = 6
"""Particles that the bound is computed of."""
_MORE_TO_DISCOVER = 30
"""Particles that a tomogram has more to be discovered: of fewer than 40 no symmetry is searched for."""
_WITH_METADATA = 1 / 3
"""Share of the tomograms whose tilt metadata a template is given."""


# --- changes ----------------------------------------------------------------------------------------------------------


def _ctf(rng: np.random.Generator, kind: Kind) -> Changes:
    correction = rng.choice(["none", "none", "flipped", "premultiplied", "wiener", "deconvolved"])
    options = {"defocus": round(rng.uniform(1.8, 5.0), 1), "ctf_correction": str(correction)}
    if rng.random() < 0.5:
        options |= {"dose": 3.0, "astigmatism": 0.3, "mean_free_path": 310.0, "height_defocus": True}
    return {"options": options}


def _noise(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"noise": round(float(kind.noise ** rng.uniform(0.2, 1)), 1)}}


def _tilts(rng: np.random.Generator, kind: Kind) -> Changes:
    drawn = (
        {"tilt_range": 50.0, "tilt_step": 2.0},
        {"lowest_tilt": -40.0, "tilt_step": 2.0},
        {"tilt_range": 54.0, "lowest_tilt": -61.0},
        {"missing_tilts": 6},
        {"tilt_axis": "x"},
    )
    return {"options": drawn[rng.integers(len(drawn))]}


def _axis(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"axis_angle": round(rng.uniform(-45, 45)), "level_angle": round(rng.uniform(-6, 6))}}


def _voxel(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"voxel_size": round(rng.uniform(6, 16 if kind.diameter > 250 else 12), 2)}}


def _gold(rng: np.random.Generator, kind: Kind) -> Changes:
    options: Changes = {"gold": int(rng.integers(4, 16))}
    if rng.random() < 0.4:
        options["gold_second_diameter"] = float(rng.choice([50.0, 150.0]))
    if rng.random() < 0.3:
        options["gold_touching"] = 2
    return {"options": options}


def _cell(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"membranes": 1, "vesicles": 2, "filaments": 3}}


def _proteins(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"other_particles": 8}, "others": CROWD}


def _grey(rng: np.random.Generator, kind: Kind) -> Changes:
    drawn = (
        {"added_ramp": 10.0},
        {"multiplied_ramp": 3.0},
        {"eight_bit": True, "clip": 2.5},
        {"local_normalisation": 25},
    )
    return {"options": drawn[rng.integers(len(drawn))]}


def _contrast(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"options": {"contrast": "bright"}}


def _filter(rng: np.random.Generator, kind: Kind) -> Changes:
    drawn = (
        {"options": {"denoising": "gaussian", "denoising_strength": 1.5}},
        {"options": {"denoising": "median"}},
        {"options": {"denoising": "tv", "denoising_strength": 1.0}},
        {"denoiser": "nlm"},
        {"denoiser": "wiener"},
    )
    return dict(drawn[rng.integers(len(drawn))])


def _picks(rng: np.random.Generator, kind: Kind) -> Changes:
    drawn = ({"off": 15.0}, {"picks": "mass"}, {"off": 4.0}, {"shifted": 0.5}, {"shifted": -0.5})
    return dict(drawn[rng.integers(len(drawn))])


def _few(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"few": int(rng.integers(3, 11))}


def _false(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"false_picks": round(rng.uniform(0.1, 0.5), 2)}


def _doubled(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"doubled": round(rng.uniform(0.2, 0.5), 1)}


def _faces(rng: np.random.Generator, kind: Kind) -> Changes:
    return {"cropped": int(rng.integers(8, 15))}


CHANGES: Mapping[str, Callable[[np.random.Generator, Kind], Changes]] = {
    "ctf": _ctf,
    "noise": _noise,
    "tilts": _tilts,
    "axis": _axis,
    "voxel": _voxel,
    "gold": _gold,
    "cell": _cell,
    "proteins": _proteins,
    "grey": _grey,
    "contrast": _contrast,
    "filter": _filter,
    "picks": _picks,
    "few": _few,
    "false": _false,
    "doubled": _doubled,
    "faces": _faces,
}


# --- drawing ----------------------------------------------------------------------------------------------------------


def drawn(seed: int, without: Sequence[str] = (), *, more: int = 0) -> tuple[Condition, tuple[str, ...]]:
    """The condition that a seed draws, without some of its changes, and the models that are measured with it.

    Parameters
    ----------
    more : particles beyond those that are drawn.
    """
    rng, weights = np.random.default_rng([seed, 7]), np.array([kind.weight for kind in KINDS.values()])
    stem = list(KINDS)[rng.choice(len(KINDS), p=weights / weights.sum())]
    kind, count = KINDS[stem], int(rng.integers(15, 50)) + more
    ratio = rng.uniform(1, 1.8)
    chosen = rng.permutation(list(CHANGES))[: rng.integers(2, 6)].tolist()
    streams = dict(zip(CHANGES, rng.spawn(len(CHANGES)), strict=True))
    options: Changes = {}
    fields: Changes = {"others": ()}
    for name in (item for item in CHANGES if item in chosen and item not in without):
        change = CHANGES[name](streams[name], kind)
        options |= change.pop("options", {})
        fields |= change
    label = f"{stem}: " + ", ".join(_words({**options, **{key: fields[key] for key in fields if fields[key]}}))
    name = f"combination{seed}" + "".join(f"_without_{item}" for item in sorted(set(without) & set(chosen)))
    name += f"_and{more}" if more else ""
    fields["options"] = {**_size(kind, count, ratio, options.get("voxel_size", 10.0), fields), **options}
    template, metadata = str(rng.choice(kind.templates)), rng.random() < _WITH_METADATA and "metadata" not in without
    models = (f"{template}+tilts" if metadata else template, *kind.networks)
    return Condition(name, label, counts={stem: count}, picked=(stem,), **fields), models


def _size(kind: Kind, count: int, ratio: float, voxel: float, fields: Changes) -> Changes:
    """Sizes of a tomogram for so many particles, its width so many times its height."""
    room = count * kind.diameter**3 / _SHARE_FILLED / _THICKNESS
    height = max(_NARROWEST, float(np.sqrt(room / ratio)))
    more = 2 * fields.get("cropped", 0)
    sizes = {"size_x": height * ratio, "size_y": height, "size_z": _THICKNESS}
    return {name: round(length / voxel / 2) * 2 + more for name, length in sizes.items()}


def _words(changes: Changes) -> Iterator[str]:
    for name, value in changes.items():
        if name == "others":
            continue
        yield name if value is True else f"{name} {value}"


# --- measuring --------------------------------------------------------------------------------------------------------


def outcomes(
    condition: Condition, models: Sequence[str], given: argparse.Namespace, kept: dict[str, Any], seed: int
) -> Iterator[tuple[str, Outcome]]:
    """Each model and what it makes of the tomogram, from the file of results where it is there."""
    models = [model for model in models if not given.models or model.partition("+")[0] in given.models]
    missing = [model for model in models if f"{condition.name}/{model}" not in kept]
    if missing:
        found = scene(condition, given.templates, seed=seed, cache=given.cache)
        limit = kept.get(f"{condition.name}/bound") or bound(found, given.templates, aligned=False, most=_BOUND_OF)
        kept[f"{condition.name}/bound"] = limit
        for model in missing:
            try:
                got = measured(found, model, given.templates)
            except Exception:
                # A crash is what is looked for; the next tomogram is drawn all the same.
                got = Outcome(refused="CRASH " + traceback.format_exc().splitlines()[-1])
                traceback.print_exc()
            kept[f"{condition.name}/{model}"] = vars(got)
        if given.json:
            given.json.write_text(json.dumps(kept) + "\n")
    for model in models:
        yield model, replace(Outcome(**kept[f"{condition.name}/{model}"]), blurred_deg=kept[f"{condition.name}/bound"])


def discovered(condition: Condition, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What is made of a tomogram's picks alone."""
    made, began = scene(condition, given.templates, seed=seed, cache=given.cache), time.process_time()
    options = DiscoveryOptions.of(device="cpu", seed=seed, diameter=KINDS[condition.picked[0]].diameter)
    row = figures(made, options, given.templates)
    return {"condition": condition.what, "seed": seed, **row, "seconds": time.process_time() - began}


@dataclass(frozen=True)
class Tally:
    """Poses of one or more outcomes: how many are wrong, and how many are left open."""

    wrong: int
    left_open: float
    variance: float
    sure: int
    sure_wrong: int
    false: int
    passed: int
    n: int

    @classmethod
    def of(cls, found: Sequence[Outcome]) -> Tally:
        """The poses of these outcomes together."""
        error, expected, confidence, false = (
            np.concatenate([np.asarray(getattr(item, name), float) for item in found] or [np.zeros(0)])
            for name in ("error_deg", "expected_deg", "confidence", "false_confidence")
        )
        wrong, sure = error > WRONG_DEG, expected < SURE_DEG
        return cls(
            int(wrong.sum()),
            float((1 - confidence).sum()),
            float((confidence * (1 - confidence)).sum()),
            int(sure.sum()),
            int((sure & wrong).sum()),
            len(false),
            int((false > 0.5).sum()),
            len(error),
        )

    @property
    def deviation(self) -> float:
        """Wrong poses beyond those left open, in standard deviations."""
        return (self.wrong - self.left_open) / max(self.variance, 1e-4) ** 0.5

    @property
    def words(self) -> str:
        """The tally in a few words."""
        passed = f", {self.passed} of {self.false} false pass" if self.false else ""
        wrong = f"{self.wrong} wrong of {self.left_open:.1f} ({self.deviation:+.1f})"
        return f"{wrong}, {self.sure} sure, {self.sure_wrong} of these wrong{passed}"


def line(found: Outcome) -> str:
    """The figures of one model on one tomogram."""
    if found.refused:
        return found.refused
    error, expected = np.asarray(found.error_deg), np.asarray(found.expected_deg)
    odd = int((~np.isfinite([*error, *expected, *found.confidence, *found.false_confidence])).sum())
    return (
        f"n {len(error):3d}  ≤5 {100 * (error <= 5).mean():3.0f}  ≤20 {100 * (error <= 20).mean():3.0f}  "
        f"median {np.median(error):5.1f}  bound {_rms(found.blurred_deg):4.1f}  "
        f"ratio {_rms(expected) / max(_rms(error), 1e-6):4.2f}  {Tally.of([found]).words}"
        + (f"  {odd} NOT FINITE" if odd else "")
        + "".join(f"\n        ! {text[:150]}" for text in found.warnings)
    )


def _rms(values: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder of tomograms, made where they are missing")
    parser.add_argument("--seeds", nargs="+", default=["1000"], metavar="FIRST-LAST")
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--without", nargs="+", default=[], choices=[*CHANGES, "metadata"])
    parser.add_argument("--json", type=Path, help="file of results, read and added to")
    parser.add_argument("--list", action="store_true", help="print what is drawn and make nothing")
    parser.add_argument("--discover", action="store_true", help="poses and maps from the picks alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.discover:
        _discover(given)
        return
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    results: list[tuple[str, str, Outcome]] = []
    for seed in (number for text in given.seeds for number in _seeds(text)):
        condition, models = drawn(seed, given.without)
        print(f"{seed}  {condition.what}", flush=True)
        if given.list:
            continue
        started = time.process_time()
        for model, found in outcomes(condition, models, given, kept, seed):
            results.append((f"{seed} {condition.what}", model, found))
            print(f"    {model:<15} {line(found)}", flush=True)
        print(f"    {time.process_time() - started:.0f} s", flush=True)
    if results:
        _summary(results)


def _discover(given: argparse.Namespace) -> None:
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = []
    for seed in (number for text in given.seeds for number in _seeds(text)):
        condition, _ = drawn(seed, [*given.without, "few"], more=_MORE_TO_DISCOVER)
        if given.list:
            print(f"{seed}  {condition.what}")
            continue
        if condition.name not in kept:
            kept[condition.name] = discovered(condition, given, seed)
        rows.append(kept[condition.name])
        print(words(rows[-1]), flush=True)
        if given.json:
            given.json.write_text(json.dumps(kept, indent=1) + "\n")
    made = [{**row, "condition": "all"} for row in rows if "refused" not in row]
    print("\n".join(summary(made)) if made else "")


def _summary(results: Sequence[tuple[str, str, Outcome]]) -> None:
    print("\nTotals")
    for name in dict.fromkeys(model.partition("+")[0] for _, model, _ in results):
        tally = Tally.of([found for _, model, found in results if model.partition("+")[0] == name])
        print(f"    {name:<15} n {tally.n}  {tally.words}")
    tally = Tally.of([found for *_, found in results])
    print(f"    {'all':<12} n {tally.n}  {tally.words}\nWorst by deviation")
    for what, model, found in sorted(results, key=lambda item: -Tally.of([item[2]]).deviation)[:10]:
        print(f"    {model:<15} {Tally.of([found]).words}   {what}")


if __name__ == "__main__":
    main()

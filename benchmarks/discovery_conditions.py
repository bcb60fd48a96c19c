"""Discovery from picks alone under the conditions of real tomograms: groups, verdicts, poses, false picks.

    python benchmarks/discovery_conditions.py --templates DIR --cache FOLDER [--conditions plain ctf3.5 cell]
        [--null noise | places] [--then plain ...] [--first 0] [--seeds 20] [--set search=1000 ...] [--json FILE]

Conditions, DIR and FOLDER are those of `benchmarks/conditions.py`: 70 ribosomes (4v4r, no symmetry) in a tomogram, and
whatever the condition adds. Poses are compared with the true ones up to one common rotation and the particle's own
symmetry. A row for each run: group and verdict; shares of the particles within 20° and 5°, and their median error; how
many are sure and wrong (expected below 10°, off by more than 20°); how many with a confidence above one half were
found `MISPLACED` or farther off, up to one common offset; of the false picks, how many have a confidence above one
half; Å to which the map correlates with the true one to 0.5 (`average_truth.py`), and its halves with each other; and
whether the map is said to be its own mirror image, beside the true map's correlation with its own at that detail. A run
that is in the file of --json already is not made again.

An expected error is a mean over right and wrong (`orientExpectedErrorDeg`), so it is compared in two parts: the error
if right (`orientErrorIfRightDeg`) with the true one, rms, of those within 20° whose confidence is above one half; and
how many are wrong with how many the confidences leave open, the sum of 1 - confidence. The expected error itself is
compared over all ribosomes, rms, as in `benchmarks/realism.py`. Of those alone that turn out right it would be too
large however honest: a chance of 2 % of being wrong by 100° is an rms of 14°.

With --then the template that comes of a discovery finds the picks of other tomograms, of these conditions and the seed
after; a line of the same figures for each.

With --null there is nothing to be found, and the row says what the verdict rests on: `noise` is Gaussian, of the
tomogram's own power spectrum; `places` are random ones in the tomogram, far from the particles in question but not from
anything else. Every pose that is sure there is wrong.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from average_truth import true_resolution
from conditions import CONDITIONS, GROUPS, Condition, Scene, scene, template_of
from scipy import fft

from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.output import Discovery
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.discovery.structures import hand_note
from napari_orient.engine.discovery.verdict import NOTHING
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import ERROR_IF_RIGHT
from napari_orient.engine.model.grid import radial_frequencies
from napari_orient.engine.model.map_symmetry import search_mirror_image
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

_WRONG_DEG, _SURE_DEG = 20.0, 10.0
NULLS = ("noise", "places")
AWAY = 300.0
"""Å from any particle in question at which `places` begin: the diameter."""
MARGIN = 100.0
"""Å from the tomogram's edge."""
MISPLACED = 30.0
"""Å from where a particle is, from which its pose is another place's."""
_OWN_MIRROR_NOTE = hand_note(1.0).split("(", maxsplit=1)[0]


def measured(condition: Condition, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The figures of one run."""
    made, began = scene(condition, given.templates, seed=seed, cache=given.cache), time.process_time()
    made = made if given.null is None else with_nothing(made, given.null, np.random.default_rng([seed, 2]))
    usual = DiscoveryOptions().to_record()
    chosen = {name: type(usual[name])(value) for name, value in (item.split("=", 1) for item in given.set)}
    options = DiscoveryOptions.of(**{**usual, "device": "cpu", "seed": seed, **chosen})
    row = {"condition": _label(condition.name, given.null), "seed": seed}
    nothing, then = given.null is not None, [_named(name) for name in given.then]
    others = [scene(item, given.templates, seed=seed + 1, cache=given.cache) for item in then]
    return {**row, **figures(made, options, given.templates, nothing=nothing, others=others), **_seconds(began)}


def _named(name: str) -> Condition:
    return next(condition for condition in CONDITIONS if condition.name == name)


def _seconds(began: float) -> dict[str, float]:
    return {"seconds": time.process_time() - began}


def figures(
    made: Scene, options: DiscoveryOptions, templates: Path, *, nothing: bool = False, others: Sequence[Scene] = ()
) -> dict[str, Any]:
    """What comes of a scene's picks; of ``nothing``, how many poses pass. Where it is refused, why.

    Parameters
    ----------
    others : scenes whose picks the discovered template is to find.
    """
    try:
        found = run(discover([(made.tomogram, made.picks.replace(rotations=None))], options))
    except InputError as error:
        return {"refused": str(error)}
    return {
        "starts": found.starts,
        "verdict": found.grade,
        "group": " ".join(item.group.name for item in found.structures) or "-",
        "notes": [*(note for item in found.structures for note in item.symmetry_notes)],
        "agreement": [item.verdict.agreement for item in found.structures],
        "kept": [item.verdict.kept for item in found.structures],
        "determined": [item.verdict.determined for item in found.structures],
        **(_sure(found) if nothing else {**scored(made, found), **_map(made, found, options, templates)}),
        "predictions": [_predicted(found, other) for other in others if found.grade != NOTHING],
    }


def _predicted(found: Discovery, other: Scene) -> dict[str, Any]:
    """The figures of another scene's picks, found with the discovered template."""
    result = run(refine(other.tomogram, other.picks.replace(rotations=None), found.template()))
    return {"in": other.condition.name, "warnings": [str(text) for text in result.warnings], **scored(other, result)}


def _label(condition: str, null: str | None) -> str:
    return condition if null is None else f"{condition}, {null}"


def with_nothing(made: Scene, null: str, rng: np.random.Generator) -> Scene:
    """The scene without what is to be found: as noise, or with as many picks at other places."""
    tomogram, picks = made.tomogram, made.picks
    if null == "noise":
        density = np.asarray(tomogram.density, np.float32)
        power = np.abs(np.fft.rfftn(density - density.mean())) / np.sqrt(density.size)
        white = np.fft.rfftn(rng.normal(size=density.shape))
        noise = np.fft.irfftn(white * power, s=density.shape, axes=(0, 1, 2)).astype(np.float32)
        return replace(made, tomogram=replace(tomogram, density=noise))
    size = np.array(tomogram.extent.size) * tomogram.voxel_size
    tried = rng.uniform(MARGIN, size - MARGIN, (20_000, 3))
    far = np.linalg.norm(tried[:, None] - made.truth.positions[None], axis=-1).min(1) > AWAY
    chosen = tried[far][: len(picks)]
    return replace(made, picks=picks.take(np.arange(len(chosen))).replace(positions=chosen))


def _sure(found: Discovery) -> dict[str, float]:
    """How many poses pass where none is right."""
    expected, confidence = np.asarray(found.particles.expected_error_deg), np.asarray(found.particles.confidence)
    return {
        "particles": len(expected),
        "sure": int((expected < _SURE_DEG).sum()),
        "passed": int((confidence > 0.5).sum()),
    }


def scored(made: Scene, found: Discovery | RefinementResult) -> dict[str, float]:
    """How right the poses are, how honest their errors, and how many false picks pass."""
    true, particles = np.asarray(made.is_true), found.particles
    group = symmetry(GROUPS.get(made.condition.picked[0], "C1"))
    rotations = particles.required_rotations()[true]
    truth = made.truth.required_rotations()[true[: len(made.truth)]]
    own_frame = global_rotation(truth, rotations, group, near_deg=25.0 if len(group) == 1 else 12.0)
    error = symmetric_angle_deg(rotations @ own_frame, truth, group)
    expected, confidence = np.asarray(particles.expected_error_deg), np.asarray(particles.confidence)
    right = error <= _WRONG_DEG
    answered = right & (confidence[true] > 0.5)
    if_right = np.asarray(particles.extra.get(ERROR_IF_RIGHT, expected), float)[true]
    off = _off(rotations, particles.positions[true] - made.truth.positions[true[: len(made.truth)]], answered)
    return {
        "particles": int(true.sum()),
        "within_20": float(right.mean()),
        "within_5": float((error <= 5).mean()),
        "median_deg": float(np.median(error)),
        "sure": int((expected[true] < _SURE_DEG).sum()),
        "sure_and_wrong": int(((expected[true] < _SURE_DEG) & ~right).sum()),
        "right_but_unsure": int((right & (confidence[true] <= 0.5)).sum()),
        "misplaced": int(((off >= MISPLACED) & (confidence[true] > 0.5)).sum()),
        "false": int((~true).sum()),
        "false_passed": int((confidence[~true] > 0.5).sum()),
        "wrong": int((~right).sum()),
        "left_open": float((1 - confidence[true]).sum()),
        "expected_over_true": _rms(expected[true]) / _rms(error),
        "if_right_over_true": _rms(if_right[answered]) / _rms(error[answered]) if answered.any() else 0.0,
    }


def _off(rotations: np.ndarray, offsets: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Å by which positions are off, (N,), beyond what all have in common in the particle's frame: the map's origin."""
    if not answered.any():
        return np.zeros(len(offsets))
    in_frame = np.einsum("nji,nj->ni", rotations, offsets)
    return np.linalg.norm(in_frame - np.median(in_frame[answered], axis=0), axis=1)


def _map(made: Scene, found: Discovery, options: DiscoveryOptions, templates: Path) -> dict[str, Any]:
    """How far the map is right and its halves agree; whether it is said to be its own mirror image, and the true one's
    correlation with its own.
    """
    if not found.structures:
        return {}
    best, true = found.structures[0], template_of(templates, made.condition.picked[0])
    size = true.voxel_size
    passed = radial_frequencies(len(true.density), size) < 1 / best.average.fsc.resolution(0.143)
    density = fft.ifftn(fft.fftn(true.density) * passed).real.astype(np.float32)
    correlation = run(search_mirror_image(density, size, halves=(density, density), radius=options.radius))
    claimed = any(note.startswith(_OWN_MIRROR_NOTE) for note in best.symmetry_notes)
    right, halves = true_resolution(best.average, true, radius=options.radius), best.average.fsc.resolution(0.5)
    return {"own_mirror": claimed, "true_mirror": correlation, "right_to": right, "halves_to": halves}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def words(row: dict[str, Any]) -> str:
    """A row in a line."""
    if "refused" in row:
        return f"{row['condition']} seed {row['seed']}: refused: {row['refused']}"
    if "passed" in row:
        shares = ", ".join(f"{name} {value:.0%}" for name in ("agreement", "kept", "determined") for value in row[name])
        return (
            f"{row['condition']} seed {row['seed']}: {row['verdict']}, {row['starts']} starts, {row['seconds']:.0f} s; "
            f"{shares}; sure {row['sure']} of {row['particles']}, passed {row['passed']}"
        )
    head = f"{row['condition']} seed {row['seed']}: {row['group']}, {row['verdict']}, {row['starts']} starts, "
    predictions = [
        f"\n    its template in {item['in']}, seed {row['seed'] + 1}: {_pose_words(item)}"
        + "".join(f"\n        ! {text[:150]}" for text in item["warnings"])
        for item in row.get("predictions", [])
    ]
    own = f"; own mirror image {row['own_mirror']}, truly {row['true_mirror']:.2f}" if "own_mirror" in row else ""
    if "right_to" in row:
        own += f"; map right to {row['right_to']:.0f} Å, halves agree to {row['halves_to']:.0f} Å"
    return head + f"{row['seconds']:.0f} s; " + _pose_words(row) + own + "".join(predictions)


def _pose_words(row: dict[str, Any]) -> str:
    return (
        f"≤ 20° {row['within_20']:.1%}, ≤ 5° {row['within_5']:.1%}, median "
        f"{row['median_deg']:.2f}°; sure {row['sure']} of {row['particles']}, of these wrong {row['sure_and_wrong']}; "
        f"wrong {row['wrong']}, left open {row['left_open']:.1f}; right but unsure {row['right_but_unsure']}; "
        f"misplaced {row['misplaced']}; false picks passed {row['false_passed']} of "
        f"{row['false']}; expected ÷ true {row['expected_over_true']:.2f}, if "
        f"right {row['if_right_over_true']:.2f}"
    )


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Each condition over its seeds, in a row of a table."""
    nulls, rows = [row for row in rows if "passed" in row], [row for row in rows if "passed" not in row]
    for row in nulls:
        yield words(row)
    yield (
        "| condition | seeds | groups | verdicts | ≤ 20° | median | error if right over true | wrong, left open | "
        "expected over true | sure, of these wrong | false picks passed |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(row["condition"] for row in rows):
        own = [row for row in rows if row["condition"] == name]
        groups, verdicts = ([row[key] for row in own] for key in ("group", "verdict"))
        columns = ("within_20", "median_deg", "if_right_over_true", "expected_over_true")
        within, median, if_right, expected = ([row[key] for row in own] for key in columns)
        keys = ("wrong", "left_open", "sure", "sure_and_wrong", "false", "false_passed")
        sums = {key: sum(row[key] for row in own) for key in keys}
        cells = (
            name,
            str(len(own)),
            _counted(groups),
            _counted(verdicts),
            f"{min(within):.1%} to {max(within):.1%}",
            f"{min(median):.2f}° to {max(median):.2f}°",
            f"{min(if_right):.2f} to {max(if_right):.2f}",
            f"{sums['wrong']}, {sums['left_open']:.1f}",
            f"{min(expected):.2f} to {max(expected):.2f}",
            f"{sums['sure']}, {sums['sure_and_wrong']}",
            f"{sums['false_passed']} of {sums['false']}",
        )
        yield f"| {' | '.join(cells)} |"


def _counted(values: list[str]) -> str:
    return ", ".join(f"{value} {values.count(value)}" for value in dict.fromkeys(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--conditions", nargs="+", default=["plain", "ctf3.5", "cell"])
    parser.add_argument("--null", choices=NULLS, help="what takes the place of particles")
    parser.add_argument("--then", nargs="*", default=[], help="conditions of tomograms that its template is tried on")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of the discovery")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    for seed in range(given.first, given.first + given.seeds):
        for name in given.conditions:
            if not any(row["condition"] == _label(name, given.null) and row["seed"] == seed for row in rows):
                rows.append(measured(_named(name), given, seed))
                print(words(rows[-1]), flush=True)
                if given.json:
                    given.json.write_text(json.dumps(rows, indent=1))
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()

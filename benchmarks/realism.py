"""Every model of ours under the conditions of real tomograms, in one table.

    python benchmarks/realism.py --templates DIR [--conditions WORD ...] [--models ribosome ribosome-mlp refine ...]
        [--seeds 0 ...] [--cache FOLDER] [--json FILE] [--markdown]

`conditions.py` has the conditions and says what DIR and FOLDER hold. Models: the shipped ones by name, ``refine`` (with
the map that the particles were made of) and ``discover`` (scored up to one rotation); MODEL+tilts gives a template the
tilt series too (--cache is needed). A model of proteasomes or 80S ribosomes is measured where these are picked, the
others elsewhere. With --json every result is kept there at once, and what is there is not measured again; --again
measures it anew.

n: true picks. ≤ 5°, ≤ 20°: share of them. wrong: poses off by more than 20°, and how many the confidences leave open,
which is the sum of 1 - confidence. median: error. bound: the least root-mean-square error that the tilt
images leave where their alignment is known; where they are as misaligned as simulated (`image_bound.py`). ratio:
expected over true error (rms), then in each quarter of the expected one. sure: poses with an expected error below 10°,
and how many of these are off by more than 20°. false: false picks, and how many of these get a confidence above 0.5.
said: warnings. s: processor seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from conditions import (
    EUKARYOTIC,
    GROUPS,
    LARGE_SUBUNIT,
    LARGE_SUBUNIT_FRAME,
    MITOCHONDRIAL,
    PROTEASOME,
    RIBOSOME,
    Condition,
    Scene,
    chosen,
    scene,
    template_of,
)
from image_bound import image_bound

from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.search import align_map, global_rotation
from napari_orient.engine.errors import InputError
from napari_orient.engine.parameters import DiscoveryOptions, PredictionOptions, RefinementOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.simulation.microscope import exposure, tilt_series
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template

MODELS = ("ribosome", "refine", "ribosome-mlp", "proteasome", "ribosome-80S")
_OWN_TEMPLATE = {PROTEASOME: "proteasome", EUKARYOTIC: "ribosome-80S"}
"""Models of particles that no other model is of."""
SURE_DEG, WRONG_DEG = 10.0, 20.0
_BOUND_OF = 24
"""Particles that the bound is computed of."""
_RADIUS = 140.0
"""Å of the ball in which two ribosomes' maps are laid over each other."""


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a scene, or why it makes nothing of it.

    Parameters
    ----------
    error_deg, expected_deg, confidence : of the true picks.
    false_confidence : of the false picks.
    warnings : one line each.
    bound_deg, blurred_deg : of some particles, in images whose shifts are known and in images blurred by them.
    seconds : of processor time.
    """

    error_deg: Sequence[float] = ()
    expected_deg: Sequence[float] = ()
    confidence: Sequence[float] = ()
    false_confidence: Sequence[float] = ()
    warnings: Sequence[str] = ()
    bound_deg: Sequence[float] = ()
    blurred_deg: Sequence[float] = ()
    seconds: float = 0.0
    refused: str = ""


# --- measuring --------------------------------------------------------------------------------------------------------


def suits(model: str, condition: Condition) -> bool:
    """Whether a model is of the particles that are picked."""
    name, picked = model.partition("+")[0], condition.picked[0]
    if name in ("refine", "discover"):
        return True
    return name == _OWN_TEMPLATE[picked] if picked in _OWN_TEMPLATE else name not in _OWN_TEMPLATE.values()


def measured(found: Scene, model: str, templates: Path) -> Outcome:
    """The outcome of a model on a scene."""
    started = time.process_time()
    warnings: list[str] = []
    try:
        poses = _noted(_poses(found, model, templates), warnings)
    except InputError as error:
        return Outcome(refused=str(error), seconds=time.process_time() - started)
    seconds = time.process_time() - started
    is_true = found.is_true
    true = found.truth.take(is_true[: len(found.truth)])
    truth = true.required_rotations()
    # A subunit among whole ribosomes is scored in their frame.
    subunits = (np.asarray(true.kind) == f"pdb_{LARGE_SUBUNIT}") & (found.condition.picked[0] != LARGE_SUBUNIT)
    truth[subunits] = truth[subunits] @ LARGE_SUBUNIT_FRAME
    mine = poses.required_rotations()[is_true] @ _frame(found, model, templates)
    group = symmetry(GROUPS.get(found.condition.picked[0], "C1"))
    if model == "discover":
        mine = mine @ global_rotation(truth, mine, near_deg=25.0)
    expected, confidence = (
        np.full(len(is_true), np.nan) if column is None else np.asarray(column)
        for column in (poses.expected_error_deg, poses.confidence)
    )
    return Outcome(
        error_deg=_rounded(symmetric_angle_deg(mine, truth, group)),
        expected_deg=_rounded(expected[is_true]),
        confidence=_rounded(confidence[is_true], 4),
        false_confidence=_rounded(confidence[~is_true], 4),
        warnings=warnings,
        seconds=round(seconds, 1),
    )


def _poses(found: Scene, model: str, templates: Path) -> Stream[Step, Particles]:
    picks = found.picks.replace(rotations=None)
    name, _, given = model.partition("+")
    tilts = {"tilts": str(found.folder / "tomograms.star")} if given and found.folder else {}
    if name == "refine":
        template = template_of(templates, found.condition.picked[0])
        return _refined(found, picks, template, RefinementOptions.of(device="cpu", **tilts))
    if name == "discover":
        return _discovered(found, picks)
    return predict(found.tomogram, picks, load_model(name), PredictionOptions.of(device="cpu", **tilts))


def _refined(found: Scene, picks: Particles, template: Template, options: RefinementOptions) -> Stream[Step, Particles]:
    answer = yield from refine(found.tomogram, picks, template, options)
    return answer.particles


def _discovered(found: Scene, picks: Particles) -> Stream[Step, Particles]:
    options = DiscoveryOptions.of(device="cpu", seed=found.seed)
    answer = yield from discover([(found.tomogram, picks)], options)
    return answer.particles


def _noted(stream: Stream[Step, Particles], warnings: list[str]) -> Particles:
    """The answer of a stream, whose warnings are gathered on the way."""
    while True:
        try:
            warnings += [note.text for note in next(stream).notes if note.severity == "warning"]
        except StopIteration as end:
            return end.value


def _frame(found: Scene, model: str, templates: Path) -> np.ndarray:
    """The rotation (3, 3) from a model's frame to that of the truth: not 1 where the maps are of two species."""
    kind = found.condition.picked[0]
    own = {RIBOSOME, PROTEASOME, MITOCHONDRIAL, EUKARYOTIC}
    is_own = kind in own or model.startswith(("refine", "discover"))
    return np.eye(3) if is_own else _between(templates, RIBOSOME, kind)


@cache
def _between(templates: Path, first: str, second: str) -> np.ndarray:
    model, target = (template_of(templates, stem) for stem in (first, second))
    rotation, _ = align_map(
        model.density,
        target.density,
        voxel_size=model.voxel_size,
        target_voxel_size=target.voxel_size,
        radius=_RADIUS,
    )
    return rotation


def bound(found: Scene, templates: Path, *, aligned: bool, most: int = _BOUND_OF) -> list[float]:
    """The bound of some of the scene's particles, degrees; none where no microscope is simulated."""
    options = found.condition.simulation()
    if not options.is_physical:
        return []
    rng = np.random.default_rng(0)
    exposed = exposure(options, tilt_series(options, rng), shifts=rng, errors=rng)
    template = template_of(templates, found.condition.picked[0])
    rotations = found.truth.required_rotations()
    rows = np.unique(np.linspace(0, len(rotations) - 1, most).astype(int))
    return _rounded(image_bound(template, rotations[rows], exposed, aligned=aligned))


def _rounded(values: np.ndarray, digits: int = 3) -> list[float]:
    return np.round(np.asarray(values, float), digits).tolist()


# --- the table --------------------------------------------------------------------------------------------------------

COLUMNS = (
    *("condition", "model", "n", "≤ 5°", "≤ 20°", "wrong", "median", "bound", "ratio"),
    *("by quarter", "sure", "false", "said", "s"),
)


def row(condition: Condition, model: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """One line of the table: all seeds of a condition together."""
    refused = [item.refused for item in outcomes if item.refused]
    if refused:
        return (condition.what, model, *[""] * 10, f"refused: {refused[0]}", "")
    error, expected, confidence, of_false = (
        np.concatenate([np.asarray(getattr(item, name), float) for item in outcomes])
        for name in ("error_deg", "expected_deg", "confidence", "false_confidence")
    )
    limits = [[value for item in outcomes for value in getattr(item, name)] for name in ("bound_deg", "blurred_deg")]
    sure = expected < SURE_DEG
    said = sorted({_short(text) for item in outcomes for text in item.warnings})
    return (
        condition.what,
        model,
        str(len(error)),
        f"{100 * (error <= 5).mean():.0f} %",
        f"{100 * (error <= WRONG_DEG).mean():.0f} %",
        f"{(error > WRONG_DEG).sum()} of {(1 - confidence).sum():.1f}",
        f"{np.median(error):.1f}°",
        "; ".join(f"{_rms(each):.1f}°" for each in limits if each),
        f"{_rms(expected) / _rms(error):.2f}",
        " ".join(f"{value:.2f}" for value in quarters(error, expected)),
        f"{sure.sum()}, {(sure & (error > WRONG_DEG)).sum()} wrong",
        f"{len(of_false)}, {(of_false > 0.5).sum()} passed" if len(of_false) else "",
        "; ".join(said),
        f"{np.mean([item.seconds for item in outcomes]):.0f}",
    )


def quarters(error: np.ndarray, expected: np.ndarray) -> list[float]:
    """Expected over true error (rms) in each quarter of the expected one."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(4, len(error)))
    return [_rms(expected[part]) / max(_rms(error[part]), 1e-6) for part in parts]


def _rms(values: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _short(text: str, most: int = 60) -> str:
    first = text.split(". ", maxsplit=1)[0].split(": ", maxsplit=1)[0]
    return first if len(first) <= most else first[: most - 1] + "…"


def lines(rows: Sequence[tuple[str, ...]], *, markdown: bool) -> Iterator[str]:
    """The table as text."""
    if markdown:
        yield "| " + " | ".join(COLUMNS) + " |"
        yield "|" + "---|" * len(COLUMNS)
        yield from ("| " + " | ".join(item) + " |" for item in rows)
        return
    widths = [max(len(item[k]) for item in (COLUMNS, *rows)) for k in range(len(COLUMNS))]
    for item in (COLUMNS, *rows):
        yield "  ".join(text.ljust(width) for text, width in zip(item, widths, strict=True)).rstrip()


# --- the run ----------------------------------------------------------------------------------------------------------


def outcome(
    condition: Condition, seed: int, model: str, given: argparse.Namespace, kept: dict[str, Mapping[str, object]]
) -> Outcome:
    """The outcome of a model, from the file of results where it is there."""
    key, limit = f"{condition.name}/{seed}/{model}", f"{condition.name}/{seed}/bound"
    if key not in kept or limit not in kept or given.again:
        found = scene(condition, given.templates, seed=seed, cache=given.cache)
        kept[key] = vars(measured(found, model, given.templates))
        if limit not in kept:
            names = {"bound_deg": True, "blurred_deg": False}
            kept[limit] = {name: bound(found, given.templates, aligned=each) for name, each in names.items()}
        if given.json:
            given.json.write_text(json.dumps(kept) + "\n")
    return Outcome(**{**kept[key], **kept[limit]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", metavar="WORD", help="those whose names begin with one of these")
    parser.add_argument("--exact", action="store_true", help="those of exactly these names, in this order")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path, help="folder of tomograms, made where they are missing")
    parser.add_argument("--json", type=Path, help="file of results, read and added to")
    parser.add_argument("--again", action="store_true", help="measure what the file of results has already")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = []
    for condition in chosen(given.conditions, exact=given.exact):
        for model in (item for item in given.models if suits(item, condition)):
            outcomes = [outcome(condition, seed, model, given, kept) for seed in given.seeds]
            rows.append(row(condition, model, outcomes))
            if not given.markdown:
                print("\n".join(lines(rows[-1:], markdown=False)).splitlines()[-1], flush=True)
    if not rows:
        parser.error(f"none of {', '.join(given.models)} can be measured under these conditions; choose other --models")
    print("\n".join(lines(rows, markdown=given.markdown)))


if __name__ == "__main__":
    main()

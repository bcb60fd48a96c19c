"""What the goals come to, from files of results of `realism.py`.

    python benchmarks/goals.py RESULTS.json [RESULTS.json ...] [--seeds 52] [--rows]

A network: under each condition 90 % of the poses within 20°, a median of at most 8°, and expected over true error
(rms) from 0.75 to 1.3; or a warning. A template: 99 % within 20°, expected over true error from 0.8 to 1.25 in each
quarter of the expected one, and of 1,000 poses with an expected error below 10° at most one off by more than 20°.
Shares and medians are of each condition, ratios of all conditions of a heading together: first quarters of all
tomograms with each other, and so on. `±` is the deviation by chance over particles: the same seed has the same specimen
under all conditions, so particles are drawn, with all conditions that they are in. `!` is outside. With --rows what
every condition has is printed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conditions import CONDITIONS
from conditions_page import GROUPS
from realism import SURE_DEG, WRONG_DEG, suits

TEMPLATES, NETWORK = ("ribosome", "proteasome", "ribosome-80S"), ("ribosome-mlp",)
MODELS = (*TEMPLATES, *NETWORK)
LEAST_WITHIN = {"network": 0.9, "template": 0.99}
MOST_MEDIAN_DEG = 8.0
RATIOS = {"network": (0.75, 1.3), "template": (0.8, 1.25)}
MOST_SURE_WRONG = 0.001
_BOXES = "Boxes as real ones"
_DRAWS = 400
"""Draws of particles that a deviation is of."""


@dataclass(frozen=True)
class Result:
    """What a model makes of one tomogram: errors and expected errors (N,) in degrees, open wrong poses, warnings."""

    condition: str
    heading: str
    seed: int
    model: str
    error: np.ndarray
    expected: np.ndarray
    left_open: float
    warned: bool

    @property
    def kind(self) -> str:
        """Network or template."""
        return "network" if self.model in NETWORK else "template"

    @property
    def quarters(self) -> list[np.ndarray]:
        """Rows of each quarter of the expected error."""
        return np.array_split(np.argsort(self.expected, kind="stable"), 4)


def results(kept: Mapping[str, Mapping], seeds: Sequence[int]) -> Iterator[Result]:
    """The results of shipped models in files; the mirrored tomogram stands apart."""
    for condition in CONDITIONS:
        heading = next(title for title, names in GROUPS.items() if re.fullmatch(names, condition.name))
        for model in (item for item in MODELS if suits(item, condition) and condition.name != "mirror"):
            for seed in seeds:
                found = kept.get(f"{condition.name}/{seed}/{model}")
                if found is None or found.get("refused"):
                    continue
                columns = (np.asarray(found[name], float) for name in ("error_deg", "expected_deg", "confidence"))
                error, expected, confidence = columns
                left = float((1 - confidence).sum())
                yield Result(condition.name, heading, seed, model, error, expected, left, bool(list(found["warnings"])))


def ratio(parts: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Expected over true error (rms) of particles, given by number, expected and true error; and its deviation."""
    number, expected, error = (np.concatenate(column) for column in zip(*parts, strict=True))
    every, place = np.unique(number, return_inverse=True)
    sums = np.stack([np.bincount(place, values**2) for values in (expected, error)])
    draws = np.random.default_rng(0).integers(len(every), size=(_DRAWS, len(every)))
    drawn = np.sqrt(sums[0][draws].sum(1) / np.maximum(sums[1][draws].sum(1), 1e-9))
    whole = float(np.sqrt(sums[0].sum() / max(sums[1].sum(), 1e-9)))
    return whole, float(drawn.std())


def _particles(found: Sequence[Result], quarter: int | None) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    parts = []
    for item in found:
        rows = np.arange(len(item.error)) if quarter is None else item.quarters[quarter]
        parts.append((item.seed * 1000 + rows, item.expected[rows], item.error[rows]))
    return parts


def _fails(item: Result) -> bool:
    within, median = (item.error <= WRONG_DEG).mean(), np.median(item.error)
    short = within < LEAST_WITHIN[item.kind] or (item.kind == "network" and median > MOST_MEDIAN_DEG)
    return bool(short and not (item.kind == "network" and item.warned))


def _text(found: tuple[float, float], kind: str) -> str:
    low, high = RATIOS[kind]
    return f"{found[0]:.2f} ± {found[1]:.2f}" + ("" if low <= found[0] <= high else " !")


def lines(found: Sequence[Result], *, rows: bool) -> Iterator[str]:
    """The goals under each heading, and what fails them."""
    for kind in LEAST_WITHIN:
        yield f"{kind}: heading | conditions, particles | fail | wrong, of open | sure, wrong | ratio | by quarter"
        mine = [item for item in found if item.kind == kind]
        for title in (*GROUPS, ""):
            some = [item for item in mine if item.heading == title or (not title and item.heading != _BOXES)]
            if some:
                yield f"  {title or 'all but boxes'} | " + " | ".join(_cells(some, kind))
        for item in mine:
            if rows or _fails(item):
                yield "    " + _row(item)


def _cells(some: Sequence[Result], kind: str) -> Iterator[str]:
    wrong = sum(int((item.error > WRONG_DEG).sum()) for item in some)
    sure = sum(int((item.expected < SURE_DEG).sum()) for item in some)
    sure_wrong = sum(int(((item.expected < SURE_DEG) & (item.error > WRONG_DEG)).sum()) for item in some)
    yield f"{len({item.condition for item in some})}, {sum(len(item.error) for item in some)}"
    yield f"{len({item.condition for item in some if _fails(item)})}"
    yield f"{wrong} of {sum(item.left_open for item in some):.1f}"
    yield f"{sure}, {sure_wrong}" + (" !" if sure_wrong > MOST_SURE_WRONG * max(sure, 1000) else "")
    yield _text(ratio(_particles(some, None)), kind)
    yield " ".join(_text(ratio(_particles(some, quarter)), kind) for quarter in range(4))


def _row(item: Result) -> str:
    whole = ratio(_particles([item], None))
    return (
        f"{item.condition} {item.seed} {item.model}: {(item.error <= WRONG_DEG).mean():.0%} within {WRONG_DEG:.0f}°, "
        f"median {np.median(item.error):.1f}°, {int((item.error > WRONG_DEG).sum())} wrong of {item.left_open:.1f}, "
        f"ratio {_text(whole, item.kind)}{', warned' if item.warned else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[52])
    parser.add_argument("--rows", action="store_true")
    given = parser.parse_args()
    kept = {key: value for path in given.results for key, value in json.loads(path.read_text()).items()}
    print("\n".join(lines(list(results(kept, given.seeds)), rows=given.rows)))


if __name__ == "__main__":
    main()

"""The tables of docs/conditions.md, and what docs/real-data.md sums up of them, from files of results of `realism.py`.

    python benchmarks/conditions_page.py RESULTS.json [RESULTS.json ...] [--docs FOLDER] [--seed 30]

Each condition counts with the seed given, boxes as real ones with it and the next two. Of `refine` only these boxes are
shown. What has no result is named, and no page is written then. Sums that the pages' sentences cite are printed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from conditions import CONDITIONS, Condition
from realism import COLUMNS, SURE_DEG, WRONG_DEG, Outcome, row, suits

GROUPS = {
    "Contrast transfer and dose": "plain|polnet|dose|ctf[0-9.]+(_(?!noise).*)?",
    "Tilts and voxels": "pm50by2|m40p60by2|missing5|axis.*|vox.*|header5",
    "Noise": "(ctf3.5_)?noise.*",
    "What else is in the tomogram": "membranes|filaments|proteins|gold.*|cell.*",
    "Picks": "few.*|com",
    "At the faces": "faces.*",
    "Particles": "(proteasome|ribosome80S).*|mix.*|flex.*|mirror|bright",
    "Filters and file formats": "int8.*|ramp.*|gauss.*|median.*|tv.*|nlm.*|denoised.*|local.*",
    "Boxes as real ones": "reallike.*",
}
"""Headings, and the names of their conditions."""
MODELS = ("ribosome", "proteasome", "ribosome-80S", "refine", "ribosome-mlp")
KINDS = {"refine": "own map", "ribosome-mlp": "network"}
"""Words for models in sums; all others are templates."""
_RULED = 6.9
"""Deviations beyond which poses were called unknown by a rule: on a bead, or more than half outside."""
_MIXED = "mix"
"""Beginning of conditions whose other particles are no false picks: another ribosome looks like one."""
_ORDER = ("condition", "model", "n", "≤ 5°", "≤ 20°", "median", "bound", "wrong", "sure", "ratio", "by quarter")
_TITLES = {"wrong": "wrong, of open", "sure": "sure, wrong", "false": "false, passed", "said": "warned of"}


@dataclass(frozen=True)
class Row:
    """A model under a condition: its outcomes, one a seed."""

    condition: Condition
    model: str
    outcomes: Sequence[Outcome]

    @property
    def cells(self) -> dict[str, str]:
        """Texts of the row, by the columns' names."""
        texts = dict(zip(COLUMNS, row(self.condition, self.model, self.outcomes), strict=True))
        said = _merged({text for text in texts["said"].split("; ") if text})
        return {
            **texts,
            "model": f"`{self.model}`",
            "sure": texts["sure"].replace(" wrong", ""),
            "false": texts["false"].replace(" passed", ""),
            "said": "; ".join(said),
        }

    def column(self, name: str) -> np.ndarray:
        """A column of the outcomes, all seeds together."""
        return np.concatenate([np.asarray(getattr(item, name), float) for item in self.outcomes])

    @property
    def wrong(self) -> np.ndarray:
        """Which poses are off by more than 20°."""
        return self.column("error_deg") > WRONG_DEG

    @property
    def sure(self) -> np.ndarray:
        """Which poses expect an error below 10°."""
        return self.column("expected_deg") < SURE_DEG

    @property
    def left_open(self) -> float:
        """Wrong poses that the confidences leave open."""
        return float((1 - self.column("confidence")).sum())

    @property
    def deviations(self) -> float:
        """Wrong poses beyond those left open, in standard deviations of their number."""
        confidence = self.column("confidence")
        spread = np.sqrt(max((confidence * (1 - confidence)).sum(), 1e-3))
        return float((self.wrong.sum() - self.left_open) / spread)


def _merged(texts: set[str]) -> Iterator[str]:
    """Warnings that differ in their numbers alone as one, with the range of each number."""
    for _, alike in groupby(sorted(texts, key=_masked), key=_masked):
        parts = [re.split(r"(\d+)", text) for text in alike]
        columns = [sorted(set(column), key=lambda item: (len(item), item)) for column in zip(*parts, strict=True)]
        yield "".join(column[0] if len(column) == 1 else f"{column[0]} to {column[-1]}" for column in columns)


def _masked(text: str) -> str:
    return re.sub(r"\d+", "0", text)


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of(conditions: Sequence[Condition], kept: Mapping[str, Mapping], seed: int) -> Iterator[Row | str]:
    """The rows of conditions; for one that has no result, its name."""
    for condition in conditions:
        seeds = range(seed, seed + 3) if condition.boxes else (seed,)
        for model in MODELS:
            if not suits(model, condition) or (model == "refine" and not condition.boxes):
                continue
            keys = [f"{condition.name}/{each}/{model}" for each in seeds]
            if missing := [key for key in keys if key not in kept]:
                yield ", ".join(missing)
                continue
            bounds = [kept.get(f"{condition.name}/{each}/bound", {}) for each in seeds]
            yield Row(
                condition, model, [Outcome(**{**kept[key], **bound}) for key, bound in zip(keys, bounds, strict=True)]
            )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The table of a heading; columns that are empty in all rows are left out."""
    cells = [item.cells for item in rows]
    names = [*_ORDER, *(name for name in ("false", "said") if any(cell[name] for cell in cells))]
    yield "| " + " | ".join(_TITLES.get(name, name) for name in names) + " |"
    yield "|" + "---|" * len(names)
    before = None
    for cell in cells:
        again = {"condition": "", "bound": ""} if cell["condition"] == before else {}
        before = cell["condition"]
        yield "| " + " | ".join({**cell, **again}[name] for name in names) + " |"


def summary(groups: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """The groups in short, a line for each kind of model; the mirrored tomogram stands apart."""
    titles = ("what differs", "model", "conditions, particles", "≤ 20°, worst", "≤ 5°, worst", "medians")
    titles = (*titles, "wrong, of open", "sure, wrong")
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for title, rows in groups.items():
        shown = title
        for kind in ("templates", "own map", "network"):
            mine = [item for item in rows if _kind(item) == kind and item.condition.name != "mirror"]
            if not mine:
                continue
            errors = [item.column("error_deg") for item in mine]
            worst = [min((error <= limit).mean() for error in errors) for limit in (WRONG_DEG, 5.0)]
            medians = sorted(float(np.median(error)) for error in errors)
            cells = [shown, kind, f"{len({item.condition.name for item in mine})}, {sum(map(len, errors))}"]
            cells += [f"{100 * share:.0f} %" for share in worst]
            cells += [f"{medians[0]:.1f} to {medians[-1]:.1f}°", *_sums(mine)]
            yield "| " + " | ".join(cells) + " |"
            shown = ""


def _kind(item: Row) -> str:
    return KINDS.get(item.model, "templates")


def _sums(rows: Sequence[Row]) -> tuple[str, str]:
    wrong, left = sum(item.wrong.sum() for item in rows), sum(item.left_open for item in rows)
    sure = sum(item.sure.sum() for item in rows), sum((item.sure & item.wrong).sum() for item in rows)
    return f"{wrong} of {left:.1f}", f"{sure[0]}, {sure[1]}"


def beyond_chance(rows: Sequence[Row]) -> Iterator[str]:
    """Rows whose number of wrong poses differs by more than two deviations from that left open."""
    yield "| condition | model | n | wrong | left open | deviations |"
    yield "|---|---|---|---|---|---|"
    for item in sorted(rows, key=lambda item: -item.deviations):
        if abs(item.deviations) > 2:
            cells = [item.condition.what, f"`{item.model}`", str(len(item.wrong)), str(item.wrong.sum())]
            cells += [f"{item.left_open:.1f}", _deviation_text(item.deviations)]
            yield "| " + " | ".join(cells) + " |"


def _deviation_text(deviations: float) -> str:
    """Deviations, or a dash where a rule calls right poses unknown: their confidence is no probability."""
    return "–" if abs(deviations) > _RULED else f"{deviations:.1f}".replace("-", "−")


# --- pages ------------------------------------------------------------------------------------------------------------


def replace_table(page: str, new: Sequence[str]) -> str:
    """The page with the table that has this one's first line replaced."""
    start = page.index(new[0])
    end = page.index("\n\n", start)
    return page[:start] + "\n".join(new) + page[end:]


def print_sums(groups: Mapping[str, Sequence[Row]]) -> None:
    rows = [item for items in groups.values() for item in items]
    print(f"{len(rows)} rows, {sum(abs(item.deviations) <= 2 for item in rows)} within two deviations")
    for kind in ("templates", "network"):
        mine = [
            item
            for item in rows
            if _kind(item) == kind and item.condition.name != "mirror" and not item.condition.boxes
        ]
        false = [item for item in mine if not item.condition.name.startswith(_MIXED)]
        passed = [value for item in false for value in item.column("false_confidence")]
        wrong, sure = _sums(mine)
        particles = sum(len(item.wrong) for item in mine)
        print(f"{kind}: {particles} particles, {wrong} open wrong; sure, wrong {sure}; ", end="")
        print(f"{len(passed)} false picks, {sum(value > 0.5 for value in passed)} passed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--seed", type=int, default=30)
    given = parser.parse_args()
    kept = {key: value for path in given.results for key, value in json.loads(path.read_text()).items()}
    found = {
        title: list(rows_of([item for item in CONDITIONS if re.fullmatch(names, item.name)], kept, given.seed))
        for title, names in GROUPS.items()
    }
    if missing := [item for items in found.values() for item in items if isinstance(item, str)]:
        sys.exit(f"No result of {'; '.join(missing)}.")
    groups = {title: [item for item in items if isinstance(item, Row)] for title, items in found.items()}
    every, real = given.docs / "conditions.md", given.docs / "real-data.md"
    head = every.read_text(encoding="utf-8").partition("\n## ")[0]
    parts = [f"## {title}\n\n" + "\n".join(table(rows)) for title, rows in groups.items()]
    every.write_text(head + "\n" + "\n\n".join(parts) + "\n", encoding="utf-8")
    page = replace_table(real.read_text(encoding="utf-8"), list(summary(groups)))
    rows = [item for items in groups.values() for item in items]
    real.write_text(replace_table(page, list(beyond_chance(rows))), encoding="utf-8")
    print_sums(groups)


if __name__ == "__main__":
    main()

"""What each decision layer of posing buys: every condition with the program as it is, and with one layer switched off.

    python benchmarks/ablation.py --templates DIR --cache FOLDER --json FILE [--layers NAME ...] [--seeds 37 38]
        [--cells CONDITION:MODEL ...] [--markdown]

`ablation_layers.txt` has two lines a layer: its name and what switches it off (attributes of the engine, and what this
script puts in their place while it measures; the engine has no such switches), and cells, CONDITION:MODEL, the one
that it was made for first. DIR and FOLDER are those of `conditions.py`, conditions and models those of `realism.py`;
`combination2041` is what that seed draws in `combinations.py`, `real` and `real_premultiplied` the boxes of `real.py`,
each measured once whatever the seeds. What FILE has is not measured again. --cells measures these for every layer.

Each figure is given without → with the layer. ≤ 5°, ≤ 20°: share of the true picks. wrong: off by more than 20°, and
how many the confidences leave open. sure, wrong: expected error below 10°, and how many of these are wrong. ratio:
expected over true error of the sure and right (rms). false: false picks with a confidence above 0.5. nats: what the
layer gains for 100 picks, ± its standard error, by two proper scores: the logarithm of the probability given to what
came out (within 20° or not; false picks are not), and, of poses within 20° either way, that of the density of their
error, Gaussian about three axes with the expected one. said: warnings that only one gives. s: processor seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import real
import torch
from combinations import drawn
from conditions import chosen, scene
from realism import SURE_DEG, WRONG_DEG, Outcome, measured

from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template


@dataclass(frozen=True)
class Layer:
    """A rule, correction, widening, veto or second try.

    Parameters
    ----------
    off : what it is switched off by: attributes, as ``module:name`` in the engine, and what stands in their place.
    cells : CONDITION:MODEL, its own condition first.
    """

    name: str
    off: Mapping[str, Any]
    cells: tuple[str, ...]

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The engine without this layer."""
        with ExitStack() as stack:
            for place, value in self.off.items():
                module, _, path = place.partition(":")
                *owners, name = path.split(".")
                owner: Any = importlib.import_module(f"napari_orient.engine.{module}")
                for item in owners:
                    owner = getattr(owner, item)
                stack.enter_context(patch.object(owner, name, value))
            yield


def constant(value: Any) -> Callable[..., Any]:
    """In the place of a function, one that always answers this."""
    return lambda *_, **__: value


def argument(index: int) -> Callable[..., Any]:
    """In the place of what changes an argument, or chooses between two."""
    return lambda *arguments, **_: arguments[index]


def stream(answer: Callable[..., Any]) -> Callable[..., Any]:
    """In the place of a stream, one that answers at once."""

    def replacement(*arguments: Any, **named: Any) -> Any:
        yield from ()
        return answer(*arguments, **named)

    return replacement


STANDINGS: Mapping[str, Any] = {
    "nothing": constant(None),
    "zero": constant(0.0),
    "no_text": constant(""),
    "no_low_score": constant(("", 1.0)),
    "typical_scale": constant(TYPICAL_LIKELIHOOD_SCALE),
    "smooth_gain": constant((Transfer(),)),
    "usual_noise": lambda fit, *_, **__: torch.ones_like(fit.score),
    "undivided": lambda inside: [np.argwhere(inside)],
    "near": lambda poses, *_, **__: np.zeros(len(poses.shifts), bool),
    "zeros_like_second": lambda _, values: torch.zeros_like(values),
    "first": argument(0),
    "second": argument(1),
    "no_stream": stream(constant(None)),
    "stream_of_one": stream(constant(1.0)),
    "stream_of_second": stream(argument(1)),
    "stream_of_fourth": stream(argument(3)),
    "no_prior": stream(lambda _, poses, *__, **___: (poses, torch.zeros_like(poses.score))),
}
"""What stands in the place of what is switched off; other words are numbers."""


def _layers() -> Iterator[Layer]:
    """The layers of the table, two lines each: name and what it is switched off by, and cells."""
    lines = Path(__file__).with_name("ablation_layers.txt").read_text().splitlines()
    for head, cells in zip(lines[::2], lines[1::2], strict=True):
        name, _, off = head.partition(" | ")
        places = (item.split() for item in off.split(", "))
        yield Layer(
            name,
            {place: STANDINGS[word] if word in STANDINGS else float(word) for place, word in places},
            tuple(cells.split()),
        )


LAYERS = tuple(_layers())
REAL = {"real": "ctfcorrected", "real_premultiplied": "premultiplied"}
"""Conditions that are the boxes of `real.py`, and which of these."""


# --- measuring --------------------------------------------------------------------------------------------------------


def outcome(cell: str, seed: int, given: argparse.Namespace) -> Outcome:
    """What a model makes of a condition."""
    name, _, model = cell.partition(":")
    if name in REAL:
        return of_real(REAL[name], model)
    seed = int(name.removeprefix("combination")) if name.startswith("combination") else seed
    condition = drawn(seed)[0] if name.startswith("combination") else chosen([name], exact=True)[0]
    return measured(scene(condition, given.templates, seed=seed, cache=given.cache), model, given.templates)


def of_real(kind: str, method: str) -> Outcome:
    """What a method makes of the real particles, all series, picks exact, without metadata."""
    folder, columns, started = real.data_folder() / "real" / "mpneumoniae_70S", [], time.process_time()
    for name in sorted(item.name.removesuffix("_truth.star") for item in folder.glob("*_truth.star")):
        series = real.Series(folder, name, kind)
        if method == "own":
            found = real.refined(series, series.picks(0.0, 0), given=False).particles
            rotations = found.required_rotations()
        else:
            model = load_model(method)
            found = run(predict(series.tomogram, series.picks(0.0, 0), model, PredictionOptions.of(device="cpu")))
            template = model if method != "ribosome-mlp" else load_template(str(model.classes[0]))
            rotations = real.to_truth_frame(found, template, real.own_map(folder))
        error = angle_deg(rotations, series.truth.required_rotations())
        columns.append((error, found.expected_error_deg, found.confidence))
    error, expected, confidence = (np.concatenate(column).tolist() for column in zip(*columns, strict=True))
    return Outcome(error, expected, confidence, seconds=round(time.process_time() - started, 1))


def kept_outcome(layer: Layer | None, cell: str, seed: int, given: argparse.Namespace, kept: dict[str, Any]) -> Outcome:
    """The outcome with one layer switched off, or none, from the file of results where it is there."""
    key = f"{layer.name if layer else 'with all'}/{cell}/{seed}"
    if key not in kept:
        with layer.switched_off() if layer else ExitStack():
            kept[key] = vars(outcome(cell, seed, given))
        given.json.write_text(json.dumps(kept) + "\n")
    return Outcome(**kept[key])


# --- the table --------------------------------------------------------------------------------------------------------

COLUMNS = ("layer", "condition", "n", "≤ 5°", "≤ 20°", "wrong", "sure, wrong", "ratio", "false", "nats", "said", "s")
_SURELY = 0.005
"""Least probability that a confidence is taken for: one pose that came out against 0.001 weighs no more than 5 nats."""
_LEAST_ERROR_DEG, _MOST_SQUARE = 0.3, 9.0
"""Degrees, least expected error of a density; largest square of true over expected error that counts."""


def row(layer: Layer, cell: str, without: Sequence[Outcome], with_all: Sequence[Outcome]) -> tuple[str, ...]:
    """One line of the table: all seeds of a cell together."""
    refused = [item.refused for item in (*without, *with_all) if item.refused]
    if refused:
        return (layer.name, cell, *[""] * 8, f"refused: {refused[0][:60]}", "")
    off, on = (Columns.of(found) for found in (without, with_all))
    said = [{_first_words(text) for item in found for text in item.warnings} for found in (without, with_all)]
    words = [f"{sign} {text}" for sign, texts in (("−", said[1] - said[0]), ("+", said[0] - said[1])) for text in texts]
    return (
        layer.name,
        cell,
        str(len(on.error)),
        f"{off.share(5)} → {on.share(5)} %",
        f"{off.share(WRONG_DEG)} → {on.share(WRONG_DEG)} %",
        f"{off.wrong} → {on.wrong}",
        f"{off.sure} → {on.sure}",
        f"{off.ratio:.2f} → {on.ratio:.2f}",
        f"{(off.false > 0.5).sum()} → {(on.false > 0.5).sum()} of {len(on.false)}" if len(on.false) else "",
        "{:+.0f} ± {:.0f}".format(*gain(off, on)),
        "; ".join(sorted(words)),
        f"{off.seconds:.0f} → {on.seconds:.0f}",
    )


@dataclass(frozen=True, eq=False)
class Columns:
    """Poses of some outcomes together: columns of the true picks, and the confidences of the false ones."""

    error: np.ndarray
    expected: np.ndarray
    confidence: np.ndarray
    false: np.ndarray
    seconds: float

    @classmethod
    def of(cls, found: Sequence[Outcome]) -> Columns:
        """Those of outcomes, one after the other."""
        names = ("error_deg", "expected_deg", "confidence", "false_confidence")
        columns = (np.concatenate([np.asarray(getattr(item, name), float) for item in found]) for name in names)
        return cls(*columns, float(np.mean([item.seconds for item in found])))

    def share(self, limit: float) -> str:
        """Per cent of the true picks within so many degrees."""
        return f"{100 * (self.error <= limit).mean():.0f}"

    @property
    def wrong(self) -> str:
        """Wrong poses, of how many are left open."""
        return f"{(self.error > WRONG_DEG).sum()} of {(1 - self.confidence).sum():.1f}"

    @property
    def sure(self) -> str:
        """Sure poses, and how many of these are wrong."""
        sure = self.expected < SURE_DEG
        return f"{sure.sum()}, {(sure & (self.error > WRONG_DEG)).sum()}"

    @property
    def ratio(self) -> float:
        """Expected over true error of the poses that are sure and right."""
        right = (self.error <= WRONG_DEG) & (self.expected < SURE_DEG)
        return float(np.sqrt(np.square(self.expected[right]).sum() / np.square(self.error[right]).sum()))

    def nats_of_outcome(self) -> np.ndarray:
        """Logarithm of the probability given to what came out, of true picks and then of false ones."""
        right = np.concatenate([self.error <= WRONG_DEG, np.zeros(len(self.false), bool)])
        given = np.concatenate([self.confidence, self.false]).clip(_SURELY, 1 - _SURELY)
        return np.log(np.where(right, given, 1 - given))

    def nats_of_error(self) -> np.ndarray:
        """Logarithm of the density of the true error, but for a constant, of true picks."""
        expected = self.expected.clip(_LEAST_ERROR_DEG)
        return -3 * np.log(expected) - 1.5 * np.square(self.error / expected).clip(max=_MOST_SQUARE)


def gain(off: Columns, on: Columns) -> tuple[float, float]:
    """Nats for 100 picks that the one gains over the other, and their standard error."""
    change = on.nats_of_outcome() - off.nats_of_outcome()
    both = (on.error <= WRONG_DEG) & (off.error <= WRONG_DEG)
    change[: len(both)] += np.where(both, on.nats_of_error() - off.nats_of_error(), 0.0)
    return 100 * float(change.mean()), 100 * float(change.std()) / len(change) ** 0.5


def _first_words(text: str, most: int = 40) -> str:
    return "".join(letter for letter in text if not letter.isdigit())[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of tomograms, made where they are missing")
    parser.add_argument("--json", type=Path, required=True, help="file of results, read and added to")
    parser.add_argument("--layers", nargs="+", choices=[layer.name for layer in LAYERS], metavar="NAME")
    parser.add_argument("--cells", nargs="+", metavar="CONDITION:MODEL")
    parser.add_argument("--seeds", nargs="+", type=int, default=[37, 38])
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    layers = [layer for layer in LAYERS if layer.name in (given.layers or [layer.name])]
    kept = json.loads(given.json.read_text()) if given.json.exists() else {}
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) if given.markdown else "\t".join(COLUMNS))
    for layer in layers:
        for cell in given.cells or layer.cells:
            single = cell.startswith("combination") or cell.partition(":")[0] in REAL
            seeds = given.seeds[:1] if single else given.seeds
            with_all, without = (
                [kept_outcome(item, cell, seed, given, kept) for seed in seeds] for item in (None, layer)
            )
            columns = row(layer, cell, without, with_all)
            print("| " + " | ".join(columns) + " |" if given.markdown else "\t".join(columns), flush=True)


if __name__ == "__main__":
    main()

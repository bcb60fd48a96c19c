"""List the models, networks and templates, that come with the program: what they learnt from, and how good they are.

Where a model was measured under realistic conditions (contrast transfer, noise, voxel sizes, surroundings), its card
has a table of them: share of the particles within 20° of the truth, median error, and expected over true error.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.arguments import Parser
from napari_orient.cli.next_command import say_next
from napari_orient.engine.model_files import CONDITIONS, DEFAULT_MODEL, shipped_models

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import Model

EXAMPLE = """\
  napari-orient models
  napari-orient models mine.safetensors"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME|FILE", help="which to list [default: all that are shipped]")


def outputs(_: Namespace) -> Sequence[Path]:
    """None: the cards are printed."""
    return ()


def perform(arguments: Namespace) -> None:
    """Print each card."""
    from napari_orient.engine.prediction.predict import load_model

    names = arguments.names or shipped_models()
    for name in names:
        print(*card_lines(load_model(name)), sep="\n")
    chosen = names[0] if arguments.names else DEFAULT_MODEL
    say_next("predict", "TOMOGRAM", "PICKS", "--model", chosen, "--output", "oriented.star")


def card_lines(model: Model) -> Iterator[str]:
    """Name, kind, options and card of a model, a line each."""
    yield f"{model.name} ({model.kind})"
    for title, content in {"options": model.options_record(), **model.card}.items():
        if title == CONDITIONS and isinstance(content, Mapping):
            yield f"  {title}:"
            yield from _table(content)
        else:
            yield f"  {title}: {_plain(content)}"


def _table(conditions: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The measured conditions, a line each."""
    width = max(map(len, conditions), default=0)
    for name, row in conditions.items():
        ratio = row.get("expected_over_true")
        yield (
            f"    {name:<{width}}  {100 * row['within_20']:5.1f} % within 20°, median {row['median_deg']:5.1f}°"
            + ("" if ratio is None else f", expected ÷ true {ratio:.2f}")
        )


def _plain(content: object) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {_plain(value)}" for name, value in content.items())
    if isinstance(content, list):
        return ", ".join(_plain(value) for value in content)
    return f"{content:.4g}" if isinstance(content, float) else str(content)

"""List the models, networks and templates, that come with the program: what they learnt from, and how good they are."""

from __future__ import annotations

from argparse import Namespace

from napari_orient.cli.arguments import Parser
from napari_orient.engine.model_files import shipped_models

EXAMPLE = """\
  napari-orient models
  napari-orient models mine.safetensors"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME|FILE", help="which to list [default: all that are shipped]")


def perform(arguments: Namespace) -> None:
    """Print each card."""
    from napari_orient.engine.prediction import load_model

    for name in arguments.names or shipped_models():
        model = load_model(name)
        print(f"{model.name} ({model.kind})")
        for title, content in {"options": model.options_record(), **model.card}.items():
            print(f"  {title}: {_plain(content)}")


def _plain(content: object) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{name} {_plain(value)}" for name, value in content.items())
    if isinstance(content, list):
        return ", ".join(_plain(value) for value in content)
    return f"{content:.4g}" if isinstance(content, float) else str(content)

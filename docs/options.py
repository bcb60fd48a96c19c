"""Write options.md: every option of every task, from the one place where it is declared.

Run: python docs/options.py
Or:  python docs/options.py --manifest
which prints the section `configurations` of napari.yaml instead, made of the Preferences of the docks.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from napari_orient.engine.options import Options, Parameter, Value
from napari_orient.engine.parameters import (
    TRAINABLE,
    AveragingOptions,
    DiscoveryOptions,
    PredictionOptions,
    RefinementOptions,
)
from napari_orient.engine.projects.distribution import SchedulerOptions
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.paper.options import ReproductionOptions

PAGE = Path(__file__).with_suffix(".md")


def page() -> str:
    """The whole page."""
    network, training = TRAINABLE["default"]
    paper_network, paper_training = TRAINABLE["paper"]
    mixture, simulated_training = TRAINABLE["simulated"]
    template, template_training = TRAINABLE["template"]
    lines = [
        "# Options",
        "",
        "Every option below is a flag of the command line (`size_x` is `--size-x`), a field of the Options class "
        "named, and, where there is a dock for the task, a row of its form. Values out of bounds are refused before "
        "any work starts.",
        "",
        "Options marked *expert* are those that most people never need: forms fold them away under **Advanced**, and "
        "the command line shows them by `--help-all`.",
        "",
        "This page is written by `python docs/options.py` from the declarations in the code.",
        *section("Simulation", "napari-orient simulate", SimulationOptions()),
        *section("Network", "napari-orient train", network, paper=paper_network),
        *section("Training", "napari-orient train", training, paper=paper_training),
        *section("Network from simulations", "napari-orient train --network simulated", mixture),
        *section("Training on simulations", "napari-orient train --network simulated", simulated_training),
        *section("Template", "napari-orient train --network template", template),
        *section("Averaging a template", "napari-orient train --network template", template_training),
        *section("Prediction", "napari-orient predict", PredictionOptions()),
        *section("Refinement", "napari-orient refine", RefinementOptions()),
        *section("Many tomograms", "napari-orient predict` and `refine", SchedulerOptions()),
        *section("Discovery", "napari-orient discover", DiscoveryOptions()),
        *section("Averaging", "napari-orient average", AveragingOptions()),
        *section("Reproduction", "napari-orient reproduce", ReproductionOptions()),
    ]
    return "\n".join(lines) + "\n"


def section(title: str, verb: str, options: Options, *, paper: Options | None = None) -> Iterator[str]:
    """One task's heading and table; with a column for the printed recipe where there is one."""
    yield from ("", f"## {title}", "", f"`{type(options).__name__}`, flags of `{verb}`.", "")
    yield "| option | default |" + (" `--network paper` |" if paper else "") + " expected | what it is |"
    yield "|---|---|" + ("---|" if paper else "") + "---|---|"
    for parameter in options.parameters():
        name = f"`{parameter.name}`" + (" *expert*" if parameter.expert else "")
        printed = f" {value(parameter.value_in(paper))} |" if paper else ""
        yield f"| {name} | {value(parameter.value_in(options))} |{printed} {parameter.expected} | {helped(parameter)} |"


def value(given: Value) -> str:
    """A value as a person writes it."""
    if isinstance(given, bool):
        return "yes" if given else "no"
    return "none" if given is None else f"{given:g}" if isinstance(given, float) else str(given)


def helped(parameter: Parameter) -> str:
    """The help as a cell of a table."""
    return parameter.help.replace("|", "\\|")


def manifest() -> str:
    """The section of napari.yaml that declares the docks' Preferences to napari, in its own layout."""
    from napari_orient.gui.preferences import configurations

    lines = ["  configurations:"]
    for key, section in configurations().items():
        lines += [f"    {key}:", f"      title: {section['title']}", "      properties:"]
        for name, schema in section["properties"].items():
            lines.append(f"        {name}:")
            plain = ("type", "title")
            lines += [
                f"          {word}: {value if word in plain else json.dumps(value, ensure_ascii=False)}"
                for word, value in schema.items()
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__" and "--manifest" in sys.argv[1:]:
    print(manifest(), end="")
elif __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

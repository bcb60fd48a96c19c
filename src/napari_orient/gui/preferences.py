"""Preferences, set once for all viewers in napari's Preferences, where napari has a page for plugins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import napari.settings

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, Parameter, option, suboptions
from napari_orient.engine.parameters import EffortOptions
from napari_orient.gui.colours import COLORMAPS, COLOURINGS, INKS, PREDICTED_INK, TRUE_INK

PLUGIN, SECTION = "napari-orient", "docks"
TITLE = "Docks and arrows"
"""Heading of the section on napari's page for plugins."""
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
"""What JSON schema calls the types of options."""


@dataclass(frozen=True, kw_only=True)
class DisplayOptions(Options):
    """How poses are displayed, as far as Preferences set it for all viewers."""

    length: float = option(200.0, help="length of an arrow; beside z, x and y are shorter", unit="Å", low=5, high=5000)
    slab: float = option(150.0, help="thickness of the slice shown in 2D; 0 is one voxel", unit="Å", low=0, high=10000)
    colour: str = option("role", help="what colours show: predicted and true, or a value", choices=COLOURINGS)
    colormap: str = option("plasma", help="colours of a value, from low to high", choices=COLORMAPS)
    predicted: str = option(PREDICTED_INK, help="colour of predicted poses", choices=tuple(INKS), expert=True)
    truth: str = option(TRUE_INK, help="colour of true poses", choices=tuple(INKS), expert=True)


@dataclass(frozen=True, kw_only=True)
class Preferences(Options):
    """Initial values of docks and views, made into the manifest's `configurations`; a viewer may change its own."""

    compute: ComputeOptions = suboptions(ComputeOptions)
    model: str = option("", help="model that Predict starts with: a name or a file; empty for the shipped one")
    effort: EffortOptions = suboptions(EffortOptions)
    display: DisplayOptions = suboptions(DisplayOptions)

    @classmethod
    def now(cls) -> Self:
        """What napari's Preferences say now; the defaults where this napari has no page for plugins."""
        try:
            section = _section()
            if section is None:
                return cls()
            # An option that the installed manifest does not know yet has its default.
            return cls.of(**{item.name: getattr(section, item.name, item.default) for item in cls.parameters()})
        except (KeyError, InputError):
            return cls()  # The plugin is not installed in this napari, or its settings were edited by hand.

    @staticmethod
    def listen(callback: Callable[..., None]) -> None:
        """Call a method, as long as it lives, whenever a preference has changed."""
        try:
            section = _section()
        except KeyError:
            return
        if section is not None:
            section.events.connect(callback)


def _section() -> Any:
    """The page of napari's Preferences, or None where this napari has none for plugins."""
    settings = getattr(napari.settings, "get_plugin_settings", None)
    return None if settings is None else getattr(settings(PLUGIN), SECTION)


def configurations() -> dict[str, Any]:
    """The manifest's ``contributions.configurations``: the page of Preferences, as JSON schema."""
    properties = {item.name: _schema(item) for item in Preferences.parameters()}
    return {SECTION: {"title": TITLE, "properties": properties}}


def _schema(item: Parameter) -> dict[str, Any]:
    """One option as JSON schema."""
    schema = {
        "type": _JSON_TYPES[item.type],
        "title": item.label,
        "default": item.default,
        "description": item.help[:1].upper() + item.help[1:],
        "enum": list(item.choices) or None,
        "minimum": item.low,
        "maximum": item.high,
    }
    return {name: value for name, value in schema.items() if value is not None}

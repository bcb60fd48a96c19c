"""What a person prefers, set once for all viewers in napari's Preferences, where napari has a page for plugins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import napari.settings

from napari_orient.engine.devices import DEVICES
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option
from napari_orient.engine.refinement.options import PRECISIONS
from napari_orient.gui.colours import COLORMAPS, COLOURINGS, INKS, PREDICTED_INK, TRUE_INK

PLUGIN, SECTION = "napari-orient", "docks"


@dataclass(frozen=True, kw_only=True)
class Preferences(Options):
    """Where docks and views begin; each viewer can be told otherwise. The manifest declares the same."""

    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)
    checkpoint: str = option("", help="network that Predict begins with: a name or a file; empty for the shipped one")
    precision: str = option("auto", help="of matching with a reference map", choices=PRECISIONS)
    length: float = option(200.0, help="length of an arrow", unit="Å", low=5, high=5000)
    slab: float = option(150.0, help="thickness of the slice shown in 2D", unit="Å", low=0, high=10000)
    colour: str = option("role", help="what the colours of arrows tell", choices=COLOURINGS)
    predicted: str = option(PREDICTED_INK, help="colour of predicted poses", choices=tuple(INKS))
    truth: str = option(TRUE_INK, help="colour of true poses", choices=tuple(INKS))
    colormap: str = option("plasma", help="colours of a value, from low to high", choices=COLORMAPS)

    @classmethod
    def now(cls) -> Self:
        """What napari's Preferences say now; the defaults where this napari has no page for plugins."""
        try:
            section = _section()
            if section is None:
                return cls()
            return cls.from_record({item.name: getattr(section, item.name) for item in cls.parameters()})
        except (KeyError, InputError):
            return cls()  # The plugin is not installed in this napari, or its settings were edited by hand.

    @staticmethod
    def listen(callback: Callable[..., None]) -> None:
        """Nothing; a method is called, as long as it lives, whenever something else is preferred."""
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

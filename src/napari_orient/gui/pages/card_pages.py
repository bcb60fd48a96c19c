"""Pages that are a choice of cards: poses, results, and how poses are drawn. A card is made when it is first shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from napari.components import ViewerModel

from napari_orient.gui.widgets import CardPage, Panel


class PosesPage(CardPage):
    """Three ways to poses: a model that knows the particle, picks alone, or a model that is taught."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Predict": ("Known model", "A model knows the particle: predict the orientations with a template or a network"),
        "Discover": ("Picks alone", "From picks alone: find the structure that the picks share, and every orientation"),
        "Train": ("Teach one", "Teach a model: train a network, or average a template, on labelled particles"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.discover_card import DiscoverCard
        from napari_orient.gui.pages.predict_card import PredictCard
        from napari_orient.gui.pages.train_card import TrainCard

        return {"Predict": PredictCard, "Discover": DiscoverCard, "Train": TrainCard}


class ResultPage(CardPage):
    """What is taken away: a list of the particles, their average, and a figure."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Export": ("Particle list", "Write the particles to a file of any program"),
        "Average": ("Average", "Average the particles in their poses, with half maps and FSC"),
        "Figure": ("Figure", "Save a figure for print: the view, the failure regions, the errors of each model"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.result_cards import AverageCard, ExportCard, FigureCard

        return {"Export": ExportCard, "Average": AverageCard, "Figure": FigureCard}


class ViewPage(CardPage):
    """Every option of how poses are drawn; the strip below the pages has those that are used most."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Arrows": ("Arrows", "Length, colours and filters of the arrows"),
        "Surface": ("Surfaces", "The reference at every pose"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.view_cards import ArrowsCard, SurfaceCard

        return {"Arrows": ArrowsCard, "Surface": SurfaceCard}

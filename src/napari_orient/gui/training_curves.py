"""Curves of a running training: losses above, validation errors below, the best model marked."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.training.network import Epoch
from napari_orient.engine.training.validation import Milestone
from napari_orient.gui.widgets import ACCENT, GOOD, WARNING
from napari_orient.gui.widgets.plot import Line, Mark, Plot

DRAW_INTERVAL = 0.2
"""Seconds between two updates of the curves, at least, so that painting does not slow the window."""

LOSS_HEIGHT = 140
"""Height in pixels of the plot of losses."""

ERROR_HEIGHT = 150
"""Height in pixels of the plot of errors, which is the one to decide by."""


class TrainingCurves(QWidget):
    """Mean and median validation error in degrees against epoch or reference; for epochs the losses too."""

    def __init__(self) -> None:
        super().__init__()
        self.milestones: list[Milestone] = []
        self._drawn = 0.0
        self.losses = Plot(x_label="epoch", y_label="loss", logarithmic=True, height=LOSS_HEIGHT)
        self.errors = Plot(x_label="epoch", y_label="error (°)", height=ERROR_HEIGHT)
        self.losses.setToolTip("Loss of the network's raw outputs, on training and validation particles")
        self.errors.setToolTip(
            "Angle between predicted and true rotation in degrees, on the validation tomograms. "
            "The best model has the smallest mean."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.losses)
        column.addWidget(self.errors)

    def begin(self) -> None:
        """Clear the curves for a new training."""
        self.milestones = []
        self._drawn = 0.0

    def add(self, milestone: Milestone) -> None:
        """Add a milestone; draw it now or with the next."""
        self.milestones.append(milestone)
        if time.monotonic() - self._drawn > DRAW_INTERVAL:
            self.show_milestones()

    @property
    def epochs(self) -> list[Epoch]:
        """The milestones that are epochs of a network: all of them, or none."""
        return [milestone for milestone in self.milestones if isinstance(milestone, Epoch)]

    @property
    def unit(self) -> str:
        """What is counted: epochs of a network, references of a template."""
        return "epoch" if self.epochs else "reference"

    @property
    def best_at(self) -> int:
        """Number, from 1, of the epoch or reference of the best model."""
        figures = self.best
        return int(figures["epoch"] if "epoch" in figures else figures["round"] + 1)

    @property
    def best(self) -> dict[str, float]:
        """Figures of the best model: epoch, median and mean validation error in degrees."""
        return dict(self.milestones[-1].model.card["figures"])

    def show_milestones(self) -> None:
        """Draw all milestones."""
        self._drawn = time.monotonic()
        epochs, milestones = self.epochs, self.milestones
        at = [milestone.done for milestone in milestones]
        across = (0.0, float(milestones[-1].total)) if milestones else None
        self.losses.setVisible(bool(epochs))
        self.losses.show_curves(
            [
                Line("training", ACCENT, at, [epoch.training_loss for epoch in epochs]),
                Line("validation", WARNING, at, [epoch.validation_loss for epoch in epochs]),
            ],
            x=across,
        )
        means = Line("mean", WARNING, at, [milestone.validation_mean_deg for milestone in milestones])
        medians = Line("median", WARNING, at, [milestone.validation_median_deg for milestone in milestones], pale=True)
        self.errors.x_label = self.unit
        self.errors.show_curves([means, medians], marks=[self._mark()] if milestones else (), x=across)

    def _mark(self) -> Mark:
        figures = self.best
        error = figures["validation_mean_deg"]
        return Mark(f"best {error:.1f}°", GOOD, self.best_at, error)

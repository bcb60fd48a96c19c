"""How training goes, drawn as it goes: losses above, validation errors below, the best so far marked."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.training.course import Epoch, Milestone
from napari_orient.gui.widgets import ACCENT, GOOD, WARNING
from napari_orient.gui.widgets.plot import Line, Mark, Plot

DRAW_INTERVAL = 0.2
"""Seconds between two drawings, at least."""


class TrainingCurves(QWidget):
    """Mean and median validation error in degrees against the epoch or the reference; of epochs the losses too."""

    def __init__(self) -> None:
        super().__init__()
        self.milestones: list[Milestone] = []
        self._drawn = 0.0
        self.losses = Plot(x_label="epoch", y_label="loss", logarithmic=True, height=140)
        self.errors = Plot(x_label="epoch", y_label="error (°)", height=150)
        self.losses.setToolTip("Loss of the network's raw outputs: of what it learns from, and of what is kept apart")
        self.errors.setToolTip(
            "Angle in degrees between predicted and true rotation, on the tomograms kept apart. "
            "The best network is the one of the least mean."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.losses)
        column.addWidget(self.errors)

    def begin(self) -> None:
        """Nothing; a new training is drawn from nothing."""
        self.milestones = []
        self._drawn = 0.0

    def add(self, milestone: Milestone) -> None:
        """Nothing; this milestone is drawn too, at once or with the next."""
        self.milestones.append(milestone)
        if time.monotonic() - self._drawn > DRAW_INTERVAL:
            self.show_milestones()

    @property
    def epochs(self) -> list[Epoch]:
        """The milestones that are a network's epochs: all of them, or none."""
        return [milestone for milestone in self.milestones if isinstance(milestone, Epoch)]

    @property
    def unit(self) -> str:
        """What is counted: epochs of a network, references of a bank."""
        return "epoch" if self.epochs else "reference"

    @property
    def best_at(self) -> int:
        """The epoch, or the reference, counted from 1, that the best checkpoint so far is of."""
        figures = self.best
        return int(figures["epoch"] if "epoch" in figures else figures["round"] + 1)

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best checkpoint so far: its epoch, its median and mean validation error in degrees."""
        return dict(self.milestones[-1].checkpoint.card["figures"])

    def show_milestones(self) -> None:
        """Nothing; all milestones are drawn."""
        self._drawn = time.monotonic()
        epochs, every = self.epochs, self.milestones
        at = [milestone.done for milestone in every]
        across = (0.0, float(every[-1].total)) if every else None
        self.losses.setVisible(bool(epochs))
        self.losses.show_curves(
            [
                Line("training", ACCENT, at, [epoch.training_loss for epoch in epochs]),
                Line("validation", WARNING, at, [epoch.validation_loss for epoch in epochs]),
            ],
            x=across,
        )
        means = Line("mean", WARNING, at, [milestone.validation_mean_deg for milestone in every])
        medians = Line("median", WARNING, at, [milestone.validation_median_deg for milestone in every], pale=True)
        self.errors.x_label = self.unit
        self.errors.show_curves([means, medians], marks=[self._mark()] if every else (), x=across)

    def _mark(self) -> Mark:
        figures = self.best
        error = figures["validation_mean_deg"]
        return Mark(f"best {error:.1f}°", GOOD, self.best_at, error)

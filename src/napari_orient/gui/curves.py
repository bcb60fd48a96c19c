"""How training goes, drawn as it goes: losses above, validation errors below, the best so far marked."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.training import Epoch
from napari_orient.gui.pieces import ACCENT, GOOD, WARNING
from napari_orient.gui.pieces.plot import Line, Mark, Plot

PERIOD = 0.2
"""Seconds between two drawings, at least."""


class Curves(QWidget):
    """Training and validation loss, mean and median validation error in degrees, against the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
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
        self.epochs = []
        self._drawn = 0.0

    def add(self, epoch: Epoch) -> None:
        """Nothing; this epoch is drawn too, at once or with the next."""
        self.epochs.append(epoch)
        if time.monotonic() - self._drawn > PERIOD:
            self.show_epochs()

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best checkpoint so far: its epoch, its median and mean validation error in degrees."""
        return dict(self.epochs[-1].checkpoint.card["figures"])

    def show_epochs(self) -> None:
        """Nothing; all epochs are drawn."""
        self._drawn = time.monotonic()
        at = [epoch.done for epoch in self.epochs]
        across = (0.0, float(self.epochs[-1].total)) if self.epochs else None
        self.losses.show_curves(
            [
                Line("training", ACCENT, at, [epoch.training_loss for epoch in self.epochs]),
                Line("validation", WARNING, at, [epoch.validation_loss for epoch in self.epochs]),
            ],
            x=across,
        )
        means = Line("mean", WARNING, at, [epoch.validation_mean_deg for epoch in self.epochs])
        medians = Line("median", WARNING, at, [epoch.validation_median_deg for epoch in self.epochs], pale=True)
        self.errors.show_curves([means, medians], marks=[self._mark()] if self.epochs else (), x=across)

    def _mark(self) -> Mark:
        figures = self.best
        error = figures["validation_mean_deg"]
        return Mark(f"best {error:.1f}°", GOOD, figures["epoch"], error)

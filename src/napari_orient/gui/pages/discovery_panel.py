"""The result of a discovery on its card: verdict, maps, FSC, next steps and saving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout

from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, Structure, class_name
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.gui.colours import SET_APART
from napari_orient.gui.pages.discovery_layers import PROVISIONAL_COLOUR
from napari_orient.gui.pages.maps import FSCPlot, MapView
from napari_orient.gui.widgets.basic import (
    ACCENT,
    BAD,
    GOOD,
    MUTED,
    WARNING,
    NoteLabel,
    Panel,
    combo_box,
    equal_width_row,
    labelled,
    push_button,
    silent,
)
from napari_orient.gui.widgets.inputs import FileRow
from napari_orient.gui.widgets.plot import Line, Plot

COLOURS = {STRUCTURE: GOOD, DOUBTFUL: WARNING, NOTHING: BAD}
FINAL_COLOUR = (0.83, 0.88, 0.96)
"""Colour of a map's surface once it has a verdict, RGB 0 to 1."""

PREDICT, OTHERS, TRAIN = NEXT_STEPS = ("predict", "others", "train")
MATCH_HEIGHT = 118
"""Height in pixels of the plot of best matches."""

FSC_HEIGHT = 132
"""Height in pixels of the FSC plot."""

LEAST_SCALE = (2.5, 6.0)
"""Range of best matches that the plot shows at least, in standard deviations: from noise to a clear structure."""

_BUTTONS = {
    PREDICT: ("Use for Predict", "Make this map the model in use, so that Predict matches other picks with it"),
    OTHERS: ("Predict other tomograms", "Make this map the model in use, and go to the page Data to open others"),
    TRAIN: (
        "Train a model on these poses",
        "Accept the poses with an expected error below 20°, and go to the card Train with them chosen",
    ),
}
TIPS = (
    "What may help:\n"
    "•  Check that the rings lie on particles and have their diameter.\n"
    "•  Add picks: 100 can suffice, 300 usually do.\n"
    "•  If picks are far from their particles, raise the search range.\n"
    "•  If the list holds several kinds of particle, raise the number of classes, or choose a class."
)
RUNNING_TEXT = "Searching for a structure\nIt is accepted only if independent random starts agree."


class VerdictBanner(QFrame):
    """A verdict: a headline in its colour, the reasons below, on a tint of the same colour."""

    def __init__(self) -> None:
        super().__init__()
        self.headline, self.reasons = NoteLabel(), QLabel()
        self.reasons.setWordWrap(True)
        self.reasons.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 7, 8, 8)
        column.setSpacing(3)
        column.addWidget(self.headline)
        column.addWidget(self.reasons)

    def say(self, text: str, colour: str) -> None:
        """Show a text: its first line as headline, the rest as reasons."""
        headline, _, reasons = text.partition("\n")
        ground = QColor(colour)
        tint = f"rgba({ground.red()}, {ground.green()}, {ground.blue()}, 38)"
        self.setStyleSheet(
            f"VerdictBanner {{background: {tint}; border: none; border-left: 4px solid {colour}; border-radius: 2px;}}"
            "QLabel {background: transparent;} NoteLabel {font-weight: 700;}"
        )
        self.headline.say(headline, colour)
        self.reasons.setText(reasons)
        self.reasons.setVisible(bool(reasons))


class DiscoveryResultPanel(Panel):
    """Progress of a discovery, then its verdict and maps.

    ``next_step`` emits the name of the button clicked, one of `NEXT_STEPS`; ``saving`` that the result is to be saved.
    """

    next_step = Signal(str)
    saving = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.found: Discovery | None = None
        self._radius = 0.0
        self._truth: dict[int, str] = {}
        self._peaks: dict[int, list[float]] = {}
        self.banner, self.view = VerdictBanner(), MapView()
        self.structure = combo_box(
            "Structure shown here and used by the buttons below: arrow colour, class, verdict, particle count"
        )
        self.structure_line = labelled({"Structure": self.structure})
        self.match = Plot(x_label="round", y_label="best match (σ)", height=MATCH_HEIGHT)
        self.match.setToolTip(
            "Mean over particles of the best match, in standard deviations of all matches. Dashed: the first round, "
            "with random rotations. For pure noise the curve stays there."
        )
        self.fsc = FSCPlot(height=FSC_HEIGHT)
        self.details, self.tips, self.done, self.saved = (NoteLabel() for _ in range(4))
        self.buttons = {name: push_button(*words) for name, words in _BUTTONS.items()}
        for name, button in self.buttons.items():
            button.clicked.connect(lambda _=False, name=name: self.next_step.emit(name))
        kinds = "STAR (*.star);;CSV (*.csv)"
        self.file = FileRow(caption="Save the particles as", kinds=kinds, hint="oriented.star", saving=True)
        tip = "Write the particles and, beside them, the map, half maps, FSC and template"
        self.save = push_button("Save poses, map and template", tip)
        self._onward, self._saving = Panel(), Panel()
        self._onward.add(equal_width_row(self.buttons[PREDICT], self.buttons[OTHERS]), self.buttons[TRAIN])
        self._saving.add(self.file, self.save, self.saved)
        self.add(self.banner, self.structure_line, self.view, self.match, self.fsc, self.details, self.tips)
        self.add(self._onward, self.done, self._saving)
        self.structure.currentIndexChanged.connect(self._show_structure)
        self.file.picked.connect(self._allow_save)
        self.save.clicked.connect(self.saving)
        self._show_parts()

    # --- progress -----------------------------------------------------------------------------------------------

    def begin(self, options: DiscoveryOptions) -> None:
        """Reset the panel for a new discovery."""
        self.found, self._radius = None, options.radius
        self._peaks, self._truth = {}, {}
        self.view.picture = None
        self._across = (1.0, float(options.rounds + 2))
        self.banner.say(RUNNING_TEXT, ACCENT)
        for line in (self.done, self.saved):
            line.say("")
        self._show_parts()

    def add_round(self, step: DiscoveryStep) -> None:
        """Record a round for the plot."""
        if step.start is not None and step.peak is not None:
            self._peaks.setdefault(step.start, []).append(step.peak)

    def show_round(self, step: DiscoveryStep) -> None:
        """Show the map and matches of a round."""
        if step.maps:
            self.view.show_map(step.maps[0], step.voxel_size, radius=self._radius, colour=PROVISIONAL_COLOUR)
        lines = [
            Line(
                f"start {start}",
                _hex(SET_APART[(start - 1) % len(SET_APART)]),
                list(range(1, len(peaks) + 1)),
                list(peaks),
            )
            for start, peaks in self._peaks.items()
        ]
        if lines:
            peaks = [peak for line in lines for peak in line.y]
            low, high = min(LEAST_SCALE[0], *peaks), max(LEAST_SCALE[1], *peaks)
            # The first round has random rotations: the level of noise.
            self.match.show_curves(lines, x=self._across, y=(low, high + 0.5), levels=[round(lines[0].y[0], 1)])
        self._show_parts()

    # --- verdict ------------------------------------------------------------------------------------------------

    def show_result(self, found: Discovery) -> None:
        """Show the structures of a finished discovery."""
        self.found = found
        with silent(self.structure):
            self.structure.clear()
            for label, item in enumerate(found.structures):
                words = f"{class_name(label)} · {item.verdict.grade} · {item.count}"
                self.structure.addItem(_swatch(SET_APART[label % len(SET_APART)]), words)
        self._show_structure()

    def show_ended(self, words: str, colour: str, *, savable: bool = False) -> None:
        """Show that a discovery was stopped or failed."""
        self.banner.say(words, colour)
        self._show_parts()
        self._saving.setVisible(savable)
        self._allow_save()

    def _show_structure(self, *_: object) -> None:
        assert self.found is not None
        item = self.chosen
        if item is None:
            self.banner.say("These picks show no common structure", BAD)
        else:
            headline, _colon, reasons = item.verdict.words.partition(": ")
            self.banner.setToolTip(reasons)
            if item.verdict.grade == NOTHING:
                # Show the first reason alone: half maps of a coarse map agree even for noise.
                reasons = f"{reasons.partition(';')[0].rstrip('.')}."
            self.banner.say(f"{headline}\n{reasons[:1].upper()}{reasons[1:]}", COLOURS[item.verdict.grade])
        if item is not None and item.verdict.grade != NOTHING:
            average = item.average
            self.view.show_map(average.density, average.voxel_size, radius=self._radius, colour=FINAL_COLOUR)
            self.fsc.show_fsc(average.fsc)
            lines = [details_text(item, self.found, self.label), self._truth.get(self.label, "")]
            self.details.say("\n".join(filter(None, lines)), MUTED)
            self.details.setToolTip("\n".join(item.symmetry_notes))
        self.tips.say("" if item is not None and item.verdict.grade == STRUCTURE else TIPS)
        self._show_parts()

    def show_true_error(self, label: int, median: float, share: float) -> None:
        """Show the true errors of a structure: median in degrees, and the share within 20°."""
        self._truth[label] = f"True error, up to one common rotation: {median:.1f}° (median), {share:.0%} within 20°."
        self._show_structure()

    @property
    def label(self) -> int:
        """The class of the chosen structure, from 0."""
        return max(0, self.structure.currentIndex())

    @property
    def chosen(self) -> Structure | None:
        """The chosen structure, or None if there is none."""
        every: Sequence[Structure] = () if self.found is None else self.found.structures
        return every[self.label] if every else None

    def _show_parts(self) -> None:
        good = self.chosen is not None and self.chosen.verdict.grade != NOTHING
        self.structure_line.setVisible(self.found is not None and len(self.found.structures) > 1)
        self.view.setVisible(self.view.picture is not None and (good or self.found is None))
        self.match.setVisible(self.found is None and bool(self._peaks))
        self.fsc.setVisible(good)
        self.details.setVisible(good)
        self.tips.setVisible(self.found is not None and bool(self.tips.text()))
        self._onward.setVisible(good)
        self._saving.setVisible(good)
        self._allow_save()

    def _allow_save(self, *_: object) -> None:
        self.save.setEnabled(self.file.path is not None)


def details_text(item: Structure, found: Discovery, label: int) -> str:
    """Details below the verdict: particles, symmetry and its evidence, expected error, false picks, classes."""
    expected = np.median(np.asarray(found.of_class(label).expected_error_deg))
    lines = [f"{item.count} particles, symmetry {item.group.name}; expected error {expected:.1f}° (median)"]
    if item.outliers:
        lines.append(f"{item.outliers} false picks were excluded (pale, without arrows).")
    if found.hint:
        lines.append(found.hint)
    if len(item.group) > 1:
        lines += item.symmetry_notes
    if found.class_count_words:
        lines.append(found.class_count_words)
    return "\n".join(lines)


def _swatch(colour: tuple[float, float, float]) -> QIcon:
    """An icon of the colour of a class's arrows."""
    square = QPixmap(14, 14)
    square.fill(QColor.fromRgbF(*colour))
    return QIcon(square)


def _hex(colour: tuple[float, float, float]) -> str:
    return QColor.fromRgbF(*colour).name()

"""What a discovery has come to, in its dock: the verdict, the maps, what speaks for them, and the way onward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QFrame, QGridLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, Structure, class_name
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE
from napari_orient.gui.colours import SET_APART
from napari_orient.gui.discover_widgets.map_view import MapView
from napari_orient.gui.discover_widgets.preview import PROVISIONAL_COLOUR
from napari_orient.gui.maps import FSCPlot
from napari_orient.gui.widgets import ACCENT, BAD, GOOD, MUTED, WARNING, FileRow, Note, labelled, shrinkable
from napari_orient.gui.widgets.plot import Line, Plot

COLOURS = {STRUCTURE: GOOD, DOUBTFUL: WARNING, NOTHING: BAD}
FINAL_COLOUR = (0.83, 0.88, 0.96)
"""Colour of a map's surface once it is judged."""

PREDICT, INSPECT, OTHERS, TRAIN = NEXT_STEPS = ("predict", "inspect", "others", "train")
_BUTTONS = {
    PREDICT: ("Use for Predict", "Make this map the network in use: Predict matches other picks with it at once"),
    OTHERS: ("Predict other tomograms", "Use the map, and open the Load and Predict docks for the next tomogram"),
    TRAIN: (
        "Train a fast network on these poses",
        "Accept the poses that are determined, and open the Train dock with them chosen",
    ),
    INSPECT: ("Inspect", "Look at the particles one by one: scores, expected errors, patches beside the map"),
}
TIPS = (
    "What may help:\n"
    "•  Do the rings stand on particles, and are they as wide as these?\n"
    "•  More picks: a hundred may do, three hundred mostly do.\n"
    "•  Picks that are far off their particles: raise how far they may be off.\n"
    "•  Several kinds of particle in one list: raise the number of kinds, or choose a class."
)
RUNNING_TEXT = "Looking for a structure\nIt is believed only if independent random starts find the same one."


class VerdictBanner(QFrame):
    """The verdict: a headline in its colour and the reasons beneath, on a ground of the same colour."""

    def __init__(self) -> None:
        super().__init__()
        self.headline, self.reasons = Note(), QLabel()
        self.reasons.setWordWrap(True)
        self.reasons.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 7, 8, 8)
        column.setSpacing(3)
        column.addWidget(self.headline)
        column.addWidget(self.reasons)

    def say(self, words: str, colour: str) -> None:
        """Show these words: a headline, and reasons after a line's end, if there are any."""
        headline, _, reasons = words.partition("\n")
        ground = QColor(colour)
        tint = f"rgba({ground.red()}, {ground.green()}, {ground.blue()}, 38)"
        self.setStyleSheet(
            f"Banner {{background: {tint}; border: none; border-left: 4px solid {colour}; border-radius: 2px;}}"
            "QLabel {background: transparent;} Note {font-weight: 700; font-size: 14px;}"
        )
        self.headline.say(headline, colour)
        self.reasons.setText(reasons)
        self.reasons.setVisible(bool(reasons))


class DiscoveryResultPanel(QWidget):
    """What is there by now, and, at the end, whether to believe it; ``next_step`` tells what the user wants to do next.

    ``saving`` tells the file of the particles to be written, beside which the others go.
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
        self.structure = QComboBox()
        self.structure.setToolTip(
            "Which structure is shown here, and used further on: the colour of its arrows, its verdict, its particles"
        )
        shrinkable(self.structure)
        self.structure_line = labelled({"Structure": self.structure}, width=78)
        self.match = Plot(x_label="round", y_label="best match (spreads)", height=118)
        self.match.setToolTip(
            "How far a particle's best match stands above the mean of all, in their spreads. Dashed: the first round, "
            "of random rotations; of noise it stays there."
        )
        self.fsc = FSCPlot(height=132)
        self.details, self.tips, self.done, self.saved, self.hints = Note(), Note(), Note(), Note(), Note()
        self.buttons = {name: _button(*words) for name, words in _BUTTONS.items()}
        self.file = FileRow(
            caption="Save the particles as", kinds="STAR (*.star);;CSV (*.csv)", hint="oriented.star", saving=True
        )
        self.save = QPushButton("Save poses, map and checkpoint")
        self.save.setToolTip("Write the particles, and beside them the map, its halves and curve, and the checkpoint")
        self._lay_out()
        self.structure.currentIndexChanged.connect(self._show_structure)
        self.file.picked.connect(self._allow_save)
        self.save.clicked.connect(self.saving)
        self._show_parts()

    def _lay_out(self) -> None:
        self._onward = QWidget()
        grid = QGridLayout(self._onward)
        grid.setContentsMargins(0, 4, 0, 0)
        for name, place in {PREDICT: (0, 0), INSPECT: (0, 1), OTHERS: (1, 0, 1, 2), TRAIN: (2, 0, 1, 2)}.items():
            grid.addWidget(self.buttons[name], *place)
            self.buttons[name].clicked.connect(lambda _=False, name=name: self.next_step.emit(name))
        self._saving = QWidget()
        keep = QVBoxLayout(self._saving)
        keep.setContentsMargins(0, 2, 0, 0)
        keep.addWidget(self.file)
        keep.addWidget(self.save)
        keep.addWidget(self.saved)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(6)
        for widget in (
            self.banner,
            self.hints,
            self.structure_line,
            self.view,
            self.match,
            self.fsc,
            self.details,
            self.tips,
        ):
            column.addWidget(widget)
        for widget in (self._onward, self.done, self._saving):
            column.addWidget(widget)

    # --- while it runs ------------------------------------------------------------------------------------------

    def begin(self, options: DiscoveryOptions) -> None:
        """Nothing; a discovery has begun."""
        self.found, self._radius = None, options.radius
        self._peaks, self._truth = {}, {}
        self.view.picture = None
        self._across = (1.0, float(options.rounds + 2))
        self.banner.say(RUNNING_TEXT, ACCENT)
        for line in (self.done, self.saved, self.hints):
            line.say("")
        self._show_parts()

    def note(self, step: DiscoveryStep) -> None:
        """Nothing; this round is remembered for the plot, and what it notes is shown."""
        if step.notes:
            self.hints.say("\n".join(map(str, step.notes)), WARNING)
        if step.start:
            self._peaks.setdefault(step.start, []).append(step.peak)

    def show_round(self, step: DiscoveryStep) -> None:
        """Nothing; this round is shown."""
        if step.maps:
            self.view.show_map(step.maps[0], step.voxel_size, radius=self._radius, colour=PROVISIONAL_COLOUR)
        lines = [
            Line(f"start {start}", _hex(SET_APART[(start - 1) % len(SET_APART)]), _from_one(peaks), list(peaks))
            for start, peaks in self._peaks.items()
        ]
        if lines:
            peaks = [peak for line in lines for peak in line.y]
            low, high = min(2.5, *peaks), max(6.0, *peaks)
            # The first round is of random rotations: what noise matches.
            self.match.show_curves(lines, x=self._across, y=(low, high + 0.5), levels=[round(lines[0].y[0], 1)])
        self._show_parts()

    # --- at the end ---------------------------------------------------------------------------------------------

    def show_found(self, found: Discovery) -> None:
        """Nothing; this was found."""
        self.found = found
        self.structure.blockSignals(True)
        self.structure.clear()
        for label, item in enumerate(found.structures):
            words = f"{class_name(label)} · {item.verdict.grade} · {item.count}"
            self.structure.addItem(_swatch(SET_APART[label % len(SET_APART)]), words)
        self.structure.blockSignals(False)
        self._show_structure()

    def show_ended(self, words: str, colour: str, *, savable: bool = False) -> None:
        """Nothing; it came to no end of its own: stopped, or broken off."""
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
                # What else is told of noise sounds good: halves of one coarse map agree, whatever it shows.
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
        """Nothing; beside a structure stands how right its poses are, in degrees and as the share within 20°."""
        self._truth[label] = f"True error, up to one common turn: {median:.1f}° (median), {share:.0%} within 20°."
        self._show_structure()

    @property
    def label(self) -> int:
        """The class of the structure chosen, from 0."""
        return max(0, self.structure.currentIndex())

    @property
    def chosen(self) -> Structure | None:
        """The structure chosen, or None where none was found."""
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
    """What is to be known beside the verdict: numbers, error, symmetry, and how that was found if there is any."""
    expected = np.median(np.asarray(found.of_class(label).expected_error_deg))
    lines = [f"{item.count} particles, symmetry {item.group.name}; expected error {expected:.1f}° (median)"]
    if item.outliers:
        lines.append(f"{item.outliers} picks look like no particle and were set aside: pale, without arrows.")
    if found.hint:
        lines.append(found.hint)
    if len(item.group) > 1:
        lines += item.symmetry_notes
    if found.class_count_words:
        lines.append(found.class_count_words)
    return "\n".join(lines)


def _from_one(values: Sequence[float]) -> list[float]:
    return [float(number) for number in range(1, len(values) + 1)]


def _swatch(colour: tuple[float, float, float]) -> QIcon:
    """The colour of a class's arrows."""
    square = QPixmap(14, 14)
    square.fill(QColor.fromRgbF(*colour))
    return QIcon(square)


def _hex(colour: tuple[float, float, float]) -> str:
    return QColor.fromRgbF(*colour).name()


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button

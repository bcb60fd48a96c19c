"""A choice of the layers of picks for discovery; files are opened as layers first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from napari.layers import Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
)

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import (
    VOLUME_SUFFIXES,
    match_tomogram,
    names_volume,
    read_labelled,
    read_particles,
    read_tomogram,
)
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui import layers
from napari_orient.gui.jobs import Job
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import (
    Deferred,
    DropTarget,
    checkable,
    labelled,
    list_filter,
    listen,
    show_classes,
    shrinkable,
)

Pairs = list[tuple[Tomogram, Particles]]

FILES = list_filter(*VOLUME_SUFFIXES, title="Tomograms and particle lists")
LABELS = 120
"""Width in pixels of the column of labels; fits the longest label at the default font."""

LIST_HEIGHT = 76
"""Height in pixels of the list of layers: about four lines."""

_VISIBLE_TOMOGRAMS = 1
"""Tomograms shown when several are opened from files: they overlap, so the others start hidden."""


def read_picks_with_tomograms(paths: Sequence[Path]) -> Stream[Step, Pairs]:
    """Tomograms with their picks, from PolNet folders, lists that name their tomograms, or lists with tomograms.

    Raises
    ------
    InputError
        If there is no list, or a file cannot be read.
    """
    volumes = [path for path in paths if names_volume(path)]
    lists = [path for path in paths if path not in volumes]
    if not lists:
        raise InputError("a list of picks is needed beside the tomograms. Choose both together, or a PolNet folder.")
    pairs: Pairs = []
    for number, path in enumerate(lists):
        yield Step(number, len(lists), f"Reading {path.name}")
        pairs += _read_with(path, volumes) if volumes else read_labelled(path)
    return pairs


def _read_with(path: Path, volumes: Sequence[Path]) -> Pairs:
    """The tomograms of these files, each with its picks from the list."""
    opened = [read_tomogram(volume) for volume in volumes]
    if len(opened) == 1:
        found = read_particles(path, tomogram=opened[0])
        return [(opened[0], found.replace(tomogram=opened[0].name))]
    found = read_particles(path, extents={item.name: item.extent for item in opened})
    names = found.tomogram_names
    pairs = [(item, match_tomogram(item.name, names)) for item in opened]
    missing = [item.name for item, name in pairs if name is None]
    if missing:
        raise InputError(f"{path.name} has no picks of {missing[0]}; its tomograms are {', '.join(names[:3])}.")
    return [(item, found.of_tomogram(name).replace(tomogram=item.name)) for item, name in pairs if name is not None]


class PicksChoice(DropTarget):
    """A list of layers of picks, and their class; ``changed`` is emitted when the chosen picks change."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.reading: Job | None = None
        self._offered: list[Points] = []
        self._relabelling = Deferred(self._relabel, parent=self)
        self.list = QListWidget()
        self.list.setFixedHeight(LIST_HEIGHT)
        self.list.setAccessibleName("Layers of picks")
        self.list.setToolTip("Layers of picks to use, one or several. Orientations that they have are ignored.")
        self.files = _open_button(
            "Open files…", "Open tomograms together with the list of their picks", self._ask_files
        )
        self.folder = _open_button("Open folder…", "Open a PolNet result folder", self._ask_folder)
        self.kind = QComboBox()
        self.kind.setToolTip("Use only the picks of this class")
        shrinkable(self.kind)
        self.kind_line = labelled({"Class": self.kind}, width=LABELS)
        self._lay_out()
        for event in ("inserted", "removed"):
            listen(self, getattr(session.viewer.layers.events, event), self.refresh)
        self.list.itemChanged.connect(self._update)
        self.kind.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        line = QHBoxLayout()
        for button in (self.files, self.folder):
            line.addWidget(button)
        column.addWidget(self.list)
        column.addLayout(line)
        column.addWidget(self.kind_line)

    # --- layers -------------------------------------------------------------------------------------------------

    def refresh(self, event: object = None) -> None:
        """List the open layers; a new one is checked, except true poses of a tomogram that has picks."""
        chosen, before = {id(layer) for layer in self.chosen()}, {id(layer) for layer in self._offered}
        found = [layer for layer in self.session.index.particles() if layers.role(layer) != PREDICTED]
        picked = {self._tomogram_name(layer) for layer in found if layers.role(layer) != TRUTH}
        self._offered = sorted(found, key=lambda layer: layers.role(layer) == TRUTH)
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._offered:
            if id(layer) not in before:
                listen(self, layer.events.name, self._relabel)
                listen(self, layer.events.data, self._relabelling.ask)
            double = layers.role(layer) == TRUTH and self._tomogram_name(layer) in picked
            wanted = id(layer) in chosen or (id(layer) not in before and not double)
            self.list.addItem(checkable(_pick_layer_label(layer), wanted))
        self.list.blockSignals(False)
        self._update()

    def _tomogram_name(self, layer: Points) -> str:
        image = self.session.index.tomogram_of(layer)
        return "" if image is None else layers.tomogram_name(image)

    def _relabel(self, event: object = None) -> None:
        self.list.blockSignals(True)
        for layer, item in self._items():
            item.setText(_pick_layer_label(layer))
        self.list.blockSignals(False)
        self._update()

    def _items(self) -> list[tuple[Points, QListWidgetItem]]:
        items = (self.list.item(number) for number in range(self.list.count()))
        return [(layer, item) for layer, item in zip(self._offered, items, strict=True) if item is not None]

    def chosen(self) -> list[Points]:
        """The checked layers."""
        return [layer for layer, item in self._items() if item.checkState() == Qt.CheckState.Checked]

    def choose(self, *wanted: Points) -> None:
        """Check these layers, and no others."""
        for layer, item in self._items():
            item.setCheckState(Qt.CheckState.Checked if layer in wanted else Qt.CheckState.Unchecked)

    def _update(self, *_: object) -> None:
        counts: Counter[str] = Counter()
        for layer in self.chosen():
            kinds = layers.picks_of(layer).kind
            counts.update({} if kinds is None else Counter(kinds.tolist()))
        fresh = self.kind.count() <= 1
        show_classes(self.kind, counts, sum(len(layer.data) for layer in self.chosen()))
        if fresh and len(counts) > 1:
            # In a list of several macromolecules, start with the most frequent one.
            self.kind.blockSignals(True)
            self.kind.setCurrentIndex(1)
            self.kind.blockSignals(False)
        self.kind_line.setVisible(len(counts) > 1)
        self.changed.emit()

    def pairs(self) -> Pairs:
        """Each open tomogram with its picks of the checked layers and the chosen class.

        Raises
        ------
        InputError
            If a layer's tomogram is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        for layer in self.chosen():
            image = self.session.index.tomogram_of(layer)
            if image is None:
                raise InputError(f"the tomogram of layer {layer.name!r} is not open. Open it in the Load dock.")
            tomogram = layers.tomogram_of(image)
            picks = self._of_class(layers.picks_of(layer)).replace(tomogram=tomogram.name)
            found.setdefault(tomogram.name, (tomogram, []))[1].append(picks)
        return [(tomogram, concatenate(parts)) for tomogram, parts in found.values()]

    def _of_class(self, picks: Particles) -> Particles:
        code = self.kind.currentData()
        if code is None or picks.kind is None:
            return picks
        return picks.take((picks.kind == code).nonzero()[0])

    # --- files --------------------------------------------------------------------------------------------------

    def open_paths(self, *paths: Path) -> None:
        """Read tomograms and picks from files in a worker, and open them as layers."""
        if self.reading is not None or not paths:
            return
        job = self.reading = self.session.jobs.start(
            read_picks_with_tomograms(paths), title="Reading picks", immediately=True
        )
        job.answered.connect(self._show_pairs)
        job.ended.connect(self._ended)
        self._enable_buttons()

    def _show_pairs(self, pairs: Pairs) -> None:
        hidden = len(self.session.index.tomograms()) > 0
        for number, (tomogram, picks) in enumerate(pairs):
            image = self.session.show_tomogram(tomogram)
            name = f"{tomogram.name} picks"
            points = self.session.show_particles(picks.replace(rotations=None), tomogram.extent, role=PICKS, name=name)
            image.visible = points.visible = not hidden and number < _VISIBLE_TOMOGRAMS
        if not hidden:
            self.session.viewer.reset_view()

    def _ended(self, outcome: str) -> None:
        self.reading = None
        self._enable_buttons()

    def _enable_buttons(self) -> None:
        for button in (self.files, self.folder):
            button.setEnabled(self.reading is None)

    def _ask_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open tomograms and the list of their picks", "", FILES)
        self.open_paths(*map(Path, names))

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open a PolNet result folder")
        if name:
            self.open_paths(Path(name))

    def drop(self, *paths: Path) -> None:
        """Open dropped files."""
        self.open_paths(*paths)


def _pick_layer_label(layer: Points) -> str:
    return f"{layer.name} · {len(layer.data)}"


def _open_button(text: str, tip: str, action: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(action)
    return button

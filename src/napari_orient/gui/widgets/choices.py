"""Choices among the layers and classes that are open, kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QListWidgetItem

from napari_orient.gui.widgets.basic import shrinkable
from napari_orient.gui.widgets.connections import listen


def show_classes(choice: QComboBox, counts: Mapping[str, int], total: int) -> None:
    """Offer the classes with their numbers, the largest first, after all of them (None); the choice stays if it can.

    Where there is one class only, it is all there is to choose.
    """
    kept = choice.currentData()
    choice.blockSignals(True)
    choice.clear()
    alone = next(iter(counts)) if len(counts) == 1 else "all classes"
    choice.addItem(f"{alone} ({total})", None)
    if len(counts) > 1:
        for code, number in sorted(counts.items(), key=lambda entry: -entry[1]):
            choice.addItem(f"{code} ({number})", code)
    choice.setCurrentIndex(max(0, choice.findData(kept)))
    choice.setEnabled(len(counts) > 1)
    choice.blockSignals(False)


class LayerChoice(QComboBox):
    """A choice among the viewer's layers that pass a test, newest first; ``chosen`` is emitted with it, or None."""

    chosen = Signal(object)

    def __init__(self, viewer: ViewerModel, wanted: Callable[[], Sequence[Layer]], *, empty: str) -> None:
        super().__init__()
        self.setToolTip("Which of the viewer's layers to take; one that is opened is chosen by itself")
        self._wanted, self._empty = wanted, empty
        self._layers: list[Layer] = []
        shrinkable(self)
        for event in ("inserted", "removed", "reordered"):
            listen(self, getattr(viewer.layers.events, event), self.refresh)
        self.currentIndexChanged.connect(self._emit_chosen)
        self.refresh()

    @property
    def layers(self) -> list[Layer]:
        """The layers on offer."""
        return list(self._layers)

    @property
    def layer(self) -> Layer | None:
        """The layer chosen, or None where there is none to choose."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Layer) -> None:
        """Choose this layer, if it is among those on offer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: Any = None) -> None:
        """Offer what is there now; a layer that has come is chosen, else the choice stays while its layer does."""
        kept, before = self.layer, set(map(id, self._layers))
        found = list(self._wanted())
        for layer in found:
            if id(layer) not in before:
                listen(self, layer.events.name, self._rename)
        new = [layer for layer in found if id(layer) not in before]
        self._layers = found
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in found] or [self._empty])
        best = new[0] if new else kept
        self.setCurrentIndex(found.index(best) if best in found else 0)
        self.setEnabled(bool(found))
        self.blockSignals(False)
        if self.layer is not kept or not found:
            self._emit_chosen()

    def _rename(self, event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)

    def _emit_chosen(self, *_: object) -> None:
        self.chosen.emit(self.layer)


def checkable(text: str, checked: bool) -> QListWidgetItem:
    """A line of a list that can be ticked."""
    item = QListWidgetItem(text)
    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
    item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
    return item

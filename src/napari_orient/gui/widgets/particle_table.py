"""A table of particles, sortable and filtered, fast with tens of thousands of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QEvent, QItemSelection, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QTableView, QWidget

from napari_orient.gui.colours import VERDICTS, named
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.layers.particle_values import QUANTITIES, Quantity
from napari_orient.gui.widgets.basic import BAD, WARNING, tone

_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_ERRORS = ("expected_error", "true_error")
_TEXTS = ("class", "neighbour_class", "status")

MIN_HEIGHT = 90
"""Height in pixels of the table, at least: about three rows."""

MIN_COLUMN = 24
"""Width in pixels of a column, at least."""

_SAMPLED = 50
"""First and largest values of a column by whose texts its width is set."""


class ParticleTableModel(QAbstractTableModel):
    """Columns by name; ``rows`` are the particles shown, in the order of the table.

    ``tone_of`` gives a tone as it is needed on the ground of the table.
    """

    def __init__(self) -> None:
        super().__init__()
        self.columns: Mapping[str, NDArray[Any]] = {}
        self.quantities: tuple[Quantity, ...] = ()
        self.rows: Rows = np.zeros(0, int)
        self.threshold = 20.0
        self.tone_of: Callable[[str], str] = str
        self._mask: NDArray[np.bool_] = np.zeros(0, bool)
        self.sorted_by: tuple[str, Qt.SortOrder] | None = None

    def show_columns(self, columns: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> None:
        """Show the informative columns of `QUANTITIES`, the rows in the mask."""
        self.beginResetModel()
        self.columns = columns
        self.quantities = tuple(item for item in QUANTITIES if _is_informative(columns.get(item.name), item.name))
        self._mask = mask
        self._arrange()
        self.endResetModel()

    def show_rows(self, mask: NDArray[np.bool_]) -> None:
        """Show only the rows in the mask."""
        self.beginResetModel()
        self._mask = mask
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort the rows by a column, unknown values last in either order."""
        self.layoutAboutToBeChanged.emit()
        if 0 <= column < len(self.quantities):
            self.sorted_by = self.quantities[column].name, order
        self._arrange()
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        rows = np.flatnonzero(self._mask)
        if self.sorted_by is not None and self.sorted_by[0] in self.columns:
            name, order = self.sorted_by
            rows = rows[ranking(self.columns[name][rows], descending=order != _ASCENDING)]
        self.rows = rows

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's own signature
        """Number of rows shown."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's own signature
        """Number of informative columns."""
        return 0 if parent.isValid() else len(self.quantities)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell's text, alignment or colour."""
        if not index.isValid():
            return None
        quantity = self.quantities[index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _LEFT if quantity.name in _TEXTS else _RIGHT
        value = self.columns[quantity.name][self.rows[index.row()]]
        if role == Qt.ItemDataRole.DisplayRole:
            return cell(value, quantity)
        if role == Qt.ItemDataRole.ForegroundRole:
            return self._ink(value, quantity)
        if role == Qt.ItemDataRole.DecorationRole and quantity.name == "cluster" and value > 0:
            return QColor.fromRgbF(*named(np.array([value]))[0].tolist())
        return None

    def _ink(self, value: Any, quantity: Quantity) -> QColor | None:
        if quantity.name in _ERRORS and value > self.threshold:
            return QColor(self.tone_of(BAD if quantity.name == "true_error" else WARNING))
        if quantity.name == "status" and value in VERDICTS:
            return QColor.fromRgbF(*VERDICTS[str(value)])
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """A column's title and unit, or its description as tooltip."""
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self.quantities):
            return None
        quantity = self.quantities[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{quantity.tip[:1].upper()}{quantity.tip[1:]}; {quantity.name} in a filter"
        return _title(quantity) if role == Qt.ItemDataRole.DisplayRole else None


_ASCENDING = Qt.SortOrder.AscendingOrder


def ranking(values: NDArray[Any], *, descending: bool) -> Rows:
    """Indices that sort the values, (N,); stable, unknown numbers last."""
    if values.dtype.kind not in "fiu":
        _, values = np.unique(values.astype(str), return_inverse=True)
    numbers = np.asarray(values, float)
    return np.argsort(-numbers if descending else numbers, kind="stable")


def cell(value: Any, quantity: Quantity) -> str:
    """A value as text: rounded, a dash if unknown."""
    if isinstance(value, str):
        return str(value)
    number = float(value)
    if quantity.name == "cluster" and not number:
        return "–"
    return f"{number:.{quantity.digits}f}" if np.isfinite(number) else "–"


def _title(quantity: Quantity) -> str:
    return f"{quantity.title} {quantity.unit}".strip()


def _is_informative(column: NDArray[Any] | None, name: str) -> bool:
    """Whether a column is worth showing: not a class that all share, nor a status that none has."""
    if column is None:
        return False
    if name in ("class", "neighbour_class"):
        return len(set(column.tolist())) > 1
    if name == "cluster":
        return bool(column.any())
    return name != "status" or bool((column != "").any())


class ParticleTable(QTableView):
    """The table; ``chosen`` emits the rows that the user selects, ``activated_row`` the one that is clicked."""

    chosen = Signal(object)
    activated_row = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.particles = ParticleTableModel()
        self.particles.tone_of = partial(tone, widget=self)
        self._silent = False
        self._held: Rows = np.zeros(0, int)
        self._automatic: tuple[str, Qt.SortOrder] | None = None
        self.setModel(self.particles)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSortingEnabled(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMinimumHeight(MIN_HEIGHT)
        self.setAccessibleName("Particles")
        self.setToolTip(
            "Click a row to go to its particle; select several to select their points. Click a title to sort"
        )
        self.clicked.connect(self._emit_activated)
        self._set_heads()
        picked = self.selectionModel()
        assert picked is not None
        self._picked = picked
        self._picked.selectionChanged.connect(self._emit_chosen)
        # Qt keeps places selected where rows change theirs; it is particles that are selected.
        self.particles.layoutAboutToBeChanged.connect(self._hold_chosen)
        self.particles.layoutChanged.connect(self._choose_held)

    def _hold_chosen(self) -> None:
        self._held = self.chosen_rows

    def _choose_held(self) -> None:
        self.choose(self._held)

    def _set_heads(self) -> None:
        rows, heads = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert heads is not None
        rows.setVisible(False)
        heads.setSortIndicator(-1, _ASCENDING)
        heads.setMinimumSectionSize(MIN_COLUMN)
        heads.setTextElideMode(Qt.TextElideMode.ElideRight)
        heads.setStretchLastSection(True)
        heads.setHighlightSections(False)
        heads.setStyleSheet("QHeaderView::section {padding: 2px 3px;}")

    def show_columns(self, columns: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> None:
        """Show these columns, the rows in the mask, none selected."""
        self._silent = True
        self.particles.show_columns(columns, mask)
        self._silent = False
        self._fit_text()
        for column, quantity in enumerate(self.particles.quantities):
            if self.particles.sorted_by is not None and self.particles.sorted_by[0] == quantity.name:
                self._mark_sorted(column, self.particles.sorted_by[1])

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Leave letters to the keys of the pages: after a click on a row, N goes to the next worst."""
        if event is not None and event.text().isalpha() and not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Give columns and rows the room that another size of text needs."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit_text()

    def _fit_text(self) -> None:
        rows = self.verticalHeader()
        if rows is not None:
            rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        for column, quantity in enumerate(self.particles.quantities):
            self.setColumnWidth(column, self._width_of(quantity))

    def _mark_sorted(self, column: int, order: Qt.SortOrder) -> None:
        """Show in the titles which column the rows are sorted by."""
        heads = self.horizontalHeader()
        if heads is not None:
            heads.blockSignals(True)
            heads.setSortIndicator(column, order)
            heads.blockSignals(False)

    def sort_worst_first(self) -> None:
        """Sort by the true error, or else by the expected one, the largest first, unless a person has sorted."""
        names = [quantity.name for quantity in self.particles.quantities]
        wanted = next((name for name in reversed(_ERRORS) if name in names), None)
        if wanted is not None and self.particles.sorted_by in (None, self._automatic):
            self._silent = True
            self.sortByColumn(names.index(wanted), Qt.SortOrder.DescendingOrder)
            self._silent, self._automatic = False, self.particles.sorted_by

    def _width_of(self, quantity: Quantity) -> int:
        """Width in pixels of a column's title or longest value; Qt's own estimate is twice as wide."""
        values = self.particles.columns[quantity.name]
        texts = {
            cell(value, quantity)
            for part in (values[:_SAMPLED], np.sort(values)[-_SAMPLED:])
            for value in part.tolist()
        }
        swatch = 18 if quantity.name == "cluster" else 0
        measure = self.fontMetrics().horizontalAdvance
        return max(measure(_title(quantity)), *(measure(text) + swatch for text in texts or {""})) + 16

    def show_rows(self, mask: NDArray[np.bool_], *, chosen: Rows) -> None:
        """Show only the rows in the mask, and select these."""
        self._silent = True
        self.particles.show_rows(mask)
        self._silent = False
        self.choose(chosen)

    def repaint_cells(self) -> None:
        """Repaint the visible cells."""
        view = self.viewport()
        if view is not None:
            view.update()

    @property
    def chosen_rows(self) -> Rows:
        """Rows of the selected particles, in ascending order."""
        chosen: Any = self._picked.selection()
        parts = [np.arange(part.top(), part.bottom() + 1) for part in chosen]
        return np.sort(self.particles.rows[np.unique(np.concatenate(parts))]) if parts else np.zeros(0, int)

    def choose(self, rows: Rows) -> None:
        """Select these particles without emitting ``chosen``, and scroll to the first."""
        places = np.flatnonzero(np.isin(self.particles.rows, rows))
        last = self.particles.columnCount() - 1
        selection = QItemSelection()
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else ():
            top, bottom = (self.particles.index(int(run[end]), column) for end, column in ((0, 0), (-1, last)))
            selection.select(top, bottom)
        before, self._silent = self._silent, True
        self._picked.select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if len(places):
            self.scrollTo(self.particles.index(int(places[0]), 0))
        self._silent = before

    def _emit_activated(self, index: QModelIndex) -> None:
        """Emit the row that was clicked; not one that was added to others."""
        if len(self.chosen_rows) <= 1:
            self.activated_row.emit(int(self.particles.rows[index.row()]))

    def _emit_chosen(self, *_: object) -> None:
        if not self._silent:
            self.chosen.emit(self.chosen_rows)

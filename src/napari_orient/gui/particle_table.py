"""A table of particles, one a row: sorted by any column, filtered, and quick with tens of thousands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QTableView, QWidget

from napari_orient.gui.colours import VERDICTS, named
from napari_orient.gui.particle_values import QUANTITIES, Quantity
from napari_orient.gui.widgets import BAD, WARNING

Rows = NDArray[np.int_]

_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_ERRORS = ("expected_error", "true_error")


class ParticleTableModel(QAbstractTableModel):
    """Columns of values by name, of which some rows are shown in some order: ``rows`` tells which."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: Mapping[str, NDArray[Any]] = {}
        self.quantities: tuple[Quantity, ...] = ()
        self.rows: Rows = np.zeros(0, int)
        self.threshold = 20.0
        self._mask: NDArray[np.bool_] = np.zeros(0, bool)
        self._sorted_by: tuple[int, Qt.SortOrder] | None = None

    def show_columns(self, columns: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> None:
        """Nothing; these columns are shown: those of `QUANTITIES` that tell something, the rows in the mask."""
        self.beginResetModel()
        self.columns = columns
        self.quantities = tuple(item for item in QUANTITIES if _tells(columns.get(item.name), item.name))
        self._mask = mask
        self._arrange()
        self.endResetModel()

    def show_rows(self, mask: NDArray[np.bool_]) -> None:
        """Nothing; only the rows in the mask are shown."""
        self.beginResetModel()
        self._mask = mask
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Nothing; rows are in the order of a column, unknown values last either way."""
        self.layoutAboutToBeChanged.emit()
        self._sorted_by = column, order
        self._arrange()
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        rows = np.flatnonzero(self._mask)
        if self._sorted_by is not None and 0 <= self._sorted_by[0] < len(self.quantities):
            column, order = self._sorted_by
            rows = rows[ranking(self.columns[self.quantities[column].name][rows], down=order != _ASCENDING)]
        self.rows = rows

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's own signature
        """How many rows are shown."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's own signature
        """How many columns tell something."""
        return 0 if parent.isValid() else len(self.quantities)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell's text, alignment or colour."""
        if not index.isValid():
            return None
        quantity = self.quantities[index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _LEFT if quantity.name in ("class", "status") else _RIGHT
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
            return QColor(BAD if quantity.name == "true_error" else WARNING)
        if quantity.name == "status" and value in VERDICTS:
            return QColor.fromRgbF(*VERDICTS[str(value)])
        return None

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """A column's title and unit; what it is in its tooltip."""
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self.quantities):
            return None
        quantity = self.quantities[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{quantity.tip[:1].upper()}{quantity.tip[1:]}; {quantity.name} in a filter"
        return _title(quantity) if role == Qt.ItemDataRole.DisplayRole else None


_ASCENDING = Qt.SortOrder.AscendingOrder


def ranking(values: NDArray[Any], *, down: bool) -> Rows:
    """The order of values, (N,); equal ones as they come, unknown numbers last."""
    if values.dtype.kind not in "fiu":
        _, values = np.unique(values.astype(str), return_inverse=True)
    numbers = np.asarray(values, float)
    return np.argsort(-numbers if down else numbers, kind="stable")


def cell(value: Any, quantity: Quantity) -> str:
    """A value as it stands in the table: rounded, a dash where it is unknown."""
    if isinstance(value, str):
        return str(value)
    number = float(value)
    if quantity.name == "cluster" and not number:
        return "–"
    return f"{number:.{quantity.digits}f}" if np.isfinite(number) else "–"


def _title(quantity: Quantity) -> str:
    return f"{quantity.title} {quantity.unit}".strip()


def _tells(column: NDArray[Any] | None, name: str) -> bool:
    """Whether a column is worth its room: a class that all share, or no verdict at all, is not."""
    if column is None:
        return False
    if name == "class":
        return len(set(column.tolist())) > 1
    return name != "status" or bool((column != "").any())


class ParticleTable(QTableView):
    """The table; ``chosen`` tells which particles a person has chosen in it."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.particles = ParticleTableModel()
        self._quiet = False
        self.setModel(self.particles)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSortingEnabled(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMinimumHeight(150)
        self.setAccessibleName("Particles")
        self.setToolTip("Choose rows: their points are selected in the viewer. Click a title to sort")
        self._set_heads()
        picked = self.selectionModel()
        assert picked is not None
        self._picked = picked
        self._picked.selectionChanged.connect(self._tell)

    def _set_heads(self) -> None:
        rows, heads = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert heads is not None
        rows.setVisible(False)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        heads.setSortIndicator(-1, _ASCENDING)
        heads.setMinimumSectionSize(24)
        heads.setStretchLastSection(True)
        heads.setHighlightSections(False)
        heads.setStyleSheet("QHeaderView::section {padding: 2px 3px;}")

    def show_columns(self, columns: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> None:
        """Nothing; these columns are shown, of them the rows in the mask, none chosen."""
        self._quiet = True
        self.particles.show_columns(columns, mask)
        self._quiet = False
        for column, quantity in enumerate(self.particles.quantities):
            self.setColumnWidth(column, self._width_of(quantity))

    def _width_of(self, quantity: Quantity) -> int:
        """Pixels that a column's title takes, or the longest of its values: Qt's own measure is twice as wide."""
        values = self.particles.columns[quantity.name]
        texts = {cell(value, quantity) for part in (values[:50], np.sort(values)[-50:]) for value in part.tolist()}
        swatch = 18 if quantity.name == "cluster" else 0
        measure = self.fontMetrics().horizontalAdvance
        return max(measure(_title(quantity)), *(measure(text) + swatch for text in texts or {""})) + 16

    def show_rows(self, mask: NDArray[np.bool_], *, chosen: Rows) -> None:
        """Nothing; only the rows in the mask are shown, those chosen that are among them."""
        self._quiet = True
        self.particles.show_rows(mask)
        self._quiet = False
        self.choose(chosen)

    def repaint_cells(self) -> None:
        """Nothing; what can be seen is painted anew."""
        view = self.viewport()
        if view is not None:
            view.update()

    @property
    def chosen_rows(self) -> Rows:
        """The particles chosen, in ascending order."""
        chosen: Any = self._picked.selection()
        parts = [np.arange(part.top(), part.bottom() + 1) for part in chosen]
        return np.sort(self.particles.rows[np.unique(np.concatenate(parts))]) if parts else np.zeros(0, int)

    def choose(self, rows: Rows) -> None:
        """Nothing; these particles are chosen, without a word; the first of them is in sight."""
        places = np.flatnonzero(np.isin(self.particles.rows, rows))
        last = self.particles.columnCount() - 1
        selection = QItemSelection()
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else ():
            top, bottom = (self.particles.index(int(run[end]), column) for end, column in ((0, 0), (-1, last)))
            selection.select(top, bottom)
        self._quiet = True
        self._picked.select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if len(places):
            self.scrollTo(self.particles.index(int(places[0]), 0))
        self._quiet = False

    def _tell(self, *_: object) -> None:
        if not self._quiet:
            self.chosen.emit(self.chosen_rows)

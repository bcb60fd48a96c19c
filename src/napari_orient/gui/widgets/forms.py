"""A form made of declared Options: one widget a parameter, with its bounds, unit and line of help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import BaseValueWidget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError, with_names
from napari_orient.engine.options import Options, Parameter, Value
from napari_orient.gui.widgets.basic import Fold, lay_out_fields, plain_number, read_plain_numbers

OptionsT = TypeVar("OptionsT", bound=Options)

_WIDEST = 2**31 - 1
AUTOMATIC = "automatic"
"""What a widget shows for None: "choose for me"."""


class OptionsForm(QWidget, Generic[OptionsT]):
    """The form of an Options class: its basic options, and the expert ones folded away under "Advanced".

    ``changed`` is emitted when the user has changed something.

    Parameters
    ----------
    labels : other labels than the options' names.
    hidden : options that keep their defaults and have no row.
    first : the options above the fold, in order; by default those that are not declared expert.
    label_width : least width of the labels' column, pixels.
    folded : fold the others away below; if False they are left to the caller, as ``advanced``.
    """

    changed = Signal()

    def __init__(
        self,
        kind: type[OptionsT],
        *,
        labels: Mapping[str, str] | None = None,
        hidden: tuple[str, ...] = (),
        first: tuple[str, ...] = (),
        label_width: int = 0,
        folded: bool = True,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._parameters = {item.name: item for item in kind.parameters() if item.name not in hidden}
        self._labels = {name: (labels or {}).get(name, item.label) for name, item in self._parameters.items()}
        self.widgets = {name: widget_of(item) for name, item in self._parameters.items()}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        names = first or tuple(name for name, item in self._parameters.items() if not item.expert)
        column.addWidget(self._rows(names, label_width))
        others = tuple(name for name in self.widgets if name not in names)
        self.advanced = self._rows(others, label_width)
        if others and folded:
            column.addWidget(Fold("Advanced", self.advanced))

    def _rows(self, names: tuple[str, ...], label_width: int) -> QWidget:
        holder = QWidget()
        rows = QFormLayout(holder)
        lay_out_fields(rows)
        for name in names:
            widget = self.widgets[name]
            label = QLabel(self._labels[name])
            label.setMinimumWidth(label_width)
            label.setToolTip(widget.tooltip)
            label.setBuddy(widget.native)
            widget.native.setAccessibleName(label.text())
            rows.addRow(label, widget.native)
            widget.changed.connect(self._emit_changed)
        return holder

    def options(self) -> OptionsT:
        """The options as the form shows them.

        Raises
        ------
        InputError
            If a value does not fit.
        """
        try:
            return self._kind.of(**self.values())
        except InputError as error:
            raise InputError(with_names(str(error), self._labels)) from error

    def values(self) -> dict[str, Value]:
        """Values of the options that have a row, by name.

        Raises
        ------
        InputError
            If one does not fit.
        """
        each = self.widgets.items()
        return {name: value_of(self._parameters[name], widget, label=self._labels[name]) for name, widget in each}

    def show_options(self, options: OptionsT) -> None:
        """Show these options."""
        record = options.to_record()
        for name, widget in self.widgets.items():
            show_value(self._parameters[name], widget, record[name])

    def _emit_changed(self, *_: object) -> None:
        self.changed.emit()


def widget_of(parameter: Parameter) -> BaseValueWidget[Any]:
    """The magicgui widget that fits one parameter, at its default, its help and bounds in the tooltip."""
    widget = _bare_widget(parameter)
    if isinstance(widget.native, QAbstractSpinBox):
        read_plain_numbers(widget.native)
    show_value(parameter, widget, parameter.default)
    help_line = parameter.help[:1].upper() + parameter.help[1:]
    widget.tooltip = f"{help_line}. Expects {parameter.expected}."
    return widget


def _bare_widget(parameter: Parameter) -> BaseValueWidget[Any]:
    if parameter.choices:
        automatic = (AUTOMATIC,) if parameter.optional else ()
        return ComboBox(choices=(*automatic, *parameter.choices))
    if parameter.type is bool:
        return CheckBox(text="")
    if parameter.type is str or parameter.optional:
        line = LineEdit()
        if parameter.optional:
            line.native.setPlaceholderText(AUTOMATIC)
        return line
    low = -_WIDEST if parameter.low is None else parameter.low
    high = _WIDEST if parameter.high is None else parameter.high
    if parameter.type is int:
        return SpinBox(value=int(max(low, 0)), min=int(low), max=int(high), step=2 if parameter.even else 1)
    # Without a step of its own magnitude the widget would show 1e-3 as 0.0.
    return FloatSpinBox(value=low, min=low, max=high, step=step_of(parameter))


def step_of(parameter: Parameter) -> float:
    """A step of one tenth of the default's magnitude: 100 steps by 10, 1e-3 by 1e-4."""
    default = parameter.default
    size = abs(float(default)) if isinstance(default, (int, float)) and default else 1.0
    return float(10.0 ** (math.floor(math.log10(size)) - 1))


def value_of(parameter: Parameter, widget: BaseValueWidget[Any], *, label: str) -> Value:
    """What the widget in a row of this label holds, as the parameter's type; an empty or automatic one may be None."""
    value: Any = widget.value
    if parameter.optional and value in (AUTOMATIC, ""):
        return None
    if isinstance(widget, LineEdit) and parameter.type in (int, float):
        return _number(parameter, str(value), label)
    return _typed(parameter, value)


def _typed(parameter: Parameter, value: Any) -> Value:
    typed: Value = parameter.type(value)
    return typed


def _number(parameter: Parameter, text: str, label: str) -> Value:
    try:
        return _typed(parameter, plain_number(text))
    except ValueError:
        raise InputError(f"{label} is {text!r}; expected {parameter.expected}, or nothing.") from None


def show_value(parameter: Parameter, widget: BaseValueWidget[Any], value: Value) -> None:
    """Show this value in the widget."""
    if value is None:
        widget.value = AUTOMATIC if parameter.choices else ""
    else:
        widget.value = str(value) if isinstance(widget, LineEdit) else value

from dataclasses import dataclass

import pytest
from qtpy.QtCore import QLocale
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option, suboptions
from napari_orient.engine.parameters import PredictionOptions, WedgeOptions
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.widgets.basic import WARNING, Fold, NoteLabel, number_box
from napari_orient.gui.widgets.forms import OptionsForm


@dataclass(frozen=True, kw_only=True)
class Everything(Options):
    rate: float = option(1e-3, help="how fast", low=0, high=1)
    size: int = option(32, help="how large", unit="voxels", low=2)
    shape: str = option("round", help="what shape", choices=("round", "square"))
    cutoff: float | None = option(None, help="where to cut; nothing: nowhere", unit="Å", low=1)
    flip: bool = option(True, help="turn it over")
    device: str | None = option(None, help="where", choices=("cpu", "gpu"))
    name: str = option("x", help="what to call it")


@pytest.fixture
def form(qtbot):
    form = OptionsForm(Everything)
    qtbot.addWidget(form)
    return form


def test_a_fresh_form_holds_the_defaults(form):
    assert form.options() == Everything()


def test_a_form_gives_back_what_it_is_shown(form):
    odd = Everything(rate=3e-4, size=7, shape="square", cutoff=2.5, flip=False, device="gpu", name="y")
    form.show_options(odd)
    assert form.options() == odd
    form.show_options(Everything())
    assert form.options() == Everything()


def test_a_small_number_is_shown_in_full(form):
    assert float(form.widgets["rate"].native.text().replace(",", ".")) == pytest.approx(1e-3)


def test_a_value_out_of_bounds_is_refused_with_what_would_fit(form):
    form.widgets["cutoff"].value = "0.5"
    with pytest.raises(InputError, match="at least 1 Å"):
        form.options()
    form.widgets["cutoff"].value = "many"
    with pytest.raises(InputError, match="'many'; expected a number"):
        form.options()


def test_what_does_not_fit_together_is_named_as_the_rows_are(qtbot):
    form = OptionsForm(WedgeOptions, labels={"highest_tilt": "To"})
    qtbot.addWidget(form)
    form.widgets["lowest_tilt"].value, form.widgets["highest_tilt"].value = "40", "30"
    with pytest.raises(InputError, match=r"expected Lowest tilt \(°\) below To\."):
        form.options()


def test_a_change_is_told_once(form, qtbot):
    with qtbot.waitSignal(form.changed):
        form.widgets["size"].value = 40


@dataclass(frozen=True, kw_only=True)
class Cutting(Options):
    size: int = option(32, help="how large", unit="voxels", low=2)
    margin: int = option(2, help="how much more", unit="voxels", low=0, expert=True)


@dataclass(frozen=True, kw_only=True)
class Cooking(Options):
    cutting: Cutting = suboptions(Cutting, size=40)
    name: str = option("x", help="what to call it")


def test_options_of_parts_are_rows_like_others_and_the_expert_ones_are_folded_away(qtbot):
    form = OptionsForm(Cooking)
    qtbot.addWidget(form)
    assert form.options() == Cooking()
    assert form.widgets["size"].value == 40
    form.widgets["margin"].value = 5
    assert form.options().cutting == Cutting(size=40, margin=5)
    (fold,) = form.findChildren(Fold)
    assert fold.isAncestorOf(form.widgets["margin"].native)
    assert not fold.isAncestorOf(form.widgets["size"].native)


def test_help_and_unit_stand_in_the_tooltip(form):
    assert form.widgets["size"].tooltip == "How large. Expects a whole number of at least 2 voxels."


def test_prediction_s_own_options_make_a_form(qtbot):
    form = OptionsForm(PredictionOptions)
    qtbot.addWidget(form)
    assert form.options() == PredictionOptions()


def test_a_note_written_before_it_is_shown_has_the_tone_of_the_theme_that_it_is_shown_in(qtbot):
    for ground, dark in (("#262930", True), ("#efebe9", False)):
        window, note = QWidget(), NoteLabel("No file named.", WARNING)
        window.setStyleSheet(f"QWidget {{background: {ground}; color: {'#f0f1f2' if dark else '#3b3a39'};}}")
        QVBoxLayout(window).addWidget(note)
        qtbot.addWidget(window)
        with qtbot.waitExposed(window):
            window.show()
        assert (WARNING in note.styleSheet()) == dark


@pytest.mark.parametrize("language", ["de_DE", "en_US"])
def test_a_typed_decimal_comma_is_a_point_whatever_the_language(qtbot, language):
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        form = OptionsForm(ViewOptions)
        boxes = [number_box(0, "", high=1000, decimals=2), form.widgets["length"].native]
        for widget in (form, boxes[0]):
            qtbot.addWidget(widget)
        for box in boxes:
            for text in ("12,5", "12.5"):
                box.selectAll()
                qtbot.keyClicks(box, text)
                assert box.value() == 12.5, text
        form.widgets["low"].value = "0,5"
        assert form.options().low == 0.5
    finally:
        QLocale.setDefault(before)

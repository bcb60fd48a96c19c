"""Every control of every dock says what it is and in which unit; the tab key reaches them in the order one reads."""

from itertools import pairwise

import pytest
from gui_scene import make_scene
from napari.components import ViewerModel
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollBar,
    QTabBar,
    QWidget,
)

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.gui.commands import CARDS
from napari_orient.gui.docks.orient_dock import STEPS, VIEW, OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import session_of

CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QAbstractSlider, QAbstractItemView)
UNITS = {"°": "degrees", "Å": "Å", "%": "share"}


@pytest.fixture(scope="module")
def docks(qapp, tmp_path_factory):
    """Both docks, every page and every card, by their names, beside a viewer with particles."""
    scene, viewer = make_scene(tmp_path_factory.mktemp("scene")), ViewerModel()
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    particles = read_particles(scene.true)
    for role in (TRUTH, PREDICTED):
        session.show_particles(particles, scene.extent, role=role, name=role)
    dock = OrientDock(viewer)
    made = {"Orient": dock, "Particles": ParticlesDock(viewer)}
    for name in (*STEPS, VIEW):
        page = dock.page(name)
        made[name] = page
        made |= {card: page.card(card) for card in getattr(page, "names", ())}
    yield made
    for dock in (made["Orient"], made["Particles"]):
        dock.deleteLater()
    qapp.processEvents()


def controls_of(dock):
    """What a person can act on: not the parts that Qt makes its own controls of."""
    for widget in dock.findChildren(QWidget):
        tabs = isinstance(widget.parent(), QTabBar)
        parts = tabs or isinstance(widget, QScrollBar) or widget.objectName().startswith("qt_")
        if isinstance(widget, CONTROLS) and not parts and not _is_part(widget, within=dock):
            yield widget


def _is_part(widget, *, within):
    above = widget.parentWidget()
    while above is not None and above is not within:
        if isinstance(above, (QAbstractSpinBox, QComboBox, QAbstractItemView, QLineEdit, QAbstractSlider)):
            return True
        above = above.parentWidget()
    return False


def told(widget):
    """A control's tooltip, or that of the piece that it is a part of."""
    while widget is not None and not widget.toolTip():
        widget = widget.parentWidget()
    return "" if widget is None else widget.toolTip()


def named(widget):
    """What a screen reader says of a control."""
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    while widget is not None and not widget.accessibleName():
        widget = widget.parentWidget()
    return text or ("" if widget is None else widget.accessibleName())


def test_every_control_has_a_tooltip_and_a_name(docks):
    silent = [
        f"{name}: {type(widget).__name__} {named(widget)!r} {told(widget)!r}"
        for name, dock in docks.items()
        for widget in controls_of(dock)
        if not told(widget) or not named(widget)
    ]
    assert not silent, "\n".join(silent)


def test_every_number_with_a_unit_has_a_tooltip_that_names_it(docks):
    numbers = [
        widget for dock in docks.values() for widget in controls_of(dock) if isinstance(widget, QAbstractSpinBox)
    ]
    suffixed = [(widget, suffix) for widget in numbers if (suffix := getattr(widget, "suffix", str)().strip())]
    assert len(suffixed) > 4
    for widget, unit in suffixed:
        assert unit in told(widget) or UNITS[unit] in told(widget), (unit, told(widget))


@pytest.mark.parametrize("name", ["Data", "Predict", "Correct", "Train", "Discover", "Export"])
def test_the_tab_key_goes_down_the_dock(docks, name):
    dock = docks[name]
    docks["Orient"].show_page(CARDS.get(name, name), name if name in CARDS else "")
    dock.grab()  # Lays it out, which Qt leaves for later where a dock is not in front.
    order, widget = [], dock.nextInFocusChain()
    while widget is not dock and len(order) < 500:
        if dock.isAncestorOf(widget) and widget in list(controls_of(dock)) and widget.isVisibleTo(dock):
            order.append(widget.mapTo(dock, widget.rect().center()).y())
        widget = widget.nextInFocusChain()
    assert len(order) > 3
    assert all(after >= before - 12 for before, after in pairwise(order)), order

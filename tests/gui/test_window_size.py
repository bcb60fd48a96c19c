"""The window at 1100 × 700 with both docks open: nothing makes it grow, and nothing is cut off."""

from itertools import product

import numpy as np
import pytest
from inspection_scene import fill
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from napari_orient.engine.inspection.corrections import ACCEPTED
from napari_orient.gui.commands import CARDS, dock_of, page_of
from napari_orient.gui.docks.orient_dock import STEPS, OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.pages.maps import MapView
from napari_orient.gui.session.edits import set_status
from napari_orient.gui.session.viewer_session import session_of
from napari_orient.gui.widgets.basic import PageFrame

SIZE = (1100, 700)
FONTS = (9, 14)
"""Points: napari's own, and a large one, at which napari's panels leave 372 pixels for the dock."""

LARGEST, ROOM = 16, 440
"""Points of a larger one, at which napari's own controls of labels need 725 pixels, and what they leave the dock."""

LEAST_PAGE = 100
"""Pixels of a page that are in sight at least."""

PAGES = [*CARDS, *(step for step in STEPS if step not in CARDS.values())]


def test_at_1100_by_700_no_page_makes_the_window_grow_and_none_is_cut_off(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(*SIZE)
    layer = fill(viewer)
    orient, particles = dock_of(viewer, OrientDock), dock_of(viewer, ParticlesDock)
    # All that can stand in the strips: an edit to undo, a file's own settings to undo, a job's two lines.
    set_status(session_of(viewer).history(layer), np.array([0]), ACCEPTED)
    orient.job_line.words.say("Predict · 5 min left · 3 waiting")
    orient.job_line.doing.say("Tomogram 12 of 60: estimating the missing wedge · " * 3)
    session_of(viewer).inspected.choose(np.array([1]))
    viewer.add_labels(np.zeros((4, 4, 4), int), scale=(10.0,) * 3, units=("angstrom",) * 3)
    for font, name in product(FONTS, PAGES):
        get_settings().appearance.font_size = font
        page_of(viewer, name)
        QApplication.processEvents()
        least = window.minimumSizeHint()
        assert (least.width() <= SIZE[0], least.height() <= SIZE[1]) == (True, True), (name, font, least)
        window.resize(*SIZE)
        QApplication.processEvents()
        assert (window.width(), window.height()) == SIZE, name
        area = orient.stack.currentWidget()
        assert area.horizontalScrollBar().maximum() == 0, f"{name} is cut off at the right at {font} points"
        assert area.viewport().height() >= LEAST_PAGE, f"{name} has no room at {font} points"
        assert viewer.window._qt_viewer.canvas.native.width() >= (300 if font == FONTS[0] else 240)
        primary = orient.page(orient.step).primary
        assert primary is None or primary.visibleRegion().boundingRect() == primary.rect(), f"{name}'s button"
        assert orient.view_strip.more.isVisible() and orient.header.undo.isVisible()
        head = particles.table.horizontalHeader()
        needed = head.fontMetrics().horizontalAdvance("expected °")
        assert head.sectionSize(3) >= needed, f"the table's columns do not fit {font} points"
    assert particles.height() >= 150
    assert orient.view_strip.upper.isHidden(), "colour and slab take the room that a page needs"
    window.resize(SIZE[0], 950)
    qtbot.waitUntil(lambda: orient.view_strip.upper.isVisible() and orient.header.counts.isVisible())
    get_settings().appearance.font_size = LARGEST
    QApplication.processEvents()
    assert orient.minimumSizeHint().height() <= ROOM
    assert particles.width() >= particles.minimumSizeHint().width(), "table, plot or patch are cut off"


@pytest.mark.parametrize("width", [343, 397])
def test_a_map_in_a_page_that_just_needs_a_scroll_bar_keeps_its_height(qtbot, width):
    """Narrower by a scroll bar it is lower and needs none: it was laid out without end, and napari ended."""
    page, view = QWidget(), MapView()
    column = QVBoxLayout(page)
    column.addWidget(view)
    column.addWidget(QLabel("below"))
    frame = PageFrame(page)
    qtbot.addWidget(frame)
    frame.show()
    for height in range(220, 330):
        frame.resize(width, height)
        QApplication.processEvents()
    assert 2 * view.width() / 3 - 30 < view.height() < 2 * view.width() / 3 + 50

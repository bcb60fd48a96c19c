"""Opens a demo folder in napari: tomogram, picks, true and predicted poses, with docks.

``python -m napari_orient.gui.demo_viewer FOLDER [--picture FILE] [--flat]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import napari
from napari.layers import Layer

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.particles import Tomogram
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers.canvas import camera
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import Session, session_of

LISTS = {TRUTH: "truth.star", PICKS: "picks.star", PREDICTED: "predicted.star"}
SIZE = (1400, 900)
"""Width and height of the window in pixels."""


def main(arguments: list[str] | None = None) -> int:
    """Open the folder in napari; with ``--picture`` save a screenshot of the window and quit."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_orient.gui.demo_viewer", description="napari on the demo's files"
    )
    parser.add_argument("folder", type=Path, help="folder of a tomogram (.mrc), picks.star, truth.star, predicted.star")
    parser.add_argument("--picture", type=Path, help="save a screenshot of the window to this file and quit")
    parser.add_argument("--flat", action="store_true", help="show a thick slice in 2D instead of 3D")
    given = parser.parse_args(arguments)
    try:
        tomogram = read_folder_tomogram(given.folder)
    except InputError as error:
        parser.error(str(error))
    viewer = napari.Viewer(title="napari-orient", show=True)
    viewer.window.resize(*SIZE)
    show_folder(session_of(viewer), given.folder, tomogram)
    show_docks(viewer)
    set_view(viewer, tomogram, flat=given.flat)
    if given.picture is None:
        napari.run()
    else:
        take_picture(viewer, given.picture)
        viewer.close()
    return 0


def read_folder_tomogram(folder: Path) -> Tomogram:
    """The tomogram in the folder.

    Raises
    ------
    InputError
        If there is none.
    """
    paths = sorted(path for suffix in (".mrc", ".rec", ".map") for path in folder.glob(f"*{suffix}"))
    if not paths:
        raise InputError(
            f"{folder} holds no tomogram (.mrc). Write one there with `napari-orient demo --output {folder}`."
        )
    return read_tomogram(paths[0])


def show_folder(session: Session, folder: Path, tomogram: Tomogram) -> None:
    """Show the tomogram and the particle lists in its folder."""
    session.show_tomogram(tomogram)
    for role, file in LISTS.items():
        path = folder / file
        if path.exists():
            particles = read_particles(path, extents={tomogram.name: tomogram.extent})
            name, line = f"{tomogram.name} {path.stem}", read_provenance(path)
            session.show_particles(particles, tomogram.extent, role=role, name=name, provenance=line)


def show_docks(viewer: napari.Viewer) -> None:
    """Open the Orient dock, with its card for prediction."""
    page_of(viewer, "Predict")


def set_view(viewer: napari.Viewer, tomogram: Tomogram, *, flat: bool) -> None:
    """Set the view so that arrows, slab and scale bar are visible."""
    viewer.dims.ndisplay = 2 if flat else 3
    viewer.reset_view()
    if not flat:
        view = camera(viewer)
        view.angles = (-8.0, 22.0, 42.0)
        view.perspective = 20.0
        view.zoom *= 0.9
    viewer.layers.selection = {_front(viewer)}


def _front(viewer: napari.Viewer) -> Layer:
    return viewer.layers[-1]


def take_picture(viewer: napari.Viewer, path: Path) -> None:
    """Save a screenshot of the whole window, once it is painted."""
    from qtpy.QtWidgets import QApplication

    for _ in range(3):
        QApplication.processEvents()
        viewer.screenshot(flash=False)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


if __name__ == "__main__":
    raise SystemExit(main())

"""The pictures of the documentation: the demo in 3D and as a slab in 2D, and every page at work.

``python docs/screenshots.py [FOLDER] [--polnet DIR] [--pictures DIR] [--model NAME|FILE] [--only NAME ...]``:
FOLDER is what ``napari-orient demo --output FOLDER`` leaves; it is made if it is not there, with ``--polnet`` from one
of PolNet's result folders (its ribosomes, whose listed poses are the truth; ``discover_kinds`` takes its proteasomes
too). Needs a screen:
``xvfb-run -s "-screen 0 1600x1000x24"``. Pictures have 256 colours, so that they stay small.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from qtpy.QtCore import QPoint, QRect, QSize
from qtpy.QtWidgets import QApplication, QWidget
from scipy.ndimage import gaussian_filter

from napari_orient.cli import main as command_line
from napari_orient.engine.io import read_particles, read_tomogram, write_particles
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.streams import Step
from napari_orient.gui.commands import dock_of, page_of
from napari_orient.gui.demo_viewer import SIZE, read_folder_tomogram, set_view, show_docks, show_folder, take_picture
from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.canvas import camera
from napari_orient.gui.layers.layer_data import PICKS
from napari_orient.gui.pages.figure import save_figure
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.subsets import MAX_ERROR
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of

KIND = "pdb_4v4r"
AFTERWARDS = 0.5
"""Seconds in which docks and arrows show what they put off."""


@contextmanager
def window(theme: str = "dark") -> Iterator[napari.Viewer]:
    viewer = napari.Viewer(title="napari-orient", show=True)
    viewer.theme = theme
    viewer.window.resize(*SIZE)
    yield viewer
    viewer.close()
    QApplication.processEvents()


def wait(until: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    rest = time.monotonic() + AFTERWARDS
    while time.monotonic() < rest:
        QApplication.processEvents()
        time.sleep(0.01)


def demo(folder: Path, path: Path, *, flat: bool, theme: str = "dark") -> None:
    tomogram = read_folder_tomogram(folder)
    with window(theme) as viewer:
        show_folder(session_of(viewer), folder, tomogram)
        show_docks(viewer)
        set_view(viewer, tomogram, flat=flat)
        take_picture(viewer, path)


def empty_page(name: str, path: Path) -> None:
    with window() as viewer:
        page_of(viewer, name)
        take_picture(viewer, path)


def opened(viewer: napari.Viewer, folder: Path) -> None:
    """Open the demo's files, the page Data beside them."""
    session = session_of(viewer)
    page_of(viewer, "Data")
    open_paths(session, [next(folder.glob("*.mrc")), folder / "truth.star"])
    session.take_for_truth(session.index.particles()[0])
    open_paths(session, [folder / "picks.star"])
    wait(lambda: True)
    viewer.reset_view()


def data(folder: Path, path: Path, *, theme: str = "dark") -> None:
    with window(theme) as viewer:
        opened(viewer, folder)
        take_picture(viewer, path)


def prediction(viewer: napari.Viewer, folder: Path, model: str) -> PredictCard:
    opened(viewer, folder)
    card = page_of(viewer, "Predict")
    if model:
        card.show_model(model)
    return card


def predict_running(folder: Path, path: Path, model: str) -> None:
    with window() as viewer:
        dock = prediction(viewer, folder, model)
        dock.options.widgets["batch"].value = 1
        dock.run()
        wait(lambda: dock.running.job is None or _done(dock.running.job.last) >= 25)
        take_picture(viewer, path)
        wait(lambda: dock.running.job is None)


def _done(step: Step | None) -> int:
    return 0 if step is None else step.done


def predict(folder: Path, path: Path, model: str, *, theme: str = "dark") -> None:
    with window(theme) as viewer:
        dock = prediction(viewer, folder, model)
        dock.run()
        wait(lambda: dock.running.job is None)
        view = camera(viewer)
        view.zoom *= 1.6
        take_picture(viewer, path)


def train(folder: Path, path: Path, *, theme: str = "dark") -> None:
    """Midway through training on the demo's own truth: too few particles for a good network, enough for a picture."""
    with window(theme) as viewer, tempfile.TemporaryDirectory() as place:
        opened(viewer, folder)
        dock = page_of(viewer, "Train")
        dock.file.show_path(Path(place) / "mine.safetensors")
        dock.training.widgets["epochs"].value = 60
        dock.run()
        wait(lambda: dock.running.job is None or len(dock.curves.milestones) > 24)
        scroll = dock.parentWidget().parentWidget().parentWidget()
        scroll.verticalScrollBar().setValue(scroll.verticalScrollBar().maximum())
        take_picture(viewer, path)
        dock.session.jobs.stop()
        wait(lambda: dock.running.job is None)


def average(folder: Path, path: Path, *, theme: str = "dark") -> None:
    with window(theme) as viewer:
        dock = posed(viewer, folder, "Average", flat=True)
        dock.run()
        wait(lambda: dock.running.job is None)
        viewer.reset_view()
        take_picture(viewer, path)


def export(folder: Path, path: Path, *, theme: str = "dark") -> None:
    with window(theme) as viewer:
        dock = posed(viewer, folder, "Export", flat=True)
        dock.subset.choice.setCurrentText(MAX_ERROR)
        dock.file.show_path(folder / "oriented.star")
        dock.export()
        take_picture(viewer, path)


def correct(folder: Path, path: Path, theme: str = "dark") -> None:
    """Three particles rotated and accepted, two rejected, a rotation undone."""
    with window(theme) as viewer:
        dock = posed(viewer, folder, "Correct")
        dock.particles.layer.selected_data = {3, 4, 9}
        dock.rotate("y", 10.0)
        dock.rotate("z", -10.0)
        dock.set_status("accepted")
        dock.particles.layer.selected_data = {12, 14}
        dock.set_status("rejected")
        dock.rotate_by("10 20 30")
        dock.undo()
        take_picture(viewer, path)


def live(folder: Path, path: Path, model: str, *, theme: str = "dark") -> None:
    """A pick added with Live on, in 2D."""
    with window(theme) as viewer:
        dock = posed(viewer, folder, "Correct", flat=True)
        session_of(viewer).model = model
        dock.live_box.setChecked(True)
        wait(lambda: dock.live.prepared is not None)
        layer = dock.particles.layer
        middle = layer.data[abs(layer.data[:, 0] - layer.data[:, 0].mean()).argmin()]
        layer.add(np.add(middle, [0, 3, 2]))
        viewer.dims.set_point(0, middle[0] * layer.scale[0])
        wait(lambda: "Predicted" in dock.live_note.text())
        layer.mode = "add"
        take_picture(viewer, path)
        dock.live_box.setChecked(False)


def surface(folder: Path, path: Path, theme: str = "dark") -> None:
    with window(theme) as viewer:
        dock = posed(viewer, folder, "Surface")
        session_of(viewer).drawing.show_as(ViewOptions.of(colour="expected error"))
        dock.shown.setChecked(True)
        take_picture(viewer, path)


def discovering(folder: Path, path: Path, theme: str = "dark") -> None:
    """Discover on the demo's picks: before, midway through the first start, and, as the picture is called, done."""
    with window(theme) as viewer:
        dock = page_of(viewer, "Discover")
        open_paths(dock.session, [next(folder.glob("*.mrc")), folder / "picks.star"])
        wait(lambda: True)
        stage(viewer, path, "start")
        dock.run()
        wait(lambda: dock.running.job is None or _done(dock.running.job.last) >= 17, 1800)
        stage(viewer, path, "running")
        wait(lambda: dock.running.job is None, 1800)
        take_picture(viewer, path)


def kinds(folder: Path, path: Path, theme: str = "dark") -> None:
    """Discover two kinds in the demo's picks of both."""
    with window(theme) as viewer:
        dock = page_of(viewer, "Discover")
        open_paths(dock.session, [next(folder.glob("*.mrc")), folder / "mixed.star"])
        wait(lambda: True)
        dock.options.widgets["classes"].value = "2"
        dock.run()
        wait(lambda: dock.running.job is None, 1800)
        take_picture(viewer, path)


def stage(viewer: napari.Viewer, path: Path, name: str) -> None:
    place = path.with_stem(path.stem.replace("done", name))
    take_picture(viewer, place)
    shrink(place)


def nothing(folder: Path, path: Path, theme: str = "dark") -> None:
    """Discover on places in the water of the demo's tomogram."""
    tomogram = read_folder_tomogram(folder)
    with window(theme) as viewer:
        session = session_of(viewer)
        session.show_tomogram(tomogram)
        water = Particles(positions=empty_places(tomogram, 70), tomogram=tomogram.name)
        session.show_particles(water, tomogram.extent, role=PICKS, name=f"{tomogram.name} picks")
        dock = page_of(viewer, "Discover")
        viewer.reset_view()
        dock.run()
        wait(lambda: dock.running.job is None, 1800)
        take_picture(viewer, path)


def empty_places(tomogram: Tomogram, count: int) -> np.ndarray:
    """Random positions (count, 3) in Å where there is less than the usual density about, 200 Å from the faces."""
    soft = gaussian_filter(np.asarray(tomogram.density, np.float32), 90 / tomogram.voxel_size)
    rng, size = np.random.default_rng(0), np.array(tomogram.extent.size) * tomogram.voxel_size
    places = rng.uniform(200, size - 200, (50 * count, 3))
    at = np.rint(places / tomogram.voxel_size).astype(int)
    return places[soft[at[:, 2], at[:, 1], at[:, 0]] > np.percentile(soft, 65)][:count]


def posed(viewer: napari.Viewer, folder: Path, name: str, *, flat: bool = False) -> Any:
    """A page or card, beside the demo's particles."""
    tomogram = read_folder_tomogram(folder)
    show_folder(session_of(viewer), folder, tomogram)
    set_view(viewer, tomogram, flat=flat)
    return page_of(viewer, name)


def pictures(folder: Path, model: str) -> dict[str, Callable[[Path], None]]:
    """What takes each picture, by its name; ``discover_done`` takes those of its start and middle too."""
    return {
        "discover_done": lambda path: discovering(folder, path),
        "discover_done_light": lambda path: discovering(folder, path, theme="light"),
        "discover_kinds": lambda path: kinds(folder, path),
        "discover_nothing": lambda path: nothing(folder, path),
        "demo_3d": lambda path: demo(folder, path, flat=False),
        "demo_2d": lambda path: demo(folder, path, flat=True),
        "demo_light": lambda path: demo(folder, path, flat=True, theme="light"),
        "data_empty": lambda path: empty_page("Data", path),
        "data": lambda path: data(folder, path),
        "data_light": lambda path: data(folder, path, theme="light"),
        "predict_running": lambda path: predict_running(folder, path, model),
        "predict": lambda path: predict(folder, path, model),
        "predict_light": lambda path: predict(folder, path, model, theme="light"),
        "train_empty": lambda path: empty_page("Train", path),
        "train": lambda path: train(folder, path),
        "train_light": lambda path: train(folder, path, theme="light"),
        "average": lambda path: average(folder, path),
        "average_light": lambda path: average(folder, path, theme="light"),
        "correct": lambda path: correct(folder, path),
        "correct_light": lambda path: correct(folder, path, theme="light"),
        "live": lambda path: live(folder, path, model),
        "live_light": lambda path: live(folder, path, model, theme="light"),
        "surface": lambda path: surface(folder, path),
        "surface_light": lambda path: surface(folder, path, theme="light"),
        "inspect_particle": lambda path: particle(folder, path),
        "inspect": lambda path: inspect(folder, path),
        "inspect_light": lambda path: inspect(folder, path, theme="light"),
        "questions_inspect": lambda path: questions_inspect(folder, path),
        "questions_predict": lambda path: questions_predict(folder, path, model),
        "questions_export": lambda path: questions_export(folder, path),
        "figure": lambda path: figure(folder, path),
        "arrows": lambda path: arrows(folder, path),
        "arrows_light": lambda path: arrows(folder, path, theme="light"),
        "export": lambda path: export(folder, path),
        "export_light": lambda path: export(folder, path, theme="light"),
    }


def inspect(folder: Path, path: Path, *, theme: str = "dark") -> None:
    """The largest failure region of the demo's prediction, framed in 3D by a click in the list."""
    with window(theme) as viewer:
        page = posed(viewer, folder, "Inspect", flat=True)
        dock = dock_of(viewer, ParticlesDock)
        wait(lambda: True)
        page.regions.picked.emit(page.inspected.regions[0])
        wait(lambda: "thick" in dock.patch.pictures.toolTip())
        take_picture(viewer, path)


def questions_inspect(folder: Path, path: Path) -> None:
    """Where failures are, why, whether poses are sure, what chance gives, and what colours mean, each in a frame."""
    with window() as viewer:
        page = posed(viewer, folder, "Inspect", flat=True)
        wait(lambda: True)
        page.regions.picked.emit(page.inspected.regions[0])
        page.inspected.settle()
        wait(lambda: True)
        take_picture(viewer, path)
        canvas: Any = viewer.window._qt_viewer.canvas.native
        legend = QRect(inside(viewer, canvas).topLeft(), QPoint(0, 0))
        legend.setSize(LEGEND)
        framed = {1: page.regions, 2: page.bars, 5: page.note, 8: page.headline}
        frame_widgets(path, viewer, framed | {10: legend})


def questions_predict(folder: Path, path: Path, model: str) -> None:
    """Which model, which voxel size, and what is running and how long, each in a frame."""
    with window() as viewer:
        card = prediction(viewer, folder, model)
        card.options.widgets["batch"].value = 1
        card.run()
        wait(lambda: card.running.job is None or _done(card.running.job.last) >= 25)
        take_picture(viewer, path)
        dock = dock_of(viewer, OrientDock)
        frame_widgets(path, viewer, {3: card.model, 4: dock.header.voxels, 7: dock.job_line}, left=DOCK_LEFT)
        card.session.jobs.stop()
        wait(lambda: card.running.job is None)


def questions_export(folder: Path, path: Path) -> None:
    """How to undo, and where the file goes, each in a frame."""
    with window() as viewer:
        correct_page = posed(viewer, folder, "Correct", flat=True)
        correct_page.particles.layer.selected_data = {12, 14}
        correct_page.set_status("rejected")
        card = page_of(viewer, "Export")
        card.file.show_path(Path("oriented.star"))
        wait(lambda: True)
        take_picture(viewer, path)
        dock = dock_of(viewer, OrientDock)
        frame_widgets(path, viewer, {6: dock.header.undo, 9: card.file}, left=DOCK_LEFT)


FRAME = (255, 197, 61)
"""Colour of frames, RGB: as of what is selected in the charts."""

DOCK_LEFT = 720
"""Pixels left out where all that is framed is in the dock: some of the canvas is left."""

LEGEND = QSize(150, 78)
"""Width and height in pixels of the corner of the canvas that the legend fills."""


def inside(viewer: napari.Viewer, widget: QWidget) -> QRect:
    """Where a widget is in a picture of the window."""
    frame: Any = viewer.window._qt_window
    return QRect(widget.mapTo(frame, QPoint(0, 0)), widget.size())


def frame_widgets(path: Path, viewer: napari.Viewer, framed: dict[int, QWidget | QRect], *, left: int = 0) -> None:
    """Draw a numbered frame about each of these widgets, or places, into a picture of the window, from ``left`` on."""
    with Picture.open(path) as taken:
        picture = taken.convert("RGB")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    scale = picture.width / viewer.window._qt_window.width()
    for number, thing in framed.items():
        place = thing if isinstance(thing, QRect) else inside(viewer, thing)
        sides = [scale * side for side in (place.left() - 4, place.top() - 4, place.right() + 4, place.bottom() + 4)]
        draw.rounded_rectangle(sides, radius=5, outline=FRAME, width=3)
        draw.ellipse([sides[0] - 24, sides[1] - 6, sides[0] + 2, sides[1] + 20], fill=FRAME)
        draw.text((sides[0] - 11, sides[1] + 7), str(number), fill="black", font=font, anchor="mm")
    picture.crop((left, 0, picture.width, picture.height)).save(path)


def figure(folder: Path, path: Path) -> None:
    """The figure for print, of the same view."""
    with window() as viewer:
        page = posed(viewer, folder, "Inspect", flat=True)
        page.regions.picked.emit(page.inspected.regions[0])
        wait(lambda: True)
        save_figure(page.session, path)
    with Picture.open(path) as drawn:
        small = drawn.convert("RGB").resize((drawn.width // 2, drawn.height // 2), Picture.Resampling.LANCZOS)
    small.save(path)


def particle(folder: Path, path: Path, *, theme: str = "dark") -> None:
    """The worst particle of the demo in the Particles dock: its patch beside the reference."""
    with window(theme) as viewer:
        page = posed(viewer, folder, "Inspect", flat=True)
        dock = dock_of(viewer, ParticlesDock)
        page.go_to_worst(1)
        page.session.events.property(name="expected error")
        wait(lambda: "thick" in dock.patch.pictures.toolTip())
        take_picture(viewer, path)


def arrows(folder: Path, path: Path, *, theme: str = "dark") -> None:
    """Arrows by their expected error, and the legend."""
    with window(theme) as viewer:
        posed(viewer, folder, "Arrows", flat=True)
        session_of(viewer).drawing.show_as(ViewOptions.of(axes="z", colour="expected error"))
        take_picture(viewer, path)


def from_polnet(results: Path, folder: Path, model: str) -> None:
    """Lay PolNet's tomogram, picks, truth and predicted poses out as the demo does."""
    folder.mkdir(parents=True, exist_ok=True)
    source, listed = next(results.glob("*rec*.mrc")), next(results.glob("*motif_list.csv"))
    tomogram = read_tomogram(shutil.copy(source, folder / f"{results.name}.mrc"))
    every = read_particles(listed).replace(tomogram=tomogram.name)
    truth, mixed = every.of_kind(KIND), every.replace(rotations=None, kind=None)
    for name, particles in {"picks": truth.replace(rotations=None), "truth": truth, "mixed": mixed}.items():
        write_particles(folder / f"{name}.star", particles, extents={tomogram.name: tomogram.extent})
    places = [str(folder / name) for name in (f"{results.name}.mrc", "picks.star", "predicted.star")]
    command_line(["predict", *places[:2], "--output", places[2], "--model", model])


def shrink(path: Path) -> None:
    """Write the picture with 256 colours: a third of the bytes, and no difference that one sees."""
    with Picture.open(path) as picture:
        small = picture.convert("RGB").quantize(256, method=Picture.Quantize.MAXCOVERAGE, kmeans=3)
    small.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the pictures of the documentation")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("napari-orient-demo"))
    parser.add_argument("--polnet", type=Path, help="a result folder of PolNet, with one tomogram and its list")
    parser.add_argument("--pictures", type=Path, default=Path(__file__).parent / "pictures")
    parser.add_argument("--model", default=next(iter(shipped_models()), ""))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="take these pictures alone")
    given = parser.parse_args()
    if not (given.folder / "predicted.star").exists():
        if given.polnet is None:
            command_line(["demo", "--output", str(given.folder), "--no-viewer"])
        else:
            from_polnet(given.polnet, given.folder, given.model)
    given.pictures.mkdir(parents=True, exist_ok=True)
    for name, take in pictures(given.folder, given.model).items():
        if given.only is None or name in given.only:
            take(given.pictures / f"{name}.png")
            shrink(given.pictures / f"{name}.png")
            print(given.pictures / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()

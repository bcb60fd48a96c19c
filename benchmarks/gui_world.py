"""Files that a person may have, good ones and others, and that person's answers to dialogs; for `gui_monkey.py`."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog

from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.particles import concatenate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "gui"))

from gui_scene import Scene, make_scene


class World:
    """Files that a person may have: tomograms, lists of several programs, maps, and what is none of these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        scenes = []
        for name, count in (("TS_01", 12), ("TS_02", 5), ("TS_03", 30)):
            place = folder / name
            place.mkdir()
            scenes.append(make_scene(place, name=name, count=count))
        self.model = str(scenes[0].model)
        self.volumes = [scene.mrc for scene in scenes]
        self.lists = [path for scene in scenes for path in (scene.picks, scene.true)]
        self.odd = [folder / "project.star", folder / "predicted.star", folder / "points.csv", folder / "none.star"]
        names, extent = ["TS_01", "TS_02", "TS_09"], scenes[0].extent
        several = concatenate([scenes[1].truth.replace(tomogram=name, kind=None) for name in names])
        write_particles(self.odd[0], several, extents=dict.fromkeys(names, extent))
        truth = scenes[0].truth
        errors = rng.uniform(2, 40, len(truth))
        write_particles(self.odd[1], truth.replace(expected_error_deg=errors), extents={"TS_01": extent})
        places = "".join(f"{row},{row % 20},{2 * row % 40},{3 * row % 50}\n" for row in range(9))
        self.odd[2].write_text("index,axis-0,axis-1,axis-2\n" + places)
        columns = "".join(f"_rlnCoordinate{axis} #{number}\n" for number, axis in enumerate("XYZ", start=1))
        self.odd[3].write_text(f"data_particles\n\nloop_\n{columns}\n")
        write_tomogram(folder / "map.mrc", rng.standard_normal((20, 20, 20)).astype(np.float32), voxel_size=13.5)
        write_tomogram(folder / "unsized.mrc", rng.standard_normal((16, 24, 24)).astype(np.float32), voxel_size=1.0)
        (folder / "broken.mrc").write_bytes(self.volumes[0].read_bytes()[:2000])
        (folder / "broken.star").write_text("data_particles\n\nloop_\n_rlnCoordinateX #1\nseven\n")
        (folder / "notes.txt").write_text("not a list\n")
        (folder / "empty").mkdir()
        from imageio.v3 import imwrite

        imwrite(folder / "photo.png", rng.integers(0, 255, (40, 60, 3), np.uint8))
        self.odd += [folder / name for name in ("map.mrc", "unsized.mrc", "broken.mrc", "broken.star", "notes.txt")]
        self.odd += [folder / "empty", folder / "photo.png"]
        self.odd += self._of_other_programs(scenes[2])

    def _of_other_programs(self, scene: Scene) -> list[Path]:
        """A project of PEET, as its folder, its parameter file and its motive list, and boxes of EMAN2."""
        peet, name = self.folder / "peet", scene.mrc.stem
        peet.mkdir()
        motives = peet / "run_MOTL_Tom1_Iter2.csv"
        write_particles(motives, scene.truth, extents={name: scene.extent}, dialect="peet")
        files = f"fnVolume = {{'../{name}/{scene.mrc.name}'}}\nfnModParticle = {{'{motives.stem}.mod'}}\n"
        (peet / "run.prm").write_text(f"{files}fnOutput = 'run'\n")
        boxes = self.folder / "TS_02_info.json"
        places = [[row, -row, row % 5, "tm", 0.5, 0] for row in range(9)]
        boxes.write_text(json.dumps({"apix_unbin": 13.5, "boxes_3d": places}))
        return [peet, peet / "run.prm", motives, boxes]

    def some(self, rng: random.Random) -> list[Path]:
        """One to three files, mostly good ones."""
        pool = rng.choices([self.volumes, self.lists, self.odd], weights=(3, 4, 2), k=rng.choice((1, 1, 2, 3)))
        return list(dict.fromkeys(rng.choice(part) for part in pool))


class Answers:
    """Answers of the person to dialogs: of files, random ones; any other dialog or menu is closed."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self.rng, self.world = rng, world
        self._timer = QTimer()
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._close)
        self._timer.start()
        QFileDialog.getOpenFileName = lambda *_, **__: (str(self._file()), "")
        QFileDialog.getOpenFileNames = lambda *_, **__: ([str(path) for path in world.some(rng)], "")
        QFileDialog.getExistingDirectory = lambda *_, **__: str(
            rng.choice((world.folder / "empty", world.folder / "peet", ""))
        )
        QFileDialog.getSaveFileName = lambda *_, **__: (str(self._output()), "")
        QInputDialog.getDouble = lambda *_, **__: (self.rng.choice((5.0, 13.5)), self.rng.random() < 0.7)

    def _file(self) -> object:
        return self.rng.choice(
            [*self.world.odd, self.world.model, self.world.folder / "TS_01" / "tiny.safetensors", ""]
        )

    def _output(self) -> object:
        suffix = self.rng.choice((".star", ".csv", ".mrc", ".png", ".safetensors", ""))
        return self.rng.choice((self.world.folder / f"out{suffix}", self.world.volumes[0], self.world.lists[0], ""))

    def _close(self) -> None:
        popup, modal = QApplication.activePopupWidget(), QApplication.activeModalWidget()
        if popup is not None:
            popup.close()
        elif modal is not None:
            modal.reject() if hasattr(modal, "reject") else modal.close()

    def end(self) -> None:
        """Answer no more."""
        self._timer.stop()

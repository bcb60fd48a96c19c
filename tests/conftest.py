"""What every test is held to, and a small world that the tests of the command line and of the whole path share.

No thread and no worker outlives its test; napari's settings stay untouched. The command line itself makes the world.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_orient.cli import main
from napari_orient.engine.io import write_tomogram

# One thread, here and in subprocesses: quick on a busy machine, and the same to the bit on any.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NAPARI_STRICT_QT"] = "raise"
os.environ["NAPARI_CONFIG"] = ""
# Where writing bytecode is switched off, every process would compile every module, and pytest rewrite every test, anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Lists that other programs wrote, and PolNet's tomograms, lie beside the project in development only.
_LISTS = Path(os.environ.get("NAPARI_ORIENT_DATA", Path(__file__).parents[2] / "shared" / "data"))
collect_ignore = [] if _LISTS.is_dir() else ["engine/test_real_lists.py", "gui/test_failures_polnet.py"]


_LONG = (
    "test_docs.py",
    "test_public_api.py",
    "test_discover.py",
    "test_map_symmetry.py",
    "test_cli_maps.py",
    "test_discovery.py",
    "test_refinement.py",
    "test_gpu.py",
    "test_rotation_prior.py",
    "test_docks.py",
    "test_journey.py",
    "test_cli_discover.py",
    "test_readers.py",
    "test_shipped_fit.py",
)
"""Files of more than 20 seconds of processor time: first, so that no process works on one of them alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; within a file the order stays."""
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection: a viewer's fixture looks for garbage several times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_outlives_the_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    _wait_for_workers()
    left = [thread for thread in threading.enumerate() if thread not in before and not _may_stay(thread)]
    assert not left, f"threads left running: {left}"


def _may_stay(thread: threading.Thread) -> bool:
    # Pools keep their threads: Qt's are dummies to Python, others daemons or executors.
    return thread.daemon or thread.name.startswith(("Dummy", "ThreadPoolExecutor"))


def _wait_for_workers() -> None:
    if "superqt.utils" not in sys.modules:
        return
    from qtpy.QtCore import QThreadPool
    from qtpy.QtWidgets import QApplication
    from superqt.utils import WorkerBase

    if QApplication.instance() is None:
        return
    assert QThreadPool.globalInstance().waitForDone(5000), "a worker is still at work"
    QApplication.processEvents()
    left = list(WorkerBase._worker_set)
    WorkerBase._worker_set.clear()
    assert not left, f"workers left: {left}"


@dataclass(frozen=True)
class World:
    """A template, three simulated tomograms with their truth in PolNet's layout, and a network trained on them."""

    folder: Path

    @property
    def template(self) -> Path:
        return self.folder / "1abc.mrc"

    @property
    def simulated(self) -> Path:
        return self.folder / "simulated"

    @property
    def tomogram(self) -> Path:
        return self.simulated / "Tomo001" / "tomo_001_rec.mrc"

    @property
    def truth(self) -> Path:
        return self.simulated / "Tomo001" / "tomo_001_motif_list.csv"

    @property
    def model(self) -> Path:
        return self.folder / "small.safetensors"


SIMULATION = """
    --tomograms 3 --seed 1 --size-x 128 --size-y 128 --size-z 64 --particles 90
    --snr-low 3 --snr-high 4 --misalignment-low 0 --misalignment-high 0
"""

TRAINING = """
    --width 64 --depth 2 --dropout 0 --patch-side 20 --mask-radius 90
    --epochs 30 --shift 0 --validation 0.3 --batch 16 --device cpu
"""


def five_blobs(side: int = 18, voxel_size: float = 10.0) -> np.ndarray:
    """A small macromolecule without symmetry: five Gaussian blobs, (side, side, side), indexed [z, y, x]."""
    axis = (np.arange(side) - (side - 1) / 2) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    blobs = [
        (0, 0, 0, 1, 28),
        (45, 0, 0, 1.2, 18),
        (0, 40, 10, 1, 16),
        (-10, -20, 50, 1.4, 15),
        (-40, 10, -20, 0.8, 14),
    ]
    return sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * w**2)) for a, b, c, h, w in blobs)


def succeed(words: Sequence[object]) -> None:
    """Run the command line in this process; it must end well."""
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    write_tomogram(made.template, five_blobs(), voxel_size=10.0)
    succeed(["simulate", made.template, "--output", made.simulated, *SIMULATION.split()])
    succeed(["train", made.simulated, "--output", made.model, *TRAINING.split()])
    return made

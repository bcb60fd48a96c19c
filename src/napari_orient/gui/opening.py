"""Files and folders opened as layers, volumes before lists, so that a list's coordinates find their tomogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari.utils.notifications import show_error

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import is_polnet_folder, names_volume, read_labelled
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui.layers import PICKS, TRUTH
from napari_orient.gui.session import Session
from napari_orient.gui.tomogram_switch import ListedParticles

PLUGIN = "napari-orient"

Pairs = list[tuple[Tomogram, Particles]]


def open_paths(session: Session, paths: Sequence[Path]) -> None:
    """Open files through the readers that napari calls, and PolNet folders in a job; an error is shown in one line."""
    folders = [path for path in paths if path.is_dir() and not names_volume(path)]
    files = [path for path in paths if path not in folders]
    for path in sorted(files, key=lambda item: not names_volume(item)):
        try:
            session.viewer.open(str(path), plugin=PLUGIN)
        except (InputError, ValueError) as error:
            show_error(f"{path.name}: {error}")
        # A list is read with the sizes of the tomograms before it.
        session.tomograms.arrange()
    if folders:
        job = session.jobs.start(_read_folders(folders), title="Opening", immediately=True)
        job.answered.connect(lambda pairs: list_pairs(session, pairs))


def _read_folders(folders: Sequence[Path]) -> Stream[Step, Pairs]:
    pairs: Pairs = []
    for number, folder in enumerate(folders):
        yield Step(number, len(folders), f"Reading {folder.name}")
        if not is_polnet_folder(folder):
            raise InputError(f"{folder} is no PolNet result folder; drop its tomograms and lists themselves.")
        pairs += read_labelled(folder)
    return pairs


def list_pairs(session: Session, pairs: Pairs) -> None:
    """List tomograms with their particles, true poses apart, and show the first: only that gets layers."""
    for tomogram, particles in pairs:
        part = ListedParticles(particles.replace(rotations=None), PICKS, f"{tomogram.name} picks")
        session.tomograms.list_particles(tomogram.name, part, volume=tomogram)
        if particles.rotations is not None:
            truth = ListedParticles(particles, TRUTH, f"{tomogram.name} truth")
            session.tomograms.list_particles(tomogram.name, truth)
    if pairs:
        session.tomograms.choose(pairs[0][0].name)
        session.viewer.reset_view()

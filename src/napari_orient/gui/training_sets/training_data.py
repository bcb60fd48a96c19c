"""Training sets as values: labelled particles, or tomograms to be simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled
from napari_orient.engine.parameters import SimulationOptions
from napari_orient.engine.particles import Particles, Tomogram, labelled_of_kind
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import load_template

Pairs = list[tuple[Tomogram, Particles]]


@dataclass(frozen=True, eq=False)
class LabelledTrainingSet:
    """Tomograms with labelled particles, all or of one class."""

    pairs: Sequence[tuple[Tomogram, Particles]]
    kind: str | None = None

    def labelled(self) -> Stream[Step, Pairs]:
        """The tomograms with the particles to train on."""
        yield Step(0, 1, "Collecting the particles")
        return list(self.pairs) if self.kind is None else labelled_of_kind(self.pairs, self.kind)


@dataclass(frozen=True)
class SimulatedTrainingSet:
    """Tomograms to be simulated into a folder, the same as of ``napari-orient simulate``.

    Parameters
    ----------
    voxel_size : Å; of a template's file that states none.
    """

    template: str
    tomograms: int
    seed: int
    options: SimulationOptions
    folder: Path
    voxel_size: float | None = None

    def labelled(self) -> Stream[Step, Pairs]:
        """The tomograms, read again from their files, with the particles in them.

        Raises
        ------
        InputError
            If the folder is not empty, or the template cannot be used.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty; name another folder, or train on its files.")
        templates = [load_template(self.template, voxel_size=self.voxel_size)]
        yield from simulate_series(
            templates, self.options, tomograms=self.tomograms, seed=self.seed, folder=self.folder
        )
        return read_labelled(self.folder)


TrainingSet = LabelledTrainingSet | SimulatedTrainingSet
"""What a model is trained on."""


def read_training_files(
    paths: Sequence[Path], *, tomograms: Path | None, voxel_size: float | None
) -> Stream[Step, Pairs | str]:
    """The tomograms of all paths with their particles, or the error of the first path that cannot be read."""
    pairs: Pairs = []
    for number, path in enumerate(paths):
        yield Step(number, len(paths), f"Reading {path.name}")
        try:
            pairs += read_labelled(path, tomograms=tomograms, voxel_size=voxel_size)
            for _, particles in pairs:
                particles.required_rotations()
        except InputError as error:
            return str(error)
    return pairs


def training_count_text(pairs: Pairs) -> str:
    """A text of the number of particles and tomograms."""
    total = sum(len(particles) for _, particles in pairs)
    return f"{total} particles with orientations in {len(pairs)} tomogram{'s' if len(pairs) != 1 else ''}"


def class_counts(pairs: Pairs) -> dict[str, int]:
    """The number of particles of each class."""
    every = [particles.kind for _, particles in pairs if particles.kind is not None]
    codes, counts = np.unique(np.concatenate(every), return_counts=True) if every else (np.array([]), np.array([]))
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))

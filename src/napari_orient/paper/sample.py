"""The sample: tomograms simulated or read, split by tomogram, and the patches that networks learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import polnet_results, read_polnet_folder, write_polnet_tomogram
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate
from napari_orient.engine.simulation.options import SimulationOptions
from napari_orient.engine.simulation.simulate import simulate, tomogram_seed
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import Template, load_template
from napari_orient.engine.training.network import Examples, cut_examples
from napari_orient.engine.training.validation import fingerprint, split
from napari_orient.paper.options import ReproductionOptions
from napari_orient.paper.recipes import Recipe
from napari_orient.paper.stages import begun, finish

CODES = ("4v4r", "3j9i")
"""The paper's macromolecules: the 70S ribosome, and the 20S proteasome, which only stands beside it there."""

D7_OF_3J9I = "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926"
"""Where the symmetry axes of the map computed from PDB entry 3j9i lie in its own frame."""

SECONDS_A_TOMOGRAM, SECONDS_A_PATCH = 10.0, 1e-3


# --- templates ------------------------------------------------------------------------------------------------------


def paper_templates(places: Sequence[Path | str] = ()) -> tuple[Template, Template]:
    """The ribosome's and the proteasome's template: of a folder, of two files, or the bead models where none is named.

    Raises
    ------
    InputError
        If a folder lacks 4v4r.mrc or 3j9i.mrc, or there are not two files.
    """
    if not places:
        ribosome, proteasome = (load_template(code) for code in CODES)
        return ribosome, proteasome
    files = [Path(place) for place in places]
    if len(files) == 1 and files[0].is_dir():
        files = [files[0] / f"{code}.mrc" for code in CODES]
    if len(files) != 2:
        raise InputError(
            f"{len(files)} templates were given; expected a folder with 4v4r.mrc and 3j9i.mrc in it, or two files: "
            "the ribosome's map, then the proteasome's."
        )
    ribosome, proteasome = (load_template(existing_file(path)) for path in files)
    return ribosome, _with_symmetry(proteasome)


def _with_symmetry(template: Template) -> Template:
    return replace(template, symmetry=D7_OF_3J9I) if template.name.endswith(CODES[1]) else template


# --- tomograms ------------------------------------------------------------------------------------------------------


def missing_tomograms(folder: Path, count: int) -> list[int]:
    """Numbers, from 1, of the tomograms that are still to be simulated; a tomogram's list is written last."""
    return [index for index in range(1, count + 1) if not (_place(folder, index)).is_file()]


def simulated(
    folder: Path,
    templates: Sequence[Template],
    simulation: SimulationOptions,
    *,
    counts: Sequence[int],
    tomograms: int,
    seed: int,
) -> Stream[Step, None]:
    """Simulate the tomograms that are missing, each into its PolNet folder; a step for each stage of each tomogram."""
    made_with = {
        "templates": {template.name: digest(template) for template in templates},
        "simulation": simulation.to_record(),
        "particles": list(counts),
        "seed": seed,
    }
    begun(folder / "record.json", made_with)
    missing = missing_tomograms(folder, tomograms)
    for place, index in enumerate(missing):
        name = f"tomo_{index:03d}"
        stream = simulate(templates, simulation, seed=tomogram_seed(seed, index), name=name, counts=counts)
        pair = yield from _within(stream, place, len(missing), f"tomogram {index} of {tomograms}")
        write_polnet_tomogram(folder, *pair, index=index)
    finish(folder / "record.json", {"tomograms": tomograms})


def _place(folder: Path, index: int) -> Path:
    return folder / f"Tomo{index:03d}" / f"tomo_{index:03d}_motif_list.csv"


def _within(stream: Stream[Step, Any], place: int, count: int, words: str) -> Stream[Step, Any]:
    """One tomogram's steps among those of all, in hundredths of a tomogram."""
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            return end.value
        yield Step(100 * place + 100 * step.done // max(step.total, 1), 100 * count, words)


def digest(template: Template) -> str:
    """Sixteen hexadecimal digits that change with a template's density or voxel size."""
    content = np.ascontiguousarray(template.density, np.float32).tobytes() + f"{template.voxel_size:.4f}".encode()
    return hashlib.sha256(content).hexdigest()[:16]


def read_folders(folders: Sequence[Path]) -> Labelled:
    """The tomograms of PolNet results at or beneath these folders with their particles, every name once."""
    results = [result for folder in folders for result in polnet_results(folder)]
    pairs = [(result, *pair) for result in results for pair in read_polnet_folder(result)]
    if len({tomogram.name for _, tomogram, _ in pairs}) == len(pairs):
        return [(tomogram, particles) for _, tomogram, particles in pairs]
    return [
        _renamed(f"{result.parent.name}_{result.name}_{tomogram.name}", tomogram, particles)
        for result, tomogram, particles in pairs
    ]


def _renamed(name: str, tomogram: Tomogram, particles: Particles) -> tuple[Tomogram, Particles]:
    return replace(tomogram, name=name), particles.replace(tomogram=name)


# --- split and patches ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A macromolecule to learn: its code, its symmetry group with its axes, and its diameter in Å."""

    code: str
    group: str
    diameter: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled tomograms in three parts that share none, and the macromolecules in them, the asymmetric one first."""

    training: Labelled
    validation: Labelled
    test: Labelled
    subjects: tuple[Subject, ...]

    def part(self, name: str, subject: Subject) -> Labelled:
        """A part's tomograms with the particles of one macromolecule; those without it are left out."""
        return particles_of(getattr(self, name), subject.code)

    def truth(self, subject: Subject) -> Particles:
        """All test particles of a macromolecule, in the order of its test patches."""
        return concatenate([particles for _, particles in self.part("test", subject)])

    def fingerprint(self, subject: Subject) -> str:
        """Sixteen hexadecimal digits that change with any position, rotation or the split."""
        parts = (fingerprint(self.part(name, subject)) for name in ("training", "validation", "test"))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def particles_of(labelled: Labelled, code: str) -> Labelled:
    """The tomograms that hold a macromolecule, with its particles alone."""
    chosen = []
    for tomogram, particles in labelled:
        kinds = np.char.lower(particles.kind) if particles.kind is not None else np.full(len(particles), code)
        own = particles.take((kinds == code.lower()) | np.char.endswith(kinds, f"_{code.lower()}"))
        chosen += [(tomogram, own)] if len(own) else []
    return chosen


def split_sample(
    labelled: Labelled, subjects: Sequence[Subject], options: ReproductionOptions, *, share: float
) -> Sample:
    """The sample of these tomograms: test ones drawn by the seed, a share of the others for validation.

    Where there are fewer tomograms than the options say, as many are tested on in proportion.

    Raises
    ------
    InputError
        If there are too few tomograms, or no particle of the first macromolecule.
    """
    if len(labelled) < 3:
        raise InputError(
            f"{len(labelled)} tomograms were given; expected at least 3: to train, to validate and to test."
        )
    test_share = options.test / options.tomograms
    rest, test = split(labelled, share=test_share, seed=options.seed)
    training, validation = split(rest, share=share, seed=options.seed)
    sample = Sample(training, validation, test, ())
    there = [subject for subject in subjects if _everywhere(sample, subject)]
    if subjects[0] not in there:
        codes = sorted({str(kind) for _, part in labelled if part.kind is not None for kind in part.kind})
        raise InputError(
            f"the tomograms hold no particles of class {subjects[0].code!r} to train and to test on; "
            f"there are {', '.join(codes) or 'none'}."
        )
    return replace(sample, subjects=tuple(there))


def _everywhere(sample: Sample, subject: Subject) -> bool:
    return all(sample.part(name, subject) for name in ("training", "validation", "test"))


@dataclass(frozen=True, eq=False)
class Patches:
    """What a network learns from, is chosen by, and is tested on."""

    learnt: Examples
    judged: Examples
    tested: Examples


class Library:
    """The sample's patches. Those cut last stay in memory: recipes that see the same cubes share them."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self._key: tuple[object, ...] = ()
        self._patches: Patches | None = None

    def subject(self, recipe: Recipe) -> Subject:
        """The macromolecule that a recipe learns."""
        return self.sample.subjects[1 if recipe.symmetric else 0]

    def count(self, recipe: Recipe, name: str = "training") -> int:
        """How many particles there are for a recipe."""
        return sum(len(particles) for _, particles in self.sample.part(name, self.subject(recipe)))

    def key(self, recipe: Recipe) -> tuple[object, ...]:
        """What decides the cubes that a recipe sees."""
        network = recipe.network
        return recipe.symmetric, recipe.cube_side, network.patch_side, network.patch_voxel_size

    def cut(self, recipe: Recipe) -> Stream[Step, Patches]:
        """The patches for a recipe."""
        if self._patches is None or self._key != self.key(recipe):
            # Room first: two sets of raw patches at once are 7 GB.
            self._patches = None
            self._patches = yield from self._all_parts(recipe)
            self._key = self.key(recipe)
        return self._patches

    def _all_parts(self, recipe: Recipe) -> Stream[Step, Patches]:
        network = MLP(recipe.network)
        subject = self.subject(recipe)
        parts = []
        for name in ("training", "validation", "test"):
            labelled = self.sample.part(name, subject)
            parts.append((yield from cut_examples(network, labelled, words=f"cutting {name} patches")))
        return Patches(*parts)

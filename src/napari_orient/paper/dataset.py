"""Data of the experiment: tomograms simulated or read, their split, and the patches that networks are trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.polnet import polnet_results, read_polnet_folder, write_polnet_tomogram
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, holding_kind
from napari_orient.engine.simulation.simulate import simulate, tomogram_seed
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream, map_steps
from napari_orient.engine.templates import Template, load_template
from napari_orient.engine.training.examples import Examples, cut_examples
from napari_orient.engine.training.validation import fingerprint, split
from napari_orient.paper.options import ReproductionOptions
from napari_orient.paper.setups import TrainingSetup
from napari_orient.paper.stages import close_record, open_record

CODES = ("4v4r", "3j9i")
"""The paper's macromolecules: the 70S ribosome, and the 20S proteasome, which the paper adds as a neighbour only."""

D7_OF_3J9I = "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926"
"""Group and axes of the map computed from PDB entry 3j9i, in that map's frame."""

SECONDS_PER_TOMOGRAM = 10.0
"""Expected seconds to simulate 256 × 256 × 128 voxels on one core; used for the time left alone."""

SECONDS_PER_PATCH = 1e-3
"""Expected seconds to cut a patch on one core; used for the time left alone."""


# --- templates ------------------------------------------------------------------------------------------------------


def paper_templates(paths: Sequence[Path | str] = ()) -> tuple[Template, Template]:
    """Templates of ribosome and proteasome: from a folder, from two files, or the bead models where none is given.

    Raises
    ------
    InputError
        If a folder lacks 4v4r.mrc or 3j9i.mrc, or there are not two files.
    """
    if not paths:
        ribosome, proteasome = (load_template(code) for code in CODES)
        return ribosome, proteasome
    files = [Path(path) for path in paths]
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
    return [index for index in range(1, count + 1) if not _list_path(folder, index).is_file()]


def simulate_missing(
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
        "templates": {template.name: template.digest for template in templates},
        "simulation": simulation.to_record(),
        "particles": list(counts),
        "seed": seed,
    }
    open_record(folder / "record.json", made_with)
    missing = missing_tomograms(folder, tomograms)
    for done, index in enumerate(missing):
        name = f"tomo_{index:03d}"
        stream = simulate(templates, simulation, seed=tomogram_seed(seed, index), name=name, counts=counts)
        pair = yield from _rescaled(stream, done, len(missing), f"tomogram {index} of {tomograms}")
        write_polnet_tomogram(folder, *pair, index=index)
    close_record(folder / "record.json", {"tomograms": tomograms})


def _list_path(folder: Path, index: int) -> Path:
    return folder / f"Tomo{index:03d}" / f"tomo_{index:03d}_motif_list.csv"


def _rescaled(stream: Stream[Step, Any], done: int, count: int, words: str) -> Stream[Step, Any]:
    """Stream of one tomogram with its steps counted in hundredths of a tomogram, among ``count`` tomograms."""
    return map_steps(stream, lambda step: Step(100 * done + 100 * step.done // max(step.total, 1), 100 * count, words))


def read_folders(folders: Sequence[Path]) -> Labelled:
    """Tomograms of PolNet results at or below these folders with their particles, under unique names."""
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
class Macromolecule:
    """Macromolecule to train on: its code, its symmetry group with its axes, and its diameter in Å."""

    code: str
    group: str
    diameter: float


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled tomograms in three disjoint parts, and the macromolecules in them, the asymmetric one first."""

    training: Labelled
    validation: Labelled
    test: Labelled
    molecules: tuple[Macromolecule, ...]

    def part(self, name: str, molecule: Macromolecule) -> Labelled:
        """Tomograms of a part with the particles of one macromolecule; those without it are left out."""
        return holding_kind(getattr(self, name), molecule.code)

    def truth(self, molecule: Macromolecule) -> Particles:
        """All test particles of a macromolecule, in the order of its test patches."""
        return concatenate([particles for _, particles in self.part("test", molecule)])

    def fingerprint(self, molecule: Macromolecule) -> str:
        """Sixteen hexadecimal digits of a hash of all positions and rotations and of the split."""
        parts = (fingerprint(self.part(name, molecule)) for name in ("training", "validation", "test"))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def split_dataset(
    labelled: Labelled, molecules: Sequence[Macromolecule], options: ReproductionOptions, *, share: float
) -> Dataset:
    """Dataset of these tomograms: test tomograms drawn by the seed, a share of the others for validation.

    Where there are fewer tomograms than the options say, the number of test tomograms is reduced in proportion.

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
    dataset = Dataset(training, validation, test, ())
    present = [molecule for molecule in molecules if _in_every_part(dataset, molecule)]
    if molecules[0] not in present:
        codes = sorted({str(kind) for _, part in labelled if part.kind is not None for kind in part.kind})
        raise InputError(
            f"the tomograms hold no particles of class {molecules[0].code!r} to train and to test on; "
            f"there are {', '.join(codes) or 'none'}."
        )
    return replace(dataset, molecules=tuple(present))


def _in_every_part(dataset: Dataset, molecule: Macromolecule) -> bool:
    return all(dataset.part(name, molecule) for name in ("training", "validation", "test"))


@dataclass(frozen=True, eq=False)
class PatchSets:
    """Patches that a network is trained on, selected and calibrated by, and tested on."""

    training: Examples
    validation: Examples
    test: Examples


class PatchCache:
    """Patches of the dataset. Those cut last stay in memory for setups with the same cubes."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._key: tuple[object, ...] = ()
        self._patches: PatchSets | None = None

    def molecule(self, setup: TrainingSetup) -> Macromolecule:
        """Macromolecule that a setup trains on."""
        return self.dataset.molecules[1 if setup.symmetric else 0]

    def key(self, setup: TrainingSetup) -> tuple[object, ...]:
        """Parameters that the cubes of a setup depend on."""
        network = setup.network
        return setup.symmetric, setup.cube_side, network.patch_side, network.patch_voxel_size

    def cut(self, setup: TrainingSetup) -> Stream[Step, PatchSets]:
        """Patches for a setup; a step for each batch that is cut."""
        if self._patches is None or self._key != self.key(setup):
            # Free the memory first: two sets of raw patches together are 7 GB.
            self._patches = None
            self._patches = yield from self._all_parts(setup)
            self._key = self.key(setup)
        return self._patches

    def _all_parts(self, setup: TrainingSetup) -> Stream[Step, PatchSets]:
        network = MLP(setup.network)
        molecule = self.molecule(setup)
        parts = []
        for name in ("training", "validation", "test"):
            labelled = self.dataset.part(name, molecule)
            parts.append((yield from cut_examples(network, labelled, words=f"cutting {name} patches")))
        return PatchSets(*parts)

"""The paper's experiment from simulation to tables and figures, in one stream that can be stopped and resumed.

Its stages: simulate, train the network of each setup, score it, and test it at other noise and on other tomograms.

"Deep orientation estimation of macromolecules in cryo-electron tomography": 150 PolNet tomograms of 4v4r and 3j9i,
split 130 to 20, a fully connected network on raw 40³ patches, three representations of rotations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.folders import FolderClaim
from napari_orient.engine.io import write_particles
from napari_orient.engine.io.dialects.polnet import read_polnet_folder
from napari_orient.engine.model_files import ModelFile
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.networks.network import Network
from napari_orient.engine.particles import Labelled, concatenate, holding_kind
from napari_orient.engine.simulation.placement import rotatable_template
from napari_orient.engine.streams import Step, Stream, run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.training.examples import Examples, cut_examples
from napari_orient.engine.training.network import Epoch, TrainingRun, TrainingState
from napari_orient.engine.training.validation import fingerprint
from napari_orient.paper.dataset import (
    CODES,
    D7_OF_3J9I,
    SECONDS_PER_PATCH,
    SECONDS_PER_TOMOGRAM,
    Macromolecule,
    PatchCache,
    PatchSets,
    missing_tomograms,
    paper_templates,
    read_folders,
    simulate_missing,
    split_dataset,
)
from napari_orient.paper.options import ReproductionOptions
from napari_orient.paper.results import collect_results, write_results
from napari_orient.paper.scores import NetworkOutput, predict_examples, raw_outputs, raw_r_squared, scored
from napari_orient.paper.setups import (
    NOISE_LEVELS,
    SHIPPED,
    VALIDATION,
    TrainingSetup,
    fewer,
    other_representations,
    printed,
    shipped,
    steps_up,
    symmetric,
)
from napari_orient.paper.stages import Record, Stage, close_record, open_record, run_stages

_SAVE_EVERY = 20.0
"""Seconds between two saved states of training: a state is 30 MB, and epochs may take less than a second."""

NOISE_SETUPS = ("printed-6d", "shift", SHIPPED)
"""Names of the setups whose networks are tested at other signal-to-noise ratios."""

_NOISE_SEED = 1_000_003
"""Added to the seed for tomograms at other signal-to-noise ratios: no seed of the dataset, whatever its size."""

_DIAMETERS = dict(zip(CODES, (250.0, 150.0), strict=True))
"""Diameters in Å that are usually given for the paper's macromolecules."""


@dataclass(frozen=True)
class ExperimentFiles:
    """Paths of the experiment's files below its folder."""

    folder: Path

    @property
    def tomograms(self) -> Path:
        """Folder of the simulated tomograms, in PolNet's layout."""
        return self.folder / "tomograms"

    def noise(self, level: float) -> Path:
        """Folder of tomograms simulated at one signal-to-noise ratio."""
        return self.folder / "noise" / f"snr_{level:g}"

    def checkpoint(self, setup: str) -> Path:
        """File of a trained network; beside it are its record and, until it is scored, the state of its training."""
        return self.folder / "networks" / f"{setup}.safetensors"

    def record(self, setup: str) -> Path:
        """Record of a network: its options and its scores."""
        return self.checkpoint(setup).with_suffix(".json")

    def state(self, setup: str) -> Path:
        """File of the state of training."""
        return self.checkpoint(setup).with_suffix(".resume")

    def predicted(self, setup: str) -> Path:
        """List of the test particles in the poses that a network predicts."""
        return self.folder / "predicted" / f"{setup}.star"

    def elsewhere(self, name: str) -> Path:
        """Record of networks tested on other tomograms."""
        return self.folder / "elsewhere" / f"{name}.json"


class Experiment:
    """Experiment in one folder.

    Parameters
    ----------
    folder : folder of all files.
    options : the dataset's size and the seed.
    templates : maps to simulate from; empty where tomograms are given.
    molecules : the macromolecules to train on, the asymmetric one first.
    given : tomograms to use instead of simulated ones; None simulates.
    """

    def __init__(
        self,
        folder: Path,
        options: ReproductionOptions,
        *,
        templates: Sequence[Template],
        molecules: Sequence[Macromolecule],
        given: Labelled | None,
    ) -> None:
        self.files, self.options, self.templates, self.given = ExperimentFiles(folder), options, templates, given
        self.molecules = tuple(molecules)
        self._patch_cache: PatchCache | None = None

    @property
    def patch_cache(self) -> PatchCache:
        """Patches of the dataset; the tomograms must exist."""
        if self._patch_cache is None:
            labelled = self.given
            if labelled is None:
                labelled = read_polnet_folder(self.files.tomograms)[: self.options.tomograms]
            self._patch_cache = PatchCache(split_dataset(labelled, self.molecules, self.options, share=VALIDATION))
        return self._patch_cache

    def setups(self) -> list[TrainingSetup]:
        """Setups to train, in the order of the tables."""
        chosen = [*printed()]
        if self.options.ablation:
            chosen += steps_up()
        chosen.append(shipped())
        if self.options.ablation:
            chosen += [*other_representations(), *fewer(self._expected(0))]
        if len(self.molecules) > 1:
            chosen += symmetric(self.molecules[1].group)
        given = self.options
        return [setup.at(epochs=given.epochs, seed=given.seed, device=given.compute.device) for setup in chosen]

    def stages(self, elsewhere: Path | None) -> Iterator[Stage]:
        """Stages that are still to be run, in order."""
        if self.given is None:
            missing = len(missing_tomograms(self.files.tomograms, self.options.tomograms))
            seconds = missing * self._seconds_per_tomogram()
            yield Stage("simulating", seconds, self._simulate)
        yield from self._training()
        if self.options.ablation and self.given is None:
            for level in NOISE_LEVELS:
                seconds = self.options.noise_tomograms * self._seconds_per_tomogram() + 10
                yield Stage(f"signal-to-noise {level:g}", seconds, partial(self._noise, level))
        if elsewhere is not None:
            yield Stage(f"testing networks on {elsewhere.name}", 60.0, partial(self._elsewhere, elsewhere))

    def results_of(self, setup: TrainingSetup) -> Record | None:
        """Scores of a setup's network; None until it is trained and scored."""
        path = self.files.record(setup.name)
        return open_record(path, self._made_with(setup)) if path.exists() else None

    # --- parts ------------------------------------------------------------------------------------------------------

    def _expected(self, index: int) -> int:
        """Expected number of training particles of a macromolecule, before the tomograms exist."""
        rest = self.options.tomograms - self.options.test
        if self.given is None:
            return (self.options.ribosomes, self.options.proteasomes)[index] * rest
        labelled = holding_kind(self.given, self.molecules[index].code)
        return sum(len(particles) for _, particles in labelled) * rest // self.options.tomograms

    def _seconds_per_tomogram(self) -> float:
        return SECONDS_PER_TOMOGRAM * self.options.size_xy**2 * self.options.size_z / (256 * 256 * 128)

    def _training(self) -> Iterator[Stage]:
        """Stages that cut patches, train and score what is not finished, in an order with the fewest cuts."""
        cut: object = None
        complete = self.given is not None or not missing_tomograms(self.files.tomograms, self.options.tomograms)
        for setup in sorted(self.setups(), key=lambda item: (item.symmetric, -item.cube_side)):
            if complete and self.results_of(setup):
                continue
            particles = self._expected(1 if setup.symmetric else 0)
            if cut != (setup.symmetric, setup.cube_side):
                cut = setup.symmetric, setup.cube_side
                yield Stage("cutting", particles * SECONDS_PER_PATCH, partial(self._cut, setup))
            yield Stage(setup.title, setup.seconds(particles), partial(self._train, setup))
            yield Stage(setup.title, particles * SECONDS_PER_PATCH / 2, partial(self._score, setup))

    def _simulate(self) -> Stream[Step, None]:
        counts = [self.options.ribosomes, self.options.proteasomes]
        return simulate_missing(
            self.files.tomograms,
            self.templates,
            self.options.simulation(),
            counts=counts[: len(self.templates)],
            tomograms=self.options.tomograms,
            seed=self.options.seed,
        )

    def _made_with(self, setup: TrainingSetup) -> Record:
        return {
            "network": setup.network.to_record(),
            "training": {name: value for name, value in setup.training.to_record().items() if name != "device"},
            "particles": setup.particles,
            "answer": setup.answer,
            "weights": setup.weights,
            "sample": self.patch_cache.dataset.fingerprint(self.patch_cache.molecule(setup)),
        }

    def _cut(self, setup: TrainingSetup) -> Stream[Step, PatchSets]:
        return self.patch_cache.cut(setup)

    def _train(self, setup: TrainingSetup) -> Stream[Step, None]:
        """Train the network of one setup from its last saved state, and save the final state."""
        if open_record(self.files.record(setup.name), self._made_with(setup)) is not None:
            return
        device = setup.training.compute.chosen()
        patches = yield from self.patch_cache.cut(setup)
        training = _subset(patches.training, setup).to(device)
        generator = torch.Generator().manual_seed(setup.training.seed)
        network = MLP(setup.network, generator=generator).to(device)
        validation = patches.validation.to(device)
        card = self._card(setup, training)
        training_run = TrainingRun(network, setup.training, training, validation, name=setup.name, card=card)
        yield from self._epochs(training_run, setup, words=device_words(device))

    def _score(self, setup: TrainingSetup) -> Stream[Step, None]:
        """Score a trained network: R² in training and in test, shares, poses; then remove its state of training."""
        if open_record(self.files.record(setup.name), self._made_with(setup)) is not None:
            return
        patches = yield from self.patch_cache.cut(setup)
        state = TrainingState.load(self.files.state(setup.name))
        network = MLP(setup.network).to(setup.training.compute.chosen())
        network.load_state_dict(dict(state.best.weights) if setup.weights == "best" else state.last)
        training = _subset(patches.training, setup)
        raw = yield from raw_outputs(network, training, words="scoring in training")
        output = yield from predict_examples(network, patches.test, words="scoring in test")
        self._write(setup, network, output, card=dict(state.best.card))
        molecule = self.patch_cache.molecule(setup)
        truth, group = self.patch_cache.dataset.truth(molecule), symmetry(molecule.group)
        found = {
            "trained_on": len(training),
            "r_squared_training": raw_r_squared(network, raw, training.rotations),
            "r_squared": raw_r_squared(network, output.raw, patches.test.rotations),
            "once": scored(output.single, truth, group),
            "turned": scored(output.averaged, truth, group),
        }
        close_record(self.files.record(setup.name), found)
        self.files.state(setup.name).unlink(missing_ok=True)

    def _card(self, setup: TrainingSetup, training: Examples) -> Record:
        return {
            "training": setup.training.to_record(),
            "particles": {"training": len(training)},
            "classes": [self.patch_cache.molecule(setup).code],
            "fingerprint": self.patch_cache.dataset.fingerprint(self.patch_cache.molecule(setup)),
        }

    def _epochs(self, training_run: TrainingRun, setup: TrainingSetup, *, words: str) -> Stream[Step, None]:
        """Train to the end; the state is saved at intervals, when stopped, and at the end."""
        path = self.files.state(setup.name)
        saved, unsaved = time.monotonic(), None
        with closing(training_run.epochs(TrainingState.load(path) if path.exists() else None, words=words)) as stream:
            try:
                for step in stream:
                    if isinstance(step, Epoch):
                        unsaved = step.state
                        if time.monotonic() - saved > _SAVE_EVERY:
                            unsaved.save(path)
                            saved, unsaved = time.monotonic(), None
                    yield step
            finally:
                if unsaved is not None:
                    unsaved.save(path)

    def _write(self, setup: TrainingSetup, network: MLP, output: NetworkOutput, *, card: Record) -> None:
        """Write the checkpoint and the predicted poses."""
        Network.of(network, name=setup.name, card=card).save(self.files.checkpoint(setup.name))
        molecule = self.patch_cache.molecule(setup)
        truth = self.patch_cache.dataset.truth(molecule)
        path = self.files.predicted(setup.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_particles(
            path,
            truth.replace(rotations=_answer(output, setup)),
            provenance=setup.title,
        )

    # --- other tomograms --------------------------------------------------------------------------------------------

    def _noise(self, level: float) -> Stream[Step, None]:
        simulation = self.options.simulation(snr=(level, level))
        folder, count = self.files.noise(level), self.options.noise_tomograms
        counts = [self.options.ribosomes, self.options.proteasomes][: len(self.templates)]
        seed = self.options.seed + _NOISE_SEED
        yield from simulate_missing(folder, self.templates, simulation, counts=counts, tomograms=count, seed=seed)
        chosen = [setup for setup in self.setups() if setup.name in NOISE_SETUPS]
        yield from self._evaluate_on(f"snr_{level:g}", read_polnet_folder(folder), chosen)

    def _elsewhere(self, folder: Path) -> Stream[Step, None]:
        present = [molecule.code for molecule in self.molecules if holding_kind(read_folders([folder]), molecule.code)]
        chosen = [setup for setup in self.setups() if self.patch_cache.molecule(setup).code in present]
        yield from self._evaluate_on("polnet", read_folders([folder]), chosen)

    def _evaluate_on(self, name: str, labelled: Labelled, chosen: Sequence[TrainingSetup]) -> Stream[Step, None]:
        """Score finished networks on tomograms that were never trained on, and write a record."""
        made_with = {"networks": [setup.name for setup in chosen], "tomograms": fingerprint(labelled)}
        path = self.files.elsewhere(name)
        if open_record(path, made_with) is not None:
            return
        found: dict[str, Any] = {}
        for index, setup in enumerate(chosen):
            yield Step(index, len(chosen), setup.title)
            found[setup.name] = run(self._evaluate_one(setup, labelled))
        close_record(path, found)

    def _evaluate_one(self, setup: TrainingSetup, labelled: Labelled) -> Stream[Step, Record]:
        molecule = self.patch_cache.molecule(setup)
        own = holding_kind(labelled, molecule.code)
        saved = Network.from_file(ModelFile.read(self.files.checkpoint(setup.name)))
        network = saved.mlp(setup.training.compute.chosen())
        examples = yield from cut_examples(network, own, words=setup.title)
        output = yield from predict_examples(network, examples, words=setup.title)
        truth = concatenate([particles for _, particles in own])
        r_squared = raw_r_squared(network, output.raw, examples.rotations)
        return {"r_squared": r_squared, **scored(_answer(output, setup), truth, symmetry(molecule.group))}


def _subset(training: Examples, setup: TrainingSetup) -> Examples:
    """Examples that a setup trains on: all, or as many as it limits them to, drawn by its seed."""
    if setup.particles is None:
        return training
    generator = torch.Generator().manual_seed(setup.training.seed)
    return training.take(torch.randperm(len(training), generator=generator)[: setup.particles])


def _answer(output: NetworkOutput, setup: TrainingSetup) -> Any:
    return output.single if setup.answer == "once" else output.averaged


# --- the whole experiment -------------------------------------------------------------------------------------------


def reproduce(
    folder: Path,
    options: ReproductionOptions | None = None,
    *,
    templates: Sequence[Template] = (),
    polnet: Sequence[Path] = (),
    check: Path | None = None,
) -> Stream[Step, Record]:
    """Record of the paper's experiment in a folder; stages that are finished there are not run again.

    Closing the stream saves every finished stage and the state of training; the same call resumes from there.

    Parameters
    ----------
    folder : gets ``tomograms``, ``networks``, ``predicted``, tables, pictures, ``results.json`` and, in ``times.json``,
        the seconds that each stage took.
    options : sizes and seed; by default the paper's.
    templates : the asymmetric and, perhaps, the symmetric macromolecule to simulate; by default the bead models.
    polnet : PolNet result folders to use instead of simulating.
    check : PolNet result folder, never trained on, that every network is tested on in the end.

    Raises
    ------
    InputError
        If the folder holds stages made with other options, or the given tomograms lack the macromolecules.
    """
    options = options or ReproductionOptions()
    templates = () if polnet else tuple(templates) or paper_templates()
    if len(templates) > 1 and options.proteasomes == 0:
        templates = templates[:1]
    given = read_folders(polnet) if polnet else None
    if check is not None:
        read_folders([check])
    molecules = _macromolecules(templates)
    if given is not None:
        molecules = [molecule for molecule in molecules if holding_kind(given, molecule.code)]
        if not molecules or molecules[0].code != CODES[0]:
            raise InputError(f"{polnet[0]}: its tomograms hold no {CODES[0]}; expected the paper's ribosomes in them.")
    with experiment_claim(folder).held():
        experiment = Experiment(folder, options, templates=templates, molecules=molecules, given=given)
        stages = list(experiment.stages(check))
        stages.append(Stage("tables and pictures", 5.0, lambda: write_results(experiment, check)))
        yield from run_stages(stages, times=folder / "times.json")
        return collect_results(experiment)


def experiment_claim(folder: Path) -> FolderClaim:
    """What the experiment has a folder for; each stage records by itself what it was made with."""
    return FolderClaim(
        folder=folder,
        maker="reproduce",
        made_with={},
        owns=("tomograms", "noise", "networks", "predicted", "elsewhere", "results.json", "times.json"),
        recognised=lambda place: any((place / name).is_file() for name in ("times.json", "tomograms/record.json")),
    )


def _macromolecules(templates: Sequence[Template]) -> list[Macromolecule]:
    if not templates:
        groups = ("C1", D7_OF_3J9I)
        return [Macromolecule(code, group, _DIAMETERS[code]) for code, group in zip(CODES, groups, strict=True)]
    return [Macromolecule(item.name, item.symmetry or "C1", _diameter(item)) for item in templates]


def _diameter(template: Template) -> float:
    """Diameter in Å: the usual one of the paper's macromolecules, the longest distance within any other."""
    size = next((value for code, value in _DIAMETERS.items() if template.name.endswith(code)), None)
    return size or rotatable_template(template, voxel_size=template.voxel_size, level=0.1).diameter

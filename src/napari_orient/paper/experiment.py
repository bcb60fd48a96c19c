"""The experiment as stages: simulate, train each recipe, judge it, try it at other noise and elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_orient.engine.devices import choose_device, device_words
from napari_orient.engine.io import read_polnet_folder, write_particles
from napari_orient.engine.model_files import ModelFile
from napari_orient.engine.networks.mlp import MLP, Network
from napari_orient.engine.particles import Labelled, concatenate
from napari_orient.engine.streams import Step, Stream, run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.training.network import Epoch, Examples, TrainingRun, TrainingState, cut_examples
from napari_orient.engine.training.validation import fingerprint
from napari_orient.paper import recipes as book
from napari_orient.paper.options import ReproductionOptions
from napari_orient.paper.recipes import Recipe
from napari_orient.paper.sample import (
    SECONDS_A_PATCH,
    SECONDS_A_TOMOGRAM,
    Library,
    Patches,
    Subject,
    missing_tomograms,
    particles_of,
    read_folders,
    simulated,
    split_sample,
)
from napari_orient.paper.scores import Told, judged, raw_outputs, raw_r_squared, tell
from napari_orient.paper.stages import Record, Stage, begun, finish

_SAVE_EVERY = 20.0
"""Seconds between two saved states of training: a state is 30 MB, and a small training's epoch takes a blink."""

NOISE_RECIPES = ("printed-6d", "shift", book.SHIPPED)


@dataclass(frozen=True)
class Places:
    """The experiment's files under its folder."""

    folder: Path

    @property
    def tomograms(self) -> Path:
        """The simulated tomograms, in PolNet's layout."""
        return self.folder / "tomograms"

    def noise(self, level: float) -> Path:
        """Tomograms simulated at one signal-to-noise ratio."""
        return self.folder / "noise" / f"snr_{level:g}"

    def checkpoint(self, recipe: str) -> Path:
        """A trained network; beside it, its record and, until it is judged, the state to go on from."""
        return self.folder / "networks" / f"{recipe}.safetensors"

    def record(self, recipe: str) -> Path:
        """What a network was made with, and what it was found to be."""
        return self.checkpoint(recipe).with_suffix(".json")

    def state(self, recipe: str) -> Path:
        """Where training stands."""
        return self.checkpoint(recipe).with_suffix(".resume")

    def predicted(self, recipe: str) -> Path:
        """The test particles in the poses that a network tells."""
        return self.folder / "predicted" / f"{recipe}.star"

    def elsewhere(self, name: str) -> Path:
        """The record of networks tried on other tomograms."""
        return self.folder / "elsewhere" / f"{name}.json"


class Experiment:
    """All that is done in one folder.

    Parameters
    ----------
    folder : where everything goes.
    options : the sample's size and the seed.
    templates : what is simulated; None where tomograms are given.
    subjects : the macromolecules to learn, the asymmetric one first.
    given : tomograms to take instead of simulating; None simulates.
    """

    def __init__(
        self,
        folder: Path,
        options: ReproductionOptions,
        *,
        templates: Sequence[Template],
        subjects: Sequence[Subject],
        given: Labelled | None,
    ) -> None:
        self.places, self.options, self.templates, self.given = Places(folder), options, templates, given
        self.subjects = tuple(subjects)
        self._library: Library | None = None

    @property
    def library(self) -> Library:
        """The sample's patches; the tomograms must be there."""
        if self._library is None:
            labelled = self.given
            if labelled is None:
                labelled = read_polnet_folder(self.places.tomograms)[: self.options.tomograms]
            self._library = Library(split_sample(labelled, self.subjects, self.options, share=book.VALIDATION))
        return self._library

    def recipes(self) -> list[Recipe]:
        """All that is trained, in the order of the tables."""
        chosen = [*book.printed()]
        if self.options.ablation:
            chosen += book.steps_up()
        chosen.append(book.shipped())
        if self.options.ablation:
            chosen += [*book.other_representations(), *book.fewer(self._expected(0))]
        if len(self.subjects) > 1:
            chosen += book.symmetric(self.subjects[1].group)
        given = self.options
        return [recipe.at(epochs=given.epochs, seed=given.seed, device=given.device) for recipe in chosen]

    def stages(self, elsewhere: Path | None) -> Iterator[Stage]:
        """Everything that is still to be done, in order."""
        if self.given is None:
            missing = len(missing_tomograms(self.places.tomograms, self.options.tomograms))
            seconds = missing * self._seconds_a_tomogram()
            yield Stage("simulating", seconds, self._simulate)
        yield from self._training()
        if self.options.ablation and self.given is None:
            for level in book.NOISE_LEVELS:
                seconds = self.options.noise_tomograms * self._seconds_a_tomogram() + 10
                yield Stage(f"signal-to-noise {level:g}", seconds, partial(self._noise, level))
        if elsewhere is not None:
            yield Stage(f"trying networks on {elsewhere.name}", 60.0, partial(self._elsewhere, elsewhere))

    def finished(self, recipe: Recipe) -> Record | None:
        """What a recipe's network was found to be, once it is trained and judged."""
        path = self.places.record(recipe.name)
        return begun(path, self._made_with(recipe)) if path.exists() else None

    # --- parts ------------------------------------------------------------------------------------------------------

    def _expected(self, index: int) -> int:
        """Training particles of a macromolecule, as far as can be told before there are tomograms."""
        rest = self.options.tomograms - self.options.test
        if self.given is None:
            return (self.options.ribosomes, self.options.proteasomes)[index] * rest
        labelled = particles_of(self.given, self.subjects[index].code)
        return sum(len(particles) for _, particles in labelled) * rest // self.options.tomograms

    def _seconds_a_tomogram(self) -> float:
        return SECONDS_A_TOMOGRAM * self.options.size_xy**2 * self.options.size_z / (256 * 256 * 128)

    def _training(self) -> Iterator[Stage]:
        """Cut, train and judge what is not finished, in an order that cuts patches as seldom as may be."""
        cut: object = None
        there = self.given is not None or not missing_tomograms(self.places.tomograms, self.options.tomograms)
        for recipe in sorted(self.recipes(), key=lambda item: (item.symmetric, -item.cube_side)):
            if there and self.finished(recipe):
                continue
            particles = self._expected(1 if recipe.symmetric else 0)
            if cut != (recipe.symmetric, recipe.cube_side):
                cut = recipe.symmetric, recipe.cube_side
                yield Stage("cutting", particles * SECONDS_A_PATCH, partial(self._cut, recipe))
            yield Stage(recipe.title, recipe.seconds(particles), partial(self._train, recipe))
            yield Stage(recipe.title, particles * SECONDS_A_PATCH / 2, partial(self._judge, recipe))

    def _simulate(self) -> Stream[Step, None]:
        counts = [self.options.ribosomes, self.options.proteasomes]
        return simulated(
            self.places.tomograms,
            self.templates,
            self.options.simulation(),
            counts=counts[: len(self.templates)],
            tomograms=self.options.tomograms,
            seed=self.options.seed,
        )

    def _made_with(self, recipe: Recipe) -> Record:
        return {
            "network": recipe.network.to_record(),
            "training": {name: value for name, value in recipe.training.to_record().items() if name != "device"},
            "particles": recipe.particles,
            "answer": recipe.answer,
            "weights": recipe.weights,
            "sample": self.library.sample.fingerprint(self.library.subject(recipe)),
        }

    def _cut(self, recipe: Recipe) -> Stream[Step, Patches]:
        return self.library.cut(recipe)

    def _train(self, recipe: Recipe) -> Stream[Step, None]:
        """Train one recipe from where it was stopped, and leave the state in which it ends."""
        if begun(self.places.record(recipe.name), self._made_with(recipe)) is not None:
            return
        device = choose_device(recipe.training.device)
        patches = yield from self.library.cut(recipe)
        learnt = _some(patches.learnt, recipe).to(device)
        generator = torch.Generator().manual_seed(recipe.training.seed)
        network = MLP(recipe.network, generator=generator).to(device)
        judged_by = patches.judged.to(device)
        card = self._card(recipe, learnt)
        training_run = TrainingRun(network, recipe.training, learnt, judged_by, name=recipe.name, card=card)
        yield from self._epochs(training_run, recipe, words=device_words(device))

    def _judge(self, recipe: Recipe) -> Stream[Step, None]:
        """Judge a trained network: R² in training and in test, shares, poses; its state is then no longer needed."""
        if begun(self.places.record(recipe.name), self._made_with(recipe)) is not None:
            return
        patches = yield from self.library.cut(recipe)
        state = TrainingState.load(self.places.state(recipe.name))
        network = MLP(recipe.network).to(choose_device(recipe.training.device))
        network.load_state_dict(dict(state.best.weights) if recipe.weights == "best" else state.last)
        learnt = _some(patches.learnt, recipe)
        raw = yield from raw_outputs(network, learnt, words="judging in training")
        told = yield from tell(network, patches.tested, words="judging in test")
        self._keep(recipe, network, told, card=dict(state.best.card))
        subject = self.library.subject(recipe)
        truth, group = self.library.sample.truth(subject), symmetry(subject.group)
        found = {
            "trained_on": len(learnt),
            "r_squared_training": raw_r_squared(network, raw, learnt.rotations),
            "r_squared": raw_r_squared(network, told.raw, patches.tested.rotations),
            "once": judged(told.once, truth, group),
            "turned": judged(told.turned, truth, group),
        }
        finish(self.places.record(recipe.name), found)
        self.places.state(recipe.name).unlink()

    def _card(self, recipe: Recipe, learnt: Examples) -> Record:
        return {
            "training": recipe.training.to_record(),
            "particles": {"training": len(learnt)},
            "classes": [self.library.subject(recipe).code],
            "fingerprint": self.library.sample.fingerprint(self.library.subject(recipe)),
        }

    def _epochs(self, training_run: TrainingRun, recipe: Recipe, *, words: str) -> Stream[Step, None]:
        """Train to the end; the state is kept now and then, when stopped, and at the end."""
        path = self.places.state(recipe.name)
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

    def _keep(self, recipe: Recipe, network: MLP, told: Told, *, card: Record) -> None:
        """Write the checkpoint and the predicted poses."""
        Network.of(network, name=recipe.name, card=card).save(self.places.checkpoint(recipe.name))
        subject = self.library.subject(recipe)
        truth = self.library.sample.truth(subject)
        path = self.places.predicted(recipe.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        extents = {tomogram.name: tomogram.extent for tomogram, _ in self.library.sample.part("test", subject)}
        write_particles(path, truth.replace(rotations=_answer(told, recipe)), extents=extents, provenance=recipe.title)

    # --- other tomograms --------------------------------------------------------------------------------------------

    def _noise(self, level: float) -> Stream[Step, None]:
        simulation = self.options.simulation(snr=(level, level))
        folder, count = self.places.noise(level), self.options.noise_tomograms
        counts = [self.options.ribosomes, self.options.proteasomes][: len(self.templates)]
        # Other seeds than the sample's, whatever its size.
        seed = self.options.seed + 1_000_003
        yield from simulated(folder, self.templates, simulation, counts=counts, tomograms=count, seed=seed)
        chosen = [recipe for recipe in self.recipes() if recipe.name in NOISE_RECIPES]
        yield from self._tried(f"snr_{level:g}", read_polnet_folder(folder), chosen)

    def _elsewhere(self, folder: Path) -> Stream[Step, None]:
        there = [subject.code for subject in self.subjects if particles_of(read_folders([folder]), subject.code)]
        chosen = [recipe for recipe in self.recipes() if self.library.subject(recipe).code in there]
        yield from self._tried("polnet", read_folders([folder]), chosen)

    def _tried(self, name: str, labelled: Labelled, chosen: Sequence[Recipe]) -> Stream[Step, None]:
        """Judge finished networks on tomograms that were never trained on, and keep a record of it."""
        made_with = {"networks": [recipe.name for recipe in chosen], "tomograms": fingerprint(labelled)}
        path = self.places.elsewhere(name)
        if begun(path, made_with) is not None:
            return
        found: dict[str, Any] = {}
        for index, recipe in enumerate(chosen):
            yield Step(index, len(chosen), recipe.title)
            found[recipe.name] = run(self._tried_one(recipe, labelled))
        finish(path, found)

    def _tried_one(self, recipe: Recipe, labelled: Labelled) -> Stream[Step, Record]:
        subject = self.library.subject(recipe)
        own = particles_of(labelled, subject.code)
        saved = Network.from_file(ModelFile.read(self.places.checkpoint(recipe.name)))
        network = saved.mlp(choose_device(recipe.training.device))
        examples = yield from cut_examples(network, own, words=recipe.title)
        told = yield from tell(network, examples, words=recipe.title)
        truth = concatenate([particles for _, particles in own])
        r_squared = raw_r_squared(network, told.raw, examples.rotations)
        return {"r_squared": r_squared, **judged(_answer(told, recipe), truth, symmetry(subject.group))}


def _some(learnt: Examples, recipe: Recipe) -> Examples:
    """The examples that a recipe learns from: all, or as many as it says, drawn by its seed."""
    if recipe.particles is None:
        return learnt
    generator = torch.Generator().manual_seed(recipe.training.seed)
    return learnt.take(torch.randperm(len(learnt), generator=generator)[: recipe.particles])


def _answer(told: Told, recipe: Recipe) -> Any:
    return told.once if recipe.answer == "once" else told.turned

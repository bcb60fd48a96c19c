"""What came of the experiment: one record of every figure, the tables, and the pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_orient.engine.inspection.neighbours import nearest_neighbour
from napari_orient.engine.io import read_particles
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.report_plots import save_figure
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.paper import pictures, tables
from napari_orient.paper.comparison import compare_samples, draw_comparison
from napari_orient.paper.experiment import Experiment
from napari_orient.paper.recipes import SHIPPED, Recipe
from napari_orient.paper.sample import particles_of, read_folders
from napari_orient.paper.scores import by_neighbour, chances, crowther, resolution_allowed
from napari_orient.paper.stages import Record, read_record, write_record

_PANELS = {"printed-": "as printed", "code-": "128 nodes, 15 epochs, as in the code", "wide-": "as shipped"}


def gathered(experiment: Experiment) -> Record:
    """Every figure that the experiment's folder holds, in one record fit for JSON."""
    sample = experiment.library.sample
    done = [(recipe, found) for recipe in experiment.recipes() if (found := experiment.finished(recipe))]
    return {
        "options": experiment.options.to_record(),
        "sample": {
            "source": _source(experiment),
            "tomograms": {name: len(getattr(sample, name)) for name in ("training", "validation", "test")},
            "particles": {
                subject.code: {
                    name: sum(len(particles) for _, particles in sample.part(name, subject))
                    for name in ("training", "validation", "test")
                }
                for subject in sample.subjects
            },
            "test": [tomogram.name for tomogram, _ in sample.test],
        },
        "chance": {subject.code: chances(symmetry(subject.group)) for subject in sample.subjects},
        "networks": {recipe.name: _row(experiment, recipe, found) for recipe, found in done},
        "elsewhere": _elsewhere(experiment),
        "neighbours": {
            recipe.name: _neighbours(experiment, recipe)
            for recipe, _ in done
            if _is_shown(recipe) and not recipe.symmetric
        },
        "crowther": {recipe.name: _crowther(experiment, recipe) for recipe, _ in done if _is_shown(recipe)},
    }


def write_outcome(experiment: Experiment, check: Path | None) -> Stream[Step, None]:
    """Write results.json, the tables and the pictures; a step for each."""
    record = gathered(experiment)
    folder = experiment.places.folder
    write_record(folder / "results.json", record)
    texts = tables.texts(record)
    for name, text in texts.items():
        with replacing(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")
    drawn: dict[str, Callable[[], Figure]] = {
        "figure2_angles.png": lambda: _angles(experiment),
        "figure2_axes.png": lambda: _axes(experiment),
        "neighbours.png": lambda: pictures.draw_neighbours(_titled(record, "neighbours")),
    }
    if len(experiment.library.sample.subjects) > 1:
        drawn["symmetry.png"] = lambda: _symmetry(experiment)
    if check is not None:
        drawn["simulation.png"] = lambda: _comparison(experiment, check)
    for index, (name, draw) in enumerate(drawn.items()):
        yield Step(index, len(drawn), name)
        save_figure(draw(), folder / name)


def _source(experiment: Experiment) -> str:
    if experiment.given is not None:
        return "tomograms given in PolNet's layout"
    record = read_record(experiment.places.tomograms / "record.json")["made_with"]
    return "simulated from " + ", ".join(f"{name} (density {mark})" for name, mark in record["templates"].items())


def _row(experiment: Experiment, recipe: Recipe, found: Record) -> Record:
    return {
        "title": recipe.title,
        "against": recipe.against,
        "answer": recipe.answer,
        "weights": recipe.weights,
        "subject": experiment.library.subject(recipe).code,
        "network": recipe.network.to_record(),
        "training": recipe.training.to_record(),
        **found,
    }


def _elsewhere(experiment: Experiment) -> Record:
    folder = experiment.places.elsewhere("any").parent
    records = {path.stem: read_record(path).get("found") for path in sorted(folder.glob("*.json"))}
    return {name: found for name, found in records.items() if found}


# --- errors of one network, from the poses that it left --------------------------------------------------------------


def _is_shown(recipe: Recipe) -> bool:
    return recipe.name.startswith(("printed-", "symmetric-")) or recipe.name == SHIPPED


def _predicted(experiment: Experiment, recipe: Recipe) -> tuple[Particles, Particles]:
    """The test particles in the poses that a network told, and in their true ones, in the same order."""
    truth = experiment.library.sample.truth(experiment.library.subject(recipe))
    return read_particles(experiment.places.predicted(recipe.name)), truth


def _errors(experiment: Experiment, recipe: Recipe, group: str | None = None) -> FloatArray:
    predicted, truth = _predicted(experiment, recipe)
    wanted = experiment.library.subject(recipe).group if group is None else group
    return symmetric_angle_deg(predicted.required_rotations(), truth.required_rotations(), symmetry(wanted))


def _neighbours(experiment: Experiment, recipe: Recipe) -> list[Record]:
    _, truth = _predicted(experiment, recipe)
    distance = np.concatenate(
        [
            nearest_neighbour(truth.of_tomogram(tomogram.name), everyone)
            for tomogram, everyone in experiment.library.sample.test
            if tomogram.name in truth.tomogram_names
        ]
    )
    return by_neighbour(_errors(experiment, recipe), distance)


def _crowther(experiment: Experiment, recipe: Recipe) -> Record:
    errors, diameter = _errors(experiment, recipe), experiment.library.subject(recipe).diameter
    return {
        "diameter_angst": diameter,
        "allowed_angst": resolution_allowed(float(np.median(errors)), diameter),
        "rows": crowther(errors, diameter),
    }


# --- pictures -------------------------------------------------------------------------------------------------------


def _done(experiment: Experiment) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in experiment.recipes() if experiment.finished(recipe)}


def _titled(record: Record, entry: str) -> Record:
    return {record["networks"][name]["title"]: rows for name, rows in record[entry].items()}


def _angles(experiment: Experiment) -> Figure:
    done = _done(experiment)
    panels: dict[str, dict[str, FloatArray]] = {}
    for prefix, title in _PANELS.items():
        named = {name.removeprefix(prefix): recipe for name, recipe in done.items() if name.startswith(prefix)}
        shown = {name: _errors(experiment, recipe) for name, recipe in named.items() if not name.isdigit()}
        panels |= {title: shown} if shown else {}
    return pictures.draw_angles(panels)


def _axes(experiment: Experiment) -> Figure:
    done = _done(experiment)
    shown = [done[name] for name in ("printed-6d", SHIPPED) if name in done]
    truth = experiment.library.sample.truth(experiment.library.sample.subjects[0])
    name = max(truth.tomogram_names, key=lambda item: len(truth.of_tomogram(item)))
    views = {recipe.title: _predicted(experiment, recipe)[0].of_tomogram(name) for recipe in shown}
    return pictures.draw_axes(truth.of_tomogram(name), views, name=name)


def _symmetry(experiment: Experiment) -> Figure:
    group = symmetry(experiment.library.sample.subjects[1].group)
    rows = {
        recipe.title: (_errors(experiment, recipe, "C1"), _errors(experiment, recipe))
        for recipe in _done(experiment).values()
        if recipe.symmetric
    }
    return pictures.draw_symmetry(rows, group)


def _comparison(experiment: Experiment, check: Path) -> Figure:
    code = experiment.library.sample.subjects[0].code
    ours = particles_of(experiment.library.sample.test, code), experiment.library.sample.test
    theirs = particles_of(read_folders([check]), code), read_folders([check])
    return draw_comparison({"ours": compare_samples(*ours), check.name: compare_samples(*theirs)})

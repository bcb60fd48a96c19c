"""Results of the experiment: one record of all numbers, and tables and plots made from it beside the paper's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from napari_orient.engine.inspection.quantities import neighbours
from napari_orient.engine.io import read_particles
from napari_orient.engine.outputs import write_text
from napari_orient.engine.particles import FloatArray, Particles, holding_kind
from napari_orient.engine.reports.figures import save_figure
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.paper import plots
from napari_orient.paper.dataset import read_folders
from napari_orient.paper.plots import draw_comparison, patch_statistics
from napari_orient.paper.scores import by_neighbour, chance_by_threshold, crowther, resolution_allowed
from napari_orient.paper.setups import SHIPPED, TrainingSetup
from napari_orient.paper.stages import Record, read_record, write_record

if TYPE_CHECKING:
    from napari_orient.paper.experiment import Experiment

_PANELS = {"printed-": "as printed", "code-": "128 nodes, 15 epochs, as in the code", "wide-": "as shipped"}


def collect_results(experiment: Experiment) -> Record:
    """All numbers of the experiment's folder, in one record fit for JSON."""
    dataset = experiment.patch_cache.dataset
    done = [(setup, found) for setup in experiment.setups() if (found := experiment.results_of(setup))]
    return {
        "options": experiment.options.to_record(),
        "sample": {
            "source": _source(experiment),
            "tomograms": {name: len(getattr(dataset, name)) for name in ("training", "validation", "test")},
            "particles": {
                molecule.code: {
                    name: sum(len(particles) for _, particles in dataset.part(name, molecule))
                    for name in ("training", "validation", "test")
                }
                for molecule in dataset.molecules
            },
            "test": [tomogram.name for tomogram, _ in dataset.test],
        },
        "chance": {molecule.code: chance_by_threshold(symmetry(molecule.group)) for molecule in dataset.molecules},
        "networks": {setup.name: _row(experiment, setup, found) for setup, found in done},
        "elsewhere": _on_other_tomograms(experiment),
        "neighbours": {
            setup.name: _neighbours(experiment, setup) for setup, _ in done if _is_shown(setup) and not setup.symmetric
        },
        "crowther": {setup.name: _crowther(experiment, setup) for setup, _ in done if _is_shown(setup)},
    }


def write_results(experiment: Experiment, check: Path | None) -> Stream[Step, None]:
    """Write results.json, the tables and the plots; a step for each plot."""
    record = collect_results(experiment)
    folder = experiment.files.folder
    write_record(folder / "results.json", record)
    for name, text in table_texts(record).items():
        write_text(folder / name, text)
    drawn: dict[str, Callable[[], Figure]] = {
        "figure2_angles.png": lambda: _angles(experiment),
        "figure2_axes.png": lambda: _axes(experiment),
        "neighbours.png": lambda: plots.draw_neighbours(_titled(record, "neighbours")),
    }
    if len(experiment.patch_cache.dataset.molecules) > 1:
        drawn["symmetry.png"] = lambda: _symmetry(experiment)
    if check is not None:
        drawn["simulation.png"] = lambda: _comparison(experiment, check)
    for index, (name, draw) in enumerate(drawn.items()):
        yield Step(index, len(drawn), name)
        save_figure(draw(), folder / name)


def _source(experiment: Experiment) -> str:
    if experiment.given is not None:
        return "tomograms given in PolNet's layout"
    record = read_record(experiment.files.tomograms / "record.json")["made_with"]
    return "simulated from " + ", ".join(f"{name} (density {mark})" for name, mark in record["templates"].items())


def _row(experiment: Experiment, setup: TrainingSetup, found: Record) -> Record:
    return {
        "title": setup.title,
        "against": setup.against,
        "answer": setup.answer,
        "weights": setup.weights,
        "subject": experiment.patch_cache.molecule(setup).code,
        "network": setup.network.to_record(),
        "training": setup.training.to_record(),
        **found,
    }


def _on_other_tomograms(experiment: Experiment) -> Record:
    folder = experiment.files.elsewhere("any").parent
    records = {path.stem: read_record(path).get("found") for path in sorted(folder.glob("*.json"))}
    return {name: found for name, found in records.items() if found}


# --- errors of one network, from the poses that it predicted ---------------------------------------------------------


def _is_shown(setup: TrainingSetup) -> bool:
    return setup.name.startswith(("printed-", "symmetric-")) or setup.name == SHIPPED


def _predicted(experiment: Experiment, setup: TrainingSetup) -> tuple[Particles, Particles]:
    """Test particles in the poses that a network predicted, and in their true ones, in the same order."""
    truth = experiment.patch_cache.dataset.truth(experiment.patch_cache.molecule(setup))
    return read_particles(experiment.files.predicted(setup.name)), truth


def _errors(experiment: Experiment, setup: TrainingSetup, group: str | None = None) -> FloatArray:
    predicted, truth = _predicted(experiment, setup)
    wanted = experiment.patch_cache.molecule(setup).group if group is None else group
    return symmetric_angle_deg(predicted.required_rotations(), truth.required_rotations(), symmetry(wanted))


def _neighbours(experiment: Experiment, setup: TrainingSetup) -> list[Record]:
    _, truth = _predicted(experiment, setup)
    distance = np.concatenate(
        [
            neighbours(truth.of_tomogram(tomogram.name), everyone).distance
            for tomogram, everyone in experiment.patch_cache.dataset.test
            if tomogram.name in truth.tomogram_names
        ]
    )
    return by_neighbour(_errors(experiment, setup), distance)


def _crowther(experiment: Experiment, setup: TrainingSetup) -> Record:
    errors, diameter = _errors(experiment, setup), experiment.patch_cache.molecule(setup).diameter
    return {
        "diameter_angst": diameter,
        "allowed_angst": resolution_allowed(float(np.median(errors)), diameter),
        "rows": crowther(errors, diameter),
    }


# --- plots ----------------------------------------------------------------------------------------------------------


def _done(experiment: Experiment) -> dict[str, TrainingSetup]:
    return {setup.name: setup for setup in experiment.setups() if experiment.results_of(setup)}


def _titled(record: Record, entry: str) -> Record:
    return {record["networks"][name]["title"]: rows for name, rows in record[entry].items()}


def _angles(experiment: Experiment) -> Figure:
    done = _done(experiment)
    panels: dict[str, dict[str, FloatArray]] = {}
    for prefix, title in _PANELS.items():
        named = {name.removeprefix(prefix): setup for name, setup in done.items() if name.startswith(prefix)}
        shown = {name: _errors(experiment, setup) for name, setup in named.items() if not name.isdigit()}
        panels |= {title: shown} if shown else {}
    return plots.draw_angles(panels)


def _axes(experiment: Experiment) -> Figure:
    done = _done(experiment)
    shown = [done[name] for name in ("printed-6d", SHIPPED) if name in done]
    truth = experiment.patch_cache.dataset.truth(experiment.patch_cache.dataset.molecules[0])
    name = max(truth.tomogram_names, key=lambda item: len(truth.of_tomogram(item)))
    views = {setup.title: _predicted(experiment, setup)[0].of_tomogram(name) for setup in shown}
    return plots.draw_axes(truth.of_tomogram(name), views, name=name)


def _symmetry(experiment: Experiment) -> Figure:
    group = symmetry(experiment.patch_cache.dataset.molecules[1].group)
    rows = {
        setup.title: (_errors(experiment, setup, "C1"), _errors(experiment, setup))
        for setup in _done(experiment).values()
        if setup.symmetric
    }
    return plots.draw_symmetry(rows, group)


def _comparison(experiment: Experiment, check: Path) -> Figure:
    code = experiment.patch_cache.dataset.molecules[0].code
    ours = holding_kind(experiment.patch_cache.dataset.test, code), experiment.patch_cache.dataset.test
    theirs = holding_kind(read_folders([check]), code), read_folders([check])
    return draw_comparison({"ours": patch_statistics(*ours), check.name: patch_statistics(*theirs)})


# --- tables ---------------------------------------------------------------------------------------------------------

PAPER = {"6d": (0.96, 0.87, 0.81), "quaternion": (0.76, -0.47, None), "euler": (-0.07, -0.07, None)}
"""The paper's printed results: R² in training and in test, and the share within what its code counts as 20°."""

_COLUMNS = (
    *("network", "title", "class", "representation", "width", "epochs", "answer", "trained_on", "tested_on"),
    *("r_squared_training", "r_squared", "within_20", "within_20_error", "within_24.56", "within_24.56_error"),
    *("median_deg", "mean_deg"),
)


def table_texts(record: Record) -> dict[str, str]:
    """Text of each table by its file's name."""
    pages = {"table.md": table_md(record), "crowther.md": crowther_md(record)}
    if record["options"]["ablation"]:
        pages["ablation.md"] = ablation_md(record)
    return {"table.csv": table_csv(record), **{name: _page(lines) for name, lines in pages.items()}}


def table_csv(record: Record) -> str:
    """Every network, one a row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, row in record["networks"].items():
        scores = row[row["answer"]]
        writer.writerow(
            [
                name,
                row["title"],
                row["subject"],
                row["network"]["representation"],
                row["network"]["width"],
                row["training"]["epochs"],
                row["answer"],
                row["trained_on"],
                scores["count"],
                *(f"{row[key]:.4f}" for key in ("r_squared_training", "r_squared")),
                *(f"{scores[part][angle]:.4f}" for angle in ("20", "24.56") for part in ("within", "within_error")),
                f"{scores['median_deg']:.3f}",
                f"{scores['mean_deg']:.3f}",
            ]
        )
    return out.getvalue()


def table_md(record: Record) -> Iterator[str]:
    """The paper's table: each representation and setup, with chance and the paper's printed results."""
    dataset = record["sample"]
    yield f"Tomograms: {dataset['source']}; {_parts(dataset['tomograms'])}. Seed {record['options']['seed']}."
    for code, counts in dataset["particles"].items():
        yield f"Particles of {code}: {_parts(counts)}."
    yield ""
    yield "| network | R² training | R² test | within 20° | within 24.56° | median | paper: R², R²; within 24.56° |"
    yield "|---|---|---|---|---|---|---|"
    first = next(iter(dataset["particles"]))
    for name, row in record["networks"].items():
        if name.startswith(("printed-", "code-", "wide-")) and not name.split("-")[1].isdigit():
            yield _table_row(
                row, paper=PAPER.get(row["network"]["representation"]) if name.startswith("printed-") else None
            )
    chance = record["chance"][first]
    yield f"| a random guess | | | {chance['20']:.2%} | {chance['24.56']:.2%} | | |"
    yield ""
    yield "R² is of raw outputs, before a rotation is made of them, all components pooled. ± is the standard error by"
    yield "drawing test tomograms anew. 24.56° of true angle is what the paper's released code counts as 20°."
    yield from _symmetric(record)
    yield from _other_tomograms_table(record)


def ablation_md(record: Record) -> Iterator[str]:
    """Table of the ablation: each change, with a line that interprets it."""
    yield "| network | trained on | R² test | within 20° | within 24.56° | median | reading |"
    yield "|---|---|---|---|---|---|---|"
    networks = record["networks"]
    for name, row in networks.items():
        base = networks.get(row["against"])
        if row["subject"] == next(iter(record["sample"]["particles"])) and (base or name.startswith("printed-")):
            yield _ablation_row(row, base)
    levels = {name: found for name, found in record["elsewhere"].items() if name.startswith("snr_")}
    if levels:
        yield ""
        yield "| signal-to-noise of micrographs | network | within 20° | within 24.56° | median | reading |"
        yield "|---|---|---|---|---|---|"
        for level in sorted(levels, key=lambda name: -float(name.removeprefix("snr_"))):
            for name, scores in levels[level].items():
                yield _noise_row(level.removeprefix("snr_"), networks[name], scores)


def crowther_md(record: Record) -> Iterator[str]:
    """Table of the share of particles within the angular step that a resolution needs, for each network."""
    yield "A particle of diameter D resolved to d needs angular steps of about d / D (Crowther 1970). How many lie"
    yield "within that step of the truth, and to what resolution the median error would blur a particle's rim:"
    yield ""
    shown = record["crowther"]
    for diameter in sorted({entry["diameter_angst"] for entry in shown.values()}, reverse=True):
        entries = {name: entry for name, entry in shown.items() if entry["diameter_angst"] == diameter}
        steps = next(iter(entries.values()))["rows"]
        heads = (f"{row['resolution_angst']:g} Å: {row['step_deg']:.1f}°" for row in steps)
        yield f"| {diameter:.0f} Å across | {' | '.join(heads)} | blur of the median |"
        yield "|---|---|" + "---|" * len(steps)
        for name, entry in entries.items():
            shares = " | ".join(f"{row['within']:.1%}" for row in entry["rows"])
            yield f"| {record['networks'][name]['title']} | {shares} | {entry['allowed_angst']:.0f} Å |"
        yield ""


def reading(row: Record, base: Record) -> str:
    """Line on what a change did to the share within 20° and to the median, if more than the tomograms' scatter."""
    mine, other = row[row["answer"]], base[base["answer"]]
    gain = mine["within"]["20"] - other["within"]["20"]
    error = math.hypot(mine["within_error"]["20"], other["within_error"]["20"])
    change = f"{100 * gain:+.1f} points, median {other['median_deg']:.1f}° to {mine['median_deg']:.1f}°"
    if abs(gain) < 2 * error or gain == 0:
        return f"no more than tomograms differ ({change}, against “{base['title']}”)"
    return f"{'gains' if gain > 0 else 'loses'} against “{base['title']}”: {change}"


def _parts(counts: Record) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _share(scores: Record, angle: str) -> str:
    return f"{scores['within'][angle]:.1%} ± {scores['within_error'][angle]:.1%}"


def _table_row(row: Record, *, paper: tuple[float, float, float | None] | None) -> str:
    scores = row[row["answer"]]
    printed = "" if paper is None else f"{paper[0]:.2f}, {paper[1]:.2f}" + (f"; {paper[2]:.0%}" if paper[2] else "")
    return (
        f"| {row['title']} | {row['r_squared_training']:.3f} | {row['r_squared']:.3f} | {_share(scores, '20')} "
        f"| {_share(scores, '24.56')} | {scores['median_deg']:.1f}° | {printed} |"
    )


def _ablation_row(row: Record, base: Record | None) -> str:
    scores = row[row["answer"]]
    words = "where it starts" if base is None else reading(row, base)
    return (
        f"| {row['title']} | {row['trained_on']} | {row['r_squared']:.3f} | {_share(scores, '20')} "
        f"| {_share(scores, '24.56')} | {scores['median_deg']:.1f}° | {words} |"
    )


def _noise_row(level: str, row: Record, scores: Record) -> str:
    own = row[row["answer"]]
    lost = 100 * (scores["within"]["20"] - own["within"]["20"])
    return (
        f"| {level} | {row['title']} | {_share(scores, '20')} | {_share(scores, '24.56')} "
        f"| {scores['median_deg']:.1f}° | {lost:+.1f} points against its own test tomograms |"
    )


def _symmetric(record: Record) -> Iterator[str]:
    rows = {name: row for name, row in record["networks"].items() if name.startswith("symmetric-")}
    if not rows:
        return
    code = next(iter(rows.values()))["subject"]
    yield ""
    yield f"| {code} | within 20° | within 24.56° | median | axis, median | spin, median | reading |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows.values():
        scores, base = row[row["answer"]], rows.get(row["against"])
        words = "" if base is None else reading(row, base)
        axes = (f"{scores[key]:.1f}°" if key in scores else "" for key in ("axis_median_deg", "spin_median_deg"))
        yield (
            f"| {row['title']} | {_share(scores, '20')} | {_share(scores, '24.56')} "
            f"| {scores['median_deg']:.1f}° | {' | '.join(axes)} | {words} |"
        )
    chance = record["chance"][code]
    yield f"| a random guess | {chance['20']:.2%} | {chance['24.56']:.2%} | | | | |"
    yield ""
    yield "Errors are the least over the symmetric copies of a pose; axis and spin are those of the main axis."


def _other_tomograms_table(record: Record) -> Iterator[str]:
    found = record["elsewhere"].get("polnet")
    if not found:
        return
    yield ""
    yield "| on other tomograms, never trained on | R² | within 20° | within 24.56° | median | on its own, within 20° |"
    yield "|---|---|---|---|---|---|"
    for name, scores in found.items():
        row = record["networks"][name]
        yield (
            f"| {row['title']} | {scores['r_squared']:.3f} | {_share(scores, '20')} | {_share(scores, '24.56')} "
            f"| {scores['median_deg']:.1f}° | {_share(row[row['answer']], '20')} |"
        )


def _page(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"

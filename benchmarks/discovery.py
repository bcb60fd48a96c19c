"""Discovery from picks alone, over many seeds: poses, classes, false picks, verdict, map and cost, in one table.

    python benchmarks/discovery.py --polnet DIR --templates DIR --seeds 20 [--class 4v4r | --mixed] [--off 30]
        [--particles 100] [--false 0.3] [--noise 3] [--water] [--set search=1000 ...] [--json FILE]
    python benchmarks/discovery.py --polnet DIR --scaling 100 300 1000 [--rotations 1152 4608] [--off 30]

Truth only scores: the one turn that two answers may differ by is removed first. Every seed draws its own picks (moved
by up to --off Å along each axis, --particles of them, --false of all at places without particles) and its own random
starts. With --noise 3, noise of the tomogram's own spectrum is added until its deviation is three times what it was.
With --water all picks are places without particles. With --scaling so many particles are looked for, each number in a
process of its own; with --rotations too, the first number with so many rotations searched. Times are of the processor;
peak memory is of the whole run.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from costs import BEGINS, Told
from emerging import draw, way_of
from maps import match
from scipy.optimize import linear_sum_assignment
from template import Labelled, load, template

from napari_orient.engine.averaging import average
from napari_orient.engine.discovery.discover import discover
from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, Structure
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.io.columns import OUTLIER
from napari_orient.engine.parameters import AveragingOptions, DiscoveryOptions
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.streams import Stream, run
from napari_orient.engine.symmetry import axis_angle_deg, symmetric_angle_deg, symmetry

TRUE_GROUPS = {"4v4r": "C1", "3j9i": "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926"}
AWAY, MARGIN = 250.0, 210.0
FALSE = "false"


@dataclass(frozen=True, eq=False)
class Scene:
    """Picks, the truth in their order (the identity for false ones), and what each is: a code or ``false``."""

    picks: Labelled
    truth: Labelled
    kinds: np.ndarray

    @property
    def rotations(self) -> np.ndarray:
        """Of all picks, in order."""
        return concatenate([part for _, part in self.truth]).required_rotations()


def scene(given: argparse.Namespace, seed: int) -> Scene:
    """The picks of one seed."""
    rng = np.random.default_rng(seed)
    codes = ("4v4r", "3j9i") if given.mixed else (given.code,)
    every = [load(given.polnet, code)[: given.tomograms] for code in TRUE_GROUPS]
    chosen = [load(given.polnet, code)[: given.tomograms] for code in codes]
    if given.particles:
        chosen = [_some(labelled, given.particles, rng) for labelled in chosen]
    picks, truth, kinds = [], [], []
    for at in range(len(every[0])):
        tomogram = chosen[0][at][0]
        busy = np.concatenate([labelled[at][1].positions for labelled in every])
        parts = [] if given.water else [labelled[at][1] for labelled in chosen]
        share = given.false / (1 - given.false) if given.false else 0.0
        wanted = (given.particles or 240) // len(every[0]) if given.water else round(share * sum(map(len, parts)))
        away = _empty(tomogram, busy, wanted, given.away, rng)
        own = [code for code, part in zip(codes, parts, strict=False) for _ in range(len(part))] + [FALSE] * len(away)
        if own:
            positions = np.concatenate([*(part.positions for part in parts), away])
            turns = np.concatenate(
                [*(part.required_rotations() for part in parts), np.tile(np.eye(3), (len(away), 1, 1))]
            )
            louder = noisier(tomogram, given.noise, rng) if given.noise > 1 else tomogram
            true = Particles(positions=positions, rotations=turns, tomogram=tomogram.name)
            truth.append((louder, true))
            picks.append((louder, _moved(true, given.off, rng).replace(rotations=None)))
            kinds += own
    return Scene(picks, truth, np.array(kinds))


def _some(labelled: Labelled, count: int, rng: np.random.Generator) -> Labelled:
    total = sum(len(part) for _, part in labelled)
    chosen = np.sort(rng.permutation(total)[:count])
    answer, first = [], 0
    for tomogram, part in labelled:
        own = chosen[(chosen >= first) & (chosen < first + len(part))] - first
        answer.append((tomogram, part.take(own)))
        first += len(part)
    return answer


def _moved(part: Particles, off: float, rng: np.random.Generator) -> Particles:
    return part.replace(positions=part.positions + rng.uniform(-off, off, size=part.positions.shape))


def _empty(tomogram: Tomogram, busy: np.ndarray, wanted: int, away: float, rng: np.random.Generator) -> np.ndarray:
    """Random places (wanted, 3) in Å no nearer than ``away`` to any particle; fewer where there is no room."""
    high = np.array(tomogram.extent.size) * tomogram.voxel_size - MARGIN
    tried = rng.uniform(MARGIN, high, size=(400 * max(wanted, 1), 3))
    near = np.array([(np.linalg.norm(busy - place, axis=1) < away).any() for place in tried])
    return tried[~near][:wanted]


def noisier(tomogram: Tomogram, factor: float, rng: np.random.Generator) -> Tomogram:
    """The tomogram with random noise of its own spectrum added, its deviation ``factor`` times what it was."""
    density = np.asarray(tomogram.density, np.float32)
    spectrum = np.abs(np.fft.rfftn(density - density.mean()))
    white = np.fft.rfftn(rng.normal(size=density.shape).astype(np.float32)) / np.sqrt(density.size)
    noise = np.fft.irfftn(white * spectrum, s=density.shape)
    added = density + noise * (density.std() / noise.std() * np.sqrt(factor**2 - 1))
    return Tomogram(added.astype(np.float32), tomogram.voxel_size, tomogram.name)


# --- one run ----------------------------------------------------------------------------------------------------


def measured(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed's figures."""
    seen, options = scene(given, seed), options_of(given, seed)
    start, began, rounds, told = time.process_time(), time.monotonic(), [], Told()
    found = _followed(discover(seen.picks, options), rounds, told)
    row: dict[str, Any] = {
        "seed": seed,
        "picks": len(seen.kinds),
        "seconds": time.process_time() - start,
        "waited": time.monotonic() - began,
        "starts": found.starts,
        "stages": told.seconds,
        "memory": told.memory,
        "verdict": found.grade,
        "kinds": found.class_count_words,
        "structures": [_structure(item) for item in found.structures],
    }
    if not given.water:
        row |= scored(seen, found)
    if given.templates and not given.water:
        row["maps"] = {code: likeness(given, seen, found, code) for code in np.unique(seen.kinds) if code != FALSE}
        if given.picture and seed == given.first:
            picture(given, seen, found, rounds)
    return row


def _followed(stream: Stream[DiscoveryStep, Discovery], rounds: list[DiscoveryStep], told: Told) -> Discovery:
    """The stream's answer; its rounds are added to the list."""
    while True:
        try:
            rounds.append(next(stream))
            told.note(rounds[-1].message)
        except StopIteration as end:
            told.note("")
            return end.value


def picture(given: argparse.Namespace, seen: Scene, found: Discovery, rounds: list[DiscoveryStep]) -> None:
    """Draw how the map of one kind of particle emerged."""
    item, (density, voxel_size) = found.structures[0], template(given.templates / f"{given.code}.mrc")
    draw(
        given.picture,
        way_of(rounds, found.particles.required_rotations()),
        seen.rotations,
        refined=item.average.density,
        halves=item.average.fsc,
        beside=match(item.average, density, voxel_size, radius=options_of(given, 0).radius),
    )


def options_of(given: argparse.Namespace, seed: int) -> DiscoveryOptions:
    told = dict(item.split("=", 1) for item in given.set)
    usual = DiscoveryOptions().to_record()
    told = {name: type(usual[name])(value) for name, value in told.items()}
    return DiscoveryOptions.of(
        **{**usual, "classes": "2" if given.mixed else "1", "device": "cpu", "seed": seed, **told}
    )


def _structure(item: Structure) -> dict[str, Any]:
    return {
        "group": item.group.name,
        "symmetry": " ".join(item.symmetry_notes),
        "count": item.count,
        "outliers": item.outliers,
        **asdict(item.verdict),
        "verdict": item.verdict.grade,
    }


def scored(seen: Scene, found: Discovery) -> dict[str, Any]:
    """How right the poses, the classes and the flags are."""
    outlier = np.asarray(found.particles.extra[OUTLIER]) == 1
    labels = partners(seen.kinds, found)
    row: dict[str, Any] = {"flagged": {}, "poses": {}}
    for code in np.unique(seen.kinds):
        row["flagged"][code] = float(outlier[seen.kinds == code].mean())
        if code != FALSE:
            row["poses"][code] = poses(seen, found, code, ~outlier & (labels == code))
    real = seen.kinds != FALSE
    row["right_class"] = float((labels[real] == seen.kinds[real]).mean())
    return row


def partners(kinds: np.ndarray, found: Discovery) -> np.ndarray:
    """The code that each pick's class stands for, (N,), in the pairing that agrees best; ``false`` where none."""
    codes = [code for code in np.unique(kinds) if code != FALSE]
    own = np.asarray(found.particles.kind) if len(found.structures) > 1 else np.full(len(kinds), "all")
    names = np.unique(own)
    table = np.array([[((own == name) & (kinds == code)).sum() for code in codes] for name in names])
    told = np.full(len(kinds), FALSE, dtype="U8")
    for row, column in zip(*linear_sum_assignment(-table), strict=True):
        told[own == names[row]] = codes[column]
    return told


def poses(seen: Scene, found: Discovery, code: str, rows: np.ndarray) -> dict[str, float]:
    """Errors of one kind's poses; all its particles count, those flagged or in another class as wrong."""
    group, every = symmetry(TRUE_GROUPS[code]), seen.kinds == code
    own = every & rows
    if own.sum() < 3:
        return dict.fromkeys(("within20", "axis10"), 0.0) | {"median": 180.0, "expected_over_true": float("nan")}
    turns, true = found.particles.required_rotations()[own], seen.rotations[own]
    turns = turns @ global_rotation(true, turns, group, near_deg=25.0 if len(group) == 1 else 12.0)
    error, axis = np.full(every.sum(), 180.0), np.full(every.sum(), 90.0)
    error[own[every]] = symmetric_angle_deg(turns, true, group)
    axis[own[every]] = axis_angle_deg(turns, true, group)
    expected, right = np.asarray(found.particles.expected_error_deg)[own], error[own[every]] <= 20
    return {
        "within20": float((error <= 20).mean()),
        "median": float(np.median(error)),
        "axis10": float((axis <= 10).mean()),
        "expected_over_true": float(
            np.sqrt((expected[right] ** 2).mean() / (error[own[every]][right] ** 2).mean()),
        ),
    }


def likeness(given: argparse.Namespace, seen: Scene, found: Discovery, code: str) -> dict[str, float]:
    """How like the template the map of a kind is, and the average of the same particles in their true poses."""
    density, voxel_size = template(given.templates / f"{code}.mrc")
    options, labels = options_of(given, 0), partners(seen.kinds, found)
    names = np.asarray(found.particles.kind)[labels == code] if len(found.structures) > 1 else np.array(["class1"])
    if not len(names):
        return {"correlation30": 0.0, "fsc": float("inf"), "fsc_true_poses": float("nan")}
    item = found.structures[int(str(names[0]).removeprefix("class")) - 1]
    map_size = len(item.average.density)
    true = run(
        average(
            _only(seen, code),
            group=symmetry(TRUE_GROUPS[code]),
            options=AveragingOptions(side=map_size, radius=options.radius),
        )
    )
    ours, ideal = (match(part, density, voxel_size, radius=options.radius) for part in (item.average, true))
    return {"correlation30": ours.correlation, "fsc": ours.resolution, "fsc_true_poses": ideal.resolution}


def _only(seen: Scene, code: str) -> Labelled:
    answer, first = [], 0
    for tomogram, part in seen.truth:
        own = seen.kinds[first : first + len(part)] == code
        first += len(part)
        if own.any():
            answer.append((tomogram, part.take(own)))
    return answer


# --- the table ----------------------------------------------------------------------------------------------------


def words(row: dict[str, Any]) -> str:
    cost = f"{row['seconds']:.0f} s (waited {row['waited']:.0f})"
    told = [f"seed {row['seed']:2d}: {row['picks']} picks, {cost}, {row['starts']} starts"]
    for code, item in row.get("poses", {}).items():
        told.append(
            f"{code}: {item['within20']:.1%} ≤ 20°, median {item['median']:.2f}°, axis ≤ 10° {item['axis10']:.1%}, "
            f"expected ÷ true {item['expected_over_true']:.2f}"
        )
    told += [f"{code} flagged {share:.1%}" for code, share in row.get("flagged", {}).items()]
    if len(row.get("poses", {})) > 1:
        told.append(f"right class {row['right_class']:.1%}")
    for code, item in row.get("maps", {}).items():
        told.append(
            f"map of {code}: {item['correlation30']:.3f} at 30 Å, FSC 0.5 at {item['fsc']:.1f} Å "
            f"({item['fsc_true_poses']:.1f} in true poses)"
        )
    if row["kinds"]:
        told.append(row["kinds"].rstrip("."))
    for item in row["structures"]:
        told.append(
            f"{item['group']} {item['verdict']}, agreement {item['agreement']:.2f}, halves {item['resolution']:.0f} / "
            f"{item['resolution_strict']:.0f} Å, peak {item['peak']:.2f}, determined {item['determined']:.2f}"
            f" ({item['symmetry'].rstrip('.')})"
        )
    return "; ".join(told)


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Over all seeds: the median, the worst, and how often the best known goals hold."""
    yield f"{len(rows)} seeds; processor time: median {np.median([row['seconds'] for row in rows]):.0f} s"
    verdicts = [row["verdict"] for row in rows]
    yield "verdicts: " + ", ".join(f"{name} {verdicts.count(name)}" for name in dict.fromkeys(verdicts))
    for code in rows[0].get("poses", {}):
        table = {name: np.array([row["poses"][code][name] for row in rows]) for name in rows[0]["poses"][code]}
        good = (table["within20"] >= 0.98) & (table["median"] <= 3)
        yield (
            f"{code}: ≤ 20° {np.median(table['within20']):.1%} (least {table['within20'].min():.1%}); median "
            f"{np.median(table['median']):.2f}° (most {table['median'].max():.2f}°); ≥ 98 % and ≤ 3° in {good.sum()}; "
            f"axis ≤ 10° {np.median(table['axis10']):.1%} (least {table['axis10'].min():.1%}); "
            f"expected ÷ true {np.median(table['expected_over_true']):.2f}"
        )
    if "right_class" in rows[0]:
        yield f"right class: {_spread([row['right_class'] for row in rows])}"
    for code in rows[0].get("flagged", {}):
        yield f"flagged of {code}: {_spread([row['flagged'][code] for row in rows])}"
    for code in rows[0].get("maps", {}):
        for name in rows[0]["maps"][code]:
            values = [row["maps"][code][name] for row in rows]
            yield f"{code} {name}: median {np.median(values):.3f} (from {min(values):.3f} to {max(values):.3f})"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield f"peak memory {peak:.2f} GiB"


def _spread(shares: list[float]) -> str:
    return f"median {np.median(shares):.1%} (from {min(shares):.1%} to {max(shares):.1%})"


def scaling(given: argparse.Namespace) -> None:
    """Print what so many particles, of as few tomograms as hold them, and so many rotations cost."""
    held = np.cumsum([len(part) for _, part in load(given.polnet, given.code)])
    print("| particles | rotations | starts | seconds | " + " | ".join(BEGINS.values()) + " | memory (GiB) |  ≤ 20° |")
    runs = [(count, DiscoveryOptions().search) for count in given.scaling]
    runs += [(given.scaling[0], count) for count in given.rotations]
    for particles, rotations in runs:
        asked = argparse.Namespace(**{**vars(given), "particles": particles})
        asked.tomograms = int(np.searchsorted(held, particles)) + 1
        asked.set = [*given.set, f"search={rotations}"]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            row = pool.submit(_alone, asked).result()
        stages = " | ".join(f"{row['stages'][name]:.0f}" for name in BEGINS.values())
        right = row["poses"][given.code]["within20"]
        print(
            f"| {row['picks']} | {rotations} | {row['starts']} | {row['seconds']:.0f} | {stages} | "
            f"{row['memory']:.2f} | {right:.1%} |",
            flush=True,
        )


def _alone(given: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(given.threads)
    return measured(given, given.first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True, help="folder of PolNet result folders")
    parser.add_argument("--templates", type=Path, help="folder of 4v4r.mrc and 3j9i.mrc, to compare maps with")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--class", dest="code", default="4v4r", choices=TRUE_GROUPS)
    parser.add_argument("--mixed", action="store_true", help="ribosomes and proteasomes together, two classes")
    parser.add_argument("--off", type=float, default=0.0, help="Å that picks are moved by, at most, along each axis")
    parser.add_argument("--particles", type=int, default=0, help="so many of each kind; 0 for all")
    parser.add_argument("--tomograms", type=int, default=None, help="so many tomograms")
    parser.add_argument("--false", type=float, default=0.0, help="share of all picks at places without particles")
    parser.add_argument("--water", action="store_true", help="only places without particles")
    parser.add_argument("--away", type=float, default=AWAY, help="Å that such places keep from all particles")
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of the discovery")
    parser.add_argument("--scaling", type=int, nargs="+", default=[], metavar="COUNT", help="cost of so many particles")
    parser.add_argument("--rotations", type=int, nargs="+", default=[], metavar="COUNT", help="and rotations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="how the first seed's map emerges (one kind, with --templates)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.scaling:
        scaling(given)
        return
    rows, options = [], options_of(given, given.first).to_record()
    for seed in range(given.first, given.first + given.seeds):
        rows.append(measured(given, seed))
        print(words(rows[-1]), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"command": sys.argv[1:], "options": options, "rows": rows}, indent=1))
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()

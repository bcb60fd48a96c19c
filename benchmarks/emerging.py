"""A picture of a map that emerges from picks alone: slices by round, the refined map, its template, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from maps import Match
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from napari_orient.engine.discovery.output import DiscoveryStep
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.map_resolution import FSC
from napari_orient.engine.rotations import angle_deg

SHOWN = 5
INK, SECOND, FAINT = "#1f4e79", "#d1622b", "0.75"


def way_of(rounds: Sequence[DiscoveryStep], rotations: np.ndarray) -> list[DiscoveryStep]:
    """The rounds of the start that the answer's rotations (N, 3, 3) come from."""
    starts = [[item for item in rounds if item.start == number] for number in {item.start for item in rounds} - {None}]

    def off(way: list[DiscoveryStep]) -> float:
        return float(np.median(angle_deg(way[-1].particles.required_rotations(), rotations)))

    return min(starts, key=off)


def within_20(item: DiscoveryStep, truth: np.ndarray) -> float:
    """Share of a round's poses within 20° of the truth, up to one turn."""
    turns = item.particles.required_rotations()
    return float((angle_deg(turns @ global_rotation(truth, turns), truth) <= 20).mean())


def draw(
    path: Path, way: Sequence[DiscoveryStep], truth: np.ndarray, *, refined: np.ndarray, halves: FSC, beside: Match
) -> None:
    """Slices through the rounds' maps, the refined one and the template; below, how many poses are right, and shells.

    Parameters
    ----------
    way : the rounds of one start.
    truth : (N, 3, 3) of the particles that the rounds turn.
    refined : (n, n, n) the map at the end.
    """
    share = [within_20(item, truth) for item in way]
    chosen = [way[row] for row in _telling(share)]
    figure = Figure(figsize=(11, 5.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 3.1])
    panels = [(item.maps[0], f"round {item.message.split('round ')[1].split(' ')[0]}") for item in chosen]
    panels += [(refined, "refined"), (beside.template, "4v4r, 30 Å")]
    for axes, (density, title) in zip(above.subplots(1, len(panels)), panels, strict=True):
        middle = density[len(density) // 2 - 1 : len(density) // 2 + 1].mean(0)
        axes.imshow(middle, cmap="gray", interpolation="bicubic", origin="lower")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    left, right = below.subplots(1, 2)
    _curve(left, share, chosen, way)
    _shells(right, halves, beside)
    figure.savefig(path, dpi=130)


def _telling(share: Sequence[float]) -> list[int]:
    """Rows of the first round, of the last, and of those between at which the share right has come a step further."""
    steps = np.linspace(share[0], max(share), SHOWN)
    rows = [0, *(int(np.argmax(np.asarray(share) >= level)) for level in steps[1:-1]), len(share) - 1]
    for at in range(1, SHOWN - 1):
        rows[at] = max(rows[at], rows[at - 1] + 1)
    return rows


def _curve(axes, share: Sequence[float], chosen: Sequence[DiscoveryStep], way: Sequence[DiscoveryStep]) -> None:
    numbers = np.arange(1, len(share) + 1)
    axes.plot(numbers, 100 * np.asarray(share), color=INK)
    rows = [list(way).index(item) for item in chosen]
    axes.plot(numbers[rows], 100 * np.asarray(share)[rows], "o", color=INK, markersize=5)
    axes.set(xlabel="round", ylabel="poses within 20° of the truth (%)", ylim=(0, 103), xlim=(0.5, len(share) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _shells(axes, halves: FSC, beside: Match) -> None:
    for curve, color, name in ((halves, INK, "of its halves"), (beside.curve, SECOND, "with the template")):
        label = f"{name}: 0.5 at {curve.resolution(0.5):.0f} Å"
        axes.plot(1000 * curve.frequency, curve.correlation, color=color, label=label)
    axes.axhline(0.5, color=FAINT, linewidth=0.8)
    axes.set(xlabel="frequency (1/1000 Å)", ylabel="shell correlation", ylim=(-0.32, 1.05))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)

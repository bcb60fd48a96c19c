"""What a discovery yields on its way and returns at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.belief import DOUBTFUL, NOTHING, STRUCTURE, Belief
from napari_orient.engine.networks import Checkpoint, bank_checkpoint
from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import Symmetry
from napari_orient.engine.streams import Step

_MANY = 0.2
"""Share of the picks set aside that makes one think of another kind."""
OUTLIER = "orientOutlier"
"""The column that says 1 of picks that look like no particle, else 0."""


@dataclass(frozen=True, eq=False)
class Round(Step):
    """A step of a discovery, with what is believed so far.

    Parameters
    ----------
    maps : one (n, n, n) of each class, [z, y, x], particle positive.
    voxel_size : Å of the maps.
    particles : all picks in order, in the poses drawn last.
    kinds : of particle that are looked for by now.
    start : number of the random start, from 1; 0 once the best is chosen.
    peak : mean height of the best match over all, in spreads: 3.5 is noise, and it rises as a structure breaks away.
    """

    maps: tuple[NDArray[np.float32], ...] = ()
    voxel_size: float = 1.0
    particles: Particles | None = None
    kinds: int = 1
    start: int = 0
    peak: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """One kind of particle found.

    Parameters
    ----------
    average : its map, half maps and their correlation; its frame has the main axis along z, and another along x.
    group : its symmetry, about z and x.
    symmetry_words : how the symmetry was chosen.
    count, outliers : particles averaged, and picks of this class set aside.
    belief : whether to believe it.
    """

    average: Average
    group: Symmetry
    symmetry_words: tuple[str, ...]
    count: int
    outliers: int
    belief: Belief


@dataclass(frozen=True, eq=False, kw_only=True)
class Discovery:
    """What was found.

    Parameters
    ----------
    particles : the given ones, in order, recentred, with rotations, confidence and expected error; ``extra`` has the
        column ``orientOutlier``, and ``kind`` the class where more than one was looked for.
    structures : one of each class, the most numerous first.
    starts : random starts made.
    kinds_words : why so many kinds were looked for; empty where it was told.
    """

    particles: Particles
    structures: tuple[Structure, ...]
    starts: int
    kinds_words: str = ""

    @property
    def verdict(self) -> str:
        """The best verdict of any class: ``structure``, ``doubtful`` or ``nothing``."""
        verdicts = [item.belief.verdict for item in self.structures]
        return min(verdicts, key=(STRUCTURE, DOUBTFUL, NOTHING).index, default=NOTHING)

    @property
    def hint(self) -> str:
        """What to try where one kind was looked for, and many picks look like nothing of that kind; else empty."""
        aside = sum(item.outliers for item in self.structures)
        if len(self.structures) != 1 or self.kinds_words or aside < _MANY * len(self.particles):
            return ""
        return "So many may be another kind of particle: let the picks tell how many kinds there are (auto)."

    def of_class(self, label: int) -> Particles:
        """The particles of a class, false picks among them too."""
        every = self.particles
        return every if len(self.structures) == 1 else every.take(np.asarray(every.kind) == class_name(label))

    def checkpoint(self, *, name: str = "discovered", label: int = 0) -> Checkpoint:
        """A checkpoint of kind ``bank`` that finds particles of a class in other tomograms by its map."""
        found = self.structures[label]
        curve = found.average.fsc
        card = {
            "classes": [] if len(self.structures) == 1 else [class_name(label)],
            "particles": {"training": found.count},
            "tomograms": len(self.of_class(label).tomogram_names),
            "figures": {
                "averaged": found.count,
                "fsc_0.143_angstrom": curve.resolution(0.143),
                "fsc_0.5_angstrom": curve.resolution(0.5),
            },
            "symmetry": " ".join(found.symmetry_words),
            "verdict": found.belief.words,
        }
        return bank_checkpoint(
            found.average.as_reference(),
            voxel_size=found.average.voxel_size,
            symmetry=found.group.name,
            name=name,
            card=card,
        )


def class_name(label: int) -> str:
    """What a class is called: ``class1`` is the most numerous."""
    return f"class{label + 1}"

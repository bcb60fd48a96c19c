"""How structures and poses are discovered: every option once; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.model.options import WedgeOptions
from napari_orient.engine.options import Options, option, seed_option, suboptions

AUTO = "auto"
MOST_CLASSES = 8
"""Most classes that can be asked for, and that are tried: more have not been measured."""
_PATCH_SIDE = 20
"""Voxels along the binned patches that are searched: they resolve a seventh of the diameter."""


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions(Options):
    """How structure and poses are found from picks alone."""

    diameter: float = option(300.0, help="of the particle, or a little more", unit="Å", low=20, high=5000)
    classes: str = option(
        "1",
        help="kinds of particle among the picks; auto estimates how many",
        choices=(AUTO, *map(str, range(1, MOST_CLASSES + 1))),
    )
    symmetry: str = option(AUTO, help="auto searches the map for axes; C1 takes none", choices=(AUTO, "C1"))
    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    contrast: str = option("found", help="how particles stand out in the tomogram", choices=("found", "dark", "bright"))
    starts: int = option(3, help="most random starts; it ends early once two agree", low=2, high=20, expert=True)
    rounds: int = option(18, help="rounds of each start", low=6, high=200, expert=True)
    search: int = option(2304, help="rotations searched in each round", low=200, high=50_000, expert=True)
    sample: int = option(
        1500, help="most particles that the map is found from; all get poses", low=20, high=100_000, expert=True
    )
    passes: int = option(2, help="times that poses and map are refined against each other", low=0, high=10, expert=True)
    seed: int = seed_option("of the random starts")
    wedge: WedgeOptions = suboptions(WedgeOptions)
    compute: ComputeOptions = suboptions(ComputeOptions)

    @property
    def class_count(self) -> int:
        """Classes searched for; of ``auto``, those tried first."""
        return 1 if self.classes == AUTO else int(self.classes)

    def with_class_count(self, count: int) -> Self:
        """The same options with this number of classes."""
        return replace(self, classes=str(count))

    @property
    def patch_voxel_size(self) -> float:
        """Å of the voxels of binned patches, which are 4/3 of the diameter wide."""
        return self.diameter * 4 / 3 / _PATCH_SIDE

    @property
    def patch_side(self) -> int:
        """Voxels along binned patches."""
        return _PATCH_SIDE

    @property
    def radius(self) -> float:
        """Å of the ball that holds the particle."""
        return self.diameter / 2

"""How finely a matched-filter search samples rotations and positions; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.options import Options, option


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """How many rotations a matched-filter search compares, in how many dimensions, and how far from the pick."""

    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    rotations: int = option(4608, help="rotations over the asymmetric unit", low=60, high=200_000, expert=True)
    dimensions: int = option(
        160, help="dimensions that patches and rotated references are compressed to", low=8, high=4096, expert=True
    )
    search_resolution: float = option(
        40.0, help="finest detail that the search matches", unit="Å", low=1, high=200, expert=True
    )
    coarse_rotations: int = option(
        576, help="rotations of the search that finds the centre", low=60, high=20_000, expert=True
    )
    coarse_dimensions: int = option(
        96, help="dimensions of the search that finds the centre", low=8, high=1024, expert=True
    )

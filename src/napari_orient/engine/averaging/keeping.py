"""An average on disk: the map, its halves, and the curve of their agreement."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_orient.engine.averaging.average import Average
from napari_orient.engine.averaging.fsc import FSC
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.outputs import check_writable, replacing


def average_places(output: Path) -> tuple[Path, Path, Path, Path]:
    """The files of the map, its halves and the curve, all writable.

    Raises
    ------
    InputError
        If the name does not end in .mrc, or the place cannot be written.
    """
    if output.suffix.lower() != ".mrc":
        raise InputError(f"{output} given as map; expected a name that ends in .mrc.")
    first, second = (output.with_name(f"{output.stem}_half{half}.mrc") for half in (1, 2))
    places = output, first, second, output.with_name(f"{output.stem}_fsc.csv")
    for place in places:
        check_writable(place)
    return places


def write_average(found: Average, places: tuple[Path, Path, Path, Path]) -> None:
    """Write map, halves and curve to the places that `average_places` names."""
    *maps, curve = places
    for place, density in zip(maps, (found.density, found.first_half, found.second_half), strict=True):
        write_tomogram(place, density, voxel_size=found.voxel_size)
    _write_curve(curve, found.fsc)


def _write_curve(path: Path, fsc: FSC) -> None:
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["resolution_angstrom", "frequency_per_angstrom", "fsc"])
        rows.writerows(
            (f"{1 / frequency:.3f}", f"{frequency:.6f}", f"{value:.4f}")
            for frequency, value in zip(fsc.frequency, fsc.correlation, strict=True)
        )

"""Say what a file is: a model, a particle list, a tomogram or map, tilt metadata, a report; or what is in a folder.

Nothing is written, and of a tomogram the header alone is read.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_orient.cli.arguments import Parser
from napari_orient.cli.next_command import say_next, unused
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import BOX, BOX_ANGLES
from napari_orient.engine.io.volumes.zarr_store import is_zarr
from napari_orient.engine.model_files import SUFFIX, is_model_file, shipped_models
from napari_orient.engine.particles import Particles, shortened
from napari_orient.progress import at_terminal, say

EXAMPLE = """\
  napari-orient about oriented.star
  napari-orient about mine.safetensors average.mrc report.html"""

_PAGES = (".html", ".htm")
"""Suffixes of reports."""

_LISTED = 30
"""Columns of a list that are named; of more, the number is."""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="one that this program reads or writes")


def outputs(_: Namespace) -> Sequence[Path]:
    """None: what is found is printed."""
    return ()


def perform(arguments: Namespace) -> int | None:
    """Print what each file is; of several, one that is nothing known stops no other."""
    failed = False
    for path in arguments.paths:
        try:
            print(*_about(path), sep="\n")
        except InputError as error:
            if len(arguments.paths) == 1:
                raise
            failed = True
            say(f"Warning: {error}")
    if len(arguments.paths) == 1 and at_terminal():
        _say_next(arguments.paths[0])
    return 1 if failed else None


def _say_next(path: Path) -> None:
    """Say what a model, a tomogram, a list or a folder of both is used for."""
    oriented: list[Path | str] = ["--output", unused(Path("oriented.star"))]
    if _names_model(path):
        say_next("predict", "TOMOGRAM", "PICKS", "--model", path, *oriented)
    elif path.is_dir() and not is_zarr(path):
        from napari_orient.engine.projects.files import project_files

        files = project_files([path])
        if files.polnet or (files.volumes and files.lists):
            say_next("predict", path, *oriented)
    elif path.suffix.lower() in _PAGES:
        return
    elif _is_volume(path):
        say_next("predict", path, "PICKS", *oriented)
    else:
        _say_next_of_list(path, oriented)


def _say_next_of_list(path: Path, oriented: Sequence[Path | str]) -> None:
    """Say how particles without angles are predicted, and how those with angles are reported on."""
    try:
        particles, lacking = _read_list(path)
    except InputError:
        return
    if particles.rotations is not None:
        sized = () if not lacking else ("TOMOGRAM",)
        say_next("report", *sized, path, "--output", unused(path.with_suffix(".html")))
    else:
        say_next("predict", "TOMOGRAM", path, *oriented)


def _names_model(path: Path) -> bool:
    return str(path) in shipped_models() or path.suffix.lower() == SUFFIX or is_model_file(path)


def _about(path: Path) -> list[str]:
    if _names_model(path):
        return _model(path)
    if not path.exists():
        raise InputError(f"{path} is not there; expected a model, a list, a tomogram, a map or a report.")
    if path.suffix.lower() in _PAGES:
        return _report(path)
    if path.is_dir() and not is_zarr(path):
        return _folder(path)
    if _is_volume(path):
        return _volume(path)
    refusals = []
    readers: list[Callable[[Path], list[str]]] = [_table, _list, _tilts]
    for reader in readers:
        try:
            return reader(path)
        except InputError as error:
            refusals.append(str(error))
    raise InputError(f"{refusals[1]} It is neither model, tomogram, map, tilt metadata nor report either.")


def _folder(path: Path) -> list[str]:
    """Lines on the tomograms and lists that a folder stands for where a verb is given it.

    Raises
    ------
    InputError
        If it holds none.
    """
    from napari_orient.engine.projects.files import project_files

    files = project_files([path])
    what = "folder of simulated tomograms and their particles (PolNet's layout)" if files.polnet else "folder"
    named = {"tomograms": files.volumes, "lists of particles": files.lists}
    lines = [f"  {name}: {shortened([item.name for item in items])}" for name, items in named.items() if items]
    return [f"{path}: {what}", *lines, *(f"  {note}" for note in files.notes)]


def _is_volume(path: Path) -> bool:
    """Whether a file is to be described as a volume: by its content, or else its name; a folder is one of OME-Zarr."""
    from napari_orient.engine.io.dialects import ListFile, recognise_content
    from napari_orient.engine.io.volumes.formats import names_volume

    if path.is_dir():
        return True
    file = ListFile(path)
    if names_volume(path) and not file.is_text:
        return True
    found = recognise_content(file)
    return found.is_volume if found is not None else not file.is_text


def _model(path: Path) -> list[str]:
    from napari_orient.cli.models import card_lines
    from napari_orient.engine.prediction.predict import load_model

    return list(card_lines(load_model(str(path))))


def _report(path: Path) -> list[str]:
    from napari_orient.engine.reports.page import read_record

    record = read_record(path)
    if record is None:
        raise InputError(f"{path} is a page of HTML, but no report of this program.")
    lines = [f"{path}: report, {record.get('title', '')}; {record.get('particles', 0)} particles"]
    scores = record.get("scores", {}).get("all", {})
    if scores:
        lines.append(f"  median error {scores['median_deg']:.2f}°, {scores['within']['20']:.1%} within 20°")
    validation = record.get("figures", {}).get("validation_median_deg")
    if validation is not None:
        lines.append(f"  median error of the validation part {validation:.2f}°")
    lines += [f"  {name}: {value}" for name, value in record.get("run", {}).items()]
    return lines + [f"  warning: {text}" for text in record.get("warnings", [])]


def _volume(path: Path) -> list[str]:
    from napari_orient.engine.io import read_tomogram

    try:
        volume = read_tomogram(path)
    except InputError as error:
        return _volume_of_unknown_size(path, error)
    size = " × ".join(str(count) for count in volume.extent.size)
    physical = " × ".join(f"{count * volume.voxel_size / 10:.0f}" for count in volume.extent.size)
    source = f" ({volume.voxel_size_source})" if volume.voxel_size_source else ""
    lines = [f"{path}: volume, {size} voxels of {volume.voxel_size:g} Å{source}: {physical} nm"]
    return lines + [f"  {note}" for note in volume.notes]


def _volume_of_unknown_size(path: Path, error: InputError) -> list[str]:
    """Lines on a volume that is read once its voxel size is given, and why it is not before.

    Raises
    ------
    InputError
        If it is not read then either.
    """
    from napari_orient.engine.io import read_tomogram

    volume = read_tomogram(path, voxel_size=1.0)
    size = " × ".join(str(count) for count in volume.extent.size)
    return [f"{path}: volume, {size} voxels of unknown size", f"  {error}"]


def _table(path: Path) -> list[str]:
    """Lines on a table of tomograms: which, and of how many the volumes are found.

    Raises
    ------
    InputError
        If it is none.
    """
    from napari_orient.engine.io.tomograms import TOMOGRAM, read_tomograms, tomogram_files
    from napari_orient.engine.projects.files import is_table

    if not is_table(path):
        raise InputError(f"{path} is no table of tomograms.")
    table = read_tomograms(path)
    names, found = table[TOMOGRAM], tomogram_files(table, beside=path)
    lines = [f"{path}: table of tomograms, {len(names)} of them, {len(found)} with a volume that is found"]
    return [*lines, f"  tomograms: {shortened(names)}", f"  other columns: {', '.join(set(table) - {TOMOGRAM})}"]


def _list(path: Path) -> list[str]:
    from napari_orient.engine.io.dialects.voxels import VOXEL_SIZE
    from napari_orient.engine.io.particle_lists import read_provenance

    particles, lacking = _read_list(path)
    names = particles.tomogram_names
    lines = [f"{path}: particle list, {len(particles)} particles in {len(names)} tomogram{'s' * (len(names) != 1)}"]
    origin = read_provenance(path)
    lines += [f"  {origin}"] if origin else []
    lines += [f"  tomograms: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"] if any(names) else []
    lines += _pose_lines(particles)
    boxes = {*BOX, *BOX_ANGLES}
    lines += ["  with the places of boxes that images were cut from"] if boxes & particles.extra.keys() else []
    extra = [name for name in particles.extra if name not in boxes | {VOXEL_SIZE}]
    if extra:
        more = f" and {len(extra) - _LISTED} more" if len(extra) > _LISTED else ""
        lines.append(f"  other columns: {', '.join(extra[:_LISTED])}{more}")
    return lines + [f"  {note}" for note in (lacking or particles.notes)]


def _read_list(path: Path) -> tuple[Particles, tuple[str, ...]]:
    """Particles of a list, and what it lacks to be placed: the size of its pixels, or of its tomograms.

    Raises
    ------
    InputError
        If it is no list.
    """
    from napari_orient.engine.io import read_particles
    from napari_orient.engine.io.dialects.relion_coordinates import ANY_SIZE, SizeUnknownError

    try:
        return read_particles(path), ()
    except InputError as error:
        names = error.tomograms if isinstance(error, SizeUnknownError) else ()
        try:
            found = read_particles(path, pixel_size=1.0, extents=dict.fromkeys(names, ANY_SIZE))
        except InputError:
            raise error from None
        return found, (str(error),)


def _pose_lines(particles: Particles) -> list[str]:
    if particles.rotations is None:
        return ["  no angles"]
    lines = ["  with angles"]
    if particles.kind is not None:
        kinds, counts = np.unique(np.asarray(particles.kind, str), return_counts=True)
        lines.append("  classes: " + ", ".join(f"{kind} {count}" for kind, count in zip(kinds, counts, strict=True)))
    if particles.expected_error_deg is not None and np.isfinite(particles.expected_error_deg).any():
        low, middle, high = np.nanquantile(particles.expected_error_deg, (0.1, 0.5, 0.9))
        lines.append(f"  expected error: median {middle:.1f}°, a tenth below {low:.1f}°, a tenth above {high:.1f}°")
    return lines


def _tilts(path: Path) -> list[str]:
    from napari_orient.engine.io.tilt_metadata import read_tilt_series

    series = read_tilt_series(path)
    return [f"{path}: tilt metadata, {len(series)} images"]

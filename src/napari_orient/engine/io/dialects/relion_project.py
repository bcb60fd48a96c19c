"""Files that RELION wants beside a list: its import job's list, and an optimisation set with its table of tomograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.relion_coordinates import check_sizes, written_sizes
from napari_orient.engine.io.star import write_star
from napari_orient.engine.io.tomograms import GLOBAL, TOMOGRAM, ListMetadata, extents_table
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.particles import Particles


def import_list_path(path: Path) -> Path:
    """Path of the import list of a list of particles."""
    return path.with_name(f"{path.stem}_import.star")


def optimisation_set_paths(path: Path, *, tomograms: Path | None) -> tuple[Path, ...]:
    """Paths of the optimisation set of a list, and of the table of tomograms that is written if none is given."""
    target = path.with_name(f"{path.stem}_optimisation_set.star")
    return (target,) if tomograms is not None else (target, path.with_name(f"{path.stem}_tomograms.star"))


def write_import_list(path: Path | str, particles_path: Path | str, names: Sequence[str]) -> None:
    """Write the list that RELION's import job reads: the tomogram's name and the file of its particles.

    The file is written relative to the current folder, taken for RELION's project, or by name if it is not below it.
    RELION gives every particle of a listed file the name beside it, so a file of several tomograms cannot be listed.

    Raises
    ------
    InputError
        If there is not exactly one name, or the file cannot be written.
    """
    if len(set(names)) != 1:
        raise InputError(
            f"{particles_path} holds particles of {len(set(names))} tomograms; RELION's import list needs one file "
            "for each tomogram. Write them apart, or import the file itself."
        )
    table = {TOMOGRAM: (str(names[0]),), "rlnTomoImportParticleFile": (_from_project(Path(particles_path)),)}
    write_star(path, {"particles": table})


def _from_project(path: Path) -> str:
    path, project = path.resolve(), Path.cwd().resolve()
    return (path.relative_to(project) if path.is_relative_to(project) else Path(path.name)).as_posix()


def write_optimisation_set(
    path: Path | str, particles: Particles, *, tomograms: Path | None = None, pixel_size: float | None = None
) -> tuple[str, ...]:
    """Write the optimisation set of a RELION 5 list, and its table of tomograms if none is given.

    Their names are the list's with ``_optimisation_set`` and ``_tomograms``. The sentences that are returned say what
    the table lacks.

    Parameters
    ----------
    path : of the list of particles.
    tomograms : RELION's own ``tomograms.star``, which the set then names.
    pixel_size : Å, of the tilt series; None for that which the list states, or else the tomograms' voxel sizes.

    Raises
    ------
    InputError
        If the size of a tomogram is unknown, or a file cannot be written.
    """
    path = Path(path)
    notes: tuple[str, ...] = ()
    target, *table = optimisation_set_paths(path, tomograms=tomograms)
    check_writable(target)
    if tomograms is None:
        tomograms = table[0]
        notes = _write_tomograms(tomograms, particles, ListMetadata(extents=particles.extents, pixel_size=pixel_size))
    files = {"rlnTomoParticlesFile": _from_project(path), "rlnTomoTomogramsFile": _from_project(tomograms)}
    write_star(target, {"optimisation_set": {name: (text,) for name, text in files.items()}})
    return notes


def _write_tomograms(path: Path, particles: Particles, metadata: ListMetadata) -> tuple[str, ...]:
    """Write the table of tomograms, in the pixels that the list's optics state; sentences on what it lacks."""
    sizes = written_sizes(path, particles, metadata, dialect="relion5")
    check_sizes(path, sizes.names, sizes.in_pixels)
    write_star(path, {GLOBAL: extents_table(sizes.in_pixels)})
    note = (
        f"{path.name} has the tomograms' names and sizes alone: RELION's jobs on tilt images need its own "
        "tomograms.star (--tomograms-star)."
    )
    return (note, *sizes.pixels.notes)

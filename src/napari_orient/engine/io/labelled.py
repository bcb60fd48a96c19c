"""Tomograms with their own particles: joined by names, from a list, a folder of PolNet's, or tomograms and their list.

Where a file of the tomograms cannot be read, the others can still be worked on: `read_labelled` and
`particles_of_each` collect what is wrong by name, if they are given where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects import ListFile, reading_dialect
from napari_orient.engine.io.dialects.polnet import is_polnet_folder, read_polnet_folder
from napari_orient.engine.io.dialects.relion_coordinates import ANY_SIZE
from napari_orient.engine.io.dialects.warp_project import reconstructions
from napari_orient.engine.io.particle_lists import read_list, read_particles
from napari_orient.engine.io.tomograms import (
    LEFT_OUT,
    ListMetadata,
    left_out_note,
    match_tomogram,
    nearest_name,
    plain_name,
    read_tomograms,
    rows_of_tomogram,
    tables_beside,
    tomogram_files,
)
from napari_orient.engine.io.volumes.formats import read_tomogram, volumes_in
from napari_orient.engine.particles import Extent, Particles, Tomogram, shortened

Failures = dict[str, str]
"""What is wrong, by the name of each tomogram that cannot be worked on."""

_PLAIN = ListMetadata()


def read_labelled(
    path: Path | str,
    *,
    tomograms: Path | str | None = None,
    voxel_size: float | None = None,
    pixel_size: float | None = None,
    centre: str = "size/2",
    first_voxel: int | None = None,
    failed: Failures | None = None,
) -> list[tuple[Tomogram, Particles]]:
    """Tomograms, read by parts on demand, each with its own particles under the same name, in the list's order.

    Parameters
    ----------
    path : a PolNet result folder, or a list of particles. The tomograms of a list are looked for in ``tomograms``, then
        where its own columns or the optimisation set say, then in a tomograms.star beside it, then beside it by name.
    tomograms : a folder of volumes, or RELION's tomograms.star.
    voxel_size : Å; overrides the tomograms' headers.
    pixel_size, centre, first_voxel : as `read_particles`.
    failed : what is wrong with tomograms that cannot be read is put here, and the others are returned; None raises it.

    Raises
    ------
    InputError
        If there are no particles, or no file of the list's tomograms is found, or, without ``failed``, not all: which.
    """
    path = Path(path)
    if path.is_dir():
        if not is_polnet_folder(path):
            raise InputError(
                f"{path} is no PolNet result folder; expected one with motif lists, or a list of particles."
            )
        return read_polnet_folder(path, voxel_size=voxel_size, failed=failed)
    metadata = ListMetadata(pixel_size=pixel_size, tomograms=tomograms, centre=centre, first_voxel=first_voxel)
    return tomograms_of_list(path, metadata, voxel_size=voxel_size, failed=failed)


def tomograms_of_list(
    path: Path, metadata: ListMetadata, *, voxel_size: float | None, failed: Failures | None
) -> list[tuple[Tomogram, Particles]]:
    """Tomograms that a list names, each with its own particles; see `read_labelled`.

    Parameters
    ----------
    metadata : how the list is read; the tomograms are in its ``tomograms``, RELION's table or a folder of volumes.
    """
    given = None if metadata.tomograms is None else Path(metadata.tomograms)
    opened = _opened_all(_volume_files(path, given, failed), voxel_size, failed)
    table = given if given is not None and given.is_file() else None
    found = [(tomogram, (name,)) for name, tomogram in opened.items()]
    return _joined(path, found, replace(metadata, tomograms=table), failed)


def particles_of_each(
    tomograms: Sequence[Tomogram],
    path: Path | str,
    metadata: ListMetadata = _PLAIN,
    *,
    failed: Failures,
    absent: Failures,
) -> list[tuple[Tomogram, Particles]]:
    """Tomograms, each with its own particles of one list, which is read once where it names its tomograms.

    A list that names none is of the only tomogram, or of the one that its file is named after.

    Parameters
    ----------
    metadata : how the list is read, and RELION's table of tomograms.
    failed : why, by the name of each tomogram whose particles cannot be read.
    absent : the same of those that have no particles in the list.

    Raises
    ------
    InputError
        If the list cannot be read for any tomogram, or names none where there are several.
    """
    path = Path(path)
    if len(tomograms) == 1:
        return [(tomograms[0], read_list(path, metadata.of(tomograms[0])))]
    names = names_in_list(path)
    if not names:
        return [_named_after(path, tomograms, metadata)]
    owners = _owners(names, [tomogram.name for tomogram in tomograms], failed)
    found = []
    for tomogram in tomograms:
        if own := owners.get(tomogram.name):
            found.append((tomogram, own))
        elif tomogram.name not in failed:
            absent[tomogram.name] = _absent(names, tomogram.name, path)
    return _joined(path, found, metadata, failed, others=set(names).difference(*owners.values()), rename=False)


# --- names ----------------------------------------------------------------------------------------------------------


def _owners(names: Sequence[str], tomograms: Sequence[str], failed: Failures) -> dict[str, tuple[str, ...]]:
    """The list's names for each tomogram; one that fits several belongs to none, which ``failed`` says."""
    owners: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            owner = match_tomogram(name, tomograms)
        except InputError as error:
            failed[name] = str(error)
            continue
        if owner is not None:
            owners[owner] = (*owners.get(owner, ()), name)
    return owners


def _absent(names: Sequence[str], tomogram: str, path: Path) -> str:
    try:
        rows_of_tomogram(names, tomogram, where=str(path))
    except InputError as error:
        return str(error)
    return f"its particles in {path} belong to a tomogram whose name fits better."


def _named_after(path: Path, tomograms: Sequence[Tomogram], metadata: ListMetadata) -> tuple[Tomogram, Particles]:
    names = {tomogram.name: tomogram for tomogram in tomograms}
    # PEET's lists are called otherwise, but their project says which volume is theirs.
    said = [file.name for file in _names_and_files(path).values() if file is not None]
    matched = (match_tomogram(plain_name(name), names) for name in (path.name, *said))
    own = next((name for name in matched if name is not None), None) or _only_in_folder(path, names)
    if own is None:
        raise InputError(
            f"{path} does not say which tomogram its particles lie in, and {len(tomograms)} are given. Name the file "
            "as its tomogram, or add a column of names."
        )
    return names[own], read_list(path, metadata.of(names[own]))


def _only_in_folder(path: Path, tomograms: Mapping[str, Tomogram]) -> str | None:
    """Name of the only tomogram in a list's folder, as where each has a folder of its own; None where there is none."""
    folder = path.resolve().parent
    found = [
        name for name, item in tomograms.items() if item.path is not None and item.path.absolute().parent == folder
    ]
    return found[0] if len(found) == 1 else None


def names_in_list(path: Path | str) -> list[str]:
    """Names of the tomograms that a list's particles lie in, in order of appearance; none where it says none.

    Raises
    ------
    InputError
        If it is no list that can be read.
    """
    return [name for name in _names_and_files(Path(path)) if name]


def volumes_of_list(path: Path | str) -> dict[str, Tomogram]:
    """The tomograms of a list whose files are found and can be read, by the list's names for them.

    They are looked for where `read_labelled` does: where the list's own columns or the optimisation set say, in a
    tomograms.star beside it, then beside it by name.
    """
    failed: Failures = {}
    try:
        return _opened_all(_volume_files(Path(path), None, failed), None, failed)
    except InputError:
        return {}


def _names_and_files(path: Path) -> Mapping[str, Path | None]:
    file = ListFile(path)
    dialect = reading_dialect(file)
    if dialect.volumes is not None:
        return dialect.volumes(file)
    return dict.fromkeys(read_particles(path).tomogram_names)


# --- files of tomograms ---------------------------------------------------------------------------------------------


def _volume_files(path: Path, given: Path | None, failed: Failures | None) -> dict[str, Path]:
    """File of each tomogram of a list, by the name in the list."""
    named = _names_and_files(path)
    own = {name: file for name, file in named.items() if file is not None}
    sources = [
        *([_given_files(given)] if given is not None else []),
        own,
        *_files_of_tables(path),
        volumes_in(path.parent),
        reconstructions(path),
    ]
    found = {name: file for name in named if (file := _first_match(name, sources)) is not None}
    missing = [name or "(no name)" for name in named if name not in found]
    if missing and (failed is None or not found):
        free = [key for source in sources for key, file in source.items() if file not in found.values()]
        raise InputError(
            f"{path}: no file is found for tomogram {shortened(missing)}. Give the folder of the tomograms "
            "(--tomograms); their files must be named as in the list"
            f"{nearest_name(missing[0], free)}."
        )
    if failed is not None:
        failed.update(dict.fromkeys(missing, "its file is not found. Give the folder that it is in (--tomograms)."))
    return found


def _first_match(name: str, sources: Iterable[Mapping[str, Path]]) -> Path | None:
    for source in sources:
        if not name and len(source) == 1:
            return next(iter(source.values()))
        key = match_tomogram(name, source)
        if key is not None:
            return source[key]
    return None


def _given_files(file: Path) -> dict[str, Path]:
    if file.is_dir():
        return volumes_in(file)
    return tomogram_files(read_tomograms(file), beside=file)


def _files_of_tables(path: Path) -> list[dict[str, Path]]:
    return [tomogram_files(table, beside=file) for file, table in tables_beside(path).items()]


def _opened_all(files: Mapping[str, Path], voxel_size: float | None, failed: Failures | None) -> dict[str, Tomogram]:
    opened = {}
    for name, file in files.items():
        try:
            tomogram = read_tomogram(file, voxel_size=voxel_size)
        except InputError as error:
            if failed is None or len(files) == 1:
                raise
            failed[name] = str(error)
        else:
            notes = (*tomogram.notes, *_half_note(file))
            opened[name] = replace(tomogram, name=name or tomogram.name, notes=notes)
    if files and not opened and failed:
        raise InputError(next(reversed(failed.values())))
    return opened


_HALF = re.compile(r"[_-](half[12]|evn|even|odd)$", re.IGNORECASE)
"""End of the name of a tomogram of half the images, as RELION 5, Warp and IMOD call them."""


def _half_note(file: Path) -> tuple[str, ...]:
    """A sentence on a tomogram of half the images, which a table names where there is no other."""
    if _HALF.search(plain_name(file.name)) is None:
        return ()
    return (f"{file.name} is of half the images: one of all of them has half the noise power.",)


# --- particles ------------------------------------------------------------------------------------------------------


def _joined(
    path: Path,
    found: Sequence[tuple[Tomogram, Sequence[str]]],
    metadata: ListMetadata,
    failed: Failures | None,
    *,
    others: Iterable[str] = (),
    rename: bool = True,
) -> list[tuple[Tomogram, Particles]]:
    """Tomograms with their particles of a list, by the list's names for each; what fails for one alone is collected.

    Parameters
    ----------
    others : the list's names of further tomograms, whose particles are not wanted.
    rename : whether particles without a name get that of their tomogram.
    """
    extents = {name: tomogram.extent for tomogram, names in found for name in names}
    # Rows that are not wanted must not stop the reading for want of their tomogram's size: any will do.
    sizes = {**dict.fromkeys(others, _any_size(next(iter(extents.values())))), **extents} if extents else extents
    try:
        particles = read_list(path, replace(metadata, extents=sizes))
    except InputError:
        if failed is None or len(found) < 2:
            raise
        return list(_one_by_one(path, found, metadata, failed))
    unwanted = [name for name in others if name not in (failed or {})]
    wanted = np.flatnonzero(~np.isin(np.asarray(particles.tomogram), unwanted))
    left = left_out_note(np.asarray(particles.tomogram).tolist(), wanted, where=str(path)) if unwanted else ()
    particles = particles.replace(notes=(*particles.notes, *left))
    return [(tomogram, _own(particles, names, tomogram, rename=rename)) for tomogram, names in found]


def _any_size(extent: Extent) -> Extent:
    """A size that stands for any, in the voxels of this one."""
    return Extent(ANY_SIZE.size, extent.voxel_size)


def _own(particles: Particles, names: Sequence[str], tomogram: Tomogram, *, rename: bool) -> Particles:
    rows = np.isin(np.asarray(particles.tomogram), names)
    own = particles.take(rows).located_in(tomogram)
    return own.replace(tomogram=tomogram.name) if rename and not any(names) else own


def _one_by_one(
    path: Path, found: Sequence[tuple[Tomogram, Sequence[str]]], metadata: ListMetadata, failed: Failures
) -> Iterator[tuple[Tomogram, Particles]]:
    """Each tomogram with its particles, the list read for it alone: a wrong row stops one tomogram."""
    errors = []
    for tomogram, names in found:
        try:
            own = read_list(path, metadata.of(replace(tomogram, name=names[0]))).located_in(tomogram)
            # The particles of the others are read in their turn.
            yield tomogram, own.replace(notes=tuple(note for note in own.notes if not note.startswith(LEFT_OUT)))
        except InputError as error:
            errors.append(error)
            failed[tomogram.name] = str(error)
    if len(errors) == len(found):
        raise errors[0]

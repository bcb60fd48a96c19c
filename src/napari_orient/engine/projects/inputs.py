"""What a person names as a project, resolved: tomograms, each with its own particles, and what cannot be worked on.

Named are volumes, lists of particles, folders and patterns (globs) of these, and projects of other programs: a folder
of PolNet's results, of RELION's project or one of its jobs, of WarpTools' processing, or copick's configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_tomogram
from napari_orient.engine.io.dialects import read_suffixes
from napari_orient.engine.io.labelled import Failures, names_in_list, particles_of_each, tomograms_of_list
from napari_orient.engine.io.particle_lists import read_list
from napari_orient.engine.io.tomograms import ListMetadata, match_tomogram, plain_name
from napari_orient.engine.io.volumes.formats import volumes_in
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, shortened
from napari_orient.engine.projects.files import ProjectFiles, is_pattern, project_files, relion_table

_PLAIN = ListMetadata()


@dataclass(frozen=True, eq=False)
class Project:
    """Tomograms with their particles.

    Parameters
    ----------
    pairs : each tomogram with its own particles.
    failed : why, by the name of each tomogram that cannot be worked on.
    notes : what a person should know of how the files were found, a sentence each.
    """

    pairs: Labelled
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """How many picks there are in which tomogram, or in how many."""
        count = sum(len(particles) for _, particles in self.pairs)
        where = self.pairs[0][0].name if len(self.pairs) == 1 else f"{len(self.pairs)} tomograms"
        return f"{count} pick{'' if count == 1 else 's'} in {where}"


def read_project(
    paths: Sequence[Path | str],
    *,
    metadata: ListMetadata = _PLAIN,
    tomograms: Path | str | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> Project:
    """Tomograms with their particles, of everything that is named; one that cannot be read stops no other.

    Parameters
    ----------
    paths : volumes, lists, folders, patterns and projects, in any order.
    metadata : how lists are read.
    tomograms : for lists without volumes: a folder of volumes, RELION's tomograms.star, or a folder or pattern that
        could be one of ``paths``, whose own lists are not read.
    voxel_size : Å; overrides the tomograms' headers.
    tomogram_name : name of the only tomogram in the list, where its file's is another.

    Raises
    ------
    InputError
        If there is no list, a pattern fits no file, tomograms are named in both ways, or none with particles is left.
    """
    files = project_files(paths)
    named_too = [Path(path).name for path in (*files.volumes, *files.polnet)]
    if tomograms is not None and named_too:
        raise InputError(
            f"--tomograms {tomograms} was given beside {shortened(named_too)}; it says "
            "where the tomograms of a list alone are. Leave out one of both."
        )
    if tomograms is not None and _is_project(Path(tomograms)) and not (files.volumes or files.polnet):
        files = project_files((tomograms, *files.lists))
    if tomogram_name and len(files.volumes) != 1:
        raise InputError(f"--tomogram-name was given with {len(files.volumes)} tomograms; expected one.")
    if not files.lists and not files.polnet:
        raise InputError(
            f"no list of particles is among {shortened([str(path) for path in paths])}; expected volumes and their "
            "list, or a list that names them."
        )
    failed: Failures = {}
    notes = list(files.notes)
    pairs: list[tuple[Tomogram, Particles]] = []
    for folder in files.polnet:
        pairs += read_labelled(folder, voxel_size=voxel_size, failed=failed)
    if files.volumes:
        sized = replace(metadata, tomograms=metadata.tomograms or files.table)
        pairs += _of_volumes(files, sized, failed, notes, voxel_size=voxel_size, name=tomogram_name)
    else:
        named = _volumes_named(tomograms) or files.table
        for path in files.lists:
            sources = replace(metadata, tomograms=named or metadata.tomograms)
            pairs += tomograms_of_list(path, sources, voxel_size=voxel_size, failed=failed)
    return Project(_together(pairs), failed, tuple(notes))


def _is_project(place: Path) -> bool:
    """Whether a place of tomograms is a pattern, or a folder that holds them in folders of its own."""
    return is_pattern(place) or (place.is_dir() and not volumes_in(place) and relion_table(place) is None)


def _volumes_named(tomograms: Path | str | None) -> Path | str | None:
    """Where a list's tomograms are; of a folder of RELION's without volumes, its table of them."""
    if tomograms is None or not Path(tomograms).is_dir() or volumes_in(Path(tomograms)):
        return tomograms
    return relion_table(Path(tomograms)) or tomograms


def _of_volumes(
    files: ProjectFiles,
    metadata: ListMetadata,
    failed: Failures,
    notes: list[str],
    *,
    voxel_size: float | None,
    name: str | None,
) -> list[tuple[Tomogram, Particles]]:
    """Each volume that is named with its particles in the lists."""
    if len(files.volumes) == 1 and len(files.lists) == 1:
        tomogram = read_tomogram(files.volumes[0], voxel_size=voxel_size)
        ((_, own),) = particles_of_each(
            [replace(tomogram, name=name or tomogram.name)], files.lists[0], metadata, failed=failed, absent=failed
        )
        return [(tomogram, own)]
    opened: list[Tomogram] = []
    for path in files.volumes:
        try:
            opened.append(read_tomogram(path, voxel_size=voxel_size))
        except InputError as error:
            failed[plain_name(path.name)] = str(error)
    if not opened:
        raise InputError(next(iter(failed.values())))
    unread = tuple(failed)
    opened = _named_apart(opened)
    _check_names(opened)
    pairs, absent = _of_lists(opened, files.lists, metadata, failed)
    if not pairs:
        lists = shortened([str(path) for path in files.lists])
        why = next((words for name, words in failed.items() if name in absent or name not in unread), "")
        words = f": {why}" if why else ". Check their names."
        raise InputError(f"{lists} has no particles of the {len(opened)} tomograms given{words}")
    # Of a folder it is usual that some tomograms have no picks; of volumes named one by one it is a mistake.
    if files.named:
        failed.update(absent)
    elif absent:
        notes.append(f"Without particles in the lists, and left out: {shortened(sorted(absent))}.")
    return pairs


def _of_lists(
    opened: Sequence[Tomogram], lists: Sequence[Path], metadata: ListMetadata, failed: Failures
) -> tuple[list[tuple[Tomogram, Particles]], Failures]:
    """Each tomogram with its particles in any of the lists, in the tomograms' order; and why others have none."""
    found: list[tuple[Tomogram, Particles]] = []
    absent: Failures = {}
    errors: list[InputError] = []
    unread = tuple(failed)
    for path in lists:
        if _names_one_of(path, unread):
            continue
        try:
            found += particles_of_each(opened, path, metadata, failed=failed, absent=absent)
        except InputError as error:
            errors.append(error)
            failed[path.name] = str(error)
    if errors and len(errors) == len(lists):
        raise errors[0]
    done = {tomogram.name for tomogram, _ in found}
    order = {tomogram.name: index for index, tomogram in enumerate(opened)}
    found.sort(key=lambda pair: order[pair[0].name])
    left = [name for name in order if name not in done and name not in failed]
    return found, {name: absent.get(name, "no list names it, and none is named after it.") for name in left}


def _names_one_of(path: Path, tomograms: Sequence[str]) -> bool:
    """Whether a list that names no tomogram is called as one of these, which are failed as they are."""
    try:
        return match_tomogram(plain_name(path.name), tomograms) is not None and not names_in_list(path)
    except InputError:
        return False


def _named_apart(tomograms: Sequence[Tomogram]) -> list[Tomogram]:
    """The tomograms; where several have one name, and each a folder of its own, these are called as their folders."""
    names = [tomogram.name for tomogram in tomograms]
    folders = [None if tomogram.path is None else tomogram.path.absolute().parent.name for tomogram in tomograms]
    same = [name for name in names if names.count(name) > 1]
    own = [folder for name, folder in zip(names, folders, strict=True) if name in same]
    if not same or None in own or len(set(own)) < len(own) or set(own) & set(names):
        return list(tomograms)
    return [
        replace(tomogram, name=folder) if tomogram.name in same and folder else tomogram
        for tomogram, folder in zip(tomograms, folders, strict=True)
    ]


def _check_names(tomograms: Sequence[Tomogram]) -> None:
    places: dict[str, Tomogram] = {}
    for tomogram in tomograms:
        other = places.setdefault(tomogram.name, tomogram)
        if other is not tomogram:
            raise InputError(
                f"{other.path} and {tomogram.path} are both called {tomogram.name}; name one of them, or rename it."
            )


def _together(pairs: Labelled) -> Labelled:
    """The pairs, those of one tomogram as one."""
    joined: dict[object, tuple[Tomogram, list[Particles]]] = {}
    for tomogram, particles in pairs:
        key = (tomogram.path or id(tomogram), tomogram.name)
        joined.setdefault(key, (tomogram, []))[1].append(particles)
    return [(tomogram, parts[0] if len(parts) == 1 else concatenate(parts)) for tomogram, parts in joined.values()]


# --- lists alone ----------------------------------------------------------------------------------------------------


def read_lists(path: Path | str, metadata: ListMetadata = _PLAIN, *, tomogram: Tomogram | None = None) -> Particles:
    """Particles of a list, or of all lists in a folder, pattern or project, as one.

    Particles of several lists that name no tomogram are those of the one that their file is named after.

    Raises
    ------
    InputError
        If there is no list, or one cannot be read.
    """
    files = project_files([path])
    lists = [*files.lists, *(item for folder in files.polnet for item in _polnet_lists(folder))]
    if not lists:
        raise InputError(f"{path} holds no list of particles; expected one of {', '.join(read_suffixes())}.")
    parts = [_read_list(item, metadata, tomogram, alone=len(lists) == 1) for item in lists]
    return parts[0] if len(parts) == 1 else concatenate(parts)


def _read_list(path: Path, metadata: ListMetadata, tomogram: Tomogram | None, *, alone: bool) -> Particles:
    found = read_list(path, metadata if tomogram is None else metadata.of(tomogram))
    unnamed = not alone and not any(found.tomogram_names)
    return found.replace(tomogram=plain_name(path.name)) if unnamed else found


def _polnet_lists(folder: Path) -> list[Path]:
    return sorted({*folder.glob("*motif_list.csv"), *folder.glob("*/*_motif_list.csv")})

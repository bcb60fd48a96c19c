"""What a person names as a project, resolved: tomograms, each with its own particles, and what cannot be worked on.

Named are volumes, lists of particles, folders and patterns (globs) of these, and projects of other programs: a folder
of PolNet's results, of RELION's project or one of its jobs, of WarpTools' processing, or copick's configuration.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import (
    Failures,
    ListFile,
    is_polnet_folder,
    match_tomogram,
    names_in_list,
    names_volume,
    particles_of_each,
    read_labelled,
    read_particles,
    read_provenance,
    read_suffixes,
    read_tomogram,
    recognise_content,
)
from napari_orient.engine.io.tomograms import ListMetadata, plain_name
from napari_orient.engine.io.volumes.formats import volumes_in
from napari_orient.engine.io.volumes.zarr_store import is_zarr
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, shortened

_JOB = re.compile(r"job(\d+)$")
"""Folders of RELION's jobs."""
_RELION_PIPELINE = "default_pipeline.star"
_JOB_LISTS = ("run_optimisation_set.star", "optimisation_set.star", "run_data.star", "particles.star")
"""Lists of a job of RELION, the one that says most first."""
_ITERATION = "run_it*_optimisation_set.star"
_WARP_SERIES = "warp_tiltseries"
_COPICK = "copick-project"
_NO_LISTS = ("tomograms.star", "optimisation_set.star", "_status.csv", "labels_table.csv", "_fsc.csv")
"""Endings of tables that are no lists of particles."""
_PLAIN = ListMetadata()


@dataclass(frozen=True)
class ProjectFiles:
    """Files of a project.

    Parameters
    ----------
    volumes : of tomograms, in order.
    lists : of particles.
    polnet : folders of PolNet's results, which have both.
    named : whether every volume was named by itself, not by a folder or pattern.
    notes : what was chosen where there were several, a sentence each.
    """

    volumes: tuple[Path, ...] = ()
    lists: tuple[Path, ...] = ()
    polnet: tuple[Path, ...] = ()
    named: bool = True
    notes: tuple[str, ...] = ()


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
    tomograms : a folder of volumes, or RELION's tomograms.star, for lists without volumes.
    voxel_size : Å; overrides the tomograms' headers.
    tomogram_name : name of the only tomogram in the list, where its file's is another.

    Raises
    ------
    InputError
        If there is no list, a pattern fits no file, or no tomogram with particles is left.
    """
    files = project_files(paths)
    if tomogram_name and len(files.volumes) != 1:
        raise InputError(f"--tomogram-name was given with {len(files.volumes)} tomograms; expected one.")
    if not files.lists and not files.polnet:
        raise InputError(
            f"no list of particles is among {shortened([str(path) for path in paths])}; expected volumes and their "
            "list, or a list that names them."
        )
    failed: Failures = {}
    pairs: list[tuple[Tomogram, Particles]] = []
    for folder in files.polnet:
        pairs += read_labelled(folder, voxel_size=voxel_size, failed=failed)
    if files.volumes:
        pairs += _of_volumes(files, metadata, failed, voxel_size=voxel_size, name=tomogram_name)
    else:
        for path in files.lists:
            pairs += read_labelled(
                path,
                tomograms=tomograms or metadata.tomograms,
                voxel_size=voxel_size,
                pixel_size=metadata.pixel_size,
                centre=metadata.centre,
                first_voxel=metadata.first_voxel,
                failed=failed,
            )
    return Project(_together(pairs), failed, files.notes)


def _of_volumes(
    files: ProjectFiles, metadata: ListMetadata, failed: Failures, *, voxel_size: float | None, name: str | None
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
    _check_names(opened)
    pairs, absent = _of_lists(opened, files.lists, metadata, failed)
    if not pairs:
        lists = shortened([str(path) for path in files.lists])
        raise InputError(f"{lists} has no particles of the {len(opened)} tomograms given. Check their names.")
    # Of a folder it is usual that some tomograms have no picks; of volumes named one by one it is a mistake.
    failed.update(absent if files.named else {})
    return pairs


def _of_lists(
    opened: Sequence[Tomogram], lists: Sequence[Path], metadata: ListMetadata, failed: Failures
) -> tuple[list[tuple[Tomogram, Particles]], Failures]:
    """Each tomogram with its particles in any of the lists, in the tomograms' order; and why others have none."""
    found: list[tuple[Tomogram, Particles]] = []
    absent: Failures = {}
    errors: list[InputError] = []
    for path in lists:
        try:
            found += particles_of_each(opened, path, metadata, failed=failed, absent=absent)
        except InputError as error:
            errors.append(error)
            failed[path.name] = str(error)
    if len(errors) == len(lists):
        raise errors[0]
    done = {tomogram.name for tomogram, _ in found}
    order = {tomogram.name: index for index, tomogram in enumerate(opened)}
    found.sort(key=lambda pair: order[pair[0].name])
    return found, {name: words for name, words in absent.items() if name not in done}


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
    found = read_particles(
        path,
        tomogram=tomogram,
        extents=metadata.extents,
        pixel_size=metadata.pixel_size,
        tomograms=metadata.tomograms,
        centre=metadata.centre,
        first_voxel=metadata.first_voxel,
    )
    unnamed = not alone and not any(found.tomogram_names)
    return found.replace(tomogram=plain_name(path.name)) if unnamed else found


def _polnet_lists(folder: Path) -> list[Path]:
    return sorted({*folder.glob("*motif_list.csv"), *folder.glob("*/*_motif_list.csv")})


# --- files ----------------------------------------------------------------------------------------------------------


def project_files(paths: Sequence[Path | str]) -> ProjectFiles:
    """The files that volumes, lists, folders, patterns and projects stand for.

    The last of several files is a list, whatever its name; others are volumes, unless their content is a list's.

    Raises
    ------
    InputError
        If a pattern fits nothing, or a folder holds neither volumes nor lists, or lists that exclude each other.
    """
    found = ProjectFiles()
    for index, given in enumerate(paths):
        path, last = Path(given), index == len(paths) - 1
        if _is_pattern(path):
            found = _added(found, _of_pattern(path))
        elif path.is_dir() and not is_zarr(path):
            found = _added(found, _of_folder(path))
        elif (last and not (found.lists and names_volume(path))) or _is_list(path):
            found = _added(found, ProjectFiles(lists=(path,)))
        else:
            found = _added(found, ProjectFiles(volumes=(path,)))
    return found


def _added(one: ProjectFiles, other: ProjectFiles) -> ProjectFiles:
    return ProjectFiles(
        tuple(dict.fromkeys((*one.volumes, *other.volumes))),
        tuple(dict.fromkeys((*one.lists, *other.lists))),
        tuple(dict.fromkeys((*one.polnet, *other.polnet))),
        one.named and other.named,
        (*one.notes, *other.notes),
    )


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _of_pattern(path: Path) -> ProjectFiles:
    """Files of a pattern; a folder among them is a project of its own, if it is no Zarr store."""
    # Path.glob takes no pattern that is absolute.
    found_names = glob.glob(str(path.expanduser()), recursive=True)  # noqa: PTH207
    matches = [Path(item) for item in sorted(found_names)]
    if not matches:
        raise InputError(f"{path}: no such file, and as a pattern it fits no file.")
    found = ProjectFiles(named=False)
    for item in matches:
        if item.is_dir() and not is_zarr(item):
            found = _added(found, _of_folder(item))
        elif names_volume(item):
            found = _added(found, ProjectFiles(volumes=(item,), named=False))
        else:
            found = _added(found, ProjectFiles(lists=(item,)))
    return found


def _of_folder(folder: Path) -> ProjectFiles:
    """Files of a folder, as the program that made it arranges them."""
    if is_polnet_folder(folder):
        return ProjectFiles(polnet=(folder,), named=False)
    for arranged in (_copick, _relion_job, _relion_project, _warp):
        found = arranged(folder)
        if found is not None:
            return found
    volumes = tuple(volumes_in(folder).values())
    lists = tuple(_lists_in(folder))
    if not volumes and not lists:
        raise InputError(f"{folder} holds neither tomograms nor lists of particles that are known. Name the files.")
    _check_lists(folder, lists)
    return ProjectFiles(volumes, lists, named=False)


def _copick(folder: Path) -> ProjectFiles | None:
    found = [path for path in sorted(folder.glob("*.json")) if _dialect(path) == _COPICK]
    if len(found) > 1:
        raise InputError(f"{folder} holds {len(found)} configurations of copick; name one, such as {found[0]}.")
    return ProjectFiles(lists=(found[0],), named=False) if found else None


def _relion_job(folder: Path) -> ProjectFiles | None:
    """The list of one job of RELION's; the final one where there are those of iterations."""
    for name in _JOB_LISTS[:2]:
        if (folder / name).is_file():
            return ProjectFiles(lists=(folder / name,), named=False)
    iterations = sorted(folder.glob(_ITERATION))
    if iterations:
        return ProjectFiles(lists=(iterations[-1],), named=False, notes=(f"{iterations[-1].name} is read.",))
    if not _JOB.match(folder.name):
        return None
    found = [folder / name for name in _JOB_LISTS if (folder / name).is_file()]
    return ProjectFiles(lists=(found[0],), named=False) if found else None


def _relion_project(folder: Path) -> ProjectFiles | None:
    """The list of the newest job that has one, of a project of RELION's."""
    if not (folder / _RELION_PIPELINE).is_file():
        return None
    jobs = {int(match[1]): item for item in folder.glob("*/job*") if (match := _JOB.match(item.name))}
    for number in sorted(jobs, reverse=True):
        found = _relion_job(jobs[number])
        if found is not None:
            chosen = found.lists[0].relative_to(folder)
            return replace(found, notes=(f"{folder} is a project of RELION; {chosen} of its newest job is read.",))
    raise InputError(f"{folder} is a project of RELION without a job that has particles. Name their list.")


def _warp(folder: Path) -> ProjectFiles | None:
    """Reconstructions of WarpTools, and the lists of its template matching where they are of one species."""
    series = folder if (folder / "reconstruction").is_dir() else folder / _WARP_SERIES
    if not (series / "reconstruction").is_dir():
        return None
    volumes = tuple(volumes_in(series / "reconstruction").values())
    matching = series / "matching"
    lists = tuple(_lists_in(matching)) if matching.is_dir() else ()
    _check_lists(matching, lists)
    return ProjectFiles(volumes, lists, named=False)


def _lists_in(folder: Path) -> Iterator[Path]:
    """Lists of particles in a folder; not those that this program wrote there, where there are others."""
    suffixes = read_suffixes()
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and path.suffix.lower() in suffixes
        and not path.name.endswith(_NO_LISTS)
        and not names_volume(path)
        and _is_list(path)
    ]
    others = [path for path in found if not read_provenance(path)]
    yield from others or found


def _check_lists(folder: Path, lists: Sequence[Path]) -> None:
    """Check that no two lists of a folder are of one tomogram: a person must say which is meant.

    Raises
    ------
    InputError
        If two are.
    """
    if len(lists) < 2:
        return
    owner: dict[str, Path] = {}
    for path in lists:
        for name in _names_in(path):
            other = match_tomogram(name, owner)
            if other is not None:
                raise InputError(
                    f"{folder} holds two lists of tomogram {name}, {owner[other].name} and {path.name}. Name one, or a "
                    "pattern such as 'matching/*_ribosome.star'."
                )
        owner |= dict.fromkeys(_names_in(path), path)


def _names_in(path: Path) -> list[str]:
    """Names of a list's tomograms; that of its file where it says none, or cannot be read without them."""
    try:
        names = names_in_list(path)
    except InputError:
        names = []
    return names or [plain_name(path.name)]


def _is_list(path: Path) -> bool:
    """Whether a file's content is that of a list of particles that is read."""
    try:
        found = recognise_content(ListFile(path))
    except (InputError, OSError):
        return False
    return found is not None and found.read is not None and not names_volume(path)


def _dialect(path: Path) -> str:
    try:
        found = recognise_content(ListFile(path))
    except (InputError, OSError):
        return ""
    return "" if found is None else found.name

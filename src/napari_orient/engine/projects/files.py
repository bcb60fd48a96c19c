"""Files that a person's words for a project stand for: volumes, lists, folders, patterns, other programs' projects.

Of a folder of RELION's, WarpTools', copick's, EMAN2's, Dynamo's or PEET's the files are found where it puts them.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects import ListFile, read_suffixes, recognise_content
from napari_orient.engine.io.dialects.eman2 import tomograms_of_project
from napari_orient.engine.io.dialects.polnet import is_polnet_folder, read_polnet_folder
from napari_orient.engine.io.labelled import names_in_list
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.io.star import read_star
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    match_tomogram,
    optimisation_set,
    plain_name,
    read_tomograms,
    tomogram_files,
    tomograms_of_set_beside,
)
from napari_orient.engine.io.volumes.formats import names_volume, volumes_in
from napari_orient.engine.io.volumes.zarr_store import is_zarr
from napari_orient.engine.model_files import is_model_file, shipped_models
from napari_orient.engine.particles import shortened

_JOB = re.compile(r"job(\d+)$")
"""Folders of RELION's jobs."""
_RELION_PIPELINE = "default_pipeline.star"
_JOB_LISTS = ("run_optimisation_set.star", "optimisation_set.star", "run_data.star", "particles.star")
"""Lists of a job of RELION, the one that says most first."""
_ITERATION = "run_it*_optimisation_set.star"
_WARP_SERIES = "warp_tiltseries"
_COPICK, _PEET = "copick-project", "peet-project"
_DYNAMO_TABLES = "results/ite_*/averages/refined_table_ref_001_ite_*.tbl"
"""Tables of an alignment of Dynamo's, in the folder of its project; of several references the first."""
_EMAN2_LISTS = "spt*_*/aliptcls3d_*.lst"
"""Lists of alignments of EMAN2, in the folder of its project."""
_FIRST_FILES = 20
"""Files of a folder that are looked into for a list where it is only to be named; chosen: there may be thousands."""
_TABLE = "tomograms.star"
"""Ending of tables of tomograms: RELION's own, and those that are written beside lists."""
_NO_LISTS = (_TABLE, "optimisation_set.star", "_status.csv", "labels_table.csv", "_fsc.csv")
"""Endings of tables that are no lists of particles."""


@dataclass(frozen=True)
class ProjectFiles:
    """Files of a project.

    Parameters
    ----------
    volumes : of tomograms, in order.
    lists : of particles.
    polnet : folders of PolNet's results, which have both.
    tables : RELION's tables of tomograms, which say where the volumes are.
    brought : those of the lists that a folder holds; a list that is named itself takes their place.
    named : whether every volume was named by itself, not by a folder or pattern.
    notes : what was chosen where there were several, a sentence each.
    """

    volumes: tuple[Path, ...] = ()
    lists: tuple[Path, ...] = ()
    polnet: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()
    brought: tuple[Path, ...] = ()
    named: bool = True
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> Path | None:
        """The table of tomograms; None where there is none.

        Raises
        ------
        InputError
            If there are several.
        """
        if len(self.tables) > 1:
            raise InputError(f"{self.tables[0]} and {self.tables[1]} are both tables of tomograms; name one of them.")
        return self.tables[0] if self.tables else None


def project_files(paths: Sequence[Path | str]) -> ProjectFiles:
    """The files that volumes, lists, folders, patterns and projects stand for.

    The last of several files is a list, whatever its name; others are volumes, unless their content is a list's, or
    they are RELION's tables of tomograms. Of folders beside a list that is named the tomograms alone are meant.

    Raises
    ------
    InputError
        If a pattern fits nothing, a folder holds neither volumes nor lists, or lists that exclude each other, or a
        model is among them.
    """
    # A long list is looked into only where it makes a difference: beside a folder.
    given = [Path(path) for path in paths]
    beside_list = any(path.is_dir() for path in given) and any(map(_names_list, given))
    return _without_brought(_all_files(given, beside_list=beside_list))


def volumes_named(path: Path | str) -> tuple[Path, ...]:
    """Files of the tomograms of a folder, a pattern or a table of RELION's; of any other path, the path itself.

    Raises
    ------
    InputError
        If a pattern fits nothing, or a folder holds nothing that is known.
    """
    path = Path(path)
    if not (is_pattern(path) or (path.is_dir() and not is_zarr(path)) or is_table(path)):
        return (path,)
    files = _all_files([path], beside_list=True)
    of_tables = [
        file for table in files.tables for file in tomogram_files(read_tomograms(table), beside=table).values()
    ]
    return (*files.volumes, *of_tables, *(volume for folder in files.polnet for volume in _polnet_volumes(folder)))


def _all_files(paths: Sequence[Path], *, beside_list: bool) -> ProjectFiles:
    found = ProjectFiles()
    for index, path in enumerate(paths):
        last = index == len(paths) - 1
        if _is_model(path):
            raise InputError(
                f"{path} is a model, no tomogram and no list of particles; predict takes it as --model {path}."
            )
        if is_pattern(path):
            found = _added(found, _of_pattern(path))
        elif path.is_dir() and not is_zarr(path):
            found = _added(found, _of_folder(path, beside_list=beside_list))
        elif is_table(path):
            found = _added(found, ProjectFiles(tables=(path,), named=False))
        elif (last and not (found.lists and names_volume(path))) or _is_list(path):
            found = _added(found, ProjectFiles(lists=(path,)))
        else:
            found = _added(found, ProjectFiles(volumes=(path,)))
    return found


def _is_model(path: Path) -> bool:
    """Whether a path is the file of a model, or the name of a shipped one and no file."""
    return is_model_file(path) or (str(path) in shipped_models() and not path.exists())


def _names_list(path: Path) -> bool:
    """Whether a path is that of one list, and not of a folder or pattern that may hold some."""
    return path.is_file() and not names_volume(path) and not is_table(path) and _is_list(path)


def is_table(path: Path) -> bool:
    """Whether a file is RELION's table of tomograms, by its name first: a long list is not read for it."""
    if not (path.name.endswith(_TABLE) and path.is_file()):
        return False
    try:
        blocks = read_star(path)
    except InputError:
        return False
    return GLOBAL in blocks and "particles" not in blocks


def _without_brought(files: ProjectFiles) -> ProjectFiles:
    """The files; where a list is named itself, without the lists that folders hold, which a note says."""
    named = tuple(path for path in files.lists if path not in files.brought)
    left = [*(str(folder) for folder in files.polnet), *(path.name for path in files.brought)]
    if not named or not left:
        return files
    note = f"{shortened([path.name for path in named])} is read; the particles of {shortened(left)} are not."
    volumes = [volume for folder in files.polnet for volume in _polnet_volumes(folder)]
    return replace(
        files, volumes=(*files.volumes, *volumes), lists=named, polnet=(), brought=(), notes=(*files.notes, note)
    )


def _polnet_volumes(folder: Path) -> list[Path]:
    """Files of the tomograms in a PolNet result folder that can be read."""
    return [tomogram.path for tomogram, _ in read_polnet_folder(folder, failed={}) if tomogram.path is not None]


def _added(one: ProjectFiles, other: ProjectFiles) -> ProjectFiles:
    return ProjectFiles(
        tuple(dict.fromkeys((*one.volumes, *other.volumes))),
        tuple(dict.fromkeys((*one.lists, *other.lists))),
        tuple(dict.fromkeys((*one.polnet, *other.polnet))),
        tuple(dict.fromkeys((*one.tables, *other.tables))),
        tuple(dict.fromkeys((*one.brought, *other.brought))),
        one.named and other.named,
        (*one.notes, *other.notes),
    )


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern (glob) of several."""
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


def _of_folder(folder: Path, *, beside_list: bool = False) -> ProjectFiles:
    """Files of a folder, as the program that made it arranges them.

    Parameters
    ----------
    beside_list : whether a list is named itself, so that the tomograms alone are wanted.
    """
    if beside_list and (table := relion_table(folder)) is not None:
        return ProjectFiles(tables=(table,), named=False, notes=(f"The tomograms of {table} are taken.",))
    found = _arranged(folder)
    if not beside_list:
        _check_lists(found.lists)
    return replace(found, brought=found.lists)


def _arranged(folder: Path) -> ProjectFiles:
    """Files of a folder, lists and all."""
    if is_polnet_folder(folder):
        return ProjectFiles(polnet=(folder,), named=False)
    for arranged in (_copick, _relion_job, _relion_project, _m, _warp, _eman2, _dynamo, _peet):
        found = arranged(folder)
        if found is not None:
            return found
    volumes = tuple(volumes_in(folder).values())
    lists = tuple(_lists_in(folder))
    found = ProjectFiles(volumes, lists, named=False)
    if volumes or lists:
        return found
    below = _folder_each(folder)
    if below is None:
        raise InputError(
            f"{folder} holds neither tomograms nor lists of particles that are known{_where_some_are(folder)}. Name "
            "the files."
        )
    return below


def _folder_each(folder: Path) -> ProjectFiles | None:
    """Files of the folders in a folder, where these hold tomograms with lists beside them, as IMOD's do; else None."""
    found = ProjectFiles(named=False)
    for item in _folders_in(folder):
        volumes = tuple(volumes_in(item).values())
        lists = tuple(_lists_in(item)) if volumes else ()
        if lists:
            _check_lists(lists)
            found = _added(found, ProjectFiles(volumes, lists, named=False))
    return found if found.lists else None


def _where_some_are(folder: Path) -> str:
    """Words that name the folders in a folder which hold tomograms or lists; empty where none does."""
    holding = [item for item in _folders_in(folder) if volumes_in(item) or _has_list(item)]
    return f"; {shortened([str(item) for item in holding])} do" if holding else ""


def _has_list(folder: Path) -> bool:
    """Whether a list of particles is among the first files of a folder."""
    suffixes = read_suffixes()
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix.lower() in suffixes)
    return any(map(_is_list, islice(files, _FIRST_FILES)))


def _folders_in(folder: Path) -> list[Path]:
    """Folders in a folder that may be read, without hidden ones and stores of volumes."""
    found = [item for item in sorted(folder.iterdir()) if item.is_dir() and not item.name.startswith(".")]
    return [item for item in found if os.access(item, os.R_OK | os.X_OK) and not is_zarr(item)]


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


def _jobs(folder: Path) -> list[Path]:
    """Folders of the jobs of a project of RELION's, the newest first."""
    jobs = {int(match[1]): item for item in folder.glob("*/job*") if (match := _JOB.match(item.name))}
    return [jobs[number] for number in sorted(jobs, reverse=True)]


def relion_table(folder: Path) -> Path | None:
    """Table of the reconstructed tomograms of a project of RELION's, of its newest job that has one, or of a job.

    Of a job of particles it is that of its optimisation set. None where there is none.
    """
    if (folder / _RELION_PIPELINE).is_file():
        return next((table for job in _jobs(folder) if (table := relion_table(job)) is not None), None)
    if not _JOB.match(folder.name):
        return None
    own = folder / _TABLE
    table = own if own.is_file() else _table_of_set(folder)
    return table if table is not None and tomogram_files(read_tomograms(table), beside=table) else None


def _table_of_set(job: Path) -> Path | None:
    """Table of tomograms that the optimisation set of a job names, or of the job that its list is of."""
    found = _relion_job(job)
    if found is None:
        return None
    path = found.lists[0]
    if not path.name.endswith("optimisation_set.star"):
        return tomograms_of_set_beside(path)
    followed = optimisation_set(read_star(path), path)
    return None if followed is None else followed[1]


def _relion_project(folder: Path) -> ProjectFiles | None:
    """The list of the newest job that has one, of a project of RELION's."""
    if not (folder / _RELION_PIPELINE).is_file():
        return None
    for job in _jobs(folder):
        found = _relion_job(job)
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
    return ProjectFiles(volumes, lists or tuple(_lists_in(folder)), named=False)


def _m(folder: Path) -> ProjectFiles | None:
    """The population of M in a folder, or the species whose folder it is; maps beside it are no tomograms."""
    for suffix in ("population", "species"):
        found = sorted(folder.glob(f"*.{suffix}"))
        if len(found) > 1:
            names = shortened([path.name for path in found])
            raise InputError(f"{folder} holds several files of M ({names}); name one, such as {found[0]}.")
        if found:
            return ProjectFiles(lists=(found[0],), named=False)
    return None


def _eman2(folder: Path) -> ProjectFiles | None:
    """Tomograms of a project of EMAN2, with the particles of its last alignment, else the boxes in its tomograms.

    Of the folder of one refinement the list of its last alignment.
    """
    alignments = sorted(folder.glob("aliptcls3d_*.lst"), key=_numbers_in_name)
    if alignments:
        return ProjectFiles(lists=(alignments[-1],), named=False, notes=(f"{alignments[-1].name} is read.",))
    if not (folder / "info").is_dir() or not (volumes := tomograms_of_project(folder)):
        return None
    aligned = sorted(folder.glob(_EMAN2_LISTS), key=_numbers_in_name)
    boxes = sorted((folder / "info").glob("*_info.json"))
    lists = (aligned[-1],) if aligned else tuple(path for path in boxes if _is_list(path))
    notes = (f"{folder} is a project of EMAN2; {aligned[-1].relative_to(folder)} is read.",) if aligned else ()
    return ProjectFiles(tuple(volumes.values()), lists, named=False, notes=notes)


def _dynamo(folder: Path) -> ProjectFiles | None:
    """The table of the last iteration of an alignment project of Dynamo's."""
    tables = sorted(folder.glob(_DYNAMO_TABLES), key=_numbers_in_name)
    if not tables:
        return None
    chosen = tables[-1].relative_to(folder)
    return ProjectFiles(
        lists=(tables[-1],),
        named=False,
        notes=(f"{folder} is a project of Dynamo; {chosen} of its last iteration is read.",),
    )


def _peet(folder: Path) -> ProjectFiles | None:
    """The project of PEET in a folder."""
    found = [path for path in sorted(folder.glob("*.prm")) if _dialect(path) == _PEET]
    if len(found) > 1:
        names = shortened([path.name for path in found])
        raise InputError(f"{folder} holds {len(found)} projects of PEET ({names}); name one, such as {found[0]}.")
    return ProjectFiles(lists=(found[0],), named=False) if found else None


def _numbers_in_name(path: Path) -> list[int]:
    """Numbers in the last two parts of a path, by which runs and iterations are in order."""
    return [int(text) for text in re.findall(r"\d+", "/".join(path.parts[-2:]))]


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


def _check_lists(lists: Sequence[Path]) -> None:
    """Check that no two lists of a folder are of one tomogram: a person must say which is meant.

    Raises
    ------
    InputError
        If two are.
    """
    if len(lists) < 2:
        return
    owner: dict[str, Path] = {}
    apart = len({path.parent for path in lists}) > 1
    for path in lists:
        for name in _names_in(path, apart=apart):
            other = match_tomogram(name, owner)
            if other is not None:
                raise InputError(
                    f"{path.parent} holds two lists of tomogram {name}, {owner[other].name} and {path.name}. Name one, "
                    "or a pattern such as 'matching/*_ribosome.star'."
                )
        owner |= dict.fromkeys(_names_in(path, apart=apart), path)


def _names_in(path: Path, *, apart: bool) -> list[str]:
    """Names of a list's tomograms; that of its file where it says none, or cannot be read without them.

    Parameters
    ----------
    apart : whether lists lie in folders of their own, which then say more than names of files that are all alike.
    """
    try:
        names = names_in_list(path)
    except InputError:
        names = []
    return names or [path.parent.name if apart else plain_name(path.name)]


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

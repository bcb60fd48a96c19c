"""What a person may give a verb: objects, names or paths in, the engine's own objects out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.io.dialects.tables import particles_of_columns
from napari_orient.engine.io.particle_lists import questions_on_poses, questions_on_units
from napari_orient.engine.io.star import plain_texts
from napari_orient.engine.io.tomograms import ListMetadata, match_tomogram
from napari_orient.engine.options import Options, Value
from napari_orient.engine.particles import Labelled, Particles, Tomogram, classes_notes, labelled_of_kind, shortened
from napari_orient.engine.projects.files import volumes_named
from napari_orient.engine.projects.inputs import read_lists, read_project
from napari_orient.engine.streams import Step
from napari_orient.engine.symmetry import Symmetry, symmetry
from napari_orient.progress import follow

if TYPE_CHECKING:
    import pandas as pd

TomogramLike = Tomogram | Path | str
"""A Tomogram, or the path of a volume."""
ParticlesLike: TypeAlias = "Particles | pd.DataFrame | Path | str"
"""Particles, the path of a list, or a table with the columns of one: x, y, z in Å and perhaps rot, tilt, psi."""
SymmetryLike = Symmetry | str
"""A Symmetry, or its written form: ``"C1"``, ``"D7@z@x"``."""
DataLike: TypeAlias = "TomogramLike | Sequence[TomogramLike] | Sequence[tuple[TomogramLike, ParticlesLike]]"
"""Tomograms with their particles: pairs; or files, folders, patterns, lists and projects of other programs; or
tomograms alone, beside their list."""
Progress = bool | None | Callable[[Step], object]
"""None: silent, but for warnings; True: a line on standard error; a function: called with every Step."""

OptionsT = TypeVar("OptionsT", bound=Options)
ResultT = TypeVar("ResultT")


class ResultWarning(UserWarning):
    """A result may be wrong; the text says why."""


def answer_of(stream: Generator[Step, None, ResultT], progress: Progress, *, title: str) -> ResultT:
    """Answer of a stream, drained to its end while its steps are shown as asked, under a title."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InputError(f"progress is {progress!r}; expected None, True, or a function that takes a step.")
    if progress is True:
        return follow(stream, title=title)
    try:
        while True:
            step = next(stream)
            if callable(progress):
                progress(step)
                continue
            for note in step.notes:
                if note.severity == "warning":
                    warnings.warn(note.text, ResultWarning, stacklevel=3)
    except StopIteration as end:
        answer: ResultT = end.value
        return answer
    finally:
        stream.close()


def options_of(kind: type[OptionsT], options: OptionsT | None, settings: Mapping[str, Value | Path]) -> OptionsT:
    """The options given, or the defaults, with single settings changed by name.

    Raises
    ------
    InputError
        If the options are of another class, there is no option of a name, or a value does not fit.
    """
    if options is not None and not isinstance(options, kind):
        raise InputError(f"options are given as {_named(options)}; expected {kind.__name__}.")
    values = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    return (options or kind()).replace(**values)


def tomogram_of(given: TomogramLike) -> Tomogram:
    """The tomogram, read if its path is given.

    Raises
    ------
    InputError
        If it is neither a Tomogram nor a path, or the file cannot be read.
    """
    if isinstance(given, Tomogram):
        return given
    if isinstance(given, (str, Path)):
        return read_tomogram(Path(given))
    raise InputError(
        f"a tomogram is given as {_named(given)}; expected a Tomogram or the path of a volume. "
        "Make one: Tomogram(density, voxel_size, name)."
    )


def particles_of(
    given: ParticlesLike, tomogram: Tomogram | None = None, *, kind: str | None = None, alone: bool = True
) -> Particles:
    """The particles, read if a path is given; those of one tomogram or one class alone, where either is named.

    Particles that all lie in one tomogram are taken to lie in the one given, whatever its name, if it is given alone.

    Raises
    ------
    InputError
        If they are neither Particles nor a path, the file cannot be read, or none is of this tomogram or class.
    """
    if isinstance(given, (str, Path)):
        found = read_lists(given, tomogram=tomogram)
    else:
        particles = given if isinstance(given, Particles) else _of_table(given, tomogram)
        found = particles if tomogram is None else _of_tomogram(particles, tomogram, alone=alone)
    return found if kind is None else found.of_kind(kind)


def pairs_of(data: DataLike, picks: ParticlesLike | None = None, *, kind: str | None = None) -> Labelled:
    """Each tomogram with its own particles.

    Raises
    ------
    InputError
        If the data are of no such form, a file cannot be read, or no particle is of the class asked for.
    """
    paths = _paths(data, picks)
    if paths is not None:
        project = read_project(paths)
        for name, words in project.failed.items():
            warnings.warn(f"{name} is left out: {words}", ResultWarning, stacklevel=4)
        pairs = list(project.pairs)
        _ask(pairs, paths[-1])
    elif picks is not None:
        several = isinstance(data, Iterable) and not isinstance(data, (Tomogram, str, Path))
        given: Iterable[Any] = cast(Iterable[Any], data) if several else [data]
        tomograms = [opened for item in given for opened in _tomograms_of(item, picks)]
        alone = len(tomograms) == 1
        pairs = [(opened, particles_of(picks, opened, alone=alone)) for opened in tomograms]
        if not isinstance(picks, Particles):
            _ask(pairs, picks if isinstance(picks, (str, Path)) else "table.csv")
    else:
        pairs = [_pair(item) for item in _sequence(data)]
    return pairs if kind is None else labelled_of_kind(pairs, kind)


def _tomograms_of(given: TomogramLike, picks: ParticlesLike) -> list[Tomogram]:
    """The tomogram that is given; or those of a folder, a pattern or a table of RELION's that particles lie in.

    Raises
    ------
    InputError
        As `tomogram_of`; or if no particle lies in any.
    """
    files = volumes_named(given) if isinstance(given, (str, Path)) else ()
    if len(files) < 2:
        return [tomogram_of(files[0] if files else given)]
    opened = [tomogram_of(file) for file in files]
    if not isinstance(picks, Particles):
        return opened
    kept = [one for one in opened if match_tomogram(one.name, picks.tomogram_names) is not None]
    if not kept:
        raise InputError(f"no particle lies in a tomogram of {given}; they lie in {shortened(picks.tomogram_names)}.")
    return kept


def pairs_of_one_class(
    data: DataLike, picks: ParticlesLike | None, *, kind: str | None, learnt: Sequence[str] = ()
) -> Labelled:
    """As `pairs_of`; particles of other classes than a model's, or of several classes taken for one, are warned of."""
    pairs = pairs_of(data, picks, kind=kind)
    for note in classes_notes((particles for _, particles in pairs), learnt):
        warnings.warn(note.replace("--class", "kind="), ResultWarning, stacklevel=3)
    return pairs


def _ask(pairs: Labelled, path: Path | str) -> None:
    """Warn where what was read of a list is unlikely: of coordinates in another unit, angles in radians."""
    asked = (
        question
        for tomogram, particles in pairs
        for question in (
            *questions_on_poses(particles),
            *questions_on_units(particles.located_in(tomogram), path),
        )
    )
    for question in dict.fromkeys(asked):
        warnings.warn(question, ResultWarning, stacklevel=4)


def _paths(data: DataLike, picks: ParticlesLike | None) -> list[Path | str] | None:
    """The paths that a project is named by; None where objects are given."""
    if not isinstance(data, (Tomogram, str, Path, Sequence)):
        return None
    given: list[Any] = [data] if isinstance(data, (Tomogram, str, Path)) else [*_sequence(data)]
    given += [] if picks is None else [picks]
    return given if all(isinstance(item, (str, Path)) for item in given) else None


def symmetry_of(given: SymmetryLike) -> Symmetry:
    """The symmetry group, parsed if it is given in its written form."""
    return given if isinstance(given, Symmetry) else symmetry(given)


def _of_table(given: Any, tomogram: Tomogram | None) -> Particles:
    """Particles of a table of pandas, whose columns are named as in a list.

    Raises
    ------
    InputError
        If it is something else, or has no coordinates.
    """
    if not hasattr(given, "columns"):
        raise InputError(
            f"particles are given as {_named(given)}; expected Particles, a table or the path of a list. "
            "Make them: Particles(positions=xyz), in Å."
        )
    columns = {str(name): plain_texts(np.asarray(given[name])) for name in given.columns}
    extents = {} if tomogram is None else {tomogram.name: tomogram.extent}
    where = f"the {_named(given)}"
    return particles_of_columns(columns, ListMetadata(extents=extents), where=where)


def _named(given: object) -> str:
    return type(given).__name__


def _of_tomogram(particles: Particles, tomogram: Tomogram, *, alone: bool) -> Particles:
    """The particles of this tomogram, with its size; all of them where they lie in one, and it is given alone."""
    names = particles.tomogram_names
    if len(names) > 1 or not alone:
        name = match_tomogram(tomogram.name, names)
        if name is None:
            shown = ", ".join(names[:3])
            raise InputError(f"no particle lies in {tomogram.name}; they lie in {shown}. Rename the tomogram.")
        particles = particles.of_tomogram(name)
    return particles.located_in(tomogram)


def _sequence(data: object) -> Sequence[Any]:
    if isinstance(data, Sequence) and len(data):
        return data
    raise InputError(
        f"data are given as {_named(data)}; expected pairs [(tomogram, particles), ...], a tomogram and the list of "
        "its particles, or the path of a PolNet folder or a list."
    )


def _pair(item: object) -> tuple[Tomogram, Particles]:
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
        raise InputError(f"{_named(item)} is given in a list of pairs; expected (tomogram, particles).")
    tomogram = tomogram_of(item[0])
    return tomogram, particles_of(item[1], tomogram)

"""Picks of copick, a file or a whole project, and points of the CryoET Data Portal (ndjson).

Both have a rotation matrix, object to tomogram, as this program has. copick's positions are Å, to which the translation
of the 4 × 4 transformation is added; the portal's are voxels of the annotation's voxel spacing, which only the folder's
name says. A project on a local disk is read from its files; others need the package copick.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.voxels import (
    VoxelRows,
    as_numbers,
    identity_question,
    left_out,
    particles_in_voxels,
    score_name,
    score_of,
    sizes_to_write,
    voxels_of,
)
from napari_orient.engine.io.tomograms import ListMetadata, left_out_note, rows_of_tomogram
from napari_orient.engine.outputs import existing_file, write_text
from napari_orient.engine.particles import FloatArray, Particles, concatenate, shortened

USER = "copickUser"
SESSION = "copickSession"
INSTANCE = "instanceId"
SPACING = "copickVoxelSpacing"

_UNITS = {"angstrom": 1.0, "angstroms": 1.0, "å": 1.0, "a": 1.0, "nanometer": 10.0, "nanometre": 10.0, "nm": 10.0}
"""Å in the units that a file of picks may state."""

_MATRIX_DECIMALS = 9
"""Decimals of the entries of written matrices: 1e-7 degrees."""

_POSITION_DECIMALS = 6
"""Decimals of written positions, in Å or voxels."""


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise InputError(
            f"{path} is no JSON that can be read (line {line}). Was it cut short? Write it again."
        ) from error


def _float(value: Any, what: str, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    raise InputError(f"{where}: {what} is {value!r}; expected a number. Mend or remove the point.")


def _location(point: Any, number: int, where: str) -> list[float]:
    """x, y, z of a point."""
    location = point.get("location") if isinstance(point, dict) else None
    if not isinstance(location, dict):
        raise InputError(f"{where}: point {number} has no location; expected x, y and z. Mend or remove it.")
    return [_float(location.get(axis), f"{axis} of point {number}", where) for axis in "xyz"]


def _matrix(given: Any, size: int, number: int, where: str) -> FloatArray:
    """Matrix (size, size) of a point.

    Raises
    ------
    InputError
        If it is of another shape, or no finite numbers.
    """
    try:
        matrix = np.array(given, float)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (size, size) or not np.isfinite(matrix).all():
        raise InputError(f"{where}: the matrix of point {number} is not {size} × {size} numbers. Mend it.")
    return matrix


# --- copick: one file of picks ----------------------------------------------------------------------------------------


def _is_picks(file: ListFile) -> bool:
    return file.head_text.lstrip().startswith("{") and file.holds('"pickable_object_name"') and file.holds('"points"')


def _read_picks(file: ListFile, metadata: ListMetadata) -> Particles:
    picks = _json(file.path, file.text)
    if not isinstance(picks, dict) or "points" not in picks:
        raise InputError(
            f"{file.path} is JSON, but neither picks nor a project of copick. Write the positions as a table: "
            "columns x, y, z."
        )
    points = picks["points"]
    if not isinstance(points, list) or not points:
        raise InputError(f"{file.path} has no particles: its points are empty. Choose another file.")
    particles = _particles_of_picks(picks, points, file.path)
    name = particles.tomogram_names[0]
    if metadata.tomogram is not None and name:
        rows_of_tomogram([name], metadata.tomogram, where=str(file.path))
    return particles if name else particles.replace(tomogram=metadata.tomogram or "")


def _particles_of_picks(picks: Mapping[str, Any], points: Sequence[Any], path: Path) -> Particles:
    where, unit = str(path), str(picks.get("unit", "angstrom")).lower()
    if unit not in _UNITS:
        raise InputError(f"{path} has positions in {unit!r}; expected angstrom or nanometer. Convert them.")
    identity = np.eye(4).tolist()
    stated = [point.get("transformation_") if isinstance(point, dict) else None for point in points]
    without = [number for number, item in enumerate(stated, start=1) if item is None]
    if 0 < len(without) < len(points):
        raise InputError(
            f"{path}: {len(without)} of {len(points)} points have no transformation_ (first: point {without[0]}). "
            "Write oriented and other points apart."
        )
    given = [identity if item is None else item for item in stated]
    matrices = np.array([_matrix(item, 4, number, where) for number, item in enumerate(given, start=1)])
    locations = np.array([_location(point, number, where) for number, point in enumerate(points, start=1)])
    rotations, notes = _rotations_of_picks(picks, matrices[:, :3, :3])
    texts = {USER: picks.get("user_id"), SESSION: picks.get("session_id"), SPACING: picks.get("voxel_spacing")}
    extra: dict[str, NDArray[Any]] = {
        name: np.full(len(points), str(text)) for name, text in texts.items() if text is not None
    }
    return Particles(
        positions=(locations + matrices[:, :3, 3]) * _UNITS[unit],
        rotations=rotations,
        tomogram=str(picks.get("run_name") or _run_of(path)),
        kind=np.full(len(points), str(picks.get("pickable_object_name") or "particle")),
        extra={**extra, **_column(points, "score", PICKERS_SCORE, 1), **_column(points, "instance_id", INSTANCE, 0)},
        notes=notes,
    )


def _rotations_of_picks(picks: Mapping[str, Any], rotations: FloatArray) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Rotations of the picks; None, and why, where they say nothing."""
    if picks.get("trust_orientation") is False:
        return None, ("The picks say that their orientations are not to be trusted: they are taken as unknown.",)
    return _unless_identity(rotations)


def _unless_identity(rotations: FloatArray | None) -> tuple[FloatArray | None, tuple[str, ...]]:
    """The rotations; None, and why, where all are the identity; a question where some are."""
    if rotations is None:
        return None, ()
    if np.allclose(rotations, np.eye(3), atol=1e-9):
        return None, ("Every orientation is the identity, as is written where none is known: taken as unknown.",)
    return rotations, identity_question(np.asarray(np.isclose(rotations, np.eye(3), atol=1e-9).all(axis=(1, 2)), bool))


def _column(points: Sequence[Any], key: str, name: str, default: float) -> dict[str, NDArray[Any]]:
    """Column of a value of the points; nothing where all have the default."""
    values = [point.get(key, default) if isinstance(point, dict) else default for point in points]
    values = [default if value is None else value for value in values]
    return {} if all(value == default for value in values) else {name: np.array([str(value) for value in values])}


def _run_of(path: Path) -> str:
    """Run whose folder the picks lie in: ``ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json``."""
    return path.parent.parent.name if path.parent.name == "Picks" else ""


def _write_picks(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write picks of one object in one run."""
    kinds, runs = particles.kinds or [""], particles.tomogram_names
    if len(kinds) != 1 or len(runs) != 1:
        raise InputError(
            f"{path}: a file of copick holds picks of one object in one run; these are of {len(kinds)} classes in "
            f"{len(runs)} tomograms. Write them apart (--class, --where)."
        )
    words = path.stem.split("_", 2)
    user, session = (words[0], words[1]) if len(words) == 3 else ("napari-orient", "0")
    column = as_numbers(particles, SPACING)
    found = [extent.voxel_size for extent in {**particles.extents, **metadata.extents}.values()]
    spacing = metadata.pixel_size or (column[0] if column is not None else found[0] if len(set(found)) == 1 else None)
    picks = {
        "pickable_object_name": _copick_name(kinds[0] or "particle"),
        "user_id": _stated(particles, USER) or _copick_name(user),
        "session_id": _stated(particles, SESSION) or _copick_name(session),
        "run_name": runs[0] or _run_of(path) or None,
        "voxel_spacing": spacing,
        "unit": "angstrom",
        "points": list(_points(particles)),
        "trust_orientation": particles.rotations is not None,
    }
    write_text(path, json.dumps(picks, indent=4, ensure_ascii=False) + "\n")
    name = "_".join(str(picks[key]) for key in ("user_id", "session_id", "pickable_object_name"))
    place = f"ExperimentRuns/{runs[0] or 'RUN'}/Picks/{name}.json"
    held = (USER, SESSION, SPACING, INSTANCE, score_name(particles))
    return (f"In a project of copick its place is {place}.", *left_out(particles, "copick", held=held, kind=True))


def _copick_name(text: str) -> str:
    """The name without characters that copick does not allow in names."""
    return re.sub(r"[<>:\"/\\|?*\x00-\x1f\s_]+", "-", text).strip("-.") or "0"


def _stated(particles: Particles, name: str) -> str:
    """The one value of a column; empty where there are several or none."""
    values = set(particles.extra[name].tolist()) if name in particles.extra else set()
    return str(values.pop()) if len(values) == 1 else ""


def _points(particles: Particles) -> Iterator[dict[str, Any]]:
    score, instance = score_of(particles), as_numbers(particles, INSTANCE)
    matrices = np.tile(np.eye(4), (len(particles), 1, 1))
    if particles.rotations is not None:
        matrices[:, :3, :3] = particles.rotations
    for row, (position, matrix) in enumerate(zip(particles.positions, matrices, strict=True)):
        yield {
            "location": _xyz(position),
            "transformation_": (matrix.round(_MATRIX_DECIMALS) + 0.0).tolist(),
            "instance_id": 0 if instance is None else int(instance[row]),
            "score": 1.0 if score is None else float(score[row]),
        }


def _xyz(position: FloatArray) -> dict[str, float]:
    return dict(zip("xyz", (position.round(_POSITION_DECIMALS) + 0.0).tolist(), strict=True))


COPICK = Dialect(
    name="copick",
    title="copick picks",
    programs="copick, napari-copick, ChimeraX-copick",
    suffixes=(".json",),
    layout="Å from voxel 0, plus the translation of the transformation; its matrix is the rotation",
    trap="Not trusted orientations, or the identity for all, are unknown. One file is one object in one run.",
    recognises=_is_picks,
    read=_read_picks,
    write=_write_picks,
    volumes=lambda file: dict.fromkeys([str(_json(file.path, file.text).get("run_name") or _run_of(file.path))]),
)


# --- copick: a project ------------------------------------------------------------------------------------------------


def _is_project(file: ListFile) -> bool:
    is_object = file.head_text.lstrip().startswith("{") and file.holds('"pickable_objects"')
    return is_object and (file.holds('_root"') or file.holds('"dataset_ids"'))


def _roots(file: ListFile) -> list[Path]:
    """Folders of a project on a local disk, the one that is written to first.

    Raises
    ------
    InputError
        If one is elsewhere, and the package copick is needed.
    """
    config = _json(file.path, file.text)
    urls = _urls(config)
    if _is_away(config, urls):
        raise InputError(f"{_away_words(file, urls)} Fetch its tomograms with copick, and open them by name.")
    paths = [Path(url.split("://", 1)[-1]) for url in urls]
    return [path if path.is_absolute() else file.path.parent / path for path in dict.fromkeys(paths)]


def _urls(config: Mapping[str, Any]) -> list[str]:
    """Addresses of a project's folders, the one that is written to first."""
    return [str(config[key]) for key in ("overlay_root", "static_root") if config.get(key)]


def _away_words(file: ListFile, urls: Sequence[str]) -> str:
    return f"{file.path} is a project of copick whose data are not on this disk ({(urls or ['the data portal'])[0]})."


def _is_away(config: Mapping[str, Any], urls: Sequence[str]) -> bool:
    """Whether a part of a project is on a server, or in an archive."""
    away = any("://" in url and not url.startswith(("local://", "file://")) for url in urls)
    return away or "dataset_ids" in config or not urls


def _documents(file: ListFile) -> Iterator[tuple[Any, Path]]:
    """Contents of all files of picks of a project, and where each is.

    Raises
    ------
    InputError
        If the project is on a server, and the package copick is not there or cannot reach it.
    """
    config = _json(file.path, file.text)
    urls = _urls(config)
    if not _is_away(config, urls):
        yield from ((_json(path, ListFile(path).text), path) for path in _pick_files(file))
        return
    try:
        import copick
    except ImportError as error:
        raise InputError(
            f"{_away_words(file, urls)} Install the package copick (pip install copick), or fetch the picks with it "
            "(copick sync picks)."
        ) from error
    try:
        for run in copick.from_file(str(file.path)).runs:
            for picks in run.picks:
                yield {**picks.load().model_dump(), "run_name": run.name}, file.path
    except Exception as error:
        raise InputError(
            f"{file.path} cannot be reached by copick ({error}). Check the address and your login."
        ) from error


def _pick_files(file: ListFile) -> list[Path]:
    """Files of picks of all runs; one in the overlay hides that of the same name below it."""
    found: dict[tuple[str, str], Path] = {}
    for root in _roots(file):
        for path in sorted(root.glob("ExperimentRuns/*/Picks/*.json")):
            found.setdefault((path.parent.parent.name, path.name), path)
    return [found[key] for key in sorted(found)]


def _read_project(file: ListFile, metadata: ListMetadata) -> Particles:
    parts = []
    for picks, path in _documents(file):
        points = picks.get("points") if isinstance(picks, dict) and "pickable_object_name" in picks else None
        if isinstance(points, list) and points:
            parts.append(_particles_of_picks(picks, points, existing_file(path)))
    if not parts:
        raise InputError(f"{file.path} has no particles: no picks are in the project's ExperimentRuns/*/Picks.")
    names = [part.tomogram_names[0] for part in parts]
    ends = np.cumsum([len(part) for part in parts])
    parts = [part.replace(list_row=np.arange(end - len(part), end)) for part, end in zip(parts, ends, strict=True)]
    others: tuple[str, ...] = ()
    if metadata.tomogram is not None:
        chosen = rows_of_tomogram(names, metadata.tomogram, where=str(file.path))
        every = [name for name, part in zip(names, parts, strict=True) for _ in range(len(part))]
        own = np.flatnonzero(np.isin(every, [names[row] for row in chosen.tolist()]))
        others = left_out_note(every, own, where=str(file.path))
        parts = [parts[row] for row in chosen.tolist()]
    joined = _joined(parts)
    return joined.replace(notes=(*joined.notes, *others))


def _joined(parts: Sequence[Particles]) -> Particles:
    """Particles of several files: what some lack, orientations or a column, is unknown for all."""
    posed = sum(part.rotations is not None for part in parts)
    sets = sorted({f"{part.kinds[0]} by {_stated(part, USER)} (session {_stated(part, SESSION)})" for part in parts})
    notes = [f"Picks of {len(parts)} files: {shortened(sets, most=6)}."]
    if 0 < posed < len(parts):
        notes.append(f"{len(parts) - posed} of {len(parts)} files have no orientations: choose one kind (--class).")
    joined = concatenate([part.replace(notes=()) for part in parts])
    return joined.replace(notes=tuple(notes))


def _project_volumes(file: ListFile) -> dict[str, Path | None]:
    """Tomogram of each run that has picks: of its finest voxel spacing, the first store by name."""
    runs = dict.fromkeys(path.parent.parent.name for path in _pick_files(file))
    return {run: _store_of(run, _roots(file)) for run in runs}


def _store_of(run: str, roots: Sequence[Path]) -> Path | None:
    found = [path for root in roots for path in root.glob(f"ExperimentRuns/{run}/VoxelSpacing*/*.zarr")]
    stores = [path for path in found if not path.stem.endswith("_features")]
    return min(stores, key=lambda path: (_spacing_of(path) or np.inf, path.name), default=None)


COPICK_PROJECT = Dialect(
    name="copick-project",
    title="copick project",
    programs="copick (its configuration, such as copick_config.json)",
    suffixes=(".json",),
    layout="as copick picks, of all runs and objects",
    trap="Picks of several people and sessions are read together: choose by --class, or a file of picks alone.",
    recognises=_is_project,
    read=_read_project,
    volumes=_project_volumes,
)


# --- CryoET Data Portal -----------------------------------------------------------------------------------------------

_HEAD_LINES = 8
"""Lines that a point may take where a file of the portal is written as one list with indents; chosen."""

_TYPES = ("point", "orientedPoint", "instancePoint")
_SPACING_FOLDER = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)$")
_ANNOTATION = re.compile(r"^(?:\d+-)?(.+)-\d+\.\d+_\w+$")
"""Names of annotations: ``100-ribosome-1.0_orientedpoint``, or without the number, which is the folder's then."""


def _spacing_of(path: Path) -> float | None:
    """Voxel spacing in Å that a folder above the file has in its name."""
    found = next((match for folder in path.parents if (match := _SPACING_FOLDER.search(folder.name))), None)
    return float(found[1]) if found else None


def _is_ndjson(file: ListFile) -> bool:
    first = "".join(file.lines[:_HEAD_LINES])
    return first.startswith(("{", "[")) and '"location"' in first and not file.holds('"pickable_object_name"')


def _points_of_lines(file: ListFile) -> list[Any]:
    if file.text.lstrip().startswith("["):
        points = _json(file.path, file.text)
        return points if isinstance(points, list) else []
    lines = [line for line in file.text.splitlines() if line.strip()]
    return [_json(file.path, line) for line in lines]


def _read_ndjson(file: ListFile, metadata: ListMetadata) -> Particles:
    where, points = str(file.path), _points_of_lines(file)
    if not points:
        raise InputError(f"{where} has no particles: it holds no point. Choose another file.")
    rotations, notes = _unless_identity(_portal_rotations(points, where))
    voxels = np.array([_location(point, number, where) for number, point in enumerate(points, start=1)])
    spacing = _spacing_of(file.path.resolve())
    named = _ANNOTATION.match(file.path.stem)
    rows = VoxelRows(
        voxels=voxels,
        names=[_portal_run(file.path.resolve())] * len(points),
        rotations=rotations,
        own_sizes=None if spacing is None else np.full(len(points), spacing),
        kind=[named[1]] * len(points) if named else None,
        extra={**_column(points, "instance_id", INSTANCE, 0), **_column(points, "score", PICKERS_SCORE, 1)},
        notes=notes,
    )
    return particles_in_voxels(rows, metadata, where=where)


def _portal_run(path: Path) -> str:
    """Run of an annotation in the portal's folders: ``RUN/Reconstructions/VoxelSpacing10.000/Annotations/``."""
    place = next((folder for folder in path.parents if folder.name in ("Reconstructions", "Tomograms")), None)
    return "" if place is None else place.parent.name


def _portal_rotations(points: Sequence[Any], where: str) -> FloatArray | None:
    """Rotations (N, 3, 3), or None where no point has one.

    Raises
    ------
    InputError
        If some points have one and others have none.
    """
    given = [
        point.get("xyz_rotation_matrix", point.get("rotation_matrix")) if isinstance(point, dict) else None
        for point in points
    ]
    without = [number for number, item in enumerate(given, start=1) if item is None]
    if len(without) == len(points):
        return None
    if without:
        raise InputError(
            f"{where}: {len(without)} of {len(points)} points have no xyz_rotation_matrix (first: line {without[0]}). "
            "Write oriented and other points apart."
        )
    return np.array([_matrix(item, 3, number, where) for number, item in enumerate(given, start=1)])


def _write_ndjson(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write one point a line, in voxels."""
    names = particles.tomogram_names
    if len(names) != 1:
        raise InputError(
            f"{path}: a file of the portal is of one tomogram; these lie in {len(names)}. Write them apart."
        )
    sizes = sizes_to_write(path, particles, metadata)
    instance = as_numbers(particles, INSTANCE)
    kind = _TYPES[1] if particles.rotations is not None else _TYPES[0] if instance is None else _TYPES[2]
    lines = []
    for row, voxel in enumerate(voxels_of(particles, sizes, metadata)):
        point: dict[str, Any] = {"type": kind, "location": _xyz(voxel)}
        if particles.rotations is not None:
            point["xyz_rotation_matrix"] = (particles.rotations[row].round(_MATRIX_DECIMALS) + 0.0).tolist()
        if instance is not None:
            point["instance_id"] = int(instance[row])
        lines.append(json.dumps(point))
    write_text(path, "\n".join(lines) + "\n")
    said = f"Positions are in voxels of {sizes[0]:g} Å; the file says neither that nor the tomogram's name."
    return (said, *left_out(particles, "The portal's ndjson", held=(INSTANCE,)))


def _ndjson_volumes(file: ListFile) -> dict[str, Path | None]:
    return dict.fromkeys([_portal_run(file.path.resolve())])


NDJSON = Dialect(
    name="ndjson",
    title="CryoET Data Portal points",
    programs="CryoET Data Portal (annotations)",
    suffixes=(".ndjson", ".jsonl"),
    layout="voxels of the annotation's voxel spacing, from 0; xyz_rotation_matrix is the rotation",
    trap="The voxel size is in no line: it is the folder's VoxelSpacing, or that of the opened tomogram.",
    recognises=_is_ndjson,
    read=_read_ndjson,
    in_voxels=True,
    write=_write_ndjson,
    volumes=_ndjson_volumes,
)

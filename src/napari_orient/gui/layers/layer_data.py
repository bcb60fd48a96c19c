"""Tomogram and Particles to layers and back: the only module that knows napari's axes are z, y, x.

A layer is found by what its metadata says it is, or by the user's choice, never by its name. Every layer has the same
scale (Å per voxel), units and axis labels, so that napari's world is in Å and its sliders step from voxel to voxel.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from napari.layers import Image, Layer, Points
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import columns as file_columns
from napari_orient.engine.io.columns import OUTLIER
from napari_orient.engine.particles import Density, Extent, FloatArray, Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.rotations import are_proper

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel


LayerParts = tuple[Any, dict[str, Any], str]
"""What npe2 calls layer data: the array, keyword arguments, and the layer's type."""

KEY = "napari-orient"
"""Where a layer's metadata says what it is."""

TOMOGRAM, PICKS, PREDICTED, TRUTH, AXES = "tomogram", "picks", "predicted", "truth", "axes"
FAILURES = "failures"
"""What shows failures apart from the other particles: no particles itself."""

MAP, SURFACE = "map", "surface"
"""Roles of an average, a volume that is no tomogram, and of a layer that shows the reference at every pose."""

ROTATION_COLUMNS = tuple(f"rotation_{row}{column}" for row in "xyz" for column in "xyz")
"""The nine entries of the matrix, row by row: ``rotation_xz`` is the x component of the particle's z axis."""

NUMBER, CLASS, CONFIDENCE, EXPECTED_ERROR = "particle", "class", "confidence", "expected_error_deg"
OWN_COLUMNS = (NUMBER, CLASS, CONFIDENCE, EXPECTED_ERROR, *ROTATION_COLUMNS)

STATUS, CORRECTED = "status", "corrected"
"""A person's verdict (``accepted``, ``rejected`` or empty), and ``1`` where a person corrected the pose."""

FIRST = "first poses"
"""Where a layer's metadata keep the poses that corrections began from, by the particle's number."""

FRAME = "frame"
"""Where a layer's metadata, and a model's card, say that poses are in a frame of their own, as discovered ones are."""

FEATURE_NAMES = {file_columns.STATUS: STATUS, file_columns.CORRECTED: CORRECTED}
"""Columns of files that have a plainer name as features."""

PICK_DIAMETER = 150.0
"""Å across the ring that marks a pick."""

LONE_GRID = 10.0
"""Å from step to step of the sliders where no tomogram is open."""

_POINTS_STYLE: Mapping[str, Mapping[str, Any]] = {
    PICKS: {"face_color": [0, 0, 0, 0], "border_color": "#ffd43b", "border_width": 0.08, "diameter": PICK_DIAMETER},
    PREDICTED: {"face_color": "#ff3b30", "border_color": "#5c0a05", "border_width": 0.12, "diameter": 40.0},
    TRUTH: {"face_color": "#30d158", "border_color": "#0a4a1c", "border_width": 0.12, "diameter": 40.0},
}


SET_ASIDE, SET_ASIDE_RIM = (0.62, 0.62, 0.66, 0.25), (0.62, 0.62, 0.66, 1.0)
"""Face and rim of a pick flagged as no particle."""


_CHUNKED_SLICES = 3
"""Slices that grey values of a volume read by chunks are sampled from; chosen: a layer of chunks may take a second."""


def flip(xyz: FloatArray) -> FloatArray:
    """Vectors (..., 3) with their components the other way round: xyz to napari's zyx, and back."""
    return xyz[..., ::-1]


def world(voxel_size: float) -> dict[str, Any]:
    """The keyword arguments that put a layer given in voxels into a world in Å."""
    return {"scale": (voxel_size,) * 3, "units": ("angstrom",) * 3, "axis_labels": ("z", "y", "x")}


def about(layer: Layer) -> dict[str, Any]:
    """What the layer's metadata says it is; empty for a layer that is not ours."""
    found = layer.metadata.get(KEY)
    return found if isinstance(found, dict) else {}


def identity(layer: Layer) -> str:
    """The layer's unique identifier; assigned if it had none yet."""
    return str(layer.metadata.setdefault(KEY, {}).setdefault("id", uuid4().hex))


def make_own(layer: Layer, others: Iterable[Layer]) -> bool:
    """Whether napari has copied the layer from another of particles; then it gets an identity of its own.

    So edits reach one alone. A copy of arrows or surfaces is a layer of the person's: it follows no particles.
    """
    said = about(layer)
    own, drawn_of = said.get("id"), (said.get("role"), said.get("of"))
    others = [about(other) for other in others if other is not layer]
    copied = any(own and other.get("id") == own for other in others)
    if copied:
        layer.metadata = {**layer.metadata, KEY: {**deepcopy(said), "id": uuid4().hex}}
    elif drawn_of[1] and any((other.get("role"), other.get("of")) == drawn_of for other in others):
        layer.metadata = {name: value for name, value in layer.metadata.items() if name != KEY}
    return copied


def role(layer: Layer) -> str:
    """``tomogram``, ``picks``, ``predicted``, ``truth`` or ``axes``; empty for a layer that is not ours."""
    return str(about(layer).get("role", ""))


def drawing_of(viewer: ViewerModel, points: Layer, kind: str) -> Layer | None:
    """The layer of this role, arrows or surfaces, that is drawn from particles, or None where there is none."""
    wanted = about(points).get("id")
    return next((item for item in viewer.layers if role(item) == kind and about(item).get("of") == wanted), None)


def add_unselected(viewer: ViewerModel, layer: Layer, *, otherwise: Layer, beneath: Layer | None = None) -> None:
    """Add a layer, beneath another where that is given; what is selected stays so; ``otherwise`` if nothing is."""
    chosen = set(viewer.layers.selection)
    viewer.layers.insert(len(viewer.layers) if beneath is None else viewer.layers.index(beneath), layer)
    viewer.layers.selection = chosen or {otherwise}


def holds_tomogram(layer: Layer) -> bool:
    """Whether the layer can serve as a tomogram: a grey volume of cubic voxels."""
    return isinstance(layer, Image) and role(layer) != MAP and not unfit_for_tomogram(layer)


def unfit_for_tomogram(image: Image) -> str:
    """Why an image cannot serve as a tomogram; empty where it can."""
    if image.rgb:
        return "is in colours"
    if image.ndim != 3:
        return f"has {image.ndim} axes"
    return "" if has_cubic_voxels(image) else "has voxels that are no cubes, or is rotated"


def holds_particles(layer: Layer) -> bool:
    """Whether the layer can serve as particles: points in a volume of cubic voxels."""
    return isinstance(layer, Points) and layer.ndim == 3 and has_cubic_voxels(layer) and role(layer) != FAILURES


GEOMETRY_EVENTS = ("scale", "translate", "rotate", "shear", "units")
"""Events of a layer whose place in the world changes."""

_CUBIC: weakref.WeakKeyDictionary[Layer, bool] = weakref.WeakKeyDictionary()
"""Layers whose voxels were examined since they changed: every act asks a hundred times, and napari takes 0.1 ms."""


def has_cubic_voxels(layer: Layer) -> bool:
    """Whether a layer's voxels are cubes, neither stretched nor mirrored nor rotated."""
    if layer not in _CUBIC:
        for name in GEOMETRY_EVENTS:
            getattr(layer.events, name).connect(_forget_voxels, position="first")
        _CUBIC[layer] = _voxels_are_cubic(layer)
    return _CUBIC[layer]


def _forget_voxels(event: Any) -> None:
    _CUBIC.pop(event.source, None)


def _voxels_are_cubic(layer: Layer) -> bool:
    sides = _voxel_sides(layer)
    upright = np.allclose(layer.rotate, np.eye(3)) and np.allclose(layer.shear, 0)
    return bool(upright and (sides > 0).all() and np.allclose(sides, sides[0], rtol=1e-3))


# --- tomograms ------------------------------------------------------------------------------------------------------


def tomogram_parts(tomogram: Tomogram) -> LayerParts:
    """An image layer of the tomogram's density as it is, memory-mapped or not; in 3D a slab that can be moved."""
    size = np.array(tomogram.density.shape)
    style = {
        "name": tomogram.name,
        "colormap": "gray",
        "contrast_limits": contrast_limits(tomogram.density),
        "projection_mode": "mean",
        "interpolation2d": "linear",
        "depiction": "plane",
        "plane": {"position": tuple((size - 1) / 2), "normal": (1, 0, 0), "thickness": max(1.0, size[0] / 12)},
        "rendering": "average",
        "metadata": {KEY: _said_of(tomogram)},
    }
    return tomogram.density, {**style, **world(tomogram.voxel_size)}, "image"


def _said_of(tomogram: Tomogram) -> dict[str, Any]:
    path = "" if tomogram.path is None else str(Path(tomogram.path).resolve())
    said = {"role": TOMOGRAM, "name": tomogram.name, "path": path}
    return said | {"voxel_size_source": tomogram.voxel_size_source}


def tomogram_of(layer: Image) -> Tomogram:
    """The tomogram that an image layer shows; its density is shared, not copied.

    Raises
    ------
    InputError
        If its voxels are not cubes, or the layer is moved from where its particles count from.
    """
    if not np.allclose(layer.translate, 0):
        moved = " × ".join(f"{part:g}" for part in flip(np.asarray(layer.translate)))
        raise InputError(
            f"layer {layer.name!r} is moved by {moved} Å; expected its first voxel at 0. Set its translate to 0."
        )
    density = layer.data[0] if layer.multiscale else layer.data
    return Tomogram(density, voxel_size(layer), tomogram_name(layer))


def own_tomogram(points: Layer) -> str:
    """Name of the tomogram that a layer's particles are of, as the layer says; empty where it does not."""
    return str(about(points).get("tomogram", ""))


def own_provenance(points: Layer) -> str:
    """What made a layer's poses, as its file's first line says; empty where unknown."""
    return str(about(points).get("provenance", ""))


def tomogram_name(layer: Image) -> str:
    """The name of the tomogram that an image layer shows: as its file was called, whatever the layer is called now."""
    return str(about(layer).get("name", layer.name))


def voxel_size(layer: Layer) -> float:
    """Å along each side of the layer's voxels.

    Raises
    ------
    InputError
        If they are not cubes.
    """
    sides = _voxel_sides(layer)
    if not np.allclose(sides, sides[0], rtol=1e-3):
        given = " × ".join(f"{side:g}" for side in flip(sides))
        raise InputError(f"layer {layer.name!r} has voxels of {given} Å; napari-orient needs cubes. Resample it first.")
    return float(sides[0])


def _voxel_sides(layer: Layer) -> FloatArray:
    sides: FloatArray = np.asarray(layer.scale, float) * np.array([_angstrom(unit) for unit in layer.units])
    return sides


@cache
def _angstrom(unit: Any) -> float:
    """Å in one of this unit; a pixel counts as 1 Å, as napari shows it."""
    return float((1 * unit).to("angstrom").magnitude) if unit.dimensionality == {"[length]": 1} else 1.0


def contrast_limits(density: Density, *, slices: int = 9, side: int = 256) -> tuple[float, float]:
    """Grey values of the 0.5th and 99.5th percent, from a sample of slices: a memory map is never read whole."""
    depth, height, width = density.shape
    # A slice of a volume that is read by chunks decodes all the chunks that it lies in.
    rows = evenly_spaced_rows(depth, (slices if getattr(density, "chunks", None) is None else _CHUNKED_SLICES) + 2)
    rows = rows[1:-1] if depth > 2 else rows
    steps = (slice(None, None, max(1, height // side)), slice(None, None, max(1, width // side)))
    sample = np.concatenate([np.asarray(density[row][steps], np.float32).ravel() for row in rows])
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, [0.5, 99.5]) if sample.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


BADGES = {"accepted": "star", "rejected": "cross"}
"""Shapes of points that a person has accepted or rejected; others are discs."""


def show_badges(points: Points) -> None:
    """Give accepted and rejected particles the shapes of `BADGES`, so that verdicts are read on the canvas."""
    status = texts(points.features[STATUS]).tolist() if STATUS in points.features.columns else list[str]()
    wanted = np.array([BADGES.get(word, "disc") for word in status] or ["disc"] * len(points.data))
    if len(wanted) and not np.array_equal(wanted, np.array([str(shape.value) for shape in points.symbol])):
        points.symbol = wanted


def paint(points: Points, ink: tuple[float, float, float], *, unseen: NDArray[np.int_] | None = None) -> None:
    """Colour the points, with a darker rim; picks flagged as no particle are pale, ``unseen`` rows transparent."""
    face = np.array([*ink, 1.0])
    faces = np.tile(face, (len(points.data), 1))
    rims = faces * [0.35, 0.35, 0.35, 1.0]
    aside = false_picks(picks_of(points))
    faces[aside], rims[aside] = SET_ASIDE, SET_ASIDE_RIM
    if unseen is not None:
        faces[unseen, 3] = rims[unseen, 3] = 0
    if len(faces) and not (np.allclose(points.face_color, faces) and np.allclose(points.border_color, rims, atol=1e-2)):
        points.face_color, points.border_color = faces, rims
    points.current_face_color = face


# --- particles ------------------------------------------------------------------------------------------------------


def particles_parts(
    particles: Particles,
    extent: Extent | None,
    *,
    role: str,
    name: str,
    provenance: str = "",
    shown: bool = True,
    path: Path | None = None,
    files: Iterable[Path] = (),
) -> LayerParts:
    """A points layer that holds the particles of one tomogram whole: the layer is the document.

    Features hold class, confidence, expected error, the rotation's nine entries and every foreign column; metadata hold
    the rest, the ``path`` of their own list, and all ``files`` that were read for them. What is unknown has no column.
    """
    style, grid = dict(_POINTS_STYLE[role]), LONE_GRID if extent is None else extent.voxel_size
    names = particles.tomogram_names
    said = {
        "role": role,
        "id": uuid4().hex,
        "tomogram": names[0] if names else "",
        "extent": extent,
        "extra": {column: values.dtype.kind for column, values in particles.extra.items()},
        "blocks": dict(particles.blocks),
        "provenance": provenance,
        "path": "" if path is None else str(path.resolve()),
        "stamp": file_stamp(path),
        "files": [str(file.resolve()) for file in files],
    }
    keywords = {
        "name": name,
        "size": style.pop("diameter") / grid,
        "features": features(particles),
        "projection_mode": "all",
        "visible": shown,
        "metadata": {KEY: said},
        **style,
        **world(grid),
    }
    return flip(particles.positions) / grid, keywords, "points"


def take_role(points: Points, role: str) -> None:
    """Give particles another role, and the size and rim of its points."""
    style = _POINTS_STYLE[role]
    about(points)["role"] = role
    points.size = style["diameter"] / voxel_size(points)
    points.border_width = style["border_width"]


def file_stamp(path: Path | None) -> tuple[int, int] | None:
    """Time of the last change of a file, in ns, and its bytes: other ones where it was written anew; None without."""
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def adopt(points: Points, tomogram: Tomogram) -> None:
    """Make a points layer hold picks of this tomogram, numbered from 1; its style stays."""
    said = points.metadata.setdefault(KEY, {})
    said |= {"role": PICKS, "tomogram": tomogram.name, "extent": tomogram.extent, "provenance": ""}
    said |= {"extra": {}, "blocks": {}}
    identity(points)
    points.features = points.features.assign(**{NUMBER: np.arange(1, len(points.data) + 1)})


def features(particles: Particles) -> pd.DataFrame:
    """The features of a points layer that holds these particles, numbered from 1."""
    import pandas as pd

    columns: dict[str, Any] = {NUMBER: np.arange(1, len(particles) + 1)}
    own = {CLASS: particles.kind, CONFIDENCE: particles.confidence, EXPECTED_ERROR: particles.expected_error_deg}
    columns |= {name: values for name, values in own.items() if values is not None}
    if particles.rotations is not None:
        columns |= dict(zip(ROTATION_COLUMNS, particles.rotations.reshape(-1, 9).T, strict=True))
    columns |= {_feature(name): values for name, values in particles.extra.items()}
    return pd.DataFrame(columns)


def _feature(column: str) -> str:
    """The feature that holds a foreign column: of the same name, unless that is one of ours."""
    if column in FEATURE_NAMES:
        return FEATURE_NAMES[column]
    return f"{column} (file)" if column in (*OWN_COLUMNS, STATUS, CORRECTED) else column


def positions_of(layer: Points, rows: Any = slice(None)) -> FloatArray:
    """Positions of the points of some rows (N, 3) xyz in Å: where the viewer shows them, moved layers too."""
    places: FloatArray = np.asarray(layer.data[rows], float) * voxel_size(layer) + np.asarray(layer.translate)
    return flip(places)


def data_of(layer: Points, positions: FloatArray) -> FloatArray:
    """What a points layer holds for positions (N, 3) xyz in Å: the reverse of `positions_of`."""
    places: FloatArray = (flip(positions) - np.asarray(layer.translate)) / voxel_size(layer)
    return places


def picks_of(layer: Points) -> Particles:
    """The particles of a layer without their poses: positions in Å, class and foreign columns.

    Any points layer will do; where it is not ours, class and tomogram are unknown.
    """
    said, table = about(layer), layer.features
    positions = positions_of(layer)
    foreign = {name: (_feature(name), kind) for name, kind in said.get("extra", {}).items()}
    extra = {name: _column(table[at], kind=kind) for name, (at, kind) in foreign.items() if at in table.columns}
    extra |= _added_columns(table, without={at for at, _ in foreign.values()})
    kind = _column(table[CLASS], kind="U") if said and CLASS in table.columns else None
    return Particles(
        positions=positions,
        tomogram=str(said.get("tomogram", "")),
        kind=kind,
        extra=extra,
        blocks=said.get("blocks", {}),
    )


def _added_columns(table: pd.DataFrame, *, without: set[str]) -> dict[str, NDArray[Any]]:
    """Features that a person or another program added to a layer, as columns; numbers stay numbers."""
    ours = {*OWN_COLUMNS, *FEATURE_NAMES.values(), *without}
    added = {str(name): table[name] for name in table.columns if str(name) not in ours}
    return {
        name: _column(values, kind="U" if values.dtype.kind not in "iuf" else values.dtype.kind)
        for name, values in added.items()
    }


def particles_of(layer: Points) -> Particles:
    """The particles that a layer holds, with their poses where it holds them.

    Raises
    ------
    InputError
        If some have an orientation and some have none.
    """
    picks, table = picks_of(layer), layer.features
    if not about(layer) or not set(ROTATION_COLUMNS) <= set(table.columns):
        return picks
    rotations, posed = rotations_in(layer), has_pose(layer)
    if not posed.any():
        return picks
    if not posed.all():
        raise InputError(
            f"{int((~posed).sum())} of {len(posed)} particles in layer {layer.name!r} have no orientation: "
            "they were added later. Predict again, or delete them."
        )
    names = [name for name in (CONFIDENCE, EXPECTED_ERROR) if name in table.columns]
    scores = {name: table[name].to_numpy(float, copy=True) for name in names}
    return picks.replace(rotations=rotations, **scores)


def classes(layer: Points) -> list[str]:
    """The classes of a layer's particles, the most frequent first; none where they are unknown."""
    kinds = picks_of(layer).kind
    return [] if kinds is None else [str(code) for code, _ in Counter(kinds.tolist()).most_common()]


def false_picks(particles: Particles) -> NDArray[np.bool_]:
    """Which picks a discovery flagged as no particle, (N,)."""
    import pandas as pd

    flags = particles.extra.get(OUTLIER)
    if flags is None:
        return np.zeros(len(particles), bool)
    return np.asarray(pd.to_numeric(pd.Series(flags), errors="coerce") == 1)


def rotations_in(layer: Points) -> FloatArray:
    """The rotations that the features hold, (N, 3, 3), NaN where unknown."""
    table = layer.features
    if not set(ROTATION_COLUMNS) <= set(table.columns):
        return np.full((len(table), 3, 3), np.nan)
    matrices: FloatArray = table[list(ROTATION_COLUMNS)].to_numpy(float).reshape(-1, 3, 3)
    return matrices


def has_pose(layer: Points) -> NDArray[np.bool_]:
    """Which particles of a layer have an orientation of their own, (N,); a matrix edited into no rotation is none."""
    return are_proper(rotations_in(layer)) & ~added_later(layer)


def added_later(layer: Points) -> NDArray[np.bool_]:
    """Which points were added in the viewer, (N,): napari gives a new point the features of another, its number too."""
    table = layer.features
    if NUMBER not in table.columns:
        return np.ones(len(table), bool)
    numbers = table[NUMBER]
    return np.asarray(numbers.duplicated() | numbers.isna(), bool)


def _column(values: pd.Series, *, kind: str) -> NDArray[Any]:
    """The column as it was read: text stays text, which pandas would otherwise show as an object or as NaN.

    It is a copy, for the layer's own table is written in place.
    """
    if kind == "U":
        return texts(values)
    if not isinstance(values.dtype, np.dtype):
        return values.to_numpy(float, na_value=np.nan)  # pandas' own numbers, of which some can be missing.
    return values.to_numpy(object if kind == "O" else None, copy=True)


def texts(values: pd.Series) -> NDArray[Any]:
    """A column as texts of one line, empty where it has no value: of categories, dates and lists too."""
    filled = values.astype(object).where(values.notna(), "")
    return np.array([value if isinstance(value, str) else " ".join(str(value).split()) for value in filled], str)


def extent_of(layer: Layer) -> Extent | None:
    """The extent of the tomogram that a layer shows or whose particles it holds, or None if it does not say."""
    if isinstance(layer, Image):
        return tomogram_of(layer).extent
    extent = about(layer).get("extent")
    return extent if isinstance(extent, Extent) else None


def replace_particles(layer: Points, particles: Particles, *, provenance: str) -> None:
    """Replace the layer's particles, at the same place in the layer list and in the same style."""
    said = about(layer)
    layer.data = data_of(layer, particles.positions)
    layer.features = features(particles)
    said["extra"] = {column: values.dtype.kind for column, values in particles.extra.items()}
    said["blocks"], said["provenance"] = dict(particles.blocks), provenance
    said.pop(FIRST, None)

"""Tomogram and Particles: a volume of density, and the positions and rotations of the macromolecules in it.

Space is xyz in Å; position (0, 0, 0) is the centre of voxel [0, 0, 0]; arrays of density are indexed [z, y, x].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import copy as shallow_copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.rotations import are_proper, matrix_to_zyz

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.floating[Any]]
TextArray = NDArray[np.str_]

CLASS_NUMBER = "rlnClassNumber"
"""RELION's column of classes, by number."""

HALF_SET = "rlnRandomSubset"
"""RELION's column of the half-set, 1 or 2, that a particle belongs to."""

_BLOCK_ROWS = 16_384
"""Particles whose columns are looked through together: memory, not the result; chosen."""


class LazyDensity(Protocol):
    """A volume (Z, Y, X) whose voxels are read from a file when they are asked for, by integers and slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""

    def __getitem__(self, key: Any) -> Any:
        """The voxels asked for, as an array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole volume, read."""


Density = NDArray[Any] | LazyDensity
"""Density of a tomogram, (Z, Y, X): in memory, or read by parts."""


@dataclass(frozen=True)
class Extent:
    """Size of a tomogram: voxels along x, y, z, and the voxel size in Å."""

    size: tuple[int, int, int]
    voxel_size: float

    @property
    def centre(self) -> FloatArray:
        """Centre of the tomogram, (3,) xyz in Å: ``size / 2`` voxels from the centre of voxel 0."""
        return np.asarray(self.size, float) / 2 * self.voxel_size


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A volume of density with the size of its voxels.

    Parameters
    ----------
    density : (Z, Y, X) array, in memory or read by parts; never written to.
    voxel_size : Å; cubic voxels.
    name : the tomogram's name, as RELION's ``rlnTomoName``.
    voxel_size_source : where the voxel size is from, such as ``MRC header``; empty where nobody said.
    notes : what a person should know of how the file was read, a sentence each.
    path : of its file; None where it is in memory alone.

    Raises
    ------
    InputError
        If the density is not a volume of real numbers, or the voxel size is not one positive number.
    """

    density: Density
    voxel_size: float
    name: str
    voxel_size_source: str = ""
    notes: tuple[str, ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        """Check density and voxel size."""
        object.__setattr__(self, "density", _checked_density(self.density, self.name))
        object.__setattr__(self, "voxel_size", _checked_voxel_size(self.voxel_size, self.name))
        object.__setattr__(self, "name", str(self.name))

    def __repr__(self) -> str:
        size = " × ".join(str(count) for count in self.extent.size)
        return f"Tomogram({self.name}: {size} voxels of {self.voxel_size:g} Å)"

    @property
    def extent(self) -> Extent:
        """Size in voxels (x, y, z) and voxel size."""
        z, y, x = self.density.shape
        return Extent((x, y, z), self.voxel_size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Particles:
    """Particles in one or more tomograms: positions, and rotations with their uncertainty where these are known.

    ``particles[3]``, ``particles[10:20]`` and ``particles[particles.confidence > 0.9]`` are Particles too. Columns are
    never written to: what `replace` does not change is shared by both.

    Parameters
    ----------
    positions : (N, 3) xyz in Å, from the centre of voxel [0, 0, 0] of the particle's tomogram.
    rotations : (N, 3, 3) active, reference frame -> tomogram frame, acting on xyz columns, or SciPy's Rotation of them;
        None = unknown.
    confidence : (N,) probability, 0 to 1, that the rotation is within 20° of the truth; None = unknown.
    expected_error_deg : (N,) expected root-mean-square error of the rotation in degrees; None = unknown.
    tomogram : (N,) names of the tomograms, or one name for all.
    kind : (N,) codes of the macromolecules (such as ``pdb_4v4r``); None = unknown.
    list_row : (N,) row of each particle in the list that it was read from, from 0; None = unknown.
    extents : sizes of their tomograms by name, as far as a reader or a task was given them; written files need them
        where coordinates count from a tomogram's centre.
    extra : columns of other programs by name, (N,) each, as they were read; carried through unchanged, in order.
    blocks : tables of other programs that belong to the list (RELION's optics), by block and column name.
    notes : what a person should know of how the list was read or changed, a sentence each.

    Raises
    ------
    InputError
        If lengths differ, a position is not finite, or a rotation is not a proper rotation.
    """

    positions: FloatArray
    rotations: FloatArray | None = None
    confidence: FloatArray | None = None
    expected_error_deg: FloatArray | None = None
    tomogram: TextArray | str = ""
    kind: TextArray | None = None
    list_row: NDArray[np.int_] | None = None
    extents: Mapping[str, Extent] = field(default_factory=dict)
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Copy every column to an array of its own, and check it."""
        self._settle([item.name for item in fields(self)], copy=True)

    def _settle(self, names: Container[str], *, copy: bool) -> None:
        """Check the columns of these names and take them as arrays, copied or not; check the length of all."""
        if "positions" in names:
            object.__setattr__(self, "positions", _checked_positions(self.positions, copy=copy))
        count = len(self.positions)
        for name, checked in _CHECKED.items():
            column = getattr(self, name)
            if column is not None:
                found = checked(column, count, copy=copy) if name in names else column
                object.__setattr__(self, name, _column(name, found, count))
        extra = {name: _column(name, np.asarray(column), count) for name, column in self.extra.items()}
        object.__setattr__(self, "extra", extra)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: int | np.integer[Any] | NDArray[Any] | Sequence[int] | slice) -> Self:
        """Particles of these rows: an index, a slice, a mask or indices."""
        return self.take([int(rows)] if isinstance(rows, (int, np.integer)) else rows)

    def __repr__(self) -> str:
        count = len(self.tomogram_names)
        parts = [f"{len(self)} in {count} tomogram{'' if count == 1 else 's'}"]
        parts.append("positions only" if self.rotations is None else "rotations given")
        if self.kind is not None:
            parts.append(f"classes {shortened(self.kinds)}")
        return f"Particles({'; '.join(parts)})"

    def to_dataframe(self) -> pd.DataFrame:
        """Table with a row for each particle: tomogram, class, position in Å, angles in degrees, and extra columns.

        ``rot_deg``, ``tilt_deg`` and ``psi_deg`` are RELION's angles. Unknown values have no column.
        """
        import pandas as pd

        columns: dict[str, NDArray[Any]] = {"tomogram": np.asarray(self.tomogram)}
        if self.kind is not None:
            columns["class"] = self.kind
        columns |= dict(zip(("x_angst", "y_angst", "z_angst"), self.positions.T, strict=True))
        if self.rotations is not None:
            columns |= dict(zip(("rot_deg", "tilt_deg", "psi_deg"), matrix_to_zyz(self.rotations).T, strict=True))
        scores = {"confidence": self.confidence, "expected_error_deg": self.expected_error_deg}
        columns |= {name: column for name, column in scores.items() if column is not None}
        return pd.DataFrame({**columns, **self.extra})

    def located_in(self, tomogram: Tomogram) -> Self:
        """The same particles with the size of the tomogram that they lie in, whatever the name they have for it."""
        names = [*(name or tomogram.name for name in self.tomogram_names), tomogram.name]
        return self.replace(extents={**self.extents, **dict.fromkeys(names, tomogram.extent)})

    def replace(self, **changes: Any) -> Self:
        """The same particles with some columns changed; the others are the same arrays, and are not checked again."""
        return self._changed(changes, checked=changes, copy=True)

    def adopting(self, **changes: Any) -> Self:
        """As `replace`, but new arrays become the particles' own instead of copies: nobody else may write to them."""
        return self._changed(changes, checked=changes, copy=False)

    def _changed(self, changes: Mapping[str, Any], *, checked: Container[str], copy: bool) -> Self:
        strange = changes.keys() - {item.name for item in fields(self)}
        if strange:
            raise TypeError(f"particles have no {shortened(sorted(strange))}")
        other = shallow_copy(self)
        for name, value in changes.items():
            object.__setattr__(other, name, value)
        other._settle(checked, copy=copy)
        return other

    def take(self, rows: NDArray[Any] | Sequence[int] | slice) -> Self:
        """Particles of these rows: a mask, indices or a slice."""
        if isinstance(rows, slice):
            # Arrays of their own: a view would hold all the others in memory.
            rows = np.arange(len(self))[rows]
        # NumPy makes an empty list an array of floats, which is no index.
        rows = np.asarray(rows) if len(rows) else np.zeros(0, int)
        if rows.dtype == bool and len(rows) == len(self) and rows.all():
            return self
        positions = self.positions[rows]
        columns = {name: _taken(getattr(self, name), rows, len(positions)) for name in _CHECKED}
        extra = {name: column[rows] for name, column in self.extra.items()}
        return self._changed({"positions": positions, **columns, "extra": extra}, checked=("positions",), copy=False)

    def with_poses(self, rows: NDArray[Any], posed: Particles) -> Self:
        """Particles of which some rows, a mask or indices, have the positions and rotations of others."""
        positions, rotations = self.positions.copy(), self.required_rotations().copy()
        positions[rows], rotations[rows] = posed.positions, posed.required_rotations()
        return self.replace(positions=positions, rotations=rotations)

    def of_kind(self, code: str) -> Self:
        """Particles of one macromolecule; ``4v4r`` finds ``pdb_4v4r`` too, whatever the case.

        Where no class is named so, RELION's class number serves (``rlnClassNumber``).

        Raises
        ------
        InputError
            If no class is given for any particle, or none is of this one.
        """
        rows = self.rows_of_kind(code)
        if rows.any():
            return self.take(rows)
        numbers = dict.fromkeys(map(str, self.extra.get(CLASS_NUMBER, ())))
        if self.kind is None and not numbers:
            raise InputError(f"class {code!r} was asked for, but these particles carry no class. Leave the class out.")
        there = sorted({*self.kinds, *numbers})
        raise InputError(f"no particle is of class {code!r}; there are {', '.join(there) or 'none'}.")

    def rows_of_kind(self, code: str) -> NDArray[np.bool_]:
        """Mask of the particles of one macromolecule, (N,); ``4v4r`` finds ``pdb_4v4r`` too, whatever the case."""
        named = np.zeros(len(self), bool)
        if self.kind is not None:
            kinds, wanted = np.char.lower(self.kind), code.lower()
            named = np.asarray((kinds == wanted) | np.char.endswith(kinds, f"_{wanted}"), bool)
        numbers = self.extra.get(CLASS_NUMBER)
        if named.any() or numbers is None:
            return named
        return np.array([_same_number(str(number), code) for number in numbers], bool)

    def of_tomogram(self, name: str) -> Self:
        """Particles of one tomogram, by its exact name; perhaps none."""
        return self.take(np.asarray(self.tomogram) == name)

    @property
    def tomogram_names(self) -> list[str]:
        """Names of the tomograms that these particles lie in, in order of appearance."""
        column, found = np.asarray(self.tomogram), dict[str, None]()
        for first in range(0, len(column), _BLOCK_ROWS):
            found |= dict.fromkeys(column[first : first + _BLOCK_ROWS].tolist())
        return list(found)

    @property
    def kinds(self) -> list[str]:
        """Codes of the macromolecules among these particles, in order of appearance; none where unknown."""
        return [] if self.kind is None else list(dict.fromkeys(self.kind.tolist()))

    def required_rotations(self) -> FloatArray:
        """Rotations, (N, 3, 3).

        Raises
        ------
        InputError
            If there are none.
        """
        if self.rotations is None:
            raise InputError("these particles have no orientations; expected a list with angles. Predict them first.")
        return self.rotations


def concatenate(parts: Sequence[Particles]) -> Particles:
    """Particles of all parts, in order; a column that one part lacks is unknown for all."""

    def joined(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    if not parts:
        return Particles(positions=np.zeros((0, 3)))
    shared = [name for name in parts[0].extra if all(name in part.extra for part in parts)]
    return parts[0].adopting(
        positions=joined("positions"),
        **{name: joined(name) for name in _CHECKED},
        extents={name: extent for part in parts for name, extent in part.extents.items()},
        extra={name: np.concatenate([part.extra[name] for part in parts]) for name in shared},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def in_list_order(particles: Particles) -> Particles:
    """The particles in the order of the list that they were read from; as they are where that is unknown.

    Particles of several tomograms are worked on tomogram by tomogram, whatever the order of their list.
    """
    rows = particles.list_row
    if rows is None or len(np.unique(rows)) < len(rows):
        return particles
    return particles.take(np.argsort(rows))


Labelled = Sequence[tuple[Tomogram, Particles]]
"""Tomograms, each with its own particles."""


def split_like(labelled: Labelled, rows: NDArray[Any]) -> list[NDArray[Any]]:
    """One array (N, ...) over all the particles of several tomograms, in order, as one array for each tomogram."""
    counts = [len(particles) for _, particles in labelled]
    if len(rows) != sum(counts):
        raise ValueError(f"{len(rows)} rows do not belong to {sum(counts)} particles")
    return np.split(rows, np.cumsum(counts)[:-1])


def evenly_spaced_rows(count: int, most: int) -> NDArray[np.int_]:
    """Rows of a list of ``count``, at most ``most`` of them, evenly spaced from the first to the last, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def holding_kind(pairs: Labelled, kind: str) -> list[tuple[Tomogram, Particles]]:
    """Tomograms that hold particles of one macromolecule, each with these alone; perhaps none."""
    chosen = ((tomogram, particles.take(particles.rows_of_kind(kind))) for tomogram, particles in pairs)
    return [pair for pair in chosen if len(pair[1])]


def labelled_of_kind(pairs: Labelled, kind: str) -> list[tuple[Tomogram, Particles]]:
    """Tomograms that hold particles of one macromolecule, each with these alone.

    Raises
    ------
    InputError
        If none holds any.
    """
    chosen = holding_kind(pairs, kind)
    if pairs and not chosen:
        concatenate([particles for _, particles in pairs]).of_kind(kind)
    return chosen


def classes_in(parts: Iterable[Particles]) -> dict[str, int]:
    """Number of particles of each class, in the order of the classes; none where no class is stated."""
    counts = Counter(str(kind) for part in parts if part.kind is not None for kind in part.kind)
    return dict(sorted(counts.items()))


def classes_notes(parts: Iterable[Particles], learnt: Sequence[str] = ()) -> list[str]:
    """A sentence where one model or map is for particles of other classes than it is of, or of several; else none.

    Parameters
    ----------
    learnt : the classes that it is of; empty where that is unknown.
    """
    classes = classes_in(parts)
    foreign = [kind for kind in classes if kind not in learnt] if learnt else []
    if foreign:
        return [
            f"The model is of {', '.join(learnt)}; the list has {', '.join(foreign)}. Poses of other particles mean "
            "nothing (see --class)."
        ]
    if not learnt and len(classes) > 1:
        counts = shortened([f"{count} of {kind}" for kind, count in classes.items()])
        return [f"These particles are of {len(classes)} classes, taken for one: {counts}. Choose a class (--class)."]
    return []


def names_column(names: Sequence[str]) -> TextArray:
    """Names (N,) as a column of particles; one name for all takes the memory of one."""
    first = names[0] if names else ""
    return np.broadcast_to(np.array(first), len(names)) if set(names) <= {first} else np.array(names, str)


def shortened(names: Sequence[str], *, most: int = 5) -> str:
    """The names with commas between them; of many, the first ones and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_inside(particles: Particles, extent: Extent, *, name: str) -> None:
    """Check that every particle lies in the tomogram.

    Raises
    ------
    InputError
        If some lie outside: how many and, where half of them or more do, the binning with which all would lie inside.
    """
    outside = lies_outside(particles.positions, extent)
    if not outside.any():
        return
    size = " × ".join(str(n) for n in extent.size)
    line = (
        f"{int(outside.sum())} of {len(particles)} particles lie outside {name} "
        f"({size} voxels of {extent.voxel_size:g} Å)."
    )
    # A few picks beyond the border say nothing of the voxel size; a list in other units has most of its there.
    most = outside.mean() >= 0.5
    advice = _advice(particles.positions, extent) if most else "Leave them out, or check the tomogram's voxel size."
    raise InputError(f"{line} {advice}")


def lies_outside(positions: FloatArray, extent: Extent) -> NDArray[np.bool_]:
    """Which positions (N, 3), xyz in Å, lie outside the tomogram's voxels, (N,)."""
    voxels = positions / extent.voxel_size
    beyond = (voxels < -0.5) | (voxels > np.asarray(extent.size) - 0.5)
    return np.asarray(beyond.any(axis=1), np.bool_)


def _advice(positions: FloatArray, extent: Extent) -> str:
    for binning in (2, 3, 4, 5, 6, 8, 10, 12, 16):
        if not lies_outside(positions / binning, extent).any():
            return (
                f"All would lie inside if the list counted in pixels of {extent.voxel_size / binning:g} Å (not binned: "
                f"give that pixel size), or if the tomogram's voxels were {extent.voxel_size * binning:g} Å (binned by "
                f"{binning}: give that voxel size)."
            )
    return "Check that the list belongs to this tomogram, and its voxel size."


def _same_number(text: str, other: str) -> bool:
    """Whether two texts are the same number, or the same text."""
    try:
        return float(text) == float(other)
    except ValueError:
        return text == other


def _column(name: str, column: NDArray[Any], count: int) -> NDArray[Any]:
    if column.shape[:1] != (count,):
        raise InputError(f"{name} has {len(np.atleast_1d(column))} rows; expected {count}, one for each position.")
    return column


def _check_finite(rows: FloatArray, what: str) -> None:
    bad = ~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{int(bad.sum())} of {len(rows)} {what}s are not finite numbers (first: row {first + 1}). Remove them."
        )


def _checked_density(density: Any, name: str) -> Density:
    """The density as it is given, or as an array.

    Raises
    ------
    InputError
        If it is no volume of real numbers.
    """
    if not isinstance(getattr(density, "dtype", None), np.dtype):
        density = np.asarray(density)
    shape = tuple(density.shape)
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"{name} has shape {shape}; expected a volume of three axes (z, y, x).")
    if density.dtype.kind not in "biuf":
        raise InputError(f"{name} holds values of type {density.dtype}; expected real numbers.")
    found: Density = density
    return found


def _checked_voxel_size(given: Any, name: str) -> float:
    try:
        size = np.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError):
        size = np.nan
    if not (np.isfinite(size) and size > 0):
        raise InputError(f"{name} has voxels of {given} Å; expected one positive number. Give it yourself.")
    return size


def _checked_positions(given: Any, *, copy: bool) -> FloatArray:
    """Positions (N, 3) as an array, copied or not; of one particle also where they are given as three numbers.

    Raises
    ------
    InputError
        If they are of another shape, no numbers, not finite, or columns of a table that are not x, y and z.
    """
    columns = [str(name) for name in getattr(given, "columns", ())]
    if columns and [name[:1].lower() for name in columns] != ["x", "y", "z"]:
        raise InputError(f"positions are the columns {shortened(columns)}; expected x, y, z in Å, in this order.")
    try:
        positions = _numbers(given, copy=copy)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"positions are given as {type(given).__name__} and are no numbers; expected an array (N, 3), xyz in Å."
        ) from error
    if positions.size == 0:
        return np.zeros((0, 3))
    if positions.shape == (3,):
        positions = positions[None]
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(f"positions have shape {positions.shape}; expected (N, 3), xyz in Å.")
    _check_finite(positions, "position")
    return positions


def _checked_rotations(given: Any, count: int, *, copy: bool) -> FloatArray:
    try:
        matrices = _numbers(given.as_matrix() if hasattr(given, "as_matrix") else given, copy=copy)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"rotations are given as {type(given).__name__} and are no numbers; expected an array (N, 3, 3)."
        ) from error
    if matrices.shape != (count, 3, 3):
        raise InputError(f"rotations have shape {matrices.shape}; expected ({count}, 3, 3), one for each position.")
    _check_finite(matrices, "rotation")
    proper = np.ones(count, bool)
    for first in range(0, count, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        proper[block] = are_proper(matrices[block])
    if not proper.all():
        row = int(np.flatnonzero(~proper)[0]) + 1
        raise InputError(f"{int((~proper).sum())} of {count} rotations are not proper rotations (first: row {row}).")
    return matrices


def _numbers(given: Any, *, copy: bool) -> FloatArray:
    """Numbers as an array, which is another one than that given, or, not copied, the same if it has the type."""
    return np.array(given, float) if copy else np.asarray(given, float)


def _texts(given: Any, count: int, *, copy: bool) -> TextArray:
    """Texts as an array (count,); one text for all takes the memory of one."""
    texts: TextArray = np.array(given, str) if copy or isinstance(given, str) else np.asarray(given, str)
    if texts.ndim == 0:
        return np.broadcast_to(texts, count)
    return _repeated(texts) if texts.ndim == 1 and len(texts) > 1 and bool((texts == texts[0]).all()) else texts


def _repeated(texts: TextArray) -> TextArray:
    return np.broadcast_to(texts[0], len(texts))


def _taken(column: NDArray[Any] | None, rows: NDArray[Any], count: int) -> NDArray[Any] | None:
    """Rows of a column, of which there are so many; None where there is no column."""
    if column is None:
        return None
    # Where all have one text, an index would write it out.
    return np.broadcast_to(column[0], count) if count and column.strides == (0,) else column[rows]


_CHECKED: Mapping[str, Callable[..., NDArray[Any]]] = {
    "rotations": _checked_rotations,
    "confidence": lambda given, _, *, copy: _numbers(given, copy=copy),
    "expected_error_deg": lambda given, _, *, copy: _numbers(given, copy=copy),
    "tomogram": _texts,
    "kind": _texts,
    "list_row": lambda given, _, *, copy: np.array(given, int) if copy else np.asarray(given, int),
}
"""Columns (N, ...) beside positions and extra ones: what makes an array of each as it is given, for N particles."""

"""Sizes and names of tomograms, as lists of particles need them.

Sizes of tomograms and pixels are given by the caller, or found in RELION's tables of tomograms, sets and optics. Names
are compared without the prefixes and suffixes that programs add to the name of a tilt series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import GROUP, Table, numbers, read_star, single
from napari_orient.engine.particles import Extent, FloatArray, Tomogram, shortened

GLOBAL = "global"
TOMOGRAM = "rlnTomoName"
PIXEL = "rlnTomoTiltSeriesPixelSize"
_PIXELS = (PIXEL, "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
"""Columns of particles or of optics that state the pixel size which coordinates count in."""
BINNED_BY = "rlnTomoSubtomogramBinning"
BINNING = "rlnTomoTomogramBinning"
SIZE = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
RECONSTRUCTIONS = (
    "rlnTomoReconstructedTomogram",
    "rlnTomoReconstructedTomogramDenoised",
    "rlnTomoReconstructedTomogramHalf1",
)

_LONGEST = 1e6
"""Voxels along a tomogram beyond which a number is no size: a hundred times the largest detector."""


class ExtentsOf(Protocol):
    """Gives the extents in a table of tomograms."""

    def __call__(self, table: Mapping[str, Sequence[str]], *, where: str) -> dict[str, Extent]:
        """Extents by tomogram."""


@dataclass(frozen=True, kw_only=True)
class ListMetadata:
    """Facts about a list of particles that its file may lack.

    Parameters
    ----------
    extents : sizes of tomograms by name, for coordinates that count from a tomogram's centre or in its voxels.
    pixel_size : Å, of coordinates in pixels or voxels; when reading, it overrides the file's.
    tomogram : when reading, keep the particles of this tomogram alone; its name may differ by the prefixes and suffixes
        of `same_tomogram`. A list without names is taken to be of it.
    tomograms : RELION's ``tomograms.star``.
    centre : ``"size/2"`` (RELION's C++) or ``"size/2 - 1"`` (some of RELION's Python tools): the voxel that centred
        coordinates count from.
    first_voxel : number of the first voxel in coordinates that count in voxels; None for the dialect's own rule.
    """

    extents: Mapping[str, Extent] = field(default_factory=dict)
    pixel_size: float | None = None
    tomogram: str | None = None
    tomograms: Path | str | None = None
    centre: str = "size/2"
    first_voxel: int | None = None

    def __post_init__(self) -> None:
        """Check the pixel size."""
        if self.pixel_size is not None:
            check_size(self.pixel_size, "a pixel size (--pixel-size)")

    def of(self, tomogram: Tomogram) -> ListMetadata:
        """The same of the particles of one opened tomogram alone."""
        return replace(self, tomogram=tomogram.name, extents={**self.extents, tomogram.name: tomogram.extent})


def check_size(size: float, what: str) -> None:
    """Check that a size in Å is a positive number.

    Raises
    ------
    InputError
        If it is not.
    """
    if not (np.isfinite(size) and size > 0):
        raise InputError(f"{what} of {size:g} Å is given; expected a positive number.")


def given_source(given: float, own: FloatArray | None) -> str:
    """Where a pixel size in Å that was given is from, and what the list itself says (N,) where that is another."""
    if own is None or not len(own) or np.allclose(own, given, rtol=_CALIBRATED_ANEW):
        return "as given"
    return f"as given; the list says {different_sizes(own)}"


def different_sizes(sizes: Iterable[float]) -> str:
    """The sizes in Å that differ, the smallest first, as text; of many, the first ones."""
    return shortened(sorted({f"{size:g}" for size in sizes}, key=float))


_CALIBRATED_ANEW = 1e-3
"""Relative difference of two sizes of the same pixels up to which they are one, in another rounding. Chosen."""

_NAME_COLUMNS = (
    *("tomogram", "rlntomoname", "rlnmicrographname", "tomogramname", "tomoname", "tomogramid", "tomoid", "tomo"),
    *("tomogramfile", "experiment", "experimentname", "runname", "runid", "run", "tiltseries", "tiltseriesname"),
    *("tiltseriesid", "tsname", "tsid", "ts", "wrpsourcename", "micrograph", "micrographname"),
)
"""Names under which programs and people write a particle's tomogram, in small letters and digits alone, those that mean
nothing else first."""


def tomogram_names(table: Mapping[str, Sequence[str]]) -> list[str]:
    """Tomogram of each row of a table, whatever the column is called; empty where no column says it.

    A file's path or name stands for the name without folder and suffix, where that keeps the tomograms apart.
    """
    columns = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(list(table))}
    found = next((columns[name] for name in _NAME_COLUMNS if name in columns), None)
    if found is None:
        return [""] * len(next(iter(table.values()), ()))
    if found.lower() in (_NAME_COLUMNS[0], TOMOGRAM.lower()):
        return list(table[found])
    short = {text: plain_name(text) for text in set(table[found])}
    apart = len(set(short.values())) == len(short)
    return [short[text] if apart else text for text in table[found]]


_MOST_NAMES = 10_000
"""Different texts of a column above which they are no names of tomograms. Chosen: data sets have hundreds."""


def column_of_tomogram(table: Mapping[str, Sequence[str]], tomogram: str) -> str | None:
    """The column whose texts name this tomogram and others, where none is called as such; None where there is none."""
    for name, texts in table.items():
        different: set[str] = set()
        for text in texts:
            different.add(plain_name(text))
            if len(different) > _MOST_NAMES:
                break
        else:
            # Numbers count particles, classes and much else: a name has a letter.
            words = [text for text in different if any(map(str.isalpha, text))]
            if len(different) > 1 and any(same_tomogram(tomogram, word) for word in words):
                return name
    return None


def column_note(column: str, tomogram: str) -> str:
    """A sentence on the column that `column_of_tomogram` found."""
    return f"Column {column} has the name of {tomogram}: particles with another there are left out."


def read_tomograms(path: Path | str) -> Table:
    """Table of tomograms (``data_global``) of a ``tomograms.star``.

    Raises
    ------
    InputError
        If the file has no such table.
    """
    blocks = read_star(path)
    table = blocks.get(GLOBAL, next(iter(blocks.values())))
    if TOMOGRAM not in table:
        raise InputError(f"{path} has no column {TOMOGRAM}; expected RELION's tomograms.star.")
    return table


def tables_beside(path: Path) -> dict[Path, Table]:
    """Tables of tomograms (``*tomograms.star``) in the folder of a file, in order of their names.

    Those that cannot be read, or are no tables of tomograms, have nothing to do with the file and are passed over.
    """
    tables: dict[Path, Table] = {}
    # macOS leaves a hidden file of the same ending beside a file on other disks.
    for item in (item for item in sorted(path.parent.glob("*tomograms.star")) if not item.name.startswith(".")):
        try:
            if item.resolve() != path.resolve():
                tables[item] = read_tomograms(item)
        except (InputError, OSError, RuntimeError):
            continue
    return tables


def extents_beside(path: Path, names: Iterable[str], *, extents: ExtentsOf | None = None) -> dict[str, Extent]:
    """Extent of each name in the tables of tomograms beside a file; names that none has are left out.

    Parameters
    ----------
    extents : `table_extents`, which is the default, or `binned_extents`.

    Raises
    ------
    InputError
        If two tables disagree on a tomogram: which, and their sizes.
    """
    found: dict[str, tuple[Path, Extent]] = {}
    for file, table in tables_beside(path).items():
        try:
            sizes = (extents or table_extents)(table, where=str(file))
        except InputError:
            continue
        for name, extent in find_extents(names, [sizes]).items():
            other, size = found.setdefault(name, (file, extent))
            if size.size != extent.size or not np.isclose(size.voxel_size, extent.voxel_size, rtol=1e-3):
                raise InputError(
                    f"{path}: {other.name} and {file.name} beside it disagree on tomogram {name} "
                    f"({_shown(size)}; {_shown(extent)}). Say which holds (--tomograms-star)."
                )
    return {name: extent for name, (_, extent) in found.items()}


def _shown(extent: Extent) -> str:
    return f"{' × '.join(str(count) for count in extent.size)} voxels of {extent.voxel_size:g} Å"


def table_extents(table: Mapping[str, Sequence[str]], *, where: str) -> dict[str, Extent]:
    """Sizes in unbinned voxels and unbinned voxel size by tomogram; empty where the table lacks a column.

    Raises
    ------
    InputError
        If a value is no number, or no size.
    """
    if not {TOMOGRAM, PIXEL, *SIZE} <= set(table):
        return {}
    rows = numbers(table, (*SIZE, PIXEL), where=where)
    wrong = np.flatnonzero((rows <= 0).any(axis=1) | (rows[:, :3] > _LONGEST).any(axis=1))
    if len(wrong):
        sizes = ", ".join(table[column][wrong[0]] for column in (*SIZE, PIXEL))
        raise InputError(
            f"{where}: tomogram {table[TOMOGRAM][wrong[0]]} has the size and pixel size {sizes}; expected positive "
            "numbers of voxels. Mend the table."
        )
    return {
        name: Extent((int(x), int(y), int(z)), float(pixel))
        for name, (x, y, z, pixel) in zip(table[TOMOGRAM], rows, strict=True)
    }


def binned_extents(table: Mapping[str, Sequence[str]], *, where: str) -> dict[str, Extent]:
    """Sizes in voxels of the reconstructions and their voxel size by tomogram; empty where a binning is not stated."""
    if BINNING not in table:
        return {}
    binning = dict(zip(table[TOMOGRAM], single(table, BINNING, where=where), strict=True))
    return {
        name: Extent(
            (round(extent.size[0] / factor), round(extent.size[1] / factor), round(extent.size[2] / factor)),
            extent.voxel_size * factor,
        )
        for name, extent in table_extents(table, where=where).items()
        if (factor := float(binning[name])) > 0
    }


def fit_only_in_angstrom(coordinates: FloatArray, extents: Sequence[Extent]) -> bool:
    """Whether coordinates (N, 3) without a unit fit into their tomograms in Å and not in voxels, most of them.

    Of positions in Å at least half lie beyond the voxels' numbers; of those in voxels a few at most lie outside.
    """
    sizes = np.array([extent.size for extent in extents], float)
    edges = np.array([extent.voxel_size for extent in extents])[:, None]
    beyond_voxels = (coordinates > sizes).any(axis=1).mean()
    beyond_angstrom = (coordinates > sizes * edges).any(axis=1).mean()
    return bool(beyond_voxels >= 0.5 > beyond_angstrom)


def extents_table(extents: Mapping[str, Extent]) -> Table:
    """Table (``data_global``) of these sizes, under RELION's names."""
    rows = [
        (name, f"{extent.voxel_size:.9g}", *(str(count) for count in extent.size)) for name, extent in extents.items()
    ]
    return dict(zip((TOMOGRAM, PIXEL, *SIZE), zip(*rows, strict=True), strict=True))


def find_extents(names: Iterable[str], sources: Iterable[Mapping[str, Extent]]) -> dict[str, Extent]:
    """Extent of each name, from the first source that has it; names that none has are left out.

    An empty name stands for the only tomogram of a source.
    """
    sources = list(sources)
    found: dict[str, Extent] = {}
    for name in dict.fromkeys(names):
        for source in sources:
            key = next(iter(source)) if not name and len(source) == 1 else match_tomogram(name, source)
            if key is not None:
                found[name] = source[key]
                break
    return found


def pixel_sizes(
    table: Mapping[str, Sequence[str]],
    blocks: Mapping[str, Mapping[str, Sequence[str]]],
    extents: Mapping[str, Extent],
    *,
    names: Sequence[str],
    where: str,
) -> FloatArray | None:
    """Unbinned pixel size in Å of each particle, (N,); None where the file has none.

    Taken from, in this order: RELION 4 and 5, and 3.1 (the particle's column, its optics group),
    RELION 3.0 (detector pixel and magnification), pytom-match-pick (``rlnDetectorPixelSize`` alone), Warp
    (``rlnPixelSize``), the sizes of the tomograms. WarpTools counts in pixels of the exported images.

    Raises
    ------
    InputError
        If a size is no positive number, or an optics group is missing.
    """
    sizes = _stated_pixel_sizes(table, blocks, extents, names=names, where=where)
    if sizes is not None and not (np.isfinite(sizes) & (sizes > 0)).all():
        wrong = sizes[~(np.isfinite(sizes) & (sizes > 0))][0]
        raise InputError(
            f"{where} states a pixel size of {wrong:g} Å; expected a positive number. Give it (--pixel-size)."
        )
    return sizes


def _stated_pixel_sizes(
    table: Mapping[str, Sequence[str]],
    blocks: Mapping[str, Mapping[str, Sequence[str]]],
    extents: Mapping[str, Extent],
    *,
    names: Sequence[str],
    where: str,
) -> FloatArray | None:
    own = next((column for column in _PIXELS if column in table), None)
    if own is not None:
        return single(table, own, where=where)
    optics = blocks.get("optics", {})
    from_optics = _optics_pixel_sizes(table, export_optics(optics, names), count=len(names), where=where)
    if from_optics is not None:
        return from_optics
    if "rlnDetectorPixelSize" in table:
        detector = single(table, "rlnDetectorPixelSize", where=where)
        magnified = "rlnMagnification" in table
        with np.errstate(divide="ignore", invalid="ignore"):
            return detector * 1e4 / single(table, "rlnMagnification", where=where) if magnified else detector
    if "rlnPixelSize" in table:
        return single(table, "rlnPixelSize", where=where)
    found = find_extents(names, [extents])
    if set(names) <= set(found):
        return np.array([found[name].voxel_size for name in names])
    return None


def export_optics(optics: Mapping[str, Sequence[str]], names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Optics of a WarpTools export with the pixel size that its coordinates count in; other optics as they are.

    Coordinates of lists whose tomograms are called ``*.tomostar`` are multiples of ``rlnImagePixelSize``; versions to
    2.0.0dev39 state another ``rlnTomoTiltSeriesPixelSize`` (github.com/warpem/warp, issue 504).
    """
    exported = "rlnImagePixelSize" in optics and any(name.endswith(".tomostar") for name in names)
    if not exported or optics.get(PIXEL) == optics["rlnImagePixelSize"]:
        return optics
    return {**optics, PIXEL: optics["rlnImagePixelSize"], BINNED_BY: ("1.00000",) * len(optics["rlnImagePixelSize"])}


def _optics_pixel_sizes(
    table: Mapping[str, Sequence[str]], optics: Mapping[str, Sequence[str]], *, count: int, where: str
) -> FloatArray | None:
    sizes = _group_pixel_sizes(optics, where=where)
    if sizes is None:
        return None
    if len(sizes) == 1:
        return np.full(count, sizes[0])
    if GROUP not in table or GROUP not in optics:
        return None
    groups = dict(zip(optics[GROUP], sizes, strict=True))
    missing = sorted(set(table[GROUP]) - set(groups))
    if missing:
        raise InputError(f"{where}: rlnOpticsGroup {missing[0]} is not in the optics table; mend one or the other.")
    return np.array([groups[group] for group in table[GROUP]])


def _group_pixel_sizes(optics: Mapping[str, Sequence[str]], *, where: str) -> FloatArray | None:
    where = f"{where} (optics)"
    for column in _PIXELS:
        if column in optics:
            return single(optics, column, where=where)
    if {"rlnImagePixelSize", BINNED_BY} <= set(optics):
        size = single(optics, "rlnImagePixelSize", where=where)
        with np.errstate(divide="ignore", invalid="ignore"):
            return size / single(optics, BINNED_BY, where=where)
    return None


# --- files named in files -------------------------------------------------------------------------------------------


def found_file(text: str, *, beside: Path) -> Path | None:
    """File that a path in the text of the file ``beside`` refers to, or None.

    RELION writes paths relative to the project's folder: they are resolved from the file's folder and from those above
    it. Of a path that leads elsewhere, as those of a project that was moved, the last folders are tried there too, from
    the longest on, and at last its name alone in the file's folder.
    """
    if not text or text in ("None", '""'):
        return None
    written = Path(text)
    folder = beside.resolve().parent
    ends = [Path(*written.parts[start:]) for start in range(1, len(written.parts) - 1)] if written.is_absolute() else []
    places = (folder, *folder.parents[: len(folder.parents) - 1])
    paths = [
        *(place / written for place in (folder, *folder.parents)),
        *(place / end for end in ends for place in places),
        folder / written.name,
    ]
    return next((path for path in paths if path.is_file() or (path.is_dir() and path.suffix == ".zarr")), None)


def optimisation_set(blocks: Mapping[str, Table], path: Path) -> tuple[Path, Path | None] | None:
    """Particles' file and (if it exists) tomograms' file of an optimisation set; None for any other file.

    Raises
    ------
    InputError
        If the particles' file does not exist.
    """
    table = next((item for item in blocks.values() if "rlnTomoParticlesFile" in item), None)
    if table is None:
        return None
    text = table["rlnTomoParticlesFile"][0]
    particles = found_file(text, beside=path)
    if not text.strip("'\" "):
        raise InputError(f"{path} names no particles (its rlnTomoParticlesFile is empty); open their list itself.")
    if particles is None:
        raise InputError(f"{path} names the particles {text}, which is not there; open that file itself.")
    return particles, found_file(table.get("rlnTomoTomogramsFile", ("",))[0], beside=path)


def tomograms_of_set_beside(path: Path) -> Path | None:
    """Table of tomograms that an optimisation set in the same folder names together with this file of particles.

    Of a file that none names, as particles chosen from another one, it is the table that all sets there name.
    """
    others: set[Path] = set()
    for item in sorted(path.parent.glob("*optimisation_set.star")):
        try:
            followed = optimisation_set(read_star(item), item)
        except InputError:
            continue
        if followed is not None and followed[0].resolve() == path.resolve():
            return followed[1]
        if followed is not None and followed[1] is not None:
            others.add(followed[1].resolve())
    return others.pop() if len(others) == 1 else None


def tomogram_files(table: Mapping[str, Sequence[str]], *, beside: Path) -> dict[str, Path]:
    """Files of the reconstructed tomograms in a table of tomograms, as far as they exist, by tomogram."""
    found: dict[str, Path] = {}
    for column in RECONSTRUCTIONS:
        for name, text in zip(table[TOMOGRAM], table.get(column, ()), strict=False):
            path = found_file(text, beside=beside)
            if path is not None:
                found.setdefault(name, path)
    return found


# --- names ----------------------------------------------------------------------------------------------------------

_NAMES_HELD = 100_000
"""Names whose plain forms stay in memory: lists name a thousand tomograms, each compared with a thousand; chosen."""

_SUFFIXES = re.compile(
    r"\.(mrcs?|rec|map|ccp4|st|ali|tomostar|zarr|ome|em|hdf5?|h5|tiff?|mdoc|gz|bz2|"
    r"star|csv|tsv|txt|tbl|mod|cbox|coords|xyz|xml|json|ndjson|jsonl|prm|lst|population|species)$",
    re.IGNORECASE,
)
_TAGS = re.compile(
    r"[_-](rec([_-]b\d+)?|snr[\d.]+|motif[_-]list|den|lbls?|mics|[\d.]+apx|bin[\d.]+|vol|half[12]|evn|odd|even|"
    r"denoised?|dn|corrected|corr|(3d)?ctf|deconv|ddw|filtered|filt|full|aligned|ali|wbp|sirt\d*|imod|aretomo|isonet2?|"
    r"cryocare|topaz|particles|picks|predicted|info|eras(e|ed)|gold[_-]?(free|erased|removed)|no[_-]?gold|unbin(ned)?)$",
    re.IGNORECASE,
)
_FRONT = re.compile(r"^(rec|tomo|tomogram|den)_(?=.)")


@lru_cache(maxsize=_NAMES_HELD)
def plain_name(name: str) -> str:
    """Name without folders and file suffixes: ``recon/TS_01.mrc.tomostar`` -> ``TS_01``."""
    return _without(_SUFFIXES, PurePosixPath(name.replace("\\", "/")).name)


def same_tomogram(name: str, other: str) -> bool:
    """Whether two names differ at most by prefixes and suffixes that programs add.

    Folders, file suffixes, leading zeros and such additions are ignored: ``tomo_001``, ``Tomo001``,
    ``tomo_001_rec_snr1.94`` and ``tomo_001_motif_list`` are the same, so are ``TS_01`` and ``rec_TS_01_10.00Apx.mrc``.
    ``TS_01`` and ``TS_10`` are not, nor ``TS_01`` and ``TS_01_2``.
    """
    return _core(name) == _core(other)


def match_tomogram(name: str, candidates: Iterable[str]) -> str | None:
    """Candidate that means the same tomogram as ``name``, first of all the exact name; None if there is none.

    Raises
    ------
    InputError
        If several candidates fit and none is the exact name.
    """
    index = _index(tuple(candidates))
    if name in index.names:
        return name
    fitting = index.by_plain_name.get(plain_name(name)) or index.by_core.get(_core(name), ())
    if len(fitting) > 1:
        raise InputError(f"tomogram {name} fits both {fitting[0]} and {fitting[1]}; keep one, or name it exactly.")
    return fitting[0] if fitting else None


@dataclass(frozen=True)
class _NameIndex:
    """Names of tomograms, and those among them of each plain name and of each core."""

    names: frozenset[str]
    by_plain_name: Mapping[str, Sequence[str]]
    by_core: Mapping[str, Sequence[str]]


@lru_cache(maxsize=64)
def _index(candidates: tuple[str, ...]) -> _NameIndex:
    """Index of names, made once for all that are looked up in them: lists name thousands of tomograms."""
    by_plain_name: dict[str, list[str]] = {}
    by_core: dict[str, list[str]] = {}
    for item in candidates:
        by_plain_name.setdefault(plain_name(item), []).append(item)
        by_core.setdefault(_core(item), []).append(item)
    return _NameIndex(frozenset(candidates), by_plain_name, by_core)


def rows_of_tomogram(names: Sequence[str], tomogram: str, *, where: str) -> NDArray[np.intp]:
    """Rows of a list that belong to a tomogram: those of its exact name, or else of names that mean the same.

    Raises
    ------
    InputError
        If there is none.
    """
    present = list(dict.fromkeys(names))
    wanted = {tomogram} if tomogram in present else {name for name in present if same_tomogram(name, tomogram)}
    if not wanted:
        raise InputError(
            f"{where} has no particle of {tomogram}; it has {shortened(present, most=3)}. Rename one so that the names "
            f"agree, or give the list's name for it (--tomogram-name){nearest_name(tomogram, present)}."
        )
    return np.flatnonzero([name in wanted for name in names])


LEFT_OUT = "Left out, for they are in "
"""What the sentence of `left_out_note` begins with."""


def left_out_note(names: Sequence[str], rows: NDArray[np.intp], *, where: str) -> tuple[str, ...]:
    """A sentence on particles of other tomograms than those of the chosen rows; none where there are none.

    Parameters
    ----------
    names : the tomogram of each particle of the list.
    where : the list's file.
    """
    kept = {names[row] for row in rows.tolist()}
    count = sum(name not in kept for name in names)
    if count == 0:
        return ()
    others = sorted(set(names) - kept)
    which = "a tomogram that is" if len(others) == 1 else f"{len(others)} tomograms that are"
    what = "1 particle" if count == 1 else f"{count} particles"
    return (f"{LEFT_OUT}{which} not given ({shortened(others) or 'no name'}): {what} of {where}.",)


def nearest_name(name: str, candidates: Iterable[str]) -> str:
    """Words that name the candidate most like a name; empty where none is like it."""
    cores = {_core(item): item for item in candidates}
    near = get_close_matches(_core(name), cores, n=1, cutoff=0.5)
    return f"; the nearest is {cores[near[0]]}" if near else ""


@lru_cache(maxsize=_NAMES_HELD)
def _core(name: str) -> str:
    before, after = "", plain_name(name)
    while after != before:
        # EMAN2 writes two underscores before its additions.
        before, after = after, _without(_SUFFIXES, _without(_TAGS, after)).rstrip("_-") or after
    core = re.sub(r"[\s_-]+", "_", after.lower())
    core = re.sub(r"(?<=[a-z])(?=\d)", "_", core)
    return _without(_FRONT, re.sub(r"(?<!\d)0+(?=\d)", "", core))


def _without(pattern: re.Pattern[str], name: str) -> str:
    """Name with every match of the pattern removed, as often as it matches; never empty."""
    shorter = pattern.sub("", name)
    return name if shorter in ("", name) else _without(pattern, shorter)

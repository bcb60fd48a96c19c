"""Particle lists in any dialect, chosen by a file's content and suffix; questions where their content is unlikely."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.environment import printable
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.column_text import BLOCK_ROWS
from napari_orient.engine.io.dialects import Dialect, ListFile, reading_dialect, writing_dialect
from napari_orient.engine.io.dialects.relion_coordinates import states_pixel_size
from napari_orient.engine.io.dialects.text_tables import TABLE_SUFFIXES
from napari_orient.engine.io.dialects.voxels import COUNTED_FROM
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    ListMetadata,
    extents_table,
    find_extents,
    read_tomograms,
    table_extents,
)
from napari_orient.engine.particles import Extent, FloatArray, Particles, Tomogram


def read_particles(
    path: Path | str,
    *,
    tomogram: Tomogram | str | None = None,
    extents: Mapping[str, Extent] | None = None,
    pixel_size: float | None = None,
    tomograms: Path | str | None = None,
    centre: str = "size/2",
    first_voxel: int | None = None,
) -> Particles:
    """Particles of a list in any of the dialects that `engine.io.dialects` knows, recognised by its content.

    Parameters
    ----------
    tomogram : keep the particles of this tomogram alone, by its name or as it was opened; the list's name for it may
        differ by prefixes and suffixes that programs add.
    extents : sizes of further tomograms by name; RELION 5's coordinates count from a tomogram's centre.
    pixel_size : Å, of coordinates in pixels or voxels; overrides the file's.
    tomograms : RELION's ``tomograms.star``, where it is not beside the list.
    centre : ``"size/2"`` or ``"size/2 - 1"``: the voxel that RELION 5's coordinates count from.
    first_voxel : number of the first voxel in coordinates that count in voxels; None for the dialect's own rule.

    Raises
    ------
    InputError
        If the file is missing, empty or of an unknown kind, or its content does not fit.
    """
    metadata = ListMetadata(
        extents=dict(extents or {}),
        pixel_size=pixel_size,
        tomogram=None if isinstance(tomogram, Tomogram) else tomogram,
        tomograms=tomograms,
        centre=centre,
        first_voxel=first_voxel,
    )
    return read_list(path, metadata.of(tomogram) if isinstance(tomogram, Tomogram) else metadata)


def read_list(path: Path | str, metadata: ListMetadata) -> Particles:
    """Particles of a list, with what is known beside it; see `read_particles`."""
    particles = _read(ListFile(path), metadata)
    if metadata.first_voxel and not any(COUNTED_FROM in note for note in particles.notes):
        unused = f"That the first voxel is number {metadata.first_voxel} is not used: coordinates are no voxels."
        particles = particles.replace(notes=(*particles.notes, unused))
    if particles.list_row is None:
        particles = particles.replace(list_row=np.arange(len(particles)))
    own = table_extents(particles.blocks.get(GLOBAL, {}), where=f"{path}, data_{GLOBAL}")
    given = _given_sizes(particles, metadata.tomograms)
    particles = particles.replace(extents={**given, **particles.extents, **own, **metadata.extents})
    if any(own.get(name) != extent for name, extent in given.items()):
        # Those of the tilt series: RELION counts from their centres, whatever binned tomogram is open.
        particles = particles.replace(blocks={**particles.blocks, GLOBAL: extents_table({**own, **given})})
    return particles.replace(
        notes=(*particles.notes, *questions_on_poses(particles), *questions_on_units(particles, path))
    )


def _given_sizes(particles: Particles, tomograms: Path | str | None) -> dict[str, Extent]:
    """Sizes of the particles' tomograms in a table of RELION's that was given."""
    if tomograms is None:
        return {}
    return find_extents(particles.tomogram_names, [table_extents(read_tomograms(tomograms), where=str(tomograms))])


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    read = reading_dialect(file).read
    assert read is not None
    return read(file, metadata)


def read_provenance(path: Path | str) -> str:
    """Origin of the poses as the first line of a list says it, if this program wrote the list; else empty."""
    with Path(path).open(encoding="utf-8", errors="replace") as stream:
        line = stream.readline().strip()
    return line.removeprefix("# ") if line.startswith("# napari-orient ") else ""


def write_particles(
    path: Path | str,
    particles: Particles,
    *,
    extents: Mapping[str, Extent] | None = None,
    dialect: str | None = None,
    pixel_size: float | None = None,
    centre: str = "size/2",
    first_voxel: int | None = None,
    provenance: str = "",
) -> tuple[str, ...]:
    """Write particles in a dialect; the sentences that are returned say what the format cannot hold.

    Parameters
    ----------
    extents : sizes of the tomograms by name; None for those in ``particles.extents``.
    dialect : such as ``"relion5"``, ``"dynamo"``; None for the usual one of the path's suffix.
    pixel_size : Å, of RELION 4's pixels, where neither the particles' columns nor their tomograms' sizes have it; of
        the voxels of other dialects, before all else.
    first_voxel : number of the first voxel in coordinates in voxels; None for the dialect's own rule.
    provenance : where the poses come from; the file's first line after ``#``.

    Raises
    ------
    InputError
        If there are no particles, the suffix or dialect is unknown, a size is needed and not given, or the file cannot
        be written. No file is left half written.
    """
    written = writing_dialect(path, dialect)
    write = written.write
    assert write is not None
    if first_voxel and not written.in_voxels:
        raise InputError(
            f"{path}: the first voxel is to be number {first_voxel}, and the dialect {written.name} does not count in "
            "voxels. Leave it out (--out-first-voxel)."
        )
    if len(particles) == 0:
        raise InputError(f"there are no particles to write to {path}; expected one at least.")
    metadata = ListMetadata(
        extents=extents or particles.extents, pixel_size=pixel_size, centre=centre, first_voxel=first_voxel
    )
    return write(Path(path), particles, metadata, provenance=printable(provenance))


def pixel_size_to_write(
    dialect: Dialect, particles: Particles, *, given: float | None, read: float | None, tomogram: Tomogram | None
) -> float | None:
    """Size in Å of the pixels or voxels to write particles in; None where the list and its tomograms decide.

    Parameters
    ----------
    given : for writing.
    read : for the coordinates as they were read. RELION 5's are in Å: there it is the tilt series' pixel size only
        where the list states none.
    tomogram : whose voxels dialects that count in them take.
    """
    if given is not None:
        return given
    if dialect.in_voxels and tomogram is not None:
        return tomogram.voxel_size
    return None if dialect.name == "relion5" and states_pixel_size(particles) else read


def check_particles_fit(path: Path | str, particles: Particles) -> None:
    """Check, before work on them, that these particles can be written at a path once they have poses.

    One of each tomogram is written to a temporary folder.

    Raises
    ------
    InputError
        As `write_particles`, such as where the size of a tomogram is needed and unknown.
    """
    path = Path(path)
    _, rows = np.unique(np.asarray(particles.tomogram), return_index=True)
    sample = particles.take(np.sort(rows))
    if sample.rotations is None:
        sample = sample.replace(rotations=np.tile(np.eye(3), (len(sample), 1, 1)))
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / f"list{path.suffix}"
        try:
            write_particles(beside, sample)
        except InputError as error:
            raise InputError(str(error).replace(str(beside), str(path))) from error


# --- plausibility -----------------------------------------------------------------------------------------------------

_CHANCE = 1e-3
"""Chance of particles that are spread evenly to lie together as these do, below which the question is asked; chosen."""

_LEAST_SHARE = 0.01
"""Share of a tomogram's side below which no binning explains where positions end."""

_LEAST_IN_PLANE = 3
"""Particles from which z = 0 for all is no chance: two may be picked in the first slice. Chosen."""

_LEAST_VOXEL_SIZE = 2.0
"""Å of a voxel from which positions in voxels differ from those in Å: at 1 Å they are the same."""


_SMALL_ANGLES_DEG = 3 * 6.2832
"""Degrees of a rotation by three angles, at most, where a list's radians, up to a full turn, are read as degrees."""

_LEAST_ANGLED = 3
"""Particles from which so small rotations are no chance: one random pose in 500 is so near the identity. Chosen."""


def questions_on_poses(particles: Particles) -> tuple[str, ...]:
    """A sentence where every pose is the identity, or all angles may be radians, and have no confidence; else none."""
    if particles.rotations is None or len(particles) == 0 or particles.confidence is not None:
        return ()
    if np.allclose(particles.rotations, np.eye(3), atol=1e-6):
        return ("Every orientation is the identity (all angles are 0): are these particles before an alignment?",)
    # By its trace, for in which order a list's angles are applied, and with which sign, differs.
    near = np.trace(particles.rotations, axis1=1, axis2=2) > 1 + 2 * np.cos(np.radians(_SMALL_ANGLES_DEG))
    if len(particles) < _LEAST_ANGLED or not near.all():
        return ()
    return (
        f"Every orientation is within {_SMALL_ANGLES_DEG:.0f}° of the identity: are the angles radians? Degrees are "
        "expected.",
    )


def questions_on_units(particles: Particles, path: Path | str) -> tuple[str, ...]:
    """A sentence where all z are 0, all positions would be a tomogram's voxels, or all lie in one corner; else none.

    Only particles in tomograms of known extent count, and only where all lie inside: what lies outside is refused with
    a word of its own.

    Parameters
    ----------
    path : of their list; columns of a table say by their names what they count, other formats by a size that is given.
    """
    if len(particles) >= _LEAST_IN_PLANE and not particles.positions[:, 2].any():
        return ("All z are 0: are these particles of micrographs, in two dimensions?",)
    found = find_extents(particles.tomogram_names, [particles.extents])
    spans = [span for rows in _blocks(len(particles)) if (span := _Span.of(particles, rows, found)) is not None]
    if not spans or not all(span.inside for span in spans):
        return ()
    count, voxel_size = sum(span.count for span in spans), min(span.voxel_size for span in spans)
    if count >= _LEAST_IN_PLANE and all((span.farthest <= span.voxel_size).all() for span in spans):
        return (
            f"{_all(count)} within one voxel of the first: are coordinates in another unit, such as µm, or fractions "
            "of the tomogram? Å are expected.",
        )
    if all(span.within_counts for span in spans) and voxel_size >= _LEAST_VOXEL_SIZE:
        shown = " × ".join(f"{side:.0f}" for side in np.max([span.farthest for span in spans], axis=0))
        return (
            f"{_all(count)} within {shown} Å of the first voxel, as they would if they counted in "
            f"voxels of {voxel_size:g} Å and were read as Å. If they do, {_in_voxels(path)}.",
        )
    share = np.max([span.share for span in spans], axis=0)
    factor = 1 / max(*share, _LEAST_SHARE)
    if max(share[:2]) <= 0.5 and float(share[0] * share[1]) ** count <= _CHANCE:
        return (
            f"{_all(count)} in the first {share[0]:.0%} × {share[1]:.0%} of their tomogram along x "
            f"and y: is the pixel size right? Another binning would be a factor of up to {factor:.3g} "
            "(--pixel-size).",
        )
    return ()


@dataclass(frozen=True)
class _Span:
    """Where some particles lie in tomograms of known extent.

    Parameters
    ----------
    inside : whether all lie inside.
    within_counts : whether all positions in Å are below the counts of voxels.
    voxel_size : the smallest, Å.
    farthest, share : (3,) the largest x, y and z in Å, and of the tomogram's sides.
    """

    count: int
    inside: bool
    within_counts: bool
    voxel_size: float
    farthest: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, particles: Particles, rows: slice, extents: Mapping[str, Extent]) -> _Span | None:
        """That of some rows; None where no tomogram's extent is known."""
        names = np.asarray(particles.tomogram[rows])
        known = np.isin(names, list(extents))
        if not known.any():
            return None
        own, positions = [extents[str(name)] for name in names[known]], particles.positions[rows][known]
        sizes, edges = np.array([one.size for one in own]), np.array([one.voxel_size for one in own])[:, None]
        voxels = positions / edges
        return cls(
            count=len(own),
            inside=bool(((voxels >= -0.5) & (voxels <= sizes - 0.5)).all()),
            within_counts=bool((positions <= sizes).all()),
            voxel_size=float(edges.min()),
            farthest=positions.max(axis=0),
            share=(voxels / sizes).max(axis=0),
        )


def _blocks(count: int) -> Iterator[slice]:
    """Slices of so many rows, a few thousand each."""
    return (slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS))


def _in_voxels(path: Path | str) -> str:
    """What to do where a list's coordinates count in voxels and were read as Å."""
    if Path(path).suffix.lower() in TABLE_SUFFIXES:
        return "name the columns x_voxel, y_voxel, z_voxel"
    return "give the size of a voxel (--pixel-size)"


def _all(count: int) -> str:
    """``All 12 positions lie``, or that of one."""
    return "The only position lies" if count == 1 else f"All {count} positions lie"

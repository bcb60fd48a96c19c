"""Subtomogram averaging: the map of particles in their poses, its half maps, and their Fourier shell correlation.

With x_i the Fourier coefficients of patch i about its particle, in the reference frame, W_i its wedge and N_i its noise
power (relative to that of its shell), the map is ``Σ w_i x_i / (Σ w_i + ε)`` with ``w_i = W_i / N_i``, on a grid twice
as fine as its box (`model.gridding`). The two halves are those of the list (``rlnRandomSubset``), or random with
duplicates in one. Where poses were refined against one map of all particles, their FSC (Harauz and van Heel, Optik 73,
146, 1986) is no gold standard. What a mask adds to it is measured and taken off (`map_resolution`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.devices import device_batch_size, single_threaded_steps
from napari_orient.engine.duplicates import IntArray, half_sets
from napari_orient.engine.environment import check_memory
from napari_orient.engine.errors import InputError
from napari_orient.engine.frames import in_frame, relion_frame, relion_symmetry
from napari_orient.engine.io import read_tomogram, write_tomogram
from napari_orient.engine.map_resolution import (
    BALL_RADIUS,
    FSC,
    MapResolution,
    ball_mask,
    fourier_shell_correlation,
    local_resolution,
    map_resolution,
    mask_about,
)
from napari_orient.engine.model.grid import half_sphere, radial_frequencies, unit_phase
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.model.map_symmetry import SymmetryProposal, search_symmetry
from napari_orient.engine.model.noise import mean_power, radial_level, smooth_spectrum, window
from napari_orient.engine.model.reference import resampled
from napari_orient.engine.model.rotational_average import rotational_average
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.outputs import replacing
from napari_orient.engine.parameters import AveragingOptions
from napari_orient.engine.particles import HALF_SET, Labelled, Particles, Tomogram, split_like
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.projects.distribution import SchedulerOptions, distribute
from napari_orient.engine.projects.task import HalfSums, Outcome
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.streams import Note, Step, Stream, Work, map_steps, stoppable
from napari_orient.engine.symmetry import C1, Symmetry
from napari_orient.engine.tomogram.outside import inside_only, rows_of_pairs_inside
from napari_orient.engine.tomogram.prewhitening import levelled, smooth_words
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry, tilt_geometry

_BATCH = 32
"""Patches cut together: memory, not the result."""
_SAMPLE = 256
"""Most patches of a tomogram that its noise is estimated from."""
_MEASURED = 0.5
"""Least weight of the wedge, 0 to 1, of coefficients that the level of the noise in a shell is taken from."""
_LEAST_SHARE = 0.001
"""Least weight of a particle by its confidence, 0 to 1: a map of particles without any is still a map; chosen."""
_WINDOW_MARGIN = 5
"""Voxels from the window's end to the patch's face."""
_DUPLICATE_SHARE = 0.25
"""Distance below which two particles are one, over the mask's radius, which may be twice the particle's. Chosen: noise
that two particles share adds up in a map only where their positions agree to about its resolution."""
_SUMS_HELD = 6
"""Sums in memory at once: of both halves so far, those of one tomogram, and the two together."""
_SAME_VOXELS = 0.01
"""Share by which the voxel sizes of map and mask may differ and be one size; chosen: over half a box of 100 voxels that
is half a voxel."""
_DEFAULTS = AveragingOptions()
_CPU = torch.device("cpu")
_HERE = SchedulerOptions()


@dataclass(frozen=True, eq=False, kw_only=True)
class Average:
    """The average of N particles: particle positive, the frame's origin at the centre ``(n - 1) / 2`` of the box.

    Parameters
    ----------
    density, first_half, second_half : (n, n, n) float32, [z, y, x].
    voxel_size : Å.
    fsc : of the halves inside a soft mask.
    count : particles averaged.
    group : imposed.
    half_sets : (N,) 1 or 2, the half of each particle in order; 0 where it was left out.
    mask : (n, n, n), 0 to 1, that ``fsc`` is of.
    centre : (3,) xyz in Å from the frame's origin to where the group's axes meet.
    """

    density: NDArray[np.float32]
    first_half: NDArray[np.float32]
    second_half: NDArray[np.float32]
    voxel_size: float
    fsc: FSC
    count: int
    group: Symmetry
    half_sets: IntArray
    mask: NDArray[np.float32]
    centre: FloatArray = field(default_factory=lambda: np.zeros(3))

    @cached_property
    def resolution(self) -> MapResolution:
        """Resolution inside the mask, without what the mask adds."""
        return map_resolution(self.first_half, self.second_half, self.mask, self.voxel_size)

    def local_resolution(self) -> NDArray[np.float32]:
        """Å at every voxel (n, n, n) inside the mask, 0 outside; see `map_resolution.local_resolution`."""
        return local_resolution(self.first_half, self.second_half, self.mask, self.voxel_size)

    def __repr__(self) -> str:
        side, resolution = len(self.density), self.resolution.corrected.resolution(0.143)
        return (
            f"Average({self.count} particles; {side}³ voxels of {self.voxel_size:g} Å; {resolution:.1f} Å at FSC 0.143)"
        )

    def save(self, path: Path | str) -> None:
        """Write the map (.mrc), and beside it its halves and the curve of their correlation.

        Raises
        ------
        InputError
            If the name does not end in .mrc, or the place cannot be written.
        """
        write_average(self, average_paths(Path(path)))

    def as_reference(self) -> NDArray[np.float32]:
        """The density to be matched: multiplied by the FSC of the whole, 2 C / (1 + C), shell by shell, and masked."""
        return self.filtered(self.density, lambda curve: 2 * curve / (1 + curve))

    def halves_as_references(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The two half maps to be matched: multiplied by their FSC shell by shell, and masked."""
        return self.filtered(self.first_half), self.filtered(self.second_half)

    def filtered(
        self,
        density: NDArray[np.float32],
        weight: Callable[[FloatArray], FloatArray] = lambda curve: curve,
        *,
        finest: float = 0.0,
        radius: float | None = None,
    ) -> NDArray[np.float32]:
        """A density (n, n, n) multiplied shell by shell, low-passed where the FSC falls below 0.143, and masked.

        With a symmetry, what is round about its main axis and the rest are multiplied each by its own FSC: the azimuth
        may be where the halves agree least, and a shell's FSC is that of its strongest part.

        Parameters
        ----------
        weight : what each shell is multiplied by, of its FSC, 0 to 1; the FSC itself by default.
        finest : Å of the low-pass, where the FSC allows finer detail.
        radius : Å of the mask; None for 0.4 boxes.
        """
        grid = radial_frequencies(len(density), self.voxel_size)
        passed = grid <= 1 / max(finest, self.fsc.resolution(0.143))
        spectrum = np.zeros(density.shape, complex)
        for part, fsc in self._parts(density):
            curve = np.interp(grid, fsc.frequency, np.clip(fsc.correlation, 0, 1))
            spectrum += np.fft.fftn(part) * weight(np.where(passed, curve, 0.0))
        mask = ball_mask(len(density), self.voxel_size, radius)
        return (np.fft.ifftn(spectrum).real * mask).astype(np.float32)

    def _parts(self, density: NDArray[np.float32]) -> list[tuple[FloatArray, FSC]]:
        """Parts that a density (n, n, n) is the sum of, each with its own FSC: round about the main axis, and not."""
        if len(self.group) == 1:
            return [(density, self.fsc)]
        whole = self._round(density)
        return list(zip((whole, density - whole), self._fsc_of_parts, strict=True))

    @cached_property
    def _fsc_of_parts(self) -> tuple[FSC, FSC]:
        halves = [half * self.mask for half in (self.first_half, self.second_half)]
        first, second = map(self._round, halves)
        rest = fourier_shell_correlation(halves[0] - first, halves[1] - second, self.voxel_size)
        return fourier_shell_correlation(first, second, self.voxel_size), rest

    def _round(self, density: FloatArray) -> FloatArray:
        return rotational_average(density, self.group.frame, self.centre / self.voxel_size)


@single_threaded_steps
def average(
    labelled: Labelled,
    *,
    group: Symmetry | None = C1,
    options: AveragingOptions = _DEFAULTS,
    device: torch.device = _CPU,
    scheduler: SchedulerOptions = _HERE,
    voxel_size: float | None = None,
    mask: Path | str | None = None,
    geometries: Mapping[str, TiltGeometry] | None = None,
) -> Stream[Step, Average]:
    """The average of particles in their poses, and those of two halves of them.

    The halves are those that the particles have (``rlnRandomSubset``), or random; duplicates are never in both.
    Particles outside their tomogram are in none.

    Parameters
    ----------
    group : imposed about the axes in its name, through the map's own centre of symmetry, which is found first; None
        proposes the one that the map has, and notes why.
    device : where patches are transformed and added up.
    scheduler : where each tomogram's particles are added up; the sums of tomograms are added in the order of the list,
        so that the map is the same to the bit for any number of workers.
    voxel_size : Å of the maps; None for that of the first tomogram.
    mask : file of a soft mask (0 to 1) that the FSC is measured in, about the map's origin; None for that of the
        options.
    geometries : how some tomograms were tilted, by their names, where it was estimated before.

    Raises
    ------
    InputError
        If there are fewer than two particles, one has no rotation, half of those of a tomogram lie outside it, or the
        mask is none.
    """
    every = np.concatenate([np.zeros(0, bool), *rows_of_pairs_inside(labelled)])
    labelled, notes_outside = inside_only(labelled)
    total = sum(len(particles) for _, particles in labelled)
    if total < 2:
        raise InputError(f"{total} particles cannot be averaged in halves; expected at least 2.")
    for _, particles in labelled:
        particles.required_rotations()
    voxel_size = voxel_size or labelled[0][0].voxel_size
    given = None if mask is None else mask_in_box(mask, options.side, voxel_size)
    what = f"an average of {options.side} voxels along each side"
    check_memory(_SUMS_HELD * Gridding.bytes_of(options.side), what, remedy="Take a smaller side.")
    near = duplicate_distance(options, voxel_size)
    numbers, notes = half_sets([particles for _, particles in labelled], near, seed=options.seed)
    _check_halves(numbers, near)
    yield Step(0, total, "Averaging", notes=(*notes_outside, *notes))
    posed = [
        (tomogram, particles.replace(extra={**particles.extra, HALF_SET: own}))
        for (tomogram, particles), own in zip(labelled, split_like(labelled, numbers), strict=True)
    ]
    halves = yield from _summed(posed, AveragingTask(voxel_size, options, device, geometries), scheduler, total=total)
    if group is None:
        searching = Step(total, total, "Searching for symmetry")
        proposed = yield from stoppable(_proposed(halves, voxel_size, options), searching)
        yield replace(searching, notes=tuple(map(Note, proposed.words())))
        group = proposed.group
    centre: FloatArray = np.zeros(3)
    if len(group) > 1:
        imposing = Step(total, total, "Imposing the symmetry")
        yield imposing
        centre = symmetry_centre((halves[0] + halves[1]).density(), voxel_size, group)
        for number in range(2):
            yield imposing
            halves[number] = halves[number].symmetrised(group, centre)
    found = _average(halves, voxel_size, int((numbers > 0).sum()), group=group, options=options, mask=given)
    half_of_all = np.zeros(len(every), int)
    half_of_all[every] = numbers
    return replace(found, half_sets=half_of_all, centre=centre)


def _check_halves(numbers: IntArray, near: float) -> None:
    """Check that both half-sets (N,) have particles.

    Raises
    ------
    InputError
        If one has none: the particles lie in one place, or their list puts all into one half.
    """
    sizes = [int((numbers == half).sum()) for half in (1, 2)]
    if min(sizes) == 0:
        raise InputError(
            f"all {max(sizes)} particles are in one half-set, for those within {near:.0f} Å of each other share one; "
            "expected particles in different places. Was a list read right?"
        )


def average_in_relion_frame(
    labelled: Labelled,
    *,
    group: Symmetry | None = C1,
    options: AveragingOptions = _DEFAULTS,
    scheduler: SchedulerOptions = _HERE,
    mask: Path | str | None = None,
) -> Stream[Step, tuple[Average, Labelled]]:
    """The average with its group's axes where RELION expects them, and the particles posed in that frame.

    The axes meet in the box's centre. Arguments and errors are those of `average`, which is done twice: about the axes
    that the map has, and about RELION's; the mask is in the latter's frame.
    """
    found = yield from average(labelled, group=group, options=options, scheduler=scheduler, mask=mask)
    if len(found.group) == 1:
        return found, labelled
    frame, centre = relion_frame(found.group), symmetry_centre(found.density, found.voxel_size, found.group)
    moved = [(tomogram, in_frame(particles, frame, centre)) for tomogram, particles in labelled]
    group = relion_symmetry(found.group)
    again = yield from average(moved, group=group, options=options, scheduler=scheduler, mask=mask)
    return again, moved


_SECONDS_A_PARTICLE = 0.03
"""Seconds of one core that a particle takes in boxes of 40 voxels."""


@dataclass(frozen=True, eq=False)
class AveragingTask:
    """Particles of one tomogram added up in two halves, as the task of a project; each has its half as `HALF_SET`."""

    voxel_size: float
    options: AveragingOptions
    device: torch.device = _CPU
    geometries: Mapping[str, TiltGeometry] | None = None

    @single_threaded_steps
    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, HalfSums]:
        """The sums of either half, on the CPU."""
        box, finest = self.options.side * self.voxel_size, 2 * max(self.voxel_size, tomogram.voxel_size)
        level = levelled(tomogram, particles.positions, box=box, resolution=finest)
        if level is not tomogram:
            yield Step(0, len(particles), "Averaging", notes=(Note(smooth_words([tomogram.name])),))
        first, second = (Gridding(self.options.side, self.voxel_size).to(self.device) for _ in range(2))
        numbers = np.asarray(particles.extra[HALF_SET])
        for rows, part in _batches(
            level, particles, self.voxel_size, self.options, self._wedge(level, particles), device=self.device
        ):
            first.add(part.take(numbers[rows] == 1))
            second.add(part.take(numbers[rows] == 2))
            yield Step(int(rows[-1]) + 1, len(particles), "Averaging")
        return first.to(_CPU), second.to(_CPU)

    def _wedge(self, tomogram: Tomogram, particles: Particles) -> Wedge:
        """The missing wedge as it was estimated before, or by the patches."""
        if self.geometries is not None and tomogram.name in self.geometries:
            return self.geometries[tomogram.name].wedge
        side = round(self.options.side * self.voxel_size / tomogram.voxel_size / 2) * 2
        return tilt_geometry(tomogram, particles.positions, self.options.wedge, side=side).wedge

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        """The options, and the voxels of the map."""
        return (self.options, self.voxel_size)

    def method(self, count: int) -> str:
        """No word: there is one way."""
        return ""

    def seconds(self, count: int) -> float:
        """About how long so many particles take on one core."""
        return _SECONDS_A_PARTICLE * count


def _summed(
    labelled: Labelled, task: AveragingTask, scheduler: SchedulerOptions, *, total: int
) -> Stream[Step, list[Gridding]]:
    """The sums of both halves over all tomograms, added in the order of the list, wherever each was made."""
    halves = [Gridding(task.options.side, task.voxel_size) for _ in range(2)]
    if scheduler.kind is None:
        done = 0
        for tomogram, particles in labelled:
            step_of = partial(_among, done, total)
            halves = _added(halves, (yield from map_steps(task(tomogram, particles), step_of)))
            done += len(particles)
        return halves
    waiting: dict[int, HalfSums] = {}
    following, done = 0, 0
    for event in distribute(dict(enumerate(labelled)), task, scheduler):
        if isinstance(event.news, Outcome):
            tomogram, particles = labelled[event.index]
            if event.news.sums is None:
                raise InputError(f"{tomogram.name} failed: {event.news.error}")
            waiting[event.index] = event.news.sums
            done += len(particles)
        while following in waiting:
            halves = _added(halves, waiting.pop(following))
            following += 1
        notes = event.news.notes if isinstance(event.news, Step) else ()
        yield Step(done, total, event.message or "Averaging", notes=notes)
    return halves


def _among(done: int, total: int, step: Step) -> Step:
    """A step of one tomogram among those of all."""
    return Step(done + step.done, total, step.message, notes=step.notes)


def _added(halves: list[Gridding], own: HalfSums) -> list[Gridding]:
    return [half + part for half, part in zip(halves, own, strict=True)]


def duplicate_distance(options: AveragingOptions, voxel_size: float) -> float:
    """Å within which two particles are one: as given, or a share of the mask's radius."""
    return options.duplicates.distance(_DUPLICATE_SHARE * (options.radius or BALL_RADIUS * options.side * voxel_size))


def _proposed(halves: list[Gridding], voxel_size: float, options: AveragingOptions) -> Work[SymmetryProposal]:
    """The group that the half maps have inside their mask."""
    sign, mask = _sign(options), ball_mask(options.side, voxel_size, options.radius)
    whole, first, second = (sign * mask * part.density() for part in (halves[0] + halves[1], *halves))
    return (yield from search_symmetry(whole, voxel_size, halves=(first, second)))


def _sign(options: AveragingOptions) -> float:
    """Factor that makes particles bright."""
    return -1.0 if options.contrast == "dark" else 1.0


def _average(
    halves: list[Gridding],
    voxel_size: float,
    count: int,
    *,
    group: Symmetry,
    options: AveragingOptions,
    mask: FloatArray | None,
) -> Average:
    sign = _sign(options)
    whole, first, second = (sign * part.density() for part in (halves[0] + halves[1], *halves))
    if mask is None and options.mask == "map":
        mask = mask_about(first, second, voxel_size)
    elif mask is None:
        mask = ball_mask(options.side, voxel_size, options.radius)
    curve = fourier_shell_correlation(first * mask, second * mask, voxel_size)
    maps = [np.asarray(part, np.float32) for part in (whole, first, second)]
    return Average(
        density=maps[0],
        first_half=maps[1],
        second_half=maps[2],
        voxel_size=voxel_size,
        fsc=curve,
        count=count,
        group=group,
        half_sets=np.zeros(0, int),
        mask=np.asarray(mask, np.float32),
    )


def mask_in_box(path: Path | str, side: int, voxel_size: float) -> FloatArray:
    """Soft mask of a file in the box of a map, (side, side, side), 0 to 1, on other voxels where it has others.

    Raises
    ------
    InputError
        If it cannot be read, is no cube, or is 0 everywhere in the box.
    """
    read = read_tomogram(path, flag="its own header")
    weights = np.array(read.density, np.float32)
    if len(set(weights.shape)) > 1:
        shape = " × ".join(map(str, weights.shape))
        raise InputError(f"{path} has {shape} voxels; expected a mask in a cubic box about the particle.")
    if len(weights) != side or abs(read.voxel_size / voxel_size - 1) > _SAME_VOXELS:
        coarser = max(read.voxel_size, voxel_size)
        weights = resampled(weights, read.voxel_size, side=side, to=voxel_size, resolution=2 * coarser)
    mask: FloatArray = np.clip(weights, 0, 1)
    if not (mask > 0).any():
        raise InputError(f"{path} is 0 or less everywhere; expected a mask that is 1 about the particle.")
    return mask


def _batches(
    tomogram: Tomogram,
    particles: Particles,
    voxel_size: float,
    options: AveragingOptions,
    wedge: Wedge,
    *,
    device: torch.device = _CPU,
) -> Iterator[tuple[NDArray[np.int_], Coefficients]]:
    """Batches of one tomogram's particles: their rows, and their coefficients about the particles."""
    side = options.side
    index, frequency = half_sphere(side, voxel_size, 2 * voxel_size)
    view = window(side, voxel_size, (side / 2 - _WINDOW_MARGIN) * voxel_size)
    cut = partial(cut_patches, tomogram, side=side, voxel_size=voxel_size, level=True)
    sample = cut(particles.positions[:_SAMPLE], centring="rounded")
    power = mean_power(torch.from_numpy(sample), view)
    noise = smooth_spectrum(power, wedge, voxel_size)[:, :, : side // 2 + 1].flatten()[index].numpy()
    measured = wedge.weights(frequency, 1 / (side * voxel_size))
    # Along and across the tilts the noise differs; how it falls off with frequency does not matter to a mean.
    radius = frequency.norm(dim=-1).numpy() * side * voxel_size
    level = radial_level(noise.astype(np.float64), radius, measured.numpy() > _MEASURED)
    weight = measured * torch.as_tensor(level / noise, dtype=torch.float32)
    # Patches about whole voxels need no interpolation: the rest of the shift is a phase.
    voxel_centres = nearest_voxel(particles.positions, tomogram.voxel_size)
    shifts = torch.as_tensor(particles.positions - voxel_centres + side // 2 * voxel_size, dtype=torch.float32)
    rotations = torch.as_tensor(particles.required_rotations(), dtype=torch.float32)
    index, frequency, view, weight, shifts, rotations = (
        values.to(device) for values in (index, frequency, view, weight, shifts, rotations)
    )
    shares = _shares(particles, options)
    batch = device_batch_size(device, _BATCH)
    for start in range(0, len(particles), batch):
        rows = np.arange(start, min(start + batch, len(particles)))
        cubes = cut(voxel_centres[rows])
        spectrum = torch.fft.rfftn(torch.from_numpy(cubes).to(device) * view, dim=(-3, -2, -1)).flatten(1)[:, index]
        angle = 2 * torch.pi * shifts[rows] @ frequency.T
        values = spectrum * unit_phase(angle)
        share = None if shares is None else shares[rows].to(device)
        yield rows, Coefficients(values, weight, frequency, rotations[rows], share)


def _shares(particles: Particles, options: AveragingOptions) -> torch.Tensor | None:
    """Weight of each particle, (N,); None where all count alike.

    Raises
    ------
    InputError
        If they are to be weighted by confidence, and have none.
    """
    if options.weights == "equal":
        return None
    if particles.confidence is None:
        raise InputError("the particles have no confidences to be weighted by. Leave the weights at equal.")
    return torch.as_tensor(particles.confidence, dtype=torch.float32).nan_to_num().clamp(_LEAST_SHARE, 1)


def average_paths(output: Path) -> tuple[Path, Path, Path, Path]:
    """The files of the map, its halves and the curve.

    Raises
    ------
    InputError
        If the name does not end in .mrc.
    """
    if output.suffix.lower() != ".mrc":
        raise InputError(f"{output} given as map; expected a name that ends in .mrc.")
    first, second = (output.with_name(f"{output.stem}_half{half}.mrc") for half in (1, 2))
    return output, first, second, output.with_name(f"{output.stem}_fsc.csv")


def local_resolution_path(output: Path) -> Path:
    """The file of the map of local resolution beside an average."""
    return output.with_name(f"{output.stem}_local_resolution.mrc")


def write_local_resolution(found: Average, path: Path) -> None:
    """Write the resolution at every voxel, in Å, and 0 outside the mask, as a map."""
    write_tomogram(path, found.local_resolution(), voxel_size=found.voxel_size)


def write_average(found: Average, paths: tuple[Path, Path, Path, Path]) -> None:
    """Write map, halves and curves to the files that `average_paths` names."""
    *maps, curve = paths
    for path, density in zip(maps, (found.density, found.first_half, found.second_half), strict=True):
        write_tomogram(path, density, voxel_size=found.voxel_size)
    _write_curves(curve, found)


def _write_curves(path: Path, found: Average) -> None:
    """Write the curve in the mask (``fsc``) and those of `MapResolution`, a row a shell."""
    curves = {"fsc": found.fsc, **found.resolution.curves}
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["resolution_angstrom", "frequency_per_angstrom", *curves])
        for shell, frequency in enumerate(found.fsc.frequency):
            values = (f"{curve.correlation[shell]:.4f}" for curve in curves.values())
            rows.writerow([f"{1 / frequency:.3f}", f"{frequency:.6f}", *values])

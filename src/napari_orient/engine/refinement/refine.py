"""refine(): poses of a tomogram's particles by template matching against a map, with expected errors, as a stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.devices import device_words, single_threaded, single_threaded_steps
from napari_orient.engine.duplicates import SHARE_OF_RADIUS, duplicate_rows, duplicates_note, without_duplicates
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import (
    AXIS_ERROR,
    AZIMUTH_ERROR,
    CENTRE_ERROR,
    ERROR_IF_RIGHT,
    POSE_UNKNOWN,
    SCORE,
    SHIFT,
    VARIABILITY,
)
from napari_orient.engine.model.forward import box_side
from napari_orient.engine.model.noise import not_flat
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.parameters import DuplicateOptions, RefinementOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, check_inside, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches, nearest_voxel, raw_cubes, without_infinite
from napari_orient.engine.refinement.acquisition import Acquisition
from napari_orient.engine.refinement.diagnostics import diagnostics
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.list_prior import (
    list_prior,
    prior_words,
    random_rotvecs,
    with_prior_rotations,
    without_earlier_results,
)
from napari_orient.engine.refinement.offset_prior import apply_offset_prior
from napari_orient.engine.refinement.overdispersion import template_parts
from napari_orient.engine.refinement.patch_fits import patches_held
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.tomogram_model import ParticleSample, estimate_tomogram_model
from napari_orient.engine.refinement.uncertainty import (
    particle_side,
    truncated_share,
    unknown_poses,
)
from napari_orient.engine.refinement.variability import Variability, estimate_variability
from napari_orient.engine.statistics.detection import (
    error_and_confidence,
    random_pose_covariance,
    random_pose_error_deg,
)
from napari_orient.engine.streams import Note, Step, Stream, stoppable
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.tomogram.gold_beads import find_gold_beads
from napari_orient.engine.tomogram.outside import outside_note, put_back, rows_inside
from napari_orient.engine.tomogram.prewhitening import Prewhitening, estimate_prewhitening
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry, tilt_geometry, tilt_series_of
from napari_orient.engine.tomogram.voxel_outliers import OutlierLimits, estimate_outlier_limits

_FINEST_VOXELS = 2.4
"""Finest detail used, in voxels; 2 is Nyquist's, and interpolation in the reconstruction leaves little signal there."""
_MOST_VOXELS = 40_000_000
"""Voxels of all patches that a tomogram's model is estimated from, to stay below 1.5 GB of memory."""
_LEAST_PATCHES = 24
"""Patches that the model is estimated from whatever their size, where there are so many."""
_OUTLIER_SAMPLE = 64
"""Picks that the usual density is read off, at most."""
_DEFAULT = RefinementOptions()


@dataclass(frozen=True, eq=False, kw_only=True)
class RefinementResult:
    """Particles in the poses found, and what else the refinement found of them.

    Parameters
    ----------
    particles : the given ones, in order, without those outside the tomogram that had no poses: recentred, with
        rotations, confidence, expected error, and the columns of `io.columns` for what follows.
    moved : (N, 3) xyz in Å by which each particle was recentred.
    score : (N,) match in standard deviations of the noise.
    p_false : (N,) probability that a pick is false by its score, or 1 where too much is outside the tomogram.
    p_right : (N,) probability that a pose is near the right mode: no false pick, and no competing mode is right.
    error_if_right_deg, error_if_wrong_deg : (N,) expected error of the rotation in either case; expected errors and
        confidence of the particles follow from these three.
    finder : to find more particles of the tomogram with.
    warnings : what looks wrong with reference, wedge or contrast.
    """

    particles: Particles
    moved: FloatArray
    score: FloatArray
    p_false: FloatArray
    p_right: FloatArray
    error_if_right_deg: FloatArray
    error_if_wrong_deg: FloatArray
    finder: PoseFinder
    warnings: tuple[Note, ...]

    def among(self, particles: Particles, inside: NDArray[np.bool_], note: Note | None) -> RefinementResult:
        """The same result among all particles (N,), of which only the rows inside were refined.

        Those outside have no place in it where they had no poses.
        """
        if note is None:
            return self
        if particles.rotations is None:
            return replace(self, warnings=(*self.warnings, note))
        random = random_pose_error_deg(self.finder.group)

        def among(found: FloatArray, rest: float) -> FloatArray:
            whole = np.full((len(particles), *found.shape[1:]), rest)
            whole[inside] = found
            return whole

        return replace(
            self,
            particles=put_back(self.particles, particles, inside, random_error_deg=random),
            moved=among(self.moved, 0.0),
            score=among(self.score, np.nan),
            p_false=among(self.p_false, 1.0),
            p_right=among(self.p_right, 0.0),
            error_if_right_deg=among(self.error_if_right_deg, random),
            error_if_wrong_deg=among(self.error_if_wrong_deg, random),
            warnings=(*self.warnings, note),
        )

    @property
    def precision(self) -> str:
        """Fast or precise: ``auto`` as it was decided."""
        return self.finder.options.effort.precision


_SECONDS_A_TOMOGRAM = 11.0
"""Seconds of one core that a tomogram's model takes to estimate from 100 picks of a ribosome at 10 Å voxels."""
_SECONDS_A_PARTICLE = 0.05
"""Seconds of one core that a pose takes, precise; measured with it."""


@dataclass(frozen=True, eq=False)
class RefinementTask:
    """`refine` as the task of a project: the particles of each tomogram against one template."""

    template: Template
    options: RefinementOptions = _DEFAULT
    like: Acquisition | None = None

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, Particles]:
        """The particles in the poses found."""
        return (yield from refine(tomogram, particles, self.template, self.options, like=self.like)).particles

    @property
    def shares(self) -> bool:
        """Whether the models of all tomograms begin from that of the first."""
        return self.options.effort.shared_model

    def led_by(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, RefinementTask]:
        """The same task, that begins every tomogram's model from this one's."""
        options = self.options.replace(precision=self.method(len(particles)))
        inside = rows_inside(particles, tomogram.extent, name=tomogram.name)
        some = with_prior_rotations(particles, options.prior)[inside]
        finder = yield from prepare_finder(tomogram, some, self.template, options)
        return replace(self, like=finder.acquisition)

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        """Template, options and the tilt series that belongs to the tomogram."""
        series = tilt_series_of(tomogram, self.options.wedge)
        # Rounds are of a project: a tomogram's poses against one template are the same for any number of them.
        options = self.options.replace(tilts="", rounds=0, seed=0)
        return (self.template, options, series and series[0])

    def method(self, count: int) -> str:
        """Fast or precise."""
        return self.options.effort.precision_for(count, self.options.compute.chosen())

    def seconds(self, count: int) -> float:
        """About how long so many particles take on one core."""
        return _SECONDS_A_TOMOGRAM + _SECONDS_A_PARTICLE * count


@single_threaded_steps
def refine(
    tomogram: Tomogram,
    particles: Particles,
    template: Template,
    options: RefinementOptions = _DEFAULT,
    *,
    like: Acquisition | None = None,
    geometry: TiltGeometry | None = None,
    checks: bool = True,
) -> Stream[Step, RefinementResult]:
    """Poses of the particles of one tomogram against a reference map; rotations they have serve as further starts.

    Parameters
    ----------
    template : a cube, particle positive whatever the tomogram's contrast; its voxel size need not be the tomogram's.
    options : a prior among them is about the rotations that the particles have; see `list_prior`.
    like : another tomogram's acquisition, to begin from where this one was acquired alike.
    geometry, checks : as in `prepare_finder`.

    Raises
    ------
    InputError
        If there are no particles, half of them or more lie outside, the tomogram is flat around all of them, the map is
        no cube or too coarse, or the device is missing.
    """
    options = options.replace(precision=options.effort.precision_for(len(particles), options.compute.chosen()))
    particles = with_prior_rotations(particles, options.prior)
    inside = rows_inside(particles, tomogram.extent, name=tomogram.name)
    finder = yield from prepare_finder(
        tomogram, particles[inside], template, options, like=like, geometry=geometry, checks=checks
    )
    note = outside_note(inside, name=tomogram.name, posed=particles.rotations is not None)
    if note:
        yield Step(1, 1, "Set particles aside", notes=(note,))
    answer = yield from refine_all(finder, tomogram, particles[inside], template)
    return answer.among(particles, inside, note)


@single_threaded_steps
def refine_all(
    finder: PoseFinder, tomogram: Tomogram, particles: Particles, template: Template
) -> Stream[Step, RefinementResult]:
    """Poses of all particles of the tomogram that the finder was prepared for, in batches; see `refine`."""
    words = f"Refining on {device_words(finder.reference.device)}"
    yield Step(0, len(particles), words)
    side = patch_side(finder.reference, tomogram, max_shift=finder.options.search.max_shift)
    parts, batch = [], patches_held(side, finder.reference.device)
    for start in range(0, len(particles), batch):
        parts.append(_find(finder, tomogram, particles.take(slice(start, start + batch))))
        yield Step(min(start + batch, len(particles)), len(particles), words)
    centre = torch.as_tensor(template.symmetry_centre, dtype=torch.float32)
    found = Poses.concatenated(parts)

    def find_at(rows: torch.Tensor, offset: torch.Tensor) -> Poses:
        noise = found.noise_level[rows]
        return _find(finder, tomogram, particles.take(rows.numpy()), offset=offset, noise=noise)

    def cut_rows(rows: torch.Tensor) -> tuple[torch.Tensor, Poses]:
        patches, to_picks = _patches(finder, tomogram, particles.take(rows.numpy()))
        return patches, poses.take(rows).shifted(-to_picks)

    poses, log_odds = yield from apply_offset_prior(
        finder,
        found,
        find_at,
        batch=batch,
        centre=centre,
    )
    step = Step(len(particles), len(particles), "Comparing the particles with each other")
    distance = duplicate_distance(template, finder.options.duplicates)
    found_at = particles.replace(positions=particles.positions + poses.shifts.double().numpy())
    once = torch.from_numpy(~duplicate_rows(found_at, distance))
    found_variability = estimate_variability(finder, poses, cut_rows, once=once, batch=batch)
    variability = yield from stoppable(found_variability, step)
    answer = _result(
        particles.located_in(tomogram), poses, finder, tomogram, log_odds=log_odds, variability=variability
    )
    note = duplicates_note(answer.particles, distance)
    answer = replace(answer, warnings=(*answer.warnings, *([note] if note else [])))
    if len(answer.warnings) > len(finder.warnings):
        yield Step(len(particles), len(particles), "Refined", notes=answer.warnings[len(finder.warnings) :])
    return answer


def duplicate_distance(template: Template, options: DuplicateOptions) -> float:
    """Å within which two particles are one: as given, or a share of the template's radius."""
    return options.distance(SHARE_OF_RADIUS * template.radius)


@single_threaded_steps
def prepare_finder(
    tomogram: Tomogram,
    particles: Particles,
    template: Template,
    options: RefinementOptions = _DEFAULT,
    *,
    like: Acquisition | None = None,
    geometry: TiltGeometry | None = None,
    checks: bool = True,
) -> Stream[Step, PoseFinder]:
    """What finds poses in a tomogram: its model, estimated from the positions of its particles; see `refine`.

    `refine_all` and `refine_with` use it, as often as one likes. The last step notes the missing wedge in force and
    what looks wrong. The precision ``auto`` means that of a single particle.

    Parameters
    ----------
    like : of another tomogram with the same template, to begin from where this one was acquired alike; it takes a
        fifth of the time.
    geometry : how the tomogram was tilted, where it was estimated before.
    checks : whether to check the template's hand, molecule and size; not where it is an average of these particles, or
        one that they are only compared with.
    """
    options = options.replace(precision=options.effort.precision_for(1, options.compute.chosen()))
    if len(particles) == 0:
        raise InputError("there are no particles to refine; expected at least one.")
    template.checked_cube()
    particles = particles[rows_inside(particles, tomogram.extent, name=tomogram.name)]
    # The noise of a particle that was picked twice is in two patches, and would pass for what particles have in common.
    particles = without_duplicates(particles, duplicate_distance(template, options.duplicates))
    device = options.compute.chosen()
    finest = max(options.resolution or 0.0, _FINEST_VOXELS * tomogram.voxel_size)
    shared = like is not None and like.same_template(voxel_size=tomogram.voxel_size, options=options)
    if like is not None and shared:
        reference, parts = like.reference, like.parts
    else:
        reference = build_reference(template.density, template.voxel_size, resolution=finest).to(device)
        parts = template_parts(template, reference, resolution=options.search.search_resolution)
    side = patch_side(reference, tomogram, max_shift=options.search.max_shift)
    most = max(min(options.calibration, _MOST_VOXELS // side**3), min(options.calibration, _LEAST_PATCHES))
    some = particles.take(evenly_spaced_rows(len(particles), most))
    outliers = _outliers(tomogram, particles.positions, reference)
    beads = yield from find_gold_beads(
        tomogram, particles.positions, radius=reference.radius, side=side * tomogram.voxel_size
    )
    measured = tomogram if beads is None else beads.subtracted_from(tomogram)
    box = box_side(reference.radius, tomogram.voxel_size)
    prewhitening = estimate_prewhitening(
        measured, some.positions, box=box * tomogram.voxel_size, resolution=reference.resolution
    )
    if like is not None and shared:
        # Through one filter the power of the two can be compared.
        like = like if like.same_prewhitening(prewhitening) else None
        prewhitening = prewhitening if like is None else like.prewhitening
    patches = _cut(measured, some.positions, side=side, device=device, outliers=outliers, prewhitening=prewhitening)
    prior = list_prior(some, options.prior, template.group, device=device)
    kept = not_flat(patches, tomogram.name)
    patches, prior = patches[kept], None if prior is None else prior.take(kept)
    yield Step(0, 1, "Estimating the missing wedge")
    geometry = geometry or tilt_geometry(measured, particles.positions, options.wedge, side=box)
    sample = ParticleSample(
        patches, reference, template.group, geometry, tomogram.voxel_size, options, prior, prewhitening
    )
    finder = yield from estimate_tomogram_model(sample, parts=parts, like=like)
    finder = replace(finder, outliers=outliers, beads=beads, prewhitening=prewhitening)
    found = yield from diagnostics(finder, patches, prior, template=checks)
    finder = replace(finder, warnings=found.warnings, p_template=found.p_template)
    if finder.acquisition is not None and not finder.alike:
        sound = found.p_template == 1 and not found.warnings
        finder = replace(finder, acquisition=replace(finder.acquisition, sound=sound))
    yield Step(1, 1, "Estimated the tomogram's model", notes=_notes(finder))
    return finder


@single_threaded()
def refine_with(finder: PoseFinder, tomogram: Tomogram, particles: Particles) -> RefinementResult:
    """A few particles of the finder's tomogram, refined in one go: recentred, with rotations and expected errors.

    Raises
    ------
    InputError
        If one lies outside the tomogram.
    """
    check_inside(particles, tomogram.extent, name=tomogram.name)
    poses = _find(finder, tomogram, particles)
    return _result(particles.located_in(tomogram), poses, replace(finder, warnings=()), tomogram)


def cut_for(finder: PoseFinder, tomogram: Tomogram, particles: Particles) -> torch.Tensor:
    """Patches (N, n, n, n) about the particles' nearest voxels, as the finder takes them, on its device."""
    side = patch_side(finder.reference, tomogram, max_shift=finder.options.search.max_shift)
    device = finder.reference.device
    if finder.beads is not None:
        tomogram = finder.beads.subtracted_from(tomogram)
    return _cut(
        tomogram,
        particles.positions,
        side=side,
        device=device,
        outliers=finder.outliers,
        prewhitening=finder.prewhitening,
    )


def _patches(finder: PoseFinder, tomogram: Tomogram, particles: Particles) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (N, n, n, n) about the particles' nearest voxels, and (N, 3) xyz in Å from the picks to these."""
    off = nearest_voxel(particles.positions, tomogram.voxel_size) - particles.positions
    patches = cut_for(finder, tomogram, particles)
    return patches, torch.as_tensor(off, dtype=torch.float32)


def _find(
    finder: PoseFinder,
    tomogram: Tomogram,
    particles: Particles,
    *,
    offset: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> Poses:
    """Poses with shifts from the picks; searched about an offset (3,) Å from them alone, if one is given."""
    patches, to_picks = _patches(finder, tomogram, particles)
    at = None if offset is None else ((offset - to_picks) / tomogram.voxel_size).round().to(patches.device)
    prior = list_prior(particles, finder.options.prior, finder.group, device=patches.device)
    noise = None if noise is None else noise.to(patches.device)
    bounds = _bounds(tomogram, particles, side=patches.shape[-1])
    found = finder.find(patches, _initial(finder, particles), at=at, prior=prior, noise=noise, bounds=bounds)
    return found.shifted(to_picks)


def _bounds(tomogram: Tomogram, particles: Particles, *, side: int) -> torch.Tensor | None:
    """First and last voxel inside the tomogram, xyz from the patches' centres, (N, 2, 3); None where all of them is."""
    centre = nearest_voxel(particles.positions, tomogram.voxel_size) / tomogram.voxel_size
    bounds = np.stack([-centre, np.asarray(tomogram.extent.size) - 1 - centre], axis=1).round().astype(int)
    inside = (bounds[:, 0] <= -(side // 2)).all() and (bounds[:, 1] >= side - side // 2 - 1).all()
    return None if inside else torch.from_numpy(bounds)


def _initial(finder: PoseFinder, particles: Particles) -> torch.Tensor | None:
    rotations, device = particles.rotations, finder.reference.device
    return None if rotations is None else torch.as_tensor(rotations, dtype=torch.float32, device=device)


def patch_side(reference: Reference, tomogram: Tomogram, *, max_shift: float) -> int:
    """Voxels along a patch for the particle, the soft edge of its window and the shift allowed; even."""
    whole = box_side(reference.radius, tomogram.voxel_size) + 2 * int(np.ceil(max_shift / tomogram.voxel_size))
    return int(min(whole, min(tomogram.density.shape) // 2 * 2))


def _notes(finder: PoseFinder) -> tuple[Note, ...]:
    """Notes for a person: the missing wedge in force, the precision, and what looks wrong."""
    wedge = f"{finder.geometry.note}{_ctf_words(finder)}; {finder.options.effort.precision}."
    prior = prior_words(finder.options.prior)
    texts = [wedge, *([_SMOOTH] if finder.prewhitening else []), *([prior] if prior else [])]
    return (*map(Note, texts), *finder.warnings)


_SMOOTH = "The tomogram is smooth: its power is levelled before particles are matched."


def _ctf_words(finder: PoseFinder) -> str:
    """What is taken of the CTF, where it is anything."""
    transfer = finder.transfer
    known = transfer.series is not None and transfer.series.defocus_um is not None
    if not known and transfer.correction == "wiener":
        return ""
    source = "by likelihood" if finder.options.ctf.ctf_correction == "auto" else "as given"
    return f"; CTF: {transfer.words} ({source})"


def _cut(
    tomogram: Tomogram,
    positions: FloatArray,
    *,
    side: int,
    device: torch.device,
    outliers: OutlierLimits | None,
    prewhitening: Prewhitening | None,
) -> torch.Tensor:
    """Patches about the nearest voxels: the shift is fitted anyway, and interpolation would blur the finest detail.

    Outliers are filled, before anything is filtered, and strong ramps are taken out: neither is noise as the model has
    it.
    """
    cut = partial(cut_patches, positions=positions, side=side, centring="rounded", level=True)
    repair = without_infinite if outliers is None else outliers.fill
    if prewhitening is None:
        return torch.from_numpy(cut(tomogram, repair=repair)).to(device)
    patches = cut(prewhitening.applied_to(tomogram, repair=repair))
    # Into a part that is flat the filter spreads what is beside it.
    patches[[np.ptp(cube) == 0 for cube in raw_cubes(tomogram, positions, side=side)]] = 0
    return torch.from_numpy(patches).to(device)


def _outliers(tomogram: Tomogram, positions: FloatArray, reference: Reference) -> OutlierLimits | None:
    """Densities beyond which voxels are outliers, from some of the picks."""
    some = positions[evenly_spaced_rows(len(positions), _OUTLIER_SAMPLE)]
    return estimate_outlier_limits(raw_cubes(tomogram, some, side=particle_side(reference, tomogram)))


def _result(
    particles: Particles,
    poses: Poses,
    finder: PoseFinder,
    tomogram: Tomogram,
    *,
    log_odds: torch.Tensor | float = 0.0,
    variability: Variability | None = None,
) -> RefinementResult:
    """The particles in their poses.

    Parameters
    ----------
    log_odds : (N,) of false over true picks, from elsewhere than the score.
    variability : of the particles, where they differ from each other.
    """
    if variability is not None:
        poses = variability.widened(poses, likelihood_scale=finder.calibration.likelihood_scale)
    found = particles.positions + poses.shifts.numpy()
    truncated = truncated_share(found, tomogram.extent, finder.reference.radius)
    unknown = unknown_poses(poses, finder.reference, max_shift=finder.options.search.max_shift, truncated=truncated)
    p_false = torch.where(torch.from_numpy(unknown.rows), 1.0, finder.p_false(poses, log_odds=log_odds))
    chance = random_rotvecs(finder.options.prior, finder.group)
    poses = poses.with_false_picks(p_false, random_pose_covariance(finder.group, chance))
    p_right, if_right, if_wrong, moved = (
        _numbers(column) for column in (poses.p_right, poses.error_if_right_deg, poses.error_if_wrong_deg, poses.shifts)
    )
    expected, confidence = error_and_confidence(if_right, p_right, if_wrong, finder.group, rotvecs=chance)
    columns = _columns(poses, finder.group, variability)
    reasons = {POSE_UNKNOWN: unknown.column} if unknown.rows.any() else {}
    kept = without_earlier_results(particles, finder.options.prior)
    return RefinementResult(
        particles=kept.replace(
            positions=particles.positions + moved,
            rotations=_numbers(poses.rotations),
            expected_error_deg=expected,
            confidence=confidence,
            extra={**kept.extra, **columns, **reasons},
        ),
        moved=moved,
        score=columns[SCORE],
        p_false=_numbers(p_false),
        p_right=p_right,
        error_if_right_deg=if_right,
        error_if_wrong_deg=if_wrong,
        finder=finder,
        warnings=(*finder.warnings, *unknown.notes, *([variability.note] if variability else [])),
    )


def _columns(poses: Poses, group: Symmetry, variability: Variability | None) -> dict[str, FloatArray]:
    """Columns of results that say something of these poses."""
    columns = {
        SCORE: _numbers(poses.score),
        SHIFT: np.linalg.norm(_numbers(poses.shifts), axis=1),
        ERROR_IF_RIGHT: _numbers(poses.error_if_right_deg),
        CENTRE_ERROR: _numbers(poses.shift_error),
    }
    if len(group) > 1:
        columns[AXIS_ERROR] = _numbers(poses.expected_axis_error_deg(group))
        columns[AZIMUTH_ERROR] = _numbers(poses.expected_azimuth_error_deg(group))
    if variability is not None:
        columns[VARIABILITY] = _numbers(variability.coordinates)
    return columns


def _numbers(values: torch.Tensor) -> FloatArray:
    """Values as an array of double precision, in which particles hold them."""
    numbers: FloatArray = values.double().numpy()
    return numbers

"""Prediction with a model, network or template: the poses of a tomogram's particles, as a stream of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from napari_orient.engine.devices import (
    device_batch_size,
    device_words,
    in_parallel,
    single_threaded,
    single_threaded_steps,
    worker_count,
)
from napari_orient.engine.duplicates import SHARE_OF_RADIUS, duplicates_note
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import AXIS_ERROR, AZIMUTH_ERROR, ERROR_IF_RIGHT, POSE_UNKNOWN, VARIABILITY
from napari_orient.engine.model.noise import not_flat
from napari_orient.engine.model_files import NETWORK, TEMPLATE, ModelFile, shipped_models, shipped_templates
from napari_orient.engine.networks.mlp import MLP, HalfTurnAverage
from napari_orient.engine.networks.network import Network
from napari_orient.engine.networks.tomogram_input import TomogramInput, estimate_input
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, check_inside, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.other_molecule import compare_with_shipped, map_agreement
from napari_orient.engine.refinement.acquisition import Acquisition
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.list_prior import (
    random_rotvecs,
    with_prior_rotations,
    without_earlier_results,
)
from napari_orient.engine.refinement.refine import (
    RefinementResult,
    RefinementTask,
    duplicate_distance,
    prepare_finder,
    refine_all,
    refine_with,
)
from napari_orient.engine.rotations import within_from_rms
from napari_orient.engine.statistics.detection import (
    error_and_confidence,
    random_pose_confidence,
    random_pose_error_deg,
)
from napari_orient.engine.streams import Note, Step, Stream, run, stoppable
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.tomogram.gold_beads import GoldBeads, find_gold_beads
from napari_orient.engine.tomogram.outside import outside_note, put_back, rows_inside
from napari_orient.engine.tomogram.resident import ResidentTomogram, fits_on
from napari_orient.engine.tomogram.tilt_geometry import tilt_series_of

Model = Template | Network
"""What predicts; both kinds have a ``name``, a ``card``, a symmetry ``group`` and ``classes``, and ``save`` a file."""

_USUAL = PredictionOptions()
_SECONDS_A_PATCH = 0.01
"""Seconds of one core that a network takes for a patch, the mixture network's; an MLP takes a tenth."""
_CHECKED_PICKS = 16
"""Picks about which a tomogram must not be flat; chosen: a tomogram that was not written to its end is so nearly
everywhere."""
_READERS: dict[str, Callable[[ModelFile], Model]] = {TEMPLATE: Template.from_file, NETWORK: Network.from_file}


def load_model(name_or_path: Path | str) -> Model:
    """A shipped model by its name, or any by the path of its file.

    Raises
    ------
    InputError
        If there is none, or the file is no model.
    """
    found = ModelFile.read(name_or_path)
    return _READERS[found.kind](found)


@single_threaded_steps
def predict(
    tomogram: Tomogram,
    particles: Particles,
    model: Model,
    options: PredictionOptions = _USUAL,
    *,
    reference: Template | None = None,
    prepared: Callable[[PoseEstimator], None] | None = None,
    like: Acquisition | None = None,
) -> Stream[Step, Particles]:
    """The same particles with rotations, confidence and expected error; a step for each batch.

    Those outside the tomogram keep the poses that they came with, at confidence 0; without poses they are left out.
    A template estimates the tomogram's missing wedge and noise first, and recentres the particles; rotations that they
    came with are used for a prior alone, where the options ask for one. A network leaves them in their places, unless a
    reference is given to refine its rotations with. Memory stays flat: patches are cut and dropped batch by batch.
    Where a network was never calibrated, confidence and expected error stay unknown.

    Parameters
    ----------
    reference : a map to refine a network's rotations with, in the frame that it was trained in.
    like : another tomogram's acquisition, for a template to begin from where this one was acquired alike.
    prepared : called with what predicts further picks of this tomogram, once that is prepared.

    Raises
    ------
    InputError
        If there are no particles, half of them or more lie outside the tomogram, patches are larger than it, the device
        is missing, or a network is to be precise without a reference.
    """
    _check_request(particles, model, options, reference)
    particles = without_earlier_results(with_prior_rotations(particles, options.prior), options.prior)
    inside = rows_inside(particles, tomogram.extent, name=tomogram.name)
    options = options.replace(precision=options.effort.precision_for(len(particles), options.compute.chosen()))
    estimator = yield from prepare(tomogram, particles[inside], model, options, like=like)
    if prepared is not None:
        prepared(estimator)
    if isinstance(estimator, TemplateEstimator) and not estimator.finder.alike:
        note = yield from compare_with_shipped(estimator.finder, tomogram, particles[inside], estimator.template)
        yield Step(1, 1, "Compared templates", notes=() if note is None else (note,))
    predicted = yield from estimator.batches(particles[inside])
    notes = [outside_note(inside, name=tomogram.name, posed=particles.rotations is not None)]
    if reference is not None:
        estimator = yield from prepare(tomogram, predicted, reference, options, given_rotations=True)
        predicted = yield from estimator.batches(predicted)
    elif isinstance(model, Network):
        notes.append(duplicates_note(predicted, shortest_distance(model, options)))
        # A map that was matched has been compared with the particles' residuals: `refinement.diagnostics`.
        notes.append((yield from _other_molecule(tomogram, predicted, model, options)))
    if any(notes):
        yield Step(len(predicted), len(predicted), "Predicted", notes=tuple(note for note in notes if note))
    return put_back(predicted, particles, inside, random_error_deg=random_pose_error_deg((reference or model).group))


def _check_request(particles: Particles, model: Model, options: PredictionOptions, reference: Template | None) -> None:
    """Check that there is something to predict, and that model, options and reference fit each other.

    Raises
    ------
    InputError
        If not.
    """
    if len(particles) == 0:
        raise InputError(
            "there are no particles to predict; expected at least one pick. Pick some, or check the class."
        )
    if isinstance(model, Network) and options.prior.given:
        raise InputError(f"{model.name} is a network, which takes no prior on rotations; choose a template.")
    if reference is not None and isinstance(model, Template):
        raise InputError(f"{model.name} is a template itself; refine against another one afterwards.")
    if reference is None and isinstance(model, Network) and options.effort.precision == "precise":
        raise InputError(
            f"{model.name} is a network, which has no map to be precise with; give one (--reference), or choose a "
            "template."
        )


def _other_molecule(
    tomogram: Tomogram, predicted: Particles, network: Network, options: PredictionOptions
) -> Stream[Step, Note | None]:
    """A warning where the average of the particles is not the map that the network was trained on; else None."""
    template = _map_of(network)
    if template is None:
        return None
    step = Step(len(predicted), len(predicted), "Comparing the particles' average with the map")
    found = yield from stoppable(map_agreement(tomogram, predicted, template, options.wedge), step)
    return Note(found.text(network.name), "warning") if found is not None and found.differs else None


def _map_of(network: Network) -> Template | None:
    """The map that a shipped network was trained on, a shipped template's; None of other networks.

    A network that somebody else trained may have another frame.
    """
    for name in shipped_templates() if network.name in shipped_models() else ():
        template = Template.from_file(ModelFile.read(name))
        if set(template.classes) & set(network.classes):
            return template
    return None


@dataclass(frozen=True, eq=False)
class PredictionTask:
    """`predict` as the task of a project: the picks of each tomogram by one model."""

    model: Model
    options: PredictionOptions = _USUAL
    reference: Template | None = None
    like: Acquisition | None = None

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, Particles]:
        """The picks with rotations, confidence and expected error."""
        return predict(tomogram, particles, self.model, self.options, reference=self.reference, like=self.like)

    @property
    def shares(self) -> bool:
        """Whether the models of all tomograms begin from that of the first."""
        return self.options.effort.shared_model and isinstance(self.model, Template)

    def led_by(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, PredictionTask]:
        """The same task, that begins every tomogram's model from this one's; says if another template fits better."""
        count, inside = len(particles), rows_inside(particles, tomogram.extent, name=tomogram.name)
        options = self.options.replace(precision=self.method(count))
        some = without_earlier_results(with_prior_rotations(particles, options.prior), options.prior)[inside]
        estimator = yield from prepare(tomogram, some, self.model, options)
        if not isinstance(estimator, TemplateEstimator):
            return self
        note = yield from compare_with_shipped(estimator.finder, tomogram, some, estimator.template)
        yield Step(1, 1, "Compared templates", notes=() if note is None else (note,))
        return replace(self, like=estimator.finder.acquisition)

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        """Model, options, reference, and the tilt series that belongs to the tomogram."""
        matched = self._matched
        series = None if matched is None else tilt_series_of(tomogram, self.options.refinement(matched).wedge)
        return (self.model, self.options.replace(tilts=""), self.reference, series and series[0])

    def method(self, count: int) -> str:
        """Fast or precise, where a map is matched; else empty."""
        if self._matched is None:
            return ""
        return self.options.effort.precision_for(count, self.options.compute.chosen())

    def seconds(self, count: int) -> float:
        """About how long so many picks take on one core."""
        matched = self._matched
        matching = 0.0 if matched is None else RefinementTask(matched).seconds(count)
        return matching + (0.0 if isinstance(self.model, Template) else _SECONDS_A_PATCH * count)

    @property
    def _matched(self) -> Template | None:
        return self.model if isinstance(self.model, Template) else self.reference


def shortest_distance(model: Model, options: PredictionOptions, *, reference: Template | None = None) -> float:
    """Å within which two particles are one, picked twice: as given, or a share of the model's radius."""
    found = reference or model
    if isinstance(found, Template):
        return duplicate_distance(found, options.duplicates)
    return options.duplicates.distance(SHARE_OF_RADIUS * found.options.mask_radius)


class PoseEstimator(Protocol):
    """What gives the poses of picks of one tomogram."""

    def __call__(self, picks: Particles) -> Particles:
        """The picks with poses, at once: a few take milliseconds, and only their patches are read.

        Raises
        ------
        InputError
            If one lies outside the tomogram.
        """

    def batches(self, particles: Particles) -> Stream[Step, Particles]:
        """The particles with poses, confidence and expected error; a step for each batch."""


@single_threaded_steps
def prepare(
    tomogram: Tomogram,
    particles: Particles,
    model: Model,
    options: PredictionOptions = _USUAL,
    *,
    given_rotations: bool = False,
    like: Acquisition | None = None,
) -> Stream[Step, PoseEstimator]:
    """What predicts picks of a tomogram: a network on its device, or a template and the tomogram's model.

    Parameters
    ----------
    particles : what a template estimates wedge and noise from; their rotations are not used.
    given_rotations : whether a template shall begin from the rotations of picks too, to refine them.
    like : as in `predict`.

    Raises
    ------
    InputError
        If the device is missing, or a template has no particles to estimate from.
    """
    if isinstance(model, Template):
        finder = yield from prepare_finder(tomogram, particles, model, options.refinement(model), like=like)
        return TemplateEstimator(tomogram, model, finder, given_rotations=given_rotations)
    particles = particles[rows_inside(particles, tomogram.extent, name=tomogram.name)]
    device = options.compute.chosen()
    yield Step(0, 1, f"Loading {model.name} on {device_words(device)}")
    width, radius = model.options.patch_side * model.options.patch_voxel_size, model.options.mask_radius
    beads = yield from find_gold_beads(tomogram, particles.positions, radius=radius, side=width)
    tomogram = tomogram if beads is None else beads.subtracted_from(tomogram)
    if not model.is_mixture:
        mlp = model.mlp(device)
        _check_not_flat(tomogram, particles, side=mlp.patch_side, voxel_size=mlp.patch_voxel_size)
        resident = ResidentTomogram.of(tomogram, device) if fits_on(tomogram, device) else None
        answer = MLPAnswer(tomogram, mlp, mlp.averaged(), options, model.group, resident)
        return NetworkEstimator(tomogram, answer, options, device, model.group, beads)
    mixture = model.mixture(device)
    found = yield from estimate_input(tomogram, particles, mixture, centring=options.centring)
    answers = MixtureAnswer(found, options, model.group)
    return NetworkEstimator(tomogram, answers, options, device, model.group, beads)


def _check_not_flat(tomogram: Tomogram, picks: Particles, *, side: int, voxel_size: float) -> None:
    """Check that a tomogram is not flat round all of some picks; a network would answer all the same.

    Raises
    ------
    InputError
        If it is.
    """
    far = (np.asarray(tomogram.extent.size) - 1) * tomogram.voxel_size
    inside = picks.positions[((picks.positions >= 0) & (picks.positions <= far)).all(axis=1)]
    if not len(inside):
        return
    some = inside[evenly_spaced_rows(len(inside), _CHECKED_PICKS)]
    patches = cut_patches(tomogram, some, side=side, voxel_size=voxel_size, centring="rounded")
    not_flat(torch.from_numpy(patches), tomogram.name)


@dataclass(frozen=True, eq=False)
class TemplateEstimator:
    """A template as it shows in one tomogram, matched with its picks, which are recentred."""

    tomogram: Tomogram
    template: Template
    finder: PoseFinder
    given_rotations: bool

    def __call__(self, picks: Particles) -> Particles:
        """The picks with poses, at once."""
        return self._calibrated(refine_with(self.finder, self.tomogram, self._starts(picks)))

    def batches(self, particles: Particles) -> Stream[Step, Particles]:
        """The particles with poses, confidence and expected error; a step for each batch."""
        refined = yield from refine_all(self.finder, self.tomogram, self._starts(particles), self.template)
        return self._calibrated(refined)

    def _starts(self, picks: Particles) -> Particles:
        kept = self.given_rotations or self.finder.options.prior.given
        return picks if kept else picks.replace(rotations=None)

    def _calibrated(self, refined: RefinementResult) -> Particles:
        """Particles with calibrated errors, as far as poses are right: the calibration knows no wrong ones."""
        found, line = refined.particles, self.template.calibration
        if found.expected_error_deg is None or line is None:
            return found
        if_right = line.expected_deg(refined.error_if_right_deg)
        chance = random_rotvecs(self.finder.options.prior, self.template.group)
        expected, confidence = error_and_confidence(
            if_right, refined.p_right, refined.error_if_wrong_deg, self.template.group, rotvecs=chance
        )
        scale = expected / np.maximum(found.expected_error_deg, 1e-6)
        parts = {name: found.extra[name] * scale for name in (AXIS_ERROR, AZIMUTH_ERROR) if name in found.extra}
        extra = {**found.extra, **parts, ERROR_IF_RIGHT: if_right}
        return found.replace(expected_error_deg=expected, confidence=confidence, extra=extra)


@dataclass(frozen=True, eq=False)
class NetworkAnswer:
    """What a network answers to a batch.

    Parameters
    ----------
    rotations : (N, 3, 3).
    expected_deg : (N,) expected errors in degrees; None = unknown.
    confidence : (N,) probability that the rotation is right; None = unknown.
    if_right_deg : (N,) expected errors if it is; None = unknown.
    variability : (N,) coordinates along what the particles differ in; None where they do not, or it is not asked.
    """

    rotations: FloatArray
    expected_deg: FloatArray | None = None
    confidence: FloatArray | None = None
    if_right_deg: FloatArray | None = None
    variability: FloatArray | None = None

    def write_to(self, columns: dict[str, FloatArray], rows: slice, *, count: int) -> None:
        """Write what is known to the rows of columns of all ``count`` particles, which are made when first needed."""
        for name, values in vars(self).items():
            if values is None:
                continue
            if name not in columns:
                columns[name] = np.empty((count, *values.shape[1:]))
            columns[name][rows] = values


@dataclass(frozen=True, eq=False)
class MLPAnswer:
    """What an MLP answers to the patches about positions.

    Parameters
    ----------
    averaged : the same network, its four answers to half-turned patches averaged.
    resident : the tomogram on the network's device; None where it stays in its file.
    """

    tomogram: Tomogram
    mlp: MLP
    averaged: HalfTurnAverage
    options: PredictionOptions
    group: Symmetry
    resident: ResidentTomogram | None = None

    def __call__(self, positions: FloatArray) -> NetworkAnswer:
        """Rotations and errors of the particles at positions (N, 3); a flat patch says no more than chance."""
        patches = self._patches(positions)
        rotations, error = self.averaged.predict(self.mlp.condense(patches))
        if error is None:
            return NetworkAnswer(_numbers(rotations))
        worst = random_pose_error_deg(self.group)
        flat = (patches.flatten(1).amax(1) == 0).cpu().numpy()
        expected = np.where(flat, worst, np.minimum(_numbers(error), worst))
        confidence = np.where(flat, random_pose_confidence(self.group), within_from_rms(expected, 20))
        return NetworkAnswer(_numbers(rotations), expected, confidence)

    def _patches(self, positions: FloatArray) -> torch.Tensor:
        """Patches (N, side, side, side) on the network's device."""
        side, voxel_size, centring = self.mlp.patch_side, self.mlp.patch_voxel_size, self.options.centring
        if self.resident is not None:
            return self.resident.cut(positions, side=side, voxel_size=voxel_size, centring=centring)
        patches = cut_patches(self.tomogram, positions, side=side, voxel_size=voxel_size, centring=centring)
        return torch.from_numpy(patches).to(self.averaged.first.device)


@dataclass(frozen=True, eq=False)
class MixtureAnswer:
    """What a mixture network answers to the whitened patches about positions."""

    found: TomogramInput
    options: PredictionOptions
    group: Symmetry

    def __call__(self, positions: FloatArray) -> NetworkAnswer:
        """Rotations of the particles at positions (N, 3), and errors that count the chance that a pose is wrong."""
        spectra = self.found.spectra(positions, centring=self.options.centring)
        found, error, posed = self.found.posed(positions, spectra)
        rotations, if_right, right = (
            _numbers(part) for part in (found.rotations, error, self.found.evidence.p_right(posed))
        )
        if_wrong = np.full(len(right), random_pose_error_deg(self.group))
        variability = None
        if self.found.variability is not None:
            coordinates = self.found.variability.coordinates(posed)
            variability = _numbers(coordinates)
            if_right = np.hypot(if_right, _numbers(self.found.variability.displacement_deg(coordinates)))
        expected, confidence = error_and_confidence(if_right, right, if_wrong, self.group)
        return NetworkAnswer(rotations, expected, confidence, if_right, variability)


def _numbers(tensor: torch.Tensor) -> FloatArray:
    return np.asarray(tensor.double().cpu().numpy())


@dataclass(frozen=True, eq=False)
class NetworkEstimator:
    """A network on its device, which leaves picks in their places.

    Parameters
    ----------
    tomogram : what patches are cut from: less its gold beads, where there are some.
    beads : these; a pose on one is unknown.
    """

    tomogram: Tomogram
    answer: Callable[[FloatArray], NetworkAnswer]
    options: PredictionOptions
    device: torch.device
    group: Symmetry
    beads: GoldBeads | None = None

    @single_threaded()
    def __call__(self, picks: Particles) -> Particles:
        """The particles with rotations, at once."""
        return run(self.batches(picks))

    def batches(self, particles: Particles) -> Stream[Step, Particles]:
        """The particles with rotations, confidence and expected error; a step for each batch."""
        check_inside(particles, self.tomogram.extent, name=self.tomogram.name)
        words, places = f"Predicting on {device_words(self.device)}", particles.positions
        size = device_batch_size(self.device, self.options.batch)
        yield Step(0, len(particles), words)
        batches = [places[start : start + size] for start in range(0, len(places), size)]
        columns, done = dict[str, FloatArray](), 0
        for first in range(0, len(batches), worker_count()):
            for item in in_parallel(self.answer, batches[first : first + worker_count()], device=self.device):
                item.write_to(columns, slice(done, done + len(item.rotations)), count=len(particles))
                done += len(item.rotations)
            yield Step(done, len(particles), words)
        named = {ERROR_IF_RIGHT: "if_right_deg", VARIABILITY: "variability"}
        results = {name: columns[column] for name, column in named.items() if column in columns}
        posed = particles.adopting(
            rotations=columns["rotations"],
            expected_error_deg=columns.get("expected_deg"),
            confidence=columns.get("confidence"),
            extra={**particles.extra, **results},
        )
        if self.beads is not None:
            posed = _unknown_on_gold(posed, self.beads, self.group, voxel_size=self.tomogram.voxel_size)
        return posed.located_in(self.tomogram)


def _unknown_on_gold(posed: Particles, beads: GoldBeads, group: Symmetry, *, voxel_size: float) -> Particles:
    """The particles, of which those on a bead have the expected error and the confidence of a random pose."""
    rows = beads.hold(posed.positions, voxel_size)
    if not rows.any() or posed.expected_error_deg is None or posed.confidence is None:
        return posed
    reasons = np.where(rows, "gold", np.asarray(posed.extra.get(POSE_UNKNOWN, ""), str))
    return posed.replace(
        expected_error_deg=np.where(rows, random_pose_error_deg(group), posed.expected_error_deg),
        confidence=np.where(rows, random_pose_confidence(group), posed.confidence),
        extra={**posed.extra, POSE_UNKNOWN: reasons},
    )


def provenance(model: Model, options: PredictionOptions = _USUAL, *, count: int, reference: str = "") -> str:
    """Where predicted poses come from, in one line for the head of a file: program, model, its data, options.

    Both doors write this line; it holds no date and no device, so that the same poses give the same bytes.

    Parameters
    ----------
    count : particles predicted, which decide what the precision ``auto`` means.
    reference : name of the map that a network's rotations were refined with, if any.
    """
    from napari_orient import __version__

    data = f", data {model.card['fingerprint']}" if "fingerprint" in model.card else ""
    line = f"napari-orient {__version__}: predicted by {model.name} ({model.kind}){data}"
    matched = isinstance(model, Template)
    if not matched:
        line += f"; picks {options.centring}"
    if matched or reference:
        precision = options.effort.precision_for(count, options.compute.chosen())
        line += f"; refined against {reference}, {precision}" if reference else f"; {precision}"
    return line

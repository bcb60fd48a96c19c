"""Prediction: the rotation of every particle of a tomogram, as a stream of batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import AXIS_ERROR, AZIMUTH_ERROR, without_results
from napari_orient.engine.networks.checkpoint import Checkpoint
from napari_orient.engine.networks.contract import Answer, Network
from napari_orient.engine.networks.reference_map import ReferenceMap
from napari_orient.engine.particles import Particles, Tomogram, check_inside
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.options import PredictionOptions
from napari_orient.engine.refinement.detection import error_with_false_picks
from napari_orient.engine.refinement.refine import RefinementResult, prepare_finder, refine, refine_with
from napari_orient.engine.rotations import within_from_rms
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.threads import in_parallel, single_threaded, single_threaded_steps, worker_count

_USUAL = PredictionOptions()


@single_threaded_steps
def predict(
    tomogram: Tomogram,
    particles: Particles,
    checkpoint: Checkpoint,
    options: PredictionOptions = _USUAL,
    *,
    reference: ReferenceMap | None = None,
) -> Stream[Step, Particles]:
    """The same particles with rotations, confidence and expected error; a step for each batch.

    A checkpoint of kind ``bank`` learns the tomogram's wedge and noise first, and recentres the particles; rotations
    that they came with are not looked at. One of kind ``mlp`` leaves them in their places, unless a reference is given
    to refine its rotations with. Memory stays flat: patches are cut and dropped batch by batch. Where the network was
    never calibrated, confidence and expected error stay unknown.

    Parameters
    ----------
    reference : a map to polish an mlp's rotations with, in the frame that it was trained in.

    Raises
    ------
    InputError
        If there are no particles, some lie outside the tomogram, patches are larger than it, the device is missing, or
        an mlp is to be precise without a reference.
    """
    if len(particles) == 0:
        raise InputError(
            "there are no particles to predict; expected at least one pick. Pick some, or check the class."
        )
    check_inside(particles, tomogram.extent, name=tomogram.name)
    particles = without_results(particles)
    if checkpoint.kind == "bank":
        if reference is not None:
            raise InputError(f"{checkpoint.name} has a reference of its own; refine against another one afterwards.")
        return (yield from _matched(tomogram, particles.replace(rotations=None), checkpoint.bank(), options))
    if reference is None:
        if options.effort.precision == "precise":
            raise InputError(
                f"{checkpoint.name} holds no reference to be precise with; give the map (--reference), or choose a "
                "checkpoint of kind bank."
            )
        return (yield from _told(tomogram, particles, checkpoint, options))
    told = yield from _told(tomogram, particles, checkpoint, options)
    return (yield from _matched(tomogram, told, reference, options))


def _matched(
    tomogram: Tomogram, particles: Particles, reference: ReferenceMap, options: PredictionOptions
) -> Stream[Step, Particles]:
    """The particles in the poses that the reference finds; rotations that they have serve as further starts."""
    refined = yield from refine(
        tomogram,
        particles,
        reference.density,
        voxel_size=reference.voxel_size,
        group=reference.group,
        options=options.refinement(reference),
    )
    return _calibrated(refined, reference)


def _calibrated(refined: RefinementResult, reference: ReferenceMap) -> Particles:
    """Particles with errors corrected as far as particles are there: calibration knows nothing of picks on nothing."""
    found = refined.particles
    if found.expected_error_deg is None or not reference.calibrated:
        return found
    sure = reference.calibrated_deg(refined.sure_error_deg)
    expected, confidence = error_with_false_picks(sure, refined.p_false, reference.group)
    scale = expected / np.maximum(found.expected_error_deg, 1e-6)
    parts = {name: found.extra[name] * scale for name in (AXIS_ERROR, AZIMUTH_ERROR) if name in found.extra}
    return found.replace(expected_error_deg=expected, confidence=confidence, extra={**found.extra, **parts})


def _told(
    tomogram: Tomogram, particles: Particles, checkpoint: Checkpoint, options: PredictionOptions
) -> Stream[Step, Particles]:
    """The particles with the rotations that a network tells, batch by batch."""
    device = options.compute.chosen()
    network = checkpoint.network(device)
    words = f"Predicting on {device_words(device)}"
    yield Step(0, len(particles), words)
    parts = _parts(particles.positions, options.batch)
    answers: list[Answer] = []
    for first in range(0, len(parts), worker_count()):
        answer = partial(_answer, network, tomogram, options=options, device=device)
        answers += in_parallel(answer, parts[first : first + worker_count()], device=device)
        yield Step(min(options.batch * len(answers), len(particles)), len(particles), words)
    return _filled(particles, answers)


Teller = Callable[[Particles], Particles]
"""Tells the poses of a few particles of one tomogram at once, in milliseconds; only their patches are read."""


@single_threaded_steps
def prepare(
    tomogram: Tomogram,
    particles: Particles,
    checkpoint: Checkpoint,
    options: PredictionOptions = _USUAL,
    *,
    known: bool = False,
) -> Stream[Step, Teller]:
    """What predicts single picks of a tomogram, as `predict` does many.

    A checkpoint of kind ``bank`` learns the tomogram from its particles first, once.

    Parameters
    ----------
    particles : what a bank learns wedge and noise from; their rotations are not looked at.
    known : whether a bank shall begin from the rotations that it is given later too, to refine them.

    Raises
    ------
    InputError
        If the device is missing, or a bank has no particles to learn from; later, if a pick lies outside the tomogram.
    """
    if checkpoint.kind == "bank":
        return (yield from _prepared_bank(tomogram, particles, checkpoint.bank(), options, known=known))
    device = options.compute.chosen()
    yield Step(0, 1, f"Waking {checkpoint.name} on {device_words(device)}")
    network = checkpoint.network(device)

    @single_threaded()
    def tell(picks: Particles) -> Particles:
        check_inside(picks, tomogram.extent, name=tomogram.name)
        answer = partial(_answer, network, tomogram, options=options, device=device)
        return _filled(picks, in_parallel(answer, _parts(picks.positions, options.batch), device=device))

    return tell


def _prepared_bank(
    tomogram: Tomogram, particles: Particles, reference: ReferenceMap, options: PredictionOptions, *, known: bool
) -> Stream[Step, Teller]:
    finder = yield from prepare_finder(
        tomogram,
        particles,
        reference.density,
        voxel_size=reference.voxel_size,
        group=reference.group,
        options=options.refinement(reference),
    )

    def tell(picks: Particles) -> Particles:
        asked = picks if known else picks.replace(rotations=None)
        return _calibrated(refine_with(finder, tomogram, asked), reference)

    return tell


def provenance(checkpoint: Checkpoint, options: PredictionOptions = _USUAL, *, count: int, reference: str = "") -> str:
    """Where predicted poses come from, in one line for the head of a file: program, network, what it learnt, options.

    Both doors write this line; it holds no date and no device, so that the same poses give the same bytes.

    Parameters
    ----------
    count : particles predicted, which decide what the precision ``auto`` means.
    reference : name of the map that an mlp's rotations were refined with, if any.
    """
    from napari_orient import __version__

    learnt = f", data {checkpoint.card['fingerprint']}" if "fingerprint" in checkpoint.card else ""
    line = f"napari-orient {__version__}: predicted by {checkpoint.name} ({checkpoint.kind}){learnt}"
    if checkpoint.kind != "bank":
        line += f"; picks {options.centring}"
    if checkpoint.kind == "bank" or reference:
        precision = options.effort.precision_for(count, options.compute.chosen())
        line += f"; refined against {reference}, {precision}" if reference else f"; {precision}"
    return line


def _parts(positions: np.ndarray, batch: int) -> list[np.ndarray]:
    """The positions in batches, in order."""
    return [positions[row : row + batch] for row in range(0, len(positions), batch)]


def _answer(
    network: Network, tomogram: Tomogram, positions: np.ndarray, *, options: PredictionOptions, device: torch.device
) -> Answer:
    patches = cut_patches(
        tomogram, positions, side=network.patch_side, voxel_size=network.patch_voxel_size, centring=options.centring
    )
    return network.answer(torch.from_numpy(patches).to(device))


def _filled(particles: Particles, answers: list[Answer]) -> Particles:
    rotations = torch.cat([answer.rotations for answer in answers]).double().cpu().numpy()
    errors = [answer.expected_error_deg for answer in answers if answer.expected_error_deg is not None]
    shifts = [answer.shifts for answer in answers if answer.shifts is not None]
    moved = torch.cat(shifts).double().cpu().numpy() if shifts else 0.0
    expected = torch.cat(errors).double().cpu().numpy() if errors else None
    return particles.replace(
        positions=particles.positions + moved,
        rotations=rotations,
        expected_error_deg=expected,
        confidence=None if expected is None else within_from_rms(expected, 20),
    )

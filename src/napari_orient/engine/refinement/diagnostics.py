"""Warnings from the patches themselves: template, hand, missing wedge or contrast look wrong.

Each check has one statistic and one threshold: the axis of the wedge found, the sign of the contrast, the median
expected error, the median score beside that of noise, the evidence for the hand (`hand_evidence`), the density that
the residuals of all particles have in common, and the particles' size. As far as the hand may be wrong, or the
particles score little more than noise, the poses are wrong: `Diagnosis.p_template` says so, and every probability is
multiplied by it.

The size: a voxel size that is 5 % too large in a tomogram's header makes everything 5 % larger in Å. Poses hardly
suffer, but positions and maps do. With the template scaled by s about its origin, ρ(x / s), its transform is T(s k) up
to a factor that the amplitude takes up. The poses found are fitted anew at five scales; the log-likelihood gains of the
same particles are compared, and a parabola through the best scale and its neighbours gives the size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.gridding import Gridding
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.hand_evidence import hand_evidence
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.residuals import residuals
from napari_orient.engine.streams import Note, Step, Stream, stoppable

_SAMPLE = 32
"""Patches that are checked, at most."""
_LEAST_FOR_RESIDUAL = 8
"""Patches from which the residuals are averaged."""
_SIGNIFICANT = 3.0
"""Standard errors from which a difference counts."""
_P_DETERMINED = 0.95
"""Probability from which the hand is determined; chosen."""
_UNCERTAIN_DEG = 20.0
"""Degrees, median expected error from which the template hardly determines the poses."""
_COARSE = 0.4
"""Radii of the reference: residuals are compared in detail no finer than that, which any good reference has right."""
_MOST_RESIDUAL = 0.1
"""Power that residuals have in common, over that of the reference, from which it is another molecule; chosen."""
_ABOVE_NOISE = 2.0
"""Standard deviations of the noise's scores that the median score must lie above their mean. Measured with the shipped
templates: white noise 0.5; the proteasome on ribosomes 1.7; weak real ribosomes 1.8 to 5.7; PolNet's own 6 to 25."""
_P_AT_THRESHOLD = 0.5
"""Probability that the template is the right one where the median score is just above noise; less below. Chosen: of
simulated ribosomes that scored so, 14 % came within 20° where the scores alone said 34 %."""
_WRONG_HAND = (
    "the mirror image of the template matches better than the template itself: is its hand right, and is it the right "
    "molecule?"
)
_UNDETERMINED_HAND = (
    "the hand of this template is not determined here (right with {:.0%}): its mirror image matches about as well. "
    "Compare both hands over all tomograms (mirror auto)."
)
_SPHERE_OVER_WEDGE = 1.5
"""Coefficients of a whole sphere over those of a wedge of ±60°: rotated patches fill the sphere."""


@dataclass(frozen=True)
class Diagnosis:
    """What looks wrong.

    Parameters
    ----------
    warnings : one for each thing.
    p_template : probability that the template is the right one, 1 where nothing speaks against it.
    """

    warnings: tuple[Note, ...]
    p_template: float


@torch.no_grad()
def diagnostics(
    finder: PoseFinder, patches: Tensor, prior: RotationPrior | None = None, *, template: bool = True
) -> Stream[Step, Diagnosis]:
    """What looks wrong with reference, hand, wedge or contrast.

    Parameters
    ----------
    patches : (N, n, n, n) of the tomogram that the finder was made for; a few dozen of them are checked.
    prior : of their rotations.
    template : whether to look at the template's hand, molecule and size too.
    """
    some = patches[:_SAMPLE]
    yield Step(0, 3, "Checking the template")
    poses = finder.find(some, prior=None if prior is None else prior.take(slice(0, _SAMPLE)))
    low, p_template = _low_score(finder, poses)
    mismatches = [low]
    if template and not low:
        mismatches, p_template = yield from _wrong_map(finder, some, poses)
    lines = [_other_axis(finder), _inverted_contrast(finder), _uncertain(poses), *mismatches]
    return Diagnosis(tuple(Note(line, "warning") for line in lines if line), p_template)


def _wrong_map(finder: PoseFinder, patches: Tensor, poses: Poses) -> Stream[Step, tuple[list[str], float]]:
    """Warnings of hand, molecule and size, and the probability that the poses are not wrong by the hand.

    What another one explains is not warned of: the mirror image lacks density too, and particles of another molecule
    fit better at another size.
    """
    step = Step(1, 3, "Checking the template's hand")
    yield step
    # Hand and voxel size are those of the microscope and of the reconstruction: where another tomogram, acquired alike,
    # shows them to be right, they are here.
    shown = finder.alike and finder.acquisition is not None and finder.acquisition.sound
    evidence = None if shown else (yield from stoppable(hand_evidence(finder, patches), step))
    p_poses = 1.0 if evidence is None else evidence.p_poses
    yield Step(2, 3, "Checking the residuals")
    if p_poses < 1 - _P_DETERMINED:
        return [_WRONG_HAND], p_poses
    hand = _UNDETERMINED_HAND.format(p_poses) if p_poses <= _P_DETERMINED else ""
    molecule = _other_molecule(finder, patches, poses)
    size = "" if shown or hand or molecule else _other_size(finder, patches, poses)
    return [molecule, hand, size], p_poses


def _other_axis(finder: PoseFinder) -> str:
    used, found = finder.geometry.wedge, finder.geometry.found
    if found is None or (used.complete and found.complete) or used.same_axis(found):
        return ""
    given = "none" if used.complete else used.axis_words
    return f"the missing wedge of the patches is {found.words}, but the axis given is {given}. Check the tilt axis."


def _inverted_contrast(finder: PoseFinder) -> str:
    if finder.particles_dark:
        return ""
    return (
        "particles are brighter than their surroundings here, which cryo-tomograms seldom show: "
        "is the contrast inverted?"
    )


def _uncertain(poses: Poses) -> str:
    expected = float(poses.expected_error_deg.median())
    if expected < _UNCERTAIN_DEG:
        return ""
    return (
        f"the median expected error is {expected:.0f}°: this template hardly determines these particles' poses. "
        "Of another species, it may be corrected by many of them (rounds 3)."
    )


def _low_score(finder: PoseFinder, poses: Poses) -> tuple[str, float]:
    """A warning, empty where the scores are those of particles, and the probability that the template is right."""
    noise, median = finder.detection, float(poses.local_score.median())
    if noise is None or median > noise.noise + _ABOVE_NOISE * noise.noise_spread:
        return "", 1.0
    above = max(0.0, (median - noise.noise) / (_ABOVE_NOISE * noise.noise_spread))
    text = (
        f"the median score is {median:.1f} where noise alone reaches {noise.noise:.1f}: either these particles are "
        "another molecule, or the noise hides them. Check the template, its voxel size, and the picks."
    )
    return text, _P_AT_THRESHOLD * above


def _other_size(finder: PoseFinder, patches: Tensor, poses: Poses) -> str:
    found = size_evidence(finder, patches, poses)
    return found.text(finder.model.voxel_size) if found is not None and found.differs else ""


def _other_molecule(finder: PoseFinder, patches: Tensor, poses: Poses) -> str:
    if len(patches) < _LEAST_FOR_RESIDUAL:
        return ""
    model = finder.full_model.within(_COARSE * finder.reference.radius)
    share, error = residual_power(finder.reference, model, patches, poses)
    if share < _MOST_RESIDUAL or share < _SIGNIFICANT * error:
        return ""
    return (
        f"the particles have density in common that this template lacks, {share:.0%} of what it explains: "
        "is it the right molecule? Average them to see what they are; of another species, let them correct it (refine, "
        "rounds 3)."
    )


@torch.no_grad()
def residual_power(reference: Reference, model: ForwardModel, patches: Tensor, poses: Poses) -> tuple[float, float]:
    """Power that residuals have in common, over that of the reference, and its standard deviation if there is none.

    The residual of each patch is rotated back to the reference's frame and averaged, in two halves of the particles.
    Noise and neighbours differ between the halves; what correlates is density that the reference lacks.

    Parameters
    ----------
    model : of the tomogram, all coefficients.
    patches : (N, n, n, n), at least two.
    poses : the reference's in them.
    """
    residual = residuals(reference, model, patches, poses)
    halves = [Gridding(model.box, model.voxel_size) for _ in range(2)]
    for number, half in enumerate(halves):
        half.add(residual.take(torch.arange(number, len(patches), 2)))
    (first, weight), (second, other) = (half.sums() for half in halves)
    filled = (weight * other) > 0
    both = (weight * other)[filled].sqrt()
    common = float(((first * second.conj()).real[filled] / both).sum())
    power = reference.to("cpu").transform(halves[0].frequency[filled]).abs().square()
    explained = float((both * power).sum() * poses.amplitude.square().mean())
    deviation: float = (_SPHERE_OVER_WEDGE * len(model.indices) / 2) ** 0.5
    return common / explained, 2 * deviation / explained


# --- size -------------------------------------------------------------------------------------------------------------

SCALES = (0.95, 0.98, 1.0, 1.02, 1.05)
"""Scales that are tried; a voxel size that is further off is outside what poses of the unscaled template reach."""
_LEAST = 4
"""Particles from which sizes are compared."""
_LIKELY = 0.5
"""Probability that a pose is right from which it counts; chosen."""
_SIGNIFICANT_GAIN = 3.0
"""Standard errors by which the gain at another scale must be greater."""
_LEAST_DIFFERENCE = 0.025
"""Difference from 1 that is warned of: a microscope's pixel size is seldom calibrated to better than 2 %; chosen."""
_STEPS = 3
"""Gauss-Newton steps at each scale."""


@dataclass(frozen=True)
class SizeEvidence:
    """The scale at which particles fit a template best.

    Parameters
    ----------
    scale : size of the particles over that of the template, in the tomogram's Å.
    ratio : mean log-likelihood gain there over that of the unscaled template.
    standard_errors : by which it is greater, particle by particle.
    """

    scale: float
    ratio: float
    standard_errors: float

    @property
    def differs(self) -> bool:
        """Whether the particles are of another size than the template, beyond chance."""
        return self.standard_errors > _SIGNIFICANT_GAIN and abs(self.scale - 1) > _LEAST_DIFFERENCE

    def text(self, voxel_size: float) -> str:
        """A warning to a person whose tomogram says that its voxels have such a size in Å."""
        return (
            f"the particles fit this template better at {self.scale:.2f} times its size ({self.ratio:.2f} times its "
            f"log-likelihood gain): is the voxel size of {voxel_size:.4g} Å right? {voxel_size / self.scale:.4g} Å "
            "would fit. Rotations hardly suffer, positions and maps do."
        )


@torch.no_grad()
def size_evidence(finder: PoseFinder, patches: Tensor, poses: Poses) -> SizeEvidence | None:
    """What patches (N, n, n, n) in the poses found say of the particles' size; None of too few.

    Parameters
    ----------
    poses : with shifts from the patches' centres, on any device.
    """
    rows = (finder.p_false(poses) < 1 - _LIKELY).logical_and(poses.p_right > _LIKELY).nonzero().squeeze(1)
    if len(rows) < _LEAST:
        return None
    poses, patches, size = poses.take(rows), patches[rows.to(patches.device)], finder.model.voxel_size
    model = finder.model.within(finder.reference.resolution * SCALES[-1])
    voxels = torch.round(poses.shifts / size)
    observed = model.observe(patches, voxels.to(patches.device))
    rotations, shifts = poses.rotations.to(patches.device), (poses.shifts - voxels * size).to(patches.device)
    gains = torch.stack(
        [
            fit_poses(
                scaled(finder.reference, scale), model, observed, rotations=rotations, shifts=shifts, steps=_STEPS
            ).log_likelihood_gain
            for scale in SCALES
        ]
    ).cpu()
    best, unscaled = int(gains.mean(1).argmax()), SCALES.index(1.0)
    difference = gains[best] - gains[unscaled]
    error = float(difference.std() / len(difference) ** 0.5)
    return SizeEvidence(
        scale=_vertex(gains.mean(1), best),
        ratio=float(gains[best].mean() / gains[unscaled].mean().clamp_min(1e-9)),
        standard_errors=float(difference.mean()) / error if error > 0 else 0.0,
    )


def scaled(reference: Reference, scale: float) -> Reference:
    """The reference of the map ρ(x / scale), up to a factor."""
    x, y, z = reference.centre
    return replace(
        reference,
        spacing=reference.spacing / scale,
        radius=reference.radius * scale,
        resolution=reference.resolution * scale,
        centre=(x * scale, y * scale, z * scale),
    )


def _vertex(gain: Tensor, best: int) -> float:
    """Where the parabola through the best scale and its neighbours is greatest; the best itself at an end."""
    if best in (0, len(SCALES) - 1):
        return SCALES[best]
    x = torch.tensor(SCALES[best - 1 : best + 2], dtype=torch.float64)
    powers = torch.stack([x.square(), x, torch.ones_like(x)], dim=1)
    square, line, _ = torch.linalg.solve(powers, gain[best - 1 : best + 2].double()).tolist()
    return -line / (2 * square) if square < 0 else SCALES[best]

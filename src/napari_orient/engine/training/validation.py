"""What is kept apart from training, and what it shows: the split of labelled tomograms, and the errors on one part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from napari_orient.engine.networks.network import Network
from napari_orient.engine.particles import FloatArray, Labelled
from napari_orient.engine.streams import Step
from napari_orient.engine.templates import Template


def split(labelled: Labelled, *, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and validation parts: whole tomograms, about this share of them to validate, at least one.

    A lone tomogram is cut at a plane across x instead, so that the parts share as few neighbours as can be.
    """
    if len(labelled) == 1:
        tomogram, particles = labelled[0]
        far = particles.positions[:, 0] > np.quantile(particles.positions[:, 0], 1 - share)
        return [(tomogram, particles.take(~far))], [(tomogram, particles.take(far))]
    order = np.random.default_rng(seed).permutation(len(labelled))
    count = min(max(1, round(share * len(labelled))), len(labelled) - 1)
    chosen = set(order[:count].tolist())
    parts = ([labelled[i] for i in range(len(labelled)) if (i in chosen) is wanted] for wanted in (False, True))
    training, validation = parts
    return training, validation


def fingerprint(labelled: Labelled) -> str:
    """Sixteen hexadecimal digits that change with any tomogram's name or size, position or rotation."""
    digest = hashlib.sha256()
    for tomogram, particles in labelled:
        digest.update(f"{tomogram.name} {tomogram.extent}".encode())
        digest.update(np.round(particles.positions, 3).tobytes())
        digest.update(np.round(particles.required_rotations(), 5).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ValidationErrors:
    """True errors of N validation particles, and the errors predicted for them, before calibration.

    Parameters
    ----------
    errors_deg : (N,) modulo the symmetry.
    predicted_deg : (N,) a network's spread over half-turned copies; of a template, what the noise leaves.
    axis_errors_deg : (N,) errors of the symmetry's main axis; None where there is no symmetry.
    """

    errors_deg: FloatArray
    predicted_deg: FloatArray
    axis_errors_deg: FloatArray | None = None

    @property
    def mean_deg(self) -> float:
        """Mean error."""
        return float(self.errors_deg.mean())

    @property
    def median_deg(self) -> float:
        """Median error."""
        return float(np.median(self.errors_deg))

    def figures(self) -> dict[str, float]:
        """Median and mean, as a model's card has them."""
        return {"validation_median_deg": self.median_deg, "validation_mean_deg": self.mean_deg}


@dataclass(frozen=True)
class Milestone(Step):
    """A stretch of training that was validated, with the best model so far: Stop loses nothing.

    Parameters
    ----------
    validation_median_deg, validation_mean_deg : error on the validation part, degrees.
    model : the best so far.
    """

    validation_median_deg: float
    validation_mean_deg: float
    model: Network | Template

"""Denoisers of whole tomograms that the program does not have itself: non-local means, and what a network leaves."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import restoration

_NLM = {"patch_size": 3, "patch_distance": 3, "fast_mode": True}
"""Voxels of the patches that non-local means compares, and how far it searches for their like."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""
_NLM_STRENGTH = 0.8
"""Cut-off of the distance between patches, over the noise's deviation: skimage's advice for its fast mode."""
_TV_WEIGHT = 0.5
"""Weight of the total variation that the missing wedge is filled from, over the filtered density's deviation."""
_EMPTY = 0.1
"""Power over that of its shell below which a coefficient is in the missing wedge, as in `networks.tomogram_input`."""
_FILLED = 0.5
"""Share of the total variation's coefficients that the wedge is filled with."""


def non_local_means(density: np.ndarray) -> np.ndarray:
    """A density (Z, Y, X) after non-local means."""
    # Of the difference between neighbours, by the median: particles and membranes hardly count.
    deviation = float(np.median(np.abs(np.diff(density, axis=2)))) * _MAD_TO_SD / 2**0.5
    found = restoration.denoise_nl_means(density, h=_NLM_STRENGTH * deviation, sigma=deviation, **_NLM)
    return np.asarray(found, np.float32)


def network_like(density: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """What a network that learnt to denoise makes of a density (Z, Y, X): Wiener's filter by the true ratio of signal
    to noise, shell by shell, as networks trained on half tomograms approach it (Buchholz et al. 2019), and the missing
    wedge half filled by an edge-preserving prior (compare IsoNet, Liu et al. 2022).
    """
    spectrum, true = np.fft.rfftn(density), np.fft.rfftn(signal)
    z, y, x = np.meshgrid(*map(np.fft.fftfreq, density.shape[:2]), np.fft.rfftfreq(density.shape[2]), indexing="ij")
    shell = np.rint(np.sqrt(z**2 + y**2 + x**2) * max(density.shape)).astype(int)
    count = np.bincount(shell.ravel())
    power, true_power, noise = (
        np.bincount(shell.ravel(), np.abs(part.ravel()) ** 2) / count for part in (spectrum, true, spectrum - true)
    )
    filtered = spectrum * (true_power / np.maximum(true_power + noise, 1e-12))[shell]
    smooth = np.fft.irfftn(filtered, s=density.shape, axes=(0, 1, 2))
    edges = restoration.denoise_tv_chambolle(smooth, weight=_TV_WEIGHT * float(smooth.std()))
    ratio = ndimage.uniform_filter(np.abs(spectrum) ** 2, 3) / power[shell]
    filled = np.where(ratio < _EMPTY, filtered + _FILLED * np.fft.rfftn(edges), filtered)
    return np.asarray(np.fft.irfftn(filled, s=density.shape, axes=(0, 1, 2)), np.float32)

"""What tomograms acquired alike have in common: from the second on, a model begins from that of the first.

Gain, noise and the filters of the search depend on microscope, tilt scheme, reconstruction and specimen: they are alike
in the tomograms of a data set. The shifts of the tilt images, the level of the noise and the poses are each tomogram's
own. So a further tomogram takes the first one's transfer, filters, and scores of noise, brings gain and noise to its
own power, and estimates them anew in one round. Whether it was acquired alike is asked of the tomogram itself: its
missing wedge, its transfer, and in every shell of frequency the power of its patches beside the first one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.search import MatchedFilterSearch
from napari_orient.engine.model.forward import ForwardModel, cropped
from napari_orient.engine.model.noise import mean_power, window
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.refinement.transfer_choice import series_with_ctf
from napari_orient.engine.tilt_geometry import TiltGeometry

_SAMPLE = 24
"""Patches that the power is taken from, at most: a shell of 30 coefficients is then known to 8 %."""
_FIRST_SHELL = 2
"""Coefficients from the origin from which the power is compared; nearer, there are a handful of them, and ramps."""
_MOST_LOG_RATIO = 1.0
"""Largest logarithm of the power over the first tomogram's, in any shell, of one acquired alike: a factor of 2.7.
PolNet's four, at SNR 1.0 to 1.9, differ by up to 0.63; simulated ones with a CTF and without by 3 to 4."""
_SAME_WEDGE_DEG = 4.0
"""Largest difference of axis, level and either end of the tilts, degrees, of wedges that are one; a patch's own power
shows them to 1 or 2."""
_SAME_SHAPE = 0.1
"""Root mean square difference of transfers, whose largest values are 1, that are one; 0.1 µm of defocus make 0.05 to
0.15. Chosen."""
_SAME_VOXELS = 1e-4
"""Relative difference of voxel sizes that are one: frequencies are then the same to a thousandth of a coefficient."""


@dataclass(frozen=True, eq=False)
class Acquisition:
    """The model of a tomogram, as far as others acquired alike have it too.

    Parameters
    ----------
    radius : of the reference, Å.
    options : that it was estimated with.
    geometry : how the tomogram was tilted.
    transfer : how it was corrected for its CTF.
    model : of the tomogram, whose coefficients the filters are made of.
    search : by matched filters.
    power : (n, n, n) mean power of its patches.
    noise_scores : (K,) scores that noise alone reaches in the search.
    particles_dark : whether particles are darker than their surroundings.
    sound : whether nothing looked wrong with the template: its hand need not be compared again.
    """

    radius: float
    options: RefinementOptions
    geometry: TiltGeometry
    transfer: Transfer
    model: ForwardModel
    search: MatchedFilterSearch
    power: Tensor
    noise_scores: Tensor
    particles_dark: bool
    sound: bool = True

    @property
    def resolution(self) -> float:
        """Finest detail of the model, Å."""
        return 1 / float(self.model.frequency.norm(dim=1).max())

    def same_coefficients(self, model: ForwardModel) -> bool:
        """Whether a forward model has the coefficients of this one, so that filters of this one serve it."""
        return torch.equal(model.indices, self.model.indices)

    def is_of(self, patches: Tensor, *, geometry: TiltGeometry, voxel_size: float, options: RefinementOptions) -> bool:
        """Whether a tomogram was acquired alike.

        Parameters
        ----------
        patches : (N, n, n, n) of the tomogram.
        geometry : how it was tilted.
        """
        same = abs(voxel_size / self.model.voxel_size - 1) < _SAME_VOXELS and options == self.options
        if not same or patches.shape[-1] < self.model.box:
            return False
        if not _same_wedge(self.geometry.wedge, geometry.wedge) or not self._same_transfer(geometry):
            return False
        power = patch_power(patches, self.radius, box=self.model.box, voxel_size=voxel_size)
        return bool(np.abs(self._log_power_ratio(power)).max() < _MOST_LOG_RATIO)

    def _same_transfer(self, geometry: TiltGeometry) -> bool:
        """Whether the other tomogram's tilts, defocus and dose give the transfer of this one."""
        series = series_with_ctf(geometry, self.options.ctf)
        if self.transfer.series is None or series is None or not series.has_transfer or self.transfer.rise_only:
            # What is known of neither, or a guess from the particles of the first.
            return series is None or not series.has_transfer
        frequency, noise = self.model.frequency.cpu(), self.model.whitening.abs().square().reciprocal().cpu()
        spacing = 1 / (self.model.box * self.model.voxel_size)
        own, other = (
            item.shape(frequency, noise, spacing) for item in (self.transfer, replace(self.transfer, series=series))
        )
        return float((own - other).square().mean().sqrt()) < _SAME_SHAPE

    def _log_power_ratio(self, power: Tensor) -> np.ndarray:
        """Logarithm of a mean power (n, n, n) over this one's, in every shell from `_FIRST_SHELL` on."""
        x, y, z = self.model.indices.cpu().unbind(1)
        shell = self.model.indices.cpu().float().norm(dim=1).round().long()
        own, other = (torch.bincount(shell, item[z, y, x].double())[_FIRST_SHELL:] for item in (self.power, power))
        return np.asarray((other / own.clamp_min(1e-30)).clamp_min(1e-30).log())


def patch_power(patches: Tensor, radius: float, *, box: int, voxel_size: float) -> Tensor:
    """Mean power (n, n, n) of some of the patches about their middle, in a box of so many voxels; on the CPU."""
    some = patches[evenly_spaced_rows(len(patches), _SAMPLE)]
    return mean_power(cropped(some, box), window(box, voxel_size, radius))


def _same_wedge(first: Wedge, second: Wedge) -> bool:
    if first.complete or second.complete:
        return first.complete and second.complete
    one, other = first.canonical, second.canonical
    differences = (
        one.axis_deg - other.axis_deg,
        one.low_deg - other.low_deg,
        one.high_deg - other.high_deg,
        one.level_deg - other.level_deg,
    )
    return max(map(abs, differences)) <= _SAME_WEDGE_DEG

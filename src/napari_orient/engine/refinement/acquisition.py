"""What tomograms acquired alike have in common: from the second on, a model begins from that of the first.

Gain, noise and the filters of the search depend on microscope, tilt scheme, reconstruction and specimen: they are alike
in the tomograms of a data set. The shifts of the tilt images, the level of the noise and the poses are each tomogram's
own. So a further tomogram takes the first one's template, transfer, filters, and scores of noise, begins from its gain,
brought to its own power, and estimates gain and noise anew in one round. Whether it was acquired alike is asked of the
tomogram itself: its missing wedge, its transfer, and in every shell of frequency the power of its patches beside the
first one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.search import MatchedFilterSearch
from napari_orient.engine.model.forward import ForwardModel, cropped
from napari_orient.engine.model.noise import mean_power, window
from napari_orient.engine.model.reference import Reference, ReferenceParts
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.refinement.transfer_choice import series_with_ctf
from napari_orient.engine.tomogram.prewhitening import Prewhitening
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

_SAMPLE = 24
"""Patches that the power is taken from, at most: a shell of 30 coefficients is then known to 8 %."""
_FIRST_SHELL = 2
"""Coefficients from the origin from which the power is compared; nearer, there are a handful of them, and ramps."""
LOWEST_COEFFICIENTS = 32
"""Coefficients nearest the origin whose mean shows the contrast: a CTF is positive there."""
_MOST_LOG_RATIO = 1.0
"""Largest logarithm of the power over the first tomogram's, in any shell, of one acquired alike: a factor of 2.7.
PolNet's four, at SNR 1.0 to 1.9, differ by up to 0.57, six simulated ones of other seeds by 0.73, six real-like ones by
0.45; with 1.7 to 2 times the noise 0.7 to 1.6, which does no harm; with a CTF and without 3 to 5."""
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
    reference, parts : the template, and its parts (`overdispersion`), None where they were not asked for.
    options : that it was estimated with.
    geometry : how the tomogram was tilted.
    transfer : how it was corrected for its CTF.
    model : of the tomogram, whose coefficients the filters are made of, without the shifts of its tilt images.
    search : by matched filters.
    power : (n, n, n) mean power of its patches.
    noise_scores : (K,) scores that noise alone reaches in the search.
    mean : (2, L) mean of its patches' lowest coefficients, as the model observes them: positive contrast.
    particles_dark : whether particles are darker than their surroundings.
    prewhitening : what its patches were levelled by; None where its power does not fall steeply.
    sound : whether nothing looked wrong with the template: its hand need not be compared again.
    """

    reference: Reference
    parts: ReferenceParts | None
    options: RefinementOptions
    geometry: TiltGeometry
    transfer: Transfer
    model: ForwardModel
    search: MatchedFilterSearch
    power: Tensor
    noise_scores: Tensor
    mean: Tensor
    particles_dark: bool
    prewhitening: Prewhitening | None = None
    sound: bool = True

    def same_template(self, *, voxel_size: float, options: RefinementOptions) -> bool:
        """Whether the template's tables serve a tomogram of such voxels too."""
        return abs(voxel_size / self.model.voxel_size - 1) < _SAME_VOXELS and options == self.options

    def same_prewhitening(self, found: Prewhitening | None) -> bool:
        """Whether a tomogram with the same template, whose own filter this is, may be levelled by the first one's."""
        if self.prewhitening is None or found is None:
            return self.prewhitening is found
        return self.prewhitening.range_over(found) < _MOST_LOG_RATIO

    def model_of(
        self, patches: Tensor, *, geometry: TiltGeometry, voxel_size: float, options: RefinementOptions
    ) -> ForwardModel | None:
        """The first tomogram's model, its noise brought to the power of another one's; None of one acquired otherwise.

        Parameters
        ----------
        patches : (N, n, n, n) of the other tomogram.
        geometry : how it was tilted.
        """
        if not self.same_template(voxel_size=voxel_size, options=options) or patches.shape[-1] < self.model.box:
            return None
        if not _same_wedge(self.geometry.wedge, geometry.wedge) or not self._same_transfer(geometry):
            return None
        power = patch_power(patches, self.reference.radius, box=self.model.box, voxel_size=voxel_size)
        ratio = self._log_power_ratio(power)
        if float(np.abs(ratio).max()) >= _MOST_LOG_RATIO:
            return None
        shell = (self._shell - _FIRST_SHELL).clamp(0, len(ratio) - 1)
        factor = torch.as_tensor(np.exp(-ratio / 2), dtype=torch.float32)[shell].to(patches.device)
        model = self.model
        return replace(model, whitened_gain=model.whitened_gain * factor, whitening=model.whitening * factor)

    def same_contrast(self, model: ForwardModel, patches: Tensor, voxels: Tensor) -> bool:
        """Whether particles stand out from their surroundings as the first tomogram's do.

        Parameters
        ----------
        model : by `model_of`.
        patches, voxels : (N, n, n, n), and (N, 3) from their centres to the particles'.
        """
        return float((mean_of_lowest(model, patches, voxels) * self.mean).sum()) > 0

    @property
    def _shell(self) -> Tensor:
        """The shell of frequency that each coefficient lies in, (M,)."""
        shell: Tensor = self.model.indices.cpu().float().norm(dim=1).round().long()
        return shell

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
        own, other = (
            torch.bincount(self._shell, item[z, y, x].double())[_FIRST_SHELL:] for item in (self.power, power)
        )
        return np.asarray((other / own.clamp_min(1e-30)).clamp_min(1e-30).log())


def mean_of_lowest(model: ForwardModel, patches: Tensor, voxels: Tensor) -> Tensor:
    """Mean of the lowest coefficients of patches about their particles, (2, L), as a model observes them; on the CPU.

    Parameters are those of `Acquisition.same_contrast`.
    """
    return model.lowest(LOWEST_COEFFICIENTS).observe(patches, voxels).mean(0).cpu()


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

"""Input of the mixture network: patches of a tomogram, whitened; its contrast and size estimated, its hand checked.

Patches are whitened by the mean power spectrum that the picks of a tomogram have in common. That takes out what differs
between tomograms and says nothing of the pose: the magnitude of the contrast transfer, B-factors, dose damping, the
reconstruction's weighting, the colour of the noise. What is left of them is the ratio of signal to noise at each
frequency, and the signs of the contrast transfer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import offsets, soft_ball
from napari_orient.engine.model.noise import radial_level
from napari_orient.engine.networks.average_score import PosedPatches, PoseEvidence, joined_patches
from napari_orient.engine.networks.directional_power import DirectionalPower
from napari_orient.engine.networks.mixture import BestPoses, PoseMixture
from napari_orient.engine.networks.view_variability import ViewVariability, wedge_axes
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.streams import Note, Step, Stream
from napari_orient.engine.tomogram.prewhitening import levelled

_MOST = 256
"""Picks, at most, that the whitening is estimated from: its power is then known to 1 % in every shell."""
_BATCH = 32
"""Patches cut and transformed together; bounds memory only."""
_SAMPLE = 32
"""Picks, at most, that contrast and hand are checked with."""
_SIGNIFICANT = 3.0
"""Standard errors from which one contrast, or hand, is better than the other."""
_LEAST_DIFFERENCE = 2.0
"""Log-odds a pick by which the other contrast must be better, at least; chosen: one pick has no standard error."""
_AVERAGED = 64
"""Picks, at most, whose patches are averaged in the poses found: twice as many say hardly more of the others."""
_SCALES = (1 / 1.05, 1.05)
"""Sizes of the particles, beside their own, at which log-odds are compared; it learnt from sizes within 2.5 %."""
_LEAST_SIZE_DIFFERENCE = 0.5
"""Log-odds a pick by which another size must be better, at least; chosen. Of simulated ribosomes with a voxel size 5 %
too large it is 0.8 to 1.0, with the right one -0.3 to -0.1."""
_LEAST_FOR_SIZE = 4
"""Picks from which sizes are compared; as of a template (`refinement.diagnostics`)."""
_UNSURE = 0.5
"""Median probability of a right pose below which a warning says so; chosen."""
_DOUBTFUL = 0.1
"""Share of poses that are likely wrong from which a warning says how many are; chosen."""
_CROSSED = 0.2
"""Share of picks with a direction that is strong in their patch alone from which that warning speaks of gold. Without
gold and membranes there is hardly one; beside few large beads a fifth to a half."""


@dataclass(frozen=True, eq=False)
class TomogramInput:
    """How patches of one tomogram become the network's input.

    Parameters
    ----------
    whitening : from the mean power of its picks.
    directions : usual power of their whitened patches by direction.
    dark : whether particles are darker than their surroundings.
    scale : size of the particles, in the tomogram's Å, over that of those it learnt from: 1 unless another fits better.
    evidence : of right poses, beside the network's own.
    variability : in what way the particles differ; None where they do not.
    notes : for a person: what looks wrong.
    """

    tomogram: Tomogram
    mixture: PoseMixture
    whitening: Whitening
    directions: DirectionalPower
    dark: bool = True
    scale: float = 1.0
    evidence: PoseEvidence = field(default_factory=PoseEvidence)
    variability: ViewVariability | None = None
    notes: tuple[Note, ...] = ()

    def spectra(self, positions: FloatArray, *, centring: str = "rounded") -> Tensor:
        """Whitened half-spectra of patches about positions (N, 3), particles bright, on the network's device."""
        patches = self.patches(positions, centring=centring)
        return self.whitening.apply(-patches if self.dark else patches)

    def best(self, spectra: Tensor, *, mirrored: bool = False) -> BestPoses:
        """The best poses of whitened half-spectra, in which directions that are strong in one patch count less."""
        weighted = self.directions.weighted(mirror_images(spectra) if mirrored else spectra)
        return self.mixture.best(mirror_images(weighted) if mirrored else weighted)

    @torch.inference_mode()
    def posed(
        self, positions: FloatArray, spectra: Tensor, *, mirrored: bool = False
    ) -> tuple[BestPoses, Tensor, PosedPatches]:
        """Poses of whitened half-spectra of patches about positions (N, 3), their errors if right, and both as posed.

        The errors (N,) are in degrees; what is posed is on the CPU. Views are of all directions alike: a particle's
        score against the average must not fall with what beside it is weighted down.

        Parameters
        ----------
        mirrored : whether these are mirror images; see `mirrored`.
        """
        found = self.best(spectra, mirrored=mirrored)
        right, error = self.mixture.calibrated(found)
        views = self.mixture.views_of(spectra, found)
        columns = (right, found.log_odds, found.rotations, views)
        return found, error, PosedPatches(positions, *(column.cpu() for column in columns))

    def mirrored(self, positions: FloatArray, *, centring: str) -> Tensor:
        """Those of the patches' mirror images; see `mirror_images`."""
        patches = self.patches(positions, centring=centring)
        whitening = replace(self.whitening, filter=mirror_images(self.whitening.filter[None])[0])
        return whitening.apply(mirror_images(-patches if self.dark else patches))

    def patches(self, positions: FloatArray, *, centring: str) -> Tensor:
        """Patches (N, n, n, n) about positions (N, 3) at the input's scale; see `patches_of`."""
        return patches_of(self.tomogram, positions, self.mixture, centring=centring, scale=self.scale)


def patches_of(
    tomogram: Tomogram,
    positions: FloatArray,
    mixture: PoseMixture,
    *,
    centring: str,
    scale: float = 1.0,
) -> Tensor:
    """Patches (N, n, n, n) about positions (N, 3) on the network's device; what is not finite is flat.

    Boxes smaller than a patch are taken: beyond them there is nothing.

    Parameters
    ----------
    scale : size of the particles in the tomogram's Å over that of those it learnt from.
    """
    options = mixture.options
    cubes = cut_patches(
        tomogram,
        positions,
        side=options.patch_side,
        voxel_size=options.patch_voxel_size * scale,
        centring=centring,
        beyond=True,
    )
    return torch.nan_to_num(torch.from_numpy(cubes), nan=0.0, posinf=0.0, neginf=0.0).to(mixture.frames.device)


def estimate_input(
    tomogram: Tomogram, picks: Particles, mixture: PoseMixture, *, centring: str = "rounded"
) -> Stream[Step, TomogramInput]:
    """Whitening and contrast of a tomogram, with warnings; a step for every batch of picks.

    Raises
    ------
    InputError
        If the tomogram is flat round every pick.
    """
    places = picks.positions[evenly_spaced_rows(len(picks), _MOST)]
    options = mixture.options
    resolution = max(options.network_resolution, _NYQUIST * tomogram.voxel_size)
    level = levelled(tomogram, places, box=options.box, resolution=resolution)
    blank = torch.zeros(0)
    found = TomogramInput(level, mixture, Whitening(blank, options), DirectionalPower(blank, options.view_side))
    found = yield from _whitened(found, places, centring=centring)
    yield Step(len(places), len(places) + 1, "Checking contrast, size and hand")
    some = picks.positions[evenly_spaced_rows(len(picks), _SAMPLE)]
    found, log_odds = _with_contrast(found, found.patches(some, centring=centring))
    scale = yield from _best_scale(found, some, log_odds, centring=centring)
    if scale != 1:
        found = yield from _whitened(replace(found, scale=scale), places, centring=centring)
        found = _noted(found, _size_text(tomogram, scale))
    found = yield from _with_evidence(found, picks.positions, centring=centring)
    yield Step(1, 1, "Estimated the tomogram's spectrum", notes=found.notes)
    return found


def _best_scale(found: TomogramInput, places: FloatArray, log_odds: Tensor, *, centring: str) -> Stream[Step, float]:
    """The size at which particles about places (N, 3) fit the network better than at their own, else 1.

    Parameters
    ----------
    log_odds : (N,) of right poses at their own size.
    """
    if len(places) < _LEAST_FOR_SIZE:
        return 1.0
    for scale in _SCALES:
        other = yield from _whitened(replace(found, scale=scale, notes=()), places, centring=centring)
        if _better(_log_odds(other, other.patches(places, centring=centring)), log_odds, least=_LEAST_SIZE_DIFFERENCE):
            return scale
    return 1.0


def _whitened(found: TomogramInput, places: FloatArray, *, centring: str) -> Stream[Step, TomogramInput]:
    """The input with the whitening by the mean power about places (N, 3); a step for every batch of them.

    Raises
    ------
    InputError
        If the tomogram is flat round every place.
    """
    tomogram, options, each = found.tomogram, found.mixture.options, list[Tensor]()
    for done, positions in _batches(places):
        yield Step(done, len(places) + 1, "Estimating the tomogram's spectrum")
        each.append(spectra_of(found.patches(positions, centring=centring), options).abs().square().cpu())
    # A flat patch has none.
    full = torch.cat([power.sum((1, 2, 3)) > 0 for power in each])
    count = int(full.sum())
    if count == 0:
        raise InputError(
            f"{tomogram.name} is flat round every particle; expected a tomogram with noise. Was it masked there, or "
            "not written to its end?"
        )
    size = tomogram.voxel_size / found.scale
    mean = sum((power.sum(0) for power in each), torch.zeros(1)) / count
    whitening = whitening_of_power(mean, count, options, tomogram_voxel_size=size)
    whitened = torch.cat(each)[full] * whitening.filter.square()
    return replace(found, whitening=whitening, directions=DirectionalPower.estimate(whitened, options))


def _batches(places: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    for start in range(0, len(places), _BATCH):
        yield start, places[start : start + _BATCH]


@torch.inference_mode()
def _log_odds(found: TomogramInput, patches: Tensor) -> Tensor:
    """Log-odds (N,) that the best pose of each patch is right."""
    return found.best(found.whitening.apply(-patches if found.dark else patches)).log_odds


def _with_contrast(found: TomogramInput, patches: Tensor) -> tuple[TomogramInput, Tensor]:
    """The input with the contrast that fits better, with a warning if particles are bright, and its log-odds (N,)."""
    dark, bright = (_log_odds(replace(found, dark=dark), patches) for dark in (True, False))
    if not _better(bright, dark):
        return found, dark
    text = (
        "particles are brighter than their surroundings here, which cryo-tomograms seldom show: is the contrast "
        "inverted?"
    )
    return _noted(replace(found, dark=False), text), bright


def _size_text(tomogram: Tomogram, scale: float) -> str:
    size = tomogram.voxel_size
    return (
        f"the particles fit this network better at {scale:.2f} times the size that it learnt, and are predicted at "
        f"that size: is the voxel size of {size:.4g} Å right? {size / scale:.4g} Å would fit."
    )


def _noted(found: TomogramInput, text: str) -> TomogramInput:
    return replace(found, notes=(*found.notes, Note(text, "warning")))


def _with_evidence(found: TomogramInput, positions: FloatArray, *, centring: str) -> Stream[Step, TomogramInput]:
    """The input with what the picks show in the poses found: whether these are right, and whether the picks differ.

    With warnings of the hand, of improbable poses, and of particles that are not all alike.
    """
    places = positions[evenly_spaced_rows(len(positions), _AVERAGED)]
    rows = evenly_spaced_rows(len(places), _SAMPLE)
    posed, power, crossed = list[PosedPatches](), torch.zeros(1), 0
    for done, some in _batches(places):
        yield Step(done, len(places) + len(rows), "Averaging particles in the poses found")
        spectra = found.spectra(some, centring=centring)
        posed.append(found.posed(some, spectra)[2])
        power = power + spectra.abs().square().sum(0).cpu()
        crossed += int(found.directions.strong(spectra).sum())
    yield Step(len(places), len(places) + len(rows), "Checking the tomogram's hand")
    sample, some = joined_patches(posed), places[rows]
    mirrored = found.posed(some, found.mirrored(some, centring=centring), mirrored=True)[2]
    if _better(mirrored.log_odds, sample.take(torch.from_numpy(rows)).log_odds):
        found = _noted(found, _HAND_TEXT)
    radius = found.mixture.options.mask_radius * found.scale
    evidence = PoseEvidence.estimate(sample, mirrored, radius=radius)
    right = evidence.p_right(sample)
    if text := _doubt_text(right, crossed / len(places)):
        found = _noted(found, text)
    mixture, axes = found.mixture, wedge_axes(power)
    variability = ViewVariability.estimate(
        sample, right, axes=axes, voxels=mixture.voxels.cpu(), options=mixture.options, radius=radius
    )
    notes = found.notes if variability is None else (*found.notes, variability.note)
    return replace(found, evidence=evidence, variability=variability, notes=notes)


def _doubt_text(right: Tensor, crossed: float) -> str:
    """What a person reads of improbable poses, given their probabilities (N,); empty where nearly all are right.

    Parameters
    ----------
    crossed : share of picks with a direction that is strong in their patch alone.
    """
    wrong, median = 1 - float(right.mean()), float(right.median())
    if wrong < _DOUBTFUL:
        return ""
    text = f"{wrong:.0%} of these poses are likely wrong, because of false picks or noise; the confidence says which."
    if median < _UNSURE:
        text = (
            f"the median probability of a right pose is {median:.0%}: this network hardly finds its molecule at these "
            "picks."
        )
    if crossed < _CROSSED:
        return text
    return (
        f"{text} Beside {crossed:.0%} of the picks are rays of gold, or a membrane: erase gold in the tilt images, "
        "before the tomogram is reconstructed."
    )


_HAND_TEXT = (
    "the mirror images of the particles fit this network better than the particles themselves: is the tomogram's hand "
    "right, and is it the right molecule?"
)


def _better(first: Tensor, second: Tensor, *, least: float = _LEAST_DIFFERENCE) -> bool:
    """Whether the first log-odds (N,) are better than the second ones, beyond chance."""
    difference = first - second
    error = float(difference.std(correction=0)) / len(difference) ** 0.5
    return bool(difference.mean() > max(_SIGNIFICANT * error, least))


def mirror_images(cubes: Tensor) -> Tensor:
    """Cubes (N, n, n, n) mirrored in the plane y = 0 through the centre voxel; half-spectra of them likewise."""
    # Voxel n // 2 stays where it is, as does frequency 0.
    return cubes.flip(2).roll(1, 2)


# --- whitening --------------------------------------------------------------------------------------------------------

_CLIP = 6.0
"""Robust standard deviations beyond which voxels are cut: gold and hot pixels, never a particle (PolNet: below 5)."""
_STRIDE = 2
"""Every second voxel along each axis gives median and deviation: 1,700 of a patch of 40³."""
_RIM = 5
"""A fifth of the side, at every face, takes no part in them: it may lie beyond a box or the tomogram."""
_MAD = 1.4826
"""Standard deviation over median absolute deviation, of normal values."""
_EDGE = 0.15
"""Soft edge of the window over half the side of the patch; the window is 0 on the faces."""
_LOWEST = 1.5
"""Frequencies below, in steps of the patch's spectrum, are left out: the mean, and gradients of the background."""
_MISSING = 0.1
"""Power over the mean of its shell at which a coefficient counts half: less is the missing wedge. Tilt series of
M. pneumoniae have 0.03 to 0.05 there, PolNet's 0.01."""
_FEW = 8
"""Patches below which the spectrum is smoothed over more coefficients."""
_BLUR = (1.0, 1.5)
"""Standard deviation of the smoothing in steps of the spectrum: of many patches, and of few."""
_NYQUIST = 2.2
"""Voxels of the tomogram in the finest detail that is used of it."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """Whitening filter of a tomogram.

    Parameters
    ----------
    filter : (m, m, m // 2 + 1), of the low-passed half-spectrum of a patch.
    options : of the network that it is for.
    """

    filter: Tensor
    options: MixtureOptions

    def apply(self, patches: Tensor) -> Tensor:
        """Whitened half-spectra (N, m, m, m // 2 + 1) of patches (N, n, n, n): noise of variance about 1."""
        return spectra_of(patches, self.options) * self.filter.to(patches.device)


def estimate_whitening(patches: Tensor, options: MixtureOptions, *, tomogram_voxel_size: float = 0.0) -> Whitening:
    """The filter from the mean power of patches (N, n, n, n) of one tomogram.

    The power is smoothed along shells, relative to their mean, so that the missing wedge stays what it is: there is
    little power in it, and the filter does not raise it.

    Parameters
    ----------
    tomogram_voxel_size : Å; detail below 2.2 of these voxels is left out.
    """
    spectra = spectra_of(patches, options)
    return whitening_of_power(
        spectra.abs().square().mean(0).cpu(), len(patches), options, tomogram_voxel_size=tomogram_voxel_size
    )


def whitening_of_power(
    power: Tensor, count: int, options: MixtureOptions, *, tomogram_voxel_size: float = 0.0
) -> Whitening:
    """The filter from the mean power (m, m, m // 2 + 1) of so many patches; see `estimate_whitening`."""
    from scipy.ndimage import gaussian_filter

    side = options.view_side
    # The whole spectrum of a power that is the same at Friedel mates.
    whole = torch.fft.fftn(torch.fft.irfftn(power, s=(side,) * 3)).real.clamp_min(0).double().numpy()
    radius = _radius(side).numpy()
    highest = options.box / max(options.network_resolution, _NYQUIST * tomogram_voxel_size)
    band = (radius >= _LOWEST) & (radius <= highest)
    level = radial_level(whole, radius, band)
    ratio = gaussian_filter(whole / level, _BLUR[0] if count >= _FEW else _BLUR[1], mode="wrap").clip(0)
    weight = band * ratio**0.5 / ((ratio + _MISSING) * level**0.5)
    return Whitening(torch.as_tensor(weight[:, :, : side // 2 + 1], dtype=torch.float32), options)


def spectra_of(patches: Tensor, options: MixtureOptions) -> Tensor:
    """Half-spectra (N, m, m, m // 2 + 1) of patches (N, n, n, n), clipped, without gradient, windowed, low-passed.

    White noise of variance 1 has power 1 at every frequency.
    """
    side, small = options.patch_side, options.view_side
    window, places = (part.to(patches.device) for part in _window(side))
    cubes = _without_gradient(_clipped(patches.float()), window, places) * window
    power = cubes.square().sum((1, 2, 3), keepdim=True)
    cubes = cubes / power.clamp_min(1e-12).sqrt()
    spectrum: Tensor = torch.fft.rfftn(cubes, dim=(1, 2, 3))
    half = small // 2
    rows = torch.cat([torch.arange(half), torch.arange(side - half, side)]).to(patches.device)
    return spectrum[:, rows][:, :, rows][..., : half + 1]


def _clipped(patches: Tensor) -> Tensor:
    """Patches at median 0 and robust deviation 1, without outliers; a flat patch becomes 0."""
    rim = patches.shape[-1] // _RIM
    inner = slice(rim, -rim, _STRIDE)
    some = patches[:, inner, inner, inner].flatten(1)
    median = some.median(1).values[:, None]
    deviation = _MAD * (some - median).abs().median(1).values[:, None]
    scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)
    shape = (-1, 1, 1, 1)
    return ((patches - median.view(shape)) * scale.view(shape)).clamp_(-_CLIP, _CLIP)


def _without_gradient(cubes: Tensor, window: Tensor, places: Tensor) -> Tensor:
    """The cubes less their mean and linear gradient under the window."""
    weighted = cubes * window
    mean = weighted.sum((1, 2, 3)) / window.sum()
    lines = [weighted.sum(axes) @ places for axes in ((1, 2), (1, 3), (2, 3))]
    norm = (window.sum((0, 1)) * places.square()).sum()
    gradient = torch.zeros_like(cubes)
    for line, shape in zip(lines, ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1)), strict=True):
        gradient += line.view(-1, 1, 1, 1) * places.view(shape) / norm
    return cubes - mean.view(-1, 1, 1, 1) - gradient


@lru_cache(maxsize=4)
def _window(side: int) -> tuple[Tensor, Tensor]:
    """A soft ball that fills a patch, (n, n, n), and the places of voxels along an axis, (n,), in voxels."""
    half, edge = side / 2, _EDGE * side / 2
    ball = soft_ball(offsets(side, 1.0).norm(dim=-1), half - 1 - edge, edge)
    return ball, torch.arange(side, dtype=torch.float32) - side // 2


@lru_cache(maxsize=4)
def _radius(side: int) -> Tensor:
    """Steps of each coefficient from the origin of a spectrum, (m, m, m)."""
    line = torch.fft.fftfreq(side, 1 / side)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    radius: Tensor = torch.stack([x, y, z]).norm(dim=0)
    return radius

"""Patches simulated in Fourier space, a few milliseconds each: a particle, its surroundings, the microscope, the noise.

A patch is y = T (a S + b C) + n. S is the particle's transform in its pose, C that of what stands around it, T the
transfer function of the tilt series in three dimensions, n the noise of the tilt images, back-projected:

    T(k) = Σ_j w_j(k) c_j(k) d_j(k) exp(2πi k·δ_j),    |n(k)|² = σ² Σ_j (w_j(k) g_j(k))²,

with the share w_j of tilt image j in the coefficient (projection-slice theorem, weighted by the ramp), its contrast
transfer c_j as it is corrected, g_j what the correction makes of noise, the damping d_j by dose, and its misalignment
δ_j. All patches of one condition share the tilt series; poses, surroundings and noise differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from napari_orient.engine.model.grid import unit_phase
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.rotations import FloatArray, random_rotations
from napari_orient.engine.simulation.microscope import correction_factor
from napari_orient.engine.templates import Template

_MARGIN = 1.2
"""Side of the box that is simulated over that of the patch, whose faces are then not periodic."""
_BEYOND = 0.95
"""Finest detail simulated over that of the network."""
_SLAB = 300.0
"""Å: a tilt image's plane is 1 / 300 Å thick in Fourier space, as the transform of a particle of that size is. This and
the other lengths are those of a mask of 130 Å, and go with its radius."""
_COARSEST = 160.0
"""Å, for a mask of 130 Å: coarser detail is not counted in the ratio of signal to noise. There the weighted
reconstruction has little noise, and much of its surroundings."""
_VARIANTS = 16
"""Maps made of the particle's: its own, and as many with density changed at random, as another species' would be."""
_CLUTTER = 400
"""Surroundings drawn in advance; each is used in all 48 rotations and reflections of the cube."""
_LENGTH = 50.0
"""Å over which the density of a changed map varies, where the mask's radius is 130 Å."""
_CHANGE = 0.35
"""Standard deviation of that change, of the density."""
_STRENGTH = 99.9
"""Percentile of a map's density that counts as 1, whatever the map's unit."""
_GAP = 40 / 130
"""Mean gap between a particle and a neighbour over the radius of the mask, beyond what their radii take."""
_GOLD = 12.0
"""Density of gold beads over that of particles."""
_CORRECTIONS = ("none", "flipped", "wiener", "premultiplied")
_WIENER = 0.1
"""Constant added to the squared contrast transfer in Wiener's correction."""

Volume = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the patches of one tomogram have in common.

    Parameters
    ----------
    series : angles, defocus and dose of the tilt images.
    correction : of the contrast transfer: none, flipped, wiener or premultiplied.
    misalignment : rms Å of the tilt images' shifts, along each axis.
    snr : amplitude of the particle over that of the noise, finer than 160 Å: what a matched filter would score.
    b_factor : Å², damping of the particle exp(-B k² / 4).
    magnification : true size over the size that the voxel size says.
    clutter : density of the surroundings over that of the particle; 0 for none.
    structure : power of unresolved surroundings, under the same transfer, over that of the noise at 100 Å.
    off_pick : Å, largest offset of a pick along each axis, where the mask's radius is 130 Å.
    at_origin : share of the picks that stand at the map's origin, not at the centre of mass.
    ramp : gradient across a patch, in standard deviations.
    wrong : share of the patches that hold no such particle.
    """

    series: TiltSeries
    correction: str = "none"
    misalignment: float = 0.0
    snr: float = 20.0
    b_factor: float = 0.0
    magnification: float = 1.0
    clutter: float = 0.0
    structure: float = 0.0
    off_pick: float = 0.0
    at_origin: float = 0.0
    ramp: float = 0.0
    wrong: float = 0.0


def random_condition(rng: np.random.Generator) -> Condition:
    """A condition as tomograms of cells and of purified particles have them, drawn at random."""
    low, high, step = (60.0, 60.0, 3.0) if rng.random() < 0.4 else (rng.uniform(40, 68), rng.uniform(40, 68), 0.0)
    tilts = np.arange(-low, high + 1e-6, step or rng.choice([2.0, 3.0, 4.0]))
    if rng.random() < 0.3:
        tilts = np.delete(tilts, rng.choice(len(tilts), rng.integers(1, 6), replace=False))
    count = len(tilts)
    axis = rng.normal(0, 4) if rng.random() < 0.6 else rng.uniform(0, 360)
    columns: dict[str, Any] = {}
    if rng.random() < 0.6:
        order = np.argsort(np.argsort(np.abs(tilts))) if rng.random() < 0.7 else np.arange(count)
        columns["dose"] = (order + 0.5) / count * rng.uniform(50, 140)
    correction = "none"
    if rng.random() < 0.7:
        defocus = rng.uniform(1.5, 6.0) + rng.normal(0, 0.1, count)
        columns["defocus_um"] = np.stack([defocus, defocus], axis=1)
        correction = str(rng.choice(_CORRECTIONS))
    return Condition(
        series=TiltSeries.of_angles(tilts, axis_deg=axis, level_deg=float(rng.normal(0, 3)), **columns),
        correction=correction,
        misalignment=rng.uniform(0, 3) if rng.random() < 0.4 else rng.uniform(3, 12),
        snr=float(np.exp(rng.uniform(np.log(5), np.log(45)))),
        b_factor=rng.uniform(0, 1200),
        magnification=1 + 0.025 * rng.normal(),
        clutter=0.0 if rng.random() < 0.15 else rng.uniform(0.3, 1.2),
        structure=0.0 if rng.random() < 0.4 else rng.uniform(0, 1.5),
        off_pick=rng.uniform(0, 20),
        at_origin=float(rng.random() < 0.5),
        ramp=0.0 if rng.random() < 0.6 else rng.uniform(0, 2),
        wrong=0.15,
    )


@dataclass(frozen=True, eq=False)
class SimulatedPatches:
    """Patches of one condition, with the poses of their particles.

    Parameters
    ----------
    cubes : (N, n, n, n), particles bright.
    clean : (N, n, n, n), the particles alone, without noise and surroundings; None where they were not asked for.
    rotations : (N, 3, 3).
    shifts : (N, 3) xyz in Å from the patch's centre to the particle's centre of mass.
    right : (N,) whether the patch holds the particle.
    """

    cubes: Tensor
    clean: Tensor | None
    rotations: Tensor
    shifts: Tensor
    right: Tensor


class PatchSimulator:
    """Simulates patches of one kind of particle for a network.

    Parameters
    ----------
    template : the particle's map.
    others : maps of what stands around it, and of what is picked in its place.
    options : of the network: side, voxel size and resolution of its patches.
    rng : draws the changed maps and the surroundings.
    """

    def __init__(
        self,
        template: Template,
        others: Sequence[Template],
        options: MixtureOptions,
        rng: np.random.Generator,
        *,
        clutter: int = _CLUTTER,
        variants: int = _VARIANTS,
    ) -> None:
        self.options = options
        self.voxel_size = options.patch_voxel_size
        self.side = 2 * round(_MARGIN * options.patch_side / 2)
        self.box = self.side * self.voxel_size
        density, self.centre = centred(template)
        self.resolution = max(_BEYOND * options.network_resolution, 2.05 * template.voxel_size)
        maps = [
            density,
            *(changed(density, template.voxel_size, rng, length=_LENGTH * options.scale) for _ in range(variants)),
        ]
        self.references = [self._reference(one, template.voxel_size) for one in maps]
        wrong = [centred(other) for other in others]
        self.wrong = [self._reference(one, other.voxel_size) for (one, _), other in zip(wrong, others, strict=True)]
        self.index, self.frequency = self._band()
        self.power = self._mean_power()
        scene = _Scene([template, *others], self.side, self.voxel_size, options.mask_radius)
        self.clutter = np.stack([scene.draw(rng) for _ in range(clutter)]).astype(np.float16)

    def _reference(self, density: Volume, voxel_size: float) -> Reference:
        # So that its transform is that of the density on the patch's voxels.
        return build_reference(density * (voxel_size / self.voxel_size) ** 3, voxel_size, resolution=self.resolution)

    def _band(self) -> tuple[Tensor, Tensor]:
        """Index (M,) into a half-spectrum of the box, and frequencies (M, 3) xyz in cycles/Å, up to the resolution."""
        full = torch.fft.fftfreq(self.side, self.voxel_size)
        half = torch.fft.rfftfreq(self.side, self.voxel_size)
        z, y, x = torch.meshgrid(full, full, half, indexing="ij")
        grid = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
        radius = grid.norm(dim=1)
        index = ((radius <= 1 / self.resolution) & (radius > 0)).nonzero().squeeze(1)
        return index, grid[index]

    def _mean_power(self) -> Tensor:
        """Power of the particle's transform, averaged over rotations, at each frequency, (M,)."""
        rotations = torch.from_numpy(random_rotations(24, np.random.default_rng(0))).float()
        return (
            torch.stack([self._transform(self.references[0], r[None]) for r in rotations]).abs().square().mean((0, 1))
        )

    def _transform(self, reference: Reference, rotations: Tensor, *, scale: float = 1.0) -> Tensor:
        """Transforms (N, M) of a map in its centre, in rotations (N, 3, 3), magnified."""
        return reference.transform((self.frequency @ rotations) * scale)

    def simulate(
        self, condition: Condition, count: int, rng: np.random.Generator, *, clean: bool = False
    ) -> SimulatedPatches:
        """Patches of a condition; with their particles alone too, where ``clean`` asks for them."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        transfer, noise = (torch.from_numpy(part) for part in self._transfer(condition, rng))
        noise = noise / noise.mean()
        b_factor = torch.exp(-condition.b_factor / 4 * self.frequency.square().sum(1))
        detail = self.frequency.norm(dim=1) > 1 / (_COARSEST * self.options.scale)
        matched = 2 * (self.power * (b_factor * transfer.abs()).square() / noise)[detail].sum()
        amplitude = condition.snr / matched.sqrt()
        if condition.structure:
            soft = (transfer.abs().square() / (1 + (100 * self.frequency.norm(dim=1)).square())).float()
            noise = noise + condition.structure * soft * noise[noise > 0.1].mean()
        right = torch.from_numpy(rng.random(count) >= condition.wrong)
        rotations = torch.from_numpy(random_rotations(count, rng)).float()
        shifts = self._shifts(condition, rotations, rng)
        spectrum = self._particles(condition, rotations, shifts, right, rng) * b_factor
        spectrum = spectrum * (amplitude * torch.from_numpy(rng.normal(1, 0.12, (count, 1)).clip(0.6, 1.4)).float())
        alone = self._space(spectrum * transfer) if clean else None
        if condition.clutter:
            spectrum = spectrum + self._surroundings(count, rng) * (amplitude * condition.clutter)
        random = torch.view_as_complex(torch.randn(count, len(self.index), 2, generator=generator)) * 0.5**0.5
        # Where kx = 0 the inverse transform takes the mean of two Friedel mates, which halves the power.
        random = random * torch.where(self.frequency[:, 0] == 0, 2.0**0.5, 1.0)
        cubes = self._space(spectrum * transfer + random * noise.sqrt())
        return SimulatedPatches(_sloped(cubes, condition, rng), alone, rotations, shifts, right)

    def _shifts(self, condition: Condition, rotations: Tensor, rng: np.random.Generator) -> Tensor:
        """From the picks to the centres of mass, (N, 3) Å."""
        count = len(rotations)
        off_pick = condition.off_pick * self.options.scale
        offset = torch.from_numpy(rng.uniform(-1, 1, (count, 3)) * off_pick).float()
        at_origin = torch.from_numpy(rng.random((count, 1)) < condition.at_origin)
        centre = rotations @ torch.tensor(self.centre, dtype=torch.float32)
        return offset + torch.where(at_origin, centre, torch.zeros_like(centre))

    def _particles(
        self, condition: Condition, rotations: Tensor, shifts: Tensor, right: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Transforms (N, M) of what stands at the picks: the particle, or where it is wrong something else.

        That is nothing, another molecule, the particle's mirror image, or the particle too far away.
        """
        reference = self.references[0 if rng.random() < 0.5 else rng.integers(len(self.references))]
        scale = condition.magnification
        moved = shifts.clone()
        spectrum = self._transform(reference, rotations, scale=scale)
        for row in (~right).nonzero().squeeze(1).tolist():
            kind, rotation = rng.random(), rotations[row : row + 1]
            if kind < 0.3:
                spectrum[row] = 0
            elif kind < 0.6 and self.wrong:
                spectrum[row] = self._transform(self.wrong[rng.integers(len(self.wrong))], rotation, scale=scale)[0]
            elif kind < 0.85:
                mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
                spectrum[row] = reference.transform((self.frequency @ rotation @ mirror) * scale)[0]
            else:
                direction = rng.normal(size=3)
                away = direction / np.linalg.norm(direction) * rng.uniform(0.6, 1.2) * self.options.mask_radius
                moved[row] += torch.from_numpy(away).float()
        angle = -2 * torch.pi * ((moved + self.side // 2 * self.voxel_size) @ self.frequency.T)
        return spectrum * unit_phase(angle)

    def _surroundings(self, count: int, rng: np.random.Generator) -> Tensor:
        """Transforms (N, M) of surroundings drawn from the stock, each in a random rotation or reflection."""
        cubes = np.empty((count, self.side, self.side, self.side), np.float32)
        for cube in cubes:
            one = self.clutter[rng.integers(len(self.clutter))].transpose(rng.permutation(3))
            cube[:] = one[tuple(slice(None, None, int(step)) for step in rng.choice([-1, 1], 3))]
        spectra: Tensor = torch.fft.rfftn(torch.from_numpy(cubes), dim=(1, 2, 3))
        return spectra.flatten(1)[:, self.index]

    def _space(self, spectrum: Tensor) -> Tensor:
        """The middle (N, n, n, n) of the boxes of half-spectra (N, M)."""
        side, inner = self.side, self.options.patch_side
        whole = spectrum.new_zeros(len(spectrum), side * side * (side // 2 + 1))
        whole[:, self.index] = spectrum
        cubes: Tensor = torch.fft.irfftn(
            whole.unflatten(1, (side, side, -1)), s=(side,) * 3, dim=(1, 2, 3), norm="ortho"
        )
        low = side // 2 - inner // 2
        return cubes[:, low : low + inner, low : low + inner, low : low + inner].contiguous()

    def _transfer(self, condition: Condition, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """Transfer (M,), complex, and power of the noise (M,) of a condition."""
        series, frequency = condition.series, self.frequency.numpy().astype(np.float32)
        steps = _tilt_steps(series.tilt_deg)
        slab = _SLAB * self.options.scale
        transfer = np.zeros(len(frequency), np.complex64)
        noise = np.zeros(len(frequency), np.float32)
        size = condition.misalignment * (1 + np.abs(np.sin(np.radians(series.tilt_deg))))
        moves = rng.normal(size=(len(series), 2)) * size[:, None]
        for row, axes in enumerate(series.axes.astype(np.float32)):
            beam = frequency @ axes[2]
            near = np.flatnonzero(np.abs(beam) < 1 / slab)
            image = frequency[near] @ axes[:2].T
            across = np.abs(frequency[near] @ np.cross(series.axis, axes[2]).astype(np.float32))
            share = (1 - np.abs(beam[near]) * slab) * slab * across * steps[row]
            one = series.take(row)
            contrast = one.contrast_transfer(image[None])[0]
            factor = correction_factor(contrast, condition.correction, wiener_constant=_WIENER)
            damping = one.dose_damping(np.linalg.norm(image, axis=1)[None])[0]
            phase = np.exp(2j * np.pi * (image @ moves[row]))
            transfer[near] += (share * (factor * contrast) * damping * phase).astype(np.complex64)
            noise[near] += (share * factor) ** 2
        return transfer, np.maximum(noise, 1e-6 * noise.max())


def _tilt_steps(tilt_deg: FloatArray) -> FloatArray:
    """Radians between the tilts on either side of each, halved; of a lone tilt, 3°."""
    if len(tilt_deg) < 2:
        return np.full(len(tilt_deg), np.radians(3.0))
    order = np.argsort(tilt_deg)
    steps = np.empty(len(tilt_deg))
    steps[order] = np.gradient(np.radians(tilt_deg[order]))
    return steps


def _sloped(cubes: Tensor, condition: Condition, rng: np.random.Generator) -> Tensor:
    """The patches with a gradient of the background."""
    if not condition.ramp:
        return cubes
    line = torch.linspace(-0.5, 0.5, cubes.shape[-1])
    slope = torch.from_numpy(rng.normal(size=3)).float()
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return cubes + condition.ramp * cubes.std() * (slope[0] * x + slope[1] * y + slope[2] * z)


# --- maps -------------------------------------------------------------------------------------------------------


def centred(template: Template) -> tuple[Volume, FloatArray]:
    """A map about its centre of mass in a cube that just holds it, density about 1, and that centre (3,) xyz in Å."""
    density = np.clip(template.checked_cube().density, 0, None) / max(_strength(template.density), 1e-12)
    places = [np.arange(size) - (size - 1) / 2 for size in density.shape]
    total = density.sum()
    centre = np.array([(density.sum(tuple({0, 1, 2} - {axis})) * places[axis]).sum() / total for axis in range(3)])
    moved = np.clip(shift(density, -centre, order=1), 0, None)
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    distance = np.abs(grid).max(0)
    order = np.argsort(distance, axis=None)
    held = np.cumsum(moved.ravel()[order] ** 2)
    reach = distance.ravel()[order][np.searchsorted(held, 0.998 * held[-1])]
    half = min(int(np.ceil(reach)) + 3, len(density) // 2)
    low = len(density) // 2 - half
    cut = slice(low, len(density) - low)
    return np.asarray(moved[cut, cut, cut], np.float32), centre[::-1] * template.voxel_size


def _strength(density: Volume) -> float:
    positive = density[density > 0.02 * density.max()]
    return float(np.percentile(positive, _STRENGTH))


def changed(density: Volume, voxel_size: float, rng: np.random.Generator, *, length: float) -> Volume:
    """The map with its density raised and lowered at random over a length in Å."""
    field = gaussian_filter(rng.normal(size=density.shape), length / voxel_size / 2)
    return np.asarray(density * np.clip(1 + _CHANGE * field / field.std(), 0, None), np.float32)


class _Scene:
    """Surroundings of a particle: neighbours of several kinds, and at times a membrane, a filament or a gold bead."""

    def __init__(self, maps: Sequence[Template], side: int, voxel_size: float, radius: float) -> None:
        self.side, self.voxel_size, self.radius = side, voxel_size, radius
        self.maps = [(centred(one)[0], one.voxel_size) for one in maps]
        line = (torch.arange(side, dtype=torch.float32) - side // 2) * voxel_size
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        self.places = torch.stack([x, y, z], dim=-1)

    def draw(self, rng: np.random.Generator) -> Volume:
        """Density (n, n, n) about a particle in the middle, which is not there."""
        total = torch.zeros((self.side,) * 3)
        for _ in range(rng.poisson(rng.uniform(0, 7))):
            density, voxel_size = self.maps[0 if rng.random() < 0.4 else rng.integers(len(self.maps))]
            own = 0.45 * len(density) * voxel_size
            distance = (
                self.radius * rng.uniform(0.75, 1.0) + own * rng.uniform(0.75, 1.0) + rng.exponential(0.3 * self.radius)
            )
            total += self._placed(density, voxel_size, self._direction(rng) * distance, rng)
        if rng.random() < 0.15:
            total += self._membrane(rng)
        if rng.random() < 0.1:
            total += self._filament(rng)
        if rng.random() < 0.08:
            total += self._gold(rng)
        return total.numpy()

    def _direction(self, rng: np.random.Generator) -> Tensor:
        vector: Tensor = torch.from_numpy(rng.normal(size=3)).float()
        return vector / float(vector.norm())

    def _placed(self, density: Volume, voxel_size: float, at: Tensor, rng: np.random.Generator) -> Tensor:
        rotation = torch.from_numpy(random_rotations(1, rng)[0]).float()
        own = (self.places - at) @ rotation / ((len(density) - 1) / 2 * voxel_size)
        volume = torch.from_numpy(density)[None, None]
        found: Tensor = torch.nn.functional.grid_sample(volume, own[None], align_corners=True)
        return found[0, 0]

    def _membrane(self, rng: np.random.Generator) -> Tensor:
        """A bilayer: two leaflets 38 Å apart, of standard deviation 9 Å, flat or with a radius from 250 Å on."""
        direction, curvature = self._direction(rng), rng.uniform(250, 3000) * rng.choice([-1, 1])
        surface = direction * (self.radius * rng.uniform(0.8, 1.3))
        depth = (self.places - surface - direction * curvature).norm(dim=-1) - abs(curvature)
        leaflets = [torch.exp(-(((depth - side) / 9) ** 2) / 2) for side in (-19, 19)]
        return torch.stack(leaflets).sum(0) * rng.uniform(0.4, 1.0)

    def _filament(self, rng: np.random.Generator) -> Tensor:
        """A straight rod of radius 30 to 60 Å that touches the particle's ball."""
        along, width = self._direction(rng), rng.uniform(30, 60)
        across = torch.linalg.cross(along, self._direction(rng))
        start = across / across.norm().clamp_min(1e-3) * (self.radius * rng.uniform(0.9, 1.3) + width)
        off = self.places - start
        distance = (off - (off @ along)[..., None] * along).norm(dim=-1)
        return torch.sigmoid((width - distance) / 8) * rng.uniform(0.5, 1.0)

    def _gold(self, rng: np.random.Generator) -> Tensor:
        """A bead of radius 50 Å, near the particle's rim or in its neighbourhood."""
        at = self._direction(rng) * (self.radius * rng.uniform(0.6, 1.6))
        return _GOLD * torch.sigmoid((50 - (self.places - at).norm(dim=-1)) / 5)

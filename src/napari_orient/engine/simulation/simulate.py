"""Simulated tomograms: templates and options in, a tomogram and the exact poses of its particles out.

Sample, tilt series and reconstruction follow PolNet (Martinez-Sanchez et al., "Simulating the cellular context in
synthetic datasets for cryo-electron tomography", IEEE Trans. Med. Imaging 2024): crowded self-avoiding chains,
misaligned noisy micrographs, weighted back-projection. Unlike there, a template is rotated and put at its exact
sub-voxel place, so the truth is exact: PolNet rounds the place to a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_polnet_tomogram
from napari_orient.engine.parameters import SimulationOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.simulation import microscope
from napari_orient.engine.simulation.placement import (
    Chains,
    CrowdedVolume,
    RotatableTemplate,
    Volume,
    rotatable_template,
)
from napari_orient.engine.streams import Step, Stream, map_steps
from napari_orient.engine.templates import Template


def simulate(
    templates: Sequence[Template],
    options: SimulationOptions | None = None,
    *,
    seed: int,
    name: str = "tomo_001",
    counts: Sequence[int] | None = None,
) -> Stream[Step, tuple[Tomogram, Particles]]:
    """A tomogram of these templates and the particles in it, as a stream; the same seed gives the same tomogram.

    Parameters
    ----------
    templates : one for each kind of particle, of any voxel size; they are placed in this order.
    options : sizes, tilts, noise.
    seed : of all randomness.
    name : the tomogram's.
    counts : particles of each template; by default ``options.particles`` of each.

    Returns
    -------
    A stream that ends in the tomogram and its particles. The density, (size_z, size_y, size_x), is in units of the
    template's peak, particles dark. Positions are where the templates' box centres lie, Å, exact; rotations are
    template -> tomogram, exact; ``extra["polymer"]`` numbers the chains.

    Raises
    ------
    InputError
        Before any work, if there is no template, counts or seed make no sense, or a template is larger than the
        tomogram; from the stream, if the particles do not all fit.
    """
    options = options or SimulationOptions()
    counts = _checked_counts(templates, options, counts)
    if seed < 0:
        raise InputError(f"seed is {seed}; expected a whole number of at least 0.")
    shapes = [rotatable_template(item, voxel_size=options.voxel_size, level=options.level) for item in templates]
    for shape in shapes:
        _check_fits(shape, options)
    return _simulate(shapes, counts, options, seed, name)


def simulate_series(
    templates: Sequence[Template], options: SimulationOptions, *, tomograms: int, seed: int, folder: Path
) -> Stream[Step, list[Path]]:
    """The folders of so many tomograms in PolNet's layout, each written once it is done; a longer run begins alike.

    Runs of neighbouring seeds share no tomogram. ``folder`` is made, its parents too, when it is certain that the first
    tomogram can be.

    Raises
    ------
    InputError
        As `simulate`; if there is to be no tomogram; or if the folder cannot be written.
    """
    if tomograms < 1 or seed < 0:
        raise InputError(f"{tomograms} tomograms of seed {seed} were asked for; expected at least 1, and at least 0.")
    folders = []
    for index in range(tomograms):
        stream = simulate(templates, options, seed=tomogram_seed(seed, index), name=f"tomo_{index + 1:03d}")
        folder.mkdir(parents=True, exist_ok=True)
        tomogram, particles = yield from _one_of(stream, index, tomograms)
        folders.append(write_polnet_tomogram(folder, tomogram, particles, index=index + 1))
    return folders


def tomogram_seed(seed: int, index: int) -> int:
    """The seed of one tomogram of a series: a longer series begins alike, and neighbouring seeds share no tomogram."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _one_of(
    stream: Stream[Step, tuple[Tomogram, Particles]], index: int, count: int
) -> Stream[Step, tuple[Tomogram, Particles]]:
    """One tomogram's steps among those of all, in hundredths of a tomogram."""

    def among_all(step: Step) -> Step:
        done = 100 * index + 100 * step.done // max(step.total, 1)
        return Step(done, 100 * count, f"Tomogram {index + 1} of {count}: {step.message}")

    return map_steps(stream, among_all)


def _simulate(
    shapes: Sequence[RotatableTemplate], counts: Sequence[int], options: SimulationOptions, seed: int, name: str
) -> Stream[Step, tuple[Tomogram, Particles]]:
    sample, optics = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    crowd = yield from _crowded(shapes, counts, options, sample)
    density = yield from _imaged(crowd.density, options, optics, done=sum(counts))
    tomogram = Tomogram(density, options.voxel_size, name)
    particles = Particles(
        positions=np.array(crowd.positions).reshape(-1, 3),
        rotations=np.array(crowd.rotations).reshape(-1, 3, 3),
        tomogram=name,
        kind=np.array(crowd.kinds, str),
        extra={"polymer": np.array(crowd.polymers, int)},
    )
    return tomogram, particles.located_in(tomogram)


def _crowded(
    shapes: Sequence[RotatableTemplate], counts: Sequence[int], options: SimulationOptions, rng: np.random.Generator
) -> Stream[Step, CrowdedVolume]:
    chains = Chains(options.border, options.overlap, options.link, options.chain_length)
    size = (options.size_x, options.size_y, options.size_z)
    crowd = CrowdedVolume(size, voxel_size=options.voxel_size, chains=chains, rng=rng)
    total = sum(counts) + 2 * len(microscope.tilt_angles(options.tilt_range, options.tilt_step))
    for shape, count in zip(shapes, counts, strict=True):
        for placed in crowd.fill(shape, count):
            yield Step(len(crowd.positions), total, f"placing {shape.name}: {placed} of {count}")
    return crowd


def _imaged(
    density: Volume, options: SimulationOptions, rng: np.random.Generator, *, done: int
) -> Stream[Step, Volume]:
    """The tomogram that the microscope makes of a density, (Z, Y, X)."""
    geometry = microscope.Geometry.of(density, options.tilt_axis)
    sample = geometry.lines(density)
    angles = microscope.tilt_angles(options.tilt_range, options.tilt_step)
    offsets = microscope.shifts(angles, low=options.misalignment_low, high=options.misalignment_high, rng=rng)
    snr = rng.uniform(options.snr_low, options.snr_high)
    tomogram = np.zeros_like(sample)
    for index, (angle, offset) in enumerate(zip(angles, offsets, strict=True)):
        rays = geometry.rays(angle)
        image = microscope.micrograph(rays @ sample, shift=offset, snr=snr, rng=rng)
        yield Step(done + 2 * index + 1, done + 2 * len(angles), f"tilt {angle:g}°: exposed")
        tomogram += rays.T @ microscope.weighted(image, step_deg=options.tilt_step, cutoff=options.ramp_cutoff)
        yield Step(done + 2 * index + 2, done + 2 * len(angles), f"tilt {angle:g}°: back-projected")
    return geometry.volume(tomogram)


def _checked_counts(
    templates: Sequence[Template], options: SimulationOptions, counts: Sequence[int] | None
) -> list[int]:
    if not templates:
        raise InputError("no template was given; expected at least one map or bead model.")
    if counts is None:
        return [options.particles] * len(templates)
    if len(counts) != len(templates) or min(counts) < 0:
        raise InputError(f"counts are {list(counts)}; expected {len(templates)} whole numbers, one for each template.")
    return [int(count) for count in counts]


def _check_fits(shape: RotatableTemplate, options: SimulationOptions) -> None:
    shortest = min(options.size_x, options.size_y, options.size_z)
    free = max(0.0, (shortest - 2 * options.border) * options.voxel_size)
    if shape.diameter > free:
        raise InputError(
            f"{shape.name} is {shape.diameter:.0f} Å long, but the tomogram leaves {free:.0f} Å inside its border; "
            "make the tomogram larger, or the border smaller."
        )

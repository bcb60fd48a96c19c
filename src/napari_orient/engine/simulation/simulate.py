"""Simulated tomograms: templates and options in, a tomogram and the exact poses of its particles out.

Specimen, tilt series and reconstruction follow PolNet (Martinez-Sanchez et al., "Simulating the cellular context in
synthetic datasets for cryo-electron tomography", IEEE Trans. Med. Imaging 2024): crowded self-avoiding chains,
misaligned noisy micrographs, weighted back-projection. Unlike there, a template is rotated and put at its exact
sub-voxel place, so the truth is exact: PolNet rounds the place to a voxel.

Where the options describe a microscope or what surrounds the particles, the micrographs are exact projections of the
specimen (`projection`) with contrast transfer, dose and the noise of a constant exposure (`microscope`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from napari_orient.engine.environment import check_memory
from napari_orient.engine.errors import InputError
from napari_orient.engine.folders import RECORD, FolderClaim
from napari_orient.engine.io.dialects.polnet import polnet_tomogram_folder, write_polnet_tomogram
from napari_orient.engine.io.tilt_metadata import write_tilt_series
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.simulation.microscope import (
    BackProjection,
    RayGeometry,
    exposure,
    micrograph,
    random_shifts,
    tilt_angles,
    tilt_series,
    weighted,
)
from napari_orient.engine.simulation.placement import CrowdedVolume, RotatableTemplate, Volume
from napari_orient.engine.simulation.postprocessing import deconvolved, postprocess
from napari_orient.engine.simulation.specimen import Contents, crowded_specimen, empty_volume, fill
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream, map_steps
from napari_orient.engine.templates import Template

_VOXEL_BYTES = 4
"""Bytes of a voxel, float32."""

_VOLUMES_HELD = 3
"""Volumes that a simulation holds at once, at the least: density, its projected lines, and the tomogram."""


def simulate(
    templates: Sequence[Template],
    options: SimulationOptions | None = None,
    *,
    seed: int,
    name: str = "tomo_001",
    counts: Sequence[int] | None = None,
    others: Sequence[Template] = (),
) -> Stream[Step, tuple[Tomogram, Particles]]:
    """A tomogram of these templates and the particles in it, as a stream; the same seed gives the same tomogram.

    Parameters
    ----------
    templates : one for each kind of particle, of any voxel size; they are placed in this order.
    options : sizes, tilts, noise.
    seed : of all randomness.
    name : the tomogram's.
    counts : particles of each template; by default ``options.particles`` of each.
    others : macromolecules that surround the particles, ``options.surroundings.other_particles`` of each as far as
        they fit; they are not in the truth.

    Returns
    -------
    A stream that ends in the tomogram and its particles. The density, (size_z, size_y, size_x), is in units of the
    template's peak, particles dark unless the options say otherwise. Positions are where the templates' box centres
    lie, Å, exact; rotations are template -> tomogram, exact; ``extra["polymer"]`` numbers the chains.

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
    _check_memory(options)
    contents = Contents(templates, counts, others)
    shapes = contents.shapes(options)
    for shape in shapes[: len(templates)]:
        _check_fits(shape, options)
    return _simulate(contents, shapes, options, seed, name)


def simulate_series(
    templates: Sequence[Template],
    options: SimulationOptions,
    *,
    tomograms: int,
    seed: int,
    folder: Path,
    others: Sequence[Template] = (),
) -> Stream[Step, list[Path]]:
    """The folders of so many tomograms in PolNet's layout, each written once it is done; a longer run begins alike.

    Where the options describe a microscope, RELION's tables of the tilt series lie beside each tomogram. Runs of
    neighbouring seeds share no tomogram. ``folder`` is made, its parents too, when it is certain that the first
    tomogram can be. Tomograms that an earlier run with the same options left there, whole, are not simulated again.

    Raises
    ------
    InputError
        As `simulate`; if there is to be no tomogram; or if the folder cannot be written, or holds what is not of a
        simulation with these options.
    """
    if tomograms < 1 or seed < 0:
        raise InputError(f"{tomograms} tomograms of seed {seed} were asked for; expected at least 1, and at least 0.")
    # Checks what is asked for, before anything is made.
    simulate(templates, options, seed=seed, others=others).close()
    claim = simulation_claim(folder, templates, options, seed=seed, others=others)
    claim.check(need=tomograms * _VOXEL_BYTES * options.size_x * options.size_y * options.size_z)
    with claim.held():
        folders = []
        for index in range(tomograms):
            place = polnet_tomogram_folder(folder, index + 1)
            if not place.is_dir():
                yield from _simulate_into(
                    folder, templates, options, seed=seed, number=(index, tomograms), others=others
                )
            folders.append(place)
    return folders


def simulation_claim(
    folder: Path,
    templates: Sequence[Template],
    options: SimulationOptions,
    *,
    seed: int,
    others: Sequence[Template] = (),
) -> FolderClaim:
    """The claim of a series of simulated tomograms on its folder: a run with other options does not go on there."""
    made_with = {
        "version": version("napari-orient"),
        "templates": {template.name: template.digest for template in templates},
        "others": {template.name: template.digest for template in others},
        "seed": seed,
        "options": options.to_record(),
    }
    return FolderClaim(
        folder=folder, maker="simulate", made_with=made_with, owns=("Tomo[0-9]*", "labels_table.csv", RECORD)
    )


def _simulate_into(
    folder: Path,
    templates: Sequence[Template],
    options: SimulationOptions,
    *,
    seed: int,
    number: tuple[int, int],
    others: Sequence[Template],
) -> Stream[Step, None]:
    """Simulate one tomogram, ``number`` of so many, counted from 0, into its folder, which appears whole."""
    index, count = number
    own, name = tomogram_seed(seed, index), f"tomo_{index + 1:03d}"
    stream = simulate(templates, options, seed=own, name=name, others=others)
    tomogram, particles = yield from _one_of(stream, index, count)

    def write_series(place: Path) -> None:
        if options.is_physical:
            write_tilt_series(place, tomogram, simulated_tilt_series(options, seed=own))

    write_polnet_tomogram(folder, tomogram, particles, index=index + 1, beside=write_series)


def tomogram_seed(seed: int, index: int) -> int:
    """The seed of one tomogram of a series: a longer series begins alike, and neighbouring seeds share no tomogram."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _one_of(
    stream: Stream[Step, tuple[Tomogram, Particles]], index: int, count: int
) -> Stream[Step, tuple[Tomogram, Particles]]:
    """One tomogram's steps among those of all, in hundredths of a tomogram."""

    def among_all(step: Step) -> Step:
        done = 100 * index + 100 * step.done // max(step.total, 1)
        return Step(done, 100 * count, f"Tomogram {index + 1} of {count}: {step.message}", whole=True)

    return map_steps(stream, among_all)


class _Randomness:
    """Generators of one seed, one for each part of the simulation, so that an option changes nothing but its own."""

    def __init__(self, seed: int) -> None:
        names = ("specimen", "imaging", "surroundings", "series", "misalignment", "noise", "errors", "states")
        children = np.random.SeedSequence(seed).spawn(len(names))
        self._children = dict(zip(names, children, strict=True))

    def __getitem__(self, name: str) -> np.random.Generator:
        return np.random.default_rng(self._children[name])


def simulated_tilt_series(options: SimulationOptions, *, seed: int) -> TiltSeries:
    """The tilt series of the tomogram of a seed, with the defocus that is assumed in place of the true one."""
    random = _Randomness(seed)
    return exposure(
        options,
        tilt_series(options, random["series"]),
        shifts=random["misalignment"],
        errors=random["errors"],
    ).assumed


def _simulate(
    contents: Contents, shapes: Sequence[RotatableTemplate], options: SimulationOptions, seed: int, name: str
) -> Stream[Step, tuple[Tomogram, Particles]]:
    random = _Randomness(seed)
    crowd = empty_volume(options, random["specimen"])
    if options.is_physical:
        density = yield from _physical(contents, crowd, shapes, options, random)
    else:
        count = contents.count
        total = count + 2 * len(tilt_angles(options.tilt_range, options.tilt_step))
        yield from fill(crowd, shapes[: len(contents.templates)], contents.counts, total=total)
        density = yield from _imaged(crowd.density, options, random["imaging"], done=count)
    tomogram = Tomogram(density, options.voxel_size, name)
    truth = slice(contents.count)
    particles = Particles(
        positions=np.array(crowd.positions[truth]).reshape(-1, 3),
        rotations=np.array(crowd.rotations[truth]).reshape(-1, 3, 3),
        tomogram=name,
        kind=np.array(crowd.kinds[truth], str),
        extra={"polymer": np.array(crowd.polymers[truth], int)},
    )
    return postprocess(tomogram, particles.located_in(tomogram), options.postprocessing)


def _physical(
    contents: Contents,
    crowd: CrowdedVolume,
    shapes: Sequence[RotatableTemplate],
    options: SimulationOptions,
    random: _Randomness,
) -> Stream[Step, Volume]:
    """The tomogram that a microscope makes of the particles, which are placed on the way, and their surroundings."""
    series = tilt_series(options, random["series"])
    done = contents.most(options)
    total = done + len(series)
    specimen = yield from crowded_specimen(
        contents,
        crowd,
        shapes,
        options,
        total=total,
        surroundings=random["surroundings"],
        states=random["states"],
    )
    exposed = exposure(options, series, shifts=random["misalignment"], errors=random["errors"])
    size = (options.size_x, options.size_y, options.size_z)
    summed = BackProjection(size, exposed.detector, step_deg=options.tilt_step, cutoff=options.ramp_cutoff)
    for index, image in enumerate(exposed.images(specimen, random["noise"])):
        summed.add(image, series.axes[index])
        yield Step(done + index + 1, total, f"tilt {series.tilt_deg[index]:.0f}°: exposed and back-projected")
    density, assumed = summed.tomogram(), exposed.assumed
    if options.microscope.ctf_correction == "deconvolved" and assumed.defocus_um is not None:
        defocus = float(assumed.defocus_um.mean())
        return deconvolved(density, options.voxel_size, defocus_um=defocus, optics=series.optics)
    return density


def _imaged(
    density: Volume, options: SimulationOptions, rng: np.random.Generator, *, done: int
) -> Stream[Step, Volume]:
    """The tomogram that the microscope makes of a density, (Z, Y, X)."""
    geometry = RayGeometry.of(density, options.tilt_axis)
    sample = geometry.lines(density)
    angles = tilt_angles(options.tilt_range, options.tilt_step)
    offsets = random_shifts(angles, low=options.misalignment_low, high=options.misalignment_high, rng=rng)
    snr = rng.uniform(options.snr_low, options.snr_high)
    tomogram = np.zeros_like(sample)
    for index, (angle, offset) in enumerate(zip(angles, offsets, strict=True)):
        rays = geometry.rays(angle)
        image = micrograph(rays @ sample, shift=offset, snr=snr, rng=rng, noise=options.noise)
        yield Step(done + 2 * index + 1, done + 2 * len(angles), f"tilt {angle:g}°: exposed")
        tomogram += rays.T @ weighted(image, step_deg=options.tilt_step, cutoff=options.ramp_cutoff)
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


def _check_memory(options: SimulationOptions) -> None:
    voxels = options.size_x * options.size_y * options.size_z
    what = f"A tomogram of {options.size_x} × {options.size_y} × {options.size_z} voxels"
    check_memory(_VOLUMES_HELD * _VOXEL_BYTES * voxels, what, remedy="Make it smaller.")


def _check_fits(shape: RotatableTemplate, options: SimulationOptions) -> None:
    shortest = min(options.size_x, options.size_y, options.size_z)
    free = max(0.0, (shortest - 2 * options.border) * options.voxel_size)
    if shape.diameter > free:
        raise InputError(
            f"{shape.name} is {shape.diameter:.0f} Å long, but the tomogram leaves {free:.0f} Å inside its border; "
            "make the tomogram larger, or the border smaller."
        )

"""discover(): structure and poses from picks alone, as a stream of rounds."""

from __future__ import annotations

import torch

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.output import Discovery, DiscoveryStep
from napari_orient.engine.discovery.starts import DiscoveryRun, Map, best_result, fewest
from napari_orient.engine.discovery.structures import Structures
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Labelled, check_inside
from napari_orient.engine.streams import Stream

_LEAST_VOXELS = 15
_USUAL = DiscoveryOptions()


@torch.no_grad()
def discover(
    picks: Labelled, options: DiscoveryOptions = _USUAL, *, align_to: Map | None = None
) -> Stream[DiscoveryStep, Discovery]:
    """The structure that picks have in common, and the pose of each; rotations that the picks have are not looked at.

    Several random starts are annealed and judged by each other; the best is looked at again in every place and
    rotation, given the frame of its symmetry, and refined with halves apart.

    Parameters
    ----------
    picks : tomograms, each with its own picks.
    align_to : a map whose frame the (most numerous) structure is turned into.

    Raises
    ------
    InputError
        If there are too few picks, one lies outside, a tomogram is flat round all of them, the voxels are too coarse
        for the diameter, two tomograms share a name, or the device is missing.
    """
    picks = [
        (tomogram, particles.replace(rotations=None, tomogram=tomogram.name))
        for tomogram, particles in picks
        if len(particles)
    ]
    check_picks(picks, options)
    run, spectra, ends = yield from DiscoveryRun(picks, options, options.compute.chosen()).started()
    yield run.round(run.annealed + 1, "Looking at every place and rotation")
    best = best_result(ends)
    found, spectra = run.search_all_picks(spectra, best.assignment)
    others = [end.assignment for end in ends if end is not best]
    ending = Structures(run, spectra)
    structures, particles = yield from ending.found(found, others)
    if align_to is not None and structures:
        yield run.round(run.total, "Turning into the frame of the map given")
        structures, particles = ending.aligned(structures, particles, align_to)
    return Discovery(
        particles=particles, structures=structures, starts=len(ends), class_count_words=run.class_count_words
    )


def check_picks(picks: Labelled, options: DiscoveryOptions) -> None:
    """Nothing, if a discovery can begin from these picks.

    Raises
    ------
    InputError
        If there are too few, one lies outside, the voxels are too coarse for the diameter, or two tomograms share
        a name.
    """
    count, least = sum(len(particles) for _, particles in picks), fewest(options.class_count)
    if count < least:
        raise InputError(f"there are {count} picks; expected at least {least}. Pick more particles.")
    names = [tomogram.name for tomogram, _ in picks]
    if len(set(names)) < len(names):
        raise InputError(f"two tomograms are called {max(names, key=names.count)}; expected names that differ.")
    for tomogram, particles in picks:
        check_inside(particles, tomogram.extent, name=tomogram.name)
        smallest = _LEAST_VOXELS * tomogram.voxel_size
        if options.diameter < 0.99 * smallest:
            raise InputError(
                f"diameter is {options.diameter:g} Å; voxels of {tomogram.voxel_size:g} Å show no particle smaller "
                f"than {smallest:g} Å. Give a larger diameter, or finer voxels."
            )

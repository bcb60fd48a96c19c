"""Poses refined in two halves that never see each other, and brought back to the frame of the labels."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging.average import Average, random_halves
from napari_orient.engine.averaging.options import AveragingOptions
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.model.map_symmetry import symmetry_centre
from napari_orient.engine.networks.reference_map import BankNetworkOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, split_like
from napari_orient.engine.refinement.options import RefinementOptions
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import mean_rotation
from napari_orient.engine.streams import ResultT, Step, Stream
from napari_orient.engine.symmetry import Symmetry, nearest_copy, symmetry
from napari_orient.engine.training.options import BankTrainingOptions


def refined_apart(
    labels: Labelled,
    posed: Labelled,
    found: Average,
    *,
    network_options: BankNetworkOptions,
    options: BankTrainingOptions,
) -> Stream[Step, Labelled]:
    """Particles in poses refined against the reference of their own half, in the labels' frame.

    Parameters
    ----------
    labels, posed : the same particles as they came, and in the poses that the average was made in.
    found : that average, with its halves.
    """
    group = symmetry(network_options.symmetry)
    coin = random_halves(found.count, options.seed)
    centre = symmetry_centre(found.density, found.voxel_size, group)
    refined = [part for _, part in posed]
    for half, density in enumerate(found.halves_as_references()):
        rows = split_like(posed, coin == half)
        for index, (tomogram, particles) in enumerate(posed):
            if rows[index].any():
                told = yield from quiet(
                    refine(
                        tomogram,
                        particles.take(rows[index]),
                        density,
                        voxel_size=found.voxel_size,
                        group=group,
                        options=refinement_options(network_options, options.device),
                    )
                )
                refined[index] = _with_poses(refined[index], rows[index], told.particles)
        refined = list(_in_frame(refined, [part for _, part in labels], rows=rows, group=group, centre=centre))
    return [(tomogram, part) for (tomogram, _), part in zip(posed, refined, strict=True)]


def _with_poses(particles: Particles, rows: NDArray[np.bool_], posed: Particles) -> Particles:
    positions, rotations = particles.positions.copy(), particles.required_rotations().copy()
    positions[rows], rotations[rows] = posed.positions, posed.required_rotations()
    return particles.replace(positions=positions, rotations=rotations)


def _in_frame(
    refined: list[Particles],
    labels: list[Particles],
    *,
    rows: list[NDArray[np.bool_]],
    group: Symmetry,
    centre: FloatArray,
) -> Iterator[Particles]:
    """The particles with the rows of one half brought back to the frame of the labels.

    A half on its own drifts: its average may turn and move as a whole. What all its particles turned and moved by,
    against their labels, is taken back. A symmetric particle is taken in the copy nearest its label, turned about the
    ``centre`` of symmetry, (3,) Å from the frame's origin.
    """
    poses = [
        _nearest(part.take(row), label.take(row), group, centre)
        for part, label, row in zip(refined, labels, rows, strict=True)
    ]
    turns = [
        label.take(row).required_rotations().transpose(0, 2, 1) @ part.required_rotations()
        for part, label, row in zip(poses, labels, rows, strict=True)
    ]
    turn = mean_rotation(np.concatenate(turns))
    straight = [part.required_rotations() @ turn.T for part in poses]
    moves = [
        np.einsum("nji,nj->ni", rotations, part.positions - label.take(row).positions)
        for part, rotations, label, row in zip(poses, straight, labels, rows, strict=True)
    ]
    move = np.median(np.concatenate(moves), axis=0)
    for part, pose, rotations, row in zip(refined, poses, straight, rows, strict=True):
        back = pose.replace(rotations=rotations, positions=pose.positions - rotations @ move)
        yield _with_poses(part, row, back)


def _nearest(particles: Particles, labels: Particles, group: Symmetry, centre: FloatArray) -> Particles:
    """The symmetric copy of each pose that is nearest its label: the same density, with its origin elsewhere."""
    rotations = nearest_copy(particles.required_rotations(), labels.required_rotations(), group)
    moved = (particles.required_rotations() - rotations) @ centre
    return particles.replace(rotations=rotations, positions=particles.positions + moved)


def quiet(stream: Generator[Step, None, ResultT]) -> Stream[Step, ResultT]:
    """The same stream without its notes."""
    try:
        while True:
            yield replace(next(stream), notes=())
    except StopIteration as end:
        answer: ResultT = end.value
        return answer
    finally:
        stream.close()


def bank_options(options: SearchOptions) -> SearchOptions:
    """The size of the bank alone."""
    return SearchOptions.from_record({item.name: getattr(options, item.name) for item in SearchOptions.parameters()})


def averaging_options(options: AveragingOptions) -> AveragingOptions:
    """How to average alone."""
    return AveragingOptions.of(**{item.name: item.value_in(options) for item in AveragingOptions.parameters()})


def refinement_options(options: SearchOptions, device: str) -> RefinementOptions:
    """How training refines: precisely, with the bank that is asked for."""
    return RefinementOptions.from_record(
        {**bank_options(options).to_record(), "device": device, "precision": "precise"}
    )

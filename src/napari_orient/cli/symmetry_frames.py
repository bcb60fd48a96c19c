"""Flags of the frame that poses of a symmetric particle are written in, and of its symmetric copies."""

from __future__ import annotations

from argparse import Namespace

from napari_orient.cli.arguments import Parser
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles
from napari_orient.engine.symmetry import symmetry

FRAMES = ("own", "relion")


def add_symmetry_frame(parser: Parser) -> None:
    """Declare ``--symmetry-frame``."""
    parser.add_argument(
        "--symmetry-frame",
        choices=FRAMES,
        default=FRAMES[0],
        help="frame to write in: the map's own, or RELION's, whose symmetry axes are fixed (n-fold on z) [default own]",
    )


def add_expansion(parser: Parser) -> None:
    """Declare ``--symmetry``, ``--symmetry-frame`` and ``--expand-symmetry`` of a list that is converted."""
    parser.add_argument("--symmetry", metavar="GROUP", help="of the particle, with its axes: D7@z@x")
    add_symmetry_frame(parser)
    parser.add_argument(
        "--expand-symmetry", action="store_true", help="write every particle once for each rotation of its --symmetry"
    )


def in_symmetry_frame(particles: Particles, arguments: Namespace) -> Particles:
    """The particles in the frame asked for, and expanded where that is asked for.

    Raises
    ------
    InputError
        If a group is needed and not given, or the other way round.
    """
    moved, copied = arguments.symmetry_frame != FRAMES[0], arguments.expand_symmetry
    if not (moved or copied):
        if arguments.symmetry is not None:
            raise InputError(
                "--symmetry changes nothing by itself; add --symmetry-frame relion or --expand-symmetry, or drop it."
            )
        return particles
    if arguments.symmetry is None:
        flag = "--expand-symmetry" if copied else "--symmetry-frame"
        raise InputError(f"{flag} needs the particle's group; give --symmetry, such as D7@-0.64,0.76,0.10.")
    from napari_orient.engine.frames import expanded, in_frame, relion_frame, relion_symmetry

    group = symmetry(arguments.symmetry)
    if moved:
        particles = in_frame(particles, relion_frame(group), group.frame[:, 0] * 0)
        group = relion_symmetry(group)
    return expanded(particles, group) if copied else particles

"""Which particles of a list are used: those of a class, and those for which an expression of its columns is true."""

from __future__ import annotations

from argparse import Namespace

from napari_orient.cli.arguments import Parser
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Labelled, Particles, labelled_of_kind
from napari_orient.progress import say


def add_selection(parser: Parser, *, what: str = "particles") -> None:
    """Give the parser the flags that choose particles, or what they are called here."""
    parser.add_argument(
        "--class", dest="kind", metavar="CODE", help=f"only the {what} of this class, such as 4v4r, or a class number"
    )
    parser.add_argument(
        "--where",
        metavar="EXPRESSION",
        help=f'only the {what} for which this is true, by any column: "rlnLCCmax > 0.2 and rlnClassNumber in (1, 3)"',
    )


def selected(particles: Particles, arguments: Namespace) -> Particles:
    """The particles that `add_selection` asks for.

    Raises
    ------
    InputError
        If there is none, no class is stated, or the expression does not fit the columns.
    """
    if arguments.kind is not None:
        particles = particles.of_kind(arguments.kind)
    return _where(particles, arguments)


def selected_pairs(pairs: Labelled, arguments: Namespace) -> Labelled:
    """Tomograms that hold particles that `add_selection` asks for, each with these alone.

    Raises
    ------
    InputError
        As `selected`, if no tomogram holds any.
    """
    if arguments.kind is not None:
        pairs = labelled_of_kind(pairs, arguments.kind)
    if arguments.where is None:
        return pairs
    from napari_orient.engine.inspection.filters import rows_of_particles

    masks = [rows_of_particles(arguments.where, particles) for _, particles in pairs]
    total, kept = sum(len(mask) for mask in masks), sum(int(mask.sum()) for mask in masks)
    _say_count(kept, total, arguments.where)
    return [(tomogram, part.take(mask)) for (tomogram, part), mask in zip(pairs, masks, strict=True) if mask.any()]


def _where(particles: Particles, arguments: Namespace) -> Particles:
    if arguments.where is None:
        return particles
    from napari_orient.engine.inspection.filters import rows_of_particles

    mask = rows_of_particles(arguments.where, particles)
    _say_count(int(mask.sum()), len(mask), arguments.where)
    return particles.take(mask)


def _say_count(kept: int, total: int, expression: str) -> None:
    """Print how many particles are kept.

    Raises
    ------
    InputError
        If none is.
    """
    if kept == 0:
        raise InputError(f"--where {expression!r} is true for none of {total} particles. Change it.")
    say(f"{kept} of {total} particles: {expression}")

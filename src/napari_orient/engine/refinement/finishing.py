"""What comes after every particle was found: what their places tell of each other, and the mean of all that may be."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from napari_orient.engine.matching.fit import Place
from napari_orient.engine.refinement.matcher import Matcher
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.together import UsualPlace
from napari_orient.engine.streams import Step, Stream

Cut = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Patches of some rows (N, n, n, n), on the device to work on, and (N, 3) xyz in Å from the picks to their centres."""


def together(
    matcher: Matcher, poses: Poses, cut: Cut, *, at_once: int, known: Tensor | None = None, centre: Tensor
) -> Stream[Step, Poses]:
    """The poses of all particles of a tomogram, as they and their places tell of each other.

    Particles found in an odd place are looked for again where the others stand. Then all are drawn to the usual place:
    those that are sure by a normal law, the others by climbing and scanning with it; see `Matcher.finish`.

    Parameters
    ----------
    poses : as `Matcher.find` gives them, with shifts from the picks; on the CPU.
    at_once : patches to cut at a time.
    known : rotations that the particles were given with, (N, 3, 3).
    centre : (3,) xyz in Å from the reference's origin: where its axes meet. Symmetric copies of a pose have their
        origin elsewhere, but not this point.
    """
    moved = poses.about(centre)
    usual = UsualPlace.told_by(moved, max_shift=matcher.options.max_shift, trust=matcher.trust)
    if usual is None:
        return (yield from _finished(matcher, poses, poses, cut, at_once=at_once, usual=None, centre=centre))
    odd, again = usual.odd(moved), []
    for rows in _portions(odd, at_once):
        again.append(_near(matcher, rows, cut, usual=usual, known=known).about(centre))
        yield Step(sum(len(part.shifts) for part in again), len(odd), "Looking again where others stand")
    if again:
        moved = usual.weighed(moved, odd, Poses.concatenated(again), group=matcher.group)
    drawn = usual.drawn(moved).about(-centre)
    return (
        yield from _finished(matcher, moved.about(-centre), drawn, cut, at_once=at_once, usual=usual, centre=centre)
    )


def _near(matcher: Matcher, rows: Tensor, cut: Cut, *, usual: UsualPlace, known: Tensor | None) -> Poses:
    """Poses of these rows, looked for where the others stand; shifts are from the picks."""
    patches, to_picks = cut(rows)
    at = ((usual.middle - to_picks) / matcher.imaging.voxel_size).round().to(patches.device)
    return matcher.find(patches, None if known is None else known[rows.to(known.device)], at=at).shifted(to_picks)


def _finished(
    matcher: Matcher,
    found: Poses,
    drawn: Poses,
    cut: Cut,
    *,
    at_once: int,
    usual: UsualPlace | None,
    centre: Tensor,
) -> Stream[Step, Poses]:
    """The poses drawn, those in which a turn is left open finished from where they were found."""
    rows, done = matcher.left_open(found), 0
    for some in _portions(rows, at_once):
        part = found.take(some)
        place = None if usual is None else usual.places(part.about(centre), point=centre)
        drawn = drawn.with_rows(some, _open_ended(matcher, part, cut(some), place))
        done += len(some)
        yield Step(done, len(rows), "Weighing what is left open")
    return drawn


def _open_ended(matcher: Matcher, poses: Poses, seen: tuple[Tensor, Tensor], place: Place | None) -> Poses:
    """Poses finished; shifts, and places, are from the picks."""
    patches, to_picks = seen
    from_patches = None if place is None else place.moved(to_picks)
    return matcher.finish(patches, poses.shifted(-to_picks), from_patches).shifted(to_picks)


def _portions(rows: Tensor, at_once: int) -> tuple[Tensor, ...]:
    return rows.split(at_once) if len(rows) else ()

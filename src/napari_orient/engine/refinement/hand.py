"""Hand of a reference beside the particles: it or its mirror image, whichever matches better, over a whole project.

A tilt series shows its sample and its mirror image alike, if the sense of the tilt angles is not known: a tomogram may
be mirrored, and so may a map. Poses against a map of the wrong hand are worthless. Each particle gives the difference d
of the log-likelihood gains of map and mirror image; over N particles the mean of d is significant where it exceeds
3 s / √N, s the standard deviation of d. The tomogram's model is estimated with either hand in turn, and d averaged over
both, so that neither is favoured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.parameters import PriorOptions, RefinementOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.refinement.hand_evidence import hand_gains
from napari_orient.engine.refinement.refine import cut_for, prepare_finder
from napari_orient.engine.streams import Note, Step, Stream, map_steps, stoppable
from napari_orient.engine.templates import Template

_SAMPLE = 48
"""Particles of a tomogram that are compared, at most."""
SIGNIFICANT = 3.0
"""Standard errors from which one hand is the better one."""


@dataclass(frozen=True, eq=False)
class HandScores:
    """Log-likelihood gains of N particles, nats.

    Parameters
    ----------
    given, mirrored : (N,) of the template as it is given, and of its mirror image.
    """

    given: FloatArray
    mirrored: FloatArray

    @classmethod
    def concatenated(cls, parts: Sequence[HandScores]) -> HandScores:
        """The scores of several tomograms."""
        return cls(np.concatenate([part.given for part in parts]), np.concatenate([part.mirrored for part in parts]))

    @property
    def z(self) -> float:
        """Mean of given less mirrored, in its standard errors; 0 of fewer than two particles."""
        difference = self.given - self.mirrored
        if len(difference) < 2 or difference.std() == 0:
            return 0.0
        return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))

    @property
    def better(self) -> str:
        """``given``, ``mirrored`` or ``undecided``."""
        if abs(self.z) < SIGNIFICANT:
            return "undecided"
        return "given" if self.z > 0 else "mirrored"

    @property
    def words(self) -> str:
        """Both means, and by how many standard errors which is better."""
        better = "neither is better" if self.better == "undecided" else f"{self.better} is better"
        return (
            f"mean log-likelihood gain as given {self.given.mean():.1f}, mirrored {self.mirrored.mean():.1f}: {better} "
            f"({abs(self.z):.1f} σ, {len(self.given)} particles)"
        )


def choose_hand(pairs: Labelled, template: Template, options: RefinementOptions) -> Stream[Step, Template]:
    """The template, or its mirror image where that matches the particles of all tomograms better; notes say why.

    A tomogram that fails is left out of the comparison.

    Raises
    ------
    InputError
        If all fail: what was wrong with the last.
    """
    scores: dict[str, HandScores] = {}
    for number, (tomogram, particles) in enumerate(pairs):
        stream = score_hands(tomogram, particles, template, options)
        try:
            scores[tomogram.name] = yield from _in_turn(stream, number, len(pairs))
        except InputError:
            if number == len(pairs) - 1 and not scores:
                raise
    together = HandScores.concatenated(list(scores.values()))
    yield Step(len(pairs), len(pairs), "Comparing hands", notes=tuple(_notes(scores, together)))
    return template.mirrored() if together.better == "mirrored" else template


def score_hands(
    tomogram: Tomogram, particles: Particles, template: Template, options: RefinementOptions
) -> Stream[Step, HandScores]:
    """How well the template and its mirror image match some particles of a tomogram."""
    # A prior is about the list's rotations, which may be those of the wrong hand.
    options = replace(options.replace(precision="fast"), prior=PriorOptions())
    some = particles.take(evenly_spaced_rows(len(particles), _SAMPLE)).replace(rotations=None)
    found = []
    for hand in (template, template.mirrored()):
        finder = yield from prepare_finder(tomogram, some, hand, options, checks=False)
        patches = cut_for(finder, tomogram, some)
        found.append((yield from stoppable(hand_gains(finder, patches), Step(1, 1, "Comparing hands"))))
    (own, other), (other_again, own_again) = ([gain.double().cpu().numpy() for gain in pair] for pair in found)
    return HandScores((own + own_again) / 2, (other + other_again) / 2)


def _in_turn(stream: Stream[Step, HandScores], number: int, count: int) -> Stream[Step, HandScores]:
    """The stream without its notes, which are those of a model that is only compared."""
    words = "Comparing hands" + (f" (tomogram {number + 1} of {count})" if count > 1 else "")
    return map_steps(stream, lambda step: Step(number, count, words))


def _notes(scores: Mapping[str, HandScores], together: HandScores) -> list[Note]:
    """What both hands scored, what follows, and which tomograms say otherwise."""
    better = together.better
    where = f" of {len(scores)} tomograms" if len(scores) > 1 else ""
    notes = [Note(f"Hand: {together.words}{where}.")]
    if better == "mirrored":
        notes.append(
            Note(
                "the reference is mirrored (x -> -x), and poses are written for the mirrored map. Tomogram or map has "
                "the wrong hand: mirror the map, or reconstruct with the tilt angles' sense reversed.",
                "warning",
            )
        )
    if better == "undecided":
        notes.append(Note("the hand is not determined; the reference is used as it is given.", "warning"))
    against = [name for name, own in scores.items() if {own.better, better} == {"given", "mirrored"}]
    if against:
        names = ", ".join(against)
        notes.append(Note(f"the other hand matches better in {names}: are these tomograms mirrored?", "warning"))
    return notes

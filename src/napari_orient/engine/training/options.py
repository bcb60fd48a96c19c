"""How to train: every option once, and the printed recipe."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.averaging.options import AveragingOptions
from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.networks.options import PAPER_NETWORK, NetworkOptions
from napari_orient.engine.options import Options, option, seed_option, suboptions
from napari_orient.engine.symmetry import symmetry_option


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """How labelled tomograms are split into training and validation."""

    validation: float = option(0.15, help="share of the tomograms kept apart for validation", low=0.01, high=0.9)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How to train a network. The defaults are the shipped one's; `PAPER_TRAINING` is the printed recipe."""

    epochs: int = option(40, help="passes over the training particles", low=1, high=10_000)
    batch: int = option(64, help="patches in one step of the optimiser", low=1, high=4096, expert=True)
    rate: float = option(2e-3, help="learning rate, the highest where it cycles", low=1e-7, high=1, expert=True)
    schedule: str = option(
        "cycle",
        help="learning rate: up and down once (cycle), or constant",
        choices=("cycle", "constant"),
        expert=True,
    )
    loss: str = option(
        "huber",
        help="of the raw outputs: huber with delta 0.5, or squared",
        choices=("huber", "squared"),
        expert=True,
    )
    weight_decay: float = option(1e-4, help="L2 penalty on the weights", low=0, high=1, expert=True)
    clip: float = option(10.0, help="gradient norm is cut to this", low=1e-3, high=1e6, expert=True)
    half_turns: bool = option(
        True, help="also train on half-turned patches: the turns that keep the missing wedge", expert=True
    )
    shift: float = option(
        5.0,
        help="also train on patches shifted along each axis by up to this",
        unit="Å",
        low=0,
        high=200,
        expert=True,
    )
    split: SplitOptions = suboptions(SplitOptions)
    seed: int = seed_option("of weights, order, half-turns, shifts and split")
    compute: ComputeOptions = suboptions(ComputeOptions)


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(Options):
    """What a template is to be: its symmetry, and how it will be searched for."""

    symmetry: str = symmetry_option()
    search: SearchOptions = suboptions(SearchOptions)


@dataclass(frozen=True, kw_only=True)
class TemplateTrainingOptions(Options):
    """How a template is made: the average of labelled particles, made anew from refined poses."""

    averaging: AveragingOptions = suboptions(AveragingOptions)
    rounds: int = option(
        0, help="times that poses are refined, each half by its own average, and averaged anew", low=0, high=20
    )
    split: SplitOptions = suboptions(SplitOptions)
    compute: ComputeOptions = suboptions(ComputeOptions)


PAPER_TRAINING = TrainingOptions(epochs=50, batch=32, rate=1e-4, schedule="constant", half_turns=False, shift=0.0)
"""The printed recipe: Huber loss, Adam at 1e-4, batches of 32, 50 epochs, no augmentation."""

PRESETS = {"default": (NetworkOptions(), TrainingOptions()), "paper": (PAPER_NETWORK, PAPER_TRAINING)}
"""Network and training options by name; the command line and the dock begin from one of them."""

TRAINABLE: dict[str, tuple[NetworkOptions | TemplateOptions, TrainingOptions | TemplateTrainingOptions]]
TRAINABLE = {**PRESETS, "template": (TemplateOptions(), TemplateTrainingOptions())}
"""The presets, and a template: pairs of options for `train`."""

"""How to train: every option once, and the printed recipe."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.averaging.options import AveragingOptions
from napari_orient.engine.devices import DEVICES
from napari_orient.engine.networks.options import PAPER_NETWORK, NetworkOptions
from napari_orient.engine.networks.reference_map import BankNetworkOptions
from napari_orient.engine.options import Options, option


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How to train. The defaults are the shipped checkpoint's; `PAPER_TRAINING` is the printed recipe."""

    epochs: int = option(40, help="passes over the training particles", low=1, high=10_000)
    batch: int = option(64, help="patches in one step of the optimiser", low=1, high=4096)
    rate: float = option(2e-3, help="learning rate, the highest where it cycles", low=1e-7, high=1)
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
        True, help="also show half-turned patches: the turns that keep the missing wedge", expert=True
    )
    shift: float = option(
        5.0,
        help="also show patches shifted along each axis by up to this",
        unit="Å",
        low=0,
        high=200,
        expert=True,
    )
    validation: float = option(0.15, help="share of the tomograms kept apart to judge by", low=0.01, high=0.9)
    seed: int = option(0, help="of weights, order, turns, shifts and split", low=0, high=2**31 - 1)
    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)


@dataclass(frozen=True, kw_only=True)
class BankTrainingOptions(AveragingOptions):
    """How a bank's reference is learnt: the average of labelled particles, made anew from refined poses."""

    rounds: int = option(
        0, help="times that poses are refined, each half by its own reference, and averaged anew", low=0, high=20
    )
    validation: float = option(0.15, help="share of the tomograms kept apart to judge by", low=0.01, high=0.9)
    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)


PAPER_TRAINING = TrainingOptions(epochs=50, batch=32, rate=1e-4, schedule="constant", half_turns=False, shift=0.0)
"""The printed recipe: Huber loss, Adam at 1e-4, batches of 32, 50 epochs, no augmentation."""

PRESETS = {"default": (NetworkOptions(), TrainingOptions()), "paper": (PAPER_NETWORK, PAPER_TRAINING)}
"""Network and training options by name; the command line and the dock begin from one of them."""

NETWORKS: dict[str, tuple[NetworkOptions | BankNetworkOptions, TrainingOptions | BankTrainingOptions]]
NETWORKS = {**PRESETS, "bank": (BankNetworkOptions(), BankTrainingOptions())}
"""The presets, and what learns a matched-filter bank: pairs of a network's and a training's options for `train`."""

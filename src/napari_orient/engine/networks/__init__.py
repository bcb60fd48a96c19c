"""Networks: patches in, rotations out; and the checkpoint, one file that holds one."""

from napari_orient.engine.networks.checkpoint import Checkpoint, bank_checkpoint, load_checkpoint, shipped_checkpoints
from napari_orient.engine.networks.contract import Answer, Network
from napari_orient.engine.networks.mlp import PAPER_NETWORK, MLPNetwork, NetworkOptions
from napari_orient.engine.networks.reference_map import BankNetworkOptions, ReferenceMap, ReferenceMapOptions

__all__ = [
    "PAPER_NETWORK",
    "Answer",
    "BankNetworkOptions",
    "Checkpoint",
    "MLPNetwork",
    "Network",
    "NetworkOptions",
    "ReferenceMap",
    "ReferenceMapOptions",
    "bank_checkpoint",
    "load_checkpoint",
    "shipped_checkpoints",
]

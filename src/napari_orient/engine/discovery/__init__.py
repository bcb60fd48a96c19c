"""Discovery: structure and poses from picks alone, with no labels and no template, and whether to believe them."""

from napari_orient.engine.discovery.alignment import align_map, shared_turn
from napari_orient.engine.discovery.belief import DOUBTFUL, NOTHING, STRUCTURE, Belief
from napari_orient.engine.discovery.discover import check_picks, discover
from napari_orient.engine.discovery.keeping import (
    Places,
    numbered,
    origin,
    write_checkpoint,
    write_discovery,
    write_round,
)
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.structure import OUTLIER, Discovery, Round, Structure, class_name

__all__ = [
    "DOUBTFUL",
    "NOTHING",
    "OUTLIER",
    "STRUCTURE",
    "Belief",
    "Discovery",
    "DiscoveryOptions",
    "Places",
    "Round",
    "Structure",
    "align_map",
    "check_picks",
    "class_name",
    "discover",
    "numbered",
    "origin",
    "shared_turn",
    "write_checkpoint",
    "write_discovery",
    "write_round",
]

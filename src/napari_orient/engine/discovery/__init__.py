"""Discovery: structure and poses from picks alone, with no labels and no template, and whether to believe them."""

from napari_orient.engine.discovery.discover import check_picks, discover
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.output import (
    OUTLIER,
    Discovery,
    DiscoveryPaths,
    DiscoveryStep,
    Structure,
    class_name,
    class_path,
    discovery_provenance,
    write_checkpoint,
    write_discovery,
    write_step,
)
from napari_orient.engine.discovery.search import align_map, common_rotation
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE, Verdict

__all__ = [
    "DOUBTFUL",
    "NOTHING",
    "OUTLIER",
    "STRUCTURE",
    "Discovery",
    "DiscoveryOptions",
    "DiscoveryPaths",
    "DiscoveryStep",
    "Structure",
    "Verdict",
    "align_map",
    "check_picks",
    "class_name",
    "class_path",
    "common_rotation",
    "discover",
    "discovery_provenance",
    "write_checkpoint",
    "write_discovery",
    "write_step",
]

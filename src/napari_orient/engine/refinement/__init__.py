"""Refinement: poses polished against a reference until only the noise is left, and what error the noise leaves."""

from napari_orient.engine.refinement.matcher import Matcher, learn
from napari_orient.engine.refinement.options import PoseOptions, RefinementOptions
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.presence import judged
from napari_orient.engine.refinement.refine import Refined, learn_tomogram, patch_side, refine, refine_few

__all__ = [
    "Matcher",
    "PoseOptions",
    "Poses",
    "Refined",
    "RefinementOptions",
    "judged",
    "learn",
    "learn_tomogram",
    "patch_side",
    "refine",
    "refine_few",
]

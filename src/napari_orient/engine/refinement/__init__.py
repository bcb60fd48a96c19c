"""Refinement: poses found and fitted against a reference, and what error the noise leaves."""

from napari_orient.engine.refinement.detection import error_with_false_picks
from napari_orient.engine.refinement.finder import PoseFinder, estimate_tomogram_model
from napari_orient.engine.refinement.options import PoseOptions, RefinementOptions
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.refine import (
    RefinementResult,
    patch_side,
    prepare_finder,
    refine,
    refine_with,
)

__all__ = [
    "PoseFinder",
    "PoseOptions",
    "Poses",
    "RefinementOptions",
    "RefinementResult",
    "error_with_false_picks",
    "estimate_tomogram_model",
    "patch_side",
    "prepare_finder",
    "refine",
    "refine_with",
]

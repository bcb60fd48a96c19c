"""Averaging: the map that particles imply in their poses, each half of them apart, and how far the halves agree."""

from napari_orient.engine.averaging.average import Average, AveragingOptions, average, random_halves
from napari_orient.engine.averaging.fsc import FSC, fourier_shell_correlation

__all__ = ["FSC", "Average", "AveragingOptions", "average", "fourier_shell_correlation", "random_halves"]

"""Averaging: the map that particles imply in their poses, each half of them apart, and how far the halves agree."""

from napari_orient.engine.averaging.average import Average, AveragingOptions, average, random_halves
from napari_orient.engine.averaging.fsc import FSC, fourier_shell_correlation
from napari_orient.engine.averaging.keeping import average_places, write_average

__all__ = [
    "FSC",
    "Average",
    "AveragingOptions",
    "average",
    "average_places",
    "fourier_shell_correlation",
    "random_halves",
    "write_average",
]

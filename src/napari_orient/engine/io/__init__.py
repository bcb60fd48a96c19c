"""Tomograms and particles in files.

``volumes``: one module for each format of volumes. ``dialects``: lists of particles, one module for each program's way
to write them, which alone knows its columns, and the registry of all; ``star``: the syntax of STAR files.
``particle_lists`` reads and writes a list in any of them, ``labelled`` joins tomograms with their particles.
``tomograms`` finds sizes and compares names.
"""

from napari_orient.engine.io.labelled import read_labelled
from napari_orient.engine.io.particle_lists import read_particles, write_particles
from napari_orient.engine.io.volumes.formats import read_tomogram, write_tomogram

__all__ = ["read_labelled", "read_particles", "read_tomogram", "write_particles", "write_tomogram"]

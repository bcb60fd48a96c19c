"""Tomograms and particles in files: one module for each dialect, which alone knows its columns.

``mrc``: volumes. Lists of particles: ``star`` (the syntax), ``relion`` (the meaning of its columns), ``polnet``,
``table`` (CSV and TSV); ``particle_lists`` chooses between them and joins tomograms with their particles. ``tomograms``
finds sizes and compares names. A new dialect is a module with a reader and a writer, and a line in ``particle_lists``.
"""

from napari_orient.engine.io.columns import pose_summary
from napari_orient.engine.io.mrc import header_voxel_size
from napari_orient.engine.io.mrc import read_mrc as read_tomogram
from napari_orient.engine.io.mrc import write_mrc as write_tomogram
from napari_orient.engine.io.particle_lists import (
    PARTICLE_SUFFIXES,
    VOLUME_SUFFIXES,
    read_labelled,
    read_particles,
    read_provenance,
    write_particles,
)
from napari_orient.engine.io.polnet import (
    is_polnet_folder,
    membrane_points,
    polnet_results,
    read_polnet_folder,
    write_polnet_tomogram,
)
from napari_orient.engine.io.relion import CENTRES, DIALECTS, write_import_list
from napari_orient.engine.io.tomograms import match_tomogram, same_tomogram

__all__ = [
    "CENTRES",
    "DIALECTS",
    "PARTICLE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "header_voxel_size",
    "is_polnet_folder",
    "match_tomogram",
    "membrane_points",
    "polnet_results",
    "pose_summary",
    "read_labelled",
    "read_particles",
    "read_polnet_folder",
    "read_provenance",
    "read_tomogram",
    "same_tomogram",
    "write_import_list",
    "write_particles",
    "write_polnet_tomogram",
    "write_tomogram",
]

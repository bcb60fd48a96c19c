"""Tomograms and particles in the files of other programs: one module a dialect; nothing else knows their columns.

``mrc``: volumes. ``star`` (the text), ``relion`` and ``relion_write`` (its meaning), ``polnet``, ``table`` (CSV and
TSV): lists of particles, which ``lists`` chooses between; ``labelled`` brings both together. A new dialect is a module
with a reader and a writer, and a line in ``lists``.
"""

from napari_orient.engine.files.labelled import VOLUME_SUFFIXES, labelled_of_kind, read_labelled
from napari_orient.engine.files.lists import PARTICLE_SUFFIXES, read_particles, read_provenance, write_particles
from napari_orient.engine.files.mrc import header_voxel_size
from napari_orient.engine.files.mrc import read_mrc as read_tomogram
from napari_orient.engine.files.mrc import write_mrc as write_tomogram
from napari_orient.engine.files.names import match_tomogram, same_tomogram
from napari_orient.engine.files.own import pose_words
from napari_orient.engine.files.polnet import (
    is_polnet_folder,
    membrane_points,
    polnet_results,
    read_polnet_folder,
    write_polnet,
    write_polnet_tomogram,
)
from napari_orient.engine.files.relion import CENTRES
from napari_orient.engine.files.relion_write import DIALECTS, write_import_list

__all__ = [
    "CENTRES",
    "DIALECTS",
    "PARTICLE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "header_voxel_size",
    "is_polnet_folder",
    "labelled_of_kind",
    "match_tomogram",
    "membrane_points",
    "polnet_results",
    "pose_words",
    "read_labelled",
    "read_particles",
    "read_polnet_folder",
    "read_provenance",
    "read_tomogram",
    "same_tomogram",
    "write_import_list",
    "write_particles",
    "write_polnet",
    "write_polnet_tomogram",
    "write_tomogram",
]

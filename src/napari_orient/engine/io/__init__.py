"""Tomograms and particles in files.

``volumes``: one module for each format of volumes. ``dialects``: lists of particles, one module for each program's way
to write them, which alone knows its columns, and the registry of all; ``star``: the syntax of STAR files.
``particle_lists`` reads and writes a list in any of them, ``labelled`` joins tomograms with their particles.
``tomograms`` finds sizes and compares names.
"""

from napari_orient.engine.io.columns import pose_summary
from napari_orient.engine.io.dialects import (
    DIALECTS,
    Dialect,
    ListFile,
    holds_true_poses,
    read_suffixes,
    recognise,
    recognise_content,
    writing_dialect,
    written_dialects,
    written_suffixes,
)
from napari_orient.engine.io.dialects.polnet import (
    is_polnet_folder,
    membrane_points,
    polnet_results,
    polnet_tomogram_folder,
    read_polnet_folder,
    write_polnet_tomogram,
)
from napari_orient.engine.io.dialects.relion_coordinates import ANY_SIZE, CENTRES, SizeUnknownError
from napari_orient.engine.io.dialects.relion_project import (
    import_list_path,
    optimisation_set_paths,
    write_import_list,
    write_optimisation_set,
)
from napari_orient.engine.io.labelled import (
    Failures,
    names_in_list,
    particles_of_each,
    read_labelled,
    volumes_of_list,
)
from napari_orient.engine.io.particle_lists import (
    check_particles_fit,
    pixel_size_to_write,
    read_particles,
    read_provenance,
    write_particles,
)
from napari_orient.engine.io.tomograms import match_tomogram, same_tomogram
from napari_orient.engine.io.volumes.formats import VOLUME_SUFFIXES, names_volume, read_tomogram, write_tomogram
from napari_orient.engine.io.volumes.mrc import header_voxel_size

__all__ = [
    "ANY_SIZE",
    "CENTRES",
    "DIALECTS",
    "VOLUME_SUFFIXES",
    "Dialect",
    "Failures",
    "ListFile",
    "SizeUnknownError",
    "check_particles_fit",
    "header_voxel_size",
    "holds_true_poses",
    "import_list_path",
    "is_polnet_folder",
    "match_tomogram",
    "membrane_points",
    "names_in_list",
    "names_volume",
    "optimisation_set_paths",
    "particles_of_each",
    "pixel_size_to_write",
    "polnet_results",
    "polnet_tomogram_folder",
    "pose_summary",
    "read_labelled",
    "read_particles",
    "read_polnet_folder",
    "read_provenance",
    "read_suffixes",
    "read_tomogram",
    "recognise",
    "recognise_content",
    "same_tomogram",
    "volumes_of_list",
    "write_import_list",
    "write_optimisation_set",
    "write_particles",
    "write_polnet_tomogram",
    "write_tomogram",
    "writing_dialect",
    "written_dialects",
    "written_suffixes",
]

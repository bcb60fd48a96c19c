"""STAR lists of pickers in RELION's columns, whose coordinates count in voxels of the tomogram that was searched."""

from __future__ import annotations

from pathlib import Path

from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.relion import PIXELS, named_tomograms, read_relion
from napari_orient.engine.io.dialects.relion_coordinates import CENTRED
from napari_orient.engine.io.dialects.warp import PIXEL_SIZES
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.particles import Particles


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_relion(file.path, metadata)


def _volumes(file: ListFile) -> dict[str, Path | None]:
    return named_tomograms(file.path)


def _is_pytom(file: ListFile) -> bool:
    if "ptmCoordinateX" in file.tags:
        return True
    return {PIXELS[0], "rlnDetectorPixelSize"} <= file.tags and not {"rlnMagnification", *CENTRED} & file.tags


def _is_list_in_voxels(file: ListFile) -> bool:
    unnamed = file.blocks == ("",) or "pytmeScore" in file.tags
    return unnamed and PIXELS[0] in file.tags and not {*PIXEL_SIZES, *CENTRED} & file.tags


PYTOM_MATCH_PICK = Dialect(
    name="pytom-match-pick",
    title="pytom-match-pick",
    programs="pytom-match-pick (pytom_extract_candidates.py)",
    suffixes=(".star",),
    layout="voxels of rlnDetectorPixelSize, from 0; rot, tilt, psi (ZYZ)",
    trap="rlnDetectorPixelSize is the voxel size here. With --relion5-compat the list is RELION 5's.",
    recognises=_is_pytom,
    read=_read,
    volumes=_volumes,
)

PICKS_IN_VOXELS = Dialect(
    name="picks",
    title="STAR list of picks in voxels",
    programs="RELION 5's picker (Picks/*/annotations), PySeg, pyTME",
    suffixes=(".star",),
    layout="voxels of the tomogram, from 0, minus rlnOrigin*; rot, tilt, psi (ZYZ)",
    trap="No pixel size is in the file: it is the voxel size of the tomogram, not the tilt series' pixel size.",
    recognises=_is_list_in_voxels,
    read=_read,
    volumes=_volumes,
)

"""Lists in XML: objects of DeepFinder and particle lists of PyTom, in voxels, with AV3's angles (zxz)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.numbered import names_of, tomograms_beside, volumes_of
from napari_orient.engine.io.dialects.voxels import (
    VoxelRows,
    particles_in_voxels,
    rotations_unless_zero,
    without_defaults,
)
from napari_orient.engine.io.star import Table, numbers, single
from napari_orient.engine.io.tomograms import ListMetadata, plain_name
from napari_orient.engine.particles import CLASS_NUMBER, FloatArray, Particles
from napari_orient.engine.rotations import zxz_to_matrix

_ENTITIES = ("<!DOCTYPE", "<!ENTITY")
"""Declarations that no list has, and by which a small file can fill the memory."""

_UNKNOWN = ("", "None", "nan", "NaN")


def _root(file: ListFile) -> ElementTree.Element:
    if any(word in file.text for word in _ENTITIES):
        raise InputError(f"{file.path} declares entities, as no list of particles does; it is not read.")
    try:
        return ElementTree.fromstring(file.text)
    except ElementTree.ParseError as error:
        raise InputError(f"{file.path} is no XML that can be read ({error}). Was it cut short?") from error


def _tag(file: ListFile) -> str:
    """Name of the first element."""
    text = file.head_text[:2000]
    starts = [part.split(">")[0].split()[0].rstrip("/") for part in text.split("<")[1:] if part[:1].isalpha()]
    return starts[0] if starts and text.lstrip().startswith("<") else ""


def _attributes(elements: Sequence[ElementTree.Element], names: Sequence[str], *, where: str, what: str) -> Table:
    """Attributes of the elements, as text by name.

    Raises
    ------
    InputError
        If an element lacks one.
    """
    for number, element in enumerate(elements, start=1):
        absent = [name for name in names if element.get(name) in (None, *_UNKNOWN)]
        if absent:
            raise InputError(f"{where}: {what} {number} has no {absent[0]}; expected {', '.join(names)}. Add it.")
    return {name: tuple(str(element.get(name)) for element in elements) for name in names}


# --- DeepFinder -----------------------------------------------------------------------------------------------------


def _objects(file: ListFile) -> list[ElementTree.Element]:
    found = list(_root(file).iter("object"))
    if not found:
        raise InputError(
            f"{file.path} is XML ({_tag(file) or 'no element'}) that holds no object. Choose another file."
        )
    return found


def _tomogram_numbers(objects: Sequence[ElementTree.Element], where: str) -> list[int]:
    texts = tuple("0" if item.get("tomo_idx") in (None, *_UNKNOWN) else str(item.get("tomo_idx")) for item in objects)
    return [round(number) for number in single({"tomo_idx": texts}, "tomo_idx", where=where).tolist()]


def _read_deepfinder(file: ListFile, metadata: ListMetadata) -> Particles:
    objects, where = _objects(file), str(file.path)
    tomograms, known = _tomogram_numbers(objects, where), tomograms_beside(file.path)
    named = [item.get("tomo_name") or "" for item in objects]
    rotations, notes = _angles(objects, ("phi", "the", "psi"), where, "object")
    position = _attributes(objects, ("x", "y", "z"), where=where, what="object")
    rows = VoxelRows(
        voxels=numbers(position, ("x", "y", "z"), where=where),
        names=named if all(named) else names_of(tomograms, known, metadata, path=file.path),
        rotations=rotations,
        extents=known.extents,
        extra=_others(objects, {"class_label": CLASS_NUMBER, "score": PICKERS_SCORE, "cluster_size": "clusterSize"}),
        notes=(*known.notes, *notes),
    )
    return particles_in_voxels(rows, metadata, where=where)


def _angles(
    elements: Sequence[ElementTree.Element], names: Sequence[str], where: str, what: str
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Rotations of three attributes, in the order phi, theta, psi; None where no element has them."""
    if all(element.get(name) in (None, *_UNKNOWN) for element in elements for name in names):
        return None, ()
    table = _attributes(elements, names, where=where, what=what)
    return rotations_unless_zero(numbers(table, names, where=where), zxz_to_matrix)


def _others(elements: Sequence[ElementTree.Element], names: dict[str, str]) -> dict[str, NDArray[np.str_]]:
    """Columns of attributes that every element has, under these names; those that are 0 for all are left out."""
    found = {column: tuple(element.get(name) or "" for element in elements) for name, column in names.items()}
    return without_defaults({name: values for name, values in found.items() if all(values)}, {})


def _deepfinder_volumes(file: ListFile) -> dict[str, Path | None]:
    objects = _objects(file)
    named = [item.get("tomo_name") or "" for item in objects]
    if all(named):
        return dict.fromkeys(named)
    return volumes_of(_tomogram_numbers(objects, str(file.path)), file.path)


DEEPFINDER = Dialect(
    name="deepfinder",
    title="DeepFinder object list",
    programs="DeepFinder, napari-deepfinder",
    suffixes=(".xml",),
    layout="voxels of the tomogram, from 0; phi, psi, the (zxz)",
    trap="Tomograms are numbers from 0, unless tomo_name is there.",
    recognises=lambda file: _tag(file) == "objlist",
    read=_read_deepfinder,
    volumes=_deepfinder_volumes,
)


# --- PyTom ----------------------------------------------------------------------------------------------------------


def _particles(file: ListFile) -> list[ElementTree.Element]:
    found = list(_root(file).iter("Particle"))
    if not found:
        raise InputError(f"{file.path} has no particles: its ParticleList is empty. Choose another file.")
    return found


def _parts(particles: Sequence[ElementTree.Element], name: str) -> list[ElementTree.Element]:
    """The child of this name of each particle; an empty one where there is none."""
    found = [particle.find(name) for particle in particles]
    return [ElementTree.Element(name) if part is None else part for part in found]


def _origins(particles: Sequence[ElementTree.Element]) -> list[str]:
    return [
        plain_name(part.get("Origin") or "") if part.get("Origin") else "" for part in _parts(particles, "PickPosition")
    ]


def _read_pytom(file: ListFile, metadata: ListMetadata) -> Particles:
    particles, where = _particles(file), str(file.path)
    axes = ("X", "Y", "Z")
    picked = _attributes(_parts(particles, "PickPosition"), axes, where=where, what="PickPosition")
    moved = {axis: tuple(part.get(axis) or "0" for part in _parts(particles, "Shift")) for axis in axes}
    turned = _parts(particles, "Rotation")
    wrong = next((part.get("Paradigm") for part in turned if part.get("Paradigm", "ZXZ") != "ZXZ"), None)
    if wrong is not None:
        raise InputError(f"{file.path} has rotations of paradigm {wrong}; expected ZXZ. Write it again with PyTom.")
    rotations, notes = _angles(turned, ("Z1", "X", "Z2"), where, "Rotation")
    scores = [_value(part, "Value") for part in _parts(particles, "Score")]
    classes = [_value(part, "Name") for part in _parts(particles, "Class")]
    rows = VoxelRows(
        voxels=numbers(picked, axes, where=where) + numbers(moved, axes, where=where),
        names=_origins(particles),
        rotations=rotations,
        extra=without_defaults({PICKERS_SCORE: scores, CLASS_NUMBER: classes}, {}),
        notes=notes,
    )
    return particles_in_voxels(rows, metadata, where=where)


def _value(part: ElementTree.Element, name: str) -> str:
    return part.get(name) or "0"


def _pytom_volumes(file: ListFile) -> dict[str, Path | None]:
    return dict.fromkeys(_origins(_particles(file)))


PYTOM = Dialect(
    name="pytom",
    title="PyTom particle list",
    programs="PyTom, PyTomGUI",
    suffixes=(".xml",),
    layout="voxels of the tomogram that was picked, from 0, plus Shift; Z1, X, Z2 = phi, theta, psi (zxz)",
    trap="Binning names the tomogram that was picked: its voxel size is needed, not the unbinned one.",
    recognises=lambda file: _tag(file) == "ParticleList",
    read=_read_pytom,
    volumes=_pytom_volumes,
)

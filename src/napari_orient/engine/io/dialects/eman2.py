"""EMAN2's boxes in tomograms (info/NAME_info.json) and its aligned particles (spt_XX/aliptcls3d_YY.lst).

Boxes count in unbinned pixels from the tomogram's middle voxel, size // 2 (e2spt_boxer), where the file states
``apix_unbin``; else in voxels from 0. Particles of a list (``#LSX``) count from there in pixels of their images.
``xform.align3d`` is the transformation x' = A x + t of the particle onto the reference (e2spt_mapptclstotomo): the pose
is R = Aᵀ, and the reference's origin lies at -Aᵀ t from the particle's box.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.relion_coordinates import SizeUnknownError
from napari_orient.engine.io.dialects.voxels import VoxelRows, particles_in_voxels, texts
from napari_orient.engine.io.tomograms import ListMetadata, find_extents, found_file, left_out_note, rows_of_tomogram
from napari_orient.engine.io.volumes.formats import names_volume, read_tomogram
from napari_orient.engine.io.volumes.hdf5 import stack_voxel_size
from napari_orient.engine.particles import HALF_SET, Extent, FloatArray, Particles, shortened

_BOXES = '"boxes_3d"'
_ALIGNMENT = "xform.align3d"
_COORDINATE = "coord"
_LST = b"#LSX"
_COORDINATES = "particle_info_3d.lst"
"""List beside alignments that has the places of the same particles."""

_LEVELS = 3
"""Folders above a list in which EMAN2's folder of tomograms is looked for: lists lie in info, sets or spt_XX."""

SCORE = "emanScore"
"""Column of EMAN2's score of an alignment; lower is better."""


def tomogram_of_image(name: str) -> str:
    """Name of the tomogram in that of a file: what stands before two underscores, as in ``ts01__ribo_bin2.hdf``."""
    return PurePosixPath(name.replace("\\", "/")).name.partition("__")[0].removesuffix(".hdf")


def tomograms_of_project(folder: Path) -> dict[str, Path]:
    """File of each tomogram of a project of EMAN2, by the name that its files share; of several binnings the first."""
    found: dict[str, Path] = {}
    # There is no such folder, or it may not be read.
    with suppress(OSError):
        for path in sorted((folder / "tomograms").iterdir()):
            if names_volume(path):
                found.setdefault(tomogram_of_image(path.name), path)
    return found


def _files(names: Sequence[str], beside: Path) -> dict[str, Path | None]:
    """File of each tomogram, in the project that a list lies in."""
    folders = beside.resolve().parents[:_LEVELS]
    projects = [files for folder in folders if (files := tomograms_of_project(folder))]
    known = projects[0] if projects else {}
    return {name: known.get(name) for name in dict.fromkeys(names)}


def _middles(names: Sequence[str], metadata: ListMetadata, path: Path) -> FloatArray:
    """Middle voxel of the tomogram of each row, size // 2, (N, 3) in Å.

    Raises
    ------
    SizeUnknownError
        If the size of a tomogram is unknown.
    """
    found = find_extents(names, [metadata.extents])
    for name, file in _files([name for name in names if name not in found], path).items():
        if file is not None:
            found[name] = read_tomogram(file).extent
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        raise SizeUnknownError(
            f"{path}: EMAN2 counts from the middle of a tomogram, and the size of {shortened(unknown, most=3)} is "
            "unknown. Open the tomogram too (--tomogram).",
            tomograms=unknown,
        )
    return np.array([_middle(found[name]) for name in names]).reshape(-1, 3)


def _middle(extent: Extent) -> list[float]:
    return [side // 2 * extent.voxel_size for side in extent.size]


# --- boxes ------------------------------------------------------------------------------------------------------------


def _is_boxes(file: ListFile) -> bool:
    return file.head_text.lstrip().startswith("{") and file.holds(_BOXES)


def _document(file: ListFile) -> dict[str, Any]:
    """The file's content.

    Raises
    ------
    InputError
        If it is cut short, or has no boxes.
    """
    try:
        found = json.loads(file.text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{file.path} is no JSON that can be read ({error}). Was it cut short?") from error
    boxes = found.get("boxes_3d") if isinstance(found, dict) else None
    if not isinstance(boxes, list) or not boxes:
        raise InputError(f"{file.path} has no particles: its boxes_3d are empty. Choose another file.")
    return dict(found)


def _name_of_boxes(path: Path) -> str:
    return path.stem.removesuffix("_info")


def _read_boxes(file: ListFile, metadata: ListMetadata) -> Particles:
    found, name = _document(file), _name_of_boxes(file.path)
    boxes = found["boxes_3d"]
    try:
        places = np.array([[float(value) for value in box[:3]] for box in boxes]).reshape(-1, 3)
        unbinned = float(found["apix_unbin"]) if "apix_unbin" in found else None
    except (TypeError, ValueError) as error:
        raise InputError(f"{file.path}: a box has no three numbers x, y, z. Save it again with EMAN2.") from error
    if metadata.tomogram is not None:
        rows_of_tomogram([name], metadata.tomogram, where=str(file.path))
    kind, extra = _classes(found, boxes), _scores(boxes)
    if unbinned is None or unbinned <= 0:
        rows = VoxelRows(voxels=places, names=[name] * len(boxes), kind=kind, extra=extra)
        return particles_in_voxels(rows, metadata, where=str(file.path))
    size = metadata.pixel_size or unbinned
    note = f"Coordinates count in unbinned pixels of {size:g} Å from the middle of the tomogram."
    return Particles(
        positions=places * size + _middles([name] * len(boxes), metadata, file.path),
        tomogram=np.full(len(boxes), name),
        kind=np.array(kind, str),
        list_row=np.arange(len(boxes)),
        extra=extra,
        notes=(note,),
    )


def _classes(document: Mapping[str, Any], boxes: Sequence[Sequence[Any]]) -> list[str]:
    """Name of the class of each box, or its number where it has no name."""
    named = document.get("class_list")
    names = {
        str(number): str(item["name"])
        for number, item in (named.items() if isinstance(named, dict) else ())
        if isinstance(item, dict) and "name" in item
    }
    numbers = [str(box[5]) if len(box) > 5 else "0" for box in boxes]
    return [names.get(number, number) for number in numbers]


def _scores(boxes: Sequence[Sequence[Any]]) -> dict[str, Any]:
    scores = [box[4] if len(box) > 4 and isinstance(box[4], (int, float)) else 0 for box in boxes]
    return {PICKERS_SCORE: texts(scores)} if any(scores) else {}


EMAN2_BOXES = Dialect(
    name="eman2-boxes",
    title="EMAN2 boxes",
    programs="EMAN2 (e2spt_boxer, e2spt_tempmatch: info/NAME_info.json)",
    suffixes=(".json",),
    layout="unbinned pixels (apix_unbin) from the tomogram's middle voxel, size // 2; no angles",
    trap="Older files without apix_unbin count in voxels from 0.",
    recognises=_is_boxes,
    read=_read_boxes,
    volumes=lambda file: _files([_name_of_boxes(file.path)], file.path),
)


# --- aligned particles ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Image:
    """A row of a list of images: number and file of the image, and what is known of it."""

    number: int
    file: str
    facts: Mapping[str, Any]


def _is_lst(file: ListFile) -> bool:
    aligned = file.holds(f'"{_ALIGNMENT}"')
    return file.head.startswith(_LST) and (aligned or file.holds(f'"{_COORDINATE}"'))


def _images(path: Path) -> list[_Image]:
    """Rows of a list of images.

    Raises
    ------
    InputError
        If it has none, or a row is no number, file and facts.
    """
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        number, _, rest = line.partition("\t")
        name, _, facts = rest.partition("\t")
        try:
            rows.append(_Image(int(number), name.strip(), json.loads(facts) if facts.strip() else {}))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: row {len(rows) + 1} is no number, file and facts of EMAN2. Mend it.") from error
    if not rows:
        raise InputError(f"{path} has no particles: it names no image. Choose another file.")
    return rows


def _read_lst(file: ListFile, metadata: ListMetadata) -> Particles:
    images = _images(file.path)
    names = [tomogram_of_image(image.file) for image in images]
    chosen = np.arange(len(images))
    others: tuple[str, ...] = ()
    if metadata.tomogram is not None:
        chosen = rows_of_tomogram(names, metadata.tomogram, where=str(file.path))
        others = left_out_note(names, chosen, where=str(file.path))
    coordinates = _coordinates(images, file.path)[chosen]
    own, names = [images[row] for row in chosen.tolist()], [names[row] for row in chosen.tolist()]
    sizes = _pixel_sizes(own, names, metadata, file.path)[:, None]
    positions = coordinates * sizes + _middles(names, metadata, file.path)
    rotations = None
    if all(_ALIGNMENT in image.facts for image in own):
        moved = np.array([_alignment(image, file.path) for image in own])
        rotations = moved[:, :, :3].transpose(0, 2, 1)
        positions -= (rotations @ moved[:, :, 3:])[..., 0] * sizes
    shown = shortened(sorted({f"{size:g}" for size in sizes[:, 0].tolist()}))
    return Particles(
        positions=positions,
        rotations=rotations,
        tomogram=np.array(names, str),
        list_row=chosen,
        extra=_columns_of(own),
        notes=(f"Coordinates count in pixels of {shown} Å from the middle of the tomogram.", *others),
    )


def _coordinates(images: Sequence[_Image], path: Path) -> FloatArray:
    """Places of the particles' boxes in pixels of their images, (N, 3).

    Raises
    ------
    InputError
        If they are neither in the list nor in the one beside it.
    """
    facts = [image.facts for image in images]
    beside = path.with_name(_COORDINATES)
    if not all(_COORDINATE in item for item in facts) and beside.is_file():
        known = {(image.file, image.number): image.facts for image in _images(beside)}
        facts = [known.get((image.file, image.number), image.facts) for image in images]
    try:
        return np.array([[float(value) for value in item[_COORDINATE]] for item in facts]).reshape(-1, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not say where its particles lie; expected {_COORDINATES} of the same refinement beside it."
        ) from error


def _pixel_sizes(images: Sequence[_Image], names: Sequence[str], metadata: ListMetadata, path: Path) -> FloatArray:
    """Å of a pixel of the image of each particle, (N,).

    Raises
    ------
    SizeUnknownError
        If it is not given, and the images are not there.
    """
    if metadata.pixel_size is not None:
        return np.full(len(images), metadata.pixel_size)
    found: dict[str, float] = {}
    for name in dict.fromkeys(image.file for image in images):
        file = found_file(name, beside=path)
        size = None if file is None else stack_voxel_size(file)
        if size is None:
            raise SizeUnknownError(
                f"{path} counts in pixels of {name}, whose size is not found there. Give it in Å (--pixel-size).",
                tomograms=tuple(dict.fromkeys(names)),
            )
        found[name] = size
    return np.array([found[image.file] for image in images])


def _alignment(image: _Image, path: Path) -> FloatArray:
    """Transformation of a particle onto the reference, (3, 4).

    Raises
    ------
    InputError
        If it is no twelve numbers, or no rotation with a shift.
    """
    given = image.facts[_ALIGNMENT]
    matrix = given.get("matrix") if isinstance(given, dict) else given
    try:
        numbers = json.loads(matrix) if isinstance(matrix, str) else matrix
        found = np.array(numbers, float).reshape(3, 4)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {_ALIGNMENT} of particle {image.number} is no matrix of 12 numbers.") from error
    rotation = found[:, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=_ORTHOGONAL) or np.linalg.det(rotation) < 0:
        raise InputError(
            f"{path}: {_ALIGNMENT} of particle {image.number} is no rotation: it scales or mirrors. Align anew."
        )
    return found


_ORTHOGONAL = 1e-3
"""Greatest deviation of R Rᵀ from the identity; EMAN2 writes seven digits or fewer."""


def _columns_of(images: Sequence[_Image]) -> dict[str, Any]:
    """Score and half-set, as far as all have them."""
    found: dict[str, Any] = {}
    if all("score" in image.facts for image in images):
        found[SCORE] = texts([image.facts["score"] for image in images])
    halves = [image.facts.get("class") for image in images]
    if {0, 1} == set(halves):
        found[HALF_SET] = texts([int(half or 0) + 1 for half in halves])
    return found


def _volumes_of_lst(file: ListFile) -> dict[str, Path | None]:
    return _files([tomogram_of_image(image.file) for image in _images(file.path)], file.path)


EMAN2_PARTICLES = Dialect(
    name="eman2",
    title="EMAN2 aligned particles",
    programs="EMAN2 (e2spt_refine_new: spt_XX/aliptcls3d_YY.lst)",
    suffixes=(".lst",),
    layout="pixels of the particles' images from the tomogram's middle voxel; xform.align3d is the inverse of the pose",
    trap="Where particles lie is in particle_info_3d.lst beside the list, and the pixel size in particles3d/*.hdf.",
    recognises=_is_lst,
    read=_read_lst,
    volumes=_volumes_of_lst,
)

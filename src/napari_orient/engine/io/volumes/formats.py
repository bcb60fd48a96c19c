"""Formats of volumes: which one a file is of, by its content and then by its suffix, and the one door to all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from napari_orient.engine.environment import printable
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes import em, hdf5, mrc, tiff, zarr_store
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, question_on_width
from napari_orient.engine.outputs import existing_file, given_path
from napari_orient.engine.particles import Density, Tomogram

_PACKED_SUFFIXES = tuple(f"{suffix}{packing}" for suffix in mrc.SUFFIXES for packing in mrc.PACKED)

VOLUME_SUFFIXES = (
    *mrc.SUFFIXES,
    *_PACKED_SUFFIXES,
    *zarr_store.SUFFIXES,
    *em.SUFFIXES,
    *hdf5.SUFFIXES,
    *tiff.SUFFIXES,
)
"""Endings of the names of volumes, in the order in which one is preferred where several files have one name."""

_SUBTOMOGRAM = re.compile(r"particle_\d{3,}\.(em|mrc)$")
"""Names of Dynamo's subtomograms, which lie by thousands beside their table and are no tomograms."""

_MAGIC_BYTES = 64
"""Bytes at a file's start that formats are known by."""

_FIRST_TEXT_BYTE = 9
"""Least byte of text, a tab: the sizes that headers of volumes begin with have bytes of 0."""

_OTHER_FILES = {
    b"PK\x03\x04": ("a zip archive", "Unpack it first."),
    b"\xfd7zXZ": ("packed by xz", "Unpack it first (unxz)."),
    b"\x28\xb5\x2f\xfd": ("packed by Zstandard", "Unpack it first (unzstd)."),
    b"\x93NUMPY": ("an array of NumPy", "Write it as MRC (napari_orient.write_tomogram, or mrcfile)."),
    b"version https://git-lfs": ("a pointer to a file in Git LFS, not the file itself", "Fetch it with git lfs pull."),
    b"<!DOCTYPE html": ("a web page", "Download the file itself, not the page that shows it."),
    b"<html": ("a web page", "Download the file itself, not the page that shows it."),
    b"data_": ("a STAR file", "Open it as a list of particles."),
    b"NRRD000": ("a volume in NRRD", "Convert it to MRC."),
    b"# Amira": ("a file of Amira", "Export the volume as MRC or TIFF."),
    b"# Avizo": ("a file of Avizo", "Export the volume as MRC or TIFF."),
    b"\x89PNG\r\n": ("a picture", "Open the tomogram itself."),
}
"""What other files are, by their first bytes, and what makes a volume of them."""


def read_tomogram(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of a file, read by parts on demand; its name is the file's without its suffix.

    Read are MRC (also packed by gzip or bzip2), OME-Zarr, EM, HDF5 as EMAN2 writes it, and TIFF.

    Parameters
    ----------
    voxel_size : Å; overrides what the file states. Of an OME-Zarr store with several levels it chooses the level.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If there is no such file, it is no volume or not whole, or its voxel size is unknown.
    """
    path = given_path(path)
    if path.is_dir():
        return replace(zarr_store.read_zarr(path, voxel_size=voxel_size, flag=flag), path=path)
    path = existing_file(path)
    opened = _read_file(path, _first_bytes(path), voxel_size, flag)
    question = () if voxel_size is not None else question_on_width(opened, flag)
    return replace(opened, name=volume_name(path), path=path, notes=(*opened.notes, *question))


def write_tomogram(path: Path | str, volume: Tomogram | Density, *, voxel_size: float | None = None) -> None:
    """Write a volume [z, y, x] as an MRC file of float32, which appears whole or not at all.

    Parameters
    ----------
    path : ends in .mrc, .rec, .map or .ccp4.
    volume : a tomogram, or an array.
    voxel_size : Å, of an array; None takes the tomogram's.

    Raises
    ------
    InputError
        If it is not a volume, its voxel size is unknown, or the file cannot be written.
    """
    if given_path(path).suffix.lower() not in mrc.SUFFIXES:
        raise InputError(f"{path} given for a volume; expected a name that ends in {', '.join(mrc.SUFFIXES)}.")
    density, own = (volume.density, volume.voxel_size) if isinstance(volume, Tomogram) else (volume, None)
    size = own if voxel_size is None else voxel_size
    if size is None:
        raise InputError(f"the voxel size of what is to be written to {path} is unknown; give voxel_size, in Å.")
    mrc.write_mrc(path, density, voxel_size=size)


def _read_file(path: Path, magic: bytes, voxel_size: float | None, flag: str) -> Tomogram:
    suffix = path.suffix.lower()
    if suffix in mrc.PACKED or magic[:3] in (b"\x1f\x8b\x08", b"BZh"):
        return mrc.read_packed(path, name=volume_name(path), voxel_size=voxel_size, flag=flag)
    if magic.startswith(hdf5.MAGIC):
        return hdf5.read_hdf5(path, voxel_size=voxel_size, flag=flag)
    if magic[:4] in tiff.MAGICS:
        return tiff.read_tiff(path, voxel_size=voxel_size, flag=flag)
    for start, (what, remedy) in _OTHER_FILES.items():
        if magic.lstrip().startswith(start):
            raise InputError(f"{path} is {what}; expected a volume. {remedy}")
    if magic and not any(byte < _FIRST_TEXT_BYTE for byte in magic):
        raise InputError(f"{path} is text; expected a volume. Is it a list of particles?")
    if suffix in em.SUFFIXES:
        return em.read_em(path, voxel_size=voxel_size, flag=flag)
    return mrc.read_mrc(path, voxel_size=voxel_size, flag=flag)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAGIC_BYTES)


def volume_name(path: Path) -> str:
    """Name of a volume's file without the ending that says its format, as text."""
    if path.suffix.lower() in zarr_store.SUFFIXES or path.is_dir():
        return printable(zarr_store.store_name(path))
    name = Path(path.name)
    stem = name.stem if name.suffix.lower() in mrc.PACKED else name.name
    return printable(Path(stem).stem.removesuffix(".ome"))


def names_volume(path: Path) -> bool:
    """Whether a path can be that of a volume: by its ending, and for EM files, which may be lists, by its header."""
    if not path.name.lower().endswith(VOLUME_SUFFIXES) or path.name.startswith("."):
        return False
    if _SUBTOMOGRAM.match(path.name):
        return False
    return path.suffix.lower() not in em.SUFFIXES or em.is_em_volume(path)


def volumes_in(folder: Path) -> dict[str, Path]:
    """Volumes of a folder by name; of several of one name, that of the format that comes first."""
    found = [item for item in sorted(folder.iterdir()) if names_volume(item)]
    volumes: dict[str, Path] = {}
    for item in sorted(found, key=_preference):
        volumes.setdefault(volume_name(item), item)
    return dict(sorted(volumes.items()))


def _preference(path: Path) -> int:
    name = path.name.lower()
    return max((index for index, suffix in enumerate(VOLUME_SUFFIXES) if name.endswith(suffix)), default=0)

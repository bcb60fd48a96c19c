"""Volumes in MRC files (.mrc, .rec, .map), as MRC2014 and IMOD mean them: read by parts, written as float32.

Files packed with gzip or bzip2 are unpacked in memory where they are small, else to a folder that is named.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import sys
import tempfile
import zlib
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.byte_signs import kind_of_bytes
from napari_orient.engine.io.volumes.on_demand import stored_density
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, Sizes, VoxelSize, is_cubic, usable, voxel_size_in_force
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import Density, Tomogram

SUFFIXES = (".mrc", ".rec", ".map", ".ccp4")
"""Suffixes of volumes in MRC files."""

HEADER_BYTES = 1024
"""Length of the main header, MRC2014."""

_STACK_SUFFIXES = (".st", ".ali", ".preali", ".mrcs")
"""Suffixes by which IMOD and RELION name stacks of images."""

_VOLUME_STACKS = range(401, 631)
"""Space groups that mark a stack of volumes, MRC2014."""

_SIZES = range(1, 2**20)
"""Voxels along an axis of a header that makes sense."""

_IMOD_STAMP = 1146047817
"""Mark of IMOD (``IMOD`` as four bytes) at byte 152, behind which its flags stand."""

_SIGNED_BYTES = 1
"""Flag of IMOD: bytes are signed. Without it they are unsigned."""

_SOURCE = "MRC header"

ByteOrder = Literal["<", ">"]
"""Little-endian or big-endian."""


@dataclass(frozen=True)
class Header:
    """Contents of an MRC header.

    Parameters
    ----------
    size : voxels along x, y, z.
    voxel_sizes : Å along x, y, z; 0 where unset.
    dtype : type of a voxel, with its byte order; None for a mode that is not read.
    sign_unknown : whether voxels are bytes of which the header does not say if they are signed.
    offset : bytes before the first voxel.
    notes : what a person should know of how the header was understood.
    """

    size: tuple[int, int, int]
    voxel_sizes: Sizes
    mode: int
    dtype: np.dtype[Any] | None
    offset: int
    marked: bool
    space_group: int
    slices_a_volume: int
    axes: tuple[int, int, int]
    notes: tuple[str, ...]
    sign_unknown: bool = False

    @property
    def bytes_expected(self) -> int:
        """Bytes of a whole file."""
        x, y, z = self.size
        return self.offset + (self.dtype.itemsize if self.dtype is not None else 1) * x * y * z

    @property
    def voxel_type(self) -> np.dtype[Any]:
        """Type of a voxel, of a header that was checked."""
        if self.dtype is None:
            raise ValueError(f"mode {self.mode} has no type")
        return self.dtype

    @property
    def makes_sense(self) -> bool:
        """Whether the sizes are ones that a volume may have."""
        return all(length in _SIZES for length in self.size) and self.offset >= HEADER_BYTES

    @property
    def is_image_stack(self) -> bool:
        """Whether the header marks its slices as images: space group 0 and one slice for each volume."""
        return self.space_group == 0 and self.slices_a_volume == 1 and self.size[2] > 1


def read_mrc(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of an MRC file, read by parts on demand; its name is the file's without the suffix.

    Parameters
    ----------
    voxel_size : Å; overrides the header's. The header's axes may differ by a thousandth, and are averaged.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If there is no such file, it is empty, cut short or no MRC file, it holds an image or a stack instead of a
        volume, or no voxel size is given and the header's is 0, 1.0 or not cubic.
    """
    path = existing_file(path)
    header = checked_header(path, voxel_size_given=voxel_size is not None, flag=flag)
    size = _size_in_force(path, header, voxel_size, flag)
    x, y, z = header.size
    density = stored_density(path, header.voxel_type, (z, y, x), offset=header.offset)
    voxel_type, notes = _type_and_notes(header, density)
    if voxel_type != header.voxel_type:
        density = stored_density(path, voxel_type, (z, y, x), offset=header.offset)
    return Tomogram(density, size.value, path.stem, size.source, (*size.notes, *notes))


def _type_and_notes(header: Header, density: Density) -> tuple[np.dtype[Any], tuple[str, ...]]:
    """Type of the voxels, of bytes without a stated sign by the voxels themselves, and what should be known."""
    if not header.sign_unknown:
        return header.voxel_type, header.notes
    voxel_type, note = kind_of_bytes(density)
    return voxel_type, (*header.notes, *([note] if note else []))


def mrc_of_bytes(
    content: bytes, header: Header, path: Path, *, name: str, voxel_size: float | None, flag: str
) -> Tomogram:
    """Volume of the bytes of a whole MRC file, as `read_mrc`; ``path`` is where they were unpacked from.

    Raises
    ------
    InputError
        As `read_mrc`.
    """
    check_complete(path, header, len(content))
    check_volume(path, header, voxel_size_given=voxel_size is not None, flag=flag)
    size = _size_in_force(path, header, voxel_size, flag)
    x, y, z = header.size
    density = np.frombuffer(content, header.voxel_type, count=x * y * z, offset=header.offset).reshape(z, y, x)
    voxel_type, notes = _type_and_notes(header, density)
    return Tomogram(density.view(voxel_type), size.value, name, size.source, (*size.notes, *notes))


def write_mrc(path: Path | str, density: Density, *, voxel_size: float) -> None:
    """Write a volume [z, y, x] as float32 with its voxel size in Å; the file appears whole or not at all.

    Raises
    ------
    InputError
        If it is not a volume, or the file cannot be written.
    """
    import mrcfile

    if np.ndim(density) != 3:
        raise InputError(f"a density of shape {np.shape(density)} was to be written; expected three axes (z, y, x).")
    with replacing(path) as beside, mrcfile.new(beside, overwrite=True) as volume:
        volume.set_data(np.ascontiguousarray(density, dtype=np.float32))
        volume.set_volume()
        volume.voxel_size = voxel_size
        # mrcfile's own label has the time of writing; the same volume should give the same bytes.
        volume.header.label = b""
        volume.header.label[0] = b"napari-orient"


# --- headers --------------------------------------------------------------------------------------------------------


def checked_header(path: Path, *, voxel_size_given: bool, flag: str = FLAG) -> Header:
    """Header of a file that holds one whole volume.

    Raises
    ------
    InputError
        If the file is cut short or no MRC file, or it holds an image, a stack or complex numbers.
    """
    header = read_header(path)
    check_volume(path, header, voxel_size_given=voxel_size_given, flag=flag)
    return header


def read_header(path: Path) -> Header:
    """Header of a whole MRC file.

    Raises
    ------
    InputError
        If the file is no MRC file, cut short, or of a mode that is not read.
    """
    actual = path.stat().st_size
    if actual < HEADER_BYTES:
        raise InputError(f"{path} has {actual} bytes, less than an MRC header; is it an MRC file, copied completely?")
    with path.open("rb") as stream:
        header = parsed_header(stream.read(HEADER_BYTES))
    check_complete(path, header, actual)
    return header


def parsed_header(raw: bytes) -> Header:
    """Header of the first 1024 bytes of an MRC file, in the byte order in which it makes sense."""
    orders: tuple[ByteOrder, ByteOrder] = ("<", ">") if raw[212:213] != b"\x11" else (">", "<")
    headers = [_header(raw, order) for order in orders]
    return next((header for header in headers if header.makes_sense and header.dtype is not None), headers[0])


def check_complete(path: Path, header: Header, actual: int) -> None:
    """Check that a header is one of an MRC file of so many bytes.

    Raises
    ------
    InputError
        If it is not, or bytes are missing.
    """
    if not header.makes_sense or (not header.marked and (header.dtype is None or header.bytes_expected != actual)):
        raise InputError(f"{path} is not an MRC file (its header makes no sense); expected .mrc, .rec or .map.")
    if header.dtype is None:
        raise InputError(f"{path} holds numbers of MRC mode {header.mode}, which is not read. Convert it to mode 2.")
    if actual < header.bytes_expected:
        raise InputError(
            f"{path} is cut short: {actual:,} of {header.bytes_expected:,} bytes are there. Copy or download it again."
        )


def check_volume(path: Path, header: Header, *, voxel_size_given: bool, flag: str = FLAG) -> None:
    """Check that a header is that of one volume.

    Raises
    ------
    InputError
        If it is that of an image, of a stack, of complex numbers, or its axes are not x, y, z.
    """
    x, y, z = header.size
    if z == 1:
        raise InputError(f"{path} is one image of {x} × {y} pixels; expected a volume.")
    if header.space_group in _VOLUME_STACKS and header.slices_a_volume != z:
        raise InputError(f"{path} is a stack of volumes (space group {header.space_group}); expected one volume.")
    if header.is_image_stack and not voxel_size_given:
        raise InputError(
            f"{path} calls itself a stack of {z} images (space group 0), not a volume. If it is a volume, "
            f"give its voxel size in Å ({flag})."
        )
    if path.suffix.lower() in _STACK_SUFFIXES and not voxel_size_given:
        raise InputError(
            f"{path} is named as a stack of images ({path.suffix}), such as a tilt series; expected a tomogram "
            f"reconstructed from it. If it is a volume, give its voxel size in Å ({flag})."
        )
    if header.axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path} stores its axes in the order {header.axes}; expected x, y, z. Rewrite it so.")
    if header.dtype is not None and header.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers (a Fourier transform); expected density.")


def _header(raw: bytes, order: ByteOrder) -> Header:
    import mrcfile.dtypes

    fields = np.frombuffer(raw, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))[0]
    size = (int(fields["nx"]), int(fields["ny"]), int(fields["nz"]))
    dtype, byte_note, sign_unknown = _voxel_type(raw, fields, order)
    sizes, size_note = _voxel_sizes(fields, size)
    return Header(
        size,
        sizes,
        int(fields["mode"]),
        dtype,
        HEADER_BYTES + int(fields["nsymbt"]),
        bytes(fields["map"])[:3] == b"MAP",
        int(fields["ispg"]),
        int(fields["mz"]),
        (int(fields["mapc"]), int(fields["mapr"]), int(fields["maps"])),
        tuple(note for note in (byte_note, size_note, _origin_note(fields)) if note),
        sign_unknown,
    )


def _voxel_type(raw: bytes, fields: Any, order: ByteOrder) -> tuple[np.dtype[Any] | None, str, bool]:
    """Type of a voxel; a note where bytes are unsigned by the header's statistics; and whether it states no sign."""
    from mrcfile.utils import dtype_from_mode

    try:
        dtype = np.dtype(dtype_from_mode(int(fields["mode"]))).newbyteorder(order)
    except ValueError:
        return None, "", False
    if dtype.itemsize > 1:
        return dtype, "", False
    stamp, flags = np.frombuffer(raw, np.dtype(np.int32).newbyteorder(order), count=2, offset=152).tolist()
    if stamp == _IMOD_STAMP:
        return np.dtype(np.int8 if flags & _SIGNED_BYTES else np.uint8), "", False
    lowest, highest = float(fields["dmin"]), float(fields["dmax"])
    if lowest >= 0 and 127 < highest <= 255:
        note = f"Its bytes are read as unsigned, for the header says they reach {highest:g}."
        return np.dtype(np.uint8), note, False
    # Programs that know no statistics leave zeros, or a maximum below the minimum.
    return dtype, "", not -128 <= lowest < highest <= 127


def _voxel_sizes(fields: Any, size: tuple[int, int, int]) -> tuple[Sizes, str]:
    """Å along x, y, z, 0 where unset; and a note where they come from the number of voxels, not of samples."""
    lengths = [float(fields["cella"][axis]) for axis in "xyz"]
    sampled = _divided(lengths, [int(fields[name]) for name in ("mx", "my", "mz")])
    by_voxel = _divided(lengths, size)
    # Some programs write one sample along z, as for images, beside the length of the whole volume.
    if int(fields["mz"]) == 1 and usable(sampled) and not is_cubic(sampled) and is_cubic(by_voxel):
        return by_voxel, "Its header counts one sample along z; its voxel size is taken from the cell's length."
    return sampled, ""


def _divided(lengths: list[float], parts: Any) -> Sizes:
    x, y, z = (length / part if part > 0 else 0.0 for length, part in zip(lengths, parts, strict=True))
    return x, y, z


def _origin_note(fields: Any) -> str:
    """A note where the header puts voxel 0 anywhere but at 0."""
    origin = [float(fields["origin"][axis]) for axis in "xyz"]
    start = [int(fields[name]) for name in ("nxstart", "nystart", "nzstart")]
    named = [
        f"{name} ({', '.join(f'{value:g}' for value in values)}){unit}"
        for name, values, unit in (("origin", origin, " Å"), ("start", start, " voxels"))
        if any(values) and np.isfinite(values).all()
    ]
    if not named:
        return ""
    return f"Its header has {' and '.join(named)}, which is not used: positions count from the first voxel's centre."


def _size_in_force(path: Path, header: Header, given: float | None, flag: str) -> VoxelSize:
    return voxel_size_in_force(path, header.voxel_sizes, source=_SOURCE, given=given, flag=flag)


# --- packed files -----------------------------------------------------------------------------------------------------

PACKED = {".gz": "gunzip", ".bz2": "bunzip2"}
"""Suffixes of packed files, and the program that unpacks them."""

IN_MEMORY_BYTES = 256 * 2**20
"""Largest unpacked file that is read into memory: 64 million voxels of float32, a map or a coarse tomogram. Chosen."""

CACHE_VARIABLE = "NAPARI_ORIENT_CACHE"
"""Environment variable that names the folder to unpack large files to."""

_BLOCK = 16 * 2**20
"""Bytes unpacked at a time."""

_UNREADABLE = (OSError, EOFError, zlib.error, ValueError)


def read_packed(path: Path | str, *, name: str, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of a packed MRC file.

    A file larger than `IN_MEMORY_BYTES` is unpacked once to `cache_folder` and mapped from there; a note says so.

    Parameters
    ----------
    name : of the tomogram.
    voxel_size, flag : as `read_mrc`.

    Raises
    ------
    InputError
        If it cannot be unpacked, there is no place for it, or as `read_mrc`.
    """
    path = existing_file(path)
    header = _packed_header(path)
    if header.bytes_expected <= IN_MEMORY_BYTES:
        content = _unpacked(path, header.bytes_expected)
        return mrc_of_bytes(content, header, path, name=name, voxel_size=voxel_size, flag=flag)
    check_volume(path, header, voxel_size_given=voxel_size is not None, flag=flag)
    unpacked = _unpacked_file(path, header, name)
    opened = read_mrc(unpacked, voxel_size=voxel_size, flag=flag)
    size = f"{header.bytes_expected / 2**30:.1f} GiB"
    note = f"{path.name} was unpacked to {unpacked} ({size}), which may be removed afterwards."
    return replace(opened, name=name, notes=(*opened.notes, note))


def cache_folder() -> Path:
    """Folder to unpack to: that of `CACHE_VARIABLE`, else the user's for caches, else the one for temporary files."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = {
        "win32": os.environ.get("LOCALAPPDATA", ""),
        "darwin": str(Path("~/Library/Caches").expanduser()),
    }.get(sys.platform, os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser()))
    folder = Path(base) / "napari-orient"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "napari-orient"
    return folder


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        magic = stream.read(3)
    if magic == b"BZh":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    raise InputError(f"{path} is packed neither by gzip nor by bzip2, whatever its name says. Copy it again.")


def _packed_header(path: Path) -> Header:
    raw = _unpacked(path, HEADER_BYTES)
    header = parsed_header(raw) if len(raw) == HEADER_BYTES else None
    if header is None or not (header.makes_sense and header.marked):
        program = PACKED[path.suffix.lower()]
        raise InputError(f"{path} holds no MRC file that can be read packed. Unpack it first ({program}).")
    # What is in the header decides how much is unpacked: the file's own end is known only afterwards.
    check_complete(path, header, header.bytes_expected)
    return header


def _unpacked(path: Path, count: int) -> bytes:
    """First bytes of the unpacked file, at most so many."""
    try:
        with _opened(path) as stream:
            return stream.read(count)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be unpacked ({error}). Copy or download it again.") from error


def _unpacked_file(path: Path, header: Header, name: str) -> Path:
    """The unpacked file, made once for each state of the packed one."""
    state = path.stat()
    key = sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder()
    target = folder / f"{name}-{key}.mrc"
    if target.is_file() and target.stat().st_size == header.bytes_expected:
        return target
    _check_free(path, folder, header.bytes_expected)
    with replacing(target) as beside:
        _unpack_to(path, beside, header.bytes_expected)
        check_complete(path, header, beside.stat().st_size)
    return target


def _unpack_to(path: Path, target: Path, count: int) -> None:
    left = count
    try:
        with _opened(path) as stream, target.open("wb") as out:
            while left > 0 and (block := stream.read(min(_BLOCK, left))):
                out.write(block)
                left -= len(block)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be unpacked to {target.parent} ({error}).") from error


def _check_free(path: Path, folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(
            f"{path} must be unpacked, and {folder} cannot be written ({error.strerror}). Unpack it yourself "
            f"({PACKED[path.suffix.lower()]}), or name another folder in {CACHE_VARIABLE}."
        ) from error
    if free < needed:
        raise InputError(
            f"{path} takes {needed / 2**30:.1f} GiB unpacked; {folder} has {free / 2**30:.1f} GiB left. Name another "
            f"folder in {CACHE_VARIABLE}."
        )

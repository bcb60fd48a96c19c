"""Templates: maps of macromolecules as given, or built from the bead models that come with the package."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.symmetry import Symmetry, symmetry

Volume = NDArray[np.float32]

_SPOKEN_NAMES = {"ribosome": "4v4r", "proteasome": "3j9i"}
_BEAD_VOXEL_SIZE = 5.0
_COLUMNS = ("x", "y", "z", "weight", "width")


@dataclass(frozen=True, eq=False)
class Template:
    """The noise-free density of one macromolecule; bright where the matter is.

    Parameters
    ----------
    density : (Z, Y, X) array; the particle's frame is the array's own x, y, z about the box centre ``(n − 1) / 2``.
    voxel_size : Å.
    name : the code that its particles carry as their kind, such as ``pdb_4v4r``.
    symmetry : its group and axes, as `engine.symmetry` reads them; None = unknown.

    Raises
    ------
    InputError
        If the density is not a finite volume with something bright in it, or the voxel size is not positive.
    """

    density: NDArray[Any]
    voxel_size: float
    name: str
    symmetry: str | None = None

    def __post_init__(self) -> None:
        """Check the density and the voxel size."""
        if np.ndim(self.density) != 3:
            raise InputError(f"template {self.name} has shape {np.shape(self.density)}; expected a volume (z, y, x).")
        if not (np.isfinite(self.voxel_size) and self.voxel_size > 0):
            raise InputError(f"template {self.name} has voxels of {self.voxel_size} Å; expected a positive size.")
        if not np.isfinite(self.density).all():
            raise InputError(f"template {self.name} holds values that are not finite numbers. Repair the map first.")
        if not np.max(self.density, initial=0) > 0:
            raise InputError(f"template {self.name} has no density above 0; matter must be bright. Invert it first.")

    @property
    def centre(self) -> FloatArray:
        """The point that positions refer to, (3,) voxels xyz: ``(n − 1) / 2``."""
        return (np.array(self.density.shape[::-1], float) - 1) / 2


def load_template(path_or_name: Path | str) -> Template:
    """The template of an MRC file, or the bead model of that name (``ribosome``, ``4v4r``, ``proteasome``, ``3j9i``).

    Raises
    ------
    InputError
        If it is neither a file nor the name of a bead model, or the file is not a usable map.
    """
    text = str(path_or_name)
    code = _bead_code(text)
    if code and not Path(text).exists():
        return _from_beads(code)
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        models = ", ".join(bead_models())
        raise InputError(f"{text!r} is neither a file nor a bead model; the bead models are {models}.")
    tomogram = read_tomogram(Path(text))
    return Template(np.array(tomogram.density, np.float32), tomogram.voxel_size, _kind(Path(text).stem))


def bead_models() -> tuple[str, ...]:
    """The codes of the bead models that come with the package."""
    folder = resources.files("napari_orient") / "beads"
    return tuple(sorted(item.name.removesuffix(".csv") for item in folder.iterdir() if item.name.endswith(".csv")))


def bead_symmetry(code: str) -> str:
    """The symmetry of the bead model of this code, about its own axes; its density is not made for that."""
    return _symmetry_of(_bead_text(code)).name


def _bead_code(text: str) -> str | None:
    code = _SPOKEN_NAMES.get(text.lower(), text.lower()).removeprefix("pdb_")
    return code if code in bead_models() else None


def _kind(stem: str) -> str:
    """``pdb_4v4r`` for a file named after a PDB entry (``4v4r``, ``4v4r_5A``), as PolNet writes it; else the stem."""
    code = stem.split("_", maxsplit=1)[0].lower()
    looks_like_entry = len(code) == 4 and code.isalnum() and code[0].isdigit() and not code.isdigit()
    return f"pdb_{code}" if looks_like_entry else stem


# --- bead models ------------------------------------------------------------------------------------------------


def read_beads(text: str) -> FloatArray:
    """The beads of a model's text, (N, 5): x, y, z, weight, width; Å, from the centre of the template's box.

    The text holds one asymmetric unit; all its symmetric copies come back.
    """
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    unit = np.array([[float(row[column]) for column in _COLUMNS] for row in rows])
    return np.concatenate([np.hstack([unit[:, :3] @ turn.T, unit[:, 3:]]) for turn in _symmetry_of(text).matrices])


def _symmetry_of(text: str) -> Symmetry:
    lines = (line.removeprefix("# symmetry:") for line in text.splitlines() if line.startswith("# symmetry:"))
    return symmetry(next(lines, "C1"))


def bead_density(beads: FloatArray, *, side: int, voxel_size: float) -> Volume:
    """The sum of the Gaussian beads in a cube about its centre ``(side − 1) / 2``, (side, side, side), [z, y, x].

    ``weight`` is a bead's height and ``width`` its standard deviation in Å.
    """
    axis = (np.arange(side) - (side - 1) / 2) * voxel_size
    x, y, z = (np.exp(-(((axis - beads[:, [k]]) / beads[:, [4]]) ** 2) / 2) for k in range(3))
    density: Volume = np.einsum("nz,ny,nx->zyx", beads[:, [3]] * z, y, x, optimize=True).astype(np.float32)
    return density


def _bead_text(code: str) -> str:
    return (resources.files("napari_orient") / "beads" / f"{code}.csv").read_text(encoding="utf-8")


def _from_beads(code: str) -> Template:
    text = _bead_text(code)
    beads = read_beads(text)
    reach = np.linalg.norm(beads[:, :3], axis=1).max() + 4 * beads[:, 4].max()
    side = 2 * int(np.ceil(reach / _BEAD_VOXEL_SIZE)) + 1
    density = bead_density(beads, side=side, voxel_size=_BEAD_VOXEL_SIZE)
    return Template(density, _BEAD_VOXEL_SIZE, f"pdb_{code}", _symmetry_of(text).name)


# --- anti-aliasing ----------------------------------------------------------------------------------------------


def low_pass(density: NDArray[Any], *, cutoff: float) -> Volume:
    """The density without frequencies beyond ``cutoff`` (cycles per voxel); a cosine edge starts at four fifths of it.

    What is sampled at every ``1 / (2 · cutoff)`` voxels afterwards has no aliases.
    """
    from scipy import fft

    margin = int(np.ceil(2 / cutoff))
    padded = np.pad(np.asarray(density, np.float32), margin)
    spectrum = fft.rfftn(padded)
    spectrum *= _cosine_edge(_radial_frequency(padded.shape), cutoff)
    filtered = fft.irfftn(spectrum, s=padded.shape)
    return np.ascontiguousarray(filtered[margin:-margin, margin:-margin, margin:-margin], np.float32)


def _radial_frequency(shape: tuple[int, ...]) -> FloatArray:
    z, y, x = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    radius: FloatArray = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return radius


def _cosine_edge(frequency: FloatArray, cutoff: float) -> Volume:
    ramp = np.clip((frequency / cutoff - 0.8) / 0.2, 0, 1)
    edge: Volume = ((1 + np.cos(np.pi * ramp)) / 2).astype(np.float32)
    return edge

"""Templates: the map of one macromolecule, from a map's file, a bead model of the package, or a template's own file.

A template is what particles are simulated of, matched with, refined against and shown as. One that was averaged from
labelled particles carries a card, and the calibration of its expected errors.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError, expected_one_of
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.model.solvent import bright_on_zero
from napari_orient.engine.model_files import SUFFIX, TEMPLATE, ModelFile, shipped_models, shipped_templates
from napari_orient.engine.options import Value
from napari_orient.engine.outputs import given_path
from napari_orient.engine.parameters import SearchOptions
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.statistics.error_calibration import ErrorCalibration
from napari_orient.engine.symmetry import Symmetry, symmetry

_MOST_UNEVEN = 2
"""Longest side of a map's box over its shortest, at most; chosen: a box cut closely about a ribosome has 1.3."""
_LEAST_SIDE = 8
"""Voxels along each side of a map that can be matched, at the least; chosen."""
_BEAD_CODES = {"ribosome": "4v4r", "proteasome": "3j9i"}
_BEAD_VOXEL_SIZE = 5.0
"""Å of the maps that bead models are drawn into: the narrowest bead (deviation 6.6 Å) keeps 0.02 % of its transform's
height at the Nyquist frequency."""
_COLUMNS = ("x", "y", "z", "weight", "width")
_USUAL_SEARCH = SearchOptions()
_UNCALIBRATED = (0.0, 1.0)
"""How a file says that the expected errors were never calibrated."""


@dataclass(frozen=True, eq=False)
class Template:
    """The map of one macromolecule; bright where the matter is.

    Parameters
    ----------
    density : (Z, Y, X) float32; the particle's frame is the array's own x, y, z about the box centre ``(n - 1) / 2``.
    voxel_size : Å.
    name : the code that its particles carry as their class, such as ``pdb_4v4r``, or the name of its file.
    symmetry : its group and axes, as `rotations.symmetry` reads them; None = unknown.
    search : how it is searched for where nothing else is asked.
    calibration : of its expected errors, measured on tomograms kept apart; None = never measured.
    card : data, training options, figures, fingerprint; plain values fit for JSON.
    notes : what was changed of its map when it was read, a sentence each; no part of its file.

    Raises
    ------
    InputError
        If the density is not a finite volume with something bright in it, the voxel size is not positive, or the
        symmetry is none.
    """

    kind: ClassVar[str] = TEMPLATE
    needs_picks: ClassVar[bool] = True
    """A tomogram's missing wedge and noise are estimated from its picks before poses are."""

    density: NDArray[np.float32]
    voxel_size: float
    name: str = "template"
    symmetry: str | None = None
    search: SearchOptions = _USUAL_SEARCH
    calibration: ErrorCalibration | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the density, the voxel size and the symmetry."""
        density = np.asarray(self.density, np.float32)
        if density.ndim != 3:
            raise InputError(f"template {self.name} has shape {density.shape}; expected a volume (z, y, x).")
        if not (np.isfinite(self.voxel_size) and self.voxel_size > 0):
            raise InputError(f"template {self.name} has voxels of {self.voxel_size} Å; expected a positive size.")
        if not np.isfinite(density).all():
            raise InputError(f"template {self.name} holds values that are not finite numbers. Repair the map first.")
        if not np.max(density, initial=0) > 0:
            raise InputError(f"template {self.name} has no density above 0; matter must be bright. Invert it first.")
        symmetry(self.symmetry or "C1")
        object.__setattr__(self, "density", density)

    def __repr__(self) -> str:
        size = " × ".join(str(count) for count in self.density.shape[::-1])
        return f"Template({self.name}: {size} voxels of {self.voxel_size:g} Å; {self.symmetry or 'symmetry unknown'})"

    @property
    def centre(self) -> FloatArray:
        """The point that positions refer to, (3,) voxels xyz: ``(n - 1) / 2``."""
        return (np.array(self.density.shape[::-1], float) - 1) / 2

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of a hash of density and voxel size."""
        content = np.ascontiguousarray(self.density, np.float32).tobytes() + f"{self.voxel_size:.4f}".encode()
        return sha256(content).hexdigest()[:16]

    @cached_property
    def radius(self) -> float:
        """Å from the centre within which it has its density."""
        from napari_orient.engine.model.reference import support_radius

        return support_radius(np.asarray(self.density), self.voxel_size)

    @cached_property
    def symmetry_centre(self) -> FloatArray:
        """Point through which its symmetry axes run, (3,) xyz in Å from `centre`."""
        from napari_orient.engine.model.map_centre import symmetry_centre

        return symmetry_centre(self.density, self.voxel_size, self.group)

    @property
    def group(self) -> Symmetry:
        """Its symmetry, about the axes that the map has; C1 where that is unknown."""
        return symmetry(self.symmetry or "C1")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of particles that it was averaged from."""
        return tuple(map(str, self.card.get("classes", ())))

    def mirrored(self) -> Template:
        """Its mirror image in the plane x = 0 of its frame, x -> -x, named so."""
        group = None if self.symmetry is None else self.group.mirrored().name
        density = np.ascontiguousarray(self.density[:, :, ::-1])
        return replace(self, density=density, name=f"{self.name}, mirrored (x -> -x)", symmetry=group)

    def checked_cube(self) -> Template:
        """The same template, if it can be matched.

        Raises
        ------
        InputError
            If its map is no cube of at least 8 voxels along each side, or flat.
        """
        shape = self.density.shape
        if len(set(shape)) != 1 or len(self.density) < _LEAST_SIDE:
            raise InputError(
                f"template {self.name} has shape {shape}; expected a cube of at least {_LEAST_SIDE} voxels along each "
                "side. Pad it with zeros first."
            )
        if self.density.std() == 0:
            raise InputError(f"template {self.name} is flat. Take a whole map.")
        return self

    def options_record(self) -> dict[str, Value]:
        """Symmetry, voxel size and search options by name, as its file has them."""
        return {**self.search.to_record(), "symmetry": self.symmetry or "C1", "voxel_size": self.voxel_size}

    def save(self, path: Path | str) -> None:
        """Write the template's file.

        Raises
        ------
        InputError
            If the folder cannot be written, or the map cannot be matched.
        """
        self.checked_cube().to_file().write(path)

    def to_file(self) -> ModelFile:
        """What its file holds."""
        import torch

        line = self.calibration
        tensors = {
            "density": torch.from_numpy(self.density.copy()),
            "calibration": torch.tensor(_UNCALIBRATED if line is None else (line.floor, line.factor)),
        }
        return ModelFile(self.name, TEMPLATE, self.options_record(), tensors, self.card)

    @classmethod
    def from_file(cls, found: ModelFile) -> Template:
        """The template of a model's file.

        Raises
        ------
        InputError
            If it is of a network, or something is missing or does not fit.
        """
        found.check_kind(TEMPLATE)
        tensors, options = found.tensors, dict(found.options)
        voxel_size, group = options.pop("voxel_size", 10.0), options.pop("symmetry", "C1")
        if not {"density", "calibration"} <= set(tensors) or tensors["calibration"].shape != (2,):
            raise InputError(f"{found.name}: its map or calibration is missing. Take a fresh copy of the file.")
        numbers = tuple(float(value) for value in tensors["calibration"])
        try:
            template = cls(
                tensors["density"].float().numpy(),
                voxel_size=float(str(voxel_size)),
                name=found.name,
                symmetry=str(group),
                search=SearchOptions.from_record(options),
                calibration=None if numbers == _UNCALIBRATED else ErrorCalibration(*numbers),
                card=found.card,
            )
            return template.checked_cube()
        except (InputError, ValueError) as error:
            raise InputError(f"{found.name}: {error}") from error


def load_template(
    path_or_name: Path | str,
    *,
    voxel_size: float | None = None,
    mask: Path | str | None = None,
    flag: str = "--reference-voxel-size",
) -> Template:
    """The template of a file (a map in MRC format, or a template's own) or of a name.

    ``ribosome`` (``4v4r``) and ``proteasome`` (``3j9i``) are the bead models of these particles; other names are those
    of shipped templates.

    The solvent of a map's file is brought to 0, its particle to bright, and its box to a cube, as the notes say.

    Parameters
    ----------
    voxel_size : Å; overrides that of a map's file.
    mask : file of a soft mask (0 to 1) in the map's box, which its density is multiplied by.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If it is neither a file nor a name, or the file is no usable map; or a voxel size is given for what states it;
        or the mask has another box.
    """
    found = _loaded(path_or_name, voxel_size, flag)
    return found if mask is None else masked_template(found, mask)


def _loaded(path_or_name: Path | str, voxel_size: float | None, flag: str) -> Template:
    text = str(given_path(path_or_name))
    code = _bead_code(text)
    states_size = (code and not Path(text).exists()) or text.endswith(SUFFIX)
    if voxel_size is not None and (states_size or text in shipped_models()):
        raise InputError(f"a voxel size is given for {text}, which states its own ({flag}). Leave it out.")
    if code and not Path(text).exists():
        return _from_beads(code)
    if text.endswith(SUFFIX) or (text in shipped_models() and not Path(text).exists()):
        return Template.from_file(ModelFile.read(text))
    if not Path(text).exists() and not Path(text).suffix and Path(text).name == text:
        known = dict.fromkeys([*_BEAD_CODES, *bead_models(), *shipped_templates()])
        raise InputError(
            f"{text!r} is neither a file nor a map that comes with the program{expected_one_of(text, known)}."
        )
    tomogram = read_tomogram(Path(text), voxel_size=voxel_size, flag=flag)
    density, changes = bright_on_zero(_nearly_cubic(np.array(tomogram.density, np.float32), text))
    if len(set(density.shape)) > 1:
        changes = (*changes, f"its box of {_size_words(density)} voxels is padded with zeros to a cube")
    notes = tuple(f"{Path(text).name}: {change}." for change in changes)
    return Template(_in_a_cube(density), tomogram.voxel_size, _class_of(Path(text).stem), notes=notes)


def _size_words(density: NDArray[np.float32]) -> str:
    return " × ".join(str(count) for count in density.shape[::-1])


def _nearly_cubic(density: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The map, if it may be one of a particle.

    Raises
    ------
    InputError
        If its box is more than twice as long as it is thin, as a tomogram's is.
    """
    if max(density.shape) > _MOST_UNEVEN * min(density.shape):
        raise InputError(
            f"{name} has {_size_words(density)} voxels; expected the map of a particle, in a cube or nearly one. "
            "Is it a tomogram?"
        )
    return density


def _in_a_cube(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map padded with zeros to a cube about the same centre, ``(n - 1) / 2`` along each axis."""
    lacking = max(density.shape) - np.array(density.shape)
    if not lacking.any():
        return density
    padded = np.pad(density, [(count // 2, count - count // 2) for count in lacking])
    if not (lacking % 2).any():
        return padded
    from scipy.ndimage import fourier_shift

    moved = fourier_shift(np.fft.fftn(padded), (lacking % 2) / 2)
    return np.asarray(np.fft.ifftn(moved).real, np.float32)


def masked_template(template: Template, path: Path | str) -> Template:
    """The template, its density multiplied by a soft mask, from 0 to 1, of a file.

    Raises
    ------
    InputError
        If the mask has another box or voxel size, or is 0 everywhere.
    """
    mask = read_tomogram(given_path(path), voxel_size=template.voxel_size)
    weights = np.array(mask.density, np.float32)
    weights = np.clip(weights if weights.shape == template.density.shape else _in_a_cube(weights), 0, 1)
    if weights.shape != template.density.shape:
        raise InputError(
            f"{path} has {' × '.join(map(str, weights.shape))} voxels, and {template.name} "
            f"{' × '.join(map(str, template.density.shape))}; expected a mask in the box of the map."
        )
    if not weights.any():
        raise InputError(f"{path} is 0 or less everywhere; expected a mask that is 1 about the particle.")
    return replace(template, density=template.density * weights)


def _class_of(stem: str) -> str:
    """``pdb_4v4r`` for a file named after a PDB entry (``4v4r``, ``4v4r_5A``), as PolNet writes it; else the stem."""
    code = stem.split("_", maxsplit=1)[0].lower()
    is_entry = len(code) == 4 and code.isalnum() and code[0].isdigit() and not code.isdigit()
    return f"pdb_{code}" if is_entry else stem


# --- bead models ------------------------------------------------------------------------------------------------


def bead_models() -> tuple[str, ...]:
    """The codes of the bead models that come with the package."""
    folder = resources.files("napari_orient") / "beads"
    return tuple(sorted(item.name.removesuffix(".csv") for item in folder.iterdir() if item.name.endswith(".csv")))


def bead_class(code: str) -> str:
    """The class of the bead model of this code, as PolNet's lists write it; its density is not made for that."""
    return f"pdb_{code}"


def bead_symmetry(code: str) -> str:
    """The symmetry of the bead model of this code, about its own axes; its density is not made for that."""
    return _symmetry_of(_bead_text(code)).name


def read_beads(text: str) -> FloatArray:
    """The beads of a model's text, (N, 5): x, y, z, weight, width; Å, from the centre of the template's box.

    The text holds one asymmetric unit; all its symmetric copies come back.
    """
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    unit = np.array([[float(row[column]) for column in _COLUMNS] for row in rows])
    copies = _symmetry_of(text).matrices
    return np.concatenate([np.hstack([unit[:, :3] @ rotation.T, unit[:, 3:]]) for rotation in copies])


def bead_density(beads: FloatArray, *, side: int, voxel_size: float) -> NDArray[np.float32]:
    """The sum of the Gaussian beads in a cube about its centre ``(side - 1) / 2``, (side, side, side), [z, y, x].

    ``weight`` is a bead's height and ``width`` its standard deviation in Å.
    """
    axis = (np.arange(side) - (side - 1) / 2) * voxel_size
    x, y, z = (np.exp(-(((axis - beads[:, [k]]) / beads[:, [4]]) ** 2) / 2) for k in range(3))
    density: NDArray[np.float32]
    density = np.einsum("nz,ny,nx->zyx", beads[:, [3]] * z, y, x, optimize=True).astype(np.float32)
    return density


def _bead_code(text: str) -> str | None:
    code = _BEAD_CODES.get(text.lower(), text.lower()).removeprefix("pdb_")
    return code if code in bead_models() else None


def _bead_text(code: str) -> str:
    return (resources.files("napari_orient") / "beads" / f"{code}.csv").read_text(encoding="utf-8")


def _symmetry_of(text: str) -> Symmetry:
    lines = (line.removeprefix("# symmetry:") for line in text.splitlines() if line.startswith("# symmetry:"))
    return symmetry(next(lines, "C1"))


def _from_beads(code: str) -> Template:
    text = _bead_text(code)
    beads = read_beads(text)
    reach = np.linalg.norm(beads[:, :3], axis=1).max() + 4 * beads[:, 4].max()
    side = 2 * int(np.ceil(reach / _BEAD_VOXEL_SIZE)) + 1
    density = bead_density(beads, side=side, voxel_size=_BEAD_VOXEL_SIZE)
    return Template(density, _BEAD_VOXEL_SIZE, bead_class(code), _symmetry_of(text).name)

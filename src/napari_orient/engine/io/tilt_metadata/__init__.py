"""Tilt metadata in files: angles, defocus and dose of each image of a tilt series.

One module for each program: ``relion_tilts``, ``warp_tilts``, ``imod_tilts`` (with AreTomo). `read_tilt_series` knows
them by their suffix; `tilt_files_beside` finds files that belong to a tomogram by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import read_star
from napari_orient.engine.io.tilt_metadata.imod_tilts import read_aretomo, read_imod
from napari_orient.engine.io.tilt_metadata.relion_tilts import names_tomograms, read_relion_tilts
from napari_orient.engine.io.tilt_metadata.warp_tilts import read_tomostar, read_warp_xml
from napari_orient.engine.io.tomograms import plain_name, same_tomogram
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.outputs import existing_file

_READERS: dict[str, Callable[[Path, str], TiltSeries]] = {
    ".star": read_relion_tilts,
    ".xml": read_warp_xml,
    ".tomostar": read_tomostar,
    ".aln": read_aretomo,
    ".tlt": read_imod,
    ".rawtlt": read_imod,
    ".xtilt": read_imod,
    ".xf": read_imod,
    ".defocus": read_imod,
}
"""Readers by suffix; each is given the path and the tomogram's name."""
_BESIDE = (".xml", ".tlt", ".aln", ".tomostar", ".rawtlt")
"""Suffixes of files that belong to one tomogram, those that say most first."""


def read_tilt_series(path: Path | str, *, tomogram: str = "") -> TiltSeries:
    """The tilt series of a tomogram, from a file or from the folder that holds the file of its name.

    Parameters
    ----------
    path : RELION's ``tomograms.star`` or a tilt series' own star file, Warp's ``.xml`` or ``.tomostar``, AreTomo's
        ``.aln``, IMOD's ``.tlt``, ``.rawtlt``, ``.xf`` or ``.defocus`` (the others are taken from beside it).
    tomogram : its name, to choose among several; it may differ by the prefixes and suffixes of `same_tomogram`.

    Raises
    ------
    InputError
        If there is no such file, its kind is unknown, it holds no series of the tomogram, or something is missing.
    """
    path = Path(path)
    if path.is_dir():
        found = _files_in(path, tomogram)
        if len(found) != 1:
            known = ", ".join(item.name for item in found) if found else "none"
            raise InputError(f"{path} has no single file of tilts for {tomogram} ({known}); name the file itself.")
        path = found[0]
    path = existing_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} has no known suffix of tilt metadata; expected {', '.join(_READERS)}, or a folder.")
    return reader(path, tomogram)


def tilt_files_beside(tomogram: Path, name: str) -> list[Path]:
    """Files of tilt metadata in a tomogram's folder that belong to it; of several programs' the one that says most.

    Two lists of tomograms, or a list and a file, are two: which one holds is not known then.
    """
    return _files_in(tomogram.parent, name)


def _files_in(folder: Path, name: str) -> list[Path]:
    own = [
        item
        for suffix in _BESIDE
        for item in sorted(folder.glob(f"*{suffix}"))
        if same_tomogram(plain_name(item.stem), name)
    ]
    lists = [item for item in sorted(folder.glob("*tomograms.star")) if _lists(item, name)]
    # A .rawtlt holds what its .tlt says better, an .xml what its .tomostar does.
    first = own[:1] if len({item.stem for item in own}) == 1 else own
    return first + lists


def _lists(path: Path, name: str) -> bool:
    """Whether a star file lists tomograms with their tilts, this one among them."""
    try:
        return any(same_tomogram(item, name) for item in names_tomograms(read_star(path)))
    except InputError:
        return False

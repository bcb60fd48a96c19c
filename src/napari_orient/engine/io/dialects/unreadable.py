"""Files that hold no list of particles, or none that may be read: recognised, so as to say what opens them."""

from __future__ import annotations

import re
from collections.abc import Callable

from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.dynamo import DYNAMO
from napari_orient.engine.io.dialects.eman2 import EMAN2_BOXES, EMAN2_PARTICLES
from napari_orient.engine.io.dialects.emclarity import EMCLARITY
from napari_orient.engine.io.dialects.headerless import MOST_COLUMNS
from napari_orient.engine.io.dialects.motive_table import MOTIVE_TABLE
from napari_orient.engine.io.dialects.text_tables import first_cells, is_number
from napari_orient.engine.io.volumes.em import is_em_volume

_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(lp\d|\(dp\d|ccopy_reg|cpandas|cnumpy")
"""First bytes of Python's pickles, protocols 0 to 5."""

_PICKLES = (".tloc", ".tumap", ".temb", ".pkl", ".pickle")
"""Suffixes of pickles, those of TomoTwin among them."""


def _begins(*starts: bytes) -> Callable[[ListFile], bool]:
    return lambda file: file.head.lstrip().startswith(starts)


def _is_pickle(file: ListFile) -> bool:
    return file.suffix in _PICKLES or bool(_PICKLE.match(file.head))


def _is_spreadsheet(file: ListFile) -> bool:
    inside = (b"[Content_Types].xml", b"xl/", b"opendocument.spreadsheet")
    old = file.head.startswith(b"\xd0\xcf\x11\xe0")
    return old or (file.head.startswith(b"PK\x03\x04") and any(word in file.head for word in inside))


def _names_xml(*tags: str) -> Callable[[ListFile], bool]:
    """Whether the first element of an XML file has one of these names; other bytes of UTF-16 are passed over."""
    words = [f"<{tag}".encode() for tag in tags]
    return lambda file: any(word in file.head.replace(b"\0", b"") for word in words)


def _is_tilt_series(file: ListFile) -> bool:
    columns = {"wrpMovieName", "wrpAngleTilt", "rlnTomoNominalStageTiltAngle", "rlnMicrographMovieName"}
    return bool(columns & file.tags) and not any("Coordinate" in tag for tag in file.tags)


def _is_mrc(file: ListFile) -> bool:
    return file.head[208:212] == b"MAP "


_IMOD_TABLES = (
    ".xf",
    ".prexf",
    ".xg",
    ".prexg",
    ".tltxf",
    ".rawtlt",
    ".xtilt",
    ".fid",
    ".3dmod",
    ".xyz_resid",
    ".resid",
    ".tlt",
    ".aln",
)
"""Suffixes of what IMOD and AreTomo write of the alignment of a tilt series: numbers without a header, models of beads.
"""


def _is_image_series(file: ListFile) -> bool:
    """Whether rows are tilt images: defocus and group of each, and no coordinates in three dimensions."""
    return {"rlnImageName", "rlnGroupName"} <= file.tags and not any("Coordinate" in tag for tag in file.tags)


def _is_series_without_boxes(file: ListFile) -> bool:
    series = file.head_text.lstrip().startswith("{") and (file.holds('"tlt_params"') or file.holds('"apix_unbin"'))
    return series and not EMAN2_BOXES.recognises(file)


def _is_mdoc(file: ListFile) -> bool:
    return any(line.startswith(("[ZValue", "[FrameSet")) for line in file.lines)


def _is_wide_table(file: ListFile) -> bool:
    """Whether rows are more numbers than a table of positions has, in no layout that is known."""
    known = (DYNAMO, EMCLARITY, MOTIVE_TABLE)
    if not file.is_text or file.suffix == ".tbl" or any(dialect.recognises(file) for dialect in known):
        return False
    cells = first_cells(file)
    return len(cells) > MOST_COLUMNS and all(map(is_number, cells))


def _is_list_of_tomograms(file: ListFile) -> bool:
    return file.suffix in (".doc", ".vll") or bool(
        file.lines and file.lines[0].startswith("number,tomogram,voxel_size")
    )


def _kind(
    name: str, what: str, remedy: str, recognises: Callable[[ListFile], bool], *, is_volume: bool = False
) -> Dialect:
    refusal = f"is {what}. {remedy}"
    return Dialect(name=name, title=what, recognises=recognises, refusal=refusal, is_volume=is_volume)


UNREADABLE = (
    _kind(
        "pickle",
        "a Python pickle, which could run any program when it is opened",
        "Export a table instead: cryodrgn_utils filter_star and tomodrgn filter_star (--ind indices.pkl) write the "
        "STAR file of the particles chosen; TomoTwin writes .coords beside its .tloc; pandas has to_csv.",
        _is_pickle,
    ),
    _kind(
        "em-volume",
        "a volume (EM), not a list of particles",
        "Open it as the tomogram.",
        lambda file: file.suffix == ".em" and is_em_volume(file.path),
        is_volume=True,
    ),
    _kind("mrc", "a volume (MRC), not a list of particles", "Open it as the tomogram.", _is_mrc, is_volume=True),
    _kind("spreadsheet", "a spreadsheet (Excel, OpenDocument)", "Save it as CSV (UTF-8).", _is_spreadsheet),
    _kind("workbook", "a spreadsheet in XML (Excel, Avizo)", "Save it as CSV (UTF-8).", _names_xml("Workbook")),
    _kind(
        "amira",
        "a file of Amira or Avizo",
        "Write the x, y, z of its points as a table, without its header.",
        _begins(b"# Amira", b"# Avizo"),
    ),
    _kind(
        "packed",
        "packed (gzip, bzip2, xz or zip)",
        "Unpack it first (gunzip, bunzip2, unxz, unzip).",
        _begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"),
    ),
    _kind(
        "hdf5",
        "an HDF5 file, such as a volume of EMAN2",
        "Export the positions as a table: columns x, y, z.",
        _begins(b"\x89HDF"),
        is_volume=True,
    ),
    _kind(
        "cryosparc",
        "a table of cryoSPARC (.cs)",
        "Convert it to STAR (pyem's csparc2star.py); where particles lie in tomograms is in the list they came from.",
        lambda file: file.suffix == ".cs" and file.head.startswith(b"\x93NUMPY"),
    ),
    _kind("npy", "an array of NumPy", "Save it as text with numpy.savetxt: columns x, y, z.", _begins(b"\x93NUMPY")),
    _kind(
        "boxes",
        "a list of boxes in micrographs (EMAN, .box)",
        "Pick in tomograms: x, y and z are needed.",
        lambda file: file.suffix == ".box" and len(first_cells(file)) != len("xyz"),
    ),
    _kind(
        "source",
        "M's list of tilt series",
        "Open the population, or the list of a species (SPECIES_particles.star).",
        _names_xml("DataSource"),
    ),
    _kind(
        "warp-series",
        "Warp's description of a tilt series (.xml)",
        "Open the list of its particles.",
        _names_xml("TiltSeries", "Movie"),
    ),
    _kind(
        "tilt-series",
        "a table of the images of a tilt series",
        "Open the list of its particles.",
        _is_tilt_series,
    ),
    _kind(
        "portal-metadata",
        "the metadata of an annotation of the CryoET Data Portal",
        "Open its points (.ndjson).",
        lambda file: file.holds('"annotation_object"'),
    ),
    _kind(
        "eman2-info",
        "what EMAN2 knows of a tilt series (info/*.json), without boxes",
        "Pick in its tomogram first (e2spt_boxer.py), or open the list of an alignment (spt_XX/aliptcls3d_YY.lst).",
        _is_series_without_boxes,
    ),
    _kind(
        "matlab", "a file of MATLAB", "Write the table as text with writetable: columns x, y, z.", _begins(b"MATLAB ")
    ),
    _kind(
        "lfs",
        "a pointer to a file in Git LFS, not the file itself",
        "Fetch the file with git lfs pull.",
        _begins(b"version https://git-lfs"),
    ),
    _kind(
        "html",
        "a web page",
        "Download the file itself, not the page that shows it.",
        _begins(b"<!DOCTYPE html", b"<!doctype html", b"<html"),
    ),
    _kind(
        "cmm",
        "a set of markers of ChimeraX",
        "Write their x, y, z as a table (ArtiaX exports .star, .tbl and .em).",
        _names_xml("marker_set"),
    ),
    _kind(
        "eman2-images",
        "a list of images of EMAN2, which does not say where they lie",
        "Open that of an alignment (spt_XX/aliptcls3d_YY.lst), or the boxes (info/*_info.json).",
        lambda file: file.head.startswith(b"#LSX") and not EMAN2_PARTICLES.recognises(file),
    ),
    _kind(
        "names",
        "a list of tomograms (.doc, .vll, _tomograms.csv)",
        "Open the table of particles that it lies beside; this file is found by itself.",
        _is_list_of_tomograms,
    ),
    _kind(
        "wedge-list",
        "a list of STOPGAP, but not of particles",
        "Open its motive list (data_stopgap_motivelist).",
        lambda file: any(name.startswith("stopgap_") and name != "stopgap_motivelist" for name in file.blocks),
    ),
    _kind(
        "imod-transforms",
        "a table of the alignment of a tilt series (IMOD, AreTomo)",
        "Open the list of its particles (.mod, or a table).",
        lambda file: file.suffix in _IMOD_TABLES,
    ),
    _kind(
        "tilt-images",
        "a list of tilt images, many of each particle, without the places of these",
        "Open the list that the images were cut from (of WarpTools, M or RELION), filtered by the same indices: "
        "tomodrgn filter_star --starfile-type volumeseries.",
        _is_image_series,
    ),
    _kind(
        "wide",
        f"a table of more than {MOST_COLUMNS} columns of numbers without a header, in no known layout",
        "Write a first line that names its columns, x, y, z (Å) or x_voxel, y_voxel, z_voxel among them.",
        _is_wide_table,
    ),
    _kind("mdoc", "the description of a tilt series (.mdoc)", "Open the list of its particles.", _is_mdoc),
)
"""Kinds of files that are refused, each with what opens it."""

"""Write a particle list as another program opens it, and say what to type there.

The list of any program is read; OUT is a STAR file in the dialect of the program named, with what it needs beside it.
RELION 5 takes an optimisation set, Warp and M coordinates in voxels by tomogram. cryoDRGN and tomoDRGN train on tilt
images of particles, which WarpTools cuts: they get Warp's list and the commands from there on. Words in capitals stand
for what only you know. The flags are those that the programs document; it is said where.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_orient.cli import convert
from napari_orient.cli.arguments import LENGTH, Parser
from napari_orient.cli.lists import add_import_list, add_selection
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.warp import coordinate_size
from napari_orient.engine.io.tomograms import ListMetadata

EXAMPLE = """\
  napari-orient export oriented.star for_relion.star --for relion5 --tomograms-star tomograms.star
  napari-orient export oriented.star for_warp.star --for warp --tomogram Tomo001_rec.mrc"""


@dataclass(frozen=True)
class Receiver:
    """A program that poses are handed to.

    Parameters
    ----------
    title : its name.
    dialect : of the list.
    next_steps : the lines to type there, of the list's path and the size of its voxels in Å as a text.
    flags_from : where the flags of these lines are documented.
    """

    title: str
    dialect: str
    next_steps: Callable[[Path, str], Sequence[str]]
    flags_from: str


def _relion5(path: Path, _: str) -> Sequence[str]:
    together = path.with_name(f"{path.stem}_optimisation_set.star")
    return (f"relion_tomo_subtomo --i {together} --o Extract/job001/ --b BOX --crop CROP --bin BIN --stack2d",)


def _warp(path: Path, size: str) -> Sequence[str]:
    return (
        f"WarpTools ts_export_particles --settings warp_tiltseries.settings --input_star {path} --coords_angpix {size} "
        f"--output_star {_cut(path)} --output_angpix ANGPIX --box BOX --diameter DIAMETER --2d",
    )


def _m(path: Path, size: str) -> Sequence[str]:
    return (
        f"MTools create_species --population m/NAME.population --name SPECIES --diameter DIAMETER --sym C1 "
        f"--half1 HALF1.mrc --half2 HALF2.mrc --mask MASK.mrc --particles_relion {path} --angpix_coords {size}",
    )


def _tomodrgn(path: Path, size: str) -> Sequence[str]:
    together = _cut(path, "_optimisation_set")
    return (*_warp(path, size), f"tomodrgn train_vae {together} --outdir tomodrgn --zdim 128 --uninvert-data")


def _cryodrgn(path: Path, size: str) -> Sequence[str]:
    images = _cut(path, "_2d")
    return (
        *_warp(path, size),
        f"cryodrgn_utils parse_warptools --tomograms {_cut(path, '_tomograms')} --particles {_cut(path)} "
        f"--tilt-dim WIDTH HEIGHT --output {images}",
        f"cryodrgn parse_pose_star {images} -D BOX --Apix ANGPIX -o poses.pkl",
        f"cryodrgn parse_ctf_star {images} -D BOX --Apix ANGPIX -o ctf.pkl",
        f"cryodrgn train_vae {images} --ctf ctf.pkl --poses poses.pkl --encode-mode tilt --dose-per-tilt DOSE --zdim 8 "
        "-o cryodrgn",
    )


def _cut(path: Path, what: str = "") -> Path:
    """The list, or what stands beside it, of the images that WarpTools cuts."""
    return path.with_name(f"{path.stem}_cut{what}.star")


_WARP_FLAGS = "warpem.github.io/warp, API of WarpTools, tilt series"
"""Where the flags of `WarpTools ts_export_particles` are documented."""

RECEIVERS = {
    "relion5": Receiver("RELION 5", "relion5", _relion5, "relion_tomo_subtomo --help; its source, subtomo.cpp"),
    "warp": Receiver("WarpTools", "warp", _warp, _WARP_FLAGS),
    "m": Receiver("M", "warp", _m, "warpem.github.io/warp, API of MTools, create_species"),
    "tomodrgn": Receiver("tomoDRGN", "warp", _tomodrgn, f"{_WARP_FLAGS}; tomoDRGN's page on train_vae"),
    "cryodrgn": Receiver(
        "cryoDRGN", "warp", _cryodrgn, f"{_WARP_FLAGS}; --help of cryodrgn and of cryodrgn_utils parse_warptools"
    ),
}
"""The programs by the word of ``--for``."""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("source", type=Path, metavar="IN", help="particle list to read")
    parser.add_argument("target", type=Path, metavar="OUT", help="list to write: .star")
    parser.add_argument("--for", dest="receiver", choices=tuple(RECEIVERS), required=True, help="program that reads it")
    add_selection(parser)
    convert.add_source(parser)
    parser.add_argument("--out-pixel-size", **LENGTH, help="of OUT's voxels [default: the tomogram's]")
    add_import_list(parser)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, and what stands beside it."""
    return convert.outputs(_conversion(arguments))


def perform(arguments: Namespace) -> int | None:
    """Convert, and say what to do next."""
    given = _conversion(arguments)
    receiver = RECEIVERS[arguments.receiver]
    if receiver.dialect == "warp":
        given.out_pixel_size = _tomogram_s_voxels(given)
    found = convert.write_converted(given)
    metadata = ListMetadata(extents=found.particles.extents, pixel_size=found.pixel_size)
    size = f"{coordinate_size(found.particles, metadata):.9g}" if receiver.dialect == "warp" else ""
    print(f"Then, for {receiver.title}:")
    print(*(f"  {line}" for line in receiver.next_steps(arguments.target, size)), sep="\n")
    print(f"Flags as documented there, not run with this list ({receiver.flags_from}).")
    return 1 if found.failed else None


def _conversion(arguments: Namespace) -> Namespace:
    """The arguments of `convert` that write for the program named.

    Raises
    ------
    InputError
        If the output is no STAR file.
    """
    if arguments.target.suffix.lower() != ".star":
        raise InputError(f"{arguments.target} given as list; expected a name that ends in .star.")
    receiver = RECEIVERS[arguments.receiver]
    fixed = {
        "dialect": receiver.dialect,
        "optimisation_set": receiver.dialect == "relion5",
        "out_centre": "size/2",
        "out_first_voxel": None,
        "mirror": None,
        "rotate_x": None,
        "symmetry": None,
        "symmetry_frame": "own",
        "expand_symmetry": False,
    }
    return convert.with_tomograms_of_folder(Namespace(**{**vars(arguments), **fixed}))


def _tomogram_s_voxels(given: Namespace) -> float | None:
    """Size in Å of the voxels to write in: as given, or the tomogram's; None where the list decides."""
    if given.out_pixel_size is not None or given.tomogram is None:
        return None if given.out_pixel_size is None else float(given.out_pixel_size)
    from napari_orient.engine.io import read_tomogram

    return read_tomogram(given.tomogram, voxel_size=given.voxel_size).voxel_size

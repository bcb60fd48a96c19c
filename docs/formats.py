"""Write formats.md: every format of particle lists, from the registry that reads and writes them.

Run: python docs/formats.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_orient.engine.io.dialects import DIALECTS, UNREADABLE

PAGE = Path(__file__).with_suffix(".md")

HEAD = """# Formats of particle lists

A list is recognised by its content, and by its suffix where the content leaves it open; nothing has to be said when
it is read. What is written is chosen by the suffix, or by `--dialect`. `napari-orient convert IN OUT` turns any list
of the first table into any that is written; [interchange](interchange.md) has the commands for each program. This
page is written by `python docs/formats.py` from the registry in `engine/io/dialects/`.

All poses become one rotation R from the particle's frame to the tomogram's, all positions Å from the centre of voxel
0 ([conventions](conventions.md)). Every door says which size of a pixel or voxel was taken, and where it was from.
"""

REST = """
## What to know of them

**Tables.** Coordinates are `x, y, z` (Å) or `x_voxel, y_voxel, z_voxel`; other names are understood, with the unit that
they state (`x_nm`, `pos_x`, `centroid_x (px)`, `X [A]`), and a note says so. The header may stand behind `#`, `%`
or `//`, as NumPy and MATLAB write it, or below a title, with a row of units below it; a comma that does not separate is
that of decimals. Angles are read as `rot, tilt, psi` (`rlnAngleRot`, `rot_rad` …), or as a quaternion `qw, qx, qy, qz`
(`quat_w` …); columns that may be angles of another convention are named and carried. Of tables without a header the
first three columns count, or those behind numbers of rows, classes, scores, objects and contours; a word before or
behind the numbers is the tomogram's name if it has a number, else the class. A column without a name is left out where
it is empty or numbers the rows.

**Several tables in one STAR file.** Those of one name are joined, and so are those that are called as a tomogram each;
beside `data_particles` another table with coordinates is carried unread, with a note; else the file is refused.

**Tomograms by number.** Dynamo, STOPGAP, EM motive lists and DeepFinder number their tomograms. Names are taken from
a file beside the list: `.doc` (lines of number and path) or `.vll` (paths, numbered by line) of the list's name or
the only one in the folder. Dynamo's tables are written with a `.doc`, lists of STOPGAP and EM with
`NAME_tomograms.csv`: number, name, voxel size and size, which reading finds. A list of one number without a name
belongs to the tomogram that is given; one of several is asked for its names.

**Voxels.** Where coordinates count in voxels and the file does not say their size, it is that of the opened tomogram,
or `--pixel-size`. Lists in voxels are written in those of the tomogram given, or of `--out-pixel-size`; without
either in those that they were read in.

**What a format cannot hold** is said when it is written: confidences, expected errors, columns and tables of other
programs. STAR files of RELION, CSV and TSV hold all columns.

**Unknown orientations** stay unknown. Angles that all are 0, as lists have before an alignment, matrices that all are
the identity in copick's and the portal's files, and orientations that copick does not trust are taken as unknown, with
a word. Single poses that are the identity, and RELION's angles that all are 0, are questioned.

**Scores, classes and halves** have RELION's names whatever program they came from: `rlnAutopickFigureOfMerit`,
`rlnClassNumber`, `rlnRandomSubset`; numbers of subtomograms, objects and tomograms are `subtomogramNumber`,
`objectNumber`, `tomogramNumber`. Other columns of Dynamo keep their names after `dynamo_`, so that a table comes back
with its wedge and tags.

**The first voxel**, or pixel, is number 0, but for EM motive lists, whose programs count from 1; `--first-voxel` says
otherwise, for what is read, and `--out-first-voxel` for what is written.

**Optimisation sets.** A data file of RELION 5 or WarpTools finds the set beside it, and through it the sizes of its
tomograms; `convert --optimisation-set` writes one.

**The hand.** `convert --mirror x|y|z|point|yz` turns a list into that of the tomogram mirrored along an axis, through
its centre, or with y and z exchanged (IMOD's `clip flipyz`): positions, and poses as those of the map mirrored
likewise. `--rotate-x -90` is what IMOD's `trimvol -rx` does to a volume; the hand stays.

## Files that are refused, and what opens them
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD, "| program | files | read | written by `--dialect` |", "|---|---|---|---|"]
    lines += [_row(item) for item in DIALECTS]
    lines += [
        "",
        "## Where coordinates count from, and angles",
        "",
        "| list | layout | easily misread |",
        "|---|---|---|",
    ]
    lines += [f"| {item.title} | {item.layout} | {item.trap} |" for item in DIALECTS]
    lines += [REST, *_refusals()]
    return "\n".join(lines) + "\n"


def _row(item) -> str:
    suffixes = ", ".join(f"`{suffix}`" for suffix in item.suffixes)
    written = f"`{item.name}`" if item.write is not None else "–"
    return f"| **{item.title}**: {item.programs} | {suffixes} | {'yes' if item.read else '–'} | {written} |"


def _refusals() -> Iterator[str]:
    yield "| a file that | what to do |"
    yield "|---|---|"
    for item in UNREADABLE:
        what, _, remedy = item.refusal.partition(". ")
        yield f"| {what} | {remedy} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

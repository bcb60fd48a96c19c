"""Reproduction: the paper's experiment from simulation to table and figures, in one resumable stream.

"Deep orientation estimation of macromolecules in cryo-electron tomography": 150 PolNet tomograms of 4v4r and 3j9i,
split 130 to 20, a fully connected network on raw 40³ patches, three representations of rotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.simulation.placement import shaped
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import Template
from napari_orient.paper.experiment import Experiment
from napari_orient.paper.options import ReproductionOptions
from napari_orient.paper.outcome import gathered, write_outcome
from napari_orient.paper.sample import (
    CODES,
    D7_OF_3J9I,
    Subject,
    paper_templates,
    particles_of,
    read_folders,
)
from napari_orient.paper.stages import Record, Stage, in_turn

_DIAMETERS = dict(zip(CODES, (250.0, 150.0), strict=True))


def reproduce(
    folder: Path,
    options: ReproductionOptions | None = None,
    *,
    templates: Sequence[Template] = (),
    polnet: Sequence[Path] = (),
    check: Path | None = None,
) -> Stream[Step, Record]:
    """The paper's experiment in a folder; all that is finished there already is kept and not done again.

    Closing the stream keeps every finished stage, and training where it stands; the same call goes on from there.

    Parameters
    ----------
    folder : gets ``tomograms``, ``networks``, ``predicted``, tables, pictures, ``results.json`` and, in ``times.json``,
        the seconds that each stage took.
    options : sizes and seed; by default the paper's.
    templates : the asymmetric and, perhaps, the symmetric macromolecule to simulate; none takes the bead models.
    polnet : PolNet result folders to take instead of simulating.
    check : PolNet result folder, never trained on, that every network is tried on in the end.

    Raises
    ------
    InputError
        If the folder holds stages made with other options, or the given tomograms lack the macromolecules.
    """
    options = options or ReproductionOptions()
    templates = () if polnet else tuple(templates) or paper_templates()
    if len(templates) > 1 and options.proteasomes == 0:
        templates = templates[:1]
    given = read_folders(polnet) if polnet else None
    if check is not None:
        read_folders([check])
    subjects = _subjects(templates)
    if given is not None:
        subjects = [subject for subject in subjects if particles_of(given, subject.code)]
        if not subjects or subjects[0].code != CODES[0]:
            raise InputError(f"{polnet[0]}: its tomograms hold no {CODES[0]}; expected the paper's ribosomes in them.")
    folder.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(folder, options, templates=templates, subjects=subjects, given=given)
    stages = list(experiment.stages(check))
    stages.append(Stage("tables and pictures", 5.0, lambda: write_outcome(experiment, check)))
    yield from in_turn(stages, times=folder / "times.json")
    return gathered(experiment)


def _subjects(templates: Sequence[Template]) -> list[Subject]:
    if not templates:
        groups = ("C1", D7_OF_3J9I)
        return [Subject(code, group, _DIAMETERS[code]) for code, group in zip(CODES, groups, strict=True)]
    return [Subject(item.name, item.symmetry or "C1", _diameter(item)) for item in templates]


def _diameter(template: Template) -> float:
    """Å; the figure usually given for the paper's macromolecules, the longest way through any other."""
    known = next((size for code, size in _DIAMETERS.items() if template.name.endswith(code)), None)
    return known or shaped(template, voxel_size=template.voxel_size, level=0.1).diameter

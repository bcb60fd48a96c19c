"""The verbs: each takes objects, names or paths, blocks until the work is done, and returns the answer.

Options are given as keywords (``diameter=290``), as an Options object (``options=...``), or both. Progress is shown by
``progress=True`` or handed to a function. The engine's functions of the same names yield their steps instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient import __version__
from napari_orient.api.inputs import (
    DataLike,
    ParticlesLike,
    Progress,
    ResultWarning,
    SymmetryLike,
    TomogramLike,
    answer_of,
    options_of,
    pairs_of,
    pairs_of_one_class,
    particles_of,
    symmetry_of,
    tomogram_of,
)
from napari_orient.engine import averaging
from napari_orient.engine.discovery import discover as discovery
from napari_orient.engine.discovery.output import Discovery
from napari_orient.engine.duplicates import without_duplicates
from napari_orient.engine.errors import InputError, expected_one_of
from napari_orient.engine.evaluation import Report
from napari_orient.engine.evaluation import evaluate as evaluate_particles
from napari_orient.engine.frames import mirrored
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.io.dialects import writing_dialect
from napari_orient.engine.io.particle_lists import pixel_size_to_write
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.model.map_symmetry import propose_symmetry
from napari_orient.engine.networks.network import Network
from napari_orient.engine.options import Value
from napari_orient.engine.outputs import given_path, planned_outputs
from napari_orient.engine.parameters import (
    MASKS,
    TRAINABLE,
    AveragingOptions,
    DiscoveryOptions,
    ModelOptions,
    ModelTrainingOptions,
    PredictionOptions,
    RefinementOptions,
)
from napari_orient.engine.particles import Particles, Tomogram, concatenate, in_list_order
from napari_orient.engine.prediction import predict as prediction
from napari_orient.engine.prediction.adaptation import checked_map_path, predict_project, refine_project
from napari_orient.engine.projects.distribution import SchedulerOptions
from napari_orient.engine.projects.each_tomogram import ProjectResult, ProjectRun
from napari_orient.engine.projects.inputs import read_lists
from napari_orient.engine.projects.stored_results import StoredResults
from napari_orient.engine.refinement import refine as refinement
from napari_orient.engine.refinement.hand import choose_hand
from napari_orient.engine.simulation import simulate as simulation
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run as drained
from napari_orient.engine.symmetry import AUTO
from napari_orient.engine.templates import Template, load_template, masked_template
from napari_orient.engine.training import train as training
from napari_orient.engine.training.ranks import joined_ranks

ModelLike = Template | Network | Path | str
"""A model, the name of a shipped one, or the path of its file."""
TemplateLike = Template | Path | str
"""A template, the path of a map (.mrc) or of a template's file, or the name of a bead model or shipped template."""


SchedulerLike = SchedulerOptions | str
"""`SchedulerOptions`, or their scheduler: ``"local:4"``, ``"tcp://host:8786"``, ``"slurm:8"``."""


def simulate(
    templates: TemplateLike | Sequence[TemplateLike],
    *,
    seed: int = 0,
    name: str = "tomo_001",
    counts: Sequence[int] | None = None,
    others: TemplateLike | Sequence[TemplateLike] = (),
    options: SimulationOptions | None = None,
    progress: Progress = None,
    **settings: Value,
) -> tuple[Tomogram, Particles]:
    """A tomogram of these templates, and the particles in it with exact positions and rotations.

    Parameters
    ----------
    templates : one for each class of particle: bead models by name (``"ribosome"``, ``"proteasome"``), maps by path.
    seed : of all randomness; the same seed gives the same tomogram.
    name : the tomogram's.
    counts : particles of each template; by default ``particles`` of each.
    others : macromolecules around the particles, ``other_particles`` of each as far as they fit; not in the truth.
    options, settings : of `SimulationOptions`, such as ``size_x=128, particles=40``.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If a template is unknown or larger than the tomogram, an option does not fit, or the particles do not all fit.
    """
    loaded, around = (
        [_template_of(item) for item in ([given] if isinstance(given, (Template, str, Path)) else given)]
        for given in (templates, others)
    )
    chosen = options_of(SimulationOptions, options, settings)
    return answer_of(
        simulation.simulate(loaded, chosen, seed=seed, name=name, counts=counts, others=around),
        progress,
        title="Simulating",
    )


def train(
    data: DataLike,
    picks: ParticlesLike | None = None,
    *,
    preset: str = "default",
    kind: str | None = None,
    name: str = "trained",
    template: TemplateLike | None = None,
    output: Path | str | None = None,
    streamed: bool | None = None,
    model_options: ModelOptions | None = None,
    options: ModelTrainingOptions | None = None,
    progress: Progress = None,
    **settings: Value,
) -> Network | Template:
    """A network or a template, trained on particles of given rotations; part of them validates and calibrates it.

    Parameters
    ----------
    data, picks : pairs ``[(tomogram, particles), ...]``; or one or several tomograms and the list of their particles;
        or the path of a PolNet folder or a list.
    preset : ``"default"`` or ``"paper"``: a network; ``"simulated"``: a network that learns from patches simulated from
        the template or the particles' average; ``"template"``: the average of the particles.
    kind : use the particles of this class alone, such as ``"4v4r"``.
    name : of the model.
    template : with ``preset="template"`` or ``"simulated"``: this map, which the particles only validate.
    output : file that holds the best model so far from the first validation on; its suffix is .safetensors. A finished
        model that is there is replaced at the end. Where it cannot be written, a warning says so.
    streamed : cut a network's patches from the tomograms batch by batch; None does so where memory is too small.
    model_options, options, settings : of `NetworkOptions` and `TrainingOptions`, of `MixtureOptions` and
        `SimulatedTrainingOptions`, or of `TemplateOptions` and `TemplateTrainingOptions`, in place of the preset's.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If there are too few particles, they are of several classes, have no rotations, half of them lie outside, or an
        option does not fit.
    """
    if preset not in TRAINABLE:
        raise InputError(f"preset is {preset!r}; expected one of {', '.join(TRAINABLE)}.")
    of_model, of_training = _training_options(preset, model_options, options, settings)
    files = None if output is None else training.training_files(Path(output))
    with planned_outputs(files or ()), joined_ranks() as ranks:
        stream = training.train(
            pairs_of(data, picks, kind=kind),
            of_model,
            of_training,
            name=name if files is None else files[0].stem,
            template=None if template is None else _template_of(template),
            ranks=ranks,
            streamed=streamed,
        )
        if files is None or not ranks.first:
            return answer_of(stream, progress if ranks.first else None, title="Training")
        return answer_of(training.save_progress(stream, *files, ranks=ranks), progress, title="Training")


def predict(
    data: DataLike,
    picks: ParticlesLike | None = None,
    model: ModelLike = "ribosome",
    *,
    kind: str | None = None,
    reference: TemplateLike | None = None,
    mirror: bool = False,
    remove_duplicates: bool = False,
    scheduler: SchedulerLike = "",
    parts: Path | str | None = None,
    options: PredictionOptions | None = None,
    progress: Progress = None,
    **settings: Value,
) -> Particles:
    """The picks in order, with rotations, confidence and expected error; a template recentres them too.

    Of several tomograms one that fails is warned of, and left out.

    Parameters
    ----------
    data, picks : a tomogram or several and the list of their picks; or pairs ``[(tomogram, picks), ...]``; or the path
        of a PolNet folder or a list, alone. Objects or paths; rotations that the picks have serve for a prior alone.
    model : a network or template, the name of a shipped one (see `shipped_models`), or the path of its file.
    kind : predict the picks of this class alone, such as ``"4v4r"``.
    reference : a map to refine a network's rotations with, in the frame that it was trained in.
    mirror : match the mirror image of the template, x -> -x; poses are those of the mirrored map.
    remove_duplicates : of particles that lie nearer than ``min_distance`` keep the one of best score.
    scheduler : where several tomograms are worked on: ``""`` this process, ``"local:4"`` four, the address of a Dask
        scheduler, ``"slurm:8"`` eight jobs; or `SchedulerOptions`. A script that starts processes needs
        ``if __name__ == "__main__":``.
    parts : folder in which the particles of each tomogram are kept when it is done, with a table of how each stands;
        what is there of the same content, whatever files are called, is not done again.
    options, settings : of `PredictionOptions`, such as ``precision="fast"``, or ``tilts="tomograms.star"``.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If a file or model is missing, there are no picks, half of them lie outside, or an option does not fit.
    """
    chosen = options_of(PredictionOptions, options, settings)
    found = _mirrored(_model_of(model)) if mirror else _model_of(model)
    pairs = pairs_of_one_class(data, picks, kind=kind, learnt=found.classes)
    against = None if reference is None else _template_of(reference)
    result = ProjectResult()
    stream = predict_project(pairs, found, chosen, result, reference=against, run=_run_of(scheduler, parts))
    answer_of(stream, progress, title="Predicting")
    near = prediction.shortest_distance(found, chosen, reference=against)
    return without_duplicates(result.particles, near) if remove_duplicates else result.particles


def refine(
    data: DataLike,
    picks: ParticlesLike | None,
    reference: TemplateLike,
    *,
    reference_mask: Path | str | None = None,
    symmetry: SymmetryLike | None = None,
    kind: str | None = None,
    mirror: bool | str = False,
    map_output: Path | str | None = None,
    remove_duplicates: bool = False,
    scheduler: SchedulerLike = "",
    parts: Path | str | None = None,
    options: RefinementOptions | None = None,
    progress: Progress = None,
    **settings: Value,
) -> Particles:
    """The picks in order, recentred and posed against a reference; rotations that they have serve as starts.

    Of several tomograms one that fails is warned of, and left out.

    Parameters
    ----------
    data, picks : a tomogram or several and the list of their picks; or pairs ``[(tomogram, picks), ...]`` or the path
        of a PolNet folder or a list, and None. Objects or paths.
    reference : a template, the path of a map, or the name of a bead model.
    reference_mask : the path of a soft mask, 0 to 1, in the reference's box, such as RELION's ``mask.mrc``.
    symmetry : of the reference, such as ``"D7"`` or ``"D7@z@x"`` with its axes; ``"auto"`` proposes what the map shows;
        None takes the reference's own.
    kind : refine the picks of this class alone, such as ``"4v4r"``.
    mirror : match the mirror image of the reference, x -> -x; poses are those of the mirrored map. ``"auto"`` compares
        both hands over all tomograms first.
    map_output : with ``rounds=3``: the corrected reference to write, .mrc; nothing is where it stays as it was.
    remove_duplicates : of particles that lie nearer than ``min_distance`` keep the one of best score.
    scheduler : where several tomograms are worked on: ``""`` this process, ``"local:4"`` four, the address of a Dask
        scheduler, ``"slurm:8"`` eight jobs; or `SchedulerOptions`. A script that starts processes needs
        ``if __name__ == "__main__":``.
    parts : folder in which the particles of each tomogram are kept when it is done, with a table of how each stands;
        what is there of the same content, whatever files are called, is not done again.
    options, settings : of `RefinementOptions`, such as ``max_shift=10``, ``tilts="tomograms.star"``, or ``rounds=3``:
        the reference is corrected by the particles' own average three times; see `engine.prediction.adaptation`.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If a file is missing, the reference cannot be matched, half of the picks lie outside, or an option does not fit.
    """
    chosen = options_of(RefinementOptions, options, settings)
    given = _template_of(reference)
    pairs = pairs_of_one_class(data, picks, kind=kind, learnt=given.classes)
    template = _with_symmetry(given if reference_mask is None else masked_template(given, reference_mask), symmetry)
    if mirror == AUTO:
        template = answer_of(choose_hand(pairs, template, chosen), progress, title="Comparing hands")
    elif mirror:
        template = template.mirrored()
    map_path = None if map_output is None else checked_map_path(map_output, chosen, flag="rounds=3")
    result, run = ProjectResult(), _run_of(scheduler, parts)
    stream = refine_project(pairs, template, chosen, result, run)
    corrected = answer_of(stream, progress, title="Refining")
    if map_path and corrected:
        write_tomogram(map_path, corrected.density, voxel_size=corrected.voxel_size)
    near = refinement.duplicate_distance(template, chosen.duplicates)
    return without_duplicates(result.particles, near) if remove_duplicates else result.particles


def discover(
    data: DataLike,
    picks: ParticlesLike | None = None,
    *,
    kind: str | None = None,
    align_to: TomogramLike | None = None,
    options: DiscoveryOptions | None = None,
    progress: Progress = None,
    **settings: Value,
) -> Discovery:
    """The structures that picks have in common, a verdict on each, and the pose of every particle.

    ``.particles`` are the picks with their poses, ``.structures`` the maps.

    Parameters
    ----------
    data, picks : pairs ``[(tomogram, picks), ...]``; or one or several tomograms and the list of their picks; or the
        path of a PolNet folder or a list. Rotations that the picks have are not used.
    kind : use the picks of this class alone, such as ``"4v4r"``.
    align_to : a map into whose frame the structure is rotated.
    options, settings : of `DiscoveryOptions`, above all ``diameter``, Å.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If there are too few picks, half lie outside, voxels are too coarse for the diameter, or an option does not
        fit.
    """
    chosen = options_of(DiscoveryOptions, options, settings)
    target = None if align_to is None else tomogram_of(align_to)
    stream = discovery.discover(
        pairs_of(data, picks, kind=kind),
        chosen,
        align_to=None if target is None else (np.asarray(target.density, np.float32), target.voxel_size),
    )
    return answer_of(stream, progress, title="Discovering")


def average(
    data: DataLike,
    picks: ParticlesLike | None = None,
    *,
    symmetry: SymmetryLike = "C1",
    kind: str | None = None,
    remove_duplicates: bool = False,
    scheduler: SchedulerLike = "",
    options: AveragingOptions | None = None,
    mask: Path | str | None = None,
    progress: Progress = None,
    **settings: Value,
) -> averaging.Average:
    """The average of particles in their poses, with the averages of its two halves and their FSC.

    The halves are those of ``rlnRandomSubset`` where the particles have it, or random; duplicates are never in both.

    Parameters
    ----------
    data, picks : pairs ``[(tomogram, particles), ...]``; or one or several tomograms and the list of their particles;
        or the path of a PolNet folder or a list.
    symmetry : imposed, such as ``"D7@z@x"``; ``"auto"`` proposes what the map shows.
    kind : average the particles of this class alone, such as ``"4v4r"``.
    remove_duplicates : of particles that lie nearer than ``min_distance`` average the one of best score alone.
    scheduler : where several tomograms are worked on, as in `predict`; the average is the same to the bit.
    options, settings : of `AveragingOptions`, such as ``side=48``.
    mask : what the FSC is measured in: ``"ball"``, ``"map"``, or the path of a soft mask, 0 to 1, about the map's
        origin, such as RELION's ``mask.mrc``; None for that of the options.
    progress : None, True, or a function that is called with every step.

    Raises
    ------
    InputError
        If there are fewer than two particles, they have no rotations, half lie outside, or an option or the mask does
        not fit.
    """
    made = mask is None or mask in MASKS
    if mask is not None and made:
        settings = {**settings, "mask": str(mask)}
    chosen = options_of(AveragingOptions, options, settings)
    group = None if symmetry == AUTO else symmetry_of(symmetry)
    pairs = pairs_of_one_class(data, picks, kind=kind)
    if remove_duplicates and pairs:
        near = averaging.duplicate_distance(chosen, pairs[0][0].voxel_size)
        pairs = [(tomogram, without_duplicates(particles, near)) for tomogram, particles in pairs]
    stream = averaging.average(
        pairs, group=group, options=chosen, scheduler=_scheduler_of(scheduler), mask=None if made else given_path(mask)
    )
    return answer_of(stream, progress, title="Averaging")


def evaluate(
    predicted: ParticlesLike,
    truth: ParticlesLike,
    *,
    symmetry: SymmetryLike = "C1",
    kind: str | None = None,
    tolerance: float = 100.0,
) -> Report:
    """Errors of predicted rotations against true ones, with chance beside every figure; ``print`` shows the table.

    Parameters
    ----------
    predicted, truth : particles or paths, of lists, folders or patterns; matched by tomogram and nearest position.
    symmetry : that errors are taken modulo.
    kind : use the true particles of this class alone, such as ``"4v4r"``.
    tolerance : Å that a partner may be away.

    Raises
    ------
    InputError
        If either has no rotations, or none of the one lies near one of the other.
    """
    group = symmetry_of(symmetry)
    return evaluate_particles(particles_of(predicted), particles_of(truth, kind=kind), group=group, tolerance=tolerance)


def report(
    poses: ParticlesLike,
    output: Path | str,
    *,
    tomograms: DataLike | None = None,
    truth: ParticlesLike | None = None,
    reference: TemplateLike | None = None,
    symmetry: SymmetryLike | None = None,
    diameter: float | None = None,
    threshold: float = 20.0,
    title: str = "Poses",
) -> Path:
    """Path of the page of HTML that is written on these poses: errors, directions, failures, particles; no other file.

    Parameters
    ----------
    poses : particles with rotations, or the path of a list, a folder or a pattern of lists.
    output : page to write: .html.
    tomograms : one or several, or the path of a folder, from which particles are shown.
    truth : particles with true rotations; without them the page shows expected errors.
    reference : the map that is shown beside the particles.
    symmetry : that errors are taken modulo; None takes the reference's.
    diameter : Å, of the particle, for the failure regions; None takes the reference's.
    threshold : degrees up to which a pose is right.

    Raises
    ------
    InputError
        If the poses have no rotations, no true particle lies near one, or the page cannot be written.
    """
    from napari_orient.engine.reports.pose_report import ReportSubject, pose_report

    path = given_path(output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path} given as report; expected a name that ends in .html.")
    template = None if reference is None else _template_of(reference)
    labelled = [] if tomograms is None else pairs_of(tomograms, poses)
    group = symmetry_of((template and template.symmetry) or "C1" if symmetry is None else symmetry)
    subject = ReportSubject(
        title=title,
        particles=in_list_order(concatenate([own for _, own in labelled])) if labelled else particles_of(poses),
        run={"program": f"napari-orient {__version__}"},
        labelled=labelled,
        truth=None if truth is None else particles_of(truth),
        template=template,
        group=group,
        diameter=diameter,
        threshold=threshold,
    )
    with planned_outputs([path]):
        pose_report(subject).save(path)
    return path


def convert(
    source: ParticlesLike,
    target: Path | str,
    *,
    tomogram: TomogramLike | None = None,
    tomograms: Path | str | None = None,
    kind: str | None = None,
    dialect: str | None = None,
    pixel_size: float | None = None,
    out_pixel_size: float | None = None,
    centre: str = "size/2",
    out_centre: str = "size/2",
    mirror: str | None = None,
) -> Particles:
    """The particles of one list, written as another kind of list.

    Parameters
    ----------
    source : a list of any program whose format is read (docs/formats.md has them), or a folder or pattern of several;
        or particles.
    target : .star, .csv, .tsv, .tbl or another suffix of a format that is written.
    tomogram : that they lie in; needed where coordinates count from its centre or in its voxels.
    tomograms : RELION's tomograms.star, for sizes of many tomograms.
    kind : write the particles of this class alone, such as ``"4v4r"``.
    dialect : of the target, such as ``"relion4"`` or ``"dynamo"``; None for the usual one of its suffix.
    pixel_size : Å, of the source's coordinates in pixels or voxels.
    out_pixel_size : Å, of the target's pixels or voxels; None for the tomogram's voxels, or ``pixel_size``.
    centre, out_centre : voxel that RELION 5's coordinates count from in the source and in the target: ``"size/2"`` or
        ``"size/2 - 1"``.
    mirror : ``"x"``, ``"y"``, ``"z"``, ``"point"`` or ``"yz"``, where the volume was mirrored so.

    Raises
    ------
    InputError
        If the source cannot be read, the target cannot be written, or a size is needed and unknown.
    """
    from napari_orient import __version__

    form, path = writing_dialect(target, dialect), Path(target)
    metadata = ListMetadata(pixel_size=pixel_size, tomograms=tomograms, centre=centre)
    with planned_outputs([path, *form.companions(path)]):
        opened = None if tomogram is None else tomogram_of(tomogram)
        listed = Path(source) if isinstance(source, (str, Path)) else None
        particles = particles_of(source, opened) if listed is None else read_lists(listed, metadata, tomogram=opened)
    particles = particles if kind is None else particles.of_kind(kind)
    particles = particles if mirror is None else mirrored(particles, mirror)
    size = pixel_size_to_write(form, particles, given=out_pixel_size, read=pixel_size, tomogram=opened)
    origin = f"napari-orient {__version__}: converted from {'Python' if listed is None else listed.name}"
    write_particles(target, particles, dialect=form.name, pixel_size=size, centre=out_centre, provenance=origin)
    return particles


def run(stream: Any) -> Any:
    """The answer of a stream of the engine, drained to its end; an answer is returned as it is.

    Verbs gave streams in version 0.1.0: ``run(predict(...))`` still gives the particles.
    """
    return drained(stream) if isinstance(stream, Generator) else stream


def _run_of(scheduler: SchedulerLike, parts: Path | str | None) -> ProjectRun:
    """Where tomograms are worked on; what is done is kept in a folder, which is made, and taken from there."""
    where = _scheduler_of(scheduler)
    if parts is None:
        return ProjectRun(where)
    stored = StoredResults(Path(parts), Path(parts) / "status.csv")
    stored.folder.mkdir(parents=True, exist_ok=True)
    stored.check()
    return ProjectRun(where, stored, resume=True)


def _scheduler_of(given: SchedulerLike) -> SchedulerOptions:
    return given if isinstance(given, SchedulerOptions) else SchedulerOptions(scheduler=given)


def _mirrored(model: Template | Network) -> Template:
    if isinstance(model, Template):
        return model.mirrored()
    raise InputError(f"mirror was given, but {model.name} is a network, which has no map. Choose a template.")


def _model_of(given: ModelLike) -> Template | Network:
    if isinstance(given, (Template, Network)):
        return given
    if isinstance(given, (str, Path)):
        return prediction.load_model(given)
    raise InputError(
        f"a model is given as {type(given).__name__}; expected a Network, a Template, a name or the path of a file."
    )


def _template_of(given: TemplateLike) -> Template:
    if isinstance(given, Template):
        return given
    if isinstance(given, (str, Path)):
        template = load_template(given)
        for note in template.notes:
            warnings.warn(note, ResultWarning, stacklevel=3)
        return template
    raise InputError(
        f"a template is given as {type(given).__name__}; expected a Template, the path of a map, or a name. "
        "Make one: Template(density, voxel_size)."
    )


def _with_symmetry(template: Template, given: SymmetryLike | None) -> Template:
    """The template with the symmetry given; for ``"auto"``, with the one that its map shows."""
    if given is None:
        return template
    group = propose_symmetry(template.density, template.voxel_size).group if given == AUTO else symmetry_of(given)
    return replace(template, symmetry=group.name)


def _training_options(
    preset: str,
    model_options: ModelOptions | None,
    options: ModelTrainingOptions | None,
    settings: dict[str, Value],
) -> tuple[ModelOptions, ModelTrainingOptions]:
    """The pair of a preset or in its place, each with the settings that are its own."""
    of_model, of_training = TRAINABLE[preset]
    of_model, of_training = model_options or of_model, options or of_training
    own = [{item.name for item in base.parameters()} for base in (of_model, of_training)]
    unknown = [name for name in settings if not any(name in names for names in own)]
    if unknown:
        expected = expected_one_of(unknown[0], sorted(own[0] | own[1]))
        raise InputError(f"a training from {preset!r} has no option {unknown[0]!r}{expected}.")
    parts = [{name: value for name, value in settings.items() if name in names} for names in own]
    return of_model.replace(**parts[0]), of_training.replace(**parts[1])

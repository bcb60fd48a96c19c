"""Files opened as layers: volumes and lists as parts of layers, folders in a job, and files that are open already.

A list brings its tomograms along, where their files are found. The first tomogram gets layers, others when chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.layers import Layer, Points
from napari.utils.notifications import show_error, show_info

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_particles, read_tomogram
from napari_orient.engine.io.dialects import holds_true_poses
from napari_orient.engine.io.dialects.polnet import is_polnet_folder
from napari_orient.engine.io.labelled import volumes_of_list
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.io.tomograms import match_tomogram
from napari_orient.engine.io.volumes.formats import names_volume
from napari_orient.engine.outputs import recorded_reads
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.projects.files import project_files
from napari_orient.engine.projects.inputs import read_project
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_parts
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH, LayerParts
from napari_orient.gui.layers.napari_csv import is_napari_csv, read_napari_csv
from napari_orient.gui.session.state_in_file import with_model_found
from napari_orient.gui.session.tomogram_switch import ListedParticles
from napari_orient.gui.session.viewer_session import Session

PLUGIN = "napari-orient"
_USUAL_VIEW = ViewOptions()


def dock_text(text: str) -> str:
    """A sentence without the names of command-line options, and without the advice that only they can follow."""
    text = text.replace(", or give the list's name for it (--tomogram-name)", "")
    return re.sub(r" \(--[\w-]+\)", "", text)


def asks_for_size(error: InputError) -> bool:
    """Whether a file cannot be read for want of the size of its voxels, or of the pixels that it counts in."""
    return "pixel size" in str(error) or "voxel size" in str(error)


# --- volumes ----------------------------------------------------------------------------------------------------------


def volume_parts(path: Path, *, voxel_size: float | None = None) -> LayerParts:
    """An image layer of a volume, read by parts; notes on how it was read are shown.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    tomogram = read_tomogram(path, voxel_size=voxel_size)
    for note in tomogram.notes:
        show_info(f"{tomogram.name}: {note}")
    return layer_data.tomogram_parts(tomogram)


def volume_is_open(session: Session, path: Path) -> bool:
    """Whether the tomogram of this file is open; it is shown then."""
    opened = [image for image in session.index.volumes() if layer_data.about(image).get("path") == str(path.resolve())]
    if opened:
        session.tomograms.choose(layer_data.tomogram_name(opened[0]))
    return bool(opened)


# --- lists ------------------------------------------------------------------------------------------------------------


def list_parts(session: Session | None, path: Path, *, pixel_size: float | None = None) -> list[LayerParts]:
    """Layers of a list: points, with arrows where it has orientations, in the tomograms that are open.

    Where none of its own is open, the first of its tomograms is, if its file is found. Particles of the others are
    listed: they get layers when their tomogram is chosen. Without a session all are returned.

    Raises
    ------
    InputError
        If the list cannot be read, or has none of the tomograms that are open while its own are not found.
    """
    if is_napari_csv(path):
        return _parts_of_napari_csv(session, path)
    opened = {} if session is None else session.index.extents()
    volumes = {} if session is None else _volumes_not_open(session, path, opened)
    with recorded_reads() as files:
        particles = _read(path, opened, {name: volume.extent for name, volume in volumes.items()}, pixel_size)
    particles = with_model_found(particles, path)
    if particles.notes:
        show_info(f"{path.name}: {' '.join(dock_text(note) for note in particles.notes)}")
    shown, others = _placed(particles, opened, volumes, every=session is None)
    found: list[LayerParts] = []
    view = _USUAL_VIEW if session is None else session.drawing.view
    for name, part in shown:
        if name in volumes:
            found.append(layer_data.tomogram_parts(volumes[name]))
        extent = opened.get(name) or (volumes[name].extent if name in volumes else None)
        found += particle_parts(part, extent, path, files=files, view=view)
    for name, part in others:
        assert session is not None
        said = (_role(part, path), f"{path.stem} {name}", read_provenance(path), path, files)
        session.tomograms.list_particles(name, ListedParticles(part, *said), volume=volumes.get(name))
    return found


def _parts_of_napari_csv(session: Session | None, path: Path) -> list[LayerParts]:
    """Layers of a table that napari saved, which counts in voxels of the tomogram that is shown."""
    image = None if session is None else session.tomograms.current
    tomogram = None if image is None else layer_data.tomogram_of(image)
    particles = read_napari_csv(path, voxel_size=None if tomogram is None else tomogram.voxel_size)
    if tomogram is None:
        return particle_parts(particles, None, path)
    return particle_parts(particles.replace(tomogram=tomogram.name), tomogram.extent, path)


def _volumes_not_open(session: Session, path: Path, opened: Mapping[str, Extent]) -> dict[str, Tomogram]:
    """Tomograms of a list whose files are found, other than those that are open; that of no name by its file's."""
    found = volumes_of_list(path)
    if all(match_tomogram(name, opened) is not None for name in found):
        return {}
    files = {str(layer_data.about(image).get("path", "")) for image in session.index.volumes()}
    return {
        name or volume.name: volume
        for name, volume in found.items()
        if (name or not opened)
        and match_tomogram(name, opened) is None
        and (volume.path is None or str(Path(volume.path).resolve()) not in files)
    }


def _read(path: Path, opened: Mapping[str, Extent], found: Mapping[str, Extent], pixel_size: float | None) -> Particles:
    """The particles of a list, of every tomogram that can be placed: of those open, and those whose files are found."""
    extents = {**found, **opened}
    if len(extents) != 1:
        return read_particles(path, extents=extents, pixel_size=pixel_size)
    own = read_particles(path, tomogram=next(iter(extents)), extents=extents, pixel_size=pixel_size)
    with suppress(InputError):
        every = read_particles(path, extents=extents, pixel_size=pixel_size)
        if len(every.tomogram_names) > len(own.tomogram_names):
            return every
    return own


Placed = list[tuple[str, Particles]]


def _placed(
    particles: Particles, opened: Mapping[str, Extent], volumes: Mapping[str, Tomogram], *, every: bool
) -> tuple[Placed, Placed]:
    """The particles of each tomogram and the name it is open under: those to show, and those to list.

    Raises
    ------
    InputError
        If none of the list's tomograms is open or found, but others are.
    """
    names = particles.tomogram_names
    parts = [(name, particles.of_tomogram(name)) for name in names]
    if every:
        return parts, []
    if len(opened) == 1 and len(names) < 2 and not volumes:
        return [(next(iter(opened)), particles)], []
    pairs = [(match_tomogram(name, opened), name, part) for name, part in parts]
    own = [(match, part) for match, _, part in pairs if match is not None]
    others = [(name, part) for match, name, part in pairs if match is None]
    if own:
        return own, others
    first = next((name for name, _ in others if name in volumes), None)
    if first is None and opened:
        raise InputError(f"the list is of {', '.join(names[:3])}; open are {', '.join(opened)}. Rename one of them.")
    shown = [(name, part) for name, part in others if name == first] or others[:1]
    return shown, [(name, part) for name, part in others if name != shown[0][0]]


def particle_parts(
    particles: Particles,
    extent: Extent | None,
    path: Path,
    *,
    files: Sequence[Path] = (),
    view: ViewOptions = _USUAL_VIEW,
) -> list[LayerParts]:
    """A points layer of a list's particles in one tomogram, after its arrows where it has orientations."""
    said: dict[str, Any] = {"provenance": read_provenance(path), "path": path, "files": files}
    name = _layer_name(path.stem, next(iter(particles.tomogram_names), ""))
    points = layer_data.particles_parts(particles, extent, role=_role(particles, path), name=name, **said)
    axes = axes_parts(particles, points, view)
    return [points] if axes is None else [axes, points]


def _layer_name(stem: str, tomogram: str) -> str:
    """Name of a list's layer: the file's, and the tomogram's where that does not have it already."""
    return stem if tomogram in stem else f"{stem} {tomogram}"


def _role(particles: Particles, path: Path) -> str:
    """Poses with an expected error were predicted; those of a simulation's list are the truth; others are picks."""
    if particles.rotations is None:
        return PICKS
    if particles.expected_error_deg is not None:
        return PREDICTED
    return TRUTH if holds_true_poses(path) else PICKS


def list_is_open(session: Session, path: Path, *, pixel_size: float | None = None) -> bool:
    """Whether a list is open; its layers are selected then, and renewed, as one step that can be undone, if it changed.

    Parameters
    ----------
    pixel_size : Å; of the pixels that it counts in, where it does not state that.

    Raises
    ------
    InputError
        If it changed and cannot be read.
    """
    where, stamp, switch = path.resolve(), layer_data.file_stamp(path), session.tomograms
    own = [layer for layer in session.index.particles() if layer_data.about(layer).get("path") == str(where)]
    listed = [item for item in switch.sets() if item.listed is not None and item.listed.path == path]
    changed = [layer for layer in own if layer_data.about(layer).get("stamp") != stamp]
    if (not own and not listed) or (changed and is_napari_csv(path)):
        return False
    if changed:
        particles = _read(path, session.index.extents(), {}, pixel_size)
        for layer in changed:
            _renew(session, layer, particles, path)
    if own and switch.owner(own[0]) != switch.name:
        switch.choose(switch.owner(own[0]))
    elif not own:
        switch.choose(listed[0].tomogram)
    session.viewer.layers.selection = set(own) or session.viewer.layers.selection
    again = "has changed: its particles were read again, which Undo takes back"
    show_info(f"{path.name} {again if changed else 'is open already, and selected'}.")
    return True


def _renew(session: Session, layer: Points, particles: Particles, path: Path) -> None:
    """Read the particles of a layer anew from its list, which has changed."""
    name = match_tomogram(layer_data.own_tomogram(layer), particles.tomogram_names)
    own = particles if name is None or len(particles.tomogram_names) < 2 else particles.of_tomogram(name)
    if layer_data.role(layer) == PICKS and not layer_data.has_pose(layer).any():
        own = own.replace(rotations=None)
    session.replace_particles(layer, own, provenance=read_provenance(path), words=f"read {path.name} again")
    layer_data.about(layer)["stamp"] = layer_data.file_stamp(path)


# --- opening ----------------------------------------------------------------------------------------------------------


def open_paths(session: Session, paths: Sequence[Path]) -> None:
    """Open files, volumes before lists, and folders in a job; what is wrong with one is said by `refuse`."""
    folders = [path for path in paths if path.is_dir() and not names_volume(path)]
    files = [path for path in paths if path not in folders]
    for path in sorted(files, key=lambda item: not names_volume(item)):
        try:
            open_file(session, path)
        except InputError as error:
            refuse(session, path, error)
    session.tomograms.arrange()
    if folders:
        job = session.jobs.start(_read_folders(folders), title="Opening", immediately=True)
        job.answered.connect(lambda found: list_contents(session, found))


def parts_of_file(session: Session | None, path: Path, *, volume: bool, size: float | None = None) -> list[LayerParts]:
    """Layers of a volume, or of a list; none where it is open already, for it is shown or selected then.

    ``size`` as of `open_file`.
    """
    if volume:
        opened = session is not None and volume_is_open(session, path)
        return [] if opened else [volume_parts(path, voxel_size=size)]
    opened = session is not None and list_is_open(session, path, pixel_size=size)
    return [] if opened else list_parts(session, path, pixel_size=size)


def open_file(session: Session, path: Path, *, size: float | None = None) -> None:
    """Open a volume or a list as layers, or show those that it has.

    Parameters
    ----------
    size : Å; of the volume's voxels, or of the pixels that the list counts in, where it does not state that.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    for data, keywords, kind in parts_of_file(session, path, volume=names_volume(path), size=size):
        session.viewer.add_layer(Layer.create(data, keywords, kind))


def refuse(session: Session, path: Path, error: InputError) -> None:
    """Say why a file cannot be opened, in one line; let the page Data ask for a size that it does not state."""
    words = dock_text(str(error))
    if asks_for_size(error):
        session.show_page("Data")
        session.events.size_wanted(path=path, words=words)
    else:
        show_error(words)


@dataclass(frozen=True, eq=False)
class FolderContents:
    """What a folder stands for.

    Parameters
    ----------
    name : the folder's.
    pairs : tomograms with their particles; None for a tomogram that has none.
    files : that were read for them.
    path : the list of all particles, where it is one.
    are_true : whether poses are a simulation's.
    notes : how the files were found and read, a sentence each.
    """

    name: str
    pairs: Sequence[tuple[Tomogram, Particles | None]]
    files: Sequence[Path]
    path: Path | None = None
    are_true: bool = False
    notes: Sequence[str] = ()

    def parts(self, tomogram: str, particles: Particles) -> list[ListedParticles]:
        """The particles of one tomogram as they are listed; of a simulation picks and true poses apart."""
        if self.are_true:
            picks = ListedParticles(particles.replace(rotations=None), PICKS, f"{tomogram} picks", files=self.files)
            truth = ListedParticles(particles, TRUTH, f"{tomogram} truth", files=self.files)
            return [picks] if particles.rotations is None else [picks, truth]
        role = PREDICTED if particles.expected_error_deg is not None else PICKS
        said = "" if self.path is None else read_provenance(self.path)
        return [ListedParticles(particles, role, f"{self.name} {tomogram}", said, self.path, self.files)]


def _read_folders(folders: Sequence[Path]) -> Stream[Step, list[FolderContents]]:
    """What each folder stands for: PolNet's results, a project of another program, or tomograms and their lists."""
    found = []
    for number, folder in enumerate(folders):
        yield Step(number, len(folders), f"Reading {folder.name}")
        try:
            found.append(_contents(folder))
        except InputError as error:
            words = dock_text(str(error))
            if asks_for_size(error):
                words += " Drop that file itself: the page Data asks for its size."
            raise InputError(words) from error
    return found


def _contents(folder: Path) -> FolderContents:
    with recorded_reads() as read:
        if is_polnet_folder(folder):
            return FolderContents(folder.name, read_labelled(folder), read, are_true=True)
        named = project_files([folder])
        if not named.lists:
            return FolderContents(folder.name, [(read_tomogram(path), None) for path in named.volumes], read)
        project = read_project([folder])
    failed = [f"{name} is left out: {words}" for name, words in project.failed.items()]
    path = named.lists[0] if len(named.lists) == 1 else None
    return FolderContents(folder.name, project.pairs, read, path, notes=(*project.notes, *failed))


def list_contents(session: Session, every: Sequence[FolderContents]) -> None:
    """List the tomograms of folders with their particles, and show the first: only that gets layers.

    Files that were read for them are not written over while any of them is open. What is there is not listed again.
    """
    for found in every:
        known = {item.tomogram for item in session.tomograms.sets() if set(found.files) & set(_files_of(item.source))}
        for tomogram, particles in found.pairs:
            if tomogram.name in known:
                continue
            session.tomograms.list_particles(tomogram.name, volume=tomogram)
            for part in [] if particles is None else found.parts(tomogram.name, particles):
                session.tomograms.list_particles(tomogram.name, part)
        if found.notes:
            show_info(f"{found.name}: {' '.join(map(dock_text, found.notes))}")
    names = [tomogram.name for found in every for tomogram, _ in found.pairs]
    if names:
        session.tomograms.choose(names[0])
        session.viewer.reset_view()


def _files_of(source: Points | ListedParticles) -> list[Path]:
    files = layer_data.about(source).get("files", ()) if isinstance(source, Points) else source.files
    return [Path(file) for file in files]

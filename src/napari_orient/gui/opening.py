"""Files opened as layers: what is dropped, volumes before lists, and a form that opens one tomogram with options."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import (
    VOLUME_SUFFIXES,
    holds_true_poses,
    is_polnet_folder,
    names_volume,
    read_labelled,
    read_particles,
    read_provenance,
    read_tomogram,
    same_tomogram,
)
from napari_orient.engine.outputs import recorded_reads
from napari_orient.engine.outside import rows_inside
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui.layers import PICKS, TRUTH
from napari_orient.gui.pages.base import DockPage
from napari_orient.gui.session import Session
from napari_orient.gui.state_in_file import with_model_found
from napari_orient.gui.tomogram_switch import ListedParticles
from napari_orient.gui.widgets import (
    BAD,
    GOOD,
    WARNING,
    FileRow,
    NoteLabel,
    combo_box,
    labelled,
    list_filter,
    primary_button,
    show_classes,
    silent,
    size_box,
)

TOMOGRAMS = f"Tomograms ({' '.join(f'*{suffix}' for suffix in VOLUME_SUFFIXES)});;All files (*)"
LISTS = list_filter()

PLUGIN = "napari-orient"


class OpenForm(DockPage):
    """Reads the chosen files, shows what they hold, and opens them as layers."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.tomogram: Tomogram | None = None
        self.particles: Particles | None = None
        self.truth: Particles | None = None
        self._header_size = 0.0
        self._own_truth: Path | None = None
        self._files: dict[Path, list[Path]] = {}
        self.tomogram_row = FileRow(caption="Choose a tomogram", kinds=TOMOGRAMS, hint=".mrc, .rec, .mrc.gz, .zarr, …")
        self.tomogram_note = NoteLabel()
        self.voxel_size = size_box("Voxel size of the tomogram in Å. Type a value to override the file's header.")
        self.particles_row = FileRow(caption="Choose a particle list", kinds=LISTS, hint=".star, .csv, .tbl, …")
        self.particles_note = NoteLabel()
        self.pixel_size = size_box("Pixel size in Å of the list's coordinates: the unbinned one of the tilt series.")
        self.kind = combo_box("Open only the particles of this class")
        self.truth_row = FileRow(caption="Choose a list of true poses", kinds=LISTS, hint="optional")
        self.truth_note = NoteLabel()
        self.open = primary_button("Open", "Open these files as layers", self.open_files)
        self.open_note = NoteLabel()
        self.add_heading("Tomogram")
        self.add(self.tomogram_row, labelled({"Voxel size": self.voxel_size}), self.tomogram_note)
        self.add_heading("Particles")
        self.pixel_line = labelled({"Pixel size": self.pixel_size})
        self.kind_line = labelled({"Class": self.kind})
        self.add(self.particles_row, self.particles_note, self.pixel_line, self.kind_line)
        self.add_heading("True poses")
        self.add(self.truth_row, self.truth_note)
        self.column.addSpacing(10)
        self.add(self.open, self.open_note)
        self.tomogram_row.picked.connect(self._tomogram_picked)
        self.particles_row.picked.connect(self._particles_picked)
        self.truth_row.picked.connect(self._read_lists)
        self.voxel_size.valueChanged.connect(self._size_changed)
        self.pixel_size.valueChanged.connect(self._read_lists)

    # --- reading what was chosen ----------------------------------------------------------------------------------

    def _tomogram_picked(self, path: Path | None) -> None:
        self._header_size = 0.0
        if path is not None:
            # Errors are shown below, where the file is read again with the voxel size that the user gives.
            with suppress(InputError):
                self._header_size = read_tomogram(path).voxel_size
        with silent(self.voxel_size):
            self.voxel_size.setValue(self._header_size)
        self._size_changed()

    def _given_size(self) -> float | None:
        """The voxel size typed by the user; None while it is that of the header."""
        typed = self.voxel_size.value()
        return None if typed == 0 or typed == round(self._header_size, self.voxel_size.decimals()) else typed

    def _size_changed(self, *_: object) -> None:
        path = self.tomogram_row.path
        self.tomogram = None
        if path is None:
            self.tomogram_note.say("")
        else:
            try:
                self.tomogram = read_tomogram(path, voxel_size=self._given_size())
                self._show_tomogram_note(self.tomogram)
            except InputError as error:
                self.tomogram_note.say(dock_message(error), WARNING if "voxel size" in str(error) else BAD)
        self._read_lists()

    def _show_tomogram_note(self, tomogram: Tomogram) -> None:
        size, edge = tomogram.extent.size, tomogram.voxel_size
        text = f"{' × '.join(map(str, size))} voxels\n{' × '.join(f'{n * edge / 10:.0f}' for n in size)} nm"
        lines = [f"{text} · voxel size: {tomogram.voxel_size_source}", *tomogram.notes]
        if self._given_size() is not None and edge == 1:
            self.tomogram_note.say(f"{text}\n1.0 Å is often a placeholder: check the voxel size.", WARNING)
        else:
            self.tomogram_note.say("\n".join(lines), GOOD)

    def _particles_picked(self, path: Path | None) -> None:
        with silent(self.pixel_size):
            self.pixel_size.setValue(0)
        self._read_lists()
        # Only the positions of a simulation's list become picks: its poses are the truth.
        posed = self.particles is not None and self.particles.rotations is not None
        if self.truth_row.path in (None, self._own_truth):
            self._own_truth = path if path is not None and posed and holds_true_poses(path) else None
            self.truth_row.show_path(self._own_truth)

    def _read_lists(self, *_: object) -> None:
        self.particles = self._read_list(self.particles_row.path, self.particles_note)
        self.truth = self._read_list(self.truth_row.path, self.truth_note)
        if self.truth is not None and self.truth.rotations is None:
            self.truth = None
            self.truth_note.say("This list has no orientations, so it cannot hold true poses.", BAD)
        self.show_state()

    def _read_list(self, path: Path | None, note: NoteLabel) -> Particles | None:
        if path is None:
            note.say("")
            return None
        try:
            size = self.pixel_size.value() or None
            known = self.session.index.extents()
            with recorded_reads() as self._files[path]:
                read = read_particles(path, tomogram=self.tomogram, extents=known, pixel_size=size)
            found = self._of_one_tomogram(with_model_found(read, path))
        except InputError as error:
            self.pixel_line.setVisible(self.pixel_line.isVisible() or _asks_for_size(str(error)))
            note.say(dock_message(error), BAD)
            return None
        other = self._other_tomogram(path, found)
        lines = [particle_summary(found), *map(dock_text, found.notes), other]
        note.say("\n".join(filter(None, lines)), WARNING if other else GOOD)
        return found

    def _other_tomogram(self, path: Path, particles: Particles) -> str:
        """A warning where a list seems to be of another tomogram than the one chosen; else empty."""
        if self.tomogram is None:
            return ""
        # PolNet's lists hold no name of their tomogram but that of the file.
        if holds_true_poses(path) and not same_tomogram(path.stem, self.tomogram.name):
            return f"The list is named {path.stem}, the tomogram {self.tomogram.name}: do they belong together?"
        try:
            rows_inside(particles, self.tomogram.extent, name=self.tomogram.name)
        except InputError as error:
            return dock_message(error)
        return ""

    def _of_one_tomogram(self, particles: Particles) -> Particles:
        """The particles, if they can be opened without a tomogram.

        Raises
        ------
        InputError
            If no tomogram is chosen, and they are of several.
        """
        names = particles.tomogram_names
        if len(names) > 1:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise InputError(f"The list is of {len(names)} tomograms ({shown}). Choose the tomogram first.")
        return particles

    def show_state(self, *_: object) -> None:
        """Show the classes of the particles read, and whether the files can be opened."""
        found = self.truth if self.particles is None else self.particles
        counts = Counter(found.kind.tolist()) if found is not None and found.kind is not None else Counter()
        show_classes(self.kind, counts, sum(counts.values()))
        self.kind_line.setVisible(len(counts) > 1)
        needs_pixel = self.pixel_size.value() > 0 or _asks_for_size(self.particles_note.text())
        self.pixel_line.setVisible(self.particles_row.path is not None and needs_pixel)
        chosen = [self.tomogram_row.path, self.particles_row.path, self.truth_row.path]
        read = [self.tomogram, self.particles, self.truth]
        complete = all(found is not None for path, found in zip(chosen, read, strict=True) if path is not None)
        self.open.setEnabled(complete and any(chosen))
        if not any(chosen):
            self.open_note.say("Choose a tomogram and a particle list. No files? File ▸ Open Sample ▸ Orient.")
        else:
            self.open_note.say("" if complete else "Correct the errors above first.")

    # --- opening ------------------------------------------------------------------------------------------------

    def open_files(self) -> None:
        """Open the files as layers: the tomogram, its picks, and their true poses."""
        extent = self._extent()
        if self.tomogram is not None and self.session.tomograms.image(self.tomogram.name) is None:
            self.session.show_tomogram(self.tomogram)
        stem = self.tomogram.name if self.tomogram is not None else None
        if self.truth is not None:
            name = f"{stem or _path(self.truth_row).stem} truth"
            true, path = self._of_class(self.truth), _path(self.truth_row)
            files = self._files.get(path, ())
            self.session.show_particles(true, extent, role=TRUTH, name=name, path=path, files=files)
        if self.particles is not None:
            # If one list is both, its poses are the true ones and the picks have none.
            same = self.truth is not None and self.truth_row.path == self.particles_row.path
            picks = self.particles.replace(rotations=None) if same else self.particles
            name = f"{stem or _path(self.particles_row).stem} picks"
            path = _path(self.particles_row)
            line = "" if picks.rotations is None else read_provenance(path)
            said: dict[str, Any] = {"provenance": line, "path": path, "files": self._files.get(path, ())}
            self.session.show_particles(self._of_class(picks), extent, role=PICKS, name=name, **said)
        if self.tomogram is not None:
            self.session.tomograms.choose(self.tomogram.name)
        self.session.viewer.reset_view()
        # What was opened is not there to be opened once more, nor its truth for another tomogram.
        for row in (self.truth_row, self.particles_row, self.tomogram_row):
            row.show_path(None)
        self.open_note.say("Opened. Next: Predict if there is a model of the particles, else Discover.", GOOD)

    def _extent(self) -> Extent | None:
        if self.tomogram is not None:
            return self.tomogram.extent
        extents = self.session.index.extents()
        return next(iter(extents.values())) if len(extents) == 1 else None

    def _of_class(self, particles: Particles) -> Particles:
        code = self.kind.currentData()
        return particles if code is None or particles.kind is None else particles.of_kind(code)


def _asks_for_size(text: str) -> bool:
    """Whether a note asks for the size of the pixels or voxels that coordinates count in."""
    return "pixel size" in text or "voxel size" in text


def particle_summary(particles: Particles) -> str:
    """A text of a list's particles: number, classes, with or without orientations."""
    text = f"{len(particles)} particles" if len(particles) != 1 else "1 particle"
    counts = [] if particles.kind is None else Counter(particles.kind.tolist()).most_common()
    if len(counts) == 1:
        text += f" of {counts[0][0]}"
    elif counts:
        text += ": " + ", ".join(f"{number} {code}" for code, number in counts[:4]) + (", …" if counts[4:] else "")
    return f"{text}\n{'With orientations' if particles.rotations is not None else 'No orientations'}"


def dock_message(error: InputError) -> str:
    """The error's text without the names of command-line options, which are fields in a dock."""
    line = dock_text(str(error))
    return line[:1].upper() + line[1:]


def dock_text(text: str) -> str:
    """A sentence without the names of command-line options, and without the advice that only they can follow."""
    text = text.replace(", or give the list's name for it (--tomogram-name)", "")
    return re.sub(r" \(--[\w-]+\)", "", text)


def _path(row: FileRow) -> Path:
    return row.path or Path("particles")


Pairs = list[tuple[Tomogram, Particles]]


def open_paths(session: Session, paths: Sequence[Path]) -> None:
    """Open files through the readers that napari calls, and PolNet folders in a job; an error is shown in one line."""
    folders = [path for path in paths if path.is_dir() and not names_volume(path)]
    files = [path for path in paths if path not in folders]
    for path in sorted(files, key=lambda item: not names_volume(item)):
        try:
            session.viewer.open(str(path), plugin=PLUGIN)
        except (InputError, ValueError) as error:
            show_error(f"{path.name}: {error}")
        # A list is read with the sizes of the tomograms before it.
        session.tomograms.arrange()
    if folders:
        job = session.jobs.start(_read_folders(folders), title="Opening", immediately=True)
        job.answered.connect(lambda found: list_pairs(session, *found))


def _read_folders(folders: Sequence[Path]) -> Stream[Step, tuple[Pairs, list[Path]]]:
    """The tomograms of PolNet's folders with their particles, and the files that were read for them."""
    pairs: Pairs = []
    read: list[Path] = []
    for number, folder in enumerate(folders):
        yield Step(number, len(folders), f"Reading {folder.name}")
        if not is_polnet_folder(folder):
            raise InputError(f"{folder} is no PolNet result folder; drop its tomograms and lists themselves.")
        with recorded_reads() as files:
            pairs += read_labelled(folder)
        read += files
    return pairs, read


def list_pairs(session: Session, pairs: Pairs, files: Sequence[Path]) -> None:
    """List tomograms with their particles, true poses apart, and show the first: only that gets layers.

    ``files`` were read for them, and are not written over while any of them is open.
    """
    for tomogram, particles in pairs:
        part = ListedParticles(particles.replace(rotations=None), PICKS, f"{tomogram.name} picks", files=files)
        session.tomograms.list_particles(tomogram.name, part, volume=tomogram)
        if particles.rotations is not None:
            truth = ListedParticles(particles, TRUTH, f"{tomogram.name} truth", files=files)
            session.tomograms.list_particles(tomogram.name, truth)
    if pairs:
        session.tomograms.choose(pairs[0][0].name)
        session.viewer.reset_view()

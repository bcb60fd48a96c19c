"""The card Discover: orientations, maps and a verdict from picks alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Points
from napari.utils.notifications import show_warning

from napari_orient.engine.discovery.discover import check_picks, discover
from napari_orient.engine.discovery.output import (
    Discovery,
    DiscoveryPaths,
    DiscoveryStep,
    class_name,
    class_path,
    discovery_provenance,
    write_discovery,
    write_step,
    write_template,
)
from napari_orient.engine.discovery.verdict import NOTHING
from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.corrections import ACCEPTED
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Labelled, Particles
from napari_orient.gui.colours import ROLE
from napari_orient.gui.jobs import Job
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.canvas import holding_still
from napari_orient.gui.layers.layer_data import PICKS
from napari_orient.gui.pages.base import JobCard, show_device
from napari_orient.gui.pages.discovery_layers import (
    DiscoveryPreview,
    hide_own_poses,
    show_poses,
    supported_particles,
    true_errors,
    well_determined_rows,
)
from napari_orient.gui.pages.discovery_panel import OTHERS, PREDICT, TRAIN, DiscoveryResultPanel
from napari_orient.gui.pages.map_choice import AlignmentChoice, Map
from napari_orient.gui.pages.particle_sources import PicksChecklist, count_text
from napari_orient.gui.preferences import Preferences
from napari_orient.gui.session.edits import set_status
from napari_orient.gui.widgets.basic import BAD, GOOD, LABEL_WIDTH, WARNING, Fold, NoteLabel, Panel, labelled
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import JobRow

STOPPED_TEXT = "Stopped\nPoses and map are those of the last round; they have no verdict."
STOPPED_EARLY_TEXT = "Stopped before the first round ended\nNo layer was changed."
FAILED_TEXT = "Failed with an error\nNo layer was changed."
RING_LINE_WIDTH = 9.0
"""Width of a ring's line in Å."""

DRAW_INTERVAL = 0.5
"""Seconds between two updates of the preview, at least: replacing 10,000 arrows takes 0.25 s without a GPU."""


@dataclass(frozen=True, eq=False)
class DiscoveryRequest:
    """Input of a discovery job: values copied from layers and fields, so later edits do not affect it."""

    pairs: Labelled
    options: DiscoveryOptions
    align_to: Map | None = None


class DiscoverCard(JobCard):
    """Discovers structures from the chosen picks; shows posed particles, maps and verdicts."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self._request: DiscoveryRequest | None = None
        self._pick_layers: list[Points] = []
        self._job: Job | None = None
        self._preview: DiscoveryPreview | None = None
        self._last: DiscoveryStep | None = None
        self._drawn = 0.0
        self._shown: list[Points] = []
        self._maps: list[Image] = []
        self.picks = PicksChecklist(self.session)
        self.options = OptionsForm(
            DiscoveryOptions,
            labels={"classes": "Classes", "max_shift": "Search range (Å)"},
            first=("diameter", "classes", "symmetry", "max_shift"),
            label_width=LABEL_WIDTH,
        )
        self.options.show_options(DiscoveryOptions.of(device=Preferences.now().compute.device))
        self.align = AlignmentChoice()
        self.note, self.device_note = NoteLabel(), NoteLabel()
        self.running = JobRow("Discover", "Find the structures that the picks share, and every orientation", stopped="")
        self.result_panel = DiscoveryResultPanel()
        self.result_panel.setVisible(False)
        inputs, align = Panel(), labelled({"Align to": self.align}, width=LABEL_WIDTH)
        inputs.add(self.picks, self.options, align, self.note, self.device_note)
        self.fold = Fold("Picks and options", inputs)
        self.fold.open(True)
        self.add(self.fold, self.running, self.result_panel)
        self.picks.changed.connect(self.show_state)
        self.options.changed.connect(self.show_state)
        self.running.asked.connect(self.run)
        self.running.ended.connect(self._ended)
        self.running.onward.clicked.connect(self._inspect)
        self.result_panel.next_step.connect(self.take_next_step)
        self.result_panel.saving.connect(self.save)

    # --- input --------------------------------------------------------------------------------------------------

    def show_state(self, *_: object) -> None:
        """Show how many picks there are, on which device the job would run, or what is wrong."""
        self.running.allow(self._check_input())
        show_device(self.device_note, self.options)

    def _check_input(self) -> bool:
        """Show the number of picks or what is wrong with the input; True if a discovery can start."""
        if not self.picks.chosen():
            self.note.say("No picks chosen: open a tomogram and its picks here or on the page Data.", WARNING)
            return False
        try:
            pairs, options = self.picks.pairs(), self.options.options()
            check_picks(pairs, options)
        except InputError as error:
            self.note.refuse(error)
            return False
        self._draw_rings(options.diameter)
        sizes = {tomogram.voxel_size for tomogram, _ in pairs}
        text = f"{count_text(pairs, 'pick')}; voxels of {', '.join(f'{size:g}' for size in sorted(sizes))} Å"
        self.note.say(text, WARNING if 1.0 in sizes else GOOD)
        return True

    def _draw_rings(self, diameter: float) -> None:
        """Draw the picks as rings of the given diameter, to compare with the particles."""
        for layer in self._picked_layers():
            size = diameter / layer_data.voxel_size(layer)
            if layer_data.role(layer) == PICKS and len(layer.data) and not np.allclose(layer.size, size):
                layer.size = size
                layer.border_width = RING_LINE_WIDTH / diameter

    def _picked_layers(self) -> list[Points]:
        return [item.layer for item in self.picks.chosen() if item.layer is not None]

    # --- discovery ----------------------------------------------------------------------------------------------

    def request(self) -> DiscoveryRequest:
        """The job's input, copied from the chosen layers.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        pairs, options = self.picks.pairs(), self.options.options()
        check_picks(pairs, options)
        return DiscoveryRequest(pairs, options, self.align.target())

    def start(self, request: DiscoveryRequest) -> None:
        """Start a discovery; its preview is drawn meanwhile, and kept when it is stopped."""
        self._request, self._pick_layers = request, self._picked_layers()
        self._last, self._drawn, self._shown = None, 0.0, []
        tomograms = [tomogram for tomogram, _ in request.pairs]
        self._preview = DiscoveryPreview(self.session, tomograms, before=self._maps)
        self.result_panel.begin(request.options)
        self.result_panel.setVisible(True)
        self._fold_away(request)
        stream = discover(request.pairs, request.options, align_to=request.align_to)
        job = self._job = self.session.jobs.start(stream, title="Discover", show=self._deliver)
        job.stepped.connect(self._stepped)
        job.reached.connect(self._reached)
        self.running.follow(job)

    def _fold_away(self, request: DiscoveryRequest) -> None:
        """Fold the input away, to make room for the result."""
        self.fold.button.setText(f"{count_text(request.pairs, 'pick')} · {request.options.diameter:g} Å")
        self.fold.open(False)

    def _stepped(self, step: DiscoveryStep) -> None:
        if step.particles is not None:
            self._last = step
        self.result_panel.add_round(step)

    def _reached(self, step: DiscoveryStep) -> None:
        stopping = self._job is None or self._job.stopping
        if (
            stopping
            or step.particles is None
            or self._preview is None
            or time.monotonic() - self._drawn < DRAW_INTERVAL
        ):
            return
        with holding_still(self.session.viewer):
            self._preview.show(step, new_layers=1)
        self.result_panel.show_round(step)
        self._drawn = time.monotonic()

    # --- result -------------------------------------------------------------------------------------------------

    def _deliver(self, found: Discovery | None) -> Iterator[None]:
        """Show the result, or the last round of a stopped discovery, layer by layer."""
        yield from self._show_stopped() if found is None else self._show_result(found)

    def _show_result(self, found: Discovery) -> Iterator[None]:
        """Show the maps and poses of structures whose verdict is not `NOTHING`."""
        assert self._preview is not None
        good = [label for label, item in enumerate(found.structures) if item.verdict.grade != NOTHING]
        with holding_still(self.session.viewer):
            for label in good:
                average = found.structures[label].average
                self._preview.show_map(label, average.density, average.voxel_size, class_count=len(found.structures))
            self._preview.clear_maps(keep=good)
        yield
        if good:
            self._maps = yield from self._preview.keep_maps()
            yield from self._show_poses(supported_particles(found), discovery_provenance(found))
            self._show_classes(len(found.structures))
        yield from self._preview.clear_arrows()
        self.result_panel.show_result(found)
        yield
        self._show_true_errors(found)

    def _show_poses(self, particles: Particles, line: str) -> Iterator[None]:
        assert self._request is not None
        assert self._preview is not None
        tomograms = [tomogram for tomogram, _ in self._request.pairs]
        self._shown, missing = yield from show_poses(
            self.session,
            particles,
            tomograms,
            preview=self._preview,
            provenance=line,
            words="discover again",
            own_frame=self._request.align_to is None,
        )
        hide_own_poses(self.session, self._pick_layers)
        if missing:
            show_warning(f"{', '.join(missing)} was removed meanwhile: its poses have no layer, but can be saved.")

    def _show_classes(self, count: int) -> None:
        if count > 1 and self.session.drawing.view.display.colour == ROLE:
            self.session.drawing.show_as(self.session.drawing.view.replace(colour="class"))

    def _show_true_errors(self, found: Discovery) -> None:
        """Show the true errors if true poses are on view, up to one common rotation, as the frame is arbitrary."""
        for label, item in enumerate(found.structures if self._shown else ()):
            errors = true_errors(self.session, self._shown, item.group, kind=_class_of(found, label))
            if errors is not None and item.verdict.grade != NOTHING:
                self.result_panel.show_true_error(label, float(np.median(errors)), float((errors < 20).mean()))

    def _ended(self, outcome: str) -> None:
        job, self._job = self._job, None
        if job is not None and job.abandoned:
            return
        if outcome == "failed":
            self._clear()
            self.result_panel.show_ended(FAILED_TEXT, BAD)
        if self.result_panel.found is None:
            self.fold.open(True)
        shown = outcome != "failed" and bool(self._on_view())
        tip = "Go to the page Inspect: scores, expected errors, failures"
        self.running.lead_on("Inspect the poses" if shown else "", tip)
        self._preview = None
        self.show_state()

    def _show_stopped(self) -> Iterator[None]:
        """Show a stopped discovery: the poses of its last round as a layer, and its maps."""
        last = self._last
        if last is None or last.particles is None:
            self._clear()
            self.result_panel.show_ended(STOPPED_EARLY_TEXT, WARNING)
            return
        assert self._preview is not None
        with holding_still(self.session.viewer):
            self._preview.show(last)
        yield
        yield from self._show_poses(last.particles, discovery_provenance(last))
        self._maps = yield from self._preview.keep_maps()
        yield from self._preview.clear_arrows()
        self.result_panel.show_round(last)
        self.result_panel.show_ended(STOPPED_TEXT, WARNING, savable=True)

    def _clear(self) -> None:
        if self._preview is not None:
            for _ in self._preview.clear_arrows():
                pass
            self._preview.clear_maps()

    # --- next steps ---------------------------------------------------------------------------------------------

    def take_next_step(self, step: str) -> None:
        """Continue with the result: `PREDICT`, `OTHERS` or `TRAIN`."""
        self.attempt({PREDICT: self._use, OTHERS: self._predict_others, TRAIN: self._train}[step])

    def _predict_others(self) -> None:
        """Make the map the model in use, and show the page Data, where others are opened."""
        self._use()
        self.session.show_page("Data")

    def _use(self) -> None:
        """Write the chosen structure's map to a temporary file, and make it the model in use."""
        found = self.result_panel.found
        if found is None:
            return
        path = class_path(self.session.scratch() / "discovered.safetensors", self.result_panel.label)
        write_template(found, path, label=self.result_panel.label)
        self.session.model = str(path)
        self.result_panel.done.say("Predict now uses this map. Save it below to keep it after napari is closed.", GOOD)

    def _train(self) -> None:
        """Accept the well-determined poses, and choose their layers on the card Train."""
        found, accepted = self.result_panel.found, 0
        kind = "" if found is None else _class_of(found, self.result_panel.label)
        for layer in self._on_view():
            rows = well_determined_rows(layer, kind=kind)
            if len(rows):
                set_status(self.session.history(layer), rows, ACCEPTED)
                accepted += len(rows)
        self.session.show_page("Poses", card="Train")
        self.session.events.training_layers(layers=tuple(self._on_view()))
        text = f"{accepted} poses of {kind} accepted" if kind else f"{accepted} poses accepted"
        self.result_panel.done.say(f"{text} and chosen for training. Undo on the page Correct reverts it.", GOOD)

    def _inspect(self) -> None:
        """Show the page Inspect on the first layer of discovered particles."""
        shown = self._on_view()
        if shown:
            self.session.viewer.layers.selection = {shown[0]}
        self.session.show_page("Inspect")

    def _on_view(self) -> list[Points]:
        return [layer for layer in self._shown if layer in self.session.viewer.layers]

    def save(self) -> None:
        """Write poses, maps and templates, the same files as the command line; if stopped, poses and map."""
        path = self.result_panel.file.path
        if path is not None:
            places = DiscoveryPaths.beside(path if path.suffix else path.with_suffix(".star"))
            self.attempt(lambda: self._write(places), note=self.result_panel.saved)

    def _write(self, places: DiscoveryPaths) -> None:
        assert self._request is not None
        extents = {tomogram.name: tomogram.extent for tomogram, _ in self._request.pairs}
        self.session.check_outputs(places.particles, *places.of_classes)
        if self.result_panel.found is not None:
            write_discovery(self.result_panel.found, places, extents=extents)
        elif self._last is not None:
            write_step(self._last, places, extents=extents)
        self.result_panel.saved.say(saved_files_text(places, whole=self.result_panel.found is not None), GOOD)


def _class_of(found: Discovery, label: int) -> str:
    """The class of a structure's particles; empty if there is one structure."""
    return class_name(label) if len(found.structures) > 1 else ""


def saved_files_text(places: DiscoveryPaths, *, whole: bool) -> str:
    """A text of the files written."""
    assert places.map is not None
    assert places.template is not None
    more = f", {places.map.name} with its half maps and FSC, {places.template.name}" if whole else ", and its map"
    return f"Wrote {places.particles}{more}."

"""The particles under inspection in one viewer: errors, filter, selection, failures; widgets show them and follow.

One layer is inspected at a time. What takes long (whether failures gather by chance, the contrast in the tomogram) is
done in the event loop's idle time.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer, Points
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import chance, chance_shares
from napari_orient.engine.inspection.failures import (
    LEAST_FOR_ASSOCIATION,
    Association,
    FailureRegion,
    Gathering,
    associations,
    failed_rows,
    failure_regions,
    gathering,
)
from napari_orient.engine.inspection.filters import rows_where
from napari_orient.engine.inspection.quantities import InspectionOptions, Neighbours, local_contrast
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.symmetry import Symmetry, symmetry
from napari_orient.engine.templates import Template, bead_models, load_template
from napari_orient.gui.event_loop import Deferred, IdleWork
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.layers.particle_values import QUANTITIES, ParticleValues
from napari_orient.gui.widgets.basic import GOOD, MUTED, WARNING
from napari_orient.gui.widgets.error_plots import Bars, Dots
from napari_orient.gui.widgets.particle_table import ranking

if TYPE_CHECKING:
    from napari_orient.gui.session.viewer_session import Session

USUAL_DIAMETER = 250.0
"""Å, a particle's size where neither its class nor the model in use says: an 80S ribosome's."""

_ROUND_UP = 5.0
"""Degrees to whose multiples the axis of expected errors is rounded up."""

ERROR_NAMES = {"true_error": "true error", "expected_error": "expected error"}

CONTRAST = "contrast"
PROPERTIES = ("expected_error", "score", "neighbour", "neighbour_class", "face", "beam_angle", CONTRAST, "class")
"""Columns that may go with the error."""

TITLES = {item.name: item for item in QUANTITIES}

_NO_ROWS: Rows = np.zeros(0, int)


@dataclass(frozen=True)
class RowFilter:
    """Which particles are shown: those for which an expression is true, and whose values lie in ranges.

    A range's end that is None is open, and passes those without a value.
    """

    expression: str = ""
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def rows(self, columns: Mapping[str, NDArray[Any]], count: int) -> NDArray[np.bool_]:
        """Mask of the rows shown, (N,).

        Raises
        ------
        InputError
            If the expression is invalid.
        """
        shown = rows_where(self.expression, columns, count=count)
        for name, (low, high) in self.ranges.items():
            if name in columns:
                shown &= True if low is None else columns[name] >= low
                shown &= True if high is None else columns[name] <= high
        return shown


class InspectedParticles(QObject):
    """The inspected layer's particles: ``renewed`` is emitted when they or their errors are others.

    ``filtered`` is emitted when other rows pass the filter, ``selected`` when other rows are selected, ``counted`` when
    failures, their regions and associations are others.

    Attributes
    ----------
    layer, values : the layer inspected and its particles' quantities, or None; ``problem`` says why there are none.
    columns : values of the N particles by name, (N,) each.
    errors : (N,) degrees, true where known, else expected; NaN where neither is. ``error_column`` is their column's
        name, empty without one.
    diameter : Å, the particles' size.
    filter, shown : the filter in force, and the rows that pass it, (N,).
    chosen : rows that are selected.
    failed, regions : the failures, (N,), and the regions that they form.
    gathering, associations : whether they gather by chance, None until that is known; what goes with the error.
    """

    renewed = Signal()
    filtered = Signal()
    selected = Signal()
    counted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = weakref.ref(session)
        self.layer: Points | None = None
        self.values: ParticleValues | None = None
        self.problem = ""
        self.filter = RowFilter()
        self.columns: dict[str, NDArray[Any]] = {}
        self.errors: FloatArray = np.zeros(0)
        self.error_column = ""
        self.diameter = USUAL_DIAMETER
        self.shown: NDArray[np.bool_] = np.zeros(0, bool)
        self.chosen: Rows = _NO_ROWS
        self.failed: NDArray[np.bool_] = np.zeros(0, bool)
        self.regions: tuple[FailureRegion, ...] = ()
        self.gathering: Gathering | None = None
        self.associations: tuple[Association, ...] = ()
        self._contrasts: weakref.WeakKeyDictionary[Points, tuple[object, FloatArray]] = weakref.WeakKeyDictionary()
        self._linking = False
        self._renewing = Deferred(self.renew, parent=self)
        self._hiding = Deferred(self._hide_others, parent=self)
        self._gathering_work, self._contrast_work = IdleWork(parent=self), IdleWork(parent=self)
        session.events.inspection.connect(self._options_changed)
        session.events.tomogram.connect(self._tomogram_changed)
        for event in ("inserted", "removed"):
            getattr(session.viewer.layers.events, event).connect(self._layers_changed)
        self._choose_layer()

    @property
    def session(self) -> Session:
        """The viewer's session.

        Raises
        ------
        ReferenceError
            If it is gone.
        """
        session = self._session()
        if session is None:
            raise ReferenceError("this session is gone")
        return session

    @property
    def outdated(self) -> bool:
        """Whether the layer has changed since its particles were measured; they will be again in a moment."""
        return self._renewing.waiting

    def settle(self) -> None:
        """Do now what was put off: after edits of the layer, and in idle time."""
        self._renewing.settle()
        self._contrast_work.settle()
        self._gathering_work.settle()
        self._hiding.settle()

    # --- the layer ----------------------------------------------------------------------------------------------

    def offered(self) -> list[Points]:
        """Layers of particles in the tomogram that is shown, predicted ones before picks; true poses if no others."""
        order, index = (PREDICTED, PICKS, ""), self.session.index
        own = [layer for layer in index.particles() if index.tomogram_of(layer) in (index.current, None)]
        others = [layer for layer in own or index.particles() if layer_data.role(layer) != TRUTH]
        others.sort(key=lambda layer: order.index(layer_data.role(layer)))
        return others or index.particles(TRUTH)

    def inspect(self, layer: Points | None) -> None:
        """Inspect this layer."""
        if layer is self.layer:
            return
        if self.layer is not None:
            self._release(self.layer)
        self.layer, self.chosen = layer, _NO_ROWS
        if layer is not None:
            layer.events.data.connect(self._layer_changed)
            layer.events.features.connect(self._layer_changed)
            layer.selected_data.events.items_changed.connect(self._points_chosen)
        self.renew()

    def _release(self, layer: Points) -> None:
        """Listen to the layer no more, and show all its particles."""
        layer.events.data.disconnect(self._layer_changed)
        layer.events.features.disconnect(self._layer_changed)
        layer.selected_data.events.items_changed.disconnect(self._points_chosen)
        self._show_all(layer)

    def _choose_layer(self, new: Layer | None = None) -> None:
        """Inspect the new layer if it is on offer, else go on, else the first on offer."""
        offered = self.offered()
        wanted = new if new in offered else self.layer if self.layer in offered else next(iter(offered), None)
        self.inspect(wanted if isinstance(wanted, Points) else None)

    def _layers_changed(self, event: Any) -> None:
        if self._session() is None:
            return
        layer = event.value
        if layer_data.role(layer) == TRUTH or layer_data.holds_tomogram(layer):
            self._renewing.ask()
        if layer_data.holds_particles(layer):
            # Points of a person's own do not take the place of poses that are inspected.
            self._choose_layer(layer if event.type == "inserted" and layer_data.role(layer) else None)

    def _tomogram_changed(self, event: Any = None) -> None:
        if self._session() is not None:
            self._choose_layer()

    def _layer_changed(self, event: Any = None) -> None:
        action = str(getattr(event, "action", "changed")).rsplit(".", maxsplit=1)[-1].lower()
        if event.source is self.layer and action in ("changed", "added", "removed"):
            self._renewing.ask()

    def other_poses(self) -> Points | None:
        """Poses that came with a list in this tomogram, to compare those inspected with; None where truth is known."""
        switch, layer = self.session.tomograms, self.layer
        if layer is None or layer_data.role(layer) != PREDICTED or switch.particles(TRUTH):
            return None
        return next((other for other in switch.particles(PICKS) if layer_data.has_pose(other).any()), None)

    # --- errors -------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Measure the particles anew."""
        self.values, self.problem = None, ""
        try:
            if self.layer is not None:
                self.values = self.session.inspection.particle_values(self.layer)
        except InputError as error:
            self.problem = str(error)
        self.diameter = self._diameter()
        self._find_contrast()
        self._gather_columns()
        self.chosen = self._chosen_in_layer()
        self._count_failures()
        self._pass_filter()
        self.renewed.emit()
        self.filtered.emit()
        self.counted.emit()
        self.selected.emit()

    def __len__(self) -> int:
        return 0 if self.values is None else len(self.values)

    def _gather_columns(self) -> None:
        contrast = self.contrast
        own = {} if self.values is None else self.values.columns
        self.columns = {**own, **({} if contrast is None else {CONTRAST: contrast})}
        self.error_column = next((name for name in ERROR_NAMES if name in self.columns), "")
        self.errors = self.columns[self.error_column] if self.error_column else np.full(len(self), np.nan)

    @property
    def error_name(self) -> str:
        """What `errors` are: ``true error``, ``expected error`` or ``error``."""
        return ERROR_NAMES.get(self.error_column, "error")

    @property
    def options(self) -> InspectionOptions:
        """How errors are measured, and which are failures."""
        return self.session.inspection.options

    @property
    def threshold(self) -> float:
        """Degrees up to which a pose counts as right."""
        return self.options.threshold

    def set_threshold(self, threshold: float) -> None:
        """Count poses as right up to this many degrees; no error is measured again."""
        if threshold != self.threshold:
            self.session.inspection.options = replace(self.options, threshold=threshold)
            self._count_failures()
            self.counted.emit()

    def set_options(self, **values: Any) -> None:
        """Measure by these options from now on.

        Raises
        ------
        InputError
            If one is invalid.
        """
        self.session.inspection.set_options(InspectionOptions.from_record({**self.options.to_record(), **values}))

    def _options_changed(self, event: Any = None) -> None:
        if self._session() is not None:
            self.renew()

    def expected_by_chance(self, quantity: Any) -> Any:
        """A quantity of a group for random rotations: its mean over particles, each with the group of its class."""
        names = self.values.inspection.symmetry if self.values is not None and len(self) else np.array(["C1"])
        groups, counts = np.unique(names, return_counts=True)
        parts = zip(groups.tolist(), counts.tolist(), strict=True)
        return sum(quantity(symmetry(name)) * (number / len(names)) for name, number in parts)

    def chance_right(self) -> float:
        """Probability that a random rotation counts as right."""

        def right(group: Symmetry) -> float:
            return chance(self.threshold, group)

        return float(self.expected_by_chance(right))

    def bars(self) -> Bars:
        """The histogram of the errors shown, beside chance where they are true ones."""
        true, errors = self.error_column == "true_error", self.errors
        largest = float(np.nanmax(errors, initial=self.threshold * 1.5))
        bars = Bars(errors, self.shown, 180.0 if true else float(np.ceil(largest / _ROUND_UP) * _ROUND_UP))
        if not true:
            return bars
        return replace(bars, chance=self.expected_by_chance(lambda group: chance_shares(bars.edges, group)))

    def dots(self, column: str) -> Dots:
        """The errors shown against a column."""
        values = self.columns.get(column, np.full(len(self), np.nan))
        return Dots(self.errors, values, self.shown, diagonal=column == "expected_error")

    # --- failures -----------------------------------------------------------------------------------------------

    def _diameter(self) -> float:
        """Å, the particles' size: as given, else of their class's bead model, else of the template in use."""
        if self.options.diameter is not None:
            return self.options.diameter
        kinds = set() if self.values is None or self.values.particles.kind is None else set(self.values.particles.kind)
        codes = {str(kind).removeprefix("pdb_") for kind in kinds}
        code = codes.pop() if len(codes) == 1 else ""
        return _diameter_of(code if code in bead_models() else self.session.model)

    def _count_failures(self) -> None:
        self.failed = failed_rows(self.errors, self.threshold)
        self.regions, self.gathering, self.associations = (), None, ()
        self._gathering_work.stop()
        if self.values is None or not self.error_column:
            return
        particles, found = self.values.particles, self.values.inspection
        self.regions = failure_regions(
            particles,
            self.errors,
            failed=self.failed,
            diameter=self.diameter,
            near=Neighbours(found.neighbour, found.neighbour_class),
            face=found.face,
        )
        self.associations = self._associations()
        rng = np.random.default_rng(0)
        work = gathering(particles, self.failed, diameter=self.diameter, rng=rng)
        self._gathering_work.start(work, self._gathered)

    def _gathered(self, found: Gathering) -> None:
        self.gathering = found
        self.counted.emit()

    def _associations(self) -> tuple[Association, ...]:
        """What goes with the error: columns by their titles."""
        columns = self.columns
        # The score is made of the expected error: that they go together says nothing.
        trivial = {self.error_column, "score" if self.error_column == "expected_error" else ""}
        names = [name for name in PROPERTIES if name in columns and name not in trivial]
        if int(np.isfinite(self.errors).sum()) < LEAST_FOR_ASSOCIATION:
            return ()
        return associations(self.errors, {property_name(name): columns[name] for name in names})

    # --- contrast -----------------------------------------------------------------------------------------------

    @property
    def contrast(self) -> FloatArray | None:
        """Contrast of each particle with its surroundings, (N,); None while it is not known."""
        found = None if self.layer is None else self._contrasts.get(self.layer)
        return found[1] if found is not None and found[0] == self._contrast_key() else None

    def _contrast_key(self) -> object:
        positions = b"" if self.values is None else self.values.particles.positions.tobytes()
        return hash(positions), self.diameter

    def _find_contrast(self) -> None:
        self._contrast_work.stop()
        if self.layer is None or self.values is None or self.contrast is not None:
            return
        image = self.session.index.tomogram_of(self.layer)
        if image is not None:
            try:
                tomogram = layer_data.tomogram_of(image)
            except InputError:
                return
            work = local_contrast(tomogram, self.values.particles.positions, diameter=self.diameter)
            self._contrast_work.start(_keyed(self._contrast_key(), work), self._contrast_found)

    def _contrast_found(self, found: tuple[object, FloatArray]) -> None:
        key, contrast = found
        if self.layer is None or key != self._contrast_key():
            return
        self._contrasts[self.layer] = key, contrast
        self._gather_columns()
        self.associations = self._associations()
        self.renewed.emit()
        self.counted.emit()
        self.selected.emit()

    # --- filter -------------------------------------------------------------------------------------------------

    def set_filter(self, wanted: RowFilter) -> None:
        """Show the rows that pass this filter, in widgets and in the viewer.

        Raises
        ------
        InputError
            If its expression is invalid; then all that pass its ranges are shown.
        """
        self._renewing.settle()
        before, self.filter = self.shown, wanted
        try:
            self._pass_filter(raises=True)
        finally:
            if not np.array_equal(before, self.shown):
                self.filtered.emit()

    def _pass_filter(self, *, raises: bool = False) -> None:
        try:
            self.shown = self.filter.rows(self.columns, len(self))
        except InputError:
            self.shown = replace(self.filter, expression="").rows(self.columns, len(self))
            if raises:
                raise
        finally:
            self._hiding.ask()

    def _hide_others(self) -> None:
        """Show in the viewer only the points and arrows that pass the filter, and their true partners."""
        if self.layer is None or self.values is None or self.layer not in self.session.viewer.layers:
            return
        points = np.ones(len(self.layer.data), bool)
        rows = self.values.rows
        points[rows[rows < len(points)]] = self.shown[rows < len(points)]
        self._show_points(self.layer, points)
        truth = self.session.index.truth_of(layer_data.own_tomogram(self.layer))
        if truth is not None and truth is not self.layer:
            true = np.ones(len(truth.data), bool)
            if not self.shown.all():
                partner = self.values.inspection.partner
                true[:] = False
                true[partner[self.shown & (partner >= 0)]] = True
            self._show_points(truth, true)

    def _show_all(self, layer: Points) -> None:
        truth = self.session.index.truth_of(layer_data.own_tomogram(layer))
        for each in {layer, truth} - {None}:
            if each in self.session.viewer.layers:
                self._show_points(each, np.ones(len(each.data), bool))

    def _show_points(self, points: Points, shown: NDArray[np.bool_]) -> None:
        if len(shown) and not np.array_equal(points.shown, shown):
            points.shown = shown
            self.session.drawing.draw_later(points)
            self.session.events.view()

    # --- selection ----------------------------------------------------------------------------------------------

    def choose(self, rows: Rows) -> None:
        """Select these particles, here and as points of the layer."""
        self._renewing.settle()
        if self.layer is None or self.values is None:
            return
        self.chosen = np.asarray(rows, int)
        self._linking = True
        self.layer.selected_data = set(self.values.rows[self.chosen].tolist())
        self._linking = False
        self.selected.emit()

    def worst(self, step: int) -> int | None:
        """The shown particle with the next largest error after the selected one, or with -1 the one before."""
        self._renewing.settle()
        candidates = np.flatnonzero(self.shown & np.isfinite(self.errors))
        if not len(candidates):
            return None
        order = candidates[ranking(self.errors[candidates], descending=True)]
        place = np.flatnonzero(order == self.chosen[0]) if len(self.chosen) == 1 else _NO_ROWS
        start = int(place[0]) + step if len(place) else (0 if step > 0 else len(order) - 1)
        return int(order[start % len(order)])

    def position(self, row: int) -> FloatArray:
        """Position of a particle, (3,) xyz in Å."""
        assert self.values is not None
        return np.asarray(self.values.particles.positions[row])

    def _points_chosen(self, event: Any = None) -> None:
        """Follow the selection of the layer's points."""
        if self._linking or self.outdated:
            return
        self.chosen = self._chosen_in_layer()
        self.selected.emit()

    def _chosen_in_layer(self) -> Rows:
        if self.layer is None or self.values is None:
            return _NO_ROWS
        return np.flatnonzero(np.isin(self.values.rows, np.array(sorted(self.layer.selected_data), int)))


def headline(inspected: InspectedParticles) -> tuple[str, str]:
    """The headline, and its tone: how many poses are right, or, without true poses, how many are uncertain."""
    errors = inspected.errors[np.isfinite(inspected.errors)]
    total, wrong = len(errors), int(inspected.failed.sum())
    if not total:
        return f"{len(inspected)} particles, no errors known yet", MUTED
    if inspected.error_column == "true_error":
        chance = f"{100 * inspected.chance_right():.1f}\N{NO-BREAK SPACE}%"
        text = f"{total - wrong} of {total} right within {inspected.threshold:g}° (chance {chance})"
        return text, GOOD if wrong <= total / 2 else WARNING
    text = f"{wrong} of {total} uncertain: expected error above {inspected.threshold:g}°"
    return text, WARNING if wrong else MUTED


def property_name(column: str) -> str:
    """A column's name as a property that may go with the error: its description, shortened."""
    return TITLES[column].property if column in TITLES else column


def column_of_property(name: str) -> str:
    """The column that a property is of."""
    return next((item.name for item in QUANTITIES if item.property == name), name)


def _keyed(key: object, work: Generator[None, None, FloatArray]) -> Generator[None, None, tuple[object, FloatArray]]:
    """A work's answer beside the key that it was begun for."""
    found = yield from work
    return key, found


@lru_cache(maxsize=16)
def _diameter_of(name: str) -> float:
    """Twice the radius of a template or bead model of this name; `USUAL_DIAMETER` where there is none."""
    from napari_orient.engine.prediction.predict import load_model

    try:
        found = load_template(name) if name in bead_models() else load_model(name) if name else None
    except InputError:
        return USUAL_DIAMETER
    return 2 * found.radius if isinstance(found, Template) else USUAL_DIAMETER

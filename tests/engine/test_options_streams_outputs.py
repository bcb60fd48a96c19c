"""Options, streams, and outputs that are written beside and renamed."""

import os
import stat
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, UnknownOptionWarning, option, suboptions
from napari_orient.engine.outputs import check_writable, existing_file, replacing
from napari_orient.engine.streams import Note, Step, map_steps, run, seconds_left, stoppable

ONE_LINE = r"^[^\n]+$"


@dataclass(frozen=True, kw_only=True)
class TeaOptions(Options):
    """An Options class with every sort of field."""

    sugar: int = option(1, help="Lumps of sugar.", low=0, high=4)
    heat: float = option(95.0, help="Heat of the water.", unit="°C", low=1.0)
    leaf: str = option("green", help="The leaf.", choices=("green", "black"))
    milk: bool = option(False, help="With milk.")
    minutes: float | None = option(None, help="How long it draws; none means to taste.", unit="min", low=0.0)


def count_to(total: int, closed: list[int]):
    try:
        for done in range(total):
            yield Step(done, total, f"step {done}")
    finally:
        closed.append(total)
    return total * 10


def test_running_a_stream_gives_what_it_returns():
    closed: list[int] = []
    assert run(count_to(3, closed)) == 30
    assert closed == [3]


def test_closing_a_stream_stops_it_and_lets_it_clean_up():
    closed: list[int] = []
    stream = count_to(1000, closed)
    next(stream)
    stream.close()
    assert closed == [1000]


def test_a_part_of_a_task_yields_one_step_wherever_it_can_be_stopped_and_is_closed_with_the_task():
    closed = []

    def work():
        try:
            yield
            yield
            return "done"
        finally:
            closed.append(True)

    step = Step(1, 2, "working")
    stream = stoppable(work(), step)
    assert [next(stream), next(stream)] == [step, step]
    stream.close()
    assert closed == [True]
    assert run(stoppable(work(), step)) == "done"
    assert run(map_steps(stoppable(work(), step), lambda item: Step(item.done, 9, "all"))) == "done"


def test_an_error_in_a_stream_flies():
    def broken():
        yield Step(0, 1, "so far well")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(broken())


def test_the_time_left_follows_the_pace_so_far():
    assert seconds_left(Step(0, 10, ""), 5.0) is None
    assert seconds_left(Step(2, 10, ""), 5.0) == 20.0
    assert seconds_left(Step(10, 10, ""), 5.0) == 0.0


def test_a_warning_begins_with_the_word_where_it_is_shown_but_not_in_its_text():
    assert str(Note("Missing wedge: none.")) == "Missing wedge: none."
    warning = Note("the contrast looks inverted.", "warning")
    assert (str(warning), warning.text) == ("Warning: the contrast looks inverted.", "the contrast looks inverted.")


def test_an_option_carries_all_that_a_form_or_a_command_line_needs():
    sugar, heat, leaf, milk, minutes = TeaOptions.parameters()
    assert (sugar.type, sugar.default, sugar.low, sugar.high, sugar.optional) == (int, 1, 0, 4, False)
    assert (heat.unit, heat.help, heat.expected) == ("°C", "Heat of the water.", "a number of at least 1 °C")
    assert (leaf.choices, leaf.expected) == (("green", "black"), "one of green, black")
    assert (milk.type, minutes.type, minutes.optional, minutes.default) == (bool, float, True, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sugar", -1),
        ("sugar", 5),
        ("sugar", 1.5),
        ("sugar", True),
        ("sugar", "two"),
        ("sugar", None),
        ("heat", 0.0),
        ("heat", float("nan")),
        ("heat", "hot"),
        ("leaf", "oolong"),
        ("milk", 1),
        ("minutes", -0.5),
    ],
)
def test_an_option_out_of_its_bounds_is_refused_by_name_with_what_was_expected(name, value):
    with pytest.raises(InputError, match=ONE_LINE) as caught:
        TeaOptions(**{name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}; expected ")


def test_a_whole_number_does_for_a_number_and_none_for_an_optional_one():
    assert TeaOptions(heat=80, minutes=3).to_record()["minutes"] == 3
    assert TeaOptions(minutes=None) == TeaOptions()


def test_options_cannot_be_changed_once_made():
    with pytest.raises(FrozenInstanceError):
        TeaOptions().sugar = 2


@given(
    sugar=st.integers(0, 4),
    heat=st.floats(1, 1e6),
    leaf=st.sampled_from(["green", "black"]),
    milk=st.booleans(),
    minutes=st.none() | st.floats(0, 60),
)
def test_options_survive_their_record(**values):
    options = TeaOptions(**values)
    assert TeaOptions.from_record(options.to_record()) == options


def test_a_record_may_lack_options_and_one_that_it_has_beyond_them_is_noted_and_ignored():
    assert TeaOptions.from_record({"sugar": 2}) == TeaOptions(sugar=2)
    with pytest.warns(UnknownOptionWarning, match="option 'lemon' is unknown to this version and was ignored"):
        assert TeaOptions.from_record({"sugar": 2, "lemon": True}) == TeaOptions(sugar=2)


def test_options_by_name_are_refused_where_there_is_none_of_the_name():
    with pytest.raises(InputError, match="TeaOptions has no option 'lemon'; expected one of sugar, heat"):
        TeaOptions.of(lemon=True)


# --- parts and earlier names -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KettleOptions(Options):
    """A part of other options, itself with a part."""

    litres: float = option(1.7, help="What it holds.", unit="l", low=0.1, expert=True, aliases=("volume",))
    tea: TeaOptions = suboptions(TeaOptions, sugar=2)


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """Options with a part and options of their own about it."""

    guests: int = option(2, help="How many sit down.", low=1)
    kettle: KettleOptions = suboptions(KettleOptions)
    cake: bool = option(True, help="With cake.")


def test_the_options_of_parts_stand_flat_in_their_place_with_the_path_that_leads_to_them():
    declared = TableOptions.parameters()
    names = ["guests", "litres", "sugar", "heat", "leaf", "milk", "minutes", "cake"]
    assert [parameter.name for parameter in declared] == names
    assert [parameter.path for parameter in declared[:3]] == [(), ("kettle",), ("kettle", "tea")]
    assert (declared[1].expert, declared[1].aliases, declared[2].expert) == (True, ("volume",), False)


def test_a_part_may_have_defaults_of_its_own():
    assert KettleOptions().tea.sugar == 2
    assert TableOptions.parameters()[2].default == 2
    assert TableOptions.from_record({"heat": 80.0}).kettle.tea == TeaOptions(sugar=2, heat=80)


def test_options_of_parts_are_given_read_changed_and_written_by_their_plain_names():
    options = TableOptions.of(guests=4, sugar=3, litres=2.0)
    assert (options.guests, options.kettle.litres, options.kettle.tea.sugar) == (4, 2.0, 3)
    assert options.to_record()["sugar"] == 3
    assert TableOptions.from_record(options.to_record()) == options
    assert options.replace(sugar=1, heat=90.0) == TableOptions.of(guests=4, sugar=1, litres=2.0, heat=90.0)
    assert options.replace() == options


def test_a_value_in_a_part_is_checked_like_any_other():
    with pytest.raises(InputError, match="sugar is 9; expected a whole number from 0 to 4"):
        TableOptions.of(sugar=9)


def test_an_earlier_name_is_read_and_the_present_one_wins_beside_it():
    assert TableOptions.from_record({"volume": 3.0}).kettle.litres == 3
    assert TableOptions.of(volume=3.0).kettle.litres == 3
    assert TableOptions.from_record({"volume": 3.0, "litres": 2.0}).kettle.litres == 2
    assert "volume" not in TableOptions().to_record()


def test_two_parts_may_not_declare_one_name():
    @dataclass(frozen=True, kw_only=True)
    class Twice(Options):
        """Sugar here, and sugar there."""

        sugar: int = option(1, help="Lumps.")
        tea: TeaOptions = suboptions(TeaOptions)

    with pytest.raises(TypeError, match="declares sugar twice"):
        Twice.parameters()


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_a_file_takes_its_place_whole(tmp_path: Path):
    path = tmp_path / "out.star"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
        assert beside.suffix == ".star"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_could_not_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path):
    path = tmp_path / "out.star"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_rights_that_the_user_gives_to_files(tmp_path: Path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "out.star") as beside:
            beside.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.star").stat().st_mode) == 0o640


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "missing" / "out.star", tmp_path / "file" / "out.star", Path("/proc/out.star")):
        with pytest.raises(InputError, match=ONE_LINE):
            check_writable(path)


def test_a_file_to_read_must_be_there_and_hold_something(tmp_path: Path):
    empty = tmp_path / "empty.mrc"
    empty.touch()
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "none.mrc", "no such file"), (empty, "0 bytes")):
        with pytest.raises(InputError, match=words):
            existing_file(path)
    empty.write_text("x")
    assert existing_file(str(empty)) == empty


def test_a_link_stays_one_and_a_protected_file_is_not_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.txt", tmp_path / "real" / "out.txt"
    for before in (None, "old"):
        if before is not None:
            real.write_text(before)
        link.unlink(missing_ok=True)
        link.symlink_to(real)
        with replacing(link) as beside:
            beside.write_text("new")
        assert link.is_symlink()
        assert real.read_text() == "new"
    real.chmod(0o444)
    for path in (link, real):
        with pytest.raises(InputError, match="protected against writing"), replacing(path):
            pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe or a device"):
        check_writable(tmp_path / "pipe")
    assert real.read_text() == "new"

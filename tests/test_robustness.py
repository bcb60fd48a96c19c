"""What goes wrong around the program, for every verb: full disks, kills, outputs that are inputs, two runs at once."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from napari_orient.cli import VERBS, main, parser_of
from napari_orient.engine.environment import machine_error
from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.folders import RECORD, FolderClaim
from napari_orient.engine.io import read_labelled, read_particles, write_particles, write_tomogram
from napari_orient.engine.outputs import check_writable, planned_outputs, replacing
from napari_orient.engine.scratch import PREFIX, Lock, claimed, scratch_folder

SMALL = "--size-x 40 --size-y 40 --size-z 32 --particles 3"
TINY = "--width 8 --depth 2 --patch-side 20 --mask-radius 90 --epochs 1 --validation 0.3 --device cpu"


def words(command: str, **places: object) -> list[str]:
    return [word.format(**places) for word in command.split()]


def refused(command: list[str], capsys) -> str:
    """The one line of a command that ends with status 2."""
    capsys.readouterr()
    status = main(command)
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    line = said.err.splitlines()[-1]
    assert line.startswith("napari-orient: ")
    return line


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(PREFIX) or "napari-orient-kept" in path.name]


@pytest.fixture
def place(world, tmp_path) -> Path:
    """A folder with a tomogram, its list, a map and a model of one's own."""
    shutil.copy(world.tomogram, tmp_path / "tomo_001.mrc")
    shutil.copy(world.template, tmp_path / "map.mrc")
    shutil.copy(world.model, tmp_path / "model.safetensors")
    (_, truth), *_ = read_labelled(world.simulated)
    few = truth.take(slice(0, 24))
    write_particles(tmp_path / "list.star", few)
    write_particles(tmp_path / "list.csv", few)
    return tmp_path


WRITING = {
    "convert": "convert {place}/list.star {place}/out.csv",
    "average": "average {place}/tomo_001.mrc {place}/list.star --output {place}/out.mrc",
    "predict": "predict {place}/tomo_001.mrc {place}/list.star --model {place}/model.safetensors "
    "--output {place}/out.csv --device cpu",
    "refine": "refine {place}/tomo_001.mrc {place}/list.star --reference {place}/map.mrc --output {place}/out.csv "
    "--precision fast --device cpu",
    "report": "report {place}/list.csv --output {place}/out.html",
    "train": f"train {{place}}/list.star --tomograms {{place}} --output {{place}}/out.safetensors {TINY}",
}
"""A small run of each verb that writes files that are named."""

FOLDERS = {
    "simulate": f"simulate {{place}}/map.mrc --output {{place}}/made {SMALL}",
    "demo": "demo --no-viewer --output {place}/made",
    "reproduce": "reproduce --scale quick --output {place}/made",
}
"""A run of each verb that fills a folder."""


def test_every_verb_says_what_it_writes_or_fills_a_folder():
    # Export writes as convert does; discover takes minutes to come to its writing.
    assert {*WRITING, *FOLDERS, "export", "discover", "evaluate", "models", "about"} == set(VERBS)
    for name in VERBS:
        verb, _ = parser_of(name)
        assert callable(verb.outputs)


# --- nothing is written over ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "convert {place}/list.star {place}/list.star",
        "convert {place}/list.star {place}/link.star",
        "average {place}/tomo_001.mrc {place}/list.star --output {place}/tomo_001.mrc",
        "average {place}/list.star --output {place}/tomo_001.mrc",
        "average {place}/tomo_001.mrc {place}/list.star --output {place}/out.mrc --list-output {place}/list.star",
        "average {place}/out_half1.mrc {place}/list.star --output {place}/out.mrc",
        "predict {place}/tomo_001.mrc {place}/list.star --output {place}/list.star",
        "predict {place}/tomo_001.mrc {place}/list.csv --output {place}/list.csv",
        "predict {place}/list.star --output {place}/list.star",
        "refine {place}/tomo_001.mrc {place}/list.star --reference {place}/map.mrc --output {place}/list.star",
        "discover {place}/tomo_001.mrc {place}/list.star --output {place}/list.star",
        "discover {place}/tomo_001.mrc {place}/list.star --output {place}/out.star --map {place}/tomo_001.mrc",
        "discover {place}/tomo_001.mrc {place}/list.star --output {place}/out.star --align-to {place}/map.mrc "
        "--map {place}/map.mrc",
        "train {place}/list.star --network template --template {place}/model.safetensors "
        "--output {place}/model.safetensors --tomograms {place}",
    ],
)
def test_no_verb_writes_over_what_it_reads(command, place, capsys):
    (place / "link.star").symlink_to(place / "list.star")
    os.link(place / "tomo_001.mrc", place / "out_half1.mrc")
    before = {path: path.read_bytes() for path in place.iterdir()}
    line = refused(words(command, place=place), capsys)
    assert "is to be written, and is read too" in line
    assert {path: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize(
    "command",
    [
        "average {place}/tomo_001.mrc {place}/list.star --output {place}/out.mrc --list-output {place}/out_fsc.csv",
        "discover {place}/tomo_001.mrc {place}/list.star --output {place}/out.star --template-output {place}/out.star",
    ],
)
def test_two_outputs_are_never_one_file(command, place, capsys):
    assert "is to be written twice" in refused(words(command, place=place), capsys)


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("foreign", ["its files", "another verb's", "other options"])
def test_a_folder_is_filled_by_the_run_that_it_belongs_to_alone(verb, foreign, place, capsys):
    made = place / "made"
    made.mkdir()
    if foreign == "its files":
        for name in ("Tomo001", "tomograms"):
            (made / name).mkdir()
        (made / "picks.star").write_text("mine")
    else:
        maker = {"another verb's": "another"}.get(foreign, verb)
        (made / RECORD).write_text(f'{{"made_by": "{maker}", "made_with": {{"seed": -1}}}}')
    before = sorted(made.rglob("*"))
    line = refused(words(FOLDERS[verb], place=place), capsys)
    assert str(made) in line
    assert "ame a" in line
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize("verb", FOLDERS)
def test_two_runs_never_fill_one_folder_at_once(verb, place, capsys):
    owner = FolderClaim(folder=place / "made", maker="another", made_with={}, owns=())
    with owner.held():
        (place / "made" / RECORD).unlink()
        assert "another run writes to" in refused(words(FOLDERS[verb], place=place), capsys)
    assert list((place / "made").iterdir()) == []


@pytest.mark.parametrize("verb", WRITING)
def test_two_runs_never_write_one_file_at_once(verb, place, capsys):
    output = place / WRITING[verb].split("{place}/")[-1].split()[0]
    with claimed(output):
        line = refused(words(WRITING[verb], place=place), capsys)
    assert f"{output.name} is being written by another run (process {os.getpid()} on " in line
    assert not output.exists()
    assert temporary_files(place) == []


def test_a_killed_run_keeps_its_output_from_nobody(place):
    claim = "import os, pathlib, signal, sys; from napari_orient.engine.scratch import claimed\n"
    claim += "with claimed(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", claim, str(place / "out.csv")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert temporary_files(place) != []
    assert main(words(WRITING["convert"], place=place)) == 0
    assert temporary_files(place) == []


def test_the_processes_that_train_one_network_together_claim_its_file_once(tmp_path, monkeypatch):
    with planned_outputs([tmp_path / "out.safetensors"]):
        monkeypatch.setenv("RANK", "1")
        other = threading.Thread(
            target=lambda: told.append(planned_outputs([tmp_path / "out.safetensors"]).__enter__())
        )
        told: list[object] = []
        other.start()
        other.join()
    assert told == [None]


def test_a_longer_simulation_goes_on_where_a_shorter_one_ended(place):
    command = words(FOLDERS["simulate"], place=place)
    assert main(command) == 0
    first = place / "made" / "Tomo001" / "tomo_001_rec.mrc"
    written = first.stat().st_mtime_ns
    assert main([*command, "--tomograms", "2"]) == 0
    assert first.stat().st_mtime_ns == written
    assert [len(part) for _, part in read_labelled(place / "made")] == [3, 3]


# --- what cannot be written -----------------------------------------------------------------------------------------


@pytest.fixture
def few_bytes() -> Iterator[Callable[[int], None]]:
    """Sets the largest file that may be written, as ``ulimit -f`` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda count: resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("verb", [*WRITING, *FOLDERS])
def test_a_place_without_room_is_refused_before_anything_is_read(verb, tmp_path, few_bytes, capsys):
    shutil.copy(Path(__file__), tmp_path / "map.mrc")
    few_bytes(1000)
    # Nothing that is to be read is there, or can be read.
    line = refused(words({**WRITING, **FOLDERS}[verb], place=tmp_path), capsys)
    assert "larger than the limit" in line or verb == "simulate"
    assert [path.name for path in tmp_path.iterdir()] == ["map.mrc"]


@pytest.fixture
def full_disk(monkeypatch) -> Callable[[Path], None]:
    """Has a folder, and what is below it, take no more bytes from now on: their error comes when they are flushed."""

    def fill(folder: Path) -> None:
        flush = os.fsync

        def failing(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", failing)

    return fill


@pytest.fixture
def elsewhere(tmp_path_factory, monkeypatch) -> Path:
    """The current folder, an empty one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("verb", WRITING)
def test_an_answer_that_finds_the_disk_full_is_kept_and_its_place_is_said(verb, place, full_disk, elsewhere, capsys):
    command = words(WRITING[verb], place=place)
    output = next(Path(word) for word in command if Path(word).name.startswith("out."))
    output.write_text("old")
    before = sorted(place.iterdir())
    full_disk(place)
    line = refused(command, capsys)
    assert "no space is left there" in line
    (kept,) = elsewhere.iterdir()
    assert f"is kept in {kept}" in line
    assert (kept / output.name).stat().st_size > 100
    assert output.read_text() == "old"
    assert sorted(place.iterdir()) == before


def test_many_tomograms_are_all_done_though_nothing_can_be_stored_on_the_way(
    world, place, full_disk, elsewhere, capsys
):
    (place / "out_parts").mkdir()
    command = words(
        "predict {world} --model {place}/model.safetensors --output {place}/out.csv --device cpu",
        world=world.simulated,
        place=place,
    )
    full_disk(place / "out_parts")
    assert main(command) == 0
    assert len(read_particles(place / "out.csv")) == 270
    assert capsys.readouterr().err.count("The work goes on") == 1
    full_disk(place)
    (place / "out_status.csv").unlink()
    line = refused([*command, "--remove-duplicates"], capsys)
    assert "no space is left there" in line


def test_a_simulation_that_finds_the_disk_full_keeps_what_is_whole(place, full_disk, capsys):
    command = words(FOLDERS["simulate"], place=place)
    assert main(command) == 0
    full_disk(place)
    assert "no space is left there" in refused([*command, "--tomograms", "2"], capsys)
    assert sorted(path.name for path in (place / "made").iterdir()) == ["Tomo001", "labels_table.csv", RECORD]


def test_no_room_anywhere_is_one_line_too(place, few_bytes, capsys):
    many = read_particles(place / "list.csv")
    write_particles(place / "many.csv", many.take(np.zeros(3000, int)))
    few_bytes(70_000)
    line = refused(words("convert {place}/many.csv {place}/out.csv", place=place), capsys)
    assert "in any other folder either" in line
    assert temporary_files(place) == temporary_files(Path.cwd()) == []


def test_more_than_the_disk_has_left_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"takes about .* GB; .* left"):
        check_writable(tmp_path / "out.mrc", need=shutil.disk_usage(tmp_path).total * 2)


def test_a_name_as_long_as_the_file_system_takes_is_written_and_a_longer_one_refused(place, capsys):
    name = "x" * 251
    assert main(words(f"convert {{place}}/list.star {{place}}/{name}.csv", place=place)) == 0
    assert "name is too long" in refused(
        words(f"convert {{place}}/list.star {{place}}/x{name}.csv", place=place), capsys
    )


# --- kills ----------------------------------------------------------------------------------------------------------

KILLED_AT_FLUSH = """
import os, signal, sys
flush, left = os.fsync, int(sys.argv[1])
def killed(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(descriptor)
os.fsync = killed
from napari_orient.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("verb", "flushes"), [("convert", 0), ("simulate", 2), ("train", 1)])
def test_after_kill_9_the_old_file_is_whole_and_the_next_run_leaves_nothing_behind(verb, flushes, place):
    command = words({**WRITING, **FOLDERS}[verb], place=place)
    output = next(Path(word) for word in command if Path(word).name.startswith(("out.", "made")))
    if verb != "simulate":
        output.write_text("old")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_FLUSH, str(flushes), *command],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert temporary_files(place)
    assert verb == "simulate" or output.read_text() == "old"
    assert main(command) == 0
    assert temporary_files(place) == []
    assert verb != "simulate" or [len(part) for _, part in read_labelled(output)] == [3]


def test_what_another_run_is_writing_is_left_alone(tmp_path):
    with scratch_folder(tmp_path) as theirs:
        (theirs / "half.mrc").write_text("half")
        with replacing(tmp_path / "out.csv") as beside:
            beside.write_text("whole")
        assert (theirs / "half.mrc").read_text() == "half"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_lock_is_held_once_and_given_back(tmp_path):
    lock = Lock.acquire(tmp_path / "lock")
    assert lock is not None
    assert Lock.acquire(tmp_path / "lock") is None
    lock.release(remove=True)
    assert not list(tmp_path.iterdir())
    again = Lock.acquire(tmp_path / "lock")
    assert again is not None
    again.release(remove=True)


def test_a_request_to_end_stops_the_work_as_ctrl_c_does(place, monkeypatch, capsys):
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(words(WRITING["convert"], place=place)) == 130
    assert capsys.readouterr().err == "Stopped.\n"
    assert temporary_files(place) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# --- the machine's errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/data/out"), "/data/out cannot be read or written: your quota"),
        (OSError(errno.EMFILE, "Too many open files", "/data/TS_250.mrc"), "too many files are open"),
        (OSError(errno.EIO, "Input/output error", "/data/TS_1.mrc"), "reports an error"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data/TS_1.mrc"), "/data/TS_1.mrc cannot be read"),
        (MemoryError("Unable to allocate 128. GiB for an array with shape (2, 3)"), "unable to allocate 128. GiB)"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] ... can't allocate memory: you tried"), "Memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "The GPU's memory ran out"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "no code for this GPU"),
        (RuntimeError("The NVIDIA driver on your system is too old: CUDA driver version is insufficient"), "driver"),
        (RuntimeError("can't start new thread"), "thread"),
    ],
)
def test_an_error_of_the_machine_is_one_line_with_a_remedy(error, expected):
    line = machine_error(error)
    assert line is not None
    assert expected in str(line)
    assert "\n" not in str(line)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("x"), KeyError("y"), OSError("no number")])
def test_an_error_of_the_program_keeps_its_traceback(error):
    assert machine_error(error) is None


def test_errors_of_outputs_can_be_told_from_those_of_inputs(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out.csv"):
        (tmp_path / "elsewhere").mkdir()
        Path("/nowhere/input.csv").read_text()
    with pytest.raises(OutputError), replacing(tmp_path / "out.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_planned_outputs_hold_for_their_work_alone(place):
    with planned_outputs([place / "list.csv"]), pytest.raises(InputError, match="is read too"):
        read_particles(place / "list.csv")
    assert len(read_particles(place / "list.csv")) == 24


# --- names, terminals -----------------------------------------------------------------------------------------------


def run_in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = command.format(program=f"{sys.executable} -m napari_orient.cli")
    return subprocess.run(["bash", "-c", line], capture_output=True, env={**os.environ, **environment}, check=False)


def test_a_results_characters_that_a_terminal_lacks_are_escaped(place):
    done = run_in_shell(f"{{program}} evaluate {place}/list.star {place}/list.csv", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert rb"\xb0" in done.stdout


def test_a_file_is_written_though_nobody_reads_what_is_said_about_it(place):
    done = run_in_shell(f"{{program}} convert {place}/list.star {place}/out.csv 2>&- ")
    assert (done.returncode, (place / "out.csv").exists()) == (0, True)
    done = run_in_shell(f"{{program}} convert {place}/list.star {place}/all.csv <&- >&- 2>&-")
    assert done.returncode == 0
    assert (place / "all.csv").read_bytes() == (place / "out.csv").read_bytes()
    done = run_in_shell(f"{{program}} convert {place}/list.star {place}/out.tsv >/dev/full")
    assert (done.returncode, (place / "out.tsv").exists()) == (2, True)
    assert b"standard output cannot be written: no space" in done.stderr
    assert b"Exception" not in done.stderr


def test_names_that_are_no_text_or_steer_the_terminal_are_escaped(place, capsys):
    odd = os.fsdecode(b"caf\xe9")
    shutil.copy(place / "list.csv", place / f"{odd}.csv")
    assert main(["convert", str(place / f"{odd}.csv"), str(place / "out.csv")]) == 0
    assert r"converted from caf\udce9.csv" in (place / "out.csv").read_text(encoding="utf-8")
    assert main(["convert", str(place / "\x1b[31mred.csv"), str(place / "out.csv")]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert r"\x1b[31mred.csv: no such file" in said


# --- what is found in files -----------------------------------------------------------------------------------------


def test_hidden_lists_are_none_and_a_simulation_without_a_tomogram_says_so(place, capsys):
    assert main(words(FOLDERS["simulate"], place=place)) == 0
    (place / "made" / "Tomo001" / "._tomo_001_motif_list.csv").write_bytes(b"\0\5\26\7")
    assert [len(part) for _, part in read_labelled(place / "made")] == [3]
    shutil.rmtree(place / "made" / "Tomo001")
    line = refused(words("average {place}/made --output {place}/out.mrc", place=place), capsys)
    assert "stopped before its first tomogram was done" in line


def test_points_of_membranes_need_not_be_numbers(world, tmp_path):
    head, first, *rest = world.truth.read_text().splitlines()
    path = tmp_path / "tomo_001_motif_list.csv"
    path.write_text("\n".join([head, "\t".join(["Membrane", "9", "m", "0", *["nan"] * 7]), first, *rest]) + "\n")
    assert len(read_particles(path)) == 1 + len(rest)


@pytest.mark.parametrize(("text", "row"), [("1_000", 1), ("１２", 1), ("1e400", 1)])
def test_what_is_a_number_to_python_alone_is_none(text, row, tmp_path):
    (tmp_path / "a.csv").write_text(f"x,y,z\n{text},2,3\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"x of row {row}"):
        read_particles(tmp_path / "a.csv")


def test_a_flat_tomogram_is_refused_whatever_the_model(place, capsys):
    write_tomogram(place / "tomo_001.mrc", np.zeros((64, 128, 128), np.float32), voxel_size=10)
    for model in (place / "model.safetensors", "ribosome-mlp"):
        command = "predict {place}/tomo_001.mrc {place}/list.star --output {place}/out.csv --device cpu --model"
        assert "is flat round every particle" in refused([*words(command, place=place), str(model)], capsys)


def damaged_model(path: Path, change: Callable[[dict[str, object]], object], *, weight: float | None = None) -> None:
    """Change the record of a model's file, and perhaps all its weights."""
    with safe_open(path, "numpy") as opened:
        text = opened.metadata()["napari-orient"]
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    record = json.loads(text)
    change(record)
    if weight is not None:
        tensors = {name: np.full_like(value, weight) for name, value in tensors.items()}
    save_file(tensors, path, metadata={"napari-orient": json.dumps(record)})


@pytest.mark.parametrize(
    ("change", "weight"),
    [
        (lambda record: record.update(format=float("inf")), None),
        (lambda record: record.update(card=[1, 2]), None),
        (lambda record: record.update(card={"classes": 5}), None),
        (lambda record: record.update(options=[1]), None),
        (lambda record: record.update(name=5), None),
        (lambda record: record.update(kind=["network"]), None),
        (lambda record: record["options"].update(width="wide"), None),
        (lambda record: record["options"].update(width=[1]), None),
        (lambda _: None, float("nan")),
        (lambda _: None, 0.0),
    ],
)
def test_a_damaged_model_is_one_line(change, weight, place, capsys):
    damaged_model(place / "model.safetensors", change, weight=weight)
    line = refused(words("models {place}/model.safetensors", place=place), capsys)
    assert "model" in line or "small" in line or "width" in line

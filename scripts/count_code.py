#!/usr/bin/env python
"""Counts that tell how easily the source is entered, now and at an earlier commit.

    python scripts/count_code.py                    counts of the working tree, as a table
    python scripts/count_code.py --beside a070e43   the same beside those of another commit
    python scripts/count_code.py --list             and what is counted: modules, constants, names, docstrings
    python scripts/count_code.py --predict          also the files that predicting with a template runs through (1 min)

Modules and lines: of the engine and the command line, and of the whole package. One importer: modules that exactly one
other module imports. Constants: numeric assignments at the top of an engine module; undocumented without a line of
text below. Banned: words of `BANNED` as parts of the names of modules, classes, functions, parameters and variables.
The predict path: engine files in which a function runs while particles are predicted with the shipped ribosome, less
the ground floor that everything uses (`GROUND`).
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "napari_orient"

BANNED = frozenset(
    [
        "told",
        "tell",
        "tells",
        "teller",
        "seen",
        "belief",
        "faint",
        "spins",
        "folds",
        "lessons",
        "finding",
        "pieces",
        "keeping",
        "trust",
        "trusted",
        "suspicion",
        "suspicions",
        "rivals",
        "rival",
        "odd",
        "looks",
        "judged",
        "judge",
        "settled",
        "loose",
        "finished",
        "waking",
        "leftover",
    ]
)
"""Words that stand for a term of the field (docs/glossary.md has the terms)."""

GROUND = tuple(
    f"{name}.py"
    for name in ("errors", "options", "streams", "outputs", "particles", "rotations", "representations", "symmetry")
)
"""Engine modules that everything uses; not counted on the path of a prediction."""

COLUMNS = ("columns.py", "own.py")
"""Modules of the readers' room that a prediction itself calls; reading and writing the files is not counted."""

REGISTRIES = (f"{PACKAGE}.engine.io.dialects", f"{PACKAGE}.engine.io.volumes.formats")
"""Modules that list one module for each format, which no other module need import."""

PATH_SCRIPT = """
import pathlib, sys, threading
from napari_orient.cli import main

folder = pathlib.Path(sys.argv[1])
size = "--size-x 120 --size-y 120 --size-z 60 --particles 30 --seed 1".split()
main(["simulate", "ribosome", "--output", str(folder), *size])
tomogram, picks = next(folder.rglob("*.mrc")), next(folder.rglob("*motif_list.csv"))
files = set()
def note(frame, event, argument):
    if event == "call":
        files.add(frame.f_code.co_filename)
predict = ["predict", str(tomogram), str(picks), "--output", str(folder / "out.star")]
main(predict)  # everything is imported here
threading.setprofile(note)
sys.setprofile(note)
status = main(predict)
sys.setprofile(None)
print(*sorted(files), f"status {status}", sep=chr(10))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--beside", metavar="COMMIT", help="count an earlier commit too")
    parser.add_argument("--list", action="store_true", help="also list what is counted")
    parser.add_argument("--predict", action="store_true", help="also count the files that a prediction runs through")
    given = parser.parse_args()
    now = counts(ROOT, predict=given.predict)
    before = None if given.beside is None else counts_at(given.beside, predict=given.predict)
    print(
        "| | " + ("" if before is None else f"{given.beside} | ") + "now |\n|---|" + "---|" * (1 + (before is not None))
    )
    for name, value in now.items():
        print(f"| {name} | " + ("" if before is None else f"{before[name]} | ") + f"{value} |")
    if given.list:
        for line in details(ROOT):
            print(line)


def counts_at(commit: str, *, predict: bool) -> dict[str, int]:
    """The counts of another commit of this repository."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as packed_files:
            packed_files.extractall(folder, filter="data")
        return counts(Path(folder), predict=predict)


def counts(root: Path, *, predict: bool = False) -> dict[str, int]:
    """The counts by name."""
    source = root / "src" / PACKAGE
    files = sorted(source.rglob("*.py"))
    inner = [path for path in files if is_engine_or_cli(path, source)]
    constants = [item for path in files if in_engine(path, source) for item in numeric_constants(path)]
    users = importers(files, source)
    alone = [name for name in with_one_importer(files, source) if ".engine." in name]
    found = {
        "modules, engine and command line": len(inner),
        "lines, engine and command line": sum(map(lines, inner)),
        "of these code: no docstrings, comments and blank lines": sum(map(code_lines, inner)),
        "modules, whole package": len(files),
        "lines, whole package": sum(map(lines, files)),
        "modules with one importer, whole package": len(with_one_importer(files, source)),
        "modules with one importer, engine": len(alone),
        "of these, formats in a registry": len([name for name in alone if users[name] <= set(REGISTRIES)]),
        "numeric constants, engine": len(constants),
        "numeric constants without a word, engine": len([item for item in constants if not item[2]]),
        "names with a banned word": sum(len(banned_names(path)) for path in files),
        "docstrings that begin with Nothing": sum(len(empty_docstrings(path)) for path in files),
        "classes that share a name": sum(count for count in shared_names(files).values()),
    }
    if predict:
        engine, ground = predict_path(root)
        found["engine files on the predict path"] = engine
        found["of these on the ground floor"] = ground
    return found


def is_engine_or_cli(path: Path, source: Path) -> bool:
    """Whether a file is of the engine or the command line."""
    room = path.relative_to(source).parts
    return room[0] in ("engine", "cli")


def in_engine(path: Path, source: Path) -> bool:
    """Whether a file is of the engine."""
    return path.relative_to(source).parts[0] == "engine"


@lru_cache(maxsize=1)
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file; the last one is kept, for what is asked of a file is asked in a row."""
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    """Lines of a file."""
    return path.read_text(encoding="utf-8").count("\n")


def code_lines(path: Path) -> int:
    """Lines of a file that hold code: no docstring, other text on its own, comment or blank line."""
    text = path.read_text(encoding="utf-8")
    prose = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    rows = enumerate(text.splitlines(), start=1)
    return sum(number not in prose and bool(row.strip()) and not row.strip().startswith("#") for number, row in rows)


def module_of(path: Path, source: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")


def importers(files: list[Path], source: Path) -> dict[str, set[str]]:
    """The modules that import each module."""
    modules = {module_of(path, source) for path in files}
    found: dict[str, set[str]] = {name: set() for name in modules}
    for path in files:
        own = module_of(path, source)
        for node in ast.walk(tree_of(path)):
            named = []
            if isinstance(node, ast.ImportFrom) and node.module:
                named = [node.module, *(f"{node.module}.{item.name}" for item in node.names)]
            elif isinstance(node, ast.Import):
                named = [item.name for item in node.names]
            for name in named:
                if name in modules and name != own:
                    found[name].add(own)
    return found


def with_one_importer(files: list[Path], source: Path) -> list[str]:
    """The modules (packages aside) that exactly one other module imports."""
    packages = {module_of(path, source) for path in files if path.name == "__init__.py"}
    return sorted(name for name, users in importers(files, source).items() if len(users) == 1 and name not in packages)


def numeric_constants(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Name, file and whether a line of text stands below, of each number assigned at the top of a module."""
    body = tree_of(path).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and is_number(node.value):
            documented = (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            )
            for target in (name for place in node.targets for name in ast.walk(place) if isinstance(name, ast.Name)):
                yield target.id, path.name, documented


def is_number(node: ast.expr) -> bool:
    """Whether an expression is a number, made of numbers, or a tuple or list of such."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return bool(node.elts) and all(map(is_number, node.elts))
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) or is_number(node.right)
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


def names_made(path: Path) -> Iterator[str]:
    """Names that a file makes: its own, classes, functions, parameters and variables."""
    yield path.stem
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words_of(name: str) -> set[str]:
    """The words of a name in snake or camel case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def banned_names(path: Path) -> list[str]:
    """The distinct names of a file with a banned word in them."""
    return sorted({name for name in names_made(path) if words_of(name) & BANNED})


def empty_docstrings(path: Path) -> list[str]:
    """The functions of a file whose docstring begins with "Nothing"."""
    tree = tree_of(path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, kinds) and (ast.get_docstring(node) or "").startswith("Nothing")
    ]


def shared_names(files: list[Path]) -> dict[str, int]:
    """Class names at the top of more than one module, with how many."""
    trees = [tree_of(path) for path in files]
    found = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return {name: count for name, count in sorted(found.items()) if count > 1}


def predict_path(root: Path) -> tuple[int, int]:
    """How many engine files a prediction with the shipped ribosome runs through, without and on the ground floor."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PATH_SCRIPT, folder]
        done = subprocess.run(command, env=environment(root), capture_output=True, text=True, check=True)
    engine = root / "src" / PACKAGE / "engine"
    files = [Path(line).relative_to(engine) for line in done.stdout.splitlines() if line.startswith(f"{engine}/")]
    path = [file for file in files if file.parts[0] not in ("io", "files", "simulation") or file.name in COLUMNS]
    ground = [file for file in path if str(file) in (*GROUND, "tasks.py")]
    print("predicting:", *path, file=sys.stderr)
    return len(path) - len(ground), len(ground)


def environment(root: Path) -> dict[str, str]:
    """An environment in which this commit's package is imported."""
    return {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}


def details(root: Path) -> Iterator[str]:
    """What is counted, a line each."""
    source = root / "src" / PACKAGE
    files = sorted(source.rglob("*.py"))
    for name in with_one_importer(files, source):
        yield f"one importer: {name}"
    for path in files:
        place = path.relative_to(source)
        if in_engine(path, source):
            yield from (
                f"constant without a word: {place}: {name}"
                for name, _, documented in numeric_constants(path)
                if not documented
            )
        yield from (f"banned word: {place}: {name}" for name in banned_names(path))
        yield from (f"docstring of nothing: {place}: {name}" for name in empty_docstrings(path))
    yield from (f"shared class name: {name}, {count} times" for name, count in shared_names(files).items())


if __name__ == "__main__":
    main()

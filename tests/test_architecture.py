"""The house's own laws, checked on its source: who imports whom, what the engine must not know, sizes and names."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import napari_orient

SOURCE = Path(napari_orient.__file__).parent
ROOT = Path(__file__).parents[1]
FILES = sorted(SOURCE.rglob("*.py"))
ENGINE = sorted((SOURCE / "engine").rglob("*.py"))

BLOCKED = """
import importlib, pkgutil, sys

class Blocked:
    names = ("qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "napari", "vispy", "superqt", "magicgui", "npe2",
             "tkinter", "matplotlib.pyplot", "matplotlib.backends.backend_qt", "matplotlib.backends.backend_qtagg")
    def find_spec(self, name, path=None, target=None):
        if name in self.names or name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import napari_orient, napari_orient.cli, napari_orient.engine
for room in (napari_orient.engine, napari_orient.cli):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
for name in napari_orient.__all__:
    getattr(napari_orient, name)
"""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def names_made(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name


def test_the_import_contracts_hold_and_every_module_stands_in_them():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


def test_the_engine_and_the_command_line_import_where_no_screen_is():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    wanted = {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for room in ("engine", "cli")
        for path in (SOURCE / room).rglob("*.py")
        if path.stem != "__main__"
    }
    assert wanted - imported == {"napari_orient.engine", "napari_orient.cli"}


def test_the_manifest_at_the_top_is_a_link_to_the_packaged_one():
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "src" / "napari_orient" / "napari.yaml"


def test_the_manifest_names_the_gui_alone():
    commands = re.findall(r"python_name: *(\S+)", (SOURCE / "napari.yaml").read_text(encoding="utf-8"))
    assert commands
    assert all(re.split("[.:]", name)[:2] == ["napari_orient", "gui"] for name in commands)


def test_the_engine_prints_nothing_and_loads_no_code():
    for path in ENGINE:
        called = {ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
        banned = {"print", "input", "eval", "exec", "breakpoint", "torch.load", "torch.save"}
        assert not called & banned, path


def test_asserts_tell_types_at_most_and_nothing_is_left_undone():
    for path in FILES:
        told = [ast.unparse(node.test) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]
        assert all(text.startswith("isinstance(") or text.endswith(" is not None") for text in told), path
        assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text(encoding="utf-8")), path


def test_io_and_functions_keep_the_houses_sizes():
    assert not [path for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > 600]
    lines = {(path, node.lineno): body_lines(node) for path in FILES for node in functions(path)}
    assert not [place for place, count in lines.items() if count > 60]
    sizes = sorted(lines.values())
    assert sizes[len(sizes) // 2] <= 7
    assert sizes[int(len(sizes) * 0.95)] <= 25


def test_every_module_and_every_public_class_and_function_says_what_it_is():
    for path in FILES:
        tree = tree_of(path)
        assert ast.get_docstring(tree), path
        public = [item for item in tree.body if isinstance(item, ast.ClassDef) and not item.name.startswith("_")]
        for item in (item for place in (tree, *public) for item in place.body):
            if isinstance(item, (ast.FunctionDef, ast.ClassDef)) and not item.name.startswith("_"):
                assert ast.get_docstring(item), f"{path}: {item.name}"


def test_no_name_is_a_word_that_says_nothing():
    empty = {"manager", "managers", "helper", "helpers", "util", "utils", "misc", "info", "process", "common"}
    for path in FILES:
        for name in names_made(path):
            parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
            assert not empty & {part.lower() for part in parts}, f"{path.name}: {name}"

"""The field's words: no name of a private language, one name for one thing, and a line for every number."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_orient"
FILES = sorted(SOURCE.rglob("*.py"))
COUNT = runpy.run_path(str(ROOT / "scripts" / "count_code.py"))


def docstrings(path: Path) -> list[tuple[str, str]]:
    """Name and docstring of each function and class of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = ast.walk(COUNT["tree_of"](path))
    return [(node.name, ast.get_docstring(node) or "") for node in nodes if isinstance(node, kinds)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_and_docstrings_use_the_fields_words(path):
    assert COUNT["banned_names"](path) == []
    assert COUNT["empty_docstrings"](path) == []
    metaphors = r"\b(told|teller|belief|suspicion|faint|lessons|looked at|usual place)\b"
    assert [name for name, text in docstrings(path) if re.search(metaphors, text, re.IGNORECASE)] == []


def test_no_two_classes_share_a_name():
    assert COUNT["shared_names"](FILES) == {}


@pytest.mark.parametrize("path", [path for path in FILES if "engine" in path.parts], ids=lambda path: path.name)
def test_every_number_of_the_engine_says_what_it_is(path):
    undocumented = [name for name, _, documented in COUNT["numeric_constants"](path) if not documented]
    assert undocumented == []


def test_a_banned_word_would_be_found(tmp_path):
    bad = tmp_path / "keeping.py"
    bad.write_text('_ODD = 3\n\n\ndef tell_it(told):\n    """Nothing; it is told."""\n')
    assert COUNT["banned_names"](bad) == ["_ODD", "keeping", "tell_it", "told"]
    assert COUNT["empty_docstrings"](bad) == ["tell_it"]
    assert [name for name, _, documented in COUNT["numeric_constants"](bad) if not documented] == ["_ODD"]

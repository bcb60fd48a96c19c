"""Write the tree into architecture.md: every module of the package and the first line that it says of itself.

Run: python docs/architecture.py
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
SOURCE = PAGE.parents[1] / "src" / "napari_orient"
BEGIN, END = "<!-- tree: written by python docs/architecture.py -->", "<!-- end of tree -->"


def page() -> str:
    """The page with the tree as the source has it."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return f"{before}{BEGIN}\n```\nnapari_orient\n" + "\n".join(tree(SOURCE, 1)) + f"\n```\n{after}"


def tree(folder: Path, depth: int) -> Iterator[str]:
    """A line for each module below a folder: folders after files, each with what it is."""
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    width = max((len(path.name) for path in files), default=0)
    for path in files:
        yield f"{'    ' * depth}{path.name:<{width}}  {summary(path)}"
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        yield f"{'    ' * depth}{inner.name}/  {summary(inner / '__init__.py')}"
        yield from tree(inner, depth + 1)


def summary(path: Path) -> str:
    """The first line of a module's docstring, up to its first colon or full stop."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<!cf)\. ", text)[0].removesuffix(".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

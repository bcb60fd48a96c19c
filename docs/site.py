"""Hooks of the documentation site: pages from the repository's top, and equations as MathML, which needs no script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
TOP = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's top, and the pages that they become."""

_UNBROKEN = re.compile(r"(?<=\d) (?=%|Å|°|µm|σ)|(?<=[≤±×÷]) (?=\d)")
"""Blanks inside a quantity, at which no line ends: the cells of tables are narrow."""

_OPTION = re.compile(r"(?<=[>\s(\[])--?[a-z][\w-]*")
"""An option of the command line in a page's code."""


def on_files(files: Files, config: Any) -> Files:
    """The files of ``docs``, and the pages made of those at the top."""
    for name, page in TOP.items():
        files.append(File.generated(config, page, content=_as_page((ROOT / name).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text with its equations as MathML and its links to the top leading to pages."""
    for name, page in TOP.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return _outside_code(markdown, lambda text: _with_equations(_UNBROKEN.sub("\N{NO-BREAK SPACE}", text)))


def on_page_content(html: str, **_: Any) -> str:
    """The page with options of the command line marked, so that no line ends between their hyphens and their name."""
    return re.sub(
        r"<code>.*?</code>",
        lambda code: _OPTION.sub(r'<span class="option">\g<0></span>', code[0]),
        html,
        flags=re.DOTALL,
    )


def _as_page(text: str) -> str:
    """Text of the top with links as they are from ``docs``; what has no page there becomes plain words."""
    for name, page in TOP.items():
        text = text.replace(f"]({name}", f"]({page}")
    text = text.replace("](docs/", "](")
    return re.sub(r"\[([^\]]*)\]\((?:LICENSE|CITATION\.cff|first_steps\.ipynb)[^)]*\)", r"\1", text)


def _outside_code(text: str, change: Any) -> str:
    """The text, changed outside fenced blocks and spans of code."""
    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


def _with_equations(text: str) -> str:
    text = re.sub(r"\$\$(.+?)\$\$", lambda found: _equation(found[1], display="block"), text, flags=re.DOTALL)
    return re.sub(r"(?<![\\$\w])\$([^$\n]+?)\$", lambda found: _equation(found[1], display="inline"), text)


def _equation(latex: str, *, display: str) -> str:
    # A line break or a bar would end a row or a cell of a table.
    made = convert(latex.strip(), display=display).replace("\n", " ").replace("|", "&#x7C;")
    # Markdown takes a line that begins with <math> for a block of its own, in the middle of a sentence too.
    return made if display == "block" else f"<span>{made}</span>"

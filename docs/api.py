"""Write api.md: the public API, from the signatures and docstrings in the code.

Run: python docs/api.py
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import napari_orient
from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.output import Discovery, Structure
from napari_orient.engine.evaluation import Report
from napari_orient.engine.map_resolution import FSC
from napari_orient.engine.options import Options
from napari_orient.engine.streams import Step

PAGE = Path(__file__).with_suffix(".md")

VERBS = ("simulate", "train", "predict", "refine", "discover", "average", "evaluate", "report", "convert")
"""The verbs, in the order of a project."""
RESULTS = (Discovery, Structure, Average, FSC, Report, Step)
"""What verbs return or report, and nobody makes."""

INTRODUCTION = """\
# Python API

```python
import napari_orient as no
```

Nine verbs do what the command line and the docks do. Each blocks until the work is done and returns the answer.
Where a tomogram, a list, a map or a model is wanted, its path or name will do; for a list also a table of pandas with
the same columns (`x`, `y`, `z` in Å, and perhaps `rot`, `tilt`, `psi`; those of `to_dataframe()`). Options are keywords
(`no.discover(tomogram, picks, diameter=290)`), or an Options object (`options=`), or both; [options.md](options.md)
lists them. `progress=True` shows a line of progress; a function given as `progress` is called with every
[Step](#step). What cannot be done is said at once, by an `InputError` of one line: what was given, what was expected,
what to do. A result that may be wrong comes with a warning.

Space is xyz in Å from the centre of a tomogram's first voxel; arrays of density are indexed [z, y, x]; see
[conventions.md](conventions.md). [first_steps.ipynb](first_steps.ipynb) is a notebook to begin with.

Who writes a program of their own with Stop and progress calls the engine: its functions of the same names are
generators that yield their steps and return the answer, such as `napari_orient.engine.prediction.predict.predict`.

This page is written by `python docs/api.py` from the docstrings in the code.
"""


def page() -> str:
    """The whole page."""
    public = {name: getattr(napari_orient, name) for name in napari_orient.__all__}
    options = [name for name, value in public.items() if inspect.isclass(value) and issubclass(value, Options)]
    nouns = [name for name, value in public.items() if inspect.isclass(value) and name not in options]
    functions = [name for name in public if name not in (*VERBS, *options, *nouns)]
    lines = [INTRODUCTION.rstrip()]
    for title, names in (("Verbs", VERBS), ("Files, models and symmetry", functions)):
        lines += ["", f"## {title}"]
        lines += [line for name in names for line in function(name, public[name])]
    lines += ["", "## Objects"]
    lines += [line for name in nouns for line in class_(name, public[name])]
    lines += ["", "## Results"]
    lines += [line for kind in RESULTS for line in class_(kind.__name__, kind)]
    lines += ["", "## Options", "", "Every field stands in [options.md](options.md).", ""]
    lines += [f"- `{name}`: {first_line(public[name])}" for name in options]
    return "\n".join(lines) + "\n"


def function(name: str, value: Any) -> Iterator[str]:
    """One function: heading, signature and docstring."""
    yield from ("", f"### {name}", "", "```python", signature(f"no.{name}", value), "```", "")
    yield from docstring(value)


def class_(name: str, value: Any) -> Iterator[str]:
    """One class: heading, docstring, and what it offers, a line each."""
    yield from ("", f"### {name}", "")
    yield from docstring(value)
    members = [
        (key, item)
        for key, item in vars(value).items()
        if not key.startswith("_") and (inspect.isfunction(item) or isinstance(item, (property, classmethod)))
    ]
    if members:
        yield from ("", "Members:", "")
    for key, item in members:
        called = "" if isinstance(item, property) else "()"
        yield f"- `{key}{called}`: {first_line(item)}"


def signature(name: str, value: Any) -> str:
    """A call with its annotations, a parameter a line where it is long."""
    found = inspect.signature(value)
    parts = [_parameter(item) for item in found.parameters.values()]
    keyword = [item.kind is inspect.Parameter.KEYWORD_ONLY for item in found.parameters.values()]
    if True in keyword:
        parts.insert(keyword.index(True), "*")
    answer = "" if found.return_annotation in (inspect.Signature.empty, "Any") else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parts)}){answer}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){answer}"])


def _parameter(item: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}.get(item.kind, "")
    kind = "" if item.annotation in (inspect.Parameter.empty, "Any") else f": {item.annotation}"
    if item.default is inspect.Parameter.empty:
        return f"{stars}{item.name}{kind}"
    return f"{item.name}{kind} = {item.default!r}" if kind else f"{item.name}={item.default!r}"


def first_line(value: Any) -> str:
    """The first paragraph of a docstring, as a line of Markdown."""
    return _markdown(" ".join((inspect.getdoc(value) or "").split("\n\n")[0].split()))


def docstring(value: Any) -> Iterator[str]:
    """A numpydoc docstring as Markdown: paragraphs, and a list under each section's name."""
    text = inspect.getdoc(value) or ""
    head, *sections = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)
    yield _markdown(head.strip())
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        yield from ("", f"**{title}**", "")
        yield from (_entry(item) for item in re.split(r"\n(?=\S)", body.strip()))


def _entry(text: str) -> str:
    """One parameter, or one error, as an item of a list."""
    words = " ".join(text.split())
    name, colon, rest = words.partition(" : ")
    if not colon:
        name, _, rest = words.partition(" ")
    names = ", ".join(f"`{item.strip()}`" for item in name.split(","))
    return f"- {names}: {_markdown(rest)}" if re.fullmatch(r"[\w, *]+", name) else f"- {_markdown(words)}"


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

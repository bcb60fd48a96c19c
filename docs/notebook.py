"""Run the cells of first_steps.ipynb, and store what they show in it.

Run: python docs/notebook.py
"""

import ast
import base64
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

NOTEBOOK = Path(__file__).with_name("first_steps.ipynb")
DOTS_PER_INCH = 72
"""Resolution of the stored pictures: sharp enough beside text, and some 20 kB each."""


def executed(path: Path = NOTEBOOK) -> dict[str, Any]:
    """The notebook with new outputs: its code cells, run in order in one namespace in an empty folder."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for number, cell in enumerate(code, start=1):
            cell["outputs"] = list(outputs("".join(cell["source"]), namespace, number))
            cell["execution_count"] = number
    return notebook


def outputs(source: str, namespace: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """What one cell prints, draws and ends in."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        value = evaluated(source, namespace, f"cell {number}")
    if printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
    for figure in map(plt.figure, plt.get_fignums()):
        yield {"output_type": "display_data", "data": {"image/png": picture(figure)}, "metadata": {}}
    plt.close("all")
    if value is not None:
        shown = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = value._repr_html_().splitlines(keepends=True)
        yield {"output_type": "execute_result", "data": shown, "metadata": {}, "execution_count": number}


def evaluated(source: str, namespace: dict[str, Any], name: str) -> Any:
    """The value of the cell's last line, after all lines have run; None if it is no expression or ends in ``;``."""
    lines = ast.parse(source, name).body
    shown = lines and isinstance(lines[-1], ast.Expr) and not source.rstrip().endswith(";")
    last = lines.pop() if shown else None
    exec(compile(ast.Module(lines, []), name, "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def picture(figure: Any) -> str:
    """A figure as PNG, base64."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    NOTEBOOK.write_text(json.dumps(executed(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

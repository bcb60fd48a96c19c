"""A page of HTML that needs no other file: headings, sentences, tables and figures, readable on screen and on paper."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_orient.engine.outputs import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 144
"""Resolution of figures: sharp on a screen of twice the usual density, and 150 kB each."""
_PIXELS_PER_INCH = 96
"""CSS pixels of an inch: figures are shown in the size that they were drawn in, so that their letters are alike."""
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: #1d1d1f; background: #fff;
  max-width: 58rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #d2d2d7; padding-bottom: .2rem; }
p { margin: .5rem 0; }
.lead { font-size: 1.1rem; }
.quiet { color: #5f5f66; }
.warning { background: #fff4d6; border-left: 4px solid #b26a00; padding: .4rem .8rem; margin: .5rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e5e5ea; }
th { font-weight: 600; }
td { overflow-wrap: break-word; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #5f5f66; font-size: .9rem; }
@media screen and (max-width: 40rem) { figure { overflow-x: auto; } img { min-width: 34rem; } }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } figure, tr, .warning { break-inside: avoid; }
  h2, p:has(+ figure) { break-after: avoid; } .scroll { overflow: visible; } @page { margin: 16mm; } }
"""


class HtmlPage:
    """A page in the making; each method adds to its end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = [f"<h1>{escape(title)}</h1>"]
        self._record: Mapping[str, Any] = {}

    def heading(self, text: str) -> None:
        """Add a section's heading."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str, *, style: str = "") -> None:
        """Add a paragraph; its style is none, ``lead``, ``quiet`` or ``warning``."""
        kind = f' class="{style}"' if style else ""
        self._parts.append(f"<p{kind}>{escape(text)}</p>")

    def table(self, rows: Iterable[Sequence[str]], *, head: Sequence[str] = ()) -> None:
        """Add a table; without a head the first column names the rows."""
        body = "".join(_row(row, named=not head) for row in rows)
        top = f"<thead><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr></thead>" if head else ""
        self._parts.append(f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>')

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a figure of matplotlib as a picture inside the page; the caption also describes it to screen readers."""
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
        data = base64.b64encode(picture.getvalue()).decode("ascii")
        text = escape(caption, quote=True)
        self._parts.append(
            f'<figure><img alt="{text}" width="{round(figure.get_figwidth() * _PIXELS_PER_INCH)}" '
            f'src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )

    def record(self, values: Mapping[str, Any]) -> None:
        """Keep plain values in the page, for programs; `read_record` gives them back."""
        self._record = values

    @property
    def text(self) -> str:
        """The whole page."""
        # A closing tag inside the text of a script would end it.
        record = json.dumps(self._record, ensure_ascii=True).replace("<", "\\u003c")
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="generator" content="napari-orient">',
                f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head><body>",
                *self._parts,
                f"{_RECORD_TAG}{record}</script>",
                "</body></html>",
                "",
            ]
        )

    def save(self, path: Path | str) -> None:
        """Write the page, whole or not at all.

        Raises
        ------
        InputError
            If the place cannot be written.
        """
        write_text(path, self.text)


_RECORD_TAG = '<script type="application/json" id="napari-orient-report">'


def read_record(path: Path | str) -> dict[str, Any] | None:
    """The values that a page written here keeps; None for any other file."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    start = text.find(_RECORD_TAG)
    if start < 0:
        return None
    try:
        found = json.loads(text[start + len(_RECORD_TAG) : text.index("</script>", start)])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _row(row: Sequence[str], *, named: bool) -> str:
    tags = ["th" if named and place == 0 else "td" for place in range(len(row))]
    cells = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in zip(tags, row, strict=True))
    return f"<tr>{cells}</tr>"

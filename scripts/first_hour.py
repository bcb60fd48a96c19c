"""A stranger's first hour, acted out: a fresh clone, every command that README and pages print, and how they look.

    python scripts/first_hour.py FOLDER [--only clone readme pages project site report] [--gates]

FOLDER, new or empty, gets a clone of this repository's last commit, whose environment the README's own commands make.
The commands of the README and of the pages that run in order are then typed as they are printed. FOLDER/first_hour.md
says of each how it ended, how long it took, and which lines that the page shows did not come. FOLDER/pictures gets each
page of the site at two widths and the report as the pages of a print, and the record says which pages are wider than
the screen; chromium and pdftoppm make these. Parts can be repeated by --only. --gates runs README's test command too.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = runpy.run_path(str(ROOT / "docs" / "blocks.py"))

WIDTHS = (1280, 400)
"""Widths of the pictures in pixels: a window, and a phone."""
TALLEST = 16_000
"""Height in pixels that a picture is cut off at."""
LONGEST = 1800
"""Seconds that one command may take."""
STAYS = ("source ", "cd ", "export ")
"""Beginnings of commands that change the shell for those after them."""

MEASURE = """<script>addEventListener("load", () => {
  const width = document.documentElement.clientWidth, wide = [];
  const top = document.querySelector("article") || document.body;
  for (const one of top.querySelectorAll("*")) {
    let above = one.parentElement;
    while (above !== top && getComputedStyle(above).overflowX === "visible") above = above.parentElement;
    if (above === top && one.getBoundingClientRect().right > width + 1)
      wide.push(one.tagName.toLowerCase() + ": " + one.textContent.trim().slice(0, 40));
  }
  document.body.dataset.measured = document.documentElement.scrollHeight + "|" + wide.slice(0, 3).join("; ");
});</script>"""
"""Writes into a page its height, and what lies beyond its right edge and cannot be scrolled to."""


@dataclass
class Record:
    """What was done, a line each, written after every line."""

    path: Path
    rows: list[str] = field(default_factory=list)
    failures: int = 0

    def add(self, part: str, what: str, seconds: float, trouble: str) -> None:
        """Add a row and write the record."""
        self.failures += bool(trouble)
        self.rows.append(f"| {part} | `{what.replace('|', '¦')}` | {seconds:.0f} | {trouble or 'well'} |")
        self.write()
        print(f"{part}: {what} ({seconds:.0f} s) {trouble}", flush=True)

    def write(self) -> None:
        """Write the rows as a table."""
        head = "| where | command | s | ended |\n|---|---|---|---|\n"
        self.path.write_text(f"{head}{chr(10).join(self.rows)}\n\n{self.failures} failed\n", encoding="utf-8")


@dataclass
class Shell:
    """A shell that keeps its folder and environment from one command to the next."""

    folder: Path
    environment: Mapping[str, str]
    record: Record
    before: list[str] = field(default_factory=list)

    def run(self, line: str, *, part: str) -> str:
        """What a command prints on standard output; how it ended goes into the record."""
        started = time.monotonic()
        script = "\n".join([*self.before, line])
        try:
            done = subprocess.run(
                ["bash", "-ec", script], cwd=self.folder, env=dict(self.environment), capture_output=True, text=True,
                timeout=LONGEST, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.record.add(part, line, LONGEST, "took too long")
            return ""
        trouble = "" if done.returncode == 0 else f"exit status {done.returncode}: {_last_line(done.stderr)}"
        self.record.add(part, line, time.monotonic() - started, trouble)
        if line.startswith(STAYS):
            self.before.append(line)
        return done.stdout

    def run_page(self, page: Path, *, leave_out: Sequence[str] = ()) -> None:
        """Type the blocks of a page, and compare what comes with what it shows."""
        printed = ""
        for language, text in BLOCKS["blocks"](page):
            if language == "sh":
                printed = "".join(
                    self.run(line, part=page.name)
                    for line in BLOCKS["lines"](text)
                    if not line.startswith(tuple(leave_out))
                )
            elif language == "python":
                (self.folder / "block.py").write_text(text, encoding="utf-8")
                self.run(f"python {self.folder / 'block.py'}", part=page.name)
            elif language == "text":
                for line in BLOCKS["lines_that_did_not_come"](text, printed):
                    if line.startswith("Next: "):
                        continue  # It is said at a terminal alone.
                    self.record.add(page.name, line, 0, "is shown, did not come")


def clone(given: argparse.Namespace, record: Record) -> None:
    """Clone the last commit of this repository, as a stranger gets it."""
    shell = Shell(given.folder, stranger(), record)
    shell.run(f"git clone --quiet --no-hardlinks '{ROOT}' napari-orient", part="clone")


def readme(given: argparse.Namespace, record: Record) -> None:
    """Type the commands of the README in the clone; without a display its demonstration leaves files."""
    shell = Shell(given.folder / "napari-orient", stranger(), record)
    shell.run_page(ROOT / "README.md", leave_out=() if given.gates else ("./scripts/test",))


def pages(given: argparse.Namespace, record: Record) -> None:
    """Type the commands of the pages that run in order in an empty folder."""
    shell = Shell(empty(given.folder / "tutorial"), stranger(given.folder), record)
    for name in BLOCKS["RUN_IN_ORDER"]:
        shell.run_page(ROOT / "docs" / name)


def project(given: argparse.Namespace, record: Record) -> None:
    """Type the commands of the project with many tomograms."""
    shell = Shell(empty(given.folder / "project"), stranger(given.folder), record)
    for line in BLOCKS["lines"](BLOCKS["project_block"](ROOT / "docs")):
        shell.run(line, part=BLOCKS["PROJECT"])


def site(given: argparse.Namespace, record: Record) -> None:
    """Build the site as CONTRIBUTING says, and take a picture of each page at each width."""
    shell = Shell(given.folder / "napari-orient", stranger(given.folder), record)
    shell.run("pip install --quiet -c constraints.txt -e '.[docs]'", part="site")
    shell.run("NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet", part="site")
    made = given.folder / "napari-orient" / "site"
    for page in sorted(made.glob("*.html")):
        for width in WIDTHS:
            picture_page(page, given.folder / "pictures" / f"{page.stem}_{width}.png", width=width, record=record)


def report(given: argparse.Namespace, record: Record) -> None:
    """Print the tutorial's report on paper, and take pictures of it on the screen."""
    written = given.folder / "tutorial" / "report.html"
    pictures = given.folder / "pictures"
    pictures.mkdir(exist_ok=True)
    shell = Shell(given.folder, stranger(), record)
    shell.run(f"{_browser('--no-pdf-header-footer', f'--print-to-pdf={pictures}/report.pdf')} {written}", part="report")
    shell.run(f"pdftoppm -r 60 -png {pictures}/report.pdf {pictures}/report_paper", part="report")
    for width in WIDTHS:
        picture_page(written, pictures / f"report_{width}.png", width=width, record=record)


def picture_page(page: Path, picture: Path, *, width: int, record: Record) -> None:
    """Take a picture of a whole page at a width, and record what lies beyond its edge."""
    picture.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    measured = page.with_name(f".measured_{page.name}")
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    try:
        shown = _typed(_browser(f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom"), measured)
        found = re.search(r'data-measured="(\d+)\|([^"]*)"', shown)
        height, wide = (int(found[1]), found[2]) if found else (900, "")
        tall = min(height + 40, TALLEST)
        _typed(_browser(f"--window-size={width},{tall}", "--hide-scrollbars", f"--screenshot={picture}"), measured)
    finally:
        measured.unlink()
    trouble = "" if found and picture.exists() else "no picture"
    record.add("site", f"{page.name} at {width}", time.monotonic() - started, trouble or (wide and f"too wide: {wide}"))


def _browser(*words: str) -> str:
    return " ".join(["chromium --headless --no-sandbox --disable-gpu", *words])


def _typed(command: str, page: Path) -> str:
    words = [*command.split(), page.resolve().as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False).stdout


def stranger(folder: Path | None = None) -> dict[str, str]:
    """An environment without a display and without what this process has set for itself; with the clone's programs."""
    left_out = {"VENV", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "DISPLAY", "WAYLAND_DISPLAY"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = str(Path(sys.prefix) / "bin")
    places = [place for place in kept["PATH"].split(os.pathsep) if place != own]
    if folder is not None:
        places.insert(0, str(folder / "napari-orient" / ".venv" / "bin"))
    return {**kept, "PATH": os.pathsep.join(places)}


def empty(folder: Path) -> Path:
    """The folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _last_line(text: str) -> str:
    written = [line for line in text.splitlines() if line.strip()]
    return written[-1].replace("|", "¦")[:200] if written else ""


PARTS = {part.__name__: part for part in (clone, readme, pages, project, site, report)}
"""The parts of the hour, in order."""


def main() -> int:
    parser = argparse.ArgumentParser(description="act out a stranger's first hour")
    parser.add_argument("folder", type=Path, help="new or empty; with --only the one of an earlier run")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), metavar="PART")
    parser.add_argument("--gates", action="store_true", help="run README's test command too")
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    record = Record(given.folder / "first_hour.md")
    for name in given.only:
        PARTS[name](given, record)
    print(f"{record.path}: {len(record.rows)} done, {record.failures} failed")
    return 1 if record.failures else 0


if __name__ == "__main__":
    sys.exit(main())

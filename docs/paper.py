"""Put what a run of ``napari-orient reproduce`` left into paper.md: its tables, its pictures, its record.

Run: python docs/paper.py DIR

The record of every figure goes to docs/paper/results.json. Tables stand in paper.md between ``<!-- NAME -->`` and
``<!-- end -->`` and are made from that record alone; the words between are written by hand.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from napari_orient.paper.results import table_texts

PAGE = Path(__file__).with_suffix(".md")
KEPT = Path(__file__).with_suffix("")
PICTURES = Path(__file__).parent / "pictures"
WIDEST = 1500
_BLOCK = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def page(written: str, record: dict[str, Any]) -> str:
    """The page with every marked block made anew from the record."""
    blocks = {name.removesuffix(".md"): text for name, text in table_texts(record).items()}

    def filled(found: re.Match[str]) -> str:
        return f"<!-- {found['name']} -->\n{blocks[found['name']].strip()}\n<!-- end -->"

    return _BLOCK.sub(filled, written)


def take(folder: Path) -> None:
    """Copy the run's record and pictures beside the page, and fill the page."""
    KEPT.mkdir(exist_ok=True)
    shutil.copyfile(folder / "results.json", KEPT / "results.json")
    for picture in sorted(folder.glob("*.png")):
        image = Image.open(picture).convert("RGB")
        image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        # Few colours: curves on white need no more, and the repository stays small.
        image.quantize(128).save(PICTURES / f"paper_{picture.stem}.png", optimize=True)
    PAGE.write_text(filled_page(), encoding="utf-8")


def filled_page() -> str:
    """The page as it must be, from what is kept beside it."""
    record = json.loads((KEPT / "results.json").read_text(encoding="utf-8"))
    return page(PAGE.read_text(encoding="utf-8"), record)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    take(Path(sys.argv[1]))

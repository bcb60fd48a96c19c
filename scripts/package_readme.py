"""The description of the package, for hatchling: the README for a reader who has the package and not the repository.

How to install it takes the place of the repository's scripts. With ``Documentation`` among ``[project.urls]`` links
lead to the pages of that site, which ``mkdocs build`` makes of docs/; without it they become their words, and pictures
and the list of pages are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

TOP = {"README.md": "index.html", "CHANGELOG.md": "changelog.html", "CONTRIBUTING.md": "contributing.html"}
"""Files of the repository's top, and the site's pages made of them (docs/site.py)."""
INSTALL = """\
## Install

```sh
pip install 'napari-orient[viewer]'
napari-orient demo
```

The second simulates a tomogram, predicts the orientations of its ribosomes, compares them with the truth and opens
napari; without a display it leaves the files in `napari-orient-demo/` and says so. A cluster needs no viewer:
`pip install napari-orient`.

"""
"""Stands in the place of the README's two commands, which are scripts of the repository."""
WHERE_PAGES_ARE = "The pages named here lie in the folder `docs` of the source distribution.\n\n"
"""Stands in the place of the list of pages where no site is known."""
_SCRIPTS = re.compile(r"^## Two commands\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
_ACTIVATION = "source .venv/bin/activate\n"
_PAGES = re.compile(r"^## More\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://)([^)#]*)(#[^)]*)?\)")


class PackageReadme(MetadataHookInterface):
    """Gives the package its description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the description into the project's metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        site = metadata.get("urls", {}).get("Documentation")
        metadata["readme"] = {"content-type": "text/markdown", "text": described(text, site)}


def described(text: str, site: str | None) -> str:
    """The README's text as the package has it, its links leading to a site, or nowhere."""
    text = _SCRIPTS.sub(lambda _: INSTALL, text).replace(_ACTIVATION, "")
    if site is None:
        text = _PAGES.sub(WHERE_PAGES_ARE, text)
    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(lambda found: _link(found, site), text))


def _link(found: re.Match[str], site: str | None) -> str:
    mark, words, path, place = found.groups()
    page = TOP.get(path) or _page_of(path)
    if site is None or page is None:
        return "" if mark else words
    return f"{mark}[{words}]({site.rstrip('/')}/{page}{place or ''})"


def _page_of(path: str) -> str | None:
    """The site's page, or picture, of a file; None for one that the site has not."""
    inside = path.removeprefix("docs/")
    if inside == path:
        return None
    return f"{inside.removesuffix('.md')}.html" if path.endswith(".md") else inside if path.endswith(".png") else None

"""``python -m napari_orient``: the command line, as that of ``napari-orient``."""

import sys

from napari_orient.cli import main

sys.exit(main())

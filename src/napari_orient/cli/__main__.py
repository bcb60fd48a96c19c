"""``python -m napari_orient.cli``: the command line without its script."""

import sys

from napari_orient.cli import main

sys.exit(main())

"""Progress and lines for the person at the command line; see `napari_orient.progress`."""

from napari_orient.progress import Stopped, follow, say, time_words

__all__ = ["Stopped", "follow", "say", "time_words"]

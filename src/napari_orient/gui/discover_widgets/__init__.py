"""What the Discover dock is made of: a choice of picks, the layers that sharpen, pictures of maps, and the outcome."""

from napari_orient.gui.discover_widgets.alignment_choice import AlignChoice
from napari_orient.gui.discover_widgets.picks_choice import PicksChoice
from napari_orient.gui.discover_widgets.preview import Preview
from napari_orient.gui.discover_widgets.result_panel import Outcome

__all__ = ["AlignChoice", "Outcome", "PicksChoice", "Preview"]

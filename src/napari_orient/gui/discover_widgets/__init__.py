"""What the Discover dock is made of: a choice of picks, the layers that sharpen, pictures of maps, and the outcome."""

from napari_orient.gui.discover_widgets.alignment_choice import AlignmentChoice
from napari_orient.gui.discover_widgets.picks_choice import PicksChoice
from napari_orient.gui.discover_widgets.preview import DiscoveryPreview
from napari_orient.gui.discover_widgets.result_panel import DiscoveryResultPanel

__all__ = ["AlignmentChoice", "DiscoveryPreview", "DiscoveryResultPanel", "PicksChoice"]

"""Widgets of the Discover dock: choices of picks and of a map to align to, the preview layers, and the result."""

from napari_orient.gui.discover_widgets.alignment_choice import AlignmentChoice
from napari_orient.gui.discover_widgets.picks_choice import PicksChoice
from napari_orient.gui.discover_widgets.preview import DiscoveryPreview
from napari_orient.gui.discover_widgets.result_panel import DiscoveryResultPanel

__all__ = ["AlignmentChoice", "DiscoveryPreview", "DiscoveryResultPanel", "PicksChoice"]

"""What the Discover dock is made of: a choice of picks, the layers that sharpen, pictures of maps, and the outcome."""

from napari_orient.gui.finding.align import AlignChoice
from napari_orient.gui.finding.outcome import Outcome
from napari_orient.gui.finding.picks import PicksChoice
from napari_orient.gui.finding.preview import Preview

__all__ = ["AlignChoice", "Outcome", "PicksChoice", "Preview"]

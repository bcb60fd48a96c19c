"""What a network is to learn from, chosen in the Train dock: layers on view, files, or tomograms to be simulated."""

from napari_orient.gui.training_sets.from_files import FromFiles
from napari_orient.gui.training_sets.from_layers import FromLayers
from napari_orient.gui.training_sets.from_template import FromTemplate
from napari_orient.gui.training_sets.training_data import Known, Lessons, Pairs, Simulated, count_words, kinds_of

__all__ = [
    "FromFiles",
    "FromLayers",
    "FromTemplate",
    "Known",
    "Lessons",
    "Pairs",
    "Simulated",
    "count_words",
    "kinds_of",
]

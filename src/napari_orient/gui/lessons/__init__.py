"""What a network is to learn from, chosen in the Train dock: layers on view, files, or tomograms to be simulated."""

from napari_orient.gui.lessons.files import FromFiles
from napari_orient.gui.lessons.layers_on_view import FromLayers
from napari_orient.gui.lessons.template import FromTemplate
from napari_orient.gui.lessons.values import Known, Lessons, Pairs, Simulated, count_words, kinds_of

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

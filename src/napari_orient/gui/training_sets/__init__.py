"""Training data, chosen in the Train dock: open layers, files, or tomograms to simulate."""

from napari_orient.gui.training_sets.from_files import FilesSource
from napari_orient.gui.training_sets.from_layers import LayersSource
from napari_orient.gui.training_sets.from_template import TemplateSource
from napari_orient.gui.training_sets.training_data import (
    LabelledTrainingSet,
    Pairs,
    SimulatedTrainingSet,
    TrainingSet,
    class_counts,
    training_count_text,
)

__all__ = [
    "FilesSource",
    "LabelledTrainingSet",
    "LayersSource",
    "Pairs",
    "SimulatedTrainingSet",
    "TemplateSource",
    "TrainingSet",
    "class_counts",
    "training_count_text",
]

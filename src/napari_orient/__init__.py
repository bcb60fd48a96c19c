"""Orientations of the macromolecules in cryo-electron tomograms.

The public API: eight verbs, which block and return their answer, their options, and the objects that they take and
give. Each name is imported at its first use, so that ``import napari_orient`` is quick. See docs/api.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_orient.api.verbs import (
        average,
        convert,
        discover,
        evaluate,
        predict,
        refine,
        report,
        run,
        simulate,
        train,
    )
    from napari_orient.engine.errors import InputError
    from napari_orient.engine.io import read_labelled, read_particles, read_tomogram, write_particles, write_tomogram
    from napari_orient.engine.model_files import shipped_models
    from napari_orient.engine.networks.network import Network
    from napari_orient.engine.parameters import (
        AveragingOptions,
        DiscoveryOptions,
        NetworkOptions,
        PredictionOptions,
        RefinementOptions,
        TemplateOptions,
        TemplateTrainingOptions,
        TrainingOptions,
    )
    from napari_orient.engine.particles import Particles, Tomogram
    from napari_orient.engine.prediction.predict import load_model
    from napari_orient.engine.projects.distribution import SchedulerOptions
    from napari_orient.engine.simulation_options import SimulationOptions
    from napari_orient.engine.symmetry import Symmetry, symmetry
    from napari_orient.engine.templates import Template, load_template

__version__ = "0.1.0"

__all__ = [
    "AveragingOptions",
    "DiscoveryOptions",
    "InputError",
    "Network",
    "NetworkOptions",
    "Particles",
    "PredictionOptions",
    "RefinementOptions",
    "SchedulerOptions",
    "SimulationOptions",
    "Symmetry",
    "Template",
    "TemplateOptions",
    "TemplateTrainingOptions",
    "Tomogram",
    "TrainingOptions",
    "average",
    "convert",
    "discover",
    "evaluate",
    "load_model",
    "load_template",
    "predict",
    "read_labelled",
    "read_particles",
    "read_tomogram",
    "refine",
    "report",
    "run",
    "shipped_models",
    "simulate",
    "symmetry",
    "train",
    "write_particles",
    "write_tomogram",
]

_HOMES = {
    "AveragingOptions": "engine.parameters",
    "DiscoveryOptions": "engine.parameters",
    "InputError": "engine.errors",
    "Network": "engine.networks.network",
    "NetworkOptions": "engine.parameters",
    "Particles": "engine.particles",
    "PredictionOptions": "engine.parameters",
    "RefinementOptions": "engine.parameters",
    "SchedulerOptions": "engine.projects.distribution",
    "SimulationOptions": "engine.simulation_options",
    "Symmetry": "engine.symmetry",
    "Template": "engine.templates",
    "TemplateOptions": "engine.parameters",
    "TemplateTrainingOptions": "engine.parameters",
    "Tomogram": "engine.particles",
    "TrainingOptions": "engine.parameters",
    "average": "api.verbs",
    "convert": "api.verbs",
    "discover": "api.verbs",
    "evaluate": "api.verbs",
    "load_model": "engine.prediction.predict",
    "load_template": "engine.templates",
    "predict": "api.verbs",
    "read_labelled": "engine.io",
    "read_particles": "engine.io",
    "read_tomogram": "engine.io",
    "refine": "api.verbs",
    "report": "api.verbs",
    "run": "api.verbs",
    "shipped_models": "engine.model_files",
    "simulate": "api.verbs",
    "symmetry": "engine.symmetry",
    "train": "api.verbs",
    "write_particles": "engine.io",
    "write_tomogram": "engine.io",
}
"""The module that each public name is defined in."""


def __getattr__(name: str) -> Any:
    """A public name, imported from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})

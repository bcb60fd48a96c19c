"""How every macromolecule in a cryo-electron tomogram is turned.

The public names of the engine; each is imported when it is first asked for, so that ``import napari_orient`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_orient.engine.errors import InputError
    from napari_orient.engine.evaluation import evaluate
    from napari_orient.engine.io import read_labelled, read_particles, read_tomogram, write_particles
    from napari_orient.engine.particles import Particles, Tomogram
    from napari_orient.engine.prediction.predict import load_model, predict
    from napari_orient.engine.simulation.simulate import simulate
    from napari_orient.engine.streams import run
    from napari_orient.engine.symmetry import symmetry
    from napari_orient.engine.training.train import train

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Particles",
    "Tomogram",
    "evaluate",
    "load_model",
    "predict",
    "read_labelled",
    "read_particles",
    "read_tomogram",
    "run",
    "simulate",
    "symmetry",
    "train",
    "write_particles",
]

_HOMES = {
    "InputError": "errors",
    "Particles": "particles",
    "Tomogram": "particles",
    "evaluate": "evaluation",
    "load_model": "prediction.predict",
    "predict": "prediction.predict",
    "read_labelled": "io",
    "read_particles": "io",
    "read_tomogram": "io",
    "run": "streams",
    "simulate": "simulation.simulate",
    "symmetry": "symmetry",
    "train": "training.train",
    "write_particles": "io",
}
"""The engine's module that each public name lives in."""


def __getattr__(name: str) -> Any:
    """A public name, imported from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.engine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})

"""A trained network at rest: its options, its weights and its card, as a file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from napari_orient.engine.errors import InputError
from napari_orient.engine.model_files import NETWORK, ModelFile
from napari_orient.engine.networks.mixture import PoseMixture
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.options import Value
from napari_orient.engine.parameters import MixtureOptions, NetworkOptions
from napari_orient.engine.symmetry import Symmetry, symmetry

_ARCHITECTURE, _MIXTURE = "architecture", "mixture"
"""Entry of a file's options that names the architecture, and its value; an MLP's file has none."""

_CALIBRATION = "calibration"
"""Name of the tensor of an MLP's calibration, which is NaN where it was never measured."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network at rest.

    Parameters
    ----------
    name : how it is called, and found if it is shipped.
    options : of an MLP, or of a mixture network.
    weights : its tensors by name, on the CPU; a mixture's in half precision.
    card : data, training options, figures, fingerprint; plain values fit for JSON.
    """

    kind: ClassVar[str] = NETWORK

    name: str
    options: NetworkOptions | MixtureOptions
    weights: Mapping[str, Tensor]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        shape = f"{self.options.depth} layers of {self.options.width}"
        kind = "mixture" if self.is_mixture else "MLP"
        return f"Network({self.name}: {kind}, {shape}; {self.options.symmetry})"

    @classmethod
    def of(cls, module: MLP | PoseMixture, *, name: str, card: Mapping[str, Any]) -> Network:
        """The network as it is now, its tensors copied to the CPU."""
        half = isinstance(module, PoseMixture)
        copies = {key: value.detach().cpu().clone().contiguous() for key, value in module.state_dict().items()}
        weights = {key: value.half() if half and value.dim() == 2 else value for key, value in copies.items()}
        return cls(name, module.options, weights, card)

    @property
    def is_mixture(self) -> bool:
        """Whether it is a mixture network, not an MLP."""
        return isinstance(self.options, MixtureOptions)

    @property
    def needs_picks(self) -> bool:
        """Whether something of a tomogram is estimated from its picks first: a mixture network's whitening."""
        return self.is_mixture

    @property
    def group(self) -> Symmetry:
        """The symmetry that it was trained with."""
        return symmetry(self.options.symmetry)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of particles that it was trained on."""
        return tuple(map(str, self.card.get("classes", ())))

    def options_record(self) -> dict[str, Value]:
        """Its options by name, as its file has them."""
        return {_ARCHITECTURE: _MIXTURE, **self.options.to_record()} if self.is_mixture else self.options.to_record()

    def mlp(self, device: torch.device | str = "cpu") -> MLP:
        """The layers of an MLP on a device, ready to predict.

        Raises
        ------
        InputError
            If it is a mixture network, or the weights do not fit the options.
        """
        if not isinstance(self.options, NetworkOptions):
            raise InputError(f"{self.name} is a mixture network; expected an MLP.")
        return self._loaded(MLP(self.options), device)

    def mixture(self, device: torch.device | str = "cpu") -> PoseMixture:
        """The layers of a mixture network on a device, ready to predict.

        Raises
        ------
        InputError
            If it is an MLP, or the weights do not fit the options.
        """
        if not isinstance(self.options, MixtureOptions):
            raise InputError(f"{self.name} is an MLP; expected a mixture network.")
        return self._loaded(PoseMixture(self.options), device)

    def _loaded(self, module: ModuleT, device: torch.device | str) -> ModuleT:
        try:
            module.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                f"{self.name}: its weights do not fit its options; the file is damaged. Take a fresh copy."
            ) from error
        return module.to(device).eval()

    def save(self, path: Path | str) -> None:
        """Write the network's file.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        self.to_file().write(path)

    def to_file(self) -> ModelFile:
        """What its file holds."""
        return ModelFile(self.name, NETWORK, self.options_record(), self.weights, self.card)

    @classmethod
    def from_file(cls, found: ModelFile) -> Network:
        """The network of a model's file.

        Raises
        ------
        InputError
            If it is of a template, or an option does not fit.
        """
        found.check_kind(NETWORK)
        _check_weights(found)
        record = dict(found.options)
        kind = MixtureOptions if record.pop(_ARCHITECTURE, "") == _MIXTURE else NetworkOptions
        return cls(found.name, kind.from_record(record), found.tensors, found.card)


def _check_weights(found: ModelFile) -> None:
    """Check that a file's weights are numbers, and not all of them 0.

    Raises
    ------
    InputError
        If they are not.
    """
    weights = {name: value for name, value in found.tensors.items() if name != _CALIBRATION}
    if not all(bool(value.isfinite().all()) for value in weights.values()) or not any(
        bool(value.any()) for value in weights.values()
    ):
        raise InputError(
            f"{found.name}: its weights are no numbers, or all of them 0; the file is damaged. Take a fresh copy."
        )

"""A checkpoint: one safetensors file that holds a network, its options and how it came to be. Loading runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.networks.contract import Network
from napari_orient.engine.networks.mlp import MLPNetwork
from napari_orient.engine.networks.options import NetworkOptions
from napari_orient.engine.networks.reference_map import ReferenceMap, ReferenceMapOptions
from napari_orient.engine.networks.shipped import SUFFIX, shipped_checkpoints, shipped_paths
from napari_orient.engine.options import Value
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.rotations import FloatArray

FORMAT = 1
HEADER = "napari-orient"
KINDS = ("mlp", "bank")
_USUAL_BANK = SearchOptions()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network at rest.

    Parameters
    ----------
    name : how it is called, and found if it is shipped.
    kind : the network's kind: ``mlp``, or ``bank`` for a reference map to match with.
    options : the network's options by name.
    tensors : the network's weights by name; of a bank, the map and its calibration.
    card : what a person should know of it: data, training options, figures, fingerprint; plain values fit for JSON.
    """

    name: str
    kind: str
    options: Mapping[str, Value]
    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, network: MLPNetwork | ReferenceMap, *, name: str, card: Mapping[str, Any]) -> Self:
        """The checkpoint of a network as it is now, its tensors copied to the CPU; or of a reference map."""
        if isinstance(network, ReferenceMap):
            return cls(name, "bank", network.options.to_record(), network.tensors(), card)
        tensors = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
        return cls(name, "mlp", network.options.to_record(), tensors, card)

    def network(self, device: torch.device | str = "cpu") -> Network:
        """The network, awake on the device, ready to answer.

        Raises
        ------
        InputError
            If the tensors do not fit the options, or it is a bank: that answers only once it knows a tomogram.
        """
        return self.mlp().to(device).eval()

    def mlp(self) -> MLPNetwork:
        """The paper's network with these weights, to train further.

        Raises
        ------
        InputError
            If it is of another kind, or the tensors do not fit the options.
        """
        self._check_kind("mlp")
        network = MLPNetwork(NetworkOptions.from_record(self.options))
        try:
            network.load_state_dict(dict(self.tensors))
        except RuntimeError as error:
            raise InputError(
                f"{self.name}: its weights do not fit its options; the file is damaged. Take a fresh copy."
            ) from error
        return network

    def bank(self) -> ReferenceMap:
        """The reference map of a bank, and how to match with it.

        Raises
        ------
        InputError
            If it is of another kind, or the map, its symmetry or its options are amiss.
        """
        self._check_kind("bank")
        try:
            return ReferenceMap.from_tensors(self.tensors, self.options)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error

    def _check_kind(self, kind: str) -> None:
        if self.kind not in KINDS:
            known = " and ".join(KINDS)
            raise InputError(
                f"{self.name} holds a network of kind {self.kind!r}; this version knows {known}. Update napari-orient."
            )
        if self.kind != kind:
            raise InputError(f"{self.name} is a checkpoint of kind {self.kind}; expected one of kind {kind}.")

    def with_card(self, **entries: Any) -> Self:
        """The same network with entries added to its card."""
        return replace(self, card={**self.card, **entries})

    def named(self, name: str) -> Self:
        """The same network under another name."""
        return replace(self, name=name)

    def save(self, path: Path | str) -> None:
        """Write the file beside ``path`` and rename it.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        with replacing(path) as beside:
            save_tensors(
                beside,
                self.tensors,
                {"name": self.name, "kind": self.kind, "options": dict(self.options), "card": dict(self.card)},
            )


def bank_checkpoint(
    density: FloatArray,
    *,
    voxel_size: float,
    symmetry: str = "C1",
    options: SearchOptions = _USUAL_BANK,
    name: str = "reference",
    card: Mapping[str, Any] | None = None,
    calibration: tuple[float, float] = (0.0, 1.0),
) -> Checkpoint:
    """The checkpoint of kind ``bank`` that matches with a reference map.

    Parameters
    ----------
    density : (n, n, n) [z, y, x], particle positive; the frame's origin is the box's centre ``(n - 1) / 2``.
    voxel_size : Å of the map; the tomogram's may be another.
    symmetry : of the map, about the axes that it has: ``D7@z@x``.
    options : size of the bank that starts the search.
    card : what a person should know of it: ``classes``, ``fingerprint``, ``figures``; plain values fit for JSON.
    calibration : see `ReferenceMap`.

    Raises
    ------
    InputError
        If the map is no cube, flat or not finite, or the symmetry is unknown.
    """
    own = ReferenceMapOptions.from_record({**options.to_record(), "symmetry": symmetry, "voxel_size": voxel_size})
    return Checkpoint.of(ReferenceMap(np.asarray(density, np.float32), own, calibration), name=name, card=card or {})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a JSON record into one safetensors file."""
    header = json.dumps({"format": FORMAT, **record}, sort_keys=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={HEADER: header})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a file that `save_tensors` wrote.

    Raises
    ------
    InputError
        If the file is missing, no safetensors, truncated, of another program or of a newer format.
    """
    path = existing_file(path)
    try:
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(HEADER)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a checkpoint: it is no whole safetensors file. Expected one written by napari-orient train."
        ) from error
    if text is None:
        raise InputError(
            f"{path} is a safetensors file of another program; expected one written by napari-orient train."
        )
    return tensors, _record(path, text)


def _record(path: Path, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
        version = int(record["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its header is damaged. Take a fresh copy of the checkpoint.") from error
    if version > FORMAT:
        raise InputError(f"{path} is of format {version}; this version reads up to {FORMAT}. Update napari-orient.")
    return dict(record)


def load_checkpoint(name_or_path: Path | str) -> Checkpoint:
    """A shipped checkpoint by its name, or any by the path of its file.

    Raises
    ------
    InputError
        If there is none, or the file is no checkpoint.
    """
    tensors, record = load_tensors(_found(name_or_path))
    missing = {"name", "kind", "options", "card"} - set(record)
    if missing:
        raise InputError(
            f"{name_or_path} is not a checkpoint of a network (its header lacks {', '.join(sorted(missing))})."
        )
    checkpoint = Checkpoint(record["name"], record["kind"], record["options"], tensors, record["card"])
    if checkpoint.kind == "bank":
        checkpoint.bank()
    return checkpoint


def _found(name_or_path: Path | str) -> Path:
    name = str(name_or_path)
    if name in shipped_paths():
        return shipped_paths()[name]
    if not Path(name).exists() and "/" not in name and not name.endswith(SUFFIX):
        raise InputError(
            f"there is no checkpoint {name!r}; expected a file, or one of {', '.join(shipped_checkpoints())}."
        )
    return Path(name)

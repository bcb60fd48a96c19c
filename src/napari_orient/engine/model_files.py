"""Model files: tensors and a JSON record in one safetensors file, and the models that come with the program.

A model is a network or a template. Loading one runs no code; to name the shipped ones loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_orient.engine.errors import InputError, expected_one_of
from napari_orient.engine.options import Value
from napari_orient.engine.outputs import existing_file, replacing

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
DEFAULT_MODEL = "ribosome"
TEMPLATE, NETWORK = "template", "network"
CONDITIONS = "conditions"
"""Entry of a card: figures under realistic conditions, by the condition's name. Each has ``within_20`` (share),
``median_deg`` and ``expected_over_true``."""
_FORMAT = 1
"""Version of the record; files of a later one are refused."""
_HEADER = "napari-orient"
_FIELDS = {"name": str, "kind": str, "options": dict, "card": dict}
"""Types of the entries of a model's record."""
_OLD_KINDS = {"bank": TEMPLATE, "mlp": NETWORK}
"""Kinds as version 0.1.0 wrote them."""


@dataclass(frozen=True, eq=False)
class ModelFile:
    """What a model's file holds.

    Parameters
    ----------
    name : how the model is called.
    kind : ``template`` or ``network``.
    options : by name.
    tensors : a template's map and calibration; a network's weights.
    card : data, training options, figures, fingerprint; plain values fit for JSON.
    """

    name: str
    kind: str
    options: Mapping[str, Value]
    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any]

    def write(self, path: Path | str) -> None:
        """Write the file beside ``path`` and rename it.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        record = {"name": self.name, "kind": self.kind, "options": dict(self.options), "card": dict(self.card)}
        write_tensors(path, self.tensors, record)

    @classmethod
    def read(cls, name_or_path: Path | str) -> ModelFile:
        """The file of a shipped model's name, or at a path.

        Raises
        ------
        InputError
            If there is none, or the file is no model's.
        """
        tensors, record = read_tensors(_path_of(name_or_path))
        missing = {"name", "kind", "options", "card"} - set(record)
        if missing:
            raise InputError(f"{name_or_path} is not a model (its header lacks {', '.join(sorted(missing))}).")
        wrong = next((name for name, kind in _FIELDS.items() if not isinstance(record[name], kind)), None)
        if wrong is not None or not isinstance(record["card"].get("classes", []), list):
            raise InputError(f"{name_or_path}: its header is damaged ({wrong or 'classes'}). Take a fresh copy.")
        kind = _OLD_KINDS.get(record["kind"], record["kind"])
        if kind not in (TEMPLATE, NETWORK):
            raise InputError(
                f"{record['name']} is a model of kind {kind!r}; this version reads {TEMPLATE} and {NETWORK}. "
                "Update napari-orient."
            )
        return cls(record["name"], kind, record["options"], tensors, record["card"])

    def check_kind(self, kind: str) -> None:
        """Check that the model is of this kind.

        Raises
        ------
        InputError
            If it is of the other one.
        """
        if self.kind != kind:
            raise InputError(f"{self.name} is a {self.kind}; expected a {kind}.")


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a JSON record into one safetensors file, beside ``path`` and renamed."""
    from safetensors.torch import save_file

    header = json.dumps({"format": _FORMAT, **record}, sort_keys=True)
    with replacing(path) as beside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata={_HEADER: header})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a file that `write_tensors` wrote.

    Raises
    ------
    InputError
        If the file is missing, no safetensors, truncated, of another program or of a newer format.
    """
    from safetensors import SafetensorError

    path = existing_file(path)
    try:
        tensors, text = _content(path)
    except (SafetensorError, OSError, ValueError) as error:
        if not isinstance(error, OSError) and _is_whole(path):
            # A Ctrl-C fell into the library, which makes an error of its own of it.
            raise KeyboardInterrupt from error
        raise InputError(
            f"{path} is not a model: it is no whole safetensors file. Expected one written by napari-orient train."
        ) from error
    if text is None:
        raise InputError(
            f"{path} is a safetensors file of another program; expected one written by napari-orient train."
        )
    return tensors, _record(path, text)


def _content(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a safetensors file, and its record as text."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        text = (opened.metadata() or {}).get(_HEADER)
        return {name: opened.get_tensor(name) for name in opened.keys()}, text  # noqa: SIM118


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file can be read after all."""
    from safetensors import SafetensorError

    try:
        _content(path)
    except (SafetensorError, OSError, ValueError):
        return False
    return True


def _record(path: Path, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
        version = int(record["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged. Take a fresh copy of the model.") from error
    if version > _FORMAT:
        raise InputError(f"{path} is of format {version}; this version reads up to {_FORMAT}. Update napari-orient.")
    return dict(record)


def _path_of(name_or_path: Path | str) -> Path:
    name = str(name_or_path)
    if name in _shipped():
        return _shipped()[name]
    if not Path(name).exists() and "/" not in name and not name.endswith(SUFFIX):
        raise InputError(f"there is no file or shipped model {name!r}{expected_one_of(name, shipped_models())}.")
    return Path(name)


@cache
def _shipped() -> dict[str, Path]:
    folder = Path(str(files("napari_orient"))) / "checkpoints"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def shipped_models() -> tuple[str, ...]:
    """The names of the models that come with the program, the default first."""
    return tuple(sorted(_shipped(), key=lambda name: (name != DEFAULT_MODEL, name)))


def is_model_file(path: Path) -> bool:
    """Whether a file begins as safetensors do, with the length of their record of JSON and its bracket."""
    try:
        with path.open("rb") as stream:
            return stream.read(9)[5:] == b"\0\0\0{"
    except OSError:
        return False


@cache
def shipped_templates() -> tuple[str, ...]:
    """The names of the shipped models that are templates, the default first; only their headers are read."""
    return tuple(name for name in shipped_models() if _shipped_kind(name) == TEMPLATE)


def shipped_symmetry(name: str) -> tuple[str, tuple[str, ...]]:
    """Symmetry and classes of particles of a shipped model; only its header is read, which needs no torch."""
    record = _shipped_record(name)
    return str(record["options"].get("symmetry") or "C1"), tuple(map(str, record["card"].get("classes", ())))


def _shipped_kind(name: str) -> str:
    kind = str(_shipped_record(name)["kind"])
    return _OLD_KINDS.get(kind, kind)


@cache
def _shipped_record(name: str) -> Mapping[str, Any]:
    from safetensors import safe_open

    with safe_open(_shipped()[name], framework="numpy") as opened:
        return _record(_shipped()[name], (opened.metadata() or {})[_HEADER])

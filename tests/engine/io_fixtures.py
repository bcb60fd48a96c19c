"""The golden pose as literals, and small files in the shapes that other programs write."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np

from napari_orient.engine.particles import Particles

MATRIX = np.array([[-0.380952, -0.523810, 0.761905], [0.190476, 0.761905, 0.619048], [-0.904762, 0.380952, -0.190476]])
WXYZ = (0.545545, -0.109109, 0.763763, 0.327327)
ZYZ = (157.166346, 100.980575, 140.906141)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def star_loop(block: str, columns: dict[str, list[object]]) -> str:
    heads = "".join(f"_{name} #{number}\n" for number, name in enumerate(columns, start=1))
    rows = "".join("  ".join(map(str, row)) + " \n" for row in zip(*columns.values(), strict=True))
    return f"\n# version 50001\n\ndata_{block}\n\nloop_ \n{heads}{rows} \n"


def coordinates(
    *rows: tuple[float, float, float], prefix: str = "rlnCoordinate", suffix: str = ""
) -> dict[str, list[object]]:
    return {f"{prefix}{axis}{suffix}": [row[index] for row in rows] for index, axis in enumerate("XYZ")}


def angles(*rows: tuple[float, float, float], prefix: str = "rlnAngle") -> dict[str, list[object]]:
    return {f"{prefix}{axis}": [row[index] for row in rows] for index, axis in enumerate(("Rot", "Tilt", "Psi"))}


def golden_particles(count: int = 1, **changes: object) -> Particles:
    positions = np.array([[100.0, 200.0, 50.0]]) + 10 * np.arange(count)[:, None]
    columns: dict[str, object] = {
        "positions": positions,
        "rotations": np.repeat(proper(MATRIX)[None], count, axis=0),
        "tomogram": "TS_01",
    }
    return Particles(**{**columns, **changes})


def proper(matrix: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


# --- volumes ---------------------------------------------------------------------------------------------------------


def volume(shape: tuple[int, int, int] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def saved_mrc(path: Path, density: np.ndarray | None = None, voxel: object = 10.0, **header: object) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume() if density is None else density)
        file.voxel_size = voxel
        for name, value in header.items():
            file.header[name] = value
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path

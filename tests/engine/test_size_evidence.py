"""A voxel size that is wrong in the header is found by the particles' size, and a right one is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, device="cpu")


@pytest.mark.parametrize("header", [1.0, 1.05])
def test_a_voxel_size_that_is_off_is_warned_of_with_the_one_that_fits(header: float) -> None:
    volume, picks, _ = tomogram(molecule(), noise=1.0, count=(1, 3, 4))
    volume = replace(volume, voxel_size=header * VOXEL_SIZE)
    picks = picks.replace(positions=picks.positions * header, rotations=None)
    answer = run(refine(volume, picks, Template(molecule().density(24), VOXEL_SIZE), OPTIONS))
    texts = [note.text for note in answer.warnings if "voxel size" in note.text]
    if header == 1:
        assert not texts
        return
    (text,) = texts
    would_fit = float(text.partition("right? ")[2].partition(" Å")[0])
    assert np.isclose(would_fit, VOXEL_SIZE, rtol=0.015)

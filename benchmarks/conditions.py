"""Tomograms under the conditions of real ones, each changing one thing; made once and kept in a folder.

    python benchmarks/conditions.py --templates DIR --cache FOLDER [--conditions WORD ...] [--seeds 0 1] [--list]

DIR holds maps in MRC format (4v4r.mrc, 3j9i.mrc, …; for the real-like boxes also mpneumoniae_70S.mrc, a map of that
ribosome). FOLDER/CONDITION_seedN gets the tomogram, true poses (truth.star), picks (picks.star: the particles of the
kinds in question, off by up to 10 Å along each axis, in the order of truth.star, then false ones), RELION 5's tables of
the tilt series, and what was asked for (condition.json). --conditions chooses those whose names begin with a word.

The specimen is 220 × 220 × 80 voxels of 10 Å with 70 ribosomes (4v4r) and 30 proteasomes (3j9i) unless the condition
says otherwise. The same seed has the same specimen, misalignment and noise under every condition.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from denoisers import network_like, non_local_means
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.io.tilt_metadata import write_tilt_series
from napari_orient.engine.options import Value
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.simulation.microscope import exposure, tilt_series
from napari_orient.engine.simulation.simulate import simulate, simulated_tilt_series
from napari_orient.engine.simulation.specimen import Contents, crowded_specimen, empty_volume
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template, load_template

RIBOSOME, PROTEASOME, LARGE_SUBUNIT, MITOCHONDRIAL = "4v4r", "3j9i", "4v4r_50S", "5mrc"
MYCOPLASMA = "mpneumoniae_70S"
EUKARYOTIC = "6qzp"
"""Human 80S ribosome."""
CROWD = ("1bxn", "1f4a", "2uv8", "3cf3", "6pxm", "7n4y")
"""Other macromolecules of a cell: Rubisco, β-galactosidase, fatty-acid synthase, p97 and two more."""
GROUPS: Mapping[str, str] = {
    PROTEASOME: "D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926",
    "6utj": "C7",
    "2uv8": "D3@-0.5739,0.5735,0.5846@-0.7074,-0.7068,-0.0010",
    "1f4a": "D2@-0.0051,-0.9999,0.0119@-0.4566,-0.0083,-0.8897",
    "7n4y": "C2@-0.0126,0.0110,0.9999",
    "6pxm": "O",
}
"""Groups of the maps that have one: each correlates to 0.99 with its copies at 10 Å."""
LARGE_SUBUNIT_FRAME = Rotation.from_rotvec([55.06, 65.11, 15.12], degrees=True).as_matrix()
"""Poses of 4v4r_50S.mrc times this are those of 4v4r.mrc, ± 1°: from 35 subunits of known poses, matched with 4v4r."""
OFF = 10.0
"""Å that a pick is off along each axis, at the most."""
USUAL: Mapping[str, Value] = {"size_x": 220, "size_y": 220, "size_z": 80, "imaging": "physical"}


@dataclass(frozen=True)
class Condition:
    """One condition: how its tomogram differs from the plain one.

    Parameters
    ----------
    name : unique; also that of its folder.
    what : a line for a table.
    options : of the simulation, beside `USUAL`.
    counts : particles of each template by its file's stem.
    picked : the kinds that are picked and scored.
    false_kinds : kinds among these that are false picks.
    others : stems of what surrounds the particles.
    picks : ``origin`` or ``mass``: the point of the particle that picks lie about.
    false_picks : share of false picks among all.
    few : picks that are given, at random; None gives all.
    header : factor by which the voxel size in the tomogram's header is wrong; picks are right in voxels.
    denoiser : filter of the whole tomogram: ``nlm`` or ``wiener``; empty for none.
    boxes : ten boxes cut from the tilt images as `real_like` does, instead of a tomogram.
    divided : whether these are divided by the sum of CTF², as corrected ones are; else they are a plain sum.
    off : Å that a pick is off along each axis, at the most.
    shifted : voxels along each axis that all picks are off besides: half a one where programs number voxels otherwise.
    doubled : share of the true picks that are given twice, each off by itself.
    cropped : voxels that are cut off the tomogram at every face after its reconstruction.
    """

    name: str
    what: str
    options: Mapping[str, Value] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=lambda: {RIBOSOME: 70, PROTEASOME: 30})
    picked: tuple[str, ...] = (RIBOSOME,)
    false_kinds: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    picks: str = "origin"
    false_picks: float = 0.0
    few: int | None = None
    header: float = 1.0
    boxes: bool = False
    divided: bool = True
    denoiser: str = ""
    off: float = OFF
    shifted: float = 0.0
    doubled: float = 0.0
    cropped: int = 0

    def simulation(self) -> SimulationOptions:
        """The simulation's options."""
        return SimulationOptions.of(**{**USUAL, **self.options})


@dataclass(frozen=True)
class Scene:
    """A tomogram of a condition: truth of the picked kinds row by row with the picks, whose last ones are false."""

    condition: Condition
    seed: int
    tomogram: Tomogram
    truth: Particles
    picks: Particles
    folder: Path | None = None

    @property
    def is_true(self) -> np.ndarray:
        """Which picks are true ones, (N,)."""
        wrong = [f"pdb_{kind}" for kind in self.condition.false_kinds]
        kinds = np.concatenate([np.asarray(self.truth.kind), np.full(len(self.picks) - len(self.truth), "")])
        return ~np.isin(kinds, wrong) & (kinds != "")


def _ctf(defocus: float, kind: str, **more: Value) -> Condition:
    label = "" if kind == "none" else f", {kind}"
    name = f"ctf{defocus:g}" + ("" if kind == "none" else f"_{kind}")
    return Condition(name, f"CTF {defocus:g} µm{label}", {"defocus": defocus, "ctf_correction": kind, **more})


def _noise(factor: float) -> Condition:
    return Condition(f"noise{factor:g}", f"noise × {factor:g}", {"noise": factor})


_CELL: Mapping[str, Value] = {"gold": 15, "membranes": 1, "vesicles": 3, "filaments": 6, "other_particles": 25}
_CUT_OFF = 12
"""Voxels that are cut off at every face: a fifth of the particles left lie more than a quarter outside."""
_OTHERS = ("4cr2", "6utj", *CROWD)
_FULL: Mapping[str, Value] = {
    "dose": 3.0,
    "astigmatism": 0.3,
    "height_defocus": True,
    "mean_free_path": 310.0,
    "defocus_error": 0.05,
}
_REAL: Mapping[str, Value] = {
    "size_x": 150,
    "size_y": 150,
    "size_z": 116,
    "voxel_size": 12.0,
    "defocus": 2.95,
    "astigmatism": 0.35,
    "astigmatism_angle": 70.0,
    "ctf_correction": "premultiplied",
    "dose": 2.556,
    "mean_free_path": 310.0,
    "tilt_range": 54.0,
    "lowest_tilt": -61.0,
    "missing_tilts": 2,
    "misalignment_low": 0.25,
    "misalignment_high": 0.5,
    "other_particles": 250,
    "noise": 1.5,
    "b_factor": 1500.0,
    "level_angle": 2.0,
    "axis_angle": 3.0,
}
"""As the 70S ribosomes of *M. pneumoniae* were imaged (EMPIAR-10499), after M's alignment.

Noise and B-factor are such that the images correlate with projections of the map in the listed poses, in each shell,
as the real ones do: 0.10 at 52 Å and 0.04 at 30 Å in the better series, half of it (`reallike_low`) in the other.
"""


def _few_beads(name: str, what: str, count: int, **options: Value) -> Condition:
    """A small tomogram with a few large beads, each 100 to 300 Å from a particle or more."""
    options = {"gold": count, "gold_second_diameter": 150.0, "defocus": 3.5, "axis_angle": 20.0, **options}
    small = {"size_x": 140, "size_y": 140, **options}
    return Condition(name, f"{what} among 25 ribosomes, CTF 3.5 µm, axis 20° off y", small, counts={RIBOSOME: 25})


def _boxes(name: str, what: str, kind: str = RIBOSOME, **options: Value) -> Condition:
    return Condition(name, what, {**_REAL, **options}, counts={kind: 10}, picked=(kind,), others=CROWD, boxes=True)


def _80s(name: str, what: str, **options: Value) -> Condition:
    """Ribosomes of eukaryotes, and proteasomes among them."""
    return Condition(name, what, options, counts={EUKARYOTIC: 40, PROTEASOME: 30}, picked=(EUKARYOTIC,))


CONDITIONS = (
    Condition("plain", "no CTF, PolNet's noise"),
    Condition("proteasome", "the same, proteasomes", picked=(PROTEASOME,)),
    Condition("proteasome_ctf3.5", "proteasomes, CTF 3.5 µm", {"defocus": 3.5}, picked=(PROTEASOME,)),
    _80s("ribosome80S", "80S ribosomes"),
    _80s("ribosome80S_ctf3.5", "80S ribosomes, CTF 3.5 µm", defocus=3.5),
    _80s("ribosome80S_noise3", "80S ribosomes, noise × 3", noise=3.0),
    Condition("polnet", "PolNet's recipe, mean SNR", {"imaging": "polnet", "snr_low": 1.5, "snr_high": 1.5}),
    Condition("dose", "dose 3 e/Å² an image", {"dose": 3.0}),
    *(_ctf(defocus, kind) for defocus in (2, 3.5, 5) for kind in ("none", "flipped", "wiener", "deconvolved")),
    _ctf(3.5, "premultiplied"),
    Condition("ctf3.5_full", "CTF 3.5 µm, astigmatism, heights, dose, free path", {"defocus": 3.5, **_FULL}),
    Condition(
        "ctf3.5_full_flipped",
        "the same, flipped with defocus ± 0.05 µm",
        {"defocus": 3.5, "ctf_correction": "flipped", **_FULL},
    ),
    Condition("pm50by2", "tilts ±50 by 2", {"tilt_range": 50.0, "tilt_step": 2.0}),
    Condition("m40p60by2", "tilts −40…60 by 2", {"lowest_tilt": -40.0, "tilt_step": 2.0}),
    Condition("missing5", "five tilts missing", {"missing_tilts": 5}),
    Condition("axis11", "tilt axis 11° off y, level 5°", {"axis_angle": 11.0, "level_angle": 5.0}),
    Condition("axis30", "tilt axis 30° off y", {"axis_angle": 30.0}),
    Condition("axis_x", "tilt axis x", {"tilt_axis": "x"}),
    Condition("vox7.84", "voxels of 7.84 Å", {"voxel_size": 7.84, "size_x": 280, "size_y": 280, "size_z": 102}),
    Condition("vox13.6", "voxels of 13.6 Å", {"voxel_size": 13.6, "size_x": 162, "size_y": 162, "size_z": 60}),
    Condition("header5", "header 5 % too large, picks right in voxels", header=1.05),
    *(_noise(factor) for factor in (1.7, 3, 5, 7, 9)),
    Condition("ctf3.5_noise1.7", "CTF 3.5 µm, noise × 1.7", {"defocus": 3.5, "noise": 1.7}),
    Condition("ctf3.5_noise3", "CTF 3.5 µm, noise × 3", {"defocus": 3.5, "noise": 3.0}),
    Condition("membranes", "membranes, vesicles", {"membranes": 2, "vesicles": 6}),
    Condition("filaments", "filaments", {"filaments": 12}),
    Condition("gold", "gold beads", {"gold": 25}),
    Condition("gold_ctf3.5", "gold beads, CTF 3.5 µm", {"gold": 25, "defocus": 3.5}),
    Condition("gold_sizes", "gold beads of 5 and 10 nm", {"gold": 24, "gold_second_diameter": 50.0}),
    Condition("gold_large", "gold beads of 10 and 15 nm", {"gold": 20, "gold_second_diameter": 150.0}),
    Condition("gold_sparse", "five gold beads", {"gold": 5}),
    Condition("gold_few_large", "three gold beads of 15 nm", {"gold": 3, "gold_diameter": 150.0}),
    Condition("gold_touching", "gold beads in clusters of six", {"gold": 24, "gold_touching": 6}),
    Condition("gold_border", "gold beads, half of them half outside", {"gold": 20, "gold_at_border": 10}),
    Condition(
        "gold_all_ctf3.5",
        "gold beads of 5 and 10 nm, in pairs or half outside, CTF 3.5 µm",
        {"gold": 24, "gold_second_diameter": 50.0, "gold_touching": 2, "gold_at_border": 6, "defocus": 3.5},
    ),
    _few_beads("gold_nine", "nine gold beads of 10 and 15 nm", 9),
    _few_beads("gold_three", "three gold beads of 15 and 10 nm", 3, gold_diameter=150.0, gold_second_diameter=100.0),
    Condition("proteins", "eight other kinds of protein", {"other_particles": 25}, others=_OTHERS),
    Condition("cell", "all of it, 30 % false picks", _CELL, others=_OTHERS, false_picks=0.3),
    Condition(
        "cell_ctf3.5",
        "the same, CTF 3.5 µm",
        {**_CELL, "defocus": 3.5},
        others=_OTHERS,
        false_picks=0.3,
    ),
    Condition("faces", "cut off at the faces", cropped=_CUT_OFF),
    Condition("faces_ctf3.5", "cut off at the faces, CTF 3.5 µm", {"defocus": 3.5}, cropped=_CUT_OFF),
    Condition("faces_noise3", "cut off at the faces, noise × 3", {"noise": 3.0}, cropped=_CUT_OFF),
    Condition("faces_proteasome", "cut off at the faces, proteasomes", picked=(PROTEASOME,), cropped=_CUT_OFF),
    Condition("faces_false", "cut off at the faces, 30 % false picks", cropped=_CUT_OFF, false_picks=0.3),
    Condition("few1", "one pick", few=1),
    Condition("few5", "five picks", few=5),
    Condition("few20", "twenty picks", few=20),
    Condition("com", "picks at the centre of mass", picks="mass"),
    Condition("mirror", "mirrored tomogram", {"mirror": True}),
    Condition("mix50S", "half 50S alone", counts={RIBOSOME: 35, LARGE_SUBUNIT: 35}, picked=(RIBOSOME, LARGE_SUBUNIT)),
    Condition(
        "mix5mrc",
        "half another ribosome (5mrc)",
        counts={RIBOSOME: 35, MITOCHONDRIAL: 35},
        picked=(RIBOSOME, MITOCHONDRIAL),
        false_kinds=(MITOCHONDRIAL,),
    ),
    Condition("flex8", "half bent by 8°", {"flexibility": 8.0}),
    Condition("flex20", "half bent by 20°", {"flexibility": 20.0}),
    Condition("bright", "particles bright", {"contrast": "bright"}),
    Condition("int8", "8 bit", {"eight_bit": True}),
    Condition("int8_clip2", "8 bit, clipped at 2 sd", {"eight_bit": True, "clip": 2.0}),
    Condition("ramp_add10", "ramp of 10 sd added", {"added_ramp": 10.0}),
    Condition("ramp_mult3", "ramp of × 3", {"multiplied_ramp": 3.0}),
    Condition("gauss1", "Gaussian of 1 voxel", {"denoising": "gaussian"}),
    Condition("gauss2", "Gaussian of 2 voxels", {"denoising": "gaussian", "denoising_strength": 2.0}),
    Condition("median3", "median of 3³", {"denoising": "median"}),
    Condition("tv", "total variation, mild", {"denoising": "tv", "denoising_strength": 0.5}),
    Condition("tv_strong", "total variation, strong", {"denoising": "tv", "denoising_strength": 3.0}),
    Condition("nlm", "non-local means", denoiser="nlm"),
    Condition("nlm_ctf3.5", "non-local means, CTF 3.5 µm", {"defocus": 3.5}, denoiser="nlm"),
    Condition("denoised", "as a network denoises, wedge half filled", denoiser="wiener"),
    Condition("denoised_ctf3.5", "the same, CTF 3.5 µm", {"defocus": 3.5}, denoiser="wiener"),
    Condition("localnorm25", "local normalisation, 25 voxels", {"local_normalisation": 25}),
    _boxes("reallike", "ten boxes as real ones, E. coli's 70S"),
    _boxes("reallike_species", "M. pneumoniae's 70S", MYCOPLASMA),
    _boxes("reallike_mid", "M. pneumoniae's 70S, noise × 1.5", MYCOPLASMA, noise=2.2),
    replace(
        _boxes("reallike_mid_premultiplied", "the same, noise × 1.5, premultiplied", MYCOPLASMA, noise=2.2),
        divided=False,
    ),
    _boxes("reallike_low", "M. pneumoniae's 70S, noise × 2", MYCOPLASMA, noise=3.0),
    _boxes("reallike_axis11", "ten boxes, tilt axis 11° off y", axis_angle=11.0, level_angle=5.0),
)


# --- making -----------------------------------------------------------------------------------------------------------


def template_of(folder: Path, stem: str) -> Template:
    """A map of the folder under the class ``pdb_STEM``, with its symmetry."""
    return replace(load_template(folder / f"{stem}.mrc"), name=f"pdb_{stem}", symmetry=GROUPS.get(stem, "C1"))


def make(condition: Condition, templates: Path, *, seed: int) -> Scene:
    """The scene of a condition, simulated."""
    kinds = [template_of(templates, stem) for stem in condition.counts]
    others = [template_of(templates, stem) for stem in condition.others]
    counts, options = list(condition.counts.values()), condition.simulation()
    if condition.boxes:
        tomogram, particles = real_like(kinds, others, options, counts=counts, seed=seed, divided=condition.divided)
        picks = particles.replace(rotations=None)
        return Scene(condition, seed, tomogram, particles, picks)
    tomogram, particles = run(simulate(kinds, options, seed=seed, name="tomo", counts=counts, others=others))
    if condition.denoiser:
        tomogram = replace(tomogram, density=_denoised(tomogram, condition, kinds, others, seed=seed))
    rng = np.random.default_rng([seed, 1])
    truth = concatenate([particles.of_kind(f"pdb_{kind}") for kind in condition.picked])
    if condition.cropped:
        tomogram, particles, truth = _cropped(tomogram, particles, truth, condition.cropped)
    picks = _picks(truth, kinds, condition, rng)
    if condition.few is not None:
        rows = np.sort(rng.permutation(len(truth))[: condition.few])
        truth, picks = truth.take(rows), picks.take(rows)
    if condition.doubled:
        rows = rng.permutation(len(truth))[: round(condition.doubled * len(truth))]
        again = _picks(truth.take(rows), kinds, condition, rng)
        truth, picks = concatenate([truth, truth.take(rows)]), concatenate([picks, again])
    picks = picks.replace(positions=picks.positions + condition.shifted * tomogram.voxel_size)
    if condition.false_picks:
        wrong = _false_picks(tomogram, particles, condition, rng, true=len(picks))
        picks = picks.replace(positions=np.concatenate([picks.positions, wrong]), extra={}, kind=None, tomogram="tomo")
    if condition.header != 1:
        tomogram = replace(tomogram, voxel_size=tomogram.voxel_size * condition.header)
        truth, picks = (
            part.replace(positions=part.positions * condition.header).located_in(tomogram) for part in (truth, picks)
        )
    return Scene(condition, seed, tomogram, truth, picks)


_QUIET = 0.02
"""Noise of the tomogram that shows the signal alone, over the condition's."""


def _denoised(
    tomogram: Tomogram, condition: Condition, kinds: Sequence[Template], others: Sequence[Template], *, seed: int
) -> np.ndarray:
    """A tomogram's density (Z, Y, X) after a denoiser."""
    density = np.asarray(tomogram.density, np.float32)
    if condition.denoiser == "nlm":
        return non_local_means(density)
    options = replace(condition, options={**condition.options, "noise": _QUIET}).simulation()
    signal, _ = run(
        simulate(kinds, options, seed=seed, name="tomo", counts=list(condition.counts.values()), others=others)
    )
    return network_like(density, np.asarray(signal.density, np.float32))


def _picks(truth: Particles, kinds: Sequence[Template], condition: Condition, rng: np.random.Generator) -> Particles:
    positions = truth.positions + rng.uniform(-condition.off, condition.off, truth.positions.shape)
    if condition.picks == "mass":
        centre = _centre_of_mass(kinds[0])
        positions = positions + truth.required_rotations() @ centre
    return truth.replace(positions=positions, rotations=None)


def _cropped(
    tomogram: Tomogram, particles: Particles, truth: Particles, count: int
) -> tuple[Tomogram, Particles, Particles]:
    """A tomogram without so many voxels at every face, all particles, and those of the truth that still lie in it."""
    inner = slice(count, -count)
    small = replace(tomogram, density=np.ascontiguousarray(tomogram.density[inner, inner, inner]))
    size = np.array(small.extent.size) * small.voxel_size

    def moved(these: Particles) -> Particles:
        return these.replace(positions=these.positions - count * small.voxel_size).located_in(small)

    kept, margin = moved(truth), small.voxel_size
    inside = ((kept.positions > margin) & (kept.positions < size - 2 * margin)).all(axis=1)
    return small, moved(particles), kept.take(inside)


def _centre_of_mass(template: Template) -> np.ndarray:
    middle = np.array(ndimage.center_of_mass(np.clip(template.density, 0, None)))[::-1]
    return (middle - template.centre) * template.voxel_size


def _false_picks(
    tomogram: Tomogram, particles: Particles, condition: Condition, rng: np.random.Generator, *, true: int
) -> np.ndarray:
    """False picks (N, 3) beside so many true ones: four on what is darkest, a third on proteasomes where there are any,
    others on dark places or anywhere.
    """
    count = round(condition.false_picks / (1 - condition.false_picks) * true)
    picked = np.asarray(particles.kind) == f"pdb_{condition.picked[0]}"
    smooth = ndimage.gaussian_filter(np.asarray(tomogram.density), 1.5)
    shape, size = np.array(smooth.shape), tomogram.voxel_size
    inner = smooth[6:-6, 6:-6, 6:-6]
    order = np.argsort(inner, axis=None)
    darkest = np.stack(np.unravel_index(order[:20_000], inner.shape), axis=1)[:, ::-1] + 6
    dark = darkest[rng.permutation(len(darkest))]
    anywhere = rng.uniform(6, shape[::-1] - 7, (2000, 3))
    others = particles.positions[~picked & (np.asarray(particles.kind) == f"pdb_{PROTEASOME}")] / size
    others = others[((others >= 6) & (others <= np.array(shape[::-1]) - 7)).all(axis=1)]
    wanted = ((darkest, 4), (others, count // 3), (dark, count // 4), (anywhere, count))
    chosen: list[np.ndarray] = []
    for places, most in wanted:
        taken = 0
        for place in places * size:
            apart = np.linalg.norm(np.array([*particles.positions[picked], *chosen]) - place, axis=1).min()
            if apart > 180 and taken < most and len(chosen) < count:
                chosen.append(place)
                taken += 1
    return np.array(chosen).reshape(-1, 3) + rng.uniform(-OFF, OFF, (len(chosen), 3))


# --- boxes as those of real particles ---------------------------------------------------------------------------------

_SIDE = 32
"""Voxels of a box."""
_CONSTANT = 0.5
"""Added to the sum of CTF² that the sum of premultiplied images is divided by."""
_TILT_WEIGHT = 1.6
"""Power of the tilt's cosine that an image is weighted with: what M's images of EMPIAR-10499 show."""


@dataclass(frozen=True, eq=False)
class BoxImages:
    """Tilt images (N, T, n, n) of particles, premultiplied by the transfer, and that transfer squared (T, 2n, 2n)."""

    images: np.ndarray
    transfer: np.ndarray
    axes: np.ndarray


def real_like(
    kinds: Sequence[Template],
    others: Sequence[Template],
    options: SimulationOptions,
    *,
    counts: Sequence[int],
    seed: int,
    divided: bool = True,
) -> tuple[Tomogram, Particles]:
    """Boxes side by side as one volume, and the particles in their centres: as RELION makes pseudo-subtomograms.

    From every tilt image a square about the particle is cut; the squares are laid into Fourier space and divided by the
    sum of CTF² plus 0.5, unless they stay premultiplied, and each box is brought to mean 0 and deviation 1.
    """
    found, particles = box_images(kinds, others, options, counts=counts, seed=seed)
    boxes = [_inserted(images, found, divided=divided) for images in found.images]
    boxes = [(box - box.mean()) / box.std() for box in boxes]
    rows = [np.concatenate(boxes[start : start + 5], axis=2) for start in range(0, len(boxes), 5)]
    tomogram = Tomogram(np.concatenate(rows, axis=1, dtype=np.float32), options.voxel_size, "tomo")
    place = np.array([[32 * (k % 5) + 16, 32 * (k // 5) + 16, 16] for k in range(len(boxes))])
    return tomogram, particles.replace(positions=place * options.voxel_size).located_in(tomogram)


def box_images(
    kinds: Sequence[Template],
    others: Sequence[Template],
    options: SimulationOptions,
    *,
    counts: Sequence[int],
    seed: int,
) -> tuple[BoxImages, Particles]:
    """The tilt images of each particle, dark, and the particles where they lie in the specimen."""
    children = np.random.SeedSequence([seed, 2]).spawn(6)
    place, around, states, tilts, shifts, noise = (np.random.default_rng(child) for child in children)
    contents = Contents(kinds, counts, others)
    crowd, series = empty_volume(options, place), tilt_series(options, tilts)
    specimen = run(
        crowded_specimen(
            contents,
            crowd,
            contents.shapes(options),
            options,
            total=contents.most(options),
            surroundings=around,
            states=states,
        )
    )
    exposed = exposure(options, series, shifts=shifts, errors=tilts)
    positions = np.array(crowd.positions[: contents.count]) - crowd.centre
    images = np.stack(
        [
            _squares(image, positions @ series.axes[index, :2].T, exposed.detector)
            * series.axes[index, 2, 2] ** _TILT_WEIGHT
            for index, image in enumerate(exposed.images(specimen, noise))
        ],
        axis=1,
    )
    particles = Particles(
        positions=np.array(crowd.positions[: contents.count]),
        rotations=np.array(crowd.rotations[: contents.count]),
        tomogram="tomo",
        kind=np.array(crowd.kinds[: contents.count]),
    )
    line = np.fft.fftfreq(2 * _SIDE, options.voxel_size)
    plane = np.stack(np.meshgrid(line, line, indexing="xy"), axis=-1).reshape(1, -1, 2)
    transfer = series.contrast_transfer(np.repeat(plane, len(series), axis=0)) ** 2
    return BoxImages(images, transfer.reshape(-1, 2 * _SIDE, 2 * _SIDE), series.axes), particles


def _squares(spectrum: torch.Tensor, places: np.ndarray, detector) -> np.ndarray:
    """Squares of an image about places (N, 2) Å from its centre, (N, n, n); the place falls on pixel ``n // 2``."""
    frequency = detector.frequency()
    height, width = detector.shape
    top, left = height // 2 - _SIDE // 2, width // 2 - _SIDE // 2
    cut = []
    for place in torch.as_tensor(places, dtype=torch.float32):
        moved = spectrum * torch.exp(2j * torch.pi * (frequency @ place))
        image = torch.fft.irfft2(moved, s=detector.shape)
        cut.append(image[top : top + _SIDE, left : left + _SIDE].numpy())
    return np.stack(cut)


def _inserted(images: np.ndarray, found: BoxImages, *, divided: bool) -> np.ndarray:
    """The box (n, n, n) of a particle's images (T, n, n), by linear Fourier insertion into twice the box."""
    side, start = 2 * _SIDE, _SIDE // 2
    padded = np.zeros((len(images), side, side))
    padded[:, start : start + _SIDE, start : start + _SIDE] = images
    spectra = np.fft.fft2(np.fft.ifftshift(padded, axes=(1, 2)))
    line = np.fft.fftfreq(side) * side
    y, x = np.meshgrid(line, line, indexing="ij")
    inside = np.hypot(x, y) < side / 2 - 1
    sums = np.zeros((3, side**3))
    for spectrum, transfer, axes in zip(spectra, found.transfer, found.axes, strict=True):
        nodes = x[inside][:, None] * axes[0] + y[inside][:, None] * axes[1]
        corner = np.floor(nodes).astype(int)
        upper = nodes - corner
        for step in np.ndindex(2, 2, 2):
            share = np.prod(np.where(step, upper, 1 - upper), axis=1)
            where = (corner + step) % side @ [1, side, side**2]
            for row, value in enumerate((spectrum[inside].real, spectrum[inside].imag, transfer[inside])):
                sums[row] += np.bincount(where, share * value, minlength=side**3)
    ratio = (sums[0] + 1j * sums[1]) / (sums[2] + _CONSTANT if divided else 1)
    box = np.fft.fftshift(np.fft.ifftn(ratio.reshape(side, side, side)).real)
    return box[start : start + _SIDE, start : start + _SIDE, start : start + _SIDE]


# --- the folder -----------------------------------------------------------------------------------------------------


def scene(condition: Condition, templates: Path, *, seed: int, cache: Path | None) -> Scene:
    """The scene of a condition, read from the cache where it is there, else made and written."""
    if cache is None:
        return make(condition, templates, seed=seed)
    folder = cache / f"{condition.name}_seed{seed}"
    asked = _record(condition, seed)
    if not (folder / "condition.json").exists() or json.loads((folder / "condition.json").read_text()) != asked:
        _write(folder, make(condition, templates, seed=seed), asked)
    # Without its path, for what lies beside a tomogram is taken for its tilt metadata: these are given or not.
    tomogram = replace(read_tomogram(folder / "tomo.mrc"), name="tomo", path=None)
    extents = {"tomo": tomogram.extent}
    truth, picks = (read_particles(folder / name, extents=extents) for name in ("truth.star", "picks.star"))
    return Scene(condition, seed, tomogram, truth, picks, folder)


_LATER = ("denoiser", "off", "shifted", "doubled", "cropped", "divided")
"""Fields that came after the first folders were made."""


def _record(condition: Condition, seed: int) -> dict[str, object]:
    changed = {
        name: value
        for name, value in condition.simulation().to_record().items()
        if value != SimulationOptions().to_record()[name]
    }
    plain = Condition("", "")
    # Folders that were made before there were these have none of them.
    later = [name for name in _LATER if getattr(condition, name) == getattr(plain, name)]
    asked = {name: value for name, value in asdict(condition).items() if name not in later}
    return json.loads(json.dumps({**asked, "options": changed, "seed": seed, "version": 1}))


def _write(folder: Path, made: Scene, asked: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tomogram(folder / "tomo.mrc", np.asarray(made.tomogram.density), voxel_size=made.tomogram.voxel_size)
    extents = {"tomo": made.tomogram.extent}
    write_particles(folder / "truth.star", made.truth, extents=extents)
    is_false = np.where(made.is_true, "0", "1")
    write_particles(folder / "picks.star", made.picks.replace(extra={"isFalsePick": is_false}), extents=extents)
    options = made.condition.simulation()
    if made.condition.boxes:
        series = tilt_series(options, np.random.default_rng(np.random.SeedSequence([made.seed, 2]).spawn(6)[3]))
    else:
        series = simulated_tilt_series(options, seed=made.seed)
    write_tilt_series(folder, made.tomogram, series)
    (folder / "condition.json").write_text(json.dumps(asked, indent=1) + "\n")


def chosen(words: Sequence[str] | None, *, exact: bool = False) -> list[Condition]:
    """The conditions whose names begin with one of the words, or are one of them; all where there are none."""
    if not words:
        return list(CONDITIONS)
    names = [item.name for item in CONDITIONS]
    absent = [
        word for word in words if not any(name == word or (not exact and name.startswith(word)) for name in names)
    ]
    if absent:
        raise SystemExit(f"there is no condition {', '.join(absent)}; there are {', '.join(names)}.")
    if exact:
        return [item for word in words for item in CONDITIONS if item.name == word]
    return [item for item in CONDITIONS if item.name.startswith(tuple(words))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", metavar="WORD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--list", action="store_true", help="print the conditions and make nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for condition in chosen(given.conditions):
        if given.list:
            print(f"{condition.name:<22} {condition.what}")
            continue
        for seed in given.seeds:
            started = time.process_time()
            found = scene(condition, given.templates, seed=seed, cache=given.cache)
            print(f"{condition.name}_seed{seed}: {len(found.picks)} picks, {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()

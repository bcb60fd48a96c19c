from __future__ import annotations

import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.tomograms import match_tomogram, same_tomogram
from napari_orient.engine.particles import Extent, Particles


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("tomo_001", "tomo_001_rec_snr1.94"),
        ("tomo_001_motif_list", "tomo_001_rec_snr1.94"),
        ("Tomo001", "tomo_001"),
        ("TS_01", "TS_01_10.00Apx.mrc"),
        ("TS_01", "rec_TS_01_half1"),
        ("TS_01", "/data/reconstruction/TS_01.mrc.tomostar"),
        ("tomo_ts01.mrc_15.00Apx.mrc", "tomo_ts01"),
        ("tomo_1", "tomo_01"),
        ("TS-01", "ts_01_bin4_denoised.rec"),
        ("lamella_3_Vol", "lamella_3"),
        ("tomo_den_0", "tomo_rec_0"),
        ("TS_026", "TS_026_Vol_ctf.zarr"),
        ("TS_026", "rec_TS_026_wbp.mrc.gz"),
        ("Position_1.tomostar", "Position_1_8.00Apx_deconv.ome.zarr"),
    ],
)
def test_names_that_programs_decorate_mean_one_tomogram(name, other):
    assert same_tomogram(name, other)
    assert same_tomogram(other, name)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("TS_01", "TS_10"),
        ("TS_01", "TS_01_2"),
        ("tomo_1", "tomo_11"),
        ("grid1_b2", "grid1_b3"),
        ("TS_1_1", "TS_11"),
        ("", "TS_01"),
    ],
)
def test_names_of_two_tomograms_are_told_apart(name, other):
    assert not same_tomogram(name, other)
    assert not same_tomogram(other, name)


def test_the_very_name_wins_over_names_that_mean_the_same():
    assert match_tomogram("TS_01", ["TS_01_denoised", "TS_01", "TS_02"]) == "TS_01"
    assert match_tomogram("TS_01", ["TS_02", "rec_TS_01"]) == "rec_TS_01"
    assert match_tomogram("TS_01", ["TS_02"]) is None


def test_two_tomograms_that_fit_one_name_are_both_named():
    with pytest.raises(InputError, match="fits both TS_01_half1 and TS_01_half2"):
        match_tomogram("TS_01", ["TS_01_half1", "TS_01_half2"])


@pytest.mark.parametrize("name", ["data_1", "loop_", "#x", "it's", "gr id#1", 'a"b', "1"])
@pytest.mark.parametrize("suffix", [".tbl", ".em", ".csv", ".tsv", ".star"])
def test_names_like_a_format_s_own_words_are_read_back(tmp_path, name, suffix):
    extent = Extent((100, 100, 50), 10.0)
    rotations = [[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]] * 2
    particles = Particles(positions=[[100.0, 200, 300]] * 2, rotations=rotations, tomogram=name, extents={name: extent})
    earlier = particles.replace(tomogram="earlier", extents={"earlier": extent})
    for other in (".em", ".tbl"):
        write_particles(tmp_path / f"a{other}", earlier, pixel_size=10.0)
    write_particles(tmp_path / f"a{suffix}", particles, pixel_size=10.0)
    assert read_particles(tmp_path / f"a{suffix}", extents={name: extent}).tomogram_names == [name]

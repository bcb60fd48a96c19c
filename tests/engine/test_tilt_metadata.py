"""Tilt metadata of RELION, Warp, IMOD and AreTomo: one series, told in each program's files, is read alike."""

import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.tilt_metadata import read_tilt_series, tilt_files_beside
from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import WedgeOptions
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.tomogram.tilt_geometry import tilt_geometry

TILTS = np.array([-50.0, -20.0, 0.0, 30.0])
DOSE = np.array([9.0, 3.0, 0.0, 6.0])
MIDDLE = DOSE + 1.5
DEFOCUS = np.array([3.0, 3.1, 3.2, 3.3])
STAR = "\ndata_{name}\n\nloop_\n{columns}\n{rows}\n"
AXIS = 85.0


def star(name, **columns):
    heads = "\n".join(f"_{column}" for column in columns)
    rows = "\n".join(" ".join(str(value) for value in row) for row in zip(*columns.values(), strict=True))
    return STAR.format(name=name, columns=heads, rows=rows)


def images(**angles):
    return {
        **angles,
        "rlnDefocusU": DEFOCUS * 1e4 + 500,
        "rlnDefocusV": DEFOCUS * 1e4 - 500,
        "rlnDefocusAngle": [10.0] * 4,
        "rlnMicrographPreExposure": DOSE,
    }


OPTICS = {"rlnVoltage": [200.0], "rlnSphericalAberration": [2.0], "rlnAmplitudeContrast": [0.1]}


@pytest.fixture
def relion5(tmp_path):
    (tmp_path / "tilt_series").mkdir()
    table = images(rlnTomoXTilt=[2.0] * 4, rlnTomoYTilt=TILTS, rlnTomoZRot=[AXIS] * 4)
    (tmp_path / "tilt_series" / "TS_01.star").write_text(star("TS_01", **table))
    path = tmp_path / "tomograms.star"
    names = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesStarFile": ["Job/tilt_series/TS_01.star"]}
    path.write_text(star("global", **names, **OPTICS))
    (tmp_path / "TS_01.star").write_text(star("TS_01", **table))
    return path


def test_relion_5_gives_angles_defocus_dose_and_optics(relion5):
    series = read_tilt_series(relion5, tomogram="rec_TS_01")
    assert series.tilt_deg == pytest.approx(TILTS, abs=0.1)
    assert series.defocus_um.mean(axis=1) == pytest.approx(DEFOCUS)
    assert np.ptp(series.defocus_um, axis=1) == pytest.approx(0.1)
    assert series.dose == pytest.approx(MIDDLE)
    assert series.optics == Optics(200.0, 2.0, 0.1)
    # The image's rotation is no part of the tomogram's geometry; the X tilt leans the axis.
    wedge = Wedge.of_series(series)
    assert wedge.axis_deg == pytest.approx(0, abs=1e-6)
    assert abs(wedge.level_deg) == pytest.approx(2)


def test_a_tilt_series_own_star_file_is_read_as_well(relion5):
    assert read_tilt_series(relion5.with_name("TS_01.star")).tilt_deg == pytest.approx(TILTS, abs=0.1)


def test_projection_matrices_of_relion_4_give_the_axes_that_angles_give(tmp_path, relion5):
    expected = read_tilt_series(relion5, tomogram="TS_01")
    rows = {
        f"rlnTomoProj{name}": [f"[{','.join(f'{value:.8f}' for value in row)},0]" for row in expected.axes[:, number]]
        for number, name in enumerate("XYZ")
    }
    path = tmp_path / "export.star"
    path.write_text(star("global", rlnTomoName=["TS_01.tomostar"], **OPTICS) + star("TS_01.tomostar", **images(**rows)))
    found = read_tilt_series(path, tomogram="TS_01")
    assert found.axes == pytest.approx(expected.axes, abs=1e-6)
    assert found.defocus_um == pytest.approx(expected.defocus_um)


WARP = """<?xml version="1.0"?>
<TiltSeries AreAnglesInverted="True" LevelAngleX="2" LevelAngleY="-1">
  <Angles>{angles}</Angles><Dose>{dose}</Dose><UseTilt>True\nTrue\nTrue\nTrue\nFalse</UseTilt>
  <AxisAngle>{axis}</AxisAngle>
  <CTF><Param Name="Voltage" Value="200" /><Param Name="Cs" Value="2.0" /><Param Name="Amplitude" Value="0.1" /></CTF>
  <GridCTF Width="1" Height="1" Depth="5">{nodes}</GridCTF>
  <GridCTFDefocusDelta Width="1" Height="1" Depth="1"><Node X="0" Y="0" Z="0" Value="0.1" /></GridCTFDefocusDelta>
</TiltSeries>
"""


def test_warp_leaves_out_unused_tilts_and_has_tilts_of_the_other_sign(tmp_path):
    def lines(values):
        return "\n".join(str(value) for value in values)

    defocus = [*DEFOCUS, 9.0]
    nodes = "".join(f'<Node X="0" Y="0" Z="{number}" Value="{value}" />' for number, value in enumerate(defocus))
    text = WARP.format(angles=lines([*(TILTS + 1), 60]), dose=lines([*DOSE, 12]), axis=lines([AXIS] * 5), nodes=nodes)
    path = tmp_path / "TS_01.xml"
    path.write_text(text)
    series = read_tilt_series(path)
    assert series.tilt_deg == pytest.approx(-TILTS, abs=0.1)
    assert series.axes[:, 0, 1] == pytest.approx(-np.sin(np.radians(AXIS)), abs=0.05)
    assert series.defocus_um.mean(axis=1) == pytest.approx(DEFOCUS)
    assert series.dose == pytest.approx(MIDDLE)
    assert series.optics == Optics(200.0, 2.0, 0.1)
    assert abs(Wedge.of_series(series).level_deg) == pytest.approx(2)


def test_a_tomostar_has_nominal_angles_and_dose(tmp_path):
    path = tmp_path / "TS_01.tomostar"
    path.write_text(star("", wrpMovieName=list("abcd"), wrpAngleTilt=TILTS, wrpAxisAngle=[AXIS] * 4, wrpDose=DOSE))
    series = read_tilt_series(path)
    assert series.tilt_deg == pytest.approx(-TILTS)
    assert series.dose == pytest.approx(MIDDLE)
    assert series.defocus_um is None


VERSION_2 = "1 2 -50 -20 3050.0 2\n3 3 0 0 3200.0\n4 4 30 30 3300.0\n"
VERSION_3 = "37 0 0. 0. 0 3\n" + "".join(
    f"{view} {view} {tilt} {tilt} {1000 * defocus + 50} {1000 * defocus - 50} 10.0 90.0 0.001\n"
    for view, tilt, defocus in zip(range(1, 5), TILTS, DEFOCUS, strict=True)
)


@pytest.mark.parametrize(
    ("text", "defocus", "difference", "phase"),
    [(VERSION_2, [3.05, 3.1, 3.2, 3.3], 0.0, 0.0), (VERSION_3, DEFOCUS, 0.1, 90.0)],
)
def test_imod_gives_angles_and_defocus_of_both_versions_of_ctfplotter(tmp_path, text, defocus, difference, phase):
    (tmp_path / "TS_01.tlt").write_text("\n".join(f" {tilt:.2f}" for tilt in TILTS))
    (tmp_path / "TS_01.defocus").write_text(text)
    (tmp_path / "TS_01.xf").write_text("0.0872 0.9962 -0.9962 0.0872 1 2\n" * 4)
    for name in ("TS_01.tlt", "TS_01.defocus"):
        series = read_tilt_series(tmp_path / name)
        assert series.tilt_deg == pytest.approx(TILTS)
        assert series.defocus_um.mean(axis=1) == pytest.approx(defocus)
        assert np.ptp(series.defocus_um, axis=1) == pytest.approx(difference)
        assert series.optics.phase_shift_deg == pytest.approx(phase)


def test_aretomo_gives_the_tilts_of_its_global_alignment(tmp_path):
    head = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 100 100 5\n# DarkFrame = 0 0 -53\n# SEC ROT\n"
    rows = "".join(f"{n} 85.1 1.0 0.1 0.2 1.0 1.0 1.0 0.0 {tilt:.2f}\n" for n, tilt in enumerate(TILTS))
    path = tmp_path / "TS_01.aln"
    path.write_text(f"{head}{rows}# Local Alignment\n1 2 3 4 5 6 7 8 9 10\n")
    assert read_tilt_series(path).tilt_deg == pytest.approx(TILTS)


# --- unhappy paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tilts.csv", "1", "no known suffix of tilt metadata"),
        ("TS_01.xml", "<Movie></Movie>", "no tilt series of Warp"),
        ("TS_01.xml", "<Movie>", "no XML file that can be read"),
        ("TS_01.aln", "# nothing\n", "has no global alignment"),
        ("TS_01.tlt", "a\nb\n", "no table of numbers"),
        ("TS_01.defocus", "1 1 0 0 3000 2\n", "no file of angles beside it"),
        ("tomograms.star", star("global", rlnTomoName=["TS_01"]), "no tilts of TS_01"),
        ("tomograms.star", star("global", rlnTomoName=["A", "B"]), "does not list TS_01; it has A"),
        ("TS_01.star", star("TS_01", rlnDefocusU=[1.0], rlnDefocusV=[1.0]), "has no tilts; expected rlnTomoYTilt"),
    ],
)
def test_what_is_missing_is_said_in_a_line(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_tilt_series(path, tomogram="TS_01")
    assert "\n" not in str(caught.value)


# --- beside a tomogram ----------------------------------------------------------------------------------------------


def volume(tmp_path, wedge=None, size=84):
    """A tomogram of noise in a file that need not be there; behind a wedge."""
    from test_wedge import of_wedge

    found = of_wedge(wedge or Wedge(0, -60, 45), size=size)
    return Tomogram(found.density, found.voxel_size, "TS_01", path=tmp_path / "TS_01.mrc")


def geometry(tomogram, **options):
    return tilt_geometry(tomogram, np.full((1, 3), 400.0), WedgeOptions.of(**options), side=28)


def test_a_file_beside_the_tomogram_is_used_and_said_if_it_is_the_only_one(tmp_path):
    (tmp_path / "TS_01.rawtlt").write_text("\n".join(str(tilt) for tilt in np.arange(-60, 46, 3)))
    (tmp_path / "TS_02.tlt").write_text("0\n")
    used = geometry(volume(tmp_path))
    assert "TS_01.rawtlt, which lies beside it" in used.note
    assert used.series is not None
    (tmp_path / "tomograms.star").write_text(
        star("global", rlnTomoName=["TS_01"], rlnTomoTiltSeriesStarFile=["TS_01.star"])
    )
    assert len(tilt_files_beside(tmp_path / "TS_01.mrc", "TS_01")) == 2
    assert geometry(volume(tmp_path)).series is None


def test_tilts_of_the_wrong_sign_are_turned_to_what_the_power_shows_and_said(tmp_path):
    path = tmp_path / "angles.tlt"
    for sign, words in ((1, "tilts of angles.tlt)"), (-1, "of the other sign")):
        path.write_text("\n".join(str(sign * tilt) for tilt in np.arange(-60, 46, 3)))
        used = geometry(volume(tmp_path), tilts=str(path))
        assert words in used.note
        assert (used.wedge.low_deg, used.wedge.high_deg) == pytest.approx((-60, 45))


def test_options_override_the_file(tmp_path):
    path = tmp_path / "angles.tlt"
    path.write_text("\n".join(str(tilt) for tilt in np.arange(-60, 46, 3)))
    used = geometry(volume(tmp_path), tilts=str(path), highest_tilt=50.0)
    assert (used.wedge.low_deg, used.wedge.high_deg) == pytest.approx((-60, 50))
    assert geometry(volume(tmp_path), tilts=str(path), tilt_axis="none").wedge.complete


def test_negated_tilts_are_the_mirror_image_along_the_beam():
    series = TiltSeries.of_angles(TILTS, axis_deg=11, level_deg=4)
    other = series.with_negated_tilts()
    assert np.linalg.det(other.axes) == pytest.approx(1)
    plane = series.axes[:, 0] * [1, 1, -1]
    assert np.einsum("td,td->t", other.axes[:, 2], plane) == pytest.approx(0)

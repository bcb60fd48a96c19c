"""What the command line says, checks and chooses of lists and tomograms before it works on them."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import tifffile
import zarr

from napari_orient.cli import main
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.particles import Extent, Particles

COUNT = 12


def saved_tomogram(path: Path, voxel_size: float = 10.0) -> Path:
    density = np.random.default_rng(0).normal(size=(40, 48, 56)).astype(np.float32)
    write_tomogram(path, density, voxel_size=voxel_size)
    return path


def listed(path: Path, *, tomogram: str = "s01", **extra: list[str]) -> Path:
    random = np.random.default_rng(1)
    particles = Particles(
        positions=random.uniform(100, 300, size=(COUNT, 3)),
        tomogram=tomogram,
        extra={name: np.array(values) for name, values in extra.items()},
    )
    write_particles(path, particles, extents={tomogram: Extent((56, 48, 40), 10.0)})
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    status = main([str(item) for item in arguments])
    heard = capsys.readouterr()
    return status or 0, heard.out, heard.err


def test_the_voxel_size_its_source_and_the_pixel_size_are_said(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    path = tmp_path / "picks.star"
    path.write_text(
        "data_\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n"
        "s01 20 40 10\ns01 50 8 30\n"
    )
    _, _, err = run(capsys, "convert", path, tmp_path / "out.star", "--tomogram", volume)
    assert "s01: 56 × 48 × 40 voxels of 10 Å (MRC header)" in err
    assert "Note: Coordinates count in pixels of 10 Å (the opened tomogram's)." in err
    _, _, err = run(capsys, "convert", path, tmp_path / "out.star", "--tomogram", volume, "--voxel-size", "5")
    assert "voxels of 5 Å (given; the MRC header says 10)" in err


def test_rows_are_chosen_by_any_column_and_by_relions_class_number(tmp_path, capsys):
    scores = [f"{number / 10}" for number in range(COUNT)]
    numbers = [str(1 + number % 3) for number in range(COUNT)]
    path = listed(tmp_path / "a.star", rlnLCCmax=scores, rlnClassNumber=numbers)
    out = tmp_path / "b.csv"
    status, text, err = run(capsys, "convert", path, out, "--where", "rlnLCCmax > 0.45 and rlnClassNumber in (1, 2)")
    assert status == 0
    assert "4 of 12 particles: rlnLCCmax > 0.45" in err
    assert "4 particles" in text
    assert read_particles(out).extra["rlnLCCmax"].tolist() == ["0.6", "0.7", "0.9", "1.0"]
    run(capsys, "convert", path, out, "--class", "2")
    assert set(read_particles(out).extra["rlnClassNumber"]) == {"2"}
    for choice, words in (
        (("--class", "7"), "no particle is of class '7'; there are 1, 2, 3"),
        (("--where", "rlnLCCmax > 9"), "is true for none of 12 particles"),
        (("--where", "rlnLCCmx > 9"), "did you mean rlnLCCmax"),
    ):
        status, _, err = run(capsys, "convert", path, out, *choice)
        assert status == 2
        assert words in err
    run(capsys, "convert", path, out, "--where", "tomogram == 's01' and x < 200")
    assert (read_particles(out).positions[:, 0] < 200).all()


def test_columns_that_are_enumerated_keep_their_names_though_options_are_called_so(tmp_path, capsys):
    path = listed(tmp_path / "a.star", pixel_size=["1"] * COUNT, tomogram_name=["a"] * COUNT)
    _, _, err = run(capsys, "convert", path, tmp_path / "b.csv", "--where", "zzz > 1")
    assert "there are pixel_size, tomogram_name, tomogram, " in err


def test_rows_are_chosen_by_the_distance_to_the_nearest_particle_of_any_class(tmp_path, capsys):
    path, out = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text("tomogram,x,y,z,class\ns01,0,0,0,a\ns01,50,0,0,b\ns01,900,0,0,a\ns02,0,0,0,a\n")
    run(capsys, "convert", path, out, "--class", "a", "--where", "neighbour < 100 and neighbour_class == 'b'")
    assert read_particles(out).positions.tolist() == [[0, 0, 0]]
    run(capsys, "convert", path, out, "--where", "neighbour > 1000")
    assert read_particles(out).tomogram.tolist() == ["s02"]


def test_the_centres_of_reading_and_of_writing_are_told_apart(tmp_path, capsys):
    path = listed(tmp_path / "a.star")
    run(capsys, "convert", path, tmp_path / "b.star", "--centre", "size/2 - 1")
    moved = read_particles(tmp_path / "b.star").positions - read_particles(path).positions
    np.testing.assert_allclose(moved, -10, atol=1e-5)
    run(capsys, "convert", path, tmp_path / "c.star", "--out-centre", "size/2 - 1")
    same = read_particles(tmp_path / "c.star", centre="size/2 - 1").positions
    np.testing.assert_allclose(same, read_particles(path).positions, atol=1e-5)


def test_a_pixel_size_counts_when_writing_beside_a_tomogram(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    (tmp_path / "f3.csv").write_text("tomogram,x,y,z\ns01,135,270,40.5\n")
    out = tmp_path / "out.star"
    arguments = ("--dialect", "relion4", "--pixel-size", "1.35", "--tomogram", volume)
    run(capsys, "convert", tmp_path / "f3.csv", out, *arguments)
    rows = [line.split() for line in out.read_text().splitlines() if line.startswith("s01")]
    assert [float(value) for value in rows[0][1:4]] == [100, 200, 30]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    (tmp_path / "picks.csv").write_text("tomogram,x,y,z\nother,200,200,200\n")
    out = tmp_path / "out.star"
    for arguments, words in (
        (("refine", volume, tmp_path / "picks.csv", "--reference", "ribosome"), "no particle of s01; it has other"),
        (("predict", volume, tmp_path / "picks.csv"), "no particle of s01; it has other"),
    ):
        status, _, err = run(capsys, *arguments, "--output", out)
        assert status == 2
        assert words in err
        assert not out.exists()


def test_a_map_has_a_voxel_size_of_its_own(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    reference = saved_tomogram(tmp_path / "map.mrc", voxel_size=1.0)
    path = listed(tmp_path / "a.star")
    refine = ("refine", volume, path, "--reference", reference, "--output", tmp_path / "o.star")
    status, _, err = run(capsys, *refine)
    assert status == 2
    assert "map.mrc states voxels of 1.0 Å" in err
    assert "(--reference-voxel-size)" in err
    status, _, err = run(capsys, *refine, "--reference-voxel-size", "0")
    assert "expected a length in Å above 0" in err
    beads = ("refine", volume, path, "--reference", "ribosome", "--reference-voxel-size", "5")
    status, _, err = run(capsys, *beads, "--output", tmp_path / "o.star")
    assert "ribosome, which states its own" in err


def test_a_map_does_not_replace_the_tomogram_that_it_is_made_of(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    before = volume.read_bytes()
    status, _, err = run(capsys, "average", volume, listed(tmp_path / "a.star"), "--output", volume)
    assert status == 2
    assert "is to be written, and is read too" in err
    assert volume.read_bytes() == before


def test_a_note_that_is_true_of_every_tomogram_is_said_once(tmp_path, capsys):
    for name in ("s01", "s02"):
        with mrcfile.open(saved_tomogram(tmp_path / f"{name}.mrc"), mode="r+") as file:
            file.header.origin.x = 5.0
    rows = "".join(f"{name} {x} 10 10 2.0\n" for name in ("s01", "s02") for x in (100, 120, 140))
    path = tmp_path / "all.star"
    heads = "".join(f"_rlnCoordinate{axis}\n" for axis in "XYZ")
    path.write_text(f"data_particles\nloop_\n_rlnTomoName\n{heads}_rlnPixelSize\n{rows}")
    status, _, err = run(
        capsys, "average", tmp_path / "s01.mrc", tmp_path / "s02.mrc", path, "--output", tmp_path / "m.mrc"
    )
    assert status == 2
    assert err.count("Coordinates count in pixels of 2 Å") == 1
    assert err.count("origin (5, 0, 0) Å") == 2


def test_a_few_particles_outside_are_left_out_and_counted_and_most_outside_are_refused(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    rows = "".join(f"{x},{y},200,10,20,30\n" for x in (150, 250, 350) for y in (150, 250))
    (tmp_path / "poses.csv").write_text("x,y,z,rot,tilt,psi\n" + rows + "-60,200,200,10,20,30\n")
    average = ("average", volume, tmp_path / "poses.csv", "--output", tmp_path / "m.mrc", "--side", "10")
    status, out, err = run(capsys, *average)
    assert status == 0, err
    assert "Of 7 particles 1 lies outside s01, left out." in err
    assert "6 particles" in out
    (tmp_path / "poses.csv").write_text("x,y,z,rot,tilt,psi\n" + rows.replace(",200,", ",2000,"))
    status, _, err = run(capsys, *average)
    assert status == 2
    assert "6 of 6 particles lie outside" in err


def test_a_list_of_two_tomograms_is_written_in_its_own_order(tmp_path, capsys):
    volumes = [saved_tomogram(tmp_path / f"s0{number}.mrc") for number in (1, 2)]
    rows = [
        f"s0{1 + number % 2},{150 + 50 * (number // 3)},{150 + 50 * (number % 3)},200,10,20,30" for number in range(9)
    ]
    (tmp_path / "poses.csv").write_text("\n".join(["tomogram,x,y,z,rot,tilt,psi", *rows, ""]))
    words = ("--output", tmp_path / "m.mrc", "--side", "10", "--list-output", tmp_path / "out.csv")
    status, _, err = run(capsys, "average", *volumes, tmp_path / "poses.csv", *words)
    assert status == 0, err
    written = read_particles(tmp_path / "out.csv")
    assert [f"{name},{x:g},{y:g}" for name, (x, y, _) in zip(written.tomogram, written.positions, strict=True)] == [
        ",".join(row.split(",")[:3]) for row in rows
    ]


def test_the_same_map_comes_of_the_same_tomogram_in_every_format(tmp_path, capsys):
    volume = saved_tomogram(tmp_path / "s01.mrc")
    density = read_tomogram(volume).density
    (tmp_path / "poses.csv").write_text(
        "x,y,z,rot,tilt,psi\n" + "".join(f"{x},{y},200,10,20,30\n" for x in (150, 250, 350) for y in (150, 250))
    )
    packed, stored, eman = tmp_path / "s01.mrc.gz", tmp_path / "s01.zarr", tmp_path / "s01.hdf"
    packed.write_bytes(gzip.compress(volume.read_bytes()))
    group = zarr.create_group(str(stored))
    group.create_array("0", data=np.asarray(density), chunks=(16, 16, 16))
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    with h5py.File(eman, "w") as file:
        image = file.create_group("MDF/images/0")
        image["image"] = np.asarray(density)
        image.attrs.update({f"EMAN.apix_{axis}": 10.0 for axis in "xyz"})
    tifffile.imwrite(
        tmp_path / "s01.tif", density, imagej=True, resolution=(0.1, 0.1), metadata={"unit": "A", "spacing": 10.0}
    )
    maps = []
    for path in (volume, packed, stored, eman, tmp_path / "s01.tif"):
        out = tmp_path / "map.mrc"
        status, _, err = run(capsys, "average", path, tmp_path / "poses.csv", "--output", out, "--side", "10")
        assert status == 0, err
        assert "s01: 56 × 48 × 40 voxels of 10 Å" in err
        maps.append(out.read_bytes())
    assert len(set(maps)) == 1

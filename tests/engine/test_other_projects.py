"""Whole projects of other programs, as they lie on a disk: M, Dynamo, EMAN2, PEET, and a folder for each tomogram."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign_lists import DYNAMO, POSITIONS, ROTATIONS, SAMPLES, SIZE, TOMOGRAM, VOXEL, VOXELS, imod_bytes
from io_fixtures import write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles, write_tomogram
from napari_orient.engine.io.tomograms import match_tomogram, same_tomogram
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.projects.files import project_files
from napari_orient.engine.projects.inputs import read_project
from napari_orient.engine.rotations import angle_deg, zxz_to_matrix

DENSITY = np.random.default_rng(0).normal(size=SIZE[::-1]).astype(np.float32)
EXTENT = Extent(SIZE, VOXEL)


def volume(path: Path, *, voxel_size: float = VOXEL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tomogram(path.with_suffix(".mrc"), DENSITY, voxel_size=voxel_size)
    return path.with_suffix(".mrc").rename(path)


def hdf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        image = file.create_group("MDF/images/0")
        image.create_dataset("image", data=DENSITY)
        image.attrs.update({f"EMAN.apix_{axis}": VOXEL for axis in "xyz"})
    return path


def is_the_truth(project):
    """Whether a project is one tomogram with both particles in their poses."""
    ((_, found),) = project.pairs
    np.testing.assert_allclose(found.positions, POSITIONS, atol=1e-3)
    assert angle_deg(found.rotations, ROTATIONS).max() < 1e-3


# --- M and Warp -------------------------------------------------------------------------------------------------------


def test_the_tomograms_of_a_list_in_a_project_of_warp_or_m_are_found_there(tmp_path):
    for name in ("m", "relion"):
        (tmp_path / name).mkdir()
    population = SAMPLES["m-project"](tmp_path / "m")
    species = population.parent / "species" / "ribo_797f75c2"
    with pytest.raises(InputError, match="no file is found for tomogram TS_01"):
        read_project([population])
    volume(tmp_path / "elsewhere" / "reconstruction" / f"{TOMOGRAM}_10.00Apx.mrc")
    write(tmp_path / "elsewhere" / "all.source", "<DataSource />")
    text = population.read_text(encoding="utf-16").replace(
        "</Population>", '<Sources><Source GUID="1" Path="../elsewhere/all.source" /></Sources></Population>'
    )
    population.write_text(text, encoding="utf-16")
    volume(species / "ribo_half1.mrc")
    for named in (population, population.parent, species, species / "ribo.species", species / "ribo_particles.star"):
        is_the_truth(read_project([named]))
    (tmp_path / "elsewhere").rename(tmp_path / "warp_tiltseries")
    listed = tmp_path / "relion" / "ribo.star"
    listed.write_bytes((species / "ribo_particles.star").read_bytes())
    is_the_truth(read_project([listed]))


def test_a_population_of_several_species_is_none_of_them(tmp_path):
    population = SAMPLES["m-project"](tmp_path)
    species = population.parent / "species" / "ribo_797f75c2" / "ribo.species"
    other = write(species.with_name("other.species"), "<Species></Species>")
    entries = "".join(f'<Species GUID="1" Path="{path.relative_to(tmp_path)}" />' for path in (species, other))
    population.write_text(f"<Population><Species>{entries}</Species></Population>", encoding="utf-16")
    with pytest.raises(InputError, match=r"2 species \(ribo.species, other.species\)"):
        read_particles(population)


# --- Dynamo -----------------------------------------------------------------------------------------------------------


def dynamo_project(folder: Path) -> Path:
    """An alignment project beside its catalogue, whose volumes were moved; the last iteration is right."""
    for iteration in (1, 9, 10):
        averages = folder / "proj" / "results" / f"ite_{iteration:04d}" / "averages"
        averages.mkdir(parents=True)
        for kind in ("starting", "refined"):
            row = np.zeros((2, 42))
            row[:, 0], row[:, 1], row[:, 19] = [1, 2], 1, 2
            row[:, 23:26] = VOXELS if iteration == 10 and kind == "refined" else 0
            row[:, 6:9] = DYNAMO
            np.savetxt(averages / f"{kind}_table_ref_001_ite_{iteration:04d}.tbl", row, fmt="%.6f")
    volume(folder / "tomograms" / f"{TOMOGRAM}.mrc")
    write(
        folder / "catalogue.vll", f"/lab/old/tomograms/a.mrc\n/lab/old/tomograms/{TOMOGRAM}.mrc\n* ytilt = [-60 60]\n"
    )
    return folder / "proj"


def test_a_project_of_dynamo_is_the_table_of_its_last_iteration_with_its_catalogue_s_volumes(tmp_path):
    project = dynamo_project(tmp_path)
    is_the_truth(read_project([project]))
    is_the_truth(read_project([tmp_path / "tomograms", project]))
    assert "ite_0010" in project_files([project]).notes[0]


def test_subtomograms_of_dynamo_are_no_tomograms(tmp_path):
    SAMPLES["dynamo"](tmp_path)
    volume(tmp_path / "particle_000001.mrc")
    assert project_files([tmp_path]).volumes == ()


# --- EMAN2 ------------------------------------------------------------------------------------------------------------


def eman2_project(folder: Path) -> Path:
    for binning in (4, 8):
        hdf(folder / "tomograms" / f"{TOMOGRAM}__bin{binning}.hdf")
    (folder / "info").mkdir()
    SAMPLES["eman2-boxes"](folder / "info")
    return folder


def test_a_project_of_eman2_is_its_tomograms_with_boxes_and_then_with_its_last_alignment(tmp_path):
    project = eman2_project(tmp_path)
    ((tomogram, found),) = read_project([project]).pairs
    assert tomogram.path.name == f"{TOMOGRAM}__bin4.hdf"
    np.testing.assert_allclose(found.positions, POSITIONS, atol=1e-3)
    assert found.kind.tolist() == ["ribo", "other"]
    # The project says where its tomograms are, whose middle boxes count from.
    np.testing.assert_allclose(
        read_particles(project / "info" / f"{TOMOGRAM}_info.json").positions, POSITIONS, atol=1e-3
    )
    for number in ("00", "01"):
        (project / f"spt_{number}").mkdir()
        SAMPLES["eman2"](project / f"spt_{number}")
    write(project / "spt_01" / "aliptcls3d_01.lst", "#LSX\n")
    is_the_truth(read_project([project]))
    is_the_truth(read_project([project / "tomograms" / f"{TOMOGRAM}__bin8.hdf", project / "spt_01"]))
    is_the_truth(read_project([project / "spt_01" / "aliptcls3d_02.lst"]))


def test_boxes_of_old_files_of_eman2_count_in_voxels_and_a_size_that_is_unknown_is_asked_for(tmp_path):
    boxes = json.dumps({"boxes_3d": [[*row, "manual"] for row in VOXELS.tolist()]})
    old = write(tmp_path / f"{TOMOGRAM}_info.json", boxes)
    np.testing.assert_allclose(read_particles(old, pixel_size=VOXEL).positions, POSITIONS, atol=1e-3)
    path = SAMPLES["eman2"](tmp_path)
    with pytest.raises(InputError, match=r"from the middle of a tomogram.*TS_01 is unknown"):
        read_particles(path)
    (tmp_path / "particles3d" / f"{TOMOGRAM}__ribo_bin2.hdf").unlink()
    with pytest.raises(InputError, match=r"whose size is not found there.*--pixel-size"):
        read_particles(path, extents={TOMOGRAM: EXTENT})
    np.testing.assert_allclose(
        read_particles(path, extents={TOMOGRAM: EXTENT}, pixel_size=5.0).positions, POSITIONS, atol=1e-3
    )
    (tmp_path / "particle_info_3d.lst").unlink()
    with pytest.raises(InputError, match=r"particle_info_3d\.lst"):
        read_particles(path, extents={TOMOGRAM: EXTENT}, pixel_size=5.0)


def test_a_transformation_of_eman2_that_mirrors_is_refused(tmp_path):
    path = SAMPLES["eman2"](tmp_path)
    text = path.read_text().replace('"matrix": "[', '"matrix": "[-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]", "old": "[')
    write(path, text)
    with pytest.raises(InputError, match="is no rotation"):
        read_particles(path, extents={TOMOGRAM: EXTENT})


# --- IMOD and PEET ----------------------------------------------------------------------------------------------------


def test_a_project_of_peet_counts_in_the_voxels_of_its_own_volumes_whatever_is_open(tmp_path):
    folder = tmp_path / "peet"
    folder.mkdir()
    prm = SAMPLES["peet-project"](folder)
    volume(tmp_path / f"{TOMOGRAM}.rec")
    for named in (prm, folder):
        is_the_truth(read_project([named]))
    binned = volume(tmp_path / "binned" / f"{TOMOGRAM}_bin2.mrc", voxel_size=2 * VOXEL)
    is_the_truth(read_project([binned, prm]))
    is_the_truth(read_project([binned, folder / "run_MOTL_Tom1_Iter10.csv"]))
    for path in folder.glob("run_MOTL_*.csv"):
        path.unlink()
    assert read_particles(prm).rotations is None


def test_motive_lists_of_several_tomograms_belong_to_the_volumes_that_their_project_names(tmp_path):
    names = ("a", "b", "c")
    for number, name in enumerate(names, start=1):
        volume(tmp_path / f"{name}.rec")
        (tmp_path / f"{name}.mod").write_bytes(imod_bytes(VOXELS[:1] * 0 + 10.0 * number))
    files = {"fnVolume": [f"{name}.rec" for name in names], "fnModParticle": [f"{name}.mod" for name in names]}
    cells = {entry: ", ...\n  ".join(map(repr, texts)) for entry, texts in files.items()}
    prm = write(tmp_path / "peet.prm", "".join(f"{entry} = {{{texts}}}\n" for entry, texts in cells.items()))
    pairs = read_project([prm]).pairs
    assert [(tomogram.name, own.positions[0, 0]) for tomogram, own in pairs] == [
        ("a", 100.0),
        ("b", 200.0),
        ("c", 300.0),
    ]
    one = read_particles(prm, tomogram="b")
    assert (one.tomogram_names, one.positions[0, 0]) == (["b"], 200.0)
    assert any("a, c" in note and note.startswith("Left out") for note in one.notes)


def test_imodmodel_and_scipy_read_what_is_written_for_imod_and_peet(tmp_path):
    import imodmodel

    particles = Particles(positions=POSITIONS, rotations=ROTATIONS, tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT})
    write_particles(tmp_path / "points.mod", particles)
    points = imodmodel.read(tmp_path / "points.mod")
    np.testing.assert_allclose(points[["x", "y", "z"]].to_numpy(), VOXELS, atol=1e-3)
    header = imodmodel.ImodModel.from_file(tmp_path / "points.mod").header
    assert (header.xmax, header.ymax, header.zmax, header.units) == (*SIZE, -9)
    assert header.pixelsize == pytest.approx(VOXEL / 10)
    write_particles(tmp_path / "a_MOTL_Tom1_Iter1.csv", particles, dialect="peet")
    head, *rows = (tmp_path / "a_MOTL_Tom1_Iter1.csv").read_text().splitlines()
    values = np.array([row.split(",") for row in rows], float)
    names = head.split(",")
    angles = values[:, [names.index(name) for name in ("EulerZ(1)", "EulerX(2)", "EulerZ(3)")]]
    assert angle_deg(zxz_to_matrix(angles), ROTATIONS).max() < 1e-4
    moved = imodmodel.read(tmp_path / "a_MOTL_Tom1_Iter1.mod")[["x", "y", "z"]].to_numpy()
    np.testing.assert_allclose(moved + values[:, 10:13], VOXELS, atol=1e-5)
    several = particles.replace(tomogram=np.array(["a", "b"]), extents=dict.fromkeys("ab", EXTENT))
    with pytest.raises(InputError, match=r"lie in 2 \(a, b\).*--tomogram"):
        write_particles(tmp_path / "b.mod", several)


# --- a folder for each tomogram ---------------------------------------------------------------------------------------


def one_folder_each(folder: Path, *, volume_name: str = "{name}_erase_bin2.rec", list_name: str = "{name}.mod") -> None:
    for number in (1, 2, 3):
        name = f"TS_{number:02d}"
        volume(folder / name / volume_name.format(name=name))
        (folder / name / list_name.format(name=name)).write_bytes(imod_bytes(VOXELS[:1] * 0 + 10.0 * number))
        write(folder / name / f"{name}.tlt", "-60\n0\n60\n")


def shown(project):
    return [(tomogram.name, own.positions[0, 0]) for tomogram, own in project.pairs]


def test_a_folder_with_a_folder_for_each_tomogram_is_a_project(tmp_path):
    one_folder_each(tmp_path)
    volume(tmp_path / "raw" / "x.rec")
    (tmp_path / "empty").mkdir()
    expected = [(f"TS_0{number}_erase_bin2", 100.0 * number) for number in (1, 2, 3)]
    assert shown(read_project([tmp_path])) == expected
    assert shown(read_project([tmp_path / "TS_*" / "*.rec", tmp_path / "TS_*" / "*.mod"])) == expected


def test_files_that_are_called_alike_belong_together_by_their_folders(tmp_path):
    one_folder_each(tmp_path, volume_name="tomo.rec", list_name="picks.mod")
    expected = [(f"TS_0{number}", 100.0 * number) for number in (1, 2, 3)]
    assert shown(read_project([tmp_path])) == expected
    assert shown(read_project([tmp_path / "*" / "tomo.rec", tmp_path / "*" / "picks.mod"])) == expected


def test_a_folder_without_anything_names_the_folders_in_it_that_have_something(tmp_path):
    volume(tmp_path / "recon" / "a.rec")
    (tmp_path / "picks").mkdir()
    write(tmp_path / "picks" / "a.coords", "1 2 3\n")
    with pytest.raises(InputError, match=r"picks.*recon do\. Name the files"):
        read_project([tmp_path])


# --- names and places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ts01__bin4", "ts01"),
        ("ts01_info", "tomograms/ts01__bin8.hdf"),
        ("TS_01_erase_bin2", "TS_01"),
        ("TS_01_goldfree", "TS_01.rec"),
        ("TS_01_no_gold_bin4", "TS_01"),
    ],
)
def test_what_programs_add_to_a_name_is_passed_over(name, other):
    assert same_tomogram(name, other)
    assert match_tomogram(name, [other, "TS_02"]) == other


def test_where_a_project_was_moved_its_files_are_found_by_the_last_folders_of_their_paths(tmp_path):
    volume(tmp_path / "tomograms" / "a" / "tomo.mrc")
    volume(tmp_path / "tomograms" / "b" / "tomo.mrc")
    table = SAMPLES["dynamo"](tmp_path)
    (tmp_path / "tomograms.doc").unlink()
    write(tmp_path / "aligned.doc", "3 /somewhere/else/tomograms/b/tomo.mrc\n")
    ((tomogram, _),) = read_project([table]).pairs
    assert tomogram.path.parent.name == "b"
    assert tomogram.path.samefile(tmp_path / "tomograms" / "b" / "tomo.mrc")

"""Reports and `about`: a page that needs no other file, says what was measured, and is read back."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.quiver import Quiver

from engine.phantom import VOXEL_SIZE, molecule
from engine.phantom import tomogram as phantom
from napari_orient.cli import main
from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.io import read_particles, write_particles, write_tomogram
from napari_orient.engine.particles import Particles, Tomogram, classes_notes
from napari_orient.engine.reports.figures import largest_gap_deg, overview, uniform_views_p
from napari_orient.engine.reports.page import HtmlPage, read_record
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import random_rotations

WRONG = 3


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A tomogram, true poses, poses of which three are wrong, and the map."""
    import torch

    folder = tmp_path_factory.mktemp("lab")
    volume, truth, _ = phantom(molecule(), noise=1.0, count=(1, 4, 6))
    extents = {"tomo": volume.extent}
    truth = truth.replace(tomogram=np.full(len(truth), "tomo"))
    write_tomogram(folder / "tomo.mrc", volume.density, voxel_size=VOXEL_SIZE)
    write_particles(folder / "truth.star", truth, extents=extents)
    angles = np.full(len(truth), 4.0)
    angles[:WRONG] = 90.0
    rotvecs = torch.as_tensor(np.radians(angles)[:, None] * np.array([[0.0, 0.0, 1.0]]))
    rotations = truth.rotations @ rotvec_to_matrix(rotvecs).numpy()
    posed = truth.replace(rotations=rotations, expected_error_deg=np.full(len(truth), 5.0))
    write_particles(folder / "posed.star", posed, extents=extents, provenance="napari-orient 0: <made> for a test")
    write_tomogram(folder / "map.mrc", molecule().density(24), voxel_size=VOXEL_SIZE)
    return folder


class Outline(HTMLParser):
    """Tags, the text of headings and paragraphs, and whatever a page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.fetched, self.pictures = [], [], [], []
        self.feed(text)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "img", "!doctype"):
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(attrs)
        self.fetched += [value for name, value in attrs.items() if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "p", "td", "th"):
            self.words.append(data)


def page_of(path):
    return Outline(path.read_text(encoding="utf-8"))


def test_a_report_says_what_was_measured_and_needs_no_other_file(lab, tmp_path, capsys):
    out = tmp_path / "report.html"
    words = ["report", lab / "tomo.mrc", lab / "posed.star", "--truth", lab / "truth.star"]
    words += ["--reference", lab / "map.mrc", "--diameter", "150", "--output", out]
    assert main([str(word) for word in words]) == 0
    page = page_of(out)
    text = " ".join(page.words)
    assert f"{24 - WRONG} of 24 poses are right within 20°" in text
    assert re.search(r"Sure \(expected below 10°\): \d+; of these wrong \(by more than 20°\): \d+\.", text)
    assert "the median error is 4.0°" in text
    for heading in ("True errors", "all views there?", "Failure regions", "Worst and best particles", "What was run"):
        assert heading in text
    assert "3 failures" in text
    assert "napari-orient 0: <made> for a test" in text
    assert all(link.startswith("data:image/png;base64,") for link in page.fetched)
    assert len(page.pictures) == 5
    assert all(picture["alt"] for picture in page.pictures)
    assert str(lab) not in out.read_text(encoding="utf-8"), "no path of this machine is passed on"
    scores = read_record(out)["scores"]["all"]
    assert scores["count"] == 24
    assert main(["about", str(out)]) == 0
    assert f"{21 / 24:.1%} within 20°" in capsys.readouterr().out


def test_folders_patterns_and_several_lists_make_one_report(lab, tmp_path, capsys):
    recon, out = tmp_path / "recon", tmp_path / "report.html"
    recon.mkdir()
    (recon / "tomo.mrc").symlink_to(lab / "tomo.mrc")
    write_tomogram(recon / "without_picks.mrc", np.ones((8, 8, 8), np.float32), voxel_size=VOXEL_SIZE)
    for named in ([recon], [recon / "*.mrc"]):
        assert main(["report", *map(str, [*named, lab / "posed.star"]), "--output", str(out)]) == 0
        assert read_record(out)["tomograms"] == ["tomo"]
        assert "tomogram tomo" in read_record(out)["run"]
    assert main(["report", str(lab / "posed.star"), str(lab / "truth.star"), "--output", str(out)]) == 0
    assert (read_record(out)["particles"], read_record(out)["title"]) == (48, "Poses of posed.star, truth.star")
    assert "report on 48 particles" in capsys.readouterr().out


def test_without_truth_a_report_has_expected_errors_and_says_so(lab, tmp_path):
    out = tmp_path / "report.html"
    assert main(["report", str(lab / "posed.star"), "--output", str(out)]) == 0
    text = " ".join(page_of(out).words)
    assert "the median expected error is 5.0°" in text
    assert "No true poses were given" in text
    assert "Worst and best" not in text


def test_without_truth_a_report_is_on_the_poses_that_are_chosen(lab, tmp_path, capsys):
    chosen = ["report", lab / "tomo.mrc", lab / "posed.star", "--output", tmp_path / "r.html", "--where", "x > 700"]
    assert main(list(map(str, chosen))) == 0
    kept = int((read_particles(lab / "posed.star").positions[:, 0] > 700).sum())
    assert 0 < kept < 24
    assert f"report on {kept} particles" in capsys.readouterr().out
    assert main(["report", str(lab / "posed.star"), "--class", "other", *map(str, chosen[3:5])]) == 2
    assert "class 'other' was asked for, but these particles carry no class" in capsys.readouterr().err


def test_a_report_counts_the_particles_that_have_no_true_one(lab, tmp_path, capsys):
    truth = read_particles(lab / "truth.star")[:10]
    some = truth.replace(tomogram="another", extents={"another": truth.extents["tomo"]})
    write_particles(tmp_path / "some.star", some)
    out = tmp_path / "r.html"
    given = [str(lab / "posed.star"), "--truth", str(tmp_path / "some.star"), "--diameter", "150"]
    assert main(["report", *given, "--output", str(out)]) == 0
    text = " ".join(page_of(out).words)
    assert "14 of 24 particles have no true one beside them" in text
    assert "lie in tomo, the true ones in another; both were taken for one tomogram" in text
    assert main(["evaluate", str(lab / "posed.star"), str(tmp_path / "some.star")]) == 0
    assert "both were taken for one tomogram" in capsys.readouterr().out


def test_evaluate_average_and_refine_leave_the_same_page(lab, tmp_path):
    evaluated, averaged, refined = (tmp_path / f"{name}.html" for name in ("evaluate", "average", "refine"))
    assert main(["evaluate", *map(str, (lab / "posed.star", lab / "truth.star")), "--report", str(evaluated)]) == 0
    assert read_record(evaluated)["scores"]["all"]["count"] == 24
    words = ["average", lab / "tomo.mrc", lab / "truth.star", "--side", "24", "--output", tmp_path / "map.mrc"]
    assert main([*map(str, words), "--report", str(averaged)]) == 0
    assert "Average of the particles" in " ".join(page_of(averaged).words)
    words = ["refine", lab / "tomo.mrc", lab / "truth.star", "--reference", lab / "map.mrc", "--output"]
    words += [tmp_path / "out.star", "--precision", "fast", "--rotations", "300", "--max-shift", "0"]
    assert main([*map(str, words), "--report", str(refined)]) == 0
    outline = page_of(refined)
    assert "Expected errors" in outline.words
    assert "refined against" in outline.words
    assert any("wedge" in word.lower() for word in outline.words), "what was noted on the way is kept"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--network template --rotations 576 --side 20 --radius 80", []),
        ("--epochs 2 --width 8 --depth 1 --patch-side 20 --mask-radius 80", ["hardly learnt the particle"]),
    ],
)
def test_a_training_leaves_a_page_on_its_errors_and_about_reads_it(lab, tmp_path, capsys, words, shown):
    page, model = tmp_path / "page.html", tmp_path / "mine.safetensors"
    named = ["train", lab / "tomo.mrc", lab / "truth.star", "--output", model, "--report", page]
    assert main([*map(str, named), *words.split()]) == 0
    said = capsys.readouterr().out
    outline = page_of(page)
    text = " ".join(outline.words)
    for each in ("Errors on the validation part", *shown):
        assert each in text
    assert len(outline.pictures) == len(shown), "one average alone is no curve"
    median = re.search(r"validation median (\S+°)", said)[1]
    assert f"the median error is {median}" in text
    assert main(["about", str(page)]) == 0
    assert f"median error of the validation part {median}" in capsys.readouterr().out


def test_what_cannot_be_reported_is_refused_before_the_work_in_one_line(lab, tmp_path, capsys):
    def refused(*words):
        assert main([str(word) for word in words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    predict = ["predict", lab / "tomo.mrc", lab / "truth.star", "--output", tmp_path / "o.star"]
    assert "ends in .html" in refused(*predict, "--report", tmp_path / "report.pdf")
    assert "is not a folder" in refused("report", lab / "posed.star", "--output", tmp_path / "no" / "r.html")
    picks = read_particles(lab / "truth.star").replace(rotations=None)
    write_particles(tmp_path / "picks.csv", picks)
    assert "no orientations" in refused("report", tmp_path / "picks.csv", "--output", tmp_path / "r.html")
    assert "--diameter" in refused("report", lab / "posed.star", "--diameter", "-1", "--output", tmp_path / "r.html")
    assert {path.name for path in tmp_path.iterdir()} == {"picks.csv"}


def test_about_reads_every_kind_of_file_back(lab, tmp_path, capsys):
    (tmp_path / "tilts.tlt").write_text("\n".join(map(str, range(-60, 61, 3))) + "\n")
    files = [lab / "posed.star", lab / "map.mrc", "ribosome", tmp_path / "tilts.tlt"]
    assert main(["about", *map(str, files)]) == 0
    said = capsys.readouterr().out
    for words in ("particle list, 24 particles", "median 5.0°", "24 × 24 × 24 voxels of 10 Å", "ribosome (template)"):
        assert words in said
    assert "tilt metadata, 41 images" in said
    (tmp_path / "picks.tbl").write_text("1 1 1 " + "0 " * 16 + "7 1 0 0 30 40 50" + " 0" * 9 + "\n")
    (tmp_path / "tomograms.star").write_text("data_global\n\nloop_\n_rlnTomoName #1\nTS_01\nTS_02\n")
    assert main(["about", *(str(tmp_path / name) for name in ("nothing.star", "picks.tbl", "tomograms.star"))]) == 1
    said = capsys.readouterr()
    assert "nothing.star is not there" in said.err
    for words in ("picks.tbl: particle list, 1 particle", "give the size in Å", "table of tomograms, 2 of them"):
        assert words in said.out
    assert "voxelSizeAngst" not in said.out
    write_tomogram(tmp_path / "one.mrc", np.zeros((4, 5, 6)), voxel_size=1.0)
    (tmp_path / "short.mrc").write_bytes((lab / "map.mrc").read_bytes()[:-9])
    assert main(["about", str(tmp_path / "one.mrc")]) == 0
    assert "6 × 5 × 4 voxels of unknown size" in capsys.readouterr().out
    assert main(["about", str(tmp_path / "short.mrc")]) == 2
    assert "is cut short" in capsys.readouterr().err
    assert main(["about", str(lab)]) == 0
    assert "tomograms: map.mrc, tomo.mrc" in (said := capsys.readouterr().out)
    assert "lists of particles: " in said
    (tmp_path / "page.html").write_text("<p>none of ours</p>")
    assert main(["about", str(tmp_path / "page.html")]) == 2
    assert "no report of this program" in capsys.readouterr().err
    assert main(["about", str(tmp_path / "nothing.star")]) == 2
    (tmp_path / "noise.bin").write_bytes(bytes(range(200)))
    assert main(["about", str(tmp_path / "noise.bin")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_texts_of_files_cannot_become_markup():
    page = HtmlPage("<script>alert(1)</script>")
    page.paragraph('"quoted" & <b>')
    page.table([("</td><script>", "x")])
    page.record({"title": "</script><script>alert(1)</script>"})
    assert re.findall(r"<script[^>]*>", page.text) == ['<script type="application/json" id="napari-orient-report">']


def test_particles_of_several_classes_are_not_averaged_or_refined_as_one_without_a_word(lab, tmp_path, capsys):
    mixed = read_particles(lab / "posed.star").replace(kind=np.where(np.arange(24) % 3, "abc", "xyz"))
    write_particles(tmp_path / "mixed.star", mixed)
    for verb in (("average",), ("refine", "--reference", lab / "map.mrc")):
        given = [verb[0], lab / "tomo.mrc", tmp_path / "mixed.star", *verb[1:], "--dry-run", "--slurm-cores", "2"]
        assert main([*map(str, given), "--output", str(tmp_path / ("o.mrc" if len(verb) == 1 else "o.star"))]) == 0
        said = capsys.readouterr().err
        assert "of 2 classes, taken for one: 16 of abc, 8 of xyz. Choose a class (--class)." in said
        assert "Note: --slurm-cores: of SLURM's jobs, not heeded without --scheduler slurm:N." in said
    assert classes_notes([mixed], ["abc"]) == [
        "The model is of abc; the list has xyz. Poses of other particles mean nothing (see --class)."
    ]


def test_uneven_views_and_gaps_between_them_are_found():
    rng = np.random.default_rng(0)
    even = random_rotations(300, rng)
    assert uniform_views_p(even) > 0.01
    assert largest_gap_deg(even) < 20
    flat = even[np.abs(even[:, 2, 2]) < 0.5]
    assert uniform_views_p(flat) < 1e-6
    assert 50 < largest_gap_deg(flat) < 70


def test_a_pair_at_the_edge_of_the_slab_is_drawn_whole_or_not_at_all():
    place = np.array([[200.0, 200, 245], [200, 300, 255], [200, 400, 100]])
    rotations = np.stack([np.eye(3)] * 3)
    truth = Particles(positions=place, rotations=rotations)
    predicted = Particles(positions=place + np.array([0, 0, 10]), rotations=rotations)
    tomogram = Tomogram(np.zeros((20, 50, 50), np.float32), 10.0, "thin")
    figure = overview(tomogram, evaluate(predicted, truth), title="")
    true, found = (item for item in figure.axes[0].collections if isinstance(item, Quiver))
    assert true.N == found.N == 2

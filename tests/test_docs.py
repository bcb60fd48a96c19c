"""The docs are true: links lead somewhere, tables are the code's, every command is one, and the tutorial runs."""

import json
import re
import runpy
import sys
import types
from pathlib import Path

import pytest

from napari_orient.cli import VERBS, main, parser_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

BLOCKS = runpy.run_path(str(ROOT / "docs" / "blocks.py"))
blocks, commands = BLOCKS["blocks"], BLOCKS["commands"]


@EVERY_PAGE
def test_links_and_pictures_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@EVERY_PAGE
def test_every_command_is_one_that_the_program_takes(page):
    for language, text in blocks(page):
        for verb, *words in commands(text) if language == "sh" else []:
            if not verb.startswith("-"):
                parser_of(verb)[1].parse_args(words)


def test_the_examples_of_help_are_commands_that_the_program_takes():
    for name in VERBS:
        verb, parser = parser_of(name)
        for _, *words in commands("\n".join(line.strip() for line in verb.EXAMPLE.splitlines())):
            parser.parse_args(words)


def test_the_options_page_is_what_the_code_declares():
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    declared = runpy.run_path(str(ROOT / "docs" / "options.py"))["page"]()
    assert written == declared, "run: python docs/options.py"


def test_the_tree_of_the_architecture_page_is_that_of_the_source():
    written = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "docs" / "architecture.py"))["page"](), (
        "run: python docs/architecture.py"
    )


@pytest.mark.parametrize("name", ["architecture.md", "glossary.md", "method.md"])
def test_files_and_names_of_the_source_that_a_page_mentions_are_there(name):
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    source = ROOT / "src" / "napari_orient"
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in [*source.rglob("*.py"), *ROOT.glob("benchmarks/*.py")]
    )
    for word in re.findall(r"`([\w./]+)`", text):
        if word.endswith(".py"):
            assert any((base / word).exists() for base in (ROOT, source)), word
        elif re.fullmatch(r"engine/[\w/]+|(model|matching|refinement|io)/\w+", word):
            assert any(list((base).glob(f"{word}*")) for base in (source, source / "engine")), word
        elif re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*(\.\w+)?|[a-z]+_[a-z_]+", word) and not word.startswith("rln"):
            assert word.split(".")[-1] in sources, word


def test_the_api_page_is_what_the_docstrings_say():
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "docs" / "api.py"))["page"](), "run: python docs/api.py"


def test_the_page_of_formats_is_what_the_registry_says():
    written = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "docs" / "formats.py"))["page"](), "run: python docs/formats.py"


def test_the_notebook_runs_and_shows_what_it_promises():
    notebook = runpy.run_path(str(ROOT / "docs" / "notebook.py"))["executed"]()
    shown = [item for cell in notebook["cells"] for item in cell.get("outputs", [])]
    text = "".join(line for item in shown for line in item.get("text", item.get("data", {}).get("text/plain", [])))
    assert "30 particles matched" in text
    assert "Average(30 particles" in text
    assert sum("image/png" in item.get("data", {}) for item in shown) == 3
    stored = json.loads((ROOT / "docs" / "first_steps.ipynb").read_text(encoding="utf-8"))
    assert [len(cell.get("outputs", [])) for cell in stored["cells"]] == [
        len(cell.get("outputs", [])) for cell in notebook["cells"]
    ], "run: python docs/notebook.py"


def test_the_tables_of_the_reproduced_paper_are_those_of_the_run_that_is_kept_beside_it():
    written = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "docs" / "paper.py"))["filled_page"](), "run: python docs/paper.py DIR"


@pytest.mark.parametrize("site", [None, "https://orient.example/docs/"])
def test_the_description_of_the_package_leads_nowhere_that_is_not_there(site, monkeypatch):
    # hatchling is there where packages are built.
    hook = types.ModuleType("hatchling.metadata.plugin.interface")
    hook.MetadataHookInterface = object
    monkeypatch.setitem(sys.modules, hook.__name__, hook)
    described = runpy.run_path(str(ROOT / "scripts" / "package_readme.py"))["described"]
    text = described((ROOT / "README.md").read_text(encoding="utf-8"), site)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert all(target.startswith("https://") for target in targets)
    assert "pip install 'napari-orient[viewer]'" in text
    assert "./scripts" not in text
    pages = [target.removeprefix(site).partition("#")[0] for target in targets if site and target.startswith(site)]
    tops = {"changelog.html", "contributing.html"}
    files = [ROOT / "docs" / page.replace(".html", ".md") for page in pages if page not in tops]
    assert [file for file in files if not file.exists()] == []
    assert bool(pages) == (site is not None)


def test_ten_questions_are_one_click_from_the_readme_and_each_answer_leads_on_by_one_more():
    assert "(docs/questions.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    _, *answers = re.split(
        r"^## \d+\. ", (ROOT / "docs" / "questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(answers) == 10
    for answer in answers:
        question, _, text = answer.partition("\n")
        assert question.endswith("?"), question
        assert any((ROOT / "docs" / page).is_file() for page in re.findall(r"\]\(([\w-]+\.md)", text)), question


def test_scripts_that_the_readme_names_are_there_and_can_be_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\./(\S+)", readme, re.MULTILINE)
    assert named == ["scripts/demo", "scripts/test"]
    assert all((ROOT / name).stat().st_mode & 0o111 for name in [*named, "scripts/setup", "scripts/gates", ".ci/run"])


@EVERY_PAGE
def test_every_test_that_a_page_names_is_there(page):
    every = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if f"def {name}(" not in every] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that a reader works in: pages after the tutorial take up what it left."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize("name", BLOCKS["RUN_IN_ORDER"])
def test_the_blocks_of_a_page_run_in_order_and_print_what_it_says(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    printed = ""
    for language, text in blocks(ROOT / "docs" / name):
        if language == "python":
            exec(compile(text, name, "exec"), {})
        if language == "text":
            assert list(BLOCKS["lines_that_did_not_come"](text, printed)) == [], printed
        if language == "sh":
            printed = "".join(_printed(words, capsys, monkeypatch) for words in commands(text))


def _printed(words, capsys, monkeypatch):
    """What a command prints at a terminal, with the next command; it must end well and print something."""
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    status, (out, err) = main(words), capsys.readouterr()
    assert status == 0, err
    assert out
    return "".join([out, *(line for line in err.splitlines(keepends=True) if line.startswith("Next: "))])


def test_a_line_that_a_page_shows_must_come_with_about_its_numbers():
    missing = BLOCKS["lines_that_did_not_come"]
    assert list(missing("a  0.68°\n…\nb 24", "b 24\na 0.71° \n")) == []
    assert list(missing("a 0.68°\nb 24\nc", "a 1.4°\nb 48\n")) == ["a 0.68°", "b 24", "c"]


def test_the_commands_of_a_project_run_in_order_and_what_is_done_is_not_done_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = BLOCKS["project_block"](ROOT / "docs")
    written = []
    for words in commands(text):
        assert main(words) == 0, capsys.readouterr().err
        said = capsys.readouterr()
        if words[0] == "predict" and "--dry-run" not in words:
            written.append(Path("oriented.star").read_bytes())
    assert "36" in said.out
    assert len(written) == 2
    assert written[0] == written[1]
    states = Path("oriented_status.csv").read_text(encoding="utf-8")
    assert states.count("done before") == 3

"""A lesson that keeps the contract passes; each rule is then broken alone, and only that rule speaks."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from avlab.course.contract import Violation, check

SCRATCH = """\
def loudness(waveform, frames):
    parts = waveform.reshape(frames, -1)
    total = 0
    for part in parts:
        total = total + part
    return total"""


def lesson(number: str = "01") -> nbformat.NotebookNode:
    def code(source, *tags, **metadata):
        return new_code_cell(source, metadata={"tags": list(tags)} | metadata)

    hidden = {"jupyter": {"source_hidden": True}}
    exercises = [
        cell
        for n in range(3)
        for cell in (
            code(f"answer{n} = None", "exercise"),
            code(f"solution{n} = {n}", "solution", **hidden),
            code(f"print(solution{n})", "check"),
        )
    ]
    book = new_notebook(
        cells=[
            new_markdown_cell(f"# {number} · Theme\n\n10 minutes to read"),
            code('profile = "quick"\nseed = 0\ndevice = "auto"', "parameters"),
            code(f'import avlab\n\nlab = avlab.start("{number}_theme", profile=profile, seed=seed, device=device)'),
            new_markdown_cell("An idea.", metadata={"avlab": {"concepts": ["sec1"]}}),
            code("from avlab.clip import Clip\nimport torch\n" + SCRATCH),
            code("torch.testing.assert_close(loudness(torch.ones(4), 2), torch.ones(2) * 2)", "agree"),
            code("guess = 1", "predict"),
            code("slider = 1", "widget"),
            code("lab.record('a', 1.0)\nlab.expect('b', True)\nlab.control('c', 0.0, chance=1 / 128)"),
            *exercises,
            new_markdown_cell("## What the survey says\n## What we saw\n## What we did not test\n## References"),
        ]
    )
    book.metadata["avlab"] = {
        "section": "1",
        "concepts": ["sec1"],
        "requires": [],
        "budget": {"seconds": 60, "rss_mb": 900, "html_kb": 900},
        "minutes": 10,
    }
    return book


@pytest.fixture
def verdict(tmp_path):
    """Write a lesson into a project and check it: the rules broken, as `{(rule, cell)}`."""
    (tmp_path / "data" / "survey").mkdir(parents=True)
    (tmp_path / "data" / "survey" / "concepts.json").write_text(json.dumps({"nodes": [{"id": "sec1"}, {"id": "sec2"}]}))
    (tmp_path / "notebooks").mkdir()

    def write_and_check(book, name="01_theme"):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        nbformat.write(book, path)
        return check(path)

    return write_and_check


def test_a_lesson_that_keeps_the_contract_has_no_violation(verdict):
    assert verdict(lesson()) == []


def edit(place, **changes):
    """A change of the cell at `place` (counted from 1)."""

    def change(book):
        for key, value in changes.items():
            book.cells[place - 1][key] = value

    return change


def add(source, *tags):
    return lambda book: book.cells.insert(9, new_code_cell(source, metadata={"tags": list(tags)}))


def meta(**changes):
    return lambda book: book.metadata["avlab"].update(changes)


BUDGET = {"seconds": 60, "rss_mb": 900, "html_kb": 900}
BREAKS = {
    "title missing": (edit(1, source="# Theme, minutes"), "title", 1),
    "title without minutes": (edit(1, source="# 01 · Theme"), "title", 1),
    "no parameters tag": (edit(2, metadata={}), "parameters", None),
    "two parameters tags": (add("x = 1", "parameters"), "parameters", None),
    "parameters too long": (
        edit(2, source='profile = "quick"\nseed = 0\ndevice = "auto"\na = 1\nb = 2\nc = 3'),
        "parameters",
        2,
    ),
    "full by default": (edit(2, source='profile = "full"\nseed = 0\ndevice = "auto"'), "parameters", 2),
    "start without seed": (
        edit(3, source='import avlab\nlab = avlab.start("01_theme", profile=profile, device=device)'),
        "start",
        3,
    ),
    "start of another": (
        edit(3, source='import avlab\nlab = avlab.start("02_x", profile=profile, seed=seed, device=device)'),
        "start",
        3,
    ),
    "no start": (edit(3, source="import avlab\nlab = None"), "start", 2),
    "outputs": (edit(7, outputs=[new_output("stream", text="1")]), "outputs", 7),
    "execution count": (edit(7, execution_count=5), "outputs", 7),
    "widget state": (lambda book: book.metadata.update(widgets={"state": {"a": 1}}), "outputs", None),
    "large file": (add("data = '" + "x" * 151_000 + "'"), "size", None),
    "long cell": (add("\n".join(f"x{n} = {n}" for n in range(41))), "cell length", 10),
    "long class": (add("class Net:\n" + "\n".join(f"    a{n} = {n}" for n in range(30))), "class length", 10),
    "unknown tag": (add("x = 1", "raises-exception"), "tag", 10),
    "no metadata": (lambda book: book.metadata.pop("avlab"), "metadata", None),
    "budget over the limit": (meta(budget=BUDGET | {"seconds": 91}), "metadata", None),
    "budget missing": (meta(budget={"seconds": 5, "rss_mb": 5}), "metadata", None),
    "requires nothing known": (meta(requires=["00_nowhere"]), "metadata", None),
    "unknown concept": (edit(4, metadata={"avlab": {"concepts": ["sec1", "sec9"]}}), "concepts", 4),
    "concept not in the survey": (meta(concepts=["sec1", "sec9"]), "concepts", None),
    "concept not taught": (meta(concepts=["sec1", "sec2"]), "concepts", None),
    "open solution": (edit(11, metadata={"tags": ["solution"]}), "exercise", 11),
    "open prediction": (edit(7, source="card = predict('Why?', ['a', 'b'])"), "predict", 7),
    "open quiz": (add("quiz('Ask yourself.', [])"), "predict", 10),
    "discussion": (edit(5, metadata={"avlab": {"discussion": "Why?"}}), "discussion", 5),
    "exercise without check": (edit(12, metadata={}), "exercise", None),
    "two exercises": (lambda book: book.cells.__delitem__(slice(9, 12)), "exercise", None),
    "no prediction": (edit(7, metadata={}), "skeleton", None),
    "no explorer": (edit(8, metadata={}), "skeleton", None),
    "no ending": (edit(19, source="## References"), "skeleton", None),
    "no agreement": (edit(6, source="x = 1"), "agree", 6),
    "no record": (edit(9, source="lab.expect('b', True)\nlab.control('c', 0.0, chance=1 / 128)"), "outcomes", None),
    "no expect": (edit(9, source="lab.record('b', 1)\nlab.control('c', 0.0, chance=1 / 128)"), "outcomes", None),
    "no control": (edit(9, source="lab.record('b', 1)\nlab.expect('c', True)"), "outcomes", None),
    "absolute path": (add("path = '/home/me/clips'"), "path", 10),
    "home path": (add("path = '~/clips'"), "path", 10),
    "windows path": (add(r"path = 'C:\\clips'"), "path", 10),
    "pip": (add("!pip install torch"), "python", 10),
    "magic": (add("%pip install torch"), "python", 10),
    "ending in prose": (edit(19, source="What the survey says, what we saw, references"), "skeleton", None),
    "another program": (add("import os\nwith os.popen('ls') as f:\n    f.read()"), "network", 10),
    "metadata of another type": (lambda book: book.metadata.update(avlab=7), "format", None),
    "program": (add("import os\nos.system('ls')"), "network", 10),
    "subprocess": (add("import subprocess"), "network", 10),
    "url": (add("url = 'https://example.org/a.mp4'"), "network", 10),
    "fetcher": (add("from urllib.request import urlopen"), "network", 10),
    "unknown import": (add("from avlab.clip import Film"), "names", 10),
    "unknown module": (add("import avlab.films"), "names", 10),
    "unknown attribute": (add("avlab.clip.Film"), "names", 10),
    "unknown attribute of an alias": (add("import avlab.clip as c\nc.Film()"), "names", 10),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_broken_alone_is_the_one_that_is_named(verdict, name):
    change, rule, cell = BREAKS[name]
    book = lesson()
    change(book)
    found = verdict(book)
    assert {(violation.rule, violation.cell) for violation in found} == {(rule, cell)}, found
    assert all(violation.message for violation in found)


def test_a_function_that_stands_in_another_lesson_is_found_under_other_names(verdict):
    verdict(lesson("00"), "00_other")
    renamed = SCRATCH.replace("loudness", "power").replace("parts", "pieces").replace("waveform", "sound")
    book = lesson()
    book.cells[4].source = renamed.replace("    pieces", '    """Sum."""\n    pieces')
    book.cells[5].source = book.cells[5].source.replace("loudness", "power")
    (violation,) = verdict(book)
    assert (violation.rule, violation.cell) == ("repeated", 5)
    assert "00_other: loudness" in violation.message
    book.cells[4].source = renamed.replace("total + part", "total - part")
    assert verdict(book) == []


def test_a_function_that_stands_in_avlab_is_found(verdict):
    import inspect

    from avlab.clip import collate

    book = lesson()
    book.cells.insert(9, new_code_cell(inspect.getsource(collate).replace("collate", "stack")))
    assert ("repeated", 10) in {(violation.rule, violation.cell) for violation in verdict(book)}


def test_the_way_in_needs_no_results_of_its_own_and_the_last_exercise_may_be_open(verdict):
    book = lesson("00")
    book.cells = [*book.cells[:4], *book.cells[6:8], *book.cells[9:12]]
    assert verdict(book, "00_theme") == []
    book = lesson()
    book.cells.insert(18, new_code_cell("open_question = None", metadata={"tags": ["exercise"]}))
    assert verdict(book) == []


def test_file_names_and_files_that_are_no_notebooks(verdict, tmp_path):
    assert "file name" in {violation.rule for violation in verdict(lesson(), "lesson")}
    path = tmp_path / "notebooks" / "02_broken.ipynb"
    path.write_text("{}")
    assert [violation.rule for violation in check(path)] == ["format"]


def test_a_notebook_without_the_surveys_concepts_and_a_harmless_system(verdict, tmp_path):
    book = lesson()
    book.cells.insert(9, new_code_cell("import platform\nplatform.system()"))
    assert verdict(book) == []
    (tmp_path / "data" / "survey" / "concepts.json").unlink()
    assert "no data/survey/concepts.json" in verdict(book)[0].message


def test_a_violation_reads_as_one_line():
    assert str(Violation("01_x", 5, "path", "no")) == "01_x, cell 5 [path] no"
    assert str(Violation("01_x", None, "size", "no")) == "01_x [size] no"

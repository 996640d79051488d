"""Every edition of a lesson: what it must hold, what it must not, and what stops it from being made."""

import copy
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from avlab import cli
from avlab.course import editions, exercises, page, site, slides

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
STUB = 'exercise("Add.", number={})\n\n\ndef add{}(a, b):\n    raise NotImplementedError'
SOLUTION = "def add{}(a, b):\n    total = a + b  # the sum\n    return total"
CHECK = "check('add', (add{}(1, 2) == 3, 'One and two.'))\ncheck('add', (add{}(0, 2) == 2, 'None and two.'));"
PREDICT = """\
n = 3
card = predict("How many?", ["one", f"{n} <b>or</b> more"], answer=1, why=["Look again.", f"There are {n + 1}."])"""
HELD = {1: {"wrong": {"takes away": "a - b", "both": "x", "none": "y"}, "right": {"sum": "sum((a, b))"}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def tagged(source: str, tag: str, **data: object) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"tags": [tag], **data})


def small() -> nbformat.NotebookNode:
    """A lesson with one exercise of each sort, a prediction and something to discuss."""
    book = new_notebook(metadata={"avlab": {"minutes": 5}})
    picture = new_output("display_data", data={"image/png": PNG}, metadata={"image/png": {"alt": 'a "dot"'}})
    record = new_output("display_data", data={slides.OUTCOME_MIME: {}, "text/html": "record"})
    words = new_output("display_data", data={"text/markdown": "It is **7**."})
    book.cells = [
        new_markdown_cell("# 07 · Adding\n\n**What sums are.**\n\nAfterwards you can add $a + b$."),
        tagged("profile = 'quick'\nseed = 0", "parameters"),
        new_markdown_cell("## One & two\n\nFirst words.\n\n$$a + b$$\n\nMore words."),
        new_code_cell("show_sums()", outputs=[picture, record]),
        new_markdown_cell(
            "What the picture says.\n\n## Guess\n\nThink, then choose.",
            metadata={"avlab": {"concepts": ["gap.hetero"], "discussion": ["Why <i>this</i>?", "What if not?"]}},
        ),
        tagged(PREDICT, "predict", jupyter={"source_hidden": True}),
        new_code_cell("words()", outputs=[words]),
        tagged(STUB.format(1, ""), "exercise"),
        tagged(SOLUTION.format(""), "solution", jupyter={"source_hidden": True}),
        tagged(CHECK.format("", ""), "check"),
        tagged(STUB.format(2, 2), "exercise"),
    ]
    for place, cell in enumerate(book.cells):
        cell.id = f"c{place:02}"
    return book


def project(folder: Path, book: nbformat.NotebookNode, stem: str = "07_adding", status: str = "ok") -> tuple:
    """The lesson, its answers and a run of it, as files: (lesson, folder of the run)."""
    lesson = folder / "notebooks" / f"{stem}.ipynb"
    for name in ("notebooks", "tests/exercises", "runs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    bare = copy.deepcopy(book)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(bare, lesson)
    (folder / "tests" / "exercises" / f"{stem}.py").write_text(f"ANSWERS = {HELD!r}\n")
    nbformat.write(book, folder / "runs" / f"{stem}.ipynb")
    result = {"status": status, "cells": [{"cell": 4, "seconds": 1.25}, {"cell": 8, "seconds": 0.5}]}
    (folder / "runs" / "results.json").write_text(json.dumps({"notebooks": {stem: result}}))
    return lesson, folder / "runs"


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def test_the_student_edition_keeps_stubs_and_checks_and_holds_nothing_for_teachers():
    edition = editions.student(small())
    text = nbformat.writes(edition)
    assert "raise NotImplementedError" in text
    assert "One and two." in text
    assert [tag for cell in edition.cells for tag in cell.metadata.get("tags", ()) if tag == "solution"] == []
    assert "total" not in text
    assert "What if not?" not in text
    assert len(edition.cells) == len(small().cells) - 1
    nbformat.validate(edition)


@pytest.mark.parametrize("where", ["source", "metadata", "key"])
def test_part_of_a_solution_left_anywhere_stops_the_student_edition(where):
    book = small()
    line = "total=a +  b # the sum"
    if where == "source":
        book.cells[2].source += f"\n\nHint: {line}"
    elif where == "metadata":
        book.metadata["note"] = ["see", {"hint": line}]
    else:
        book.cells[3].metadata[line] = 1
    with pytest.raises(ValueError, match=r"solution of exercise 1 stands in the student edition too: 'total = a \+ b"):
        editions.student(book)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_line_of_a_solution_is_in_the_student_edition_of_a_lesson(path):
    book = nbformat.v4.upgrade(nbformat.read(path, as_version=4))
    whole = "".join("".join(text.split()) for text in strings(json.loads(nbformat.writes(editions.student(book)))))
    lines = 0
    stub = ""
    for cell in book.cells:
        stub = cell.source if "exercise" in cell.metadata.get("tags", ()) else stub
        if "solution" in cell.metadata.get("tags", ()):
            for line in cell.source.splitlines():
                if len("".join(line.split())) >= 8 and line not in stub.splitlines():
                    lines += 1
                    assert "".join(line.split()) not in whole, line
    assert lines or "solution" not in str(book.cells)


def test_the_teacher_edition_opens_solutions_and_adds_what_a_teacher_needs():
    book = small()
    edition = editions.teacher(book, HELD, [{"cell": 4, "seconds": 1.25}, {"cell": 8, "seconds": 0.5}])
    nbformat.validate(edition)
    assert not any(cell.metadata.get("jupyter", {}).get("source_hidden") for cell in edition.cells)
    notes = [(place, c.source) for place, c in enumerate(edition.cells) if "teacher" in c.metadata.get("tags", ())]
    assert [place for place, _ in notes] == [1, 6, 8, 13]
    time, discussion, why, answers = (text for _, text in notes)
    assert "Reading takes 5 minutes. Running took 2 seconds" in time
    assert "> | One & two | 1.2 |" in time
    assert "> | Guess | 0.5 |" in time
    assert "> - Why <i>this</i>?\n> - What if not?" in discussion
    assert "> How many?\n>\n> - *one*. Look again.\n> - **right:** *`n` <b>or</b> more*. There are `n + 1`." in why
    assert re.search(r"\*takes away\*\n>\n> ```python\n> a - b\n> ```", answers)
    assert answers.index("Other right answers") < answers.index("sum((a, b))")
    assert editions.teacher(book, HELD) == editions.teacher(book, HELD)
    assert "seconds" not in editions.teacher(book, HELD).cells[1].source


def test_the_questions_of_a_quiz_are_explained_each():
    book = small()
    book.cells[
        5
    ].source = 'quiz("Sums", [("A?", ["x", "y"], "y", {"x": "No.", "y": "Yes."}), ("B?", ["u", "v"], 0, "UV")])'
    notes = [cell.source for cell in editions.teacher(book, HELD).cells if "each choice" in cell.source]
    assert [note.splitlines()[2:] for note in notes] == [
        ["> A?", ">", "> - *x*. No.", "> - **right:** *y*. Yes."],
        ["> B?", ">", "> - **right:** *u*. U", "> - *v*. V"],
    ]


def test_a_prediction_whose_words_are_computed_is_named():
    book = small()
    book.cells[5].source = "predict(question, choices, answer=0, why=reasons)"
    with pytest.raises(ValueError, match="cell 6: predict needs its choices, answer and why in plain words"):
        editions.teacher(book, HELD)


# What nbgrader 0.9 asks of a cell's metadata in schema version 3 (nbgrader/nbgraderformat/v3.py and common.py)
NBGRADER = {"schema_version": int, "grade_id": str, "grade": bool, "solution": bool, "locked": bool, "task": bool}


def follows_nbgrader(book: nbformat.NotebookNode) -> list[dict]:
    graded = [(cell, cell.metadata["nbgrader"]) for cell in book.cells if "nbgrader" in cell.metadata]
    for cell, data in graded:
        assert {name: type(data[name]) for name in NBGRADER} == NBGRADER
        assert data["schema_version"] == 3
        assert data["cell_type"] == cell.cell_type
        assert cell.cell_type == "code" or (data["grade"] and data["solution"])
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", data["grade_id"])
        assert ("points" in data) == data["grade"]
        assert not (data["locked"] and data["solution"])
        assert data.keys() <= {*NBGRADER, "points", "cell_type"}
    assert len({data["grade_id"] for _, data in graded}) == len(graded)
    return [data for _, data in graded]


def test_the_nbgrader_assignment_marks_solutions_and_tests_that_raise():
    book = editions.assignment(small())
    data = follows_nbgrader(book)
    assert [(d["grade_id"], d["solution"], d["grade"]) for d in data] == [
        ("exercise-1", True, False),
        ("check-1", False, True),
        ("exercise-2", False, False),
        ("answer-2", True, True),  # open: graded by hand
    ]
    first, test, question, answer = (cell for cell in book.cells if "nbgrader" in cell.metadata)
    assert first.source.endswith("### BEGIN SOLUTION\n" + SOLUTION.format("") + "\n### END SOLUTION")
    assert question.source == STUB.format(2, 2)
    assert answer.source == "Your answer"
    nbformat.validate(book)
    assert test.source.count("assert check('add', ") == 2
    names = {"check": lambda *_: False, "add": sum}
    with pytest.raises(AssertionError):
        exec(test.source.replace("(add(1, 2) == 3, 'One and two.')", "1"), names)
    assert "What if not?" not in nbformat.writes(book)


def test_slides_hold_one_idea_each():
    outline = slides.outline(small())
    assert [slide.title for slide in outline] == ["07 · Adding", "One & two", "One & two", "Guess", "Guess"]
    opening, first, picture, guess, words = outline
    assert "<math" in opening.finding
    assert "First words." in first.finding
    assert "<math" in first.finding
    assert "More words" not in first.finding
    assert 'alt="a &quot;dot&quot;"' in picture.figure
    assert picture.finding.strip() == "<p>What the picture says.</p>"
    assert guess.finding.strip() == "<p>Think, then choose.</p>"
    assert words.finding.strip() == "<p>It is <strong>7</strong>.</p>"
    text = slides.render(small(), "07_adding")
    assert "<h2>One &amp; two</h2>" in text
    assert text.count("<section>") == 5
    assert "Reveal.initialize" in text
    assert "NotImplementedError" not in text
    assert not re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?!data:|#)[^"']*""", text)


def test_the_site_finds_words_names_and_concepts_but_no_solutions():
    book = small()
    book.cells[2].source += " [07](07_adding.ipynb)"
    made = site.render({"07_adding": book, "08_more": book})
    assert set(made) == {"index.html", "search.js", "07_adding.html", "08_more.html"}
    data = json.loads(made["search.js"].partition(";\n")[0].removeprefix("const AVLAB = "))
    assert [lesson["about"] for lesson in data["lessons"]] == ["What sums are."] * 2
    mine = [section for section in data["sections"] if section["lesson"] == 0]
    assert [section["heading"] for section in mine] == ["07 · Adding", "One & two", "Guess"]
    assert mine[2]["concepts"] == ["Heterogeneity gap"]
    assert "It is 7." in mine[2]["text"]
    assert 'a "dot"' in mine[1]["text"]
    assert "show_sums" in mine[1]["code"]
    assert "total" not in str(mine)
    for section in mine[1:]:
        assert f'id="{section["anchor"]}"' in html.unescape(made["07_adding.html"])
    assert 'href="07_adding.html"' in made["08_more.html"]
    assert "07_adding.ipynb" not in made["08_more.html"]
    assert re.search(r"<details><summary>Solution</summary>.*total", made["07_adding.html"], re.DOTALL)
    assert made["07_adding.html"].count("<details><summary>Code</summary>") == 1  # the prediction's, which tells
    assert 'rel="prev" href="07_adding.html"' in made["08_more.html"]
    assert "rel=" not in made["index.html"]


def test_build_writes_every_edition_and_the_same_bytes_twice(tmp_path):
    lesson, runs = project(tmp_path, small())
    made = editions.build([lesson], runs, tmp_path / "one", nbgrader=True)
    names = sorted(str(path.relative_to(tmp_path / "one")) for path in made)
    assert names == [
        "nbgrader/source/07_adding/07_adding.ipynb",
        "site/07_adding.html",
        "site/index.html",
        "site/search.js",
        "site/slides/07_adding.html",
        "student/07_adding.ipynb",
        "teacher/07_adding.ipynb",
    ]
    again = editions.build([lesson], runs, tmp_path / "two", nbgrader=True)
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in again]
    assert not any("nbgrader" in str(path) for path in editions.build([lesson], runs, tmp_path / "three"))


def changed(runs: Path) -> None:
    book = nbformat.read(runs / "07_adding.ipynb", as_version=4)
    book.cells[3].source = "other()"
    nbformat.write(book, runs / "07_adding.ipynb")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda runs: (runs / "07_adding.ipynb").unlink(), "holds no run of 07_adding: run `avlab run 07 --out"),
        (lambda runs: (runs / "results.json").unlink(), "holds no run of 07_adding"),
        (lambda runs: (runs / "results.json").write_text("{}"), r"holds no run of 07_adding \(KeyError"),
        (lambda runs: (runs / "results.json").write_text("{"), r"holds no run of 07_adding \(JSONDecodeError"),
        (lambda runs: (runs / "07_adding.ipynb").write_text("[]"), r"holds no run of 07_adding \("),
        (changed, r"is of another version of the lesson \(cell \[4\]\)"),
    ],
)
def test_a_run_that_does_not_serve_is_named(tmp_path, spoil, message):
    lesson, runs = project(tmp_path, small())
    spoil(runs)
    with pytest.raises(ValueError, match=message):
        editions.build([lesson], runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_run_an_odd_name_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    lesson, runs = project(tmp_path, small(), status="failed")
    with pytest.raises(ValueError, match=r"the run of 07_adding in .* failed"):
        editions.build([lesson], runs, tmp_path / "out")
    odd = lesson.rename(lesson.with_name("07_<b>.ipynb"))
    with pytest.raises(ValueError, match="is no name of a lesson"):
        editions.build([odd], runs, tmp_path / "out")
    lesson, runs = project(tmp_path, small())
    monkeypatch.setattr(editions, "MOST_MB", 1e-4)
    with pytest.raises(ValueError, match="was written by no run"):
        editions.build([lesson], runs, tmp_path / "out")


def test_the_command_builds_from_a_run_and_says_what_is_wrong(tmp_path):
    lesson, runs = project(tmp_path, small())
    command = ["course", "build", str(lesson), "--runs", str(runs), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.main, command)
    assert done.exit_code == 0, done.output
    assert "6 files" in done.output
    assert (tmp_path / "out" / "site" / "index.html").is_file()
    (tmp_path / "tests" / "exercises" / "07_adding.py").unlink()
    done = CliRunner().invoke(cli.main, command)
    assert done.exit_code == 1
    assert done.output.startswith("Error: 07_adding: tests/exercises/07_adding.py: write this file, with ANSWERS")


def test_the_command_runs_the_lessons_where_no_run_is_given_and_builds_nothing_if_one_fails(tmp_path):
    book = new_notebook(cells=[new_markdown_cell("# 07 · Short"), tagged("profile = 'quick'\nseed = 0", "parameters")])
    (tmp_path / "notebooks").mkdir()
    lesson, out = tmp_path / "notebooks" / "07_short.ipynb", tmp_path / "out"
    nbformat.write(book, lesson)
    done = CliRunner().invoke(cli.main, ["course", "build", str(lesson), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "student" / "07_short.ipynb").is_file()
    book.cells.append(new_code_cell("1 / 0"))
    nbformat.write(book, lesson)
    done = CliRunner().invoke(cli.main, ["course", "build", str(lesson), "--out", str(tmp_path / "other")])
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.output
    assert "nothing was built: a lesson failed" in done.output
    assert not (tmp_path / "other" / "student").exists()


@pytest.mark.notebook
@pytest.mark.timeout(900)
def test_all_editions_of_the_first_lessons(course):
    for path in LESSONS[:2]:
        book = nbformat.v4.upgrade(nbformat.read(path, as_version=4))
        found = exercises.find(book)
        student = course / "student" / path.name
        assert editions.leaks(student.read_text(), found) == []
        assert editions.leaks((course / "teacher" / path.name).read_text(), found)
        graded = follows_nbgrader(nbformat.read(course / "nbgrader" / "source" / path.stem / path.name, as_version=4))
        assert sum(data.get("points", 0) for data in graded) == len(found)
        for name in (f"{path.stem}.html", f"slides/{path.stem}.html"):
            text = (course / "site" / name).read_text()
            assert not re.findall(r"""<(?:script|link|img)[^>]+src=["'](?!data:|search\.js)[^"']*""", text)
    figures = (course / "site" / "slides" / f"{LESSONS[1].stem}.html").read_text().count('<div class="figure')
    assert figures > 10
    assert (course / "site" / "search.js").stat().st_size < 100_000


def test_markdown_of_an_equation_that_is_none_is_named():
    with pytest.raises(ValueError, match="no equation"):
        page.markdown(r"$\frac{$")

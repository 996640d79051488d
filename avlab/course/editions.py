"""The editions of a lesson, all made from its one source notebook: for students, for teachers, for nbgrader.

Slides and the site are made from an executed copy (see `slides` and `site`). `build` makes everything.
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from avlab.course import exercises, page, site, slides
from avlab.course.exercises import Exercise

LEAST_TELLING = 8  # characters of a solution's line; shorter ones (`else:`) tell nothing
MOST_MB = 60  # of a file from an earlier run
NBGRADER_SCHEMA = 3


def build(lessons: Sequence[Path], runs: Path, out: Path, *, nbgrader: bool = False) -> list[Path]:
    """Write every edition of the lessons into `out`, from their executed copies in `runs`; returns the files.

    `student/` and `teacher/` get notebooks, `site/` pages with a search over all of them, `site/slides/` slides, and
    with `nbgrader` its source assignments go to `nbgrader/source/`. `runs` is what `avlab run` wrote, or a folder with
    such a folder for each lesson. Raises `ValueError` naming the lesson, where a run is missing, failed or is of
    another version of the lesson, and where a lesson cannot be split into editions.
    """
    books, executed, seconds = {}, {}, {}
    for path in lessons:
        stem = path.stem
        if re.fullmatch(r"\d\d_[a-z0-9_]+", stem) is None:  # it names files to write
            raise ValueError(f"{path.name!r} is no name of a lesson: it must be NN_theme.ipynb")
        books[stem] = nbformat.v4.upgrade(nbformat.read(path, as_version=4))
        executed[stem], seconds[stem] = _ran(runs, stem, books[stem])
    files: dict[Path, str] = {}
    for path in lessons:
        stem, book = path.stem, books[path.stem]
        try:
            found = exercises.find(book)
            held = exercises.answers(path, found)
            files[out / "student" / path.name] = nbformat.writes(student(book))
            files[out / "teacher" / path.name] = nbformat.writes(teacher(book, held, seconds[stem]))
            if nbgrader:
                files[out / "nbgrader" / "source" / stem / path.name] = nbformat.writes(assignment(book))
            files[out / "site" / "slides" / f"{stem}.html"] = site.linked(
                slides.render(executed[stem], stem), list(books), "../"
            )
        except ValueError as error:
            raise ValueError(f"{stem}: {error}") from None
    files |= {out / "site" / name: text for name, text in site.render(executed).items()}
    for place, text in files.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        page.write(place, text)
    return list(files)


def _ran(runs: Path, stem: str, book: NotebookNode) -> tuple[NotebookNode, list[dict[str, Any]]]:
    """A lesson's executed copy, and the seconds of its cells."""
    folder = next((f for f in (runs, runs / stem) if (f / f"{stem}.ipynb").is_file()), None)
    again = f"run `avlab run {stem[:2]} --out {runs}`"
    if folder is None or not (folder / "results.json").is_file():
        raise ValueError(f"{runs} holds no run of {stem}: {again}")
    for name in (f"{stem}.ipynb", "results.json"):
        if (folder / name).stat().st_size > MOST_MB * 1e6:
            raise ValueError(f"{folder / name} has more than {MOST_MB} MB: that was written by no run")
    try:
        result = json.loads((folder / "results.json").read_text(encoding="utf-8"))["notebooks"][stem]
        status, cells = str(result["status"]), [(int(c["cell"]), float(c["seconds"])) for c in result["cells"]]
        executed = nbformat.read(folder / f"{stem}.ipynb", as_version=4)
    except Exception as error:
        raise ValueError(f"{folder} holds no run of {stem} ({type(error).__name__}: {error}): {again}") from None
    if status != "ok":
        raise ValueError(f"the run of {stem} in {folder} failed: see its results.json, then {again}")
    sources = {cell.get("id"): cell.source for cell in executed.cells}
    changed = [place for place, cell in enumerate(book.cells, 1) if sources.get(cell.id) != cell.source]
    if changed or len(executed.cells) > len(book.cells) + 1:  # papermill's own cell sets the parameters
        raise ValueError(f"the run of {stem} in {folder} is of another version of the lesson (cell {changed}): {again}")
    return executed, [{"cell": cell, "seconds": seconds} for cell, seconds in cells]


def student(book: NotebookNode) -> NotebookNode:
    """The lesson without solutions and without what speaks to the teacher; stubs and checks stay.

    Raises `ValueError` naming the line where part of a solution still stands elsewhere in the lesson.
    """
    found = exercises.find(book)
    edition = copy.deepcopy(book)
    edition.cells = [cell for cell in edition.cells if "solution" not in cell.metadata.get("tags", ())]
    for cell in edition.cells:
        cell.metadata.get("avlab", {}).pop("discussion", None)
    left = leaks(nbformat.writes(edition), found)
    if left:
        number, line = left[0]
        raise ValueError(f"the solution of exercise {number} stands in the student edition too: {line!r}")
    return edition


def leaks(text: str, found: Sequence[Exercise]) -> list[tuple[int, str]]:
    """Lines of solutions that stand in a notebook's text (JSON), as (exercise's number, line); spaces do not count.

    What the exercise itself shows (its stub) is no secret, nor are lines shorter than `LEAST_TELLING`.
    """
    whole = "\n".join(map(_bare, _strings(json.loads(text))))
    stubs = {exercise.number: set(map(_bare, exercise.stub.splitlines())) for exercise in found}
    return [
        (exercise.number, line.strip())
        for exercise in found
        for line in exercise.solution.splitlines()
        if len(_bare(line)) >= LEAST_TELLING and _bare(line) not in stubs[exercise.number] and _bare(line) in whole
    ]


def _bare(line: str) -> str:
    return "".join(line.split())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
        yield from value if isinstance(value, dict) else ()


def teacher(
    book: NotebookNode, answers: dict[int, dict[str, dict[str, str]]], measured: Sequence[dict[str, Any]] = ()
) -> NotebookNode:
    """The lesson with open solutions and notes: timing, misconceptions behind predictions and answers, discussion.

    `answers` are those of `exercises.answers`; `measured` are a run's `{"cell", "seconds"}`. What is worth discussing
    stands in the lesson itself: a cell's metadata `avlab.discussion`, a list of sentences, shown below that cell.
    Raises `ValueError` naming the cell of a prediction whose words are neither text nor f-strings.
    """
    found = {exercise.place: exercise for exercise in exercises.find(book)}
    edition = copy.deepcopy(book)
    cells: list[NotebookNode] = []
    waiting: Exercise | None = None
    for place, cell in enumerate(edition.cells):
        tags = cell.metadata.get("tags", ())
        cell.metadata.get("jupyter", {}).pop("source_hidden", None)
        discussion = cell.metadata.get("avlab", {}).pop("discussion", [])
        cells.append(cell)
        waiting = found.get(place, waiting)
        if place == 0:
            cells.append(_note("time", "time", _timing(book, measured)))
        if cell.cell_type == "code":
            cells += [
                _note(f"predict-{place}-{n}", "what lies behind each choice", text)
                for n, text in enumerate(_predictions(place, cell.source))
            ]
        if "check" in tags and waiting is not None:
            if waiting.number in answers:
                cells.append(_note(f"answers-{waiting.number}", "answers", _answers(answers[waiting.number])))
            waiting = None
        if discussion:
            cells.append(_note(f"discussion-{place}", "to discuss", "\n".join(f"- {d}" for d in discussion)))
    edition.cells = cells
    return edition


def _note(name: str, title: str, text: str) -> NotebookNode:
    """A Markdown cell for the teacher; its id follows from its name, so that the same lesson gives the same bytes."""
    source = "\n".join(f"> {line}".rstrip() for line in f"**For the teacher: {title}**\n\n{text}".splitlines())
    return nbformat.v4.new_markdown_cell(source, id=f"teacher-{name}", metadata={"tags": ["teacher"]})


def _timing(book: NotebookNode, measured: Sequence[dict[str, Any]]) -> str:
    minutes = book.metadata.get("avlab", {}).get("minutes", "?")
    text = f"Reading takes {minutes} minutes."
    if not measured:
        return text
    seconds = {row["cell"]: row["seconds"] for row in measured}
    sections, name = {}, "before the first section"
    for place, cell in enumerate(book.cells, 1):
        if cell.cell_type == "markdown":
            name = [name, *re.findall(r"^## +(.+)$", cell.source, re.MULTILINE)][-1]
        sections[name] = sections.get(name, 0.0) + seconds.get(place, 0.0)
    rows = [f"| {name.replace('|', ' ')} | {spent:.1f} |" for name, spent in sections.items()]
    head = f"{text} Running took {sum(seconds.values()):.0f} seconds where this edition was made:"
    return "\n".join([head, "", "| section | seconds |", "|---|---:|", *rows])


def _predictions(place: int, source: str) -> list[str]:
    """What lies behind the choices of each `predict` and each question of a `quiz` in a cell, as Markdown."""
    texts = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if name not in ("predict", "quiz"):
            continue
        try:
            words = [_literal(value) for value in call.args]
            named = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
            if name == "quiz":
                asked = named["questions"] if "questions" in named else words[1]
            else:
                given = dict(zip(("question", "choices"), words, strict=False)) | named
                asked = [[given[part] for part in ("question", "choices", "answer", "why")]]
            for question, choices, answer, why in asked:
                right = answer if isinstance(answer, str) else choices[answer]
                reasons = [why[choice] if isinstance(why, dict) else why[n] for n, choice in enumerate(choices)]
                lines = [
                    f"- {'**right:** ' if choice == right else ''}*{choice}*. {reason}"
                    for choice, reason in zip(choices, reasons, strict=True)
                ]
                texts.append("\n".join([question, "", *lines]))
        except (ValueError, KeyError, IndexError, TypeError):
            message = f"{name} needs its choices, answer and why in plain words or f-strings, to be shown to teachers"
            raise ValueError(f"cell {place + 1}: {message}") from None
    return texts


def _literal(node: ast.expr) -> Any:
    """The value of a literal; of an f-string its words, with the expressions in them as code."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"`{ast.unparse(part.value)}`"
            for part in node.values
        )
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(part) for part in node.elts]
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


def _answers(given: dict[str, dict[str, str]]) -> str:
    parts = ["**Wrong answers that the check rejects**"]
    for kind in ("wrong", "right"):
        parts += ["**Other right answers**"] if kind == "right" else []
        parts += [f"*{name}*\n\n```python\n{code.strip()}\n```" for name, code in given[kind].items()]
    return "\n\n".join(parts)


def assignment(book: NotebookNode) -> NotebookNode:
    """The lesson as an nbgrader source assignment (metadata schema 3): one point an exercise.

    The exercise's cell holds the stub and, between nbgrader's marks, the solution that its release takes out. A check
    is a locked test; since `check` only shows what is wrong where a learner works, here its result is asserted. An
    open exercise is answered in a cell of its own, which is graded by hand.
    """
    found = {exercise.place: exercise for exercise in exercises.find(book)}
    edition = copy.deepcopy(book)
    waiting: Exercise | None = None
    cells: list[NotebookNode] = []
    for place, cell in enumerate(edition.cells):
        tags = cell.metadata.get("tags", ())
        cell.metadata.get("avlab", {}).pop("discussion", None)
        waiting = found.get(place, waiting)
        if "solution" in tags:
            continue
        cells.append(cell)
        if place in found and waiting.check:
            cell.source += f"\n\n\n### BEGIN SOLUTION\n{waiting.solution.strip()}\n### END SOLUTION"
            cell.metadata["nbgrader"] = _grading(f"exercise-{waiting.number}", "code", solution=True)
        elif place in found:  # nbgrader would empty a cell to answer in: the question stands in one of its own
            cell.metadata["nbgrader"] = _grading(f"exercise-{waiting.number}", "code", solution=False)
            data = _grading(f"answer-{waiting.number}", "markdown", solution=True, points=1)
            name = f"answer-{waiting.number}"
            cells.append(nbformat.v4.new_markdown_cell("Your answer", id=name, metadata={"nbgrader": data}))
        elif "check" in tags and waiting is not None:
            cell.source = _asserted(cell.source)
            cell.metadata["nbgrader"] = _grading(f"check-{waiting.number}", "code", solution=False, points=1)
            waiting = None  # of several check cells the first is graded
    edition.cells = cells
    return edition


def _grading(name: str, kind: str, *, solution: bool, points: int | None = None) -> dict[str, Any]:
    """nbgrader's metadata of a cell; `points` is None where nothing is graded."""
    data = {"schema_version": NBGRADER_SCHEMA, "grade_id": name, "grade": points is not None, "solution": solution}
    data |= {"locked": not solution, "task": False, "cell_type": kind}
    return data if points is None else data | {"points": points}


def _asserted(source: str) -> str:
    lines = source.splitlines()
    for node in ast.parse(source).body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "check":
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = f"{line[: node.col_offset]}assert {line[node.col_offset :]}"
    return "\n".join(lines)

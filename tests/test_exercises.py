"""Exercises that are broken in one way each: the runner must name the exercise, the answer and what is wrong."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from avlab.course import exercises, run, watch

STUB = """\
from avlab.show import check, exercise

exercise("Write double(x): twice x.", number={})


def double(x):
    raise NotImplementedError"""
SOLUTION = "def double(x):\n    return 2 * x"
CHECK = 'check("double", (double(3) == 6, "Twice 3 is 6."), (double(0) == 0, "Twice 0 is 0."));'
ANSWERS = {
    "wrong": {
        "half": "def double(x):\n    return x / 2",
        "square": "def double(x):\n    return x * x",
        "names it otherwise": "def twice(x):\n    return 2 * x",
    },
    "right": {"sum": "def double(x):\n    return x + x"},
}

# number: (stub, solution, check, answers, what is said of which answer)
WEAK = 'check("double", (double(0) == 0, "Twice 0 is 0."));'
BREAKS = {
    "fine": (STUB, SOLUTION, CHECK, ANSWERS, []),
    "weak": (
        STUB,
        SOLUTION,
        WEAK,
        ANSWERS,
        ["wrong answer 'half': passes its check", "wrong answer 'square': passes its check"],
    ),
    "solved": (
        STUB.replace("raise NotImplementedError", "return 2 * x"),
        SOLUTION,
        CHECK,
        ANSWERS,
        ["the stub: passes its check", "wrong answer 'names it otherwise': passes its check"],
    ),
    "narrow": (
        STUB,
        "import operator\n\ndouble = operator.itemgetter(0)\ndouble = {0: 0, 3: 6}.get",
        'check("double", (hasattr(double, "__self__"), "Use a table."));',
        ANSWERS,
        ["right answer 'sum': its check raises AssertionError: double: not yet (0 of 1 checks)\n  - Use a table."],
    ),
    "crashing": (
        STUB,
        SOLUTION,
        'check("double", ({6: True}[double(3)], "Twice 3 is 6."));',
        ANSWERS,
        [
            "wrong answer 'half': its check raises KeyError: 1.5",
            "wrong answer 'square': its check raises KeyError: 9",
        ],
    ),
    "odd answer": (
        STUB,
        SOLUTION,
        CHECK,
        {"wrong": ANSWERS["wrong"] | {"odd": "1 / 0"}, "right": ANSWERS["right"]},
        ["wrong answer 'odd': the answer itself raises ZeroDivisionError: division by zero"],
    ),
}


def lesson(folder: Path, name: str, parts: list[tuple[str, str]], answers: object, after: str = "1") -> Path:
    """A notebook of (tag, source) cells in `folder/notebooks`, with its answers in `folder/tests/exercises`."""
    parameters = new_code_cell("profile = 'quick'\nseed = 0", metadata={"tags": ["parameters"]})
    cells = [new_code_cell(source, metadata={"tags": [tag]}) for tag, source in parts]
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[parameters, *cells, new_code_cell(after)]), path)
    if answers is not None:
        held = folder / "tests" / "exercises" / f"{name}.py"
        held.parent.mkdir(parents=True, exist_ok=True)
        held.write_text(f"ANSWERS = {answers!r}\n")
    return path


def group(stub: str = STUB, solution: str = SOLUTION, check: str = CHECK, number: int = 1) -> list[tuple[str, str]]:
    return [("exercise", stub.format(number)), ("solution", solution), ("check", check)]


def test_each_broken_exercise_is_named_with_its_answer_and_the_others_pass(tmp_path):
    numbers = dict(enumerate(BREAKS, 1))
    parts = [part for n, name in numbers.items() for part in group(*BREAKS[name][:3], number=n)]
    answers = {n: BREAKS[name][3] for n, name in numbers.items()}
    # the last solution defines the name: what an exercise leaves behind must not answer for it
    result = run.run_notebook(lesson(tmp_path, "many", parts, answers))
    said = [failure["message"] for failure in result["failures"] if failure["kind"] == "exercise"]
    wanted = [f"exercise {n}, {message}" for n, name in numbers.items() for message in BREAKS[name][4]]
    assert said == wanted
    assert {failure["kind"] for failure in result["failures"]} == {"exercise"}


def test_the_page_and_the_cells_of_a_good_lesson_show_nothing_of_the_trial(tmp_path):
    path = lesson(tmp_path, "good", group(), {1: ANSWERS}, after="double(4)")
    result = run.run_notebook(path, out=tmp_path)
    assert result["failures"] == []
    assert [row["cell"] for row in result["cells"]] == [1, 2, 3, 4, 5]
    text = (tmp_path / "good.ipynb").read_text()
    assert "double: right (2 of 2 checks)" in text
    assert "not yet" not in text
    assert "avlab.course.exercises" not in text


def test_names_in_the_kernel_are_as_they_were_after_a_trial(tmp_path):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        shell.user_ns |= {"double": "mine"}
        found = exercises.Exercise(1, 0, STUB.format(1), SOLUTION, CHECK)
        assert exercises._verdict(found, "helper = 3\n" + SOLUTION, True) == ""
        assert shell.user_ns["double"] == "mine"
        assert "helper" not in shell.user_ns
    finally:
        InteractiveShell.clear_instance()


def test_an_answer_that_never_ends_is_ended(tmp_path, monkeypatch):
    monkeypatch.setitem(watch.OWN_LIMITS, exercises.EXERCISES_CELL, ("the trial of its exercises", 3))
    endless = {"wrong": ANSWERS["wrong"] | {"endless": "while True: pass"}, "right": ANSWERS["right"]}
    (failure,) = run.run_notebook(lesson(tmp_path, "endless", group(), {1: endless}))["failures"]
    assert failure["kind"] == "killed"
    assert "killed after 3 s, for the trial of its exercises was still running" in failure["message"]


SAME = {"wrong": ANSWERS["wrong"], "right": {"the solution again": "def double(x): return 2*x  # with a word"}}
EMPTY = {"wrong": ANSWERS["wrong"] | {"nothing": " "}, "right": ANSWERS["right"]}


@pytest.mark.parametrize(
    ("parts", "answers", "message"),
    [
        (group(), None, "tests/exercises/poor.py: write this file, with ANSWERS = {1: "),
        (group(), {}, "has answers to exercises [], the lesson checks [1]"),
        (group(), {1: ANSWERS, 2: ANSWERS}, "has answers to exercises [1, 2], the lesson checks [1]"),
        (group(), {1: ANSWERS | {"right": {}}}, "exercise 1 needs 1 or more right answers, has 0"),
        (group(), {1: ANSWERS | {"wrong": {"a": "b"}}}, "exercise 1 needs 3 or more wrong answers, has 1"),
        (group(), {1: SAME}, "two answers to exercise 1, or its solution, are the same"),
        (group(), {1: EMPTY}, "an empty wrong answer to exercise 1"),
        (group(), {1: 5}, "no ANSWERS = "),
        (group(STUB.replace(", number={}", "")), {1: ANSWERS}, "cell 2: the exercise has no number"),
        (group() * 2, {1: ANSWERS}, "cell 5: there is an exercise 1 already"),
        (group()[1:], {1: ANSWERS}, "cell 2: a solution or a check stands before its exercise"),
    ],
)
def test_what_is_missing_is_said_before_a_kernel_starts(tmp_path, parts, answers, message):
    result = run.run_notebook(lesson(tmp_path, "poor", parts, answers))
    (failure,) = result["failures"]
    assert failure["kind"] == "exercise"
    assert message in failure["message"]
    assert result["seconds"] == 0


def test_answers_are_read_and_not_run(tmp_path):
    path = lesson(tmp_path, "code", group(), {1: ANSWERS})
    held = tmp_path / "tests" / "exercises" / "code.py"
    held.write_text(f"ANSWERS = __import__('os').system('touch {tmp_path}/ran') or {{}}\n")
    (failure,) = run.run_notebook(path)["failures"]
    assert "no ANSWERS = " in failure["message"]
    assert not (tmp_path / "ran").exists()


def test_an_open_exercise_needs_no_answers_and_cells_of_one_part_belong_together():
    parts = [*group(), ("check", "more"), ("exercise", STUB.format(2))]
    book = new_notebook(cells=[new_code_cell(source, metadata={"tags": [tag]}) for tag, source in parts])
    first, last = exercises.find(book)
    assert (first.number, first.place, first.check) == (1, 0, CHECK + "\nmore\n")
    assert (last.number, last.place, last.solution, last.check) == (2, 4, "", "")
    assert json.dumps(first._asdict())

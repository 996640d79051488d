"""Exercises proven: typical wrong answers fail their check, the stub too; right answers, however written, pass it.

`tests/exercises/NN_theme.py` beside the notebook's folder holds one literal:

    ANSWERS = {1: {"wrong": {"what was misunderstood": "code", ...}, "right": {"how it is written": "code"}}, ...}

by the exercise's number. The runner appends a cell with `main()` to the copy that it executes: in the lesson's own
kernel each answer takes the solution's place before the check, and `EXERCISES_MIME` is displayed:
`{"tried": 12, "problems": [{"number", "answer", "message"}]}`.

An answer counts as rejected if its check raises what `check` raises in a run (`AssertionError`) or the stub's
`NotImplementedError`. Any other exception is a problem: a learner would meet it instead of a hint.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import NamedTuple

from IPython import get_ipython
from IPython.display import display
from IPython.utils.capture import capture_output
from nbformat import NotebookNode

EXERCISES_MIME = "application/vnd.avlab.exercises+json"
EXERCISES_CELL = "import avlab.course.exercises\n\navlab.course.exercises.main()"
EXERCISES_SECONDS = 120  # for all answers to one notebook's exercises
FILE_VARIABLE = "AVLAB_EXERCISES"  # of the kernel: where the runner has put what `main` tries
FEWEST_WRONG, FEWEST_RIGHT = 3, 1


class Exercise(NamedTuple):
    """One exercise: its number, the index of its first cell, and the sources of its cells; an open one has no check."""

    number: int
    place: int
    stub: str
    solution: str
    check: str


def find(book: NotebookNode) -> list[Exercise]:
    """The exercises of a lesson, in their order. Raises `ValueError` for one that says no number, or one twice."""
    found: list[Exercise] = []
    tagged = [(place, _part(cell), cell.source) for place, cell in enumerate(book.cells) if _part(cell)]
    while tagged:
        place, sources = tagged[0][0], {"exercise": "", "solution": "", "check": ""}
        for part in sources:  # an exercise is followed by its solution, then by its check: the contract
            while tagged and tagged[0][1] == part:
                sources[part] += tagged.pop(0)[2] + "\n"
        if not sources["exercise"]:
            raise ValueError(f"cell {place + 1}: a solution or a check stands before its exercise")
        number = _number(sources["exercise"])
        if number is None:
            raise ValueError(f"cell {place + 1}: the exercise has no number: write exercise(..., number=1)")
        if number in {exercise.number for exercise in found}:
            raise ValueError(f"cell {place + 1}: there is an exercise {number} already")
        found.append(Exercise(number, place, *sources.values()))
    return found


def _part(cell: NotebookNode) -> str:
    return next((part for part in ("exercise", "solution", "check") if part in cell.metadata.get("tags", ())), "")


def _number(source: str) -> int | None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "exercise":
            for keyword in node.keywords:
                if keyword.arg == "number" and isinstance(keyword.value, ast.Constant):
                    return keyword.value.value
    return None


def answers(lesson: Path, exercises: list[Exercise]) -> dict[int, dict[str, dict[str, str]]]:
    """What `tests/exercises` holds for a lesson: by number, `wrong` and `right` answers by name.

    Raises `ValueError` that says what to write where an exercise with a check has too few answers.
    """
    path = lesson.resolve().parents[1] / "tests" / "exercises" / f"{lesson.stem}.py"
    numbers = [exercise.number for exercise in exercises if exercise.check]
    if not numbers:
        return {}
    wanted = f"tests/exercises/{path.name}: "
    shape = 'ANSWERS = {1: {"wrong": {"name": "code", ...}, "right": {"name": "code"}}, ...}'
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (value,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "ANSWERS")
        held = ast.literal_eval(value)  # read, not run
        for number in held:
            for kind in ("wrong", "right"):
                for name, code in held[number][kind].items():
                    if not (name.strip() and code.strip()):
                        raise ValueError(f"an empty {kind} answer to exercise {number}")
    except FileNotFoundError:
        raise ValueError(f"{wanted}write this file, with {shape} for exercises {numbers}") from None
    except Exception as error:
        raise ValueError(f"{wanted}no {shape}: {type(error).__name__}: {error}") from None
    if set(held) != set(numbers):
        raise ValueError(f"{wanted}has answers to exercises {sorted(held)}, the lesson checks {numbers}")
    for number in numbers:
        for kind, fewest in (("wrong", FEWEST_WRONG), ("right", FEWEST_RIGHT)):
            if len(held[number][kind]) < fewest:
                count = len(held[number][kind])
                raise ValueError(f"{wanted}exercise {number} needs {fewest} or more {kind} answers, has {count}")
    for exercise in exercises:
        if exercise.number in held:
            codes = [exercise.solution, *held[exercise.number]["wrong"].values()]
            codes += held[exercise.number]["right"].values()
            if len({ast.dump(ast.parse(code)) for code in codes}) < len(codes):
                raise ValueError(f"{wanted}two answers to exercise {exercise.number}, or its solution, are the same")
    return held


def main() -> None:
    """Try the answers that the runner has put into a file, in this kernel, and display the report for it."""
    given = json.loads(Path(os.environ[FILE_VARIABLE]).read_text(encoding="utf-8"))
    tried, problems = 0, []
    for part in given:
        exercise = Exercise(**part["exercise"])
        trials = [("the stub", "", False)]
        trials += [(f"wrong answer {name!r}", code, False) for name, code in part["wrong"].items()]
        trials += [(f"right answer {name!r}", code, True) for name, code in part["right"].items()]
        for name, code, right in [*trials, ("the solution", exercise.solution, True)]:
            tried += 1
            message = _verdict(exercise, code, right)
            if message:
                problems.append({"number": exercise.number, "answer": name, "message": message})
    text = f"tried {tried} answers to {len(given)} exercises: {len(problems)} problems"
    display({EXERCISES_MIME: {"tried": tried, "problems": problems}, "text/plain": text}, raw=True)


def _verdict(exercise: Exercise, code: str, right: bool) -> str:
    """What is wrong with how an answer is judged, as one line; empty if all is well. Leaves no name behind."""
    shell = get_ipython()
    before = dict(shell.user_ns)
    try:
        # the stub first, so that an answer that does not define what it should leaves the stub to be checked
        for what, source in (("the exercise's cell", exercise.stub), ("the answer itself", code)):
            error = _run(source)
            if error is not None:
                return f"{what} raises {type(error).__name__}: {error}"
        error = _run(exercise.check)
    finally:
        for name in shell.user_ns.keys() - before.keys():
            del shell.user_ns[name]
        shell.user_ns.update(before)
    if error is None:
        return "" if right else "passes its check"
    if right or not isinstance(error, AssertionError | NotImplementedError):
        return f"its check raises {type(error).__name__}: {error}"
    return ""


def _run(source: str) -> BaseException | None:
    """Run a cell's source in this kernel without showing anything; what it raised, or None."""
    shell = get_ipython()
    shell.showtraceback = lambda *_, **__: None
    shell.showsyntaxerror = lambda *_, **__: None
    try:
        with capture_output():
            result = shell.run_cell(source, store_history=False)
    finally:
        del shell.showtraceback, shell.showsyntaxerror
    return result.error_before_exec or result.error_in_exec

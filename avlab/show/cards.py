"""Cards: predict, then see; quizzes; exercises whose checks say what is wrong and not what is right.

A prediction is locked before its answer is shown, since a guess that can be taken back teaches less. A wrong choice is
answered with the misconception behind it. Without a browser a card is its question and choices, with no answer. What
a learner answers and passes is kept by `avlab.show.progress`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from IPython import get_ipython
from IPython.display import HTML, display

from avlab.show import progress

BOX = "border:1px solid #888; border-left:6px solid {}; border-radius:4px; padding:10px 14px; margin:6px 0"
GREEN, RED, NEUTRAL = "#117733", "#d32f2f", "#0072B2"
LOCK = "Lock your prediction above to see this."


class _Question:
    """A question, its choices, the position of the right one, and for each choice the reason; refuses an unfair one."""

    def __init__(
        self, text: str, choices: Sequence[str], answer: int | str, why: Sequence[str] | Mapping[str, str]
    ) -> None:
        if len(choices) < 2 or len(set(choices)) != len(choices):
            raise ValueError(f"{text!r} needs two or more different choices, got {list(choices)}")
        if isinstance(answer, str):
            if answer not in choices:
                raise ValueError(f"answer {answer!r} is none of the choices {list(choices)}")
            answer = list(choices).index(answer)
        if not 0 <= answer < len(choices):
            raise ValueError(f"answer {answer} is no position among {len(choices)} choices")
        missing = [c for c in choices if c not in why] if isinstance(why, Mapping) else []
        if missing or len(why) != len(choices):
            raise ValueError(f"why must speak to each of {len(choices)} choices, got {len(why)}; missing: {missing}")
        self.text, self.choices, self.answer = text, list(choices), answer
        self.why = [why[c] for c in choices] if isinstance(why, Mapping) else list(why)

    def letter(self, place: int) -> str:
        return f"({chr(97 + place)})"

    def fresh(self) -> dict[str, Any]:
        """As the browser takes it, before any choice: no answer and no reason."""
        return {"question": self.text, "choices": self.choices, "tried": [], "right": -1, "locked": False, "said": []}

    def right_words(self) -> str:
        return f"{self.letter(self.answer)} {self.choices[self.answer]}: {self.why[self.answer]}"

    def page(self) -> str:
        rows = "".join(f"<li>{html.escape(choice)}</li>" for choice in self.choices)
        return f'{html.escape(self.text)}<ol style="list-style-type: lower-alpha">{rows}</ol>'

    def plain(self) -> str:
        return "\n".join([self.text, *(f"{self.letter(i)} {choice}" for i, choice in enumerate(self.choices))])


class _Asks(anywidget.AnyWidget):
    """Questions in the browser; at rest (paper, a page without a kernel) the questions and choices alone."""

    _esm = Path(__file__).with_name("cards.js")
    title = traitlets.Unicode().tag(sync=True)
    items = traitlets.List().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)

    def __init__(self, title: str, questions: list[_Question], note: str) -> None:
        self.questions = questions
        super().__init__(title=title, items=[one.fresh() for one in questions], note=note)
        self.on_msg(_Asks._hear)

    def _hear(self, content: Any, buffers: Any) -> None:
        question, choice = (content.get(n) if isinstance(content, dict) else None for n in ("question", "choice"))
        known = type(question) is int and 0 <= question < len(self.questions) and type(choice) is int
        if known and 0 <= choice < len(self.questions[question].choices):
            self._chosen(question, choice)

    def _chosen(self, question: int, choice: int) -> None:
        raise NotImplementedError

    def _tell(self, question: int, **changes: Any) -> None:
        self.items = [item | changes if i == question else item for i, item in enumerate(self.items)]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        asked = "".join(f"<div>{one.page()}</div>" for one in self.questions)
        page = f'<div style="{BOX.format(NEUTRAL)}"><b>{html.escape(self.title)}</b> {asked}</div>'
        plain = "\n".join([self.title, *(one.plain() for one in self.questions)])
        return {"application/vnd.jupyter.widget-view+json": view, "text/html": page, "text/plain": plain}, {}


class Card(_Asks):
    """A question whose answer is locked by the first choice; made by `predict`. `chosen` is the choice, or None."""

    def __init__(self, question: _Question) -> None:
        self.chosen: int | None = None
        self._held: list[Callable[[], None]] = []
        super().__init__("Predict.", [question], "Choose once: your answer is locked before the explanation appears.")

    def choose(self, place: int) -> None:
        """Lock a choice, show what it means and what waits for it; a second call changes nothing."""
        if self.chosen is not None:
            return
        self.chosen = place
        (asked,) = self.questions
        right = place == asked.answer
        progress.note("card", asked.text, right=right, choice=asked.choices[place])
        said = [["right", ("Right. " if right else "") + asked.right_words()]]
        if not right:
            said.insert(0, ["wrong", f"You chose {asked.letter(place)}. {asked.why[place]}"])
        with self.hold_sync():
            self._tell(0, tried=[place], right=asked.answer, locked=True, said=said)
            self.note = "Your answer is locked."
        while self._held:
            self._held.pop(0)()

    def _chosen(self, question: int, choice: int) -> None:
        self.choose(choice)

    def explanation(self) -> str:
        """HTML: whether the locked choice is right, and why; the answer alone where none was chosen."""
        said = self.items[0]["said"] or [["right", self.questions[0].right_words()]]
        colours = {"right": GREEN, "wrong": RED}
        return "".join(
            f'<div role="status" style="{BOX.format(colours[kind])}">{html.escape(text)}</div>' for kind, text in said
        )

    @contextmanager
    def result(self) -> Iterator[None]:
        """`with card.result():` holds back what the block displays until the card is answered, then shows it there.

        The block itself runs at once. In a run, and where the card is answered already, its output appears as always;
        in a run the explanation follows it. An error in the block is shown and raised as always.
        """
        if not progress.attended() or self.chosen is not None:
            yield
            if self.chosen is None:
                display(HTML(self.explanation()))
            return
        held = ipywidgets.Output()
        place = ipywidgets.VBox([ipywidgets.HTML(f"<i>{LOCK}</i>")]).add_class("avlab-held")
        view = {"version_major": 2, "version_minor": 0, "model_id": place.model_id}
        display({"application/vnd.jupyter.widget-view+json": view, "text/html": f"<p><i>{LOCK}</i></p>",
                 "text/plain": LOCK}, raw=True)  # fmt: skip
        held.__enter__()
        try:
            yield
        finally:
            held.__exit__(None, None, None)  # with the error it would swallow it
            self._held.append(lambda: setattr(place, "children", (held,)))
            if self.chosen is not None:  # meanwhile
                self._held.pop()()


class Quiz(_Asks):
    """Several questions, each open until it is answered right; made by `quiz`."""

    def __init__(self, title: str, questions: list[_Question]) -> None:
        super().__init__(title, questions, "")
        self.note = self.score()

    def choose(self, question: int, choice: int) -> None:
        """Try a choice: a wrong one is answered with its reason, the right one ends the question."""
        asked, item = self.questions[question], self.items[question]
        if item["locked"] or choice in item["tried"]:
            return
        right = choice == asked.answer
        words = f"Right. {asked.right_words()}" if right else f"{asked.letter(choice)} {asked.why[choice]}"
        reason = ["right" if right else "wrong", words]
        changes = {"right": choice, "locked": True} if right else {}
        with self.hold_sync():
            self._tell(question, tried=[*item["tried"], choice], said=[*item["said"], reason], **changes)
            self.note = self.score()
        progress.note("quiz", f"{self.title} {asked.text}", right=right, choice=asked.choices[choice])

    def _chosen(self, question: int, choice: int) -> None:
        self.choose(question, choice)

    def score(self) -> str:
        """In words: how many are right, and how many of them at the first try."""
        done = [item for item in self.items if item["locked"]]
        first = sum(len(item["tried"]) == 1 for item in done)
        return f"{len(done)} of {len(self.items)} right, {first} at the first try."


def predict(
    question: str, choices: Sequence[str], *, answer: int | str, why: Sequence[str] | Mapping[str, str]
) -> Card:
    """A card that asks before it shows.

    `answer` is the right choice or its position; `why` says for each choice why it is right, or which misconception
    leads there (a list in the order of `choices`, or a dict by choice). Raises `ValueError` where one is missing.

    >>> card = predict("A bell twice as large sounds", ["lower", "higher"], answer="lower",
    ...                why={"lower": "Large things vibrate slowly.", "higher": "Loud is not high."})
    >>> card.choose(1); card.chosen, "Loud is not high" in card.explanation()
    (1, True)
    """
    return Card(_Question(question, choices, answer, why))


def quiz(title: str, questions: Sequence[tuple[str, Sequence[str], int | str, Any]]) -> Quiz:
    """Several questions, each `(question, choices, answer, why)` as in `predict`; wrong tries are answered and allowed.

    Raises `ValueError` for a question without an answer or a reason for each choice, or for none at all.

    >>> asked = quiz("Sound.", [("A larger bell is", ["lower", "higher"], "lower", ["Slow.", "Loud is not high."])])
    >>> asked.choose(0, 1); asked.choose(0, 0); asked.score()
    '1 of 1 right, 0 at the first try.'
    """
    if not questions or not all(isinstance(one, tuple) and len(one) == 4 for one in questions):
        raise ValueError(f"quiz {title!r} needs questions of the form (question, choices, answer, why)")
    return Quiz(title, [_Question(*one) for one in questions])


def exercise(prompt: str, *, number: int | None = None, title: str = "") -> None:
    """Display an exercise's prompt as a box, with its number and title where they are given."""
    head = " ".join(["Exercise", *([str(number)] if number is not None else [])]) + (f": {title}" if title else "")
    text = f"{head}. {prompt}"
    page = f'<div style="{BOX.format("#AA4499")}"><b>{html.escape(head)}.</b> {html.escape(prompt)}</div>'
    display({"text/html": page, "text/plain": text}, raw=True)


def _holds(condition: Any) -> str:
    """Empty if a condition holds, else what to say before its hint; `...` stands for no more than the hint."""
    try:
        return "" if bool(condition() if callable(condition) else condition) else "..."
    except NotImplementedError:
        return "Not written yet."
    except Exception as error:
        return f"Your code stops with {type(error).__name__}: {error}."


def check(title: str, *conditions: tuple[Any, str]) -> bool:
    """Check an exercise: each condition is `(passed, hint)`; the hints of those that fail are shown, nothing else.

    `passed` may be a function without arguments, `lambda: mean(2, 4) == 3`: then an error of the learner's code is
    said as a hint too, and a stub that raises `NotImplementedError` as "Not written yet.".
    Returns whether all passed. A learner sees lines and no traceback; where `AVLAB_RUN` is set (a run that tests the
    notebook, whose solutions must pass) a failure raises `AssertionError` with the hints. Raises `ValueError` without
    conditions, or for a hint that is not a sentence.

    >>> check("mean of two", (2 == 2, "add before you divide"))
    mean of two: right (1 of 1 checks)
    True
    """
    if not conditions or not all(isinstance(c, tuple) and len(c) == 2 and isinstance(c[1], str) for c in conditions):
        raise ValueError(f"check {title!r} needs conditions of the form (passed, 'hint')")
    wrong = []
    for condition, hint in conditions:
        if said := _holds(condition):
            wrong.append(said if said == "Not written yet." else f"{said} {hint}".removeprefix("... "))
    count, failed = len(conditions), len(wrong)
    wrong = list(dict.fromkeys(wrong))  # a stub says it once
    head = f"{title}: right ({count} of {count} checks)" if not wrong else (
        f"{title}: not yet ({count - failed} of {count} checks)")  # fmt: skip
    plain = "\n".join([head, *(f"  - {hint}" for hint in wrong)])
    lines = "".join(f"<li>{html.escape(hint)}</li>" for hint in wrong)
    colour, mark = (GREEN, "✓") if not wrong else (RED, "✗")
    page = f'<div role="status" style="{BOX.format(colour)}">{mark} {html.escape(head)}<ul>{lines}</ul></div>'
    progress.note("check", title, right=not wrong)
    if get_ipython() is not None:
        display({"text/html": page, "text/plain": plain}, raw=True)
    else:
        print(plain)
    if wrong and os.environ.get("AVLAB_RUN"):
        raise AssertionError(plain)
    return not wrong

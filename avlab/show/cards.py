"""Cards: predict, then see; exercises whose checks say what is wrong and not what is right.

A prediction is locked before its answer is shown, since a guess that can be taken back teaches less. A wrong choice is
answered with the misconception behind it. Without a browser a card is its question and choices, with no answer.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from IPython.display import HTML, display

BOX = "border:1px solid #999; border-left:6px solid {}; border-radius:4px; padding:10px 14px; margin:6px 0"
GREEN, RED, NEUTRAL = "#117733", "#b00020", "#0072B2"


class Card(ipywidgets.VBox):
    """A question whose answer is locked by the first click; made by `predict`. `chosen` is the choice, or None."""

    def __init__(self, question: str, choices: Sequence[str], answer: int, why: Sequence[str]) -> None:
        self.question, self.choices, self.answer, self.why = question, list(choices), answer, list(why)
        self.chosen: int | None = None
        letters = [f"({chr(97 + i)})" for i in range(len(self.choices))]
        self.buttons = [
            ipywidgets.Button(description=letter, tooltip=choice, layout=ipywidgets.Layout(width="64px", flex="none"))
            for letter, choice in zip(letters, self.choices, strict=True)
        ]
        # the words stand beside the button: inside one they would be cut off instead of broken into lines
        rows = [
            ipywidgets.HBox([button, ipywidgets.HTML(html.escape(choice))])
            for button, choice in zip(self.buttons, self.choices, strict=True)
        ]
        for i, button in enumerate(self.buttons):
            button.on_click(lambda _, i=i: self.choose(i))
        self.said = ipywidgets.HTML("<i>Choose once: your answer is locked before the explanation appears.</i>")
        head = ipywidgets.HTML(f"<b>Predict.</b> {html.escape(question)}")
        super().__init__([head, *rows, self.said],
                         layout=ipywidgets.Layout(border_left=f"6px solid {NEUTRAL}", padding="6px 12px"))  # fmt: skip

    def choose(self, place: int) -> None:
        """Lock a choice and show what it means; a second call changes nothing."""
        if self.chosen is not None:
            return
        self.chosen = place
        for i, button in enumerate(self.buttons):
            button.disabled = True
            button.icon = "check" if i == self.answer else "times" if i == place else ""
        self.said.value = self.explanation()

    def explanation(self) -> str:
        """HTML: whether the locked choice is right, and why; the answer alone where none was chosen."""
        right = f"({chr(97 + self.answer)}) {self.choices[self.answer]}"
        parts = [(GREEN, f"{right}: {self.why[self.answer]}")]
        if self.chosen is None or self.chosen == self.answer:
            parts[0] = (GREEN, ("Right. " if self.chosen is not None else "") + parts[0][1])
        else:
            wrong = f"You chose ({chr(97 + self.chosen)}). {self.why[self.chosen]}"
            parts.insert(0, (RED, wrong))
        return "".join(f'<div role="status" style="{BOX.format(c)}">{html.escape(text)}</div>' for c, text in parts)

    def reveal(self) -> HTML:
        """The explanation as static HTML, for the cell after the result; it locks the card if nothing was chosen."""
        for button in self.buttons:
            button.disabled = True
        return HTML(self.explanation())

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        letters = [f"({chr(97 + i)}) {choice}" for i, choice in enumerate(self.choices)]
        items = "".join(f"<div>{html.escape(line)}</div>" for line in letters)
        page = f'<div style="{BOX.format(NEUTRAL)}"><b>Predict.</b> {html.escape(self.question)}{items}</div>'
        plain = "\n".join([f"Predict. {self.question}", *letters])
        return {"application/vnd.jupyter.widget-view+json": view, "text/html": page, "text/plain": plain}, {}


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
    if len(choices) < 2 or len(set(choices)) != len(choices):
        raise ValueError(f"a prediction needs two or more different choices, got {list(choices)}")
    if isinstance(answer, str):
        if answer not in choices:
            raise ValueError(f"answer {answer!r} is none of the choices {list(choices)}")
        answer = list(choices).index(answer)
    if not 0 <= answer < len(choices):
        raise ValueError(f"answer {answer} is no position among {len(choices)} choices")
    missing = [c for c in choices if c not in why] if isinstance(why, Mapping) else []
    if missing or len(why) != len(choices):
        raise ValueError(f"why must speak to each of {len(choices)} choices, got {len(why)}; missing: {missing}")
    return Card(question, choices, answer, [why[c] for c in choices] if isinstance(why, Mapping) else why)


def exercise(prompt: str, *, number: int | None = None) -> None:
    """Display an exercise's prompt as a box."""
    head = "Exercise" if number is None else f"Exercise {number}"
    text = f"{head}. {prompt}"
    page = f'<div style="{BOX.format("#AA4499")}"><b>{head}.</b> {html.escape(prompt)}</div>'
    display({"text/html": page, "text/plain": text}, raw=True)


def check(title: str, *conditions: tuple[Any, str]) -> bool:
    """Check an exercise: each condition is `(passed, hint)`; the hints of those that fail are shown, nothing else.

    Returns whether all passed. A learner sees lines and no traceback; where `AVLAB_RUN` is set (a run that tests the
    notebook, whose solutions must pass) a failure raises `AssertionError` with the hints. Raises `ValueError` without
    conditions, or for a hint that is not a sentence.

    >>> check("mean of two", (2 == 2, "add before you divide"))
    mean of two: right (1 of 1 checks)
    True
    """
    if not conditions or not all(isinstance(c, tuple) and len(c) == 2 and isinstance(c[1], str) for c in conditions):
        raise ValueError(f"check {title!r} needs conditions of the form (passed, 'hint')")
    wrong = [hint for passed, hint in conditions if not bool(passed)]
    count = len(conditions)
    head = f"{title}: right ({count} of {count} checks)" if not wrong else (
        f"{title}: not yet ({count - len(wrong)} of {count} checks)")  # fmt: skip
    plain = "\n".join([head, *(f"  - {hint}" for hint in wrong)])
    lines = "".join(f"<li>{html.escape(hint)}</li>" for hint in wrong)
    colour, mark = (GREEN, "✓") if not wrong else (RED, "✗")
    page = f'<div role="status" style="{BOX.format(colour)}">{mark} {html.escape(head)}<ul>{lines}</ul></div>'
    if _in_notebook():
        display({"text/html": page, "text/plain": plain}, raw=True)
    else:
        print(plain)
    if wrong and os.environ.get("AVLAB_RUN"):
        raise AssertionError(plain)
    return not wrong


def _in_notebook() -> bool:
    from IPython import get_ipython

    return get_ipython() is not None

"""Cards: an answer is locked before it is explained, nothing gives it away, and checks hint without telling."""

from __future__ import annotations

import pytest

from avlab.show import cards
from avlab.show.cards import check, exercise, predict

CHOICES = ["drawn together", "pushed to a <right> angle", "nothing"]
WHY = ["A cosine stands where a distance belongs.", "So says the print.", "The gradient is not zero."]
WIDGET = "application/vnd.jupyter.widget-view+json"


def make(answer: int | str = 1) -> cards.Card:
    return predict("What happens to a matched pair?", CHOICES, answer=answer, why=WHY)


def test_nothing_gives_the_answer_away_before_the_choice() -> None:
    data, _ = make()._repr_mimebundle_()
    assert WIDGET in data
    for other in (0, 2):  # the page is the same whichever choice is right
        same, _ = make(other)._repr_mimebundle_()
        assert (same["text/html"], same["text/plain"]) == (data["text/html"], data["text/plain"])
    for words in (*WHY, "class=", "correct"):
        assert words not in data["text/html"] + data["text/plain"] + make().said.value
    assert "(b) pushed to a &lt;right&gt; angle" in data["text/html"]
    assert "(c) nothing" in data["text/plain"]


def test_a_click_locks_the_answer_then_explains_the_misconception() -> None:
    card = make()
    card.buttons[0].click()
    assert all(button.disabled for button in card.buttons)
    assert WHY[0] in card.said.value
    assert WHY[1] in card.said.value
    assert "You chose (a)" in card.said.value
    assert [button.icon for button in card.buttons] == ["times", "check", ""]
    card.choose(1)
    assert card.chosen == 0  # a second thought changes nothing


def test_the_right_choice_is_confirmed() -> None:
    card = make(CHOICES[1])
    card.choose(1)
    assert "Right." in card.said.value
    assert WHY[0] not in card.said.value


def test_reveal_tells_without_a_browser_and_keeps_a_choice() -> None:
    card = make()
    page = card.reveal().data
    assert "(b) pushed to a &lt;right&gt; angle" in page
    assert WHY[1] in page
    assert card.buttons[0].disabled
    chosen = make()
    chosen.choose(2)
    assert WHY[2] in chosen.reveal().data


def test_each_button_names_its_choice() -> None:
    card = make()
    assert [(button.description, button.tooltip) for button in card.buttons] == [
        (f"({letter})", choice) for letter, choice in zip("abc", CHOICES, strict=True)
    ]
    assert [row.children[1].value for row in card.children[1:4]][1] == "pushed to a &lt;right&gt; angle"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": 3, "why": WHY}, "answer 3 is no position among 3"),
        ({"answer": "none", "why": WHY}, "answer 'none' is none of the choices"),
        ({"answer": 0, "why": WHY[:2]}, "why must speak to each of 3 choices, got 2"),
        ({"answer": 0, "why": {CHOICES[0]: "a", CHOICES[1]: "b", "x": "c"}}, r"missing: \['nothing'\]"),
    ],
)
def test_an_unfair_card_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict("?", CHOICES, **options)


def test_check_hints_at_what_fails_and_at_nothing_else(monkeypatch, capsys) -> None:
    monkeypatch.delenv("AVLAB_RUN", raising=False)
    assert not check("InfoNCE", (True, "mind the temperature"), (False, "which axis is the softmax over?"))
    said = capsys.readouterr().out
    assert "not yet (1 of 2 checks)" in said
    assert "which axis" in said
    assert "temperature" not in said


def test_check_raises_in_a_run_that_tests_the_notebook(monkeypatch) -> None:
    monkeypatch.setenv("AVLAB_RUN", "1")
    assert check("mean", (True, "add first"))
    with pytest.raises(AssertionError, match="add first"):
        check("mean", (False, "add first"))


def test_check_in_a_notebook_shows_escaped_html(monkeypatch) -> None:
    shown = []
    monkeypatch.delenv("AVLAB_RUN", raising=False)
    monkeypatch.setattr(cards, "_in_notebook", lambda: True)
    monkeypatch.setattr(cards, "display", lambda data, **options: shown.append(data))
    check("a < b", (False, "x < y"))
    assert "a &lt; b: not yet" in shown[0]["text/html"]
    assert "x &lt; y" in shown[0]["text/html"]
    exercise("Build <one>.", number=2)
    assert "Exercise 2." in shown[1]["text/html"]
    assert "&lt;one&gt;" in shown[1]["text/html"]


@pytest.mark.parametrize("conditions", [(), (True,), ((True,),), ((True, 3),)])
def test_a_check_without_hints_is_refused(conditions: tuple) -> None:
    with pytest.raises(ValueError, match="conditions of the form"):
        check("mean", *conditions)


def test_check_takes_what_tensors_give() -> None:
    import torch

    assert check("tensor", (torch.tensor(3) > 2, "compare"))

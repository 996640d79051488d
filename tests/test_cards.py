"""Cards: an answer is locked before it is explained, nothing gives it away, and checks hint without telling."""

from __future__ import annotations

import pytest

from avlab.show import cards, progress
from avlab.show.cards import check, exercise, predict, quiz

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
    for words in (*WHY, "correct"):
        assert words not in data["text/html"] + data["text/plain"] + str(make().get_state())
    assert "<li>pushed to a &lt;right&gt; angle</li>" in data["text/html"]
    assert "(c) nothing" in data["text/plain"]


def test_the_browser_learns_the_same_whichever_choice_is_right() -> None:
    states = [make(answer).get_state() for answer in (0, 1, 2)]
    assert states[0]["items"] == states[1]["items"] == states[2]["items"]


def click(card: cards.Card | cards.Quiz, choice: object, question: object = 0) -> None:
    card._handle_custom_msg({"question": question, "choice": choice}, [])


def test_a_click_locks_the_answer_then_explains_the_misconception() -> None:
    card = make()
    click(card, 0)
    (item,) = card.items
    assert (item["locked"], item["tried"], item["right"]) == (True, [0], 1)
    assert item["said"] == [["wrong", f"You chose (a). {WHY[0]}"], ["right", f"(b) {CHOICES[1]}: {WHY[1]}"]]
    click(card, 1)
    assert card.chosen == 0  # a second thought changes nothing
    assert card.items == [item]


def test_the_right_choice_is_confirmed() -> None:
    card = make(CHOICES[1])
    card.choose(1)
    assert card.items[0]["said"] == [["right", f"Right. (b) {CHOICES[1]}: {WHY[1]}"]]


def test_what_is_no_choice_is_not_taken_from_the_browser() -> None:
    card = make()
    for choice, question in ((3, 0), (-1, 0), (True, 0), ("0", 0), (0, 1), (0, -1), (None, None)):
        click(card, choice, question)
    card._handle_custom_msg("0", [])
    assert card.chosen is None


def test_a_quiz_answers_each_wrong_try_and_counts() -> None:
    asked = quiz("Pairs.", [("First?", CHOICES, 1, WHY), ("Second?", ["x", "y"], "y", {"x": "No x.", "y": "Yes y."})])
    click(asked, 0)
    click(asked, 0)  # tried already
    assert asked.items[0]["said"] == [["wrong", f"(a) {WHY[0]}"]]
    assert not asked.items[0]["locked"]
    assert asked.note == "0 of 2 right, 0 at the first try."
    click(asked, 1)
    click(asked, 1, question=1)
    click(asked, 0, question=1)  # answered already
    assert [item["tried"] for item in asked.items] == [[0, 1], [1]]
    assert asked.note == asked.score() == "2 of 2 right, 1 at the first try."
    data, _ = asked._repr_mimebundle_()
    assert "Yes y." not in str(data)
    assert "<li>y</li>" in data["text/html"]


@pytest.mark.parametrize("questions", [[], [("First?", CHOICES, 1)], ["First?"]])
def test_a_quiz_of_another_form_is_refused(questions: list) -> None:
    with pytest.raises(ValueError, match=r"questions of the form \(question, choices, answer, why\)"):
        quiz("Pairs.", questions)


@pytest.fixture
def attended(monkeypatch, tmp_path):
    """As in a notebook that a learner has open."""
    monkeypatch.setenv("AVLAB_HOME", str(tmp_path))
    monkeypatch.setattr(progress, "attended", lambda: True)
    shown = []
    monkeypatch.setattr(cards, "display", lambda data, **options: shown.append(data))
    return shown


def held(card: cards.Card) -> list[str]:
    """What stands in the place of the result: the names of the widgets in its box."""
    import ipywidgets

    boxes = [w for w in ipywidgets.widgets.widget._instances.values() if "avlab-held" in getattr(w, "_dom_classes", ())]
    return [type(child).__name__ for child in boxes[-1].children]


def test_a_result_waits_for_the_answer(attended) -> None:
    card, ran = make(), []
    with card.result():
        ran.append("at once")
    assert ran == ["at once"]
    assert attended[0]["text/plain"] == cards.LOCK
    assert held(card) == ["HTML"]
    card.choose(2)
    assert held(card) == ["Output"]


def test_a_result_after_the_answer_is_shown_as_always(attended) -> None:
    card = make()
    card.choose(1)
    with card.result():
        pass
    assert attended == []


def test_in_a_run_the_result_is_shown_and_explained(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(cards, "display", lambda data, **options: shown.append(data.data))
    with make().result():
        shown.append("the result")
    assert shown[0] == "the result"
    assert WHY[1] in shown[1]


def test_an_error_in_a_result_is_raised(attended) -> None:
    with pytest.raises(ZeroDivisionError), make().result():
        _ = 1 / 0


def test_the_explanation_tells_without_a_choice_and_keeps_one() -> None:
    card = make()
    page = card.explanation()
    assert "(b) pushed to a &lt;right&gt; angle" in page
    assert WHY[1] in page
    chosen = make()
    chosen.choose(2)
    assert WHY[2] in chosen.explanation()


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
    monkeypatch.setattr(cards, "get_ipython", lambda: "a shell")
    monkeypatch.setattr(cards, "display", lambda data, **options: shown.append(data))
    check("a < b", (False, "x < y"))
    assert "a &lt; b: not yet" in shown[0]["text/html"]
    assert "x &lt; y" in shown[0]["text/html"]
    exercise("Build <one>.", number=2, title="a < b")
    assert "Exercise 2: a &lt; b." in shown[1]["text/html"]
    assert "&lt;one&gt;" in shown[1]["text/html"]


@pytest.mark.parametrize("conditions", [(), (True,), ((True,),), ((True, 3),)])
def test_a_check_without_hints_is_refused(conditions: tuple) -> None:
    with pytest.raises(ValueError, match="conditions of the form"):
        check("mean", *conditions)


def test_check_takes_what_tensors_give() -> None:
    import torch

    assert check("tensor", (torch.tensor(3) > 2, "compare"))


def test_check_says_errors_and_stubs_as_hints(monkeypatch, capsys) -> None:
    monkeypatch.delenv("AVLAB_RUN", raising=False)

    def stub() -> bool:
        raise NotImplementedError

    assert not check("mean", (stub, "add first"), (stub, "then divide"))
    assert capsys.readouterr().out == "mean: not yet (0 of 2 checks)\n  - Not written yet.\n"
    assert not check("mean", (lambda: 1 / 0 > 1, "Of nothing there is no mean."), (lambda: True, "unseen"))
    said = capsys.readouterr().out
    assert "mean: not yet (1 of 2 checks)" in said
    assert "Your code stops with ZeroDivisionError: division by zero. Of nothing there is no mean." in said
    assert not check("mean", (lambda: False, "add first"))
    assert "  - add first\n" in capsys.readouterr().out
    monkeypatch.setenv("AVLAB_RUN", "1")
    with pytest.raises(AssertionError, match="Not written yet"):
        check("mean", (stub, "add first"))

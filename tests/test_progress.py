"""Progress: kept through kills and damage, by two kernels at once, for learners and not for runs."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import pytest

from avlab.show import progress
from avlab.show.cards import check, predict, quiz
from avlab.start import start


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AVLAB_HOME", str(tmp_path / "new"))
    monkeypatch.delenv("AVLAB_RUN", raising=False)
    monkeypatch.setattr(progress, "get_ipython", lambda: "a shell")
    monkeypatch.setattr(progress, "_lesson", [])
    monkeypatch.setattr(progress, "_told", set())
    return tmp_path / "new"


def test_a_lesson_is_opened_and_its_cards_and_checks_are_kept(home) -> None:
    start("01_correlation", device="cpu")
    card = predict("Which?", ["a", "b"], answer="a", why=["yes", "no"])
    card.choose(1)
    asked = quiz("Sound.", [("Low?", ["a", "b"], "a", ["yes", "no"])])
    asked.choose(0, 1)
    asked.choose(0, 0)
    check("mean", (False, "add first"))
    check("mean", (True, "add first"))
    check("mean", (False, "add first"))  # what was passed stays passed
    check("sum", (False, "add"))
    kept = progress.read().drop(columns="when")
    assert kept.to_numpy().tolist() == [
        ["01_correlation", "opened", "01_correlation", "", False, 1],
        ["01_correlation", "card", "Which?", "b", False, 1],
        ["01_correlation", "quiz", "Sound. Low?", "a", True, 2],
        ["01_correlation", "check", "mean", "", True, 3],
        ["01_correlation", "check", "sum", "", False, 1],
    ]
    start("00_start_here", device="cpu")
    way = progress.way(["00_start_here", "01_correlation", "02_audio_representations"])
    assert way.to_numpy().tolist() == [
        ["00_start_here", True, 0, 0, 0, 0],
        ["01_correlation", True, 1, 0, 3, 2],
        ["02_audio_representations", False, 0, 0, 0, 0],
    ]


def test_a_prediction_counts_as_it_was_made_first(home) -> None:
    progress.lesson("01")
    progress.note("card", "Which?", right=False, choice="b")
    progress.note("card", "Which?", right=True, choice="a")
    kept = progress.read().iloc[-1]
    assert (kept.choice, kept.right, kept.tries) == ("b", False, 2)


def test_nothing_is_written_in_a_run_outside_of_a_notebook_or_before_a_lesson(home, monkeypatch) -> None:
    progress.note("check", "mean", right=True)  # no lesson was started
    progress.lesson("01") if progress._lesson else progress._lesson.append("01")
    monkeypatch.setenv("AVLAB_RUN", "1")
    progress.note("check", "mean", right=True)
    assert progress.read().empty
    monkeypatch.delenv("AVLAB_RUN")
    monkeypatch.setattr(progress, "get_ipython", lambda: None)
    progress.note("check", "mean", right=True)
    assert not home.exists()


def test_a_run_shows_the_same_way_whoever_runs_it(home, monkeypatch) -> None:
    progress.lesson("01")
    progress.note("check", "mean", right=True)
    monkeypatch.setenv("AVLAB_RUN", "1")
    assert progress.way(["01"]).to_numpy().tolist() == [["01", False, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "entries": [{}]}', '{"version": 1, "entries": [3]}',
     '{"version": 1, "entries": [{"lesson": 1, "kind": "", "id": "", "choice": "", "right": true, "tries": 1, '
     '"when": ""}]}', "\udcff"],
)  # fmt: skip
def test_a_damaged_file_is_kept_aside_and_said_once(home, text) -> None:
    home.mkdir()
    progress.path().write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(UserWarning, match="is damaged") as told:
        progress.lesson("01")
    assert len(told) == 1
    (aside,) = home.glob("*.damaged")
    assert aside.read_bytes() == text.encode("utf-8", "surrogateescape")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        progress.note("check", "mean", right=True)
    assert list(progress.read().kind) == ["opened", "check"]


def test_the_file_of_a_later_version_is_left_alone(home) -> None:
    home.mkdir()
    progress.path().write_text('{"version": 2, "entries": "in another form"}')
    with pytest.warns(UserWarning, match="later avlab"):
        progress.lesson("01")
    assert json.loads(progress.path().read_text())["version"] == 2
    assert not list(home.glob("*.damaged"))


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, home, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AVLAB_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        start("01", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("mean", (True, "add first"))


def test_size_is_capped_and_the_newest_stay(home, monkeypatch) -> None:
    monkeypatch.setattr(progress, "MOST", 7)
    progress.lesson("01")
    for i in range(20):
        progress.note("check", f"{i} " + "x" * 10_000, choice="y" * 10_000)
    kept = progress.read()
    assert [name.split()[0] for name in kept.id] == [str(i) for i in range(13, 20)]
    assert kept.id.str.len().max() == kept.choice.str.len().max() == progress.LONGEST


def _write_many(who: int, count: int) -> None:
    progress.get_ipython = lambda: "a shell"
    progress._lesson[:] = [f"0{who}"]
    for i in range(count):
        progress.note("check", f"check {i}", right=True)


def test_kernels_that_write_at_once_lose_nothing(home) -> None:
    context: Any = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(who, 25)) for who in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    kept = progress.read()
    assert kept.groupby("lesson").size().to_dict() == {"00": 25, "01": 25, "02": 25}
    assert not list(home.glob("*.new"))


def test_the_way_is_a_table_with_heads_and_says_it_in_plain_text_too(home, monkeypatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(progress, "display", lambda data, **_: shown.append(data))
    progress.lesson("01_correlation")
    progress.note("check", "mean", right=True)
    progress.lesson('x"<b>')
    progress.show_way(["00_start_here", "01_correlation"])
    page, plain = shown[0]["text/html"], shown[0]["text/plain"]
    assert '<th scope="row"><a href="01_correlation.ipynb">01 · correlation</a></th><td>passed</td>' in page
    assert "<td>–</td><td>1 of 1</td>" in page
    assert "<b>" not in page
    assert "<caption>Your way so far" in page
    assert str(Path.home()) not in page
    assert plain.splitlines()[1:3] == ["00 · start here | not yet | – | –", "01 · correlation | passed | – | 1 of 1"]

import json

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from scipy import stats

from avlab.course.outcomes import collect, compare, interval, load, save, summarise
from avlab.start import OUTCOME_MIME


def result(seed, **outcomes):
    return {
        "seed": seed,
        "outcomes": outcomes,
        "expectations": {"a beats b": seed != 2},
        "controls": {"shuffled": {"value": 0.0, "chance": 0.1, "passed": True}},
    }


def test_interval_holds_999_of_1000_further_runs_at_small_n():
    generator = np.random.default_rng(0)
    for n in (3, 5, 11):
        inside = 0
        for _ in range(4000):
            *known, new = generator.normal(7.0, 2.0, n + 1)
            bounds = interval(known)
            inside += bounds["low"] <= new <= bounds["high"]
        assert inside >= 4000 * 0.999 - 3 * (4000 * 0.999 * 0.001) ** 0.5


def test_interval_equals_the_students_t_prediction_interval_of_a_regression_on_a_constant():
    values = np.array([0.3, 0.5, 0.45, 0.61, 0.2])
    half = stats.t.interval(0.999, 4)[1] * np.sqrt(values.var(ddof=1) * (1 + 1 / 5))
    known = interval(values)
    assert known["low"] == pytest.approx(values.mean() - half)
    assert known["high"] == pytest.approx(values.mean() + half)


def test_interval_shifts_and_scales_with_the_values():
    values = [0.3, 0.5, 0.45, 0.61, 0.2]
    a, b = interval(values), interval([5 * v for v in values])
    assert b["low"] == pytest.approx(5 * a["low"])
    assert b["sd"] == pytest.approx(5 * a["sd"])


def test_an_outcome_that_never_varied_may_lose_one_pair_of_128():
    known = {"outcomes": {"recall@1": interval([1.0] * 10)}}
    assert compare({"recall@1": 127 / 128}, known) == []
    assert len(compare({"recall@1": 120 / 128}, known)) == 1


def test_two_seeds_are_too_few():
    with pytest.raises(ValueError, match="at least 3 runs, got 2"):
        interval([1.0, 2.0])


def test_compare_names_what_left_its_interval_and_what_only_one_side_knows():
    known = {"outcomes": {"loss": interval([1.0, 1.1, 0.9]), "gone": interval([1.0, 1.0, 1.0])}}
    problems = compare({"loss": 9.0, "new": 1.0}, known)
    assert len(problems) == 3
    assert problems[0].startswith("loss = 9 is outside")
    assert "gone is in the baseline" in problems[1]
    assert "new has no baseline" in problems[2]


def test_summarise_counts_the_seeds_in_which_a_statement_fails():
    summary = summarise([result(seed, loss=float(seed)) for seed in (1, 2, 5)])
    assert summary["seeds"] == [1, 2, 5]
    assert summary["expectations"] == {"a beats b": [2]}
    assert summary["controls"] == {"shuffled": []}
    assert summary["outcomes"]["loss"]["n"] == 3


def test_summarise_refuses_an_outcome_that_some_seeds_lack():
    with pytest.raises(ValueError, match="seed 2 did not record acc"):
        summarise([result(0, loss=1.0, acc=1.0), result(2, loss=1.0), result(3, loss=1.0, acc=2.0)])


def test_save_keeps_the_other_profile_and_load_knows_what_is_missing(tmp_path):
    path = tmp_path / "baselines" / "01_x.json"
    assert load(path, "quick") is None
    save(path, "01_x", "quick", {"seeds": [0]})
    save(path, "01_x", "full", {"seeds": [1]})
    assert load(path, "quick") == {"seeds": [0]}
    assert load(path, "full") == {"seeds": [1]}
    assert json.loads(path.read_text())["notebook"] == "01_x"
    assert list(path.parent.iterdir()) == [path]


def test_collect_reads_every_kind_and_refuses_a_name_stated_twice():
    def cell(kind, name, **more):
        data = {OUTCOME_MIME: {"kind": kind, "name": name, **more}}
        return new_code_cell("", outputs=[new_output("display_data", data=data)])

    cells = [
        cell("record", "loss", value=0.5, higher_is_better=False),
        cell("expect", "a beats b", passed=False, value=False),
        cell("control", "shuffled", value=0.1, chance=0.1, passed=True, low=0.0, high=0.2),
    ]
    found = collect(new_notebook(cells=cells))
    assert found == {
        "outcomes": {"loss": 0.5},
        "expectations": {"a beats b": False},
        "controls": {"shuffled": {"value": 0.1, "chance": 0.1, "passed": True}},
    }
    with pytest.raises(ValueError, match="record 'loss' is stated in cell 1 and again in cell 4"):
        collect(new_notebook(cells=[*cells, cell("record", "loss", value=0.6)]))

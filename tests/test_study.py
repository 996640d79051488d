"""Studies: killed and continued, changed code, failures, processes; intervals and tests against SciPy and loops."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from avlab.study import bootstrap, code_version, grid, holm, paired_tests, read, run, sign_flip


def measure(loss: str = "a", x: float = 1.0, *, seed: int) -> dict[str, float]:
    """A function of its settings alone; one of them cannot be measured."""
    if x < 0:
        raise ZeroDivisionError(f"x is {x}")
    return {"value of x": 10 * x + seed, "process": os.getpid()}


def values(study, metric: str = "value of x") -> list[float]:
    rows = study.results
    return rows[rows["metric"] == metric]["value"].tolist()


def test_each_run_is_made_once(tmp_path):
    out = tmp_path / "runs.jsonl"
    first = run(measure, grid(x=[1.0, 2.0]), out=out, seeds=[0, 1, 5])
    assert (first.made, first.found, values(first)) == (6, 0, [10, 11, 15, 20, 21, 25])
    again = run(measure, grid(x=[1.0, 2.0, 3.0]), out=out, seeds=[0, 1, 5])
    assert (again.made, again.found, len(values(again))) == (3, 6, 9)
    pd.testing.assert_frame_equal(again.results.iloc[:12], first.results)
    assert len(out.read_text().splitlines()) == 9


def test_results_say_where_they_come_from(tmp_path):
    study = run(measure, grid(loss=["b"], x=[1.0]), out=tmp_path / "runs.jsonl")
    row = study.results.iloc[0]
    assert {"loss": "b", "x": 1.0, "seed": 0, "metric": "value of x", "value": 10.0}.items() <= row.to_dict().items()
    assert row["code"] == code_version()
    assert row[["machine", "date", "command", "key"]].astype(str).str.len().min() > 5
    for name in ("results.csv", "results.csv.gz"):
        path = study.save(tmp_path / name[-3:] / name)
        kept = pd.read_csv(path, dtype={"key": str, "code": str, "commit": str}, keep_default_na=False)
        pd.testing.assert_frame_equal(kept, study.results, check_dtype=False, rtol=1e-5)
        assert [file.name for file in path.parent.iterdir()] == [name]


def test_changed_code_or_function_starts_anew(tmp_path):
    source, out = tmp_path / "objective.py", tmp_path / "runs.jsonl"
    source.write_text("one = 1")
    settings = {"out": out, "code": [source]}
    assert run(measure, grid(x=[1.0]), **settings).made == 1
    assert run(measure, grid(x=[1.0]), **settings).made == 0
    source.write_text("one = 2")
    changed = run(measure, grid(x=[1.0]), **settings)
    assert (changed.made, len(values(changed)), len(read(out))) == (1, 1, 2)  # the old run stays, but does not count
    source.write_text("one = 1")
    assert run(measure, grid(x=[1.0]), **settings).made == 0

    def other(x, seed):
        return {"value of x": -x}

    assert values(run(other, grid(x=[1.0]), **settings)) == [-1.0]


def test_the_version_is_of_all_code_and_of_names_too(tmp_path):
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.py").write_text("x")
    a, b = code_version([tmp_path / "a.py"]), code_version([tmp_path / "b.py"])
    assert len({a, b, code_version([tmp_path / "a.py", tmp_path / "b.py"]), code_version()}) == 4
    assert code_version([tmp_path / "b.py", tmp_path / "a.py"]) == code_version([tmp_path / "a.py", tmp_path / "b.py"])
    folder = Path(code_version.__globals__["__file__"]).parent
    both = [folder / "losses" / "__init__.py", folder / "studies" / "__init__.py"]  # one name, two files
    assert code_version(both) != code_version(both[:1])


def test_a_failure_is_named_and_stops_no_other(tmp_path):
    study = run(measure, grid(x=[1.0, -2.0, 3.0]), out=tmp_path / "runs.jsonl", seeds=[0, 1])
    assert values(study) == [10, 11, 30, 31]
    assert study.failed[["x", "seed"]].values.tolist() == [[-2, 0], [-2, 1]]
    assert study.failed["error"].str.match(r"ZeroDivisionError: x is -2.0 \(test_study.py:\d+\)").all()
    assert (study.made, study.found) == (4, 0)
    again = run(measure, grid(x=[1.0, -2.0, 3.0]), out=tmp_path / "runs.jsonl", seeds=[0, 1])
    assert (again.made, again.found, len(again.failed)) == (0, 4, 2)


def test_a_broken_line_costs_one_run(tmp_path):
    out = tmp_path / "runs.jsonl"
    run(measure, grid(x=[1.0]), out=out, seeds=range(3))
    whole = out.read_bytes()
    for cut in range(1, 40, 7):
        out.write_bytes(whole[:-cut])
        study = run(measure, grid(x=[1.0]), out=out, seeds=range(3))
        assert values(study) == [10, 11, 12], cut
        assert study.made == (1 if cut > 1 else 0), cut  # without its last newline a record is still whole
        assert [record["seed"] for record in read(out)] == [0, 1, 2]


def test_nan_is_a_result(tmp_path):
    def broken(*, seed):
        return {"recall": math.nan}

    for made in (1, 0):
        study = run(broken, [{}], out=tmp_path / "runs.jsonl")
        assert study.made == made
        assert np.isnan(values(study, "recall")).all()


def test_settings_that_cannot_be_kept(tmp_path):
    with pytest.raises(ValueError, match=r"asked for twice: \{'x': 1.0\} with seed 0"):
        run(measure, [{"x": 1.0}, {"x": 1.0}], out=tmp_path / "r")
    with pytest.raises(ValueError, match="setting x must be text, a number, True, False or None, got list"):
        run(measure, [{"x": [1.0]}], out=tmp_path / "r")
    with pytest.raises(ValueError, match="cannot be called metric"):
        run(measure, [{"metric": 1.0}], out=tmp_path / "r")


@pytest.mark.slow
def test_two_processes_do_the_same(tmp_path):
    settings, seeds = grid(x=[1.0, -1.0, 2.0]), range(3)
    with ProcessPoolExecutor(2) as executor:
        spread = run(measure, settings, out=tmp_path / "a.jsonl", seeds=seeds, executor=executor)
    alone = run(measure, settings, out=tmp_path / "b.jsonl", seeds=seeds)
    assert values(spread) == values(alone)  # in the order asked for, not in that of finishing
    assert len(spread.failed) == len(alone.failed) == 3
    assert set(values(spread, "process")).isdisjoint({os.getpid()})


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    out, log, script = tmp_path / "runs.jsonl", tmp_path / "made.txt", tmp_path / "slowly.py"
    script.write_text(f"""
import time
from avlab.study import grid, run
def slowly(x, seed):
    time.sleep(0.05)
    with open({str(log)!r}, "a") as file:
        file.write(f"{{x}}\\n")
    return {{"double": 2 * x}}
study = run(slowly, grid(x=list(range(40))), out={str(out)!r}, code=[__file__])
study.save({str(tmp_path / "results.csv")!r})
""")
    kills = 0
    for _ in range(20):
        process = subprocess.Popen([sys.executable, str(script)])
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        while process.poll() is None and kills < 2:
            if log.exists() and len(log.read_text().splitlines()) >= lines + 7:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if process.wait(timeout=60) == 0:
            break
    assert kills == 2
    table = pd.read_csv(tmp_path / "results.csv")
    assert table["value"].tolist() == [2 * x for x in range(40)]
    assert len(read(out)) == 40
    assert 40 <= len(log.read_text().splitlines()) <= 42  # the run under way at a kill is made again, no other


def test_grid():
    assert grid() == [{}]
    assert grid(a=[1, 2], b=["x", "y", "z"])[3] == {"a": 2, "b": "x"}
    assert len(grid(a=range(3), b=range(5), c=range(7))) == 105


@pytest.mark.parametrize("n", [5, 11, 40])
def test_bootstrap_is_scipys(n):
    x = np.random.default_rng(n).gamma(1.5, size=n)
    for confidence in (0.95, 0.8):
        ours = bootstrap(x, draws=30_000, confidence=confidence)
        theirs = stats.bootstrap((x,), np.mean, n_resamples=30_000, confidence_level=confidence, rng=1)
        assert ours.mean == x.mean()
        assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * x.std())


def test_bootstrap_of_known_samples():
    assert bootstrap([3.0]) == bootstrap([3.0, 3.0, 3.0]) == (3, 3, 3)
    assert np.isnan(bootstrap([1.0, math.nan])).all()
    x = np.array([1.0, 2, 4, 8, 3])
    one, other = bootstrap(x), bootstrap(5 - 3 * x)
    assert (other.mean, other.low, other.high) == pytest.approx((5 - 3 * one.mean, 5 - 3 * one.high, 5 - 3 * one.low))
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="at least one number"):
            bootstrap(wrong)
    with pytest.raises(ValueError, match="confidence must lie between"):
        bootstrap([1.0], confidence=95)


def test_bootstrap_of_five_is_too_narrow_as_it_says():
    rng = np.random.default_rng(0)
    hit = [bootstrap(rng.normal(size=5), draws=1000, seed=i) for i in range(1000)]
    assert 0.80 < np.mean([found.low <= 0 <= found.high for found in hit]) < 0.89
    hit = [bootstrap(rng.normal(size=40), draws=1000, seed=i) for i in range(400)]
    assert 0.9 < np.mean([found.low <= 0 <= found.high for found in hit]) < 0.98


@pytest.mark.parametrize("n", [3, 5, 8])
def test_sign_flip_is_scipys(n):
    x, y = np.random.default_rng(n).normal(0.5, size=(2, n))
    theirs = stats.permutation_test((x, y), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(x - y) == pytest.approx(theirs.pvalue, abs=1e-12)
    assert sign_flip(y - x) == sign_flip(x - y) == sign_flip(7 * (x - y))


def test_sign_flip_of_known_samples():
    assert [sign_flip(np.arange(1, n + 1)) for n in (1, 3, 5)] == [1, 0.25, 0.0625]
    assert sign_flip([0, 0, 0]) == 1
    assert sign_flip([1.0, -1.0]) == 1
    many = np.random.default_rng(0).normal(0.4, size=30)
    assert sign_flip(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, rel=0.3, abs=1e-3)
    assert sign_flip(np.ones(30)) > 0  # drawn patterns never make a p of 0
    with pytest.raises(ValueError, match="without NaN"):
        sign_flip([1.0, math.nan])


def slow_holm(p: list[float]) -> list[float]:
    """Step by step, as Holm's paper tells it."""
    m, out, worst = len(p), [0.0] * len(p), 0.0
    for step, i in enumerate(sorted(range(m), key=lambda i: p[i])):
        worst = max(worst, min(1.0, (m - step) * p[i]))
        out[i] = worst
    return out


def test_holm_is_the_slow_one():
    rng = np.random.default_rng(0)
    for m in (1, 2, 7, 23):
        p = rng.random(m) ** 3
        np.testing.assert_allclose(holm(p), slow_holm(p.tolist()), atol=1e-15)
    assert holm([0.01, math.nan, 0.02]).tolist()[::2] == [0.02, 0.02]
    assert np.isnan(holm([0.01, math.nan])[1])
    assert holm([]).tolist() == []


def table(seeds: int = 6) -> pd.DataFrame:
    """Three methods: `good` is better than `twin` by 1, `twin` and `same` differ by noise around 0."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck = rng.normal(scale=5)
        for name, mean in {"good": 1.0, "twin": 0.0, "same": 0.0}.items():
            rows.append({"loss": name, "seed": seed, "metric": "recall", "value": luck + mean + rng.normal(scale=0.1)})
            rows.append({"loss": name, "seed": seed, "metric": "other", "value": 0.0})
    return pd.DataFrame(rows)


def test_paired_tests_are_scipys():
    frame = table()
    found = paired_tests(frame, "recall", by="loss").set_index(["a", "b"])
    recall = frame[frame["metric"] == "recall"].pivot(index="seed", columns="loss", values="value")
    pairs = [("good", "twin"), ("good", "same"), ("twin", "same")]
    expected = [stats.ttest_rel(recall[a], recall[b]) for a, b in pairs]
    assert found.index.tolist() == pairs
    np.testing.assert_allclose(found["p"], [e.pvalue for e in expected], rtol=1e-9)
    np.testing.assert_allclose(found["p_holm"], slow_holm([e.pvalue for e in expected]), rtol=1e-9)
    interval = [tuple(e.confidence_interval(0.95)) for e in expected]
    np.testing.assert_allclose(found[["low", "high"]], interval, rtol=1e-9)
    assert found["significant"].tolist() == [True, True, False]
    unpaired = stats.ttest_ind(recall["good"], recall["twin"]).pvalue
    assert unpaired > 0.5 > 0.001 > found["p"].iloc[0]  # without pairing, the luck of a seed hides it


def test_paired_tests_by_signs_and_against_one():
    found = paired_tests(table(), "recall", by="loss", test="signs", against="twin")
    assert found[["a", "b"]].values.tolist() == [["good", "twin"], ["same", "twin"]]
    assert found["p"].iloc[0] == 2 / 2**6
    assert found["p_holm"].iloc[0] == 2 * 2 / 2**6
    assert not paired_tests(table(5), "recall", by="loss", test="signs")["significant"].any()  # 2 / 2^5 is above 0.05


def test_paired_tests_take_what_both_have():
    frame = table()
    some = frame[~((frame["loss"] == "good") & (frame["seed"] < 2))].sample(frac=1, random_state=0)
    found = paired_tests(some, "recall", by="loss").set_index(["a", "b"])["pairs"]
    assert {frozenset(pair): n for pair, n in found.items()} == {
        frozenset(("good", "twin")): 4,
        frozenset(("good", "same")): 4,
        frozenset(("twin", "same")): 6,
    }
    lonely = paired_tests(frame[frame["seed"] == 0], "recall", by="loss")
    assert not lonely["significant"].any()
    assert lonely["p"].isna().all()
    assert not paired_tests(frame, "other", by="loss")["significant"].any()  # no difference at all


def test_paired_tests_over_seeds_and_data():
    frame = pd.concat([table().assign(data=data) for data in ("x", "y")])
    with pytest.raises(ValueError, match="several values for one loss and"):
        paired_tests(frame, "recall", by="loss")
    assert set(paired_tests(frame, "recall", by="loss", over=["seed", "data"])["pairs"]) == {12}
    with pytest.raises(ValueError, match="no metric 'mAP'; there are"):
        paired_tests(frame, "mAP", by="loss")
    with pytest.raises(ValueError, match="no loss 'worse'"):
        paired_tests(table(), "recall", by="loss", against="worse")
    with pytest.raises(ValueError, match="test must be"):
        paired_tests(table(), "recall", by="loss", test="u")


def test_false_alarms_are_as_rare_as_they_should_be():
    """Five methods that are all the same: at least one of ten comparisons is called significant in at most ~5 %."""
    rng, alarms = np.random.default_rng(0), 0
    names, studies = "abcde", 120
    for _ in range(studies):
        rows = [
            {"loss": name, "seed": seed, "metric": "m", "value": rng.normal()}
            for name, seed in itertools.product(names, range(6))
        ]
        alarms += paired_tests(pd.DataFrame(rows), "m", by="loss")["significant"].any()
    assert alarms / studies < 0.12  # 99.9 % of honest procedures at 5 % stay below


def test_records_are_json(tmp_path):
    out = tmp_path / "runs.jsonl"
    run(measure, grid(x=[1.0]), out=out)
    record = json.loads(out.read_text())
    assert record["settings"] == {"x": 1.0}
    assert set(record) >= {"key", "seed", "values", "seconds", "code", "commit", "machine", "date", "command"}

"""What a lesson states about its run, compared with what honest runs over seeds gave.

`tests/baselines/NN_theme.json` holds, for each profile, the seeds and, for each recorded outcome, mean, standard
deviation, n and the interval in which a further honest run lies with probability 99.9 %:

    mean ± max(t sd sqrt(1 + 1/n), FLOOR |mean|),   t = Student's t with n - 1 degrees of freedom at 0.9995

that is the prediction interval of one new normal observation. The floor serves outcomes that barely vary: a recall
that was 1.0 for all seeds has sd 0, and one pair of 128 lost is no regression.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from scipy.stats import t as student_t

from avlab.start import HONEST, OUTCOME_MIME

FLOOR = 0.01  # of |mean|
FEWEST_SEEDS = 3  # with two, t is 637: the interval would let everything pass


def collect(notebook: nbformat.NotebookNode) -> dict[str, dict[str, Any]]:
    """The outcomes stated in an executed notebook: `{"outcomes": {name: value}, "expectations": ..., "controls": ...}`.

    Expectations map the statement to True or False, controls the name to `{value, chance, passed}`.
    Raises `ValueError` if two cells state the same name: one of the two numbers would be lost.
    """
    found: dict[str, dict[str, Any]] = {"outcomes": {}, "expectations": {}, "controls": {}}
    places: dict[tuple[str, str], int] = {}
    for place, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            outcome = output.get("data", {}).get(OUTCOME_MIME)
            if outcome is None:
                continue
            kind, name = outcome["kind"], outcome["name"]
            if (kind, name) in places:
                raise ValueError(f"{kind} {name!r} is stated in cell {places[kind, name]} and again in cell {place}")
            places[kind, name] = place
            if kind == "record":
                found["outcomes"][name] = outcome["value"]
            elif kind == "expect":
                found["expectations"][name] = outcome["passed"]
            else:
                found["controls"][name] = {key: outcome[key] for key in ("value", "chance", "passed")}
    return found


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, n and the interval that holds 99.9 % of further honest runs (see the module).

    Raises `ValueError` for fewer than three values.

    >>> {key: round(value, 3) for key, value in interval([0.5, 0.6, 0.55, 0.62, 0.48]).items()}
    {'mean': 0.55, 'sd': 0.061, 'n': 5, 'low': -0.024, 'high': 1.124}
    """
    n = len(values)
    if n < FEWEST_SEEDS:
        raise ValueError(f"an interval needs at least {FEWEST_SEEDS} runs, got {n}: raise --seeds (10 is usual)")
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = max(float(student_t.ppf((1 + HONEST) / 2, n - 1)) * sd * math.sqrt(1 + 1 / n), FLOOR * abs(mean))
    return {"mean": mean, "sd": sd, "n": n, "low": mean - half, "high": mean + half}


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One profile's baseline from the results of several seeds (see `run.run_notebook`).

    An outcome that some seeds did not record raises `ValueError`: what a lesson records must not depend on luck.
    `expectations` and `controls` map each statement to the seeds in which it failed.
    """
    seeds = [result["seed"] for result in results]
    names = {name for result in results for name in result["outcomes"]}
    for result in results:
        missing = names - set(result["outcomes"])
        if missing:
            raise ValueError(f"seed {result['seed']} did not record {', '.join(sorted(missing))}; other seeds did")
    return {
        "seeds": seeds,
        "outcomes": {name: interval([result["outcomes"][name] for result in results]) for name in sorted(names)},
        "expectations": _failing(results, "expectations", lambda passed: not passed),
        "controls": _failing(results, "controls", lambda control: not control["passed"]),
    }


def _failing(results: Sequence[dict[str, Any]], part: str, failed: Any) -> dict[str, list[int]]:
    names = sorted({name for result in results for name in result[part]})
    return {name: [r["seed"] for r in results if name in r[part] and failed(r[part][name])] for name in names}


def save(path: Path, notebook: str, profile: str, summary: dict[str, Any]) -> None:
    """Put one profile's baseline into the notebook's file, keeping the other profile's; written atomically."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"notebook": notebook, "profiles": {}}
    content["profiles"][profile] = summary
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)


def load(path: Path, profile: str) -> dict[str, Any] | None:
    """The baseline of one profile, or None where none was calibrated."""
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["profiles"].get(profile)


def compare(outcomes: dict[str, float], baseline: dict[str, Any]) -> list[str]:
    """One sentence for each outcome that left its interval, or that baseline and run do not share.

    >>> known = {"mean": 1.0, "sd": 0.1, "n": 5, "low": 0.5, "high": 1.5}
    >>> compare({"loss": 2.0}, {"outcomes": {"loss": known}})
    ['loss = 2 is outside of its baseline [0.5, 1.5] of 5 seeds (mean 1)']
    """
    problems = []
    for name, known in baseline["outcomes"].items():
        if name not in outcomes:
            problems.append(f"{name} is in the baseline and was not recorded: calibrate again if it was dropped")
        elif not known["low"] <= outcomes[name] <= known["high"]:
            problems.append(
                f"{name} = {outcomes[name]:.4g} is outside of its baseline [{known['low']:.4g}, {known['high']:.4g}] "
                f"of {known['n']} seeds (mean {known['mean']:.4g})"
            )
    problems += [f"{name} has no baseline yet: calibrate" for name in outcomes if name not in baseline["outcomes"]]
    return problems

"""A study: one function over a grid of settings and seeds, killed and continued, and what its numbers allow to say.

Each run is keyed by a hash of the function's name, its settings and seed, and of the source of the package: the same
run is never made twice, and a run of other code never stands for one of this code. A finished run is appended to a
file of JSON lines in one write, so that a kill at any moment leaves whole runs and at most one broken last line, which
is passed over. Runs can go to any `concurrent.futures.Executor`, in processes here or on a cluster (Dask's and Ray's
are such executors).

Left out here: nested designs (use a random effect where clips and seeds both vary), power analysis.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import os
import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from scipy import stats
from tqdm import tqdm

import avlab

FEW = 12  # up to so many differences all patterns of signs are counted; beyond, so many are drawn:
DRAWS = 100_000


@dataclass
class Study:
    """What `run` gives back: `results` (tidy), `failed` (settings, seed, error), and how many were `made` or `found`.

    `results` has a row for each run and metric: the settings, `seed`, `metric`, `value`, `seconds`, then where it comes
    from: `key`, `code`, `commit`, `machine`, `date`, `command`.
    """

    results: pd.DataFrame
    failed: pd.DataFrame
    made: int
    found: int

    def save(self, path: str | Path) -> Path:
        """The results as a CSV file (.csv or .csv.gz, 6 digits), written beside its place and moved there."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(".part-" + path.name)
        self.results.to_csv(part, index=False, float_format="%.6g")
        part.replace(path)
        return path


def grid(**axes: Iterable[Any]) -> list[dict[str, Any]]:
    """All combinations of the values of some settings.

    >>> grid(loss=["triplet", "hinge"], margin=[0.1])
    [{'loss': 'triplet', 'margin': 0.1}, {'loss': 'hinge', 'margin': 0.1}]
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def code_version(files: Iterable[str | Path] | None = None) -> str:
    """Hash of some source files, or of every module of `avlab`: 12 hexadecimal digits that change with the code."""
    root = Path(avlab.__file__).resolve().parent
    paths = {Path(file).resolve() for file in files} if files is not None else set(root.rglob("*.py"))
    named = {str(path.relative_to(root) if path.is_relative_to(root) else path.name): path for path in paths}
    digest = hashlib.sha256()
    for name in sorted(named):
        digest.update(name.encode() + b"\0" + named[name].read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def run(
    function: Callable[..., Mapping[str, float]],
    settings: Sequence[Mapping[str, Any]],
    *,
    out: str | Path,
    seeds: Iterable[int] = (0,),
    executor: Executor | None = None,
    code: Iterable[str | Path] | None = None,
    progress: bool = False,
) -> Study:
    """`function(**settings, seed=seed) -> {metric: value}` for all settings and seeds, but for those already in `out`.

    `out` is a file of JSON lines that grows by one line a run. A run counts as made if its settings, seed, function and
    code agree (`code`: files to hash; None: the whole package, so any change of `avlab` starts anew; old lines stay in
    the file, for comparison, and are not in the results). An `executor` gets all runs that are left; without one they
    run here, one by one. A run that raises is reported in `failed` with the last line of its error, does not stop the
    others, and is tried again next time. A metric may be NaN: that is a result.

    Raises `ValueError` where two settings are the same, where a setting is not a plain value (text, number, None), or
    where a setting is named like a column of the results.
    """
    out = Path(out)
    version, seeds = code_version(code), list(seeds)
    wanted = {}
    for one, seed in itertools.product(settings, seeds):
        _check_settings(one)
        key = _key(function, one, seed, version)
        if key in wanted:
            raise ValueError(f"the same run is asked for twice: {dict(one)} with seed {seed}")
        wanted[key] = (dict(one), seed)
    done = {record["key"]: record for record in read(out) if record["key"] in wanted}
    left = [key for key in wanted if key not in done]
    origin = {"code": version, **_origin()}
    failed = []

    def keep(key: str, outcome: dict[str, Any]) -> None:
        one, seed = wanted[key]
        if "error" in outcome:
            failed.append({**one, "seed": seed, "error": outcome["error"]})
            return
        record = {"key": key, "settings": one, "seed": seed, **outcome, **origin, "date": _now()}
        _append(out, record)
        done[key] = record

    with tqdm(total=len(wanted), initial=len(done), unit="run", disable=not progress, file=sys.stdout) as bar:
        if executor is None:
            for key in left:
                keep(key, _attempt(function, *wanted[key]))
                bar.update()
        else:
            futures = {executor.submit(_attempt, function, *wanted[key]): key for key in left}
            for future in as_completed(futures):
                keep(futures[future], _outcome(future))
                bar.update()
    rows = [row for key in wanted if key in done for row in _tidy(done[key])]
    return Study(pd.DataFrame(rows), pd.DataFrame(failed), len(left) - len(failed), len(wanted) - len(left))


def read(path: str | Path) -> list[dict[str, Any]]:
    """Whole records of a file of JSON lines, in order; a line that a kill has cut off is passed over."""
    path = Path(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "key" in record:
            records.append(record)
    return records


class Interval(NamedTuple):
    """`mean` of the values and the interval [`low`, `high`]."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | np.ndarray | pd.Series, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean with a bias-corrected and accelerated (BCa) bootstrap interval, Efron 1987.

    With few values (five seeds) any bootstrap is too narrow: it covers about 84 % where it says 95 %. Of one value, or
    of equal ones, the interval is that value. NaN in, NaN out. Raises `ValueError` without values.

    >>> found = bootstrap([0.1, 0.2, 0.3, 0.4])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.25, 0.15, 0.35)
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"values must be a list of at least one number, got shape {x.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    mean = float(x.mean())
    if np.isnan(mean) or np.ptp(x) == 0:
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    means = x[rng.integers(len(x), size=(draws, len(x)))].mean(1)
    # share of draws below, ties by half: else a symmetric sample of few values would look biased
    below = ((means < mean).sum() + (means == mean).sum() / 2) / draws
    bias = stats.norm.ppf(below)
    without = (x.sum() - x) / (len(x) - 1)  # the jackknife's means
    gaps = without.mean() - without
    acceleration = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    tails = bias + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(means, stats.norm.cdf(bias + tails / (1 - acceleration * tails)))
    return Interval(mean, float(low), float(high))


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of paired differences by flipping their signs: how often chance gives a mean as far from 0.

    Exact (all 2^n patterns) up to 12 differences, else 100,000 drawn ones; no shape of the distribution is assumed. The
    smallest p that n pairs allow is 2 / 2^n, so five seeds never give less than 0.0625. Raises `ValueError` for NaN or
    an empty list.

    >>> sign_flip([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0625
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) == 0 or np.isnan(d).any():
        raise ValueError(f"differences must be a list of numbers without NaN, got {d}")
    if len(d) <= FEW:
        signs = np.array(list(itertools.product((1, -1), repeat=len(d))))
        extra = 0
    else:
        signs = np.random.default_rng(0).choice((1, -1), size=(DRAWS, len(d)))
        extra = 1  # the pattern that was seen counts among those drawn, else p could be 0
    far = np.abs(signs @ d) >= np.abs(d.sum()) - 1e-12 * np.abs(d).sum()
    return float((far.sum() + extra) / (len(far) + extra))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values corrected for how many tests there are, after Holm 1979: `max over smaller ones of (m - rank) p`.

    Among those called significant at 0.05, the chance of even one false one is at most 5 %. NaN stays NaN and does not
    count as a test.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(order) else scaled
    return corrected


def paired_tests(
    frame: pd.DataFrame,
    metric: str,
    *,
    by: str,
    over: str | Sequence[str] = "seed",
    against: str | None = None,
    test: str = "t",
    level: float = 0.05,
) -> pd.DataFrame:
    """Every two values of the setting `by` compared on one metric, paired by `over`, corrected after Holm.

    `frame` is tidy: columns `metric`, `value`, `by` and those of `over`. Two methods are compared on the same seeds
    (and data sets, if `over` names them), where both have a value: that takes out what a lucky seed gives to both.
    `against` compares all others with one only, which costs fewer corrections. `test` is "t" (paired t, for differences
    that are about normal) or "signs" (`sign_flip`, which assumes nothing, but cannot fall below 2 / 2^n).

    Returns a row a comparison: `a`, `b`, `difference` (mean of a - b), `low`, `high` (95 % t interval of it), `pairs`,
    `p`, `p_holm`, `significant`. A comparison that is not significant says: these runs cannot tell the two apart.
    Raises `ValueError` for an unknown metric, `against` or test, or where a pair has several values.
    """
    if test not in ("t", "signs"):
        raise ValueError(f'test must be "t" or "signs", got {test!r}')
    over = [over] if isinstance(over, str) else list(over)
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no metric {metric!r}; there are {sorted(frame['metric'].unique())}")
    if rows.duplicated([by, *over]).any():
        raise ValueError(
            f"several values for one {by} and {over}: choose the other settings first, or name them in over"
        )
    wide = rows.pivot(index=over, columns=by, values="value")
    names = list(dict.fromkeys(rows[by]))
    if against is not None and against not in names:
        raise ValueError(f"no {by} {against!r}; there are {names}")
    pairs = itertools.combinations(names, 2) if against is None else ((n, against) for n in names if n != against)
    found = []
    for a, b in pairs:
        d = (wide[a] - wide[b]).dropna().to_numpy()
        found.append({"a": a, "b": b, **_compared(d, test)})
    table = pd.DataFrame(found, columns=["a", "b", "difference", "low", "high", "pairs", "p"])
    table["p_holm"] = holm(table["p"].to_numpy())
    table["significant"] = table["p_holm"] < level
    return table


def _compared(d: np.ndarray, test: str) -> dict[str, float]:
    """Mean of differences, its 95 % t interval, their number, and p; of fewer than two there is no test."""
    if len(d) < 2:
        mean = float(d.mean()) if len(d) else np.nan
        return {"difference": mean, "low": np.nan, "high": np.nan, "pairs": len(d), "p": np.nan}
    error = d.std(ddof=1) / np.sqrt(len(d))
    half = stats.t.ppf(0.975, len(d) - 1) * error
    if test == "signs":
        p = sign_flip(d)
    elif error == 0:  # all differences equal: no doubt is left, unless they are 0
        p = float(d[0] == 0)
    else:
        p = 2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1)
    mean = float(d.mean())
    return {"difference": mean, "low": mean - half, "high": mean + half, "pairs": len(d), "p": float(p)}


def _check_settings(one: Mapping[str, Any]) -> None:
    for name, value in one.items():
        if value is not None and not isinstance(value, str | int | float | bool):
            raise ValueError(f"setting {name} must be text, a number, True, False or None, got {type(value).__name__}")
        if name in ("seed", "metric", "value", "seconds", "key", "code", "commit", "machine", "date", "command"):
            raise ValueError(f"a setting cannot be called {name}: the results have a column of that name")


def _key(function: Callable[..., Any], one: Mapping[str, Any], seed: int, version: str) -> str:
    what = [f"{function.__module__}.{function.__qualname__}", dict(one), int(seed), version]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _attempt(function: Callable[..., Mapping[str, float]], one: dict[str, Any], seed: int) -> dict[str, Any]:
    """Runs in the worker: an exception comes back as text, since not every exception survives pickling."""
    begun = time.perf_counter()
    try:
        values = {str(name): float(value) for name, value in function(**one, seed=seed).items()}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"error": f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"}
    return {"values": values, "seconds": round(time.perf_counter() - begun, 3)}


def _outcome(future: Future) -> dict[str, Any]:
    error = future.exception()
    return future.result() if error is None else {"error": f"{type(error).__name__}: {error}"}


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """One line in one write, on disk when this returns; a broken last line of a killed run is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record) + "\n").encode()
    with FileLock(f"{path}.lock"), open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _tidy(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    origin = {name: record[name] for name in ("key", "code", "commit", "machine", "date", "command")}
    return [
        {**record["settings"], "seed": record["seed"], "metric": metric, "value": value}
        | {"seconds": record["seconds"]}
        | origin
        for metric, value in record["values"].items()
    ]


def _origin() -> dict[str, str]:
    """Commit (with + where files have changed since), machine and command of this process."""
    root = Path(avlab.__file__).parents[1]
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run([*git, "status", "--porcelain", "avlab"], capture_output=True, text=True, timeout=10)
        named = commit.stdout.strip() + ("+" if changed.stdout.strip() else "") if commit.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        named = ""  # installed as a package, without git: the hash of the code says which it was
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    program, *arguments = sys.orig_argv  # with -m and the name of the module, which sys.argv has lost
    command = shlex.join([Path(program).name, *arguments])
    return {"commit": named, "machine": machine, "command": command}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

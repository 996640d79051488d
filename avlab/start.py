"""`lab = avlab.start("NN_theme")`: the first line of every lesson.

It makes the run repeatable (seed, deterministic algorithms, threads), says on which device and in which profile it
runs, and gives the lesson three ways to state what it found, which the runner (`avlab run`) reads back:

- `lab.record(name, value)`: a number that the lesson rests on, compared with its calibrated baseline;
- `lab.expect(statement, passed)`: a relation that the lesson teaches;
- `lab.control(name, value, chance=...)`: a negative control, which must stay at chance.
"""

from __future__ import annotations

import html
import math
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

if TYPE_CHECKING:  # the heavy imports stand in the functions, so that `import avlab` and its commands start at once
    import torch

T = TypeVar("T")
OUTCOME_MIME = "application/vnd.avlab.outcome+json"
PROFILES = ("quick", "full")
HONEST = 0.999  # the share of honest runs that a control or a baseline must let pass
FEWEST_TRIALS = 50  # below it an interval around chance is too wide to say anything


@dataclass
class Lab:
    """The settings of a lesson's run and what it found; made by `start`.

    `device` is a torch device, `profile` "quick" or "full", `clips` "world", "samples" or a path. `outcomes`,
    `expectations` and `controls` hold what was stated so far, by name (stating it again replaces it).
    """

    name: str
    profile: str
    seed: int
    device: torch.device
    clips: str = "world"
    outcomes: dict[str, float] = field(default_factory=dict)
    expectations: dict[str, bool] = field(default_factory=dict)
    controls: dict[str, bool] = field(default_factory=dict)

    @property
    def quick(self) -> bool:
        """True in the quick profile: at most 90 s on two cores."""
        return self.profile == "quick"

    def pick(self, *, quick: T, full: T) -> T:
        """The setting that belongs to this run's profile: `steps = lab.pick(quick=300, full=3000)`."""
        return quick if self.quick else full

    def generator(self, offset: int = 0) -> torch.Generator:
        """A CPU generator that depends on the run's seed and `offset` alone: the same numbers on every device.

        >>> import torch
        >>> lab = Lab("00_demo", "quick", 3, torch.device("cpu"))
        >>> torch.equal(torch.rand(5, generator=lab.generator(1)), torch.rand(5, generator=lab.generator(1)))
        True
        """
        import torch

        # the factor keeps (seed 0, offset 1) apart from (seed 1, offset 0): runs over seeds share no numbers
        return torch.Generator().manual_seed(self.seed * 1_000_003 + offset)

    def record(self, name: str, value: float, *, higher_is_better: bool = True) -> float:
        """State a number that the lesson rests on; returns it as a float.

        Raises `ValueError` if it is not one finite number.
        """
        number = _number(name, value)
        self.outcomes[name] = number
        _show({"kind": "record", "name": name, "value": number, "higher_is_better": higher_is_better}, f"{number:.4g}")
        return number

    def expect(self, statement: str, passed: bool) -> bool:
        """State a relation that the lesson teaches, in words, and whether this run shows it; returns `passed`.

        A false one is shown in red and does not stop the lesson; the runner fails the notebook with its statement.
        Raises `TypeError` if `passed` is not a truth value: a number here is most often a forgotten comparison.
        """
        if getattr(passed, "shape", None) == ():  # of numpy or torch
            passed = passed.item()
        if not isinstance(passed, bool):
            raise TypeError(f"expect({statement!r}) needs True or False, got {passed!r}: did you mean to compare it?")
        self.expectations[statement] = passed
        _show({"kind": "expect", "name": statement, "value": passed, "passed": passed}, "")
        return passed

    def control(
        self, name: str, value: float, *, chance: float, tolerance: float | None = None, n: int | None = None
    ) -> bool:
        """State a negative control (shuffled pairs, silence): it passes if `value` cannot be told from `chance`.

        With `tolerance`: passes iff `|value - chance| <= tolerance`, for any unit. Without: `value` is the share of
        `n` trials that succeeded, and passes iff its count lies in the interval that holds 99.9 % of Binomial(n,
        chance): well above chance means a leak, well below it a bug of sign. `n` defaults to `1 / chance`, right for
        recall@1 among n items; that default must be at least 50, below which almost nothing could fail.
        (Exact, for with few expected successes three standard errors would fail one honest run in fifty.)

        Raises `ValueError` where the criterion is missing or cannot be met.

        >>> lab = start("00_demo", device="cpu")  # doctest: +ELLIPSIS
        00_demo · cpu, ...
        >>> lab.control("recall@1, shuffled", 2 / 128, chance=1 / 128)
        control · recall@1, shuffled = 0.01562, chance 0.007812 (0 to 0.04688) · at chance, as it must be
        True
        """
        number, chance = _number(name, value), _number(name, chance)
        if tolerance is None:
            if n is not None and n < 1:
                raise ValueError(f"control {name!r}: n = {n} trials are none; n is their number")
            if not 0 < chance < 1:
                raise ValueError(f"control {name!r}: chance {chance:g} is no probability; give tolerance= in its unit")
            trials = n if n is not None else round(1 / chance)
            if n is None and trials < FEWEST_TRIALS:
                raise ValueError(f"control {name!r}: say of how many trials it is the share (n=), or give tolerance=")
            from scipy.stats import binom

            low, high = (float(count) / trials for count in binom.interval(HONEST, trials, chance))
            if low <= 0 and high >= 1:
                raise ValueError(f"control {name!r}: with n = {trials} trials no value could fail; use more")
        else:
            low, high = chance - tolerance, chance + tolerance
        passed = low - 1e-9 <= number <= high + 1e-9
        self.controls[name] = passed
        outcome = {"kind": "control", "name": name, "value": number, "chance": chance, "passed": passed}
        _show(outcome | {"low": low, "high": high}, f"{number:.4g}, chance {chance:.4g} ({low:.4g} to {high:.4g})")
        return passed


def start(
    name: str,
    *,
    profile: Literal["quick", "full"] = "quick",
    seed: int = 0,
    device: str = "auto",
    clips: str = "world",
) -> Lab:
    """Begin a lesson: seed Python, numpy and torch, choose device and threads, set the figures' style; say so.

    `device` "auto" takes CUDA where there is one, else the CPU; "cpu", "cuda", "cuda:1" or "mps" asks for one.
    Threads: the physical cores this process may use, 2 in continuous integration (`CI` set), or `AVLAB_THREADS`.
    Raises `ValueError` naming the setting that cannot be used.

    >>> lab = start("00_demo", seed=5, device="cpu")  # doctest: +ELLIPSIS
    00_demo · cpu, ... · quick profile · seed 5
    """
    import numpy as np
    import torch

    from avlab.show import progress

    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} is unknown: choose one of {', '.join(PROFILES)}")
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    chosen = _device(device)
    threads = _threads()
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that use the global state are to be repeatable too
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    # a few CUDA operations have no deterministic form: there they warn, for a lesson should go on
    torch.use_deterministic_algorithms(True, warn_only=chosen.type != "cpu")
    _use_style()
    progress.lesson(name)
    if chosen.type == "cuda":
        where = f"{chosen} ({torch.cuda.get_device_name(chosen)})"
    else:
        where = f"{chosen}, {threads} thread{'s' * (threads != 1)}"
    print(f"{name} · {where} · {profile} profile · seed {seed}" + (f" · clips {clips}" if clips != "world" else ""))
    return Lab(name, profile, seed, chosen, clips)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f'device {name!r} is unknown: use "auto", "cpu", "cuda" or "mps"') from None
    ready = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not ready.get(device.type, False):
        raise ValueError(f'device {name!r} is not on this machine: use "auto", or see `avlab doctor`')
    return device


def _threads() -> int:
    import psutil

    asked = os.environ.get("AVLAB_THREADS")
    if asked is not None:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"AVLAB_THREADS={asked!r} must be a whole number of 1 or more: set it so, or not at all")
        return int(asked)
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux: the cores that this process may use, in a container for example
        cores = min(cores, len(os.sched_getaffinity(0)))
    return min(cores, 2) if os.environ.get("CI") else cores


def _use_style() -> None:
    import plotly.io

    from avlab.show.style import plotly_template, use_style

    use_style()
    plotly.io.templates["avlab"] = plotly_template()
    plotly.io.templates.default = "avlab"
    # one JSON a figure: the default of Jupyter adds 5 MB of plotly.js to the notebook, or fetches it from a network
    plotly.io.renderers.default = "plotly_mimetype"


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name!r} must be one number, got {type(value).__name__} {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name!r} is {number}: find out where it stopped being a number before recording it")
    return number


def _show(outcome: dict[str, Any], detail: str) -> None:
    """Display an outcome for the reader (a line of HTML) and for the runner (its own MIME type)."""
    kind, passed = outcome["kind"], outcome.get("passed")
    verdict = {
        ("expect", True): "holds",
        ("expect", False): "does not hold in this run",
        ("control", True): "at chance, as it must be",
        ("control", False): "not at chance: something leaks, or has the wrong sign",
    }.get((kind, passed), "")
    parts = [kind, outcome["name"] + (f" = {detail}" if detail else ""), verdict]
    text = " · ".join(part for part in parts if part)
    if not InteractiveShell.initialized():  # a plain script or a test
        print(text)
        return
    colour = {None: "#888", True: "#2a7f3f", False: "#c0392b"}[passed]
    style = f"border-left:4px solid {colour};padding:2px 8px;margin:2px 0" + (";color:#c0392b" * (passed is False))
    chip = f'<div style="{style}">{html.escape(text)}</div>'
    display({OUTCOME_MIME: outcome, "text/html": chip, "text/plain": text}, raw=True)

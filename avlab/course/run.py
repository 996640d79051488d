"""Run lessons as tests: papermill, and what papermill alone does not see.

A notebook passes if every cell runs, with no network, within its budget of seconds, memory and page size (notebook
metadata `avlab.budget`), every explorer and slider works over its whole range, nothing failed inside an Output widget,
every expectation and control holds, and every outcome lies in its calibrated interval. Times are in seconds, memory
is the resident memory of the kernel and what its children add to it, in MB (10^6 bytes), sizes are in kB (10^3 bytes).

The budgets are those of the quick profile on two cores; in the full profile the time may be 20 times as long, and
memory is reported only. A kernel is killed at twice its time or three times its memory.
"""

from __future__ import annotations

import ast
import copy
import html
import json
import multiprocessing
import os
import platform
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import latex2mathml.converter
import nbformat
import papermill
import plotly.io
import psutil
from jinja2 import DictLoader, pass_context
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from avlab.course import offline, outcomes
from avlab.course.sweep import SWEEP_MIME

BUDGET = {"seconds": 90, "rss_mb": 1500, "html_kb": 3000}  # where a notebook states none
FULL_PROFILE_TIMES = 20
SWEEP_SECONDS = 120  # for all explorers of one notebook
SWEEP_CELL = "import avlab.course.sweep\n\navlab.course.sweep.main()"
PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE_MIME = "application/vnd.jupyter.widget-state+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
MATH = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?P<environment>\\begin\{(\w+\*?)\}.+?\\end\{\3\})|\$(?P<inline>[^$]+?)\$", re.DOTALL
)
TRACEBACK = "Traceback (most recent call last)"

Failure = dict[str, Any]


def project() -> Path:
    """The folder that holds `notebooks/`: the current one or one above it, else the one that avlab is installed from.

    Raises `FileNotFoundError` if there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[2]):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError("no notebooks/ here or above: run avlab inside a clone of the project")


def find(names: Sequence[str]) -> list[Path]:
    """The notebooks meant by `names`, each a path or the number (or start) of a lesson; all lessons if empty.

    Raises `FileNotFoundError` naming what was not found.
    """
    folder = project() / "notebooks" if not names or not all(name.endswith(".ipynb") for name in names) else Path()
    found: list[Path] = []
    for name in names or ["*"]:
        paths = [Path(name)] if name.endswith(".ipynb") else sorted(folder.glob(f"{name.rstrip('_*')}*.ipynb"))
        if not paths or not all(path.is_file() for path in paths):
            there = ", ".join(path.stem for path in sorted(folder.glob("*.ipynb"))) or "none"
            raise FileNotFoundError(f"no notebook {name!r}; there are: {there}")
        found += paths
    return list(dict.fromkeys(path.resolve() for path in found))


def run_all(
    paths: Sequence[Path],
    *,
    profile: str = "quick",
    seed: int = 0,
    clips: str | None = None,
    out: Path,
    jobs: int = 1,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Run notebooks, `jobs` at a time, and write `results.json`, an executed copy and a page of each into `out`.

    Returns the results by notebook name (see `run_notebook`). A stem that occurs twice raises `ValueError`.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise ValueError(f"two notebooks share a name: {', '.join(sorted(s for s in stems if stems.count(s) > 1))}")
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    settings = {"profile": profile, "seed": seed, "clips": clips, "out": out, "progress": progress}
    for result in _each([settings | {"path": path} for path in paths], jobs):
        results[result["notebook"]] = result
        _write(out / "results.json", json.dumps(_report(results, stems), indent=1) + "\n")  # kept if killed
    return {stem: results[stem] for stem in stems}


def run_notebook(
    path: Path,
    *,
    profile: str = "quick",
    seed: int = 0,
    clips: str | None = None,
    out: Path | None = None,
    threads: int | None = None,
    baselines: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run one notebook on a copy and say what it did.

    `clips` is a folder of media files for the notebook's `clips` parameter; baselines then do not apply. `baselines`
    is their folder (default: `tests/baselines` beside the notebook's folder). Never raises for what is wrong in the
    notebook: `status` is "ok" or "failed", and `failures` lists `{kind, message, cell, source, traceback}`.
    """
    result: dict[str, Any] = {"notebook": path.stem, "status": "failed", "seconds": 0.0, "peak_rss_mb": 0.0}
    result |= {"html_kb": 0.0, "outcomes": {}, "expectations": {}, "controls": {}, "slowest_cells": [], "failures": []}
    result |= {"profile": profile, "seed": seed, "clips": clips or "world", "rerun": _rerun(path, profile, seed, clips)}
    failures: list[Failure] = result["failures"]
    try:
        lesson = nbformat.read(path, as_version=4)
    except Exception as error:
        failures.append(_failure("unreadable", f"{path.name} is no notebook: {type(error).__name__}: {error}"))
        return result
    parameters: dict[str, Any] = {"profile": profile, "seed": seed}
    if clips is not None:
        parameters["clips"] = str(Path(clips).resolve())
        if not Path(clips).is_dir():
            failures.append(_failure("clips", f"--clips {clips}: no such folder"))
    failures += _check_parameters(lesson, parameters)
    if failures:
        return result

    budget = BUDGET | lesson.metadata.get("avlab", {}).get("budget", {})
    watch = Watch(lesson, budget, profile)
    with tempfile.TemporaryDirectory(prefix="avlab-") as folder:
        attempts = Path(folder) / "network.log"
        environment = _environment(Path(folder), attempts, threads)
        failures += _execute(lesson, path, parameters, watch, environment, Path(folder) / "kernel.log", progress)
        if attempts.exists():
            reached = ", ".join(dict.fromkeys(attempts.read_text(encoding="utf-8").split("\n")[:-1]))
            failures.append(_failure("network", f"tried to reach {reached}: a lesson must not use the network"))
    executed = watch.executed
    result["seconds"], result["peak_rss_mb"] = round(watch.seconds(), 2), round(watch.peak / 1e6, 1)
    result["slowest_cells"] = sorted(watch.cells, key=lambda row: -row["seconds"])[:5]
    result["cells"] = watch.cells
    if executed is None:  # the kernel never started
        return result
    failures += watch.over_budget() + _scan_cells(watch, executed) + _scan_widgets(executed)
    if not any(failure["kind"] in ("cell", "killed", "kernel") for failure in failures):
        failures += _scan_sweep(executed)
    executed.cells = [cell for cell in executed.cells if cell.source != SWEEP_CELL]
    try:  # without papermill's cell, so that cells are counted as in the lesson
        mine = [cell for cell in executed.cells if cell.get("id") in watch.places]
        result |= outcomes.collect(nbformat.v4.new_notebook(cells=mine))
    except ValueError as error:
        failures.append(_failure("outcomes", str(error)))
    failures += _judge(result, path, baselines)
    page, size = _artefacts(executed, path.stem, out)
    result["html_kb"] = round(size, 1)
    if size > budget["html_kb"]:
        heaviest = sorted(watch.weights(executed), reverse=True)[:3]
        where = "; ".join(f"cell {place}: {kb:.0f} kB" for kb, place in heaviest)
        message = f"the page has {size:.0f} kB, over its budget of {budget['html_kb']} kB; heaviest outputs: {where}"
        failures.append(_failure("size", message))
    result["page"] = str(page) if page else None
    result["status"] = "failed" if failures else "ok"
    return result


class Watch:
    """Time and memory of one run, cell by cell (counted from 1), and the end of a kernel that takes too much."""

    def __init__(self, lesson: NotebookNode, budget: dict[str, float], profile: str) -> None:
        self.places = {cell.get("id"): place for place, cell in enumerate(lesson.cells, 1)}
        self.quick, self.budget = profile == "quick", budget
        self.limit = budget["seconds"] * (1 if self.quick else FULL_PROFILE_TIMES)
        self.cells: list[dict[str, Any]] = []
        self.executed: NotebookNode | None = None
        self.peak, self.killed = 0, ""
        self.current: NotebookNode | None = None
        self.kernel: psutil.Process | None = None
        self.children: dict[int, psutil.Process] = {}
        self._deadline = float("inf")
        self._began = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_all_along, daemon=True)

    def open(self, pid: int) -> None:
        self.kernel = psutil.Process(pid)
        self._deadline = time.monotonic() + 2 * self.limit
        self._thread.start()

    def end(self, why: str) -> None:
        """Kill the kernel; `why` is what the failure says."""
        self.killed = why
        if self.kernel is not None and self.kernel.is_running():
            self.kernel.kill()

    def close(self) -> None:
        """Stop sampling, and end the processes that the kernel left behind."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for process in self.children.values():
            if process.is_running():  # psutil compares the start time too: never another process of the same number
                process.kill()

    def cell_starts(self, cell: NotebookNode) -> None:
        self.current, self._began = cell, time.perf_counter()
        if cell.source == SWEEP_CELL:  # has a limit of its own
            self._deadline = time.monotonic() + SWEEP_SECONDS

    def cell_ends(self, cell: NotebookNode) -> None:
        seconds = time.perf_counter() - self._began
        if cell.cell_type == "code" and cell.get("id") in self.places:  # not papermill's cell, nor the sweep's
            row = {"cell": self.places[cell.id], "source": _first_line(cell), "seconds": round(seconds, 2)}
            self.cells.append(row | {"rss_mb": round(self._sample() / 1e6, 1)})

    def seconds(self) -> float:
        return sum(row["seconds"] for row in self.cells)

    def over_budget(self) -> list[Failure]:
        failures = []
        slowest = "; ".join(
            f"cell {row['cell']} {row['seconds']:.1f} s ({row['source']})"
            for row in sorted(self.cells, key=lambda row: -row["seconds"])[:3]
        )
        if self.killed:
            failures.append(_failure("killed", f"{self.killed}; slowest: {slowest}", self.current, self.places))
        elif self.seconds() > self.limit:
            message = f"took {self.seconds():.1f} s, over its budget of {self.limit:g} s; slowest: {slowest}"
            failures.append(_failure("seconds", message))
        if self.quick and not self.killed and self.peak / 1e6 > self.budget["rss_mb"]:
            most = max(self.cells, key=lambda row: row["rss_mb"], default={"cell": None})["cell"]
            message = f"used {self.peak / 1e6:.0f} MB, over its budget of {self.budget['rss_mb']} MB; most after "
            failures.append(_failure("memory", f"{message}cell {most}"))
        return failures

    def weights(self, executed: NotebookNode) -> list[tuple[float, int | None]]:
        """Size of each cell's outputs in kB, with the cell's place in the notebook."""
        return [
            (len(json.dumps(cell.outputs)) / 1e3, self.places.get(cell.get("id")))
            for cell in executed.cells
            if cell.get("outputs")
        ]

    def _sample(self) -> int:
        if self.kernel is None:
            return 0
        try:
            processes = [self.kernel, *self.kernel.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        total = 0
        for process in processes:
            try:
                if process is self.kernel:
                    total += process.memory_info().rss
                else:  # what a forked worker shares with the kernel is counted already
                    self.children[process.pid] = process
                    total += process.memory_full_info().uss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.peak = max(self.peak, total)
        return total

    def _sample_all_along(self) -> None:
        while not self._stop.wait(0.1):
            used = self._sample()
            if time.monotonic() > self._deadline:
                where = "the sweep of its widgets" if self._sweeping() else "the notebook"
                limit = SWEEP_SECONDS if self._sweeping() else 2 * self.limit
                return self.end(f"killed after {limit:g} s, for {where} was still running")
            if self.quick and used / 1e6 > 3 * self.budget["rss_mb"]:
                budget = self.budget["rss_mb"]
                return self.end(f"killed at {used / 1e6:.0f} MB, three times its budget of {budget} MB")

    def _sweeping(self) -> bool:
        return self.current is not None and self.current.source == SWEEP_CELL


class _OwnInterpreter(KernelSpecManager):
    """Every kernel runs in the Python that runs avlab, whatever kernels are registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="avlab", language="python")


class _Client(PapermillNotebookClient):
    watch: Watch

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = _OwnInterpreter()
        return manager

    def execute_cell(self, cell: NotebookNode, cell_index: int, **settings: Any) -> NotebookNode:
        if self.watch.kernel is None:
            self.watch.open(self.km.provisioner.pid)
        self.watch.cell_starts(cell)
        try:
            return super().execute_cell(cell, cell_index, **settings)
        finally:
            self.watch.cell_ends(cell)


class _LessonEngine(Engine):
    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **settings: Any) -> None:
        watch, environment = settings["watch"], settings["environment"]
        client = _Client(nb_man, kernel_name=kernel_name, startup_timeout=120, resources=settings["resources"])
        client.watch = watch
        try:
            with open(settings["log"], "wb") as log:  # what the kernel itself says, not its cells
                client.execute(env=environment, stderr=log)
        finally:
            if watch.killed:
                client.set_widgets_metadata()
            watch.close()
            watch.executed = copy.deepcopy(nb_man.nb)  # papermill then adds cells of its own about the error


papermill_engines.register("avlab", _LessonEngine)


def _execute(
    lesson: NotebookNode,
    path: Path,
    parameters: dict[str, Any],
    watch: Watch,
    environment: dict[str, str],
    log: Path,
    progress: bool,
) -> list[Failure]:
    book = copy.deepcopy(lesson)
    book.cells.append(nbformat.v4.new_code_cell(SWEEP_CELL))
    try:
        papermill.execute_notebook(
            book,
            None,
            parameters,
            engine_name="avlab",
            kernel_name="python3",
            language="python",
            progress_bar={"desc": path.stem, "leave": False, "disable": None} if progress else False,
            watch=watch,
            environment=environment,
            log=log,
            resources={"metadata": {"path": str(path.parent.resolve())}},
        )
    except PapermillExecutionError:
        pass  # the error stands in the cell's output, with its traceback
    except Exception as error:
        if not watch.killed:
            message = f"the kernel stopped: {type(error).__name__}: {ANSI.sub('', str(error))}"
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            return [_failure("kernel", message, watch.current, watch.places, said)]
    return []


def _each(calls: Sequence[dict[str, Any]], jobs: int) -> Iterator[dict[str, Any]]:
    """`run_notebook` with each of the settings, `jobs` at a time and with threads pinned, in the order they end."""
    if jobs == 1:
        for call in calls:
            yield run_notebook(**call)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # processes: with two clients in the threads of one process, one notebook in 24 was seen to wait for ever
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(run_notebook, **call, threads=threads) for call in calls]
        try:
            for done in as_completed(running):
                yield done.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():  # each ends its kernel, as one that runs alone does
                os.kill(worker.pid, signal.SIGINT)
            raise


def _environment(folder: Path, attempts: Path, threads: int | None) -> dict[str, str]:
    """Variables of the kernel: no network, no personal IPython profile, threads pinned when several run at once."""
    guard = folder / "guard"
    guard.mkdir()
    shutil.copyfile(offline.__file__, guard / "sitecustomize.py")
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures go inline
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(guard), env.get("PYTHONPATH", "")]))
    env |= {"AVLAB_NETWORK_LOG": str(attempts), "IPYTHONDIR": str(folder / "ipython")}
    if threads is not None:
        env |= dict.fromkeys(("AVLAB_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return env


def _check_parameters(lesson: NotebookNode, parameters: dict[str, Any]) -> list[Failure]:
    cells = [cell for cell in lesson.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        message = f"{len(cells)} cells have the tag 'parameters', one is needed: papermill would set none, silently"
        return [_failure("parameters", message)]
    try:
        body = ast.parse(cells[0].source).body
    except SyntaxError as error:
        return [_failure("parameters", f"the parameters cell is no Python: {error}")]
    names = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
    return [
        _failure("parameters", f"the parameters cell sets no {name!r}, so this run's {name} = {value!r} has no effect")
        for name, value in parameters.items()
        if name not in names
    ]


def _scan_cells(watch: Watch, executed: NotebookNode) -> list[Failure]:
    failures = []
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback))
                message = f"{output.ename}: {ANSI.sub('', output.evalue)}"
                failures.append(_failure("cell", message, cell, watch.places, trace))
            elif output.output_type == "stream" and TRACEBACK in output.text:
                text = ANSI.sub("", output.text)
                message = f"prints a traceback: {text.strip().splitlines()[-1]}"
                failures.append(_failure("traceback", message, cell, watch.places, text))
    return failures


def _scan_widgets(executed: NotebookNode) -> list[Failure]:
    """Errors inside Output widgets, where neither papermill nor a reader of the static page sees them."""
    failures = []
    models = executed.metadata.get("widgets", {}).get(WIDGET_STATE_MIME, {}).get("state", {})
    for model in models.values():
        for output in model.get("state", {}).get("outputs", ()) if model.get("model_name") == "OutputModel" else ():
            if output["output_type"] == "error":
                trace = ANSI.sub("", "\n".join(output["traceback"]))
                message = f"inside an Output widget: {output['ename']}: {ANSI.sub('', output['evalue'])}"
                failures.append(_failure("widget", message, trace=trace))
            elif output["output_type"] == "stream" and TRACEBACK in output["text"]:
                text = ANSI.sub("", output["text"])
                message = f"inside an Output widget: {text.strip().splitlines()[-1]}"
                failures.append(_failure("widget", message, trace=text))
    return failures


def _scan_sweep(executed: NotebookNode) -> list[Failure]:
    for output in executed.cells[-1].get("outputs", ()):
        if SWEEP_MIME in output.get("data", {}):
            problems = output["data"][SWEEP_MIME]["problems"]
            return [_failure("sweep", f"{p['name']} at {p['state']}: {p['message']}") for p in problems]
    return [_failure("sweep", "the sweep of the widgets left no report")]


def _judge(result: dict[str, Any], path: Path, baselines: Path | None) -> list[Failure]:
    failures = [
        _failure("expectation", f"expected, and not so: {statement}")
        for statement, passed in result["expectations"].items()
        if not passed
    ]
    failures += [
        _failure("control", f"{name} = {control['value']:.4g} is not at chance ({control['chance']:.4g})")
        for name, control in result["controls"].items()
        if not control["passed"]
    ]
    if result["clips"] == "world":  # baselines were calibrated on it
        folder = baselines or path.resolve().parents[1] / "tests" / "baselines"
        baseline = outcomes.load(folder / f"{path.stem}.json", result["profile"])
        if baseline is not None:
            failures += [_failure("baseline", text) for text in outcomes.compare(result["outcomes"], baseline)]
    return failures


def calibrate(path: Path, *, seeds: Sequence[int], profile: str = "quick", jobs: int = 1) -> dict[str, Any]:
    """Run a notebook once a seed, and summarise its outcomes (see `outcomes.summarise`).

    A statement that does not hold is counted, any other failure raises `ValueError` with the seed.
    """

    runs = _each([{"path": path, "profile": profile, "seed": seed} for seed in seeds], jobs)
    results = sorted(tqdm(runs, total=len(seeds), unit="seed", disable=None), key=lambda result: result["seed"])
    for result in results:
        broken = [f for f in result["failures"] if f["kind"] not in ("expectation", "control", "baseline")]
        if broken:
            raise ValueError(f"seed {result['seed']} failed: {broken[0]['message']}; run: {result['rerun']}")
    return outcomes.summarise(results)


PAGE = """{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}"""


class _Page(HTMLExporter):
    """A page that needs nothing else: its equations are MathML, which browsers draw without a library."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        parts = re.split(r"(<(pre|code)\b.*?</\2>)", super().markdown2html(context, source), flags=re.DOTALL)
        # split gives text, code, the name of its tag, text, ...: equations stand in the text alone
        return "".join(MATH.sub(_mathml, part) if n % 3 == 0 else part for n, part in enumerate(parts) if n % 3 < 2)


def _mathml(match: re.Match[str]) -> str:
    block, environment, inline = match["block"], match["environment"], match["inline"]
    tex = html.unescape(next(part for part in (block, environment, inline) if part is not None))
    return latex2mathml.converter.convert(tex, display="inline" if inline is not None else "block")


def _artefacts(executed: NotebookNode, stem: str, out: Path | None) -> tuple[Path | None, float]:
    """Write the executed notebook without widget state, and one self-contained page; returns it and its size in kB.

    Plotly's library, 5 MB and the same for all, is not counted in the size.
    """
    book = copy.deepcopy(executed)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET_MIME, None)  # without its state it would show as an error
    if out is not None:
        _write(out / f"{stem}.ipynb", nbformat.writes(book))
    has_plotly = False
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            figure = output.get("data", {}).get(PLOTLY_MIME)
            if figure is not None:
                has_plotly = True
                figure = {"data": figure["data"], "layout": figure.get("layout", {})}
                output.data["text/html"] = plotly.io.to_html(
                    figure, include_plotlyjs=False, full_html=False, validate=False
                )
    book.metadata["title"] = stem
    exporter = _Page(
        extra_loaders=[DictLoader({"lesson.html.j2": PAGE})], template_file="lesson.html.j2", embed_images=True
    )
    page, _ = exporter.from_notebook_node(book)
    size = len(page.encode()) / 1e3
    if out is None:
        return None, size
    if has_plotly:
        from plotly.offline import get_plotlyjs

        page = page.replace("</head>", f"<script>{get_plotlyjs()}</script>\n</head>", 1)
    _write(out / f"{stem}.html", page)
    return out / f"{stem}.html", size


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as text, one line a notebook, and below them each failure with the command that runs it again."""
    rows = [("notebook", "status", "seconds", "MB", "page kB", "outcomes", "expected", "controls")]
    for name, result in results.items():
        held = sum(result["expectations"].values())
        passed = sum(control["passed"] for control in result["controls"].values())
        rows.append(
            (
                name,
                result["status"],
                f"{result['seconds']:.1f}",
                f"{result['peak_rss_mb']:.0f}",
                f"{result['html_kb']:.0f}",
                str(len(result["outcomes"])),
                f"{held}/{len(result['expectations'])}",
                f"{passed}/{len(result['controls'])}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for name, result in results.items():
        for failure in result["failures"]:
            place = f", cell {failure['cell']}" if failure["cell"] is not None else ""
            lines += ["", f"FAILED {name}{place} ({failure['kind']}): {failure['message']}"]
            if failure["source"]:
                lines += ["  the cell:", *("    " + line for line in failure["source"].splitlines())]
            if failure["traceback"]:
                lines += ["  the traceback:", *("    " + line for line in failure["traceback"].splitlines())]
        if result["failures"]:
            lines += ["", f"run it again: {result['rerun']}"]
    return "\n".join(lines)


def _report(results: dict[str, dict[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    packages = ("avlab", "torch", "numpy", "papermill", "nbclient", "ipywidgets", "plotly")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return {"versions": versions, "notebooks": {name: results[name] for name in order if name in results}}


def _rerun(path: Path, profile: str, seed: int, clips: str | None) -> str:
    more = ["--clips", clips] if clips is not None else []
    words = ["avlab", "run", os.path.relpath(path), "--profile", profile, "--seed", str(seed), *more]
    return shlex.join(words)


def _failure(
    kind: str,
    message: str,
    cell: NotebookNode | None = None,
    places: dict[str, int] | None = None,
    trace: str = "",
) -> Failure:
    place = places.get(cell.get("id")) if cell is not None and places is not None else None
    source = cell.source if cell is not None else ""
    return {"kind": kind, "message": message, "cell": place, "source": source, "traceback": trace}


def _first_line(cell: NotebookNode) -> str:
    return next((line.strip() for line in cell.source.splitlines() if line.strip()), "")[:80]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

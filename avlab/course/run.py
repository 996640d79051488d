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
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import papermill
import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from traitlets import Type

from avlab.course import exercises, offline, outcomes, page
from avlab.course.exercises import EXERCISES_CELL, EXERCISES_MIME
from avlab.course.sweep import SWEEP_CELL, SWEEP_MIME
from avlab.course.watch import Watch

BUDGET = {"seconds": 90, "rss_mb": 1500, "html_kb": 3000}  # where a notebook states none
NETWORK_LOG = "network.log"
WIDGET_STATE_MIME = "application/vnd.jupyter.widget-state+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
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
    there = sorted(folder.glob("*.ipynb"))
    found: list[Path] = []
    for name in names or [""]:
        paths = [Path(name)] if name.endswith(".ipynb") else [p for p in there if p.stem.startswith(name.rstrip("_*"))]
        if not paths or not all(path.is_file() for path in paths):
            stems = ", ".join(path.stem for path in there) or "none"
            raise FileNotFoundError(f"no notebook {name!r}; there are: {stems}")
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
    """Run notebooks, `jobs` at a time; `out` gets `results.json`, `index.html`, an executed copy and a page of each.

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
        done = {stem: results[stem] for stem in stems if stem in results}
        report = {"versions": _versions(), "notebooks": done}
        page.write(out / "results.json", json.dumps(report, indent=1) + "\n")  # after each: kept if killed
        page.write(out / "index.html", page.index(done, table(done)))
    return {stem: results[stem] for stem in stems}


def run_notebook(
    path: Path,
    *,
    profile: str = "quick",
    seed: int = 0,
    clips: str | None = None,
    out: Path | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run one notebook on a copy and say what it did.

    `clips` is "world", "samples" or a path, for the notebook's `clips` parameter. Never raises for what is wrong in the
    notebook: `status` is "ok" or "failed", and `failures` lists `{kind, message, cell, source, traceback}`. Baselines
    (`tests/baselines` beside the notebook's folder) apply to clips of the world.
    """
    if clips not in (None, "world", "samples"):
        clips = str(Path(clips).resolve())  # the kernel runs in the notebook's folder, not here
    words = ["avlab", "run", os.path.relpath(path), "--profile", profile, "--seed", str(seed)]
    rerun = shlex.join([*words, "--clips", clips] if clips is not None else words)
    result: dict[str, Any] = {"notebook": path.stem, "status": "failed", "seconds": 0.0, "peak_rss_mb": 0.0}
    result |= {"html_kb": 0.0, "outcomes": {}, "expectations": {}, "controls": {}, "slowest_cells": [], "failures": []}
    result |= {"profile": profile, "seed": seed, "clips": clips or "world", "rerun": rerun, "cells": [], "page": None}
    try:
        _run(path, clips, result, out, threads, progress)
    except Exception as error:  # whatever one notebook does to the runner, the others go on
        message = f"the runner cannot go on: {type(error).__name__}: {error}"
        result["failures"].append(_failure("unexpected", message, trace=traceback.format_exc()))
    result["status"] = "failed" if result["failures"] else "ok"
    return result


def _run(
    path: Path, clips: str | None, result: dict[str, Any], out: Path | None, threads: int | None, progress: bool
) -> None:
    failures: list[Failure] = result["failures"]
    try:
        lesson = nbformat.v4.upgrade(nbformat.read(path, as_version=4))  # from 4.5 on cells have the ids used below
        nbformat.validate(lesson)
        budget = {k: float(v) for k, v in (BUDGET | lesson.metadata.get("avlab", {}).get("budget", {})).items()}
    except Exception as error:
        failures.append(_failure("unreadable", f"{path.name} is no lesson: {type(error).__name__}: {str(error)[:500]}"))
        return
    parameters = {name: result[name] for name in ("profile", "seed")} | ({} if clips is None else {"clips": clips})
    if clips not in (None, "world", "samples") and not Path(clips).exists():
        failures.append(_failure("clips", f"--clips {clips}: no such folder or file"))
    failures += _check_parameters(lesson, parameters)
    try:
        known = exercises.find(lesson)
        held = exercises.answers(path, known)
    except (ValueError, SyntaxError) as error:
        failures.append(_failure("exercise", str(error)))
    if failures:
        return
    tried = [{"exercise": part._asdict(), **held[part.number]} for part in known if part.number in held]
    watch = Watch(lesson, budget, result["profile"])
    with tempfile.TemporaryDirectory(prefix="avlab-") as name:
        folder = Path(name)
        environment = _environment(folder, threads, tried)
        failures += _execute(lesson, path, parameters, watch, environment, folder, progress)
        if (folder / NETWORK_LOG).exists():
            reached = ", ".join(dict.fromkeys((folder / NETWORK_LOG).read_text(encoding="utf-8").splitlines()))
            failures.append(_failure("network", f"tried to reach {reached[:500]}: a lesson must not use the network"))
    result |= {"seconds": round(watch.seconds(), 2), "peak_rss_mb": round(watch.peak / 1e6, 1), "cells": watch.cells}
    result["slowest_cells"] = watch.slowest()[:5]
    executed = watch.executed
    if executed is None:  # the kernel never started
        return
    failures += [_failure(kind, text, cell, watch.places) for kind, text, cell in watch.over_budget()]
    failures += _scan_cells(watch, executed) + _scan_widgets(executed)
    if not any(failure["kind"] in ("cell", "killed", "kernel") for failure in failures):
        failures += _scan_sweep(executed) + _scan_exercises(executed)
    executed.cells = [cell for cell in executed.cells if cell.source not in (SWEEP_CELL, EXERCISES_CELL)]
    try:  # without papermill's cell, so that cells are counted as in the lesson
        mine = [cell for cell in executed.cells if cell.get("id") in watch.places]
        result |= outcomes.collect(nbformat.v4.new_notebook(cells=mine))
    except ValueError as error:
        failures.append(_failure("outcomes", str(error)))
    failures += _judge(result, path)
    try:
        place, size = page.make(executed, path.stem, out)
    except ValueError as error:
        failures.append(_failure("page", f"no page could be made: {error}"))
        return
    result |= {"page": str(place) if place else None, "html_kb": round(size, 1)}
    if size > budget["html_kb"]:
        outputs = [(len(json.dumps(cell.get("outputs", ()))) / 1e3, cell.get("id")) for cell in executed.cells]
        heaviest = sorted(outputs, key=lambda pair: -pair[0])[:3]
        where = "; ".join(f"cell {watch.places.get(cell)}: {kb:.0f} kB" for kb, cell in heaviest)
        message = f"the page has {size:.0f} kB, over its budget of {budget['html_kb']:g} kB; heaviest outputs: {where}"
        failures.append(_failure("size", message))


class _OwnInterpreter(KernelSpecManager):
    """Every kernel runs in the Python that runs avlab, whatever kernels are registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="avlab", language="python")


class _ShellChannel(AsyncZMQSocketChannel):
    """Looks for replies after it has sent something.

    An Output widget's state is sent by a plain view of this socket, and a reply that comes in at that moment no longer
    wakes the loop that waits for it: without this, three runs in a hundred of a notebook with `interact` waited for
    ever. (Reading the events makes pyzmq hand out what has come.)
    """

    def send(self, msg: dict[str, Any]) -> None:
        super().send(msg)
        self.socket.get(zmq.EVENTS)


class _KernelClient(AsyncKernelClient):
    shell_channel_class = Type(_ShellChannel)


class _Client(PapermillNotebookClient):
    watch: Watch

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = _OwnInterpreter()
        manager.client_factory = _KernelClient
        return manager

    def execute_cell(self, cell: NotebookNode, cell_index: int, **settings: Any) -> NotebookNode:
        if self.watch.kernel is None:
            self.watch.open(self.km.provisioner.pid)
        self.watch.cell_starts(cell)
        try:
            return super().execute_cell(cell, cell_index, **settings)
        finally:
            self.watch.cell_ends(cell)

    def output(self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str, cell_index: int) -> Any:
        self.watch.wrote(len(str(msg["content"])))
        # what is under way when the kernel is killed is no longer kept
        return None if self.watch.killed else super().output(outs, msg, display_id, cell_index)


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


def _execute(
    lesson: NotebookNode,
    path: Path,
    parameters: dict[str, Any],
    watch: Watch,
    environment: dict[str, str],
    folder: Path,
    progress: bool,
) -> list[Failure]:
    book = copy.deepcopy(lesson)
    book.cells += [nbformat.v4.new_code_cell(source) for source in (SWEEP_CELL, EXERCISES_CELL)]
    papermill_engines.register("avlab", _LessonEngine)
    log = folder / "kernel.log"
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
        yield from (run_notebook(**call) for call in calls)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # processes: with two clients in the threads of one process, one notebook in 24 was seen to wait for ever
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(run_notebook, **call, threads=threads) for call in calls]
        try:
            yield from (done.result() for done in as_completed(running))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():  # each ends its kernel, as one that runs alone does
                os.kill(worker.pid, signal.SIGINT)
            raise


def _environment(folder: Path, threads: int | None, tried: list[dict[str, Any]]) -> dict[str, str]:
    """Variables of the kernel: no network, no personal IPython profile, threads pinned when several run at once."""
    (folder / "exercises.json").write_text(json.dumps(tried), encoding="utf-8")
    guard = folder / "guard"
    guard.mkdir()
    shutil.copyfile(offline.__file__, guard / "sitecustomize.py")
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures go inline
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(guard), env.get("PYTHONPATH", "")]))
    env |= {"AVLAB_NETWORK_LOG": str(folder / NETWORK_LOG), "IPYTHONDIR": str(folder / "ipython")}
    env[exercises.FILE_VARIABLE] = str(folder / "exercises.json")
    env["AVLAB_RUN"] = "1"  # a check of an exercise that is not passed raises: the solutions must pass
    if threads is not None:
        env |= dict.fromkeys(("AVLAB_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return env


def _check_parameters(lesson: NotebookNode, parameters: dict[str, Any]) -> list[Failure]:
    cells = [cell for cell in lesson.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        message = f"{len(cells)} cells have the tag 'parameters', one is needed: papermill would set none, silently"
        return [_failure("parameters", message)]
    try:
        nodes = ast.walk(ast.parse(cells[0].source))
    except SyntaxError as error:
        return [_failure("parameters", f"the parameters cell is no Python: {error}")]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return [
        _failure("parameters", f"the parameters cell sets no {name!r}, so this run's {name} = {value!r} has no effect")
        for name, value in parameters.items()
        if name not in names
    ]


def _errors(outputs: Sequence[NotebookNode]) -> Iterator[tuple[bool, str, str]]:
    """Of each error, or traceback that was printed: whether it was raised, its last line, and its traceback."""
    for output in outputs:
        if output["output_type"] == "error":
            trace = ANSI.sub("", "\n".join(output["traceback"]))
            yield True, f"{output['ename']}: {ANSI.sub('', output['evalue'])}", trace
        elif output["output_type"] == "stream" and TRACEBACK in output["text"]:
            text = ANSI.sub("", output["text"])
            yield False, text.strip().splitlines()[-1], text


def _scan_cells(watch: Watch, executed: NotebookNode) -> list[Failure]:
    failures = []
    for cell in executed.cells:
        for raised, message, trace in _errors(cell.get("outputs", ())):
            kind, message = ("cell", message) if raised else ("traceback", f"prints a traceback: {message}")
            failures.append(_failure(kind, message, cell, watch.places, trace))
    return failures


def _scan_widgets(executed: NotebookNode) -> list[Failure]:
    """Errors inside Output widgets, where neither papermill nor a reader of the static page sees them."""
    models = executed.metadata.get("widgets", {}).get(WIDGET_STATE_MIME, {}).get("state", {}).values()
    return [
        _failure("widget", f"inside an Output widget: {message}", trace=trace)
        for model in models
        if model.get("model_name") == "OutputModel"
        for _, message, trace in _errors(model["state"].get("outputs", ()))
    ]


def _scan_sweep(executed: NotebookNode) -> list[Failure]:
    report = _report(executed, SWEEP_MIME)
    if report is None:
        return [_failure("sweep", "the sweep of the widgets left no report")]
    return [_failure("sweep", f"{p['name']} at {p['state']}: {p['message']}") for p in report["problems"]]


def _scan_exercises(executed: NotebookNode) -> list[Failure]:
    report = _report(executed, EXERCISES_MIME)
    if report is None:
        return [_failure("exercise", "the trial of the exercises' answers left no report")]
    return [_failure("exercise", f"exercise {p['number']}, {p['answer']}: {p['message']}") for p in report["problems"]]


def _report(executed: NotebookNode, mime: str) -> dict[str, Any] | None:
    """What one of the runner's own cells, the last ones, displayed."""
    for output in (output for cell in executed.cells[-2:] for output in cell.get("outputs", ())):
        if mime in output.get("data", {}):
            return output["data"][mime]
    return None


def _judge(result: dict[str, Any], path: Path) -> list[Failure]:
    broken = [statement for statement, passed in result["expectations"].items() if not passed]
    failures = [_failure("expectation", f"expected, and not so: {statement}") for statement in broken]
    for name, control in result["controls"].items():
        if not control["passed"]:
            message = f"{name} = {control['value']:.4g} is not at chance ({control['chance']:.4g})"
            failures.append(_failure("control", message))
    if result["clips"] == "world":  # baselines were calibrated on it
        folder = path.resolve().parents[1] / "tests" / "baselines"
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


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as text, one line a notebook, and below them each failure with the command that runs it again."""
    rows = [("notebook", "status", "seconds", "MB", "page kB", "outcomes", "expected", "controls")]
    for name, r in results.items():
        held = f"{sum(r['expectations'].values())}/{len(r['expectations'])}"
        passed = f"{sum(control['passed'] for control in r['controls'].values())}/{len(r['controls'])}"
        measured = (f"{r['seconds']:.1f}", f"{r['peak_rss_mb']:.0f}", f"{r['html_kb']:.0f}", str(len(r["outcomes"])))
        rows.append((name, r["status"], *measured, held, passed))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for name, result in results.items():
        for failure in result["failures"]:
            place = f", cell {failure['cell']}" if failure["cell"] is not None else ""
            lines += ["", f"FAILED {name}{place} ({failure['kind']}): {failure['message']}"]
            for what in ("source", "traceback"):
                if failure[what]:
                    title = "  the cell:" if what == "source" else "  the traceback:"
                    lines += [title, *("    " + line for line in failure[what].splitlines())]
        if result["failures"]:
            lines += ["", f"run it again: {result['rerun']}"]
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    packages = ("avlab", "torch", "numpy", "papermill", "nbclient", "ipywidgets", "plotly")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


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

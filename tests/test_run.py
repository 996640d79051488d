"""The runner is fed notebooks that are broken in one way each: it must fail each, and say how."""

import asyncio
import json
import re
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from avlab.course import page, run
from avlab.course.outcomes import save

PARAMETERS = 'profile = "quick"\nseed = 0\ndevice = "auto"'
LAB = 'from avlab.start import Lab\n\nlab = Lab("{}", profile, seed, "cpu")'  # without torch: it starts faster
START = 'import avlab\n\nlab = avlab.start("{}", profile=profile, seed=seed, device="cpu")'
INTERACT = """\
from ipywidgets import interact

@interact(x=(0, 10), kind=["bell", "drum"])
def hear(x=3, kind="bell"):
    {}"""
EXPLORER = """\
from avlab.show import figures
from avlab.show.explore import explore

def picture(width, height):
    {}
    return figures.draw_curves({{"loss": [1.0, {}]}})

explore(picture, width=(1, 9), height=(1, 9))"""

BROKEN = {  # name: cells, budget, kind of the failure, what its message says
    "raising": (["def f():\n    raise ValueError('boom')\nf()"], {}, "cell", "ValueError: boom"),
    "printing": (
        ["import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start(); t.join()"],
        {},
        "traceback",
        "prints a traceback: ZeroDivisionError",
    ),
    "interact": (
        [INTERACT.format("raise ValueError('boom')")],
        {},
        "widget",
        "inside an Output widget: ValueError: boom",
    ),
    "slider_at_its_maximum": (
        [INTERACT.format("return 1 / (10 - x)")],
        {},
        "sweep",
        "hear at x=10, kind='drum': raises ZeroDivisionError",
    ),
    "option": (
        [INTERACT.format("assert kind == 'bell', kind")],
        {},
        "sweep",
        "kind='drum': raises AssertionError: drum",
    ),
    "observer": (
        [
            "import ipywidgets\nslider = ipywidgets.IntSlider(2, 0, 5, description='lag')\n"
            "shown = ipywidgets.Output()\n"
            "def moved(change):\n    with shown:\n        shown.clear_output()\n        1 / (5 - change.new)\n"
            "slider.observe(moved, 'value')\nslider"
        ],
        {},
        "sweep",
        "lag at lag=5: raises ZeroDivisionError",
    ),
    "output": (
        ["import ipywidgets\nshown = ipywidgets.Output()\nwith shown:\n    {}['key']"],
        {},
        "widget",
        "inside an Output widget: KeyError: 'key'",
    ),
    "corner": (
        [EXPLORER.format("assert width + height < 18, 'too large'", "width * height")],
        {},
        "sweep",
        "picture at width=9, height=9: raises AssertionError: too large",
    ),
    "dead_slider": ([EXPLORER.format("pass", "width")], {}, "sweep", "moving 'height' never changes the picture"),
    "network": (
        ["import urllib.request\nurllib.request.urlopen('http://example.org/clip.mp4')"],
        {},
        "network",
        "tried to reach example.org: a lesson must not use the network",
    ),
    "network_hidden": (
        [
            "import subprocess, sys\ncode = 'import socket; socket.create_connection((\"192.0.2.1\", 80))'\n"
            "code = subprocess.run([sys.executable, '-c', code], capture_output=True).returncode"
        ],
        {},
        "network",
        "tried to reach 192.0.2.1",
    ),
    "size": (
        ["from IPython.display import HTML\nHTML('x' * 2_000_000)"],
        {"html_kb": 1000},
        "size",
        r"over its budget of 1000 kB; heaviest outputs: cell 3: 2000 kB",
    ),
    "slow": (
        ["import time\ntime.sleep(1.2)"],
        {"seconds": 1},
        "seconds",
        r"over its budget of 1 s; slowest: cell 3 1.2 s",
    ),
    "hung": (["import time\ntime.sleep(60)"], {"seconds": 1}, "killed", "killed after 2 s"),
    "memory": (
        ["import numpy\nblock = numpy.ones(40_000_000)\ndel block"],
        {"rss_mb": 200},
        "memory",
        "over its budget of 200 MB",
    ),
    "memory_of_a_child": (
        [
            "import subprocess, sys\ncode = 'import numpy, time; block = numpy.ones(40_000_000); time.sleep(1)'\n"
            "done = subprocess.run([sys.executable, '-c', code], check=True)"
        ],
        {"rss_mb": 200},
        "memory",
        "over its budget of 200 MB",
    ),
    "runaway": (
        ["import time, numpy\nblock = numpy.ones(90_000_000)\ntime.sleep(30)"],
        {"rss_mb": 200},
        "killed",
        "three times its budget of 200 MB",
    ),
    "flood": (
        ["for _ in range(60):\n    print('x' * 1_000_000)"],
        {"html_kb": 60_000},
        "killed",
        "put out more than 30 MB",
    ),
    "exits": (["import os\nos._exit(3)"], {}, "kernel", "the kernel stopped"),
    "expectation": (
        [LAB.format("expectation"), "lab.expect('up is down', False)"],
        {},
        "expectation",
        "expected, and not so: up is down",
    ),
    "control": (
        [LAB.format("control"), "lab.control('recall@1', 0.5, chance=1 / 128)"],
        {},
        "control",
        r"recall@1 = 0.5 is not at chance \(0.007812\)",
    ),
    "baseline": (
        [LAB.format("baseline"), "lab.record('recall@1', 0.2)"],
        {},
        "baseline",
        r"recall@1 = 0.2 is outside of its baseline \[0.4, 0.6\]",
    ),
    "twice": (
        [LAB.format("twice"), "lab.record('loss', 1.0)", "lab.record('loss', 2.0)"],
        {},
        "outcomes",
        "record 'loss' is stated in cell 4 and again in cell 5",
    ),
}
PROSE = r"""
With $\tau < 1$, `a$b$c` is code:

$$L = -\frac{1}{B}\sum_i \log p_{ii}$$

\begin{aligned}
a &= b
\end{aligned}
"""
GOOD = [
    START.format("good"),
    "import torch\nlab.record('draw', torch.rand(()))\nlab.expect('one is less than two', 1 < 2)\n"
    "lab.control('recall@1', 1 / 128, chance=1 / 128)",
    INTERACT.format("return x"),
    EXPLORER.format("pass", "width * height"),
    "import weakref\nclass Gone:\n    pass\ndead = weakref.proxy(Gone())  # isinstance of it raises\n"
    "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[5, 7, 3]))",
    "from multiprocessing import Pipe\nimport socket\nleft, right = Pipe()\n"
    "server = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(server.getsockname()).close()",
    "import os\nfrom tqdm import tqdm\nfrom tqdm.auto import tqdm as widget_bar\nassert os.environ['AVLAB_RUN']\n"
    "for _ in tqdm(range(50), desc='kept', mininterval=0): pass\n"
    "for _ in tqdm(range(50), desc='gone', mininterval=0, leave=False): pass\n"
    "for _ in widget_bar(range(50), desc='widget'): pass",
]


def write(folder: Path, name: str, cells: list[str], budget: dict | None = None, parameters: str | None = PARAMETERS):
    book = new_notebook(cells=[new_markdown_cell(f"# {name}\n\n{PROSE}")])
    if parameters is not None:
        book.cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    book.cells += [new_code_cell(textwrap.dedent(cell)) for cell in cells]
    # a kernel that no machine has: the runner must not look for it
    book.metadata |= {"kernelspec": {"name": "nowhere", "display_name": "nowhere", "language": "python"}}
    book.metadata |= {"avlab": {"budget": budget or {}}}
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("project")
    paths = [write(folder, name, cells, budget) for name, (cells, budget, _, _) in BROKEN.items()]
    paths.append(write(folder, "good", GOOD))
    known = {"mean": 0.5, "sd": 0.02, "n": 10, "low": 0.4, "high": 0.6}
    baseline = {"seeds": [0, 1, 2], "outcomes": {"recall@1": known}, "expectations": {}, "controls": {}}
    save(folder / "tests" / "baselines" / "baseline.json", "baseline", "quick", baseline)
    return run.run_all(paths, out=folder / "out", jobs=2, seed=3, progress=False), folder


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_notebook_fails_with_its_own_message(ran, name):
    result = ran[0][name]
    _, _, kind, message = BROKEN[name]
    assert result["status"] == "failed"
    said = [failure["message"] for failure in result["failures"] if failure["kind"] == kind]
    assert any(re.search(message, text) for text in said), result["failures"]
    # and for no other reason, save what follows from the same fault
    others = {failure["kind"] for failure in result["failures"]} - {kind, "sweep", "cell"}
    assert not others, result["failures"]


def test_a_good_notebook_passes_and_all_is_measured(ran):
    result = ran[0]["good"]
    assert result["failures"] == []
    assert result["status"] == "ok"
    assert result["expectations"] == {"one is less than two": True}
    assert result["controls"] == {"recall@1": {"value": 1 / 128, "chance": 1 / 128, "passed": True}}
    assert 0 < result["seconds"] < 90
    assert 50 < result["peak_rss_mb"] < 1500
    assert 50 < result["html_kb"] < 3000
    assert [row["cell"] for row in result["cells"]] == list(range(2, 10))
    slowest = [row["seconds"] for row in result["slowest_cells"]]
    assert slowest == sorted(slowest, reverse=True)
    assert result["seed"] == 3


def test_the_seed_reaches_the_notebook(ran, tmp_path):
    import torch

    assert ran[0]["good"]["outcomes"]["draw"] == float(torch.rand((), generator=torch.Generator().manual_seed(3)))


def test_the_page_needs_nothing_else_and_the_copy_holds_no_widget_state(ran):
    out = ran[1] / "out"
    text = (out / "good.html").read_text()
    assert "Plotly.newPlot" in text
    assert text.count("<math") == 3
    assert "<mfrac>" in text
    assert "a$b$c" in text
    assert "frac{" not in text.split("Plotly.newPlot")[0].split("<body")[1]
    assert not re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?!data:|#)[^"']*""", text)
    book = nbformat.read(out / "good.ipynb", as_version=4)
    assert "widgets" not in book.metadata
    data = [output.data for cell in book.cells for output in cell.get("outputs", ()) if "data" in output]
    assert not any(page.WIDGET_MIME in bundle for bundle in data)
    assert any("image/png" in bundle for bundle in data), "the explorer at rest is a picture"


def test_of_progress_bars_the_page_keeps_what_a_terminal_shows_in_the_end(ran):
    book = nbformat.read(ran[1] / "out" / "good.ipynb", as_version=4)
    (output,) = book.cells[-1].outputs
    assert re.fullmatch(r"kept: 100%\S* 50/50 \[.*\]\n?", output.text)
    assert "widget: " not in (ran[1] / "out" / "good.html").read_text().split("<body")[1].split("Out[")[-1]


def test_strip_merges_streams_of_one_name_and_drops_the_empty():
    def stream(name, text):
        return new_output("stream", name=name, text=text)

    widget = new_output("display_data", data={page.WIDGET_MIME: {}, "text/plain": "IntSlider(value=3)"})
    pictured = new_output("display_data", data={page.WIDGET_MIME: {}, "text/plain": "Player", "image/png": "x"})
    outputs = [stream("stdout", "a\nlong\rno"), widget, stream("stdout", "\rX\n"), stream("stderr", "50%\r   \r")]
    book = new_notebook(cells=[new_code_cell("", outputs=[*outputs, pictured]), new_markdown_cell("text")])
    page.strip(book)
    assert [output.get("text") for output in book.cells[0].outputs] == ["a\nXong\n", None]
    assert set(book.cells[0].outputs[1].data) == {"text/plain", "image/png"}


def test_pictures_keep_their_alternative_text_and_the_index_links_the_pages(ran):
    pictures = re.findall(r"<img [^>]*data:image/png[^>]*>", (ran[1] / "out" / "good.html").read_text())
    assert pictures
    assert all(re.search('alt="[^"]{20}', picture) for picture in pictures)
    text = (ran[1] / "out" / "index.html").read_text()
    assert '<a href="good.html">' in text
    assert "FAILED raising, cell 3 (cell): ValueError: boom" in text


def test_an_equation_that_is_none_is_named(tmp_path):
    path = write(tmp_path, "odd", ["1"])
    book = nbformat.read(path, as_version=4)
    book.cells[0].source = r"$\frac{$"
    nbformat.write(book, path)
    (failure,) = run.run_notebook(path)["failures"]
    assert failure["kind"] == "page"
    assert r"'\\frac{'" in failure["message"]


def test_results_are_written_as_json_in_the_order_asked_for(ran):
    report = json.loads((ran[1] / "out" / "results.json").read_text())
    assert list(report["notebooks"]) == [*BROKEN, "good"]
    assert set(report["versions"]) >= {"python", "torch", "avlab"}
    assert not list((ran[1] / "out").glob("*.partial"))


def test_the_table_shows_cell_traceback_and_how_to_run_it_again(ran):
    text = run.table({name: ran[0][name] for name in ("good", "raising")})
    assert "good" in text.splitlines()[1]
    assert "FAILED raising, cell 3 (cell): ValueError: boom" in text
    assert "    raise ValueError('boom')" in text
    assert "\x1b" not in text
    assert re.search(r"avlab run \S*raising.ipynb --profile quick --seed 3", text)


def test_memory_is_seen_while_a_cell_runs_not_only_after_it(ran):
    result = ran[0]["memory"]  # the block of 320 MB is gone when the cell ends
    assert result["peak_rss_mb"] > max(row["rss_mb"] for row in result["cells"]) + 100


def test_a_hung_kernel_leaves_no_process_behind(ran):
    left = [p for p in psutil.Process().children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline())]
    assert left == []


@pytest.mark.parametrize(
    ("parameters", "clips", "message"),
    [
        (None, None, "0 cells have the tag 'parameters'"),
        ('profile = "quick"', None, "sets no 'seed'"),
        (PARAMETERS, ".", "sets no 'clips'"),
        (PARAMETERS + '\nclips = "world"', "nowhere", "no such folder or file"),
        ("profile = ", None, "no Python"),
    ],
)
def test_parameters_that_would_have_no_effect_fail_before_a_kernel_starts(tmp_path, parameters, clips, message):
    path = write(tmp_path, "broken", ["1"], parameters=parameters)
    result = run.run_notebook(path, clips=clips)
    assert result["status"] == "failed"
    assert any(message in failure["message"] for failure in result["failures"])
    assert result["seconds"] == 0


def test_own_clips_reach_the_notebook_as_an_absolute_path_and_baselines_do_not_apply(tmp_path, monkeypatch):
    cells = [
        LAB.format("mine"),
        "import pathlib\nassert pathlib.Path(clips).is_absolute() and pathlib.Path(clips).exists(), clips\n"
        "lab.record('n', 5)",
    ]
    path = write(tmp_path, "mine", cells, parameters=PARAMETERS + '\nclips = "world"')
    known = {"mean": 1.0, "sd": 0.0, "n": 10, "low": 0.9, "high": 1.1}
    save(tmp_path / "tests" / "baselines" / "mine.json", "mine", "quick", {"seeds": [0], "outcomes": {"n": known}})
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    result = run.run_notebook(path, clips="clip.mp4")
    assert result["failures"] == []
    assert result["outcomes"] == {"n": 5.0}
    assert result["rerun"].endswith(f"--clips {tmp_path / 'clip.mp4'}")


def test_the_word_samples_is_passed_on_and_so_is_world_with_its_baseline(tmp_path):
    path = write(tmp_path, "word", [LAB.format("word"), "lab.record('n', len(clips))"], {}, PARAMETERS + "\nclips = ''")
    known = {"mean": 7.0, "sd": 0.0, "n": 10, "low": 6.9, "high": 7.1}
    save(tmp_path / "tests" / "baselines" / "word.json", "word", "quick", {"seeds": [0], "outcomes": {"n": known}})
    result = run.run_notebook(path, clips="samples")
    assert (result["status"], result["outcomes"]) == ("ok", {"n": 7.0})
    assert [failure["kind"] for failure in run.run_notebook(path, clips="world")["failures"]] == ["baseline"]


def test_a_notebook_of_an_older_format_without_cell_ids_runs_and_counts_its_cells(tmp_path):
    path = write(tmp_path, "older", ["1 / 0"], parameters="profile, seed = 'quick', 0")
    book = json.loads(path.read_text())
    book["nbformat_minor"] = 4
    for cell in book["cells"]:
        del cell["id"]
    path.write_text(json.dumps(book))
    (failure,) = run.run_notebook(path)["failures"]
    assert (failure["kind"], failure["cell"]) == ("cell", 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b'{"cells": 5}', b'{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {"avlab": 7}}'],
)
def test_a_file_that_is_no_notebook_is_a_failure_not_a_crash(tmp_path, content):
    path = tmp_path / "odd.ipynb"
    path.write_bytes(content)
    assert run.run_notebook(path)["failures"][0]["kind"] == "unreadable"


def test_a_surprise_in_one_notebook_does_not_end_the_batch(tmp_path):
    code = "from IPython.display import display\ndisplay({'application/vnd.avlab.outcome+json': 'odd'}, raw=True)"
    paths = [write(tmp_path, "odd", [code]), write(tmp_path, "fine", ["1"])]
    results = run.run_all(paths, out=tmp_path / "out", progress=False)
    assert results["odd"]["failures"][0]["kind"] == "unexpected"
    assert "Traceback" in results["odd"]["failures"][0]["traceback"]
    assert results["fine"]["status"] == "ok"


def test_find_takes_numbers_and_paths_and_names_what_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    for name in ("00_a", "01_b", "10_c"):
        write(tmp_path, name, [])
    monkeypatch.chdir(tmp_path)
    assert [path.stem for path in run.find([])] == ["00_a", "01_b", "10_c"]
    assert [path.stem for path in run.find(["01", "notebooks/01_b.ipynb"])] == ["01_b"]
    with pytest.raises(FileNotFoundError, match="no notebook '07'; there are: 00_a, 01_b, 10_c"):
        run.find(["07"])
    with pytest.raises(FileNotFoundError, match=r"no.ipynb"):
        run.find(["no.ipynb"])
    with pytest.raises(FileNotFoundError, match="no notebook '/0'; there are"):
        run.find(["/0"])


def test_calibrate_runs_each_seed_and_counts_what_fails(tmp_path):
    cells = [LAB.format("seeded"), "lab.record('seed', 10 + seed)\nlab.expect('seed is not 1', seed != 1)"]
    path = write(tmp_path, "seeded", cells)
    summary = run.calibrate(path, seeds=range(3), jobs=2)
    assert summary["seeds"] == [0, 1, 2]
    assert summary["outcomes"]["seed"]["mean"] == pytest.approx(11)
    assert summary["outcomes"]["seed"]["sd"] == pytest.approx(np.std([10, 11, 12], ddof=1))
    assert summary["expectations"] == {"seed is not 1": [1]}


def test_the_network_guard_leaves_this_machine_reachable_and_runs_a_hidden_sitecustomize(tmp_path):
    guard, own = tmp_path / "guard", tmp_path / "own"
    guard.mkdir()
    own.mkdir()
    (guard / "sitecustomize.py").write_text(Path(run.offline.__file__).read_text())
    (own / "sitecustomize.py").write_text("print('own')")
    code = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(s.getsockname())\n"
    code += "socket.getaddrinfo('localhost', 80)\nprint('local')\nsocket.getaddrinfo('example.org', 80)"
    env = {"PYTHONPATH": f"{guard}:{own}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["own", "local"]
    assert "NetworkBlockedError: tried to reach example.org" in done.stderr


def test_a_reply_that_comes_while_something_is_sent_is_not_lost():
    """The state of an Output widget is sent on the socket whose replies end the cells (seen: a run waits for ever)."""

    async def reply_beside_sending() -> dict:
        session, context = Session(key=b"test"), zmq.asyncio.Context()
        kernel, client = zmq.Context.shadow(context.underlying).socket(zmq.ROUTER), context.socket(zmq.DEALER)
        client.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = run._KernelClient.shell_channel_class.klass(client, session)
        try:
            channel.send(session.msg("execute_request"))
            asked = kernel.recv_multipart()
            waiting = asyncio.create_task(channel.get_msg())
            await asyncio.sleep(0.1)
            session.send(kernel, "execute_reply", ident=asked[0])
            time.sleep(0.1)  # the reply is here, and the loop had no turn yet
            channel.send(session.msg("comm_msg"))
            return await asyncio.wait_for(waiting, 5)
        finally:
            kernel.close(linger=0)
            client.close(linger=0)
            context.term()

    with ThreadPoolExecutor(1) as apart:  # in this thread Playwright may have a loop running
        assert apart.submit(asyncio.run, reply_beside_sending()).result()["msg_type"] == "execute_reply"

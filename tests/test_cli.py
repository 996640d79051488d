import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from avlab import __version__
from avlab.cli import main
from avlab.course import doctor
from avlab.media import probe


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, name: str, *cells: str, parameters: str = 'profile = "quick"\nseed = 0') -> None:
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    book = new_notebook(cells=[first, *map(new_code_cell, cells)])
    nbformat.write(book, project / "notebooks" / f"{name}.ipynb")


def call(*words: str):
    return CliRunner().invoke(main, list(words))


def test_each_command_has_a_help_and_the_version_is_the_packages():
    for words in (
        [],
        ["lab"],
        ["run"],
        ["check"],
        ["calibrate"],
        ["doctor"],
        ["world"],
        ["world", "export"],
        ["world", "show"],
    ):
        assert call(*words, "--help").exit_code == 0
    assert call("--version").output.strip().endswith(__version__)


def test_run_exits_with_0_or_1_and_leaves_results_and_pages(project):
    write(project, "01_good", "x = seed")
    write(project, "02_bad", "assert seed == 5, seed")
    done = call("run", "--seed", "5", "--jobs", "2")
    assert done.exit_code == 0, done.output
    assert (project / "runs" / "01_good.html").is_file()
    done = call("run", "02", "--out", "elsewhere")
    assert done.exit_code == 1
    assert "FAILED 02_bad, cell 2 (cell): AssertionError: 0" in done.output
    assert "run it again: avlab run notebooks/02_bad.ipynb --profile quick --seed 0" in done.output
    report = json.loads((project / "elsewhere" / "results.json").read_text())
    assert report["notebooks"]["02_bad"]["status"] == "failed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "07"], "no notebook '07'; there are: 01_good"),
        (["check", "07"], "no notebook '07'"),
        (["calibrate", "07"], "no notebook '07'"),
        (["run", "--profile", "fast"], "'fast' is not one of 'quick', 'full'"),
        (["run", "--clips", "nowhere"], "'nowhere' does not exist"),
        (["run", "01", "--clips", "."], "sets no 'clips'"),
        (["calibrate", "01", "--seeds", "2"], "2 is not in the range"),
        (["world", "export", "mine", "--level", "L77"], "level='L77' is not one of L0, L1"),
        (["world", "export", "mine", "--size", "7"], "size=7 must lie between"),
        (["world", "export", "pyproject.toml"], "is a file"),
        (["world", "export", "mine", "--split", "odd"], "split='odd' is not one of iid"),
        (["world", "export", "mine", "--kinds", "bar,bra"], "kinds=['bra'] are not among bar"),
        (["world", "show", "bra"], "kinds=['bra'] are not among bar"),
        (["world", "show", "bar", "--size", "8"], "size=8 must lie between"),
        (["world", "show", "bar", "--out", "bar.mp4"], "must end with .html (a page) or .png (a picture)"),
        (["world", "export", "pyproject.toml/mine"], "pyproject.toml"),
        (["lab", "--port", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(project, words, message):
    write(project, "01_good", "x = seed")
    done = call(*words)
    assert done.exit_code != 0
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("clips", ["own", "own/a.mp4", "samples"])
def test_run_gives_a_lesson_a_word_or_an_absolute_path(project, clips):
    (project / "own").mkdir()
    (project / "own" / "a.mp4").touch()
    wanted = clips if clips == "samples" else str(project / clips)
    write(project, "01_good", f"assert clips == {wanted!r}, clips", parameters='profile = seed = clips = ""')
    done = call("run", "01", "--clips", clips)
    assert done.exit_code == 0, done.output


def test_check_prints_each_violation_and_counts_them(project):
    (project / "data" / "survey").mkdir(parents=True)
    (project / "data" / "survey" / "concepts.json").write_text('{"nodes": []}')
    write(project, "01_good", "x = '/home/me/clips'")
    done = call("check")
    assert done.exit_code == 1
    assert "01_good, cell 2 [path] '/home/me/clips' is an absolute path" in done.output
    assert "1 notebooks, " in done.output.splitlines()[-1]


def test_calibrate_stores_a_baseline_or_says_which_seeds_fail(project):
    lab = 'from avlab.start import Lab\nlab = Lab("x", profile, seed, "cpu")\nlab.record("a", 10 + seed)'
    write(project, "01_good", lab)
    done = call("calibrate", "01", "--seeds", "3", "--jobs", "2")
    assert done.exit_code == 0, done.output
    stored = json.loads((project / "tests" / "baselines" / "01_good.json").read_text())
    assert stored["profiles"]["quick"]["outcomes"]["a"]["mean"] == pytest.approx(11)
    assert call("run", "01", "--seed", "1").exit_code == 0
    write(project, "02_bad", lab + '\nlab.expect("seed is below 2", seed < 2)')
    done = call("calibrate", "02", "--seeds", "3", "--jobs", "2")
    assert done.exit_code == 1
    assert "FAILED in 1 of 3 seeds (2): seed is below 2" in done.output
    assert not (project / "tests" / "baselines" / "02_bad.json").exists()


def test_interrupted_run_ends_its_kernels_and_keeps_what_was_done(project):
    write(project, "01_good", "x = seed")
    write(project, "02_long", "import time", "open('started', 'w').close()", "time.sleep(60)")
    words = [sys.executable, "-m", "avlab.cli", "run"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests run in the background inherit that it is not
    command = subprocess.Popen(words, cwd=project, preexec_fn=heeded, **quiet)
    until = time.monotonic() + 60
    while not (project / "notebooks" / "started").exists() and time.monotonic() < until:
        time.sleep(0.1)
    kernels = psutil.Process(command.pid).children(recursive=True)
    assert kernels
    command.send_signal(signal.SIGINT)
    assert command.wait(20) != 0
    assert not any(kernel.is_running() for kernel in kernels)
    assert list(json.loads((project / "runs" / "results.json").read_text())["notebooks"]) == ["01_good"]


def test_world_export_writes_clips_and_their_truth(project):
    done = call("world", "export", "mine", "--clips", "2", "--level", "L0", "--size", "32", "--seconds", "1")
    assert done.exit_code == 0, done.output
    info = probe(next((project / "mine").glob("*.mp4")))
    assert (info.width, info.height) == (32, 32)
    assert info.seconds == pytest.approx(1, abs=0.1)
    assert len(list((project / "mine").glob("*.mp4"))) == 2
    assert len(list((project / "mine").glob("*.json"))) == 2


def test_world_export_keeps_to_the_named_kinds_and_split(project):
    words = ["--clips", "8", "--level", "L0", "--size", "32", "--seconds", "1", "--kinds", "bar,bell"]
    done = call("world", "export", "mine", *words, "--split", "compositional")
    assert done.exit_code == 0, done.output
    shown = [json.loads(path.read_text())["factors"][0] for path in (project / "mine").glob("*.json")]
    assert {thing["kind"] for thing in shown} == {"bar", "bell"}
    assert all(thing["material"] in ("rubber", "clay") for thing in shown)


def test_world_show_writes_a_page_or_a_picture(project):
    done = call("world", "show", "bar", "--size", "32")
    assert done.exit_code == 0, done.output
    page = Path(done.output.strip())
    assert page == project / "runs" / "world.html"
    assert "length^2" in page.read_text()
    done = call("world", "show", "bar", "bell", "--size", "32", "--out", "new/two.png")
    assert done.exit_code == 0, done.output
    assert (project / "new" / "two.png").read_bytes().startswith(b"\x89PNG")


def test_doctor_examines_everything_the_lessons_need():
    lines = doctor.examine()
    names = {line.name for line in lines}
    assert names >= {
        "Python",
        "torch",
        "device",
        "threads",
        "memory",
        "decoder h264",
        "encoder aac",
        "sliders",
        "player",
    }
    assert all(line.advice for line in lines if not line.ok), "whatever is missing comes with what to do"


def test_doctor_fails_if_something_needed_is_missing_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(doctor, "jupyter_path", lambda *_: [])
    done = call("doctor")
    assert done.exit_code == 1
    assert "MISSING  player: extension anywidget" in done.output
    assert "pip install --force-reinstall anywidget" in done.output


def test_lab_outside_of_a_project_says_where_to_go(monkeypatch):
    from avlab.course import run

    def nowhere():
        raise FileNotFoundError("no notebooks/ here or above: run avlab inside a clone of the project")

    monkeypatch.setattr(run, "project", nowhere)
    done = call("lab", "--no-browser")
    assert done.exit_code == 1
    assert "inside a clone" in done.output


def answer(address: str) -> int:
    for _ in range(50):
        try:
            with urllib.request.urlopen(address, timeout=5) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:  # not up yet
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address}")


@pytest.mark.timeout(120)
def test_lab_serves_on_loopback_with_a_token(project):
    write(project, "00_start_here", "x = 1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "avlab.cli", "lab", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = iter(server.stdout.readline, "")
        address = next(line for line in lines if f"127.0.0.1:{port}/lab/tree" in line and "token=" in line)
        assert "notebooks/00_start_here.ipynb" in address
        assert answer(f"http://127.0.0.1:{port}/api/contents") == 403, "without its token nothing is served"
        assert answer(f"http://127.0.0.1:{port}/api/contents?" + address.strip().rpartition("?")[2]) == 200
    finally:
        server.terminate()  # the command is the server
        server.wait(30)
        server.stdout.close()

"""The house as a whole: pins that agree, tables that tell the truth, commands of the README that exist and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from avlab.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"\s*(?:- )?([\w.-]+)==([\w.+!-]+)\s*", line) for line in lines)
    return {canonicalize_name(m[1]): m[2] for m in found if m}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_constraints_pin_everything_within_the_ranges_of_the_project():
    extras = [item for items in PROJECT["optional-dependencies"].values() for item in items]
    for line in PROJECT["dependencies"] + extras:
        wanted = Requirement(line)
        assert canonicalize_name(wanted.name) in CONSTRAINTS, f"{wanted.name} is not pinned in constraints.txt"
        assert CONSTRAINTS[canonicalize_name(wanted.name)] in wanted.specifier, f"the pin of {wanted} is out of range"
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_constraints_name_versions_only():
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#") or pins([line]), f"{line!r} is no plain pin"


def test_the_conda_environment_agrees_with_the_constraints():
    listed = pins(ENVIRONMENT.splitlines())
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert set(listed) == wanted, "environment.yml lists other packages than pyproject.toml"
    assert listed == {name: CONSTRAINTS[name] for name in listed}
    assert "-c constraints.txt" in ENVIRONMENT
    assert "conda-forge" in ENVIRONMENT
    assert "pytorch\n" not in ENVIRONMENT, "the conda channel of PyTorch is dead"


def test_every_direct_import_is_a_declared_dependency():
    names = {
        "cv2": "opencv-python-headless",
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "IPython": "jupyterlab",
        "zmq": "pyzmq",
        "umap": "umap-learn",
    }
    given = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    given |= {canonicalize_name(Requirement(line).name) for line in PROJECT["optional-dependencies"]["umap"]}
    # these come with a declared package by that package's own contract
    given |= {"avlab", "traitlets", "jupyter-core", "jupyter-client", "pyzmq", "nbclient", "jinja2", "scipy"}
    for path in sorted((ROOT / "avlab").rglob("*.py")):
        for name in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), flags=re.M):
            known = name in sys.stdlib_module_names or canonicalize_name(names.get(name, name)) in given
            assert known, f"{path.name} imports {name}, which pyproject.toml does not declare"


def table(head: str) -> list[list[str]]:
    rows = README.split(head, 1)[1].split("\n\n", 1)[0].strip().splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]


def test_the_table_of_modules_is_what_is_on_disk():
    told = {row[0].strip("`") for row in table("| module | what it holds |\n")}
    found = {f"avlab.{path.stem}" for path in (ROOT / "avlab").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert told == found - {"avlab.__init__", "avlab.__pycache__"}


def test_the_pictures_of_what_a_learner_touches_are_there_and_small():
    pictures = [ROOT / "docs" / f"{name}.png" for name in ("lesson", "atlas", "explorer", "card", "site")]
    assert [path.name for path in pictures if f"docs/{path.name})" not in README] == []
    assert sum(path.stat().st_size for path in pictures) < 300_000


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md"])
def test_the_table_of_lessons_is_what_is_on_disk(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    told = {Path(link).name for link in re.findall(r"\]\(([\w/]+\.ipynb)\)", text)}
    assert told == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_links_and_pictures_of_the_pages_exist():
    for page in ("README.md", "CONTRIBUTING.md", "notebooks/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            if not link.startswith("http"):
                assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}, which is not there"


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    inline = [c for c in re.findall(r"`([^`\n]+)`", README) if c.split()[0] in ("avlab", "make") and len(c.split()) > 1]
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()] + inline


def test_there_are_commands_to_check():
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("avlab")}))
def test_commands_of_the_readme_are_understood(command, monkeypatch, tmp_path):
    """Each is parsed as written; that each verb then does its work is tested in test_cli.py."""
    words = [str(ROOT / word) if word == "data/clips" else word for word in shlex.split(command)[1:]]
    context, group = click.Context(main), main
    while isinstance(group, click.Group):
        name, group, words = group.resolve_command(context, words)
        assert group is not None, f"avlab has no verb {name}"
        context = click.Context(group)
    group.make_context(group.name, list(words))


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("make")}))
def test_verbs_of_make_exist(command):
    verb = command.split()[1]
    told = subprocess.run(["make", "--dry-run", "--always-make", verb], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


MADE = (ROOT / ".venv" / ".installed").exists()
by_make = pytest.mark.skipif(not MADE, reason="this environment was not made by make: `make setup` first")


@by_make
@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["bench", "run"])
def test_verbs_of_make_do_their_work(verb, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "AVLAB_CLIPS"}
    quick = "benchmarks/logmel.py benchmarks/loading.py benchmarks/localization.py"
    words = ["make", verb, f"RUN=00 --out {tmp_path}", f"BENCH={quick}"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    if verb == "run":
        assert json.loads((tmp_path / "results.json").read_text())["notebooks"]["00_start_here"]["status"] == "ok"
        assert "00_start_here" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_benchmark_of_learning_runs_through():
    words = [sys.executable, "benchmarks/learning.py", "--seeds=1", "--budget=1", "--clips=320"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("recall@10", "cIoU@0.5, learned", "late fusion", "both"):
        assert re.search(rf"^{re.escape(row)} +\d+\.\d +\d+\.\d$", done.stdout, flags=re.M), done.stdout


def test_code_is_formatted_and_linted():
    for words in (["format", "--check"], ["check"]):
        places = ["avlab", "tests", "benchmarks", "notebooks"]
        done = subprocess.run([sys.executable, "-m", "ruff", *words, *places], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_python_of_the_readme_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.S))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "12 files used" in done.stdout


@by_make
@pytest.mark.timeout(180)
def test_make_lab_serves_the_first_lesson():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    server = subprocess.Popen(
        ["make", "lab", f"PORT={port}", "BROWSER=none"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        lines = iter(server.stdout.readline, "")
        address = next(line.split()[-1] for line in lines if f"127.0.0.1:{port}/lab" in line and "token=" in line)
        assert time.monotonic() - started < 60, "a second `make lab` takes seconds, not minutes"
        token = address.rpartition("token=")[2]
        page = f"http://127.0.0.1:{port}/api/contents/notebooks/00_start_here.ipynb?content=0&token={token}"
        for _ in range(100):  # the address is printed before the door is open
            try:
                with urllib.request.urlopen(page, timeout=20) as reply:
                    assert json.load(reply)["name"] == "00_start_here.ipynb"
                break
            except urllib.error.HTTPError:
                raise
            except urllib.error.URLError:
                time.sleep(0.2)
        else:
            pytest.fail("JupyterLab did not answer within 20 s")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(page.split("&token")[0], timeout=20)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
        server.stdout.close()

"""The whole package: every public name is documented, what is computed shows an example, imports run one way."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import avlab

# Functions of tensors and tables: each shows a worked example, which the doctests run.
WITH_EXAMPLES = (
    "avlab.clip",
    "avlab.audio",
    "avlab.video",
    "avlab.losses",
    "avlab.metrics",
    "avlab.train",
    "avlab.survey",
)

# A module imports only from ranks below its own, or from its own package.
RANKS = [
    {"clip"},
    {"media"},
    {"audio", "video"},
    {"world"},
    {"datasets"},
    {"models", "losses", "metrics"},
    {"train"},
    {"baselines"},
    {"study"},
    {"studies"},
    {"show", "survey"},
    {"start"},
    {"course"},
    {"cli"},
]

NAMES = sorted(i.name for i in pkgutil.walk_packages(avlab.__path__, "avlab.") if not i.name.endswith("__main__"))


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes defined in a module, and the methods and properties that its classes define."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield name, thing
        if inspect.isclass(thing):
            for part, member in vars(thing).items():
                if not part.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                    yield f"{name}.{part}", member


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what it is for"
    bare = [part for part, thing in public(module) if not inspect.getdoc(thing)]
    assert not bare, f"no docstring in {name}: {bare}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(WITH_EXAMPLES)])
def test_functions_show_an_example(name):
    module = importlib.import_module(name)
    functions = {part: thing for part, thing in public(module) if inspect.isfunction(thing) and "." not in part}
    bare = [part for part, thing in functions.items() if ">>>" not in (thing.__doc__ or "")]
    assert not bare, f"no example that is run in {name}: {bare}"


def test_imports_run_one_way():
    place = {part: rank for rank, parts in enumerate(RANKS) for part in parts}
    wrong = []
    folder = Path(avlab.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in place, f"{own} has no place in the order of imports: add it to RANKS and to house rules"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for other in {name.split(".")[1] for name in names if name.startswith("avlab.")} & place.keys() - {own}:
                if place[other] >= place[own]:
                    wrong.append(f"{path.relative_to(folder)} imports {other}")
    assert not wrong, wrong


# Built for lessons that come next: localization with several annotators, onset baselines, frame samplers.
WAITING = {"onset_envelope", "sample_frames", "iou", "consensus"}


def test_every_public_name_is_used():
    """By a lesson, a benchmark or another piece of the package; what nobody uses is deleted."""
    root = Path(avlab.__file__).parents[1]
    texts = {path: path.read_text(encoding="utf-8") for path in (root / "avlab").rglob("*.py")}
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    texts |= {path: path.read_text(encoding="utf-8") for path in (root / "benchmarks").glob("*.py")}
    names = {}
    for path, text in texts.items():
        if path.suffix == ".py" and root / "avlab" in path.parents:
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    names[node.name] = path
    commands = {name for name, path in names.items() if path.name == "cli.py"}  # used by people
    examples = re.compile(r"^\s*(>>>|\.\.\.).*$", flags=re.M)
    unused = set()
    for name in set(names) - commands:
        uses = sum(len(re.findall(rf"\b{name}\b", examples.sub("", text))) for text in texts.values())
        if uses < 2:
            unused.add(name)
    assert unused <= WAITING, f"nobody uses {sorted(unused - WAITING)}: delete them, or use them"
    assert unused >= WAITING, f"{sorted(WAITING - unused)} found a use: take them off the list"

"""The whole package: every public name is documented, what is computed shows an example, imports run one way."""

import ast
import importlib
import inspect
import pkgutil
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

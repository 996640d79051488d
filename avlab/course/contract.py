"""The contract that every lesson keeps: its skeleton, its metadata and its limits, read without running it.

`check(path)` returns what is broken, a `Violation` each. Number 00, the way in, is free of what only a lesson with
results of its own can have (records, controls, three exercises, an `agree` cell, what the survey says and we saw).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

import avlab

TAGS = {"parameters", "predict", "widget", "agree", "exercise", "solution", "check"}
LIMITS = {"seconds": 90, "rss_mb": 1500}
MOST_KB, MOST_CELL_LINES, MOST_CLASS_LINES, MOST_PARAMETER_LINES = 150, 40, 30, 5
FETCHERS = {"urllib", "requests", "httpx", "aiohttp", "pooch", "ftplib", "socket", "subprocess"}
ENDING = ("what the survey says", "what we saw", "what we did not test", "references")
FEWEST_STATEMENTS = 3  # shorter bodies are alike by chance


class Violation(NamedTuple):
    """One broken rule; `cell` counts from 1 and is None where the whole notebook is meant."""

    notebook: str
    cell: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        place = f", cell {self.cell}" if self.cell is not None else ""
        return f"{self.notebook}{place} [{self.rule}] {self.message}"


Finding = tuple[int | None, str, str]


def check(path: Path) -> list[Violation]:
    """All violations of one notebook; the others in its folder are read for what must not be repeated.

    The survey's concepts are looked for in `data/survey/concepts.json` beside the notebook's folder.
    """
    trees: dict[int, ast.Module] = {}
    found: list[Finding] = []
    try:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        for place, cell in enumerate(book.cells, 1):
            if cell.cell_type == "code":
                try:
                    trees[place] = ast.parse(cell.source)
                except SyntaxError as error:  # a shell line or a magic is no Python either
                    message = f"line {error.lineno}: plain Python only, without ! and %: {error.msg}"
                    found.append((place, "python", message))
        found += [*_limits(path, book), *_skeleton(path, book, trees), *_metadata(path, book), *_exercises(path, book)]
        found += [*_source(trees), *_names(trees), *_statements(path, book, trees), *_repeats(path, trees)]
    except Exception as error:  # no notebook, or metadata of odd types
        found.append((None, "format", f"cannot be read: {type(error).__name__}: {str(error)[:200]}"))
    return [Violation(path.stem, *finding) for finding in sorted(set(found), key=lambda f: (f[0] or 0, *f[1:]))]


def _is_lesson(path: Path) -> bool:
    return not path.stem.startswith("00")


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _limits(path: Path, book: NotebookNode) -> Iterator[Finding]:
    size = path.stat().st_size / 1e3
    if size > MOST_KB:
        yield None, "size", f"{size:.0f} kB, over {MOST_KB}: move data into files, strip outputs"
    if book.metadata.get("widgets"):
        yield None, "outputs", "carries widget state: strip it"
    for place, cell in enumerate(book.cells, 1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield place, "outputs", "has outputs: strip them before committing"
        lines = cell.source.count("\n") + 1
        if lines > MOST_CELL_LINES:
            yield place, "cell length", f"{lines} lines, over {MOST_CELL_LINES}: one idea a cell"
        for tag in set(_tags(cell)) - TAGS:
            yield place, "tag", f"unknown tag {tag!r}; known are {', '.join(sorted(TAGS))}"


def _skeleton(path: Path, book: NotebookNode, trees: dict[int, ast.Module]) -> Iterator[Finding]:
    if re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) is None:
        yield None, "file name", "must be NN_theme.ipynb"
    wanted = f"# {path.stem[:2]} · "
    title = book.cells[0].source if book.cells and book.cells[0].cell_type == "markdown" else ""
    if not title.startswith(wanted):
        yield 1, "title", f"the first cell must be Markdown that starts with '{wanted}Theme'"
    elif "minutes" not in title:
        yield 1, "title", "the title cell says no minutes to read"
    tagged = [place for place, cell in enumerate(book.cells, 1) if "parameters" in _tags(cell)]
    if len(tagged) != 1 or tagged[0] not in trees:
        yield None, "parameters", f"{len(tagged)} code cells have the tag 'parameters', one is needed"
        return
    (place,) = tagged
    lines = book.cells[place - 1].source.strip().count("\n") + 1
    if lines > MOST_PARAMETER_LINES:
        yield place, "parameters", f"{lines} lines, over {MOST_PARAMETER_LINES}"
    given = {ast.unparse(node) for node in trees[place].body}
    wanted = {"profile": "quick", "seed": 0, "device": "auto"}
    for name, value in wanted.items():
        if f"{name} = {value!r}" not in given:
            yield place, "parameters", f"needs the line {name} = {value!r}"
    after = [other for other in trees if other > place]
    calls = _calls(trees[after[0]], "start") if after else []
    if not calls or min(trees) != place:
        yield place, "start", "the parameters cell comes first of all code, the cell with avlab.start(...) next"
        return
    passed = {ast.unparse(part) for part in calls[0].args[:1]}
    passed |= {f"{k.arg}={ast.unparse(k.value)}" for k in calls[0].keywords}
    for part in (repr(path.stem), *(f"{name}={name}" for name in wanted)):
        if part not in passed:
            yield after[0], "start", f"avlab.start must be given {part}"


def _metadata(path: Path, book: NotebookNode) -> Iterator[Finding]:
    data = book.metadata.get("avlab", {})
    missing = [key for key in ("section", "concepts", "requires", "budget", "minutes") if key not in data]
    if missing:
        yield None, "metadata", f"avlab has no {', '.join(missing)}"
        return
    for key in ("seconds", "rss_mb", "html_kb"):
        value = data["budget"].get(key)
        if not isinstance(value, int | float) or value <= 0:
            yield None, "metadata", f"avlab.budget.{key} must be a number above 0, got {value!r}"
        elif value > LIMITS.get(key, value):
            yield None, "metadata", f"avlab.budget.{key} = {value} is over the limit of {LIMITS[key]}"
    for other in data["requires"]:
        if not (path.parent / f"{other}.ipynb").is_file() or other >= path.stem:
            yield None, "metadata", f"avlab.requires names {other!r}, which is no earlier notebook"
    survey = path.resolve().parents[1] / "data" / "survey" / "concepts.json"
    if not survey.is_file():
        yield None, "concepts", "the concepts of the survey are missing: no data/survey/concepts.json beside its folder"
        return
    known = {node["id"] for node in json.loads(survey.read_text(encoding="utf-8"))["nodes"]}
    taught: set[str] = set()
    for place, cell in enumerate(book.cells, 1):
        here = cell.metadata.get("avlab", {}).get("concepts", [])
        taught |= set(here)
        if here and cell.cell_type != "markdown":
            yield place, "concepts", "a concept is taught by a Markdown cell"
        for concept in set(here) - set(data["concepts"]):
            yield place, "concepts", f"{concept!r} is missing in the notebook's avlab.concepts"
    for concept in data["concepts"]:
        if concept not in known:
            yield None, "concepts", f"{concept!r} is not in data/survey/concepts.json"
        if concept not in taught:
            yield None, "concepts", f"no Markdown cell carries {concept!r} in its metadata avlab.concepts"


def _exercises(path: Path, book: NotebookNode) -> Iterator[Finding]:
    kinds = ""
    for place, cell in enumerate(book.cells, 1):
        kinds += "".join(tag[0] for tag in ("exercise", "solution", "check") if tag in _tags(cell))
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        if "solution" in _tags(cell) and not hidden:
            yield place, "exercise", "a solution is collapsed: set the cell metadata jupyter.source_hidden"
        asks = cell.cell_type == "code" and re.search(r"^(\w+ = )?(predict|quiz)\(", cell.source, re.MULTILINE)
        if asks and not ("predict" in _tags(cell) and hidden):
            yield place, "predict", "its code tells the answer: set the tag predict and jupyter.source_hidden"
        points = cell.metadata.get("avlab", {}).get("discussion", [])
        if not isinstance(points, list) or not all(isinstance(point, str) and point.strip() for point in points):
            yield place, "discussion", "avlab.discussion must be a list of sentences: the teacher edition shows them"
    groups = re.fullmatch(r"((?:e+s+c+)*)(e*)", kinds)  # the last one may be open: without a solution
    count = len(re.findall("e+", kinds))
    if groups is None:
        yield None, "exercise", "each exercise is followed by its solution, then by its check"
    fewest = 3 if _is_lesson(path) else 1
    if not fewest <= count <= 5:
        yield None, "exercise", f"{count} exercises, from {fewest} to 5 are needed"
    tags = {tag for cell in book.cells for tag in _tags(cell)}
    for tag in ("predict", "widget", *(("agree",) if _is_lesson(path) else ())):
        if tag not in tags:
            yield None, "skeleton", f"no cell has the tag {tag!r}"
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown").lower()
    for heading in ENDING if _is_lesson(path) else ():
        if not re.search(f"^[#*].*{heading}", prose, re.MULTILINE):
            yield None, "skeleton", f"the ending {heading!r} is missing"


def _source(trees: dict[int, ast.Module]) -> Iterator[Finding]:
    for place, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno + 1 > MOST_CLASS_LINES:
                yield place, "class length", f"class {node.name} is over {MOST_CLASS_LINES} lines: it belongs in avlab"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.match(r"(/\w+/|~/|[A-Za-z]:[\\/])\S*$", node.value):
                    yield place, "path", f"{node.value!r} is an absolute path: nobody else has it"
                elif re.match(r"(https?|ftp|s3)://", node.value):
                    yield place, "network", f"{node.value!r}: a lesson fetches nothing; links stand in Markdown"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                for module in modules:
                    if module.split(".")[0] in FETCHERS:
                        yield place, "network", f"imports {module}: a lesson uses no network and starts no program"
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.system", "os.popen"):
                yield place, "network", f"line {node.lineno}: a lesson starts no program"


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [call for call in calls if call.func.attr == name]


def _statements(path: Path, book: NotebookNode, trees: dict[int, ast.Module]) -> Iterator[Finding]:
    for name in ("record", "expect", "control") if _is_lesson(path) else ():
        if not any(_calls(tree, name) for tree in trees.values()):
            yield None, "outcomes", f"no lab.{name}(...): a lesson is a test too"
    for place, cell in enumerate(book.cells, 1):
        if "agree" in _tags(cell) and "assert_close" not in cell.source:
            yield place, "agree", "no assert_close: nothing proves that the scratch version and avlab agree"


def _names(trees: dict[int, ast.Module]) -> Iterator[Finding]:
    """Every name of avlab that is imported, or reached through dots, exists."""
    known: dict[str, object] = {}
    for place, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for alias in node.names:
                dotted = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
                first, *dots = dotted.split(".")
                if first == "avlab":
                    try:
                        thing = _resolve(avlab, dots)
                    except AttributeError as error:
                        yield place, "names", f"{dotted} does not exist: {error}"
                    else:
                        whole = isinstance(node, ast.Import) and alias.asname is None  # `import avlab.x` binds avlab
                        known[alias.asname or ("avlab" if whole else alias.name)] = avlab if whole else thing
        for node in ast.walk(tree):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            first, *dots = name.split(".")
            if re.fullmatch(r"\w+(\.\w+)+", name) and isinstance(known.get(first), ModuleType):
                try:
                    _resolve(known[first], dots)
                except AttributeError as error:
                    yield place, "names", f"{name} does not exist: {error}"


def _resolve(thing: object, dots: list[str]) -> object:
    """Follow dots as far as they lead through modules; what hangs on an object is known only when it runs."""
    for dot in dots:
        if not isinstance(thing, ModuleType):
            break
        inner = f"{thing.__name__}.{dot}"
        if not hasattr(thing, dot) and inner.startswith("avlab."):
            try:
                importlib.import_module(inner)
            except ModuleNotFoundError:
                raise AttributeError(f"{thing.__name__} has no {dot!r}") from None
        thing = getattr(thing, dot)
    return thing


def _repeats(path: Path, trees: dict[int, ast.Module]) -> Iterator[Finding]:
    """A top-level function or class whose body stands in another notebook or in avlab: import it instead."""
    elsewhere = dict(_bodies_of_avlab())
    for other in sorted(path.parent.glob("*.ipynb")):
        if other.stem != path.stem:
            with suppress(Exception):  # what is wrong in that one its own check reports
                cells = [cell for cell in nbformat.read(other, as_version=4).cells if cell.cell_type == "code"]
                nodes = [node for cell in cells for node in ast.parse(cell.source).body]
                elsewhere |= {body: f"{other.stem}: {node.name}" for node in nodes if (body := _body(node))}
    for place, tree in trees.items():
        for node in tree.body:
            if (body := _body(node)) in elsewhere:
                yield place, "repeated", f"the body of {node.name} stands in {elsewhere[body]} too: import it"


@cache
def _bodies_of_avlab() -> dict[str, str]:
    root = Path(inspect.getfile(avlab)).parent
    return {
        body: f"avlab/{file.relative_to(root)}: {node.name}"
        for file in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (body := _body(node))
    }


def _body(node: ast.AST) -> str:
    """A function's or class's body with its own names numbered and its docstring left out; empty if it is too short."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    node = ast.parse(ast.unparse(node)).body[0]  # a copy to rename in
    body = node.body if ast.get_docstring(node) is None else node.body[1:]
    if sum(isinstance(inner, ast.stmt) for part in body for inner in ast.walk(part)) < FEWEST_STATEMENTS:
        return ""
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name | ast.arg)]
    own = [
        n.arg if isinstance(n, ast.arg) else n.id for n in names if not isinstance(getattr(n, "ctx", None), ast.Load)
    ]
    numbers = {name: f"_{place}" for place, name in enumerate(dict.fromkeys(own))}
    for inner in names:
        if isinstance(inner, ast.Name):
            inner.id = numbers.get(inner.id, inner.id)
        else:
            inner.arg, inner.annotation = numbers[inner.arg], None
    return "\n".join(ast.dump(part) for part in body)

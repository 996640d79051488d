"""A learner's own way through the course: lessons opened, predictions locked, quizzes and checks, in one JSON file.

It lies in `~/.avlab/progress.json` (the folder is `AVLAB_HOME` where that is set) and goes nowhere else. Nothing is
written in a run (`AVLAB_RUN`) or without a notebook. Each entry is one thing of one lesson:
`{"lesson", "kind": "opened" | "card" | "quiz" | "check", "id", "choice", "right", "tries", "when"}`.
"""

from __future__ import annotations

import html
import json
import os
import time
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from IPython import get_ipython
from IPython.display import display

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
MOST = 5000  # entries, about 1 MB; beyond it the oldest go
LONGEST = 200  # letters of an id or a choice
PATIENCE = 5.0  # seconds to wait for another kernel that writes
FIELDS = {"lesson": str, "kind": str, "id": str, "choice": str, "right": bool, "tries": int, "when": str}
_lesson: list[str] = []  # the one that was started last
_told: set[str] = set()


def path() -> Path:
    """Where the progress is kept."""
    return Path(os.environ.get("AVLAB_HOME") or Path.home() / ".avlab") / "progress.json"


def attended() -> bool:
    """Whether a learner may be there: a notebook's kernel, and no run that tests the notebook."""
    return get_ipython() is not None and not os.environ.get("AVLAB_RUN")


def lesson(name: str) -> None:
    """Say which lesson what follows belongs to; `avlab.start` does."""
    _lesson[:] = [name]
    note("opened", name)


def note(kind: str, id: str, *, right: bool = False, choice: str = "") -> None:
    """Keep one step of the learner: a card as it was answered first, anything else as right once it was right.

    Where the file cannot be written, says so once and goes on: a lesson does not stop for it.
    """
    if not attended() or not _lesson:
        return
    key = {"lesson": _lesson[0][:LONGEST], "kind": kind, "id": id[:LONGEST]}
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path().with_suffix(".lock"), timeout=PATIENCE):
            entries = _entries()
            old = next((one for one in entries if key.items() <= one.items()), None)
            when = datetime.now(UTC).isoformat(timespec="seconds")
            if old is None:
                entries.append(key | {"choice": choice[:LONGEST], "right": bool(right), "tries": 1, "when": when})
            else:
                old["tries"] += 1
                if kind != "card" and not old["right"]:
                    old |= {"choice": choice[:LONGEST], "right": bool(right), "when": when}
            _write(sorted(entries, key=lambda one: one["when"])[-MOST:])
    except (OSError, Timeout, _NewerError) as error:
        _say(f"Your progress cannot be kept in {path()}: {error}")


def read() -> pd.DataFrame:
    """All that is kept, one row an entry, in the order of time; empty in a run, which has no learner."""
    import pandas as pd

    entries = []
    if not os.environ.get("AVLAB_RUN") and path().exists():
        try:
            with FileLock(path().with_suffix(".lock"), timeout=PATIENCE):
                entries = _entries()
        except (OSError, Timeout, _NewerError) as error:
            _say(f"Your progress in {path()} cannot be read: {error}")
    return pd.DataFrame(entries, columns=list(FIELDS))


def way(lessons: Iterable[str] = ()) -> pd.DataFrame:
    """One row a lesson, `lessons` first and in their order, then others that were opened.

    Columns: `lesson`, `opened` (bool), `predicted` and `predicted_right` (cards locked, and right at once), `tried`
    and `passed` (checks and quizzes).
    """
    import pandas as pd

    known = read()
    names = list(dict.fromkeys([*lessons, *known.lesson]))
    rows = []
    for name in names:
        own = known[known.lesson == name]
        cards, checks = own[own.kind == "card"], own[own.kind.isin(["check", "quiz"])]
        rows.append((name, len(own) > 0, len(cards), int(cards.right.sum()), len(checks), int(checks.right.sum())))
    return pd.DataFrame(rows, columns=["lesson", "opened", "predicted", "predicted_right", "tried", "passed"])


def show_way(lessons: Iterable[str] = ()) -> None:
    """Display the learner's way as a table, each lesson with a link: what was opened, predicted and passed."""
    rows, lines = "", []
    for row in way(lessons).itertuples():
        title = row.lesson.replace("_", " · ", 1).replace("_", " ")
        state = "passed" if row.passed and row.passed == row.tried else "begun" if row.opened else "not yet"
        cells = [state, f"{row.predicted_right} of {row.predicted}" if row.predicted else "–",
                 f"{row.passed} of {row.tried}" if row.tried else "–"]  # fmt: skip
        link = f'<a href="{html.escape(row.lesson, quote=True)}.ipynb">{html.escape(title)}</a>'
        rows += f'<tr><th scope="row">{link}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        lines.append(" | ".join([title, *cells]))
    heads = ("lesson", "state", "predicted right", "checks passed, of those tried")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    caption = f"Your way so far, kept on this machine only ({html.escape(str(_short(path())))})"
    page = f"<table><caption>{caption}</caption><tr>{head}</tr>{rows}</table>"
    display({"text/html": page, "text/plain": "\n".join([" | ".join(heads), *lines])}, raw=True)


class _NewerError(Exception):
    """The file is of a later avlab."""


def _short(place: Path) -> Path:
    """A path for a page that others may see: without the name of the home folder."""
    home = Path.home()
    return Path("~") / place.relative_to(home) if place.is_relative_to(home) else Path(place.name)


def _entries() -> list[dict[str, Any]]:
    """The entries of the file; a damaged one is kept aside and said, and a new one begun."""
    try:
        text = path().read_bytes()
    except FileNotFoundError:
        return []
    try:
        data = json.loads(text)
        version, entries = data["version"], data["entries"]
        if isinstance(version, int) and version > VERSION:
            raise _NewerError(f"it was written by a later avlab (version {version}, this one knows {VERSION})")
        for one in entries:
            if one.keys() != FIELDS.keys() or not all(type(one[name]) is kind for name, kind in FIELDS.items()):
                raise ValueError("an entry has another form")
        return list(entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        aside = path().with_name(f"{path().name}.{time.time_ns()}.damaged")
        path().replace(aside)
        _say(f"{path()} is damaged ({error}): it is kept as {aside.name}, and a new one is begun")
        return []


def _write(entries: list[dict[str, Any]]) -> None:
    new = path().with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump({"version": VERSION, "entries": entries}, file, ensure_ascii=False, indent=0)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path())  # at once: a kernel that is killed leaves the old one or the new one


def _say(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, stacklevel=3)

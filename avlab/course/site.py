"""The lessons as a site that opens from a folder: a page each, an index, and a search over all of them.

The search's index is a script beside the pages and not a file that they fetch, since a browser lets no page that was
opened from a folder read its neighbours.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

from nbformat import NotebookNode

from avlab.course import page
from avlab.survey import concepts

CSS = """
.avlab-site { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #f4f6f8;
  border-bottom: 1px solid #c8ced6; padding: 8px 16px; position: relative; }
.avlab-site nav { display: flex; flex-wrap: wrap; gap: 4px 20px; }
.avlab-site a { color: #005a8d; text-decoration: underline; }
.avlab-site .skip { position: absolute; left: -9999px; } .avlab-site .skip:focus { position: static; }
.avlab-site label { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-top: 6px; }
.avlab-site input { font: inherit; color: inherit; background: #fff; border: 1px solid #5c6670; border-radius: 4px;
  padding: 4px 8px; flex: 1 1 16em; max-width: 40em; }
.avlab-site :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.avlab-site .said { margin: 4px 0 0; min-height: 1.5em; color: #3d4650; }
.avlab-site .results { margin: 0; padding: 0; list-style: none; max-width: 60em; }
.avlab-site .results li { padding: 6px 0; border-top: 1px solid #c8ced6; }
.avlab-site .results p { margin: 0; overflow-wrap: anywhere; }
.avlab-site .results .concepts { color: #3d4650; }
.avlab-site mark { background: #ffe08a; color: inherit; }
.avlab-lessons { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60em; margin: 16px; }
body { margin: 0; }
.avlab-lessons a { color: #005a8d; } .avlab-lessons li { margin-bottom: 12px; } .avlab-lessons p { margin: 0; }
summary { cursor: pointer; padding: 4px 0; font: 16px/1.5 system-ui, sans-serif; }
"""


def render(executed: Mapping[str, NotebookNode]) -> dict[str, str]:
    """The files of the site by name, from executed and stripped notebooks by stem, in the order of the course."""
    titles = dict(zip(concepts().id, concepts().title, strict=True))
    stems = list(executed)
    lessons = [_lesson(stem, book) for stem, book in executed.items()]
    sections = [
        {"lesson": number} | section
        for number, book in enumerate(executed.values())
        for section in _sections(book, titles)
    ]
    data = json.dumps({"lessons": lessons, "sections": sections}, separators=(",", ":"))
    code = (files("avlab.course") / "site.js").read_text(encoding="utf-8")
    made = {"search.js": f"const AVLAB = {data};\n{code}", "index.html": _index(lessons)}
    for place, (stem, book) in enumerate(executed.items()):
        before, after = stems[place - 1 : place], stems[place + 1 : place + 2]
        links = [f'<a href="slides/{stem}.html">Slides of this lesson</a>']
        links += [f'<a rel="prev" href="{s}.html">Before: {html.escape(_title(executed[s]))}</a>' for s in before]
        links += [f'<a rel="next" href="{s}.html">Next: {html.escape(_title(executed[s]))}</a>' for s in after]
        text = page.render(book, _title(book), _banner(links)).replace("<main>", '<main id="lesson" tabindex="-1">', 1)
        made[f"{stem}.html"] = page.with_plotly(linked(text, stems))
    return made


def linked(text: str, stems: Sequence[str], folder: str = "") -> str:
    """A page whose links to the notebooks of these lessons lead to their pages, which are in `folder`."""
    names = "|".join(map(re.escape, stems))
    return re.sub(rf"""href=(["'])({names})\.ipynb""", rf"href=\1{folder}\2.html", text)


def _banner(links: list[str]) -> str:
    """What stands above every page: the way to the other lessons, and the search."""
    return f"""<style>{CSS}</style>
<header class="avlab-site">
<a class="skip" href="#lesson">To the lesson</a>
<nav aria-label="Lessons"><a href="index.html">All lessons</a>{"".join(links)}</nav>
<search><label>Search all lessons <input type="search" autocomplete="off" aria-describedby="avlab-said"
 aria-controls="avlab-results" aria-keyshortcuts="/"></label>
<p class="said" id="avlab-said" role="status"></p><ol class="results" id="avlab-results"></ol></search>
</header>
<script src="search.js" defer></script>
"""


def _index(lessons: list[dict[str, Any]]) -> str:
    items = "\n".join(
        f'<li><a href="{lesson["file"]}">{html.escape(lesson["title"])}</a>, {lesson["minutes"]} minutes '
        f'(<a href="slides/{lesson["file"]}">slides</a>)<p>{html.escape(lesson["about"])}</p></li>'
        for lesson in lessons
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lessons</title></head>
<body>
{_banner([])}<main class="avlab-lessons" id="lesson" tabindex="-1">
<h1>Lessons</h1>
<ul>
{items}
</ul>
</main>
</body>
</html>
"""


def _title(book: NotebookNode) -> str:
    return book.cells[0].source.partition("\n")[0].lstrip("# ").strip()


def _lesson(stem: str, book: NotebookNode) -> dict[str, Any]:
    bold = re.findall(r"\*\*(.+?)\*\*", book.cells[0].source.partition("\n")[2])
    minutes = int(book.metadata.get("avlab", {}).get("minutes", 0))
    return {"file": f"{stem}.html", "title": _title(book), "minutes": minutes, "about": bold[0] if bold else ""}


class _Words(HTMLParser):
    """The words of rendered Markdown, by heading: `parts` is a list of [id, heading, words]."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[list[str]] = [["", "", ""]]  # what stands before the first heading
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if re.fullmatch("h[1-4]", tag):
            self.parts.append([given.get("id") or "", "", ""])
            self.within.append("heading")
        elif tag == "math" or given.get("class") == "anchor-link":
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within and (self.within[-1] == tag or (self.within[-1] == "heading" and re.fullmatch("h[1-4]", tag))):
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if not self.within or self.within == ["heading"]:
            self.parts[-1][1 if self.within else 2] += data


def _sections(book: NotebookNode, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """What can be found: of each heading its anchor, words, names in its code and titles of the concepts it teaches."""
    found: list[dict[str, Any]] = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            words = _Words()
            words.feed(page.markdown(cell.source))
            words.close()
            for anchor, heading, text in words.parts:
                if anchor:
                    found.append({"anchor": anchor, "heading": heading, "text": "", "concepts": [], "code": ""})
                if found:
                    found[-1]["text"] += " ".join(text.split()) + " "
            taught = cell.metadata.get("avlab", {}).get("concepts", [])
            found[-1]["concepts"] += [titles[concept] for concept in taught if concept in titles]
        elif cell.cell_type == "code" and found and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            names = re.findall(r"[A-Za-z_]\w{3,}", cell.source)
            found[-1]["code"] = " ".join(dict.fromkeys([*found[-1]["code"].split(), *names]))
            for output in cell.get("outputs", ()):
                said = output.get("data", {}).get("text/markdown", "")
                said += output.get("metadata", {}).get("image/png", {}).get("alt", "")
                found[-1]["text"] += re.sub(r"[*`]", "", said) + " " if said else ""
    return found

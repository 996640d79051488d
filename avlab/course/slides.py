"""Slides of a lesson, made from its executed copy: one idea each, with its title, its figure and what it shows.

Each `##` heading opens with a slide of its first words; each picture, table or card is a slide of its own, with what
the lesson says right after it. Code, exercises and what needs a kernel are left out. The file holds reveal.js (MIT,
`reveal/`), so that it opens without a network; arrow keys move, Esc shows all slides, `?print-pdf` in the address
prints them. Nothing moves by itself.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from nbformat import NotebookNode

from avlab.course import page
from avlab.start import OUTCOME_MIME

SKIPPED = {"parameters", "injected-parameters", "agree", "exercise", "solution", "check"}
CSS = """
html { background: #fff; }
.reveal { font: 26px/1.4 system-ui, sans-serif; color: #1b1f24; }
.reveal .slides { text-align: left; }
.reveal .slides > section { height: 100%; box-sizing: border-box; flex-direction: column; padding: 0; }
.reveal h1 { font-size: 54px; } .reveal h2 { font-size: 36px; }
.reveal h1, .reveal h2 { margin: 0 0 16px; line-height: 1.2; border-bottom: 4px solid #0072B2; padding-bottom: 8px; }
.reveal .figure { flex: 0 1 auto; min-height: 0; overflow: auto; }
.reveal .picture { flex: 1 1 0; display: flex; flex-direction: column; }
.reveal .figure img { max-width: 100%; max-height: 100%; min-height: 0; object-fit: contain; object-position: left; }
.reveal .figure > div { box-sizing: border-box; width: 100%; }
.reveal .finding { border-left: 6px solid #E07B00; padding-left: 16px; margin-top: 14px; font-size: 24px; }
.reveal p { margin: 0 0 12px; } .reveal ul { margin: 0 0 12px 1.2em; }
.reveal table { border-collapse: collapse; font-size: 22px; }
.reveal th, .reveal td { padding: 4px 14px; border-bottom: 1px solid #bbb; text-align: left; }
.reveal a { color: #005a8d; } .reveal .anchor-link { display: none; }
.reveal code { font-family: ui-monospace, monospace; font-size: 0.9em; }
.reveal .slide-number { background: #fff; } .reveal .slide-number a { color: #1b1f24; }
.reveal .progress { color: #0072B2; } .reveal .controls { color: #0072B2; }
"""
START = """
Reveal.initialize({ width: 1280, height: 720, margin: 0.05, center: false, hash: true, slideNumber: "c/t",
                    transition: "none", backgroundTransition: "none", autoAnimate: false, display: "flex" });
Reveal.on("slidechanged", ({ currentSlide }) => {  // a hidden figure has no size
  for (const figure of currentSlide.querySelectorAll(".plotly-graph-div")) Plotly.Plots.resize(figure);
});
"""


class Slide(NamedTuple):
    """A title (text), a picture, table or card (HTML, may be empty) and what it shows (HTML, may be empty)."""

    title: str
    figure: str
    finding: str


def render(executed: NotebookNode, stem: str) -> str:
    """The slides of an executed and stripped notebook as one page. Raises `ValueError` naming what is no equation."""
    sections = []
    for place, slide in enumerate(outline(executed)):
        level = "h2" if place else "h1"
        kind = "figure picture" if slide.figure.startswith("<img") else "figure"
        figure = f'<div class="{kind}" tabindex="0" role="group">{slide.figure}</div>' if slide.figure else ""
        finding = f'<div class="{"finding" if slide.figure else "text"}">{slide.finding}</div>' if slide.finding else ""
        sections.append(f"<section><{level}>{html.escape(slide.title)}</{level}>{figure}{finding}</section>")
    reveal = files("avlab.course") / "reveal"
    style = (reveal / "reveal.css").read_text(encoding="utf-8")
    script = (reveal / "reveal.js").read_text(encoding="utf-8")
    text = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(stem)}: slides</title>
<style>{style}{CSS}</style>
</head>
<body>
<main class="reveal"><div class="slides">
{chr(10).join(sections)}
</div></main>
<script>{script}</script>
<script>{START}</script>
</body>
</html>
"""
    return page.with_plotly(text)


def outline(executed: NotebookNode) -> list[Slide]:
    """What the slides show, in order; the first is the lesson's title and what one can do afterwards."""
    found: list[Slide] = []
    title, open_figures = "", False  # whether the next words speak about the last slide's figure
    for cell in executed.cells:
        if SKIPPED & set(cell.metadata.get("tags", ())):
            open_figures = False
        elif cell.cell_type == "markdown":
            for heading, words in _blocks(cell.source):
                title = heading or title
                if not found:  # the title cell
                    found.append(Slide(title, "", page.markdown(words)))
                elif heading or open_figures:
                    said = page.markdown(_first(words))
                    if heading:
                        found.append(Slide(title, "", said))
                    else:
                        found[-1] = found[-1]._replace(finding=found[-1].finding + said)
                open_figures = False
        else:
            figures, said = _shown(cell)
            found += [Slide(title, figure, "") for figure in figures]
            if said:
                found[-1:] = [found[-1]._replace(finding=said)] if figures else [found[-1], Slide(title, "", said)]
            open_figures = bool(figures)
    return [slide for slide in found if slide.figure or slide.finding]


def _blocks(source: str) -> Iterator[tuple[str, str]]:
    """A Markdown cell cut at its headings: (heading or "", words)."""
    parts = re.split(r"^#{1,3} +(.+)$", source, flags=re.MULTILINE)
    if parts[0].strip():
        yield "", parts[0]
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _first(words: str) -> str:
    """The first paragraph, and the equations that are set apart."""
    paragraphs = [p for p in re.split(r"\n\s*\n", words.strip()) if p]
    return "\n\n".join(paragraphs[:1] + [p for p in paragraphs[1:] if p.startswith("$$")])


def _shown(cell: NotebookNode) -> tuple[list[str], str]:
    """The pictures, tables and cards of a code cell as HTML, and its words."""
    figures, words = [], []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if OUTCOME_MIME in data:  # a test of the lesson, not an idea of it
            continue
        if page.PLOTLY_MIME in data:
            figures.append(page.plotly_html(data[page.PLOTLY_MIME]))
        elif "image/png" in data:
            alt = output.metadata.get("image/png", {}).get("alt", "")
            figures.append(f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="{html.escape(alt)}">')
        elif "text/html" in data:
            figures.append(data["text/html"])
        elif "text/markdown" in data:
            words.append(page.markdown(data["text/markdown"]))
    return figures, "".join(words)

"""What a run leaves to look at: the executed notebook without widgets, and one page that opens without a network.

A page holds all it needs. Its equations are MathML, which browsers draw without a library; plotly's own library, 5 MB
and the same for all, is not counted in the page's size.
"""

from __future__ import annotations

import copy
import html
import os
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
import nbformat
import plotly.io
from jinja2 import DictLoader, pass_context
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from plotly.offline import get_plotlyjs

from avlab.show.bundle import ALT_BLOCK

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
MATH = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?P<environment>\\begin\{(\w+\*?)\}.+?\\end\{\3\})|\$(?P<inline>[^$]+?)\$", re.DOTALL
)
BLOCKS = ("html_head_js", "jupyter_widgets", "html_head_js_mathjax", "html_head_js_mermaidjs")  # would fetch libraries
FOLDED = """{%- block input_group -%}{%- if cell.metadata.get('jupyter', {}).get('source_hidden') -%}
<details><summary>{{ 'Solution' if 'solution' in cell.metadata.get('tags', ()) else 'Code' }}</summary>{{ super() }}
</details>{%- else -%}{{ super() }}{%- endif -%}{%- endblock -%}"""
READABLE = """<style>/* nbconvert's own colours stay below a contrast of 4.5 to 1 */
.jp-InputPrompt, .jp-OutputPrompt { color: #595959 !important; opacity: 1 !important; }
.highlight .mf, .highlight .mi { color: #006600; } .highlight .ow, .highlight .o { color: #7a1fc0; }
.equation { display: block; overflow-x: auto; }
.highlight .c1 { color: #2f6666; } .jp-RenderedHTMLCommon a { text-decoration: underline !important; }
</style>
"""
TEMPLATE = "{%- extends 'index.html.j2' -%}" + "".join(f"{{%- block {b} -%}}{{%- endblock -%}}" for b in BLOCKS)


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        parts = re.split(r"(<(pre|code)\b.*?</\2>)", super().markdown2html(context, source), flags=re.DOTALL)
        # split gives text, code, the name of its tag, text, ...: equations stand in the text alone
        return "".join(MATH.sub(_mathml, part) if n % 3 == 0 else part for n, part in enumerate(parts) if n % 3 < 2)


def _mathml(match: re.Match[str]) -> str:
    block, environment, inline = match["block"], match["environment"], match["inline"]
    tex = html.unescape(next(part for part in (block, environment, inline) if part is not None))
    try:
        if inline is not None:
            return latex2mathml.converter.convert(tex, display="inline")
        equation = latex2mathml.converter.convert(tex, display="block")
        return f'<span class="equation" tabindex="0">{equation}</span>'  # scrolls by keyboard where it is too wide
    except Exception as error:  # it has no common class for what it cannot read
        raise ValueError(f"no equation, {type(error).__name__}: {tex[:200]!r}") from None


def make(executed: NotebookNode, stem: str, out: Path | None) -> tuple[Path | None, float]:
    """Write `stem.ipynb` and `stem.html` into `out` (None: nowhere); returns the page's path and its size in kB.

    Raises `ValueError` naming an equation that is none.
    """
    book = copy.deepcopy(executed)
    strip(book)
    if out is not None:
        write(out / f"{stem}.ipynb", nbformat.writes(book))
    page = render(book, stem)
    size = len(page.encode()) / 1e3
    if out is None:
        return None, size
    write(out / f"{stem}.html", with_plotly(page))
    return out / f"{stem}.html", size


def render(book: NotebookNode, title: str, banner: str = "") -> str:
    """The page of an executed and stripped notebook, without plotly's library; `banner` is HTML above the lesson.

    Raises `ValueError` naming an equation that is none.
    """
    book = copy.deepcopy(book)
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if PLOTLY_MIME in output.get("data", {}):
                output.data["text/html"] = plotly_html(output.data[PLOTLY_MIME])
    book.metadata["title"] = title
    template = DictLoader({"lesson.html.j2": TEMPLATE + FOLDED + ALT_BLOCK})
    exporter = _Exporter(extra_loaders=[template], template_file="lesson.html.j2", embed_images=True)
    page, _ = exporter.from_notebook_node(book)
    return page.replace("</head>", f"{READABLE}</head>", 1).replace("<main>", f"{banner}<main>", 1)


def markdown(source: str) -> str:
    """Markdown as HTML, its equations as MathML. Raises `ValueError` naming an equation that is none."""
    return _Exporter().markdown2html({}, source)


def plotly_html(figure: dict[str, Any]) -> str:
    """An output of plotly's MIME type as HTML that needs plotly's library on the page (see `with_plotly`)."""
    figure = {"data": figure["data"], "layout": figure.get("layout", {})}
    return plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, validate=False)


def with_plotly(page: str) -> str:
    """The page, with plotly's library in its head where it has a figure of plotly's."""
    if 'class="plotly-graph-div"' not in page:
        return page
    return page.replace("</head>", f"<script>{get_plotlyjs()}</script>\n</head>", 1)


def strip(book: NotebookNode) -> None:
    """Take out what means nothing without a kernel: widgets and their state, and all but the last of progress bars."""
    book.metadata.pop("widgets", None)
    book.metadata.pop("papermill", None)  # holds the whole lesson once more, as its input
    for cell in book.cells:
        kept: list[NotebookNode] = []
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
            elif data.pop(WIDGET_MIME, None) is None or data.keys() - {"text/plain"}:  # else nothing but its repr
                kept.append(output)
        for output in kept:
            if output.output_type == "stream":
                output.text = "\n".join(map(_shown, output.text.split("\n")))
        if cell.cell_type == "code":
            cell.outputs = [output for output in kept if output.output_type != "stream" or output.text.strip()]


def _shown(line: str) -> str:
    """What a terminal shows of a line in the end: after a carriage return the line is written over."""
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown.rstrip() if "\r" in line else line


def index(results: dict[str, dict[str, Any]], summary: str) -> str:
    """A page that links to the page of each notebook (by its stem), above the table of the run."""
    links = "\n".join(
        f'<li><a href="{html.escape(n)}.html">{html.escape(n)}</a>' for n in results if results[n]["page"]
    )
    head = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Lessons</title>'
    return f"{head}\n<h1>Lessons</h1>\n<ul>\n{links}\n</ul>\n<pre>{html.escape(summary)}</pre>\n"


def write(path: Path, text: str) -> None:
    """Write a text file in one step: whoever reads it sees the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

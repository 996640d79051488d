"""A picture with its words, as Jupyter takes it: PNG bytes and an alternative text, with or without a live widget."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from avlab.show.style import in_style

# nbconvert's lab template drops `alt`; this block, put after `{%- extends 'index.html.j2' -%}`, keeps it
ALT_BLOCK = """{% block data_png scoped %}<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
{%- set alt = output | get_metadata('alt', 'image/png') %}{% if alt %} alt="{{ alt | escape_html }}"{% endif %}>
</div>{% endblock %}"""


def png(figure: Figure, *, colours: int | None = None, quick: bool = False) -> bytes:
    """The figure as PNG bytes, 100 dots an inch: equal figures give equal bytes.

    `colours` (at most 256) keeps the best so many, without dithering: a quarter of the size, for pages with many.
    `quick` packs it loosely, for a picture that is soon replaced.
    """
    with in_style():
        canvas, dpi = figure.canvas, figure.dpi
        try:  # not by savefig: that draws a figure with a layout twice
            agg = FigureCanvasAgg(figure)
            figure.dpi = 100
            agg.draw()
        finally:
            figure.set_canvas(canvas)
            figure.dpi = dpi
    image = Image.fromarray(np.asarray(agg.buffer_rgba()))
    if colours is not None:
        return fewer_colours(image, colours)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1 if quick else 6)
    return buffer.getvalue()


def fewer_colours(image: Image.Image, colours: int) -> bytes:
    """An image as PNG bytes with the best so many colours, at most 256."""
    few = image.convert("RGB").quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words: its label where a `draw_` function set one, else its titles and axes.

    >>> figure = Figure()
    >>> _ = figure.subplots().set(title="a bell", xlabel="time (s)", ylabel="level (dB)")
    >>> alt_text(figure)
    'Figure: a bell, level (dB) against time (s)'
    """
    if figure.get_label():
        return str(figure.get_label())
    parts = []
    for axes in figure.axes:
        title = next((axes.get_title(loc) for loc in ("left", "center", "right") if axes.get_title(loc)), "")
        against = f"{axes.get_ylabel()} against {axes.get_xlabel()}" if axes.get_xlabel() and axes.get_ylabel() else ""
        parts.append(", ".join(part for part in (title, against) if part))
    return "Figure: " + ("; ".join(part for part in parts if part) or f"{len(figure.axes)} panels")


def image_bundle(image: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A PNG as Jupyter's (data, metadata), with its alternative text in both."""
    return {"image/png": base64.b64encode(image).decode(), "text/plain": alt}, {"image/png": {"alt": alt}}


def widget_bundle(widget: Any, image: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A live widget and its picture at rest in one bundle: a page without a kernel shows the picture."""
    data, metadata = image_bundle(image, alt)
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, **data}, metadata


def show(figure: Figure, alt: str | None = None) -> None:
    """Display a figure once, as a PNG with its alternative text (made from the figure where none is given)."""
    data, metadata = image_bundle(png(figure, colours=256), alt or alt_text(figure))
    display(data, metadata=metadata, raw=True)

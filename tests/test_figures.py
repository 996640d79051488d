"""Pictures: what they say is computed from the data, they draw twice the same, and they refuse what cannot be drawn."""

from __future__ import annotations

import base64
import io
import re

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from jinja2 import DictLoader
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from PIL import Image

from avlab.clip import Clip, Truth
from avlab.show import bundle, figures, style

N, H, W, B = 7, 22, 30, 5


def make_clip(label: str | None = "bell", *, rate: int = 16000, channels: int = 2, truth: bool = True) -> Clip:
    rng = np.random.default_rng(3)
    wave = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    masks = np.zeros((1, N, H, W), bool)
    masks[:, :, 4:11, 6:15] = True
    known = Truth(masks=masks, sounding=np.ones((1, N), bool)) if truth else None
    frames = rng.integers(0, 256, (N, H, W, 3), dtype=np.uint8)
    return Clip(frames, np.stack([wave] * channels), fps=N, sample_rate=rate, label=label, truth=known)


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(int)


def every_figure() -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    clip, heat = make_clip(), rng.random((N, 3, 4)).astype(np.float32)
    points = rng.normal(size=(B, 2))
    return {
        "clip": figures.draw_clip(clip, heat=heat),
        "sheet": figures.draw_sheet([clip, make_clip(None)], heats=[heat, None]),
        "heat": figures.draw_heat(clip.frames[0], heat[0], truth=clip.truth.sounding_mask()[0], title="found"),
        "heats": figures.draw_heats([clip.frames[0]] * 3, {"a": [heat[0]] * 3, "b": [heat[1]] * 3}, names=list("xyz")),
        "embedding": figures.draw_embedding(points, points + 0.01, [0, 1, -1, 0, 1], ["bell", "bird"]),
        "similarity": figures.draw_similarity(np.eye(B)),
        "curves": figures.draw_curves({"step": [0, 5, 9], "loss": [3.0, 2, 1]}, levels={"log B": 2.5}),
        "traces": figures.draw_traces(np.arange(B) / 5, points[:, 0], {"source": points[:, 0], "still": np.ones(B)}),
        "shares": figures.draw_shares({"kind": 0.5}, chance=0.25, score="accuracy", title="{} is read from the space"),
        "recall": figures.draw_recall({"InfoNCE": (0.5, 0.4, 0.6), "CCA": 0.1}, chance=0.01),
    }


def test_every_figure_draws_the_same_bytes_twice_and_says_what_it_shows() -> None:
    first, second = every_figure(), every_figure()
    for name, figure in first.items():
        assert bundle.png(figure) == bundle.png(second[name]), name
        assert len(bundle.alt_text(figure)) > 20, name
        assert not bundle.alt_text(figure).startswith("Figure:"), f"{name} has no words of its own"


def test_figures_leave_the_notebooks_settings_and_open_no_pyplot_figure() -> None:
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    every_figure()
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_style_is_independent_of_what_the_notebook_has_set() -> None:
    plain = bundle.png(figures.draw_similarity(np.eye(B)))
    with matplotlib.rc_context({"axes.facecolor": "red", "axes.titlepad": 40, "font.size": 22}):
        loud = figures.draw_similarity(np.eye(B))
    assert bundle.png(loud) == plain
    with matplotlib.rc_context({"font.size": 22}):
        assert figures.draw_similarity(np.eye(B)).axes[0].title.get_fontsize() == 11


def test_titles_are_findings_of_the_data() -> None:
    matrix = np.eye(B)
    matrix[1] = matrix[1][::-1]  # the second sound now finds another's picture
    title = figures.draw_similarity(matrix).axes[0].get_title("left")
    assert title == "4 of 5 sounds find their own picture first"
    recall = figures.draw_recall({"InfoNCE": 0.5, "CCA": 0.1}, chance=0.01)
    assert "InfoNCE finds 50% of the partners first: 50 times" in recall.axes[0].get_title("left").replace("\n", " ")
    points = np.arange(10.0).reshape(5, 2) * 10
    near = figures.draw_embedding(points, points + 0.1, [0] * 5, ["bell"])
    assert "100% of the sounds" in near.axes[0].get_title("left")
    far = figures.draw_embedding(points, points[::-1], [0] * 5, ["bell"])
    assert "20% of the sounds" in far.axes[0].get_title("left")


def test_axes_carry_units() -> None:
    rows = figures.draw_clip(make_clip()).axes
    assert rows[2].get_xlabel() == "time (s)"
    assert rows[2].get_xlim() == (0, 1)
    assert any("Hz" in text.get_text() for text in rows[2].get_yticklabels())
    assert "%" in figures.draw_recall({"a": 0.2}, chance=0.1).axes[0].get_xlabel()


def test_heat_colours_the_hot_cell_and_spares_the_cold_ones() -> None:
    grey = np.full((H, W, 3), 128, np.uint8)
    heat = np.zeros((2, 2), np.float32)
    heat[1, 0] = 1
    image = pixels(bundle.png(figures.draw_heat(grey, heat)))
    plain = pixels(bundle.png(figures.draw_heat(grey, np.zeros((2, 2)))))
    changed = np.abs(image - plain).sum(-1) > 30
    rows, columns = np.nonzero(changed)
    middle = image.shape[0] / 2, image.shape[1] * 0.4
    assert rows.mean() > middle[0]
    assert columns.mean() < middle[1]
    assert "hottest 25% from the left and 75% from the top" in bundle.alt_text(figures.draw_heat(grey, heat))


@pytest.mark.parametrize(("truth_row", "word"), [(slice(0, 11), "outside"), (slice(11, 22), "inside")])
def test_alt_text_says_whether_the_peak_lies_in_the_truth(truth_row: slice, word: str) -> None:
    truth = np.zeros((H, W), bool)
    truth[truth_row] = True
    heat = np.array([[0, 0], [1, 0]], np.float32)
    said = bundle.alt_text(figures.draw_heat(np.zeros((H, W, 3), np.uint8), heat, truth=truth))
    assert f"{word} the true outline" in said


def test_truth_at_the_edge_and_everywhere_is_drawn() -> None:
    frame = np.full((H, W, 3), (90, 20, 20), np.uint8)
    drawn = [bundle.png(figures.draw_heat(frame, np.zeros((3, 3)), truth=np.full((H, W), on))) for on in (True, False)]
    outlined, plain = map(pixels, drawn)
    rows, columns = np.nonzero(np.abs(outlined - plain).sum(-1))
    picture = np.nonzero((plain == (90, 20, 20)).all(-1))
    for found, whole in ((rows, picture[0]), (columns, picture[1])):
        assert found.min() <= whole.min() + 3  # all along the edge of the picture
        assert found.max() >= whole.max() - 3


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_spectrogram_shows_the_tone_at_its_frequency(rate: int) -> None:
    levels, ticks = figures.mel_picture(make_clip(rate=rate))
    assert levels.shape[0] == 64
    assert levels.shape[1] <= 1002
    place = (levels[:, levels.shape[1] // 2].argmax() + 0.5) / 64
    assert place == pytest.approx({name: p for p, name in ticks}["1 kHz"], abs=0.02)


def test_a_silent_clip_is_dark() -> None:
    clip = make_clip()
    clip.waveform[:] = 0
    assert figures.mel_picture(clip)[0].max() < 0.7
    assert "peak 0.00 of full scale" in bundle.alt_text(figures.draw_clip(clip))


def test_the_spectrogram_lasts_as_long_as_the_picture() -> None:
    clip, short = make_clip(), make_clip()
    short.waveform = clip.waveform[:, : clip.waveform.shape[1] // 2]
    levels = figures.mel_picture(short)[0]
    assert levels.shape == figures.mel_picture(clip)[0].shape
    silent = (levels.max(0) == 0).nonzero()[0]
    assert silent.min() == pytest.approx(levels.shape[1] / 2, abs=6)  # the window of the transform reaches this far
    clip.waveform = np.concatenate([clip.waveform, np.ones_like(clip.waveform)], axis=1)
    np.testing.assert_array_equal(figures.mel_picture(clip)[0], figures.mel_picture(make_clip())[0])


def test_titles_fit_in_lines_of_like_length_and_keep_a_number_with_its_unit() -> None:
    frame = np.zeros((H, W, 3), np.uint8)
    for title in ("short", "the best correlation of all is 0.74, and with the sound moved it is found at 0.125 s late"):
        figure = figures.draw_heat(frame, np.zeros((3, 3)), title=title)
        lines = figure.axes[0].get_title("left").split("\n")
        assert " ".join(lines).replace("\u00a0", " ") == title
        assert max(map(len, lines)) - min(map(len, lines)) < 12
        assert not any(line.startswith("s ") for line in lines)
        figure.canvas.draw()
        assert figure.axes[0]._left_title.get_window_extent().x1 <= figure.bbox.x1


def test_steps_of_traces_last_a_frame_and_reach_the_end() -> None:
    times = np.arange(B) / 8
    figure = figures.draw_traces(times, np.arange(B), {"up": np.arange(B), "down": -np.arange(B), "still": np.ones(B)})
    assert figure.axes[0].get_xlim() == (0, B / 8)
    titles = [axes.get_title("left") for axes in figure.axes[1:]]
    assert titles == ["up (r = +1.00)", "down (r = -1.00)", "still (r = +0.00)"]
    for axes in figure.axes[1:]:
        low, high = axes.get_ylim()
        for steps in axes.patches:
            values = steps.get_data().values
            assert low <= values.min() <= values.max() <= high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: figures.check_heat(np.zeros((3, 4, 4)), 5),
            r"heat must be \(5, h, w\), one map a frame, got \(3, 4, 4\)",
        ),
        (lambda: figures.check_heat(np.full((2, 2), 3.0)), r"heat must lie in \[0, 1\], got 3 to 3"),
        (lambda: figures.check_heat(np.full((2, 2), np.nan)), r"heat must lie in \[0, 1\]"),
        (lambda: figures.draw_clip(make_clip(), heat=np.zeros((N + 1, 2, 2))), r"heat must be \(7, h, w\)"),
        (lambda: figures.draw_heats([np.zeros((H, W, 3), np.uint8)], {"cca": []}), r"maps\['cca'\] holds 0 maps for 1"),
        (lambda: figures.check_heat(np.zeros((0, 4))), r"heat must be \(h, w\), got \(0, 4\)"),
        (lambda: figures.draw_heats([], {}), "no frames to draw maps over"),
        (lambda: figures.draw_recall({"a": 0.5}, chance=0), "chance is a share above 0"),
        (lambda: figures.draw_traces(np.arange(5), np.ones(7), {}), r"'sound' holds \(7,\) values at \(5,\) times"),
        (lambda: figures.draw_similarity(np.zeros((3, 5))), r"is \(B, B\), got \(3, 5\)"),
        (lambda: figures.draw_embedding(np.zeros((5, 3)), np.zeros((5, 3)), [0] * 5, ["a"]), r"must both be \(B, 2\)"),
        (lambda: figures.draw_curves({"loss": []}), "nothing to draw"),
        (lambda: figures.draw_recall({}, chance=0.1), "no recall@1 to draw"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_tensors_are_taken_and_one_map_serves_all_frames() -> None:
    heat = torch.full((2, 3), 0.5, requires_grad=True)
    assert figures.check_heat(heat, N).shape == (N, 2, 3)


def test_kinds_differ_in_colour_or_marker() -> None:
    styles = [tuple(style.kind_style(k).values()) for k in range(99)]
    assert len(set(styles)) == 99
    assert not {style.SOUND, style.SIGHT} & {look[0] for look in styles}


def test_show_displays_one_png_with_alternative_text(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(bundle, "display", lambda data, **options: shown.append((data, options)))
    figures.show(figures.draw_similarity(np.eye(B)))
    ((data, options),) = shown
    assert pixels(base64.b64decode(data["image/png"])).shape[2] == 3
    assert options["raw"]
    assert "5 of 5 sounds" in options["metadata"]["image/png"]["alt"]


def test_windows_of_one_file_are_told_apart_by_their_start() -> None:
    windows = [make_clip(None), make_clip(None)]
    for second, window in enumerate(windows):
        window.source, window.start = "a_very_long_name_of_a_file.mp4", 2.0 * second
    said = bundle.alt_text(figures.draw_sheet(windows))
    assert said.endswith("a_very_long_nam…, a_very_long_nam… at 2 s")


def test_fewer_colours_look_the_same() -> None:
    figure = figures.draw_clip(make_clip())
    full, small = bundle.png(figure), bundle.png(figure, colours=256)
    assert len(small) < len(full) / 2
    assert np.abs(pixels(full) - pixels(small)).mean() < 12


def test_pages_of_executed_notebooks_carry_the_alternative_text() -> None:
    data, metadata = bundle.image_bundle(bundle.png(figures.draw_similarity(np.eye(B))), 'dots "on" a <line>')
    output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    loader = DictLoader({"page": "{%- extends 'index.html.j2' -%}" + bundle.ALT_BLOCK})
    page, _ = HTMLExporter(extra_loaders=[loader], template_file="page").from_notebook_node(book)
    assert re.search(r"""alt=["']dots ("|&quot;|&#34;)on("|&quot;|&#34;) a (<|&lt;)line(>|&gt;)["']""", page)
    assert data["image/png"] in page

"""The gallery: its numbers are those of the sounds, each row plays its clips in turn, one page holds all kinds."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from avlab.show import figures, gallery
from avlab.show.gallery import PAIRS, Gallery, Row
from avlab.world import KINDS, World

STEADY = ("bar", "drum", "plate", "bell", "string", "fiddle", "bottle", "flute", "engine")


@pytest.fixture(scope="module")
def whole() -> Gallery:
    return gallery.gallery()


def rows_of(whole: Gallery, fact: str) -> list[Row]:
    return [row for row in whole.rows if fact in row.facts]


def test_every_kind_is_there_at_three_sizes_and_the_larger_is_the_lower(whole):
    rows = rows_of(whole, "law")
    assert [row.title for row in rows] == list(KINDS)
    for row in rows:
        assert [clip.truth.factors[0]["size"] * 64 for clip in row.clips] == [10, 14, 18]
        areas = [clip.truth.masks.any(axis=0).sum() for clip in row.clips]
        assert areas == sorted(areas), row.title
        heard = [gallery.measured(clip)[1] for clip in row.clips]
        assert heard == sorted(heard, reverse=True), row.title
        assert len(set(heard)) == 3


@pytest.mark.parametrize("kind", STEADY)
def test_what_is_heard_is_what_the_law_says(kind):
    (row,) = gallery.things([kind], size=16)
    for clip in row.clips:
        law, heard = gallery.measured(clip)
        assert heard == pytest.approx(law, rel=0.03), (kind, row.facts)


def test_pitch_is_measured_on_the_sound_alone():
    clip = World(level="L0", kinds=["bar"], size=16).clip(0)
    t = np.arange(clip.waveform.shape[1]) / clip.sample_rate
    law = clip.truth.factors[0]["f0"]
    clip.waveform = np.float32(0.1 * np.sin(2 * np.pi * 1.1 * law * t) + 0.5 * np.sin(2 * np.pi * 3 * law * t))[None]
    assert gallery.measured(clip) == (law, pytest.approx(1.1 * law, abs=1))
    clip.waveform[:] = 0
    assert np.isnan(gallery.measured(clip)[1])


def test_a_pair_differs_in_one_factor_and_says_truly_what_is_heard(whole):
    rows = rows_of(whole, "changed")
    assert len(rows) == len(PAIRS)
    for row, pair in zip(rows, PAIRS, strict=True):
        a, b = (clip.truth.factors[0] for clip in row.clips)
        assert {name for name in a if a[name] != b[name]} - {"f0"} == {pair.factor}
        same = np.array_equal(row.clips[0].waveform, row.clips[1].waveform)
        assert same == (pair.factor in ("colour", "coat")), pair
        assert ("the same sound" in row.facts["heard"]) == same
        assert ("becomes" in row.facts["heard"]) == (pair.factor in ("size", "fill")), pair
        assert (row.clips[0].frames != row.clips[1].frames).any(), "a pair that looks the same teaches nothing"


def test_things_of_a_row_take_turns(whole):
    row = whole.rows[0]
    clip = row.in_turn()
    n, side = len(row.clips[0].frames), row.clips[0].frames.shape[1]
    step = (clip.frames.shape[2] - side) // 2
    for k, one in enumerate(row.clips):
        turn = clip.frames[k * n : (k + 1) * n]
        np.testing.assert_array_equal(turn[:, :, k * step : k * step + side], one.frames)
        others = [turn[:, :, j * step : j * step + side] for j in range(3) if j != k]
        for other in others:
            assert (other == other[:1]).all(), "who waits stands still"
            assert other.min() >= 255 * (1 - gallery.PALE) - 1
    np.testing.assert_array_equal(clip.waveform[0], np.concatenate([one.mono() for one in row.clips]))


def test_the_page_holds_all_rows_within_9_megabytes(whole, tmp_path):
    path = whole.to_html(tmp_path / "world.html")
    assert path.stat().st_size <= 9e6
    page = path.read_text()
    states = json.loads(re.search(r'id="state">(.*?)</script>', page, re.S).group(1))
    assert len(states) == page.count('class="widget"') == len(KINDS) + len(PAIRS)
    assert all(len(state["clips"]) == 1 for state in states)
    assert states[-1]["clips"][0]["title"].startswith(whole.rows[-1].title)
    assert page.count("<h2>") == 2
    assert all(f"<h3>{kind}</h3>" in page for kind in KINDS)
    assert not re.search(r"(src|href)=[\"']?https?:|import .* from", page)


def test_the_text_follows_the_player():
    shown = gallery.gallery(["bar"], size=16)
    assert "length^2" in shown.said.value
    shown.player.index = 1
    assert "square of the ratio" in shown.said.value


def test_at_rest_it_is_a_picture_with_the_laws_in_words():
    shown = gallery.gallery(["bell", "bottle"], size=16)
    data, metadata = shown._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == shown.model_id
    said = metadata["image/png"]["alt"]
    assert KINDS["bell"].law in said
    assert "fill 0.1, fill 0.8): More liquid leaves less air" in said


def test_the_same_seed_gives_the_same_gallery_and_another_another():
    one, two, other = (gallery.things(["drops"], size=16, seed=seed)[0].in_turn() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.waveform, two.waveform)
    assert (one.waveform != other.waveform).any()


def test_contact_sheet_has_a_picture_and_spectrograms_of_each_kind():
    figure = gallery.contact_sheet(["bar", "bird", "car"], size=16)
    pictures = [axes for axes in figure.axes if axes.get_visible() and axes.images]
    assert [len(axes.images) for axes in pictures] == [1, 3] * 3
    assert "3 kinds" in figure.get_suptitle()
    assert "A bar" in gallery.contact_sheet(["bar"], size=16).get_suptitle()


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        Gallery([])
    with pytest.raises(ValueError, match="the gallery is empty"):
        figures.draw_gallery([])
    with pytest.raises(ValueError, match=r"kinds=\['bra'\] are not among"):
        gallery.things(["bra"])


def test_rows_show_their_clips_where_they_are_loudest():
    clip = World(level="L0", kinds=["bird"], size=32).clip(0)
    level = [np.abs(part).max() for part in np.array_split(clip.mono(), len(clip.frames))]
    assert level[figures.loudest(clip)] > 0.8 * max(level)
    assert Image.fromarray(gallery.paled(clip.frames[0])).size == (32, 32)

"""The player: what is sent decodes back to the clip, it is small, and it rests as a picture with words."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
import zlib

import ipywidgets
import numpy as np
import pytest
import traitlets
from PIL import Image

from avlab.clip import Clip, Truth
from avlab.show.player import Player, pitch, sprite, wav_bytes
from avlab.show.style import HEAT

WIDGET = "application/vnd.jupyter.widget-view+json"


def make_clip(n: int = 7, h: int = 22, w: int = 30, *, label: str = "bell", seed: int = 0, channels: int = 2) -> Clip:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(coarse, (n, h, w, 3)).copy()
    waveform = rng.uniform(-1, 1, (channels, 5001)).astype(np.float32)
    masks = rng.random((2, n, h, w)) > 0.7
    truth = Truth(masks=masks, sounding=np.array([[True] * n, [False] * n]))
    return Clip(frames, waveform, fps=n / 0.5, sample_rate=10002, label=label, source=f"clip {seed}", truth=truth)


def world_sized() -> Clip:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (16, 64, 64, 3)) + np.linspace(0, 200, 64)[None, None, :, None]
    waveform = rng.normal(0, 0.2, (2, 32000)).clip(-1, 1).astype(np.float32)
    return Clip(noise.astype(np.uint8), waveform, fps=8, sample_rate=16000, label="bar")


def test_wav_decodes_to_the_same_sound_at_the_same_level() -> None:
    clip = make_clip()
    with wave.open(io.BytesIO(wav_bytes(clip.waveform, clip.sample_rate))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 10002, 2)
        back = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T / 32767
    np.testing.assert_allclose(back, clip.waveform, atol=1 / 32767)


def test_wav_never_wraps_beyond_full_scale() -> None:
    loud = wav_bytes(np.array([[2.0, -2.0, np.nan]], np.float32), 8000)
    assert np.frombuffer(loud[44:], "<i2").tolist() == [32767, -32767, 0]


@pytest.mark.parametrize(("n", "h", "w"), [(1, 22, 30), (7, 22, 30), (11, 40, 13)])
def test_sprite_holds_every_frame_at_its_place(n: int, h: int, w: int) -> None:
    clip = make_clip(n, h, w)
    clip.frames[1::2] = 255 - clip.frames[:-1:2]  # neighbours as different as can be
    data, columns = sprite(clip.frames)
    sheet = np.asarray(Image.open(io.BytesIO(data)))
    for i, frame in enumerate(clip.frames):
        y, x = i // columns * pitch(h), i % columns * pitch(w)
        tile = sheet[y : y + h, x : x + w].astype(int)
        assert np.abs(tile - frame).max() <= 3, i  # to the very edge: no block reaches into the next tile


def test_heat_and_truth_are_sent_as_they_are() -> None:
    clip = make_clip()
    heat = np.random.default_rng(1).random((7, 3, 5))
    player = Player(clip, heat={"ours": heat, "still": heat[0]})
    ours, still = player.clips[0]["layers"]
    assert (ours["name"], ours["shape"], player.layer) == ("ours", [3, 5], "ours")
    back = np.frombuffer(ours["data"], np.uint8).reshape(7, 3, 5) / 255
    np.testing.assert_allclose(back, heat, atol=0.5 / 255 + 1e-6)
    assert len(still["data"]) == 7 * 15  # one map serves every frame
    packed = np.frombuffer(zlib.decompress(player.clips[0]["truth"]), np.uint8)
    bits = np.unpackbits(packed, count=7 * 22 * 30).reshape(7, 22, 30)
    np.testing.assert_array_equal(bits.astype(bool), clip.truth.masks[0])  # only what sounds


def test_a_world_clip_is_small_in_a_notebook() -> None:
    player = Player(world_sized(), heat=np.zeros((16, 8, 8)))
    data, _ = player._repr_mimebundle_()
    state = ipywidgets.Widget.get_manager_state(widgets=[player])
    assert len(json.dumps(state)) + len(json.dumps(data)) <= 400_000


def test_bytes_travel_as_buffers_and_not_as_text() -> None:
    from ipywidgets.widgets.widget import _remove_buffers

    _, paths, buffers = _remove_buffers(Player(make_clip()).get_state())
    assert ["clips", 0, "wav"] in paths
    assert ["clips", 0, "sprite"] in paths
    assert len(paths) == len(buffers)


def test_a_quiz_does_not_give_the_true_outline_away_at_rest() -> None:
    plain = make_clip()
    plain.truth = None
    for clips, unknowing in ((make_clip(), plain), ([make_clip()] * 2, [plain] * 2)):
        player = Player(clips)
        outlined, _ = player.picture()
        player.truth = False
        assert player.picture() == Player(unknowing).picture()
        assert player.picture()[0] != outlined
    assert "outlined" in Player(make_clip()).picture()[1]


def test_heats_may_be_one_array() -> None:
    player = Player([make_clip()] * 2, heats=np.zeros((2, 7, 3, 5)))
    assert [clip["layers"][0]["shape"] for clip in player.clips] == [[3, 5], [3, 5]]


def test_the_bundle_holds_widget_picture_and_words() -> None:
    player = Player([make_clip(), make_clip(label="bird", seed=1)])
    data, metadata = player._repr_mimebundle_()
    assert data[WIDGET]["model_id"] == player.model_id
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 500
    assert "bell, bird" in metadata["image/png"]["alt"]
    assert data["text/plain"] == metadata["image/png"]["alt"]


def test_an_executed_notebook_shows_the_picture_once_its_widgets_are_stripped() -> None:
    import nbformat
    from nbconvert import HTMLExporter

    data, metadata = Player(make_clip())._repr_mimebundle_()
    picture = data["image/png"]
    del data[WIDGET]
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data=data, metadata=metadata)])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert picture in page


def test_page_is_self_contained_and_its_texts_are_harmless(tmp_path) -> None:
    clip = make_clip(label="</script><script>alert(1)</script>")
    path = Player(clip).to_html(tmp_path / "p.html", title="<b>bold</b>")
    page = path.read_text()
    assert page.count("</script>") == 2  # the state's and the program's
    assert "<b>bold" not in page
    assert not re.search(r"(src|href)=[\"']?https?:|import .* from", page)
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.S).group(1))
    assert base64.b64decode(state["clips"][0]["wav"]["base64"]) == wav_bytes(clip.waveform, clip.sample_rate)
    assert state["playing"] is False


def test_the_same_clip_gives_the_same_player() -> None:
    one, two = Player(make_clip()), Player(make_clip())
    assert one.clips == two.clips
    assert one.picture() == two.picture()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Player([]), "at least one clip"),
        (lambda: Player([make_clip()] * 2, heat=np.zeros((2, 2))), "heat is for a single clip"),
        (lambda: Player([make_clip()] * 2, heats=[None]), "heats holds 1 entries for 2 clips"),
        (
            lambda: Player([make_clip()] * 2, heats=[None, np.zeros((3, 2, 2))]),
            r"heat of clip 1 'prediction' must be \(7",
        ),
        (
            lambda: Player(make_clip(), heat={"cca": np.full((7, 2, 2), 7.0)}),
            r"heat of clip 0 'cca' must lie in \[0, 1\]",
        ),
    ],
)
def test_what_cannot_be_played_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_too_much_for_a_browser_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("avlab.show.player.CAP", 10_000)
    with pytest.raises(ValueError, match="show fewer, shorter or smaller clips"):
        Player(make_clip())


def test_index_must_be_a_clip() -> None:
    player = Player([make_clip(), make_clip(seed=1)])
    player.index = 1
    with pytest.raises(traitlets.TraitError, match="index 2 of a player with 2 clips"):
        player.index = 2


def test_heat_colours_of_page_and_figure_are_the_same() -> None:
    lut = np.frombuffer(Player(make_clip()).lut, np.uint8).reshape(256, 3)
    np.testing.assert_allclose(lut / 255, HEAT(np.arange(256))[:, :3], atol=0.5 / 255)

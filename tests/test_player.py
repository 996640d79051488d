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
from avlab.world import World

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


def in_a_notebook(player: Player) -> int:
    """Bytes of the widget's state and of its picture at rest, as a saved notebook holds them."""
    data, metadata = player._repr_mimebundle_()
    return len(json.dumps([ipywidgets.Widget.get_manager_state(widgets=[player]), data, metadata]))


def test_a_world_clip_is_small_in_a_notebook() -> None:
    assert in_a_notebook(Player(world_sized(), heat=np.zeros((16, 8, 8)))) <= 400_000
    for level in ("L2", "L3"):  # stems are left out where they do not fit
        world = World(level)
        assert max(in_a_notebook(Player(world.clip(i))) for i in range(3)) <= 400_000


def test_a_long_clip_takes_two_megabytes_at_most() -> None:
    clip = World("L3", seconds=10, size=112, fps=12).clip(1)
    assert clip.frames.shape == (120, 112, 112, 3)
    player = Player(clip, heat=np.zeros((120, 14, 14)))
    assert [stem["name"] for stem in player.clips[0]["stems"]] == ["bottle", "pour", "rest"]
    assert in_a_notebook(player) <= 2_000_000


def decoded(stem: dict) -> np.ndarray:
    """A stem as int32 (C, L), byte by byte: differences modulo 2^16, low bytes before high ones."""
    low, high = np.frombuffer(zlib.decompress(stem["data"]), np.uint8).reshape(2, stem["channels"], -1).astype(int)
    return (np.cumsum(low + 256 * high, axis=1) + 2**15) % 2**16 - 2**15


def test_stems_add_up_to_the_mix_without_loss() -> None:
    clip = World("L3").clip(2)
    player = Player(clip, stems=True)
    stems = player.clips[0]["stems"]
    assert player.clips[0]["wav"] is None  # nothing is sent twice
    assert [stem["name"] for stem in stems] == ["fiddle", "flute", "rest"]
    np.testing.assert_array_equal(sum(map(decoded, stems)), clip.waveform * 32768)
    np.testing.assert_array_equal(decoded(stems[0]), clip.truth.stems[0] * 32768)
    assert Player(clip, stems=False).clips[0]["stems"] == []


def test_stems_without_a_rest_have_none_and_silent_ones_are_left_out() -> None:
    clip = make_clip(channels=1)
    loud = np.random.default_rng(3).integers(-9000, 9000, (3, 1, 5001)) / 32768
    clip.truth.stems = np.stack([loud[0], np.zeros((1, 5001)), loud[2]]).astype(np.float32)
    clip.truth.masks, clip.truth.sounding = None, None
    clip.waveform = clip.truth.stems.sum(0)
    stems = Player(clip, stems=True).clips[0]["stems"]
    assert [stem["name"] for stem in stems] == ["source 1", "source 3"]
    assert decoded(stems[1]).min() < -8000  # a fall by more than half the scale wraps, and wraps back


def test_attention_is_sent_moment_by_moment_and_shown_at_rest() -> None:
    weights = np.random.default_rng(2).random((5, 7, 2, 3)) / 6
    clip = make_clip()
    player = Player(clip, attention={"head 1": weights, "head 2": weights[:, 0]})
    one, two = player.clips[0]["layers"]
    assert (one["moments"], one["shape"], two["moments"], player.layer) == (5, [2, 3], 5, "head 1")
    back = np.frombuffer(one["data"], np.uint8).reshape(weights.shape)
    np.testing.assert_allclose(back / 255, weights / weights.max(), atol=0.5 / 255 + 1e-6)
    own = [weights[min(4, int((n + 0.5) * 5 / 7)), n] / weights.max() for n in range(7)]
    assert player.picture() == Player(clip, heat=np.stack(own)).picture()


def test_rows_of_heads_and_of_sources() -> None:
    player = Player(make_clip(), rows={"head": [0, 0.5, 1]})
    names = [(row["name"], row["known"], len(row["data"])) for row in player.clips[0]["rows"]]
    assert names == [("source 1", True, 7), ("source 2", True, 7), ("head", False, 3)]
    assert list(player.clips[0]["rows"][2]["data"]) == [0, 128, 255]
    assert "a row each for source 1, source 2, head" in player.picture()[1]
    player.truth = False
    assert "a row each for head" in player.picture()[1]


def test_flow_is_a_coarse_grid_with_its_largest_step() -> None:
    clip = make_clip(n=3, h=24, w=48)
    flow = np.zeros((3, 24, 48, 2))
    flow[1, :4, :8] = (3, -4)  # two cells of 12 x 6
    sent = Player(clip, flow=flow).clips[0]["flow"]
    assert (sent["shape"], sent["known"]) == ([6, 12], False)
    assert sent["most"] == pytest.approx(5)
    grid = np.frombuffer(sent["data"], np.int8).reshape(3, 6, 12, 2) / 127 * sent["most"]
    np.testing.assert_allclose(grid[1, 0, :2], [(3, -4), (3, -4)], atol=0.03)
    assert not grid[[0, 2]].any()
    assert not grid[1, 1:].any()
    clip.truth.flow = flow.astype(np.float32)
    assert Player(clip).clips[0]["flow"] == sent | {"known": True}
    assert Player(make_clip()).clips[0]["flow"] is None


def test_what_can_be_set_from_python_is_checked() -> None:
    player = Player(make_clip())
    player.selection = [0.1, 0.4]
    player.speed = 0.25
    for wrong in ([0.4, 0.1], [0.1, 0.7], [0.1]):
        with pytest.raises(traitlets.TraitError, match=r"within 0\.5 s"):
            player.selection = wrong
    with pytest.raises(traitlets.TraitError, match="speed 2 is not one of"):
        player.speed = 2
    assert (player.selection, player.speed) == ([0.1, 0.4], 0.25)


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
        (
            lambda: Player(make_clip(), attention=np.zeros((4, 6, 2, 2))),
            r"attention of clip 0 'attention' must be \(T, h, w\) or \(T, 7",
        ),
        (lambda: Player(make_clip(), attention={"a": np.full((4, 2, 2), -1.0)}), "'a' must be finite and at least 0"),
        (
            lambda: Player(make_clip(), heat={"a": np.eye(2)}, attention={"a": np.ones((4, 2, 2))}),
            "need names of their own",
        ),
        (lambda: Player(make_clip(), heat={"none": np.eye(2)}), "other than 'none'"),
        (lambda: Player(make_clip(), rows={"head": [0, 2]}), r"row 'head' of clip 0 must be \(T,\) in \[0, 1\]"),
        (lambda: Player([make_clip()] * 2, rows={"head": [0, 1]}), "rows needs a list with one entry a clip"),
        (lambda: Player(make_clip(), flow=np.zeros((6, 22, 30, 2))), "flow of clip 0 must be finite and"),
        (lambda: Player(make_clip(), stems=True), "no two sources"),
        (lambda: Player(make_clip(), compare=True), "two clips of one length"),
        (lambda: Player([make_clip(), make_clip(8)], compare=True), "7 frames at 14 fps and 8 frames at 16 fps"),
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

"""Clip, Truth, Batch and collate: shapes, windows, errors that name the field."""

import re

import numpy as np
import pytest
import torch

from avlab.clip import Batch, Clip, Truth, collate


def clip(N: int = 7, H: int = 5, W: int = 3, C: int = 2, L: int = 1103, seed: int = 0, **more) -> Clip:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (N, H, W, 3), np.uint8)
    return Clip(frames, rng.uniform(-1, 1, (C, L)).astype(np.float32), **({"fps": 7.0, "sample_rate": 1100} | more))


def test_seconds_times_and_mono():
    c = clip()
    assert c.seconds == pytest.approx(1.0)
    np.testing.assert_allclose(c.times, [n / 7 for n in range(7)])
    np.testing.assert_allclose(c.mono(), [(a + b) / 2 for a, b in c.waveform.T], rtol=1e-6)
    assert c.mono().dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((7, 5, 3), np.uint8)}, "frames must be uint8"),
        ({"frames": np.zeros((7, 5, 3, 4), np.uint8)}, "frames must be uint8"),
        ({"frames": np.zeros((7, 5, 3, 3), np.float32)}, "frames must be uint8"),
        ({"waveform": np.zeros(11, np.float32)}, "waveform must be float32"),
        ({"waveform": np.zeros((1, 11))}, "waveform must be float32"),
        ({"fps": 0.0}, "fps and sample_rate must be above 0"),
        ({"fps": float("nan")}, "fps and sample_rate must be above 0"),
        ({"sample_rate": -1}, "fps and sample_rate must be above 0"),
        ({"frames": np.zeros((0, 5, 3, 3), np.uint8)}, "empty clip"),
        ({"waveform": np.zeros((1, 0), np.float32)}, "empty clip"),
    ],
)
def test_a_wrong_field_is_named(change, message):
    good = {"frames": np.zeros((7, 5, 3, 3), np.uint8), "waveform": np.zeros((1, 11), np.float32)}
    with pytest.raises(ValueError, match=message):
        Clip(**(good | {"fps": 7.0, "sample_rate": 11} | change))


def test_window_cuts_picture_and_sound_at_the_same_moment():
    c = clip(N=21, L=3300, label="drum", source="a.mp4", start=5.0, truth=Truth())  # 3 s
    part = c.window(1.0, 1.0)
    np.testing.assert_array_equal(part.frames, c.frames[7:14])
    np.testing.assert_array_equal(part.waveform, c.waveform[:, 1100:2200])
    assert (part.start, part.label, part.source, part.truth) == (6.0, "drum", "a.mp4", None)
    np.testing.assert_array_equal(part.window(2 / 7, 3 / 7).frames, c.window(9 / 7, 3 / 7).frames)
    whole = c.window(0.0, 3.0)
    np.testing.assert_array_equal(whole.waveform, c.waveform)


def test_window_pads_a_sound_that_ends_early_with_silence():
    part = clip(N=14, L=2190).window(1.0, 1.0)
    assert part.waveform.shape == (2, 1100)
    assert (part.waveform[:, 1090:] == 0).all()
    assert (part.waveform[:, 1080:1090] != 0).any()


@pytest.mark.parametrize(("start", "seconds"), [(-0.5, 1.0), (0.5, 1.0), (0.0, 0.0), (2.0, 1.0)])
def test_a_window_outside_is_an_error(start, seconds):
    with pytest.raises(ValueError, match=re.escape(f"window [{start:g}, {start + seconds:g}) s lies outside")):
        clip().window(start, seconds)


def test_collate_stacks_scales_and_labels():
    clips = [clip(seed=s, label=label) for s, label in enumerate(["drum", None, "bar", "drum", "flute"])]
    batch = collate(clips)
    assert batch.kinds == ("bar", "drum", "flute")
    assert batch.label.tolist() == [1, -1, 0, 1, 2]
    assert (batch.audio.shape, batch.video.shape) == ((5, 2, 1103), (5, 7, 3, 5, 3))
    assert (batch.fps, batch.sample_rate, batch.index.tolist()) == (7.0, 1100, [0, 1, 2, 3, 4])
    for b, n, c, y, x in [(0, 0, 0, 0, 0), (4, 6, 2, 4, 2), (2, 3, 1, 1, 2)]:
        assert batch.video[b, n, c, y, x].item() == pytest.approx(clips[b].frames[n, y, x, c] / 255)
        assert batch.audio[b, c % 2, 17 * n].item() == clips[b].waveform[c % 2, 17 * n]
    chosen = collate(clips, kinds=("flute", "drum"), index=[9, 8, 7, 6, 5])
    assert (chosen.label.tolist(), chosen.index.tolist()) == ([1, -1, -1, 1, 0], [9, 8, 7, 6, 5])


def test_collate_keeps_order_under_permutation():
    clips = [clip(seed=s, label=str(s)) for s in range(5)]
    order = [3, 0, 4, 1, 2]
    straight, turned = collate(clips), collate([clips[i] for i in order])
    torch.testing.assert_close(turned.video, straight.video[order])
    torch.testing.assert_close(turned.label, straight.label[order])


def test_collate_names_what_differs():
    with pytest.raises(ValueError, match="no clips"):
        collate([])
    with pytest.raises(ValueError, match=r"clip 2 \(odd.mp4\).*read them with one size"):
        collate([clip(), clip(), clip(W=11, source="odd.mp4")])
    with pytest.raises(ValueError, match=r"clip 1 \(no source\)"):
        collate([clip(), clip(L=1104)])
    with pytest.raises(ValueError, match=r"clip 1 runs at 8\.0 fps"):
        collate([clip(), clip(fps=8.0)])


def test_a_batch_moves_and_keeps_its_truth():
    batch = collate([clip(truth=Truth(lag=0.5))])
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert {moved.audio.device.type, moved.video.device.type, moved.index.device.type, moved.label.device.type} == {
        "meta"
    }
    assert (len(moved), moved.truth[0].lag, moved.fps) == (1, 0.5, 7.0)


def test_sounding_mask_is_the_union_of_what_sounds():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 7, 5, 4)) < 0.3
    sounding = np.zeros((3, 7), bool)
    sounding[0, 2] = sounding[2, 5] = True
    expected = [[[masks[0, n, y, x] or masks[2, n, y, x] for x in range(4)] for y in range(5)] for n in range(7)]
    np.testing.assert_array_equal(Truth(masks=masks, sounding=sounding).sounding_mask(), expected)
    assert not Truth(masks=masks, sounding=np.zeros((3, 7), bool)).sounding_mask().any()
    with pytest.raises(ValueError, match="holds no masks"):
        Truth(masks=masks).sounding_mask()

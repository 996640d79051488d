"""Pairs: the features of each clip, batches as a function of the step, rendering in processes."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from avlab.audio import log_mel
from avlab.clip import Clip, collate
from avlab.datasets.pairs import CHUNK, GRID, Pairs, level_and_motion, pairs_of, render
from avlab.video import motion, motion_residual, pool_grid
from avlab.world import World

WORLD = World(level="L1", size=33, seconds=1.0, fps=7, seed=2)
FEATURES = ("spectrogram", "residual", "loudness", "motion", "label")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [WORLD.clip(i) for i in range(CHUNK + 3)]


@pytest.fixture(scope="module")
def pairs(clips) -> Pairs:
    return pairs_of(clips, WORLD.kinds)


def same(a: Pairs, b: Pairs) -> bool:
    return a.kinds == b.kinds and all(torch.equal(getattr(a, name), getattr(b, name)) for name in FEATURES)


def test_features_are_those_of_the_modules_they_come_from(clips, pairs):
    assert {f.name for f in fields(pairs)} == {*FEATURES, "kinds"}
    batch = collate(clips)
    mel = log_mel(batch.audio.mean(dim=1), sample_rate=16000, hop=320)
    torch.testing.assert_close(pairs.spectrogram.float() * 40 - 40, mel, atol=0.05, rtol=0)
    assert pairs.spectrogram.dtype == torch.float16
    assert pairs.spectrogram.min() >= -1
    exact = motion_residual(batch.video)
    torch.testing.assert_close(pairs.residual.float() / 64, exact.clamp(-2, 127 / 64), atol=0.5 / 64 + 1e-6, rtol=0)
    torch.testing.assert_close(pairs.motion, pool_grid(motion(batch.video), GRID))
    assert (pairs.residual.shape, pairs.motion.shape) == ((len(clips), 10, 33, 33), (len(clips), 7, GRID, GRID))


def test_loudness_is_the_rms_of_each_frame_in_db(clips, pairs):
    for row in (0, CHUNK, CHUNK + 2):
        mono = clips[row].mono().astype(float)
        edges = np.ceil(np.arange(8) * 16000 / 7 - 1e-6).astype(int)
        rms = [np.sqrt((mono[edges[n] : edges[n + 1]] ** 2).mean()) for n in range(7)]
        np.testing.assert_allclose(pairs.loudness[row], 20 * np.log10(np.maximum(rms, 1e-4)), atol=1e-3)
    silent = replace(clips[0], waveform=np.zeros_like(clips[0].waveform))
    assert pairs_of([silent]).loudness.tolist() == [pytest.approx([-80.0] * 7)]


def test_rows_do_not_depend_on_their_neighbours(clips, pairs):
    for row in (0, CHUNK - 1, CHUNK + 1):
        alone = pairs_of([clips[row]], WORLD.kinds)
        for name in FEATURES:
            torch.testing.assert_close(getattr(alone, name)[0], getattr(pairs, name)[row])
        level, moves = level_and_motion(clips[row])
        torch.testing.assert_close(level[0], pairs.loudness[row])
        torch.testing.assert_close(moves[0], pairs.motion[row])


def test_labels_are_places_in_kinds(clips, pairs):
    assert [pairs.kinds[i] for i in pairs.label] == [c.label for c in clips]
    found = pairs_of(clips)
    assert found.kinds == tuple(sorted({c.label for c in clips}))
    assert [found.kinds[i] for i in found.label] == [c.label for c in clips]
    assert pairs_of([replace(clips[0], label=None)]).label.tolist() == [-1]
    assert pairs_of(clips[:5], ("drum",)).label.tolist() == [0 if c.label == "drum" else -1 for c in clips[:5]]


def test_a_stream_is_read_once_and_counted(clips, pairs):
    assert same(pairs_of(iter(clips), WORLD.kinds, count=len(clips)), pairs)
    for count in (len(clips) - 1, len(clips) - 3, 1):
        with pytest.raises(ValueError, match=f"more clips than the {count} announced"):
            pairs_of(iter(clips), count=count)
    with pytest.raises(ValueError, match=f"{len(clips)} clips came, 23 were announced"):
        pairs_of(iter(clips), count=23)
    with pytest.raises(ValueError, match="no clips"):
        pairs_of([])


def test_a_clip_that_differs_is_an_error_in_any_place(clips):
    other = World(level="L1", size=24, seconds=1.0, fps=7).clip(0)
    slower = replace(clips[0], fps=8.0)
    for odd in (other, slower):
        for place in (1, CHUNK, CHUNK + 1):
            with pytest.raises(ValueError, match="clip 0"):
                pairs_of([*clips[:place], odd])


def test_views_are_float_rows(pairs):
    rows = torch.tensor([4, 0, CHUNK + 1])
    views = pairs.views(rows)
    assert (views.spectrogram.dtype, views.residual.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(views.residual * 64, pairs.residual[rows].float())
    torch.testing.assert_close(views.spectrogram, pairs.spectrogram[rows].float())
    assert views.label.tolist() == pairs.label[rows].tolist()
    assert len(pairs.views().label) == len(pairs) == CHUNK + 3


def numbered(count: int) -> Pairs:
    """Pairs that carry their row in every feature."""
    row = torch.arange(count)
    one = row.float()
    return Pairs(one[:, None, None].half(), row[:, None, None, None].to(torch.int8), one[:, None], one, row, ())


def test_batches_are_a_function_of_the_step():
    pairs = numbered(23)
    batch, again = pairs.batches(5, seed=3), pairs.batches(5, seed=3)
    forwards = [batch(i).label.tolist() for i in range(13)]
    assert forwards[::-1] == [again(i).label.tolist() for i in reversed(range(13))]
    assert forwards != [pairs.batches(5, seed=4)(i).label.tolist() for i in range(13)]
    for i in range(13):
        views = batch(i)
        assert views.spectrogram.flatten().tolist() == views.label.tolist()  # sound, picture and label stay together
        assert (views.residual.flatten() * 64).tolist() == views.label.tolist()


def test_each_epoch_holds_each_pair_at_most_once_in_another_order():
    batch = numbered(23).batches(5, seed=0)
    epochs = [[row for step in range(4) for row in batch(4 * e + step).label.tolist()] for e in range(30)]
    assert all(len(epoch) == len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 30
    assert {row for epoch in epochs for row in epoch} == set(range(23))  # what one epoch leaves out, another has
    whole = numbered(20).batches(5, seed=0)
    assert sorted(row for step in range(4, 8) for row in whole(step).label.tolist()) == list(range(20))


def test_mirrored_pictures_keep_sound_and_label(pairs):
    plain, turned = pairs.batches(7, seed=1), pairs.batches(7, seed=1, mirror=True)
    flipped = 0
    for step in range(8):
        a, b = plain(step), turned(step)
        assert torch.equal(a.spectrogram, b.spectrogram)
        assert torch.equal(a.label, b.label)
        for x, y in zip(a.residual, b.residual, strict=True):
            assert torch.equal(x, y) or torch.equal(x.flip(-1), y)
            flipped += not torch.equal(x, y)
        assert torch.equal(turned(step).residual, b.residual)
    assert 14 < flipped < 42  # of 56


def test_too_few_pairs_for_a_batch():
    with pytest.raises(ValueError, match="4 pairs do not fill one batch of 5"):
        numbered(4).batches(5, seed=0)


def test_render_is_the_clips_of_the_world(pairs):
    assert same(render(WORLD, range(CHUNK + 3), workers=0, progress=False), pairs)
    picked = render(WORLD, [CHUNK + 1, 2, 2], workers=0, progress=False)
    torch.testing.assert_close(picked.residual, pairs.residual[[CHUNK + 1, 2, 2]])
    with pytest.raises(ValueError, match="no clips"):
        render(WORLD, [], workers=0, progress=False)


@pytest.mark.slow
def test_render_in_processes_is_the_same_to_the_bit(pairs):
    many = range(7 * CHUNK + 3)  # more chunks than may wait
    here = render(WORLD, many, workers=0, progress=False)
    assert same(render(WORLD, many, workers=2, progress=False), here)

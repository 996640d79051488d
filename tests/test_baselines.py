"""Baselines: known answers, slow loops over the clips themselves, and what each must be blind to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from avlab import baselines
from avlab.baselines import (
    audio_features,
    background_features,
    cca_match,
    centre_prior,
    classify,
    colour_features,
    envelope_match,
    late_fusion,
    loudness_features,
    loudness_match,
    motion_saliency,
    picture_features,
    probe_accuracy,
    shuffled,
)
from avlab.clip import Clip
from avlab.datasets.pairs import Pairs, pairs_of
from avlab.datasets.stream import stream
from avlab.losses.correlation import linear_cca
from avlab.metrics.localization import choose_threshold, ciou, ciou_success, pointing
from avlab.metrics.retrieval import median_rank, recall_at_k
from avlab.video import pool_grid
from avlab.world import KINDS, World


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(M: int = 5, *, N: int = 7, F: int = 11, T: int = 13, side: tuple[int, int] = (17, 19), seed: int = 0) -> Pairs:
    """Pairs of noise, of two kinds."""
    g = generator(seed)
    return Pairs(
        spectrogram=torch.randn(M, F, T, generator=g).half(),
        residual=torch.randint(-32, 33, (M, 3 + N, *side), generator=g).to(torch.int8),
        loudness=-40 + 10 * torch.randn(M, N, generator=g),
        motion=torch.rand(M, N, 5, 3, generator=g) / 50,
        label=torch.arange(M) % 2,
        kinds=("bell", "cat"),
    )


def noise_clips(count: int = 3) -> list[Clip]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (count, 6, 17, 19, 3), dtype=np.uint8)
    sounds = rng.uniform(-0.3, 0.3, (count, 2, 6000)).astype(np.float32)
    return [Clip(f, s, fps=8, sample_rate=8000) for f, s in zip(frames, sounds, strict=True)]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    world = World(level="L1", size=32, seconds=1.0, seed=4)
    return [world.clip(i) for i in range(6)]


# matches


@pytest.mark.parametrize("onsets", [False, True])
def test_envelope_match_is_pearsons_correlation(onsets):
    pairs = made(N=9)
    found = envelope_match(pairs, onsets=onsets)
    for a in range(5):
        for b in range(5):
            x, y = pairs.loudness[a].double().numpy(), pairs.motion[b].double().numpy().sum((1, 2))
            if onsets:
                x, y = (np.maximum(z[1:] - z[:-1], 0) for z in (x, y))
            assert found[a, b] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)


@pytest.mark.parametrize("onsets", [False, True])
def test_a_picture_that_moves_as_its_sound_swells_matches_it(onsets):
    pairs = made(9)
    pairs.motion[:] = 0.01
    for i in range(9):  # each in a place of its own
        pairs.motion[i, :, i % 5, i % 3] += 0.02 + (pairs.loudness[i] + 80) / 4000
    match = envelope_match(pairs, onsets=onsets)
    torch.testing.assert_close(match.diagonal(), torch.ones(9), atol=1e-4, rtol=0)
    assert recall_at_k(match, 1) == 1


@pytest.mark.parametrize("onsets", [False, True])
def test_neither_gain_nor_place_change_envelope_match(clips, onsets):
    expected = envelope_match(pairs_of(clips), onsets=onsets)
    assert expected.std() > 0.1  # there is something to change
    quiet = [replace(clip, waveform=clip.waveform / 1.5) for clip in clips]
    turned = [replace(clip, frames=np.ascontiguousarray(clip.frames[:, :, ::-1])) for clip in clips]
    for others in (quiet, turned):
        torch.testing.assert_close(envelope_match(pairs_of(others), onsets=onsets), expected, atol=1e-3, rtol=0)


def test_what_never_changes_goes_with_nothing():
    pairs = made()
    pairs.loudness[1], pairs.motion[2] = -33.3, 0.0123
    match = envelope_match(pairs)
    assert match[1].tolist() == pytest.approx([0] * 5, abs=1e-6)
    assert match[:, 2].tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_loudness_match_compares_ranks():
    pairs = made(7)
    pairs.loudness[3] = pairs.loudness[5]  # a tie
    loud = rankdata((10 ** (pairs.loudness.double() / 10)).mean(1))
    amount = rankdata(pairs.motion.double().mean((1, 2, 3)))
    np.testing.assert_allclose(loudness_match(pairs), -np.abs(loud[:, None] - amount[None]))


def test_louder_and_livelier_are_found_in_any_unit():
    pairs = made(6)
    strength = torch.tensor([4.0, 1, 6, 2, 5, 3])
    pairs.loudness[:], pairs.motion[:] = 6 * strength[:, None] - 80, (strength**3)[:, None, None, None] / 1000
    assert recall_at_k(loudness_match(pairs), 1) == 1
    assert loudness_match(pairs)[3].tolist() == [-2, 1 - 2, -4, 0, -3, -1]


def test_equal_loudness_finds_nobody():
    pairs = made(9)
    pairs.loudness[:], pairs.motion[:] = -30, 0.01
    assert (recall_at_k(loudness_match(pairs), 1), median_rank(loudness_match(pairs))) == (0, 5)


def coloured(M: int, seed: int) -> Pairs:
    """Pairs whose colours follow their mean spectrum, in pictures of noise."""
    pairs = made(M, seed=seed, side=(16, 24))
    cause = torch.randn(M, 3, generator=generator(seed + 1))
    pairs.spectrogram[:, :3] += 3 * cause[:, :, None].half()
    pairs.residual[:, :3] = (10 * cause[:, [2, 0, 1], None, None]).round().to(torch.int8) + pairs.residual[:, :3] // 4
    return pairs


def test_cca_match_is_linear_cca_of_the_means():
    train, test = coloured(300, 0), coloured(40, 7)

    def means(pairs):
        picture = pairs.residual[:, :3].double().reshape(-1, 3, 8, 2, 8, 3).mean((3, 5)).flatten(1) / 64
        return pairs.spectrogram.double().mean(2), picture

    cca = linear_cca(*means(train), components=3, ridge=1e-2)
    match = cca_match(train, test, components=3)
    torch.testing.assert_close(match, cca.similarity(*means(test)).float(), atol=1e-3, rtol=0)
    assert recall_at_k(match, 5) > 0.9
    assert recall_at_k(cca_match(train, replace(test, residual=test.residual.roll(1, 0)), components=3), 5) < 0.4


def test_cca_match_knows_nothing_of_time():
    train, test = coloured(60, 0), coloured(11, 7)
    order = torch.randperm(13, generator=generator())
    later = replace(test, spectrogram=test.spectrogram[:, :, order], residual=test.residual.clone())
    later.residual[:, 3:] = 0
    expected = cca_match(train, test, components=3)
    torch.testing.assert_close(cca_match(train, later, components=3), expected, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"components must lie in 1\.\.11"):
        cca_match(train, test, components=12)


def test_shuffled_keeps_the_scores_and_loses_the_pairs():
    scores = torch.randn(5, 7, generator=generator())
    mixed = shuffled(scores, generator(3))
    assert sorted(mixed.T.tolist()) == sorted(scores.T.tolist())
    assert torch.equal(mixed, shuffled(scores, generator(3)))
    g = generator()
    found = [recall_at_k(shuffled(torch.eye(11), g), 1) for _ in range(500)]
    assert np.mean(found) == pytest.approx(1 / 11, abs=0.02)  # four standard errors


# heatmaps


@pytest.mark.parametrize("grid", [5, (3, 7), (4, 6), (1, 1), (8, 5)])
def test_centre_prior_points_at_the_middle(grid):
    heat = centre_prior(3, grid)
    h, w = (grid, grid) if isinstance(grid, int) else grid
    assert heat.shape == (3, h, w)
    assert heat.min() > 0
    assert heat.max() <= 1
    assert torch.equal(heat, heat.flip(-1))
    assert torch.equal(heat, heat.flip(-2))
    top = (heat[0] == heat[0].max()).nonzero().double() + 0.5
    torch.testing.assert_close(top.mean(0), torch.tensor([h / 2, w / 2], dtype=torch.float64))
    assert len(top) == (2 - h % 2) * (2 - w % 2)
    heat[0] = 0  # a map of its own a clip
    assert heat[1].max() > 0


def test_centre_prior_scores_where_things_are_in_the_middle():
    truth = torch.zeros(2, 33, 33, dtype=torch.bool)
    truth[0, 12:21, 12:21], truth[1, :9, :9] = True, True
    assert pointing(centre_prior(2, 8), truth).tolist() == [1, 0]
    with pytest.raises(ValueError, match="0 maps of 3x4"):
        centre_prior(0, (3, 4))


def test_motion_saliency_is_where_it_moves_most():
    motion = made().motion
    heat = motion_saliency(motion)
    for i in range(5):
        mean = motion[i].numpy().mean(0)
        np.testing.assert_allclose(heat[i], (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-5)
    order = torch.randperm(7, generator=generator())
    torch.testing.assert_close(motion_saliency(3 * motion[:, order]), heat)  # when and how much do not matter
    assert motion_saliency(torch.zeros(2, 7, 5, 3)).abs().max() == 0
    with pytest.raises(ValueError, match=r"\(B, N, h, w\), got \(7, 5, 3\)"):
        motion_saliency(motion[0])


# features and the probe

ENDS = (slice(2), slice(-2, None))  # an eighth of 17 or 19 px


def test_features_are_measured_on_the_clips_themselves(monkeypatch):
    monkeypatch.setattr(baselines, "CHUNK", 2)  # more clips than fit at a time
    clips = noise_clips()
    pairs = pairs_of(clips)
    frames = np.stack([clip.frames for clip in clips]) / 255  # (M, N, H, W, 3)
    np.testing.assert_allclose(colour_features(pairs), frames.mean((1, 2, 3)), atol=0.002)
    corners = [frames[:, :, y, x].mean((1, 2, 3)) for y in ENDS for x in ENDS]
    np.testing.assert_allclose(background_features(pairs), np.concatenate(corners, 1), atol=0.008)
    power = np.array([(clip.mono().astype(float) ** 2).mean() for clip in clips])
    np.testing.assert_allclose(loudness_features(pairs)[:, 0], 10 * np.log10(power), atol=1e-3)
    spectrum = pairs.spectrogram.double().numpy()
    np.testing.assert_allclose(audio_features(pairs), np.concatenate([spectrum.mean(2), spectrum.std(2)], 1), atol=1e-4)
    mean, spread = frames.mean(1) - 0.5, (frames @ [0.299, 0.587, 0.114]).std(1)
    expected = np.concatenate([*(cells(mean[..., c]) for c in range(3)), cells(spread)], 1)
    np.testing.assert_allclose(picture_features(pairs), expected, atol=0.01)


def cells(pictures: np.ndarray) -> np.ndarray:
    """Means over 8x8 cells that overlap where sizes do not divide: (M, H, W) -> (M, 64)."""
    (H, W), places = pictures.shape[1:], range(8)
    means = [
        pictures[:, y * H // 8 : -(-(y + 1) * H // 8), x * W // 8 : -(-(x + 1) * W // 8)].mean((1, 2))
        for y in places
        for x in places
    ]
    return np.stack(means, 1)


def test_background_does_not_see_the_middle():
    clips = noise_clips()
    expected = background_features(pairs_of(clips))
    for clip in clips:
        clip.frames[:, 2:-2], clip.frames[:, :, 2:-2] = 7, 7
    torch.testing.assert_close(background_features(pairs_of(clips)), expected)
    turned = [replace(clip, frames=np.ascontiguousarray(clip.frames[:, :, ::-1])) for clip in clips]
    swapped = expected.reshape(3, 2, 2, 3).flip(2).flatten(1)
    torch.testing.assert_close(background_features(pairs_of(turned)), swapped)


def test_probe_reads_what_is_there_and_nothing_else():
    g = generator()
    x, y = torch.randn(1400, 5, generator=g), torch.randint(4, (1400,), generator=g)
    chance = probe_accuracy(x[:400], y[:400], x[400:], y[400:])
    assert chance == pytest.approx(0.25, abs=0.055)  # four standard errors
    told = x + 40 * torch.nn.functional.one_hot(y, 5)
    assert probe_accuracy(told[:400], y[:400], told[400:], y[400:]) == 1
    hinted = x + torch.nn.functional.one_hot(y, 5)
    units = hinted * torch.tensor([1e3, 1, 1e-4, 1, -5]) + 7
    shares = [probe_accuracy(z[:400], y[:400], z[400:], y[400:]) for z in (hinted, units)]
    assert 0.4 < shares[0] < 0.9
    assert shares[1] == pytest.approx(shares[0], abs=0.005)
    with pytest.raises(ValueError, match="3 clips have no known class"):
        probe_accuracy(x[:400], y[:400] - 4 * (torch.arange(400) < 3), x[400:], y[400:])


# classifiers


def heard_and_seen(M: int, seed: int) -> tuple[Pairs, torch.Tensor, torch.Tensor]:
    """Pairs whose sound lies high or low and whose picture is light or dark, in noise; and which."""
    pairs = made(M, F=16, T=17, N=3, side=(16, 16), seed=seed)
    heard, seen = torch.randint(2, (2, M), generator=generator(seed + 1))
    pairs.spectrogram[heard == 1, :8] += 2
    pairs.residual[:, :3] = pairs.residual[:, :3] // 4 + (16 * (2 * seen - 1)).to(torch.int8)[:, None, None, None]
    return pairs, heard, seen


def learned(sense: str, target: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and the labels of the test clips."""
    sets = []
    for M, start in ((512, 0), (200, 50)):
        pairs, heard, seen = heard_and_seen(M, start)
        sets.append(replace(pairs, label={"heard": heard, "seen": seen, "xor": heard ^ seen}[target]))
    return classify(*sets, sense=sense, steps=40, seed=seed, progress=False), sets[1].label


def accuracy(scores: torch.Tensor, label: torch.Tensor) -> float:
    return (scores.argmax(dim=1) == label).double().mean().item()


def test_each_sense_learns_its_own():
    for sense, target, other in (("audio", "heard", "seen"), ("sight", "seen", "heard")):
        scores, label = learned(sense, target)
        torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(200))
        assert accuracy(scores, label) > 0.95
        assert accuracy(*learned(sense, other)) == pytest.approx(0.5, abs=0.15)


def test_xor_is_learned_by_both_together_only():
    audio, label = learned("audio", "xor")
    sight, _ = learned("sight", "xor")
    for alone in (audio, sight, late_fusion(audio, sight)):
        assert accuracy(alone, label) == pytest.approx(0.5, abs=0.15)
    assert accuracy(*learned("both", "xor")) > 0.9


def test_classify_is_a_function_of_its_seed():
    before = torch.get_rng_state()
    first = learned("audio", "heard", seed=3)[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(11)
    assert torch.equal(learned("audio", "heard", seed=3)[0], first)
    assert not torch.equal(learned("audio", "heard", seed=4)[0], first)


def test_classify_says_what_it_cannot_use():
    pairs = made()
    with pytest.raises(ValueError, match="sense='smell' is not one of audio, sight, both"):
        classify(pairs, pairs, sense="smell")
    with pytest.raises(ValueError, match="train has the kinds"):
        classify(pairs, replace(pairs, kinds=("bell",)), sense="audio")
    with pytest.raises(ValueError, match="10 clips have no known class"):
        classify(replace(pairs, label=pairs.label * 0 - 1), replace(pairs, label=pairs.label * 0 - 1), sense="audio")


def test_late_fusion_is_bayes_of_independent_senses():
    rng = np.random.default_rng(0)
    heard, seen = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(6), 4)  # p(sound | class), p(picture | class)
    joint = heard[:, :, None] * seen[:, None]  # (K, sounds, pictures)
    exact = (joint / joint.sum(0)).transpose(1, 2, 0).reshape(24, 4)
    a, v = (torch.from_numpy((p / p.sum(0)).T) for p in (heard, seen))
    a, v = a.repeat_interleave(6, 0), v.repeat(4, 1)
    np.testing.assert_allclose(late_fusion(a.log(), v.log()).exp(), exact)
    torch.testing.assert_close(late_fusion(a.log(), torch.full_like(a, 0.25).log()).exp(), a)  # no news, no change
    with pytest.raises(ValueError, match=r"\(24, 4\) and \(5, 4\)"):
        late_fusion(a, v[:5])


# --- the world is not to be cheated: what each short cut reaches at level L2, all kinds

GROUP = 128


class Shown:
    """Clips of the world: pairs, the pixels of the sounding thing (in half of the frames or more), how many things."""

    def __init__(self, indices: range) -> None:
        masks, things, clips = [], [], []
        world = World(level="L2", seed=0)
        for clip in stream(world, indices):
            masks.append(torch.from_numpy(clip.truth.masks[0].mean(axis=0) >= 0.5))
            things.append(len(clip.truth.factors))
            clips.append(replace(clip, truth=None))
        self.masks, self.things, self.pairs = torch.stack(masks), torch.tensor(things), pairs_of(clips, world.kinds)


@pytest.fixture(scope="module")
def known() -> Shown:
    return Shown(range(100_000, 101_536))


@pytest.fixture(scope="module")
def unseen() -> Shown:
    return Shown(range(8 * GROUP))


@pytest.mark.slow
@pytest.mark.parametrize("cheat", ["envelope", "onset envelope", "loudness", "linear CCA", "shuffled"])
def test_no_match_is_found_by_a_cheat(known, unseen, cheat):
    found: list[tuple[float, float]] = []
    for at in range(0, len(unseen.pairs), GROUP):
        some = {name: value[at : at + GROUP] for name, value in vars(unseen.pairs).items() if name != "kinds"}
        few = replace(unseen.pairs, **some)
        scores = {
            "envelope": lambda few=few: envelope_match(few),
            "onset envelope": lambda few=few: envelope_match(few, onsets=True),
            "loudness": lambda few=few: loudness_match(few),
            "linear CCA": lambda few=few: cca_match(known.pairs, few),
            "shuffled": lambda few=few, at=at: shuffled(torch.eye(len(few)), generator(at)),
        }[cheat]()
        found.append((recall_at_k(scores, 1), recall_at_k(scores, 10)))
    first, tenth = np.mean(found, axis=0)
    assert first <= 0.04
    assert tenth <= 0.18


@pytest.mark.slow
@pytest.mark.parametrize(("cheat", "most", "most_of_three"), [("motion", 0.26, 0.14), ("centre", 0.03, 0.03)])
def test_no_source_is_found_by_a_cheat(known, unseen, cheat, most, most_of_three):
    before, heat = (
        motion_saliency(pool_grid(shown.pairs.motion, 8)) if cheat == "motion" else centre_prior(len(shown.masks), 8)
        for shown in (known, unseen)
    )
    overlaps = ciou(heat, unseen.masks, threshold=choose_threshold(before[:512], known.masks[:512]))
    assert ciou_success(overlaps) <= most
    assert ciou_success(overlaps[unseen.things == 3]) <= most_of_three


@pytest.mark.slow
@pytest.mark.parametrize("features", [colour_features, background_features, loudness_features])
def test_no_kind_is_told_by_a_cheat(known, unseen, features):
    right = probe_accuracy(features(known.pairs), known.pairs.label, features(unseen.pairs), unseen.pairs.label)
    assert abs(right - 1 / len(KINDS)) < 0.03

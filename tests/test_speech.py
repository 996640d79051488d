"""The speaking faces, measured: formants by linear prediction, pitch by autocorrelation, mouths by their pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from scipy.stats import chisquare, spearmanr

from avlab.audio import log_mel
from avlab.world.drawing import Sketch, rasterise
from avlab.world.families.speech import KINDS, LEXICON, PHONES, SPEAKERS, WORDS, said
from avlab.world.kinds import Event

RATE = 16000
FACE = KINDS["face"]
RED, SKIN = (230, 20, 20), (120, 160, 220)
MEN = ("s01", "s02", "s03", "s05", "s13")  # close harmonics show the formants between them
VOWELS = {  # Peterson and Barney 1952, men: F1, F2, F3 in Hz, and a word that has the vowel
    "iy": (270, 2290, 3010, "green"), "ih": (390, 1990, 2550, "six"), "eh": (530, 1840, 2480, "red"),
    "ae": (660, 1720, 2410, "map"), "aa": (730, 1090, 2440, "stop"), "ao": (570, 840, 2410, "four"),
    "uh": (440, 1020, 2240, "push"), "uw": (300, 870, 2240, "two"), "ah": (640, 1190, 2390, "one"),
    "er": (490, 1350, 1690, "bird"),
}  # fmt: skip


def factors(word: str = "red", speaker: str = "s01", **others: Any) -> dict[str, Any]:
    """A face whose first word is `word`."""
    plain = {"size": 14 / 64, "x": 0.5, "y": 0.5, "tilt": 0.0, "colour": SKIN, "accent": RED, "coat": "bare"}
    return plain | {"material": speaker, "utterance": (WORDS.index(word) + 0.5) / len(WORDS)} | others


def sound(who: dict[str, Any], events: list[Event], *, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return FACE.sound(who, events, seconds=seconds, sample_rate=rate, rng=np.random.default_rng(0))


def pictures(who: dict[str, Any], events: list[Event], times: Any, *, size: int = 256) -> np.ndarray:
    """Frames (N, H, W, 3) on grey."""
    sketch = Sketch(who, np.asarray(times, float))
    FACE.look(sketch, who, events, sketch.times)
    return rasterise(sketch.parts, np.full((size, size, 3), 128, np.uint8), len(sketch.times))[0]


def mouth_of(picture: np.ndarray, who: dict[str, Any]) -> tuple[int, int, int]:
    """Height and width of the lips, and the area within them, in pixels: what is neither skin nor below the nose."""
    H = len(picture)
    part = picture[round((who["y"] + 0.2 * who["size"]) * H) :, :].astype(int)
    half = round(0.6 * who["size"] * H)
    part = part[:, H // 2 - half : H // 2 + half]
    skin = np.abs(part - np.array(SKIN)).sum(-1) < 90
    grey = np.abs(part - 128).sum(-1) < 40
    lips = ~skin & ~grey
    open_ = (part.sum(-1) < 110) | (part.min(-1) > 200)  # the dark inside and the teeth
    return int(lips.any(1).sum()), int(lips.any(0).sum()), int(open_.sum())


def span_of(who: dict[str, Any], events: list[Event], phone: str) -> tuple[float, float]:
    return next((start, end) for start, end, name in FACE.words(who, events)[0] if name == phone)


def formants_by_prediction(y: np.ndarray, tract: float) -> np.ndarray:
    """The three lowest resonances in Hz of a vowel: poles of its linear prediction below 5 kHz times the scale."""
    rate = round(10000 * tract)
    y = resample_poly(y.astype(float), rate // 10, RATE // 10)
    a = librosa.lpc(np.append(y[0], y[1:] - 0.9 * y[:-1]) * np.hamming(len(y)), order=10)
    poles = [z for z in np.roots(a) if z.imag > 0]
    found = sorted((np.angle(z) * rate / 2 / np.pi, -np.log(abs(z)) * rate / np.pi) for z in poles)
    return np.array([hertz for hertz, band in found if hertz > 150 and band < 900])[:3]


def pitch_by_correlation(y: np.ndarray) -> float:
    """`f0` in Hz: the first of the high peaks of the autocorrelation between 60 and 350 Hz, refined by a parabola."""
    r = np.correlate(y, y, "full")[len(y) - 1 :] / (len(y) - np.arange(len(y)))
    low, high = RATE // 350, RATE // 60
    k = next(k for k in range(low, high) if r[k - 1] < r[k] > r[k + 1] and r[k] > 0.9 * r[low:high].max())
    return RATE / (k + 0.5 * (r[k - 1] - r[k + 1]) / (r[k - 1] - 2 * r[k] + r[k + 1]))


@pytest.mark.parametrize("vowel", VOWELS)
def test_formants_are_those_of_peterson_and_barney_times_the_tract(vowel):
    *targets, word = VOWELS[vowel]
    for speaker in MEN:
        who, events = factors(word, speaker), [Event(0.1, 1.0, 1.8)]
        start, end = span_of(who, events, vowel)
        middle = sound(who, events)[
            int((start + 0.35 * (end - start)) * RATE) : int((end - 0.35 * (end - start)) * RATE)
        ]
        expected = np.array(targets) * SPEAKERS[speaker].tract
        assert formants_by_prediction(middle, SPEAKERS[speaker].tract) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("size", [10 / 64, 18 / 64])
@pytest.mark.parametrize("speaker", SPEAKERS)
def test_pitch_is_the_speakers_and_falls_with_size(speaker, size):
    who, events = factors("four", speaker, size=size), [Event(0.1, 0.7, 1.8)]
    start, end = span_of(who, events, "ao")
    middle = (start + end) / 2
    y = sound(who, events)[int((middle - 0.05) * RATE) : int((middle + 0.05) * RATE)]
    word = FACE.words(who, events)[1][0]
    fall = 1.06 - 0.12 * (middle - word[0]) / (word[1] - word[0])
    expected = SPEAKERS[speaker].f0 * (14 / 64 / size) ** 0.3 * fall
    assert pitch_by_correlation(y) == pytest.approx(expected, rel=0.01)
    assert FACE.pitch(who) == pytest.approx(expected / fall)


def test_louder_words_are_brighter():
    levels, bright = [], []
    for strength in (0.4, 0.7, 1.0):
        y = sound(factors("map"), [Event(0.1, strength, 0.8)])
        power = np.abs(np.fft.rfft(y[int(0.35 * RATE) : int(0.45 * RATE)])) ** 2
        levels.append(power.sum())
        bright.append(power[150:].sum() / power[:150].sum())  # above and below 1.5 kHz
    assert np.all(np.diff(levels) > 0)
    assert np.all(np.diff(bright) > 0)


def test_the_jaw_shows_f1_and_the_lips_width_f2():
    high, wide, first, second = [], [], [], []
    for vowel, (F1, F2, _, word) in VOWELS.items():
        who, events = factors(word, size=18 / 64), [Event(0.1, 1.0, 1.0)]
        height, width, _ = mouth_of(pictures(who, events, [np.mean(span_of(who, events, vowel))])[0], who)
        high.append(height), wide.append(width), first.append(F1), second.append(F2)
    assert spearmanr(high, first).statistic > 0.95
    assert spearmanr(wide, second).statistic > 0.95
    assert max(high) > 2 * min(high)
    assert max(wide) > 1.5 * min(wide)


@pytest.mark.parametrize(("word", "phone"), [("map", "m"), ("map", "pcl"), ("stop", "pcl")])
def test_lips_close_for_bilabials(word, phone):
    who, events = factors(word, size=18 / 64), [Event(0.3, 1.0, 0.5)]
    start, end = span_of(who, events, phone)
    inside = [mouth_of(p, who)[2] for p in pictures(who, events, np.linspace(start + 0.002, end - 0.002, 9))]
    vowel = np.mean(span_of(who, events, LEXICON[word].split()[-3]))
    assert max(inside) == 0
    assert mouth_of(pictures(who, events, [vowel])[0], who)[2] > 100


@pytest.mark.parametrize("word", WORDS)
def test_the_mouth_opens_as_the_word_is_heard(word):
    who, events = factors(word, size=18 / 64), [Event(0.4, 1.0, 0.5)]
    times = np.arange(0, 0.8, 0.005)
    inside = np.array([mouth_of(p, who)[2] for p in pictures(who, events, times)])
    assert inside[times < 0.4].max() == 0
    first = FACE.words(who, events)[0][0]
    late = first[1] if PHONES[first[2]].lips == 0 else 0.4  # the lips of /m/ open at its end
    assert late < times[np.argmax(inside > 0)] < late + 0.05
    y = sound(who, events, seconds=1.0)
    assert not y[: int(0.4 * RATE)].any()
    heard = np.argmax(np.abs(y) > 0.05 * np.abs(y).max()) / RATE
    assert 0.4 <= heard < 0.41 + 1 / FACE.pitch(who)


def test_closures_are_silent_and_bursts_begin_on_time():
    seen = 0
    for word in WORDS:
        who, events = factors(word, "s06"), [Event(0.2, 0.8, 0.5)]
        y, (phones, _) = sound(who, events, seconds=1.0), FACE.words(who, events)
        for start, end, name in phones:
            inside = y[int(np.ceil(start * RATE)) : int(end * RATE)]
            if name.endswith("cl"):
                assert not inside.any()
            elif name in ("p", "t", "k", "b", "d", "g"):
                seen += 1
                assert np.argmax(np.abs(inside) > 0.3 * np.abs(inside[: RATE // 50]).max()) < 0.005 * RATE
        assert not y[int(np.ceil(phones[-1][1] * RATE)) :].any()
    assert seen >= 8


@pytest.mark.parametrize("seconds", [0.5, 2.0, 30.0])
def test_phones_tile_words_and_words_lie_in_events(seconds):
    counts = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        events = FACE.beats(rng, seconds)
        who = factors(speaker=str(rng.choice(list(SPEAKERS))), utterance=float(rng.random()))
        phones, spans = FACE.words(who, events)
        counts.append(len(spans))
        assert [name for *_, name in phones] == " ".join(LEXICON[name] for *_, name in spans).split()
        for event, (start, end, name) in zip(events, spans, strict=True):
            assert 0.1 <= event.time == start < end <= event.time + event.length + 1e-9 <= seconds
            assert end - start >= 0.8 * event.length
            mine = [phone for phone in phones if start <= phone[0] < end]
            assert [name for *_, name in mine] == LEXICON[name].split()
            assert [mine[0][0], *(end for _, end, _ in mine)] == [*(start for start, _, _ in mine), end]
    if seconds == 2.0:
        assert set(counts) <= {1, 2, 3, 4}
        assert len(set(counts)) >= 3


def test_every_word_is_equally_likely_in_every_place():
    sequences = [[word for word, _ in said(u, 4)] for u in (np.arange(18 * 500) + 0.5) / (18 * 500)]
    for k in range(4):
        counts = Counter(words[k] for words in sequences)
        assert len(counts) == len(WORDS) == 18
        assert chisquare([counts[word] for word in WORDS]).pvalue > 1e-3
    pairs = Counter((WORDS.index(words[0]) // 3, WORDS.index(words[1]) // 3) for words in sequences)
    assert chisquare([pairs[i, j] for i in range(6) for j in range(6)]).pvalue > 1e-3
    assert said(0.0, 1) == [("red", 0.0)]
    assert said(1.0, 1)[0][0] == "map"  # the end of the range is allowed


def test_a_word_is_said_in_many_rhythms():
    who, events = factors("seven"), [Event(0.2, 1.0, 0.5)]
    shares = []
    for offset in np.linspace(0.05, 0.95, 10):
        who["utterance"] = (WORDS.index("seven") + offset) / len(WORDS)
        phones, ((start, end, word),) = FACE.words(who, events)
        assert word == "seven"
        shares.append([(b - a) / (end - start) for a, b, _ in phones])
    assert np.ptp(shares, axis=0).min() > 0.05
    assert np.max(shares, axis=0) / np.min(shares, axis=0) == pytest.approx(2, rel=0.35)  # half an octave either way


def test_held_out_speakers_lie_within_the_others():
    new, old = ([SPEAKERS[name] for name in SPEAKERS if (name in FACE.held_out) is held] for held in (True, False))
    assert len(new) == 4
    for what in ("f0", "tract", "pace", "breath"):
        values = [getattr(speaker, what) for speaker in old]
        assert all(min(values) < getattr(speaker, what) < max(values) for speaker in new)


def test_same_bytes_twice_and_nothing_but_its_causes_is_heard_or_seen():
    events = [Event(0.2, 0.5, 0.4), Event(0.9, 0.9, 0.45)]
    y = sound(factors(), events)
    assert y.dtype == np.float32
    assert y.tobytes() == sound(factors(), events).tobytes()
    seen_only = {"colour": (9, 9, 9), "accent": (200, 200, 0), "coat": "painted", "tilt": 0.3, "x": 0.2}
    assert np.array_equal(y, sound(factors(**seen_only), events))
    rest = pictures(factors("red"), [], [0.0, 1.0])
    assert np.array_equal(rest[0], rest[1])
    assert np.array_equal(rest, pictures(factors("blue"), [], [0.0, 1.0]))  # a face at rest does not tell its words
    painted = [pictures(factors(speaker=name, coat="painted"), [], [0.0]) for name in ("s01", "s12")]
    assert np.array_equal(*painted)
    bare = [pictures(factors(speaker=name), [], [0.0]).tobytes() for name in SPEAKERS]
    assert len(set(bare)) == len(SPEAKERS)


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize(
    "events",
    [
        [Event(0.5, 1.0, 0.4), Event(0.1, 0.5, 0.9)],  # not in order, and one within the other
        [Event(0.0, 0.5, 0.0), Event(0.0, 0.5, 0.3)],
        [Event(0.95, 1.0, 0.5), Event(3.0, 1.0, 0.5)],  # beyond the end
        [],
    ],
)
def test_any_events_make_a_sound_and_a_picture(events, rate):
    who = factors("stop")
    y = sound(who, events, seconds=1.0, rate=rate)
    assert y.shape == (rate,)
    assert np.isfinite(y).all()
    assert pictures(who, events, np.arange(0, 1, 0.005), size=32).shape == (200, 32, 32, 3)
    if events and max(n for _, _, n in events) > 0.3:
        assert np.abs(y).max() > 0.05


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_nothing_above_the_band_is_heard(rate):
    power = np.abs(np.fft.rfft(sound(factors("map", "s12"), [Event(0.1, 1.0, 0.5)], seconds=1.0, rate=rate))) ** 2
    hertz = np.fft.rfftfreq(rate, 1 / rate)
    assert power[hertz > 0.47 * rate].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("speaker", ["s01", "s07", "s12"])
def test_faces_are_large_and_stay_in_their_place(speaker):
    who, events = factors("stop", speaker, size=16 / 64), [Event(0.1, 1.0, 0.5)]
    seen = np.abs(pictures(who, events, np.arange(0, 0.8, 0.02)).astype(int) - 128).sum(-1) > 30
    r = 16 / 64 * 256
    rows, columns = (np.nonzero(seen.any(0).any(axis))[0] - 127.5 for axis in (1, 0))
    assert seen[0].sum() > 2 * r * r
    assert -1.8 * r < rows.min() < -0.85 * r
    assert 0.85 * r < rows.max() < 1.3 * r
    assert np.abs(columns).max() < 1.1 * r


def test_words_of_unknown_speakers_are_understood():
    def seen(name: str, word: str, length: float) -> np.ndarray:
        """Log-mel of one word in 24 columns, without its mean over time."""
        who, events = factors(word, name), [Event(0.1, 0.8, length)]
        y = sound(who, events, seconds=0.7)
        X = log_mel(torch.from_numpy(y), sample_rate=RATE, bands=24)
        (_, end, _) = FACE.words(who, events)[1][0]
        columns = torch.linspace(10, end * 100, 24).round().long()
        return (X - X[:, 10 : int(end * 100)].mean(1, keepdim=True))[:, columns].numpy()

    old = [name for name in SPEAKERS if name not in FACE.held_out]
    templates = {word: np.mean([seen(name, word, 0.42) for name in old], axis=0) for word in WORDS}
    hits = []
    for name in FACE.held_out:
        for word in WORDS:
            heard = seen(name, word, 0.36)
            hits.append(min(WORDS, key=lambda other: np.square(templates[other] - heard).sum()) == word)
    assert np.mean(hits) > 0.8  # chance is 1 in 18

"""Birds and dogs: what opens on the pixels against what is heard, and the laws of their voices on the sound."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import things
from scipy.signal import hilbert, welch
from things import peak, seen, sketched

from avlab.world.families.animals import KINDS
from avlab.world.kinds import Event, Factors

RATE, SIZE = 16000, 256
heard = partial(things.heard, seconds=1.0)
COLOUR, ACCENT, EYE, NOSE = (121, 89, 61), (41, 217, 149), (15, 15, 15), (20, 20, 20)
OWN = {
    "bird": {"material": "feather", "sweep": 0.2, "trill": 20.0},
    "dog": {"material": "fur", "muzzle": 0.6, "rough": 0.2},
}


def thing(kind: str, **own: Any) -> dict[str, Any]:
    shared = {"size": 14 / 64, "x": 0.45, "y": 0.5, "tilt": 0.0, "coat": "bare", "colour": COLOUR, "accent": ACCENT}
    return {**shared, **OWN[kind], **own}


def drawn(kind: str, factors: Factors, events: list[Event], times: np.ndarray) -> np.ndarray:
    """Frames (N, H, W, 3) on blue, which nothing else is."""
    return seen(kind, factors, events, times, SIZE, ground=(0, 0, 255))[0]


def pixels(frame: np.ndarray, colour: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((frame == colour).all(axis=-1))


# --- what is seen to open is heard


@pytest.mark.parametrize(("kind", "own"), [("bird", {"sweep": 0.0}), ("dog", {"rough": 0.1})])
@pytest.mark.parametrize("x", [0.3, 0.7])
def test_a_mouth_is_as_wide_as_the_voice_is_loud(kind, own, x):
    factors, events = thing(kind, x=x, **own), [Event(0.15, 0.4, 0.25), Event(0.55, 1.0, 0.25)]
    times = np.arange(200) / 200
    frames = drawn(kind, factors, events, times)
    if kind == "bird":  # the beak, from its upper to its lower tip
        wide = np.array([np.ptp(pixels(frame, ACCENT)[0]) for frame in frames], float)
    else:  # the dark of the mouth
        dark = tuple(int(0.4 * c) for c in ACCENT)
        wide = np.array([len(pixels(frame, dark)[0]) for frame in frames], float)
    wide -= wide[0]
    size = RATE // 20  # 50 ms: a tremble
    smooth = np.convolve(heard(kind, factors, events) ** 2, np.ones(size) / size, mode="same")
    level = np.sqrt(smooth)[:: RATE // 200]
    assert np.corrcoef(wide, level)[0, 1] > 0.9
    assert wide[160 - 30] > 1.5 * wide[55] > 0  # the louder one opens wider
    assert wide.max() > (0.5 * 14 / 64 * SIZE if kind == "bird" else 200)


@pytest.mark.parametrize("kind", list(KINDS))
def test_voice_and_mouth_begin_together(kind):
    for start in (0.1234, 0.4567):
        factors, events = thing(kind, tilt=0.2), [Event(start, 1.0, 0.2)]
        sound = np.abs(heard(kind, factors, events))
        assert 0 <= np.flatnonzero(sound > 0)[0] / RATE - start < 0.001
        assert 0 <= np.flatnonzero(sound > 0.01 * sound.max())[0] / RATE - start < 0.01
        times = start + np.arange(-20, 40) / 1000
        frames = drawn(kind, factors, events, times)
        first = times[np.flatnonzero((frames != frames[0]).any(axis=(1, 2, 3)))[0]]
        assert 0 <= first - start < 0.01
        assert not np.abs(sound[int((start + 0.2) * RATE) + 2 :]).any()


@pytest.mark.parametrize("kind", list(KINDS))
def test_with_no_events_an_animal_is_still_and_silent(kind):
    frames = drawn(kind, thing(kind), [], np.arange(16) / 8)
    assert (frames == frames[0]).all()
    assert not heard(kind, thing(kind), []).any()


# --- the bird


@pytest.mark.parametrize("size", [10 / 64, 14 / 64, 18 / 64])
@pytest.mark.parametrize("sweep", [-0.35, 0.4])
def test_a_bird_glides_from_its_pitch(size, sweep):
    sound = heard("bird", thing("bird", size=size, sweep=sweep), [Event(0.1, 1.0, 0.4)])
    f0 = 1000 * (18 / 64) / size
    for share in (0.2, 0.5, 0.8):
        middle = int((0.1 + 0.4 * share) * RATE)
        part = sound[middle - 200 : middle + 200]
        assert peak(part, 500, 2800) == pytest.approx(f0 * (1 + sweep * share), rel=0.01)


@pytest.mark.parametrize("trill", [12.0, 23.0, 30.0])
def test_a_bird_trembles_at_its_trill(trill):
    sound = heard("bird", thing("bird", trill=trill, sweep=0.0), [Event(0.0, 1.0, 2.0)], seconds=2.0)
    envelope = np.abs(hilbert(sound))[2000:-2000] / np.sin(np.pi * np.arange(2000, 30000) / 32000) ** 2
    assert peak(envelope - envelope.mean(), 8, 40) == pytest.approx(trill, rel=0.01)


@pytest.mark.parametrize("sweep", [-0.3, 0.3])
def test_the_beak_is_lifted_by_a_rising_song(sweep):
    for x in (0.3, 0.7):
        rows = []
        for glide in (sweep, 0.0):
            frame = drawn("bird", thing("bird", x=x, sweep=glide), [Event(0.1, 1.0, 0.2)], np.array([0.2]))[0]
            rows.append(pixels(frame, ACCENT)[0].mean())
        lift = (rows[1] - rows[0]) / (14 / 64 * SIZE)
        assert lift * np.sign(sweep) > 0.12


def test_a_wide_tail_goes_with_a_slow_trill():
    dark = tuple(int(0.7 * c) for c in COLOUR)
    area = []
    for trill in (12.0, 18.0, 24.0, 30.0):
        _, x = pixels(drawn("bird", thing("bird", trill=trill), [], np.zeros(1))[0], dark)
        area.append(np.count_nonzero(x < (0.45 - 0.9 * 14 / 64) * SIZE))
    assert all(np.diff(area) < -50)


def test_a_small_bird_keeps_below_half_the_sample_rate():
    sound = heard("bird", thing("bird", size=7 / 64, sweep=0.4), [Event(0.1, 1.0, 0.8)])
    power = np.abs(np.fft.rfft(sound)) ** 2
    f = np.fft.rfftfreq(len(sound), 1 / RATE)
    assert power[f > 7300].sum() < 1e-5 * power.sum()  # without room for it there is no second harmonic
    start = 1000 * 18 / 7
    assert power[(f > 2 * start) & (f < 7100)].sum() > 1e-3 * power.sum()  # and before that there is one


# --- the dog


def period(sound: np.ndarray, low: float, high: float) -> float:
    """Fundamental in Hz between two, from the autocorrelation's first peak."""
    x = sound * np.hanning(len(sound))
    correlation = np.fft.irfft(np.abs(np.fft.rfft(x, 4 * len(x))) ** 2)
    window = np.hanning(len(sound))
    correlation /= np.maximum(np.fft.irfft(np.abs(np.fft.rfft(window, 4 * len(x))) ** 2), 1e-9)
    first, last = int(RATE / high), int(RATE / low)
    k = first + int(correlation[first:last].argmax())
    a, b, c = correlation[k - 1 : k + 2]
    return RATE / (k + 0.5 * (a - c) / (a - 2 * b + c))


@pytest.mark.parametrize("size", [10 / 64, 14 / 64, 18 / 64])
def test_a_barks_pitch_falls_with_size_and_over_the_bark(size):
    sound = heard("dog", thing("dog", size=size, rough=0.1), [Event(0.1, 1.0, 0.6)])
    f0 = 190 * (18 / 64) / size
    for share in (0.15, 0.4, 0.7):
        middle = int((0.1 + 0.6 * share) * RATE)
        expected = f0 * (1 - 0.35 * share)
        found = period(sound[middle - 400 : middle + 400], 0.7 * expected, 1.4 * expected)
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("size", "muzzle"), [(10 / 64, 0.85), (14 / 64, 0.4), (18 / 64, 0.6)])
def test_a_long_muzzle_resonates_low(size, muzzle):
    factors = thing("dog", size=size, muzzle=muzzle, rough=1.0)  # noise alone: the resonances alone
    frame = drawn("dog", factors, [], np.zeros(1))[0]
    # from the eye to the nose: the muzzle and a part of the head
    seen = (pixels(frame, NOSE)[1].mean() - pixels(frame, EYE)[1].mean()) / SIZE - 0.22 * size
    first = 420 * 0.85 * (18 / 64) / seen
    f, power = welch(heard("dog", factors, [Event(0.0, 1.0, 8.0)], seconds=8.0), RATE, nperseg=1024)
    for ratio in (1, 3):
        near = (f > 0.75 * ratio * first) & (f < 1.25 * ratio * first)
        smooth = np.convolve(power, np.hanning(7), mode="same")
        assert f[near][smooth[near].argmax()] == pytest.approx(ratio * first, rel=0.06)


def test_a_rough_voice_has_a_rough_coat():
    noise, area = [], []
    for rough in (0.1, 0.35, 0.6):
        factors = thing("dog", rough=rough)
        sound = heard("dog", factors, [Event(0.1, 1.0, 0.6)])[int(0.15 * RATE) :][: RATE // 20]
        f0 = period(sound, 200, 280)
        lag = RATE / f0
        later = np.interp(np.arange(len(sound) - 2 * int(lag)) + lag, np.arange(len(sound)), sound)
        noise.append(np.std(later - sound[: len(later)]) / np.std(sound))  # what does not repeat
        dark = tuple(int(0.65 * c) for c in COLOUR)
        area.append(len(pixels(drawn("dog", factors, [], np.zeros(1))[0], dark)[0]))
    assert all(np.diff(noise) > 0.1)
    assert all(np.diff(area) > 100)


# --- both


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_animal_fills_its_place_with_the_same_parts_at_any_time(kind):
    counts, times = set(), np.linspace(0, 0.5, 21)
    low, high = ({name: ends[i] for name, ends in KINDS[kind].ranges.items()} for i in (0, 1))
    for x in (0.45, 0.55):
        for events in ([], [Event(0.1, 1.0, 0.25)], [Event(0.1, 0.5, 0.1), Event(0.3, 0.5, 0.1)]):
            for own in (low, high):
                factors = thing(kind, x=x, **own)
                sketch = sketched(kind, factors, events, times)
                counts.add(len(sketch.parts))
                shown = (drawn(kind, factors, events, times) != (0, 0, 255)).any(axis=-1)
                _, rows, columns = np.nonzero(shown)
                right, down = (columns + 0.5) / SIZE - x, (rows + 0.5) / SIZE - 0.5
                assert np.abs(right).max() < 1.35 * 14 / 64
                assert -1.85 * 14 / 64 < down.min() < down.max() < 1.35 * 14 / 64
                assert shown[0].mean() > 1.5 * (14 / 64) ** 2
    assert len(counts) == 1


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("rate", [16000, 44100])
def test_any_size_is_heard(kind, rate):
    for size in (7 / 64, 22 / 64):
        events = KINDS[kind].beats(np.random.default_rng(1), 0.5)
        sound = heard(kind, thing(kind, size=size), events, seconds=0.5, rate=rate)
        assert sound.shape == (rate // 2,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0

"""Strings: pitch, harmonics, decay and the bow's speed, measured on their sound and on their pixels."""

from functools import partial

import numpy as np
import pytest
import things
from things import middle, seen, sketched

from avlab.world.families.strings import KINDS
from avlab.world.kinds import Event

RATE = 16000
heard = partial(things.heard, seconds=1.0)
SIZES = (7 / 64, 10 / 64, 13 / 64, 18 / 64, 22 / 64)
LARGEST = {"string": 140.0, "fiddle": 190.0}  # Hz at a radius of 18/64
T60 = {"nylon": 0.55, "steel": 1.6, "gut": 0.9}  # s


def thing(kind: str, **changes) -> dict:
    own = {"string": {"pick": 0.3}, "fiddle": {"vibrato": 0.0}}[kind]
    factors = {"size": 14 / 64, "x": 0.5, "y": 0.5, "tilt": 0.0, "colour": (90, 150, 200), "accent": (210, 110, 60)}
    return {**factors, "material": "steel", "coat": "bare", **own, **changes}


def pitch(kind: str, size: float) -> float:
    return LARGEST[kind] * (18 / 64) / size


def period(sound: np.ndarray, about: float) -> float:
    """Hz of the strongest period within a third of `about` Hz, by autocorrelation and a parabola."""
    correlation = np.fft.irfft(np.abs(np.fft.rfft(sound, 2 * len(sound))) ** 2)[: len(sound)]
    correlation /= np.arange(len(sound), 0, -1)
    low, high = int(RATE / about / 1.3), int(RATE / about * 1.3)
    k = low + int(correlation[low:high].argmax())
    a, b, c = correlation[k - 1 : k + 2]
    return RATE / (k + 0.5 * (a - c) / (a - 2 * b + c))


def harmonics(sound: np.ndarray, f0: float, count: int) -> np.ndarray:
    """Amplitude of the first harmonics: the spectrum's largest value near each."""
    spectrum, f = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))), np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.array([spectrum[np.abs(f - n * f0) < 0.1 * f0].max() for n in range(1, count + 1)])


def centroid(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float((power * np.fft.rfftfreq(len(sound), 1 / RATE)).sum() / power.sum())


# --- sound


@pytest.mark.parametrize(("kind", "material"), [(k, m) for k in KINDS for m in KINDS[k].materials])
def test_pitch_is_that_of_the_length(kind, material):
    for size in SIZES:
        event = Event(0.1, 0.8, 0.6)
        sound = heard(kind, thing(kind, size=size, material=material), [event])[2400:10000]
        assert period(sound, pitch(kind, size)) == pytest.approx(pitch(kind, size), rel=0.01)
        assert KINDS[kind].pitch({"size": size}) == pytest.approx(pitch(kind, size))


@pytest.mark.parametrize(("pick", "gone"), [(0.5, 2), (0.25, 4), (0.2, 5)])
def test_harmonics_with_a_node_at_the_pick_are_missing(pick, gone):
    f0 = RATE / 80
    factors = thing("string", pick=pick, size=LARGEST["string"] * (18 / 64) / f0)
    level = harmonics(heard("string", factors, [Event(0.0, 1.0)]), f0, 9)
    with_node = np.arange(1, 10) % gone == 0
    assert level[with_node].max() < 0.03 * np.median(level[~with_node])


@pytest.mark.parametrize("material", KINDS["string"].materials)
def test_a_plucked_string_falls_by_60_db_in_its_time(material):
    f0 = RATE / 80
    sound = heard(
        "string", thing("string", material=material, size=LARGEST["string"] * (18 / 64) / f0), [Event(0.0, 1.0)]
    )
    level = [harmonics(sound[n : n + 1600], f0, 8) for n in (800, 4800)]
    fall = 20 * np.log10(level[0] / level[1])  # dB in 0.25 s
    assert fall[0] == pytest.approx(60 * 0.25 / T60[material], rel=0.15)
    assert fall[7] > 1.5 * fall[0]  # high harmonics die first


def test_harder_is_louder_and_brighter():
    for kind in KINDS:
        sounds = [heard(kind, thing(kind), [Event(0.1, v, 0.4)]) for v in (0.35, 0.6, 1.0)]
        level, bright = [np.sqrt((s**2).mean()) for s in sounds], [centroid(s) for s in sounds]
        assert level[0] * 1.5 < level[1] < level[2] / 1.5
        assert bright[0] * 1.05 < bright[1] < bright[2] / 1.05


def test_steel_is_the_brightest_bowed_string_and_gut_the_dullest():
    bright = [
        centroid(heard("fiddle", thing("fiddle", material=m), [Event(0.1, 0.8, 0.5)]))
        for m in ("gut", "nylon", "steel")
    ]
    assert bright[0] * 1.05 < bright[1] < bright[2] / 1.05


def test_a_bowed_string_has_all_harmonics_and_its_body_lifts_some():
    factors, f0 = thing("fiddle", size=18 / 64), 190.0
    level = harmonics(heard("fiddle", factors, [Event(0.0, 1.0, 1.0)]), f0, 9)
    corner = 1600.0
    string = np.exp(-np.arange(1, 10) * f0 / corner / 6) / np.arange(1, 10)  # a rounded sawtooth, at full strength
    lift = level / string / np.median(level / string)
    assert lift.min() > 0.2
    assert lift.argmax() + 1 == 6  # nearest to 5.7
    assert lift[1] > 1.3 * max(lift[0], lift[2])  # the second, nearest to 2.1


def test_vibrato_moves_the_pitch_by_its_depth_and_the_finger_with_it():
    factors, event = thing("fiddle", vibrato=0.03, size=18 / 64), Event(0.0, 1.0, 1.0)
    sound = heard("fiddle", factors, [event])
    spectrum, f = np.fft.fft(sound), np.fft.fftfreq(len(sound), 1 / RATE)
    spectrum[(f < 190 * 0.75) | (f > 190 * 1.25)] = 0  # the fundamental alone, analytic
    hertz = np.diff(np.unwrap(np.angle(np.fft.ifft(spectrum)))) * RATE / (2 * np.pi)
    times = np.arange(20, 180) / 200
    heard_pitch = hertz[(times * RATE).astype(int)]
    assert np.ptp(heard_pitch) / 2 / 190 == pytest.approx(0.03, rel=0.1)
    assert heard_pitch == pytest.approx(190 * (1 + 0.03 * np.sin(2 * np.pi * 5.5 * times)), rel=0.005)
    _, ids, sketch = seen("fiddle", factors, [event], times)
    finger = next(k for k, part in enumerate(sketch.parts) if part.shape == "ellipse" and len(part.points) > 1) + 1
    assert np.corrcoef(middle(ids == finger)[:, 1], heard_pitch)[0, 1] > 0.9


@pytest.mark.parametrize("kind", list(KINDS))
def test_sound_begins_with_the_event_and_not_before(kind):
    early, late = Event(0.1003, 0.9, 0.3), Event(0.5507, 0.5, 0.3)
    first, both = (heard(kind, thing(kind), events) for events in ([early], [early, late]))
    for event, sound in ((early, first), (late, both - first)):
        begins = np.flatnonzero(np.abs(sound) > 5e-3 * np.abs(sound).max())[0] / RATE
        assert 0 <= begins - event.time < 0.005
    assert not first[: int(0.1003 * RATE)].any()
    assert not heard(kind, thing(kind), []).any()
    for seconds, rate in ((0.5, 8000), (0.05, 44100), (2.0, 48000)):
        assert np.isfinite(heard(kind, thing(kind), [early, late], seconds=seconds, rate=rate)).all()


def test_a_plucked_string_is_that_of_the_plain_loop():
    """The law sample by sample: y[t] = x[t] + sum_k h_k y[t - P - k], as slow as it is plain."""
    factors, f0 = thing("string", material="gut", size=0.2, pick=0.2), LARGEST["string"] * (18 / 64) / 0.2
    sound = heard("string", factors, [Event(0.0, 1.0)], seconds=0.25)
    P = RATE / f0
    whole, rest = int(P - 1), P - 1 - int(P - 1)
    burst = np.random.default_rng(0).standard_normal(int(P))
    y = np.zeros(4000)
    y[: int(P)] = burst - np.roll(burst, round(0.2 * P))
    taps = 10 ** (-3 * P / (0.9 * RATE)) * np.convolve([0.16, 0.68, 0.16], [1 - rest, rest])
    for t in range(whole, 4000):
        y[t] += sum(tap * y[t - whole - k] for k, tap in enumerate(taps) if t >= whole + k)
    np.testing.assert_allclose(sound, y, atol=1e-5)


# --- picture


def test_a_plectrum_touches_the_string_when_it_is_heard():
    for pick, tilt, strength in ((0.12, 0.3, 1.0), (0.5, -0.3, 0.5)):
        factors, events = thing("string", pick=pick, tilt=tilt, size=18 / 64), [Event(0.4003, strength)]
        sound = heard("string", factors, events)
        onset = np.flatnonzero(np.abs(sound) > 1e-3 * np.abs(sound).max())[0] / RATE
        times = np.arange(60, 100) / 200
        _, ids, sketch = seen("string", factors, events, times)
        plectrum, strand = len(sketch.parts), len(sketch.parts) - 1
        y, x = np.nonzero(ids[0] == strand)
        along = np.polyfit(x, y, 1)
        gap = []
        for frame in ids:
            y, x = np.nonzero(frame == plectrum)
            gap.append(((np.polyval(along, x) - y) * np.cos(np.arctan(along[0]))).min())  # px from tip to string
        assert abs(times[np.argmin(gap)] - onset) <= 0.01
        assert abs(min(gap)) <= 3
        assert max(gap) > 0.25 * 72
        place = (middle(ids[:1] == plectrum)[0] - 128) @ [np.cos(tilt), np.sin(tilt)]
        assert place / 72 == pytest.approx(2 * pick - 1, abs=0.05)


def test_a_string_blurs_as_far_as_it_sounds():
    events = [Event(0.2, 1.0), Event(1.0, 0.5)]
    times = np.arange(0.1, 1.9, 0.02)
    _, ids, sketch = seen("string", thing("string", size=18 / 64, material="gut"), events, times)
    blurred = (ids == len(sketch.parts) - 2).sum(axis=(1, 2))
    assert blurred[times < 0.19].max() < 0.1 * blurred.max()
    first, second = blurred[(times > 0.2) & (times < 0.3)].max(), blurred[(times > 1.0) & (times < 1.1)].max()
    assert 0.4 < second / first < 0.7
    assert blurred[np.abs(times - 0.9).argmin()] < 0.2 * first


def test_the_bow_moves_as_fast_as_the_fiddle_is_loud():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        events = KINDS["fiddle"].beats(rng, 2.0)
        times = np.arange(400) / 200
        material = KINDS["fiddle"].materials[seed]
        factors = thing("fiddle", size=22 / 64, tilt=0.2, material=material)
        _, ids, sketch = seen("fiddle", factors, events, times, side=384)
        frog = (middle(ids == len(sketch.parts)) - 192) @ [np.cos(0.2), np.sin(0.2)]
        sound = heard("fiddle", factors, events, seconds=2.0)
        level = np.sqrt((sound.reshape(100, -1) ** 2).mean(axis=1))
        speed = np.abs(frog[4::4] - frog[:-4:4])  # px in 20 ms
        assert np.corrcoef(speed, level[:-1])[0, 1] > 0.9
        moved = [frog[int((t + n) * 200) + 1] - frog[int(t * 200)] for t, _, n in events]
        assert all(np.sign(m) == (-1) ** k for k, m in enumerate(moved))
        ways = np.array([v * n for _, v, n in events])
        assert np.abs(moved) / np.abs(moved).max() == pytest.approx(ways / ways.max(), abs=0.04)
        assert np.abs(np.diff(frog[: int(events[0].time * 200)])).max() == 0


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_fills_its_place_keeps_to_it_and_moves_without_jumps(kind):
    r = 14 / 64
    for seed in range(8):
        rng = np.random.default_rng(seed)
        events, times = KINDS[kind].beats(rng, 2.0), np.arange(400) / 200
        factors = thing(kind, tilt=0.3 * (-1) ** seed)
        _, ids, sketch = seen(kind, factors, events, times, side=96)
        assert len(sketch.parts) <= 14
        assert ((ids > 0).sum(axis=(1, 2)) > 1.5 * (r * 96) ** 2).all()
        _, y, x = np.nonzero(ids)
        c, s, x, y = np.cos(sketch.tilt), np.sin(sketch.tilt), (x - 47.5) / 96 / r, (y - 47.5) / 96 / r
        across, down = x * c + y * s, y * c - x * s  # turned back: radii
        edge = 1.5 / 96 / r
        assert np.abs(across).max() < 1.3 + edge
        assert -1.8 - edge < down.min() < down.max() < 1.3 + edge
        sketch = sketched(kind, factors, events, np.arange(0, 2, 0.001))
        for part in sketch.parts:
            if len(part.points) > 1:
                assert np.abs(np.diff(part.points, axis=0)).max() < 0.05 * r


# --- events and notes


@pytest.mark.parametrize("seconds", [0.5, 0.8, 2.0, 7.0, 30.0])
def test_strokes_fit_into_the_clip_and_do_not_overlap(seconds):
    counts = set()
    for seed in range(40):
        events = KINDS["fiddle"].beats(np.random.default_rng(seed), seconds)
        starts, ends = np.array([e.time for e in events]), np.array([e.time + e.length for e in events])
        assert starts[0] >= 0.1
        assert ends[-1] <= seconds - 0.1 + 1e-9
        assert (starts[1:] - ends[:-1] > 0.1 - 1e-9).all()
        assert all(0.4 <= e.strength <= 1 and 0.2 <= e.length <= 0.5 for e in events)
        counts.add(len(events))
    assert counts == {0.5: {1}, 0.8: {1}}.get(seconds, {2, 3, 4})


def test_notes_are_what_is_heard():
    factors = thing("string", size=LARGEST["string"] * (18 / 64) / 220, material="nylon")  # A3
    notes = KINDS["string"].notes(factors, [Event(0.2, 0.9), Event(0.5, 0.4), Event(1.5, 1.0)])
    assert np.array(notes) == pytest.approx(np.array([[0.2, 0.5, 57], [0.5, 1.05, 57], [1.5, 2.05, 57]]))
    factors = thing("fiddle", size=LARGEST["fiddle"] * (18 / 64) / 261.6256)  # C4
    notes = KINDS["fiddle"].notes(factors, [Event(0.2, 0.9, 0.3)])
    assert np.array(notes) == pytest.approx(np.array([[0.2, 0.5, 60]]), abs=1e-5)
    assert KINDS["string"].notes(thing("string"), []) == []

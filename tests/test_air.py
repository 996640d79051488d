"""Bottle and flute: the laws, measured on the rendered sound and on rendered pixels."""

import numpy as np
import pytest
from things import heard, seen

from avlab.world.families.air import KINDS, spaced
from avlab.world.kinds import Event

RATE, SIDE = 16000, 512
RED, BLUE = (200, 60, 60), (60, 60, 150)
COMMON = {"x": 0.5, "y": 0.55, "tilt": 0.0, "colour": RED, "accent": BLUE, "coat": "painted"}
BOTTLE = COMMON | {"size": 18 / 64, "fill": 0.4, "material": "glass"}
FLUTE = COMMON | {"size": 18 / 64, "tune": 0.1, "material": "metal"}
PUFFS = [Event(0.2, 0.5, 0.4), Event(0.8, 1.0, 0.5)]
MELODY = [Event(0.2 + 0.5 * k, 0.8, 0.4) for k in range(8)]


def frames(kind, factors, events, times, side=SIDE):
    return seen(kind, factors, events, times, side)[0]


def strongest(wave, rate=RATE, low=80.0):
    """The frequency in Hz of the highest peak of the spectrum, to a small part of a bin."""
    n = 16 * len(wave)
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), n))
    hertz = np.fft.rfftfreq(n, 1 / rate)
    return hertz[np.argmax(power * (hertz > low))]


def near(picture, colour):
    return (np.abs(picture.astype(int) - colour) <= 6).all(-1)


@pytest.mark.parametrize(("size", "fill"), [(18 / 64, 0.1), (18 / 64, 0.45), (18 / 64, 0.8), (11 / 64, 0.3)])
def test_a_bottle_sounds_as_helmholtz_says_of_its_pixels(size, fill):
    factors = BOTTLE | {"size": size, "fill": fill}
    picture = frames("bottle", factors, [], [0.0])[0]
    metre = 0.06 * (64 / 18) / SIDE  # of a pixel: the radius is `size` of the picture, the largest 0.06 m
    middle = SIDE // 2
    surface = np.flatnonzero(near(picture[:, middle], tuple(int(1.4 * c) for c in BLUE))).mean()
    widths = near(picture, RED).sum(1)
    air = np.flatnonzero((widths > 0) & (np.arange(SIDE) < surface - 4))  # the rim of the liquid hides a few rows
    body = widths[air].max()
    neck = np.median(widths[air[:10]])
    foot = air[np.argmax(widths[air] > neck + 2)]
    volume = np.pi / 4 * (widths[foot : air[-1]] ** 2).sum() + np.pi / 4 * body**2 * (surface - air[-1])
    length = foot - air[0] + 1.46 * neck / 2
    expected = 343 / (2 * np.pi) * np.sqrt(np.pi / 4 * neck**2 / (volume * length)) / metre
    assert strongest(heard("bottle", factors, PUFFS)) == pytest.approx(expected, rel=0.02)


def test_more_liquid_and_smaller_bottles_sound_higher():
    pitches = [strongest(heard("bottle", BOTTLE | {"fill": fill}, PUFFS)) for fill in (0.05, 0.3, 0.6, 0.85)]
    assert (np.diff(pitches) > 20).all()
    large, small = (strongest(heard("bottle", BOTTLE | {"size": size}, PUFFS)) for size in (18 / 64, 9 / 64))
    assert small / large == pytest.approx(2, rel=0.01)


def test_a_flute_sounds_as_long_as_its_pixels_are():
    events, starts = MELODY, [event.time + 0.2 for event in MELODY]
    dark = tuple(int(0.3 * c) for c in RED)
    wave, notes = heard("flute", FLUTE, events, 4.5), KINDS["flute"].notes(FLUTE, events)
    seen = set()
    for event, note, picture in zip(events, notes, frames("flute", FLUTE, events, starts), strict=True):
        column = picture[:, SIDE // 2]
        holes = np.flatnonzero(near(column, dark))
        groups = np.split(holes, np.flatnonzero(np.diff(holes) > 3) + 1)
        slit = groups[0].mean()
        end = groups[1].mean() if len(groups) > 1 else np.flatnonzero(near(column, RED)).max() + 1
        expected = 343 / (2 * (end - slit) * 0.22 * (64 / 18) / SIDE)
        a, b = round((event.time + 0.05) * RATE), round((event.time + 0.34) * RATE)
        found = strongest(wave[a:b], low=200)
        assert found == pytest.approx(expected, rel=0.012)
        assert note[:2] == (event.time, event.time + event.length)
        assert note[2] == pytest.approx(69 + 12 * np.log2(found / 440), abs=0.06)
        seen.add(len(groups) - 1)
    assert seen == {0, 1, 2, 3}


def test_the_tune_makes_the_melody_and_size_only_moves_it():
    def melody(factors):
        return [note[2] for note in KINDS["flute"].notes(factors, MELODY)]

    assert melody(FLUTE) != melody(FLUTE | {"tune": 0.5})
    shift = np.subtract(melody(FLUTE | {"size": 9 / 64}), melody(FLUTE))
    np.testing.assert_allclose(shift, 12, atol=1e-9)
    assert (np.abs(np.diff(melody(FLUTE))) > 1).all()
    assert KINDS["flute"].pitch(FLUTE) == pytest.approx(440 * 2 ** ((min(melody(FLUTE)) - 69) / 12))


def test_an_open_pipe_has_even_harmonics_too():
    wave = heard("flute", FLUTE, [Event(0.1, 1.0, 1.8)])[RATE // 2 : RATE * 3 // 2]
    power, first = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))), strongest(wave)
    peaks = [power[round(k * first) - 3 : round(k * first) + 4].max() for k in (1, 2, 3)]
    valleys = [np.median(power[round(k * first) - 9 : round(k * first) + 10]) for k in (1.5, 2.5)]
    np.testing.assert_allclose(np.divide(peaks[1:], peaks[:-1]), 0.6, rtol=0.15)  # metal's brightness
    assert min(peaks) > 20 * max(valleys)


@pytest.mark.parametrize(("kind", "factors"), [("bottle", BOTTLE), ("flute", FLUTE)])
def test_what_is_heard_is_as_strong_and_as_long_as_the_breath_that_is_seen(kind, factors):
    times = np.arange(0, 2, 0.005)
    right = np.arange(192) > (96 if kind == "bottle" else 108)  # the cloud is right of mouth and slit
    top = np.arange(192)[:, None] < 60
    still = [Event(e.time - 5, e.strength, e.length) for e in PUFFS]  # the same fingers, long before the clip
    rest = frames(kind, factors, still, [0.0], side=192)[0]
    changed = (frames(kind, factors, PUFFS, times, side=192) != rest).any(-1) & right & top
    area = changed.sum((1, 2))
    wave = heard(kind, factors, PUFFS)
    level = np.sqrt((wave.reshape(len(times), -1) ** 2).mean(1))
    assert np.corrcoef(np.sqrt(area), level)[0, 1] > 0.9
    halves = [level[(times > e.time + 0.1) & (times < e.time + 0.3)].mean() for e in PUFFS]
    assert halves[0] / halves[1] == pytest.approx(0.5, rel=0.08)
    for event in PUFFS:
        seen = times[(times > event.time - 0.1) & (area > 0)][0]
        later = np.flatnonzero(np.abs(wave[round((event.time - 0.02) * RATE) :]) > 0.02 * np.abs(wave).max())[0]
        found = event.time - 0.02 + later / RATE
        assert abs(seen - event.time) <= 0.0101
        assert abs(found - event.time) <= 0.01
    assert not wave[: round(PUFFS[0].time * RATE)].any()


@pytest.mark.parametrize(
    ("kind", "factors", "lasting", "short"), [("bottle", BOTTLE, "glass", "clay"), ("flute", FLUTE, "metal", "wood")]
)
def test_materials_that_ring_die_away_more_slowly_and_paint_hides_them(kind, factors, lasting, short):
    event = Event(0.2, 1.0, 0.5)
    left = {}
    for material in (lasting, short):
        wave = heard(kind, factors | {"material": material}, [event])
        end = round((event.time + event.length) * RATE)
        left[material] = (wave[end : end + 400] ** 2).sum() / (wave[end - 4000 : end - 2000] ** 2).sum()
    assert left[lasting] > 10 * left[short]
    pictures = [frames(kind, factors | {"material": m}, [event], [0.3], side=64) for m in (lasting, short)]
    assert np.array_equal(*pictures)
    bare = [frames(kind, factors | {"material": m, "coat": "bare"}, [event], [0.3], side=64) for m in (lasting, short)]
    assert not np.array_equal(*bare)


@pytest.mark.parametrize(("kind", "factors"), [("bottle", BOTTLE), ("flute", FLUTE)])
def test_the_same_tone_at_every_sample_rate(kind, factors):
    small = factors | {"size": 7 / 64}
    pitches = [strongest(heard(kind, small, PUFFS, rate=rate), rate) for rate in (8000, 16000, 44100)]
    np.testing.assert_allclose(pitches, pitches[0], rtol=0.01)
    assert heard(kind, small, [], 0.7).shape == (11200,)
    assert not heard(kind, small, []).any()


def test_harmonics_that_do_not_fit_are_left_out():
    short = FLUTE | {"size": 7 / 64, "tune": 0.8}  # all three holes open
    wave = heard("flute", short, [Event(0.1, 1.0, 1.2)], rate=8000)[2000:9000]
    power, first = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2, strongest(wave, 8000)
    mirrored = round((8000 - 2 * first) / 8000 * len(wave))  # where the second harmonic would be folded to
    assert 2000 < first < 4000
    assert power[mirrored - 3 : mirrored + 4].max() < 1e-3 * power.max()


@pytest.mark.parametrize("seconds", [0.5, 2.0, 30.0])
def test_events_fit_into_the_clip(seconds):
    rng = np.random.default_rng(1)
    for _ in range(50):
        events = spaced(rng, seconds, most=4, length=(0.2, 0.4), gap=0.3)
        starts, ends = np.array([e.time for e in events]), np.array([e.time + e.length for e in events])
        assert starts[0] >= 0.1
        assert ends[-1] <= seconds
        assert (starts[1:] - ends[:-1] >= 0.3 - 1e-9).all()
        assert all(0.35 <= e.strength <= 1 for e in events)
    assert spaced(np.random.default_rng(7), 2.0, most=4, length=(0.2, 0.4), gap=0.3) == spaced(
        np.random.default_rng(7), 2.0, most=4, length=(0.2, 0.4), gap=0.3
    )


def test_the_same_generator_gives_the_same_sound():
    for kind, factors in (("bottle", BOTTLE), ("flute", FLUTE)):
        assert np.array_equal(heard(kind, factors, PUFFS, seed=4), heard(kind, factors, PUFFS, seed=4))
        assert not np.array_equal(heard(kind, factors, PUFFS, seed=4), heard(kind, factors, PUFFS, seed=5))

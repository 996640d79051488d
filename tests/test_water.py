"""Drops and pouring: the laws, measured on the rendered sound and on rendered pixels."""

import numpy as np
import pytest
from scipy.signal import stft
from things import heard, seen

from avlab.world.families.water import KINDS, drips, pours
from avlab.world.kinds import Event

RATE, SIDE = 16000, 384
RED, BLUE = (200, 60, 60), (60, 60, 150)
COMMON = {"x": 0.5, "y": 0.55, "tilt": 0.0, "colour": RED, "accent": BLUE, "coat": "painted"}
DROPS = COMMON | {"size": 18 / 64, "drop": 0.2, "material": "clay"}
POUR = COMMON | {"size": 18 / 64, "start": 0.1, "material": "glass"}
FALLS = [Event(0.4, 1.0), Event(1.1, 0.5)]
FILLS = [Event(0.3, 0.9, 0.5), Event(1.2, 0.6, 0.6)]


def frames(kind, factors, events, times, side=SIDE):
    return seen(kind, factors, events, times, side)[0]


def owners(kind, factors, events, times):
    """The part seen in each pixel: basin 1, rim 2, water 3, splash 8, drop 9; glass 1, inside 2, jet 4, surface 5."""
    return seen(kind, factors, events, times, SIDE)[1]


def falling(factors, event):
    """Times, rows of the drop's lowest point and its radius (px) while it falls freely, and the row of the water."""
    times = np.arange(event.time - 0.42, event.time, 0.0025)
    ids = owners("drops", factors, [event], times)
    drop = (ids == 9).any(2)
    low = np.array([np.flatnonzero(rows).max(initial=-1) + 1 for rows in drop])
    width = (ids[-1] == 9).any(0).sum()
    free = low > low[drop.any(1)].min() + width + 2  # it no longer swells, it has let go of the pipette
    water = np.flatnonzero((ids[0] == 3).any(1))
    return times[free], low[free], width / 2, (water.min() + water.max() + 1) / 2


@pytest.mark.parametrize(("size", "drop"), [(18 / 64, 0.12), (18 / 64, 0.2), (12 / 64, 0.22)])
def test_a_drop_rings_as_minnaert_says_of_its_pixels(size, drop):
    factors = DROPS | {"size": size, "drop": drop}
    _, _, pixels, _ = falling(factors, FALLS[0])
    radius = 0.12 * pixels * 0.25 * (64 / 18) / SIDE
    expected = 3.26 / radius
    damping = 0.13 / radius + 0.0072 * radius**-1.5
    start = round(FALLS[0].time * RATE)
    ringing = sum(heard("drops", factors, FALLS, seed=seed)[start : start + 800] for seed in range(4))
    age = np.arange(800) / RATE
    trial = np.linspace(0.8, 1.25, 451) * expected  # which rising, dying tone is it most like?
    phase = 2 * np.pi * trial[:, None] * (age + 0.05 * damping * age**2)
    best = trial[np.argmax(np.abs((np.exp(-damping * age - 1j * phase) * ringing).sum(1)))]
    assert best == pytest.approx(expected, rel=0.04)  # half a pixel of 13 is 4 %
    steady = np.abs((np.exp(-damping * age - 2j * np.pi * trial[:, None] * age) * ringing).sum(1)).max()
    assert steady < np.abs((np.exp(-damping * age - 1j * phase) * ringing).sum(1)).max()  # its pitch does rise


def test_drops_fall_freely_and_sound_when_they_touch():
    for event in FALLS:
        at, low, _, water = falling(DROPS, event)
        metre = 0.25 * (64 / 18) / SIDE
        bend, speed, place = np.polyfit(at - event.time, low, 2)
        assert 2 * bend * metre == pytest.approx(9.81, rel=0.1)
        touch = event.time + (water - place) / speed
        wave = heard("drops", DROPS, [event])
        found = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())[0] / RATE
        assert abs(touch - event.time) < 0.005
        assert abs(found - touch) < 0.01
        assert not wave[: round(event.time * RATE)].any()


def test_faster_drops_are_louder_in_proportion():
    speeds, peaks = [], []
    for event in (Event(0.5, 1.0), Event(0.5, 0.6)):
        at, low, _, _ = falling(DROPS, event)
        speeds.append(np.polyfit(at - event.time, low, 2)[1])  # px/s at contact
        wave = np.mean([heard("drops", DROPS, [event], seed=seed) for seed in range(8)], axis=0)
        peaks.append(np.abs(wave).max())
    assert speeds[1] / speeds[0] == pytest.approx(peaks[1] / peaks[0], rel=0.06)


def test_the_splash_follows_the_drop_and_is_as_high_as_it_was_fast():
    def heights(strength):
        ids = owners("drops", DROPS, [Event(0.5, strength)], np.array([0.49, 0.55, 0.65, 1.0]))
        return [SIDE - np.flatnonzero((picture == 8).any(1)).min(initial=SIDE) for picture in ids]

    strong, weak = heights(1.0), heights(0.4)
    base = SIDE * (1 - 0.55 - 0.28 * 18 / 64)  # the water's middle, from below
    assert strong[0] == strong[3] == weak[0] == weak[3] == 0
    np.testing.assert_allclose((np.array(weak[1:3]) - base) / (np.array(strong[1:3]) - base), 0.4, atol=0.06)


def test_a_basin_of_metal_rings_longest_and_one_of_clay_shortest():
    left = []
    for material in ("clay", "glass", "metal"):
        wave = heard("drops", DROPS | {"material": material}, [FALLS[0]])
        left.append((wave[round(0.6 * RATE) : round(0.8 * RATE)] ** 2).sum())
    assert left[0] * 10 < left[1]
    assert left[1] * 2 < left[2]


def pouring(factors, events, times):
    """The resonance in Hz that the water's level in each frame implies, from pixels alone; the level in px."""
    ids = owners("pour", factors, events, times)
    metre = 0.12 * (64 / 18) / SIDE
    cavity = np.flatnonzero((ids[0] == 2).any(1)).min()
    inner = np.ptp(np.flatnonzero((ids[0] == 2).any(0))) / 2
    beside = (ids == 5)[:, :, SIDE // 2 - round(0.7 * inner)]  # the surface, left of the jet
    surface = np.array([np.flatnonzero(column).mean() for column in beside])
    return 343 / (4 * metre * (surface - cavity + 0.5 + 0.61 * inner)), surface


def test_the_resonance_follows_the_level_of_the_pixels():
    times = np.arange(0.3, 1.8, 0.02)
    now = sum((times > e.time + 0.05) & (times < e.time + e.length - 0.05) for e in FILLS).astype(bool)
    expected, _ = pouring(POUR, FILLS, times)
    power = 0
    for seed in range(12):  # noise: the mean over several clips of the same causes
        hertz, at, spectrum = stft(
            heard("pour", POUR, FILLS, seed=seed), RATE, nperseg=1024, noverlap=1024 - 320, nfft=4096
        )
        power = power + np.abs(spectrum) ** 2
    band = (hertz > 200) & (hertz < 1200)
    nearest = [np.argmin(np.abs(at - t)) for t in times[now]]
    share = power[band][:, nearest] ** 2
    found = (hertz[band][:, None] * share).sum(0) / share.sum(0)
    wrong = np.abs(found / expected[now] - 1)
    assert np.median(wrong) < 0.03
    assert wrong.max() < 0.1
    rank = [np.argsort(np.argsort(v)) for v in (found, expected[now])]
    assert np.corrcoef(*rank)[0, 1] > 0.95
    assert expected[-1] > 1.5 * expected[0]


def test_the_level_rises_only_while_it_pours_and_never_over_the_rim():
    times = np.arange(0, 2, 0.01)
    _, rows = pouring(POUR, FILLS, times)
    assert rows[times < 0.29].std() < 0.5
    dry = (times > 0.82) & (times < 1.18)
    assert rows[dry].std() < 0.5
    assert rows[dry].mean() < rows[0] - 10
    rates = [
        np.polyfit(times[now], rows[now], 1)[0]
        for e in FILLS
        for now in [(times > e.time + 0.05) & (times < e.time + e.length - 0.05)]
    ]
    assert rates[1] / rates[0] == pytest.approx(0.6 / 0.9, rel=0.06)
    flood, surface = pouring(POUR, [Event(0.2, 1.0, 1.7)], np.array([1.6, 1.9]))
    assert abs(surface[0] - surface[1]) <= 1
    assert np.isfinite(flood).all()


def test_the_jet_touches_the_water_when_the_pour_is_heard_and_is_as_wide_as_that_is_loud():
    times = np.arange(0, 2, 0.005)
    _, surface = pouring(POUR, FILLS, times)
    jet, wave = owners("pour", POUR, FILLS, times) == 4, heard("pour", POUR, FILLS)
    widths, levels = [], []
    for event in FILLS:
        coming = (times > event.time - 0.1) & (times < event.time + 0.1)
        low = np.array([np.flatnonzero(p.any(1)).max(initial=0) for p in jet[coming]])
        touch = times[coming][np.argmax(low > surface[coming] - 10)]  # the surface is drawn over the jet's end
        a = round((event.time - 0.05) * RATE)
        found = event.time - 0.05 + np.flatnonzero(np.abs(wave[a:]) > 0.03 * np.abs(wave).max())[0] / RATE
        assert abs(touch - event.time) <= 0.0101
        assert abs(found - event.time) < 0.01
        assert abs(found - touch) < 0.0151
        flowing = jet[np.searchsorted(times, event.time + event.length / 2)]
        widths.append(flowing.sum(1).max())
        b = round((event.time + 0.05) * RATE)
        levels.append(np.sqrt((wave[b : b + RATE // 4] ** 2).mean()))
        assert not wave[round((event.time - 0.02) * RATE) : round(event.time * RATE)].std() > 1e-3 * wave.std()
    assert widths[0] > 1.2 * widths[1]
    assert levels[0] > 1.2 * levels[1]


def test_glass_resonates_more_sharply_than_clay():
    steady = [Event(0.2, 0.05, 1.7)]  # hardly any rise
    shares = []
    for material in ("glass", "metal", "clay"):
        wave = heard("pour", POUR | {"material": material}, steady)[RATE // 2 : RATE * 3 // 2]
        hertz, power = np.fft.rfftfreq(len(wave), 1 / RATE), np.abs(np.fft.rfft(wave)) ** 2
        first = KINDS["pour"].pitch(POUR)
        shares.append(power[np.abs(hertz - first) < 25].sum() / power[np.abs(hertz - first) < 300].sum())
    assert shares[0] > shares[1] > 1.3 * shares[2]


@pytest.mark.parametrize(("kind", "factors", "events"), [("drops", DROPS, FALLS), ("pour", POUR, FILLS)])
def test_half_the_size_is_twice_the_pitch_and_paint_hides_the_material(kind, factors, events):
    assert KINDS[kind].pitch(factors | {"size": 9 / 64}) == pytest.approx(2 * KINDS[kind].pitch(factors))
    pictures = [frames(kind, factors | {"material": m}, events, [0.5], side=64) for m in ("glass", "clay")]
    assert np.array_equal(*pictures)
    bare = [frames(kind, factors | {"material": m, "coat": "bare"}, events, [0.5], side=64) for m in ("glass", "clay")]
    assert not np.array_equal(*bare)
    assert np.array_equal(heard(kind, factors, events, seed=4), heard(kind, factors, events, seed=4))
    assert not heard(kind, factors, []).any()
    assert heard(kind, factors, events, 0.7, 44100).shape == (30870,)


@pytest.mark.parametrize("beats", [drips, pours])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 30.0])
def test_water_comes_early_enough_to_be_heard_and_apart(beats, seconds):
    rng = np.random.default_rng(1)
    for _ in range(50):
        events = beats(rng, seconds)
        starts, ends = np.array([e.time for e in events]), np.array([e.time + e.length for e in events])
        assert starts[0] >= 0.1
        assert ends[-1] <= seconds - 0.05
        assert (starts[1:] - ends[:-1] >= 0.3 - 1e-9).all()

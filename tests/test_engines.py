"""Engines, rotors and cars: what is heard against the rotation and the speed measured on the pixels."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from things import heard, peak, seen, sketched

from avlab.world.families.engines import KINDS, pulse_train
from avlab.world.kinds import Event, Factors

RATE, FPS, SIZE = 16000, 100, 256
COLOUR, ACCENT = (120, 90, 60), (40, 220, 150)
OWN = {
    "engine": {"material": "wood", "rate": 1.2, "surge": 0.3},
    "rotor": {"material": "metal", "inertia": 0.2},
    "car": {"material": "rubber", "speed": 0.4, "crossing": 0.7},
}


def thing(kind: str, **own: Any) -> dict[str, Any]:
    shared = {"size": 14 / 64, "x": 0.45, "y": 0.5, "tilt": 0.0, "coat": "painted", "colour": COLOUR, "accent": ACCENT}
    return {**shared, **OWN[kind], **own}


def drawn(kind: str, factors: Factors, events: list[Event], times: np.ndarray) -> np.ndarray:
    """Frames (N, H, W, 3) on black."""
    return seen(kind, factors, events, times, SIZE)[0]


def turns_seen(frames: np.ndarray, hub: tuple[float, float], near: float, far: float) -> np.ndarray:
    """Turns of the bright spoke since the first frame, from its pixels `near` to `far` px from the hub."""
    out = []
    for frame in frames:
        y, x = np.nonzero((frame == ACCENT).all(axis=-1))
        away = np.hypot(x - hub[0], y - hub[1])
        ring = (away > near) & (away < far)
        out.append(np.arctan2(y[ring].mean() - hub[1], x[ring].mean() - hub[0]))
    turned = np.unwrap(out) / (2 * np.pi)
    return np.abs(turned - turned[0])


def engine_turns(factors: Factors, events: list[Event], times: np.ndarray) -> np.ndarray:
    """Turns of the flywheel; its hub is the middle of its rim, the one part in the plain colour."""
    frames = drawn("engine", factors, events, times)
    y, x = np.nonzero((frames == COLOUR).all(axis=-1).mean(axis=0) > 0.2)  # less often: the edge of a puff
    radius = np.ptp(y) / 2
    return turns_seen(frames, ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2), 0.7 * radius, 1.3 * radius)


def rotor_turns(factors: Factors, events: list[Event], times: np.ndarray) -> np.ndarray:
    """Turns of the fan; its hub lies a fifth of a radius above its place."""
    radius = factors["size"] * SIZE
    hub = (factors["x"] * SIZE - 0.5, factors["y"] * SIZE - 0.2 * radius - 0.5)
    return turns_seen(drawn("rotor", factors, events, times), hub, 0.4 * radius, radius)


def pulses_heard(sound: np.ndarray) -> np.ndarray:
    """Times at which the power of 2 ms rises tenfold above that of the 20 ms before."""
    power = np.convolve(sound**2, np.ones(RATE // 500) / (RATE // 500))[: len(sound)]
    before = np.convolve(sound**2, np.ones(RATE // 50) / (RATE // 50))[: len(sound)]
    rises = np.flatnonzero(power > 10 * np.roll(before, RATE // 250) + 1e-9 * power.max())
    return rises[np.diff(rises, prepend=-RATE) > RATE // 40] / RATE


# --- the engine


@pytest.mark.parametrize(("rate", "surge", "x"), [(0.8, 0.0, 0.3), (1.2, 0.4, 0.6), (1.7, 0.75, 0.45)])
def test_an_engine_is_heard_whenever_a_spoke_has_turned_by_a_quarter(rate, surge, x):
    factors, events = thing("engine", rate=rate, surge=surge, x=x), [Event(0.2, 1.0, 0.9), Event(1.35, 0.5, 0.55)]
    times = np.arange(2 * FPS) / FPS
    seen = engine_turns(factors, events, times)
    quarter = [float(np.interp(k / 4, seen + 1e-9 * times, times)) for k in range(round(4 * seen[-1]) + 1)]
    stops = [times[np.flatnonzero(seen < k / 4 + 0.004)[-1]] for k in range(round(4 * seen[-1]) + 1)]
    found = pulses_heard(heard("engine", factors, events))
    # a contact at which the wheel comes to rest is silent; the next run sounds as it leaves it
    expected = sorted(
        {round(stop if stop - touch > 0.05 else touch, 3) for touch, stop in zip(quarter, stops, strict=True)}
    )
    expected = [t for t in expected if t < 1.95]
    assert len(found) == len(expected) >= 3
    np.testing.assert_allclose(found, expected, atol=0.012)
    for event in events:
        assert np.abs(found - event.time).min() < 0.003


def test_an_engine_turns_at_its_rate_and_surges():
    factors, events, times = thing("engine", rate=1.0, surge=0.5), [Event(0.1, 1.0, 3.8)], np.arange(3 * FPS) / FPS
    seen = engine_turns(factors, events, times)
    assert seen[FPS // 10 + int(1.6 * FPS)] == pytest.approx(1.6, abs=0.02)  # one period of the swell: the mean rate
    rate = np.diff(seen[::10]) * FPS / 10
    middle = (times[::10][:-1] + 0.025)[4:]
    assert rate[4:].max() == pytest.approx(1.3, abs=0.03)
    assert rate[4:].min() == pytest.approx(0.7, abs=0.03)
    fastest = middle[rate[4:].argmax()] / 1.6 % 1
    assert abs(fastest - 0.5) < 0.06


def test_an_engine_is_as_loud_as_it_is_fast():
    factors, events, times = thing("engine", rate=1.7, surge=0.1), [Event(0.1, 1.0, 2.8)], np.arange(3 * FPS) / FPS
    sound, seen = heard("engine", factors, events, seconds=3.0), engine_turns(factors, events, times)
    found = pulses_heard(sound)
    assert len(found) > 12
    level = [np.sqrt((sound[int(t * RATE) : int((t + 0.05) * RATE)] ** 2).mean()) for t in found]
    speed = np.interp(found + 0.01, times, np.gradient(seen, times))
    assert np.corrcoef(level[1:], speed[1:])[0, 1] > 0.95


@pytest.mark.parametrize("size", [10 / 64, 14 / 64, 18 / 64])
def test_an_engine_rings_lower_the_larger_it_is(size):
    sound = heard("engine", thing("engine", size=size, material="steel"), [Event(0.1, 1.0, 0.1)], seconds=0.5)
    f0 = 240 * (18 / 64) / size
    for ratio in (1, 2.4, 4.3):
        assert peak(sound[int(0.11 * RATE) :], 0.8 * ratio * f0, 1.2 * ratio * f0) == pytest.approx(
            ratio * f0, rel=0.01
        )


@pytest.mark.parametrize(("material", "damping"), [("steel", 22), ("wood", 80)])
def test_an_engines_pulses_die_by_their_material(material, damping):
    sound = heard("engine", thing("engine", material=material), [Event(0.1, 1.0, 0.1)], seconds=0.4)
    starts = np.arange(0.13, 0.22, 0.005)
    level = [np.sqrt((sound[int(t * RATE) :][: RATE // 50] ** 2).mean()) for t in starts]
    assert -np.polyfit(starts, np.log(level), 1)[0] == pytest.approx(damping, rel=0.05)


# --- the rotor


@pytest.mark.parametrize("size", [10 / 64, 14 / 64, 18 / 64])
def test_a_rotors_tone_is_150_times_its_seen_turns(size):
    factors, events = thing("rotor", size=size, inertia=0.3), [Event(0.1, 1.0, 1.0)]
    times = np.arange(2 * FPS) / FPS
    sound, seen = heard("rotor", factors, events), rotor_turns(factors, events, times)
    for t in (0.5, 0.8, 1.0, 1.3):  # spinning up, and down again
        rate = (np.interp(t + 0.06, times, seen) - np.interp(t - 0.06, times, seen)) / 0.12
        tone = peak(sound[int((t - 0.06) * RATE) : int((t + 0.06) * RATE)], 110 * rate, 190 * rate)
        assert tone / rate == pytest.approx(150, rel=0.05)
    full = np.ptp(np.interp((0.9, 1.1), times, seen)) / 0.2 / (1 - np.exp(-0.9 / 0.3))
    assert full == pytest.approx((18 / 64) / size, rel=0.03)  # one turn a second for the largest


@pytest.mark.parametrize("inertia", [0.08, 0.35])
def test_a_rotor_spins_up_and_down_with_its_inertia(inertia):
    times = np.arange(4 * FPS) / FPS
    seen = rotor_turns(thing("rotor", inertia=inertia), [Event(0.2, 1.0, 2.3)], times)
    off = round(2.5 * FPS)
    full = (seen[off - 5] - seen[off - 35]) / 0.3
    assert seen[: FPS // 5].max() == 0
    # turns missed while spinning up, and made while spinning down, are each full speed times the inertia
    assert full * 2.3 - seen[off] == pytest.approx(full * inertia, abs=0.02)
    assert seen[-1] - seen[off] == pytest.approx(full * inertia, abs=0.02)


def test_a_stronger_rotor_is_faster_and_louder():
    made = [(heard("rotor", thing("rotor"), [Event(0.1, s, 1.8)])[RATE:], s) for s in (0.35, 1.0)]
    slow, fast = (peak(sound, 100, 260) for sound, _ in made)
    assert slow / fast == pytest.approx(0.6 + 0.4 * 0.35, rel=0.01)
    assert np.std(made[0][0]) < 0.85 * np.std(made[1][0])


def test_materials_of_a_rotor_differ_in_harmonics():
    level = {}
    for material in KINDS["rotor"].materials:
        sound = heard("rotor", thing("rotor", material=material), [Event(0.0, 1.0, 2.0)])[RATE:]
        f0 = peak(sound, 150, 250)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        level[material] = [spectrum[round(k * f0) - 2 : round(k * f0) + 3].max() for k in (1, 2)]
    ratio = {m: b / a for m, (a, b) in level.items()}
    assert ratio["metal"] > ratio["wood"] * 1.2 > ratio["rubber"] * 1.2**2


def test_pulses_have_the_harmonics_that_there_is_room_for():
    spectrum = np.abs(np.fft.rfft(pulse_train(np.arange(240) / 240, 16, 9.3).astype(float)))
    assert spectrum[1:9].min() > 1e-4 > spectrum[9:].max()
    assert spectrum[0] < 1e-4
    assert spectrum[2] / spectrum[1] == pytest.approx((7 * 8) / (9 * 10) * 9 / 8, rel=1e-4)  # C(16, 10) / C(16, 9)


# --- the car


def car_middle(frames: np.ndarray) -> np.ndarray:
    """The middle of what is seen, left to right, as a share of the side."""
    columns = frames.any(axis=(1, 3))
    return (columns.argmax(1) + SIZE - columns[:, ::-1].argmax(1)) / 2 / SIZE


@pytest.mark.parametrize(("x", "speed"), [(0.3, 0.25), (0.65, 0.4)])
def test_a_car_is_seen_on_its_path(x, speed):
    factors, times = thing("car", x=x, speed=speed, crossing=0.5), np.arange(0.3, 0.9, 0.02)
    middle = car_middle(drawn("car", factors, [Event(1.5, 1.0, 0.2)], times))
    path = KINDS["car"].path(factors, [Event(1.5, 1.0, 0.2)], times)
    np.testing.assert_allclose(middle, path, atol=1.5 / SIZE)
    assert np.polyfit(times, middle, 1)[0] == pytest.approx(speed if x < 0.5 else -speed, rel=0.02)
    assert middle[np.abs(times - 0.5).argmin()] == pytest.approx(x, abs=1.5 / SIZE)


@pytest.mark.parametrize("speed", [0.15, 0.36])
def test_a_passing_car_falls_in_pitch_by_its_seen_speed(speed):
    factors, late = thing("car", x=0.499, speed=speed, crossing=4.0), [Event(7.9, 1.0, 0.1)]
    times = np.arange(3.6, 4.4, 0.02)
    v = 110 * np.polyfit(times, car_middle(drawn("car", factors, late, times)), 1)[0]  # m/s: the picture is 110 m wide
    sound = heard("car", factors, late, seconds=8.0)
    f0 = 110 * 18 / 14
    before, after = (peak(part, 0.8 * f0, 1.25 * f0) for part in (sound[: RATE // 2], sound[-RATE:][: RATE // 2]))
    assert before / after == pytest.approx((343 + abs(v)) / (343 - abs(v)), rel=0.01)
    assert np.sqrt(before * after) == pytest.approx(f0 / np.sqrt(1 - (v / 343) ** 2), rel=0.01)


def test_a_car_is_heard_as_it_was_when_the_sound_left_it():
    factors, late = thing("car", x=0.4, speed=0.36, crossing=1.0, size=10 / 64), [Event(1.97, 0.4, 0.02)]
    sound, f0, v = heard("car", factors, late), 110 * 1.8, 110 * 0.36

    def distance(s: float) -> float:
        return float(np.hypot(110 * (0.4 - 0.5) + v * (s - 1.0), 15.0))

    def sent(t: float) -> float:
        return brentq(lambda s: s + distance(s) / 343 - t, -5, 5)

    for t in (0.3, 0.9, 1.2, 1.3, 1.8):
        part = sound[int((t - 0.03) * RATE) : int((t + 0.03) * RATE)]
        expected = 3 * f0 * (sent(t + 0.03) - sent(t - 0.03)) / 0.06
        assert peak(part, 2.6 * f0, 3.4 * f0) == pytest.approx(expected, rel=0.01)
    where = np.arange(0.1, 1.9, 0.1)
    level = [np.sqrt((sound[int((t - 0.05) * RATE) : int((t + 0.05) * RATE)] ** 2).mean()) for t in where]
    away = np.array([distance(sent(t)) for t in where])
    np.testing.assert_allclose(level * away / np.mean(level * away), 1, atol=0.08)


@pytest.mark.parametrize("size", [10 / 64, 18 / 64])
def test_a_larger_car_hums_lower(size):
    factors = thing("car", x=0.499, speed=0.2, crossing=1.0, size=size)
    sound = heard("car", factors, [Event(1.97, 0.4, 0.02)])
    f0, nearest = 110 * (18 / 64) / size, 1.0 + 15 / 343  # the middle of the glide: there it is f0
    part = sound[int((nearest - 0.1) * RATE) : int((nearest + 0.1) * RATE)]
    assert peak(part, 0.8 * f0, 1.2 * f0) == pytest.approx(f0, rel=0.01)


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_the_lamp_flashes_while_the_horn_is_heard(strength):
    factors, time = thing("car", x=0.45, speed=0.3, crossing=1.0), 0.9
    times = np.arange(0.85, 1.2, 0.001)
    bright = np.array([(f == [min(255, int(1.6 * c)) for c in ACCENT]).all(-1).sum() for f in
                       drawn("car", factors, [Event(time, strength, 0.2)], times)])  # fmt: skip
    lit = times[bright > 0]
    honk = heard("car", factors, [Event(time, strength, 0.2)]) - heard("car", factors, [Event(1.99, 0.5, 0.005)])
    loud = np.flatnonzero(np.abs(honk[: int(1.9 * RATE)]) > 0.02 * np.abs(honk).max()) / RATE
    assert abs(lit[0] - loud[0]) < 0.005
    assert abs(lit[0] - time) < 0.002
    assert abs(lit[-1] - loud[-1]) < 0.01
    radius = np.sqrt(bright.max() / np.pi) / (SIZE * 14 / 64)
    assert radius == pytest.approx(np.sqrt((0.1 + 0.3 * strength) * (0.15 + 0.45 * strength)), rel=0.1)


def test_wheels_roll_without_slipping():
    quarter = np.pi / 2 * 0.4  # radii, for wheels of 0.4
    factors = thing("car", size=32 / SIZE / quarter, speed=0.25, crossing=1.0, x=0.45)
    shown = drawn("car", factors, [Event(1.9, 1.0, 0.1)], 1.0 + np.array([0.0, 16 / SIZE, 32 / SIZE]) / 0.25)
    rolled = [np.roll(frame, -shift, axis=1).astype(int) for frame, shift in zip(shown, (0, 16, 32), strict=True)]
    assert (np.abs(rolled[2] - rolled[0]) > 60).mean() < 1e-3  # four spokes: a quarter turn looks the same
    assert (np.abs(rolled[1] - rolled[0]) > 60).mean() > 1e-2


# --- all of them


@pytest.mark.parametrize("kind", list(KINDS))
def test_with_no_events_all_is_at_rest_and_silent(kind):
    frames = drawn(kind, thing(kind), [], np.arange(16) / 8)
    assert (frames == frames[0]).all()
    assert not heard(kind, thing(kind), []).any()


@pytest.mark.parametrize("kind", ["engine", "rotor"])
def test_what_is_switched_on_begins_at_its_event(kind):
    for start in (0.1234, 0.61803):
        factors, events = thing(kind), [Event(start, 0.7, 0.8)]
        begins = np.flatnonzero(np.abs(heard(kind, factors, events)) > 0)[0] / RATE
        assert 0 <= begins - start < 0.002
        times = start + np.arange(-20, 20) / 1000
        frames = drawn(kind, factors, events, times)
        first = times[np.flatnonzero((frames != frames[0]).any(axis=(1, 2, 3)))[0]]
        assert abs(first - start) < 0.004


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("seconds", [0.5, 2.0, 30.0])
def test_beats_fit_into_the_clip_and_can_be_heard(kind, seconds):
    rng = np.random.default_rng(3)
    for size in (7 / 64, 14 / 64, 22 / 64):
        events, factors = KINDS[kind].beats(rng, seconds), thing(kind, size=size)
        assert events[0].time >= 0.1
        assert all(a.time + a.length <= b.time for a, b in pairwise(events))
        assert events[-1].time < seconds
        for rate in (8000, 16000) if seconds < 30 else ():
            sound = KINDS[kind].sound(factors, events, seconds=seconds, sample_rate=rate, rng=np.random.default_rng(4))
            assert sound.shape == (seconds * rate,)
            assert sound.dtype == np.float32
            assert np.isfinite(sound).all()
            assert np.abs(sound).max() > 0


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("material", ["wood", "steel"])
def test_a_thing_fills_its_place_with_the_same_parts_at_any_time(kind, material):
    counts, times = set(), np.linspace(0.69, 0.71, 7)  # about the car's crossing
    for x in (0.45, 0.55):
        for events in ([], [Event(0.1, 1.0, 1.5)], [Event(0.2, 1.0, 0.1), Event(0.65, 0.5, 0.2)]):
            factors = thing(kind, x=x, material=material, coat="bare")
            counts.add(len(sketched(kind, factors, events, times).parts))
            shown = drawn(kind, factors, events, times).any(axis=-1)
            _, rows, columns = np.nonzero(shown)
            right, down = (columns + 0.5) / SIZE - x, (rows + 0.5) / SIZE - 0.5
            assert np.abs(right).max() < 1.35 * 14 / 64
            assert -1.85 * 14 / 64 < down.min() < down.max() < 1.35 * 14 / 64
            assert shown.mean() > 1.5 * (14 / 64) ** 2
    assert len(counts) == 1

"""Struck things: modes, decay and loudness measured on their sound, contact and swing on their pixels."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import things
from scipy.optimize import brentq
from scipy.special import iv, ivp, jn_zeros, jv, jvp
from things import middle, seen, sketched

from avlab.world.families.struck import KINDS
from avlab.world.kinds import Event

RATE = 16000
heard = partial(things.heard, seconds=0.6)
SIZES = (7 / 64, 10 / 64, 13 / 64, 18 / 64, 22 / 64)


def clamped(x: float, n: int) -> float:
    """Zero at a mode of a clamped circular plate with `n` nodal diameters."""
    return jv(n, x) * ivp(n, x) / iv(n, x) - jvp(n, x)


def roots(function, low: float, high: float) -> list[float]:
    x = np.arange(low, high, 0.05)
    return [brentq(function, a, b) for a, b in pairwise(x) if function(a) * function(b) < 0]


BAR_ROOTS = roots(lambda x: np.cos(x) - 1 / np.cosh(x), 1.0, 15.0)
MEMBRANE_ROOTS = sorted(root for n in range(6) for root in jn_zeros(n, 3))[:6]
PLATE_ROOTS = sorted(root for n in range(6) for root in roots(lambda x, n=n: clamped(x, n), 1.0 + n / 2, 9.1))
MODES = {  # relative to the pitch, from the equations
    "bar": [(x / BAR_ROOTS[0]) ** 2 for x in BAR_ROOTS],
    "drum": [x / MEMBRANE_ROOTS[0] for x in MEMBRANE_ROOTS],
    "plate": [(x / PLATE_ROOTS[0]) ** 2 for x in PLATE_ROOTS],
    "bell": [0.5, 1, 1.2, 1.5, 2, 3, 4],
}
LARGEST = {"bar": 180.0, "drum": 105.0, "plate": 130.0, "bell": 330.0}  # Hz at a radius of 18/64
POWER = {"bar": 2, "drum": 1, "plate": 2, "bell": 1}
RAYLEIGH = {
    "metal": (1.5, 2e-8),
    "glass": (4.0, 6e-8),
    "wood": (9.0, 6e-7),
    "clay": (16.0, 2e-7),
    "rubber": (28, 1.5e-6),
}


def thing(kind: str, **changes) -> dict:
    factors = {"size": 14 / 64, "x": 0.5, "y": 0.5, "tilt": 0.0, "colour": (90, 150, 200), "accent": (210, 110, 60)}
    return {**factors, "material": KINDS[kind].materials[0], "coat": "bare", **changes}


def modes(sound: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies (Hz), decay rates (1/s) and amplitudes of `count` damped oscillations, by the matrix pencil."""
    H = np.lib.stride_tricks.sliding_window_view(sound, 420)
    basis = np.linalg.svd(H, full_matrices=False)[2][: 2 * count].T
    z = np.linalg.eigvals(np.linalg.lstsq(basis[:-1], basis[1:], rcond=None)[0])
    z = z[z.imag > 0]
    z = z[np.argsort(z.imag / z.real if (z.real > 0).all() else np.angle(z))]
    gains = np.linalg.lstsq(np.concatenate([z, z.conj()]) ** np.arange(len(sound))[:, None], sound, rcond=None)[0]
    return np.angle(z) * RATE / (2 * np.pi), -np.log(np.abs(z)) * RATE, 2 * np.abs(gains[: len(z)])


def expected(kind: str, size: float) -> np.ndarray:
    f = LARGEST[kind] * (18 / 64 / size) ** POWER[kind] * np.array(MODES[kind])
    return f[f < 0.45 * RATE]


# --- sound


@pytest.mark.parametrize("kind", list(KINDS))
def test_modes_are_those_of_the_equations(kind):
    assert len(MODES[kind]) == {"bar": 4, "drum": 6, "plate": 7, "bell": 7}[kind]
    for size in SIZES:
        material = "metal"
        law = expected(kind, size)
        found, decay, _ = modes(
            heard(kind, thing(kind, size=size, material=material), [Event(0.0, 1.0)])[:1260], len(law)
        )
        assert found == pytest.approx(law, rel=1e-3)
        alpha, beta = RAYLEIGH[material]
        assert decay == pytest.approx(alpha + beta * (2 * np.pi * law) ** 2, rel=0.02)


@pytest.mark.parametrize(("kind", "material"), [(k, m) for k in KINDS for m in KINDS[k].materials])
def test_materials_decay_by_rayleighs_law(kind, material):
    law = expected(kind, 14 / 64)
    found, decay, _ = modes(heard(kind, thing(kind, material=material), [Event(0.0, 0.7)])[:1260], len(law))
    alpha, beta = RAYLEIGH[material]
    assert found == pytest.approx(law, rel=2e-3)
    assert decay == pytest.approx(alpha + beta * (2 * np.pi * law) ** 2, rel=0.03)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_hit_drives_a_mode_as_a_push_of_hertzs_length(kind):
    amplitudes, contact = {}, 2.4e-3 if kind == "drum" else 6e-4
    law = expected(kind, 14 / 64)
    for v in (0.35, 1.0):
        amplitudes[v] = modes(heard(kind, thing(kind, material="metal"), [Event(0.0, v)])[:1260], len(law))[2]
        t = np.linspace(-0.5, 0.5, 2001) * contact * v**-0.2  # a half-sine push, and what a mode takes from it
        push = np.cos(np.pi * t / np.ptp(t))
        taken = [abs(np.trapezoid(push * np.exp(2j * np.pi * f * t), t)) / np.trapezoid(push, t) for f in law]
        assert amplitudes[v] * np.sqrt(np.arange(1, len(law) + 1)) == pytest.approx(v * np.array(taken), rel=0.02)


@pytest.mark.parametrize("kind", list(KINDS))
def test_harder_is_louder_and_brighter(kind):
    power = [np.abs(np.fft.rfft(heard(kind, thing(kind), [Event(0.1, v)]))) ** 2 for v in (0.35, 0.6, 1.0)]
    level = np.sqrt([p.sum() for p in power])
    bright = [(p * np.arange(len(p))).sum() / p.sum() for p in power]
    assert level[1] > level[0] * 0.6 / 0.35
    assert level[2] > level[1] / 0.6
    assert bright[0] * 1.01 < bright[1] < bright[2] / 1.01


@pytest.mark.parametrize("kind", list(KINDS))
def test_hits_add_up_and_begin_at_their_time(kind):
    early, late, factors = Event(0.1003, 0.9), Event(0.3507, 0.4), thing(kind)
    first, both = heard(kind, factors, [early]), heard(kind, factors, [early, late])
    for event, sound in ((early, first), (late, both - first)):
        begins = np.flatnonzero(np.abs(sound) > 1e-3 * np.abs(sound).max())[0] / RATE
        assert 0 <= begins - event.time < 0.001
    assert not first[: int(0.1003 * RATE)].any()
    np.testing.assert_allclose(both, first + heard(kind, factors, [late]), atol=1e-5)
    np.testing.assert_array_equal(heard(kind, factors, [late, early]), both)
    assert not heard(kind, factors, []).any()
    assert not heard(kind, factors, [Event(0.59999, 1.0), Event(2.0, 1.0)])[:-1].any()


def test_modes_above_what_the_rate_can_hold_are_left_out():
    law = expected("bar", 13 / 64)
    for rate, highest in ((6000, law[2]), (48000, law[3])):
        sound = heard("bar", thing("bar", size=13 / 64, material="metal"), [Event(0.0, 1.0)], rate=rate)
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
        peak = np.fft.rfftfreq(len(sound), 1 / rate)[power > 1e-6 * power.max()].max()
        assert peak == pytest.approx(highest, abs=50)


# --- picture


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_head_touches_when_it_is_heard(kind):
    for tilt, size, strength in ((0.3, 18 / 64, 1.0), (-0.2, 12 / 64, 0.5)):
        factors, events = thing(kind, tilt=tilt, size=size), [Event(0.4003, strength)]
        sound = heard(kind, factors, events)
        onset = np.flatnonzero(np.abs(sound) > 1e-3 * np.abs(sound).max())[0] / RATE
        times = np.arange(60, 100) / 200
        _, ids, sketch = seen(kind, factors, events, times)
        head = middle(ids == len(sketch.parts))
        if kind == "bell":  # the clapper is carried along by the bell: px between it and the corner of the rim
            corners = np.array([max(np.argwhere(frame == 5)[:, ::-1], key=tuple) for frame in ids])
            reach = np.hypot(*(head - corners).T)
        else:  # px towards where it rests
            way = head[0] - head[np.abs(times - onset).argmin()]
            reach = head @ way / np.hypot(*way)
        assert abs(times[reach.argmin()] - onset) <= 0.01
        assert reach.max() - reach.min() > 0.2 * size * 256


@pytest.mark.parametrize("kind", ["bar", "bell"])
def test_seen_from_the_side_head_and_thing_meet_without_a_gap(kind):
    factors, event = thing(kind, size=18 / 64), Event(0.4, 1.0)
    _, ids, sketch = seen(kind, factors, [event], np.array([0.2, 0.35, 0.4]))
    ball, rest = ids == len(sketch.parts), (ids > 0) & (ids < len(sketch.parts) - 1)
    gaps = []
    for k in range(3):
        y, x = np.nonzero(ball[k])
        if kind == "bar":  # from the head down to the bar's upper edge, below the head
            gaps.append(np.flatnonzero(rest[0][:, 128] & ~ball[0][:, 128])[0] - y.max() - 1)
        else:  # from the ball to the edge of the rim, sideways
            gaps.append(np.nonzero(rest[0])[1].max() - x.max())
    assert abs(gaps[2]) <= 3
    assert gaps[0] > gaps[1] > gaps[2] + 5


@pytest.mark.parametrize("kind", list(KINDS))
def test_speed_at_contact_and_swing_go_with_strength(kind):
    speeds, pushed, strengths = [], [], (0.4, 0.7, 1.0)
    for strength in strengths:
        times = np.array([0.0, 0.46, 0.5, 0.6])
        frames, ids, sketch = seen(kind, thing(kind, size=20 / 64), [Event(0.5, strength)], times, side=512)
        head = middle(ids == len(sketch.parts))
        speeds.append(np.hypot(*(head[2] - head[1])) / 0.04)
        number = len(sketch.parts) - 2 if kind == "drum" else {"bar": 4, "plate": 4, "bell": 4}[kind]
        part = sketch.parts[number - 1].points  # drawn as seen: the size of the dip, or the way of the body
        assert (ids[3] == number).any()
        pushed.append(np.abs(part[3] - part[2]).max())
        assert np.any(frames[3] != frames[0])
    assert np.array(speeds) / speeds[2] == pytest.approx(strengths, abs=0.06)
    assert np.array(pushed) / pushed[2] == pytest.approx(strengths, abs=0.06)


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_fills_its_place_and_keeps_to_it(kind):
    r = 14 / 64
    for seed in range(8):
        rng = np.random.default_rng(seed)
        events, times = KINDS[kind].beats(rng, 2.0), np.arange(400) / 200
        _, ids, sketch = seen(kind, thing(kind, tilt=0.3 * (-1) ** seed), events, times, side=96)
        assert len(sketch.parts) <= 14
        assert ((ids > 0).sum(axis=(1, 2)) > 1.5 * (r * 96) ** 2).all()
        _, y, x = np.nonzero(ids)
        c, s, x, y = np.cos(sketch.tilt), np.sin(sketch.tilt), (x - 47.5) / 96 / r, (y - 47.5) / 96 / r
        across, down = x * c + y * s, y * c - x * s  # turned back: radii
        edge = 1.5 / 96 / r
        assert np.abs(across).max() < 1.3 + edge
        assert -1.8 - edge < down.min() < down.max() < 1.3 + edge


@pytest.mark.parametrize("kind", list(KINDS))
def test_moves_without_jumps(kind):
    events = KINDS[kind].beats(np.random.default_rng(4), 2.0)
    sketch = sketched(kind, thing(kind), events, np.arange(0, 2, 0.001))
    for part in sketch.parts:
        if len(part.points) > 1:
            assert np.abs(np.diff(part.points, axis=0)).max() < 0.03 * sketch.radius


def test_one_material_of_each_kind_is_held_out_and_known_from_another():
    for kind, record in KINDS.items():
        (held,) = record.held_out
        assert held in record.materials
        assert any(held in set(other.materials) - set(other.held_out) for name, other in KINDS.items() if name != kind)

"""Engines: flywheel engines that chug, fans that spin up and down, cars that pass. What turns is what is heard.

Law of the engine: every turn of the wheel gives `CHUGS` pulses, one each time a spoke meets the valve, so pulses a
second = `CHUGS` x turns a second. Each pulse rings three resonances at `f0 (1, 2.4, 4.3)`, `f0 ~ 1 / size`, that die
away as `exp(-damping t)` by material. The rate swells by `SURGE` around its mean, and with it the loudness.

Law of the rotor: the tone lies at `GEAR x BLADES x` the turns a second that are seen (real blades pass too fast to be
seen: the gear stands for that). It spins up and down as `1 - exp(-t / inertia)`; its full speed falls with size.

Law of the car: it crosses the picture, `SIDE` metres wide, before an observer `DISTANCE` m in front of the middle. A
sound sent out at `s` is heard at `t = s + r(s) / C`, so that all its frequencies are heard times `ds/dt = 1 / (1 + v_r
/ C)` (Doppler), as loud as `1 / r`. The hum has `f0 ~ 1 / size`. Its horn is blown early by the time of travel, so that
light and honk arrive together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from avlab.world.drawing import Sketch, shade, texture, turned
from avlab.world.kinds import Event, Factors, Kind, falls_with_size, syllables
from avlab.world.sounds import pulse_train

CHUGS = 4  # pulses a turn of the engine
SURGE, PERIOD = 0.3, 1.6  # the engine's rate swells by this share, this often (s)
DAMPING = {"steel": 22.0, "wood": 80.0}  # 1/s
RESONANCES = ((1.0, 1.0), (2.4, 0.7), (4.3, 0.45))  # of the engine: times f0, amplitude
BLADES, GEAR = 3, 50  # of the rotor
HARMONICS = {"metal": 16, "wood": 4, "rubber": 2}  # of the rotor's tone, powers of two
C, SIDE, DISTANCE = 343.0, 110.0, 15.0  # speed of sound in m/s, the car's road in the picture in m, observer in m
TYRES = {"rubber": 500.0, "wood": 1300.0, "steel": 3200.0}  # Hz, up to which the wheels hiss
HORN = 3.0  # the horn's lower tone, times the hum's pitch

engine_pitch = falls_with_size(240.0)
rotor_pitch = falls_with_size(150.0)
car_pitch = falls_with_size(110.0)


def runs(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Stretches of running with rests between, one in each 0.8 to 1.6 s of the clip, with strengths from 0.35 to 1."""
    count = max(1, round(seconds / rng.uniform(0.8, 1.6)))
    share = (seconds - 0.1) / count
    late, long, strong = rng.uniform(0, 0.2, count), rng.uniform(0.7, 0.9, count), rng.uniform(0.35, 1, count)
    return [
        Event(float(0.1 + share * (k + late[k])), float(strong[k]), float(share * (1 - late[k]) * long[k]))
        for k in range(count)
    ]


# --- the engine


def chugs(factors: Factors, event: Event, times: np.ndarray | float) -> np.ndarray:
    """Pulses since the start of a run, as if it never ended: `CHUGS` times its turns, with the swell of its rate."""
    swell = [np.sin(2 * np.pi * (t / PERIOD - factors["surge"])) for t in (times, event.time)]
    turns = times - event.time + SURGE * PERIOD / (2 * np.pi) * (swell[0] - swell[1])
    return CHUGS * factors["rate"] * (0.7 + 0.3 * event.strength) * turns


def whole_chugs(factors: Factors, event: Event) -> int:
    """How many pulses a run has: it stops at the last contact before its end, after one at least."""
    return max(1, int(chugs(factors, event, event.time + event.length)))


def chugged(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """An engine's pulses, each a knock on its resonances and a puff of steam, as loud as the wheel is fast."""
    kicks = np.zeros(round(seconds * sample_rate))
    for event in events:
        clock = np.arange(event.time, event.time + event.length + 2e-3, 1e-3)
        number = chugs(factors, event, clock)
        times = np.interp(np.arange(whole_chugs(factors, event)), number, clock)
        force = event.strength * np.interp(times, clock, np.gradient(number, clock))
        places = np.ceil(times * sample_rate).astype(int)
        inside = places < len(kicks)
        np.add.at(kicks, places[inside], force[inside])
    puff = lfilter([1.0], [1.0, -np.exp(-1 / (0.008 * sample_rate))], kicks)
    out = 0.3 * puff * rng.standard_normal(len(kicks), np.float32)
    for ratio, amplitude in RESONANCES:
        f = ratio * engine_pitch(factors)
        if f < 0.45 * sample_rate:
            decay, angle = np.exp(-DAMPING[factors["material"]] / sample_rate), 2 * np.pi * f / sample_rate
            out += amplitude * lfilter([0.0, np.sin(angle)], [1.0, -2 * decay * np.cos(angle), decay**2], kicks)
    return out.astype(np.float32)


def engine(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A flywheel of `CHUGS` spokes, one of them bright, that drives a piston; a puff from the chimney at each pulse."""
    side = 1 if factors["x"] < 0.5 else -1
    colour, accent, steel = factors["colour"], factors["accent"], shade(factors["colour"], 0.45)
    number, puff = np.zeros(len(times)), np.zeros(len(times))
    age = np.ones(len(times))
    for event in events:
        since, whole = chugs(factors, event, times), whole_chugs(factors, event)
        on = (times >= event.time) & (since < whole)
        number += np.clip(since, 0, whole)
        age[on], puff[on] = since[on] % 1, event.strength
    angle = side * 2 * np.pi * number / CHUGS
    wheel, crank = (side * 0.25, -0.1), 0.45
    sketch.ellipse((-side * 0.8, -1.15 - 0.35 * age), (0.12 + 0.3 * age * puff,) * 2, shade(colour, 1.5), moving=True,
                   seen=(puff > 0) & (age < 0.8))  # fmt: skip
    sketch.box((-side * 0.8, -0.5), (0.17, 0.6), shade(colour, 0.6))
    sketch.box((0, 0.85), (1.1, 0.2), steel)
    sketch.box((-side * 0.72, 0.35), (0.4, 0.5), shade(colour, 0.8))
    texture(sketch, factors, (0.4, 0.5), (-side * 0.72, 0.35))
    sketch.ellipse(wheel, (0.88, 0.88), colour, moving=True)
    sketch.ellipse(wheel, (0.7, 0.7), shade(colour, 0.65), moving=True)
    for k in range(CHUGS // 2):
        a, b = turned([(-0.78, 0.0), (0.78, 0.0)], angle + 2 * np.pi * k / CHUGS, wheel)
        sketch.line(a, b, colour, width=0.12, moving=True)
    (rim,) = turned([(0.82, 0.0)], angle, wheel)
    (pin,) = turned([(crank, 0.0)], angle, wheel)
    rod = np.sqrt(0.95**2 - (pin[1] - wheel[1]) ** 2)
    piston = (pin[0] - side * rod, wheel[1])
    sketch.line(pin, piston, shade(accent, 0.6), width=0.14, moving=True)
    sketch.box(piston, (0.14, 0.2), shade(accent, 0.8), moving=True)
    sketch.line(wheel, rim, accent, width=0.25, moving=True)
    sketch.ellipse(rim, (0.22, 0.22), accent, moving=True)


# --- the rotor


def spin(factors: Factors, events: Sequence[Event], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns a second and turns since the start at `times` (T,): up while an event lasts, down after it."""
    rate, turns = np.zeros(len(times)), np.zeros(len(times))
    slow, full = factors["inertia"], rotor_pitch(factors) / (GEAR * BLADES)
    switched = []
    for k, event in enumerate(events):
        off = event.time + event.length
        switched.append((event.time, full * (0.6 + 0.4 * event.strength)))
        if k + 1 == len(events) or events[k + 1].time > off:
            switched.append((off, 0.0))
    fast, done = 0.0, 0.0
    for k, (start, aim) in enumerate(switched):
        inside = times >= start
        age = times[inside] - start
        left = (fast - aim) * np.exp(-age / slow)
        rate[inside], turns[inside] = aim + left, done + aim * age + slow * (fast - aim - left)
        if k + 1 < len(switched):
            age = switched[k + 1][0] - start
            left = (fast - aim) * np.exp(-age / slow)
            fast, done = aim + left, done + aim * age + slow * (fast - aim - left)
    return rate, turns


def whirred(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A rotor's tone and the whoosh of air, as loud as it is fast, and a click when it is switched on."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    rate, turns = spin(factors, events, times)
    pitch = rotor_pitch(factors)
    level = rate * (GEAR * BLADES / pitch)
    tone = pulse_train(GEAR * BLADES * turns, HARMONICS[factors["material"]], 0.45 * sample_rate / pitch)
    air = 0.35 * level * rng.standard_normal(len(times), np.float32)
    for event in events:
        air[np.searchsorted(times, event.time) :][:1] += 10 * event.strength
    band = butter(1, np.array([4, 10]) * pitch, "bandpass", fs=sample_rate, output="sos")
    return (level * tone + sosfilt(band, air)).astype(np.float32)


def rotor(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A fan on a stand: `BLADES` blades, one of them bright; a lamp on the foot while it is switched on."""
    colour, accent = factors["colour"], factors["accent"]
    angle = 2 * np.pi * spin(factors, events, times)[1]
    on = np.any([(times >= e.time) & (times < e.time + e.length) for e in events], axis=0) & np.ones(len(times), bool)
    sketch.box((0, 0.85), (0.16, 0.3), shade(colour, 0.5))
    sketch.box((0, 1.15), (0.75, 0.14), shade(colour, 0.7))
    sketch.ellipse((0.5, 1.1), (0.16, 0.16), accent, moving=True, seen=on)
    sketch.ellipse((0, -0.2), (1.0, 1.0), shade(colour, 0.45))
    sketch.ellipse((0, -0.2), (0.9, 0.9), colour)
    texture(sketch, factors, (0.85, 0.75), (0, -0.2))
    blade = [(0.05, 0.1), (0.3, -0.14), (0.82, -0.28), (0.88, 0.0), (0.82, 0.16)]
    for k in range(BLADES):
        around = angle + 2 * np.pi * k / BLADES - np.pi / 2
        sketch.polygon(turned(blade, around, (0, -0.2)), accent if k == 0 else shade(colour, 0.65), moving=True)
    sketch.ellipse((0, -0.2), (0.2, 0.2), shade(colour, 0.45))


# --- the car


def heading(factors: Factors) -> int:
    """1 to the right, -1 to the left: from its place towards the middle and on."""
    return 1 if factors["x"] < 0.5 else -1


def path(factors: Factors, events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """Where a car is in the picture at `times`, 0 left to 1 right: it passes its `x` at the time of `crossing`.

    With no events it is parked there.
    """
    speed = heading(factors) * factors["speed"] if events else 0.0
    return factors["x"] + speed * (times - factors["crossing"])


def passed(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A car's hum, tyres and honks as they reach the observer; with no events it is parked and silent."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    if not events:
        return np.zeros(len(times), np.float32)
    v = heading(factors) * factors["speed"] * SIDE
    start = (factors["x"] - 0.5) * SIDE - v * factors["crossing"]  # m right of the observer at time 0
    # sent at s: C^2 (t - s)^2 = (start + v s)^2 + DISTANCE^2, a quadratic in s
    a, b, c = C**2 - v**2, C**2 * times + start * v, (C * times) ** 2 - start**2 - DISTANCE**2
    sent = (b - np.sqrt(b**2 - a * c)) / a
    pitch, room = car_pitch(factors), 0.45 * sample_rate * (1 - abs(v) / C)  # the highest that may be sent out
    corner = min(TYRES[factors["material"]], 0.45 * sample_rate)
    hiss = sosfilt(butter(1, corner, fs=sample_rate, output="sos"), rng.standard_normal(len(times), np.float32))
    out = pulse_train(pitch * sent, 16, room / pitch) + 0.7 * factors["speed"] * hiss
    for time, strength, length in events:
        first, last = np.searchsorted(times, (time, time + length))
        age = times[first:last] - time
        blast = 1.2 * strength * np.clip(np.minimum(age / 0.004, (length - age) / 0.02), 0, 1)
        for f in (HORN * pitch, 1.25 * HORN * pitch):
            out[first:last] += blast * pulse_train(f * sent[first:last], 8, room / f)
    return (out * (DISTANCE / (C * (times - sent)))).astype(np.float32)


def car(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A car whose wheels roll as far as it has come from its `x`; its lamp flashes as wide as the horn is loud."""
    way, colour, accent = heading(factors), factors["colour"], factors["accent"]
    rolled, flash = (path(factors, events, times) - factors["x"]) / (0.4 * factors["size"]), np.zeros(len(times))
    for time, strength, length in events:
        flash[(times >= time) & (times < time + length)] = strength
    sketch.polygon([(-way * i, j) for i, j in ((-0.75, -0.1), (-0.3, -0.8), (0.6, -0.8), (0.95, -0.1))],
                   shade(colour, 0.8))  # fmt: skip
    sketch.polygon([(-way * i, j) for i, j in ((-0.5, -0.15), (-0.2, -0.62), (0.5, -0.62), (0.7, -0.15))],
                   shade(accent, 0.7))  # fmt: skip
    sketch.box((0, 0.2), (1.1, 0.4), colour)
    texture(sketch, factors, (1.0, 0.35), (0, 0.2))
    for place in (-0.6, 0.6):
        sketch.ellipse((place, 0.6), (0.4, 0.4), shade(colour, 0.3), moving=True)
        for k in range(2):
            a, b = turned([(-0.3, 0), (0.3, 0)], rolled + np.pi / 2 * k, (place, 0.6))
            sketch.line(a, b, accent, width=0.12, moving=True)
    sketch.ellipse((way * 0.95, 0.05), (0.13, 0.16), accent)
    sketch.ellipse((way * 0.9, 0.05), (0.1 + 0.3 * flash, 0.15 + 0.45 * flash), shade(accent, 1.6), moving=True,
                   seen=flash > 0)  # fmt: skip


KINDS = {
    "engine": Kind(
        family="engine",
        law=f"{CHUGS} pulses a turn of the wheel; resonances ~ 1 / size",
        pitch=engine_pitch,
        sound=chugged,
        look=engine,
        beats=runs,
        materials=("steel", "wood"),
        ranges={"rate": (0.8, 1.7), "surge": (0.0, 1.0)},
    ),
    "rotor": Kind(
        family="engine",
        law=f"tone = {GEAR * BLADES} x seen turns a second, full speed ~ 1 / size",
        pitch=rotor_pitch,
        sound=whirred,
        look=rotor,
        beats=runs,
        materials=("metal", "wood", "rubber"),
        held_out=("wood",),
        ranges={"inertia": (0.08, 0.35)},
    ),
    "car": Kind(
        family="engine",
        law="Doppler: f = f0 / (1 + v_r / c), f0 ~ 1 / size; level ~ 1 / distance; lamp = horn",
        pitch=car_pitch,
        sound=passed,
        look=car,
        beats=syllables,
        materials=("rubber", "wood", "steel"),
        held_out=("steel",),
        ranges={"speed": (0.12, 0.36), "crossing": (0.5, 1.2)},
        path=path,
    ),
}

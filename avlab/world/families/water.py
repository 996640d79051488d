"""Water: drops that fall into a basin and water poured into a glass.

Law of the drops (Minnaert): each drop leaves a bubble of radius `a` that rings at `f = sqrt(3 gamma P / rho) / 2 pi a`
= 3.26 m/s / a (gamma = 1.4, P = 101325 Pa, rho = 998 kg/m3). It dies away as `exp(-d t)` with `d = 0.13 / a + 0.0072
a^-1.5` 1/s, while it rises to the surface and its pitch with it, as `f (1 + 0.1 d t)` [van den Doel 2005]. The radius
of the largest basin (size 18/64) is 0.25 m; the bubble is 0.12 times as wide as the drop is drawn. A drop falls freely
(9.81 m/s2) and touches the water at its event's time; the higher it fell, the faster it is, and the amplitude is in
proportion to that speed, as are the splash and the rings. The basin answers with three modes that its material damps.

Law of the pouring: the air above the water is a pipe closed at one end, `f = c / 4 (L + 0.61 b)`, `L` from the water to
the rim, `b` the inner radius: the level rises and the pitch with it. The water's noise (many small bubbles) sounds
through this resonance and the next, at 3 f. A pour of strength `s` is seen as a jet of width ~ s, raises the level by
`RISE s` of the glass's height a second and has the amplitude `s`. The radius of the largest glass (size 18/64) is
0.12 m, its height 0.21 m. What would rise above 0.85 of the height runs over, unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from avlab.world.drawing import Sketch, held, shade, texture, turned
from avlab.world.families.air import SPEED
from avlab.world.kinds import LARGEST, Event, Factors, Kind, spaced

GRAVITY = 9.81  # m/s2
MINNAERT = np.sqrt(3 * 1.4 * 101325 / 998) / (2 * np.pi)  # Hz m
BASIN_METRES, GLASS_METRES = 0.25 / LARGEST, 0.12 / LARGEST  # a thing's radius in metres is this times its size
BUBBLE = 0.12  # of the drop's radius as drawn
# the basin in radii (right, down): the water's middle, its half-axes, and the highest fall
WATER, WATER_AXES, FALL = 0.28, (1.02, 0.3), 1.12
BASIN_DECAY = {"glass": 0.12, "metal": 0.3, "clay": 0.03}  # s, to 1 / e
# the glass: heights of rim and bottom, inner radius; the spout's mouth
RIM, FLOOR, INNER, SPOUT = -0.6, 1.15, 0.66, -1.15
RISE, FULL = 0.7, 0.85
GLASS_Q = {"glass": 25.0, "metal": 20.0, "clay": 6.0}


def drips(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two to four drops, at least 0.42 s apart: each has left the pipette after the last one landed."""
    return spaced(rng, seconds, most=4, length=(0.0, 0.0), gap=0.42)


def pours(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two or three pours of 0.25 to 0.6 s, at least 0.3 s apart."""
    return spaced(rng, seconds, most=3, length=(0.25, 0.6), gap=0.3)


def bubble(factors: Factors) -> float:
    """The radius in m of the bubble that a drop of radius `drop` (in radii of the basin) leaves."""
    return BUBBLE * factors["drop"] * factors["size"] * BASIN_METRES


def minnaert(factors: Factors) -> float:
    """The pitch of a drop's bubble in Hz as it starts."""
    return float(MINNAERT / bubble(factors))


def fall_time(factors: Factors, strength: float) -> float:
    """How long a drop falls, in s: the speed `g t` at contact is in proportion to the strength."""
    return strength * np.sqrt(2 * FALL * factors["size"] * BASIN_METRES / GRAVITY)


def plink(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Drops: a rising bubble each, the basin's answer and a short hiss of the splash."""
    out = np.zeros(round(seconds * sample_rate))
    a, pitch, basin = bubble(factors), minnaert(factors), 260.0 * LARGEST / factors["size"]
    damping, ring = 0.13 / a + 0.0072 * a**-1.5, BASIN_DECAY[factors["material"]]
    age = np.arange(sample_rate) / sample_rate
    sound = np.exp(-damping * age) * np.sin(2 * np.pi * pitch * (age + 0.05 * damping * age**2))
    modes = sum(np.sin(2 * np.pi * basin * ratio * age) / ratio for ratio in (1.0, 2.32, 4.25))
    sound += 0.12 * np.exp(-age / ring) * modes
    hiss = 0.1 * np.exp(-age[: sample_rate // 10] / 0.015)
    for time, strength, _ in events:
        start = int(np.ceil(time * sample_rate))
        n = max(0, min(len(out) - start, len(age)))
        out[start : start + n] += strength * sound[:n]
        n = min(n, len(hiss))
        out[start : start + n] += strength * hiss[:n] * rng.standard_normal(n)
    return out.astype(np.float32)


def level(factors: Factors, events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """The water in the glass at `times` (s), as a share of the height: (T,)."""
    out = np.full(len(times), factors["start"])
    for time, strength, length in events:
        out += RISE * strength * np.clip(times - time, 0, length)
    return np.minimum(out, FULL)


def quarter_wave(factors: Factors, filled: np.ndarray | float) -> np.ndarray | float:
    """The resonance in Hz of the air above the water, filled to the share `filled`."""
    metres = factors["size"] * GLASS_METRES
    return SPEED / (4 * metres * ((1 - filled) * (FLOOR - RIM) + 0.61 * INNER))


def gurgle(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Pouring: bubbles' noise, as a band that follows the resonance, and one at 3 times its frequency."""
    out = np.zeros(round(seconds * sample_rate), np.float32)
    for event in events:
        start = int(np.ceil(event.time * sample_rate))
        n = min(len(out) - start, round((event.length + 0.15) * sample_rate))  # it rings on for less than 0.15 s
        if n <= 0:
            continue
        times = (start + np.arange(n)) / sample_rate
        pitch = quarter_wave(factors, level(factors, events, times))
        pole = np.exp(-np.pi * pitch[0] / (GLASS_Q[factors["material"]] * sample_rate))
        noise = rng.standard_normal((2, n)) * held([event], times)
        slow = lfilter([np.sqrt(1 - pole)], [1, -pole], noise[0] + 1j * noise[1])  # wanders in amplitude and phase
        turn = np.exp(2j * np.pi * np.cumsum(pitch) / sample_rate)
        band = slow * turn * (1 + turn**2 / 3 * (3 * pitch < 0.45 * sample_rate))
        out[start : start + n] += band.real + 0.15 * noise[0]
    return out


def drops(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A pipette that rises for a stronger drop, the drop, and a basin with splash and rings."""
    colour, accent, drop = factors["colour"], factors["accent"], factors["drop"]
    metres = factors["size"] * BASIN_METRES
    events = list(events) or [Event(np.inf, 1.0)]  # no drop is a drop that never comes
    starts, strong = np.array([e.time for e in events]), np.array([e.strength for e in events])
    falls = fall_time(factors, strong)
    wide, tall = WATER_AXES
    sketch.polygon([(-1.2, WATER), (1.2, WATER), (0.8, 1.2), (-0.8, 1.2)], colour)
    texture(sketch, factors, (0.8, 0.42), (0, 0.82))
    sketch.ellipse((0, WATER), (wide + 0.18, tall + 0.12), shade(colour, 1.25))
    sketch.ellipse((0, WATER), WATER_AXES, accent)
    # the latest drop that landed: a ring that widens, a splash that rises and falls
    last = np.searchsorted(starts, times, side="right") - 1
    landed = last >= 0
    age = np.where(landed, np.minimum(times - starts[last], 0.42), 0.0)
    force = strong[last] * landed
    out = np.minimum(1, 0.15 + age / 0.5)
    there = landed & (age < 0.42)
    thick = 0.16 * force * (1 - age / 0.45)
    sketch.ellipse((0, WATER), (wide * out, tall * out), shade(accent, 1.5), moving=True, seen=there)
    inner = np.maximum(out - np.maximum(thick, 0.02) - 0.1, 0.02)
    sketch.ellipse((0, WATER), (wide * inner, tall * inner), accent, moving=True, seen=there)
    jump = np.maximum(0, force * np.sin(np.pi * np.minimum(age / 0.3, 1)))
    up = there & (jump > 0)
    for way in (-1, 1):
        spot = (way * (0.2 + 1.3 * age), WATER - 1.0 * jump)
        sketch.ellipse(spot, (0.11, 0.13), shade(accent, 1.3), moving=True, seen=up)
    sketch.polygon(
        [(-0.26, WATER + 0.04), (0, WATER - 0.75 * jump), (0.26, WATER + 0.04)],
        shade(accent, 1.3),
        moving=True,
        seen=up,
    )
    # the next drop: it swells at the pipette's tip, lets go and falls
    tips = WATER - FALL * strong**2 - 2 * drop
    tip = np.interp(times, starts - falls, tips)
    coming = np.minimum(last + 1, len(events) - 1)
    wait = starts[coming] - falls[coming] - times
    due = (last + 1 < len(events)) & (wait < 0.15)
    grown = drop * np.clip(1 - wait / 0.15, 0.05, 1)
    fallen = 0.5 * GRAVITY / metres * np.clip(-wait, 0, falls[coming]) ** 2
    hang = np.where(wait > 0, tip, tips[coming])
    sketch.ellipse((0, hang + grown + fallen), (grown, grown), shade(accent, 1.2), moving=True, seen=due)
    sketch.polygon([(-0.2, tip - 0.25), (0.2, tip - 0.25), (0.06, tip), (-0.06, tip)], shade(colour, 0.8), moving=True)
    sketch.box((0, tip - 0.37), (0.3, 0.15), shade(accent, 0.7), moving=True)


def pour(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A glass, cut open, and a jug above it that tips as far, and pours a jet as wide, as the pour is strong."""
    colour, accent = factors["colour"], factors["accent"]
    metres = factors["size"] * GLASS_METRES
    height = FLOOR - RIM
    surface = FLOOR - height * level(factors, events, times)
    flow = held(events, times)
    sketch.box((0, (RIM + FLOOR + 0.1) / 2), (INNER + 0.16, (height + 0.1) / 2), colour)
    sketch.box((0, (RIM + FLOOR) / 2), (INNER, height / 2), shade(colour, 0.4))
    # the head of the jet touches the water when its pour starts, its tail when the pour ends
    head, tail, strong, tip = (np.zeros(len(times)) for _ in range(4))
    for event in events:
        ends = np.array([event.time, event.time + event.length])
        drop = FLOOR - height * level(factors, events, ends) - SPOUT
        left = ends - np.sqrt(2 * drop * metres / GRAVITY)  # when head and tail leave the spout
        fallen = 0.5 * GRAVITY / metres * np.clip(times[:, None] - left, 0, None) ** 2
        now = (times >= left[0]) & (times < ends[1])
        head[now], tail[now], strong[now] = fallen[now, 0], fallen[now, 1], event.strength
        tip += held([Event(left[0] - 0.1, event.strength, event.length + 0.1)], times, rise=0.1, fall=0.1)
    low = np.minimum(SPOUT + head, surface)
    high = np.minimum(SPOUT + tail, low)
    sketch.box((0, (surface + FLOOR) / 2), (INNER, (FLOOR - surface) / 2), accent, moving=True)
    jet = (0.04 + 0.2 * strong, (low - high) / 2)
    sketch.box((0, (high + low) / 2), jet, shade(accent, 1.15), moving=True, seen=strong > 0)
    sketch.ellipse((0, surface), (INNER, 0.05 + 0.12 * flow), shade(accent, 1.4), moving=True)
    for k, (x, speed) in enumerate(((-0.4, 0.9), (0.35, 1.3))):
        depth = (k / 2 + speed * times) % 1
        y = surface + (FLOOR - surface) * (0.9 - 0.8 * depth)
        sketch.ellipse((x, y), (0.07, 0.07), shade(accent, 1.6), moving=True, seen=flow > 0)
    texture(sketch, factors, (INNER + 0.1, height / 2), (0, (RIM + FLOOR) / 2))
    jug = turned([(-0.18, -0.2), (0.85, -0.26), (0.85, 0.26), (0.15, 0.24)], -0.05 - 0.4 * tip, (0.05, SPOUT))
    sketch.polygon(jug, shade(colour, 0.8), moving=True)


KINDS = {
    "drops": Kind(
        family="water",
        law="Minnaert: f = 3.26 m/s / bubble's radius; larger drops sound lower",
        pitch=minnaert,
        sound=plink,
        look=drops,
        beats=drips,
        materials=("glass", "metal", "clay"),
        held_out=("glass",),
        ranges={"drop": (0.11, 0.22)},
    ),
    "pour": Kind(
        family="water",
        law="quarter wave: f = c / 4 L, L the air above the water; it rises as the glass fills",
        pitch=lambda factors: float(quarter_wave(factors, factors["start"])),
        sound=gurgle,
        look=pour,
        beats=pours,
        materials=("glass", "metal", "clay"),
        held_out=("metal",),
        ranges={"start": (0.08, 0.35)},
    ),
}

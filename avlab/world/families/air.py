"""Air: a bottle blown across its mouth and a flute. The air that is seen enclosed is what sounds.

Law of the bottle (Helmholtz): `f = c / 2 pi sqrt(A / (V l))`, c = 343 m/s, with the mouth's area `A`, the volume `V` of
the air above the liquid and the neck's length `l` plus 1.46 of its radii, for the air at both ends that moves along.
All lengths scale with the size: the radius of the largest bottle (size 18/64) is 0.06 m, its height 0.14 m. More
liquid leaves less air: the pitch rises.

Law of the flute (a pipe open at both ends): `f = c / (2 L)` with harmonics 1, 2, 3, ...; `L` runs from the slit that is
blown to the first open hole, or to the lower end with all fingers down (the ends' corrections are left out). The
radius of the largest flute is 0.22 m, its pipe 0.52 m long. The k-th note has `floor(4 ((tune + 0.618 k) mod 1))` open
holes, from below.

In both, the breath (0 to 1) is seen as the cloud and the streak at the mouth and heard as the amplitude; the resonance
answers it within `Q / (pi f)` s, so a material of high `Q` swells and dies away more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from avlab.world.drawing import Colour, Point, Sketch, held, shade, texture
from avlab.world.kinds import LARGEST, Event, Factors, Kind, midi, spaced

SPEED = 343.0  # of sound in air, m/s
BOTTLE_METRES, FLUTE_METRES = 0.06 / LARGEST, 0.22 / LARGEST  # a thing's radius in metres is this times its size
# the bottle in radii (right, down): half-widths of body and neck; heights of bottom, shoulder, neck's foot and mouth
BODY, NECK = 0.72, 0.26
BOTTOM, SHOULDER, FOOT, MOUTH = 1.2, -0.25, -0.62, -1.1
# the flute: heights of the slit, of the lower end and of its holes from below
SLIT, END, HOLES = -1.1, 1.25, (0.7, 0.2, -0.3)
BOTTLE_Q = {"glass": 32.0, "plastic": 6.0, "clay": 5.0}
# Q, and the amplitude of each harmonic over that of the one below
FLUTE_TONE = {"wood": (8.0, 0.25), "metal": (20.0, 0.6), "glass": (40.0, 0.4)}


def blows(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two to five blows of 0.16 to 0.4 s, at least 0.14 s apart."""
    return spaced(rng, seconds, most=5, length=(0.16, 0.4), gap=0.14)


def helmholtz(factors: Factors) -> float:
    """The pitch of a bottle in Hz, from its size and its fill (the share of the body's height, 0 to 1)."""
    metres = factors["size"] * BOTTLE_METRES
    shoulder = np.pi * (FOOT - SHOULDER) / -3 * (BODY**2 + BODY * NECK + NECK**2)
    volume = np.pi * BODY**2 * (BOTTOM - SHOULDER) * (1 - factors["fill"]) + shoulder
    length = FOOT - MOUTH + 1.46 * NECK
    return float(SPEED / (2 * np.pi * metres) * np.sqrt(np.pi * NECK**2 / (volume * length)))


def open_holes(factors: Factors, count: int) -> np.ndarray:
    """How many holes are open in each of the first `count` notes, 0 to 3: (count,) int. Neighbours always differ."""
    return (4 * ((factors["tune"] + 0.618 * np.arange(count)) % 1)).astype(int)


def pipe(factors: Factors, holes: int = 0) -> float:
    """The pitch of a flute in Hz with `holes` open."""
    end = (END, *HOLES)[holes]
    return SPEED / (2 * factors["size"] * FLUTE_METRES * (end - SLIT))


def blown(
    events: Sequence[Event],
    pitches: Sequence[float],
    *,
    q: float,
    ratio: float,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """One note an event: harmonics at amplitudes `ratio^k` and breath noise, through a resonance of quality `q`."""
    out = np.zeros(round(seconds * sample_rate))
    for event, pitch in zip(events, pitches, strict=True):
        start = int(np.ceil(event.time * sample_rate))
        n = min(len(out) - start, round((event.length + 5 * q / (np.pi * pitch)) * sample_rate))
        if n <= 0:
            continue
        times = (start + np.arange(n)) / sample_rate
        breath = held([event], times)
        pole = np.exp(-np.pi * pitch / (q * sample_rate))
        swell = lfilter([1 - pole], [1, -pole], breath)  # the amplitude of a resonator driven at its own frequency
        turn = np.exp(2j * np.pi * pitch / sample_rate)
        sing = np.exp(2j * np.pi * pitch * (times - event.time))
        tone = np.zeros(n)
        for _ in range(min(6, int(0.45 * sample_rate / pitch))):  # Horner's rule over the harmonics
            tone = sing * (1 + ratio * tone)
        air = breath * rng.standard_normal(n)
        # gain 1 for the noise's power, whatever the band's width
        band = lfilter([np.sqrt(2 * (1 - pole))], [1, -2 * pole * turn.real, pole**2], air) * 2 * abs(turn.imag)
        out[start : start + n] += swell * tone.imag + 0.6 / np.sqrt(q) * band + 0.03 * air
    return out.astype(np.float32)


def whoop(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A bottle blown across its mouth: nearly a pure tone in breath noise."""
    pitches, q = [helmholtz(factors)] * len(events), BOTTLE_Q[factors["material"]]
    return blown(events, pitches, q=q, ratio=0.12, seconds=seconds, sample_rate=sample_rate, rng=rng)


def fluted(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A flute's notes, one an event."""
    pitches = [pipe(factors, holes) for holes in open_holes(factors, len(events))]
    q, ratio = FLUTE_TONE[factors["material"]]
    return blown(events, pitches, q=q, ratio=ratio, seconds=seconds, sample_rate=sample_rate, rng=rng)


def whoop_notes(factors: Factors, events: Sequence[Event]) -> list[tuple[float, float, float]]:
    """Every puff as a note: (start s, end s, MIDI number)."""
    return [(e.time, e.time + e.length, midi(helmholtz(factors))) for e in events]


def flute_notes(factors: Factors, events: Sequence[Event]) -> list[tuple[float, float, float]]:
    """The flute's melody: (start s, end s, MIDI number)."""
    holes = open_holes(factors, len(events))
    return [(e.time, e.time + e.length, midi(pipe(factors, n))) for e, n in zip(events, holes, strict=True)]


def bottle(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A bottle, its liquid, and a head that blows across its mouth: cheek, cloud, ripples as strong as the breath."""
    breath, colour, accent = held(events, times), factors["colour"], factors["accent"]
    sketch.box((0, (MOUTH + FOOT) / 2), (NECK, (FOOT - MOUTH) / 2), colour)
    sketch.polygon([(-NECK, FOOT), (NECK, FOOT), (BODY, SHOULDER), (-BODY, SHOULDER)], colour)
    sketch.box((0, (SHOULDER + BOTTOM) / 2), (BODY, (BOTTOM - SHOULDER) / 2), colour)
    level = BOTTOM - factors["fill"] * (BOTTOM - SHOULDER)
    wall, rock = BODY - 0.08, 0.16 * breath * np.sin(2 * np.pi * 5.3 * times)
    sketch.box((0, (level + BOTTOM) / 2), (wall, (BOTTOM - level) / 2), accent)
    sketch.ellipse((0, level), (wall, 0.06 + 0.12 * breath), shade(accent, 1.4), angle=rock, moving=True)
    texture(sketch, factors, (BODY, (BOTTOM - SHOULDER) / 2), (0, (BOTTOM + SHOULDER) / 2))
    sketch.ellipse((-0.8, -1.28), (0.46, 0.47), shade(accent, 0.7))
    sketch.ellipse((-0.86, -1.45), (0.07, 0.07), (15, 15, 15))
    sketch.polygon([(-0.5, -1.32), (-0.3, -1.22), (-0.3, -1.12), (-0.5, -1.0)], shade(accent, 0.7))
    sketch.ellipse((-0.68, -1.12), (0.14 + 0.22 * breath, 0.14 + 0.26 * breath), shade(accent, 1.1), moving=True)
    puff(sketch, (-0.28, MOUTH - 0.07), breath, accent, reach=1.15)


def flute(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A pipe with three holes and the fingers on them; open fingers are drawn back, the breath leaves at the slit."""
    breath, colour, accent = held(events, times), factors["colour"], factors["accent"]
    sketch.polygon([(-0.36, SLIT - 0.1), (0.36, SLIT - 0.1), (0.36, -1.45), (-0.12, -1.7)], shade(colour, 0.75))
    sketch.box((0, (SLIT - 0.2 + END) / 2), (0.38, (END - SLIT + 0.2) / 2), colour)
    texture(sketch, factors, (0.38, 1.0))
    sketch.box((0.1, SLIT), (0.28, 0.1), shade(colour, 0.3))
    for y in HOLES:
        sketch.ellipse((0, y), (0.17, 0.17), shade(colour, 0.3))
    sketch.ellipse((0.98, 0.2), (0.3, 0.85), shade(accent, 0.75))
    # the fingers take their places within 0.06 s before the note starts
    knots = [-1.0] + [t for event in events for t in (event.time - 0.06, event.time)]
    counts = np.array([0, 0, *np.repeat(open_holes(factors, len(events)), 2)])[: len(knots)]
    for k, y in enumerate(HOLES):
        lift = np.interp(times, knots, counts > k)
        sketch.line((0.95, y), (0.05 + 0.62 * lift, y - 0.1 * lift), accent, width=0.36, moving=True)
    puff(sketch, (0.3, SLIT), breath, accent, reach=0.95)


def puff(sketch: Sketch, start: Point, breath: np.ndarray, colour: Colour, *, reach: float) -> None:
    """Breath that leaves `start` to the right: a streak and a cloud as large as it is strong; hidden at rest."""
    (x, y), seen = start, breath > 0
    far = x + 0.1 + (reach - 0.55) * breath
    axes = (0.05 + 0.42 * breath, 0.05 + 0.36 * breath)
    sketch.ellipse((far, y - 0.12 * breath), axes, shade(colour, 1.5), moving=True, seen=seen)
    sketch.line((x, y), (far, y - 0.06 * breath), shade(colour, 0.8), width=0.09, moving=True, seen=seen)


KINDS = {
    "bottle": Kind(
        family="air",
        law="Helmholtz: f = c / 2 pi sqrt(A / (V l)); less air sounds higher",
        pitch=helmholtz,
        sound=whoop,
        look=bottle,
        beats=blows,
        materials=("glass", "clay", "plastic"),
        held_out=("clay",),
        ranges={"fill": (0.05, 0.85)},
        notes=whoop_notes,
    ),
    "flute": Kind(
        family="air",
        law="open pipe: f = c / 2 L, L from the slit to the first open hole",
        pitch=pipe,
        sound=fluted,
        look=flute,
        beats=blows,
        materials=("wood", "metal", "glass"),
        held_out=("glass",),
        ranges={"tune": (0.0, 1.0)},
        notes=flute_notes,
    ),
}

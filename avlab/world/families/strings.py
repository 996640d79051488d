"""Strings: one that is plucked and one that is bowed.

Law: pitch falls as `1 / length`, and the string is as long as it looks.
Plucked: Karplus-Strong (Karplus and Strong 1983, extended by Jaffe and Smith 1983): a loop that holds one period of a
noise burst and damps it at every turn; harmonics with a node at the pick are missing.
Bowed: Helmholtz motion, a corner that runs round the string once a period, is heard at the bridge as a sawtooth
(harmonics `1 / n`, rounded off), through two resonances of the body. Loudness and brightness follow the bow's speed.
The bow is seen at the integral of that speed: what moves is what is heard. The finger that stops the string rocks with
the vibrato, ten times as far as it would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.signal import iirpeak, lfilter

from avlab.world.drawing import Sketch, away, shade, texture
from avlab.world.kinds import Event, Factors, Kind, falls_with_size, hits, midi


class Strand(NamedTuple):
    """What a string is made of: `t60` s until a plucked one has fallen by 60 dB at its fundamental, `dull` the share
    of both neighbours in the loop's low-pass, `corner` Hz above which a bowed one's harmonics are rounded off, `dies`
    s in which it falls to 1/e once the bow stops."""

    t60: float
    dull: float
    corner: float
    dies: float


MATERIALS = {
    "steel": Strand(1.6, 0.05, 1600.0, 0.05),
    "nylon": Strand(0.55, 0.1, 900.0, 0.025),
    "gut": Strand(0.9, 0.16, 450.0, 0.015),
}
VIBRATO = 5.5  # Hz
CYCLE = 2048  # samples in a table of one period
BODY = ((2.1, 6, 2), (5.7, 3, 6))  # wood and bridge: where (as multiples of the pitch), how sharp, how strong
TRAVEL = 2.4  # radii a second that the bow moves at strength 1
pluck_pitch, bow_pitch = falls_with_size(140.0), falls_with_size(190.0)


def plucked(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A loop of `P = sample_rate / f0` samples; each turn passes a short low-pass and loses a share by material.

    The pluck is a noise burst of one period minus itself `pick P` samples later, which removes the harmonics that
    have a node at the pick. A harder pluck is louder and brighter.
    """
    L, period, strand = round(seconds * sample_rate), sample_rate / pluck_pitch(factors), MATERIALS[factors["material"]]
    whole = int(period - 1)  # the symmetric low-pass delays by one sample, the interpolation by the rest
    rest = period - 1 - whole
    loss = 10 ** (-3 * period / (strand.t60 * sample_rate))
    taps = loss * np.convolve([strand.dull, 1 - 2 * strand.dull, strand.dull], [1 - rest, rest])
    drive = np.zeros(L)
    for time, strength, _ in events:
        burst = rng.standard_normal(int(period))
        soften = 0.75 * (1 - strength)
        burst = (1 - soften) * burst + soften * np.roll(burst, 1)
        burst -= np.roll(burst, max(1, round(factors["pick"] * period)))
        room = drive[max(0, math.ceil(time * sample_rate)) :][: len(burst)]
        room += strength * burst[: len(room)]
    for _ in range(3):  # y = x + h y(t - P) is y = (x + h x(t - P)) + h^2 y(t - 2P): a longer loop takes fewer turns
        drive[whole:] += np.convolve(drive, taps)[: max(0, L - whole)]
        whole, taps = 2 * whole, np.convolve(taps, taps)
    lead = whole + len(taps) - 1  # so that looking back never leaves the array
    out = np.concatenate([np.zeros(lead), drive])
    for begin in range(lead + whole, len(out), whole):  # a turn needs only the one before it
        end = min(begin + whole, len(out))
        out[begin:end] += np.convolve(out[begin - lead : end - whole], taps, mode="valid")
    return out[lead:].astype(np.float32)


def speed(events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """The bow's speed at `times`: half a sine over each stroke, whose top is its strength: (T,)."""
    out = np.zeros(len(times))
    for time, strength, length in events:
        inside = (times > time) & (times < time + length)
        out[inside] = strength * np.sin(np.pi * (times[inside] - time) / length)
    return out


def travel(events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """The integral of the bow's `speed`, every other stroke backwards; its whole way is centred on 0: (T,)."""
    out, ends = np.zeros(len(times)), [0.0]
    for k, (time, strength, length) in enumerate(events):
        reach = (-1) ** k * 2 * strength * length / np.pi
        out += reach * (1 - np.cos(np.pi * np.clip((times - time) / max(length, 1e-9), 0, 1))) / 2
        ends.append(ends[-1] + reach)
    return out - (max(ends) + min(ends)) / 2


def bowed(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Harmonics `exp(-n f0 / corner) / n` below 0.45 of the sample rate, through the body.

    The pitch is `f0 (1 + vibrato sin(2 pi VIBRATO t))`. A period is read from two tables, the soft and the hard tone.
    The level rises with the bow's speed and falls at most as `exp(-t / dies)`; the corner rises with the level, to
    six times its value. The resonances of the body (`BODY`) grow with it. `rng` is not used.
    """
    L, f0, strand = round(seconds * sample_rate), bow_pitch(factors), MATERIALS[factors["material"]]
    depth, turn = factors["vibrato"], 2 * np.pi * VIBRATO
    n = np.arange(1, int(0.45 * sample_rate / (f0 * (1 + depth))) + 1)
    waves = np.zeros((2, CYCLE // 2 + 1), complex)
    for wave, corner in zip(waves, (strand.corner, 6 * strand.corner), strict=True):
        wave[n] = -0.5j * CYCLE * np.exp(-n * f0 / corner) / n
    soft, hard = np.fft.irfft(waves)
    tables = np.stack([soft, hard - soft])
    slopes = np.roll(tables, -1, axis=1) - tables
    tone, left = np.zeros(L), 0.0  # `left`: the level at which the stroke before has been left
    starts = [min(max(0, math.ceil(event.time * sample_rate)), L) for event in events]
    for event, first, last in zip(events, starts, [*starts, L][1:], strict=True):
        t = np.arange(first, last) / sample_rate
        fall = (t - event.time) / strand.dies
        pull = np.exp(np.maximum.accumulate(np.log(np.maximum(speed([event], t), 1e-5)) + fall) - fall)
        level = np.maximum(pull, left * np.exp(-fall))
        place = f0 * (t + depth * (1 - np.cos(turn * t)) / turn) % 1 * CYCLE
        k = place.astype(int)
        base, rise = tables[:, k] + (place - k) * slopes[:, k]
        tone[first:last] = level * (base + level * rise)
        left = level[-1] if len(t) else left
    out = tone.copy()
    for ratio, Q, gain in BODY:
        if ratio * f0 < 0.45 * sample_rate:
            out += gain * lfilter(*iirpeak(ratio * f0, Q, fs=sample_rate), tone)
    return out.astype(np.float32)


def strokes(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two to four strokes (if there is time) of 0.25 to 0.5 s, at least 0.1 s apart, with strengths from 0.4 to 1."""
    count = int(rng.integers(2, 5))
    strong, long = rng.uniform(0.4, 1, count), rng.uniform(0.25, 0.5, count)
    while count > 1 and long[:count].sum() + 0.1 * (count + 1) > seconds:
        count -= 1
    long = np.minimum(long[:count], seconds - 0.2)
    room = max(0.0, seconds - long.sum() - 0.1 * (count + 1))
    starts = 0.1 + np.sort(rng.uniform(0, room, count)) + np.cumsum(long + 0.1) - long - 0.1
    return [Event(float(t), float(s), float(n)) for t, s, n in zip(starts, strong[:count], long, strict=True)]


def pluck_notes(factors: Factors, events: Sequence[Event]) -> list[tuple[float, float, float]]:
    """`(start, end, MIDI number)` of each pluck: until the next, or until it has fallen by 60 dB."""
    last, number = MATERIALS[factors["material"]].t60, midi(pluck_pitch(factors))
    nexts = [*(event.time for event in events), np.inf][1:]
    return [(e.time, float(min(after, e.time + last)), number) for e, after in zip(events, nexts, strict=True)]


def stroke_notes(factors: Factors, events: Sequence[Event]) -> list[tuple[float, float, float]]:
    """`(start, end, MIDI number)` of each stroke."""
    return [(e.time, e.time + e.length, midi(bow_pitch(factors))) for e in events]


def strand(sketch: Sketch, factors: Factors, half: tuple[float, float], centre: tuple[float, float]) -> None:
    """How the material shows on a field of half-size `half`: steel has a gloss, gut a twist, nylon nothing."""
    (a, b), (x, y), dark = half, centre, shade(factors["colour"], 0.6)
    if factors["material"] == "gut" and factors["coat"] == "bare":
        for i in (-0.6, 0, 0.6):
            sketch.line((x + (i - 0.2) * a, y + 0.6 * b), (x + (i + 0.2) * a, y - 0.6 * b), dark, width=0.06)
    else:
        texture(sketch, factors, half, centre)


def string(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A string over a board with a sound hole, 2 radii long; it blurs into a spindle; a plectrum plucks it."""
    colour, accent, at = factors["colour"], factors["accent"], 2 * factors["pick"] - 1
    width, gap = np.zeros(len(times)), away(events, times)
    for time, strength, _ in events:
        age = np.maximum(times - time, 0)
        width = np.maximum(width, 0.45 * strength * (1 - np.exp(-age / 0.01)) * np.exp(-age / 0.3))
    sketch.polygon([(-1.15, -0.62), (1.15, -0.75), (1.15, 0.75), (-1.15, 0.62)], colour)
    strand(sketch, factors, (0.8, 0.14), (0, 0.52))
    sketch.ellipse((0, 0), (0.42, 0.42), shade(colour, 0.45))
    for x in (-1, 1):
        sketch.box((x, 0), (0.08, 0.5), shade(colour, 0.6))
    sketch.polygon([(-1, 0), (at, -width), (1, 0), (at, width)], shade(accent, 1.3), moving=True)
    sketch.line((-1, 0), (1, 0), shade(accent, 0.7), width=0.06)
    tip, back = -0.7 * gap, -0.7 * gap - 0.65
    sketch.polygon([(at, tip), (at - 0.3, back), (at + 0.3, back)], accent, moving=True)


def fiddle(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A fiddle from the front, its string upright; the bow is where its speed has brought it, a finger on the neck."""
    colour, accent = factors["colour"], factors["accent"]
    pull, at = speed(events, times), TRAVEL * travel(events, times)
    blur, rock = 0.28 * pull, 20 * factors["vibrato"] * np.sqrt(pull) * np.sin(2 * np.pi * VIBRATO * times)
    sketch.box((0, -1.1), (0.13, 0.65), shade(colour, 0.5))
    sketch.ellipse((0, 0.42), (0.88, 0.7), colour)
    sketch.ellipse((0, -0.4), (0.7, 0.55), colour)
    strand(sketch, factors, (0.5, 0.14), (0, -0.6))
    for x in (-0.42, 0.42):
        sketch.line((x, 0.2), (1.15 * x, 0.65), shade(colour, 0.4), width=0.1)
    sketch.polygon([(0, -1.5), (blur, 0.05), (0, 0.8), (-blur, 0.05)], shade(accent, 1.3), moving=True)
    sketch.line((0, -1.7), (0, 0.9), shade(accent, 0.7), width=0.06)
    sketch.ellipse((0, rock * 0.5 - 1.15), (0.2, 0.14), accent, moving=True)
    sketch.line((at - 0.65, -0.04), (at + 0.65, -0.04), shade(accent, 0.5), width=0.1, moving=True)
    sketch.box((at, 0.12), (0.65, 0.08), accent, moving=True)
    sketch.box((at + 0.5, 0.1), (0.15, 0.18), shade(accent, 0.6), moving=True)


KINDS = {
    "string": Kind(
        family="string",
        law="Karplus-Strong, f0 ~ 1 / length; harmonics with a node at the pick are missing; blur = loudness",
        pitch=pluck_pitch,
        sound=plucked,
        look=string,
        beats=hits,
        materials=("nylon", "steel", "gut"),
        held_out=("gut",),
        ranges={"pick": (0.12, 0.5)},
        notes=pluck_notes,
    ),
    "fiddle": Kind(
        family="string",
        law="sawtooth at f0 ~ 1 / length through a body; loudness and brightness = the bow's speed",
        pitch=bow_pitch,
        sound=bowed,
        look=fiddle,
        beats=strokes,
        materials=("gut", "steel", "nylon"),
        held_out=("nylon",),
        ranges={"vibrato": (0.0, 0.03)},
        notes=stroke_notes,
    ),
}

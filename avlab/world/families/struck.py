"""Struck things: a bar, a drum, a plate in a ring, a bell. One hit sets all modes ringing.

Laws. Shape sets the ratios of the modes, size their common scale `f0`: a free bar of given thickness `1 / length^2`,
a membrane of given tension `1 / radius`, a plate of given thickness clamped at its rim `1 / radius^2`, a bell scaled
as a whole `1 / size`. Mode `f` decays as `exp(-d(f) t)`, with Rayleigh damping `d(f) = alpha + beta (2 pi f)^2` by
material. A hit at speed `v` (the event's strength, a share of the hardest) stays in contact for `t_c = contact
v^(-1/5)` (Hertz) and pushes as a half-sine of that length: mode `f` starts with amplitude
`v |cos(pi f t_c) / (1 - (2 f t_c)^2)|`, so a harder hit is louder and brighter.

Seen: the mallet (in the bell, the clapper) arrives and leaves at a speed that goes with `v`, touches at the event and
pushes the thing by as much as `v`. How it moves does not depend on the material.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from avlab.world.drawing import Colour, Number, Point, Sketch, away, shade, texture, turned
from avlab.world.kinds import Event, Factors, Kind, falls_with_size, hits
from avlab.world.sounds import ring

BAR = (1.0, 2.757, 5.404, 8.933)  # squares of the roots of cos(x) cosh(x) = 1
MEMBRANE = (1.0, 1.593, 2.136, 2.296, 2.653, 2.917)  # roots of J_n(x) = 0
PLATE = (1.0, 2.081, 3.414, 3.893, 4.995, 5.954, 6.819)  # squares of those of J_n(x) I_n'(x) = I_n(x) J_n'(x)
BELL = (0.5, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0)  # as tuned by founders: hum, prime, minor third, fifth, nominal, ...


class Material(NamedTuple):
    """Rayleigh damping `d(f) = alpha + beta (2 pi f)^2`, in 1/s: the rate at which a mode of `f` Hz decays."""

    alpha: float
    beta: float


MATERIALS = {
    "metal": Material(1.5, 2.0e-8),
    "glass": Material(4.0, 6.0e-8),
    "wood": Material(9.0, 6.0e-7),
    "clay": Material(16.0, 2.0e-7),
    "rubber": Material(28.0, 1.5e-6),
}
HARD, FELT = 6.0e-4, 2.4e-3  # seconds that a hit of strength 1 stays in contact, by the mallet


def struck(
    factors: Factors,
    events: Sequence[Event],
    *,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    pitch: Callable[[Factors], float],
    ratios: Sequence[float],
    contact: float,
) -> np.ndarray:
    """Modes at `f_k = pitch ratio_k`, each `exp(-d(f_k) t) sin(2 pi f_k t)` from every hit on; hits add up.

    Modes above 0.45 of the sample rate are left out. `rng` is not used: a struck thing has no noise of its own.
    """
    out = np.zeros(round(seconds * sample_rate))
    f = pitch(factors) * np.asarray(ratios)
    f = f[f < 0.45 * sample_rate]
    alpha, beta = MATERIALS[factors["material"]]
    poles = -(alpha + beta * (2 * np.pi * f) ** 2) + 2j * np.pi * f
    state, before = np.zeros(len(f), complex), 0.0  # amplitude and phase of every mode, just after the hit at `before`
    heard = [event for event in sorted(events) if event.time < seconds]
    starts = [max(0, math.ceil(event.time * sample_rate)) for event in heard]
    for event, first, last in zip(heard, starts, [*starts, len(out)][1:], strict=True):
        x = 2 * f * contact * event.strength**-0.2
        push = np.abs(np.cos(np.pi * x / 2) / np.where(np.abs(1 - x**2) < 1e-6, 1e-6, 1 - x**2))
        state = state * np.exp(poles * (event.time - before))
        state, before = state + event.strength * np.minimum(push, 1) / np.arange(1, len(f) + 1) ** 0.5, event.time
        out[first:last] = ring(poles, state, last - first, sample_rate, first / sample_rate - event.time)
    return out.astype(np.float32)


def swing(events: Sequence[Event], times: np.ndarray, *, fade: float = 0.1) -> np.ndarray:
    """How far hits have pushed a thing, (T,): critically damped swings, each to its strength, `fade` s later."""
    out = np.zeros(len(times))
    for event in events:
        age = np.maximum(times - event.time, 0) / fade
        out += event.strength * age * np.exp(1 - age)
    return out


def mallet(sketch: Sketch, target: Point, gap: Number, colour: Colour, *, way: Point = (0.35, -0.6)) -> None:
    """A stick with a round head of radius 0.22, `gap` (0 to 1) times `way` from where it touches the `target`."""
    length = np.hypot(*way)
    x, y = (t + w * (gap + 0.22 / length) for t, w in zip(target, way, strict=True))
    sketch.line((x, y), (x + 0.6, y + 0.42 * np.sign(way[1])), shade(colour, 0.6), width=0.13, moving=True)
    sketch.ellipse((x, y), (0.22, 0.22), colour, moving=True)


def bar(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A bar of half-length 1 on two soft feet, struck at its middle; it gives way."""
    dip, colour, accent = 0.3 * swing(events, times), factors["colour"], factors["accent"]
    for x in (-0.6, 0.6):
        sketch.box((x, 0.6), (0.16, 0.35), shade(accent, 0.7))
    sketch.box((0, dip), (1.0, 0.48), shade(colour, 0.7), moving=True)
    sketch.box((0, dip - 0.08), (1.0, 0.4), colour, moving=True)
    texture(sketch, factors, (1.0, 0.4), (0, dip - 0.08))
    mallet(sketch, (0, -0.48), away(events, times), accent)


def drum(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A drum of radius 1: a shell, and a skin that gives way."""
    dip, colour, accent = swing(events, times), factors["colour"], factors["accent"]
    sketch.ellipse((0, 0.75), (0.85, 0.26), shade(colour, 0.8))
    sketch.polygon([(-1, -0.35), (1, -0.35), (0.85, 0.75), (-0.85, 0.75)], shade(colour, 0.8))
    texture(sketch, {**factors, "colour": shade(colour, 0.8)}, (0.75, 0.4), (0, 0.45))
    sketch.ellipse((0, -0.35), (1.0, 0.4), shade(colour, 1.25))
    sketch.ellipse((0, -0.35), (0.88, 0.31), accent, moving=True)
    sketch.ellipse((0, -0.35 + 0.12 * dip), (0.05 + 0.7 * dip, 0.02 + 0.24 * dip), shade(accent, 0.7), moving=True)
    mallet(sketch, (0, -0.35), away(events, times), shade(accent, 0.8))


def plate(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A thin disc held by a heavy ring, hung from two cords and seen from the front; it swings back (looks smaller)."""
    back, colour, accent = swing(events, times), factors["colour"], factors["accent"]
    near, y = 1 - 0.25 * back, -0.2 * back
    for x in (-0.5, 0.5):
        sketch.line((x, -1.7), (x * near, y - 0.8 * near), shade(accent, 0.7), width=0.09, moving=True)
    sketch.ellipse((0, y), (near, near), shade(colour, 0.6), moving=True)
    sketch.ellipse((0, y), (0.84 * near, 0.84 * near), colour, moving=True)
    texture(sketch, factors, (0.62 * near, 0.6 * near), (0, y))
    sketch.ellipse((0, y), (0.27 * near, 0.27 * near), shade(colour, 1.3), moving=True)
    mallet(sketch, (0, 0), away(events, times), accent, way=(0.45, 0.5))


def bell(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A bell hung from a yoke, pushed aside by its clapper, which is pulled against the right of its rim."""
    angle, gap = -0.25 * swing(events, times), away(events, times)
    colour, accent, top = factors["colour"], factors["accent"], (0.0, -1.0)

    def hung(points: Sequence[Point]) -> list[Point]:
        return turned([(x, y + 1) for x, y in points], angle, top)

    sketch.box((0, -1.1), (0.75, 0.14), shade(accent, 0.7))
    rod, ball = hung([(0, 0), (0.64 - 0.75 * gap, 0.95)])
    sketch.ellipse(hung([(0, 0.7)])[0], (0.86, 0.24), shade(colour, 0.45), angle=angle, moving=True)
    sketch.ellipse(hung([(0, -0.35)])[0], (0.62, 0.65), colour, angle=angle, moving=True)
    sketch.polygon(hung([(-0.62, -0.35), (0.62, -0.35), (0.72, 0.3), (-0.72, 0.3)]), colour, moving=True)
    sketch.polygon(hung([(-0.72, 0.3), (0.72, 0.3), (0.86, 0.7), (-0.86, 0.7)]), shade(colour, 0.85), moving=True)
    texture(sketch, factors, (0.6, 0.5), hung([(0, -0.15)])[0])
    sketch.line(rod, ball, shade(accent, 0.6), width=0.1, moving=True)
    sketch.ellipse(ball, (0.22, 0.22), accent, moving=True)


BUILT, CAST = ("wood", "metal", "rubber"), ("metal", "glass", "clay")


def _kind(
    shape: str,
    pitch: Callable[[Factors], float],
    ratios: Sequence[float],
    contact: float,
    look: Callable[[Sketch, Factors, Sequence[Event], np.ndarray], None],
    materials: tuple[str, ...],
    held_out: str,
) -> Kind:
    return Kind(
        family="struck",
        law=f"{shape}; harder = louder, brighter; decay by material",
        pitch=pitch,
        sound=partial(struck, pitch=pitch, ratios=ratios, contact=contact),
        look=look,
        beats=hits,
        materials=materials,
        held_out=(held_out,),
    )


_BAR = "modes at f0 (1, 2.757, 5.404, 8.933), f0 ~ 1 / length^2"
_DRUM = "modes at f0 (1, 1.593, 2.136, 2.296, ...), f0 ~ 1 / radius"
_PLATE = "modes at f0 (1, 2.081, 3.414, 3.893, ...), f0 ~ 1 / radius^2"
_BELL = "hum f0 / 2, prime f0, minor third, fifth, nominal 2 f0, ..., f0 ~ 1 / size"
KINDS = {
    "bar": _kind(_BAR, falls_with_size(180.0, 2), BAR, HARD, bar, BUILT, "rubber"),
    "drum": _kind(_DRUM, falls_with_size(105.0), MEMBRANE, FELT, drum, BUILT, "metal"),
    "plate": _kind(_PLATE, falls_with_size(130.0, 2), PLATE, HARD, plate, CAST, "glass"),
    "bell": _kind(_BELL, falls_with_size(330.0), BELL, HARD, bell, CAST, "clay"),
}

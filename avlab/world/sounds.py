"""How the things of the world sound: modes that ring, strings that are plucked, birds that sing.

Conventions: time in seconds, frequency in Hz, `sample_rate` in Hz; every function returns a dry mono stem, float32
(L,), which is silent before its first event. Strengths lie in (0, 1]: the speed at contact, as a share of the hardest
hit. Nothing here knows of pictures; `drawing` reads the same events and sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BAR_RATIOS = (1.0, 2.757, 5.404, 8.933)  # free uniform bar: squares of the roots of cos(x) cosh(x) = 1
MEMBRANE_RATIOS = (1.0, 1.593, 2.136, 2.296)  # ideal circular membrane: zeros of Bessel functions


class Event(NamedTuple):
    """Something that happens at `time` (s) with a `strength` in (0, 1] and, for a bird's syllable, lasts `length` s."""

    time: float
    strength: float
    length: float = 0.0


class Material(NamedTuple):
    """Rayleigh damping `d(f) = alpha + beta (2 pi f)^2` in 1/s: the share of the amplitude lost a second at `f`."""

    alpha: float
    beta: float


MATERIALS = {"wood": Material(9.0, 6.0e-7), "metal": Material(1.5, 2.0e-8), "rubber": Material(28.0, 1.5e-6)}
STRING_LOSS = {"nylon": 0.55, "steel": 1.6}  # seconds until the string has fallen by 60 dB at its fundamental
CONTACT = 6.0e-4  # seconds a hit of strength 1 stays in contact


def ring(poles: np.ndarray, gains: np.ndarray, samples: int, sample_rate: int, delay: float = 0.0) -> np.ndarray:
    """Sum of damped oscillations `Im sum_k g_k exp(s_k (t + delay))` for `samples` samples: float64 (L,).

    `poles` s_k complex (K,), 1/s; `gains` (K,). With `t = (b Q + q) / sample_rate`, `exp(s t)` is the product of a
    factor for the block `b` and one for the place `q` in it: two short exponentials instead of one long one.
    """
    Q = 256
    blocks = -(-samples // Q)
    start = np.exp(poles[None] * (np.arange(blocks)[:, None] * Q / sample_rate + delay)) * gains[None]  # (b, K)
    inside = np.exp(poles[:, None] * np.arange(Q)[None] / sample_rate)  # (K, Q)
    out = np.zeros((blocks, Q))
    for k in range(len(poles)):  # not `start @ inside`: for so small a product a library's threads only get in the way
        out += start[:, k, None].real * inside[k].imag + start[:, k, None].imag * inside[k].real
    return out.reshape(-1)[:samples]


def struck(
    events: Sequence[Event],
    *,
    f0: float,
    ratios: Sequence[float],
    material: str,
    seconds: float,
    sample_rate: int,
) -> np.ndarray:
    """A struck bar or membrane: modes at `f_k = f0 ratio_k`, each `exp(-d(f_k) t) sin(2 pi f_k t)` from every hit on.

    Law of the hit (Hertz): contact lasts `t_c = CONTACT v^(-1/5)`, and a half-sine push of that length drives mode
    `f` with `v |cos(pi f t_c) / (1 - (2 f t_c)^2)|`, so a harder hit (larger `v`) is louder and brighter. Decay
    follows the material. Modes above 0.45 of the sample rate are left out.
    """
    out = np.zeros(round(seconds * sample_rate))
    f = f0 * np.asarray(ratios)
    f = f[f < 0.45 * sample_rate]
    alpha, beta = MATERIALS[material]
    decay = alpha + beta * (2 * np.pi * f) ** 2
    poles = -decay + 2j * np.pi * f
    for time, strength, _ in events:
        first = int(np.ceil(time * sample_rate))
        if first >= len(out):
            continue
        x = 2 * f * CONTACT * strength**-0.2
        push = np.abs(np.cos(np.pi * x / 2) / np.where(np.abs(1 - x**2) < 1e-6, 1e-6, 1 - x**2))
        gains = strength * np.minimum(push, 1.0) / np.arange(1, len(f) + 1) ** 0.5
        audible = min(len(out) - first, int(np.ceil(11.5 / decay.min() * sample_rate)))  # to -100 dB
        out[first : first + audible] += ring(poles, gains, audible, sample_rate, first / sample_rate - time)
    return out.astype(np.float32)


def plucked(
    events: Sequence[Event],
    *,
    f0: float,
    pick: float,
    material: str,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A plucked string, Karplus-Strong with pick position and damping.

    A loop of `P = sample_rate / f0` samples holds one period; each turn passes through a short low-pass (harmonics
    die in the order of their height) and a loss by material. The pluck is a noise burst of one period minus itself
    `pick P` samples later, which removes the harmonics that have a node at the pick (`pick` in (0, 0.5]). A harder
    pluck is louder and brighter.
    """
    L = round(seconds * sample_rate)
    period = sample_rate / f0
    whole = int(period - 1.0)  # the symmetric low-pass delays by one sample, the interpolation by the rest
    rest = period - 1.0 - whole
    loss = 10 ** (-3.0 * period / (STRING_LOSS[material] * sample_rate))
    taps = loss * np.convolve([0.05, 0.9, 0.05], [1 - rest, rest])
    drive = np.zeros(L)
    for time, strength, _ in events:
        first = round(time * sample_rate)
        burst = rng.standard_normal(int(period))
        soften = 0.75 * (1 - strength)
        burst = (1 - soften) * burst + soften * np.roll(burst, 1)
        burst = burst - np.roll(burst, max(1, round(pick * period)))
        room = drive[first : first + len(burst)]
        room += strength * burst[: len(room)]
    offset = whole + len(taps)  # so that looking back never leaves the array
    out = np.zeros(offset + L)
    for begin in range(0, L, whole):  # one turn of the loop at a time: a turn only needs the one before it
        end = min(begin + whole, L)
        turn = drive[begin:end].copy()
        for lag, tap in enumerate(taps):
            back = offset + begin - whole - lag
            turn += tap * out[back : back + end - begin]
        out[offset + begin : offset + end] = turn
    return out[offset:].astype(np.float32)


def opening(events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """How far a beak is open at each of `times` (s): 0 to 1, a raised cosine over each syllable's length."""
    out = np.zeros(len(times))
    for time, strength, length in events:
        inside = (times >= time) & (times < time + length)
        out[inside] = np.maximum(out[inside], strength * np.sin(np.pi * (times[inside] - time) / length) ** 2)
    return out


def sung(
    events: Sequence[Event], *, f0: float, sweep: float, trill: float, seconds: float, sample_rate: int
) -> np.ndarray:
    """A bird's syllables: a tone gliding by the factor `1 + sweep` over each, trembling at `trill` Hz.

    The amplitude is the beak's `opening`, so what is seen to open is heard to swell; a second harmonic at a quarter
    of the amplitude gives it body.
    """
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    level = opening(events, times)
    pitch = np.full(len(times), f0)
    for time, _, length in events:
        inside = (times >= time) & (times < time + length)
        pitch[inside] = f0 * (1 + sweep * (times[inside] - time) / length)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    tremble = 1 - 0.35 * (1 + np.sin(2 * np.pi * trill * times)) / 2
    return (level * tremble * (np.sin(phase) + 0.25 * np.sin(2 * phase))).astype(np.float32)

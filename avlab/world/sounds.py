"""What sounds share: damped modes, places between two channels, rooms.

Conventions: time in seconds, frequency in Hz, `sample_rate` in Hz, waveforms in [-1, 1]. How each kind of thing sounds
stands with its family.
"""

from __future__ import annotations

from math import comb

import numpy as np

STEP = 2.0**-15  # waveforms of the world lie on the grid of 16-bit sound, so that storing them loses nothing
ABSORPTION = 0.15  # mean share of the sound that a room's walls swallow
REVERBERANT = 10 ** (-6 / 20)  # level of the room's answer beside the direct sound


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


def pulse_train(turns: np.ndarray, harmonics: int, highest: float) -> np.ndarray:
    """Pulses at whole `turns`, without mean: `((1 + cos 2 pi turns) / 2)^n`, which has the harmonics 1 to n alone.

    `n` is `harmonics` (a power of two), halved until it is at most `highest`, the number for which there is room.
    """
    n = harmonics
    while n > max(highest, 1):
        n //= 2
    wave = 0.5 + 0.5 * np.cos((2 * np.pi * (turns % 1)).astype(np.float32))
    for _ in range(n.bit_length() - 1):
        wave *= wave
    return wave - np.float32(comb(2 * n, n) / 4.0**n)


def levelled(stem: np.ndarray, loudness: float, ceiling: float) -> np.ndarray:
    """A stem (L,) at a root mean square of `loudness` dB of full scale, softer where its peak would pass `ceiling`."""
    level, peak = float(np.sqrt(np.square(stem).mean(dtype=float))), float(np.abs(stem).max())
    return stem * np.float32(min(10 ** (loudness / 20) / level, ceiling / peak)) if peak > 0 else stem


def pan(stem: np.ndarray, x: float | np.ndarray) -> np.ndarray:
    """A mono stem in two channels (C, L) of equal power: `cos` and `sin` of `x pi / 2`, x 0 left to 1 right."""
    angle = np.clip(np.float32(x), 0, 1) * np.float32(np.pi / 2)
    return np.stack([stem * np.cos(angle), stem * np.sin(angle)])


def delayed(sound: np.ndarray, samples: int) -> np.ndarray:
    """A sound (..., L) that comes later by some samples (earlier where negative); what leaves the clip is lost."""
    out, L = np.zeros_like(sound), sound.shape[-1]
    out[..., max(samples, 0) : L + min(samples, 0)] = sound[..., max(-samples, 0) : L - max(samples, 0)]
    return out


def reverberation_time(side: float) -> float:
    """Seconds until a cubic room's sound has fallen by 60 dB, after Sabine: `0.161 V / (a S) = 0.161 s / (6 a)`."""
    return 0.161 * side / (6 * ABSORPTION)


def room_response(side: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """What a room of `side` metres answers to a click: float64 (C, L'), two independent noises that die exponentially.

    The first reflections come after the sound has crossed half of the room (343 m/s); the energy of each is 1.
    """
    T60 = reverberation_time(side)
    t = np.arange(round(T60 * sample_rate)) / sample_rate
    answer = rng.standard_normal((2, len(t))) * 10 ** (-3 * t / T60)
    answer[:, : round(side / 2 / 343 * sample_rate)] = 0
    return answer / np.sqrt((answer**2).sum(axis=1, keepdims=True))


def in_room(sound: np.ndarray, dry: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """The direct sound (C, L) and the room's answer (C, L') to the dry one (L,), cut to the length of the clip."""
    size = 2 ** int(np.ceil(np.log2(len(dry) + answer.shape[1])))
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(answer, size), size)[:, : len(dry)]
    return sound + REVERBERANT * wet.astype(np.float32)


def on_grid(sound: np.ndarray) -> np.ndarray:
    """Rounded to 16 bits: float32 in [-1, 1)."""
    steps = np.rint(sound * np.float32(1 / STEP))
    np.clip(steps, -(2**15), 2**15 - 1, out=steps)
    return steps * np.float32(STEP) + np.float32(0.0)  # no negative zeros

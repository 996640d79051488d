"""What a kind of thing is: its law, its factors, its events, its sound and its picture, in one record.

A thing is described by a plain dict of *factors* (size, place, material, ...) and a list of *events* (when, how hard).
Both its sound and its picture are functions of these two alone; that is what "caused by what is seen" means here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from avlab.world.drawing import Sketch

SMALLEST, LARGEST = 10 / 64, 18 / 64  # radius as a share of the picture's side
Factors = Mapping[str, Any]


class Event(NamedTuple):
    """Something that happens at `time` (s) with a `strength` in (0, 1] and lasts `length` s (a hit: 0)."""

    time: float
    strength: float
    length: float = 0.0


class Voice(Protocol):
    """How a thing sounds: a dry mono stem, float32 (L,), silent before its first event; `rng` for breath and noise."""

    def __call__(
        self, factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    `law` one line for people; `pitch(factors)` its fundamental in Hz (what it means, the family says); `highest` the
    highest frequency in Hz that must fit below half of the sample rate; `materials` (one at least) and those of
    them that `held_out` names, which the `iid` split never shows; `ranges` the kind's own factors, each drawn
    from `(low, high)`; `look` draws it into a sketch at given times; `sound` is its `Voice`;
    `beats` draws its events from a generator and the seconds of the clip.

    Optional: `path(factors, events, times)` to its x in the picture where it travels (with no events it stands at
    `x`); `notes(factors, events)` to `(start, end, MIDI number)`; `words(factors, events)` to `(phones, words)`, both
    lists of `(start, end, name)`.
    """

    family: str
    law: str
    pitch: Callable[[Factors], float]
    sound: Voice
    look: Callable[[Sketch, Factors, Sequence[Event], np.ndarray], None]
    beats: Callable[[np.random.Generator, float], list[Event]]
    materials: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    highest: float = 3800.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    path: Callable[[Factors, Sequence[Event], np.ndarray], np.ndarray] | None = None
    notes: Callable[[Factors, Sequence[Event]], list[tuple[float, float, float]]] | None = None
    words: Callable[[Factors, Sequence[Event]], tuple[list, list]] | None = None


def falls_with_size(low: float, power: float = 1.0) -> Callable[[Factors], float]:
    """The pitch law `f0 = low (LARGEST / size)^power` Hz: `low` is what the largest sounds at."""
    return lambda factors: low * (LARGEST / factors["size"]) ** power


def midi(pitch: float) -> float:
    """MIDI number of a pitch in Hz, with its fraction: 69 at 440 Hz, one a semitone."""
    return float(69 + 12 * np.log2(pitch / 440))


def hits(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two to five events at irregular times, at least a quarter second apart, with strengths from 0.35 to 1."""
    return _spread(rng, seconds, (0.0, 0.0))


def syllables(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Like `hits`, each lasting 0.16 to 0.25 s."""
    return _spread(rng, seconds, (0.16, 0.25))


def _spread(rng: np.random.Generator, seconds: float, lengths: tuple[float, float]) -> list[Event]:
    count = int(rng.integers(2, 6))
    room = seconds - 0.35 - 0.25 * (count - 1)
    if room <= 0:
        count, room = 1, max(seconds - 0.35, 0.05)
    times = np.sort(rng.uniform(0, room, count)) + 0.12 + 0.25 * np.arange(count)
    strong, long = rng.uniform(0.35, 1, count), rng.uniform(*lengths, count)
    return [Event(float(t), float(s), float(n)) for t, s, n in zip(times, strong, long, strict=True)]


def spaced(
    rng: np.random.Generator, seconds: float, *, most: int, length: tuple[float, float], gap: float
) -> list[Event]:
    """Two to `most` events of `length` s, at least `gap` s apart, from 0.12 s on; fewer in short clips."""
    count = int(rng.integers(2, most + 1))
    long, strong = rng.uniform(*length, count), rng.uniform(0.35, 1, count)
    span = seconds - 0.2
    while count > 1 and long[:count].sum() + gap * (count - 1) > span - 0.1:
        count -= 1
    long = np.minimum(long[:count], span - 0.1)
    room = span - long.sum() - gap * (count - 1)
    times = 0.12 + np.sort(rng.uniform(0, room, count)) + gap * np.arange(count) + np.cumsum(long) - long
    return [Event(float(t), float(s), float(n)) for t, s, n in zip(times, strong, long, strict=False)]

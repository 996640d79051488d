"""What there is and what happens: from a seed and an index to objects, their places and their events.

The causal graph of the world, read downwards: level -> number of things -> kind, size, material, place, colour ->
events (when, how hard) -> and from there both `drawing` and `sounds`. Colour, background and loudness are drawn
independently of the kind, so that none of them tells it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from avlab.world.sounds import Event


class Kind(NamedTuple):
    """A kind: its family, its law (for people), `f0` in Hz of the largest and the smallest, its materials."""

    family: str
    law: str
    low: float
    high: float
    materials: tuple[str, ...]


KINDS = {
    "bar": Kind(
        "struck", "f0 ~ 1 / length^2; partials 1, 2.757, 5.404, 8.933", 260.0, 842.0, ("wood", "metal", "rubber")
    ),
    "drum": Kind(
        "struck", "f0 ~ 1 / radius; partials 1, 1.593, 2.136, 2.296", 95.0, 171.0, ("wood", "metal", "rubber")
    ),
    "string": Kind("string", "f0 ~ 1 / length; a loop of one period, damped", 150.0, 270.0, ("nylon", "steel")),
    "bird": Kind("bird", "f0 ~ 1 / size; beak opening = loudness", 1500.0, 2700.0, ("feather",)),
}
FACTORS = ("kind", "size", "material", "x", "y", "colour", "tilt", "pick", "sweep", "trill")
SMALLEST, LARGEST = 10 / 64, 18 / 64  # radius as a share of the picture's side


@dataclass
class Thing:
    """One object: `spot` is seen, `voice` is heard, `events` drive both; `sounds` is False for a look-alike."""

    kind: str
    spot: dict[str, Any]
    f0: float
    voice: dict[str, float]
    events: list[Event] = field(default_factory=list)
    sounds: bool = True


def pitch(kind: str, radius: float) -> float:
    """`f0` in Hz of a kind with a radius (a share of the picture's side): `low (LARGEST / radius)^p`.

    The power `p` is 2 for a bar and 1 for a drum, a string and a bird; `high` of each kind is where that law ends at
    the smallest size.

    >>> round(pitch("drum", 18 / 64)), round(pitch("drum", 10 / 64)), round(pitch("bar", 10 / 64))
    (95, 171, 842)
    """
    return KINDS[kind].low * (LARGEST / radius) ** (2 if kind == "bar" else 1)


def events_of(kind: str, rng: np.random.Generator, seconds: float) -> list[Event]:
    """Two to five events at irregular times, at least a quarter second apart, with strengths from 0.35 to 1."""
    count = int(rng.integers(2, 6))
    room = seconds - 0.35 - 0.25 * (count - 1)
    if room <= 0:
        count, room = 1, max(seconds - 0.35, 0.05)
    times = np.sort(rng.uniform(0, room, count)) + 0.12 + 0.25 * np.arange(count)
    lengths = rng.uniform(0.16, 0.25, count) if kind == "bird" else np.zeros(count)
    return [
        Event(float(t), float(s), float(n)) for t, s, n in zip(times, rng.uniform(0.35, 1, count), lengths, strict=True)
    ]


def free_place(radius: float, rng: np.random.Generator, others: list[Thing]) -> tuple[float, float] | None:
    """Where an object of this radius leaves the others mostly uncovered; None where 20 tries find no such place."""
    for _ in range(20):
        x = float(rng.uniform(1.15 * radius, 1 - 1.15 * radius))
        y = float(rng.uniform(1.6 * radius, 1 - 0.95 * radius))  # above it is room for the mallet
        if all(math.hypot(x - o.spot["x"], y - o.spot["y"]) > 0.7 * (radius + o.spot["radius"]) for o in others):
            return x, y
    return None


def make_thing(
    kind: str, rng: np.random.Generator, *, seconds: float, others: list[Thing], centred: bool = False
) -> Thing | None:
    """Draw one object of a kind: size, place, material, colour, and its events; None where there is no place for it."""
    radius = float(rng.uniform(SMALLEST, LARGEST))
    place = (0.5, 0.55) if centred else free_place(radius, rng, others)
    if place is None:
        return None
    spot = {
        "radius": radius,
        "x": place[0],
        "y": place[1],
        "tilt": float(rng.uniform(-0.4, 0.4)),
        "side": 1 if place[0] < 0.5 else -1,  # a bird looks towards the middle: its beak stays in the picture
        "pick": float(rng.uniform(0.12, 0.5)),
        "colour": tuple(int(c) for c in rng.uniform(50, 235, 3)),
        "material": str(rng.choice(KINDS[kind].materials)),
    }
    voice = {"sweep": float(rng.uniform(-0.35, 0.4)), "trill": float(rng.uniform(12, 30))}
    return Thing(kind, spot, pitch(kind, radius), voice, events_of(kind, rng, seconds))


def make_scene(level: int, kinds: tuple[str, ...], rng: np.random.Generator, *, seconds: float) -> list[Thing]:
    """The objects of one clip: the one that sounds first, then silent look-alikes (from L2 on, 0 to 2 of them).

    Two look-alikes in three move on their own time, the third stands still. One without a free place is left out.
    """
    things = [make_thing(str(rng.choice(kinds)), rng, seconds=seconds, others=[], centred=level == 0)]
    for _ in range(int(rng.integers(0, 3)) if level >= 2 else 0):
        kind, moves = str(rng.choice(kinds)), rng.random() < 2 / 3
        new = make_thing(kind, rng, seconds=seconds, others=things)
        if new is not None:
            new.sounds = False
            new.events = new.events if moves else []
            things.append(new)
    return things

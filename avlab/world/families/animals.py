"""Animals: birds that sing and dogs that bark. What opens is what is loud.

Law of the bird: a tone gliding by the factor `1 + sweep` over each syllable, trembling at `trill` Hz, from
`f0 ~ 1 / size`. The amplitude is the beak's opening, so what is seen to open is heard to swell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avlab.world.drawing import Sketch, opening, shade
from avlab.world.kinds import Event, Factors, Kind, falls_with_size, syllables

bird_pitch = falls_with_size(1500.0)


def sung(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A bird's syllables, with a second harmonic at a quarter of the amplitude."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    level = opening(events, times)
    pitch = np.full(len(times), bird_pitch(factors))
    for time, _, length in events:
        inside = (times >= time) & (times < time + length)
        pitch[inside] *= 1 + factors["sweep"] * (times[inside] - time) / length
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    tremble = 1 - 0.35 * (1 + np.sin(2 * np.pi * factors["trill"] * times)) / 2
    return (level * tremble * (np.sin(phase) + 0.25 * np.sin(2 * phase))).astype(np.float32)


def bird(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A bird whose beak opens as far as its song is loud; body and head swell a little with it."""
    wide, side = opening(events, times), 1 if factors["x"] < 0.5 else -1  # it looks towards the middle
    colour, accent = factors["colour"], factors["accent"]
    sketch.polygon([(-side * 0.6, 0), (-side * 1.25, -0.25), (-side * 1.2, 0.2)], shade(colour, 0.7))
    sketch.ellipse((0, 0), (0.85, 0.66 + 0.1 * wide), colour)
    sketch.ellipse((-side * 0.15, -0.05), (0.42, 0.25), shade(colour, 0.75), angle=0.4 * side)
    x, y = side * 0.6, -(0.5 + 0.12 * wide)
    sketch.ellipse((x, y), (0.42, 0.42), shade(colour, 1.15), moving=True)
    for way in (-1, 1):
        jaw = [(0.25, 0.0), (0.22, way * 0.24), (0.85, way * (0.08 + 0.62 * wide))]
        sketch.polygon([(x + side * i, y + j) for i, j in jaw], accent, moving=True)
    sketch.ellipse((x + side * 0.12, y - 0.12), (0.07, 0.07), (15, 15, 15), moving=True)


KINDS = {
    "bird": Kind(
        family="animal",
        law="f0 ~ 1 / size; beak opening = loudness",
        pitch=bird_pitch,
        sound=sung,
        look=bird,
        beats=syllables,
        materials=("feather",),
        highest=7600.0,
        ranges={"sweep": (-0.35, 0.4), "trill": (12.0, 30.0)},
    ),
}

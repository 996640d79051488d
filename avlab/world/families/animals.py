"""Animals: birds that sing and dogs that bark. What opens is what is loud.

Law of the bird: a tone gliding by the factor `1 + sweep` over each syllable, trembling at `trill` Hz, from
`f0 ~ 1 / size`. The amplitude is the beak's opening, so what is seen to open is heard to swell; while it glides up the
beak is lifted, while it glides down it sinks; a wide tail goes with a slow trill.

Law of the dog: pulses of the vocal folds, `f0 ~ 1 / size`, falling to `1 - FALL` of it over each bark, and a share
`rough` of noise, through the first two resonances of a tube closed at the throat: `F1` and `3 F1`, with `F1 ~ 1 /
(muzzle size)` by the length of the muzzle that is seen. The amplitude is the opening of the mouth; a rough voice has a
rough coat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from avlab.world.drawing import Sketch, opening, shade, turned
from avlab.world.kinds import LARGEST, Event, Factors, Kind, falls_with_size, syllables
from avlab.world.sounds import pulse_train

TRILL = (12.0, 30.0)  # Hz
FALL = 0.35  # by which a bark's pitch falls
LONGEST = 0.85  # muzzle in radii
FIRST = 420.0  # Hz, the first resonance of the largest dog with the longest muzzle

bird_pitch = falls_with_size(1000.0)
dog_pitch = falls_with_size(190.0)


def glided(pitch: float, change: float, events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """A frequency in Hz at `times`: `pitch`, over each event gliding to `1 + change` times it: (T,)."""
    out = np.full(len(times), pitch)
    for time, _, length in events:
        inside = (times >= time) & (times < time + length)
        out[inside] *= 1 + change * (times[inside] - time) / length
    return out


def sung(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A bird's syllables, with a second harmonic at a quarter of the amplitude where there is room for it."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    level = opening(events, times)
    pitch = glided(bird_pitch(factors), factors["sweep"], events, times)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    tremble = 1 - 0.35 * (1 + np.sin(2 * np.pi * factors["trill"] * times)) / 2
    second = np.where(2 * pitch < 0.45 * sample_rate, 0.25, 0.0)
    return (level * tremble * (np.sin(phase) + second * np.sin(2 * phase))).astype(np.float32)


def bird(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A bird whose beak opens as far as its song is loud; its wing lifts with it, its head follows the glide."""
    wide, side = opening(events, times), 1 if factors["x"] < 0.5 else -1  # it looks towards the middle
    colour, accent = factors["colour"], factors["accent"]
    fan = 0.12 + 0.4 * (TRILL[1] - factors["trill"]) / (TRILL[1] - TRILL[0])
    sketch.polygon(
        [(-side * i, j) for i, j in ((0.5, 0.0), (1.25, -0.2 - fan), (1.25, -0.2 + fan))], shade(colour, 0.7)
    )
    for place in (-0.05, 0.25):
        sketch.line((side * place, 0.5), (side * (place + 0.1), 1.0), shade(colour, 0.5), width=0.1)
    sketch.ellipse((0, 0.05), (0.85, 0.62 + 0.1 * wide), colour)
    wing = (-side * 0.2, -0.3 * wide)
    sketch.ellipse(wing, (0.48, 0.27), shade(colour, 0.7), angle=side * (0.4 + 0.8 * wide), moving=True)
    head = (side * 0.45, -0.5 - 0.1 * wide)
    sketch.ellipse(head, (0.45, 0.45), shade(colour, 1.15), moving=True)
    lift = -side * 2.0 * factors["sweep"] * wide
    for way in (-1, 1):
        jaw = [(side * i, j) for i, j in ((0.2, -way * 0.04), (0.25, way * 0.26), (0.85, way * 0.05))]
        sketch.polygon(turned(jaw, lift + side * way * 0.75 * wide, head), accent, moving=True)
    (eye,) = turned([(side * 0.12, -0.14)], lift, head)
    sketch.ellipse(eye, (0.09, 0.09), (15, 15, 15), moving=True)


def gape(events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """How far a barking mouth is open at `times`: `strength sin(pi sqrt(u))^2` over each event, widest at u = 1/4."""
    out = np.zeros(len(times))
    for time, strength, length in events:
        inside = (times >= time) & (times < time + length)
        out[inside] = strength * np.sin(np.pi * np.sqrt((times[inside] - time) / length)) ** 2
    return out


def tract(factors: Factors) -> float:
    """The first resonance of a dog's throat and muzzle in Hz; the second lies at three times it."""
    return FIRST * (LARGEST * LONGEST) / (factors["size"] * factors["muzzle"])


def barked(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A dog's barks: pulses and noise through two resonances, as loud as the mouth is open."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    turns = np.cumsum(glided(dog_pitch(factors), -FALL, events, times)) / sample_rate
    voice = pulse_train(turns, 16, 0.45 * sample_rate / dog_pitch(factors))
    source = (1 - factors["rough"]) * voice + 0.5 * factors["rough"] * rng.standard_normal(len(times), np.float32)
    out = np.zeros(len(times))
    for ratio, amplitude in ((1, 1.0), (3, 0.6)):
        angle, decay = 2 * np.pi * ratio * tract(factors) / sample_rate, np.exp(-np.pi * 90.0 * ratio / sample_rate)
        if angle < 0.9 * np.pi:
            out += amplitude * lfilter([0.0, np.sin(angle)], [1.0, -2 * decay * np.cos(angle), decay**2], source)
    return (gape(events, times) * out).astype(np.float32)


def dog(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A dog's head in profile: the jaws part as far as the bark is loud, the head jerks back; the coat is `rough`."""
    wide, side = gape(events, times), 1 if factors["x"] < 0.5 else -1
    colour, accent, long = factors["colour"], factors["accent"], factors["muzzle"]
    jerk, head = -side * 0.35 * wide, (-side * 0.3, -0.25 - 0.12 * wide)

    def of_head(points: Sequence[tuple]) -> list[tuple]:
        return turned([(side * i, j) for i, j in points], jerk, head)

    neck = ((0.85, -0.2), (-0.1, -0.1), (-0.15, 1.15), (1.1, 1.15))
    sketch.polygon([(-side * i, j) for i, j in neck], shade(colour, 0.8))
    for k in range(3):  # hackles
        x, y = 0.67 + 0.07 * k, 0.42 * k - 0.1
        tuft = ((x, y - 0.2), (x + 0.2 + 0.45 * factors["rough"], y + 0.25), (x, y + 0.3))
        sketch.polygon([(-side * i, j) for i, j in tuft], shade(colour, 0.65))
    sketch.box((-side * 0.38, 0.65), (0.62, 0.1), accent)
    hinge, lip = of_head([(0.0, 0.22), (0.45 + long, 0.15)])
    jaw = [(side * i, j) for i, j in ((-0.1, 0.15), (0.0, -0.1), (0.4 + long, -0.04), (0.35 + long, 0.14))]
    lower = turned(jaw, jerk + side * 1.3 * wide, hinge)
    sketch.polygon([hinge, lip, lower[2]], shade(accent, 0.4), moving=True)
    sketch.polygon(lower, accent, moving=True)
    sketch.ellipse(head, (0.64, 0.6), colour, moving=True)
    muzzle = of_head([(0.2, -0.42), (0.45 + long, -0.12), (0.48 + long, 0.2), (0.1, 0.3)])
    sketch.polygon(muzzle, shade(colour, 1.1), moving=True)
    nose, eye = of_head([(0.42 + long, -0.08), (0.2, -0.22)])
    sketch.ellipse(nose, (0.13, 0.11), (20, 20, 20), moving=True)
    ear = of_head([(-0.5, -0.5), (-0.1, -0.55), (-0.25, 0.35), (-0.6, 0.3)])
    sketch.polygon(ear, shade(colour, 0.55), moving=True)
    sketch.ellipse(eye, (0.09, 0.09), (15, 15, 15), moving=True)


KINDS = {
    "bird": Kind(
        family="animal",
        law="f0 ~ 1 / size; beak opening = loudness, beak's lift = glide",
        pitch=bird_pitch,
        sound=sung,
        look=bird,
        beats=syllables,
        materials=("feather",),
        highest=7600.0,
        ranges={"sweep": (-0.35, 0.4), "trill": TRILL},
    ),
    "dog": Kind(
        family="animal",
        law="f0 ~ 1 / size; formants ~ 1 / muzzle; mouth opening = loudness",
        pitch=dog_pitch,
        sound=barked,
        look=dog,
        beats=syllables,
        materials=("fur",),
        highest=7600.0,
        ranges={"muzzle": (0.4, LONGEST), "rough": (0.1, 0.6)},
    ),
}

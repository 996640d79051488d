"""What the tests of the families share: one thing alone, heard and seen."""

from collections.abc import Sequence

import numpy as np

from avlab.world import KINDS
from avlab.world.drawing import Sketch, rasterise
from avlab.world.kinds import Event, Factors

RATE = 16000  # Hz


def heard(
    kind: str, factors: Factors, events: Sequence[Event], seconds: float = 2.0, rate: int = RATE, seed: int = 0
) -> np.ndarray:
    """The sound of a thing alone: (L,) in double precision, for measuring."""
    sound = KINDS[kind].sound(factors, events, seconds=seconds, sample_rate=rate, rng=np.random.default_rng(seed))
    assert sound.dtype == np.float32
    assert sound.shape == (round(seconds * rate),)
    return sound.astype(float)


def sketched(kind: str, factors: Factors, events: Sequence[Event], times: Sequence[float]) -> Sketch:
    """The parts of a thing at times in seconds."""
    at, path = np.asarray(times, float), KINDS[kind].path
    sketch = Sketch(factors, at, x=None if path is None else path(factors, events, at))
    KINDS[kind].look(sketch, factors, events, at)
    return sketch


def seen(
    kind: str,
    factors: Factors,
    events: Sequence[Event],
    times: Sequence[float],
    side: int = 256,
    ground: tuple[int, int, int] = (0, 0, 0),
) -> tuple[np.ndarray, np.ndarray, Sketch]:
    """Frames (N, side, side, 3) of a thing before one colour, the number of the part seen in each pixel, the sketch."""
    sketch = sketched(kind, factors, events, times)
    return *rasterise(sketch.parts, np.full((side, side, 3), ground, np.uint8), len(times)), sketch


def middle(mask: np.ndarray) -> np.ndarray:
    """Centre (x, y) in px of each frame's True pixels: (N, 2)."""
    return np.array([np.argwhere(frame)[:, ::-1].mean(axis=0) for frame in mask])


def peak(sound: np.ndarray, low: float, high: float) -> float:
    """Frequency in Hz of the strongest component between two, at 16 kHz, refined by a parabola."""
    size = 2**18
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
    first, last = int(low * size / RATE), int(high * size / RATE)
    k = first + int(spectrum[first:last].argmax())
    a, b, c = np.log(spectrum[k - 1 : k + 2] + 1e-30)
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * RATE / size

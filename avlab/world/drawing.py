"""How things are drawn: sketches of moving parts, and from them pictures, exact masks and exact flow.

A thing's look is a list of `Part`s (polygons, ellipses, lines) whose points are known at every time. From that one
list come the anti-aliased picture, a hard-edged map of which part is seen in each pixel (from it the masks), and the
optical flow: each part moves by an affine map from frame to frame. What is drawn later lies in front in all three.
Coordinates of parts are in units of the picture's side (0 left/top, 1 right/bottom), of sketches in radii of the thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

SHIFT = 4  # OpenCV takes 1/16 pixel
NONE = 255  # in a map of parts: none of them moves
FLOW_STEP = 1 / 128  # px: flow is rounded to this, so that it can be stored as 16-bit integers

Colour = tuple[int, int, int]
Number = float | np.ndarray  # a constant, or one value a time
Point = tuple[Number, Number]


class Part(NamedTuple):
    """One primitive at all times: `points` (1 or times, V, 2), constant or one row a time.

    `shape` is "polygon" (convex), "ellipse" (points: centre, end of one half-axis, end of the other) or "line" (start,
    end, and a third point beside the start that carries its width's direction). `width` of a line in units of the
    picture's side. `moving` says whether it belongs to the part that moves with the sound, `seen` whether it is drawn
    (each a bool or one a time); `owner` is the number of the thing, -1 for scenery.
    """

    shape: str
    points: np.ndarray
    colour: Colour
    width: float
    moving: bool | np.ndarray
    seen: bool | np.ndarray
    owner: int


class Sketch:
    """Collects the parts of one thing, drawn in radii around its place and turned by its tilt (right, down).

    `times` (T,) s; `x` may travel (one value a time). Any coordinate may be a number or an array of one value a time.
    """

    def __init__(self, factors: Mapping[str, Any], times: np.ndarray, *, owner: int = 0, x: Number | None = None):
        self.x, self.y = factors["x"] if x is None else x, factors["y"]
        self.radius, self.tilt, self.owner, self.times = factors["size"], factors["tilt"], owner, times
        self.parts: list[Part] = []

    def place(self, points: Sequence[Point]) -> np.ndarray:
        """Points in radii to points in units of the side: (1 or T, V, 2)."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        placed = [(self.x + self.radius * (x * c - y * s), self.y + self.radius * (x * s + y * c)) for x, y in points]
        count = max(np.size(value) for point in placed for value in point)
        out = np.empty((count, len(placed), 2))
        for v, (x, y) in enumerate(placed):
            out[:, v, 0], out[:, v, 1] = x, y
        return out

    def _add(self, shape: str, points: Sequence[Point], colour: Colour, moving: Any, seen: Any, width: float = 0.0):
        self.parts.append(Part(shape, self.place(points), colour, width * self.radius, moving, seen, self.owner))

    def polygon(
        self,
        points: Sequence[Point],
        colour: Colour,
        *,
        moving: bool | np.ndarray = False,
        seen: bool | np.ndarray = True,
    ) -> None:
        """A filled convex polygon."""
        self._add("polygon", points, colour, moving, seen)

    def box(self, centre: Point, half: Point, colour: Colour, *, angle: Number = 0.0, **how: Any) -> None:
        """A filled rectangle with half-sides `half`, turned by `angle` radians about its centre."""
        (a, b), corners = half, ((-1, -1), (1, -1), (1, 1), (-1, 1))
        self.polygon(turned([(i * a, j * b) for i, j in corners], angle, centre), colour, **how)

    def ellipse(
        self,
        centre: Point,
        axes: Point,
        colour: Colour,
        *,
        angle: Number = 0.0,
        moving: bool | np.ndarray = False,
        seen: bool | np.ndarray = True,
    ) -> None:
        """A filled ellipse with half-axes `axes`, turned by `angle` radians."""
        ends = turned([(axes[0], 0.0), (0.0, axes[1])], angle, centre)
        self._add("ellipse", [centre, *ends], colour, moving, seen)

    def line(
        self,
        start: Point,
        end: Point,
        colour: Colour,
        *,
        width: float = 0.1,
        moving: bool | np.ndarray = False,
        seen: bool | np.ndarray = True,
    ) -> None:
        """A line `width` radii wide, at least one pixel."""
        beside = (start[0] - (end[1] - start[1]), start[1] + (end[0] - start[0]))
        self._add("line", [start, end, beside], colour, moving, seen, width)


def turned(points: Sequence[Point], angle: Number, about: Point = (0.0, 0.0)) -> list[Point]:
    """`points` (right, down) turned by `angle` radians (clockwise as seen) and moved to `about`."""
    c, s = np.cos(angle), np.sin(angle)
    return [(about[0] + x * c - y * s, about[1] + x * s + y * c) for x, y in points]


def shade(colour: Colour, by: float) -> Colour:
    """The colour times `by`, within 0 to 255."""
    return tuple(int(min(255, max(0, c * by))) for c in colour)


def backdrop(rng: np.random.Generator, size: int, *, plain: bool) -> np.ndarray:
    """A still backdrop (H, W, 3) uint8, independent of kinds: one muted colour, or a gradient with soft blotches."""
    base = rng.uniform(60, 190, 3)
    if plain:
        return np.full((size, size, 3), base, np.uint8)
    blotches = cv2.resize(rng.normal(0, 14, (6, 6, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    slope = rng.normal(0, 22, (2, 3))
    ramp = np.linspace(-1, 1, size)
    picture = base + ramp[:, None, None] * slope[0] + ramp[None, :, None] * slope[1] + blotches
    return np.clip(picture, 0, 255).astype(np.uint8)


def rasterise(parts: Sequence[Part], still: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (N, H, W, 3) and the part seen in each pixel, uint8 (N, H, W): `k + 1` for `parts[k]`, 0 for none.

    Raises `ValueError` for more than 254 parts.
    """
    if len(parts) >= NONE:
        raise ValueError(f"{len(parts)} parts in one clip; at most 254 can be told apart")
    size = len(still)
    pictures = np.empty((frames, *still.shape), np.uint8)
    ids = np.zeros((frames, size, size), np.uint8)
    strokes = [_stroke(part, size, k + 1) for k, part in enumerate(parts)]
    shown = [np.broadcast_to(part.seen, max(frames, np.size(part.seen))).tolist() for part in parts]
    fixed = next((k for k, part in enumerate(parts) if len(part.points) > 1 or np.size(part.seen) > 1), len(parts))
    ground, under = still.copy(), np.zeros((size, size), np.uint8)
    for stroke, seen in zip(strokes[:fixed], shown, strict=False):  # what never moves and lies behind: drawn once
        if seen[0]:
            stroke(ground, under, 0)
    moving = list(zip(strokes[fixed:], shown[fixed:], strict=True))
    for n in range(frames):
        picture, owner = pictures[n], ids[n]
        picture[:], owner[:] = ground, under
        for stroke, seen in moving:
            if seen[n]:
                stroke(picture, owner, n)
    return pictures, ids


def _stroke(part: Part, size: int, number: int) -> Callable[[np.ndarray, np.ndarray, int], None]:
    """A function that draws one part into a picture and its `number` into a map, at frame `n`."""
    pixels = part.points * size - 0.5  # a pixel's centre is a whole number in OpenCV
    exact = np.rint(pixels * 2**SHIFT).astype(np.int32)
    last = len(exact) - 1
    if part.shape == "polygon":

        def draw(picture: np.ndarray, ids: np.ndarray, n: int) -> None:
            points = exact[min(n, last)]
            cv2.fillConvexPoly(picture, points, part.colour, cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(ids, points, number, cv2.LINE_8, SHIFT)

    elif part.shape == "ellipse":
        arms = pixels[:, 1:] - pixels[:, :1]  # (n, 2, 2)
        axes = np.maximum(1, np.rint(np.hypot(arms[..., 0], arms[..., 1]) * 2**SHIFT)).astype(int).tolist()
        angles = np.degrees(np.arctan2(arms[:, 0, 1], arms[:, 0, 0])).tolist()
        centres = exact[:, 0].tolist()

        def draw(picture: np.ndarray, ids: np.ndarray, n: int) -> None:
            m = min(n, last)
            cv2.ellipse(picture, centres[m], axes[m], angles[m], 0, 360, part.colour, -1, cv2.LINE_AA, SHIFT)
            cv2.ellipse(ids, centres[m], axes[m], angles[m], 0, 360, number, -1, cv2.LINE_8, SHIFT)

    else:
        ends, thick = exact[:, :2].tolist(), max(1, round(part.width * size))

        def draw(picture: np.ndarray, ids: np.ndarray, n: int) -> None:
            start, end = ends[min(n, last)]
            cv2.line(picture, start, end, part.colour, thick, cv2.LINE_AA, SHIFT)
            cv2.line(ids, start, end, number, thick, cv2.LINE_8, SHIFT)

    return draw


def flow_of(parts: Sequence[Part], ids: np.ndarray) -> np.ndarray:
    """Optical flow float32 (N, H, W, 2) in px: where the point seen in a pixel of frame `n` is in frame `n + 1`.

    Needs parts known at N + 1 times. Every part moves by the affine map that takes its first three points from one
    frame to the next; scenery has none. Rounded to `FLOW_STEP`.
    """
    size = ids.shape[1]
    flow = np.zeros((*ids.shape, 2), np.float32)
    movers = [k for k, part in enumerate(parts) if len(part.points) > 1]
    if not movers:
        return flow
    P = np.stack([parts[k].points[:, :3] for k in movers]) * size - 0.5  # (K, N + 1, 3, 2)
    arms = np.swapaxes(P[:, :, 1:] - P[:, :, :1], -1, -2)  # (K, N + 1, 2, 2): columns are the two arms
    now, then = arms[:, :-1], arms[:, 1:]
    det = now[..., 0, 0] * now[..., 1, 1] - now[..., 0, 1] * now[..., 1, 0]
    flat = np.abs(det) < 1e-6  # no area: it can only be shifted
    safe = np.where(flat, 1.0, det)
    inverse = (
        np.stack([np.stack([now[..., 1, 1], -now[..., 0, 1]], -1), np.stack([-now[..., 1, 0], now[..., 0, 0]], -1)], -2)
        / safe[..., None, None]
    )
    A = np.einsum("knij,knjl->knil", then, inverse) - np.eye(2)  # displacement = A (q - p0) + (p0' - p0)
    A[flat] = 0
    origin = P[:, :-1, 0]
    shift = P[:, 1:, 0] - origin - np.einsum("knij,knj->kni", A, origin)
    maps = np.concatenate([A.reshape(-1, 4), shift.reshape(-1, 2)], axis=1)  # (K N, 6)
    place = np.full(256, NONE, np.uint8)
    place[np.array(movers) + 1] = np.arange(len(movers))
    mover = cv2.LUT(ids.reshape(len(ids), -1), place).reshape(-1)
    pixel = np.flatnonzero(mover != NONE)
    n, at = np.divmod(pixel, size * size)
    y, x = np.divmod(at, size)
    xx, xy, yx, yy, dx, dy = maps[mover[pixel].astype(np.intp) * len(ids) + n].T
    moved = np.stack([xx * x + xy * y + dx, yx * x + yy * y + dy], axis=-1)
    flow.reshape(-1, 2)[pixel] = np.rint(np.clip(moved, -255, 255) / FLOW_STEP) * FLOW_STEP + 0.0  # no negative zeros
    return flow


def away(events: Sequence[Any], times: np.ndarray, *, reach: float = 0.12) -> np.ndarray:
    """How far a mallet is from its target, (T,): 0 at contact, 1 at rest; it moves at strength / `reach` a second."""
    out = np.ones(len(times))
    for event in events:
        out = np.minimum(out, event.strength * np.abs(times - event.time) / reach)
    return out


def held(events: Sequence[Any], times: np.ndarray, *, rise: float = 0.02, fall: float = 0.06) -> np.ndarray:
    """What is blown or poured at `times` (s): up to the strength in `rise` s, down to 0 in the last `fall` s: (T,)."""
    out = np.zeros(len(times))
    for time, strength, length in events:
        edge = np.minimum((times - time) / rise, (time + length - times) / fall)
        out = np.maximum(out, strength * np.clip(edge, 0, 1))
    return out


def opening(events: Sequence[Any], times: np.ndarray) -> np.ndarray:
    """How far a beak is open at each of `times` (s): 0 to 1, a raised cosine over each event's length: (T,)."""
    out = np.zeros(len(times))
    for time, strength, length in events:
        inside = (times >= time) & (times < time + length)
        out[inside] = np.maximum(out[inside], strength * np.sin(np.pi * (times[inside] - time) / length) ** 2)
    return out


def texture(sketch: Sketch, factors: Mapping[str, Any], half: Point, centre: Point = (0.0, 0.0)) -> None:
    """A material's look on a box of half-size `half`: grain, gloss or nothing; a coat of paint hides it.

    Wood has two dark grains, metal a white gloss, rubber is flat, glass has two short glints, clay has dots.
    """
    (a, b), (x, y), colour = half, centre, factors["colour"]
    if factors["coat"] == "painted":
        return
    if factors["material"] == "wood":
        for level in (-0.4 * b, 0.35 * b):
            sketch.line((x - 0.9 * a, y + level), (x + 0.9 * a, y + level), shade(colour, 0.6), width=0.05)
    elif factors["material"] in ("metal", "steel"):
        sketch.line((x - 0.8 * a, y - 0.5 * b), (x + 0.5 * a, y - 0.5 * b), (245, 245, 245), width=0.08)
    elif factors["material"] == "glass":
        for level in (-0.5 * b, 0.1 * b):
            sketch.line((x - 0.55 * a, y + level), (x - 0.55 * a, y + level + 0.35 * b), (245, 245, 245), width=0.08)
    elif factors["material"] == "clay":
        for i, j in ((-0.5, -0.4), (0.4, -0.1), (-0.2, 0.5)):
            sketch.ellipse((x + i * a, y + j * b), (0.08, 0.08), shade(colour, 0.6))


cv2.setNumThreads(0)  # clips are small: OpenCV's threads cost more than they give, and many processes would fight

"""How the things of the world look and move: the same events and sizes that `sounds` reads, as pixels and exact masks.

Every primitive is drawn twice by one call: anti-aliased into the picture, and hard-edged into a map of owners, which
holds `2 o + 1` where the body of object `o` is seen and `2 o + 2` where its moving part is (0: background). What lies
in front wins in both. Coordinates are in units of the picture's side (0 left/top, 1 right/bottom).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from avlab.world.sounds import Event, opening

SHIFT = 4  # OpenCV takes 1/16 pixel

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Canvas:
    """A picture and its owners: `pixels` uint8 (H, W, 3) and `owners` uint8 (H, W), both of `size` px a side."""

    def __init__(self, background: np.ndarray) -> None:
        self.pixels = background.copy()
        self.size = len(background)
        self.owners = np.zeros(background.shape[:2], np.uint8)
        self.owner = 0  # what the next primitive belongs to; 0 leaves the owners alone

    def _fixed(self, points: Sequence[Point]) -> np.ndarray:
        """Points in units of the side, as OpenCV's 1/16 pixels (a pixel's centre is a whole number there)."""
        return np.round((np.asarray(points) * self.size - 0.5) * 2**SHIFT).astype(np.int32)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled convex polygon."""
        fixed = self._fixed(points)
        cv2.fillConvexPoly(self.pixels, fixed, colour, cv2.LINE_AA, SHIFT)
        if self.owner:
            cv2.fillConvexPoly(self.owners, fixed, self.owner, cv2.LINE_8, SHIFT)

    def ellipse(self, centre: Point, axes: Point, angle: float, colour: Colour) -> None:
        """A filled ellipse with half-axes `axes`, turned by `angle` radians."""
        (x, y), unit = self._fixed([centre])[0], self.size * 2**SHIFT
        a = (max(1, round(axes[0] * unit)), max(1, round(axes[1] * unit)))
        where = ((int(x), int(y)), a, np.degrees(angle), 0, 360)
        cv2.ellipse(self.pixels, *where, colour, -1, cv2.LINE_AA, SHIFT)
        if self.owner:
            cv2.ellipse(self.owners, *where, self.owner, -1, cv2.LINE_8, SHIFT)

    def line(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        """A line `width` wide, in units of the side, at least one pixel."""
        (a, b), thick = self._fixed([start, end]).tolist(), max(1, round(width * self.size))
        cv2.line(self.pixels, a, b, colour, thick, cv2.LINE_AA, SHIFT)
        if self.owner:
            cv2.line(self.owners, a, b, self.owner, thick, cv2.LINE_8, SHIFT)


def background(rng: np.random.Generator, size: int, *, plain: bool) -> np.ndarray:
    """A still backdrop (H, W, 3) uint8, independent of kinds: one muted colour, or a gradient with soft blotches."""
    base = rng.uniform(60, 190, 3)
    if plain:
        return np.full((size, size, 3), base, np.uint8)
    blotches = cv2.resize(rng.normal(0, 14, (6, 6, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    slope = rng.normal(0, 22, (2, 3))
    ramp = np.linspace(-1, 1, size)
    picture = base + ramp[:, None, None] * slope[0] + ramp[None, :, None] * slope[1] + blotches
    return np.clip(picture, 0, 255).astype(np.uint8)


def turned(centre: Point, angle: float, points: Sequence[Point]) -> list[Point]:
    """`points` (right, down) turned by `angle` radians and moved to `centre`."""
    c, s = np.cos(angle), np.sin(angle)
    return [(centre[0] + x * c - y * s, centre[1] + x * s + y * c) for x, y in points]


def shade(colour: Colour, by: float) -> Colour:
    """The colour times `by`, within 0 to 255."""
    return tuple(int(min(255, max(0, c * by))) for c in colour)


def height(events: Sequence[Event], time: float, *, reach: float = 0.16) -> float:
    """Distance of a mallet from the thing it strikes: 0 at contact, 1 at rest, straight lines of `reach` s between."""
    return min((abs(time - e.time) / reach for e in events), default=1.0) if events else 1.0


def after(events: Sequence[Event], time: float, *, fade: float) -> float:
    """What is left of the latest events at `time`: strength times `exp(-(t - t_event) / fade)`, the largest of them."""
    return max((e.strength * np.exp(-(time - e.time) / fade) for e in events if e.time <= time), default=0.0)


def grain(canvas: Canvas, spot: dict, half: Point) -> None:
    """A material's look on a box of half-size `half`: wood has dark grain, metal a gloss, rubber is flat."""
    at, tilt, (a, b) = (spot["x"], spot["y"]), spot["tilt"], half
    if spot["material"] == "wood":
        for y in (-0.4 * b, 0.35 * b):
            start, end = turned(at, tilt, [(-0.9 * a, y), (0.9 * a, y)])
            canvas.line(start, end, shade(spot["colour"], 0.6), 0.012)
    elif spot["material"] == "metal":
        start, end = turned(at, tilt, [(-0.8 * a, -0.5 * b), (0.5 * a, -0.5 * b)])
        canvas.line(start, end, (245, 245, 245), 0.02)


def mallet(canvas: Canvas, spot: dict, owner: int, target: Point, gap: float) -> None:
    """A stick with a round head, `gap` radii above the `target` that it strikes, at right angles to the tilt."""
    r, tilt = spot["radius"], spot["tilt"]
    head, tail = turned(target, tilt, [(0, -(0.2 + 0.75 * gap) * r), (0.65 * r, -(1.0 + 0.75 * gap) * r)])
    canvas.owner = owner + 1
    canvas.line(head, tail, (70, 55, 40), 0.03)
    canvas.ellipse(head, (0.22 * r, 0.22 * r), 0, (235, 225, 205))


def bar(canvas: Canvas, spot: dict, owner: int, events: Sequence[Event], time: float) -> None:
    """A bar of half-length `radius`, struck at its middle; it gives way a little at the hit."""
    r, dip = spot["radius"], 0.10 * after(events, time, fade=0.12)
    here = dict(spot, y=spot["y"] + dip * spot["radius"])
    at, half = (here["x"], here["y"]), (r, 0.5 * r)
    canvas.owner = owner
    corners = [(-half[0], -half[1]), (half[0], -half[1]), (half[0], half[1]), (-half[0], half[1])]
    canvas.polygon(turned(at, here["tilt"], corners), spot["colour"])
    grain(canvas, here, half)
    target = turned(at, here["tilt"], [(0, -half[1])])[0]
    mallet(canvas, spot, owner, target, min(1.0, height(events, time)))


def drum(canvas: Canvas, spot: dict, owner: int, events: Sequence[Event], time: float) -> None:
    """A drum of radius `radius`: a shell, a skin that swings after the hit, a stick."""
    r, swing = spot["radius"], after(events, time, fade=0.15)
    at, tilt = (spot["x"], spot["y"]), spot["tilt"]
    canvas.owner = owner
    shell = turned(at, tilt, [(-r, -0.35 * r), (r, -0.35 * r), (0.85 * r, 0.75 * r), (-0.85 * r, 0.75 * r)])
    canvas.polygon(shell, shade(spot["colour"], 0.75))
    grain(canvas, dict(spot, y=spot["y"] + 0.25 * r), (0.8 * r, 0.3 * r))
    canvas.owner = owner + (1 if swing > 0.05 else 0)
    skin = turned(at, tilt, [(0, -0.35 * r)])[0]
    canvas.ellipse(skin, (r, (0.34 + 0.1 * swing) * r), tilt, (230, 222, 205))
    canvas.ellipse(skin, (0.8 * r, (0.22 + 0.1 * swing) * r), tilt, shade((230, 222, 205), 1 - 0.2 * swing))
    mallet(canvas, spot, owner, skin, min(1.0, height(events, time)))


def string(canvas: Canvas, spot: dict, owner: int, events: Sequence[Event], time: float) -> None:
    """A string over a board, its length `2 radius`; it blurs into a spindle as long as it rings."""
    r, at, tilt = spot["radius"], (spot["x"], spot["y"]), spot["tilt"]
    canvas.owner = owner
    board = [(-1.1 * r, -0.7 * r), (1.1 * r, -0.5 * r), (1.1 * r, 0.5 * r), (-1.1 * r, 0.7 * r)]
    canvas.polygon(turned(at, tilt, board), spot["colour"])
    canvas.ellipse(at, (0.36 * r, 0.36 * r), 0, shade(spot["colour"], 0.35))
    if spot["material"] == "steel":
        start, end = turned(at, tilt, [(-r, -0.52 * r), (0.6 * r, -0.42 * r)])
        canvas.line(start, end, (245, 245, 245), 0.02)
    width = 0.42 * after(events, time, fade=0.3)
    left, right = turned(at, tilt, [(-r, 0), (r, 0)])
    place = 2 * spot["pick"] - 1
    if width > 0.03:
        canvas.owner = owner + 1
        up, down = turned(at, tilt, [(place * r, -width * r), (place * r, width * r)])
        canvas.polygon([left, up, right, down], shade(spot["colour"], 1.5))
    canvas.owner = owner
    canvas.line(left, right, (240, 240, 230), 0.015)
    gap = min(1.0, height(events, time))
    canvas.owner = owner + 1
    tip = [(place * r, -0.55 * gap * r), ((place - 0.2) * r, -(0.55 * gap + 0.5) * r)]
    canvas.polygon(turned(at, tilt, [*tip, ((place + 0.2) * r, tip[1][1])]), (250, 215, 70))


def bird(canvas: Canvas, spot: dict, owner: int, events: Sequence[Event], time: float) -> None:
    """A bird whose beak opens as far as its song is loud; body and head swell a little with it."""
    wide = float(opening(events, np.array([time]))[0])
    r, at, tilt, side = spot["radius"], (spot["x"], spot["y"]), spot["tilt"], spot["side"]
    canvas.owner = owner
    tail = [(-side * 0.6 * r, 0), (-side * 1.25 * r, -0.25 * r), (-side * 1.2 * r, 0.2 * r)]
    canvas.polygon(turned(at, tilt, tail), shade(spot["colour"], 0.7))
    canvas.ellipse(at, (0.85 * r, (0.66 + 0.1 * wide) * r), tilt, spot["colour"])
    wing = turned(at, tilt, [(-side * 0.15 * r, -0.05 * r)])[0]
    canvas.ellipse(wing, (0.42 * r, 0.25 * r), tilt + 0.4 * side, shade(spot["colour"], 0.75))
    head = turned(at, tilt, [(side * 0.6 * r, -(0.5 + 0.12 * wide) * r)])[0]
    canvas.owner = owner + 1
    canvas.ellipse(head, (0.42 * r, 0.42 * r), 0, shade(spot["colour"], 1.15))
    for way in (-1, 1):
        jaw = [(0.25, 0), (0.22, way * 0.24), (0.85, way * (0.08 + 0.62 * wide))]
        canvas.polygon([(head[0] + side * x * r, head[1] + y * r) for x, y in jaw], (240, 150, 40))
    canvas.ellipse((head[0] + side * 0.12 * r, head[1] - 0.12 * r), (0.07 * r, 0.07 * r), 0, (15, 15, 15))


DRAW = {"bar": bar, "drum": drum, "string": string, "bird": bird}

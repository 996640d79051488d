"""What there is and what happens: from a seed and an index to things, their places, their events and the room.

The causal graph of the world, read downwards: level -> number of things -> kind, size, material, place, colour ->
events (when, how hard) -> and from there both picture and sound. Colour, background and loudness are drawn
independently of the kind, so that none of them tells it. Every draw has a random stream of its own, so that changing
one cause leaves all others as they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from avlab.world.families import KINDS
from avlab.world.kinds import LARGEST, SMALLEST, Event

Streams = Callable[..., np.random.Generator]


class Level(NamedTuple):
    """How hard a clip is.

    `snr` range in dB of the noise below the loudest source (None: no noise), `flicker` range of the depth by which the
    light flickers (it moves every pixel, so that the amount of motion does not tell who sounds when), `silent` the
    most silent look-alikes, `sources` that sound and are seen, `offscreen` the share of clips with a sound from
    outside; `room` whether there is a visible room that reverberates; `tricks` whether clips are dubbed, lag, are
    occluded, show unseen combinations.
    """

    snr: tuple[float, float] | None
    flicker: tuple[float, float] = (0.0, 0.0)
    silent: int = 0
    sources: int = 1
    offscreen: float = 0.0
    room: bool = False
    tricks: bool = False


LEVELS = {
    "L0": Level(None),
    "L1": Level((15.0, 30.0), flicker=(0.01, 0.02)),
    "L2": Level((10.0, 25.0), flicker=(0.03, 0.06), silent=2),
    "L3": Level((-5.0, 10.0), flicker=(0.03, 0.06), silent=1, sources=2, offscreen=0.7, room=True),
    "L4": Level((-5.0, 10.0), flicker=(0.03, 0.06), silent=1, sources=2, offscreen=0.7, room=True, tricks=True),
}
SPLITS = ("iid", "compositional", "extrapolation", "counterfactual")
LOUDNESS = (-40.0, -30.0)  # dB of full scale, root mean square of the loudest source: it tells no kind
CEILING = 0.6  # what all sources together may peak at, so that with the noise nothing is clipped
DUBBED, LAGGING, OCCLUDED = 0.2, 0.3, 0.5  # shares of the clips of a level with tricks
OFF_CENTRE = 0.15  # sides of the picture that things keep from its middle, from L1 on
RINGING = ("metal", "steel", "glass")  # materials whose sound lasts
SHARED: dict[str, tuple[float, float] | None] = {  # what every thing has, and between which values it may be set
    "size": (7 / 64, 22 / 64), "material": None, "coat": None, "x": (0.0, 1.0), "y": (0.0, 1.0), "tilt": (-0.6, 0.6),
    "colour": None, "accent": None, "loudness": (-60.0, -20.0), "sounds": None, "events": None, "kind": None,
}  # fmt: skip
WHOLE: dict[str, tuple[float, float]] = {  # what holds for the whole clip
    "backdrop": (0, 2**31), "snr": (-30.0, 60.0), "room": (1.5, 8.0), "lag": (-1.0, 1.0),
    "flicker": (0.0, 0.2),
}  # fmt: skip
COATS = ("bare", "painted")


@dataclass
class Thing:
    """One object: its kind, its factors, the events that drive sound and picture; silent if it does not sound.

    `number` names its random streams.
    """

    number: int
    kind: str
    factors: dict[str, Any]
    events: list[Event]
    sounds: bool = True


@dataclass
class Scene:
    """All causes of one clip. The first of `things` lies in front and names the clip; `unseen` sound only.

    `snr` in dB or None, `room` the side of a cubic room in metres or None, `lag` in seconds, `backdrop` the seed of the
    background, `flicker` the depth of the light's flicker, `occluder` its place and size in units of the picture,
    `dubbed` says that the first thing's own sound was replaced, `ceiling` what one sound may peak at,
    `reference` the loudness in dB of full scale that `snr` is counted from.
    """

    things: list[Thing]
    unseen: list[Thing] = field(default_factory=list)
    snr: float | None = None
    room: float | None = None
    lag: float = 0.0
    backdrop: int = 0
    flicker: float = 0.0
    occluder: dict[str, Any] | None = None
    dubbed: bool = False
    ceiling: float = CEILING
    reference: float = LOUDNESS[1]


def streams(seed: int, i: int) -> Streams:
    """Independent generators of clip `i`, by name and number: Philox keyed by seed and index, counted by the name."""

    def stream(name: str, number: int = 0, kind: str = "") -> np.random.Generator:
        code = int.from_bytes(name[:8].encode().ljust(8), "little")
        which = number + 1000 * (1 + list(KINDS).index(kind) if kind else 0)
        return np.random.Generator(np.random.Philox(key=[seed, i], counter=[0, 0, which, code]))

    return stream


def materials_of(kind: str, *, split: str, tricks: bool) -> tuple[str, ...]:
    """The materials of a kind that a split shows: `compositional` only the held-out ones, others none of them.

    With `tricks` (level L4) all but `compositional` show all.
    """
    known = KINDS[kind]
    if split == "compositional":
        return known.held_out or known.materials  # none is held out where a counterfactual brings such a kind
    if tricks:
        return known.materials
    return tuple(m for m in known.materials if m not in known.held_out)


def free_place(radius: float, rng: np.random.Generator, others: Sequence[Thing]) -> tuple[float, float] | None:
    """Where an object of this radius leaves the others mostly uncovered; None where 40 tries find no such place.

    It keeps off the middle of the picture, so that "in the middle" is not a good guess of where things are.
    """
    for _ in range(40):
        x = float(rng.uniform(0.9 * radius, 1 - 0.9 * radius))
        y = float(rng.uniform(1.4 * radius, 1 - 0.85 * radius))  # above it is room for what strikes it
        if math.hypot(x - 0.5, y - 0.5) < OFF_CENTRE:
            continue
        apart = (math.hypot(x - o.factors["x"], y - o.factors["y"]) / (radius + o.factors["size"]) for o in others)
        if all(distance > 0.7 for distance in apart):
            return x, y
    return None


def make_thing(
    number: int, kind: str, stream: Streams, *, level: str, split: str, seconds: float, others: Sequence[Thing] = ()
) -> Thing | None:
    """Draw one object of a kind: what all things have, its own factors, its events; None without a free place."""
    rng = stream("thing", number)
    if split == "extrapolation":
        small = rng.random() < 0.5
        size = float(rng.uniform(7 / 64, SMALLEST) if small else rng.uniform(LARGEST, 22 / 64))
    else:
        size = float(rng.uniform(SMALLEST, LARGEST))
    place = (0.5, 0.55) if level == "L0" else free_place(size, rng, others)
    if place is None:
        return None
    factors: dict[str, Any] = {"size": size, "x": place[0], "y": place[1]}
    factors["tilt"] = float(rng.uniform(0.1, 0.4) * rng.choice([-1, 1]))
    factors["colour"], factors["accent"] = (tuple(int(c) for c in rng.uniform(50, 235, 3)) for _ in range(2))
    factors["coat"] = "painted" if rng.random() < 1 / 3 and level != "L0" else "bare"
    factors["loudness"] = float(rng.uniform(*LOUDNESS))
    events = KINDS[kind].beats(stream("beats", number, kind), seconds)
    return Thing(number, kind, factors | own_factors(number, kind, stream, level=level, split=split), events)


def own_factors(number: int, kind: str, stream: Streams, *, level: str, split: str) -> dict[str, Any]:
    """The material and the factors that only this kind has."""
    rng = stream("own", number, kind)
    own: dict[str, Any] = {"material": str(rng.choice(materials_of(kind, split=split, tricks=LEVELS[level].tricks)))}
    for name, values in KINDS[kind].ranges.items():
        own[name] = float(rng.uniform(*values))
    return own


def make_scene(kinds: Sequence[str], stream: Streams, *, level: str, split: str, seconds: float) -> Scene:
    """All causes of one clip.

    The thing in front sounds; a second source (of another kind) is 3 to 9 dB softer; two silent look-alikes in three
    move on their own time, the third stands still. One without a free place is left out.
    """
    rules, rng = LEVELS[level], stream("scene")
    settings = {"level": level, "split": split, "seconds": seconds}
    front = str(rng.choice(kinds))
    things = [make_thing(0, front, stream, **settings)]
    sounding = [front]
    for number in range(1, rules.sources):
        kind = str(rng.choice([k for k in kinds if k not in sounding]))
        new, softer = make_thing(number, kind, stream, others=things, **settings), rng.uniform(3, 9)
        if new is not None:
            new.factors["loudness"] = things[0].factors["loudness"] - float(softer)
            things.append(new)
            sounding.append(kind)
    for number in range(10, 10 + int(rng.integers(0, rules.silent + 1))):
        kind, moves = str(rng.choice(kinds)), rng.random() < 2 / 3
        new = make_thing(number, kind, stream, others=things, **settings)
        if new is not None:
            things.append(Thing(number, kind, new.factors, new.events if moves else [], sounds=False))
    scene = Scene(things, backdrop=int(rng.integers(2**31)), flicker=float(rng.uniform(*rules.flicker)))
    scene.reference = things[0].factors["loudness"]
    scene.ceiling = CEILING / (rules.sources + (rules.offscreen > 0))
    scene.snr = float(rng.uniform(*rules.snr)) if rules.snr else None
    scene.room = float(rng.uniform(2.0, 6.0)) if rules.room else None
    if rng.random() < rules.offscreen:
        scene.unseen.append(
            _voice_from_outside(20, kinds, sounding, stream, rng, loudness=scene.reference, softer=(-2, 6), **settings)
        )
    if rules.tricks:
        _play_tricks(scene, kinds, sounding, stream, **settings)
    return scene


def _voice_from_outside(
    number: int,
    kinds: Sequence[str],
    sounding: list[str],
    stream: Streams,
    rng: np.random.Generator,
    *,
    loudness: float,
    softer: tuple[float, float],
    **settings: Any,
) -> Thing:
    """A thing that is heard and not seen, at an edge of the picture; of a kind that does not sound yet if there is.

    `softer` dB below `loudness`.
    """
    kind = str(rng.choice([k for k in kinds if k not in sounding] or list(kinds)))
    thing = make_thing(number, kind, stream, **settings)
    thing.factors["x"] = float(rng.choice([0.0, 1.0]))
    thing.factors["loudness"] = loudness - float(rng.uniform(*softer))
    return thing


def _play_tricks(scene: Scene, kinds: Sequence[str], sounding: list[str], stream: Streams, **settings: Any) -> None:
    """Dubbing, lag and occlusion, each in a share of the clips."""
    rng, front = stream("tricks"), scene.things[0]
    if rng.random() < DUBBED:
        foreign = _voice_from_outside(
            21, kinds, sounding, stream, rng, loudness=scene.reference, softer=(0, 0), **settings
        )
        foreign.factors["x"] = front.factors["x"]
        scene.unseen.append(foreign)
        front.sounds, scene.dubbed = False, True
    if rng.random() < LAGGING:
        scene.lag = float(rng.uniform(0.15, 0.5) * rng.choice([-1, 1]))
    if rng.random() < OCCLUDED:
        across, size = rng.random() < 0.5, front.factors["size"]
        scene.occluder = {
            "x": front.factors["x"] + float(rng.uniform(-0.8, 0.8)) * size,
            "y": front.factors["y"] + float(rng.uniform(-0.8, 0.8)) * size,
            "width": float(rng.uniform(0.5, 0.9)) * size,
            "speed": float(rng.uniform(-0.15, 0.15)),
            "upright": bool(across),
            "colour": tuple(int(c) for c in rng.uniform(50, 235, 3)),
        }  # fmt: skip


def allowed(scene: Scene, factor: str, o: int) -> str:
    """What `factor` of object `o` may be set to, in words. Raises `ValueError` for a factor that it does not have."""
    if factor in WHOLE:
        low, high = WHOLE[factor]
        return f"a number from {low:g} to {high:g}"
    thing = scene.things[o]
    known = KINDS[thing.kind]
    words = {
        "kind": f"one of {', '.join(KINDS)}", "material": f"one of {', '.join(known.materials)}",
        "coat": f"one of {', '.join(COATS)}", "sounds": "True or False",
        "colour": "three whole numbers from 0 to 255", "accent": "three whole numbers from 0 to 255",
        "events": "a list of (seconds, strength from 0 to 1, length in seconds)",
    }  # fmt: skip
    if factor in words:
        return words[factor]
    values = SHARED.get(factor) or known.ranges.get(factor)
    if values is None:
        names = [*SHARED, *known.ranges, *WHOLE]
        raise ValueError(f"a {thing.kind} has no factor {factor!r}; it has {', '.join(names)}")
    return f"a number from {values[0]:g} to {values[1]:g}"


def changed(
    scene: Scene, factor: str, value: Any, *, o: int, stream: Streams, level: str, split: str, seconds: float
) -> Scene:
    """A copy of a scene in which one factor of one object (or of the whole clip) is set to `value`.

    `kind` brings the new kind's own factors, material and events; `room` and `snr` may be None. Raises `ValueError`
    that names the factor and what it may be.
    """
    if not 0 <= o < len(scene.things):
        raise ValueError(f"object={o}: this clip shows objects 0 to {len(scene.things) - 1}")
    said = allowed(scene, factor, o)
    new = copy.deepcopy(scene)
    if factor in WHOLE:
        if not (value is None and factor in ("snr", "room")) and not _within(value, WHOLE[factor]):
            raise ValueError(f"{factor}={value!r} is not {said}")
        setattr(new, factor, int(value) if factor == "backdrop" else value)
        return new
    thing = new.things[o]
    if not _fits(thing, factor, value):
        raise ValueError(f"{factor}={value!r} is not {said}")
    if factor == "kind":
        own = own_factors(thing.number, value, stream, level=level, split=split)
        shared = {name: v for name, v in thing.factors.items() if name in SHARED and name != "material"}
        moves = bool(thing.events)
        events = KINDS[value].beats(stream("beats", thing.number, value), seconds) if moves else []
        new.things[o] = Thing(thing.number, value, shared | own, events, thing.sounds)
    elif factor == "events":
        thing.events = [Event(*map(float, event)) for event in value]
    elif factor == "sounds":
        thing.sounds = value
    else:
        thing.factors[factor] = tuple(value) if factor in ("colour", "accent") else value
    return new


def _within(value: Any, limits: tuple[float, float]) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and limits[0] <= value <= limits[1]


def _fits(thing: Thing, factor: str, value: Any) -> bool:
    """Whether a thing's factor may have this value."""
    known = KINDS[thing.kind]
    choices = {"kind": KINDS, "material": known.materials, "coat": COATS, "sounds": (True, False)}
    if factor in choices:
        return type(value) in (str, bool) and value in choices[factor]
    if factor in ("colour", "accent"):
        return _three(value, (0, 255), (0, 255), (0, 255))
    if factor == "events":
        return isinstance(value, list | tuple | np.ndarray) and all(
            _three(event, (0, math.inf), (0, 1), (0, math.inf)) and event[1] > 0 for event in value
        )
    return _within(value, SHARED.get(factor) or known.ranges[factor])


def _three(value: Any, *limits: tuple[float, float]) -> bool:
    """Whether a value is a row of three numbers within these limits."""
    row = isinstance(value, list | tuple | np.ndarray) and len(value) == 3
    return row and all(_within(number, limit) for number, limit in zip(value, limits, strict=True))


def another(scene: Scene, kinds: Sequence[str], rng: np.random.Generator) -> tuple[str, Any]:
    """A factor of the thing in front, and a value that is clearly not its present one: for counterfactual pairs."""
    thing = scene.things[0]
    known = KINDS[thing.kind]
    choices: dict[str, Sequence[str]] = {"kind": kinds, "material": known.materials, "coat": COATS}
    spans = {"size": (SMALLEST, LARGEST), "x": (0.25, 0.75), "y": (0.3, 0.7), "tilt": (-0.4, 0.4)}
    spans |= known.ranges
    names = [name for name, values in choices.items() if len(values) > 1] + [*spans, "colour", "accent", "backdrop"]
    factor = str(rng.choice(names))
    if factor in choices:
        return factor, str(rng.choice([value for value in choices[factor] if value != _now(thing, factor)]))
    if factor in spans:
        low, high = spans[factor]
        half = (high - low) / 2
        return factor, float(low + (thing.factors[factor] - low + half * rng.uniform(0.6, 1.4)) % (high - low))
    if factor == "backdrop":
        return factor, int(rng.integers(2**31))
    return factor, tuple(int(50 + (c - 50 + rng.uniform(60, 125)) % 185) for c in thing.factors[factor])


def _now(thing: Thing, factor: str) -> str:
    return thing.kind if factor == "kind" else thing.factors[factor]

"""Captions from a small grammar: several wordings of one scene, all of them true."""

from __future__ import annotations

from avlab.world.scenes import Scene, Thing


def wordings(scene: Scene) -> list[str]:
    """Three captions: full, short, and from the ear's side. What is silent, dubbed or off screen is said to be."""
    front, others = scene.things[0], scene.things[1:]
    heard = [t for t in scene.things if t.sounds and t.events]
    full = " and ".join(f"{phrase(t)} sounds {side(t)}" for t in heard) or f"{phrase(front)} is silent {side(front)}"
    silent = [f"a silent {t.kind}" for t in others if not (t.sounds and t.events)]
    full += f", beside {' and '.join(silent)}" if silent else ""
    full += ", dubbed with another sound" if scene.dubbed else ""
    outside = [t.kind for t in scene.unseen]
    ears = [f"a {t.kind}" for t in (*heard, *scene.unseen)]
    full += f"; a {outside[0]} is heard from outside" if outside and not scene.dubbed else ""
    return [full, f"a {front.kind} {side(front)}", f"one hears {' and '.join(ears)}"]


def phrase(thing: Thing) -> str:
    """Size, material and kind with an article."""
    size = thing.factors["size"]
    word = "small" if size < 13 / 64 else "large" if size > 15 / 64 else "middle-sized"
    return f"a {word} {thing.factors['material']} {thing.kind}"


def side(thing: Thing) -> str:
    """Where it is, from left to right."""
    x = thing.factors["x"]
    return "on the left" if x < 0.4 else "on the right" if x > 0.6 else "in the middle"

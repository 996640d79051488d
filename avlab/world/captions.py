"""Captions from a small grammar: several wordings of one scene, all of them true."""

from __future__ import annotations

from avlab.world.families import KINDS
from avlab.world.scenes import Scene, Thing

NOUNS = {"drops": "basin of drops", "pour": "jug that pours"}  # where the kind is an action


def wordings(scene: Scene) -> list[str]:
    """Three captions: in full, the picture in short, and what is heard. What is silent or dubbed is named."""
    front = scene.things[0]
    heard = [thing for thing in scene.things if thing.sounds and thing.events]
    silent = [thing for thing in scene.things[1:] if thing not in heard]
    clauses = [f"{phrase(thing)} sounds {side(thing)}" for thing in heard]
    if front not in heard:
        clauses.insert(0, f"{phrase(front)} {'is dubbed' if scene.dubbed else 'is silent'} {side(front)}")
    full = " and ".join(clauses)
    full += f", beside {' and '.join(named(thing, 'silent ') for thing in silent)}" if silent else ""
    outside = " and ".join(named(thing) for thing in scene.unseen)
    full += f"; {outside} {'is' if len(scene.unseen) == 1 else 'are'} heard and not seen" if outside else ""
    ears = " and ".join(named(thing) for thing in (*heard, *scene.unseen))
    return [full, f"{named(front)} {side(front)}", f"one hears {ears or 'nothing'}"]


def named(thing: Thing, how: str = "") -> str:
    """The kind with its article, and an adjective if there is one."""
    noun = how + NOUNS.get(thing.kind, thing.kind)
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def phrase(thing: Thing) -> str:
    """Size, material and kind with an article; a face has a speaker instead of a material."""
    size, material = thing.factors["size"], thing.factors["material"]
    word = "small" if size < 13 / 64 else "large" if size > 15 / 64 else "middle-sized"
    if KINDS[thing.kind].family == "speech":
        return f"a {word} {thing.kind} (speaker {material})"
    noun = NOUNS.get(thing.kind, thing.kind)
    return f"a {word} {material} {noun}" if len(KINDS[thing.kind].materials) > 1 else f"a {word} {noun}"


def side(thing: Thing) -> str:
    """Where it is, from left to right."""
    x = thing.factors["x"]
    return "on the left" if x < 0.4 else "on the right" if x > 0.6 else "in the middle"

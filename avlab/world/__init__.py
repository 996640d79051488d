"""The controllable audio-visual world: what is heard is caused by what is seen, and everything is known.

`World(...)` makes numbered clips with their truth; `export` writes them as real media files. Files: `kinds` (what a
kind of thing is), `families` (the things: law, sound and look), `scenes` (what there is in a clip, and why), `sounds`
and `drawing` (what they share), `captions`, `render` (clips and worlds).
"""

from avlab.world.families import KINDS
from avlab.world.render import World, export
from avlab.world.scenes import LEVELS

__all__ = ["KINDS", "LEVELS", "World", "export"]

"""What a learner sees, hears and moves: figures, player, atlas, explorers and cards.

>>> from avlab.show import SIGHT, SOUND
>>> SOUND, SIGHT
('#E07B00', '#0072B2')
"""

from avlab.show.atlas import Atlas
from avlab.show.bundle import show
from avlab.show.cards import check, exercise, predict, quiz
from avlab.show.explore import explore
from avlab.show.player import Player
from avlab.show.progress import show_way
from avlab.show.style import SIGHT, SOUND, use_style

__all__ = [
    "SIGHT",
    "SOUND",
    "Atlas",
    "Player",
    "check",
    "exercise",
    "explore",
    "predict",
    "quiz",
    "show",
    "show_way",
    "use_style",
]

"""The families of things that sound, one file each: the law, the sound and the picture beside each other."""

import importlib

KINDS = {}
for _family in ("struck", "strings", "air", "water", "engines", "animals", "speech"):
    try:
        KINDS |= importlib.import_module(f"avlab.world.families.{_family}").KINDS
    except (ImportError, AttributeError):
        pass

"""The families of things that sound, one file each: the law, the sound and the picture beside each other."""

from avlab.world.families import air, animals, engines, speech, strings, struck, water

KINDS = (
    struck.KINDS | strings.KINDS | air.KINDS | water.KINDS | engines.KINDS | animals.KINDS | speech.KINDS
)  # by name, in the order of the labels

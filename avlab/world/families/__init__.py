"""The families of things that sound, one file each: the law, the sound and the picture beside each other."""

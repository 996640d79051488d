"""Answers to the exercises of lesson 00: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "rounds down, so that a frame that has begun does not count": """\
def frames_in(clip, seconds):
    return min(int(seconds * clip.fps), len(clip.frames))
""",
            "rounds to the nearest frame": """\
def frames_in(clip, seconds):
    return min(round(seconds * clip.fps), len(clip.frames))
""",
            "counts the frame that begins just when the time is over": """\
def frames_in(clip, seconds):
    return min(int(seconds * clip.fps) + 1, len(clip.frames))
""",
            "forgets that a clip ends": """\
import math

def frames_in(clip, seconds):
    return math.ceil(seconds * clip.fps)
""",
            "divides by the rate": """\
import math

def frames_in(clip, seconds):
    return min(math.ceil(seconds / clip.fps), len(clip.frames))
""",
        },
        "right": {
            "asks each frame whether it has begun": """\
def frames_in(clip, seconds):
    return sum(n / clip.fps < seconds for n in range(len(clip.frames)))
""",
        },
    },
}

"""What a lesson learns from and looks at: the world, the samples, or a folder of one's own clips, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avlab.clip import Clip
from avlab.datasets import folder, vggss
from avlab.datasets.pairs import Pairs, pairs_of, render
from avlab.world import World

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
MOST_FILES = 64


@dataclass
class LessonClips:
    """`train` and `test` pairs, the `clips` of the test pairs in the same order; `whole` what the maps are drawn on.

    `truth` tells whether every clip knows its sources (the world's do). For a folder, `whole` holds each used file
    uncut, `report` says what was used and rejected, and `boxes` holds VGG-SS boxes by file where there are some.
    """

    train: Pairs
    test: Pairs
    clips: list[Clip]
    whole: list[Clip]
    truth: bool
    report: str
    boxes: dict[str, np.ndarray] = field(default_factory=dict)


def lesson_clips(
    clips: str = "world",
    *,
    seed: int = 0,
    level: str = "L2",
    kinds: Sequence[str] | None = None,
    train: int = 1536,
    test: int = 128,
) -> LessonClips:
    """Clips for a lesson: `"world"`, `"samples"` (the files of `data/samples`) or the path of a folder or file.

    World: some `kinds` of things (default all), `test` clips from index 0 and `train` clips from index 100,000 on,
    none in both. Folder: each file is cut into windows of 2 s, and the last quarter of its windows (at least one, of a
    single file two) is held out for the test; at most 64 files are taken. Raises `ValueError` where a folder leaves
    fewer than 4 windows, with the report.
    """
    if clips == "world":
        world = World(level=level, seed=seed, kinds=kinds)
        seen = [world.clip(i) for i in range(test)]
        pairs = render(world, range(100_000, 100_000 + train))
        report = f"world {level}, seed {seed}: {train} clips to learn from, {test} others to test on"
        return LessonClips(pairs, pairs_of(seen, world.kinds), seen, seen, True, report)
    place = SAMPLES if clips == "samples" else Path(clips)
    labels = place / "labels.csv"
    named = {"labels": labels} if labels.is_file() else {}
    whole = folder.scan(place, window=None, size=112, fps=12.5, **named)
    dropped = {clip.source for clip in whole.clips[MOST_FILES:]}
    whole.clips = whole.clips[:MOST_FILES]
    windows = folder.scan(place, window=2.0, size=64, fps=8, **named)
    report = windows.report()
    if dropped:
        report += f"\nonly the first {MOST_FILES} files are taken in a lesson; left out: {', '.join(sorted(dropped))}"
    by_file: dict[str, list[Clip]] = {}
    for clip in windows.clips:
        if clip.source not in dropped:
            by_file.setdefault(clip.source, []).append(clip)
    learn: list[Clip] = []
    held: list[Clip] = []
    for i, parts in enumerate(by_file.values()):
        if len(parts) == 1:  # a file of one window goes to either side
            (held if i % 4 == 3 else learn).extend(parts)
        else:
            cut = len(parts) - max(2 if len(by_file) == 1 else 1, len(parts) // 4)
            learn += parts[:cut]
            held += parts[cut:]
    if len(learn) < 2 or len(held) < 2:
        raise ValueError(
            f"{place}: {len(learn)} windows of 2 s to learn from and {len(held)} to test on are too few; add clips of "
            f"4 s or more\n{report}"
        )
    annotation = vggss.find(place if place.is_dir() else place.parent)
    boxes = vggss.boxes(annotation, [clip.source for clip in whole.clips]) if annotation is not None else {}
    kinds = sorted({clip.label for clip in learn + held if clip.label is not None})
    return LessonClips(pairs_of(learn, kinds), pairs_of(held, kinds), held, whole.clips, False, report, boxes)

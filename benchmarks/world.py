"""Clips a second of the world, through one and two worker processes, with their truth; and what a clip weighs.

`python benchmarks/world.py` streams clips after a warm-up, one and two workers in turn, and counts the best of several
rounds. Efficiency is the rate of two workers over twice the rate of one: what is lost to the process that reads (it
unpacks every clip) and to what the cores share. The aims are 200 clips/s and 0.8 on two cores.
"""

from __future__ import annotations

import itertools
import tempfile
import time

import numpy as np
import torch

from avlab.clip import Clip
from avlab.datasets.cache import cached
from avlab.datasets.pairs import pairs_of
from avlab.datasets.stream import pack, stream
from avlab.world import World

WARM_UP = 20  # clips: workers start, memory is asked for


def rate(world: World, workers: int, clips: int) -> float:
    """Clips a second of a running stream, with truth."""
    made = stream(world, itertools.count(), workers=workers)
    for _ in itertools.islice(made, WARM_UP):
        pass
    begun = time.perf_counter()
    for _ in itertools.islice(made, clips):
        pass
    return clips / (time.perf_counter() - begun)


def read_rate(world: World, clips: int, *, truth: bool) -> tuple[float, float]:
    """Clips a second out of the cache, and the MB/s at which it is checked and opened."""
    with tempfile.TemporaryDirectory() as place:
        cached(world, range(clips), directory=place, truth=truth, progress=False)
        begun = time.perf_counter()
        kept = cached(world, range(clips), directory=place, truth=truth)
        opened = time.perf_counter()
        for _ in kept:
            pass
        return clips / (time.perf_counter() - opened), kept.nbytes / 1e6 / (opened - begun)


def weight(clips: list[Clip]) -> tuple[float, float, float]:
    """kB a clip: its arrays with all truth, packed, and as pairs."""
    arrays = [value for clip in clips for value in (*vars(clip).values(), *vars(clip.truth).values())]
    raw = sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))
    tensors = [value for value in vars(pairs_of(clips)).values() if isinstance(value, torch.Tensor)]
    pairs = sum(value.nbytes for value in tensors)
    return tuple(size / len(clips) / 1e3 for size in (raw, sum(pack(clip).nbytes for clip in clips), pairs))


def main(rounds: int = 4) -> None:
    """Print the tables."""
    default, rendered = World(), np.nan
    wide = World(size=112, fps=12)
    cases = {"L2": (default, 300), "L4": (World(level="L4"), 100), "L2, 112x112 at 12 fps": (wide, 100)}
    print(f"{'clips/s':24} {'1 worker':>9} {'2 workers':>10} {'efficiency':>11} {'over 200':>9}")
    for name, (world, clips) in cases.items():
        one, two = np.max([[rate(world, workers, clips) for workers in (1, 2)] for _ in range(rounds)], axis=0)
        print(f"{name:24} {one:9.0f} {two:10.0f} {two / (2 * one):11.2f} {two / 200:9.2f}")
        rendered = two if world is default else rendered
    print(f"\n{'kB a clip':24} {'raw':>9} {'packed':>10} {'raw/packed':>11} {'as pairs':>9}")
    for name, (world, _) in cases.items():
        raw, packed, pairs = weight([world.clip(i) for i in range(40)])
        print(f"{name:24} {raw:9.0f} {packed:10.0f} {raw / packed:11.1f} {pairs:9.0f}")
    print(f"\n{'out of the cache':24} {'clips/s':>9} {'checked':>10} {'over rendering':>20}")
    for truth in (True, False):
        reads, opens = read_rate(default, 300, truth=truth)
        name = "L2" if truth else "L2 without truth"
        print(f"{name:24} {reads:9.0f} {opens:5.0f} MB/s {reads / rendered:20.0f}")


if __name__ == "__main__":
    main()

"""Loading clips out of the cache of `avlab.datasets.folder` against decoding them with PyAV, in one run.

`python benchmarks/loading.py` measures the files in `AVLAB_CLIPS/events`, or a clip made here. Both sides give the
same arrays, which is checked; the best of several rounds counts. "cache" is a second `scan`, with its SHA-256 check;
"array" reads the same frames from an `.npy` file and nothing more.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avlab.clip import Clip
from avlab.datasets.folder import scan
from avlab.media import read, write


def best(task: Callable[[], object], rounds: int) -> float:
    """The shortest time of `rounds` runs, in seconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        task()
        times.append(time.perf_counter() - begun)
    return min(times)


def main(rounds: int = 3) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if "AVLAB_CLIPS" in os.environ:
            files = sorted((Path(os.environ["AVLAB_CLIPS"]) / "events").iterdir())[:6]
        else:
            rng = np.random.default_rng(0)
            frames = rng.integers(0, 255, (125, 90, 120, 3), np.uint8).repeat(4, 1).repeat(4, 2)
            sound = rng.uniform(-0.5, 0.5, (2, 5 * 44100)).astype(np.float32)
            files = [write(Clip(frames, sound, 25, 44100), place / "made.mp4")]
        print(
            f"{'file':34} {'decode ms':>10} {'cache ms':>10} {'array ms':>10} {'decode/cache':>13} {'decode/array':>13}"
        )
        ratios = []
        for file in files:
            decoded = read(file, size=112, fps=12, channels=2)
            scan(file, window=None, cache=place)
            (cached,) = scan(file, window=None, cache=place).clips
            assert np.array_equal(cached.frames, decoded.frames)
            assert np.array_equal(cached.waveform, decoded.waveform)
            np.save(place / "frames.npy", decoded.frames)
            slow = best(lambda f=file: read(f, size=112, fps=12, channels=2), rounds)
            fast = best(lambda f=file: scan(f, window=None, cache=place).clips[0].frames.sum(), rounds)
            bare = best(lambda: np.load(place / "frames.npy", allow_pickle=False), rounds)
            ratios.append((slow / fast, slow / bare))
            print(f"{file.name[:34]:34} {slow * 1e3:10.1f} {fast * 1e3:10.1f} {bare * 1e3:10.1f} ", end="")
            print(f"{slow / fast:7.0f} {slow / bare:7.0f}")
        print(f"{'median':67} {np.median(ratios, axis=0)[0]:7.0f} {np.median(ratios, axis=0)[1]:7.0f}")


if __name__ == "__main__":
    main()

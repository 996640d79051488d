"""The cache: the same bytes as the world's, never old or damaged ones, whole sets only, and no more than its share."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avlab.datasets import cache, store
from avlab.datasets.cache import cached
from avlab.datasets.stream import pack
from avlab.world import World

WORLD = World(level="L2", size=17, seconds=0.7, fps=7, seed=4, kinds=("bar", "bird"))
ORDER = [5, 0, 3, 3, 8]


def blocks(clips) -> list[bytes]:
    return [pack(clip).tobytes() for clip in clips]


def keep(place: Path, world: World = WORLD, indices=ORDER, **how) -> cache.Cached:
    return cached(world, indices, directory=place, workers=0, progress=False, **how)


def sets(place: Path) -> list[Path]:
    """Everything in the store, half sets as well, the latest used first."""
    return sorted((place / "worlds").iterdir(), key=lambda entry: -entry.stat().st_mtime_ns)


@pytest.fixture
def never(monkeypatch):
    """From now on nothing may be rendered."""

    def refuse(*args, **how):
        raise AssertionError("rendered again")

    return lambda: monkeypatch.setattr(cache, "packed", refuse)


@pytest.mark.parametrize("truth", [False, True])
def test_clips_are_those_of_the_world(tmp_path, never, truth):
    there = blocks(clip if truth else replace(clip, truth=None) for clip in map(WORLD.clip, ORDER))
    place = tmp_path / "Klänge 音" / "new"
    first = keep(place, truth=truth)
    never()
    again = keep(place, truth=truth)
    assert blocks(first) == blocks(again) == there
    assert len(again) == 5
    assert blocks([again[-1], again[np.int64(1)], *again[1:5:2]]) == [there[i] for i in (4, 1, 1, 3)]
    assert blocks(reversed(again)) == there[::-1]
    with pytest.raises(IndexError):
        again[5]
    again[0].frames[:] = 0  # a clip owns its arrays
    assert blocks(again) == there
    (entry,) = sets(place)
    assert sorted(path.name for path in entry.iterdir()) == ["clips.bin", "set.json"]
    assert again.nbytes == (entry / "clips.bin").stat().st_size


def test_the_place_can_be_set_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("AVLAB_CACHE", str(tmp_path))
    keep(None)
    assert len(sets(tmp_path)) == 1


def test_any_other_cause_makes_another_set(tmp_path, monkeypatch):
    keep(tmp_path)
    others = [replace(WORLD, seed=5), replace(WORLD, level="L1"), replace(WORLD, fps=8), replace(WORLD, kinds=("bar",))]
    for count, world in enumerate(others, 2):
        assert blocks(keep(tmp_path, world)) == blocks(replace(world.clip(i), truth=None) for i in ORDER)
        assert len(sets(tmp_path)) == count
    keep(tmp_path, indices=sorted(ORDER))
    keep(tmp_path, truth=True)
    monkeypatch.setattr(cache, "SOURCE", "another")
    monkeypatch.setattr(cache, "_source", lambda: "another")
    keep(tmp_path)
    monkeypatch.setattr(np, "__version__", "9")
    keep(tmp_path)
    assert len(sets(tmp_path)) == 9


def test_the_source_code_of_every_file_counts(tmp_path, monkeypatch):
    package = tmp_path / "avlab"
    for name in ("world", "datasets/stream.py", "clip.py"):
        there, here = cache.PACKAGE / name, package / name
        here.parent.mkdir(exist_ok=True, parents=True)
        shutil.copytree(there, here) if there.is_dir() else shutil.copy(there, here)
    monkeypatch.setattr(cache, "PACKAGE", package)
    seen = {cache._source(), cache.SOURCE}
    assert len(seen) == 1
    for name in ("world/render.py", "world/families/animals.py", "clip.py", "datasets/stream.py"):
        (package / name).write_bytes((package / name).read_bytes() + b"#")
        seen.add(cache._source())
    assert len(seen) == 5


def test_a_source_that_changed_while_it_runs_fills_nothing(tmp_path, monkeypatch):
    keep(tmp_path)
    monkeypatch.setattr(cache, "_source", lambda: "another")
    with pytest.raises(RuntimeError, match="changed since this process loaded it: start it anew"):
        keep(tmp_path)


def flip(path: Path, place: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)


DAMAGE = {
    "one bit of a picture": lambda entry: flip(entry / "clips.bin", 3000),
    "one bit of a text": lambda entry: flip(entry / "clips.bin", 20),
    "one bit of the table": lambda entry: flip(entry / "clips.bin", -3),
    "cut": lambda entry: os.truncate(entry / "clips.bin", 5000),
    "empty": lambda entry: os.truncate(entry / "clips.bin", 0),
    "no clips": lambda entry: (entry / "clips.bin").unlink(),
    "no facts": lambda entry: (entry / "set.json").unlink(),
    "half of the facts": lambda entry: os.truncate(entry / "set.json", 40),
    "facts of another form": lambda entry: (entry / "set.json").write_text("[1]"),
    "facts that are no text": lambda entry: (entry / "set.json").write_bytes(b"\xff\xfe"),
    "a directory in its place": lambda entry: (shutil.rmtree(entry), (entry / "clips.bin").mkdir(parents=True)),
    "a file in its place": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_set_is_made_again_with_a_warning(tmp_path, never, damage, recwarn):
    there = blocks(keep(tmp_path))
    (entry,) = sets(tmp_path)
    DAMAGE[damage](entry)
    with pytest.warns(UserWarning, match="is damaged: its clips are rendered again"):
        assert blocks(keep(tmp_path)) == there
    assert sets(tmp_path) == [entry]
    never()
    assert blocks(keep(tmp_path)) == there
    assert len(recwarn) == 0


def test_a_set_larger_than_its_share_is_refused_before_it_is_rendered(tmp_path, monkeypatch):
    size = keep(tmp_path, indices=[0]).nbytes
    rendered = []
    packed = cache.packed

    def counted(*args, **how) -> Iterator[np.ndarray]:
        for block in packed(*args, **how):
            rendered.append(block)
            yield block

    monkeypatch.setattr(cache, "packed", counted)
    with pytest.raises(ValueError, match=r"1000 clips take about 0\.0\d+ GB, more than max_bytes=1e-05 GB: keep fewer"):
        keep(tmp_path, indices=range(1000), max_bytes=10_000)
    assert len(rendered) == 1
    sizes = {i: pack(WORLD.clip(i)).nbytes for i in range(20)}
    smallest, *others = sorted(sizes, key=sizes.get)
    with pytest.raises(ValueError, match="4 clips take"):  # the first was smaller than the rest
        keep(tmp_path, indices=[smallest, *others[-3:]], truth=True, max_bytes=4.1 * sizes[smallest])
    assert [file.stat().st_size for file in sets(tmp_path)[0].glob("*.bin")] == [size]
    assert len(sets(tmp_path)) == 1
    with pytest.raises(ValueError, match="no indices: nothing to keep"):
        keep(tmp_path, indices=[])


def test_the_set_unused_for_longest_is_dropped_and_never_the_one_in_use(tmp_path, never):
    a, b, c = (replace(WORLD, seed=seed) for seed in (11, 12, 13))
    size = keep(tmp_path, a).nbytes
    (first,) = sets(tmp_path)
    keep(tmp_path, b)
    (second,) = set(sets(tmp_path)) - {first}
    now = time.time()
    for entry, ago in ((first, 20), (second, 10)):
        os.utime(entry, (now - ago, now - ago))
    keep(tmp_path, a)  # used again: now b is the oldest
    assert sets(tmp_path) == [first, second]
    last = keep(tmp_path, c, max_bytes=2.5 * size)
    assert second not in sets(tmp_path)
    assert len(sets(tmp_path)) == 2
    os.utime(first, (now + 1000, now + 1000))  # another process uses it: c is the oldest, but in use here
    never()
    assert blocks(keep(tmp_path, c, max_bytes=1.5 * size)) == blocks(last)
    assert first not in sets(tmp_path)
    assert len(sets(tmp_path)) == 1


def test_half_sets_of_killed_runs_are_swept_and_those_of_living_ones_stay(tmp_path):
    worlds = tmp_path / "worlds"
    for name, ago in ((".part-dead", 2 * store.ABANDONED), (".part-living", 5)):
        (worlds / name).mkdir(parents=True)
        (worlds / name / "clips.bin").write_bytes(b"x" * 10_000_000)
        for path in (worlds / name / "clips.bin", worlds / name):
            os.utime(path, (time.time() - ago,) * 2)
    os.utime(worlds / ".part-living", (0, 0))  # a directory does not grow older or younger by what is written in it
    keep(tmp_path)
    assert [entry.name[:8] for entry in sets(tmp_path) if entry.name.startswith(".")] == [".part-li"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    packed = cache.packed

    def full(*args, workers, **how) -> Iterator[np.ndarray]:
        yield from packed(*args, workers=0, **how)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "packed", full)
    with pytest.raises(OSError, match=r"cannot be written .*No space left.*: make room, or name another place by dire"):
        keep(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"cannot be written \(.* GB are needed, 1e-06 GB free\)"):
        keep(tmp_path)
    assert sets(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch, never):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"the cache .*worlds cannot be written \(.*Not a directory"):
        keep(tmp_path / "file")
    there = blocks(keep(tmp_path))
    never()

    def denied(*args):
        raise PermissionError

    monkeypatch.setattr(os, "utime", denied)
    assert blocks(keep(tmp_path)) == there  # a cache that may only be read serves as well


def test_clips_outlive_their_directory(tmp_path):
    kept = keep(tmp_path)
    again = keep(tmp_path)
    there = blocks(kept)
    shutil.rmtree(tmp_path)
    assert blocks(kept) == blocks(again) == there


SCRIPT = """
import sys, time, hashlib
from avlab.datasets import cache
from avlab.datasets.stream import pack
from avlab.world import World
packed = cache.packed
def slowly(*args, **how):
    for block in packed(*args, **how):
        time.sleep(0.02)
        yield block
cache.packed = slowly
world = World(level="L2", size=17, seconds=0.7, fps=7, seed=4, kinds=("bar", "bird"))
print("begins", flush=True)
clips = cache.cached(world, range(40), directory=sys.argv[1], workers=0, progress=False)
print(hashlib.sha256(b"".join(pack(clip).tobytes() for clip in clips)).hexdigest())
"""


def start(place: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, place], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_leaves_no_half_set_and_two_at_once_agree(tmp_path, never):
    killed = start(tmp_path)
    killed.stdout.readline()
    while not list(tmp_path.glob("worlds/.part-*/clips.bin")):
        time.sleep(0.01)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert [entry for entry in sets(tmp_path) if not entry.name.startswith(".part-")] == []
    shutil.rmtree(tmp_path / "worlds")
    both = [start(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1]
    assert [process.returncode for process in both] == [0, 0]
    (entry,) = sets(tmp_path)
    never()
    assert blocks(keep(tmp_path, indices=range(40))) == blocks(replace(WORLD.clip(i), truth=None) for i in range(40))
    assert json.loads((entry / "set.json").read_text())["clips"] == 40


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_number_of_workers(tmp_path, capsys):
    files = []
    for workers in (0, 2):
        cached(WORLD, ORDER, directory=tmp_path / str(workers), workers=workers, truth=True)
        files += [path.read_bytes() for path in (tmp_path / str(workers)).rglob("*.*")]
    assert files[:2] == files[2:]
    assert "rendering" in capsys.readouterr().out

"""Clips of a world kept on disk: rendered once, read from a memory map in any order, as often as wanted.

A *set* is what one call asks for: a world, indices, with or without truth. It is one file of bytes, the blocks of its
clips (see `datasets.stream`) one after the other and then a table of where each begins, with the file's SHA-256 sum in
a JSON file beside it; nothing in it can run. Its name is a hash of the settings, the indices and the source code that
makes clips, so a changed world never serves old ones. It is written beside its place and moved there in one step: a
killed run leaves no half set, and of two processes that make the same set both end with a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, overload

import cv2
import numpy as np
import scipy

from avlab.clip import Clip
from avlab.datasets.store import evict, store
from avlab.datasets.stream import packed, unpack
from avlab.world import World

PACKAGE = Path(__file__).parents[1]
BLOCKS, FACTS = "clips.bin", "set.json"


class Cached(Sequence[Clip]):
    """The clips of one set, read when asked for: `clips[3]`, `clips[-1]`, `clips[10:20]` (a list), `len`, `for`.

    Clips own their arrays. The map outlives the file's removal from the directory.
    """

    def __init__(self, file: Path, count: int):
        whole = np.asarray(np.memmap(file, np.uint8, "r"))
        self._blocks, self._starts = whole, whole[-8 * (count + 1) :].view("<i8")

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> list[Clip]: ...
    def __getitem__(self, place: int | slice) -> Clip | list[Clip]:
        places = range(len(self))[place]
        return [self[i] for i in places] if isinstance(places, range) else self._clip(places)

    def _clip(self, i: int) -> Clip:
        return unpack(self._blocks[self._starts[i] : self._starts[i + 1]])

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self._blocks.nbytes


def cached(
    world: World,
    indices: Sequence[int],
    *,
    directory: str | Path | None = None,
    workers: int = 2,
    truth: bool = False,
    max_bytes: float = 4e9,
    progress: bool = True,
) -> Cached:
    """The clips `indices` of a world out of the cache, rendered into it first where it does not hold them.

    `workers` and `progress` as `stream` has them; `truth=False` leaves the truth out, which is most of the bytes.
    `directory` None: `AVLAB_CACHE`, or the project's `data/cache`. All sets there are kept below `max_bytes` by
    dropping those unused for longest. A damaged set is rendered again, with a warning.

    Raises `ValueError` where there are no indices or the set alone would be larger than `max_bytes`, `OSError` where
    the directory cannot be written, `RuntimeError` where the source code changed since it was loaded.
    """
    indices = [int(i) for i in indices]
    if not indices:
        raise ValueError("no indices: nothing to keep")
    worlds = store("worlds", directory)
    facts = {
        "world": f"{type(world).__module__}.{world!r}",
        "truth": truth,
        "clips": len(indices),
        "indices": hashlib.sha256(json.dumps(indices).encode()).hexdigest(),
        "source": _source(),
        "versions": {module.__name__: module.__version__ for module in (np, scipy, cv2)},
    }
    entry = worlds / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    kept = _opened(entry, facts)
    if kept is None:
        if facts["source"] != SOURCE:
            raise RuntimeError("the source code of avlab.world changed since this process loaded it: start it anew")
        first = next(packed(world, indices[:1], workers=0, truth=truth))
        needed = len(first) * len(indices)
        _check_room(needed, len(indices), max_bytes)
        blocks = packed(world, indices, workers=workers, truth=truth, progress=progress)
        try:
            kept = _filled(entry, facts, blocks, needed, max_bytes)
        except OSError as error:
            raise OSError(
                f"the cache {worlds} cannot be written ({error}): make room, or name another place by directory= or "
                "AVLAB_CACHE; stream(...) needs none"
            ) from error
    with suppress(OSError):  # a cache that may only be read serves as well
        os.utime(entry)  # "used last": eviction goes by it
    evict(worlds, max_bytes, entry)
    return kept


def _source() -> str:
    """A hash of the files that decide what a clip is and how it is kept."""
    sums = hashlib.sha256()
    for path in [*sorted((PACKAGE / "world").rglob("*.py")), PACKAGE / "clip.py", PACKAGE / "datasets" / "stream.py"]:
        sums.update(f"{path.relative_to(PACKAGE).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return sums.hexdigest()


SOURCE = _source()  # of what this process runs


def _check_room(needed: float, count: int, max_bytes: float) -> None:
    if needed > max_bytes:
        raise ValueError(
            f"{count} clips take about {needed / 1e9:.3g} GB, more than max_bytes={max_bytes / 1e9:.3g} GB: keep fewer "
            "clips, leave the truth out, raise max_bytes, or use stream(...), which keeps none"
        )


def _opened(entry: Path, facts: dict) -> Cached | None:
    """A set whose sum agrees; None if there is none, or, with a warning, if it is damaged."""
    if not entry.exists():
        return None
    with suppress(OSError, ValueError):
        known = json.loads((entry / FACTS).read_text(encoding="utf-8"))
        with (entry / BLOCKS).open("rb") as file:
            if known == facts | {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}:
                return Cached(entry / BLOCKS, facts["clips"])
    if entry.exists():  # else another process has just dropped it
        warnings.warn(f"the cached set {entry} is damaged: its clips are rendered again", stacklevel=3)
    return None


def _filled(entry: Path, facts: dict, blocks: Iterator[np.ndarray], needed: int, max_bytes: float) -> Cached:
    """Write a set of about `needed` bytes and move it to its place, whatever stands there."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(entry.parent).free
    if needed > free:  # said now, not after minutes of rendering
        raise OSError(f"{needed / 1e9:.3g} GB are needed, {free / 1e9:.3g} GB free")
    part, old = (Path(tempfile.mkdtemp(prefix=".part-", dir=entry.parent)) for _ in range(2))
    try:
        sums, starts = hashlib.sha256(), [0]
        with (part / BLOCKS).open("wb") as file:
            for block in blocks:
                _check_room(starts[-1] + len(block), facts["clips"], max_bytes)
                file.write(block)
                sums.update(block)
                starts.append(starts[-1] + len(block))
            table = np.array(starts, "<i8").tobytes()
            file.write(table)
            sums.update(table)
            _synced(file)
        with (part / FACTS).open("w", encoding="utf-8") as file:
            json.dump(facts | {"sha256": sums.hexdigest()}, file, indent=1)
            _synced(file)
        made = Cached(part / BLOCKS, facts["clips"])  # the map holds, whatever others do to the directory
        with suppress(FileNotFoundError):
            os.rename(entry, old / "set")  # a damaged set, or one that another process has made meanwhile
        with suppress(OSError):  # another process was faster, with the same content
            os.rename(part, entry)
        return made
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _synced(file: IO) -> None:
    """Bytes reach the disk before the move does: after a power cut there is no set that looks whole and is not."""
    file.flush()
    os.fsync(file.fileno())

"""Where things are kept that can be made again, and which of them are dropped when they grow too many.

A store is a folder of entries, each a folder of files. An entry is written as `.part-*` beside its place and moved
there in one step; its own time of change says when it was last used.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

CACHE = Path(__file__).parents[2] / "data" / "cache"  # of the project, wherever the command or the kernel runs
ABANDONED = 3600  # seconds without a write, after which a half entry belongs to a killed run


def store(name: str, directory: str | Path | None = None) -> Path:
    """The folder `name` in `directory`; None: in `AVLAB_CACHE`, or else in the project's `data/cache`."""
    return Path(directory or os.environ.get("AVLAB_CACHE") or CACHE) / name


def evict(folder: Path, max_bytes: float, used: Path | None = None) -> None:
    """Drop what killed runs left in a store, then the entries unused for longest but not `used`, until the rest fits.

    Stray files, and entries that another process drops meanwhile, are passed over.
    """
    if not folder.is_dir():
        return
    entries = []
    for entry in folder.iterdir():
        with suppress(OSError):
            files = [path.stat() for path in (entry, *entry.iterdir())]
            if entry.name.startswith(".part-"):
                if time.time() - max(file.st_mtime for file in files) > ABANDONED:
                    shutil.rmtree(entry, ignore_errors=True)
            else:
                entries.append((files[0].st_mtime_ns, sum(file.st_size for file in files[1:]), entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if total > max_bytes and entry != used:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size

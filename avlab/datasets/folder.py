"""A folder of anybody's media files as clips: what could be used, what could not, and why.

Each file is decoded once at the asked size and rates and kept in a cache (frames uint8, waveform float32, as `.npy`
files that are memory-mapped, with their SHA-256 sums in a JSON file beside them), then cut into windows. An entry is
named by the file's path, size and time of change and by the settings: change any, and it is made anew. It is written
beside its place and moved there in one step, so a killed run leaves no half entry; one whose sums do not agree is
made anew.

In a folder (searched to all depths, in sorted order, hidden files left out) every file with a media ending is tried
and no other; files named one by one are all tried. An image is used as the picture of the sound file of its stem.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avlab.clip import Clip
from avlab.datasets.store import evict, store
from avlab.media import IMAGES, Decoded, MediaError, decode, picture_beside

VIDEO_ENDINGS = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .vob .flv .wmv .asf .3gp .ogv .mxf .dv .gif"
SOUND_ENDINGS = ".wav .w64 .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .caf .au .ac3"
ENDINGS = frozenset(f"{VIDEO_ENDINGS} {SOUND_ENDINGS}".split())
VERSION = 1  # of the cache: raise it when decoding changes
CACHE_BYTES = 4 * 2**30
MAX_LABELS_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Rejected:
    """A file that gave no clip, and the one-line reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class Used:
    """A file that gave `windows` clips, with a note for each flaw that was mended."""

    file: str
    windows: int
    notes: tuple[str, ...] = ()


@dataclass
class Scan:
    """The result of `scan`: `clips` in the order of the files, `used` and `rejected` one entry a file."""

    clips: list[Clip] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def report(self) -> str:
        """One line a file: its number of windows and notes, or the reason of its rejection; and a line of totals.

        >>> print(Scan(used=[Used("a.mp4", 5)], rejected=[Rejected("b.mp4", "b.mp4: no audio track")]).report())
        used      a.mp4: 5 windows
        rejected  b.mp4: no audio track
        1 file used, 0 clips; 1 file rejected
        """
        lines = [
            f"used      {u.file}: {u.windows} window{'s' * (u.windows != 1)}" + "".join(f"; {n}" for n in u.notes)
            for u in self.used
        ]
        lines += [f"rejected  {r.reason}" for r in self.rejected]
        used, rejected = len(self.used), len(self.rejected)
        total = f"{used} file{'s' * (used != 1)} used, {len(self.clips)} clip{'s' * (len(self.clips) != 1)}"
        return "\n".join([*lines, f"{total}; {rejected} file{'s' * (rejected != 1)} rejected"])


def scan(
    source: str | Path | Sequence[str | Path],
    *,
    labels: str | Path | None = None,
    window: float | None = 2.0,
    hop: float | None = None,
    size: int | tuple[int, int] = 112,
    fps: float = 12.0,
    sample_rate: int = 16000,
    channels: int | None = 2,
    fit: str = "stretch",
    max_seconds: float = 600.0,
    deadline_seconds: float = 8.0,
    cache: str | Path | None = None,
    cache_bytes: int = CACHE_BYTES,
    progress: bool = False,
) -> Scan:
    """Clips from a folder, a file or a list of files; a file that cannot be used is listed with the reason.

    `window` and `hop` in seconds: a clip starts every `hop` (None: every `window`) and only whole windows are kept;
    `window=None` makes one clip a file. All clips get two `channels`, so that they stack; None keeps the file's.
    `size` in pixels, `fps`, `sample_rate`, `fit`, `max_seconds` and `deadline_seconds` as `avlab.media.decode` has
    them. `labels` is a CSV file with the columns `file`, `label` and, if wanted, `caption`; `file` is a path below the
    folder, or the bare name of any number of files. `cache` is a folder (None: `AVLAB_CACHE`, or the project's
    `data/cache`), kept below `cache_bytes` by dropping what was unused for longest. `progress` shows a bar.

    Raises `ValueError` for a setting that is none and for a CSV that cannot be used, naming its line.

    >>> result = scan(["nowhere.mp4"])
    >>> result.clips, result.rejected[0].reason
    ([], 'nowhere.mp4: no such file; check the path nowhere.mp4')
    """
    if window is not None and window * fps < 1:
        raise ValueError(f"a window of {window:g} s holds no frame at {fps:g} fps; raise window or fps")
    hop = window if hop is None else hop
    if hop is not None and hop <= 0:
        raise ValueError(f"hop must be above 0 s, got {hop:g}")
    result = Scan()
    listed = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
    names = [path.name for path in listed]
    files: dict[Path, str] = {}  # a file, and the name under which it is reported and labelled
    for path in listed:
        if os.path.isdir(path):  # unlike Path.is_dir, it bears names that no file can have
            found = _media_below(path)
            files |= {file: file.relative_to(path).as_posix() for file in found}
            if not found:
                result.rejected.append(Rejected(str(path), f"{path}: a folder without any media file; add some"))
        else:
            files[path] = path.name if names.count(path.name) == 1 else path.as_posix()
    known = _labels(Path(labels)) if labels is not None else {}
    settings = {"size": size, "fps": fps, "sample_rate": sample_rate, "channels": channels, "fit": fit}
    settings |= {"max_seconds": max_seconds, "deadline_seconds": deadline_seconds}
    kept = store("clips", cache)
    labelled = set()
    for path, name in tqdm(files.items(), unit="file", disable=not progress):
        key = name if name in known else path.name
        labelled.add(key)
        try:
            if path.is_file() and path.suffix.lower() not in ENDINGS:
                raise MediaError(f"{name}: {_no_media(path)}")
            whole, notes = _cached(path, settings, kept)
            whole.source, (whole.label, whole.caption) = name, known.get(key, (None, None))[:2]
            clips = [whole] if window is None else _windows(whole, window, hop)
        except Exception as error:  # whatever a file does to a decoder, the others go on
            expected = isinstance(error, MediaError | OSError | MemoryError)
            reason = str(error).replace("\n", " ").removeprefix(f"{name}: ").removeprefix(f"{path.name}: ")
            reason = reason if expected else f"unexpected {type(error).__name__} ({reason}); please report this file"
            result.rejected.append(Rejected(name, f"{name}: {reason}"))
            continue
        result.clips += clips
        result.used.append(Used(name, len(clips), tuple(notes)))
    for name, (_, _, line) in known.items():
        if name not in labelled:
            result.rejected.append(Rejected(name, f"{name}: no such file, but line {line} of {labels} names it"))
    evict(kept, cache_bytes)
    return result


def _media_below(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _no_media(path: Path) -> str:
    if path.suffix.lower() in IMAGES:
        return f"a picture without sound; put a sound file {path.stem}.wav beside it and name that one"
    return f"not a media file by its ending {path.suffix!r}; rename it if it is one"


def _labels(path: Path) -> dict[str, tuple[str | None, str | None, int]]:
    """File name to (label, caption, line) of a CSV file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; labels is a CSV with the columns file,label[,caption]")
    if path.stat().st_size > MAX_LABELS_BYTES:
        raise ValueError(f"{path}: more than {MAX_LABELS_BYTES} bytes; a list of labels is smaller, check the file")
    known: dict[str, tuple[str | None, str | None, int]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            missing = [column for column in ("file", "label") if column not in (rows.fieldnames or [])]
            if missing:
                raise ValueError(
                    f"{path}, line 1: no column {' and no column '.join(missing)}; start it with the line file,label"
                )
            for row in rows:
                line, name = rows.line_num, (row["file"] or "").strip()
                if None in row or None in row.values():
                    raise ValueError(
                        f"{path}, line {line}: needs {len(rows.fieldnames)} cells; put text with commas in quotes"
                    )
                if not name:
                    raise ValueError(f"{path}, line {line}: the column file is empty; name a file or drop the line")
                if name in known:
                    raise ValueError(f"{path}, line {line}: {name} stands on line {known[name][2]} too; drop one")
                known[name] = row["label"].strip() or None, (row.get("caption") or "").strip() or None, line
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}, line {rows.line_num + 1}: {error}; save it as CSV in UTF-8") from None
    return known


def _windows(whole: Clip, window: float, hop: float) -> list[Clip]:
    frames, samples = round(window * whole.fps), round(window * whole.sample_rate)
    clips = []
    while (n := round(len(clips) * hop * whole.fps)) + frames <= len(whole.frames):
        first = round(n / whole.fps * whole.sample_rate)
        part = whole.waveform[:, first : first + samples]
        part = np.pad(part, ((0, 0), (0, samples - part.shape[1])))  # by a sample, where rounding asks for it
        clips.append(
            Clip(
                whole.frames[n : n + frames],
                part,
                whole.fps,
                whole.sample_rate,
                label=whole.label,
                caption=whole.caption,
                source=whole.source,
                start=n / whole.fps,
            )
        )
    if not clips:
        raise MediaError(
            f"{whole.source}: {whole.seconds:.2f} s can be used, less than one window of {window:g} s; lower window="
        )
    return clips


def _cached(path: Path, settings: dict, kept: Path) -> Decoded:
    """The whole file as a clip, out of the cache or decoded and put there."""
    if not path.is_file():
        return decode(path, **settings)  # raises with the reason
    parts = [path, picture_beside(path)]  # a picture beside a sound belongs to the entry
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts if part is not None]
    identity = {"version": VERSION, "path": str(path.resolve()), "files": stats, "settings": settings}
    entry = kept / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    kept = _load(entry)
    if kept is None:
        clip, notes = decode(path, **settings)
        _save(entry, identity, clip, notes)
        kept = _load(entry) or Decoded(clip, notes)  # another process may have dropped it
    return kept


def _save(entry: Path, identity: dict, clip: Clip, notes: list[str]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=entry.parent))
    try:
        arrays = {"frames.npy": clip.frames, "waveform.npy": clip.waveform}
        for name, array in arrays.items():
            np.save(part / name, array, allow_pickle=False)
        sums = {name: _sum(part / name) for name in arrays}
        facts = {"fps": clip.fps, "sample_rate": clip.sample_rate, "notes": notes, "sha256": sums}
        (part / "entry.json").write_text(json.dumps(identity | facts, indent=1))
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one
        os.replace(part, entry)
    except OSError as error:
        if not entry.is_dir():  # else another process was faster, with the same content
            raise MediaError(f"{clip.source}: could not be kept in the cache {entry.parent} ({error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _load(entry: Path) -> Decoded | None:
    """The clip of a cache entry, memory-mapped; None if there is none or it is damaged."""
    try:
        facts = json.loads((entry / "entry.json").read_text())
        if any(_sum(entry / name) != facts["sha256"][name] for name in ("frames.npy", "waveform.npy")):
            return None
        frames, waveform = (
            np.load(entry / name, mmap_mode="r", allow_pickle=False) for name in ("frames.npy", "waveform.npy")
        )
        os.utime(entry)  # "used last": eviction goes by it
        return Decoded(Clip(frames, waveform, facts["fps"], facts["sample_rate"]), facts["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

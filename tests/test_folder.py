"""A folder in, clips and reasons out: labels, windows, the cache, and forty kinds of damage."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_media import make, write_wav

from avlab.clip import collate
from avlab.datasets import folder, store
from avlab.datasets.folder import scan
from avlab.media import read


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Good files of several formats, made once."""
    place = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 96, 128, 3), np.uint8)
    formats = {
        "mp4": ("libx264", "aac"),
        "mkv": ("libx264", "flac"),
        "avi": ("mpeg4", "mp3"),
        "webm": ("libvpx", "libopus"),
    }
    formats |= {"mpg": ("mpeg1video", "mp2"), "mov": ("mjpeg", "pcm_s16le")}
    for ending, codecs in formats.items():
        make(
            place / f"good.{ending}",
            codecs=codecs,
            pix_fmt="yuvj420p" if ending == "mov" else "yuv420p",
            size=(96, 128),
            fps=25,
            rate=48000,
            seconds=2.2,
            picture=lambda t: noise[int(t * 25) % 40],
            sound=lambda t: 0.3 * np.random.default_rng(1).standard_normal((2, len(t))),
        )
    return place


def one_line(rejected):
    assert rejected.reason.startswith(rejected.file)
    assert "\n" not in rejected.reason
    assert len(rejected.reason) < 200 + 2 * len(rejected.file)
    assert "unexpected" not in rejected.reason
    return rejected.reason


def test_folder_with_labels_windows_and_stacking(tmp_path, good):
    place = tmp_path / "in"
    (place / "deep").mkdir(parents=True)
    for source, target in (("good.mp4", "b.mp4"), ("good.mkv", "deep/a.mkv"), ("good.avi", ".hidden.avi")):
        (place / target).write_bytes((good / source).read_bytes())
    t = np.arange(8000 * 3) / 8000
    write_wav(place / "c.wav", np.sin(2 * np.pi * 300 * t)[None], 8000)  # mono
    cv2.imwrite(str(place / "c.png"), np.full((30, 50, 3), 99, np.uint8))
    (place / "notes.txt").write_text("not tried")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        '\ufefffile,label,caption\nb.mp4,bell,"a bell, struck"\na.mkv,drum,\ngone.mp4,x,\n', encoding="utf-8"
    )
    result = scan(place, labels=labels, window=0.7, size=(11, 13), fps=10, cache=tmp_path / "cache")
    assert [(u.file, u.windows) for u in result.used] == [("b.mp4", 3), ("c.wav", 4), ("deep/a.mkv", 3)]
    assert [r.file for r in result.rejected] == ["gone.mp4"]
    assert "line 4 of" in one_line(result.rejected[0])
    assert {(c.source, c.label, c.caption) for c in result.clips} == {
        ("b.mp4", "bell", "a bell, struck"),
        ("c.wav", None, None),
        ("deep/a.mkv", "drum", None),
    }
    assert [c.start for c in result.clips[:3]] == pytest.approx([0, 0.7, 1.4])
    batch = collate(result.clips)
    assert batch.audio.shape == (10, 2, 11200)
    assert batch.video.shape == (10, 7, 3, 11, 13)
    assert result.report().splitlines()[-1] == "3 files used, 10 clips; 1 file rejected"
    halved = scan(place / "b.mp4", window=1.0, hop=0.5, size=9, fps=10, cache=tmp_path / "cache")
    assert [c.start for c in halved.clips] == [0, 0.5, 1.0]
    assert np.array_equal(halved.clips[0].frames[5:], halved.clips[1].frames[:5])
    assert np.array_equal(halved.clips[0].waveform[:, 8000:], halved.clips[1].waveform[:, :8000])
    whole = scan([place / "b.mp4"], window=None, size=9, fps=10, cache=tmp_path / "cache").clips
    assert len(whole) == 1
    assert np.array_equal(whole[0].waveform, read(place / "b.mp4", size=9, fps=10).waveform)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,label\na.mp4,x\n", "line 1: no column file"),
        ("", "line 1: no column file and no column label"),
        ("file,label\na.mp4\n", "line 2: needs 2 cells"),
        ("file,label\na.mp4,x,y\n", "line 2: needs 2 cells"),
        ("file,label\na.mp4,x\n,y\n", "line 3: the column file is empty"),
        ("file,label\na.mp4,x\nb.mp4,y\na.mp4,z\n", "line 4: a.mp4 stands on line 2 too"),
        (b"file,label\na.mp4,\xff\xfe\n", "line .*UTF-8"),
        ('file,label\n"a.mp4,x\n', "line .*save it as CSV"),
    ],
)
def test_bad_labels_name_their_line(tmp_path, text, reason):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=reason):
        scan([], labels=path, cache=tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        scan([], labels=tmp_path / "none.csv")


def test_bad_settings():
    with pytest.raises(ValueError, match="holds no frame"):
        scan([], window=0.05, fps=8)
    with pytest.raises(ValueError, match="hop must be above 0"):
        scan([], hop=0)


def test_each_bad_file_gets_one_line_and_the_others_go_on(tmp_path, good):
    place = tmp_path / "in"
    place.mkdir()
    make(place / "silent.mkv", codecs=("libx264", None), seconds=0.4)
    make(place / "blind.mkv", codecs=(None, "flac"), seconds=0.4)
    make(place / "short.mp4", seconds=0.4)
    (place / "zero.mp4").touch()
    (place / "text.mp4").write_text("I am no film.\n" * 50)
    (place / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    cv2.imwrite(str(place / "still.png"), np.zeros((8, 8, 3), np.uint8))
    (place / "table.csv").write_text("a,b\n")
    (place / "ok.mp4").write_bytes((good / "good.mp4").read_bytes())
    os.mkfifo(place / "pipe.mp4")  # opening it would wait for ever
    make(place / "long.mp4", times=[0, 36000], seconds=0.4)
    files = [*sorted(place.iterdir()), "x" * 300 + ".mp4", place / "gone.mp4", tmp_path / "empty"]
    (tmp_path / "empty").mkdir()
    result = scan(files, window=1.0, size=8, cache=tmp_path / "cache")
    assert [u.file for u in result.used] == ["ok.mp4"]
    reasons = {Path(r.file).name: one_line(r) for r in result.rejected}
    for name, part in {
        "silent.mkv": "no audio track",
        "blind.mkv": "no video track; put a picture blind.png beside it",
        "short.mp4": "less than one window of 1 s",
        "zero.mp4": "empty (0 bytes)",
        "text.mp4": "holds text",
        "noise.mp4": "FFmpeg cannot open it",
        "still.png": "a picture without sound",
        "table.csv": "not a media file by its ending '.csv'",
        "pipe.mp4": "not a file",
        "long.mp4": "s, more than max_seconds=600",
        "gone.mp4": "no such file",
        "x" * 300 + ".mp4": "name too long",
        "empty": "a folder without any media file",
    }.items():
        assert part in reasons.pop(name)
    assert not reasons
    assert result.report().count("\n") == 14


def malformed(good, place):
    """Forty damaged files from good ones: cut, flipped, overwritten, misnamed."""
    rng = np.random.default_rng(7)
    place.mkdir()
    for ending in ("mp4", "mkv", "avi", "webm", "mpg", "mov"):
        raw = (good / f"good.{ending}").read_bytes()
        for share in (0.003, 0.3, 0.8, 0.97):
            (place / f"cut_{share}.{ending}").write_bytes(raw[: int(len(raw) * share)])
        for count in (20, 2000):
            flipped = np.frombuffer(raw, np.uint8).copy()
            flipped[rng.integers(100, len(raw), count)] ^= rng.integers(1, 256, count).astype(np.uint8)
            (place / f"flip_{count}.{ending}").write_bytes(flipped.tobytes())
    raw = (good / "good.mkv").read_bytes()
    (place / "wrong.mp4").write_bytes(raw)  # content counts, not the ending
    (place / "zeros.avi").write_bytes(bytes(50_000))
    (place / "hole.mkv").write_bytes(raw[: len(raw) // 3] + bytes(len(raw) // 3) + raw[2 * len(raw) // 3 :])
    (place / "twice.mpg").write_bytes((good / "good.mpg").read_bytes() * 2)
    return sorted(place.iterdir())


def test_forty_malformed_files_end_soon_in_a_clip_or_a_line(tmp_path, good, capfd):
    files = malformed(good, tmp_path / "in")
    assert len(files) == 40
    for file in files:
        begun = time.monotonic()
        result = scan(file, window=0.5, size=16, fps=10, cache=tmp_path / "cache")
        assert time.monotonic() - begun < 10, file
        assert len(result.used) + len(result.rejected) == 1, file
        assert bool(result.clips) == bool(result.used), file
        for rejected in result.rejected:
            one_line(rejected)
        for clip in result.clips:
            assert np.isfinite(clip.waveform).all()
    assert capfd.readouterr() == ("", "")
    cut = scan(tmp_path / "in" / "cut_0.8.mkv", window=0.5, size=16, fps=10, cache=tmp_path / "cache")
    assert 1 <= len(cut.clips) < 4
    assert "ends after" in " ".join(cut.used[0].notes) or cut.clips[-1].start < 1.5
    assert scan(tmp_path / "in" / "wrong.mp4", window=0.5, size=16, fps=10, cache=tmp_path / "cache").clips


def test_a_surprise_in_one_file_does_not_end_the_batch(tmp_path, good, monkeypatch):
    original = folder.decode

    def surprised(path, **given):
        if path.suffix == ".avi":
            raise IndexError("list index out of range")
        return original(path, **given)

    monkeypatch.setattr(folder, "decode", surprised)
    result = scan([good / "good.avi", good / "good.mp4"], window=1.0, size=8, cache=tmp_path)
    assert [u.file for u in result.used] == ["good.mp4"]
    assert "unexpected IndexError" in result.rejected[0].reason


def counting(monkeypatch):
    calls = []
    original = folder.decode
    monkeypatch.setattr(folder, "decode", lambda path, **given: calls.append(path.name) or original(path, **given))
    return calls


def test_cache_is_used_and_made_anew_when_it_must_be(tmp_path, good, monkeypatch):
    file, cache = tmp_path / "a.mp4", tmp_path / "cache"
    file.write_bytes((good / "good.mp4").read_bytes())
    calls = counting(monkeypatch)

    def again(**given):
        before = len(calls)
        clips = scan(file, **({"window": 1.0, "size": 8, "cache": cache} | given)).clips
        return len(calls) - before, clips

    made, first = again()
    assert made == 1
    made, second = again()
    assert made == 0
    assert isinstance(second[0].frames.base, np.memmap | np.ndarray)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.waveform, b.waveform)
    assert again(window=0.5)[0] == 0  # windows are cut out of the same entry
    assert again(size=9)[0] == 1
    os.utime(file, ns=(1, 1))
    assert again()[0] == 1  # the file may have changed
    (entry,) = (
        e for e in (cache / "clips").iterdir() if json.loads((e / "entry.json").read_text())["files"][0][2] == 1
    )
    for damage in ("frames", "waveform", "cut", "json", "gone", "pickle"):
        if damage in ("frames", "waveform"):
            raw = bytearray((entry / f"{damage}.npy").read_bytes())
            raw[-5] ^= 4
            (entry / f"{damage}.npy").write_bytes(raw)
        elif damage == "cut":
            os.truncate(entry / "frames.npy", 300)
        elif damage == "json":
            (entry / "entry.json").write_text('{"sha256": [')
        elif damage == "gone":
            (entry / "waveform.npy").unlink()
        else:
            np.save(entry / "frames.npy", np.array([{}], dtype=object), allow_pickle=True)
        made, clips = again()
        assert made == 1, damage
        assert np.array_equal(clips[0].frames, first[0].frames), damage
        assert again()[0] == 0, damage


def test_cache_drops_what_was_unused_for_longest(tmp_path, good, monkeypatch):
    cache = tmp_path / "cache"
    given = {"window": 1.0, "size": 32, "cache": cache}
    scan(good / "good.mp4", **given)
    one = sum(f.stat().st_size for f in (cache / "clips").rglob("*.*") if f.is_file())
    scan(good / "good.mkv", **given)
    calls = counting(monkeypatch)
    for entry in (cache / "clips").iterdir():
        os.utime(entry, ns=(10**9, 10**9))
    scan(good / "good.mp4", **given)  # used just now
    clips = scan(good / "good.avi", cache_bytes=int(2.5 * one), **given).clips
    assert clips[0].frames.shape[1] == 32
    assert calls == ["good.avi"]
    scan([good / "good.mp4", good / "good.avi"], **given)
    assert calls == ["good.avi"]
    scan(good / "good.mkv", **given)
    assert calls == ["good.avi", "good.mkv"]


def test_eviction_bears_stray_files_and_what_another_process_drops(tmp_path, good, monkeypatch):
    (tmp_path / "clips" / "entry").mkdir(parents=True)
    (tmp_path / "clips" / ".DS_Store").touch()
    original = Path.stat

    def dropped(path, **given):
        if path.name == "entry":
            raise FileNotFoundError(path)
        return original(path, **given)

    monkeypatch.setattr(Path, "stat", dropped)
    assert len(scan(good / "good.mp4", window=1.0, size=8, cache=tmp_path, cache_bytes=0).clips) == 2
    assert [path.name for path in (tmp_path / "clips").iterdir() if path.name not in (".DS_Store", "entry")] == []


def test_the_cache_is_the_projects_wherever_the_kernel_runs(tmp_path, good, monkeypatch):
    monkeypatch.delenv("AVLAB_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "CACHE", tmp_path / "of" / "project")
    scan(good / "good.mp4", window=1.0, size=8)
    assert [path.name for path in tmp_path.iterdir()] == ["of"]


@pytest.mark.parametrize("moment", ["np.save", "os.replace"])
def test_a_killed_run_leaves_no_half_entry(tmp_path, good, moment):
    cache = tmp_path / "cache"
    module, name = moment.split(".")
    kill = f"""
import os, signal, numpy as np
from avlab.datasets import folder
original, calls = {moment}, []
def killed(*args, **given):
    calls.append(1)
    if len(calls) == {2 if name == "save" else 1}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **given)
{module}.{name} = killed
folder.scan({str(good / "good.mp4")!r}, window=1.0, size=8, cache={str(cache)!r})
"""
    assert subprocess.run([sys.executable, "-c", kill], timeout=60).returncode == -signal.SIGKILL
    left = list((cache / "clips").iterdir())
    assert [p.name.startswith(".part-") for p in left] == [True]
    for path in (*left[0].iterdir(), left[0]):
        os.utime(path, (1, 1))
    assert len(scan(good / "good.mp4", window=1.0, size=8, cache=cache).clips) == 2
    assert [p.name.startswith(".part-") for p in (cache / "clips").iterdir()] == [False]


@pytest.mark.clips
@pytest.mark.skipif("AVLAB_CLIPS" not in os.environ, reason="set AVLAB_CLIPS to a folder with real clips in events/")
def test_real_clips(tmp_path):
    files = sorted(p.name for p in (Path(os.environ["AVLAB_CLIPS"]) / "events").iterdir())
    result = scan(Path(os.environ["AVLAB_CLIPS"]) / "events", cache=tmp_path)
    assert sorted([u.file for u in result.used] + [r.file for r in result.rejected]) == files
    assert all(u.windows >= 2 for u in result.used)
    assert collate(result.clips).video.shape[1:] == (24, 3, 112, 112)

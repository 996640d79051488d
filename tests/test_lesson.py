"""Clips for a lesson: from the world, from the samples, from a folder of files, and too few of them."""

import json
import shutil

import numpy as np
import pytest
import torch

from avlab.datasets import lesson
from avlab.datasets.lesson import LessonClips, lesson_clips
from avlab.datasets.pairs import pairs_of
from avlab.world import World, export


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AVLAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "mine"
    export(path, clips=3, size=48, level="L0", seconds=9.0)  # four windows each
    return path


def agrees(found: LessonClips) -> None:
    """The test pairs are those of `clips`, in order."""
    expected = pairs_of(found.clips, found.test.kinds)
    for name in ("spectrogram", "residual", "loudness", "motion", "label"):
        assert torch.equal(getattr(found.test, name), getattr(expected, name))


def test_the_world(monkeypatch):
    made = []
    monkeypatch.setattr(
        lesson, "render", lambda world, indices: made.extend(indices) or pairs_of([world.clip(i) for i in indices])
    )
    found = lesson_clips("world", seed=3, level="L1", train=7, test=5)
    assert made == list(range(100_000, 100_007))
    assert (len(found.train), len(found.test), len(found.clips)) == (7, 5, 5)
    assert found.truth
    assert all(clip.truth is not None for clip in found.whole)
    np.testing.assert_array_equal(found.clips[4].frames, World(level="L1", seed=3).clip(4).frames)
    assert "seed 3: 7 clips to learn from, 5 others" in found.report
    agrees(found)


def test_a_folder_is_split_in_time(folder):
    found = lesson_clips(str(folder))
    assert (len(found.train), len(found.test), len(found.whole)) == (9, 3, 3)
    assert [clip.start for clip in found.clips] == [6.0] * 3  # the last quarter of each file
    assert len({clip.source for clip in found.clips}) == 3
    assert [round(clip.seconds) for clip in found.whole] == [9] * 3
    assert (found.truth, found.boxes) == (False, {})
    assert found.report.count(": 4 windows") == 3
    assert found.train.kinds == found.test.kinds == tuple(sorted({clip.label for clip in found.whole}))
    assert (found.train.label >= 0).all()
    agrees(found)


def test_one_file_and_its_boxes(folder, tmp_path):
    source = sorted(folder.glob("*.mp4"))[0]
    path = tmp_path / "clip_3qesirWAGt4.mp4"
    shutil.copy(source, path)
    alone = lesson_clips(str(path))  # of a single file two windows are held out: one cannot be ranked
    assert (len(alone.train), len(alone.test), len(alone.whole)) == (2, 2, 1)
    shutil.copy(source, tmp_path / "other.mp4")
    (tmp_path / "annotations").mkdir()
    entry = {"file": "3qesirWAGt4_000020", "bbox": [[0.1, 0.2, 0.3, 0.4]]}
    (tmp_path / "annotations" / "vggss.json").write_text(json.dumps([entry]))
    (tmp_path / "bad.mp4").write_text("no video")
    found = lesson_clips(str(tmp_path))
    assert {name: box.tolist() for name, box in found.boxes.items()} == {path.name: entry["bbox"]}
    assert "rejected  bad.mp4" in found.report
    assert found.test.label.tolist() == [-1, -1]


def test_short_files_go_to_either_side(tmp_path):
    export(tmp_path / "short", clips=9, size=32, level="L0")
    found = lesson_clips(str(tmp_path / "short"))
    assert (len(found.train), len(found.test)) == (7, 2)
    assert [clip.source[:3] for clip in found.clips] == ["003", "007"]


def test_no_more_files_than_a_lesson_takes(folder, monkeypatch):
    monkeypatch.setattr(lesson, "MOST_FILES", 2)
    found = lesson_clips(str(folder))
    assert (len(found.train), len(found.test), len(found.whole)) == (6, 2, 2)
    left = sorted(path.name for path in folder.glob("*.mp4"))[2]
    assert f"only the first 2 files are taken in a lesson; left out: {left}" in found.report


def test_a_folder_with_nothing_says_so(tmp_path):
    with pytest.raises(ValueError, match="0 windows of 2 s to learn from and 0 to test on are too few"):
        lesson_clips(str(tmp_path))
    with pytest.raises(ValueError, match="no such file"):
        lesson_clips(str(tmp_path / "nowhere"))


def test_the_samples():
    found = lesson_clips("samples")
    assert len(found.whole) == len(list(lesson.SAMPLES.glob("*.mp4"))) >= 4
    assert min(len(found.train), len(found.test)) >= 2
    assert all(clip.label is not None for clip in found.whole)
    agrees(found)

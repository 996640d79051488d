"""VGG-SS annotations: found where they lie, matched by video id, wrong files named."""

import json
import os

import numpy as np
import pytest

from avlab.datasets import vggss

ENTRIES = [
    {"file": "3qesirWAGt4_000020", "class": "dog", "bbox": [[0.1, 0.2, 0.5, 0.75], [0.0, 0.0, 1.0, 1.0]]},
    {"file": "-bCdEfGhIj_000001", "class": "bell", "bbox": [[0.25, 0.25, 0.5, 0.5]]},
]


def write(folder, content, name="vggss.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_boxes_by_video_id(tmp_path):
    names = ["ss_3qesirWAGt4_20000_30000.mp4", "other.mp4", "deep/-bCdEfGhIj_x.mkv"]
    found = vggss.boxes(write(tmp_path, ENTRIES), names)
    assert list(found) == [names[0], names[2]]
    np.testing.assert_array_equal(found[names[0]], ENTRIES[0]["bbox"])
    assert found[names[2]].shape == (1, 4)
    assert vggss.boxes(write(tmp_path, ENTRIES[::-1]), names)[names[0]].tolist() == ENTRIES[0]["bbox"]
    assert vggss.boxes(write(tmp_path, []), names) == {}


def test_find_looks_in_and_beside_the_folder(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (tmp_path / "annotations").mkdir()
    assert vggss.find(clips) is None
    beside = write(tmp_path / "annotations", ENTRIES, "VGGSS_vggss.json")
    assert vggss.find(clips) == beside
    (clips / "annotations").mkdir()
    below = write(clips / "annotations", ENTRIES)
    assert vggss.find(str(clips)) == below
    inside = write(clips, ENTRIES)
    assert vggss.find(clips) == inside


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[",
        "3",
        "null",
        '{"file": "x"}',
        '["x"]',
        '[{"bbox": []}]',
        '[{"file": "3qesirWAGt4"}]',
        '[{"file": "3qesirWAGt4", "bbox": [[1, 2], [3]]}]',
        '[{"file": "3qesirWAGt4", "bbox": "all"}]',
        '[{"file": "3qesirWAGt4", "bbox": {"x": 1}}]',
        '[{"file": "", "bbox": [[0, 0, 1, 1]]}]',
        "[" * 100_000,
        "\x00\x01",
    ],
)
def test_a_file_that_is_no_annotation_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"vggss.json: not a VGG-SS annotation"):
        vggss.boxes(write(tmp_path, content), ["3qesirWAGt4.mp4"])


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "vggss.json").write_bytes(b"\xff\xfe\x81[")
    with pytest.raises(ValueError, match="not a VGG-SS annotation"):
        vggss.boxes(tmp_path / "vggss.json", [])


@pytest.mark.parametrize("bbox", [[0.1, 0.2, 0.3, 0.4], [[0.1, 0.2, 0.3]], [[0, 0, 1, 1.5]], [[-0.1, 0, 1, 1]], []])
def test_boxes_outside_of_the_picture_are_named(tmp_path, bbox):
    path = write(tmp_path, [{"file": "3qesirWAGt4_000020", "bbox": bbox}])
    with pytest.raises(ValueError, match=r"boxes of a3qesirWAGt4.mp4 are not"):
        vggss.boxes(path, ["a3qesirWAGt4.mp4"])
    assert vggss.boxes(path, ["other.mp4"]) == {}
    not_a_number = write(tmp_path, '[{"file": "3qesirWAGt4_000020", "bbox": [[NaN, 0, 1, 1]]}]')
    with pytest.raises(ValueError, match="are not"):
        vggss.boxes(not_a_number, ["a3qesirWAGt4.mp4"])


def test_a_file_too_large_is_not_read(tmp_path):
    path = write(tmp_path, "")
    os.truncate(path, vggss.MAX_BYTES + 1)  # sparse
    with pytest.raises(ValueError, match="50 MB is more than"):
        vggss.boxes(path, [])

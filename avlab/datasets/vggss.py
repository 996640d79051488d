"""VGG-SS: boxes around the visible sources of 5,158 clips of VGG-Sound (survey table 4; localization, appendix D.4).

The annotation is one JSON file, a list of `{"file": "<video id>_<start>", "class": ..., "bbox": [[x0, y0, x1, y1]]}`
in shares of the picture, true at the clip's middle second. The videos are not part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

NAMES = ("vggss.json", "VGGSS_vggss.json")
MAX_BYTES = 50 * 2**20


def find(folder: str | Path) -> Path | None:
    """The annotation file in a folder of clips, in its `annotations/`, or in an `annotations/` beside it; else None."""
    folder = Path(folder)
    places = (folder, folder / "annotations", folder.parent / "annotations")
    return next((place / name for place in places for name in NAMES if (place / name).is_file()), None)


def boxes(annotation: str | Path, files: Iterable[str]) -> dict[str, np.ndarray]:
    """Boxes (K, 4) `x0 y0 x1 y1` in [0, 1] of each of `files` that is annotated, found by the video id in its name.

    Raises `ValueError` for a file that is not such a list, naming what is wrong.
    """
    path = Path(annotation)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name}: {path.stat().st_size / 2**20:.0f} MB is more than a VGG-SS annotation has")
    try:
        entries = {str(entry["file"])[:11]: np.asarray(entry["bbox"], float) for entry in json.loads(path.read_text())}
        if any(len(key) < 11 for key in entries):  # a short one would be found in any name
            raise ValueError("a file without a video id of 11 letters")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path.name}: not a VGG-SS annotation, a list of file and bbox ({error!r})") from error
    found = {name: box for name in files for key, box in entries.items() if key in name}
    for name, box in found.items():
        if box.ndim != 2 or box.shape[1] != 4 or not ((box >= 0) & (box <= 1)).all():
            raise ValueError(f"{path.name}: the boxes of {name} are not (K, 4) in [0, 1] but {box.tolist()}")
    return found

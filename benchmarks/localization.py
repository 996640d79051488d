"""Real clips: where correlation with the sound finds a source with no training, beside motion alone.

    AVLAB_CLIPS=folder python benchmarks/localization.py

Boxes: VGG-SS (at the middle second of the clip) where it has the clip; for four more clips drawn by eye on the frame
at 5 s (or the middle), around what makes the sound. Pointing: does the brightest place lie in the box; IoU: of the box
with the map above half of its maximum. Six clips are anecdotes: look at others before believing any single number.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from avlab.datasets import vggss
from avlab.datasets.folder import scan
from avlab.datasets.pairs import level_and_motion
from avlab.metrics.localization import box_mask, ciou, pointing
from avlab.models.localizer import correlation_map

BY_EYE = {
    "fc_vgg_0.mp4": ("congas", (0.10, 0.45, 0.95, 1.00)),
    "fc_vgg_3.mp4": ("tennis, outdoors", (0.70, 0.24, 0.85, 0.82)),
    "ss_ZYc410CE4Rg_0_10000.mp4": ("tennis, indoors", (0.32, 0.28, 0.55, 0.82)),
    "fc_avsync_2.mp4": ("hammer on an anvil", (0.25, 0.22, 0.85, 1.00)),
}


def main() -> None:
    """Print one line a clip and map."""
    if "AVLAB_CLIPS" not in os.environ:
        print("skipped: set AVLAB_CLIPS to a folder that holds events/ and annotations/, this is about real clips")
        return
    folder = Path(os.environ["AVLAB_CLIPS"]) / "events"
    found = scan(folder, window=None, size=112, fps=12.5)
    boxes = {name: (name, np.array([box])) for name, (_, box) in BY_EYE.items()}
    annotation = vggss.find(folder)
    if annotation is not None:
        known = vggss.boxes(annotation, [clip.source for clip in found.clips])
        boxes |= {name: (f"{name} (VGG-SS)", box) for name, box in known.items()}
    print(f"{'clip':44s}{'motion':>16s}{'correlation':>16s}{'both':>16s}   best rho")
    for clip in found.clips:
        if clip.source not in boxes:
            continue
        name, box = boxes[clip.source]
        level, moves = level_and_motion(clip)
        rho, spread = correlation_map(level, moves), moves[0].std(0)[None]
        mask = box_mask(torch.as_tensor(box), 112, 112)[None]
        cells = []
        for heat in (moves.mean(1), rho, rho * spread.sqrt()):
            heat = heat / heat.amax().clamp_min(1e-9)
            hit = "hit" if pointing(heat, mask)[0] > 0.5 else "miss"  # a flat map scores its chance
            cells.append(f"{hit} {float(ciou(heat, mask, threshold=0.5)[0]):.2f}")
        label = BY_EYE[clip.source][0] if clip.source in BY_EYE else name
        print(f"{label:44s}" + "".join(f"{cell:>16s}" for cell in cells) + f"   {rho.max():.2f}")


if __name__ == "__main__":
    main()

"""The training-free match on real people who speak, and its map on real events; needs AVLAB_CLIPS."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avlab.audio import band_energy
from avlab.clip import Clip, collate
from avlab.datasets import folder
from avlab.datasets.pairs import level_and_motion
from avlab.metrics.retrieval import recall_at_k
from avlab.models.localizer import correlation_map, correlation_match
from avlab.video import motion, pool_grid

CLIPS = os.environ.get("AVLAB_CLIPS", "")
pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(
        not CLIPS, reason="AVLAB_CLIPS is not set: point it at a folder with grid_s1/*.mp4 (GRID) and events/*.mp4"
    ),
]
FRAMES = 75  # 3 s at 25 fps, the length of a GRID sentence


def speech_and_motion(clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Level of the lower half of the spectrum (N,), where voices are, and motion in a grid of 12 x 12 (N, 12, 12)."""
    batch = collate([clip])
    mono = batch.audio.mean(dim=1)
    bands = band_energy(mono, sample_rate=batch.sample_rate, fps=batch.fps, frames=FRAMES, bands=8)
    return bands[0, :4].mean(dim=0), pool_grid(motion(batch.video[:, :FRAMES]), 12)[0]


def test_energy_against_motion_finds_who_speaks_among_200():
    files = sorted((Path(CLIPS) / "grid_s1").glob("*.mp4"))[:200]
    assert len(files) == 200, f"{CLIPS}/grid_s1 holds {len(files)} clips, this test needs 200"
    scan = folder.scan(files, window=None, size=(96, 120), fps=25)
    assert len(scan.clips) == 200, scan.report()
    sound, pictures = (torch.stack(x) for x in zip(*map(speech_and_motion, scan.clips), strict=True))
    scores = correlation_match(sound, pictures)
    found = recall_at_k(scores, 10)
    print(f"recall@10 among 200: {found:.3f} sound to picture, {recall_at_k(scores.T, 10):.3f} back")
    assert found >= 0.2  # chance is 0.05
    assert recall_at_k(scores.T, 10) >= 0.2
    order = [torch.randperm(200, generator=torch.Generator().manual_seed(seed)) for seed in range(10)]
    shuffled = [recall_at_k(scores[:, places], 10) for places in order]
    assert np.mean(shuffled) == pytest.approx(0.05, abs=0.02)
    assert max(shuffled) < found / 2


def test_every_event_clip_gives_a_map():
    scan = folder.scan(Path(CLIPS) / "events", window=None, size=112, fps=12.5)
    assert len(scan.clips) == 16, scan.report()
    empty = []
    for clip in scan.clips:
        level, moves = level_and_motion(clip)
        heat = correlation_map(level, moves)
        assert heat.shape == (1, *moves.shape[2:]), clip.source
        assert heat.isfinite().all(), clip.source
        assert 0 <= heat.min() <= heat.max() <= 1, clip.source
        if heat.max() == 0:
            empty.append(clip.source)
    # one cuts between a loud, still cockpit and a panning camera: there every place moves against the level
    assert len(empty) <= 1, empty

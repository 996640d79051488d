"""What holds for the looks of several families: what tells a material, and where the parts of a thing may be."""

import numpy as np
import pytest
from things import seen, sketched

from avlab.world import KINDS
from avlab.world.kinds import Event

PLAIN = {"x": 0.5, "y": 0.5, "tilt": 0.0, "colour": (90, 150, 200), "accent": (210, 110, 60), "coat": "painted"}


@pytest.mark.parametrize("kind", ["bar", "drum", "plate", "bell", "string", "fiddle"])
def test_a_material_is_told_by_its_texture_and_by_nothing_that_moves(kind):
    events, times = [Event(0.2, 0.8, 0.3), Event(0.7, 0.5, 0.3)], np.arange(17) / 8
    own = {name: sum(ends) / 2 for name, ends in KINDS[kind].ranges.items()}
    pictures = {}
    for coat in ("painted", "bare"):
        for material in KINDS[kind].materials:
            factors = PLAIN | own | {"size": 14 / 64, "material": material, "coat": coat}
            frames, ids, _ = seen(kind, factors, events, times, side=64)
            pictures[coat, material] = frames, ids > 0
    first, *others = KINDS[kind].materials
    for other in others:
        np.testing.assert_array_equal(pictures["painted", other][0], pictures["painted", first][0])
        np.testing.assert_array_equal(pictures["bare", other][1], pictures["bare", first][1])
        assert (pictures["bare", other][0] != pictures["bare", first][0]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(("kind", "hides"), [("bottle", False), ("flute", False), ("drops", True), ("pour", True)])
def test_looks_keep_their_parts_and_their_bounds(kind, hides):
    rng, counts = np.random.default_rng(3), set()
    for _ in range(20):
        factors = {name: rng.uniform(*ends) for name, ends in KINDS[kind].ranges.items()}
        factors |= PLAIN | {"size": 0.2, "x": 0.0, "y": 0.0, "material": KINDS[kind].materials[0]}
        events = KINDS[kind].beats(rng, 2.0)
        for at, those in ((np.arange(17) / 8, events), (np.arange(400) / 200, events), (np.array([0.4]), [])):
            parts = sketched(kind, factors, those, at).parts
            counts.add(len(parts))
            for part in parts:
                assert np.isfinite(part.points).all()
                shown = np.broadcast_to(part.seen, len(part.points)) if hides and len(part.points) > 1 else slice(None)
                points = part.points[shown]  # water waits out of the picture until it is seen
                if len(points):
                    assert np.abs(points[..., 0]).max() <= 1.3 * 0.2 + 1e-9
                    assert points[..., 1].min() >= -1.8 * 0.2 - 1e-9
                    assert points[..., 1].max() <= 1.3 * 0.2
    assert len(counts) == 1

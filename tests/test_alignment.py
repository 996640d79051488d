"""Heterogeneity gap and pair distance: against numpy loops, on known clouds, under rotation."""

import math

import numpy as np
import pytest
import torch

from avlab.metrics.alignment import heterogeneity_gap, pair_distance


def cloud(B: int = 5, D: int = 11, seed: int = 0) -> torch.Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(seed))


def unit(x: torch.Tensor) -> np.ndarray:
    return np.array([row / math.sqrt(sum(v * v for v in row)) for row in x.double().numpy()])


def test_values_are_those_of_a_loop():
    a, v = cloud(seed=0), cloud(seed=1) + 0.5
    x, y = unit(a), unit(v)
    assert heterogeneity_gap(a, v) == pytest.approx(math.dist(x.mean(0), y.mean(0)), abs=1e-6)
    assert pair_distance(a, v) == pytest.approx(np.mean([math.dist(p, q) ** 2 for p, q in zip(x, y, strict=True)]))


def test_known_clouds():
    a = cloud()
    assert (heterogeneity_gap(a, a), pair_distance(a, a)) == (0.0, 0.0)
    assert pair_distance(a, -a) == pytest.approx(4.0)
    assert heterogeneity_gap(torch.eye(11)[:1].expand(7, 11), -torch.eye(11)[:1].expand(7, 11)) == pytest.approx(2.0)
    order = torch.tensor([2, 0, 4, 1, 3])
    assert heterogeneity_gap(a, a[order]) == pytest.approx(0.0, abs=1e-6)  # a gap is of clouds, not of pairs
    assert pair_distance(a, a[order]) > 0.5


def test_rotation_and_length_change_nothing():
    a, v = cloud(seed=0), cloud(seed=1)
    turn, _ = torch.linalg.qr(cloud(11, 11, seed=2))
    long = torch.rand(5, 1, generator=torch.Generator().manual_seed(3)) * 9 + 0.1
    assert heterogeneity_gap(a @ turn * long, v @ turn) == pytest.approx(heterogeneity_gap(a, v), abs=1e-5)
    assert pair_distance(a @ turn * long, v @ turn) == pytest.approx(pair_distance(a, v), abs=1e-5)
    assert heterogeneity_gap(v, a) == pytest.approx(heterogeneity_gap(a, v))


@pytest.mark.parametrize("measure", [heterogeneity_gap, pair_distance])
def test_what_is_no_pair_of_clouds(measure):
    for a, v in [((5, 11), (4, 11)), ((5, 11), (5, 7)), ((5,), (5,)), ((0, 3), (0, 3))]:
        with pytest.raises(ValueError, match=r"must both be \(B, D\)"):
            measure(torch.ones(a), torch.ones(v))

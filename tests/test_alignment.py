"""Measures of a space: against loops and libraries, on known clouds, under rotation, scale and order."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import calinski_harabasz_score
from sklearn.neighbors import NearestCentroid

from avlab.metrics.alignment import (
    compactness,
    effective_rank,
    fisher_ratio,
    heterogeneity_gap,
    pair_distance,
    separation,
    uniformity,
)


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


LABEL = torch.tensor([4, 4, 0, 9, 0, 4, 9, 9, 9, 0, 4])  # 11 points in three classes of unlike size


def classes(seed: int = 0, spread: float = 0.3) -> torch.Tensor:
    """Points (11, 7) around three centres."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, 7, generator=g)
    return centres[LABEL] + spread * torch.randn(11, 7, generator=g)


def test_classes_by_a_loop_and_scikit_learn():
    points = classes()
    x = unit(points)
    centres = NearestCentroid().fit(x, LABEL.numpy()).centroids_
    own = {k: centres[i] for i, k in enumerate((0, 4, 9))}
    within = [np.mean([math.dist(p, own[k]) for p, y in zip(x, LABEL, strict=True) if y == k]) for k in own]
    assert compactness(points, LABEL) == pytest.approx(np.mean(within), abs=1e-6)
    apart = [math.dist(centres[i], centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert separation(points, LABEL) == pytest.approx(np.mean(apart), abs=1e-6)
    M, K = 11, 3  # that score is the ratio of the mean squares: between over K - 1, within over M - K
    assert fisher_ratio(points, LABEL) == pytest.approx(
        calinski_harabasz_score(x, LABEL.numpy()) * (K - 1) / (M - K), rel=1e-5
    )


def test_uniformity_and_rank_by_a_loop():
    points = classes()
    x = unit(points)
    pairs = [math.exp(-3.0 * math.dist(x[i], x[j]) ** 2) for i in range(11) for j in range(i)]
    assert uniformity(points, t=3.0) == pytest.approx(math.log(np.mean(pairs)), abs=1e-6)
    variance = np.linalg.eigvalsh(np.cov(points.double().numpy().T)).clip(0)
    share = np.sqrt(variance) / np.sqrt(variance).sum()
    assert effective_rank(points) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)


def test_known_spaces():
    tight = torch.eye(3).repeat_interleave(5, 0)
    label = torch.arange(3).repeat_interleave(5)
    assert compactness(tight, label) == 0
    assert separation(tight, label) == pytest.approx(math.sqrt(2))
    assert fisher_ratio(tight, label) == math.inf
    assert uniformity(torch.ones(11, 5)) == 0  # collapsed
    assert uniformity(torch.randn(400, 64, generator=torch.Generator().manual_seed(0))) == pytest.approx(-3.9, abs=0.1)
    for rank in (1, 2, 7):  # crossed axes of equal length
        assert effective_rank(torch.cat([torch.eye(7)[:rank], -torch.eye(7)[:rank]])) == pytest.approx(rank)
    assert effective_rank(torch.full((11, 7), 0.1)) == 0
    assert effective_rank(torch.ones(1, 5)) == 0


def test_a_class_counts_alike_whatever_its_size():
    wide = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])  # spread 1 around a centre at 0
    points = torch.cat([wide, torch.tensor([[0.0, 0, 1]]).expand(9, 3)])
    assert compactness(points, torch.tensor([0] * 2 + [1] * 9)) == pytest.approx(0.5)


def test_within_and_between_rise_as_they_should():
    assert compactness(classes(spread=0.1), LABEL) < compactness(classes(spread=0.5), LABEL)
    assert fisher_ratio(classes(spread=0.1), LABEL) > 2 * fisher_ratio(classes(spread=0.5), LABEL)
    shuffled = LABEL[torch.randperm(11, generator=torch.Generator().manual_seed(0))]
    assert separation(classes(), LABEL) > 1.3 * separation(classes(), shuffled)


@pytest.mark.parametrize("measure", [compactness, separation, fisher_ratio])
def test_rotation_length_order_and_names_of_classes_change_nothing(measure):
    points, order = classes(), torch.randperm(11, generator=torch.Generator().manual_seed(2))
    turn, _ = torch.linalg.qr(cloud(7, 7, seed=2))
    long = torch.rand(11, 1, generator=torch.Generator().manual_seed(3)) * 9 + 0.1
    expected = pytest.approx(measure(points, LABEL), rel=1e-4)
    assert measure((points @ turn * long)[order], LABEL[order]) == expected
    assert measure(points, 100 - LABEL) == expected


def test_rotation_and_scale_of_the_measures_without_classes():
    points, turn = classes(), torch.linalg.qr(cloud(7, 7, seed=2))[0]
    assert uniformity(5 * points @ turn) == pytest.approx(uniformity(points), abs=1e-5)
    assert effective_rank(5 * points @ turn + 3) == pytest.approx(effective_rank(points), rel=1e-5)
    assert effective_rank(torch.cat([points, points])) == pytest.approx(effective_rank(points), rel=1e-5)


@pytest.mark.parametrize("measure", [compactness, separation, fisher_ratio, uniformity, effective_rank])
def test_what_is_no_cloud(measure):
    rest = () if measure in (uniformity, effective_rank) else (LABEL,)
    for shape in ((11,), (0, 3), (11, 7, 2)):
        with pytest.raises(ValueError, match=r"points must be \(M, D\)|pairs of points"):
            measure(torch.ones(shape), *rest)
    if rest:
        with pytest.raises(ValueError, match=r"label must be \(11,\)"):
            measure(classes(), LABEL[:5])


def test_what_one_class_or_one_point_cannot_say():
    with pytest.raises(ValueError, match="no two classes"):
        separation(classes(), torch.zeros(11, dtype=torch.long))
    with pytest.raises(ValueError, match="pairs of points"):
        uniformity(torch.ones(1, 5))

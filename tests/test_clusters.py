"""Cross-modal clustering: planted groups are found, no cluster is empty, each sense learns the other's label."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from avlab.losses.clusters import cluster_labels, swapped_cluster_loss


def planted(each=13, C=4, D=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(C).repeat_interleave(each)
    return torch.eye(D)[label] + 0.1 * torch.randn(C * each, D, generator=g), label


def test_planted_groups_are_found():
    points, label = planted()
    found = cluster_labels(points, clusters=4)
    assert adjusted_rand_score(label, found.label) == 1
    assert found.sizes.tolist() == [13] * 4
    shuffled = label[torch.randperm(len(label), generator=torch.Generator().manual_seed(0))]
    assert normalized_mutual_info_score(shuffled, found.label) < 0.3


def test_is_scikit_learns_and_each_point_has_its_nearest_centre():
    points = torch.randn(53, 5, generator=torch.Generator().manual_seed(3))
    found = cluster_labels(points, clusters=7, seed=2)
    oracle = KMeans(7, n_init=3, random_state=2).fit(F.normalize(points).numpy())
    assert adjusted_rand_score(oracle.labels_, found.label) == 1
    assert torch.equal(torch.cdist(F.normalize(points), found.centres).argmin(1), found.label)
    plain = cluster_labels(points, clusters=7, seed=2, on_sphere=False)
    for k in range(7):
        torch.testing.assert_close(plain.centres[k], points[plain.label == k].mean(0), atol=1e-4, rtol=0)


def test_length_and_order_do_not_matter():
    points, _ = planted()
    found = cluster_labels(points, clusters=4).label
    longer = points * torch.linspace(0.5, 9, len(points))[:, None]
    assert adjusted_rand_score(cluster_labels(longer, clusters=4).label, found) == 1
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    assert adjusted_rand_score(cluster_labels(points[order], clusters=4).label, found[order]) == 1


def test_no_cluster_is_empty_even_among_duplicates():
    points, _ = planted(each=3)
    heap = torch.cat([points[:1].expand(90, 6), points])
    found = cluster_labels(heap, clusters=9)
    assert found.sizes.min() >= 1
    assert found.sizes.sum() == 102
    with pytest.raises(ValueError, match="1 distinct points cannot fill 2 clusters"):
        cluster_labels(torch.ones(5, 3), clusters=2)
    with pytest.raises(ValueError, match="M of 6 clusters or more"):
        cluster_labels(torch.ones(5, 3), clusters=6)


AUDIO, VISUAL = torch.tensor([3, 10, 0, 0, 7]), torch.tensor([1, 1, 9, 4, 2])


def swapped(a, v):
    B = len(a)
    return swapped_cluster_loss(a, v, audio_cluster=AUDIO[:B], visual_cluster=VISUAL[:B])


def test_swapped_loss_is_two_cross_entropies():
    audio, visual = pairs(dtype=torch.float64)
    found = swapped(audio, visual[:, :11])
    slow = [-torch.log(torch.softmax(audio[i], 0)[VISUAL[i]]) for i in range(5)]
    assert_same(found.audio, sum(slow) / 5, atol=1e-12)
    assert_same(found.visual, F.cross_entropy(visual, AUDIO), atol=1e-12)
    assert_same(found.loss, (found.audio + found.visual) / 2, atol=1e-15)


def test_swapped_loss_known_values():
    flat = swapped_cluster_loss(torch.zeros(5, 10), torch.zeros(5, 11), audio_cluster=AUDIO, visual_cluster=VISUAL)
    assert flat.audio.item() == pytest.approx(math.log(10))
    assert flat.visual.item() == pytest.approx(math.log(11))
    right = swapped(30 * F.one_hot(VISUAL, 11).float(), 30 * F.one_hot(AUDIO, 11).float())
    assert right.loss < 1e-6
    wrong = swapped(30 * F.one_hot(AUDIO, 11).float(), 30 * F.one_hot(VISUAL, 11).float())  # own instead of other's
    assert wrong.loss > 29


def test_swapped_loss_invariance_gradient_and_hard_inputs():
    audio, visual = pairs(dtype=torch.float64)
    renamed = swapped_cluster_loss(
        audio[:, torch.arange(10, -1, -1)], visual, audio_cluster=AUDIO, visual_cluster=10 - VISUAL
    )
    assert_same(renamed.loss, swapped(audio, visual).loss, atol=1e-12)
    label = torch.zeros(7).long()
    assert_order_is_free(lambda a, v: swapped_cluster_loss(a, v, audio_cluster=label, visual_cluster=label).loss)
    assert_gradient(lambda a, v: swapped(a, v).loss, D=11)
    assert_finite(lambda a, v: swapped(a, v).loss)


def test_bad_input_is_named():
    audio, visual = pairs()
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(4, 11\)"):
        swapped_cluster_loss(audio, visual[:4], audio_cluster=AUDIO, visual_cluster=VISUAL)
    with pytest.raises(ValueError, match=r"0\.\.2, got 1 to 9"):
        swapped_cluster_loss(audio[:, :3], visual, audio_cluster=AUDIO, visual_cluster=VISUAL)
    with pytest.raises(ValueError, match="no clips"):
        swapped_cluster_loss(audio[:0], visual[:0], audio_cluster=AUDIO, visual_cluster=VISUAL)

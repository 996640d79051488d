"""Localization metrics against slow loops, scikit-learn and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import auc, jaccard_score

from avlab.metrics import localization as loc


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_resize_is_opencvs_bilinear():
    heat = random(5, 7)
    theirs = cv2.resize(heat.numpy(), (33, 29), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(loc.resize_heat(heat, (29, 33)).numpy(), theirs, atol=1e-5)
    assert loc.resize_heat(random(2, 3, 5, 7), (11, 13)).shape == (2, 3, 11, 13)
    assert loc.resize_heat(heat, (5, 7)) is heat
    flat = torch.full((2, 2), 0.3)
    torch.testing.assert_close(loc.resize_heat(flat, (9, 4)), torch.full((9, 4), 0.3))


def test_iou_is_scikit_learns():
    p, t = random(5, 7, 11) > 0.4, random(5, 7, 11, seed=1) > 0.6
    theirs = [jaccard_score(t[i].flatten().numpy(), p[i].flatten().numpy()) for i in range(5)]
    np.testing.assert_allclose(loc.iou(p, t).numpy(), theirs, rtol=1e-6)
    torch.testing.assert_close(loc.iou(t, p), loc.iou(p, t))
    torch.testing.assert_close(loc.iou(p.flip(-1), t.numpy()[..., ::-1].copy()), loc.iou(p, t))


def test_iou_known_answers():
    some, none = torch.ones(3, 4).bool(), torch.zeros(3, 4).bool()
    assert loc.iou(some, some) == 1
    assert loc.iou(some, none) == 0
    assert loc.iou(none, none) == 1
    with pytest.raises(ValueError, match="differ in size"):
        loc.iou(some, torch.ones(4, 3))


def slow_ciou(heat: np.ndarray, g: np.ndarray, threshold: float) -> float:
    low, high = heat.min(), heat.max()
    hit = miss = 0.0
    for y in range(g.shape[0]):
        for x in range(g.shape[1]):
            if (heat[y, x] - low) / (high - low) >= threshold:
                hit += g[y, x]
                miss += g[y, x] == 0
    return hit / (g.sum() + miss)


def test_ciou_is_the_slow_loop_and_the_iou_of_a_hard_truth():
    heat = random(5, 7, 11) * 9 - 4
    soft = loc.consensus(random(3, 5, 7, 11, seed=1) > 0.6)
    found = loc.ciou(heat, soft, threshold=0.37)
    np.testing.assert_allclose(
        found.numpy(), [slow_ciou(heat[i].numpy(), soft[i].numpy(), 0.37) for i in range(5)], rtol=1e-5
    )
    hard = soft == 1
    torch.testing.assert_close(
        loc.ciou(heat, hard.numpy(), threshold=0.37), loc.iou(loc.heat_to_mask(heat, threshold=0.37), hard)
    )


def test_ciou_known_answers_and_invariance():
    truth = loc.box_mask(torch.tensor([0.25, 0.5, 0.5, 1.0]), 8, 12)
    assert loc.ciou(truth.float(), truth) == 1
    assert loc.ciou(-truth.float(), truth) == 0
    assert loc.ciou(torch.ones(8, 12), truth) == 0  # a constant map points nowhere
    heat = random(2, 3, 8, 12)
    torch.testing.assert_close(loc.ciou(100 * heat - 7, truth), loc.ciou(heat, truth))
    assert loc.ciou(random(4, 6), truth).shape == ()  # a coarser map is resized
    with pytest.raises(ValueError, match="marks no pixel"):
        loc.ciou(heat, torch.zeros(8, 12))
    with pytest.raises(ValueError, match="lie in"):
        loc.ciou(heat, 2 * truth.float())
    with pytest.raises(ValueError, match="finite"):
        loc.ciou(heat * float("nan"), torch.ones(4, 4))
    with pytest.raises(ValueError, match="threshold"):
        loc.ciou(heat, truth, threshold=1.5)


def test_consensus_counts_annotators():
    marks = random(3, 5, 7) > 0.5
    np.testing.assert_allclose(loc.consensus(marks).numpy(), np.minimum(marks.numpy().sum(0) / 2, 1))
    assert torch.equal(loc.consensus(marks, agree=1), marks.any(0).float())
    with pytest.raises(ValueError, match=r"agree must lie in 1\.\.3"):
        loc.consensus(marks, agree=4)


def test_success_and_its_area_are_as_published():
    scores = random(50)
    results = [np.mean(scores.numpy() >= 0.05 * i) for i in range(21)]  # the evaluator of Localizing Visual Sounds
    assert loc.success_auc(scores) == pytest.approx(auc([0.05 * i for i in range(21)], results))
    assert loc.ciou_success(scores) == pytest.approx(results[10])
    assert loc.success_auc([1.0, 1.0]) == pytest.approx(1.0)
    assert loc.ciou_success([0.5, 0.4999, 0.7], threshold=0.5) == pytest.approx(2 / 3)
    assert loc.success_auc(scores.flip(0)) == pytest.approx(loc.success_auc(scores))
    better = (scores + 0.2).clamp(max=1)
    assert loc.success_auc(better) > loc.success_auc(scores)
    for empty in ([], [float("nan")]):
        with pytest.raises(ValueError, match="one finite score a clip"):
            loc.success_auc(empty)


def test_pointing():
    heat = random(5, 7, 11)
    truth = random(5, 7, 11, seed=1) > 0.5
    slow = [float(truth[i].flatten()[heat[i].flatten().argmax()]) for i in range(5)]
    assert loc.pointing(heat, truth).tolist() == slow
    torch.testing.assert_close(loc.pointing(heat.exp() * 3, truth), loc.pointing(heat, truth))
    constant = loc.pointing(torch.zeros(7, 11), truth[0])
    assert constant.item() == pytest.approx(truth[0].double().mean().item())  # chance
    assert loc.pointing(torch.tensor([[0.0, 1.0]]), loc.box_mask(torch.tensor([0.5, 0, 1, 1]), 16, 16)) == 1


def test_box_mask_is_the_slow_loop():
    boxes = torch.tensor([[0.1, 0.2, 0.55, 0.9], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3]])
    found = loc.box_mask(boxes, 7, 11)
    for o, (x0, y0, x1, y1) in enumerate(boxes.double().tolist()):
        for y in range(7):
            for x in range(11):
                inside = x0 <= (x + 0.5) / 11 < x1 and y0 <= (y + 0.5) / 7 < y1
                assert found[o, y, x] == inside
    assert found[1].all()
    assert not found[2].any()
    assert torch.equal(loc.box_mask(boxes.numpy(), 7, 11), found)
    with pytest.raises(ValueError, match="x0 <= x1"):
        loc.box_mask(torch.tensor([0.5, 0.0, 0.2, 1.0]), 7, 11)


def test_threshold_is_the_best_of_those_tried():
    heat = random(5, 7, 11)
    truth = loc.heat_to_mask(heat, threshold=0.7)
    chosen = loc.choose_threshold(heat, truth)
    assert loc.ciou(heat, truth, threshold=chosen).mean() >= 0.99
    assert chosen == pytest.approx(0.7, abs=0.051)
    assert loc.choose_threshold(heat, truth, candidates=[0.2, 0.6, 0.9]) in (0.6, 0.9)

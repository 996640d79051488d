"""MIL-NCE, supervised contrast and multi-instance multi-label loss against loops, pytorch-metric-learning and torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.bags import mil_nce, multi_instance_multi_label, sup_con
from avlab.losses.contrastive import info_nce
from avlab.losses.similarity import cosines

LABEL = torch.tensor([4, 2, 4, 4, 0])


def bags(B=5, P=3, Q=2, D=11):
    g = torch.Generator().manual_seed(2)
    return (torch.randn(B, n, D, generator=g, dtype=torch.float64) for n in (P, Q))


def slow_mil(audio, visual, tau):
    """Audio to visual of bags (B, P, D) and (B, Q, D), one exponential at a time."""
    losses = []
    for i, bag in enumerate(audio):
        sums = [sum(math.exp(F.cosine_similarity(a, v, dim=0) / tau) for a in bag for v in other) for other in visual]
        losses.append(-math.log(sums[i] / sum(sums)))
    return torch.tensor(sum(losses) / len(losses), dtype=torch.float64)


def test_mil_nce_is_the_slow_loop():
    audio, visual = bags()
    found = mil_nce(audio, visual, temperature=0.3)
    assert_same(found.audio_to_visual, slow_mil(audio, visual, 0.3), atol=1e-12)
    assert_same(found.visual_to_audio, slow_mil(visual, audio, 0.3), atol=1e-12)
    assert_same(found.loss, (found.audio_to_visual + found.visual_to_audio) / 2, atol=1e-15)
    one = audio[:, 0]
    assert_same(mil_nce(one, visual, symmetric=False).loss, slow_mil(one[:, None], visual, 0.07), atol=1e-10)


def test_mil_nce_with_one_positive_is_info_nce():
    audio, visual = pairs(dtype=torch.float64)
    expected = info_nce(audio, visual, temperature=0.2)
    own = torch.eye(5, dtype=torch.bool)
    for found in (
        mil_nce(audio, visual, temperature=0.2),
        mil_nce(audio[:, None], visual, temperature=0.2),
        mil_nce(audio, visual, positive=own, temperature=0.2),
    ):
        assert_same(found.loss, expected.loss, atol=1e-12)
        assert_same(found.visual_to_audio, expected.visual_to_audio, atol=1e-12)
        torch.testing.assert_close(found.logits, expected.logits)


def test_mil_nce_of_named_positives_is_a_loop_and_of_copies_is_a_bag():
    audio, visual = pairs(dtype=torch.float64)
    same = LABEL[:, None] == LABEL
    shares = (cosines(audio, visual) / 0.3).softmax(1)
    slow = -torch.stack([shares[i][same[i]].sum().log() for i in range(5)]).mean()
    assert_same(mil_nce(audio, visual, positive=same, temperature=0.3).audio_to_visual, slow, atol=1e-12)
    twice = visual[:, None].expand(5, 4, 11)  # the same window four times changes nothing
    assert_same(mil_nce(audio, twice).loss, info_nce(audio, visual).loss, atol=1e-12)


def test_mil_nce_asks_for_one_of_the_bag_sup_con_for_all():
    visual = torch.eye(3)
    audio = torch.stack([visual[0], visual[0], visual[2]])  # the sound of clip 1 is that of clip 0
    label = torch.tensor([0, 0, 1])
    same = label[:, None] == label
    assert mil_nce(audio, visual, positive=same).audio_to_visual < 1e-4  # one of its pictures is found: enough
    assert sup_con(audio, visual, label=label).audio_to_visual > 2


def test_mil_nce_known_values_and_invariance():
    same = torch.ones(5, 3)
    assert mil_nce(same, torch.ones(5, 2, 3)).loss.item() == pytest.approx(math.log(5), abs=1e-5)
    everything = torch.ones(5, 5, dtype=torch.bool)
    assert mil_nce(*pairs(), positive=everything).loss.item() == pytest.approx(0, abs=1e-6)
    audio, visual = bags()
    loss = mil_nce(audio, visual).loss
    assert_same(mil_nce(audio[:, [2, 0, 1]], visual.flip(1)).loss, loss, atol=1e-12)  # order within a bag
    assert_same(mil_nce(3 * audio, visual).loss, loss, atol=1e-12)
    assert_same(mil_nce(visual, audio).loss, loss, atol=1e-12)
    assert_order_is_free(lambda a, v: mil_nce(a, v).loss)


def test_sup_con_is_pytorch_metric_learnings():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    audio, visual = pairs(dtype=torch.float64)
    oracle = losses.SupConLoss(temperature=0.2)
    found = sup_con(audio, visual, label=LABEL, temperature=0.2)
    assert_same(found.audio_to_visual, oracle(audio, LABEL, ref_emb=visual, ref_labels=LABEL.clone()))
    assert_same(found.visual_to_audio, oracle(visual, LABEL, ref_emb=audio, ref_labels=LABEL.clone()))


def test_sup_con_is_a_cross_entropy_with_soft_targets():
    audio, visual = pairs(dtype=torch.float64)
    same = (LABEL[:, None] == LABEL).double()
    target = same / same.sum(1, keepdim=True)
    found = sup_con(audio, visual, label=LABEL, temperature=0.3)
    assert_same(found.audio_to_visual, F.cross_entropy(found.logits, target), atol=1e-12)
    assert_same(found.visual_to_audio, F.cross_entropy(found.logits.T, target), atol=1e-12)


def test_sup_con_known_values_and_invariance():
    audio, visual = pairs(dtype=torch.float64)
    assert_same(sup_con(audio, visual, label=torch.arange(5)).loss, info_nce(audio, visual).loss, atol=1e-12)
    classes = F.one_hot(torch.tensor([0, 0, 1])).float()
    floor = (2 * math.log(2) + 0) / 3
    found = sup_con(classes, classes, label=torch.tensor([0, 0, 1]), temperature=0.01)
    assert found.loss.item() == pytest.approx(floor, abs=1e-5)
    assert_same(sup_con(audio, 2 * visual, label=9 - LABEL).loss, sup_con(audio, visual, label=LABEL).loss, atol=1e-12)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = sup_con(audio[order], visual[order], label=LABEL[order]).loss
    assert_same(moved, sup_con(audio, visual, label=LABEL).loss, atol=1e-12)


SCORES = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.rand(7, 5, generator=torch.Generator().manual_seed(2)) < 0.4


def test_multi_label_is_torchs():
    target = torch.full((7, 5), -1)
    for i, row in enumerate(LABELS):
        present = row.nonzero().flatten()
        target[i, : len(present)] = present
    expected = F.multilabel_margin_loss(SCORES.amax(1), target)
    assert_same(multi_instance_multi_label(SCORES, labels=LABELS).loss, expected, atol=1e-12)


def test_multi_label_known_value_and_invariance():
    found = multi_instance_multi_label(SCORES, labels=LABELS, margin=0.7)
    torch.testing.assert_close(found.logits, SCORES.amax(1))
    assert torch.equal(SCORES.gather(1, found.instance[:, None])[:, 0], found.logits)
    won = torch.where(LABELS, 2.0, 0.0)[:, None].expand(7, 4, 5)
    assert multi_instance_multi_label(won, labels=LABELS).loss == 0
    flat = multi_instance_multi_label(torch.zeros(2, 3, 4), labels=torch.tensor([[True, False, False, False]] * 2))
    assert flat.loss.item() == pytest.approx(3 / 4)  # three absent classes, each short by 1, over four
    for labels in (torch.ones(2, 4).bool(), torch.zeros(2, 4).bool()):  # nothing to compare
        assert multi_instance_multi_label(torch.zeros(2, 3, 4), labels=labels).loss == 0
    order = torch.tensor([2, 0, 3, 1])
    moved = multi_instance_multi_label(SCORES[:, order] + 3, labels=LABELS, margin=0.7)
    assert_same(moved.loss, found.loss, atol=1e-12)
    concepts = torch.stack([SCORES, SCORES - 1], dim=2)  # a second sub-concept that never wins
    assert_same(multi_instance_multi_label(concepts, labels=LABELS, margin=0.7).loss, found.loss, atol=1e-12)


def test_gradients():
    assert_gradient(lambda a, v: mil_nce(a.view(2, 2, 3), v.view(2, 2, 3), temperature=0.4).loss, B=4)
    same = LABEL[:, None] == LABEL
    assert_gradient(lambda a, v: mil_nce(a, v, positive=same, temperature=0.4).loss)
    assert_gradient(lambda a, v: sup_con(a, v, label=LABEL, temperature=0.4).loss)
    labels = torch.tensor([[True, False, False], [False, True, True]])
    assert_gradient(lambda a, v: multi_instance_multi_label((a * v).view(2, 2, 3), labels=labels).loss, B=4)


def test_hard_inputs():
    assert_finite(lambda a, v: mil_nce(a[:, None].expand(-1, 3, -1), v).loss)
    assert_finite(lambda a, v: mil_nce(a, v, positive=(LABEL[:, None] == LABEL)[: len(a), : len(a)]).loss)
    assert_finite(lambda a, v: sup_con(a, v, label=LABEL[: len(a)]).loss)
    labels = torch.arange(11).expand(5, 11) % 3 == 0
    assert_finite(lambda a, v: multi_instance_multi_label(torch.stack([a, v], 1), labels=labels[: len(a)]).loss)


def test_bad_input_is_named():
    audio, visual = pairs()
    with pytest.raises(ValueError, match=r"bags \(B, P, D\), got \(5, 11\) and \(11,\)"):
        mil_nce(audio, visual[0])
    with pytest.raises(ValueError, match=r"got \(0, 11\)"):
        mil_nce(audio[:0], visual[:0])
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(4, 11\)"):
        mil_nce(audio, visual[:4, None])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        mil_nce(audio, visual, temperature=-1.0)
    with pytest.raises(ValueError, match=r"positive must be \(5, 5\) of bool"):
        mil_nce(audio, visual, positive=torch.eye(5))
    with pytest.raises(ValueError, match="each sound needs a picture"):
        mil_nce(audio, visual, positive=torch.zeros(5, 5).bool())
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        sup_con(audio, visual, label=LABEL[:4])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        sup_con(audio, visual, label=LABEL, temperature=0.0)
    with pytest.raises(ValueError, match=r"scores must be \(B, P, C\)"):
        multi_instance_multi_label(audio, labels=LABELS)
    with pytest.raises(ValueError, match=r"labels must be \(7, 5\) of bool"):
        multi_instance_multi_label(SCORES, labels=LABELS.long())

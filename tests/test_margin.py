"""Hinge ranking and masked margin softmax against slow loops, torch's cross-entropy and pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.contrastive import info_nce
from avlab.losses.margin import (
    Margins,
    adaptive_mean_margin,
    hinge,
    hinge_from_scores,
    masked_margin_softmax,
    mismatched,
    scheduled_margin,
)
from avlab.losses.similarity import cosines

F64 = torch.float64
LABEL = torch.tensor([3, 1, 3, 2, 1, 3, 2])


def slow_hinge(audio, visual, margin, negatives, label):
    B = len(audio)
    s = [[float(F.cosine_similarity(a, v, dim=0)) for v in visual] for a in audio]
    total, count = 0.0, 0
    for i in range(B):
        for one in (lambda i, j: s[i][j], lambda i, j: s[j][i]):
            costs = [max(0.0, one(i, j) - s[i][i] + margin) for j in range(B) if label[i] != label[j]]
            count += sum(cost > 0 for cost in costs)
            total += {"sum": sum, "hardest": max, "mean": lambda c: sum(c) / len(c)}[negatives](costs) / B
    return total, count


@pytest.mark.parametrize("negatives", ["sum", "hardest", "mean"])
@pytest.mark.parametrize("label", [None, LABEL])
def test_hinge_is_the_slow_loop(negatives, label):
    audio, visual = pairs(7, 11, dtype=F64)
    expected, count = slow_hinge(audio, visual, 0.3, negatives, list(range(7)) if label is None else label.tolist())
    found = hinge(audio, visual, margin=0.3, negatives=negatives, label=label)
    assert_same(found.loss, expected)
    assert_same(found.audio_to_visual + found.visual_to_audio, expected)
    strangers = 42 if label is None else int(mismatched(7, LABEL).sum())
    assert found.active.item() == pytest.approx(count / (2 * strangers))
    assert 0 < found.active < 1  # or the share says nothing


def test_hinge_is_pytorch_metric_learnings_triplets_of_cosines():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    audio, visual = pairs(7, 3, dtype=F64)
    own = torch.arange(7)
    theirs = losses.TripletMarginLoss(
        margin=0.3, distance=distances.CosineSimilarity(), reducer=reducers.MeanReducer()
    )(audio, own, ref_emb=visual, ref_labels=own.clone())
    assert_same(hinge(audio, visual, margin=0.3, negatives="mean").audio_to_visual, theirs)
    assert_same(hinge(audio, visual, margin=0.3).audio_to_visual, 6 * theirs)


@pytest.mark.parametrize("B", [2, 5])
def test_hinge_known_values(B):
    same = torch.eye(B)
    assert hinge(same, same, margin=1.0).loss == 0  # ahead by exactly the margin
    assert hinge(same, same, margin=1.25).loss.item() == pytest.approx(2 * (B - 1) * 0.25)
    alike = torch.ones(B, 3)
    for negatives, count in (("sum", B - 1), ("hardest", 1), ("mean", 1)):  # collapsed: each negative costs the margin
        assert hinge(alike, alike, negatives=negatives).loss.item() == pytest.approx(2 * 0.2 * count)
    assert hinge(alike, alike).active == 1


def test_easy_negatives_do_not_push_and_the_hardest_pushes_alone():
    # cosines with the first sound: its own 0.9, a near stranger 0.8, a far one 0.1
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]], requires_grad=True)
    hinge_from_scores(scores, margin=0.2).loss.backward()
    expected = torch.tensor([[-1.0, 2.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]) / 3
    torch.testing.assert_close(scores.grad, expected)
    wide, hardest = (torch.zeros(3, 3).requires_grad_() for _ in range(2))
    wide.data[0, 1] = hardest.data[0, 1] = 0.1
    hinge_from_scores(wide, margin=0.5, negatives="sum").audio_to_visual.backward()
    hinge_from_scores(hardest, margin=0.5, negatives="hardest").audio_to_visual.backward()
    assert (wide.grad[0] != 0).tolist() == [True, True, True]
    assert (hardest.grad[0] != 0).tolist() == [True, True, False]


def test_equation_12_as_printed_pushes_pairs_apart():
    audio, visual = (x.requires_grad_() for x in pairs(7, 5, dtype=F64))
    before = F.cosine_similarity(audio, visual)
    printed = 2 * F.relu(before + 0.2).sum()  # two equal terms, of matched pairs alone
    printed.backward()
    step = [(x - 0.1 * x.grad).detach() for x in (audio, visual)]
    assert (F.cosine_similarity(*step) < before)[before > -0.2].all()
    assert (before > -0.2).sum() >= 5
    # its least value: every pair dissimilar by the margin, whatever the strangers do
    assert 2 * F.relu(F.cosine_similarity(audio, -audio) + 0.2).sum() == 0
    audio.grad = visual.grad = None
    corrected = hinge(audio, visual)
    corrected.loss.backward()
    step = [x - 0.1 * x.grad for x in (audio, visual)]
    assert F.cosine_similarity(*step).mean() > before.mean()
    assert hinge(audio, -audio).loss > hinge(audio, audio).loss


def slow_softmax(audio, visual, margins, scale, mask):
    s = [[float(F.cosine_similarity(a, v, dim=0)) for v in visual] for a in audio]
    B, losses = len(s), []
    for one, delta in ((lambda i, j: s[i][j], margins[0]), (lambda i, j: s[j][i], margins[1])):
        total = 0.0
        for i in range(B):
            own = math.exp(scale * (one(i, i) - float(delta[i])))
            total -= math.log(own / (own + sum(math.exp(scale * one(i, j)) for j in range(B) if mask[i][j]))) / B
        losses.append(total)
    return losses


@pytest.mark.parametrize("label", [None, LABEL])
def test_softmax_is_the_slow_loop(label):
    audio, visual = pairs(7, 11, dtype=F64)
    mask = mismatched(7, label)
    g = torch.Generator().manual_seed(3)
    each = Margins(torch.rand(7, generator=g, dtype=F64), torch.rand(7, generator=g, dtype=F64))
    one = torch.full((7,), 0.3, dtype=F64)
    for margin, margins in ((0.3, (one, one)), (each.audio_to_visual, [each.audio_to_visual] * 2), (each, each)):
        expected = slow_softmax(audio, visual, margins, 4.0, mask.tolist())
        by_label = masked_margin_softmax(audio, visual, margin=margin, scale=4.0, label=label)
        by_mask = masked_margin_softmax(audio, visual, margin=margin, scale=4.0, mask=mask)
        for found in (by_label, by_mask):
            assert_same(torch.stack([found.audio_to_visual, found.visual_to_audio]), expected)
            assert_same(found.loss, sum(expected))
            assert_same(found.scores, cosines(audio, visual))
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)  # the two directions can be told apart


def test_softmax_without_a_margin_is_cross_entropy():
    audio, visual = pairs(7, 5, dtype=F64)
    logits = 20 * cosines(audio, visual)
    own = torch.arange(7)
    found = masked_margin_softmax(audio, visual, margin=0.0)
    assert_same(found.loss, F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
    assert_same(found.loss, 2 * info_nce(audio, visual, temperature=1 / 20).loss)
    # a margin costs exactly what a matched score lowered by it does
    lowered = logits - 20 * 0.2 * torch.eye(7, dtype=F64)
    with_margin = masked_margin_softmax(audio, visual, margin=0.2)
    assert_same(with_margin.loss, F.cross_entropy(lowered, own) + F.cross_entropy(lowered.T, own))
    assert with_margin.loss > found.loss


def test_without_a_scale_the_softmax_has_a_floor():
    floor = math.log(1 + 63 * math.exp(-2 + 0.001))
    assert floor == pytest.approx(2.255, abs=5e-4)
    for seed in range(3):
        audio = pairs(64, 16, seed)[0]
        assert masked_margin_softmax(audio, audio, scale=1.0).audio_to_visual > floor
    opposite = torch.tensor([[1.0], [-1.0]], dtype=F64)  # B = 2 reaches it
    found = masked_margin_softmax(opposite, opposite, scale=1.0)
    assert_same(found.audio_to_visual, math.log(1 + math.exp(-2 + 0.001)))
    assert masked_margin_softmax(opposite, opposite).loss < 1e-10


def test_equation_13_as_printed_leaves_an_index_free():
    s = cosines(*pairs(5, 11, dtype=F64))
    mask, margin = mismatched(5).double(), 0.1

    def print_av(s, j):  # the inner sum runs over i: nobody says what j is
        rest = (mask[:, j] * s[:, j].exp()).sum()
        own = (s.diagonal() - margin).exp()
        return -(own / (own + rest)).log().mean()

    def print_va(s, j):  # nothing in it depends on the outer i
        own = (s[j, j] - margin).exp()
        return -(own / (own + (mask[:, j] * s[:, j].exp()).sum())).log()

    for printed in (print_av, print_va):
        values = torch.stack([printed(s, j) for j in range(5)])
        assert values.max() - values.min() > 0.05  # one loss, five values
    s.requires_grad_()
    print_va(s, 2).backward()
    assert (s.grad[:, [0, 1, 3, 4]] == 0).all()  # one picture is trained, the others are not in it
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    s.grad = None
    print_av(s, 2).backward()
    assert int((s.grad[off_diagonal] != 0).sum()) == 4  # the negatives of one picture serve all
    audio, visual = pairs(5, 11, dtype=F64)
    found = masked_margin_softmax(audio, visual, margin=margin, scale=1.0)
    assert_same(found.visual_to_audio, torch.stack([print_va(s, j) for j in range(5)]).mean())  # summed over j it holds


def test_masked_pairs_do_not_push():
    audio, visual = (x.requires_grad_() for x in pairs(7, 5, dtype=F64))
    found = masked_margin_softmax(audio, visual, label=torch.zeros(7, dtype=torch.long))
    assert found.loss == 0  # one class: nobody is a stranger
    found.loss.backward()
    assert (audio.grad == 0).all()
    one_stranger = torch.zeros(7, 7, dtype=torch.bool)
    one_stranger[2, 5] = True
    grads = torch.autograd.grad(
        masked_margin_softmax(audio, visual, mask=one_stranger).audio_to_visual, (audio, visual)
    )
    assert grads[0].abs().sum(1).nonzero().flatten().tolist() == [2]
    assert grads[1].abs().sum(1).nonzero().flatten().tolist() == [2, 5]


def test_schedule_grows_by_steps_and_stops():
    assert scheduled_margin(0) == scheduled_margin(999) == 0.001
    assert scheduled_margin(3500) == pytest.approx(0.001 * 1.002**3)
    values = [scheduled_margin(step, start=0.01, growth=1.5, every=7, highest=0.4) for step in range(200)]
    assert values == sorted(values)
    assert values[6] == 0.01
    assert values[7] == pytest.approx(0.015)
    assert values[-1] == 0.4
    assert scheduled_margin(10**12, start=0.01, growth=3.0, every=1) == 1.0  # 3 to that power is no float
    assert scheduled_margin(10**12, start=0.0, growth=3.0, every=1) == 0.0
    assert scheduled_margin(50, start=0.2, growth=1.0, every=1) == 0.2
    slow = 0.01
    for step in range(1, 40):
        slow = min(slow * (1.1 if step % 4 == 0 else 1), 0.02)
        assert scheduled_margin(step, start=0.01, growth=1.1, every=4, highest=0.02) == pytest.approx(slow)


@pytest.mark.parametrize("label", [None, LABEL])
def test_adaptive_margin_is_the_slow_loop(label):
    s = cosines(*pairs(7, 11, dtype=F64))
    found = adaptive_mean_margin(s, alpha=0.3, label=label)
    for i in range(7):
        others = [j for j in range(7) if (i != j if label is None else label[i] != label[j])]
        rows, columns = (sum(float(x) for x in some) / len(others) for some in (s[i, others], s[others, i]))
        assert_same(found.audio_to_visual[i], 0.3 * (float(s[i, i]) - rows))
        assert_same(found.visual_to_audio[i], 0.3 * (float(s[i, i]) - columns))
    shifted = adaptive_mean_margin(s + 0.7, alpha=0.3, label=label)  # only differences count
    assert_same(shifted.audio_to_visual, found.audio_to_visual)
    assert_same(adaptive_mean_margin(s.T, alpha=0.3, label=label).audio_to_visual, found.visual_to_audio)
    perfect = adaptive_mean_margin(torch.eye(7), alpha=0.5)
    assert_same(perfect.audio_to_visual, torch.full((7,), 0.5))


def test_no_gradient_through_an_adaptive_margin():
    audio, visual = (x.requires_grad_() for x in pairs(7, 5, dtype=F64))
    margins = adaptive_mean_margin(cosines(audio, visual))
    assert not margins.audio_to_visual.requires_grad
    through = torch.autograd.grad(masked_margin_softmax(audio, visual, margin=margins).loss, audio)[0]
    fixed = Margins(*(m.clone() for m in margins))
    assert_same(through, torch.autograd.grad(masked_margin_softmax(audio, visual, margin=fixed).loss, audio)[0])
    assert through.abs().max() > 1e-3


LOSSES = {
    "hinge sum": lambda a, v: hinge(a, v, margin=0.5).loss,
    "hinge hardest": lambda a, v: hinge(a, v, margin=0.5, negatives="hardest").loss,
    "hinge mean": lambda a, v: hinge(a, v, margin=0.5, negatives="mean").loss,
    "softmax": lambda a, v: masked_margin_softmax(a, v, margin=0.1).loss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_and_hard_inputs_and_order(name):
    assert_gradient(LOSSES[name])
    assert_finite(LOSSES[name], smallest=2 if "hinge" in name else 1)
    assert_order_is_free(LOSSES[name])
    audio, visual = pairs(7, 5, dtype=F64)
    loss = LOSSES[name](audio, visual)
    assert_same(LOSSES[name](7 * audio, visual / 3), loss)  # the length of a vector does not matter
    assert_same(LOSSES[name](visual, audio), loss)  # the two directions change places
    assert not torch.isclose(LOSSES[name](audio, visual.roll(1, 0)), loss)


def test_adaptive_margin_with_hard_inputs():
    def loss(audio, visual):
        return masked_margin_softmax(audio, visual, margin=adaptive_mean_margin(cosines(audio, visual))).loss

    assert_finite(loss, smallest=2)


def test_hinge_under_autocast_is_not_rounded():
    audio, visual = pairs(16, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = hinge(audio, visual).loss, masked_margin_softmax(audio, visual).loss
    assert inside == (hinge(audio, visual).loss, masked_margin_softmax(audio, visual).loss)


def test_bad_input_is_named():
    audio, visual = pairs(5, 11)
    for loss in (hinge, masked_margin_softmax):
        with pytest.raises(ValueError, match=r"\(5, 11\) and \(5, 3\)"):
            loss(audio, visual[:, :3])
    with pytest.raises(ValueError, match="a batch of 2, got 1"):
        hinge(audio[:1], visual[:1])
    with pytest.raises(ValueError, match="margin must be 0 or more"):
        hinge(audio, visual, margin=-0.1)
    with pytest.raises(ValueError, match='must be "sum", "hardest" or "mean"'):
        hinge(audio, visual, negatives="max")
    for function in (hinge_from_scores, adaptive_mean_margin):
        for shape in ((5, 4), (1, 1), (5,)):
            with pytest.raises(ValueError, match=r"scores must be \(B, B\)"):
                function(torch.ones(shape))
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        hinge(audio, visual, label=LABEL)
    with pytest.raises(ValueError, match="scale must be above 0"):
        masked_margin_softmax(audio, visual, scale=0.0)
    with pytest.raises(ValueError, match="a mask or a label, not both"):
        masked_margin_softmax(audio, visual, mask=mismatched(5), label=torch.arange(5))
    for mask in (torch.ones(5, 5, dtype=torch.bool), mismatched(4), mismatched(5).float()):
        with pytest.raises(ValueError, match=r"mask must be bool \(5, 5\)"):
            masked_margin_softmax(audio, visual, mask=mask)
    with pytest.raises(ValueError, match=r"must be \(5,\), got \[\(4,\), \(4,\)\]"):
        masked_margin_softmax(audio, visual, margin=torch.zeros(4))
    for wrong in ({"step": -1}, {"step": 1, "every": 0}):
        with pytest.raises(ValueError, match="step must be 0 or more"):
            scheduled_margin(**wrong)
    for wrong in ({"growth": 0.9}, {"start": -0.1}, {"start": 2.0}):
        with pytest.raises(ValueError, match="growth of 1 or more"):
            scheduled_margin(1, **wrong)

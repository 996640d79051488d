"""The contrastive loss against slow loops, pytorch-metric-learning and torch; shifted copies."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.datasets.shifts import shifted
from avlab.losses.pairwise import contrastive_loss
from avlab.losses.similarity import cosines

LABEL = torch.tensor([4, 2, 4, 4, 0])


def slow(audio, visual, margin, label, distance, extra_visual=()):
    """(sum over matching, their number, sum over others, their number, how many of those are within the margin)."""
    near, far = [], []
    for i, a in enumerate(audio):
        for j, v in enumerate([*visual, *extra_visual]):
            d = 1 - F.cosine_similarity(a, v, dim=0) if distance == "cosine" else (a - v).square().sum().sqrt()
            match = i == j if label is None else j < len(visual) and label[i] == label[j]
            (near if match else far).append(d**2 if match else max(0, margin - d) ** 2)
    return sum(near), len(near), sum(far), len(far), sum(x > 0 for x in far)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("label", [None, LABEL])
def test_is_the_slow_loop(distance, label):
    audio, visual = pairs(dtype=torch.float64)
    margin = {"cosine": 0.9, "euclidean": 5.0}[distance]
    extra = torch.randn(3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    near, n, far, m, active = slow(audio, visual, margin, label, distance, extra)
    options = {"label": label, "margin": margin, "distance": distance, "negatives_visual": extra}
    found = contrastive_loss(audio, visual, **options)
    assert_same(found.loss, (near / n + far / m) / 2, atol=1e-12)
    assert_same(found.attract, near / n, atol=1e-12)
    assert_same(found.repel, far / m, atol=1e-12)
    assert found.active.item() == pytest.approx(int(active) / m)
    assert 0 < active < m
    assert_same(contrastive_loss(audio, visual, **options, balanced=False).loss, (near + far) / (n + m), atol=1e-12)
    own = options | {"negatives_visual": extra.expand(5, 3, 11)}
    assert_same(contrastive_loss(audio, visual, **own).loss, found.loss, atol=1e-12)


def test_is_pytorch_metric_learnings_with_squares():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")

    class Squares(reducers.MeanReducer):
        def pos_pair_reduction(self, losses, *args):
            return losses.square().mean()

        neg_pair_reduction = pos_pair_reduction

    audio, visual = pairs(7, 3, dtype=torch.float64)
    distance = distances.LpDistance(normalize_embeddings=False)
    label = torch.tensor([0, 1, 0, 2, 2, 1, 0])
    theirs = losses.ContrastiveLoss(neg_margin=2.0, distance=distance, reducer=Squares())
    value = theirs(audio, label, ref_emb=visual, ref_labels=label.clone())
    ours = contrastive_loss(audio, visual, label=label, margin=2.0, distance="euclidean")
    assert_same(ours.attract + ours.repel, value, atol=1e-7)


def test_is_torchs_cosine_embedding_loss_before_the_square():
    audio, visual = pairs(dtype=torch.float64)
    margin = 0.8
    found = contrastive_loss(audio, visual, margin=margin)
    near = F.cosine_embedding_loss(audio, visual, torch.ones(5), reduction="none").square().mean()
    assert_same(found.attract, near, atol=1e-12)
    i, j = (~torch.eye(5, dtype=torch.bool)).nonzero(as_tuple=True)
    far = F.cosine_embedding_loss(audio[i], visual[j], -torch.ones(len(i)), margin=1 - margin, reduction="none")
    assert_same(found.repel, far.square().mean(), atol=1e-12)


def test_known_values():
    found = contrastive_loss(torch.eye(4), torch.eye(4), margin=1.0)
    assert found.loss == 0
    assert found.active == 0
    found = contrastive_loss(torch.eye(4), -torch.eye(4), margin=1.5)
    assert found.attract == 4.0
    assert found.repel.item() == pytest.approx(0.25)
    one = contrastive_loss(torch.ones(1, 3), torch.ones(1, 3))
    assert (one.loss.item(), one.repel.item(), one.active.item()) == pytest.approx((0, 0, 0), abs=1e-6)
    far = contrastive_loss(torch.zeros(2, 3), torch.full((2, 3), 3.0), distance="euclidean", margin=6.0)
    assert far.distances[0, 1].item() == pytest.approx(math.sqrt(27))
    assert far.repel.item() == pytest.approx((6 - math.sqrt(27)) ** 2, rel=1e-5)


def test_negatives_beyond_the_margin_exert_no_force():
    audio, visual = (x.requires_grad_() for x in (torch.eye(3), torch.eye(3).clone()))
    contrastive_loss(audio, visual, margin=0.9).loss.backward()
    assert audio.grad.abs().max() < 1e-6
    contrastive_loss(audio, visual, margin=1.1).loss.backward()
    assert audio.grad.abs().max() > 1e-2


def test_as_printed_in_the_survey_it_inverts_the_goal():
    start = torch.randn(5, 11, generator=torch.Generator().manual_seed(0)).double()
    matching, others = torch.eye(5, dtype=torch.bool), ~torch.eye(5, dtype=torch.bool)

    def printed(cosine, zeta=0.9):  # with the comparison that was meant, y_i = y_j
        return cosine[matching].square().mean() + (zeta - cosine[others]).clamp_min(0).square().mean()

    def learned(loss):
        audio, visual = (start + 0.1).requires_grad_(), (start - 0.1).clone().requires_grad_()
        step = torch.optim.Adam([audio, visual], lr=0.05)
        for _ in range(200):
            step.zero_grad()
            loss(audio, visual).backward()
            step.step()
        cosine = cosines(audio, visual).detach()
        return cosine[matching].mean().item(), cosine[others].mean().item()

    own, other = learned(lambda a, v: printed(cosines(a, v)))
    assert own < 0.3 < other  # matching pairs at a right angle, strangers together
    own, other = learned(lambda a, v: contrastive_loss(a, v, margin=1.0).loss)
    assert own > 0.9
    assert other < 0.1
    # and literally as printed, y_i compared with itself, the second term never counts
    y = torch.arange(5)
    assert not (y != y).any()


def test_order_length_and_names_of_labels_do_not_matter():
    assert_order_is_free(lambda a, v: contrastive_loss(a, v).loss)
    audio, visual = pairs(dtype=torch.float64)
    loss = contrastive_loss(audio, visual, label=LABEL).loss
    assert_same(contrastive_loss(3 * audio, visual / 7, label=9 - LABEL).loss, loss, atol=1e-12)
    assert_same(contrastive_loss(visual, audio, label=LABEL).loss, loss, atol=1e-12)
    moved = contrastive_loss(audio + 2, visual + 2, distance="euclidean").loss
    assert_same(moved, contrastive_loss(audio, visual, distance="euclidean").loss, atol=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gradient_and_hard_inputs(distance):
    more = torch.randn(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    options = {"distance": distance, "margin": 1.2}
    extra = {"negatives_visual": more, "negatives_audio": more[0]}
    assert_gradient(lambda a, v: contrastive_loss(a, v, **options, **extra).loss, B=4)
    assert_finite(lambda a, v: contrastive_loss(a, v, label=LABEL[: len(a)], **options).loss)
    assert_finite(lambda a, v: contrastive_loss(a, v, negatives_audio=v.detach(), **options).loss)


def test_bad_input_is_named():
    audio, visual = pairs()
    with pytest.raises(ValueError, match="margin must be above 0"):
        contrastive_loss(audio, visual, margin=0.0)
    with pytest.raises(ValueError, match="'cosine' or 'euclidean'"):
        contrastive_loss(audio, visual, distance="cos")
    with pytest.raises(ValueError, match=r"\(K, 11\) or \(5, M, 11\)"):
        contrastive_loss(audio, visual, negatives_visual=torch.ones(2, 3), distance="euclidean")
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        contrastive_loss(audio, visual, label=torch.ones(5))
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(4, 11\)"):
        contrastive_loss(audio, visual[:4])


def test_shifted_copies():
    sequence = torch.arange(42).view(2, 7, 3)
    moved = shifted(sequence, [1, -2, 7])
    assert moved.shape == (2, 3, 7, 3)
    for t in range(7):  # a slow loop: what was at t is later by so many frames, in a circle
        for m, by in enumerate((1, -2, 7)):
            assert torch.equal(moved[:, m, (t + by) % 7], sequence[:, t])
    assert torch.equal(moved[:, 2], sequence)  # once around
    assert torch.equal(shifted(shifted(sequence, 3), -3), sequence)
    assert torch.equal(shifted(sequence, -2), moved[:, 1])
    with pytest.raises(ValueError, match=r"\(B, T, ...\), got \(7,\)"):
        shifted(torch.ones(7), 1)

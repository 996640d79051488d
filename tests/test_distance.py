"""Distance objectives against slow loops, torch's own losses and what is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.distance import (
    CenterLoss,
    ClassifierLoss,
    center_loss,
    class_cross_entropy,
    embedding_distance,
    label_distance,
)

DISTANCES = ("l1", "l2", "squared_l2", "cosine")
B, D, K = 7, 5, 3
LABEL = torch.tensor([2, 0, 1, 1, 2, 0, 2])


def double(B: int = B, D: int = D, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return pairs(B, D, seed, torch.float64)


def centres(K: int = K, D: int = D) -> torch.Tensor:
    return torch.randn(K, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def slow(x: list[float], y: list[float], distance: str) -> float:
    if distance == "cosine":
        return 1 - sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
    off = [p - q for p, q in zip(x, y, strict=True)]
    return {"l1": sum(map(abs, off)), "l2": math.hypot(*off), "squared_l2": sum(o * o for o in off)}[distance]


# -- cross-entropy, equation 1


def test_cross_entropy_is_the_slow_loop_and_torchs():
    audio, visual = double(D=K)
    found = class_cross_entropy(audio, visual, label=LABEL)
    for logits, part in ((audio, found.audio), (visual, found.visual)):
        loop = [-math.log(math.exp(z[y]) / sum(map(math.exp, z))) for z, y in zip(logits.tolist(), LABEL, strict=True)]
        assert_same(part, torch.tensor(sum(loop) / B))
        assert_same(part, F.cross_entropy(logits, LABEL))
        as_printed = -(F.one_hot(LABEL, K) * logits.softmax(1).log()).sum(1)  # equation 1: a sum over the N classes
        assert_same(part, as_printed.mean())
    assert_same(found.loss, found.audio + found.visual)


def test_cross_entropy_known_values():
    zero, label = torch.zeros(B, K), LABEL
    assert class_cross_entropy(zero, zero, label=label).loss.item() == pytest.approx(2 * math.log(K))
    sure = 100 * F.one_hot(label, K).float()
    assert class_cross_entropy(sure, zero, label=label).audio.item() == pytest.approx(0, abs=1e-6)
    assert class_cross_entropy(-sure, zero, label=label).audio.item() == pytest.approx(100 + math.log(K - 1))


def test_cross_entropy_adding_a_number_to_all_logits_changes_nothing():
    audio, visual = double(D=K)
    moved = class_cross_entropy(audio + torch.arange(B)[:, None], visual - 4, label=LABEL)
    assert_same(moved.loss, class_cross_entropy(audio, visual, label=LABEL).loss)


# -- distance to labels, equation 2


def test_label_distance_is_the_slow_loop_and_torchs_mse():
    audio, visual = double(D=K)
    target = F.one_hot(LABEL, K).double()
    found, plain = (label_distance(audio, visual, label=LABEL, squared=s) for s in (True, False))
    for x, part, root in ((audio, found.audio, plain.audio), (visual, found.visual, plain.visual)):
        total = sum(slow(row, one, "squared_l2") for row, one in zip(x.tolist(), target.tolist(), strict=True))
        assert_same(part, torch.tensor(total / B))
        assert_same(part, K * F.mse_loss(x, target))
        assert_same(root, torch.tensor(math.sqrt(total) / B))
        assert_same(root, torch.linalg.matrix_norm(x - target) / B)
    assert_same(found.loss, found.audio + found.visual)
    assert_same(plain.loss, plain.audio + plain.visual)


def test_label_distance_known_values():
    right = F.one_hot(LABEL, K).float()
    nothing = torch.zeros(B, K)
    found = label_distance(right, nothing, label=LABEL)
    assert (found.audio.item(), found.visual.item()) == (0, 1)
    assert label_distance(right, nothing, label=LABEL, squared=False).visual.item() == pytest.approx(B**-0.5)
    # surer than sure is punished here, not by cross-entropy
    assert label_distance(3 * right, nothing, label=LABEL).audio.item() == 4
    ce = [class_cross_entropy(x * right, nothing, label=LABEL).audio.item() for x in (1, 3)]
    assert ce[1] < ce[0]


def test_equation_2_as_printed_grows_with_the_batch_and_the_corrected_one_does_not():
    audio, visual = double(D=K)
    target = F.one_hot(LABEL, K).double()

    def printed(predicted: torch.Tensor, y: torch.Tensor) -> float:
        n = len(y)
        return sum(float((predicted - y).square().sum()) for _ in range(n)) / n  # no index in the summand

    twice = (torch.cat([x, x]) for x in (audio, visual))
    once, doubled = printed(audio, target), printed(torch.cat([audio, audio]), torch.cat([target, target]))
    assert doubled == pytest.approx(2 * once)
    found = label_distance(audio, visual, label=LABEL)
    assert_same(label_distance(*twice, label=torch.cat([LABEL, LABEL])).loss, found.loss)
    assert once == pytest.approx(B * found.audio.item())


def test_label_distance_naming_the_classes_otherwise_changes_nothing():
    audio, visual = double(D=K)
    names = torch.tensor([2, 0, 1])  # class k is called names[k]
    renamed = [torch.empty_like(x).index_copy_(1, names, x) for x in (audio, visual)]
    for squared in (True, False):
        assert_same(
            label_distance(*renamed, label=names[LABEL], squared=squared).loss,
            label_distance(audio, visual, label=LABEL, squared=squared).loss,
        )


# -- alignment


@pytest.mark.parametrize("distance", DISTANCES)
def test_alignment_is_the_slow_loop(distance):
    audio, visual = double()
    found = embedding_distance(audio, visual, distance=distance)
    loop = [slow(a, v, distance) for a, v in zip(audio.tolist(), visual.tolist(), strict=True)]
    assert_same(found.distances, torch.tensor(loop, dtype=torch.float64))
    assert_same(found.loss, torch.tensor(sum(loop) / B))


def test_alignment_is_torchs():
    audio, visual = double()
    theirs = {
        "l1": D * F.l1_loss(audio, visual),
        "l2": F.pairwise_distance(audio, visual, eps=0).mean(),
        "squared_l2": D * F.mse_loss(audio, visual),
        "cosine": F.cosine_embedding_loss(audio, visual, torch.ones(B)),
    }
    for distance, expected in theirs.items():
        assert_same(embedding_distance(audio, visual, distance=distance).loss, expected)


def test_alignment_known_values():
    one = torch.eye(4)[:1]
    for distance, opposite in zip(DISTANCES, (2, 2, 4, 2), strict=True):
        assert embedding_distance(one, one, distance=distance).loss.item() == 0
        assert embedding_distance(one, -one, distance=distance).loss.item() == opposite
    # the trivial solution: all clips are one point, and nothing is left to improve
    point = torch.ones(B, D).requires_grad_()
    found = embedding_distance(point, torch.ones(B, D))
    found.loss.backward()
    assert found.loss.item() == 0
    assert point.grad.abs().max() == 0


def test_alignment_turning_both_senses_and_moving_them_changes_nothing():
    audio, visual = double()
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1)).double()).Q
    for distance in ("l2", "squared_l2", "cosine"):
        found = embedding_distance(audio, visual, distance=distance).loss
        assert_same(embedding_distance(audio @ turn, visual @ turn, distance=distance).loss, found)
        moved = embedding_distance(audio + 2, visual + 2, distance=distance).loss
        assert moved.isclose(found) == (distance != "cosine")
    # cosine is half the squared distance of directions, whatever the lengths
    unit = [F.normalize(x, dim=1) for x in (audio, visual)]
    assert_same(
        2 * embedding_distance(3 * audio, visual / 7, distance="cosine").loss,
        embedding_distance(*unit, distance="squared_l2").loss,
    )


# -- center loss


@pytest.mark.parametrize("distance", DISTANCES)
def test_center_loss_is_the_slow_loop(distance):
    audio, visual = double()
    found = center_loss(audio, visual, label=LABEL, centres=centres(), distance=distance)
    factor = 0.5 if distance == "squared_l2" else 1
    for x, part in ((audio, found.audio), (visual, found.visual)):
        loop = [slow(x[i].tolist(), centres()[LABEL[i]].tolist(), distance) for i in range(B)]
        assert_same(part, torch.tensor(factor * sum(loop) / B))
    assert_same(found.loss, found.audio + found.visual)


def test_center_loss_is_scikit_learns_inertia():
    from sklearn.cluster import KMeans

    audio, visual = double(B=23)
    both = torch.cat([audio, visual]).numpy()
    model = KMeans(K, n_init=1, random_state=0).fit(both)
    label = torch.from_numpy(model.predict(both)).long()
    means = torch.from_numpy(model.cluster_centers_)
    found = [
        center_loss(x, x, label=own, centres=means).audio for x, own in ((audio, label[:23]), (visual, label[23:]))
    ]
    assert 2 * 23 * float(sum(found)) == pytest.approx(model.inertia_, abs=1e-6)


def test_center_loss_force_is_towards_the_centre_and_the_means_are_the_best_centres():
    audio, visual = double()
    audio.requires_grad_()
    center_loss(audio, visual, label=LABEL, centres=centres()).loss.backward()
    assert_same(audio.grad, (audio.detach() - centres()[LABEL]) / B)  # half of the square: Wen et al., equation 2
    both, label = torch.cat([audio.detach(), visual]), torch.cat([LABEL, LABEL])
    means = torch.stack([both[label == k].mean(0) for k in range(K)]).requires_grad_()
    center_loss(audio.detach(), visual, label=LABEL, centres=means).loss.backward()
    assert_same(means.grad, torch.zeros(K, D))


def test_center_loss_moving_all_changes_nothing_but_the_senses_count_alike():
    audio, visual = double()
    found = center_loss(audio, visual, label=LABEL, centres=centres())
    assert_same(center_loss(audio + 3, visual + 3, label=LABEL, centres=centres() + 3).loss, found.loss)
    assert_same(center_loss(visual, audio, label=LABEL, centres=centres()).loss, found.loss)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    assert_same(center_loss(audio[order], visual[order], label=LABEL[order], centres=centres()).loss, found.loss)


def test_center_loss_module_learns_or_moves_its_centres():
    audio, visual = double()
    learned = CenterLoss(K, D).double()
    assert [p.shape for p in learned.parameters()] == [(K, D)]
    assert_same(learned.centres.norm(dim=1), torch.ones(K))
    found = learned(audio, visual, LABEL)
    assert_same(found.loss, center_loss(audio, visual, label=LABEL, centres=learned.centres).loss)
    found.loss.backward()
    assert learned.centres.grad.abs().sum() > 0

    moving = CenterLoss(K + 1, D, update="mean", rate=0.3).double()
    assert not list(moving.parameters())
    assert "centres" in moving.state_dict()
    before = moving.centres.clone()
    leaf = audio.clone().requires_grad_()
    found = moving(leaf, visual, LABEL)
    assert_same(found.loss, center_loss(audio, visual, label=LABEL, centres=before).loss)  # those of before
    found.loss.backward()
    assert_same(leaf.grad, (audio - before[LABEL]) / B)
    both, label = torch.cat([audio, visual]), torch.cat([LABEL, LABEL])
    for k in range(K):  # Wen et al., equation 4
        mine = both[label == k]
        step = sum((x - before[k] for x in mine), torch.zeros(D, dtype=torch.float64)) / (1 + len(mine))
        assert_same(moving.centres[k], before[k] + 0.3 * step)
    assert torch.equal(moving.centres[K], before[K])  # no clip of this class: stays
    rest = moving.eval().centres.clone()
    moving(audio, visual, LABEL)
    assert torch.equal(moving.centres, rest)


def test_moving_centres_settle_at_the_means():
    audio, visual = (x.float() for x in double())
    moving = CenterLoss(K, D, update="mean")
    for _ in range(60):
        moving(audio, visual, LABEL)
    both, label = torch.cat([audio, visual]), torch.cat([LABEL, LABEL])
    torch.testing.assert_close(moving.centres, torch.stack([both[label == k].mean(0) for k in range(K)]))


# -- the classifier that both senses share


def test_classifier_is_one_matrix_for_both_senses():
    audio, visual = double()
    for by, squared in (("cross_entropy", True), ("distance", True), ("distance", False)):
        criterion = ClassifierLoss(K, D, by=by, squared=squared).double()
        assert [p.shape for p in criterion.parameters()] == [(K, D)]
        found = criterion(audio, visual, LABEL)
        logits = [F.linear(x, criterion.P) for x in (audio, visual)]
        torch.testing.assert_close([found.audio_logits, found.visual_logits], logits)
        if by == "cross_entropy":
            expected = sum(F.cross_entropy(z, LABEL) for z in logits)
        else:
            power = [torch.linalg.matrix_norm(z - F.one_hot(LABEL, K)) for z in logits]
            expected = sum(p**2 if squared else p for p in power) / B
        assert_same(found.loss, expected)
        assert_same(found.loss, found.audio + found.visual)


def test_classifier_learns_classes_that_both_senses_show():
    label = torch.arange(40) % K
    g = torch.Generator().manual_seed(0)
    audio, visual = (3 * F.one_hot(label, D) + torch.randn(40, D, generator=g) for _ in range(2))
    for by in ("cross_entropy", "distance"):
        torch.manual_seed(0)
        criterion = ClassifierLoss(K, D, by=by)
        for _ in range(100):
            (slope,) = torch.autograd.grad(criterion(audio, visual, label).loss, criterion.P)
            criterion.P.data -= 0.05 * slope
        found = criterion(audio, visual, label)
        for logits in (found.audio_logits, found.visual_logits):
            assert (logits.argmax(1) == label).float().mean() > 0.85


# -- all of them

LOSSES = {
    "cross-entropy": lambda a, v: class_cross_entropy(a, v, label=torch.arange(len(a)) % a.shape[1]).loss,
    "label distance": lambda a, v: label_distance(a, v, label=torch.arange(len(a)) % a.shape[1]).loss,
    "label distance, not squared": lambda a, v: (
        label_distance(a, v, label=torch.arange(len(a)) % a.shape[1], squared=False).loss
    ),
    **{f"alignment, {d}": lambda a, v, d=d: embedding_distance(a, v, distance=d).loss for d in DISTANCES},
    **{
        f"center loss, {d}": lambda a, v, d=d: (
            center_loss(a, v, label=torch.arange(len(a)) % K, centres=centres(K, a.shape[1]).to(a), distance=d).loss
        )
        for d in DISTANCES
    },
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right_and_nothing_breaks(name):
    assert_gradient(LOSSES[name])
    assert_finite(LOSSES[name])


@pytest.mark.parametrize("distance", DISTANCES)
def test_alignment_order_is_free(distance):
    assert_order_is_free(lambda a, v: embedding_distance(a, v, distance=distance).loss)


def test_modules_survive_hard_inputs():
    for criterion in (
        ClassifierLoss(K, 11),
        ClassifierLoss(K, 11, by="distance"),
        CenterLoss(K, 11),
        CenterLoss(K, 11, update="mean"),
    ):
        assert_finite(lambda a, v, c=criterion: c(a, v, torch.arange(len(a)) % K).loss)
        assert all(torch.isfinite(x).all() for x in criterion.state_dict().values())


def test_errors_teach():
    audio, visual = double(D=K)
    for loss in (class_cross_entropy, label_distance):
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, got 0 to 3"):
            loss(audio, visual, label=LABEL.clamp(0, 1) * 3)
        with pytest.raises(ValueError, match=r"label must be \(7,\) whole numbers"):
            loss(audio, visual, label=LABEL.float())
        with pytest.raises(ValueError, match="must both be"):
            loss(audio, visual[:-1], label=LABEL)
    with pytest.raises(ValueError, match=r"distance must be one of .*'cosine'.*got 'euclid'"):
        embedding_distance(audio, visual, distance="euclid")
    with pytest.raises(ValueError, match=r"centres must be \(K, 3\) .*got \(3, 5\)"):
        center_loss(audio, visual, label=LABEL, centres=centres())
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        center_loss(audio, visual, label=LABEL, centres=centres(2, K))
    with pytest.raises(ValueError, match="update must be"):
        CenterLoss(K, D, update="gradient")
    with pytest.raises(ValueError, match=r"rate must lie in \(0, 1\], got 0"):
        CenterLoss(K, D, update="mean", rate=0)
    with pytest.raises(ValueError, match="by must be"):
        ClassifierLoss(K, D, by="mse")
    with pytest.raises(ValueError, match="two classes"):
        ClassifierLoss(1, D)
    with pytest.raises(ValueError, match=r"reads embeddings \(B, 5\), got \(7, 3\)"):
        ClassifierLoss(K, D)(audio, visual, LABEL)

"""Triplets, lifted structure, N-pair and quadruplet against slow loops and pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.contrastive import info_nce
from avlab.losses.triplet import lifted_structure, n_pair, quadruplet, triplet

F64 = torch.float64
LABEL = torch.tensor([3, 1, 3, 2, 1, 3, 2])
MININGS = ("random", "semi-hard", "hardest", "all")


def squared(audio, visual):
    a, v = (F.normalize(x, dim=1) for x in (audio, visual))
    return [[float((one - other).square().sum()) for other in v] for one in a]


def slow_triplets(d, label, margin, mining):
    """Costs of one direction: rows of d are anchors."""
    costs = []
    for i in range(len(d)):
        for p in (j for j in range(len(d)) if label[j] == label[i]):
            others = [d[i][n] for n in range(len(d)) if label[n] != label[i]]
            if mining == "semi-hard":
                others = sorted(x for x in others if x > d[i][p])[:1]
            elif mining == "hardest":
                others = sorted(others)[:1]
            costs += [max(0.0, d[i][p] - x + margin) for x in others]
    return costs


@pytest.mark.parametrize("mining", ["semi-hard", "hardest", "all"])
@pytest.mark.parametrize("label", [None, LABEL])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_triplet_is_the_slow_loop(mining, label, margin):
    audio, visual = pairs(7, 5, seed=2, dtype=F64)
    d, kinds = squared(audio, visual), list(range(7)) if label is None else label.tolist()
    ways = [
        slow_triplets(rows, kinds, margin, mining) for rows in (d, [list(column) for column in zip(*d, strict=True)])
    ]
    found = triplet(audio, visual, margin=margin, mining=mining, label=label)
    means = [sum(way) / len(way) for way in ways]
    assert_same(found.audio_to_visual, means[0])
    assert_same(found.visual_to_audio, means[1])
    assert_same(found.loss, sum(means) / 2)
    assert found.triplets == len(ways[0]) + len(ways[1])
    assert found.active == sum(cost > 0 for way in ways for cost in way)
    assert_same(found.distances, torch.tensor(d))
    one_way = triplet(audio, visual, margin=margin, mining=mining, label=label, bidirectional=False)
    assert_same(one_way.loss, means[0])
    assert one_way.triplets == len(ways[0])
    assert means[0] != means[1] or mining == "semi-hard"  # at margin 0 a semi-hard triplet costs nothing


@pytest.mark.parametrize("label", [None, LABEL])
@pytest.mark.parametrize("mining", ["semi-hard", "hardest", "all"])
def test_triplet_is_pytorch_metric_learnings(mining, label):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    audio, visual = pairs(7, 5, seed=2, dtype=F64)
    own = torch.arange(7) if label is None else label
    power = {"distance": distances.LpDistance(power=2)}
    loss = losses.TripletMarginLoss(margin=0.5, reducer=reducers.MeanReducer(), **power)
    picked = None
    if mining != "all" and label is None:  # its miners pick one positive an anchor
        strategy = {"semi-hard": "semihard", "hardest": "hard"}[mining]
        miner = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy=strategy, **power)
        picked = miner(audio, own, visual, own.clone())
    elif mining == "hardest":
        miner = miners.BatchEasyHardMiner(pos_strategy="all", neg_strategy="hard", **power)
        a, p, anchors, negatives = miner(audio, own, visual, own.clone())
        nearest = dict(zip(anchors.tolist(), negatives.tolist(), strict=True))
        picked = (a, p, torch.tensor([nearest[i] for i in a.tolist()]))
    elif mining == "semi-hard":
        pytest.skip("it has no miner that takes all positives and the nearest farther negative of each")
    theirs = loss(audio, own, picked, visual, own.clone())
    ours = triplet(audio, visual, margin=0.5, mining=mining, label=label, bidirectional=False)
    assert_same(ours.loss, theirs)
    assert theirs > 0.01


@pytest.mark.parametrize("label", [None, LABEL])
def test_random_mining_is_repeatable_and_in_the_mean_all_of_them(label):
    audio, visual = pairs(7, 5, dtype=F64)

    def drawn(seed):
        return triplet(audio, visual, margin=0.5, mining="random", label=label,
                       generator=torch.Generator().manual_seed(seed))  # fmt: skip

    assert drawn(3).loss == drawn(3).loss
    assert drawn(3).loss != drawn(4).loss
    everything = triplet(audio, visual, margin=0.5, mining="all", label=label)
    assert drawn(0).triplets == (14 if label is None else 2 * (9 + 4 + 4))
    assert drawn(0).triplets < everything.triplets
    mean = torch.stack([drawn(seed).audio_to_visual for seed in range(600)]).mean()
    slow = [slow_triplets([row], [0], 0.5, "all") for row in []]  # each anchor and positive counts once, as drawn
    d, kinds = squared(audio, visual), list(range(7)) if label is None else label.tolist()
    for i in range(7):
        for p in range(7):
            if kinds[p] == kinds[i]:
                costs = [max(0.0, d[i][p] - d[i][n] + 0.5) for n in range(7) if kinds[n] != kinds[i]]
                slow.append(sum(costs) / len(costs))
    assert mean.item() == pytest.approx(sum(slow) / len(slow), abs=0.02)
    assert min(slow) < 0.5 * max(slow)


@pytest.mark.parametrize("mining", MININGS)
def test_triplet_known_values(mining):
    alike = torch.ones(5, 3)
    collapsed = triplet(alike, alike, margin=0.3, mining=mining)
    if mining == "semi-hard":  # no negative is farther than the positive: there is nothing to pick
        assert collapsed.triplets == collapsed.loss == 0
    else:
        assert collapsed.loss.item() == pytest.approx(0.3, abs=1e-6)
        assert collapsed.active == collapsed.triplets
    apart = torch.eye(5)
    assert triplet(apart, apart, margin=2.0, mining=mining).loss == 0
    assert triplet(apart, apart, margin=2.5, mining=mining).loss.item() == pytest.approx(0.5)
    nobody = triplet(apart, apart, mining=mining, label=torch.zeros(5, dtype=torch.long))
    assert nobody.loss == nobody.triplets == nobody.active == 0


def test_equation_14_on_one_triplet():
    # anchor at angle 0, positive at 60 degrees (squared distance 1), negative at 90 degrees (2)
    audio = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=F64)
    visual = torch.tensor([[0.5, math.sqrt(0.75)], [0.0, 1.0]], dtype=F64)
    for mining in ("semi-hard", "hardest", "all"):
        found = triplet(audio, visual, margin=1.25, mining=mining, bidirectional=False)
        own = [1 - 2 + 1.25] if mining == "semi-hard" else [1 - 2 + 1.25, 4 - (2 + math.sqrt(3)) + 1.25]
        assert_same(found.loss, sum(own) / len(own))  # the second sound's picture is as far as can be


def test_easy_triplets_do_not_push_and_hardest_pushes_one_negative():
    audio, visual = (x.requires_grad_() for x in pairs(7, 5, dtype=F64))
    triplet(audio, visual, margin=0.0, mining="semi-hard").loss.backward()
    assert (audio.grad == 0).all()
    grads = {}
    for mining in ("hardest", "all"):
        found = triplet(audio, visual, margin=4.0, mining=mining, bidirectional=False)
        (by_distance,) = torch.autograd.grad(found.loss, found.distances)
        grads[mining] = (by_distance < 0).sum(1).tolist()  # negatives that are pushed away, by anchor
    assert grads == {"hardest": [1] * 7, "all": [6] * 7}


def slow_lifted(audio, visual, margin, label):
    d = [[math.sqrt(x) for x in row] for row in squared(audio, visual)]
    B, costs = len(d), []
    for i in range(B):
        for j in range(B):
            if label[i] == label[j]:
                push = sum(math.exp(margin - d[i][k]) for k in range(B) if label[k] != label[i])
                push += sum(math.exp(margin - d[k][j]) for k in range(B) if label[k] != label[j])
                costs.append(max(0.0, math.log(push) + d[i][j]) ** 2 / 2)
    return costs


@pytest.mark.parametrize("label", [None, LABEL])
@pytest.mark.parametrize("margin", [1.0, -2.0])
def test_lifted_structure_is_the_slow_loop(label, margin):
    audio, visual = pairs(7, 5, dtype=F64)
    costs = slow_lifted(audio, visual, margin, list(range(7)) if label is None else label.tolist())
    found = lifted_structure(audio, visual, margin=margin, label=label)
    assert_same(found.loss, sum(costs) / len(costs))
    assert found.active.item() == pytest.approx(sum(cost > 0 for cost in costs) / len(costs))
    assert (found.active == 1) == (margin == 1.0)


@pytest.mark.parametrize("label", [None, LABEL])
def test_lifted_structure_is_pytorch_metric_learnings(label):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    audio, visual = pairs(7, 5, dtype=F64)
    kinds = torch.arange(7) if label is None else label
    same = kinds[:, None] == kinds[None]
    sound, picture = same.nonzero(as_tuple=True)
    a, n = (~same).nonzero(as_tuple=True)
    # over one set, sounds first: of all its pairs, those across the two senses, negatives from both ends
    picked = sound, 7 + picture, torch.cat([a, 7 + n]), torch.cat([7 + n, a])
    theirs = losses.LiftedStructureLoss(neg_margin=1, pos_margin=0, reducer=reducers.MeanReducer())(
        torch.cat([audio, visual]), torch.cat([kinds, kinds]), picked
    )
    assert_same(lifted_structure(audio, visual, label=label).loss, theirs)


@pytest.mark.parametrize("B", [2, 6])
def test_lifted_structure_known_values(B):
    alike = torch.ones(B, 3, dtype=F64)
    # all coincide (but for the root's guard of 1e-6): 2 (B - 1) negatives at distance 0
    assert_same(lifted_structure(alike, alike).loss, (math.log(2 * (B - 1)) + 1) ** 2 / 2, atol=1e-4)
    apart = torch.eye(B, dtype=F64)
    expected = max(0.0, math.log(2 * (B - 1)) + 1 - math.sqrt(2)) ** 2 / 2
    assert_same(lifted_structure(apart, apart).loss, expected, atol=1e-4)
    nobody = lifted_structure(apart, apart, label=torch.zeros(B, dtype=torch.long))
    assert nobody.loss == nobody.active == 0


def test_n_pair_is_the_slow_loop_and_pytorch_metric_learnings():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    audio, visual = pairs(7, 5, dtype=F64)
    s = (audio @ visual.T).tolist()
    slow = sum(math.log(1 + sum(math.exp(s[i][j] - s[i][i]) for j in range(7) if j != i)) for i in range(7)) / 7
    found = n_pair(audio, visual, penalty=0.0, bidirectional=False)
    assert_same(found.loss, slow)
    dot = distances.DotProductSimilarity(normalize_embeddings=False)
    own = torch.arange(7)
    theirs = losses.NPairsLoss(distance=dot)(torch.cat([audio, visual]), torch.cat([own, own]))
    assert_same(found.loss, theirs)
    both = n_pair(audio, visual, penalty=0.0)
    assert_same(both.visual_to_audio, n_pair(visual, audio, penalty=0.0, bidirectional=False).loss)
    assert_same(both.loss, (found.loss + both.visual_to_audio) / 2)
    assert found.loss != both.visual_to_audio


def test_n_pair_is_info_nce_of_a_length_and_its_penalty_is_on_lengths():
    audio, visual = pairs(7, 5, dtype=F64)
    unit = [F.normalize(x, dim=1) / math.sqrt(0.2) for x in (audio, visual)]
    assert_same(n_pair(*unit, penalty=0.0).loss, info_nce(audio, visual, temperature=0.2).loss)
    found = n_pair(*unit, penalty=0.3)
    assert_same(found.penalty, 0.3 / 0.2)  # mean squared length 1 / 0.2
    assert_same(found.loss - found.penalty, n_pair(*unit, penalty=0.0).loss)
    one = [F.normalize(x, dim=1) for x in (audio, visual)]
    floor = math.log(1 + 6 * math.exp(-2))
    assert n_pair(one[0], one[0], penalty=0.0).loss > floor  # why embeddings must keep their length
    long = [10 * x for x in (one[0], one[0])]
    assert n_pair(*long, penalty=0.0).loss < floor / 100
    assert n_pair(torch.zeros(7, 3), torch.zeros(7, 3)).loss.item() == pytest.approx(math.log(7))


def test_n_pair_leaves_out_clips_of_the_same_class():
    audio, visual = pairs(7, 5, dtype=F64)
    s, kinds = (audio @ visual.T).tolist(), LABEL.tolist()
    slow = [0.0, 0.0]
    for i in range(7):
        for way, one in enumerate((lambda i, j: s[i][j], lambda i, j: s[j][i])):
            others = sum(math.exp(one(i, j) - one(i, i)) for j in range(7) if kinds[j] != kinds[i])
            slow[way] += math.log(1 + others) / 7
    found = n_pair(audio, visual, penalty=0.0, label=LABEL)
    assert_same(torch.stack([found.audio_to_visual, found.visual_to_audio]), slow)
    assert found.loss < n_pair(audio, visual, penalty=0.0).loss


def slow_quadruplets(d, margin):
    """Second terms, a list for each clip."""
    B = len(d)
    return [[d[i][i] - d[m][k] + margin for m in range(B) for k in range(B) if len({i, k, m}) == 3] for i in range(B)]


@pytest.mark.parametrize("B", [3, 4, 7])
def test_quadruplet_is_the_slow_loop(B):
    audio, visual = pairs(B, 5, seed=1, dtype=F64)
    costs = slow_quadruplets(squared(audio, visual), 0.7)
    hardest = quadruplet(audio, visual, margin=0.5, pair_margin=0.7)
    assert_same(hardest.pair_term, sum(max(0.0, *own) for own in costs) / B)
    whole = quadruplet(audio, visual, margin=0.5, pair_margin=0.7, mining="all")
    mean = [sum(max(0.0, cost) for cost in own) / len(own) for own in costs]
    assert_same(whole.pair_term, sum(mean) / B)
    for found, mining in ((hardest, "hardest"), (whole, "all")):
        assert_same(found.triplet_term, triplet(audio, visual, margin=0.5, mining=mining).loss)
        assert_same(found.loss, found.triplet_term + found.pair_term)
    g = draw()
    drawn = [quadruplet(audio, visual, pair_margin=0.7, mining="random", generator=g) for _ in range(500)]
    terms = torch.stack([one.pair_term for one in drawn])
    assert terms.mean().item() == pytest.approx(sum(mean) / B, abs=0.03)
    assert terms.std() > 0.01


def test_quadruplet_without_its_second_term_is_a_triplet():
    audio, visual = (x.requires_grad_() for x in pairs(7, 5, dtype=F64))
    apart = torch.eye(7, dtype=F64)
    assert quadruplet(apart, apart, margin=2.5, pair_margin=2.0).loss == triplet(apart, apart, margin=2.5).loss
    for mining in ("hardest", "all"):
        whole = quadruplet(audio, visual, pair_margin=0.3, mining=mining)
        own = torch.autograd.grad(whole.loss - whole.pair_term, audio, retain_graph=True)[0]
        assert_same(own, torch.autograd.grad(triplet(audio, visual, mining=mining).loss, audio)[0])
        assert torch.autograd.grad(whole.pair_term, audio)[0].abs().max() > 1e-3


def test_quadruplet_sees_a_scale_that_no_triplet_sees():
    # two wide pairs and two narrow ones: from each anchor its own is nearest by more than the margin, and still a wide
    # pair is farther apart than two strangers in the narrow corner
    angle = torch.deg2rad(torch.tensor([0.0, 120.0, 240.0, 256.0], dtype=F64))
    width = torch.deg2rad(torch.tensor([20.0, 20.0, 0.0, 0.0], dtype=F64))
    audio, visual = (torch.stack([x.cos(), x.sin()], 1) for x in (angle, angle + width))
    found = quadruplet(audio, visual, margin=0.05, pair_margin=0.0)
    assert found.triplet_term == 0
    assert found.pair_term > 0.01


LOSSES = {
    **{
        mining: (lambda a, v, m=mining: triplet(a, v, margin=0.7, mining=m, generator=draw()).loss)
        for mining in MININGS
    },
    "lifted structure": lambda a, v: lifted_structure(a, v).loss,
    "n-pair": lambda a, v: n_pair(a, v).loss,
    "quadruplet": lambda a, v: quadruplet(a, v, margin=0.7, pair_margin=0.6).loss,
    "quadruplet, all": lambda a, v: quadruplet(a, v, margin=0.7, pair_margin=0.6, mining="all").loss,
    "quadruplet, random": lambda a, v: quadruplet(a, v, pair_margin=0.6, mining="random", generator=draw()).loss,
}


def draw():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_hard_inputs_order_and_symmetry(name):
    assert_gradient(LOSSES[name])
    smallest = {"n-pair": 1}.get(name, 3 if "quadruplet" in name else 2)
    assert_finite(LOSSES[name], smallest=smallest)
    if "random" in name:
        return
    assert_order_is_free(LOSSES[name])
    audio, visual = pairs(7, 5, dtype=F64)
    loss = LOSSES[name](audio, visual)
    assert_same(LOSSES[name](visual, audio), loss)  # the two directions change places
    assert not torch.isclose(LOSSES[name](audio, visual.roll(1, 0)), loss)
    if name != "n-pair":
        assert_same(LOSSES[name](7 * audio, visual / 3), loss)  # the length of a vector does not matter


@pytest.mark.parametrize("mining", MININGS)
def test_gradient_with_labels(mining):
    label = torch.tensor([0, 1, 0, 2, 1])
    assert_gradient(lambda a, v: triplet(a, v, margin=0.7, mining=mining, label=label, generator=draw()).loss)
    some = torch.tensor([0, 0, 0, 1, 1])
    for loss in (
        lambda a, v: triplet(a, v, mining=mining, label=some[: len(a)], generator=draw()).loss,
        lambda a, v: triplet(a, v, mining=mining, label=0 * some[: len(a)], generator=draw()).loss,
    ):
        assert_finite(loss, smallest=2)


def test_other_losses_with_labels():
    some = torch.tensor([0, 0, 0, 1, 1])
    for loss in (lifted_structure, n_pair):
        assert_gradient(lambda a, v, loss=loss: loss(a, v, label=torch.tensor([0, 1, 0, 2, 1])).loss)
        for label in (some, 0 * some):
            one = lambda a, v, loss=loss, label=label: loss(a, v, label=label[: len(a)]).loss  # noqa: E731
            assert_finite(one, smallest=2 if loss is lifted_structure else 1)


def test_bad_input_is_named():
    audio, visual = pairs(5, 11)
    for loss in (triplet, lifted_structure, n_pair, quadruplet):
        with pytest.raises(ValueError, match=r"\(5, 11\) and \(5, 3\)"):
            loss(audio, visual[:, :3])
    for loss, least in ((triplet, 2), (lifted_structure, 2), (quadruplet, 3)):
        with pytest.raises(ValueError, match=f"a batch of {least}, got 1"):
            loss(audio[:1], visual[:1])
    with pytest.raises(ValueError, match="margin must be 0 or more"):
        triplet(audio, visual, margin=-0.5)
    with pytest.raises(ValueError, match="pair_margin must be 0 or more"):
        quadruplet(audio, visual, pair_margin=-0.5)
    with pytest.raises(ValueError, match="penalty must be 0 or more"):
        n_pair(audio, visual, penalty=-1)
    with pytest.raises(ValueError, match='"random", "semi-hard", "hardest" or "all", got \'hard\''):
        triplet(audio, visual, mining="hard")
    with pytest.raises(ValueError, match='"random", "hardest" or "all", got \'semi-hard\''):
        quadruplet(audio, visual, mining="semi-hard")
    for loss in (triplet, lifted_structure, n_pair):
        with pytest.raises(ValueError, match=r"label must be \(5,\)"):
            loss(audio, visual, label=LABEL)

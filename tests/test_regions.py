"""Region-sound contrast against slow loops, the localizer's pooling, and maps whose answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_same

from avlab.losses.contrastive import info_nce, info_nce_from_scores
from avlab.losses.regions import region_maps, region_scores, tri_map_loss
from avlab.models.localizer import DualEncoder, attention_pool

POOLS = ("mean", "max", "softmax", "logsumexp")


def things(A=5, B=4, D=7, h=2, w=3):
    g = torch.Generator().manual_seed(0)
    return (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((A, D), (B, D, h, w)))


def test_maps_are_the_slow_loop():
    audio, places = things()
    maps = region_maps(audio, places)
    assert maps.shape == (5, 4, 2, 3)
    for i in range(5):
        for j in range(4):
            for y in range(2):
                for x in range(3):
                    assert_same(maps[i, j, y, x], F.cosine_similarity(audio[i], places[j, :, y, x], dim=0), atol=1e-12)


def test_pools_are_what_they_say():
    audio, places = things()
    maps = region_maps(audio, places)
    scores = {pool: region_scores(audio, places, pool=pool, sharpness=3.0) for pool in POOLS}
    assert_same(scores["softmax"], attention_pool(maps, sharpness=3.0), atol=1e-15)
    encoder = DualEncoder(frames=2, D=7, sharpness=3.0)
    known = encoder.scores(F.normalize(audio, dim=1), F.normalize(places, dim=1))
    assert_same(scores["softmax"], known, atol=1e-12)
    for i in range(5):
        for j in range(4):
            m = [float(x) for x in maps[i, j].flatten()]
            assert_same(scores["max"][i, j], max(m))
            assert_same(scores["mean"][i, j], sum(m) / 6)
            assert_same(scores["logsumexp"][i, j], math.log(sum(math.exp(3 * x) for x in m) / 6) / 3)
    for soft in ("softmax", "logsumexp"):
        assert (scores["mean"] < scores[soft]).all()
        assert (scores[soft] < scores["max"]).all()
        flat = region_scores(audio, places, pool=soft, sharpness=1e-6)
        assert_same(flat, scores["mean"], atol=1e-4)
        sharp = region_scores(audio, places, pool=soft, sharpness=1e4)
        assert_same(sharp, scores["max"], atol=1e-3)


@pytest.mark.parametrize("pool", POOLS)
def test_one_place_is_a_plain_embedding(pool):
    audio, places = things(A=4, h=1, w=1)
    scores = region_scores(audio, places, pool=pool)
    assert_same(info_nce_from_scores(scores).loss, info_nce(audio, places.flatten(1)).loss, atol=1e-12)


@pytest.mark.parametrize("pool", POOLS)
def test_where_a_place_lies_does_not_matter(pool):
    audio, places = things()
    expected = region_scores(audio, places, pool=pool)
    assert_same(region_scores(2 * audio, places.flip(2, 3) / 5, pool=pool), expected, atol=1e-12)
    taller = places.transpose(2, 3)
    assert_same(region_scores(audio, taller, pool=pool), expected, atol=1e-12)


def test_hard_pooling_pushes_one_place_soft_pooling_all():
    audio, places = (x.requires_grad_() for x in things(A=4))
    moved = {}
    for pool in POOLS:
        scores = region_scores(audio, places, pool=pool)
        grad = torch.autograd.grad(scores[0, 0], places)[0][0]  # (D, h, w)
        moved[pool] = int((grad.norm(dim=0) > 1e-9).sum())
    assert moved == {"mean": 6, "max": 1, "softmax": 6, "logsumexp": 6}


def slow_tri_map(audio, places, sure, unsure, softness, tau):
    B, _, h, w = places.shape
    losses = []
    for i in range(B):
        maps = [[F.cosine_similarity(audio[i], places[j, :, y, x], dim=0).item() for y in range(h) for x in range(w)]
                for j in range(B)]  # fmt: skip
        s = [1 / (1 + math.exp(-(m - sure) / softness)) for m in maps[i]]
        b = [1 - 1 / (1 + math.exp(-(m - unsure) / softness)) for m in maps[i]]
        foreground = sum(x * m for x, m in zip(s, maps[i], strict=True)) / sum(s)
        hard = sum(x * m for x, m in zip(b, maps[i], strict=True)) / sum(b)
        wrong = [hard] + [sum(maps[j]) / (h * w) for j in range(B) if j != i]
        total = math.exp(foreground / tau) + sum(math.exp(x / tau) for x in wrong)
        losses.append(-math.log(math.exp(foreground / tau) / total))
    return sum(losses) / B


def test_tri_map_is_the_slow_loop():
    audio, places = things(A=4)
    options = {"sure": 0.3, "unsure": 0.1, "softness": 0.05}
    found = tri_map_loss(audio, places, **options, temperature=0.2)
    assert_same(found.loss, slow_tri_map(audio, places, *options.values(), 0.2), atol=1e-7)
    own = region_maps(audio, places)[range(4), range(4)]
    assert_same(found.sounding, torch.sigmoid((own - 0.3) / 0.05), atol=1e-12)
    assert_same(found.background, 1 - torch.sigmoid((own - 0.1) / 0.05), atol=1e-12)


def test_tri_map_of_a_known_map():
    direction, other = torch.eye(8)[0], torch.eye(8)[1]
    between = (direction * 0.5 + other * math.sqrt(0.75)).view(8, 1, 1)
    row = torch.cat([direction.view(8, 1, 1), between, other.view(8, 1, 1)], dim=2)  # scores 1, 0.5, 0
    elsewhere = torch.eye(8)[3].view(8, 1, 1).expand(8, 1, 3)
    audio = torch.stack([direction, torch.eye(8)[3]])
    found = tri_map_loss(audio, torch.stack([row, elsewhere]))
    assert found.sounding[0].flatten().round(decimals=1).tolist() == [1.0, 0.0, 0.0]
    assert found.background[0].flatten().round(decimals=1).tolist() == [0.0, 0.0, 1.0]  # the middle is ignored
    assert found.foreground[0].item() == pytest.approx(1, abs=0.01)
    assert found.hard[0].item() == pytest.approx(0, abs=0.03)
    # a place in the band gets little gradient, the background gets more
    places = torch.stack([row, elsewhere]).requires_grad_()
    tri_map_loss(audio, places, temperature=1.0).loss.backward()
    pushed = places.grad[0].norm(dim=0).flatten()
    assert pushed[1] < 0.5 * pushed[2]


def test_tri_map_without_choice_costs_log_answers():
    same = torch.ones(5, 3)
    found = tri_map_loss(same, torch.ones(5, 3, 2, 2))
    assert found.loss.item() == pytest.approx(math.log(5 + 1), abs=1e-5)
    audio, places = things(A=4)
    order = torch.tensor([2, 0, 3, 1])
    expected = tri_map_loss(audio, places).loss
    assert_same(tri_map_loss(audio[order], places[order]).loss, expected, atol=1e-12)
    assert_same(tri_map_loss(audio * 3, places.flip(3)).loss, expected, atol=1e-12)


def test_gradients_and_hard_inputs():
    for pool in ("mean", "softmax", "logsumexp"):
        assert_gradient(lambda a, v, p=pool: region_scores(a[:2], v.view(2, 3, 1, 2), pool=p).sin().sum(), B=4)
    options = {"sure": 0.3, "unsure": 0.1, "softness": 0.3, "temperature": 0.5}
    assert_gradient(lambda a, v: tri_map_loss(a[:2], v.view(2, 3, 1, 2), **options).loss, B=4)

    def places(v):
        return torch.stack([v, v.roll(1, 0), -v], dim=2)[..., None]  # (B, D, 3, 1)

    for pool in POOLS:
        assert_finite(lambda a, v, p=pool: info_nce_from_scores(region_scores(a, places(v), pool=p)).loss, B=3, D=7)
    assert_finite(lambda a, v: tri_map_loss(a, places(v)).loss, B=3, D=7)


def test_bad_input_is_named():
    audio, places = things()
    with pytest.raises(ValueError, match=r"got \(5, 6\) and \(4, 7, 2, 3\)"):
        region_maps(audio[:, :6], places)
    with pytest.raises(ValueError, match="paired by index"):
        tri_map_loss(audio, places)
    with pytest.raises(ValueError, match="unsure <= sure"):
        tri_map_loss(audio[:4], places, sure=0.1)
    with pytest.raises(ValueError, match="'mean', 'max'"):
        region_scores(audio, places, pool="median")
    with pytest.raises(ValueError, match="sharpness must be above 0"):
        region_scores(audio, places, sharpness=0.0)

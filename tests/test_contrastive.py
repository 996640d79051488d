"""InfoNCE against a slow loop and pytorch-metric-learning, with extra negatives and without those of a class."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.contrastive import InfoNCELoss, check_extra, cosines_to_extra, info_nce, info_nce_from_scores


def pair(B: int = 5, D: int = 11, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=g), torch.randn(B, D, generator=g)


def test_is_the_slow_loop():
    audio, visual = pair()
    slow = []
    for i in range(5):
        scores = [math.exp(F.cosine_similarity(audio[i], visual[j], dim=0) / 0.2) for j in range(5)]
        slow.append(-math.log(scores[i] / sum(scores)))
    found = info_nce(audio, visual, temperature=0.2)
    assert found.audio_to_visual.item() == pytest.approx(sum(slow) / 5, rel=1e-5)
    assert info_nce(audio, visual, temperature=0.2, symmetric=False).loss == found.audio_to_visual
    assert found.loss.item() == pytest.approx((found.audio_to_visual + found.visual_to_audio).item() / 2)
    torch.testing.assert_close(found.logits[1, 3], F.cosine_similarity(audio[1], visual[3], dim=0) / 0.2)


def test_is_pytorch_metric_learnings():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    audio, visual = pair(7, 3)
    # its NTXent has the anchor's own set as negatives only where it is given as reference: sounds against pictures
    label = torch.arange(7)
    theirs = losses.NTXentLoss(temperature=0.1)(audio, label, ref_emb=visual, ref_labels=label.clone())
    torch.testing.assert_close(info_nce(audio, visual, temperature=0.1).audio_to_visual, theirs)


@pytest.mark.parametrize("B", [1, 2, 128])
def test_uniform_scores_cost_log_batch(B):
    assert info_nce_from_scores(torch.full((B, B), 3.0)).loss.item() == pytest.approx(math.log(B), abs=1e-5)
    same = torch.ones(B, 4)
    assert info_nce(same, same, temperature=0.07).loss.item() == pytest.approx(math.log(B), abs=1e-5)


def test_one_pair_is_free_and_a_perfect_match_nearly_so():
    one = torch.randn(1, 4, requires_grad=True)
    loss = info_nce(one, torch.randn(1, 4)).loss
    loss.backward()
    assert loss == 0
    assert (one.grad == 0).all()
    expected = math.log(1 + 3 * math.exp(-1 / 0.07))
    assert info_nce(torch.eye(4), torch.eye(4)).loss.item() == pytest.approx(expected, abs=1e-6)


def test_as_printed_in_the_survey_it_would_not_learn():
    audio, visual = (x.requires_grad_() for x in pair())
    own = F.cosine_similarity(audio, visual) / 0.1
    printed = -(own - torch.logsumexp(own[:, None].expand(-1, 5), dim=1)).mean()  # the positive once per candidate
    assert printed.item() == pytest.approx(math.log(5), rel=1e-6)
    printed.backward()
    assert audio.grad.abs().max() < 1e-6
    info_nce(audio, visual, temperature=0.1).loss.backward()
    assert audio.grad.abs().max() > 1e-2


def test_order_of_the_pairs_and_length_of_the_vectors_do_not_matter():
    audio, visual = pair()
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = info_nce(audio, visual).loss
    torch.testing.assert_close(info_nce(audio[order], visual[order]).loss, loss)
    torch.testing.assert_close(info_nce(7 * audio, visual / 3).loss, loss)
    torch.testing.assert_close(info_nce(visual, audio).loss, loss)  # the two directions change places
    assert not torch.isclose(info_nce(audio, visual[order]).loss, loss)


def test_gradient():
    audio, visual = (x.double().requires_grad_() for x in pair(4, 3))
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, v, t: info_nce(a, v, temperature=t).loss, (audio, visual, tau))


@pytest.mark.parametrize("kind", ["zero", "identical", "huge", "one", "random"])
def test_stays_finite_under_bfloat16(kind):
    audio, visual = pair(1 if kind == "one" else 5)
    if kind == "zero":
        audio[2] = 0
        visual[:] = 0
    elif kind == "identical":
        visual = audio.clone()
    elif kind == "huge":
        audio *= 1e18
    audio.requires_grad_()
    criterion = InfoNCELoss(0.01)
    with torch.autocast("cpu", torch.bfloat16):
        found = criterion(audio.bfloat16() @ torch.eye(11), visual)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    assert torch.isfinite(found.loss)
    assert torch.isfinite(audio.grad).all()
    assert torch.isfinite(criterion.log_temperature.grad)


def test_autocast_does_not_round_the_cosines():
    audio, visual = pair(16, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(audio, visual).loss
    assert inside == info_nce(audio, visual).loss


def test_learned_temperature_keeps_its_bounds_and_comes_back_from_them():
    criterion = InfoNCELoss(0.07)
    optimiser = torch.optim.SGD(criterion.parameters(), lr=50.0)
    criterion(torch.eye(5), torch.eye(5)).loss.backward()
    with torch.no_grad():
        criterion.log_temperature.fill_(-20.0)  # far beyond the bound
    assert criterion.temperature.item() == pytest.approx(0.01)
    audio, visual = pair()
    for _ in range(3):  # wrong pairs ask for a higher temperature
        optimiser.zero_grad()
        criterion(audio, visual).loss.backward()
        optimiser.step()
    assert criterion.temperature.item() > 0.01
    with torch.no_grad():
        criterion.log_temperature.fill_(20.0)
    assert criterion.temperature.item() == pytest.approx(1.0)
    torch.testing.assert_close(criterion.from_scores(torch.eye(3)).logits, torch.eye(3))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(5, 3\)"):
        info_nce(torch.ones(5, 11), torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"scores must be \(B, B\)"):
        info_nce_from_scores(torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"\(0, 4\) and \(0, 4\)"):
        info_nce(torch.ones(0, 4), torch.ones(0, 4))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        info_nce(torch.ones(5, 4), torch.ones(5, 4), temperature=0.0)
    with pytest.raises(ValueError, match="lowest <= temperature"):
        InfoNCELoss(0.001)


def slow_rows(audio, visual, tau, label=None, extra=None):
    """Audio to visual, one exponential at a time."""
    losses = []
    for i in range(len(audio)):
        others = [j for j in range(len(audio)) if j != i and (label is None or label[j] != label[i])]
        wrong = [visual[j] for j in others]
        if extra is not None:
            wrong += list(extra if extra.ndim == 2 else extra[i])
        own, *terms = (math.exp(F.cosine_similarity(audio[i], x, dim=0) / tau) for x in (visual[i], *wrong))
        losses.append(-math.log(own / (own + sum(terms))))
    return torch.tensor(sum(losses) / len(losses), dtype=torch.float64)


LABEL = torch.tensor([4, 2, 4, 4, 0])


@pytest.mark.parametrize("shape", [(3, 11), (0, 11), (5, 2, 11)])
def test_extra_negatives_are_the_slow_loops(shape):
    audio, visual = pairs(dtype=torch.float64)
    more_audio, more_visual = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    extra = {"negatives_audio": more_audio, "negatives_visual": more_visual}
    found = info_nce(audio, visual, temperature=0.3, label=LABEL, **extra)
    assert_same(found.audio_to_visual, slow_rows(audio, visual, 0.3, LABEL, more_visual), atol=1e-12)
    assert_same(found.visual_to_audio, slow_rows(visual, audio, 0.3, LABEL, more_audio), atol=1e-12)
    plain = info_nce(audio, visual, temperature=0.3)
    if shape[0]:
        assert info_nce(audio, visual, temperature=0.3, **extra).loss > plain.loss + 1e-3  # more wrong answers
    else:
        assert_same(info_nce(audio, visual, temperature=0.3, **extra).loss, plain.loss, atol=1e-15)


def test_extra_negatives_of_one_sense_leave_the_other_direction_alone():
    audio, visual = pairs()
    plain, found = info_nce(audio, visual), info_nce(audio, visual, negatives_visual=pairs(3, 11, 7)[1])
    assert found.visual_to_audio == plain.visual_to_audio
    assert found.audio_to_visual > plain.audio_to_visual
    torch.testing.assert_close(found.logits, plain.logits)


def test_negatives_of_one_class_are_pytorch_metric_learnings_without_them():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    audio, visual = pairs(dtype=torch.float64)
    anchors, partners = torch.arange(5), torch.arange(5)
    first, second = (LABEL[:, None] != LABEL).nonzero(as_tuple=True)
    oracle = losses.NTXentLoss(temperature=0.2)
    theirs = oracle(audio, indices_tuple=(anchors, partners, first, second), ref_emb=visual)
    assert_same(info_nce(audio, visual, temperature=0.2, label=LABEL).audio_to_visual, theirs, atol=1e-7)


def test_known_values_with_masks_and_extra():
    same = torch.ones(5, 3)
    assert info_nce(same, same, label=torch.full((5,), 3)).loss == 0  # nobody is left to be wrong
    assert info_nce(same, same, label=LABEL).loss.exp().log().item() == pytest.approx(
        (3 * math.log(3) + 2 * math.log(5)) / 5, abs=1e-6
    )
    found = info_nce(same, same, negatives_visual=torch.ones(8, 3), negatives_audio=torch.ones(5, 2, 3))
    assert found.audio_to_visual.exp().item() == pytest.approx(13, rel=1e-5)
    assert found.visual_to_audio.exp().item() == pytest.approx(7, rel=1e-5)
    ignored = info_nce_from_scores(torch.eye(5), ignore=torch.ones(5, 5, dtype=torch.bool))
    assert ignored.loss == 0
    torch.testing.assert_close(cosines_to_extra(same, -2 * torch.ones(5, 2, 3)), torch.full((5, 2), -1.0))


def test_gradient_and_hard_inputs_with_masks_and_extra():
    more = torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 1, 1])
    whole = {"label": label, "negatives_visual": more, "negatives_audio": more[0]}
    assert_gradient(lambda a, v: info_nce(a, v, temperature=0.4, **whole).loss, B=3)

    def loss(a, v):
        return info_nce(a, v, label=LABEL[: len(a)], negatives_visual=torch.zeros(2, 11), negatives_audio=v.detach())

    assert_finite(lambda a, v: loss(a, v).loss)
    assert_order_is_free(lambda a, v: info_nce(a, v, negatives_visual=torch.ones(2, 5).double()).loss)


def test_labels_may_be_renamed_and_must_fit():
    audio, visual = pairs()
    renamed = info_nce(audio, visual, label=9 - LABEL).loss
    assert renamed == info_nce(audio, visual, label=LABEL).loss
    assert renamed != info_nce(audio, visual).loss
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        info_nce(audio, visual, label=torch.zeros(4).long())
    with pytest.raises(ValueError, match=r"\(K, 11\) or \(5, M, 11\)"):
        info_nce(audio, visual, negatives_visual=torch.ones(4, 2, 11))
    with pytest.raises(ValueError, match=r"got \(3, 10\)"):
        check_extra(audio, torch.ones(3, 10))
    with pytest.raises(ValueError, match=r"ignore must be \(3, 3\) of bool"):
        info_nce_from_scores(torch.eye(3), ignore=torch.eye(3))
    with pytest.raises(ValueError, match="extra_audio must be"):
        info_nce_from_scores(torch.eye(3), extra_audio=torch.ones(2, 4))

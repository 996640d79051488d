"""Distillation against torch's divergences and slow loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.distance import class_cross_entropy
from avlab.losses.distillation import FeatureDistillation, feature_distillation, soft_label_distillation

B, D, WIDE = 7, 5, 11


def four(B: int = B, D: int = D, D_teacher: int = D) -> list[torch.Tensor]:
    """Student of sounds and pictures, teacher of sounds and pictures."""
    return [*pairs(B, D, 0, torch.float64), *pairs(B, D_teacher, 1, torch.float64)]


def teachers(audio: torch.Tensor, visual: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"audio_teacher": audio, "visual_teacher": visual}


def from_teachers(loss, **options):
    """As a loss of the student alone, with teachers of its shape."""

    def of(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        known = pairs(8, audio.shape[1], 1, torch.float64)
        return loss(audio, visual, **teachers(*(x[: len(audio)].to(audio) for x in known)), **options).loss

    return of


def test_features_are_the_slow_loop_and_torchs():
    a, v, ta, tv = four()
    found = feature_distillation(a, v, **teachers(ta, tv))
    for own, teacher, part in ((a, ta, found.audio), (v, tv, found.visual)):
        loop = sum((x - y) ** 2 for x, y in zip(own.flatten().tolist(), teacher.flatten().tolist(), strict=True)) / B
        assert_same(part, torch.tensor(loop))
        assert_same(part, D * F.mse_loss(own, teacher))
    assert_same(found.loss, found.audio + found.visual)
    alike = feature_distillation(a, v, **teachers(ta, tv), normalise=True)
    assert_same(alike.audio, 2 * F.cosine_embedding_loss(a, ta, torch.ones(B)))


def test_features_known_values_and_invariances():
    a, v, ta, tv = four()
    assert feature_distillation(a, v, **teachers(a, v)).loss == 0
    found = feature_distillation(a, a, **teachers(-a, 2 * a), normalise=True)
    assert found.audio.item() == pytest.approx(4)
    assert found.visual.item() == pytest.approx(0, abs=1e-12)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(3)).double()).Q
    plain = feature_distillation(a, v, **teachers(ta, tv))
    turned = feature_distillation(a @ turn, v @ turn, **teachers(ta @ turn, tv @ turn))
    assert_same(turned.loss, plain.loss)
    # one sense with long embeddings takes over, unless all are brought to length one
    long = feature_distillation(a, v, **teachers(ta, 100 * tv))
    assert long.visual > 1000 * long.audio
    assert_same(
        feature_distillation(a, 5 * v, **teachers(ta, 100 * tv), normalise=True).loss,
        feature_distillation(a, v, **teachers(ta, tv), normalise=True).loss,
    )


def test_equation_3_as_printed_is_no_scalar_and_teaches_the_teacher():
    a, v, ta, tv = (x.requires_grad_() for x in four())
    printed = sum((x - y) ** 2 for x, y in zip(a, ta, strict=True)) / B
    printed = printed + sum((x - y) ** 2 for x, y in zip(v, tv, strict=True)) / B
    assert printed.shape == (D,)  # a square of vectors: one number a dimension
    with pytest.raises(RuntimeError, match="scalar"):
        printed.backward()
    (norms := printed.sum()).backward()
    assert ta.grad.abs().max() > 0  # the teacher moves towards its student
    for x in (a, v, ta, tv):
        x.grad = None
    found = feature_distillation(a, v, **teachers(ta, tv))
    found.loss.backward()
    assert_same(found.loss, norms)
    assert_same(a.grad, 2 * (a - ta).detach() / B)
    assert ta.grad is None
    assert tv.grad is None


def test_soft_labels_are_torchs_and_the_slow_loop():
    a, v, ta, tv = four()
    found = soft_label_distillation(a, v, **teachers(ta, tv), temperature=3.0)
    for own, teacher, part in ((a, ta, found.audio), (v, tv, found.visual)):
        theirs = F.kl_div((own / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean")
        assert_same(part, 9 * theirs)
        loop = 0.0
        for student, wise in zip(own.tolist(), teacher.tolist(), strict=True):
            p, q = ([math.exp(z / 3) for z in row] for row in (wise, student))
            p, q = ([x / sum(row) for x in row] for row in (p, q))
            loop += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
        assert_same(part, torch.tensor(9 * loop / B))
    assert_same(found.loss, found.audio + found.visual)


def test_soft_labels_known_values():
    a, v, ta, tv = four()
    assert soft_label_distillation(a, v, **teachers(a, v)).loss.item() == pytest.approx(0, abs=1e-12)
    # a teacher that is sure, at T = 1, is a label
    label = torch.tensor([0, 3, 1, 4, 2, 2, 0])
    sure = 1e3 * F.one_hot(label, D).double()
    found = soft_label_distillation(a, v, **teachers(sure, sure), temperature=1.0)
    assert_same(found.loss, class_cross_entropy(a, v, label=label).loss)
    # hot: half the squared distance of centred logits, over K (Hinton et al. 2015, section 2.1)
    hot = soft_label_distillation(a, v, **teachers(ta, tv), temperature=1e4)
    off = (a - a.mean(1, keepdim=True)) - (ta - ta.mean(1, keepdim=True))
    assert_same(hot.audio, off.square().sum(1).mean() / (2 * D), atol=1e-3)


def test_soft_labels_adding_a_number_to_all_logits_changes_nothing_and_the_teacher_is_not_taught():
    a, v, ta, tv = four()
    tv.requires_grad_()
    v.requires_grad_()
    found = soft_label_distillation(a, v, **teachers(ta, tv))
    assert_same(soft_label_distillation(a + 3, v - 1, **teachers(ta - 8, tv + 5)).loss, found.loss)
    found.loss.backward()
    assert v.grad.abs().max() > 0
    assert tv.grad is None


def test_adapter_bridges_widths():
    a, v, ta, tv = four(D_teacher=WIDE)
    one = FeatureDistillation(D, WIDE).double()
    assert [p.shape for p in one.parameters()] == [(WIDE, D)]
    found = one(a, v, **teachers(ta, tv))
    W = one.audio_adapter.weight
    assert_same(found.loss, feature_distillation(a @ W.T, v @ W.T, **teachers(ta, tv)).loss)
    two = FeatureDistillation(D, WIDE, shared=False, normalise=True).double()
    assert len(list(two.parameters())) == 2
    ours = two(a, v, **teachers(ta, tv))
    adapted = two.audio_adapter(a), two.visual_adapter(v)
    assert_same(ours.loss, feature_distillation(*adapted, **teachers(ta, tv), normalise=True).loss)


def test_adapter_finds_the_teachers_map_where_there_is_one():
    g = torch.Generator().manual_seed(4)
    a, v = torch.randn(2, 40, D, generator=g)
    truth = torch.randn(WIDE, D, generator=g)
    criterion = FeatureDistillation(D, WIDE)
    optimiser = torch.optim.LBFGS(criterion.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = criterion(a, v, **teachers(a @ truth.T, v @ truth.T)).loss
        loss.backward()
        return loss

    optimiser.step(step)
    torch.testing.assert_close(criterion.audio_adapter.weight.detach(), truth, atol=1e-3, rtol=0)


LOSSES = {
    "features": from_teachers(feature_distillation),
    "features, normalised": from_teachers(feature_distillation, normalise=True),
    "soft labels": from_teachers(soft_label_distillation),
    "soft labels, sharp": from_teachers(soft_label_distillation, temperature=0.1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right_and_nothing_breaks(name):
    assert_gradient(LOSSES[name])
    assert_finite(LOSSES[name])


def test_a_hard_teacher_breaks_nothing():
    for loss in (feature_distillation, soft_label_distillation):
        assert_finite(lambda a, v, loss=loss: loss(v, a, **teachers(a, v)).loss)


def test_adapter_survives_hard_inputs_and_order_is_free():
    criterion = FeatureDistillation(11, WIDE + 2)
    known = [x.float() for x in pairs(5, WIDE + 2, 1)]
    assert_finite(lambda a, v: criterion(a, v, **teachers(*(x[: len(a)] for x in known))).loss)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(1))
    a, v, ta, tv = four()
    for loss in (feature_distillation, soft_label_distillation):
        shuffled = loss(a[order], v[order], **teachers(ta[order], tv[order])).loss
        assert_same(shuffled, loss(a, v, **teachers(ta, tv)).loss)
    assert_order_is_free(lambda a, v: feature_distillation(a, v, **teachers(v, a)).loss)


def test_errors_teach():
    a, v, ta, tv = four(D_teacher=WIDE)
    with pytest.raises(ValueError, match=r"\(B, D\); audio: \(7, 5\) and \(7, 11\).*FeatureDistillation"):
        feature_distillation(a, v, **teachers(ta, tv))
    with pytest.raises(ValueError, match=r"\(B, K\); visual: \(7, 5\) and \(6, 5\)"):
        soft_label_distillation(a, v, **teachers(a, v[:-1]))
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            soft_label_distillation(a, v, **teachers(a, v), temperature=temperature)
    with pytest.raises(ValueError, match=r"adapter reads embeddings \(B, 11\), got \(7, 5\)"):
        FeatureDistillation(WIDE, D)(a, v, **teachers(a, v))

"""Barlow Twins against a slow loop, VICReg against pytorch-metric-learning and a slow loop."""

import numpy as np
import pytest
import torch
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.redundancy import barlow_twins, vicreg


def test_barlow_twins_is_the_slow_loop():
    audio, visual = pairs(13, 4, dtype=torch.float64)
    found = barlow_twins(audio, visual, weight=0.07, eps=1e-12)
    slow = 0.0
    for i in range(4):
        for j in range(4):
            C = np.corrcoef(audio[:, i], visual[:, j])[0, 1]
            assert found.correlation[i, j].item() == pytest.approx(C, abs=1e-9)
            slow += (1 - C) ** 2 if i == j else 0.07 * C**2
    assert found.loss.item() == pytest.approx(slow, abs=1e-9)
    assert_same(found.invariance + 0.07 * found.redundancy, found.loss)


def test_barlow_twins_known_values():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    exact = {"eps": 1e-12}
    assert barlow_twins(x, x, **exact).loss.item() == pytest.approx(0, abs=1e-12)
    assert barlow_twins(x, -x, **exact).loss.item() == pytest.approx(8)  # 2 (1 + 1)^2
    assert barlow_twins(x, x.flip(1), weight=0.1, **exact).loss.item() == pytest.approx(2 + 0.1 * 2)
    same = x[:, :1].expand(4, 2)  # one dimension twice: every correlation is 1
    assert barlow_twins(same, same, weight=0.1, **exact).loss.item() == pytest.approx(0.2)
    point = torch.ones(5, 3)
    assert barlow_twins(point, point).loss.item() == pytest.approx(3)  # a collapse costs D


def test_barlow_twins_invariances():
    audio, visual = pairs(13, 4, dtype=torch.float64)
    loss = barlow_twins(audio, visual, eps=1e-12).loss
    units = torch.tensor([0.1, 3, 200, 1]).double()
    assert_same(barlow_twins(audio * units - 5, visual / units + 1, eps=1e-12).loss, loss, atol=1e-6)
    order = torch.tensor([2, 0, 3, 1])
    assert_same(barlow_twins(audio[:, order], visual[:, order], eps=1e-12).loss, loss)
    assert_same(barlow_twins(visual, audio, eps=1e-12).loss, loss)
    assert_order_is_free(lambda a, v: barlow_twins(a, v).loss)
    assert barlow_twins(audio[:, order], visual, eps=1e-12).loss > loss + 0.1  # which dimension is which does matter


def test_vicreg_is_pytorch_metric_learnings():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    audio, visual = (0.6 * x for x in pairs(13, 4, dtype=torch.float64))
    theirs = losses.VICRegLoss(invariance_lambda=3, variance_mu=5, covariance_v=7)(audio, ref_emb=visual)
    found = vicreg(audio, visual, invariance_weight=3, variance_weight=5, covariance_weight=7)
    assert_same(found.loss, theirs)
    assert found.variance > 0.01
    assert_same(3 * found.invariance + 5 * found.variance + 7 * found.covariance, found.loss)


def test_vicregs_terms_are_the_slow_loop():
    audio, visual = (0.6 * x for x in pairs(13, 4, dtype=torch.float64))
    found, variance, covariance = vicreg(audio, visual), 0.0, 0.0
    for x in (audio.numpy(), visual.numpy()):
        variance += np.mean([max(0, 1 - np.sqrt(np.var(x[:, i], ddof=1) + 1e-4)) for i in range(4)]) / 2
        covariance += sum(np.cov(x.T)[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    assert found.variance.item() == pytest.approx(variance, abs=1e-9)
    assert found.covariance.item() == pytest.approx(covariance, abs=1e-9)
    assert found.invariance.item() == pytest.approx(np.mean((audio - visual).numpy() ** 2), abs=1e-9)


def test_vicreg_known_values():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    assert vicreg(x, x).loss.item() == 0
    assert vicreg(x, x + 2).invariance.item() == pytest.approx(4)
    same = x[:, :1].expand(4, 2)
    assert vicreg(same, same).covariance.item() == pytest.approx(2 * (4 / 3) ** 2)  # 2 modalities, 2 entries / D
    point = torch.ones(5, 3)
    collapse = vicreg(point, point)
    assert collapse.variance.item() == pytest.approx(0.99)  # 1 - sqrt(1e-4)
    assert collapse.loss.item() == pytest.approx(25 * 0.99)


def test_vicreg_invariances():
    audio, visual = (0.6 * x for x in pairs(13, 4, dtype=torch.float64))
    found = vicreg(audio, visual)
    assert_same(vicreg(audio + 7, visual + 7).loss, found.loss)
    order = torch.tensor([2, 0, 3, 1])
    assert_same(vicreg(audio[:, order], visual[:, order]).loss, found.loss)
    assert_same(vicreg(visual, audio).loss, found.loss)
    assert_order_is_free(lambda a, v: vicreg(a, v).loss)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double()).Q
    turned = vicreg(audio @ turn, visual @ turn)
    assert_same(turned.invariance, found.invariance)  # a turn of both keeps the pairs and moves the covariance
    assert (turned.covariance - found.covariance).abs() > 1e-3


def test_gradients_and_hard_inputs():
    assert_gradient(lambda a, v: barlow_twins(a, v).loss)
    assert_gradient(lambda a, v: vicreg(0.4 * a, 0.4 * v).loss)
    assert_finite(lambda a, v: barlow_twins(a, v).loss, smallest=2)
    assert_finite(lambda a, v: vicreg(1e-3 * a, 1e-3 * v).loss, smallest=2)  # longer ones overflow float16 itself


def test_errors_teach():
    audio, visual = pairs(7, 5)
    for loss in (barlow_twins, vicreg):
        with pytest.raises(ValueError, match=r"\(7, 5\) and \(7, 3\)"):
            loss(audio, visual[:, :3])
        with pytest.raises(ValueError, match="batch of 2, got 1"):
            loss(audio[:1], visual[:1])
    with pytest.raises(ValueError, match="weight must be 0 or more"):
        barlow_twins(audio, visual, weight=-1.0)
    with pytest.raises(ValueError, match="eps above 0"):
        barlow_twins(audio, visual, eps=0.0)
    with pytest.raises(ValueError, match="eps must be above 0"):
        vicreg(audio, visual, eps=0.0)

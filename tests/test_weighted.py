"""Sums of objectives, with weights given and learned."""

import math

import pytest
import torch
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs
from torch import nn

from avlab.losses.contrastive import InfoNCELoss
from avlab.losses.distance import CenterLoss, embedding_distance
from avlab.losses.similarity import at_least_float32
from avlab.losses.weighted import (
    UncertaintyWeighting,
    WeightedObjective,
    uncertainty_weighted,
    weighted_sum,
)

B, D, K = 5, 11, 3


def scalars(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def align(audio, visual, label):
    return embedding_distance(audio, visual)  # a NamedTuple


def length(audio, visual, label):
    audio, visual = (at_least_float32(x) for x in (audio, visual))  # a square is too much for float16
    return (audio.square().sum(1) + visual.square().sum(1)).mean()  # a scalar


def test_sum_is_the_dot_product_and_keeps_its_parts():
    parts = dict(zip("xyz", scalars(2.0, 3.0, 7.0), strict=True))
    found = weighted_sum(parts, {"x": 0.5, "z": 3.0})
    assert_same(found.loss, torch.dot(torch.tensor([0.5, 1.0, 3.0]), torch.tensor([2.0, 3.0, 7.0])))
    assert {name: part.item() for name, part in found.parts.items()} == {"x": 2, "y": 3, "z": 7}
    assert {name: weight.item() for name, weight in found.weights.items()} == {"x": 0.5, "y": 1, "z": 3}
    found.loss.backward()
    assert [part.grad.item() for part in parts.values()] == [0.5, 1, 3]  # the gradient is the weight
    again = weighted_sum(dict(reversed(parts.items())), {"z": 3.0, "x": 0.5})
    assert again.loss == found.loss


def test_weight_zero_leaves_a_term_out_whatever_it_is():
    good, bad = scalars(2.0, math.nan)
    found = weighted_sum({"good": good, "bad": bad}, {"bad": 0.0})
    found.loss.backward()
    assert found.loss.item() == 2
    assert bad.grad is None
    assert math.isnan(found.parts["bad"].item())
    assert weighted_sum({"good": good}, {"good": 0.0}).loss.item() == 0


def test_uncertainty_is_the_negative_log_likelihood_of_a_gaussian():
    """Where it comes from: for an error of `r` and a variance of `e^s`, `-log N(r; 0, e^s)` up to a constant."""
    (r,), (s,) = scalars(1.7), scalars(0.4)
    found = uncertainty_weighted({"r": r**2}, {"r": s})
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), (s / 2).exp())
    assert_same(found.loss, -normal.log_prob(r) - math.log(2 * math.pi) / 2)
    assert_same(found.loss, nn.GaussianNLLLoss()(torch.zeros_like(r), r, s.exp()))


def test_uncertainty_known_values():
    parts = dict(zip("xyz", scalars(0.25, 3.0, 70.0), strict=True))
    s = dict(zip("xyz", scalars(0.0, 0.0, 0.0), strict=True))
    assert_same(uncertainty_weighted(parts, s).loss, sum(parts.values()) / 2)
    best = {name: part.detach().log().requires_grad_() for name, part in parts.items()}
    found = uncertainty_weighted(parts, best)
    found.loss.backward()
    assert_same(found.loss, sum((1 + part.log()) / 2 for part in parts.values()))
    for name, part in parts.items():
        assert best[name].grad.item() == pytest.approx(0, abs=1e-12)
        assert part.grad.item() == pytest.approx(1 / (2 * part.item()))  # as the gradient of log(L) / 2
        assert found.weights[name].item() == pytest.approx(1 / (2 * part.item()))


def test_at_its_best_the_unit_of_a_term_does_not_matter():
    found = []
    for unit in (1.0, 1000.0):
        (x,) = scalars(3.0)
        uncertainty_weighted({"x": unit * x}, {"x": torch.tensor(math.log(3 * unit)).double()}).loss.backward()
        found.append(x.grad.item())
    assert found[0] == pytest.approx(found[1])


def test_module_sums_and_learns_what_its_terms_learn():
    audio, visual = pairs(B, D, dtype=torch.float64)
    label = torch.arange(B) % K
    centre, nce = CenterLoss(K, D).double(), InfoNCELoss().double()
    objectives = {"centre": centre, "nce": lambda a, v, label: nce(a, v), "align": align, "length": length}
    both = WeightedObjective(objectives, {"centre": 0.5, "length": 0.01})
    assert [p.shape for p in both.parameters()] == [(K, D)]  # what a lambda holds is hidden
    found = both(audio, visual, label)
    expected = 0.5 * centre(audio, visual, label).loss + nce(audio, visual).loss + align(audio, visual, label).loss
    assert_same(found.loss, (expected + 0.01 * length(audio, visual, label)).detach())
    assert list(found.parts) == list(objectives)
    found.loss.backward()
    assert centre.centres.grad.abs().sum() > 0
    nested = WeightedObjective({"both": both, "align": align})
    assert_same(nested(audio, visual, label).loss, found.loss + align(audio, visual, label).loss)
    assert len(list(nested.parameters())) == 1


def test_learned_weights_find_the_log_of_a_term_and_stay_within_bounds():
    audio, visual = pairs(B, D)
    label = torch.arange(B) % K
    both = UncertaintyWeighting({"align": align, "length": length, "nothing": lambda a, v, label: 0 * length(a, v, 0)})
    assert list(both.state_dict()) == ["log_variances"]
    optimiser = torch.optim.Adam(both.parameters(), lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        both(audio, visual, label).loss.backward()
        optimiser.step()
    found = both(audio, visual, label)
    for name in ("align", "length"):
        assert found.weights[name].item() == pytest.approx(1 / (2 * found.parts[name].item()), rel=1e-2)
    # a term that costs nothing is wanted without end: the bound ends it
    assert found.weights["nothing"].item() == pytest.approx(math.exp(6) / 2, rel=1e-3)
    assert both.log_variances.min().item() == pytest.approx(-6, abs=1e-6)


SUMS = {
    "weighted": WeightedObjective({"align": align, "length": length}, {"length": 0.3}),
    "uncertain": UncertaintyWeighting({"align": align, "length": length}),
}


@pytest.mark.parametrize("name", SUMS)
def test_gradients_are_right_and_nothing_breaks(name):
    label = torch.arange(B) % K
    assert_gradient(lambda a, v: SUMS[name](a, v, label).loss)
    assert_finite(lambda a, v: SUMS[name](a, v, label).loss)
    assert_order_is_free(lambda a, v: SUMS[name](a, v, label).loss)


def test_errors_teach():
    x, y = scalars(1.0, -2.0)
    for call in (lambda: weighted_sum({}, {}), lambda: WeightedObjective({}), lambda: UncertaintyWeighting({})):
        with pytest.raises(ValueError, match="one term or more"):
            call()
    with pytest.raises(ValueError, match=r"a weight for 'aling', which is none of the terms \['align'\]"):
        WeightedObjective({"align": align}, {"aling": 1.0})
    with pytest.raises(ValueError, match="weight of 'x' must be 0 or more, got -1"):
        weighted_sum({"x": x}, {"x": -1.0})
    with pytest.raises(ValueError, match="weight of 'x' must be 0 or more, got nan"):
        weighted_sum({"x": x}, {"x": math.nan})
    with pytest.raises(ValueError, match=r"term 'x' must be a scalar, got \(4,\)"):
        weighted_sum({"x": torch.zeros(4)}, {})
    with pytest.raises(ValueError, match="term 'y' is -2"):
        uncertainty_weighted({"y": y}, {"y": x})
    with pytest.raises(ValueError, match="the same names"):
        uncertainty_weighted({"y": x}, {"x": x})
    with pytest.raises(ValueError, match="lowest <= 0 <= highest"):
        UncertaintyWeighting({"align": align}, lowest=1.0)

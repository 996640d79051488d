"""Linear and deep CCA against cca-zoo and scikit-learn, correlation as cross-entropy against torch's own losses."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses.correlation import correlation_cross_entropy, deep_cca, linear_cca


def views(B: int = 97, D1: int = 7, D2: int = 5, shared: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy mixtures of the same hidden causes."""
    g = torch.Generator().manual_seed(seed)
    cause = torch.randn(B, shared, generator=g, dtype=torch.float64)
    audio = cause @ torch.randn(shared, D1, generator=g).double() + torch.randn(B, D1, generator=g).double()
    visual = cause @ torch.randn(shared, D2, generator=g).double() + torch.randn(B, D2, generator=g).double() + 4
    return audio, visual


def correlation(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    return np.array([np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(x.shape[1])])


def test_correlations_are_cca_zoos():
    cca_zoo = pytest.importorskip("cca_zoo.linear")
    audio, visual = views()
    model = cca_zoo.CCA(n_components=5).fit([audio.numpy(), visual.numpy()])
    a, v = model.transform([audio.numpy(), visual.numpy()])
    found = linear_cca(audio, visual, components=5, ridge=0.0)
    np.testing.assert_allclose(found.correlations.numpy(), correlation(a, v), atol=1e-5)


def test_correlations_are_scikit_learns():
    from sklearn.cross_decomposition import CCA

    audio, visual = views()
    a, v = CCA(n_components=4, max_iter=20000, tol=1e-12).fit_transform(audio.numpy(), visual.numpy())
    found = linear_cca(audio, visual, components=4, ridge=0.0)
    np.testing.assert_allclose(found.correlations.numpy(), correlation(a, v), atol=1e-5)


def test_projections_have_the_stated_correlations_unit_variance_and_nothing_else_in_common():
    audio, visual = views()
    found = linear_cca(audio, visual, components=5, ridge=0.0)
    a, v = found.project_audio(audio), found.project_visual(visual)
    both = torch.cat([a, v], dim=1)
    diagonal = torch.diag(found.correlations)
    expected = torch.cat([torch.cat([torch.eye(5), diagonal], 1), torch.cat([diagonal, torch.eye(5)], 1)], 0).double()
    torch.testing.assert_close(both.T @ both / len(audio), expected, atol=1e-9, rtol=0)
    assert (found.correlations.diff() <= 0).all()


def test_known_answers():
    audio, _ = views()
    turned = audio @ torch.randn(7, 7, generator=torch.Generator().manual_seed(1)).double() + 3
    assert linear_cca(audio, turned, components=7, ridge=0.0).correlations.numpy() == pytest.approx(np.ones(7))
    one, other = audio[:, :1], audio[:, 1:2]
    pearson = abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1])
    assert linear_cca(one, other, components=1, ridge=0.0).correlations.item() == pytest.approx(pearson)


def test_units_do_not_matter_and_nor_does_mixing_without_a_ridge():
    audio, visual = views()
    plain = linear_cca(audio, visual, components=4)
    scaled = linear_cca(1e6 * audio - 7, visual / 1e4, components=4)
    torch.testing.assert_close(scaled.correlations, plain.correlations)
    torch.testing.assert_close(scaled.project_visual(visual / 1e4), plain.project_visual(visual))
    mix = torch.randn(7, 7, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(
        linear_cca(audio @ mix, visual, components=4, ridge=0.0).correlations,
        linear_cca(audio, visual, components=4, ridge=0.0).correlations,
    )


def test_ridge_shrinks():
    audio, visual = views()
    falling = [linear_cca(audio, visual, components=5, ridge=r).correlations.sum() for r in (0.0, 0.01, 0.1, 1.0)]
    assert all(a > b for a, b in pairwise(falling))


def test_many_regions_at_once_are_the_loop_also_with_two_threads():
    audio, _ = views(B=64)
    g = torch.Generator().manual_seed(3)
    regions = torch.randn(6, 4, 64, 3, generator=g).double() + audio[:, :3]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # batched LU of some builds fails with two threads; Cholesky must not
    try:
        found = linear_cca(audio, regions, components=2)
    finally:
        torch.set_num_threads(threads)
    assert found.correlations.shape == (6, 4, 2)
    one = linear_cca(audio, regions[5, 1], components=2)
    torch.testing.assert_close(found.correlations[5, 1], one.correlations)
    torch.testing.assert_close(found.project_visual(regions)[5, 1], one.project_visual(regions[5, 1]))
    torch.testing.assert_close(found.project_audio(audio)[5, 1], one.project_audio(audio))


def test_matches_held_out_pairs_and_not_shuffled_ones():
    audio, visual = views(B=300, D1=12, D2=9, shared=6)
    found = linear_cca(audio[:200], visual[:200], components=6)
    similarity = found.similarity(audio[200:], visual[200:])
    assert similarity.shape == (100, 100)
    assert similarity.abs().max() <= 1 + 1e-9
    assert (similarity.argmax(dim=1) == torch.arange(100)).double().mean() > 0.3
    shuffled = linear_cca(
        audio[:200], visual[torch.randperm(200, generator=torch.Generator().manual_seed(0))], components=6
    )
    chance = shuffled.similarity(audio[200:], visual[200:]).argmax(dim=1) == torch.arange(100)
    assert chance.double().mean() < 0.1


def test_float32_in_float32_out_and_the_same_numbers_twice():
    audio, visual = (x.float() for x in views())
    found, again = (linear_cca(audio, visual, components=3) for _ in range(2))
    assert all(x.dtype == torch.float32 for x in found)
    assert all(torch.equal(x, y) for x, y in zip(found, again, strict=True))


def test_errors_teach():
    audio, visual = views(B=7)
    with pytest.raises(ValueError, match=r"batch 7 is too small for dimensions 7 and 5.*ridge"):
        linear_cca(audio, visual, components=2, ridge=0.0)
    assert torch.isfinite(linear_cca(audio, visual, components=2).correlations).all()
    audio, visual = views()
    with pytest.raises(ValueError, match=r"components must lie in 1\.\.5"):
        linear_cca(audio, visual, components=6)
    with pytest.raises(ValueError, match="paired by row"):
        linear_cca(audio, visual[:-1], components=2)
    with pytest.raises(ValueError, match="visual does not vary"):
        linear_cca(audio, torch.ones_like(visual), components=2)
    with pytest.raises(ValueError, match="covariance of audio is singular"):
        linear_cca(torch.cat([audio, audio[:, :1]], dim=1), visual, components=2, ridge=0.0)
    with pytest.raises(ValueError, match="visual holds NaN"):
        linear_cca(audio, visual * float("nan"), components=2)
    with pytest.raises(ValueError, match="ridge must be 0 or more"):
        linear_cca(audio, visual, components=2, ridge=-1.0)


def test_deep_cca_has_the_correlations_of_linear_cca():
    audio, visual = pairs(97, 5, dtype=torch.float64)
    for ridge in (0.0, 1e-3, 0.3):
        found = deep_cca(audio, visual, ridge=ridge)
        known = linear_cca(audio, visual, components=5, ridge=ridge).correlations
        assert_same(found.correlations, known)
        assert_same(found.loss, -known.sum())
        assert_same(deep_cca(audio, visual, ridge=ridge, components=2).loss, -known[:2].sum())
        assert_same(deep_cca(audio, visual, ridge=ridge, components=3, squared=True).loss, -known[:3].square().sum())


@pytest.mark.parametrize("reg_covar", [1e-9, 0.02])
def test_squared_is_cca_zoos_loss_and_gradient(reg_covar):
    objectives = pytest.importorskip("cca_zoo.deep.objectives")
    B, D = 31, 5
    audio, visual = pairs(B, D, dtype=torch.float64)
    # its ridge is absolute and its covariance divided by B - 1; ours is relative to the mean variance
    audio, visual = (x / (x - x.mean(0)).square().mean().sqrt() for x in (audio, visual))
    theirs, ours = ([x.clone().requires_grad_() for x in (audio, visual)] for _ in range(2))
    loss = objectives.CCALoss(reg_covar=reg_covar)(theirs)
    found = deep_cca(*ours, ridge=reg_covar * (B - 1) / B, squared=True).loss
    assert_same(found, loss)
    # the mean variance moves with the points: along that scale their ridge has a gradient and ours has none
    for x, gradient in zip(ours, torch.autograd.grad(found, ours), strict=True):
        assert abs((gradient * (x - x.mean(0))).sum()) < 1e-9
    if reg_covar < 1e-6:
        for mine, other in zip(torch.autograd.grad(
            deep_cca(*ours, ridge=reg_covar, squared=True).loss, ours), torch.autograd.grad(loss, theirs), strict=True
        ):  # fmt: skip
            assert_same(mine, other)


def test_deep_cca_is_the_nuclear_norm_with_symmetric_roots():
    audio, visual = (x.requires_grad_() for x in pairs(23, 4, dtype=torch.float64))
    a, v = (x - x.mean(0) for x in (audio, visual))
    roots = []
    for x in (a, v):
        values, vectors = torch.linalg.eigh(x.T @ x / 23)
        roots.append(vectors @ torch.diag(values.rsqrt()) @ vectors.T)
    slow = -torch.linalg.matrix_norm(roots[0] @ (a.T @ v / 23) @ roots[1], "nuc")
    found = deep_cca(audio, visual, ridge=0.0).loss
    assert_same(found, slow)
    for mine, other in zip(*(torch.autograd.grad(x, (audio, visual)) for x in (found, slow)), strict=True):
        assert_same(mine, other)


def test_trained_linear_projections_reach_linear_cca():
    audio, visual = views()
    best = linear_cca(audio, visual, components=3, ridge=0.0).correlations.sum()
    g = torch.Generator().manual_seed(5)
    weights = [torch.randn(D, 3, generator=g).double().requires_grad_() for D in (7, 5)]
    start = deep_cca(audio @ weights[0], visual @ weights[1], ridge=0.0).loss
    optimiser = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = deep_cca(audio @ weights[0], visual @ weights[1], ridge=0.0).loss
        loss.backward()
        return loss

    optimiser.step(closure)
    assert -start < best - 0.3
    assert closure().item() == pytest.approx(-best.item(), abs=1e-6)


def test_deep_cca_known_values():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    assert deep_cca(x, 3 - 7 * x.flip(1), ridge=0.0).loss.item() == pytest.approx(-2)
    half = torch.tensor([[1.0, 1], [1, -1], [-1, -1], [-1, 1]]).double()  # the first dimension kept, the second not
    assert deep_cca(x, half, ridge=0.0).correlations.tolist() == pytest.approx([1, 0])
    assert deep_cca(x, x, ridge=1.0).loss.item() == pytest.approx(-1)  # variance 1, ridge 1: 1 / (1 + 1) each
    assert deep_cca(x, x, ridge=1.0, squared=True).loss.item() == pytest.approx(-0.5)


def test_noise_correlates_by_chance_as_the_docstring_says():
    B, D = 91, 13
    noise = [deep_cca(*torch.randn(2, B, D, generator=torch.Generator().manual_seed(s)), ridge=0.0).correlations
             for s in range(60)]  # fmt: skip
    assert torch.stack(noise).square().mean().item() == pytest.approx(D / (B - 1), rel=0.03)
    c = D / B
    assert torch.stack(noise).amax(1).mean().item() == pytest.approx(2 * math.sqrt(c * (1 - c)), abs=0.05)
    few = torch.randn(2, D + 1, D, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(ValueError, match=r"batch 14 is too small for D=13.*52 clips"):
        deep_cca(*few)
    with pytest.raises(ValueError, match="batch 7 is too small"):
        deep_cca(*few[:, :7], ridge=0.05)
    twice = torch.randn(2, 2 * D, D, generator=torch.Generator().manual_seed(0)).double()
    assert deep_cca(*twice, ridge=0.0).correlations[0].item() == pytest.approx(1, abs=1e-9)  # one for certain
    assert deep_cca(*twice, ridge=0.0).correlations[1].item() < 1 - 1e-6
    almost = torch.randn(2, D + 2, D, generator=torch.Generator().manual_seed(0)).double()
    assert deep_cca(*almost, ridge=0.0).correlations[-2].item() == pytest.approx(1, abs=1e-9)  # all but one
    assert deep_cca(*few, ridge=1.0).correlations.mean() < 0.5


def test_deep_cca_does_not_mind_mixing_units_and_order():
    audio, visual = pairs(41, 5, dtype=torch.float64)
    loss = deep_cca(audio, visual, ridge=0.0).loss
    mix = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1)).double()
    assert_same(deep_cca(audio @ mix[0] + 3, visual @ mix[1] - 1, ridge=0.0).loss, loss)
    assert_same(deep_cca(1e5 * audio, visual / 1e3).loss, deep_cca(audio, visual).loss)
    assert_same(deep_cca(visual, audio).loss, deep_cca(audio, visual).loss)
    assert_order_is_free(lambda a, v: deep_cca(a, v).loss)
    assert not torch.isclose(deep_cca(audio, visual.roll(1, 0), ridge=0.0).loss, loss, atol=0.1)


@pytest.mark.parametrize("squared", [False, True])
def test_deep_cca_gradient_also_where_correlations_repeat_or_vanish(squared):
    assert_gradient(lambda a, v: deep_cca(a, v, squared=squared).loss, B=7, D=3)
    assert_gradient(lambda a, v: deep_cca(a, v, components=1, squared=squared).loss, B=7, D=3)
    refused = ("all zero", "zero against random", "duplicates")
    assert_finite(lambda a, v: deep_cca(a, v, squared=squared).loss, smallest=2, refuses=refused, B=13, D=5)
    x = torch.randn(17, 3, generator=torch.Generator().manual_seed(0)).double()
    q = torch.linalg.qr(torch.cat([torch.ones(17, 1), torch.randn(17, 8)], 1).double()).Q[:, 1:]
    for audio, visual in ((x, x @ torch.randn(3, 3).double()), (q[:, :4], q[:, 4:]), (q[:, :3], q[:, [1, 0, 6]])):
        a, v = audio.clone().requires_grad_(), visual.clone().requires_grad_()
        deep_cca(a, v, ridge=0.0, squared=squared).loss.backward()
        assert all(torch.isfinite(one.grad).all() and one.grad.abs().max() < 100 for one in (a, v))


def test_equation_4_as_printed_turns_pairs_against_each_other():
    audio, visual = views()
    rho = linear_cca(audio, visual, components=1, ridge=0.0).correlations.item()

    def printed(wa: torch.Tensor, wv: torch.Tensor) -> torch.Tensor:
        a, v = audio - audio.mean(0), visual - visual.mean(0)
        n = len(a)
        top = wa @ (a.T @ v / n) @ wv
        ratio = top / ((wa @ (a.T @ a / n) @ wa) * (wv @ (v.T @ v / n) @ wv)).sqrt()
        return torch.stack([ratio] * n).sum() / n  # nothing under the sum depends on i

    found = {}
    for sign in (1, -1):
        weights = [torch.ones(D, dtype=torch.float64, requires_grad=True) for D in (7, 5)]
        optimiser = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

        def closure(optimiser=optimiser, weights=weights, sign=sign) -> torch.Tensor:
            optimiser.zero_grad()
            loss = sign * printed(*weights)
            loss.backward()
            return loss

        optimiser.step(closure)
        found[sign] = correlation(*((x @ w[:, None]).detach() for x, w in zip((audio, visual), weights, strict=True)))
    assert found[1].item() == pytest.approx(-rho, abs=1e-5)  # made small, as a loss is, the print finds the opposite
    assert found[-1].item() == pytest.approx(rho, abs=1e-5)  # with the minus sign: the canonical correlation
    # for several directions the ratio is one of matrices: taken entry by entry, roots of numbers below 0
    many = [torch.randn(D, 3, generator=torch.Generator().manual_seed(3)).double() for D in (7, 5)]
    many[0][:, 1] = -many[0][:, 0]
    covariance = [x.T.cov(correction=0) for x in (audio, visual)]
    below = (many[0].T @ covariance[0] @ many[0]) @ (many[1].T @ covariance[1] @ many[1])
    assert below.shape == (3, 3)
    assert torch.isnan(below.sqrt()).any()


def labelled(B: int = 7, D: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return *pairs(B, D, dtype=torch.float64), torch.tensor([2, 0, 2, 1, 0, 2, 9, 1, 1])[:B]


def test_correlation_cross_entropy_is_the_slow_loop_and_torchs_binary_cross_entropy():
    audio, visual, label = labelled()
    for scale, intercept in ((0.5, 0.0), (7.0, -2.3)):
        found = correlation_cross_entropy(audio, visual, label=label, scale=scale, intercept=intercept)
        for term, x, y in (
            (found.across, audio, visual),
            (found.within_audio, audio, audio),
            (found.within_visual, visual, visual),
        ):
            slow = 0.0
            for i in range(7):
                for j in range(7):
                    A = scale * F.cosine_similarity(x[i], y[j], dim=0).item() + intercept
                    slow += (math.log(1 + math.exp(A)) - (label[i] == label[j]).item() * A) / 49
            assert term.item() == pytest.approx(slow, abs=1e-9)
            A = scale * F.cosine_similarity(x[:, None], y[None], dim=-1) + intercept
            assert_same(term, F.binary_cross_entropy_with_logits(A, (label[:, None] == label).double()))
        assert_same(found.loss, found.across + found.within_audio + found.within_visual)
        assert found.positive_share.item() == pytest.approx(15 / 49)
        assert_same(found.logits[2, 4], scale * F.cosine_similarity(audio[2], visual[4], dim=0) + intercept)
        assert found.same[0, 2]
        assert not found.same[0, 1]


def test_correlation_cross_entropy_known_values():
    label = torch.tensor([0, 1, 1, 0, 1])
    perfect = torch.where(label[:, None] == 0, 3.0, -2.0).double().expand(5, 3)
    found = correlation_cross_entropy(perfect, 2 * perfect, label=label)
    assert found.across.item() == pytest.approx(math.log(1 + math.exp(-0.5)))
    assert round(found.across.item(), 3) == 0.474  # the best there is, a pair and term
    assert found.loss.item() == pytest.approx(3 * 0.4740769841801067)
    assert correlation_cross_entropy(perfect, perfect, label=label, scale=20.0).loss.item() < 1e-7
    zero = torch.zeros(5, 3)
    assert correlation_cross_entropy(zero, zero, label=label).across.item() == pytest.approx(math.log(2))
    alone = correlation_cross_entropy(
        torch.zeros(9, 4), torch.zeros(9, 4), label=torch.arange(9), intercept=-math.log(8)
    )
    assert alone.positive_share.item() == pytest.approx(1 / 9)
    rare = -(math.log(1 / 9) + 8 * math.log(8 / 9)) / 9  # the entropy of how rare a yes is: all that an intercept knows
    assert alone.across.item() == pytest.approx(rare)


def test_equation_5_as_printed_loses_the_mean_and_the_pairs():
    audio, visual, label = labelled()
    A = 0.5 * F.cosine_similarity(audio[:, None], visual[None], dim=-1)
    same = (label[:, None] == label[None]).double()
    right = -A * same + F.softplus(A)  # the print's right-hand side: a matrix, not a number
    left = (F.softplus(A) - same * A).sum() / 7**2
    assert right.shape == (7, 7)
    assert_same(left, correlation_cross_entropy(audio, visual, label=label).across)
    assert right.sum() / left == pytest.approx(49)  # summed up, it grows with the square of the batch
    one_y = (F.softplus(A) - 1 * A).mean()  # one y for all pairs, as printed: a pair is a positive with everybody
    together = torch.ones(7, 5).double()
    collapsed = correlation_cross_entropy(together, together, label=label).across
    best = (F.softplus(torch.tensor(0.5)) - 0.5).item()
    assert one_y > best
    assert (F.softplus(torch.full((7, 7), 0.5)) - 0.5).mean().item() == pytest.approx(best)  # collapse is its optimum
    assert collapsed > math.log(2)  # with a y of each pair, collapse is worse than guessing


def test_correlation_cross_entropy_invariances_gradient_and_hard_inputs():
    audio, visual, label = labelled()
    known = correlation_cross_entropy(audio, visual, label=label).loss
    order = torch.tensor([3, 0, 6, 4, 1, 2, 5])
    assert_same(correlation_cross_entropy(audio[order], visual[order], label=label[order]).loss, known)
    assert_same(correlation_cross_entropy(7 * audio, visual / 3, label=label).loss, known)
    assert_same(correlation_cross_entropy(audio, visual, label=9 - label).loss, known)  # names do not matter
    assert_same(correlation_cross_entropy(visual, audio, label=label).loss, known)
    assert not torch.isclose(correlation_cross_entropy(audio, visual, label=label.roll(1)).loss, known)
    assert_gradient(lambda a, v: correlation_cross_entropy(a, v, label=label[:5]).loss)
    assert_finite(lambda a, v: correlation_cross_entropy(a, v, label=label[: len(a)]).loss)


def test_errors_of_the_losses_teach():
    audio, visual, label = labelled()
    with pytest.raises(ValueError, match=r"\(7, 5\) and \(6, 5\)"):
        deep_cca(audio, visual[:6])
    with pytest.raises(ValueError, match=r"components must lie in 1\.\.5"):
        deep_cca(audio, visual, components=6)
    with pytest.raises(ValueError, match="ridge must be 0 or more"):
        deep_cca(audio, visual, ridge=-0.1)
    with pytest.raises(ValueError, match=r"visual does not vary.*collapsed"):
        deep_cca(*pairs(31, 3)[:1], torch.full((31, 3), 0.1) + 1e-9 * torch.randn(31, 3))
    with pytest.raises(ValueError, match="batch of 2, got 1"):
        deep_cca(audio[:1], visual[:1])
    with pytest.raises(ValueError, match=r"label must be \(7,\) whole numbers"):
        correlation_cross_entropy(audio, visual, label=label[:6])
    with pytest.raises(ValueError, match="scale must be above 0"):
        correlation_cross_entropy(audio, visual, label=label, scale=0.0)
    with pytest.raises(ValueError, match=r"\(7, 5\) and \(7, 3\)"):
        correlation_cross_entropy(audio, visual[:, :3], label=label)

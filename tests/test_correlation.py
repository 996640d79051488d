"""Linear CCA against cca-zoo and scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from avlab.losses.correlation import linear_cca


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

"""Correlation without classes or negatives: paired dimensions agree, unpaired ones repeat nothing.

Survey section 3.2 v names the goal, a cross-correlation matrix close to the identity, and reference 175 for it: Barlow
Twins (Zbontar et al. 2021), here across sound and sight. VICReg (Bardes et al. 2022) reaches for the same with two
covariances instead of one matrix between the senses. Both look at spreads, so give them embeddings of any length. Left
out here: momentum encoders, whitening.

Conventions as in `avlab.losses.similarity`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import at_least_float32, check_pairs, full_precision


class BarlowTwins(NamedTuple):
    """`loss` = `invariance` + weight * `redundancy` (scalars, no unit); `correlation` (D, D), audio in rows."""

    loss: torch.Tensor
    invariance: torch.Tensor
    redundancy: torch.Tensor
    correlation: torch.Tensor


def barlow_twins(audio: torch.Tensor, visual: torch.Tensor, *, weight: float = 5e-3, eps: float = 1e-5) -> BarlowTwins:
    """The correlations between the dimensions of sound and those of sight, brought to the identity matrix.

    `loss = sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2`, where `C_ij` in [-1, 1] is the correlation over the batch
    of dimension `i` of `audio` (B, D) with dimension `j` of `visual` (B, D); `invariance` is the first sum and
    `redundancy` the second. 0 is perfect, D the loss of a collapse. Shift and unit of a dimension do not matter, as
    long as its variance is well above `eps`; mixing dimensions does, unlike in `deep_cca`. One matrix (D, D) and no
    inverse of it: costs grow with `B D^2`, and a small batch makes `C` noisy (`1 / sqrt(B)` an entry), not singular.

    Reference: survey section 3.2 v, 175. Differs from the survey: this, not equation 4, is the loss with the identity
    for its goal. Differs from the paper: two senses with a network each in place of two distortions of one picture.

    Raises `ValueError` where the shapes are not one (B, D), the batch is a single clip, weight is below 0, or
    eps is not above 0.

    >>> points = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(barlow_twins(points, 3 * points + 7).loss.item(), 4)
    0.0
    >>> found = barlow_twins(points, points.flip(1))
    >>> round(found.invariance.item(), 3), round(found.redundancy.item(), 3)
    (2.0, 2.0)
    """
    B = check_pairs(audio, visual, smallest=2)
    if weight < 0 or not eps > 0:
        raise ValueError(f"weight must be 0 or more and eps above 0, got {weight} and {eps}")
    with full_precision(audio):
        a, v = (F.batch_norm(at_least_float32(x), None, None, training=True, eps=eps) for x in (audio, visual))
        C = a.T @ v / B  # (D, D)
        invariance = (1 - C.diagonal()).square().sum()
        redundancy = _off_diagonal(C)
    return BarlowTwins(invariance + weight * redundancy, invariance, redundancy, C)


class VICReg(NamedTuple):
    """`loss`, the weighted sum of its three terms (scalars, unweighted): `variance`, `invariance`, `covariance`."""

    loss: torch.Tensor
    variance: torch.Tensor
    invariance: torch.Tensor
    covariance: torch.Tensor


def vicreg(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    variance_weight: float = 25.0,
    invariance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    eps: float = 1e-4,
) -> VICReg:
    """Pairs agree, each dimension varies, and no two dimensions of one modality vary together.

    - `variance = mean over a, v of mean_i max(0, 1 - sqrt(var_i + eps))`: each dimension has a spread of 1 or more;
    - `invariance = mean_{bi} (a_bi - v_bi)^2`;
    - `covariance = sum over a, v of 1/D sum_{i != j} Cov_ij^2`.

    `audio`, `visual` (B, D) with a length of their own: the unit matters. Variances are divided by B - 1. 0 is perfect.
    The gradient grows with the third power of the length: lengths in the thousands overflow an encoder's float16.
    Each term alone is easily satisfied by nonsense: without variance by one point for everything, without invariance by
    noise, without covariance by one dimension repeated D times.

    Reference: Bardes et al. 2022; not in the survey, where it stands beside 175. Differs from the paper: the variance
    terms of both modalities are averaged, not added, as in its authors' code and in other implementations.

    Raises `ValueError` where the shapes are not one (B, D), the batch is a single clip, or eps is not above 0.

    >>> points = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(vicreg(points, points).loss.item(), 3), round(vicreg(points, -points).invariance.item(), 3)
    (0.0, 4.0)
    >>> round(vicreg(torch.zeros(3, 2), torch.zeros(3, 2)).variance.item(), 3)
    0.99
    """
    B = check_pairs(audio, visual, smallest=2)
    if not eps > 0:
        raise ValueError(f"eps must be above 0 (the slope of a root at 0 is infinite), got {eps}")
    with full_precision(audio):
        a, v = at_least_float32(audio), at_least_float32(visual)
        invariance = F.mse_loss(a, v)
        variance = covariance = a.new_zeros(())
        for x in (a, v):
            centred = x - x.mean(0)
            S = centred.T @ centred / (B - 1)  # (D, D)
            variance = variance + F.relu(1 - (S.diagonal() + eps).sqrt()).mean() / 2
            covariance = covariance + _off_diagonal(S) / len(S)
    loss = variance_weight * variance + invariance_weight * invariance + covariance_weight * covariance
    return VICReg(loss, variance, invariance, covariance)


def _off_diagonal(matrix: torch.Tensor) -> torch.Tensor:
    """Sum of squares off the diagonal of a square matrix."""
    return (matrix - torch.diag(matrix.diagonal())).square().sum()

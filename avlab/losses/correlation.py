"""Canonical correlation: the directions in which sound and sight vary together, found at once or learned as a loss.

Survey section 3.2 v. `linear_cca` (reference 109 among others; Hotelling 1936) needs no training: two covariances and a
singular value decomposition. `deep_cca` (equation 4, references 176, 181; Andrew et al. 2013) is the same number as a
loss for networks, `correlation_cross_entropy` (equation 5, reference 186) its form without a covariance.
Left out here: kernels, more than two views, covariances that are averaged over batches.

Conventions of the losses as in `avlab.losses.similarity`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision

LEAST_SPREAD = 1e-6  # of the size of the embeddings: a smaller spread over the batch is float32's rounding
RIDGE_FOR_FEW = 0.1  # of D + 1 clips or fewer a smaller one leaves noise correlations of nearly 1


class LinearCCA(NamedTuple):
    """`correlations` (..., k) in [0, 1], falling; weights (..., D1, k), (..., D2, k); means (..., D1), (..., D2)."""

    correlations: torch.Tensor
    audio_weights: torch.Tensor
    visual_weights: torch.Tensor
    audio_mean: torch.Tensor
    visual_mean: torch.Tensor

    def project_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """Canonical variates of sounds: (..., B, D1) -> (..., B, k)."""
        return (audio - self.audio_mean.unsqueeze(-2)) @ self.audio_weights

    def project_visual(self, visual: torch.Tensor) -> torch.Tensor:
        """Canonical variates of pictures: (..., B, D2) -> (..., B, k)."""
        return (visual - self.visual_mean.unsqueeze(-2)) @ self.visual_weights

    def similarity(self, audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        """Cosine of each sound with each picture in the canonical space, for pairs not seen in the fit.

        (..., A, D1) and (..., B, D2) -> (..., A, B) in [-1, 1], higher is a better match; at k = 1 only the sign is
        left, so ask for more components.
        """
        a, v = self.project_audio(audio), self.project_visual(visual)
        return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(v, dim=-1).mT


def linear_cca(audio: torch.Tensor, visual: torch.Tensor, *, components: int, ridge: float = 1e-3) -> LinearCCA:
    """Weights whose projections of paired samples correlate most, in falling order and uncorrelated among themselves.

    `max corr(audio w_a, visual w_v)`; all `k` at once: `T = S_aa^(-1/2) S_av S_vv^(-1/2)`, the correlations are the
    singular values of `T`. `audio` (..., B, D1), `visual` (..., B, D2), paired by row; leading dimensions are separate
    problems, solved together, and broadcast (one sound against each region of a picture). Computed in float64 by
    Cholesky factors, returned in the type of the input. On the fitted samples the projections have variance 1 (at ridge
    0) and positive correlation; the sign of a pair is such that the largest audio weight is positive.

    `ridge` is relative: `S_aa + ridge * mean variance of audio * I`, likewise for visual, so that units do not matter.
    With it, correlations shrink a little; without it, B samples must outnumber the dimensions, and even then a
    correlation near 1 may be chance: judge on held-out samples.

    Differs from the survey: equation 4 is a quantity to maximise and is a ratio of numbers only for one direction; for
    several, the sum of singular values stands in its place. Its `Sigma_av` is a covariance, not a correlation.

    Raises `ValueError` where shapes disagree, a modality is constant, `components` exceeds `min(D1, D2)`, or the
    covariance is singular (batch too small for ridge 0).

    >>> g = torch.Generator().manual_seed(0)
    >>> cause = torch.randn(200, 1, generator=g)
    >>> audio = torch.cat([cause, torch.randn(200, 2, generator=g)], dim=1)
    >>> visual = torch.cat([torch.randn(200, 1, generator=g), 5 - cause / 100], dim=1)
    >>> [round(r, 2) for r in linear_cca(audio, visual, components=2, ridge=0.0).correlations.tolist()]
    [1.0, 0.11]
    """
    B = _check(audio, visual, components, ridge)
    a, v = audio.double(), visual.double()
    a_mean, v_mean = a.mean(dim=-2), v.mean(dim=-2)
    a, v = a - a_mean.unsqueeze(-2), v - v_mean.unsqueeze(-2)
    La = _covariance_root("audio", a, ridge)  # (..., D1, D1), lower triangular
    Lv = _covariance_root("visual", v, ridge)
    cross = a.mT @ v / B  # (..., D1, D2)
    T = torch.linalg.solve_triangular(La, cross, upper=False)
    T = torch.linalg.solve_triangular(Lv, T.mT, upper=False).mT
    U, correlations, Vh = torch.linalg.svd(T, full_matrices=False)
    Wa = torch.linalg.solve_triangular(La.mT, U[..., :components], upper=True)  # (..., D1, k)
    Wv = torch.linalg.solve_triangular(Lv.mT, Vh.mT[..., :components], upper=True)
    sign = torch.gather(Wa, -2, Wa.abs().argmax(dim=-2, keepdim=True)).sign()
    found = (correlations[..., :components].clamp(0, 1), Wa * sign, Wv * sign, a_mean, v_mean)
    return LinearCCA(*(x.to(audio.dtype) for x in found))


def _check(audio: torch.Tensor, visual: torch.Tensor, components: int, ridge: float) -> int:
    if audio.ndim < 2 or visual.ndim < 2 or audio.shape[-2] != visual.shape[-2]:
        raise ValueError(
            f"audio (..., B, D1) and visual (..., B, D2) must be paired by row, got {tuple(audio.shape)} and "
            f"{tuple(visual.shape)}"
        )
    B, D1, D2 = *audio.shape[-2:], visual.shape[-1]
    if not 1 <= components <= min(D1, D2):
        raise ValueError(
            f"components must lie in 1..{min(D1, D2)} (the smaller of D1={D1} and D2={D2}), got {components}"
        )
    if ridge < 0:
        raise ValueError(f"ridge must be 0 or more, got {ridge}")
    if B < 2 or (ridge == 0 and max(D1, D2) >= B):
        raise ValueError(
            f"batch {B} is too small for dimensions {D1} and {D2}: the covariance is singular and every correlation "
            "would be 1 by chance; take more samples (four to ten times the dimension) or raise `ridge` to 1e-3"
        )
    for name, x in (("audio", audio), ("visual", visual)):
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return B


def _covariance_root(name: str, x: torch.Tensor, ridge: float) -> torch.Tensor:
    """Cholesky factor of the covariance of centred x (..., B, D) plus the ridge."""
    B, D = x.shape[-2:]
    covariance = x.mT @ x / B  # (..., D, D)
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None]
    if (variance == 0).any():
        raise ValueError(f"{name} does not vary at all over the batch: nothing can correlate with it")
    # scaled by the variance, so that the check below is the same in any unit
    scaled = covariance / variance + ridge * torch.eye(D, dtype=x.dtype, device=x.device)
    root, failed = torch.linalg.cholesky_ex(scaled)
    if failed.any() or (root.diagonal(dim1=-2, dim2=-1) < 1e-7).any():
        raise ValueError(
            f"the covariance of {name} is singular: some of its {D} features are constant or repeat others; "
            "drop them or raise `ridge` to 1e-3"
        )
    return root * variance.sqrt()


class DeepCCA(NamedTuple):
    """`loss` (scalar, no unit) and the batch's canonical `correlations` (D,) in [0, 1], falling."""

    loss: torch.Tensor
    correlations: torch.Tensor


def deep_cca(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    components: int | None = None,
    ridge: float = 1e-3,
    squared: bool = False,
) -> DeepCCA:
    """Minus the sum of the `components` (default: all D) largest canonical correlations of a batch.

    `T = S_aa^(-1/2) S_av S_vv^(-1/2)`, `loss = -sum_{j <= k} sigma_j(T)`, from -k (perfect) to 0; `squared` sums their
    squares. `audio`, `visual` (B, D) of any length: no mixing of their dimensions and no unit changes the loss (ridge
    aside), so keep embeddings unnormalised. `ridge` is relative to the mean variance, as in `linear_cca`. Computed in
    float64. The gradient stays finite where correlations are zero or repeat: that of singular values alone is `U V^T`,
    without the differences in whose denominators that of singular vectors breaks down.

    Costs grow with `B D^2 + D^3`. Chance alone correlates: points that have nothing in common have a mean squared
    correlation of `D / (B - 1)`, the largest is near `2 sqrt(D/B (1 - D/B))`. At B <= 2D one is perfect, at B <= D + 1
    all are, and there is nothing to learn; so take B of 4 to 10 times D.

    Reference: survey equation 4, 176, 181; Andrew et al. 2013. Differs from the survey: equation 4 as printed has to be
    made large, not small; nothing under its sum depends on the index of the sum; for several directions it divides a
    matrix by a matrix. Differs from the paper: of each batch, not of all data at once; many implementations sum the
    squares (`squared=True`).

    Raises `ValueError` where shapes do not fit, `components` is not in 1..D, the batch is of D + 1 clips or fewer
    (and `ridge` below 0.1), or a modality does not vary over the batch.

    >>> g = torch.Generator().manual_seed(0)
    >>> cause, other = torch.randn(2, 200, 2, generator=g)
    >>> round(deep_cca(cause, 5 - 2 * cause, ridge=0.0).loss.item(), 3)
    -2.0
    >>> [round(r, 2) for r in deep_cca(cause, other).correlations.tolist()]
    [0.16, 0.03]
    """
    B = check_pairs(audio, visual, smallest=2)
    D = audio.shape[1]
    if components is not None and not 1 <= components <= D:
        raise ValueError(f"components must lie in 1..{D} (the dimension), got {components}")
    if ridge < 0:
        raise ValueError(f"ridge must be 0 or more, got {ridge}")
    if B <= D + 1 and ridge < RIDGE_FOR_FEW:
        raise ValueError(
            f"batch {B} is too small for D={D}: of so few clips any two sets of points correlate perfectly, with a "
            f"gradient that means nothing; take {4 * D} clips or more, fewer dimensions, or a `ridge` of 0.1 to 1"
        )
    with full_precision(audio):
        roots, centred = [], []
        for name, x in (("audio", audio.double()), ("visual", visual.double())):
            centred.append(x - x.mean(0))
            if centred[-1].square().mean() <= LEAST_SPREAD**2 * x.square().mean():
                raise ValueError(f"{name} does not vary over the batch: its embeddings have collapsed to one point")
            roots.append(_covariance_root(name, centred[-1], ridge))
        T = torch.linalg.solve_triangular(roots[0], centred[0].T @ centred[1] / B, upper=False)  # (D, D)
        T = torch.linalg.solve_triangular(roots[1], T.T, upper=False)
        correlations = torch.linalg.svdvals(T)
        best = correlations[:components]
        loss = -(best.square() if squared else best).sum()
        kind = at_least_float32(audio).dtype
        return DeepCCA(loss.to(kind), correlations.detach().clamp(0, 1).to(kind))


class CorrelationCrossEntropy(NamedTuple):
    """`loss` = `across` + `within_audio` + `within_visual` (scalars, nats a pair); what was asked and with what result.

    `logits` (B, B) = scale * cosine + intercept, a sound a row; `same` (B, B) bool the pairs of one class,
    `positive_share` in (0, 1] the share of those.
    """

    loss: torch.Tensor
    across: torch.Tensor
    within_audio: torch.Tensor
    within_visual: torch.Tensor
    logits: torch.Tensor
    same: torch.Tensor
    positive_share: torch.Tensor


def correlation_cross_entropy(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    label: torch.Tensor,
    scale: float = 0.5,
    intercept: float = 0.0,
) -> CorrelationCrossEntropy:
    """Are these two of one class? Logistic regression on the cosine, for all pairs across and within the modalities.

    `A_ij = scale cos(a_i, v_j) + intercept`; `across = 1/B^2 sum_ij (log(1 + exp(A_ij)) - y_ij A_ij)`, `y_ij` = 1 where
    labels agree, else 0; `within_audio` and `within_visual` likewise of `cos(a_i, a_j)` and `cos(v_i, v_j)`. `label`
    (B,); where no class is known, `torch.arange(B)` makes a positive of each clip with itself alone (share 1/B). So
    rare a yes needs an `intercept` well below 0 and a scale of about 10: without, all cosines stay near 0.
    No covariance: costs grow with `B^2 D`, any batch will do. A zero vector has the probability 1/2 with everybody.

    With `scale` 1/2 a probability stays between 0.378 and 0.622 and the best loss is 0.474 nats a pair and term, not 0;
    a larger scale lets it be surer. Guessing costs log 2 = 0.693.

    Reference: survey equation 5, 186 (DSCMR). Differs from the survey: the print's right-hand side has lost the mean
    over pairs, its label and embeddings carry no index, and of three terms only the first is there; the intercept is an
    addition (as in Zhai et al. 2023), 0 is the survey's.

    Raises `ValueError` where shapes do not fit, labels are no whole numbers, or the scale is not above 0.

    >>> kind = torch.tensor([0, 0, 1])
    >>> points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> found = correlation_cross_entropy(points, points, label=kind)
    >>> round(found.across.item(), 3), round(found.loss.item(), 3), round(found.positive_share.item(), 3)
    (0.474, 1.422, 0.556)
    """
    check_label(label, check_pairs(audio, visual))
    if not scale > 0:
        raise ValueError(f"the scale must be above 0, got {scale}; 0.5 is the survey's, 10 is sure of itself")
    same = label[:, None] == label[None]  # (B, B)
    with full_precision(audio):
        views = ((audio, visual), (audio, audio), (visual, visual))
        logits = [scale * cosines(x, y) + intercept for x, y in views]
        terms = [(F.softplus(A) - same * A).mean() for A in logits]
    return CorrelationCrossEntropy(sum(terms[1:], terms[0]), *terms, logits[0], same, same.float().mean())

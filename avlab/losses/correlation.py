"""Linear canonical correlation analysis: the directions in which sound and sight vary together.

Survey section 3.2 v and equation 4, reference 109 among others; after Hotelling 1936. It needs no training: two
covariances and a singular value decomposition. Left out here: deep CCA, correlation as a loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


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

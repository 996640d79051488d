"""The evidence lower bound: how well a hidden cause explains what was seen, and how much it was allowed to say.

Survey section 3.2 v and equations 7 to 11, references 118, 181, 198; after Kingma and Welling 2014 (the bound and its
estimate), Higgins et al. 2017 (beta), Kingma et al. 2016 (free bits), Burda et al. 2016 (active units). Left out here:
networks, importance weighting, flows; Wasserstein terms between posteriors.

Conventions: a posterior is a diagonal Gaussian, given as `mean` and `log_variance`, both (B, D), in the unit of z and
its logarithm. Likelihoods are sums over a clip's features, KL divergences are kept per dimension, and everything is in
nats a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import at_least_float32, full_precision

ACTIVE = 0.01  # Burda et al. 2016: a unit whose posterior mean varies less over the data says nothing

Posterior = tuple[torch.Tensor, torch.Tensor]  # mean and log-variance, (B, D) each


class ELBO(NamedTuple):
    """`loss` to be made small; `bound` on log p(x); `reconstruction`, `kl` (scalars); `kl_per_dimension` (D,).

    `bound = -(reconstruction + kl)`, whatever `beta` and `free_bits` made of the loss; nats a clip.
    """

    loss: torch.Tensor
    bound: torch.Tensor
    reconstruction: torch.Tensor
    kl: torch.Tensor
    kl_per_dimension: torch.Tensor


class CrossModalELBO(NamedTuple):
    """`loss`; `audio` and `visual`, the `ELBO` from each sense's posterior; `coupling`: their distance in nats."""

    loss: torch.Tensor
    audio: ELBO
    visual: ELBO
    coupling: torch.Tensor


def clamp_log_variance(log_variance: torch.Tensor, *, lowest: float = -10.0, highest: float = 10.0) -> torch.Tensor:
    """A log-variance kept within bounds, so that its exponential is finite; any shape.

    The gradient passes as if nothing had been clamped: beyond an ordinary clamp there is none, and a variance that has
    run away would never return.

    >>> x = torch.tensor([-50.0, 1.5], requires_grad=True)
    >>> held = clamp_log_variance(x); held.sum().backward()
    >>> held.tolist(), x.grad.tolist()
    ([-10.0, 1.5], [1.0, 1.0])
    """
    x = at_least_float32(log_variance)
    return x.detach().clamp(lowest, highest) + (x - x.detach())


def reparameterise(
    mean: torch.Tensor, log_variance: torch.Tensor, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """A sample of the posterior through which gradients pass: `z = mean + exp(log_variance / 2) * noise`.

    `mean`, `log_variance` of one shape; noise is standard normal and has no gradient. Kingma and Welling 2014.
    Raises `ValueError` where the shapes differ.

    >>> reparameterise(torch.tensor([3.0]), torch.tensor([-200.0])).item()
    3.0
    """
    _check_posterior(mean, log_variance)
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
    return mean + (log_variance / 2).exp() * noise


def gaussian_kl(
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    *,
    other_mean: torch.Tensor | float = 0.0,
    other_log_variance: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """KL divergence of one diagonal Gaussian from another, for each dimension: (..., D) -> (..., D), nats, 0 or more.

    `KL(q | p) = (log s_p^2 - log s_q^2 + (s_q^2 + (m_q - m_p)^2) / s_p^2 - 1) / 2`. The other is the prior N(0, 1)
    unless given, for example the posterior of the other sense. It is not symmetric. Sum over the last axis for the
    whole; nothing is clamped here, see `clamp_log_variance`.

    Raises `ValueError` where the shapes differ.

    >>> [round(x, 4) for x in gaussian_kl(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0])).tolist()]
    [0.0, 2.0]
    """
    _check_posterior(mean, log_variance)
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    p_mean, p_log = (torch.as_tensor(x, dtype=mean.dtype, device=mean.device) for x in (other_mean, other_log_variance))
    ratio = log_variance - p_log
    # expm1: near the prior the exponential and the 1 would cancel
    return (torch.expm1(ratio) - ratio + (mean - p_mean).square() * (-p_log).exp()) / 2


def bernoulli_log_likelihood(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`log p(x | z)` of values in [0, 1] under independent Bernoullis: (B, ...) logits and target -> (B,), nats.

    `sum_k x_k log sigmoid(l_k) + (1 - x_k) log(1 - sigmoid(l_k))`: minus the binary cross-entropy, the only
    reconstruction that the survey names. Raises `ValueError` where the shapes differ or a target leaves [0, 1].

    >>> round(bernoulli_log_likelihood(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 1.0]])).item(), 4)
    -2.0794
    """
    _check_target(logits, target)
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError(f"targets of a Bernoulli lie in 0 to 1, got {float(target.min())} to {float(target.max())}")
    with full_precision(logits):
        logits, target = at_least_float32(logits), at_least_float32(target)
        return (target * logits - F.softplus(logits)).flatten(1).sum(1)


def gaussian_log_likelihood(
    mean: torch.Tensor, target: torch.Tensor, *, log_variance: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """`log p(x | z)` of real values under independent Gaussians: (B, ...) mean and target -> (B,), nats.

    `-sum_k (log 2 pi + log s_k^2 + (x_k - m_k)^2 / s_k^2) / 2`. `log_variance` is the noise of the decoder and
    broadcasts; a learned one, of each feature, weighs what can be explained against what cannot, where the bare squared
    error (log-variance 0, constants left out) fixes that weight by the unit of the data.

    Raises `ValueError` where the shapes differ.

    >>> round(gaussian_log_likelihood(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).item(), 4)
    -2.3379
    """
    _check_target(mean, target)
    with full_precision(mean):
        mean, target = at_least_float32(mean), at_least_float32(target)
        log_s2 = torch.as_tensor(log_variance, dtype=mean.dtype, device=mean.device).expand(mean.shape)
        each = log_s2 + (target - mean).square() * (-log_s2).exp() + math.log(2 * math.pi)
        return -each.flatten(1).sum(1) / 2


def elbo(
    log_likelihoods: Sequence[torch.Tensor], kl: torch.Tensor, *, beta: float = 1.0, free_bits: float = 0.0
) -> ELBO:
    """The evidence lower bound as a loss: `-E_q[log p(x | z)] + beta * KL(q(z | x) | p(z))`.

    `log_likelihoods`: one (B,) for each thing that one z explains (the sound, the picture, both), at a sample of q;
    they add up, since given z they are independent. `kl` (B, D) from `gaussian_kl`. With `beta` 1 and no `free_bits`,
    `-loss` is at most `log p(x)` in the mean over samples, and equal to it where q is the true posterior. `beta` above
    1 pays more for each nat that z says. `free_bits` (nats): each dimension's mean KL costs at least this much, so
    saying less than that gains nothing: `sum_d max(free_bits, mean_B KL_d)`.

    Differs from the survey: equation 11 prints `E[p(x | z)]` without the logarithm, and the divergence from the
    posterior `p(z | x)`, which is the very thing that cannot be computed; it is from the prior `p(z)`. In equation 10
    the logarithm is missing too, and the last expectation of equation 9 is over q. Encoder and decoder share no
    parameters.

    Raises `ValueError` for shapes that do not fit, or a negative `beta` or `free_bits`.

    >>> terms = elbo([torch.tensor([-3.0, -1.0])], torch.tensor([[0.5, 0.0], [1.5, 0.0]]), beta=2.0, free_bits=0.25)
    >>> terms.loss.item(), terms.bound.item(), terms.kl_per_dimension.tolist()
    (4.5, -3.0, [1.0, 0.0])
    """
    if kl.ndim != 2 or kl.numel() == 0 or not log_likelihoods:
        raise ValueError(f"need log-likelihoods and a kl (B, D), got {len(log_likelihoods)} and {tuple(kl.shape)}")
    if any(one.shape != kl.shape[:1] for one in log_likelihoods):
        shapes = ", ".join(str(tuple(one.shape)) for one in log_likelihoods)
        raise ValueError(f"each log-likelihood must be ({len(kl)},), one number a clip as in kl; got {shapes}")
    if beta < 0 or free_bits < 0:
        raise ValueError(f"beta and free_bits must be 0 or more, got {beta} and {free_bits}")
    reconstruction = -torch.stack([at_least_float32(one).mean() for one in log_likelihoods]).sum()
    per_dimension = at_least_float32(kl).mean(0)  # (D,)
    whole = per_dimension.sum()
    paid = per_dimension.clamp_min(free_bits).sum() if free_bits > 0 else whole
    return ELBO(reconstruction + beta * paid, -(reconstruction + whole), reconstruction, whole, per_dimension)


def cross_modal_elbo(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    audio_posterior: Posterior,
    visual_posterior: Posterior,
    decode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    log_variances: tuple[torch.Tensor | float, torch.Tensor | float] = (0.0, 0.0),
    cross: bool = True,
    coupling: float = 0.0,
    beta: float = 1.0,
    free_bits: float = 0.0,
    generator: torch.Generator | None = None,
) -> CrossModalELBO:
    """One latent space for two senses: each sense's z explains its own sense and, with `cross`, the other one too.

    `loss` = the mean of the two bounds' losses `+ coupling * (KL(q_a | q_v) + KL(q_v | q_a)) / 2`. With `cross`, either
    bound is one on `log p(a, v)`; without it, on `log p(a)` and on `log p(v)`, and nothing says that both senses should
    use z alike. `audio` (B, D1), `visual` (B, D2), paired by row; posteriors (mean, log-variance), (B, D) each;
    `decode` maps z (B, D) to the means of both senses, whose noise is `log_variances`. After [118, 181, 198].

    Differs from the survey's references: their networks, classes, CCA and Wasserstein terms are left out; here is what
    reconstruction between the senses does.

    Raises `ValueError` for shapes that do not fit or a negative weight.

    >>> a, v = torch.ones(3, 2), torch.zeros(3, 5)
    >>> prior = torch.zeros(3, 4), torch.zeros(3, 4)
    >>> terms = cross_modal_elbo(a, v, audio_posterior=prior, visual_posterior=prior, decode=lambda z: (a, v))
    >>> round(terms.loss.item(), 4), terms.coupling.item()
    (6.4326, 0.0)
    """
    if audio.ndim != 2 or visual.ndim != 2 or len(audio) != len(visual):
        raise ValueError(
            f"audio (B, D1) and visual (B, D2) must be paired by row, got {tuple(audio.shape)}, {tuple(visual.shape)}"
        )
    if coupling < 0:
        raise ValueError(f"coupling must be 0 or more, got {coupling}")
    found = []
    for place, posterior in enumerate((audio_posterior, visual_posterior)):
        z = reparameterise(*posterior, generator=generator)
        explained = zip(decode(z), (audio, visual), log_variances, strict=True)
        likelihoods = [gaussian_log_likelihood(m, x, log_variance=noise) for m, x, noise in explained]
        used = likelihoods if cross else [likelihoods[place]]
        found.append(elbo(used, gaussian_kl(*posterior), beta=beta, free_bits=free_bits))
    (a_mean, a_log), (v_mean, v_log) = audio_posterior, visual_posterior
    there = gaussian_kl(a_mean, a_log, other_mean=v_mean, other_log_variance=v_log)
    back = gaussian_kl(v_mean, v_log, other_mean=a_mean, other_log_variance=a_log)
    apart = (there + back).sum(1).mean() / 2
    loss = (found[0].loss + found[1].loss) / 2
    return CrossModalELBO(loss + coupling * apart if coupling > 0 else loss, *found, apart)


def active_units(mean: torch.Tensor, *, least: float = ACTIVE) -> torch.Tensor:
    """Which latent dimensions say something: variance of the posterior mean over the data above `least`, (D,) bool.

    `mean` (B, D). A dimension whose mean is the same for every clip has collapsed to the prior. Burda et al. 2016.
    Raises `ValueError` for fewer than two clips.

    >>> active_units(torch.tensor([[1.0, 0.02], [-1.0, 0.0], [0.5, 0.01]])).tolist()
    [True, False]
    """
    if mean.ndim != 2 or len(mean) < 2:
        raise ValueError(f"mean must be (B, D) of two clips or more, got {tuple(mean.shape)}")
    return at_least_float32(mean).var(0) > least


def warm_up(step: int, *, steps: int, highest: float = 1.0) -> float:
    """Weight of the KL term at a step: from 0 in a straight line to `highest` at `steps`, then level (Bowman 2016).

    Raises `ValueError` for fewer than one step.

    >>> [warm_up(step, steps=4) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    if steps < 1:
        raise ValueError(f"a warm-up takes at least one step, got {steps}")
    return highest * min(step / steps, 1.0)


def _check_posterior(mean: torch.Tensor, log_variance: torch.Tensor) -> None:
    if mean.shape != log_variance.shape:
        raise ValueError(f"mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)} differ in shape")


def _check_target(predicted: torch.Tensor, target: torch.Tensor) -> None:
    if predicted.shape != target.shape or predicted.ndim < 2:
        raise ValueError(f"both must be (B, ...), got {tuple(predicted.shape)} and target {tuple(target.shape)}")

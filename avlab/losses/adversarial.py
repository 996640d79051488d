"""Adversarial losses: one network learns to tell two sets of samples apart, another learns to make that impossible.

Survey section 3.2 v and equation 6; after Goodfellow et al. 2014 (minimax and non-saturating), Lim and Ye 2017 (hinge),
Arjovsky et al. 2017 and Gulrajani et al. 2017 (Wasserstein with a gradient penalty), Ganin and Lempitsky 2015 (gradient
reversal). The survey's extensions add to it a correlation [100], a class [168] or a triplet [143, 169] term. Left out
here: spectral norm, the intra- and inter-modal pair of discriminators of [100], generators of pictures and sounds.

Conventions: `real` and `fake` are logits of a discriminator, of any shape, not probabilities: high means "real". Losses
are in nats, except those of a critic, which are in the unit of its output. Where two embeddings are aligned, sounds
stand for the real ones and pictures for the fake ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision, unit

Kind = Literal["minimax", "non-saturating", "hinge", "wasserstein"]
KINDS = ("minimax", "non-saturating", "hinge", "wasserstein")


class DiscriminatorTerms(NamedTuple):
    """`loss` = `on_real` + `on_fake` (scalars; plus a penalty, if any), and `accuracy`: the share told apart, 0 to 1.

    An accuracy of 0.5 is chance.
    """

    loss: torch.Tensor
    on_real: torch.Tensor
    on_fake: torch.Tensor
    accuracy: torch.Tensor


class GeneratorTerms(NamedTuple):
    """`loss` (scalar), and `pull` (shape of the logits): how strongly each logit is asked to rise, 0 to 1."""

    loss: torch.Tensor
    pull: torch.Tensor


class GradientPenalty(NamedTuple):
    """`loss` (scalar), and `norms` (B,): the length of the critic's gradient at each point between."""

    loss: torch.Tensor
    norms: torch.Tensor


class CriticTerms(NamedTuple):
    """`loss` = weight * `penalty` - `distance` (scalars), and the gradient `norms` (B,)."""

    loss: torch.Tensor
    distance: torch.Tensor
    penalty: torch.Tensor
    norms: torch.Tensor


class ConstrainedTerms(NamedTuple):
    """`loss`, the weighted sum, and its parts before weighting (scalars; 0 where the weight is 0)."""

    loss: torch.Tensor
    adversarial: torch.Tensor
    correlation: torch.Tensor
    classification: torch.Tensor
    metric: torch.Tensor


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor, *, kind: Kind = "minimax") -> DiscriminatorTerms:
    """What a discriminator makes small: `-E log D(x) - E log(1 - D(G(z)))` with `D = sigmoid(logit)`.

    `real`, `fake`: logits of any shape. "minimax" and "non-saturating" are the same for the discriminator, and minus
    the value `V` of equation 6; one that cannot tell costs `2 log 2`. "hinge": `E max(0, 1 - real) + E max(0, 1 +
    fake)`. "wasserstein": `E fake - E real`, to be used with a gradient penalty, see `critic_loss`.

    Differs from the survey: equation 6 prints `1 - log D(G(z))` for the fake ones. With it the best `D` is not
    `p / (p + q)`: `(p - q) log D` has no inner optimum and no bound as `D` goes to 0 where `q > p`.

    Raises `ValueError` for an unknown kind or no logits.

    >>> round(discriminator_loss(torch.zeros(3), torch.zeros(5)).loss.item(), 4)
    1.3863
    >>> discriminator_loss(torch.tensor([2.0, 0.5]), torch.tensor([-3.0]), kind="hinge").loss.item()
    0.25
    """
    _check(kind, real, fake)
    real, fake = at_least_float32(real), at_least_float32(fake)
    if kind == "hinge":
        on_real, on_fake = F.relu(1 - real).mean(), F.relu(1 + fake).mean()
    elif kind == "wasserstein":
        on_real, on_fake = -real.mean(), fake.mean()
    else:
        on_real, on_fake = F.softplus(-real).mean(), F.softplus(fake).mean()
    # a logit of exactly 0 is a coin
    right = ((real.detach().sign().mean() - fake.detach().sign().mean()) / 2 + 1) / 2
    return DiscriminatorTerms(on_real + on_fake, on_real, on_fake, right)


def generator_loss(fake: torch.Tensor, *, kind: Kind = "non-saturating") -> GeneratorTerms:
    """What a generator makes small, from the logits of its samples: `-E log D(G(z))` in the non-saturating form.

    "minimax": `E log(1 - D(G(z)))`, its part of equation 6, whose pull `D` vanishes where the discriminator is sure.
    "non-saturating": its pull `1 - D` is largest there; same fixed point. "hinge" and "wasserstein": `-E fake`, a pull
    of 1 everywhere. `fake`: logits of any shape.

    Raises `ValueError` for an unknown kind or no logits.

    >>> sure = torch.tensor([-6.0])
    >>> [round(generator_loss(sure, kind=kind).pull.item(), 4) for kind in ("minimax", "non-saturating", "hinge")]
    [0.0025, 0.9975, 1.0]
    """
    _check(kind, fake)
    fake = at_least_float32(fake)
    if kind == "minimax":
        return GeneratorTerms(-F.softplus(fake).mean(), fake.detach().sigmoid())
    if kind == "non-saturating":
        return GeneratorTerms(F.softplus(-fake).mean(), (-fake.detach()).sigmoid())
    return GeneratorTerms(-fake.mean(), torch.ones_like(fake.detach()))


def _check(kind: str, *logits: torch.Tensor) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for one in logits:
        if one.numel() == 0:
            raise ValueError(f"no logits: got shape {tuple(one.shape)}")


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    norm: float = 1.0,
    generator: torch.Generator | None = None,
) -> GradientPenalty:
    """How far the critic's slope is from `norm` between the two sets: `E (|grad f(x)| - norm)^2`.

    `x = u real + (1 - u) fake`, `u` uniform, one a pair of rows. `real`, `fake` (B, ...) are samples here, not logits;
    `critic` maps (B, ...) to one number a row. For a linear critic `w x` the slope is `|w|` everywhere. It can be
    differentiated again. After Gulrajani et al. 2017; the smallest slope is kept off 0, where it has no derivative.

    Raises `ValueError` where the two differ in shape, or the critic does not give one number a row.

    >>> gradient_penalty(lambda x: x @ torch.tensor([3.0, 4.0]), torch.ones(5, 2), torch.zeros(5, 2)).loss.item()
    16.0
    """
    if real.shape != fake.shape or real.ndim < 2 or len(real) == 0:
        raise ValueError(f"real and fake must both be (B, ...), got {tuple(real.shape)} and {tuple(fake.shape)}")
    learning = torch.is_grad_enabled()
    with full_precision(real), torch.enable_grad():
        real, fake = at_least_float32(real), at_least_float32(fake)
        u = torch.rand(len(real), generator=generator, dtype=real.dtype).to(real.device)
        between = torch.lerp(fake, real, u.view(-1, *[1] * (real.ndim - 1)))
        if not between.requires_grad:
            between.requires_grad_()
        value = critic(between)
        if value.numel() != len(real):
            raise ValueError(f"the critic must give one number a row, got {tuple(value.shape)} for {len(real)} rows")
        (slope,) = torch.autograd.grad(value.sum(), between, create_graph=learning)
        norms = slope.flatten(1).square().sum(1).clamp_min(1e-20).sqrt()  # (B,)
        return GradientPenalty((norms - norm).square().mean(), norms)


def critic_loss(
    critic: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    weight: float = 10.0,
    generator: torch.Generator | None = None,
) -> CriticTerms:
    """What a Wasserstein critic makes small: `E f(fake) - E f(real) + weight E (|grad f| - 1)^2`.

    `distance = E f(real) - E f(fake)` estimates from below how far samples have to be carried (Wasserstein-1, in their
    own unit) as the slopes come near 1. `real`, `fake` (B, ...) samples. After Gulrajani et al. 2017.

    Raises what `gradient_penalty` raises.

    >>> ahead = critic_loss(lambda x: x[:, 0], torch.full((3, 2), 5.0), torch.zeros(3, 2))
    >>> ahead.distance.item(), ahead.penalty.item(), ahead.loss.item()
    (5.0, 0.0, -5.0)
    """
    penalty = gradient_penalty(critic, real, fake, generator=generator)
    with full_precision(real):
        scores = critic(at_least_float32(real)), critic(at_least_float32(fake))
        terms = discriminator_loss(*scores, kind="wasserstein")
    return CriticTerms(terms.loss + weight * penalty.loss, -terms.loss, penalty.loss, penalty.norms.detach())


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: torch.Tensor, *, strength: float = 1.0) -> torch.Tensor:
    """`x` itself; on the way back its gradient is multiplied by `-strength`.

    What comes after it goes down a loss and what comes before it goes up, so one optimiser trains both players of a
    game. Any shape. After Ganin and Lempitsky 2015.

    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> (3 * reverse_gradient(x, strength=0.5)).backward(); x.grad.item()
    -1.5
    """
    return _Reversed.apply(x, strength)


def adversarial_alignment(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    discriminator: Callable[[torch.Tensor], torch.Tensor],
    strength: float = 1.0,
    penalty: float = 0.0,
    generator: torch.Generator | None = None,
) -> DiscriminatorTerms:
    """Make embeddings of sounds and of pictures indistinguishable: the minimax game on which sense a point comes from.

    `loss = -E log D(a) - E log(1 - D(v))`, made small by the discriminator and, through `reverse_gradient`, large by
    whatever made `audio` and `visual` (B, D). The loss itself says who is ahead: `2 log 2` where the discriminator is
    blind, 0 where it always knows. It compares two *sets*: which row belongs to which does not enter.

    Two players that learn at once can run in circles. `penalty` adds `penalty * E |grad D|^2` between the two sets to
    what the discriminator makes small (to nothing else): a flatter one lets the game settle. After Mescheder et al.
    2018, who take the slope at the samples themselves.

    Raises `ValueError` where the shapes are not one (B, D).

    >>> blind = adversarial_alignment(torch.ones(3, 2), torch.zeros(3, 2), discriminator=lambda x: 0 * x[:, 0])
    >>> round(blind.loss.item(), 4), blind.accuracy.item()
    (1.3863, 0.5)
    """
    check_pairs(audio, visual)
    with full_precision(audio):
        both = reverse_gradient(at_least_float32(torch.cat([audio, visual])), strength=strength)
        real, fake = discriminator(both).chunk(2)
        terms = discriminator_loss(real, fake)
        if penalty > 0:
            slope = gradient_penalty(discriminator, audio.detach(), visual.detach(), norm=0.0, generator=generator)
            terms = terms._replace(loss=terms.loss + penalty * slope.loss)
        return terms


class AdversarialAlignment(nn.Module):
    """`adversarial_alignment` with a discriminator of its own, which is learned: D -> hidden -> one logit.

    Trained as an objective of two projectors, it needs no second optimiser. The discriminator sees points scaled by
    sqrt(D), so that coordinates of unit vectors vary by about 1. `label` is taken and not looked at.

    >>> criterion = AdversarialAlignment(5)
    >>> criterion(torch.randn(3, 5), torch.randn(3, 5)).loss.shape
    torch.Size([])
    """

    def __init__(self, D: int, *, hidden: int = 64, strength: float = 1.0, penalty: float = 1.0) -> None:
        super().__init__()
        self.strength, self.penalty, self.scale = strength, penalty, D**0.5
        self.discriminator = nn.Sequential(nn.Linear(D, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(
        self, audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor | None = None
    ) -> DiscriminatorTerms:
        """The game on audio (B, D) and visual (B, D)."""
        return adversarial_alignment(
            audio, visual, discriminator=self.logits, strength=self.strength, penalty=self.penalty
        )

    def logits(self, points: torch.Tensor) -> torch.Tensor:
        """What the discriminator says of points (B, D): (B, 1), above 0 for a sound."""
        return self.discriminator(self.scale * points)


def constrained_adversarial(
    adversarial: torch.Tensor,
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    correlation: float = 0.0,
    classification: float = 0.0,
    metric: float = 0.0,
    class_logits: Sequence[torch.Tensor] = (),
    label: torch.Tensor | None = None,
    margin: float = 0.2,
) -> ConstrainedTerms:
    """An adversarial loss with the survey's extensions, which say what the game alone does not: who belongs to whom.

    `loss = adversarial + correlation * L_corr + classification * L_class + metric * L_triplet`, the weights 0 or more:

    - `L_corr = 1 - mean_d corr(a_d, v_d)`, coordinate by coordinate over the batch, 0 to 2 (after [100]);
    - `L_class`: cross-entropy of each of the `class_logits` (B, C) with `label` (after [168]);
    - `L_triplet = mean max(0, margin + cos(a_i, v_j) - cos(a_i, v_i))` over all `j != i`, and the same for pictures as
      anchors (after [143, 169]). With `label`, clips of one class are no negatives of each other.

    `adversarial` is a scalar: `generator_loss(...).loss` with two optimisers, `adversarial_alignment(...).loss` with
    one. `audio`, `visual` (B, D). Lower is better.

    Differs from the papers: each has networks and weights of its own; here are the terms alone, so that one can be
    added at a time.

    Raises `ValueError` for a negative weight, shapes that do not fit, or a class term without label or logits.

    >>> same = torch.eye(3)
    >>> terms = constrained_adversarial(torch.tensor(0.5), same, same.roll(1, 0), metric=2.0, margin=0.25)
    >>> terms.metric.item(), terms.loss.item()
    (0.75, 2.0)
    """
    B = check_pairs(audio, visual)
    if min(correlation, classification, metric) < 0:
        raise ValueError(f"weights must be 0 or more, got {correlation}, {classification} and {metric}")
    if label is not None:
        check_label(label, B)
    nothing = torch.zeros((), dtype=at_least_float32(audio).dtype, device=audio.device)
    parts = {"correlation": nothing, "classification": nothing, "metric": nothing}
    with full_precision(audio):
        if correlation > 0:
            a, v = (at_least_float32(x) for x in (audio, visual))
            a, v = (unit((x - x.mean(0)).T) for x in (a, v))  # (D, B)
            parts["correlation"] = 1 - (a * v).sum(1).mean()
        if classification > 0:
            if label is None or not class_logits:
                raise ValueError("a class term needs `label` and `class_logits`")
            each = [F.cross_entropy(at_least_float32(logits), label) for logits in class_logits]
            parts["classification"] = torch.stack(each).mean()
        if metric > 0:
            parts["metric"] = _triplets(cosines(audio, visual), label, margin)
        weighted = correlation * parts["correlation"] + classification * parts["classification"]
        loss = at_least_float32(adversarial) + weighted + metric * parts["metric"]
    return ConstrainedTerms(loss, adversarial, **parts)


def _triplets(scores: torch.Tensor, label: torch.Tensor | None, margin: float) -> torch.Tensor:
    """Mean hinge over all negatives of scores (B, B), both directions; 0 where there is no negative."""
    B = len(scores)
    group = torch.arange(B, device=scores.device) if label is None else label
    negative = group[:, None] != group[None]
    own = scores.diagonal()
    worse = F.relu(margin + scores - own[:, None]) + F.relu(margin + scores - own[None])
    return (worse * negative).sum() / (2 * negative.sum()).clamp_min(1)

"""The evidence lower bound against torch.distributions, a discrete model by enumeration, and probabilistic PCA."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from avlab.losses.variational import (
    active_units,
    bernoulli_log_likelihood,
    clamp_log_variance,
    cross_modal_elbo,
    elbo,
    gaussian_kl,
    gaussian_log_likelihood,
    reparameterise,
    warm_up,
)


def posteriors(B: int = 5, D: int = 3, seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(4, B, D, generator=g, dtype=torch.float64))


# --- parts ---


def test_kl_is_torch_distributions():
    m, s, n, t = posteriors()
    q, p = Normal(m, (s / 2).exp()), Normal(n, (t / 2).exp())
    assert_same(gaussian_kl(m, s), kl_divergence(q, Normal(0.0, 1.0)))
    assert_same(gaussian_kl(m, s, other_mean=n, other_log_variance=t), kl_divergence(q, p))


def test_kl_known_values_and_invariances():
    m, s, n, t = posteriors()
    assert (gaussian_kl(m, s, other_mean=m, other_log_variance=s) == 0).all()
    assert (gaussian_kl(m, s, other_mean=n, other_log_variance=t) > 0).all()
    assert gaussian_kl(torch.tensor(2.0), torch.tensor(0.0)).item() == 2.0
    assert_same(gaussian_kl(m + 7, s, other_mean=n + 7, other_log_variance=t),
                gaussian_kl(m, s, other_mean=n, other_log_variance=t))  # fmt: skip
    scale = math.log(3.0)  # both three times as wide: the same divergence
    assert_same(gaussian_kl(3 * m, s + 2 * scale, other_mean=3 * n, other_log_variance=t + 2 * scale),
                gaussian_kl(m, s, other_mean=n, other_log_variance=t))  # fmt: skip
    near = torch.tensor([1e-6])  # (log-variance)^2 / 4: lost where the exponential and the 1 cancel in float32
    assert gaussian_kl(torch.zeros(1), 1e3 * near).item() == pytest.approx(2.5e-7, rel=0.25)


def test_likelihoods_are_torch_distributions():
    g = torch.Generator().manual_seed(1)
    logits, target, noise = torch.randn(3, 5, 7, 2, generator=g, dtype=torch.float64)
    share = target.sigmoid()
    theirs = Independent(Normal(logits, (noise / 2).exp()), 2).log_prob(target)
    assert_same(gaussian_log_likelihood(logits, target, log_variance=noise), theirs)
    assert_same(gaussian_log_likelihood(logits, target, log_variance=noise[0, 0]),
                Independent(Normal(logits, (noise[0, 0] / 2).exp().expand(5, 7, 2)), 2).log_prob(target))  # fmt: skip
    binary = (share > 0.5).double()
    assert_same(bernoulli_log_likelihood(logits, binary), Independent(Bernoulli(logits=logits), 2).log_prob(binary))
    bce = F.binary_cross_entropy_with_logits(logits, share, reduction="none").flatten(1).sum(1)
    assert_same(bernoulli_log_likelihood(logits, share), -bce)


def test_likelihoods_known_values_and_order_of_features():
    assert bernoulli_log_likelihood(torch.zeros(1, 4), torch.ones(1, 4)).item() == pytest.approx(-4 * math.log(2))
    mean, target = pairs(5, 7, dtype=torch.float64)
    best = gaussian_log_likelihood(target, target)
    assert_same(best, -3.5 * torch.full((5,), math.log(2 * math.pi)))
    assert (gaussian_log_likelihood(mean, target) < best).all()
    assert_same(gaussian_log_likelihood(mean.flip(1), target.flip(1)), gaussian_log_likelihood(mean, target))
    share = target.sigmoid()
    assert_same(bernoulli_log_likelihood(-mean, 1 - share), bernoulli_log_likelihood(mean, share))


def test_samples_have_the_posteriors_moments_and_pass_gradients():
    mean, log_variance = torch.tensor([2.0, -1.0]).double(), torch.tensor([0.0, 1.4]).double()
    z = reparameterise(
        mean.expand(40_000, 2), log_variance.expand(40_000, 2), generator=torch.Generator().manual_seed(0)
    )
    assert z.mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.04)
    assert z.var(0).log().tolist() == pytest.approx(log_variance.tolist(), abs=0.04)
    m, s, *_ = (x.requires_grad_() for x in posteriors())
    fixed = lambda m, s: reparameterise(m, s, generator=torch.Generator().manual_seed(2))  # noqa: E731
    assert torch.autograd.gradcheck(fixed, (m, s))
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert_same(fixed(m, s), m + s.exp().sqrt() * noise)
    assert_same(fixed(m + 5, s), fixed(m, s) + 5)


def test_clamped_variance_comes_back():
    x = torch.tensor([-1e30, -3.0, 0.5, 1e30], requires_grad=True)
    held = clamp_log_variance(x, lowest=-4.0, highest=6.0)
    assert held.tolist() == [-4.0, -3.0, 0.5, 6.0]
    held.sum().backward()
    assert x.grad.tolist() == [1.0] * 4
    run_away = torch.tensor([40.0], requires_grad=True)
    gaussian_kl(torch.zeros(1), clamp_log_variance(run_away)).sum().backward()
    assert 0 < run_away.grad.item() < 2e4  # pulled down, and not by exp(40)
    assert_same(clamp_log_variance(clamp_log_variance(x)), clamp_log_variance(x))


def test_active_units_and_warm_up():
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(97, 4, generator=g) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + 3
    assert active_units(mean).tolist() == [True, True, False, False]
    assert torch.equal(active_units(mean - 9)[:3], active_units(mean)[:3])
    assert active_units(mean, least=0.1).tolist() == [v > 0.1 for v in mean.numpy().var(0, ddof=1)]
    assert [warm_up(step, steps=5, highest=2.0) for step in (0, 1, 5, 100)] == [0.0, 0.4, 2.0, 2.0]
    rising = [warm_up(step, steps=7) for step in range(12)]
    assert rising == sorted(rising)


# --- the survey's equations on a model small enough to count ---


class Counted:
    """Four values of x, three of z, all probabilities known: every integral is a sum."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(4)
        self.prior = torch.rand(3, generator=g, dtype=torch.float64).softmax(0)  # p(z)
        self.likelihood = (2 * torch.randn(3, 4, generator=g, dtype=torch.float64)).softmax(1)  # p(x | z)
        self.joint = self.prior[:, None] * self.likelihood  # p(x, z): (3, 4)
        self.evidence = self.joint.sum(0)  # p(x), equation 8
        self.posterior = (self.joint / self.evidence).T  # p(z | x), equation 7: (4, 3)
        self.q = torch.randn(4, 3, generator=g, dtype=torch.float64).softmax(1)  # any q(z | x)

    def kl(self, q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return (q * (q / p).log()).sum(1)  # (4,)

    def bound(self, q: torch.Tensor) -> torch.Tensor:
        return (q * (self.joint.T / q).log()).sum(1)  # right-hand side of equation 9, for each x


def test_equations_7_and_8_hold():
    m = Counted()
    assert_same(m.evidence.sum(), 1.0)
    assert_same(m.posterior.sum(1), torch.ones(4))
    assert_same(m.posterior[1, 2], m.likelihood[2, 1] / m.evidence[1] * m.prior[2])


def test_equation_9_is_a_bound_and_tight_at_the_posterior():
    m = Counted()
    assert (m.bound(m.q) < m.evidence.log() - 0.01).all()
    assert_same(m.bound(m.posterior), m.evidence.log())
    inside = (m.q * (m.joint.T / m.q)).sum(1).log()  # the logarithm outside of the expectation loses nothing
    assert_same(inside, m.evidence.log())


def test_equation_10_as_printed_is_false_and_with_the_logarithm_exact():
    m = Counted()
    divergence = m.kl(m.q, m.posterior)
    printed = m.evidence.log() - (m.q * (m.joint.T / m.q)).sum(1)
    assert (printed < 0).all()  # a divergence that is negative
    assert ((printed - divergence).abs() > 0.5).all()
    assert_same(m.evidence.log() - m.bound(m.q), divergence)


def test_equation_11_as_printed_is_no_bound_and_corrected_is_the_one_of_equation_9():
    m = Counted()
    printed = (m.q * m.likelihood.T).sum(1) - m.kl(m.q, m.posterior)
    at_best = (m.posterior * m.likelihood.T).sum(1)  # the printed form where q is right
    assert (printed > m.evidence.log()).any()
    assert (at_best > m.evidence.log() + 0.5).all()  # above the evidence that it should bound from below
    log_likelihood = (m.q * m.likelihood.T.log()).sum(1)
    to_prior = m.kl(m.q, m.prior.expand(4, 3))
    assert_same(log_likelihood - to_prior, m.bound(m.q))
    found = elbo([log_likelihood], to_prior[:, None])
    assert_same(found.bound, m.bound(m.q).mean())
    assert_same(found.loss, -found.bound)
    assert found.bound < m.evidence.log().mean()


def test_printed_equation_11_is_best_at_a_wrong_q_once_x_is_a_density():
    """p(z) = N(0, 1), p(x | z) = N(x; z, s^2), x = 1.5: without the logarithm the best q is not the posterior."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    x, s = 1.5, 0.05
    prior, likelihood = Normal(0.0, 1.0).log_prob(z).exp(), Normal(z, s).log_prob(torch.tensor(x)).exp()
    true = prior * likelihood / torch.trapezoid(prior * likelihood, z)

    def forms(mean: float, width: float) -> tuple[float, float]:
        q = Normal(mean, width).log_prob(z).exp()
        q_log, t_log, l_log = (torch.log(v + 1e-300) for v in (q, true, likelihood))
        printed = torch.trapezoid(q * likelihood - q * (q_log - t_log), z)
        corrected = torch.trapezoid(q * (l_log - q_log + prior.log()), z)
        return printed.item(), corrected.item()

    known = (x / (1 + s**2), s / math.sqrt(1 + s**2))  # the posterior
    narrower = (x, 0.5 * known[1])
    assert forms(*narrower)[0] > forms(*known)[0] + 0.1  # the print prefers a q that is too sure
    assert forms(*narrower)[1] < forms(*known)[1] - 0.1
    evidence = Normal(0.0, math.sqrt(1 + s**2)).log_prob(torch.tensor(x)).item()
    assert forms(*known)[1] == pytest.approx(evidence, abs=1e-3)
    assert forms(*known)[0] > evidence + 1


# --- the bound ---


def quadrature(mean: torch.Tensor, log_variance: torch.Tensor) -> list[torch.Tensor]:
    """2 D points whose mean integrates every quadratic exactly under the diagonal Gaussian."""
    D = mean.shape[1]
    steps = math.sqrt(D) * torch.eye(D, dtype=mean.dtype)
    return [mean + sign * step * (log_variance / 2).exp() for step in steps for sign in (1.0, -1.0)]


def linear_vae(B: int = 97, D1: int = 7, D: int = 3):
    """Data, and the weights, noise and posteriors of the linear VAE that is probabilistic PCA (Tipping and Bishop)."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(B, D1, generator=g).double() @ (2 * torch.randn(D1, D1, generator=g).double()).tril() + 1
    return x - x.mean(0), D


def test_a_linear_vae_at_its_optimum_is_probabilistic_pca():
    from sklearn.decomposition import PCA

    x, D = linear_vae()
    pca = PCA(D).fit(x.numpy())
    values, noise = torch.tensor(pca.explained_variance_), torch.tensor(pca.noise_variance_)
    W = torch.tensor(pca.components_).T * (values - noise).sqrt()  # (D1, D)
    mean = x @ W / values  # the true posterior: its covariance is diagonal since the columns are orthogonal
    log_variance = (noise / values).log().expand_as(mean)
    likelihood = [gaussian_log_likelihood(z @ W.T, x, log_variance=noise.log()) for z in quadrature(mean, log_variance)]
    found = elbo([torch.stack(likelihood).mean(0)], gaussian_kl(mean, log_variance))
    assert_same(found.bound, pca.score(x.numpy()))  # the bound is the evidence
    wider = elbo([torch.stack(likelihood).mean(0)], gaussian_kl(mean, log_variance + 0.3))
    assert wider.kl_per_dimension.sum() != found.kl


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_beta_is_the_water_level_of_pca(beta):
    """At noise s^2, directions with variance over beta s^2 are kept, with KL_d = log(variance / beta s^2) / 2."""
    x, D = linear_vae(D=4)
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    values, axes = values.flip(0)[:D], axes.flip(1)[:, :D]
    noise = float(values[2] / beta * 0.9)  # the fourth direction is at or under water
    level = beta * noise
    kept = (values - level).clamp_min(0)
    W = (axes * kept.sqrt()).requires_grad_()
    M = (W.T @ W).diagonal().detach() + level
    encoder = (W / M).detach().requires_grad_()
    log_variance = (level / M).log().detach().requires_grad_()
    mean, spread = x @ encoder, log_variance.expand(len(x), D)
    likelihood = [gaussian_log_likelihood(z @ W.T, x, log_variance=math.log(noise)) for z in quadrature(mean, spread)]
    found = elbo([torch.stack(likelihood).mean(0)], gaussian_kl(mean, spread), beta=beta)
    assert_same(found.kl_per_dimension.detach(), (values / level).log().clamp_min(0) / 2)
    assert active_units(mean.detach()).tolist() == (values > level).tolist()
    for gradient in torch.autograd.grad(found.loss, (W, encoder, log_variance)):
        assert gradient.abs().max() < 1e-6  # nothing to gain in any direction


def test_elbo_is_its_parts():
    m, s, *_ = posteriors()
    kl = gaussian_kl(m, s)
    likelihoods = [-m.square().sum(1), -s.exp().sum(1)]
    found = elbo(likelihoods, kl, beta=3.0)
    assert_same(found.reconstruction, -sum(one.mean() for one in likelihoods))
    assert_same(found.kl, kl.sum(1).mean())
    assert_same(found.loss, found.reconstruction + 3 * found.kl)
    assert_same(found.bound, -found.reconstruction - found.kl)
    assert_same(elbo(likelihoods, kl).loss, -found.bound)
    assert_same(elbo(likelihoods, kl.flip(1)).loss, -found.bound)


def test_free_bits_leave_a_dimension_alone_until_it_says_enough():
    mean = torch.tensor([[0.1, 2.0], [-0.1, -2.0], [0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    kl = gaussian_kl(mean, torch.zeros(3, 2, dtype=torch.float64))
    found = elbo([torch.zeros(3).double()], kl, free_bits=0.5)
    assert_same(found.loss, 0.5 + kl[:, 1].mean())
    found.loss.backward()
    assert (mean.grad[:, 0] == 0).all()  # nothing pulls it to the prior
    assert (mean.grad[:, 1] != 0).all()
    assert_same(found.bound, -kl.sum(1).mean())  # the bound itself is not touched
    assert_same(elbo([torch.zeros(3).double()], kl, free_bits=0.0).loss, kl.sum(1).mean())


def two_senses(B: int = 5, D1: int = 7, D2: int = 4, D: int = 3):
    g = torch.Generator().manual_seed(5)
    audio, visual = torch.randn(B, D1, generator=g).double(), torch.randn(B, D2, generator=g).double()
    A, V = torch.randn(D, D1, generator=g).double(), torch.randn(D, D2, generator=g).double()
    return audio, visual, lambda z: (z @ A, z @ V)


def test_cross_modal_is_two_bounds_written_out():
    audio, visual, decode = two_senses()
    m, s, n, t = posteriors()
    fresh = [torch.Generator().manual_seed(1) for _ in range(2)]
    options = {"audio_posterior": (m, s), "visual_posterior": (n, t), "decode": decode, "log_variances": (0.3, -0.2)}
    found = cross_modal_elbo(audio, visual, **options, coupling=0.7, beta=2.0, generator=fresh[0])
    losses = []
    for mean, log_variance in ((m, s), (n, t)):
        z = mean + (log_variance / 2).exp() * torch.randn(5, 3, generator=fresh[1], dtype=torch.float64)
        a, v = decode(z)
        likely = Normal(a, math.exp(0.15)).log_prob(audio).sum(1) + Normal(v, math.exp(-0.1)).log_prob(visual).sum(1)
        kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
        losses.append((-likely + 2 * kl).mean())
    q, p = Normal(m, (s / 2).exp()), Normal(n, (t / 2).exp())
    apart = (kl_divergence(q, p) + kl_divergence(p, q)).sum(1).mean() / 2
    assert_same(found.audio.loss, losses[0])
    assert_same(found.visual.loss, losses[1])
    assert_same(found.coupling, apart)
    assert_same(found.loss, (losses[0] + losses[1]) / 2 + 0.7 * apart)


def test_without_cross_terms_pairs_do_not_matter_and_with_them_they_do():
    audio, visual, decode = two_senses()
    m, s, n, t = posteriors()

    def loss(order: torch.Tensor, cross: bool) -> torch.Tensor:
        return cross_modal_elbo(
            audio, visual[order], audio_posterior=(m, s - 200), visual_posterior=(n[order], t[order] - 200),
            decode=decode, cross=cross,
        ).loss  # fmt: skip

    straight, mixed = torch.arange(5), torch.tensor([2, 0, 1, 4, 3])
    assert_same(loss(mixed, cross=False), loss(straight, cross=False))
    assert (loss(mixed, cross=True) - loss(straight, cross=True)).abs() > 1e-3


def test_gradients_and_hard_inputs():
    def whole(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        g = torch.Generator().manual_seed(0)
        held = clamp_log_variance(log_variance)
        z = reparameterise(mean, held, generator=g)
        likelihoods = [gaussian_log_likelihood(z, torch.ones_like(z)), bernoulli_log_likelihood(z, torch.ones_like(z))]
        return elbo(likelihoods, gaussian_kl(mean, held), beta=0.7).loss

    def both(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        g = torch.Generator().manual_seed(0)
        posterior = audio, clamp_log_variance(visual), visual, clamp_log_variance(audio)
        decode = lambda z: (z.tanh(), z.sin())  # noqa: E731
        target = torch.zeros_like(posterior[1])
        return cross_modal_elbo(
            target, target + 1, audio_posterior=posterior[:2], visual_posterior=posterior[2:], decode=decode,
            coupling=0.5, free_bits=0.1, generator=g,
        ).loss  # fmt: skip

    assert_gradient(whole)
    assert_gradient(both)
    assert_order_is_free(lambda a, v: elbo([-a.square().sum(1)], gaussian_kl(a, v)).loss)
    assert_finite(lambda a, v: 1e-5 * whole(a, v))  # variances of e^10 and distances of 1e4: beyond float16 itself
    assert_finite(lambda a, v: 1e-10 * both(a, v))


def test_bad_input_is_named():
    m, s, *_ = posteriors()
    with pytest.raises(ValueError, match=r"\(5, 3\) and log_variance \(4, 3\)"):
        gaussian_kl(m, s[:4])
    with pytest.raises(ValueError, match="differ in shape"):
        reparameterise(m, s[:, :2])
    with pytest.raises(ValueError, match="lie in 0 to 1"):
        bernoulli_log_likelihood(m, m)
    with pytest.raises(ValueError, match=r"\(5, 3\) and target \(5, 2\)"):
        gaussian_log_likelihood(m, s[:, :2])
    with pytest.raises(ValueError, match=r"one number a clip as in kl; got \(5, 3\)"):
        elbo([m], gaussian_kl(m, s))
    with pytest.raises(ValueError, match="need log-likelihoods"):
        elbo([], gaussian_kl(m, s))
    with pytest.raises(ValueError, match="beta and free_bits"):
        elbo([m[:, 0]], gaussian_kl(m, s), beta=-1.0)
    with pytest.raises(ValueError, match="paired by row"):
        cross_modal_elbo(m, m[:4], audio_posterior=(m, s), visual_posterior=(m, s), decode=lambda z: (z, z))
    with pytest.raises(ValueError, match="coupling must be 0 or more"):
        cross_modal_elbo(m, m, audio_posterior=(m, s), visual_posterior=(m, s), decode=lambda z: (z, z), coupling=-1.0)
    with pytest.raises(ValueError, match="two clips or more"):
        active_units(m[:1])
    with pytest.raises(ValueError, match="at least one step"):
        warm_up(0, steps=0)

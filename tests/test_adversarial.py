"""Adversarial losses against torch's cross-entropies, closed forms of two Gaussians, and pytorch-metric-learning."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs
from torch import nn

from avlab.losses.adversarial import (
    AdversarialAlignment,
    adversarial_alignment,
    constrained_adversarial,
    critic_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    reverse_gradient,
)

KINDS = ("minimax", "non-saturating", "hinge", "wasserstein")


def logits(real: int = 7, fake: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(real, generator=g).double(), 3 * torch.randn(fake, generator=g).double()


def quantiles(mean: float, count: int = 4001) -> torch.Tensor:
    """Points that are spread as a normal distribution of variance 1 is, without chance."""
    shares = (torch.arange(count).double() + 0.5) / count
    return mean + math.sqrt(2) * torch.erfinv(2 * shares - 1)


def network(D: int = 11, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 1)).to(dtype)


# --- discriminator and generator ---


def test_are_torchs_binary_cross_entropies():
    real, fake = logits()
    bce = F.binary_cross_entropy_with_logits
    found = discriminator_loss(real, fake)
    assert_same(found.on_real, bce(real, torch.ones_like(real)))
    assert_same(found.on_fake, bce(fake, torch.zeros_like(fake)))
    assert_same(found.loss, found.on_real + found.on_fake)
    assert_same(discriminator_loss(real, fake, kind="non-saturating").loss, found.loss)
    assert_same(generator_loss(fake).loss, bce(fake, torch.ones_like(fake)))
    assert_same(generator_loss(fake, kind="minimax").loss, -bce(fake, torch.zeros_like(fake)))


def test_hinge_and_wasserstein_are_slow_loops():
    real, fake = logits()
    slow = sum(max(0.0, 1 - x) for x in real.tolist()) / 7 + sum(max(0.0, 1 + x) for x in fake.tolist()) / 5
    assert_same(discriminator_loss(real, fake, kind="hinge").loss, slow)
    assert_same(
        discriminator_loss(real, fake, kind="wasserstein").loss, sum(fake.tolist()) / 5 - sum(real.tolist()) / 7
    )
    for kind in ("hinge", "wasserstein"):
        assert_same(generator_loss(fake, kind=kind).loss, -sum(fake.tolist()) / 5)


def test_accuracy_counts_and_a_tie_is_a_coin():
    assert discriminator_loss(torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([-2.0])).accuracy == pytest.approx(
        0.875
    )
    assert discriminator_loss(torch.zeros(3), torch.zeros(2)).accuracy == 0.5
    assert discriminator_loss(torch.ones(3), -torch.ones(2)).accuracy == 1


@pytest.mark.parametrize("kind", KINDS)
def test_pull_is_the_gradient_of_the_generators_loss(kind):
    _, fake = logits()
    fake = fake.requires_grad_()
    found = generator_loss(fake, kind=kind)
    found.loss.backward()
    assert_same(found.pull, -fake.grad * len(fake))


def test_saturation_by_number():
    sure = torch.tensor([-20.0])
    assert generator_loss(sure, kind="minimax").pull < 1e-8  # the discriminator wins, the generator learns nothing
    assert generator_loss(sure).pull == 1


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_best_discriminator_of_two_gaussians_is_the_known_one(distance):
    """Logistic regression reaches log p - log q = -d x + d^2 / 2, and minus the loss there is 2 JS - 2 log 2."""
    real, fake = quantiles(0.0), quantiles(distance)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = discriminator_loss(w[0] * real + w[1], w[0] * fake + w[1]).loss
        loss.backward()
        return loss

    optimiser.step(closure)
    assert w.tolist() == pytest.approx([-distance, distance**2 / 2], abs=5e-3)
    x = torch.linspace(-12, 15, 20001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, distance))
    middle = (p + q) / 2
    js = torch.trapezoid(torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle), x) / 2
    assert -closure().item() == pytest.approx(2 * js.item() - 2 * math.log(2), abs=1e-3)


def test_printed_equation_6_has_no_inner_optimum_and_the_corrected_one_has():
    p, q = 0.3, 0.7  # densities of real and generated samples at one point
    D = torch.logspace(-12, math.log10(0.999), 4001, dtype=torch.float64)
    printed = p * D.log() + q * (1 - D.log())
    assert printed.argmax() == 0  # the smallest D offered wins, and a smaller one would win over it
    values = [p * math.log(d) + q * (1 - math.log(d)) for d in (1e-3, 1e-30, 1e-300)]
    assert values[0] < values[1] < values[2]
    assert values[2] > 270
    corrected = p * D.log() + q * (1 - D).log()
    assert D[corrected.argmax()].item() == pytest.approx(p / (p + q), abs=2e-3)
    logit = torch.tensor(math.log(p / q), dtype=torch.float64, requires_grad=True)
    found = discriminator_loss(logit.expand(3), logit.expand(7))
    (p * found.on_real + q * found.on_fake).backward()
    assert abs(logit.grad.item()) < 1e-9


def test_order_and_for_a_critic_the_zero_do_not_matter():
    real, fake = logits()
    for kind in KINDS:
        assert_same(discriminator_loss(real.flip(0), fake.roll(2), kind=kind).loss,
                    discriminator_loss(real, fake, kind=kind).loss)  # fmt: skip
        # the two parts change places when the sides do
        assert_same(discriminator_loss(-fake, -real, kind=kind).loss, discriminator_loss(real, fake, kind=kind).loss)
    shifted = discriminator_loss(real + 9, fake + 9, kind="wasserstein")
    assert_same(shifted.loss, discriminator_loss(real, fake, kind="wasserstein").loss)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_hard_logits(kind):
    assert_gradient(lambda a, v: discriminator_loss(a, v, kind=kind).loss)
    assert_gradient(lambda a, v: generator_loss(a * v, kind=kind).loss)
    assert_finite(lambda a, v: discriminator_loss(a, v, kind=kind).loss)
    assert_finite(lambda a, v: generator_loss(torch.cat([a, v]), kind=kind).loss)


# --- critic ---


def test_penalty_of_a_linear_critic_is_exact():
    real, fake = pairs(5, 11, dtype=torch.float64)
    w = torch.linspace(-1, 2, 11).double().requires_grad_()
    found = gradient_penalty(lambda x: x @ w, real, fake, norm=0.5)
    assert_same(found.norms, w.norm().expand(5))
    assert_same(found.loss, (w.norm() - 0.5) ** 2)
    found.loss.backward()  # it teaches the critic
    assert_same(w.grad, (2 * (w.norm() - 0.5) * w / w.norm()).detach())


def test_penalty_is_the_slow_loop_over_rows():
    real, fake = pairs(7, 11, dtype=torch.float64)
    critic = network(dtype=torch.float64)
    found = gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(3))
    u = torch.rand(7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slow = []
    for share, r, f in zip(u, real, fake, strict=True):
        jacobian = torch.autograd.functional.jacobian(critic, share * r + (1 - share) * f)
        slow.append(jacobian.norm().item())
    assert_same(found.norms, torch.tensor(slow, dtype=torch.float64))
    assert_same(found.loss, np.mean([(s - 1) ** 2 for s in slow]))


def test_critic_loss_is_its_parts_and_its_distance_a_lower_bound_of_the_transport():
    from scipy.stats import wasserstein_distance

    real, fake = pairs(7, 1, dtype=torch.float64)
    exact = wasserstein_distance(real[:, 0].numpy(), fake[:, 0].numpy())
    for slope in (1.0, -1.0, 0.3):
        assert critic_loss(lambda x, s=slope: s * x[:, 0], real, fake).distance.item() <= exact + 1e-9
    moved = critic_loss(lambda x: x[:, 0], real + 3.0, real)  # one set is the other, carried by 3
    assert moved.distance.item() == pytest.approx(3.0)
    assert wasserstein_distance(real[:, 0].numpy() + 3, real[:, 0].numpy()) == pytest.approx(3.0)
    critic = network(1, dtype=torch.float64)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = critic_loss(critic, real, fake, weight=4.0, generator=seeds[0])
    penalty = gradient_penalty(critic, real, fake, generator=seeds[1])
    assert_same(whole.loss, critic(fake).mean() - critic(real).mean() + 4 * penalty.loss)
    assert_same(whole.norms, penalty.norms)


def test_critic_does_not_mind_where_the_origin_is_nor_the_order_of_pairs():
    real, fake = pairs(5, 11, dtype=torch.float64)
    critic, order = network(dtype=torch.float64), torch.tensor([3, 1, 4, 0, 2])
    fresh = [torch.Generator().manual_seed(2) for _ in range(2)]
    here = critic_loss(critic, real, fake, generator=fresh[0])
    moved = critic_loss(lambda x: critic(x - 5), real + 5, fake + 5, generator=fresh[1])
    assert_same(moved.loss, here.loss)
    assert_same(critic_loss(lambda x: x @ torch.ones(11).double(), real[order], fake[order]).loss,
                critic_loss(lambda x: x @ torch.ones(11).double(), real, fake).loss)  # fmt: skip


def test_critic_gradients_and_hard_samples():
    critic = network(3, dtype=torch.float64)
    one = lambda a, v: critic_loss(critic, a, v, generator=torch.Generator().manual_seed(0)).loss  # noqa: E731
    assert_gradient(one)
    assert_finite(lambda a, v: critic_loss(network(), a, v).loss)
    w = torch.zeros(11, requires_grad=True)
    flat = gradient_penalty(lambda x: x @ w, *pairs())  # no slope at all: the derivative of |.| is 0 / 0
    flat.loss.backward()
    assert flat.loss.item() == pytest.approx(1.0, abs=1e-6)
    assert torch.isfinite(w.grad).all()


# --- aligning two embeddings ---


def test_reversed_gradient_is_the_plain_one_times_minus_strength():
    (x, _), weight = pairs(5, 3, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5]).double()
    plain, turned = x.clone().requires_grad_(), x.clone().requires_grad_()
    (plain.sin() @ weight).square().sum().backward()
    (reverse_gradient(turned, strength=0.7).sin() @ weight).square().sum().backward()
    assert_same(turned.grad, -0.7 * plain.grad)
    assert torch.equal(reverse_gradient(turned), turned)
    twice = x.clone().requires_grad_()
    (reverse_gradient(reverse_gradient(twice)).sin() @ weight).square().sum().backward()
    assert_same(twice.grad, plain.grad)


def test_alignment_is_the_discriminators_loss_downhill_for_it_and_uphill_for_the_embeddings():
    audio, visual = (x.requires_grad_() for x in pairs(5, 11, dtype=torch.float64))
    net = network(dtype=torch.float64)
    found = adversarial_alignment(audio, visual, discriminator=net, strength=2.0)
    found.loss.backward()
    seen = [x.grad.clone() for x in (audio, visual, net[0].weight)]
    for x in (audio, visual, *net.parameters()):
        x.grad = None
    plain = discriminator_loss(net(audio), net(visual))
    plain.loss.backward()
    assert_same(found.loss, plain.loss)
    assert_same(seen[0], -2 * audio.grad)
    assert_same(seen[1], -2 * visual.grad)
    assert_same(seen[2], net[0].weight.grad)


def test_alignment_sees_sets_and_not_pairs():
    audio, visual = pairs(7, 11, dtype=torch.float64)
    net = network(dtype=torch.float64)
    assert_same(
        adversarial_alignment(audio, visual.roll(3, 0), discriminator=net).loss,
        adversarial_alignment(audio, visual, discriminator=net).loss,
    )
    one_cloud = adversarial_alignment(audio, audio.flip(0), discriminator=net)  # equal sets, wrong pairs
    assert one_cloud.accuracy == 0.5
    assert one_cloud.loss >= 2 * math.log(2)


def test_alignment_by_one_optimiser_brings_two_clouds_together():
    torch.manual_seed(0)
    audio, visual = torch.randn(64, 3), torch.randn(64, 3) + 2
    shift, criterion = nn.Parameter(torch.zeros(3)), AdversarialAlignment(3, hidden=16)
    optimiser = torch.optim.Adam([{"params": [shift]}, {"params": criterion.parameters(), "lr": 0.02}], lr=0.04)
    first = criterion(audio, visual).loss.item()
    for _ in range(150):
        optimiser.zero_grad()
        terms = criterion(audio, visual + shift, torch.arange(64))
        terms.loss.backward()
        optimiser.step()
    assert first > 0
    assert (audio.mean(0) - visual.mean(0) - shift.detach()).norm() < 0.25 * 2 * math.sqrt(3)


def test_penalty_of_an_alignment_teaches_the_discriminator_only():
    audio, visual = (x.requires_grad_() for x in pairs(5, 11, dtype=torch.float64))
    net, grads, losses = network(dtype=torch.float64), [], []
    for weight in (0.0, 3.0):
        for x in (audio, visual, *net.parameters()):
            x.grad = None
        g = torch.Generator().manual_seed(1)
        found = adversarial_alignment(audio, visual, discriminator=net, penalty=weight, generator=g)
        found.loss.backward()
        losses.append(found.loss.detach())
        grads.append([x.grad.clone() for x in (audio, visual, net[0].weight)])
    slope = gradient_penalty(net, audio, visual, norm=0.0, generator=torch.Generator().manual_seed(1)).loss
    assert_same(losses[1], losses[0] + 3 * slope)
    assert_same(grads[0][0], grads[1][0])
    assert_same(grads[0][1], grads[1][1])
    assert (grads[0][2] - grads[1][2]).abs().max() > 1e-4


def test_alignment_is_finite_for_hard_embeddings():
    criterion = AdversarialAlignment(11)
    assert_finite(lambda a, v: criterion(a, v).loss)


# --- extensions ---


def constrained(audio, visual, **options):
    return constrained_adversarial(torch.zeros((), dtype=audio.dtype), audio, visual, **options)


def test_triplets_are_pytorch_metric_learnings():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.reducers import MeanReducer

    audio, visual = pairs(7, 11, dtype=torch.float64)
    theirs = losses.TripletMarginLoss(0.4, distance=CosineSimilarity(), reducer=MeanReducer())
    label = torch.arange(7)
    both = [theirs(x, label, ref_emb=y, ref_labels=label.clone()) for x, y in ((audio, visual), (visual, audio))]
    assert_same(constrained(audio, visual, metric=1.0, margin=0.4).metric, sum(both) / 2)


def test_triplets_with_labels_are_the_slow_loop():
    audio, visual = pairs(7, 5, dtype=torch.float64)
    label = torch.tensor([0, 1, 1, 2, 0, 2, 1])
    cos = F.cosine_similarity(audio[:, None], visual[None], dim=2)
    slow = []
    for i in range(7):
        for j in range(7):
            if label[i] != label[j]:
                slow += [max(0, 0.3 + cos[i, j] - cos[i, i]), max(0, 0.3 + cos[j, i] - cos[i, i])]
    assert_same(constrained(audio, visual, metric=1.0, margin=0.3, label=label).metric, torch.tensor(slow).mean())


def test_correlation_is_numpys_coordinate_by_coordinate():
    audio, visual = pairs(7, 5, dtype=torch.float64)
    slow = np.mean([np.corrcoef(audio[:, d], visual[:, d])[0, 1] for d in range(5)])
    assert_same(constrained(audio, visual, correlation=1.0).correlation, 1 - slow)
    assert constrained(audio, 3 * audio + 1, correlation=1.0).correlation.item() == pytest.approx(0, abs=1e-9)
    assert constrained(audio, -audio, correlation=1.0).correlation.item() == pytest.approx(2)


def test_the_sum_is_weighted_and_parts_without_weight_are_not_computed():
    audio, visual = pairs(5, 11)
    label, class_logits = torch.tensor([0, 2, 1, 1, 0]), torch.randn(2, 5, 3)
    found = constrained_adversarial(
        torch.tensor(0.7), audio, visual, correlation=2.0, classification=0.5, metric=3.0, label=label,
        class_logits=tuple(class_logits),
    )  # fmt: skip
    assert_same(found.classification, sum(F.cross_entropy(one, label) for one in class_logits) / 2)
    assert_same(found.loss, 0.7 + 2 * found.correlation + 0.5 * found.classification + 3 * found.metric)
    alone = constrained_adversarial(torch.tensor(0.7), audio, visual)
    assert alone.loss == alone.adversarial == torch.tensor(0.7)
    assert alone.metric == alone.correlation == alone.classification == 0


def test_constraints_see_pairs_where_the_game_does_not():
    audio, visual = pairs(7, 5, dtype=torch.float64)
    options = {"correlation": 1.0, "metric": 1.0}
    assert_order_is_free(lambda a, v: constrained(a, v, **options).loss)
    assert constrained(audio, visual.roll(2, 0), **options).loss > constrained(audio, visual, **options).loss + 0.1


def test_constraints_gradients_and_hard_inputs():
    options = {"correlation": 1.0, "metric": 1.0, "margin": 0.31}
    assert_gradient(lambda a, v: constrained(a, v, **options).loss)
    # at a vector of no length the gradient is 1e6 times too large for float16 itself: a loss scaler's task
    assert_finite(lambda a, v: constrained(a.float(), v.float(), **options).loss)
    label = torch.tensor([0, 0, 1, 2, 2])
    assert_finite(
        lambda a, v: (
            constrained(a.float(), v, classification=1.0, label=label[: len(a)], class_logits=(a[:, :3], v[:, :3])).loss
        )
    )


def test_bad_input_is_named():
    real, fake = logits()
    with pytest.raises(ValueError, match="kind must be one of minimax"):
        discriminator_loss(real, fake, kind="least squares")
    with pytest.raises(ValueError, match="no logits"):
        generator_loss(real[:0])
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(4, 11\)"):
        gradient_penalty(lambda x: x.sum(1), torch.ones(5, 11), torch.ones(4, 11))
    with pytest.raises(ValueError, match="one number a row"):
        critic_loss(lambda x: x, torch.ones(5, 11), torch.ones(5, 11))
    with pytest.raises(ValueError, match=r"\(5, 11\) and \(5, 3\)"):
        adversarial_alignment(torch.ones(5, 11), torch.ones(5, 3), discriminator=network())
    audio, visual = pairs()
    with pytest.raises(ValueError, match="weights must be 0 or more"):
        constrained(audio, visual, metric=-1.0)
    with pytest.raises(ValueError, match="needs `label` and `class_logits`"):
        constrained(audio, visual, classification=1.0)
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        constrained(audio, visual, metric=1.0, label=torch.arange(4))

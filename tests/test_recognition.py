"""Linear probes: against closed forms and torch, on known classes, under scale and turns."""

import pytest
import torch
import torch.nn.functional as F

from avlab.metrics.recognition import linear_probe, linear_probe_r2


def data(M: int = 83, N: int = 47, D: int = 7, K: int = 3, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Embeddings and classes to fit on and to judge on; the classes overlap."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(K, D, generator=g)
    labels = [torch.randint(K, (n,), generator=g) for n in (M, N)]
    points = [centres[label] + torch.randn(len(label), D, generator=g) for label in labels]
    return points[0], labels[0], points[1], labels[1]


def scaled(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    return (train.double() - mean) / std, (test.double() - mean) / std


def test_the_probe_is_a_penalised_softmax_regression():
    train, y, test, z = data()
    a, b = scaled(train, test)
    W, bias = torch.zeros(7, 3, dtype=torch.double, requires_grad=True), torch.zeros(3, dtype=torch.double)
    bias.requires_grad_()
    solver = torch.optim.LBFGS([W, bias], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = F.cross_entropy(a @ W + bias, y, reduction="sum") + W.square().sum() / 2
        loss.backward()
        return loss

    solver.step(closure)
    expected = ((b @ W + bias).argmax(1) == z).double().mean().item()
    assert linear_probe(train, y, test, z) == pytest.approx(expected)
    assert 0.5 < expected < 1  # overlap: neither chance nor perfect


def test_the_probe_of_a_number_is_ridge_regression():
    train, _, test, _ = data()
    weights = torch.randn(7, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(130, generator=torch.Generator().manual_seed(2))
    y, z = train @ weights + noise[:83] + 5, test @ weights + noise[83:] + 5
    a, b = scaled(train, test)
    mean = y.double().mean()
    gram = a.T @ a + 2.5 * torch.eye(7, dtype=torch.double)
    found = b @ torch.cholesky_solve((a.T @ (y.double() - mean))[:, None], torch.linalg.cholesky(gram))[:, 0] + mean
    expected = 1 - (z - found).square().sum() / (z - z.double().mean()).square().sum()
    assert linear_probe_r2(train, y, test, z, ridge=2.5) == pytest.approx(expected.item(), abs=1e-6)
    assert 0.5 < expected < 1


def test_known_values():
    eye = torch.eye(5).repeat(3, 1)
    label = torch.arange(5).repeat(3) + 10
    assert linear_probe(eye, label, eye, label) == 1
    assert linear_probe(eye, label, eye, label.roll(1)) == 0
    constant = torch.ones(15, 4)
    assert linear_probe(constant, label, constant, label) == pytest.approx(0.2)  # nothing to read: one class for all
    value = torch.arange(15.0)
    assert linear_probe_r2(constant, value, constant, value) == pytest.approx(0)
    assert linear_probe_r2(value[:, None], value, value[:, None], -value, ridge=0.0) < -1


def test_a_ring_is_not_read_by_a_line():
    """A probe is to say what is there for a linear reader, not what a network could dig out."""
    turn = torch.linspace(0, 2 * torch.pi, 101)[:-1]
    ring = torch.stack([turn.cos(), turn.sin()], 1)
    points, label = torch.cat([ring, 3 * ring]), torch.arange(2).repeat_interleave(100)
    assert linear_probe(points, label, points, label) < 0.65


def test_scale_shift_and_order_change_nothing():
    train, y, test, z = data()
    scale = torch.tensor([1e-3, 1e3, 1, 2, 5, 1, 1])
    order = torch.randperm(83, generator=torch.Generator().manual_seed(3))
    expected = linear_probe(train, y, test, z)
    assert linear_probe((train * scale + 7)[order], y[order], test * scale + 7, z) == pytest.approx(expected)
    value, wanted = train[:, 0].sin(), test[:, 0].sin()
    expected = linear_probe_r2(train, value, test, wanted)
    again = linear_probe_r2((train * scale)[order], 9 * value[order] - 4, test * scale, 9 * wanted - 4)
    assert again == pytest.approx(expected, abs=1e-4)


def test_shuffled_labels_are_chance():
    train, y, test, z = data(M=400, N=400)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(4))
    assert linear_probe(train, y[order], test, z) < 0.5 < linear_probe(train, y, test, z)


def test_a_strong_penalty_reads_less():
    train, y, test, z = data()
    value = train[:, 0]
    assert linear_probe_r2(train, value, test, test[:, 0], ridge=1e4) < 0.1
    assert linear_probe_r2(train, value, test, test[:, 0]) > 0.9
    assert linear_probe(train, y, test, z, strength=1e-6) < linear_probe(train, y, test, z)


@pytest.mark.parametrize("probe", [linear_probe, linear_probe_r2])
def test_sizes_that_do_not_fit(probe):
    train, y, test, z = data()
    target = (lambda t: t) if probe is linear_probe else (lambda t: t.float())
    with pytest.raises(ValueError, match=r"must be \(M, D\) and \(N, D\)"):
        probe(train, target(y), test[:, :5], target(z))
    with pytest.raises(ValueError, match="test has 47 embeddings"):
        probe(train, target(y), test, target(z[:5]))
    with pytest.raises(ValueError, match=r"at least two classes|does not vary"):
        probe(train, target(y * 0), test, target(z))


def test_a_probe_for_classes_takes_no_sizes():
    train, y, test, z = data()
    with pytest.raises(ValueError, match="use linear_probe_r2"):
        linear_probe(train, y.float(), test, z.float())

"""Batches gathered over two processes and over chunks give the gradient of the whole batch in one process."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from objectives import assert_same, pairs
from torch import nn

from avlab.losses.contrastive import InfoNCELoss
from avlab.losses.gathered import cached_step, gathered
from avlab.losses.similarity import cosines

B, D = 5, 7  # of each process


class Towers(nn.Module):
    """Two small encoders and a learned temperature, with a loss over all processes."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.audio, self.visual = (nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 3)) for _ in range(2))
        self.criterion = InfoNCELoss(0.2)
        self.way = way
        self.double()

    def forward(self, audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        audio, visual = self.audio(audio), self.visual(visual)
        everyone = gathered(audio), gathered(visual)
        if self.way == "whole" or everyone[0] is audio:
            return self.criterion(*everyone).loss
        partner = len(audio) * dist.get_rank() + torch.arange(len(audio))  # own rows against all
        tau = self.criterion.temperature
        ways = cosines(audio, everyone[1]), cosines(visual, everyone[0])
        return sum(F.cross_entropy(scores / tau, partner) for scores in ways) / 2


def process(rank: int, folder: str) -> None:
    """One of two: what it finds with `DistributedDataParallel`, for the test to read."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        found = {}
        audio, visual = (x.chunk(2)[rank] for x in pairs(2 * B, D, dtype=torch.float64))
        for way in ("whole", "own rows"):
            model = nn.parallel.DistributedDataParallel(Towers(way))
            loss = model(audio, visual)
            loss.backward()
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            gradients = {name: p.grad for name, p in model.module.named_parameters()}
            found[way] = {"loss": loss.detach(), "mean loss": mean / 2, "gradients": gradients}
        label = torch.arange(B) + 10 * rank
        found["label"] = gathered(label)
        found["turned"] = gathered(torch.arange(6.0).view(2, 3).T + rank)  # not contiguous in memory
        try:
            gathered(audio[: 2 + rank])
        except ValueError as error:
            found["error"] = str(error)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    one = Towers("whole")
    expected = one(*pairs(2 * B, D, dtype=torch.float64))
    expected.backward()
    half = Towers("whole")  # without gathering: half of the negatives, another loss
    assert abs(half(*(x[:B] for x in pairs(2 * B, D, dtype=torch.float64))) - expected) > 0.1
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert_same(found["whole"]["loss"], expected)
        for way in ("whole", "own rows"):
            assert_same(found[way]["mean loss"], expected)
            for name, p in one.named_parameters():
                assert p.grad.abs().max() > 1e-4, name
                assert_same(found[way]["gradients"][name], p.grad)
        assert found["label"].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
        assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5], [1, 4], [2, 5], [3, 6]]
        assert "got [2, 3] rows" in found["error"]


def test_alone_it_gathers_nothing():
    x = torch.randn(3, 2, requires_grad=True)
    assert gathered(x) is x


def towers(dropout: float = 0.0) -> tuple[nn.Module, nn.Module, InfoNCELoss]:
    torch.manual_seed(3)
    encoders = (nn.Sequential(nn.Linear(D, 9), nn.Tanh(), nn.Dropout(dropout), nn.Linear(9, 3)) for _ in range(2))
    return *(encoder.double() for encoder in encoders), InfoNCELoss(0.2).double()


def parameters(modules: tuple[nn.Module, ...]) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("lengths", [[11], [4, 4, 3], [1] * 11])
def test_chunks_give_the_gradient_of_the_whole_batch(dropout, lengths):
    audio, visual = (x.split(lengths) for x in pairs(11, D, dtype=torch.float64))
    mine, others = towers(dropout), towers(dropout)
    torch.manual_seed(5)
    step = cached_step(mine[0], mine[1], audio, visual, lambda a, v: mine[2](a, v).loss)
    after = torch.rand(1)
    torch.manual_seed(5)
    parts = [(others[0](a), others[1](v)) for a, v in zip(audio, visual, strict=True)]  # with all activations
    whole = [torch.cat(side) for side in zip(*parts, strict=True)]
    expected = others[2](*whole).loss
    expected.backward()
    assert torch.rand(1) == after  # randomness goes on as if each chunk had been encoded once
    assert_same(step.loss, expected)
    assert_same(step.audio, whole[0])
    assert_same(step.visual, whole[1])
    assert not step.loss.requires_grad
    assert not step.audio.requires_grad
    for p, q in zip(parameters(mine), parameters(others), strict=True):
        assert q.grad.abs().max() > 1e-4
        assert_same(p.grad, q.grad)


def test_a_mean_over_chunks_is_another_loss():
    audio, visual = (x.split(4) for x in pairs(12, D, dtype=torch.float64))
    a, v, criterion = towers()
    step = cached_step(a, v, audio, visual, lambda x, y: criterion(x, y).loss)
    mean = sum(criterion(a(x), v(y)).loss for x, y in zip(audio, visual, strict=True)) / 3
    assert step.loss - mean > 0.3


def test_chunks_under_autocast_reach_the_weights():
    """Autocast keeps the copies of weights that it makes; those made without gradient must not be used again."""
    audio, visual = (x.split(4) for x in pairs(12, D))
    gradients = []
    for chunked in (True, False):
        modules = tuple(module.float() for module in towers())
        with torch.autocast("cpu", torch.bfloat16):
            if chunked:
                cached_step(modules[0], modules[1], audio, visual, lambda a, v: modules[2](a, v).loss)  # noqa: B023
            else:
                sides = [torch.cat([m(x) for x in side]) for m, side in zip(modules[:2], (audio, visual), strict=True)]
                modules[2](*sides).loss.backward()
        gradients.append([p.grad for p in parameters(modules)])
    for p, q in zip(*gradients, strict=True):
        torch.testing.assert_close(p, q, rtol=0.02, atol=0.02 * float(q.abs().max()))


def test_gradients_add_up_and_frozen_encoders_take_none():
    audio, visual = (x.split(4) for x in pairs(12, D, dtype=torch.float64))
    a, v, criterion = towers()
    v.requires_grad_(False)
    for _ in range(2):
        cached_step(a, v, audio, visual, lambda x, y: criterion(x, y).loss)
    twice = [p.grad.clone() for p in a.parameters()]
    a.zero_grad()
    cached_step(a, v, audio, visual, lambda x, y: criterion(x, y).loss)
    for p, q in zip(a.parameters(), twice, strict=True):
        assert_same(2 * p.grad, q)
    assert all(p.grad is None for p in v.parameters())
    a.zero_grad()
    cached_step(a, v, audio, visual, lambda x, y: y.pow(2).mean() + 0 * criterion.temperature)  # nothing for sounds
    assert all((p.grad == 0).all() for p in a.parameters())


def test_bad_chunks_are_named():
    with pytest.raises(ValueError, match="2 of audio, 1 of visual"):
        cached_step(torch.relu, torch.relu, torch.ones(4, 2).split(2), torch.ones(4, 2).split(4), F.mse_loss)
    with pytest.raises(ValueError, match="0 of audio"):
        cached_step(torch.relu, torch.relu, [], [], F.mse_loss)

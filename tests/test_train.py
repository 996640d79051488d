"""The training loop: against plain torch, across a kill, and with everything that can be wrong about a checkpoint."""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from avlab.train import one_cycle, train

# Convolutions in channels_last, batch norm and dropout: weights, buffers and random numbers all have to be continued.
SCRIPT = """
import sys, time, torch
from safetensors.torch import save_file
from torch import nn
from avlab.train import train

torch.set_num_threads(1)
checkpoint, result, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
torch.manual_seed(5)
model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(63, 2))
model = model.to(memory_format=torch.channels_last)
seen = []

def batches(step):
    time.sleep(pause)
    seen.append(step)
    g = torch.Generator().manual_seed(step)
    return torch.randn(11, 3, 5, 5, generator=g), torch.randint(2, (11,), generator=g)

def loss_of(model, batch):
    x, y = batch
    logits = model(x)
    return nn.functional.cross_entropy(logits.float(), y), {"accuracy": (logits.argmax(1) == y).float().mean()}

h = train(model, loss_of, batches, steps=60, lr=0.01, checkpoint=checkpoint, every=7, progress=False)
table = {f"history.{n}": torch.tensor(h.frame()[n].to_numpy()) for n in ("step", "loss", "accuracy", "gradient_norm")}
save_file({**{k: v.contiguous() for k, v in model.state_dict().items()}, **table}, result)
print(h.resumed_from, seen[0] if seen else -1)
"""


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)

    def command(name: str, pause: float) -> list[str]:
        paths = [tmp_path / f"{name}.safetensors", tmp_path / f"{name}.result"]
        return [sys.executable, str(script), *map(str, paths), str(pause)]

    subprocess.run(command("whole", 0), check=True, timeout=120)
    checkpoint = tmp_path / "killed.safetensors"
    victim = subprocess.Popen(command("killed", 0.05))
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # some steps beyond the checkpoint, which have to be done again
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.result").exists()
    again = subprocess.run(command("killed", 0), check=True, timeout=120, capture_output=True, text=True)
    resumed_from, first_seen = map(int, again.stdout.split())
    assert 0 < resumed_from < 60
    assert resumed_from % 7 == 0
    assert first_seen == resumed_from
    whole, killed = load_file(tmp_path / "whole.result"), load_file(tmp_path / "killed.result")
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name
    assert whole["history.step"].tolist() == list(range(60))
    assert list(tmp_path.glob("*.part")) == []


def line(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def data(step: int) -> torch.Tensor:
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


def fit(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict]:
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean(), {}


def run(model: nn.Module, **settings):
    return train(model, fit, data, **{"steps": 20, "lr": 0.05, "progress": False, **settings})


def test_one_cycle_is_torchs():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.03, total_steps=37, cycle_momentum=False)
    for step in range(37):
        assert one_cycle(step, steps=37, lr=0.03) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        if step < 36:
            theirs.step()
    assert all(math.isfinite(one_cycle(step, steps=n, lr=1.0)) for n in (1, 2, 3, 4) for step in range(n))


def test_is_the_plain_loop():
    ours, plain = line(), line()
    history = run(ours)
    groups = [{"params": [plain.weight], "weight_decay": 0.01}, {"params": [plain.bias], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=20, cycle_momentum=False)
    for step in range(20):
        optimiser.zero_grad()
        loss, _ = fit(plain, data(step))
        assert history.records[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimiser.step()
        if step < 19:
            schedule.step()
    torch.testing.assert_close(ours.weight, plain.weight)
    assert not ours.training


def test_same_seed_same_numbers_and_the_callers_random_state_is_left_alone():
    def noisy(model, x):
        return (model(x) + torch.randn(16, 1)).square().mean(), {"twice": 2.0}

    def losses(seed):
        return train(line(), noisy, data, steps=5, lr=0.01, seed=seed, progress=False).frame()["loss"].tolist()

    first = losses(0)
    model = line()
    state = torch.get_rng_state()
    frame = train(model, noisy, data, steps=5, lr=0.01, progress=False).frame()
    assert torch.equal(torch.get_rng_state(), state)
    assert frame["loss"].tolist() == first
    assert losses(1) != first
    assert frame["twice"].tolist() == [2.0] * 5
    assert list(frame["step"]) == [0, 1, 2, 3, 4]


def test_a_watch_sees_the_moments_and_changes_nothing(tmp_path):
    plain, watched, seen = line(), line(), []

    def watch(done):
        torch.rand(3)  # its own luck is not the training's
        assert not watched.training
        assert not torch.is_grad_enabled()
        seen.append((done, watched.weight.clone()))

    same = run(plain, steps=6).records
    records = run(watched, steps=6, watch=watch, moments=[0, 4, 6]).records
    assert [done for done, _ in seen] == [0, 4, 6]
    assert torch.equal(seen[0][1], line().weight)
    assert torch.equal(seen[-1][1], plain.weight)
    assert [one["loss"] for one in records] == [one["loss"] for one in same]
    assert torch.is_grad_enabled()

    short = line()
    run(short, steps=6, budget_seconds=0, watch=seen.append, moments=[6])
    assert len(seen) == 3, "a training that was stopped never reached its end"
    for wrong in ({"moments": [7], "watch": watch}, {"moments": [-1], "watch": watch}, {"moments": [1]}):
        with pytest.raises(ValueError, match="moments lie from 0 to 6 and need a watch"):
            run(line(), steps=6, **wrong)


def test_stops_on_the_budget_and_goes_on_from_there(tmp_path):
    path = tmp_path / "deep" / "line.safetensors"

    def slow(step):
        time.sleep(0.03)
        return data(step)

    settings = {"steps": 20, "lr": 0.05, "progress": False, "checkpoint": path}
    model = line()
    history = train(model, fit, slow, budget_seconds=0.1, **settings)
    assert history.stopped == "budget"
    assert 1 <= len(history.records) < 20
    resumed = line(seed=1)
    further = train(resumed, fit, data, **settings)
    assert further.stopped == "steps"
    assert further.resumed_from == len(history.records)
    whole = line()
    run(whole)
    assert torch.equal(resumed.weight, whole.weight)
    again = train(line(seed=2), fit, data, **settings)  # nothing left to do: the weights and history of the file
    assert again.records == further.records


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(where):
    def breaks(model, x):
        loss, named = fit(model, x)
        broken = loss * float("inf") if where == "loss" else loss + (model.weight.sum() * 0).sqrt()
        return (broken if x[0, 0] == data(3)[0, 0] else loss), named

    model = line()
    with pytest.raises(FloatingPointError, match=r"step 3: .*lower lr \(now 0.05\)"):
        train(model, breaks, data, steps=9, lr=0.05, progress=False)
    assert torch.isfinite(model.weight).all()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "line.safetensors"
    run(line(), checkpoint=path)
    with pytest.raises(ValueError, match=r"made with lr=0.05, this run has lr=0.1: delete .*resume=False"):
        run(line(), checkpoint=path, lr=0.1)
    with pytest.raises(ValueError, match="made with seed=0"):
        run(line(), checkpoint=path, seed=1)
    wide = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"another model: weight is \(1, 3\) in it and \(2, 3\) in yours"):
        run(wide, checkpoint=path)
    with pytest.raises(ValueError, match=r"another model: 0.bias is only in yours"):
        run(nn.Sequential(nn.Linear(3, 1)), checkpoint=path)
    assert run(line(), checkpoint=path, lr=0.1, resume=False).resumed_from == 0
    for content in (b"", b"not a checkpoint at all", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a checkpoint"):
            run(line(), checkpoint=path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        run(line(), checkpoint=path)


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "line.safetensors"
    run(line(), checkpoint=path, steps=20)
    before = path.read_bytes()

    def full(tensors, part, metadata):
        Path(part).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("avlab.train.save_file", full)
    with pytest.raises(OSError, match="no space"):
        run(line(), checkpoint=path, resume=False)
    assert path.read_bytes() == before


def test_precision_and_settings():
    assert run(line(), precision="bfloat16").precision == "bfloat16"
    assert run(line()).precision == "float32"  # no convolution: bfloat16 would be slower on a processor
    with pytest.raises(ValueError, match="precision must be"):
        run(line(), precision="half")
    with pytest.raises(ValueError, match="no parameter that is to be learned"):
        run(nn.ReLU())
    with pytest.raises(ValueError, match="steps and every"):
        run(line(), steps=0)
    with pytest.raises(ValueError, match=r"\.safetensors file, got line.pt"):
        run(line(), checkpoint="line.pt")

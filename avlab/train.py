"""One training loop: AdamW under a one-cycle learning rate, with checkpoints that survive a kill.

A checkpoint is one safetensors file (never a pickle): weights and buffers, the optimiser's tensors, and as JSON the
history and the settings. It is written beside its place and moved there, so that a kill at any moment leaves the last
whole one. A resumed run ends with the same numbers as an uninterrupted one, since everything else is a function of the
step: the batch, the learning rate, and the random state (seeded anew at each step).

Left out here: several devices, gradient accumulation, evaluation (call it on the trained model, or from `watch`).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm


@dataclass
class History:
    """What happened: one record a step (`step`, `loss`, `lr`, `gradient_norm`, `seconds`, and what `loss_of` named).

    `precision` is the one used, `stopped` is "steps" or "budget", `resumed_from` the step found in the checkpoint.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    precision: str = "float32"
    stopped: str = "steps"
    resumed_from: int = 0

    def frame(self) -> pd.DataFrame:
        """The records as a table, one row a step."""
        return pd.DataFrame(self.records)


def train(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], tuple[torch.Tensor, Mapping[str, float | torch.Tensor]]],
    batches: Callable[[int], Any],
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    precision: str = "auto",
    budget_seconds: float | None = None,
    checkpoint: str | Path | None = None,
    every: int = 50,
    resume: bool = True,
    progress: bool = True,
    watch: Callable[[int], None] | None = None,
    moments: Collection[int] = (),
    seed: int = 0,
) -> History:
    """Train `model` in place for `steps` steps, or until `budget_seconds` are over, and leave it in eval mode.

    `loss_of(model, batch)` returns the loss, a scalar to be made small, and a dict of further numbers to record. What
    it learns beside the model (a temperature) has to be part of the model. `batches(step)` returns the batch of a step,
    on the model's device, and must be a function of the step alone, so that a resumed run sees the same data; draw
    random ones from a generator seeded by the step.

    `lr` is the peak of `one_cycle`; weight decay holds for matrices and kernels only; gradients are clipped to norm
    `clip`. `precision` is "float32", "bfloat16" (autocast) or "auto": bfloat16 on a GPU that has it, and on a CPU with
    native bfloat16 where the model has convolutions, since small transformers get slower there. With `checkpoint`, a
    path ending in .safetensors, the state is written each `every` steps and at the end, and a run that finds its file
    goes on from it (unless `resume` is False). The budget counts the seconds of this call only; a run that it stopped
    can be continued. The caller's random state is left as it was.

    `watch(done)` is called when `done` steps are done, for each of the `moments` (0: before the first step; those
    before a resumed step are not repeated), with the model in eval mode and without gradients.

    Raises `FloatingPointError` at the first loss or gradient that is not finite, `ValueError` for a checkpoint of
    another model or other settings, for settings out of range, and for moments that the training does not reach.

    >>> model = nn.Linear(3, 1)
    >>> x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    >>> history = train(
    ...     model, lambda m, b: ((m(b) - b.sum(1, keepdim=True)).square().mean(), {}), lambda step: x,
    ...     steps=200, lr=0.1, progress=False)
    >>> len(history.records), history.records[-1]["loss"] < 1e-3, history.stopped
    (200, True, 'steps')
    """
    if steps < 1 or every < 1 or not lr > 0:
        raise ValueError(f"steps and every must be at least 1 and lr above 0, got {steps}, {every} and {lr}")
    if moments and (watch is None or not 0 <= min(moments) <= max(moments) <= steps):
        raise ValueError(f"moments lie from 0 to {steps} and need a watch, got {sorted(moments)} and {watch}")
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.suffix != ".safetensors":
        raise ValueError(f"the checkpoint must be a .safetensors file, got {path.name}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model has no parameter that is to be learned")
    device = next(model.parameters()).device
    dtype = _choose_precision(precision, model, device)
    history = History(precision=dtype)
    settings = {"steps": steps, "lr": lr, "weight_decay": weight_decay, "clip": clip, "precision": dtype, "seed": seed}
    optimiser = _adamw(model, lr, weight_decay)
    if path is not None and resume and path.exists():
        history.records = _load(path, model, optimiser, settings)
        history.resumed_from = len(history.records)

    model.train()
    started = time.monotonic()
    todo = range(history.resumed_from, steps)
    bar = tqdm(
        todo, initial=todo.start, total=steps, disable=not progress, leave=False, mininterval=0.5, file=sys.stdout
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in bar:
            if budget_seconds is not None and time.monotonic() - started > budget_seconds:
                history.stopped = "budget"
                break
            if step in moments:
                model.eval()
                with torch.no_grad():
                    watch(step)
                model.train()
            torch.manual_seed(seed * 1_000_003 + step)
            for group in optimiser.param_groups:
                group["lr"] = one_cycle(step, steps=steps, lr=lr)
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss, named = loss_of(model, batches(step))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
            record = {"step": step, "loss": loss.item(), "lr": optimiser.param_groups[0]["lr"]}
            record |= {"gradient_norm": norm.item(), "seconds": time.monotonic() - started}
            _check_finite(record, lr, dtype)
            optimiser.step()
            history.records.append(
                record | {name: float(torch.as_tensor(value).detach()) for name, value in named.items()}
            )
            bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
            if path is not None and ((step + 1) % every == 0 or step + 1 == steps):
                _save(path, model, optimiser, settings, history.records)
    if path is not None and history.stopped == "budget":
        _save(path, model, optimiser, settings, history.records)
    model.eval()
    if steps in moments and history.stopped == "steps":
        with torch.no_grad():
            watch(steps)
    return history


def one_cycle(step: int, *, steps: int, lr: float, warmup: float = 0.3) -> float:
    """Learning rate of a step: up from `lr / 25` to `lr` over the first `warmup` share of steps, then down to nearly 0.

    Both ways along a half cosine; the default of `torch.optim.lr_scheduler.OneCycleLR`, as a function of the step.

    >>> [round(one_cycle(step, steps=11, lr=1.0), 2) for step in (0, 1, 2, 6, 10)]
    [0.04, 0.42, 0.96, 0.53, 0.0]
    """
    peak, end = max(warmup * steps - 1, 1e-9), steps - 1
    if step <= peak:
        low, share = lr / 25, 1 - step / peak
    else:
        low, share = lr / 25e4, (step - peak) / max(end - peak, 1e-9)
    return low + (lr - low) * (1 + math.cos(math.pi * share)) / 2


def _choose_precision(precision: str, model: nn.Module, device: torch.device) -> str:
    if precision in ("float32", "bfloat16"):
        return precision
    if precision != "auto":
        raise ValueError(f'precision must be "auto", "float32" or "bfloat16", got {precision!r}')
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # torch before 2.10 does not tell what the processor can do: then float32, which is never wrong
    cpu = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    native = cpu.get("avx512_bf16", False) or cpu.get("amx_bf16", False)
    convolves = any(isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for part in model.modules())
    return "bfloat16" if native and convolves else "float32"


def _adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms and temperatures: pulling those to 0 means nothing."""
    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def _check_finite(record: dict[str, float], lr: float, precision: str) -> None:
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(record[name]):
            raise FloatingPointError(
                f"{name} is {record[name]} at step {record['step']}: look for NaN in that batch, lower lr (now {lr:g}) "
                f'or train in precision="float32" (now {precision}); the model still has the weights of the step before'
            )


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: dict[str, Any],
    records: list[dict[str, float]],
) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}  # no shared memory
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(whole, part, metadata={"settings": json.dumps(settings), "records": json.dumps(records)})
    with open(part, "rb") as file:
        os.fsync(file.fileno())  # on disk before it takes the name: a power cut must not leave an empty file
    part.replace(path)


def _load(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, settings: dict[str, Any]
) -> list[dict[str, float]]:
    """Bring model and optimiser to the state in the file; returns the records up to there."""
    cure = f"delete {path}, name another file, or start over with resume=False"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found, records = json.loads(metadata["settings"]), json.loads(metadata["records"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of avlab.train ({error!r}): {cure}") from error
    for name, value in settings.items():
        if found.get(name) != value:
            raise ValueError(f"{path} was made with {name}={found.get(name)}, this run has {name}={value}: {cure}")
    saved = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    present = model.state_dict()
    for name in sorted(saved.keys() ^ present.keys()):
        raise ValueError(f"{path} is of another model: {name} is only in {'it' if name in saved else 'yours'}; {cure}")
    for name, value in present.items():
        if saved[name].shape != value.shape:
            shapes = f"{tuple(saved[name].shape)} in it and {tuple(value.shape)} in yours"
            raise ValueError(f"{path} is of another model: {name} is {shapes}; {cure}")
    model.load_state_dict(saved)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return records

"""One loss over a batch that no single pass holds: gathered from several processes, or from several chunks.

A contrastive loss compares each clip with every other, so its batch cannot be cut into pieces as that of a classifier
can: the mean of the losses of two halves is another loss, with half the negatives. `gathered` joins the embeddings of
all processes (as Radford et al. 2021 for 32,768 pairs), `cached_step` those of chunks that pass an encoder one after
another (Gao et al. 2021). Both give the gradient of the whole batch, not an approximation. They go with any loss of
this package; for the loss itself at that size there is `avlab.losses.tiled`. Survey sections 3.2 iv and 4: methods
that find their negatives in the batch need a large one. Left out here: starting processes (`torchrun` does),
negatives kept from earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist


def gathered(x: torch.Tensor, *, group: dist.ProcessGroup | None = None) -> torch.Tensor:
    """Rows of all processes in order of their rank, with gradient: (B, ...) on each of W -> (W B, ...) on all.

    Gather the embeddings, then compute the loss of all of them on every process. The gradient that comes back is the
    sum over processes of what each found for these rows. `DistributedDataParallel` *averages* the gradients of the
    parameters, which undoes that sum: parameters then get the gradient of one process with the whole batch, a learned
    temperature too, and nothing has to be scaled. Whoever adds up gradients over processes divides by W.
    It holds as well where each process takes the loss of its own rows against all (W times less work), and the loss
    meant is the mean over processes. Labels are gathered likewise. Without a process group `x` itself comes back.

    Raises `ValueError`, on every process, where their shapes are not all the same (a last, smaller batch: drop it).

    >>> gathered(torch.ones(2, 3)).shape  # one process
    torch.Size([2, 3])
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return x
    shape = torch.tensor([x.ndim, len(x) if x.ndim else 0, x.numel()], device=x.device)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size(group))]
    dist.all_gather(shapes, shape, group=group)
    if any((other != shape).any() for other in shapes):
        raise ValueError(f"all processes must bring as many rows of one shape, got {[int(s[1]) for s in shapes]} rows "
                         f"with {[int(s[2]) for s in shapes]} numbers")  # fmt: skip
    return _Gather.apply(x, group)


class _Gather(torch.autograd.Function):
    """Forward all-gather, backward the sum over processes of the gradients for the rows of this one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
        ctx.group, ctx.B = group, len(x)
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        own = dist.get_rank(ctx.group) * ctx.B
        return gradient[own : own + ctx.B], None


class CachedStep(NamedTuple):
    """`loss` (scalar) of the whole batch and its embeddings `audio` and `visual` (B, D), all without gradient."""

    loss: torch.Tensor
    audio: torch.Tensor
    visual: torch.Tensor


def cached_step(
    encode_audio: Callable[[Any], torch.Tensor],
    encode_visual: Callable[[Any], torch.Tensor],
    audio_chunks: Sequence[Any],
    visual_chunks: Sequence[Any],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> CachedStep:
    """Adds the gradient of one loss over all chunks to the parameters, with the activations of one chunk in memory.

    `d loss / d theta = sum_k (d loss / d z_k) (d z_k / d theta)`, `z_k` the embeddings of chunk `k`: every chunk is
    encoded without gradient, `loss` gives the gradient of all embeddings, then every chunk is encoded again and takes
    its share on to the parameters. An encoder maps a chunk to (B_k, D); `audio_chunks[k]` and `visual_chunks[k]` belong
    together; `loss` maps (B, D) and (B, D) to a scalar, and may hold parameters (a temperature), which get theirs.
    It costs one more forward pass. As `loss.backward()` it adds to `.grad`: zero them before, step the optimiser after.

    Each chunk is encoded under the same random state both times, so that dropout drops the same units. Batch
    normalisation is not that of the whole batch: it sees a chunk at a time, and each twice in its running statistics;
    use group or layer normalisation. After Gao et al. 2021 (GradCache).

    Raises `ValueError` where there is no chunk or not one visual chunk for each of audio.

    >>> encoder = torch.nn.Linear(3, 2, bias=False)
    >>> torch.nn.init.ones_(encoder.weight).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    >>> step = cached_step(encoder, torch.relu, torch.eye(3).split(2), torch.zeros(3, 2).split(2), torch.nn.MSELoss())
    >>> step.loss.item(), encoder.weight.grad.sum().item()
    (1.0, 2.0)
    """
    if len(audio_chunks) != len(visual_chunks) or len(audio_chunks) == 0:
        raise ValueError(f"chunks must come in pairs, got {len(audio_chunks)} of audio, {len(visual_chunks)} of visual")
    chunks = list(zip(audio_chunks, visual_chunks, strict=True))
    states, parts = [], []
    with torch.no_grad():
        for a, v in chunks:
            states.append(_random_state())
            parts.append((encode_audio(a), encode_visual(v)))
    # autocast's copies of the weights, made above without gradient, were used again by torch until its pull 165068
    torch.clear_autocast_cache()
    audio, visual = (torch.cat(side).requires_grad_() for side in zip(*parts, strict=True))
    value = loss(audio, visual)
    value.backward()
    after = _random_state()
    shares = [
        torch.zeros_like(whole).split(lengths) if whole.grad is None else whole.grad.split(lengths)
        for whole, lengths in ((audio, [len(a) for a, _ in parts]), (visual, [len(v) for _, v in parts]))
    ]
    for (a, v), state, *share in zip(chunks, states, *shares, strict=True):
        _restore(state)
        again = [encode_audio(a), encode_visual(v)]
        live = [(z, gradient) for z, gradient in zip(again, share, strict=True) if z.requires_grad]
        if live:  # an encoder that is frozen takes no gradient
            torch.autograd.backward([z for z, _ in live], [gradient for _, gradient in live])
    _restore(after)
    return CachedStep(value.detach(), audio.detach(), visual.detach())


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _restore(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])

"""A sound against the places of pictures: contrast that shows where.

Survey section 3.2 iv, reference 17 (Chen et al. 2021, "the hard way"). A picture keeps its places; the scores of a
sound with all of them form a map, and the map is pooled into one number for InfoNCE, or cut in three: surely sounding,
surely background, and a band between that teaches nothing. Left out: maps from attention (lesson 06), and comparing
windows of the sound as well.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import full_precision, unit


def region_maps(audio: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Cosine of every sound with every place of every picture: (A, D), (B, D, h, w) -> (A, B, h, w) in [-1, 1].

    Raises `ValueError` where D differs.

    >>> region_maps(torch.eye(2), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).flatten().tolist()
    [1.0, 0.0]
    """
    if audio.ndim != 2 or places.ndim != 4 or audio.shape[1] != places.shape[1] or 0 in (*audio.shape, *places.shape):
        raise ValueError(f"need (A, D) and (B, D, h, w) with one D, got {tuple(audio.shape)} and {tuple(places.shape)}")
    B, _, h, w = places.shape
    with full_precision(audio):
        flat = unit(places.flatten(2).mT).flatten(0, 1)  # (B P, D)
        return (unit(audio) @ flat.T).view(len(audio), B, h, w)


def region_scores(
    audio: torch.Tensor,
    places: torch.Tensor,
    *,
    pool: Literal["mean", "max", "softmax", "logsumexp"] = "softmax",
    sharpness: float = 4.0,
) -> torch.Tensor:
    """One score a pair, from the places: (A, D), (B, D, h, w) -> (A, B), for `info_nce_from_scores`.

    "mean" takes the picture as a whole; "max" only its best place (hard: all gradient goes there); "softmax" weighs
    places by `softmax(sharpness m)` (what `avlab.models.localizer` does), "logsumexp" is
    `log(mean exp(sharpness m)) / sharpness`: both soft, between mean (sharpness 0) and maximum (infinite).
    Raises `ValueError` where shapes do not fit, the sharpness is not above 0, or for another pool.

    >>> places = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # one picture of two places
    >>> pools = ("mean", "softmax", "logsumexp", "max")
    >>> [round(region_scores(torch.eye(2)[:1], places, pool=pool).item(), 3) for pool in pools]
    [0.5, 0.982, 0.831, 1.0]
    """
    if not sharpness > 0:
        raise ValueError(f"the sharpness must be above 0, got {sharpness:g}; towards 0 it becomes the mean")
    maps = region_maps(audio, places)
    if pool == "mean":
        return maps.mean((-2, -1))
    if pool == "max":
        return maps.amax((-2, -1))
    if pool == "softmax":
        flat = maps.flatten(-2)
        return ((sharpness * flat).softmax(-1) * flat).sum(-1)
    if pool == "logsumexp":
        count = maps.new_tensor(maps.shape[-2] * maps.shape[-1])
        return ((sharpness * maps).flatten(-2).logsumexp(-1) - count.log()) / sharpness
    raise ValueError(f"pool must be 'mean', 'max', 'softmax' or 'logsumexp', got {pool!r}")


class TriMap(NamedTuple):
    """`loss`; `maps` (B, B, h, w); `sounding` and `background` (B, h, w) in [0, 1], of each clip's own map.

    What is neither (both small) is ignored. `foreground` (B,) is the mean map over what sounds, `hard` (B,) over the
    own background, `easy` (B, B) over a foreign picture (its diagonal is not used).
    """

    loss: torch.Tensor
    maps: torch.Tensor
    sounding: torch.Tensor
    background: torch.Tensor
    foreground: torch.Tensor
    hard: torch.Tensor
    easy: torch.Tensor


def tri_map_loss(
    audio: torch.Tensor,
    places: torch.Tensor,
    *,
    sure: float = 0.65,
    unsure: float = 0.4,
    softness: float = 0.03,
    temperature: float = 0.07,
) -> TriMap:
    """The sounding places of a clip against its own background and all of the other pictures.

    With the own map `m`: sounding `s = sigmoid((m - sure) / softness)`, background `1 - sigmoid((m - unsure) /
    softness)`, in between ignored. `P_i` and `N_i` are the means of `m` weighted by each, `N_ij` the plain mean of the
    map of sound `i` in picture `j`; the loss is the cross-entropy of `P_i` against `N_i` and all `N_ij`, over the
    temperature. `audio` (B, D), `places` (B, D, h, w), paired by index; each sound chooses, one direction.

    Differs from the paper [17]: there `N_i` and the `N_ij` are added up inside one exponential; here each is a negative
    of its own, so that their number matters as in InfoNCE.

    Raises `ValueError` where shapes do not fit, or the thresholds are not in order.

    >>> places = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.75**0.5, 1.0]]).view(1, 2, 1, 3)
    >>> found = tri_map_loss(torch.tensor([[1.0, 0.0]]), places)  # the three places score 1, 0.5 and 0
    >>> [[round(x, 2) for x in m.flatten().tolist()] for m in (found.sounding, found.background)]
    [[1.0, 0.01, 0.0], [0.0, 0.03, 1.0]]
    """
    if not unsure <= sure or not softness > 0 or not temperature > 0:
        raise ValueError(f"need unsure <= sure, softness and temperature above 0, got {unsure}, {sure}, {softness}, "
                         f"{temperature}")  # fmt: skip
    if len(audio) != len(places):
        raise ValueError(f"clips are paired by index, got {tuple(audio.shape)} and {tuple(places.shape)}")
    maps = region_maps(audio, places)
    B = len(maps)
    with full_precision(maps):
        own = maps.diagonal(dim1=0, dim2=1).permute(2, 0, 1)  # (B, h, w)
        sounding, background = (own - sure) / softness, (unsure - own) / softness
        # a softmax of the logarithm: the weighted mean holds even where no place is sure by far
        weights = [F.logsigmoid(x).flatten(1).softmax(1) for x in (sounding, background)]
        foreground, hard = ((weight * own.flatten(1)).sum(1) for weight in weights)
        easy = maps.mean((2, 3))  # (B, B)
        eye = torch.eye(B, dtype=torch.bool, device=maps.device)
        answers = torch.cat([torch.where(eye, foreground[:, None], easy), hard[:, None]], dim=1) / temperature
        loss = F.cross_entropy(answers, torch.arange(B, device=maps.device))
    return TriMap(loss, maps, sounding.sigmoid(), background.sigmoid(), foreground, hard, easy)

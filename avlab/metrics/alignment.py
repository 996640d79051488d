"""How two modalities lie in one space: with a gap between, spread or huddled, by class or not (survey 1 and 3.2).

Functions of `audio, visual` take embeddings (B, D), row `i` of both from the same clip; functions of `points` take
(M, D) of either sense, or of both below each other with the labels repeated. All normalise to length one, so distances
lie in 0 to 2; `effective_rank` does not. Which direction is better depends on the use, and is said at each.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def _unit(audio: torch.Tensor, visual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if audio.shape != visual.shape or audio.ndim != 2 or len(audio) == 0:
        raise ValueError(f"embeddings must both be (B, D), got {tuple(audio.shape)} and {tuple(visual.shape)}")
    return F.normalize(audio.float(), dim=1), F.normalize(visual.float(), dim=1)


def heterogeneity_gap(audio: torch.Tensor, visual: torch.Tensor) -> float:
    """Distance between the centres of the two clouds: `|mean(a / |a|) - mean(v / |v|)|`, 0 to 2; lower is closer.

    >>> heterogeneity_gap(torch.tensor([[1.0, 0]]), torch.tensor([[-3.0, 0]]))
    2.0
    """
    a, v = _unit(audio, visual)
    return (a.mean(0) - v.mean(0)).norm().item()


def pair_distance(audio: torch.Tensor, visual: torch.Tensor) -> float:
    """Mean squared distance of the halves of a pair on the unit sphere ("alignment"), 0 to 4; lower is closer.

    >>> pair_distance(torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[1.0, 0], [1, 0]]))
    1.0
    """
    a, v = _unit(audio, visual)
    return (a - v).square().sum(1).mean().item()


def compactness(points: torch.Tensor, label: torch.Tensor) -> float:
    """Mean distance of a point to the centre of its class, 0 to 2; lower is more compact.

    `mean over classes k of mean over i in k of |x_i - c_k|`, `c_k` the mean of the class's points on the unit sphere;
    each class counts alike, whatever its size. Points (M, D), label (M,). Also 0 for a space that has collapsed to a
    point: read it beside `separation`. Raises `ValueError` where sizes do not fit.

    >>> compactness(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, 3]]), torch.tensor([0, 0, 1, 1]))
    0.5
    """
    x, member, centres = _classes(points, label)
    far = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist")  # (M, K)
    return ((far * member).sum(0) / member.sum(0)).mean().item()


def separation(points: torch.Tensor, label: torch.Tensor) -> float:
    """Mean distance between the centres of two classes, 0 to 2; higher is better apart.

    `mean over pairs of classes k < l of |c_k - c_l|`, `c_k` the mean of the class's points on the unit sphere. Points
    (M, D), label (M,). Raises `ValueError` where sizes do not fit or there is only one class.

    >>> round(separation(torch.eye(3), torch.tensor([4, 5, 6])), 4)
    1.4142
    """
    centres = _classes(points, label)[2]
    if len(centres) < 2:
        raise ValueError("all labels are the same: there are no two classes to be apart")
    return torch.pdist(centres).mean().item()


def fisher_ratio(points: torch.Tensor, label: torch.Tensor) -> float:
    """Variance between classes over that within them, 0 to infinity; higher is more discriminative.

    `sum_i |c_(y_i) - c|^2 / sum_i |x_i - c_(y_i)|^2` on the unit sphere, the traces of the two scatter matrices of
    Fisher's discriminant; `c` is the mean of all points. Compactness and separation in one number, which does not
    change with the scale of a space. Points (M, D), label (M,). Infinite where each class is one point, NaN where all
    are. Raises `ValueError` where sizes do not fit.

    >>> round(fisher_ratio(torch.tensor([[3.0, 4], [3, -4], [-3, 4], [-3, -4]]), torch.tensor([0, 0, 1, 1])), 4)
    0.5625
    """
    x, member, centres = _classes(points, label)
    count = member.sum(0)  # (K,)
    within = (x - member @ centres).square().sum()
    between = (count * (centres - x.mean(0)).square().sum(1)).sum()
    return (between / within).item()


def uniformity(points: torch.Tensor, *, t: float = 2.0) -> float:
    """How evenly points fill the unit sphere: `log mean over i < j of exp(-t |x_i - x_j|^2)`; lower is more even.

    0 where all points are one (collapse), `-4 t` for two opposite ones; about `-4` at best for many points in many
    dimensions at `t = 2`. Points (M, D). Wang and Isola 2020. Raises `ValueError` for fewer than two points.

    >>> round(uniformity(torch.tensor([[1.0, 0], [-1, 0]])), 4), uniformity(torch.ones(5, 3))
    (-8.0, 0.0)
    """
    if len(points) < 2:
        raise ValueError(f"evenness is of pairs of points, got {len(points)}")
    x = F.normalize(_points(points).double(), dim=1)
    return torch.pdist(x).square().mul(-t).logsumexp(0).sub(math.log(len(x) * (len(x) - 1) / 2)).item()


def effective_rank(points: torch.Tensor) -> float:
    """How many dimensions a cloud uses: `exp(entropy of s / sum(s))`, `s` its singular values about the mean, 1 to D.

    A few dimensions out of many are a sign of dimensional collapse. Points (M, D), lengths count. 0 where all points
    are one. Roy and Vetterli 2007. Raises `ValueError` where points are not (M, D).

    >>> round(effective_rank(torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])), 4)
    2.0
    """
    x = _points(points).double()
    s = torch.linalg.svdvals(x - x.mean(0))
    if s[0] <= 1e-7 * x.abs().max().clamp_min(1e-30):  # what rounding leaves of a single point
        return 0.0
    share = s / s.sum()
    return torch.special.entr(share).sum().exp().item()


def _points(points: torch.Tensor) -> torch.Tensor:
    if points.ndim != 2 or points.numel() == 0:
        raise ValueError(f"points must be (M, D), got {tuple(points.shape)}")
    return points.detach()


def _classes(points: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points on the unit sphere (M, D), who is in which class (M, K) of 0 and 1, and the classes' centres (K, D)."""
    x = F.normalize(_points(points).float(), dim=1)
    if label.shape != (len(x),):
        raise ValueError(f"label must be ({len(x)},), one a point, got {tuple(label.shape)}")
    _, place = label.unique(return_inverse=True)
    member = F.one_hot(place).to(x)  # (M, K)
    return x, member, (member.T @ x) / member.sum(0)[:, None]

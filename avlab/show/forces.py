"""What a loss does to embeddings: an arrow from each point, the way it is pushed (minus its gradient).

Points of two dimensions lie on a circle, of three on a sphere seen from the front (what lies behind is pale). A ring of
orange is a sound, of blue a picture, a thin grey line joins a pair; the fill is the kind, where it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from avlab.show.figures import _told
from avlab.show.style import PAIR, SIGHT, SOUND, in_style, kind_style

LONGEST = 0.55  # of the circle's radius: the arrow of the largest force
BEHIND = 0.25  # opacity of what lies on the far side of the sphere


def forces(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], audio: torch.Tensor, visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus the gradient of `loss(audio, visual)` at each embedding, along the sphere: two tensors (B, D).

    What points away from or into the sphere is left out, since an embedding of length one cannot follow it.

    >>> point, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> on_audio, _ = forces(lambda a, v: -(a * v).sum(), point, other)
    >>> on_audio.tolist()
    [[0.0, 1.0]]
    """
    points = [torch.nn.functional.normalize(x.detach().double(), dim=-1).requires_grad_() for x in (audio, visual)]
    loss(*points).backward()
    pushes = []
    for x in points:
        push = torch.zeros_like(x) if x.grad is None else -x.grad
        pushes.append((push - (push * x).sum(-1, keepdim=True) * x).detach().to(audio.dtype))
    return pushes[0], pushes[1]


@in_style()
def draw_forces(
    audio: torch.Tensor,
    visual: torch.Tensor,
    losses: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    *,
    labels: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """One panel a loss, over the same points (B, 2) or (B, 3): arrows show where it pushes each of them.

    Arrows of one panel share a scale; what is written below a panel is its largest force, so that panels can be
    compared. `labels` (B,) fill the points by kind. Raises `ValueError` for points of other dimensions.
    """
    B, D = audio.shape
    if D not in (2, 3) or visual.shape != (B, D):
        raise ValueError(f"points must be (B, 2) or (B, 3), got {tuple(audio.shape)} and {tuple(visual.shape)}")
    figure = Figure(figsize=(3.1 * len(losses) + 0.2, 3.7))
    said = []
    for axes, (name, loss) in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses.items(), strict=True):
        pushes = forces(loss, audio, visual)
        largest = max(float(push.norm(dim=-1).max()) for push in pushes)
        _panel(
            axes, [torch.nn.functional.normalize(x.detach(), dim=-1) for x in (audio, visual)], pushes, largest, labels
        )
        axes.set_title(name, loc="center", fontsize=10)
        axes.text(0, -1.5, f"largest force {largest:.3g}", ha="center", va="top", fontsize=9)
        own = torch.nn.functional.normalize(visual - audio, dim=-1)
        nearer = float(((pushes[0] * own).sum(-1) > 1e-9 * max(largest, 1e-9)).float().mean())
        said.append(f"{name}: {nearer:.0%} of the sounds are pushed towards their picture")
    if title:
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=11)
    return _told(
        figure,
        f"{B} pairs on a {'circle' if D == 2 else 'sphere'}, an arrow from each point. " + "; ".join(said),
        title,
    )


def _panel(axes: Axes, points: Any, pushes: Any, largest: float, labels: Sequence[int] | None) -> None:
    axes.add_patch(Circle((0, 0), 1, fill=False, color="#BBBBBB", linewidth=1))
    axes.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal")
    axes.axis("off")
    a, v = (x.numpy() for x in points)
    for start, end in zip(a, v, strict=True):
        axes.plot([start[0], end[0]], [start[1], end[1]], color=PAIR, linewidth=0.7, zorder=1)
    scale = LONGEST / max(largest, 1e-12)
    for place, push, colour in ((a, pushes[0].numpy() * scale, SOUND), (v, pushes[1].numpy() * scale, SIGHT)):
        for i, (x, f) in enumerate(zip(place, push, strict=True)):
            alpha = BEHIND if len(x) == 3 and x[2] < 0 else 1.0
            fill = {"color": "white", "marker": "o"} if labels is None else kind_style(int(labels[i]))
            axes.scatter(x[0], x[1], s=34, c=fill["color"], marker=fill["marker"], edgecolors=colour, linewidths=1.8,
                         alpha=alpha, zorder=3)  # fmt: skip
            if np.hypot(f[0], f[1]) > 0.02:
                arrow = {"arrowstyle": "-|>", "color": colour, "alpha": alpha, "linewidth": 1.4}
                axes.annotate("", xytext=x[:2], xy=x[:2] + f[:2], zorder=2, arrowprops=arrow)

"""Several objectives at once: their weighted sum, with weights that are given or learned.

Survey section 3.2 i, its discussion (a weighted sum of linear components), as in references 54 and 186; learned weights
after Kendall et al. 2018. Left out here: weights from gradient norms (GradNorm), and projecting conflicting gradients.

An objective is any callable `(audio, visual, label)` that returns a scalar, or a NamedTuple with one as its `loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from avlab.losses.similarity import at_least_float32

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # of audio, visual (B, D) and label (B,)


class Weighted(NamedTuple):
    """`loss` (scalar); by name, each term's own loss in `parts` and its weight now in `weights`, scalars."""

    loss: torch.Tensor
    parts: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]


def weighted_sum(parts: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> Weighted:
    """`sum_k w_k L_k` of terms by name; a term without a weight counts once.

    `parts` are scalars. A weight of 0 leaves a term out of the loss and of the gradient, and keeps its value to look at
    (also one that is not finite). Raises `ValueError` for no terms, a weight below 0 or without a term, a term that is
    no scalar.

    >>> found = weighted_sum({"class": torch.tensor(2.0), "align": torch.tensor(0.5)}, {"align": 4.0})
    >>> found.loss.item(), {name: part.item() for name, part in found.parts.items()}
    (4.0, {'class': 2.0, 'align': 0.5})
    """
    _check_parts(parts)
    _check_weights(weights, list(parts))
    values = {name: at_least_float32(part) for name, part in parts.items()}
    factors = {name: torch.as_tensor(float(weights.get(name, 1.0))).to(part) for name, part in values.items()}
    counted = [factors[name] * part for name, part in values.items() if weights.get(name, 1.0) != 0]
    zero = next(iter(values.values())).new_zeros(())
    return Weighted(sum(counted, zero), values, factors)


def uncertainty_weighted(parts: Mapping[str, torch.Tensor], log_variances: Mapping[str, torch.Tensor]) -> Weighted:
    """Terms weighted by how well they can be met: `sum_k (exp(-s_k) L_k + s_k) / 2`, with `s_k` a log variance.

    `parts` and `log_variances` are scalars by the same names; the weight of a term is `exp(-s_k) / 2`. For a fixed
    `L_k` the best `s_k` is `log L_k`, so that a term is followed like `log(L_k) / 2`: its unit does not matter. And for
    that reason a term that can be brought to 0 at no cost, as alignment by one point for all, gets an ever larger
    weight. Kendall et al. 2018, their equation for regression, for every term; not in the survey.

    Raises `ValueError` where names differ, a term is no scalar or below 0 (its variance would fall for ever).

    >>> part, s = torch.tensor(4.0), torch.tensor(4.0).log()
    >>> found = uncertainty_weighted({"class": part}, {"class": s})
    >>> round(found.loss.item(), 4), round(found.weights["class"].item(), 4)
    (1.1931, 0.125)
    """
    _check_parts(parts)
    if set(parts) != set(log_variances):
        raise ValueError(f"terms {sorted(parts)} and log variances {sorted(log_variances)} must have the same names")
    for name, part in parts.items():
        if part < 0:
            raise ValueError(f"term {name!r} is {part.item():g}: weighting by uncertainty needs terms of 0 or more")
    values = {name: at_least_float32(part) for name, part in parts.items()}
    weights = {name: torch.exp(-log_variances[name].to(part)) / 2 for name, part in values.items()}
    terms = [weights[name] * part + log_variances[name].to(part) / 2 for name, part in values.items()]
    return Weighted(sum(terms[1:], terms[0]), values, weights)


def _check_parts(parts: Mapping[str, torch.Tensor]) -> None:
    if not parts:
        raise ValueError("a sum of objectives needs one term or more")
    for name, part in parts.items():
        if part.shape != ():
            raise ValueError(f"term {name!r} must be a scalar, got {tuple(part.shape)}")


def _check_weights(weights: Mapping[str, float], names: list[str]) -> None:
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(f"a weight for {name!r}, which is none of the terms {names}")
        if not weight >= 0:
            raise ValueError(f"the weight of {name!r} must be 0 or more, got {weight:g}")


def _parts(
    objectives: Mapping[str, Objective], audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor
) -> dict[str, torch.Tensor]:
    found = {name: objective(audio, visual, label) for name, objective in objectives.items()}
    return {name: one if isinstance(one, torch.Tensor) else one.loss for name, one in found.items()}


def _modules(objectives: Mapping[str, Objective]) -> nn.ModuleList:
    """Those that are modules, so that what they hold is learned, moved and saved with the sum."""
    return nn.ModuleList(one for one in objectives.values() if isinstance(one, nn.Module))


class WeightedObjective(nn.Module):
    """`weighted_sum` of objectives by name, itself an objective; learns what its terms learn (centres, a temperature).

    Raises `ValueError` for no terms, or a weight below 0 or without a term.

    >>> far = lambda audio, visual, label: (audio - visual).square().sum()
    >>> both = WeightedObjective({"far": far, "long": lambda a, v, label: a.square().sum()}, {"long": 0.5})
    >>> found = both(torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([0]))
    >>> found.loss.item(), found.parts["long"].item()
    (3.0, 4.0)
    """

    def __init__(self, objectives: Mapping[str, Objective], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.objectives, self.weights = dict(objectives), dict(weights or {})
        if not self.objectives:
            raise ValueError("a sum of objectives needs one term or more")
        _check_weights(self.weights, list(self.objectives))
        self.learned = _modules(self.objectives)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor) -> Weighted:
        """The weighted sum for embeddings (B, D) of both senses and labels (B,), with its parts."""
        return weighted_sum(_parts(self.objectives, audio, visual, label), self.weights)


class UncertaintyWeighting(nn.Module):
    """`uncertainty_weighted` objectives by name, with one learned log variance each, kept within `[lowest, highest]`.

    The bounds end the race that `uncertainty_weighted` describes: a weight lies in `exp(-highest) / 2` to
    `exp(-lowest) / 2`. As in `InfoNCELoss`, the parameter itself is brought back: beyond a clamp there is no gradient.
    Raises `ValueError` for no terms, or bounds that do not hold 0, where each starts.

    >>> both = UncertaintyWeighting({"far": lambda audio, visual, label: (audio - visual).square().sum()})
    >>> found = both(torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([0]))
    >>> found.loss.item(), found.weights["far"].item()
    (2.0, 0.5)
    """

    def __init__(self, objectives: Mapping[str, Objective], *, lowest: float = -6.0, highest: float = 6.0) -> None:
        super().__init__()
        self.objectives = dict(objectives)
        if not self.objectives:
            raise ValueError("a sum of objectives needs one term or more")
        if not lowest <= 0 <= highest:
            raise ValueError(f"log variances start at 0: need lowest <= 0 <= highest, got {lowest:g} and {highest:g}")
        self.lowest, self.highest = lowest, highest
        self.learned = _modules(self.objectives)
        self.log_variances = nn.Parameter(torch.zeros(len(self.objectives)))

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor) -> Weighted:
        """The loss for embeddings (B, D) of both senses and labels (B,), its parts, and the weights learned so far."""
        with torch.no_grad():
            self.log_variances.clamp_(self.lowest, self.highest)
        s = dict(zip(self.objectives, self.log_variances.unbind(), strict=True))
        return uncertainty_weighted(_parts(self.objectives, audio, visual, label), s)

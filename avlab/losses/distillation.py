"""Knowledge distillation: a small student learns from what a large teacher says instead of from the truth.

Survey section 3.2 i with equation 3, and 2.1 for audio models (reference 123, Schmid 2023); soft labels after Hinton et
al. 2015, features with an adapter after Romero et al. 2015. Left out here: matching of attention maps, of relations
between clips, and several teachers.

Conventions as in `avlab.losses.distance`: means over clips, both senses added. A teacher is never taught: its outputs
carry no gradient, whoever computed them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avlab.losses.distance import BothSenses
from avlab.losses.similarity import at_least_float32, check_pairs, full_precision, unit


def _check_teacher(audio: torch.Tensor, visual: torch.Tensor, audio_teacher: torch.Tensor, visual_teacher: torch.Tensor,
                   width: str) -> None:  # fmt: skip
    check_pairs(audio, visual)
    for name, own, teacher in (("audio", audio, audio_teacher), ("visual", visual, visual_teacher)):
        if own.shape != teacher.shape:
            raise ValueError(
                f"student and teacher must both be (B, {width}); {name}: {tuple(own.shape)} and {tuple(teacher.shape)}"
                + (" (where widths differ, FeatureDistillation learns an adapter)" if width == "D" else "")
            )


def feature_distillation(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    audio_teacher: torch.Tensor,
    visual_teacher: torch.Tensor,
    normalise: bool = False,
) -> BothSenses:
    """Regression on a teacher's embeddings: `mean_i |a_i - t_i|^2 + mean_i |v_i - u_i|^2`.

    All (B, D), row by row from the same clip; `t`, `u` are the teacher's of sounds and pictures. Lower is closer. With
    `normalise` all are brought to length one first: otherwise a teacher with long embeddings, or the sense with the
    longer ones, counts more.

    Differs from the survey: equation 3 prints squares of differences, which are vectors; here they are squared norms.
    And the teacher's gradient is stopped, without which the teacher would learn from its student.

    Raises `ValueError` where the four shapes are not one (B, D).

    >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> found = feature_distillation(student, student, audio_teacher=teacher, visual_teacher=student)
    >>> found.audio.item(), found.visual.item()
    (5.0, 0.0)
    """
    _check_teacher(audio, visual, audio_teacher, visual_teacher, "D")
    parts = []
    with full_precision(audio):
        for own, teacher in ((audio, audio_teacher), (visual, visual_teacher)):
            own, teacher = ((unit if normalise else at_least_float32)(x) for x in (own, teacher.detach()))
            parts.append((own - teacher).square().sum(1).mean())
    return BothSenses(parts[0] + parts[1], *parts)


def soft_label_distillation(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    audio_teacher: torch.Tensor,
    visual_teacher: torch.Tensor,
    temperature: float = 4.0,
) -> BothSenses:
    """A teacher's softened answers as targets: `T^2 mean_i KL(softmax(z_teacher / T) || softmax(z_student / T))`.

    All (B, K) logits of K classes; the sum of one such term for sounds and one for pictures. Nats, 0 where the student
    answers like the teacher. A high `temperature` shows what the teacher holds for the second best; `T^2` keeps the
    size of the gradient about the same over temperatures (Hinton et al. 2015). With one-hot answers of the
    teacher and T = 1 it is `class_cross_entropy`. Equation 3 has no such form; the survey's text names predictions too.

    Raises `ValueError` where the four shapes are not one (B, K) or the temperature is not above 0.

    >>> teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> found = soft_label_distillation(student, teacher, audio_teacher=teacher, visual_teacher=teacher, temperature=1)
    >>> round(found.audio.item(), 4), round(found.visual.item(), 4)
    (0.3278, 0.0)
    """
    _check_teacher(audio, visual, audio_teacher, visual_teacher, "K")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {temperature:g}; 1 to 10 is usual")
    parts = []
    with full_precision(audio):
        for own, teacher in ((audio, audio_teacher), (visual, visual_teacher)):
            said = F.log_softmax(at_least_float32(own) / temperature, dim=1)
            wanted = F.log_softmax(at_least_float32(teacher.detach()) / temperature, dim=1)
            divergence = F.kl_div(said, wanted, reduction="batchmean", log_target=True)
            parts.append(temperature**2 * divergence)
    return BothSenses(parts[0] + parts[1], *parts)


class FeatureDistillation(nn.Module):
    """`feature_distillation` for a student of another width: a linear adapter (no bias) to the teacher's is learned.

    `shared`: one adapter for both senses. With one each (`shared=False`) the student's sounds and pictures need not be
    comparable with each other before the adapters: each is turned into place on its own. The adapter is thrown away
    after training. Raises `ValueError` where embeddings have other widths than those given.

    >>> criterion = FeatureDistillation(2, 3)
    >>> _ = criterion.audio_adapter.weight.data.copy_(torch.eye(3, 2))
    >>> student, teacher = torch.ones(1, 2), torch.ones(1, 3)
    >>> criterion(student, student, audio_teacher=teacher, visual_teacher=teacher).loss.item()
    2.0
    """

    def __init__(self, D: int, D_teacher: int, *, shared: bool = True, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.audio_adapter = nn.Linear(D, D_teacher, bias=False)
        self.visual_adapter = self.audio_adapter if shared else nn.Linear(D, D_teacher, bias=False)

    def forward(
        self, audio: torch.Tensor, visual: torch.Tensor, *, audio_teacher: torch.Tensor, visual_teacher: torch.Tensor
    ) -> BothSenses:
        """`feature_distillation` of embeddings (B, D), through the adapter, to the teacher's (B, D_teacher)."""
        check_pairs(audio, visual)
        if audio.shape[1] != self.audio_adapter.in_features:
            raise ValueError(
                f"the adapter reads embeddings (B, {self.audio_adapter.in_features}), got {tuple(audio.shape)}"
            )
        with full_precision(audio):
            own = []
            for adapter, x in ((self.audio_adapter, audio), (self.visual_adapter, visual)):
                x = at_least_float32(x)
                own.append(x @ adapter.weight.to(x.dtype).T)  # (B, D_teacher)
        return feature_distillation(
            *own, audio_teacher=audio_teacher, visual_teacher=visual_teacher, normalise=self.normalise
        )

"""Where in the picture is the sound? Once with no training (correlation), once learned (similarity of embeddings)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import nn

from avlab.models.audio import AudioCNN
from avlab.models.projector import Projector
from avlab.models.visual import VisualCNN

STILL = 1e-6  # deviation of a signal below which it counts as constant


def correlation_map(sound: torch.Tensor, motion: torch.Tensor, *, ridge: float = 1e-3) -> torch.Tensor:
    """Canonical correlation between a clip's sound and the motion of each place: a heatmap with no training.

    `sound` (B, N) or (B, K, N), K features of the sound per video frame; `motion` (B, N, h, w), how much each place
    moves in each frame. Returns (B, h, w) in [0, 1], higher means "moves with the sound".

    A place has one motion feature, so its canonical correlation is the multiple correlation with the K sound
    features, in closed form: `rho = sqrt(c' (S + ridge s I)^-1 c)`, with `S` the covariance of the sound's features
    over time, `s` its mean diagonal, `c` their covariance with the motion divided by the motion's deviation. For
    K = 1 no ridge is needed, the sign is known, and a place that moves *against* the sound gets 0. Places that never
    move get 0.

    Raises `ValueError` where N differs, or is not larger than K + 1: then any noise correlates perfectly.

    >>> sound = torch.tensor([[0.0, 1, 0, 1, 0]])
    >>> motion = torch.stack([sound, 1 - sound, torch.zeros(1, 5)], dim=-1).reshape(1, 5, 1, 3)
    >>> correlation_map(sound, motion, ridge=0.0).tolist()
    [[[1.0, 0.0, 0.0]]]
    """
    signed = sound.ndim == 2
    sound = sound[:, None] if signed else sound  # (B, K, N)
    (K, N), h = sound.shape[1:], motion.shape[2]
    if motion.shape[1] != N:
        raise ValueError(f"sound has {N} frames, motion {motion.shape[1]}: compute both at the video's frame rate")
    if N <= K + 1:
        raise ValueError(f"{N} frames cannot tell {K} sound features from chance: use a longer clip or fewer features")
    sound, motion = sound.double(), rearrange(motion.double(), "B N h w -> B N (h w)")
    sound = sound - sound.mean(dim=2, keepdim=True)
    motion = motion - motion.mean(dim=1, keepdim=True)
    spread = motion.square().mean(dim=1).sqrt()  # (B, P)
    still = spread <= STILL
    S = sound @ sound.mT / N
    s = S.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-20)
    c = sound @ motion / N / spread.masked_fill(still, 1)[:, None]  # (B, K, P)
    eye = torch.eye(K, dtype=S.dtype, device=S.device)
    root = torch.linalg.cholesky(S + ((0 if signed else ridge) + 1e-12) * s[:, None, None] * eye)
    white = torch.linalg.solve_triangular(root, c, upper=False)  # (B, K, P)
    rho = white[:, 0].clamp_min(0) if signed else white.norm(dim=1)
    return rearrange(rho.masked_fill(still, 0).clamp_max(1), "B (h w) -> B h w", h=h).float()


def correlation_match(sound: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """How well every sound goes with every picture, with no training: (A, N), (B, N, h, w) to (A, B), in [0, 1].

    The best place decides: `max_p rho(sound_a, motion_b at p)`, with the correlation of `correlation_map` (K = 1).
    """
    if sound.ndim != 2 or motion.ndim != 4 or sound.shape[1] != motion.shape[1]:
        raise ValueError(f"need (A, N) and (B, N, h, w) with one N, got {tuple(sound.shape)} and {tuple(motion.shape)}")
    level = _standard(sound.double(), dim=1)
    places = _standard(rearrange(motion.double(), "B N h w -> B N (h w)"), dim=1)
    best = [(level @ picture / len(picture)).amax(dim=1) for picture in places]  # B times (A,)
    return torch.stack(best, dim=1).clamp(0, 1).float()


def _standard(x: torch.Tensor, *, dim: int) -> torch.Tensor:
    """Mean 0 and deviation 1 along `dim`; what does not vary becomes 0."""
    x = x - x.mean(dim=dim, keepdim=True)
    spread = x.square().mean(dim=dim, keepdim=True).sqrt()
    return torch.where(spread > STILL, x / spread.clamp_min(STILL), torch.zeros_like(x))


def attention_pool(maps: torch.Tensor, *, sharpness: float = 4.0) -> torch.Tensor:
    """One score from a map of similarities: `sum_p softmax_p(sharpness M)_p M_p`, (..., h, w) to (...).

    Between the mean (sharpness 0) and the maximum (infinite): a sound comes from *somewhere* in the picture, nobody
    says where. The maximum itself would send gradient to one place only.

    >>> attention_pool(torch.tensor([[0.0, 1.0]]), sharpness=0.0).item()
    0.5
    """
    flat = maps.flatten(-2)
    return (torch.softmax(sharpness * flat, dim=-1) * flat).sum(dim=-1)


class Views(NamedTuple):
    """What a dual encoder makes of a batch: `audio` (B, D) and `places` (B, D, h, w), all of length one along D."""

    audio: torch.Tensor
    places: torch.Tensor


class DualEncoder(nn.Module):
    """Two encoders and two projectors into one space, with the picture's places kept (after [4, 6]; survey 1.1, D.4).

    `forward(spectrogram (B, F, T), residual (B, 3 + N, H, W)) -> Views`. The similarity of sound `i` and place `p` of
    picture `j` is a cosine; `scores` pools the places of every pair into a (B, B) matrix for InfoNCE; `maps` gives
    each clip's own heatmap (B, h, w); `visual` the one vector of a picture that its own sound attends to.
    """

    def __init__(self, *, frames: int, D: int = 64, sharpness: float = 4.0) -> None:
        super().__init__()
        self.audio_encoder, self.visual_encoder = AudioCNN(), VisualCNN(frames)
        self.audio_projector = Projector(self.audio_encoder.features, D, hidden=192)
        self.visual_projector = Projector(self.visual_encoder.features, D)
        self.sharpness = sharpness

    def forward(self, spectrogram: torch.Tensor, residual: torch.Tensor) -> Views:
        audio = self.audio_projector(self.audio_encoder(spectrogram))
        places = self.visual_projector(rearrange(self.visual_encoder(residual), "B D h w -> B h w D"))
        return Views(audio, rearrange(places, "B h w D -> B D h w"))

    def scores(self, audio: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Similarity of every sound with every picture: (A, D), (B, D, h, w) to (A, B), in [-1, 1]."""
        return attention_pool(torch.einsum("ad,bdhw->abhw", audio, places), sharpness=self.sharpness)

    def maps(self, views: Views) -> torch.Tensor:
        """Each clip's similarity of its own sound with each of its places: (B, h, w), in [-1, 1]."""
        return torch.einsum("bd,bdhw->bhw", views.audio, views.places)

    def visual(self, views: Views) -> torch.Tensor:
        """The picture as one point (B, D): its places, weighted by where its own sound attends, length one."""
        flat = rearrange(views.places, "B D h w -> B D (h w)")
        weights = torch.softmax(self.sharpness * self.maps(views).flatten(1), dim=-1)
        return torch.nn.functional.normalize(torch.einsum("bdp,bp->bd", flat, weights), dim=-1)

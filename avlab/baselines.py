"""Trivial baselines ("cheats"): what can be had without learning how sound and picture belong together.

A result means something only above these, and a data set is worth learning from only where they stay low. Each takes a
short cut that a model could take too; its docstring says which, and `metrics` measures it like any model.

Conventions: `pairs` is `datasets.Pairs` of M clips. Matches are similarities (A sounds, B pictures), higher is better,
the partner of row `i` is column `i` (`metrics.retrieval`); heatmaps are (B, h, w) in [0, 1] (`metrics.localization`);
features are float32 (M, D), a clip a row, for `probe_accuracy`; `classify` gives log-probabilities (M, K), to be
joined by `late_fusion`.

Survey appendices D.3, D.4 (applications), 3.2 v (CCA), 2.2 (late fusion).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from avlab.datasets.pairs import Pairs, Views
from avlab.losses.correlation import linear_cca
from avlab.metrics.localization import normalise_heat
from avlab.models.audio import AudioCNN
from avlab.models.visual import VisualCNN
from avlab.train import train as fit
from avlab.video import pool_grid

SENSES = ("audio", "sight", "both")
CHUNK = 256  # clips whose pictures are held as floats at a time


def envelope_match(pairs: Pairs, *, onsets: bool = False) -> torch.Tensor:
    """Does the whole picture move when it is loud? Pearson's correlation over frames: (M, M) in [-1, 1].

    `s_ab = corr_n(level_a, motion_b)` with the level in dB and the mean motion of the picture; with `onsets`, of
    the rises of both, `max(0, x_n - x_(n-1))`: what begins, not what goes on. The gain of a sound (above the floor of
    -80 dB) and the place of a motion do not matter. What never changes goes with nothing (0).

    Exploits that one thing moves, and nothing else. `models.localizer.correlation_match` asks each place instead.
    """
    sound, moves = pairs.loudness.double(), pairs.motion.double().mean(dim=(2, 3))  # (M, N) each
    if onsets:
        sound, moves = (x.diff(dim=1).clamp(min=0) for x in (sound, moves))
    sound, moves = (F.normalize(x - x.mean(dim=1, keepdim=True), dim=1) for x in (sound, moves))
    return (sound @ moves.T).float()


def loudness_match(pairs: Pairs) -> torch.Tensor:
    """Does the louder sound go with the picture that moves more? (M, M) in [-(M - 1), 0].

    `s_ab = -|rank(loudness_a) - rank(motion_b)|`, each ranked among the M clips, so that no unit matters. Equals share
    their mean rank: broken by place in the list, ties would find every partner. Exploits amounts and no time at all.
    """
    loudness, amount = loudness_features(pairs)[:, 0], pairs.motion.mean(dim=(1, 2, 3))
    return -(_mean_ranks(loudness)[:, None] - _mean_ranks(amount)).abs()


def cca_match(train: Pairs, test: Pairs, *, components: int = 24, ridge: float = 1e-2) -> torch.Tensor:
    """Linear CCA of the mean spectrum and the mean picture: cosines of the test pairs, (M, M) in [-1, 1].

    Log-mel averaged over time (F,) and the mean picture as 8x8 cells (192,), so nothing in it knows of time; weights
    from `train` by `losses.correlation.linear_cca` (survey 3.2 v, equation 4). Exploits that what looks alike on
    average sounds alike on average: colours, backgrounds and places that go with kinds of sound.
    """
    cca = linear_cca(_mean_spectrum(train), _mean_picture(train), components=components, ridge=ridge)
    return cca.similarity(_mean_spectrum(test), _mean_picture(test))


def shuffled(similarity: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same scores with the columns in random order: the negative control, (A, B) to (A, B).

    What a measure still says of it is chance, or a fault of the measure. A column may fall on its own place, as a
    guess may be right: recall at k is k / B on average.

    >>> shuffled(torch.eye(3), torch.Generator().manual_seed(0)).sum(dim=1)
    tensor([1., 1., 1.])
    """
    return similarity[:, torch.randperm(similarity.shape[1], generator=generator).to(similarity.device)]


def centre_prior(B: int, grid: int | tuple[int, int]) -> torch.Tensor:
    """B heatmaps that always point at the middle: (B, h, w) in (0, 1].

    `exp(-(x^2 + y^2) / (2 * 0.25^2))` with x, y in shares of the width and height from the middle. Exploits that
    whoever films puts the thing there.

    >>> centre_prior(1, (1, 3))
    tensor([[[0.4111, 1.0000, 0.4111]]])
    """
    h, w = (grid, grid) if isinstance(grid, int) else grid
    if min(B, h, w) < 1:
        raise ValueError(f"need at least one map of one cell, got {B} maps of {h}x{w}")
    y, x = ((2 * torch.arange(cells) + 1 - cells) / (2 * cells) for cells in (h, w))  # equal on both sides to the bit
    return torch.exp(-(y[:, None].square() + x.square()) / (2 * 0.25**2)).expand(B, h, w).clone()


def motion_saliency(motion: torch.Tensor) -> torch.Tensor:
    """Heatmaps of where it moves, whatever is heard: motion (B, N, h, w) to (B, h, w) in [0, 1].

    The mean over frames, brought to [0, 1] per map. Exploits that what sounds often moves the most; what moves in
    silence misleads it.

    >>> motion_saliency(torch.tensor([[[[0.0, 1.0, 4.0]], [[0.0, 1.0, 0.0]]]])).tolist()
    [[[0.0, 0.5, 1.0]]]
    """
    if motion.ndim != 4:
        raise ValueError(f"motion must be (B, N, h, w), got {tuple(motion.shape)}")
    return normalise_heat(motion.mean(dim=1))


def audio_features(pairs: Pairs) -> torch.Tensor:
    """Mean and deviation of the log-mel over time: (M, 2F). What the ear alone tells, without order in time."""
    deviation = pairs.spectrogram.float().std(dim=2, correction=0)
    return torch.cat([_mean_spectrum(pairs), deviation], dim=1)


def picture_features(pairs: Pairs) -> torch.Tensor:
    """Mean and deviation of the picture over time in 8x8 cells: (M, 3 * 64 + 64). What the eye alone tells.

    The mean in RGB, the deviation of the luminance.
    """

    def deviation(residual: torch.Tensor) -> torch.Tensor:
        spread = residual[:, 3:].square().mean(dim=1, keepdim=True).sqrt() / 4  # (M, 1, H, W)
        return pool_grid(spread, 8).flatten(1)

    return torch.cat([_mean_picture(pairs), _of_pictures(pairs, deviation)], dim=1)


def colour_features(pairs: Pairs) -> torch.Tensor:
    """Mean colour of the picture: (M, 3), RGB in [0, 1]. Exploits a palette that goes with a class."""
    return _of_pictures(pairs, lambda residual: residual[:, :3].mean(dim=(2, 3)) + 0.5)


def background_features(pairs: Pairs) -> torch.Tensor:
    """Mean colours of the four corners, an eighth of the picture a side: (M, 12), RGB in [0, 1].

    Top left, top right, bottom left, bottom right. Exploits that kinds of things are filmed in their own places.
    """

    def corners(residual: torch.Tensor) -> torch.Tensor:
        h, w = (max(1, side // 8) for side in residual.shape[-2:])
        rows, columns = (slice(h), slice(-h, None)), (slice(w), slice(-w, None))
        return torch.cat([residual[:, :3, y, x].mean(dim=(2, 3)) for y in rows for x in columns], dim=1) + 0.5

    return _of_pictures(pairs, corners)


def loudness_features(pairs: Pairs) -> torch.Tensor:
    """Level of the whole sound in dB of full scale: (M, 1). Exploits that some classes were recorded louder.

    `10 log10 mean_n 10^(level_n / 10)`: the power is averaged, not the decibels, which pauses would pull down.
    """
    power = (10 ** (pairs.loudness / 10)).mean(dim=1, keepdim=True)
    return 10 * power.log10()


def probe_accuracy(train_x: torch.Tensor, train_y: torch.Tensor, test_x: torch.Tensor, test_y: torch.Tensor) -> float:
    """Share of test clips whose class a linear probe reads from features, in [0, 1]; higher is better.

    Logistic regression on features brought to mean 0 and deviation 1; x (M, D), y (M,) labels as in `Pairs.label`. It
    has no randomness. Chance is the share of the most frequent class. Raises `ValueError` for unknown labels (-1).

    >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> probe_accuracy(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 1, 1, 1]))
    0.75
    """
    _check_labels(train_y, test_y)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(probe.fit(train_x.numpy(), train_y.numpy()).score(test_x.numpy(), test_y.numpy()))


def classify(
    train: Pairs,
    test: Pairs,
    *,
    sense: str,
    steps: int = 300,
    seed: int = 0,
    mirror: bool = True,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> torch.Tensor:
    """Log-probabilities of each test clip's class from one sense, or both: (M, K) on the host, K = len(kinds).

    Trains `AudioCNN` ("audio"), `VisualCNN` ("sight") or the two side by side ("both") with one hidden layer on top,
    by cross-entropy in `avlab.train`, B = 64. The strong version of the probes: what is left beyond one sense is what
    fusion can gain. "both" joins the features before the decision, so that it can learn what neither sense tells;
    for another label than the kind, put it in the pairs: `dataclasses.replace(pairs, label=..., kinds=...)`, and set
    `mirror` to False where left and right matter.

    Raises `ValueError` for another sense, kinds that differ, or unknown labels (-1).
    """
    if sense not in SENSES:
        raise ValueError(f"sense={sense!r} is not one of {', '.join(SENSES)}")
    if train.kinds != test.kinds:
        raise ValueError(f"train has the kinds {train.kinds}, test {test.kinds}: give both one list")
    _check_labels(train.label, test.label)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Classifier(sense, frames=train.residual.shape[1] - 3, K=len(train.kinds))
    model = model.to(device, memory_format=torch.channels_last)

    def loss_of(model: nn.Module, batch: Views) -> tuple[torch.Tensor, dict[str, float]]:
        return F.cross_entropy(model(batch.spectrogram, batch.residual).float(), batch.label), {}

    batches = train.batches(min(64, len(train)), seed=seed, device=device, mirror=mirror)
    fit(model, loss_of, batches, steps=steps, lr=2e-3, weight_decay=0.02, progress=progress, seed=seed)
    with torch.no_grad():
        parts = [model(*test.views(rows, device)[:2]) for rows in torch.arange(len(test)).split(CHUNK)]
    return torch.cat(parts).float().log_softmax(dim=1).cpu()


def late_fusion(audio: torch.Tensor, sight: torch.Tensor) -> torch.Tensor:
    """Two decisions made one: `p(k) = p_audio(k) p_sight(k) / sum_k ...`, log-probabilities (M, K) twice to (M, K).

    Right where the senses are independent given the class and classes are equally frequent; it cannot learn a class
    that neither sense tells (XOR). Survey 2.2.

    >>> late_fusion(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.2, 0.8]]).log()).exp()
    tensor([[0.2000, 0.8000]])
    """
    if audio.shape != sight.shape:
        raise ValueError(f"both decisions must be (M, K), got {tuple(audio.shape)} and {tuple(sight.shape)}")
    return (audio + sight).log_softmax(dim=-1)


class _Classifier(nn.Module):
    """The encoders of a sense, or both with the products of their features, and one hidden layer: (B, K) scores."""

    def __init__(self, sense: str, *, frames: int, K: int, width: int = 128) -> None:
        super().__init__()
        self.audio = None if sense == "sight" else AudioCNN()
        self.visual = None if sense == "audio" else VisualCNN(frames)
        encoders = {"heard": self.audio, "seen": self.visual}
        self.into = nn.ModuleDict({name: nn.Linear(e.features, width) for name, e in encoders.items() if e is not None})
        ins = width * (3 if sense == "both" else 1)
        self.head = nn.Sequential(nn.LayerNorm(ins), nn.Linear(ins, width), nn.ReLU(inplace=True), nn.Linear(width, K))

    def forward(self, spectrogram: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        features = []  # (B, width) each
        if self.audio is not None:
            features.append(self.into["heard"](self.audio(spectrogram)))
        if self.visual is not None:
            seen = self.visual(residual).amax(dim=(2, 3))  # wherever it is, and however small
            features.append(self.into["seen"](seen))
        if len(features) == 2:
            features.append(features[0] * features[1])  # what only holds together
        return self.head(torch.cat(features, dim=1))


def _mean_spectrum(pairs: Pairs) -> torch.Tensor:
    """Log-mel averaged over time: (M, F)."""
    return pairs.spectrogram.mean(dim=2, dtype=torch.float32)


def _mean_picture(pairs: Pairs) -> torch.Tensor:
    """The picture averaged over time and in 8x8 cells: (M, 192), RGB around 0."""
    return _of_pictures(pairs, lambda residual: pool_grid(residual[:, :3], 8).flatten(1))


def _of_pictures(pairs: Pairs, feature: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A feature of each picture; a few at a time, since residuals as floats take four times the memory."""
    return torch.cat([feature(rows.float() / 64) for rows in pairs.residual.split(CHUNK)])


def _mean_ranks(x: torch.Tensor) -> torch.Tensor:
    """Places in rising order from 0, equals in the middle of their places: (M,) -> (M,)."""
    return (x[None] < x[:, None]).sum(dim=1) + ((x[None] == x[:, None]).sum(dim=1) - 1) / 2


def _check_labels(*labels: torch.Tensor) -> None:
    unknown = sum(int((label < 0).sum()) for label in labels)
    if unknown:
        raise ValueError(f"{unknown} clips have no known class (label -1): leave them out")

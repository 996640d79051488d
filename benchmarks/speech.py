"""Is the speech of the world intelligible? Word error rates of small recognisers that listen or read lips.

    python benchmarks/speech.py

Three networks, one on log-mel and two on the mouth's region at 25 and at 8.3 frames a second, are trained with
connectionist temporal classification (Graves et al. 2006) on clips of the twelve training speakers, the listener with
white noise at -10 to 35 dB in three clips of four. Then all transcribe unseen clips of the same speakers, and clips of
the four speakers that training never shows. WER = (substitutions + deletions + insertions) / words said, lower is
better; 100 % is what silence scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from avlab.audio import log_mel
from avlab.train import train
from avlab.world import World
from avlab.world.families.speech import WORDS

CLIPS, TESTED, STEPS, BATCH, FPS, SIDE = 1500, 200, 400, 32, 25, 24
UNSEEN = 100_000  # clips from this number on are not trained on


class Recogniser(nn.Module):
    """Features of 25 frames a second to log-probabilities of a blank and of each word: (T, B, 1 + words)."""

    def __init__(self, front: nn.Module, width: int):
        super().__init__()
        self.front, self.gru = front, nn.GRU(width, 96, bidirectional=True, batch_first=True)
        self.out = nn.Linear(192, 1 + len(WORDS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(self.front(x))  # (B, T, 2 * 96)
        return rearrange(self.out(states), "B T D -> T B D").float().log_softmax(-1)


class Ears(nn.Module):
    """Log-mel (B, 40, T) at 100 frames a second to (B, T / 4, 96)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(40, 96, 5, stride=2, padding=2), nn.BatchNorm1d(96), nn.ReLU(),
            nn.Conv1d(96, 96, 5, stride=2, padding=2), nn.BatchNorm1d(96), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rearrange(self.layers(x), "B D T -> B T D")


class Eyes(nn.Module):
    """Mouths (B, N, 1, 24, 24) to (B, N, 96): each frame by itself, then three together."""

    def __init__(self):
        super().__init__()
        sizes = ((1, 16), (16, 32), (32, 48))
        self.frame = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in sizes),
            nn.Flatten(), nn.Linear(48 * 9, 96),
        )  # fmt: skip
        self.across = nn.Sequential(nn.Conv1d(96, 96, 3, padding=1), nn.BatchNorm1d(96), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.frame(rearrange(x, "B N C H W -> (B N) C H W"))
        return rearrange(self.across(rearrange(seen, "(B N) D -> B D N", B=len(x))), "B D N -> B N D")


def mouths(frames: np.ndarray, who: dict) -> np.ndarray:
    """The mouth's region, upright: grey (N, 1, 24, 24), 1.4 radii wide, without its mean over the clip."""
    H, r = frames.shape[1], who["size"]
    c, s = np.cos(who["tilt"]) * 1.4 * r * H / SIDE, np.sin(who["tilt"]) * 1.4 * r * H / SIDE
    middle = np.array([who["x"] - 0.55 * r * np.sin(who["tilt"]), who["y"] + 0.55 * r * np.cos(who["tilt"])]) * H - 0.5
    turn = np.array([[c, -s], [s, c]])
    M = np.column_stack([turn, middle - turn @ np.full(2, (SIDE - 1) / 2)])
    grey = frames.mean(-1).astype(np.float32)
    cut = [cv2.warpAffine(g, M, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) for g in grey]
    cut = np.stack(cut)[:, None]
    return (cut - cut.mean()) / (cut.std() + 8)


def recorded(split: str, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
    """Waveforms (B, L), mouths (B, N, 1, 24, 24) and the words' numbers (0 is the blank) of clips of one face each."""
    world = World(level="L0", kinds=["face"], split=split, fps=FPS)
    heard, seen, said = [], [], []
    for i in range(first, first + count):
        clip = world.clip(i)
        heard.append(clip.waveform.mean(0))
        seen.append(mouths(clip.frames, clip.truth.factors[0]))
        said.append([1 + WORDS.index(word) for _, _, word in clip.truth.words])
    return torch.from_numpy(np.stack(heard)), torch.from_numpy(np.stack(seen).astype(np.float32)), said


def features(waveforms: torch.Tensor, snr: torch.Tensor | float, generator: torch.Generator) -> torch.Tensor:
    """Log-mel (B, 40, T) without each band's mean, of clips (B, L) in white noise at `snr` dB (inf: clean)."""
    noise = torch.randn(waveforms.shape, generator=generator) * waveforms.square().mean(1, keepdim=True).sqrt()
    noisy = waveforms + noise * 10 ** (-torch.as_tensor(snr).reshape(-1, 1) / 20)
    X = log_mel(noisy, sample_rate=16000, bands=40)[..., :-1] / 10
    return X - X.mean(-1, keepdim=True)


def distance(said: Sequence[int], read: Sequence[int]) -> int:
    """Levenshtein's: the fewest substitutions, deletions and insertions that turn one sequence into the other."""
    row = list(range(len(read) + 1))
    for i, a in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(read, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def wer(model: nn.Module, x: torch.Tensor, said: Sequence[Sequence[int]]) -> float:
    """Word error rate in per cent of the likeliest path, repeats joined and blanks left out."""
    with torch.no_grad():
        paths = torch.cat([model(part).argmax(-1).T for part in x.split(50)])
    read = [[k for k in torch.unique_consecutive(path).tolist() if k] for path in paths]
    return 100 * sum(map(distance, said, read)) / sum(map(len, said))


def learn(model: nn.Module, inputs_of: Callable, said: Sequence[Sequence[int]]) -> float:
    """Train with connectionist temporal classification; returns the seconds it took."""

    def batches(step: int) -> tuple[torch.Tensor, list[list[int]]]:
        which = torch.randint(len(said), (BATCH,), generator=torch.Generator().manual_seed(step))
        return inputs_of(which, torch.Generator().manual_seed(step)), [said[i] for i in which.tolist()]

    def loss_of(model: nn.Module, batch: tuple) -> tuple[torch.Tensor, dict]:
        logs = model(batch[0])
        lengths = torch.tensor([len(words) for words in batch[1]])
        words = torch.tensor([k for words in batch[1] for k in words])
        return F.ctc_loss(logs, words, torch.full((BATCH,), len(logs)), lengths), {}

    started = time.monotonic()
    train(model, loss_of, batches, steps=STEPS, lr=3e-3, precision="float32", progress=False)
    return time.monotonic() - started


def main() -> None:
    """Print the table."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    started = time.monotonic()
    heard, seen, said = recorded("iid", 0, CLIPS)
    tests = {
        "12 speakers, new clips": recorded("iid", UNSEEN, TESTED),
        "4 new speakers": recorded("compositional", UNSEEN, TESTED),
    }
    print(f"{CLIPS} clips, {sum(map(len, said))} words of {len(WORDS)}; made in {time.monotonic() - started:.0f} s")

    def noisy(which: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        snr = torch.rand(len(which), generator=generator) * 60 - 10
        return features(heard[which], torch.where(snr < 35, snr, torch.inf), generator)

    models = {"ears": Recogniser(Ears(), 96), "lips 25": Recogniser(Eyes(), 96), "lips 8": Recogniser(Eyes(), 96)}
    inputs = {"ears": noisy, "lips 25": lambda which, _: seen[which], "lips 8": lambda which, _: seen[which, ::3]}
    took = [f"{name} {learn(models[name], inputs[name], said):.0f} s" for name in models]
    print("trained: " + ", ".join(took))
    conditions = {"clean": torch.inf, "10 dB": 10.0, "0 dB": 0.0, "-10 dB": -10.0}
    print(f"{'WER in per cent':26s}" + "".join(f"{name:>9s}" for name in (*conditions, "lips 25", "lips 8")))
    for name, (waveforms, lips, words) in tests.items():
        g = torch.Generator().manual_seed(1)
        row = [wer(models["ears"], features(waveforms, snr, g), words) for snr in conditions.values()]
        row += [wer(models["lips 25"], lips, words), wer(models["lips 8"], lips[:, ::3], words)]
        print(f"{name:26s}" + "".join(f"{value:9.1f}" for value in row))


if __name__ == "__main__":
    main()

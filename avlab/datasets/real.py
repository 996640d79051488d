"""Features of real sounds and pictures, ready for projectors: people who speak letters, sentences, digits; videos.

| set | sounds | pictures | row `i` of both from |
|---|---|---|---|
| `avletters` | cepstra of a spoken letter | the lips that spoke it | one utterance |
| `grid_speech` | log-mel spectrum of a sentence | the mouth of the one speaker | one utterance |
| `ccv` | bag of cepstra, 20 numbers | bags of corners and of motion, 20 each | one video |
| `spoken_digits` | log-mel spectrum of a digit | a handwritten digit, 8 x 8 | one class, nothing else |

They are found in the folder `AVLAB_CLIPS`, which nobody but you can fill: their licences allow research use, not
copies here. Arrays are loaded without pickles. What is slow to make is kept in the project's cache.

References: Matthews et al. 2002 (AVLetters); Cooke et al. 2006 (GRID); Jiang et al. 2011 (CCV); Jackson, free spoken
digit dataset; the digits of scikit-learn. Each file's README tells what was done to it before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from sklearn.datasets import load_digits

from avlab.audio import log_mel
from avlab.datasets.features import Features, standardised
from avlab.datasets.store import store
from avlab.media import read

VERSION = 1  # of what is kept: raise it when the making changes
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
COMMANDS = ("bin", "lay", "place", "set")  # first word of a GRID sentence, and first letter of its file's name


def clips_folder(folder: str | Path | None = None) -> Path:
    """The folder with real clips and features: the one given, else that in `AVLAB_CLIPS`.

    Raises `FileNotFoundError`, saying what to do, where neither is there.
    """
    named = folder or os.environ.get("AVLAB_CLIPS")
    if not named:
        raise FileNotFoundError("real features are needed here: set AVLAB_CLIPS to the folder that holds features/")
    if not Path(named).is_dir():
        raise FileNotFoundError(f"AVLAB_CLIPS points at {named}, which is no folder")
    return Path(named)


def avletters(
    folder: str | Path | None = None,
    *,
    copies: int = 8,
    audio_dims: int = 60,
    visual_dims: int = 80,
    speakers_apart: bool = False,
) -> tuple[Features, Features]:
    """Letters spoken by 8 people, 26 x 3 utterances each: cepstra against lips.

    Sounds: 20 moments of 26 cepstral numbers; pictures: 12 moments of 30 x 40 pixels, without the clip's mean image;
    each reduced to its principal components on the clips to learn from, of mean variance 1. Clips to learn from come
    `copies` times: once as they are (the first rows), then each time with lips shifted by up to 2 pixels, half of them
    mirrored, and up to an eighth of the time cut off at both ends, of both senses alike: 416 utterances alone are soon
    known by heart. Test: the third repetition, or the last two speakers where `speakers_apart`. Causes: "speaker".

    Raises `FileNotFoundError` where the file is not there.
    """
    whole = _arrays(folder, "features/avletters/avletters_30x40.npz")
    speakers, speaker = np.unique(whole["speaker"], return_inverse=True)
    test = speaker >= len(speakers) - 2 if speakers_apart else whole["rep"] == 3
    rng = np.random.default_rng(0)
    plain = [_letter(whole, i, None) for i in range(len(test))]
    learn = np.flatnonzero(~test)
    changed = [[_letter(whole, i, rng) for i in learn] for _ in range(copies - 1)]
    reduced = []
    for sense, dims in enumerate((audio_dims, visual_dims)):
        x = np.stack([clip[sense] for clip in plain])
        project = _principal(x[learn], dims)
        rest = [project(np.stack([clip[sense] for clip in clips])) for clips in changed]
        reduced.append((torch.cat([project(x[learn]), *rest]), project(x[test])))
    label, who = (torch.as_tensor(x.astype(np.int64)) for x in (whole["label"], speaker))
    found = []
    for part, rows, times in ((0, torch.from_numpy(learn), copies), (1, torch.from_numpy(np.flatnonzero(test)), 1)):
        causes = {"speaker": who[rows].float().repeat(times)}
        found.append(Features(reduced[0][part], reduced[1][part], label[rows].repeat(times), LETTERS, causes))
    return tuple(found)


def ccv(folder: str | Path | None = None) -> tuple[Features, Features]:
    """Consumer videos of 20 events, 4654 and 1993: bags of cepstra (20) against bags of corners and motion (20 + 20).

    Made by others, without media and without time; which view is which is inferred (see the README beside the file).
    Standardised. Raises `FileNotFoundError` where the file is not there.
    """
    whole = _arrays(folder, "features/ccv/ccv.npz")
    audio = torch.from_numpy(whole["audio_mfcc"])
    visual = torch.from_numpy(np.concatenate([whole["visual_sift"], whole["visual_stip"]], 1))
    label, test = torch.from_numpy(whole["label"].astype(np.int64)), torch.from_numpy(whole["split"] == "test")
    kinds = tuple(str(name) for name in whole["class_names"])
    return standardised(*(Features(audio[rows], visual[rows], label[rows], kinds) for rows in (~test, test)))


def spoken_digits(
    folder: str | Path | None = None, *, seed: int = 0, cache: str | Path | None = None
) -> tuple[Features, Features]:
    """Digits spoken by 6 people against handwritten ones, paired by class and otherwise at random: 2700 and 300.

    Which picture goes with which sound is drawn from `seed`, within the clips to learn from and to test apart. A sound
    does not know its picture, only its class: look at class mAP, not at recall. Sounds: 30 mel bands at 8 moments, the
    time stretched to the word. Standardised. Causes: "speaker". Raises `FileNotFoundError` where there are none.
    """
    files = _files(folder, "spoken_digits", ".wav")
    sounds = _kept(f"digits-{len(files)}", cache, lambda: {"sound": np.stack([_word(file) for file in files])})["sound"]
    digit, speaker, take = zip(*(file.stem.split("_") for file in files), strict=True)
    digit, take = np.array(digit, dtype=np.int64), np.array(take, dtype=np.int64)
    who = np.unique(speaker, return_inverse=True)[1]
    pictures, drawn = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    held = np.zeros(len(pictures), dtype=bool)
    held[np.random.default_rng(0).permutation(len(pictures))[: len(pictures) // 5]] = True  # the same for every seed
    found = []
    for test in (False, True):
        rows = (take < 5) == test
        own = [np.flatnonzero((drawn == k) & (held == test)) for k in range(10)]
        chosen = np.array([rng.choice(own[k]) for k in digit[rows]])
        visual = torch.from_numpy(pictures[chosen].astype(np.float32))
        causes = {"speaker": torch.from_numpy(who[rows]).float()}
        label = torch.from_numpy(digit[rows])
        found.append(Features(torch.from_numpy(sounds[rows]), visual, label, tuple("0123456789"), causes))
    return standardised(*found)


def grid_speech(
    folder: str | Path | None = None,
    *,
    audio_dims: int = 40,
    visual_dims: int = 60,
    cache: str | Path | None = None,
) -> tuple[Features, Features]:
    """Sentences of one speaker, 3 s each, 600 and 200: log-mel spectra against the lower half of the face.

    Sounds: 26 mel bands at 30 moments; pictures: 24 x 24 grey pixels about the mouth at 30 moments, without the clip's
    mean image; each reduced to its principal components on the clips to learn from, of mean variance 1. The label is
    the first word. Decoding takes about two minutes once. Raises `FileNotFoundError` where there are no clips.
    """
    files = _files(folder, "grid_s1", ".mp4")

    def make() -> dict[str, np.ndarray]:
        sounds, mouths = zip(*(_sentence(file) for file in files), strict=True)
        return {"sound": np.stack(sounds), "mouth": np.stack(mouths)}

    whole = _kept(f"grid-{len(files)}", cache, make)
    test = np.zeros(len(files), dtype=bool)
    test[np.random.default_rng(0).permutation(len(files))[: len(files) // 4]] = True
    label = torch.tensor([[name[0] for name in COMMANDS].index(file.stem[0]) for file in files])
    senses = []
    for x, dims in ((whole["sound"], audio_dims), (whole["mouth"], visual_dims)):
        x = x.reshape(len(x), -1).astype(np.float32)
        senses.append(_principal(x[~test], dims)(x))
    rows = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (~test, test))
    return tuple(Features(senses[0][r], senses[1][r], label[r], COMMANDS) for r in rows)


def _letter(whole: dict[str, np.ndarray], i: int, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """Cepstra (20 * 26,) and lips (12 * 30 * 40,) of an utterance, as it is or changed a little."""
    sound, lips = (
        whole[name][whole[f"{name}_offsets"][i] : whole[f"{name}_offsets"][i + 1]].astype(np.float32)
        for name in ("audio", "video")
    )
    begin, end = 0.0, 1.0
    lips = lips - lips.mean(0)
    if rng is not None:
        begin, end = rng.uniform(0, 0.125), 1 - rng.uniform(0, 0.125)
        lips = np.roll(lips, tuple(rng.integers(-2, 3, 2)), (1, 2))
        lips = lips[:, :, ::-1] if rng.random() < 0.5 else lips
    return _moments(sound, 20, begin, end).ravel(), _moments(lips, 12, begin, end).ravel()


def _word(file: Path) -> np.ndarray:
    """Log-mel spectrum of a spoken word (8 * 30,), its time stretched to 8 moments."""
    waveform, rate = soundfile.read(file, dtype="float32")
    bands = log_mel(torch.from_numpy(waveform), sample_rate=rate, n_fft=256, hop=80, bands=30)
    return _moments(bands.T.numpy(), 8).ravel()


def _sentence(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel spectrum (30, 26) and mouth (30, 24, 24) of a sentence; float16 is enough to keep."""
    clip = read(file, size=(72, 90), fps=25, channels=1)
    bands = log_mel(torch.from_numpy(np.asarray(clip.waveform[0])), sample_rate=clip.sample_rate, bands=26)
    grey = np.asarray(clip.frames, dtype=np.float32).mean(3)[:, 40:64, 32:56]  # below the middle of the picture
    return (
        _moments(bands.T.numpy(), 30).astype(np.float16),
        _moments(grey - grey.mean(0), 30).astype(np.float16),
    )


def _moments(sequence: np.ndarray, count: int, begin: float = 0.0, end: float = 1.0) -> np.ndarray:
    """A sequence (T, ...) read at `count` even moments between two shares of its time, linearly in between."""
    place = np.linspace(begin, end, count, dtype=np.float32) * (len(sequence) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(sequence) - 1)
    weight = (place - low.astype(np.float32)).reshape(-1, *[1] * (sequence.ndim - 1))
    return sequence[low] * (1 - weight) + sequence[high] * weight


def _principal(x: np.ndarray, dims: int) -> Callable[[np.ndarray], torch.Tensor]:
    """Map to the `dims` main axes of x (M, F), where each feature of x has variance 1; of mean variance 1 in all."""
    mean, spread = x.mean(0), x.std(0)
    scale = np.where(spread > 1e-6 * spread.max(), 1 / np.maximum(spread, 1e-12), 0).astype(np.float32)
    axes = np.linalg.svd((x - mean) * scale, full_matrices=False)[2][:dims].T  # (F, dims)
    size = ((x - mean) * scale @ axes).std()
    return lambda y: torch.from_numpy(np.ascontiguousarray((y - mean) * scale @ axes / size, dtype=np.float32))


def _arrays(folder: str | Path | None, name: str) -> dict[str, np.ndarray]:
    path = clips_folder(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: AVLAB_CLIPS must point at the folder that holds {name}")
    with np.load(path, allow_pickle=False) as whole:
        return dict(whole)


def _files(folder: str | Path | None, name: str, ending: str) -> list[Path]:
    found = sorted((clips_folder(folder) / name).glob(f"*{ending}"))
    if not found:
        raise FileNotFoundError(f"no *{ending} in {clips_folder(folder) / name}: AVLAB_CLIPS must hold {name}/")
    return found


def _kept(name: str, cache: str | Path | None, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from the cache, or made and put there in one step."""
    path = store("features", cache) / f"{name}-{VERSION}.npz"
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", suffix=".npz", delete=False) as part:
            np.savez(part, **made)
        Path(part.name).replace(path)
    with np.load(path, allow_pickle=False) as whole:
        return dict(whole)

"""Log-mel spectrograms of 64 clips of 2 s at 16 kHz: ours against librosa (in one batch, in a loop) and nnAudio.

    python benchmarks/logmel.py [--threads 2] [--repeats 9]

All four run in this process, in turns, on the same clips, with the same settings; their outputs must agree before they
are timed. Ratios are steadier than times. Nothing in the tests is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import librosa
import numpy as np
import torch
from nnAudio.features.mel import MelSpectrogram

from avlab.audio import log_mel

B, RATE, SECONDS, N_FFT, HOP, BANDS, LOW, FLOOR_DB = 64, 16000, 2, 512, 160, 64, 50.0, -80.0


def clips() -> torch.Tensor:
    """Decaying tones in noise: (B, L)."""
    g = torch.Generator().manual_seed(0)
    t = torch.arange(RATE * SECONDS) / RATE
    pitch = 100 * 40 ** torch.rand(B, 1, generator=g)
    return 0.3 * torch.sin(2 * torch.pi * pitch * t) * torch.exp(-3 * t) + 0.01 * torch.randn(B, len(t), generator=g)


def librosas(y: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=y, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS, fmin=LOW, fmax=RATE / 2, pad_mode="constant"
    )
    return librosa.power_to_db(mel, ref=1.0, amin=10 ** (FLOOR_DB / 10), top_db=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    waveform = clips()
    samples = waveform.numpy()
    other = MelSpectrogram(
        sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS, fmin=LOW, fmax=RATE / 2, pad_mode="constant", verbose=False
    )
    ways: dict[str, Callable[[], np.ndarray]] = {
        "avlab.audio.log_mel": lambda: log_mel(waveform, sample_rate=RATE).numpy(),
        "librosa, one batch": lambda: librosas(samples),
        "librosa, a loop": lambda: np.stack([librosas(clip) for clip in samples]),
        "nnAudio": lambda: (10 * other(waveform).clamp(min=10 ** (FLOOR_DB / 10)).log10()).numpy(),
    }
    ours = ways["avlab.audio.log_mel"]()
    differences = {name: float(np.abs(way() - ours).max()) for name, way in ways.items()}  # this is the warm-up too
    assert max(differences.values()) < 0.05, f"outputs differ by more than 0.05 dB: {differences}"

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):  # in turns, so that a busy moment hits all of them
        for name, way in ways.items():
            way()  # untimed: the threads of the library before it (OpenBLAS, OpenMP) spin on for a moment
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["avlab.audio.log_mel"])
    print(f"{B} clips of {SECONDS} s at {RATE} Hz, {options.threads} threads, median of {options.repeats}")
    print(f"{'':22}{'ms':>8}{'ratio':>8}{'max difference, dB':>22}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:22}{1000 * median:8.1f}{median / base:8.2f}{differences[name]:22.6f}")


if __name__ == "__main__":
    main()

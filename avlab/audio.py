"""From a waveform to what a network or an eye can use: spectrograms, log-mel, energy per video frame, onsets.

Conventions
-----------
Torch in, torch out, on the device of the input; any leading dimensions, the last one is time: (..., L). Rates in Hz,
times in seconds. Frames of a spectrogram are *centred*: column `t` looks at the `n_fft` samples around sample
`t * hop`, and what lies before the start or after the end counts as silence (zeros), as librosa does; `torch.stft`
alone would mirror the sound there. So `T = 1 + L // hop`. Energies per video frame take exactly the samples of
`[n / fps, (n + 1) / fps)`, so that frame `n` of the picture and column `n` of the sound are the same moment.

Survey section 2.1 (audio representations).
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import librosa
import torch
import torch.nn.functional as F


def spectrogram(waveform: torch.Tensor, *, n_fft: int = 512, hop: int = 160, power: float = 2.0) -> torch.Tensor:
    """The short-time spectrum `|STFT|^power` under a Hann window: (..., L) -> (..., 1 + n_fft // 2, 1 + L // hop).

    Bin `f` lies at `f * sample_rate / n_fft` Hz, column `t` is centred on `t * hop / sample_rate` s; power 2 is
    energy, 1 magnitude. Raises `ValueError` for an empty waveform, NaN or infinity.

    >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    >>> S = spectrogram(tone)
    >>> S.shape, int(S[:, 50].argmax()) * 16000 / 512
    (torch.Size([257, 101]), 1000.0)
    """
    _check(waveform)
    L = waveform.shape[-1]
    window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
    flat = waveform.reshape(-1, L)
    spectrum = torch.stft(flat, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    # the squares alone take a third of the time of abs().pow(2), which draws a root only to square it again
    S = spectrum.real.square().addcmul(spectrum.imag, spectrum.imag) if power == 2 else spectrum.abs().pow(power)
    return S.reshape(*waveform.shape[:-1], *S.shape[-2:])  # (..., F, T)


def log_mel(
    waveform: torch.Tensor,
    *,
    sample_rate: int,
    n_fft: int = 512,
    hop: int = 160,
    bands: int = 64,
    low: float = 50.0,
    high: float | None = None,
    floor_db: float = -80.0,
) -> torch.Tensor:
    """Energy in `bands` mel bands in decibels: `10 log10 max(M |STFT|^2, 10^(floor_db / 10))`, (..., L) -> (..., F, T).

    `M` is librosa's default (Slaney) filter bank from `low` to `high` Hz (default: half of the sample rate). Decibels
    are absolute, not relative to the clip's own maximum: a clip's values do not depend on what else is in the batch,
    and loudness is kept. A full-scale sine reaches about 25 dB; the noise of 16 bits lies at -94 dB. Differs
    from `librosa.power_to_db` in this only: `top_db` is off, `amin` is the floor.

    Raises `ValueError` for an empty or non-finite waveform, a sample rate too low for `high`, or bands so narrow that
    one holds no bin.

    >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    >>> X = log_mel(tone, sample_rate=16000)
    >>> X.shape, round(float(X[:, 50].max())), round(float(X.min()))
    (torch.Size([64, 101]), 25, -80)
    """
    mel = mel_filters(sample_rate=sample_rate, n_fft=n_fft, bands=bands, low=low, high=high)
    energy = mel.to(waveform) @ spectrogram(waveform, n_fft=n_fft, hop=hop)  # (..., F, T)
    return _decibels(energy, floor_db)


def mel_filters(
    *, sample_rate: int, n_fft: int, bands: int, low: float = 50.0, high: float | None = None
) -> torch.Tensor:
    """librosa's Slaney filter bank (triangles of area 1 on the mel scale) as float32 (bands, 1 + n_fft // 2).

    Computed once per setting and kept. Raises `ValueError` where `high` lies above half of the sample rate, or a band
    is so narrow that it holds no bin of the transform.

    >>> mel_filters(sample_rate=16000, n_fft=512, bands=64).shape
    torch.Size([64, 257])
    """
    return _mel(sample_rate, n_fft, bands, low, high, "slaney")


def frame_energy(waveform: torch.Tensor, *, sample_rate: int, fps: float, frames: int) -> torch.Tensor:
    """Loudness of each video frame: the root mean square of its samples, (..., L) -> (..., N).

    `rms_n = sqrt(mean of x_l^2 over all l with n / fps <= l / sample_rate < (n + 1) / fps)`. A sound that ends within
    the last frame counts as silent from there. Raises `ValueError` for an empty or non-finite waveform, or one that
    ends before the last frame begins.

    >>> click = torch.zeros(16000)
    >>> click[8000:8100] = 0.8
    >>> frame_energy(click, sample_rate=16000, fps=4, frames=4)
    tensor([0.0000, 0.0000, 0.1265, 0.0000])
    """
    _check(waveform)
    segments, length = _frame_samples(waveform, sample_rate, fps, frames)
    return (segments.square().sum(dim=-1) / length).sqrt()


def band_energy(
    waveform: torch.Tensor,
    *,
    sample_rate: int,
    fps: float,
    frames: int,
    bands: int = 16,
    low: float = 50.0,
    high: float | None = None,
    floor_db: float = -80.0,
) -> torch.Tensor:
    """Log energy of each of `bands` mel bands in each video frame, in dB of full scale: (..., L) -> (..., F, N).

    `E_fn = 10 log10 max(sum_k M_fk 2 |X_nk|^2 / (n_fft length), 10^(floor_db / 10))` with `X_n` the spectrum of exactly
    the samples of frame n and `M` mel triangles of height 1, which add up to 1 from the first band's centre to the
    last's: there the bands share the energy of `frame_energy` and lose none. The window is rectangular, so that no
    sound reaches into the frame before it; the price is leakage of a loud band into far ones, some 50 dB below it.

    Raises as `log_mel` and `frame_energy` do; a frame of few samples cannot tell narrow bands apart.

    >>> click = torch.zeros(16000)
    >>> click[8000:8100] = 0.8
    >>> band_energy(click, sample_rate=16000, fps=4, frames=4, bands=3).argmax(dim=1)
    tensor([2, 2, 2])
    """
    _check(waveform)
    segments, length = _frame_samples(waveform, sample_rate, fps, frames)  # (..., N, longest), (N,)
    n_fft = segments.shape[-1]
    mel = _mel(sample_rate, n_fft, bands, low, high, None).to(waveform)  # (F, bins)
    spectrum = torch.fft.rfft(segments).abs().square() * 2 / (n_fft * length[:, None])  # (..., N, bins)
    return _decibels(mel @ spectrum.mT, floor_db)


def onset_envelope(
    waveform: torch.Tensor, *, sample_rate: int, fps: float, frames: int, bands: int = 16, floor_db: float = -60.0
) -> torch.Tensor:
    """How much begins in each video frame: the mean rise of the bands' energies in dB, (..., L) -> (..., N), >= 0.

    `onset_n = mean_f max(0, E_fn - E_f,n-1)` with `E` of `band_energy` (spectral flux); frame 0 has no frame before
    it and is 0. Raises as `band_energy` does.

    >>> sound = torch.zeros(16000)
    >>> sound[8000:] = torch.randn(8000, generator=torch.Generator().manual_seed(0)) / 10
    >>> onset_envelope(sound, sample_rate=16000, fps=8, frames=8).argmax()
    tensor(4)
    """
    energy = band_energy(waveform, sample_rate=sample_rate, fps=fps, frames=frames, bands=bands, floor_db=floor_db)
    rise = energy.diff(dim=-1).clamp(min=0).mean(dim=-2)  # (..., N - 1)
    return F.pad(rise, (1, 0))


def onsets(waveform: torch.Tensor, *, sample_rate: int, hop: int = 160) -> torch.Tensor:
    """Seconds at which something begins to sound, by librosa's peak picking on spectral flux: (L,) -> (events,).

    Times are multiples of `hop / sample_rate`. Raises `ValueError` for more than one channel, an empty or a
    non-finite waveform.

    >>> sound = torch.zeros(16000)
    >>> sound[8000:] = torch.randn(8000, generator=torch.Generator().manual_seed(0)) / 10
    >>> [round(t, 1) for t in onsets(sound, sample_rate=16000).tolist()]
    [0.5]
    """
    _check(waveform)
    if waveform.ndim != 1:
        raise ValueError(f"onsets takes one channel (L,), got {tuple(waveform.shape)}: average or pick a channel first")
    samples = waveform.detach().cpu().float().numpy()
    seconds = librosa.onset.onset_detect(y=samples, sr=sample_rate, hop_length=hop, units="time")
    return torch.as_tensor(seconds, dtype=torch.float32, device=waveform.device)


def _check(waveform: torch.Tensor) -> None:
    if not waveform.is_floating_point():
        raise ValueError(f"the waveform must be floating point in [-1, 1], got {waveform.dtype}")
    if waveform.ndim == 0 or waveform.numel() == 0:
        raise ValueError(f"the waveform is empty: shape {tuple(waveform.shape)}")
    if not torch.isfinite(torch.stack(waveform.detach().aminmax())).all():  # min and max carry NaN along
        raise ValueError(f"the waveform {tuple(waveform.shape)} holds NaN or infinity: look at how it was read or made")


def _mel(sample_rate: int, n_fft: int, bands: int, low: float, high: float | None, norm: str | None) -> torch.Tensor:
    """The filters (F, bins), with the settings checked."""
    top = sample_rate / 2 if high is None else float(high)
    if top > sample_rate / 2:
        raise ValueError(
            f"high={high} Hz needs a sample rate of at least {2 * top:.0f} Hz, this sound has {sample_rate} Hz: "
            f"lower `high` to {sample_rate / 2:.0f} or resample when reading"
        )
    if not 0 <= low < top:
        raise ValueError(f"bands must satisfy 0 <= low < high, got low={low} Hz and high={top} Hz")
    filters = _filters(sample_rate, n_fft, bands, float(low), top, norm)
    empty = (filters.sum(dim=1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"{bands} bands are too many for {n_fft} samples at {sample_rate} Hz: band {empty[0]} holds no frequency "
            f"bin (bins are {sample_rate / n_fft:.1f} Hz apart); take fewer bands or longer windows"
        )
    return filters


@lru_cache(maxsize=16)
def _filters(sample_rate: int, n_fft: int, bands: int, low: float, high: float, norm: str | None) -> torch.Tensor:
    with warnings.catch_warnings():  # empty bands are an error of `_mel`, not a warning
        warnings.filterwarnings("ignore", message="Empty filters")
        mel = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=bands, fmin=low, fmax=high, norm=norm)
    return torch.from_numpy(mel)


def _decibels(power: torch.Tensor, floor_db: float) -> torch.Tensor:
    return 10 * power.clamp(min=10 ** (floor_db / 10)).log10()


def _frame_samples(
    waveform: torch.Tensor, sample_rate: int, fps: float, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples of each video frame, zeros after its end: (..., L) -> (..., N, longest), and their numbers (N,)."""
    L = waveform.shape[-1]
    last = (frames - 1) / fps if fps > 0 else math.inf
    if frames < 1 or last * sample_rate >= L:
        raise ValueError(
            f"{frames} frames at {fps:g} fps: the last begins at {last:.3f} s, but the sound ends at "
            f"{L / sample_rate:.3f} s; check fps, frames and sample_rate"
        )
    # sample l belongs to frame n where l / sample_rate >= n / fps; the 1e-6 forgives the rounding of n * rate / fps
    edges = (torch.arange(frames + 1, dtype=torch.float64) * sample_rate / fps - 1e-6).ceil().long()
    first, length = edges[:-1, None], edges.diff()[:, None]
    if int(length.min()) < 1:
        raise ValueError(f"{fps:g} fps is more than one frame a sample at {sample_rate} Hz")
    offset = torch.arange(int(length.max()))
    place = torch.where(offset < length, first + offset, L).clamp(max=L)  # (N, longest); L is the silence added below
    return F.pad(waveform, (0, 1))[..., place.to(waveform.device)], length.squeeze(1).to(waveform)

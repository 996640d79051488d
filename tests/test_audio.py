"""Audio features against librosa, nnAudio and slow loops."""

import math

import librosa
import numpy as np
import pytest
import torch

from avlab import audio


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 5


@pytest.mark.parametrize(("n_fft", "hop", "power"), [(512, 160, 2.0), (400, 117, 1.0)])
def test_spectrogram_is_librosas(n_fft, hop, power):
    x = noise(3, 4567)
    ours = audio.spectrogram(x, n_fft=n_fft, hop=hop, power=power)
    theirs = np.abs(librosa.stft(x.numpy(), n_fft=n_fft, hop_length=hop, pad_mode="constant")) ** power
    assert ours.shape == (3, 1 + n_fft // 2, 1 + 4567 // hop)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)


def test_spectrogram_of_a_short_sound_and_of_any_leading_dimensions():
    x = noise(2, 3, 100)  # shorter than half a window: reflection would fail here
    S = audio.spectrogram(x)
    assert S.shape == (2, 3, 257, 1)
    torch.testing.assert_close(S[1, 2], audio.spectrogram(x[1, 2]))


@pytest.mark.parametrize(("rate", "bands", "high"), [(16000, 64, None), (22050, 40, 8000.0), (8000, 23, 3500.0)])
def test_log_mel_is_librosas(rate, bands, high):
    x = noise(5, 7001)
    ours = audio.log_mel(x, sample_rate=rate, bands=bands, high=high)
    mel = librosa.feature.melspectrogram(
        y=x.numpy(),
        sr=rate,
        n_fft=512,
        hop_length=160,
        n_mels=bands,
        fmin=50.0,
        fmax=high or rate / 2,
        pad_mode="constant",
    )
    np.testing.assert_allclose(10 ** (ours.numpy() / 10), np.maximum(mel, 1e-8), rtol=2e-5)
    theirs = librosa.power_to_db(mel, ref=1.0, amin=1e-8, top_db=None)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_log_mel_is_nnaudios():
    nnaudio = pytest.importorskip("nnAudio.features.mel")
    x = noise(3, 8000)
    theirs = nnaudio.MelSpectrogram(
        sr=16000, n_fft=512, hop_length=160, n_mels=64, fmin=50.0, fmax=8000, pad_mode="constant", verbose=False
    )(x)
    ours = audio.log_mel(x, sample_rate=16000)
    torch.testing.assert_close(10 ** (ours / 10), theirs.clamp(min=1e-8), rtol=1e-3, atol=1e-5)


def test_log_mel_known_answers():
    x = noise(16000)
    silent = audio.log_mel(torch.zeros(2, 999), sample_rate=16000, floor_db=-70)
    assert (silent == -70).all()
    louder = audio.log_mel(10 * x, sample_rate=16000) - audio.log_mel(x, sample_rate=16000)
    torch.testing.assert_close(louder, torch.full_like(louder, 20.0), atol=1e-3, rtol=0)
    moved = audio.log_mel(torch.cat([torch.zeros(1600), x]), sample_rate=16000)  # later by 10 hops
    torch.testing.assert_close(moved[:, 14:100], audio.log_mel(x, sample_rate=16000)[:, 4:90], atol=1e-3, rtol=0)


def test_log_mel_passes_a_gradient_and_keeps_float64():
    x = noise(2, 1000).double().requires_grad_()
    y = audio.log_mel(x, sample_rate=16000)
    assert y.dtype == torch.float64
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


def edges(n: int, rate: int, fps: tuple[int, int]) -> int:
    """First sample of frame n, in whole numbers; fps as a fraction."""
    return -(-n * rate * fps[1] // fps[0])


@pytest.mark.parametrize(("rate", "fps"), [(16000, (12, 1)), (16000, (25, 1)), (22050, (30000, 1001)), (8000, (7, 1))])
def test_frame_energy_takes_exactly_the_samples_of_its_frame(rate, fps):
    N = 11
    L = edges(N, rate, fps)
    x = noise(2, 3, L)
    ours = audio.frame_energy(x, sample_rate=rate, fps=fps[0] / fps[1], frames=N)
    slow = [x[..., edges(n, rate, fps) : edges(n + 1, rate, fps)].square().mean(dim=-1).sqrt() for n in range(N)]
    torch.testing.assert_close(ours, torch.stack(slow, dim=-1))
    one = torch.zeros(L)
    one[edges(4, rate, fps) - 1] = 1  # the last sample of frame 3
    assert audio.frame_energy(one, sample_rate=rate, fps=fps[0] / fps[1], frames=N).nonzero().flatten().tolist() == [3]


def test_frame_energy_counts_what_is_missing_of_the_last_frame_as_silence():
    energy = audio.frame_energy(torch.ones(1500), sample_rate=1000, fps=1, frames=2)
    torch.testing.assert_close(energy, torch.tensor([1.0, math.sqrt(0.5)]))
    with pytest.raises(ValueError, match=r"last begins at 2\.000 s, but the sound ends at 1\.500 s"):
        audio.frame_energy(torch.ones(1500), sample_rate=1000, fps=1, frames=3)


def test_band_energies_add_up_to_the_energy_of_the_sound():
    # a sound between the first and the last band's centre: the bands share its energy and lose none
    t = torch.arange(16000) / 16000
    x = 0.5 * torch.sin(2 * torch.pi * 1000 * t) + 0.2 * torch.sin(2 * torch.pi * 3004 * t)
    bands = audio.band_energy(x, sample_rate=16000, fps=8, frames=8, bands=16)
    assert bands.shape == (16, 8)
    power = audio.frame_energy(x, sample_rate=16000, fps=8, frames=8).square()
    torch.testing.assert_close((10 ** (bands / 10)).sum(dim=0), power, rtol=0.01, atol=0)
    louder = audio.band_energy(10 * x, sample_rate=16000, fps=8, frames=8, bands=16, floor_db=-150)
    quieter = audio.band_energy(x, sample_rate=16000, fps=8, frames=8, bands=16, floor_db=-150)
    torch.testing.assert_close(louder - quieter, torch.full_like(louder, 20.0), rtol=0, atol=1e-3)


def test_band_energy_is_a_slow_loops():
    N, fps = 11, (30000, 1001)
    x = noise(2, 3, edges(N, 22050, fps))
    ours = audio.band_energy(x, sample_rate=22050, fps=fps[0] / fps[1], frames=N, bands=5, low=200, high=9000)
    longest = 736
    gains = librosa.filters.mel(sr=22050, n_fft=longest, n_mels=5, fmin=200, fmax=9000, norm=None)
    assert ours.shape == (2, 3, 5, N)
    for n in range(N):
        part = x[1, 2, edges(n, 22050, fps) : edges(n + 1, 22050, fps)].numpy().astype(np.float64)
        power = np.abs(np.fft.rfft(part, longest)) ** 2
        slow = 10 * np.log10(gains @ power * 2 / longest / len(part))
        np.testing.assert_allclose(ours[1, 2, :, n].numpy(), slow, atol=1e-3)


def test_no_sound_reaches_into_another_frame():
    x = torch.zeros(8000)
    x[4000:5000] = noise(1000)
    energy = audio.band_energy(x, sample_rate=8000, fps=8, frames=8, bands=5, floor_db=-60)
    assert (energy[:, [0, 1, 2, 3, 5, 6, 7]] == -60).all()
    assert (energy[:, 4] > -40).all()


def test_onsets_are_found_where_they_are():
    x = torch.zeros(32000)
    for start in (0.5, 1.25):
        length = torch.arange(6000) / 16000
        x[int(start * 16000) : int(start * 16000) + 6000] += torch.sin(2 * torch.pi * 440 * length) * torch.exp(
            -25 * length
        )
    assert audio.onsets(x, sample_rate=16000).numpy() == pytest.approx([0.5, 1.25], abs=0.04)
    envelope = audio.onset_envelope(x, sample_rate=16000, fps=8, frames=16)
    assert sorted(envelope.topk(2).indices.tolist()) == [4, 10]
    assert (envelope >= 0).all()
    assert envelope[0] == 0
    assert audio.onset_envelope(torch.zeros(3, 8000), sample_rate=16000, fps=8, frames=4).sum() == 0


CALLS = [
    audio.spectrogram,
    lambda x: audio.log_mel(x, sample_rate=16000),
    lambda x: audio.frame_energy(x, sample_rate=16000, fps=8, frames=1),
    lambda x: audio.band_energy(x, sample_rate=16000, fps=8, frames=1),
    lambda x: audio.onset_envelope(x, sample_rate=16000, fps=8, frames=1),
    lambda x: audio.onsets(x, sample_rate=16000),
]


@pytest.mark.parametrize("call", CALLS)
def test_bad_waveforms_are_named(call):
    with pytest.raises(ValueError, match="waveform is empty"):
        call(torch.zeros(0))
    with pytest.raises(ValueError, match="NaN"):
        call(torch.tensor([0.0, float("nan")] * 2000))
    with pytest.raises(ValueError, match="floating point"):
        call(torch.zeros(4000, dtype=torch.int16))


def test_bad_settings_are_named():
    x = noise(4000)
    with pytest.raises(
        ValueError, match=r"high=8000.0 Hz needs a sample rate of at least 16000 Hz, this sound has 8000"
    ):
        audio.log_mel(x, sample_rate=8000, high=8000.0)
    with pytest.raises(ValueError, match="needs a sample rate"):
        audio.band_energy(x, sample_rate=8000, fps=8, frames=2, high=4001.0)
    with pytest.raises(ValueError, match="low < high"):
        audio.log_mel(x, sample_rate=8000, low=4000.0)
    with pytest.raises(ValueError, match="300 bands are too many for 512 samples"):
        audio.log_mel(x, sample_rate=16000, bands=300)
    with pytest.raises(ValueError, match="64 bands are too many for 160 samples"):
        audio.band_energy(x, sample_rate=16000, fps=100, frames=3, bands=64)
    with pytest.raises(ValueError, match="check fps"):
        audio.frame_energy(x, sample_rate=16000, fps=0, frames=2)
    with pytest.raises(ValueError, match="more than one frame a sample"):
        audio.frame_energy(x, sample_rate=100, fps=201, frames=3)
    with pytest.raises(ValueError, match="one channel"):
        audio.onsets(noise(2, 4000), sample_rate=16000)

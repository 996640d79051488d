"""Readers of real features: what is found without them, what they hold, and that objectives find pairs in them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avlab.datasets import real
from avlab.datasets.features import Features
from avlab.losses.contrastive import info_nce
from avlab.losses.correlation import linear_cca
from avlab.metrics.retrieval import mean_average_precision, recall_at_k
from avlab.studies.projectors import fit

CLIPS = os.environ.get("AVLAB_CLIPS", "")


def needs(name: str) -> pytest.MarkDecorator:
    there = bool(CLIPS) and (Path(CLIPS) / name).exists()
    return pytest.mark.skipif(not there, reason=f"AVLAB_CLIPS is not set, or holds no {name}")


@pytest.mark.parametrize("read", [real.avletters, real.ccv, real.spoken_digits, real.grid_speech])
def test_what_is_missing_is_named(read, tmp_path, monkeypatch):
    monkeypatch.delenv("AVLAB_CLIPS", raising=False)
    with pytest.raises(FileNotFoundError, match="set AVLAB_CLIPS to the folder that holds features/"):
        read()
    monkeypatch.setenv("AVLAB_CLIPS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere, which is no folder"):
        read()
    with pytest.raises(FileNotFoundError, match="AVLAB_CLIPS must"):
        read(tmp_path)


def test_no_pickles(tmp_path):
    (tmp_path / "features" / "ccv").mkdir(parents=True)
    np.savez(tmp_path / "features" / "ccv" / "ccv.npz", audio_mfcc=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        real.ccv(tmp_path)


def test_moments_of_a_sequence():
    ramp = np.arange(11.0)[:, None] * np.array([1.0, -2.0])
    np.testing.assert_allclose(real._moments(ramp, 5)[:, 0], [0, 2.5, 5, 7.5, 10])
    np.testing.assert_allclose(real._moments(ramp, 3, 0.25, 0.75)[:, 1], [-5, -10, -15])
    np.testing.assert_allclose(real._moments(ramp[:1], 4), np.zeros((4, 2)))
    assert real._moments(ramp.astype(np.float32), 5).dtype == np.float32


def test_main_axes_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(31, 11)).astype(np.float32) @ np.diag(np.arange(1.0, 12)).astype("f4")
    x[:, 3] = 5  # never varies
    ours = real._principal(x, 4)(x).numpy()
    theirs = PCA(4).fit_transform(StandardScaler().fit_transform(x))
    assert ours.std() == pytest.approx(1, abs=1e-5)
    theirs /= theirs.std()
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)


def test_what_is_kept_is_made_once(tmp_path):
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        assert real._kept("some", tmp_path, make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "features").iterdir()] == [f"some-{real.VERSION}.npz"]


def found(similarity: torch.Tensor) -> float:
    """Recall at 10, the mean of both directions."""
    return (recall_at_k(similarity, 10) + recall_at_k(similarity.T, 10)) / 2


@pytest.fixture(scope="module")
def letters() -> tuple[Features, Features]:
    return real.avletters()


@pytest.mark.clips
@needs("features/avletters")
def test_letters(letters):
    train, test = letters
    assert (len(train), len(test), len(train.kinds)) == (8 * 416, 208, 26)
    assert train.audio.shape[1] == test.audio.shape[1] == 60
    assert train.visual.shape[1] == test.visual.shape[1] == 80
    assert test.label.bincount().tolist() == [8] * 26
    assert train.label[:416].equal(train.label[416:832])
    plain = train.rows(slice(416))
    for x in (plain.audio, plain.visual):
        assert x.mean(0).abs().max() < 1e-3
        assert x.square().mean().item() == pytest.approx(1, abs=1e-3)
    near = (train.visual[:416] - train.visual[416:832]).norm(dim=1).mean()  # a copy is changed, but is the same clip
    assert 0.2 * x.norm(dim=1).mean() < near < 1.5 * x.norm(dim=1).mean()
    apart = real.avletters(copies=1, speakers_apart=True)
    assert [len(part) for part in apart] == [468, 156]
    assert not set(apart[0].causes["speaker"].tolist()) & set(apart[1].causes["speaker"].tolist())


@pytest.mark.clips
@needs("features/avletters")
def test_linear_cca_finds_lips_and_info_nce_finds_more(letters):
    """Published figures of these data: CCA 80 % in the top ten, a small InfoNCE on pixels 85 %."""
    train, test = letters
    plain = train.rows(slice(416))
    cca = linear_cca(plain.audio, plain.visual, components=20, ridge=1e-2)
    linear = found(cca.similarity(test.audio, test.visual))
    learned = []
    for seed in (0, 1):
        fitted = fit(train, lambda a, v, label: info_nce(a, v, temperature=0.2), seed=seed)
        audio, visual = fitted.embed(test)
        learned.append(found(audio @ visual.T))
    order = torch.randperm(208, generator=torch.Generator().manual_seed(0))
    shuffled = found(audio @ visual[order].T)
    print(f"recall@10 among 208: CCA {linear:.3f}, InfoNCE {learned}, shuffled {shuffled:.3f}, chance {10 / 208:.3f}")
    assert 0.74 < linear < 0.84
    assert min(learned) > linear + 0.02
    assert shuffled < 0.12


@pytest.mark.clips
@needs("features/ccv")
def test_videos():
    train, test = real.ccv()
    assert (len(train), len(test), len(train.kinds)) == (4654, 1993, 20)
    assert train.audio.shape[1] == 20
    assert train.visual.shape[1] == 40
    for x in (train.audio, train.visual):
        assert x.mean(0).abs().max() < 1e-3
        assert (x.std(0) - 1).abs().max() < 1e-3
    cca = linear_cca(train.audio, train.visual, components=20)
    same = test.label[:, None] == test.label
    score = mean_average_precision(cca.similarity(test.audio, test.visual), same)
    assert 0.09 < score < 0.12  # the README of the data has .100 and .117 for its two ways, chance is .061


@pytest.mark.clips
@needs("spoken_digits")
def test_digits(tmp_path):
    train, test = real.spoken_digits(cache=tmp_path)
    assert train.audio.dtype == train.visual.dtype == torch.float32
    assert (len(train), len(test), len(train.kinds)) == (2700, 300, 10)
    assert test.label.bincount().tolist() == [30] * 10
    again = real.spoken_digits(cache=tmp_path)[0]
    assert again.visual.equal(train.visual)
    other = real.spoken_digits(cache=tmp_path, seed=1)[0]
    assert other.audio.equal(train.audio)
    assert not other.visual.equal(train.visual)  # a sound does not know its picture
    seen = {tuple(row) for row in train.visual.round(decimals=3).tolist()}
    assert not any(tuple(row) in seen for row in test.visual.round(decimals=3).tolist())


@pytest.mark.clips
@pytest.mark.slow
@needs("grid_s1")
def test_sentences():
    train, test = real.grid_speech()
    assert len(train) + len(test) == 800
    assert len(test) == 200
    assert train.kinds == real.COMMANDS
    cca = linear_cca(train.audio, train.visual, components=20, ridge=1e-2)
    linear = found(cca.similarity(test.audio, test.visual))
    print(f"recall@10 among 200 sentences, CCA: {linear:.3f}, chance 0.05")
    assert linear > 0.1

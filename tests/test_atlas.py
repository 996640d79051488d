"""The atlas: neighbours and axes against slow oracles, sounds and thumbnails that decode back."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from avlab.clip import Clip
from avlab.show.atlas import RATE, SIDE, Atlas, neighbours, pca2

B, D = 7, 11


def make_clips(count: int = B, rate: int = 16000) -> list[Clip]:
    kinds = ("bell", "bird", "drop")
    return [
        Clip(np.full((5, 13, 17, 3), 30 * i, np.uint8), np.full((2, rate // 2 + 100 * i), 0.1 * i, np.float32), fps=10,
             sample_rate=rate, label=kinds[i % 3])
        for i in range(count)
    ]  # fmt: skip


def embeddings(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, D)), rng.normal(size=(B, D))


def test_axes_are_those_of_principal_component_analysis() -> None:
    values = np.concatenate(embeddings())
    ours, theirs = pca2(values), PCA(2).fit_transform(values)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)


def test_axes_keep_their_sign_whatever_the_sign_or_order_of_the_rows() -> None:
    values = np.concatenate(embeddings())
    order = np.random.default_rng(1).permutation(len(values))
    np.testing.assert_allclose(pca2(values)[order], pca2(values[order]), atol=1e-9)


def test_neighbours_match_a_slow_search() -> None:
    audio, visual = embeddings()
    found = neighbours(audio, visual, 3)
    cosine = lambda x, y: float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))  # noqa: E731
    for i in range(B):
        by_sight = sorted(range(B), key=lambda j: -cosine(audio[i], visual[j]))[:3]
        by_sound = sorted(range(B), key=lambda j: -cosine(visual[i], audio[j]))[:3]
        assert found[i] == [B + j for j in by_sight]
        assert found[B + i] == by_sound


def test_equal_halves_are_their_own_nearest_neighbours() -> None:
    audio, _ = embeddings()
    near = neighbours(audio, 3 * audio)
    assert [row[0] for row in near] == [*range(B, 2 * B), *range(B)]


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_sounds_and_thumbnails_decode_back(rate: int) -> None:
    clips = make_clips(rate=rate)
    atlas = Atlas(*embeddings(), clips)
    samples = np.frombuffer(atlas.sounds, "<i2") / 32767
    sheet = np.asarray(Image.open(io.BytesIO(atlas.thumbs)))
    for i, clip in enumerate(clips):
        part = samples[atlas.offsets[i] : atlas.offsets[i + 1]]
        assert len(part) == pytest.approx(clip.waveform.shape[1] * RATE / rate, abs=1)
        middle = part[len(part) // 4 : -len(part) // 4]
        np.testing.assert_allclose(middle, clip.waveform[0, 0], atol=0.01)
        y, x = divmod(i, atlas.sheet["columns"])
        assert np.abs(sheet[y * SIDE + 20, x * SIDE + 20].astype(int) - 30 * i).max() < 6


def test_places_are_sent_in_order_sounds_then_sights() -> None:
    audio, visual = np.random.default_rng(2).normal(size=(2, B, 2))
    atlas = Atlas(audio, visual, make_clips())
    sent = np.frombuffer(atlas.points, "<f4").reshape(2 * B, 2)
    np.testing.assert_allclose(sent, np.concatenate([audio, visual]), atol=1e-6)
    given = np.random.default_rng(4).normal(size=(2, B, 2))
    other = Atlas(*embeddings(), make_clips(), points=given)
    np.testing.assert_allclose(np.frombuffer(other.points, "<f4").reshape(2, B, 2), given, atol=1e-6)


def test_rest_state_is_a_picture_with_words_and_deterministic() -> None:
    one, two = (Atlas(*embeddings(), make_clips()) for _ in range(2))
    data, metadata = one._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == two.picture()[0]
    assert "7 pairs of sound and sight" in metadata["image/png"]["alt"]
    assert [kind["name"] for kind in one.kinds] == ["bell", "bird", "drop"]
    assert one.labels == [0, 1, 2, 0, 1, 2, 0]


def test_clips_without_labels_are_unknown() -> None:
    clips = make_clips()
    clips[2].label = None
    assert Atlas(*embeddings(), clips).labels[2] == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Atlas(np.zeros((5, 3)), np.zeros((5, 4)), make_clips(5)), r"got \(5, 3\), \(5, 4\), 5"),
        (lambda: Atlas(*embeddings(), make_clips(5)), "with B clips"),
        (lambda: Atlas(np.full((B, D), np.nan), embeddings()[1], make_clips()), "NaN or infinity"),
        (lambda: Atlas(*embeddings(), make_clips(), labels=[9] * B, kinds=["a"]), "7 positions in 1 kinds"),
        (lambda: Atlas(*embeddings(), make_clips(), points=np.zeros((B, 2))), r"\(2, 7, 2\): sounds, then sights"),
        (lambda: pca2(np.zeros((5, 1))), "D of 2 or more"),
    ],
)
def test_what_cannot_be_mapped_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

"""The atlas: neighbours and axes against slow oracles, sounds and thumbnails that decode back."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from traitlets import TraitError

from avlab.clip import Clip
from avlab.show import atlas as module
from avlab.show.atlas import RATE, SIDE, Atlas, neighbours, pca2, plane

B, D, S = 7, 11, 3


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


@pytest.mark.parametrize("block", [512, 3])
def test_neighbours_and_ranks_match_a_slow_search(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    audio, visual = embeddings()
    near, place = neighbours(audio, visual, 3)
    cosine = lambda x, y: float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))  # noqa: E731
    for i in range(B):
        by_sight = sorted(range(B), key=lambda j: -cosine(audio[i], visual[j]))
        by_sound = sorted(range(B), key=lambda j: -cosine(visual[i], audio[j]))
        assert near[i].tolist() == [B + j for j in by_sight[:3]]
        assert near[B + i].tolist() == by_sound[:3]
        assert [place[i], place[B + i]] == [by_sight.index(i) + 1, by_sound.index(i) + 1]


def test_equal_halves_are_their_own_nearest_neighbours() -> None:
    audio, _ = embeddings()
    near, place = neighbours(audio, 3 * audio)
    assert near[:, 0].tolist() == [*range(B, 2 * B), *range(B)]
    assert place.tolist() == [1] * 2 * B


def test_equal_similarities_come_in_order_of_number_and_share_a_rank() -> None:
    near, place = neighbours(np.ones((B, D)), np.ones((B, D)), 4)
    assert near[2].tolist() == [B, B + 1, B + 2, B + 3]
    assert place.tolist() == [(B + 1) / 2] * 2 * B


@pytest.mark.parametrize("how", ["tsne", "umap"])
def test_projections_keep_groups_together_and_are_seeded(how: str) -> None:
    rng = np.random.default_rng(3)
    group = np.repeat([0, 1], 13)
    values = 5 * rng.normal(size=(2, D))[group] + rng.normal(size=(26, D))
    one, two = (plane(values, how, seed=5) for _ in range(2))
    assert one.shape == (26, 2)
    np.testing.assert_array_equal(one, two)
    apart = np.linalg.norm(one[:, None] - one[None], axis=-1) + np.diag(np.full(26, np.inf))
    assert (group[apart.argmin(1)] == group).all()
    both = np.stack([values, values + 0.1])
    atlas = Atlas(*both, points=how, seed=5)
    sent = np.frombuffer(atlas.points, "<f4").reshape(2, 26, 2)
    assert np.median(np.linalg.norm(sent[0] - sent[1], axis=1)) < np.median(
        np.linalg.norm(sent[0] - sent[0][0], axis=1)
    )


def test_a_missing_umap_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"avlab\[umap\]"):
        Atlas(*embeddings(), points="umap")


def walk() -> tuple[np.ndarray, list[float]]:
    return np.random.default_rng(6).normal(size=(S, 2, B, D)), [0, 10, 250]


def test_a_path_is_seen_in_one_projection_and_matched_moment_by_moment() -> None:
    path, steps = walk()
    atlas = Atlas(*path[-1], path=path, steps=steps)
    sent = np.frombuffer(atlas.points, "<f4").reshape(S * 2 * B, 2)
    expected = PCA(2).fit_transform(path.reshape(-1, D))
    np.testing.assert_allclose(np.abs(sent), np.abs(expected), atol=1e-5)
    near = np.frombuffer(atlas.near, "<i4").reshape(S, 2 * B, -1)
    place = np.frombuffer(atlas.ranks, "<f4").reshape(S, 2 * B)
    for moment in range(S):
        alone = neighbours(*path[moment])
        np.testing.assert_array_equal(near[moment], alone[0])
        np.testing.assert_array_equal(place[moment], alone[1])
    assert atlas.step == 250
    last = atlas.picture()
    atlas.step = 4.0  # nearer to 0 than to 10
    assert atlas.picture()[0] != last[0]
    assert atlas.places.shape == (S, 2, B, 2)


def colouring(atlas: Atlas, name: str) -> tuple[dict, list[int]]:
    found = next(one for one in atlas.colourings if one["name"] == name)
    return found, np.frombuffer(found["values"], "<i2").tolist()


def test_factors_are_categories_or_levels() -> None:
    numbers = [2.0, 4.0, np.nan, 3.0, np.inf, 2.5, 2.0]
    words = ["left", "right", None, "left", "left", "middle", "right"]
    atlas = Atlas(*embeddings(), factors={"loud": numbers, "side": words, "seen": [True, False] * 3 + [True]})
    assert [one["name"] for one in atlas.colourings] == ["kind", "error", "loud", "side", "seen"]
    loud, levels = colouring(atlas, "loud")
    assert (loud["low"], loud["high"], levels) == (2.0, 4.0, [0, 255, -1, 128, -1, 64, 0])
    side, codes = colouring(atlas, "side")
    assert ([one["name"] for one in side["entries"]], codes) == (["left", "middle", "right"], [0, 2, -1, 0, 0, 1, 2])
    assert [one["name"] for one in colouring(atlas, "seen")[0]["entries"]] == ["False", "True"]
    assert colouring(Atlas(*embeddings(), factors={"flat": [3] * B}), "flat")[1] == [0] * B


def test_error_runs_from_the_first_to_the_last_rank() -> None:
    atlas = Atlas(*embeddings())
    place = np.frombuffer(atlas.ranks, "<f4")
    error, levels = colouring(atlas, "error")
    assert (error["low"], error["high"]) == (1, B)
    assert levels == [round(255 * np.log(rank) / np.log(B)) for rank in place.tolist()]
    assert colouring(Atlas(np.ones((1, 2)), np.ones((1, 2))), "error")[1] == [0, 0]


def test_clips_are_taken_evenly_where_not_all_are_wanted_or_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Atlas(*embeddings(), make_clips()).heard == [*range(B)]
    some = Atlas(*embeddings(), make_clips(), heard=3)
    assert some.heard == [0, 3, 6]
    samples = np.frombuffer(some.sounds, "<i2") / 32767
    assert samples[some.offsets[1] + 2000] == pytest.approx(0.3, abs=0.01)  # clip 3 is the second that came
    assert Atlas(*embeddings(), make_clips(), heard=0).sounds == b""
    assert Atlas(*embeddings()).heard == []
    monkeypatch.setattr(module, "CAP", 100_000)
    few = Atlas(*embeddings(), make_clips())
    assert few.heard == [0, 2, 4, 6] or len(few.heard) < B
    assert len(few.sounds) + len(few.thumbs) <= 100_000


def test_what_python_sets_is_checked() -> None:
    path, steps = walk()
    atlas = Atlas(*path[-1], path=path, steps=steps)
    atlas.selection, atlas.selected, atlas.colour, atlas.step = [1, 2 * B - 1], 3, "error", 7.5
    for name, value, said in (("selection", [2 * B], "13"), ("selected", -2, "13"), ("colour", "taste", "kind"),
                              ("step", 251.0, "0 to 250")):  # fmt: skip
        with pytest.raises(TraitError, match=said):
            setattr(atlas, name, value)


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
    kind, codes = colouring(one, "kind")
    assert [entry["name"] for entry in kind["entries"]] == ["bell", "bird", "drop"]
    assert codes == [0, 1, 2, 0, 1, 2, 0]


def test_clips_without_labels_are_unknown() -> None:
    clips = make_clips()
    clips[2].label = None
    assert colouring(Atlas(*embeddings(), clips), "kind")[1] == [0, 1, -1, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Atlas(np.zeros((5, 3)), np.zeros((5, 4)), make_clips(5)), r"got \(5, 3\), \(5, 4\), 5"),
        (lambda: Atlas(*embeddings(), make_clips(5)), "with B clips"),
        (lambda: Atlas(np.full((B, D), np.nan), embeddings()[1], make_clips()), "NaN or infinity"),
        (lambda: Atlas(*embeddings(), make_clips(), labels=[9] * B, kinds=["a"]), "7 positions in 1 kinds"),
        (lambda: Atlas(*embeddings(), make_clips(), points=np.zeros((B, 2))), r"\(2, 7, 2\): sounds, then sights"),
        (lambda: pca2(np.zeros((5, 1))), "D of 2 or more"),
        (lambda: Atlas(*embeddings(), points="lda"), "'pca', 'tsne', 'umap' or places, got 'lda'"),
        (lambda: Atlas(*walk()[0][-1], path=walk()[0], steps=walk()[1], points="tsne"), "axes of its own"),
        (lambda: Atlas(*walk()[0][0], path=walk()[0], steps=walk()[1]), "must end with audio and visual"),
        (lambda: Atlas(*walk()[0][-1], path=walk()[0], steps=[0, 10]), r"with S steps, got \(3, 2, 7, 11\) with 2"),
        (lambda: Atlas(*walk()[0][-1], path=walk()[0], steps=[0, 10, 10]), "must rise"),
        (lambda: Atlas(*walk()[0][-1], path=walk()[0]), "belong together"),
        (
            lambda: Atlas(*embeddings(), factors={"loud": [1.0, 2.0]}),
            r"'loud' must hold 7 values, one a pair, got \(2,",
        ),
        (lambda: Atlas(*embeddings(), factors={"loud": [np.nan] * B}), "no number that is finite"),
        (lambda: Atlas(*embeddings(), factors={"error": [1.0] * B}), "the atlas has that already"),
        (lambda: Atlas(*embeddings(), make_clips(), heard=-1), "0 or more clips, got -1"),
        (lambda: Atlas(np.zeros((1, 2)), np.zeros((1, 2)), points="umap"), "2 pairs or more"),
    ],
)
def test_what_cannot_be_mapped_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

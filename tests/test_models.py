"""Encoders, projector, localizer: shapes, oracles, limits and invariances."""

import numpy as np
import pytest
import torch

from avlab.losses.correlation import linear_cca
from avlab.models.audio import AudioCNN, block
from avlab.models.localizer import DualEncoder, attention_pool, correlation_map, correlation_match
from avlab.models.projector import Projector
from avlab.models.visual import VisualCNN


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pearson(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(np.corrcoef(x.double().numpy(), y.double().numpy())[0, 1])


# --- correlation_map and correlation_match


def test_correlation_map_of_one_feature_is_pearsons_where_it_is_positive():
    sound, motion = random(5, 7), random(5, 7, 3, 4, seed=1)
    heat = correlation_map(sound, motion, ridge=0.5)  # for one feature the ridge does nothing
    expected = [[[max(0, pearson(sound[b], motion[b, :, y, x])) for x in range(4)] for y in range(3)] for b in range(5)]
    np.testing.assert_allclose(heat.numpy(), expected, atol=1e-6)
    assert 0 < (heat == 0).float().mean() < 1


def test_correlation_map_of_many_features_is_linear_ccas():
    sound, motion = random(5, 3, 17), random(5, 17, 2, 4, seed=1)
    heat = correlation_map(sound, motion, ridge=0.0)
    for b, y, x in np.ndindex(5, 2, 4):
        cca = linear_cca(sound[b].T.double(), motion[b, :, y, x, None].double(), components=1, ridge=0.0)
        assert heat[b, y, x].item() == pytest.approx(cca.correlations.item(), abs=1e-6)
        # and the multiple correlation of an ordinary regression
        design = np.column_stack([sound[b].T.numpy(), np.ones(17)]).astype(float)
        target = motion[b, :, y, x].double().numpy()
        fit = design @ np.linalg.lstsq(design, target, rcond=None)[0]
        assert heat[b, y, x].item() == pytest.approx(np.corrcoef(fit, target)[0, 1], abs=1e-6)


def test_one_feature_with_its_axis_loses_the_sign():
    sound, motion = random(5, 7), random(5, 7, 3, 4, seed=1)
    kept = correlation_map(sound, motion) + correlation_map(-sound, motion)
    torch.testing.assert_close(correlation_map(sound[:, None], motion, ridge=0.0), kept)


@pytest.mark.parametrize("K", [None, 3])
def test_correlation_map_does_not_depend_on_units(K):
    sound = random(5, 17) if K is None else random(5, K, 17)
    motion = random(5, 17, 2, 4, seed=1).abs()
    heat = correlation_map(sound, motion)
    for louder, shift in [(7.0, -40.0), (1e-3, 0.5)]:
        torch.testing.assert_close(correlation_map(louder * sound + shift, motion), heat, atol=1e-4, rtol=0)
        torch.testing.assert_close(correlation_map(sound, louder * motion + shift), heat, atol=1e-3, rtol=0)
    turn = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(correlation_map(sound[..., turn], motion[:, turn]), heat)
    torch.testing.assert_close(correlation_map(sound, motion.flip(-1)), heat.flip(-1))


def test_without_a_ridge_any_mixture_of_the_features_is_as_good():
    sound, motion = random(5, 3, 17), random(5, 17, 2, 4, seed=1)
    mixed = random(3, 3, seed=2) @ sound + random(3, 1, seed=3)
    torch.testing.assert_close(
        correlation_map(mixed, motion, ridge=0.0), correlation_map(sound, motion, ridge=0.0), atol=1e-5, rtol=0
    )
    assert (correlation_map(sound, motion, ridge=1.0) < correlation_map(sound, motion, ridge=0.0)).all()


def test_places_that_are_still_and_sounds_that_are_constant_get_nothing():
    motion = random(2, 7, 3, 4)
    motion[:, :, 1] = 0.3
    heat = correlation_map(random(2, 7, seed=1), motion)
    assert heat[:, 1].eq(0).all()
    assert heat.isfinite().all()
    assert correlation_map(torch.full((2, 7), 0.1), motion).abs().max() < 1e-6
    assert correlation_map(torch.full((2, 2, 7), 0.1), motion).abs().max() < 1e-6


def test_correlation_map_says_what_is_missing():
    with pytest.raises(ValueError, match="sound has 7 frames, motion 8"):
        correlation_map(random(2, 7), random(2, 8, 3, 4))
    with pytest.raises(ValueError, match="4 frames cannot tell 3 sound features"):
        correlation_map(random(2, 3, 4), random(2, 4, 3, 4))


def test_correlation_match_is_the_best_place_of_every_pair():
    sound, motion = random(5, 7), random(3, 7, 2, 4, seed=1)
    motion[1, :, 1, 2] = 3 * sound[4] - 2
    scores = correlation_match(sound, motion)
    for a, b in np.ndindex(5, 3):
        best = max(pearson(sound[a], motion[b, :, y, x]) for y in range(2) for x in range(4))
        assert scores[a, b].item() == pytest.approx(max(best, 0), abs=1e-6)
    assert scores[4, 1].item() == pytest.approx(1.0)
    order = [2, 0, 1]
    torch.testing.assert_close(correlation_match(sound, motion[order]), scores[:, order])
    torch.testing.assert_close(correlation_match(sound.flip(0), motion), scores.flip(0))


# --- attention_pool


def test_attention_pool_runs_from_the_mean_to_the_maximum():
    maps = random(5, 7, 3, 4)
    torch.testing.assert_close(attention_pool(maps, sharpness=0.0), maps.mean((-2, -1)))
    torch.testing.assert_close(attention_pool(maps, sharpness=1e4), maps.amax((-2, -1)))
    between = torch.stack([attention_pool(maps, sharpness=s) for s in (0.0, 0.5, 3.0, 12.0, 1e4)])
    assert (between.diff(dim=0) >= -1e-6).all()


def test_attention_pool_is_a_softmax_average_and_ignores_places():
    maps = random(5, 3, 4)
    for b in range(5):
        values = maps[b].flatten().double().tolist()
        weights = [np.exp(2.5 * v) for v in values]
        expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        assert attention_pool(maps, sharpness=2.5)[b].item() == pytest.approx(expected, abs=1e-6)
    shuffled = maps.flatten(1)[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))].reshape(5, 4, 3)
    torch.testing.assert_close(attention_pool(shuffled), attention_pool(maps))
    torch.testing.assert_close(attention_pool(maps + 0.5), attention_pool(maps) + 0.5)


# --- encoders and projector


def test_block_halves_and_is_not_negative():
    out = block(3, 5)(random(2, 3, 11, 13))
    assert out.shape == (2, 5, 6, 7)
    assert out.min() == 0
    assert block(3, 5, 1)(random(2, 3, 11, 13)).shape == (2, 5, 11, 13)


def test_audio_encoder_keeps_when():
    torch.manual_seed(0)
    model = AudioCNN(width=11, moments=5).eval()
    assert model(random(3, 64, 101)).shape == (3, model.features) == (3, 55)
    assert model(random(3, 40, 77)).shape == (3, 55)
    early, late = torch.zeros(1, 64, 100), torch.zeros(1, 64, 100)
    early[:, :, :20] = 1
    late[:, :, 80:] = 1
    silent = model(torch.zeros(1, 64, 100)).reshape(11, 5)
    change = [(model(x).reshape(11, 5) - silent).abs().sum(0) for x in (early, late)]
    assert (change[0].argmax().item(), change[1].argmax().item()) == (0, 4)  # a mean over time could not tell
    with pytest.raises(ValueError, match=r"log-mel \(B, F, T\)"):
        model(random(3, 1, 64, 101))


def test_visual_encoder_keeps_where():
    torch.manual_seed(0)
    model = VisualCNN(frames=7, width=11).eval()
    assert model(random(2, 10, 64, 64)).shape == (2, 11, 8, 8)
    assert model(random(2, 10, 33, 50)).shape == (2, 11, 5, 7)
    x = torch.zeros(1, 10, 64, 64)
    x[..., 48:56, 8:16] = 1
    change = (model(x) - model(torch.zeros(1, 10, 64, 64))).abs().sum(dim=(0, 1))
    y, x = divmod(change.argmax().item(), 8)
    assert abs(y - 6) <= 1
    assert abs(x - 1) <= 1
    for wrong in (random(2, 9, 64, 64), random(10, 64, 64)):
        with pytest.raises(ValueError, match=r"takes \(B, 10, H, W\)"):
            model(wrong)


def test_projector_is_two_layers_on_the_sphere():
    torch.manual_seed(0)
    model = Projector(11, 5, hidden=7)
    x = random(3, 4, 11)
    first, last = model.layers[0], model.layers[2]
    hidden = (x @ first.weight.T + first.bias).clamp_min(0)
    raw = hidden @ last.weight.T + last.bias
    torch.testing.assert_close(model(x), raw / raw.square().sum(-1, keepdim=True).sqrt())
    torch.testing.assert_close(model(x)[1, 2], model(x[1, 2]))
    assert Projector(11, 5).layers[0].out_features == 11


# --- the dual encoder


@pytest.fixture(scope="module")
def dual() -> tuple[DualEncoder, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = DualEncoder(frames=7, D=11).eval()
    return model, random(5, 64, 51), random(5, 10, 40, 48, seed=1)


def test_dual_encoder_shapes_and_lengths(dual):
    model, spectrogram, residual = dual
    views = model(spectrogram, residual)
    assert (views.audio.shape, views.places.shape) == ((5, 11), (5, 11, 5, 6))
    torch.testing.assert_close(views.audio.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(views.places.norm(dim=1), torch.ones(5, 5, 6))
    assert (model.maps(views).shape, model.visual(views).shape) == ((5, 5, 6), (5, 11))
    torch.testing.assert_close(model.visual(views).norm(dim=1), torch.ones(5))


def test_dual_encoder_scores_and_maps_are_those_of_a_loop(dual):
    model, spectrogram, residual = dual
    audio, places = views = model(spectrogram, residual)
    scores = model.scores(audio[:3], places)
    assert scores.shape == (3, 5)
    for a, b in np.ndindex(3, 5):
        cosines = torch.stack([torch.dot(audio[a], places[b, :, y, x]) for y in range(5) for x in range(6)])
        weights = torch.exp(model.sharpness * cosines)
        torch.testing.assert_close(scores[a, b], (weights * cosines).sum() / weights.sum())
        if a == b:
            torch.testing.assert_close(model.maps(views)[a].flatten(), cosines)
            attended = (places[b].flatten(1) * weights).sum(1)
            torch.testing.assert_close(model.visual(views)[a], attended / attended.norm())
    torch.testing.assert_close(attention_pool(model.maps(views), sharpness=model.sharpness)[:3], scores.diagonal())


def test_dual_encoder_follows_the_order_of_its_batch(dual):
    model, spectrogram, residual = dual
    straight = model(spectrogram, residual)
    order = [3, 0, 4, 2, 1]
    turned = model(spectrogram[order], residual[order])
    torch.testing.assert_close(turned.audio, straight.audio[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned.places, straight.places[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.scores(*turned), model.scores(*straight)[order][:, order], atol=1e-5, rtol=0)
    alone = model(spectrogram[2:3], residual[2:3])
    torch.testing.assert_close(alone.places[0], straight.places[2], atol=1e-5, rtol=0)


def test_every_weight_of_the_dual_encoder_learns():
    torch.manual_seed(0)
    model = DualEncoder(frames=7, D=11)
    scores = model.scores(*model(random(5, 64, 51), random(5, 10, 40, 48, seed=1)))
    torch.nn.functional.cross_entropy(scores / 0.1, torch.arange(5)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())

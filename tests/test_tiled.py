"""The losses in tiles against the whole table, slow loops, and what float32 does to low temperatures."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_finite, assert_gradient, assert_order_is_free, assert_same, pairs

from avlab.losses import tiled
from avlab.losses.contrastive import info_nce
from avlab.losses.margin import adaptive_mean_margin, masked_margin_softmax
from avlab.losses.similarity import cosines
from avlab.losses.tiled import tiled_info_nce, tiled_margin_softmax


@pytest.fixture(params=[4], ids=lambda n: f"tiles of {n}", autouse=True)
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Small tiles, which do not divide the batches here."""
    monkeypatch.setattr(tiled, "TILE", request.param)
    return request.param


# of one pair each; dividing one of the batches; in which some batches fit whole
every_tile = pytest.mark.parametrize("tile", [1, 4, 13, 512], indirect=True)


def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [x.clone().requires_grad_() for x in tensors]


def assert_same_with_gradients(found, expected, inputs, others, *, atol: float = 1e-6) -> None:
    assert_same(found.loss, expected.loss, atol=atol)
    for part in ("audio_to_visual", "visual_to_audio"):
        assert_same(getattr(found, part), getattr(expected, part), atol=atol)
    found.loss.backward()
    expected.loss.backward()
    for x, y in zip(inputs, others, strict=True):
        assert_same(x.grad, y.grad, atol=atol * max(1.0, float(y.grad.abs().max())))


@every_tile
@pytest.mark.parametrize("B", [1, 2, 11, 26])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("classes", [None, 3])
def test_is_info_nce(B, symmetric, classes):
    label = None if classes is None else torch.randint(classes, (B,), generator=torch.Generator().manual_seed(3))
    inputs = *pairs(B, 7, dtype=torch.float64), torch.tensor(0.07, dtype=torch.float64)
    mine, others = leaves(*inputs), leaves(*inputs)
    found = tiled_info_nce(*mine[:2], temperature=mine[2], symmetric=symmetric, label=label)
    expected = info_nce(*others[:2], temperature=others[2], symmetric=symmetric, label=label)
    assert_same_with_gradients(found, expected, mine, others)


@pytest.mark.parametrize("tile", [64], indirect=True)
def test_is_info_nce_in_float32():
    inputs = *pairs(301, 19), torch.tensor(0.05)
    mine, others = leaves(*inputs), leaves(*inputs)
    found = tiled_info_nce(*mine[:2], temperature=mine[2])
    assert_same_with_gradients(found, info_nce(*others[:2], temperature=others[2]), mine, others, atol=1e-5)
    double = info_nce(inputs[0].double(), inputs[1].double(), temperature=0.05)
    assert_same(found.loss, double.loss, atol=1e-5)


def test_is_the_slow_loop():
    audio, visual = pairs(5, 11, dtype=torch.float64)
    label, margin, scale = [0, 1, 0, 2, 1], [0.1, 0.3, -0.2, 0.0, 0.5], 6.0
    s = [[F.cosine_similarity(audio[i], visual[j], dim=0).item() for j in range(5)] for i in range(5)]
    rows = columns = 0.0
    for i in range(5):
        own = math.exp(scale * (s[i][i] - margin[i]))
        rows -= math.log(own / (own + sum(math.exp(scale * s[i][j]) for j in range(5) if label[j] != label[i]))) / 5
        columns -= math.log(own / (own + sum(math.exp(scale * s[j][i]) for j in range(5) if label[j] != label[i]))) / 5
    margin = torch.tensor(margin, dtype=torch.float64)
    found = tiled_margin_softmax(audio, visual, margin=margin, scale=scale, label=torch.tensor(label))
    assert found.audio_to_visual.item() == pytest.approx(rows, abs=1e-9)
    assert found.visual_to_audio.item() == pytest.approx(columns, abs=1e-9)
    assert found.loss.item() == pytest.approx(rows + columns, abs=1e-9)
    assert found.matched[3].item() == pytest.approx(scale * s[3][3])
    rivals = math.log(sum(math.exp(scale * s[i][2]) for i in (1, 3, 4)))  # not sound 0, which is of its kind
    assert found.other_sounds[2].item() == pytest.approx(rivals)


def test_as_printed_in_the_survey_the_inner_index_is_lost():
    """Equation 13 as printed sums over i inside a mean over i: what is left of j is a free index."""
    audio, visual = pairs(5, 11, dtype=torch.float64)
    s = cosines(audio, visual)
    matched = s.diagonal().exp()
    off = 1 - torch.eye(5, dtype=torch.float64)
    printed = [-(matched / (matched + (off * s.exp())[:, j].sum())).log().mean().item() for j in range(5)]
    assert max(printed) - min(printed) > 0.05  # five answers, one for each value that j might have
    expected = -(matched / (matched + (off * s.exp()).sum(dim=1))).log().mean()
    assert_same(tiled_margin_softmax(audio, visual, margin=0.0, scale=1.0).audio_to_visual, expected)
    assert min(abs(value - expected.item()) for value in printed) > 1e-3


@every_tile
@pytest.mark.parametrize("B", [2, 9, 26])
@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("kind", ["number", "each", "adaptive"])
def test_is_masked_margin_softmax(B, label, kind):
    audio, visual = pairs(B, 7, dtype=torch.float64)
    label = torch.randint(5, (B,), generator=torch.Generator().manual_seed(2)) if label else None
    if kind == "adaptive":
        margin = adaptive_mean_margin(cosines(audio, visual), label=label)
        assert label is not None or (margin.audio_to_visual - margin.visual_to_audio).abs().max() > 0.01
    else:
        margin = torch.linspace(-0.1, 0.4, B, dtype=torch.float64) if kind == "each" else 0.25
    mine, others = leaves(audio, visual), leaves(audio, visual)
    found = tiled_margin_softmax(*mine, margin=margin, scale=15.0, label=label)
    expected = masked_margin_softmax(*others, margin=margin, scale=15.0, label=label)
    assert_same_with_gradients(found, expected, mine, others)


def test_known_values():
    for B in (1, 2, 130):
        same = torch.ones(B, 3)
        assert tiled_info_nce(same, same).loss.item() == pytest.approx(math.log(B), abs=1e-5)
        expected = 2 * math.log(1 + (B - 1) * math.exp(20 * 0.1))
        assert tiled_margin_softmax(same, same, margin=0.1).loss.item() == pytest.approx(expected, abs=1e-4)
    expected = math.log(1 + 3 * math.exp(-1 / 0.07))  # 1.9e-6: a softmax in float32 would have rounded it
    assert tiled_info_nce(torch.eye(4), torch.eye(4)).loss.item() == pytest.approx(expected, rel=1e-4)
    assert tiled_margin_softmax(torch.randn(6, 3), torch.randn(6, 3), label=torch.full((6,), 2)).loss == 0


def test_twice_info_nce_without_margin_and_labels():
    audio, visual = pairs(11, 7, dtype=torch.float64)
    found = tiled_margin_softmax(audio, visual, margin=0.0, scale=1 / 0.07).loss
    assert_same(found, 2 * tiled_info_nce(audio, visual).loss)
    assert_same(
        tiled_margin_softmax(audio, visual, margin=0.0, label=torch.arange(11) * 7 % 11, scale=1 / 0.07).loss, found
    )


def test_order_length_and_direction_do_not_matter():
    assert_order_is_free(lambda a, v: tiled_info_nce(a, v).loss)
    audio, visual = pairs(11, 5, dtype=torch.float64)
    found = tiled_margin_softmax(audio, visual, margin=0.3)
    assert_same(tiled_margin_softmax(3 * audio, visual / 7, margin=0.3).loss, found.loss)
    swapped = tiled_margin_softmax(visual, audio, margin=0.3)
    assert_same(swapped.audio_to_visual, found.visual_to_audio)
    assert not torch.isclose(tiled_margin_softmax(audio, visual.roll(1, 0), margin=0.3).loss, found.loss)


def test_gradient():
    assert_gradient(lambda a, v: tiled_info_nce(a, v, temperature=0.3).loss)
    label = torch.tensor([0, 1, 0, 2, 2])
    audio, visual = leaves(*pairs(5, 3, dtype=torch.float64))
    margin, scale = leaves(torch.rand(5, dtype=torch.float64), torch.tensor(4.0, dtype=torch.float64))
    assert torch.autograd.gradcheck(
        lambda a, v, m, c: tiled_margin_softmax(a, v, margin=m, scale=c, label=label).loss,
        (audio, visual, margin, scale),
    )
    # each part has its own gradient, as have the sums that a figure shows
    assert torch.autograd.gradcheck(lambda a, v: tiled_info_nce(a, v, temperature=0.4)[1:], (audio, visual))


@pytest.mark.parametrize("temperature", [0.07, 0.01])
def test_stays_finite(temperature):
    # lengths of 1e-4 under a temperature of 0.01 make a slope beyond float16 itself: scaled as a GradScaler would
    assert_finite(lambda a, v: 2**-10 * tiled_info_nce(a, v, temperature=temperature).loss)
    label = torch.tensor([0, 1, 0, 2, 1])
    scale = 1 / temperature
    assert_finite(lambda a, v: 2**-10 * tiled_margin_softmax(a, v, scale=scale, label=label[: len(a)]).loss)


@every_tile
@pytest.mark.parametrize("temperature", [0.02, 0.01, 0.002])
def test_low_temperatures_lose_nothing(temperature):
    """At 0.01 `exp` of scores from -100 to 100 is beyond float32 on both sides: rows apart, some of each kind."""
    audio, visual = pairs(29, 9)
    audio[:4], visual[:9] = -visual[3:4] - 0.01 * audio[:4], visual[3:4] + 0.1 * visual[:9]  # far below all others
    visual[20:] = audio[20:]
    mine, others = leaves(audio, visual), leaves(audio.double(), visual.double())
    found = tiled_info_nce(*mine, temperature=temperature)
    expected = info_nce(*others, temperature=temperature)
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=1e-5, atol=0)
    found.loss.backward()
    expected.loss.backward()
    for x, y in zip(mine, others, strict=True):
        assert_same(x.grad, y.grad, atol=2e-5 * float(y.grad.abs().max()))


def test_low_temperatures_where_every_row_is_far_down():
    """All cosines near -1: with 1 / temperature taken off, every exponential would be 0 and the loss not a number."""
    g = torch.Generator().manual_seed(0)
    point = torch.randn(1, 6, generator=g)
    audio, visual = (sign * point + 0.1 * torch.randn(21, 6, generator=g) for sign in (1, -1))
    assert cosines(audio, visual).max() < -0.9
    assert torch.exp(torch.tensor(-1.9 / 0.01)) == 0
    mine, others = leaves(audio, visual), leaves(audio.double(), visual.double())
    found, expected = tiled_info_nce(*mine, temperature=0.01), info_nce(*others, temperature=0.01)
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=1e-5, atol=0)
    found.loss.backward()
    expected.loss.backward()
    for x, y in zip(mine, others, strict=True):
        assert_same(x.grad, y.grad, atol=2e-5 * float(y.grad.abs().max()))


def test_autocast_rounds_nothing():
    audio, visual = leaves(*pairs(17, 32))
    tiled_info_nce(audio, visual).loss.backward()
    known = audio.grad.clone()
    audio.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        tiled_info_nce(audio, visual).loss.backward()  # the backward pass as well
    assert (audio.grad == known).all()


def test_no_table_is_made():
    """The largest tensor of both passes is a tile, not B x B."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            for x in found if isinstance(found, tuple | list) else (found,):
                if isinstance(x, torch.Tensor):
                    self.numbers = max(self.numbers, x.numel())
            return found

    B, D = 150, 5
    audio, visual = leaves(*pairs(B, D))
    with Largest() as seen:
        tiled_margin_softmax(audio, visual, label=torch.arange(B) // 2).loss.backward()
    assert seen.numbers <= max(B * D, min(tiled.TILE, B) ** 2)


def test_bad_input_is_named():
    x = torch.ones(5, 3)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(4, 3\)"):
        tiled_info_nce(x, x[:4])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        tiled_info_nce(x, x, temperature=0.0)
    with pytest.raises(ValueError, match="scale must be above 0"):
        tiled_margin_softmax(x, x, scale=-1.0)
    with pytest.raises(ValueError, match=r"label must be \(5,\)"):
        tiled_margin_softmax(x, x, label=torch.arange(4))
    for margin in (torch.ones(4), (torch.ones(5), torch.ones(3)), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match=r"one for each clip, \(5,\)"):
            tiled_margin_softmax(x, x, margin=margin)

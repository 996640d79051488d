"""What all losses share: lengths, zero vectors, half precision, and errors that say what does not fit."""

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_same, pairs

from avlab.losses.similarity import check_label, check_pairs, cosines, unit

B, D = 5, 11


def test_a_direction_is_torchs_and_a_zero_vector_feels_nothing():
    audio, _ = pairs(B, D, dtype=torch.float64)
    for scale in (1.0, 1e6):
        assert_same(unit(scale * audio), F.normalize(audio, dim=1))
    audio[3] = 0
    audio.requires_grad_()
    found = unit(audio)
    (found * torch.arange(D)).sum().backward()
    assert torch.equal(found[3], torch.zeros(D, dtype=torch.float64))
    assert torch.equal(audio.grad[3], torch.zeros(D, dtype=torch.float64))
    assert_same((audio.grad * audio).sum(1), torch.zeros(B))  # length does not count: no force along the vector
    assert audio.grad[2].abs().max() > 0


def test_lengths_whose_squares_are_not_finite():
    audio, visual = pairs(B, D)
    huge = (1e30 * audio).requires_grad_()
    found = cosines(huge, 1e-3 * visual)
    torch.testing.assert_close(found, F.normalize(audio, dim=1) @ F.normalize(visual, dim=1).T)
    found.sum().backward()
    assert torch.isfinite(huge.grad).all()


def test_gradient():
    audio, visual = (x.requires_grad_() for x in pairs(4, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda a, v: cosines(5 * a, v / 5), (audio, visual))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cosines_are_not_rounded_by_autocast(dtype):
    audio, visual = pairs(16, 32)
    with torch.autocast("cpu", dtype):
        inside = cosines(audio, visual)
    assert torch.equal(inside, cosines(audio, visual))
    assert cosines(audio.to(dtype), visual.to(dtype)).dtype == torch.float32


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(4, 3\)"):
        check_pairs(torch.ones(5, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        check_pairs(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="a batch of 2, got 1"):
        check_pairs(torch.ones(1, 3), torch.ones(1, 3), smallest=2)
    for wrong in (torch.ones(5), torch.ones(4).long(), torch.ones(5, 1).long(), torch.ones(5).bool()):
        with pytest.raises(ValueError, match="whole numbers"):
            check_label(wrong, 5)
    with pytest.raises(ValueError, match=r"0\.\.2, got 0 to 3"):
        check_label(torch.tensor([0, 3]), 2, classes=3)

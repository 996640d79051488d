"""Luminance, motion, residual, grids, sizes, samples of frames: against slow loops and known pictures."""

import cv2
import numpy as np
import pytest
import torch

from avlab.video import luminance, motion, motion_residual, pool_grid, resize, sample_frames


def video(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_luminance_is_opencvs_grey():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8))
    grey = np.stack([cv2.cvtColor(f.numpy(), cv2.COLOR_RGB2GRAY) for f in frames])
    ours = luminance(frames.permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(ours.numpy() * 255, grey, atol=0.51)


def test_luminance_of_white_black_and_any_leading_shape():
    assert luminance(torch.ones(1, 3, 2, 2)).allclose(torch.ones(1, 2, 2))
    assert luminance(torch.zeros(1, 3, 2, 2)).eq(0).all()
    x = video(2, 5, 7, 3, 4, 6)
    torch.testing.assert_close(luminance(x)[1, 3], luminance(x[1, 3]))
    with pytest.raises(ValueError, match="video must be"):
        luminance(torch.ones(5, 4, 7, 7))


def test_motion_is_the_mean_change_to_both_neighbours():
    x = video(5, 7, 3, 4, 6)
    Y = luminance(x).double()
    expected = torch.zeros(5, 7, 4, 6).double()
    for n in range(7):
        steps = [(Y[:, m] - Y[:, m - 1]).abs() for m in (n, n + 1) if 1 <= m < 7]
        expected[:, n] = sum(steps) / len(steps)
    torch.testing.assert_close(motion(x).double(), expected, atol=1e-6, rtol=0)


def test_motion_knows_stillness_ignores_brightness_and_runs_backwards():
    assert motion(video(1, 1, 3, 4, 6).expand(2, 7, 3, 4, 6)).eq(0).all()
    x = video(2, 7, 3, 4, 6) / 2
    torch.testing.assert_close(motion(x + 0.25), motion(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(motion(x.flip(1)), motion(x).flip(1))
    torch.testing.assert_close(motion(x)[1], motion(x[1]))
    with pytest.raises(ValueError, match="2 frames or more, got 1"):
        motion(video(2, 1, 3, 4, 6))


def test_motion_residual_is_the_mean_and_what_the_light_does_not_explain():
    x = video(5, 7, 3, 4, 6)
    r = motion_residual(x)
    assert r.shape == (5, 10, 4, 6)
    torch.testing.assert_close(r[:, :3], sum(x[:, n] for n in range(7)) / 7 - 0.5, atol=1e-6, rtol=0)
    Y = luminance(x)
    still = Y.mean(dim=1)
    for b in range(5):
        for n in range(7):
            light = sorted((Y[b, n] / still[b]).flatten().tolist())[11]  # the lower median of 24
            torch.testing.assert_close(r[b, 3 + n], 4 * (Y[b, n] - light * still[b]), atol=1e-5, rtol=0)


def test_motion_residual_of_a_still_is_nothing_even_in_flickering_light():
    still = 0.6 * video(1, 1, 3, 4, 6).expand(2, 7, 3, 4, 6) + 0.1
    light = torch.tensor([1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.05])[:, None, None, None]
    assert motion_residual(still)[:, 3:].abs().max() < 1e-6
    assert motion_residual(still * light)[:, 3:].abs().max() < 1e-5
    moved = still.clone()
    moved[:, 3, :, 1, 2] += 0.3  # one pixel, one frame, in flickering light
    r = motion_residual(moved * light)[:, 3:]
    assert r[:, 3, 1, 2].min() > 0.5
    elsewhere = torch.ones(4, 6, dtype=torch.bool)
    elsewhere[1, 2] = False
    assert r[..., elsewhere].abs().max() < 1e-5
    assert motion_residual(torch.zeros(2, 7, 3, 4, 6))[:, 3:].abs().max() == 0
    with pytest.raises(ValueError, match="video must be"):
        motion_residual(moved[0])


def test_pool_grid_is_the_mean_of_each_cell_for_sizes_that_do_not_divide():
    x = video(5, 7, 11, 13)
    pooled = pool_grid(x, (3, 4))
    for i in range(3):
        for j in range(4):
            rows = slice(i * 11 // 3, -(-(i + 1) * 11 // 3))
            columns = slice(j * 13 // 4, -(-(j + 1) * 13 // 4))
            torch.testing.assert_close(pooled[..., i, j], x[..., rows, columns].mean((-2, -1)))


def test_pool_grid_keeps_what_fits_and_the_mean():
    x = video(2, 3, 6, 8)
    torch.testing.assert_close(pool_grid(x, (6, 8)), x)
    torch.testing.assert_close(pool_grid(x, 1)[..., 0, 0], x.mean((-2, -1)))
    torch.testing.assert_close(pool_grid(x, 2).mean((-2, -1)), x.mean((-2, -1)))
    torch.testing.assert_close(pool_grid(x[0], 2), pool_grid(x, 2)[0])
    for grid in (7, 0, (2, 9)):
        with pytest.raises(ValueError, match="does not fit"):
            pool_grid(x, grid)


def test_resize_halves_as_area_does_and_keeps_constants():
    smooth = torch.linspace(0, 1, 24).expand(2, 5, 3, 16, 24)
    area = torch.nn.functional.avg_pool2d(smooth.reshape(10, 3, 16, 24), 2).reshape(2, 5, 3, 8, 12)
    torch.testing.assert_close(resize(smooth, (8, 12))[..., 1:-1], area[..., 1:-1], atol=1e-5, rtol=0)
    assert resize(torch.full((7, 3, 11, 5), 0.25), 3).sub(0.25).abs().max() < 1e-6
    x = video(7, 3, 11, 5)
    torch.testing.assert_close(resize(x, (11, 5)), x)
    torch.testing.assert_close(resize(x.flip(-1), (4, 3)), resize(x, (4, 3)).flip(-1))
    checker = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    grey = resize(checker.float().expand(1, 3, 32, 32), 8)  # without anti-aliasing this would be 0 or 1
    assert grey[..., 1:-1, 1:-1].sub(0.5).abs().max() < 0.05


def test_sample_frames_takes_the_middles():
    x = torch.arange(11.0).reshape(11, 1, 1, 1).expand(5, 11, 3, 2, 2)
    for count in (1, 3, 4, 11):
        expected = [int((i + 0.5) * 11 / count) for i in range(count)]
        assert sample_frames(x, count)[3, :, 0, 0, 0].tolist() == expected
    for count in (0, 12):
        with pytest.raises(ValueError, match=f"cannot sample {count} of 11"):
            sample_frames(x, count)

import random

import numpy as np
import pytest
import torch

import avlab
from avlab.start import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab("00_demo", "quick", 0, torch.device("cpu"))


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_same_seed_same_numbers_another_seed_others():
    numbers = []
    for seed in (7, 7, 8):
        lab = avlab.start("00_demo", seed=seed, device="cpu")
        numbers.append((*draw(), float(torch.rand((), generator=lab.generator()))))
    assert numbers[0] == numbers[1]
    assert all(a != b for a, b in zip(numbers[0], numbers[2], strict=True))


def test_generators_of_seeds_and_offsets_are_all_different():
    drawn = {
        float(
            torch.rand(
                (), generator=Lab("x", "quick", seed, torch.device("cpu")).generator(offset), dtype=torch.float64
            )
        )
        for seed in range(5)
        for offset in range(7)
    }
    assert len(drawn) == 35


def test_one_line_is_printed_and_says_device_profile_and_seed(capsys):
    avlab.start("00_demo", profile="full", seed=11, device="cpu", clips="mine")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    for part in ("00_demo", "cpu", "full profile", "seed 11", "clips mine"):
        assert part in out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"profile": "fast"}, "'fast' is unknown: choose one of quick, full"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"device": "abacus"}, "'abacus' is unknown"),
        ({"device": "cuda:99"}, "not on this machine"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting, message):
    with pytest.raises(ValueError, match=message):
        avlab.start("00_demo", **setting)


def test_threads_follow_the_runner_then_ci(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("CI", "true")
    avlab.start("00_demo", device="cpu")
    assert torch.get_num_threads() <= 2
    monkeypatch.setenv("AVLAB_THREADS", "3")
    avlab.start("00_demo", device="cpu")
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("AVLAB_THREADS", "many")
    with pytest.raises(ValueError, match="AVLAB_THREADS='many'"):
        avlab.start("00_demo", device="cpu")
    torch.set_num_threads(before)


def test_pick_follows_the_profile(lab):
    assert lab.quick
    assert lab.pick(quick=3, full=11) == 3
    assert Lab("00_demo", "full", 0, torch.device("cpu")).pick(quick=3, full=11) == 11


def test_record_takes_tensors_and_refuses_what_is_no_finite_number(lab):
    assert lab.record("loss", torch.tensor(0.5)) == 0.5
    assert lab.outcomes == {"loss": 0.5}
    for value in (float("nan"), np.inf, "high", torch.zeros(5), None):
        with pytest.raises(ValueError, match="'recall'"):
            lab.record("recall", value)
    assert "recall" not in lab.outcomes


def test_expect_keeps_false_ones_and_refuses_numbers(lab, capsys):
    assert lab.expect("a beats b", np.float32(0.5) > 0.1)
    assert not lab.expect("b beats a", torch.tensor(0.1) > torch.tensor(0.5))
    assert lab.expectations == {"a beats b": True, "b beats a": False}
    assert "does not hold" in capsys.readouterr().out
    with pytest.raises(TypeError, match="did you mean to compare it"):
        lab.expect("a beats b", 0.4)


def test_controls_hold_999_of_1000_honest_runs_and_catch_a_leak(lab):
    generator = np.random.default_rng(0)
    for n, chance in ((128, 1 / 128), (100, 0.05), (200, 0.5)):
        honest = generator.binomial(n, chance, size=2000) / n
        failed = sum(not lab.control("shuffled", value, chance=chance, n=n) for value in honest)
        assert failed <= 8, f"{failed} of 2000 honest controls failed at n={n}"  # 2 expected; 8 or more: p = 0.001
        assert not lab.control(
            "shuffled", min(1.0, chance + 6 * (chance * (1 - chance) / n) ** 0.5), chance=chance, n=n
        )
    assert not lab.control("wrong sign", 0.2, chance=0.5, n=100)


def test_control_with_a_tolerance_in_its_own_unit(lab):
    assert lab.control("loss", 4.7, chance=4.85, tolerance=0.2)
    assert not lab.control("loss", 4.6, chance=4.85, tolerance=0.2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"chance": 0.1}, "n="),
        ({"chance": 4.85}, "tolerance="),
        ({"chance": 0.5, "n": 3}, "no value could fail"),
        ({"chance": 0.5, "n": 0}, "n = 0 trials are none"),
    ],
)
def test_a_control_that_could_not_fail_is_refused(lab, setting, message):
    with pytest.raises(ValueError, match=message):
        lab.control("recall", 0.1, **setting)

"""The face-off: each objective trains two projectors and is measured alike; the grid can be killed and continued."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from avlab.datasets.features import Features
from avlab.studies import objectives as study
from avlab.studies.objectives import LINEAR, OBJECTIVES, Task, describe, fit_named, measure
from avlab.studies.projectors import towers
from avlab.study import Study


def made(M: int = 192, seed: int = 0, noise: float = 0.3) -> Features:
    """Sounds (M, 13) and pictures (M, 11) of one cause of 5 numbers, and the class of that cause."""
    g = torch.Generator().manual_seed(seed)
    maps = torch.Generator().manual_seed(7)
    audio, visual, centres = (torch.randn(shape, generator=maps) for shape in ((5, 13), (5, 11), (3, 5)))
    label = torch.randint(3, (M,), generator=g)
    cause = centres[label] + torch.randn(M, 5, generator=g)
    sound = cause @ audio + noise * torch.randn(M, 13, generator=g)
    sight = cause @ visual + noise * torch.randn(M, 11, generator=g)
    return Features(sound, sight, label, ("a", "b", "c"), {"size": cause[:, 0], "x": cause[:, 1]})


@pytest.fixture
def small(monkeypatch):
    """Every data set stands for 192 and 67 clips made up in an instant."""
    monkeypatch.setattr(study, "load", lambda data, seed=0: (made(), made(67, seed=1), 192))


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """A folder of real features with a file of 120 videos that are none."""
    train, test = made(90), made(30, seed=1)
    folder = tmp_path / "clips" / "features" / "ccv"
    folder.mkdir(parents=True)
    np.savez(
        folder / "ccv.npz",
        audio_mfcc=torch.cat([train.audio, test.audio]).numpy(),
        visual_sift=torch.cat([train.visual, test.visual]).numpy()[:, :6],
        visual_stip=torch.cat([train.visual, test.visual]).numpy()[:, 6:],
        label=torch.cat([train.label, test.label]).numpy().astype(np.int16),
        class_names=np.array(["a", "b", "c"]),
        split=np.array(["train"] * 90 + ["test"] * 30),
    )
    monkeypatch.setenv("AVLAB_CLIPS", str(tmp_path / "clips"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_learns_and_is_finite(name):
    train = made()
    fitted = fit_named(name, train, steps=25)
    assert fitted.history["loss"].notna().all()
    assert fitted.history["gradient_norm"].max() > 0
    entry = OBJECTIVES[name]
    assert entry.values[0] < entry.values[1] < entry.values[2]
    audio, visual = fitted.embed(train)
    assert audio.shape == visual.shape == (192, study.D)
    long = torch.cat([audio, visual]).norm(dim=1)
    assert ((long - 1).abs().max() < 1e-5) == entry.unit


@pytest.mark.parametrize("name", [name for name, entry in OBJECTIVES.items() if not entry.labels])
def test_what_says_to_see_no_labels_sees_none(name):
    """Shuffled labels change nothing for an objective of pairs."""
    train = made()
    order = torch.randperm(192, generator=torch.Generator().manual_seed(3))
    other = replace(train, label=train.label[order])
    points = [fit_named(name, one, steps=5).embed(train) for one in (train, other)]
    torch.testing.assert_close(points[0], points[1])


def test_those_with_labels_see_them():
    train = made()
    other = replace(train, label=(train.label + torch.arange(192)) % 3)
    for name, entry in OBJECTIVES.items():
        if entry.labels:
            first, second = (fit_named(name, one, steps=5).embed(train)[0] for one in (train, other))
            assert not torch.allclose(first, second), name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_setting_is_used(name):
    values = OBJECTIVES[name].values
    late = ("margin softmax, scheduled", "InfoNCE, queue", "hinge, hardest", "triplet, hardest")
    steps = 40 if name in late else 8  # theirs matters only later, or scales a loss that Adam scales back
    points = [fit_named(name, made(), setting=x, steps=steps).embed(made())[0] for x in (values[0], values[2])]
    assert not torch.allclose(*points), name


def test_same_seed_same_numbers(small):
    first, again = (measure("InfoNCE", steps=20) for _ in range(2))
    for cost in ("ms a step",):
        first.pop(cost), again.pop(cost)
    assert first == again
    assert measure("InfoNCE", steps=20, seed=1)["recall@1"] != first["recall@1"]


def test_infonce_beats_what_it_should(small):
    found = {name: measure(name, steps=150) for name in ("InfoNCE", "InfoNCE, broken pairs", "cross-entropy", LINEAR)}
    assert found["InfoNCE"]["recall@10"] > 0.8  # of 67; chance is 0.15
    assert found["InfoNCE, broken pairs"]["recall@10"] < 0.35
    assert found["cross-entropy"]["recall@10"] < found["InfoNCE"]["recall@10"]
    assert found["cross-entropy"]["class mAP"] > found["InfoNCE"]["class mAP"]
    assert found[LINEAR]["recall@10"] > 0.8  # made by linear maps: that is its home


def test_a_turned_space_is_turned_back(small):
    """Deep CCA leaves each sense in a frame of its own: unturned, a sound does not find its picture."""
    assert OBJECTIVES["deep CCA"].turned
    train, test, _ = study.load("x")
    fitted = fit_named("deep CCA", train, steps=100)
    bare = describe(fitted.embed(train), fitted.embed(test), train, test)["recall@10"]
    assert measure("deep CCA", steps=100)["recall@10"] > bare + 0.2


def test_the_probe_meets_all_classes(monkeypatch):
    """Clips sorted by class, as files often are: the first of them would show the probe one class only."""
    train = made(300)
    train = train.rows(train.label.argsort())
    monkeypatch.setattr(study, "PROBE_ROWS", 90)
    found = study.compete("cross-entropy", train, made(150, seed=1), steps=60)
    assert found["probe"] > 0.7


def test_describe_on_known_spaces():
    label = torch.arange(3).repeat_interleave(5)
    features = Features(torch.eye(15), torch.eye(15), label, ("a", "b", "c"))
    perfect = describe([torch.eye(15)] * 2, [torch.eye(15)] * 2, features, features)
    assert perfect["recall@1"] == perfect["recall@10"] == perfect["probe"] == 1
    assert perfect["gap"] == perfect["pair distance"] == 0
    kinds = torch.eye(3)[label]
    of_kind = describe([kinds] * 2, [kinds] * 2, features, features)
    assert of_kind["class mAP"] == 1
    assert of_kind["recall@1"] == 0  # five tie, and their mean rank is 3
    assert of_kind["compactness"] == 0
    assert of_kind["effective rank"] == pytest.approx(2)
    assert "probe of size" not in perfect
    caused = made()
    found = describe((caused.audio, caused.audio), (caused.audio, caused.audio), caused, caused)
    assert 0.3 < found["probe of size"] <= 1


def test_equal_time_is_as_many_steps_as_fit(monkeypatch):
    """A short trial says what a step takes; nobody gets so few steps that nothing is learned."""
    for ms, steps in ((5.0, 60), (100.0, 40)):
        monkeypatch.setattr(study, "EQUAL_SECONDS", 0.3)
        monkeypatch.setattr(study, "_ms", lambda fitted, ms=ms: ms)
        assert len(fit_named("InfoNCE", made(), budget="time").history) == steps


def test_names_that_are_none(monkeypatch):
    with pytest.raises(ValueError, match="no objective 'hope'; there are"):
        fit_named("hope", made())
    with pytest.raises(ValueError, match='budget must be "steps" or "time"'):
        fit_named("InfoNCE", made(), budget="money")
    with pytest.raises(ValueError, match="data must be one of"):
        study.load("air")
    monkeypatch.delenv("AVLAB_CLIPS", raising=False)
    with pytest.raises(FileNotFoundError, match="set AVLAB_CLIPS"):
        study._loaded.__wrapped__("letters", 0)


def test_the_grid_is_a_study(small, tmp_path):
    some = {"objectives": ["InfoNCE", LINEAR], "data": ["world"], "seeds": [0, 1], "progress": False}
    settings = some | {"budgets": ["steps"]}
    table = tmp_path / "objectives.csv.gz"
    first = study.study(table, values=1, **settings)
    assert (first.made, len(first.failed)) == (4, 0)
    more = study.study(table, values=3, **settings)
    assert (more.made, more.found) == (8, 4)
    frame = study.stored(table)
    with pytest.raises(FileNotFoundError, match="--profile full makes it"):
        study.stored(tmp_path / "none.csv")
    assert set(frame["objective"]) == {"InfoNCE", LINEAR}
    assert frame[frame["objective"] == "InfoNCE"]["setting"].unique().tolist() == [0.05, 0.1, 0.2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "objectives.csv.gz", "objectives.jsonl", "objectives.jsonl.lock"
    ]  # fmt: skip


def clips(M: int = 256, seed: int = 0) -> Features:
    """Clips of four moments: in one of them there is sound, and something moves, anywhere."""
    g = torch.Generator().manual_seed(seed)
    when = torch.randint(4, (M,), generator=g)
    sound, moving = 0.1 * torch.randn(M, 64, 24, generator=g), 3 * torch.randn(M, 7, 16, 16, generator=g)
    for i, moment in enumerate(when.tolist()):
        sound[i, :, 6 * moment : 6 * moment + 6] += 1
        y, x = torch.randint(12, (2,), generator=g).tolist()
        moving[i, 3 + moment, y : y + 4, x : x + 4] += 60
    return Features(sound.half(), moving.to(torch.int8), when, ("a", "b", "c", "d"))


def test_whole_encoders_learn_from_clips():
    train, test = clips(), clips(64, seed=1)
    found, again = (study.compete("InfoNCE", train, test, steps=30) for _ in range(2))
    broken = study.compete("InfoNCE, broken pairs", train, test, steps=30)
    assert found["class mAP"] > 0.45  # the rest of a clip is noise, which pairs of a small set tempt it to learn
    assert broken["class mAP"] < 0.35
    assert found["kept MB"] > 1
    found.pop("ms a step"), again.pop("ms a step")
    assert found == again
    with pytest.raises(ValueError, match=r"whole encoders learn by .* got 'deep CCA': take features"):
        fit_named("deep CCA", train)


def test_networks_fit_their_features():
    with pytest.raises(ValueError, match=r"features are \(M, D1\) and \(M, D2\), or clips"):
        towers(replace(made(), audio=torch.zeros(192, 3, 4)), 8, 16)
    audio, visual = towers(clips(), 8, 16, unit=False)
    assert audio(clips().audio[:2]).shape == visual(clips().visual[:2]).shape == (2, 8)


def test_whole_encoders_are_part_of_the_grid(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        study, "run", lambda function, wanted, **rest: asked.extend(wanted) or Study(*4 * [pd.DataFrame()])
    )
    study.study(tmp_path / "t.csv", data=["world"], values=1, budgets=["steps"], encoders=True)
    assert [one["objective"] for one in asked if one["data"] == study.ENCODED] == sorted(
        study.LEADING, key=list(OBJECTIVES).index
    )
    assert set(study.LEADING) <= set(OBJECTIVES)
    assert study.ENCODED in study.WORLDS


def test_a_task_gives_labels_by_row():
    task = Task(made(), 0, 10)
    assert task.classes == 3
    rows = torch.tensor([5, 0, 9])
    label = task.with_label(lambda a, v, *, label: label)(None, None, rows)
    assert label.equal(made().label[rows])
    assert task.with_label(lambda a, v, label: label, None)(None, None, rows).equal(label)


@pytest.mark.slow
def test_the_command_line(tmp_path):
    """Asked for data that is not there, it names each run that failed, and ends."""
    environment = {**os.environ, "AVLAB_CLIPS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "avlab.studies.objectives", "--data", "videos", "--jobs", "1", "--out", "t.csv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert f"0 runs made, 0 found, {len(OBJECTIVES) + 1} failed" in done.stdout
    assert "set AVLAB_CLIPS to the folder" in done.stdout


@pytest.mark.slow
def test_processes_share_the_work(small_files, tmp_path):
    """Processes started anew, as on any system; what they need is found by name."""
    some = {"objectives": [LINEAR], "data": ["videos"], "seeds": [0, 1], "values": 1, "budgets": ["steps"]}
    found = study.study(tmp_path / "t.csv", jobs=2, progress=False, **some)
    assert (found.made, len(found.failed)) == (2, 0)
    again = study.study(tmp_path / "t.csv", jobs=1, progress=False, **some)
    assert (again.made, again.found) == (0, 2)

"""Every objective on the same encoders, data, batches, steps and seeds: the face-off of the survey's section 3.2.

`OBJECTIVES` names them, each with one setting of its own and three values for it, since a ranking at one value would be
a ranking of luck. `measure` trains one and says what its space is good for; `avlab.study` runs the whole grid:

    python -m avlab.studies.objectives --profile full --out data/results/objectives.csv.gz --jobs 2

Projectors on stored features carry the grid, at seconds a run. The `LEADING` objectives are also asked of whole
encoders, which learn from the clips themselves: what holds for a projector need not hold for what lies below it.

What an objective sees beside embeddings is the row of each clip: a class, a feature, a teacher's answer is looked up
there by those that use it, so that the rest cannot.

Left out here: objectives of several instances or places a clip (multi-instance multi-label, region maps), since
features here are one vector a clip; the two-player games whose generator makes media; long batches (they change what a
batch costs, not what is learned).
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

import avlab
from avlab.datasets import real
from avlab.datasets.features import Features, world_clips, world_features
from avlab.losses.adversarial import AdversarialAlignment
from avlab.losses.bags import mil_nce, sup_con
from avlab.losses.clusters import cluster_labels, swapped_cluster_loss
from avlab.losses.contrastive import InfoNCELoss, info_nce
from avlab.losses.correlation import correlation_cross_entropy, deep_cca, linear_cca
from avlab.losses.distance import CenterLoss, ClassifierLoss, embedding_distance
from avlab.losses.distillation import feature_distillation
from avlab.losses.margin import adaptive_mean_margin, hinge, masked_margin_softmax, scheduled_margin
from avlab.losses.pairwise import contrastive_loss
from avlab.losses.queues import Queue
from avlab.losses.redundancy import barlow_twins, vicreg
from avlab.losses.similarity import cosines, unit
from avlab.losses.triplet import lifted_structure, n_pair, quadruplet, triplet
from avlab.losses.variational import cross_modal_elbo
from avlab.losses.weighted import WeightedObjective
from avlab.metrics.alignment import (
    compactness,
    effective_rank,
    fisher_ratio,
    heterogeneity_gap,
    pair_distance,
    separation,
    uniformity,
)
from avlab.metrics.recognition import linear_probe, linear_probe_r2
from avlab.metrics.retrieval import mean_average_precision, recall_at_k
from avlab.studies.projectors import Fitted, Objective, fit
from avlab.study import Study, grid, run

D, BATCH, STEPS, LR = 32, 128, 300, 2e-3
ENCODER_STEPS = 150  # of whole encoders, which take a hundred times as long a step
EQUAL_SECONDS = 1.0  # of training, where each gets the same time
PROBE_ROWS = 1500
TABLE = Path(avlab.__file__).parents[1] / "data" / "results" / "objectives.csv.gz"


@dataclass
class Task:
    """What an objective may look up by row: the clips to learn from, and the seed and steps of the training."""

    train: Features
    seed: int
    steps: int

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train.label.max()) + 1

    def with_label(self, objective: Callable[..., Any], name: str | None = "label") -> Objective:
        """An objective of rows from one that takes the label, by keyword `name` (None: as the third argument)."""

        def labelled(audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
            label = self.train.label[rows]
            return objective(audio, visual, label) if name is None else objective(audio, visual, **{name: label})

        return labelled


@dataclass(frozen=True)
class Entry:
    """An objective: its `family` in the survey, its `setting` with three `values` (the middle one is usual).

    `build(value, task)` makes it. `labels`: it sees classes. `unit`: embeddings of length one.
    `turned`: it fixes the two spaces only up to a linear map each, so that linear CCA of the trained embeddings has to
    bring them into one frame before a sound can be compared with a picture. Where the setting is "lr", the objective
    has none of its own, and the learning rate is varied.
    """

    family: str
    setting: str
    values: tuple[float, float, float]
    build: Callable[[float, Task], Objective]
    labels: bool = False
    unit: bool = True
    turned: bool = False


class _Labelled(nn.Module):
    """A module of (audio, visual, label) as an objective of rows, learned with the projectors."""

    def __init__(self, objective: nn.Module, label: torch.Tensor) -> None:
        super().__init__()
        self.objective = objective
        self.register_buffer("label", label)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        return self.objective(audio, visual, self.label[rows])


class _LearnedTemperature(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.criterion = InfoNCELoss(temperature)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        return self.criterion(audio, visual)


class _Queued(nn.Module):
    """InfoNCE against a queue of past batches as well."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.queue = Queue(size, D=D)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        old = self.queue.negatives()
        more = {"negatives_audio": old.audio, "negatives_visual": old.visual} if len(old.age) else {}
        found = info_nce(audio, visual, temperature=0.1, **more)
        self.queue.push(audio.detach(), visual.detach())
        return found


class _Scheduled(nn.Module):
    """Margin softmax whose margin grows from 0.02 by a factor every tenth of the training."""

    def __init__(self, growth: float, steps: int) -> None:
        super().__init__()
        self.growth, self.every, self.step = growth, max(steps // 10, 1), 0

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        margin = scheduled_margin(self.step, start=0.02, growth=self.growth, every=self.every, highest=0.5)
        self.step += 1
        return masked_margin_softmax(audio, visual, margin=margin)


class _Swapped(nn.Module):
    """Each sense tells in which cluster of features the other falls (XDC's first round)."""

    def __init__(self, clusters: int, task: Task) -> None:
        super().__init__()
        for name, features in (("audio", task.train.audio), ("visual", task.train.visual)):
            self.register_buffer(name, cluster_labels(features, clusters=clusters, seed=task.seed).label)
        self.read = nn.Linear(D, clusters), nn.Linear(D, clusters)
        self.reads = nn.ModuleList(self.read)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        logits = self.reads[0](audio), self.reads[1](visual)
        return swapped_cluster_loss(*logits, audio_cluster=self.audio[rows], visual_cluster=self.visual[rows])


class _ELBO(nn.Module):
    """Embeddings as the means of posteriors, from each of which the features of both senses are decoded."""

    def __init__(self, beta: float, task: Task) -> None:
        super().__init__()
        self.beta, self.train_features = beta, task.train
        self.log_variance = nn.Parameter(torch.full((2, D), -2.0))
        self.decoders = nn.ModuleList(nn.Linear(D, x.shape[1]) for x in (task.train.audio, task.train.visual))

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        posteriors = [(mean, own.expand_as(mean)) for mean, own in zip((audio, visual), self.log_variance, strict=True)]
        return cross_modal_elbo(
            self.train_features.audio[rows],
            self.train_features.visual[rows],
            audio_posterior=posteriors[0],
            visual_posterior=posteriors[1],
            decode=lambda z: (self.decoders[0](z), self.decoders[1](z)),
            cross=True,
            beta=self.beta,
        )


def _distilled(temperature: float, task: Task) -> Objective:
    """Regression on the embeddings of a teacher four times as wide, itself trained by InfoNCE."""
    settings = {"D": D, "hidden": 512, "steps": task.steps, "batch": BATCH, "seed": task.seed + 1000}
    teacher = fit(task.train, lambda a, v, rows: info_nce(a, v, temperature=temperature), **settings)
    audio, visual = teacher.embed(task.train)
    return lambda a, v, rows: feature_distillation(a, v, audio_teacher=audio[rows], visual_teacher=visual[rows])


def _classes_and(weight: float, other: nn.Module | Objective, task: Task) -> Objective:
    """Cross-entropy of the classes plus a weight times another objective of (audio, visual, label)."""
    both = {"classes": ClassifierLoss(task.classes, D), "other": other}
    return _Labelled(WeightedObjective(both, {"other": weight}), task.train.label)


def _adaptive(alpha: float) -> Objective:
    def loss(audio: torch.Tensor, visual: torch.Tensor, rows: torch.Tensor) -> Any:
        return masked_margin_softmax(audio, visual, margin=adaptive_mean_margin(cosines(audio, visual), alpha=alpha))

    return loss


def _pairs(function: Callable[..., Any], name: str, **fixed: Any) -> Callable[[float, Task], Objective]:
    """Builds an objective that knows pairs only, from a function with the setting `name`."""
    return lambda value, task: lambda a, v, rows: function(a, v, **fixed, **{name: value})


def _classes(function: Callable[..., Any], name: str, **fixed: Any) -> Callable[[float, Task], Objective]:
    """Builds an objective that looks up labels, from a function with the setting `name`."""
    return lambda value, task: task.with_label(functools.partial(function, **fixed, **{name: value}))


def _broken_pairs(temperature: float, task: Task) -> Objective:
    """The negative control: each sound is trained to find the picture of another clip of the batch."""
    return lambda a, v, rows: info_nce(a, v.roll(1, 0), temperature=temperature)


_RATES = (LR / 4, LR, 4 * LR)
OBJECTIVES: dict[str, Entry] = {
    "cross-entropy": Entry(
        "i", "lr", _RATES, lambda x, t: _Labelled(ClassifierLoss(t.classes, D), t.train.label), labels=True, unit=False
    ),
    "label distance": Entry(
        "i",
        "lr",
        _RATES,
        lambda x, t: _Labelled(ClassifierLoss(t.classes, D, by="distance"), t.train.label),
        labels=True,
        unit=False,
    ),
    "cross-entropy + centres": Entry(
        "i",
        "weight",
        (0.03, 0.3, 3.0),
        lambda x, t: _classes_and(x, CenterLoss(t.classes, D), t),
        labels=True,
        unit=False,
    ),
    "cross-entropy + alignment": Entry(
        "i",
        "weight",
        (0.03, 0.3, 3.0),
        lambda x, t: _classes_and(x, lambda a, v, label: embedding_distance(a, v), t),
        labels=True,
        unit=False,
    ),
    "alignment alone": Entry("i", "lr", _RATES, lambda x, t: lambda a, v, rows: embedding_distance(a, v)),
    "distilled InfoNCE": Entry("i", "temperature", (0.05, 0.1, 0.2), _distilled),
    "deep CCA": Entry("v", "ridge", (1e-3, 1e-2, 1e-1), _pairs(deep_cca, "ridge"), unit=False, turned=True),
    "correlation cross-entropy": Entry(
        "v", "scale", (0.5, 5.0, 20.0), _classes(correlation_cross_entropy, "scale"), labels=True
    ),
    "Barlow Twins": Entry("v", "weight", (1e-3, 5e-3, 2.5e-2), _pairs(barlow_twins, "weight"), unit=False),
    "VICReg": Entry("v", "covariance weight", (0.2, 1.0, 5.0), _pairs(vicreg, "covariance_weight"), unit=False),
    "adversarial alone": Entry(
        "v",
        "strength",
        (0.1, 1.0, 10.0),
        lambda x, t: AdversarialAlignment(D, strength=x),
    ),
    "adversarial + InfoNCE": Entry(
        "v",
        "strength",
        (0.01, 0.1, 1.0),
        lambda x, t: WeightedObjective(
            {"pairs": lambda a, v, rows: info_nce(a, v, temperature=0.1), "game": AdversarialAlignment(D, strength=x)}
        ),
    ),
    "cross-modal ELBO": Entry("v", "beta", (0.01, 0.1, 1.0), _ELBO, unit=False),
    "hinge, sum": Entry("ii", "margin", (0.1, 0.2, 0.5), _pairs(hinge, "margin")),
    "hinge, hardest": Entry("ii", "margin", (0.1, 0.2, 0.5), _pairs(hinge, "margin", negatives="hardest")),
    "margin softmax": Entry("ii", "margin", (0.001, 0.1, 0.3), _pairs(masked_margin_softmax, "margin")),
    "margin softmax, scheduled": Entry("ii", "growth", (1.1, 1.25, 1.5), lambda x, t: _Scheduled(x, t.steps)),
    "margin softmax, adaptive": Entry("ii", "alpha", (0.25, 0.5, 0.75), lambda x, t: _adaptive(x)),
    "triplet, random": Entry("iii", "margin", (0.2, 0.4, 0.8), _pairs(triplet, "margin", mining="random")),
    "triplet, semi-hard": Entry("iii", "margin", (0.2, 0.4, 0.8), _pairs(triplet, "margin", mining="semi-hard")),
    "triplet, hardest": Entry("iii", "margin", (0.2, 0.4, 0.8), _pairs(triplet, "margin", mining="hardest")),
    "triplet, by class": Entry("iii", "margin", (0.2, 0.4, 0.8), _classes(triplet, "margin"), labels=True),
    "lifted structure": Entry("iii", "margin", (0.5, 1.0, 2.0), _pairs(lifted_structure, "margin")),
    "N-pair": Entry("iii", "penalty", (5e-4, 2e-3, 8e-3), _pairs(n_pair, "penalty"), unit=False),
    "quadruplet": Entry("iii", "margin", (0.2, 0.4, 0.8), _pairs(quadruplet, "margin", mining="random")),
    "contrastive": Entry("iv", "margin", (0.5, 0.75, 1.0), _pairs(contrastive_loss, "margin")),
    "contrastive, by class": Entry("iv", "margin", (0.5, 0.75, 1.0), _classes(contrastive_loss, "margin"), labels=True),
    "InfoNCE": Entry("v NCE", "temperature", (0.05, 0.1, 0.2), _pairs(info_nce, "temperature")),
    "InfoNCE, learned temperature": Entry(
        "v NCE", "temperature", (0.05, 0.1, 0.2), lambda x, t: _LearnedTemperature(x)
    ),
    "InfoNCE, queue": Entry("v NCE", "size", (128, 512, 1024), lambda x, t: _Queued(int(x))),
    "InfoNCE, other classes": Entry(
        "v NCE", "temperature", (0.05, 0.1, 0.2), _classes(info_nce, "temperature"), labels=True
    ),
    "InfoNCE + cross-entropy": Entry(
        "v NCE",
        "weight",
        (0.1, 0.5, 2.0),
        lambda x, t: _classes_and(x, lambda a, v, label: info_nce(a, v, temperature=0.1), t),
        labels=True,
    ),
    "MIL-NCE, by class": Entry(
        "v NCE",
        "temperature",
        (0.05, 0.1, 0.2),
        lambda x, t: t.with_label(
            lambda a, v, label: mil_nce(a, v, positive=label[:, None] == label, temperature=x), None
        ),
        labels=True,
    ),
    "supervised contrastive": Entry(
        "v NCE", "temperature", (0.05, 0.1, 0.2), _classes(sup_con, "temperature"), labels=True
    ),
    "swapped clusters": Entry("v NCE", "clusters", (8, 16, 32), lambda x, t: _Swapped(int(x), t), unit=False),
    "InfoNCE, broken pairs": Entry("control", "temperature", (0.05, 0.1, 0.2), _broken_pairs),
}
LINEAR = "linear CCA"  # no training: the objective to beat
RIDGES = (1e-3, 1e-2, 1e-1)
DATA = ("world", "hard world", "letters", "sentences", "videos", "digits")
WORLDS = {"world": (world_features, "L1"), "hard world": (world_features, "L3"), "clips": (world_clips, "L1")}
ENCODED = "clips"  # the clips of "world" themselves, on which whole encoders learn by the leading objectives
LEADING = ("InfoNCE", "contrastive", "hinge, sum", "N-pair", "VICReg", "InfoNCE, broken pairs")


def load(data: str, seed: int = 0) -> tuple[Features, Features, int]:
    """Features to learn from and to test on, and how many of the first rows are no changed copies of others.

    `data` is one of `DATA` or `ENCODED`. "world" is level L1, "hard world" L3: two sources, a room, sounds from outside
    the picture. The world and "digits" (which picture goes with which sound) depend on the seed, of the other real ones
    only the start of the networks and the order of clips do. Kept in memory. Raises `ValueError` for another name, and
    `FileNotFoundError` where real features are not there.
    """
    return _loaded(data, seed if data in WORLDS or data == "digits" else 0)


@functools.cache  # of one study, all that its grid needs: 2 GB with whole clips
def _loaded(data: str, seed: int) -> tuple[Features, Features, int]:
    if data in WORLDS:
        reader, level = WORLDS[data]
        train, test = reader(level, seed=seed, train=1536, test=256)
        return train, test, len(train)
    if data == "letters":
        train, test = real.avletters()
        return train, test, 416
    readers = {"sentences": real.grid_speech, "videos": real.ccv, "digits": lambda: real.spoken_digits(seed=seed)}
    if data not in readers:
        raise ValueError(f"data must be one of {(*DATA, ENCODED)}, got {data!r}")
    train, test = readers[data]()
    return train, test, len(train)


def measure(
    objective: str,
    data: str = "world",
    *,
    setting: float | None = None,
    budget: Literal["steps", "time"] = "steps",
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train two networks by one objective and say what the space is good for, on test clips.

    `setting` is the value of the objective's own setting (None: the usual one). `budget` "steps" gives each `steps`
    (None: 300, of whole encoders 150);
    "time" gives each about `EQUAL_SECONDS` of training on this machine, as many steps as fit. Returns `describe`'s
    metrics, and `ms a step` (median, with everything), `steps`, and `kept MB`: what one batch keeps for its way back,
    projectors and loss together. Raises `ValueError` for an unknown objective or budget.
    """
    train, test, originals = load(data, seed)
    steps = steps or (ENCODER_STEPS if data == ENCODED else STEPS)
    return compete(objective, train, test, originals=originals, setting=setting, budget=budget, steps=steps, seed=seed)


def compete(
    objective: str,
    train: Features,
    test: Features,
    *,
    originals: int | None = None,
    setting: float | None = None,
    budget: Literal["steps", "time"] = "steps",
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, float]:
    """`measure` on features that are given; of `train`, linear CCA takes the first `originals` only (None: all)."""
    if objective == LINEAR:
        plain, components = train.rows(slice(originals)), min(20, train.audio.shape[1], train.visual.shape[1])
        ridge = RIDGES[1] if setting is None else setting
        cca = linear_cca(plain.audio, plain.visual, components=components, ridge=ridge)
        points = [(cca.project_audio(x.audio), cca.project_visual(x.visual)) for x in (plain, test)]
        return describe(*points, plain, test) | {"ms a step": 0.0, "steps": 0.0, "kept MB": 0.0}
    fitted = fit_named(objective, train, setting=setting, budget=budget, steps=steps, seed=seed)
    # some at random: in files, clips are often sorted by class
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:PROBE_ROWS]
    points = [fitted.embed(x) for x in (train.rows(rows), test)]
    if OBJECTIVES[objective].turned:
        cca = linear_cca(*fitted.embed(train), components=D)
        points = [(cca.project_audio(a), cca.project_visual(v)) for a, v in points]
    cost = {
        "ms a step": _ms(fitted),
        "steps": float(len(fitted.history)),
        "kept MB": _kept_bytes(fitted, train) / 2**20,
    }
    return describe(*points, train.rows(rows), test) | cost


def fit_named(
    objective: str,
    train: Features,
    *,
    setting: float | None = None,
    budget: Literal["steps", "time"] = "steps",
    steps: int = STEPS,
    seed: int = 0,
) -> Fitted:
    """Projectors trained by an objective of `OBJECTIVES`; arguments as in `measure`."""
    if objective not in OBJECTIVES:
        raise ValueError(f"no objective {objective!r}; there are {[*OBJECTIVES, LINEAR]}")
    if budget not in ("steps", "time"):
        raise ValueError(f'budget must be "steps" or "time", got {budget!r}')
    entry = OBJECTIVES[objective]
    if train.audio.ndim > 2 and objective not in LEADING:
        raise ValueError(f"whole encoders learn by {LEADING} here, got {objective!r}: take features instead of clips")
    setting = entry.values[1] if setting is None else setting
    by_row = replace(train, label=torch.arange(len(train)))

    def once(steps: int) -> Fitted:
        torch.manual_seed(seed)  # of what an objective learns
        built = entry.build(setting, Task(train, seed, steps))
        lr = setting if entry.setting == "lr" else LR
        return fit(by_row, built, D=D, steps=steps, batch=BATCH, lr=lr, unit=entry.unit, seed=seed)

    if budget == "time":
        steps = int(min(max(1000 * EQUAL_SECONDS / _ms(once(30)), 40), 4000))
    return once(steps)


def describe(
    train_points: Sequence[torch.Tensor], test_points: Sequence[torch.Tensor], train: Features, test: Features
) -> dict[str, float]:
    """What a space is good for: retrieval by instance and class, probes, and its shape, by the names of the metrics.

    Points are (audio, visual) of the clips to learn from (for the probes only) and of test clips. Retrieval is by
    cosine. The probe reads classes, and causes where they are known, from the sounds and pictures of a clip side by
    side. Shape is measured on sounds and pictures together, on the unit sphere; `effective rank` too.
    """
    audio, visual = (unit(x) for x in test_points)
    both, label = torch.cat([audio, visual]), torch.cat([test.label, test.label])
    same = test.label[:, None] == test.label
    found = {}
    for way, scores in (("audio to visual", audio @ visual.T), ("visual to audio", visual @ audio.T)):
        found |= {f"recall@{k}, {way}": recall_at_k(scores, k) for k in (1, 10)}
        found[f"class mAP, {way}"] = mean_average_precision(scores, same)
    for name in ("recall@1", "recall@10", "class mAP"):
        found[name] = (found[f"{name}, audio to visual"] + found[f"{name}, visual to audio"]) / 2
    side = [torch.cat([unit(a), unit(v)], 1) for a, v in (train_points, test_points)]
    found["probe"] = linear_probe(side[0], train.label, side[1], test.label, steps=60)
    for cause in ("size", "x"):
        if cause in train.causes:
            found[f"probe of {cause}"] = linear_probe_r2(side[0], train.causes[cause], side[1], test.causes[cause])
    return found | {
        "gap": heterogeneity_gap(audio, visual),
        "pair distance": pair_distance(audio, visual),
        "compactness": compactness(both, label),
        "separation": separation(both, label),
        "Fisher ratio": fisher_ratio(both, label),
        "uniformity": uniformity(both),
        "effective rank": effective_rank(both),
    }


def study(
    out: str | Path,
    *,
    objectives: Sequence[str] = (*OBJECTIVES, LINEAR),
    data: Sequence[str] = DATA,
    seeds: Sequence[int] = range(5),
    values: int = 3,
    budgets: Sequence[str] = ("steps", "time"),
    encoders: bool = False,
    jobs: int = 1,
    progress: bool = True,
) -> Study:
    """The grid: each objective, data set and seed, with 1 or 3 `values` of its setting; equal time at the usual one.

    `encoders`: and the `LEADING` objectives with whole encoders, at the usual setting, for equal steps.
    `out` ends in .csv or .csv.gz; the runs are kept beside it as .jsonl, so that a killed study goes on. `jobs`
    processes of one thread each. The version of the code is that of the losses, metrics, data, training and this file.
    """
    out, wanted = Path(out), []
    for name in objectives:
        usual = OBJECTIVES[name].values if name in OBJECTIVES else RIDGES
        chosen = usual if values == 3 else usual[1:2]
        wanted += grid(objective=[name], data=data, setting=[float(x) for x in chosen], budget=["steps"])
        if "time" in budgets and name != LINEAR:
            wanted += grid(objective=[name], data=data, setting=[float(usual[1])], budget=["time"])
        if encoders and name in LEADING:
            wanted += grid(objective=[name], data=[ENCODED], setting=[float(usual[1])], budget=["steps"])
    settings = {"seeds": seeds, "code": _sources(), "progress": progress}
    records = out.with_name(out.name.split(".")[0] + ".jsonl")
    if jobs == 1:
        found = run(measure, wanted, out=records, **settings)
    else:
        context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch's threads may hang
        with ProcessPoolExecutor(
            jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as executor:
            found = run(measure, wanted, out=records, executor=executor, **settings)
    found.save(out)
    return found


def stored(path: str | Path = TABLE) -> pd.DataFrame:
    """The table of the last full study, a row a run and metric; raises `FileNotFoundError`, saying how to make it."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is not there: python -m avlab.studies.objectives --profile full makes it")
    return pd.read_csv(path, dtype={"commit": str, "code": str, "key": str})


def _sources() -> list[Path]:
    """The files on which the numbers rest; world and media code count where features are made by them."""
    root = Path(avlab.__file__).parent
    parts = ["losses", "metrics", "world", "datasets", "studies"]
    singles = ["train.py", "audio.py", "video.py", "models/projector.py"]
    return [path for part in parts for path in sorted((root / part).rglob("*.py"))] + [root / name for name in singles]


def _ms(fitted: Fitted) -> float:
    """Median time of a step; the first ones warm up."""
    return float(1000 * fitted.history["seconds"].diff().iloc[5:].median())


def _kept_bytes(fitted: Fitted, train: Features) -> int:
    """Bytes of the distinct tensors that autograd keeps from the forward pass of one batch."""
    rows, seen = torch.arange(BATCH), {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        found = fitted.objective(fitted.audio(train.audio[rows]), fitted.visual(train.visual[rows]), rows)
        loss = found if isinstance(found, torch.Tensor) else found.loss
    weights = {p.untyped_storage().data_ptr() for m in (fitted.audio, fitted.visual) for p in m.parameters()}
    kept = sum(size for place, size in seen.items() if place not in weights)
    del loss
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of the study; prints what is needed to read its table."""
    parser = argparse.ArgumentParser(description="Every objective on the same encoders, data, budget and seeds.")
    parser.add_argument("--profile", choices=("quick", "full"), default="quick")
    parser.add_argument("--out", default="data/results/objectives.csv.gz")
    parser.add_argument("--data", nargs="*", help=f"some of {', '.join(DATA)}; without: all that are there")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args(arguments)
    quick = {"seeds": [0], "values": 1, "budgets": ["steps"], "data": given.data or ["world"]}
    here = DATA if os.environ.get("AVLAB_CLIPS") else [name for name in DATA if name in WORLDS]
    full = {"data": given.data or here, "encoders": not given.data}
    begun = time.perf_counter()
    found = study(given.out, jobs=given.jobs, **(quick if given.profile == "quick" else full))
    print(f"{found.made} runs made, {found.found} found, {len(found.failed)} failed", end=" ")
    print(f"in {time.perf_counter() - begun:.0f} s; table in {given.out}")
    for _, one in found.failed.iterrows():
        print(f"failed: {one.to_dict()}")


if __name__ == "__main__":
    from avlab.studies import objectives  # by its own name, which is part of a run's key

    objectives.main()

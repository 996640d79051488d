"""What the world teaches, and what it gives away: a dual encoder against cheats, both senses against one, XOR.

    python benchmarks/learning.py [match] [fusion] [xor] [--seeds 3] [--budget 120] [--clips 6144] [--device cpu]

`match` (level L2, all kinds): one dual encoder trained for `--budget` seconds (rendering not counted; the schedule is
cut to the steps that fit); recall among 128 (mean over groups of 128 test clips), within the true kind too; cIoU of
its heatmaps, 8x8 cells, with the pixels that show the sounding thing in at least half of the frames, thresholds chosen
on training clips; pointing at a pixel that shows it in any frame (strict: in half of them). The cheats of
`avlab.baselines` on the same clips. In brackets, what is no cheat, but shows where the signal is: the flickering light
hides the motion of the whole picture, and whoever takes it out finds more.
`fusion` (level L3): the kind of the louder of the seen sources by ear, by eye, and by late fusion.
`xor` (level L1, bars and strings, painted): the label that neither sense tells alone, learned jointly.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from avlab import baselines
from avlab.datasets.pairs import Pairs, Views, pairs_of, render
from avlab.datasets.stream import stream
from avlab.losses.contrastive import InfoNCELoss
from avlab.metrics.localization import choose_threshold, ciou, ciou_success, normalise_heat, pointing
from avlab.metrics.retrieval import recall_at_k
from avlab.models.localizer import DualEncoder, correlation_match
from avlab.train import train
from avlab.video import pool_grid
from avlab.world import World

B, GRID, GROUP = 64, 8, 128


def _training(clips: int) -> range:
    return range(100_000, 100_000 + clips)


class Sample:
    """Clips with what their truth says: `always` and `ever`, the pixels that show the sounding thing in at least half
    of the frames or in any; how many things there are; the exclusive or."""

    def __init__(self, world: World, indices: range) -> None:
        always, ever, things, self.xor, clips = [], [], [], [], []
        for clip in stream(world, indices):
            always.append(torch.from_numpy(clip.truth.masks[0].mean(axis=0) >= 0.5))
            ever.append(torch.from_numpy(clip.truth.masks[0].any(axis=0)))
            things.append(len(clip.truth.factors))
            self.xor.append(clip.truth.scene["xor"])
            clips.append(replace(clip, truth=None))
        self.always, self.ever, self.things = torch.stack(always), torch.stack(ever), torch.tensor(things)
        self.pairs = pairs_of(clips, world.kinds)


def rows(pairs: Pairs, which: torch.Tensor | slice, **changes: object) -> Pairs:
    """Some of the pairs."""
    tensors = {name: value[which] for name, value in vars(pairs).items() if isinstance(value, torch.Tensor)}
    return replace(pairs, **tensors | changes)


def steadied(pairs: Pairs) -> Pairs:
    """The same pairs with the motion of the whole picture in steady light: from the residual, which has none left."""
    change = pairs.residual[:, 3:].float().diff(dim=1).abs().mean(dim=(2, 3)) / 256  # (M, N - 1)
    around = (torch.cat([change[:, :1], change], dim=1) + torch.cat([change, change[:, -1:]], dim=1)) / 2
    return replace(pairs, motion=around[:, :, None, None])


def learn(pairs: Pairs, *, budget: float, seed: int, device: str) -> tuple[DualEncoder, int, float]:
    """A dual encoder trained with InfoNCE for as many steps as fit in the budget; also the steps and seconds."""
    torch.manual_seed(seed)
    frames = pairs.residual.shape[1] - 3

    def learner() -> nn.ModuleDict:
        encoder = DualEncoder(frames=frames).to(device, memory_format=torch.channels_last)
        return nn.ModuleDict({"encoder": encoder, "loss": InfoNCELoss(0.1).to(device)})

    def loss_of(model: nn.ModuleDict, views: Views) -> tuple[torch.Tensor, dict]:
        audio, places = model["encoder"](views.spectrogram, views.residual)
        return model["loss"].from_scores(model["encoder"].scores(audio.float(), places.float())).loss, {}

    def run(model: nn.ModuleDict, steps: int) -> float:
        begun = time.perf_counter()
        batches = pairs.batches(B, seed=seed, device=device, mirror=True)
        train(model, loss_of, batches, steps=steps, lr=2e-3, weight_decay=0.02, seed=seed, progress=False)
        return time.perf_counter() - begun

    run(learner(), 5)
    steps = max(20, int(0.95 * budget / (run(learner(), 20) / 20)))
    model = learner()
    return model["encoder"], steps, run(model, steps)


def embed(encoder: DualEncoder, pairs: Pairs, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Sounds (M, D) and places (M, D, h, w), on the host."""
    with torch.no_grad():
        chunks = torch.arange(len(pairs)).split(64)
        parts = [encoder(*pairs.views(some, device=device)[:2]) for some in chunks]
    return tuple(torch.cat(column).float().cpu() for column in zip(*parts, strict=True))


def match(seed: int, budget: float, clips: int, device: str) -> dict[str, float]:
    """Level L2: recall and localization of the dual encoder and of the cheats, in per cent."""
    world, out = World(level="L2", seed=seed), {}
    learned = render(world, _training(clips), progress=False)
    known, test = Sample(world, _training(clips)[:256]), Sample(world, range(max(1, clips // 6 // GROUP) * GROUP))
    encoder, out["steps"], out["training, s"] = learn(learned, budget=budget, seed=seed, device=device)
    audio, places = embed(encoder, test.pairs, device)
    tables: dict[str, list] = defaultdict(list)
    for at in range(0, len(audio), GROUP):
        part = slice(at, at + GROUP)
        few = rows(test.pairs, part)
        scores = encoder.scores(audio[part], places[part])
        same = few.label[:, None] == few.label[None]
        tables["recall within kind@1"].append(100 * recall_at_k(scores.masked_fill(~same, -9), 1))
        for name, table in {
            "recall": scores, "envelope": baselines.envelope_match(few),
            "onset envelope": baselines.envelope_match(few, onsets=True), "loudness": baselines.loudness_match(few),
            "linear CCA": baselines.cca_match(learned, few),
            "shuffled": baselines.shuffled(scores, torch.Generator().manual_seed(at)),
            "(envelope, light taken out)": baselines.envelope_match(steadied(few)),
            "(best place, untrained)": correlation_match(few.loudness, few.motion),
        }.items():  # fmt: skip
            for k in (1, 10):
                tables[f"{name}@{k}"].append(100 * recall_at_k(table, k))
    out |= {name: float(np.mean(values)) for name, values in tables.items()}
    ours, theirs = (embed(encoder, sample.pairs, device) for sample in (known, test))
    maps = {
        "learned": [normalise_heat(torch.einsum("bd,bdhw->bhw", *views)) for views in (ours, theirs)],
        "motion": [baselines.motion_saliency(pool_grid(s.pairs.motion, GRID)) for s in (known, test)],
        "centre": [baselines.centre_prior(len(s.always), GRID) for s in (known, test)],
    }
    for name, (before, heat) in maps.items():
        overlaps = ciou(heat, test.always, threshold=choose_threshold(before, known.always))
        out[f"cIoU@0.5, {name}"] = 100 * ciou_success(overlaps)
        out[f"cIoU@0.5, {name}, two distractors"] = 100 * ciou_success(overlaps[test.things == 3])
        out[f"pointing, {name}"] = 100 * float(pointing(heat, test.ever).float().mean())
        out[f"pointing, strict, {name}"] = 100 * float(pointing(heat, test.always).float().mean())
    for name, features in (("colour", baselines.colour_features), ("background", baselines.background_features)):
        right = baselines.probe_accuracy(*(x for p in (learned, test.pairs) for x in (features(p), p.label)))
        out[f"kind from {name}"] = 100 * right
    out["kind, chance"] = 100 * float(test.pairs.label.bincount().max()) / len(test.pairs)
    return out


def fusion(seed: int, budget: float, clips: int, device: str) -> dict[str, float]:
    """Level L3: the kind of the louder of the seen sources, by ear, by eye, by late fusion, in per cent."""
    world = World(level="L3", seed=seed)
    learned, test = (render(world, r, progress=False) for r in (_training(clips), range(clips // 6)))
    steps = int(4 * budget)
    how = {"steps": steps, "seed": seed, "device": device, "progress": False}
    said = {sense: baselines.classify(learned, test, sense=sense, **how) for sense in ("audio", "sight")}
    said["late fusion"] = baselines.late_fusion(said["audio"], said["sight"])
    out = {name: 100 * float((logits.argmax(dim=1) == test.label).float().mean()) for name, logits in said.items()}
    for name, features in (("audio", baselines.audio_features), ("sight", baselines.picture_features)):
        right = baselines.probe_accuracy(features(learned), learned.label, features(test), test.label)
        out[f"{name}, linear probe"] = 100 * right
    return out | {"gain over the better": out["late fusion"] - max(out["audio"], out["sight"])}


def xor(seed: int, budget: float, clips: int, device: str) -> dict[str, float]:
    """Level L1, kinds that ring or do not: painted things that ring XOR lean right, by ear, by eye, and by both."""
    world = World(level="L1", seed=seed, kinds=["bar", "string"])
    parts = []
    for indices in (_training(2 * clips), range(2 * clips // 5)):
        sample = Sample(world, indices)
        which = torch.tensor([i for i, bit in enumerate(sample.xor) if bit is not None])
        label = torch.tensor([int(sample.xor[i]) for i in which.tolist()])
        parts.append(rows(sample.pairs, which, label=label, kinds=("same", "different")))
    out = {"clips": len(parts[0])}
    how = {"steps": int(4 * budget), "seed": seed, "device": device, "mirror": False, "progress": False}
    for sense in ("audio", "sight", "both"):
        said = baselines.classify(*parts, sense=sense, **how)
        out[sense] = 100 * float((said.argmax(dim=1) == parts[1].label).float().mean())
    return out


def main() -> None:
    """Print a table a part: a column a seed, and the mean."""
    studies = {"match": match, "fusion": fusion, "xor": xor}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=[], metavar="study", help=f"of {', '.join(studies)}; default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of training; classifiers scale with it")
    parser.add_argument("--clips", type=int, default=6144, help="to learn from; a sixth as many to test on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    for name in set(chosen.studies) - set(studies):
        parser.error(f"{name} is not one of {', '.join(studies)}")
    for name in chosen.studies or studies:
        found = [studies[name](seed, chosen.budget, chosen.clips, chosen.device) for seed in range(chosen.seeds)]
        print(f"\n{name}{'':31s}" + "".join(f"{f'seed {s}':>10s}" for s in range(chosen.seeds)) + f"{'mean':>10s}")
        for row in found[0]:
            values = [result[row] for result in found]
            print(f"{row:36s}" + "".join(f"{v:10.1f}" for v in [*values, float(np.mean(values))]), flush=True)


if __name__ == "__main__":
    main()

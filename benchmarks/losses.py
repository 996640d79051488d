"""Losses over long batches, in tiles against whole tables; and the time of a step against pytorch-metric-learning.

    python benchmarks/losses.py [tiles library growth long chunks processes] [--threads 2] [--repeats 9] [--out PNG]

- tiles: `tiled_info_nce` against two cross-entropies of one table of cosines, at B = 2048 and 8192, D = 256. The aims:
  1.1 and 0.8 of its time, at 8192 an eighth of its memory (0.12).
- library: forward and backward of each loss that pytorch-metric-learning has too, B = 512, D = 128. The aim: 1.5 times
  as fast. Values must agree before they are timed.
- growth: time and memory against B, as a table and, with --out, a figure.
- long: one step at B = 65,536, where the table alone would take 17 GB. The aim: below 4 GB.
- chunks: `cached_step`, an encoder's batch in chunks against all at once. processes: `gathered` over two of them.

Both sides run in turns in the same process, so that a busy moment hits both; ratios are steadier than times. Where
others compute on the same machine, two threads wait for each other at every call, and many small calls look slower than
few large ones: --busy takes one thread and counts its processor time instead of the clock's. Memory is the peak of a
process that takes one step, over what it held before, with its inputs and after a small step (Linux).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from avlab.losses.bags import sup_con
from avlab.losses.contrastive import info_nce
from avlab.losses.gathered import cached_step, gathered
from avlab.losses.margin import hinge, masked_margin_softmax
from avlab.losses.pairwise import contrastive_loss
from avlab.losses.redundancy import vicreg
from avlab.losses.similarity import unit
from avlab.losses.tiled import tiled_info_nce, tiled_margin_softmax
from avlab.losses.triplet import lifted_structure, n_pair, triplet

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
D, TAU = 256, 0.07
CLOCK = time.process_time if "--busy" in sys.argv else time.perf_counter


def two_cross_entropies(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    """InfoNCE as it is usually written."""
    logits = (unit(audio) / TAU) @ unit(visual).T
    partner = torch.arange(len(logits))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def in_tiles(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    return tiled_info_nce(audio, visual, temperature=TAU).loss


def margin_in_tiles(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    return tiled_margin_softmax(audio, visual, scale=1 / TAU).loss


def margin_in_a_table(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    return masked_margin_softmax(audio, visual, scale=1 / TAU).loss


WAYS: dict[str, Loss] = {
    "two cross-entropies": two_cross_entropies,
    "tiled_info_nce": in_tiles,
    "masked_margin_softmax": margin_in_a_table,
    "tiled_margin_softmax": margin_in_tiles,
}


def embeddings(B: int, D: int) -> list[torch.Tensor]:
    """Sounds and pictures (B, D), half of each shared."""
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(B, D, generator=g)
    return [(shared + torch.randn(B, D, generator=g)).requires_grad_() for _ in range(2)]


def step(loss: Loss, inputs: list[torch.Tensor]) -> tuple[float, float]:
    """Seconds of forward and backward, and the value."""
    for x in inputs:
        x.grad = None
    start = CLOCK()
    value = loss(*inputs)
    value.backward()
    return CLOCK() - start, value.item()


def in_turns(ways: dict[str, Loss], inputs: list[torch.Tensor], repeats: int) -> dict[str, float]:
    """Median seconds of each way, after one step that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            taken, _ = step(way, inputs)
            if turn:
                seconds[name].append(taken)
    return {name: statistics.median(times) for name, times in seconds.items()}


def resident(peak: bool) -> float:
    """MB of this process, now or at its peak. Not `getrusage`: there a child starts with the peak of its parent."""
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def memory(act: Callable[[], object]) -> tuple[float, float]:
    """MB that `act` needed at its peak beyond what was held before, and its seconds."""
    before = resident(peak=False)
    start = CLOCK()
    act()
    return resident(peak=True) - before, CLOCK() - start


def apart(*arguments: object, threads: int) -> list[float]:
    """What this file prints as --measure in a process of its own."""
    busy = ["--busy"] if CLOCK is time.process_time else []
    command = [sys.executable, __file__, "--threads", str(threads), *busy, "--measure", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(what: str, size: int) -> tuple[float, float]:
    """One step of a way of `WAYS` at batch `size`, or of an encoder in `size` chunks: MB and seconds."""
    if what == "chunks":
        towers, chunks = encoders(), clips()
        act = lambda: chunked(towers, chunks, size)  # noqa: E731
        chunked(towers, [x[:64] for x in chunks], 2)
    else:
        inputs = embeddings(size, D)
        act = lambda: step(WAYS[what], inputs)  # noqa: E731
        step(WAYS[what], embeddings(512, D))
    return memory(act)


def tiles(options: argparse.Namespace) -> None:
    print(f"\nD = {D}, forward and backward, {options.threads} threads")
    print(f"{'':9}{'':24}{'ms':>8}{'ratio':>8}{'aim':>6}{'MB':>8}{'ratio':>8}{'aim':>6}")
    aims = {(2048, "time"): "1.1", (8192, "time"): "0.8", (8192, "memory"): "0.12"}
    for B, repeats in ((2048, options.repeats), (8192, max(3, options.repeats // 3))):
        inputs = embeddings(B, D)
        values = {name: step(way, inputs)[1] for name, way in WAYS.items()}
        assert abs(values["tiled_info_nce"] - values["two cross-entropies"]) < 1e-5, values
        assert abs(values["tiled_margin_softmax"] - values["masked_margin_softmax"]) < 2e-5, values
        seconds = in_turns(WAYS, inputs, repeats)
        megabytes = {name: apart(name, B, threads=options.threads)[0] for name in WAYS}
        for name in WAYS:
            against = "masked_margin_softmax" if "margin" in name else "two cross-entropies"
            mb, time_aim, memory_aim = megabytes[name], "", ""
            if name == "tiled_info_nce":
                time_aim, memory_aim = aims.get((B, "time"), ""), aims.get((B, "memory"), "")
            print(f"B = {B:<5}{name:24}{1000 * seconds[name]:8.0f}{seconds[name] / seconds[against]:8.2f}{time_aim:>6}"
                  f"{mb:8.0f}{mb / megabytes[against]:8.2f}{memory_aim:>6}", flush=True)  # fmt: skip


def library(options: argparse.Namespace) -> None:
    from pytorch_metric_learning import distances, losses, miners, reducers

    class Squares(reducers.MeanReducer):
        """Hadsell's squares, which the library leaves out."""

        def pos_pair_reduction(self, losses: torch.Tensor, *_: object) -> torch.Tensor:
            return losses.square().mean()

        neg_pair_reduction = pos_pair_reduction

    B, width = 512, 128
    own, kind = torch.arange(B), torch.arange(B) % 64
    mean, squared = reducers.MeanReducer(), distances.LpDistance(power=2)
    by_cosine = losses.TripletMarginLoss(margin=0.3, distance=distances.CosineSimilarity(), reducer=mean)
    by_distance = losses.TripletMarginLoss(margin=0.4, distance=squared, reducer=mean)
    lifted = losses.LiftedStructureLoss(neg_margin=1, pos_margin=0, reducer=mean)
    euclidean = distances.LpDistance(normalize_embeddings=False)
    pairs = {
        "cosine": losses.ContrastiveLoss(1, 0, distance=distances.CosineSimilarity(), reducer=Squares()),
        "euclidean": losses.ContrastiveLoss(0, 1, distance=euclidean, reducer=Squares()),
    }
    n_pairs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
    few = torch.arange(128)  # of lifted_structure: the library makes a table of all positives and all negatives
    a, n = (few[:, None] != few).nonzero(as_tuple=True)
    across = few, 128 + few, torch.cat([a, 128 + n]), torch.cat([128 + n, a])

    def both_ways(loss: Callable[..., torch.Tensor], label: torch.Tensor) -> Loss:
        return lambda x, y: sum(loss(i, label, ref_emb=j, ref_labels=label.clone()) for i, j in ((x, y), (y, x))) / 2

    def mined(strategy: str) -> Loss:
        miner = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy=strategy, distance=squared)

        def one_way(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return by_distance(x, own, miner(x, own, y, own.clone()), y, own.clone())

        return lambda x, y: (one_way(x, y) + one_way(y, x)) / 2

    def ours(mining: str) -> Loss:
        return lambda x, y: triplet(x, y, margin=0.4, mining=mining).loss

    def terms(distance: Literal["cosine", "euclidean"]) -> tuple[Loss, Loss]:
        def mine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            found = contrastive_loss(short * x, short * y, label=kind, distance=distance)
            return found.attract + found.repel

        return mine, lambda x, y: pairs[distance](short * x, kind, ref_emb=short * y, ref_labels=kind.clone())

    short = 0.2  # n_pair and contrastive_loss take vectors as they are
    cases: dict[str, tuple[Loss, Loss]] = {
        "info_nce": (lambda x, y: info_nce(x, y).loss, both_ways(losses.NTXentLoss(0.07), own)),
        "sup_con": (lambda x, y: sup_con(x, y, label=kind).loss, both_ways(losses.SupConLoss(0.07), kind)),
        "contrastive, cosine": terms("cosine"),
        "contrastive, Euclidean": terms("euclidean"),
        "hinge": (lambda x, y: hinge(x, y, margin=0.3, negatives="mean").loss / 2, both_ways(by_cosine, own)),
        "triplet, all": (ours("all"), both_ways(by_distance, own)),
        "triplet, semi-hard": (ours("semi-hard"), mined("semihard")),
        "triplet, hardest": (ours("hardest"), mined("hard")),
        "lifted_structure, 128": (
            lambda x, y: lifted_structure(x[:128], y[:128]).loss,
            lambda x, y: lifted(torch.cat([x[:128], y[:128]]), torch.cat([few, few]), across),
        ),
        "n_pair": (
            lambda x, y: n_pair(short * x, short * y, penalty=0.0).loss,
            lambda x, y: sum(n_pairs(short * torch.cat(way), torch.cat([own, own])) for way in ((x, y), (y, x))) / 2,
        ),
        "vicreg": (lambda x, y: vicreg(x, y).loss, lambda x, y: losses.VICRegLoss()(x, ref_emb=y)),
    }
    inputs = embeddings(B, width)
    print(f"\nB = {B}, D = {width}, {options.threads} threads, forward and backward, both directions; aim: 1.5")
    print(f"{'':24}{'ms':>9}{'library':>9}{'ratio':>8}{'difference':>12}")
    for name, (mine, theirs) in cases.items():
        values = [step(way, inputs)[1] for way in (mine, theirs)]
        assert abs(values[0] - values[1]) < 1e-4 * max(1.0, abs(values[1])), (name, values)
        seconds = in_turns({"mine": mine, "theirs": theirs}, inputs, options.repeats)
        ratio = seconds["theirs"] / seconds["mine"]
        print(f"{name:24}{1000 * seconds['mine']:9.1f}{1000 * seconds['theirs']:9.1f}{ratio:8.1f}"
              f"{abs(values[0] - values[1]):12.1e}")  # fmt: skip


def growth(options: argparse.Namespace) -> None:
    sizes = [2**n for n in range(10, 15)]
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in ("two cross-entropies", "tiled_info_nce")}
    print(f"\nD = {D}, one step in a process of its own\n{'B':>6}", *(f"{name:>30}" for name in found))
    for B in sizes:
        for name, line in found.items():
            if name == "tiled_info_nce" or B <= 8192:
                line[B] = tuple(apart(name, B, threads=options.threads))
        print(
            f"{B:6}",
            *(f"{line[B][0]:14.0f} MB {line[B][1]:10.3f} s" if B in line else " " * 30 for line in found.values()),
        )
    if options.out is None:
        return
    from avlab.show.style import CHANCE, SIGHT, in_style

    def draw() -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, place, unit_name in zip(panels, (0, 1), ("memory of a step, MB", "time of a step, s"), strict=True):
            for (name, line), colour in zip(found.items(), (CHANCE, SIGHT), strict=True):
                panel.plot(list(line), [x[place] for x in line.values()], "o-", color=colour)
                last = max(line)
                panel.annotate(name, (last, line[last][place]), (-6, 6), textcoords="offset points", ha="right",
                               color=colour)  # fmt: skip
            panel.set(xscale="log", yscale="log", xlabel="batch size B", ylabel=unit_name)
            panel.set_xticks(sizes, [f"{B:,}" for B in sizes])
            panel.yaxis.set_major_formatter("{x:g}")
            panel.margins(y=0.15)
            panel.minorticks_off()
        mb = [line[8192][0] for line in found.values()]
        seconds = [line[8192][1] for line in found.values()]
        panels[0].set_title(f"Memory at B = 8,192: {mb[0] / mb[1]:.0f} times less in tiles")
        panels[1].set_title(f"and time: {seconds[0] / seconds[1]:.1f} times less")
        figure.savefig(options.out, dpi=110)

    with in_style():
        draw()
    print(f"drawn to {options.out}")


def long(options: argparse.Namespace) -> None:
    mb, seconds = apart("tiled_info_nce", 65536, threads=options.threads)
    print(
        f"\nB = 65,536, D = {D}: one step of tiled_info_nce takes {mb:.0f} MB and {seconds:.0f} s (aim: below 4096 MB)"
    )


def encoders() -> list[nn.Module]:
    """Convolutions over spectrograms (64, 96), one for each sense, whose activations far outweigh their parameters."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
    heads = [nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 64)) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    return heads


def clips(B: int = 1024) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(B, 1, 64, 96, generator=g) for _ in range(2)]


def chunked(towers: list[nn.Module], batch: list[torch.Tensor], chunks: int) -> torch.Tensor:
    """Gradients of a batch, all at once or in chunks; returns the loss."""
    for tower in towers:
        tower.zero_grad()
    if chunks == 1:
        loss = info_nce(*(tower(x) for tower, x in zip(towers, batch, strict=True))).loss
        loss.backward()
        return loss.detach()
    return cached_step(*towers, *(x.chunk(chunks) for x in batch), lambda a, v: info_nce(a, v).loss).loss


def chunks(options: argparse.Namespace) -> None:
    batch, towers = clips(), encoders()
    losses, gradients = [], []
    for count in (1, 16):
        losses.append(chunked(towers, batch, count))
        gradients.append(torch.cat([p.grad.flatten() for tower in towers for p in tower.parameters()]))
    apartness = ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item()
    print(f"\nInfoNCE of {len(batch[0])} clips through small convolutions; 16 chunks: gradient {apartness:.0e} apart")
    assert abs(losses[1] - losses[0]) < 1e-5
    assert apartness < 1e-4
    base = None
    for count in (1, 4, 16):
        mb, seconds = apart("chunks", count, threads=options.threads)
        base = base or (mb, seconds)
        print(f"{count:4} chunks{mb:8.0f} MB ({mb / base[0]:.2f}){seconds:8.2f} s ({seconds / base[1]:.2f})")


def one_of_two(rank: int, folder: str, B: int, repeats: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    inputs = [x.detach().chunk(2)[rank].clone().requires_grad_() for x in embeddings(B, D)]
    ways = {
        "alone": in_tiles,
        "gathered": lambda a, v: in_tiles(gathered(a), gathered(v)),
        "gathering": lambda a, v: gathered(a).sum() + gathered(v).sum(),
    }
    seconds = in_turns(ways, inputs, repeats)
    _, value = step(ways["gathered"], inputs)
    if rank == 0:
        whole = step(in_tiles, embeddings(B, D))[1]
        print(f"\ntwo processes of {B // 2} clips: gathering and the way back {1000 * seconds['gathering']:.0f}"
              f" ms, with the loss of all {1000 * seconds['gathered']:.0f} ms, of own clips alone"
              f" {1000 * seconds['alone']:.0f} ms;\nthe loss of all differs from that of one process by"
              f" {abs(value - whole):.0e}")  # fmt: skip
        assert abs(value - whole) < 1e-5
    dist.barrier()
    dist.destroy_process_group()


def processes(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(one_of_two, (folder, 4096, max(3, options.repeats // 3)), nprocs=2)


PARTS = {part.__name__: part for part in (tiles, library, growth, long, chunks, processes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--busy", action="store_true", help="one thread, its processor time")
    parser.add_argument("--out", type=Path, help="where to draw the growth")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.threads = 1 if options.busy else options.threads
    torch.set_num_threads(options.threads)
    if options.measure:
        print(json.dumps(measure(options.measure[0], int(options.measure[1]))))
        return
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    main()

"""Streams and blocks: every byte and type comes through, order, errors, and processes that end when they should."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from avlab.clip import Clip, Truth
from avlab.datasets.stream import AHEAD, START, pack, packed, stream, unpack
from avlab.world import LEVELS, World

WORLD = World(level="L2", size=33, seconds=1.0, fps=7, seed=2, kinds=("bar", "bird", "drum"))


def same(a: Any, b: Any) -> bool:
    """Equal in every type, value and byte, through records, lists, tuples and dicts."""
    if type(a) is not type(b):
        return False
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return repr(a) == repr(b)


def full() -> Clip:
    """A clip that knows something in every field, and nothing twice."""
    rng = np.random.default_rng(3)
    O, N, H, W, C, L = 3, 5, 7, 11, 2, 1013

    def sound(*shape: int) -> np.ndarray:
        return (rng.integers(-(2**15), 2**15, shape) / 2**15).astype(np.float32)

    truth = Truth(
        masks=rng.random((O, N, H, W)) < 0.5, moving=rng.random((O, N, H, W)) < 0.2, boxes=rng.random((O, N, 4)),
        sounding=rng.random((O, N)) < 0.5, stems=sound(O, C, L), dry=sound(O, L), offscreen=sound(C, L),
        azimuth=rng.random((O, N), np.float32), flow=np.float32(rng.integers(-999, 999, (N, H, W, 2)) / 128),
        onsets=[(0.1, 1 / 3, 0), (float("inf"), 2.0, 2)], factors=[{"colour": (1, 2, 3), "f0": 0.1}, {}, {"f0": None}],
        scene={"room": {"side": 2.5, "lags": [(1, 2), [3, (4,)]]}, "": (), "path": np.arange(3)},
        notes=[(0.0, 0.5, 60.25, 1)], captions=['a "bar" \N{MUSICAL SYMBOL G CLEF}', ""], phones=[(0.0, 0.1, "ɑ")],
        words=[(0.0, 0.2, "ja")], lag=-0.25, corresponds=False,
    )  # fmt: skip
    frames = rng.integers(0, 255, (N, H, W, 3), np.uint8)
    return Clip(frames, sound(C, L), 7.5, 8000, "bar", "a bar", "here", 1.5, truth)


def test_no_field_is_lost():
    clip = full()
    empty = Truth()
    for f in fields(Truth):  # a new field has to be given a value in `full`
        assert not same(getattr(clip.truth, f.name), getattr(empty, f.name)), f"full() does not fill {f.name}"
    plain = Clip(clip.frames, clip.waveform, 1.0, 1)
    for f in fields(Clip)[2:]:
        assert not same(getattr(clip, f.name), getattr(plain, f.name)), f"full() does not fill {f.name}"
    again = unpack(pack(clip))
    assert same(again, clip)
    assert same(unpack(pack(plain)), plain)  # None stays None
    for name in ("frames", "waveform"):
        assert getattr(again, name).flags.writeable


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("split", ["iid", "compositional", "extrapolation", "counterfactual"])
def test_clips_of_every_world_come_through(level, split):
    world = World(level=level, split=split, size=17, seconds=0.9, fps=7)
    for i in range(4):
        assert same(unpack(pack(world.clip(i))), world.clip(i))


@pytest.mark.parametrize("level", LEVELS)
def test_sound_and_flow_of_a_world_take_16_bits_a_value_or_less(level):
    for i in range(3):
        clip = World(level=level, size=17, seconds=0.9, fps=7).clip(i)
        truth = clip.truth
        values = [clip.waveform, truth.stems, truth.dry, truth.flow, truth.offscreen]
        others = clip.frames.nbytes + truth.boxes.nbytes + (truth.masks.size + truth.moving.size) // 8
        assert pack(clip).nbytes < sum(2 * value.size for value in values if value is not None) + others + 8000


def test_what_lies_off_the_grid_is_kept_as_it_is():
    clip = full()
    for odd in (1.0, -0.0, np.nan, np.inf, -1.25, 1e-9, 1 / 3, 2**-16):
        waveform = clip.waveform.copy()
        waveform[1, 7] = odd
        assert same(unpack(pack(replace(clip, waveform=waveform))).waveform, waveform)
    small = pack(clip).nbytes
    assert pack(replace(clip, waveform=waveform)).nbytes - small == pytest.approx(2 * waveform.size, abs=2 * 64 + 64)


def test_zeros_and_bits_take_next_to_nothing():
    clip = full()
    silent = replace(clip, truth=replace(clip.truth, stems=np.zeros((3, 2, 64000), np.float32)))
    assert pack(silent).nbytes < pack(clip).nbytes
    masks = np.ones((3, 5, 70, 110), bool)
    grown = pack(replace(clip, truth=replace(clip.truth, masks=masks))).nbytes - pack(clip).nbytes
    assert grown == pytest.approx((masks.size - clip.truth.masks.size) / 8, abs=16)


def test_arrays_of_any_form():
    clip = full()
    arrays = {
        "stems": np.zeros((0, 2, 1013), np.float32), "flow": np.full((2, 3, 5, 2), 0.5, np.float32)[:, ::2],
        "masks": np.ones((3, 7, 5), bool).T, "boxes": np.arange(6.0).reshape(2, 3)[:, ::-1], "dry": np.ones(3),
    }  # fmt: skip
    truth = Truth(**arrays, scene={"a": np.array(3.5), "b": np.arange(3, dtype=">i4"), "c": np.array([1 + 2j])})
    again = unpack(pack(replace(clip, truth=truth)))
    assert same(again.truth, truth)


class Pair(NamedTuple):
    """No plain tuple: JSON would make a list of it."""

    a: int
    b: int


@pytest.mark.parametrize(
    "value", [np.float64(1), np.float32(1), np.bool_(1), {1}, b"x", Pair(1, 2), {1: 2}, {"!tuple": 1}, {"a": object()}]
)
def test_what_cannot_be_packed_is_named(value):
    clip = full()
    clip.truth.scene = {"deep": [{"odd": value}]}
    with pytest.raises(TypeError, match=r"^scene\['deep'\]\['odd'\].* cannot be packed"):
        pack(clip)
    clip.truth = Truth(boxes=np.array([None, "a"]))
    with pytest.raises(TypeError, match=r"^boxes holds .*object"):
        pack(clip)


def test_stream_is_the_clips_of_the_world_in_any_order():
    order = [4, 0, 4, np.int64(7)]
    for clip, i in zip(stream(WORLD, order, workers=0), order, strict=True):
        assert same(clip, WORLD.clip(int(i)))
    (bare,) = stream(WORLD, iter([5]), workers=0, truth=False)
    assert same(bare, replace(WORLD.clip(5), truth=None))
    assert list(stream(WORLD, [], workers=0)) == []
    assert [c.source[-1] for c in itertools.islice(stream(WORLD, itertools.count(), workers=0), 3)] == ["0", "1", "2"]


def test_progress_goes_to_standard_output(capsys):
    list(stream(WORLD, [1, 2], workers=0))
    assert capsys.readouterr() == ("", "")
    list(stream(WORLD, [1, 2], workers=0, progress=True))
    out, err = capsys.readouterr()
    assert "rendering" in out
    assert "/2 " in out
    assert err == ""


def test_workers_below_zero():
    with pytest.raises(ValueError, match=r"workers=-1 must be 0 .* or more"):
        stream(WORLD, [0], workers=-1)


class OddError(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, a: int, b: int):
        super().__init__("odd")


@dataclass(frozen=True)
class Fake:
    """A world of one-pixel clips, one of which is ill."""

    ill: int = -1
    how: str = ""

    def clip(self, i: int) -> Clip:
        """A clip that holds its index and says in what kind of process it was made."""
        if i == self.ill and self.how == "raise":
            raise KeyError("no such thing")
        if i == self.ill and self.how == "end":
            raise EOFError("a file that ends too soon")
        if i == self.ill and self.how == "odd":
            raise OddError(1, 2)
        if i == self.ill and self.how == "die":
            os._exit(3)
        if self.how == "print":
            print("a line")
            os.write(1, b"another line\n")
        said = f"{'torch' in sys.modules} {os.environ.get('OMP_NUM_THREADS')} {os.getpid()}"
        return Clip(np.full((1, 1, 1, 3), i % 256, np.uint8), np.zeros((1, 1), np.float32), 1.0, 8000, said)


def test_an_error_here_names_its_clip():
    clips = stream(Fake(2, "raise"), range(5), workers=0)
    assert [next(clips).frames.max() for _ in range(2)] == [0, 1]
    with pytest.raises(KeyError, match="no such thing") as caught:
        next(clips)
    assert "while rendering clip 2 of Fake(ill=2" in caught.value.__notes__[0]


def helpers() -> list[psutil.Process]:
    """The rendering processes that this one started and that run."""
    children = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in children if START in p.cmdline()]


@pytest.mark.slow
def test_the_same_bytes_from_any_number_of_workers_in_any_order():
    here = [pack(WORLD.clip(i)).tobytes() for i in range(25)]
    for workers, order in ((1, range(25)), (4, [*range(24, -1, -1), 3, 3])):
        blocks = [block.tobytes() for block in packed(WORLD, order, workers=workers)]
        assert blocks == [here[i] for i in order]
    assert not helpers()


@pytest.mark.slow
def test_workers_have_one_thread_each_no_torch_and_may_print():
    clips = list(stream(Fake(how="print"), range(40), workers=2, progress=True))
    assert [c.frames.max() for c in clips] == list(range(40))
    torch, threads, numbers = zip(*(c.label.split() for c in clips), strict=True)
    assert set(torch) == {"False"}
    assert set(threads) == {"1"}
    assert str(os.getpid()) not in numbers


@pytest.mark.slow
def test_nothing_is_rendered_far_ahead_and_a_stream_left_early_ends_its_workers():
    asked: list[int] = []

    def endless() -> Iterator[int]:
        for i in itertools.count():
            asked.append(i)
            yield i

    before = len(helpers())
    for clip in stream(Fake(), endless(), workers=2):
        time.sleep(0.1)  # time enough to run ahead
        assert len(asked) <= clip.frames.max() + 1 + 2 * AHEAD
        assert len(helpers()) == before + 2
        if clip.frames.max() == 3:
            break
    del clip
    assert len(helpers()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "message", "note"),
    [
        ("raise", KeyError, "no such thing", "in a rendering process:\nTraceback"),
        ("end", EOFError, "a file that ends too soon", "EOFError"),
        ("odd", RuntimeError, "OddError: odd", "test_stream.OddError"),
    ],
)
def test_an_error_in_a_worker_is_raised_at_its_place(how, kind, message, note):
    clips = stream(Fake(9, how), range(30), workers=2)
    assert [next(clips).frames.max() for _ in range(9)] == list(range(9))
    with pytest.raises(kind, match=message) as caught:
        next(clips)
    notes = "\n".join(caught.value.__notes__)
    assert "while rendering clip 9 of Fake" in notes
    assert note in notes
    assert next(clips, None) is None
    assert not helpers()


@pytest.mark.slow
def test_a_worker_that_dies_is_missed():
    clips = stream(Fake(9, "die"), itertools.count(), workers=2)
    with pytest.raises(RuntimeError, match=r"a rendering process ended with code 3 before clip [13579] came"):
        for _ in clips:
            pass
    assert not helpers()


SCRIPT = """
import itertools, signal, sys, time
import psutil
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background is started deaf to it
from avlab.datasets.stream import START, stream
from avlab.world import World
clips = stream(World(level="L0", size=16, kinds=("bird",)), itertools.count(), workers=2)  # no __main__ to guard
next(clips)
print(*[p.pid for p in psutil.Process().children()], flush=True)
for clip in clips:
    {doing}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "doing"), [(signal.SIGKILL, "pass"), (signal.SIGKILL, "time.sleep(60)"), (signal.SIGINT, "pass")]
)
def test_workers_end_with_the_process_that_reads(how, doing):
    script = SCRIPT.format(doing=doing)
    reader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = [psutil.Process(int(number)) for number in reader.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.2)
    reader.send_signal(how)
    try:
        _, err = reader.communicate(timeout=20)
    finally:  # one that does not end would take both cores from all later tests
        reader.kill()  # its workers end with it
    assert reader.returncode == -how
    assert err.count("Traceback") == (how == signal.SIGINT)  # the workers say nothing
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)

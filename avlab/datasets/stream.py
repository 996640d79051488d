"""Clips of a world in their order, rendered by worker processes while they are read; and a clip as one block of bytes.

A worker is a fresh interpreter of one thread that never loads torch. What it sends is a *block* (`pack`), from which
`unpack` makes the clip again, equal in every byte; the cache on disk (`datasets.cache`) keeps the same blocks.

A block is the length of a text, the text (JSON) and the bytes of the arrays. Yes and no takes one bit; sound and flow,
which the world rounds to the steps named in `STEPS`, take 16-bit integers, and runs of zeros (silence, stillness)
nothing. That makes the way between processes short.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from dataclasses import fields, replace
from itertools import cycle, islice
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from avlab.clip import Clip, Truth
from avlab.world import World, sounds
from avlab.world.drawing import FLOW_STEP

STEPS = dict.fromkeys(("waveform", "stems", "dry", "offscreen"), sounds.STEP) | {"flow": FLOW_STEP}
RUN = 64  # values: a run that is all zero is left out of a block
AHEAD = 8  # clips a worker may be ahead of the reader
RECORDS = {"!Clip": Clip, "!Truth": Truth}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# glibc keeps the memory of large arrays for the next clip, instead of asking the kernel for zeroed pages again
KEEP_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**28))
START = "import sys; sys.path[:] = sys.argv[1:]; from avlab.datasets import stream; stream._serve()"


def stream(
    world: World, indices: Iterable[int], *, workers: int = 2, truth: bool = True, progress: bool = False
) -> Iterator[Clip]:
    """The clips `indices` of a world in their order, rendered by `workers` processes of one thread (0: in this one).

    Nothing but time depends on `workers`. At most `AHEAD` clips a worker are rendered ahead of the reader, so
    `indices` may be endless (`itertools.count()`): one stream then lasts for a whole training. The processes end with
    the stream, also where its reader stops early or is killed. `truth=False` leaves the truth out; `progress` shows a
    bar. An error in a worker is raised here, at the place of its clip, with a note that names the clip. Raises
    `ValueError` for `workers` below 0, `RuntimeError` where a worker dies.
    """
    return (unpack(block) for block in packed(world, indices, workers=workers, truth=truth, progress=progress))


def packed(
    world: World, indices: Iterable[int], *, workers: int = 2, truth: bool = True, progress: bool = False
) -> Iterator[np.ndarray]:
    """Like `stream`, with each clip still a block (see `pack`)."""
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (render in this process) or more")
    total = len(indices) if isinstance(indices, Sized) else None
    wanted = map(int, indices)
    if workers == 0:
        made = _by_itself(world, wanted, truth)
    else:
        made = _by_workers(world, wanted, workers if total is None else min(workers, total), truth)
    return iter(tqdm(made, "rendering", total, leave=False, file=sys.stdout, unit="clip", disable=not progress))


def _rendered(world: World, i: int, truth: bool) -> np.ndarray:
    try:
        clip = world.clip(i)
        return pack(clip if truth else replace(clip, truth=None))
    except Exception as error:
        error.add_note(f"while rendering clip {i} of {world}")
        raise


def _by_itself(world: World, indices: Iterator[int], truth: bool) -> Iterator[np.ndarray]:
    for i in indices:
        yield _rendered(world, i, truth)


def _by_workers(world: World, indices: Iterator[int], workers: int, truth: bool) -> Iterator[np.ndarray]:
    """Blocks in the order of `indices`, which are dealt out in turn; each worker always has `AHEAD` of them to do."""
    crew: list[subprocess.Popen] = []
    try:
        for _ in range(workers):
            crew.append(_worker())
        asked: deque[tuple[subprocess.Popen, int]] = deque()
        for worker, i in zip(cycle(crew), islice(indices, AHEAD * workers)):
            _ask(worker, (world, i, truth))
            asked.append((worker, i))
        while asked:
            worker, i = asked.popleft()
            block = _answer(worker, i)
            for following in islice(indices, 1):
                _ask(worker, (world, following, truth))
                asked.append((worker, following))
            yield block
    finally:
        for worker in crew:
            worker.kill()  # it holds nothing that could be lost
        for worker in crew:
            with suppress(BrokenPipeError), worker:  # closes its pipes and waits for its end
                pass


def _worker() -> subprocess.Popen:
    """A process that runs `_serve`; neither this script nor torch is loaded in it, as `multiprocessing` would."""
    return subprocess.Popen(
        [sys.executable, "-c", START, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ONE_THREAD | KEEP_MEMORY,  # read when the process starts
        pipesize=2**20,
        start_new_session=True,  # Ctrl-C goes to the reader alone, which then ends its workers
    )


def _ask(worker: subprocess.Popen, request: tuple[World, int, bool]) -> None:
    with suppress(BrokenPipeError):  # it is dead: `_answer` will say so, in the place of the clip that is missing
        pickle.dump(request, worker.stdin)
        worker.stdin.flush()


def _answer(worker: subprocess.Popen, i: int) -> np.ndarray:
    """The next block from a worker, which is clip `i`; an error in the worker is raised here."""
    head = worker.stdout.read(8)
    size = struct.unpack("<q", head)[0] if len(head) == 8 else 0
    answer = np.empty(abs(size), np.uint8)
    if size == 0 or worker.stdout.readinto(answer) < len(answer):
        raise RuntimeError(
            f"a rendering process ended with code {worker.wait()} before clip {i} came (-9: killed, mostly for want of "
            "memory): take fewer workers, or workers=0 to see what happens"
        )
    if size > 0:
        return answer
    error, story = pickle.loads(answer)
    error.add_note(story)
    raise error


def _serve() -> None:
    """Work of a worker: render what is asked for, one after the other, while a thread sends what is done."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a world prints must not come between the clips
    done: SimpleQueue[tuple[int, np.ndarray]] = SimpleQueue()
    Thread(target=_send, args=(done, answers), daemon=True).start()
    while True:
        try:
            try:
                request = pickle.load(sys.stdin.buffer)
            except EOFError:  # the reader has ended
                os._exit(0)
            done.put((1, _rendered(*request)))
        except Exception as error:
            done.put((-1, np.frombuffer(_portable(error), np.uint8)))


def _send(done: SimpleQueue[tuple[int, np.ndarray]], answers: BinaryIO) -> None:
    """Each block after its size in bytes; each error after its size below 0."""
    try:
        while True:
            sign, block = done.get()
            answers.write(struct.pack("<q", sign * len(block)))
            answers.write(block)
            answers.flush()
    finally:  # the reader was killed
        os._exit(0)


def _portable(error: Exception) -> bytes:
    """An error and its traceback, pickled; a `RuntimeError` of its text where it does not survive that."""
    story = f"in a rendering process:\n{''.join(traceback.format_exception(error))}"
    try:
        whole = pickle.dumps((error, story))
        pickle.loads(whole)
    except Exception:
        whole = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), story))
    return whole


def pack(clip: Clip) -> np.ndarray:
    """A clip with all it knows as one block: uint8 (bytes,). `unpack` gives it back, equal in every byte and type.

    Arrays off the grid of `STEPS` are kept as they are. Raises `TypeError` naming the field that holds what is neither
    a plain Python value nor an array of numbers.

    >>> clip = Clip(np.zeros((16, 8, 8, 3), np.uint8), np.zeros((1, 32000), np.float32), fps=8, sample_rate=16000)
    >>> unpack(pack(clip)).frames.shape
    (16, 8, 8, 3)
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(clip, "clip", arrays)).encode()
    size = 8 + _padded(len(text)) + sum(_padded(array.nbytes) for array in arrays)
    block = np.zeros(size, np.uint8)
    block[:8] = np.frombuffer(struct.pack("<q", len(text)), np.uint8)
    block[8 : 8 + len(text)] = np.frombuffer(text, np.uint8)
    place = 8 + _padded(len(text))
    for array in arrays:
        block[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
        place += _padded(array.nbytes)
    return block


def unpack(block: np.ndarray) -> Clip:
    """The clip of a block made by `pack`; its arrays are its own."""
    (length,) = struct.unpack_from("<q", block)
    place = 8 + _padded(length)

    def taken(dtype: str, size: int) -> np.ndarray:
        """The next array of the block, in the order in which `_plain` gave them away."""
        nonlocal place
        array = np.frombuffer(block, dtype, size, place)
        place += _padded(array.nbytes)
        return array

    def restored(record: dict[str, Any]) -> Any:
        mark, value = next(iter(record.items()), ("", None))
        if mark in RECORDS:
            return RECORDS[mark](**value)
        if mark == "!tuple":
            return tuple(value)
        return _whole(*value, taken) if mark == "!array" else record

    return json.loads(block[8 : 8 + length].tobytes(), object_hook=restored)


def _padded(size: int) -> int:
    return -(-size // 8) * 8  # numbers in a block start at multiples of 8 bytes


def _plain(value: Any, name: str, arrays: list[np.ndarray]) -> Any:
    """A value as JSON can hold it, marked where JSON has no such type; numbers of arrays go to the list `arrays`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_plain(item, name, arrays) for item in value]
    if type(value) is tuple:
        return {"!tuple": [_plain(item, name, arrays) for item in value]}
    if type(value) is dict and not any(type(key) is not str or key.startswith("!") for key in value):
        return {key: _plain(item, f"{name}[{key!r}]", arrays) for key, item in value.items()}
    if type(value) in RECORDS.values():
        record = {f.name: _plain(getattr(value, f.name), f.name, arrays) for f in fields(value)}
        return {f"!{type(value).__name__}": record}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {"!array": _reduced(value, STEPS.get(name), arrays)}
    kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{name} holds {value!r} ({kind}), which cannot be packed: use plain Python values, keys that are "
                    "words without a leading '!', and arrays of numbers")  # fmt: skip


def _reduced(array: np.ndarray, step: float | None, arrays: list[np.ndarray]) -> list[Any]:
    """Append what has to be kept of an array to `arrays`; returns its dtype, shape, step and number of values kept."""
    flat = np.ascontiguousarray(array).reshape(-1)
    kept = array.size
    if array.dtype == bool:
        arrays.append(np.packbits(flat))
    elif step is not None and (steps := _in_steps(flat, step)) is not None:
        runs = np.pad(steps, (0, -len(steps) % RUN)).reshape(-1, RUN)
        some = runs.any(axis=1)
        kept = int(some.sum()) * RUN
        arrays += [np.packbits(some), runs[some]]
        return [array.dtype.str, list(array.shape), step, kept]
    else:
        arrays.append(flat)
    return [array.dtype.str, list(array.shape), None, kept]


def _in_steps(flat: np.ndarray, step: float) -> np.ndarray | None:
    """Float32 values as int16 multiples of `step`; None where that would lose anything, be it the sign of a zero."""
    if flat.dtype != np.float32:
        return None
    with np.errstate(invalid="ignore"):
        steps = (flat * np.float32(1 / step)).astype(np.int16)
    return steps if np.array_equal((steps * np.float32(step)).view(np.int32), flat.view(np.int32)) else None


def _whole(dtype: str, shape: list[int], step: float | None, kept: int, taken: Any) -> np.ndarray:
    """An array as it was, from what `_reduced` kept of it."""
    size = math.prod(shape)
    if np.dtype(dtype) == bool:
        return np.unpackbits(taken("u1", -(-size // 8)), count=size).view(bool).reshape(shape)
    if step is None:
        return taken(dtype, size).reshape(shape).copy()
    runs = np.zeros((-(-size // RUN), RUN), dtype)
    some = np.unpackbits(taken("u1", -(-len(runs) // 8)), count=len(runs)).view(bool)
    runs[some] = taken("i2", kept).reshape(-1, RUN) * np.float32(step)
    return runs.reshape(-1)[:size].reshape(shape)

"""Speech: faces that say words. What the lips show, the formants tell.

Law: source and filter. Glottal pulses at `f0`, the speaker's times `(14/64 / size)^0.3`, falling by 12 % over each
word, and noise (breath, fricatives, bursts) excite a vocal tract whose formants `F1, F2, F3` glide between the targets
of the phones, all multiplied by the speaker's `tract` scale (a short tract resonates higher; its face is shorter too).
The jaw follows F1, the lips' width F2, and lips close on /m p b/: `mouth`. Louder words have a flatter source
spectrum, a wider mouth and a deeper nod. Colour, size and face do not tell the word.

Words: event `k` of a clip says word `floor(V x_k)` of the lexicon of V words, with `x_0 = utterance` and
`x_{k+1} = a x_k + c mod 1` (Knuth's congruential step on 64 bits): for a uniform `utterance` each word is uniform.
What is left, `frac(V x_k)`, sets the rhythm of its phones.

Sources: vowel targets are the men's means of Peterson and Barney (1952); consonants are loci in the manner of Klatt
(1980); the pulse is the causal-anticausal linear model of Doval, d'Alessandro and Henrich (2003). Phone names are
TIMIT's: `tcl` is the silent closure before the burst `t`. Left out: jitter, lexical stress, coarticulation that depends
on the neighbour, voicing during closures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from avlab.world.drawing import Sketch, opening, shade
from avlab.world.kinds import Event, Factors, Kind

Span = tuple[float, float, str]  # start and end in s, and a name


class Phone(NamedTuple):
    """A phone: relative length, formant targets in Hz of tract scale 1, and levels (amplitudes, a vowel's voice is 1).

    `noise` is made in the mouth and passes a resonance at `peak` Hz, `band` wide; `breath` passes the whole tract.
    `lips`: 0 closed, 1 as open as the jaw. `zero`: the anti-resonance in Hz of a nasal's closed mouth, 0 for none.
    """

    length: float
    F1: float
    F2: float
    F3: float
    voice: float = 0.0
    noise: float = 0.0
    peak: float = 4000.0
    band: float = 2000.0
    breath: float = 0.0
    lips: float = 1.0
    zero: float = 0.0


PHONES = {
    "iy": Phone(15, 270, 2290, 3010, 1),
    "ih": Phone(11, 390, 1990, 2550, 1),
    "eh": Phone(13, 530, 1840, 2480, 1),
    "ae": Phone(16, 660, 1720, 2410, 1),
    "aa": Phone(16, 730, 1090, 2440, 1),
    "ao": Phone(16, 570, 840, 2410, 1),
    "uh": Phone(12, 440, 1020, 2240, 1),
    "uw": Phone(15, 300, 870, 2240, 1),
    "ah": Phone(12, 640, 1190, 2390, 1),
    "er": Phone(16, 490, 1350, 1690, 1),
    "ay": Phone(20, 730, 1090, 2440, 1),
    "ow": Phone(18, 570, 840, 2410, 1),
    "r": Phone(8, 310, 1060, 1380, 0.6),
    "l": Phone(8, 310, 1050, 2880, 0.6),
    "w": Phone(8, 290, 610, 2150, 0.6),
    "y": Phone(8, 260, 2070, 3020, 0.6),
    "m": Phone(8, 300, 1270, 2130, 0.4, lips=0, zero=1000),
    "n": Phone(8, 300, 1340, 2470, 0.3, zero=1700),
    "f": Phone(10, 340, 1100, 2080, noise=0.07, peak=6500, band=6000, lips=0.2),
    "v": Phone(7, 220, 1100, 2080, 0.4, noise=0.04, peak=6500, band=6000, lips=0.2),
    "th": Phone(10, 320, 1290, 2540, noise=0.05, peak=5000, band=5000),
    "s": Phone(11, 320, 1390, 2530, noise=0.2, peak=5500, band=1200),
    "sh": Phone(12, 300, 1840, 2750, noise=0.22, peak=2800, band=800),
    "b": Phone(2, 200, 1100, 2150, noise=0.2, peak=700, band=1500),
    "d": Phone(2, 200, 1600, 2600, noise=0.25, peak=4000, band=2500),
    "g": Phone(3, 200, 1990, 2850, noise=0.25, peak=2000, band=500),
    "p": Phone(4, 400, 1100, 2150, noise=0.2, peak=700, band=1500, breath=0.12),
    "t": Phone(4, 300, 1600, 2600, noise=0.35, peak=4500, band=2500, breath=0.12),
    "k": Phone(4, 300, 1990, 2850, noise=0.3, peak=2000, band=500, breath=0.12),
    "dcl": Phone(6, 200, 1600, 2600, peak=4000, band=2500),
    "pcl": Phone(7, 400, 1100, 2150, peak=700, band=1500, lips=0),
    "tcl": Phone(7, 300, 1600, 2600, peak=4500, band=2500),
    "kcl": Phone(7, 300, 1990, 2850, peak=2000, band=500),
    "sil": Phone(0, 250, 1500, 2500, lips=0),
}
GLIDES = {"ay": "ih", "ow": "uw"}  # where a diphthong goes to, from its middle
BURSTS = {"b", "d", "g", "p", "t", "k"}

LEXICON = {
    "red": "r eh dcl d",
    "blue": "b l uw",
    "green": "g r iy n",
    "white": "w ay tcl t",
    "yellow": "y eh l ow",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f ay v",
    "six": "s ih kcl k s",
    "seven": "s eh v ah n",
    "yes": "y eh s",
    "no": "n ow",
    "stop": "s tcl t aa pcl p",
    "push": "p uh sh",
    "bird": "b er dcl d",
    "map": "m ae pcl p",
}
WORDS = tuple(LEXICON)


class Speaker(NamedTuple):
    """A voice and a face: `f0` in Hz, `tract` scale of the formants, the share of an event that a word takes, breath.

    The face: half-width in radii, hair over the forehead and beside the face (0 to 1), a bun, half the eyes' distance.
    """

    f0: float
    tract: float
    pace: float
    breath: float
    wide: float
    fringe: float
    long: float
    bun: bool
    eyes: float


SPEAKERS = {
    "s01": Speaker(95, 0.86, 1.00, 0.02, 0.86, 0.3, 0.0, False, 0.36),
    "s02": Speaker(112, 0.98, 0.85, 0.05, 0.76, 0.9, 0.0, False, 0.30),
    "s03": Speaker(126, 0.90, 0.95, 0.03, 0.92, 0.0, 0.0, False, 0.42),
    "s04": Speaker(138, 1.04, 0.90, 0.08, 0.80, 0.6, 1.0, False, 0.34),
    "s05": Speaker(104, 0.94, 0.82, 0.06, 0.72, 0.2, 0.0, True, 0.28),
    "s06": Speaker(155, 0.97, 1.00, 0.04, 0.90, 1.0, 0.5, False, 0.38),
    "s07": Speaker(168, 1.08, 0.88, 0.07, 0.82, 0.4, 1.0, True, 0.40),
    "s08": Speaker(184, 1.02, 0.96, 0.10, 0.74, 0.8, 1.0, False, 0.30),
    "s09": Speaker(198, 1.12, 0.84, 0.05, 0.88, 0.1, 0.4, True, 0.44),
    "s10": Speaker(212, 1.10, 0.92, 0.09, 0.78, 0.5, 0.8, False, 0.36),
    "s11": Speaker(226, 1.17, 0.98, 0.06, 0.84, 0.9, 0.0, True, 0.32),
    "s12": Speaker(240, 1.20, 0.86, 0.04, 0.94, 0.3, 0.7, False, 0.40),
    "s13": Speaker(108, 0.91, 0.93, 0.04, 0.79, 0.7, 0.3, False, 0.42),
    "s14": Speaker(145, 1.00, 0.83, 0.06, 0.87, 0.2, 1.0, False, 0.30),
    "s15": Speaker(190, 1.07, 0.97, 0.03, 0.75, 1.0, 0.6, True, 0.37),
    "s16": Speaker(220, 1.14, 0.89, 0.08, 0.91, 0.5, 0.0, False, 0.34),
}
AVERAGE = Speaker(150, 1.00, 0.90, 0.05, 0.82, 0.5, 0.0, False, 0.36)  # the face that paint leaves
GLIDE, LIP = 0.06, 0.03  # s: from one formant target to the next, and for lips to close or to open
HIGHER = ((3500.0, 200.0), (4500.0, 250.0))  # F4 and F5 and their bandwidths in Hz, the same for all phones
BANDWIDTHS = (60.0, 90.0, 130.0)


def face_pitch(factors: Factors) -> float:
    """Mean fundamental in Hz: the speaker's `f0` times `(14/64 / size)^0.3`, so larger faces speak lower."""
    return SPEAKERS[factors["material"]].f0 * (14 / 64 / factors["size"]) ** 0.3


def slots(rng: np.random.Generator, seconds: float) -> list[Event]:
    """Room for words: 0.34 to 0.5 s each, from 0.1 s on, at least 0.1 s apart; 1 to 4 of them in 2 s."""
    events, time = [], rng.uniform(0.1, 0.35)
    while (length := rng.uniform(0.34, 0.5)) + time <= seconds - 0.02:
        events.append(Event(float(time), float(rng.uniform(0.35, 1)), float(length)))
        time += length + 0.1 + rng.exponential(0.2)
    return events or [Event(0.1, float(rng.uniform(0.35, 1)), float(min(0.5, seconds - 0.12)))]


def said(utterance: float, count: int) -> list[tuple[str, float]]:
    """The first `count` words of an utterance, a number in [0, 1], and the rhythm of each: the law of the module.

    >>> [(word, round(rhythm, 1)) for word, rhythm in said(0.1, 3)]
    [('blue', 0.8), ('bird', 0.3), ('green', 0.7)]
    """
    state, out = min(int(utterance * 2**64), 2**64 - 1), []
    for _ in range(count):
        which, rest = divmod(state * len(WORDS), 2**64)
        out.append((WORDS[which], rest / 2**64))
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
    return out


def words(factors: Factors, events: Sequence[Event]) -> tuple[list[Span], list[Span]]:
    """Phones and words as `(start s, end s, name)`: a word begins with its event, phones tile it.

    It takes the speaker's `pace` of the event's length. Phone j takes its part of that in proportion to its length
    times `2^(frac(rhythm + 0.618 j) - 0.5)`: the same word is not said twice in the same way. A burst starts with its
    phone; a stop at the start of a word has no closure (it is in the pause). The next event cuts a word short.
    """
    phones, spans, events = [], [], sorted(events)
    stops = [event.time for event in events[1:]] + [np.inf]
    for event, stop, (word, rhythm) in zip(events, stops, said(factors["utterance"], len(events)), strict=True):
        names = LEXICON[word].split()
        stretch = [2 ** ((rhythm + 0.618 * j) % 1 - 0.5) for j in range(len(names))]
        parts = np.cumsum([0.0, *(PHONES[name].length * by for name, by in zip(names, stretch, strict=True))])
        length = min(event.length * SPEAKERS[factors["material"]].pace, stop - event.time)
        edges = (event.time + length * parts / parts[-1]).tolist()
        phones += zip(edges[:-1], edges[1:], names, strict=True)
        spans.append((edges[0], edges[-1], word))
    return phones, spans


def _with_pauses(phones: Sequence[Span]) -> list[Span]:
    """The phones, at least one, with `sil` before, between and after the words."""
    out = [(-np.inf, phones[0][0], "sil")]
    for phone in phones:
        if phone[0] > out[-1][1] + 1e-6:
            out.append((out[-1][1], phone[0], "sil"))
        out.append(phone)
    return [*out, (phones[-1][1], np.inf, "sil")]


def _formants(phones: Sequence[Span], times: np.ndarray) -> np.ndarray:
    """Columns F1, F2, F3 (Hz, tract scale 1), nasality and the nasal zero at `times`: (T, 5).

    A smooth step of `GLIDE` s from target to target, centred on the border. Towards and away from silence it lies in
    the pause, so that a word starts and ends on target.
    """
    borders, targets, last = [], [], ""
    for start, end, name in _with_pauses(phones):
        borders.append(start + GLIDE / 2 * ((name == "sil") - (last == "sil")))
        targets.append(PHONES[name])
        last = name
        if name in GLIDES:
            borders.append((start + end) / 2)
            targets.append(PHONES[GLIDES[name]])
    table = np.array([(p.F1, p.F2, p.F3, p.zero > 0, p.zero or 1000) for p in targets], float)
    u = np.clip((times[:, None] - np.array(borders[1:])) / GLIDE + 0.5, 0, 1)  # (T, borders)
    return table[0] + np.einsum("tb,bc->tc", u * u * (3 - 2 * u), np.diff(table, axis=0))


def _level(phones: Sequence[Span], column: str, ramp: float, times: np.ndarray) -> np.ndarray:
    """A level of the phones at `times`: it rises after a border and falls before it, so pauses and closures are silent.

    Bursts of noise rise in 1 ms and die away to their end.
    """
    at, value, before, room = [-1.0], [0.0], 0.0, 0.0
    for start, end, name in _with_pauses(phones)[1:]:
        level, half = getattr(PHONES[name], column), (end - start) / 2
        burst = name in BURSTS and column != "lips"
        if level > before:
            at += [start, start + min(0.001 if burst else ramp, half)]
        else:
            at += [start - min(ramp, room), start]
        value += [before, level]
        if burst:
            at.append(end)
            value.append(0.0)
        before, room = 0.0 if burst else level, half
    return np.interp(times, at, value)


def _strength(events: Sequence[Event], times: np.ndarray) -> np.ndarray:
    """The vocal effort of the latest event at `times`; before any, of the first."""
    starts, efforts, _ = np.array(sorted(events)).T
    return efforts[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]


def _pair(f: np.ndarray, F: np.ndarray | float, B: np.ndarray | float) -> np.ndarray:
    """A pair of poles or zeros at `F` Hz, `B` Hz wide, at `f` (bins,): `1 - (f / F)^2 + j f B / F^2`, complex64."""
    out = np.empty(np.broadcast_shapes(np.shape(F), f.shape), np.complex64)
    out.real = 1 - f**2 * (1 / F**2)
    out.imag = f * (B / F**2)
    return out


def _tract(f: np.ndarray, formants: np.ndarray, scale: float) -> np.ndarray:
    """The inverse transfer function (n, bins) at `f` (bins,) Hz of a vocal tract with `_formants` (n, 5).

    `1 / H = prod_k (1 - (f / F_k)^2 + j f B_k / F_k^2)`, five formants in cascade; a nasal has a pole pair at 270 Hz
    and a zero pair besides.
    """
    tracks = formants.astype(np.float32) * np.float32(scale)
    out = _pair(f, tracks[:, :1], BANDWIDTHS[0])
    out *= _pair(f, HIGHER[0][0] * scale, HIGHER[0][1]) * _pair(f, HIGHER[1][0] * scale, HIGHER[1][1])
    for k in (1, 2):
        out *= _pair(f, tracks[:, k, None], BANDWIDTHS[k])
    nasal = tracks[:, 3] > 0
    if nasal.any():
        side = _pair(f, tracks[nasal, 4, None], 150.0) / _pair(f, 270.0 * scale, 100.0)
        out[nasal] /= 1 + formants[nasal, 3, None].astype(np.float32) * (side - 1)
    return out


def _pulse_times(pitch: float, spans: Sequence[Span], seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Times (s) of the glottal pulses, not rounded to samples, and `f0` (Hz) at each: it falls by 12 % over a word."""
    grid = np.arange(0, seconds, 0.001)
    edges = [edge for start, end, _ in spans for edge in (start, end)]
    f0 = pitch * np.interp(grid, edges, [1.06, 0.94] * len(spans))
    phase = np.concatenate([[0.0], np.cumsum(f0) * 0.001])
    at = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(len(phase)) * 0.001)
    return at, np.interp(at, grid, f0)


def _overlapped(spectra: np.ndarray, L: int) -> np.ndarray:
    """White noise filtered in time: spectra (frames, bins) -> (L,) of variance `mean |spectrum|^2 / 2`.

    Windows overlap by half; sines as windows keep the power constant. Frame 1 is centred on sample 0.
    """
    m = 2 * (spectra.shape[1] - 1)
    window = np.sin(np.pi * (np.arange(m) + 0.5) / m) * np.sqrt(m / 2)
    blocks = np.fft.irfft(spectra, m) * window.astype(np.float32)
    halves = np.zeros((len(blocks) + 1, m // 2), np.float32)
    halves[:-1] += blocks[:, : m // 2]
    halves[1:] += blocks[:, m // 2 :]
    return halves.reshape(-1)[m : m + L]


def spoken(
    factors: Factors, events: Sequence[Event], *, seconds: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """The words of a face: each glottal pulse and each window of noise through the tract as it is at that moment."""
    L, speaker = round(seconds * sample_rate), SPEAKERS[factors["material"]]
    n = 2 ** int(np.ceil(np.log2(0.024 * sample_rate)))  # samples of a pulse's response: 32 ms at 16 kHz
    out = np.zeros(L + 2 * n, np.float32)
    if not events:
        return out[:L]
    phones, spans = words(factors, events)
    times = np.arange(L) / sample_rate
    voice, noise, breath = (_level(phones, column, 0.012, times) for column in ("voice", "noise", "breath"))
    f = np.fft.rfftfreq(n, 1 / sample_rate).astype(np.float32)
    keep = (f < 0.45 * sample_rate).astype(np.float32)

    at, f0 = _pulse_times(face_pitch(factors), spans, seconds)
    near = (at[:, None] + (-0.01, 0, 0.01)) * sample_rate
    heard = voice[np.clip(near.astype(int), 0, L - 1)].any(axis=1)
    at, fg = at[heard], 1.1 * f0[heard, None].astype(np.float32)  # the glottal formant, in proportion to f0
    tilt = 1000 * (1 + 3 * _strength(events, at).astype(np.float32))[:, None]
    first, part = np.divmod(np.rint(at * sample_rate * 32).astype(int), 32)  # delays of 1/32 sample, from a table
    delays = np.exp(-2j * np.pi / n * np.outer(n // 4 + np.arange(32) / 32, np.arange(n // 2 + 1)))
    spectra = (delays * (2000j * f * keep)).astype(np.complex64)[part]
    inverse = _tract(f, _formants(phones, at), speaker.tract)
    inverse *= _pair(f, fg, -fg)  # the open phase runs backwards in time: a negative bandwidth
    inverse *= fg**2 + 1j * (f * (fg**2 / tilt))
    for start, pulse in zip((first - n // 4 + n).tolist(), np.fft.irfft(spectra / inverse, n), strict=True):
        out[start : start + n] += pulse

    hop, f, keep = n // 4, f[::2], keep[::2]  # noise: windows half as long as the pulses' responses
    centres = np.arange(-1, L // hop + 2) * hop / sample_rate
    white = keep * rng.standard_normal((len(centres), len(f), 2), np.float32).view(np.complex64)[..., 0]
    sources = [PHONES[name] for _, _, name in phones]
    peak, band = np.array([(p.peak, p.band) for p in sources], np.float32).T[..., None] * np.float32(speaker.tract)
    shapes = 1 / np.abs(_pair(f, peak, band))
    shapes /= np.sqrt(np.mean(shapes**2, axis=1, keepdims=True))
    now = np.minimum(np.searchsorted([end for _, end, _ in phones], centres), len(phones) - 1)
    rough = _overlapped(white * shapes[now], L)
    airy = _overlapped(white / _tract(f, _formants(phones, centres), speaker.tract), L)
    mixed = voice * out[n : n + L] + noise * rough + (breath + speaker.breath * voice) * airy
    return (_strength(events, times) * mixed).astype(np.float32)


def mouth(factors: Factors, events: Sequence[Event], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far a mouth is open and how wide it is at `times`, both from 0 to 1, as (T,) each.

    Aperture: the jaw, `(F1 - 150) / 580`, times the lips (0 in /m p b/ and in pauses, 0.2 in /f v/), times
    `0.6 + 0.4 strength`. Width: `(F2 - 600) / 1700`, so /iy/ spreads the lips and /uw/ rounds them. F1 and F2 in Hz of
    tract scale 1. Lips move with the gaps' ends: they start to open when a word starts.
    """
    if not events:
        return np.zeros(len(times)), np.full(len(times), (PHONES["sil"].F2 - 600) / 1700)
    phones, _ = words(factors, events)
    F = _formants(phones, times)
    jaw, wide = np.clip((F[:, 0] - 150) / 580, 0, 1), np.clip((F[:, 1] - 600) / 1700, 0, 1)
    return jaw * _level(phones, "lips", LIP, times) * (0.6 + 0.4 * _strength(events, times)), wide


def face(sketch: Sketch, factors: Factors, events: Sequence[Event], times: np.ndarray) -> None:
    """A face whose lips and chin follow its speech and which nods with each word; paint hides whose face it is."""
    who = SPEAKERS[factors["material"]] if factors["coat"] == "bare" else AVERAGE
    colour, accent = factors["colour"], factors["accent"]
    dark, hair = shade(accent, 0.25), shade(accent, 0.6)
    aperture, width = mouth(factors, events, times)
    nod = 0.1 * opening(events, times)
    wide, tall = who.wide, 0.93 / np.sqrt(who.tract)
    chin, middle = 0.16 * aperture, 0.48 * tall + nod
    sketch.ellipse((0, nod - 0.18), (wide + 0.13 * (who.long > 0), 0.85 + 0.3 * who.long), hair)
    sketch.ellipse((0, nod - 1.08), (0.3, 0.3), hair, seen=who.bun)
    sketch.ellipse((0, nod + chin + 0.25), (0.82 * wide, 0.72 * tall), shade(colour, 0.92), moving=True)
    sketch.ellipse((0, nod), (wide, tall), colour)
    low = 0.3 * who.fringe - 0.75
    edge = np.sqrt(1 - low**2)  # where the fringe meets the side of the head
    brow = [(-edge, low), (-0.65, -0.9), (-0.3, -1.05), (0.3, -1.05), (0.65, -0.9), (edge, low), (0, low + 0.1)]
    sketch.polygon([(x * wide, y * tall + nod) for x, y in brow], hair, seen=who.fringe > 0)
    for side in (-1, 1):
        sketch.ellipse((side * who.eyes, nod - 0.25), (0.17, 0.13), (240, 240, 240))
        sketch.ellipse((side * who.eyes, nod - 0.25), (0.08, 0.1), (20, 20, 20))
    sketch.line((0, nod - 0.12), (0, nod + 0.1), shade(colour, 0.7), width=0.12)
    half, gap = 0.2 + 0.32 * width, 0.36 * aperture
    sketch.ellipse((0, middle + gap / 2), (half + 0.08, gap + 0.11), accent, moving=True)
    sketch.ellipse((0, middle + gap / 2), (half, gap), dark, moving=True, seen=gap > 0.02)
    teeth = np.minimum(0.3 * gap, 0.08)
    sketch.box((0, middle - gap / 2 + 0.6 * teeth), (0.7 * half, teeth), (240, 240, 240), moving=True, seen=gap > 0.05)


KINDS = {
    "face": Kind(
        family="speech",
        law="f0 ~ speaker (14/64 / size)^0.3; lips' opening = F1, lips' width = F2",
        pitch=face_pitch,
        sound=spoken,
        look=face,
        beats=slots,
        materials=tuple(SPEAKERS),
        held_out=tuple(SPEAKERS)[12:],
        highest=3800.0,
        ranges={"utterance": (0.0, 1.0)},
        words=words,
    ),
}

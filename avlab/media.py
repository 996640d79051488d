"""Clips from media files and back, through PyAV (which ships FFmpeg).

Conventions
-----------
Second 0 is where the earliest track of the file starts. Frame `n` of a clip shows what is on screen at `start + n /
fps` (to the millisecond, because some formats round times to it), so a variable frame rate becomes an even one by
presentation time. A picture that starts late shows its first frame until then; a sound that starts late, or has a
hole, is silent there. A clip ends with the picture, or half a second after the sound if that comes first. Stored
orientation (rotation, mirroring) is undone; pixels are taken as square, interlaced lines as they come. Sound is
resampled once, by soxr at its high quality. Shape letters: `N` frames, `H W` pixels, `C` channels, `L` samples.

Files are not trusted: only single-file formats and local files are opened, sizes are checked before decoding, frames
are shrunk one by one, and decoding stops at a deadline.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import soxr

from avlab.clip import Clip

# Formats that hold everything in one file: a playlist named .mp4 could make FFmpeg open other files or addresses.
FORMATS = (
    "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,obu,flv,asf,mxf,dv,gif,nut,rm,yuv4mpegpipe,"
    "wav,w64,flac,ogg,mp3,aac,aiff,caf,au,amr,ac3"
)
IMAGE_FORMATS = "png_pipe,jpeg_pipe,bmp_pipe,webp_pipe"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 8192 * 4320  # one frame of 8K
MAX_IMAGE_BYTES = 64 * 2**20
MAX_STREAMS = 32
MAX_CHANNELS = 16
MAX_BYTES = 2**30  # of the frames of one clip
TAIL = 0.5  # seconds that the picture may outlast the sound
TICK = 1e-3  # seconds: the coarsest rounding of timestamps (Matroska)


class MediaError(ValueError):
    """A file that cannot become a clip: the message is one line with the file's name, what is wrong, what to do."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file's header says. Seconds, Hz, pixels as stored (before orientation); None for what it does not say."""

    seconds: float | None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    video_codec: str | None = None
    pixel_format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    audio_codec: str | None = None


class Decoded(NamedTuple):
    """A clip, and one line for everything that was not as it should be."""

    clip: Clip
    notes: list[str]


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    if not path.exists():
        raise MediaError(f"{path.name}: no such file; check the path {path}")
    if not path.is_file():
        raise MediaError(f"{path.name}: a folder or device, not a file; give a media file")
    if path.stat().st_size == 0:
        raise MediaError(f"{path.name}: empty (0 bytes); copy or download it again")
    safe = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_streams": str(MAX_STREAMS)}
    try:
        container = av.open(str(path.resolve()), options=safe, timeout=5, metadata_errors="replace")
    except PermissionError:
        raise MediaError(f"{path.name}: may not be read; change its permissions") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(512)
        if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
            raise MediaError(f"{path.name}: holds text, not media; check its name") from None
        why = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        raise MediaError(f"{path.name}: FFmpeg cannot open it ({why}); export it again, if it is media") from None
    with container:
        if len(container.streams) > MAX_STREAMS:
            raise MediaError(f"{path.name}: {len(container.streams)} tracks, at most {MAX_STREAMS} are read; keep two")
        try:
            yield container
        except av.error.FFmpegError as error:
            raise MediaError(f"{path.name}: damaged ({type(error).__name__}); export it again") from None


def _tracks(container: av.container.InputContainer, name: str) -> tuple:
    """The first video track that is no cover picture and the first audio track, or None, within the caps."""
    cover = av.stream.Disposition.attached_pic
    video = next((s for s in container.streams.video if not s.disposition & cover), None)
    audio = next(iter(container.streams.audio), None)
    for stream in (video, audio):
        if stream is not None and stream.codec_context is None:
            raise MediaError(f"{name}: FFmpeg has no decoder for its {stream.type} track; convert it to H.264 and AAC")
    if video is not None and video.width * video.height > MAX_PIXELS:
        raise MediaError(f"{name}: {video.width}x{video.height} pixels, at most {MAX_PIXELS} are decoded; shrink it")
    if audio is not None and not 1 <= audio.channels <= MAX_CHANNELS:
        raise MediaError(f"{name}: {audio.channels} sound channels, 1 to {MAX_CHANNELS} are decoded; mix it down")
    if audio is not None and not 4000 <= (audio.rate or 0) <= 384000:
        raise MediaError(f"{name}: sound at {audio.rate} Hz, 4000 to 384000 are read; resample it")
    return video, audio


def probe(path: str | Path) -> MediaInfo:
    """What the header of a media file says, without decoding; raises `MediaError` if it cannot be opened.

    >>> probe("nowhere.mp4")
    Traceback (most recent call last):
    avlab.media.MediaError: nowhere.mp4: no such file; check the path nowhere.mp4
    """
    path = Path(path)
    with _open(path) as container:
        video, audio = _tracks(container, path.name)
        fields: dict = {"seconds": _duration(container)}
        if video is not None:
            rate, codec = video.average_rate, video.codec_context
            fields |= {"fps": float(rate) if rate else None, "width": video.width, "height": video.height}
            fields |= {"video_codec": codec.name, "pixel_format": codec.pix_fmt}
        if audio is not None:
            fields |= {"sample_rate": audio.rate, "channels": audio.channels, "audio_codec": audio.codec_context.name}
    return MediaInfo(**fields)


def _duration(container: av.container.InputContainer) -> float | None:
    return container.duration / av.time_base if container.duration is not None else None


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """The frame as RGB uint8 (H, W, 3), turned and mirrored as its display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is not None:
        a, b, _, c, d = np.frombuffer(side, np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
        if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn swaps the axes
            image, a, d = image.transpose(1, 0, 2), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def _fit(image: np.ndarray, size: tuple[int, int] | None, fit: str) -> np.ndarray:
    """`image` (h, w, 3) at `size` (H, W): stretched, its middle cropped to that shape, or padded with black."""
    if size is None:
        return image
    (h, w), (H, W) = image.shape[:2], size
    if fit == "crop":
        scale = min(h / H, w / W)
        y, x = min(h, max(1, round(H * scale))), min(w, max(1, round(W * scale)))
        image = image[(h - y) // 2 : (h - y) // 2 + y, (w - x) // 2 : (w - x) // 2 + x]
    elif fit == "pad":
        scale = min(H / h, W / w)
        H, W = min(H, max(1, round(h * scale))), min(W, max(1, round(w * scale)))
    shrinks = image.shape[0] >= H and image.shape[1] >= W
    image = cv2.resize(image, (W, H), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    top, left = (size[0] - H) // 2, (size[1] - W) // 2
    return np.pad(image, ((top, size[0] - H - top), (left, size[1] - W - left), (0, 0))) if fit == "pad" else image


def _check_bytes(name: str, count: int) -> None:
    if count > MAX_BYTES:
        raise MediaError(f"{name}: the clip takes more than {MAX_BYTES} bytes; give a smaller size=, seconds= or fps=")


class _Picture:
    """Frames by presentation time onto the grid `start + n / fps`; only sampled frames are converted and shrunk."""

    def __init__(self, name: str, start: float, fps: float, limit: int, size: tuple[int, int] | None, fit: str) -> None:
        self.name, self.start, self.fps, self.limit, self.size, self.fit = name, start, fps, limit, size, fit
        self.count, self.shape, self.pixels = 0, (0, 0, 3), bytearray()
        self.pending: av.VideoFrame | None = None
        self.time, self.first = start, None

    def full(self) -> bool:
        return self.count >= self.limit

    def next_time(self) -> float:
        return self.time + 1 / self.fps

    def add(self, frame: av.VideoFrame, at: float) -> None:
        if self.pending is None:
            self.first = at
        elif at <= self.time:  # a frame from the past, in damaged or joined files: what was shown cannot change
            return
        else:
            self.show_until(at)
        self.pending, self.time = frame, at

    def show_until(self, end: float) -> None:
        """Emit the pending frame for all grid points before `end`."""
        total = min(self.limit, max(0, ceil((end - TICK - self.start) * self.fps)))
        if total > self.count and self.pending is not None:
            image = _fit(_upright(self.pending), self.size, self.fit)
            self.shape = image.shape if self.count == 0 else self.shape
            _check_bytes(self.name, total * image.nbytes)
            image = image if image.shape == self.shape else cv2.resize(image, self.shape[1::-1])
            self.pixels += image.tobytes() * (total - self.count)
            self.count = total


def _mix(layout: av.AudioLayout, channels: int | None) -> np.ndarray | None:
    """Weights (channels, C) from a layout's named speakers, as ITU-R BS.775 has them, each row scaled to sum 1.

    Left takes what is on the left, centre and surrounds at -3 dB, no LFE; the sum of 1 means that no mix clips.
    """
    usual = {2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}  # where a file tells only the number
    count = layout.nb_channels
    known = av.AudioLayout(usual[count]) if layout.name == f"{count} channels" and count in usual else layout
    names = [channel.name for channel in known.channels]
    if channels is None or (channels == len(names) == 1):
        return None
    weights = np.zeros((2, len(names)), np.float32)
    for place, name in enumerate(names):
        gain = 1.0 if name in ("FL", "FR", "DL", "DR", "FLC", "FRC") else 0.0 if name.startswith("LFE") else 0.5**0.5
        weights[:, place] = gain * (not name.rstrip("C").endswith("R")), gain * (not name.rstrip("C").endswith("L"))
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return weights if channels == 2 else weights.mean(axis=0, keepdims=True)


class _Sound:
    """Sound by presentation time onto the line of samples that begins at `start`: mixed, then resampled once."""

    def __init__(
        self, name: str, stream: av.AudioStream, start: float, sample_rate: int, seconds: float, channels: int | None
    ) -> None:
        self.name, self.start, self.rate, self.limit = name, start, stream.rate, ceil(seconds * stream.rate)
        self.sources, self.mix = stream.channels, _mix(stream.layout, channels)
        self.channels = self.sources if self.mix is None else len(self.mix)
        self.packer = av.AudioResampler(format="flt")
        same = self.rate == sample_rate
        self.soxr = None if same else soxr.ResampleStream(self.rate, sample_rate, self.channels, quality="HQ")
        self.position, self.first, self.samples = 0, None, bytearray()

    def full(self) -> bool:
        return self.position >= self.limit

    def next_time(self) -> float:
        return self.start + self.position / self.rate

    def add(self, frame: av.AudioFrame, at: float) -> None:
        self.first = at if self.first is None else self.first
        if frame.sample_rate != self.rate or frame.layout.nb_channels != self.sources:
            raise ValueError("the sound changes its rate or channels on the way")
        # one packed plane: PyAV 18 reads behind the last of 8 planes and crashes
        (frame,) = self.packer.resample(frame)
        x = frame.to_ndarray().reshape(-1, self.sources).T
        x = np.clip(np.nan_to_num(x), -1, 1)
        x = x if self.mix is None else self.mix @ x  # (C, L)
        gap = round((at - self.start) * self.rate) - self.position
        if self.position > 0 and abs(gap) <= 0.02 * self.rate:
            gap = 0  # rounding of timestamps, not a hole
        begins = min(self.position + gap, self.limit)
        while self.position < begins:
            self.feed(np.zeros((self.channels, min(begins - self.position, self.rate)), np.float32))
        self.feed(x[:, max(0, -gap) :])

    def feed(self, x: np.ndarray) -> None:
        x = np.ascontiguousarray(x[:, : self.limit - self.position].T)  # (L, C)
        self.position += len(x)
        if len(x):
            self.samples += (x if self.soxr is None else self.soxr.resample_chunk(x)).tobytes()
            _check_bytes(self.name, len(self.samples))

    def waveform(self, length: int) -> np.ndarray:
        """The sound as (C, L), cut or filled with silence to `length` samples."""
        if self.soxr is not None:
            self.samples += self.soxr.resample_chunk(np.zeros((0, self.channels), np.float32), last=True).tobytes()
        x = np.frombuffer(self.samples, np.float32).reshape(-1, self.channels).T[:, :length]
        return np.clip(np.pad(x, ((0, 0), (0, length - x.shape[1]))), -1, 1)


def picture_beside(path: Path) -> Path | None:
    """The image file of the same stem beside a sound file, or None."""
    endings = [ending for small in IMAGES for ending in (small, small.upper())]
    return next((image for image in map(path.with_suffix, endings) if image.is_file()), None)


def _still(image: Path) -> av.VideoFrame:
    """An image file's frame; from memory, since FFmpeg reads % in an image's name as the number in a series."""
    if image.stat().st_size > MAX_IMAGE_BYTES:
        raise MediaError(f"{image.name}: an image of more than {MAX_IMAGE_BYTES} bytes; shrink it")
    try:
        with av.open(io.BytesIO(image.read_bytes()), options={"format_whitelist": IMAGE_FORMATS}) as container:
            container.streams.video[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            return next(container.decode(video=0))
    except (av.error.FFmpegError, OSError, IndexError, StopIteration, ValueError) as error:
        raise MediaError(f"{image.name}: cannot be decoded as an image ({type(error).__name__}); export it") from None


def read(
    path: str | Path,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    sample_rate: int = 16000,
    channels: int | None = None,
    fit: str = "stretch",
) -> Clip:
    """The part `[start, start + seconds)` of a media file as a `Clip`; all of it, to 600 s, when `seconds` is None.

    `size` is one side or `(H, W)` in pixels (None: as stored, upright), `fps` None the file's own mean rate,
    `sample_rate` in Hz, `channels` None (as stored), 1 or 2. `fit` says how another shape becomes `size`: "stretch",
    "crop" (the middle) or "pad" (black bars). A sound file shows the image of the same stem beside it. Raises
    `MediaError` for a file that cannot give this clip, `ValueError` for a setting that is none.
    """
    given = {"size": size, "fps": fps, "sample_rate": sample_rate, "channels": channels, "fit": fit}
    return decode(path, start=start, seconds=seconds, **given).clip


def decode(
    path: str | Path,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    sample_rate: int = 16000,
    channels: int | None = None,
    fit: str = "stretch",
    max_seconds: float = 600.0,
    deadline_seconds: float = 8.0,
) -> Decoded:
    """`read`, with one note for each flaw that was mended, of a clip of at most `max_seconds`.

    Decoding takes at most `deadline_seconds` and one second more a second of sound or picture gained, so that a damaged
    file cannot hang a batch; what was decoded by then is used.
    """
    path, size = Path(path), (size, size) if isinstance(size, int) else size
    if fit not in ("stretch", "crop", "pad") or channels not in (None, 1, 2):
        raise ValueError(f'fit is "stretch", "crop" or "pad", channels None, 1 or 2; got {fit!r} and {channels!r}')
    if start < 0 or min(seconds or 1, fps or 1, sample_rate, max_seconds, *(size or (1, 1))) <= 0 or seconds == 0:
        raise ValueError("start must be 0 s or more; seconds, size, fps, sample_rate and max_seconds above 0")
    if seconds is not None and seconds > max_seconds:
        raise MediaError(f"{path.name}: {seconds:g} s asked for, more than max_seconds={max_seconds:g}; ask for less")
    with _open(path) as container:
        video, audio = _tracks(container, path.name)
        if audio is None:
            raise MediaError(f"{path.name}: no audio track; an audio-visual clip needs one")
        image = picture_beside(path) if video is None else None
        if video is None and image is None:
            raise MediaError(f"{path.name}: no video track; put a picture {path.stem}.png beside it to show one")
        length = _duration(container)
        if seconds is None and length is not None and length - start > max_seconds:
            raise MediaError(f"{path.name}: lasts {length:.0f} s, more than max_seconds={max_seconds:g}; cut it up")
        # a header may lie or not know: decoding goes on to one second above the limit, which tells "too long"
        most = seconds or min(max_seconds + 1, max_seconds + 1 if length is None else 2 * length + 10)
        fps = fps or (float(video.average_rate) if video is not None and video.average_rate else 25.0)
        origin = container.start_time / av.time_base if container.start_time is not None else 0.0
        # to a key frame before the start: decoders need a little of what came before
        for jump in (origin + start - 1, origin) if start > 3 else (None,):
            sound = _Sound(path.name, audio, origin + start, sample_rate, most + TAIL, channels)
            picture = _Picture(path.name, origin + start, fps, max(1, round(most * fps)), size, fit)
            damaged, stopped = _pull(container, (video, audio), picture, sound, deadline_seconds, jump)
            first = sound.first if video is None else picture.first
            if first is not None and first <= origin + start + TICK:
                break  # else the jump landed too late, as it does in files without an index: from the beginning then
    if sound.position == 0:
        raise MediaError(f"{path.name}: no sound could be decoded after {start:g} s; the file is damaged or too short")
    heard = sound.position / sound.rate
    if image is not None:
        picture.pending = _still(image)
        picture.show_until(picture.start + heard)
    if picture.count == 0:
        raise MediaError(f"{path.name}: no frame could be decoded after {start:g} s; the file is damaged or too short")
    frames = np.frombuffer(picture.pixels, np.uint8).reshape(picture.count, *picture.shape)
    N = min(picture.count, max(1, ceil((heard + TAIL) * fps - TICK)))
    if seconds is None and N / fps > max_seconds + 1 / fps:
        raise MediaError(f"{path.name}: lasts more than max_seconds={max_seconds:g}; cut it up")
    if seconds is not None and picture.limit > N:
        there = f"only {N / fps:.2f} s of them are there"
        raise MediaError(f"{path.name}: {seconds:g} s from {start:g} s on asked for, {there}; ask for less")
    notes = [note for note in (damaged and f"{damaged} damaged packets or frames", stopped) if note]
    for what, track in (("sound", sound), ("picture", picture)):
        late = 0 if track.first is None else track.first - track.start
        if late >= N / fps:
            raise MediaError(f"{path.name}: the {what} starts after {start + late:.1f} s, after the rest is over")
        if late > 2 * TAIL:
            notes.append(f"the {what} starts after {start + late:.1f} s")
    if picture.count > N:
        notes.append(f"the sound ends after {start + heard:.1f} s, before the picture: the rest is left out")
    if seconds is None and length is not None and start + N / fps < length - 2 * TAIL:
        notes.append(f"ends after {start + N / fps:.1f} s of the {length:.1f} s that its header promises")
    waveform = sound.waveform(round(N / fps * sample_rate))
    return Decoded(Clip(frames[:N], waveform, fps, sample_rate, source=path.name, start=start), notes)


def _pull(
    container: av.container.InputContainer,
    tracks: tuple[av.VideoStream | None, av.AudioStream],
    picture: _Picture,
    sound: _Sound,
    deadline: float,
    jump: float | None,
) -> tuple[int, str]:
    """Feed `picture` and `sound` from the file: the number of damaged parts, and why it stopped early if it did."""
    begun, damaged, stopped, last, (video, audio) = time.monotonic(), 0, "", None, tracks
    streams = [stream for stream in tracks if stream is not None]
    for stream in streams:
        if not stream.codec_context.is_open:
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # the header may say less than a frame has
            stream.codec_context.thread_type = "AUTO"
    if jump is not None:
        container.seek(int(jump * av.time_base), backward=True)
    packets = container.demux(streams)
    while not (sound.full() and (video is None or picture.full())):
        gained = max(picture.count / picture.fps, sound.position / sound.rate)
        if time.monotonic() - begun > deadline + gained:
            stopped = f"decoding was stopped after {deadline + gained:.0f} s"
            break
        try:
            packet = next(packets)
        except StopIteration:
            break
        except IndexError:  # a track that only appears on the way, which PyAV does not know: read on behind it
            packets = container.demux(streams)
            continue
        except (av.error.FFmpegError, OSError) as error:
            stopped = f"reading was stopped by damage ({type(error).__name__})"
            break
        taker = sound if packet.stream is audio else picture
        try:
            for frame in () if taker.full() else packet.decode():
                damaged += frame.is_corrupt
                taker.add(frame, taker.next_time() if frame.time is None else frame.time)
                last = frame if taker is picture else last
        except MediaError:
            raise
        except (av.error.FFmpegError, ValueError):
            damaged += 1
    if last is not None:
        step = float(last.duration * last.time_base) if last.duration and last.time_base else 0.0
        picture.show_until(picture.time + (step or 1 / float(video.average_rate or picture.fps)))
    return damaged, stopped


def write(clip: Clip, path: str | Path, *, lossless_audio: bool = False) -> Path:
    """Write a clip as an .mp4 with H.264 pictures and AAC sound, or FLAC (16 bit) if `lossless_audio`; its path.

    Raises `MediaError` for another ending, odd sizes (H.264 stores colour for 2x2 pixels), or a sample rate or number
    of channels that AAC does not have. A write that is cut short leaves no file under that name.

    >>> import tempfile
    >>> clip = Clip(np.zeros((8, 16, 16, 3), np.uint8), np.zeros((1, 16000), np.float32), fps=8, sample_rate=16000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read(write(clip, Path(folder) / "dark.mp4"), size=7).frames.shape
    (8, 7, 7, 3)
    """
    path = Path(path)
    (N, H, W, _), C = clip.frames.shape, len(clip.waveform)
    if path.suffix != ".mp4":
        raise MediaError(f"{path.name}: clips are written as .mp4; change the ending")
    if H % 2 or W % 2:
        raise MediaError(f"{path.name}: H.264 needs even sizes, the clip has {H}x{W} (HxW); resize or crop it first")
    codec = av.Codec("flac" if lossless_audio else "aac", "w")
    if C > 2 or (codec.audio_rates and clip.sample_rate not in codec.audio_rates):
        has = f"{codec.name} has 1 or 2 channels at {sorted(codec.audio_rates or [])} Hz"
        raise MediaError(f"{path.name}: {has}, the clip {C} at {clip.sample_rate}; resample it, or lossless_audio=True")
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
    layout = "mono" if C == 1 else "stereo"
    try:
        with av.open(str(part), "w") as container:
            rate = Fraction(clip.fps).limit_denominator(1001)
            video = container.add_stream("libx264", rate=rate, options={"crf": "18"})
            video.width, video.height, video.pix_fmt = W, H, "yuv420p"
            audio = container.add_stream(codec.name, rate=clip.sample_rate, layout=layout)
            # the encoder converts it, for FLAC to 16 bit: the inverse of what `read` does to such samples
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(clip.waveform), format="fltp", layout=layout)
            sound.sample_rate, sound.pts, sound.time_base = clip.sample_rate, 0, Fraction(1, clip.sample_rate)
            for n in range(N):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(clip.frames[n]), format="rgb24")
                frame.pts, frame.time_base = n, 1 / rate
                container.mux(video.encode(frame))
            container.mux(video.encode())
            container.mux(audio.encode(sound))
            container.mux(audio.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path

"""Media in and out: each file is made here with PyAV, so what it shows and sounds like at each second is known."""

import struct
import wave
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from avlab import media
from avlab.clip import Clip
from avlab.media import MediaError, decode, probe, read, write


def make(
    path,
    *,
    codecs=("libx264", "aac"),
    size=(48, 64),
    pix_fmt="yuv420p",
    times=None,
    fps=25,
    seconds=2.0,
    rate=44100,
    layout="stereo",
    sound=None,
    picture=None,
    starts=(0.0, 0.0),
    options=None,
):
    """A media file: `picture(t)` (H, W, 3) at presentation `times`, `sound(t)` (C, L), each from its start second."""
    H, W = size
    picture = picture or (lambda t: np.full((H, W, 3), int(20 + 100 * t) % 256, np.uint8))
    sound = sound or (lambda t: 0.3 * np.sin(2 * np.pi * 440 * t)[None].repeat(av.AudioLayout(layout).nb_channels, 0))
    times = np.arange(round(seconds * fps)) / fps if times is None else times
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if codecs[0]:
            video = container.add_stream(codecs[0], rate=fps)
            video.width, video.height, video.pix_fmt, video.bit_rate = W, H, pix_fmt, 3_000_000
            video.codec_context.time_base = Fraction(1, 1000) if codecs[0] == "libx264" else Fraction(1, fps)
        if codecs[1]:
            audio = container.add_stream(codecs[1], rate=rate, layout=layout)
        packets = []
        if video:
            for t in times:
                frame = av.VideoFrame.from_ndarray(picture(t), format="rgb24").reformat(format=pix_fmt)
                frame.time_base = video.codec_context.time_base
                frame.pts = round((t + starts[0]) / frame.time_base)
                packets += video.encode(frame)
            packets += video.encode()
        if audio:
            x = sound(np.arange(round(seconds * rate)) / rate).astype(np.float32)
            sample_format = audio.codec_context.codec.audio_formats[0].name
            frame = av.AudioFrame.from_ndarray(x.T.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(starts[1] * rate)
            for part in av.AudioResampler(sample_format, layout, rate, 1024).resample(frame):
                packets += audio.encode(part)
            packets += audio.encode()
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return path


def grey(clip):
    return clip.frames.reshape(len(clip.frames), -1).mean(axis=1)


def write_wav(path, x, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(x)), file.setsampwidth(2), file.setframerate(rate)
        file.writeframes((x.T * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("ending", "codecs"),
    [
        ("mp4", ("libx264", "aac")),
        ("mkv", ("libx264", "libopus")),
        ("mov", ("mpeg4", "pcm_s16le")),
        ("avi", ("mpeg4", "mp3")),
        ("mpg", ("mpeg1video", "mp2")),
        ("webm", ("libvpx", "libopus")),
        ("ts", ("libx264", "aac")),
    ],
)
def test_formats(tmp_path, ending, codecs):
    """Known answer: brightness ramps by 100 a second, the tone has 440 Hz, whatever holds them."""
    path = make(tmp_path / f"a.{ending}", codecs=codecs, rate=48000)
    clip = read(path, size=(16, 18), fps=7, channels=1)
    assert clip.frames.shape[1:] == (16, 18, 3)
    assert len(clip.frames) in (14, 15)  # 15 where the picture starts a frame late
    assert clip.waveform.shape == (1, round(len(clip.frames) / 7 * 16000))
    shown = np.floor(clip.times * 25 + 1e-6) / 25  # the frame on screen at n / 7
    assert np.abs(grey(clip) - (20 + 100 * shown))[:14].max() < 4 + 4 * (len(clip.frames) - 14)
    spectrum = np.abs(np.fft.rfft(clip.waveform[0, 8000:24000]))
    assert spectrum.argmax() == 440
    info = probe(path)
    assert (info.width, info.height, info.sample_rate, info.channels) == (64, 48, 48000, 2)
    assert info.seconds == pytest.approx(2, abs=0.1)


def test_variable_frame_rate_is_sampled_by_presentation_time(tmp_path):
    """Oracle: for each grid time, the last frame whose time is not after it, found by a slow loop."""
    times = np.cumsum([0, 0.04, 0.04, 0.3, 0.02, 0.02, 0.02, 0.5, 0.1, 0.04, 0.2, 0.04])
    value = {round(t, 3): 20 + 18 * k for k, t in enumerate(times)}
    path = make(
        tmp_path / "v.mkv",
        times=times,
        codecs=("libx264", "flac"),
        picture=lambda t: np.full((48, 64, 3), value[round(t, 3)], np.uint8),
        seconds=1.6,
    )
    clip = read(path, size=8, fps=11)
    wanted = []
    for t in clip.times:
        wanted.append([value[round(s, 3)] for s in times if s <= t + 1e-3][-1])
    assert len(clip.frames) >= 14
    assert np.abs(grey(clip) - wanted).max() < 4


def turned(path, matrix):
    """The mp4 with the display matrix of its first track replaced (the bytes of tkhd, not our own writer)."""
    raw = bytearray(path.read_bytes())
    at = raw.find(b"tkhd") + 44
    raw[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1, (1, 2))),  # clockwise
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2, (1, 2))),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1, (1, 2))),
        ((-1, 0, 0, 1), lambda x: x[:, :, ::-1]),  # mirrored
    ],
)
def test_orientation_flag(tmp_path, matrix, upright):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:12, :20] = 255, 0, 0
    image[30:, 50:] = 0, 0, 255
    path = make(tmp_path / "r.mp4", picture=lambda t: image, seconds=0.4)
    plain = read(path).frames
    a, b, c, d = (65536 * m for m in matrix)
    turned(path, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    assert np.array_equal(read(path).frames, upright(plain))


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 192000])
def test_resampling_keeps_pitch_phase_and_level(tmp_path, rate):
    """Oracle: the sine itself, sampled at 16 kHz."""
    t = np.arange(round(1.5 * rate)) / rate
    write_wav(tmp_path / "s.wav", 0.5 * np.sin(2 * np.pi * 1000 * t)[None], rate)
    cv2.imwrite(str(tmp_path / "s.png"), np.full((9, 7, 3), 90, np.uint8))
    clip = read(tmp_path / "s.wav", fps=4)
    wanted = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(24000) / 16000)
    assert clip.waveform.shape == (1, 24000)
    assert np.abs(clip.waveform[0] - wanted)[200:-200].max() < 2e-3
    assert clip.frames.shape == (6, 9, 7, 3)
    assert (clip.frames == 90).all()


def test_five_channels_are_mixed_by_place(tmp_path):
    """Known answer: each speaker plays its own frequency; left holds left, centre at -3 dB of it, no LFE."""
    tones = {"FL": 300, "FR": 500, "FC": 700, "LFE": 60, "BL": 1100, "BR": 1300}
    path = make(
        tmp_path / "s.mkv",
        codecs=("libx264", "flac"),
        layout="5.1",
        rate=48000,
        sound=lambda t: 0.9 * np.stack([np.sin(2 * np.pi * f * t) for f in tones.values()]),
    )
    assert read(path, size=8).waveform.shape[0] == 6
    left, right = (
        {name: 2 * np.abs(np.fft.rfft(x[:16000]))[f] / 16000 / 0.9 for name, f in tones.items()}
        for x in read(path, size=8, channels=2).waveform
    )
    whole, side = 1 / (1 + 2**0.5), 0.5**0.5 / (1 + 2**0.5)
    for got, near, far in ((left, ("FL", "BL"), ("FR", "BR")), (right, ("FR", "BR"), ("FL", "BL"))):
        assert got[near[0]] == pytest.approx(whole, abs=0.01)
        assert got[near[1]] == pytest.approx(side, abs=0.01)
        assert got["FC"] == pytest.approx(side, abs=0.01)
        assert max(got["LFE"], got[far[0]], got[far[1]]) < 0.01
    mono, stereo = read(path, size=8, channels=1).waveform, read(path, size=8, channels=2).waveform
    assert np.allclose(mono[0], stereo.mean(axis=0), atol=1e-6)


def test_eight_planar_channels_and_a_change_to_them(tmp_path):
    """Both once ended the process: PyAV's `to_ndarray` reads behind the eighth plane."""
    tones = 200 + 100 * np.arange(8)
    path = make(
        tmp_path / "a.ts", layout="7.1", rate=48000, sound=lambda t: 0.5 * np.sin(2 * np.pi * tones[:, None] * t)
    )
    waveform = read(path, size=8).waveform
    assert waveform.shape[0] == 8
    heard = [np.abs(np.fft.rfft(x[8000:24000])).argmax() for x in waveform]
    assert heard[:3] + heard[4:] == [*tones[:3], *tones[4:]]  # AAC keeps only the lowest of the LFE
    make(tmp_path / "b.ts", rate=48000)
    (tmp_path / "c.ts").write_bytes((tmp_path / "b.ts").read_bytes() + path.read_bytes())
    clip, notes = decode(tmp_path / "c.ts", size=8)
    assert clip.waveform.shape[0] == 2
    assert "damaged" in notes[0]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("starts", [(0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
def test_streams_that_start_apart_stay_in_sync(tmp_path, ending, starts):
    """A click and a flash at the same presentation time are found within one frame of each other."""
    moment = 1.21

    def flash(t):
        return np.full((48, 64, 3), 255 if 0 <= t + starts[0] - moment < 0.2 else 0, np.uint8)

    def click(t):
        return 0.9 * (np.abs(t + starts[1] - moment - 0.005) < 0.005)[None].repeat(2, 0)

    path = make(tmp_path / f"o.{ending}", picture=flash, sound=click, starts=starts, seconds=2.4)
    clip = read(path, size=8, fps=25)
    seen = (grey(clip) > 128).argmax() / clip.fps
    heard = (np.abs(clip.mono()) > 0.2).argmax() / clip.sample_rate
    flashed = starts[0] + np.ceil((moment - starts[0]) * 25) / 25  # the first frame that is bright
    assert abs((seen - heard) - (flashed - moment)) <= 1 / clip.fps
    if ending != "ts":  # which is free to begin at any second, so only the difference counts
        assert abs(seen - moment) <= 1 / clip.fps + 0.025
    if starts[1] and ending != "ts":
        assert np.abs(clip.waveform[:, : int(0.27 * 16000)]).max() < 1e-3


@pytest.mark.parametrize("pix_fmt", ["yuv422p10le", "gray", "yuv444p", "yuvj420p", "rgb24", "yuva420p", "gray16le"])
def test_odd_pixel_formats(tmp_path, pix_fmt):
    codecs = {"rgb24": ("png", "pcm_s16le"), "yuvj420p": ("mjpeg", "pcm_s16le")}.get(pix_fmt, ("ffv1", "pcm_s16le"))
    path = make(
        tmp_path / ("p.mov" if pix_fmt == "rgb24" else "p.mkv"),
        codecs=codecs,
        pix_fmt=pix_fmt,
        picture=lambda t: np.full((48, 64, 3), 150, np.uint8),
        seconds=0.6,
    )
    assert probe(path).pixel_format == pix_fmt
    assert np.abs(read(path, size=12).frames.astype(int) - 150).max() <= 4


def test_odd_sizes_and_fits(tmp_path):
    image = np.zeros((33, 77, 3), np.uint8)
    image[:, 22:55] = 200  # the middle square is grey, the sides are black
    path = make(
        tmp_path / "z.mkv", codecs=("ffv1", "flac"), pix_fmt="bgr0", size=(33, 77), picture=lambda t: image, seconds=0.4
    )
    assert read(path).frames.shape == (10, 33, 77, 3)
    assert (read(path, size=11, fit="crop").frames == 200).all()
    padded = read(path, size=(77, 77), fit="pad").frames
    assert (padded[:, :22] == 0).all()
    assert np.array_equal(padded[:, 22:55], read(path).frames)
    stretched = read(path, size=(33, 7)).frames
    assert np.array_equal(stretched[0], cv2.resize(image, (7, 33), interpolation=cv2.INTER_AREA))
    with pytest.raises(ValueError, match="stretch"):
        read(path, fit="zoom")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mpg", "avi"])
def test_a_range_equals_that_part_of_the_whole(tmp_path, ending):
    codecs = {"mpg": ("mpeg1video", "mp2"), "avi": ("mpeg4", "pcm_s16le")}.get(ending, ("libx264", "flac"))
    rng = np.random.default_rng(0)
    bumps = np.repeat(rng.uniform(0, 0.5, 90), 3200)  # loudness that tells the time
    path = make(
        tmp_path / f"w.{ending}",
        codecs=codecs,
        seconds=9.0,
        rate=32000,
        picture=lambda t: np.full((48, 64, 3), int(25 * t), np.uint8),
        sound=lambda t: bumps[None, : len(t)].repeat(2, 0) * np.sin(2 * np.pi * 900 * t),
    )
    whole = read(path, size=8, fps=10)
    for start in (0.0, 2.5, 6.0):
        part = read(path, size=8, fps=10, start=start, seconds=1.5)
        same = whole.window(start, 1.5)
        assert part.frames.shape == same.frames.shape
        assert np.abs(part.frames.astype(int) - same.frames).max() <= 3
        assert np.abs(part.waveform - same.waveform)[:, 200:-200].max() < 0.02
    with pytest.raises(MediaError, match=r"w\..* only 1\.\d+ s of them"):
        read(path, start=8.0, seconds=2.0, size=8, fps=10)


@pytest.mark.parametrize("lossless", [False, True])
def test_write_then_read(tmp_path, lossless):
    rng = np.random.default_rng(0)
    x = np.round(rng.uniform(-0.3, 0.3, (2, 40000)) * 32768) / 32768
    x = x if lossless else 0.5 * np.sin(2 * np.pi * 500 * np.arange(40000) / 16000)[None].repeat(2, 0)
    frames = np.linspace(0, 250, 20, dtype=np.uint8)[:, None, None, None].repeat(38, 1).repeat(54, 2).repeat(3, 3)
    clip = Clip(frames, x.astype(np.float32), fps=8, sample_rate=16000)
    back = read(write(clip, tmp_path / "c.mp4", lossless_audio=lossless))
    assert (back.fps, back.sample_rate, back.frames.shape, back.waveform.shape) == (8, 16000, frames.shape, x.shape)
    assert np.abs(back.frames.astype(int) - frames).max() <= 3
    assert np.abs(back.waveform - x)[:, 2000:-2000].max() < (1e-9 if lossless else 0.02)
    assert [p.name for p in tmp_path.iterdir()] == ["c.mp4"]


def test_write_says_what_it_cannot(tmp_path):
    frames, x = np.zeros((3, 5, 8, 3), np.uint8), np.zeros((1, 4000), np.float32)
    with pytest.raises(MediaError, match=r"even sizes, the clip has 5x8"):
        write(Clip(frames, x, 8, 16000), tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"change the ending"):
        write(Clip(frames[:, :4], x, 8, 16000), tmp_path / "a.exe")
    with pytest.raises(MediaError, match=r"lossless_audio=True"):
        write(Clip(frames[:, :4], x, 8, 12345), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_caps_are_checked_before_decoding(tmp_path, monkeypatch):
    path = make(tmp_path / "big.mkv", codecs=("ffv1", "flac"), pix_fmt="gray", size=(240, 320), seconds=0.4)
    with monkeypatch.context() as patch:
        patch.setattr(media, "MAX_PIXELS", 320 * 240 - 1)
        with pytest.raises(MediaError, match=r"big.mkv: 320x240 pixels"):
            read(path)
    with monkeypatch.context() as patch:
        patch.setattr(media, "MAX_BYTES", 500_000)
        with pytest.raises(MediaError, match=r"give a smaller size="):
            read(path)
        assert read(path, size=9).frames.shape[1] == 9
    with pytest.raises(MediaError, match=r"big.mkv: lasts 0 s, more than max_seconds=0.2"):
        decode(path, max_seconds=0.2)
    with pytest.raises(MediaError, match=r"more than max_seconds=600"):
        decode(path, seconds=36000)


def test_a_slow_file_is_stopped_by_the_deadline(tmp_path):
    path = make(tmp_path / "slow.mkv", codecs=("libx264", "flac"), seconds=4.0)
    clock = iter(range(0, 10**6, 3))  # each look at the clock is 3 s later
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media.time, "monotonic", lambda: next(clock))
        clip, notes = decode(path, size=8, deadline_seconds=120)
    assert clip.seconds < 4
    assert any("stopped after" in note for note in notes)


def test_a_playlist_in_disguise_opens_nothing_else(tmp_path, capfd):
    inner = make(tmp_path / "inner.mp4", seconds=0.4)
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inner}\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {inner.name}\n")
    for name in ("list.mp4", "concat.mp4"):
        with pytest.raises(MediaError, match="holds text, not media"):
            read(tmp_path / name)
    assert capfd.readouterr() == ("", "")  # FFmpeg keeps its log to itself


def test_two_channels_without_names_are_left_and_right(tmp_path):
    x = np.stack([np.full(8000, 0.5), np.full(8000, -0.25)])
    write_wav(tmp_path / "s.wav", x, 16000)
    cv2.imwrite(str(tmp_path / "s.png"), np.zeros((9, 7, 3), np.uint8))
    assert np.allclose(read(tmp_path / "s.wav", fps=4, channels=2).waveform, x, atol=1e-4)
    assert np.allclose(read(tmp_path / "s.wav", fps=4, channels=1).waveform, x.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("starts", [(0, 40), (30, 0)])
def test_picture_and_sound_that_never_meet(tmp_path, starts):
    path = make(tmp_path / "late.mkv", codecs=("libx264", "flac"), starts=starts, seconds=0.8)
    with pytest.raises(MediaError, match=f"the {'sound' if starts[1] else 'picture'} starts after [34]0.0 s"):
        read(path, size=8)


def test_sound_with_picture_and_its_failures(tmp_path):
    write_wav(tmp_path / "a%03d.wav", np.zeros((1, 8000)), 8000)  # FFmpeg reads such a name as a pattern
    with pytest.raises(MediaError, match=r"no video track; put a picture a%03d.png beside it"):
        read(tmp_path / "a%03d.wav")
    (tmp_path / "a%03d.JPG").write_bytes(b"no image")
    with pytest.raises(MediaError, match=r"a%03d.JPG: cannot be decoded as an image"):
        read(tmp_path / "a%03d.wav")
    cv2.imwrite(str(tmp_path / "a%03d.JPG"), np.full((30, 20, 3), 77, np.uint8))
    clip = read(tmp_path / "a%03d.wav", fps=3, seconds=0.99)
    assert clip.frames.shape == (3, 30, 20, 3)
    assert (np.abs(clip.frames.astype(int) - 77) < 3).all()


@pytest.mark.parametrize("kept", ["video", "audio"])
def test_missing_track(tmp_path, kept):
    path = make(tmp_path / "half.mkv", codecs=("libx264", None) if kept == "video" else (None, "flac"), seconds=0.5)
    with pytest.raises(MediaError, match=f"half.mkv: no {'audio' if kept == 'video' else 'video'} track"):
        read(path)


def test_probe_names_what_cannot_be_opened(tmp_path):
    (tmp_path / "zero.mp4").touch()
    for name, reason in (("no.mp4", "no such file"), (".", "a folder"), ("zero.mp4", "empty")):
        with pytest.raises(MediaError, match=reason):
            probe(tmp_path / name)

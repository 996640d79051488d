"""The player in Chromium: the frame shown against the audio clock, and what really leaves for the loudspeakers.

Neither is asked of the player. The number of a frame is written into its pixels and read from the canvas; the clock is
the AudioContext's, from the moment at which a source was started; an analyser beside the loudspeakers hears the pitch.
"""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import numpy as np
import pytest

from avlab.clip import Clip, Truth
from avlab.show.player import Player

pytestmark = pytest.mark.browser
BITS, FPS, RATE = 10, 12.0, 16000  # as many frames a second as the longest clips of the course have

HOOKS = """
const { start } = AudioBufferSourceNode.prototype, { connect } = AudioNode.prototype;
AudioBufferSourceNode.prototype.start = function (when, offset, ...rest) {
  const { context, playbackRate: { value: rate } } = this;
  window.begun = { context, when: Math.max(when, context.currentTime), offset, rate };
  return start.call(this, when, offset, ...rest);
};
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    if (!window.ear) {
      window.ear = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
      connect.call(window.ear, to);
    }
    return connect.call(this, window.ear, ...rest);
  }
  return connect.call(this, to, ...rest);
};
window.frameShown = () => { // from the pixels
  const c = document.querySelector('.stage'), g = c.getContext('2d');
  return [...Array(10).keys()].reduce((n, k) => n + (g.getImageData((k % 5 + 0.5) / 5 * c.width,
    (Math.floor(k / 5) + 0.5) / 2 * c.height, 1, 1).data[0] > 127) * 2 ** k, 0);
};
let drawn = 0; // when the browser last let pages draw
const note = () => { drawn = performance.now(); requestAnimationFrame(note); };
requestAnimationFrame(note);
window.sample = () => { // frame, clock in s, ms since the browser last let pages draw
  const { context, when, offset, rate } = window.begun, waited = performance.now() - drawn;
  const heard = offset + rate * Math.max(0, context.currentTime - (context.outputLatency || 0) - when);
  return [frameShown(), heard, waited];
};
window.pitches = () => { // Hz of what is heard, within 20 dB of the strongest
  const levels = new Float32Array(window.ear.frequencyBinCount);
  window.ear.getFloatFrequencyData(levels);
  const top = Math.max(...levels);
  return top < -80 ? [] : [...levels.keys()].filter((k) => k && levels[k] > top - 20 && levels[k] >= levels[k - 1]
    && levels[k] >= levels[k + 1]).map((k) => k * window.ear.context.sampleRate / 4096);
};
"""


def counting(seconds: float) -> Clip:
    """A clip whose frames hold their own number in black and white blocks, five beside each other in two rows."""
    numbers = np.arange(round(seconds * FPS))
    bits = (numbers[:, None] >> np.arange(BITS)) & 1
    frames = np.repeat(np.repeat(bits.reshape(-1, 2, 5) * 255, 8, axis=1), 8, axis=2).astype(np.uint8)
    wave = 0.1 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)
    return Clip(np.repeat(frames[..., None], 3, axis=3), wave[None].astype(np.float32), FPS, RATE, label="counting")


def tones(*hertz: float, seconds: float = 6.0, size: int = 32) -> Clip:
    """Pure tones, a source each, on a grey picture of 8 frames a second."""
    times, n = np.arange(round(seconds * RATE)) / RATE, round(8 * seconds)
    stems = np.stack([0.2 * np.sin(2 * np.pi * f * times) for f in hertz])[:, None].astype(np.float32)
    truth = Truth(stems=stems, sounding=np.ones((len(hertz), n), bool), factors=[{"kind": f"tone{f}"} for f in hertz])
    return Clip(np.full((n, size, size, 3), 90, np.uint8), stems.sum(0), 8.0, RATE, label="tones", truth=truth)


@pytest.fixture
def opened(tmp_path, watch):
    seen = []

    def go(player: Player, width: int = 1100):
        watched = watch()
        page = watched.page
        page.set_viewport_size({"width": width, "height": 900})
        page.add_init_script(HOOKS)
        page.goto(player.to_html(tmp_path / "player.html").as_uri())
        page.wait_for_selector(".avlab-player[data-ready]")
        seen.append(watched)
        return page

    yield go
    for watched in seen:
        assert watched.errors == []
        assert watched.outside() == []


def seconds(page) -> float:
    return float(page.get_attribute(".avlab-player", "data-time"))


def slide(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", value)


def apart(samples: list[list[float]]) -> list[float]:
    """Frames between what is shown and what is heard, 0 for the same frame."""
    return [abs(shown - int(heard * FPS + 1e-6)) for shown, heard, _ in samples]


def hears(page, wait, *hertz: float) -> None:
    """Wait until exactly these pitches are heard, within 15 Hz."""
    got: list[float] = []

    def same() -> bool:
        got[:] = page.evaluate("pitches()")
        return len(got) == len(hertz) and all(abs(a - b) < 15 for a, b in zip(got, sorted(hertz), strict=True))

    try:
        wait(page, same, f"{hertz} Hz", 4)
    except AssertionError as error:
        raise AssertionError(f"{error}; heard {[round(f) for f in got]} Hz") from None


@pytest.mark.parametrize(("speed", "long"), [("1", 20), ("0.5", 8)])
def test_the_frame_shown_is_the_frame_heard(opened, record_property, speed, long):
    page = opened(Player(counting(22)))
    page.select_option(".speed", speed)
    page.click(".play")
    page.wait_for_function("window.begun && sample()[1] > 0.1")
    samples = page.evaluate(
        "(ms) => new Promise((done) => { const all = []; const each = setInterval(() => all.push(sample()), 37);"
        "setTimeout(() => { clearInterval(each); done(all); }, ms); })",
        1000 * long,
    )
    drawing = [
        sample for sample in samples if sample[2] < 500 / FPS
    ]  # else a busy machine holds the whole browser back
    frames = apart(drawing)
    shift = [heard - (shown + 0.5) / FPS for shown, heard, _ in drawing]
    said = f"{len(frames)} samples at {speed}x: median {statistics.median(frames):g} frames, most {max(frames):g}; "
    said += f"the clock is {1000 * statistics.median(shift):.0f} ms (median) after the middle of the frame shown; "
    said += f"{len(samples) - len(drawing)} samples while the browser drew nothing"
    record_property("clock", said)
    print(said)
    assert samples[-1][1] - samples[0][1] == pytest.approx(long * float(speed), abs=1)  # the sound did go on
    assert len(drawing) > 0.9 * len(samples), said
    assert max(frames) <= 1, said
    assert statistics.median(frames) == 0, said


def test_after_a_seek_the_frame_shown_is_the_frame_heard(opened, record_property):
    page = opened(Player(counting(22)))
    page.click(".play")
    page.wait_for_function("window.begun && sample()[1] > 0.1")
    rng, samples = random.Random(0), []
    for _ in range(50):
        slide(page, ".seek", rng.uniform(0, 20))
        samples.append(page.evaluate("sample()"))
        page.wait_for_timeout(rng.uniform(0, 150))
        samples.append(page.evaluate("sample()"))
    frames = apart(samples)
    said = f"after 50 seeks: median {statistics.median(frames):g} frames, most {max(frames):g}"
    record_property("clock", said)
    print(said)
    assert max(frames) <= 1, said
    assert len({shown for shown, *_ in samples}) > 40  # it did seek


def test_stems_are_heard_alone_and_left_out(opened, wait):
    page = opened(Player(tones(500, 900), stems=True))
    page.click(".play")
    hears(page, wait, 500, 900)
    page.click("button[aria-label='solo tone500']")
    hears(page, wait, 500)
    page.click("button[aria-label='solo tone500']")
    page.click("button[aria-label='mute tone500']")
    hears(page, wait, 900)
    assert page.get_attribute("button[aria-label='mute tone500']", "aria-pressed") == "true"


def test_two_clips_side_by_side_share_time_and_take_turns_in_sound(opened, wait):
    page = opened(Player([tones(500), tones(900)], compare=True))
    assert page.locator(".stage").count() == page.locator(".sound canvas").count() == 2
    tops = page.evaluate("[...document.querySelectorAll('.stage')].map((s) => s.getBoundingClientRect().top)")
    assert tops[0] == tops[1]
    page.focus(".avlab-player")
    page.keyboard.press("Space")
    hears(page, wait, 500)
    before = seconds(page)
    page.keyboard.press("x")
    hears(page, wait, 900)
    assert seconds(page) > before
    page.click(".swap")
    hears(page, wait, 500)


def test_half_the_speed_is_an_octave_lower_and_takes_twice_as_long(opened, wait):
    page = opened(Player(tones(800)))
    page.select_option(".speed", "0.5")
    page.click(".play")
    hears(page, wait, 400)
    page.select_option(".speed", "1")
    hears(page, wait, 800)
    assert seconds(page) > 0.05


def test_a_row_is_heard_as_a_tone(opened, wait):
    page = opened(Player(tones(1000), rows={"rises": np.r_[0.0, 1.0]}))
    page.select_option(".listen", "row rises")
    page.click(".hear")
    page.click("button[aria-label='solo tone of rises']")
    page.focus(".avlab-player")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    hears(page, wait, 440)
    page.click(".hear")
    hears(page, wait, 1000)


def test_attention_there_and_back(opened):
    weights = np.zeros((4, 2, 2), np.float32)
    weights[[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 1]] = 1  # moment t attends to place t alone
    page = opened(Player(tones(500, seconds=4), attention={"head": weights}))
    pixel = (
        "([x, y]) => [...document.querySelector('.stage').getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    )
    slide(page, ".opacity", 1)
    box = page.locator(".stage").bounding_box()
    corners = [(8, 8), (box["width"] - 8, 8), (8, box["height"] - 8), (box["width"] - 8, box["height"] - 8)]
    for moment in range(4):  # a moment fills the place that it attends to
        slide(page, ".seek", moment + 0.5)
        yellow = [page.evaluate(pixel, corner)[0] > 180 for corner in corners]
        assert yellow == [k == moment for k in range(4)]
    lane = (  # where the row of the place is orange, early in each moment (the cursor stands in its middle)
        "() => { const c = document.querySelector('.sound canvas'), g = c.getContext('2d');"
        "const at = (t) => g.getImageData(64 + t / 4 * (c.width - 64), c.height - 30, 1, 1).data;"
        "return [0.3, 1.3, 2.3, 3.3].map((t) => at(t)[0] - at(t)[2] > 150); }"
    )
    assert page.evaluate(lane) == [False] * 4
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])  # a place shows who attends to it
    assert page.evaluate(lane) == [False, True, False, False]
    page.focus(".stage")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".told").startswith("Place in row 2, column 2: 1.00")
    assert page.evaluate(lane)[3]
    page.keyboard.press("m")  # the moment is held while the frames go on
    page.keyboard.press("Home")
    assert page.evaluate(pixel, corners[3])[0] > 180
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate(lane) == [False] * 4
    assert page.evaluate(pixel, corners[0])[0] > 180


def test_a_selection_is_dragged_keyed_and_looped(opened, wait):
    page = opened(Player(tones(500)))
    box = page.locator(".sound canvas").bounding_box()
    x = lambda t: box["x"] + 64 + t / 6 * (box["width"] - 64)  # noqa: E731
    page.mouse.move(x(2), box["y"] + 100)
    page.mouse.down()
    page.mouse.move(x(3), box["y"] + 100, steps=4)
    page.mouse.up()
    assert page.inner_text(".told").startswith("Selected 2.0")
    page.focus(".avlab-player")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    assert page.inner_text(".told").endswith("to 2.50 s.")
    page.check(".loop")
    page.click(".play")
    times = []
    wait(
        page,
        lambda: times.append(seconds(page)) or any(b < a for a, b in pairwise(times)),
        "a loop",
    )
    assert min(times[1:]) > 1.9
    assert max(times) < 2.55
    page.click(".play")
    page.keyboard.press("Escape")
    assert page.inner_text(".told") == ""


def test_all_of_it_fits_a_narrow_window_and_hides_what_truth_knows(opened):
    clip = tones(500, 900)
    clip.caption = "two tones"
    page = opened(Player(clip, heat=np.eye(4), attention={"head": np.ones((3, 2, 2))}, rows={"row": [0, 1]},
                         flow=np.ones((48, 32, 32, 2)), stems=True), width=360)  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.inner_text(".words") == "two tones"
    page.uncheck(".truth")
    assert page.inner_text(".words") == ""
    assert page.locator(".mixer").is_hidden()
    assert page.locator(".listen option").all_inner_texts() == ["the largest heat", "row"]
    page.focus(".avlab-player")
    page.keyboard.press("?")
    assert "play or pause" in page.inner_text(".help")


@pytest.mark.parametrize(
    "clip",
    [
        Clip(np.full((1, 9, 11, 3), 50, np.uint8), np.zeros((1, 700), np.float32), 8, 8000),
        Clip(np.full((3, 9, 11, 3), 50, np.uint8), np.full((2, 60), 1e-5, np.float32), 8, 8000, label="short sound"),
    ],
)
def test_small_silent_and_unknown_clips_play(opened, wait, clip):
    page = opened(Player(clip))
    assert page.locator(".truth").is_hidden()
    page.click(".play")
    wait(page, lambda: seconds(page) == pytest.approx(clip.seconds), "the end")
    assert page.get_attribute(".play", "aria-label") == "Play"


def test_a_cell_that_is_run_again_falls_silent(opened, wait, tmp_path):
    page = opened(Player(tones(500)))
    once = "render({ model, el: places[i] });"
    text = (tmp_path / "player.html").read_text()
    assert once in text
    (tmp_path / "player.html").write_text(text.replace(once, f"window.rerun = {once}"))
    page.reload()
    page.wait_for_selector(".avlab-player[data-ready]")
    page.click(".play")
    hears(page, wait, 500)
    page.evaluate("rerun()")
    hears(page, wait)

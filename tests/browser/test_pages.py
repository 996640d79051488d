"""The player and the atlas as pages on their own, opened from disk: they play, move, draw and ask for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from avlab.clip import Clip, Truth
from avlab.show import gallery
from avlab.show.atlas import Atlas
from avlab.show.player import Player

pytestmark = pytest.mark.browser
HEAT_AT = (3, 1)  # row, column of the only hot cell of a 4 x 4 map


def clip(label: str, seconds: float = 2.0, hertz: float = 440.0) -> Clip:
    fps, rate = 8.0, 16000
    frames = np.full((int(seconds * fps), 32, 32, 3), 90, np.uint8)
    frames[:, 8:16, 8:16] = (200, 40, 40)
    masks = np.zeros((1, len(frames), 32, 32), bool)
    masks[:, :, 8:16, 8:16] = True
    wave = 0.25 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    truth = Truth(masks=masks, sounding=np.ones((1, len(frames)), bool))
    return Clip(frames, wave[None].astype(np.float32), fps, rate, label=label, truth=truth)


def pixel(page, x: float, y: float) -> list[int]:
    """RGB of the stage at a fraction of its width and height."""
    return page.evaluate(
        "([x, y]) => { const c = document.querySelector('.stage');"
        "return [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data].slice(0, 3); }",
        [x, y],
    )


def sound_pixels(page) -> str:
    return page.evaluate("document.querySelector('.sound canvas').toDataURL()")


@pytest.fixture
def player_page(tmp_path, watch):
    heat = np.zeros((16, 4, 4), np.float32)
    heat[(slice(None), *HEAT_AT)] = 1
    maps = {"hot": heat, "cold": np.zeros((4, 4), np.float32)}
    two = Player([clip("tone"), clip("other <b>tone</b>", hertz=880)], heats=[maps, None])
    watched = watch()
    watched.page.goto(two.to_html(tmp_path / "player.html", title="a </script> title").as_uri())
    watched.page.wait_for_selector(".avlab-player[data-ready]")
    yield watched
    assert watched.errors == []
    assert watched.outside() == []


def seconds(page) -> float:
    return float(page.get_attribute(".avlab-player", "data-time"))


def test_play_moves_cursor_and_clock_and_stops_at_the_end(player_page, wait):
    page = player_page.page
    before = sound_pixels(page)
    assert seconds(page) == 0
    assert page.get_attribute(".play", "aria-label") == "Play"
    page.click(".play")
    wait(page, lambda: seconds(page) > 0.3, "time to advance")
    assert sound_pixels(page) != before
    assert page.get_attribute(".play", "aria-label") == "Pause"
    wait(page, lambda: page.get_attribute(".play", "aria-label") == "Play", "the end")
    assert seconds(page) == pytest.approx(2.0)


def test_clock_runs_at_the_speed_of_the_sound(player_page, wait):
    page = player_page.page
    page.click(".play")
    wait(page, lambda: seconds(page) > 0.1, "time to advance")
    measure = "() => [performance.now() / 1000, +document.querySelector('.avlab-player').dataset.time]"
    wall0, clock0 = page.evaluate(measure)
    page.wait_for_timeout(1000)
    wall1, clock1 = page.evaluate(measure)
    assert clock1 - clock0 == pytest.approx(wall1 - wall0, abs=0.15)


def test_heat_is_drawn_over_the_picture_and_follows_opacity_and_choice(player_page, wait):
    page = player_page.page
    hot = ((HEAT_AT[1] + 0.5) / 4, (HEAT_AT[0] + 0.5) / 4)
    plain = pixel(page, 0.9, 0.1)
    assert max(abs(v - 90) for v in plain) < 6  # nothing hot there: the frame shines through
    red, green, blue = pixel(page, *hot)
    assert red > 180
    assert green > 180
    assert blue < 100  # the hot end of viridis, yellow
    page.evaluate("const o = document.querySelector('.opacity'); o.value = 0; o.dispatchEvent(new Event('input'))")
    assert max(abs(v - 90) for v in pixel(page, *hot)) < 6
    page.evaluate("const o = document.querySelector('.opacity'); o.value = 1; o.dispatchEvent(new Event('input'))")
    page.select_option(".layer", "cold")
    assert max(abs(v - 90) for v in pixel(page, *hot)) < 6


def test_truth_outline_can_be_taken_away(player_page):
    page = player_page.page
    corner = (0.25, 0.375)  # on the left edge of the true square
    assert min(pixel(page, *corner)) > 200
    page.uncheck(".truth")
    assert min(pixel(page, *corner)) < 150


def test_keyboard(player_page, wait):
    page = player_page.page
    page.focus(".avlab-player")
    for key, wanted in (("ArrowRight", 0.125), ("ArrowRight", 0.25), ("ArrowLeft", 0.125), ("End", 2.0), ("Home", 0)):
        page.keyboard.press(key)
        assert seconds(page) == pytest.approx(wanted, abs=0.002), key
    page.keyboard.press("Space")
    wait(page, lambda: seconds(page) > 0.2, "time to advance")
    page.keyboard.press("Space")
    assert page.get_attribute(".play", "aria-label") == "Play"
    focus = "getComputedStyle(document.querySelector('.avlab-player')).outlineStyle"
    assert page.evaluate(focus) == "solid"


def test_seek_by_click_loop_and_second_clip(player_page, wait):
    page = player_page.page
    box = page.locator(".sound canvas").bounding_box()
    page.mouse.click(box["x"] + 54 + (box["width"] - 54) * 0.75, box["y"] + box["height"] / 2)
    assert seconds(page) == pytest.approx(1.5, abs=0.02)
    page.check(".avlab-player input[type=checkbox] >> nth=0")
    page.click(".play")
    wait(page, lambda: 0.05 < seconds(page) < 1.0, "the loop to begin again")
    page.select_option(".clip", index=1)
    page.wait_for_selector(".stage[aria-label^=other]")
    assert page.locator(".avlab-player b").count() == 0  # a title is text, whatever it holds
    assert page.locator(".layer").is_hidden()


def test_nothing_plays_by_itself(player_page):
    page = player_page.page
    page.wait_for_timeout(400)
    assert seconds(page) == 0


def test_a_clip_chosen_while_playing_begins_at_its_start(player_page, wait):
    page = player_page.page
    page.click(".play")
    wait(page, lambda: seconds(page) > 0.5, "time to advance")
    page.evaluate(  # play is pressed before the new clip is decoded: it must come all the same
        "() => { const choice = document.querySelector('.clip'); choice.selectedIndex = 1;"
        "choice.dispatchEvent(new Event('change')); document.querySelector('.play').click(); }"
    )
    page.wait_for_selector(".stage[aria-label^=other]")
    assert seconds(page) < 0.4


def test_frames_of_a_size_that_is_no_multiple_of_8_do_not_bleed(tmp_path, watch):
    frames = np.zeros((5, 29, 37, 3), np.uint8)
    frames[0], frames[1] = (250, 250, 250), (5, 5, 5)  # neighbours in the sprite
    odd = Clip(frames, np.zeros((1, 8000), np.float32), fps=5, sample_rate=8000, label="odd")
    watched = watch()
    page = watched.page
    page.goto(Player(odd).to_html(tmp_path / "odd.html").as_uri())
    page.wait_for_selector(".avlab-player[data-ready]")
    for x, y in ((0, 0), (0.999, 0), (0, 0.999), (0.999, 0.999)):
        assert min(pixel(page, x, y)) >= 247
    page.focus(".avlab-player")
    page.keyboard.press("ArrowRight")
    for x, y in ((0, 0), (0.999, 0), (0, 0.999), (0.999, 0.999)):
        assert max(pixel(page, x, y)) <= 8
    assert watched.errors == []


def test_two_views_of_one_player_follow_each_other_and_one_sounds(tmp_path, watch, wait):
    path = Player(clip("tone")).to_html(tmp_path / "views.html")
    once = "render({ model, el: places[i] });"
    page = path.read_text()
    assert once in page
    path.write_text(page.replace(once, once + once.replace("places[i]", "document.body")))
    watched = watch()
    page = watched.page
    page.goto(path.as_uri())
    wait(page, lambda: page.locator(".avlab-player[data-ready]").count() == 2, "both views")
    first, second = (page.locator(".avlab-player").nth(i) for i in range(2))
    first.locator(".play").click()
    wait(page, lambda: float(second.get_attribute("data-time")) > 0.6, "the other view to follow")
    assert [view.locator(".play").get_attribute("aria-label") for view in (first, second)] == ["Pause", "Play"]
    second.locator(".play").click()
    page.wait_for_timeout(400)
    assert [view.locator(".play").get_attribute("aria-label") for view in (first, second)] == ["Play", "Pause"]
    assert watched.errors == []


def test_each_row_of_a_gallery_plays_its_own_clip_and_only_one_sounds(tmp_path, watch, wait):
    watched = watch()
    page = watched.page
    page.goto(gallery.gallery(["bottle"], size=16).to_html(tmp_path / "world.html").as_uri())
    wait(page, lambda: page.locator(".avlab-player[data-ready]").count() == 2, "a player a row")
    views = [page.locator(".avlab-player").nth(i) for i in range(2)]
    assert page.locator("section h3").all_inner_texts() == ["bottle", "bottle, another fill"]
    views[0].locator(".play").click()
    wait(page, lambda: float(views[0].get_attribute("data-time")) > 0.3, "time to advance")
    assert float(views[1].get_attribute("data-time")) == 0
    views[1].locator(".play").click()
    wait(page, lambda: float(views[1].get_attribute("data-time")) > 0.3, "the other to play")
    assert [view.locator(".play").get_attribute("aria-label") for view in views] == ["Play", "Pause"]
    shapes = page.evaluate("[...document.querySelectorAll('.stage')].map((c) => c.clientWidth / c.clientHeight)")
    assert shapes[0] > 2.9
    assert 1.9 < shapes[1] < 2.3
    assert watched.errors == []
    assert watched.outside() == []


def test_a_clip_that_cannot_be_shown_says_so(tmp_path, watch):
    broken = Player([clip("good"), clip("bad")])
    broken.clips = [broken.clips[0], broken.clips[1] | {"sprite": b"no picture"}]
    watched = watch()
    page = watched.page
    page.goto(broken.to_html(tmp_path / "broken.html").as_uri())
    page.wait_for_selector(".avlab-player[data-ready]")
    page.select_option(".clip", index=1)
    page.wait_for_selector("text=This clip cannot be shown")
    assert watched.errors == []  # said on the page, not lost in the console


def test_every_control_is_named(player_page):
    page = player_page.page
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas')].filter((n) => !n.getAttribute('aria-label') &&"
        "!n.closest('label')?.textContent).map((n) => n.outerHTML)"
    )
    assert nameless == []


def test_atlas_shows_plays_and_marks(tmp_path, watch, wait):
    rng = np.random.default_rng(0)
    clips = [clip(kind, seconds=1, hertz=300 + 50 * i) for i, kind in enumerate(["bell", "bird", "drop"] * 4)]
    visual = rng.normal(size=(12, 7))
    watched = watch()
    page = watched.page
    page.goto(Atlas(visual + 0.01, visual, clips).to_html(tmp_path / "atlas.html").as_uri())
    page.wait_for_selector(".avlab-atlas[data-ready]")
    image = "document.querySelector('.map').toDataURL()"
    before = page.evaluate(image)
    page.focus(".map")
    page.keyboard.press("ArrowRight")
    assert "sound of bell 0. Its own picture is neighbour 1." in page.inner_text(".said")
    assert page.evaluate(image) != before
    assert page.get_attribute(".avlab-atlas", "data-heard") is None  # no sound before it is asked for
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert "sight of drop 11." in page.inner_text(".said")
    page.keyboard.press("Enter")
    wait(page, lambda: page.get_attribute(".avlab-atlas", "data-heard") == "11", "the sound")
    assert "Nearest: drop 11" in page.inner_text(".said")
    page.click(".hear")
    box = page.locator(".map").bounding_box()
    for x in range(0, int(box["width"]), 12):  # sweep the mouse until it meets other points
        for y in range(0, int(box["height"]), 60):
            page.mouse.move(box["x"] + x, box["y"] + y)
    wait(page, lambda: page.get_attribute(".avlab-atlas", "data-heard") != "11", "a sound on hover")
    assert watched.errors == []
    assert watched.outside() == []

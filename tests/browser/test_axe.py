"""axe-core on every page that avlab writes: no serious violation, at a desk's width and a phone's."""

from __future__ import annotations

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from test_pages import clip

from avlab.show import gallery
from avlab.show.atlas import Atlas
from avlab.show.player import Player
from avlab.world import World

pytestmark = pytest.mark.browser


def serious(page, within: str | None = None) -> list[str]:
    """What axe-core calls serious or critical: rule, what it asks for, and the first place."""
    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html'][:200]} ({len(rule['nodes'])} places)"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def write_player(folder):
    return Player([clip("tone"), clip("other", hertz=880)]).to_html(folder / "player.html")


def write_full_player(folder):
    """All that a player can have: heat, attention, a row of its own, flow, onsets, stems."""
    scene = World("L3", kinds=["bird", "drum"], seconds=1.0).clip(4)
    attention = np.random.default_rng(0).random((4, 3, 3))
    player = Player(scene, heat=np.eye(4), attention=attention, rows={"level": [0, 1, 0.5]}, stems=True)
    return player.to_html(folder / "full.html")


def write_two_players(folder):
    return Player([clip("tone"), clip("other", hertz=880)], compare=True).to_html(folder / "compare.html")


def write_atlas(folder):
    clips = [clip("tone"), clip("other", hertz=880), clip("tone", hertz=220)]
    points = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.5], [0.2, 0.2, 1.0]]
    return Atlas(points, points[::-1], clips).to_html(folder / "atlas.html")


def write_gallery(folder):
    return gallery.Gallery(gallery.things(["bar", "bird"])).to_html(folder / "world.html")


@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("written", [write_player, write_full_player, write_two_players, write_atlas, write_gallery])
def test_no_serious_violation(written, width, tmp_path, watch):
    watched = watch()
    watched.page.set_viewport_size({"width": width, "height": 900})
    watched.page.goto(written(tmp_path).as_uri())
    watched.page.wait_for_selector("[data-ready]")
    assert serious(watched.page) == []


@pytest.mark.notebook
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("name", ["index", "00_start_here", "01_correlation"])
def test_the_site_has_no_serious_violation(name, width, course, watch):
    watched = watch(reduced_motion="reduce")
    watched.page.set_viewport_size({"width": width, "height": 900})
    watched.page.goto((course / "site" / f"{name}.html").as_uri())
    watched.page.wait_for_selector("input[type=search]")
    assert serious(watched.page) == []


def test_axe_finds_what_is_wrong(watch):
    watched = watch()
    watched.page.set_content("<main><p style='color: #999'>pale</p><button></button><img src='data:,'></main>")
    said = "\n".join(serious(watched.page))
    assert all(rule in said for rule in ("color-contrast", "button-name", "image-alt"))

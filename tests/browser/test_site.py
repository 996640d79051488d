"""The site and the slides of the lessons, opened from a folder: found by keyboard, with nothing asked of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.timeout(900)]
LESSON = "01_correlation"


@pytest.fixture
def site(course: Path, watch: Any) -> Any:
    """A page on the site's index; when the test is over nothing has failed and nothing was asked from outside."""
    watched = watch(reduced_motion="reduce")
    watched.page.goto((course / "site" / "index.html").as_uri())
    yield watched
    assert watched.errors == []
    assert watched.outside() == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in watched.requests)


def test_the_index_lists_the_lessons_and_each_page_leads_on(site):
    page = site.page
    links = page.locator("main a").evaluate_all("(all) => all.map((a) => a.getAttribute('href'))")
    assert links[:2] == ["00_start_here.html", "slides/00_start_here.html"]
    page.click("main a >> nth=0")
    page.click("a[rel=next]")
    assert page.url.endswith(f"{LESSON}.html")
    assert page.locator("details", has_text="def recall").get_attribute("open") is None  # the solution is folded
    page.click("nav >> text=Slides of this lesson")
    page.wait_for_selector(".reveal.ready")


def test_search_by_keyboard_alone_leads_to_the_section(site):
    page = site.page
    page.keyboard.press("/")
    page.keyboard.type("heterogeneity GAP")
    assert "found" in page.inner_text(".said")
    first = page.locator(".results li").first
    assert first.locator("a").inner_text() == "01 · Correlation: 3 · The heterogeneity gap"
    assert "Teaches: Heterogeneity gap" in first.inner_text()
    assert first.locator("mark").inner_text().lower() == "heterogeneity"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('li') === document.querySelector('.results li')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.press("Enter")
    page.wait_for_url("**/01_correlation.html#*")
    heading = page.locator("h2", has_text="3 · The heterogeneity gap")
    page.wait_for_function("(h) => Math.abs(h.getBoundingClientRect().top) < 100", arg=heading.element_handle())


def test_search_says_when_nothing_is_found_and_forgets_on_escape(site):
    page = site.page
    page.fill("input[type=search]", "xylophonist <img src=x onerror=alert(1)>")
    assert page.inner_text(".said") == "Nothing found."
    page.fill("input[type=search]", "recall_at_k")
    assert page.locator(".results li").count() > 0
    page.focus("input[type=search]")
    page.keyboard.press("Escape")
    assert page.locator(".results li").count() == 0
    assert page.input_value("input[type=search]") == ""


def test_the_site_fits_a_narrow_window(site):
    page = site.page
    page.set_viewport_size({"width": 360, "height": 640})
    page.fill("input[type=search]", "survey")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", ["00_start_here", LESSON])
def test_slides_are_read_with_the_arrow_keys_and_nothing_is_cut_off(course, watch, name):
    watched = watch()
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto((course / "site" / "slides" / f"{name}.html").as_uri())
    page.wait_for_selector(".reveal.ready")
    total = page.evaluate("Reveal.getTotalSlides()")
    assert total >= 15
    for place in range(total):
        seen = page.evaluate("""() => {
          const slide = document.querySelector("section.present"), box = slide.getBoundingClientRect();
          const low = Math.max(...[...slide.children].map((c) => c.getBoundingClientRect().bottom));
          const images = [...slide.querySelectorAll("img")];
          return { title: slide.querySelector("h1, h2").textContent, over: low - box.bottom,
                   bare: images.filter((i) => !i.alt || !i.clientHeight).length, text: slide.innerText };
        }""")
        assert seen["title"], place
        assert seen["over"] <= 1, (place, seen)
        assert seen["bare"] == 0, (place, seen)
        assert "NotImplementedError" not in seen["text"]
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")
    assert watched.errors == []
    assert watched.outside() == []

"""What readers get: every page in headless Chromium, with all other hosts cut off."""

from __future__ import annotations

import time

import pytest

from support.browser import (
    becomes_true,
    faint_text,
    load_faults,
    search_results,
    sideways_scroll,
    visit,
)

pytestmark = pytest.mark.browser

RIGHT_ARROW = "\ue014"
THEME = "return document.documentElement.dataset.theme"
PRESS = "document.querySelector('.theme-switch-button').click(); " + THEME
SIDEBAR = """const e = document.querySelector('#pst-primary-sidebar, .bd-sidebar-primary');
  const modal = document.querySelector('#pst-primary-sidebar-modal')?.open;
  return [Math.round(e.getBoundingClientRect().left), getComputedStyle(e).visibility, modal]"""
START = """<!doctype html><html lang="en"><head><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"></head><body><p>text</p>"""


@pytest.fixture(scope="module")
def widget_page(pages) -> str:
    """A page with a slider."""
    return next(name for name, page in pages.items() if page.select_one(".sparsity-demo"))


@pytest.fixture
def planted(serve, tmp_path):
    """Address of a folder with a sound page and, beside it, one with the given fault."""

    def plant(fault: str) -> str:
        (tmp_path / "sound.html").write_text(START)
        (tmp_path / "fault.html").write_text(START + fault)
        return serve(tmp_path)

    return plant


def test_page_works_offline(chromium, base, page):
    assert load_faults(chromium, base, page) == []


def test_page_is_readable_in_both_themes(chromium, base, page):
    visit(chromium, base + page)
    assert [faint_text(chromium, theme) for theme in ("light", "dark")] == [[], []]


def test_page_fits_a_phone(phone, base, page):
    visit(phone, base + page)
    assert sideways_scroll(phone) == 0


def test_front_door_opens_the_book(chromium, base):
    chromium.get(base)
    assert becomes_true(chromium, "return location.pathname == '/book/index.html'")


def test_home_page_leads_to_every_chapter(pages, site):
    home = pages["book/index.html"]
    linked = {a["href"].partition("#")[0] for a in home.select("a[href]")}
    sources = (site / "_sources" / "book").rglob("*.md")
    names = {
        p.relative_to(site / "_sources" / "book").with_suffix(".html").as_posix() for p in sources
    }
    assert names - linked - {"index.html"} == set()


def test_slider_answers_the_keyboard(chromium, base, widget_page):
    visit(chromium, base + widget_page)
    spoken = chromium.find_element("css selector", ".sparsity-demo [aria-live]")
    before = spoken.text
    chromium.find_element("css selector", ".sparsity-demo input").send_keys(RIGHT_ARROW)
    assert spoken.text != before


def test_slider_describes_its_mask(chromium, base, widget_page):
    visit(chromium, base + widget_page)
    label = "return document.querySelector('.sparsity-demo canvas[role=img]').ariaLabel"
    before = chromium.execute_script(label)
    chromium.find_element("css selector", ".sparsity-demo input").send_keys(RIGHT_ARROW)
    assert chromium.execute_script(label) != before


def test_slider_shows_no_more_kept_weights_than_it_counts(chromium, base, widget_page):
    visit(chromium, base + widget_page)
    wrong = chromium.execute_script("""
      const root = document.querySelector('.sparsity-demo');
      const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
      const whole = data.shape[0] * data.shape[1] === data.total;
      return data.frames.map(frame => [frame.mask.split('1').length - 1, frame.kept])
        .filter(([shown, kept]) => whole ? shown !== kept : shown > kept)""")
    assert wrong == []


def test_dark_mode_is_kept_across_pages(chromium, base):
    chromium.get(base + "book/index.html")
    chromium.execute_script("localStorage.clear()")
    chromium.refresh()
    assert becomes_true(chromium, PRESS + " == 'dark'", seconds=2)  # light, dark, as the system
    chromium.get(base + "genindex.html")
    kept = chromium.execute_script(THEME)
    chromium.execute_script("localStorage.clear()")
    assert kept == "dark"


def test_search_finds_the_chapter_of_a_word(chromium, base):
    found = search_results(chromium, base, "saliency")
    assert any("book/saliency/magnitude.html" in address for address in found)


def test_search_finds_no_word_that_is_not_there(chromium, base):
    assert search_results(chromium, base, "xyzzyplugh") == []


@pytest.mark.parametrize("screen", ["desktop", "phone"], indirect=True)
def test_sidebar_button_moves_the_sidebar(screen, base):
    visit(screen, base + "book/index.html")
    before = screen.execute_script(SIDEBAR)
    buttons = screen.find_elements("css selector", ".primary-toggle")
    [button] = [button for button in buttons if button.is_displayed()]
    button.click()
    time.sleep(1)
    assert screen.execute_script(SIDEBAR) != before


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ('<script src="https://cdn.invalid/x.js"></script>', "request to another host"),
        ('<link rel="stylesheet" href="gone.css">', "status 404"),
        ('<img src="gone.png" alt="a plot">', "broken image"),
        ("<script>console.error('oops')</script>", "console: "),
        ("<script>undefined_function()</script>", "console: "),
        ('<p class="math">\\(x^2\\)</p>', "TeX not rendered"),
        ("<mjx-merror>x</mjx-merror>", "TeX error"),
    ],
)
def test_checker_finds_a_planted_load_fault(chromium, planted, fault, complaint):
    base = planted(fault)
    assert load_faults(chromium, base, "sound.html") == []
    assert any(complaint in found for found in load_faults(chromium, base, "fault.html"))


@pytest.mark.parametrize(
    ("style", "n_faint"),
    [
        ("color: #000", 0),
        ("color: #777", 1),  # 4.48 on white
        ("color: #767676", 0),  # 4.54 on white
        ("color: #949494; font-size: 24px", 0),  # 3.03: enough for large text
        ("color: #fff; background: #777", 1),
        ("color: rgb(0 0 0 / 50%)", 1),
        ("color: #000; opacity: .4", 1),
    ],
)
def test_checker_finds_planted_faint_text(chromium, planted, style, n_faint):
    chromium.get(planted(f'<p style="{style}">words</p>') + "fault.html")
    assert len(faint_text(chromium, "light")) == n_faint


@pytest.mark.parametrize(("width", "scrolls"), [(300, False), (900, True)])
def test_checker_finds_a_planted_wide_page(phone, planted, width, scrolls):
    phone.get(planted(f'<div style="width:{width}px">x</div>') + "fault.html")
    assert (sideways_scroll(phone) > 0) == scrolls

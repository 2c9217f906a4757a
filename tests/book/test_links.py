"""The built pages hold together and load nothing from other hosts. Needs no browser."""

from __future__ import annotations

import pytest

from support.site import (
    broken_links,
    built_chapters,
    code_cells,
    outside_resources,
    outside_style,
    printed_front_matter,
    repeated_ids,
    undescribed_images,
)

pytestmark = pytest.mark.book


def links_broken_among(pages):
    return broken_links(pages, pages.__contains__)


def test_every_link_leads_somewhere(site, pages):
    assert broken_links(pages, lambda name: (site / name).is_file()) == []


def test_nothing_comes_from_another_host(site, pages):
    assert outside_resources(pages) + outside_style(site) == []


def test_every_image_is_described(pages):
    assert undescribed_images(pages) == []


def test_ids_are_unique(pages):
    assert repeated_ids(pages) == []


def test_front_matter_stays_off_the_pages(pages):
    assert printed_front_matter(pages) == []


def test_book_has_chapters(site):
    assert built_chapters(site)


def test_every_chapter_comes_with_its_notebook(site):
    names = built_chapters(site)
    assert [n for n in names if not code_cells(site / "_sources" / f"{n}.ipynb")] == []


def test_every_chapter_offers_its_notebook(site, pages):
    offer = "a[href$='.ipynb']"  # the theme's download button
    assert [n for n in built_chapters(site) if not pages[f"{n}.html"].select(offer)] == []


def test_mathjax_comes_with_its_licence(site):
    assert "Apache License" in (site / "_static/licenses/MathJax-Apache-2.0.txt").read_text()


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (links_broken_among, '<a href="gone.html">x</a>'),
        (links_broken_among, '<a href="#gone">x</a>'),
        (links_broken_among, '<a href="b.html#gone">x</a>'),
        (outside_resources, '<script src="https://cdn.invalid/x.js"></script>'),
        (outside_resources, '<img src="//cdn.invalid/x.png" alt="a plot">'),
        (undescribed_images, '<img src="x.png">'),
        (undescribed_images, '<img src="x.png" alt="  ">'),
        (undescribed_images, '<img src="x.png" alt="../_images/x.png">'),
        (repeated_ids, '<p id="twice"></p><p id="twice"></p>'),
        (printed_front_matter, "<p>home_of: refimpl.formats.csr</p>"),
    ],
)
def test_checker_finds_the_planted_fault_only(parse, check, fault):
    sound = {
        "a.html": parse('<a href="b.html#there">x</a> <a href="https://example.org">y</a>'),
        "b.html": parse('<p id="there"></p>'),
    }
    assert check(sound) == []
    assert len(check(sound | {"c.html": parse(fault)})) == 1


@pytest.mark.parametrize(
    "rule", ["src: url('https://cdn.invalid/x.woff2')", "@import '//cdn.invalid/x.css'"]
)
def test_checker_finds_an_outside_font(tmp_path, rule):
    (tmp_path / "x.css").write_text("@font-face { src: url(own.woff2); " + rule + " }")
    assert len(outside_style(tmp_path)) == 1

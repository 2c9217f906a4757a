"""The storage explorer says what refimpl.formats.storage says, in headless Chromium.

Most tests open a page of their own with the explorer's files, so they need no built book.
"""

from __future__ import annotations

import random
from fractions import Fraction
from math import floor
from pathlib import Path

import pytest

from refimpl import formats
from refimpl.masks import count_kept
from support.browser import sideways_scroll, visit

pytestmark = pytest.mark.browser

STATIC = Path(__file__).resolve().parents[2] / "book/_static"
SCRIPT = (STATIC / "storage-explorer.js").read_text("utf8")
STYLE = (STATIC / "book.css").read_text("utf8")
PAGE = """<!doctype html><html lang="en"><head><link rel="icon" href="data:,">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>{style}</style><script>{script}</script></head><body>
<div class="storage-explorer" data-rows="300" data-columns="784" data-sparsity="90">
<p>words</p></div></body></html>"""

RIGHT_ARROW = "\ue014"
VALUES = {"float64": 8, "float32": 4, "float16": 2, "int8": 1}
INDICES = {"int32": 4, "int64": 8}
BLOCKS = [(2, 2), (4, 4), (8, 8), (16, 16), (1, 16)]
SET = """const [name, value] = arguments, input = document.querySelector(`[id$=${name}]`);
  input.value = value;
  input.dispatchEvent(new Event("input", {bubbles: true}))"""
TABLE = """return [...document.querySelectorAll(".storage-explorer tbody tr")].map(row =>
  [...row.querySelectorAll("th, td:nth-child(2)")].flatMap(cell =>
    [cell.firstChild.textContent.trim(), cell.querySelector("small").textContent]))"""
SPOKEN = "return document.querySelector('.storage-explorer p').textContent"


def layer(rows, columns, percent, value="float32", index="int32", block=(4, 4)) -> dict:
    """One setting, as the script takes it."""
    setting = {"shape": [rows, columns], "percent": percent, "block": list(block)}
    return setting | {"value": value, "index": index}


def drawn_layers(n: int) -> list[dict]:
    """Settings of every kind: shapes that blocks fill and shapes that they do not."""
    rng = random.Random(0)
    sides = [1, 2, 3, 4, 16, 33, 64, 300, 784, 1000, 4096, 50_000, 1_000_000]
    percents = [f"{tenths / 10:g}" for tenths in range(1000)]
    return [
        layer(
            rng.choice(sides),
            rng.choice(sides),
            rng.choice(percents),
            rng.choice(list(VALUES)),
            rng.choice(list(INDICES)),
            rng.choice(BLOCKS),
        )
        for _ in range(n)
    ]


def kept(size: int, percent: str) -> int:
    return count_kept(size, float(Fraction(percent) / 100))


def whole(number: float) -> int:
    """The nearest whole number, halves up."""
    return floor(number + 0.5)


def refimpl_says(setting: dict) -> list[int | None]:
    """The bytes of each row of the table; None where the format cannot hold the layer."""
    shape, block = (m, n), (r, c) = tuple(setting["shape"]), tuple(setting["block"])
    nnz, b = kept(m * n, setting["percent"]), {"value_bytes": VALUES[setting["value"]]}
    both = b | {"index_bytes": INDICES[setting["index"]]}
    stored = nnz + whole(n * formats.expected_fillers(m, nnz / (m * n)))

    def fits(*counts):
        return setting["index"] == "int64" or max(counts) < 2**31

    def bsr(count):
        n_blocks = count() if m % r == n % c == 0 else None
        possible = n_blocks is not None and fits(m // r, n // c, n_blocks)
        return formats.bsr_bytes(shape, n_blocks, block, **both) if possible else None

    lists = (formats.coo_bytes, formats.csr_bytes, formats.csc_bytes)
    return [
        formats.dense_bytes(shape, **b),
        *(bytes_of(shape, nnz, **both) if fits(m, n, nnz) else None for bytes_of in lists),
        formats.bitmap_bytes(shape, nnz, **b),
        formats.relative_csc_bytes(shape, stored, **both) if fits(m, n, stored) else None,
        formats.codebook_csc_bytes(shape, stored, 15, **both) if fits(m, n, stored) else None,
        bsr(lambda: whole(formats.expected_blocks(shape, nnz, block))),
        bsr(lambda: kept(m * n // (r * c), setting["percent"])),
        formats.two_four_bytes(shape, **b) if n % 4 == 0 and 2 * nnz <= m * n else None,
    ]


def shown(setting: dict) -> list[list[str]]:
    """What the page writes for it: bytes and percentage of dense of each row."""
    sizes = refimpl_says(setting)
    shares = [None if size is None else Fraction(1000 * size, sizes[0]) for size in sizes]
    marks = ["", "", "", "", "", "≈ ", "≈ ", "≈ ", "", ""]
    return [
        ["–", "–"] if size is None else [f"{mark}{size:,}", f"{whole(share) / 10:.1f} %"]
        for size, share, mark in zip(sizes, shares, marks, strict=True)
    ]


@pytest.fixture
def explorer(chromium, serve, tmp_path):
    """Open a page with the explorer, its script perhaps changed."""

    def start(script: str = SCRIPT):
        (tmp_path / "page.html").write_text(PAGE.format(style=STYLE, script=script), "utf8")
        visit(chromium, serve(tmp_path) + "page.html")
        return chromium

    return start


def differing(browser, settings: list[dict]) -> list[dict]:
    """The settings of which the script and refimpl give other bytes."""
    script = "return arguments[0].map(s => storageExplorer.storage(s).rows.map(row => row.bytes))"
    theirs = browser.execute_script(script, settings)
    pairs = zip(settings, theirs, strict=True)
    return [setting for setting, rows in pairs if rows != refimpl_says(setting)]


def choose(browser, **inputs) -> None:
    """Set inputs by the end of their ids."""
    for name, value in inputs.items():
        browser.execute_script(SET, name, value)


# The formulas


def test_script_counts_the_bytes_that_refimpl_counts(explorer):
    assert differing(explorer(), drawn_layers(1000)) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("nnz * (value + 2 * index)", "nnz * (value + index)"),
        ("(m + 1) * index", "m * index"),
        ("csrBytes([n, m]", "csrBytes([m, n]"),
        ("Math.ceil(n / 8)", "n / 8"),
        ("(m / r + 1)", "(m + 1)"),
        ("Math.ceil(n / 32)", "n / 32"),
        ("Math.ceil(stored / 2)", "stored / 2"),
        ("nValues * value", "nValues"),
        ("zeros - i", "zeros"),
        ("zeros = 16;", "zeros = 15;"),
        ("2n * BigInt(whole", "1n * BigInt(whole"),
        ("2 ** 31 - 1", "2 ** 32 - 1"),
        ("2 * nnz > size", "2 * nnz >= size"),
    ],
)
def test_comparison_finds_a_planted_fault(explorer, right, wrong):
    assert SCRIPT.count(right) == 1
    assert differing(explorer(SCRIPT.replace(right, wrong)), drawn_layers(1000)) != []


@pytest.mark.parametrize("percent", ["0", "0.1", "14.5", "29", "50", "83.3", "99.9"])
def test_script_rounds_kept_counts_as_refimpl_does(explorer, percent):
    script = "return arguments[0].map(size => storageExplorer.countKept(size, arguments[1]))"
    sizes = [*range(301), 10**6 + 500, 10**12]
    theirs = explorer().execute_script(script, sizes, percent)
    assert theirs == [kept(size, percent) for size in sizes]


# The page


@pytest.mark.parametrize(
    "setting",
    [
        layer(300, 784, "90"),
        layer(300, 784, "0"),
        layer(3, 3, "55.6"),
        layer(5, 1, "50"),
        layer(1000, 10, "80", "int8"),
        layer(4096, 4096, "50", "float16", block=(16, 16)),
        layer(64, 96, "97.5", "float64", "int64", (1, 16)),
        layer(1_000_000, 1_000_000, "99.9"),
    ],
    ids=lambda s: "{}x{}".format(*s["shape"]),
)
def test_table_shows_what_refimpl_counts(explorer, setting):
    browser, (rows, columns) = explorer(), setting["shape"]
    r, c = setting["block"]
    choose(browser, rows=rows, columns=columns, sparsity=setting["percent"])
    choose(browser, values=setting["value"], indices=setting["index"], blocks=f"{r} × {c}")
    numbers = [cells[2:] for cells in browser.execute_script(TABLE)]
    assert numbers == shown(setting)


@pytest.mark.parametrize(
    ("sparsity", "sentence"),
    [
        (
            "90",
            "23,520 of 235,200 weights kept. Smallest for any mask: bitmap, 123,480 bytes, "
            "13.1 % of dense; for whole blocks: BSR, 100,264 bytes, 10.7 % of dense.",
        ),
        (
            "0",
            "235,200 of 235,200 weights kept. Smallest for any mask: dense, 940,800 bytes, "
            "100.0 % of dense.",
        ),
    ],
)
def test_sentence_names_the_smallest_formats(explorer, sparsity, sentence):
    browser = explorer()
    choose(browser, sparsity=sparsity)
    assert browser.execute_script(SPOKEN) == sentence


def test_smallest_format_is_the_least_of_the_exact_sizes(explorer):
    script = """return arguments[0].map(s => {
      const rows = storageExplorer.storage(s).rows;
      return rows.indexOf(storageExplorer.smallest(rows)) })"""
    settings = drawn_layers(300)
    exact = {"dense": 0, "COO": 1, "CSR": 2, "CSC": 3, "bitmap": 4, "BSR": 8, "2:4": 9}.values()
    sizes = [refimpl_says(setting) for setting in settings]
    best = [min((i for i in exact if row[i] is not None), key=row.__getitem__) for row in sizes]
    assert explorer().execute_script(script, settings) == best


@pytest.mark.parametrize("value", ["", "0", "-1", "2.5", "1000001"])
def test_impossible_size_hides_the_table_and_says_why(explorer, value):
    browser = explorer()
    choose(browser, rows=value)
    assert "whole numbers from 1 to 1,000,000" in browser.execute_script(SPOKEN)
    assert not browser.find_element("css selector", ".storage-explorer tbody").is_displayed()


def test_table_comes_back_after_an_impossible_size(explorer):
    browser = explorer()
    before = browser.execute_script(TABLE)
    choose(browser, rows="0")
    choose(browser, rows="300")
    assert browser.execute_script(TABLE) == before
    assert browser.find_element("css selector", ".storage-explorer tbody").is_displayed()


def test_sparsity_answers_the_keyboard(explorer):
    browser = explorer()
    browser.find_element("css selector", "input[type=range]").send_keys(RIGHT_ARROW)
    numbers = [cells[2:] for cells in browser.execute_script(TABLE)]
    assert numbers == shown(layer(300, 784, "90.1"))


def test_every_input_has_a_name(explorer):
    inputs = explorer().find_elements("css selector", ".storage-explorer :is(input, select)")
    names = [control.accessible_name for control in inputs]
    assert names == ["Rows", "Columns", "Sparsity", "Values", "Indices", "Blocks of BSR"]


@pytest.mark.parametrize("screen", ["desktop", "phone"], indirect=True)
def test_explorer_takes_the_room_that_was_kept_for_it(screen, explorer):
    height = "return document.querySelector('.storage-explorer').offsetHeight"
    explorer()
    with_table = screen.execute_script(height)
    explorer(script="")
    assert screen.execute_script(height) == with_table


def test_words_for_readers_without_javascript_leave_no_gap(chromium, explorer):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        explorer()
        [box] = chromium.find_elements("css selector", ".storage-explorer")
        words, height = box.text, box.size["height"]
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert words == "words"
    assert height < 200


def test_widest_table_fits_a_phone(phone, explorer):
    explorer()
    choose(phone, rows=1_000_000, columns=1_000_000, sparsity=0, values="float64")
    assert sideways_scroll(phone) == 0


# In the book


def test_book_shows_the_explorer_of_a_layer(chromium, base):
    visit(chromium, base + "book/formats/storage.html")
    numbers = [cells[2:] for cells in chromium.execute_script(TABLE)]
    assert numbers == shown(layer(300, 784, "90"))


def test_book_says_the_same_numbers_without_javascript(pages):
    [explorer] = pages["book/formats/storage.html"].select(".storage-explorer")
    words = explorer.get_text()
    numbers = refimpl_says(layer(300, 784, "90"))
    assert all(f"{number:,}" in words for number in numbers[:3] + numbers[4:5])

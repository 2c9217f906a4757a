"""What can be wrong with built pages, found without a browser."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

TAGS = ("a", "link", "img", "script", "iframe", "source", "video", "audio", "object", "embed")
KEYS = ("href", "src", "data", "poster")
INLINE = ("data:", "mailto:", "javascript:")
# A plot without `image: alt:` metadata gets its file's path as alt text.
PATH_LIKE = re.compile(r"\.(png|svg|jpe?g|gif|webp)$", re.I)
# sphinx-proof and sphinx-exercise give all their boxes the same ids; nothing links to them.
KNOWN_REPEATED = {"proof-content", "exercise-content", "solution-content"}
STYLE_ADDRESS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)")


def page_names(folder: Path) -> list[str]:
    """Paths of all pages, relative to the site."""
    files = (path.relative_to(folder) for path in folder.rglob("*.html"))
    return sorted(path.as_posix() for path in files if "_static" not in path.parts)


def addresses(page) -> Iterator[tuple]:
    """Every tag that names another file, with the address it names."""
    for tag in page.find_all(TAGS):
        for key in KEYS:
            address = tag.get(key)
            if address and not address.startswith(INLINE):
                yield tag, address


def is_outside(address: str) -> bool:
    """Tell an address on another host."""
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def anchors(page) -> set[str]:
    """What a link into the page can point to."""
    names = {tag["name"] for tag in page.find_all("a", attrs={"name": True})}
    return names | {tag["id"] for tag in page.find_all(id=True)}


def broken_links(pages: dict, exists: Callable[[str], bool]) -> list[str]:
    """Links inside the book to a file or an id that is not there."""
    ids = {name: anchors(page) for name, page in pages.items()}
    inside = [
        (name, address)
        for name, page in pages.items()
        for _, address in addresses(page)
        if not is_outside(address)
    ]
    return [
        f"{name}: {address}: {fault}"
        for name, address in inside
        if (fault := _link_fault(name, address, ids, exists))
    ]


def _link_fault(name: str, address: str, ids: dict, exists: Callable[[str], bool]) -> str | None:
    parts = urlsplit(address)
    path = posixpath.join(posixpath.dirname(name), unquote(parts.path)) if parts.path else name
    target = posixpath.normpath(path)
    if not exists(target):
        return "no such file"
    if parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
        return "no such id"
    return None


def outside_resources(pages: dict) -> list[str]:
    """What a browser would fetch from another host without a click."""
    return [
        f"{name}: <{tag.name}> {address}"
        for name, page in pages.items()
        for tag, address in addresses(page)
        if tag.name != "a" and is_outside(address)
    ]


def outside_style(folder: Path) -> list[str]:
    """Fonts and images that style sheets fetch from another host."""
    sheets = {sheet.name: sheet.read_text("utf8") for sheet in folder.rglob("*.css")}
    return [
        f"{name}: {url}" for name, text in sheets.items() for url in STYLE_ADDRESS.findall(text)
    ]


def undescribed_images(pages: dict) -> list[str]:
    """Images whose alt text is missing, empty or a file name."""
    images = [(name, image) for name, page in pages.items() for image in page.find_all("img")]
    described = [(name, image, (image.get("alt") or "").strip()) for name, image in images]
    return [
        f"{name}: {image.get('src')}: alt={alt!r}"
        for name, image, alt in described
        if not alt or PATH_LIKE.search(alt)
    ]


def repeated_ids(pages: dict) -> list[str]:
    """Ids that stand twice on one page."""
    return [
        f"{name}: #{found}"
        for name, page in pages.items()
        for found, n in Counter(tag["id"] for tag in page.find_all(id=True)).items()
        if n > 1 and found not in KNOWN_REPEATED
    ]


def printed_front_matter(pages: dict) -> list[str]:
    """Pages that show readers the key by which tests find a module's home chapter."""
    return [name for name, page in pages.items() if "home_of" in page.get_text()]


def built_chapters(site: Path) -> list[str]:
    """Pages that come from a notebook."""
    sources = site / "_sources"
    with_kernel = (p for p in sources.rglob("*.md") if "\nkernelspec:" in p.read_text("utf8"))
    return sorted(p.relative_to(sources).with_suffix("").as_posix() for p in with_kernel)


def code_cells(notebook: Path) -> int:
    """How many code cells a notebook has; none if there is no notebook."""
    cells = json.loads(notebook.read_text("utf8"))["cells"] if notebook.is_file() else []
    return sum(cell["cell_type"] == "code" for cell in cells)

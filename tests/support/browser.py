"""What can be wrong with a page, seen by headless Chromium."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

PHONE = 390  # CSS pixels
LOADED = """return document.readyState == 'complete' && (!window.MathJax ||
  [...document.querySelectorAll('.math')].every(e => e.querySelector('mjx-container')))"""
FAULTS = """return [
    ...[...document.querySelectorAll('mjx-merror')].map(e => 'TeX error: ' + e.innerText),
    ...[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container'))
      .map(e => 'TeX not rendered: ' + e.innerText),
    ...[...document.images].filter(i => !i.complete || !i.naturalWidth)
      .map(i => 'broken image: ' + i.src)]"""
FAINT_TEXT = Path(__file__).with_name("faint_text.js").read_text("utf8")


def becomes_true(chromium, script: str, seconds: float = 10) -> bool:
    """Wait until a script returns something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if chromium.execute_script(script):
            return True
        time.sleep(0.05)
    return False


def network_events(chromium) -> Iterator[tuple[str, dict]]:
    """What happened on the network since the last call."""
    for entry in chromium.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        yield message["method"], message["params"]


def network_faults(chromium, base: str) -> list[str]:
    """Requests to other hosts and failed requests since the last call."""
    found = (_network_fault(base, *event) for event in network_events(chromium))
    return [fault for fault in found if fault]


def _network_fault(base: str, method: str, event: dict) -> str | None:
    if method == "Network.requestWillBeSent":
        url = event["request"]["url"]
        own = url.startswith((base, "data:", "blob:"))
        return None if own else f"request to another host: {url}"
    if method == "Network.loadingFailed":
        return f"failed request: {event.get('errorText')}"
    if method == "Network.responseReceived" and event["response"]["status"] >= 400:
        return f"status {event['response']['status']}: {event['response']['url']}"
    return None


def forget(chromium) -> None:
    """Drop what earlier pages left in the logs."""
    chromium.get("about:blank")
    chromium.get_log("performance")
    chromium.get_log("browser")


def visit(chromium, address: str) -> bool:
    """Open a page and wait for its formulas; False if they do not come."""
    chromium.get(address)
    return becomes_true(chromium, LOADED)


def load_faults(chromium, base: str, page: str) -> list[str]:
    """Everything that goes wrong while a page loads."""
    forget(chromium)
    found = [] if visit(chromium, base + page) else ["not ready within 10 s"]
    chromium.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    time.sleep(0.3)  # let late requests start
    found += network_faults(chromium, base)
    loud = [e for e in chromium.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    found += [f"console: {entry['message']}" for entry in loud]
    return found + chromium.execute_script(FAULTS)


def sideways_scroll(chromium) -> int:
    """CSS pixels by which the present page is wider than a phone."""
    return max(0, chromium.execute_script("return document.documentElement.scrollWidth") - PHONE)


def faint_text(chromium, theme: str, root: str = "body") -> list[str]:
    """Text of the present page that is hard to read in a theme, below WCAG's level AA."""
    return chromium.execute_script(FAINT_TEXT, theme, root)


def search_results(chromium, base: str, word: str) -> list[str]:
    """Addresses of the pages that the book's own search finds for a word."""
    chromium.get(f"{base}search.html?q={word}")
    found = "document.querySelector('#search-results')"
    # The script lists the pages one by one, and says so when it has come to the end.
    done = f"return /finished|did not match/.test({found}?.innerText)"
    if not becomes_true(chromium, done):
        raise TimeoutError(f"the search for {word!r} did not end")
    return chromium.execute_script(f"return [...{found}.querySelectorAll('li a')].map(a => a.href)")

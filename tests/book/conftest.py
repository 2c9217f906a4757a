"""Fixtures of the checks on the built book.

Without a built book, beautifulsoup4, selenium or Chromium these tests skip and say why;
with REFIMPL_REQUIRE_BOOK=1 (`make check-book`) they fail instead.
"""

from __future__ import annotations

import functools
import http.server
import importlib
import os
import threading
from pathlib import Path

import pytest

from support.browser import PHONE
from support.site import page_names

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("REFIMPL_BOOK_HTML", ROOT / "_build" / "html")).resolve()


def pytest_generate_tests(metafunc):
    """Run a test that takes `page` once for each built page."""
    if "page" in metafunc.fixturenames:
        # index.html only sends the reader on, to book/index.html; it has its own test.
        names = [name for name in page_names(SITE) if name != "index.html"]
        metafunc.parametrize("page", names or ["no-book"])


def absent(reason: str):
    """Skip, or fail where a book is required."""
    if os.environ.get("REFIMPL_REQUIRE_BOOK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def need(module: str, extra: str):
    """Import what an extra brings."""
    try:
        return importlib.import_module(module)
    except ImportError:
        absent(f"{module} is not installed: install the extra '{extra}'")


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built book."""
    if not (SITE / "index.html").is_file():
        absent("no built book: run make book")
    return SITE


@pytest.fixture(scope="session")
def parse():
    """Turn a page's text into a searchable tree."""
    soup = need("bs4", "book").BeautifulSoup
    return lambda text: soup(text, "html.parser")


@pytest.fixture(scope="session")
def pages(site, parse):
    """The built pages, parsed, by path."""
    return {name: parse((site / name).read_text("utf8")) for name in page_names(site)}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def serve():
    """Serve folders to this machine only: ``serve(folder)`` is an address."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def base(site, serve) -> str:
    """Address of the built book."""
    return serve(site)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Headless Chromium that can reach nothing but this machine."""
    webdriver = need("selenium.webdriver", "browser")
    binary = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    driver = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
    for path in (binary, driver):
        if not Path(path).exists():
            absent(f"no {path}: install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in chromium_arguments(tmp_path_factory.mktemp("chromium")):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()


def chromium_arguments(profile: Path) -> list[str]:
    """Command line of a browser without a screen, without a past and without other hosts."""
    arguments = [
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}",
    ]
    # As root Chromium does not start with its sandbox.
    return arguments + ["--no-sandbox"] * (os.geteuid() == 0)


@pytest.fixture
def phone(chromium):
    """The same browser with a phone's screen."""
    screen = {"width": PHONE, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield chromium
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def screen(request, chromium):
    """Desktop or phone."""
    return request.getfixturevalue("phone") if request.param == "phone" else chromium

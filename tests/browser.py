"""The system's Chromium, and a page of it that complains of nothing."""

import re
import shutil
from collections.abc import Collection, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.drawings import STROKES
from tests.processes import PATIENCE_SECONDS, SOON_SECONDS, Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
UNWANTED = [
    # Pages of the browser's own that each window loads behind the tested one: half of what a page takes.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
    # Playwright's own list, which this one replaces.
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    f"--disable-features={','.join(UNWANTED)}",
]
SECONDS = 1_000.0  # Playwright counts in milliseconds

expect.set_options(timeout=SOON_SECONDS * SECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_navigation_timeout(PATIENCE_SECONDS * SECONDS)  # dozens of modules, each a request
    yield context
    context.close()


@pytest.fixture
def refusals() -> set[int]:
    """The statuses that a test is about to provoke: it adds them."""
    return set()


@pytest.fixture
def page(context: BrowserContext, service: Service, refusals: set[int]) -> Iterator[Page]:
    """The service's page; whatever the browser complains about fails the test."""
    page = context.new_page()
    complaints = watched(page, refusals)
    page.goto(service.url)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    assert not complaints


def watched(page: Page, refusals: Collection[int] = ()) -> list[str]:
    """What the browser complains about, but for answers of the statuses that are expected."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        status = re.search(r"status of (\d+)", message.text)
        if message.type in ("error", "warning") and not (status and int(status[1]) in refusals):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


def draw_with_mouse(page: Page, digit: int, scale: float = 1.0) -> None:
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in STROKES[digit]:
        places = [(scale * x / 280, scale * y / 280) for x, y in stroke]
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=10)
        page.mouse.up()


def points(page: Page, chart: str) -> int:
    return int(page.locator(chart).get_attribute("data-points") or 0)

"""The page as a whole, in a real browser: its start, its keys, its layout, and a service that goes away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser import SECONDS, draw_with_mouse, points, watched
from tests.models import FIRST_RUN, FirstModel
from tests.processes import LONG_SPEC, PATIENCE_SECONDS, SMALL_SPEC, SOON_SECONDS, Service, serving, wait_for

pytest_plugins = "tests.browser"
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("left_as_it_was_found")]


def test_a_page_asks_for_runs_and_models_once_at_first(context: BrowserContext, service: Service) -> None:
    page, asked = context.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    page.clock.install()
    page.clock.pause_at("2100-01-01")  # so that nothing is due
    page.goto(service.url)
    expect(page.locator("#models tbody tr").first).to_be_visible()
    expect(page.locator(".run-list button").first).to_be_visible()
    expect(page.locator("#train-form [name=epochs]")).not_to_have_value("")
    lists = [path for path in asked if path.startswith(("models?", "train?", "presets"))]
    assert sorted(lists) == ["models?limit=50&offset=0", "presets", "train?limit=6&offset=0"]


def test_the_page_works_below_a_path_of_a_proxy(context: BrowserContext, service: Service) -> None:
    page, asked = context.new_page(), list[str]()
    complaints = watched(page)
    page.on("request", lambda request: asked.append(request.url))
    proxied = f"{service.url}/digits/"
    page.route(f"{proxied}**", lambda route: route.continue_(url=route.request.url.replace("/digits/", "/")))
    page.goto(f"{proxied}?run={FIRST_RUN}")
    page.locator("#canvas").press("3")
    expect(page.locator("#digit")).to_have_text("3")
    expect(page.locator("#loss-chart")).to_have_attribute("data-points", re.compile("[1-9]"))
    addresses = page.locator("a[href]").evaluate_all("links => links.map(({href}) => href)")
    assert f"{proxied}models/{service.get('/models/default')['id']}/download?format=safetensors" in addresses
    assert all(address.startswith((proxied, "data:")) for address in [*asked, *addresses])
    assert not complaints


def test_that_there_is_nothing_is_said_when_it_is_known(page: Page) -> None:
    held: list[Route] = []
    nothing = {"runs": [], "models": [], "next_offset": None}
    page.route("**/models?limit=*", lambda route: route.fulfill(json=nothing))
    page.route("**/train?limit=*", lambda route: held.append(route))
    with page.expect_request("**/train?limit=*"):
        page.reload()
    no_run, no_model = page.locator(".watch-empty"), page.locator(".models-empty")
    expect(no_run).to_be_hidden()
    expect(no_model).to_be_hidden()
    held[-1].fulfill(json=nothing)
    expect(no_run).to_be_visible()
    expect(no_model).to_be_visible()


def test_lists_that_change_leave_the_focus_where_it_is(page: Page, service: Service, refusals: set[int]) -> None:
    refusals |= {404, 409}
    run, model = service.get(f"/train/{FIRST_RUN}"), service.get("/models/default")
    runs = [run, {**run, "id": "older"}]
    models = [model, {**model, "id": "twin", "aliases": []}]
    page.clock.install()
    page.route("**/train?limit=*", lambda route: route.fulfill(json={"runs": runs, "next_offset": None}))
    page.route("**/models?limit=50*", lambda route: route.fulfill(json={"models": models, "next_offset": None}))
    page.reload()
    older, download = page.locator("[data-run='older']"), page.locator("[data-model='twin'] a")
    older.focus()
    row = older.element_handle()
    runs.insert(0, {**run, "id": "newer"})
    page.clock.fast_forward(20_000)
    expect(page.locator("[data-run='newer']")).to_be_visible()
    expect(older).to_be_focused()
    assert older.evaluate("(button, row) => button === row", row)
    del runs[2]
    page.clock.fast_forward(20_000)
    expect(page.locator("#runs-title")).to_be_focused()

    download.focus()
    models[1]["description"] = "changed meanwhile"
    page.clock.fast_forward(20_000)
    expect(page.locator("[data-model='twin']")).to_contain_text("changed meanwhile")
    expect(download).to_be_focused()
    twin = page.locator("[data-model='twin']")
    twin.get_by_role("button", name="Delete").press("Enter")
    models[1]["description"] = "changed while one was asked"
    page.clock.fast_forward(20_000)
    expect(twin).to_contain_text("changed while one was asked")
    page.route("**/models/twin", lambda route: route.fulfill(status=409, json={}), times=1)
    page.locator("#deletion").get_by_role("button", name="Delete").press("Enter")
    expect(twin.get_by_role("button", name="Draw with it")).to_be_focused()
    twin.get_by_role("button", name="Edit").press("Enter")
    gone: list[Route] = []
    page.route("**/models/twin", lambda route: (gone.append(route), route.fulfill(status=404, json={})))
    del models[1]
    for _ in range(2):
        with page.expect_response("**/models?limit=50*"):
            page.clock.fast_forward(20_000)
        expect(page.locator(".editor")).to_have_count(0)
    assert len(gone) <= 1  # it is asked for no more


@pytest.fixture(scope="module")
def keyed_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It trains for who has a key, two waiting runs a user, and has no model."""
    settings = {
        "INKLING_API_KEYS": '{"ada": "key of ada"}',
        "INKLING_PRIORITY_USERS": '["ada"]',
        "INKLING_MAX_QUEUED_RUNS_PER_USER": "2",
    }
    with serving(tmp_path_factory.mktemp("keyed"), **settings) as service:
        service.http.headers["Authorization"] = "Bearer key of ada"
        yield service


@pytest.fixture
def keyed(context: BrowserContext, keyed_service: Service) -> Iterator[Page]:
    """Its page, while its worker is free."""
    keyed_service.cancel_runs()
    page = context.new_page()
    complaints = watched(page, {401, 429, 503})  # no key or a wrong one, a full queue, no model
    page.goto(keyed_service.url)
    page.locator("#train-form [name=epochs]").fill("1000")
    yield page
    assert not complaints


def give_key(page: Page, key: str) -> None:
    expect(page.locator("#key-field")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")


def test_a_key_is_asked_for_once_and_forgotten_when_it_is_refused(keyed: Page) -> None:
    dialog, train = keyed.locator("#key"), keyed.locator("#train-form button[type=submit]")
    train.press("Enter")
    expect(dialog).to_be_visible()
    keyed.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(keyed.locator(".form-message")).to_contain_text("asks for a key")
    expect(train).to_be_focused()

    keyed.keyboard.press("Enter")
    give_key(keyed, "key of eve")
    expect(dialog).to_contain_text("does not know this key")
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-state")).to_have_text("running", timeout=PATIENCE_SECONDS * SECONDS)
    expect(keyed.locator(".fact-device")).to_contain_text("CPU")
    expect(keyed.locator(".run-list button").first).to_contain_text("ada")
    expect(dialog).to_be_hidden()

    keyed.reload()
    assert keyed.evaluate("localStorage['inkling-key']") == "key of ada"
    keyed.evaluate("localStorage['inkling-key'] = 'an old key'")
    keyed.reload()
    keyed.locator("#cancel").click()
    expect(dialog).to_be_visible()
    assert keyed.evaluate("localStorage['inkling-key']") is None
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-state")).to_have_text("cancelled")


def test_a_key_can_be_forgotten_before_somebody_else_sits_down(keyed: Page) -> None:
    train, forget = keyed.locator("#train-form button[type=submit]"), keyed.get_by_role("button", name="Forget my key")
    expect(forget).to_be_hidden()
    train.press("Enter")
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-name")).to_have_text("tutorial")
    expect(forget).to_be_visible()  # the run may be that of the test before
    with keyed.expect_event("load"):
        forget.press("Enter")
    assert keyed.evaluate("localStorage['inkling-key']") is None
    expect(forget).to_be_hidden()
    train.press("Enter")
    expect(keyed.locator("#key")).to_be_visible()


def test_a_late_refusal_of_an_old_key_does_not_forget_the_new_one(keyed: Page) -> None:
    train, held = keyed.locator("#train-form button[type=submit]"), list[Route]()
    train.press("Enter")
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-state")).to_have_text("running", timeout=PATIENCE_SECONDS * SECONDS)
    run = keyed.locator(".run-list [aria-current=true]").get_attribute("data-run")
    keyed.evaluate("localStorage['inkling-key'] = 'an old key'")
    keyed.reload()
    keyed.route("**/cancel", lambda route: held.append(route), times=1)
    with keyed.expect_request("**/cancel"):
        keyed.locator("#cancel").click()
    train.press("Enter")
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-state")).to_have_text("queued")
    held[0].continue_()
    expect(keyed.locator(f"[data-run='{run}'] .state")).to_have_text("cancelled")
    expect(keyed.locator("#key")).to_be_hidden()
    assert keyed.evaluate("localStorage['inkling-key']") == "key of ada"


def test_a_waiting_run_shows_its_place_and_a_full_queue_is_explained(keyed: Page) -> None:
    train, place = keyed.locator("#train-form button[type=submit]"), keyed.locator(".run-queue")
    train.click()
    give_key(keyed, "key of ada")
    expect(keyed.locator("#run-state")).to_have_text("running", timeout=PATIENCE_SECONDS * SECONDS)
    train.click()
    expect(place).to_have_text(re.compile(r"next in line, starts in about \d+ (s|min|h)"))
    train.click()
    expect(place).to_have_text(re.compile(r"2nd in line, starts in about \d+ (s|min|h)"))
    expect(keyed.locator(".run-list")).to_contain_text("2nd in line")
    train.click()
    expect(keyed.locator(".form-message")).to_contain_text("Not just now: 2 of your runs are waiting")


def test_no_width_needs_sideways_scrolling(page: Page) -> None:
    expect(page.locator("#models tbody tr").first).to_be_visible()
    expect(page.locator("#run-name")).not_to_be_empty()
    for width in (1280, 1024, 768, 390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        wait_for(lambda width=width: page.evaluate("innerWidth") == width, SOON_SECONDS)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_held_sideways_shows_the_answer_beside_the_sheet(browser: Browser, service: Service) -> None:
    with browser.new_context(viewport={"width": 844, "height": 390}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(service.url)
        expect(page.locator("#models tbody tr").first).to_be_visible()
        sheet, digit = (page.locator(part).bounding_box() for part in (".sheet", ".named"))
        assert sheet and digit
        assert digit["x"] > sheet["x"] + sheet["width"]
        assert digit["y"] + digit["height"] < sheet["y"] + sheet["height"]
        sizes = page.locator("input, select, textarea").evaluate_all(
            "fields => fields.map((field) => parseFloat(getComputedStyle(field).fontSize))"
        )
        assert min(sizes) >= 16  # a phone zooms in on what is smaller


def test_a_place_for_messages_is_there_before_its_message(page: Page) -> None:
    page.route("**/models?limit=50*", lambda route: None)  # without which nothing is said of a run that has succeeded
    page.reload()
    expect(page.locator("#run-name")).not_to_be_empty()
    expect(page.locator("#ready-note")).to_be_hidden()
    places = page.locator("section :is([role=status], [role=alert]):empty").evaluate_all(
        "places => places.filter((place) => place.checkVisibility()).map((place) => place.className)"
    )
    assert {"note-text", "message", "message run-message", "message models-message"} <= set(places)


# Of each text with what lies behind it, by WCAG 2.2; a canvas turns any colour into sRGB.
CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colors) => {
    for (context.fillStyle of colors) context.fillRect(0, 0, 1, 1);
    const linear = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => {
      const share = byte / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (part) => (part ? [...behind(part.parentElement), getComputedStyle(part).backgroundColor] : []);
  const hasText = (part) => [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const parts = [...document.body.querySelectorAll(":not(:disabled, option, svg *)")];
  return parts.filter((part) => hasText(part) && part.checkVisibility()).map((part) => {
    const [text, ground] = [[...behind(part), getComputedStyle(part).color], behind(part)].map(luminance);
    return [(Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05), part.outerHTML.slice(0, 80)];
  });
}"""


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_text_stands_out(page: Page, service: Service, color_scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
    guessing = {**service.get("/models/default"), "id": "guessing", "scores": {"accuracy": 0.1, "loss": 2.3}}
    page.route("**/models?limit=50*", lambda route: route.fulfill(json={"models": [guessing], "next_offset": None}))
    page.reload()
    page.locator("#canvas").press("3")
    expect(page.locator("#digit")).to_have_text("3")
    expect(page.locator(".model-failure")).to_be_visible()
    page.route("**/evaluate/guessing", lambda route: route.fulfill(json=service.get("/evaluate/default")))
    page.locator("#models").get_by_role("button", name="Report").press("Enter")
    expect(page.locator("#report .confusion")).to_be_visible()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert not [(contrast, text) for contrast, text in contrasts if contrast < 4.5]


def test_a_first_start_shows_its_progress_until_a_digit_can_be_read(context: BrowserContext, tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        page = context.new_page()
        complaints = watched(page, {503})  # no model
        page.goto(service.url)
        expect(page.locator("#ready-note")).to_be_visible()
        expect(page.locator("#run-state")).to_have_text("running", timeout=PATIENCE_SECONDS * SECONDS)
        service.train(**{**SMALL_SPEC, "batch_size": 100, "epochs": 3})  # seconds, where the first run takes a minute
        service.http.post(f"/train/{FIRST_RUN}/cancel")
        expect(page.locator("#ready-note")).to_be_hidden(timeout=PATIENCE_SECONDS * SECONDS)
        draw_with_mouse(page, 7)
        expect(page.locator("#digit")).to_have_text("7")
        assert not complaints


def test_answers_that_break_off_stop_nothing(page: Page) -> None:
    # Of events a browser complains aloud, also those that the page was about to ask for before it is loaded again.
    broken = re.compile(r":\d+/(presets|models|train(?!/[^/]+/events)|predict|readyz)")
    page.route(broken, lambda route: route.fulfill(content_type="application/json", body="{"))
    page.reload()
    expect(page.locator("#ready-note")).to_contain_text("The service does not answer right now.")
    page.locator("#canvas").press("3")
    page.locator("#train-form button[type=submit]").click()
    expect(page.locator(".form-message")).to_have_text("The service does not answer right now.")
    page.unroute(broken)
    expect(page.locator("#ready-note")).to_be_hidden()
    expect(page.locator("#digit")).to_have_text("3")
    expect(page.locator("#run-name")).not_to_be_empty()
    expect(page.locator("#models tbody tr").first).to_be_visible()
    expect(page.locator("#train-form [name=epochs]")).not_to_have_value("")


def test_a_page_outlives_a_restart_of_the_api(context: BrowserContext, tmp_path: Path, with_model: FirstModel) -> None:
    with serving(with_model(tmp_path)) as service:
        service.ready()
        page = context.new_page()
        page.goto(f"{service.url}/?run={service.train(**LONG_SPEC)}")
        wait_for(lambda: points(page, "#loss-chart") > 2)
        service.kill("app.main")
        early = points(page, "#loss-chart")
        wait_for(lambda: points(page, "#loss-chart") > early + 4)
        expect(page.locator("#run-state")).to_have_text("running")
        draw_with_mouse(page, 7)
        expect(page.locator("#digit")).to_have_text("7")

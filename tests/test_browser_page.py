"""The page in a real Chromium: draw, train, watch, choose."""

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, get_args

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, expect, sync_playwright
from pydantic import TypeAdapter

from model.spec import LossName
from model.spec_layers import Activation, Layer, Padding
from model.spec_optimizers import OptimizerName
from tests.drawings import STROKES, draw, encoded
from tests.models import FIRST_RUN, FirstModel
from tests.processes import LONG_SPEC, PATIENCE_SECONDS, SMALL_SPEC, SOON_SECONDS, Service, serving, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("left_as_it_was_found")]

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


NOTE_POINTS = """() => {
  const chart = document.querySelector("#loss-chart");
  const note = () => noted.push([location.search, Number(chart.dataset.points)]);
  window.noted = [];
  new MutationObserver(note).observe(chart, { attributes: true });
}"""


def test_a_training_is_started_and_its_curve_grows(page: Page) -> None:
    page.evaluate(NOTE_POINTS)
    form = page.locator("#train-form")
    form.locator("[name=preset]").select_option("tutorial")
    expect(form.locator("[name=batch_size]")).to_have_value("100")
    form.locator("[name=epochs]").fill("2")
    form.locator("button[type=submit]").click()
    expect(page.locator("#run-name")).to_have_text("tutorial")
    expect(page.locator("#run-state")).to_have_text("succeeded", timeout=PATIENCE_SECONDS * SECONDS)
    expect(page.locator("#models tbody tr").first).to_contain_text("tutorial")
    expect(page.locator("#accuracy-chart")).to_have_attribute("data-points", re.compile("[1-9]"))
    seen = page.evaluate("noted.filter(([run]) => run === location.search).map(([run, points]) => points)")
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3
    page.locator("#run-report").press("Enter")
    expect(page.locator("#report-title")).to_have_text("tutorial")
    expect(page.locator("#report .confusion")).to_be_visible()


def test_what_is_laid_out_outlasts_a_reload_until_a_preset_is_chosen(page: Page) -> None:
    form = page.locator("#train-form")
    preset, loss, epochs = (form.locator(f"[name={name}]") for name in ("preset", "loss", "epochs"))
    loss.select_option("hinge")
    epochs.fill("7")
    wait_for(lambda: '"epochs":7' in page.evaluate("Object.values(sessionStorage).join()"), SOON_SECONDS)
    page.reload()
    expect(preset).to_have_value("as you left it")
    expect(epochs).to_have_value("7")
    expect(loss).to_have_value("hinge")
    preset.select_option("quick")
    wait_for(lambda: page.evaluate("sessionStorage.length") == 0, SOON_SECONDS)
    page.reload()
    expect(preset).to_have_value("tutorial")


def test_a_seven_drawn_with_the_mouse_is_read_as_7(page: Page) -> None:
    draw_with_mouse(page, 7)
    expect(page.locator("#digit")).to_have_text("7")
    expect(page.locator("#announcement")).to_contain_text("7")
    page.locator("#clear").click()
    expect(page.locator("#digit")).to_have_text("")


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


def test_a_stroke_ends_where_the_pens_lifting_is_not_told(page: Page) -> None:
    page.locator("#canvas").hover()
    page.mouse.down()
    page.mouse.move(300, 500)
    page.evaluate("""["pointerup", "lostpointercapture"].forEach((lifting) =>
      addEventListener(lifting, (event) => event.stopImmediatePropagation(), true))""")
    page.mouse.up()  # as where a menu has opened
    expect(page.locator("#digit")).not_to_be_empty()
    page.mouse.move(250, 400)
    expect(page.locator("#announcement")).not_to_be_empty()


def test_undo_takes_back_one_stroke_at_a_time(page: Page) -> None:
    canvas, undo = page.locator("#canvas"), page.locator("#undo")
    draw_with_mouse(page, 7)
    expect(page.locator("#digit")).to_have_text("7")
    page.mouse.move(0, 0)
    seven = canvas.screenshot()
    draw_with_mouse(page, 4)
    for _ in STROKES[4]:
        assert canvas.screenshot() != seven
        undo.click()
    page.mouse.move(0, 0)
    wait_for(lambda: canvas.screenshot() == seven, SOON_SECONDS)
    undo.click()
    expect(page.locator("#digit")).to_have_text("")


@pytest.mark.parametrize("digit", STROKES)
def test_a_small_drawing_is_read_as_well(page: Page, digit: int) -> None:
    draw_with_mouse(page, digit, scale=0.25)
    expect(page.locator("#digit")).to_have_text(str(digit))


def test_a_digit_is_written_cleared_and_brought_back_from_the_keyboard(page: Page) -> None:
    page.locator("#canvas").focus()
    page.keyboard.press("3")
    expect(page.locator("#digit")).to_have_text("3")
    page.keyboard.press("Delete")
    expect(page.locator("#digit")).to_have_text("")
    page.keyboard.press("Control+z")
    expect(page.locator("#digit")).to_have_text("3")


def test_a_picture_can_be_read_instead_of_a_drawing(page: Page) -> None:
    page.locator("#picture").set_input_files({"name": "1.png", "mimeType": "image/png", "buffer": encoded(draw(1))})
    expect(page.locator("#digit")).to_have_text("1")


def test_of_two_pictures_the_later_stays_however_slowly_the_other_is_read(page: Page) -> None:
    page.evaluate("""() => {
      const read = createImageBitmap;
      window.createImageBitmap = async (file) => {
        window.createImageBitmap = read;
        await new Promise((resolve) => (window.release = resolve));
        return read(file);
      };
    }""")
    for digit in (1, 7):
        file = {"name": "digit.png", "mimeType": "image/png", "buffer": encoded(draw(digit))}
        page.locator("#picture").set_input_files([file])  # type: ignore[list-item]
    expect(page.locator("#digit")).to_have_text("7")
    page.evaluate("window.release()")
    page.locator("#several").check()  # and the sheet is read again
    expect(page.locator("#digit")).to_have_text("7")
    expect(page.locator(".parts")).to_be_visible()
    expect(page.locator("#digit")).to_have_text("7")


@pytest.mark.parametrize(("kind", "name"), [("DragEvent", "drop"), ("ClipboardEvent", "paste")])
def test_a_picture_can_be_dropped_or_pasted(page: Page, kind: str, name: str) -> None:
    page.locator("#canvas").evaluate(
        """(canvas, [kind, name, bytes]) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], "digit.png", { type: "image/png" }));
          canvas.dispatchEvent(new window[kind](name, { dataTransfer: files, clipboardData: files, bubbles: true }));
        }""",
        [kind, name, list(encoded(draw(1)))],
    )
    expect(page.locator("#digit")).to_have_text("1")


def test_a_picture_that_is_dropped_beside_the_sheet_does_not_replace_the_page(page: Page) -> None:
    drag = "part => part.dispatchEvent(new DragEvent('dragover', {bubbles: true, cancelable: true}))"
    expect(page.locator("#upload")).to_be_visible()
    assert page.locator("body").evaluate(drag) is False
    assert page.locator("#upload [type=file]").evaluate(drag) is True  # what is not refused


def test_a_bad_value_is_explained_beside_its_field(page: Page, refusals: set[int]) -> None:
    refusals.add(422)
    rate = page.locator("#train-form [name=learning_rate]")
    expect(rate).not_to_have_value("")  # the presets have arrived: they fill what is empty
    page.locator("#train-form [name=epochs]").fill("0")
    rate.fill("")
    page.locator("#train-form button[type=submit]").click()
    expect(page.locator("#epochs-error")).to_contain_text("greater than or equal to 1")
    expect(page.locator("#learning_rate-error")).to_contain_text("should be a number above 0")


def test_a_bad_value_is_explained_before_anything_is_trained(page: Page, refusals: set[int]) -> None:
    refusals.add(422)
    form = page.locator("#train-form")
    expect(form.locator(".outlook")).to_contain_text("parameters; about")
    form.locator("[name=epochs]").fill("0")
    expect(page.locator("#epochs-error")).to_contain_text("greater than or equal to 1")
    expect(form.locator("[name=epochs]")).to_be_focused()
    form.locator("[name=epochs]").fill("2")
    expect(page.locator("#epochs-error")).to_be_empty()
    expect(form.locator(".outlook")).to_contain_text("parameters; about")


def test_what_is_typed_before_the_presets_arrive_is_kept_and_sent(page: Page, refusals: set[int]) -> None:
    refusals.add(422)
    epochs, held = page.locator("#train-form [name=epochs]"), list[Route]()
    page.route("**/presets", lambda route: held.append(route))
    with page.expect_request("**/presets"):
        page.reload()
    epochs.fill("0")
    for _ in range(2):
        epochs.press("Enter")
    (asked,) = held  # once, whatever waits for it
    asked.continue_()
    expect(page.locator("#epochs-error")).to_contain_text("greater than or equal to 1")
    expect(epochs).to_have_value("0")


def test_a_network_is_laid_out_from_the_keyboard_and_trained(page: Page, service: Service) -> None:
    form, rows = page.locator("#train-form"), page.locator(".layer-rows li")
    form.locator("[name=preset]").select_option("quick")
    expect(form.locator(".outlook")).to_contain_text("269,322 parameters; about")
    form.locator(".network-editor summary").press("Enter")
    expect(rows).to_have_count(4)
    expect(rows.nth(1).locator(".layer-shape")).to_have_text("→ 256")

    rows.nth(2).get_by_role("button", name="Remove layer 3").press("Enter")
    expect(rows.nth(2).get_by_role("button", name="Remove layer 3")).to_be_focused()
    rows.nth(1).get_by_label("units").fill("20")
    rows.nth(1).get_by_label("activation").select_option("tanh")
    form.get_by_role("button", name="Add a layer").press("Enter")
    expect(rows.nth(2).get_by_label("Kind of layer 3")).to_be_focused()
    rows.nth(2).get_by_label("Kind of layer 3").select_option("dropout")
    rows.nth(2).get_by_role("button", name="Layer 3 up").press("Enter")
    expect(rows.nth(1).get_by_role("button", name="Layer 2 up")).to_be_focused()
    expect(form.locator(".outlook")).to_contain_text("15,910 parameters; about")

    form.locator("[name=optimizer]").select_option("sgd")
    form.locator("[name=loss]").select_option("mean_squared_error")
    form.locator("[name=epochs]").fill("1000")
    form.locator("button[type=submit]").press("Enter")
    expect(page.locator("#run-name")).to_have_text("dropout 0.2, dense 20 tanh")
    expect(page.locator(".run-spec")).to_contain_text(
        "flatten → dropout 0.2 → dense 20 tanh → dense 10 softmax, with sgd"
    )
    expect(page.locator(".run-spec")).to_contain_text(re.compile(r"·\smean\ssquared\serror"))
    (run,) = service.get("/train?limit=1")["runs"]
    spec = run["spec"]
    assert (spec["loss"], spec["optimizer"]["type"]) == ("mean_squared_error", "sgd")
    assert spec["optimizer"]["learning_rate"]["type"] == "cosine_decay"
    form.get_by_role("button", name="Start over").press("Enter")
    expect(form.locator(".outlook")).to_contain_text("269,322 parameters")
    page.locator("#cancel").click()
    expect(page.locator("#run-state")).to_have_text("cancelled")

    page.locator("#run-again").press("Enter")
    expect(form.locator("[name=preset]")).to_be_focused()
    expect(form.locator("[name=epochs]")).to_have_value("1000")
    form.locator("[name=batch_size]").fill("64")
    form.locator("button[type=submit]").press("Enter")
    expect(page.locator(".run-spec")).to_contain_text(re.compile(r"batch\s64"))
    (again,) = service.get("/train?limit=1")["runs"]
    assert again["spec"] == {**spec, "batch_size": 64}
    page.locator("#cancel").click()
    expect(page.locator("#run-state")).to_have_text("cancelled")


def test_another_run_is_shown_beside_the_watched_one(page: Page, service: Service, refusals: set[int]) -> None:
    refusals.add(503)
    older, newer = (service.train(**{**SMALL_SPEC, "name": name, "epochs": 2}) for name in ("older", "newer"))
    service.ended(newer)
    page.reload()
    expect(page.locator("#run-name")).to_have_text("newer")
    other, epochs = page.locator("#beside"), page.locator("#loss-chart .chart-beside-epoch")
    page.route(f"**/train/{older}", lambda route: route.fulfill(status=503, json={}), times=1)
    with page.expect_response(f"**/train/{older}"):
        other.select_option(older)
    expect(other).to_have_value("")
    other.select_option(older)
    expect(epochs).to_have_count(2)
    expect(page.locator(".legend-beside")).to_be_visible()
    other.select_option("")
    expect(epochs).to_have_count(0)
    other.select_option(older)
    page.locator(f"[data-run='{older}']").press("Enter")
    expect(page.locator("#run-name")).to_have_text("older")
    expect(epochs).to_have_count(0)
    expect(other.locator(f"[value='{older}']")).to_have_count(0)
    page.reload()
    expect(page.locator("#run-name")).to_have_text("older")

    model = page.locator("#models tr[data-model]", has_text="newer")
    accuracy = model.locator("[data-label='Test accuracy']").inner_text()
    expect(page.locator(f"[data-run='{newer}'] .state")).to_have_text(f"{accuracy} right")
    model.get_by_role("button", name="Curves").press("Enter")
    expect(page.locator("#run-name")).to_have_text("newer")
    expect(page).to_have_url(f"{service.url}/?run={newer}")


def test_a_chart_tells_the_values_under_the_pointer(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator("#loss-chart")).to_have_attribute("data-points", re.compile("[1-9]"))
    page.locator("#loss-chart svg").hover()
    expect(page.locator("#loss-chart .chart-readout")).to_have_text(re.compile(r"epoch \d+\.\d: [\d.]+ · ◆ [\d.]+"))


def test_older_runs_are_a_page_away_and_can_be_deleted(page: Page, service: Service, refusals: set[int]) -> None:
    refusals.add(404)
    oldest, *_ = cancelled = [service.train(**{**LONG_SPEC, "name": f"old {number}"}) for number in range(8)]
    for run in cancelled:
        service.http.post(f"/train/{run}/cancel")
    page.reload()
    runs, rows = page.locator("#runs"), page.locator(".run-list button")
    expect(rows.first).to_contain_text("old 7")
    expect(rows).to_have_count(6)
    runs.get_by_role("button", name="Older runs").press("Enter")
    expect(runs.get_by_role("heading")).to_be_focused()
    expect(rows.first).to_contain_text("old 1")
    page.locator(f"[data-run='{oldest}']").press("Enter")
    expect(page.locator("#run-name")).to_have_text("old 0")

    delete, question = page.locator("#delete-run"), page.locator("#deletion")
    delete.press("Enter")
    expect(question).to_contain_text("Delete this run? “old 0”")
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    delete.press("Enter")
    question.evaluate("question => { question.close(); document.querySelector('#delete-run').click(); }")
    service.http.delete(f"/train/{oldest}")  # somebody else is faster
    question.get_by_role("button", name="Delete").press("Enter")
    expect(page.locator("#run-name")).to_have_text("old 1")
    expect(page.locator(f"[data-run='{oldest}']")).to_have_count(0)
    assert service.http.get(f"/train/{oldest}").status_code == 404
    runs.get_by_role("button", name="Newer runs").press("Enter")
    expect(rows.first).to_contain_text("old 7")


def test_a_run_that_is_chosen_while_another_is_deleted_stays_watched(page: Page, service: Service) -> None:
    kept, deleted = (service.train(**{**LONG_SPEC, "name": name}) for name in ("kept", "deleted"))
    for run in (kept, deleted):
        service.http.post(f"/train/{run}/cancel")
    page.reload()
    expect(page.locator("#run-name")).to_have_text("deleted")
    held: list[Route] = []
    page.route(f"**/train/{deleted}", lambda route: held.append(route))
    page.locator("#delete-run").press("Enter")
    with page.expect_request(f"**/train/{deleted}"):
        page.locator("#deletion").get_by_role("button", name="Delete").press("Enter")
    page.locator(f"[data-run='{kept}']").press("Enter")
    expect(page.locator("#run-name")).to_have_text("kept")
    held[0].continue_()
    expect(page.locator(f"[data-run='{deleted}']")).to_have_count(0)
    expect(page.locator("#run-name")).to_have_text("kept")
    expect(page).to_have_url(f"{service.url}/?run={kept}")


def test_why_a_run_failed_is_said_where_no_event_tells_of_it(page: Page, service: Service) -> None:
    failed = {
        **service.get(f"/train/{FIRST_RUN}"),
        "state": "failed",
        "error": "no more",
        "progress": None,
        "history": [],
    }
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(json=failed))
    end = {"content_type": "text/event-stream", "body": "event: end\ndata: {}\n\n"}
    page.route("**/events", lambda route: route.fulfill(**end))
    with page.expect_response("**/events"):  # which the page may close before the browser calls it finished
        page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator("#run-state")).to_have_text("failed")
    expect(page.locator(".run-message")).to_have_text("no more")


def test_what_the_list_says_of_the_watched_run_is_looked_into(page: Page, service: Service, refusals: set[int]) -> None:
    refusals.add(503)
    run = {**service.get(f"/train/{FIRST_RUN}"), "state": "running"}
    listed = {**run}
    page.clock.install()
    page.route("**/events", lambda route: None)
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(json=run))
    page.route("**/train?limit=*", lambda route: route.fulfill(json={"runs": [listed], "next_offset": None}))
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    state, message = page.locator("#run-state"), page.locator(".run-message")
    expect(state).to_have_text("running")

    run.update(state="queued", queue_position=1, starts_in_seconds=7190)  # its worker has been lost
    listed["state"] = "queued"
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(status=503, json={"detail": "no"}), times=1)
    page.clock.fast_forward(20_000)
    expect(message).to_have_text("no")
    page.clock.fast_forward(20_000)
    expect(state).to_have_text("queued")
    expect(page.locator(".run-queue")).to_have_text("next in line, starts in about 2 h 0 min")
    expect(message).to_be_empty()

    listed["state"] = run["state"] = "succeeded"
    page.clock.fast_forward(20_000)
    expect(state).to_have_text("succeeded")
    page.clock.fast_forward(7_300_000)
    expect(page.locator(".run-queue")).to_contain_text("hours ago")


def test_a_run_in_the_address_is_asked_for_until_it_comes_or_is_gone(
    page: Page, service: Service, refusals: set[int]
) -> None:
    refusals |= {404, 503}
    first = service.get(f"/train/{FIRST_RUN}")
    listed = [{**first, "id": "other", "state": "running"}]
    page.clock.install()
    page.route("**/train?limit=*", lambda route: route.fulfill(json={"runs": listed, "next_offset": None}))
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(status=503, json={}), times=1)
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator("[data-run='other']")).to_be_visible()
    page.clock.fast_forward(5_000)
    expect(page.locator("#run-name")).to_have_text(first["name"])

    page.route("**/train/other", lambda route: route.fulfill(status=503, json={"detail": "no"}), times=1)
    page.locator("[data-run='other']").press("Enter")
    expect(page.locator(".run-message")).to_have_text("no")
    expect(page).to_have_url(f"{service.url}/?run=other")
    page.locator("[data-run='other']").press("Enter")
    expect(page.locator(".run-message")).to_contain_text("it has been deleted")
    expect(page).to_have_url(f"{service.url}/")


def test_models_are_fetched_when_a_run_has_given_one_and_not_when_one_is_queued(page: Page, service: Service) -> None:
    first = service.get(f"/train/{FIRST_RUN}")
    watched = {**first, "state": "running", "model": None, "worker": None}
    listed = [{**first, "id": "other", "state": "running", "model": None}]
    page.clock.install()
    page.route("**/events", lambda route: None)
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(json=watched))
    page.route("**/train?limit=*", lambda route: route.fulfill(json={"runs": listed, "next_offset": None}))
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator("#run-state")).to_have_text("running")
    expect(page.locator("#models tbody tr").first).to_be_visible()
    asked: list[Request] = []
    page.on("request", lambda request: "/models?" in request.url and asked.append(request))
    listed.insert(0, {**listed[0], "id": "queued", "state": "queued"})
    page.clock.fast_forward(5_000)
    expect(page.locator("[data-run='queued']")).to_be_visible()
    assert not asked
    watched.update(state="succeeded", model=first["model"])
    with page.expect_request("**/models?*"):
        page.clock.fast_forward(5_000)


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


def test_a_run_that_is_slow_to_come_holds_nothing_else_back(page: Page, service: Service) -> None:
    held: list[Route] = []
    page.route(f"**/train/{FIRST_RUN}", lambda route: held.append(route))
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator("#models tbody tr").first).to_be_visible()
    expect(page.locator(".run-list button").first).to_be_visible()
    expect(page.locator("#run-name")).to_be_hidden()  # no other run takes its place
    held[0].continue_()
    expect(page.locator("#run-name")).to_have_text(service.get(f"/train/{FIRST_RUN}")["name"])


def test_an_answer_about_the_runs_that_comes_late_hides_no_newer_run(page: Page) -> None:
    held: list[Route] = []
    page.route("**/train?limit=*", lambda route: held.append(route), times=1)
    with page.expect_request("**/train?limit=*"):
        page.reload()
    page.locator("#train-form [name=epochs]").fill("1000")
    late = held[0].fetch()
    page.locator("#train-form button[type=submit]").click()
    expect(page.locator(".run-list [aria-current=true]")).to_be_visible()
    page.route("**/train?limit=*", lambda route: None)  # else the next answer would mend the list
    with page.expect_event("requestfinished", lambda request: "/train?limit=" in request.url):
        held[0].fulfill(response=late)
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.locator(".run-list [aria-current=true]")).to_be_visible()
    page.locator("#cancel").click()
    expect(page.locator("#run-state")).to_have_text("cancelled")


def test_a_press_on_a_run_outlasts_the_lists_refreshing(page: Page, service: Service) -> None:
    run = service.train(**LONG_SPEC)
    service.cancel_runs()
    service.ended(run)
    page.clock.install()
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    # What is shown late moves the list, and the press would end beside the run.
    expect(page.locator("#run-name")).to_have_text(service.get(f"/train/{FIRST_RUN}")["name"])
    expect(page.locator("#train-form [name=epochs]")).not_to_have_value("")
    expect(page.locator("#models tbody tr").first).to_be_visible()
    other = page.locator(f".run-list [data-run='{run}']")
    other.hover()
    page.mouse.down()
    for _ in range(2):  # the first of them has been shown when the second is asked for
        with page.expect_response("**/train?limit=*"):
            page.clock.fast_forward(20_000)
    page.mouse.up()
    expect(other).to_have_attribute("aria-current", "true")


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


def offer_an_older_model(page: Page, service: Service) -> None:
    """From the next load on, alone on a second page."""
    model = {**service.get("/models/default"), "id": "older", "name": "an older one", "aliases": []}

    def first_page(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "next_offset": 50})

    page.route("**/models?limit=50&offset=0", first_page)
    second_page = {"models": [model], "next_offset": None}
    page.route("**/models?limit=50&offset=50", lambda route: route.fulfill(json=second_page))
    page.route("**/models/older", lambda route: route.fulfill(json=model))


def test_the_candidate_is_named_however_many_models_are_newer(page: Page, service: Service) -> None:
    offer_an_older_model(page, service)
    tried = {"model": "older", "share": 0, "shadow": True, "answered": 0, "compared": 0, "agreed": 0}
    page.route("**/models/candidate", lambda route: route.fulfill(json=tried))
    page.reload()
    expect(page.locator("#candidate > summary")).to_be_visible()
    page.locator("#candidate > summary").press("Enter")
    expect(page.locator(".candidate-state")).to_contain_text("“an older one” sees every drawing")
    expect(page.locator("[data-model='older']")).to_be_visible()


def test_a_run_that_has_learned_nothing_has_no_tick(page: Page, service: Service) -> None:
    run = service.get(f"/train/{FIRST_RUN}")
    model = service.get(f"/models/{run['model']}")
    model["scores"]["accuracy"] = 0.0892
    page.route("**/train?limit=*", lambda route: route.fulfill(json={"runs": [run], "next_offset": None}))
    page.route("**/models?*", lambda route: route.fulfill(json={"models": [model], "next_offset": None}))
    page.reload()
    state = page.locator(".run-list .state")
    expect(state).to_have_text("8.92\u202f% right")
    assert state.evaluate("state => getComputedStyle(state, '::before').content") == '"!"'


def test_a_runs_model_is_drawn_with_until_it_is_deleted(page: Page, service: Service, refusals: set[int]) -> None:
    refusals.add(404)
    page.emulate_media(reduced_motion="reduce")  # a sample is written at once, and asked about once
    offer_an_older_model(page, service)
    run, gone = {**service.get(f"/train/{FIRST_RUN}"), "model": "older"}, list[Route]()
    page.route(f"**/train/{FIRST_RUN}", lambda route: route.fulfill(json=run))
    page.goto(f"{service.url}/?run={FIRST_RUN}")
    expect(page.locator(".run-message")).to_have_text(re.compile(r"^It names [\d.]+\s% of the test images right\.$"))
    draw, answering = page.locator("#run-draw"), page.locator("#answering")
    draw.press("Enter")
    expect(page.locator("#canvas")).to_be_focused()
    expect(answering).to_have_value("older")

    page.route("**/models/older", lambda route: (gone.append(route), route.fulfill(status=404, json={})))
    with page.expect_request("**/predict?*model=older"):
        page.keyboard.press("3")
    expect(draw).to_be_hidden()
    expect(page.locator(".run-message")).to_be_empty()
    expect(answering).to_have_value("")
    expect(page.locator("#digit")).to_have_text("3")

    asked, row = len(gone), page.locator("#models tr[data-model]").first
    row.get_by_role("button", name="Edit").press("Enter")
    with page.expect_request("**/models?limit=50*"):
        page.locator(".editor [name=name]").press("Enter")  # after which the models are fetched anew
    row.get_by_role("button", name="Draw with it").press("Enter")
    expect(page.locator("#canvas")).to_be_focused()
    expect(answering).to_have_value(row.get_attribute("data-model") or "")
    assert len(gone) == asked  # it is asked for no more


def test_older_models_are_a_page_away(page: Page, service: Service) -> None:
    offer_an_older_model(page, service)
    page.reload()
    trained, rows = page.locator("#trained"), page.locator("#models tr[data-model]")
    trained.get_by_role("button", name="Older models").press("Enter")
    expect(page.locator("#models-title")).to_be_focused()
    expect(rows).to_have_count(2)
    expect(rows.first.locator(".badge", has_text="default")).to_be_visible()
    expect(rows.last).to_contain_text("an older one")
    trained.get_by_role("button", name="Newer models").press("Enter")
    expect(page.locator("[data-model='older']")).to_have_count(0)

    trained.get_by_role("button", name="Older models").press("Enter")
    expect(page.locator("#models-title")).to_be_focused()  # else it may be between the next key and its target
    page.locator("#comparing > summary").press("Enter")
    page.locator("#comparing [name=other]").select_option("older")
    trained.get_by_role("button", name="Newer models").press("Enter")
    expect(trained.get_by_role("button", name="Newer models")).to_be_hidden()
    expect(page.locator("#comparing [name=other]")).to_have_value("older")


def test_a_page_that_is_turned_late_leaves_the_focus_where_it_has_gone(page: Page, service: Service) -> None:
    offer_an_older_model(page, service)
    page.reload()
    held: list[Route] = []
    page.route("**/models?limit=50&offset=50", lambda route: held.append(route))
    with page.expect_request("**/models?limit=50&offset=50"):
        page.locator("#trained").get_by_role("button", name="Older models").press("Enter")
    page.locator("#canvas").focus()
    held[0].fallback()
    expect(page.locator("[data-model='older']")).to_be_visible()
    expect(page.locator("#canvas")).to_be_focused()


def test_the_page_offers_every_layer_activation_loss_and_optimizer(page: Page) -> None:
    expect(page.locator(".outlook")).to_contain_text("parameters")
    kinds, choices = page.evaluate("import('/static/layers.js').then(({KINDS, CHOICES}) => [KINDS, CHOICES])")
    layers = TypeAdapter[Layer](Layer)
    schema = layers.json_schema()
    assert set(kinds) == set(schema["discriminator"]["mapping"])
    for kind, settings in kinds.items():
        layers.validate_python({"type": kind, **settings})
    assert choices == {"activation": [*get_args(Activation)], "padding": [*get_args(Padding)]}
    assert sorted(offered(page, "optimizer")) == sorted(get_args(OptimizerName))
    assert offered(page, "loss") == [*get_args(LossName)]


def offered(page: Page, name: str) -> list[str]:
    options = page.locator(f"#train-form [name={name}] option")
    return list(options.evaluate_all("options => options.map(({value}) => value)"))


def test_a_charts_ticks_are_round_numbers(page: Page) -> None:
    wide, narrow = page.evaluate("""import('/static/chart.js').then(({ logarithmic }) =>
      [[4e-6, 3e-4], [0.21, 0.49]].map((range) => logarithmic.ticks(...range).map(String)))""")
    assert wide == ["0.000005", "0.00001", "0.00002", "0.00005", "0.0001", "0.0002"]
    assert narrow == ["0.3", "0.4"]


def test_lost_steps_are_told_of_until_they_are_made_up(page: Page) -> None:
    behind = page.evaluate("""import("/static/run-record.js").then(({ RunRecord }) => {
      const record = new RunRecord();
      return [4, 8, 2, 8].map((step, offset) => {
        record.addProgress({ step, steps: 9, epochs: 1, loss: 1, accuracy: 0 }, offset);
        return record.isBehind;
      });
    })""")
    assert behind == [False, False, True, False]


def test_a_layer_that_does_not_fit_is_explained_below_it(page: Page, refusals: set[int]) -> None:
    refusals.add(422)
    form, rows = page.locator("#train-form"), page.locator(".layer-rows li")
    form.locator(".network-editor summary").press("Enter")
    rows.nth(0).get_by_role("button", name="Remove layer 1").press("Enter")
    expect(rows.nth(0).locator(".field-error")).to_have_text(
        "it needs a flat input, not 28 × 28 × 1; put a flatten before it"
    )
    rows.nth(0).get_by_label("Kind of layer 1").select_option("flatten")
    expect(rows.nth(0).locator(".field-error")).to_be_empty()
    form.get_by_role("button", name="Start over").press("Enter")
    rows.nth(1).get_by_label("units").fill("0")
    form.locator(".network-editor summary").press("Enter")
    form.locator("button[type=submit]").press("Enter")
    units = "units: Input should be greater than or equal to 1"
    expect(rows.nth(1).locator(".field-error")).to_have_text(units)
    expect(rows.nth(1).get_by_label("units")).to_have_accessible_description(re.compile(units))
    expect(rows.nth(1).get_by_label("units")).to_be_focused()
    expect(rows.nth(1).locator("[aria-invalid=true]")).to_have_count(1)
    rows.nth(1).get_by_label("units").fill("")
    expect(rows.nth(1).locator(".field-error")).to_contain_text("units: Input should be a valid integer")
    rows.nth(1).get_by_role("button", name="Layer 2 down").press("Enter")
    expect(rows.nth(2).get_by_label("units")).to_have_value("100")
    expect(rows.nth(2).locator(".field-error")).to_be_empty()
    rows.nth(3).get_by_label("activation").select_option("relu")
    expect(form.locator(".outlook")).to_contain_text("needs a last layer with softmax or linear, not relu")


def test_a_run_can_be_cancelled(page: Page) -> None:
    page.locator("#train-form [name=epochs]").fill("1000")
    page.locator("#train-form button[type=submit]").click()
    expect(page.locator("#run-name")).to_have_text("tutorial")
    expect(page.locator("#run-state")).to_have_text("running")
    page.locator("#cancel").press("Enter")
    expect(page.locator("#run-state")).to_have_text("cancelled")
    expect(page.locator("#run-name")).to_be_focused()


def test_a_models_report_is_shown(page: Page, service: Service) -> None:
    row = page.locator("#models tr[data-model]").first
    expect(row).to_be_visible()
    evaluation = service.get(f"/evaluate/{row.get_attribute('data-model')}")
    row.get_by_role("button", name="Report").click()
    expect(page.locator("#report .facts")).to_contain_text(f"{100 * evaluation['accuracy']:.2f}")
    shown = page.locator("#report .confusion .is-right").all_inner_texts()
    assert [int(count) for count in shown] == [row[digit] for digit, row in enumerate(evaluation["confusion_matrix"])]
    page.keyboard.press("Escape")
    expect(page.locator("#report")).not_to_be_visible()


def test_why_shows_the_ink_that_spoke_and_every_layer(page: Page) -> None:
    why = page.locator("#why")
    page.locator("#canvas").focus()
    page.keyboard.press("3")
    expect(page.locator("#digit")).to_have_text("3")
    why.locator("summary").first.press("Enter")
    expect(why.locator(".why-words")).to_contain_text(" spoke for the 3")
    expect(page.locator("#saliency")).to_have_attribute("aria-label", re.compile("view of the 3"))
    colors = page.locator("#saliency").evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colors > 10
    layers, held = why.locator(".why-layers summary"), list[Route]()
    page.route("**/predict?*", lambda route: held.append(route), times=1)
    with page.expect_request("**/predict?*"):
        layers.press("Enter")
    layers.press("Enter")  # closed before its answer is there
    held[0].continue_()
    expect(why.locator(".layer-images canvas")).to_have_count(3)
    layers.press("Enter")
    expect(why.locator(".layer-images figure").last).to_contain_text("10 numbers")

    page.locator("#canvas").press("4")
    expect(why.locator(".why-words")).to_contain_text(" spoke for the 4")
    page.locator("#clear").click()
    expect(why.locator(".why-words")).to_be_hidden()
    expect(why).to_contain_text("Draw a digit")


def test_a_scribble_does_not_pass_for_a_digit(page: Page) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    corners = [(0.1 + 0.8 * (step % 2), 0.15 + 0.06 * step) for step in range(12)]
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10)
    page.mouse.up()
    expect(page.locator("#answer")).to_contain_text("This does not look like a digit. The nearest is")


def test_what_does_not_look_like_a_digit_is_said_with_the_nearest(page: Page) -> None:
    def doubt(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "is_digit": False})

    page.route("**/predict?*", doubt)
    page.locator("#canvas").press("3")
    answer = page.locator("#answer")
    expect(answer).to_contain_text("This does not look like a digit. The nearest is a 3.")
    expect(page.locator("#announcement")).to_have_text("This does not look like a digit. The nearest is a 3.")
    page.unroute("**/predict?*")
    page.locator("#canvas").press("4")
    expect(answer).not_to_contain_text("does not look like")


def test_a_busy_predictor_is_asked_again(page: Page, refusals: set[int]) -> None:
    refusals.add(503)
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "body": "{}"}
    page.route("**/predict?*", lambda route: route.fulfill(**busy))
    page.locator("#canvas").press("3")
    expect(page.locator(".sureness-words")).to_have_text("very busy; asking again")
    expect(page.locator("#announcement")).to_have_text("very busy; asking again")
    page.unroute("**/predict?*")
    expect(page.locator("#digit")).to_have_text("3")


def test_a_question_that_breaks_off_is_asked_again_after_a_pause(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")  # a sample is written at once, and asked about once
    page.route("**/predict?*", lambda route: route.fulfill(content_type="application/json", body="{"))
    page.locator("#canvas").press("3")
    asked = "performance.getEntriesByType('resource').filter(({name}) => name.includes('/predict'))"
    wait_for(lambda: page.evaluate(f"{asked}.length") > 2, SOON_SECONDS)
    _, second, third, *_ = page.evaluate(f"{asked}.map(({{startTime}}) => startTime)")
    assert third - second > 1_000  # ms
    page.unroute("**/predict?*")
    expect(page.locator("#digit")).to_have_text("3")


def test_a_model_that_is_loaded_anew_is_not_called_busy(page: Page, refusals: set[int]) -> None:
    refusals.add(503)
    away = {"status": 503, "headers": {"Retry-After": "60"}, "body": "{}"}
    page.route(re.compile("/(predict|readyz)"), lambda route: route.fulfill(**away))
    page.locator("#canvas").press("3")
    expect(page.locator("#ready-note")).to_contain_text("it is being loaded")
    expect(page.locator("#answer")).to_contain_text("waiting for a model")
    page.unroute(re.compile("/(predict|readyz)"))
    expect(page.locator("#digit")).to_have_text("3")


def test_an_answer_to_what_was_cleared_is_not_shown(page: Page) -> None:
    canvas, digit = page.locator("#canvas"), page.locator("#digit")
    held: list[Route] = []
    page.route("**/predict?*", lambda route: held.append(route))
    with page.expect_request("**/predict?*"):
        canvas.press("4")
    page.locator("#clear").click()
    canvas.press("3")
    with page.expect_request("**/predict?*"):
        held[0].continue_()
    expect(digit).to_have_text("")
    page.unroute("**/predict?*")  # and what is held goes on
    expect(digit).to_have_text("3")


def test_several_digits_are_framed_and_read_as_a_number(page: Page) -> None:
    page.locator("#several").check()
    for digit in "27":
        page.locator("#canvas").press(digit)
        expect(page.locator("#digit")).to_have_text(re.compile(f"{digit}$"))
    expect(page.locator("#digit")).to_have_text("27")
    expect(page.locator("#announcement")).to_contain_text("27")
    expect(page.locator("#boxes rect")).to_have_count(2)
    second = page.locator(".parts button").nth(1)
    second.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "true")
    page.locator("#why > summary").press("Enter")
    expect(page.locator("#why .why-words")).to_contain_text(" spoke for the 7")
    page.locator("#several").uncheck()
    expect(page.locator("#boxes rect")).to_have_count(0)
    expect(page.locator(".parts")).to_be_hidden()


def test_digits_that_are_typed_quickly_are_written_to_the_end(page: Page) -> None:
    page.locator("#several").check()
    page.locator("#canvas").focus()
    page.keyboard.type("27")
    expect(page.locator("#digit")).to_have_text("27")
    page.keyboard.type("4")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+Z")  # as with Caps Lock
    expect(page.locator("#digit")).to_have_text("274")
    page.keyboard.type("111111111")
    expect(page.locator("#drawing .message")).to_contain_text("no room for another digit")
    expect(page.locator("#digit")).to_have_text(re.compile("^2741+$"))


def test_a_model_is_renamed_and_described_below_its_row(page: Page) -> None:
    row, editor = page.locator("#models tr[data-model]").first, page.locator(".editor")
    name = row.locator(".model-name").inner_text()
    for new in (f"{name} of room 12", name):
        row.get_by_role("button", name="Edit").press("Enter")
        expect(editor.locator("[name=name]")).to_be_focused()
        editor.locator("[name=name]").fill(new)
        editor.locator("[name=description]").fill("reads crossed sevens")
        editor.locator("[name=name]").press("Enter")
        expect(row.locator(".model-name")).to_have_text(new)
        expect(row.locator(".model-description")).to_have_text("reads crossed sevens")
    row.get_by_role("button", name="Edit").press("Enter")
    editor.locator("[name=name]").fill("  ")
    editor.locator("[name=name]").press("Enter")  # the browser says what is wrong
    expect(editor.locator("[name=name]:invalid")).to_be_focused()
    editor.locator("[name=name]").fill("never to be seen")
    page.keyboard.press("Escape")
    expect(editor).to_have_count(0)
    expect(row.locator(".model-name")).to_have_text(name)


def test_a_model_is_given_names_of_ones_own_that_move_and_are_taken_away(
    page: Page, service: Service, refusals: set[int]
) -> None:
    refusals.add(422)
    row, editor = page.locator("#models tr[data-model]").last, page.locator(".editor")
    model = row.get_attribute("data-model")

    def name_it(aliases: str) -> None:
        row.get_by_role("button", name="Edit").press("Enter")
        editor.get_by_label("Aliases").fill(aliases)
        editor.get_by_label("Aliases").press("Enter")

    def named() -> set[str]:
        return {alias["name"] for alias in service.get("/aliases")["aliases"] if alias["model"] == model}

    before = named()
    name_it("room-12, homework")
    expect(row.locator(".badge", has_text="room-12")).to_be_visible()
    wait_for(lambda: named() == {*before, "room-12", "homework"}, SOON_SECONDS)
    page.locator("#models tr[data-model]").last.get_by_role("button", name="Edit").press("Enter")
    expect(editor.get_by_label("Aliases")).to_have_value("homework room-12")
    editor.get_by_label("Aliases").press("Escape")
    name_it("compare")
    expect(editor.locator(".message")).to_contain_text("'compare' cannot be set or dropped here")
    editor.get_by_label("Aliases").press("Escape")
    name_it("room-12")
    expect(row.locator(".badge", has_text="homework")).to_have_count(0)
    name_it("")
    expect(row.locator(".badge", has_text="room-12")).to_have_count(0)
    wait_for(lambda: named() == before, SOON_SECONDS)


def test_two_models_are_offered_to_be_compared_as_soon_as_there_are_two(page: Page, service: Service) -> None:
    known = service.get("/models/default")
    twin = {**known, "id": "twin", "aliases": [], "created_at": "2001-01-01T00:00:00Z"}
    listed = [known]
    page.route("**/models?limit=50*", lambda route: route.fulfill(json={"models": listed, "next_offset": None}))
    losses = {"field": "spec.loss", "values": ["categorical_crossentropy", "mean_squared_error"]}
    compared = {"models": [known, twin], "differences": [losses], "per_class": []}
    page.route("**/models/compare?*", lambda route: route.fulfill(json=compared))
    page.reload()
    one, other = page.locator("#comparing [name=one]"), page.locator("#comparing [name=other]")
    page.locator("#comparing > summary").click()
    expect(other).to_have_value(known["id"])
    listed.insert(0, twin)
    page.get_by_role("button", name="Edit").press("Enter")
    page.locator(".editor [name=name]").press("Enter")  # after which the models are fetched anew
    expect(other).to_have_value("twin")
    expect(one).to_have_value(known["id"])
    expect(page.locator(".comparison")).to_be_hidden()
    page.locator("#comparing [type=submit]").click()  # the focus is about to go back to the row
    expect(page.locator("#comparing .message")).to_have_text("The two, side by side:")
    expect(page.locator(".compared thead")).to_contain_text(f"{known['name']}, 1 Jan 2001")
    expect(page.locator(".compared tr", has_text="Loss, each its own").locator(".is-better")).to_have_count(0)


def test_an_uploaded_model_is_compared_tried_beside_the_default_and_deleted(page: Page, service: Service) -> None:
    content = bytearray(service.http.get("/models/default/download").content)
    content[-4] ^= 1  # the least bit of a number: another model, and as good
    expect(page.locator("#upload > summary")).to_be_visible()
    page.locator("#upload > summary").press("Enter")
    file = {"name": "3f9a1c0b7d2e.safetensors", "mimeType": "application/octet-stream", "buffer": bytes(content)}
    page.locator("#upload [type=file]").set_input_files([file])  # type: ignore[list-item]
    page.locator("#upload [type=submit]").press("Enter")
    here = f"“{service.get('/models/default')['spec']['name']}” is here"  # and scored, by a process of its own
    expect(page.locator("#upload .message")).to_contain_text(here, timeout=PATIENCE_SECONDS * SECONDS)
    expect(page.locator("#upload [type=submit]")).to_be_focused()
    row = page.locator("#models tr[data-model]", has_text="uploaded")
    model = row.get_attribute("data-model")
    assert model is not None

    editor, default = page.locator(".editor"), page.locator("tr", has=page.locator(".badge", has_text="default"))
    held: list[Route] = []
    page.route(f"**/models/{model}", lambda route: held.append(route))
    row.get_by_role("button", name="Edit").press("Enter")
    editor.locator("[name=name]").fill("from elsewhere")
    editor.locator("[name=description]").fill("as good")
    with page.expect_request(f"**/models/{model}"):
        for _ in range(2):
            editor.locator("[name=name]").press("Enter")
    expect(editor.locator("[name=description]")).not_to_be_editable()
    (asked,) = held  # once
    default.get_by_role("button", name="Edit").press("Enter")
    editor.locator("[name=description]").fill("half a sent")
    asked.continue_()
    expect(page.locator(".models-message")).to_have_text("“from elsewhere” is saved.")
    expect(row).to_contain_text("as good")
    expect(editor.locator("[name=description]")).to_have_value("half a sent")
    expect(editor.locator("[name=description]")).to_be_focused()
    page.keyboard.press("Escape")
    page.unroute(f"**/models/{model}")

    page.locator("#comparing > summary").press("Enter")
    page.locator("#comparing [name=one]").select_option(model)
    page.locator("#comparing [name=other]").select_option(service.get("/models/default")["id"])
    page.locator("#comparing [type=submit]").press("Enter")
    expect(page.locator(".compared thead")).to_contain_text("from elsewhere")
    expect(page.locator(".compared tbody tr", has_text="Accuracy").locator("td")).to_have_count(2)

    trial = page.locator("#candidate")
    trial.locator("summary").press("Enter")
    trial.locator("select").select_option(model)
    trial.get_by_role("button", name="Try it").press("Enter")
    expect(trial).to_contain_text("“from elsewhere” sees every drawing in the default’s shadow")
    expect(row.locator(".badge")).to_have_text("candidate")
    page.locator("#canvas").press("7")  # it is seen once, though the page asks while it is being written
    expect(trial).to_contain_text(re.compile(r"same digit as the default for 100.0\s% of 1 drawing\."))
    trial.get_by_label("Share of the drawings in percent").fill("100")
    trial.get_by_role("button", name="Try it").press("Enter")
    expect(trial).to_contain_text(re.compile(r"“from elsewhere” answers 100\s% of the drawings"))
    answering = page.locator("#answering option").first
    expect(answering).to_contain_text("the default")
    page.locator("#canvas").press("7")
    expect(answering).to_contain_text("the candidate, from elsewhere")
    trial.get_by_role("button", name="End the trial").press("Enter")
    expect(trial).to_contain_text("No model is tried")
    expect(trial.locator("select")).to_be_focused()
    expect(row.locator(".badge")).to_have_count(0)

    row.get_by_role("button", name="Delete").press("Enter")
    page.locator("#deletion").get_by_role("button", name="Delete").press("Enter")
    expect(row).to_have_count(0)
    expect(page.locator("#models-title")).to_be_focused()


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

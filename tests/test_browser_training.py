"""Runs are laid out, started, watched and cancelled, in a real browser."""

import re
from typing import get_args

import pytest
from playwright.sync_api import Page, Route, expect
from pydantic import TypeAdapter

from model.spec import LossName
from model.spec_layers import Activation, Layer, Padding
from model.spec_optimizers import OptimizerName
from tests.browser import SECONDS
from tests.models import FIRST_RUN
from tests.processes import LONG_SPEC, PATIENCE_SECONDS, SMALL_SPEC, SOON_SECONDS, Service, wait_for

pytest_plugins = "tests.browser"
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("left_as_it_was_found")]


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

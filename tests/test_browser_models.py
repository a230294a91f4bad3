"""Models are told apart, renamed, compared, tried and deleted, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser import SECONDS
from tests.models import FIRST_RUN
from tests.processes import PATIENCE_SECONDS, SOON_SECONDS, Service, wait_for

pytest_plugins = "tests.browser"
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("left_as_it_was_found")]


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

"""A digit is drawn, written or dropped, and read, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import draw_with_mouse
from tests.drawings import STROKES, draw, encoded
from tests.processes import SOON_SECONDS, wait_for

pytest_plugins = "tests.browser"
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("left_as_it_was_found")]


def test_a_seven_drawn_with_the_mouse_is_read_as_7(page: Page) -> None:
    draw_with_mouse(page, 7)
    expect(page.locator("#digit")).to_have_text("7")
    expect(page.locator("#announcement")).to_contain_text("7")
    page.locator("#clear").click()
    expect(page.locator("#digit")).to_have_text("")


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

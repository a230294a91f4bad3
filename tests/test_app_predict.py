"""/predict names drawings in every form that they may be sent; /models and /evaluate say what is there."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.drawing import from_image
from tests.drawings import STROKES, draw, draw_number, encoded
from tests.models import FirstModel
from tests.problems import problem
from tests.processes import SMALL_SPEC, Service, serving

SEVEN = encoded(draw(7))
PNG = {"content-type": "image/png"}


def predicted(service: Service, **request: Any) -> dict[str, Any]:
    response = service.http.post("/predict", **request)
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_named(service: Service, digit: int) -> None:
    answer = predicted(service, content=encoded(draw(digit)), headers=PNG)
    assert answer["digit"] == digit
    assert answer["confidence"] == max(answer["probabilities"]) == answer["probabilities"][digit]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["model"] == service.get("/readyz")["model"]
    assert "seen" not in answer


def test_every_form_of_the_same_drawing_gives_the_same_answer(service: Service) -> None:
    expected = predicted(service, content=SEVEN, headers=PNG)
    text = base64.b64encode(SEVEN).decode()
    assert predicted(service, content=SEVEN, headers=PNG, params={"model": "default"}) == expected
    assert predicted(service, files={"image": ("7.png", SEVEN, "image/png")}) == expected
    assert predicted(service, json={"image": text}) == expected
    assert predicted(service, json={"image": f"data:image/png;base64,{text}"}) == expected
    assert predicted(service, json={"pixels": np.asarray(draw(7)).tolist()}) == expected
    for image_format in ("jpeg", "webp"):
        content = encoded(draw(7), image_format)
        assert predicted(service, content=content, headers={"content-type": f"image/{image_format}"})["digit"] == 7


def test_many_images_are_answered_in_their_order(service: Service) -> None:
    images = [base64.b64encode(encoded(draw(digit))).decode() for digit in (4, 7, 1) * 3]
    answers = predicted(service, json={"images": [*images, np.asarray(draw(7)).tolist()]})["predictions"]
    assert [answer["digit"] for answer in answers] == [4, 7, 1] * 3 + [7]
    alone = predicted(service, json={"image": images[0]})
    assert alone["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-5)


def test_what_the_network_saw_is_shown_on_request(service: Service) -> None:
    answer = predicted(service, content=SEVEN, headers=PNG, params={"include": "seen"})
    assert answer["seen"] == from_image(SEVEN).tolist()


def test_a_number_is_read_from_left_to_right_with_a_box_for_each_digit(service: Service) -> None:
    params = {"segment": "true", "include": "seen"}
    answer = predicted(service, content=encoded(draw_number([7, 1, 4])), headers=PNG, params=params)
    assert answer["number"] == "714" == "".join(str(digit["digit"]) for digit in answer["digits"])
    for place, digit in enumerate(answer["digits"]):
        left, top, width, height = digit["box"]
        assert 20 + 280 * place < left < left + width < 300 + 280 * place
        assert 20 < top < top + height < 300
        assert digit["seen"] and digit["is_digit"] is True
    many = {"images": [np.asarray(draw(7)).tolist()] * 2}
    problem(service.http.post("/predict", params=params, json=many), 422, "query", "segment")
    blank = {"pixels": [[0] * 50] * 50}
    problem(service.http.post("/predict", params=params, json=blank), 422, "body", "pixels")


def test_a_model_can_be_asked_by_id_and_by_alias(service: Service) -> None:
    model = service.ended(service.train(**SMALL_SPEC))["model"]
    assert predicted(service, content=SEVEN, headers=PNG, params={"model": model})["model"] == model
    default = predicted(service, content=SEVEN, headers=PNG, params={"model": "default"})
    assert default == predicted(service, content=SEVEN, headers=PNG)


def test_the_leaderboard_has_every_model_best_first(service: Service) -> None:
    entries = service.get("/evaluate")["models"]
    assert {entry["model"] for entry in entries} == {model["id"] for model in service.get("/models")["models"]}
    assert [entry["accuracy"] for entry in entries] == sorted((entry["accuracy"] for entry in entries), reverse=True)


def test_presets_are_listed_with_the_spec_that_they_stand_for(service: Service) -> None:
    presets = {preset["name"]: preset for preset in service.get("/presets")["presets"]}
    assert presets["tutorial"]["spec"]["batch_size"] == 100
    assert set(presets) == {"tutorial", "quick", "convnet", "accurate", "tiny"}


def test_the_page_is_served_with_a_strict_policy(service: Service) -> None:
    page = service.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"
    assert page.headers["content-security-policy"] == policy
    for fresh in (page, service.http.get("/static/main.js")):
        assert (fresh.status_code, fresh.headers["cache-control"]) == (200, "no-cache")


def test_the_default_moves_to_a_better_model_until_it_is_pinned(tmp_path: Path, with_model: FirstModel) -> None:
    with serving(with_model(tmp_path)) as service:
        run = service.train(**SMALL_SPEC)
        (quick,) = [model for model in service.get("/models")["models"] if model["name"] == "quick"]
        small = service.ended(run)["model"]
        assert service.get("/models/default")["id"] == quick["id"]

        pinned = service.http.put("/models/default", json={"model": small})
        assert (pinned.status_code, pinned.json()["id"], pinned.json()["aliases"]) == (200, small, ["default"])
        assert [model["id"] for model in service.get("/models")["models"] if model["pinned"]] == [small]
        better = service.ended(service.train(**{**SMALL_SPEC, "epochs": 5}))["model"]
        assert service.get("/models/default")["id"] == small
        problem(service.http.delete(f"/models/{small}"), 409)

        best = service.http.put("/models/default", json={"model": None})
        assert (best.json()["id"], best.json()["pinned"]) == (quick["id"], False)
        assert service.http.delete(f"/models/{better}").status_code == 204
        problem(service.http.get(f"/models/{better}"), 404)

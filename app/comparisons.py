"""Models side by side: where their specs differ, and how well each tells every digit."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from app.model_schemas import Difference, DigitComparison, ModelComparison, ModelInfo
from app.registry import Registry
from model.scores import Evaluation
from model.spec import TrainSpec


def compare(registry: Registry, names: list[str]) -> ModelComparison:
    """names: ids or aliases. Raises ModelNotFoundError."""
    models = [registry.model(name) for name in names]
    specs = [_spec(model) for model in models]
    evaluations = [registry.evaluation(model.id)[1] for model in models]
    return ModelComparison(models=models, differences=list(differences("spec", specs)), per_class=_digits(evaluations))


def _spec(model: ModelInfo) -> dict[str, Any]:
    """As this version would write it, so that what has another form only is no difference; else as it is stored."""
    with suppress(ValidationError):
        return TrainSpec.model_validate(model.spec).model_dump(mode="json")
    return model.spec


def differences(path: str, values: list[Any]) -> Iterator[Difference]:
    """The smallest parts of JSON values that are not all equal, each with its path below `path`."""
    if all(value == values[0] for value in values):
        return
    if all(isinstance(value, dict) for value in values):
        for key in dict.fromkeys(key for value in values for key in value):
            yield from differences(f"{path}.{key}", [value.get(key) for value in values])
    elif all(isinstance(value, list) for value in values):
        for index in range(max(map(len, values))):
            yield from differences(f"{path}.{index}", [dict(enumerate(value)).get(index) for value in values])
    else:
        yield Difference(field=path, values=values)


def _digits(evaluations: list[Evaluation]) -> list[DigitComparison]:
    return [
        DigitComparison(
            digit=scores[0].digit,
            precision=[score.precision for score in scores],
            recall=[score.recall for score in scores],
            f1=[score.f1 for score in scores],
        )
        for scores in zip(*(evaluation.per_class for evaluation in evaluations), strict=True)
    ]

"""What every part of a spec has in common."""

from collections.abc import Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Discriminator, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

LARGEST_MOMENTUM = 0.999999  # of a running mean: float32 has the nearest to 1 as 1, with which it stays as it is


class Spec(BaseModel):
    """A frozen part of a spec: hashable, no unknown fields, no NaN or infinity, no text or truth value for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_json_types(cls, value: Any) -> Any:
        """Pydantic would take "3" and true for numbers, and "no" and 0 for false, which JSON Schema does not.

        Its strict mode would refuse 3.0 for a whole number, which JSON Schema does not, and an array for a tuple.
        """
        if not isinstance(value, dict):
            return value
        kinds = _plain_fields(cls)
        return {name: _NEITHER if _is_of_another(given, kinds.get(name)) else given for name, given in value.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Says beside an unknown field which there are; pydantic only says that it is unknown."""
        try:
            return handler(value)
        except ValidationError as error:
            lines = error.errors()
            if not any(map(_is_unknown_here, lines)):
                raise
            names = f"there is no such field here; there are {', '.join(cls.model_fields)}"
            told = [_line(line, names if _is_unknown_here(line) else line["msg"]) for line in lines]
            raise ValidationError.from_exception_data(error.title, told) from None


def without_default(field: dict[str, Any]) -> None:
    """Takes the default out of a field's JSON schema."""
    field.pop("default", None)


def _require_type(schema: dict[str, Any]) -> None:
    schema["required"] = ["type", *schema.get("required", [])]


class Kind(Spec):
    """One of several kinds, which its `type` tells: with a default for Python, but not where it is read from JSON."""

    model_config = ConfigDict(json_schema_extra=_require_type)


_NEITHER = object()  # no number and no truth value, which pydantic then says


@cache
def _plain_fields(spec: type[BaseModel]) -> dict[str, type]:
    """The fields that are numbers or truth values, or null, and nothing else, whatever their bounds."""
    kinds = {name: _without_null(field.annotation) for name, field in spec.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if kind in (int, float, bool)}


def _without_null(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    choices = [choice for choice in get_args(annotation) if choice is not NoneType]
    if len(choices) > 1:
        return annotation
    return get_args(choices[0])[0] if get_origin(choices[0]) is Annotated else choices[0]


def _is_of_another(given: Any, kind: type | None) -> bool:
    if kind is bool:
        return isinstance(given, int | float | str) and not isinstance(given, bool)
    return kind is not None and isinstance(given, bool | str)


def _is_unknown_here(line: ErrorDetails) -> bool:
    return line["type"] == "extra_forbidden" and len(line["loc"]) == 1


def _line(line: ErrorDetails, message: str) -> InitErrorDetails:
    kind = PydanticCustomError(line["type"], message, line.get("ctx"))
    return InitErrorDetails(type=kind, loc=line["loc"], input=line["input"])


def name_or_object(names: Sequence[str], kind: str) -> Discriminator:
    """Of a union whose members are tagged "name" and `kind`: any of the names, or an object of that type.

    The error of any other name is told here, so that no path has a tag that is no field.
    """

    def tag(value: Any) -> str | None:
        if isinstance(value, str):
            return "name" if value in names else None
        given = value.get("type", kind) if isinstance(value, dict) else getattr(value, "type", None)
        return kind if given == kind else None

    return Discriminator(
        tag,
        custom_error_type="name_or_object",
        custom_error_message=f"Input should be {', '.join(map(repr, names))}, or an object whose type is {kind!r}",
    )

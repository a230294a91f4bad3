"""The shapes of the Open Inference Protocol (V2, github.com/kserve/open-inference-protocol), which /v2 speaks.

Members of a request that are not known here are ignored, as the protocol's other servers do.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.schemas import MODEL_ID, Wire

IMAGE = "image"
BINARY_DATA = "binary_tensor_data"  # the one extension of the protocol that is spoken here
OutputName = Literal["probabilities", "digit", "is_digit", "digit_score"]
InputType = Literal["UINT8", "FP32", "BYTES"]
OutputType = Literal["FP32", "INT64", "BOOL"]


class ServerMetadata(Wire):
    """Who speaks the protocol here."""

    name: str = Field("inkling", description="The server's name", examples=["inkling"])
    version: str = Field(description="Its version", examples=["0.1.0"])
    extensions: list[str] = Field([BINARY_DATA], description="What it speaks beside", examples=[[BINARY_DATA]])


class ServerLive(Wire):
    """The process answers."""

    live: Literal[True] = Field(True, description="Always true", examples=[True])


class ServerReady(Wire):
    """The default model is warm."""

    ready: Literal[True] = Field(True, description="Always true; 503 says that it is not", examples=[True])


class ModelReady(Wire):
    """The model is warm."""

    name: str = Field(description="The model as it was asked for", examples=["default"])
    ready: Literal[True] = Field(True, description="Always true; 404 and 503 say that it is not", examples=[True])


class TensorMetadata(Wire):
    """What a tensor looks like."""

    name: str = Field(description="The tensor's name", examples=[IMAGE])
    datatype: str = Field(description="Type of its elements", examples=["UINT8"])
    shape: list[int] = Field(description="Its shape; -1 is any length", examples=[[-1, 28, 28]])


INPUTS = [TensorMetadata(name=IMAGE, datatype="UINT8", shape=[-1, 28, 28])]  # FP32, BYTES and other shapes too
OUTPUTS = [
    TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, 10]),
    TensorMetadata(name="digit", datatype="INT64", shape=[-1]),
    TensorMetadata(name="is_digit", datatype="BOOL", shape=[-1]),
    TensorMetadata(name="digit_score", datatype="FP32", shape=[-1]),
]


class ModelMetadata(Wire):
    """What a model takes and gives."""

    name: str = Field(description="The model as it was asked for", examples=["default"])
    versions: list[str] = Field(description="The id of the model that answers by this name", examples=[[MODEL_ID]])
    platform: Literal["jax"] = Field("jax", description="What runs it", examples=["jax"])
    inputs: list[TensorMetadata] = Field(description="What it takes")
    outputs: list[TensorMetadata] = Field(description="What it gives")


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_nulls_out(cls, given: Any) -> Any:
        """Many a client writes null for what it does not say."""
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class InputParameters(_Asked):
    """What is known of an input's parameters."""

    binary_data_size: int | None = Field(
        None, ge=0, description="Bytes of the tensor behind the JSON, in place of `data`", examples=[784]
    )


class OutputParameters(_Asked):
    """What is known of an output's parameters."""

    binary_data: bool | None = Field(None, description="Whether it comes as bytes behind the JSON", examples=[True])


class RequestParameters(_Asked):
    """What is known of a request's parameters."""

    binary_data_output: bool = Field(
        False, description="Whether outputs that do not say come as bytes behind the JSON", examples=[True]
    )


class InputTensor(_Asked):
    """Images: ink as the network takes it, or image files."""

    name: Literal["image"] = Field(description="Always image", examples=[IMAGE])
    datatype: InputType = Field(
        description="UINT8, FP32: ink from 0 to 255, high; BYTES: PNG, JPEG or WebP files, in JSON as base64",
        examples=["UINT8"],
    )
    shape: list[int] = Field(
        min_length=1,
        max_length=4,
        description="[N, 28, 28], [N, 784] or [N, 1, 28, 28]; of BYTES [N] or [N, 1]",
        examples=[[1, 28, 28]],
    )
    parameters: InputParameters = Field(InputParameters(), description="How the tensor is sent")
    data: list[Any] | None = Field(
        None, description="Its elements, flat or nested, row by row", examples=[[[[0] * 28] * 28]]
    )


class RequestedOutput(_Asked):
    """One output that is wanted."""

    name: OutputName = Field(description="The output's name", examples=["probabilities"])
    parameters: OutputParameters = Field(OutputParameters(), description="How it is to be sent")


class InferRequest(_Asked):
    """Images to be named."""

    id: str | None = Field(None, max_length=1_000, description="Comes back with the answer", examples=["42"])
    parameters: RequestParameters = Field(RequestParameters(), description="How the answer is to be sent")
    inputs: list[InputTensor] = Field(min_length=1, max_length=1, fail_fast=True, description="The one input, `image`")
    outputs: list[RequestedOutput] = Field(
        [], max_length=len(OUTPUTS), fail_fast=True, description="The outputs that are wanted; all, if left out"
    )

    def wanted(self) -> dict[str, bool]:
        """The names of the outputs that are wanted, in order, and whether each comes as bytes behind the JSON."""
        otherwise = self.parameters.binary_data_output
        asked: dict[str, bool | None] = {output.name: output.parameters.binary_data for output in self.outputs}
        wanted = asked or {output.name: None for output in OUTPUTS}
        return {name: otherwise if binary is None else binary for name, binary in wanted.items()}


def request_schema() -> dict[str, Any]:
    """The schema of InferRequest in one piece: in a body's schema, OpenAPI has no place for definitions."""
    schema = InferRequest.model_json_schema()
    return _inlined(schema, schema.pop("$defs"))


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    referred = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else {}
    whole = {**referred, **{key: value for key, value in part.items() if key != "$ref"}}
    return {key: _inlined(value, definitions) for key, value in whole.items()}


class BinaryData(Wire):
    """How an output is sent behind the JSON."""

    binary_data_size: int = Field(description="Bytes of the tensor", examples=[40])


class OutputTensor(Wire):
    """One output."""

    name: OutputName = Field(description="The output's name", examples=["probabilities"])
    datatype: OutputType = Field(description="Type of its elements", examples=["FP32"])
    shape: list[int] = Field(description="Its shape", examples=[[1, 10]])
    parameters: BinaryData | None = Field(None, description="Where it comes as bytes behind the JSON: their number")
    data: list[float | int | bool] | None = Field(
        None, description="Its elements, row by row, unless they are behind the JSON", examples=[[0.0] * 9 + [1.0]]
    )


class InferResponse(Wire):
    """What the images show."""

    model_name: str = Field(description="The model as it was asked for", examples=["default"])
    model_version: str = Field(description="The id of the model that answered", examples=[MODEL_ID])
    id: str | None = Field(None, description="The request's id", examples=["42"])
    outputs: list[OutputTensor] = Field(description="The outputs that were wanted, in that order")

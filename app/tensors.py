"""Tensors of the Open Inference Protocol as NumPy arrays: in JSON, or as bytes behind it.

The bytes are the protocol's binary tensor data extension: row-major, little-endian, one tensor after the other; an
element of BYTES has its length, 4 bytes, before it. The JSON's length is then said in a header.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Strict, TypeAdapter, ValidationError

from app.drawings import Drawing, decoded
from app.errors import InvalidInputError
from app.inference_schemas import BinaryData, InferRequest, InputTensor, OutputTensor, OutputType
from app.request_bodies import invalid_body

HEADER_LENGTH = "Inference-Header-Content-Length"
IMAGE_SHAPES = ((28, 28), (784,), (1, 28, 28))
FILE_SHAPES = ((), (1,))

_DATATYPES: dict[str, tuple[OutputType, str]] = {"f": ("FP32", "<f4"), "i": ("INT64", "<i8"), "b": ("BOOL", "?")}
_INPUT = ("body", "inputs", 0)
_Numbers = TypeAdapter(Annotated[list[Annotated[float, Strict()]], FailFast()])
_Texts = TypeAdapter(Annotated[list[str], FailFast()])


def read_request(body: bytes, header_length: int | None) -> tuple[InferRequest, memoryview]:
    """A request, and the bytes behind its JSON; header_length: the JSON's length where there are any.

    Raises InvalidInputError, or RequestValidationError, for what is no request.
    """
    if header_length is not None and header_length > len(body):
        raise InvalidInputError(
            f"the JSON is said to have {header_length} bytes, the body has {len(body)}", "header", HEADER_LENGTH
        )
    json_length = len(body) if header_length is None else header_length
    try:
        return InferRequest.model_validate_json(body[:json_length]), memoryview(body)[json_length:]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise InvalidInputError(f"not JSON: {first['ctx']['error']}", "body") from None
        raise invalid_body(error) from None


def read_images(tensor: InputTensor, binary: memoryview, *, max_images: int) -> NDArray[np.uint8] | list[Drawing]:
    """The images of an input: [N, 28, 28] uint8 as the network takes them, ink high; or the N image files of BYTES.

    binary: the bytes behind the request's JSON. Raises InvalidInputError naming the part of the tensor.
    """
    count = _count(tensor, max_images)
    _check_size(tensor, binary)
    if tensor.datatype == "BYTES":
        files = _files(tensor, binary, count)
        return [Drawing(file, (*_INPUT, "data", index)) for index, file in enumerate(files)]
    return _ink(_numbers(tensor, binary), tensor.datatype).reshape(count, 28, 28)


def write_outputs(
    arrays: Mapping[str, NDArray[Any]], binary: Mapping[str, bool]
) -> tuple[list[OutputTensor], list[bytes]]:
    """The arrays as tensors, and the bytes behind the JSON of those that `binary` says it of."""
    tensors, blobs = [], []
    for name, array in arrays.items():
        datatype, stored = _DATATYPES[array.dtype.kind]
        tensor = OutputTensor(name=name, datatype=datatype, shape=list(array.shape))
        if binary[name]:
            blobs.append(array.astype(stored).tobytes())
            tensor = tensor.model_copy(update={"parameters": BinaryData(binary_data_size=len(blobs[-1]))})
        else:
            tensor = tensor.model_copy(update={"data": array.ravel().tolist()})
        tensors.append(tensor)
    return tensors, blobs


def _count(tensor: InputTensor, max_images: int) -> int:
    """The images in a tensor, by its shape."""
    count, *of_each = tensor.shape
    shapes = FILE_SHAPES if tensor.datatype == "BYTES" else IMAGE_SHAPES
    if tuple(of_each) not in shapes:
        right = " or ".join(str(["N", *shape]).replace("'", "") for shape in shapes)
        raise InvalidInputError(f"{tensor.datatype} of shape {tensor.shape}; expected {right}", *_INPUT, "shape")
    if not 1 <= count <= max_images:
        raise InvalidInputError(f"{count} images; 1 to {max_images} in one request", *_INPUT, "shape")
    return count


def _check_size(tensor: InputTensor, binary: memoryview) -> None:
    """A tensor is either in the JSON or is all that is behind it."""
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise InvalidInputError("give either data or the parameter binary_data_size", *_INPUT)
    if (size or 0) != len(binary):
        raise InvalidInputError(
            f"{len(binary)} bytes behind the JSON where {size or 0} are announced",
            *(*_INPUT, "parameters", "binary_data_size"),
        )


def _numbers(tensor: InputTensor, binary: memoryview) -> NDArray[Any]:
    """The elements of UINT8 or FP32, [n], as many as the shape says."""
    count = math.prod(tensor.shape)
    if tensor.data is not None:
        return _of_json(tensor, count)
    stored = np.dtype("<f4" if tensor.datatype == "FP32" else np.uint8)
    if len(binary) != count * stored.itemsize:
        raise InvalidInputError(
            f"{len(binary)} bytes; {tensor.datatype} of shape {tensor.shape} has {count * stored.itemsize}",
            *(*_INPUT, "parameters", "binary_data_size"),
        )
    return np.frombuffer(binary, stored)


def _of_json(tensor: InputTensor, count: int) -> NDArray[np.float64]:
    try:
        numbers = _Numbers.validate_python(_flat(tensor.data or []))
    except ValidationError:
        raise InvalidInputError("not only numbers", *_INPUT, "data") from None
    _check_count(len(numbers), count, tensor)
    return np.array(numbers, np.float64)


def _ink(numbers: NDArray[Any], datatype: str) -> NDArray[np.uint8]:
    if not (np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= 255):
        raise InvalidInputError("ink goes from 0 to 255", *_INPUT, "data")
    if datatype == "FP32" and 0 < numbers.max() <= 1:
        raise InvalidInputError("ink goes from 0 to 255, not from 0 to 1", *_INPUT, "data")
    ink = np.rint(numbers).astype(np.uint8)
    if datatype == "UINT8" and (ink != numbers).any():
        raise InvalidInputError("UINT8 are whole numbers", *_INPUT, "data")
    return ink


def _files(tensor: InputTensor, binary: memoryview, count: int) -> list[bytes]:
    """The elements of BYTES, as many as the shape says."""
    files = list(_split(binary) if tensor.data is None else _decoded(tensor.data))
    _check_count(len(files), count, tensor)
    return files


def _split(binary: memoryview) -> Iterator[bytes]:
    start = 0
    while start < len(binary):
        (length,) = struct.unpack_from("<I", binary, start) if start + 4 <= len(binary) else (len(binary),)
        start += 4 + length
        if start > len(binary):
            raise InvalidInputError("the last element is cut off", *_INPUT, "parameters", "binary_data_size")
        yield bytes(binary[start - length : start])


def _decoded(data: list[Any]) -> Iterator[bytes]:
    """JSON has no bytes: base64, or data URLs."""
    try:
        yield from map(decoded, _Texts.validate_python(_flat(data)))
    except ValueError:  # pydantic's too
        raise InvalidInputError("not only texts in base64", *_INPUT, "data") from None


def _flat(data: Sequence[Any]) -> Sequence[Any]:
    """Row by row, however deep it was nested."""
    while data and all(isinstance(part, list) for part in data):
        data = list(chain.from_iterable(data))
    return data


def _check_count(given: int, count: int, tensor: InputTensor) -> None:
    if given != count:
        raise InvalidInputError(f"{given} elements; shape {tensor.shape} has {count}", *_INPUT, "data")

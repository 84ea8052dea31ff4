"""Messages of the Open Inference Protocol over HTTP: JSON, with the binary tensor extension.

https://github.com/kserve/open-inference-protocol and, for the extension, Triton's ``protocol/extension_binary_data.md``: the JSON comes
first, as long as the header ``Inference-Header-Content-Length`` says, and tensors follow it as they lie in memory, little-endian, row by
row. Elements of BYTES are preceded by their length as 4 bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}
"""The protocol's name of a dtype, by numpy's."""
DTYPES = {name: dtype for dtype, name in DATATYPES.items()}


class BadMessage(ValueError):
    """A message that does not follow the protocol; the text says what is wrong, for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A body and the headers that tell how to read it."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request as read: ``outputs`` are the names asked for (empty: all), ``binary_outputs`` those wanted as binary data (None: none was
    named, and ``binary_by_default`` holds). ``parameters`` are the request's own."""

    id: str | None
    inputs: Mapping[str, NDArray[np.generic]]
    outputs: tuple[str, ...]
    binary_outputs: Mapping[str, bool]
    binary_by_default: bool
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TensorHead:
    """What the JSON part says of one tensor: its data are ``binary_bytes`` of what follows it, or ``data`` (None: there is neither)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    binary_bytes: int | None
    data: object

    @property
    def dtype(self) -> str:
        """numpy's name of the datatype."""
        return DTYPES[self.datatype]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def check_size(self, size: int) -> None:
        """Raise BadMessage where binary data of this many bytes cannot be this tensor. Text has lengths of its own."""
        import numpy as np

        if self.datatype != "BYTES" and size != (wanted := self.count * np.dtype(self.dtype).itemsize):
            raise BadMessage(f"'{self.name}': shape {list(self.shape)} of {self.datatype} is {wanted} bytes, the data have {size}")

    def array(self, rest: memoryview) -> NDArray[np.generic]:
        """The tensor, from its own binary data or from JSON. Raises BadMessage."""
        return _from_json(self) if self.binary_bytes is None else _from_binary(self, rest)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without the data: see InferRequest for the rest."""

    id: str | None
    inputs: tuple[TensorHead, ...]
    outputs: tuple[str, ...]
    binary_outputs: Mapping[str, bool]
    binary_by_default: bool
    parameters: Mapping[str, object]


def encode_request(inputs: Mapping[str, NDArray[np.generic]], *, request_id: str | None = None, binary: bool = True) -> Message:
    """A request for all outputs; tensors as binary data (answers too), or all as JSON."""
    head: dict[str, object] = {} if request_id is None else {"id": request_id}
    if binary:
        head["parameters"] = {"binary_data_output": True}
    tensors, chunks = _encoded(inputs, dict.fromkeys(inputs, binary))
    head["inputs"] = tensors
    return _message(head, chunks)


def encode_response(
    model: str,
    outputs: Mapping[str, NDArray[np.generic]],
    binary: Mapping[str, bool],
    *,
    version: str = "1",
    request_id: str | None = None,
) -> Message:
    """An answer; ``binary`` says of each output whether it goes as binary data."""
    head: dict[str, object] = {"model_name": model, "model_version": version}
    if request_id is not None:
        head["id"] = request_id
    tensors, chunks = _encoded(outputs, binary)
    head["outputs"] = tensors
    return _message(head, chunks)


def decode_request(body: bytes, header_length: int | None) -> InferRequest:
    """Read a request. Raises BadMessage."""
    text, rest = split(body, header_length)
    head = read_request_head(text)
    return InferRequest(head.id, _arrays(head.inputs, rest), head.outputs, head.binary_outputs, head.binary_by_default, head.parameters)


def read_request_head(text: bytes) -> RequestHead:
    """Read the JSON part of a request; what follows it is not looked at. Raises BadMessage."""
    head = _read_json(text)
    parameters = _mapping(head.get("parameters", {}), "parameters")
    wanted = head.get("outputs", [])
    if not isinstance(wanted, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in wanted):
        raise BadMessage("'outputs' is a list of objects with a name")
    given = head.get("id")
    if given is not None and not isinstance(given, str):
        raise BadMessage("'id' is text")
    return RequestHead(
        id=given,
        inputs=_tensor_heads(head, "inputs"),
        outputs=tuple(one["name"] for one in wanted),
        binary_outputs={
            one["name"]: bool(one["parameters"]["binary_data"])
            for one in wanted
            if isinstance(one.get("parameters"), dict) and "binary_data" in one["parameters"]
        },
        binary_by_default=bool(parameters.get("binary_data_output", False)),
        parameters=parameters,
    )


def split(body: bytes, header_length: int | None) -> tuple[bytes, memoryview]:
    """The JSON part, and the binary data that follow it. Raises BadMessage."""
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise BadMessage(f"{HEADER_LENGTH} is {length}, and the body has {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def decode_response(body: bytes, header_length: int | None) -> dict[str, NDArray[np.generic]]:
    """The outputs of an answer, by name, in its order. Raises BadMessage, with the server's own words where it sent an error."""
    text, rest = split(body, header_length)
    head = _read_json(text)
    if "error" in head:
        raise BadMessage(str(head["error"]))
    return _arrays(_tensor_heads(head, "outputs"), rest)


def _message(head: Mapping[str, object], chunks: Sequence[bytes]) -> Message:
    try:
        text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise BadMessage("NaN and infinity cannot be told in JSON: ask for binary data") from error
    if not chunks:
        return Message(text, {"Content-Type": JSON_TYPE})
    return Message(b"".join((text, *chunks)), {"Content-Type": BINARY_TYPE, HEADER_LENGTH: str(len(text))})


def _encoded(arrays: Mapping[str, NDArray[np.generic]], binary: Mapping[str, bool]) -> tuple[list[dict[str, object]], list[bytes]]:
    tensors: list[dict[str, object]] = []
    chunks: list[bytes] = []
    for name, array in arrays.items():
        kind = DATATYPES["object"] if array.dtype.kind in "OSU" else DATATYPES.get(array.dtype.name)
        if kind is None:
            raise BadMessage(f"'{name}': the protocol has no datatype for {array.dtype}")
        tensor: dict[str, object] = {"name": name, "shape": list(array.shape), "datatype": kind}
        if binary.get(name, False):
            data = _bytes_of(array)
            tensor["parameters"] = {"binary_data_size": len(data)}
            chunks.append(data)
        else:
            tensor["data"] = [_text_of(item) for item in array.ravel().tolist()] if kind == "BYTES" else array.ravel().tolist()
        tensors.append(tensor)
    return tensors, chunks


def _bytes_of(array: NDArray[np.generic]) -> bytes:
    if array.dtype.kind not in "OSU":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def _text_of(item: object) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _read_json(text: bytes) -> dict[str, object]:
    try:
        head = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not valid JSON: {error}") from error
    return _mapping(head, "the body")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number in JSON")


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadMessage(f"{where} is an object")
    return value


def _tensor_heads(head: Mapping[str, object], key: str) -> tuple[TensorHead, ...]:
    listed = head.get(key)
    if not isinstance(listed, list) or not listed:
        raise BadMessage(f"'{key}' is a list of at least one tensor")
    found: dict[str, TensorHead] = {}
    for entry in listed:
        tensor = _mapping(entry, f"a tensor of '{key}'")
        name = tensor.get("name")
        if not isinstance(name, str) or name in found:
            raise BadMessage(f"each tensor of '{key}' has a name of its own")
        found[name] = _tensor_head(name, tensor)
    return tuple(found.values())


def _tensor_head(name: str, tensor: Mapping[str, object]) -> TensorHead:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise BadMessage(f"'{name}': unknown datatype {datatype!r}")
    if not isinstance(shape, list) or not all(isinstance(length, int) and not isinstance(length, bool) and length >= 0 for length in shape):
        raise BadMessage(f"'{name}': 'shape' is a list of whole numbers, not negative")
    size = _mapping(tensor.get("parameters", {}), f"'parameters' of '{name}'").get("binary_data_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise BadMessage(f"'{name}': binary_data_size is {size!r}: a number of bytes")
    return TensorHead(name, datatype, tuple(shape), size, tensor.get("data"))


def _arrays(tensors: Sequence[TensorHead], rest: memoryview) -> dict[str, NDArray[np.generic]]:
    found = {}
    for tensor, data in zip(tensors, pieces(tensors, rest), strict=True):
        found[tensor.name] = tensor.array(data)
    return found


def pieces(tensors: Sequence[TensorHead], rest: memoryview) -> list[memoryview]:
    """Each tensor's own part of the binary data, empty for one in JSON. Raises BadMessage where they are cut off, or more follows."""
    found, at = [], 0
    for tensor in tensors:
        size = tensor.binary_bytes or 0
        if size > len(rest) - at:
            raise BadMessage(f"'{tensor.name}': binary_data_size is {size}, and {len(rest) - at} bytes are left of the body")
        found.append(rest[at : at + size])
        at += size
    if at != len(rest):
        raise BadMessage(f"{len(rest) - at} bytes follow the last tensor")
    return found


def _from_binary(tensor: TensorHead, data: memoryview) -> NDArray[np.generic]:
    import numpy as np

    tensor.check_size(len(data))
    if tensor.datatype == "BYTES":
        items = _byte_items(tensor.name, bytes(data))
        if len(items) != tensor.count:
            raise BadMessage(f"'{tensor.name}': shape {list(tensor.shape)} has {tensor.count} elements, the data {len(items)}")
        array = np.empty(tensor.count, dtype=object)
        array[:] = items
        return array.reshape(tensor.shape)
    kind = np.dtype(tensor.dtype)
    return np.frombuffer(data, dtype=kind.newbyteorder("<")).astype(kind, copy=False).reshape(tensor.shape)


def _whole(data: object, as_floats: NDArray[np.generic]) -> NDArray[np.generic]:
    """Whole numbers on both sides of 2**63, of which numpy makes floats; what else is among them stays as numpy has it."""
    import numpy as np

    given = np.asarray(data, dtype=object)
    return given.astype(np.uint64) if all(type(item) is int for item in given.ravel().tolist()) else as_floats


def _from_json(tensor: TensorHead) -> NDArray[np.generic]:
    import numpy as np

    name, dtype = tensor.name, tensor.dtype
    if tensor.data is None:
        raise BadMessage(f"'{name}' has neither 'data' nor binary data")
    try:
        array = np.asarray(tensor.data)
        if dtype == "uint64" and array.dtype.kind == "f":
            array = _whole(tensor.data, array)
        if dtype == "object":
            flat = np.empty(array.size, dtype=object)
            flat[:] = [_text_bytes(name, item) for item in array.ravel().tolist()]
            array = flat
        elif array.size and (array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and np.dtype(dtype).kind in "biu")):
            raise BadMessage(f"'{name}': the data do not fit {tensor.datatype}")
        else:
            with np.errstate(over="raise"):
                cast_to = array.astype(dtype)
            if np.dtype(dtype).kind in "iu" and not np.array_equal(cast_to, array):
                raise BadMessage(f"'{name}': a value does not fit {tensor.datatype}")
            array = cast_to
    except FloatingPointError as error:
        raise BadMessage(f"'{name}': a value does not fit {tensor.datatype}") from error
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, BadMessage):
            raise
        raise BadMessage(f"'{name}': 'data' is a list of numbers, rows of one length") from error
    if array.size != tensor.count:
        raise BadMessage(f"'{name}': shape {list(tensor.shape)} has {tensor.count} elements, the data {array.size}")
    return array.reshape(tensor.shape)


def _text_bytes(name: str, item: object) -> bytes:
    if not isinstance(item, str):
        raise BadMessage(f"'{name}': BYTES are text in JSON")
    return item.encode()


def _byte_items(name: str, data: bytes) -> list[bytes]:
    items, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise BadMessage(f"'{name}': an element's length is cut off")
        (length,) = struct.unpack_from("<I", data, at)
        if at + 4 + length > len(data):
            raise BadMessage(f"'{name}': an element of {length} bytes is cut off")
        items.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return items

"""A request on its way: read from the protocol, checked against the model, waiting, answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from harness.kserve.codec import DATATYPES, BadMessage, RequestHead, TensorHead, pieces, read_request_head, split
from harness.server import frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT_LAYOUTS = 512
"""Different JSON parts that are remembered with what they mean: most clients send the same one again and again."""
LONGEST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the model: its name, the one that the data set has for it, the dtypes that it takes, the shape of a sample."""

    name: str
    alias: str
    dtype: str
    dtypes: tuple[str, ...]
    row: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    dtype: str
    row: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the model process told of itself. ``most`` is the largest batch; requests share one only where ``splits``."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    most: int
    splits: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer: HTTP's status, the reason as it is counted, and a line for people."""

    status: HTTPStatus
    reason: str
    message: str
    retry_after_s: int | None = None


@dataclass(slots=True)
class Answer:
    """One request's share of a batch: each output's shape and bytes, in the model's order."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    data: tuple[memoryview, ...]

    def arrays(self, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        import numpy as np

        return {
            name: np.frombuffer(data, dtype).reshape(shape)
            for name, (dtype, shape), data in zip(names, self.shapes, self.data, strict=True)
        }


def _unheard(_: Answer | Failure) -> None:
    """What is called for a request that nobody waits for."""


@dataclass(slots=True)
class Request:
    """``signature`` tells dtypes and the shapes of samples: equal ones may share a batch. ``chunks`` are the inputs' bytes in the model's
    order. ``wanted`` are the outputs by number, each with whether it goes as binary data. ``done`` is called once."""

    id: str | None
    rows: int
    signature: bytes
    chunks: Sequence[bytes | memoryview]
    wanted: tuple[tuple[int, bool], ...]
    done: Callable[[Answer | Failure], None] = _unheard
    arrived_ns: int = 0
    taken_ns: int = 0
    alone: bool = False
    """After a batch failed each of its requests is tried once by itself: one bad request does not fail its neighbours."""
    gone: bool = False
    """Its client has hung up, or it was answered already."""
    digest: bytes | None = None

    def finish(self, outcome: Answer | Failure) -> None:
        if not self.gone:
            done = self.done
            self.drop()
            done(outcome)

    def drop(self) -> None:
        """Nobody waits for it any more. What answers it knows it, too: let go, both and the request's body are freed at once, not when the
        garbage collector comes by, which takes 0.2 s for what 50,000 requests leave."""
        self.gone = True
        self.done = _unheard


@dataclass(frozen=True, slots=True)
class Layout:
    """What a JSON part means for this model, where all tensors follow it as binary data: ``parts`` are their offsets and sizes."""

    id: str | None
    rows: int
    signature: bytes
    parts: tuple[tuple[int, int], ...]
    total: int
    wanted: tuple[tuple[int, bool], ...]


class Reader:
    """Reads requests for one model. Raises BadMessage, saying what the model wants."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._layouts: dict[bytes, Layout] = {}
        self._names = tuple(given.name for given in model.inputs)
        self._by_name = {name: given for given in model.inputs for name in (given.alias, given.name)}
        self._outputs = {output.name: number for number, output in enumerate(model.outputs)}

    def read(self, body: bytes, header_length: int | None) -> Request:
        """One request, from its body."""
        text, rest = (body, memoryview(b"")) if header_length is None else split(body, header_length)
        layout = self._layouts.get(text)
        if layout is not None and len(rest) == layout.total:
            chunks: list[bytes | memoryview] = [rest[at : at + size] for at, size in layout.parts]
            return Request(layout.id, layout.rows, layout.signature, chunks, layout.wanted)
        head = read_request_head(text)
        request = self.check(head, pieces(head.inputs, rest))
        if len(text) <= LONGEST_KEPT and head.id is None and all(one.binary_bytes is not None for one in head.inputs):
            if len(self._layouts) >= KEPT_LAYOUTS:
                self._layouts.clear()
            self._layouts[bytes(text)] = self._layout(head, request, len(rest))
        return request

    def check(self, head: RequestHead, data: Sequence[memoryview]) -> Request:
        """A request whose head is read, with the binary data of each of its inputs."""
        found: dict[str, tuple[TensorHead, memoryview]] = {}
        for tensor, piece in zip(head.inputs, data, strict=True):
            given = self._by_name.get(tensor.name)
            if given is None:
                raise BadMessage(f"there is no input '{tensor.name}': the model's are {', '.join(self._names)}")
            if given.name in found:
                raise BadMessage(f"input '{given.name}' is given twice")
            found[given.name] = tensor, piece
        if missing := [name for name in self._names if name not in found]:
            raise BadMessage(f"input '{missing[0]}' is missing")
        rows = {self._rows(given, found[given.name][0]) for given in self.model.inputs}
        if len(rows) != 1:
            raise BadMessage(f"the inputs have {' and '.join(map(str, sorted(rows)))} samples: the first axis is equally long everywhere")
        (samples,) = rows
        if not 1 <= samples <= self.model.most:
            raise BadMessage(f"the request has {samples} samples: this server takes 1 to {self.model.most} (max_batch_size)")
        ordered = [found[name] for name in self._names]
        signature = frames.head_of([[name, one.dtype, list(one.shape[1:])] for name, (one, _) in zip(self._names, ordered, strict=True)])
        return Request(head.id, samples, signature, [_bytes_of(one, piece) for one, piece in ordered], self.wanted(head))

    def wanted(self, head: RequestHead) -> tuple[tuple[int, bool], ...]:
        """The outputs by number, each with whether it goes as binary data."""
        if unknown := [name for name in head.outputs if name not in self._outputs]:
            raise BadMessage(f"there is no output '{unknown[0]}': the model's are {', '.join(self._outputs)}")
        names = head.outputs or tuple(self._outputs)
        return tuple((self._outputs[name], head.binary_outputs.get(name, head.binary_by_default)) for name in names)

    def _rows(self, given: Input, tensor: TensorHead) -> int:
        if tensor.dtype not in given.dtypes:
            kinds = " or ".join(DATATYPES.get(name, name) for name in given.dtypes)
            raise BadMessage(f"input '{given.name}' is {kinds}, the request has {tensor.datatype}")
        row = tensor.shape[1:]
        fits = len(tensor.shape) == len(given.row) + 1 and all(one in (None, length) for one, length in zip(given.row, row, strict=True))
        if not fits:
            raise BadMessage(f"input '{given.name}' has the shape {shape_text(given.row)}, the request {list(tensor.shape)}")
        return tensor.shape[0]

    def _layout(self, head: RequestHead, request: Request, total: int) -> Layout:
        starts, at = {}, 0
        for tensor in head.inputs:
            size = tensor.binary_bytes or 0
            starts[self._by_name[tensor.name].name] = (at, size)
            at += size
        return Layout(head.id, request.rows, request.signature, tuple(starts[name] for name in self._names), total, request.wanted)


def shape_text(row: Sequence[int | None]) -> str:
    """``[samples, 3, any]``."""
    return f"[{', '.join(('samples', *('any' if length is None else str(length) for length in row)))}]"


def _bytes_of(tensor: TensorHead, piece: memoryview) -> bytes | memoryview:
    if tensor.datatype == DATATYPES["object"]:
        raise BadMessage(f"'{tensor.name}': BYTES are not served")
    if tensor.binary_bytes is not None:
        tensor.check_size(len(piece))
        return piece
    return tensor.array(piece).tobytes()


def served_model(told: Mapping[str, object]) -> ServedModel:
    """From the head of a READY frame."""
    from pydantic import TypeAdapter

    return TypeAdapter(ServedModel).validate_python({key: told[key] for key in ("inputs", "outputs", "most", "splits")})

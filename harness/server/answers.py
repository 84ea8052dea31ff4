"""An answered request as an HTTP response. What is equal for all answers of one shape is made once."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from harness.kserve.codec import BINARY_TYPE, DATATYPES, HEADER_LENGTH, BadMessage, encode_response
from harness.server.http import error_pieces, response_head
from harness.server.requests import Answer, Failure, Request

if TYPE_CHECKING:
    from harness.server.http import Piece

VERSION = "1"
KEPT_HEADS = 4096


class Writer:
    """Writes the responses of one model."""

    def __init__(self, model: str, outputs: tuple[str, ...]) -> None:
        self._model = model
        self._names = outputs
        self._heads: dict[object, bytes] = {}

    def response(self, request: Request, outcome: Answer | Failure) -> list[Piece]:
        """The whole response, in pieces."""
        if isinstance(outcome, Failure):
            extra = () if outcome.retry_after_s is None else (f"retry-after: {outcome.retry_after_s}",)
            return error_pieces(outcome.status, outcome.message, *extra)
        wanted = request.wanted
        key = (wanted, outcome.shapes)
        if request.id is None and (head := self._heads.get(key)) is not None:
            return [head, *[outcome.data[number] for number, _ in wanted]]
        if not all(binary for _, binary in wanted):
            return self._in_json(request, outcome)
        head = self._binary_head(request, outcome)
        if request.id is None and len(self._heads) < KEPT_HEADS:
            self._heads[key] = head
        return [head, *[outcome.data[number] for number, _ in wanted]]

    def _binary_head(self, request: Request, answer: Answer) -> bytes:
        told: dict[str, object] = {"model_name": self._model, "model_version": VERSION}
        if request.id is not None:
            told["id"] = request.id
        outputs, total = [], 0
        for number, _ in request.wanted:
            kind, shape = answer.shapes[number]
            size = len(answer.data[number])
            total += size
            tensor = {"name": self._names[number], "shape": shape, "datatype": DATATYPES[kind], "parameters": {"binary_data_size": size}}
            outputs.append(tensor)
        told["outputs"] = outputs
        text = json.dumps(told, separators=(",", ":")).encode()
        return response_head(HTTPStatus.OK, BINARY_TYPE, len(text) + total, f"{HEADER_LENGTH.lower()}: {len(text)}") + text

    def _in_json(self, request: Request, answer: Answer) -> list[Piece]:
        """Some output or all of them in JSON."""
        arrays = answer.arrays(self._names)
        chosen = {self._names[number]: arrays[self._names[number]] for number, _ in request.wanted}
        binary = {self._names[number]: as_binary for number, as_binary in request.wanted}
        try:
            message = encode_response(self._model, chosen, binary, version=VERSION, request_id=request.id)
        except BadMessage as error:
            return error_pieces(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        length = message.headers.get(HEADER_LENGTH)
        extra = () if length is None else (f"{HEADER_LENGTH.lower()}: {length}",)
        return [response_head(HTTPStatus.OK, message.headers["Content-Type"], len(message.body), *extra), message.body]

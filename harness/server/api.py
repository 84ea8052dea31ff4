"""The paths of the Open Inference Protocol (KServe v2) over HTTP, of Triton's extensions, and of this server's own.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from harness.kserve.codec import JSON_TYPE, BadMessage
from harness.server import describe
from harness.server.answers import VERSION, Writer
from harness.server.counters import prometheus_text
from harness.server.http import Call, Reply, error_pieces, response_head
from harness.server.requests import Answer, Failure
from harness.server.service import DRAINING, NO_MODEL

if TYPE_CHECKING:
    from harness.server.http import Piece
    from harness.server.service import Service

FACTS_TIMEOUT_S = 120.0


class Api:
    """Answers the calls of all connections."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._model = service.settings.deployment.model
        name = self._model.encode()
        self._infer_paths = {b"/v2/models/" + name + b"/infer", b"/v2/models/" + name + b"/versions/" + VERSION.encode() + b"/infer"}
        self._writer: Writer | None = None
        self._asked: set[asyncio.Task[None]] = set()

    def __call__(self, call: Call, reply: Reply) -> Callable[[], None] | None:
        if call.path in self._infer_paths and call.method == b"POST":
            return self._infer(call, reply)
        pieces = self._other(call, reply)
        if pieces is not None:
            if call.method == b"HEAD":
                pieces = pieces[:1]
            reply(pieces)
        return None

    def _infer(self, call: Call, reply: Reply) -> Callable[[], None] | None:
        service = self._service
        reader = service.reader
        if reader is None:
            service.counters.failed[NO_MODEL.reason] += 1
            reply(error_pieces(NO_MODEL.status, NO_MODEL.message, f"retry-after: {NO_MODEL.retry_after_s}"))
            return None
        try:
            request = reader.read(call.body, call.header_length)
        except BadMessage as error:
            service.counters.failed["bad request"] += 1
            reply(error_pieces(HTTPStatus.BAD_REQUEST, str(error)))
            return None
        writer = self._writer
        if writer is None:
            writer = self._writer = Writer(self._model, tuple(output.name for output in reader.model.outputs))

        def done(outcome: Answer | Failure) -> None:
            reply(writer.response(request, outcome), close=outcome is DRAINING)

        request.done = done
        service.submit(request)

        def cancel() -> None:
            if not request.gone:
                request.drop()
                service.counters.failed["client gone"] += 1

        return cancel

    def _other(self, call: Call, reply: Reply) -> list[Piece] | None:
        """Everything but inference. None where the answer comes later."""
        path = call.path.decode("latin-1").partition("?")[0]
        parts = [unquote(part) for part in path.strip("/").split("/")]
        wanted = "POST" if parts[:2] == ["v2", "repository"] or parts[-1] == "infer" else "GET"
        method = call.method.decode("latin-1")
        found = self._found(parts)
        if found is None and parts != ["harness", "facts"]:
            return error_pieces(HTTPStatus.NOT_FOUND, f"there is nothing under {path}")
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            return error_pieces(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {wanted}", f"allow: {wanted}")
        if found is None:
            self._facts(reply)
            return None
        return found()

    def _found(self, parts: list[str]) -> Callable[[], list[Piece]] | None:
        service = self._service
        match parts:
            case ["v2", "health", "live"]:
                return lambda: _empty(HTTPStatus.OK)
            case ["v2", "health", "ready"]:
                return lambda: _empty(HTTPStatus.OK if service.is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
            case ["v2"]:
                return lambda: _json(describe.server_metadata())
            case ["v2", "models", "stats"]:
                return lambda: _json(describe.statistics(service.settings, service.counters))
            case ["v2", "models", model, "versions", version, *rest]:
                return lambda: self._of_model(model, version, rest)
            case ["v2", "models", model, *rest]:
                return lambda: self._of_model(model, None, rest)
            case ["v2", "repository", "index"]:
                state = "READY" if service.is_ready else "UNAVAILABLE"
                return lambda: _json([{"name": self._model, "version": VERSION, "state": state, "reason": ""}])
            case ["v2", "repository", "models", model, "load" | "unload" as verb]:
                return lambda: self._load_or_unload(model, verb)
            case ["metrics"]:
                return lambda: _plain(prometheus_text(service.counters, service.gauges(), self._model))
            case ["harness", "counters"]:
                return lambda: _json(dataclasses.asdict(describe.server_counters(service.counters)))
        return None

    def _of_model(self, model: str, version: str | None, rest: list[str]) -> list[Piece]:
        service = self._service
        if model != self._model:
            return error_pieces(HTTPStatus.NOT_FOUND, f"unknown model '{model}': this server has '{self._model}'")
        if version not in (None, VERSION):
            return error_pieces(HTTPStatus.NOT_FOUND, f"'{model}' has no version {version}: it has {VERSION}")
        if rest == ["ready"]:
            return _empty(HTTPStatus.OK if service.is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
        if rest == ["stats"]:
            return _json(describe.statistics(service.settings, service.counters))
        if rest not in ([], ["config"], ["infer"]):
            return error_pieces(HTTPStatus.NOT_FOUND, f"a model has no '{'/'.join(rest)}'")
        if service.model is None:
            return error_pieces(NO_MODEL.status, NO_MODEL.message, f"retry-after: {NO_MODEL.retry_after_s}")
        described = describe.model_config if rest == ["config"] else describe.model_metadata
        return _json(described(service.settings, service.model))

    def _load_or_unload(self, model: str, verb: str) -> list[Piece]:
        """The model is there for as long as the server: to load it again changes nothing, and it cannot be unloaded."""
        if model != self._model:
            return error_pieces(HTTPStatus.BAD_REQUEST, f"unknown model '{model}': this server has '{self._model}'")
        if verb == "unload":
            return error_pieces(HTTPStatus.BAD_REQUEST, "the model of this server is not unloaded: stop the server")
        return _json({})

    def _facts(self, reply: Reply) -> None:
        async def ask() -> None:
            try:
                facts = await asyncio.wait_for(self._service.facts(), FACTS_TIMEOUT_S)
            except (TimeoutError, asyncio.CancelledError):
                reply(error_pieces(NO_MODEL.status, "no model process has answered"))
            else:
                reply(_json(facts))

        task = asyncio.get_running_loop().create_task(ask())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)


def _json(content: Mapping[str, object] | list[dict[str, str]]) -> list[Piece]:
    body = json.dumps(content).encode()
    return [response_head(HTTPStatus.OK, JSON_TYPE, len(body)), body]


def _plain(body: bytes) -> list[Piece]:
    return [response_head(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", len(body)), body]


def _empty(status: HTTPStatus) -> list[Piece]:
    return [response_head(status, JSON_TYPE, 0)]

"""The same service over gRPC: the Open Inference Protocol's own methods, none of Triton's extensions."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from harness.kserve.codec import DATATYPES, DTYPES, BadMessage, RequestHead, TensorHead
from harness.kserve.grpc_messages import CONTENTS, METHODS, SERVICE, message
from harness.server import describe
from harness.server.answers import VERSION
from harness.server.requests import Answer, Failure
from harness.server.service import NO_MODEL

if TYPE_CHECKING:
    from harness.server.service import Service

CODES = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}
"""gRPC's status by HTTP's; any other is INTERNAL."""
STOP_GRACE_S = 0.2


class RpcServer:
    """Listens beside the HTTP server, on the same loop."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        import grpc

        self._service = service
        self._model = service.settings.deployment.model
        most = service.settings.max_body_bytes
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", -1)]
        self._server = grpc.aio.server(options=options)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(self, name),
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name in METHODS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        """Raises RuntimeError where it cannot listen there."""

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(STOP_GRACE_S)

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._service.is_ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._check(request.name, request.version, context)
        return message("ModelReadyResponse")(ready=self._service.is_ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(**{**describe.server_metadata(), "extensions": []})

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await self._check(request.name, request.version, context)
        if self._service.model is None:
            await self._end(NO_MODEL, context)
            raise AssertionError("the call is ended")
        return message("ModelMetadataResponse")(**describe.model_metadata(self._service.settings, self._service.model))

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._check(request.model_name, request.model_version, context)
        service = self._service
        reader = service.reader
        if reader is None:
            await self._end(NO_MODEL, context)
            raise AssertionError("the call is ended")
        try:
            asked = reader.check(*_read(request))
        except BadMessage as error:
            service.counters.failed["bad request"] += 1
            await self._end(Failure(HTTPStatus.BAD_REQUEST, "bad request", str(error)), context)
            raise AssertionError("the call is ended") from error
        answered: asyncio.Future[Answer | Failure] = asyncio.get_running_loop().create_future()
        asked.done = lambda outcome: None if answered.done() else answered.set_result(outcome)
        service.submit(asked)
        try:
            outcome = await answered
        except asyncio.CancelledError:
            if not asked.gone:
                asked.drop()
                service.counters.failed["client gone"] += 1
            raise
        if isinstance(outcome, Failure):
            await self._end(outcome, context)
            raise AssertionError("the call is ended")
        return self._response(request.id, asked.wanted, outcome)

    def _response(self, request_id: str, wanted: tuple[tuple[int, bool], ...], answer: Answer) -> Any:
        assert self._service.model is not None
        response = message("ModelInferResponse")(model_name=self._model, model_version=VERSION, id=request_id)
        for number, _ in wanted:
            kind, shape = answer.shapes[number]
            response.outputs.add(name=self._service.model.outputs[number].name, datatype=DATATYPES[kind], shape=shape)
            response.raw_output_contents.append(bytes(answer.data[number]))
        return response

    async def _check(self, model: str, version: str, context: Any) -> None:
        if model != self._model:
            await self._end(Failure(HTTPStatus.NOT_FOUND, "", f"unknown model '{model}': this server has '{self._model}'"), context)
        if version not in ("", VERSION):
            await self._end(Failure(HTTPStatus.NOT_FOUND, "", f"'{model}' has no version {version}: it has {VERSION}"), context)

    async def _end(self, failure: Failure, context: Any) -> None:
        """End the call with the failure: raises."""
        import grpc

        await context.abort(grpc.StatusCode[CODES.get(failure.status, "INTERNAL")], failure.message)


def _read(request: Any) -> tuple[RequestHead, list[memoryview]]:
    """The head and each input's raw data, empty for one with typed contents. Raises BadMessage."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadMessage(f"{len(request.inputs)} inputs have {len(raw)} raw contents")
    heads = []
    for number, tensor in enumerate(request.inputs):
        if tensor.datatype not in DTYPES:
            raise BadMessage(f"'{tensor.name}': unknown datatype {tensor.datatype!r}")
        if any(length < 0 for length in tensor.shape):
            raise BadMessage(f"'{tensor.name}': 'shape' is a list of whole numbers, not negative")
        typed = CONTENTS.get(tensor.datatype)
        data = None if raw or typed is None else list(getattr(tensor.contents, typed))
        heads.append(TensorHead(tensor.name, tensor.datatype, tuple(tensor.shape), len(raw[number]) if raw else None, data))
    if not heads:
        raise BadMessage("there are no inputs")
    head = RequestHead(request.id or None, tuple(heads), tuple(output.name for output in request.outputs), {}, True, {})
    return head, [memoryview(raw[number] if raw else b"") for number in range(len(heads))]

"""HTTP/1.1 for the server: httptools reads it, answers are written without a task, a future or a thread for a request.

A web framework's work for each request (a task, a scope, events) costs more than all the rest of this server: see
``python -m tests.benchmarks.serving``.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from harness.kserve.codec import HEADER_LENGTH, JSON_TYPE

if TYPE_CHECKING:
    Piece = bytes | bytearray | memoryview

log = logging.getLogger("harness.server")
LONGEST_HEAD_BYTES = 1 << 16
JOINED_BYTES = 1 << 16
"""A larger answer is handed over in pieces in place of being copied together."""
MOST_WAITING = 16
"""Pipelined requests of one connection that are read ahead."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LENGTH_NAME = HEADER_LENGTH.lower().encode()


@dataclass(slots=True)  # not frozen: that takes a microsecond for each request
class Call:
    """One HTTP request. ``header_length`` is how much of the body is JSON, None: all."""

    method: bytes
    path: bytes
    body: bytes
    header_length: int | None
    keep: bool


class Reply(Protocol):
    """How a call is answered, once, now or later."""

    def __call__(self, pieces: list[Piece], *, close: bool = False) -> None:
        """Send a whole response, head and all."""
        ...


class Handler(Protocol):
    """Answers calls; ``reply`` may be called before it returns. Gives what to call when the client hangs up first, or None."""

    def __call__(self, call: Call, reply: Reply) -> Callable[[], None] | None: ...


class BadHttp(Exception):
    """A request that is answered with an error and the end of its connection."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def response_head(status: HTTPStatus, kind: str, length: int, *extra: str) -> bytes:
    """Up to the empty line."""
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", f"content-type: {kind}", f"content-length: {length}", *extra)
    return "\r\n".join((*lines, "", "")).encode()


def error_pieces(status: HTTPStatus, message: str, *extra: str) -> list[Piece]:
    """The protocol's form of an error."""
    import json

    body = json.dumps({"error": message}).encode()
    return [response_head(status, JSON_TYPE, len(body), *extra), body]


class Connection(asyncio.Protocol):
    """One client. Requests on it are answered in their order, one at a time."""

    __slots__ = (
        "_answering",
        "_body",
        "_body_bytes",
        "_calls",
        "_cancel",
        "_encoding",
        "_handler",
        "_head_bytes",
        "_in_head",
        "_length",
        "_most_body",
        "_open",
        "_parser",
        "_paused",
        "_refused",
        "_url",
        "since_s",
        "state",
        "transport",
    )
    _body: list[bytes]
    _length: int | None

    def __init__(self, handler: Handler, most_body: int, connections: set[Connection]) -> None:
        self._handler = handler
        self._most_body = most_body
        self._open = connections
        self._parser = httptools.HttpRequestParser(self)
        self._calls: deque[Call] = deque()
        self._answering = False
        self._paused = False
        self._refused = False
        self._cancel: Callable[[], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.state = "idle"
        self.since_s = time.monotonic()
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        self._calls.clear()
        self.transport = None
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.state == "idle":
            self.state, self.since_s = "reading", time.monotonic()
        try:
            self._parser.feed_data(data)
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > LONGEST_HEAD_BYTES:
                    self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's header is too long")
        except httptools.HttpParserUpgrade:
            self._refuse(HTTPStatus.BAD_REQUEST, "no other protocol is spoken here")
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, BadHttp):
                raise
            self._refuse(cause.status, str(cause))
        except httptools.HttpParserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"not HTTP: {error}")

    def eof_received(self) -> bool:
        return False  # a client that sends no more has hung up: what it asked for is not computed

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begin()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            if value.isdigit() and int(value) > self._most_body:
                raise BadHttp(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(int(value)))
        elif name == _LENGTH_NAME:
            if not value.isdigit():
                raise BadHttp(HTTPStatus.BAD_REQUEST, f"{HEADER_LENGTH} is a number of bytes")
            self._length = int(value)
        elif name == b"content-encoding":
            self._encoding = value.strip().lower()
            if self._encoding not in (b"identity", b"gzip", b"deflate"):
                raise BadHttp(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "bodies may be compressed by gzip or deflate")
        elif name == b"expect" and value.lower() == b"100-continue" and self.transport is not None:
            self.transport.write(CONTINUE)

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._most_body:
            raise BadHttp(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(self._body_bytes))
        self._body.append(body)

    def on_message_complete(self) -> None:
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._encoding not in (b"", b"identity"):
            body = self._decompressed(body)
        call = Call(self._parser.get_method(), self._url, body, self._length, self._parser.should_keep_alive())
        self._body = []
        if self._answering:
            self._calls.append(call)
            if len(self._calls) >= MOST_WAITING and not self._paused and self.transport is not None:
                self._paused = True
                self.transport.pause_reading()
            return
        self._carry_out(call)

    def _begin(self) -> None:
        self._url = b""
        self._body = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = False
        self._length = None
        self._encoding = b""

    def _too_large(self, size: int) -> str:
        return f"a body of {size} bytes or more: this server takes at most {self._most_body} (max_body)"

    def _decompressed(self, body: bytes) -> bytes:
        reader = zlib.decompressobj(47)  # gzip or zlib, as its header says
        try:
            found = reader.decompress(body, self._most_body + 1)
        except zlib.error as error:
            raise BadHttp(HTTPStatus.BAD_REQUEST, f"the body is not {self._encoding.decode()}: {error}") from error
        if len(found) > self._most_body:
            raise BadHttp(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(len(found)))
        if not reader.eof:
            raise BadHttp(HTTPStatus.BAD_REQUEST, "the compressed body is cut off")
        return found

    def _carry_out(self, call: Call) -> None:
        self._answering = True
        self.state = "answering"
        done = False

        def reply(pieces: list[Piece], *, close: bool = False) -> None:
            nonlocal done
            done = True
            self._answered(pieces, close=close or not call.keep)

        try:
            cancel = self._handler(call, reply)
        except Exception:
            log.exception("%s %s", call.method.decode(), call.path.decode("latin-1"))
            cancel = None
            if not done:
                reply(error_pieces(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug in the server: its log has more"), close=True)
        if not done:
            self._cancel = cancel

    def _answered(self, pieces: list[Piece], *, close: bool) -> None:
        transport = self.transport
        self._cancel = None
        self._answering = False
        if transport is None:
            return
        if close:
            pieces[0] = bytes(pieces[0]).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        if sum([len(piece) for piece in pieces]) <= JOINED_BYTES:
            transport.write(b"".join(pieces))
        else:
            transport.writelines(pieces)
        if close:
            self._refused = True
            transport.close()
            return
        self.state, self.since_s = "idle", time.monotonic()
        if self._calls:
            if self._paused and len(self._calls) <= MOST_WAITING // 2:
                self._paused = False
                transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._calls and not self._answering and self.transport is not None and not self._refused:
            self._carry_out(self._calls.popleft())

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer with an error, after what is under way, and end the connection."""
        if self._answering:
            if self._cancel is not None:
                self._cancel()
                self._cancel = None
            self._answering = False
        self._calls.clear()
        self._answered(error_pieces(status, message), close=True)

    def look(self, now_s: float, read_timeout_s: float, keep_alive_s: float) -> None:
        """End what is too slow: a request that does not come whole, an answer that is not read, a connection that nobody uses."""
        transport = self.transport
        if transport is None:
            return
        for_s = now_s - self.since_s
        if self.state == "reading" and for_s > read_timeout_s:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not come whole in time (read_timeout)")
        elif self.state == "idle" and transport.get_write_buffer_size() and for_s > read_timeout_s:
            transport.abort()
        elif self.state == "idle" and for_s > keep_alive_s:
            transport.close()
        elif transport.is_closing() and for_s > read_timeout_s:
            transport.abort()

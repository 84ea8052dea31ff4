"""A small synchronous client of the Open Inference Protocol: one kept connection, one request at a time.

It is what asks a server whether it is ready and what its model looks like, and what a session sends its batches by. Loads over the network
have generators of their own.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import quote, urlsplit

from harness.core.serving import Endpoint
from harness.kserve import headers as endpoint_headers
from harness.kserve import tls
from harness.kserve.codec import HEADER_LENGTH, Message


class Unreachable(OSError):
    """Nothing answers there, or what answers hung up: the text says where and why."""


class Untrusted(Unreachable):
    """Something answers there that is not what https must find: its certificate is not accepted, or it speaks no TLS. ``hint`` says what
    to do."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


class Refused(RuntimeError):
    """The server answered, and not with what was asked for. ``status`` is HTTP's; the text holds the server's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks one endpoint. Connects with the first question; close it, or use it in a ``with``.

    Raises Unreachable where no answer comes within ``timeout_s``.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float = 30.0) -> None:
        parts = urlsplit(endpoint.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{endpoint.url!r} is not 'http://host:port'")
        self.endpoint = endpoint
        self._connection = (
            http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=tls.context(endpoint.authorities))
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def ready(self) -> bool:
        """Whether the model answers by now. False, too, where nothing listens yet. Raises Untrusted: waiting does not change that."""
        try:
            return self.ask("GET", f"{self._model_path()}/ready")[0] == 200
        except Untrusted:
            raise
        except Unreachable:
            return False

    def metadata(self) -> dict[str, object]:
        """What the server tells of the model: ``name``, ``versions``, ``inputs`` and ``outputs``. Raises Refused."""
        return self.json(self._model_path())

    def json(self, path: str) -> dict[str, object]:
        """The JSON object under a path. Raises Refused where there is none."""
        status, body, _ = self.ask("GET", path)
        if status != 200:
            raise Refused(status, said(status, body))
        try:
            found = json.loads(body)
        except ValueError as error:
            raise Refused(status, f"{path} is answered with something that is not JSON") from error
        if not isinstance(found, dict):
            raise Refused(status, f"{path} is answered with {type(found).__name__}, not an object")
        return found

    def infer_raw(self, message: Message) -> tuple[int, bytes, int | None]:
        """Send a request as it is. Gives HTTP's status, the body, and the length of its JSON part (None: all of it)."""
        status, body, headers = self.ask("POST", self.endpoint.infer_path, message.body, message.headers)
        length = headers.get(HEADER_LENGTH.lower())
        return status, body, int(length) if length is not None and length.isdecimal() else None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers (names in lower case). A connection that the server closed while it was idle is opened again, once.

        Raises BadInput where a header's variable is not set.
        """
        connection, request = self._connection, self._head(method, path, headers or {}, body) + (body or b"")
        for kept in (connection.sock is not None, False):
            try:
                if connection.sock is None:
                    connection.connect()  # sets TCP_NODELAY
                return self._exchange(method, request)
            except ssl.SSLError as error:
                connection.close()
                told, hint = tls.refusal(error)
                raise Untrusted(f"{self.endpoint.url} is not trusted: {told}", hint) from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not (kept and isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError)):
                    raise Unreachable(f"{self.endpoint.url} does not answer: {_reason(error)}") from error
        raise AssertionError("the second attempt returns or raises")

    def _exchange(self, method: str, request: bytes) -> tuple[int, bytes, dict[str, str]]:
        """One request in one write: ``http.client`` itself sends head and body apart, which costs a server a second read."""
        self._connection.sock.sendall(request)
        with http.client.HTTPResponse(self._connection.sock, method=method) as answer:
            answer.begin()
            body = answer.read()
            if answer.will_close:
                self._connection.close()
            if answer.status >= 400:  # a server may say what it was sent
                for secret in endpoint_headers.secrets(self.endpoint.headers):
                    body = body.replace(secret.encode("latin-1", "replace"), b"***")
            return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}

    def _head(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        own = endpoint_headers.filled(self.endpoint.headers)
        length = {} if body is None else {"Content-Length": str(len(body))}
        every = {"Host": urlsplit(self.endpoint.url).netloc, **own, **headers, **length}
        lines = (f"{method} {quote(path, safe='/?&=%:@')} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items()))
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    def _model_path(self) -> str:
        return self.endpoint.infer_path.removesuffix("/infer")


def said(status: int, body: bytes) -> str:
    """What a server that refused said: the protocol's ``error``, else the beginning of the body."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("error"):
        return str(found["error"])
    text = " ".join(body[:300].decode(errors="replace").split())
    return f"status {status}: {text}" if text else f"status {status}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""One request and its answer over a kept connection, with the times that count: for generator processes, under gevent.

Sockets are gevent's, over TLS too, answers are parsed by geventhttpclient's parser (llhttp); what lies between a clock read and the kernel
is a call.
"""

from __future__ import annotations

import socket as standard
import ssl as standard_ssl
import time
from dataclasses import dataclass
from typing import Any

from gevent import GreenletExit, socket, ssl
from geventhttpclient.response import HTTPParseError, HTTPResponse

from harness.kserve import tls
from harness.loads._records import BAD_ANSWER, CONNECTION, NEVER, OK, TIMEOUT

IDLE_NS = 2_000_000_000
"""A connection that was idle for longer is not used again: servers close idle ones (uvicorn after 5 s), and a request that meets the
closing fails without any fault of theirs."""
TRY_S = 2.0
REACH_S = 10.0
READ_BYTES = 1 << 16
"""Below the size from which the C library asks the kernel for each block of memory."""
PEEK = int(standard.MSG_PEEK | standard.MSG_DONTWAIT)
HEADER_LENGTH = "inference-header-content-length"


@dataclass(slots=True)
class Answer:
    """What came of a request: times by the monotonic clock, NEVER for what did not happen; ``status`` as in the records."""

    sent_ns: int
    first_byte_ns: int
    last_byte_ns: int
    status: int
    size: int

    @property
    def times(self) -> tuple[int, int, int]:
        return self.sent_ns, self.first_byte_ns, self.last_byte_ns


class Connections:
    """Connections to one address, kept open and used again, the one used last first. How many there are is the caller's business.

    With ``secure`` they are TLS, verified against ``authorities`` (PEM; empty: the system's).
    """

    def __init__(self, host: str, port: int, *, secure: bool = False, authorities: str = "") -> None:
        self.host = host
        self.family, self.address = _answering(host, port)
        self.context: Any = tls.context(authorities, ssl.create_default_context) if secure else None
        self.idle: list[tuple[socket.socket, int]] = []

    def reach(self) -> str | None:
        """Open a connection that the load will use. Says in words why there is none."""
        try:
            self.idle.append((self._connected(time.monotonic_ns() + round(REACH_S * 1e9)), time.monotonic_ns()))
        except standard_ssl.SSLError as error:
            return tls.refusal(error)[0]
        except TimeoutError:
            return f"no connection within {REACH_S:.0f} s"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        return None

    def ask(self, request: bytes, deadline_ns: int) -> Answer:
        """Send and wait for the whole answer, until the deadline. Nothing is sent twice."""
        answer = Answer(NEVER, NEVER, NEVER, CONNECTION, 0)
        connection = None
        try:
            connection = self._connected(deadline_ns)
            answer.sent_ns = time.monotonic_ns()
            connection.settimeout(_left_s(deadline_ns))
            connection.sendall(request)
            response = self._received(connection, answer, deadline_ns)
        except TimeoutError:
            answer.status = TIMEOUT
        except HTTPParseError:
            answer.status = BAD_ANSWER
        except (OSError, GreenletExit):
            answer.status = CONNECTION
        else:
            answer.status = response.get_code() if _is_answer(response) else BAD_ANSWER
            answer.size = len(response._body_buffer)
            if not response.should_close():
                self.idle.append((connection, answer.last_byte_ns))
                return answer
        if connection is not None:
            connection.close()
        return answer

    def _received(self, connection: socket.socket, answer: Answer, deadline_ns: int) -> HTTPResponse:
        response = HTTPResponse("POST")
        while not response.message_complete:
            connection.settimeout(_left_s(deadline_ns))
            data = connection.recv(READ_BYTES)
            if answer.first_byte_ns == NEVER and data:
                answer.first_byte_ns = time.monotonic_ns()
            response.feed(data)
            if not data and not response.message_complete:
                raise ConnectionResetError("closed before the answer was whole")
        answer.last_byte_ns = time.monotonic_ns()
        return response

    def _connected(self, deadline_ns: int) -> socket.socket:
        youngest = time.monotonic_ns() - IDLE_NS
        while self.idle:
            connection, used_ns = self.idle.pop()
            if used_ns > youngest and _is_open(connection):
                return connection
            connection.close()
        connection = socket.socket(self.family, standard.SOCK_STREAM)
        try:
            connection.setsockopt(standard.IPPROTO_TCP, standard.TCP_NODELAY, 1)
            connection.settimeout(_left_s(deadline_ns))
            connection.connect(self.address)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        for connection, _ in self.idle:
            connection.close()
        self.idle.clear()


def _answering(host: str, port: int) -> tuple[int, Any]:
    """The first of a host's addresses that takes connections: ``localhost`` has two, and servers may listen on one."""
    found = [(int(family), address) for family, _, _, _, address in standard.getaddrinfo(host, port, type=standard.SOCK_STREAM)]
    for family, address in found:
        with socket.socket(family, standard.SOCK_STREAM) as connection:
            connection.settimeout(TRY_S)
            if connection.connect_ex(address) == 0:
                return family, address
    return found[0]


def _left_s(deadline_ns: int) -> float:
    left = deadline_ns - time.monotonic_ns()
    if left <= 0:
        raise TimeoutError
    return left / 1e9


def _is_open(connection: socket.socket) -> bool:
    """Whether the server has neither closed it nor said anything unasked; one call, without waiting."""
    try:
        connection._sock.recv(1, PEEK)  # gevent's own would wait; over TLS it sees whether bytes are there, whatever they mean
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _is_answer(response: HTTPResponse) -> bool:
    """Whether what came as a success is an answer of the protocol: its JSON names outputs. Other statuses speak for themselves."""
    if not OK <= response.get_code() < 300:
        return True
    body, length = response._body_buffer, response.get(HEADER_LENGTH)
    end = int(length) if isinstance(length, str) and length.isdigit() else len(body)
    return body.find(b'"outputs"', 0, end) >= 0

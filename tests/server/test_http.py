"""HTTP as the server reads and writes it, without a socket: bytes in, bytes out."""

import asyncio
import gzip
import zlib
from http import HTTPStatus

import pytest

from harness.kserve.codec import HEADER_LENGTH
from harness.server import http
from harness.server.http import Connection, response_head

MOST_BODY = 100
POST = b"POST /infer HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self):
        self.written, self.closed, self.aborted, self.reading, self.unread = b"", False, False, True, 0

    def write(self, data):
        assert not self.closed
        self.written += data

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return self.unread

    @property
    def statuses(self):
        return [int(part.split(b" ")[0]) for part in self.written.split(b"HTTP/1.1 ")[1:]]


class Desk:
    """A handler that answers when the test says so."""

    def __init__(self, at_once=True):
        self.calls, self.replies, self.hung_up, self.at_once = [], [], 0, at_once

    def __call__(self, call, reply):
        self.calls.append(call)
        self.replies.append(reply)
        if self.at_once:
            self.answer(len(self.calls) - 1)
        return self.cancel

    def cancel(self):
        self.hung_up += 1

    def answer(self, number, **how):
        body = str(number).encode()
        self.replies[number]([response_head(HTTPStatus.OK, "text/plain", len(body)), body], **how)


def connected(desk):
    wire, open_ones = Wire(), set()
    connection = Connection(desk, MOST_BODY, open_ones)
    connection.connection_made(wire)
    assert open_ones == {connection}
    return connection, wire


def after_all(*received, desk=None):
    """What a server with this handler has written when it has got these pieces."""
    desk = desk or Desk()

    async def talk():
        connection, wire = connected(desk)
        for data in received:
            connection.data_received(data)
            await asyncio.sleep(0)
        return wire

    return asyncio.run(talk()), desk


@pytest.mark.parametrize("size", [1, 7, len(POST)])
def test_a_request_may_come_in_pieces_of_any_size(size):
    wire, desk = after_all(*(POST[at : at + size] for at in range(0, len(POST), size)))
    assert [(call.method, call.path, call.body, call.header_length) for call in desk.calls] == [(b"POST", b"/infer", b"abc", None)]
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n0"
    assert not wire.closed


def test_the_length_of_the_json_part_is_read_whatever_its_spelling():
    _, desk = after_all(POST.replace(b"Host: here", HEADER_LENGTH.upper().encode() + b": 2"))
    assert desk.calls[0].header_length == 2


def test_a_chunked_body_is_put_together():
    head = b"POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, desk = after_all(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert desk.calls[0].body == b"abcde"


def test_who_waits_to_be_told_to_go_on_is_told():
    wire, desk = after_all(POST[:-3].replace(b"Host: here", b"Expect: 100-continue"))
    assert wire.written == http.CONTINUE and not desk.calls


@pytest.mark.parametrize(("kind", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)], ids=["gzip", "deflate"])
def test_a_compressed_body_is_unpacked(kind, pack):
    packed = pack(b"abc")
    head = b"POST /infer HTTP/1.1\r\nContent-Encoding: " + kind + b"\r\nContent-Length: " + str(len(packed)).encode() + b"\r\n\r\n"
    _, desk = after_all(head + packed)
    assert desk.calls[0].body == b"abc"


def body_of(data, *headers):
    return b"\r\n".join([b"POST / HTTP/1.1", *headers, b"Content-Length: " + str(len(data)).encode(), b"", data])


BAD = [
    (b"what is this\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101, 413),
    (body_of(gzip.compress(bytes(10**6))[:99], b"Content-Encoding: gzip"), 413),
    (body_of(b"abc", b"Content-Encoding: gzip"), 400),
    (body_of(gzip.compress(b"abc")[:-2], b"Content-Encoding: gzip"), 400),
    (body_of(b"abc", b"Content-Encoding: br"), 415),
    (body_of(b"abc", HEADER_LENGTH.encode() + b": -3"), 400),
    (b"GET /" + b"x" * 100_000, 431),
    (b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000, 431),
]


@pytest.mark.parametrize(("received", "status"), BAD, ids=[f"{status}-{number}" for number, (_, status) in enumerate(BAD)])
def test_what_is_not_sound_is_refused_and_the_connection_ends(received, status):
    wire, desk = after_all(received, POST)
    assert wire.statuses == [status] and wire.closed and not desk.calls
    assert b"connection: close\r\n" in wire.written


@pytest.mark.parametrize("head", [b"Connection: close\r\n", b""])
def test_a_client_that_wants_the_connection_closed_gets_that(head):
    version = b"HTTP/1.1" if head else b"HTTP/1.0"
    wire, _ = after_all(b"GET / " + version + b"\r\n" + head + b"\r\n")
    assert wire.statuses == [200] and wire.closed


def test_requests_sent_ahead_are_answered_in_their_order_one_at_a_time():
    async def talk():
        desk = Desk(at_once=False)
        connection, wire = connected(desk)
        connection.data_received(POST * 3)
        for number in range(3):
            assert len(desk.calls) == number + 1
            desk.answer(number)
            await asyncio.sleep(0)
        return wire

    wire = asyncio.run(talk())
    assert wire.written.count(b"HTTP/1.1 200") == 3 and wire.written.index(b"\r\n\r\n0") < wire.written.index(b"\r\n\r\n2")


def test_a_client_that_sends_far_ahead_is_not_read_until_it_is_answered():
    async def talk():
        desk = Desk(at_once=False)
        connection, wire = connected(desk)
        connection.data_received(POST * (http.MOST_WAITING + 1))
        assert not wire.reading
        for number in range(http.MOST_WAITING + 1):
            desk.answer(number)
            await asyncio.sleep(0)
        assert wire.reading
        return wire

    assert asyncio.run(talk()).statuses == [200] * (http.MOST_WAITING + 1)


def test_a_client_that_hangs_up_takes_its_request_along():
    async def talk():
        desk = Desk(at_once=False)
        connection, wire = connected(desk)
        connection.data_received(POST)
        connection.connection_lost(None)
        desk.answer(0)
        return desk, wire

    desk, wire = asyncio.run(talk())
    assert desk.hung_up == 1 and wire.written == b""


def test_a_bug_in_a_handler_is_answered_as_such_and_logged(caplog):
    def broken(call, reply):
        raise RuntimeError("a bug")

    wire, _ = after_all(POST, desk=broken)
    assert wire.statuses == [500] and wire.closed and "a bug" in caplog.text


async def looked_at(received, seconds, *, at_once=True, unread=0):
    desk = Desk(at_once)
    connection, wire = connected(desk)
    connection.data_received(received)
    wire.unread = unread
    connection.look(connection.since_s + seconds, read_timeout_s=5, keep_alive_s=60)
    return wire


@pytest.mark.parametrize(
    ("received", "seconds", "options", "statuses", "ends"),
    [
        (POST[:-1], 4, {}, [], None),
        (POST[:-1], 6, {}, [408], "closed"),
        (POST[:9], 6, {}, [408], "closed"),
        (POST, 6, {}, [200], None),
        (POST, 61, {}, [200], "closed"),
        (POST, 6, {"unread": 1}, [200], "aborted"),
        (POST, 600, {"at_once": False}, [], None),
    ],
)
def test_slow_and_idle_clients_are_ended_and_those_who_wait_for_the_model_are_not(received, seconds, options, statuses, ends):
    wire = asyncio.run(looked_at(received, seconds, **options))
    assert wire.statuses == statuses
    assert (wire.closed, wire.aborted) == (ends == "closed", ends == "aborted")

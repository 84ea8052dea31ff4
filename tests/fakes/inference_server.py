"""A server of the Open Inference Protocol as a process of its own, whose behaviour is known: how long it takes, what it fails.

It is started by its file, with the repository's package installed, and prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from harness.core.serving import Endpoint, ServerCounters

HEAD = b'{"model_name":"net","outputs":[{"name":"y","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'
BODY = HEAD + b"\0\0\0\0"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    % (len(HEAD), len(BODY))
) + BODY
BROKEN = b'HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"error":"busy"}'
UNKNOWN = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
NO_MODEL = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\nwelcome"


class FakeServer:
    """The server as a test holds it: a context manager, and what a load asks of a running server.

    Times are in ms. ``service`` is how long each answer takes, all at once (no queue) unless ``one_by_one``; every ``tail_every``-th takes
    four times as long. Each n-th request gets a 503 (``fail_every``), a page that is no answer (``nonsense_every``), or nothing at all
    (``silent_every``). After ``die_after`` requests it ends. Connections idle for ``close_idle`` are closed. ``certificate`` is a file with
    a key and a certificate: it speaks TLS. ``wants`` is a header's line without which a request is answered with 401.
    """

    def __init__(self, **options: float | bool | str) -> None:
        self.options = options
        self.killed = False

    def __enter__(self) -> FakeServer:
        names = {name: name.replace("_", "-") for name in self.options}
        flags = [f"--{names[name]}" if value is True else f"--{names[name]}={value}" for name, value in self.options.items()]
        self.process = subprocess.Popen([sys.executable, str(Path(__file__)), *flags], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"http{'s' if 'certificate' in self.options else ''}://127.0.0.1:{self.port}", "net")

    def pids(self) -> tuple[int, ...]:
        return (self.process.pid,)

    def counters(self) -> ServerCounters | None:
        return None

    def trouble(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"the server ended with {code}"

    def log(self) -> str:
        return ""

    def stop_for(self, seconds: float) -> None:
        """Stand still for a while, as a machine does that swaps: nothing is answered, nothing refused."""
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)


class Protocol(asyncio.Protocol):
    count = 0
    busy_until = 0.0

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.buffer = b""
        self.closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.touched()

    def touched(self) -> None:
        """Begin to count the time for which the connection is idle."""
        if self.closing is not None:
            self.closing.cancel()
        if self.options.close_idle:
            self.closing = asyncio.get_running_loop().call_later(self.options.close_idle / 1e3, self.transport.close)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:", head.rfind(b"\r\ncontent-length:"))
            length = int(head[at + 15 :].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.request(head)

    def request(self, head: bytes) -> None:
        Protocol.count += 1
        number, options, loop = Protocol.count, self.options, asyncio.get_running_loop()
        if options.die_after and number > options.die_after:
            os._exit(9)
        if options.silent_every and number % options.silent_every == 0:
            return
        answer = ANSWER if options.wants.lower().encode() in head else UNKNOWN
        if options.fail_every and number % options.fail_every == 0:
            answer = BROKEN
        if options.nonsense_every and number % options.nonsense_every == 0:
            answer = NO_MODEL
        service_s = options.service / 1e3
        if options.tail_every and number % options.tail_every == 0:
            service_s *= 4
        if options.one_by_one:
            Protocol.busy_until = max(Protocol.busy_until, loop.time()) + service_s
            loop.call_at(Protocol.busy_until, self.answer, answer)
        elif service_s:
            loop.call_later(service_s, self.answer, answer)
        else:
            self.answer(answer)

    def answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.touched()


async def serve(options: argparse.Namespace) -> None:
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate)
    server = await asyncio.get_running_loop().create_server(lambda: Protocol(options), "127.0.0.1", 0, backlog=1024, ssl=context)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--service", type=float, default=0.0)
    parser.add_argument("--close-idle", type=float, default=0.0)
    for name in ("fail-every", "nonsense-every", "silent-every", "die-after", "tail-every"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--certificate", default="")
    parser.add_argument("--wants", default="")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

"""What the parent and its generator processes say to each other, over the generator's stdin and stdout, on this machine or by ssh.

The generator says which program it is (on another machine), gets its job, says that it is ready, answers pings, is told to begin, says that
it has begun, and at its end reports and sends its records. Every message is a line of JSON; the job's and the report's are followed by as
many bytes as they name. A line after the begin calls the load off; the end of stdin ends the generator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.core.serving import Endpoint
from harness.kserve.codec import Message

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["open", "closed", "locustfile"]
ELSEWHERE = "elsewhere"
"""The argument of a generator that does not run beside its parent, in place of the parent's process id."""
READY = b'{"ready": true}\n'
BEGUN = b'{"begun": true}\n'
PING, PONG = b'{"ping": true}\n', b'{"pong": true}\n'
STOP = b'{"stop": true}\n'


@dataclass(frozen=True, slots=True)
class Orders:
    """What one generator process does; it is process ``process`` of ``processes``.

    ``users`` and ``connections`` are this process's own. ``lead_in_ns`` is where counting begins, ``end_ns`` where sending ends, both since
    the begin. ``authorities`` are whom an https endpoint is trusted by. ``locustfile`` is the user's own file, a whole path. ``cores`` are
    what it is pinned to (empty: not pinned). ``on`` is the host of another machine, empty on this one.
    """

    kind: Kind
    process: int
    processes: int
    url: str
    host: str
    port: int
    authorities: str
    users: int
    connections: int
    lead_in_ns: int
    end_ns: int
    timeout_ns: int
    requests_limit: int
    locustfile: str
    cores: tuple[int, ...] = ()
    on: str = ""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def of(cls, told: dict[str, object]) -> Orders:
        """Orders as they came over a pipe or stand in a file."""
        return cls(**{**told, "cores": tuple(told["cores"])})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Job:
    """Orders, and what they are carried out with. ``requests`` are whole HTTP requests. ``schedule`` has two rows: when each request is
    due, in ns since the begin, and which of the requests it is (open loop). ``locustfile`` is the user's own file where it is not there."""

    orders: Orders
    requests: Sequence[bytes]
    schedule: NDArray[np.int64]
    locustfile: bytes = b""

    def pieces(self) -> Iterator[bytes]:
        """The message. It holds what headers hold, and is written to no file."""
        head = {
            "orders": asdict(self.orders),
            "requests": [len(one) for one in self.requests],
            "schedule": self.schedule.shape[1],
            "locustfile": len(self.locustfile),
        }
        yield json.dumps(head).encode() + b"\n"
        yield from self.requests
        yield self.schedule.astype("<i8").tobytes()
        yield self.locustfile

    @classmethod
    def read(cls, line: bytes, read: Callable[[int], bytes]) -> Job:
        """The message whose line was read; ``read`` gives exactly so many bytes that follow it."""
        head = json.loads(line)
        requests = [read(length) for length in head["requests"]]
        schedule = np.frombuffer(read(16 * head["schedule"]), dtype="<i8").reshape(2, -1).astype(np.int64)
        return cls(Orders.of(head["orders"]), requests, schedule, read(head["locustfile"]))

    @property
    def most_rows(self) -> int:
        """More requests than these a generator has no reason to tell of."""
        return self.schedule.shape[1] or self.orders.requests_limit + 100_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a generator process says at its end: CPU in cores over the measured time; ``trouble``, which makes the load no evidence;
    ``bad_input``, what is wrong in the user's Locust file; ``unreached``, why the endpoint cannot be sent to from there.

    ``usage`` are samples of a generator on another machine: the time since the begin, cores busy since the sample before, resident bytes.
    ``shape`` is the user's own LoadTestShape, ``most_users`` the most that it asked for of all processes together, ``shape_ended_ns`` when
    it ended the load (0: it did not).
    """

    cpu: float = 0.0
    trouble: str = ""
    bad_input: str = ""
    unreached: str = ""
    usage: tuple[tuple[int, float, int], ...] = ()
    shape: str = ""
    most_users: int = 0
    shape_ended_ns: int = 0

    @classmethod
    def of(cls, told: dict[str, object]) -> Report:
        usage = tuple((int(at), float(cpu), int(rss)) for at, cpu, rss in told["usage"])  # type: ignore[attr-defined]
        return cls(**{**told, "usage": usage})  # type: ignore[arg-type]


def report_pieces(report: Report, names: Sequence[str] = (), rows: bytes = b"") -> Iterator[bytes]:
    """The last message of a generator: its report, and its records as the recorder packs them."""
    yield json.dumps({"report": asdict(report), "names": list(names), "bytes": len(rows)}).encode() + b"\n"
    yield rows


def request_bytes(endpoint: Endpoint, authority: str, message: Message, headers: dict[str, str] | None = None) -> bytes:
    """A message as a whole HTTP/1.1 request, on a connection that stays open. ``headers`` are the endpoint's own, with their values."""
    every = {
        "Host": authority,
        "Connection": "keep-alive",
        **(headers or {}),
        **message.headers,
        "Content-Length": str(len(message.body)),
    }
    lines = [f"POST {endpoint.infer_path} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + message.body

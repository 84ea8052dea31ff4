"""What the parent and its generator processes say to each other: orders as a file, then lines over pipes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.core.serving import Endpoint
from harness.kserve.codec import Message

Kind = Literal["open", "closed", "locustfile"]


@dataclass(frozen=True, slots=True)
class Orders:
    """What one generator process does; it is process ``process`` of ``processes``.

    ``requests`` is a file of whole HTTP requests, cut at ``cuts``. ``schedule`` is a ``.npy`` of two rows: when each request is due, in ns
    since the start of the lead-in, and which of the requests it is (open loop). ``users`` and ``connections`` are this process's own.
    ``lead_in_ns`` is where counting begins, ``end_ns`` where sending ends. ``cores`` are what it is pinned to (empty: not pinned).
    Files and folders are absolute paths.
    """

    kind: Kind
    process: int
    processes: int
    parent: int
    url: str
    host: str
    port: int
    requests: str
    cuts: tuple[int, ...]
    schedule: str
    users: int
    connections: int
    lead_in_ns: int
    end_ns: int
    timeout_ns: int
    requests_limit: int
    locustfile: str
    into: str
    cores: tuple[int, ...] = ()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Orders:
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**told, "cuts": tuple(told["cuts"]), "cores": tuple(told["cores"])})


@dataclass(frozen=True, slots=True)
class Report:
    """What a generator process says at its end: CPU in cores over the measured time; ``trouble``, which makes the load no evidence; and
    ``bad_input``, what is wrong in the user's Locust file."""

    cpu: float = 0.0
    trouble: str = ""
    bad_input: str = ""

    def line(self) -> str:
        return json.dumps({"report": asdict(self)}) + "\n"


READY = '{"ready": true}'
STOP = "stop\n"


def request_bytes(endpoint: Endpoint, host: str, message: Message) -> bytes:
    """A message as a whole HTTP/1.1 request, on a connection that stays open."""
    headers = {"Host": host, "Connection": "keep-alive", **message.headers, "Content-Length": str(len(message.body))}
    lines = [f"POST {endpoint.infer_path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + message.body


def write_requests(path: Path, requests: Sequence[bytes]) -> tuple[int, ...]:
    """Write all requests one after the other; gives where to cut."""
    cuts = [0]
    with path.open("wb") as file:
        for request in requests:
            file.write(request)
            cuts.append(cuts[-1] + len(request))
    return tuple(cuts)


def read_requests(path: Path, cuts: Sequence[int]) -> list[bytes]:
    content = path.read_bytes()
    return [content[begin:end] for begin, end in itertools.pairwise(cuts)]

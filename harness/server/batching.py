"""The queue of a model, and which of its requests become the next batch. Pure: times are given, nothing is sent.

A batch is formed at the moment that a model process is free, from what waits then: while one batch runs, the next gathers by itself, and a
lone request never waits. ``max_queue_delay`` makes a free process wait for more, and even then not when nobody is left who could send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.server.requests import Request


@dataclass(frozen=True, slots=True)
class Policy:
    """``most`` and ``preferred`` (rising) count samples, ``limit`` requests."""

    most: int
    preferred: tuple[int, ...]
    delay_ns: int
    limit: int
    shares: bool = True
    """Whether requests may share a batch."""


@dataclass(slots=True)
class Queue:
    """Requests in the order of their arrival, those of one signature together; the oldest goes first."""

    policy: Policy
    waiting: int = 0
    _lines: dict[bytes, deque[Request]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.policy.limit

    def put(self, request: Request) -> None:
        line = self._lines.get(request.signature)
        if line is None:
            line = self._lines[request.signature] = deque()
        line.append(request)
        self.waiting += 1

    def put_back(self, request: Request) -> None:
        """To the front: it has waited once."""
        self._lines.setdefault(request.signature, deque()).appendleft(request)
        self.waiting += 1

    def take(self, now_ns: int, others: int) -> list[Request]:
        """The next batch, empty when it is better to wait or nothing is there. ``others`` is how many more requests could arrive now:
        connections that have none under way."""
        line = self._oldest()
        if line is None:
            return []
        policy = self.policy
        first = line[0]
        most = policy.most
        if policy.preferred or policy.delay_ns:
            there = _samples(line, policy.most)
            fitting = [size for size in policy.preferred if size <= there]
            if fitting:
                most = fitting[-1]
            elif there < most and others > 0 and now_ns - first.arrived_ns < policy.delay_ns and not first.alone:
                return []
        return self._cut(line, most)

    def due_ns(self) -> int | None:
        """When the oldest request has waited as long as ``max_queue_delay`` allows; None where nothing waits."""
        line = self._oldest()
        return None if line is None else line[0].arrived_ns + self.policy.delay_ns

    def expired(self, before_ns: int) -> Iterator[Request]:
        """Remove the requests that arrived before this time, and those whose clients are gone."""
        for signature, line in list(self._lines.items()):
            while line and (line[0].arrived_ns < before_ns or line[0].gone):
                self.waiting -= 1
                yield line.popleft()
            if not line:
                del self._lines[signature]

    def empty(self) -> Iterator[Request]:
        """Remove all."""
        lines, self._lines, self.waiting = list(self._lines.values()), {}, 0
        for line in lines:
            yield from line

    def _oldest(self) -> deque[Request] | None:
        """The line whose first request came first; requests of clients that hung up fall out here."""
        found: deque[Request] | None = None
        for signature, line in list(self._lines.items()) if len(self._lines) > 1 else self._lines.copy().items():
            while line and line[0].gone:
                line.popleft()
                self.waiting -= 1
            if not line:
                del self._lines[signature]
            elif found is None or line[0].arrived_ns < found[0].arrived_ns:
                found = line
        return found

    def _cut(self, line: deque[Request], most: int) -> list[Request]:
        batch: list[Request] = []
        samples = 0
        while line:
            request = line[0]
            if request.gone:
                line.popleft()
                self.waiting -= 1
                continue
            if batch and (samples + request.rows > most or request.alone or batch[0].alone or not self.policy.shares):
                break
            samples += request.rows
            batch.append(line.popleft())
            self.waiting -= 1
        return batch


def _samples(line: deque[Request], enough: int) -> int:
    """Samples that wait in a line, counted no further than ``enough``."""
    total = 0
    for request in line:
        total += 0 if request.gone else request.rows
        if total >= enough:
            break
    return total

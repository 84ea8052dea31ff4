"""A model at work: requests are queued, made into batches, run by the model's processes, and answered."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from harness.server.answer_cache import AnswerCache, digest_of
from harness.server.batching import Policy, Queue
from harness.server.counters import Counters, Gauges
from harness.server.instance import Instance, State
from harness.server.requests import Answer, Failure, Reader, Request, ServedModel, served_model

if TYPE_CHECKING:
    from harness.kserve.settings import Settings
    from harness.server.frames import Frame

log = logging.getLogger("harness.server")
RETRY_AFTER_S = 1
QUEUE_FULL = Failure(HTTPStatus.SERVICE_UNAVAILABLE, "queue full", "the queue is full (queue_limit)", RETRY_AFTER_S)
NO_MODEL = Failure(HTTPStatus.SERVICE_UNAVAILABLE, "no model", "no model process is there: it is being started", RETRY_AFTER_S)
DRAINING = Failure(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "this server is being stopped", RETRY_AFTER_S)
TOO_LATE = Failure(HTTPStatus.GATEWAY_TIMEOUT, "timeout", "not answered in time (request_timeout)")
NOT_FINITE = Failure(
    HTTPStatus.INTERNAL_SERVER_ERROR, "not finite", "the model answered NaN or infinity ('allow_not_finite' would let it pass)"
)
KEPT_SHAPES = 4096


class Service:
    """Owns the queue and the instances. ``connections`` tells how many clients could still send; ``changed`` is called when the set of
    model processes is another; ``broken`` with the reason when the model cannot be served at all."""

    def __init__(
        self,
        settings: Settings,
        command: Callable[[int], Sequence[str]],
        environment: Mapping[str, str],
        *,
        connections: Callable[[], int] = lambda: 1 << 30,
        changed: Callable[[], None] = lambda: None,
        broken: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.model: ServedModel | None = None
        self.reader: Reader | None = None
        self.draining = False
        self.cache = AnswerCache(settings.cache_bytes) if settings.cache_bytes else None
        self.queue = Queue(Policy(settings.max_batch_size, (), 0, settings.queue_limit))
        self._connections, self._changed, self._broken = connections, changed, broken
        self._loop = asyncio.get_running_loop()
        self.instances = [
            Instance(number, command, environment, self._is_ready, self._is_done, self._has_failed, self._is_lost)
            for number in range(settings.instances)
        ]
        self._idle: list[Instance] = []
        self._working = 0  # instances that are ready
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._shapes: dict[bytes, tuple[list[tuple[str, tuple[int, ...]]], list[int]]] = {}

    def start(self) -> None:
        for instance in self.instances:
            instance.start()

    def close(self) -> None:
        for instance in self.instances:
            instance.close()

    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""
        return self.queue.waiting + sum(len(one.batch) for one in self.instances)

    @property
    def is_ready(self) -> bool:
        """Whether a request would be taken now."""
        return self._working > 0 and not self.draining

    def gauges(self) -> Gauges:
        return Gauges(
            self.queue.waiting,
            sum(len(one.batch) for one in self.instances),
            self._working,
            0 if self.cache is None else self.cache.bytes,
        )

    def submit(self, request: Request) -> None:
        """Take a request; its ``done`` is called exactly once, here or later."""
        now = request.arrived_ns = time.monotonic_ns()
        if self.draining or not self._working or self.queue.is_full:
            self._fail(request, DRAINING if self.draining else QUEUE_FULL if self._working else NO_MODEL)
            return
        if self.cache is not None:
            request.digest = digest_of(request)
            known = self.cache.get(request.digest)
            if known is not None:
                self.counters.cache_hits += 1
                self._answer(request, known, now)
                return
            self.counters.cache_misses += 1
        self.queue.put(request)
        if self._idle and not self._scheduled:
            if self._connections() <= self.in_flight:
                self._dispatch()  # nobody is left who could send
                return
            self._scheduled = True  # after what else has arrived by now is read: it shares the batch
            self._loop.call_soon(self._dispatch)

    def sweep(self) -> None:
        """Refuse what waited too long, and end a process that holds a batch longer than any request may take."""
        before = time.monotonic_ns() - self.settings.request_timeout_ns
        for request in list(self.queue.expired(before)):
            self._fail(request, TOO_LATE)
        for instance in self.instances:
            if instance.state is not State.BUSY or not instance.batch:
                continue
            for request in instance.batch:
                if request.arrived_ns < before:
                    self._fail(request, TOO_LATE)
            if instance.since_ns < before:
                log.warning("model process %d: a batch takes longer than any request may; it is ended and started anew", instance.number)
                instance.kill()

    async def facts(self) -> Mapping[str, object]:
        """What really runs, told by a model process between two batches. It may open the model a second time for it."""
        instance = self.instances[0]
        while instance not in self._idle:
            await asyncio.sleep(0.005)
        self._idle.remove(instance)
        return await instance.facts()

    def abandon(self, failure: Failure, *, running: bool = False) -> None:
        """Refuse everything that still waits, and what runs where that is said."""
        for request in list(self.queue.empty()):
            self._fail(request, failure)
        for instance in self.instances if running else ():
            for request in instance.batch:
                self._fail(request, failure)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._idle:
            now = time.monotonic_ns()
            others = self._connections() - self.in_flight
            batch = self.queue.take(now, others)
            if not batch:
                self._wait(now)
                return
            instance = self._idle.pop()
            samples = 0
            for request in batch:
                samples += request.rows
                request.taken_ns = now
            instance.run(batch, samples, now)

    def _wait(self, now: int) -> None:
        """Look again when the oldest request has waited long enough. The loop's clock counts whole milliseconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.queue.due_ns()
        if due is not None:
            self._timer = self._loop.call_later(max(0, due - now) / 1e9, self._dispatch)

    def _free(self, instance: Instance) -> None:
        self._idle.append(instance)
        if self.queue.waiting and not self._scheduled:
            self._dispatch()

    def _is_ready(self, instance: Instance, told: Mapping[str, object]) -> None:
        model = served_model(told)
        if self.model is None:
            self.model, self.reader = model, Reader(model)
            preferred = tuple(sorted(size for size in self.settings.preferred_batch_sizes if size <= model.most))
            self.queue.policy = Policy(model.most, preferred, self.settings.max_queue_delay_ns, self.settings.queue_limit, model.splits)
        self._working += 1
        log.info("model process %d is ready (pid %s)", instance.number, instance.pid)
        self._changed()
        self._free(instance)

    def _is_done(self, instance: Instance, batch: list[Request], frame: Frame) -> None:
        """Each request gets its rows."""
        now = time.monotonic_ns()
        shapes, bad = self._shapes_of(frame.head)
        samples = sum([request.rows for request in batch])
        self.counters.ran(samples, frame.number)
        body = frame.body
        self._free(instance)  # the next batch runs while this one is told
        strides: list[tuple[int, int, str, tuple[int, ...]]] = []
        at = 0
        for kind, shape in shapes:
            size = _bytes_of(kind, shape)
            strides.append((at, size // samples if shape and shape[0] == samples else size, kind, shape))
            at += size
        alone = len(batch) == 1
        first = 0
        for request in batch:
            rows = request.rows
            if bad and not self.settings.allow_not_finite and any(first <= row < first + rows for row in bad):
                self._fail(request, NOT_FINITE)
            elif not request.gone:
                if alone:
                    data = tuple([body[start : start + _bytes_of(kind, shape)] for start, _, kind, shape in strides])
                    answer = Answer(tuple(shapes), data)
                else:
                    data = tuple([body[start + first * row : start + (first + rows) * row] for start, row, _, _ in strides])
                    answer = Answer(tuple([(kind, (rows, *shape[1:])) for _, _, kind, shape in strides]), data)
                if self.cache is not None and request.digest is not None:
                    self.cache.put(request.digest, Answer(answer.shapes, tuple(memoryview(bytes(part)) for part in data)))
                self.counters.queue.add(request.taken_ns - request.arrived_ns)
                self.counters.compute_of_requests_ns += frame.number
                self._answer(request, answer, now)
            first += rows

    def _has_failed(self, instance: Instance, batch: list[Request], message: str) -> None:
        if len(batch) > 1:
            for request in reversed(batch):
                request.alone = True
                self.queue.put_back(request)
        for request in batch if len(batch) == 1 else ():
            self._fail(request, Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "model error", f"the model failed: {message}"))
        self._free(instance)

    def _is_lost(self, instance: Instance, batch: list[Request], reason: str, was_ready: bool) -> None:
        if instance in self._idle:
            self._idle.remove(instance)
        told = f"the model process went while it had this request: {reason}"
        for request in batch:
            self._fail(request, Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "model lost", told))
        if self.model is None:
            self._broken(reason)
            return
        if was_ready:
            self._working -= 1
        self.counters.restarts += 1
        pause = instance.start_again()
        log.warning("model process %d is gone (%s): a new one is started in %.1f s", instance.number, reason, pause)
        if not self.is_ready:
            self.abandon(NO_MODEL)
        self._changed()

    def _fail(self, request: Request, failure: Failure) -> None:
        if not request.gone:
            self.counters.failed[failure.reason] += 1
            self.counters.failed_ns += time.monotonic_ns() - request.arrived_ns
            request.finish(failure)

    def _answer(self, request: Request, answer: Answer, now: int) -> None:
        counters = self.counters
        counters.answered += 1
        counters.request.add(now - request.arrived_ns)
        counters.last_inference_ms = now // 1_000_000
        request.finish(answer)

    def _shapes_of(self, head: bytes) -> tuple[list[tuple[str, tuple[int, ...]]], list[int]]:
        known = self._shapes.get(head)
        if known is None:
            told = json.loads(head)
            known = [(kind, tuple(shape)) for kind, shape in told["outputs"]], told["bad"]
            if len(self._shapes) < KEPT_SHAPES and not known[1]:
                self._shapes[head] = known
        return known


def _bytes_of(kind: str, shape: tuple[int, ...]) -> int:
    size = ITEM_BYTES[kind]
    for length in shape:
        size *= length
    return size


ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}

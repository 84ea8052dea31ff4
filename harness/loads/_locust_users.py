"""Prepared requests to a model, sent by Locust users: a schedule that is followed whatever the server does, or users that wait."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.loads._generating import WIND_UP_S, Load
from harness.loads._orders import Job
from harness.loads._records import CONNECTION, DROPPED, FAILURES, NEVER, OK

if TYPE_CHECKING:
    from locust.env import Environment

WAKE_NS = 60_000
"""A sleep ends about so much late; it is asked to end before, and what is left is waited for awake."""
LOOK_UP_S = 0.25
"""How often a load that waits for its next request looks whether it was called off."""
NAME = "infer"
"""Of these requests, in Locust's statistics and in the records."""


class NotReached(Exception):
    """The endpoint cannot be sent to from here; the text says why."""


class InferenceLoad(Load):
    """Prepared requests to a model: what the open and the closed loop share. Raises NotReached where no connection can be made."""

    def __init__(self, job: Job) -> None:
        from harness.loads._http import Connections

        super().__init__(job)
        orders = job.orders
        secure = urlsplit(orders.url).scheme == "https"
        self.requests = job.requests
        self.connections = Connections(orders.host, orders.port, secure=secure, authorities=orders.authorities)
        if (orders.on or secure) and (why := self.connections.reach()) is not None:
            raise NotReached(why)
        self.report: Any = None

    def finish(self, environment: Environment) -> None:
        self.connections.close()

    def ask(self, due_ns: int, taken_ns: int, body: int) -> None:
        """Send one request, note it, and tell Locust."""
        orders = self.orders
        answer = self.connections.ask(self.requests[body], self.begin_ns + due_ns + orders.timeout_ns)
        sent, first, last = (time_ns if time_ns == NEVER else time_ns - self.begin_ns for time_ns in answer.times)
        self.recorder.note(due_ns, taken_ns, sent, first, last, answer.status, body, NAME)
        self.see(answer.status)
        self.tell(due_ns, answer.status, answer.size)

    def tell(self, due_ns: int, status: int, size: int) -> None:
        """Locust's request event; its time is from the intended send, as in the records."""
        self.report.fire(
            request_type="POST",
            name=NAME,
            response_time=(self.now() - due_ns) / 1e6,
            response_length=size,
            response=None,
            context={},
            exception=None if status == OK else RuntimeError(FAILURES.get(status, f"status {status}")),
            start_time=time.time(),
            url=self.orders.url,
        )


class OpenLoop(InferenceLoad):
    """Sends each request when it is due, whatever became of those before: one Locust user that starts a greenlet for each."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.due: list[int] = job.schedule[0].tolist()
        self.bodies: list[int] = job.schedule[1].tolist()
        self.waiting: deque[tuple[int, int]] = deque()
        self.in_use = 0

    def environment(self) -> Environment:
        from locust import User, task
        from locust.env import Environment
        from locust.exception import StopUser

        load = self

        class Schedule(User):
            @task
            def follow(self) -> None:
                try:
                    load.follow()
                finally:
                    load.done.set()
                raise StopUser

        environment = Environment(user_classes=[Schedule], host=self.orders.url)
        self.report = environment.events.request
        return environment

    def start(self, environment: Environment) -> None:
        assert environment.runner is not None
        environment.runner.start(1, spawn_rate=1)

    def follow(self) -> None:
        import gevent
        from gevent.pool import Group

        group = Group()
        number = 0
        while number < len(self.due) and not self.called_off:
            due_ns = self.due[number]
            wait_s = (due_ns - self.now() - WAKE_NS) / 1e9
            gevent.sleep(min(max(0.0, wait_s), LOOK_UP_S))  # also when late: answers that are there are read
            taken_ns = self.now()
            if taken_ns < due_ns - WAKE_NS:
                continue
            while taken_ns < due_ns:
                taken_ns = self.now()
            if self.in_use < self.orders.connections:
                self.in_use += 1
                group.start(gevent.Greenlet(self._serve, number, taken_ns))
            else:
                self.waiting.append((number, taken_ns))
            number += 1
        while len(group) and not self.called_off:
            group.join(timeout=0.05)
        if self.called_off:
            group.join(timeout=WIND_UP_S)
            group.kill()
        for left, taken_ns in self.waiting:
            self.note_unsent(left, taken_ns, CONNECTION)
        for left in range(number, len(self.due)):
            self.note_unsent(left, NEVER, CONNECTION)

    def note_unsent(self, number: int, taken_ns: int, status: int) -> None:
        self.recorder.note(self.due[number], taken_ns, NEVER, NEVER, NEVER, status, self.bodies[number], NAME)

    def _serve(self, number: int, taken_ns: int) -> None:
        """Ask on a connection, then give it to those that wait for one, the longest first; who waited the whole timeout is dropped."""
        while True:
            self.ask(self.due[number], taken_ns, self.bodies[number])
            while self.waiting and not self.called_off:
                number, taken_ns = self.waiting.popleft()
                if self.now() < self.due[number] + self.orders.timeout_ns:
                    break
                self.note_unsent(number, taken_ns, DROPPED)
                self.tell(self.due[number], DROPPED, 0)
            else:
                self.in_use -= 1
                return


class ClosedLoop(InferenceLoad):
    """Locust users that each send the next request when they have the answer to the one before."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.turn = job.orders.process
        self.left = job.orders.users

    def environment(self) -> Environment:
        import gevent
        from locust import User, task
        from locust.env import Environment
        from locust.exception import StopUser

        load, orders = self, self.orders

        class Asker(User):
            def on_start(self) -> None:
                gevent.sleep(max(0.0, -load.now() / 1e9))

            @task
            def ask(self) -> None:
                now, body = load.now(), load.turn % len(load.requests)
                if now >= orders.end_ns or load.called_off or load.full():
                    raise StopUser
                load.turn += orders.processes
                load.ask(now, now, body)

            def on_stop(self) -> None:
                load.left -= 1
                if not load.left:
                    load.done.set()

        environment = Environment(user_classes=[Asker], host=orders.url)
        self.report = environment.events.request
        return environment

    def full(self) -> bool:
        if len(self.recorder) < self.orders.requests_limit:
            return False
        self.trouble = "the load ended before its time: it had sent 'requests_limit' requests: raise that, or shorten 'duration'"
        return True

    def start(self, environment: Environment) -> None:
        assert environment.runner is not None
        environment.runner.start(self.orders.users, spawn_rate=self.orders.users)

    def call_off(self) -> None:
        import gevent

        super().call_off()
        gevent.spawn_later(WIND_UP_S, self.done.set)

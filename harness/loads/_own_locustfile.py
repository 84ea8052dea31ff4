"""The user's own Locust file inside a generator process: its users run as they are, and what they say of their requests is noted."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.kserve import tls
from harness.loads._generating import WIND_UP_S, Load
from harness.loads._orders import Job, Orders, Report
from harness.loads._records import BAD_ANSWER, CONNECTION, NEVER, OK, REFUSED, TIMEOUT
from harness.loads._user_shape import UserShape

if TYPE_CHECKING:
    from locust import LoadTestShape
    from locust.env import Environment


class BadLocustfile(Exception):
    """The user's Locust file cannot be used; the text says why."""


class OwnLocustfile(Load):
    """The user classes of the user's own Locust file; what their request event says is noted. How many users there are the orders say, or
    the file's LoadTestShape."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        orders = job.orders
        self.classes, shapes = _loaded(Path(orders.locustfile), job.locustfile if orders.on else None)
        self.of_whom = f" of {Path(orders.locustfile).name}"
        self.shape = _shape_of(shapes, orders)
        self.bundle: Path | None = None
        if orders.url.startswith("https:"):
            self.bundle = _trust(self.classes, orders.authorities)

    def environment(self) -> Environment:
        import locust
        from locust.env import Environment

        orders = self.orders
        environment = Environment(
            user_classes=self.classes,
            host=orders.url,
            stop_timeout=orders.timeout_ns / 1e9,
            events=locust.events,
            shape_class=None if self.shape is None else self.shape.shape,
        )
        events: Any = environment.events
        events.request.add_listener(self._note)
        return environment

    def start(self, environment: Environment) -> None:
        import gevent

        assert environment.runner is not None
        runner, users = environment.runner, self.orders.users
        events: Any = environment.events
        events.init.fire(environment=environment, runner=runner, web_ui=None)
        gevent.sleep(max(0.0, -self.now() / 1e9))
        if self.shape is None:
            runner.start(users, spawn_rate=users)
        while self.now() < self.orders.end_ns and not self.called_off and not self._full():
            if self.shape is not None and not self.shape.follow(runner, self.now()):
                self.trouble = self.shape.trouble
                break
            gevent.sleep(min(0.05, max(0.001, (self.orders.end_ns - self.now()) / 1e9)))
        if self.called_off:
            environment.stop_timeout = WIND_UP_S
        runner.stop()  # users end their tasks, for at most the timeout
        self.done.set()

    def finish(self, environment: Environment) -> None:
        if self.bundle is not None:
            self.bundle.unlink()

    def run(self, begin_ns: int) -> Report:
        report = super().run(begin_ns)
        if self.shape is None:
            return report
        return dataclasses.replace(report, shape=self.shape.name, most_users=self.shape.most, shape_ended_ns=self.shape.ended_ns)

    def _full(self) -> bool:
        if len(self.recorder) < self.orders.requests_limit:
            return False
        self.trouble = "the load ended before its time: it had sent 'requests_limit' requests: raise that, or shorten 'duration'"
        return True

    def _note(
        self, request_type: str, name: str, response_time: float, exception: object = None, response: object = None, **_: object
    ) -> None:
        """The send is the moment of the event less the time that Locust measured: its own wall clock has no place here."""
        last_ns = self.now()
        sent_ns = last_ns - round(response_time * 1e6)
        status = _status_of(exception, response)
        last = last_ns if status > 0 else NEVER
        self.recorder.note(sent_ns, sent_ns, sent_ns, NEVER, last, status, -1, f"{request_type} {name}")
        self.see(status)


def _status_of(exception: object, response: object) -> int:
    """The HTTP status, or why there is none; what the file called a failure in spite of its status is one."""
    status = int(getattr(response, "status_code", 0) or 0)
    if exception is None:
        return status if OK <= status < 300 else OK  # Locust's word: other protocols have no status, and redirects were followed
    if status >= 300:
        return status
    if status:
        return REFUSED
    names = {kind.__name__ for kind in type(exception).__mro__} | {type(getattr(exception, "__cause__", None)).__name__}
    if any("timeout" in name.lower() for name in names) or "timed out" in str(exception).lower():
        return TIMEOUT
    if any("Connection" in name or name in ("OSError", "SSLError", "gaierror") for name in names):
        return CONNECTION
    return BAD_ANSWER if any("Parse" in name for name in names) else REFUSED


def _loaded(path: Path, text: bytes | None) -> tuple[list[type], list[LoadTestShape]]:
    """The file's user classes and its shapes. ``text`` is its content where it is not on this machine: the file alone, without what lies
    beside it. Raises BadLocustfile."""
    from locust.util.load_locustfile import load_locustfile

    with tempfile.TemporaryDirectory() as scratch:
        place, beside = path, ""
        if text is not None:
            place = Path(scratch) / path.name
            place.write_bytes(text)
            beside = " (on another machine the file is alone: what it imports must be installed there)"
        try:
            users, shapes = load_locustfile(str(place))
        except (Exception, SystemExit) as error:  # the user's own code may raise anything: it is told with its name
            raise BadLocustfile(f"cannot be imported: {type(error).__name__}: {error}{beside}") from error
    if not users:
        raise BadLocustfile("has no user class: derive one from locust.FastHttpUser and give it a @task")
    return list(users.values()), shapes


def _shape_of(shapes: list[LoadTestShape], orders: Orders) -> UserShape | None:
    """The file's LoadTestShape, where that and not the scenario says how many users there are. Raises BadLocustfile where both do, or
    neither."""
    if len(shapes) > 1:
        raise BadLocustfile(f"has {len(shapes)} LoadTestShapes ({', '.join(type(one).__name__ for one in shapes)}): keep one")
    if shapes and orders.users:
        raise BadLocustfile("has a LoadTestShape, and the scenario has 'users': both say how many there are, keep one")
    if not shapes and not orders.users:
        raise BadLocustfile("has no LoadTestShape, and the scenario has no 'users': say how many there are")
    return UserShape(shapes[0], orders) if shapes else None


def _trust(classes: list[type], authorities: str) -> Path | None:
    """Verify certificates in users of Locust's two HTTP clients, where a class does not say itself whom it trusts: FastHttpUser by itself
    verifies nothing, HttpUser does, and reads other authorities from a file. Gives that file, where there is one."""
    import gevent.ssl
    from locust import FastHttpUser, HttpUser

    bundle = None
    if authorities:
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(authorities)
        bundle = Path(file.name)
    for kind in classes:
        own = [base for base in kind.__mro__ if issubclass(base, FastHttpUser) and base is not FastHttpUser]
        if own and not any(name in vars(base) for base in own for name in ("insecure", "ssl_context_factory")):
            kind.ssl_context_factory = staticmethod(lambda: tls.context(authorities, gevent.ssl.create_default_context))  # type: ignore[attr-defined]
        if issubclass(kind, HttpUser) and bundle is not None:
            _verify_by(kind, bundle)
    return bundle


def _verify_by(kind: Any, bundle: Path) -> None:
    """Give each user of a class a client that trusts these authorities, before the user's own code gets it."""
    made = kind.__init__

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.client.verify = str(bundle)

    kind.__init__ = __init__

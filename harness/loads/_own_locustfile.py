"""The user's own Locust file inside a generator process: its users run as they are, and what they say of their requests is noted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.loads._generating import WIND_UP_S, Load
from harness.loads._orders import Orders
from harness.loads._records import BAD_ANSWER, CONNECTION, NEVER, OK, REFUSED, TIMEOUT

if TYPE_CHECKING:
    from locust.env import Environment


class BadLocustfile(Exception):
    """The user's Locust file cannot be used; the text says why."""


class OwnLocustfile(Load):
    """The user classes of the user's own Locust file; what their request event says is noted."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.classes = _classes_of(Path(orders.locustfile))
        self.of_whom = f" of {Path(orders.locustfile).name}"

    def environment(self) -> Environment:
        import locust
        from locust.env import Environment

        orders = self.orders
        environment = Environment(user_classes=self.classes, host=orders.url, stop_timeout=orders.timeout_ns / 1e9, events=locust.events)
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
        runner.start(users, spawn_rate=users)
        while self.now() < self.orders.end_ns and not self.called_off and not self._full():
            gevent.sleep(min(0.05, max(0.001, (self.orders.end_ns - self.now()) / 1e9)))
        if self.called_off:
            environment.stop_timeout = WIND_UP_S
        runner.stop()  # users end their tasks, for at most the timeout
        self.done.set()

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
    if any("Connection" in name or name in ("OSError", "gaierror") for name in names):
        return CONNECTION
    return BAD_ANSWER if any("Parse" in name for name in names) else REFUSED


def _classes_of(path: Path) -> list[type]:
    from locust.util.load_locustfile import load_locustfile

    try:
        users, shapes = load_locustfile(str(path))
    except (Exception, SystemExit) as error:  # the user's own code may raise anything: it is told with its name
        raise BadLocustfile(f"cannot be imported: {type(error).__name__}: {error}") from error
    if not users:
        raise BadLocustfile("has no user class: derive one from locust.FastHttpUser and give it a @task")
    if shapes:
        raise BadLocustfile("has a LoadTestShape, which is not used here: the scenario's 'users' and 'duration' say how much is sent")
    return list(users.values())

"""The LoadTestShape of a user's own Locust file: it says how many users there are over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.loads._orders import Orders
from harness.loads._shares import share

if TYPE_CHECKING:
    from locust import LoadTestShape
    from locust.runners import Runner

TICK_NS = 1_000_000_000
"""As often as Locust itself asks a shape."""
MOST_USERS = 10_000


class UserShape:
    """Asks the shape once a second and starts or stops users as it says: this process's share of them, at its share of the spawn rate.

    The shape's clock (``get_run_time``) stands at 0 in the lead-in and starts with the measured time.
    """

    def __init__(self, shape: LoadTestShape, orders: Orders) -> None:
        self.shape = shape
        self.orders = orders
        self.name = type(shape).__name__
        self.most = 0
        self.ended_ns = 0
        self.trouble = ""
        self._next_ns = 0
        self._last: object = None
        self._begun = False

    def follow(self, runner: Runner, now_ns: int) -> bool:
        """Do what is due now. False where the load ends: the shape said so, or what it said cannot be used (``trouble``)."""
        if now_ns < self._next_ns:
            return True
        self._next_ns = now_ns + TICK_NS
        if not self._begun:
            self.shape.reset_time()  # type: ignore[no-untyped-call]
            self._begun = now_ns >= self.orders.lead_in_ns
            self._next_ns = self._next_ns if self._begun else min(self._next_ns, self.orders.lead_in_ns)
        try:
            told = self.shape.tick()
            if told is None:
                self.ended_ns = now_ns
                return False
            if told != self._last:
                self._last = told
                count, rate, *classes = told
                self._have(runner, int(count), float(rate), *classes)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything: it is told with its name
            self.trouble = f"its LoadTestShape {self.name} could not be followed: {type(error).__name__}: {error}"
            return False
        return True

    def _have(self, runner: Any, count: int, rate: float, classes: list[type] | None = None) -> None:
        if not 0 <= count <= MOST_USERS:
            raise ValueError(f"it asks for {count:,} users, and 0 to {MOST_USERS:,} are possible")
        if rate <= 0:
            raise ValueError(f"it asks for {rate:g} new users a second")
        self.most = max(self.most, count)
        mine = share(count, self.orders.process, self.orders.processes)
        if mine or runner.user_count:
            runner.start(mine, spawn_rate=rate / self.orders.processes, user_classes=classes)

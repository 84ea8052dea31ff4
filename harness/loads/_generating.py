"""What every kind of load shares inside a generator process: its clock, its recorder, when it gives up, and what it uses."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from harness.loads._orders import Job, Report
from harness.loads._recorder import Recorder
from harness.loads._records import CONNECTION

if TYPE_CHECKING:
    from locust.env import Environment

GIVE_UP_NS = 5_000_000_000
"""Nothing but broken connections for so long, and the load ends early: nobody is there."""
GIVE_UP_REQUESTS = 3
WIND_UP_S = 1.0
"""What requests in flight get when the load is called off."""
log = logging.getLogger(__name__)


class Load:
    """What every kind shares: the clock that begins at the lead-in, the recorder, giving up, what it uses meanwhile."""

    def __init__(self, job: Job) -> None:
        from gevent.event import Event

        self.orders = job.orders
        self.recorder = Recorder()
        self.begin_ns = 0
        self.called_off = False
        self.trouble = ""
        self.cpu = 0.0
        self.usage: list[tuple[int, float, int]] = []
        self.done = Event()
        self.raised = 0
        self.first_raised = ""
        self.of_whom = ""
        self._broken = 0
        self._answered_ns = 0

    def now(self) -> int:
        return time.monotonic_ns() - self.begin_ns

    def run(self, begin_ns: int) -> Report:
        import gevent
        from locust.stats import print_percentile_stats, print_stats

        self.begin_ns = begin_ns
        environment = self.environment()
        events: Any = environment.events
        events.user_error.add_listener(self._note_error)
        runner = environment.create_local_runner()
        helpers = [gevent.spawn(self._listen), gevent.spawn(self._watch_cpu)]
        self.start(environment)
        self.done.wait()
        self.finish(environment)
        gevent.killall(helpers)
        runner.quit()
        print_stats(environment.stats, current=False)
        print_percentile_stats(environment.stats)
        if self.raised and not self.trouble:
            self.trouble = f"{self.raised:,} tasks{self.of_whom} raised, the first {self.first_raised}"
        return Report(round(self.cpu, 4), self.trouble, usage=tuple(self.usage))

    def environment(self) -> Environment:
        raise NotImplementedError

    def start(self, environment: Environment) -> None:
        raise NotImplementedError

    def finish(self, environment: Environment) -> None:
        return

    def call_off(self) -> None:
        """End early: the parent asks for it, or nobody answers."""
        self.called_off = True

    def see(self, status: int) -> None:
        """Give up when nothing but broken connections came for a while."""
        if status != CONNECTION:
            self._broken, self._answered_ns = 0, self.now()
            return
        self._broken += 1
        if self._broken >= GIVE_UP_REQUESTS and self.now() - self._answered_ns > GIVE_UP_NS and not self.called_off:
            log.warning("nothing but broken connections for %.0f s: the load ends", GIVE_UP_NS / 1e9)
            self.call_off()

    def _note_error(self, exception: BaseException, **_: object) -> None:
        self.raised += 1
        self.first_raised = self.first_raised or f"{type(exception).__name__}: {exception}"

    def _listen(self) -> None:
        """A line on stdin calls the load off; its end means that the parent has gone, or the connection to it."""
        from gevent.socket import wait_read

        wait_read(0)
        if not os.read(0, 64):
            os._exit(1)
        self.call_off()

    def _watch_cpu(self) -> None:
        """CPU over the measured time, in cores; on another machine, where the parent cannot look, every sample too."""
        import gevent
        import psutil

        process = psutil.Process()
        gevent.sleep(max(0.0, (self.orders.lead_in_ns - self.now()) / 1e9))
        start_ns, start_cpu_ns = self.now(), time.process_time_ns()
        before_ns, before_cpu_ns = start_ns, start_cpu_ns
        while self.now() < self.orders.end_ns:
            gevent.sleep(min(0.25, max(0.001, (self.orders.end_ns - self.now()) / 1e9)))
            now_ns, cpu_ns = self.now(), time.process_time_ns()
            self.cpu = (cpu_ns - start_cpu_ns) / max(1, now_ns - start_ns)
            if self.orders.on:
                busy = (cpu_ns - before_cpu_ns) / max(1, now_ns - before_ns)
                self.usage.append((now_ns, round(busy, 3), process.memory_info().rss))
                before_ns, before_cpu_ns = now_ns, cpu_ns

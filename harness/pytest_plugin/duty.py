"""A pytest process that ``gate`` has started: one test, up to one call of ``gate``, whose callable it then serves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from harness.engine.callable_outcome import Outcome
from harness.engine.serve_callable import DUTY, NOTHING_THERE, Duty, refuse, serve, why_not_fit
from harness.engine.worker import end_with_parent
from harness.pytest_plugin.work import Work

SERVED = "all that was asked for is served"


class ServingGate:
    """What the fixture is in such a process: serves where this is the call that it was started for, and passes over an earlier one."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._calls = 0

    def __call__(self, candidate: Callable[[], object], *, baseline: Callable[[], object] | None = None, **options: str | None) -> Outcome:
        number, self._calls = self._calls, self._calls + 1
        if number < self._duty.call:
            return Outcome(self._duty.node, None, None, "another call is measured in this process")
        call = baseline if self._duty.side == "baseline" else candidate
        with Connection(self._duty.descriptor) as connection:
            reason = why_not_fit(self._duty) or ("this call has no 'baseline='" if call is None else None)
            if reason is not None or call is None:
                refuse(connection, str(reason))
            else:
                serve(connection, call)
        pytest.skip(SERVED)  # the test ends in the usual way: its fixtures are torn down


class OnDuty:
    """The plugin of a process that ``gate`` has started: it runs one test, and says why when that does not come to the call."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._broken: list[tuple[str, str]] = []
        self._skipped = ""
        self._ran = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._broken.append((f"{report.nodeid} cannot be collected there", report.longreprtext))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran = True
        if report.failed:
            self._broken.append((f"the test fails there before it comes to 'gate' ({report.when})", report.longreprtext))
        elif report.skipped:
            self._skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)

    def pytest_sessionfinish(self) -> None:
        if self._skipped.endswith(SERVED):
            return
        with Connection(self._duty.descriptor) as connection:
            if self._broken:
                reason, detail = self._broken[0]
                last = next((line[1:].strip() for line in reversed(detail.splitlines()) if line.startswith("E ")), "")
                refuse(connection, f"{reason}: {last}" if last else reason, detail)
            elif self._skipped:
                refuse(connection, f"{NOTHING_THERE}does not measure it (it is skipped: {self._skipped.removeprefix('Skipped: ')})")
            else:
                what = "does not call 'gate' there" if self._ran else "is not there"
                refuse(connection, f"{NOTHING_THERE}has no such call (the test {what})")


def take_up(work: Work, text: str) -> None:
    """Become a process that serves: only its test is collected, and it ends with the one that has started it."""
    work.duty = DUTY.validate_json(text)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    work.config.args = [work.duty.node]
    work.config.pluginmanager.register(OnDuty(work.duty), "harness-on-duty")

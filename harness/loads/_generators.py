"""The parent's side of all generator processes: start them at one moment, watch, and leave nothing running."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.loads._generator_process import GeneratorProcess, Said
from harness.loads._orders import PING, STOP, Job, Report
from harness.loads._recorder import read_rows
from harness.loads._records import Records
from harness.loads._ssh import GeneratorHost

START_TIMEOUT_S = 60.0
BEGIN_IN_NS = 300_000_000
"""From the moment when all are ready until the lead-in begins: time for Locust to start its users."""
PINGS = 5
LOOK_EVERY_S = 0.25
GRACE_S = 10.0
"""How long after its last possible answer a generator may be silent before it has sent its records."""
CALLED_OFF_S = 20.0


@dataclass(frozen=True, slots=True)
class Begun:
    """When the lead-in began by this machine's clock, and within how much of each other all generators began (None: they are all here,
    and have one clock)."""

    begin_ns: int
    skew_ns: int | None


@dataclass(slots=True)
class Heard:
    """What generators told at their end, by their number; ``lost`` is the first that ended before it could, with what to do."""

    reports: dict[int, Report] = field(default_factory=dict)
    records: dict[int, Records] = field(default_factory=dict)
    lost: CannotMeasure | None = None


@dataclass(slots=True)
class Generators:
    """Generator processes as a context manager: they are gone when the block is left, however that happens. ``hosts`` says where each runs
    (None: here)."""

    jobs: Sequence[Job]
    hosts: Sequence[GeneratorHost | None]
    folder: Path
    processes: list[GeneratorProcess] = field(default_factory=list)

    def __enter__(self) -> Generators:
        try:
            for job, host in zip(self.jobs, self.hosts, strict=True):
                number = job.orders.process
                job.orders.write(self.folder / f"generator-{number}.json")
                process = GeneratorProcess(job, host, self.folder / f"generator-{number}.log")
                process.start()
                self.processes.append(process)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def pids_here(self) -> list[int]:
        """Of the generators on this machine."""
        return [one.process.pid for one in self.processes if one.host is None]

    def begin(self, clock: Callable[[], int]) -> Begun:
        """Meet them, give them their jobs, wait until all are ready, and tell them when the lead-in begins. Raises CannotMeasure where one
        cannot be started or does not reach the endpoint."""
        limit_s = time.monotonic() + START_TIMEOUT_S
        self._each(lambda said: "program" in said.line, limit_s, [one for one in self.processes if one.host is not None])
        for one in self.processes:
            one.give_job()
        self._each(lambda said: "ready" in said.line, limit_s, self.processes)
        ways_ns = {one.job.orders.process: self._way(one, clock) for one in self.processes if one.host is not None}
        begin_ns = clock() + BEGIN_IN_NS + max(ways_ns.values(), default=0)
        sent, after = {}, {}
        for one in self.processes:
            number, now = one.job.orders.process, clock()
            if one.host is None:
                one.tell([b'{"begin_ns": %d}\n' % begin_ns])
                continue
            sent[number], after[number] = now, begin_ns - now - ways_ns[number] // 2
            one.tell([b'{"begin_in_ns": %d}\n' % after[number]])
        heard = self._each(lambda said: "begun" in said.line, time.monotonic() + GRACE_S, self.processes, clock)
        if not sent:
            return Begun(begin_ns, None)
        # A line was read somewhere between when it was written here and when its answer came.
        latest = max([heard[number] + after[number] for number in sent])
        return Begun(begin_ns, latest - min(sent[number] + after[number] for number in sent))

    def wait(self, until_s: float, look: Callable[[], bool]) -> Heard:
        """Wait for the reports until ``until_s`` by the monotonic clock. ``look`` is called about 4 times a second; when it gives False the
        load is called off: there is nobody to answer any more. So it is when a generator is lost. Raises BadInput for a Locust file that
        cannot be used."""
        heard = Heard()
        limit_s, called_off = until_s + GRACE_S, False
        with selectors.DefaultSelector() as selector:
            for one in self.processes:
                selector.register(one.output, selectors.EVENT_READ, one)
            while selector.get_map():
                for key, _ in selector.select(LOOK_EVERY_S):
                    one = key.data
                    for said in one.read():
                        self._note(one, said, heard)
                    limit_s = max(limit_s, time.monotonic() + GRACE_S) if time.monotonic() > until_s else limit_s  # it sends its records
                    if one.lost is not None or one.job.orders.process in heard.reports:
                        heard.lost = heard.lost or one.lost
                        selector.unregister(key.fileobj)
                if not called_off and (heard.lost is not None or not look()):
                    called_off, until_s = True, time.monotonic()
                    limit_s = min(limit_s, until_s + CALLED_OFF_S)
                    for one in self.processes:
                        one.tell([STOP])
                if time.monotonic() > limit_s and selector.get_map():
                    late = min(selector.get_map().values(), key=lambda key: key.data.job.orders.process).data
                    heard.lost = heard.lost or late.failed("did not end in its time")
                    break
        return heard

    def end(self) -> None:
        for one in self.processes:
            one.close_stdin()
        for one in self.processes:
            one.end()

    def _note(self, one: GeneratorProcess, said: Said, heard: Heard) -> None:
        orders = one.job.orders
        self._check(one, said)
        if "report" not in said.line:
            return
        try:
            names = [str(name) for name in said.line["names"]]  # type: ignore[attr-defined]
            records = read_rows(said.data, names, one.job.most_rows, orders.process, orders.lead_in_ns, orders.end_ns)
            heard.reports[orders.process] = Report.of(said.line["report"])  # type: ignore[arg-type]
        except (ValueError, TypeError, KeyError) as error:
            one.lost = one.failed(f"sent what cannot be read: {error}")
            return
        heard.records[orders.process] = records

    def _way(self, one: GeneratorProcess, clock: Callable[[], int]) -> int:
        """There and back, in ns: the quickest of a few pings."""
        found = []
        for _ in range(PINGS):
            sent = clock()
            one.tell([PING])
            found.append(self._each(lambda said: "pong" in said.line, time.monotonic() + GRACE_S, [one], clock).popitem()[1] - sent)
        return min(found)

    def _each(
        self,
        wanted: Callable[[Said], bool],
        limit_s: float,
        processes: Sequence[GeneratorProcess],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> dict[int, int]:
        """Wait for a wanted message of each; when it was there, by number. Raises for one that is lost or silent."""
        at: dict[int, int] = {}
        with selectors.DefaultSelector() as selector:
            for one in processes:
                selector.register(one.output, selectors.EVENT_READ, one)
            while len(at) < len(processes):
                for key, _ in selector.select(LOOK_EVERY_S):
                    one, now = key.data, clock()
                    for said in one.read():
                        self._check(one, said)
                        if wanted(said):
                            at[one.job.orders.process] = now
                            selector.unregister(key.fileobj)
                    if one.lost is not None:
                        raise one.lost
                if time.monotonic() > limit_s and len(at) < len(processes):
                    late = next(one for one in processes if one.job.orders.process not in at)
                    raise late.failed("was not ready in its time")
        return at

    def _check(self, one: GeneratorProcess, said: Said) -> None:
        """Raises BadInput where a generator says that it cannot use the user's file, CannotMeasure where it cannot send to the endpoint."""
        report = said.line.get("report")
        if not isinstance(report, dict):
            return
        orders = one.job.orders
        if report.get("bad_input"):
            path, key = Path(orders.locustfile), "measure.load.locust.locustfile"
            raise BadInput(Problem(str(report["bad_input"]), path=path, key=key, hint=one.log_told()))
        if report.get("unreached"):
            where, hint = (f"'{orders.on}'", f"it must be reachable from {orders.on}") if orders.on else ("here", None)
            raise CannotMeasure(f"{orders.url} is not reached from {where}: {report['unreached']}", hint=hint)

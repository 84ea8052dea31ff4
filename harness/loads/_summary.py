"""What a load showed, as it is told: from its records, its generators' reports, and what was seen of both sides meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.core.plugin import Driven, LoadJob
from harness.core.serving import LoadRun, Usage
from harness.core.units import Unit, format_value
from harness.loads._orders import Report
from harness.loads._outcome import GeneratorFacts, doubt_of, drift_of, failed_by_kind, lateness_of, recovery_ns, windows_of
from harness.loads._records import NEVER, Records
from harness.loads._usage import Watch, with_reported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.loads._generators import Begun
    from harness.loads.locust import Locust


def summary(load: Locust, job: LoadJob, records: Records, reports: Mapping[int, Report], watch: Watch, begun: Begun, digest: str) -> Driven:
    """What the counted requests show. Times are told since the first of them was due."""
    counted = records.where(records.counted)
    latencies = counted.latencies_ns(round(load.timeout))
    origin_ns = int(counted.due_ns[0]) if counted.size else round(load.ramp_up)
    due = counted.due_ns - origin_ns
    last_ns = max(int(counted.last_byte_ns.max(initial=0)), int(counted.due_ns.max(initial=0)), origin_ns + 1)
    in_time = None if job.limit_ns is None else int((counted.answered & (latencies <= job.limit_ns)).sum())
    trouble = next((report.trouble for report in reports.values() if report.trouble), None)
    generator = GeneratorFacts(max(report.cpu for report in reports.values()), len(reports), trouble)
    first_byte_ns = (counted.first_byte_ns - counted.sent_ns)[counted.answered & (counted.first_byte_ns != NEVER)]
    told = LoadRun(
        kind="closed" if load.is_closed else "open",
        arrivals=_arrivals(load, reports),
        rate_per_s=load.per_s,
        users=load.users,
        due=counted.size,
        answered=int(counted.answered.sum()),
        failed=failed_by_kind(counted),
        duration_ns=last_ns - origin_ns,
        limit_ns=job.limit_ns,
        within_limit=in_time,
        lateness=lateness_of(counted),
        generator_cpu=generator.cpu,
        generator_processes=generator.processes,
        windows=windows_of(due, latencies, ~counted.answered),
        usage=_usage(watch, reports, begun.begin_ns, origin_ns, round(load.ramp_up + load.duration)),
        records=job.records_as,
        records_sha256=digest,
        first_byte_p50_ns=int(np.median(first_byte_ns)) if first_byte_ns.size else None,
        recovery_ns=_recovery(load, due, latencies, origin_ns),
        drift=drift_of(latencies) if load.is_even else None,
        doubt=doubt_of(counted, latencies, generator),
        locustfile=load.locustfile,
        generator_hosts=tuple(one.host for one in load.generators),
        start_skew_ns=begun.skew_ns,
    )
    return Driven(told, tuple(due.tolist()), tuple(latencies.tolist()))


def _usage(watch: Watch, reports: Mapping[int, Report], begin_ns: int, origin_ns: int, end_ns: int) -> tuple[Usage, ...]:
    """The samples of the measured time, since its first request; all three times but ``begin_ns`` are since the begin."""
    since_begin = [dataclasses.replace(one, at_ns=one.at_ns - begin_ns) for one in watch.samples]
    every = with_reported(since_begin, [report.usage for report in reports.values() if report.usage])
    return tuple(dataclasses.replace(one, at_ns=one.at_ns - origin_ns) for one in every if origin_ns <= one.at_ns <= end_ns)


def _recovery(load: Locust, due: NDArray[np.int64], latencies: NDArray[np.int64], origin_ns: int) -> int | None:
    if load.spike is None:
        return None
    begin = round(load.ramp_up + load.spike.at) - origin_ns
    return recovery_ns(due, latencies, begin, begin + round(load.spike.lasts))


def _arrivals(load: Locust, reports: Mapping[int, Report]) -> str:
    """How requests came, for people."""
    shaped = next((report for report in reports.values() if report.shape), None)
    if shaped is not None:
        most = max(report.most_users for report in reports.values())
        after = max(report.shape_ended_ns for report in reports.values()) - round(load.ramp_up)
        ended = f", which ended the load after {format_value(after, Unit.NANOSECONDS)}" if after > 0 else ""
        return f"users as the LoadTestShape {shaped.shape} asks for them, at most {most:,} at a time{ended}"
    if load.is_closed:
        return "as users were answered"
    if load.ramp is not None:
        return f"{load.arrivals}, ramp from {load.ramp.start:g} to {load.ramp.to:g} /s"
    if load.steps:
        return f"{load.arrivals}, steps of {', '.join(f'{rate:g}' for rate in load.steps)} /s"
    if load.spike is not None:
        at, lasts = (format_value(value, Unit.NANOSECONDS) for value in (load.spike.at, load.spike.lasts))
        return f"{load.arrivals}, {load.spike.factor:g} times as many for {lasts} after {at}"
    return load.arrivals

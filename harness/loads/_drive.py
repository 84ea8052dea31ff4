"""A load from its options to what it showed: schedule, generators, records, summary."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import Driven, LoadJob
from harness.core.serving import LoadRun, Usage
from harness.core.units import Unit, format_value
from harness.loads._generators import Generators
from harness.loads._orders import Kind, Orders, Report, request_bytes, write_requests
from harness.loads._outcome import GeneratorFacts, doubt_of, drift_of, failed_by_kind, lateness_of, recovery_ns, windows_of
from harness.loads._recorder import read_rows
from harness.loads._records import NEVER, Records, merged, write_records
from harness.loads._schedule import Schedule, make_schedule, part_of
from harness.loads._usage import Side, Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.loads.locust import Locust


def drive(load: Locust, job: LoadJob) -> Driven:
    """Run the load against the job's endpoint and tell what it showed."""
    host, port = _address(load, job)
    schedule = _schedule(load, job.seed) if load.users is None else None
    watch = _watch(job)
    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:  # what generators read and write: much, and in the records afterwards
        orders = _orders(load, job, host, port, schedule, Path(scratch).resolve())
        with Generators(orders, job.folder) as generators:
            watch.generator.pids = lambda: generators.pids
            begin_ns = generators.begin(time.monotonic_ns)

            def look() -> bool:
                watch.look()
                return job.server.trouble() is None

            reports = generators.wait((begin_ns + orders[0].end_ns + orders[0].timeout_ns) / 1e9, look)
        records = merged([read_rows(Path(one.into), one.process, one.lead_in_ns, one.end_ns) for one in orders])
    if schedule is not None and records.size != schedule.due_ns.size:
        told = f"{schedule.due_ns.size:,} requests were due and the generators tell of {records.size:,}"
        raise CannotMeasure(told, hint=f"this is a fault of the generator: {job.folder}/generator-0.log says more")
    digest = write_records(job.folder / job.records_as.rpartition("/")[2], records)
    return _summary(load, job, records, reports, watch, begin_ns, digest)


def _schedule(load: Locust, seed: int) -> Schedule:
    """The schedule of an open loop, within the limit of requests: a search for capacity asks for rates that no one has checked."""
    schedule = make_schedule(load.curve(), load.arrivals, seed, round(load.ramp_up))
    if schedule.due_ns.size > load.requests_limit:
        told = f"{schedule.due_ns.size:,} requests would be sent, and no more than {load.requests_limit:,} are allowed"
        raise BadInput(Problem(told, key="measure.load.locust.requests_limit", hint="raise it, shorten 'duration', or lower the rate"))
    return schedule


def _address(load: Locust, job: LoadJob) -> tuple[str, int]:
    """The endpoint's host and port, where sending to it is allowed."""
    url = urlsplit(job.endpoint.url)
    host = url.hostname
    if url.scheme != "http" or host is None:
        raise CannotMeasure(
            f"requests are sent over plain HTTP, and the endpoint is {job.endpoint.url}", hint="put a proxy on this machine before it"
        )
    if not _is_loopback(host) and host != load.allow_host:
        told = f"the endpoint is on '{host}', and a load is sent to other machines only where the scenario names them"
        raise BadInput(Problem(told, key="measure.load.locust.allow_host", hint=f"if it is yours to load, write 'allow_host: {host}'"))
    return host, url.port or 80


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _orders(load: Locust, job: LoadJob, host: str, port: int, schedule: Schedule | None, scratch: Path) -> list[Orders]:
    """What each generator process is to do; writes the requests and the schedule that they read."""
    processes = load.processes if load.users is None else min(load.processes, load.users)
    locustfile = None if load.locustfile is None else (job.scenario_folder / load.locustfile).resolve()
    if locustfile is not None and not locustfile.is_file():
        raise BadInput(
            Problem(f"'{load.locustfile}' does not exist", key="measure.load.locust.locustfile", hint=f"looked for {locustfile}")
        )
    requests = scratch / "requests.bin"
    authority = urlsplit(job.endpoint.url).netloc
    cuts = write_requests(requests, [request_bytes(job.endpoint, authority, message) for message in job.requests])
    kind: Kind = "locustfile" if locustfile else "open" if schedule is not None else "closed"
    lead_in_ns = round(load.ramp_up)
    cores = _cores_beside(job, processes)
    found = []
    for process in range(processes):
        path = scratch / f"schedule-{process}.npy"
        if schedule is not None:
            numbers = part_of(schedule, process, processes)
            np.save(path, np.stack([schedule.due_ns[numbers], numbers % len(job.requests)]))
        found.append(
            Orders(
                kind=kind,
                process=process,
                processes=processes,
                parent=os.getpid(),
                url=job.endpoint.url,
                host=host,
                port=port,
                requests=str(requests),
                cuts=cuts,
                schedule=str(path),
                users=_share(load.users or 0, process, processes),
                connections=max(1, _share(load.connections, process, processes)),
                lead_in_ns=lead_in_ns,
                end_ns=lead_in_ns + round(load.duration),
                timeout_ns=round(load.timeout),
                requests_limit=max(1, _share(load.requests_limit, process, processes)),
                locustfile=str(locustfile or ""),
                into=str(scratch / f"rows-{process}.npz"),
                cores=cores,
            )
        )
    return found


def _share(total: int, process: int, processes: int) -> int:
    return total // processes + (process < total % processes)


def _cores_beside(job: LoadJob, processes: int) -> tuple[int, ...]:
    """The cores that this process may use and the server may not: the generators' own. Empty where there is not one for each."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    taken: set[int] = set()
    for pid in job.server.pids():
        try:
            taken |= os.sched_getaffinity(pid)
        except OSError:
            continue
    free = os.sched_getaffinity(0) - taken
    return tuple(sorted(free)) if taken and len(free) >= processes else ()


def _watch(job: LoadJob) -> Watch:
    clock = time.monotonic_ns
    return Watch(Side(job.server.pids, clock), Side(tuple, clock), clock)


def _summary(load: Locust, job: LoadJob, records: Records, reports: Sequence[Report], watch: Watch, begin_ns: int, digest: str) -> Driven:
    """What the counted requests show. Times are told since the first of them was due."""
    counted = records.where(records.counted)
    latencies = counted.latencies_ns(round(load.timeout))
    origin_ns = int(counted.due_ns[0]) if counted.size else round(load.ramp_up)
    due = counted.due_ns - origin_ns
    last_ns = max(int(counted.last_byte_ns.max(initial=0)), int(counted.due_ns.max(initial=0)), origin_ns + 1)
    in_time = None if job.limit_ns is None else int((counted.answered & (latencies <= job.limit_ns)).sum())
    trouble = next((report.trouble for report in reports if report.trouble), None)
    generator = GeneratorFacts(max(report.cpu for report in reports), len(reports), trouble)
    first_byte_ns = (counted.first_byte_ns - counted.sent_ns)[counted.answered & (counted.first_byte_ns != NEVER)]
    told = LoadRun(
        kind="open" if load.users is None else "closed",
        arrivals=_arrivals(load),
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
        usage=_usage(watch, begin_ns + origin_ns, round(load.ramp_up + load.duration) - origin_ns),
        records=job.records_as,
        records_sha256=digest,
        first_byte_p50_ns=int(np.median(first_byte_ns)) if first_byte_ns.size else None,
        recovery_ns=_recovery(load, due, latencies, origin_ns),
        drift=drift_of(latencies) if load.is_even else None,
        doubt=doubt_of(counted, latencies, generator),
        locustfile=load.locustfile,
    )
    return Driven(told, tuple(due.tolist()), tuple(latencies.tolist()))


def _usage(watch: Watch, begin_ns: int, end_ns: int) -> tuple[Usage, ...]:
    """The samples of the measured time, since its begin."""
    moved = (dataclasses.replace(one, at_ns=one.at_ns - begin_ns) for one in watch.samples)
    return tuple(one for one in moved if 0 <= one.at_ns <= end_ns)


def _recovery(load: Locust, due: NDArray[np.int64], latencies: NDArray[np.int64], origin_ns: int) -> int | None:
    if load.spike is None:
        return None
    begin = round(load.ramp_up + load.spike.at) - origin_ns
    return recovery_ns(due, latencies, begin, begin + round(load.spike.lasts))


def _arrivals(load: Locust) -> str:
    """How requests came, for people."""
    if load.users is not None:
        return "as users were answered"
    if load.ramp is not None:
        return f"{load.arrivals}, ramp from {load.ramp.start:g} to {load.ramp.to:g} /s"
    if load.steps:
        return f"{load.arrivals}, steps of {', '.join(f'{rate:g}' for rate in load.steps)} /s"
    if load.spike is not None:
        at, lasts = (format_value(value, Unit.NANOSECONDS) for value in (load.spike.at, load.spike.lasts))
        return f"{load.arrivals}, {load.spike.factor:g} times as many for {lasts} after {at}"
    return load.arrivals

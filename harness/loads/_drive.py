"""A load from its options to what it showed: schedule, generators, records, summary."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import Driven, LoadJob
from harness.loads._generators import Generators
from harness.loads._make_jobs import hosts_of, make_jobs
from harness.loads._records import Records, merged, write_records
from harness.loads._schedule import Schedule, make_schedule
from harness.loads._summary import summary
from harness.loads._usage import Side, Watch

if TYPE_CHECKING:
    from harness.loads.locust import Locust


def drive(load: Locust, job: LoadJob) -> Driven:
    """Run the load against the job's endpoint and tell what it showed."""
    address = _address(load, job)
    schedule = None if load.is_closed else _schedule(load, job.seed)
    hosts = hosts_of(load)
    jobs = make_jobs(load, job, address, schedule, hosts)
    clock = time.monotonic_ns
    watch = Watch(Side(job.server.pids, clock), Side(tuple, clock), clock)
    with Generators(jobs, hosts, job.folder) as generators:
        watch.generator.pids = lambda: generators.pids_here
        begun = generators.begin(clock)

        def look() -> bool:
            watch.look()
            return job.server.trouble() is None

        heard = generators.wait((begun.begin_ns + jobs[0].orders.end_ns + jobs[0].orders.timeout_ns) / 1e9, look)
    path = job.folder / job.records_as.rpartition("/")[2]
    if heard.lost is not None:
        raise _without(heard.lost, 0 if not heard.records else _kept(path, list(heard.records.values())), path.name)
    records = merged([heard.records[number] for number in sorted(heard.records)])
    if schedule is not None and records.size != schedule.due_ns.size:
        told = f"{schedule.due_ns.size:,} requests were due and the generators tell of {records.size:,}"
        raise CannotMeasure(told, hint=f"this is a fault of the generator: {job.folder}/generator-0.log says more")
    digest = write_records(path, records)
    return summary(load, job, records, heard.reports, watch, begun, digest)


def _kept(path: Path, parts: list[Records]) -> int:
    """Write down what the other generators tell; how many requests that is."""
    records = merged(parts)
    write_records(path, records)
    return records.size


def _without(lost: CannotMeasure, kept: int, name: str) -> CannotMeasure:
    """The error of a load that lost a generator: what is left is kept to look at, and is no evidence."""
    told = f"; {name} has the {kept:,} requests of the others" if kept else ""
    return CannotMeasure(f"{lost.message}{told}", hint=lost.hint)


def _schedule(load: Locust, seed: int) -> Schedule:
    """The schedule of an open loop, within the limit of requests: a search for capacity asks for rates that no one has checked."""
    schedule = make_schedule(load.curve(), load.arrivals, seed, round(load.ramp_up))
    if schedule.due_ns.size > load.requests_limit:
        told = f"{schedule.due_ns.size:,} requests would be sent, and no more than {load.requests_limit:,} are allowed"
        raise BadInput(Problem(told, key="measure.load.locust.requests_limit", hint="raise it, shorten 'duration', or lower the rate"))
    return schedule


def _address(load: Locust, job: LoadJob) -> tuple[str, int]:
    """The endpoint's host and port, where sending to it is allowed and generators on other machines can reach it."""
    url = urlsplit(job.endpoint.url)
    host = url.hostname
    if url.scheme not in ("http", "https") or host is None:
        raise CannotMeasure(f"requests are sent over HTTP, and the endpoint is {job.endpoint.url}")
    if is_loopback(host):
        if load.generators:
            told = f"the endpoint {job.endpoint.url} is on this machine alone, and generators on other machines cannot send to it"
            hint = (
                "let the server listen where they reach it, 'server_host: 10.0.0.5' with this machine's address, or leave 'generators' out"
            )
            raise BadInput(Problem(told, key="measure.load.locust.generators", hint=hint))
    elif host not in (load.allow_host, load.server_host):
        told = f"the endpoint is on '{host}', and a load is sent to other machines only where the scenario names them"
        raise BadInput(Problem(told, key="measure.load.locust.allow_host", hint=f"if it is yours to load, write 'allow_host: {host}'"))
    return host, url.port or (443 if url.scheme == "https" else 80)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

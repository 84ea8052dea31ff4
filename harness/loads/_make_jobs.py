"""What each generator process of a load is to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from harness.core.errors import BadInput, Problem
from harness.kserve.headers import filled
from harness.loads._orders import Job, Kind, Orders, request_bytes
from harness.loads._schedule import Schedule, part_of
from harness.loads._shares import share

if TYPE_CHECKING:
    from harness.core.plugin import LoadJob
    from harness.loads._ssh import GeneratorHost
    from harness.loads.locust import Locust

NOTHING_DUE = np.empty((2, 0), dtype=np.int64)


def hosts_of(load: Locust) -> list[GeneratorHost | None]:
    """Where each generator process runs, in the order of their numbers (None: on this machine): ``processes`` of them on each machine, and
    no more than there are users."""
    machines: Sequence[GeneratorHost | None] = load.generators or (None,)
    every = [machine for _ in range(load.processes) for machine in machines]
    return every if load.users is None else every[: load.users]


def make_jobs(
    load: Locust, job: LoadJob, address: tuple[str, int], schedule: Schedule | None, hosts: Sequence[GeneratorHost | None]
) -> list[Job]:
    """One job for each of ``hosts``. Raises BadInput where the user's Locust file is not there, or a header's variable is not set."""
    locustfile = None if load.locustfile is None else (job.scenario_folder / load.locustfile).resolve()
    if locustfile is not None and not locustfile.is_file():
        raise BadInput(
            Problem(f"'{load.locustfile}' does not exist", key="measure.load.locust.locustfile", hint=f"looked for {locustfile}")
        )
    authority, headers = urlsplit(job.endpoint.url).netloc, filled(job.endpoint.headers)
    requests = [request_bytes(job.endpoint, authority, message, headers) for message in job.requests]
    kind: Kind = "locustfile" if locustfile else "open" if schedule is not None else "closed"
    lead_in_ns, processes = round(load.ramp_up), len(hosts)
    cores = _cores_beside(job, processes)
    found = []
    for process, host in enumerate(hosts):
        orders = Orders(
            kind=kind,
            process=process,
            processes=processes,
            url=job.endpoint.url,
            host=address[0],
            port=address[1],
            authorities=job.endpoint.authorities,
            users=share(load.users or 0, process, processes),
            connections=max(1, share(load.connections, process, processes)),
            lead_in_ns=lead_in_ns,
            end_ns=lead_in_ns + round(load.duration),
            timeout_ns=round(load.timeout),
            requests_limit=max(1, share(load.requests_limit, process, processes)),
            locustfile=str(locustfile or ""),
            cores=() if host is not None else cores,
            on="" if host is None else host.host,
        )
        due = NOTHING_DUE
        if schedule is not None:
            numbers = part_of(schedule, process, processes)
            due = np.stack([schedule.due_ns[numbers], numbers % len(requests)])
        text = b"" if locustfile is None or host is None else locustfile.read_bytes()
        found.append(Job(orders, () if locustfile else requests, due, text))
    return found


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

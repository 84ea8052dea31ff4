"""A launch under load: a server of its own for each arm, asked over the network by the same schedule, one arm after the other.

The unit of evidence is the whole load run on a server that was started for it. Of a pair both arms get the same arrivals, drawn from the
scenario's seed and the pair's number; who comes first turns from pair to pair. The latencies become the slices of a Run, cut where the
same requests of both arms were due, so that all that is said of a launch (quantiles, bounds, the paired ratio) is said of these as of any.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.core.errors import CannotMeasure
from harness.core.measurement import Failure, FailureReason, Run, SessionFacts, Slice
from harness.core.plugin import LoadJob, NetworkLoad, PlacesServer, Serving, TellsFacts
from harness.core.serving import Deployment
from harness.engine.find_capacity import find_capacity
from harness.engine.plugin_options import plugin_of
from harness.engine.procedure import UNSTEADY, Procedure, in_turn, refuse_disturbed
from harness.engine.telemetry.watch import watching
from harness.engine.workers import THIS_PYTHON, WorkerFailed
from harness.kserve import client
from harness.kserve.codec import BadMessage, Message, decode_response, encode_request

if TYPE_CHECKING:
    from harness.core.plugin import Driven, RunningServer
    from harness.core.serving import LoadRun
    from harness.engine.protocol import Subject

REQUESTS_BYTES = 64 * 2**20
"""Distinct requests are held ready up to this many bytes (at least two), so that inputs vary from request to request."""
REQUESTS = 512
MOST_SLICES = 10
LEAST_IN_A_SLICE = 20
TRIES = 3
"""Loads of one launch, until the generator has kept its schedule."""
FACTS_UNKNOWN = SessionFacts("unknown", "unknown", 0, ("the server does not tell what it runs",))


def launch_served(arms: Mapping[str, Subject], pair: int, procedure: Procedure, seed: int) -> dict[str, Run]:
    """Measure one load run on a fresh server of each arm. Raises WorkerFailed when a server does not start or does not live through it,
    or when the generator could not keep its own schedule: nothing of the pair is then evidence."""
    runs = {arm: _launch(arm, arms[arm], pair, procedure, seed) for arm in in_turn(arms, pair)}
    return {arm: runs[arm] for arm in arms}


def _launch(arm: str, subject: Subject, pair: int, procedure: Procedure, seed: int) -> Run:
    wanted = subject.served
    assert wanted is not None
    load = cast("NetworkLoad", plugin_of("loads", subject.load, subject.scenario_folder))
    serving = cast("Serving", plugin_of("serving", wanted.server, subject.scenario_folder))
    folder = procedure.logs / f"{arm}-{pair:03d}-load"
    requests = requests_of(subject)
    with ExitStack() as stack:
        watch = stack.enter_context(watching(procedure.times.telemetry, subject.device, subject.cores))
        if watch is not None:
            watch.learn_steps()
        start = time.perf_counter_ns()
        deployment = _deployment(subject, procedure, arm, folder)
        if isinstance(load, PlacesServer) and load.server_host is not None:
            deployment = dataclasses.replace(deployment, host=load.server_host)
        server = _started(stack, serving, deployment, arm)
        load_ns = time.perf_counter_ns() - start
        first_call_ns = _first_call(server, requests[0], arm)

        def drive(load: NetworkLoad, number: int) -> Driven:
            """One load, with arrivals of its own; the counters are the server's own for its time."""
            into = folder / f"load-{number:02d}"
            into.mkdir(parents=True, exist_ok=True)
            records = (into / "requests.npz").relative_to(procedure.run).as_posix()
            drawn = (seed * 1_000 + pair) * 1_000 + number
            job = LoadJob(server.endpoint, requests, drawn, into, records, wanted.limit_ns, server, subject.scenario_folder)
            before = server.counters()
            driven = load.drive(job)
            after = server.counters()
            counted = None if before is None or after is None else after.since(before)
            return dataclasses.replace(driven, load=dataclasses.replace(driven.load, server=counted))

        if watch is not None:
            watch.begin(server.pids())
        with nullcontext() if watch is None else watch.slice(arm, next(iter(server.pids()), 0)):
            driven = _driven(partial(drive, load), server, arm)
        telemetry = {}
        if watch is not None:
            watch.end()
            telemetry = {arm: watch.telemetry(arm)}
            refuse_disturbed(telemetry)
        served = driven.load
        if wanted.capacity is not None:
            served = _with_capacity(subject, load, served, drive, server, arm)
        facts = server.facts() if isinstance(server, TellsFacts) else None
        pids = server.pids()
    slices = slices_of_load(driven)
    return Run(
        pair=pair,
        arm=arm,
        pid=pids[0] if pids else 0,
        cores=subject.cores,
        facts=facts or FACTS_UNKNOWN,
        load_ns=load_ns,
        first_call_ns=first_call_ns,
        idle_rss_bytes=0,
        peak_rss_bytes=max((usage.server_rss_bytes for usage in served.usage), default=0),
        device_peak_bytes=None,
        warm_up_calls=1,
        steady=_is_steady(slices),
        slices=slices,
        telemetry=telemetry.get(arm),
        served=served,
    )


def requests_of(subject: Subject) -> list[Message]:
    """Requests over the evaluation set, a batch in each, as bytes: made before any clock starts."""
    from harness.engine.datasets import read_dataset

    data = read_dataset(subject.data)
    size = subject.batch_size
    first = encode_request(data.batch(0, size))
    distinct = max(1, -(-data.count // size))
    count = min(REQUESTS, distinct, max(2, REQUESTS_BYTES // max(1, len(first.body))))
    return [first, *(encode_request(data.batch(index * size, size)) for index in range(1, count))]


def slices_of_load(driven: Driven) -> tuple[Slice, ...]:
    """Blocks of consecutive requests by their intended time, equally many in each: up to 10, of at least 20 requests."""
    due = len(driven.latencies_ns)
    count = max(1, min(MOST_SLICES, due // LEAST_IN_A_SLICE))
    edges = [number * due // count for number in range(count + 1)]
    ends = [*(driven.intended_ns[edge] for edge in edges[1:-1]), driven.load.duration_ns]
    found = []
    for number, end in enumerate(ends):
        latencies = driven.latencies_ns[edges[number] : edges[number + 1]]
        begin = driven.intended_ns[edges[number]] if due else 0
        found.append(Slice(begin, max(1, end - begin), len(latencies), tuple(latencies)))
    return tuple(found)


def _deployment(subject: Subject, procedure: Procedure, arm: str, folder: Path) -> Deployment:
    assert subject.served is not None
    into = folder / "server"
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotMeasure(f"{into} cannot be made: {error.strerror or error}") from error
    return Deployment(
        artifact=subject.artifact,
        runtime=subject.runtime,
        scenario_folder=subject.scenario_folder,
        model=subject.served.model,
        device=subject.device,
        threads=subject.threads,
        cores=subject.cores,
        batch_size=subject.batch_size,
        data=subject.data,
        folder=into,
        python=procedure.pythons.get(arm, THIS_PYTHON),
        start_timeout_s=procedure.timeout_s,
    )


def _started(stack: ExitStack, serving: Serving, deployment: Deployment, arm: str) -> RunningServer:
    try:
        return stack.enter_context(serving.serve(deployment))
    except WorkerFailed:
        raise
    except CannotMeasure as error:
        raise _failed(FailureReason.EXITED, f"{arm}, serve", str(error)) from error


def _first_call(server: RunningServer, request: Message, arm: str) -> int:
    """The first answer, in ns: whole, and finite."""
    import numpy as np

    stage = f"{arm}, first request"
    start = time.perf_counter_ns()
    try:
        with client.Client(server.endpoint) as asked:
            status, body, header_length = asked.infer_raw(request)
        taken = time.perf_counter_ns() - start
        if status != 200:
            raise BadMessage(client.said(status, body))
        outputs = decode_response(body, header_length)
    except (client.Unreachable, BadMessage) as error:
        raise _failed(FailureReason.EXCEPTION, stage, f"the server did not answer it: {error}", server.log()) from error
    for name, output in outputs.items():
        if np.issubdtype(output.dtype, np.inexact) and not np.isfinite(output).all():
            raise _failed(FailureReason.BAD_OUTPUT, stage, f"'{name}' holds NaN or infinity: such a model is not measured")
    return taken


def _driven(drive: Callable[[int], Driven], server: RunningServer, arm: str) -> Driven:
    """A load that is evidence: the server lived through it, and the generator kept its schedule. Where it did not, it tries again, twice:
    what kept it from its core may be gone, and what the server did is not looked at to decide that."""
    for number in range(TRIES):
        driven = _once(partial(drive, number), server, arm)
        if driven.load.doubt is None:
            return driven
    told = f"the load generator did not keep its schedule in {TRIES} loads: {driven.load.doubt}"
    raise _failed(FailureReason.GENERATOR, f"{arm}, load", told)


def _once(drive: Callable[[], Driven], server: RunningServer, arm: str) -> Driven:
    """One load on a server that lived through it."""
    stage = f"{arm}, load"
    try:
        driven = drive()
    except WorkerFailed:
        raise
    except CannotMeasure as error:
        raise _failed(FailureReason.GENERATOR, stage, str(error)) from error
    load = driven.load
    if trouble := server.trouble():
        broken = sum(load.failed.values())
        told = f"{trouble}; of {load.due:,} requests {load.answered:,} were answered and {broken:,} broke ({load.records} has each)"
        raise _failed(FailureReason.EXITED, stage, told, server.log())
    if not load.due:
        raise _failed(FailureReason.GENERATOR, stage, "no request was due in the measured time: raise the rate or the duration")
    return driven


def _with_capacity(
    subject: Subject, load: NetworkLoad, served: LoadRun, drive: Callable[[NetworkLoad, int], Driven], server: RunningServer, arm: str
) -> LoadRun:
    assert subject.served is not None and subject.served.capacity is not None
    numbers = iter(range(TRIES, 1_000))

    def at(rate_per_s: float, duration_ns: int) -> Driven:
        for _ in range(TRIES):
            driven = drive(load.at_rate(rate_per_s, duration_ns), next(numbers))
            if driven.load.doubt is None or server.trouble():
                break
        if trouble := server.trouble():
            raise _failed(FailureReason.EXITED, f"{arm}, capacity at {rate_per_s:,.0f} /s", trouble, server.log())
        return driven

    found = find_capacity(at, subject.served.capacity, subject.served.promises)
    return dataclasses.replace(served, capacity=found.steps, capacity_per_s=found.per_s, capacity_note=found.note)


def _failed(reason: FailureReason, stage: str, message: str, detail: str = "") -> WorkerFailed:
    return WorkerFailed(Failure(reason, stage, message.strip().replace("\n  ", "; "), detail))


def _is_steady(slices: Sequence[Slice]) -> bool:
    """Whether the first and the second half agree, by the median over blocks of each block's median latency."""
    if len(slices) < 2:
        return True
    medians = [statistics.median(piece.latencies_ns) for piece in slices]
    first, second = statistics.median(medians[: len(medians) // 2]), statistics.median(medians[len(medians) // 2 :])
    return abs(math.log(max(1, second) / max(1, first))) <= UNSTEADY

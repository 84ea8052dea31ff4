"""One launch pair: both arms alive in workers of their own on the same cores, asked in turn for slices.

The launch is the unit of evidence. Measured with pinned, alternating slices, the ratio of two arms varies by about 1 % from launch pair to
launch pair where independent launches vary by 15 %; a single arm goes through the same procedure.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from harness.core.measurement import Run, Slice
from harness.engine import protocol
from harness.engine.launch_served import launch_served
from harness.engine.procedure import LEAST_QUERIES, UNSTEADY, Procedure, in_turn, refuse_disturbed
from harness.engine.telemetry.watch import watching
from harness.engine.workers import THIS_PYTHON, Answer, Seat, Worker

if TYPE_CHECKING:
    from harness.core.telemetry import Telemetry
    from harness.engine.protocol import Request, Subject

SLICE_NS = 30_000_000
"""Slices of a few tens of milliseconds: long against the timer, short against a neighbour's bursts."""
MIN_SLICES = 6
OVERTIME = 5
WARM_UP_CALLS = 3
LEAST_ROUNDS = 4
"""The last round of a slice ends with ever fewer queries in flight: the fewer rounds, the more of the slice is that."""
PADDING_BYTES = 4096


def launch(arms: Mapping[str, Subject], pair: int, procedure: Procedure, seed: int, *, apart: bool = False) -> dict[str, Run]:
    """Measure one process launch of each arm ("baseline" and "candidate", or one of them), alternating slices in random order.

    The number of queries in a slice is calibrated on the baseline (the only arm, where there is one) and frozen for both. ``apart``: one
    after the other, where both do not fit into memory; the order turns from pair to pair (ABBA), and who comes first is calibrated on.
    Raises WorkerFailed, with the arm in its stage, when a worker does not answer, or when telemetry shows that the device was not the
    launch's own or was slowed down by its hardware: nothing of the pair is then evidence.
    """
    if any(subject.served is not None for subject in arms.values()):
        return launch_served(arms, pair, procedure, seed)
    if not apart:
        return _launch(arms, pair, procedure, seed, None)
    runs: dict[str, Run] = {}
    for arm in in_turn(arms, pair):
        first = next(iter(runs.values()), None)
        sizes = None if first is None else (first.slices[0].queries, len(first.slices))
        runs |= _launch({arm: arms[arm]}, pair, procedure, seed, sizes)
    return {arm: runs[arm] for arm in arms}


def _launch(arms: Mapping[str, Subject], pair: int, procedure: Procedure, seed: int, sizes: tuple[int, int] | None) -> dict[str, Run]:
    """Launches that are alive together; ``sizes`` (queries in a slice, slices) where they are known already."""
    draw = random.Random(f"{seed}/{pair}")
    padding = draw.randrange(PADDING_BYTES)
    first = next(iter(arms.values()))
    with ExitStack() as stack:
        watch = stack.enter_context(watching(procedure.times.telemetry, first.device, first.cores))
        workers: dict[str, Worker] = {}
        seats = {
            arm: Seat(
                role=arm,
                cores=subject.cores,
                threads=subject.threads,
                log=procedure.logs / f"{arm}-{pair:03d}.log",
                python=procedure.pythons.get(arm, THIS_PYTHON),
                padding_bytes=padding,
            )
            for arm, subject in arms.items()
        }
        starts = procedure.launcher.starts(arms, seats)
        for arm in in_turn(arms, pair):
            workers[arm] = stack.enter_context(Worker(seats[arm], starts[arm]))
            workers[arm].tell(protocol.Preload(arms[arm]))  # imports of both arms overlap; nothing is timed yet
        if watch is not None:
            watch.learn_steps()
        for arm in workers:
            workers[arm].answer(protocol.Done, timeout_s=procedure.timeout_s)
            workers[arm].rest()

        def ask(arm: str, request: Request, kind: type[Answer], more_s: float = 0.0) -> Answer:
            """Ask one arm while the other rests."""
            with workers[arm].awake() as worker:
                return worker.ask(request, kind, timeout_s=procedure.timeout_s + more_s)

        order = in_turn(arms, pair // 2)
        opened = {arm: ask(arm, protocol.Open(), protocol.Opened) for arm in order}
        warm = protocol.WarmUp(round(procedure.times.warm_up), WARM_UP_CALLS)
        warmed = {arm: ask(arm, warm, protocol.WarmedUp, procedure.times.warm_up / 1e9) for arm in order}

        query_ns = warmed["baseline" if "baseline" in warmed else order[0]].query_ns
        slice_ns = max(SLICE_NS, watch.least_ns()) if watch is not None and procedure.wants_energy else SLICE_NS
        in_flight = max(each.in_flight for each in warmed.values())
        queries, count = sizes or slices_of(query_ns, procedure.times.duration, procedure.least_queries, slice_ns, in_flight)
        slices: dict[str, list[Slice]] = {arm: [] for arm in workers}
        if watch is not None:
            watch.begin([opened[arm].pid for arm in order])
        for _ in range(count):
            draw.shuffle(order)
            for arm in order:
                watched = nullcontext() if watch is None or arm in procedure.unwatched else watch.slice(arm, opened[arm].pid)
                with watched:
                    taken = ask(arm, protocol.TakeSlice(queries), protocol.SliceTaken)
                slices[arm].append(taken.slice)
        telemetry: dict[str, Telemetry] = {}
        if watch is not None:
            watch.end()
            telemetry = {arm: watch.telemetry(arm) for arm in order if arm not in procedure.unwatched}
        refuse_disturbed(telemetry)
        finished = {arm: ask(arm, protocol.Finish(), protocol.Finished) for arm in order}
    return {
        arm: Run(
            pair=pair,
            arm=arm,
            pid=opened[arm].pid,
            cores=subject.cores,
            facts=finished[arm].facts,
            load_ns=opened[arm].load_ns,
            first_call_ns=opened[arm].first_call_ns,
            idle_rss_bytes=opened[arm].idle_rss_bytes,
            peak_rss_bytes=finished[arm].peak_rss_bytes,
            device_peak_bytes=finished[arm].device_peak_bytes,
            warm_up_calls=warmed[arm].calls,
            steady=is_steady(tuple(slices[arm])),
            slices=tuple(slices[arm]),
            template_pid=workers[arm].template_pid,
            telemetry=telemetry.get(arm),
        )
        for arm, subject in arms.items()
    }


def slices_of(
    query_ns: int, duration_ns: float, least_queries: int = LEAST_QUERIES, slice_ns: int = SLICE_NS, in_flight: int = 1
) -> tuple[int, int]:
    """Queries in a slice and slices in a launch, from the time of one query of the baseline.

    A launch has at least 6 slices, and at least ``least_queries`` (a median takes 20, a p99 500) unless they would take 5 times as long as
    was asked for. Where several queries are in flight at once, a slice is of whole rounds of them, and of at least 4.
    """
    query_ns = max(1, query_ns)
    queries = max(1, math.ceil(slice_ns / query_ns))
    if in_flight > 1:
        queries = in_flight * max(LEAST_ROUNDS, math.ceil(queries / in_flight))
    least = min(least_queries, OVERTIME * duration_ns / query_ns)
    return queries, max(MIN_SLICES, math.ceil(least / queries), round(duration_ns / (queries * query_ns)))


def is_steady(slices: tuple[Slice, ...]) -> bool:
    """Whether the first and the second half of a launch agree, by the median time of a query in each slice."""
    times = [piece.duration_ns / piece.queries for piece in slices]
    first, second = statistics.median(times[: len(times) // 2]), statistics.median(times[len(times) // 2 :])
    return abs(math.log(second / first)) <= UNSTEADY

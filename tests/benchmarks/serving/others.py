"""The embedded server beside servers of others: ``python -m tests.benchmarks.serving.others --triton PYTHON --mlserver PYTHON``.

All serve one ONNX file (a row of 512 floats times a fixed matrix, so that what is measured is the server) in onnxruntime on one thread,
and join up to 8 requests. All are alive at once and are asked in turn, in an order that turns, so that what else the machine does meets
all of them. First wrk, whose connections send when they have their answer; then this program's own load, the same Poisson
schedule for all, latency counted from the intended send. ``--by h2load`` sends the rates by h2load instead, evenly spaced: it takes
so little of the processor that it can send at rates at which this program's generator is late on the same two cores. Requests are the same
bytes for all but MLServer, which has no binary tensors over HTTP and gets the row as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness import plugins
from harness.core.plugin import LoadJob, RunningServer
from harness.kserve.client import Client
from harness.kserve.codec import Message
from tests.benchmarks.load_generators.measure import paced
from tests.benchmarks.serving.__main__ import compare, processor_s
from tests.benchmarks.serving.arms import embedded, mlserver, torchserve, triton
from tests.benchmarks.serving.contenders import Address

ENOUGH = 0.99
"""A rate was kept where this share of what was due was answered within the limit, and the generator kept its schedule."""


@dataclass(frozen=True)
class Arm:
    """A server that runs, and the request that it is sent."""

    server: RunningServer
    message: Message

    @property
    def address(self) -> Address:
        endpoint = self.server.endpoint
        return Address(endpoint.url + endpoint.infer_path, self.message.body, self.message.headers, self.server.pids())


class AtRate(NamedTuple):
    """One load: p50 and p99 in ms, the share within the limit, and the server's processor in cores."""

    p50_ms: float
    p99_ms: float
    within: float
    cores: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("triton", "mlserver", "torchserve"):
        parser.add_argument(f"--{name}", metavar="PYTHON", help=f"the interpreter that has it; without, {name} is left out")
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16], help="for wrk; none: no wrk")
    parser.add_argument("--rates", type=float, nargs="+", default=[200, 500, 1000, 2000, 3000, 4000])
    parser.add_argument("--by", choices=sorted(GENERATORS), default="locust")
    parser.add_argument("--limit-ms", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    asked = parser.parse_args()
    starts: dict[str, Callable[[Path], AbstractContextManager[tuple[RunningServer, Message]]]] = {"embedded": embedded}
    for name, start in (("triton", triton), ("mlserver", mlserver), ("torchserve", torchserve)):
        if (python := getattr(asked, name)) is not None:
            starts[name] = partial(start, python=Path(python))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arms = {name: Arm(*stack.enter_context(start(folder / name))) for name, start in starts.items()}
        for arm in arms.values():
            warm(arm)
        for connections in asked.connections:
            compare({name: arm.address for name, arm in arms.items()}, connections, asked.rounds, asked.seconds, folder)
        drive = partial(GENERATORS[asked.by], limit_ms=asked.limit_ms, seconds=asked.seconds)
        climb(arms, drive, asked.rates, asked.limit_ms, asked.rounds, folder)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def warm(arm: Arm, times: int = 300) -> None:
    """Ask until nothing is done for the first time any more."""
    with Client(arm.server.endpoint) as client:
        for _ in range(times):
            status, body, _ = client.infer_raw(arm.message)
            if status != 200:
                raise RuntimeError(f"{arm.server.endpoint.url}: {body[:300]!r}")


def climb(arms: Mapping[str, Arm], drive: Callable[..., AtRate], rates: list[float], limit_ms: float, rounds: int, folder: Path) -> None:
    """One rate after the other, all servers in turn at each; a server that lost a rate is not asked for a higher one."""
    kept: dict[str, float] = dict.fromkeys(arms, 0.0)
    left = dict(arms)
    for rate in rates:
        found: dict[str, list[AtRate]] = {name: [] for name in left}
        for number in range(rounds):
            for name in list(left) if number % 2 == 0 else list(left)[::-1]:
                found[name].append(drive(left[name], rate, seed=number, folder=folder / f"{name}-{rate:g}-{number}"))
        tell(f"{rate:g} /s, {rounds} times")
        for name, runs in found.items():
            p50, p99, within, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            held = within >= ENOUGH
            tell(f"  {name:<10} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  {within:7.2%} within {limit_ms:g} ms  {cpu:4.2f} cores")
            if held:
                kept[name] = rate
            else:
                del left[name]
    tell(f"highest of these rates with {ENOUGH:.0%} answered within {limit_ms:g} ms")
    for name, rate in kept.items():
        tell(f"  {name:<10} {rate:>6g} /s{' or more' if name in left else ''}")


def by_locust(arm: Arm, rate: float, *, limit_ms: float, seconds: int, seed: int, folder: Path) -> AtRate:
    """This program's own load. A generator that was late is no evidence."""
    folder.mkdir()
    load = plugins.load("loads", "locust").model_validate({"rate": f"{rate:g} /s", "duration": f"{seconds} s", "ramp_up": "1 s"})
    job = LoadJob(arm.server.endpoint, (arm.message,), seed, folder, "requests.npz", round(limit_ms * 1e6), arm.server, folder)
    driven = load.drive(job)  # type: ignore[attr-defined]  # a load over the network has it
    run = driven.load
    if run.doubt is not None:
        tell(f"  {arm.server.endpoint.url} at {rate:g} /s: {run.doubt}")
    within = 0.0 if run.doubt or run.within_limit is None else run.within_limit / run.due
    p50, p99 = np.quantile(np.array(driven.latencies_ns) / 1e6, (0.5, 0.99))
    cpu = statistics.mean(usage.server_cpu for usage in run.usage) if run.usage else float("nan")
    return AtRate(p50, p99, within, cpu)


def by_h2load(arm: Arm, rate: float, *, limit_ms: float, seconds: int, seed: int, folder: Path) -> AtRate:
    """Evenly spaced, latency from the send. A connection that still waits for an answer sends later: what was due and not sent in the time
    counts as not answered."""
    address = arm.address
    before, began = processor_s(address.pids), time.monotonic()
    rows = paced(address.url, arm.message, round(rate), seconds)
    cpu = (processor_s(address.pids) - before) / (time.monotonic() - began)
    due_by = rows[:, 0] < rows[:, 0].min() + seconds * 1e6
    within = due_by & (rows[:, 1] == 200) & (rows[:, 2] <= limit_ms * 1e3)
    p50, p99 = np.quantile(rows[:, 2] / 1e3, (0.5, 0.99))
    return AtRate(p50, p99, within.sum() / (rate * seconds), cpu)


GENERATORS = {"locust": by_locust, "h2load": by_h2load}


if __name__ == "__main__":
    main()

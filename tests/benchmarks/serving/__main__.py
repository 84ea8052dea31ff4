"""The embedded server beside others on the same machine, at the same time: ``python -m tests.benchmarks.serving``.

wrk drives one server after the other in short rounds, all of them alive, in an order that turns: what else the machine does meets all of
them. Told for each number of connections: requests a second and latency as wrk tells them (median over rounds), the processor's time that
the server's processes took for a request, and the median ratio to the reference, round by round. wrk's connections are closed loops: they
send when they have their answer. ``--transport`` measures the socket between server and model process alone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.serving.contenders import CONTENDERS, Address
from tests.benchmarks.serving.transport import transport

REFERENCE = "reference"
DONE = """
done = function(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Round:
    """One contender for a few seconds."""

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(CONTENDERS), default=sorted(CONTENDERS))
    parser.add_argument("--transport", action="store_true")
    asked = parser.parse_args()
    if asked.transport:
        transport()
        return
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed (apt install wrk)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        addresses = {name: stack.enter_context(CONTENDERS[name](folder / name)) for name in asked.only}
        for connections in asked.connections:
            compare(addresses, connections, asked.rounds, asked.seconds, folder)


def compare(addresses: dict[str, Address], connections: int, rounds: int, seconds: int, folder: Path) -> None:
    """Drive all in turn and print what came of it."""
    found: dict[str, list[Round]] = {name: [] for name in addresses}
    for number in range(rounds):
        order = list(addresses) if number % 2 == 0 else list(addresses)[::-1]
        for name in order:
            found[name].append(drive(addresses[name], connections, seconds, folder))
    sys.stdout.write(f"{connections} connections\n")
    for name, them in found.items():
        rate, p50, p99, cpu = (statistics.median(getattr(one, key) for one in them) for key in ("rate_per_s", "p50_ms", "p99_ms", "cpu_us"))
        line = f"  {name:<10} {rate:>8,.0f} /s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  {cpu:6.1f} us of processor"
        if name != REFERENCE and REFERENCE in found:
            pairs = list(zip(them, found[REFERENCE], strict=True))
            rates = statistics.median(mine.rate_per_s / other.rate_per_s for mine, other in pairs)
            tails = statistics.median(mine.p99_ms / other.p99_ms for mine, other in pairs)
            line += f"; against the reference: {rates:.2f} times the rate, {tails:.2f} times the p99"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def drive(address: Address, connections: int, seconds: int, folder: Path) -> Round:
    """One round of wrk. Raises RuntimeError when a request failed."""
    body, script = folder / "body", folder / "post.lua"
    body.write_bytes(address.body)
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in address.headers.items())
    script.write_text(
        f'wrk.method = "POST"\nlocal file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n{headers}{DONE}'
    )
    before = processor_s(address.pids)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), address.url], capture_output=True, text=True, check=True
    )
    used = processor_s(address.pids) - before
    told = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if told is None or int(told[5]) or int(told[1]) == 0:
        raise RuntimeError(f"{address.url}: {done.stdout}{done.stderr}")
    requests, duration_us, p50_us, p99_us = (int(told[number]) for number in range(1, 5))
    return Round(requests / duration_us * 1e6, p50_us / 1e3, p99_us / 1e3, used / requests * 1e6)


def processor_s(pids: tuple[int, ...]) -> float:
    """Seconds of processor that these processes have taken."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    main()

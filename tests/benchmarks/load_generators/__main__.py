"""Compare the load generator with h2load and wrk: ``python -m tests.benchmarks.load_generators`` (about a quarter of an hour).

Needs h2load (Debian: nghttp2-client) and wrk. Writes docs/measurements/load-generators.md and, beside it, what was measured.
``--page`` writes the page again without measuring.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from .measure import by_h2load, by_locust, by_wrk, server, stalled
from .page import Measured, page_of, read_measured
from .seen import Seen

PUBLISHED = Path("docs/measurements/load-generators.md")
RATES = (100, 500, 1000)
USERS = 4
STALL_S = 2.0
STALL_RATE = 100
log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="time of a load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="loads of each kind (%(default)s)")
    parser.add_argument("--into", type=Path, default=PUBLISHED, help="the page (%(default)s)")
    parser.add_argument("--page", action="store_true", help="write the page again from what was measured")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    data = options.into.with_suffix(".json")
    if not options.page:
        missing = [name for name in ("h2load", "wrk") if shutil.which(name) is None]
        if missing:
            raise SystemExit(f"{' and '.join(missing)} must be installed: apt-get install nghttp2-client wrk")
        loads = measure(options.seconds, options.rounds)
        measured = Measured(tuple(machine()), options.seconds, options.rounds, STALL_S, tuple(loads))
        data.write_text(json.dumps(dataclasses.asdict(measured), indent=1) + "\n", encoding="utf-8")
    options.into.write_text(page_of(read_measured(data)), encoding="utf-8")
    log.info("wrote %s", options.into)


def measure(seconds: float, rounds: int) -> list[Seen]:
    """Every kind of load once a round, in turn forwards and backwards, each on a server of its own."""
    kinds: list[Callable[[], Seen]] = []
    for rate in RATES:
        name = f"{rate} /s"
        kinds.append(lambda rate=rate, name=name: _on_a_server(by_locust, name, seconds, rate=name, arrivals="constant"))
        kinds.append(lambda rate=rate, name=name: _on_a_server(by_h2load, name, seconds, rate=rate))
    users = f"{USERS} users"
    kinds.append(lambda: _on_a_server(by_locust, users, seconds, users=USERS))
    kinds.append(lambda: _on_a_server(by_wrk, users, seconds, connections=USERS))
    rate, stall, stall_users = f"{STALL_RATE} /s", f"stall, {STALL_RATE} /s", f"stall, {users}"
    kinds.append(lambda: _on_a_server(by_locust, stall, seconds, stall=True, rate=rate, arrivals="constant"))
    kinds.append(lambda: _on_a_server(by_h2load, stall, seconds, stall=True, rate=STALL_RATE))
    kinds.append(lambda: _on_a_server(by_locust, stall_users, seconds, stall=True, users=USERS))
    kinds.append(lambda: _on_a_server(by_wrk, stall_users, seconds, stall=True, connections=USERS))
    found = []
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            found.append(kind())
            log.info("%d: %s", number + 1, found[-1])
    return found


def _on_a_server(by: Callable[..., Seen], setting: str, seconds: float, *, stall: bool = False, **options: object) -> Seen:
    with server() as held:
        timer = stalled(held, seconds / 2, STALL_S) if stall else None
        seen = by(held, setting, seconds, **options)
        if timer is not None:
            timer.join()
        return seen


def machine() -> list[str]:
    """Where this was measured, and with what."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?"
    )
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("locust", "geventhttpclient", "gevent"))
    h2load = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("\n")[0].partition(" [")[0]
    busy = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    return [
        f"{model}, {psutil.cpu_count()} cores, shared by server, generator and whatever else runs; load average {busy} at the end",
        f"{system}, Python {platform.python_version()}; {packages}; {h2load}; {wrk}",
    ]


if __name__ == "__main__":
    main()

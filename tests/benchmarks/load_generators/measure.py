"""One load by each generator on the same server, as quantiles of latency in ms."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.core.plugin import LoadJob
from harness.kserve.codec import Message, encode_request
from harness.loads.locust import Locust
from tests.fakes.inference_server import FakeServer

from .seen import LEAD_IN_S, PER_CLIENT_PER_S, QUANTILES, SERVICE_MS, TAIL_EVERY, Seen


def server() -> FakeServer:
    return FakeServer(service=SERVICE_MS, tail_every=TAIL_EVERY)


def message() -> Message:
    return encode_request({"x": np.zeros((1, 512), dtype=np.float32)})


def stalled(held: FakeServer, after_s: float, seconds: float) -> threading.Timer:
    """Stop the server once, some time from now."""
    timer = threading.Timer(after_s, held.stop_for, (seconds,))
    timer.start()
    return timer


def by_locust(held: FakeServer, setting: str, seconds: float, **options: object) -> Seen:
    load = Locust.model_validate({"duration": f"{seconds:g} s", "ramp_up": f"{LEAD_IN_S:g} s", **options})
    with tempfile.TemporaryDirectory() as folder:
        job = LoadJob(held.endpoint, [message()], 0, Path(folder), "requests.npz", None, held, Path(folder))
        driven = load.drive(job)
    told = driven.load
    return Seen(
        "locust",
        setting,
        quantiles(np.array(driven.latencies_ns) / 1e6),
        told.due,
        sum(told.failed.values()),
        told.lateness.p99_ns / 1e6,
        told.generator_cpu,
        told.doubt,
    )


def by_h2load(held: FakeServer, setting: str, seconds: float, rate: int) -> Seen:
    """What h2load's log says of each request, the lead-in left out."""
    rows = paced(held.endpoint.url + held.endpoint.infer_path, message(), rate, seconds)
    return Seen("h2load", setting, quantiles(rows[:, 2] / 1e3), len(rows), int((rows[:, 1] != 200).sum()))


def paced(url: str, asked: Message, rate: int, seconds: float) -> np.ndarray:
    """h2load's log of a fixed rate, spread evenly over connections that begin one after the other, without its lead-in: for each request
    when it was sent (us), the status, and how long it took (us)."""
    clients = max(1, rate // PER_CLIENT_PER_S)
    at_once = -(-rate // 1000)  # its shortest period is a millisecond
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(asked.body)
        headers = [flag for name, value in asked.headers.items() for flag in ("-H", f"{name}: {value}")]
        total = round(rate * (seconds + LEAD_IN_S))
        begin = ["-r", str(at_once), f"--rate-period={round(1000 * at_once / rate)}ms"]
        pace = ["-n", str(total), "-c", str(clients), *begin, f"--rps={PER_CLIENT_PER_S}"]
        command = [*first(), "h2load", "--h1", "-t", "1", *pace, "-d", str(body), *headers, f"--log-file={log}", url]
        subprocess.run(command, check=True, capture_output=True)
        rows = np.loadtxt(log)
    return rows[rows[:, 0] >= rows[:, 0].min() + LEAD_IN_S * 1e6]


LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
{headers}
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("seen %d %d", summary.requests, errors.status + errors.timeout + errors.read + errors.write + errors.connect))
  for _, p in ipairs({{{quantiles}}}) do io.write(string.format(" %f", latency:percentile(p) / 1000)) end
  io.write("\\n")
end
"""


def by_wrk(held: FakeServer, setting: str, seconds: float, connections: int) -> Seen:
    """A closed loop; wrk gives quantiles of its own."""
    asked = message()
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_bytes(asked.body)
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in asked.headers.items())
        script.write_text(LUA.format(body=body, headers=headers, quantiles=", ".join(f"{100 * q:g}" for q in QUANTILES)))
        url = held.endpoint.url + held.endpoint.infer_path
        command = [*first(), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(script), url]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers = next(line for line in told.splitlines() if line.startswith("seen ")).split()[1:]
    return Seen("wrk", setting, tuple(float(value) for value in numbers[2:]), int(numbers[0]), int(numbers[1]))


def first() -> Sequence[str]:
    """What puts a generator before other work, as this project's own puts itself, where that is allowed."""
    return ("chrt", "-f", "1") if os.geteuid() == 0 and shutil.which("chrt") else ()


def quantiles(latencies_ms: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(latencies_ms, QUANTILES))

"""An audited release under a load over the network, made of a bundle that was measured without one: its requests are drawn here, and every
figure of them is counted by hand from plain lists."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from fakes.audits import FAST, SLOW, copied
from pydantic import TypeAdapter

from harness.core.measurement import Run
from harness.core.plugin import Driven
from harness.core.serving import Lateness, LoadRun
from harness.engine.audit.conclude import concluded
from harness.engine.audit.make import read_audit, write_bundle
from harness.engine.audit.page import page_of
from harness.engine.launch_served import slices_of_load
from harness.loads._records import DROPPED, NEVER, TIMEOUT, Records, write_records

MS = 1_000_000
LIMIT_NS, TIMEOUT_NS = 50 * MS, 1_000 * MS
SLA = """\
sla:
  latency_p99: at most 50 ms
  latency_p50: at most 20 ms
  error_rate: at most 10 %
  goodput: at least 20 /s
  throughput: at least 20 /s
"""
RUNS = TypeAdapter(Run)


def drawn(seed: int, count: int = 800, lead_in: int = 40, broken: int = 4) -> Records:
    """Requests of which the first are not counted and a few broke: an error, two timeouts, one that was never sent."""
    draw = np.random.default_rng(seed)
    total = lead_in + count
    due = np.cumsum(draw.exponential(5 * MS, total)).astype(np.int64)
    taken = due + draw.integers(0, 300_000, total)
    sent = taken + draw.integers(0, 100_000, total)
    first = sent + draw.integers(2 * MS, 9 * MS, total)
    last = first + draw.integers(0, 500_000, total)
    status = np.full(total, 200, np.int16)
    for place, what in zip(range(lead_in + 5, lead_in + 5 + broken * 90, 90), (503, TIMEOUT, TIMEOUT, DROPPED), strict=True):
        status[place] = what
        if what != 503:
            first[place] = last[place] = NEVER
        if what == DROPPED:
            sent[place] = NEVER
    counted = np.arange(total) >= lead_in
    zeros = np.zeros(total, np.int32)
    return Records(due, taken, sent, first, last, status, zeros, zeros.astype(np.int16), zeros.astype(np.int16), counted)


def told(records: Records, name: str, digest: str) -> tuple[LoadRun, list[int], list[int]]:
    """What a generator tells of them, with when each was due since the first, and each latency."""
    rows = [
        tuple(int(value) for value in row)
        for row in zip(records.due_ns, records.sent_ns, records.first_byte_ns, records.last_byte_ns, records.status, strict=True)
    ]
    rows = [row for row, counted in zip(rows, records.counted.tolist(), strict=True) if counted]
    origin = rows[0][0]
    latencies = [last - due if status == 200 else TIMEOUT_NS for due, _, _, last, status in rows]
    failed: dict[str, int] = {}
    for *_, status in rows:
        if status != 200:
            kind = {TIMEOUT: "timeout", DROPPED: "dropped"}.get(status, str(status))
            failed[kind] = failed.get(kind, 0) + 1
    answered = [row for row in rows if row[4] == 200]
    late = [sent - due for due, sent, *_ in rows if sent != NEVER]
    load = LoadRun(
        kind="open",
        arrivals="poisson",
        rate_per_s=200.0,
        users=None,
        due=len(rows),
        answered=len(answered),
        failed=failed,
        duration_ns=max(max(last for _, _, _, last, _ in rows), max(due for due, *_ in rows)) - origin,
        limit_ns=LIMIT_NS,
        within_limit=sum(last - due <= LIMIT_NS for due, _, _, last, _ in answered),
        lateness=Lateness(round(np.quantile(late, 0.5)), round(np.quantile(late, 0.99)), max(late), failed.get("dropped", 0)),
        generator_cpu=0.31,
        generator_processes=1,
        windows=(),
        usage=(),
        records=name,
        records_sha256=digest,
        first_byte_p50_ns=int(np.median([first - sent for _, sent, first, _, _ in answered])),
    )
    return load, [due - origin for due, *_ in rows], latencies


def served(bundle: Path, into: Path) -> Path:
    """An honest copy of a bundle, as if both of its trials had been measured under 200 requests a second."""
    folder = copied(bundle, into)
    scenario = folder / "source" / "scenarios" / "tiny.yaml"
    written = scenario.read_text().partition("sla:")[0]
    load = "load: {locust: {rate: 200 /s, duration: 4 s, timeout: 1 s}}, launches: 2"
    scenario.write_text(written.replace("duration: 0.15 s, warm_up: 0.05 s, launches: 2", load) + SLA)
    journal = folder / "run" / "launches.jsonl"
    lines = []
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "launch":
            event["run"] = _under_load(RUNS.validate_python(event["run"]), event["trial"], folder)
        lines.append(json.dumps(event, separators=(",", ":")))
    journal.write_text("\n".join(lines) + "\n")
    return made_again(folder)


def _under_load(run: Run, trial: str, folder: Path) -> dict:
    name = f"logs/{trial.replace('/', '-')}/candidate-{run.pair:03d}-load/load-00/requests.npz"
    path = folder / "run" / name
    path.parent.mkdir(parents=True)
    records = drawn(seed=run.pair + (100 if trial == SLOW else 0))
    load, intended, latencies = told(records, name, write_records(path, records))
    slices = slices_of_load(Driven(load, tuple(intended), tuple(latencies)))
    return RUNS.dump_python(replace(run, served=load, slices=slices), mode="json")


def made_again(folder: Path, **changes) -> Path:
    """A bundle whose audit, page, digests and statement are made again of its raw data, as an audit of them would."""
    audit, _ = concluded(replace(read_audit(folder), **changes), folder)
    write_bundle(audit, folder, page_of(audit), lambda page, pdf: False)
    return folder


def record_of(folder: Path, trial: str = FAST, launch: int = 0) -> Path:
    return folder / "run" / "logs" / trial.replace("/", "-") / f"candidate-{launch:03d}-load" / "load-00" / "requests.npz"

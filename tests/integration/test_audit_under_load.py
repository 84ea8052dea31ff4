"""An audit of real servers under real loads, by the command line: its bundle has every request, and its figures follow from them."""

import importlib.util
import json

import numpy as np
import pytest
from fakes.audits import copied, listed_again
from fakes.workplaces import Workplace, workplace

pytestmark = [
    pytest.mark.slow,
    # found, and not imported: Locust patches the process that imports it
    pytest.mark.skipif(not all(map(importlib.util.find_spec, ("locust", "uvloop"))), reason="Locust or uvloop is not installed"),
]
SCENARIO = """\
version: 1
name: tiny
model:
  fake: {latency_us: 500}
data:
  random: {x: "float32[4]"}
  samples: 64
recipes:
  plain: {runtime: fake}
measure:
  load: {locust: {rate: 120 /s, duration: 3 s, ramp_up: 0.5 s}}
  launches: 2
sla:
  latency_p99: at most 5 s
  error_rate: at most 50 %
  goodput: at least 1 /s
"""
TRIAL = "tiny/plain-cpu-b1"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    base = tmp_path_factory.mktemp("release")
    place = workplace(base / "repository", base / "cache", SCENARIO)
    ended = place.harness("audit", "scenarios", "--release", "1.0", "--output", str(base / "out.zip"), "--no-pdf")
    assert ended.code in (0, 3), ended
    return ended, base / "out"


@pytest.fixture
def elsewhere(tmp_path):
    return Workplace(tmp_path, tmp_path / "no-cache")


def test_the_bundle_has_every_request_and_holds_elsewhere(release, elsewhere):
    ended, bundle = release
    assert f"load of {TRIAL}: open loop, poisson arrivals at 120 /s, " in ended.out
    verified = elsewhere.harness("audit", "verify", str(bundle.with_suffix(".zip")), "--json")
    assert verified.summary["holds"], verified
    (trial,) = verified.summary["audit"]["trials"]
    p99, due = [], 0
    for line in trial["loads"]:
        with np.load(bundle / line["records"]) as file:
            counted, good = file["counted"], (file["status"] >= 200) & (file["status"] < 300)
            latencies = np.where(good, file["last_byte_ns"], 10_000_000_000)[counted]  # distances from when each was due
        p99.append(np.quantile(latencies, 0.99))
        due += int(counted.sum())
        assert line["p99_ns"] == pytest.approx(p99[-1]) and line["turned_late_p99_ns"] is not None
    clause = next(one for one in verified.summary["audit"]["clauses"] if one["metric"] == "latency_p99")
    assert clause["count"] == due > 600


def test_a_faster_server_in_the_journal_is_named(release, elsewhere):
    forged = copied(release[1], elsewhere.root / "forged")
    journal = forged / "run" / "launches.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    run = next(event["run"] for event in events if event["kind"] == "launch")
    for piece in run["slices"]:
        piece["latencies_ns"] = [max(1, latency // 3) for latency in piece["latencies_ns"]]
    journal.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    listed_again(forged)
    ended = elsewhere.harness("audit", "verify", "forged")
    assert ended.code == 1 and f"run/launches.jsonl: launch 0 of {TRIAL}: latencies: " in ended.out

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from fakes.audits import FAST, SLOW, copied, listed_again, rewritten
from fakes.served_audits import LIMIT_NS, MS, TIMEOUT_NS, drawn, record_of, served

from harness.core.audit import loads_told
from harness.core.comparison import SlaState
from harness.engine.audit.make import read_audit
from harness.engine.audit.page import page_of
from harness.engine.audit.verify import verify
from harness.loads._records import read_records, write_records

P99 = "latency_p99: at most 50 ms"
RECORD = "run/logs/tiny-base-cpu-b1/candidate-000-load/load-00/requests.npz"
LAUNCH = f"run/launches.jsonl: launch 0 of {FAST}"


@pytest.fixture(scope="module")
def under_load(bundle, tmp_path_factory):
    """An audited release under a load over the network; tests leave it as it is."""
    return served(bundle, tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture
def forged(under_load, tmp_path):
    """A copy to change."""
    return copied(under_load, tmp_path / "forged")


def wrong(bundle):
    return verify(bundle, page_of).problems


def launches(bundle, change):
    """The launches of the journal, changed; ``change`` gets a run and its trial."""
    journal = bundle / "run" / "launches.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        if event["kind"] == "launch" and event["trial"] == FAST and event["run"]["pair"] == 0:
            change(event["run"])
    journal.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    listed_again(bundle)


def figures(bundle, trial):
    """By launch: p50 and p99 of all requests that were due, share broken, answers a second, and those in time; from the records alone."""
    found = []
    for launch in (0, 1):
        with np.load(record_of(bundle, trial, launch)) as file:
            due, taken = np.cumsum(file["due_ns"]), file["counted"]
            good = file["status"] == 200
            last = np.where(good | (file["status"] == 503), due + file["last_byte_ns"], -1)
            latencies = np.where(good, last - due, TIMEOUT_NS)[taken]
            seconds = (max(last[taken].max(), due[taken].max()) - due[taken][0]) / 1e9
            in_time = (good[taken] & (latencies <= LIMIT_NS)).sum() / seconds
            found.append((*np.quantile(latencies, (0.5, 0.99)), 1 - good[taken].mean(), good[taken].sum() / seconds, in_time))
    return np.mean(found, axis=0)


def test_an_honest_bundle_holds_and_every_figure_follows_from_the_requests(under_load):
    found = verify(under_load, page_of)
    assert found.problems == ()
    told = {one.metric: one for one in found.audit.clauses if one.trial == FAST}
    wanted = dict(zip(("latency_p50", "latency_p99", "error_rate", "throughput", "goodput"), figures(under_load, FAST), strict=True))
    assert {metric: one.value for metric, one in told.items()} == pytest.approx(wanted)
    assert (told["latency_p99"].count, told["latency_p99"].over) == (1_600, 8) and told["latency_p99"].basis == "queries"
    assert set(told["goodput"].raw) >= {"run/launches.jsonl", RECORD, "source/scenarios/tiny.yaml"}


def test_the_load_it_was_measured_under_is_told_launch_by_launch(under_load):
    trial = next(one for one in read_audit(under_load).trials if one.id == FAST)
    first, second = trial.loads
    assert (first.launch, second.launch, first.records, first.counted_again) == (0, 1, RECORD, True)
    assert (first.due, first.answered, first.failed) == (800, 796, {"timeout": 2, "503": 1, "dropped": 1})
    assert (first.limit_ns, first.in_time, first.dropped) == (LIMIT_NS, 796, 1)
    assert 290_000 < first.turned_late_p99_ns < 300_000 < first.sent_late_p99_ns < first.sent_late_most_ns < 400_000
    line = loads_told(trial.loads)
    assert line.startswith("open loop, poisson arrivals at 200 /s, 2 launches of ") and "1,600 requests due, 8 broken" in line
    page = (under_load / "report.html").read_text()
    assert "The load it was measured under" in page and f'href="{RECORD}"' in page
    assert "1,600 queries in 2 launches under locust (open loop, poisson arrivals at 200\N{NO-BREAK SPACE}/s), batch 1" in page


def test_latencies_that_were_made_shorter_in_the_journal_are_named(forged):
    def halve(run):
        for piece in run["slices"]:
            piece["latencies_ns"] = [latency // 2 for latency in piece["latencies_ns"]]

    launches(forged, halve)
    (problem,) = wrong(forged)
    assert problem.startswith(f"{LAUNCH}: latencies: 800 with p50 ") and problem.endswith(f" by {RECORD}")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("answered", 800, f"{LAUNCH}: answered is 800, and 796 by {RECORD}"),
        ("failed", {}, f"{LAUNCH}: failed is {{}}, and {{'timeout': 2, '503': 1, 'dropped': 1}} by {RECORD}"),
        ("within_limit", 800, f"{LAUNCH}: within_limit is 800, and 796 by {RECORD}"),
        ("limit_ns", 500 * MS, f"{LAUNCH}: limit_ns is 500 ms (500000000), and 50.0 ms (50000000) by {RECORD}"),
        ("rate_per_s", 400.0, f"{LAUNCH}: rate_per_s is 400.0, and 200.0 by the scenario"),
        ("users", 16, f"{LAUNCH}: users is 16, and None by the scenario"),
    ],
)
def test_a_figure_of_the_load_that_does_not_follow_is_named(forged, name, value, told):
    launches(forged, lambda run: run["served"].update({name: value}))
    assert told in wrong(forged)


def test_a_generator_that_is_called_punctual_is_named(forged):
    launches(forged, lambda run: run["served"]["lateness"].update(p99_ns=1_000))
    assert any(problem.startswith(f"{LAUNCH}: lateness is ") and "1000 ns at p99" in problem for problem in wrong(forged))
    rewritten(forged, "audit.json", lambda audit: audit["trials"][0]["loads"][0].update(turned_late_p99_ns=1))
    listed_again(forged)
    assert any(problem.startswith(f"{FAST}, load of launch 0: turned_late_p99_ns is 1 in audit.json, and ") for problem in wrong(forged))


def test_slow_requests_that_were_taken_out_of_the_record_are_named_also_when_all_digests_are_made_again(forged):
    path = record_of(forged)
    records = read_records(path)
    digest = write_records(path, records.where(records.status == 200))
    launches(forged, lambda run: run["served"].update(records_sha256=digest))
    problems = wrong(forged)
    assert f"{LAUNCH}: due is 800, and 796 by {RECORD}" in problems
    assert any(problem.startswith(f"'{P99}' on {FAST}: over is 8 in audit.json, and 4 by the raw data") for problem in problems)
    assert any(problem.startswith(f"'error_rate: at most 10 %' on {FAST}: value is ") for problem in problems)
    assert not any(SLOW in problem for problem in problems)


def test_a_record_of_other_requests_is_named(forged):
    write_records(record_of(forged), drawn(seed=9))
    problems = wrong(forged)
    assert f"{RECORD}: changed, its SHA-256 is not the one in SHA256SUMS" in problems
    assert f"{RECORD}: is not the record that launch 0 of {FAST} names" in problems
    assert any(problem.startswith(f"{LAUNCH}: latencies: ") for problem in problems)


def test_a_record_that_is_gone_or_is_none_is_named(forged):
    path = record_of(forged)
    path.write_bytes(b"PK no record at all")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    launches(forged, lambda run: run["served"].update(records_sha256=digest))
    assert wrong(forged)[-1].startswith(f"{RECORD} is no record of requests: ")
    path.unlink()
    problems = wrong(forged)
    assert f"{RECORD}: listed in SHA256SUMS and missing" in problems and problems[-1].startswith(f"{RECORD} is no record of requests: ")


def test_a_record_outside_the_bundle_is_not_read(forged):
    launches(forged, lambda run: run["served"].update(records="../../requests.npz"))
    assert wrong(forged)[-1] == "the record 'run/../../requests.npz' lies outside the bundle"


def test_a_launch_without_its_load_is_named(forged):
    launches(forged, lambda run: run.update(served=None))
    assert wrong(forged)[-1] == f"launch 0 of {FAST} tells of no load over the network, and the scenario's is one"


def test_a_scenario_of_another_load_is_named(forged):
    scenario = forged / "source" / "scenarios" / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace("rate: 200 /s", "rate: 400 /s"))
    listed_again(forged)
    assert f"{LAUNCH}: rate_per_s is 200.0, and 400.0 by the scenario" in wrong(forged)


def test_a_timeout_that_is_called_shorter_is_named(forged):
    scenario = forged / "source" / "scenarios" / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace("timeout: 1 s", "timeout: 10 ms"))
    listed_again(forged)
    assert any(problem.startswith(f"{LAUNCH}: latencies: ") for problem in wrong(forged))


def test_a_broken_promise_under_load_is_found_in_the_requests(forged):
    scenario = forged / "source" / "scenarios" / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace("error_rate: at most 10 %", "error_rate: at most 0.1 %"))
    listed_again(forged)
    found = verify(forged, page_of)
    states = {one.clause: one.state for one in found.audit.clauses if one.trial == FAST}
    assert states["error_rate: at most 0.1 %"] is SlaState.BROKEN and not found.holds


def test_a_load_of_the_projects_own_is_told_as_its_plugin_told_it(under_load):
    audit = read_audit(under_load)
    trials = tuple(
        replace(trial, loads=tuple(replace(line, counted_again=False, turned_late_p99_ns=None) for line in trial.loads))
        for trial in audit.trials
    )
    assert page_of(replace(audit, trials=trials)).decode().count("its figures are taken as the plugin told them") == 2

import csv
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from fakes.audits import FAST, SLOW, copied, listed_again, rewritten
from scipy import stats

from harness.core.comparison import SlaState
from harness.engine.audit.make import AUDITS, read_audit
from harness.engine.audit.page import page_of
from harness.engine.audit.verify import verify

P99 = "latency_p99: at most 2 s"


def wrong(bundle):
    return verify(bundle, page_of).problems


def raw_launches(bundle, trial):
    """The latencies in ns of every launch of a trial, read without the program."""
    events = [json.loads(line) for line in (bundle / "run" / "launches.jsonl").read_text().splitlines()]
    runs = [event["run"] for event in events if event["kind"] == "launch" and event["trial"] == trial]
    return [np.array([latency for piece in run["slices"] for latency in piece["latencies_ns"]]) for run in runs]


def clause(bundle, text, trial):
    told = json.loads((bundle / "audit.json").read_bytes())["clauses"]
    return next(one for one in told if (one["clause"], one["trial"]) == (text, trial))


def test_an_honest_bundle_holds_wherever_it_lies(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = verify(copied(bundle, tmp_path / "elsewhere"), page_of)
    assert found.problems == () and found.signed.told == "not signed"
    assert [one.state for one in found.audit.clauses] == [SlaState.KEPT] * 10 and found.audit.exit_code == 0


def test_the_p99_and_its_bound_follow_from_the_raw_latencies_by_plain_numpy(bundle):
    told = clause(bundle, P99, FAST)
    launches = raw_launches(bundle, FAST)
    queries, over = sum(map(len, launches)), int(sum((launch > 2_000_000_000).sum() for launch in launches))
    assert (told["count"], told["over"], told["basis"]) == (queries, over, "queries")
    assert over == 0 and told["bound"] == pytest.approx(1 - 0.025 ** (1 / queries))
    interval = stats.binomtest(over, queries, alternative="less").proportion_ci(0.975, method="exact")
    assert told["bound"] == pytest.approx(interval.high)
    if all(len(launch) >= 500 for launch in launches):  # fewer have no p99 of their own
        assert told["value"] == pytest.approx(np.mean([np.quantile(launch, 0.99) for launch in launches]))


def test_the_median_and_its_bound_over_a_ratio_follow_by_plain_numpy(bundle):
    told = clause(bundle, "slow.latency_p50: at most 5000 % of base", SLOW)
    ours, theirs = ([float(np.quantile(launch, 0.5)) for launch in raw_launches(bundle, trial)] for trial in (SLOW, FAST))
    assert told["value"] == pytest.approx(np.mean(ours))
    logs = [np.log(ours), np.log(theirs)]  # Welch by hand: scipy warns where launches are nearly alike
    parts = [np.var(one, ddof=1) / len(one) for one in logs]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, logs, strict=True))
    high = np.mean(logs[0]) - np.mean(logs[1]) + stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert told["bound"] == pytest.approx(np.exp(high)) and told["confidence"] == 0.975


def test_the_accuracy_follows_from_the_samples_without_the_program(bundle):
    with (bundle / "samples" / f"{FAST}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = np.mean([row["target"] == row["answer"] for row in rows])
    told = clause(bundle, "accuracy: at least 90 %", FAST)
    assert 0.9 < right < 1 and (told["value"], told["count"]) == (right, 200)


def test_the_models_size_and_digest_follow_from_its_list_of_files(bundle):
    with (bundle / "artifacts" / f"{FAST}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert clause(bundle, "model_size: at most 1 MB", FAST)["value"] == sum(int(row["bytes"]) for row in rows)
    digest = hashlib.sha256(b"".join(bytes.fromhex(row["sha256"]) for row in rows)).hexdigest()
    trials = {trial["id"]: trial for trial in json.loads((bundle / "audit.json").read_bytes())["trials"]}
    assert trials[FAST]["artifact_sha256"] == digest


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_agrees_with_the_list(bundle):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True, check=True)
    assert "run/launches.jsonl: OK" in done.stdout and "FAILED" not in done.stdout


def test_the_statement_is_one_of_in_toto_over_every_file(bundle):
    statement = json.loads((bundle / "statement.json").read_bytes())
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1" and statement["predicateType"] == "urn:x-harness:sla-audit:v1"
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()} - {"statement.json"}
    subjects = {subject["name"]: subject["digest"] for subject in statement["subject"]}
    assert subjects == {name: {"sha256": hashlib.sha256((bundle / name).read_bytes()).hexdigest()} for name in files}


@pytest.mark.parametrize("name", ["run/launches.jsonl", f"samples/{FAST}.csv", "report.html", "source/scenarios/tiny.yaml", "README.txt"])
def test_a_changed_byte_is_named(forged, name):
    data = bytearray((forged / name).read_bytes())
    data[len(data) // 2] ^= 1
    (forged / name).write_bytes(data)
    assert f"{name}: changed, its SHA-256 is not the one in SHA256SUMS" in wrong(forged)


def test_a_file_that_is_gone_and_one_that_came_are_named(forged):
    (forged / "README.txt").unlink()
    (forged / "run" / "more.txt").write_text("more")
    problems = wrong(forged)
    assert "README.txt: listed in SHA256SUMS and missing" in problems and "run/more.txt: not listed in SHA256SUMS" in problems


def test_a_removed_promise_is_named_also_when_the_list_is_made_again(forged):
    def remove(audit):
        audit["clauses"] = [one for one in audit["clauses"] if one["clause"] != P99]

    rewritten(forged, "audit.json", remove)
    listed_again(forged)
    problems = wrong(forged)
    assert not any("SHA256SUMS" in problem for problem in problems)
    assert [f"'{P99}' on {trial}: promised by the scenario and missing from audit.json" for trial in (FAST, SLOW)] == [
        problem for problem in problems if "missing from" in problem
    ]


def test_a_trial_that_is_left_out_with_its_promises_is_named(forged):
    def remove(audit):
        audit["trials"] = [one for one in audit["trials"] if one["id"] != SLOW]
        audit["clauses"] = [one for one in audit["clauses"] if one["trial"] != SLOW]

    rewritten(forged, "audit.json", remove)
    listed_again(forged)
    assert f"{SLOW}: the scenario promises something of it, and audit.json does not tell of it" in wrong(forged)


@pytest.mark.parametrize("figure", ["value", "bound", "count", "over", "confidence", "limit"])
def test_a_changed_figure_is_named_also_when_the_list_is_made_again(forged, figure):
    def change(audit):
        one = next(one for one in audit["clauses"] if (one["clause"], one["trial"]) == (P99, FAST))
        one["value"] = one["value"] or 1e6
        one[figure] = one[figure] / 2 if one[figure] else 1

    rewritten(forged, "audit.json", change)
    listed_again(forged)
    assert any(problem.startswith(f"'{P99}' on {FAST}: {figure} is ") for problem in wrong(forged))


def test_a_broken_promise_that_is_called_kept_is_named(forged):
    scenario = forged / "source" / "scenarios" / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace("accuracy: at least 90 %", "accuracy: at least 99 %", 1))
    listed_again(forged)
    found = verify(forged, page_of)
    assert found.audit.exit_code == 1 and found.audit.verdict is SlaState.BROKEN
    assert f"'accuracy: at least 99 %' on {FAST}: promised by the scenario and missing from audit.json" in found.problems
    assert "audit.json: verdict is KEPT, and BROKEN by the raw data" in found.problems


def test_slow_queries_that_were_taken_out_of_the_journal_are_named(forged):
    journal = forged / "run" / "launches.jsonl"
    journal.write_text(re.sub(r'"latencies_ns":\[\d+,', '"latencies_ns":[', journal.read_text(), count=1))
    listed_again(forged)
    assert any(problem.startswith(f"'{P99}' on {FAST}: count is ") or "launches is" in problem for problem in wrong(forged))


def test_a_launch_that_was_taken_out_of_the_journal_is_named(forged):
    journal = forged / "run" / "launches.jsonl"
    lines = journal.read_text().splitlines()
    lines.remove(next(line for line in lines if f'"trial":"{FAST}"' in line))
    journal.write_text("\n".join(lines) + "\n")
    listed_again(forged)
    assert f"{FAST}: 2 launches in audit.json, 1 in the journal" in wrong(forged)


def test_a_page_that_says_something_else_is_named(forged):
    page = forged / "report.html"
    page.write_text(page.read_text().replace("all 10 kept", "all 11 kept"))
    listed_again(forged)
    assert wrong(forged) == ("report.html: does not say what the raw data say",)


def test_a_statement_that_claims_something_else_is_named(forged):
    rewritten(forged, "statement.json", lambda statement: statement["predicate"].update(release="9.9"))
    assert wrong(forged) == ("statement.json: its predicate does not follow from the raw data: release",)


def test_the_digest_of_a_model_that_does_not_follow_from_its_files_is_named(forged):
    rewritten(forged, "audit.json", lambda audit: audit["trials"][0].update(artifact_sha256="0" * 64))
    listed_again(forged)
    assert f"{FAST}: the model's digest does not follow from artifacts/{FAST}.csv" in wrong(forged)


def test_what_is_no_bundle_says_what_is_missing(forged):
    (forged / "audit.json").unlink()
    assert any("audit.json is missing" in problem for problem in wrong(forged))


def test_waivers_cannot_be_read_from_outside_the_bundle(forged):
    rewritten(forged, "audit.json", lambda audit: audit.update(waiver_files={"tiny": "../../waivers.yaml"}))
    listed_again(forged)
    assert wrong(forged)[-1] == "the waivers '../../waivers.yaml' lie outside the bundle"


def test_what_another_version_of_the_program_put_otherwise_is_no_forgery(forged):
    def older(audit):
        audit["program_version"] = "0.0.1"
        for one in audit["clauses"]:
            one["reason"] = "in other words"

    rewritten(forged, "audit.json", older)
    rewritten(forged, "statement.json", lambda statement: statement["predicate"].update(programVersion="0.0.1"))
    listed_again(forged)
    found = verify(forged, page_of)
    assert found.problems == () and "sentences and the page were not compared" in found.notes[0]


def test_an_audit_survives_being_written_and_read(bundle):
    audit = read_audit(bundle)
    assert AUDITS.validate_json(AUDITS.dump_json(audit)) == audit

"""``harness gate`` as a user meets it: real processes in a repository, exit codes, and every word that helps."""

import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes.workplaces import BASELINE, SCENARIO, TRIAL, accepted, workplace

NUMBERS = r"3\d\d µs +\d.*/s +100\.00 % +\d+ KiB +1\.00 KiB"
TITLES = "trial             state      latency_p50  latency_p99  throughput  accuracy  peak_memory  model_size"


@pytest.fixture
def place(tmp_path, tmp_path_factory):
    """A repository whose baseline is committed."""
    return accepted(tmp_path_factory.getbasetemp(), tmp_path / "repository")


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """A gate on a model that is twice as slow, wrong in a fifth of its answers and four times as large: what it printed, its run."""
    place = accepted(tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("red") / "repository")
    changes = ("latency_us=600", "wrong=0.2", "size_bytes=4096")
    ended = place.harness("gate", "scenarios", *(word for change in changes for word in ("--set", f"model.fake.{change}")))
    return ended, place.latest


def test_a_new_trial_is_not_decided_until_its_first_numbers_are_accepted(tmp_path):
    place = workplace(tmp_path / "repository", tmp_path / "cache")
    ended = place.harness("gate", "scenarios")
    assert ended.code == 3
    first, why, table, *help_ = ended.told.split("\n\n")
    assert first == "INVALID: 1 trial could not be decided"
    assert why == f"{TRIAL} NEW: no baseline yet: keep these numbers with 'harness baseline accept'"
    assert re.search(rf"{TRIAL}  NEW +{NUMBERS}", table)
    assert "Keep the first numbers of 1 trial with 'harness baseline accept': there was no baseline to compare with." in help_[0]
    assert help_[-1] == "report: reports/RUN/report.html\n"
    assert place.git("status", "--porcelain") == ""

    ended = place.harness("gate", "scenarios", "--new-baselines", "accept")
    assert ended.code == 0
    assert ended.told.startswith("PASS: 1 trial new\n\n")
    assert "\nwrote the first baselines of 1 trial under baselines/: commit them\n" in ended.told
    assert place.git("status", "--porcelain", "--untracked-files=all") == f"?? {BASELINE}"
    baseline = place.baseline()
    assert baseline["trial"] == TRIAL and len(baseline["measured"]) == 1
    assert baseline["portable"]["scenario_text"] == SCENARIO
    assert baseline["portable"]["commit"] == place.git("rev-parse", "HEAD")


def test_what_has_not_changed_but_for_comments_and_documents_is_not_measured(place):
    place.write("scenarios/tiny.yaml", "# what this is\n" + SCENARIO)
    place.replace("scenarios/data.py", "    labels =", "    # each sample is its own class\n\n    labels =")
    place.write("README.md", "What this is.\n")
    ended = place.harness("gate", "scenarios")
    assert ended.code == 0
    assert re.fullmatch(
        rf"PASS: 1 trial unchanged\n\n{TITLES}\n{TRIAL}  UNCHANGED +{NUMBERS}\n\nNothing to do\.\n\nreport: reports/RUN/report\.html\n",
        ended.told,
    )
    assert place.launches() == []


@pytest.mark.slow
def test_a_worse_model_is_red_in_the_terminal_with_all_that_it_rests_on(red):
    ended, _ = red
    assert ended.code == 1
    first, findings, changes, table, note, step, report = ended.told.split("\n\n")
    assert first == "REGRESSED: 3 metrics regressed"
    size, slower, wrong = findings.splitlines()
    assert size == f"model_size of {TRIAL} went from 1.00 KiB to 4.00 KiB: ×4.000 (exact), tolerance 1 %: REGRESSED"
    assert re.fullmatch(
        rf"latency_p50 of {TRIAL} went from 3\d\d µs to 6\d\d µs: ×[12]\.\d{{3}} \(99\.\d+ % interval [12]\.\d+ to [12]\.\d+\), "
        r"tolerance 2 %: REGRESSED",
        slower,
    )
    assert wrong == (
        f"accuracy of {TRIAL} went from 100.00 % to 80.00 %: -20.00 points (98 % interval -27.33 to -14.25 points), "
        "tolerance 0.5 points: REGRESSED"
    )
    steps = [line.partition(": ")[2] for line in changes.splitlines()]
    assert [step.partition(":")[0] for step in steps] == ["step only in the baseline", "step only in the candidate", "session"]
    assert '"latency_us":600.0' in steps[1] and '"wrong":0.2' in steps[1]
    assert re.search(rf"{TRIAL}  MEASURED +6\d\d µs .* 80\.00 % .* 4\.00 KiB", table)
    assert note == "note: measured with --set model.fake.latency_us=600 --set model.fake.wrong=0.2 --set model.fake.size_bytes=4096"
    assert step.startswith(f"Look first at model_size of {TRIAL} (+300.0 %).")
    assert report == "report: reports/RUN/report.html\n"


FINDING = (
    r"^(\w+) of \S+ went from (.+) to (.+): (\S+)(?: points)? \((?:exact|\S+ % interval (.+ to [^ )]+).*)\), tolerance (.+): REGRESSED$"
)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["report.html", "report.md", "junit.xml"])
def test_a_worse_model_is_red_in_every_report_with_all_that_it_rests_on(red, file):
    ended, folder = red
    text = (folder / file).read_text()
    places = {
        "report.html": lambda: re.findall(r"<tr.*?</tr>", text, flags=re.DOTALL),
        "report.md": lambda: [line for line in text.splitlines() if line.startswith("|")],
        "junit.xml": lambda: [failure.get("message") for failure in ElementTree.fromstring(text).iter("failure")],
    }[file]()
    places = [html.unescape(re.sub(r"<[^>]+>", " ", place)) for place in places]
    findings = re.findall(FINDING, ended.out, flags=re.MULTILINE)
    assert len(findings) == 3
    for finding in findings:
        wanted = ("regressed", TRIAL, *filter(None, finding))
        assert any(all(word.lower() in place.lower() for word in wanted) for place in places), f"{wanted} are not in one place of {file}"


@pytest.mark.slow
def test_machines_are_told_the_same_numbers(red):
    ended, folder = red
    comparisons = json.loads((folder / "summary.json").read_text())["comparisons"]
    found = {item["metric"]: item for item in comparisons if item["verdict"] == "REGRESSED" and item["trial"] == TRIAL}
    assert found["model_size"] | {"ratio": 4.0, "baseline": 1024.0, "candidate": 4096.0, "tolerance": 0.01} == found["model_size"]
    assert found["accuracy"] | {"baseline": 1.0, "candidate": 0.8, "tolerance": 0.005} == found["accuracy"]
    assert round(found["accuracy"]["low"], 4) == -0.2733
    latency = found["latency_p50"]
    told = f"from {latency['baseline'] / 1e3:.0f} µs to {latency['candidate'] / 1e3:.0f} µs: ×{latency['ratio']:.3f} "
    assert told in ended.out and f"interval {latency['low']:.3f} to {latency['high']:.3f}), tolerance 2 %" in ended.out


@pytest.mark.slow
def test_before_anything_is_called_slower_the_machine_is_measured_against_itself(red):
    _, folder = red
    control = json.loads((folder / "summary.json").read_text())["null_control"]
    assert control == {"trial": TRIAL, "red": False}
    journal = [json.loads(line) for line in (folder / "launches.jsonl").read_text().splitlines()]
    assert {event["trial"] for event in journal[1:]} == {TRIAL, f"{TRIAL} (null control)"}


@pytest.mark.slow
def test_a_baseline_that_is_in_no_cache_is_built_again_from_its_commit_and_an_improvement_is_told(place, tmp_path):
    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 150")
    place.replace("scenarios/data.py", "return labels", "return 1 * labels")  # the base's own data factory is gone from the tree too
    place.commit()
    place.cache = tmp_path / "empty-cache"
    ended = place.harness("gate", "scenarios")
    assert ended.code == 0
    first, finding, *_ = ended.told.split("\n\n")
    assert first == "IMPROVED: 1 metric better, 2 metrics within their tolerances"
    assert re.match(rf"latency_p50 of {TRIAL} went from 3\d\d µs to 1\d\d µs: ×0\.[45]\d\d .*: IMPROVED", finding)
    assert len(place.git("worktree", "list").splitlines()) == 1
    assert place.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_identical_content_is_not_red_when_it_is_measured_all_the_same(place):
    ended = place.harness("gate", "scenarios", "--all", "--budget", "1 s")
    assert ended.code == 0
    assert "REGRESSED" not in ended.out
    assert {event["run"]["arm"] for event in place.launches()} == {"baseline", "candidate"}


@pytest.mark.slow
def test_what_the_budget_was_too_small_to_decide_fails_a_strict_gate_also_when_it_is_resumed(place):
    ended = place.harness("gate", "scenarios", "--set", "model.fake.latency_us=600", "--budget", "1 ms", "--strict")
    assert ended.code == 3
    assert ended.told.startswith("INCONCLUSIVE: 1 metric inconclusive\n\n")
    assert re.search(rf"^latency_p50 of {TRIAL} went from 3\d\d µs to 6\d\d µs: .*: INCONCLUSIVE$", ended.told, flags=re.MULTILINE)
    assert "Give a larger --budget, or a quieter machine, to tell 1 metric" in ended.told
    launches = place.launches()
    assert len(launches) == 20  # the screen's five pairs, and five of the baseline against itself

    again = place.harness("gate", "--resume", "latest")
    assert (again.code, again.told.splitlines()[:3]) == (3, ended.told.splitlines()[:3])
    assert place.launches() == launches


def test_only_the_trials_that_are_asked_for_take_part(place):
    other = ("--set", "recipes.other={runtime: {fake: {add_latency_us: 100}}}")
    ended = place.harness("gate", "scenarios", *other, "--only", "base", "--json")
    assert ended.code == 0
    assert [trial["id"] for trial in ended.summary["trials"]] == [TRIAL]


def test_a_trial_for_another_machine_is_skipped_by_name(place):
    ended = place.harness("gate", "scenarios", "--set", "hardware=[cpu, {name: big, requires: {cores: 4096}}]")
    assert ended.code == 0
    assert ended.told.startswith("PASS: 1 trial unchanged, 1 trial for another machine\n\n")
    assert re.search(r"^tiny/base-big-b1 SKIPPED: needs 4096 cores: this machine has \d+$", ended.told, flags=re.MULTILINE)


def test_a_broken_promise_is_red_also_where_nothing_has_changed(place):
    ended = place.harness("gate", "scenarios", "--set", "sla.latency_p50=at most 100 us", "--set", "sla.accuracy=at least 99 %")
    assert ended.code == 1
    first, finding, _, _, step, _ = ended.told.split("\n\n")
    assert first == "REGRESSED: 1 SLA clause broken"
    assert re.match(rf"SLA 'latency_p50: at most 100 us' on {TRIAL}: 3\d\d µs; [\d,]+ of [\d,]+ queries over 100 µs .*: BROKEN", finding)
    assert step == f"Mend the broken promise, or change it in the scenario: 'latency_p50: at most 100 us' on {TRIAL}."
    assert place.launches() == []


def test_a_promise_that_nothing_was_measured_for_fails_only_a_strict_gate(place):
    promise = ("--set", "sla.agreement=at least 90 %")
    told = f"SLA 'agreement: at least 90 %' on {TRIAL}: not measured; the scenario names no 'reference' recipe"
    for code, strict in ((0, ()), (3, ("--strict",))):
        ended = place.harness("gate", "scenarios", *promise, *strict)
        assert (ended.code, told in ended.told) == (code, True)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:500], "is damaged: Expecting property name enclosed in double quotes: line 14 column 3"),
        (lambda text: "", "is damaged: Expecting value: line 1 column 1"),
        (lambda text: text.replace('"schema": 1', '"schema": 99', 1), "has schema 99, this program reads 1"),
    ],
    ids=["truncated", "empty", "of another schema"],
)
def test_a_baseline_that_cannot_be_read_is_named_with_the_way_out_and_never_skipped(place, damage, told):
    place.write(BASELINE, damage(place.read(BASELINE)))
    ended = place.harness("gate", "scenarios")
    assert ended.code == 3
    first, why, *_ = ended.told.split("\n\n")
    assert first == "INVALID: 1 trial could not be decided"
    assert why.startswith(f"{TRIAL} FAILED: {BASELINE} {told}")
    assert why.endswith(f"; restore it with 'git checkout -- {BASELINE}', or make a new one: 'harness run', then 'harness baseline accept'")
    assert place.launches() == []


def as_of_another_machine(place):
    """The baseline as a machine of another kind would have written it."""
    baseline = place.baseline()
    (measured,) = baseline["measured"].values()
    place.write(BASELINE, json.dumps(baseline | {"measured": {"0" * 12: measured}}))


def test_timings_of_another_machine_are_not_shown_as_if_they_were_of_this_one(place):
    as_of_another_machine(place)
    ended = place.harness("gate", "scenarios")
    assert ended.code == 0
    assert ended.told.startswith("PASS: 1 trial unchanged\n\n")
    assert " µs" not in ended.out and "100.00 %" in ended.out
    assert f"note: {TRIAL}: no timings of this kind of machine were accepted yet: 'harness gate --new-baselines accept'" in ended.told
    assert place.launches() == []


def test_timings_of_another_machine_are_never_compared_where_the_baseline_cannot_be_built_here(place, tmp_path):
    as_of_another_machine(place)
    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 600")
    place.commit()
    shallow = tmp_path / "shallow"
    place.git("clone", "--quiet", "--depth=1", place.root.as_uri(), str(shallow))
    place.root, place.cache = shallow, tmp_path / "empty-cache"
    ended = place.harness("gate", "scenarios", "--json")
    assert ended.code == 3
    assert ended.summary["verdict"] == "INVALID"
    assert {item["metric"]: item["verdict"] for item in ended.summary["comparisons"]} == {"accuracy": "PASS", "model_size": "PASS"}
    (trial,) = ended.summary["trials"]
    assert trial["reason"].startswith(f"the baseline of {TRIAL} cannot be built here: at commit ")
    assert "is not in this clone" in trial["reason"]
    assert Path(shallow / "reports").is_dir()

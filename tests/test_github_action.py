"""The check of a pull request as GitHub's runner carries it out: the steps of the composite action, against its API in little."""

import io
import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
from fakes.gated_repository import GATE, REPORT, ROOT, Repository, bodies
from fakes.github import BOT, OWN, TOKEN, Runner, fake_github
from fakes.workplaces import SCENARIO, TRIAL, workplace


@pytest.fixture
def github():
    with fake_github() as made:
        yield made


@pytest.fixture
def repository(tmp_path, github):
    return Repository(tmp_path, github)


def test_a_red_gate_is_told_in_the_summary_in_one_comment_and_at_the_line_and_ends_the_job_with_its_code(repository, github):
    job = repository.gate()
    assert job.code == 1
    assert job.outputs["verdict"] == "REGRESSED" and job.outputs["exit-code"] == "1"
    assert job.summary == f"**performance gate**\n\n{REPORT}\n"
    assert bodies(github) == [f"<!-- harness gate: performance gate -->\n**performance gate**\n\n{REPORT}"]
    assert job.commands == ["::error file=scenarios/tiny.yaml,line=12::slower"]
    assert zipfile.ZipFile(io.BytesIO(job.artifacts["performance-report"])).namelist() == ["report.html", "report.md", "summary.json"]
    assert Path(job.outputs["report"]).name == "report.html"


def test_the_gate_is_asked_for_what_the_action_was_given(repository):
    given = {"against": "HEAD^1", "budget": "2 min", "strict": "true", "new_baselines": "accept", "arguments": "--only 'int8 b1'"}
    repository.gate(paths="scenarios 'more scenarios/a.yaml'", **given)
    words = json.loads((repository.root / "asked.json").read_text())
    assert words[:4] == ["gate", "scenarios", "more scenarios/a.yaml", "--reports"]
    options = ["--against", "HEAD^1", "--budget", "2 min", "--new-baselines", "accept", "--strict", "--only", "int8 b1"]
    assert words[5:] == options


def test_the_comment_is_changed_and_never_repeated_and_every_gate_has_its_own(repository, github):
    first = repository.gate()
    repository.tell("PASS", 0, "## ✅ PASS: 1 trial unchanged\n")
    assert (first.code, repository.gate().code) == (1, 0)
    repository.gate(name="nightly-2")
    repository.gate(name="nightly")
    repository.gate(name="nightly-2")
    assert [body.splitlines()[0] for body in bodies(github)] == [
        "<!-- harness gate: performance gate -->",
        "<!-- harness gate: nightly-2 -->",
        "<!-- harness gate: nightly -->",
    ]
    assert "PASS: 1 trial unchanged" in bodies(github)[0]


def test_a_comment_on_a_later_page_is_found_and_those_of_others_are_left_alone(repository, github):
    github.page = 3
    mark = "<!-- harness gate: performance gate -->\n"
    strangers = [github.add_comment(7, f"{mark}not the gate's", "stranger"), github.add_comment(7, f"{mark}ghost", None)]
    for number in range(6):
        github.add_comment(7, f"comment {number}: {mark}")
    mine = github.add_comment(7, f"{mark}old")
    repository.gate()
    assert len(github.comments[7]) == 9
    assert mine["body"].endswith(REPORT)
    assert [one["body"] for one in strangers] == [f"{mark}not the gate's", f"{mark}ghost"]


def test_a_comment_that_says_it_already_is_not_sent_again(repository, github):
    repository.gate()
    repository.gate()
    assert [method for method, _, _ in github.requests] == ["GET", "POST", "GET"]


@pytest.mark.parametrize(("comment", "verdict", "code", "begun"), [
    ("always", "PASS", 0, 1), ("needed", "PASS", 0, 0), ("needed", "IMPROVED", 0, 1), ("needed", "INCONCLUSIVE", 0, 1),
    ("needed", "INVALID", 3, 1), ("never", "REGRESSED", 1, 0),
])  # fmt: skip
def test_a_first_comment_is_written_where_it_is_wanted(repository, github, comment, verdict, code, begun):
    repository.tell(verdict, code)
    assert repository.gate(comment=comment).code == code
    assert len(bodies(github)) == begun


def test_a_comment_that_was_red_is_changed_to_green_also_where_none_would_be_begun(repository, github):
    repository.gate(comment="needed")
    repository.tell("PASS", 0, "green")
    repository.gate(comment="needed")
    assert len(bodies(github)) == 1 and bodies(github)[0].endswith("green")


def test_a_push_has_no_pull_request_to_comment_on(repository, github):
    job = repository.gate(number=None)
    assert (job.code, github.requests) == (1, [])
    assert "This is no pull request" in job.log and "REGRESSED" in job.summary


def test_an_answer_that_was_lost_is_asked_for_again_and_the_comment_is_not_repeated(monkeypatch, github):
    monkeypatch.syspath_prepend(GATE)
    import comments_api

    github.answers = [(502, {}), (429, {"Retry-After": "1"})]
    slept = []
    comment = comments_api.Comment("g", "body", BOT)
    api = comments_api.Api(github.url, TOKEN)
    address = comments_api.put(api, OWN, 7, comment, sleep=slept.append)
    assert slept == [2, 10] and bodies(github) == ["<!-- harness gate: g -->\nbody"]
    assert address == github.comments[7][0]["html_url"]
    long = comments_api.Comment("g", "x" * 100_000, BOT)
    comments_api.put(api, OWN, 7, long, sleep=slept.append)
    assert len(bodies(github)[0]) == 65_000


def test_an_api_that_gives_no_sense_changes_no_verdict(repository, github):
    github.answers = [(400, {})]
    job = repository.gate()
    assert job.code == 1 and bodies(github) == []
    assert any(line.startswith("::warning title=no comment::The comment could not be written: GET ") for line in job.commands)


def test_bad_input_is_told_at_its_line_with_the_path_that_the_repository_has(repository, github, tmp_path):
    (repository.root / "sub").mkdir()
    (repository.root / "sub" / "stub.py").write_text(
        'import sys\nprint("warming up", file=sys.stderr)\n'
        "print(\"error: scenarios/a.yaml:14 recipes.int8: unknown pass 'x%'\\n  did you mean y?\\nscenarios/b.yaml: does not exist\", "
        "file=sys.stderr)\nsys.exit(2)\n"
    )
    job = repository.gate(working_directory="sub")
    assert job.code == 2
    assert job.commands == [
        "::error file=sub/scenarios/a.yaml,line=14,title=bad input::recipes.int8: unknown pass 'x%25'%0A  did you mean y?",
        "::error file=sub/scenarios/b.yaml,title=bad input::does not exist",
    ]
    assert job.summary.startswith("**performance gate**\n\n## ⛔ No result: bad input (exit code 2)\n\n```text\nwarming up\nerror: ")
    assert job.outputs["verdict"] == "" and "performance-report" not in job.artifacts
    assert bodies(github)[0].rstrip().endswith("```")


def test_a_harness_that_is_not_there_and_one_that_is_killed_are_told(repository):
    job = repository.gate(command="no-such-harness")
    assert job.code == 127
    assert job.commands[0].startswith("::error title=No result%3A harness could not be started::no-such-harness could not be started: ")
    (repository.root / "killed.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert repository.gate(command="python3 killed.py").code == 137


@pytest.mark.parametrize(("inputs", "told"), [
    ({"name": "a --> b"}, "name: 'a --> b' is not up to 64 letters"),
    ({"strict": "yes"}, "strict: 'yes' is neither 'true' nor 'false'"),
])  # fmt: skip
def test_an_input_that_cannot_be_meant_is_refused_before_anything_runs(repository, inputs, told):
    job = repository.gate(**inputs)
    assert job.code == 2 and told in job.log
    assert not (repository.root / "asked.json").exists()


def test_harness_is_installed_from_where_the_action_is_unless_a_command_says_otherwise(repository, tmp_path):
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3").write_text(f'#!/bin/sh\n[ "$2" = pip ] && echo "pip: $*" && exit 0\nexec {sys.executable} "$@"\n')
    (shims / "python3").chmod(0o755)
    path = f"PATH={shims}:$PATH"
    repository.runner._environment["BASH_ENV"] = str(tmp_path / "profile")
    (tmp_path / "profile").write_text(f"export {path}\n")
    installed = rf"pip: -m pip install --disable-pip-version-check {re.escape(str(ROOT))}"
    assert re.search(rf"{installed}\[torch,onnx\]$", repository.gate(install="").log, flags=re.MULTILINE)
    assert re.search(rf"{installed}$", repository.gate(install="", extras="").log, flags=re.MULTILINE)
    failed = repository.gate(install="echo mine; false; echo on")
    assert (failed.code, "mine\n" in failed.log, "on\n" in failed.log, "pip:" in failed.log) == (1, True, False, False)


def test_models_are_kept_only_where_new_ones_were_built(repository):
    repository.runner._environment["HARNESS_CACHE_DIR"] = cache = str(repository.root / "built")
    unchanged = repository.gate()
    assert "actions/cache/save" not in unchanged.used
    assert unchanged.used["actions/cache/restore"]["path"] == cache
    entry = 'entries/ab/abcd"; mkdir -p built/$entry; exec python3 stub.py "$@"'
    (repository.root / "build.sh").write_text(f'entry="{entry}\n')
    built = repository.gate(command="bash build.sh")
    assert built.code == 1  # a red job keeps what it built
    saved = built.used["actions/cache/save"]
    assert saved["path"] == cache and re.fullmatch(r"harness-Linux-X64-[0-9a-f]{20}", saved["key"])
    assert saved["key"].startswith(built.used["actions/cache/restore"]["restore-keys"])
    assert "actions/cache/restore" not in repository.gate(cache="false").used


SLOWED = SCENARIO.replace("gate: {", "gate:\n  latency_p50: 2 %\n  ").replace(", latency_p99", "\n  latency_p99").replace(
    ", throughput", "\n  throughput").replace(", peak_memory: off}", "\n  peak_memory: off")  # fmt: skip


@pytest.fixture
def hosted(tmp_path, github):
    """A user's repository with a base branch, and the merge commit of a pull request to be made."""
    place = workplace(tmp_path / "model", tmp_path / "cache", scenario=SLOWED)
    place.git("checkout", "--quiet", "-b", "change")

    def gate(**inputs):
        place.commit()
        place.git("checkout", "--quiet", "-B", "merged", "main")
        place.git("merge", "--quiet", "--no-ff", "-m", "merge", "change")
        runner = Runner(place.root, tmp_path / "runner", place.environment(), github)
        job = runner.job(GATE, {"pull_request": {"number": 7}}, install=":", against="HEAD^1", **inputs)
        place.git("checkout", "--quiet", "change")
        return job

    return place, gate


@pytest.mark.slow
def test_a_pull_request_is_green_on_documents_red_on_a_slower_model_and_green_again_with_one_comment(hosted, github):
    place, gate = hosted
    place.write("README.md", "What this is.\n")
    green = gate()
    assert green.code == 0, green.log
    assert (green.outputs["verdict"], green.commands) == ("PASS", [])
    (body,) = bodies(github)
    assert "## ✅ PASS: 1 trial unchanged" in body and body.partition("\n")[2].strip() == green.summary.strip()

    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 600")
    red = gate(budget="30 s")
    assert (red.code, red.outputs["verdict"]) == (1, "REGRESSED"), red.log
    (body,) = bodies(github)
    assert "## 🔺 REGRESSED: 1 metric regressed" in body and f"<code>{TRIAL}</code> | <code>latency&#95;p50</code>" in body
    line = place.read("scenarios/tiny.yaml").splitlines().index("  latency_p50: 2 %") + 1
    (told,) = red.commands
    finding = f"latency_p50 of {TRIAL}"
    assert told.startswith(f"::error file=scenarios/tiny.yaml,line={line},title=REGRESSED%3A {finding}::{finding} went from ")
    assert {"report.html", "report.md", "junit.xml"} <= set(zipfile.ZipFile(io.BytesIO(red.artifacts["performance-report"])).namelist())
    assert "actions/cache/save" in red.used

    place.replace("scenarios/tiny.yaml", "latency_us: 600", "latency_us: 300")
    assert gate().code == 0
    (body,) = bodies(github)
    assert "PASS" in body and len(github.comments[7]) == 1


def test_a_scenario_with_a_mistake_is_red_at_its_line(hosted, github):
    place, gate = hosted
    place.replace("scenarios/tiny.yaml", "base: {runtime: fake}", "base: {runtime: fakes}")
    job = gate()
    line = place.read("scenarios/tiny.yaml").splitlines().index("  base: {runtime: fakes}") + 1
    assert job.code == 2
    place_and_title = f"file=scenarios/tiny.yaml,line={line},title=bad input"
    assert job.commands[0].startswith(f"::error {place_and_title}::recipes.base.runtime: unknown runtime 'fakes'")
    assert "No result: bad input" in bodies(github)[0]

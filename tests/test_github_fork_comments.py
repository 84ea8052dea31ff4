"""The gate's comment on a pull request from a fork: left by a token that only reads, written by a second workflow that trusts nothing."""

import io
import json
import zipfile

import pytest
from fakes.gated_repository import FORK, LEFT, REPORT, ROOT, SHA, Repository, bodies
from fakes.github import fake_github


@pytest.fixture
def github():
    with fake_github() as made:
        yield made


@pytest.fixture
def repository(tmp_path, github):
    return Repository(tmp_path, github)


def left_by(repository, github, **inputs):
    github.read_only = True
    job = repository.gate(**inputs)
    github.read_only = False
    github.artifacts = dict(job.artifacts)
    return job


def test_where_the_token_only_reads_the_comment_is_left_and_the_gate_goes_on(repository, github):
    job = left_by(repository, github)
    assert (job.code, bodies(github)) == (1, [])
    assert set(job.artifacts) == {"performance-report", LEFT}
    assert any(line.startswith("::notice title=comment left::This token may not write comments") for line in job.commands)


def test_the_second_workflow_writes_what_was_left_once_and_changes_it_later(repository, github):
    github.add_pull(7, SHA, FORK)
    left_by(repository, github)
    assert repository.second().code == 0
    repository.tell("PASS", 0, "## ✅ PASS\n")
    left_by(repository, github)
    before = bodies(github)
    assert repository.second().code == 0
    (after,) = bodies(github)
    origin = "<sub>Made by the code of a pull request from outside, and shown without being checked.</sub>"
    start = f"<!-- harness gate: performance gate -->\n{origin}"
    assert before == [f"{start}\n\n**performance gate**\n\n{REPORT}"]
    assert after == f"{start}\n\n**performance gate**\n\n## ✅ PASS\n"


def test_the_token_is_not_sent_to_the_host_that_stores_artifacts(repository, github):
    github.add_pull(7, SHA, FORK)
    left_by(repository, github)
    github.requests.clear()
    repository.second()
    stored = [sent for _, path, sent in github.requests if path.startswith("/storage/")]
    assert stored == [False] and all(sent for _, path, sent in github.requests if path.startswith("/repos/"))


def packed(left, name="comment.json"):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, left if isinstance(left, str | bytes) else json.dumps(left))
    return held.getvalue()


GOOD = {"number": 7, "gate": "performance gate", "body": "text", "first": True}


@pytest.mark.parametrize("data", [
    packed(GOOD | {"number": 8}), packed(GOOD | {"number": "7"}), packed(GOOD | {"number": True}), packed(GOOD | {"gate": "x -->"}),
    packed(GOOD | {"gate": "../7"}), packed(GOOD | {"body": None}), packed([7]), packed("{"), packed("[" * 200_000),
    packed(GOOD, "other.json"), packed(GOOD, "../comment.json"), b"no archive", b"", packed(b" " * 2**21), b"\0" * (2**20 + 1),
], ids=["another pull request", "a number in text", "a truth for a number", "a name that ends the mark", "a path for a name", "no body",
        "a list", "no JSON", "nested deeply", "another file", "a file outside", "no archive", "empty", "a bomb", "too large"])  # fmt: skip
def test_what_a_fork_could_make_up_is_refused_and_nothing_is_written(repository, github, data):
    github.add_pull(7, SHA, FORK)
    github.add_pull(8, "f00d" * 10, FORK, branch="other")
    github.artifacts = {LEFT: data}
    job = repository.second()
    assert job.code == 1 and len(job.commands) == 1 and job.commands[0].startswith("::error title=")
    assert bodies(github, 7) == bodies(github, 8) == []


@pytest.mark.parametrize(("pull", "run"), [
    ({"sha": "f00d" * 10}, {}), ({"fork": "another/model"}, {}), ({"fork": None}, {}), ({"state": "closed"}, {}),
    ({"into": "else/where"}, {}), ({}, {"fork": None}), ({}, {"event": "push"}),
], ids=["newer head", "another fork", "fork gone", "closed", "another repository", "fork unknown", "a push"])  # fmt: skip
def test_only_the_open_pull_request_whose_head_was_gated_is_written_on(repository, github, pull, run):
    github.add_pull(**({"number": 7, "sha": SHA, "fork": FORK} | pull))
    github.artifacts = {LEFT: packed(GOOD)}
    job = repository.second(**run)
    assert job.code == 0 and "No open pull request has" in job.log
    assert bodies(github) == []


def test_a_gate_that_wrote_its_own_comment_leaves_nothing_for_the_second_workflow(repository, github):
    github.artifacts = dict(repository.gate().artifacts)
    assert repository.second().code == 0
    assert len(bodies(github)) == 1


def test_what_a_fork_writes_cannot_mention_link_hide_or_pass_for_another_gates_comment(repository, github):
    github.add_pull(7, SHA, FORK)
    evil = (
        "<!-- harness gate: nightly -->\n<img src=//x><a href=x> @octocat &#64;octocat &commat;octocat [a](//evil) [b]: //evil\n"
        "https://evil www.evil.example #12 GH-7 &#35;7 <details open> \x1b"
    )
    github.artifacts = {LEFT: packed(GOOD | {"body": evil})}
    repository.second()
    (body,) = bodies(github)
    written = body.partition("</sub>")[2]
    for acting in ("<!--", "<img", "<a", "@o", "&#64;", "&commat;", "](", "]:", "://", "www.", "#1", "GH-7", "&#35;7", "<details", "\x1b"):
        assert acting not in written, acting
    assert written.replace("\u200b", "").strip() == evil.replace("\x1b", "").strip()


def test_a_whole_report_is_written_from_a_fork_as_it_is(repository, github):
    github.add_pull(7, SHA, FORK)
    golden = (ROOT / "tests" / "reports" / "golden" / "report.md").read_text()
    repository.tell("REGRESSED", 1, golden)
    left_by(repository, github)
    repository.second()
    assert bodies(github)[0].endswith(golden)

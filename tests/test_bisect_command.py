"""``harness bisect`` as a user types it, in a repository with a planted change."""

import json
import signal

import pytest
from fakes.workplaces import TRIAL, Ended, is_gone, until, workers_of, workplace

SCENARIO = "scenarios/tiny.yaml"


@pytest.fixture
def place(tmp_path, tmp_path_factory):
    made = workplace(tmp_path / "repository", tmp_path_factory.getbasetemp() / "bisect-cache")
    made.git("tag", "good")
    return made


LONGEST_S = 400
"""Some twenty launch pairs, on a machine that is busy."""


def worktrees(place):
    return place.git("worktree", "list").splitlines()


def searched(place, *words, **env):
    """A search with launches, however long it takes."""
    with place.begun("bisect", *words, env=env) as process:
        out, err = process.communicate(timeout=LONGEST_S)
    return Ended(process.returncode, out, err)


def option(place, old, new, subject):
    place.replace(SCENARIO, old, new)
    return place.commit(subject)


def document(place, number):
    place.write("README.md", f"Edition {number}.\n")
    return place.commit(f"Edition {number}")


def searches(place):
    return sorted((place.root / "reports" / "bisect").glob("2*"))


def launches(place):
    lines = (searches(place)[-1] / "launches.jsonl").read_text().split("\n")[:-1]
    return [event for line in lines if (event := json.loads(line))["kind"] == "launch"]


def planted(place):
    """Four commits: a document, the slowdown, a document, a harmless option."""
    document(place, 1)
    bad = option(place, "latency_us: 300", "latency_us: 345", "Support more classes")
    document(place, 2)
    option(place, "latency_us: 345", "latency_us: 345, wrong: 0.1", "Answer some wrongly")
    return bad


@pytest.mark.slow
def test_the_planted_commit_is_found_from_a_tree_with_uncommitted_changes_that_stays_as_it_is(place, tmp_path):
    bad = planted(place)
    place.write("README.md", "not committed\n")
    place.write("scenarios/other.yaml", "not a scenario")
    before = place.git("status", "--porcelain")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = searched(place, SCENARIO, "--good", "good", TMPDIR=str(temporary))
    assert ended.code == 0, ended
    told = ended.out.splitlines()
    assert told[0].startswith(f"{bad[:12]} made latency_p50 of {TRIAL} worse: 3")
    assert "subject   Support more classes" in told
    assert "author    user, " in ended.out
    assert f"file      {SCENARIO}" in told
    assert "differs   fake latency_us: 300.0 -> 345.0" in told
    assert "differs   other content: model" in told
    assert "4 commits, 3 different contents; 1 step, " in ended.out
    assert "note: uncommitted changes were not looked at" in told
    assert f"against {bad[:12]}" not in ended.err and "launch pair 1" in ended.err
    assert place.git("status", "--porcelain") == before
    assert place.git("branch", "--show-current") == "main"
    assert len(worktrees(place)) == 1
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind_and_a_resumed_search_measures_only_what_is_missing(place, tmp_path):
    bad = planted(place)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with place.begun("bisect", SCENARIO, "--good", "good", env={"TMPDIR": str(temporary)}) as process:
        until(lambda: len(searches(place)) == 1 and len(launches(place)) >= 5, within_s=100)
        workers = workers_of(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopped; what was measured is kept in reports/bisect/{searches(place)[0].name}" in err
    assert "go on with it: harness bisect --resume " in err
    assert all(is_gone(worker) for worker in workers)
    assert len(worktrees(place)) == 1
    assert list(temporary.iterdir()) == []
    kept = [(event["trial"], event["content"], event["run"]["pair"], event["run"]["arm"]) for event in launches(place)]
    ended = searched(place, "--resume", "latest", "--json")
    assert ended.code == 0, ended
    assert ended.summary["found"]["commit"]["hash"] == bad
    now = [(event["trial"], event["content"], event["run"]["pair"], event["run"]["arm"]) for event in launches(place)]
    assert now[: len(kept)] == kept
    whole = {key for key in kept if (*key[:3], "baseline") in kept and (*key[:3], "candidate") in kept}
    assert whole.isdisjoint(now[len(kept) :])


def test_documents_alone_measure_nothing(place):
    document(place, 1)
    document(place, 2)
    ended = place.harness("bisect", SCENARIO, "--good", "good")
    assert ended.code == 3
    assert f"{TRIAL} is made of the same at " in ended.out
    assert "2 commits, 1 different contents; 0 steps, 0 launch pairs" in ended.out


def test_a_metric_of_the_artifact_needs_no_launch(place):
    option(place, "latency_us: 300", "latency_us: 301", "Faster, they say")
    bad = option(place, "latency_us: 301", "latency_us: 301, size_bytes: 4096", "Keep the vocabulary")
    option(place, "latency_us: 301", "latency_us: 302", "Faster still")
    ended = place.harness("bisect", SCENARIO, "--good", "good", "--metric", "model_size", "--json")
    assert ended.code == 0, ended
    told = ended.summary
    assert told["found"]["commit"]["hash"] == bad
    assert told["found"]["effect"]["ratio"] == 4
    assert (told["outcome"], told["pairs"], told["contents"]) == ("FOUND", 0, 4)
    assert [step["answer"] for step in told["steps"]] == ["BAD", "GOOD"] or [step["answer"] for step in told["steps"]] == ["GOOD", "BAD"]
    assert json.loads((searches(place)[-1] / "bisection.json").read_text()) == told


def test_a_loss_of_accuracy_is_found_on_the_bad_commit_s_samples(place):
    option(place, "latency_us: 300", "latency_us: 301", "Faster, they say")
    bad = option(place, "latency_us: 301", "latency_us: 301, wrong: 0.3", "Round the weights")
    ended = place.harness("bisect", SCENARIO, "--good", "good", "--metric", "accuracy")
    assert ended.code == 0, ended
    assert ended.out.startswith(f"{bad[:12]} made accuracy of {TRIAL} worse: 100.00 % to ")


def test_a_commit_that_cannot_be_read_or_built_leaves_its_neighbour_suspect_too(place):
    option(place, "version: 1", "version: 7", "Break the scenario")
    place.replace(SCENARIO, "version: 7", "version: 1")
    bad = option(place, "latency_us: 300", "latency_us: 300, size_bytes: 4096", "Repair it, and keep the vocabulary")
    ended = place.harness("bisect", SCENARIO, "--good", "good", "--metric", "model_size")
    assert ended.code == 3
    assert ended.out.startswith("one of 2 commits made model_size worse: those between could not be built or measured\n")
    assert f"suspect   {bad[:12]} Repair it, and keep the vocabulary (user, " in ended.out


def test_a_metric_that_became_better_is_nothing_to_look_for(place):
    option(place, "latency_us: 300", "latency_us: 300, size_bytes: 512", "Smaller")
    ended = place.harness("bisect", SCENARIO, "--good", "good", "--metric", "model_size")
    assert ended.code == 3
    assert ended.out.startswith("model_size is better at ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a scenario and a commit before the change"),
        ([SCENARIO], "name a scenario and a commit before the change"),
        (["scenarios/none.yaml", "--good", "good"], "'scenarios/none.yaml' does not exist"),
        ([SCENARIO, "--good", "v9"], "--good v9: there is no such commit"),
        ([SCENARIO, "--good", "good", "--bad", "good"], "--good and --bad are the same commit"),
        ([SCENARIO, "--good", "good", "--metric", "latency_p5"], "unknown metric 'latency_p5'\n  did you mean 'latency_p95'?"),
        ([SCENARIO, "--good", "good", "--metric", "agreement"], "--metric agreement: it is told against a reference recipe"),
        ([SCENARIO, "--good", "good", "--only", "int8"], "no trial matches 'int8'"),
        ([SCENARIO, "--good", "good", "--budget", "soon"], "--budget: "),
        (["--resume", "latest", "--good", "good"], "--resume goes on with what was asked"),
        (["--resume", "2026"], "'2026' is not a run here"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_is_built(place, words, told):
    document(place, 1)
    ended = place.harness("bisect", *words)
    assert ended.code == 2, ended
    assert told in ended.err
    assert searches(place) == []
    assert len(worktrees(place)) == 1

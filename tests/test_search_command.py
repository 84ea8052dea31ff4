"""``harness search`` as a user types it, in a repository with a search space whose truth is known."""

import json
import signal

import jsonschema
import pytest
from fakes.workplaces import SCENARIO as TINY
from fakes.workplaces import is_gone, same_for_all, until, workers_of, workplace

from harness import plugins

SCENARIO = "scenarios/tiny.yaml"
SPACE = """\
reference: base
search:
  space:
    - runtime: {fake: {add_latency_us: {one_of: [100, 0, 300, fast]}}}
    - passes: [./worse.py]
      runtime: fake
"""
BASE = "{runtime: {fake: {add_latency_us: 300}}}"
WORSE = '''\
"""See Worse."""

import json
from dataclasses import replace
from typing import ClassVar

from harness.core.plugin import Options
from harness.core.artifact import AppliedStep
from harness.formats.files import digest_of, size_of


class Worse(Options):
    """Answers every tenth sample wrongly."""

    accepts: ClassVar[tuple[str, ...]] = ("fake",)
    produces: ClassVar[str] = "fake"
    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, artifact, context):
        main = context.folder / "model.json"
        main.write_text(json.dumps(json.loads((artifact.folder / artifact.main).read_text()) | {"wrong": 0.1}))
        steps = (*artifact.steps, AppliedStep("worse", ""))
        return replace(artifact, folder=context.folder, size_bytes=size_of([main]), sha256=digest_of([main]), steps=steps)


PLUGIN = Worse
'''
SUBJECT_TO = ("--subject-to", "accuracy drop at most 0.5 points")
BEST = "fake-add_latency_us0"


@pytest.fixture
def place(tmp_path, tmp_path_factory):
    made = workplace(
        tmp_path / "repository", tmp_path_factory.getbasetemp() / "search-cache", TINY.replace("{runtime: fake}", BASE) + SPACE
    )
    made.write("scenarios/worse.py", WORSE)
    made.commit("a search space")
    return made


def searches(place):
    return sorted((place.root / "reports" / "search").glob("2*"))


def launches(place):
    lines = (searches(place)[-1] / "launches.jsonl").read_text().split("\n")[:-1]
    return [event for line in lines if (event := json.loads(line))["kind"] == "launch"]


@pytest.mark.slow
def test_the_best_recipe_is_found_told_saved_and_written(place):
    ended = place.harness("search", SCENARIO, *SUBJECT_TO, "--write", "best")
    assert ended.code == 0, ended
    told = ended.out.splitlines()
    assert told[0].startswith(f"{BEST} is the best of 5 candidates: latency_p50 ×0.5")
    rows = {line.split()[1]: line for line in told if line[:1] in "12345-" and len(line.split()) > 1}
    assert "is made of the same as base" in rows["fake-add_latency_us300"]
    assert "'fast' is not a number" in rows["fake-fast"]
    assert "breaks 'accuracy: at most 0.5 points below base': 90." in rows["worse"]
    assert rows[BEST].startswith("1 ") and "the winner" in rows[BEST]

    run = searches(place)[-1]
    assert {path.name for path in run.iterdir()} >= {"search.json", "result.json", "report.html", "summary.json", "launches.jsonl"}
    assert json.loads((run / "search.json").read_text())["winner"] == BEST
    schema = json.loads((plugins.PACKAGE / "reports" / "result.schema.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(summary)
    assert {trial["recipe"] for trial in summary["trials"]} >= {"base", BEST, "worse"}
    assert not any('"trial":"tiny/worse' in line for line in (run / "launches.jsonl").read_text().splitlines())

    added = [line[1:] for line in place.git("diff", "--unified=0").splitlines()[5:]]
    assert added[0].startswith("  # harness search: latency_p50 ×0.5") and added[0].endswith(" of base")
    assert added[1:] == ["  best:", "    runtime: {fake: {add_latency_us: 0}}"]
    assert f"wrote {SCENARIO}:11 recipes.best; next: harness run {SCENARIO} --only 'best-*'" in told
    assert place.harness("validate", SCENARIO).code == 0

    again = place.harness("search", SCENARIO, "--write", "best")
    assert (again.code, again.out) == (2, "")
    assert f"{SCENARIO}:11 recipes.best: is there already\n  choose another name, or replace it with --force" in again.err
    assert len(searches(place)) == 1


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured_and_a_resumed_search_measures_only_what_is_missing(place):
    with place.begun("search", SCENARIO, *SUBJECT_TO) as process:
        until(lambda: len(searches(place)) == 1 and len(launches(place)) >= 5, within_s=100)
        workers = workers_of(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; what was measured is kept in reports/search/RUN\n  go on with it: harness search --resume " in same_for_all(err)
    assert all(is_gone(worker) for worker in workers)
    kept = [(event["trial"], event["content"], event["run"]["pair"], event["run"]["arm"]) for event in launches(place)]
    ended = place.harness("search", "--resume", "latest", "--json")
    assert ended.code == 0, ended
    assert ended.summary["winner"] == BEST
    now = [(event["trial"], event["content"], event["run"]["pair"], event["run"]["arm"]) for event in launches(place)]
    assert now[: len(kept)] == kept
    whole = {key for key in kept if (*key[:3], "baseline") in kept and (*key[:3], "candidate") in kept}
    assert whole.isdisjoint(now[len(kept) :])


def test_an_exact_objective_is_answered_without_a_launch(place):
    place.replace(SCENARIO, "add_latency_us: {one_of: [100, 0, 300, fast]}", "add_latency_us: {one_of: [1, 2]}")
    ended = place.harness("search", SCENARIO, "--objective", "model_size", *SUBJECT_TO, "--write", "small", "--json")
    assert ended.code == 3, ended
    assert ended.summary["outcome"] == "NONE_BETTER"
    assert "nothing is written: no candidate is shown to be better" in ended.err
    assert launches(place) == []
    assert "small:" not in place.read(SCENARIO)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "search: declares no search space\n  add one: search: {space: "),
        (("--objective", "latency"), "unknown metric 'latency'"),
        (("--subject-to", "accuracy at least 97 %"), "'accuracy at least 97 %' names no metric"),
        (("--budget", "soon"), "--budget: 'soon' is not a quantity"),
        (("--limit", "3"), "search.space: 4 + 1 = 5 candidates, 3 are allowed\n  take choices out, or allow more: --limit 5"),
        (("--set", "measure.batch_sizes=[1, 8]"), "choose one with --only, such as --only 'tiny/base-cpu-b1'"),
    ],
)
def test_a_wrong_request_is_told_and_leaves_nothing(place, words, told):
    if not words:
        place.write(SCENARIO, TINY)
    ended = place.harness("search", SCENARIO, *words)
    assert (ended.code, ended.out) == (2, ""), ended
    assert told in ended.err
    assert searches(place) == []


def test_without_a_scenario_there_is_nothing_to_search(place):
    ended = place.harness("search")
    assert ended.code == 2
    assert "name a scenario that declares a search space" in ended.err

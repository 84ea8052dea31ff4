"""``pytest --harness``: trials as test items. The gate itself is a fake here that tells what it was asked for."""

from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from fakes.workplaces import DATA, SCENARIO

from harness import pipeline
from harness.core.comparison import SlaFinding, SlaState, Verdict
from harness.core.errors import CannotMeasure, Interrupted
from harness.core.result import TrialState
from harness.core.units import Unit
from harness.engine.judge import decide
from harness.engine.trial_outcome import Ending, trial_outcome
from harness.pytest_plugin.work import has_workers

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "harness.pytest_plugin")
THREE = (
    "recipes:\n  base: {runtime: fake}\n  slow: {runtime: {fake: {add_latency_us: 9}}}\n  late: {runtime: {fake: {add_latency_us: 99}}}\n"
)


class FakeGate:
    """Stands in for ``pipeline.gate``: every trial that is asked for passes, but for those that were given an ending."""

    def __init__(self, results):
        self.results = results
        self.endings = {}
        self.requests = []
        self.error = None

    def __call__(self, request, progress):
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        names = request.only or ("tiny/base-cpu-b1", "tiny/slow-cpu-b1", "tiny/late-cpu-b1")
        trials, comparisons = [], []
        for name in names:
            recipe = name.removeprefix("tiny/").removesuffix("-cpu-b1")
            verdict = self.endings.get(recipe, Verdict.PASS)
            state = verdict if isinstance(verdict, TrialState) else TrialState.MEASURED
            told = None if isinstance(verdict, TrialState) else verdict
            reason = "needs 4096 cores: this machine has 2" if state is TrialState.SKIPPED else "its content differs"
            trials.append(self.results.trial(recipe, scenario="tiny", state=state, verdict=told, reason=reason, charts=False))
            if told in (Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.PASS):
                comparisons.append(self.results.comparison(name, verdict=told, reason="a larger --budget would tell"))
        decision = decide(trials, comparisons, (), None, strict=request.strict)
        return self.results.result(
            id=f"run-{len(self.requests)}",
            trials=tuple(trials),
            comparisons=tuple(comparisons),
            sla=(),
            null_control=None,
            notes=(),
            headline=decision.headline,
            verdict=decision.verdict,
            exit_code=decision.exit_code,
        )

    @property
    def asked_for(self):
        return [request.only for request in self.requests]


@pytest.fixture
def fake_gate(results, monkeypatch):
    made = FakeGate(results)
    monkeypatch.setattr(pipeline, "gate", made)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return made


@pytest.fixture
def project(pytester, fake_gate):
    """A project with one scenario of three recipes and an ordinary test."""
    head, _, tail = SCENARIO.partition("recipes:\n  base: {runtime: fake}\n")
    pytester.mkdir("scenarios")
    (pytester.path / "scenarios" / "tiny.yaml").write_text(head + THREE + tail)
    (pytester.path / "scenarios" / "data.py").write_text(DATA)
    pytester.makepyfile(test_other="def test_other(): pass")
    pytester.makeini("[pytest]\nfilterwarnings = default\n")
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess(*PLUGIN, *arguments)


def test_every_trial_is_an_item_by_its_name_and_nothing_is_measured_to_list_them(project, fake_gate):
    listed = run(project, "--harness", "scenarios", "--collect-only", "-q").outlines[:3]
    assert listed == [f"scenarios/tiny.yaml::{name}-cpu-b1" for name in ("base", "slow", "late")]
    assert fake_gate.requests == []


def test_all_selected_trials_are_one_job_and_one_report(project, fake_gate):
    ended = run(project, "--harness", "scenarios")
    ended.assert_outcomes(passed=3)
    (request,) = fake_gate.requests
    assert request.only == () and request.command == "gate scenarios/tiny.yaml"
    assert [path.name for path in request.paths] == ["tiny.yaml"]
    ended.stdout.fnmatch_lines(["*= harness =*", "PASS: 3 metrics within their tolerances", "report: reports/run-1/report.html"])


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (("--harness", "scenarios", "-k", "slow or late"), ("slow", "late")),
        (("--harness", "scenarios/tiny.yaml::slow-cpu-b1"), ("slow",)),
        (("--harness", "scenarios", "--deselect", "scenarios/tiny.yaml::base-cpu-b1"), ("slow", "late")),
    ],
    ids=["by -k", "by node", "by --deselect"],
)
def test_what_is_not_selected_is_not_measured(project, fake_gate, arguments, chosen):
    run(project, *arguments).assert_outcomes(passed=len(chosen), deselected=0 if "::" in arguments[1] else 3 - len(chosen))
    assert fake_gate.asked_for == [tuple(f"tiny/{name}-cpu-b1" for name in chosen)]
    assert fake_gate.requests[0].command.startswith("gate scenarios/tiny.yaml --only tiny/slow-cpu-b1")


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--stepwise"])
def test_where_the_first_failure_ends_the_run_trials_are_measured_one_by_one(project, fake_gate, option):
    fake_gate.endings = {"slow": Verdict.REGRESSED}
    run(project, "--harness", "scenarios", option).assert_outcomes(passed=1, failed=1)
    assert fake_gate.asked_for == [("tiny/base-cpu-b1",), ("tiny/slow-cpu-b1",)]


def test_scenarios_are_alone_where_no_tests_are_named_and_beside_them_where_they_are(project):
    run(project, "--harness", "scenarios").assert_outcomes(passed=3)
    run(project, "--harness", "scenarios", "test_other.py").assert_outcomes(passed=4)
    run(project).assert_outcomes(passed=1)
    run(project, "--harness", "scenarios", "test_other.py", "-m", "not harness").assert_outcomes(passed=1, deselected=3)


def test_the_ini_file_names_scenarios_for_runs_that_name_nothing(project, fake_gate):
    project.makeini(
        "[pytest]\nharness_paths = scenarios\nharness_budget = 2 min\nharness_strict = true\nharness_new_baselines = accept\n"
        "harness_reports = out\n"
    )
    run(project).assert_outcomes(passed=4)
    run(project, "test_other.py").assert_outcomes(passed=1)
    run(project, "scenarios/tiny.yaml::late-cpu-b1", "--harness-budget", "5 s").assert_outcomes(passed=1)
    first, second = fake_gate.requests
    assert (first.budget_s, first.strict, first.accept_new, first.reports.name) == (120.0, True, True, "out")
    assert (second.budget_s, second.only) == (5.0, ("tiny/late-cpu-b1",))


def test_a_regression_is_a_failure_whose_text_says_all_that_matters(project, fake_gate):
    fake_gate.endings = {"slow": Verdict.REGRESSED}
    ended = run(project, "--harness", "scenarios", "--junitxml=junit.xml")
    ended.assert_outcomes(passed=2, failed=1)
    ended.stdout.fnmatch_lines(
        [
            "*_ tiny/slow-cpu-b1 _*",
            "REGRESSED: 1 metric regressed",
            "latency_p50 of tiny/slow-cpu-b1 went from 2.51 ms to 2.64 ms: ×1.051 (99 % interval 1.038 to 1.064), tolerance 2 %: REGRESSED",
            "Look first at latency_p50 of tiny/slow-cpu-b1 (+5.1 %).*",
            "report: reports/run-1/report.html",
            "*= harness =*",
            "FAILED scenarios/tiny.yaml::slow-cpu-b1*",
        ]
    )
    cases = {case.get("name"): case for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")}
    assert "REGRESSED: 1 metric regressed" in cases["slow-cpu-b1"].find("failure").get("message")
    numbers = {one.get("name"): one.get("value") for one in cases["slow-cpu-b1"].iter("property")}
    assert (numbers["harness_verdict"], numbers["latency_p50_ratio"]) == ("REGRESSED", "1.051")
    assert float(numbers["latency_p50_ns"]) > 0 and numbers["model_size_bytes"] == "24000000.0"
    assert cases["base-cpu-b1"].find("failure") is None


def test_what_could_not_be_measured_is_an_error_and_another_machines_trial_is_skipped(project, fake_gate):
    fake_gate.endings = {"base": Verdict.INVALID, "slow": TrialState.SKIPPED}
    ended = run(project, "--harness", "scenarios", "-rs")
    ended.assert_outcomes(errors=1, skipped=1, passed=1)
    ended.stdout.fnmatch_lines(["*ERROR at setup of tiny/base-cpu-b1*", "tiny/base-cpu-b1 MEASURED: its content differs"])
    ended.stdout.fnmatch_lines(["SKIPPED * needs 4096 cores: this machine has 2"])


def test_a_job_that_cannot_be_done_is_one_error_for_each_of_its_trials_and_is_not_tried_again(project, fake_gate):
    fake_gate.error = CannotMeasure("the disk is full", hint="make room")
    ended = run(project, "--harness", "scenarios")
    ended.assert_outcomes(errors=3)
    ended.stdout.fnmatch_lines(["tiny/base-cpu-b1 could not be measured: the disk is full", "  make room"])
    assert len(fake_gate.requests) == 1


def test_what_is_not_decided_passes_with_a_warning_unless_it_is_strict(project, fake_gate):
    fake_gate.endings = {"slow": Verdict.INCONCLUSIVE}
    ended = run(project, "--harness", "scenarios")
    ended.assert_outcomes(passed=3)
    ended.stdout.fnmatch_lines(["*HarnessWarning: latency_p50 of tiny/slow-cpu-b1 *: INCONCLUSIVE; a larger --harness-budget would tell"])
    run(project, "--harness", "scenarios", "--harness-strict").assert_outcomes(passed=2, errors=1)


def test_ctrl_c_ends_the_run_and_says_how_to_go_on(project, fake_gate):
    fake_gate.error = Interrupted("stopped; what was measured is kept in reports/run-1", hint="go on with it: harness gate --resume run-1")
    ended = run(project, "--harness", "scenarios")
    assert ended.ret == pytest.ExitCode.INTERRUPTED
    ended.stdout.fnmatch_lines(["*stopped; what was measured is kept in reports/run-1*"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--harness", "nowhere"), "*nowhere*"),
        (("--harness", "scenarios", "--harness-budget", "soon"), "*--harness-budget: *soon*"),
        (("--harness", "scenarios", "--harness-against", "v0"), "*--against v0: there is no such commit*"),
        (("--harness", "scenarios", "--harness-against", "main", "--harness-new-baselines", "accept"), "*no baseline to accept*"),
        (("-o", "harness_new_baselines=perhaps", "--harness", "scenarios"), "*harness_new_baselines is 'accept' or 'fail', not 'perhaps'*"),
        (("--harness", "scenarios/tiny.yaml::fast-cpu-b1"), "*not found: *tiny.yaml::fast-cpu-b1*"),
    ],
    ids=["path", "budget", "ref", "accept", "ini", "trial"],
)
def test_what_is_wrong_on_the_command_line_ends_pytest_before_anything_is_measured(project, fake_gate, arguments, told):
    ended = run(project, *arguments)
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines([told])
    assert fake_gate.requests == []


def test_a_scenario_that_is_wrong_is_told_with_its_line(project):
    path = project.path / "scenarios" / "tiny.yaml"
    path.write_text(path.read_text().replace("runtime: fake}", "runtime: fate}"))
    ended = run(project, "--harness", "scenarios")
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines(["ERROR: scenarios/tiny.yaml:9 recipes.base.runtime: unknown runtime 'fate'", "*did you mean 'fake'?*"])


WITH_WORKERS = """
def pytest_addoption(parser):
    parser.addoption("--numprocesses", type=int)
"""
"""What pytest-xdist tells other plugins."""


def test_beside_the_workers_of_xdist_scenarios_and_the_fixture_are_refused_and_other_tests_are_not(project, fake_gate):
    (project.path / "xdist_like.py").write_text(WITH_WORKERS)
    project.makepyfile(test_speed="def test_speed(gate): gate(int)")
    project.syspathinsert()
    beside = ("-p", "xdist_like", "--numprocesses=2")
    refused = run(project, *beside, "--harness", "scenarios")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: performance cannot be measured beside the workers of pytest-xdist*"])
    ended = run(project, *beside, "test_other.py", "test_speed.py")
    ended.assert_outcomes(passed=1, errors=1)
    ended.stdout.fnmatch_lines(["performance cannot be measured beside the workers of pytest-xdist*"])
    run(project, "-p", "xdist_like", "--numprocesses=0", "--harness", "scenarios").assert_outcomes(passed=3)
    assert len(fake_gate.requests) == 1


def test_a_worker_of_xdist_knows_that_it_is_one():
    config = SimpleNamespace(getoption=lambda name, default=None: default)
    assert not has_workers(config)
    config.workerinput = {"workerid": "gw0"}
    assert has_workers(config)


def test_a_broken_promise_fails_a_trial_that_did_not_change_and_an_unproven_one_is_told(results):
    def finding(state):
        return SlaFinding("tiny/base-cpu-b1", "latency_p99", "latency_p99: at most 1 ms", Unit.NANOSECONDS, 2e6, 2e6, 1e6, state, "why")

    record = results.trial("base", scenario="tiny", state=TrialState.UNCHANGED, verdict=Verdict.PASS)
    for state, ending, strict in (
        (SlaState.BROKEN, Ending.FAILED, False),
        (SlaState.UNPROVEN, Ending.PASSED, False),
        (SlaState.UNPROVEN, Ending.ERROR, True),
        (SlaState.KEPT, Ending.PASSED, True),
    ):
        run = results.result(trials=(record,), comparisons=(), sla=(finding(state),), null_control=None)
        found = trial_outcome(run, record.id, strict=strict)
        assert found.ending is ending
        assert (found.warning is not None) == (state is SlaState.UNPROVEN and not strict)
        assert (f": {state}" in found.text) == (ending is not Ending.PASSED)


def test_a_trial_is_told_without_the_others(results):
    run = results.result()
    found = trial_outcome(run, "digits-resnet50/pruned-cpu-b8", strict=False)
    assert found.ending is Ending.ERROR
    assert "size mismatch for fc.weight" in found.text and "int8" not in found.text
    with pytest.raises(KeyError):
        trial_outcome(run, "digits-resnet50/none-cpu-b1", strict=False)

"""The ``gate`` fixture: callables of a project that has never heard of this repository, compared with an earlier commit or side by side."""

import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes.workplaces import Workplace

from harness.core.comparison import Verdict
from harness.core.errors import BadInput
from harness.core.measurement import Failure, FailureReason
from harness.core.scenario import MeasureSpec
from harness.engine import gate_callables as engine
from harness.engine import protocol
from harness.engine.callable_base import choose_base, import_roots, python_path
from harness.engine.contest import Contest
from harness.engine.launcher import Launcher
from harness.engine.procedure import Procedure
from harness.engine.run_test_again import PytestLauncher, Side, TestCall, command_of
from harness.engine.serve_callable import NOTHING_THERE, Duty, is_of_project, why_not_fit
from harness.engine.workers import Seat, Worker, WorkerFailed

PLUGIN = ("-p", "harness.pytest_plugin")
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": "default"}
"""Plugins that happen to be installed here would be imported by every launch."""
SHOP = """\
UNITS = 20_000


def work(units):
    total = 0
    for number in range(units):
        total += number * number % 7
    return total


def answer():
    return work(UNITS)
"""
TESTS = """\
import pytest
from shop import answer, work


def test_answer(gate):
    gate(answer, tolerance="5 %", duration="100 ms")


def test_two(gate):
    gate(lambda: work(30_000), baseline=lambda: work(20_000), tolerance="5 %", duration="100 ms")


def test_without():
    pass


@pytest.mark.skip(reason="not on this machine")
def test_skipped(gate):
    gate(answer)


@pytest.mark.parametrize("size", ["[a::b]"])
def test_broken(gate, size):
    raise ValueError(f"no {size} here")
"""


@pytest.fixture
def place(tmp_path):
    """A repository with a package and its tests, committed on main."""
    made = Workplace(tmp_path / "repository", tmp_path / "cache")
    made.write("shop/__init__.py", SHOP)
    made.write("tests/test_speed.py", TESTS)
    made.write("pytest.ini", "[pytest]\npythonpath = .\n")
    made.write(".gitignore", "__pycache__/\n.pytest_cache/\n*.xml\n")
    made.git("init", "--quiet", "--initial-branch=main", ".")
    made.commit()
    return made


def run(place, *arguments):
    return place.harness(*PLUGIN, *arguments, env=ALONE, program=("-m", "pytest"))


def test_where_nothing_has_changed_a_callable_runs_once_and_its_latency_is_told(place):
    ended = run(place, "-k", "test_answer", "-W", "error")
    assert ended.code == 0
    assert "tests/test_speed.py::test_answer: latency_p50 " in ended.out
    assert "; UNCHANGED: the work tree is that of HEAD (" in ended.out


def test_outside_version_control_nothing_is_decided_and_a_strict_run_does_not_take_that_for_a_pass(place):
    (place.root / ".git").rename(place.root / "not-git")
    ended = run(place, "-k", "test_answer", "--junitxml=found.xml")
    assert ended.code == 0
    assert "HarnessWarning: tests/test_speed.py::test_answer: latency_p50 " in ended.out
    assert f"compared with nothing: {place.root} is under no version control" in ended.out
    (number,) = ElementTree.parse(place.root / "found.xml").iter("property")
    assert number.get("name") == "latency_p50_ns" and float(number.get("value")) > 0
    assert run(place, "-k", "test_answer", "--harness-strict").code == 1


def test_a_test_that_the_commit_does_not_have_is_new(place):
    place.write("tests/test_more.py", "from shop import answer\n\n\ndef test_more(gate):\n    gate(answer)\n")
    ended = run(place, "tests/test_more.py", "-W", "error")
    assert ended.code == 0
    assert "; NEW: HEAD (" in ended.out and "has no such call (the test is not there)" in ended.out


def test_what_raises_raises_in_the_test_itself(place):
    place.replace("shop/__init__.py", "    return work(UNITS)", "    raise KeyError('no such weights')")
    ended = run(place, "-k", "test_answer")
    assert ended.code == 1
    assert "KeyError: 'no such weights'" in ended.out and "shop/__init__.py:12: KeyError" in ended.out


@pytest.mark.slow
def test_a_slowdown_since_the_commit_is_red_with_all_that_it_rests_on_and_its_worktree_is_gone(place):
    place.git("tag", "base")
    place.replace("shop/__init__.py", "20_000", "30_000")
    place.commit()
    ended = run(place, "-k", "test_answer", "--harness-against", "base", "--junitxml=found.xml")
    assert ended.code == 1
    assert "E       Failed: latency_p50 of tests/test_speed.py::test_answer went from " in ended.out
    assert "tolerance 5 %: REGRESSED" in ended.out and "compared with base (" in ended.out
    assert '>       gate(answer, tolerance="5 %", duration="100 ms")' in ended.out
    names = {one.get("name"): one.get("value") for one in ElementTree.parse(place.root / "found.xml").iter("property")}
    assert names["harness_verdict"] == "REGRESSED" and 1.2 < float(names["latency_p50_ratio"]) < 2
    assert len(place.git("worktree", "list").splitlines()) == 1
    assert place.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_what_does_the_same_in_other_words_is_green(place):
    place.replace("shop/__init__.py", "    return work(UNITS)", "    found = work(UNITS)\n    return found")
    ended = run(place, "-k", "test_answer")
    assert ended.code == 0
    assert ": REGRESSED" not in ended.out and ": INVALID" not in ended.out
    assert "latency_p50 of tests/test_speed.py::test_answer" in ended.out


@pytest.mark.slow
def test_two_callables_are_compared_side_by_side_also_outside_version_control(place):
    (place.root / ".git").rename(place.root / "not-git")
    ended = run(place, "-k", "test_two")
    assert ended.code == 1
    assert "tolerance 5 %: REGRESSED" in ended.out and "compared with its 'baseline='" in ended.out


# Processes that serve


def ask(place, name, side="candidate", call=0, tree=None):
    """What a process that is started for a test answers first."""
    test = TestCall(place.root.resolve(), place.root.resolve() / "tests/test_speed.py", name, place.root.resolve(), PLUGIN, call)
    tree = test.project if tree is None else tree.resolve()
    launcher = PytestLauncher(False, test=test, sides={"here": Side(tree, side)}, scratch=place.cache, roots=(test.project,))
    subject = engine._subject("here")
    seat = Seat("baseline", subject.cores, 1, place.cache / "log")
    (start,) = launcher.starts({"baseline": subject}, {"baseline": seat}).values()
    with Worker(seat, start) as worker:
        return worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=60)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("test_without", f"{NOTHING_THERE}has no such call (the test does not call 'gate' there)"),
        ("test_gone", f"{NOTHING_THERE}has no such call (the test is not there)"),
        ("test_skipped", f"{NOTHING_THERE}does not measure it (it is skipped: not on this machine)"),
        ("test_broken[[a::b]]", "the test fails there before it comes to 'gate' (call): ValueError: no [a::b] here"),
    ],
)
def test_a_process_that_does_not_come_to_the_call_says_why(place, monkeypatch, name, told):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    with pytest.raises(WorkerFailed) as caught:
        ask(place, name)
    assert caught.value.failure.message == told


def test_a_process_whose_test_cannot_be_imported_is_not_taken_for_one_that_has_no_test(place, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    place.replace("tests/test_speed.py", "from shop import answer", "from shop import quick, answer")
    with pytest.raises(WorkerFailed, match="cannot be collected there: ImportError: cannot import name 'quick' from 'shop'"):
        ask(place, "test_answer")


def test_a_process_that_comes_to_the_call_serves_it(place, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert ask(place, "test_two", "baseline") == protocol.Done()
    with pytest.raises(WorkerFailed, match="this call has no 'baseline='"):
        ask(place, "test_answer", "baseline")
    with pytest.raises(WorkerFailed, match="does not call 'gate' there"):
        ask(place, "test_answer", call=1)


def test_code_of_the_work_tree_is_never_served_as_that_of_the_commit(place, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    tree = tmp_path / "tree"
    place.git("worktree", "add", "--detach", str(tree))
    assert ask(place, "test_answer", tree=tree) == protocol.Done()
    conftest = f"import sys\nsys.path.insert(0, {str(place.root)!r})\nimport shop\n"
    (tree / "conftest.py").write_text(conftest)
    (tree / "pytest.ini").write_text("[pytest]\n")
    with pytest.raises(WorkerFailed, match=r"'shop' was imported from .*, not from the commit that is compared with"):
        ask(place, "test_answer", tree=tree)


def test_a_process_that_is_traced_is_not_fit_to_serve():
    duty = Duty(0, "test_a.py::test_a", 0, "candidate")
    before = sys.gettrace()
    try:
        sys.settrace(None)
        assert why_not_fit(duty) is None
        sys.settrace(lambda frame, event, argument: None)
        assert why_not_fit(duty).startswith("a tracer (coverage, a debugger) watches every line")
    finally:
        sys.settrace(before)


# What is compared with


def test_a_branch_is_compared_with_where_it_left_main_and_main_with_its_last_commit(place):
    root, first = place.root, place.git("rev-parse", "HEAD")
    assert choose_base(root, None).unchanged
    place.write("notes.txt", "changed")
    base = choose_base(root, None)
    assert (base.ref.told, base.unchanged) == (f"HEAD ({first[:12]})", False)
    place.git("checkout", "--quiet", "-b", "work")
    place.commit()
    place.git("checkout", "--quiet", "main")
    place.git("commit", "--quiet", "--allow-empty", "--message", "main goes on")
    place.git("checkout", "--quiet", "work")
    assert choose_base(root, None).ref.told == f"main ({first[:12]})"
    assert choose_base(root, "work").unchanged
    with pytest.raises(BadInput, match="--against nowhere"):
        choose_base(root, "nowhere")


def test_where_no_commit_can_be_found_it_says_why(place, tmp_path):
    assert "under no version control" in choose_base(tmp_path, None).why
    place.git("branch", "--move", "main", "trunk")
    assert choose_base(place.root, None).why == (
        "there is no default branch (origin/HEAD, origin/main, origin/master, main, master) to compare with"
    )


def test_packages_that_are_installed_inside_the_project_are_not_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert is_of_project(tmp_path / "shop/__init__.py", tmp_path)
    assert not is_of_project(tmp_path / ".venv/bin", tmp_path)
    assert not is_of_project(tmp_path / "env/lib/site-packages/x.py", tmp_path)
    assert not is_of_project(tmp_path.parent / "other.py", tmp_path)


def test_a_package_that_only_a_finder_knows_is_imported_from_the_other_tree_too(tmp_path, monkeypatch):
    project, tree = tmp_path / "project", tmp_path / "tree"
    module = type(sys)("shop.parts.door")
    module.__file__ = str(project / "src/shop/parts/door.py")
    monkeypatch.setitem(sys.modules, "shop.parts.door", module)
    monkeypatch.syspath_prepend(project / "tests")
    roots = import_roots(project)
    assert roots == [project / "tests", project / "src"]
    found = python_path(roots, project, tree, f"{project / 'src'}:/elsewhere")
    assert found == f"{tree / 'tests'}:{tree / 'src'}:/elsewhere"


def test_a_test_is_run_again_as_pytest_was_started_with_the_paths_of_its_side(tmp_path):
    project, tree = tmp_path / "project", tmp_path / "tree"
    arguments = (f"{project}/tests", "--model=small", "-k", "")
    test = TestCall(project, project / "tests/test_a.py", "test_a[x]", project, arguments, 1)
    seat = Seat("baseline", (0, 1), 2, tmp_path / "log")
    command = command_of(test, Side(tree, "candidate"), seat, tmp_path / "scratch", 7)
    assert command[4:9] == ["0,1", f"{tree}/tests", "--model=small", "-k", ""]
    assert f'"node":"{tree}/tests/test_a.py::test_a[x]","call":1,"side":"candidate","not_from":"{project}"' in command[-1]
    assert test.told == "tests/test_a.py::test_a[x] (call 2)"


# Outcomes


@pytest.mark.parametrize(
    ("tolerance", "floor", "told"),
    [
        ("much", None, "'much' is not a quantity"),
        ("1 ms", None, "a tolerance is written in percent"),
        ("-3 %", None, "not negative"),
        (None, "3 %", "a time is needed"),
    ],
)
def test_a_tolerance_is_a_share_and_a_floor_a_time(tolerance, floor, told):
    with pytest.raises(BadInput, match=told):
        engine.rule_of(tolerance, floor)


def test_the_rule_of_a_call_is_that_of_the_median_with_what_is_said_otherwise():
    assert (engine.rule_of(None, None).tolerance, engine.rule_of(None, None).floor) == (0.02, 2000.0)
    assert (engine.rule_of("3 %", "500 ns").tolerance, engine.rule_of("3 %", "500 ns").floor) == (0.03, 500.0)


def contest(runs, truth=0.0):
    machine = runs.Machine(truth, runs.FakeClock())
    arms = {"baseline": runs.subject(), "candidate": runs.subject()}
    made = Contest("test_a", arms, [engine.rule_of(None, None)], Procedure(Path(), MeasureSpec(), {}, Launcher()), 0, "single_stream")
    return made, machine


@pytest.mark.parametrize(("truth", "verdict"), [(0.0, Verdict.PASS), (0.2, Verdict.REGRESSED), (-0.2, Verdict.IMPROVED)])
def test_a_contest_of_callables_is_decided_like_any_other(runs, monkeypatch, truth, verdict):
    made, machine = contest(runs, truth)
    monkeypatch.setattr("harness.engine.contest.launch", machine.launch)
    engine.screen_and_confirm([made], budget_s=1000, record=lambda trial, event: None, step=lambda text: None, clock=machine.clock)
    found = engine.outcome_of(made, "main (abc)")
    assert found.verdict is verdict and found.told.endswith(f"tolerance 2 %: {verdict}")
    assert found.because[1].startswith("compared with main (abc): ")
    assert engine.outcome_of(made, "main", null_red=True).verdict is (Verdict.INVALID if verdict is Verdict.REGRESSED else verdict)


def test_a_side_that_fails_is_no_regression_and_one_that_has_no_such_test_is_new(runs):
    made, _ = contest(runs)
    failed = partial(Failure, FailureReason.EXCEPTION)
    made.failure = failed("baseline, preload", f"{NOTHING_THERE}has no such call (the test is not there)")
    new = engine.outcome_of(made, "main")
    assert (new.verdict, new.reason) == (None, "NEW: main has no such call (the test is not there)")
    for stage, message in (("baseline, open", "MemoryError: no"), ("candidate, preload", f"{NOTHING_THERE}has no such call")):
        made.failure = failed(stage, message, "the traceback")
        found = engine.outcome_of(made, "main")
        assert found.verdict is Verdict.INVALID and stage in found.told and "the traceback" in found.told
    made.failure = None
    assert engine.outcome_of(made, "main").verdict is Verdict.INVALID

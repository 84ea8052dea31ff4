"""The ``gate`` fixture: callables of the user's own tests."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.comparison import Verdict
from harness.core.errors import HarnessError
from harness.engine.callable_base import choose_base
from harness.engine.callable_outcome import Outcome
from harness.engine.gate_callables import gate_callables, rule_of, times_of, without_opponent
from harness.engine.read_environment import git
from harness.engine.run_test_again import Side, TestCall
from harness.pytest_plugin.work import WORK, HarnessWarning, Work, in_pytest, shown

BUDGET_S = 180.0
"""A launch pair is two whole starts of pytest and of all that the test imports: dearer than one of a scenario."""
OTHER_CALLABLE = "its 'baseline='"
OFF = (
    ("junitxml", "--junitxml="),
    ("xdist", "-n0"),
    ("pytest_cov", "--no-cov"),
    ("timeout", "--timeout=0"),
    ("cacheprovider", "--last-failed-no-failures=all"),
)
"""What a process that serves slices must not do of what this one does, where the plugin is there: write its files, start workers, trace
lines, be ended, leave its only test out."""


class Gate:
    """Compares a callable with what it was at an earlier commit, or with another callable, and fails the test where it is slower."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._calls = 0

    def __call__(
        self,
        candidate: Callable[[], object],
        *,
        baseline: Callable[[], object] | None = None,
        tolerance: str | None = None,
        floor: str | None = None,
        duration: str | None = None,
        budget: str | None = None,
    ) -> Outcome:
        """What came of it, where it was not slower.

        ``tolerance``: how much slower the median call may become (2 %). ``floor``: the smallest change that counts (2 µs). ``duration``:
        what is measured of each launch (0.5 s). ``budget``: what all launch pairs may take (180 s; a clear answer ends it).
        """
        __tracebackhide__ = True
        work = self._item.config.stash[WORK]
        number, self._calls = self._calls, self._calls + 1
        candidate()  # what raises does so here, in the test itself
        if baseline is not None:
            baseline()
        try:
            outcome = self._compare(work, number, candidate, baseline, (tolerance, floor, duration, budget))
        except HarnessError as error:
            pytest.fail(f"{self._item.nodeid} could not be measured: {error}")
        return self._tell(work, outcome, number)

    def _compare(
        self,
        work: Work,
        number: int,
        candidate: Callable[[], object],
        baseline: Callable[[], object] | None,
        options: tuple[str | None, str | None, str | None, str | None],
    ) -> Outcome:
        from harness.commands.duration import seconds_of

        tolerance, floor, duration, budget = options
        rule = rule_of(tolerance, floor)
        times = times_of(None if duration is None else seconds_of(duration, "gate(duration=...)"))
        budget_s = work.budget_s or BUDGET_S if budget is None else seconds_of(budget, "gate(budget=...)")
        test = _test_call(self._item, number)
        if baseline is not None:
            compared_with = OTHER_CALLABLE
            sides = {name: Side(test.project, name) for name in ("baseline", "candidate")}
        else:
            base = choose_base(test.project, work.against)
            if base.ref is None or not test.file.is_relative_to(test.project):
                return without_opponent(test, candidate, f"compared with nothing: {base.why or 'the test lies outside the project'}")
            compared_with = base.ref.told
            if base.unchanged:
                return without_opponent(test, candidate, f"UNCHANGED: the work tree is that of {compared_with}", compared_with)
            tree = work.worktrees_of(test.project).at(base.ref.commit)
            sides = {"baseline": Side(tree, "candidate"), "candidate": Side(test.project, "candidate")}
        with shown(work.config) as progress, tempfile.TemporaryDirectory(prefix="harness-gate-", ignore_cleanup_errors=True) as scratch:
            progress.phase("Measuring", 1)
            outcome = gate_callables(test, sides, rule, compared_with, Path(scratch), budget_s=budget_s, times=times, step=progress.step)
        if outcome.verdict is None:
            return without_opponent(test, candidate, outcome.reason, compared_with)
        return outcome

    def _tell(self, work: Work, outcome: Outcome, number: int) -> Outcome:
        """Keep it for the summary and the JUnit file; fail or warn."""
        __tracebackhide__ = True
        work.calls.append(outcome)
        suffix = f"_{number + 1}" if number else ""
        self._item.user_properties += [(f"{name}{suffix}", value) for name, value in outcome.properties]
        text = in_pytest("\n".join([outcome.told, *outcome.because]))
        undecided = outcome.verdict is Verdict.INCONCLUSIVE or outcome.compared_with is None
        if outcome.verdict in (Verdict.REGRESSED, Verdict.INVALID) or (undecided and work.strict):
            pytest.fail(text)
        if undecided:
            self._item.warn(HarnessWarning(text))
        return outcome


def _test_call(item: pytest.Item, number: int) -> TestCall:
    config = item.config
    top = git(item.path.parent, "rev-parse", "--show-toplevel")
    project = config.rootpath.resolve() if top is None else Path(top).resolve()
    off = [argument for plugin, argument in OFF if config.pluginmanager.hasplugin(plugin)]
    manager = config.pluginmanager
    ours = ["-p", "harness.pytest_plugin"] if manager.hasplugin("harness.pytest_plugin") else []  # else it is found by its entry point
    return TestCall(
        project=project,
        file=item.path.resolve(),
        name=item.nodeid.partition("::")[2],
        folder=config.invocation_params.dir.resolve(),
        arguments=(*map(str, config.invocation_params.args), *ours, "-k", "", "-m", "", *off),
        call=number,
    )

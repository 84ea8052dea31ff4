"""The pytest plugin: trials of scenarios as test items (``pytest --harness scenarios/``), and the ``gate`` fixture for callables.

Hooks alone: everything else is imported when it is needed, for this is loaded by every pytest run in an environment that has harness.
How to use it is in docs/pytest.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from harness.core.errors import BadInput
from harness.pytest_plugin.work import NOT_BESIDE_WORKERS, WORK, HarnessWarning, Work, has_workers, in_pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.callables import Gate
    from harness.pytest_plugin.duty import ServingGate
    from harness.pytest_plugin.trials import ScenarioItems

__all__ = ["HarnessWarning", "gate"]
NEW_BASELINES = ("accept", "fail")
MARKER = "harness: a trial of a performance scenario, or a test that uses the 'gate' fixture"
TEXTS = {
    "against": ("REF", "Compare with this commit or branch: trials in place of accepted baselines, and what 'gate' is called with."),
    "budget": ("TIME", "What the launch pairs of one trial (default: 60 s), or of one call of 'gate' (default: 180 s), may take."),
    "reports": ("DIR", "Where runs are saved, relative to pytest's root folder (default: reports)."),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "performance gate (harness)")
    told = "Gate the trials of this scenario, or of those in this folder; PATH::TRIAL for one of them. May be given several times."
    group.addoption("--harness", action="append", default=[], metavar="PATH", help=told)
    parser.addini("harness_paths", "Scenarios that are gated where the command line names no tests.", type="paths")
    for name, (metavar, told) in TEXTS.items():
        group.addoption(f"--harness-{name}", metavar=metavar, help=told)
        parser.addini(f"harness_{name}", told)
    told = "What to do with trials that have no baseline (default: fail)."
    group.addoption("--harness-new-baselines", choices=NEW_BASELINES, help=told)
    parser.addini("harness_new_baselines", told)
    told = "Count what is not decided (INCONCLUSIVE, UNPROVEN, UNMEASURED, compared with nothing) as an error."
    group.addoption("--harness-strict", action="store_true", help=told)
    parser.addini("harness_strict", told, type="bool", default=False)
    group.addoption("--harness-duty", help=argparse.SUPPRESS)  # of processes that 'gate' starts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    work = config.stash[WORK] = Work(config)
    config.add_cleanup(work.resources.close)
    try:
        if (duty := config.getoption("harness_duty")) is not None:
            from harness.pytest_plugin.duty import take_up

            take_up(work, duty)
            return
        _read_options(work)
        _add_scenarios(work)
    except BadInput as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> str | None:
    work = config.stash[WORK]
    if not work.files:
        return None
    number = len(work.files)
    opponent = "accepted baselines" if work.against is None else work.against
    return f"harness: {number} {'scenario' if number == 1 else 'scenarios'}, compared with {opponent}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioItems | None:
    files = parent.config.stash[WORK].files
    if not files or (file := files.get(file_path.resolve())) is None:
        return None
    from harness.pytest_plugin.trials import ScenarioItems

    collector = ScenarioItems.from_parent(parent, path=file_path)
    collector.scenario = file
    return collector


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before -m chooses: tests that measure can be told apart by their marker."""
    for item in items:
        if "gate" in getattr(item, "fixturenames", ()) and _is_ours(item):
            item.add_marker("harness")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    work = config.stash[WORK]
    if not work.runs and not work.calls:
        return
    from harness.core.result import TrialState
    from harness.core.wording import NOTHING_TO_DO, next_steps

    terminalreporter.section("harness")
    for run in work.runs:
        terminalreporter.line(run.headline)
        for step in next_steps(run):
            if step != NOTHING_TO_DO:
                terminalreporter.line(f"  {in_pytest(step)}")
        new = sum(trial.state is TrialState.NEW and trial.material is not None for trial in run.trials) if work.accept_new else 0
        if new:
            terminalreporter.line(f"  wrote the first baselines of {new} {'trial' if new == 1 else 'trials'} under baselines/: commit them")
        terminalreporter.line(f"report: {work.report_of(run)}")
    for outcome in work.calls:
        terminalreporter.line(outcome.told)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Gate | ServingGate:
    """Fails where a callable has become slower: gate(lambda: model(x), tolerance="3 %"), or gate(new, baseline=old); see docs/pytest.md."""
    duty = request.config.stash[WORK].duty
    if duty is not None:
        from harness.pytest_plugin.duty import ServingGate

        return ServingGate(duty)
    if has_workers(request.config):
        pytest.fail(NOT_BESIDE_WORKERS, pytrace=False)
    from harness.pytest_plugin.callables import Gate

    return Gate(request.node)


def _option(config: pytest.Config, name: str) -> str | None:
    """As the command line gives it, else the ini file."""
    given = config.getoption(f"harness_{name}")
    return cast("str | None", given if given is not None else config.getini(f"harness_{name}") or None)


def _read_options(work: Work) -> None:
    config = work.config
    work.against = _option(config, "against")
    work.strict = bool(config.getoption("harness_strict") or config.getini("harness_strict"))
    work.reports = config.rootpath / (_option(config, "reports") or "reports")
    if (budget := _option(config, "budget")) is not None:
        from harness.commands.duration import seconds_of

        work.budget_s = seconds_of(budget, "--harness-budget")
    if (new := _option(config, "new_baselines")) is not None:
        if new not in NEW_BASELINES:
            raise pytest.UsageError(f"harness_new_baselines is 'accept' or 'fail', not '{new}'")
        work.accept_new = new == "accept"
    if work.accept_new and work.against is not None:
        raise pytest.UsageError("--harness-against compares with a commit: there is no baseline to accept (--harness-new-baselines accept)")


def _add_scenarios(work: Work) -> None:
    """Those of the command line are collected in any case, and alone where it names no tests; those of the ini file where it names
    nothing. What is known and lies in a folder that is named is collected too."""
    config = work.config
    given = cast("list[str]", config.getoption("harness"))
    known = given or [str(path) for path in config.getini("harness_paths")]
    if not known:
        return
    from harness.engine.against import resolve
    from harness.engine.read_scenario import read_scenarios

    added: list[str] = []
    for text in known:
        path, *trial = text.split("::")
        files = {file.path.resolve(): file for file in read_scenarios((Path(path),))}
        work.files |= files
        added += ["::".join([str(file), *trial]) for file in files]
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    if given and not named:
        config.args = added
    elif given or not named:
        config.args = [*config.args, *added]
    places = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    wanted = [file for path, file in work.files.items() if any(path.is_relative_to(place) for place in places)]
    if wanted and has_workers(config):
        raise pytest.UsageError(NOT_BESIDE_WORKERS)
    if wanted and work.against is not None:
        resolve(wanted[0].root, work.against)


def _is_ours(item: pytest.Item) -> bool:
    """Whether the fixture 'gate' of a test is that of this plugin, and not one of its project's own."""
    found = getattr(item, "_fixtureinfo", None)
    definitions = [] if found is None else found.name2fixturedefs.get("gate", [])
    return bool(definitions) and definitions[-1].func.__module__ == __name__

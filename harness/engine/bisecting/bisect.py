"""``harness bisect`` from a question to an answer: read the line, compare its ends, halve it, confirm what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.core.bisection import Bisection, Commit, Effect, Found, Outcome, Step, Stretch
from harness.core.environment import environment_key
from harness.core.errors import BadInput, CannotMeasure, Interrupted, Problem
from harness.engine import toolchain
from harness.engine.bisecting import told
from harness.engine.bisecting.ask_exact import AskExact
from harness.engine.bisecting.ask_timed import AskTimed, Compared
from harness.engine.bisecting.build_commits import Workshop
from harness.engine.bisecting.explain_commit import changed_files, differences, operators
from harness.engine.bisecting.launch_pairs import PairPlace
from harness.engine.bisecting.line import commit_named, line_between
from harness.engine.bisecting.question import Question, new_folder
from harness.engine.bisecting.read_commits import Reader
from harness.engine.bisecting.search import Narrowed, most_steps, search
from harness.engine.build import Builder
from harness.engine.compare import FAMILY_ALPHA
from harness.engine.content import derive
from harness.engine.evaluate import metric_of
from harness.engine.launcher import Launcher
from harness.engine.make_plan import cores_of, threads_of
from harness.engine.procedure import Procedure
from harness.engine.read_environment import git, read_environment
from harness.engine.read_scenario import project_root
from harness.engine.rules import MEDIAN_QUERIES, Rule
from harness.engine.termination import termination_as_interrupt
from harness.engine.worktree import Worktrees
from harness.store.cache import Cache, cache_folder, cache_limit

if TYPE_CHECKING:
    from harness.core.environment import Environment
    from harness.core.plan import Trial
    from harness.core.progress import Progress
    from harness.store.runs import RunFolder

SAVED = "bisection.json"
OTHER_ANSWERS = 3
"""Besides the steps: that the ends differ, in either direction, and that what is found is worse than its parent."""
ENERGY = ("energy_per_inference", "power_mean")
"""They need slices as long as the device's counter of energy."""
TIMES = ("latency", "throughput", "device_time", "first_call")
"""The beginnings of what an operator profile explains."""


class _Asks(Protocol):
    """How commits are asked: by launches, or by one exact figure."""

    def ends(self, good: Commit, bad: Commit) -> Compared: ...
    def step(self, good: Stretch, asked: Stretch, bad: Stretch) -> Step: ...
    def confirm(self, parent: Commit, found: Commit) -> Compared: ...


@dataclass(frozen=True, slots=True)
class _Search:
    """A question that is understood: the line is read, and everything is at hand to ask."""

    line: tuple[Commit, ...]
    stretches: tuple[Stretch, ...]
    trial: Trial
    rule: Rule
    workshop: Workshop
    place: PairPlace
    asks: _Asks
    notes: tuple[str, ...]


def bisect(question: Question, progress: Progress) -> tuple[Bisection, Path]:
    """The answer and the folder where it is kept.

    Raises BadInput for a wrong question, CannotMeasure where an end cannot be read, built or measured, Interrupted on Ctrl-C and SIGTERM.
    """
    begin = time.monotonic()
    root = project_root(question.scenario)
    if git(root, "rev-parse", "--git-dir") is None:
        raise BadInput(Problem(f"{root} is not under version control: there are no commits to search"))
    line = line_between(root, commit_named(root, question.good, "--good"), commit_named(root, question.bad, "--bad"))
    rule = _rule_of(question.metric)
    environment = read_environment(root)
    with termination_as_interrupt(), Worktrees(root) as worktrees:
        folder = question.resume
        try:
            reader = _reader(question, root, worktrees, line[-1])
            trial = reader.chosen(line[-1].hash, environment, question.only)
            folder = folder or new_folder(question, line, trial)
            with _opened(question, reader, line, trial, rule, environment, folder, progress) as opened:
                found = replace(_answer(opened), pairs=opened.place.pairs, seconds=time.monotonic() - begin)
        except KeyboardInterrupt as error:
            kept = "nothing was measured yet" if folder is None else f"what was measured is kept in {folder.path}"
            raise Interrupted(f"stopped; {kept}", hint=None if folder is None else folder.how_to_go_on()) from error
    told.save(found, folder.path / SAVED)
    return found, folder.path


@contextmanager
def _opened(
    question: Question,
    reader: Reader,
    line: tuple[Commit, ...],
    trial: Trial,
    rule: Rule,
    environment: Environment,
    folder: RunFolder,
    progress: Progress,
) -> Iterator[_Search]:
    progress.phase("Bisecting", 1)
    progress.step(f"reading {len(line)} commits: {trial.id}")
    stretches = reader.stretches(line, trial)
    content = derive(reader.trial_at(line[-1].hash, trial), reader.toolchain).content
    key = environment_key(
        environment,
        cores=len(cores_of(trial.target)),
        threads=threads_of(trial.target),
        device=trial.target.device,
        packages=content.toolchain,
    )
    spec = trial.source.scenario.measure
    with Cache(cache_folder(), cache_limit()) as cache, Launcher() as launcher:
        workshop = Workshop(reader, Builder(cache, folder.logs, progress), trial)
        queries = max(MEDIAN_QUERIES, rule.plugin.queries) if rule.plugin.kind == "launch" else MEDIAN_QUERIES
        procedure = Procedure(folder.logs, spec, {}, launcher, queries, folder.path, rule.metric in ENERGY)
        resuming = question.resume is not None
        place = PairPlace(rule, procedure, folder, progress, key, trial.source.scenario.seed, resuming)
        alpha = FAMILY_ALPHA / (most_steps(stretches) + OTHER_ANSWERS)
        timed = rule.plugin.kind == "launch"
        asks: _Asks = AskTimed(trial.id, workshop, place, alpha, question.budget_s) if timed else AskExact(workshop, rule)
        yield _Search(line, stretches, trial, rule, workshop, place, asks, _notes(reader.worktrees.root, question, line, environment))


def _answer(search_: _Search) -> Bisection:
    line, stretches = search_.line, search_.stretches
    good, bad = line[0], line[-1]
    if stretches[0].content is None:
        raise CannotMeasure(f"the good commit {good.short} cannot be read: {stretches[0].reason}")
    if stretches[0].content == stretches[-1].content:
        headline = f"{search_.trial.id} is made of the same at {bad.short} as at {good.short}: nothing to measure"
        return _nothing_found(search_, headline, None)
    for name, commit in (("bad", bad), ("good", good)):
        try:
            search_.workshop.built(commit)
        except CannotMeasure as error:
            raise CannotMeasure(f"the {name} commit {commit.short} cannot be built: {error.message}") from error
    ends = search_.asks.ends(good, bad)
    if ends.effect is None:
        raise CannotMeasure(f"the ends {good.short} and {bad.short} cannot be measured: {ends.reason}")
    if not ends.worse:
        return _nothing_found(search_, told.no_difference(search_.rule, good, bad, ends), ends.effect)
    search_.place.progress.step(f"{told.effect_of(ends.effect)} from {good.short} to {bad.short}: up to {most_steps(stretches)} steps")

    def ask(low: Stretch, middle: Stretch, high: Stretch) -> Step:
        step = search_.asks.step(low, middle, high)
        search_.place.progress.step(told.step_line(step))
        return step

    left = search(stretches, ask)
    headline = told.several_headline(search_.rule, left)
    several = replace(_nothing_found(search_, headline, ends.effect), steps=left.steps, suspects=left.suspects)
    if len(left.suspects) > 1:
        notes = (*several.notes, *told.advice_on_undecided(left, search_.place.folder.path))
        return replace(several, outcome=Outcome.SEVERAL_LEFT, notes=notes)
    found, confirmed = _confirmed(search_, left)
    root = search_.workshop.reader.worktrees.root
    return replace(
        several,
        outcome=Outcome.FOUND if confirmed.worse else Outcome.NOT_CONFIRMED,
        headline=told.found_headline(search_.rule, search_.trial.id, found, confirmed=confirmed.worse),
        found=found,
        notes=(*several.notes, *told.advice(root, search_.rule, found, ends.effect), *((found.reason,) if found.reason else ())),
    )


def _nothing_found(search_: _Search, headline: str, effect: Effect | None) -> Bisection:
    """An answer without a commit; the others are made from it."""
    return Bisection(
        trial=search_.trial.id,
        metric=search_.rule.metric,
        unit=search_.rule.unit,
        better=search_.rule.better,
        good=search_.line[0],
        bad=search_.line[-1],
        commits=len(search_.line) - 1,
        contents=len({stretch.content for stretch in search_.stretches if stretch.content is not None}),
        outcome=Outcome.NO_DIFFERENCE,
        headline=headline,
        effect=effect,
        steps=(),
        suspects=(),
        found=None,
        pairs=0,
        seconds=0.0,
        notes=search_.notes,
    )


def _confirmed(search_: _Search, left: Narrowed) -> tuple[Found, Compared]:
    """The commit that is left, measured against its parent by fresh pairs, and what it changed."""
    commit, parent = left.bad.first, left.good.commits[-1]
    workshop, place = search_.workshop, search_.place
    compared = search_.asks.confirm(left.good.first, commit)
    before, after = workshop.built(left.good.first), workshop.built(commit)
    place.progress.step(f"{commit.short} is left: what it changed")
    assert left.bad.content is not None
    files = changed_files(workshop.reader, parent, commit, left.bad.content, search_.trial)
    facts = search_.asks.facts if isinstance(search_.asks, AskTimed) else ()
    lines: tuple[str, ...] = ()
    reason = compared.reason
    if compared.worse and search_.rule.metric.startswith(TIMES):
        lines, why = operators(before, after, place.procedure, place.folder.path / "profiles")
        reason = why or reason
    return Found(commit, parent, compared.effect, reason, files, differences(before, after, facts), lines), compared


def _reader(question: Question, root: Path, worktrees: Worktrees, bad: Commit) -> Reader:
    path = question.scenario.resolve().relative_to(root)
    text = None
    if question.same_scenario:
        file = worktrees.at(bad.hash) / path
        text = file.read_text(encoding="utf-8") if file.is_file() else None
    return Reader(worktrees, path, question.overrides, toolchain.installed(), text, question.allowed)


def _rule_of(metric: str) -> Rule:
    """Raises BadInput for a metric that is not known, or that has no worse."""
    from harness import plugins

    plugins.find("metrics", metric)
    plugin = metric_of(metric)
    if plugin.better == "none":
        raise BadInput(Problem(f"--metric {metric}: more of it is neither better nor worse"))
    if plugin.kind == "sample" and plugin.needs_reference:
        raise BadInput(Problem(f"--metric {metric}: it is told against a reference recipe, which a search does not have"))
    return Rule(metric, plugin, plugin.tolerance or 0.0, plugin.floor)


def _notes(root: Path, question: Question, line: tuple[Commit, ...], environment: Environment) -> tuple[str, ...]:
    notes = []
    if question.bad == "HEAD" and environment.dirty:
        notes.append("uncommitted changes were not looked at")
    if question.overrides:
        notes.append(f"measured with --set {' --set '.join(question.overrides)}")
    if any(len(commit.parents) > 1 for commit in line[1:]):
        notes.append("merges were taken as one commit each (first parents)")
    return tuple(notes)

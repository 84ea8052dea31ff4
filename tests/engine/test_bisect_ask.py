"""Answers of launches whose truth is known: machines of the fakes stand in for workers."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import runs

from harness.core.bisection import Answer, Commit, Stretch
from harness.core.errors import CannotMeasure
from harness.core.progress import Silent
from harness.core.scenario import MeasureSpec
from harness.engine import contest as contests
from harness.engine.bisecting.ask_timed import AskTimed
from harness.engine.bisecting.launch_pairs import PairPlace
from harness.engine.bisecting.weigh import CONFIRM_LOOKS, ENDS_LOOKS, STEP_LOOKS
from harness.engine.evaluate import metric_of
from harness.engine.launcher import Launcher
from harness.engine.procedure import Procedure
from harness.engine.rules import Rule
from harness.store.runs import RunFolder

PLENTY = 10_000.0


def stretch(name):
    return Stretch((Commit(name, (), "author", "2026-11-28", f"change {name}"),), name)


class Shop:
    """Commits that are built already; ``broken`` ones cannot be."""

    def __init__(self, broken=()):
        self.broken = broken

    def built(self, commit):
        if commit.hash in self.broken:
            raise CannotMeasure("its factory fails")
        derivation = SimpleNamespace(content=SimpleNamespace(digest=commit.hash.ljust(64, "0")))
        return SimpleNamespace(subject=runs.subject(), derivation=derivation)


class Workbench:
    """Log levels of commits by name; every pair is drawn around the difference of its two."""

    def __init__(self, folder, monkeypatch, levels, *, spread=0.01, metric="latency_p50", fails_at=None):
        self.levels, self.spread, self.fails_at = levels, spread, fails_at
        self.clock = runs.FakeClock()
        self.machines = {}
        self.folder = RunFolder(folder)
        self.metric = metric
        monkeypatch.setattr(contests, "launch", self.launch)

    def launch(self, arms, pair, procedure, seed, *, apart=False):
        candidate, baseline = procedure.logs.name.split("-against-")
        change = self.levels[candidate.rstrip("0")] - self.levels[baseline.rstrip("0")]
        known = (candidate, baseline, seed)
        if known not in self.machines:
            number = len(self.machines)
            self.machines[known] = runs.Machine(change, self.clock, spread=self.spread, seed=number, fails_at=self.fails_at)
        return self.machines[known].launch(arms, pair, procedure, seed)

    @property
    def launched(self):
        return sum(machine.launched for machine in self.machines.values())

    def asks(self, *, budget_s=PLENTY, broken=(), resuming=False):
        rule = Rule(self.metric, metric_of(self.metric), 0.02, 0.0)
        procedure = Procedure(Path("logs"), MeasureSpec(), {}, Launcher())
        place = PairPlace(rule, procedure, self.folder, Silent(), "key", 0, resuming, clock=self.clock)
        return AskTimed("fake/one-cpu-b1", Shop(broken), place, 0.01 / 7, budget_s)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    def make(levels, **options):
        return Workbench(tmp_path / "search", monkeypatch, levels, **options)

    return make


FIVE = math.log(1.05)
GOOD, MIDDLE, BAD = stretch("good"), stretch("mid"), stretch("bad")


@pytest.mark.parametrize(("level", "answer"), [(FIVE, Answer.BAD), (0.0, Answer.GOOD)])
def test_a_commit_in_the_middle_is_told_by_fresh_pairs_against_both_ends(bench, level, answer):
    made = bench({"good": 0.0, "mid": level, "bad": FIVE})
    step = made.asks().step(GOOD, MIDDLE, BAD)
    assert step.answer is answer
    assert step.against_good.ratio == pytest.approx(math.exp(level), abs=0.02)
    assert step.against_bad.ratio == pytest.approx(math.exp(level - FIVE), abs=0.02)
    assert step.against_good.n == step.against_bad.n == made.launched / 2
    assert step.against_good.n in STEP_LOOKS


def test_less_throughput_is_worse(bench):
    made = bench({"good": 0.0, "mid": FIVE, "bad": FIVE}, metric="throughput")
    asks = made.asks()
    ends = asks.ends(GOOD.first, BAD.first)
    assert ends.worse and ends.effect.ratio == pytest.approx(1 / 1.05, abs=0.02)
    assert ends.effect.interval.low < ends.effect.ratio < ends.effect.interval.high < 1
    assert asks.step(GOOD, MIDDLE, BAD).answer is Answer.BAD


def test_ends_that_do_not_differ_say_what_would_have_been_seen(bench):
    made = bench({"good": 0.0, "bad": 0.0})
    ends = made.asks(budget_s=20.0).ends(GOOD.first, BAD.first)
    assert not ends.worse and not ends.better
    assert ends.reason.endswith(f"would have been seen four times of five in {made.launched} launch pairs")
    assert made.launched == 20


def test_ends_that_are_the_wrong_way_round_are_told(bench):
    ends = bench({"good": FIVE, "bad": 0.0}).asks().ends(GOOD.first, BAD.first)
    assert ends.better and not ends.worse


def test_a_budget_that_is_too_small_leaves_it_undecided_with_what_is_known(bench):
    made = bench({"good": 0.0, "mid": 0.002, "bad": 0.004})
    step = made.asks(budget_s=30.0).step(GOOD, MIDDLE, BAD)
    assert step.answer is Answer.UNDECIDED
    assert step.reason == "neither is shown in 30 s"
    assert made.launched == 30
    assert step.against_good.n == 15


def test_even_the_smallest_budget_takes_the_first_look(bench):
    made = bench({"good": 0.0, "mid": FIVE, "bad": FIVE})
    made.asks(budget_s=0.1).step(GOOD, MIDDLE, BAD)
    assert made.launched >= 2 * STEP_LOOKS[0]


def test_a_commit_that_cannot_be_built_is_skipped_with_the_reason(bench):
    made = bench({"good": 0.0, "bad": FIVE})
    step = made.asks(broken={"mid"}).step(GOOD, MIDDLE, BAD)
    assert (step.answer, step.reason) == (Answer.SKIPPED, "it cannot be built: its factory fails")
    assert made.launched == 0


def test_a_commit_whose_launch_fails_is_skipped_with_the_reason(bench):
    step = bench({"good": 0.0, "mid": 0.0, "bad": FIVE}, fails_at=1).asks().step(GOOD, MIDDLE, BAD)
    assert step.answer is Answer.SKIPPED
    assert step.reason == "it cannot be measured: candidate, slice: the worker was killed by SIGSEGV"


def test_what_confirms_has_no_pair_of_what_looked(bench):
    made = bench({"good": 0.0, "bad": FIVE})
    asks = made.asks()
    ends, confirmed = asks.ends(GOOD.first, BAD.first), asks.confirm(GOOD.first, BAD.first)
    assert ends.effect.n in ENDS_LOOKS and confirmed.effect.n in CONFIRM_LOOKS
    assert made.launched == ends.effect.n + confirmed.effect.n
    assert len({seed for _, _, seed in made.machines}) == 2  # other layouts, and another order of slices


def test_a_search_that_goes_on_measures_only_what_is_missing_and_answers_the_same(bench):
    made = bench({"good": 0.0, "mid": FIVE, "bad": FIVE})
    first = made.asks().step(GOOD, MIDDLE, BAD)
    before = made.launched
    again = made.asks(resuming=True).step(GOOD, MIDDLE, BAD)
    assert again == first
    assert made.launched == before


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(bench):
    made = bench({"good": 0.0, "mid": 0.01, "bad": 0.01})
    assert made.asks(budget_s=10.0).step(GOOD, MIDDLE, BAD).answer is Answer.UNDECIDED
    before = made.launched
    step = made.asks(resuming=True).step(GOOD, MIDDLE, BAD)
    assert step.answer is Answer.BAD
    assert made.launched == 2 * step.against_good.n
    assert before == 10

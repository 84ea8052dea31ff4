import math
from pathlib import Path

import pytest

from harness.core.comparison import Verdict
from harness.core.measurement import Failure, FailureReason, Run
from harness.core.scenario import MeasureSpec
from harness.engine import contest as contests
from harness.engine.compare import FAMILY_ALPHA, compare_launches
from harness.engine.contest import METHOD_APART, NULL_SUFFIX, SCREEN_PAIRS, Contest, null_contest, screen_and_confirm
from harness.engine.evaluate import metric_of
from harness.engine.launcher import Launcher
from harness.engine.procedure import Procedure
from harness.engine.rules import Rule
from harness.engine.workers import WorkerFailed
from harness.stats.sequential import SCHEDULE, Looks

PLENTY = 10_000.0


def rule(metric="latency_p50", tolerance=0.02):
    return Rule(metric, metric_of(metric), tolerance, 0.0)


class Arena:
    """Contests on machines whose truth is known, and what was recorded of them."""

    def __init__(self, runs):
        self.runs = runs
        self.clock = runs.FakeClock()
        self.machines = {}
        self.contests = []
        self.recorded = []
        self.steps = []
        self.apart = []
        self.room = None

    def contest(self, change=0.0, *, rules=None, trial="fake/one-cpu-b1", **machine):
        """A contest in which the candidate is truly slower by ``change``, a number or a function of the pair."""
        truth = (lambda pair: math.log1p(change(pair))) if callable(change) else math.log1p(change)
        seed = len(self.machines)
        self.machines[seed] = self.runs.Machine(truth, self.clock, **({"seed": seed} | machine))
        arms = {"baseline": self.runs.subject(), "candidate": self.runs.subject()}
        procedure = Procedure(Path("logs"), MeasureSpec(), {}, Launcher())
        made = Contest(trial, arms, rules or [rule()], procedure, seed, "single_stream")
        self.contests.append(made)
        return made

    def launch(self, arms, pair, procedure, seed, *, apart=False):
        self.apart.append(apart)
        if self.room is not None and not apart:
            raise WorkerFailed(Failure(self.room, "candidate, open", "no room for both"))
        return self.machines[seed].launch(arms, pair, procedure, seed)

    def carry_out(self, *some, budget_s=PLENTY):
        screen_and_confirm(
            some or self.contests,
            budget_s=budget_s,
            record=lambda trial, event: self.recorded.append((trial, event)),
            step=self.steps.append,
            clock=self.clock,
        )

    def launched(self, contest):
        return self.machines[contest.seed].launched


@pytest.fixture
def arena(runs, monkeypatch):
    made = Arena(runs)
    monkeypatch.setattr(contests, "launch", made.launch)
    return made


def test_identical_code_on_a_still_machine_is_passed_by_the_screen_alone(arena):
    contest = arena.contest(spread=0.0)
    arena.carry_out()
    assert contest.comparisons["latency_p50"].verdict is Verdict.PASS
    assert arena.launched(contest) == SCREEN_PAIRS


def test_a_slowdown_of_ten_percent_is_shown_by_fresh_pairs_alone(arena):
    contest = arena.contest(0.10)
    arena.carry_out()
    found = contest.comparisons["latency_p50"]
    assert found.verdict is Verdict.REGRESSED
    assert found.effect == pytest.approx(1.10, abs=0.02)
    assert found.n == arena.launched(contest) - SCREEN_PAIRS == SCHEDULE[0]


def test_a_speed_up_is_told_as_an_improvement_without_confirmation(arena):
    contest = arena.contest(-0.10)
    arena.carry_out()
    assert contest.comparisons["latency_p50"].verdict is Verdict.IMPROVED
    assert arena.launched(contest) == SCREEN_PAIRS


def test_less_throughput_is_found_as_more_latency_is(arena):
    contest = arena.contest(0.15, rules=[rule(), rule("throughput", 0.05)])
    arena.carry_out()
    assert {metric: found.verdict for metric, found in contest.comparisons.items()} == {
        "latency_p50": Verdict.REGRESSED,
        "throughput": Verdict.REGRESSED,
    }
    assert contest.comparisons["throughput"].effect == pytest.approx(1 / 1.15, abs=0.02)


@pytest.mark.parametrize(("spread", "passes"), [(0.01, 150), (0.03, 100)])
def test_identical_code_is_never_called_slower_with_the_tolerance_in_use(arena, spread, passes):
    for _ in range(150):
        arena.contest(spread=spread)
    for contest in arena.contests:
        arena.carry_out(contest, budget_s=30.0)
    verdicts = [contest.comparisons["latency_p50"].verdict for contest in arena.contests]
    assert Verdict.REGRESSED not in verdicts
    assert verdicts.count(Verdict.PASS) >= passes


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_a_change_that_lies_on_the_tolerance_is_passed_in_one_job_of_twenty_at_most_however_often_it_is_looked_at(arena, spread):
    for _ in range(200):
        arena.contest(0.02, spread=spread)
    for contest in arena.contests:
        arena.carry_out(contest, budget_s=60.0)
    verdicts = [contest.comparisons["latency_p50"].verdict for contest in arena.contests]
    assert verdicts.count(Verdict.PASS) <= 200 * 0.05 + 2 * 3.1  # two standard errors


def test_without_any_tolerance_identical_code_is_called_slower_in_one_job_of_a_hundred_at_most(arena):
    for _ in range(100):
        arena.contest(rules=[rule(tolerance=0.0)], spread=0.02)
    for contest in arena.contests:
        arena.carry_out(contest, budget_s=20.0)
    verdicts = [contest.comparisons["latency_p50"].verdict for contest in arena.contests]
    assert verdicts.count(Verdict.REGRESSED) <= 1
    assert 10 <= sum(bool(contest.suspects) for contest in arena.contests) <= 30  # the screen suspects one in five


@pytest.mark.parametrize(("change", "spread"), [(0.10, 0.02), (0.05, 0.01)])
def test_a_planted_slowdown_is_found_every_time(arena, change, spread):
    for _ in range(40):
        arena.contest(change, spread=spread)
    for contest in arena.contests:
        arena.carry_out(contest, budget_s=60.0)
    assert [contest.comparisons["latency_p50"].verdict for contest in arena.contests] == [Verdict.REGRESSED] * 40


def test_a_suspect_that_fresh_pairs_clear_is_not_red(arena):
    """The neighbour was noisy during the screen only."""
    contest = arena.contest(lambda pair: 0.06 if pair < SCREEN_PAIRS else 0.0, spread=0.005)
    arena.carry_out()
    assert contest.suspects == {"latency_p50"}
    assert contest.comparisons["latency_p50"].verdict is Verdict.PASS
    assert arena.launched(contest) > SCREEN_PAIRS + SCHEDULE[0]


def test_the_screen_alone_shows_nothing_however_slow_it_was(arena):
    contest = arena.contest(0.50)
    arena.carry_out(budget_s=SCREEN_PAIRS)
    assert contest.suspects == {"latency_p50"}
    assert contest.comparisons["latency_p50"].verdict is Verdict.INCONCLUSIVE


def test_a_spent_budget_ends_it_inconclusive_and_is_not_overdrawn(arena):
    contest = arena.contest(spread=0.2)
    arena.carry_out(budget_s=20.0)
    found = contest.comparisons["latency_p50"]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "launch pairs (a larger --budget) or a quieter machine would tell" in found.reason
    assert contest.spent_s == arena.launched(contest) == 20


def test_pairs_that_take_long_are_not_begun_when_they_would_overdraw_the_budget(arena):
    contest = arena.contest(spread=0.2, pair_s=3.0)
    arena.carry_out(budget_s=20.0)
    assert contest.spent_s == 18.0


def test_the_screen_is_finished_even_where_it_costs_more_than_the_budget(arena):
    contest = arena.contest(spread=0.2, pair_s=3.0)
    arena.carry_out(budget_s=1.0)
    assert arena.launched(contest) == SCREEN_PAIRS
    assert contest.comparisons["latency_p50"].verdict is Verdict.INCONCLUSIVE


def test_every_trial_has_a_budget_of_its_own(arena):
    first, second = arena.contest(spread=0.2, trial="a"), arena.contest(spread=0.2, trial="b")
    arena.carry_out(budget_s=12.0)
    assert (first.spent_s, second.spent_s) == (12.0, 12.0)


def test_the_pairs_since_the_last_look_count_when_the_budget_ends(arena):
    contest = arena.contest(0.10, spread=0.001)
    arena.carry_out(budget_s=SCREEN_PAIRS + 3)
    found = contest.comparisons["latency_p50"]
    assert (found.verdict, found.n) == (Verdict.REGRESSED, 3)


def test_after_the_last_look_no_time_is_spent_for_nothing(arena):
    contest = arena.contest(spread=0.3, pair_s=0.0)
    arena.carry_out()
    assert arena.launched(contest) == SCREEN_PAIRS + SCHEDULE[-1]
    assert contest.comparisons["latency_p50"].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("fails_at", [0, 1, 2, SCREEN_PAIRS - 1, SCREEN_PAIRS, SCREEN_PAIRS + 3])
def test_a_failing_launch_ends_the_contest_with_its_failure_kept(arena, fails_at):
    contest = arena.contest(0.10, fails_at=fails_at)
    arena.carry_out()
    assert arena.launched(contest) == fails_at + 1
    assert contest.failure == Failure(FailureReason.SIGNAL, "candidate, slice", "the worker was killed by SIGSEGV", "last words")
    assert contest.clear
    assert [event for _, event in arena.recorded if isinstance(event, Failure)] == [contest.failure]
    for arm in ("baseline", "candidate"):
        assert contest.measurement(arm).failures == (contest.failure,)
        assert len(contest.measurement(arm).runs) == fails_at  # what came before it is kept
    assert not any(found.verdict is Verdict.REGRESSED for found in contest.comparisons.values())
    assert bool(contest.comparisons) == (fails_at >= 2)  # one pair has no spread


def test_the_time_of_a_failing_launch_is_spent_too(arena):
    contest = arena.contest(fails_at=2, pair_s=7.0)
    arena.carry_out()
    assert contest.spent_s == 21.0


def test_a_failing_trial_does_not_hold_up_the_others(arena):
    failing, sound = arena.contest(fails_at=1, trial="a"), arena.contest(0.10, trial="b")
    arena.carry_out()
    assert failing.failure is not None
    assert (sound.failure, sound.comparisons["latency_p50"].verdict) == (None, Verdict.REGRESSED)


def test_a_metric_that_launches_do_not_have_is_not_compared_and_does_not_hold_up_the_others(arena):
    contest = arena.contest(rules=[rule(), rule("latency_p99", 0.10)], spread=0.0)  # 24 queries a launch, p99 needs 500
    arena.carry_out()
    assert contest.comparisons.keys() == {"latency_p50"}
    assert arena.launched(contest) == SCREEN_PAIRS


def test_a_red_ends_the_trial_and_what_is_still_open_says_so(arena):
    contest = arena.contest(0.10, rules=[rule(), rule("load_time")], load_spread=0.5, spread=0.005, seed=2)
    arena.carry_out()
    assert {metric: found.verdict for metric, found in contest.comparisons.items()} == {
        "latency_p50": Verdict.REGRESSED,
        "load_time": Verdict.INCONCLUSIVE,
    }
    assert contest.comparisons["load_time"].reason.endswith("; the trial ended when latency_p50 was shown to be worse")
    assert arena.launched(contest) == SCREEN_PAIRS + SCHEDULE[0]


def test_a_null_control_that_nothing_is_suspect_in_ends_with_its_screen(arena):
    control = null_contest(arena.contest())
    control.rules = [rule(), rule("load_time")]
    arena.machines[control.seed] = arena.runs.Machine(0.0, arena.clock, spread=0.0, load_spread=0.5)
    arena.carry_out(control)
    assert (arena.launched(control), control.reds) == (SCREEN_PAIRS, 0)
    assert control.comparisons["load_time"].verdict is Verdict.INCONCLUSIVE


def test_a_null_control_ends_with_its_first_red(arena):
    control = null_contest(arena.contest())
    control.rules = [rule(), rule("load_time")]
    arena.machines[control.seed] = arena.runs.Machine(math.log(1.1), arena.clock, load_spread=0.5, seed=2)
    arena.carry_out(control)
    assert (arena.launched(control), control.reds) == (SCREEN_PAIRS + SCHEDULE[0], 1)


def test_all_suspects_of_a_job_share_its_error_and_what_is_rejected_shares_no_more(arena):
    """Holm: the first of three suspects may spend a third of 1 %, the second half of it, the third all."""
    for trial in ("a", "b", "c"):
        arena.contest(0.20, trial=trial)
    arena.contest(spread=0.0, trial="not suspect")
    arena.carry_out()
    levels = [contest.comparisons["latency_p50"].interval.level for contest in arena.contests[:3]]
    assert levels == pytest.approx([1 - 2 * Looks(FAMILY_ALPHA / standing).alpha(0) for standing in (3, 2, 1)])


def test_a_suspect_that_was_not_rejected_goes_on_sharing_the_error(arena):
    cleared = arena.contest(lambda pair: 0.06 if pair < SCREEN_PAIRS else 0.0, spread=0.005, trial="a")
    slow = arena.contest(0.20, trial="b")
    arena.carry_out()
    assert cleared.comparisons["latency_p50"].verdict is Verdict.PASS
    assert slow.comparisons["latency_p50"].interval.level == pytest.approx(1 - 2 * Looks(FAMILY_ALPHA / 2).alpha(0))


def test_every_trial_is_screened_before_any_is_confirmed(arena):
    arena.contest(0.20, trial="a")
    arena.contest(0.20, trial="b")
    arena.carry_out()
    trials = [trial for trial, event in arena.recorded if event.arm == "candidate"]
    assert trials[: 2 * SCREEN_PAIRS] == ["a"] * SCREEN_PAIRS + ["b"] * SCREEN_PAIRS
    assert set(trials[2 * SCREEN_PAIRS :]) == {"a", "b"}


def test_every_launch_is_recorded_as_soon_as_it_is_finished_with_pairs_numbered_through(arena):
    contest = arena.contest(0.10)
    arena.carry_out()
    assert all(isinstance(event, Run) for _, event in arena.recorded)
    for arm in ("baseline", "candidate"):
        pairs = [event.pair for _, event in arena.recorded if event.arm == arm]
        assert pairs == list(range(arena.launched(contest)))


def test_every_step_says_what_it_is_for(arena):
    arena.contest(0.10)
    arena.carry_out()
    assert arena.steps[0] == "fake/one-cpu-b1: screening, launch pair 1 of 5"
    assert arena.steps[SCREEN_PAIRS] == "fake/one-cpu-b1: confirming, fresh launch pair 1"
    assert len(arena.steps) == SCREEN_PAIRS + SCHEDULE[0]


def test_an_interrupted_run_goes_on_from_the_pairs_that_it_left(arena):
    before = arena.contest(0.10)
    arena.carry_out(before, budget_s=3.0)
    after = arena.contest(0.10)
    for arm in ("baseline", "candidate"):
        after.runs[arm] = before.runs[arm][:3]
    arena.carry_out(after)
    assert arena.launched(after) == SCREEN_PAIRS - 3 + SCHEDULE[0]
    assert after.comparisons["latency_p50"].verdict is Verdict.REGRESSED


def test_fresh_pairs_of_an_interrupted_run_are_evidence_and_do_not_raise_the_suspicion(arena):
    """The screen's five pairs saw nothing; those after it are no screen, however slow."""
    before = arena.contest(lambda pair: -0.02 if pair < SCREEN_PAIRS else 0.10, rules=[rule(tolerance=0.0)])
    for _ in range(SCREEN_PAIRS + 4):
        before.take_pair(lambda trial, event: None, arena.clock)
    after = arena.contest(0.10, rules=[rule(tolerance=0.0)])
    after.runs = before.runs
    after.find_suspects()
    assert (after.screened, after.suspects) == (SCREEN_PAIRS, frozenset())


def test_an_interrupted_run_does_not_spend_its_first_look_twice(arena, monkeypatch):
    spent = []

    def compare(*facts, may_be_red, **options):
        spent.append(facts[3] if may_be_red else 0.0)
        return compare_launches(*facts, may_be_red=may_be_red, **options)

    before = arena.contest(lambda pair: 0.06 if pair < SCREEN_PAIRS else 0.0, spread=0.05, seed=3)
    for _ in range(SCREEN_PAIRS + SCHEDULE[0]):
        before.take_pair(lambda trial, event: None, arena.clock)
    after = arena.contest(spread=0.05)
    after.runs = before.runs
    monkeypatch.setattr(contests, "compare_launches", compare)
    arena.carry_out(after, budget_s=6.0)
    assert len(spent) > 2
    assert spent == [Looks(FAMILY_ALPHA).alpha(index) for index in range(len(spent))]


def test_the_null_control_is_the_baseline_in_both_arms_by_the_same_procedure(arena):
    contest = arena.contest(0.10)
    opponent = null_contest(contest)
    assert opponent.trial == contest.trial + NULL_SUFFIX
    assert opponent.arms == {"baseline": contest.arms["baseline"], "candidate": contest.arms["baseline"]}
    assert opponent.rules == contest.rules
    assert opponent.procedure.times == contest.procedure.times
    assert opponent.procedure.logs != contest.procedure.logs
    assert opponent.seed != contest.seed
    assert opponent.runs == {"baseline": [], "candidate": []}


def test_what_was_passed_is_not_taken_back_by_a_later_look_that_decides_nothing(arena):
    rules = [rule(), rule("latency_p99", 0.0001)]  # the second keeps the contest going
    for _ in range(30):
        arena.contest(rules=rules, spread=0.012)
    for contest in arena.contests:
        arena.carry_out(contest, budget_s=40.0)
    passed = [contest for contest in arena.contests if contest.comparisons["latency_p50"].verdict is Verdict.PASS]
    assert len(passed) > 25


def test_a_rejection_leaves_its_share_of_the_error_to_what_was_looked_at_before(arena):
    """The weak one is looked at first, at half the error; when the strong one has fallen it gets the whole."""
    gained = 0
    for number in range(60):
        weak, strong = arena.contest(0.035, spread=0.01, seed=2 * number), arena.contest(0.5, spread=0.01, seed=2 * number + 1)
        arena.carry_out(weak, strong, budget_s=11.0)
        assert strong.reds == 1
        verdict = weak.comparisons["latency_p50"].verdict
        weak.comparisons.clear()
        weak.look(Looks(FAMILY_ALPHA / 2).alpha(weak.red_look))
        gained += verdict is Verdict.REGRESSED and weak.comparisons["latency_p50"].verdict is not Verdict.REGRESSED
    assert gained >= 1


def test_arms_that_do_not_fit_into_memory_together_are_launched_one_after_the_other(arena):
    arena.room = FailureReason.OUT_OF_MEMORY
    contest = arena.contest(0.10)
    arena.carry_out()
    assert contest.failure is None
    assert arena.apart == [False] + [True] * (len(arena.apart) - 1)  # tried once
    assert contest.comparisons["latency_p50"].verdict is Verdict.REGRESSED
    assert contest.comparisons["latency_p50"].method == METHOD_APART
    assert null_contest(contest).apart


def test_another_failure_than_for_memory_does_not_part_the_arms(arena):
    arena.room = FailureReason.SIGNAL
    contest = arena.contest()
    arena.carry_out()
    assert contest.failure.reason is FailureReason.SIGNAL
    assert arena.apart == [False]

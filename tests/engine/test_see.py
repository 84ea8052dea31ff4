"""What an A/A says of the gate: by known answers, by simulation of the gate's own rule, and once with real launches."""

import math
import random
import statistics
from pathlib import Path

import pytest
from fakes.projects import Project

from harness.core.checkup import State
from harness.core.comparison import Verdict
from harness.core.errors import BadInput, CannotMeasure, ExitCode
from harness.core.estimate import Absent
from harness.core.progress import Silent
from harness.core.scenario import MeasureSpec
from harness.engine import choose_trial as choosing
from harness.engine import contest as contests
from harness.engine.choose_trial import choose_trial, project_scenario
from harness.engine.compare import FAMILY_ALPHA
from harness.engine.contest import SCREEN_PAIRS, Contest, screen_and_confirm
from harness.engine.evaluate import metric_of
from harness.engine.examine import Question, checkup_json, examine
from harness.engine.launcher import Launcher
from harness.engine.machine.readings import CpuReading, Readings
from harness.engine.procedure import Procedure
from harness.engine.read_environment import read_environment
from harness.engine.rules import Rule
from harness.engine.see import FEWEST_PAIRS, PAIRS, doubt, fresh_pairs, sights_of, smallest_change, take_pairs, trouble_of
from harness.stats.paired import change_seen, visible_change
from harness.stats.sequential import SCHEDULE, Looks

BLIND = Readings(cpu=CpuReading(cores=(0,), cpu_count=1))


def rule(metric="latency_p50", tolerance=0.02, floor=0.0):
    return Rule(metric, metric_of(metric), tolerance, floor)


class Bench:
    """Contests whose launches come from a machine of known truth."""

    def __init__(self, runs, monkeypatch):
        self.runs = runs
        self.clock = runs.FakeClock()
        self.machine = None
        monkeypatch.setattr(contests, "launch", lambda *facts, **how: self.machine.launch(*facts, **how))

    def contest(self, change=0.0, *, rules=None, **machine):
        self.machine = self.runs.Machine(math.log1p(change), self.clock, **machine)
        procedure = Procedure(Path("logs"), MeasureSpec(), {}, Launcher())
        arms = dict.fromkeys(("baseline", "candidate"), self.runs.subject())
        return Contest("fake/one-cpu-b1", arms, rules or [rule()], procedure, 0, "single_stream")

    def sights(self, *, budget_s=60.0, change=0.0, pairs=PAIRS, **facts):
        contest = self.contest(change, **facts)
        take_pairs(contest, budget_s=budget_s, step=lambda text: None, clock=self.clock, pairs=pairs)
        return sights_of(contest, budget_s=budget_s)


@pytest.fixture
def bench(runs, monkeypatch):
    return Bench(runs, monkeypatch)


# how many pairs are taken


@pytest.mark.parametrize(
    ("pair_s", "budget_s", "pairs"), [(1.0, 60, 8), (2.5, 60, 8), (4.0, 60, 5), (30.0, 60, FEWEST_PAIRS), (2.0, 15, 4)]
)
def test_eight_pairs_are_taken_or_what_fits_in_a_third_of_the_budget_but_no_fewer_than_four(bench, pair_s, budget_s, pairs):
    contest = bench.contest(pair_s=pair_s)
    steps = []
    take_pairs(contest, budget_s=budget_s, step=steps.append, clock=bench.clock)
    assert bench.machine.launched == len(steps) == pairs
    assert steps[0] == "fake/one-cpu-b1: identical code, launch pair 1 of 8"


def test_a_launch_that_fails_ends_it_and_is_named(bench):
    contest = bench.contest(fails_at=2)
    take_pairs(contest, budget_s=60, step=lambda text: None, clock=bench.clock)
    assert bench.machine.launched == 3
    assert trouble_of(contest) == "candidate, slice: the worker was killed by SIGSEGV"


# what is said of them


def test_spread_and_seconds_are_those_of_the_launch_pairs(bench):
    (sight,), unseen = bench.sights(spread=0.02, pair_s=2.0, pairs=200, budget_s=6000)
    assert sight.spread == pytest.approx(0.02, rel=0.15)
    assert (sight.pairs, sight.pair_s, unseen) == (200, 2.0, ())
    assert not sight.red


def test_a_metric_without_a_value_is_named_with_its_reason_and_shares_no_error(bench):
    (sight,), (absent,) = bench.sights(rules=[rule(), rule("latency_p99", 0.10)])
    assert (sight.metric, absent.metric) == ("latency_p50", "latency_p99")
    assert isinstance(absent, Absent) and "500" in absent.reason
    assert sight.interval.level == pytest.approx(1 - FAMILY_ALPHA)


def test_metrics_that_are_suspect_together_share_the_error(bench):
    (alone,), _ = bench.sights(seed=3)
    (one, other), _ = bench.sights(seed=3, rules=[rule(), rule("throughput", 0.02)])
    assert one.spread == alone.spread
    assert one.smallest_change > alone.smallest_change
    assert other.interval.level == pytest.approx(1 - FAMILY_ALPHA / 2)


def test_no_change_below_the_floor_of_its_metric_is_promised(bench):
    (sight,), _ = bench.sights(rules=[rule(floor=200_000)], latency_ns=1_000_000, spread=0.001)
    assert sight.floor == pytest.approx(0.2, rel=0.3)
    assert sight.floor < sight.with_twice < sight.smallest_change < sight.floor + 0.001


@pytest.mark.parametrize("change", [0.3, -0.3])
def test_arms_that_are_alike_and_differ_beyond_the_tolerance_are_red_in_either_direction(bench, change):
    (sight,), _ = bench.sights(change=change)
    assert sight.red
    assert sight.effect == pytest.approx(1 + change, rel=0.03)


def test_a_difference_within_the_tolerance_is_not_red_however_sure_it_is(bench):
    (sight,), _ = bench.sights(change=0.015, spread=0.0001)
    assert sight.interval.low > 1
    assert not sight.red


def test_identical_code_is_called_red_in_one_checkup_of_a_hundred_at_most_even_without_a_tolerance(bench):
    reds = [bench.sights(rules=[rule(tolerance=0.0)], seed=seed, spread=0.03)[0][0].red for seed in range(100)]
    assert sum(reds) <= 4  # 1 is expected; 5 or more come by chance once in three hundred


# the smallest change


def test_the_change_seen_is_what_a_comparison_of_as_many_pairs_tells():
    ratios = [0.01, -0.02, 0.015, 0.0, 0.003]
    spread = statistics.stdev(ratios)
    told = visible_change(ratios, tolerance=0.02, alpha=0.01, power=0.8)
    assert change_seen(spread, 5, tolerance=0.02, alpha=0.01, power=0.8) == pytest.approx(told, rel=1e-6)
    with pytest.raises(ValueError, match="at least 2"):
        change_seen(spread, 1, tolerance=0.02, alpha=0.01, power=0.8)


@pytest.mark.parametrize(("pair_s", "budget_s", "fresh"), [(2.0, 60, 25), (2.1, 60, 23), (20.0, 60, 0), (0.1, 60, SCHEDULE[-1])])
def test_the_budget_leaves_what_the_screen_does_not_take_and_never_more_than_the_last_look(pair_s, budget_s, fresh):
    assert fresh_pairs(pair_s, budget_s, Looks(FAMILY_ALPHA)) == fresh


def test_a_larger_budget_and_a_quieter_machine_show_smaller_changes_and_never_one_within_the_tolerance():
    by_budget = [smallest_change(0.01, fresh, tolerance=0.02) for fresh in (4, 10, 25, 60, 149)]
    by_spread = [smallest_change(spread, 25, tolerance=0.02) for spread in (0.05, 0.02, 0.01, 0.001)]
    for changes in (by_budget, by_spread):
        assert changes == sorted(changes, reverse=True)
        assert changes[-1] > 0.02


def test_without_a_tolerance_it_is_the_screen_that_limits_what_is_seen():
    """Five pairs that must be suspect four times of five, however many come after them."""
    screen_alone = change_seen(0.02, SCREEN_PAIRS, tolerance=0.0, alpha=0.20, power=0.80)
    assert smallest_change(0.02, 149, tolerance=0.0) == pytest.approx(screen_alone, rel=0.05)


@pytest.mark.parametrize("fresh", [0, 1, 2])
def test_a_budget_that_leaves_next_to_no_fresh_pair_shows_nothing(fresh):
    assert smallest_change(0.02, fresh, tolerance=0.02) is None


@pytest.mark.parametrize(
    ("spread", "tolerance", "budget_s", "suspects"),
    [
        (0.02, 0.02, 16.0, 1),
        pytest.param(0.01, 0.02, 30.0, 1, marks=pytest.mark.slow),
        pytest.param(0.01, 0.02, 30.0, 2, marks=pytest.mark.slow),
        pytest.param(0.02, 0.0, 60.0, 1, marks=pytest.mark.slow),
    ],
)
def test_what_is_told_is_found_by_the_gate_about_four_times_of_five(bench, spread, tolerance, budget_s, suspects):
    looks = Looks(FAMILY_ALPHA / suspects)
    change = smallest_change(spread, fresh_pairs(1.0, budget_s, looks), tolerance=tolerance, suspects=suspects)
    rules = [rule(tolerance=tolerance), rule("throughput", tolerance)][:suspects]  # of one slice time: they go together
    found, contests_made = 0, 200
    for seed in range(contests_made):
        contest = bench.contest(change, rules=rules, spread=spread, seed=seed)
        screen_and_confirm([contest], budget_s=budget_s, record=lambda *_: None, step=lambda text: None, clock=bench.clock)
        found += contest.comparisons["latency_p50"].verdict is Verdict.REGRESSED
    assert 0.74 < found / contests_made < 0.92  # the looks before the last add a little


def test_the_doubt_covers_the_true_spread_nine_times_of_ten():
    draw = random.Random(0)
    covered = 0
    for _ in range(2000):
        ratios = [draw.gauss(0, 1) for _ in range(PAIRS)]
        mean = sum(ratios) / PAIRS
        covered += math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (PAIRS - 1)) * doubt(PAIRS) >= 1
    assert covered / 2000 == pytest.approx(0.90, abs=0.02)


# which trial


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Project(tmp_path / "here")


FAKE = """\
version: 1
name: tiny
model: {fake: {latency_us: 300}}
data: {random: {x: "float32[4]"}, samples: 8}
recipes: {plain: {runtime: fake}, slower: {runtime: {fake: {add_latency_us: 10}}}}
measure: {duration: 0.1 s, warm_up: 0.05 s}
gate: {latency_p90: off, latency_p99: off, throughput: off}
"""


def chosen(here, path=None, only=()):
    return choose_trial(path, only, read_environment(here.root), here=here.root, scratch=here.root.parent / "scratch")


def test_the_only_scenario_of_a_project_is_launched_and_named(here):
    here.write("scenarios/tiny.yaml", FAKE)
    choice = chosen(here)
    assert (choice.trial.id, choice.users) == ("tiny/plain-cpu-b1", True)
    assert choice.note == "launched is the project's own scenario, scenarios/tiny.yaml"
    assert chosen(here, only=("slower",)).trial.id == "tiny/slower-cpu-b1"


def test_a_scenario_that_is_asked_for_needs_no_note(here):
    choice = chosen(here, here.write("elsewhere/tiny.yaml", FAKE))
    assert (choice.trial.id, choice.note) == ("tiny/plain-cpu-b1", "")


def test_where_there_is_a_choice_of_scenarios_nothing_is_guessed(here):
    here.write("scenarios/tiny.yaml", FAKE)
    here.write("scenarios/other.yaml", FAKE.replace("tiny", "other"))
    assert project_scenario(here.root) is None
    assert not chosen(here).users


@pytest.mark.parametrize(
    ("installed", "trial", "note"),
    [
        (("torch", "onnx", "onnxscript", "onnxruntime"), "my-model/onnx-cpu-b64", "a small starter model in onnxruntime"),
        (("torch", "onnxruntime"), "my-model/fp32-cpu-b64", "a small starter model in torch"),
        (("onnxruntime",), "fake-model/fake-cpu-b1", "no runtime is installed, so the fake one was launched"),
    ],
)
def test_without_a_scenario_a_starter_model_runs_in_whatever_is_installed(here, monkeypatch, installed, trial, note):
    monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: name if name in installed else None)
    choice = chosen(here)
    assert (choice.trial.id, choice.users) == (trial, False)
    assert note in choice.note
    assert list(here.root.iterdir()) == []  # it is written elsewhere


def test_a_scenario_for_another_machine_is_refused_with_the_reason(here):
    here.write("scenarios/hardware.yaml", "version: 1\ntargets: {elsewhere: {requires: {cpu_model: no such processor}}}\n")
    with pytest.raises(CannotMeasure, match="can run here: needs a CPU 'no such processor'"):
        chosen(here, here.write("scenarios/tiny.yaml", FAKE + "hardware: [elsewhere]\n"))


def test_a_pattern_that_matches_nothing_is_bad_input(here):
    here.write("scenarios/tiny.yaml", FAKE)
    with pytest.raises(BadInput, match="no trial matches 'fast'"):
        chosen(here, only=("fast",))


# the whole


def test_identical_code_is_really_launched_in_pairs_and_judged(here):
    here.write("scenarios/tiny.yaml", FAKE)
    checkup = examine(Question(budget_s=1.0), Silent(), lambda cores, device: BLIND)
    assert checkup.subject == "tiny/plain-cpu-b1"
    assert [sight.metric for sight in checkup.sights] == ["latency_p50", "peak_memory"]
    assert {sight.pairs for sight in checkup.sights} == {FEWEST_PAIRS}
    assert all(sight.spread > 0 and 0 < sight.pair_s < 30 for sight in checkup.sights)
    assert "launch pairs tell the spread but roughly" in checkup.notes[-1]
    assert checkup_json(checkup).startswith(b'{\n  "schema": 1,\n  "fit": ')
    assert sorted(path.name for path in here.root.iterdir()) == ["scenarios"]  # nothing is left behind


def test_a_model_that_cannot_be_built_or_launched_makes_a_finding_and_not_an_end(here):
    here.write("scenarios/tiny.yaml", FAKE.replace("latency_us: 300", "latency_us: 300, fail_at: 1"))
    checkup = examine(Question(budget_s=1.0), Silent(), lambda cores, device: BLIND)
    (finding,) = [finding for finding in checkup.findings if finding.name == "launches"]
    assert finding.state is State.UNFIT
    assert "this fake model fails as it was told to" in finding.value
    assert (checkup.fit, checkup.exit_code, checkup.sights) == (False, ExitCode.NOT_DECIDED, ())


@pytest.mark.parametrize(("scenario", "device"), [(True, "cpu"), (False, None)])
def test_without_launches_the_machine_alone_is_looked_at_and_gpus_only_where_no_trial_says_cpu(here, scenario, device):
    if scenario:
        here.write("scenarios/tiny.yaml", FAKE)
    asked = []

    def read(cores, device):
        asked.append((bool(cores), device))
        return BLIND

    checkup = examine(Question(launches=False), Silent(), read)
    assert asked == [(True, device)]
    assert (checkup.sights, checkup.subject, checkup.notes) == ((), "", ())
    assert any(finding.name == "GPU" for finding in checkup.findings) == (not scenario)

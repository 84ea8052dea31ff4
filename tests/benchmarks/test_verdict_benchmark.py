"""The parts of the verdict's benchmark that need no machine: rules, resampling, resuming, the page."""

import dataclasses
import itertools
import json
import math
import random
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from pytest_benchmark.utils import PercentageRegressionCheck
from scipy import stats
from verdict import collect as collecting
from verdict import gates, machine, neighbour, publish, pytest_runs, rivals
from verdict.cells import ARMS, IDENTICAL, Cell, cells
from verdict.compare_rivals import rival_of, rivals_in
from verdict.coverage import clustered_error, coverage_of, intraclass
from verdict.decide import coverages_in, power_of, powers_in
from verdict.gates import Gate, gate_of, gates_in
from verdict.pytest_runs import PytestPair, pytest_pairs_in
from verdict.records import LaunchRecord, PairRecord, pairs_in
from verdict.replay import Clock, Source, decide, replaying, visits_of
from verdict.summary import targets_of
from verdict.workplace import launch_rules

from harness.core.comparison import Verdict
from harness.core.scenario import MeasureSpec
from harness.engine import contest as contests
from harness.engine.contest import Contest, screen_and_confirm
from harness.engine.evaluate import metric_of
from harness.engine.launcher import PAIRS_OF_A_TEMPLATE, Launcher
from harness.engine.procedure import Procedure
from harness.engine.rules import Rule

MS = 1_000_000
CELL = Cell("onnx", "quiet", "+5%")
P50 = (Rule("latency_p50", metric_of("latency_p50"), 0.02, 0.0),)


def launch_record(latencies=()):
    return LaunchRecord(60, 2.0 * MS, 2.0 * MS, 2.1 * MS, True, True, tuple(latencies))


def pair(number, log_ratio, *, cell=CELL, wall_s=2.0, latency_ns=2.0 * MS, latencies=((), ())):
    figures = {"latency_p50": (latency_ns, latency_ns * math.exp(log_ratio))}
    launches = [launch_record(values) for values in latencies]
    visit = number // PAIRS_OF_A_TEMPLATE
    return PairRecord(cell.id, number, visit, "2030-01-01T00:00:00+00:00", wall_s, {"latency_p50": log_ratio}, figures, *launches)


def pairs_of(change, spread, count=100, *, seed=0, cell=CELL):
    draw = random.Random(seed)
    return [pair(number, draw.gauss(math.log1p(change), spread), cell=cell) for number in range(count)]


def drawn(candidate, baseline, budget_s=60.0, seed=0):
    with replaying():
        return decide(visits_of(candidate), visits_of(baseline), P50, budget_s, random.Random(seed))


def launches(level, count, seed=0, spread=0.01, values=60):
    generator = np.random.default_rng(seed)
    return [list(level * np.exp(generator.normal(0, spread, values))) for _ in range(count)]


@pytest.mark.parametrize("rule", rivals.RULES, ids=lambda rule: rule.told)
def test_every_rule_sees_a_clear_slowdown_and_never_calls_a_faster_head_slower(rule):
    base, slow, fast = (launches(level, rule.launches, seed) for seed, level in enumerate((1e6, 1.3e6, 0.7e6)))
    assert rule.says(base, slow, np.random.default_rng(0))
    assert not rule.says(base, fast, np.random.default_rng(0))


@pytest.mark.parametrize("rule", rivals.RULES, ids=lambda rule: rule.told)
def test_no_rule_calls_a_sample_slower_than_itself(rule):
    same = launches(1e6, rule.launches)
    assert not rule.says(same, same, np.random.default_rng(0))


def test_thresholds_are_those_of_the_tools():
    base = launches(1e6, 2, seed=1, spread=1e-4)
    half, four, nine = (launches(level, 2, seed=2, spread=1e-4) for level in (1.005e6, 1.04e6, 1.09e6))
    generator = np.random.default_rng(0)
    assert not rivals.bootstrap(base, half, generator)  # within the noise threshold of 1 %
    assert rivals.bootstrap(base, four, generator)
    assert rivals.u_test(base, half, generator)  # significant is all that it asks for
    assert not rivals.median_up(base, four, generator)
    assert rivals.median_up(base, nine, generator)
    assert not rivals.student_and_speed(base, four, generator)
    assert rivals.student_and_speed(base, nine, generator)
    assert not rivals.u_test_and_factor(base, nine, generator)  # below the factor of 1.1


@pytest.mark.parametrize("change", [1.0, 1.002, 1.004, 1.006])
def test_student_agrees_with_scipy(change):
    base, head = launches(1e6, 20, seed=3, spread=0.05), launches(change * 1e6, 20, seed=4, spread=0.05)
    values = [[part.mean() for launch in arm for part in np.array_split(launch, 3)] for arm in (base, head)]
    found = stats.ttest_ind(values[1], values[0])
    assert rivals.student(base, head, np.random.default_rng(0)) == bool(found.pvalue <= 0.05 and found.statistic > 0)


def test_a_rule_gets_launches_of_one_pair_together_and_of_any_two_apart():
    """Launches differ by 20 %, the arms of a pair by nothing: only who mixes them sees a change."""
    draw = random.Random(1)
    records = []
    for number in range(40):
        latencies = [2.0 * MS * math.exp(draw.gauss(0, 0.2))] * 60
        records.append(pair(number, 0.0, latencies=(map(round, latencies), map(round, latencies))))
    rule = rivals.RULES[0]
    together, apart = (rival_of(CELL, rule, way, records, 200) for way in ("together", "apart"))
    assert (together.slower, together.seconds) == (0, 2.0)
    assert 60 < apart.slower < 120


def test_pairs_of_a_visit_stay_together_and_in_order_and_time_passes_as_it_did():
    clock = Clock()
    source = Source(visits_of(pairs_of(0.0, 0.01, 40)), random.Random(0), clock)
    taken = [source.take() for _ in range(80)]
    for start in range(0, 80, PAIRS_OF_A_TEMPLATE):
        numbers = [record.pair for record in taken[start : start + PAIRS_OF_A_TEMPLATE]]
        assert numbers == list(range(numbers[0], numbers[0] + PAIRS_OF_A_TEMPLATE))
        assert numbers[0] % PAIRS_OF_A_TEMPLATE == 0
    assert clock() == 160.0
    assert len({record.visit for record in taken}) > 5


def test_a_still_machine_is_passed_by_the_screen_in_the_time_of_five_pairs():
    found = drawn(pairs_of(0.0, 0.0), pairs_of(0.0, 0.0))
    assert (found.verdicts, found.red, found.pairs, found.spent_s) == ({"latency_p50": Verdict.PASS}, False, 5, 10.0)
    assert found.control_s == 10.0  # the screen of the null control


def test_a_planted_slowdown_fails_the_gate_and_its_null_control_costs_time():
    found = drawn(pairs_of(0.05, 0.002), pairs_of(0.0, 0.002))
    assert (found.red, found.fails) == (True, True)
    assert found.spent_s <= 60.0
    assert found.control_s >= 10.0


def test_a_null_control_that_is_red_takes_the_red_away():
    found = drawn(pairs_of(0.05, 0.002), pairs_of(0.05, 0.002, seed=1))
    assert (found.red, found.control_red, found.fails) == (True, True, False)


def test_a_budget_that_is_spent_ends_it_undecided():
    found = drawn(pairs_of(0.025, 0.05), pairs_of(0.0, 0.05), budget_s=20.0)
    assert found.verdicts == {"latency_p50": Verdict.INCONCLUSIVE}
    assert found.spent_s <= 20.0


def test_power_grows_with_the_change_and_identical_code_is_left_in_peace():
    same = pairs_of(0.0, 0.01)
    with replaying():
        found = {
            change: [
                decide(visits_of(pairs_of(change, 0.01)), visits_of(same), P50, 60.0, random.Random(number)).fails for number in range(60)
            ]
            for change in (0.0, 0.03, 0.05)
        }
    shares = [sum(fails) / 60 for fails in found.values()]
    assert shares[0] == 0.0
    assert shares[1] < shares[2]
    assert shares[2] > 0.95


def test_a_replayed_contest_decides_as_the_contest_that_launched(runs, monkeypatch):
    """The same launches, once through runs and metrics, once through what was recorded of them."""
    rules = [Rule(name, metric_of(name), tolerance, 0.0) for name, tolerance in (("latency_p50", 0.02), ("throughput", 0.05))]
    clock = runs.FakeClock()
    launcher = runs.Machine(math.log1p(0.04), clock, spread=0.015, seed=5, pair_s=2.0)
    taken = []

    def launch(arms, number, procedure, seed, **how):
        taken.append(launcher.launch(arms, number, procedure, seed))
        return taken[-1]

    arms = {arm: runs.subject() for arm in ("baseline", "candidate")}
    real = Contest("trial", arms, rules, Procedure(collecting.DATA, MeasureSpec(), {}, Launcher()), 0, "single_stream")
    with monkeypatch.context() as patch:
        patch.setattr(contests, "launch", launch)
        screen_and_confirm([real], budget_s=60.0, record=lambda *_: None, step=lambda _: None, clock=clock)
    visit = collecting.Visit(CELL, 0, range(len(taken)))
    records = [collecting.record_of(visit, number, pair_of_runs, 2.0, rules) for number, pair_of_runs in enumerate(taken)]
    moving = Clock()
    sources = dict.fromkeys(arms, Source([records], random.Random(0), moving))
    again = Contest("trial", sources, rules, real.procedure, 0, "single_stream")
    with replaying():
        screen_and_confirm([again], budget_s=60.0, record=lambda *_: None, step=lambda _: None, clock=moving)
    assert real.comparisons.keys() == {"latency_p50", "throughput"}
    for metric, comparison in real.comparisons.items():
        other = again.comparisons[metric]
        assert (other.verdict, other.n) == (comparison.verdict, comparison.n)
        assert (other.effect, other.interval.low) == pytest.approx((comparison.effect, comparison.interval.low))
    assert again.spent_s == real.spent_s


def test_intervals_of_normal_log_ratios_hold_the_truth_as_often_as_they_say():
    found = coverage_of(CELL, visits_of(pairs_of(0.05, 0.01, 400)), 600)
    assert {row.metric for row in found} == {"latency_p50"}  # the only one that these pairs have
    for row in found:
        if not row.whole:
            assert row.held / row.draws == pytest.approx(row.level, abs=0.04 if row.level < 0.95 else 0.015)
        assert row.truth == pytest.approx(row.planted, abs=3 * row.error)
        assert row.spread == pytest.approx(0.01, rel=0.1)


def test_pairs_of_one_template_that_are_alike_are_told_and_widen_the_error():
    alike, independent = [[value] * 4 for value in (0.0, 0.1, 0.2, 0.3)], [[0.0, 0.1, 0.2, 0.3] for _ in range(4)]
    assert intraclass(alike) == 1.0
    assert intraclass(independent) < 0
    assert clustered_error(alike) == pytest.approx(stats.sem([0.0, 0.1, 0.2, 0.3]))
    assert clustered_error(independent) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(clustered_error([[0.1, 0.2]]))


@contextmanager
def nothing(*_):
    yield


class QuietWorkplace:
    """Arms and procedures of which nothing is opened."""

    procedure = staticmethod(nothing)

    def arms(self, cell):
        return {"baseline": cell, "candidate": cell}


class Silence:
    """Neighbours that are told when to be noisy, and are not."""

    def __init__(self, cores):
        self.noisy_times = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    @contextmanager
    def noisy(self):
        self.noisy_times += 1
        yield


@pytest.fixture
def fake_launches(runs, monkeypatch):
    """The launches of ``collect`` come from a machine whose truth is known; the list of stops says which of them is interrupted."""
    clock = runs.FakeClock()
    fake, stops, numbers = runs.Machine(0.0, clock, pair_s=2.0), [], itertools.count(1)

    def launch(arms, number, procedure, seed, **how):
        if next(numbers) in stops:
            raise KeyboardInterrupt
        made = fake.launch(arms, number, procedure, seed)
        return {arm: dataclasses.replace(run, template_pid=7) for arm, run in made.items()}

    @contextmanager
    def opened(progress):
        yield QuietWorkplace()

    monkeypatch.delenv("VERDICT_LOCK", raising=False)
    monkeypatch.setattr(collecting, "launch", launch)
    monkeypatch.setattr(collecting, "opened", opened)
    monkeypatch.setattr(collecting, "Neighbours", Silence)
    return clock, stops


def take(data, clock, **options):
    return collecting.collect(data, clock=clock, **({"seconds": 1e9, "pairs": 6, "only": "onnx/*/identical"} | options))


def test_collecting_goes_on_after_an_interruption_and_no_pair_is_taken_twice(fake_launches, tmp_path):
    clock, stops = fake_launches
    data = pairs_in(tmp_path)
    stops.append(6)
    with pytest.raises(KeyboardInterrupt):
        take(data, clock)
    assert len(list(data.read())) == 5
    assert take(data, clock) == 0
    records = list(data.read())
    numbers = Counter((record.cell, record.pair) for record in records)
    assert numbers == {(cell.id, number): 1 for cell in cells("onnx/*/identical") for number in range(6)}
    for cell in cells("onnx/*/identical"):
        of_cell = [record for record in records if record.cell == cell.id]
        by_visit = Counter(record.visit for record in of_cell)
        assert max(by_visit.values()) <= PAIRS_OF_A_TEMPLATE
        assert [record.visit for record in of_cell] == sorted(record.visit for record in of_cell)


def test_collecting_stops_between_visits_when_its_time_is_over(fake_launches, tmp_path):
    clock, _ = fake_launches
    assert take(pairs_in(tmp_path), clock, seconds=5.0) == 12 - min(6, PAIRS_OF_A_TEMPLATE)


def test_what_a_record_keeps_is_what_the_gate_computes(fake_launches, tmp_path):
    clock, _ = fake_launches
    take(pairs_in(tmp_path), clock)
    record = next(pairs_in(tmp_path).read())
    assert record.log_ratios["latency_p50"] == pytest.approx(math.log(record.candidate.median_ns / record.baseline.median_ns))
    assert record.figures["latency_p50"] == (record.baseline.median_ns, record.candidate.median_ns)
    assert (record.wall_s, record.baseline.queries, record.baseline.forked) == (2.0, 24, True)
    assert len(record.baseline.latencies_ns) == 24


def test_visits_catch_up_with_what_is_behind_before_anything_goes_ahead():
    chosen, one = cells("torch/quiet/*"), PAIRS_OF_A_TEMPLATE
    taken = Counter({cell.id: 2 * one for cell in chosen[1:]})
    order = [visit.cell for visit in collecting.visits(chosen, taken, Counter(), 3 * one)]
    assert order[:2] == [chosen[0], chosen[0]]
    assert Counter(order[2:]) == dict.fromkeys(chosen, 1)


def test_a_line_that_was_cut_short_is_left_out_and_written_over(tmp_path):
    data = pairs_in(tmp_path)
    data.append(pair(0, 0.1))
    with data.path.open("ab") as file:
        file.write(b'{"cell":"onnx/qu')
    assert [record.pair for record in data.read()] == [0]
    data.append(pair(1, 0.1))
    assert [record.pair for record in data.read()] == [0, 1]


def test_what_is_packed_reads_the_same_and_packs_the_same(tmp_path):
    data = pairs_in(tmp_path / "work")
    data.write(pairs_of(0.0, 0.01, 5))
    data.pack(tmp_path / "one")
    data.pack(tmp_path / "two")
    assert list(pairs_in(tmp_path / "one").read()) == list(data.read())
    assert (tmp_path / "one" / "pairs.jsonl.gz").read_bytes() == (tmp_path / "two" / "pairs.jsonl.gz").read_bytes()
    assert list(pairs_in(tmp_path / "none").read()) == []


def test_data_of_other_scenarios_are_not_added_to(tmp_path, monkeypatch):
    machine.note_machine(tmp_path)
    machine.note_machine(tmp_path)
    assert len(list(machine.machines_in(tmp_path).read())) == 1
    monkeypatch.setattr(machine, "_digest", lambda: "another")
    with pytest.raises(SystemExit, match="holds data of other scenarios or models"):
        machine.note_machine(tmp_path)


def test_both_scenarios_gate_the_timings_of_launches_with_default_tolerances():
    for workload in ("onnx", "torch"):
        tolerances = {rule.metric: rule.tolerance for rule in launch_rules(workload)}
        assert tolerances.items() >= {"latency_p50": 0.02, "latency_p90": 0.05, "throughput": 0.05}.items()


def test_planted_units_are_the_change_that_they_are_called():
    assert {arm.name: arm.planted for arm in ARMS.values()} == pytest.approx(
        {IDENTICAL: 0.0, "+1%": 0.01, "+2.5%": 0.025, "+5%": 0.05, "+10%": 0.10}
    )


def test_a_neighbour_works_for_its_share_of_the_time(runs):
    clock, slept = runs.FakeClock(), []

    def tick():
        clock.spend(0.001)
        return clock()

    def sleep(duration_s):
        slept.append(duration_s)
        clock.spend(duration_s)

    neighbour.work("busy", lambda: len(slept) >= 50, tick, sleep, random.Random(0))
    assert 1 - sum(slept) / clock() == pytest.approx(neighbour.DUTY, abs=0.02)


def test_gates_come_in_turn_and_those_that_are_done_are_left_out():
    order = list(gates.wanted(100, 20, Counter()))
    assert Counter(cell.arm for cell in order) == {IDENTICAL: 100, gates.PLANTED: 20}
    assert len({(cell.workload, cell.condition) for cell in order[:8]}) == 4
    done = Counter(cell.id for cell in order[:50])
    assert list(gates.wanted(100, 20, done)) == order[50:]


def test_a_gate_is_read_from_what_the_command_prints():
    printed = {
        "exit_code": 1,
        "verdict": "REGRESSED",
        "headline": "REGRESSED: 1 metric regressed",
        "trials": [{"metrics": [{"metric": "load_time", "n": 9}, {"metric": "latency_p50", "n": 11}]}],
        "comparisons": [{"metric": "latency_p50", "verdict": "REGRESSED"}, {"metric": "throughput", "verdict": "PASS"}],
        "null_control": {"trial": "a", "red": False},
    }
    found = gate_of(CELL, 3, 21.456, json.loads(json.dumps(printed)))
    assert (found.seconds, found.exit_code, found.pairs, found.control_red) == (21.46, 1, 11, False)
    assert found.verdicts == {"latency_p50": "REGRESSED", "throughput": "PASS"}


def test_what_pytest_benchmark_says_of_a_slower_head_is_understood():
    told = PercentageRegressionCheck("median", 5).fails({"median": 1.2}, {"median": 1.0})
    assert pytest_runs.FAILED.findall(f"Performance has regressed:\n\ttest_query (0001_base) - {told}") == ["median"]


def test_pairs_of_pytest_benchmark_come_in_turn_and_those_that_are_done_are_left_out():
    order = list(pytest_runs.wanted(3, 1, Counter()))
    assert len(order) == 8 * 4
    done = Counter((cell.id, time_s) for cell, time_s in order[:10])
    assert list(pytest_runs.wanted(3, 1, done)) == order[10:]


@pytest.fixture
def data(tmp_path):
    """A very small repetition of the benchmark: two cells of one workload, a false alarm in a gate."""
    folder = tmp_path / "data"
    same, slow = Cell("onnx", "quiet", IDENTICAL), CELL
    records = {cell: pairs_of(ARMS[cell.arm].planted, 0.005, 40, seed=number, cell=cell) for number, cell in enumerate((same, slow))}
    pairs_in(folder).write([*records[same], *records[slow]])
    powers, coverages = [], []
    with replaying():
        for cell, found in records.items():
            visits = visits_of(found)
            decided = [decide(visits, visits_of(records[same]), P50, 60.0, random.Random(number)) for number in range(20)]
            powers.append(power_of(cell, 0.02, decided, 60.0))
            coverages += coverage_of(cell, visits, 50)
    powers_in(folder).write(powers)
    coverages_in(folder).write(coverages)
    latencies = [tuple(map(round, launch)) for launch in launches(2.0 * MS, 20)]
    full = [
        dataclasses.replace(record, baseline=launch_record(latencies[0]), candidate=launch_record(latencies[1])) for record in records[same]
    ]
    rivals_in(folder).write(rival_of(same, rule, way, full, 10) for rule in rivals.RULES for way in ("apart", "together"))
    taken_at = "2030-01-01T00:00:00+00:00"
    passed = Gate(same.id, 0, taken_at, 20.0, 0, "PASS", "PASS", {"latency_p50": "PASS"}, 5, None)
    red = dataclasses.replace(passed, number=1, exit_code=1, verdict="REGRESSED", seconds=44.0)
    gates_in(folder).write([passed, red])
    pytest_pairs_in(folder).write([PytestPair(same.id, 0, taken_at, 1.0, 9.0, 1, ("mean",), 1.07, 1.01)])
    machine.note_machine(folder)
    return folder


def test_every_target_stands_beside_what_was_measured(data):
    found = {(target.promise, target.where): target for target in targets_of(publish.read_summary(data))}
    whole = found["no false alarm in whole gates", "all"]
    assert (whole.measured, whole.kept, whole.missed_by) == ("1 of 2", False, "1 false alarms")
    alarms = [target for (promise, _), target in found.items() if promise.startswith("at most 0.1%")]
    assert [(target.where, target.kept) for target in alarms] == [
        ("onnx, quiet", True),
        ("onnx, noisy", None),
        ("torch, quiet", None),
        ("torch, noisy", None),
    ]
    finds = found["+5 % found at tolerance 2 % in at least 99%, within the time", "onnx, quiet"]
    assert (finds.measured, finds.kept) == ("100.0% within 60 s a trial; 100.0% with the job's null control counted in", True)


def test_the_page_is_made_of_the_data_alone_and_comes_out_the_same_again(data, tmp_path):
    page = publish.publish(data, tmp_path / "docs")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!-- Generated by tests/benchmarks/verdict/publish.py")
    assert "| no false alarm in whole gates | all | 1 of 2 | **MISSED** by 1 false alarms |" in text
    assert "| onnx | quiet | identical | 2 | 1 | 97.5 % | 1 PASS, 1 REGRESSED | 5 | 32 / 44 s |" in text
    assert "pytest-benchmark, mean:5%" in text  # an option keeps its spelling
    for name in ("detection", "seconds", "coverage", "ratios"):
        assert f"](verdict/{name}.svg)" in text
        assert (tmp_path / "docs" / "verdict" / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")
    assert publish.publish(tmp_path / "nowhere", tmp_path / "docs").read_text(encoding="utf-8") == text


def test_without_any_data_nothing_is_published(tmp_path):
    with pytest.raises(SystemExit, match="nothing to publish"):
        publish.publish(tmp_path / "nowhere", tmp_path / "docs")
    assert not (tmp_path / "docs" / "verdict.md").exists()

import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import machines

from harness.core.comparison import SlaState
from harness.core.errors import BadInput, CannotMeasure
from harness.core.purchase import Apart, Assumptions
from harness.core.result import TrialState
from harness.engine.compare_machines.compare import HOURS_A_MONTH, compare_runs
from harness.engine.compare_machines.offers import COST
from harness.engine.compare_machines.prices import Prices, energy_price, read_loads, read_prices, share
from harness.engine.compare_machines.read_runs import Named
from harness.engine.compare_machines.told_apart import Question, tell_apart

LOADS = (10.0, 1_000.0)


def compared(*given, prices=(), energy=None, utilisation=1.0, margin=0.15, loads=LOADS):
    """Runs, or pairs of a name and a run."""
    named = [Named(*one) if isinstance(one, tuple) else Named(None, one) for one in given]
    said = Assumptions(utilisation, "--utilisation", energy, None if energy is None else "USD", margin, HOURS_A_MONTH)
    return compare_runs(sorted(named, key=lambda one: one.result.started_at), read_prices(prices, None), said, loads)


def answer(*given, **options):
    (found,) = compared(*given, **options).answers
    return found


def pair_of(found, metric, *names):
    return next(pair for pair in found.pairs if pair.metric == metric and {pair.first, pair.second} == set(names))


def line_of(offer, what):
    return next(line for line in offer.lines if line.what == what)


def test_the_cheapest_machine_that_keeps_all_promises_is_named():
    found = answer(
        machines.run("small", 100, price=1.0, states={"latency_p99": SlaState.BROKEN}),
        machines.run("middle", 200, price=2.5, number=2),
        machines.run("big", 400, price=10.0, number=3),
    )
    assert (found.winner, found.ties, found.decided) == ("middle", (), True)
    assert found.headline == "middle is the cheapest machine that keeps both promises: 3.49 USD for a million inferences (int8, batch 1)"
    told = "with int8, batch 1, ‘latency_p99: at most 50 ms’ is BROKEN (3 of 100 queries over 50.0 ms)."
    assert f"small is not shown to keep all promises: {told}" in found.why


@pytest.mark.parametrize("state", [SlaState.BROKEN, SlaState.UNPROVEN, SlaState.UNMEASURED])
def test_a_machine_that_is_not_shown_to_keep_every_promise_is_never_the_cheapest(state):
    found = answer(machines.run("cheap", 100, price=0.01, states={"accuracy": state}), machines.run("dear", 100, price=5.0, number=2))
    assert found.winner == "dear"
    assert [offer.machine for offer in found.best] == ["dear"]


def test_a_cheaper_machine_that_only_lacks_proof_is_told():
    found = answer(
        machines.run("cheap", 100, price=0.01, states={"latency_p99": SlaState.UNPROVEN}), machines.run("dear", 100, price=5.0, number=2)
    )
    (told,) = [line for line in found.could_change if line.startswith("Proof")]
    assert "cheap with int8" in told and "about 200 more queries would tell" in told


def test_a_promise_that_one_run_never_checked_is_not_kept_there():
    without = machines.run("unchecked", 100, price=0.01)
    without = replace(without, sla=tuple(finding for finding in without.sla if finding.metric != "accuracy"))
    found = answer(without, machines.run("checked", 100, price=1.0, number=2))
    offer = next(offer for offer in found.offers if offer.machine == "unchecked")
    assert [clause.state for clause in offer.clauses] == [SlaState.KEPT, SlaState.UNMEASURED]
    assert found.winner == "checked"


def test_no_machine_is_named_where_none_keeps_its_promises():
    broken = {"accuracy": SlaState.BROKEN}
    found = answer(machines.run("a", states=broken), machines.run("b", number=2, states=broken))
    assert found.headline == "No machine is shown to keep both promises"
    assert (found.winner, found.decided, found.fleets[0].cells) == (None, False, ())


def test_two_machines_of_one_speed_and_price_cannot_be_told_apart():
    found = answer(machines.run("a", 100, price=1.0), machines.run("b", 100, price=1.0, number=2))
    assert found.ties == (found.best[1].machine,)
    assert not found.decided
    assert "cannot be told apart in cost" in found.headline
    assert {pair.found for pair in found.pairs} == {Apart.NOT_APART}


def test_a_difference_within_what_two_runs_may_differ_by_is_not_believed_of_single_runs():
    sharp = {"spread": 0.001, "launches": 20}
    found = answer(machines.run("a", 100, **sharp), machines.run("b", 110, number=2, **sharp))
    pair = pair_of(found, "throughput", "a", "b")
    assert pair.interval.low > 1.05 and pair.found is Apart.NOT_APART  # sharp, and yet within 15 %
    assert "within the 15 %" in pair.reason
    wide = answer(machines.run("a", 100, **sharp), machines.run("b", 130, number=2, **sharp))
    assert pair_of(wide, "throughput", "a", "b").found is Apart.SECOND


def test_three_runs_of_each_machine_tell_what_single_runs_cannot():
    runs = [
        machines.run(name, per_s, number=number, spread=0.004)
        for name, per_s, days in (("a", 100, (1, 3, 5)), ("b", 110, (2, 4, 6)))
        for number in days
    ]
    pair = pair_of(answer(*runs), "throughput", "a", "b")
    assert (pair.n, pair.n_of, pair.margin, pair.found) == ((3, 3), "sessions", 0.0, Apart.SECOND)


def test_what_two_runs_of_one_machine_show_widens_the_margin():
    runs = [
        machines.run("a", 100, spread=0.001),
        machines.run("a", 140, number=2, spread=0.001),
        machines.run("b", 180, number=3, spread=0.001),
    ]
    found = answer(*runs)
    assert pair_of(found, "throughput", "a", "b").margin == pytest.approx(0.4, abs=0.01)
    (between,) = [pair for pair in found.pairs if pair.sessions and pair.metric == "throughput"]
    assert (between.first, between.second, between.margin) == ("a, run 1", "a, run 2", pytest.approx(0.15))
    assert between.found is Apart.SECOND


def test_two_runs_of_one_machine_are_its_sessions_and_names_keep_them_apart():
    first, second = machines.run("same"), machines.run("same", number=2)
    together = compared(first, second)
    assert [(machine.name, len(machine.runs)) for machine in together.machines] == [("same", 2)]
    assert {pair.found for pair in together.answers[0].pairs} == {Apart.NOT_APART}
    apart = compared(("left", first), ("right", second))
    assert [(machine.name, len(machine.runs)) for machine in apart.machines] == [("left", 1), ("right", 1)]


def test_targets_of_one_name_on_different_hardware_are_two_machines():
    other = replace(machines.run("cpu").environment, cpu_model="Another CPU")
    found = compared(machines.run("cpu"), machines.run("cpu", number=2, environment=other))
    assert [machine.name for machine in found.machines] == ["cpu-1", "cpu-2"]
    with pytest.raises(BadInput, match="--price: 'cpu' is cpu-1 and cpu-2"):
        compared(machines.run("cpu"), machines.run("cpu", number=2, environment=other), prices=["cpu=1.20"])


def test_the_number_of_cores_is_part_of_a_machine():
    found = compared(machines.run("cpu", cores=1), machines.run("cpu", cores=2, number=2))
    assert [(machine.name, machine.cores) for machine in found.machines] == [("cpu-1", 1), ("cpu-2", 2)]


def test_a_run_of_an_older_scenario_is_listed_with_what_differs_and_not_compared():
    old = machines.run(
        "relic",
        900,
        price=0.01,
        parts=machines.PARTS | {"model": "9999ffff", "seed": "7"},
        text=machines.TEXT.replace("width: 64", "width: 48"),
    )
    found = answer(old, machines.run("a", 100, number=2), machines.run("b", 300, number=3))
    assert {offer.machine for offer in found.offers} == {"a", "b"}
    assert found.winner == "b"
    (out,) = found.left_out
    assert (out.machine, out.run) == ("relic", old.id)
    assert out.reason.startswith("another state of the scenario, measured earlier: not the work of 2 machines")
    assert "seed: 7 here, 0 there" in out.differences
    assert "model: 9999ffff here, aaaa1111 there" in out.differences
    assert any("'args: {width: 48}' only here" in line for line in out.differences)
    assert any(line.startswith(f"Run {old.id} of relic is left out") for line in found.why)


def test_of_equally_many_states_of_a_scenario_the_newest_is_compared():
    changed = machines.PARTS | {"model": "9999ffff"}
    found = answer(machines.run("a", number=1), machines.run("b", number=2, parts=changed))
    assert [offer.machine for offer in found.offers] == ["b"]
    assert [out.machine for out in found.left_out] == ["a"]


def test_another_scenario_text_alone_excludes_nobody():
    other = machines.TEXT.replace("hardware: [HARDWARE]", "hardware: [HARDWARE]  # in the other hall")
    found = answer(machines.run("a"), machines.run("b", number=2, text=other))
    assert len(found.offers) == 2 and not found.left_out


def test_a_run_without_parts_is_compared_only_with_its_like_and_says_so():
    found = answer(machines.run("a", parts={}), machines.run("b", number=2), machines.run("c", number=3))
    (out,) = found.left_out
    assert out.machine == "a"
    assert "from before runs kept what a trial is made of" in out.differences[0]


def test_versions_that_differ_are_told_and_exclude_nobody():
    newer = replace(machines.run("b").environment, packages={"onnxruntime": "1.33.0"})
    second = machines.run("b", number=2, environment=newer)
    content = replace(second.trials[0].content, toolchain={"onnxruntime": "1.33.0"})
    found = compared(machines.run("a"), replace(second, trials=(replace(second.trials[0], content=content),)))
    assert found.differs == ("onnxruntime: 1.32.0 on a, 1.33.0 on b",)
    assert len(found.answers[0].offers) == 2


def test_every_line_of_the_cost_follows_from_those_above_it():
    (offer,) = answer(machines.run("a", 100, price=1.8), utilisation=0.5).offers
    rate, used, hourly, price, total = offer.lines
    assert rate.value == offer.estimate("throughput").value
    assert hourly.value == pytest.approx(rate.value * used.value * 3600)
    assert total.value == pytest.approx(price.value / hourly.value * 1e6) == offer.cost.value
    assert (total.interval.low, total.interval.high) == pytest.approx((1.8e6 / hourly.interval.high, 1.8e6 / hourly.interval.low))
    assert [line.what for line in offer.lines] == ["rate", "utilisation", "inferences an hour", "price", "cost of a million"]


def test_energy_is_added_line_by_line_where_every_machine_measured_it():
    found = answer(machines.run("a", 100, energy_j=3.6), machines.run("b", 100, number=2, energy_j=7.2), energy=0.30)
    first, second = found.offers
    assert line_of(first, "energy in kWh").value == pytest.approx(1.0)
    assert line_of(first, "energy for a million").value == pytest.approx(0.30)
    assert line_of(second, "energy for a million").value == pytest.approx(0.60)
    for offer in found.offers:
        assert offer.cost.value == pytest.approx(
            line_of(offer, "machine for a million").value + line_of(offer, "energy for a million").value
        )


def test_energy_that_one_machine_did_not_measure_is_left_out_of_all_costs_and_said():
    found = compared(machines.run("a", 100, energy_j=3.6), machines.run("b", 100, number=2), energy=0.30)
    assert all(line.what != "energy for a million" for offer in found.answers[0].offers for line in offer.lines)
    assert any("energy is left out of every cost: it was not measured on b" in note for note in found.notes)


def test_a_measured_capacity_is_the_rate_and_else_the_throughput_which_is_said():
    found = answer(machines.run("a", 100, capacity=60.0, batch_size=4), machines.run("b", 100, number=2, batch_size=4))
    first, second = found.offers
    assert (first.rate.metric, second.rate.metric) == ("capacity", "throughput")
    assert line_of(first, "inferences a second").value == pytest.approx(240)
    assert "keeps the SLA" in line_of(first, "rate").source
    assert "throughput at batch 4, one query at a time" in line_of(second, "rate").source


def test_a_rate_that_was_only_asked_for_costs_nothing_because_it_is_not_what_the_machine_can_do():
    found = answer(machines.run("a", 100, load="locust"), machines.run("b", 100, number=2, load="locust", capacity=150.0))
    asked, able = found.offers
    assert asked.cost is None and "only what was asked for, not what the machine can do" in asked.no_cost
    assert able.rate.metric == "capacity" and found.winner == "b"
    assert any("a is not compared in cost: under the load locust" in line for line in found.why)


def test_a_machine_without_a_price_is_compared_in_speed_and_told_its_price_of_a_draw():
    found = compared(machines.run("a", 100, price=1.0), machines.run("free", 300, number=2, price=None))
    (one,) = found.answers
    assert one.winner == "a" and [offer.machine for offer in one.best] == ["a", "free"]
    assert next(offer for offer in one.offers if offer.machine == "free").cost is None
    assert pair_of(one, "throughput", "a", "free").found is Apart.SECOND
    (even,) = [even for even in one.break_even if even.machine == "free"]
    assert even.price_now is None and even.price_even == pytest.approx(3.0, rel=0.05)
    assert any("free has no price" in note for note in found.notes)
    assert [cell.cost_month for cell in one.fleets[0].cells] == [pytest.approx(730.0), None]


def test_nobody_is_the_cheapest_where_no_price_is_known():
    found = answer(machines.run("a", price=None), machines.run("b", number=2, price=None))
    assert found.winner is None and found.break_even == ()
    assert found.headline == "No price is known, so no machine is the cheapest; a and b keep both promises"


def test_at_its_price_of_a_draw_a_machine_costs_as_much_as_the_other():
    runs = machines.run("a", 100, price=1.0), machines.run("b", 150, number=2, price=6.0)
    found = answer(*runs)
    assert [(even.machine, even.against) for even in found.break_even] == [("a", "b"), ("b", "a")]
    even = next(even for even in found.break_even if even.machine == "b")
    again = answer(*runs, prices=[f"b={even.price_even}"])
    assert [offer.cost.value for offer in again.best] == pytest.approx([found.best[0].cost.value] * 2)


def test_a_load_needs_whole_machines_and_may_turn_the_order():
    found = answer(
        machines.run("small", 100, price=1.0, spread=0.0),
        machines.run("huge", 1000, number=2, price=5.0, spread=0.0),
        loads=(90.0, 1_000.0, 1_001.0),
    )
    assert found.winner == "huge"
    assert [[(cell.machine, cell.machines) for cell in fleet.cells] for fleet in found.fleets] == [
        [("huge", 1), ("small", 1)],
        [("huge", 1), ("small", 10)],
        [("huge", 2), ("small", 11)],
    ]
    assert [fleet.cheapest for fleet in found.fleets] == [("small",), ("huge",), ("huge",)]
    assert any(line.startswith("Load: machines come whole, and at 90") for line in found.could_change)


def test_each_machine_is_judged_by_its_best_recipe_that_keeps_the_promises():
    fast_and_wrong = machines.run("a", 100, recipes={"int4": 4.0})
    broken = tuple(
        replace(finding, state=SlaState.BROKEN) if "int4" in finding.trial and finding.metric == "accuracy" else finding
        for finding in fast_and_wrong.sla
    )
    found = answer(replace(fast_and_wrong, sla=broken), machines.run("b", 100, number=2, price=3.0, recipes={"int4": 2.0}))
    assert [(offer.machine, offer.work.recipe) for offer in found.best] == [("a", "int8"), ("b", "int4")]
    assert pair_of(found, COST, "a", "b").work == "int8, batch 1; int4, batch 1"


def test_trials_that_were_not_measured_in_their_run_have_no_part_in_it():
    stale = machines.run("a")
    stale = replace(stale, trials=tuple(replace(trial, state=TrialState.UNCHANGED, reason="same content") for trial in stale.trials))
    found = compared(stale, machines.run("b", number=2))
    assert [machine.name for machine in found.machines] == ["b"]
    assert any("has no timings in run" in note for note in found.notes)
    with pytest.raises(CannotMeasure, match="none of these runs has timings"):
        compared(stale)


def test_prices_in_two_currencies_are_refused():
    with pytest.raises(BadInput, match="prices in several currencies: a in USD, b in EUR"):
        compared(machines.run("a"), machines.run("b", number=2, currency="EUR"))


def test_a_given_price_goes_before_a_listed_one_and_that_before_the_runs_own(tmp_path):
    file = tmp_path / "hardware.yaml"
    file.write_text("version: 1\ntargets:\n  a: {price_per_hour: 2.0, currency: EUR}\n  b: {price_per_hour: 3.0, currency: EUR}\n")
    prices = read_prices(["a=9"], file)
    assert prices.of("a", "a", None, "EUR").per_hour == 9
    assert (prices.of("b", "b", None, None).per_hour, prices.of("b", "b", None, None).source) == (3.0, str(file))
    assert prices.of("c", "c", None, None) is None


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (lambda text: read_prices([text], None), "a:1.20", "write it as 'NAME=1.20'"),
        (lambda text: read_prices([text, text], None), "a=1.20", "has two prices"),
        (energy_price, "0.30 USD", "write it as '0.30 USD/kWh'"),
        (lambda text: share(text, "--utilisation", "60 %"), "0 %", "is not a share above 0 %"),
        (lambda text: share(text, "--utilisation", "60 %"), "120 %", "up to 100 %"),
        (lambda text: share(text, "--utilisation", "60 %"), "60", "write it as '60 %'"),
        (lambda text: read_loads([text]), "1,00 /s", "write it as '1,000 /s'"),
        (lambda text: read_loads([text]), "20 ms", "is not a rate above zero"),
    ],
)
def test_what_the_buyer_says_wrongly_is_refused_with_how_it_is_written(read, text, told):
    with pytest.raises(BadInput, match=told):
        read(text)


def test_loads_may_be_written_with_thousands():
    assert read_loads(["1,000 /s", "20 /s", "1,500,000 /s"]) == (20.0, 1_000.0, 1_500_000.0)


def test_a_price_of_a_machine_that_is_not_there_names_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'small'"):
        Prices({"smal": (1.0, None)}, {}).check({"small": "small"})


def question(first, second, **changes):
    return Question("a", "b", "w", "throughput", "higher", (first, second), **changes)


def sessions(draw, count, spread_of_sessions, launches, level=0.0, spread=0.02):
    return [
        [math.exp(level + own + draw.gauss(0, spread)) for _ in range(launches)]
        for own in [draw.gauss(0, spread_of_sessions) for _ in range(count)]
    ]


def called_different(runs, spread_of_sessions, margin=0.15):
    """How often, in percent of 1,000 comparisons, two equal machines are called different."""
    draw = random.Random(7)
    wrong = 0
    for _ in range(1_000):
        first, second = (sessions(draw, runs, spread_of_sessions, 5) for _ in range(2))
        wrong += tell_apart([question(first, second)], margin)[0].found is not Apart.NOT_APART
    return wrong / 10


def documented():
    """The rows of the table in docs/compare.md: the spread of runs, then percents for launches alone, with the margin, for three runs."""
    text = (Path(__file__).parents[3] / "docs" / "compare.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) % \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    return [tuple(float(number) for number in row) for row in rows]


@pytest.mark.slow
def test_equal_machines_are_called_different_as_often_as_the_documents_say():
    rows = documented()
    assert len(rows) == 5
    for spread, alone, with_margin, of_three in rows:
        found = called_different(1, spread / 100, 1e-9), called_different(1, spread / 100), called_different(3, spread / 100)
        assert found == pytest.approx((alone, with_margin, of_three), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "spread_of_sessions"), [(1, 0.03), (3, 0.05), (5, 0.15)])
def test_four_equal_machines_share_the_error_of_all_their_pairs(count, spread_of_sessions):
    draw, wrong = random.Random(7), 0
    for _ in range(1_000):
        fleet = [sessions(draw, count, spread_of_sessions, 5) for _ in range(4)]
        pairs = tell_apart([question(fleet[i], fleet[j]) for i in range(4) for j in range(i)])
        wrong += any(pair.found is not Apart.NOT_APART for pair in pairs)
    assert wrong <= 67  # the 99 % end of a binomial with 5 %


def test_a_machine_that_is_half_as_fast_again_is_found():
    draw, found = random.Random(3), 0
    for _ in range(200):
        first, second = sessions(draw, 1, 0.03, 5), sessions(draw, 1, 0.03, 5, level=math.log(1.5))
        (pair,) = tell_apart([question(first, second)])
        found += pair.found is Apart.SECOND
    assert found >= 190


def test_one_launch_is_not_tested():
    (pair,) = tell_apart([question([[1.0]], [[1.0, 1.1]])])
    assert (pair.found, pair.ratio, pair.interval) == (Apart.NOT_TESTED, None, None)


def test_holm_leaves_more_error_to_the_pairs_that_come_after_what_is_shown():
    near = ([[1.0, 1.02, 0.98, 1.01, 0.99]], [[1.4, 1.43, 1.37, 1.42, 1.39]])
    far = ([[1.0, 1.02, 0.98, 1.01, 0.99]], [[9.0, 9.2, 8.8, 9.1, 8.9]])
    alone, beside = tell_apart([question(*near)])[0], tell_apart([question(*near), question(*far)])
    assert [round(pair.interval.level, 4) for pair in beside] == [0.95, 0.975]
    assert alone.interval == beside[0].interval

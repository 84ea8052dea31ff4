import math

import pytest

from harness.core.comparison import Comparison, NullControl, SlaFinding, SlaState, Verdict
from harness.core.errors import ExitCode
from harness.core.estimate import ConfidenceInterval
from harness.core.result import TrialRecord, TrialState
from harness.core.units import Unit
from harness.engine.judge import GRAVITY, Evidence, decide, judge, worsening, worst


def evidence(strict, plain=None, *, scale="ratio", better="lower", tolerance=0.02, floor=0.0, change=1e6):
    return Evidence(
        scale, better, ConfidenceInterval(*strict, 0.998), ConfidenceInterval(*(plain or strict), 0.9), tolerance, floor, change
    )


def mirrored(low, high):
    """The same interval for a metric of which more is better."""
    return (1 / high, 1 / low)


TABLE = [
    pytest.param((1.03, 1.06), (1.035, 1.055), Verdict.REGRESSED, id="wholly beyond the tolerance"),
    pytest.param((1.01, 1.06), (1.021, 1.055), Verdict.INCONCLUSIVE, id="beyond it at the level of a pass only"),
    pytest.param((0.99, 1.05), (1.001, 1.04), Verdict.INCONCLUSIVE, id="across the tolerance"),
    pytest.param((0.90, 1.10), (0.95, 1.05), Verdict.INCONCLUSIVE, id="across everything"),
    pytest.param((1.005, 1.03), (1.008, 1.019), Verdict.PASS, id="worse, within the tolerance"),
    pytest.param((0.98, 1.03), (0.99, 1.015), Verdict.PASS, id="no change"),
    pytest.param((0.90, 1.001), (0.91, 0.999), Verdict.PASS, id="better at the level of a pass only"),
    pytest.param((0.90, 0.999), (0.91, 0.99), Verdict.IMPROVED, id="wholly better"),
    pytest.param((0.97, 1.0), (0.98, 1.0), Verdict.PASS, id="just no change"),
]


@pytest.mark.parametrize(("strict", "plain", "verdict"), TABLE)
def test_every_row_of_the_table_where_less_is_better(strict, plain, verdict):
    assert judge(evidence(strict, plain)) is verdict


@pytest.mark.parametrize(("strict", "plain", "verdict"), TABLE)
def test_every_row_of_the_table_where_more_is_better(strict, plain, verdict):
    assert judge(evidence(mirrored(*strict), mirrored(*plain), better="higher")) is verdict


@pytest.mark.parametrize(("better", "strict", "plain"), [("lower", (1.25, 1.5), (1.25, 1.25)), ("higher", (0.5, 0.8), (0.8, 0.8))])
def test_just_on_the_tolerance_is_neither_beyond_it_nor_within(better, strict, plain):
    assert judge(evidence(strict, plain, better=better, tolerance=0.25)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("strict", "plain", "verdict"),
    [
        ((-0.05, -0.006), (-0.04, -0.007), Verdict.REGRESSED),
        ((-0.05, -0.004), (-0.04, -0.0051), Verdict.INCONCLUSIVE),
        ((-0.05, 0.01), (-0.04, 0.005), Verdict.INCONCLUSIVE),
        ((-0.02, 0.01), (-0.0049, 0.005), Verdict.PASS),
        ((0.001, 0.02), (0.005, 0.015), Verdict.IMPROVED),
    ],
)
def test_a_difference_is_judged_in_points_in_both_directions(strict, plain, verdict):
    assert judge(evidence(strict, plain, scale="difference", better="higher", tolerance=0.005)) is verdict
    turned = evidence((-strict[1], -strict[0]), (-plain[1], -plain[0]), scale="difference", better="lower", tolerance=0.005)
    assert judge(turned) is verdict


@pytest.mark.parametrize(("change", "verdict"), [(2_001.0, Verdict.REGRESSED), (2_000.0, Verdict.PASS), (1.0, Verdict.PASS)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_that_is_not_above_the_floor_is_no_regression_however_sharp(change, verdict, sign):
    assert judge(evidence((1.5, 1.6), floor=2_000.0, change=sign * change)) is verdict


def test_a_floor_is_no_excuse_for_what_is_not_shown():
    assert judge(evidence((0.9, 1.6), floor=2_000.0, change=1.0)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("strict", "verdict"),
    [
        ((1.0, 1.0), Verdict.PASS),
        ((1.0001, 1.0002), Verdict.REGRESSED),
        ((0.9998, 0.9999), Verdict.IMPROVED),
        ((0.9999, 1.0001), Verdict.INCONCLUSIVE),
        ((0.99, 1.0), Verdict.PASS),
    ],
)
def test_a_tolerance_of_zero_passes_only_what_is_not_worse_at_all(strict, verdict):
    assert judge(evidence(strict, tolerance=0.0)) is verdict


@pytest.mark.parametrize("change", [math.nan, math.inf, -math.inf])
def test_a_change_that_is_no_number_is_no_evidence(change):
    with pytest.raises(ValueError, match="not a change that can be judged"):
        evidence((1.5, 1.6), change=change)


def test_half_the_throughput_is_as_much_worse_as_twice_the_latency():
    latency = worsening(ConfidenceInterval(2.0, 4.0, 0.9), "ratio", "lower")
    throughput = worsening(ConfidenceInterval(0.25, 0.5, 0.9), "ratio", "higher")
    assert (latency.low, latency.high) == (throughput.low, throughput.high) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.0, 0.5), (1.0, math.inf)), ((0.5, math.inf), (-1.0, 1.0)), ((0.0, 0.0), (math.inf, math.inf))],
)
def test_a_rate_that_may_have_fallen_to_nothing_is_infinitely_worse(interval, expected):
    found = worsening(ConfidenceInterval(*interval, 0.9), "ratio", "higher")
    assert (found.low, found.high) == expected


def test_the_level_of_an_interval_is_kept():
    assert worsening(ConfidenceInterval(0.9, 1.1, 0.997), "ratio", "higher").level == 0.997
    assert worsening(ConfidenceInterval(-0.1, 0.1, 0.997), "difference", "higher").level == 0.997


def test_every_verdict_has_its_place_from_harmless_to_grave():
    assert tuple(Verdict) == GRAVITY


@pytest.mark.parametrize(
    ("verdicts", "gravest"),
    [
        ([], Verdict.PASS),
        ([Verdict.PASS, Verdict.IMPROVED], Verdict.IMPROVED),
        ([Verdict.IMPROVED, Verdict.INCONCLUSIVE], Verdict.INCONCLUSIVE),
        ([Verdict.INVALID, Verdict.INCONCLUSIVE], Verdict.INVALID),
        ([Verdict.REGRESSED, Verdict.INVALID, Verdict.PASS], Verdict.REGRESSED),
    ],
)
def test_the_gravest_verdict_wins(verdicts, gravest):
    assert worst(verdicts) is gravest


def trial(verdict=Verdict.PASS, state=TrialState.MEASURED):
    return TrialRecord("s/r-cpu-b1", "s", "r", "cpu", "cpu", 1, "single_stream", (), "fake", False, state, verdict, "")


def comparison(verdict, advisory=False):
    interval = ConfidenceInterval(1.0, 1.1, 0.9)
    return Comparison(
        trial="s/r-cpu-b1",
        metric="latency_p50",
        unit=Unit.NANOSECONDS,
        better="lower",
        scale="ratio",
        baseline=1.0,
        candidate=1.05,
        effect=1.05,
        interval=interval,
        tolerance=0.02,
        floor=0.0,
        n=5,
        n_of="launch pairs",
        method="",
        visible_change=0.01,
        verdict=verdict,
        reason="",
        advisory=advisory,
    )


def finding(state):
    return SlaFinding("s/r-cpu-b1", "latency_p99", "latency_p99: at most 5 ms", Unit.NANOSECONDS, 1.0, 1.0, 1.0, state, "")


PASSED, RED = comparison(Verdict.PASS), comparison(Verdict.REGRESSED)
OPEN, LOST = comparison(Verdict.INCONCLUSIVE), comparison(Verdict.INVALID)
RED_CONTROL, GREEN_CONTROL = NullControl("s/r-cpu-b1", (), True), NullControl("s/r-cpu-b1", (), False)
GOOD, SLOW, UNCLEAR, BAD = (trial(verdict) for verdict in (Verdict.PASS, Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.INVALID))
FAILED = trial(None, TrialState.FAILED)


@pytest.mark.parametrize(
    ("trials", "comparisons", "sla", "control", "strict", "code", "verdict"),
    [
        pytest.param([GOOD], [PASSED], [], None, False, 0, Verdict.PASS, id="all is well"),
        pytest.param([GOOD], [PASSED], [], GREEN_CONTROL, True, 0, Verdict.PASS, id="all is well, the null control green, strict"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.KEPT)], None, True, 0, Verdict.PASS, id="SLA kept, strict"),
        pytest.param([SLOW], [RED], [], None, False, 1, Verdict.REGRESSED, id="a regression"),
        pytest.param([SLOW, FAILED], [RED], [], None, False, 1, Verdict.REGRESSED, id="a regression beside a failed trial"),
        pytest.param([SLOW, BAD], [RED, LOST], [], None, False, 1, Verdict.REGRESSED, id="a regression beside an invalid trial"),
        pytest.param([BAD], [RED, LOST], [], None, False, 1, Verdict.REGRESSED, id="a regression in a trial that is invalid"),
        pytest.param([SLOW, UNCLEAR], [RED, OPEN], [], None, True, 1, Verdict.REGRESSED, id="a regression beside what is open, strict"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.BROKEN)], None, False, 1, Verdict.REGRESSED, id="a broken SLA"),
        pytest.param([FAILED], [], [finding(SlaState.BROKEN)], None, False, 1, Verdict.REGRESSED, id="a broken SLA beside a failed trial"),
        pytest.param([GOOD], [], [finding(SlaState.BROKEN)], RED_CONTROL, False, 1, Verdict.REGRESSED, id="a broken SLA, control red"),
        pytest.param([GOOD, FAILED], [PASSED], [], None, False, 3, Verdict.INVALID, id="a trial failed"),
        pytest.param([BAD], [LOST], [], None, False, 3, Verdict.INVALID, id="a trial is invalid"),
        pytest.param([BAD], [LOST], [], RED_CONTROL, False, 3, Verdict.INVALID, id="a red made invalid by the null control"),
        pytest.param([GOOD], [PASSED], [], RED_CONTROL, False, 3, Verdict.INVALID, id="the null control red and nothing else"),
        pytest.param([SLOW], [RED], [], RED_CONTROL, False, 1, Verdict.REGRESSED, id="accuracy lost, the null control red"),
        pytest.param([UNCLEAR], [OPEN], [], None, False, 0, Verdict.INCONCLUSIVE, id="inconclusive"),
        pytest.param([UNCLEAR], [OPEN], [], None, True, 3, Verdict.INCONCLUSIVE, id="inconclusive, strict"),
        pytest.param([UNCLEAR], [], [], None, False, 0, Verdict.INCONCLUSIVE, id="timings that could not be compared"),
        pytest.param([UNCLEAR], [], [], None, True, 3, Verdict.INCONCLUSIVE, id="timings that could not be compared, strict"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.UNPROVEN)], None, False, 0, Verdict.PASS, id="unproven"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.UNPROVEN)], None, True, 3, Verdict.PASS, id="unproven, strict"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.UNMEASURED)], None, False, 0, Verdict.PASS, id="unmeasured"),
        pytest.param([GOOD], [PASSED], [finding(SlaState.UNMEASURED)], None, True, 3, Verdict.PASS, id="unmeasured, strict"),
        pytest.param([GOOD], [comparison(Verdict.REGRESSED, advisory=True)], [], None, True, 0, Verdict.PASS, id="advice is red"),
        pytest.param([GOOD], [comparison(Verdict.INCONCLUSIVE, advisory=True)], [], None, True, 0, Verdict.PASS, id="advice is open"),
        pytest.param([trial(None, TrialState.NEW)], [], [], None, False, 0, Verdict.PASS, id="a new trial"),
        pytest.param([trial(None, TrialState.UNCHANGED)], [], [], None, True, 0, Verdict.PASS, id="an unchanged trial"),
        pytest.param(
            [trial(None, TrialState.SKIPPED)], [], [], None, False, 3, Verdict.INVALID, id="nothing but trials for another machine"
        ),
        pytest.param([GOOD, trial(None, TrialState.SKIPPED)], [], [], None, False, 0, Verdict.PASS, id="a trial for another machine"),
        pytest.param([trial(Verdict.IMPROVED)], [comparison(Verdict.IMPROVED)], [], None, False, 0, Verdict.IMPROVED, id="better"),
        pytest.param([], [], [], None, False, 0, Verdict.PASS, id="nothing at all"),
    ],
)
def test_the_run_ends_with_the_code_that_its_gravest_fact_asks_for(trials, comparisons, sla, control, strict, code, verdict):
    decision = decide(trials, comparisons, sla, control, strict=strict)
    assert (decision.exit_code, decision.verdict) == (ExitCode(code), verdict)
    assert decision.headline.startswith(f"{verdict}: ")


@pytest.mark.parametrize(("strict", "code"), [(False, ExitCode.PASS), (True, ExitCode.NOT_DECIDED)])
def test_a_trial_whose_timings_had_nothing_to_be_compared_with_is_told_and_fails_when_strict(strict, code):
    decision = decide([trial(Verdict.INCONCLUSIVE)], [], [], None, strict=strict)
    assert (decision.verdict, decision.exit_code) == (Verdict.INCONCLUSIVE, code)
    assert decision.headline == "INCONCLUSIVE: 1 trial whose timings could not be compared"


def test_what_is_given_once_is_read_once():
    decision = decide(iter([SLOW, FAILED]), iter([RED, OPEN]), iter([finding(SlaState.BROKEN)]), None, strict=False)
    assert decision.headline == ("REGRESSED: 1 metric regressed, 1 SLA clause broken, 1 trial could not be decided, 1 metric inconclusive")


def test_the_headline_counts_everything_that_is_not_well():
    sla = [finding(SlaState.BROKEN)] * 2 + [finding(SlaState.UNPROVEN)] * 2 + [finding(SlaState.KEPT)]
    decision = decide([SLOW, FAILED, BAD], [RED, RED, OPEN, OPEN, PASSED], sla, RED_CONTROL, strict=False)
    assert decision.headline == (
        "REGRESSED: 2 metrics regressed, 2 SLA clauses broken, 2 trials could not be decided, "
        "the machine called identical code different (null control red), 2 metrics inconclusive, 2 SLA clauses unproven"
    )


def test_a_trial_that_is_open_without_an_open_metric_is_told_as_such_and_not_twice():
    assert decide([UNCLEAR], [], [], None, strict=False).headline == "INCONCLUSIVE: 1 trial whose timings could not be compared"
    assert decide([UNCLEAR], [OPEN], [], None, strict=False).headline == "INCONCLUSIVE: 1 metric inconclusive"


def test_good_news_counts_what_was_looked_at():
    trials = [GOOD, trial(None, TrialState.UNCHANGED), trial(None, TrialState.NEW), trial(None, TrialState.SKIPPED)]
    compared = [PASSED, comparison(Verdict.IMPROVED), PASSED]
    decision = decide(trials, compared, [finding(SlaState.KEPT)], None, strict=False)
    assert decision.headline == (
        "PASS: 1 metric better, 2 metrics within their tolerances, 1 trial unchanged, 1 trial new, 1 trial for another machine, "
        "1 SLA clause kept"
    )


def test_a_run_that_only_measures_says_so():
    assert decide([trial(None), trial(None)], [], [], None, strict=False).headline == "PASS: 2 trials measured"


@pytest.mark.parametrize(
    ("state", "told"), [(SlaState.UNMEASURED, "1 SLA clause not measured"), (SlaState.UNPROVEN, "1 SLA clause unproven")]
)
def test_an_exit_that_is_not_zero_has_its_cause_in_the_headline(state, told):
    decision = decide([GOOD], [PASSED], [finding(state)], None, strict=True)
    assert decision.exit_code is ExitCode.NOT_DECIDED
    assert told in decision.headline


def test_without_strict_a_clause_that_this_machine_cannot_measure_does_not_hide_the_good_news():
    decision = decide([GOOD], [PASSED], [finding(SlaState.UNMEASURED)], None, strict=False)
    assert decision.headline == "PASS: 1 metric within its tolerance"

import pytest
from pydantic import ValidationError

from harness.core.scenario import GateRule, parse_clause
from harness.core.units import Notation, Quantity, Unit


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (
            "latency_p99",
            "at most 50 ms",
            {"recipe": None, "metric": "latency_p99", "bound": "at most", "limit": 50e6, "unit": Unit.NANOSECONDS, "relation": "absolute"},
        ),
        (
            "accuracy",
            "at least 97 %",
            {"recipe": None, "metric": "accuracy", "bound": "at least", "limit": 0.97, "unit": Unit.FRACTION, "relation": "absolute"},
        ),
        (
            "int8.throughput",
            "at least 200 /s",
            {"recipe": "int8", "metric": "throughput", "bound": "at least", "limit": 200.0, "unit": Unit.PER_SECOND},
        ),
        (
            "int8.model_size",
            "at most 50 % of fp32",
            {"recipe": "int8", "bound": "at most", "limit": 0.5, "relation": "share", "of": "fp32", "notation": Notation.PERCENT},
        ),
        (
            "throughput",
            "at least 200% of int8-dynamic",
            {"recipe": None, "bound": "at least", "limit": 2.0, "relation": "share", "of": "int8-dynamic"},
        ),
        (
            "int8.accuracy",
            "at most 1 point below fp32",
            {"bound": "at most", "limit": 0.01, "relation": "below", "of": "fp32", "notation": Notation.POINTS},
        ),
        (
            "int8.latency_p50",
            "at most 2 ms above fp32",
            {"bound": "at most", "limit": 2e6, "relation": "above", "of": "fp32", "unit": Unit.NANOSECONDS},
        ),
        ("output_cosine", "at least 0.99", {"limit": 0.99, "unit": Unit.NUMBER, "relation": "absolute", "of": None}),
        ("latency_p50", "  at most   50 ms  ", {"limit": 50e6, "relation": "absolute"}),
    ],
)
def test_a_clause_is_read_as_it_is_meant(key, text, expected):
    clause = parse_clause(key, text)
    assert {name: getattr(clause, name) for name in expected} == expected


@pytest.mark.parametrize("words", ["as fast as", "faster than", "as small as", "smaller than"])
def test_so_many_times_faster_or_smaller_is_a_share_of_at_most_one_over_it(words):
    clause = parse_clause("int8.latency_p50", f"at least 2.5 times {words} fp32")
    assert (clause.bound, clause.relation, clause.of) == ("at most", "share", "fp32")
    assert clause.limit == pytest.approx(0.4)
    assert clause.speed_up == (2.5 if "fast" in words else None)


def test_a_plain_share_is_no_speed_up():
    assert parse_clause("int8.latency_p50", "at most 40 % of fp32").speed_up is None


def test_a_clause_keeps_its_words_and_its_line():
    clause = parse_clause("int8.accuracy", "at least 97 %", line=22)
    assert (clause.text, clause.line) == ("int8.accuracy: at least 97 %", 22)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "50 ms",
        "less than 50 ms",
        "at most",
        "at most50 ms",
        "At most 50 ms",
        "about 50 ms",
        "at least",
    ],
)
def test_what_is_no_clause_is_refused_with_every_form_known(text):
    with pytest.raises(ValueError) as refused:
        parse_clause("latency_p99", text)
    for form in (
        "'at most 50 ms'",
        "'at least 97 %'",
        "'at most 50 % of fp32'",
        "'at most 1 point below fp32'",
        "3 times faster than fp32",
    ):
        assert form in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("at most fifty ms", "is not a quantity"),
        ("at most 50 furlongs", "is not a unit known here"),
        ("at most 50 ms of fp32", "a share of another recipe is written in percent, such as 'at most 50 % of fp32'"),
        ("at most 0.5 of fp32", "a share of another recipe is written in percent"),
        ("at most 1 point of fp32", "a share of another recipe is written in percent"),
        ("at most 3 times slower than fp32", "is not a quantity"),
        ("at least 3 times as good as fp32", "is not a quantity"),
        ("at least 0 times faster than fp32", "promises nothing: write a number above 0"),
        ("at least 0.0 times smaller than fp32", "promises nothing: write a number above 0"),
        ("at most 50 % of", "is not a quantity"),
        ("at most 1e999 ms", "is too large"),
        ("at least nan", "is not a quantity"),
    ],
)
def test_a_clause_without_a_sound_limit_is_refused_with_the_reason(text, why):
    with pytest.raises(ValueError, match=why):
        parse_clause("int8.latency_p99", text)


@pytest.mark.parametrize(
    ("written", "tolerance", "floor", "off"),
    [
        ("3 %", Quantity(0.03, Unit.FRACTION, Notation.PERCENT), None, False),
        ({"tolerance": "0.5 points"}, Quantity(0.005, Unit.FRACTION, Notation.POINTS), None, False),
        ({"floor": "1 ms"}, None, Quantity(1e6, Unit.NANOSECONDS), False),
        ({"tolerance": "0 %", "floor": "2 us"}, Quantity(0.0, Unit.FRACTION, Notation.PERCENT), Quantity(2e3, Unit.NANOSECONDS), False),
        (False, None, None, True),
        ("off", None, None, True),
    ],
)
def test_a_gate_rule_is_read_in_its_short_and_its_long_form(written, tolerance, floor, off):
    rule = GateRule.model_validate(written)
    assert (rule.tolerance, rule.floor, rule.off) == (tolerance, floor, off)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("0.03", "written in percent"),
        ("2 ms", "written in percent"),
        ("-3 %", "is not negative"),
        ({"tolerance": "3"}, "written in percent"),
        ("three percent", "is not a quantity"),
        ({"tolerence": "3 %"}, "Extra inputs are not permitted"),
    ],
)
def test_a_gate_rule_that_is_not_sound_is_refused(written, why):
    with pytest.raises(ValidationError, match=why):
        GateRule.model_validate(written)

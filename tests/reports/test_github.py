import re
from dataclasses import replace

import pytest

from harness.core.comparison import Verdict
from harness.core.result import ScenarioText, TrialState
from harness.reports.github import Github

SLOW, DROP = "digits-resnet50/int8-cpu-b1", "digits-resnet50/pruned-cpu-b1"
FILE = "scenarios/digits-resnet50.yaml"


def lines(result):
    return Github().render(result).decode().splitlines()


def read(line):
    """A workflow command as GitHub's runner reads it: kind, properties, message."""
    kind, properties, message = re.fullmatch(r"::(\w+) ?([^:]*)::(.*)", line).groups()

    def plain(text, marks):
        for mark, character in marks:
            text = text.replace(mark, character)
        return text.replace("%25", "%")

    data = (("%0D", "\r"), ("%0A", "\n"))
    pairs = dict(pair.split("=", 1) for pair in properties.split(",") if pair)
    return kind, {name: plain(value, (*data, ("%3A", ":"), ("%2C", ","))) for name, value in pairs.items()}, plain(message, data)


def test_a_regression_is_an_error_where_its_metric_stands_under_gate(results):
    told = [read(line) for line in lines(results.result())]
    kind, properties, message = next(one for one in told if one[1]["title"] == f"REGRESSED: latency_p50 of {SLOW}")
    text = results.SCENARIO_TEXT.splitlines()
    assert (kind, properties["file"]) == ("error", FILE)
    assert text[int(properties["line"]) - 1] == "  latency_p50: {tolerance: 2 %}"
    assert message == (
        f"latency_p50 of {SLOW} went from 2.51 ms to 2.64 ms: ×1.051 (99 % interval 1.038 to 1.064), tolerance 2 %: REGRESSED\n"
        "shown to be at least 3.8 % worse; 2 % is tolerated"
    )


def test_a_metric_that_gate_does_not_name_is_told_at_its_recipe(results):
    size = results.size_comparison(SLOW, effect=2.0, verdict=Verdict.REGRESSED)
    (line,) = lines(results.result(comparisons=(size,), sla=(), trials=(results.trial("int8"),)))
    assert results.SCENARIO_TEXT.splitlines()[int(read(line)[1]["line"]) - 1] == "  int8:"


@pytest.mark.parametrize(
    "text",
    ["extends: base.yaml\nname: digits-resnet50\n", "- a list\n", "", "gate: {{{", "gate: latency_p50\nrecipes:\n", "a: !b {c: *d}\n"],
    ids=["in another file", "a list", "empty", "no YAML", "plain values", "an unknown alias"],
)
def test_where_neither_is_in_the_file_it_is_told_at_the_first_line(results, text):
    scenario = ScenarioText("digits-resnet50", FILE, text, None)
    (line,) = lines(results.result(comparisons=(results.comparison(SLOW),), sla=(), trials=(results.trial("int8"),), scenarios=(scenario,)))
    assert read(line)[1]["line"] == "1"


def test_keys_are_found_as_yaml_has_them_not_as_text_looks(results):
    text = "# gate: {latency_p50: 1 %}\nmodel:\n  latency_p50: 3\ndescription: >\n  gate:\n    latency_p50: no\n'gate':\n  - x\n"
    text = text.replace("  - x\n", '  accuracy: off\n  "latency_p50": {tolerance: 2 %}\n')
    scenario = ScenarioText("digits-resnet50", FILE, text, None)
    (line,) = lines(results.result(comparisons=(results.comparison(SLOW),), sla=(), trials=(), scenarios=(scenario,)))
    assert read(line)[1]["line"] == "9"


def test_a_broken_promise_is_an_error_at_its_own_line(results):
    told = [read(line) for line in lines(results.result())]
    kind, properties, message = next(one for one in told if one[1]["title"].startswith("BROKEN"))
    assert (kind, properties["file"], properties["line"]) == ("error", FILE, "23")
    assert message == f"SLA 'accuracy: at least 97 %' on {DROP}: 96.11 %, exact for this set of samples: BROKEN"


def test_what_could_not_be_measured_is_an_error_and_what_was_not_shown_a_warning(results):
    told = [(kind, properties["title"]) for kind, properties, _ in map(read, lines(results.result()))]
    assert told == [
        ("error", f"REGRESSED: accuracy of {DROP}"),
        ("error", f"REGRESSED: latency_p50 of {SLOW}"),
        ("error", "BROKEN: accuracy: at least 97 %"),
        ("error", "digits-resnet50/fp16-cpu-b1 could not be decided"),
        ("error", "digits-resnet50/pruned-cpu-b8 FAILED"),
        ("warning", "INCONCLUSIVE: latency_p99 of digits-resnet50/int8-dynamic-cpu-b1"),
        ("warning", "UNPROVEN: latency_p99: at most 6 ms"),
    ]


def test_what_decides_nothing_and_what_is_well_is_not_told(results):
    assert lines(results.passing()) == []
    advice = results.comparison(SLOW, advisory=True)
    assert lines(results.result(comparisons=(advice,), sla=(), trials=())) == []


@pytest.mark.parametrize(("number", "shown", "last"), [(10, 10, None), (11, 9, "2 more"), (1_500, 9, "1,491 more")])
def test_github_shows_ten_of_a_kind_so_the_worst_come_first_and_the_rest_is_counted(results, number, shown, last):
    effects = [1.03 + 0.001 * index for index in range(number)]
    red = tuple(results.comparison(f"digits-resnet50/r{index}-cpu-b1", effect=effect) for index, effect in enumerate(effects))
    undecided = tuple(replace(one, verdict=Verdict.INCONCLUSIVE) for one in red)
    told = [read(line) for line in lines(results.result(comparisons=red + undecided, sla=(), trials=()))]
    for kind, word in (("error", "REGRESSED"), ("warning", "INCONCLUSIVE")):
        titles = [properties["title"] for one, properties, _ in told if one == kind]
        assert titles[:shown] == [f"{word}: latency_p50 of digits-resnet50/r{number - 1 - place}-cpu-b1" for place in range(shown)]
        assert titles[shown:] == ([] if last is None else [last])


def test_hostile_names_stay_inside_their_command(results):
    told = lines(results.hostile())
    assert len(told) == 3
    for line in told:
        kind, properties, message = read(line)
        assert kind == "error" and set(properties) == {"file", "line", "title"}
        assert properties["file"] == results.HOSTILE
        assert results.HOSTILE in message and "\x1b" not in line and "\x00" not in line


def test_line_breaks_percent_signs_and_separators_are_escaped_as_the_runner_reads_them(results):
    reason = "50 % slower\r\n::warning::a second command"
    path = "scenarios/100%,a:b.yaml"
    scenario = ScenarioText("digits-resnet50", path, "", None)
    (line,) = lines(results.result(comparisons=(results.comparison(SLOW, reason=reason),), sla=(), trials=(), scenarios=(scenario,)))
    assert "file=scenarios/100%25%2Ca%3Ab.yaml,line=1," in line
    _, properties, message = read(line)
    assert properties["file"] == path and message.endswith("50 % slower \n::warning::a second command")


def test_a_long_reason_is_cut_and_what_no_file_can_hold_is_left_out(results):
    trial = replace(results.trial("int8"), state=TrialState.FAILED, verdict=Verdict.INVALID, reason="\ud800" + "x" * 100_000)
    (line,) = lines(results.result(comparisons=(), sla=(), trials=(trial,)))
    assert len(line) < 2_500 and line.endswith("x…")


def test_a_finding_of_a_scenario_that_is_not_there_has_no_place(results):
    (line,) = lines(results.result(comparisons=(results.comparison("gone/fp32-cpu-b1"),), sla=(), trials=()))
    assert set(read(line)[1]) == {"title"}

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import results
from scipy import stats

from harness.commands.diff import diff
from harness.commands.export import export
from harness.core.comparison import Verdict
from harness.core.errors import BadInput
from harness.core.result import Content, Material, TrialState
from harness.core.scenario import PluginRef
from harness.core.units import Unit
from harness.engine.diffing.launches import Figure, Question, compare_unpaired, order_of, welch
from harness.engine.packing import pack
from harness.store.runs import RunFolder

DATA = Path(__file__).parent / "store" / "data"
INT8 = "digits-resnet50/int8-cpu-b1"
LAUNCH_NS = (2.50e6, 2.52e6, 2.49e6, 2.53e6, 2.51e6)


def question(baseline, candidate, **changes):
    facts = {"name": "a", "metric": "time", "unit": Unit.NANOSECONDS, "better": "lower", "tolerance": 0.02, "floor": 0.0}
    arms = {name: tuple(Figure(value) for value in arm) for name, arm in (("baseline", baseline), ("candidate", candidate))}
    return Question(**(facts | arms | {"n_of": "process launches"} | changes))


def pytest_file(seconds, minute=0, *, test="test_a.py::test_sum", host="vm", cpu="A CPU", commit="3f2c9b7a51de", **machine):
    """As pytest-benchmark writes one, a process that ended in this minute."""
    return {
        "machine_info": {"node": host, "system": "Linux", "machine": "x86_64", "cpu": {"brand_raw": cpu, "count": 2}} | machine,
        "commit_info": {"id": commit, "dirty": False},
        "benchmarks": [{"fullname": test, "stats": {"median": seconds, "rounds": 3, "data": [seconds] * 3}}],
        "datetime": f"2026-11-25T03:{minute:02}:00+00:00",
        "version": "5.3.1",
    }


def material(figures=LAUNCH_NS, slower=1.0, right=500):
    scores = np.array([1.0] * right + [0.0] * (540 - right))
    return Material(
        "artifact",
        "evaluation",
        PluginRef(name="onnxruntime"),
        {"accuracy": pack(scores)},
        None,
        {"latency_p50": tuple(f * slower for f in figures)},
    )


def trial(recipe="int8", *, digest="1", **changes):
    facts = {"charts": False, "material": material(), "content": Content(digest * 64, digest * 64, {"onnxruntime": "1.32.0"}), "notes": ()}
    return results.trial(recipe, **(facts | changes))


def session(identity, *trials, **changes):
    facts = {"id": identity, "trials": trials, "comparisons": (), "sla": (), "null_control": None, "notes": ()}
    return results.result(**(facts | changes))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(place):
    """Writes both arms' files, one for each letter of a sequence such as ABBA, and gives the words that name them."""

    def write(sequence="ABBAABBAAB", slower=1.0, **changes):
        draw = random.Random(1)
        names = {"A": [], "B": []}
        for minute, arm in enumerate(sequence):
            name = f"{'base' if arm == 'A' else 'head'}{minute}.json"
            document = pytest_file(0.002 * math.exp(draw.gauss(0, 0.002)) * (slower if arm == "B" else 1), minute, **changes.get(arm, {}))
            (place / name).write_text(json.dumps(document), encoding="utf-8")
            names[arm].append(name)
        return [*names["A"], "--with", *names["B"]]

    return write


@pytest.fixture
def saved(place):
    def save(*sessions):
        for one in sessions:
            RunFolder(place / "reports" / one.id).save(one, {})
        return [f"reports/{one.id}" for one in sessions]

    return save


def told(*words, command=diff):
    done = CliRunner().invoke(command, words, standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def asked(*words):
    """What ``--json`` prints."""
    return json.loads(told(*words, "--json"), parse_constant=pytest.fail)


def code(*words):
    return CliRunner().invoke(diff, words, standalone_mode=False).exit_code


def refused(*words):
    with pytest.raises(BadInput) as caught:
        told(*words)
    return str(caught.value)


def test_one_launch_an_arm_is_told_and_never_concluded(files):
    base, _, head = files("AB", slower=1.5)
    assert told(base, head) == (
        "baseline   base0.json: pytest-benchmark 5.3.1; 1 process launch; commit 3f2c9b7a51de\n"
        "candidate  head1.json: pytest-benchmark 5.3.1; 1 process launch; commit 3f2c9b7a51de\n"
        "\n"
        "                     metric  baseline  candidate  change  interval      n  verdict\n"
        "test_a.py::test_sum  time     2.01 ms    3.01 ms  ×1.500         -  1 + 1  INVALID\n"
        "\n"
        "INVALID: time of test_a.py::test_sum: cannot be concluded: one process launch an arm; samples of one process are not independent\n"
        "\n"
        "note: both arms are of commit 3f2c9b7a51de: where nothing else differs this compares identical code\n"
        "\n"
        "To conclude something, record 5 or more launches an arm in turn (base, head, head, base, ...), "
        "each a file: harness diff base*.json --with head*.json; or let 'harness gate' measure both arms in pairs.\n"
    )


def test_launches_in_turn_on_one_host_decide(files):
    (row,) = asked(*files(slower=1.05))["rows"]
    assert (row["verdict"], row["baseline_n"], row["candidate_n"]) == ("REGRESSED", 5, 5)
    assert row["interval"]["low"] > 1.02 and row["effect"] == pytest.approx(row["candidate"] / row["baseline"])
    assert "worse; 2.0 % is tolerated" in row["reason"]
    assert asked(*files(slower=0.9))["rows"][0]["verdict"] == "IMPROVED"
    assert asked(*files())["rows"][0]["verdict"] == "PASS"
    assert "PASS: 1 of 1; the coarsest would have seen a change of " in told(*files())


def test_launches_in_blocks_show_a_difference_and_conclude_nothing(files):
    document = asked(*files("AAAAABBBBB", slower=1.05))
    (row,) = document["rows"]
    assert (document["order"], row["shown"], row["verdict"]) == ("in blocks", "REGRESSED", "INCONCLUSIVE")
    assert row["reason"] == "the arms ran in blocks, not in turn: a slow hour looks like a slow arm"
    assert "  time of test_a.py::test_sum looks worse, were nothing else different\n" in told(*files("AAAAABBBBB", slower=1.05))


def test_two_to_four_launches_have_an_interval_and_conclude_nothing(files):
    (row,) = asked(*files("ABBAB", slower=1.5))["rows"]
    assert row["interval"] is not None and row["verdict"] == "INCONCLUSIVE"
    assert row["reason"] == "too few process launches: 2 and 3, and 5 an arm are needed"


def test_another_machine_is_told_and_no_ratio_is_made_of_it(files):
    document = asked(*files(slower=1.5, B={"cpu": "Another CPU"}))
    (row,) = document["rows"]
    assert document["differences"] == [{"what": "cpu", "baseline": "A CPU", "candidate": "Another CPU", "machine": True}]
    assert (row["effect"], row["interval"], row["verdict"]) == (None, None, "INVALID")
    assert row["baseline"] > 0 and row["reason"] == "not compared: another machine (cpu)"
    assert "another machine: cpu: A CPU -> Another CPU\n" in told(*files(B={"cpu": "Another CPU"}))


def test_a_fact_that_one_arm_alone_tells_is_not_the_same(files):
    assert asked(*files(A={"cpu": None}))["differences"][0] == {
        "what": "cpu",
        "baseline": "not told",
        "candidate": "A CPU",
        "machine": True,
    }


def test_another_host_of_the_same_kind_concludes_nothing(files):
    (row,) = asked(*files(slower=1.5, B={"host": "runner-2"}))["rows"]
    assert (row["shown"], row["verdict"]) == ("REGRESSED", "INCONCLUSIVE") and "different hosts" in row["reason"]


def test_versions_that_differ_are_listed_and_compared(files):
    document = asked(*files(slower=1.05, A={"python_version": "3.11.7"}, B={"python_version": "3.12.1"}))
    assert document["differences"] == [{"what": "python_version", "baseline": "3.11.7", "candidate": "3.12.1", "machine": False}]
    assert document["rows"][0]["verdict"] == "REGRESSED"


def test_a_benchmark_of_one_arm_is_named(files):
    document = asked(*files(B={"test": "test_a.py::test_max"}))
    assert document["rows"] == []
    assert document["unmatched"][0] == {"name": "test_a.py::test_sum", "reason": "in the candidate: not there"}
    assert document["next_steps"] == ["No benchmark is in both arms: measure the same ones in both."]


def test_runs_of_pyperf_are_launches_and_their_dates_tell_the_order():
    document = asked(str(DATA / "pyperf-base.json"), str(DATA / "pyperf-head.json"))
    (row,) = document["rows"]
    assert (document["order"], row["name"], row["baseline_n"], row["candidate_n"]) == ("interleaved", "sum", 5, 5)


def test_repetitions_of_google_benchmark_are_one_launch(place):
    document = json.loads((DATA / "google-benchmark.json").read_text(encoding="utf-8"))
    document["context"]["date"] = "2026-11-25T04:00:00+00:00"
    Path("head.json").write_text(json.dumps(document), encoding="utf-8")
    found = asked(str(DATA / "google-benchmark.json"), "head.json")
    assert [(row["name"], row["baseline_n"], row["verdict"]) for row in found["rows"]] == [("sum_up/100", 1, "INVALID")]
    assert found["unmatched"] == [{"name": "skipping", "reason": "in the baseline: error: no device; in the candidate: error: no device"}]


def test_the_exit_code_is_zero_unless_fail_asks_for_more(files):
    slow = files(slower=1.05)
    assert (code(*slow), code(*slow, "--fail"), code(*slow, "--fail", "--tolerance", "20 %")) == (0, 1, 0)
    assert code(*files("AB"), "--fail") == code(*files("AAAAABBBBB", slower=1.05), "--fail") == 3
    assert asked(*files(slower=1.05), "--fail")["exit_code"] == 1


def test_what_is_wrong_on_the_command_line_is_said_once(files, place, saved):
    base, _, head = files("AB")
    (run,) = saved(session("run-1", trial()))
    assert refused(base, base) == "base0.json: is given twice: a launch counts once\n  name each file once, in one arm"
    Path("copy.json").write_bytes(Path(base).read_bytes())
    assert refused(base, "copy.json").startswith("copy.json: holds the same bytes as base0.json: a launch counts once")
    assert refused(base, str(DATA / "pyperf-base.json")).startswith("files of pyperf and pytest-benchmark cannot be compared")
    assert refused(base, run).startswith("'base0.json' is a benchmark file and 'reports/run-1' a run")
    assert refused(base, "none.json") == "none.json: there is no such file"
    assert refused(run, "nowhere").startswith("'nowhere' is not a run here")
    assert refused(run, run).startswith("run run-1 is given twice")
    assert refused(run, ".") == ".: is a folder of files, and no run\n  name the files: ./*.json"
    assert refused(base, head, "--tolerance", "fast").startswith("--tolerance: 'fast' is not a quantity")
    assert refused(base, head, "--tolerance", "latency_p50=3%").startswith(
        "--tolerance latency_p50=...: benchmark files have no such metric"
    )
    assert refused(run, "reports/run-1/result.json", "--tolerance", "acuracy=3 points").endswith("did you mean 'accuracy'?")


def test_arms_that_are_not_two_are_refused():
    for words, said in (
        ((), "name two"),
        (("a",), "name two"),
        (("a", "b", "c"), "name two"),
        (("--with", "a"), "before --with"),
        (("a", "--with"), ""),
    ):
        done = CliRunner().invoke(diff, words)
        assert done.exit_code == 2 and said in done.output


def test_words_after_with_go_to_the_candidate_up_to_the_next_option(files):
    base, _, head = files("AB")
    assert asked("--fail", base, "--with", head, "--tolerance", "3 %")["rows"][0]["tolerance"] == 0.03
    assert asked(base, f"--with={head}")["candidate"]["names"] == [head]


def test_two_runs_are_two_sessions_and_their_timings_decide_nothing(saved):
    before, after = saved(session("run-1", trial()), session("run-2", trial(digest="2", material=material(slower=1.2))))
    document = asked(before, after)
    timing = next(row for row in document["rows"] if row["metric"] == "latency_p50")
    assert (timing["shown"], timing["verdict"], timing["baseline_n"]) == ("REGRESSED", "INCONCLUSIVE", 5)
    assert timing["reason"].startswith("two sessions, not measured side by side")
    assert document["next_steps"][0] == (
        "To decide, measure both side by side: harness baseline accept run-1, then harness gate scenarios/digits-resnet50.yaml"
    )
    assert {"what": f"content of {INT8}", "baseline": "1" * 12, "candidate": "2" * 12, "machine": False} in document["differences"]


def test_a_run_of_a_clean_commit_can_be_gated_against(saved):
    clean = replace(results.ENVIRONMENT, dirty=False)
    found = asked(*saved(session("run-1", trial(), environment=clean), session("run-2", trial())))
    assert found["next_steps"][0].endswith("harness gate scenarios/digits-resnet50.yaml --against 3f2c9b7a51de")
    assert f"same content in both arms, so only the session differs: {INT8}" in found["notes"]


def test_size_and_scores_are_decided_wherever_they_were_measured(saved):
    elsewhere = replace(results.ENVIRONMENT, cpu_model="Another CPU")
    fewer = session("run-2", trial(digest="2", material=material(right=380)), environment=elsewhere)
    rows = {row["metric"]: row for row in asked(*saved(session("run-1", trial()), fewer))["rows"]}
    assert (rows["accuracy"]["verdict"], rows["accuracy"]["scale"]) == ("REGRESSED", "difference")
    assert (rows["model_size"]["verdict"], rows["model_size"]["effect"]) == ("PASS", 1.0)
    assert (rows["latency_p50"]["verdict"], rows["latency_p50"]["effect"]) == ("INVALID", None)


def test_scores_of_other_samples_are_not_compared(saved):
    other = replace(material(), evaluation_key="other")
    rows = {row["metric"]: row for row in asked(*saved(session("run-1", trial()), session("run-2", trial(material=other))))["rows"]}
    assert (rows["accuracy"]["verdict"], rows["accuracy"]["effect"]) == ("INVALID", None)
    assert rows["accuracy"]["reason"] == "not compared: the evaluation data are not the same"
    bare = session("run-3", trial(material=None, charts=True))
    rows = {row["metric"]: row for row in asked(*saved(session("run-1", trial()), bare))["rows"]}
    assert rows["accuracy"]["reason"] == "not compared: one of the runs kept no scores of single samples"
    assert rows["latency_p50"]["candidate_n"] == 12  # the sketches have a median of every launch


def test_a_trial_that_uses_other_cores_is_another_machine(saved):
    found = asked(*saved(session("run-1", trial()), session("run-2", trial(environment_key="others"))))
    assert (
        next(row for row in found["rows"] if row["metric"] == "latency_p50")["reason"] == "not compared: another machine (environment key)"
    )
    newer = Content("2" * 64, "1" * 64, {"onnxruntime": "1.33.0"})
    found = asked(*saved(session("run-1", trial()), session("run-3", trial(environment_key="others", content=newer))))
    assert next(row for row in found["rows"] if row["metric"] == "latency_p50")["effect"] is not None


@pytest.mark.parametrize(("sequence", "verdict"), [("ABBAABBAAB", "REGRESSED"), ("AAAAABBBBB", "INCONCLUSIVE")])
def test_several_runs_an_arm_are_a_figure_each_and_decide_when_made_in_turn(saved, sequence, verdict):
    def made(number, arm):
        own = material(slower=(1.2 if arm == "B" else 1.0) * (1 + number / 1000))
        return session(f"run-{arm}-{number}", trial(digest=arm, material=own), started_at=f"2026-10-{number + 1:02}T08:00:00Z")

    names = saved(*(made(number, arm) for number, arm in enumerate(sequence)))
    arms = [[name for name in names if f"-{arm}-" in name] for arm in "AB"]
    document = asked(*arms[0], "--with", *arms[1])
    row = next(row for row in document["rows"] if row["metric"] == "latency_p50")
    assert (row["n_of"], row["baseline_n"], row["verdict"]) == ("runs", 5, verdict)


def test_runs_of_one_arm_must_be_of_one_content(saved):
    names = saved(session("run-1", trial()), session("run-2", trial(digest="2")), session("run-3", trial()))
    assert refused(names[0], names[1], "--with", names[2]).startswith(f"{INT8} is not the same in runs run-1 and run-2 of one arm")


def test_what_a_run_did_not_measure_has_no_timings_of_it(saved):
    unchanged = trial(state=TrialState.UNCHANGED, reason="same content", estimates=trial().estimates)
    failed = results.trial("fp32", state=TrialState.FAILED, reason="the build failed", estimates=())
    document = asked(*saved(session("run-1", trial(), failed), session("run-2", unchanged)))
    assert "latency_p50" not in [row["metric"] for row in document["rows"]]
    assert [note for note in document["notes"] if note.startswith(f"{INT8} was UNCHANGED in run run-2: it was not measured there")]
    assert document["unmatched"][0]["reason"] == "in the baseline: FAILED, the build failed; in the candidate: not there"


def test_a_gate_of_either_run_gives_the_tolerance_unless_one_is_asked_for(saved):
    gated = session("run-2", trial(), comparisons=(results.comparison(INT8, tolerance=0.07),))
    names = saved(session("run-1", trial()), gated)

    def tolerance(*words):
        return next(row for row in asked(*names, *words)["rows"] if row["metric"] == "latency_p50")["tolerance"]

    assert (tolerance(), tolerance("--tolerance", "4 %"), tolerance("--tolerance", "latency_p50=3 %")) == (0.07, 0.04, 0.03)


def test_the_interval_is_that_of_welch():
    draw = random.Random(3)
    before, after = [math.exp(draw.gauss(0, 0.02)) for _ in range(6)], [math.exp(draw.gauss(0.03, 0.05)) for _ in range(9)]
    known = stats.ttest_ind(np.log(after), np.log(before), equal_var=False).confidence_interval(0.98)
    found = welch(question(before, after), 0.98)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((known.low, known.high))


def test_equal_figures_are_no_certainty():
    found = welch(question([1.0] * 5, [1.0] * 5), 0.98)
    assert 1 - 1e-3 < found.low < 1 - 1e-5 and 1 + 1e-5 < found.high < 1 + 1e-3


def test_identical_code_is_hardly_ever_called_slower_however_many_benchmarks_there_are():
    draw = random.Random(7)
    alarms = 0
    for _ in range(100):
        launches = [[math.exp(draw.gauss(0, 0.05)) for _ in range(6)] for _ in range(20)]
        rows = compare_unpaired([question(one, other) for one, other in zip(launches[::2], launches[1::2], strict=True)])
        alarms += any(row.verdict is Verdict.REGRESSED for row in rows)
    assert alarms <= 3


def test_what_is_shown_leaves_its_share_of_the_error_to_the_others():
    slow, border = (
        question([1.0, 1.001, 0.999, 1.0, 1.002], [1.5, 1.501, 1.499, 1.5, 1.502]),
        question([1.0, 1.01, 0.99, 1.0, 1.005], [1.2] * 5),
    )
    levels = [row.interval.level for row in compare_unpaired([slow, border])]
    assert levels == [pytest.approx(0.98)] * 2
    assert compare_unpaired([slow, question([1.0, 1.01], [1.0, 0.99])])[0].interval.level == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("sequence", "order"),
    [("ABAB", "interleaved"), ("ABBAAB", "interleaved"), ("AAABBB", "in blocks"), ("AB", "interleaved"), ("ABBBA", "in blocks")],
)
def test_the_order_is_that_of_the_times(sequence, order):
    from datetime import UTC, datetime, timedelta

    times = {"A": [], "B": []}
    for minute, arm in enumerate(sequence):
        times[arm].append(datetime(2026, 11, 25, tzinfo=UTC) + timedelta(minutes=minute))
    assert order_of(times["A"], times["B"]) == order
    assert order_of([*times["A"], None], times["B"]) == order_of(times["A"], times["A"]) == "unknown"


def test_a_run_is_exported_and_compared_as_files(saved, place):
    launched = session("run-1", trial(distributions=(results.distribution("candidate", 2e6, launches=5),)))
    (name,) = saved(launched)
    wrote = told("bench-file", name, "--format", "pytest-benchmark", "--output", "out", command=export).split()
    assert wrote == [f"out/000{number}_run-1-candidate.json" for number in range(1, 6)]
    (row,) = asked(*wrote[:2], "--with", *wrote[2:])["rows"]
    assert (row["name"], row["baseline_n"], row["candidate_n"]) == (INT8, 2, 3)


def test_every_field_of_the_json_is_in_the_document(files, saved):
    text = (Path(__file__).parents[1] / "docs" / "diff.md").read_text(encoding="utf-8")
    document = asked(*files(slower=1.05, B={"python_version": "3.12"}))
    alone = asked(*files(B={"test": "b"}))
    parts = [
        document,
        document["baseline"],
        document["rows"][0],
        document["rows"][0]["interval"],
        document["differences"][0],
        alone["unmatched"][0],
    ]
    assert [field for part in parts for field in part if not re.search(rf"`{field}`", text)] == []

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import results

from harness.commands.history import history
from harness.core.audit import Audit, AuditedClause, AuditedTrial
from harness.core.comparison import SlaFinding, SlaState
from harness.core.errors import BadInput, CannotMeasure
from harness.core.result import TrialState
from harness.core.units import Unit
from harness.engine.keep_history import project_of
from harness.store.history import History

FP32, INT8 = "digits-resnet50/fp32-cpu-b1", "digits-resnet50/int8-cpu-b1"
PROMISE = "int8.latency_p99: at most 50 ms"


@pytest.fixture
def location(tmp_path, monkeypatch):
    """An empty history of a project that lies in the present folder."""
    root = tmp_path / "digits"
    root.mkdir()
    monkeypatch.chdir(root)
    file = tmp_path / "history.sqlite"
    monkeypatch.setenv("HARNESS_HISTORY", str(file))
    return file


@pytest.fixture
def kept(location):
    """24 sessions in which int8 became 4.1 % slower at the 13th, and one of another branch."""
    into, project = History(str(location)), project_of(Path.cwd())
    for day in range(1, 25):
        slow = results.trial("int8", charts=False, slower=1.041 if day > 12 else 1.0)
        into.append(session(day, results.trial("fp32", charts=False), slow), project, "main")
    into.append(session(25, results.trial("fp32", charts=False)), project, "topic")
    return into


def session(day, *trials):
    return results.result(id=f"run-{day:02}", started_at=f"2026-10-{day:02}T08:00:00Z", trials=trials, comparisons=(), sla=())


@pytest.fixture
def promised(location):
    """Three sessions with a promise, each with less head room; the first two are releases."""
    into, project = History(str(location)), project_of(Path.cwd())
    for day, value in ((1, 31e6), (2, 40e6), (3, 56e6)):
        state = SlaState.KEPT if value < 5e7 else SlaState.BROKEN
        finding = SlaFinding(INT8, "latency_p99", PROMISE, Unit.NANOSECONDS, value, 0.004, 5e7, state, "told", 31)
        made = replace(session(day, results.trial("int8", charts=False)), sla=(finding,))
        into.append(made, project, "main")
        if day < 3:
            clauses = () if day == 1 else (audited(value, state),)
            into.name_release(replace(an_audit(made, project), release=f"1.{day}.0", clauses=clauses), lambda metric: "lower")
    return into


def audited(value, state):
    ns = Unit.NANOSECONDS
    return AuditedClause(
        "digits-resnet50", INT8, "latency_p99", PROMISE, 31, 5e7, ns, ns, state, value, 0.004, "", 0.975, "queries", 9, 0, "", 1, "", "", ()
    )


def an_audit(run, project):
    trial = AuditedTrial(INT8, TrialState.MEASURED, "measured", environment_key="4f0aa1c3b977")
    moment = run.started_at
    return Audit(1, "0.1.0", "", moment, project, None, None, run.id, "audit", moment, moment, run.environment, (), 0.975, (), {}, (trial,))


def told(*arguments):
    done = CliRunner().invoke(history, arguments, catch_exceptions=False, standalone_mode=False)
    return done.stdout, done.stderr


def refused(*arguments):
    done = CliRunner().invoke(history, arguments, standalone_mode=False)
    assert done.stdout == ""
    return done.exception


def test_a_series_is_a_line_and_every_change_a_line_below_it(kept):
    assert told("int8", "--metric", "latency_p50") == (
        f"{INT8}  latency_p50  ▁▁▁▁▁▁▁▁▁▁▁▁████████████  24 sessions, 2026-10-01 to 2026-10-24, last 1.46 ms, +4.1 % since 2026-10-13\n"
        "  2026-10-13  commit 3f2c9b7 with uncommitted changes  run run-13  1.40 ms → 1.46 ms  +4.1 %  worse\n",
        "",
    )


def test_all_series_are_told_in_order_and_stand_in_columns(kept):
    out, err = told()
    lines = [line for line in out.splitlines() if not line.startswith("  ")]
    assert [line.split()[:2] for line in lines] == sorted(line.split()[:2] for line in lines)
    assert len(lines) == 10 and err == ""
    assert len({line.index("  2") for line in lines}) == 1
    assert out.count("  worse") == 1 and not re.search("  better$", out, re.MULTILINE)


def test_a_branch_is_told_by_itself(kept):
    out, _ = told("--ref", "topic", "--metric", "accuracy")
    assert out == f"{FP32}  accuracy  ▁                         1 session, 2026-10-25, last 98.52 %\n"
    out, err = told("--ref", "nowhere")
    assert (out, err.partition(" in ")[0]) == ("", "no sessions of branch 'nowhere' of digits")


def test_machines_are_told_apart_where_a_trial_has_several(kept):
    kept.append(session(26, results.trial("fp32", charts=False, environment_key="elsewhere")), "digits", "main")
    out, _ = told("fp32", "--metric", "accuracy")
    assert [line.split("  ")[2] for line in out.splitlines()] == ["machine 4f0aa1c3b977", "machine elsewhere"]


def test_the_head_room_of_every_promise_is_told_below_the_metrics(promised):
    out, err = told("--metric", "latency_p99")
    _, _, rooms = out.partition("\n\n")
    assert err == "" and rooms == (
        "head room: the share of a promise's limit that was left\n"
        f"{INT8}  {PROMISE}  █▅▁                       3 sessions, 1.1.0 to 2026-10-03, "
        "last 12.0 % beyond the limit (56.0 ms), BROKEN\n"
    )


def test_over_releases_every_one_is_told_by_its_name(promised):
    out, _ = told("--metric", "latency_p99", "--releases")
    assert "2 sessions, 1.1.0 to 1.2.0" in out.splitlines()[0]
    assert out.splitlines()[-2:] == [
        "  1.1.0  2026-10-01  31.0 ms  KEPT  38.0 % left",
        "  1.2.0  2026-10-02  40.0 ms  KEPT  20.0 % left",
    ]


def test_without_a_release_it_is_said_what_names_one(kept, location):
    assert told("--releases") == ("", f"no releases of digits in {location} yet: 'harness audit --release' names them\n")


def test_the_json_of_the_head_room_tells_every_session(promised):
    (room,) = json.loads(told("--json")[0], parse_constant=pytest.fail)["head_room"]
    assert set(room) == {"trial", "clause", "metric", "limit", "unit", "environment_key", "points", "changes"}
    assert [(point["release"], point["state"], round(point["head_room"], 3)) for point in room["points"]] == [
        ("1.1.0", "KEPT", 0.38),
        ("1.2.0", "KEPT", 0.2),
        (None, "BROKEN", -0.12),
    ]


def test_the_page_has_the_head_room_with_its_releases(promised, tmp_path):
    told("--html", str(tmp_path / "trends.html"))
    text = (tmp_path / "trends.html").read_text(encoding="utf-8")
    assert "Head room of promises" in text and "12.0\N{NO-BREAK SPACE}% beyond the limit" in text and "<b>1.2.0</b>" in text
    assert len(re.findall(f'aria-label="head room of ‘{PROMISE}’ on {INT8} over 3 sessions', text)) == 2


def test_json_is_strict_and_tells_every_point_and_change(kept, location):
    out, err = told("int8", "--metric", "latency_p50", "--json")
    document = json.loads(out, parse_constant=pytest.fail)
    assert err == "" and set(document) == {"schema", "project", "history", "trends", "head_room"}
    assert (document["schema"], document["project"], document["history"]) == (1, "digits", str(location))
    (trend,) = document["trends"]
    assert set(trend) == {"trial", "metric", "unit", "better", "environment_key", "points", "changes"}
    assert (trend["trial"], trend["unit"], trend["better"], len(trend["points"])) == (INT8, "ns", "lower", 24)
    assert set(trend["points"][0]) == {"at", "run", "commit", "ref", "value", "low", "high", "dirty", "release"}
    (change,) = trend["changes"]
    assert set(change) == {"index", "at", "run", "commit", "before", "after", "ratio", "p_value", "worse"}
    assert (change["index"], change["run"], change["worse"]) == (12, "run-13", True)
    assert change["ratio"] == pytest.approx(1.041)


def test_the_fields_of_the_json_are_all_in_the_document(kept, promised):
    out, _ = told("--json")
    text = (Path(__file__).parents[1] / "docs" / "history.md").read_text(encoding="utf-8")
    trend = next(one for one in json.loads(out)["trends"] if one["changes"])
    room = json.loads(out)["head_room"][0]
    fields = {*json.loads(out), *trend, *trend["points"][0], *trend["changes"][0], *room, *room["points"][0]}
    assert [field for field in fields if f"`{field}`" not in text] == []


def test_the_page_is_written_where_it_is_asked_for(kept, tmp_path):
    page = tmp_path / "out" / "trends.html"
    out, err = told("int8", "--html", str(page))
    assert err == f"wrote {page}\n" and out.startswith(INT8)
    text = page.read_text(encoding="utf-8")
    assert "History of digits" in text and text.count("<svg") == 10


def test_an_empty_history_is_no_error_and_says_what_fills_it(location):
    said = f"no sessions of digits in {location} yet: 'harness run' and 'harness gate' append them\n"
    assert told() == ("", said)
    out, err = told("int8", "--json")
    assert (json.loads(out)["trends"], err) == ([], said)
    assert not location.exists()


def test_a_name_that_nothing_has_is_refused_with_those_that_there_are(kept):
    error = refused("int4")
    assert isinstance(error, BadInput)
    assert str(error) == f"no trial in the history matches 'int4'\n  there are {FP32}, {INT8}"
    assert str(refused("--metric", "latency_p5")) == "no session has a metric 'latency_p5'\n  did you mean 'latency_p50'?"


def test_a_history_that_is_switched_off_or_damaged_is_told(location, monkeypatch):
    location.write_bytes(b"no database at all" * 99)
    error = refused()
    assert isinstance(error, CannotMeasure) and str(location) in error.message
    monkeypatch.setenv("HARNESS_HISTORY", "off")
    assert str(refused()).startswith("the history is switched off by HARNESS_HISTORY\n  unset HARNESS_HISTORY")

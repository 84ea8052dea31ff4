import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from fakes import results

from harness.core.audit import SCHEMA, Audit, AuditedClause, AuditedTrial
from harness.core.comparison import SlaFinding, SlaState
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.result import TrialState
from harness.core.units import Unit
from harness.store.history import History

PROJECT = "github.com/owner/digits"
TRIAL = "digits-resnet50/int8-cpu-b1"
CLAUSE = "int8.latency_p99: at most 50 ms"
SCHEMA_1 = """
CREATE TABLE harness_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE harness_session (
    project VARCHAR NOT NULL, run VARCHAR NOT NULL, started_at VARCHAR NOT NULL, commit_id VARCHAR, dirty BOOLEAN, ref VARCHAR,
    program_version VARCHAR NOT NULL, command VARCHAR NOT NULL, PRIMARY KEY (project, run));
CREATE TABLE harness_estimate (
    project VARCHAR NOT NULL, run VARCHAR NOT NULL, trial VARCHAR NOT NULL, metric VARCHAR NOT NULL, environment_key VARCHAR NOT NULL,
    content VARCHAR, unit VARCHAR NOT NULL, better VARCHAR NOT NULL, value DOUBLE NOT NULL, low DOUBLE, high DOUBLE, n INTEGER NOT NULL,
    PRIMARY KEY (project, run, trial, metric),
    FOREIGN KEY(project, run) REFERENCES harness_session (project, run));
CREATE INDEX harness_series ON harness_estimate (project, trial, metric, environment_key);
INSERT INTO harness_schema VALUES (1);
INSERT INTO harness_session VALUES (
    'github.com/owner/digits', 'run-000', '2026-09-30T08:00:00+00:00', '3f2c9b7', 0, 'main', '0.1.0', 'gate');
INSERT INTO harness_estimate VALUES (
    'github.com/owner/digits', 'run-000', 'digits-resnet50/int8-cpu-b1', 'latency_p99', '4f0aa1c3b977', NULL, 'ns', 'lower',
    30000000.0, 29000000.0, 31000000.0, 5);
"""
"""As the first version wrote it."""


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "history.sqlite"))


def session(day, value=31e6, *, state=SlaState.KEPT, clause=CLAUSE, sla=None, **changes):
    """A run with one promise on one trial."""
    interval = ConfidenceInterval(value - 1e6, value + 1e6, 0.95)
    estimate = Estimate("latency_p99", Unit.NANOSECONDS, "lower", value, interval, 5, "launches")
    made = results.trial("int8", charts=False, estimates=(estimate,), **changes)
    finding = SlaFinding(TRIAL, "latency_p99", clause, Unit.NANOSECONDS, value, 0.004, 5e7, state, "told", 31)
    at = f"2026-10-{day:02}T08:00:00+00:00"
    return results.result(id=f"run-{day:03}", started_at=at, trials=(made,), comparisons=(), sla=(finding,) if sla is None else sla)


def head_rooms(history, **wanted):
    return history.head_rooms(PROJECT, tolerance=lambda trial, metric: 0.1, **wanted)


def audit(day, release, *, value=31e6, state=SlaState.KEPT, **changes):
    """What an audit of that day's run tells."""
    run = session(day, value)
    clause = AuditedClause(
        "digits-resnet50", TRIAL, "latency_p99", CLAUSE, 31, 5e7, Unit.NANOSECONDS, Unit.NANOSECONDS, state, value, 0.002,
        "share of queries over the limit", 0.975, "queries", 4_000, 0, "single_stream", 1, "told", "counted", (),
    )  # fmt: skip
    trial = AuditedTrial(TRIAL, TrialState.MEASURED, "measured", environment_key="4f0aa1c3b977")
    other = AuditedTrial("digits-resnet50/int8-cuda-b1", TrialState.SKIPPED, "another machine")
    clauses = (clause, replace(clause, trial=other.id, state=SlaState.UNMEASURED, value=None, bound=None))
    told = Audit(
        SCHEMA, "0.1.0", release, f"2026-11-{day:02}T08:00:00+00:00", PROJECT, "3f2c9b7", False, run.id, "audit", run.started_at,
        run.finished_at, run.environment, (5,), 0.975, (), {}, (trial, other), clauses=clauses,
    )  # fmt: skip
    return replace(told, **changes)


def named(history, *args, **changes):
    history.name_release(audit(*args, **changes), lambda metric: "lower")


def test_every_promise_comes_back_session_by_session_with_its_head_room(history):
    history.append(session(2, 45e6, state=SlaState.UNPROVEN), PROJECT, "topic")
    history.append(session(1), PROJECT, "main")
    (found,) = head_rooms(history)
    assert (found.trial, found.clause, found.metric, found.limit) == (TRIAL, CLAUSE, "latency_p99", 5e7)
    assert (found.unit, found.environment_key) == (Unit.NANOSECONDS, "4f0aa1c3b977")
    assert [point.session.run for point in found.points] == ["run-001", "run-002"]
    assert [point.state for point in found.points] == [SlaState.KEPT, SlaState.UNPROVEN]
    assert [(point.value, point.bound) for point in found.points] == [(31e6, 0.004), (45e6, 0.004)]
    assert [point.room for point in found.points] == [pytest.approx(0.38), pytest.approx(0.1)]
    assert found.least is found.points[1]
    assert [len(one.points) for one in head_rooms(history, ref="topic")] == [1]
    assert head_rooms(history, metrics=["accuracy"]) == head_rooms(history, trials=["x"]) == []


def test_another_limit_is_another_promise(history):
    history.append(session(1), PROJECT, None)
    history.append(session(2, clause="int8.latency_p99: at most 40 ms"), PROJECT, None)
    assert [(one.clause, round(one.points[0].room, 3)) for one in head_rooms(history)] == [
        ("int8.latency_p99: at most 40 ms", 0.225),
        (CLAUSE, 0.38),
    ]


def test_a_lasting_loss_of_head_room_is_a_change(history):
    for day in range(1, 25):
        history.append(session(day, (31e6 if day < 13 else 39e6) + 1e4 * (day % 3)), PROJECT, "main")
    (found,) = head_rooms(history)
    (change,) = found.trend.changes
    assert (found.trend.point_of(change).run, found.trend.is_worse(change)) == ("run-013", True)
    assert (change.before, change.after) == (pytest.approx(0.38, abs=0.01), pytest.approx(0.22, abs=0.01))


def test_a_promise_without_a_number_has_its_state_and_no_head_room(history):
    history.append(
        session(1, sla=(SlaFinding(TRIAL, "x", "x: at most 1 ms", None, None, None, 1e6, SlaState.UNMEASURED, "no"),)), PROJECT, None
    )
    (found,) = head_rooms(history)
    assert (found.points[0].state, found.points[0].room, found.unit, found.trend.points) == (SlaState.UNMEASURED, None, None, ())
    assert found.least is None


def test_promises_on_what_was_not_measured_in_the_session_are_not_kept(history):
    history.append(session(1, state=SlaState.KEPT), PROJECT, None)
    unchanged = session(2)
    history.append(replace(unchanged, trials=(replace(unchanged.trials[0], state=TrialState.UNCHANGED),)), PROJECT, None)
    assert [len(one.points) for one in head_rooms(history)] == [1]


def test_a_run_that_was_gone_on_with_keeps_its_newest_numbers(history):
    history.append(session(1, 45e6, state=SlaState.UNPROVEN), PROJECT, None)
    history.append(session(1, 31e6), PROJECT, None)
    (found,) = head_rooms(history)
    assert [(point.state, point.value) for point in found.points] == [(SlaState.KEPT, 31e6)]
    (trend,) = history.trends(PROJECT, tolerance=lambda trial, metric: 0.02)
    assert [point.value for point in trend.points] == [31e6]


def test_an_audit_names_its_session_and_its_findings_take_the_place_of_the_runs(history):
    history.append(session(1, state=SlaState.UNPROVEN), PROJECT, "main")
    history.append(session(2), PROJECT, "main")
    named(history, 1, "1.4.0-rc1")
    named(history, 1, "1.4.0", audited_at="2026-12-01T00:00:00+00:00")
    (found,) = head_rooms(history)
    assert [(point.session.release, point.state, point.bound) for point in found.points] == [
        ("1.4.0-rc1, 1.4.0", SlaState.KEPT, 0.002),
        (None, SlaState.KEPT, 0.004),
    ]
    assert found.points[0].session.ref == "main"
    (trend,) = history.trends(PROJECT, tolerance=lambda trial, metric: 0.02)
    assert [point.name for point in trend.points] == ["1.4.0-rc1, 1.4.0", "2026-10-02"]
    assert [len(one.points) for one in (*head_rooms(history, only_released=True),)] == [1]
    (released,) = history.trends(PROJECT, tolerance=lambda trial, metric: 0.02, only_released=True)
    assert [point.run for point in released.points] == ["run-001"]


def test_an_audit_of_a_run_that_another_history_has_is_a_session_here_with_its_promises(history):
    named(history, 1, "1.4.0")
    assert (history.trials(PROJECT), history.metrics(PROJECT)) == ([TRIAL], ["latency_p99"])
    (found,) = head_rooms(history)
    assert [(point.session.release, point.session.run) for point in found.points] == [("1.4.0", "run-001")]
    assert history.trends(PROJECT, tolerance=lambda trial, metric: 0.02) == []


@pytest.fixture
def old(history):
    with closing(sqlite3.connect(history.location)) as connection:
        connection.executescript(SCHEMA_1)
    return history


def test_a_history_of_the_first_version_is_read_as_it_is(old):
    before = sqlite3.connect(old.location).execute("select name from sqlite_master order by name").fetchall()
    (trend,) = old.trends(PROJECT, tolerance=lambda trial, metric: 0.02)
    assert [(point.value, point.release) for point in trend.points] == [(3e7, None)]
    assert (old.trials(PROJECT), old.metrics(PROJECT), head_rooms(old)) == ([TRIAL], ["latency_p99"], [])
    assert sqlite3.connect(old.location).execute("select name from sqlite_master order by name").fetchall() == before


def test_a_history_of_the_first_version_goes_on_with_the_next_session(old):
    old.append(session(1), PROJECT, "main")
    (trend,) = old.trends(PROJECT, tolerance=lambda trial, metric: 0.02)
    assert [point.run for point in trend.points] == ["run-000", "run-001"]
    (found,) = head_rooms(old)
    assert [point.session.run for point in found.points] == ["run-001"]
    with closing(sqlite3.connect(old.location)) as connection:
        assert connection.execute("select version from harness_schema").fetchall() == [(1,), (2,)]
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]

"""Promises and releases in the history: their rows, and the head room of every promise over the sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.core.comparison import SlaState
from harness.core.errors import CannotMeasure
from harness.core.head_room import HEAD_ROOM, HeadRoom, PromisePoint, room_of, shown_of
from harness.core.scenario import parse_clause
from harness.core.trend import Trend, TrendPoint
from harness.core.units import Unit
from harness.store._history_tables import KEPT, Cell, in_utc, newest, tables

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from harness.core.audit import Audit
    from harness.core.result import RunResult
    from harness.core.scenario import SlaClause


def clause_rows(result: RunResult, project: str) -> list[dict[str, Cell]]:
    """One for every promise on a trial that was measured in the run."""
    trials = {trial.id: trial for trial in result.trials if trial.state in KEPT and trial.environment_key is not None}
    rows: list[dict[str, Cell]] = []
    for finding in result.sla:
        trial = trials.get(finding.trial)
        if trial is None:
            continue
        estimate = trial.estimate(finding.metric)
        rows.append(
            {
                "project": project,
                "run": result.id,
                "trial": finding.trial,
                "clause": finding.clause,
                "metric": finding.metric,
                "environment_key": trial.environment_key,
                "state": str(finding.state),
                "unit": None if finding.unit is None else str(finding.unit),
                "better": None if estimate is None else estimate.better,
                "value": finding.value,
                "bound": finding.bound,
            }
        )
    return rows


def audit_rows(audit: Audit, better: Callable[[str], str | None]) -> tuple[dict[str, Cell], list[dict[str, Cell]], dict[str, Cell]]:
    """The session's row, one for every promise on a trial that was measured, and the release's; ``better`` gives a metric's direction."""
    session: dict[str, Cell] = {
        "project": audit.project,
        "run": audit.run,
        "started_at": in_utc(audit.measured_from),
        "commit_id": audit.commit,
        "dirty": audit.dirty,
        "ref": None,
        "program_version": audit.program_version,
        "command": audit.command,
    }
    keys = {trial.id: trial.environment_key for trial in audit.trials if trial.state in KEPT}
    clauses: list[dict[str, Cell]] = [
        {
            "project": audit.project,
            "run": audit.run,
            "trial": clause.trial,
            "clause": clause.clause,
            "metric": clause.metric,
            "environment_key": key,
            "state": str(clause.state),
            "unit": None if clause.unit is None else str(clause.unit),
            "better": better(clause.metric),
            "value": clause.value,
            "bound": clause.bound,
        }
        for clause in audit.clauses
        if (key := keys.get(clause.trial)) is not None
    ]
    release: dict[str, Cell] = {
        "project": audit.project,
        "run": audit.run,
        "release": audit.release,
        "audited_at": in_utc(audit.audited_at),
    }
    return session, clauses, release


def releases_of(connection: Connection, project: str) -> dict[str, str]:
    """What each run that was audited is called, by run; several names in the order of their audits."""
    from sqlalchemy import inspect, select

    columns = tables().releases.c
    if not inspect(connection).has_table(tables().releases.name):  # a database of schema 1
        return {}
    asked = select(columns.run, columns.release).where(columns.project == project).order_by(columns.audited_at, columns.release)
    found: dict[str, str] = {}
    for run, release in connection.execute(asked):
        found[run] = f"{found[run]}, {release}" if run in found else release
    return found


def head_rooms(
    connection: Connection,
    project: str,
    *,
    limits: Mapping[str, Collection[str] | None],
    ref: str | None,
    only_released: bool,
    most: int,
    find_changes: Callable[[str, str, list[float]], Iterable[Any]],
) -> list[HeadRoom]:
    """Every promise by trial, clause and machine; ``limits`` gives by column what is wanted of it, None for all."""
    from sqlalchemy import inspect, select

    if not inspect(connection).has_table(tables().clauses.name):  # a database of schema 1
        return []
    columns = tables().clauses.c
    releases = releases_of(connection, project)
    series = select(columns.trial, columns.clause, columns.metric, columns.environment_key).where(columns.project == project).distinct()
    for name, wanted in limits.items():
        series = series if wanted is None else series.where(columns[name].in_(wanted))
    found = []
    for trial, clause, metric, key in sorted(tuple(row) for row in connection.execute(series)):
        told = [columns.state, columns.unit, columns.better, columns.value, columns.bound]
        asked = newest(columns, told, project, ref).where(columns.trial == trial, columns.clause == clause, columns.environment_key == key)
        asked = asked.where(columns.run.in_(tuple(releases))) if only_released else asked
        rows = connection.execute(asked.limit(most)).all()
        if rows:
            points = tuple(_point(clause, row, releases) for row in reversed(rows))
            unit = next((Unit(row.unit) for row in rows if row.unit is not None), None)
            known = tuple(point.session for point in points if point.room is not None)
            changes = tuple(find_changes(trial, metric, [point.value for point in known]))
            trend = Trend(trial, HEAD_ROOM, Unit.FRACTION, "higher", key, known, changes)
            found.append(HeadRoom(trial, clause, metric, _parsed(clause).limit, unit, key, points, trend))
    return found


def _point(clause: str, row: Row[Any], releases: Mapping[str, str]) -> PromisePoint:
    room = room_of(_parsed(clause), row.value, row.bound, row.better)
    session = TrendPoint(
        row.started_at, row.run, row.commit_id, row.ref, 0.0 if room is None else room, None, None, bool(row.dirty), releases.get(row.run)
    )
    return PromisePoint(session, SlaState(row.state), row.value, row.bound, room, shown_of(_parsed(clause), row.value, row.bound))


def _parsed(clause: str) -> SlaClause:
    key, _, text = clause.partition(": ")
    try:
        return parse_clause(key, text)
    except ValueError as error:
        raise CannotMeasure(f"the history holds a promise that this program cannot read: '{clause}'", hint="use a newer harness") from error

"""The tables of the history, and a run as their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.core.result import TrialState
from harness.core.trend import TrendPoint

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select, Table

    from harness.core.result import RunResult

Cell = str | float | int | bool | None
ADVISORY_LOCK = 0x6861726E
"""Any number that no other program of that database would lock: the first letters of this one's name."""
KEPT = (TrialState.MEASURED, TrialState.NEW)
"""The other states measured nothing in this session."""


@dataclass(frozen=True, slots=True)
class Tables:
    """``schema`` has a row for every schema that the database has had, ``sessions`` one a run, ``estimates`` one for every number of a
    trial in a run (in its base unit), ``clauses`` one for every promise on a trial in a run, ``releases`` one for every audit of a run.
    """

    schema: Table
    sessions: Table
    estimates: Table
    clauses: Table
    releases: Table

    def create(self, connection: Connection) -> None:
        """Those that are not there yet; of two programs at once each finds them made."""
        from sqlalchemy import func, select
        from sqlalchemy.schema import CreateIndex, CreateTable

        if connection.dialect.name == "postgresql":  # there, IF NOT EXISTS still fails where another makes the table at this moment
            connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        for table in (self.schema, self.sessions, self.estimates, self.clauses, self.releases):
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


@cache
def tables() -> Tables:
    """Their definitions, made once; nothing is connected."""
    from sqlalchemy import Boolean, Column, Double, ForeignKeyConstraint, Index, Integer, MetaData, String, Table

    known = MetaData()
    schema = Table("harness_schema", known, Column("version", Integer, primary_key=True, autoincrement=False))
    sessions = Table(
        "harness_session",
        known,
        Column("project", String, primary_key=True),
        Column("run", String, primary_key=True),
        Column("started_at", String, nullable=False),  # ISO 8601 in UTC: sorts as text
        Column("commit_id", String),
        Column("dirty", Boolean),
        Column("ref", String),
        Column("program_version", String, nullable=False),
        Column("command", String, nullable=False),
    )
    estimates = Table(
        "harness_estimate",
        known,
        Column("project", String, primary_key=True),
        Column("run", String, primary_key=True),
        Column("trial", String, primary_key=True),
        Column("metric", String, primary_key=True),
        Column("environment_key", String, nullable=False),
        Column("content", String),
        Column("unit", String, nullable=False),
        Column("better", String, nullable=False),
        Column("value", Double, nullable=False),
        Column("low", Double),
        Column("high", Double),
        Column("n", Integer, nullable=False),
        ForeignKeyConstraint(["project", "run"], ["harness_session.project", "harness_session.run"]),
        Index("harness_series", "project", "trial", "metric", "environment_key"),
    )
    clauses = Table(
        "harness_clause",
        known,
        Column("project", String, primary_key=True),
        Column("run", String, primary_key=True),
        Column("trial", String, primary_key=True),
        Column("clause", String, primary_key=True),
        Column("metric", String, nullable=False),
        Column("environment_key", String, nullable=False),
        Column("state", String, nullable=False),
        Column("unit", String),
        Column("better", String),
        Column("value", Double),
        Column("bound", Double),
        ForeignKeyConstraint(["project", "run"], ["harness_session.project", "harness_session.run"]),
        Index("harness_promise", "project", "trial", "clause", "environment_key"),
    )
    releases = Table(
        "harness_release",
        known,
        Column("project", String, primary_key=True),
        Column("run", String, primary_key=True),
        Column("release", String, primary_key=True),
        Column("audited_at", String, nullable=False),  # ISO 8601 in UTC
        ForeignKeyConstraint(["project", "run"], ["harness_session.project", "harness_session.run"]),
    )
    return Tables(schema, sessions, estimates, clauses, releases)


def rows_of(result: RunResult, project: str, ref: str | None) -> tuple[dict[str, Cell], list[dict[str, Cell]]]:
    """The session's row, and one for every estimate of a trial that was measured in it."""
    session: dict[str, Cell] = {
        "project": project,
        "run": result.id,
        "started_at": in_utc(result.started_at),
        "commit_id": result.environment.commit,
        "dirty": result.environment.dirty,
        "ref": ref,
        "program_version": result.program_version,
        "command": result.command,
    }
    estimates: list[dict[str, Cell]] = [
        {
            "project": project,
            "run": result.id,
            "trial": trial.id,
            "metric": estimate.metric,
            "environment_key": trial.environment_key,
            "content": None if trial.content is None else trial.content.digest,
            "unit": str(estimate.unit),
            "better": estimate.better,
            "value": estimate.value,
            "low": None if estimate.interval is None else estimate.interval.low,
            "high": None if estimate.interval is None else estimate.interval.high,
            "n": estimate.n,
        }
        for trial in result.trials
        if trial.state in KEPT and trial.environment_key is not None
        for estimate in trial.estimates
    ]
    return session, estimates


def in_utc(moment: str) -> str:
    """ISO 8601 in UTC, to the second: such texts sort by time."""
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat(timespec="seconds")


def has_tables(connection: Connection) -> bool:
    """False in a database that nothing was appended to yet."""
    from sqlalchemy import inspect

    return inspect(connection).has_table(tables().estimates.name)


def newest_points(project: str, trial: str, metric: str, key: str, ref: str | None) -> Select[Any]:
    """The sessions and numbers of one series, the newest first; ``ref`` None: of all branches."""
    found = tables().estimates.c
    return newest(found, [found.unit, found.better, found.value, found.low, found.high], project, ref).where(
        found.trial == trial, found.metric == metric, found.environment_key == key
    )


def newest(columns: Any, told: list[Any], project: str, ref: str | None) -> Select[Any]:
    """Sessions with what ``told`` names of the table that ``columns`` are of, the newest first."""
    from sqlalchemy import and_, select

    sessions = tables().sessions
    joined = and_(sessions.c.project == columns.project, sessions.c.run == columns.run)
    asked = select(sessions, *told).join(columns.run.table, joined).where(columns.project == project)
    asked = asked if ref is None else asked.where(sessions.c.ref == ref)
    return asked.order_by(sessions.c.started_at.desc(), sessions.c.run.desc())


def point_of(row: Row[Any], releases: Mapping[str, str]) -> TrendPoint:
    """A row of ``newest_points`` as a point; ``releases`` by run."""
    low, high = row.low, row.high
    return TrendPoint(row.started_at, row.run, row.commit_id, row.ref, row.value, low, high, bool(row.dirty), releases.get(row.run))

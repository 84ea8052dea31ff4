"""The history: every session that was measured, in an SQL database of the user's (SQLite, or a PostgreSQL that runners share).

Schema history of the database (``SCHEMA``):
  1  first version: harness_schema, harness_session, harness_estimate
  2  harness_clause (promises of every session) and harness_release (which release a run was audited for) were added; what was there before
     is as it was, and is brought to this schema when the next session is appended
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.core.errors import BadInput, CannotMeasure, MissingPackage, Problem
from harness.core.trend import Trend, scale_of
from harness.core.units import Unit
from harness.store._history_promises import audit_rows, clause_rows, head_rooms, releases_of
from harness.store._history_tables import Cell, has_tables, newest_points, point_of, rows_of, tables

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Table

    from harness.core.audit import Audit
    from harness.core.head_room import HeadRoom
    from harness.core.result import RunResult

VARIABLE = "HARNESS_HISTORY"
OFF = "off"
SCHEMA = 2
NEWEST_SESSIONS = 200
"""What a series shows at most."""
PATIENCE_S = 30
"""How long a gate waits for another that is writing, or for a server to answer."""
_INSTEAD = f"or set {VARIABLE} to another file, or to '{OFF}'"


def history_here(environment: Mapping[str, str] = os.environ) -> History | None:
    """The history that ``$HARNESS_HISTORY`` names (a file or a database URL), else ``harness/history.sqlite`` in the user's data folder.

    None where it is switched off.
    """
    import platformdirs

    named = environment.get(VARIABLE, "").strip()
    if named.lower() == OFF:
        return None
    return History(named or str(platformdirs.user_data_path("harness") / "history.sqlite"))


@dataclass(frozen=True, slots=True)
class History:
    """``location`` is a file or a database URL. Nothing is kept open between calls, so that gates on one machine never hold each other up.

    Every method raises CannotMeasure when the database is damaged, locked for long, not to be written or of a newer schema, and
    BadInput for a location that is none.
    """

    location: str

    @property
    def told(self) -> str:
        """The location without a password."""
        url = self._url()
        return str(url.database) if url.drivername == "sqlite" else url.render_as_string(hide_password=True)

    def append(self, result: RunResult, project: str, ref: str | None) -> None:
        """Keep what was measured in a run: all of it or nothing. A run that is there already stays one session, with the newest numbers:
        one that was gone on with has more launches than before."""
        session, estimates = rows_of(result, project, ref)
        made = tables()
        with self._connected(writing=True) as connection:
            connection.execute(_insert(connection.dialect.name)(made.sessions).on_conflict_do_nothing(), session)
            _put(connection, made.estimates, estimates)
            _put(connection, made.clauses, clause_rows(result, project))

    def name_release(self, audit: Audit, better: Callable[[str], str | None]) -> None:
        """Keep which release a run was audited for, and its promises as the audit found them; ``better`` gives a metric's direction."""
        session, clauses, release = audit_rows(audit, better)
        made = tables()
        with self._connected(writing=True) as connection:
            connection.execute(_insert(connection.dialect.name)(made.sessions).on_conflict_do_nothing(), session)
            _put(connection, made.clauses, clauses)
            _put(connection, made.releases, [release])

    def trials(self, project: str) -> list[str]:
        """The trials that the project's sessions have measured or promised something of, sorted."""
        return self._names(project, "trial")

    def metrics(self, project: str) -> list[str]:
        """The metrics that the project's sessions have measured or promised, sorted."""
        return self._names(project, "metric")

    def trends(
        self,
        project: str,
        *,
        tolerance: Callable[[str, str], float],
        trials: Collection[str] | None = None,
        metrics: Collection[str] | None = None,
        environment_keys: Collection[str] | None = None,
        ref: str | None = None,
        only_released: bool = False,
    ) -> list[Trend]:
        """The newest 200 sessions of every series (a metric of a trial on one kind of machine), by trial, metric and machine.

        None stands for all. ``tolerance(trial, metric)`` is the smallest change that is told, on the metric's scale. ``only_released``
        leaves out sessions that no audit named.
        """
        from sqlalchemy import select

        from harness.stats.change_points import change_points

        made = tables()
        columns = made.estimates.c
        series = select(columns.trial, columns.metric, columns.environment_key).where(columns.project == project).distinct()
        for column, wanted in ((columns.trial, trials), (columns.metric, metrics), (columns.environment_key, environment_keys)):
            series = series if wanted is None else series.where(column.in_(wanted))
        found = []
        with self._connected(writing=False) as connection:
            if not has_tables(connection):
                return []
            releases = releases_of(connection, project)
            for trial, metric, key in sorted(tuple(row) for row in connection.execute(series)):
                asked = newest_points(project, trial, metric, key, ref)
                asked = asked.where(columns.run.in_(tuple(releases))) if only_released else asked
                rows = connection.execute(asked.limit(NEWEST_SESSIONS)).all()
                if not rows:
                    continue
                newest = rows[0]
                points = tuple(point_of(row, releases) for row in reversed(rows) if row.unit == newest.unit)
                changes = change_points(
                    [point.value for point in points], least_change=tolerance(trial, metric), scale=scale_of(Unit(newest.unit))
                )
                found.append(Trend(trial, metric, Unit(newest.unit), newest.better, key, points, tuple(changes)))
        return found

    def head_rooms(
        self,
        project: str,
        *,
        tolerance: Callable[[str, str], float],
        trials: Collection[str] | None = None,
        metrics: Collection[str] | None = None,
        ref: str | None = None,
        only_released: bool = False,
    ) -> list[HeadRoom]:
        """The newest 200 sessions of every promise on a trial on one kind of machine, as ``trends`` gives those of metrics.

        A change of head room is told when it is as large as the metric's tolerance, taken as a share of the limit. Empty in a database
        that was written before promises were kept.
        """
        from harness.stats.change_points import change_points

        with self._connected(writing=False) as connection:
            return head_rooms(
                connection,
                project,
                limits={"trial": trials, "metric": metrics},
                ref=ref,
                only_released=only_released,
                most=NEWEST_SESSIONS,
                find_changes=lambda trial, metric, rooms: change_points(rooms, least_change=tolerance(trial, metric), scale="difference"),
            )

    def _names(self, project: str, column: str) -> list[str]:
        from sqlalchemy import inspect, select

        with self._connected(writing=False) as connection:
            found: set[str] = set()
            for table in (tables().estimates, tables().clauses):  # an audit names a run's promises also where its numbers are elsewhere
                if inspect(connection).has_table(table.name):
                    asked = select(table.c[column]).where(table.c.project == project).distinct()
                    found.update(name for (name,) in connection.execute(asked))
            return sorted(found)

    def _url(self) -> URL:
        from sqlalchemy import URL, make_url
        from sqlalchemy.exc import ArgumentError

        if "://" not in self.location:
            return URL.create("sqlite", database=str(Path(self.location).expanduser().absolute()))
        try:
            return make_url(self.location)
        except ArgumentError as error:  # its text would tell the password
            raise _not_a_database("this is no database URL") from error

    @contextmanager
    def _connected(self, *, writing: bool) -> Iterator[Connection]:
        """One transaction, checked to be of our schema. A file that is not there is made for writing, and empty for reading."""
        from sqlalchemy import create_engine, exc, pool

        url = self._url()
        backend = url.get_backend_name()
        if backend == "sqlite":
            # a writer takes the lock before it reads: two that write at once wait for each other, where else one would fail
            arguments: dict[str, Any] = {"timeout": PATIENCE_S, "isolation_level": "IMMEDIATE" if writing else None}
            url = _placed(url, writing=writing)
        else:
            arguments = {"connect_timeout": PATIENCE_S} if backend == "postgresql" else {}
        try:
            engine = create_engine(url, poolclass=pool.NullPool, connect_args=arguments)
        except exc.NoSuchModuleError as error:
            raise _not_a_database(f"'{url.drivername}' is no database known here") from error
        except ImportError as error:
            if backend == "postgresql":
                raise MissingPackage(str(error.name), extra="postgresql", needed_by=VARIABLE) from error
            raise CannotMeasure(f"the history {self.told} needs the package '{error.name}', which is not installed") from error
        try:
            with engine.begin() as connection:
                self._check_schema(connection, writing=writing)
                yield connection
        except exc.SQLAlchemyError as error:
            self._refuse(error, writing=writing)
        finally:
            engine.dispose()

    def _check_schema(self, connection: Connection, *, writing: bool) -> None:
        from sqlalchemy import func, inspect, select

        schema = tables().schema
        known = inspect(connection).has_table(schema.name)
        version = connection.execute(select(func.max(schema.c.version))).scalar() if known else None
        if version is not None and version > SCHEMA:
            hint = f"use the harness that wrote it, or a newer one, {_INSTEAD}"
            raise CannotMeasure(f"the history {self.told} has schema {version}, this program knows {SCHEMA}", hint=hint)
        if version != SCHEMA and writing:
            tables().create(connection)
            connection.execute(_insert(connection.dialect.name)(schema).on_conflict_do_nothing(), {"version": SCHEMA})

    def _refuse(self, error: Exception, *, writing: bool) -> NoReturn:
        """The database's own first line, where it is, and what to do."""
        what = str(getattr(error, "orig", None) or error).splitlines()[0]
        verb = "written" if writing else "read"
        hint = next((step for sign, step in _STEPS.items() if sign in what), f"see that it can be reached and {verb}")
        raise CannotMeasure(f"the history {self.told} cannot be {verb}: {what}", hint=f"{hint}, {_INSTEAD}") from error


_STEPS = {
    "locked": "another program has held it for long: try again when that has ended",
    "not a database": "it is damaged or something else: move it away, and a new one is begun",
    "malformed": "it is damaged: move it away, and a new one is begun",
    "is full": "the disk is full: free some space",
    "readonly": "this user may not write there: change its owner",
    "unable to open": "this user may not open it: change its owner",
    "no such": "it is damaged or something else: move it away, and a new one is begun",
}


def _placed(url: URL, *, writing: bool) -> URL:
    """The file's folder made for writing; memory in place of a file that is not there for reading."""
    from sqlalchemy import URL

    if not url.database or url.database == ":memory:" or "uri" in url.query:
        return url
    file = Path(url.database)
    if not writing and not file.exists():
        return URL.create("sqlite")
    with contextlib.suppress(OSError):  # the database's own error tells more
        file.parent.mkdir(parents=True, exist_ok=True)
    return url


def _insert(dialect: str) -> Callable[..., Any]:
    """The INSERT that can leave out what is there already: every database has its own."""
    from sqlalchemy.dialects import postgresql, sqlite

    known = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    if dialect not in known:
        raise _not_a_database(f"'{dialect}' is no database known here")
    return known[dialect]


def _put(connection: Connection, table: Table, rows: list[dict[str, Cell]]) -> None:
    """Write rows, in place of those of the same key."""
    if not rows:
        return
    statement = _insert(connection.dialect.name)(table)
    key = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), rows)


def _not_a_database(message: str) -> BadInput:
    return BadInput(Problem(f"{VARIABLE}: {message}", hint="write a file's path, sqlite:///PATH, postgresql+psycopg://..., or 'off'"))

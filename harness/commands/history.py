"""See ``history``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.core.head_room import HeadRoom, PromisePoint
    from harness.core.trend import ChangePoint, Trend
    from harness.store.history import History

SCHEMA = 1
"""Of what ``--json`` prints (docs/history.md)."""
DIRECTIONS: dict[str, dict[str, Any]] = {"worse": {"fg": "red", "bold": True}, "better": {"fg": "blue"}}
BARS = "▁▂▃▄▅▆▇█"
SESSIONS_SKETCHED = 24


class _TrendPages(Protocol):
    """What this command asks of the HTML report."""

    def trend_page(self, project: str, trends: Sequence[Trend], promises: Sequence[HeadRoom]) -> bytes: ...


@click.command(short_help="Show how each metric and promise went over the sessions.")
@click.argument("pattern", metavar="[TRIAL-PATTERN]", required=False)
@click.option("--metric", "metrics", multiple=True, metavar="M", help="Only this metric; may be given several times.")
@click.option("--ref", metavar="REF", help="Only sessions of this branch.")
@click.option("--releases", is_flag=True, help="Only sessions that 'harness audit --release' named.")
@click.option("--json", "as_json", is_flag=True, help="Print the trends as JSON (docs/history.md).")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the trend charts as a page.")
def history(pattern: str | None, metrics: tuple[str, ...], ref: str | None, releases: bool, as_json: bool, page: Path | None) -> None:
    """Show how each metric went over the sessions, where it changed for good, and how much head room every promise had.

    TRIAL-PATTERN takes the trials whose id matches, such as 'int8' or '*-b8'. Nothing is judged: the exit code is 0.
    """
    from harness.core.plain_text import plain_text
    from harness.engine.keep_history import default_tolerance, project_of
    from harness.engine.read_scenario import project_root

    project = project_of(project_root(Path.cwd() / "scenario.yaml"))
    kept = _history()
    known = kept.trials(project)
    trends: list[Trend] = []
    promises: list[HeadRoom] = []
    if known:
        asked: dict[str, Any] = {
            "trials": _matching(known, pattern),
            "metrics": _named(kept.metrics(project), metrics),
            "ref": ref,
            "only_released": releases,
            "tolerance": lambda _, metric: default_tolerance(metric),
        }
        trends, promises = kept.trends(project, **asked), kept.head_rooms(project, **asked)
    if page is not None:
        _write(page, project, trends, promises)
    if as_json:
        click.echo(_json(project, kept.told, trends, promises), nl=False)
    else:
        for line in (*_lines(trends), *_promise_lines(promises, each=releases)):
            told, gap, direction = plain_text(line).rpartition("  ")
            click.echo(f"{told}{gap}{click.style(direction, **DIRECTIONS.get(direction, {}))}")
    if not trends and not promises:
        of = f" of branch '{ref}'" if ref is not None and known else ""
        how = "'harness audit --release' names them" if releases and known else "'harness run' and 'harness gate' append them"
        click.echo(f"no {'releases' if releases else 'sessions'}{of} of {project} in {kept.told} yet: {how}", err=True)


def _history() -> History:
    """Raises BadInput where it is switched off."""
    from harness.core.errors import BadInput, Problem
    from harness.store.history import VARIABLE, history_here

    kept = history_here()
    if kept is None:
        raise BadInput(Problem(f"the history is switched off by {VARIABLE}", hint=f"unset {VARIABLE}, or name a file or a database in it"))
    return kept


def _matching(known: list[str], pattern: str | None) -> list[str]:
    """As ``--only`` matches. Raises BadInput where nothing does."""
    import fnmatch

    from harness.core.errors import BadInput, Problem

    if pattern is None:
        return known
    found = [trial for trial in known if fnmatch.fnmatch(trial, pattern) or fnmatch.fnmatch(trial, f"*{pattern}*")]
    if not found:
        told = ", ".join(known[:5]) + (f" and {len(known) - 5:,} more" if len(known) > 5 else "")
        raise BadInput(Problem(f"no trial in the history matches '{pattern}'", hint=f"there are {told}"))
    return found


def _named(known: list[str], metrics: tuple[str, ...]) -> tuple[str, ...] | None:
    """Raises BadInput for a metric that no session has, with the nearest that one has."""
    import difflib

    from harness.core.errors import BadInput, Problem

    problems = []
    for metric in metrics:
        if metric not in known:
            near = difflib.get_close_matches(metric, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            problems.append(Problem(f"no session has a metric '{metric}'", hint=hint))
    if problems:
        raise BadInput(*problems)
    return metrics or None


def _lines(trends: Sequence[Trend]) -> Iterable[str]:
    """One line a series, its change points below it; the machine is told where a trial has several."""
    keys: dict[tuple[str, str], int] = {}
    for trend in trends:
        keys[trend.trial, trend.metric] = keys.get((trend.trial, trend.metric), 0) + 1
    names = [
        f"{trend.trial}  {trend.metric}" + (f"  machine {trend.environment_key}" if keys[trend.trial, trend.metric] > 1 else "")
        for trend in trends
    ]
    width = max((len(name) for name in names), default=0)
    for name, trend in zip(names, trends, strict=True):
        yield f"{name:<{width}}  {_sketch(trend)}  {_summary(trend)}"
        for change in trend.changes:
            yield f"  {_told(trend, change)}"


def _promise_lines(promises: Sequence[HeadRoom], *, each: bool) -> Iterable[str]:
    """One line a promise under a heading, its change points below it; ``each``: every session too."""
    from harness.core.head_room import room_told

    if not promises:
        return
    yield ""
    yield "head room: the share of a promise's limit that was left"
    keys: dict[tuple[str, str], int] = {}
    for one in promises:
        keys[one.trial, one.clause] = keys.get((one.trial, one.clause), 0) + 1
    names = [
        f"{one.trial}  {one.clause}" + (f"  machine {one.environment_key}" if keys[one.trial, one.clause] > 1 else "") for one in promises
    ]
    width = max(map(len, names))
    for name, one in zip(names, promises, strict=True):
        yield f"{name:<{width}}  {_sketch(one.trend) if one.trend.points else ' ' * SESSIONS_SKETCHED}  {_room_summary(one)}"
        for change in one.trend.changes:
            yield f"  {_told(one.trend, change)}"
        for point in one.points if each else ():
            yield f"  {point.session.name}  {point.session.date}  {_value_told(one, point)}  {point.state}  {room_told(point.room)}"


def _room_summary(one: HeadRoom) -> str:
    """``24 sessions, 2026-10-01 to 2026-10-24, last 38.0 % left (31.0 ms), KEPT; least 21.0 % on 2026-10-20``."""
    from harness.core.head_room import room_told
    from harness.core.wording import drift_size_of

    first, last = one.points[0], one.points[-1]
    many = len(one.points) > 1
    span = f"{len(one.points)} sessions, {first.session.name} to {last.session.name}" if many else f"1 session, {last.session.name}"
    last_told = _value_told(one, last) if last.room is None else f"{room_told(last.room)} ({_value_told(one, last)})"
    told = f"{span}, last {last_told}, {last.state}"
    least = one.least
    if many and least is not None and least is not last:
        told += f"; least {room_told(least.room)} on {least.session.name}"
    if one.trend.changes:
        change = one.trend.changes[-1]
        told += f"; {drift_size_of(one.trend, change)} since {one.trend.point_of(change).name}"
    return told


def _value_told(one: HeadRoom, point: PromisePoint) -> str:
    """``148 /s``, ``148 /s, bound 54.1 /s``."""
    from harness.core.units import format_value

    if point.value is None or one.unit is None:
        return "no number"
    bound = "" if point.shown is None else f", bound {format_value(point.shown, one.unit)}"
    return f"{format_value(point.value, one.unit)}{bound}"


def _sketch(trend: Trend) -> str:
    """The newest sessions as bars from the least to the greatest of them."""
    values = [point.value for point in trend.points[-SESSIONS_SKETCHED:]]
    low, high = min(values), max(values)
    steps = [round((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 0 for value in values]
    return "".join(BARS[step] for step in steps).ljust(SESSIONS_SKETCHED)


def _summary(trend: Trend) -> str:
    """``24 sessions, 2026-10-01 to 2026-10-24, last 1.46 ms, +4.1 % since 2026-10-13``; releases by their names."""
    from harness.core.units import format_value
    from harness.core.wording import drift_size_of

    first, last = trend.points[0], trend.points[-1]
    sessions = f"{len(trend.points)} sessions, {first.name} to {last.name}" if len(trend.points) > 1 else f"1 session, {first.name}"
    told = f"{sessions}, last {format_value(last.value, trend.unit)}"
    if not trend.changes:
        return told
    change = trend.changes[-1]
    return f"{told}, {drift_size_of(trend, change)} since {trend.point_of(change).name}"


def _told(trend: Trend, change: ChangePoint) -> str:
    """``2026-10-03  commit abc1234  run ...  2.51 ms → 2.61 ms  +4.1 %  worse``."""
    from harness.core.units import format_value
    from harness.core.wording import drift_size_of

    point = trend.point_of(change)
    commit = "no commit" if point.commit is None else f"commit {point.commit[:7]}{' with uncommitted changes' if point.dirty else ''}"
    means = f"{format_value(change.before, trend.unit)} → {format_value(change.after, trend.unit)}"
    worse = trend.is_worse(change)
    direction = [] if worse is None else ["worse" if worse else "better"]
    release = [] if point.release is None else [f"release {point.release}"]
    return "  ".join([point.date, *release, commit, f"run {point.run}", means, drift_size_of(trend, change), *direction])


def _json(project: str, location: str, trends: Sequence[Trend], promises: Sequence[HeadRoom]) -> str:
    """Strict JSON: what is not a finite number is null."""
    import dataclasses
    import json

    from harness.store.files import strict_json_value

    told = [{**dataclasses.asdict(trend), "changes": _changes(trend)} for trend in trends]
    rooms = []
    for one in promises:
        document = dataclasses.asdict(one)
        del document["trend"]
        document["points"] = [
            {
                **{name: getattr(point.session, name) for name in ("at", "run", "commit", "ref", "dirty", "release")},
                "state": point.state,
                "value": point.value,
                "bound": point.bound,
                "head_room": point.room,
            }
            for point in one.points
        ]
        document["changes"] = _changes(one.trend)
        rooms.append(document)
    document = {"schema": SCHEMA, "project": project, "history": location, "trends": told, "head_room": rooms}
    return json.dumps(strict_json_value(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _changes(trend: Trend) -> list[dict[str, Any]]:
    import dataclasses

    return [
        {
            **dataclasses.asdict(change),
            "ratio": change.ratio,
            "worse": trend.is_worse(change),
            **{name: getattr(trend.point_of(change), name) for name in ("at", "run", "commit")},
        }
        for change in trend.changes
    ]


def _write(page: Path, project: str, trends: Sequence[Trend], promises: Sequence[HeadRoom]) -> None:
    from harness import plugins
    from harness.store.files import write_atomically

    pages = cast("_TrendPages", plugins.load("reports", "html")())
    write_atomically(page, pages.trend_page(project, trends, promises))
    click.echo(f"wrote {page}", err=True)

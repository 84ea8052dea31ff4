"""See Html."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from harness.core.comparison import Comparison, SlaState, Verdict
from harness.core.plugin import Options
from harness.core.profile import by_kind
from harness.core.repeat_wording import asked_twice, flips_told
from harness.core.result import TrialState
from harness.core.units import Unit, format_points, format_value
from harness.core.wording import (
    change_of,
    drift_size_of,
    effect_of,
    interval_of,
    next_steps,
    range_of,
    threads_told,
    tolerance_of,
    value_of,
    visible_change_of,
    worst_first,
    worst_sla_first,
)
from harness.reports import _audit_page, _purchase, _recipes
from harness.reports._distributions import latencies
from harness.reports._flame import flame
from harness.reports._forest import ROWS, forest
from harness.reports._head_room import lead_of, promise_views
from harness.reports._served import served_views
from harness.reports._svg import VERDICT_GLYPHS, Drawing
from harness.reports._telemetry import seen_rows
from harness.reports._tradeoff import tradeoff
from harness.reports._trend import TRIALS_TOLD, histories, interval_told

if TYPE_CHECKING:
    from jinja2 import Environment

    from harness.core.audit import Audit
    from harness.core.head_room import HeadRoom
    from harness.core.profile import Profile
    from harness.core.purchase import Purchase
    from harness.core.result import RunResult, TrialRecord
    from harness.core.trend import Trend

LATENCY_CHARTS = 6
TRADEOFF_CHARTS = 4
"""More charts than these nobody looks at, and each costs 60 ms and 50 kB; the tables tell the rest."""
TRENDS_ON_A_PAGE = 60
FLIPS = 50
OPERATORS = 40
"""Single operators in the table of a profile."""
FAILURES_OPEN = 10
MANY = 50
"""A table of good news with more rows than this is folded away."""
TRACEBACK_CHARACTERS = 1_000_000
"""What all tracebacks of a page may take together: a page of 1,000 failures must still open."""
_SLA_GLYPHS = {SlaState.BROKEN: "▲", SlaState.UNPROVEN: "◆", SlaState.UNMEASURED: "✚", SlaState.KEPT: "●"}
_QUANTITY = re.compile(r"(?<=\d) (?=%|points?\b|[mµn]?s\b|[KMG]iB\b|/s\b)")
_QUIET = (TrialState.UNCHANGED, TrialState.SKIPPED)


class Html(Options):
    """One page that opens offline: the verdict, what changed, charts, the evidence, and how every number is computed."""

    file_name: ClassVar[str] = "report.html"

    def render(self, result: RunResult) -> bytes:
        """UTF-8, without a single request. It reads whole without JavaScript, which only adds filters and sorting to long tables."""
        environment = _environment()
        style, script = (_part(environment, name) for name in ("style.css", "script.js"))
        ordered = worst_first(result.comparisons)
        page = environment.get_template("report.html.j2").render(
            result=result,
            style=style,
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            headline=result.headline.removeprefix(f"{result.verdict}: "),
            steps=next_steps(result),
            tallies=_tallies(result),
            changed=[comparison for comparison in ordered if comparison.verdict is not Verdict.PASS],
            passes=[comparison for comparison in ordered if comparison.verdict is Verdict.PASS],
            forests=forest(ordered),
            forest_rows=ROWS,
            slower=[trial for trial in result.trials if trial.operators is not None],
            many=MANY,
            groups_open=TRADEOFF_CHARTS,
            failures_open=FAILURES_OPEN,
            sla=worst_sla_first(result.sla),
            groups=_groups(result),
            latencies=_latencies(result, ordered),
            served=served_views(result),
            histories=histories(result.trends),
            histories_told=TRIALS_TOLD,
            anchors=_anchors(result),
            told_trials=[trial for trial in result.trials if trial.state not in _QUIET],
            quiet=_quiet(result),
            flips=[trial for trial in result.trials if trial.flips],
            flips_shown=FLIPS,
            failed=[trial for trial in result.trials if trial.failures],
            traceback_limit=TRACEBACK_CHARACTERS // max(50, sum(len(trial.failures) for trial in result.trials)),
            duration=_duration(result),
        )
        return page.encode(errors="replace")

    def trend_page(self, project: str, trends: Sequence[Trend], promises: Sequence[HeadRoom] = ()) -> bytes:
        """A page of its own for the history of a project: the head room of every promise, and every series of three sessions or more, the
        first ``TRENDS_ON_A_PAGE`` drawn."""
        environment = _environment()
        page = environment.get_template("trend_page.html.j2").render(
            project=project,
            style=_part(environment, "style.css"),
            histories=histories(trends, TRENDS_ON_A_PAGE),
            promises=promise_views(promises),
            lead=lead_of(promises),
        )
        return page.encode(errors="replace")

    def audit_page(self, audit: Audit) -> bytes:
        """A page of its own for an audit, which lies beside the raw data that it leads to."""
        environment = _environment()
        return _audit_page.render(audit, environment, _part(environment, "style.css"))

    def compare_page(self, purchase: Purchase) -> bytes:
        """A page of its own for machines compared: the answer, why, what could change it, and the evidence."""
        environment = _environment()
        return _purchase.render(purchase, environment, _part(environment, "style.css") + _part(environment, "compare.css"))

    def profile_page(self, trial: str, profile: Profile, trace: str) -> bytes:
        """A page of its own for one arm's profile; ``trace`` is the name of the file beside it."""
        environment = _environment()
        kinds = by_kind(profile).operators
        page = environment.get_template("profile_page.html.j2").render(
            trial=trial,
            style=_part(environment, "style.css"),
            profile=profile,
            trace=trace,
            per_query=profile.wall_ns / profile.queries,
            total_ns=sum(one.own_ns for one in kinds) or 1,
            kinds=kinds,
            operators=profile.operators[:OPERATORS],
            drawing=flame(profile, 0),
            anchors={},
        )
        return page.encode(errors="replace")


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group of recipes as the page shows it: the chart where there is one, the metrics that its table tells, and the others."""

    group: _recipes.RecipeGroup
    drawing: Drawing | None
    metrics: list[str]
    others: list[str]


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "change": change_of,
        "effect": effect_of,
        "interval": interval_of,
        "range": range_of,
        "tolerance": tolerance_of,
        "visible": visible_change_of,
        "sla_value": value_of,
        "quantity": format_value,
        "points": format_points,
        "sort_value": _sort_value,
        "short": _shortened,
        "told": _unbroken,
        "asked_twice": asked_twice,
        "threads": threads_told,
        "flips_told": flips_told,
        "absent_by_reason": _absent_by_reason,
    }
    environment.globals |= {
        "glyphs": {str(key): glyph for glyphs in (VERDICT_GLYPHS, _SLA_GLYPHS) for key, glyph in glyphs.items()},
        "bytes": Unit.BYTES,
        "nanoseconds": Unit.NANOSECONDS,
        "per_second": Unit.PER_SECOND,
        "ratio_to": _recipes.ratio_to,
        "bargain": _recipes.bargain,
        "difference_to": _recipes.difference_to,
        "drift_size": drift_size_of,
        "seen_rows": seen_rows,
        "interval_told": interval_told,
    }
    return environment


def _part(environment: Environment, name: str) -> str:
    """A style sheet or script of this package, put into the page as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _tallies(result: RunResult) -> list[tuple[str, list[tuple[str, int]]]]:
    """How many of each verdict, promise and trial state, the gravest first; what does not occur is left out."""
    told = (
        ("Comparisons", Counter(str(comparison.verdict) for comparison in result.comparisons), VERDICT_GLYPHS),
        ("SLA", Counter(str(finding.state) for finding in result.sla), _SLA_GLYPHS),
        ("Trials", Counter(str(trial.state) for trial in result.trials), tuple(TrialState)),
    )
    return [(name, [(str(key), counts[str(key)]) for key in order if counts[str(key)]]) for name, counts, order in told if counts]


def _groups(result: RunResult) -> list[GroupView]:
    views = []
    drawn = 0
    for group in _recipes.recipe_groups(result):
        drawing = tradeoff(group, drawn) if drawn < TRADEOFF_CHARTS else None
        drawn += drawing is not None
        views.append(GroupView(group, drawing, *_recipes.columns_of(group.trials)))
    return views


def _latencies(result: RunResult, ordered: list[Comparison]) -> list[tuple[TrialRecord, Drawing]]:
    """The trials whose comparisons come first, then the others in order, as far as they have latencies to draw."""
    places: dict[str, int] = {}
    for place, comparison in enumerate(ordered):
        places.setdefault(comparison.trial, place)
    drawings: list[tuple[TrialRecord, Drawing]] = []
    for trial in sorted(result.trials, key=lambda trial: places.get(trial.id, len(places) + len(ordered))):
        if len(drawings) == LATENCY_CHARTS:
            break
        drawing = latencies(trial, len(drawings))
        if drawing is not None:
            drawings.append((trial, drawing))
    return drawings


def _anchors(result: RunResult) -> dict[str, str]:
    """Where each trial is told on the page; names are the user's, so anchors are numbers."""
    return {trial.id: f"trial-{number}" for number, trial in enumerate(result.trials) if trial.state not in _QUIET}


def _quiet(result: RunResult) -> list[tuple[TrialState, str, list[TrialRecord]]]:
    """Trials with nothing to tell, by state and reason."""
    groups: dict[tuple[TrialState, str], list[TrialRecord]] = defaultdict(list)
    for trial in result.trials:
        if trial.state in _QUIET:
            groups[trial.state, trial.reason].append(trial)
    return [(state, reason, trials) for (state, reason), trials in groups.items()]


def _duration(result: RunResult) -> str:
    seconds = (datetime.fromisoformat(result.finished_at) - datetime.fromisoformat(result.started_at)).total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _absent_by_reason(trial: TrialRecord) -> list[tuple[str, list[str]]]:
    """Metrics without a value, those of one reason together: most of them belong to another kind of load or device."""
    found: dict[str, list[str]] = defaultdict(list)
    for absent in trial.absent:
        found[absent.reason].append(absent.metric)
    return list(found.items())


def _sort_value(value: float) -> str:
    return f"{value:.6g}"


def _unbroken(sentence: str) -> str:
    """A number keeps its unit beside it when the line breaks."""
    return _QUANTITY.sub("\N{NO-BREAK SPACE}", sentence)


def _shortened(text: str, limit: int) -> str:
    """The end of a long text: a traceback's last lines say what happened."""
    return text if len(text) <= limit else f"... {len(text) - limit:,} characters left out\n{text[-limit:]}"


PLUGIN = Html

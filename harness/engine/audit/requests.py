"""A load over the network counted again from the record of its requests, so that every figure of it follows from single requests.

The record is read here with numpy alone, and not by the code that wrote it: what both do not agree on is named. docs/load.md has the
meaning of each column and the formula of each number.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.audit import LoadLine
from harness.core.errors import CannotMeasure
from harness.core.plugin import Driven, NetworkLoad
from harness.core.serving import Lateness, LoadRun
from harness.core.units import Unit, format_value
from harness.engine.launch_served import slices_of_load
from harness.engine.plugin_options import plugin_of
from harness.engine.served import served_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.measurement import Run
    from harness.core.plan import Trial

VERSION = 1
NEVER = -1
COLUMNS = ("due_ns", "taken_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "status", "counted")
NO_STATUS = {-1: "timeout", -2: "connection", -3: "bad answer", -4: "dropped", -5: "failed by the Locust file"}
COUNTED_AGAIN = ("due", "answered", "failed", "duration_ns", "limit_ns", "within_limit", "lateness", "first_byte_p50_ns")
"""The figures of a load that follow from its requests."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a scenario says of its load: how long a request may take, which latency it promises, how much is sent."""

    timeout_ns: int
    limit_ns: int | None
    rate_per_s: float | None
    users: int | None


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that were due in the measured time, in the order in which they were due; ns since the start of the lead-in."""

    due_ns: NDArray[np.int64]
    taken_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    first_byte_ns: NDArray[np.int64]
    last_byte_ns: NDArray[np.int64]
    status: NDArray[np.int64]

    @property
    def answered(self) -> NDArray[np.bool_]:
        return (self.status >= 200) & (self.status < 300)


def terms_of(trial: Trial) -> Terms | None:
    """None under a load inside the worker, and under one of the user's own: the form of its records is not known here."""
    ref = trial.source.scenario.measure.load
    if ref.name.endswith(".py"):
        return None
    load = plugin_of("loads", ref, trial.source.folder)
    timeout = getattr(load, "timeout", None)
    if not isinstance(load, NetworkLoad) or timeout is None:
        return None
    served = served_of(trial, "")
    return Terms(round(timeout), None if served is None else served.limit_ns, getattr(load, "per_s", None), getattr(load, "users", None))


def read_requests(path: Path, told: str) -> Requests:
    """Read a record, which is called ``told``. Raises CannotMeasure for what is none."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["version"]) != VERSION:
                raise CannotMeasure(f"{told} is a record of requests of version {int(file['version'])}, this program reads {VERSION}")
            columns = {name: np.asarray(file[name]) for name in COLUMNS}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CannotMeasure(f"{told} is no record of requests: {error}") from error
    if len({column.shape for column in columns.values()}) != 1 or columns["due_ns"].ndim != 1:
        raise CannotMeasure(f"{told} is no record of requests: its columns are not of one length")
    if not all(np.issubdtype(column.dtype, np.integer) or column.dtype == np.bool_ for column in columns.values()):
        raise CannotMeasure(f"{told} is no record of requests: its columns are not of integers")
    counted = columns.pop("counted").astype(np.bool_)
    if not counted.any():
        raise CannotMeasure(f"{told} holds no request of the measured time")
    due = np.cumsum(columns["due_ns"].astype(np.int64))
    absent = np.iinfo(np.int64).min
    times = {name: columns[name].astype(np.int64) for name in ("taken_ns", "sent_ns", "first_byte_ns", "last_byte_ns")}
    placed = {name: np.where(time == absent, NEVER, time + due)[counted] for name, time in times.items()}
    return Requests(due_ns=due[counted], status=columns["status"].astype(np.int64)[counted], **placed)


def recounted(run: Run, requests: Requests, terms: Terms) -> Run:
    """The launch with everything that follows from its requests in place of what the generator told."""
    import numpy as np

    assert run.served is not None
    origin = int(requests.due_ns[0])
    due = requests.due_ns - origin
    latencies = np.where(requests.answered, requests.last_byte_ns - requests.due_ns, terms.timeout_ns)
    last = max(int(requests.last_byte_ns.max()), int(requests.due_ns.max()), origin + 1)
    broken = Counter(requests.status[~requests.answered].tolist())
    first_byte = (requests.first_byte_ns - requests.sent_ns)[requests.answered & (requests.first_byte_ns != NEVER)]
    load = dataclasses.replace(
        run.served,
        due=len(due),
        answered=int(requests.answered.sum()),
        failed={NO_STATUS.get(status, str(status)): count for status, count in broken.most_common()},
        duration_ns=last - origin,
        limit_ns=terms.limit_ns,
        within_limit=None if terms.limit_ns is None else int((requests.answered & (latencies <= terms.limit_ns)).sum()),
        lateness=_lateness(requests),
        first_byte_p50_ns=int(np.median(first_byte)) if first_byte.size else None,
    )
    slices = slices_of_load(Driven(load, tuple(due.tolist()), tuple(latencies.tolist())))
    return dataclasses.replace(run, served=load, slices=slices)


def _lateness(requests: Requests) -> Lateness:
    import numpy as np

    dropped = int((requests.status == -4).sum())
    sent = requests.sent_ns != NEVER
    late = np.maximum(requests.sent_ns[sent] - requests.due_ns[sent], 0)
    if not late.size:
        return Lateness(0, 0, 0, dropped)
    p50, p99 = np.quantile(late, (0.5, 0.99))
    return Lateness(round(float(p50)), round(float(p99)), int(late.max()), dropped)


def load_line(run: Run, requests: Requests | None, records: str) -> LoadLine:
    """The load of a launch as it is told; ``requests`` None where its record cannot be counted."""
    import numpy as np

    load = run.served
    assert load is not None
    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    p50, p99 = (float(value) for value in np.quantile(latencies, (0.5, 0.99)))
    turned = None
    if requests is not None and (taken := requests.taken_ns != NEVER).any():
        turned = round(float(np.quantile(np.maximum(requests.taken_ns[taken] - requests.due_ns[taken], 0), 0.99)))
    return LoadLine(
        launch=run.pair,
        kind=load.kind,
        arrivals=load.arrivals,
        rate_per_s=load.rate_per_s,
        users=load.users,
        duration_ns=load.duration_ns,
        due=load.due,
        answered=load.answered,
        failed=dict(load.failed),
        limit_ns=load.limit_ns,
        in_time=load.within_limit,
        p50_ns=p50,
        p99_ns=p99,
        sent_late_p99_ns=load.lateness.p99_ns,
        sent_late_most_ns=load.lateness.greatest_ns,
        dropped=load.lateness.dropped,
        turned_late_p99_ns=turned,
        generator_cpu=load.generator_cpu,
        generator_processes=load.generator_processes,
        generator_hosts=load.generator_hosts,
        records=records,
        counted_again=requests is not None,
    )


def differences(told: Run, found: Run, terms: Terms, records: str) -> Iterator[str]:
    """What a launch's load tells otherwise than the scenario and its own requests, a sentence each."""
    ours, theirs = found.served, told.served
    assert ours is not None and theirs is not None
    for name, asked in (("rate_per_s", terms.rate_per_s), ("users", terms.users)):
        if getattr(theirs, name) != asked:
            yield f"{name} is {getattr(theirs, name)}, and {asked} by the scenario"
    for name in COUNTED_AGAIN:
        if getattr(theirs, name) != getattr(ours, name):
            yield f"{name} is {_plain(theirs, name)}, and {_plain(ours, name)} by {records}"
    if told.slices != found.slices:
        yield f"latencies: {_quantiles(told)}, and {_quantiles(found)} by {records}"


def _plain(load: LoadRun, name: str) -> str:
    value = getattr(load, name)
    if value is not None and name.endswith("_ns"):
        return f"{format_value(value, Unit.NANOSECONDS)} ({value})"
    if isinstance(value, Lateness):
        return f"{value.p50_ns} ns in the median, {value.p99_ns} ns at p99, {value.greatest_ns} ns at most, {value.dropped} never sent"
    return str(value)


def _quantiles(run: Run) -> str:
    import numpy as np

    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    if not latencies:
        return "none"
    p50, p99 = (format_value(float(value), Unit.NANOSECONDS) for value in np.quantile(latencies, (0.5, 0.99)))
    return f"{len(latencies):,} with p50 {p50} and p99 {p99}"

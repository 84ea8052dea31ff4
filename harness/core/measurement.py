"""Raw measurements: never averaged, never rounded, never dropped.

The unit of evidence is the process launch (a Run). Samples of one launch share its memory layout, its core and its luck.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.serving import LoadRun
from harness.core.telemetry import Telemetry


class FailureReason(StrEnum):
    """Why a worker did not answer."""

    EXCEPTION = "exception"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timeout"
    EXITED = "exited"
    BAD_OUTPUT = "bad output"
    GENERATOR = "load generator"
    DISTURBED = "disturbed"


@dataclass(frozen=True, slots=True)
class Failure:
    """A named reason, the stage in which it happened ("open", "warm up", "slice", "build"), and the evidence.

    ``message`` is one line for people; ``detail`` is the traceback of the user's code or the tail of the worker's log.
    """

    reason: FailureReason
    stage: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What really runs, as the opened session reports it: never what was asked for."""

    device: str
    precision: str
    threads: int
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """A block of consecutive queries, timed with the monotonic clock of its worker.

    ``latencies_ns`` has one entry a query under loads that time each query, and is empty where a load times the block as a
    whole (offline). ``duration_ns`` covers all ``queries``, the load's own bookkeeping included. ``device_ns`` are the same queries by the
    device's own clock, where it has one.
    """

    started_ns: int
    duration_ns: int
    queries: int
    latencies_ns: tuple[int, ...]
    device_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One process launch.

    ``pair`` numbers launches of both arms that were alive together; ``arm`` is "candidate" or "baseline".
    ``load_ns`` opens the session (process start and imports excluded); ``first_call_ns`` is the first query.
    ``idle_rss_bytes`` is the worker's resident memory with its framework imported but no session open; ``peak_rss_bytes`` the
    highest afterwards. ``steady`` is False when the first and the second half of the run do not agree. ``template_pid`` is the process
    that the launch was forked from; None where it was spawned. ``served`` is the load over the network that the slices are of, None under
    a load inside the worker: ``load_ns`` is then the time until the server was ready, and the memory that of all its processes.
    ``telemetry`` is what was seen of the machine meanwhile; None where it was off.
    """

    pair: int
    arm: str
    pid: int
    cores: tuple[int, ...]
    facts: SessionFacts
    load_ns: int
    first_call_ns: int
    idle_rss_bytes: int
    peak_rss_bytes: int
    device_peak_bytes: int | None
    warm_up_calls: int
    steady: bool
    slices: tuple[Slice, ...]
    template_pid: int | None = None
    served: LoadRun | None = None
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """All launches of one arm of one trial, raw. Launches that failed are in ``failures``, with their reasons."""

    trial: str
    batch_size: int
    load: str
    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """The first ``samples`` of an evaluation set, asked a second time in the same session.

    On how many the outputs differ to the bit (``differing``), on how many the answer does, the place of the highest output
    (``other_answers``, None where the task has no answers), and the greatest difference of any value.
    """

    samples: int
    differing: int
    other_answers: int | None
    greatest: float

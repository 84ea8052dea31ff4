"""What the parent and a worker say to each other: one JSON message each way, never inside a timed region.

JSON, not pickles: a worker may run another Python with other library versions, and nothing that a model's code does can make the
parent execute anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from harness.core.artifact import ModelArtifact
from harness.core.inspection import Contents, LayerDifference
from harness.core.measurement import Failure, SessionFacts, Slice
from harness.core.profile import Profile
from harness.core.scenario import DataSpec, PluginRef


@dataclass(frozen=True, slots=True)
class MakeData:
    """Run a data factory (or draw random inputs) and save the set as ``into``."""

    spec: DataSpec
    role: str
    seed: int
    scenario_folder: Path
    root: Path
    into: Path
    kind: Literal["make data"] = "make data"


@dataclass(frozen=True, slots=True)
class BuildStep:
    """Run a source (``artifact`` None) or a pass in the empty folder ``into``. ``data`` maps roles to saved data sets."""

    plugin: PluginRef
    artifact: ModelArtifact | None
    args: dict[str, JsonValue]
    data: dict[str, Path]
    seed: int
    device: str
    scenario_folder: Path
    root: Path
    into: Path
    remote_code: bool = False
    kind: Literal["build step"] = "build step"


@dataclass(frozen=True, slots=True)
class Promise:
    """At most ``limit`` ns at the ``q``-quantile of latency; without a ``q`` at most this share of broken requests."""

    q: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class CapacitySearch:
    """Where a capacity is looked for and how; see ``core.scenario.CapacitySpec``."""

    at_least_per_s: float
    at_most_per_s: float
    step_ns: int
    runs: int
    precision: float


@dataclass(frozen=True, slots=True)
class Served:
    """How a subject is measured behind a server: which one, the model's name in it, and what is promised. ``limit_ns`` is the promised
    latency that answers in time are counted by."""

    server: PluginRef
    model: str
    limit_ns: int | None
    promises: tuple[Promise, ...]
    capacity: CapacitySearch | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a worker opens and measures: an artifact in a runtime on a device, with its inputs and its load. ``served`` where the load comes
    over the network."""

    artifact: ModelArtifact
    runtime: PluginRef
    load: PluginRef
    scenario_folder: Path
    device: str
    threads: int
    cores: tuple[int, ...]
    batch_size: int
    data: Path
    served: Served | None = None


@dataclass(frozen=True, slots=True)
class Preload:
    """Import the runtime's framework and the model's code, and read the inputs; nothing of the model's weights yet."""

    subject: Subject
    kind: Literal["preload"] = "preload"


@dataclass(frozen=True, slots=True)
class Open:
    """Open the session, timed, and make the first call, timed apart."""

    kind: Literal["open"] = "open"


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Call for at least ``duration_ns`` and ``calls`` times: the same in both arms, never adaptive."""

    duration_ns: int
    calls: int
    kind: Literal["warm up"] = "warm up"


@dataclass(frozen=True, slots=True)
class TakeSlice:
    """Time a block of ``queries`` consecutive queries."""

    queries: int
    kind: Literal["slice"] = "slice"


@dataclass(frozen=True, slots=True)
class Predict:
    """Run the whole evaluation set and save the outputs as ``into``."""

    into: Path
    kind: Literal["predict"] = "predict"


@dataclass(frozen=True, slots=True)
class TakeProfile:
    """Run queries for about ``least_ns`` ns under the runtime's own profiler, in a session apart; ``trace`` is the file to leave."""

    least_ns: int
    trace: Path
    kind: Literal["profile"] = "profile"


@dataclass(frozen=True, slots=True)
class TellContents:
    """Look into an artifact's file: which weights it stores."""

    artifact: ModelArtifact
    kind: Literal["contents"] = "contents"


@dataclass(frozen=True, slots=True)
class CompareLayers:
    """Give a few samples of ``data`` to a model before and after its passes, and compare what its layers give."""

    before: ModelArtifact
    after: ModelArtifact
    data: Path
    batch_size: int
    kind: Literal["layers"] = "layers"


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the session and tell its memory."""

    kind: Literal["finish"] = "finish"


Request = Annotated[
    MakeData | BuildStep | Preload | Open | WarmUp | TakeSlice | Predict | TakeProfile | TellContents | CompareLayers | Finish,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, slots=True)
class Done:
    """The request was carried out; there is nothing to tell."""

    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class Built:
    artifact: ModelArtifact
    kind: Literal["built"] = "built"


@dataclass(frozen=True, slots=True)
class Opened:
    pid: int
    load_ns: int
    first_call_ns: int
    idle_rss_bytes: int
    kind: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """``query_ns`` is the median of the second half of the calls; where several queries are ``in_flight`` at once, the time of a block over
    its queries."""

    calls: int
    query_ns: int
    in_flight: int = 1
    kind: Literal["warmed up"] = "warmed up"


@dataclass(frozen=True, slots=True)
class SliceTaken:
    slice: Slice
    kind: Literal["slice taken"] = "slice taken"


@dataclass(frozen=True, slots=True)
class Finished:
    """``facts`` are asked for after the memory was read: telling them may read the model's file."""

    facts: SessionFacts
    peak_rss_bytes: int
    device_peak_bytes: int | None
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Profiled:
    """None where the runtime has no profiler."""

    profile: Profile | None
    kind: Literal["profiled"] = "profiled"


@dataclass(frozen=True, slots=True)
class ContentsTold:
    contents: Contents
    kind: Literal["contents told"] = "contents told"


@dataclass(frozen=True, slots=True)
class LayersCompared:
    """Those whose outputs differ most first."""

    differences: tuple[LayerDifference, ...]
    kind: Literal["layers compared"] = "layers compared"


@dataclass(frozen=True, slots=True)
class Failed:
    """The request raised. ``bad_input`` marks what the user can mend in the scenario or its code."""

    failure: Failure
    bad_input: bool
    kind: Literal["failed"] = "failed"


Reply = Annotated[
    Done | Built | Opened | WarmedUp | SliceTaken | Finished | Profiled | ContentsTold | LayersCompared | Failed,
    Field(discriminator="kind"),
]

REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)

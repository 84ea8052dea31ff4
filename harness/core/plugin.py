"""What a plugin file must offer, family by family. The file's name is the plugin's name; its last line is ``PLUGIN = ClassName``.

A plugin class is an ``Options`` (a frozen pydantic model whose fields are the YAML options) that has the members of its family's
protocol. Heavy packages are imported inside its methods. The first line of its docstring is its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.estimate import Absent, Direction
from harness.core.measurement import Repeat, Run, SessionFacts, Slice
from harness.core.profile import Profile
from harness.core.serving import Deployment, Endpoint, LoadRun, ServerCounters
from harness.core.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.fleet import Fleet
    from harness.core.result import RunResult
    from harness.kserve.codec import Message


class Options(BaseModel):
    """The base of every plugin class: its fields are the YAML options, frozen, unknown keys refused.

    ``extra`` is the pip extra that brings the packages it needs; ``packages`` are the distributions whose versions change what it
    produces (they enter the content digest); ``short`` is the field that a plain string sets (``onnx: model.onnx``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    extra: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    short: ClassVar[str | None] = None


DataRole = Literal["evaluation", "calibration", "training"]


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a source or a pass works with.

    ``folder`` is empty and becomes the artifact's folder; write nowhere else. ``scenario_folder`` is where relative paths start and
    ``root`` what they must stay inside. ``args`` are the scenario's ``model.args``. ``data(role)`` loads a data set or raises
    CannotMeasure naming the key to add. ``seed`` is the scenario's. ``device`` is where training may run ("cpu", "cuda").
    ``remote_code``: the user allows code that comes with a model from elsewhere to be run; a source asks the scenario too.
    """

    folder: Path
    scenario_folder: Path
    root: Path
    args: Mapping[str, object]
    data: Callable[[DataRole], Dataset]
    seed: int
    device: str
    remote_code: bool = False


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What decides the outcome of a source, or of a pass that reads files, found without running anything: ``code`` files (followed
    through their imports inside the project), ``files`` (hashed as they are), and ``names`` for what lies elsewhere (a hub id with its
    revision)."""

    code: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()


class Source(Protocol):
    """Where a model comes from."""

    def depends_on(self, scenario_folder: Path) -> SourceFiles: ...
    def load(self, context: BuildContext) -> ModelArtifact: ...


SAME = "same"
"""What a pass produces that leaves the format as it was: of each format that it accepts."""


class Pass(Protocol):
    """One transformation.

    ``accepts`` are the artifact formats that it takes; ``produces`` is the format of what comes out, or SAME, that of what came in;
    ``needs`` are the data sets that it reads.
    """

    accepts: ClassVar[tuple[str, ...]]
    produces: ClassVar[str]
    needs: ClassVar[tuple[DataRole, ...]]

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact: ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A pass or a load whose options name code or files of the project: they decide what it does, as a source's do."""

    def depends_on(self, scenario_folder: Path) -> SourceFiles: ...


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session runs: "cpu", "cuda" or "cuda:1", and the threads that the runtime is told to use."""

    name: str
    threads: int


class Session(Protocol):
    """The system under test. Only ``run`` is timed; it returns when the device has finished.

    ``prepare`` turns a batch (input name -> array, batch axis first) into what ``run`` takes; ``outputs`` turns what ``run`` gave
    into arrays, the principal output first. ``facts`` are read after the last query.
    """

    @property
    def facts(self) -> SessionFacts: ...
    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object: ...
    def run(self, prepared: object) -> object: ...
    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]: ...


@runtime_checkable
class HasDeviceClock(Protocol):
    """A session whose device has a clock of its own. ``device_times`` are the times in ns that it took of the queries since it was asked
    last, in order."""

    def device_times(self) -> tuple[int, ...]: ...


@runtime_checkable
class RunsMany(Protocol):
    """A session that computes several queries at once, for a load that has them all from the start.

    ``in_flight`` is how many at most, as the session is opened; where it is 1, ``run`` is called instead. ``run_many`` does for each batch
    what ``run`` does, copies of its outputs included, and returns when all are done. What one of them raises is raised as ``run`` raises
    it, when none is in flight any more. A batch may be in flight several times at once. ``facts`` tell how many there were.
    """

    in_flight: int

    def run_many(self, prepared: Sequence[object]) -> None: ...


class Runtime(Protocol):
    """Opens artifacts.

    ``preload`` imports the framework and the code that
    the artifact needs (not timed, not counted as the model's memory). ``open`` is timed as load time; what was asked for and is not what
    runs is a CannotMeasure, never a silent fall-back.
    """

    accepts: ClassVar[tuple[str, ...]]
    devices: ClassVar[tuple[str, ...]]

    def preload(self, artifact: ModelArtifact) -> None: ...
    def open(self, artifact: ModelArtifact, device: Device) -> AbstractContextManager[Session]: ...


@runtime_checkable
class SharesImports(Protocol):
    """A runtime whose launches on a CPU may be forked from one process that has imported what they share.

    ``imports`` names installed modules; none is an answer too: what every worker imports is shared then. A module that starts threads
    when it is imported has no place there, nor has the project's own code.
    """

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]: ...


@runtime_checkable
class Profiles(Protocol):
    """A runtime that can tell where the time of a query goes.

    ``profile`` opens the artifact under the runtime's own profiler, warms it up, runs the batches in turn for about ``least_ns`` ns, and
    leaves what the profiler recorded as ``trace``, in Chrome's trace format. The profiler's own cost is in its times.
    """

    def profile(
        self, artifact: ModelArtifact, device: Device, batches: Sequence[Mapping[str, NDArray[np.generic]]], least_ns: int, trace: Path
    ) -> Profile: ...


class Load(Protocol):
    """Decides when queries are issued inside a worker. ``prepared`` are batches in turn; ``clock`` is in integer ns."""

    def take_slice(self, run: Callable[[object], object], prepared: Sequence[object], queries: int, clock: Callable[[], int]) -> Slice: ...


@runtime_checkable
class IssuesAll(Protocol):
    """A load that has all queries of a slice from the start, and leaves it to a session that RunsMany how many are in flight."""

    def take_slice_of_all(
        self, run_many: Callable[[Sequence[object]], None], prepared: Sequence[object], queries: int, clock: Callable[[], int]
    ) -> Slice: ...


class RunningServer(Protocol):
    """A server that is ready. ``pids`` are its processes now; ``counters`` what it counted since its start, None where it cannot tell.

    ``trouble`` says in one line why it does not serve any more, None while it does; ``log`` is the end of what it printed.
    """

    @property
    def endpoint(self) -> Endpoint: ...
    def pids(self) -> tuple[int, ...]: ...
    def counters(self) -> ServerCounters | None: ...
    def trouble(self) -> str | None: ...
    def log(self) -> str: ...


@runtime_checkable
class TellsFacts(Protocol):
    """A server that tells what really runs in it."""

    def facts(self) -> SessionFacts | None: ...


class Serving(Protocol):
    """Starts a server for an artifact.

    ``serve`` yields when the model is ready to answer, and leaves no process behind, however its block ends. Raises CannotMeasure with
    the end of the server's log when it does not become ready. ``accepts`` are artifact formats; empty: whatever the runtime opens.
    """

    accepts: ClassVar[tuple[str, ...]]

    def serve(self, deployment: Deployment) -> AbstractContextManager[RunningServer]: ...


class FleetSource(Protocol):
    """Machines that trials can be measured on.

    ``open`` yields them when they can take work. What it started itself it ends, however its block ends, and nothing else. Raises
    CannotMeasure when they cannot be reached or started.
    """

    def open(self) -> AbstractContextManager[Fleet]: ...


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What a load over the network works with. ``requests`` are sent in turn. ``seed`` draws the schedule: the same in both arms.
    ``folder`` is empty and gets the records and the generators' logs; ``records_as`` is how the record file is to be named in the result.
    ``limit_ns`` is the latency that the scenario promises. ``server`` is asked for its processes, to tell what they use."""

    endpoint: Endpoint
    requests: Sequence[Message]
    seed: int
    folder: Path
    records_as: str
    limit_ns: int | None
    server: RunningServer
    scenario_folder: Path


@dataclass(frozen=True, slots=True)
class Driven:
    """A load and, in the order intended, the latency of each request in its measured time, in ns; a failed one counts as one that took
    the whole timeout. ``intended_ns`` is since the first intended send."""

    load: LoadRun
    intended_ns: tuple[int, ...]
    latencies_ns: tuple[int, ...]


@runtime_checkable
class NetworkLoad(Protocol):
    """Decides when requests are sent to a server, by generator processes of its own.

    ``drive`` ends within the load's duration and its timeout. ``at_rate`` is the same load at another constant rate for another time,
    for the search of a capacity.
    """

    def drive(self, job: LoadJob) -> Driven: ...
    def at_rate(self, rate_per_s: float, duration_ns: int) -> NetworkLoad: ...


@runtime_checkable
class PlacesServer(Protocol):
    """A load that says at which address of this machine the server of each launch listens (None: 127.0.0.1, where nothing from another
    machine gets to), and whether other machines send."""

    @property
    def server_host(self) -> str | None: ...
    @property
    def comes_from_elsewhere(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Predictions:
    """Outputs over the whole evaluation set. ``outputs[0]`` is the principal output, sample axis first; ``targets`` as the data gave.

    ``repeat`` is what came of asking the first samples twice; None where that is not known.
    """

    outputs: tuple[NDArray[np.generic], ...]
    targets: NDArray[np.generic] | None
    task: str
    repeat: Repeat | None = None


class LaunchMetric(Protocol):
    """A number of each launch (timings, memory). ``tolerance`` None: told, not gated unless the scenario says so.

    ``queries`` is how many a launch must hold for a figure. ``of_run`` gives the launch's figure in ``unit``; ``log_ratio`` compares the
    two launches of a pair (natural logarithm of candidate / baseline), by slices where the metric allows it.
    """

    kind: ClassVar[Literal["launch"]]
    unit: ClassVar[Unit]
    better: ClassVar[Direction]
    tolerance: ClassVar[float | None]
    floor: ClassVar[float]
    queries: ClassVar[int]

    def of_run(self, run: Run, batch_size: int) -> float | Absent: ...
    def log_ratio(self, baseline: Run, candidate: Run, batch_size: int) -> float | Absent: ...


class SampleMetric(Protocol):
    """A score of each evaluation sample (accuracy, agreement); its value is the mean. ``tolerance`` is a difference.

    ``reference`` are the reference recipe's predictions on the same samples, for metrics of fidelity (``needs_reference``).
    """

    kind: ClassVar[Literal["sample"]]
    unit: ClassVar[Unit]
    better: ClassVar[Direction]
    tolerance: ClassVar[float | None]
    floor: ClassVar[float]
    needs_reference: ClassVar[bool]

    def scores(self, predictions: Predictions, reference: Predictions | None) -> NDArray[np.float64] | Absent: ...


class ExactMetric(Protocol):
    """A number of the artifact that does not vary (bytes on disk)."""

    kind: ClassVar[Literal["exact"]]
    unit: ClassVar[Unit]
    better: ClassVar[Direction]
    tolerance: ClassVar[float | None]
    floor: ClassVar[float]

    def of_artifact(self, artifact: ModelArtifact) -> float: ...


class Report(Protocol):
    """A pure function of the result."""

    file_name: ClassVar[str]

    def render(self, result: RunResult) -> bytes: ...

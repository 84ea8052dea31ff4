"""The worker's side of ``gate(callable)``: a pytest process that has come to its call of ``gate`` and serves slices of a callable.

It answers the same requests as ``worker`` does, on the same bench; only what is opened is another thing.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import TypeAdapter

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.measurement import Failure, FailureReason, SessionFacts
from harness.engine import protocol
from harness.engine.worker import Bench

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.artifact import ModelArtifact
    from harness.core.plugin import Device, Load

NOTHING_THERE = "nothing to compare with: "
"""How a failure begins that only says that the other side has no such call."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What a pytest process is started for: to serve the ``call``-th call of ``gate`` (from 0) in the test ``node``, the callable in its
    place ``side``. ``descriptor`` is its end of the socket; no code of the project may come from ``not_from``."""

    descriptor: int
    node: str
    call: int
    side: str
    not_from: Path | None = None


DUTY: TypeAdapter[Duty] = TypeAdapter(Duty)


@dataclass(frozen=True, slots=True)
class CallableSession:
    """A callable as a session: a query is a call. There are no inputs and no outputs to look at."""

    call: Callable[[], object]
    facts: SessionFacts

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        return None

    def run(self, prepared: object) -> object:
        return self.call()

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        return ()


@dataclass(frozen=True, slots=True)
class CallableRuntime:
    """Opens the one callable that this process was started for."""

    accepts: ClassVar[tuple[str, ...]] = ("callable",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    call: Callable[[], object]

    def preload(self, artifact: ModelArtifact) -> None:
        return

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[CallableSession]:
        yield CallableSession(finished(self.call), SessionFacts(device.name, "as written", device.threads))


class CallableBench(Bench):
    """A bench whose session is a callable of this very process."""

    def __init__(self, subject: protocol.Subject, call: Callable[[], object]) -> None:
        super().__init__(subject)
        self.call = call

    def preload(self) -> None:
        import numpy as np

        self.runtime = CallableRuntime(self.call)
        self.load = cast("Load", plugins.load("loads", "single_stream")())
        self.data = Dataset({"nothing": np.zeros((1, 1))}, None)


def finished(call: Callable[[], object]) -> Callable[[], object]:
    """The call, and where torch computes on a CUDA device, the wait until it has finished: without it only the start would be timed."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return call
    synchronize = torch.cuda.synchronize

    def run() -> object:
        found = call()
        synchronize()
        return found

    return run


def serve(connection: Connection, call: Callable[[], object]) -> None:
    """Answer requests until the other end closes."""
    bench: list[CallableBench] = []
    while True:
        try:
            request = protocol.REQUEST.validate_json(connection.recv_bytes())
        except EOFError:
            return
        try:
            reply = _answer(request, bench, call)
        except Exception as error:  # noqa: BLE001 - the user's callable may raise anything, and the parent must hear of it by name
            reason = FailureReason.OUT_OF_MEMORY if isinstance(error, MemoryError) else FailureReason.EXCEPTION
            message = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
            reply = protocol.Failed(Failure(reason, request.kind, message, traceback.format_exc()), bad_input=False)
        connection.send_bytes(protocol.REPLY.dump_json(reply))


def _answer(request: protocol.Request, bench: list[CallableBench], call: Callable[[], object]) -> protocol.Reply:
    match request:
        case protocol.Preload():
            bench.append(CallableBench(request.subject, call))
            bench[-1].preload()
        case protocol.Open():
            return bench[-1].open()
        case protocol.WarmUp():
            return bench[-1].warm_up(request.duration_ns, request.calls)
        case protocol.TakeSlice():
            return bench[-1].take_slice(request.queries)
        case protocol.Finish():
            return bench[-1].finish()
        case _:
            raise ValueError(f"a callable cannot be asked for '{request.kind}'")
    return protocol.Done()


def refuse(connection: Connection, reason: str, detail: str = "") -> None:
    """Say why nothing will be served, in the place of the answer to whatever is asked first."""
    failure = Failure(FailureReason.EXCEPTION, "preload", reason, detail)
    connection.send_bytes(protocol.REPLY.dump_json(protocol.Failed(failure, bad_input=False)))


def why_not_fit(duty: Duty) -> str | None:
    """Why what this process would serve is not what is meant; None where it is.

    Raises nothing: a tracer slows every line, and code that was imported from the other side's folder is the other side's code.
    """
    if sys.gettrace() is not None or _is_monitored():
        return "a tracer (coverage, a debugger) watches every line: switch it off for tests that use 'gate'"
    strange = next((module for module in project_modules(duty.not_from)), None) if duty.not_from is not None else None
    if strange is not None:
        name, file = strange
        return (
            f"'{name}' was imported from {file}, not from the commit that is compared with: both sides would run the same code; "
            "an installed copy of the project, or an absolute path in sys.path, goes before what was checked out"
        )
    return None


def _is_monitored() -> bool:
    """Whether a coverage tool or a debugger uses ``sys.monitoring`` (Python 3.12)."""
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(monitoring.get_tool(tool) for tool in (monitoring.COVERAGE_ID, monitoring.DEBUGGER_ID))


def project_modules(project: Path) -> Iterator[tuple[str, Path]]:
    """Every module of this process whose file lies in the project, but for packages that are installed there and for this program."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and name.partition(".")[0] not in ("harness", "__main__") and is_of_project(Path(file), project):
            yield name, Path(file).resolve()


def is_of_project(path: Path, project: Path) -> bool:
    """Whether a file or folder is the project's own: inside it, and not in an environment of installed packages that lies there."""
    path = path.resolve()
    if not path.is_relative_to(project):
        return False
    installed = {Path(sys.prefix), *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib"))}
    inside = [place for place in installed if place != project and place.is_relative_to(project)]
    return not any(path.is_relative_to(place) for place in inside) and not {"site-packages", "dist-packages"} & set(path.parts)

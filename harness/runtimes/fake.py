"""See FakeRuntime."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.core.artifact import ModelArtifact
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FakeSession:
    """Answers by rule after a known time. Public: tests of programs built on the harness may use it."""

    def __init__(self, model: Mapping[str, object], threads: int, spend: Callable[[float], None], add_latency_us: float = 0.0) -> None:
        self.facts = SessionFacts("cpu", "fake", threads, (f"{model['latency_us']} µs a query",))
        self._model = model
        self._spend = spend
        self._latency_ns = (float(str(model["latency_us"])) + add_latency_us) * 1e3
        self._calls = 0
        self._ballast = bytearray(int(str(model["memory_mib"])) * 2**20)

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        return next(iter(batch.values()))

    def run(self, prepared: object) -> object:
        self._calls += 1
        if self._calls == self._model["fail_at"]:
            _fail(str(self._model["failure"]))
        jitter = float(str(self._model["jitter"]))
        # A fixed zigzag, not a random draw: spread without an unknown.
        self._spend(self._latency_ns * (1 + jitter * ((self._calls * 7 % 11) / 5 - 1)))
        return prepared

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        """One-hot of each sample's first value as a class; every 1/``wrong``-th sample is off by one, and unsteady ones by the call."""
        import numpy as np

        values = np.asarray(raw).reshape(len(np.asarray(raw)), -1)[:, 0]
        classes = int(str(self._model["classes"]))
        answers = values.astype(np.int64) % classes
        wrong = float(str(self._model["wrong"]))
        marks = (values.astype(np.int64) * 2654435761 % 1000) < wrong * 1000
        answers = np.where(marks, (answers + 1) % classes, answers)
        share = float(str(self._model.get("unsteady_answers", 0.0)))
        unsteady = (values.astype(np.int64) * 2654435761 ^ self._calls * 2246822519) // 16 % 1000 < share * 1000
        answers = np.where(unsteady, (answers + 1) % classes, answers)
        out = np.eye(classes, dtype=np.float32)[answers]
        if self._model["failure"] == "nan" and self._model["fail_at"] is not None and self._calls >= int(str(self._model["fail_at"])):
            out[0, 0] = np.nan
        return (out,)


class FakeRuntime(Options):
    """Known latencies and outputs, for tests and for trying the gate; runs the ``fake`` source's models.

    ``add_latency_us`` is spent on top of the model's own.
    """

    accepts: ClassVar[tuple[str, ...]] = ("fake",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    add_latency_us: float = 0.0

    def preload(self, artifact: ModelArtifact) -> None:
        return

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        model = json.loads(artifact.path.read_text())
        with _room_on(model.get("fills")):
            yield FakeSession(model, device.threads, _busy, self.add_latency_us)


@contextmanager
def _room_on(device: str | None) -> Iterator[None]:
    """Hold the whole memory of a device that only exists by name; MemoryError where another process does."""
    if device is None:
        yield
        return
    import fcntl

    with (Path(tempfile.gettempdir()) / f"harness-fake-{device}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MemoryError(f"out of memory on {device}") from error
        yield


def _busy(duration_ns: float) -> None:
    """Spend time on the processor: a sleep would be as long as the scheduler likes."""
    end = time.perf_counter_ns() + duration_ns
    while time.perf_counter_ns() < end:
        pass


def _fail(failure: str) -> None:
    if failure == "exception":
        raise RuntimeError("this fake model fails as it was told to")
    if failure == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if failure == "exit":
        os._exit(7)
    if failure == "hang":
        signal.pause()


PLUGIN = FakeRuntime

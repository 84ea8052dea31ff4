"""See ToldRuntime."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.core.artifact import ModelArtifact
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

RAISE, NAN, KILL, WAIT = -1.0, -2.0, -3.0, -4.0


class ToldSession:
    """Twice the input, and the size of the batch beside it. A first value of RAISE, NAN or KILL makes it fail so; at WAIT the batch is not
    answered before the file ``gate`` is there."""

    facts = SessionFacts("cpu", "told", 1, ("a fake",))

    def __init__(self, gate: Path, most: int | None, wide: bool) -> None:
        self.gate, self.most, self.wide = gate, most, wide

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        return next(iter(batch.values()))

    def run(self, prepared: object) -> object:
        values = np.asarray(prepared)
        if self.most is not None and len(values) != self.most:
            raise ValueError(f"this model takes {self.most} samples")
        first = values.reshape(len(values), -1)[:, 0] if values.size else np.zeros(len(values))
        if (first == KILL).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (first == RAISE).any():
            raise RuntimeError("told to fail")
        if (first == WAIT).any():
            self.gate.with_suffix(".waits").touch()
            while not self.gate.exists():
                time.sleep(0.001)
        return values

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        values = np.asarray(raw)
        out = values * values.dtype.type(2)
        if values.size and values.dtype.kind == "f":
            out[values.reshape(len(values), -1)[:, 0] == NAN] = np.nan
        size = np.full(1 if self.wide else len(values), len(values), np.int64)
        return out, size


class ToldRuntime(Options):
    """Does what the values of a request tell it, so that a test decides what happens when.

    ``samples`` is the only batch that it takes; ``one_size`` gives an output that does not follow the batch; ``refuses`` does not open.
    """

    accepts: ClassVar[tuple[str, ...]] = ("fake",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    gate: str = ""
    samples: int | None = None
    one_size: bool = False
    refuses: bool = False

    def preload(self, artifact: ModelArtifact) -> None:
        return

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        if self.refuses:
            raise RuntimeError("told not to open")
        yield ToldSession(Path(self.gate), self.samples, self.one_size)


PLUGIN = ToldRuntime

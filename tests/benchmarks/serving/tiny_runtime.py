"""See TinyRuntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import numpy as np

from harness.core.artifact import ModelArtifact
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

WIDTH = 512


class TinySession:
    """One product with a fixed matrix."""

    def __init__(self) -> None:
        self.facts = SessionFacts("cpu", "fp32", 1)
        self.weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32)

    def prepare(self, batch: Mapping[str, np.ndarray]) -> object:
        return batch["x"]

    def run(self, prepared: object) -> object:
        return prepared @ self.weights  # type: ignore[operator]

    def outputs(self, raw: object) -> tuple[np.ndarray, ...]:
        return (raw,)  # type: ignore[return-value]


class TinyRuntime(Options):
    """A product of a row of 512 with a fixed matrix, so that what is measured is the server."""

    accepts: ClassVar[tuple[str, ...]] = ("fake",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def preload(self, artifact: ModelArtifact) -> None:
        return

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        yield TinySession()


PLUGIN = TinyRuntime

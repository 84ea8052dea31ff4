"""Real workers in the hands of a test, and a watch on processes."""

from __future__ import annotations

import os
import select

from harness.engine import protocol
from harness.engine.workers import Worker

TIMEOUT_S = 60


def opened(worker: Worker, subject: protocol.Subject) -> protocol.Opened:
    worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=TIMEOUT_S)
    return worker.ask(protocol.Open(), protocol.Opened, timeout_s=TIMEOUT_S)


def warmed_up(worker: Worker, calls: int = 10) -> protocol.WarmedUp:
    return worker.ask(protocol.WarmUp(0, calls), protocol.WarmedUp, timeout_s=TIMEOUT_S)


class Watch:
    """Sees a process end, also one that is not our child and leaves a zombie behind."""

    def __init__(self, pid: int) -> None:
        self.descriptor = os.pidfd_open(pid)

    def sees_the_end(self, within_s: float = 30) -> bool:
        with os.fdopen(self.descriptor):
            return bool(select.select([self.descriptor], [], [], within_s)[0])

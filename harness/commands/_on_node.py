"""A node's side of ``harness run --on``: reads an order and a project from standard input, measures, and writes what happens as lines.

Started by a fleet as ``python -m harness.commands._on_node``. It ends its work when standard input is closed: whoever ordered is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from harness.engine.fleet.order import Event, Order
    from harness.store.runs import Runs


def main() -> None:
    """Carry out one order."""
    from harness.core.errors import HarnessError, Interrupted
    from harness.core.program import program
    from harness.engine.fleet.order import Refused, read_order

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing else may write between the answers
    tell = Teller(answers)
    orders = sys.stdin.buffer
    order = read_order(orders.readline())
    project = orders.read(order.project_bytes)
    if len(project) != order.project_bytes:
        return
    threading.Thread(target=_end_when_closed, daemon=True).start()
    if order.program != program():
        tell.event(Refused(f"it has {program()}, the command that ordered has {order.program}: install the same there"))
        return
    try:
        _measure(order, project, tell)
    except Interrupted:
        return
    except HarnessError as error:
        tell.event(Refused(" ".join(str(error).split())))


def _measure(order: Order, project: bytes, tell: Teller) -> None:
    from harness import pipeline
    from harness.engine.bounds import allowed_here
    from harness.engine.fleet.hold_cores import hold_cores
    from harness.engine.fleet.order import Done
    from harness.engine.fleet.pack_project import unpack_project
    from harness.store.cache import cache_folder
    from harness.store.history import OFF, VARIABLE
    from harness.store.run_archives import export_run
    from harness.store.runs import Runs

    os.environ[VARIABLE] = OFF  # the session goes into the history of whoever ordered it
    with tempfile.TemporaryDirectory(prefix="harness-node-", ignore_cleanup_errors=True) as scratch:
        root, reports = Path(scratch) / "project", Path(scratch) / "reports"
        unpack_project(project, root)
        os.chdir(root)  # without version control the present folder is the project
        try:
            tell.runs = Runs(reports)
            resume = _earlier(order, tell.runs)
            request = pipeline.Request(
                command="run",
                paths=(Path(order.scenario),),
                reports=reports,
                overrides=order.overrides,
                only=order.trials,
                resume=resume,
                allowed=allowed_here(remote_code=order.remote_code),
                labels=order.labels,
            )
            with hold_cores(cache_folder() / "cores", tell.step):
                result = pipeline.run(request, tell)
            tell.news()
            archive = export_run(tell.runs.find(result.id), Path(scratch) / "run.zip")
            tell.event(Done(archive.read_bytes()))
        finally:
            os.chdir("/")


def _earlier(order: Order, runs: Runs) -> str | None:
    """The run to go on with, where an earlier one of this order was interrupted on this node."""
    from harness.core.errors import CannotMeasure
    from harness.store.runs import LAUNCHES, RunFolder

    if not order.earlier:
        return None
    folder = runs.folder / "earlier"
    folder.mkdir(parents=True)
    (folder / LAUNCHES).write_text(order.earlier, encoding="utf-8")
    try:
        identity = RunFolder(folder).begun().id
    except CannotMeasure:
        (folder / LAUNCHES).unlink()
        return None
    folder.rename(runs.folder / identity)
    return identity


class Teller:
    """Progress as events; with each step, what is new in the journal. ``runs`` is where that is written."""

    def __init__(self, answers: BinaryIO) -> None:
        self.answers = answers
        self.runs: Runs | None = None
        self.told = 0

    def event(self, event: Event) -> None:
        from harness.engine.fleet.order import event_line

        self.answers.write(event_line(event))

    def phase(self, title: str, steps: int) -> None:
        self.news()

    def step(self, text: str) -> None:
        from harness.engine.fleet.order import Step

        self.news()
        self.event(Step(text))

    def news(self) -> None:
        """Whole lines that were written since the last time."""
        from harness.engine.fleet.order import Journal
        from harness.store.runs import LAUNCHES

        if self.runs is None:
            return
        for identity in self.runs.ids():  # one, once it has begun
            with (self.runs.find(identity).path / LAUNCHES).open("rb") as file:
                file.seek(self.told)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self.told += len(whole)
            if whole:
                self.event(Journal(whole.decode("utf-8", errors="replace")))


def _end_when_closed() -> None:
    """Whoever ordered has gone, or does not want it any more: end as Ctrl-C would, so that no worker stays."""
    while os.read(0, 4096):  # not the buffered reader, whose lock would hold up the end of the process
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
